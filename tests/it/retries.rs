//! Tasks that are started again when their worker process is lost.

use std::error::Error as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use progress_executor::{
    CancelCause, ExecutorExt, ProcessPoolExecutor, ProgressFuture, Status, TaskErrorKind, TaskResult,
    ThreadPoolExecutor, Updater,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::crashes::{Place, Way, is_worker, process_id};
use crate::processes::{append, hold, sorted_lines, warm_up};
use crate::support::{Hand, NewFile, count, eventually, with_time_enough, within_deadline};

const LOSSES: [Way; 5] = [Way::Exit, Way::Abort, Way::Kill, Way::Close, Way::Garbage];

/// The input of a task that ends its worker this many times; each attempt leaves a line in a file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fuse {
    way: Way,
    place: Place,
    times: usize,
    log: PathBuf,
}

#[derive(Deserialize)]
struct PlainFuse {
    way: Way,
    place: Place,
    times: usize,
    log: PathBuf,
}

impl Fuse {
    fn new(way: Way, place: Place, times: usize, log: &NewFile) -> Self {
        Self { way, place, times, log: log.path() }
    }

    fn burn(&self, place: Place, progress: Option<&Updater>) -> Result<(), String> {
        if self.place != place || !is_worker() {
            return Ok(());
        }
        leave_a_line(&self.log);
        if let Some(progress) = progress {
            progress.set_message("about to burn");
        }
        if lines(&self.log) <= self.times { self.way.go() } else { Ok(()) }
    }
}

impl<'de> Deserialize<'de> for Fuse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let PlainFuse { way, place, times, log } = PlainFuse::deserialize(deserializer)?;
        let fuse = Self { way, place, times, log };
        fuse.burn(Place::Decoding, None).map_err(D::Error::custom)?;
        Ok(fuse)
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Burnt(Option<Fuse>);

impl Serialize for Burnt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(fuse) = &self.0 {
            fuse.burn(Place::Encoding, None).map_err(S::Error::custom)?;
        }
        None::<Fuse>.serialize(serializer)
    }
}

pub(crate) fn burn(fuse: Fuse, progress: &Updater) -> TaskResult<Burnt> {
    progress.set_counts(3, 4)?;
    fuse.burn(Place::Running, Some(progress))?;
    Ok(Burnt(Some(fuse)))
}

pub(crate) fn burn_and_sum((fuse, bytes): (Fuse, Vec<u8>), progress: &Updater) -> TaskResult<u64> {
    fuse.burn(Place::Running, Some(progress))?;
    Ok(bytes.into_iter().map(u64::from).sum())
}

/// Ends its worker after some time in the first attempt, and takes as long in the second one.
pub(crate) fn burn_slowly((fuse, time): (Fuse, Duration), _: &Updater) -> TaskResult<()> {
    // The test is about a limit of this length, and the task must show nothing meanwhile.
    thread::sleep(time);
    Ok(fuse.burn(Place::Running, None)?)
}

/// Says in which process it is, and leaves a line; then takes no notice of anything except the file.
pub(crate) fn announce_and_hold((log, file): (PathBuf, PathBuf), progress: &Updater) -> TaskResult<u32> {
    leave_a_line(&log);
    progress.set_counts(3, 4)?;
    progress.set_message(process::id().to_string());
    hold(file, progress)
}

/// The same, but it notices its cancellation.
pub(crate) fn announce_and_listen((log, file): (PathBuf, PathBuf), progress: &Updater) -> TaskResult<u32> {
    leave_a_line(&log);
    progress.set_counts(3, 4)?;
    progress.set_message(process::id().to_string());
    while file.exists() {
        progress.sleep(Duration::from_millis(1))?;
    }
    Ok(process::id())
}

fn leave_a_line(log: &Path) {
    // The file may be gone with its test.
    if let Ok(mut file) = fs::OpenOptions::new().append(true).open(log) {
        writeln!(file, "attempt").unwrap();
    }
}

