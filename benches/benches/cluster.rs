//! Workers that Slurm has placed on two nodes of this machine: what they cost, and how soon things are known. Run by
//! `benches/cluster`, which starts the Slurm and measures others in the same run; their figures are in the file that is named.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use progress_executor::{
    ExecutorExt, Launcher, ProcessPoolExecutor, ProgressFuture, TaskRegistry, TaskResult, Updater,
};
use rustix::process::{Pid, Signal, kill_process};

fn main() {
    TaskRegistry::new().register(double).register(echo).register(rest).register(tick).register(spin).init();
    let others = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let others = others.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let mut table = Table { others: parse(&others), missed: 0 };
    starts(&mut table);
    throughput(&mut table);
    payloads(&mut table);
    signs(&mut table);
    crowd(&mut table);
    println!("\n{} of these are not what they are to be", table.missed);
}

// The tasks.

fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

fn echo(bytes: Vec<u8>, _: &Updater) -> TaskResult<Vec<u8>> {
    Ok(bytes)
}

/// Has a worker of its own until it is cancelled.
fn rest((): (), progress: &Updater) -> TaskResult<()> {
    progress.update(1)?;
    Ok(progress.sleep(Duration::MAX)?)
}

/// Shows each millisecond.
fn tick((): (), progress: &Updater) -> TaskResult<()> {
    let start = Instant::now();
    loop {
        progress.set_counts(start.elapsed().as_millis() as u64, u64::MAX)?;
        progress.sleep(Duration::from_millis(1))?;
    }
}

fn spin((): (), progress: &Updater) -> TaskResult<()> {
    progress.update(1)?;
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

// The table.

struct Table {
    others: HashMap<(String, String), f64>,
    missed: usize,
}

fn parse(figures: &str) -> HashMap<(String, String), f64> {
    let lines = figures.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let figures = lines.filter_map(|words| match words[..] {
        [whose, name, value] => Some(((whose.to_owned(), name.to_owned()), value.parse().ok()?)),
        _ => None,
    });
    figures.collect()
}

impl Table {
    /// A figure that is to be this, at the most.
    fn at_most(&mut self, what: &str, figure: f64, bound: f64, unit: &str) {
        self.row(what, figure, figure <= bound, &format!("≤ {bound}"), unit);
    }

    fn at_least(&mut self, what: &str, figure: f64, bound: f64, unit: &str) {
        self.row(what, figure, figure >= bound, &format!("≥ {bound}"), unit);
    }

    /// A figure as so many times that of somebody else; `None` where that was not measured.
    fn ratio(&mut self, what: &str, figure: f64, whose: &str, name: &str) -> Option<f64> {
        let other = self.others.get(&(whose.to_owned(), name.to_owned()));
        if other.is_none() {
            println!("{what:52} {:>12}   {whose} was not measured", "");
        }
        Some(figure / other?)
    }

    fn row(&mut self, what: &str, figure: f64, is_met: bool, bound: &str, unit: &str) {
        self.missed += usize::from(!is_met);
        println!("{what:52} {figure:>12.3} {unit:7} {bound:>9}  {}", if is_met { "" } else { "MISSED" });
    }
}

// What is measured.

fn single() -> Launcher {
    Launcher::command(["srun", "--exact", "-n1", "-Q"])
}

fn bulk() -> Launcher {
    Launcher::bulk(["srun", "-N2", "-n{count}", "--overcommit", "-K0", "-Q"])
}

fn pool(launcher: Launcher, workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(workers).launcher(launcher).build().expect("`init` was called")
}

/// A pool all of whose workers are there, and how long that took.
fn full(launcher: Launcher, workers: usize) -> (ProcessPoolExecutor, f64) {
    let start = Instant::now();
    let pool = pool(launcher, workers);
    let tasks: Vec<_> = (0..workers).map(|_| pool.submit(rest, ())).collect();
    wait_for(|| pool.workers().busy == workers);
    let seconds = start.elapsed().as_secs_f64();
    tasks.iter().for_each(|task| task.cancel());
    tasks.into_iter().for_each(|task| drop(task.wait()));
    (pool, seconds)
}

#[track_caller]
fn wait_for(holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(120), "it takes too long");
        thread::sleep(Duration::from_millis(2));
    }
}

