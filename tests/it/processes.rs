//! What is particular to worker processes, beyond their [crashes](crate::crashes).

use std::error::Error as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use progress_executor::{
    CancelCause, ExecutorExt, ProcessPoolExecutor, ProgressFuture, Status, TaskErrorKind, TaskGroup, TaskResult,
    ThreadPoolExecutor, Triggers, Updater, WorkerExit, WorkerOutput,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::bars::Log;
use crate::contract::{check_for, count_forever, crash, echo, fail, never_stalls};
use crate::crashes::process_id;
use crate::launched::slow_down;
use crate::silence::{leave_a_child, print_without_an_end, stop};
use crate::support::{Hand, NewFile, count, eventually, has_process, within_deadline};
use crate::threads::check_shutdown_while_cancelling;

// The tasks.

/// Takes no notice of anything except the file: ends when that is gone.
pub(crate) fn hold(file: PathBuf, _: &Updater) -> TaskResult<u32> {
    wait_for_removal(&file);
    Ok(process::id())
}

fn wait_for_removal(file: &Path) {
    while file.exists() {
        // The other process cannot wake this one.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Does the same once it is cancelled.
pub(crate) fn clean_up_slowly(file: PathBuf, progress: &Updater) -> TaskResult<u32> {
    while progress.update(1).is_ok() {}
    wait_for_removal(&file);
    Ok(process::id())
}

/// Never ends, and makes no progress call after it has said that it spins.
pub(crate) fn spin((): (), progress: &Updater) -> TaskResult<()> {
    say_and_spin("spins".into(), progress)
}

/// The same, with a child process, whose id is its message.
pub(crate) fn spin_with_a_child((): (), progress: &Updater) -> TaskResult<()> {
    let child = Command::new("sleep").arg("1000").spawn()?;
    say_and_spin(child.id().to_string(), progress)
}

/// The same, with its own id as the message.
pub(crate) fn spin_with_a_message((): (), progress: &Updater) -> TaskResult<()> {
    say_and_spin(process::id().to_string(), progress)
}

fn say_and_spin(message: String, progress: &Updater) -> TaskResult<()> {
    progress.set_counts(3, 4)?;
    progress.set_message(message);
    loop {
        std::hint::spin_loop();
    }
}

pub(crate) fn append((file, line): (PathBuf, String), _: &Updater) -> TaskResult<u32> {
    let mut file = fs::OpenOptions::new().append(true).open(file)?;
    writeln!(file, "{line}")?;
    Ok(process::id())
}

/// Leaves a process behind that writes for as long as somebody reads it.
pub(crate) fn leave_a_writer((): (), _: &Updater) -> TaskResult<()> {
    Command::new("yes").spawn()?;
    Ok(())
}

pub(crate) fn surroundings((): (), _: &Updater) -> TaskResult<Surroundings> {
    let mut stdin = String::new();
    std::io::stdin().read_to_string(&mut stdin)?;
    let descriptors = Command::new("ls").args(["-l", "/proc/self/fd"]).output()?.stdout;
    Ok(Surroundings {
        stdin,
        leads_its_group: rustix::process::getpgrp() == rustix::process::getpid(),
        sockets_of_children: String::from_utf8(descriptors)?.matches("socket:").count(),
        directory: std::env::current_dir()?,
        variable: std::env::var("TEST_VARIABLE").ok(),
    })
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Surroundings {
    stdin: String,
    leads_its_group: bool,
    sockets_of_children: usize,
    directory: PathBuf,
    variable: Option<String>,
}

/// Runs a pool inside of a task of another pool, `depth` levels deep.
pub(crate) fn nest(depth: u32, progress: &Updater) -> TaskResult<u32> {
    if depth == 0 {
        return Ok(0);
    }
    progress.check()?;
    Ok(1 + ProcessPoolExecutor::new(1)?.submit(nest, depth - 1).wait()?)
}

pub(crate) fn fail_with_sources((): (), _: &Updater) -> TaskResult<()> {
    let error = "twelve".parse::<u32>().unwrap_err();
    Err(Box::new(std::io::Error::other(Outer(error))))
}

#[derive(Debug)]
struct Outer(std::num::ParseIntError);

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the line is no number")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

fn unregistered(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(n)
}

pub(crate) fn generic<T: ToString>(value: T, _: &Updater) -> TaskResult<String> {
    Ok(value.to_string())
}

fn pool(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

/// Shows the pool that tasks are short, so that it keeps some of them waiting inside of its workers.
pub(crate) fn warm_up(pool: &ProcessPoolExecutor) {
    for _ in 0..3 {
        let tasks: Vec<_> = (0..100).map(|_| pool.submit(count, 1)).collect();
        tasks.into_iter().for_each(|task| assert!(task.wait().is_ok()));
    }
}

fn wait_until_running<T>(task: &ProgressFuture<T>) {
    eventually("the task runs", || task.progress().status == Status::Running);
}

/// Waits until the task has made its last progress call.
fn wait_until_spinning(task: &ProgressFuture<()>) {
    eventually("the task spins", || task.progress().message.is_some());
}

/// The lines of a file, which are numbers, sorted.
pub(crate) fn sorted_lines(file: &NewFile) -> Vec<u32> {
    let mut lines: Vec<_> =
        fs::read_to_string(file.path()).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    lines.sort();
    lines
}

// Cancellation.

#[test]
fn a_task_does_not_stall_while_the_program_decodes_the_output_of_another() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(2).unwrap();
        never_stalls(|input, limit| {
            let task = executor.task(check_for, input).stall_timeout(limit).submit();
            eventually("it has begun", || task.progress().status != Status::Pending);
            let slow = executor.submit(slow_down, 2 * limit);
            thread::spawn(move || slow.wait());
            task
        });
    });
}

#[test]
fn shutdown_waits_for_tasks_that_another_thread_cancels() {
    within_deadline(|| {
        for shut_down in [ProcessPoolExecutor::shutdown, ProcessPoolExecutor::shutdown_now] {
            let (executor, file) = (ProcessPoolExecutor::new(1).unwrap(), NewFile::new());
            let busy = executor.submit(hold, file.path());
            eventually("it runs", || busy.progress().status == Status::Running);
            let tasks = [executor.submit(count, 1), executor.submit(count, 1)];
            check_shutdown_while_cancelling(tasks, || file.remove(), || shut_down(&executor));
            // It is cancelled by one of them.
            let _ = busy.wait();
        }
    });
}

#[test]
fn a_task_that_never_listens_is_killed_after_the_grace() {
    within_deadline(|| {
        let pool =
            ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::from_millis(10)).build().unwrap();
        let worker = pool.submit(process_id, ()).wait().unwrap();
        let task = pool.submit(spin, ());
        let after: Vec<_> = (0..10).map(|n| pool.submit(count, n)).collect();
        wait_until_spinning(&task);
        task.cancel();
        let error = task.wait().unwrap_err();
        assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Requested));
        assert_eq!(error.to_string(), format!("task `spin #{}` was cancelled at 75 %", error.id()));
        let source = error.source().unwrap().to_string();
        assert_eq!(source, "it took no notice for 10ms, so the process that ran it was killed");
        for (n, task) in (0..).zip(after) {
            assert_eq!(task.wait().unwrap(), n);
        }
        assert!(!has_process(worker));
        assert_ne!(pool.submit(process_id, ()).wait().unwrap(), worker);
    });
}