fn lines(log: &Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().lines().count()
}

fn pool(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

/// The process in which the task says that it runs, once it does.
pub(crate) fn announced<T>(task: &ProgressFuture<T>, other_than: Option<u32>) -> u32 {
    let announced = || task.progress().message?.parse().ok().filter(|&worker| Some(worker) != other_than);
    eventually("the task says where it is", || announced().is_some());
    announced().unwrap()
}

pub(crate) fn kill(worker: u32) {
    kill_process(Pid::from_raw(worker as i32).unwrap(), Signal::KILL).unwrap();
}

fn is_too_late(error: &progress_executor::TaskError) -> bool {
    error.is_timed_out() || error.is_stalled()
}

/// Calls `end`, which cancels the task or the like, kills the worker, and checks that the task is left with one
/// attempt. Returns how it ended.
fn end_and_kill(end: impl Fn(&ProcessPoolExecutor, &ProgressFuture<u32>)) -> TaskErrorKind {
    let (pool, log, file) = (pool(1), NewFile::new(), NewFile::new());
    let task = pool.task(announce_and_hold, (log.path(), file.path())).retries(9).submit();
    let worker = announced(&task, None);
    end(&pool, &task);
    kill(worker);
    let error = task.wait().unwrap_err();
    // By now, the worker that would start it again is there.
    if let Ok(other) = pool.submit(process_id, ()).wait() {
        assert_ne!(other, worker);
    }
    assert_eq!(lines(&log.path()), 1);
    error.kind().clone()
}

// What is started again.

fn lost_at(place: Place) {
    for way in LOSSES {
        let (pool, log) = (pool(1), NewFile::new());
        pool.task(burn, Fuse::new(way, place, 2, &log)).retries(2).submit().wait().unwrap();
        assert_eq!(lines(&log.path()), 3, "{way:?}");

        let log = NewFile::new();
        let error = pool.task(burn, Fuse::new(way, place, 9, &log)).retries(2).submit().wait().unwrap_err();
        assert_eq!(error.kind(), &way.kind(), "{way:?}");
        assert_eq!(lines(&log.path()), 3, "{way:?}");
        assert_eq!(pool.submit(count, 3).wait().unwrap(), 3, "{way:?}");
    }
}

#[test]
fn lost_while_its_input_is_decoded_a_task_is_started_again() {
    within_deadline(|| lost_at(Place::Decoding));
}

#[test]
fn lost_while_it_runs_a_task_is_started_again() {
    within_deadline(|| lost_at(Place::Running));
}

#[test]
fn lost_while_its_output_is_encoded_a_task_is_started_again() {
    within_deadline(|| lost_at(Place::Encoding));
}

#[test]
fn a_large_input_is_kept() {
    within_deadline(|| {
        let bytes: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 251) as u8).collect();
        let sum = bytes.iter().copied().map(u64::from).sum::<u64>();
        let log = NewFile::new();
        let fuse = Fuse::new(Way::Kill, Place::Running, 2, &log);
        assert_eq!(pool(1).task(burn_and_sum, (fuse, bytes)).retries(2).submit().wait().unwrap(), sum);
        assert_eq!(lines(&log.path()), 3);
    });
}

#[test]
fn tasks_behind_a_task_that_is_started_again_run_once() {
    within_deadline(|| {
        for retries in [1, 0] {
            let pool = pool(1);
            warm_up(&pool);
            let (log, fuse_log) = (NewFile::new(), NewFile::new());
            let append = |n: u32| pool.submit(append, (log.path(), n.to_string()));
            let mut tasks: Vec<_> = (0..50).map(append).collect();
            let fuse = Fuse::new(Way::Kill, Place::Running, 1, &fuse_log);
            let fuse = pool.task(burn, fuse).retries(retries).submit();
            tasks.extend((50..100).map(append));
            assert_eq!(fuse.wait().is_ok(), retries == 1);
            assert_eq!(lines(&fuse_log.path()), 1 + retries as usize);
            tasks.into_iter().for_each(|task| assert!(task.wait().is_ok()));
            assert_eq!(sorted_lines(&log), (0..100).collect::<Vec<_>>());
        }
    });
}

