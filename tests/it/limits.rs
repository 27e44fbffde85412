//! Limits per task, and how responsive a task is: what is particular to an executor, or needs a look into the task.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use progress_executor::{
    CancelCause, Cancelled, Executor, ExecutorExt, ProcessPoolExecutor, ProgressFuture, ProgressState, Status,
    SyncExecutor, TaskErrorKind, TaskResult, ThreadPoolExecutor, Updater,
};

use crate::contract::{check_for, count_forever, overrun};
use crate::crashes::process_id;
use crate::processes::{clean_up_slowly, hold, spin};
use crate::retries::{announce_and_listen, announced, kill};
use crate::support::{Barrier, Gate, Hand, NewFile, count, eventually, gate, has_process, within_deadline};

const LIMIT: Duration = Duration::from_millis(30);

// The tasks.

/// Says nothing while it stands at the barrier; then it makes one more call, and ends with its input.
struct Visit {
    barrier: Barrier,
    heard: Sender<Result<(), Cancelled>>,
    item: Arc<()>,
}

fn stand_at(visit: Visit, progress: &Updater) -> TaskResult<Arc<()>> {
    progress.set_counts(1, 2)?;
    visit.barrier.pass();
    let heard = progress.set_counts(2, 2);
    progress.set_message("too late");
    visit.heard.send(heard)?;
    Ok(visit.item)
}

fn stand_at_and_check(visit: Visit, progress: &Updater) -> TaskResult<()> {
    stand_at(visit, progress)?;
    Ok(progress.check()?)
}

struct Visitor {
    gate: Gate,
    heard: Receiver<Result<(), Cancelled>>,
    item: Arc<()>,
}

fn visit() -> (Visitor, Visit) {
    let ((gate, barrier), (send, heard), item) = (gate(), mpsc::channel(), Arc::new(()));
    (Visitor { gate, heard, item: item.clone() }, Visit { barrier, heard: send, item })
}

/// Says nothing as long as the file is there; then it only checks.
pub(crate) fn check_later(file: PathBuf, progress: &Updater) -> TaskResult<()> {
    hold(file, progress)?;
    loop {
        progress.check()?;
        thread::sleep(Duration::from_micros(100));
    }
}

/// By how much the deadline moves as long as the file is there.
pub(crate) fn see_the_deadline_move(file: PathBuf, progress: &Updater) -> TaskResult<Duration> {
    let deadline = || progress.deadline().ok_or("it has no deadline");
    let before = deadline()?;
    while file.exists() {
        progress.update(1)?;
        thread::sleep(Duration::from_micros(100));
    }
    progress.check()?;
    Ok(deadline()? - before)
}

fn threads_and_processes() -> [Box<dyn Executor>; 2] {
    [Box::new(ThreadPoolExecutor::new(1)), Box::new(ProcessPoolExecutor::new(1).unwrap())]
}

fn pool_with_grace(grace: Duration) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(1).cancel_grace(grace).build().unwrap()
}

fn rest(updates: async_channel::Receiver<ProgressState>) -> Vec<ProgressState> {
    smol::block_on(updates.collect())
}

fn wait_until<T>(task: &ProgressFuture<T>, status: Status) {
    eventually("the task comes so far", || task.progress().status == status);
}

// Time-outs.

#[test]
fn a_time_out_resolves_the_future_while_the_function_still_runs() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (visitor, visit) = visit();
        let mut task = executor.task(stand_at, visit).timeout(LIMIT).submit();
        let (updates, canceller) = (task.updates(), task.canceller());
        let mut next = executor.submit(count, 3);
        visitor.gate.wait();
        let error = smol::block_on(&mut task).unwrap_err();
        assert!(error.is_timed_out());
        assert_eq!(error.to_string(), "task `stand_at` timed out at 50 %");
        assert!(task.is_done() && !canceller.is_acknowledged());
        assert_eq!((task.silent_for(), task.noticed_after()), (None, None));

        let hand = Hand::new();
        assert!(hand.poll(&mut next).is_pending(), "the thread is not free yet");
        visitor.gate.open();
        assert_eq!(visitor.heard.recv().unwrap(), Err(Cancelled));
        assert_eq!(next.wait().unwrap(), 3);

        assert_eq!(Arc::strong_count(&visitor.item), 1, "what the function has returned is dropped");
        assert!(canceller.is_acknowledged() && task.noticed_after().is_some());
        assert_eq!(&task.progress(), error.progress());
        assert_eq!(&rest(updates).pop().unwrap(), error.progress());
    });
}

