//! Tasks that belong together: the first error cancels the rest, and nothing is left behind.
//!
//! ```text
//! cargo run --example structured
//! ```

mod cli;

use std::process::ExitCode;
use std::time::Duration;

use progress_executor::{TaskError, TaskGroup, TaskResult, ThreadPoolExecutor, Updater};

const USAGE: &str = "\
Usage: structured

Fetches parts that belong together, and does so again with a part that cannot be
fetched: the first error cancels the rest, and nothing is left behind.";

/// Prints a line when its task is over, however the task ends.
struct Tidy(&'static str);

impl Drop for Tidy {
    fn drop(&mut self) {
        cli::say(&format_args!("  {} has tidied up", self.0));
    }
}

fn fetch((part, works): (&'static str, bool), progress: &Updater) -> TaskResult<&'static str> {
    let _tidy = Tidy(part);
    for step in progress.iter(0..10) {
        if step? == 5 && !works {
            return Err("no such page".into());
        }
        progress.sleep(Duration::from_millis(20))?; // wakes at once when cancelled
    }
    Ok(part)
}

async fn fetch_all(executor: &ThreadPoolExecutor, index_works: bool) -> Result<Vec<&'static str>, TaskError> {
    let mut group = TaskGroup::new();
    for (part, works) in [("text", true), ("index", index_works), ("images", true)] {
        group.add(executor.task(fetch, (part, works)).name(part).submit());
    }
    group.join().await // all of them have ended when this resolves, in whatever way
}

fn main() -> ExitCode {
    cli::run(USAGE, cli::no_arguments, |()| {
        let executor = ThreadPoolExecutor::new(3);
        smol::block_on(async {
            for index_works in [true, false] {
                match fetch_all(&executor, index_works).await {
                    Ok(parts) => cli::say(&format_args!("fetched {}", parts.join(", "))),
                    Err(error) if index_works => return Err(error.into()),
                    Err(error) => cli::say(&format_args!("{error:#}")), // with its causes
                }
            }
            Ok(ExitCode::SUCCESS)
        })
    })
}
