//! Maps in chunks: what holds for an input of a map holds for one of a chunk, on every executor.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream as _, StreamExt, TryStreamExt};
use progress_executor::{
    CancelCause, Executor, ExecutorExt, Job, ProcessPoolExecutor, SyncExecutor, TaskError, TaskErrorKind, TaskResult,
    ThreadPoolExecutor, Updater, WorkerExit, WorkerOutput, executor_fn,
};
use serde::{Deserialize, Serialize};

use crate::support::{DEADLINE, busy_pool, eventually, gate, within_deadline};

progress_executor::test_worker!(
    square,
    mark,
    count_and_end,
    invert,
    say_nothing_new,
    nap,
    measure,
    dawdle,
    refuse,
    refuse_slowly_from,
    take_so_long,
    tell_and_repeat
);

fn executors() -> Vec<(&'static str, Box<dyn Executor>)> {
    let processes = ProcessPoolExecutor::builder().max_workers(2);
    vec![
        ("threads", Box::new(ThreadPoolExecutor::new(2))),
        ("inline", Box::new(SyncExecutor::new())),
        ("a closure", Box::new(executor_fn(|job: Job| drop(thread::spawn(move || job.run()))))),
        ("processes", Box::new(processes.build().unwrap())),
        ("processes that share nothing", Box::new(without_memory(2))),
    ]
}

fn without_memory(workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(workers).without_shared_memory().build().unwrap()
}

/// A file in which tasks of any process leave marks, and one that they wait for.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Site {
    log: PathBuf,
    gate: PathBuf,
}

impl Site {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("progress-executor-chunks-{}-{number}", process::id()));
        fs::write(&path, "").unwrap();
        Self { gate: path.with_extension("gate"), log: path }
    }

    fn leave(&self, mark: u64) {
        // In one write, because other processes write as well.
        OpenOptions::new().append(true).open(&self.log).unwrap().write_all(format!("{mark}\n").as_bytes()).unwrap();
    }

    fn marks(&self) -> Vec<u64> {
        fs::read_to_string(&self.log).unwrap().lines().map(|line| line.parse().unwrap()).collect()
    }

    fn open(&self) {
        fs::write(&self.gate, "").unwrap();
    }

    fn remove(&self) {
        let _ = (fs::remove_file(&self.log), fs::remove_file(&self.gate));
    }
}

/// Refuses 3, and panics at 5.
fn square(n: u64, progress: &Updater) -> TaskResult<u64> {
    match n {
        3 => {
            progress.set_message("three");
            progress.set_counts(3, 4)?;
            Err("not three".into())
        }
        5 => std::panic::resume_unwind(Box::new("not five".to_string())),
        _ => Ok(n * n),
    }
}

/// What a task does with an input of a chunk once it has left a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Then {
    Return,
    /// Without a progress call.
    WaitForTheGate,
    /// The same: looking does not count as a sign that the task has noticed.
    WaitForTheCancellation,
    EndTheProcess,
    /// Only the first time.
    EndTheProcessOnce,
}

fn mark((n, then, site): (u64, Then, Site), progress: &Updater) -> TaskResult<u64> {
    let was_here = site.marks().contains(&n);
    site.leave(n);
    match then {
        Then::Return => {}
        Then::WaitForTheGate => eventually("the gate is opened", || site.gate.exists()),
        Then::WaitForTheCancellation => eventually("it is to end", || progress.is_cancelled()),
        Then::EndTheProcessOnce if was_here => {}
        Then::EndTheProcess | Then::EndTheProcessOnce => {
            progress.set_counts(2, 4)?;
            process::exit(7)
        }
    }
    Ok(n)
}

fn marks<'a>(thens: &'a [Then], site: &'a Site) -> impl Iterator<Item = (u64, Then, Site)> + use<'a> {
    (0..).zip(thens).map(|(n, &then)| (n, then, site.clone()))
}

/// What the first input has left behind, and how to have it count.
static LEFT_BEHIND: Mutex<Option<(Sender<()>, JoinHandle<()>)>> = Mutex::new(None);

