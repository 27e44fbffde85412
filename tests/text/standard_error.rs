//! Programs whose standard error takes nothing more.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskResult, ThreadPoolExecutor, Updater, WorkerOutput};

use crate::lines::say_much;
use crate::output::write_kilobytes;
use crate::parts::wait_while;
use crate::support::{NewFile, count, eventually, gate, within_deadline};

/// The program that a test looks at. Its standard error is a pipe that nobody reads.
#[test]
#[ignore = "it is started by the other tests"]
fn scene() {
    let Ok(scene) = env::var("SCENE") else { return };
    match scene.as_str() {
        "unread" => unread(WorkerOutput::Inherit),
        "above bars" => unread(WorkerOutput::above_bars()),
        "dropped" => dropped(),
        _ => panic!("there is no such scene"),
    }
}

/// Checks that the program says that it is alive.
fn check_alive(scene: &'static str) {
    within_deadline(move || {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["standard_error::scene", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("SCENE", scene).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "alive"));
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

/// Says this many lines of a kilobyte each once the file is gone.
pub(crate) fn say_much_later((lines, file): (u64, PathBuf), progress: &Updater) -> TaskResult<u64> {
    wait_while(&file, progress)?;
    say_much(lines, progress)
}

/// A task says more than standard error takes, while another one runs.
fn unread(output: WorkerOutput) {
    let executor = ProcessPoolExecutor::builder().max_workers(2).output(output.clone()).build().unwrap();
    // To both of its outputs: more than a pipe holds, and less than three.
    executor.submit(write_kilobytes, if matches!(output, WorkerOutput::Lines(_)) { 50 } else { 0 }).wait().unwrap();
    let file = NewFile::new();
    let mut talker = executor.submit(say_much_later, (500, file.path()));
    // What a task says before its future is polled is for the thread that polls it to write.
    assert!(talker.wait_timeout(Duration::ZERO).is_none());
    drop(file);
    eventually("it has said all", || talker.is_done());
    executor.submit(count, 10).wait().unwrap();
    executor.shutdown().wait();
    println!("\nalive");
}

#[test]
fn a_standard_error_that_nobody_reads_holds_up_neither_a_task_of_a_worker_nor_a_shutdown() {
    check_alive("unread");
    check_alive("above bars");
}

/// The future of a task that has said more than standard error takes is dropped.
fn dropped() {
    let (gate, barrier) = gate();
    let task = ThreadPoolExecutor::new(1).spawn(move |progress| {
        say_much(500, progress)?;
        barrier.pass();
        let cancelled = progress.sleep(Duration::MAX);
        println!("\nalive");
        Ok(cancelled?)
    });
    gate.wait();
    gate.open();
    drop(task);
}

#[test]
fn a_task_whose_future_is_dropped_is_cancelled_before_its_lines_are_shown() {
    check_alive("dropped");
}
