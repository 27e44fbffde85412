//! Sixteen tasks on three workers, with a live bar for each running task and one for the total, and a table of how each ended.
//!
//! ```text
//! cargo run --release --example full_example -- [--executor threads|processes|sync] [--launcher COMMAND] [--cancel]
//!     [--report run.html] [--trace run.json]
//! ```
//!
//! - `--executor threads` (the default) runs three tasks at a time, `--executor processes` does so in worker processes,
//!   and `--executor sync` runs one after the other, within the poll.
//! - `--launcher "srun --exact -n1 -Q"` starts the worker processes with that command, and shows on which host each task runs.
//!   The environment variable `PROGRESS_EXECUTOR_LAUNCHER` does the same.
//! - `--cancel` cancels the first task after two seconds.
//! - `--report` writes a page for a browser that shows which worker has run which task, and `--trace` the same for
//!   [Perfetto](https://ui.perfetto.dev) or `chrome://tracing`.
//! - Ctrl-C cancels all tasks; the table is still printed, and the exit code is 130. If a task has failed, it is 1.
//! - Ctrl-Z removes the bars and stops the program together with its worker processes; `fg` continues all of it.
//!
//! Progress goes to standard error: as bars on a terminal, and otherwise as a line for each start and each end. The
//! table goes to standard output.

mod cli;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::future::ready;
use std::hint::black_box;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[cfg(unix)]
use async_signal::{Signal, Signals};
use futures::StreamExt;
use progress_executor::{
    BoxError, Canceller, Executor, ExecutorExt, GroupBars, GroupHandle, GroupReport, Launcher, ProcessPoolExecutor,
    ProgressFuture, SyncExecutor, TaskError, TaskGroup, TaskRegistry, TaskResult, ThreadPoolExecutor, Updater,
};
#[cfg(unix)]
use rustix::process::{getpid, kill_process};
use smol::Timer;

const USAGE: &str = "\
Usage: full_example [--executor threads|processes|sync] [--launcher COMMAND] [--cancel]
                    [--report FILE] [--trace FILE]

  --executor threads    run three tasks at a time (the default)
  --executor processes  the same, each in a process of its own
  --executor sync       run one task after the other
  --launcher COMMAND    start the worker processes with this command, such as
                        \"srun --exact -n1 -Q\"; PROGRESS_EXECUTOR_LAUNCHER does the same
  --cancel              cancel the first task after two seconds
  --report FILE         write a page that shows which worker has run what
  --trace FILE          write the same for Perfetto or chrome://tracing
  --help                show this

Ctrl-C cancels all tasks.";

/// The steps of each task; the list is used twice.
const SIZES: [u64; 8] = [30, 40, 35, 60, 20, 50, 38, 27];
const TASKS: usize = 2 * SIZES.len();
const WORKERS: usize = 3;
const ITERATIONS: u32 = 2_500_000;
const PAUSE: Duration = Duration::from_millis(100);
const CANCEL_AFTER: Duration = Duration::from_secs(2);
/// The variable that tells workers to say where they are.
const SHOWS_HOST: &str = "FULL_EXAMPLE_SHOWS_HOST";

fn main() -> ExitCode {
    // In a worker process this serves tasks, and never returns.
    TaskRegistry::new().register(collatz).init();
    cli::run(USAGE, Options::parse, |options| run(&options))
}

/// The task: `n` steps, each of which computes and then waits.
fn collatz(n: u64, progress: &Updater) -> TaskResult<u64> {
    if let Some(host) = host() {
        progress.set_message(host);
    }
    for step in progress.iter(0..n) {
        step?;
        compute();
        progress.sleep(PAUSE)?;
    }
    Ok(n)
}

/// The name of the host on which a launcher has started this process.
fn host() -> Option<String> {
    env::var_os(SHOWS_HOST)?;
    let name = env::var("SLURMD_NODENAME").or_else(|_| fs::read_to_string("/proc/sys/kernel/hostname"));
    name.ok().map(|name| name.trim().to_owned())
}

fn compute() {
    let mut number: u64 = 17;
    for _ in 0..ITERATIONS {
        number = black_box(if number % 2 == 0 { number / 2 } else { 3 * number + 1 });
    }
}

