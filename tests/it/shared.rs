//! Counting from several threads of a task.

use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt;
use progress_executor::{
    Cancelled, ProgressFuture, ProgressState, SharedUpdater, Status, SyncExecutor, TaskResult, ThreadPoolExecutor,
    Updater,
};

use crate::support::{eventually, gate, let_another_task_run, within_deadline};

/// Calls `work` on this many threads of a task, and returns their results.
fn on_threads<R: Send>(threads: usize, shared: &SharedUpdater, work: impl Fn(&SharedUpdater) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(shared))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A task that ends when each of its threads has noticed the cancellation.
fn threads_for_ever(threads: usize) -> ProgressFuture<Vec<Cancelled>> {
    ThreadPoolExecutor::new(1).spawn(move |progress| {
        Ok(on_threads(threads, &progress.shared(), |shared| {
            loop {
                if let Err(cancelled) = shared.update(1) {
                    return cancelled;
                }
            }
        }))
    })
}

/// Everything that a callback sees of a task.
fn seen(task: impl FnOnce(&Updater) -> TaskResult<()> + Send + 'static) -> Vec<ProgressState> {
    let (send, seen) = mpsc::channel();
    let task = SyncExecutor::new().spawn(task);
    task.on_progress(move |_, new| send.send(new.clone()).unwrap()).wait().unwrap();
    seen.try_iter().collect()
}

fn counts(task: impl FnOnce(&Updater) -> TaskResult<()> + Send + 'static) -> Vec<u64> {
    let mut counts: Vec<_> = seen(task).iter().map(|state| state.n).collect();
    counts.dedup();
    counts
}

/// The last state of a task that ends with a value.
fn last<T: Send + 'static>(mut task: ProgressFuture<T>) -> ProgressState {
    let outcome = smol::block_on(&mut task);
    assert!(outcome.is_ok());
    task.progress()
}

#[test]
fn threads_count_together() {
    within_deadline(|| {
        for threads in [1, 4, 100] {
            let task = ThreadPoolExecutor::new(1).spawn(move |progress| {
                progress.update(1)?;
                let shared = progress.shared();
                on_threads(threads, &shared, |shared| (0..1000).try_for_each(|_| shared.update(2)))
                    .into_iter()
                    .collect::<Result<(), _>>()?;
                Ok(progress.update(1)?)
            });
            assert_eq!(last(task).n, 2 + threads as u64 * 2000);
        }
    });
}

#[test]
fn what_the_updater_counts_meanwhile_adds_up_with_it() {
    within_deadline(|| {
        let task = ThreadPoolExecutor::new(1).spawn(|progress| {
            let shared = progress.shared();
            thread::scope(|scope| {
                let threads = [shared.clone(), shared]
                    .map(|shared| scope.spawn(move || (0..20_000).try_for_each(|_| shared.update(1))));
                (0..20_000).try_for_each(|_| progress.update(1))?;
                threads.into_iter().try_for_each(|thread| thread.join().unwrap())
            })?;
            Ok(())
        });
        assert_eq!(last(task).n, 60_000);
    });
}

#[test]
fn every_count_is_shown_to_the_callbacks_of_an_inline_task() {
    let seen = counts(|progress| {
        let shared = progress.shared();
        shared.update(2)?;
        progress.update(1)?;
        shared.update(3)?;
        Ok(())
    });
    assert_eq!(seen, [0, 2, 3, 6]);
}

#[test]
fn a_position_that_is_set_includes_what_others_have_counted() {
    let seen = counts(|progress| {
        let shared = progress.shared();
        progress.update(1)?;
        shared.update(5)?;
        progress.set_position(8)?;
        shared.update(1)?;
        progress.set_position(2)?; // Less than what others have counted.
        shared.update(1)?;
        progress.set_counts(4, 9)?;
        shared.update(1)?;
        progress.set_position(0)?;
        Ok(())
    });
    assert_eq!(seen, [0, 1, 6, 8, 9, 2, 3, 4, 5, 0]);
}

#[test]
fn an_iterator_starts_from_nothing_whatever_others_have_counted() {
    let seen = seen(|progress| {
        let shared = progress.shared();
        shared.update(50)?;
        for item in progress.iter(0..3) {
            item?;
        }
        Ok(())
    });
    let counts: Vec<_> = seen.iter().filter(|state| state.total.is_some()).map(|state| state.n).collect();
    assert_eq!(counts, [0, 1, 2, 3, 3]);
}

#[test]
fn a_part_is_worth_no_more_than_others_have_left() {
    let seen = counts(|progress| {
        progress.set_total(10);
        progress.shared().update(7)?;
        let part = progress.split(5);
        part.set_counts(1, 3)?;
        drop(part);
        Ok(())
    });
    assert_eq!(seen, [0, 7, 8, 10]);
}

