//! Workers that Slurm has placed on two nodes of this machine: what they cost, and how soon the program learns of events. Run
//! by `benches/cluster`, which starts Slurm and names the Python in which other libraries are measured, in turns with this one.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use progress_executor::{
    ExecutorExt, Launcher, ProcessPoolExecutor, ProgressFuture, TaskRegistry, TaskResult, Updater, WorkerOutput,
};
use rustix::process::{Pid, Signal, kill_process};

fn main() {
    TaskRegistry::new().register(double).register(echo).register(rest).register(tick).register(spin).init();
    match std::env::args().nth(1).as_deref() {
        Some(ENDLESS) => return run_for_ever(),
        Some(FIRST_SINGLE) => return run_first(single()),
        Some(FIRST_BULK) => return run_first(bulk()),
        _ => {}
    }
    let python = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut table = Table { python, others: HashMap::new(), missed: 0 };
    println!("| {:50} | {:14} | {:7} | {:6} |", "", "measured", "bound", "");
    println!("|{:-<52}|{:->15}:|{:->8}:|{:-<8}|", "", "", "", "");
    starts(&mut table);
    throughput(&mut table);
    payloads(&mut table);
    signs(&mut table);
    ends(&mut table);
    crowd(&mut table);
    println!("\n{} of these miss their bounds.", table.missed);
}

// The tasks.

fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

fn echo(bytes: Vec<u8>, _: &Updater) -> TaskResult<Vec<u8>> {
    Ok(bytes)
}

/// Occupies a worker until it is cancelled.
fn rest((): (), progress: &Updater) -> TaskResult<()> {
    progress.update(1)?;
    Ok(progress.sleep(Duration::MAX)?)
}

/// Counts milliseconds.
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
    python: Option<String>,
    /// The measurements of other libraries, by library and name of the figure.
    others: HashMap<(String, String), Vec<f64>>,
    missed: usize,
}

impl Table {
    /// Measures other libraries once more.
    fn measure_others(&mut self, what: &[&str]) {
        let Some(python) = &self.python else { return };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster.py");
        let start = Instant::now();
        let others = Command::new("timeout").args(["120", python, script]).args(what).stdout(Stdio::piped()).spawn();
        let mut others = others.expect("there is `timeout`");
        let figures = BufReader::new(others.stdout.take().expect("it is a pipe")).lines();
        for line in figures.map_while(Result::ok) {
            if let [whose, name, value] = line.split_whitespace().collect::<Vec<_>>()[..] {
                let since_start = start.elapsed().as_secs_f64();
                let value = if value == "now" { since_start } else { value.parse().expect("it is a number") };
                self.others.entry((whose.to_owned(), name.to_owned())).or_default().push(value);
            }
        }
        others.wait().expect("it ends");
    }

    /// Adds a figure with an upper bound.
    fn at_most(&mut self, what: &str, figure: f64, bound: f64, unit: &str) {
        self.row(what, figure, figure <= bound, &format!("≤ {bound}"), unit);
    }

    fn at_least(&mut self, what: &str, figure: f64, bound: f64, unit: &str) {
        self.row(what, figure, figure >= bound, &format!("≥ {bound}"), unit);
    }

    /// Adds the ratio of a figure to that of another library, with an upper bound.
    fn at_most_of(&mut self, what: &str, figure: f64, other: (&str, &str), bound: f64) {
        if let Some(ratio) = self.ratio(what, figure, other) {
            self.at_most(what, ratio, bound, "times");
        }
    }

    fn at_least_of(&mut self, what: &str, figure: f64, other: (&str, &str), bound: f64) {
        if let Some(ratio) = self.ratio(what, figure, other) {
            self.at_least(what, ratio, bound, "times");
        }
    }

    /// The ratio to another library's figure; `None` if that was not measured.
    fn ratio(&mut self, what: &str, figure: f64, (whose, name): (&str, &str)) -> Option<f64> {
        let other = self.others.get(&(whose.to_owned(), name.to_owned()));
        if other.is_none() {
            println!("| {what:50} | {whose} was not measured | | |");
        }
        Some(figure / median(other?.clone()))
    }

    fn row(&mut self, what: &str, figure: f64, is_met: bool, bound: &str, unit: &str) {
        self.missed += usize::from(!is_met);
        println!("| {what:50} | {figure:>8.3} {unit:5} | {bound:>7} | {:6} |", if is_met { "" } else { "MISSED" });
    }
}

// What is measured.