#[test]
fn a_task_that_has_noticed_is_not_killed() {
    const GRACE: Duration = Duration::from_millis(500);
    within_deadline(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(2).cancel_grace(GRACE).build().unwrap();
        let file = NewFile::new();
        let task = pool.submit(clean_up_slowly, file.path());
        let deaf = pool.submit(spin, ());
        let canceller = task.canceller();
        wait_until_running(&task);
        wait_until_spinning(&deaf);
        canceller.cancel();
        eventually("the task has noticed", || canceller.is_acknowledged() || task.is_done());
        deaf.cancel();
        assert!(deaf.wait().unwrap_err().source().is_some(), "the grace of both has passed");
        assert!(!task.is_done());
        file.remove();
        assert!(task.wait().is_ok(), "it has finished all the same");
    });
}

#[test]
fn no_grace_at_all_still_hits_only_the_task_that_it_is_meant_for() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(2).cancel_grace(Duration::ZERO).build().unwrap();
        warm_up(&pool);
        for round in 0..200 {
            let tasks: Vec<_> = (0..6).map(|n| pool.submit(count, 1_000 * n)).collect();
            tasks[round % 6].cancel();
            for (n, task) in tasks.into_iter().enumerate() {
                match task.wait() {
                    Ok(value) => assert_eq!(value, 1_000 * n as u64),
                    Err(error) => assert!(n == round % 6 && error.is_cancelled(), "{error:?}"),
                }
            }
        }
    });
}