#[test]
fn handles_made_at_different_times_count_in_the_same_place() {
    let seen = counts(|progress| {
        let first = progress.shared();
        first.update(1)?;
        let second = progress.shared();
        second.update(1)?;
        first.clone().update(1)?;
        drop(first);
        progress.set_position(7)?;
        second.update(1)?;
        Ok(())
    });
    assert_eq!(seen, [0, 1, 2, 3, 7, 8]);
}

#[test]
fn cancellation_ends_all_threads() {
    within_deadline(|| {
        let task = threads_for_ever(3);
        eventually("the task runs", || task.progress().n > 0);
        let canceller = task.canceller();
        canceller.cancel();
        assert_eq!(task.wait().unwrap().len(), 3);
        assert!(canceller.is_acknowledged());
    });
}

#[test]
fn a_pause_halts_all_threads_and_one_resume_lets_them_go_on() {
    within_deadline(|| {
        let (send, went_on) = mpsc::channel();
        let (gates, barriers): (Vec<_>, Vec<_>) = (0..4).map(|_| gate()).unzip();
        let task = ThreadPoolExecutor::new(1).spawn(move |progress| {
            let shared = progress.shared();
            thread::scope(|scope| {
                for barrier in barriers {
                    let (shared, send) = (shared.clone(), send.clone());
                    scope.spawn(move || {
                        barrier.pass();
                        send.send(shared.update(1)).unwrap();
                    });
                }
            });
            Ok(())
        });
        gates.iter().for_each(|gate| gate.wait());
        task.pause();
        gates.iter().for_each(|gate| gate.open());
        eventually("all threads have counted", || task.progress().n == 4);
        eventually("the task waits", || task.progress().status == Status::Paused);
        let paused = task.progress();
        let_another_task_run();
        assert_eq!(went_on.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(task.progress(), paused, "neither its counts nor its clock go on");
        task.resume();
        assert_eq!(went_on.iter().collect::<Vec<_>>(), [Ok(()); 4]);
        let end = last(task);
        assert_eq!((end.n, end.status), (4, Status::Finished));
        assert!(end.elapsed > paused.elapsed && end.elapsed < paused.elapsed + Duration::from_secs(60));
    });
}

#[test]
fn the_clock_goes_on_when_all_threads_do_and_stands_while_one_waits() {
    within_deadline(|| {
        let task = threads_for_ever(3);
        for _ in 0..100 {
            task.pause();
            eventually("the task waits", || task.progress().status == Status::Paused);
            let paused = task.progress();
            thread::yield_now();
            assert_eq!(task.progress().elapsed, paused.elapsed);
            task.resume();
            eventually("the task goes on", || {
                let state = task.progress();
                state.status == Status::Running && state.n > paused.n && state.elapsed > paused.elapsed
            });
        }
        task.cancel();
        assert_eq!(task.wait().unwrap().len(), 3);
    });
}

#[test]
fn the_time_of_a_pause_counts_once_however_many_threads_wait() {
    within_deadline(|| {
        let task = threads_for_ever(4);
        eventually("the task runs", || task.progress().n > 0);
        task.pause();
        eventually("the task waits", || task.progress().status == Status::Paused);
        let paused = task.progress().elapsed;
        let_another_task_run();
        let resumed = Instant::now();
        task.resume();
        eventually("the task goes on", || task.progress().elapsed > paused);
        let elapsed = task.progress().elapsed;
        assert!(elapsed <= paused + resumed.elapsed(), "{elapsed:?}, of which {paused:?} before the pause");
        task.cancel();
        task.wait().unwrap();
    });
}

#[test]
fn cancellation_wakes_all_threads_of_a_paused_task() {
    within_deadline(|| {
        let task = threads_for_ever(3);
        eventually("the task runs", || task.progress().n > 0);
        task.pause();
        eventually("the task waits", || task.progress().status == Status::Paused);
        task.cancel();
        assert_eq!(task.wait().unwrap().len(), 3);
    });
}

#[test]
fn a_task_whose_threads_wait_may_end() {
    within_deadline(|| {
        let (send, threads) = mpsc::channel();
        let (gate, barrier) = gate();
        let mut task = ThreadPoolExecutor::new(1).spawn(move |progress| {
            let shared = progress.shared();
            send.send(thread::spawn(move || {
                loop {
                    if let Err(cancelled) = shared.update(1) {
                        return cancelled;
                    }
                }
            }))?;
            barrier.pass();
            Ok(())
        });
        gate.wait();
        task.pause();
        eventually("the task waits", || task.progress().status == Status::Paused);
        let paused = task.progress();
        gate.open();
        // The task is not polled: a poll would not resume it, and it can end without one.
        eventually("the task ends", || task.is_done());
        assert_eq!(threads.recv().unwrap().join().unwrap(), Cancelled);
        smol::block_on(&mut task).unwrap();
        let mut finished = paused;
        finished.status = Status::Finished;
        assert_eq!(task.progress(), finished);
    });
}

#[test]
fn a_handle_that_outlives_its_task_counts_for_nothing() {
    fn give_away(send: mpsc::Sender<SharedUpdater>) -> impl FnOnce(&Updater) -> TaskResult<()> {
        move |progress| {
            let shared = progress.shared();
            shared.update(3)?;
            Ok(send.send(shared)?)
        }
    }
    within_deadline(|| {
        for is_inline in [true, false] {
            let (send, handles) = mpsc::channel();
            let mut task = match is_inline {
                true => SyncExecutor::new().spawn(give_away(send)),
                false => ThreadPoolExecutor::new(1).spawn(give_away(send)),
            };
            smol::block_on(&mut task).unwrap();
            let (end, shared) = (task.progress(), handles.recv().unwrap());
            assert_eq!((end.n, end.status), (3, Status::Finished));
            assert!(shared.is_cancelled());
            shared.set_message("too late");
            assert_eq!(shared.update(1), Err(Cancelled));
            assert_eq!(shared.check(), Err(Cancelled));
            assert_eq!(shared.sleep(Duration::MAX), Err(Cancelled));
            assert_eq!(shared.clone().update(1), Err(Cancelled));
            assert_eq!(task.progress(), end);
            drop(task);
            assert_eq!(shared.update(1), Err(Cancelled));
        }
    });
}

#[test]
fn a_thread_that_is_left_behind_is_told_to_end() {
    within_deadline(|| {
        let (send, threads) = mpsc::channel();
        let task = ThreadPoolExecutor::new(1).spawn(move |progress| {
            let (shared, asleep) = (progress.shared(), progress.shared());
            send.send(thread::spawn(move || while shared.update(1).is_ok() {}))?;
            send.send(thread::spawn(move || assert_eq!(asleep.sleep(Duration::MAX), Err(Cancelled))))?;
            Ok(())
        });
        let end = last(task);
        threads.iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(end.status, Status::Finished);
    });
}

#[test]
fn a_handle_of_a_part_counts_for_the_part() {
    let states = seen(|progress| {
        progress.set_total(10);
        let part = progress.split(5);
        let shared = part.shared();
        part.set_total(4);
        shared.update(2)?;
        part.update(1)?;
        part.set_position(2)?;
        shared.update(1)?;
        progress.shared().update(1)?;
        drop(part);
        shared.update(100)?;
        Ok(progress.set_position(10)?)
    });
    let mut positions: Vec<_> = states.iter().map(|state| (state.n, state.part)).collect();
    positions.dedup();
    assert_eq!(positions, [(0, 0.0), (2, 0.5), (3, 0.75), (2, 0.5), (3, 0.75), (4, 0.75), (6, 0.0), (10, 0.0)]);
}

#[test]
fn every_thread_may_have_a_part_with_threads_of_its_own() {
    within_deadline(|| {
        let task = ThreadPoolExecutor::new(1).spawn(|progress| {
            progress.set_total(3);
            let parts = [(); 3].map(|()| progress.split(1));
            thread::scope(|scope| {
                let threads = parts.map(|part| {
                    scope.spawn(move || {
                        part.set_total(2000);
                        on_threads(2, &part.shared(), |shared| (0..1000).try_for_each(|_| shared.update(1)))
                            .into_iter()
                            .collect::<Result<(), _>>()?;
                        part.update(1)
                    })
                });
                threads.into_iter().try_for_each(|thread| thread.join().unwrap())
            })?;
            Ok(())
        });
        assert_eq!(last(task).fraction(), Some(1.0));
    });
}

#[test]
fn callbacks_of_an_inline_task_stay_on_the_thread_that_polls() {
    within_deadline(|| {
        let here = thread::current().id();
        let (send, seen) = mpsc::channel();
        let task = SyncExecutor::new().spawn(|progress| {
            let shared = progress.shared();
            on_threads(3, &shared, |shared| (0..1000).try_for_each(|_| shared.update(1)))
                .into_iter()
                .collect::<Result<(), _>>()?;
            Ok(progress.update(1)?)
        });
        let task = task.on_progress(move |old, new| {
            assert_eq!(thread::current().id(), here);
            assert!(old.n <= new.n);
            send.send(new.n).unwrap();
        });
        assert_eq!(last(task).n, 3001);
        assert_eq!(seen.try_iter().last(), Some(3001));
    });
}

#[test]
fn a_callback_may_count_too() {
    within_deadline(|| {
        let (send, handles) = mpsc::channel::<SharedUpdater>();
        let task = SyncExecutor::new().spawn(move |progress| {
            send.send(progress.shared())?;
            progress.update(1)?;
            Ok(progress.update(1)?)
        });
        let task = task.on_progress(move |_, _| handles.try_iter().for_each(|shared| shared.update(10).unwrap()));
        assert_eq!(last(task).n, 12);
    });
}

#[test]
fn observers_see_the_counts_of_many_threads_in_order_and_exact_at_the_end() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::builder().report_interval(Duration::from_micros(100)).build();
        let task = executor.spawn(|progress| {
            progress.set_total(80_000);
            let shared = progress.shared();
            let counted = on_threads(4, &shared, |shared| (0..20_000).try_for_each(|_| shared.update(1)));
            Ok(counted.into_iter().collect::<Result<(), _>>()?)
        });
        let updates = task.updates();
        let reader = thread::spawn(move || smol::block_on(updates.collect::<Vec<_>>()));
        let mut looked_at = Vec::new();
        while !task.is_done() {
            looked_at.push(task.progress().n);
        }
        task.wait().unwrap();
        let states = reader.join().unwrap();
        for pair in states.windows(2) {
            assert!(pair[0].n <= pair[1].n && pair[0].elapsed <= pair[1].elapsed, "goes back: {pair:?}");
        }
        assert!(looked_at.windows(2).all(|pair| pair[0] <= pair[1]));
        let end = states.last().unwrap();
        assert_eq!((end.n, end.fraction(), end.status), (80_000, Some(1.0), Status::Finished));
    });
}

