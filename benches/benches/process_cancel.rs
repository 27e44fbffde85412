//! The time from `cancel()` until the awaiting side resumes, for a task in a worker process that makes a progress call every
//! microsecond.

use std::hint;
use std::io::Read;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use progress_executor::{ExecutorExt, ProcessPoolExecutor, ProgressFuture, TaskRegistry, TaskResult, Updater};
use progress_executor_benches::latency::{measure, repeat, work};
use progress_executor_benches::processes;
use progress_executor_benches::rounds::{Rounds, amount};
use rustix::process::{Pid, Signal, kill_process};

/// Long enough for the worker to have seen that the task will take a while.
const REST: Duration = Duration::from_millis(5);
/// Long enough for the task to have started.
const SHORT_REST: Duration = Duration::from_micros(300);

fn main() {
    processes::init(TaskRegistry::new().register(run_on).register(fall_asleep));
    let mut table = Rounds::new("from cancel to resumed, processes");
    table.add("kill and wait", || repeat(kill));
    let pool = processes::ours();
    table.add("ours", move || repeat(|| cancel(&pool, REST)));
    let pool = processes::ours();
    table.add("ours, task has just started", move || repeat(|| cancel(&pool, SHORT_REST)));
    let pool = processes::ours();
    table.add("ours, task of 10 µs, one thread", move || repeat(|| cancel_young(pool.submit(run_on, ()))));
    let pool = processes::ours();
    table.add("ours, the same, asleep", move || repeat(|| cancel_young(pool.submit(fall_asleep, ()))));
    table.run(amount(40));
}

fn run_on((): (), progress: &Updater) -> TaskResult<()> {
    loop {
        work();
        progress.update(1)?;
    }
}

fn fall_asleep((): (), progress: &Updater) -> TaskResult<()> {
    progress.update(10)?;
    Ok(progress.sleep(Duration::MAX)?)
}

fn cancel(pool: &ProcessPoolExecutor, rest: Duration) -> f64 {
    let task = pool.submit(run_on, ());
    let canceller = task.canceller();
    measure(rest, move || canceller.cancel(), || block_on(task).expect_err("it was cancelled"))
}

/// Cancels a task as soon as it has made ten progress calls, on the thread that awaits it.
fn cancel_young(task: ProgressFuture<()>) -> f64 {
    while task.progress().n < 10 {
        hint::spin_loop();
    }
    let start = Instant::now();
    task.cancel();
    block_on(task).expect_err("it was cancelled");
    start.elapsed().as_nanos() as f64
}

/// The time from `kill` until `wait` returns, for a busy process.
fn kill() -> f64 {
    let (mut child, mut socket) = processes::start(processes::WORK);
    socket.read_exact(&mut [0]).expect("the process says that it has started");
    let pid = Pid::from_child(&child);
    let kill = || kill_process(pid, Signal::KILL).expect("nobody has waited for it");
    measure(REST, kill, || child.wait().expect("nobody else has waited for it"))
}