#[test]
fn a_kill_takes_what_the_task_has_started_with_it() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::ZERO).build().unwrap();
        let task = pool.submit(spin_with_a_child, ());
        eventually("its process has started", || task.progress().message.is_some());
        let child = task.progress().message.unwrap().parse().unwrap();
        assert!(has_process(child));
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        eventually("the process is gone", || !has_process(child));
    });
}

#[test]
fn cancelled_or_dropped_inside_a_worker_it_does_not_run_and_costs_no_worker() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::ZERO).build().unwrap();
        warm_up(&pool);
        let (gate, log) = (NewFile::new(), NewFile::new());
        // All of them are sent at once, because tasks are short.
        let tasks: Vec<_> = (0..20).map(|_| pool.submit(count, 1)).collect();
        let held = pool.submit(hold, gate.path());
        let mut waiting: Vec<_> = (0..6).map(|n| pool.submit(append, (log.path(), n.to_string()))).collect();
        tasks.into_iter().for_each(|task| assert!(task.wait().is_ok()));
        wait_until_running(&held);
        // A worker handles requests in order: once it has handled the cancellation, it has also handled the drop before it.
        drop(waiting.remove(1));
        let cancelled = waiting.remove(2);
        cancelled.cancel();
        assert!(cancelled.wait().unwrap_err().is_cancelled(), "while the worker is busy");
        gate.remove();
        let worker = held.wait().unwrap();
        for task in waiting {
            assert_eq!(task.wait().unwrap(), worker, "the worker lives");
        }
        assert_eq!(sorted_lines(&log), [0, 2, 4, 5]);
    });
}

#[test]
fn paused_inside_a_worker_it_lets_others_pass() {
    within_deadline(|| {
        let pool = pool(1);
        warm_up(&pool);
        let (gate, log) = (NewFile::new(), NewFile::new());
        // All of them are sent at once, because tasks are short.
        let tasks: Vec<_> = (0..20).map(|_| pool.submit(count, 1)).collect();
        let held = pool.submit(hold, gate.path());
        let mut waiting: Vec<_> = (0..4).map(|n| pool.submit(append, (log.path(), n.to_string()))).collect();
        tasks.into_iter().for_each(|task| assert!(task.wait().is_ok()));
        wait_until_running(&held);
        let (paused, cancelled) = (waiting.remove(0), waiting.remove(2));
        paused.pause();
        assert_eq!(paused.progress().status, Status::Paused);
        // A worker handles requests in order: once it has handled this one, it has also handled the pause.
        cancelled.cancel();
        assert!(cancelled.wait().unwrap_err().is_cancelled());
        gate.remove();
        waiting.into_iter().for_each(|task| assert!(task.wait().is_ok()));
        assert_eq!(paused.progress().status, Status::Paused);
        assert_eq!(sorted_lines(&log), [1, 2]);
        paused.resume();
        paused.wait().unwrap();
        assert_eq!(sorted_lines(&log), [0, 1, 2]);
    });
}

