//! Waits for whichever comes first: progress of one of several tasks, a timer, or Ctrl-C.
//!
//! Three tasks count to ten, each at its own pace. A loop around `futures::select!` shows each step as it comes, and
//! cancels the tasks that have not arrived after a second, or when Ctrl-C is pressed.
//!
//! ```text
//! cargo run --example select
//! ```

mod cli;

use std::process::ExitCode;
use std::time::Duration;

use async_signal::Signals;
use futures::stream::select_all;
use futures::{FutureExt, StreamExt, select};
use progress_executor::{ProgressFuture, ProgressState, TaskError, TaskResult, ThreadPoolExecutor, Updater};
use smol::Timer;

const USAGE: &str = "\
Usage: select

Shows three tasks that count to ten, each at its own pace, and cancels those that
have not arrived after a second. Ctrl-C cancels all of them.";

/// Counts to ten, with a pause after each number.
fn stroll(pause: Duration, progress: &Updater) -> TaskResult<&'static str> {
    for step in progress.iter(0..10) {
        step?;
        progress.sleep(pause)?;
    }
    Ok("arrived")
}

fn show(name: &str, state: &ProgressState) {
    match state.fraction() {
        Some(fraction) => cli::say(&format_args!("{name:>5}: {:>3.0} %, {}", fraction * 100.0, state.status)),
        None => cli::say(&format_args!("{name:>5}: {}", state.status)),
    }
}

/// Returns whether Ctrl-C was pressed.
async fn watch(interrupts: Signals) -> Result<bool, TaskError> {
    let executor = ThreadPoolExecutor::new(3);
    let [hare, fox, snail] = [30, 70, 300].map(|millis| executor.submit(stroll, Duration::from_millis(millis)));

    // Each stream of updates starts with the current state of its task, and ends after the last one.
    let states = [("hare", &hare), ("fox", &fox), ("snail", &snail)]
        .map(|(name, task)| task.updates().map(move |state| (name, state)).boxed());
    let mut states = select_all(states);
    let mut interrupts = interrupts.fuse();
    let mut patience = FutureExt::fuse(Timer::after(Duration::from_secs(1)));

    let mut interrupted = false;

    // Has no effect on tasks that have ended.
    let cancel_all = || [&hare, &fox, &snail].into_iter().for_each(ProgressFuture::cancel);

    loop {
        select! {
            state = states.next() => match state {
                Some((name, state)) => show(name, &state),
                None => break, // all of them have ended, and their last states were shown
            },
            _ = patience => {
                cli::say(&"       a second has passed");
                cancel_all();
            }
            _ = interrupts.select_next_some() => {
                interrupted = true;
                cancel_all();
            }
        }
    }

    for (name, task) in [("hare", hare), ("fox", fox), ("snail", snail)] {
        match task.await {
            Ok(value) => cli::say(&format_args!("{name:>5}: {value}")),
            Err(error) if error.is_cancelled() => cli::say(&format_args!("{name:>5}: {error}")),
            Err(error) => return Err(error),
        }
    }
    Ok(interrupted)
}

fn main() -> ExitCode {
    cli::run(USAGE, cli::no_arguments, |()| {
        let interrupted = smol::block_on(watch(cli::interrupts()?))?;
        Ok(if interrupted { ExitCode::from(cli::INTERRUPTED) } else { ExitCode::SUCCESS })
    })
}
