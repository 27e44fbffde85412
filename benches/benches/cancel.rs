//! The time from `cancel()` until the awaiting side resumes, for a task that makes a progress call every microsecond.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use progress_executor::{TaskResult, ThreadPoolExecutor};
use progress_executor_benches::latency::{measure, repeat, work};
use progress_executor_benches::rounds::{Rounds, amount};
use tokio::runtime::{self, Runtime};
use tokio_util::sync::CancellationToken;

/// Long enough for the task to run and for the thread that waits for it to sleep.
const REST: Duration = Duration::from_millis(1);

fn main() {
    let mut table = Rounds::new("from cancel to resumed");
    table.add("unpark", || repeat(unpark));
    let pool = ThreadPoolExecutor::new(1);
    table.add("ours", move || repeat(|| cancel(&pool)));
    let runtime = runtime::Builder::new_current_thread().build().expect("a runtime without drivers can be built");
    table.add("tokio token, spawn_blocking", move || repeat(|| cancel_token(&runtime)));
    table.run(amount(60));
}

/// A bare wake-up, beside a thread that is as busy as the tasks below.
fn unpark() -> f64 {
    let woken = AtomicBool::new(false);
    let waiting = thread::current();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !woken.load(Ordering::Relaxed) {
                work();
            }
            // As a pool thread does; the end of this thread would disturb the measurement.
            thread::sleep(REST);
        });
        let wake = || {
            woken.store(true, Ordering::Release);
            waiting.unpark();
        };
        measure(REST, wake, || {
            while !woken.load(Ordering::Acquire) {
                thread::park();
            }
        })
    })
}

fn cancel(pool: &ThreadPoolExecutor) -> f64 {
    let task = pool.spawn(|progress| -> TaskResult<()> {
        loop {
            work();
            progress.update(1)?;
        }
    });
    let canceller = task.canceller();
    measure(REST, move || canceller.cancel(), || block_on(task).expect_err("it was cancelled"))
}

fn cancel_token(runtime: &Runtime) -> f64 {
    let token = CancellationToken::new();
    let canceller = token.clone();
    let task = runtime.spawn_blocking(move || {
        while !token.is_cancelled() {
            work();
        }
    });
    measure(REST, move || canceller.cancel(), || block_on(task).expect("the task returns"))
}