#[test]
fn a_handle_knows_the_deadline_of_its_task() {
    within_deadline(|| {
        let same = |(): (), progress: &Updater| {
            let deadline = progress.deadline();
            assert_eq!(progress.shared().deadline(), deadline);
            assert_eq!(progress.split(1).shared().deadline(), deadline);
            Ok(deadline)
        };
        let (executor, start) = (ThreadPoolExecutor::new(1), Instant::now());
        let limit = Duration::from_secs(3600);
        let deadline = executor.task(same, ()).timeout(limit).submit().wait().unwrap().unwrap();
        assert!((start + limit..Instant::now() + limit).contains(&deadline));
        assert_eq!(executor.submit(same, ()).wait().unwrap(), None);
    });
}

#[test]
fn a_handle_speaks_for_its_task() {
    let task = SyncExecutor::new().spawn(|progress| {
        let shared = progress.shared();
        shared.set_message("reading");
        thread::scope(|scope| scope.spawn(|| shared.set_message(format!("file {}", 1))).join().unwrap());
        Ok(())
    });
    assert_eq!(last(task).message.as_deref(), Some("file 1"));
}

#[test]
fn a_handle_sleeps_until_its_time_has_passed_or_the_task_is_cancelled() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = ThreadPoolExecutor::new(1).spawn(move |progress| {
            let (shared, start) = (progress.shared(), Instant::now());
            shared.sleep(Duration::from_millis(2))?;
            assert!(start.elapsed() >= Duration::from_millis(2));
            assert!(!shared.is_cancelled());
            barrier.pass();
            let slept = on_threads(3, &shared, |shared| shared.sleep(Duration::MAX));
            assert!(shared.is_cancelled());
            Ok(slept)
        });
        gate.wait();
        gate.open();
        task.cancel();
        assert_eq!(task.wait().unwrap(), [Err(Cancelled); 3]);
    });
}

