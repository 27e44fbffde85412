//! A thousand workers, and what they cost the program.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskErrorKind};

use crate::support::{double, eventually, kill, on_slurm, pool, processes, take_time};

/// Fewer, where that is asked for: `TEST_WORKERS=200`.
fn workers() -> usize {
    std::env::var("TEST_WORKERS").map_or(1000, |count| count.parse().unwrap())
}

/// What the system says of this process: in kB, or as it is.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

/// The time that this process has taken of processors.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

#[test]
fn a_thousand_workers_cost_little_and_leave_nothing() {
    on_slurm(|slurm| {
        let workers = workers();
        // What the first pool of a process makes once and for all is not counted.
        pool(slurm.bulk(), 1).submit(double, 1).wait().unwrap();
        let (memory, threads) = (status("VmRSS"), status("Threads"));
        let start = Instant::now();
        let pool = pool(slurm.bulk(), workers);
        // Each has one at the same time, or else some would do those of others.
        let tasks: Vec<_> = (0..workers).map(|_| pool.submit(take_time, 600_000)).collect();
        eventually("all are there", || pool.workers().busy == workers);
        let up = start.elapsed();
        tasks.iter().for_each(|task| task.cancel());
        assert!(tasks.into_iter().all(|task| task.wait().unwrap_err().is_cancelled()));
        let tasks: Vec<_> = (0..workers as u64).map(|n| pool.submit(double, n)).collect();
        assert!(tasks.into_iter().enumerate().all(|(n, task)| task.wait().unwrap() == 2 * n as u64));
        let before = (Instant::now(), processor_time());
        std::thread::sleep(Duration::from_secs(5));
        let idle = (processor_time() - before.1).as_secs_f64() / before.0.elapsed().as_secs_f64();
        // The system may have taken memory back meanwhile.
        let (memory, threads) = (status("VmRSS").saturating_sub(memory), status("Threads") - threads);
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
fn tasks_end_exactly_once_while_workers_are_killed() {
    on_slurm(|slurm| {
        let pool = ProcessPoolExecutor::builder().max_workers(32).launcher(slurm.bulk()).build().unwrap();
        pool.submit(double, 1).wait().unwrap();
        let tasks: Vec<_> = (0..2_000).map(|n| pool.task(take_time, n % 20).submit()).collect();
        let mut killed = HashSet::new();
        while killed.len() < 20 && tasks.iter().any(|task| !task.is_done()) {
            let worker = processes().into_iter().find(|worker| !killed.contains(worker));
            if let Some(worker) = worker {
                kill(worker);
                killed.insert(worker);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let (mut values, mut lost) = (0, 0);
        for task in tasks {
            match task.wait() {
                Ok(_) => values += 1,
                Err(error) => {
                    assert!(matches!(error.kind(), TaskErrorKind::WorkerLost(_)), "{error:#}");
                    lost += 1;
                }
            }
        }
        assert_eq!(values + lost, 2_000);
        assert!(lost <= killed.len(), "{lost} tasks are lost with {} workers", killed.len());
    });
}
