//! Programs that end, in whatever way, and leave nothing behind.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::iter;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use progress_executor::{ExecutorExt, Launcher};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::support::{
    Gate, Slurm, count_forever, double, eventually, on_slurm, pool, processes, said_by, signal, spin, within_deadline,
};

/// The launcher, and what the tasks do.
const KINDS: [&str; 5] = ["single deaf", "single listening", "bulk deaf", "bulk listening", "bulk queued"];

/// Short, for a program that must be lost by it, but not too short for a busy machine.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// So long that a test fails before anything is lost by it.
const LONG_HEARTBEAT: Duration = Duration::from_secs(1000);

/// Starts this program with tasks that never end, and returns once they have begun.
fn start(kind: &str, heartbeat: Duration) -> Child {
    // Processes in the background of a shell ignore interrupts, and so do those that they start.
    let mut program = Command::new("env")
        .arg("--default-signal=INT")
        .arg(env::current_exe().unwrap())
        .args(["programs::program_whose_tasks_never_end", "--exact", "--nocapture"])
        .env("TEST_NEVER_ENDS", kind)
        .env("TEST_HEARTBEAT", heartbeat.as_millis().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "begun"), "the program has ended");
    program
}

/// Not a test, but the program that the tests below end.
#[test]
fn program_whose_tasks_never_end() {
    let Ok(kind) = env::var("TEST_NEVER_ENDS") else { return };
    let launcher = match kind.split_once(' ').unwrap() {
        ("single", _) => Slurm.single(),
        (_, "queued") => Slurm.bulk_that_waits(),
        _ => Slurm.bulk(),
    };
    let heartbeat = Duration::from_millis(env::var("TEST_HEARTBEAT").unwrap().parse().unwrap());
    let pool = pool(launcher.heartbeat(heartbeat), 2);
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

fn end(kind: &str, which: Signal) {
    let mut program = start(kind, LONG_HEARTBEAT);
    signal(program.id(), which);
    program.wait().unwrap();
    eventually("the tasks are gone", || processes().is_empty());
    eventually("the jobs are gone", || said_by("squeue", &["-h"]).trim().is_empty());
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
    on_slurm(|_| {
        for kind in ["single deaf", "bulk deaf"] {
            let mut program = start(kind, HEARTBEAT);
            let workers = || processes().into_iter().filter(|&id| id != program.id()).collect::<Vec<_>>();
            let before = workers();
            signal(program.id(), Signal::STOP);
            thread::sleep(HEARTBEAT);
            signal(program.id(), Signal::CONT);
            // By now either side would have missed the heartbeat of the other one.
            thread::sleep(3 * HEARTBEAT);
            assert_eq!(workers(), before, "{kind}: they serve on");
            signal(program.id(), Signal::STOP);
            eventually("its workers have given it up", || workers().is_empty());
            signal(program.id(), Signal::CONT);
            assert!(program.wait().unwrap().success(), "{kind}: it was told that its tasks are lost");
        }
    });
}

#[test]
fn a_worker_that_is_stopped_for_a_while_serves_on_and_for_too_long_does_not() {
    on_slurm(|slurm| {
        let pool = pool(slurm.single().heartbeat(HEARTBEAT), 1);
        let task = pool.submit(count_forever, ());
        eventually("it counts", || task.progress().n > 3);
        let worker = pool.workers().workers[0].pid;
        signal(worker, Signal::STOP);
        thread::sleep(HEARTBEAT);
        signal(worker, Signal::CONT);
        let n = task.progress().n;
        eventually("it counts again", || task.progress().n > n);
        signal(worker, Signal::STOP);
        let error = task.wait().unwrap_err();
        assert!(format!("{error:#}").contains("nothing for 6s"), "{error:#}");
    });
}

/// Not a test, but the program of the test below.
#[test]
fn program_without_descriptors() {
    let Ok(gate) = env::var("TEST_WITHOUT_DESCRIPTORS") else { return };
    // It tells that the program listens by then.
    let script = format!("echo started >&2; while [ -e {gate} ]; do sleep .01; done; \"$@\"");
    let pool = pool(Launcher::bulk(["sh", "-c", &script, "sh"]), 1);
    let task = pool.submit(double, 7);
    let mut orders = io::stdin().lines();
    orders.next().unwrap().unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), ..getrlimit(Resource::Nofile) }).unwrap();
    let all: Vec<File> = iter::from_fn(|| File::open("/dev/null").ok()).collect();
    fs::remove_file(gate).unwrap();
    orders.next().unwrap().unwrap();
    drop(all);
    assert_eq!(task.wait().unwrap(), 14);
}

#[test]
fn a_program_that_has_no_descriptor_for_a_worker_says_so_and_lets_it_in_later() {
    within_deadline(|| {
        let gate = Gate::new();
        let mut program = Command::new(env::current_exe().unwrap())
            .args(["programs::program_without_descriptors", "--exact", "--nocapture"])
            .env("TEST_WITHOUT_DESCRIPTORS", gate.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut orders, said) = (program.stdin.take().unwrap(), program.stderr.take().unwrap());
        let mut lines = BufReader::new(said).lines().map(Result::unwrap);
        for what in ["started", "workers that connect cannot be let in: the limit on open files"] {
            assert!(lines.any(|line| line.contains(what)), "{what}");
            writeln!(orders).unwrap();
        }
        assert!(program.wait().unwrap().success());
    });
}
