//! Waits for whatever comes first: the progress of one of several tasks, or a timer.
//!
//! Three tasks count to ten, each at its own pace. `futures::select!` shows each step as it comes, and cancels
//! those that have not arrived after a second.
//!
//! ```text
//! cargo run --example select
//! ```

use std::pin::pin;
use std::time::Duration;

use futures::{FutureExt, StreamExt, select};
use progress_executor::{ProgressState, TaskResult, ThreadPoolExecutor, Updater};
use smol::Timer;

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
        Some(fraction) => println!("{name:>5}: {:>3.0} %, {}", fraction * 100.0, state.status),
        None => println!("{name:>5}: {}", state.status),
    }
}

async fn watch() {
    let executor = ThreadPoolExecutor::new(3);
    let [hare, fox, snail] = [30, 70, 300].map(|millis| executor.submit(stroll, Duration::from_millis(millis)));

    // Each stream of updates starts with the current state of its task, and ends with the last one.
    let mut hare_updates = pin!(hare.updates());
    let mut fox_updates = pin!(fox.updates());
    let mut snail_updates = pin!(snail.updates());
    let mut patience = FutureExt::fuse(Timer::after(Duration::from_secs(1)));

    loop {
        select! {
            state = hare_updates.select_next_some() => show("hare", &state),
            state = fox_updates.select_next_some() => show("fox", &state),
            state = snail_updates.select_next_some() => show("snail", &state),
            _ = patience => {
                println!("       a second has passed");
                for task in [&hare, &fox, &snail] {
                    task.cancel(); // does nothing to those that have ended
                }
            }
            complete => break, // all of them have ended, the timer too
        }
    }

    for (name, task) in [("hare", hare), ("fox", fox), ("snail", snail)] {
        match task.await {
            Ok(value) => println!("{name:>5}: {value}"),
            Err(error) => println!("{name:>5}: {error}"),
        }
    }
}

fn main() {
    smol::block_on(watch());
}
