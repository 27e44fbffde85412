//! Rayon's parallel iterators over small items, counted and not.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use indicatif::ProgressBar;
use progress_executor::{ThreadPoolExecutor, Updater};
use progress_executor_benches::pools::WORKERS;
use progress_executor_benches::rounds::{Rounds, amount};
use rayon::prelude::*;

const ITEMS: usize = 2_000_000;
/// Enough items for variants that cost many times as much.
const FEW: usize = 200_000;

fn main() {
    // A `&Updater` is not `Send`, as `ThreadPool::install` would require, so the global pool is used.
    rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build_global().expect("threads can be started");
    let mut table = Rounds::new("an item of ten steps");
    add(&mut table, "rayon, bare", ITEMS, |items, _| items.map(ten_steps).sum());
    add(&mut table, "ours, par_iter", ITEMS, |items, progress| {
        progress.par_iter(items).map(|n| n.map_or(0, ten_steps)).sum()
    });
    add(&mut table, "ours, shared().update", ITEMS, |items, progress| {
        let shared = progress.shared();
        items.map(|n| if shared.update(1).is_ok() { ten_steps(n) } else { 0 }).sum()
    });
    add(&mut table, "fetch_add", ITEMS, |items, _| {
        let count = AtomicU64::new(0);
        items.map(|n| ten_steps(n) + count.fetch_add(1, Ordering::Relaxed)).sum()
    });
    add(&mut table, "indicatif", FEW, |items, _| {
        let bar = ProgressBar::hidden();
        items.inspect(|_| bar.inc(1)).map(ten_steps).sum()
    });
    table.run(amount(25));
}

type Items = rayon::range::Iter<u64>;

/// Nanoseconds per item, on two threads.
fn add(table: &mut Rounds, name: &'static str, items: usize, run: fn(Items, &Updater) -> u64) {
    let pool = ThreadPoolExecutor::new(1);
    table.add(name, move || {
        let items = amount(items);
        let task = pool.spawn(move |progress| {
            let start = Instant::now();
            black_box(run((0..items as u64).into_par_iter(), progress));
            Ok(start.elapsed().as_nanos() as f64 / items as f64)
        });
        task.wait().expect("nobody cancels")
    });
}

/// Collatz steps.
#[inline(always)]
fn ten_steps(n: u64) -> u64 {
    (0..10).fold(black_box(n | 1), |x, _| if x % 2 == 0 { x / 2 } else { x.wrapping_mul(3) + 1 })
}
