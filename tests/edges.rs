//! Promises where they are rarely put to the test: at the edges of what a task, a chunk or a future can be.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::fmt;
use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fork::{Fork, fork, waitpid};
use futures::FutureExt;
use futures::stream::{FusedStream, StreamExt};
use indicatif::{MultiProgress, ProgressDrawTarget};
use progress_executor::bars::{Taskbar, WorkDoneProgress};
use progress_executor::{
    Executor, ExecutorExt, GroupBars, Job, Launcher, ProcessPoolExecutor, ProgressBar, ProgressState, Shared,
    SharedUpdater, Status, SyncExecutor, TaskError, TaskErrorKind, TaskEvent, TaskGroup, TaskResult,
    ThreadPoolExecutor, Updater, WorkerExit, executor_fn,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::support::{DEADLINE, Hand, eventually, gate, has_process, is_stopped, with_time_enough, within_deadline};

progress_executor::test_worker!(
    same,
    keep_few,
    keep_unfit,
    process_id,
    length,
    leave_group,
    leave,
    stand_still,
    take_odd,
    leave_early,
    read_shared,
    return_twice_once,
    return_twice
);

// Values that must not be taken for others.

/// A number that is sent to a worker; encoding `UNSENT` panics.
#[derive(Debug, PartialEq)]
struct Odd(u64);

const UNSENT: u64 = 3;
const UNREAD: u64 = 5;

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, UNSENT, "not this one");
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self)
    }
}

/// A number that comes back, in another type than it was sent in; decoding `UNREAD` panics.
#[derive(Debug, PartialEq, Serialize)]
struct Read(u64);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        assert_ne!(number, UNREAD, "nor this one");
        Ok(Self(number))
    }
}

fn same(Odd(number): Odd, _: &Updater) -> TaskResult<Read> {
    Ok(Read(number))
}

#[test]
fn a_value_that_panics_on_its_way_costs_its_own_input_of_a_chunk_and_moves_no_other() {
    for is_shared in [true, false] {
        let pool = ProcessPoolExecutor::builder().max_workers(1);
        let pool = if is_shared { pool } else { pool.without_shared_memory() }.build().unwrap();
        let outcomes = within_deadline(move || {
            let outcomes = pool.map(same, (0..8).map(Odd)).chunks(8).blocking();
            outcomes.map(|outcome| outcome.map_err(|error| format!("{error:#}"))).collect::<Vec<_>>()
        });
        assert_eq!(outcomes.len(), 8);
        for (number, outcome) in (0..).zip(outcomes) {
            match (number, outcome) {
                (UNSENT, Err(text)) => assert!(text.contains("not this one"), "{text}"),
                (UNREAD, Err(text)) => assert!(text.contains("nor this one"), "{text}"),
                (number, outcome) => assert_eq!(outcome, Ok(Read(number))),
            }
        }
    }
}

/// Counts until it is cancelled, and then returns a few of the numbers.
fn keep_few(n: u64, progress: &Updater) -> TaskResult<Vec<u64>> {
    Ok(progress.iter(0..n).filter_map(Result::ok).filter(|&number| number < 3).collect())
}

#[test]
fn what_an_input_of_a_chunk_returned_although_it_was_cancelled_is_kept() {
    let processes = || ProcessPoolExecutor::builder().max_workers(1);
    let executors: [(&str, Box<dyn Executor>); 3] = [
        ("threads", Box::new(ThreadPoolExecutor::new(1))),
        ("processes", Box::new(processes().build().unwrap())),
        ("processes that share nothing", Box::new(processes().without_shared_memory().build().unwrap())),
    ];
    for (name, executor) in executors {
        let errors = within_deadline(move || {
            let map = executor.map(keep_few, [1 << 40; 2]).chunks(2);
            let handle = map.handle();
            let canceller = thread::spawn(move || {
                eventually("it has counted", || handle.progress().fraction() > Some(0.0));
                handle.cancel();
            });
            let errors: Vec<_> = map.blocking().map(Result::unwrap_err).collect();
            canceller.join().unwrap();
            errors
        });
        assert!(errors.len() == 2 && errors.iter().all(TaskError::is_cancelled), "{name}: {errors:?}");
        let parts: Vec<_> = errors.into_iter().map(|error| error.into_partial::<Vec<u64>>().ok()).collect();
        assert_eq!(parts, [Some(vec![0, 1, 2]), None], "{name}");
    }
}

/// A value that cannot be encoded, or cannot be decoded.
#[derive(Debug)]
struct Unfit {
    is_encoded: bool,
}

impl Serialize for Unfit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_encoded { serializer.serialize_unit() } else { Err(serde::ser::Error::custom("unfit")) }
    }
}

impl<'de> Deserialize<'de> for Unfit {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("unfit"))
    }
}

/// Counts on until it is cancelled, and returns a value nevertheless.
fn keep_unfit(is_encoded: bool, progress: &Updater) -> TaskResult<Unfit> {
    progress.iter(0_u64..).for_each(drop);
    Ok(Unfit { is_encoded })
}

