//! Limits per task, and how responsive a task is: what is particular to an executor, or needs a look into the task.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt};
use progress_executor::{
    CancelCause, Cancelled, Executor, ExecutorExt, ProcessPoolExecutor, ProgressFuture, ProgressState, Status,
    SyncExecutor, TaskErrorKind, TaskResult, ThreadPoolExecutor, Updater,
};

use crate::contract::{Calls, check_for, count_forever, keep_calling, never_stalls};
use crate::crashes::process_id;
use crate::processes::{clean_up_slowly, hold, spin};
use crate::retries::{announce_and_listen, announced, kill};
use crate::support::{
    Barrier, Gate, Hand, NewFile, count, eventually, gate, has_process, let_another_task_run, tick_forever,
    with_time_enough, within_deadline,
};

const LIMIT: Duration = Duration::from_millis(30);

// The tasks.

/// The input of a task that is silent while it stands at the barrier, makes one more call, and ends with its item.
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

/// Submits a visit with a limit, and returns when the task stands at the barrier, before its limit has passed.
fn visited(
    limit: Duration,
    submit: impl Fn(Visit, Duration) -> ProgressFuture<Arc<()>>,
) -> (Visitor, ProgressFuture<Arc<()>>) {
    with_time_enough(limit, |limit| {
        let (visitor, visit) = visit();
        let task = submit(visit, limit);
        visitor.gate.is_reached().then_some((visitor, task))
    })
}

/// Silent as long as the file is there; then it only checks.
pub(crate) fn check_later(file: PathBuf, progress: &Updater) -> TaskResult<()> {
    hold(file, progress)?;
    loop {
        progress.check()?;
        thread::yield_now();
    }
}

/// Returns by how much the deadline moves while the file is there.
pub(crate) fn see_the_deadline_move(file: PathBuf, progress: &Updater) -> TaskResult<Duration> {
    let deadline = || progress.deadline().ok_or("it has no deadline");
    let before = deadline()?;
    while file.exists() {
        progress.update(1)?;
        thread::yield_now();
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

/// Returns when a task that was started after this call has used up the limit.
fn wait_for_time_out(limit: Duration) {
    let other = ThreadPoolExecutor::new(1).task(tick_forever, ()).timeout(limit).submit();
    assert!(other.wait().unwrap_err().is_timed_out());
}

fn wait_until<T>(task: &ProgressFuture<T>, status: Status) {
    eventually("the task comes so far", || task.progress().status == status);
}

// Timeouts.

#[test]
fn a_time_out_resolves_the_future_while_the_function_still_runs() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (visitor, mut task) = visited(LIMIT, |visit, limit| executor.task(stand_at, visit).timeout(limit).submit());
        let (updates, canceller) = (task.updates(), task.canceller());
        let mut next = executor.submit(count, 3);
        let error = smol::block_on(&mut task).unwrap_err();
        assert!(error.is_timed_out());
        assert_eq!(error.to_string(), format!("task `stand_at #{}` timed out at 50 %", error.id()));
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
        with_time_enough(LIMIT, |limit| {
            let (send, waited) = mpsc::channel();
            let work = move |(), progress: &Updater| {
                progress.set_counts(1, 2)?;
                while !progress.is_cancelled() {
                    thread::yield_now();
                }
                send.send(())?;
                Ok(progress.set_counts(2, 2)?)
            };
            let task = executor.task(work, ()).timeout(limit).name("scan").submit();
            let seen = Arc::new(Mutex::new(Vec::new()));
            let sink = seen.clone();
            let mut task = task.on_progress(move |_, new| sink.lock().unwrap().push(new.clone()));
            let error = (&mut task).now_or_never().unwrap().unwrap_err();
            assert!(error.is_timed_out(), "{error}");
            assert_eq!(&task.progress(), error.progress());
            assert_eq!(seen.lock().unwrap().last().unwrap(), error.progress());
            waited.try_recv().ok()?;
            assert!(error.to_string().ends_with(" timed out at 50 %"), "{error}");
            Some(())
        });
    });
}

/// Takes until the thread that has made it sleeps, unless it is woken by that thread.
struct SlowWaker(PathBuf);

impl SlowWaker {
    fn new() -> Self {
        Self(fs::read_link("/proc/thread-self").unwrap())
    }
}

impl Wake for SlowWaker {
    fn wake(self: Arc<Self>) {
        let Self(thread) = &*self;
        if fs::read_link("/proc/thread-self").unwrap() != *thread {
            let stat = Path::new("/proc").join(thread).join("stat");
            eventually("it sleeps", || fs::read_to_string(&stat).unwrap().contains(") S "));
        }
    }
}

