//! A storm: workers are killed at random moments, and every task ends exactly once. When it is over, nothing is left:
//! no process, no thread, no descriptor. In a process of its own, because nothing else may start any meanwhile.
//!
//! Repeatable, and of any size: `TEST_SEED=7 TEST_TASKS=100000 cargo test --test processes_left`.

#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use progress_executor::{
    ExecutorExt, Launcher, ProcessPoolBuilder, ProcessPoolExecutor, ProgressFuture, TaskErrorKind, TaskResult, Updater,
    WorkerExit,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::threads_of;

/// How many tasks there are for each worker that is killed.
const TASKS_PER_KILL: u64 = 40;

fn work(n: u64, progress: &Updater) -> TaskResult<u64> {
    let mut value = n;
    for step in progress.iter(0..n % 50 * 400) {
        value = value.wrapping_mul(6364136223846793005).wrapping_add(step?);
    }
    Ok(value)
}

fn expected(n: u64) -> u64 {
    (0..n % 50 * 400).fold(n, |value, step| value.wrapping_mul(6364136223846793005).wrapping_add(step))
}

progress_executor::test_worker!(with | registry | registry.register(work));

/// The value of an environment variable, if it is set.
fn asked(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

fn tasks() -> u64 {
    asked("TEST_TASKS").unwrap_or(2_000)
}

/// The deadline of the whole test, and so of each part of it.
fn deadline() -> Duration {
    Duration::from_secs(100 + tasks() / 100)
}

/// A pseudorandom number generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The children of this process that have not been reaped.
fn children() -> Vec<u32> {
    let threads = threads_of(process::id()).unwrap();
    let lists = threads.iter().filter_map(|thread| fs::read_to_string(thread.join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// Whether a process has threads whose names begin like this.
fn has_threads(process: u32, name: &str) -> bool {
    let threads = threads_of(process).unwrap_or_default();
    let mut names = threads.iter().filter_map(|thread| fs::read_to_string(thread.join("comm")).ok());
    names.any(|found| found.starts_with(name))
}

fn count_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[track_caller]
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < deadline(), "never: {what}");
        thread::yield_now();
    }
}

/// Kills up to `most` workers, unless it is told to stop, and stops and continues others. Returns how many it has
/// killed. After some, it spares those that are starting until another one has come up: after ten in a row that were killed
/// before that, the pool would give up, with all tasks that wait.
fn kill_some(seed: u64, most: u64, is_over: &AtomicBool) -> u64 {
    let mut random = Random(seed);
    let (mut kills, mut kills_in_a_row, mut known) = (0, 0, BTreeSet::<u32>::new());
    while kills < most && !is_over.load(Ordering::Relaxed) {
        // A random moment.
        thread::sleep(Duration::from_micros(random.below(20_000)));
        let (up, starting): (Vec<u32>, Vec<u32>) =
            children().into_iter().partition(|&worker| has_threads(worker, "progress-task"));
        let known_before = known.len();
        known.extend(&up);
        if known.len() > known_before {
            kills_in_a_row = 0;
        }
        let workers = if kills_in_a_row < 5 { [up, starting].concat() } else { up };
        if workers.is_empty() {
            continue;
        }
        let worker = workers[random.below(workers.len() as u64) as usize];
        let Some(worker) = Pid::from_raw(worker as i32) else { continue };
        if random.below(2) == 0 {
            let is_killed = u64::from(kill_process(worker, Signal::KILL).is_ok());
            (kills, kills_in_a_row) = (kills + is_killed, kills_in_a_row + is_killed);
        } else if kill_process(worker, Signal::STOP).is_ok() {
            thread::sleep(Duration::from_micros(random.below(5_000)));
            // It may be gone by now; its id is not used again so soon.
            let _ = kill_process(worker, Signal::CONT);
        }
    }
    kills
}

/// One test, because its parts must not run at the same time.
#[test]
fn a_storm_leaves_nothing_behind() {
    let (done, result) = channel();
    let thread = thread::spawn(move || {
        storm(ProcessPoolExecutor::builder());
        storm(ProcessPoolExecutor::builder().without_shared_memory());
        storm(ProcessPoolExecutor::builder().launcher(Launcher::command(["env"])));
        done.send(()).unwrap();
    });
    match result.recv_timeout(deadline()) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => panic!("the test hangs"),
        Err(RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

fn storm(builder: ProcessPoolBuilder) {
    let (seed, tasks) = (asked("TEST_SEED").unwrap_or(1), tasks());
    let most = tasks / TASKS_PER_KILL;
    eprintln!("TEST_SEED={seed} TEST_TASKS={tasks}");
    // What the first pool of a process sets up once and for all does not count.
    ProcessPoolExecutor::new(1).unwrap().submit(work, 1).wait().unwrap();
    // Threads close the descriptors that they have used before they end.
    eventually("the first worker and all threads are gone", || {
        children().is_empty() && !has_threads(process::id(), "progress-")
    });
    let descriptors = count_descriptors();

    let start = Instant::now();
    let pool = builder.max_workers(2).build().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let flag = is_over.clone();
    let killer = thread::spawn(move || kill_some(seed, most, &flag));
    let (mut values, mut losses, mut cancelled, mut submitted) = (0, Vec::new(), 0, 0);
    let mut random = Random(seed.wrapping_mul(31));
    // At least this many tasks, and for as long as the killer runs.
    while submitted < tasks || !killer.is_finished() {
        let submit = |n| match n % 4 {
            0 => pool.task(work, n).retries(1).submit(),
            1 => pool.task(work, n).timeout(deadline()).stall_timeout(deadline()).submit(),
            // Another thread shows its changes.
            2 => {
                let mut task = pool.submit(work, n);
                task.add_progress_callback(|_, _| {});
                task
            }
            _ => pool.submit(work, n),
        };
        let batch: Vec<(u64, ProgressFuture<u64>)> = (0..100).map(|n| (n, submit(n))).collect();
        submitted += batch.len() as u64;
        let victim = random.below(300) as usize;
        if let Some((_, task)) = batch.get(victim) {
            task.cancel();
        }
        for (n, task) in batch {
            match task.wait() {
                Ok(value) => {
                    assert_eq!(value, expected(n));
                    values += 1;
                }
                Err(error) if n as usize == victim && error.is_cancelled() => cancelled += 1,
                Err(error) => {
                    assert_eq!(error.kind(), &TaskErrorKind::WorkerLost(WorkerExit::Signal(9)), "{error:?}");
                    losses.push(format!("{error:#}"));
                }
            }
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let kills = killer.join().unwrap();
    let (took, lost) = (start.elapsed(), losses.len() as u64);
    eprintln!("{submitted} tasks, {kills} kills, {took:?}: {values} values, {lost} lost, {cancelled} cancelled");
    assert_eq!(submitted, values + lost + cancelled);
    assert_eq!(kills, most);
    assert!(lost <= kills, "a kill costs one task at the most: {losses:#?}");
    assert_eq!(pool.submit(work, 3).wait().unwrap(), expected(3), "the pool is whole");

    let id = process::id();
    pool.shutdown().wait();
    assert!(children().is_empty(), "of process {id}");
    // Even while the pool still exists.
    eventually("threads and descriptors are as before", || {
        !has_threads(process::id(), "progress-") && count_descriptors() == descriptors
    });
    drop(pool);
}
