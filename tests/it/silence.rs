//! Workers that fall silent, and ends that the channel does not report: each kind, with real processes.

use std::fs;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use progress_executor::{
    ExecutorExt, ProcessPoolBuilder, ProcessPoolExecutor, ProgressFuture, Status, TaskErrorKind, TaskResult, Updater,
    WorkerExit,
};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, getpid, kill_process, pidfd_getfd, pidfd_open};

use crate::contract::{count_forever, sleep_for_ever};
use crate::crashes::process_id;
use crate::processes::hold;
use crate::support::{NewFile, count, eventually, has_process, is_stopped, threads_of, within_deadline};

/// How long a stopped worker may take beyond the grace period, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn thread_name((): (), _: &Updater) -> TaskResult<Option<String>> {
    Ok(thread::current().name().map(String::from))
}

pub(crate) fn print_without_an_end(text: String, _: &Updater) -> TaskResult<()> {
    print!("{text}");
    Ok(())
}

pub(crate) fn print_and_stay(text: String, progress: &Updater) -> TaskResult<()> {
    print!("{text}");
    progress.set_message("printed");
    loop {
        thread::park();
    }
}

/// Ends the worker, but leaves a process behind that has everything the worker had.
pub(crate) fn exit_and_leave_a_child(log: PathBuf, progress: &Updater) -> TaskResult<()> {
    progress.set_counts(3, 10)?;
    fs::write(log, leave_a_child().to_string())?;
    process::exit(3)
}

pub(crate) fn leave_a_child_behind(log: PathBuf, _: &Updater) -> TaskResult<u32> {
    fs::write(log, leave_a_child().to_string())?;
    Ok(process::id())
}

/// Starts a child that has all sockets of this process, as after a fork; otherwise they are private.
#[expect(clippy::zombie_processes, reason = "it outlives this process")]
pub(crate) fn leave_a_child() -> u32 {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let is_socket = |fd: &i32| {
        fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    let sockets: Vec<OwnedFd> = (0..200)
        .filter(is_socket)
        .map(|fd| {
            let socket = pidfd_getfd(&this, fd, PidfdGetfdFlags::empty()).unwrap();
            fcntl_setfd(&socket, FdFlags::empty()).unwrap();
            socket
        })
        .collect();
    assert!(!sockets.is_empty());
    let mut child = Command::new("sleep");
    std::os::unix::process::CommandExt::process_group(&mut child, 0);
    let child = child.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    child.id()
}

pub(crate) fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process as i32).unwrap(), signal).unwrap();
}

/// Kills the process that a task has left behind.
fn kill_child(log: &NewFile) {
    signal(fs::read_to_string(log.path()).unwrap().parse().unwrap(), Signal::KILL);
}

pub(crate) fn stop(process: u32) {
    signal(process, Signal::STOP);
    eventually("the worker is stopped", || is_stopped(process));
}

/// Pools of one worker, with and without memory that it shares with the program.
fn pools(set: impl Fn(ProcessPoolBuilder) -> ProcessPoolBuilder) -> [ProcessPoolExecutor; 2] {
    let builder = || set(ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::from_millis(100)));
    [builder().build().unwrap(), builder().without_shared_memory().build().unwrap()]
}

/// Calls `check` with a task that was submitted to a pool whose worker is stopped; the pool must work on afterwards.
fn with_a_stopped_worker(check: impl Fn(&ProcessPoolExecutor, ProgressFuture<u32>, u32) + Send + 'static) {
    within_deadline(move || {
        for pool in pools(|builder| builder) {
            let worker = pool.submit(process_id, ()).wait().unwrap();
            stop(worker);
            let start = Instant::now();
            check(&pool, pool.submit(process_id, ()), worker);
            assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        }
    });
}

#[test]
fn a_task_that_a_stopped_worker_was_sent_moves_on() {
    with_a_stopped_worker(|pool, task, worker| {
        assert_ne!(task.wait().unwrap(), worker);
        assert_ne!(pool.submit(process_id, ()).wait().unwrap(), worker);
        eventually("the worker is replaced", || !has_process(worker));
    });
}

