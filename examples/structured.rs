//! Tasks that belong together: the first error cancels the rest, and nothing is left behind.
//!
//! ```text
//! cargo run --example structured
//! ```

use std::time::Duration;

use progress_executor::{TaskError, TaskGroup, TaskResult, ThreadPoolExecutor, Updater};

/// Says when it is over, however it ends.
struct Tidy(&'static str);

impl Drop for Tidy {
    fn drop(&mut self) {
        println!("  {} has tidied up", self.0);
    }
}

fn fetch((part, millis, works): (&'static str, u64, bool), progress: &Updater) -> TaskResult<&'static str> {
    let _tidy = Tidy(part);
    for step in progress.iter(0..10) {
        if step? == 5 && !works {
            return Err("no such page".into());
        }
        progress.sleep(Duration::from_millis(millis))?; // wakes at once when cancelled
    }
    Ok(part)
}

async fn fetch_all(executor: &ThreadPoolExecutor, works: bool) -> Result<Vec<&'static str>, TaskError> {
    let mut group = TaskGroup::new();
    for (part, millis) in [("text", 10), ("images", 500), ("index", 20)] {
        let works = works || part != "index";
        group.add(executor.task(fetch, (part, if works { millis.min(30) } else { millis }, works)).name(part).submit());
    }
    group.join().await // all of them have ended when this resolves, in whatever way
}

fn main() {
    let executor = ThreadPoolExecutor::new(3);
    smol::block_on(async {
        for works in [true, false] {
            match fetch_all(&executor, works).await {
                Ok(parts) => println!("fetched {}", parts.join(", ")),
                Err(error) => println!("{error}"),
            }
        }
    });
}