#[test]
fn inline_a_time_out_resolves_the_future_when_the_task_comes_to_a_call() {
    within_deadline(|| {
        let executor = SyncExecutor::new();
        let (send, lasted) = mpsc::channel();
        let work = move |(), progress: &Updater| {
            progress.set_counts(1, 2)?;
            let start = Instant::now();
            while !progress.is_cancelled() {
                thread::yield_now();
            }
            send.send(start.elapsed())?;
            Ok(progress.set_counts(2, 2)?)
        };
        let task = executor.task(work, ()).timeout(LIMIT).name("scan").submit();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let mut task = task.on_progress(move |_, new| sink.lock().unwrap().push(new.clone()));
        let error = (&mut task).now_or_never().unwrap().unwrap_err();
        assert!(error.is_timed_out() && error.to_string().ends_with(" timed out at 50 %"), "{error}");
        assert!(lasted.try_recv().is_ok(), "it has run within the poll");
        assert_eq!((error.progress().n, &task.progress()), (1, error.progress()));
        assert_eq!(seen.lock().unwrap().last().unwrap(), error.progress());
    });
}

#[test]
fn time_in_the_queue_does_not_count() {
    within_deadline(|| {
        for executor in threads_and_processes() {
            let file = NewFile::new();
            let first = executor.submit(hold, file.path());
            let limit = Duration::from_millis(400);
            let task = executor.task(count, 3).timeout(limit).stall_timeout(limit).submit();
            thread::sleep(limit + LIMIT); // Time for the limits to pass, if it counted.
            assert_eq!((task.progress().status, task.silent_for()), (Status::Pending, None));
            file.remove();
            first.wait().unwrap();
            assert_eq!(task.wait().unwrap(), 3);
        }
    });
}

#[test]
fn time_in_a_pause_does_not_count() {
    within_deadline(|| {
        let limit = Duration::from_millis(700);
        for executor in threads_and_processes() {
            let start = Instant::now();
            let task = executor.task(count_forever, ()).timeout(limit).stall_timeout(limit).submit();
            wait_until(&task, Status::Running);
            task.pause();
            wait_until(&task, Status::Paused);
            let before = start.elapsed();
            let paused = Instant::now();
            while paused.elapsed() < limit + LIMIT {
                assert_eq!(task.silent_for(), Some(Duration::ZERO));
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(task.progress().status, Status::Paused);
            let resumed = Instant::now();
            task.resume();
            let error = task.wait().unwrap_err();
            assert!(error.is_timed_out(), "{error:?}");
            assert!(error.progress().elapsed >= limit && before + resumed.elapsed() >= limit, "{error:?}");
        }
    });
}

#[test]
fn a_pause_moves_the_deadline_on() {
    within_deadline(|| {
        for executor in threads_and_processes() {
            let file = NewFile::new();
            let task = executor.task(see_the_deadline_move, file.path()).timeout(Duration::from_secs(60)).submit();
            eventually("the task has seen its deadline", || task.progress().n > 0);
            task.pause();
            wait_until(&task, Status::Paused);
            let paused = Instant::now();
            eventually("some time has passed", || paused.elapsed() > LIMIT);
            file.remove();
            let paused = paused.elapsed();
            assert!(task.wait().unwrap() >= paused);
        }
    });
}

#[test]
fn limits_are_never_early() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(16);
        let limits = || (1..=16).map(|n| Duration::from_micros(1500) * n);
        let submit = |limit| {
            let (visitor, visit) = visit();
            let task = executor.task(stand_at, visit).timeout(limit).submit();
            (visitor, limit, task)
        };
        for (_visitor, limit, task) in limits().map(submit).collect::<Vec<_>>() {
            let error = task.wait().unwrap_err();
            assert!(error.is_timed_out() && error.progress().elapsed >= limit, "{limit:?}: {error:?}");
        }
        let submit = |limit| {
            let (visitor, visit) = visit();
            let task = executor.task(stand_at, visit).stall_timeout(limit).submit();
            (visitor, limit, task)
        };
        for (_visitor, limit, task) in limits().map(submit).collect::<Vec<_>>() {
            let error = task.wait().unwrap_err();
            assert!(error.is_stalled() && error.silent_for().unwrap() >= limit, "{limit:?}: {error:?}");
        }
    });
}

