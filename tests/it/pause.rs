//! Pausing: in the queue, in a progress call, and what else happens meanwhile.

use std::mem;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use progress_executor::{
    ExecutorExt, Job, ProgressFuture, Status, SyncExecutor, TaskGroup, TaskResult, ThreadPoolExecutor, Updater,
    executor_fn,
};

use crate::support::{Hand, busy_pool, eventually, gate, let_another_task_run, with_time_enough, within_deadline};

/// A task that was paused in the queue of a busy pool, and whose turn has come since.
fn held_task() -> (ThreadPoolExecutor, ProgressFuture<u32>) {
    let (executor, gate) = busy_pool();
    let held = executor.spawn(|_| Ok(1));
    held.pause();
    gate.open();
    executor.spawn(|_| Ok(2)).wait().unwrap();
    (executor, held)
}

fn tick_forever(progress: &Updater) -> TaskResult<()> {
    loop {
        progress.update(1)?;
    }
}

#[test]
fn a_task_paused_in_the_queue_leaves_its_place_to_others() {
    within_deadline(|| {
        let (_executor, mut held) = held_task();
        let hand = Hand::new();
        assert_eq!(held.progress().status, Status::Paused);
        assert_eq!(held.progress().elapsed, Duration::ZERO);
        assert!(hand.poll(&mut held).is_pending());
        held.resume();
        assert_eq!(held.wait().unwrap(), 1);
    });
}

