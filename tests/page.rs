//! What a task counts in a worker process is seen in the program at once, and outlives the worker, without any message
//! from it.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process;
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use progress_executor::{
    ExecutorExt, ProcessPoolBuilder, ProcessPoolExecutor, ProgressFuture, ProgressState, Status, TaskErrorKind,
    TaskGroup, TaskResult, Updater,
};
use serde::{Deserialize, Serialize};

use crate::support::{DEADLINE, NewFile, eventually, threads_of, within_deadline};

/// A test that looks at all threads of this process runs alone.
static PROCESS: RwLock<()> = RwLock::new(());

fn alone(test: impl FnOnce() + Send + 'static) {
    let _all = PROCESS.write().unwrap_or_else(PoisonError::into_inner);
    within_deadline(test);
}

fn beside_others(test: impl FnOnce() + Send + 'static) {
    let _shared = PROCESS.read().unwrap_or_else(PoisonError::into_inner);
    within_deadline(test);
}

progress_executor::test_worker!(
    process_id,
    count_step_by_step,
    hand_out_parts,
    share,
    count_and_die,
    count_and_hang,
    count_until_told,
    count_a_little
);

/// So long that nothing is shown a second time.
const NEVER: Duration = Duration::from_secs(3600);

fn pool(set: impl FnOnce(ProcessPoolBuilder) -> ProcessPoolBuilder) -> ProcessPoolExecutor {
    set(ProcessPoolExecutor::builder().max_workers(1).report_interval(NEVER)).build().unwrap()
}

/// Where a task and its test wait for each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Meeting(PathBuf);

/// The test's end of the meeting.
struct Test {
    stream: UnixStream,
    _path: NewFile,
}

/// Tells the test that a task has come to a step, and waits until the task may go on.
fn meet(stream: &mut UnixStream) {
    // A test that has ended is not there any more.
    let _ = stream.write_all(&[1]).and_then(|()| stream.read_exact(&mut [0]));
}

impl Meeting {
    fn come(&self) -> UnixStream {
        UnixStream::connect(&self.0).unwrap()
    }
}

impl Test {
    /// Submits a task that comes to the meeting.
    fn submit<T: Send + 'static>(submit: impl FnOnce(Meeting) -> ProgressFuture<T>) -> (Self, ProgressFuture<T>) {
        let path = NewFile::new();
        path.remove();
        let listener = UnixListener::bind(path.path()).unwrap();
        let task = submit(Meeting(path.path().to_owned()));
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        (Self { stream, _path: path }, task)
    }

    /// Waits until the task has come to its next step.
    fn wait(&mut self) {
        self.stream.read_exact(&mut [0]).unwrap();
    }

    fn go_on(&mut self) {
        self.stream.write_all(&[1]).unwrap();
    }
}

fn process_id((): (), _: &Updater) -> TaskResult<u32> {
    Ok(process::id())
}

fn count_step_by_step(meeting: Meeting, progress: &Updater) -> TaskResult<()> {
    let mut stream = meeting.come();
    let mut next = || meet(&mut stream);
    (0..57).try_for_each(|_| progress.update(1))?;
    next();
    progress.set_total(100);
    next();
    progress.set_message("file 57");
    progress.update(1)?;
    next();
    progress.set_position(12)?;
    next();
    progress.set_counts(3, 10)?;
    next();
    for item in progress.iter(0..5) {
        if item? == 4 {
            next();
        }
    }
    Ok(())
}

fn shown(task: &ProgressFuture<()>) -> (u64, Option<u64>, Option<String>, Status) {
    let ProgressState { n, total, message, status, .. } = task.progress();
    (n, total, message.map(|message| message.to_string()), status)
}

#[test]
fn every_count_is_seen_at_once_although_nobody_observes_the_task() {
    beside_others(|| {
        // Observed or not, nothing is shown for an hour.
        let pool = pool(|builder| builder);
        for round in 0..20 {
            let (mut test, task) = Test::submit(|meeting| pool.submit(count_step_by_step, meeting));
            let file = Some("file 57".to_owned());
            let expected = [
                (57, None, None),
                (57, Some(100), None),
                (58, Some(100), file.clone()),
                (12, Some(100), file.clone()),
                (3, Some(10), file.clone()),
                (4, Some(5), file),
            ];
            for (n, total, message) in expected {
                test.wait();
                assert_eq!(shown(&task), (n, total, message.clone(), Status::Running), "round {round}");
                test.go_on();
            }
            task.wait().unwrap();
        }
    });
}

#[test]
fn whoever_comes_late_is_shown_first_what_was_counted_by_then() {
    beside_others(|| {
        let pool = pool(|builder| builder);
        let (mut test, task) = Test::submit(|meeting| pool.submit(count_step_by_step, meeting));
        test.wait();
        assert_eq!(task.updates().try_recv().unwrap().n, 57);
    });
}