/// The function returns just when its limit passes.
#[test]
fn a_task_with_a_limit_ends_once() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let item = Arc::new(());
        let mut timed_out = 0;
        for round in 0..300 {
            let time = Duration::from_micros(1000 + 5 * (round % 100));
            let work = move |item, _: &Updater| {
                let start = Instant::now();
                while start.elapsed() < time {
                    std::hint::spin_loop();
                }
                Ok(item)
            };
            let task = executor.task(work, item.clone()).timeout(Duration::from_millis(1)).submit();
            let updates = task.updates();
            let outcome = task.wait();
            let expected = match &outcome {
                Ok(_) => Status::Finished,
                Err(error) if error.is_timed_out() => Status::Failed,
                Err(error) => panic!("{error:?}"),
            };
            assert_eq!(rest(updates).pop().unwrap().status, expected);
            timed_out += u32::from(outcome.is_err());
        }
        executor.shutdown().wait();
        assert_eq!(Arc::strong_count(&item), 1);
        assert!(timed_out > 0);
    });
}

#[test]
fn shutdown_waits_for_the_function_of_a_task_that_has_timed_out() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (visitor, visit) = visit();
        assert!(executor.task(stand_at, visit).timeout(LIMIT).submit().wait().unwrap_err().is_timed_out());
        let (mut shutdown, hand) = (executor.shutdown(), Hand::new());
        assert!(hand.poll(&mut shutdown).is_pending());
        visitor.gate.open();
        shutdown.wait();
        assert!(visitor.heard.try_recv().is_ok());
    });
}

#[test]
fn an_outcome_that_comes_too_late_may_panic_when_it_is_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("dropped"));
        }
    }
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (gate, barrier) = gate();
        let work = move |(), _: &Updater| {
            barrier.pass();
            Ok(Bomb)
        };
        let task = executor.task(work, ()).timeout(LIMIT).submit();
        assert!(task.wait().err().unwrap().is_timed_out());
        gate.open();
        assert_eq!(executor.submit(count, 3).wait().unwrap(), 3);
        assert!(executor.task(count_forever, ()).timeout(LIMIT).submit().wait().unwrap_err().is_timed_out());
    });
}

// Stalls.

#[test]
fn a_task_stalls_after_it_has_made_calls() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (visitor, visit) = visit();
        let task = executor.task(stand_at, visit).stall_timeout(LIMIT).submit();
        visitor.gate.wait();
        let error = task.wait().unwrap_err();
        let silence = error.silent_for().unwrap();
        assert!(silence >= LIMIT);
        let silence = silence.as_secs_f64();
        let message = format!("task `stand_at` stalled at 50 %, without a progress call for {silence:.1} s");
        assert_eq!(error.to_string(), message);
        visitor.gate.open();
        assert_eq!(visitor.heard.recv().unwrap(), Err(Cancelled));
    });
}

#[test]
fn calls_of_parts_and_of_other_threads_keep_a_task_alive() {
    within_deadline(|| {
        let limit = Duration::from_millis(300);
        let executor = ThreadPoolExecutor::new(1);
        let split = move |(), progress: &Updater| check_for(2 * limit, &progress.split(1));
        executor.task(split, ()).stall_timeout(limit).submit().wait().unwrap();
        let share = move |(), progress: &Updater| {
            let shared = progress.shared();
            let work = || {
                let start = Instant::now();
                while start.elapsed() < 2 * limit {
                    shared.update(0)?;
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            };
            thread::scope(|scope| scope.spawn(work).join().unwrap())
        };
        executor.task(share, ()).stall_timeout(limit).submit().wait().unwrap();
    });
}

#[test]
fn calls_keep_an_observed_task_in_a_worker_alive() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let task = pool.task(check_for, Duration::from_millis(700)).stall_timeout(Duration::from_millis(300));
        let task = task.submit();
        let updates = task.updates();
        task.wait().unwrap();
        assert_eq!(rest(updates).pop().unwrap().status, Status::Finished);
    });
}

