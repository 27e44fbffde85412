//! A parallel loop inside one task, with one progress and one cancellation.
//!
//! ```text
//! cargo run --release --features rayon --example rayon
//! ```

mod cli;

use std::process::ExitCode;
use std::time::Duration;

use progress_executor::{ProgressState, TaskResult, ThreadPoolExecutor, Updater};
use rayon::prelude::*;

const USAGE: &str = "\
Usage: rayon

Looks for the longest walk of the Collatz sequence with a parallel loop inside of
one task; and once more, in less time than that takes.";

fn steps(start: u64) -> u64 {
    std::iter::successors(Some(start), |&x| (x > 1).then_some(if x % 2 == 0 { x / 2 } else { 3 * x + 1 })).count()
        as u64
}

fn longest_walk(n: u64, progress: &Updater) -> TaskResult<u64> {
    // Each rayon thread has a counter of its own, and checks for cancellation at every item.
    let longest = progress.par_iter(1..n).map(|start| start.map(steps)).try_reduce(|| 0, |a, b| Ok(a.max(b)))?;
    Ok(longest)
}

fn main() -> ExitCode {
    cli::run(USAGE, cli::no_arguments, |()| {
        let executor = ThreadPoolExecutor::new(1); // rayon has threads of its own
        let show = |state: &ProgressState| cli::say(&format_args!("{:3.0} %", state.fraction().unwrap_or(0.0) * 100.0));

        let task = executor.submit(longest_walk, 3_000_000).on_progress(move |_, new| show(new));
        cli::say(&format_args!("longest walk: {}", task.wait()?));

        let task = executor.task(longest_walk, 1 << 40).timeout(Duration::from_millis(300)).submit();
        match task.wait() {
            Err(error) if error.is_timed_out() => cli::say(&format_args!("{error:#}")), // never takes a part for the whole
            outcome => cli::say(&format_args!("longest walk: {}", outcome?)),
        }
        Ok(ExitCode::SUCCESS)
    })
}
