//! A million trivial tasks, all submitted before the first is awaited.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use futures::executor::block_on;
use progress_executor_benches::pools::{Measure, Pool, add_all, limit_blocking};
use progress_executor_benches::rounds::{Rounds, amount};

fn main() {
    limit_blocking();
    let tasks = amount(1_000_000) as u64;
    let mut table = Rounds::new("one of a million tasks");
    table.add("allocation through a channel", move || allocations(tasks));
    add_all(&mut table, Flood { tasks });
    table.run(amount(15));
}

#[derive(Clone, Copy)]
struct Flood {
    tasks: u64,
}

impl Measure for Flood {
    fn measure(self, pool: &impl Pool) -> f64 {
        let start = Instant::now();
        let futures: Vec<_> = (0..self.tasks).map(|n| pool.spawn(move || n)).collect();
        let sum = futures.into_iter().map(block_on).sum::<u64>();
        assert_eq!(sum, (0..self.tasks).sum::<u64>());
        start.elapsed().as_nanos() as f64 / self.tasks as f64
    }
}

/// The minimum of work: an allocation for each task, which another thread writes to.
fn allocations(tasks: u64) -> f64 {
    let start = Instant::now();
    let (sender, receiver) = mpsc::channel::<Arc<AtomicU64>>();
    let worker = thread::spawn(move || receiver.into_iter().for_each(|slot| slot.store(1, Ordering::Release)));
    let slots: Vec<_> = (0..tasks).map(|_| Arc::new(AtomicU64::new(0))).collect();
    for slot in &slots {
        sender.send(slot.clone()).expect("the worker receives until the end");
    }
    for slot in slots {
        while slot.load(Ordering::Acquire) == 0 {
            hint::spin_loop();
        }
    }
    let nanos = start.elapsed().as_nanos() as f64 / tasks as f64;
    drop(sender);
    worker.join().expect("the worker does not panic");
    nanos
}