#[test]
fn many_tasks_that_lose_their_workers_all_have_their_values() {
    within_deadline(|| {
        let pool = pool(2);
        let tasks: Vec<_> = (0..30)
            .map(|n| {
                let log = NewFile::new();
                let fuse = Fuse::new(LOSSES[n % 5], Place::Running, n % 3, &log);
                (n, log, pool.task(burn, fuse).retries(2).submit())
            })
            .collect();
        for (n, log, task) in tasks {
            task.wait().unwrap();
            assert_eq!(lines(&log.path()), n % 3 + 1);
        }
    });
}

#[test]
fn a_detached_task_is_started_again() {
    within_deadline(|| {
        let (pool, log) = (pool(1), NewFile::new());
        let task = pool.task(burn, Fuse::new(Way::Kill, Place::Running, 1, &log)).retries(1).submit();
        let updates = task.updates();
        task.detach();
        let last = smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap();
        assert_eq!((last.status, last.n, lines(&log.path())), (Status::Finished, 3, 2));
    });
}

// What observers see.

/// A task that has lost its worker, and that worker. The next worker cannot start while the gate is there.
fn waiting_again(
    log: &NewFile,
    gate: &NewFile,
    file: &NewFile,
    watch: impl Fn(&ProgressFuture<u32>),
) -> (ProcessPoolExecutor, ProgressFuture<u32>, u32) {
    gate.remove();
    let pool = ProcessPoolExecutor::builder().max_workers(1).initializer(hold, gate.path()).build().unwrap();
    let task = pool.task(announce_and_listen, (log.path(), file.path())).retries(1).submit();
    watch(&task);
    let worker = announced(&task, None);
    eventually("all is known of it", || task.progress().n == 3);
    fs::write(gate.path(), "").unwrap();
    kill(worker);
    eventually("the task waits again", || task.progress().status != Status::Running);
    (pool, task, worker)
}

#[test]
fn a_task_that_is_started_again_begins_anew_for_its_observers() {
    within_deadline(|| {
        let (log, gate, file) = (NewFile::new(), NewFile::new(), NewFile::new());
        let updates = std::sync::Mutex::new(None);
        let (_pool, task, worker) =
            waiting_again(&log, &gate, &file, |task| *updates.lock().unwrap() = Some(task.updates()));
        let updates = updates.into_inner().unwrap().unwrap();
        let is_new = |state: &progress_executor::ProgressState| {
            let counts = (state.n, state.total, state.elapsed);
            state.status == Status::Pending && counts == (0, None, Duration::ZERO) && state.message.is_none()
        };
        eventually("nothing is left of the first attempt", || is_new(&task.progress()));
        assert_eq!((task.silent_for(), task.noticed_after()), (None, None));
        while !is_new(&updates.recv_blocking().unwrap()) {}

        gate.remove();
        let other = announced(&task, Some(worker));
        eventually("it counts from the beginning", || task.progress().n == 3);
        file.remove();
        assert_eq!(task.wait().unwrap(), other);
        let last = smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap();
        assert_eq!((last.n, last.total, last.status), (3, Some(4), Status::Finished));
        assert_eq!(lines(&log.path()), 2);
    });
}