/// What the command line asks for.
struct Options {
    executor: Kind,
    launcher: Launcher,
    cancel_first: bool,
    report: Option<NewFile>,
    trace: Option<NewFile>,
}

/// Created before there is anything to write, so that an unusable path is reported before the work begins.
struct NewFile {
    path: PathBuf,
    file: File,
}

impl NewFile {
    fn create(path: Option<OsString>, option: &str) -> Result<Self, String> {
        let path = PathBuf::from(path.ok_or_else(|| format!("`{option}` needs a value: the file to write"))?);
        let file = File::create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self { path, file })
    }

    fn fill(&self, write: impl FnOnce(&File) -> io::Result<()>) -> Result<(), BoxError> {
        write(&self.file).map_err(|error| format!("cannot write {}: {error}", self.path.display()).into())
    }
}

enum Kind {
    Threads,
    Processes,
    Sync,
}

impl Options {
    fn parse(arguments: Vec<OsString>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let launcher = Launcher::from_env().map_err(|error| format!("{error:#}"))?;
        let executor = Kind::default_for(&launcher);
        let mut options = Self { executor, launcher, cancel_first: false, report: None, trace: None };
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--cancel") => options.cancel_first = true,
                Some("--report") => options.report = Some(NewFile::create(arguments.next(), "--report")?),
                Some("--trace") => options.trace = Some(NewFile::create(arguments.next(), "--trace")?),
                Some("--executor") => options.executor = Kind::parse(arguments.next())?,
                Some("--launcher") => {
                    let command = arguments.next().and_then(|command| command.into_string().ok());
                    let command = command.ok_or("`--launcher` needs a command, such as \"srun --exact -n1 -Q\"")?;
                    options.launcher = command.parse().map_err(|error| format!("{error:#}"))?;
                    options.executor = Kind::default_for(&options.launcher);
                }
                _ => return Err(format!("unknown argument {argument:?}")),
            }
        }
        Ok(options)
    }

    fn write_report(&self, report: &GroupReport) -> Result<(), BoxError> {
        if let Some(page) = &self.report {
            page.fill(|file| report.write_html(file))?;
        }
        if let Some(trace) = &self.trace {
            trace.fill(|file| report.write_chrome_trace(file))?;
        }
        Ok(())
    }
}

/// The executor, and the same one again as its own type if it is a pool of processes.
type Chosen = (Arc<dyn Executor>, Option<Arc<ProcessPoolExecutor>>);

impl Kind {
    /// Processes if there is a launcher, which can start nothing else; otherwise threads.
    fn default_for(launcher: &Launcher) -> Self {
        if *launcher == Launcher::default() { Self::Threads } else { Self::Processes }
    }

    fn parse(name: Option<OsString>) -> Result<Self, String> {
        let name = name.ok_or("`--executor` needs a value: threads, processes or sync")?;
        match name.to_str() {
            Some("threads") => Ok(Self::Threads),
            Some("processes") => Ok(Self::Processes),
            Some("sync") => Ok(Self::Sync),
            _ => Err(format!("unknown executor {name:?}; there are: threads, processes, sync")),
        }
    }

    fn executor(&self, launcher: &Launcher) -> Result<Chosen, BoxError> {
        Ok(match self {
            Self::Threads => (Arc::new(ThreadPoolExecutor::new(WORKERS)), None),
            Self::Processes => {
                let mut builder = ProcessPoolExecutor::builder().max_workers(WORKERS).launcher(launcher.clone());
                if *launcher != Launcher::default() {
                    builder = builder.env(SHOWS_HOST, "");
                }
                let executor = Arc::new(builder.build()?);
                (executor.clone(), Some(executor))
            }
            Self::Sync => (Arc::new(SyncExecutor::new()), None),
        })
    }
}