fn running(
    pool: &ProcessPoolExecutor,
    submit: impl Fn(&ProcessPoolExecutor) -> ProgressFuture<()>,
) -> ProgressFuture<()> {
    let task = submit(pool);
    wait_for(|| task.progress().n > 0);
    task
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn percentile(mut times: Vec<f64>, percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times[(times.len() - 1) * percent / 100]
}

fn starts(table: &mut Table) {
    let first = |launcher: fn() -> Launcher| {
        let first = || {
            let start = Instant::now();
            assert_eq!(pool(launcher(), 1).submit(double, 1).wait().expect("it returns a value"), 2);
            start.elapsed().as_secs_f64()
        };
        median((0..5).map(|_| first()).collect())
    };
    let seconds = first(single);
    table.at_most("first result, through srun", seconds, 0.3, "s");
    if let Some(ratio) = table.ratio("first result, beside executorlib", seconds, "executorlib", "first_result") {
        table.at_most("first result, beside executorlib", ratio, 0.333, "times");
    }
    table.at_most("first result, connected", first(bulk), 0.3, "s");
}

fn throughput(table: &mut Table) {
    for workers in [8, 32] {
        let (pool, _) = full(bulk(), workers);
        let rate = |tasks: u64| {
            let start = Instant::now();
            let tasks: Vec<_> = (0..tasks).map(|n| pool.submit(double, n)).collect();
            let count = tasks.len() as f64;
            for task in tasks {
                task.wait().expect("it returns a value");
            }
            count / start.elapsed().as_secs_f64()
        };
        rate(5_000);
        let rate = rate(20_000);
        let what = format!("tasks per second, {workers} workers, beside Python's own");
        if let Some(ratio) = table.ratio(&what, rate, "python", &format!("rate{workers}")) {
            table.at_least(&what, ratio, 3.0, "times");
        }
        if let Some(ratio) = table.ratio("the same, beside executorlib", rate, "executorlib", &format!("rate{workers}"))
        {
            table.at_least("the same, beside executorlib", ratio, 3.0, "times");
        }
    }
    for (what, launcher, bound) in [("connected", bulk(), 0.25), ("through srun", single(), 0.3)] {
        let (pool, _) = full(launcher, 1);
        let round_trip = || {
            let start = Instant::now();
            pool.submit(double, 1).wait().expect("it returns a value");
            start.elapsed().as_secs_f64() * 1e3
        };
        let round_trip = median((0..2_000).map(|_| round_trip()).collect());
        table.at_most(&format!("round trip, {what}"), round_trip, bound, "ms");
    }
}

fn payloads(table: &mut Table) {
    for (what, launcher, bound) in [("connected", bulk(), 150.0), ("through srun", single(), 25.0)] {
        let (pool, _) = full(launcher, 1);
        let bytes = vec![7; 10_000_000];
        let there_and_back = || {
            let start = Instant::now();
            pool.submit(echo, bytes.clone()).wait().expect("it returns a value");
            20.0 / start.elapsed().as_secs_f64()
        };
        let rate = median((0..9).map(|_| there_and_back()).collect());
        table.at_least(&format!("10 MB in and out, {what}"), rate, bound, "MB/s");
    }
}

/// How soon what happens is known.
fn signs(table: &mut Table) {
    let (pool, _) = full(bulk(), 2);
    let cancel = || {
        let task = running(&pool, |pool| pool.submit(tick, ()));
        let start = Instant::now();
        task.cancel();
        assert!(task.wait().expect_err("it is cancelled").is_cancelled());
        start.elapsed().as_secs_f64()
    };
    table.at_most("cancel of what listens, p99", percentile((0..100).map(|_| cancel()).collect(), 99), 0.1, "s");
    let task = running(&pool, |pool| pool.submit(tick, ()));
    let (first, start) = (task.progress().n, Instant::now());
    let age = || {
        thread::sleep(Duration::from_millis(3));
        start.elapsed().as_secs_f64() - (task.progress().n - first) as f64 / 1e3
    };
    table.at_most(
        "age of progress, the worst of a second",
        percentile((0..300).map(|_| age()).collect(), 100),
        0.1,
        "s",
    );
    drop(task);
    let worker = |pool: &ProcessPoolExecutor| {
        wait_for(|| pool.workers().workers.iter().any(|worker| worker.is_busy));
        pool.workers().workers.into_iter().find(|worker| worker.is_busy).expect("one is busy").pid
    };
    let lose = |launcher: Launcher| {
        let (pool, _) = full(launcher, 1);
        let task = running(&pool, |pool| pool.submit(spin, ()));
        let worker = Pid::from_raw(worker(&pool) as i32).expect("it is a number of a process");
        let start = Instant::now();
        kill_process(worker, Signal::KILL).expect("it runs");
        task.wait().expect_err("its worker is lost");
        start.elapsed().as_secs_f64()
    };
    let lost = |launcher: fn() -> Launcher| median((0..5).map(|_| lose(launcher())).collect());
    table.at_most("worker killed, known after, connected", lost(bulk), 0.25, "s");
    table.at_most("worker killed, known after, through srun", lost(single), 0.25, "s");
    let builder =
        ProcessPoolExecutor::builder().max_workers(1).launcher(bulk()).cancel_grace(Duration::from_millis(500));
    let pool = builder.build().expect("`init` was called");
    let task = running(&pool, |pool| pool.submit(spin, ()));
    let start = Instant::now();
    task.cancel();
    assert!(task.wait().expect_err("it is cancelled").is_cancelled());
    table.at_most("cancel of what does not listen, beyond the grace", start.elapsed().as_secs_f64() - 0.5, 1.0, "s");
}

/// A thousand workers, and what they cost this program.
fn crowd(table: &mut Table) {
    let (memory, threads) = (status("VmRSS"), status("Threads"));
    for (workers, bound) in [(32, 0.6), (200, 1.5), (1000, 8.0)] {
        let (pool, seconds) = full(bulk(), workers);
        table.at_most(&format!("{workers} workers up"), seconds, bound, "s");
        let start = (Instant::now(), processor_time());
        thread::sleep(Duration::from_secs(10));
        let idle = 100.0 * (processor_time() - start.1) / start.0.elapsed().as_secs_f64();
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        table.at_most(&format!("  memory, {workers} workers"), (status("VmRSS") - memory) / 1e3, 10.0, "MB");
        table.at_most(&format!("  threads, {workers} workers"), status("Threads") - threads + 1.0, 4.0, "");
        table.at_most(&format!("  processor, idle, {workers} workers"), idle, 1.0, "%");
        table.at_most(&format!("  descriptors, {workers} workers"), descriptors as f64, workers as f64 + 32.0, "");
        let start = Instant::now();
        pool.shutdown().wait();
        table.at_most(&format!("  {workers} workers gone"), start.elapsed().as_secs_f64(), 3.0, "s");
    }
    wait_for(|| {
        let jobs = Command::new("squeue").arg("-h").output().expect("Slurm is there");
        jobs.stdout.is_empty()
    });
}

/// What the system says of this process: in kB, or as it is.
fn status(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_start_matches(':').split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// What this process has taken of processors, in seconds.
fn processor_time() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    fields.iter().skip(11).take(2).sum::<f64>() / 100.0
}