#[test]
fn a_group_sees_what_its_tasks_have_counted_by_now() {
    beside_others(|| {
        let pool = pool(|builder| builder);
        let (mut test, task) = Test::submit(|meeting| pool.submit(count_step_by_step, meeting));
        let group = TaskGroup::from_iter([task]);
        for n in [57, 57, 58, 12, 3, 4] {
            test.wait();
            eventually("it is known to have begun", || !group.report().tasks().is_empty());
            assert_eq!((group.progress().n, group.report().tasks()[0].n), (n, n));
            test.go_on();
        }
        smol::block_on(group.join()).unwrap();
    });
}

/// Hands out parts, one within the other and on other threads, until there are none.
fn hand_out_parts(meeting: Meeting, progress: &Updater) -> TaskResult<()> {
    let mut stream = meeting.come();
    let mut next = || meet(&mut stream);
    progress.set_total(100);
    progress.update(10)?;
    next();
    let part = progress.split(50);
    next();
    part.set_counts(1, 2)?;
    next();
    thread::scope(|scope| scope.spawn(move || drop(part.split(1))).join().unwrap());
    next();
    progress.update(1)?;
    next();
    Ok(())
}

#[test]
fn a_task_never_shows_what_a_part_has_not_done() {
    beside_others(|| {
        let pool = pool(|builder| builder);
        let (mut test, task) = Test::submit(|meeting| pool.submit(hand_out_parts, meeting));
        for n in [10, 10, 35, 60, 61] {
            test.wait();
            assert_eq!(task.progress().n, n);
            test.go_on();
        }
        task.wait().unwrap();
    });
}

fn share(meeting: Meeting, progress: &Updater) -> TaskResult<()> {
    let mut stream = meeting.come();
    progress.update(10)?;
    let shared = progress.shared();
    let count = |n| (0..n).try_for_each(|_| shared.update(1));
    thread::scope(|scope| [20, 30].map(|n| scope.spawn(move || count(n))).map(|thread| thread.join().unwrap()))
        .into_iter()
        .collect::<Result<(), _>>()?;
    meet(&mut stream);
    drop(shared);
    // Now it counts alone.
    progress.set_position(7)?;
    meet(&mut stream);
    Ok(())
}

#[test]
fn what_several_threads_have_counted_is_seen_after_an_interval() {
    beside_others(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let (mut test, task) = Test::submit(|meeting| pool.submit(share, meeting));
        for n in [60, 7] {
            test.wait();
            eventually("it is seen", || task.progress().n == n);
            test.go_on();
        }
        task.wait().unwrap();
    });
}

fn count_and_die(kind: u8, progress: &Updater) -> TaskResult<()> {
    if kind > 0 {
        progress.set_counts(20, 200)?;
        progress.set_message("file 20");
    }
    (0..40).try_for_each(|_| progress.update(1))?;
    if kind > 1 {
        progress.split(40).set_counts(1, 4)?;
        let part = progress.split(20);
        part.set_counts(1, 2)?;
        process::abort();
    }
    process::abort()
}

#[test]
fn how_far_a_lost_worker_had_come_is_known_to_the_unit() {
    beside_others(|| {
        let pool = pool(|builder| builder);
        for (kind, n, total, message) in
            [(0, 40, None, None), (1, 60, Some(200), Some("file 20")), (2, 110, Some(200), Some("file 20"))]
        {
            let mut task = pool.submit(count_and_die, kind);
            let error = smol::block_on(&mut task).unwrap_err();
            assert!(matches!(error.kind(), TaskErrorKind::WorkerLost(_)), "{error:#}");
            for progress in [error.progress(), &task.progress()] {
                let said = progress.message.as_deref();
                assert_eq!((progress.n, progress.total, said), (n, total, message), "{kind}");
            }
        }
    });
}

/// Counts, and makes no more progress calls.
fn count_and_hang(meeting: Meeting, progress: &Updater) -> TaskResult<()> {
    let mut stream = meeting.come();
    (0..60).try_for_each(|_| progress.update(1))?;
    meet(&mut stream);
    loop {
        thread::park();
    }
}

#[test]
fn a_task_that_is_killed_or_given_up_has_come_as_far_as_it_has() {
    beside_others(|| {
        let pool = pool(|builder| builder.cancel_grace(Duration::from_millis(50)));
        let (mut test, task) = Test::submit(|meeting| pool.submit(count_and_hang, meeting));
        test.wait();
        test.go_on();
        task.cancel();
        let error = task.wait().unwrap_err();
        assert!(error.is_cancelled() && error.progress().n == 60, "{error:#}");
        // By then the task has counted, even on a busy machine.
        let timeout = Duration::from_secs(2);
        let (mut test, task) = Test::submit(|meeting| pool.task(count_and_hang, meeting).timeout(timeout).submit());
        test.wait();
        test.go_on();
        let error = task.wait().unwrap_err();
        assert!(*error.kind() == TaskErrorKind::TimedOut && error.progress().n == 60, "{error:#}");
    });
}