#[test]
fn a_part_that_cannot_cross_is_of_a_task_that_was_cancelled() {
    let processes = || ProcessPoolExecutor::builder().max_workers(1);
    for pool in [processes(), processes().without_shared_memory()].map(|pool| pool.build().unwrap()) {
        for is_encoded in [true, false] {
            let error = within_deadline({
                let task = pool.submit(keep_unfit, is_encoded);
                move || {
                    eventually("it has counted", || task.progress().n > 0);
                    task.cancel();
                    task.wait().unwrap_err()
                }
            });
            assert!(error.is_cancelled(), "{error:#}");
            assert!(format!("{error:#}").ends_with("its output: unfit"), "{error:#}");
            let error = error.into_partial::<Unfit>().unwrap_err();
            let waiting = SyncExecutor::new().spawn(move |progress| {
                let _ = progress.update(1);
                Err::<(), _>(error.into())
            });
            let canceller = waiting.canceller();
            let error = waiting.on_progress(move |_, _| canceller.cancel()).wait().unwrap_err();
            assert!(error.is_cancelled(), "passed on: {error:#}");
            assert!(format!("{error:#}").ends_with("its output: unfit"), "{error:#}");
        }
    }
}

#[test]
fn where_a_reader_refuses_to_seek_a_part_is_not_taken_for_the_whole() {
    let task = SyncExecutor::new().spawn(|progress| {
        let _ = progress.update(1);
        Ok(progress.reader(Cursor::new([0; 100])).seek(SeekFrom::End(0)).unwrap_or_default())
    });
    let canceller = task.canceller();
    let error = task.on_progress(move |_, _| canceller.cancel()).wait().unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!(error.into_partial::<u64>().unwrap(), 0);
}

// Counts.

/// The total that a task shows in the end.
fn total_of(task: impl FnOnce(&Updater) -> TaskResult<()> + Send + 'static) -> Option<u64> {
    let mut task = SyncExecutor::new().spawn(task);
    smol::block_on(&mut task).unwrap();
    task.progress().total
}

#[test]
fn an_iterator_has_a_total_of_its_own_also_after_a_shared_one() {
    let count = |progress: &Updater| Ok(progress.iter(0..10).try_for_each(|step| step.map(drop))?);
    let while_shared = total_of(move |progress| {
        let shared = progress.shared();
        shared.set_total(1000);
        count(progress)?;
        drop(shared);
        Ok(())
    });
    assert_eq!(while_shared, Some(10));
    let afterwards = total_of(move |progress| {
        progress.shared().set_total(1000);
        count(progress)
    });
    assert_eq!(afterwards, Some(10));
    #[cfg(feature = "rayon")]
    {
        use rayon::iter::ParallelIterator;

        let in_parallel = total_of(|progress| {
            progress.shared().set_total(1000);
            Ok(progress.par_iter(0..10).try_for_each(|step| step.map(drop))?)
        });
        assert_eq!(in_parallel, Some(10));
    }
}

#[test]
fn an_iterator_of_unknown_length_keeps_the_total_that_another_thread_has_set() {
    let of_unknown_length = || (0..20).filter(|number| number % 2 == 0);
    let while_shared = total_of(move |progress| {
        progress.iter(0..3).try_for_each(|step| step.map(drop))?;
        let shared = progress.shared();
        shared.set_total(1000);
        progress.iter(of_unknown_length()).try_for_each(|step| step.map(drop))?;
        drop(shared);
        Ok(())
    });
    let afterwards = total_of(move |progress| {
        progress.iter(0..3).try_for_each(|step| step.map(drop))?;
        progress.shared().set_total(1000);
        Ok(progress.iter(of_unknown_length()).try_for_each(|step| step.map(drop))?)
    });
    let later = total_of(move |progress| {
        progress.iter(0..3).try_for_each(|step| step.map(drop))?;
        progress.shared().set_total(1000);
        progress.set_position(7)?;
        Ok(progress.iter(of_unknown_length()).try_for_each(|step| step.map(drop))?)
    });
    assert_eq!([while_shared, afterwards, later], [Some(1000); 3]);
    let of_an_iterator = total_of(move |progress| {
        progress.iter(0..3).try_for_each(|step| step.map(drop))?;
        Ok(progress.iter(of_unknown_length()).try_for_each(|step| step.map(drop))?)
    });
    assert_eq!(of_an_iterator, None);
}

/// Calls `at_the_bottom` in a part of a part of .. the task, `levels` levels down.
fn descend(levels: u32, progress: &Updater, at_the_bottom: &dyn Fn()) -> TaskResult<()> {
    progress.set_total(2);
    match levels {
        0 => at_the_bottom(),
        _ => descend(levels - 1, &progress.split(1).named("down"), at_the_bottom)?,
    }
    Ok(())
}