#[test]
fn inline_a_time_out_resolves_the_future_however_long_it_takes_to_wake_a_receiver() {
    within_deadline(|| {
        let (send, receive) = mpsc::channel::<async_channel::Receiver<ProgressState>>();
        let (keep, kept) = mpsc::channel();
        let work = move |(), progress: &Updater| {
            progress.set_counts(1, 2)?;
            let updates = receive.recv()?;
            let mut waiting = Box::pin(updates.clone());
            let waker = Waker::from(Arc::new(SlowWaker::new()));
            while waiting.as_mut().poll_next(&mut Context::from_waker(&waker)).is_ready() {}
            let has_ended = || updates.try_recv().is_ok_and(|state| state.status.is_terminal());
            eventually("the last state is on its way", has_ended);
            // It may not have been woken yet.
            Ok(keep.send(waiting)?)
        };
        let task = SyncExecutor::new().task(work, ()).timeout(LIMIT).submit();
        send.send(task.updates()).unwrap();
        let error = task.now_or_never().unwrap().unwrap_err();
        assert!(error.is_timed_out(), "{error}");
        drop(kept);
    });
}

#[test]
fn time_in_the_queue_does_not_count() {
    within_deadline(|| {
        for executor in threads_and_processes() {
            with_time_enough(Duration::from_millis(400), |limit| {
                let file = NewFile::new();
                let first = executor.submit(hold, file.path());
                let task = executor.task(count, 3).timeout(limit).stall_timeout(limit).submit();
                wait_for_time_out(limit + LIMIT);
                assert_eq!((task.progress().status, task.silent_for()), (Status::Pending, None));
                file.remove();
                first.wait().unwrap();
                let outcome = task.wait();
                assert!(
                    outcome.as_ref().is_ok_and(|&n| n == 3)
                        || outcome.as_ref().is_err_and(|error| error.is_timed_out()),
                    "{outcome:?}"
                );
                outcome.ok()
            });
        }
    });
}

#[test]
fn time_in_a_pause_does_not_count() {
    within_deadline(|| {
        for executor in threads_and_processes() {
            with_time_enough(Duration::from_millis(700), |limit| {
                let start = Instant::now();
                let task = executor.task(count_forever, ()).timeout(limit).stall_timeout(limit).submit();
                eventually("the task runs", || task.progress().n > 0 || task.is_done());
                task.pause();
                eventually("the task waits", || task.progress().status == Status::Paused || task.is_done());
                if task.is_done() {
                    return None;
                }
                let before = start.elapsed();
                // Limits of a paused task are checked less often than the limit of this one.
                let other = ThreadPoolExecutor::new(1).task(tick_forever, ()).timeout(limit + LIMIT).submit();
                while !other.is_done() {
                    assert_eq!(task.silent_for(), Some(Duration::ZERO));
                    thread::yield_now();
                }
                assert_eq!(task.progress().status, Status::Paused);
                let resumed = Instant::now();
                task.resume();
                let error = task.wait().unwrap_err();
                assert!(error.is_timed_out() || error.is_stalled(), "{error:?}");
                assert!(error.progress().elapsed >= limit && before + resumed.elapsed() >= limit, "{error:?}");
                error.is_timed_out().then_some(())
            });
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
fn a_task_whose_deadline_passes_as_its_worker_begins_with_it_has_timed_out() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        pool.submit(count, 1).wait().unwrap();
        for round in 0..200 {
            let deadline = Duration::from_micros(50 + 5 * round);
            let mut task = pool.task(tick_forever, ()).deadline(deadline).submit();
            // Not waited for, because a thread that waits hears at once that the task has begun.
            eventually("it has ended", || task.is_done());
            let error = task.wait_timeout(Duration::ZERO).unwrap().unwrap_err();
            assert!(error.is_timed_out(), "{deadline:?}: {error:?}");
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
        let mut round = 0;
        while round < 300 || timed_out == 0 {
            round += 1;
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
    });
}

#[test]
fn shutdown_waits_for_the_function_of_a_task_that_has_timed_out() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (visitor, task) = visited(LIMIT, |visit, limit| executor.task(stand_at, visit).timeout(limit).submit());
        assert!(task.wait().unwrap_err().is_timed_out());
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
        let (visitor, task) =
            visited(LIMIT, |visit, limit| executor.task(stand_at, visit).stall_timeout(limit).submit());
        let error = task.wait().unwrap_err();
        assert!(error.silent_for().unwrap() >= LIMIT);
        let message = format!("task `stand_at #{}` stalled at 50 %, without a progress call for ", error.id());
        assert!(error.to_string().starts_with(&message), "{error}");
        visitor.gate.open();
        assert_eq!(visitor.heard.recv().unwrap(), Err(Cancelled));
    });
}