/// Counts as fast as it can until it is told to end.
fn count_until_told(meeting: Meeting, progress: &Updater) -> TaskResult<()> {
    let mut stream = meeting.come();
    meet(&mut stream);
    stream.set_nonblocking(true).unwrap();
    loop {
        (0..10_000).try_for_each(|_| progress.update(1))?;
        progress.set_message("on the way");
        if stream.read(&mut [0]).is_ok() {
            return Ok(());
        }
    }
}

/// How often the threads of a process have had to wait so far, except one that runs a task that does not pause and, in this
/// process, those of the tests.
fn wake_ups(process: u32) -> u64 {
    wake_ups_but(process, "progress-task")
}

fn wake_ups_but(process: u32, except: &str) -> u64 {
    let is_worker = process != process::id();
    let mut count = 0;
    for thread in threads_of(process).unwrap() {
        // It may have ended.
        let Ok(status) = fs::read_to_string(thread.join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        let name = field("Name:");
        // A worker reads on the thread of a test.
        let is_ours = is_worker || name.starts_with("progress-") || name.starts_with("page");
        if is_ours && name != except {
            count += field("voluntary_ctxt_switches:").parse::<u64>().unwrap();
        }
    }
    count
}

#[test]
fn a_task_that_nobody_observes_wakes_nobody_however_much_it_counts() {
    alone(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let worker = pool.submit(process_id, ()).wait().unwrap();
        let (mut test, task) = Test::submit(|meeting| pool.submit(count_until_told, meeting));
        test.wait();
        test.go_on();
        let counted = || task.progress().n;
        let counts_on = || {
            let before = counted();
            eventually("it counts on", || counted() > before);
        };
        for process in [worker, process::id()] {
            eventually("nobody is woken", || {
                let before = wake_ups(process);
                counts_on();
                thread::sleep(Duration::from_millis(300));
                counts_on();
                wake_ups(process) == before
            });
        }
        let before = [worker, process::id()].map(wake_ups);
        let updates = task.updates();
        (0..10).for_each(|_| assert!(updates.recv_blocking().is_ok()));
        assert!(wake_ups(worker) > before[0] + 2, "the worker tells of what is observed");
        drop(updates);
        test.go_on();
        task.wait().unwrap();
    });
}

#[test]
fn idle_workers_and_paused_tasks_wake_nobody() {
    alone(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let worker = pool.submit(process_id, ()).wait().unwrap();
        let nobody_is_woken = || {
            for process in [worker, process::id()] {
                eventually("nobody is woken", || {
                    let before = wake_ups_but(process, "");
                    // What is tested is that nothing happens for some time, in which any clock that runs would have gone off;
                    // threads on their way to sleep get another such time.
                    thread::sleep(Duration::from_secs(2));
                    wake_ups_but(process, "") == before
                });
            }
        };
        nobody_is_woken();
        let (mut test, task) = Test::submit(|meeting| pool.submit(count_until_told, meeting));
        test.wait();
        test.go_on();
        task.pause();
        eventually("it is paused", || task.progress().status == Status::Paused);
        nobody_is_woken();
        task.resume();
        test.go_on();
        task.wait().unwrap();
    });
}

fn count_a_little(steps: u64, progress: &Updater) -> TaskResult<u64> {
    for step in 0..steps {
        progress.update(1)?;
        // Only some tasks come to this: on a busy machine, it takes its time.
        if step == 90 {
            thread::yield_now();
        }
    }
    Ok(steps)
}

#[test]
fn progress_never_goes_back() {
    beside_others(|| {
        let pool = ProcessPoolExecutor::new(2).unwrap();
        // On a busy machine, this may be the only one that is seen under way.
        let (mut test, long) = Test::submit(|meeting| pool.submit(count_until_told, meeting));
        test.wait();
        test.go_on();
        let tasks: Vec<_> = (0..5_000).map(|n| pool.submit(count_a_little, n % 100)).collect();
        let mut last = long.progress();
        for _ in 0..10 {
            eventually("it counts", || long.progress().n != last.n);
            let next = long.progress();
            assert!(next.n > last.n, "{} after {}", next.n, last.n);
            last = next;
        }
        test.go_on();
        long.wait().unwrap();
        for (number, task) in tasks.iter().enumerate() {
            let mut last = task.progress();
            while !last.status.is_terminal() {
                let next = task.progress();
                assert!(next.n >= last.n, "{number}: {} after {}", next.n, last.n);
                assert!(next.status != Status::Pending || last.status == Status::Pending, "{number}");
                last = next;
            }
            assert_eq!(last.n, number as u64 % 100);
        }
    });
}