/// The first input leaves behind whatever a task can have; the second one must have none of that.
fn count_and_end(n: u64, progress: &Updater) -> TaskResult<u64> {
    if n == 0 {
        progress.set_message("the first");
        progress.set_counts(7, 9)?;
        let (part, shared, (go_on, is_next)) = (progress.split(1), progress.shared(), channel());
        let thread = thread::spawn(move || {
            let _ = is_next.recv();
            let _ = (part.update(1), shared.update(5));
        });
        *LEFT_BEHIND.lock().unwrap() = Some((go_on, thread));
        return Ok(0);
    }
    let (go_on, thread) = LEFT_BEHIND.lock().unwrap().take().unwrap();
    go_on.send(())?;
    thread.join().unwrap();
    progress.update(2)?;
    Err("as intended".into())
}

fn invert(value: Option<Option<u8>>, _: &Updater) -> TaskResult<Option<Option<u8>>> {
    Ok(match value {
        None => Some(None),
        Some(None) => None,
        other => other,
    })
}

fn say_nothing_new(n: u64, progress: &Updater) -> TaskResult<u64> {
    progress.set_position(1)?;
    Ok(n)
}

fn nap(millis: u64, progress: &Updater) -> TaskResult<u64> {
    progress.sleep(Duration::from_millis(millis))?;
    Ok(millis)
}

fn measure(text: String, _: &Updater) -> TaskResult<usize> {
    Ok(text.len())
}

/// Takes a while, and makes no progress call.
fn dawdle(n: u64, _: &Updater) -> TaskResult<u64> {
    thread::sleep(Duration::from_micros(500));
    Ok(n)
}

fn refuse(_: u64, _: &Updater) -> TaskResult<u64> {
    Err("as intended".into())
}

/// Takes long for the inputs from `from` on, and fails.
fn refuse_slowly_from((from, n): (u64, u64), _: &Updater) -> TaskResult<u64> {
    if n >= from {
        thread::sleep(Duration::from_millis(5));
        return Err("as intended".into());
    }
    Ok(n)
}

type Seen = Result<u64, TaskErrorKind>;

fn seen(outcome: Result<u64, TaskError>) -> Seen {
    outcome.map_err(|error| error.kind().clone())
}

fn squares(inputs: std::ops::Range<u64>) -> Vec<Seen> {
    let square = |n| match n {
        3 => Err(TaskErrorKind::Failed),
        5 => Err(TaskErrorKind::Panicked),
        _ => Ok(n * n),
    };
    inputs.map(square).collect()
}

#[test]
fn outcomes_come_in_order_and_each_error_at_its_place() {
    within_deadline(|| {
        for (name, executor) in executors() {
            for size in [0, 1, 2, 7, 10, 1000] {
                let outcomes: Vec<_> = executor.map(square, 0..10).chunks(size).blocking().map(seen).collect();
                assert_eq!(outcomes, squares(0..10), "{name}, {size}");
                let map = executor.map(square, 0..10).chunks(size).unordered();
                let outcomes: Vec<_> = smol::block_on(map.map(seen).collect());
                let of = |outcomes: &[Seen]| outcomes.iter().filter_map(|it| it.clone().ok()).collect::<BTreeSet<_>>();
                assert_eq!((of(&outcomes), outcomes.len()), (of(&squares(0..10)), 10), "{name}, {size}");
            }
        }
    });
}

#[test]
fn an_error_names_the_input_and_shows_how_far_that_has_come() {
    within_deadline(|| {
        for (name, executor) in executors() {
            let map = executor.map(square, 0..7).chunks(4).named(|index, n| format!("{index}: {n}"));
            let outcomes: Vec<_> = map.blocking().collect();
            let error = outcomes[3].as_ref().unwrap_err();
            assert_eq!(error.to_string(), "task `3: 3` (square) failed at 75 %", "{name}");
            assert_eq!((error.progress().n, error.progress().total), (3, Some(4)), "{name}");
            assert_eq!(error.progress().message.as_deref(), Some("three"), "{name}");
            let error = outcomes[5].as_ref().unwrap_err();
            assert_eq!(error.to_string(), "task `5: 5` (square) panicked: not five", "{name}");
            let error = executor.map(square, 0..7).chunks(4).blocking().nth(5).unwrap().unwrap_err();
            let named = format!("task `square #{}, input 5` panicked: not five", error.id());
            assert_eq!(error.to_string(), named, "{name}");
        }
    });
}