/// How often each figure is measured, in turns with other libraries.
const ROUNDS: usize = 5;

fn single() -> Launcher {
    Launcher::command(["srun", "--exact", "-n1", "-Q"])
}

fn bulk() -> Launcher {
    Launcher::bulk(["srun", "-N2", "-n{count}", "--overcommit", "-K0", "-Q"])
}

fn pool(launcher: Launcher, workers: usize) -> ProcessPoolExecutor {
    // srun reports workers that are killed on purpose, which does not belong in the table.
    let builder = ProcessPoolExecutor::builder().max_workers(workers).launcher(launcher).output(WorkerOutput::Null);
    builder.build().expect("`init` was called")
}

/// A pool with all of its workers busy at once, and the seconds until then.
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
    let first = |kind| {
        let (mut program, seconds) = begin(kind);
        program.wait().expect("it ends");
        wait_for(no_jobs);
        seconds
    };
    let in_turns = (0..ROUNDS).map(|_| {
        table.measure_others(&["first_result"]);
        wait_for(no_jobs);
        first(FIRST_SINGLE)
    });
    let seconds = median(in_turns.collect());
    table.at_most("first result, through srun", seconds, 0.3, "s");
    table.at_most_of("first result, beside executorlib", seconds, ("executorlib", "first_result"), 0.333);
    let seconds = median((0..ROUNDS).map(|_| first(FIRST_BULK)).collect());
    table.at_most("first result, connected", seconds, 0.3, "s");
}