#[test]
fn a_time_out_begins_anew() {
    within_deadline(|| {
        // Twice this time is more than the limit.
        let time = |limit| limit / 9 * 5;
        let (pool, limit) = (pool(1), Duration::from_millis(900));
        with_time_enough(limit, |limit| {
            let log = NewFile::new();
            let fuse = Fuse::new(Way::Kill, Place::Running, 1, &log);
            let task = pool.task(burn_slowly, (fuse, time(limit))).retries(1).timeout(limit).stall_timeout(limit);
            let outcome = task.submit().wait();
            assert!(
                outcome.as_ref().is_ok_and(|()| lines(&log.path()) == 2) || outcome.as_ref().is_err_and(is_too_late)
            );
            outcome.ok()
        });

        let log = NewFile::new();
        let fuse = Fuse::new(Way::Kill, Place::Running, 1, &log);
        let task = pool.task(burn_slowly, (fuse, 2 * limit)).retries(1).timeout(limit).submit();
        assert!(task.wait().unwrap_err().is_timed_out(), "there still is a limit");
    });
}

#[test]
fn the_limits_of_a_second_attempt_are_watched() {
    within_deadline(|| {
        with_time_enough(Duration::from_secs(1), |limit| {
            let (pool, log, file) = (pool(1), NewFile::new(), NewFile::new());
            let task = pool.task(announce_and_hold, (log.path(), file.path())).retries(9).timeout(limit).submit();
            eventually("the task says where it is", || task.progress().message.is_some() || task.is_done());
            let worker = task.progress().message?.parse().unwrap();
            let killed = Instant::now();
            kill(worker);
            let error = task.wait().unwrap_err();
            let (time, attempts) = (killed.elapsed(), lines(&log.path()));
            assert!(error.is_timed_out(), "{error:?}");
            assert!(attempts == 1 || attempts == 2 && time >= limit, "{attempts} attempts, {time:?}: {error:?}");
            (attempts == 2).then_some(())
        });
    });
}

#[test]
fn a_paused_task_that_has_lost_its_worker_is_started_again_when_it_is_resumed() {
    within_deadline(|| {
        let (pool, log, file) = (pool(1), NewFile::new(), NewFile::new());
        let task = pool.task(announce_and_listen, (log.path(), file.path())).retries(1).submit();
        let worker = announced(&task, None);
        task.pause();
        eventually("the task waits", || task.progress().status == Status::Paused);
        kill(worker);
        eventually("the task has lost its worker", || task.progress().n == 0);
        assert_ne!(pool.submit(process_id, ()).wait().unwrap(), worker, "others pass");
        assert_eq!((task.progress().status, lines(&log.path())), (Status::Paused, 1));
        file.remove();
        task.resume();
        assert_ne!(task.wait().unwrap(), worker);
        assert_eq!(lines(&log.path()), 2);
    });
}

// What is not started again.

#[test]
fn errors_and_panics_are_not_tried_again() {
    within_deadline(|| {
        let pool = pool(1);
        for way in [Way::Error, Way::Panic] {
            let log = NewFile::new();
            let error =
                pool.task(burn, Fuse::new(way, Place::Running, 9, &log)).retries(9).submit().wait().unwrap_err();
            assert_eq!((error.kind(), lines(&log.path())), (&way.kind(), 1));
        }
        for (place, kind) in [(Place::Decoding, TaskErrorKind::Decode), (Place::Encoding, TaskErrorKind::Encode)] {
            let log = NewFile::new();
            let task = pool.task(burn, Fuse::new(Way::Error, place, 9, &log)).retries(9).submit();
            assert_eq!((task.wait().unwrap_err().kind(), lines(&log.path())), (&kind, 1));
        }
    });
}