#[test]
fn tasks_that_wait_behind_a_long_one_move_to_an_idle_worker() {
    within_deadline(|| {
        let pool = pool(2);
        warm_up(&pool);
        let gate = NewFile::new();
        let mut tasks: Vec<_> = (0..100).map(|_| pool.submit(count, 1)).collect();
        let held = pool.submit(hold, gate.path());
        tasks.extend((0..100).map(|_| pool.submit(count, 1)));
        tasks.into_iter().for_each(|task| assert!(task.wait().is_ok()));
        assert!(!held.is_done());
        gate.remove();
        held.wait().unwrap();
    });
}

#[test]
fn cancelled_at_any_moment_a_task_never_runs_after_it_has_ended() {
    within_deadline(|| {
        let pool = pool(1);
        warm_up(&pool);
        let log = NewFile::new();
        for round in 0..200 {
            let tasks: Vec<_> = (0..4).map(|n| pool.submit(append, (log.path(), format!("{round} {n}")))).collect();
            tasks[2].cancel();
            let outcomes: Vec<_> = tasks.into_iter().map(ProgressFuture::wait).collect();
            let has_run = fs::read_to_string(log.path()).unwrap().lines().any(|line| line == format!("{round} 2"));
            match &outcomes[2] {
                Ok(_) => assert!(has_run),
                Err(error) => assert!(error.is_cancelled() && !has_run, "{error:?}"),
            }
            assert!(outcomes.iter().enumerate().all(|(n, outcome)| n == 2 || outcome.is_ok()));
        }
    });
}

// What a worker is like.

#[test]
fn a_worker_has_surroundings_of_its_own() {
    within_deadline(|| {
        let directory = fs::canonicalize(std::env::temp_dir()).unwrap();
        let pool = ProcessPoolExecutor::builder()
            .max_workers(1)
            .env("TEST_VARIABLE", "value")
            .current_dir(&directory)
            .build()
            .unwrap();
        let surroundings = pool.submit(surroundings, ()).wait().unwrap();
        assert_eq!(surroundings.stdin, "", "its standard input is empty");
        assert!(surroundings.leads_its_group, "Ctrl-C does not reach it");
        assert_eq!(surroundings.sockets_of_children, 0, "the channel is private");
        assert_eq!(surroundings.directory, directory);
        assert_eq!(surroundings.variable.as_deref(), Some("value"));
    });
}

#[test]
fn a_worker_is_kept_and_used_again() {
    within_deadline(|| {
        let pool = pool(1);
        let workers: Vec<u32> = (0..20).map(|_| pool.submit(process_id, ()).wait().unwrap()).collect();
        assert!(workers.iter().all(|&worker| worker == workers[0] && worker != process::id()));
    });
}

#[test]
fn a_worker_is_replaced_after_so_many_tasks() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_worker(3).build().unwrap();
        let tasks: Vec<_> = (0..9).map(|_| pool.submit(process_id, ())).collect();
        let workers: Vec<u32> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
        let runs: Vec<usize> = workers.chunk_by(|a, b| a == b).map(<[u32]>::len).collect();
        assert_eq!(runs, [3, 3, 3]);
        eventually("the last one is reaped", || !has_process(workers[8]));
    });
}

#[test]
fn a_worker_is_replaced_after_so_many_inputs_of_a_map() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_worker(25).build().unwrap();
        // So many short inputs that the map gathers them in chunks.
        let workers: Vec<u32> = pool.map(process_id, [(); 200]).blocking().map(Result::unwrap).collect();
        let runs: Vec<usize> = workers.chunk_by(|a, b| a == b).map(<[u32]>::len).collect();
        assert_eq!(runs, [25; 8]);
    });
}

