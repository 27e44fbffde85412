//! Long blocking work inside an application that runs on `async-std`.
//!
//! The library needs no runtime and knows none: any runtime can poll its futures and streams. Here, tasks of `async-std`
//! follow them, beside a heartbeat that shows that nothing blocks the application. Tasks that take longer than two
//! seconds are cancelled.
//!
//! ```text
//! cargo run --example async_std_app
//! ```

mod cli;

use std::process::ExitCode;
use std::time::Duration;

use async_std::stream::StreamExt;
use async_std::task;
use progress_executor::{
    Canceller, ProgressFuture, TaskError, TaskEvent, TaskEvents, TaskResult, ThreadPoolExecutor, Updater,
};

const USAGE: &str = "\
Usage: async_std_app

Counts primes on threads, beside the heartbeat of an application on async-std, and
cancels what takes longer than two seconds.";

/// Looks for primes by trial division: work that would block an async runtime.
fn count_primes(limit: u64, progress: &Updater) -> TaskResult<usize> {
    let mut primes: Vec<u64> = Vec::new();
    for number in progress.iter(2..limit) {
        let number = number?;
        if primes.iter().take_while(|&prime| prime * prime <= number).all(|prime| number % prime != 0) {
            primes.push(number);
        }
    }
    Ok(primes.len())
}

/// Prints the progress of a task in steps of 10 %, and its outcome. A failure is returned instead.
async fn follow(limit: u64, mut events: TaskEvents<usize>) -> Result<(), TaskError> {
    let mut shown = 0;
    while let Some(event) = events.next().await {
        match event {
            TaskEvent::Progress(state) => {
                let tenths = (state.fraction().unwrap_or(0.0) * 10.0) as u64;
                if tenths > shown {
                    shown = tenths;
                    cli::say(&format_args!("primes below {limit}: {tenths}0 %"));
                }
            }
            TaskEvent::Done(Ok(primes)) => cli::say(&format_args!("primes below {limit}: there are {primes}")),
            TaskEvent::Done(Err(error)) if error.is_cancelled() => {
                cli::say(&format_args!("primes below {limit}: {error:#}"))
            }
            TaskEvent::Done(Err(error)) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

async fn heartbeat() {
    for beat in 1.. {
        task::sleep(Duration::from_millis(250)).await;
        cli::say(&format_args!("heartbeat {beat}"));
    }
}

async fn count_all() -> Result<(), TaskError> {
    let executor = ThreadPoolExecutor::new(2);
    let heartbeat = task::spawn(heartbeat());
    let limits = [5_000_000, 20_000_000, 1_000_000_000];
    let tasks = limits.map(|limit| executor.submit(count_primes, limit));
    let cancellers = tasks.each_ref().map(ProgressFuture::canceller);
    let followers = limits.into_iter().zip(tasks).map(|(limit, task)| task::spawn(follow(limit, task.events())));
    let followers: Vec<_> = followers.collect();

    task::sleep(Duration::from_secs(2)).await;
    cancellers.iter().for_each(Canceller::cancel); // does nothing to those that have ended
    for follower in followers {
        follower.await?;
    }
    heartbeat.cancel().await;
    Ok(())
}

fn main() -> ExitCode {
    cli::run(USAGE, cli::no_arguments, |()| {
        task::block_on(count_all())?;
        Ok(ExitCode::SUCCESS)
    })
}