#[test]
fn nothing_of_an_input_is_left_to_the_next_one() {
    within_deadline(|| {
        for (name, executor) in executors() {
            let error = executor.map(count_and_end, 0..2).chunks(2).blocking().nth(1).unwrap().unwrap_err();
            let progress = error.progress();
            assert_eq!((progress.n, progress.total, &progress.message), (2, None, &None), "{name}");
        }
    });
}

#[test]
fn progress_counts_inputs() {
    within_deadline(|| {
        for (name, executor) in executors() {
            let mut map = executor.map(square, 0..10).chunks(4);
            let (updates, handle) = (map.updates(), map.handle());
            assert_eq!((map.progress().n, map.progress().total), (0, Some(10)), "{name}");
            for taken in 1..=10 {
                smol::block_on(map.next());
                assert!((taken..=10).contains(&map.progress().n), "{name}: {} of {taken}", map.progress().n);
            }
            assert!(smol::block_on(map.next()).is_none());
            let progress = handle.progress();
            assert_eq!((progress.n, progress.finished, progress.failed), (10, 8, 2), "{name}");
            assert_eq!((progress.tasks(), progress.fraction()), (10, Some(1.0)), "{name}");
            drop(map);
            let mut last = None;
            while let Ok(progress) = updates.recv_blocking() {
                assert!(last.as_ref().is_none_or(|last: &progress_executor::GroupProgress| last.n <= progress.n));
                last = Some(progress);
            }
            assert_eq!(last.map(|last| (last.n, last.ended(), last.tasks())), Some((10, 10, 10)), "{name}");
        }
    });
}

#[test]
fn an_input_of_a_running_chunk_is_seen_as_soon_as_it_has_ended() {
    within_deadline(|| {
        for (name, executor) in executors().into_iter().filter(|(name, _)| *name != "inline") {
            for is_ordered in [true, false] {
                let site = Site::new();
                let thens = [Then::Return, Then::Return, Then::WaitForTheGate, Then::Return];
                let mut map = executor.map(mark, marks(&thens, &site)).chunks(4);
                if !is_ordered {
                    map = map.unordered();
                }
                for n in 0..2 {
                    assert_eq!(smol::block_on(map.next()).unwrap().unwrap(), n, "{name}");
                }
                let progress = map.progress();
                assert_eq!((progress.n, progress.finished, progress.running, progress.pending), (2, 2, 1, 1), "{name}");
                site.open();
                assert_eq!(smol::block_on(map.try_collect::<Vec<_>>()).unwrap(), [2, 3], "{name}");
                site.remove();
            }
        }
    });
}

#[test]
fn a_cancellation_ends_a_chunk_at_the_next_input() {
    within_deadline(|| {
        for (name, executor) in executors().into_iter().filter(|(name, _)| *name != "inline") {
            let site = Site::new();
            let mut map =
                executor.map(mark, marks(&[Then::Return, Then::WaitForTheCancellation, Then::Return], &site)).chunks(3);
            assert_eq!(smol::block_on(map.next()).unwrap().unwrap(), 0);
            eventually("the second one has begun", || site.marks() == [0, 1]);
            map.handle().cancel();
            let outcomes: Vec<_> = smol::block_on(map.by_ref().collect());
            assert_eq!(*outcomes[0].as_ref().unwrap(), 1, "{name}: it has taken no notice");
            let error = outcomes[1].as_ref().unwrap_err();
            assert!(
                error.is_cancelled() && error.to_string().ends_with("was cancelled before it started"),
                "{name}: {error}"
            );
            assert_eq!((outcomes.len(), site.marks()), (2, vec![0, 1]), "{name}");
            assert_eq!((map.progress().finished, map.progress().cancelled), (2, 1), "{name}");
            site.remove();
        }
    });
}

fn take_so_long((millis, site): (u64, Option<Site>), progress: &Updater) -> TaskResult<u64> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(millis) {
        std::hint::spin_loop();
    }
    if let Some(site) = site {
        eventually("the gate is opened", || site.gate.exists() || progress.is_cancelled());
    }
    Ok(millis)
}