#[test]
fn an_idle_worker_ends_after_its_time() {
    within_deadline(|| {
        let pool =
            ProcessPoolExecutor::builder().max_workers(1).idle_timeout(Duration::from_millis(10)).build().unwrap();
        let worker = pool.submit(process_id, ()).wait().unwrap();
        eventually("the worker is reaped", || !has_process(worker));
        assert_ne!(pool.submit(process_id, ()).wait().unwrap(), worker);
    });
}

#[test]
fn workers_end_with_their_executor_when_nothing_is_left_to_do() {
    within_deadline(|| {
        let pool = pool(1);
        let worker = pool.submit(process_id, ()).wait().unwrap();
        let last = pool.submit(process_id, ());
        drop(pool);
        assert_eq!(last.wait().unwrap(), worker);
        eventually("the worker is reaped", || !has_process(worker));
    });
}

#[test]
fn shutdown_resolves_when_the_workers_are_gone() {
    within_deadline(|| {
        let pool = pool(2);
        let workers = [pool.submit(process_id, ()).wait().unwrap(), pool.submit(process_id, ()).wait().unwrap()];
        pool.shutdown().wait();
        assert!(!workers.into_iter().any(has_process));
        assert!(pool.submit(count, 1).wait().unwrap_err().is_rejected());
    });
}

#[test]
fn shutdown_waits_for_a_paused_task_and_no_longer() {
    within_deadline(|| {
        let pool = pool(1);
        let gate = NewFile::new();
        let task = pool.submit(hold, gate.path());
        let paused = pool.submit(count, 1);
        paused.pause();
        gate.remove();
        task.wait().unwrap();
        // Observing it does not resume it.
        let updates = paused.updates();
        assert_eq!(updates.recv_blocking().unwrap().status, Status::Paused);
        let mut shutdown = pool.shutdown();
        let hand = Hand::new();
        assert!(hand.poll(&mut shutdown).is_pending());
        assert!(!paused.is_done());
        paused.cancel();
        assert!(paused.wait().unwrap_err().is_cancelled());
        smol::block_on(shutdown);
    });
}

#[test]
fn shutdown_now_ends_tasks_that_never_listen() {
    within_deadline(|| {
        let pool =
            ProcessPoolExecutor::builder().max_workers(2).cancel_grace(Duration::from_millis(1)).build().unwrap();
        let tasks: Vec<_> = (0..10).map(|_| pool.submit(spin, ())).collect();
        wait_until_running(&tasks[0]);
        smol::block_on(pool.shutdown_now());
        for task in tasks {
            let error = task.wait().unwrap_err();
            assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Shutdown));
        }
    });
}

#[test]
fn pools_inside_of_pools_work_to_a_depth() {
    within_deadline(|| {
        let pool = pool(1);
        assert_eq!(pool.submit(nest, 7).wait().unwrap(), 7);
        let error = pool.submit(nest, 20).wait().unwrap_err();
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        assert!(innermost.to_string().starts_with("8 process pools are inside of one another"), "{innermost}");
    });
}

#[test]
fn a_program_that_is_killed_takes_its_workers_with_it() {
    within_deadline(|| kill_program("1"));
}

#[test]
fn a_program_that_is_killed_takes_its_workers_with_it_though_another_process_holds_its_channels() {
    within_deadline(|| kill_program("held"));
}

#[test]
fn a_program_that_is_killed_takes_its_workers_with_it_though_they_are_stopped() {
    within_deadline(|| kill_program("stopped"));
}

fn kill_program(how: &str) {
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["processes::program_whose_tasks_never_end", "--exact", "--nocapture"])
        .env("TEST_NEVER_ENDS", how)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut numbers = lines.filter_map(|line| line.unwrap().split_once("process ")?.1.parse().ok());
    let child: u32 = numbers.next().unwrap();
    let workers: Vec<u32> = numbers.take(2).collect();
    if how == "stopped" {
        workers.iter().for_each(|&worker| stop(worker));
    }
    assert!(workers.iter().all(|&worker| has_process(worker)));
    program.kill().unwrap();
    program.wait().unwrap();
    eventually("the workers are gone", || !workers.iter().any(|&worker| has_process(worker)));
    if child > 0 {
        crate::retries::kill(child);
    }
}

