//! How old a snapshot is when an observer sees it, and what many observers cost the task.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::executor::block_on;
use progress_executor::{
    ExecutorExt, ProcessPoolExecutor, ProgressFuture, TaskRegistry, TaskResult, ThreadPoolExecutor, Updater,
};
use progress_executor_benches::processes;
use progress_executor_benches::rounds::{amount, median};

const OFTEN: (Duration, usize) = (Duration::from_millis(1), 1_000);
const RARELY: (Duration, usize) = (Duration::from_millis(100), 20);

fn main() {
    processes::init(TaskRegistry::new().register(tick));
    println!("{:<40} {:>12} {:>12}", "age of what a receiver is shown", "median µs", "longest µs");
    measure_ages("1,000 changes a second", OFTEN, None);
    measure_ages("1,000 changes a second, each shown", OFTEN, Some(Duration::ZERO));
    measure_ages("10 changes a second", RARELY, None);
    measure_ages("10 changes a second, each shown", RARELY, Some(Duration::ZERO));

    println!("\n{:<40} {:>12} {:>12}", "a call and a look at the clock, by receivers", "mean ns", "longest µs");
    for receivers in [0, 1, 100, 10_000] {
        measure_calls(receivers);
    }
}

fn measure_ages(name: &str, (every, ticks): (Duration, usize), report_interval: Option<Duration>) {
    let ticks = amount(ticks);
    let (mut threads, mut processes) = (ThreadPoolExecutor::builder(), ProcessPoolExecutor::builder());
    if let Some(interval) = report_interval {
        threads = threads.report_interval(interval);
        processes = processes.report_interval(interval);
    }
    let threads = threads.max_workers(1).build();
    print_ages(&format!("{name}, threads"), threads.submit(tick, (every, ticks)));
    let processes = processes.max_workers(1).build().expect("`init` was called");
    print_ages(&format!("{name}, processes"), processes.submit(tick, (every, ticks)));
}

/// Reports the current time as its position.
fn tick((every, ticks): (Duration, usize), progress: &Updater) -> TaskResult<()> {
    for _ in 0..ticks {
        progress.sleep(every)?;
        progress.set_position(nanos_since_epoch())?;
    }
    Ok(())
}

fn nanos_since_epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn print_ages(name: &str, task: ProgressFuture<()>) {
    let updates = task.updates();
    let mut ages = Vec::new();
    while let Ok(state) = updates.recv_blocking() {
        if state.n > 0 {
            ages.push(nanos_since_epoch().saturating_sub(state.n) as f64);
        }
    }
    task.wait().expect("nobody cancels");
    let longest = ages.iter().copied().fold(0.0, f64::max);
    println!("{name:<40} {:>12.1} {:>12.1}", median(&ages) / 1e3, longest / 1e3);
}

/// Prints the mean and the longest time of a task's progress calls during a tenth of a second, with `receivers` receivers.
fn measure_calls(receivers: usize) {
    let pool = ThreadPoolExecutor::new(1);
    let (start, started) = oneshot::channel();
    let task = pool.spawn(move |progress| {
        started.recv()?;
        let began = Instant::now();
        let (mut calls, mut longest) = (0_u32, Duration::ZERO);
        let mut before = began;
        while before - began < Duration::from_millis(100) {
            progress.update(1)?;
            let now = Instant::now();
            longest = longest.max(now - before);
            (before, calls) = (now, calls + 1);
        }
        Ok(((before - began).as_nanos() as f64 / f64::from(calls), longest))
    });
    let listening: Vec<_> = (0..amount(receivers)).map(|_| task.updates()).collect();
    start.send(()).expect("the task waits for it");
    let (mean, longest) = block_on(task).expect("nobody cancels");
    drop(listening);
    println!("{receivers:<40} {mean:>12.1} {:>12.1}", longest.as_nanos() as f64 / 1e3);
}