#[test]
fn outcomes_come_before_the_rest_of_their_chunk_however_long_the_items_take() {
    within_deadline(|| {
        for (name, executor) in executors().into_iter().filter(|(name, _)| *name != "inline") {
            // Outcomes that come at once are sent together, and so are those after a longer one.
            for times in [&[0, 0][..], &[5, 0], &[5, 5, 0, 0], &[0, 5, 0]] {
                let site = Site::new();
                let waits = (0, Some(site.clone()));
                let inputs: Vec<_> = times.iter().map(|&time| (time, None)).chain([waits]).collect();
                let mut map = executor.map(take_so_long, inputs).chunks(times.len() + 1);
                for &time in times {
                    assert_eq!(smol::block_on(map.next()).unwrap().unwrap(), time, "{name}: {times:?}");
                }
                fs::write(&site.gate, "").unwrap();
                assert_eq!(smol::block_on(map.next()).unwrap().unwrap(), 0, "{name}: {times:?}");
                site.remove();
            }
        }
    });
}

#[test]
fn a_paused_chunk_waits_before_its_next_input() {
    within_deadline(|| {
        for (name, executor) in executors().into_iter().filter(|(name, _)| *name != "inline") {
            let mut map = executor.map(dawdle, 0..1000).chunks(1000);
            let handle = map.handle();
            assert_eq!(smol::block_on(map.next()).unwrap().unwrap(), 0);
            handle.pause();
            eventually("it waits", || handle.progress().paused == 1);
            let ended = handle.progress().n;
            assert!(ended < 1000, "{name}");
            assert_eq!(handle.progress().pending as u64, 1000 - ended - 1, "{name}");
            thread::sleep(Duration::from_millis(10));
            assert_eq!(handle.progress().n, ended, "{name}");
            handle.resume();
            assert_eq!(smol::block_on(map.try_fold(0, |sum, n| async move { Ok(sum + n) })).unwrap(), 499_500);
        }
    });
}

#[test]
fn a_handle_keeps_neither_inputs_nor_outputs_of_a_map_that_is_gone() {
    within_deadline(|| {
        for is_ordered in [true, false] {
            let ((executor, worker), (gate, barrier)) = (busy_pool(), gate());
            let value = Arc::new(());
            let (inputs, barrier) = (vec![value.clone(); 6], Mutex::new(barrier));
            // The second input waits, so that there is one outcome that nobody has taken.
            let (barrier, count) = (Arc::new(barrier), Arc::new(AtomicUsize::new(0)));
            let work = move |input: Arc<()>, _: &Updater| {
                if count.fetch_add(1, Ordering::SeqCst) == 1 {
                    barrier.lock().unwrap().pass();
                }
                Ok(input)
            };
            let map = executor.map(work, inputs).chunks(3).buffer(2);
            let mut map = if is_ordered { map } else { map.unordered() };
            assert!(map.next().now_or_never().is_none());
            worker.open();
            gate.wait();
            let handle = map.handle();
            drop(map);
            gate.open();
            eventually("all have ended", || handle.progress().ended() == 6);
            executor.shutdown().wait();
            assert_eq!(Arc::strong_count(&value), 1);
        }
    });
}

/// Inputs of a chunk that waits are dropped at once.
#[test]
fn cancelling_drops_the_inputs_of_a_chunk_that_waits() {
    within_deadline(|| {
        let (executor, gate) = busy_pool();
        let value = Arc::new(());
        let mut map = executor.map(|_: Arc<()>, _| Ok(()), vec![value.clone(); 3]).chunks(3);
        assert!(map.next().now_or_never().is_none());
        map.handle().cancel();
        assert_eq!(Arc::strong_count(&value), 1);
        gate.open();
    });
}

/// Returns a text of this many bytes, having said so.
fn tell_and_repeat(bytes: usize, progress: &Updater) -> TaskResult<String> {
    progress.set_counts(3, 4)?;
    progress.set_message("repeats");
    Ok("x".repeat(bytes))
}

#[test]
fn an_input_whose_output_is_too_large_shows_how_far_it_has_come() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(1).max_frame_bytes(100_000).build().unwrap();
        for size in [1, 3] {
            let outcomes: Vec<_> = pool.map(tell_and_repeat, [1, 200_000, 2]).chunks(size).blocking().collect();
            let error = outcomes[1].as_ref().unwrap_err();
            assert!(error.is_encode_error(), "{error:#}");
            let progress = error.progress();
            assert_eq!((progress.n, progress.total), (3, Some(4)), "{error:#}");
            assert_eq!(progress.message.as_deref(), Some("repeats"), "{error:#}");
            assert_eq!(outcomes[2].as_ref().unwrap().len(), 2);
        }
    });
}

