//! A parallel loop with one count: the same steps on one thread, and on each of two.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use indicatif::ProgressBar;
use progress_executor::ThreadPoolExecutor;
use progress_executor_benches::rounds::{Rounds, amount};

const MANY: usize = 10_000_000;
/// Enough steps for variants that cost many times as much.
const FEW: usize = 200_000;

fn main() {
    let mut table = Rounds::new("a step of a parallel loop");
    let count = |threads| {
        let pool = ThreadPoolExecutor::new(1);
        move || {
            let task = pool.spawn(move |progress| {
                let shared = progress.shared();
                Ok(walk(threads, MANY, || shared.update(1).is_ok()))
            });
            task.wait().expect("nobody cancels")
        }
    };
    table.add("ours, one thread", count(1));
    table.add("ours, each of two", count(2));
    for (name, threads) in [("bare loop, one thread", 1), ("bare loop, each of two", 2)] {
        table.add(name, move || walk(threads, MANY, || true));
    }
    for (name, threads) in [("fetch_add, one thread", 1), ("fetch_add, each of two", 2)] {
        table.add(name, move || {
            let counter = AtomicU64::new(0);
            walk(threads, FEW, || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX)
        });
    }
    for (name, threads) in [("indicatif, one thread", 1), ("indicatif, each of two", 2)] {
        table.add(name, move || {
            let bar = ProgressBar::hidden();
            walk(threads, FEW, || {
                bar.inc(1);
                true
            })
        });
    }
    table.run(amount(25));
}

/// Makes Collatz steps on each of `threads` threads, with a call at each step. Returns nanoseconds per step.
fn walk(threads: usize, steps: usize, call: impl Fn() -> bool + Sync) -> f64 {
    let steps = amount(steps);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut x = black_box(27_u64);
                for _ in 0..steps {
                    x = if x == 1 { 27 } else { step(x) };
                    if !call() {
                        break;
                    }
                }
                black_box(x)
            });
        }
    });
    start.elapsed().as_nanos() as f64 / steps as f64
}

#[inline(always)]
fn step(x: u64) -> u64 {
    if x % 2 == 0 { x / 2 } else { 3 * x + 1 }
}