#[test]
fn whoever_looks_at_parts_of_parts_needs_no_more_stack_for_more_of_them() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).stack_size(256 << 20).build();
        let (gate, barrier) = gate();
        let mut task = pool.spawn(move |progress| descend(10_000, progress, &|| barrier.pass()));
        gate.wait();
        let named = thread::scope(|scope| {
            let looks = thread::Builder::new().stack_size(512 << 10);
            looks.spawn_scoped(scope, || task.progress().parts.len()).unwrap().join().unwrap()
        });
        assert_eq!(named, 16);
        gate.open();
        smol::block_on(&mut task).unwrap();
        assert_eq!((task.progress().n, task.progress().total), (1, Some(2)));
    });
}

#[test]
fn parts_of_parts_may_be_dropped_in_any_order() {
    within_deadline(|| {
        let count = |is_reversed: bool| {
            move |progress: &Updater| {
                progress.set_total(2);
                let mut parts = vec![progress.split(1)];
                for _ in 0..100_000 {
                    parts.extend(parts.last().map(|part| part.split(1)));
                }
                if is_reversed {
                    parts.reverse();
                }
                drop(parts);
                Ok(())
            }
        };
        for is_reversed in [false, true] {
            let mut task = ThreadPoolExecutor::new(1).spawn(count(is_reversed));
            smol::block_on(&mut task).unwrap();
            assert_eq!(task.progress().n, 1);
        }
    });
}

// Outcomes that are asked for twice, and values larger than anything.

#[test]
fn whoever_waits_for_what_was_handed_out_before_does_not_wait() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let mut task = pool.spawn_named("answer", |_| Ok(42));
        assert_eq!(task.wait_timeout(DEADLINE).unwrap().unwrap(), 42);
        let again = task.wait_timeout(DEADLINE).unwrap().unwrap_err();
        for error in [again, task.wait().unwrap_err()] {
            assert_eq!((error.name(), error.kind()), ("answer", &TaskErrorKind::Taken));
            assert!(!error.is_failed() && error.progress().status == Status::Finished);
            let said = format!("{error:#}");
            assert!(
                said.starts_with("task `answer` ") && said.ends_with(" has no outcome left: it was taken before"),
                "{said}"
            );
        }

        let group = || (0..3).map(|n| pool.spawn(move |_| Ok(n))).collect::<TaskGroup<u32>>();
        let mut all = group().join();
        assert_eq!(smol::block_on(&mut all).unwrap(), [0, 1, 2]);
        assert!(all.wait().unwrap().is_empty());
        let mut all = group().join_all();
        assert_eq!(smol::block_on(&mut all).len(), 3);
        assert!(all.wait().is_empty());
    });
}

#[test]
fn no_time_is_too_long_for_a_pool() {
    let launcher = Launcher::command(["true"])
        .heartbeat(Duration::MAX)
        .start_timeout(Duration::MAX)
        .lifetime(Duration::MAX, Duration::MAX);
    let pool = ProcessPoolExecutor::builder()
        .launcher(launcher)
        .cancel_grace(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .report_interval(Duration::MAX)
        .build();
    assert!(pool.is_ok());
}

#[test]
fn a_callback_that_counts_for_its_task_is_not_called_for_ever() {
    within_deadline(|| {
        let (send, shared) = channel();
        let mut task = SyncExecutor::new().spawn(move |progress| {
            send.send(progress.shared()).unwrap();
            Ok(progress.update(1)?)
        });
        let mut counter: Option<SharedUpdater> = None;
        task.add_progress_callback(move |_, _| {
            counter = shared.try_recv().ok().or(counter.take());
            counter.iter().for_each(|counter| _ = counter.update(1));
        });
        smol::block_on(&mut task).unwrap();
        assert_eq!(task.progress().n, 2);
    });
}

// Workers that are not where they are expected.

fn process_id((): (), _: &Updater) -> TaskResult<u32> {
    Ok(std::process::id())
}

/// Stops a worker; returns once it stands still.
fn stop(worker: u32) -> Pid {
    let process = Pid::from_raw(worker as i32).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    eventually("it is stopped", || is_stopped(worker));
    process
}

fn length(bytes: Vec<u8>, _: &Updater) -> TaskResult<usize> {
    Ok(bytes.len())
}

#[test]
fn a_stopped_worker_is_replaced_however_large_the_input_is_that_it_does_not_take() {
    let pool = ProcessPoolExecutor::new(1).unwrap();
    within_deadline(move || {
        let worker = pool.submit(process_id, ()).wait().unwrap();
        stop(worker);
        // More than fits into the channel.
        let tasks = [64 << 20, 3].map(|len| pool.submit(length, vec![0; len]));
        assert_eq!(tasks.map(|task| task.wait().unwrap()), [64 << 20, 3]);
    });
}

#[test]
fn a_task_that_is_paused_on_its_way_to_a_worker_waits_there_and_comes_to_no_limit() {
    for launcher in [Launcher::default(), "env".parse().unwrap()] {
        let pool = ProcessPoolExecutor::builder().max_workers(1).launcher(launcher).build().unwrap();
        within_deadline(move || {
            let worker = pool.submit(process_id, ()).wait().unwrap();
            let outcome = with_time_enough(Duration::from_millis(200), |limit| {
                // The worker hears of the task and of the pause at once.
                let process = stop(worker);
                let task = pool.task(process_id, ()).timeout(limit).submit();
                task.pause();
                kill_process(process, Signal::CONT).unwrap();
                thread::sleep(2 * limit);
                assert_eq!(task.progress().status, Status::Paused);
                task.resume();
                task.wait().ok()
            });
            assert_eq!(outcome, worker);
        });
    }
}

/// Leaves its process group for that of the program, and takes no notice of anything.
fn leave_group((): (), progress: &Updater) -> TaskResult<()> {
    let program = rustix::process::getppid();
    rustix::process::setpgid(None, Some(rustix::process::getpgid(program)?))?;
    progress.set_position(std::process::id().into())?;
    loop {
        thread::park();
    }
}

#[test]
fn a_worker_is_killed_though_it_has_left_its_process_group() {
    let pool = ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::ZERO).build().unwrap();
    let task = pool.submit(leave_group, ());
    eventually("it has left", || task.progress().n > 0);
    let worker = u32::try_from(task.progress().n).unwrap();
    task.cancel();
    assert!(within_deadline(|| task.wait()).unwrap_err().is_cancelled());
    eventually("its worker has ended", || !has_process(worker));
}