// Cancelled, and too late.

#[test]
fn a_task_that_was_cancelled_and_does_not_listen_times_out() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        for is_dropped in [false, true] {
            let (visitor, visit) = visit();
            let task = executor.task(stand_at, visit).timeout(LIMIT).submit();
            let (updates, canceller) = (task.updates(), task.canceller());
            visitor.gate.wait();
            if is_dropped {
                drop(task);
            } else {
                task.cancel();
                let error = task.wait().unwrap_err();
                assert_eq!((error.kind(), error.noticed_after()), (&TaskErrorKind::TimedOut, None));
            }
            assert_eq!(rest(updates).pop().unwrap().status, Status::Failed);
            assert!(canceller.is_cancelled() && !canceller.is_acknowledged());
            visitor.gate.open();
            assert_eq!(visitor.heard.recv().unwrap(), Err(Cancelled));
            executor.submit(count, 1).wait().unwrap();
            assert_eq!(Arc::strong_count(&visitor.item), 1);
        }
    });
}

#[test]
fn a_task_that_listens_is_cancelled_within_its_limits() {
    within_deadline(|| {
        let limit = Duration::from_secs(60);
        for executor in threads_and_processes() {
            let task = executor.task(count_forever, ()).timeout(limit).stall_timeout(limit).submit();
            wait_until(&task, Status::Running);
            task.cancel();
            let error = task.wait().unwrap_err();
            assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Requested));
        }
    });
}

// In a worker process.

#[test]
fn a_task_that_has_timed_out_and_listens_costs_no_worker() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let worker = pool.submit(process_id, ()).wait().unwrap();
        for _ in 0..5 {
            let task = pool.task(count_forever, ()).timeout(Duration::from_millis(10)).submit();
            assert!(task.wait().unwrap_err().is_timed_out());
            assert_eq!(pool.submit(process_id, ()).wait().unwrap(), worker);
        }
        let task = pool.task(overrun, ()).timeout(Duration::from_millis(10)).submit();
        assert!(task.wait().unwrap_err().is_timed_out());
        let next = pool.submit(process_id, ());
        assert!(!next.is_done(), "the future has not waited for the function");
        assert_eq!(next.wait().unwrap(), worker);
    });
}

#[test]
fn a_worker_whose_task_takes_no_notice_of_its_limit_is_killed_after_the_grace() {
    within_deadline(|| {
        let pool = pool_with_grace(Duration::from_millis(300));
        let limits: [fn(progress_executor::TaskBuilder<'_, ()>) -> progress_executor::TaskBuilder<'_, ()>; 2] =
            [|task| task.timeout(2 * LIMIT), |task| task.stall_timeout(2 * LIMIT)];
        for (limit, kind) in limits.into_iter().zip([TaskErrorKind::TimedOut, TaskErrorKind::Stalled]) {
            let worker = pool.submit(process_id, ()).wait().unwrap();
            let task = limit(pool.task(spin, ())).retries(3).submit();
            let next = pool.submit(process_id, ());
            let error = task.wait().unwrap_err();
            assert_eq!(error.kind(), &kind);
            assert!(has_process(worker), "the future has not waited for that");
            assert_ne!(next.wait().unwrap(), worker);
            assert!(!has_process(worker));
        }
    });
}

#[test]
fn a_pause_does_not_count_for_a_task_that_loses_its_worker() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let file = NewFile::new();
        let task = pool.submit(announce_and_listen, (file.path(), file.path()));
        let start = Instant::now();
        let worker = announced(&task, None);
        task.pause();
        wait_until(&task, Status::Paused);
        let paused = Instant::now();
        thread::sleep(Duration::from_millis(50));
        let paused = paused.elapsed();
        kill(worker);
        let error = task.wait().unwrap_err();
        assert!(error.is_worker_lost() && error.progress().elapsed < start.elapsed() - paused, "{error:?}");
    });
}

// Responsiveness.