#[test]
fn a_worker_that_is_killed_because_its_task_does_not_listen_is_not_lost() {
    within_deadline(|| {
        let pool =
            ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::from_millis(10)).build().unwrap();
        let (log, file) = (NewFile::new(), NewFile::new());
        let input = || (log.path(), file.path());
        let task = pool.task(announce_and_hold, input()).retries(9).submit();
        announced(&task, None);
        task.cancel();
        let error = task.wait().unwrap_err();
        assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Requested));
        assert!(error.source().is_some() && error.noticed_after().is_none());
        let limit = Duration::from_millis(30);
        assert!(
            pool.task(announce_and_hold, input()).retries(9).timeout(limit).submit().wait().unwrap_err().is_timed_out()
        );
        let error = pool.task(announce_and_hold, input()).retries(9).stall_timeout(limit).submit().wait().unwrap_err();
        assert!(error.is_stalled());
        pool.submit(count, 1).wait().unwrap();
        // Fewer if a limit has passed before the task left a line.
        assert!(lines(&log.path()) <= 3);
    });
}

#[test]
fn cancelled_before_its_worker_is_lost_a_task_is_not_started_again() {
    within_deadline(|| {
        let kind = end_and_kill(|_, task| task.cancel());
        assert!(matches!(kind, TaskErrorKind::WorkerLost(_)), "{kind:?}");
        let kind = end_and_kill(|pool, _| drop(pool.shutdown_now()));
        assert!(matches!(kind, TaskErrorKind::WorkerLost(_)), "{kind:?}");
    });
}

#[test]
fn dropped_before_its_worker_is_lost_a_task_is_not_started_again() {
    within_deadline(|| {
        let (pool, log, file) = (pool(1), NewFile::new(), NewFile::new());
        let task = pool.task(announce_and_hold, (log.path(), file.path())).retries(9).submit();
        let (worker, updates) = (announced(&task, None), task.updates());
        drop(task);
        kill(worker);
        assert!(smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap().status.is_terminal());
        assert_ne!(pool.submit(process_id, ()).wait().unwrap(), worker);
        assert_eq!(lines(&log.path()), 1);
    });
}

#[test]
fn cancelled_while_it_waits_to_be_started_again_a_task_is_not() {
    within_deadline(|| {
        let (log, gate, file) = (NewFile::new(), NewFile::new(), NewFile::new());
        let (pool, mut task, _) = waiting_again(&log, &gate, &file, |_| {});
        task.cancel();
        let error = smol::block_on(&mut task).unwrap_err();
        assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Requested));
        assert_eq!(&task.progress(), error.progress());
        gate.remove();
        pool.submit(count, 1).wait().unwrap();
        assert_eq!(lines(&log.path()), 1);
    });
}

#[test]
fn cancelled_at_any_moment_around_the_loss_a_task_ends_once_and_never_runs_after_that() {
    within_deadline(|| {
        let (pool, file) = (pool(2), NewFile::new());
        for round in 0..60 {
            let log = NewFile::new();
            let mut task = pool.task(announce_and_listen, (log.path(), file.path())).retries(u32::MAX).submit();
            let (worker, updates, canceller) = (announced(&task, None), task.updates(), task.canceller());
            let killer = thread::spawn(move || kill(worker));
            // Some time between before the kill and after the next start; which one does not matter.
            thread::sleep(Duration::from_micros(50 * round));
            canceller.cancel();
            let error = smol::block_on(&mut task).unwrap_err();
            let attempts = lines(&log.path());
            assert!(error.is_cancelled() || error.is_worker_lost(), "{error:?}");
            killer.join().unwrap();
            for worker in [pool.submit(process_id, ()), pool.submit(process_id, ())] {
                // It may be the worker that is about to be seen as lost.
                let _ = worker.wait();
            }
            assert!(lines(&log.path()) == attempts && attempts <= 2);
            assert_eq!(task.progress(), *error.progress());
            let last = smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap();
            assert_eq!(last.status, error.progress().status);
        }
    });
}

// Shutting down.

#[test]
fn shutdown_waits_for_a_task_that_is_started_again() {
    within_deadline(|| {
        let (log, gate, file) = (NewFile::new(), NewFile::new(), NewFile::new());
        let (pool, task, worker) = waiting_again(&log, &gate, &file, |_| {});
        let mut shutdown = pool.shutdown();
        assert!(Hand::new().poll(&mut shutdown).is_pending());
        gate.remove();
        announced(&task, Some(worker));
        assert!(Hand::new().poll(&mut shutdown).is_pending());
        file.remove();
        shutdown.wait();
        assert!(task.is_done());
        assert_ne!(task.wait().unwrap(), worker);
    });
}