/// Not a test, but the program that the tests above kill.
#[test]
fn program_whose_tasks_never_end() {
    let Ok(how) = std::env::var("TEST_NEVER_ENDS") else { return };
    let pool = pool(2);
    let tasks = [pool.submit(spin_with_a_message, ()), pool.submit(spin_with_a_message, ())];
    for task in &tasks {
        eventually("the worker says who it is", || task.progress().message.is_some());
    }
    println!("\nprocess {}", if how == "held" { leave_a_child() } else { 0 });
    for task in &tasks {
        println!("\nprocess {}", task.progress().message.unwrap());
    }
    let [task, _other] = tasks;
    let _ = task.wait();
}

/// All that the worker has left to do for the task is to print what it has written.
#[test]
fn a_program_that_is_killed_takes_a_worker_with_it_that_cannot_print_what_a_task_has_left() {
    within_deadline(|| {
        let (ours, mut full) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        while full.write(b"x").is_ok() {}
        full.set_nonblocking(false).unwrap();
        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["processes::program_whose_task_prints_something", "--exact", "--nocapture"])
            .env("TEST_PRINTS_SOMETHING", "1")
            .stdout(Stdio::piped())
            .stderr(OwnedFd::from(full))
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap);
        let worker = lines.find_map(|line| line.strip_prefix("process ")?.parse().ok()).unwrap();
        program.kill().unwrap();
        program.wait().unwrap();
        eventually("the worker is gone", || !has_process(worker));
        drop(ours);
    });
}

/// Not a test, but the program that the one above kills.
#[test]
fn program_whose_task_prints_something() {
    if std::env::var_os("TEST_PRINTS_SOMETHING").is_some() {
        let pool = pool(1);
        let worker = pool.submit(process_id, ()).wait().unwrap();
        let task = pool.submit(print_without_an_end, "something".into());
        eventually("it has begun for a while", || task.progress().status == Status::Running);
        println!("\nprocess {worker}");
        let _ = task.wait();
    }
}

#[test]
fn a_worker_whose_program_ends_while_it_starts_ends_though_another_process_holds_its_channel() {
    within_deadline(|| {
        let log = NewFile::new();
        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["processes::program_that_ends_before_its_worker_has_started", "--exact", "--nocapture"])
            .env("TEST_ENDS_EARLY", log.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap);
        let child = lines.find_map(|line| line.strip_prefix("process ")?.parse().ok()).unwrap();
        program.wait().unwrap();
        let worker = fs::read_to_string(log.path()).unwrap().parse().unwrap();
        eventually("the worker is gone", || !has_process(worker));
        crate::retries::kill(child);
        let mut said = String::new();
        program.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "");
    });
}

/// Not a test, but the program that the one above runs.
#[test]
fn program_that_ends_before_its_worker_has_started() {
    let Ok(log) = std::env::var("TEST_ENDS_EARLY") else { return };
    let pool = ProcessPoolExecutor::builder().max_workers(1).env("TEST_STARTS_LATE", &log).build().unwrap();
    let _task = pool.submit(count, 1);
    eventually("its worker is about to start", || !fs::read(&log).unwrap().is_empty());
    println!("\nprocess {}", leave_a_child());
    process::exit(0);
}

// Errors.

#[test]
fn a_function_that_is_not_registered_is_an_error_that_says_so() {
    within_deadline(|| {
        let pool = pool(1);
        let error = pool.submit(unregistered, 1).wait().unwrap_err();
        assert!(error.is_not_registered());
        assert_eq!(
            error.to_string(),
            format!("task `unregistered #{}` was not run: its function is not registered", error.id())
        );
        assert!(error.source().unwrap().to_string().contains("add it to `test_worker!`"), "{error:?}");
        assert_eq!(pool.submit(generic::<u8>, 7).wait().unwrap(), "7");
        assert!(pool.submit(generic::<u16>, 7).wait().unwrap_err().is_not_registered());
    });
}

