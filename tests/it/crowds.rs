//! Very many observers of one task, some of them gone.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use progress_executor::{ProgressFuture, ProgressState, Status, TaskGroup, ThreadPoolExecutor};

use crate::support::{Gate, eventually, gate, within_deadline};

/// A task that has set a message and is silent until the gate opens.
fn silent(pool: &ThreadPoolExecutor) -> (ProgressFuture<()>, Gate) {
    let (gate, barrier) = gate();
    let task = pool.spawn(move |progress| {
        progress.set_message("a message that each snapshot of it holds on to");
        barrier.pass();
        Ok(progress.update(1)?)
    });
    gate.wait();
    (task, gate)
}

/// Notes which threads have woken it.
#[derive(Default)]
struct WokenBy {
    threads: Mutex<Vec<ThreadId>>,
    count: AtomicUsize,
}

impl Wake for WokenBy {
    fn wake(self: Arc<Self>) {
        self.threads.lock().unwrap().push(thread::current().id());
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_task_with_ten_thousand_receivers_does_not_wake_them_itself() {
    const RECEIVERS: usize = 10_000;
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let (gate, barrier) = gate();
        let task = pool.spawn(move |progress| {
            for _ in 0..3 {
                barrier.pass();
                progress.update(1)?;
            }
            barrier.pass();
            Ok(thread::current().id())
        });
        gate.wait();
        let receivers: Vec<_> = (0..RECEIVERS).map(|_| task.updates()).collect();
        let woken = Arc::new(WokenBy::default());
        let waker = Waker::from(woken.clone());
        // Changes that come one after the other, and so before and after the timer has begun to look at the task.
        for round in 1..=3 {
            let mut changes: Vec<_> = receivers.iter().map(|updates| Box::pin(updates.recv())).collect();
            for change in &mut changes {
                while Pin::new(&mut *change).poll_unpin(&mut Context::from_waker(&waker)).is_ready() {
                    // A state from before.
                }
            }
            gate.open();
            eventually("all are woken", || woken.count.load(Ordering::SeqCst) >= round * RECEIVERS);
            gate.wait();
        }
        let threads = std::mem::take(&mut *woken.threads.lock().unwrap());
        gate.open();
        let own = task.wait().unwrap();
        assert!(threads.iter().all(|&thread| thread != own), "the task was held up");
        for updates in receivers {
            let last = smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap();
            assert_eq!((last.n, last.status), (3, Status::Finished));
        }
    });
}

/// How many snapshots have the message of this task.
fn snapshots(state: &ProgressState) -> usize {
    Arc::strong_count(state.message.as_ref().unwrap())
}

#[test]
fn receivers_that_were_dropped_while_the_task_is_silent_are_let_go_of() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let (mut task, gate) = silent(&pool);
        let state = task.progress();
        let before = snapshots(&state);
        for _ in 0..10_000 {
            drop(task.updates());
        }
        assert!(snapshots(&state) < before + 100, "{}", snapshots(&state));
        for _ in 0..10_000 {
            let id = task.add_progress_callback(|_, _| ());
            assert!(task.remove_progress_callback(id));
            drop(task.canceller());
        }
        assert!(snapshots(&state) < before + 100, "{}", snapshots(&state));
        // Receivers that stay are not taken for those that are gone.
        let kept: Vec<_> = (0..100).map(|_| task.updates()).collect();
        for _ in 0..10_000 {
            drop(task.updates());
        }
        assert!(snapshots(&state) < before + 1000, "{}", snapshots(&state));
        gate.open();
        task.wait().unwrap();
        for updates in kept {
            assert_eq!(smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap().status, Status::Finished);
        }
        // The thread that has shown the last snapshot lets go of it right after that.
        eventually("none is kept", || snapshots(&state) == 1);
    });
}

#[test]
fn groups_that_were_dropped_while_their_task_is_paused_are_let_go_of() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let (task, gate) = silent(&pool);
        let state = task.progress();
        task.pause();
        let mut group = TaskGroup::new();
        group.add(task);
        let before = snapshots(&state);
        for _ in 0..1000 {
            drop(group.updates());
            drop(group.handle().updates());
            group.pause();
            group.resume();
        }
        assert!(snapshots(&state) < before + 100, "{}", snapshots(&state));
        gate.open();
        group.join().wait().unwrap();
        eventually("nobody holds on to the task", || snapshots(&state) == 1);
    });
}

#[test]
fn the_timer_lets_go_of_tasks_that_have_ended() {
    const NEVER: Duration = Duration::from_secs(3600);
    within_deadline(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).report_interval(NEVER).build();
        let (gate, barrier) = gate();
        let task = pool.task(
            move |(), progress| {
                progress.set_message("a message that the task holds on to");
                barrier.pass();
                Ok(progress.update(1)?)
            },
            (),
        );
        let task = task.timeout(NEVER).stall_timeout(NEVER).submit();
        let updates = task.updates();
        gate.wait();
        let state = task.progress();
        gate.open();
        task.wait().unwrap();
        drop(updates);
        eventually("nobody holds on to the task", || snapshots(&state) == 1);
    });
}