#[test]
fn after_shutdown_a_task_that_loses_its_worker_is_started_again() {
    within_deadline(|| {
        let (pool, log, file) = (pool(1), NewFile::new(), NewFile::new());
        let task = pool.task(announce_and_listen, (log.path(), file.path())).retries(1).submit();
        let worker = announced(&task, None);
        let shutdown = pool.shutdown();
        kill(worker);
        announced(&task, Some(worker));
        file.remove();
        shutdown.wait();
        assert!(task.is_done() && task.wait().is_ok());
    });
}

#[test]
fn shutdown_now_ends_a_task_that_is_to_be_started_again() {
    within_deadline(|| {
        let (log, gate, file) = (NewFile::new(), NewFile::new(), NewFile::new());
        let (pool, task, _) = waiting_again(&log, &gate, &file, |_| {});
        let shutdown = pool.shutdown_now();
        assert!(task.is_done());
        shutdown.wait();
        assert_eq!(task.wait().unwrap_err().kind(), &TaskErrorKind::Cancelled(CancelCause::Shutdown));
        assert_eq!(lines(&log.path()), 1);
    });
}

// On threads.

#[test]
fn on_threads_nothing_is_tried_again() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let log = NewFile::new();
        let work = |path: PathBuf, _: &Updater| -> TaskResult<()> {
            leave_a_line(&path);
            std::panic::resume_unwind(Box::new("panicked"))
        };
        assert!(executor.task(work, log.path()).retries(9).submit().wait().unwrap_err().is_panic());
        assert_eq!(lines(&log.path()), 1);
    });
}

/// Waits for ever in the process whose id is in the file.
pub(crate) fn succeed_elsewhere(file: String, progress: &Updater) -> TaskResult<String> {
    if fs::read_to_string(&file)? == process::id().to_string() {
        progress.sleep(Duration::MAX)?;
    }
    Ok(file)
}

/// Ends the worker of the pool when it is woken for the first time, and waits until that is known.
struct Ending(Mutex<Option<Arc<ProcessPoolExecutor>>>);

impl Wake for Ending {
    fn wake(self: Arc<Self>) {
        let Some(pool) = self.0.lock().unwrap().take() else { return };
        let worker = Pid::from_raw(pool.workers().workers[0].pid as i32).unwrap();
        kill_process(worker, Signal::KILL).unwrap();
        let threads = ThreadPoolExecutor::new(1);
        // A wait of this library, so that another thread drives the pool meanwhile.
        while pool.workers().lost == 0 {
            threads.spawn(|_| Ok(())).wait().unwrap();
        }
    }
}

#[test]
fn a_retry_has_its_input_although_a_waker_waits_while_the_first_attempt_is_lost() {
    within_deadline(|| {
        let (pool, file) = (Arc::new(pool(1)), NewFile::new());
        let input = file.path().into_os_string().into_string().unwrap();
        fs::write(&input, pool.submit(process_id, ()).wait().unwrap().to_string()).unwrap();
        let held = NewFile::new();
        let before = pool.submit(hold, held.path());
        let mut task = pool.task(succeed_elsewhere, input.clone()).retries(1).submit().on_progress(|_, _| ());
        let ending = Waker::from(Arc::new(Ending(Mutex::new(Some(pool.clone())))));
        assert!(task.poll_unpin(&mut Context::from_waker(&ending)).is_pending());
        // It begins only now.
        drop(held);
        before.wait().unwrap();
        eventually("the worker is lost", || pool.workers().lost == 1);
        assert_eq!(task.wait().unwrap(), input);
    });
}