fn run(options: &Options) -> Result<ExitCode, BoxError> {
    let (executor, processes) = options.executor.executor(&options.launcher)?;
    let started = Instant::now();
    let mut group = TaskGroup::new();
    let bars = group.show_bars();
    bars.println(format!("{TASKS} tasks, {} at a time; Ctrl-C cancels them", executor.max_workers()));
    let interrupted = cancel_on_interrupt(group.handle())?;
    stop_on_ctrl_z(bars.clone(), processes)?;
    let tasks = submit_all(&*executor);
    let names: Vec<String> = tasks.iter().map(|task| task.name().to_owned()).collect();
    if options.cancel_first {
        cancel_later(tasks[0].canceller());
    }
    group.extend(tasks);
    let handle = group.handle();
    let outcomes = smol::block_on(group.join_all());
    bars.clear();
    let rows = names.into_iter().zip(sizes()).zip(outcomes);
    let rows: Vec<Row> = rows.map(|((name, size), outcome)| Row { name, size, outcome }).collect();
    let is_read = is_read(print_table(&rows, started.elapsed()))?;
    options.write_report(&handle.report())?;
    let has_failed = |row: &Row| row.outcome.as_ref().is_err_and(|error| !error.is_cancelled());
    Ok(match rows.iter().any(has_failed) {
        _ if interrupted.load(Ordering::Relaxed) => ExitCode::from(cli::INTERRUPTED),
        _ if !is_read => ExitCode::from(cli::BROKEN_PIPE),
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Returns whether the reader of the table has read all of it. One that is gone, such as `head`, is no error, so that the report
/// is still written.
fn is_read(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Cancels every task on Ctrl-C. Returns a flag that is set when that happens.
fn cancel_on_interrupt(group: GroupHandle) -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (flag, interrupts) = (interrupted.clone(), cli::interrupts()?);
    let cancel = interrupts.for_each(move |_| {
        flag.store(true, Ordering::Relaxed);
        group.cancel();
        ready(())
    });
    smol::spawn(cancel).detach();
    Ok(interrupted)
}

/// On Ctrl-Z, removes the bars and stops the program. Worker processes are not in its process group, so they are stopped and
/// continued explicitly.
#[cfg(unix)]
fn stop_on_ctrl_z(bars: GroupBars, processes: Option<Arc<ProcessPoolExecutor>>) -> io::Result<()> {
    let stop = Signals::new([Signal::Tstp])?.for_each(move |_| {
        processes.iter().for_each(|executor| executor.suspend());
        // Returns when the program continues.
        let _ = bars.suspend(|| kill_process(getpid(), rustix::process::Signal::STOP));
        processes.iter().for_each(|executor| executor.resume());
        ready(())
    });
    smol::spawn(stop).detach();
    Ok(())
}

#[cfg(not(unix))]
fn stop_on_ctrl_z(_: GroupBars, _: Option<Arc<ProcessPoolExecutor>>) -> io::Result<()> {
    Ok(())
}

/// Cancels on another thread, since `--executor sync` keeps this one busy with the tasks.
fn cancel_later(canceller: Canceller) {
    let cancel = async move {
        Timer::after(CANCEL_AFTER).await;
        canceller.cancel();
    };
    smol::spawn(cancel).detach();
}

fn sizes() -> impl Iterator<Item = u64> {
    SIZES.into_iter().cycle().take(TASKS)
}

fn submit_all(executor: &dyn Executor) -> Vec<ProgressFuture<u64>> {
    let submit = |(number, size)| executor.task(collatz, size).name(format!("walk {number:02}")).submit();
    (1..).zip(sizes()).map(submit).collect()
}

/// How one task ended.
struct Row {
    name: String,
    size: u64,
    outcome: Result<u64, TaskError>,
}

fn print_table(rows: &[Row], elapsed: Duration) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let rule = format!("-------  ----  -----  {}", "-".repeat(50));
    writeln!(out, "task     size  value  outcome\n{rule}")?;
    for Row { name, size, outcome } in rows {
        match outcome {
            Ok(value) => writeln!(out, "{name:7}  {size:4}  {value:5}  finished")?,
            Err(error) => writeln!(out, "{name:7}  {size:4}  {:>5}  {error:#}", "-")?,
        }
    }
    writeln!(out, "{rule}\n{}", total(rows, elapsed))
}

fn total(rows: &[Row], elapsed: Duration) -> String {
    let size: u64 = rows.iter().map(|row| row.size).sum();
    let values: Vec<u64> = rows.iter().filter_map(|row| row.outcome.as_ref().ok().copied()).collect();
    let (value, finished) = (values.iter().sum::<u64>(), values.len());
    let seconds = elapsed.as_secs_f64();
    format!("total    {size:4}  {value:5}  {finished} of {} finished, in {seconds:.1} s", rows.len())
}
