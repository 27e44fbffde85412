//! Programs that end, in whatever way: nothing of theirs is left.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use progress_executor::{ExecutorExt, Launcher};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Slurm, count_forever, eventually, on_slurm, pool, processes, said_by, spin};

/// Which tasks, and behind which launcher.
const KINDS: [&str; 5] = ["single deaf", "single listening", "bulk deaf", "bulk listening", "bulk queued"];

/// Starts this program, whose tasks never end, and returns once they have begun.
fn start(kind: &str) -> Child {
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["programs::program_whose_tasks_never_end", "--exact", "--nocapture"])
        .env("TEST_NEVER_ENDS", kind)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "begun"), "the program has ended");
    program
}

/// Not a test, but what those below end.
#[test]
fn program_whose_tasks_never_end() {
    let Ok(kind) = std::env::var("TEST_NEVER_ENDS") else { return };
    let launcher = match kind.split_once(' ').unwrap() {
        ("single", _) => Slurm.single(),
        (_, "queued") => Slurm.bulk_that_waits(),
        _ => Slurm.bulk(),
    };
    let pool = pool(launcher, 2);
    let is_deaf = kind.ends_with("deaf");
    let submit = || if is_deaf { pool.submit(spin, ()) } else { pool.submit(count_forever, ()) };
    let tasks = [submit(), submit()];
    if kind.ends_with("queued") {
        eventually("it waits", || said_by("squeue", &["-h", "-t", "PD"]).lines().count() == 1);
    } else {
        eventually("they have begun", || tasks.iter().all(|task| task.progress().n > 2));
    }
    println!("\nbegun");
    let [task, _other] = tasks;
    let _ = task.wait();
}

fn end(kind: &str, signal: Signal) {
    let mut program = start(kind);
    let start = Instant::now();
    kill_process(Pid::from_raw(program.id() as i32).unwrap(), signal).unwrap();
    program.wait().unwrap();
    eventually("the tasks are gone", || processes().is_empty());
    let tasks = start.elapsed();
    eventually("the jobs are gone", || said_by("squeue", &["-h"]).trim().is_empty());
    let jobs = start.elapsed();
    // Slurm gives them two seconds between the first signal and the last.
    assert!(tasks < Duration::from_secs(2) && jobs < Duration::from_secs(5), "{kind}: {tasks:?}, {jobs:?}");
}

#[test]
fn a_program_that_is_killed_takes_its_workers_and_its_jobs_with_it() {
    on_slurm(|_| KINDS.iter().for_each(|kind| end(kind, Signal::KILL)));
}

#[test]
fn a_program_that_is_interrupted_takes_its_workers_and_its_jobs_with_it() {
    on_slurm(|_| ["single deaf", "bulk deaf"].iter().for_each(|kind| end(kind, Signal::INT)));
}

#[test]
fn a_program_that_is_stopped_for_a_while_finds_its_workers_and_for_too_long_does_not() {
    on_slurm(|slurm| {
        // What counts is whether each side hears the other, and not who of them stands still.
        let launcher: Launcher = slurm.single().heartbeat(Duration::from_millis(200));
        let pool = pool(launcher, 1);
        let task = pool.submit(count_forever, ());
        eventually("it counts", || task.progress().n > 3);
        let worker = Pid::from_raw(pool.workers().workers[0].pid as i32).unwrap();
        kill_process(worker, Signal::STOP).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        kill_process(worker, Signal::CONT).unwrap();
        let n = task.progress().n;
        eventually("it counts again", || task.progress().n > n);
        kill_process(worker, Signal::STOP).unwrap();
        let error = task.wait().unwrap_err();
        assert!(format!("{error:#}").contains("said"), "{error:#}");
    });
}