#[test]
fn a_worker_that_comes_when_nobody_waits_for_it_any_more_is_not_one_of_the_pool() {
    // The late worker ignores the request to end.
    let late = ["sh", "-c", "trap '' TERM; sleep 2; \"$@\"", "sh"];
    let launcher = Launcher::command(late).start_timeout(Duration::from_millis(100));
    let pool = ProcessPoolExecutor::builder().max_workers(1).launcher(launcher).build().unwrap();
    within_deadline(move || {
        assert!(pool.submit(process_id, ()).wait().is_err());
        pool.shutdown().wait();
        assert_eq!(pool.workers().workers, []);
    });
}

/// Ends its worker.
fn leave((): (), _: &Updater) -> TaskResult<()> {
    std::process::exit(5)
}

#[test]
fn a_launcher_is_heard_that_ends_a_while_after_its_worker_has() {
    // Only the worker holds the channel.
    let script =
        "exec 4<&0; \"$@\" <&4 & exec 4<&- </dev/null >&2; wait $!; code=$?; sleep 0.3; echo out of time; exit $code";
    let launcher = Launcher::command(["sh", "-c", script, "sh"]);
    let pool = ProcessPoolExecutor::builder().max_workers(1).launcher(launcher).build().unwrap();
    let error = within_deadline(move || pool.submit(leave, ()).wait()).unwrap_err();
    assert_eq!(*error.kind(), TaskErrorKind::WorkerLost(WorkerExit::Code(5)), "{error:#}");
    assert!(format!("{error:#}").ends_with("last output: out of time"), "{error:#}");
}

// What errors say.

#[test]
fn an_error_is_told_on_one_line_however_many_its_parts_have() {
    let executor = SyncExecutor::new();
    let compare = |(), _: &Updater| -> TaskResult<()> { panic!("not equal\n  left: 1\r\n right: 2") };
    let panicked = executor.task(compare, ()).name("two\nlines").submit().wait().unwrap_err();
    let refuse = |(), _: &Updater| -> TaskResult<()> { Err("first\n  second".into()) };
    let failed = executor.task(refuse, ()).submit().wait().unwrap_err();
    for (line, end) in [
        (panicked.to_string(), "panicked: not equal left: 1  right: 2"),
        (format!("{panicked:#}"), "panicked: not equal left: 1  right: 2"),
        (format!("{failed:#}"), "failed: first second"),
    ] {
        assert!(!line.contains(['\n', '\r']) && line.ends_with(end), "{line}");
    }
    assert!(panicked.to_string().starts_with("task `two lines` ("));
    // This form has several lines anyway, so the text keeps its line breaks.
    assert!(format!("{failed:?}").ends_with("Caused by:\n    first\n  second"), "{failed:?}");
}