#[test]
fn a_task_that_a_stopped_worker_was_sent_can_be_cancelled() {
    with_a_stopped_worker(|pool, task, worker| {
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        assert_ne!(pool.submit(process_id, ()).wait().unwrap(), worker);
    });
}

#[test]
fn tasks_behind_a_stopped_worker_are_run() {
    with_a_stopped_worker(|pool, task, _| {
        let others: Vec<_> = (0..50).map(|n| pool.submit(count, n)).collect();
        drop(task);
        for (n, other) in others.into_iter().enumerate() {
            assert_eq!(other.wait().unwrap(), n as u64);
        }
    });
}

#[test]
fn a_pool_with_a_stopped_worker_can_be_shut_down() {
    with_a_stopped_worker(|pool, task, worker| {
        pool.shutdown_now().wait();
        assert!(task.wait().unwrap_err().is_cancelled());
        assert!(!has_process(worker));
    });
}

#[test]
fn an_idle_worker_that_is_stopped_does_not_keep_its_pool() {
    within_deadline(|| {
        for pool in pools(|builder| builder) {
            let worker = pool.submit(process_id, ()).wait().unwrap();
            stop(worker);
            pool.shutdown().wait();
            assert!(!has_process(worker));
        }
    });
}

#[test]
fn a_running_task_whose_worker_is_stopped_ends_when_it_is_cancelled_and_says_why() {
    within_deadline(|| {
        for pool in pools(|builder| builder) {
            let worker = pool.submit(process_id, ()).wait().unwrap();
            let task = pool.submit(count_forever, ());
            eventually("it runs", || task.progress().n > 0);
            stop(worker);
            task.cancel();
            let error = task.wait().unwrap_err();
            assert!(error.is_cancelled(), "{error:?}");
            let why = std::error::Error::source(&error).unwrap().to_string();
            assert!(why.contains("it was stopped (signal 19"), "{why}");
        }
    });
}

#[test]
fn a_running_task_whose_worker_is_stopped_times_out() {
    within_deadline(|| {
        for pool in pools(|builder| builder) {
            let worker = pool.submit(process_id, ()).wait().unwrap();
            let task = pool.task(count_forever, ()).timeout(Duration::from_millis(500)).submit();
            eventually("it runs", || task.progress().n > 0);
            stop(worker);
            assert!(task.wait().unwrap_err().is_timed_out());
            assert_ne!(pool.submit(process_id, ()).wait().unwrap(), worker);
        }
    });
}

#[test]
fn a_death_is_seen_though_another_process_holds_the_channel() {
    within_deadline(|| {
        for pool in pools(|builder| builder) {
            let log = NewFile::new();
            let error = pool.submit(exit_and_leave_a_child, log.path()).wait().unwrap_err();
            assert_eq!(error.kind(), &TaskErrorKind::WorkerLost(WorkerExit::Code(3)), "{error:?}");
            assert_eq!(pool.submit(count, 7).wait().unwrap(), 7);
            kill_child(&log);
        }
    });
}

#[test]
fn the_death_of_an_idle_worker_is_seen_though_another_process_holds_the_channel() {
    within_deadline(|| {
        for pool in pools(|builder| builder) {
            let log = NewFile::new();
            let worker = pool.submit(leave_a_child_behind, log.path()).wait().unwrap();
            signal(worker, Signal::KILL);
            assert_ne!(pool.submit(process_id, ()).wait().unwrap(), worker);
            kill_child(&log);
        }
    });
}

#[test]
fn a_worker_that_leaves_is_replaced_though_another_process_holds_the_channel() {
    within_deadline(|| {
        for pool in pools(|builder| builder.max_tasks_per_worker(1)) {
            let log = NewFile::new();
            let worker = pool.submit(leave_a_child_behind, log.path()).wait().unwrap();
            let start = Instant::now();
            assert_ne!(pool.submit(process_id, ()).wait().unwrap(), worker);
            // It has 5 s for that, and takes next to none.
            assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
            kill_child(&log);
        }
    });
}

