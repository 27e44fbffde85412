//! Sixteen tasks, three workers, a live bar for each task and one for the whole, and a table of how each of them ended.
//!
//! ```text
//! cargo run --release --example full_example -- [--executor threads|processes|sync] [--cancel]
//! ```
//!
//! - `--executor threads` (the default) runs three tasks at a time, `--executor processes` does so in worker processes,
//!   and `--executor sync` runs one after the other, inside of the poll.
//! - `--cancel` cancels the first task after two seconds.
//! - Ctrl-C cancels all of them; the table is printed all the same, and the exit code is 130.
//!
//! Progress goes to standard error: as bars on a terminal, and else as a line for each start and each end. The
//! table goes to standard output.

use std::cell::Cell;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::hint::black_box;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use indicatif::{MultiProgress, ProgressDrawTarget, ProgressStyle};
use progress_executor::{
    Canceller, Executor, ExecutorExt, ProcessPoolExecutor, ProgressBar, ProgressFuture, ProgressState, Status,
    SyncExecutor, TaskError, TaskRegistry, TaskResult, ThreadPoolExecutor, Triggers, Updater,
};
use smol::Timer;

const USAGE: &str = "\
Usage: full_example [--executor threads|processes|sync] [--cancel]

  --executor threads    run three tasks at a time (the default)
  --executor processes  the same, each in a process of its own
  --executor sync       run one task after the other
  --cancel              cancel the first task after two seconds
  --help                show this

Ctrl-C cancels all tasks.";

/// The steps of each task; the list is gone through twice.
const SIZES: [u64; 8] = [30, 40, 35, 60, 20, 50, 38, 27];
const TASKS: usize = 2 * SIZES.len();
const WORKERS: usize = 3;
const ITERATIONS: u32 = 2_500_000;
const PAUSE: Duration = Duration::from_millis(100);
const CANCEL_AFTER: Duration = Duration::from_secs(2);

/// What a shell expects of a program that ended because of Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    // In a worker process this serves tasks, and never returns.
    TaskRegistry::new().register(collatz).init();
    match Options::parse(env::args_os().skip(1)) {
        Ok(Some(options)) => run(&options).unwrap_or_else(|error| fail(&*error, ExitCode::FAILURE)),
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&*error, ExitCode::from(2)),
    }
}

fn fail(error: &dyn Error, code: ExitCode) -> ExitCode {
    eprintln!("full_example: {error}");
    code
}

/// What is computed, in steps that alternate between work and waiting.
fn collatz(n: u64, progress: &Updater) -> TaskResult<u64> {
    for step in progress.iter(0..n) {
        step?;
        compute();
        progress.sleep(PAUSE)?;
    }
    Ok(n)
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
    cancel_first: bool,
}

enum Kind {
    Threads,
    Processes,
    Sync,
}

impl Options {
    /// `None` where help is asked for.
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, Box<dyn Error>> {
        let mut options = Self { executor: Kind::Threads, cancel_first: false };
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--help" | "-h") => return Ok(None),
                Some("--cancel") => options.cancel_first = true,
                Some("--executor") => options.executor = Kind::parse(arguments.next())?,
                _ => return Err(format!("unknown argument {argument:?}; `--help` shows what there is").into()),
            }
        }
        Ok(Some(options))
    }
}

impl Kind {
    fn parse(name: Option<OsString>) -> Result<Self, Box<dyn Error>> {
        let name = name.ok_or("`--executor` needs a value: threads, processes or sync")?;
        match name.to_str() {
            Some("threads") => Ok(Self::Threads),
            Some("processes") => Ok(Self::Processes),
            Some("sync") => Ok(Self::Sync),
            _ => Err(format!("unknown executor {name:?}; there are: threads, processes, sync").into()),
        }
    }

    fn executor(&self) -> Result<Box<dyn Executor>, Box<dyn Error>> {
        Ok(match self {
            Self::Threads => Box::new(ThreadPoolExecutor::new(WORKERS)),
            Self::Processes => Box::new(ProcessPoolExecutor::new(WORKERS)?),
            Self::Sync => Box::new(SyncExecutor::new()),
        })
    }
}

fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let executor = options.executor.executor()?;
    let screen = Screen::new(&*executor);
    let started = Instant::now();
    let tasks = submit_all(&*executor);
    let interrupted = cancel_on_interrupt(tasks.iter().map(ProgressFuture::canceller).collect())?;
    if options.cancel_first {
        cancel_later(tasks[0].canceller());
    }
    let rows = smol::block_on(join_all(tasks.into_iter().zip(sizes()).map(|(task, size)| follow(task, size, &screen))));
    screen.clear()?;
    finish_output(print_table(&rows, started.elapsed()))?;
    Ok(if interrupted.load(Ordering::Relaxed) { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// A reader of the table that has seen enough, such as `head`, is not an error.
fn finish_output(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Cancels every task on Ctrl-C. Returns whether that has happened.
fn cancel_on_interrupt(cancellers: Vec<Canceller>) -> Result<Arc<AtomicBool>, ctrlc::Error> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || {
        flag.store(true, Ordering::Relaxed);
        // The last ones first, or else workers that become free would start them.
        cancellers.iter().rev().for_each(Canceller::cancel);
    })?;
    Ok(interrupted)
}

/// Not on this thread, which is busy running the tasks when they are run inside of the poll.
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
    let submit = |(number, size)| executor.task(collatz, size).name(format!("{number:02}")).submit();
    (1..).zip(sizes()).map(submit).collect()
}

/// Shows a task on the screen while it is awaited.
async fn follow(mut task: ProgressFuture<u64>, size: u64, screen: &Screen) -> Row {
    screen.watch(&mut task);
    let name = task.name().to_owned();
    let outcome = task.await;
    screen.count_end();
    Row { name, size, outcome }
}

/// Where progress is shown.
enum Screen {
    /// On a terminal: bars.
    Bars(Bars),
    /// Anywhere else: lines.
    Lines,
}

impl Screen {
    fn new(executor: &dyn Executor) -> Self {
        if io::stderr().is_terminal() { Self::Bars(Bars::new(executor)) } else { Self::Lines }
    }

    fn watch(&self, task: &mut ProgressFuture<u64>) {
        let triggers = Triggers::RUNNING | Triggers::CANCELLED;
        let name = format!("task {}", task.name());
        match self {
            Self::Lines => task.add_bar(triggers, || Lines { name, is_announced: false }),
            Self::Bars(bars) => {
                task.add_bar(triggers, bars.maker(name));
                task.add_progress_callback(bars.adder());
            }
        }
    }

    fn count_end(&self) {
        if let Self::Bars(bars) = self {
            bars.count_end();
        }
    }

    fn clear(&self) -> io::Result<()> {
        match self {
            Self::Bars(bars) => bars.clear(),
            Self::Lines => Ok(()),
        }
    }
}

/// A title, a bar for each task from its start on, and a bar for all of them together.
struct Bars {
    all: MultiProgress,
    /// Kept, or else it would go.
    _title: indicatif::ProgressBar,
    whole: indicatif::ProgressBar,
    ended: Cell<usize>,
}

impl Bars {
    fn new(executor: &dyn Executor) -> Self {
        let all = MultiProgress::new();
        let title = all.add(indicatif::ProgressBar::no_length().with_style(style("{msg:.dim}")));
        title.set_message(format!("{} tasks, {} at a time; Ctrl-C cancels them", TASKS, executor.max_workers()));
        let whole = all.add(indicatif::ProgressBar::new(sizes().sum()).with_style(bar_style("\n", "bold")));
        whole.set_prefix("total");
        let bars = Self { all, _title: title, whole, ended: Cell::new(0) };
        bars.show_ended();
        bars
    }

    /// Makes the bar of one task.
    fn maker(&self, name: String) -> impl FnOnce() -> Bar + Send + use<> {
        let (all, whole) = (self.all.clone(), self.whole.clone());
        move || {
            let bar = all.insert_before(&whole, indicatif::ProgressBar::no_length());
            Bar(bar.with_style(bar_style("", "cyan")).with_prefix(name))
        }
    }

