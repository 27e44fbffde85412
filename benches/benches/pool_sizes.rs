//! One trivial task at a time, on pools whose other threads all sleep.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use futures::executor::block_on;
use progress_executor::ThreadPoolExecutor;
use progress_executor_benches::rounds::{Rounds, amount, time_each};

fn main() {
    compare("round trip, by the size of the pool", 200, 50, Duration::ZERO);
    compare("the same after 2 ms of rest", 60, 8, Duration::from_millis(2));
    let mut table = Rounds::new("submits to a new pool");
    table.add("the first", || fresh(0));
    table.add("the second", || fresh(1));
    table.add("the third", || fresh(2));
    table.run(amount(300));
}

fn compare(title: &'static str, rounds: usize, trips: usize, rest: Duration) {
    let mut table = Rounds::new(title);
    for (name, workers) in [("1 thread", 1), ("2 threads", 2), ("8 threads", 8), ("32 threads", 32)] {
        let pool = started(workers);
        table.add(name, move || time_each(trips, rest, || trip(&pool)));
    }
    table.run(amount(rounds));
}

fn trip(pool: &ThreadPoolExecutor) {
    black_box(block_on(pool.spawn(|_| Ok(black_box(1_u64))))).expect("the task returns a value");
}

/// A pool with all of its threads started.
fn started(workers: usize) -> ThreadPoolExecutor {
    let pool = ThreadPoolExecutor::new(workers);
    let barrier = Arc::new(Barrier::new(workers));
    let tasks = (0..workers).map(|_| {
        let barrier = barrier.clone();
        pool.spawn(move |_| Ok(barrier.wait().is_leader()))
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        task.wait().expect("the task returns a value");
    }
    pool
}

/// The time of a task on a new pool, after `others` other tasks, one at a time.
fn fresh(others: usize) -> f64 {
    let pool = ThreadPoolExecutor::new(2);
    for _ in 0..others {
        trip(&pool);
    }
    time_each(1, Duration::ZERO, || trip(&pool))
}