#[test]
fn a_silent_task_is_seen_to_be_silent_until_its_next_call() {
    within_deadline(|| {
        for executor in threads_and_processes() {
            let file = NewFile::new();
            let submitted = Instant::now();
            let task = executor.submit(check_later, file.path());
            for silence in [10, 100].map(Duration::from_millis) {
                eventually("it is silent", || task.silent_for() >= Some(silence));
            }
            assert!(task.silent_for().unwrap() <= submitted.elapsed());
            file.remove();
            eventually("it makes calls", || task.silent_for().unwrap() < Duration::from_millis(50));
            task.cancel();
            assert!(task.wait().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn a_call_that_only_says_something_ends_the_silence() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let calls: [fn(&Updater); 3] =
            [|task| task.set_message("here"), |task| task.set_total(7), |task| drop(task.split(1))];
        for call in calls {
            let ((before, first), (after, second)) = (gate(), gate());
            let task = executor.spawn(move |progress| {
                first.pass();
                call(progress);
                second.pass();
                Ok(())
            });
            before.wait();
            eventually("it is silent", || task.silent_for() > Some(Duration::ZERO));
            before.open();
            after.wait();
            assert_eq!(task.silent_for(), Some(Duration::ZERO));
            after.open();
            task.wait().unwrap();
        }
    });
}

#[test]
fn silence_is_never_longer_than_the_task() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        for _ in 0..5_000 {
            let submitted = Instant::now();
            let task = executor.submit(count, 1);
            while !task.is_done() {
                let (silence, elapsed) = (task.silent_for(), submitted.elapsed());
                assert!(silence <= Some(elapsed), "{silence:?} of {elapsed:?}");
            }
            task.wait().unwrap();
        }
    });
}

#[test]
fn a_pause_is_no_silence_however_often_somebody_asks() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let work = |progress: &Updater| -> TaskResult<()> {
            loop {
                progress.check()?;
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(200) {
                    std::hint::spin_loop();
                }
            }
        };
        let task = executor.spawn(work);
        wait_until(&task, Status::Running);
        let mut excess = None;
        thread::scope(|scope| {
            scope.spawn(|| while task.silent_for().is_some() {});
            for _ in 0..100 {
                let start = Instant::now();
                task.pause();
                wait_until(&task, Status::Paused);
                let paused = Instant::now();
                thread::sleep(Duration::from_millis(2));
                let paused = paused.elapsed();
                task.resume();
                let resumed = Instant::now();
                while resumed.elapsed() < Duration::from_millis(1) {
                    let silence = task.silent_for().unwrap();
                    excess = excess.or(silence.checked_sub(start.elapsed() - paused));
                }
            }
            task.cancel();
        });
        assert_eq!(excess, None);
        assert!(task.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn it_is_known_that_a_task_in_a_worker_has_noticed_its_cancellation() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let file = NewFile::new();
        let mut task = pool.submit(clean_up_slowly, file.path());
        wait_until(&task, Status::Running);
        assert_eq!(task.noticed_after(), None);
        let asked = Instant::now();
        task.cancel();
        eventually("it has noticed", || task.noticed_after().is_some());
        let noticed_after = task.noticed_after();
        assert!(noticed_after <= Some(asked.elapsed()));
        assert!(!task.is_done());
        file.remove();
        smol::block_on(&mut task).unwrap();
        assert_eq!(task.noticed_after(), noticed_after);
    });
}

#[test]
fn a_task_that_takes_long_to_notice_is_told_in_the_message() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let ((late, late_visit), (later, later_visit)) = (visit(), visit());
        let cancelled = executor.submit(stand_at_and_check, late_visit);
        let timed_out = executor.task(stand_at, later_visit).timeout(Duration::from_millis(1500)).submit();
        late.gate.wait();
        cancelled.cancel();
        later.gate.wait();
        let is_silent = |silence| timed_out.silent_for() >= Some(silence);
        eventually("both have taken long", || is_silent(Duration::from_millis(1050)) || timed_out.is_done());
        late.gate.open();

        let error = cancelled.wait().unwrap_err();
        let time = error.noticed_after().unwrap();
        assert!(time >= Duration::from_secs(1), "{time:?}");
        assert!(error.to_string().ends_with(&format!(", noticed after {:.1} s", time.as_secs_f64())), "{error}");

        let error = timed_out.wait().unwrap_err();
        let time = error.silent_for().unwrap().as_secs_f64();
        let message = format!("task `stand_at` timed out at 50 %, without a progress call for {time:.1} s");
        assert_eq!(error.to_string(), message);
    });
}
