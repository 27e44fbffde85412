//! A thousand workers: what they cost the program, and what is lost with some of them. Set `TEST_WORKERS=1000` for the
//! test that otherwise starts fewer.

use std::fs;
use std::time::{Duration, Instant};

use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskErrorKind, WorkerStatus};
use rustix::process::Signal;

use crate::nodes::{Node, signal_all};
use crate::support::{double, eventually, kill, on_slurm, pool, rest, said_by, wait_and_double};

/// The number of workers: `TEST_WORKERS`, if it is set.
fn workers(unless_asked: usize) -> usize {
    std::env::var("TEST_WORKERS").map_or(unless_asked, |count| count.parse().unwrap())
}

/// A value from `/proc/self/status`: in kB, or as it is.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

/// The processor time that this process has used.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

/// Waits until all workers have come. Each gets a task at the same time, because otherwise some would do those of
/// others.
fn wait_for_all(pool: &ProcessPoolExecutor, workers: usize) {
    let tasks: Vec<_> = (0..workers).map(|_| pool.submit(rest, ())).collect();
    eventually("all are there", || pool.workers().busy == workers);
    tasks.iter().for_each(|task| task.cancel());
    assert!(tasks.into_iter().all(|task| task.wait().unwrap_err().is_cancelled()));
}

#[test]
fn a_thousand_workers_cost_little_and_leave_nothing() {
    on_slurm(|slurm| {
        let workers = workers(1000);
        // What the first pool of a process sets up once and for all does not count.
        let first = pool(slurm.bulk(), 1);
        first.submit(double, 1).wait().unwrap();
        first.shutdown().wait();
        let (memory, threads) = (status("VmRSS"), status("Threads"));
        let start = Instant::now();
        let pool = pool(slurm.bulk(), workers);
        wait_for_all(&pool, workers);
        let up = start.elapsed();
        let tasks: Vec<_> = (0..workers as u64).map(|n| pool.submit(double, n)).collect();
        assert!(tasks.into_iter().enumerate().all(|(n, task)| task.wait().unwrap() == 2 * n as u64));
        let before = (Instant::now(), processor_time());
        std::thread::sleep(Duration::from_secs(5));
        let idle = (processor_time() - before.1).as_secs_f64() / before.0.elapsed().as_secs_f64();
        // The system may have taken memory back meanwhile, and a thread of the first pool may have ended.
        let (memory, threads) = (status("VmRSS").saturating_sub(memory), status("Threads").saturating_sub(threads));
        eprintln!("{workers} workers: up in {up:?}, {memory} kB, {threads} threads, {:.1} % idle", 100.0 * idle);
        assert!(threads <= 4, "{threads} threads");
        assert!(memory < 15 * workers as u64, "{memory} kB");
        assert!(idle < 0.1, "{idle} of a processor");
        let start = Instant::now();
        pool.shutdown().wait();
        eprintln!("gone in {:?}", start.elapsed());
    });
}

#[test]
fn tasks_end_exactly_once_while_workers_a_step_and_a_node_are_killed() {
    on_slurm(|slurm| {
        let workers = workers(32);
        let pool = pool(slurm.bulk(), workers);
        wait_for_all(&pool, workers);
        // Tasks long enough to keep all workers busy until the last one is killed.
        let most = workers as u64 * 2 / 3;
        let tasks: Vec<_> = (0..10_000).map(|n| pool.submit(wait_and_double, (n, most))).collect();
        let done = || tasks.iter().filter(|task| task.is_done()).count();
        eventually("some have ended", || done() >= 1_000);
        let node = Node("n2");
        signal_all(&node.all(), Signal::KILL);
        eventually("the others go on", || pool.workers().lost > 0 && done() >= 2_000);
        for killed in 1..=10 {
            let before = pool.workers();
            kill(before.workers[0].pid);
            eventually("it is lost, and the others go on", || {
                pool.workers().lost > before.lost && done() >= 2_000 + 200 * killed
            });
        }
        // A launch that fails on it must not be the only one that there is.
        drop(node);
        let is_back = || pool.workers().workers.iter().any(|worker| worker.host == "n2");
        eventually("it is used again, if there is work left for it", || is_back() || done() == tasks.len());
        let before = pool.workers();
        let WorkerStatus { job, step, .. } = &before.workers[0];
        said_by("scancel", &[&format!("{}.{}", job.as_ref().unwrap(), step.as_ref().unwrap())]);
        eventually("all of its step are lost", || pool.workers().lost > before.lost);
        let (mut values, mut lost) = (0, 0);
        for (n, task) in (0..10_000).zip(tasks) {
            match task.wait() {
                Ok(value) => {
                    assert_eq!(value, 2 * n);
                    values += 1;
                }
                Err(error) => {
                    assert!(matches!(error.kind(), TaskErrorKind::WorkerLost(_)), "{error:#}");
                    lost += 1;
                }
            }
        }
        let gone = pool.workers().lost;
        assert_eq!(values + lost, 10_000);
        assert!(gone > 10 && lost <= gone, "{lost} tasks are lost with {gone} workers");
    });
}