#[test]
fn calls_of_parts_and_of_other_threads_keep_a_task_alive() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let split = |input, progress: &Updater| check_for(input, &progress.split(1));
        never_stalls(|input, limit| executor.task(split, input).stall_timeout(limit).submit());
        let ask = |input, progress: &Updater| {
            keep_calling(input, || (!progress.is_cancelled()).then_some(()).ok_or(Cancelled))
        };
        never_stalls(|input, limit| executor.task(ask, input).stall_timeout(limit).submit());
        let share = |(time, file): (Duration, PathBuf), progress: &Updater| {
            // On a busy machine, it takes long until another thread runs, and until this one hears of its end.
            let (begun, shared) = (Instant::now(), progress.shared());
            let call = || shared.update(0).and_then(|()| shared.sleep(Duration::from_millis(1)));
            thread::scope(|scope| scope.spawn(|| Calls::make(begun, time, call)).join().unwrap()).tell(&file)
        };
        never_stalls(|input, limit| executor.task(share, input).stall_timeout(limit).submit());
    });
}

#[test]
fn calls_keep_an_observed_task_in_a_worker_alive() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let updates = Mutex::new(None);
        never_stalls(|input, limit| {
            let task = pool.task(check_for, input).stall_timeout(limit).submit();
            *updates.lock().unwrap() = Some(task.updates());
            task
        });
        let updates = updates.into_inner().unwrap().unwrap();
        assert_eq!(rest(updates).pop().unwrap().status, Status::Finished);
    });
}

// Cancelled, and too late.

#[test]
fn a_task_that_was_cancelled_and_does_not_listen_times_out() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        for is_dropped in [false, true] {
            let (visitor, task) = visited(LIMIT, |visit, limit| executor.task(stand_at, visit).timeout(limit).submit());
            let (updates, canceller) = (task.updates(), task.canceller());
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
        let file = NewFile::new();
        let task = pool.task(clean_up_slowly, file.path()).timeout(Duration::from_millis(10)).submit();
        assert!(task.wait().unwrap_err().is_timed_out());
        let next = pool.submit(process_id, ());
        assert!(!next.is_done(), "the future has not waited for the function");
        file.remove();
        assert_eq!(next.wait().unwrap(), worker);
    });
}

#[test]
fn a_worker_whose_task_takes_no_notice_of_its_limit_is_killed_after_the_grace() {
    within_deadline(|| {
        for kind in [TaskErrorKind::TimedOut, TaskErrorKind::Stalled] {
            with_time_enough(2 * LIMIT, |limit| {
                let pool = pool_with_grace(5 * limit);
                let worker = pool.submit(process_id, ()).wait().unwrap();
                let task = pool.task(spin, ()).retries(3);
                let task =
                    if kind == TaskErrorKind::TimedOut { task.timeout(limit) } else { task.stall_timeout(limit) };
                let task = task.submit();
                let next = pool.submit(process_id, ());
                let error = task.wait().unwrap_err();
                let has_waited = !has_process(worker);
                assert_eq!(error.kind(), &kind);
                // It was too late to see the worker alive, or the limit passed before the task made its last call.
                if has_waited || error.progress().message.is_none() {
                    return None;
                }
                assert_ne!(next.wait().unwrap(), worker);
                assert!(!has_process(worker));
                Some(())
            });
        }
    });
}

#[test]
fn a_pause_does_not_count_for_a_task_that_loses_its_worker() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let file = NewFile::new();
        let task = pool.submit(announce_and_listen, (file.path(), file.path()));
        let worker = announced(&task, None);
        task.pause();
        wait_until(&task, Status::Paused);
        let paused = task.progress().elapsed;
        let_another_task_run();
        kill(worker);
        let error = task.wait().unwrap_err();
        assert!(error.is_worker_lost() && error.progress().elapsed == paused, "{paused:?}: {error:?}");
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
                // Longer than the task is silent between its calls.
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
        const LONG: Duration = Duration::from_secs(1);
        let executor = ThreadPoolExecutor::new(2);
        let (late, visit) = visit();
        let cancelled = executor.submit(stand_at_and_check, visit);
        late.gate.wait();
        cancelled.cancel();
        let asked = Instant::now();
        with_time_enough(LONG + LONG / 4, |limit| {
            let (_later, timed_out) =
                visited(limit, |visit, limit| executor.task(stand_at, visit).timeout(limit).submit());
            // Its silence is known from the first time that it is asked for.
            timed_out.silent_for()?;
            let error = timed_out.wait().unwrap_err();
            let time = error.silent_for()?;
            let says_so = error.to_string().contains("timed out at 50 %, without a progress call for ");
            assert_eq!(says_so, time >= LONG, "{error}");
            (time >= LONG).then_some(())
        });
        eventually("both have taken long", || asked.elapsed() >= LONG);
        late.gate.open();
        let error = cancelled.wait().unwrap_err();
        let time = error.noticed_after().unwrap();
        assert!(time >= LONG, "{time:?}");
        assert!(error.to_string().contains(", noticed after "), "{error}");
    });
}