#[test]
fn dropping_a_map_ends_its_chunks() {
    within_deadline(|| {
        for (name, executor) in executors().into_iter().filter(|(name, _)| *name != "inline") {
            let site = Site::new();
            let mut map =
                executor.map(mark, marks(&[Then::Return, Then::WaitForTheCancellation, Then::Return], &site)).chunks(3);
            assert_eq!(smol::block_on(map.next()).unwrap().unwrap(), 0);
            eventually("the second one has begun", || site.marks() == [0, 1]);
            let handle = map.handle();
            drop(map);
            eventually("all have ended", || handle.progress().ended() == 3);
            assert_eq!(site.marks(), [0, 1], "{name}");
            let report = handle.report().to_string();
            assert!(report.starts_with("3 ended: "), "{name}: {report}");
            site.remove();
        }
    });
}

#[test]
fn no_more_inputs_are_taken_than_the_buffer_has_chunks() {
    let executor = SyncExecutor::new();
    let taken = AtomicUsize::new(0);
    let inputs = (0..).inspect(|_| _ = taken.fetch_add(1, Ordering::Relaxed));
    let mut map = executor.map(square, inputs).chunks(3).buffer(2);
    for expected in [6, 6, 6, 9, 9, 9, 12] {
        let _ = smol::block_on(map.next());
        assert_eq!(taken.load(Ordering::Relaxed), expected);
    }
    assert_eq!(map.size_hint(), (5, None));
    let mut map = executor.map(square, 0..5).chunks(3);
    for left in (0..5).rev() {
        let _ = smol::block_on(map.next());
        assert_eq!(map.size_hint(), (left, Some(left)), "all were taken");
    }
}

#[test]
fn an_iterator_that_panics_within_a_chunk_loses_no_input() {
    let executor = SyncExecutor::new();
    let inputs = (0..).inspect(|&n| assert!(n < 3, "no more"));
    let mut map = executor.map(say_nothing_new, inputs).chunks(100);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| smol::block_on(map.next()))).unwrap_err();
    assert_eq!(smol::block_on(map.try_collect::<Vec<_>>()).unwrap(), [0, 1, 2]);
}

#[test]
fn a_limit_is_that_of_one_input() {
    within_deadline(|| {
        for (name, executor) in executors() {
            let map = executor.map(nap, [0, 0, 100_000, 0]).chunks(4).timeout(Duration::from_secs(1));
            let outcomes: Vec<_> = map.blocking().map(seen).collect();
            assert_eq!(outcomes, [Ok(0), Ok(0), Err(TaskErrorKind::TimedOut), Ok(0)], "{name}");
        }
    });
}

#[test]
fn what_cannot_cross_is_an_error_at_its_place() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(1).unwrap();
        for size in [1, 2, 4, 5] {
            let inputs = [Some(None), Some(Some(1)), None, Some(None), Some(Some(2)), Some(None)];
            let map = executor.map(invert, inputs).chunks(size);
            let outcomes: Vec<_> = map.blocking().map(|it| it.map_err(|error| error.kind().clone())).collect();
            let refused = Err(TaskErrorKind::Encode);
            let expected =
                [refused.clone(), Ok(Some(Some(1))), refused.clone(), refused.clone(), Ok(Some(Some(2))), refused];
            assert_eq!(outcomes, expected, "{size}");
        }
        let error = executor.map(invert, [None, Some(None)]).chunks(2).blocking().nth(1).unwrap().unwrap_err();
        assert!(
            format!("{error:#}").contains("could not be encoded before it started: its input: it has a `Some` around"),
            "{error:#}"
        );
    });
}