#[test]
fn a_task_resumed_before_its_turn_keeps_its_place() {
    within_deadline(|| {
        let (executor, gate) = busy_pool();
        let (order, ended) = mpsc::channel();
        let tasks: Vec<_> = (0..3)
            .map(|n| {
                let order = order.clone();
                executor.spawn(move |_| Ok(order.send(n)?))
            })
            .collect();
        tasks[0].pause();
        tasks[0].pause();
        tasks[0].resume();
        gate.open();
        for task in tasks {
            task.wait().unwrap();
        }
        assert_eq!(ended.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    });
}

#[test]
fn a_held_task_that_is_cancelled_never_runs() {
    within_deadline(|| {
        let (_executor, held) = held_task();
        held.cancel();
        assert!(held.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_held_task_survives_its_executor() {
    within_deadline(|| {
        let (executor, held) = held_task();
        drop(executor);
        held.resume();
        assert_eq!(held.wait().unwrap(), 1);
    });
}

#[test]
fn detaching_and_waiting_resume_a_held_task() {
    within_deadline(|| {
        let (_executor, held) = held_task();
        assert_eq!(held.wait().unwrap(), 1);

        let (_executor, held) = held_task();
        let updates = held.updates();
        held.detach();
        let last = smol::block_on(futures::StreamExt::collect::<Vec<_>>(updates)).pop().unwrap();
        assert_eq!(last.status, Status::Finished);
    });
}

#[test]
fn shutdown_waits_for_a_held_task_and_shutdown_now_cancels_it() {
    within_deadline(|| {
        let (executor, held) = held_task();
        let mut shutdown = executor.shutdown();
        let hand = Hand::new();
        assert_eq!(hand.poll(&mut shutdown), Poll::Pending);
        held.resume();
        shutdown.wait();
        assert_eq!(held.wait().unwrap(), 1);

        let (executor, held) = held_task();
        executor.shutdown_now().wait();
        assert!(held.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_task_paused_while_it_runs_waits_in_its_next_progress_call_with_its_clock_stopped() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let task = executor.spawn(tick_forever);
        eventually("the task runs", || task.progress().n > 0);
        task.pause();
        eventually("the task waits", || task.progress().status == Status::Paused);
        let paused = task.progress();
        let_another_task_run();
        assert_eq!(task.progress(), paused);
        task.resume();
        eventually("the task goes on", || task.progress().n > paused.n);
        let resumed = task.progress();
        assert_eq!(resumed.status, Status::Running);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn observers_see_pausing_and_resuming() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::builder().report_interval(Duration::from_millis(1)).build();
        let task = executor.spawn(tick_forever);
        let updates = task.updates();
        let see = |status: Status| smol::block_on(async { while updates.recv().await.unwrap().status != status {} });
        see(Status::Running);
        task.pause();
        see(Status::Paused);
        task.resume();
        see(Status::Running);
        task.cancel();
        see(Status::Cancelled);
        assert!(task.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_task_paused_while_it_sleeps_waits_until_it_is_resumed() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        // Again if it has slept enough before it was paused.
        let task = with_time_enough(Duration::from_millis(20), |time| {
            let task = executor.spawn(move |progress| {
                progress.update(1)?;
                Ok(progress.sleep(time)?)
            });
            eventually("it is about to sleep", || task.progress().n == 1);
            task.pause();
            eventually("it waits, or has slept enough", || {
                matches!(task.progress().status, Status::Paused | Status::Finished)
            });
            // By now it would have slept enough.
            thread::sleep(2 * time);
            (!task.is_done()).then_some(task)
        });
        assert_eq!(task.progress().status, Status::Paused);
        task.resume();
        task.wait().unwrap();
    });
}

#[test]
fn an_inline_task_that_is_resumed_wakes_its_future() {
    let executor = SyncExecutor::new();
    let mut task = executor.spawn(|_| Ok(1));
    let hand = Hand::new();
    task.pause();
    assert!(hand.poll(&mut task).is_pending());
    assert_eq!(hand.wakes(), 0);
    task.resume();
    assert_eq!(hand.wakes(), 1);
    assert!(matches!(hand.poll(&mut task), Poll::Ready(Ok(1))));
}

#[test]
fn a_job_that_is_paused_gives_its_thread_back_when_it_is_cancelled() {
    within_deadline(|| {
        for round in 0..100 {
            let (send, threads) = mpsc::channel();
            let (gate, barrier) = gate();
            let barrier = std::sync::Mutex::new(Some(barrier));
            let executor = executor_fn(move |job: Job| {
                let barrier = barrier.lock().unwrap().take().unwrap();
                let run = move || {
                    barrier.pass();
                    job.run();
                };
                send.send(thread::spawn(run)).unwrap();
            });
            let task = executor.submit(|n: u32, _: &Updater| Ok(n), 7);
            task.pause();
            gate.wait();
            gate.open();
            let thread = threads.recv().unwrap();
            // The thread is on its way into the wait, or in it: either way it must end. On a busy machine, each of these takes
            // its time.
            for _ in 0..round % 10 {
                thread::yield_now();
            }
            if round % 2 == 0 {
                drop(task);
            } else {
                task.cancel();
                assert!(task.wait().unwrap_err().is_cancelled());
            }
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_job_that_is_paused_blocks_the_thread_that_runs_it() {
    within_deadline(|| {
        let (send, jobs) = mpsc::channel();
        let send = std::sync::Mutex::new(send);
        let executor = executor_fn(move |job: Job| send.lock().unwrap().send(job).unwrap());
        let task = executor.submit(|n: u32, _: &Updater| Ok(n), 7);
        task.pause();
        let thread = thread::spawn(move || jobs.recv().unwrap().run());
        let_another_task_run();
        assert!(!task.is_done() && !thread.is_finished());
        task.resume();
        thread.join().unwrap();
        assert_eq!(task.wait().unwrap(), 7);
    });
}

#[test]
fn a_callback_is_shown_the_pause_of_a_task_that_runs_where_it_is_polled() {
    within_deadline(|| {
        let task = SyncExecutor::new().spawn(|progress| {
            progress.update(1)?;
            Ok(progress.update(1)?)
        });
        let mut group = TaskGroup::new();
        let handle = group.handle();
        let (pausing, seen, mut was_paused) = (handle.clone(), mpsc::channel(), false);
        group.add(task.on_progress(move |_, new| {
            let _ = seen.0.send(new.status);
            match (new.n, new.status) {
                (1, Status::Running) if !mem::replace(&mut was_paused, true) => pausing.pause(),
                // Nobody else would.
                (_, Status::Paused) => pausing.resume(),
                _ => {}
            }
        }));
        group.join().wait().unwrap();
        let seen: Vec<_> = seen.1.try_iter().collect();
        assert_eq!(seen.iter().filter(|status| **status == Status::Paused).count(), 1, "{seen:?}");
        assert_eq!(seen.last(), Some(&Status::Finished));
    });
}