    /// Adds the progress of one task to that of the whole.
    fn adder(&self) -> impl FnMut(&ProgressState, &ProgressState) + Send + use<> {
        let whole = self.whole.clone();
        move |old, new| whole.inc(new.n.saturating_sub(old.n))
    }

    fn count_end(&self) {
        self.ended.set(self.ended.get() + 1);
        self.show_ended();
    }

    fn show_ended(&self) {
        self.whole.set_message(format!("{} of {} ended", self.ended.get(), TASKS));
    }

    fn clear(&self) -> io::Result<()> {
        self.all.clear()?;
        // Bars that are dropped before they have come to their end would be drawn once more.
        self.all.set_draw_target(ProgressDrawTarget::hidden());
        Ok(())
    }
}

/// The bar of one task on a terminal.
struct Bar(indicatif::ProgressBar);

impl ProgressBar for Bar {
    fn update(&mut self, state: &ProgressState) {
        self.0.set_message(remark(state));
        ProgressBar::update(&mut self.0, state);
    }

    fn finish(&mut self, state: &ProgressState) {
        let color = match state.status {
            Status::Finished => "green",
            Status::Cancelled => "yellow",
            _ => "red",
        };
        self.0.set_style(bar_style("", color));
        self.0.set_message(remark(state));
        ProgressBar::finish(&mut self.0, state);
    }
}

/// What a task is up to, in few words.
fn remark(state: &ProgressState) -> String {
    match (state.status, state.eta()) {
        (Status::Running, Some(eta)) => format!("{:.1} s left", eta.as_secs_f64()),
        (Status::Finished, _) => format!("done in {:.1} s", state.elapsed.as_secs_f64()),
        (status, _) => status.to_string(),
    }
}

fn bar_style(before: &str, color: &str) -> ProgressStyle {
    let bar = format!("{{wide_bar:.{color}/238}}");
    let template = format!("{before}{{prefix:7}}  {bar}  {{pos:>3}}/{{len:<3}}  {{percent:>3}} %  {{msg:13}}");
    style(&template).progress_chars("━╸─")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed")
}

/// The start and the end of one task, each on a line of its own.
struct Lines {
    name: String,
    is_announced: bool,
}

impl ProgressBar for Lines {
    fn update(&mut self, state: &ProgressState) {
        if !self.is_announced && state.status == Status::Running {
            self.is_announced = true;
            self.say("started");
        }
    }

    fn finish(&mut self, state: &ProgressState) {
        let (status, n, seconds) = (state.status, state.n, state.elapsed.as_secs_f64());
        if state.elapsed.is_zero() {
            self.say(&format!("{status} before it started"));
        } else {
            self.say(&format!("{status} after {n} steps and {seconds:.1} s"));
        }
    }
}

impl Lines {
    /// Where nobody listens any more, nothing is said.
    fn say(&self, what: &str) {
        let _ = writeln!(io::stderr(), "{}: {what}", self.name);
    }
}

/// What became of one task.
struct Row {
    name: String,
    size: u64,
    outcome: Result<u64, TaskError>,
}

fn print_table(rows: &[Row], elapsed: Duration) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let rule = format!("-----  ----  -----  {}", "-".repeat(50));
    writeln!(out, "task   size  value  outcome\n{rule}")?;
    for Row { name, size, outcome } in rows {
        match outcome {
            Ok(value) => writeln!(out, "{name:5}  {size:4}  {value:5}  finished")?,
            Err(error) => writeln!(out, "{name:5}  {size:4}  {:>5}  {error}", "-")?,
        }
    }
    writeln!(out, "{rule}\n{}", total(rows, elapsed))
}

fn total(rows: &[Row], elapsed: Duration) -> String {
    let size: u64 = rows.iter().map(|row| row.size).sum();
    let values: Vec<u64> = rows.iter().filter_map(|row| row.outcome.as_ref().ok().copied()).collect();
    let (value, finished) = (values.iter().sum::<u64>(), values.len());
    let seconds = elapsed.as_secs_f64();
    format!("total  {size:4}  {value:5}  {finished} of {} finished, in {seconds:.1} s", rows.len())
}