#[test]
fn a_percentage_is_rounded_down_and_no_further() {
    for total in [100, 300, 1000, 4000, 7, 1 << 60, u64::MAX - 1] {
        for n in (0..=100).flat_map(|percent| [-1, 0, 1].map(|by| whole_share(percent, total).checked_add_signed(by))) {
            let n = n.unwrap_or_default();
            let percent = u128::min(100 * u128::from(n) / u128::from(total), 100);
            let count = move |progress: &Updater| -> TaskResult<()> {
                progress.set_counts(n, total)?;
                Err("out of paper".into())
            };
            let error = SyncExecutor::new().spawn(count).wait().unwrap_err().to_string();
            assert!(error.ends_with(&format!(" failed at {percent} %")), "{n} of {total}: {error}");

            let mut state = ProgressState::default();
            (state.n, state.total, state.status) = (n, Some(total), Status::Running);
            let (mut terminal, mut editor) = (Vec::new(), Vec::new());
            Taskbar::new(&mut terminal).update(&state);
            assert_eq!(terminal, format!("\x1b]9;4;1;{percent}\x1b\\").into_bytes(), "{n} of {total}");
            WorkDoneProgress::new(&mut editor, "1", "").update(&state);
            let told = format!(r#""percentage":{percent}}}"#);
            assert!(String::from_utf8_lossy(&editor).contains(&told), "{n} of {total}");
        }
    }
}

/// The least count that is `percent` percent of a total.
fn whole_share(percent: u64, total: u64) -> u64 {
    u64::try_from((u128::from(percent) * u128::from(total)).div_ceil(100)).unwrap()
}

#[test]
fn a_report_is_told_on_one_line_whatever_its_tasks_are_called() {
    let mut group = TaskGroup::new();
    group.add(SyncExecutor::new().spawn_named("two\r\nlines", |_| Ok(())));
    let handle = group.handle();
    group.join().wait().unwrap();
    let report = handle.report().to_string();
    assert!(report.contains("the longest: two") && !report.contains(['\n', '\r']), "{report}");
}

#[test]
fn how_many_others_have_failed_is_told_also_of_what_was_not_run() {
    let executor = SyncExecutor::new();
    drop(executor.shutdown());
    let group: TaskGroup<()> = (0..3).map(|_| executor.spawn(|_| Ok(()))).collect();
    let error = within_deadline(|| group.join().wait()).unwrap_err();
    assert_eq!(error.others(), 2);
    assert!(error.to_string().ends_with(" was not run, and 2 other tasks of its group failed"), "{error}");
}

// What groups say.

#[test]
fn nobody_can_tell_how_long_the_rest_of_a_group_will_take_before_anything_has_run() {
    let executor = SyncExecutor::new();
    let (first, second) = (executor.spawn(|_| Ok(())), executor.spawn(|_| Ok(())));
    first.cancel();
    let mut group: TaskGroup<()> = [first, second].into_iter().collect();
    let progress = group.progress();
    assert_eq!((progress.fraction(), progress.elapsed, progress.eta()), (Some(0.5), Duration::ZERO, None));
    while group.next().now_or_never().flatten().is_some() {}
    assert_eq!(group.progress().eta(), Some(Duration::ZERO), "nothing is left");
}

#[test]
fn a_report_reaches_to_the_last_end_also_of_a_task_that_was_never_started() {
    let executor = SyncExecutor::new();
    let mut group: TaskGroup<()> = (0..3).map(|_| executor.spawn(|_| Ok(()))).collect();
    assert!(group.next().now_or_never().is_some());
    group.cancel();
    let report = group.report();
    assert_eq!(report.tasks().len(), 3);
    assert_eq!(Some(report.elapsed()), report.tasks().iter().filter_map(|task| task.ended).max());
}

#[test]
fn nothing_ends_before_it_was_submitted_whenever_it_was_added_to_its_group() {
    let task = SyncExecutor::new().spawn(|_| Ok(()));
    task.cancel();
    let group: TaskGroup<()> = [task].into_iter().collect();
    let report = group.report();
    assert!(report.tasks()[0].ended >= Some(report.tasks()[0].submitted), "{report:?}");
}

#[test]
fn lines_that_are_written_for_a_log_move_no_cursor() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let bars = GroupBars::lines(Log(log.clone()));
    bars.println("red \x1b[31mred\x1b[0m\x1b[2J\rgone\n\tand more\x08");
    assert_eq!(String::from_utf8_lossy(&log.lock().unwrap()), "red \x1b[31mred\x1b[0mgone\x1b[0m\n\tand more\n");
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// Executors that pass their tasks on.

/// Keeps its jobs for another executor.
fn keeping() -> (impl Executor, Receiver<Job>) {
    let (queue, jobs) = channel();
    let queue = Mutex::new(queue);
    (executor_fn(move |job: Job| queue.lock().unwrap().send(job).unwrap()), jobs)
}

#[test]
fn a_task_that_is_passed_on_after_somebody_has_polled_it_is_run_by_whoever_does() {
    let (executor, jobs) = keeping();
    let (inline, hand) = (SyncExecutor::new(), Hand::new());
    let mut task = executor.submit(|(), _: &Updater| Ok(()), ());
    assert!(hand.poll(&mut task).is_pending());
    inline.execute(jobs.recv().unwrap());
    assert_eq!(hand.wakes(), 1);
    assert!(hand.poll(&mut task).is_ready());
}

#[test]
fn a_task_of_a_pool_may_wait_for_one_that_is_passed_on_to_its_pool_meanwhile() {
    let outcome = within_deadline(|| {
        let ((executor, jobs), pool) = (keeping(), ThreadPoolExecutor::new(1));
        let mut inner = executor.submit(|(), _: &Updater| Ok(7), ());
        let (gate, barrier) = gate();
        let outer = pool.spawn(move |_| {
            let hand = Hand::new();
            assert!(hand.poll(&mut inner).is_pending());
            barrier.pass();
            assert_eq!(hand.wakes(), 1);
            Ok(inner.wait()?)
        });
        gate.wait();
        pool.execute(jobs.recv().unwrap());
        gate.open();
        outer.wait()
    });
    assert_eq!(outcome.unwrap(), 7);
}

#[test]
fn a_task_that_is_passed_on_after_it_was_detached_is_run_then_and_there() {
    let (executor, jobs) = keeping();
    let (done, is_done) = channel();
    let done = Mutex::new(done);
    executor.submit(move |(), _: &Updater| Ok(done.lock().unwrap().send(())?), ()).detach();
    SyncExecutor::new().execute(jobs.recv().unwrap());
    assert_eq!(is_done.try_recv(), Ok(()));
}

/// Stops its own process, like a process that touches the terminal in the background.
fn stand_still((): (), progress: &Updater) -> TaskResult<()> {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)?;
    Ok(progress.sleep(Duration::MAX)?)
}

