//! A progress call in a tight loop: one per step of the Collatz walks from `1..=starts`.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use futures::StreamExt;
use futures::executor::block_on;
use indicatif::ProgressBar;
use progress_executor::{Cancelled, ProgressFuture, ThreadPoolExecutor, Triggers, Updater};
use progress_executor_benches::rounds::{Rounds, amount};
use tokio_util::sync::CancellationToken;

/// Enough walks for several reports to observers.
const MANY: usize = 500_000;
/// Enough walks for variants that cost many times the bare loop.
const FEW: usize = 10_000;

fn main() {
    compare_calls();
    compare_iterators();
}

fn compare_calls() {
    let mut table = Rounds::new("a step and a progress call");
    add(&mut table, "bare loop", MANY, |starts, _| walk(starts, || Ok(())));
    add(&mut table, "ours", MANY, |starts, progress| walk(starts, || progress.update(1)));
    add_observed(&mut table, "ours, observed", MANY, |starts, progress| walk(starts, || progress.update(1)));
    add(&mut table, "fetch_add", FEW, |starts, _| {
        let counter = black_box(Box::new(AtomicU64::new(0)));
        walk(starts, || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    });
    add(&mut table, "prodash", FEW, |starts, _| {
        let item = prodash::tree::Root::new().add_child("walk");
        item.init(None, None);
        walk(starts, || {
            item.inc();
            Ok(())
        })
    });
    add(&mut table, "tokio-util is_cancelled", FEW, |starts, _| {
        let token = CancellationToken::new();
        walk(starts, || if token.is_cancelled() { Err(Cancelled) } else { Ok(()) })
    });
    add(&mut table, "Instant::now", FEW, |starts, _| {
        walk(starts, || {
            black_box(Instant::now());
            Ok(())
        })
    });
    add(&mut table, "indicatif", FEW, |starts, _| {
        let bar = ProgressBar::hidden();
        walk(starts, || {
            bar.inc(1);
            Ok(())
        })
    });
    table.run(amount(40));
}

fn compare_iterators() {
    let mut table = Rounds::new("a step as an item");
    add(&mut table, "bare iterator", MANY, |starts, _| walk_along((0..starts * 100).map(Ok)));
    add(&mut table, "ours", MANY, |starts, progress| walk_along(progress.iter(0..starts * 100)));
    table.run(amount(40));
}

type Work = fn(u64, &Updater) -> Result<u64, Cancelled>;

fn add(table: &mut Rounds, name: &'static str, starts: usize, work: Work) {
    let pool = ThreadPoolExecutor::new(1);
    table.add(name, move || block_on(time(&pool, starts, work)).expect("nobody cancels"));
}

/// Adds a variant that is observed by a receiver that is drained, a callback and a bar.
fn add_observed(table: &mut Rounds, name: &'static str, starts: usize, work: Work) {
    let pool = ThreadPoolExecutor::new(1);
    table.add(name, move || {
        let task = time(&pool, starts, work)
            .on_progress(|old, new| _ = black_box((old.n, new.n)))
            .with_bar(Triggers::NOW, ProgressBar::hidden);
        let updates = task.updates();
        let receiver = thread::spawn(move || block_on(updates.for_each(async |state| _ = black_box(state))));
        let nanos = block_on(task).expect("nobody cancels");
        receiver.join().expect("the receiver does not panic");
        nanos
    });
}

/// Starts a task that measures its own time, in nanoseconds per step.
fn time(pool: &ThreadPoolExecutor, starts: usize, work: Work) -> ProgressFuture<f64> {
    let starts = amount(starts) as u64;
    pool.spawn(move |progress| {
        let start = Instant::now();
        let steps = work(black_box(starts), progress)?;
        Ok(start.elapsed().as_nanos() as f64 / steps as f64)
    })
}

/// Walks from each start, makes the call at each step, and returns the number of steps.
#[inline(always)]
fn walk(starts: u64, mut call: impl FnMut() -> Result<(), Cancelled>) -> Result<u64, Cancelled> {
    let mut steps = 0;
    for start in 1..=starts {
        let mut x = start;
        while x != 1 {
            x = step(x);
            steps += 1;
            call()?;
        }
    }
    Ok(steps)
}

/// Makes a step for each item, one walk after the other, and returns the number of steps.
#[inline(always)]
fn walk_along(items: impl Iterator<Item = Result<u64, Cancelled>>) -> Result<u64, Cancelled> {
    let (mut start, mut x, mut steps) = (1, 1, 0);
    for item in items {
        steps = item? + 1;
        if x == 1 {
            start += 1;
            x = start;
        }
        x = step(x);
    }
    black_box(x);
    Ok(steps)
}

#[inline(always)]
fn step(x: u64) -> u64 {
    if x % 2 == 0 { x / 2 } else { 3 * x + 1 }
}