fn throughput(table: &mut Table) {
    let rate = |pool: &ProcessPoolExecutor, tasks: u64| {
        let start = Instant::now();
        let tasks: Vec<_> = (0..tasks).map(|n| pool.submit(double, n)).collect();
        let count = tasks.len() as f64;
        for task in tasks {
            task.wait().expect("it returns a value");
        }
        count / start.elapsed().as_secs_f64()
    };
    for workers in [8, 32] {
        let in_turns = (0..ROUNDS).map(|_| {
            // The other libraries need the processors that Slurm manages.
            wait_for(no_jobs);
            table.measure_others(&["rates", &workers.to_string()]);
            let (pool, _) = full(bulk(), workers);
            rate(&pool, 5_000);
            let rate = rate(&pool, 20_000);
            pool.shutdown().wait();
            rate
        });
        let rate = median(in_turns.collect());
        println!("| {:50} | {rate:>8.0} /s    | {:7} | {:6} |", format!("tasks per second, {workers} workers"), "", "");
        for (whose, name) in [("python", "Python's own"), ("executorlib", "executorlib")] {
            table.at_least_of(&format!("  beside {name}"), rate, (whose, &format!("rate{workers}")), 3.0);
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
        for (whose, name) in [("python", "Python's own"), ("executorlib", "executorlib")] {
            table.at_most_of(&format!("  beside {name}"), round_trip / 1e3, (whose, "round_trip"), 1.0);
        }
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

/// Measures how soon the program learns of events.
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

// Programs that start, and programs and nodes that end.

/// Makes this program one that computes a single result.
const FIRST_SINGLE: &str = "--first-single";
const FIRST_BULK: &str = "--first-bulk";
/// Makes this program one whose tasks never end.
const ENDLESS: &str = "--endless";

fn run_first(launcher: Launcher) {
    assert_eq!(pool(launcher, 1).submit(double, 1).wait().expect("it returns a value"), 2);
    println!("begun");
}

fn run_for_ever() {
    let pool = pool(bulk(), 2);
    let tasks: Vec<_> = (0..2).map(|_| pool.submit(spin, ())).collect();
    wait_for(|| tasks.iter().all(|task| task.progress().n > 0));
    println!("begun");
    tasks.into_iter().for_each(|task| drop(task.wait()));
}

/// Measures for how long tasks and jobs outlive their program, and how soon the loss of a node is noticed.
fn ends(table: &mut Table) {
    for (what, signal, bounds) in [("killed", Signal::KILL, (1.0, 3.0)), ("interrupted", Signal::INT, (1.5, 3.0))] {
        let (tasks, jobs): (Vec<_>, Vec<_>) = (0..5).map(|_| end_program(signal)).unzip();
        table.at_most(&format!("program {what}, no task left after"), median(tasks), bounds.0, "s");
        table.at_most(&format!("program {what}, `squeue` empty after"), median(jobs), bounds.1, "s");
    }
    let heartbeat = Duration::from_secs(1);
    let pool = pool(bulk().heartbeat(heartbeat), 2);
    let tasks: Vec<_> = (0..2).map(|_| pool.submit(spin, ())).collect();
    wait_for(|| tasks.iter().all(|task| task.progress().n > 0));
    let node = processes_of("n2");
    let start = Instant::now();
    signal_all(&node, Signal::STOP);
    wait_for(|| tasks.iter().any(ProgressFuture::is_done));
    let seconds = start.elapsed().as_secs_f64();
    let lost = tasks.iter().filter(|task| task.is_done()).count();
    signal_all(&node, Signal::CONT);
    let what = "node silent, known after three heartbeats and";
    table.at_most(what, seconds - 3.0 * heartbeat.as_secs_f64(), 1.0, "s");
    table.at_most("  tasks lost, of one on each node", lost as f64, 1.0, "");
    drop(pool.shutdown_now());
    wait_for(|| no_jobs() && own_processes().is_empty());
}

/// Runs this program once more with the argument `kind`. Returns how many seconds it took to begin.
fn begin(kind: &str) -> (Child, f64) {
    let start = Instant::now();
    let program = std::env::current_exe().expect("it is a file");
    let program = Command::new(program).arg(kind).stdout(Stdio::piped()).spawn();
    let mut program = program.expect("it can be run");
    let lines = BufReader::new(program.stdout.take().expect("it is a pipe")).lines();
    lines.map_while(Result::ok).find(|line| line == "begun").expect("it begins");
    (program, start.elapsed().as_secs_f64())
}

/// Sends a program a signal. Returns the seconds until none of its tasks is left, and until none of its jobs is.
fn end_program(signal: Signal) -> (f64, f64) {
    let (mut program, _) = begin(ENDLESS);
    let start = Instant::now();
    signal_all(&[program.id()], signal);
    program.wait().expect("it ends");
    wait_for(|| own_processes().is_empty());
    let tasks = start.elapsed().as_secs_f64();
    wait_for(no_jobs);
    (tasks, start.elapsed().as_secs_f64())
}

fn no_jobs() -> bool {
    Command::new("squeue").arg("-h").output().expect("Slurm is there").stdout.is_empty()
}

/// The processes that run this program, apart from this one.
fn own_processes() -> Vec<u32> {
    let own = fs::read_link("/proc/self/exe").expect("it is a file");
    let is_own =
        |id: &u32| *id != process::id() && fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == own);
    all_processes().into_iter().filter(is_own).collect()
}

fn all_processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("this is Linux");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The processes of a node: its daemon, the managers of its steps, and their workers.
fn processes_of(node: &str) -> Vec<u32> {
    let has = |id: u32, what: &str, text: &str| {
        fs::read(format!("/proc/{id}/{what}")).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
    };
    let parent = |id: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let cluster = std::env::var("SLURM_CONF").unwrap_or_default();
    let is_daemon = |&id: &u32| {
        has(id, "comm", "slurmd\n")
            && has(id, "cmdline", &format!("-N\0{node}\0"))
            && has(id, "environ", &format!("SLURM_CONF={cluster}\0"))
    };
    let is_here = |&id: &u32| has(id, "environ", &format!("SLURMD_NODENAME={node}\0"));
    let workers: Vec<u32> = own_processes().into_iter().filter(is_here).collect();
    let managers = workers.iter().filter_map(|&id| parent(id)).filter(|&id| has(id, "comm", "slurmstepd"));
    let managers: Vec<u32> = managers.collect();
    [all_processes().into_iter().filter(is_daemon).collect(), managers, workers].concat()
}

fn signal_all(processes: &[u32], signal: Signal) {
    for &process in processes {
        let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("it is a number of a process");
        // It may have ended meanwhile.
        let _ = kill_process(process, signal);
    }
}

/// Measures what up to a thousand workers cost this program.
fn crowd(table: &mut Table) {
    let (memory, threads) = (status("VmRSS"), status("Threads"));
    for (workers, bound) in [(32, 0.6), (200, 1.5), (1000, 8.0)] {
        let (pool, seconds) = full(bulk(), workers);
        table.at_most(&format!("{workers} workers up"), seconds, bound, "s");
        if workers == 32 {
            table.at_most_of("  beside executorlib", seconds, ("executorlib", "up32"), 1.0);
        }
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
    wait_for(no_jobs);
}

/// A field of this process's `/proc/self/status`; memory is in kB.
fn status(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_start_matches(':').split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// The processor time of this process, in seconds.
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