#[test]
fn a_lost_worker_costs_the_input_that_it_was_running() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(2).unwrap();
        for is_ordered in [true, false] {
            let site = Site::new();
            let mut thens = [Then::Return; 10];
            (thens[2], thens[3], thens[9]) = (Then::EndTheProcess, Then::EndTheProcess, Then::EndTheProcess);
            let map = executor.map(mark, marks(&thens, &site)).chunks(6);
            let map = if is_ordered { map } else { map.unordered() };
            let handle = map.handle();
            let mut outcomes: Vec<_> = map.blocking().collect();
            if !is_ordered {
                outcomes.sort_by_key(|it| it.as_ref().map_or_else(|error| number_in(error.name()), |&n| n));
            }
            let lost = TaskErrorKind::WorkerLost(progress_executor::WorkerExit::Code(7));
            for (n, outcome) in (0..).zip(&outcomes) {
                match outcome {
                    Ok(value) => assert_eq!(*value, n),
                    Err(error) => {
                        assert!([2, 3, 9].contains(&n));
                        assert_eq!(*error.kind(), lost);
                        assert_eq!(number_in(error.name()), n);
                        assert_eq!((error.progress().n, error.progress().total), (2, Some(4)));
                        assert!(error.to_string().ends_with("lost its worker: exit code 7 at 50 %"), "{error}");
                    }
                }
            }
            assert_eq!(outcomes.len(), 10);
            let mut marks = site.marks();
            marks.sort();
            assert_eq!(marks, (0..10).collect::<Vec<_>>(), "each was run once");
            let progress = handle.progress();
            assert_eq!((progress.n, progress.finished, progress.failed, progress.tasks()), (10, 7, 3, 10));
            site.remove();
        }
    });
}