#[test]
fn a_limit_that_passes_in_a_worker_that_is_stopped_says_so() {
    for is_shared in [true, false] {
        let pool = ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::ZERO);
        let pool = if is_shared { pool } else { pool.without_shared_memory() }.build().unwrap();
        let limit = Duration::from_millis(500);
        let timed_out = pool.task(stand_still, ()).timeout(limit).submit();
        let stalled = pool.task(stand_still, ()).stall_timeout(limit).submit();
        for task in [timed_out, stalled] {
            let error = format!("{:#}", within_deadline(move || task.wait()).unwrap_err());
            assert!(error.contains("it was stopped (signal "), "{error}");
        }
    }
}

#[test]
fn an_error_that_cannot_be_shown_keeps_none_from_telling_of_it() {
    #[derive(Debug)]
    struct Unspeakable(bool);
    impl fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            assert!(self.0, "it panics");
            Err(fmt::Error)
        }
    }
    impl std::error::Error for Unspeakable {}
    for is_calm in [true, false] {
        let refuse = move |_: &Updater| Err::<(), _>(Unspeakable(is_calm).into());
        let error = SyncExecutor::new().spawn(refuse).wait().unwrap_err();
        assert!(format!("{error:#}").starts_with(&format!("{error}: ")));
        assert!(format!("{error:?}").contains("Caused by:"));
        assert!(serde_json::to_string(&TaskEvent::<()>::Done(Err(error))).unwrap().contains("failed: "));
    }
}

// Writers that panic.

struct Breaks;

impl Write for Breaks {
    fn write(&mut self, _text: &[u8]) -> io::Result<usize> {
        panic!("it breaks")
    }

    fn flush(&mut self) -> io::Result<()> {
        panic!("it breaks")
    }
}

/// A writer of lines that panics at every second one.
struct Stutters(u32);

impl Write for Stutters {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0 += 1;
        assert!(self.0 % 2 != 0, "it breaks");
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_panics_when_it_is_written_to_takes_no_outcome_from_a_map() {
    for (is_inline, chunk) in [(false, 1), (false, 3), (true, 1), (true, 3)] {
        let (threads, inline) = (ThreadPoolExecutor::new(2), SyncExecutor::new());
        let executor: &dyn Executor = if is_inline { &inline } else { &threads };
        let mut map = executor.map(|n: u64, _: &Updater| Ok(n), 0..10).chunks(chunk);
        map.show(GroupBars::lines(Stutters(0)));
        let (mut outcomes, mut panics) = (Vec::new(), 0);
        loop {
            match catch_unwind(AssertUnwindSafe(|| smol::block_on(map.next()))) {
                Ok(Some(outcome)) => outcomes.push(outcome.unwrap()),
                Ok(None) => break,
                Err(_) => panics += 1,
            }
        }
        assert!(panics > 0);
        assert_eq!(outcomes, (0..10).collect::<Vec<_>>(), "inline: {is_inline}, in chunks of {chunk}");
    }
}

/// A second panic in a `drop` would abort the program.
#[test]
fn what_panics_when_it_is_written_to_ends_a_join_and_not_the_program() {
    within_deadline(|| {
        let joined = thread::spawn(|| {
            let mut group = TaskGroup::new();
            let mut bars = group.show(GroupBars::lines(Breaks));
            group.add(SyncExecutor::new().spawn(|_| Ok(())));
            write!(bars, "a line that is not complete").unwrap();
            group.join().wait()
        });
        assert!(joined.join().is_err());
    });
}

#[test]
fn bars_of_any_number_of_columns_are_drawn() {
    for columns in [0, 1, usize::MAX] {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let mut group = TaskGroup::new();
        group.show(GroupBars::on(screen, 10).columns(columns));
        group.add(SyncExecutor::new().spawn(|progress| Ok(progress.set_counts(1, 2)?)));
        within_deadline(|| group.join().wait()).unwrap();
    }
}

// Values whose `drop` panics.

#[derive(Debug)]
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0, "it goes off");
    }
}