#[test]
fn tasks_run_on_a_thread_of_their_own() {
    within_deadline(|| {
        for pool in pools(|builder| builder) {
            assert_eq!(pool.submit(thread_name, ()).wait().unwrap().as_deref(), Some("progress-task"));
        }
    });
}

/// How often the threads of a process have been woken so far.
fn wake_ups(process: u32) -> u64 {
    let count = |status: String| -> u64 {
        let switches = status.lines().filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        switches.map(|count| count.trim().parse::<u64>().unwrap()).sum()
    };
    let threads = threads_of(process).unwrap();
    threads.iter().map(|thread| count(fs::read_to_string(thread.join("status")).unwrap())).sum()
}

#[test]
fn a_worker_whose_task_is_silent_is_not_woken() {
    within_deadline(|| {
        for pool in pools(|builder| builder) {
            let worker = pool.submit(process_id, ()).wait().unwrap();
            let task = pool.submit(sleep_for_ever, ());
            eventually("it runs", || task.progress().status == Status::Running);
            eventually("nobody is woken for a second", || {
                let before = wake_ups(worker);
                thread::sleep(Duration::from_secs(1));
                wake_ups(worker) == before
            });
            task.cancel();
            assert!(task.wait().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn a_worker_that_never_calls_init_is_killed_when_nobody_wants_it() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(1).env("TEST_NEVER_CALLS_INIT", "1").build().unwrap();
        let task = pool.submit(count, 1);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        let task = pool.submit(count, 1);
        let start = Instant::now();
        pool.shutdown_now().wait();
        assert!(task.wait().unwrap_err().is_cancelled());
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    });
}

// Programs that the tests below run in a shell that sets something up.

/// Runs a test of this file that does nothing unless it is run in this way; returns its output.
fn run_program(name: &str, set_up: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("{set_up} exec \"$0\" \"$@\"")])
        .arg(program)
        .args([&format!("silence::{name}"), "--exact", "--nocapture"])
        .env("TEST_PROGRAM", name)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    said
}

fn is_run_as(name: &str) -> bool {
    std::env::var("TEST_PROGRAM").is_ok_and(|program| program == name)
}

#[test]
fn what_a_task_prints_without_a_newline_appears() {
    within_deadline(|| {
        let said = run_program("program_whose_task_prints", "");
        assert!(said.contains("dots ...."), "{said}");
        let said = run_program("program_that_leaves_its_task_printing", "");
        assert!(said.contains("dots ...."), "{said}");
    });
}

#[test]
fn program_that_leaves_its_task_printing() {
    if is_run_as("program_that_leaves_its_task_printing") {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let task = pool.submit(print_and_stay, "dots ....".into());
        eventually("it has printed", || task.progress().message.is_some());
        process::exit(0);
    }
}

#[test]
fn program_whose_task_prints() {
    if is_run_as("program_whose_task_prints") {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        pool.submit(print_without_an_end, "dots ....".into()).wait().unwrap();
        // The worker gets no orderly end at which it could flush.
        process::exit(0);
    }
}

#[test]
fn a_limit_on_the_size_of_files_does_no_harm() {
    within_deadline(|| {
        for limit in [0, 32, 100] {
            run_program("program_with_a_pool", &format!("ulimit -f {limit};"));
        }
    });
}

/// As by a build while it runs.
#[test]
fn a_program_whose_file_is_replaced_has_workers_of_its_own() {
    within_deadline(|| {
        let file = NewFile::new();
        let path = file.path();
        let path = path.display();
        run_program(
            "program_whose_file_is_replaced",
            &format!("rm {path}; cp \"$0\" {path}; set -- {path} \"$@\"; exec \"$@\";"),
        );
    });
}

#[test]
fn program_whose_file_is_replaced() {
    if is_run_as("program_whose_file_is_replaced") {
        let program = std::env::current_exe().unwrap();
        let serves = || ProcessPoolExecutor::new(1).unwrap().submit(count, 7).wait().unwrap() == 7;
        let other = NewFile::new();
        fs::rename(other.path(), &program).unwrap();
        assert!(serves());
        fs::remove_file(&program).unwrap();
        assert!(serves());
    }
}

