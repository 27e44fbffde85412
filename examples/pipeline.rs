//! Two executors, one feeding the other, with backpressure: the first gets no further ahead than the second can keep up with.
//!
//! Threads make numbers, worker processes factor them. The second `map` asks the first for an input when it has room for
//! one, and that asks its iterator, which has no end.
//!
//! ```text
//! cargo run --release --example pipeline
//! ```

mod cli;

use std::process::ExitCode;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use progress_executor::{
    ExecutorExt, ProcessPoolExecutor, TaskError, TaskRegistry, TaskResult, ThreadPoolExecutor, Updater,
};

const USAGE: &str = "\
Usage: pipeline

Makes numbers on a thread and factors them in two worker processes, with
backpressure: the first gets no further ahead than the others can follow.";

/// Makes a number, about as quickly as it could be read from a disk.
fn make(seed: u64, progress: &Updater) -> TaskResult<u64> {
    progress.sleep(Duration::from_millis(5))?;
    Ok(seed * 2_654_435_761 % 1_000_000_007)
}

/// Factors a number, which takes longer.
fn factor(mut number: u64, progress: &Updater) -> TaskResult<String> {
    let mut factors = Vec::new();
    let mut divisor = 2;
    while number > 1 {
        progress.update(1)?;
        while number % divisor == 0 {
            factors.push(divisor.to_string());
            number /= divisor;
        }
        divisor += 1;
    }
    Ok(factors.join(" * "))
}

fn main() -> ExitCode {
    TaskRegistry::new().register(factor).init(); // in a worker process this serves tasks, and never returns
    cli::run(USAGE, cli::no_arguments, |()| {
        let makers = ThreadPoolExecutor::new(1);
        let factorers = ProcessPoolExecutor::new(2)?;
        smol::block_on(show_factors(&makers, &factorers))?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn show_factors(makers: &ThreadPoolExecutor, factorers: &ProcessPoolExecutor) -> Result<(), TaskError> {
    let numbers = makers.map(make, (1..).inspect(|seed| cli::say(&format_args!("  {seed} goes in"))));
    // At most four numbers wait for their factors, or have them.
    let factored = numbers.map_ok(|number| factorers.submit(factor, number)).try_buffer_unordered(4);
    let mut factored = factored.take(12);
    while let Some(factors) = factored.next().await {
        cli::say(&format_args!("{} comes out", factors?));
    }
    Ok(()) // what was under way is cancelled here
}