/// Two panics at once would abort the program.
#[test]
fn values_that_panic_when_they_are_dropped_do_not_keep_a_join_from_its_error() {
    let joined = within_deadline(|| {
        let mut group = TaskGroup::new();
        for number in 0..4 {
            let fail = move |_: &Updater| if number == 2 { Err("it failed".into()) } else { Ok(Bomb(true)) };
            group.add(SyncExecutor::new().spawn(fail));
        }
        group.join().wait().map(drop)
    });
    assert!(joined.unwrap_err().is_failed());
}

#[test]
fn nor_do_those_of_tasks_that_end_after_the_first_failure() {
    let joined = within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (gate, barrier) = gate();
        let late = executor.spawn(move |_| {
            barrier.pass();
            Ok(Bomb(true))
        });
        gate.wait();
        let mut group: TaskGroup<Bomb> = [SyncExecutor::new().spawn(|_| Err("it failed".into()))].into_iter().collect();
        group.add(late);
        let mut join = group.join();
        assert!((&mut join).now_or_never().is_none());
        gate.open();
        join.wait().map(drop)
    });
    assert!(joined.unwrap_err().is_failed());
}

#[test]
fn values_that_wait_for_others_and_panic_when_they_are_dropped_end_no_program() {
    let pending = || {
        let executor = ThreadPoolExecutor::new(1);
        let task = executor.spawn(|progress| progress.sleep(Duration::MAX).map(|()| Bomb(false)).map_err(Into::into));
        (0..2).map(|_| SyncExecutor::new().spawn(|_| Ok(Bomb(true)))).chain([task]).collect::<TaskGroup<Bomb>>()
    };
    within_deadline(move || {
        let mut join = pending().join();
        assert!((&mut join).now_or_never().is_none());
        drop(join);
        let mut join = pending().join_all();
        assert!((&mut join).now_or_never().is_none());
        drop(join);
        // A map in order, whose first outcome is missing.
        let executor = ThreadPoolExecutor::new(3);
        let bomb = |n: u64, progress: &Updater| {
            if n == 0 {
                progress.sleep(Duration::MAX)?;
            }
            Ok(Bomb(n > 0))
        };
        let mut map = executor.map(bomb, 0..3).buffer(3);
        assert!(map.next().now_or_never().is_none());
        eventually("the others have ended", || map.progress().finished == 2);
        assert!(map.next().now_or_never().is_none());
        drop(map);
    });
}

#[test]
fn inputs_and_outputs_of_a_chunk_that_panic_when_they_are_dropped_end_no_program() {
    let drop_bombs = |is_begun: bool| {
        let executor = SyncExecutor::new();
        let mut map = executor.map(|bomb: Bomb, _: &Updater| Ok(bomb), (0..4).map(|_| Bomb(true))).chunks(4);
        let first = is_begun.then(|| map.next().now_or_never().flatten().unwrap().unwrap());
        map.handle().cancel();
        first.into_iter().for_each(std::mem::forget);
        drop(map);
    };
    within_deadline(move || [true, false].into_iter().for_each(drop_bombs));
}

#[test]
fn a_chunk_that_is_cancelled_drops_what_has_not_begun_one_by_one() {
    let outcomes = within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (gate, barrier) = gate();
        let barrier = Arc::new(Mutex::new(barrier));
        let keep = move |bomb: Bomb, _: &Updater| {
            barrier.lock().unwrap().pass();
            std::mem::forget(bomb);
            Ok(())
        };
        let map = executor.map(keep, (0..4).map(|_| Bomb(true))).chunks(4);
        let handle = map.handle();
        let canceller = thread::spawn(move || {
            gate.wait();
            handle.cancel();
            gate.open();
        });
        let outcomes: Vec<_> = map.blocking().collect();
        canceller.join().unwrap();
        outcomes
    });
    let ended: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(ended, [true, false, false, false]);
}

#[test]
fn what_callbacks_capture_and_panics_when_it_is_dropped_costs_a_group_no_outcome() {
    let group = |task_bomb: bool, group_bomb: bool| {
        let task = |n| {
            let bomb = Bomb(task_bomb);
            SyncExecutor::new().spawn(move |_| Ok(n)).on_progress(move |_, _| _ = &bomb)
        };
        let bomb = Bomb(group_bomb);
        (0..3).map(task).collect::<TaskGroup<u32>>().on_progress(move |_, _| _ = &bomb)
    };
    for (of_tasks, of_group) in [(true, false), (false, true)] {
        let joined = within_deadline(move || group(of_tasks, of_group).join().wait());
        assert_eq!(joined.unwrap(), [0, 1, 2]);
        let outcomes = within_deadline(move || group(of_tasks, of_group).join_all().wait());
        assert_eq!(outcomes.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2]);
    }
}

// Streams.

