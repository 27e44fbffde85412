//! Trivial tasks, by their number and the number of threads that submit them, each of which awaits its own tasks; on a quiet
//! machine and beside a thread that is always busy.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use futures::executor::block_on;
use progress_executor_benches::pools::{AsyncExecutor, Ours, Pool, Rayon, Threadpool};
use progress_executor_benches::rounds::{Rounds, amount};

fn main() {
    compare("50,000 tasks by one thread", 50_000, 1, false);
    compare("50,000 tasks by four threads", 50_000, 4, false);
    compare("50,000 by one, beside a busy core", 50_000, 1, true);
    compare("400,000 tasks by one thread", 400_000, 1, false);
    compare("400,000 tasks by four threads", 400_000, 4, false);
    compare("400,000 by one, beside a busy core", 400_000, 1, true);
    compare("1,000,000 tasks by one thread", 1_000_000, 1, false);
    compare("1,000,000 tasks by four threads", 1_000_000, 4, false);
}

fn compare(title: &'static str, tasks: usize, submitters: usize, is_busy: bool) {
    let mut table = Rounds::new(title);
    let tasks = amount(tasks);
    add::<Ours>(&mut table, tasks, submitters, is_busy);
    add::<Threadpool>(&mut table, tasks, submitters, is_busy);
    add::<AsyncExecutor>(&mut table, tasks, submitters, is_busy);
    add::<Rayon>(&mut table, tasks, submitters, is_busy);
    table.run(amount(15));
}

fn add<P: Pool + Sync>(table: &mut Rounds, tasks: usize, submitters: usize, is_busy: bool) {
    let pool = P::default();
    table.add(P::NAME, move || {
        if is_busy { beside_another(|| flood(&pool, tasks, submitters)) } else { flood(&pool, tasks, submitters) }
    });
}

/// Nanoseconds per task.
fn flood(pool: &(impl Pool + Sync), tasks: usize, submitters: usize) -> f64 {
    let each = tasks.div_ceil(submitters) as u64;
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..submitters {
            scope.spawn(|| {
                let futures: Vec<_> = (0..each).map(|n| pool.spawn(move || n)).collect();
                let sum = futures.into_iter().map(block_on).sum::<u64>();
                assert_eq!(sum, (0..each).sum::<u64>());
            });
        }
    });
    start.elapsed().as_nanos() as f64 / tasks as f64
}

/// Measures while another thread keeps a processor busy.
fn beside_another<R>(measure: impl FnOnce() -> R) -> R {
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = is_over.clone();
    let busy = thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            hint::spin_loop();
        }
    });
    let measured = measure();
    is_over.store(true, Ordering::Relaxed);
    busy.join().expect("the thread does not panic");
    measured
}
