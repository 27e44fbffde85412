//! A progress call in a tight loop: one per step of the Collatz walks from `1..=starts`.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use futures::StreamExt;
use futures::executor::block_on;
use indicatif::ProgressBar;
use prodash::{Count, Progress};
use progress_executor::{Cancelled, ProgressFuture, TaskResult, ThreadPoolExecutor, Triggers, Updater};
use progress_executor_benches::rounds::{Rounds, amount};
use tokio_util::sync::CancellationToken;

/// Long enough for several reports to observers.
const MANY: u64 = 300_000;
/// Enough for what costs many times the loop.
const FEW: u64 = 10_000;

fn main() {
    calls();
    iterators();
}

fn calls() {
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
    table.run(amount(30));
}

fn iterators() {
    let mut table = Rounds::new("a step of a counted iterator");
    add(&mut table, "bare iterator", MANY, |starts, _| Ok(Steps::new(starts).fold(0, |steps, x| steps + black_box(x).min(1))));
    table.run(amount(30));
}

/// The loop that is measured, and the number of its steps.
#[inline(always)]
fn walk(starts: u64, mut call: impl FnMut() -> Result<(), Cancelled>) -> Result<u64, Cancelled> {
    let mut steps = 0;
    for start in 1..=starts {
        let mut x = start;
        while x != 1 {
            x = if x % 2 == 0 { x / 2 } else { 3 * x + 1 };
            steps += 1;
            call()?;
        }
    }
    Ok(steps)
}
