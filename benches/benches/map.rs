//! One trivial function over a million inputs.

use std::time::Instant;

use futures::executor::block_on;
use futures::stream::{Stream, StreamExt};
use progress_executor::{ProgressFuture, TaskError, TaskResult, ThreadPoolExecutor, Updater};
use progress_executor_benches::pools::WORKERS;
use progress_executor_benches::rounds::{Rounds, amount};

const INPUTS: usize = 1_000_000;
const IN_FLIGHT: usize = 2 * WORKERS;

fn main() {
    let mut table = Rounds::new("an input of a million");
    table.add("buffered, over ours", || time(|pool, inputs| sum(submitted(pool, inputs).buffered(IN_FLIGHT))));
    table.add("map", || time(|pool, inputs| sum(pool.map(double, inputs))));
    table.add("buffer_unordered, over ours", || {
        time(|pool, inputs| sum(submitted(pool, inputs).buffer_unordered(IN_FLIGHT)))
    });
    table.add("map, unordered", || time(|pool, inputs| sum(pool.map(double, inputs).unordered())));
    table.add("buffered(64)", || time(|pool, inputs| sum(submitted(pool, inputs).buffered(64))));
    table.add("map, buffer(64)", || time(|pool, inputs| sum(pool.map(double, inputs).buffer(64))));
    table.run(amount(7));
}

fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

type Inputs = std::ops::Range<u64>;

fn submitted(pool: &ThreadPoolExecutor, inputs: Inputs) -> impl Stream<Item = ProgressFuture<u64>> {
    futures::stream::iter(inputs).map(move |n| pool.submit(double, n))
}

fn sum(outcomes: impl Stream<Item = Result<u64, TaskError>>) -> u64 {
    block_on(outcomes.fold(0, |sum, outcome| async move { sum + outcome.unwrap_or(0) }))
}

/// Nanoseconds per input.
fn time(run: impl FnOnce(&ThreadPoolExecutor, Inputs) -> u64) -> f64 {
    let pool = ThreadPoolExecutor::new(WORKERS);
    let inputs = amount(INPUTS) as u64;
    let start = Instant::now();
    assert_eq!(run(&pool, 0..inputs), inputs * (inputs - 1));
    start.elapsed().as_nanos() as f64 / inputs as f64
}
