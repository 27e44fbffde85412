//! Tasks of a thread pool that run on a pool thread which waits for them: they are like those that a thread has taken
//! from the queue.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use progress_executor::{ProgressFuture, Status, TaskGroup, TaskResult, ThreadPoolExecutor, Updater};

use crate::support::{gate, within_deadline};

const MANY: u64 = 100_000;

/// A pool of one thread, whose tasks are shown only when they start, when they first change and when they end.
fn pool() -> Arc<ThreadPoolExecutor> {
    let never = Duration::from_secs(3600);
    Arc::new(ThreadPoolExecutor::builder().max_workers(1).report_interval(never).build())
}

fn count_up((): (), progress: &Updater) -> TaskResult<thread::ThreadId> {
    for _ in 0..MANY {
        progress.update(1)?;
    }
    Ok(thread::current().id())
}

/// A task of the pool waits for another one in the given way. Returns how often the other one's callback was called.
fn calls_of_one_that_is_waited_for(
    wait: impl FnOnce(ProgressFuture<thread::ThreadId>) -> thread::ThreadId + Send + 'static,
) -> usize {
    within_deadline(|| {
        let pool = pool();
        let submitter = pool.clone();
        let calls = pool.spawn(move |_| {
            let calls = Arc::new(AtomicUsize::new(0));
            let counter = calls.clone();
            let task = submitter.submit(count_up, ());
            let task = task.on_progress(move |_, _| _ = counter.fetch_add(1, Ordering::SeqCst));
            let updates = task.updates();
            assert_eq!(wait(task), thread::current().id(), "it was run by another thread");
            let last = updates.try_recv()?;
            assert_eq!((last.n, updates.try_recv().is_err()), (MANY, true));
            Ok(calls.load(Ordering::SeqCst))
        });
        calls.wait().unwrap()
    })
}

#[test]
fn a_task_that_is_waited_for_calls_its_callbacks_once_an_interval() {
    let calls = calls_of_one_that_is_waited_for(|task| task.wait().unwrap());
    assert!((1..=3).contains(&calls), "{calls}");
    let calls = calls_of_one_that_is_waited_for(|task| smol::block_on(task).unwrap());
    assert!((1..=3).contains(&calls), "{calls}");
    let calls = calls_of_one_that_is_waited_for(|task| {
        let mut group = TaskGroup::new();
        group.add(task);
        group.join().wait().unwrap()[0]
    });
    assert!((1..=3).contains(&calls), "{calls}");
    let calls = calls_of_one_that_is_waited_for(|mut task| {
        task.add_progress_callback(|_, _| ());
        let mut group = TaskGroup::new();
        group.add(task);
        smol::block_on(group.next()).unwrap().1.unwrap()
    });
    assert!((1..=3).contains(&calls), "{calls}");
}

#[test]
fn a_group_is_shown_once_an_interval_while_its_tasks_are_run_by_who_joins_it() {
    within_deadline(|| {
        let pool = pool();
        let submitter = pool.clone();
        let shown = pool.spawn(move |_| {
            let shown = Arc::new(AtomicUsize::new(0));
            let counter = shown.clone();
            let mut group = TaskGroup::new();
            group.add_progress_callback(move |_, _| _ = counter.fetch_add(1, Ordering::SeqCst));
            for _ in 0..3 {
                group.add(submitter.submit(count_up, ()));
            }
            let threads = group.join().wait()?;
            assert!(threads.iter().all(|&thread| thread == thread::current().id()));
            Ok(shown.load(Ordering::SeqCst))
        });
        // For each task: its start, its first change and its end.
        let shown = shown.wait().unwrap();
        assert!((1..=12).contains(&shown), "{shown}");
    });
}

#[test]
fn others_are_shown_what_it_counted_before_it_fell_silent_and_that_it_is_paused() {
    within_deadline(|| {
        let interval = Duration::from_millis(50);
        let pool = Arc::new(ThreadPoolExecutor::builder().max_workers(1).report_interval(interval).build());
        let (submitter, (gate, barrier)) = (pool.clone(), gate());
        let (hand_out, handed_out) = mpsc::channel();
        let outer = pool.spawn(move |_| {
            let task = submitter.spawn(move |progress| {
                progress.set_counts(1, 5)?;
                progress.set_counts(5, 5)?;
                barrier.pass();
                progress.check()?;
                Ok(())
            });
            let task = task.on_progress(|_, _| ());
            let (mut group, updates) = (TaskGroup::new(), task.updates());
            group.add(task);
            hand_out.send((updates, group.handle()))?;
            Ok(group.join().wait().map(drop)?)
        });
        let (updates, handle) = handed_out.recv().unwrap();
        gate.wait();
        while updates.recv_blocking().unwrap().n < 5 {}
        handle.pause();
        gate.open();
        while updates.recv_blocking().unwrap().status != Status::Paused {}
        handle.resume();
        outer.wait().unwrap();
    });
}

#[test]
fn its_callbacks_are_shown_how_far_it_is_when_it_sleeps_and_that_it_is_paused() {
    within_deadline(|| {
        let interval = Duration::from_millis(50);
        let pool = Arc::new(ThreadPoolExecutor::builder().max_workers(1).report_interval(interval).build());
        let submitter = pool.clone();
        let outer = pool.spawn(move |_| {
            let mut group = TaskGroup::new();
            let (handle, shown) = (group.handle(), Arc::new(AtomicUsize::new(0)));
            let (pausing, seen) = (handle.clone(), shown.clone());
            let task = submitter.spawn(move |progress| {
                (0..3).try_for_each(|_| progress.update(1))?;
                progress.sleep(2 * interval)?;
                let seen = seen.load(Ordering::SeqCst);
                progress.update(1)?;
                pausing.pause();
                // Until the callback resumes it.
                progress.check()?;
                Ok(seen)
            });
            group.add(task.on_progress(move |_, new| {
                shown.store(usize::try_from(new.n).unwrap(), Ordering::SeqCst);
                if new.status == Status::Paused {
                    handle.resume();
                }
            }));
            Ok(group.join().wait()?)
        });
        assert_eq!(outer.wait().unwrap(), [3]);
    });
}