/// The number of the input in a default name.
fn number_in(name: &str) -> u64 {
    name.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn dropping_a_map_ends_what_is_left_of_a_chunk_whose_worker_was_lost() {
    within_deadline(|| {
        for is_observed in [true, false] {
            let (executor, site) = (ProcessPoolExecutor::new(1).unwrap(), Site::new());
            let thens = [Then::Return, Then::EndTheProcess, Then::Return, Then::Return];
            let mut map = executor.map(mark, marks(&thens, &site)).chunks(4);
            let handle = map.handle();
            let updates = is_observed.then(|| map.updates());
            assert!(support::Hand::new().poll_next(&mut map).is_pending());
            eventually("its worker is lost", || executor.workers().lost == 1);
            executor.shutdown().wait();
            let report = handle.report();
            assert!(report.to_string().starts_with("2 of 4 ended: 1 finished, 1 lost;"), "{report}");
            assert_eq!(report.pending(), 2, "they go on in a task that the map submits when it is polled");
            drop(map);
            let updates = updates.unwrap_or_else(|| handle.updates());
            let mut last = updates.recv_blocking().unwrap();
            while let Ok(next) = updates.recv_blocking() {
                last = next;
            }
            assert_eq!((last.pending, last.finished, last.failed, last.cancelled), (0, 1, 1, 2));
            let report = handle.report();
            let summary = report.to_string();
            assert!(summary.starts_with("4 ended: 1 finished, 1 lost, 2 cancelled;"), "{summary}");
            assert_eq!(report.pending(), 0);
            assert_eq!((last.n, last.fraction()), (4, Some(1.0)));
            assert_eq!(site.marks(), [0, 1]);
            site.remove();
        }
    });
}

#[test]
fn an_input_with_retries_begins_again_alone() {
    within_deadline(|| {
        for executor in [ProcessPoolExecutor::new(1).unwrap(), without_memory(1)] {
            let site = Site::new();
            let mut thens = [Then::Return; 6];
            (thens[0], thens[4]) = (Then::EndTheProcessOnce, Then::EndTheProcessOnce);
            let map = executor.map(mark, marks(&thens, &site)).chunks(6).retries(1);
            assert_eq!(map.blocking().collect::<Result<Vec<_>, _>>().unwrap(), [0, 1, 2, 3, 4, 5]);
            assert_eq!(site.marks(), [0, 0, 1, 2, 3, 4, 4, 5]);
            site.remove();
            let site = Site::new();
            let thens = [Then::Return, Then::EndTheProcess, Then::Return];
            let map = executor.map(mark, marks(&thens, &site)).chunks(3).retries(2);
            let outcomes: Vec<_> = map.blocking().map(|it| it.is_ok()).collect();
            assert_eq!((outcomes, site.marks()), (vec![true, false, true], vec![0, 1, 1, 1, 2]));
            site.remove();
        }
    });
}

/// The pool was asked to end in between, and may have ended: the rest of a chunk was accepted before.
#[test]
fn what_is_left_of_a_chunk_is_run_after_a_shutdown_and_not_after_one_that_cancels() {
    within_deadline(|| {
        let with_lines = || {
            let output = WorkerOutput::lines(|_| ());
            ProcessPoolExecutor::builder().max_workers(1).output(output).build().unwrap()
        };
        for make in [|| ProcessPoolExecutor::new(1).unwrap(), || without_memory(1), with_lines] {
            for is_awaited in [false, true] {
                let (executor, site) = (make(), Site::new());
                let thens = [Then::Return, Then::EndTheProcessOnce, Then::Return, Then::EndTheProcess, Then::Return];
                let mut map = executor.map(mark, marks(&thens, &site)).chunks(5).retries(1);
                assert!(support::Hand::new().poll_next(&mut map).is_pending());
                let shutdown = executor.shutdown();
                if is_awaited {
                    shutdown.wait();
                }
                let outcomes: Vec<_> = map.blocking().map(seen).collect();
                let lost = Err(TaskErrorKind::WorkerLost(WorkerExit::Code(7)));
                assert_eq!(outcomes, [Ok(0), Ok(1), Ok(2), lost, Ok(4)]);
                assert_eq!(site.marks(), [0, 1, 1, 2, 3, 3, 4]);
                executor.shutdown().wait();
                site.remove();
            }
            let (executor, site) = (make(), Site::new());
            let mut map = executor.map(mark, marks(&[Then::EndTheProcessOnce; 3], &site)).chunks(3).retries(1);
            assert!(support::Hand::new().poll_next(&mut map).is_pending());
            eventually("its worker is lost", || executor.workers().lost == 1);
            executor.shutdown_now().wait();
            let errors: Vec<_> = map.blocking().map(Result::unwrap_err).collect();
            assert!(errors.iter().all(|error| *error.kind() == TaskErrorKind::Cancelled(CancelCause::Shutdown)));
            assert_eq!((errors.len(), site.marks()), (3, vec![0]));
            site.remove();
        }
    });
}

#[test]
fn where_no_memory_is_shared_nothing_begins_again_unasked() {
    within_deadline(|| {
        let (executor, site) = (without_memory(1), Site::new());
        let thens = [Then::Return, Then::EndTheProcess, Then::Return, Then::Return];
        let outcomes: Vec<_> = executor.map(mark, marks(&thens, &site)).chunks(4).blocking().collect();
        assert!(outcomes[0].is_ok());
        assert!(outcomes[1..].iter().all(|it| it.as_ref().is_err_and(TaskError::is_worker_lost)));
        assert_eq!((outcomes.len(), site.marks()), (4, vec![0, 1]));
        site.remove();
    });
}

#[test]
fn a_chunk_that_is_not_run_fails_each_of_its_inputs() {
    within_deadline(|| {
        fn unknown(n: u64, _: &Updater) -> TaskResult<u64> {
            Ok(n)
        }
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let errors: Vec<_> = executor.map(unknown, 0..3).chunks(3).blocking().map(Result::unwrap_err).collect();
        assert!(errors.iter().all(TaskError::is_not_registered), "{errors:?}");
        executor.shutdown().wait();
        let errors: Vec<_> = executor.map(square, 0..3).chunks(3).blocking().map(Result::unwrap_err).collect();
        assert!(errors.iter().all(|error| error.is_rejected() && format!("{error:#}").contains("shut down")));
        let names: Vec<_> = errors.iter().map(|error| number_in(error.name())).collect();
        assert_eq!(names, [0, 1, 2]);
    });
}

/// How many tasks have run these inputs, all of which fail.
fn tasks_of(outcomes: impl Iterator<Item = Result<u64, TaskError>>) -> usize {
    outcomes.map(|it| it.unwrap_err().id()).collect::<BTreeSet<_>>().len()
}

#[test]
fn short_inputs_for_processes_come_together_by_themselves_unless_something_else_is_asked_for() {
    within_deadline(|| {
        const INPUTS: usize = 3_000;
        let inputs = || 0..INPUTS as u64;
        let executor = ProcessPoolExecutor::new(1).unwrap();
        // On a busy machine, the inputs may seem to take long for a while.
        let attempts = (0..20).map(|_| tasks_of(executor.map(refuse, inputs()).blocking()));
        assert!(attempts.into_iter().any(|tasks| tasks < INPUTS));
        let boxed: Box<dyn Executor> = Box::new(&executor);
        let attempts = (0..20).map(|_| tasks_of(boxed.map(refuse, inputs()).blocking()));
        assert!(attempts.into_iter().any(|tasks| tasks < INPUTS));
        assert_eq!(tasks_of(executor.map(refuse, inputs()).chunks(1).blocking()), INPUTS);
        assert_eq!(tasks_of(executor.map(refuse, inputs()).buffer(100).blocking()), INPUTS);
        assert_eq!(tasks_of(executor.map(refuse, inputs()).unordered().blocking()), INPUTS);
        assert_eq!(tasks_of(executor.map(refuse, inputs()).timeout(DEADLINE).blocking()), INPUTS);
        assert_eq!(tasks_of(executor.map(refuse, inputs()).buffer(100).chunks(500).blocking()), 6);
        let with_lines = ProcessPoolExecutor::builder().max_workers(1).output(WorkerOutput::lines(|_| ()));
        assert_eq!(tasks_of(with_lines.build().unwrap().map(refuse, inputs()).blocking()), INPUTS);
        assert_eq!(tasks_of(ThreadPoolExecutor::new(1).map(refuse, inputs()).blocking()), INPUTS);
        assert_eq!(tasks_of(without_memory(1).map(refuse, 0..100).chunks(50).blocking()), 2);
    });
}

/// All but one of the inputs fit into a frame, but no two of the large ones do.
#[test]
fn inputs_that_are_too_large_together_go_apart() {
    within_deadline(|| {
        let frame = 64 * 1024;
        let executor = ProcessPoolExecutor::builder().max_workers(1).max_frame_bytes(frame).build().unwrap();
        let length = |n: usize| match n {
            150 => 70_000,
            0..100 => 1,
            _ => 40_000,
        };
        let texts = (0..200).map(|n| "x".repeat(length(n)));
        for (n, outcome) in executor.map(measure, texts).blocking().enumerate() {
            match outcome {
                Ok(bytes) => assert_eq!(bytes, length(n), "{n}"),
                Err(error) => assert!(n == 150 && error.is_encode_error(), "{n}: {error:#}"),
            }
        }
    });
}

/// As above, but the pool is shut down before it is given the first of the large ones.
#[test]
fn inputs_that_are_too_large_together_are_rejected_after_a_shutdown_as_others_are() {
    within_deadline(|| {
        const LARGE: usize = 300;
        let executor = ProcessPoolExecutor::builder().max_workers(1).max_frame_bytes(64 * 1024).build().unwrap();
        let texts = (0..2 * LARGE).map(|n| {
            if n == LARGE {
                drop(executor.shutdown());
            }
            "x".repeat(if n < LARGE { 1 } else { 40_000 })
        });
        let outcomes: Vec<_> = executor.map(measure, texts).blocking().collect();
        assert_eq!(outcomes.len(), 2 * LARGE);
        for (n, outcome) in outcomes.iter().enumerate().skip(LARGE) {
            assert!(outcome.as_ref().is_err_and(TaskError::is_rejected), "{n}: {outcome:?}");
        }
    });
}

#[test]
fn what_waits_behind_a_long_input_that_nobody_expected_moves_on() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(2).unwrap();
        let (from, inputs) = (5_000, 5_040);
        let map = executor.map(refuse_slowly_from, (0..inputs).map(|n| (from, n)));
        let handle = map.handle();
        let mut slow = Vec::new();
        for (n, outcome) in (0..).zip(map.blocking()) {
            match outcome {
                Ok(value) => assert_eq!(value, n),
                Err(error) => slow.push((n, error.id())),
            }
        }
        assert_eq!(slow.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (from..inputs).collect::<Vec<_>>());
        let tasks: BTreeSet<_> = slow.iter().map(|(_, task)| task).collect();
        assert_eq!(tasks.len(), slow.len(), "none of them waits for another in the same worker");
        let progress = handle.progress();
        assert_eq!((progress.n, progress.tasks(), progress.failed), (inputs, inputs as usize, slow.len()));
    });
}

#[test]
fn a_report_counts_inputs() {
    within_deadline(|| {
        for (name, executor) in executors() {
            let map = executor.map(refuse_slowly_from, (0..10).map(|n| (7, n))).chunks(4);
            let handle = map.handle();
            assert_eq!(map.blocking().count(), 10);
            let report = handle.report();
            assert!(report.to_string().starts_with("10 ended: 7 finished, 3 failed; "), "{name}: {report}");
            let sums = report
                .tasks()
                .iter()
                .fold((0, 0), |(inputs, failed), task| (inputs + task.inputs, failed + task.failed_inputs));
            assert_eq!(sums, (10, 3), "{name}");
        }
    });
}
