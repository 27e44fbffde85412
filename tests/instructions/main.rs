//! How many instructions the hot paths take, compared with `figures.txt`: unlike times, they do not depend on what else
//! the machine does.
//!
//! ```text
//! cargo run --release --example instructions [-- --write]
//! ```
//!
//! `valgrind --tool=callgrind` runs each path in a process of its own, a few times and many times: the difference,
//! divided by the number of additional runs, is what one run takes. `--write` writes the figures instead.

#![allow(dead_code, unreachable_pub)] // Not every function of the files is called, and nobody else can call them.

#[path = "../../src/codec/mod.rs"]
mod codec;
#[path = "../../src/task/remote.rs"]
mod remote;
#[path = "../../src/process/protocol/wire/mod.rs"]
mod wire;

/// What the files need of their crate.
mod error {
    pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

    /// Nothing panics here.
    pub(crate) fn guard<T>(call: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
        call()
    }
}
mod task {
    pub(crate) use crate::remote;
}

use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Barrier};

use progress_executor::{SyncExecutor, TaskResult, ThreadPoolExecutor, Updater};

use codec::{Encoded, decode, encode};
use wire::decoder::Decoder;
use wire::outbox::Outbox;
use wire::{NO_TIMEOUT, Request, Run};

const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions/figures.txt");
/// In percent: how much another version of the compiler, or of the standard library, may change the same code.
const TOLERANCE: f64 = 15.0;

/// Does something this many times.
type Path = fn(u64);

const PATHS: [(&str, Path, u64); 5] = [
    ("a progress call", progress_calls, 100_000),
    ("an item of `iter`", items, 100_000),
    ("a task, inline", inline_tasks, 2_000),
    ("a task, on a thread", thread_tasks, 2_000),
    ("an input, encoded and framed, and back", frames, 2_000),
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [path, count] => {
            let (_, run, _) = PATHS[path.parse::<usize>()?];
            run(count.parse()?);
            Ok(ExitCode::SUCCESS)
        }
        ["--write"] => {
            fs::write(FIGURES, table(&measure()?))?;
            Ok(ExitCode::SUCCESS)
        }
        [] => check(),
        _ => Err("usage: instructions [--write]".into()),
    }
}

fn progress_calls(count: u64) {
    inline(move |progress| (0..count).try_for_each(|_| Ok(progress.update(1)?)));
}

fn items(count: u64) {
    inline(move |progress| {
        let sum = progress.iter(0..count).try_fold(0_u64, |sum, n| Ok::<_, progress_executor::Cancelled>(sum ^ n?))?;
        black_box(sum);
        Ok(())
    });
}

fn inline(task: impl FnOnce(&Updater) -> TaskResult<()> + Send + 'static) {
    SyncExecutor::new().spawn(task).wait().expect("it has nothing to fail at");
}

fn inline_tasks(count: u64) {
    let executor = SyncExecutor::new();
    for n in 0..count {
        let next = executor.submit(|n: u64, _| Ok(n + 1), n).wait().expect("it has nothing to fail at");
        assert_eq!(next, n + 1);
    }
}

/// All tasks wait for their turn before the first one runs, and are awaited after the last one: no thread is woken for
/// them, and none looks for them in vain.
fn thread_tasks(count: u64) {
    let executor = ThreadPoolExecutor::new(1);
    let gate = Arc::new(Barrier::new(2));
    let pass = || {
        let gate = gate.clone();
        executor.spawn(move |_| Ok(_ = gate.wait()))
    };
    let first = pass();
    let tasks: Vec<_> = (0..count).map(|n| executor.submit(|n: u64, _| Ok(n + 1), n)).collect();
    let last = pass();
    gate.wait();
    gate.wait();
    for task in [first, last] {
        task.wait().expect("it has nothing to fail at");
    }
    let sum: u64 = tasks.into_iter().map(|task| task.wait().expect("it has nothing to fail at")).sum();
    assert_eq!(sum, (1..=count).sum::<u64>());
}

fn frames(count: u64) {
    let (mut outbox, mut decoder) = (Outbox::default(), Decoder::new(1 << 20));
    for id in 0..count {
        let input = encode((id, "some text".to_owned())).expect("plain values can be encoded");
        let run = Run { id, place: id, wanted: 0, timeout: NO_TIMEOUT };
        outbox.request(Request::Run { run, function: "app::work".into(), name: None, input });
        let bytes = std::mem::take(&mut outbox).into_bytes();
        decoder.append(&bytes);
        let received: Encoded = match decoder.next_request() {
            Ok(Some(Request::Run { input, .. })) => input,
            other => panic!("{other:?}"),
        };
        let (number, text): (u64, String) = decode(received).expect("it was encoded just now");
        assert_eq!((number, text.len()), (id, 9));
    }
}

/// The instructions of each path.
fn measure() -> Result<Vec<(&'static str, f64)>, Box<dyn Error>> {
    let one = |(index, &(name, _, many)): (usize, &(&'static str, Path, u64))| {
        let few = many / 10;
        let difference = instructions(index, many)?.saturating_sub(instructions(index, few)?);
        Ok((name, difference as f64 / (many - few) as f64))
    };
    PATHS.iter().enumerate().map(one).collect()
}

/// The instructions of a process that runs a path this many times.
fn instructions(path: usize, count: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([path.to_string(), count.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :")).filter(|_| output.status.success());
    let (_, collected) = collected.ok_or_else(|| format!("valgrind has failed: {said}"))?;
    Ok(collected.trim().parse()?)
}

/// Whether all figures are as before.
fn check() -> Result<ExitCode, Box<dyn Error>> {
    let before = fs::read_to_string(FIGURES)?;
    let mut is_as_before = true;
    for (name, now) in measure()? {
        let line = before.lines().find_map(|line| line.strip_suffix(name));
        let before: f64 = line.ok_or_else(|| format!("no figure for {name}"))?.trim().parse()?;
        let change = 100.0 * (now / before - 1.0);
        let is_kept = change.abs() <= TOLERANCE;
        is_as_before &= is_kept;
        let remark = if is_kept { "" } else { "  <== more than it may be" };
        println!("{now:>8.1} {change:>+6.1} %  {name}{remark}");
    }
    if is_as_before {
        return Ok(ExitCode::SUCCESS);
    }
    println!("Where that is meant, or the compiler is another one than in {FIGURES}, write that anew: `--write`.");
    Ok(ExitCode::FAILURE)
}

fn table(figures: &[(&str, f64)]) -> String {
    let compiler = Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let mut table = format!(
        "# Instructions, counted by callgrind in what this has built, and held to within {TOLERANCE} %:\n# {}",
        String::from_utf8_lossy(&compiler)
    );
    for (name, figure) in figures {
        let _ = writeln!(table, "{figure:>8.1} {name}");
    }
    table
}