#[test]
fn a_map_is_at_its_end_once_it_knows_how_many_inputs_there_were() {
    let executor = ThreadPoolExecutor::new(1);
    // The iterator cannot tell how many there are.
    let inputs = (0..3_u64).filter(|_| true);
    let mut map = executor.map(|n: u64, _: &Updater| Ok(n), inputs).chunks(5).buffer(1);
    while !map.is_terminated() {
        smol::block_on(map.next());
    }
    assert_eq!((map.progress().n, map.progress().total), (3, Some(3)));
}

// How a pool of processes is set up.

fn take_odd(_: Read, _: &Updater) -> TaskResult<()> {
    Ok(())
}

fn leave_early((): (), _: &Updater) -> TaskResult<()> {
    std::process::exit(7)
}

#[test]
fn an_initializer_that_brings_no_worker_is_named() {
    #[derive(Deserialize)]
    struct Unsendable;
    impl Serialize for Unsendable {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("not this one")
        }
    }
    let builder = || ProcessPoolExecutor::builder().max_workers(1);
    let unsent = builder().initializer(|_: Unsendable, _: &Updater| Ok(()), Unsendable).build().unwrap_err();
    assert!(format!("{unsent:#}").contains("initializer"), "{unsent:#}");
    let failed = |pool: ProcessPoolExecutor| within_deadline(move || pool.submit(process_id, ()).wait()).unwrap_err();
    let error = format!("{:#}", failed(builder().initializer(leave_early, ()).build().unwrap()));
    assert!(error.contains("in the initializer") && error.contains("leave_early"), "{error}");
    let error = format!("{:#}", failed(builder().initializer(take_odd, Read(UNREAD)).build().unwrap()));
    assert!(error.contains("take_odd") && error.contains("nor this one"), "{error}");
}

#[test]
fn surroundings_that_no_worker_can_have_are_named() {
    let builder = || ProcessPoolExecutor::builder().max_workers(1);
    for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
        let error = builder().env(name, value).build().unwrap_err().to_string();
        assert!(error.contains(&format!("{name:?}")), "{error}");
    }
    assert!(builder().current_dir("a\0b").build().unwrap_err().to_string().contains("current_dir"));
    let pool = builder().current_dir("/nowhere/to/be/found").build().unwrap();
    let error = format!("{:#}", within_deadline(move || pool.submit(process_id, ()).wait()).unwrap_err());
    assert!(error.contains("`current_dir` \"/nowhere/to/be/found\": "), "{error}");
    let pool = builder().env("SHORT", "x").env("LONG", "x".repeat(8 << 20)).build().unwrap();
    let error = format!("{:#}", within_deadline(move || pool.submit(process_id, ()).wait()).unwrap_err());
    assert!(error.contains("`env`, whose longest is \"LONG\" of 8388608 bytes: "), "{error}");
}

fn read_shared(shared: Shared<Read>, _: &Updater) -> TaskResult<u64> {
    Ok(shared.0)
}

#[test]
fn a_shared_value_that_panics_when_it_is_decoded_is_told_to_all_who_refer_to_it() {
    let pool = ProcessPoolExecutor::builder().max_workers(1).build().unwrap();
    let shared = Shared::new(Read(UNREAD));
    for _ in 0..2 {
        let task = pool.submit(read_shared, shared.clone());
        let error = within_deadline(move || task.wait()).unwrap_err();
        assert_eq!(*error.kind(), TaskErrorKind::Decode);
        assert!(format!("{error:#}").contains("nor this one"), "{error:#}");
    }
}

// Processes that a task forks.

/// Returns in two processes: in this one, after the forked one has ended.
fn return_twice((): (), _: &Updater) -> TaskResult<u32> {
    if let Fork::Parent(child) = fork()? {
        waitpid(child)?;
    }
    Ok(std::process::id())
}

#[test]
fn a_process_that_was_forked_and_returns_from_its_task_is_no_worker() {
    let builder = || ProcessPoolExecutor::builder().max_workers(1);
    for builder in [builder(), builder().without_shared_memory()] {
        let pool = builder.build().unwrap();
        let (before, during, after) = within_deadline(move || {
            let id = || pool.submit(process_id, ()).wait().unwrap();
            (id(), pool.submit(return_twice, ()).wait().unwrap(), id())
        });
        assert_eq!([during, after], [before; 2]);
    }
}

/// Does the same for one of several inputs of a chunk.
fn return_twice_once(n: u32, progress: &Updater) -> TaskResult<u32> {
    if n == 1 { return_twice((), progress) } else { process_id((), progress) }
}

#[test]
fn a_process_that_was_forked_and_returns_from_an_input_of_a_chunk_is_no_worker() {
    let builder = || ProcessPoolExecutor::builder().max_workers(1);
    for builder in [builder(), builder().without_shared_memory()] {
        let pool = builder.build().unwrap();
        let (before, during) = within_deadline(move || {
            let before = pool.submit(process_id, ()).wait().unwrap();
            let during: Result<Vec<u32>, _> = pool.map(return_twice_once, 0..4).chunks(4).blocking().collect();
            (before, during.unwrap())
        });
        assert_eq!(during, [before; 4]);
    }
}