/// Here `/proc/self/exe` is the loader, not the program.
#[test]
fn a_program_that_the_dynamic_loader_runs_has_workers() {
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let Some(loader) = loaders.into_iter().find(|loader| fs::exists(loader).unwrap()) else { return };
    within_deadline(move || {
        run_program("program_with_a_pool", &format!("exec {loader} \"$0\" \"$@\";"));
    });
}

/// Here `/proc/self/exe` is another program, in the workers as well.
#[test]
fn a_program_that_valgrind_runs_has_workers_that_it_runs_too() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return;
    }
    within_deadline(|| {
        let valgrind = "exec valgrind -q --tool=none --trace-children=yes";
        run_program("program_with_a_pool", &format!("{valgrind} \"$0\" \"$@\";"));
    });
}

#[test]
fn program_with_a_pool() {
    if is_run_as("program_with_a_pool") {
        let pool = ProcessPoolExecutor::new(2).unwrap();
        let tasks: Vec<_> = (0..20).map(|n| pool.submit(count, n)).collect();
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.wait().unwrap(), n as u64);
        }
    }
}

#[test]
fn no_descriptor_of_a_pool_is_a_standard_one() {
    within_deadline(|| {
        run_program("program_without_standard_descriptors", "");
    });
}

#[test]
fn program_without_standard_descriptors() {
    if is_run_as("program_without_standard_descriptors") {
        let mut report = File::from(std::io::stderr().as_fd().try_clone_to_owned().unwrap());
        fork::close_fd().unwrap();
        let all_pools = pools(|builder| builder);
        let tasks = all_pools.each_ref().map(|pool| pool.submit(count_forever, ()));
        eventually("they run", || tasks.iter().all(|task| task.progress().n > 0));
        // Looking at a link takes no descriptor.
        let taken: Vec<_> = (0..3).filter_map(|number| fs::read_link(format!("/proc/self/fd/{number}")).ok()).collect();
        for task in tasks {
            task.cancel();
            assert!(task.wait().unwrap_err().is_cancelled());
        }
        writeln!(report, "taken: {taken:?}").unwrap();
        process::exit(i32::from(!taken.is_empty()));
    }
}

#[test]
fn with_few_descriptors_there_are_as_many_workers_as_go() {
    within_deadline(|| {
        run_program("program_with_many_workers", "ulimit -n 40;");
    });
}

#[test]
fn program_with_many_workers() {
    if is_run_as("program_with_many_workers") {
        let pool = ProcessPoolExecutor::new(40).unwrap();
        let gate = NewFile::new();
        let held: Vec<_> = (0..4).map(|_| pool.submit(hold, gate.path())).collect();
        let tasks: Vec<_> = (0..60).map(|n| pool.submit(count, n)).collect();
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.wait().unwrap(), n as u64);
        }
        gate.remove();
        held.into_iter().for_each(|task| assert!(task.wait().is_ok()));
    }
}

#[test]
fn a_worker_that_does_not_come_to_call_init_is_remarked_on() {
    within_deadline(|| {
        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["silence::program_whose_workers_never_call_init", "--exact", "--nocapture"])
            .env("TEST_PROGRAM", "program_whose_workers_never_call_init")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stderr.take().unwrap()).lines().map(Result::unwrap);
        let worker = lines.find_map(|line| line.strip_prefix("worker ")?.parse().ok()).unwrap();
        assert!(lines.any(|line| line.contains("has not called `TaskRegistry::init` for 3 s")));
        program.kill().unwrap();
        program.wait().unwrap();
        // This cannot be prevented: a worker that never calls `init` does not hear of the end of its program.
        signal(worker, Signal::KILL);
    });
}

/// Not a test, but the program that the one above runs.
#[test]
fn program_whose_workers_never_call_init() {
    if is_run_as("program_whose_workers_never_call_init") {
        let pool = ProcessPoolExecutor::builder().max_workers(1).env("TEST_NEVER_CALLS_INIT", "1").build().unwrap();
        let _ = pool.submit(count, 1).wait();
    }
}