/// A quarter of a megabyte, decoded on the stack.
type Large = Box<[[[[u8; 32]; 32]; 32]; 8]>;

pub(crate) fn make_large((): (), _: &Updater) -> TaskResult<Large> {
    Ok(Box::new([[[[7; 32]; 32]; 32]; 8]))
}

#[test]
fn a_large_array_does_not_overflow_the_stack_of_who_decodes_it() {
    within_deadline(|| {
        let large = pool(1).submit(make_large, ()).wait().unwrap();
        assert!(large.as_flattened().as_flattened().as_flattened().iter().all(|&byte| byte == 7));
    });
}

#[test]
fn a_function_that_captures_something_is_an_error_that_says_so() {
    within_deadline(|| {
        let factor = 3;
        let error = pool(1).submit(move |n: u64, _: &Updater| Ok(factor * n), 1).wait().unwrap_err();
        assert!(error.is_not_registered());
        assert!(error.source().unwrap().to_string().contains("captures something"), "{error:?}");
    });
}

#[test]
fn an_error_keeps_its_message_and_those_of_its_sources() {
    within_deadline(|| {
        let error = pool(1).submit(fail_with_sources, ()).wait().unwrap_err();
        let first = error.source().unwrap();
        assert_eq!(first.to_string(), "the line is no number");
        assert_eq!(first.source().unwrap().to_string(), "invalid digit found in string");
        assert!(error.downcast_ref::<std::io::Error>().is_none());
    });
}

#[test]
fn a_lost_worker_is_named_with_how_far_the_task_had_come() {
    within_deadline(|| {
        let pool = pool(1);
        let task = pool.task(spin_with_a_message, ()).name("busy").submit();
        eventually("its progress is known", || task.progress().message.is_some() && task.progress().n == 3);
        let worker = task.progress().message.unwrap().parse().unwrap();
        kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
        let error = task.wait().unwrap_err();
        assert_eq!(error.kind(), &TaskErrorKind::WorkerLost(WorkerExit::Signal(9)));
        assert_eq!(error.to_string(), "task `busy` (spin_with_a_message) lost its worker: signal 9 (SIGKILL) at 75 %");
        assert_eq!((error.progress().n, error.progress().status), (3, Status::Failed));

        let error = pool.submit(crash, "out of ink".into()).wait().unwrap_err();
        assert_eq!(error.to_string(), format!("task `crash #{}` panicked at 50 %: out of ink", error.id()));
        let error = pool.submit(fail, "out of paper".into()).wait().unwrap_err();
        assert_eq!(error.to_string(), format!("task `fail #{}` failed at 25 %", error.id()));
    });
}

// Progress.

#[test]
fn progress_is_known_though_nobody_has_observed_it() {
    within_deadline(|| {
        let task = pool(1).submit(count_forever, ());
        eventually("the count is known", || task.progress().n > 10);
        let seen = task.progress().n;
        eventually("the count moves on", || task.progress().n > seen);
    });
}

#[test]
fn a_bar_and_a_receiver_follow_a_task_in_a_worker() {
    within_deadline(|| {
        let pool = pool(1);
        let (sender, shown) = channel();
        let task = pool.submit(count, 2_000_000).with_bar(Triggers::RUNNING, move || Log(sender));
        let updates = task.updates();
        let reader = thread::spawn(move || {
            let mut states = Vec::new();
            while let Ok(state) = updates.recv_blocking() {
                states.push(state);
            }
            states
        });
        assert_eq!(smol::block_on(task).unwrap(), 2_000_000);
        let states = reader.join().unwrap();
        assert!(states.windows(2).all(|pair| pair[0].n <= pair[1].n));
        let last = states.last().unwrap();
        assert_eq!((last.n, last.total, last.status), (2_000_000, Some(2_000_000), Status::Finished));
        assert!(last.elapsed > Duration::ZERO);
        assert_eq!(shown.iter().last().unwrap(), ("finish", 2_000_000, Status::Finished));
    });
}

