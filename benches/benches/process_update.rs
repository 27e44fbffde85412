//! A task in a worker process that makes a progress call about every microsecond: what being observed by the program costs
//! the task.
//!
//! The task times itself. Its work is a fixed amount, not a fixed time, so that the result includes all that delays it.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use futures::StreamExt;
use futures::executor::block_on;
use indicatif::ProgressBar;
use progress_executor::{ExecutorExt, ProgressFuture, TaskRegistry, TaskResult, Triggers, Updater};
use progress_executor_benches::processes;
use progress_executor_benches::rounds::{Rounds, amount};

fn main() {
    processes::init(TaskRegistry::new().register(walk).register(walk_silently));
    compare("a progress call, of 5 000", 5_000, 100);
    compare("a progress call, of 200 000", 200_000, 15);
}

fn compare(title: &'static str, calls: u64, rounds: usize) {
    let mut table = Rounds::new(title);
    let calls = amount(calls as usize) as u64;
    let pool = processes::ours();
    table.add("unobserved", move || block_on(pool.submit(walk, calls)).expect("nobody cancels"));
    let pool = processes::ours();
    table.add("receiver, callback and bar", move || observe(pool.submit(walk, calls)));
    let pool = processes::ours();
    table.add("without the call", move || block_on(pool.submit(walk_silently, calls)).expect("nobody cancels"));
    table.run(amount(rounds));
}

fn observe(task: ProgressFuture<f64>) -> f64 {
    let task = task.on_progress(|old, new| _ = black_box((old.n, new.n))).with_bar(Triggers::NOW, ProgressBar::hidden);
    let updates = task.updates();
    let receiver = thread::spawn(move || block_on(updates.for_each(async |state| _ = black_box(state))));
    let nanos = block_on(task).expect("nobody cancels");
    receiver.join().expect("the receiver does not panic");
    nanos
}

fn walk(calls: u64, progress: &Updater) -> TaskResult<f64> {
    time(calls, || Ok(progress.update(1)?))
}

fn walk_silently(calls: u64, _: &Updater) -> TaskResult<f64> {
    time(calls, || Ok(()))
}

/// Returns nanoseconds per call.
fn time(calls: u64, mut call: impl FnMut() -> TaskResult<()>) -> TaskResult<f64> {
    let start = Instant::now();
    for n in 0..calls {
        work(n);
        call()?;
    }
    Ok(start.elapsed().as_nanos() as f64 / calls as f64)
}

/// Works for about a microsecond.
fn work(seed: u64) {
    const STEPS: usize = 700;
    black_box((0..STEPS).fold(seed, |x, _| (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)));
}
