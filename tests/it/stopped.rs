//! A program that is stopped for a while, and continued: its tasks had no time to run, and must not be ended for that.

#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use progress_executor::{TaskResult, ThreadPoolExecutor, Updater};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{eventually, is_stopped, within_deadline};

const CHILD: &str = "PROGRESS_EXECUTOR_TEST_STOPPED";
const LIMIT: Duration = Duration::from_millis(400);
/// How long the program is stopped in each round.
const STOPPED: Duration = Duration::from_millis(1_200);
const ROUNDS: u32 = 5;

/// Makes a call every now and then until it is told to finish.
fn be_lively(progress: &Updater, finish: &AtomicBool) -> TaskResult<()> {
    while !finish.load(Ordering::SeqCst) {
        progress.update(1)?;
        thread::yield_now();
    }
    Ok(())
}

/// The program that is stopped: not a test of its own.
#[test]
fn the_program_that_is_stopped() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let pool = ThreadPoolExecutor::new(2);
    let finish = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let [stalling, timing] = finish.clone();
    let stalling = pool.task(move |(), progress: &Updater| be_lively(progress, &stalling), ());
    let stalling = stalling.stall_timeout(LIMIT).submit();
    // Longer than the program runs, and shorter than it is stopped in all.
    let timing = pool.task(move |(), progress: &Updater| be_lively(progress, &timing), ());
    let timing = timing.timeout(STOPPED * ROUNDS - LIMIT).submit();
    eventually("the tasks run", || stalling.progress().n > 0 && timing.progress().n > 0);
    println!("\nready");
    for line in std::io::stdin().lines() {
        // By then the watchdog has looked once more.
        let (now, line) = (Instant::now(), line.unwrap());
        while now.elapsed() < LIMIT / 10 {
            thread::yield_now();
        }
        println!("\n{line}: {} {}", stalling.is_done(), timing.is_done());
    }
    finish.iter().for_each(|finish| finish.store(true, Ordering::SeqCst));
    println!("\nended: {:?} {:?}", stalling.wait().is_ok(), timing.wait().is_ok());
}

#[test]
fn tasks_that_are_lively_are_not_ended_because_their_program_was_stopped() {
    within_deadline(|| {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "stopped::the_program_that_is_stopped"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let id = Pid::from_child(&child);
        let mut input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut line = |start: &str| lines.find(|line| line.starts_with(start)).unwrap();
        line("ready");
        for round in 0..ROUNDS {
            kill_process(id, Signal::STOP).unwrap();
            eventually("it stands still", || is_stopped(child.id()));
            // Time must pass that the program is not given.
            thread::sleep(STOPPED);
            kill_process(id, Signal::CONT).unwrap();
            std::io::Write::write_all(&mut input, format!("{round}\n").as_bytes()).unwrap();
            assert_eq!(line(&format!("{round}:")), format!("{round}: false false"));
        }
        drop(input);
        assert_eq!(line("ended"), "ended: true true");
        assert!(child.wait().unwrap().success());
    });
}