#[test]
fn the_last_total_stays_whoever_sets_it() {
    let task = ThreadPoolExecutor::new(1).spawn(|progress| {
        progress.set_total(10);
        let shared = progress.shared();
        on_threads(2, &shared, |shared| shared.set_total(20));
        shared.update(1)?;
        Ok(())
    });
    assert_eq!(last(task).total, Some(20));

    let totals = seen(|progress| {
        let shared = progress.shared();
        shared.set_total(20);
        progress.set_total(30);
        shared.set_total(40);
        progress.set_counts(5, 50)?;
        drop(shared);
        progress.set_position(6)?;
        Ok(())
    });
    let mut totals: Vec<_> = totals.iter().filter_map(|state| state.total).collect();
    totals.dedup();
    assert_eq!(totals, [20, 30, 40, 50]);
}

#[test]
fn a_total_that_a_thread_has_set_outlives_the_sharing() {
    let task = SyncExecutor::new().spawn(|progress| {
        let shared = progress.shared();
        shared.set_total(20);
        drop(shared);
        // From here on, nothing is shared any more.
        progress.set_position(5)?;
        Ok(())
    });
    let last = last(task);
    assert_eq!((last.n, last.total), (5, Some(20)));
}

#[test]
fn threads_set_the_total_of_a_part() {
    let counts = counts(|progress| {
        progress.set_total(100);
        let part = progress.split(50);
        let shared = part.shared();
        shared.set_total(10);
        shared.update(5)?;
        Ok(())
    });
    assert!(counts.contains(&25), "{counts:?}");
}