/// A snapshot of a task must not be shown after its end, when the worker runs the next task.
#[test]
fn observed_at_every_moment_short_tasks_end_with_their_values() {
    within_deadline(|| {
        let pool =
            ProcessPoolExecutor::builder().max_workers(4).report_interval(Duration::from_micros(20)).build().unwrap();
        for _ in 0..20 {
            let tasks: Vec<_> = (0..100).map(|n| pool.submit(count, 500 * n)).collect();
            let updates: Vec<_> = tasks.iter().map(ProgressFuture::updates).collect();
            for (n, task) in (0..).zip(tasks) {
                assert_eq!(task.wait().unwrap(), 500 * n);
            }
            drop(updates);
        }
    });
}

#[test]
fn a_paused_task_in_a_worker_stands_still() {
    within_deadline(|| {
        let pool = pool(2);
        let (task, other) = (pool.submit(count_forever, ()), pool.submit(count_forever, ()));
        wait_until_running(&task);
        task.pause();
        eventually("it is paused", || task.progress().status == Status::Paused);
        let (n, elapsed) = (task.progress().n, task.progress().elapsed);
        for _ in 0..3 {
            let seen = other.progress().n;
            eventually("the other one goes on", || other.progress().n > seen);
        }
        assert_eq!((task.progress().n, task.progress().elapsed), (n, elapsed));
        task.resume();
        eventually("it goes on", || task.progress().n > n);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn values_go_to_the_right_futures() {
    within_deadline(|| {
        let pool = pool(2);
        let tasks: Vec<_> = (0..3_000).map(|n| pool.submit(echo, n.to_string())).collect();
        let values = smol::block_on(futures::future::try_join_all(tasks)).unwrap();
        assert!(values.iter().enumerate().all(|(n, value)| value == &n.to_string()));
    });
}

#[test]
fn a_worker_whose_program_has_ended_before_it_was_ready_says_nothing() {
    within_deadline(|| {
        let (program, channel) = UnixStream::pair().unwrap();
        drop(program);
        let mut worker = Command::new(std::env::current_exe().unwrap());
        worker.args([
            "progress_executor_test_worker",
            "--exact",
            "--nocapture",
            "--",
            "--progress-executor-task=count",
        ]);
        let output = worker.stdin(OwnedFd::from(channel)).output().unwrap();
        assert!(!output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    });
}

#[test]
fn a_process_that_writes_for_ever_holds_up_no_shutdown() {
    within_deadline(|| {
        let output = WorkerOutput::lines(|_| {});
        let pool = ProcessPoolExecutor::builder().max_workers(1).output(output).build().unwrap();
        pool.submit(leave_a_writer, ()).wait().unwrap();
        pool.shutdown().wait();
    });
}

#[test]
fn a_pool_ends_although_the_thread_that_drove_it_waits_for_something_else() {
    within_deadline(|| {
        let threads = ThreadPoolExecutor::new(1);
        let output = WorkerOutput::lines(|_| ());
        let pool = ProcessPoolExecutor::builder().max_workers(1).output(output).build().unwrap();
        let (go_on, held) = channel::<()>();
        let mut group = TaskGroup::new();
        group.add(threads.spawn(move |_| Ok(held.recv().map_or(1, |()| 2))));
        // Polled last, so that the thread drives this pool.
        group.add(pool.submit(process_id, ()));
        let handle = group.handle();
        let joined = thread::spawn(move || group.join().wait());
        eventually("the worker has run its task", || handle.progress().finished == 1);
        pool.shutdown().wait();
        drop(go_on);
        assert_eq!(joined.join().unwrap().unwrap()[0], 1);
    });
}
