//! 500 tasks in worker processes that log, print and relay lines while bars are shown, and the program logs as well: every
//! line appears whole, above the bars.
//!
//! ```text
//! cargo run --release --example logging
//! ```

mod cli;

use std::process::ExitCode;
use std::time::Duration;

use env_logger::Target;
use log::LevelFilter;
use progress_executor::{
    BoxError, ExecutorExt, ProcessPoolExecutor, TaskGroup, TaskRegistry, TaskResult, Updater, WorkerOutput,
};

const USAGE: &str = "\
Usage: logging [TASKS]

Runs 500 tasks, or as many as are asked for, in worker processes. They log, print and
say something now and then, which appears above their bars; one in a hundred fails.";

/// Takes some steps, and depending on its number logs, prints or relays a line.
fn walk(number: u64, progress: &Updater) -> TaskResult<u64> {
    let steps = 5 + number % 20;
    for step in progress.iter(0..steps) {
        match (step?, number % 10) {
            (2, 1) => log::info!("half way of {steps} steps"),
            (3, 2) => println!("printed by walk {number}"),
            (3, 3) => eprintln!("written to standard error by walk {number}"),
            (4, 4) => progress.println(format_args!("said by walk {number}")),
            _ => {}
        }
        progress.sleep(Duration::from_millis(2))?;
    }
    if number % 100 == 99 { Err(format!("walk {number} has lost its way").into()) } else { Ok(steps) }
}

fn main() -> ExitCode {
    TaskRegistry::new().register(walk).init(); // in a worker process this serves tasks, and never returns
    cli::run(USAGE, parse, walk_all)
}

fn parse(arguments: Vec<std::ffi::OsString>) -> Result<u64, String> {
    match &arguments[..] {
        [] => Ok(500),
        [tasks] => {
            tasks.to_str().and_then(|tasks| tasks.parse().ok()).ok_or(format!("{tasks:?} is no number of tasks"))
        }
        _ => Err(format!("expected one number, but there are {}", arguments.len())),
    }
}

fn walk_all(tasks: u64) -> Result<ExitCode, BoxError> {
    let executor = ProcessPoolExecutor::builder()
        .max_workers(4)
        .output(WorkerOutput::above_bars()) // what workers print
        .relay_logs(LevelFilter::Info) // what they log
        .build()?;
    let mut group = TaskGroup::new();
    let bars = group.show_bars();
    // The program's own logger writes above the bars.
    let mut logger = env_logger::Builder::new();
    logger.filter_level(LevelFilter::Info).target(Target::Pipe(Box::new(bars.clone()))).init();
    log::info!("{tasks} walks begin");
    for number in 0..tasks {
        group.add(executor.task(walk, number).name(format!("walk {number:03}")).submit());
    }
    let outcomes = group.join_all().wait();
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        log::warn!("{error:#}");
    }
    executor.shutdown().wait(); // when all that workers have written is there
    let steps: u64 = outcomes.iter().flatten().sum();
    log::info!("{steps} steps were gone");
    Ok(if outcomes.iter().all(Result::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
