//! Workers behind a launcher: how they start and end, and what is said when they do not. [`contract`](crate::contract)
//! tests that they behave as other workers.

use std::error::Error as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use progress_executor::{
    Executor, ExecutorExt, Launcher, ProcessPoolBuilder, ProcessPoolExecutor, ProgressFuture, Status, TaskError,
    TaskErrorKind, TaskResult, ThreadPoolExecutor, Updater, WorkerExit, WorkersStatus,
};
use rustix::process::Signal;
use serde::{Deserialize, Deserializer, Serialize};

use crate::contract::{count_forever, launcher_of_environment};
use crate::crashes::{process_id, talk_and_die};
use crate::processes::{append, hold, spin, spin_with_a_message};
use crate::retries::kill;
use crate::silence::{signal, stop};
use crate::support::{Hand, NewFile, count, eventually, has_process, within_deadline};

/// The value of an environment variable in the worker.
pub(crate) fn variable(name: String, _: &Updater) -> TaskResult<Option<String>> {
    Ok(std::env::var(name).ok())
}

pub(crate) fn directory((): (), _: &Updater) -> TaskResult<PathBuf> {
    Ok(std::env::current_dir()?)
}

pub(crate) fn length(text: String, _: &Updater) -> TaskResult<usize> {
    Ok(text.len())
}

/// Writes to both of its streams.
pub(crate) fn say((): (), _: &Updater) -> TaskResult<()> {
    println!("said on standard output");
    eprintln!("said on standard error");
    Ok(())
}

pub(crate) fn exit_with(code: i32, _: &Updater) -> TaskResult<()> {
    process::exit(code)
}

fn builder(launcher: Launcher) -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::from_millis(100)).launcher(launcher)
}

fn pool(launcher: Launcher) -> ProcessPoolExecutor {
    builder(launcher).build().unwrap()
}

/// A launcher script, which has the worker's command as its arguments.
fn script(script: &str) -> Launcher {
    Launcher::command(["sh", "-c", script, "sh"])
}

/// The error that says why no task can run.
fn failure(launcher: Launcher) -> TaskError {
    pool(launcher).submit(count, 1).wait().unwrap_err()
}

fn running<T>(task: &ProgressFuture<T>) -> u32 {
    eventually("the worker says who it is", || task.progress().message.is_some());
    task.progress().message.unwrap().parse().unwrap()
}

fn parent_of(process: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

// What the launcher is told.

#[test]
fn placeholders_say_which_worker_this_is() {
    within_deadline(|| {
        let launcher = Launcher::command(["env", "WHO={index}/{count}, {attempt}, {host}, {{}}"]).hosts(["a", "b"]);
        let pool = ProcessPoolExecutor::builder().max_workers(2).launcher(launcher).build().unwrap();
        let gate = NewFile::new();
        let held = [pool.submit(hold, gate.path()), pool.submit(hold, gate.path())];
        eventually("both have started", || pool.workers().busy == 2);
        gate.remove();
        held.into_iter().for_each(|task| _ = task.wait().unwrap());
        let who = || pool.submit(variable, "WHO".into()).wait().unwrap().unwrap();
        let first = who();
        assert!(["0/2, 0, a, {}", "1/2, 0, b, {}"].contains(&&*first), "{first}");
        pool.workers().workers.iter().for_each(|worker| kill(worker.pid));
        eventually("both are lost", || pool.workers().lost == 2);
        assert_eq!(who(), "0/2, 1, a, {}");
    });
}

#[test]
fn an_unknown_placeholder_is_an_error_of_build() {
    let error = builder(Launcher::command(["srun", "-w{node}"])).build().unwrap_err().to_string();
    assert!(error.contains("`{node}`") && error.contains("{index}, {count}, {host} and {attempt}"), "{error}");
}

#[test]
fn what_is_set_of_an_empty_launcher_changes_nothing() {
    within_deadline(|| {
        let empty: Launcher = " ".parse().unwrap();
        let whole = Duration::from_secs(3600);
        let idle =
            empty.program("/is/not/{there}").hosts(["nowhere"]).start_timeout(Duration::ZERO).lifetime(whole, whole);
        #[cfg(feature = "cluster")]
        let idle = idle.listen(["nowhere"]).key_file("/is/not/there");
        assert_eq!(pool(idle).submit(count, 7).wait().unwrap(), 7);
    });
}

#[test]
fn variables_and_directory_arrive_whatever_the_launcher_has_done_to_them() {
    within_deadline(|| {
        let path = std::env::var("PATH").unwrap();
        let bare = builder(Launcher::command(["env", "-i"])).env("TEST_VARIABLE", "a\n'b' ß").current_dir("/");
        let bare = bare.build().unwrap();
        assert_eq!(bare.submit(variable, "TEST_VARIABLE".into()).wait().unwrap().unwrap(), "a\n'b' ß");
        assert_eq!(bare.submit(variable, "PATH".into()).wait().unwrap(), Some(path));
        assert_eq!(bare.submit(directory, ()).wait().unwrap(), PathBuf::from("/"));
        let here = pool(script("cd / && PATH=$PATH:/launcher exec \"$@\""));
        assert!(here.submit(variable, "PATH".into()).wait().unwrap().unwrap().ends_with(":/launcher"));
        assert_eq!(here.submit(directory, ()).wait().unwrap(), std::env::current_dir().unwrap());
        let same = builder(script("cd / && exec \"$@\"")).current_dir(".").build().unwrap();
        assert_eq!(same.submit(directory, ()).wait().unwrap(), std::env::current_dir().unwrap());
    });
}

#[test]
fn of_a_variable_that_is_set_twice_the_last_value_counts_also_where_the_program_has_that() {
    within_deadline(|| {
        let path = std::env::var("PATH").unwrap();
        let pool = builder(Launcher::command(["env"])).env("PATH", "/first").env("PATH", &path).build().unwrap();
        assert_eq!(pool.submit(variable, "PATH".into()).wait().unwrap(), Some(path));
    });
}

#[test]
fn a_directory_that_is_not_there_is_an_error_that_says_so() {
    within_deadline(|| {
        let pool = builder(Launcher::command(["env"])).current_dir("/is/not/there").build().unwrap();
        let error = format!("{:#}", pool.submit(count, 1).wait().unwrap_err());
        assert!(error.contains("/is/not/there") && error.contains("`current_dir`"), "{error}");
    });
}

// Launchers that say something, and those that bring no worker.

#[test]
fn what_a_launcher_says_before_the_worker_does_is_skipped() {
    within_deadline(|| {
        let noisy = |bytes| script(&format!("echo banner; head -c {bytes} /dev/zero; printf '\\nh\\0'; exec \"$@\""));
        assert_eq!(pool(noisy(60 * 1024)).submit(count, 7).wait().unwrap(), 7);
        let error = failure(noisy(70 * 1024));
        let text = format!("{error:#}");
        assert!(
            error.is_rejected() && text.contains("came instead of a greeting") && text.contains("\"banner"),
            "{text}"
        );
    });
}

#[test]
fn a_launcher_that_is_missing_is_named() {
    within_deadline(|| {
        let error = failure(Launcher::command(["/is/not/there", "-n1"]));
        let text = format!("{error:#}");
        assert!(
            error.is_rejected() && text.contains("`/is/not/there -n1`") && text.contains("could not be started"),
            "{text}"
        );
    });
}

#[test]
fn a_program_that_is_missing_is_named_by_whoever_looked_for_it() {
    within_deadline(|| {
        let text = format!("{:#}", failure(Launcher::shell(["sh", "-c"]).program("/is/not/there")));
        assert!(text.contains("/is/not/there") && text.contains("exit code 127"), "{text}");
    });
}

#[test]
fn a_launcher_that_fails_is_quoted_whatever_its_exit_code_and_tried_again() {
    within_deadline(|| {
        let attempts = NewFile::new();
        let path = attempts.path().display().to_string();
        let error = failure(script(&format!("echo . >> {path}; echo no such partition >&2; exit 0")).hosts(["node7"]));
        let text = format!("{error:#}");
        assert!(text.contains("on node7 could not be started"), "{text}");
        assert!(text.contains("exit code 0; last output: no such partition"), "{text}");
        assert_eq!(fs::read_to_string(attempts.path()).unwrap().lines().count(), 3);
        // A launcher that works in the end has cost no task.
        fs::write(attempts.path(), "").unwrap();
        let late = script(&format!("echo . >> {path}; [ $(wc -l < {path}) -gt 2 ] && exec \"$@\""));
        assert_eq!(pool(late).submit(count, 7).wait().unwrap(), 7);
    });
}

#[test]
fn hosts_on_which_nothing_starts_are_passed_over() {
    within_deadline(|| {
        let launcher = script("[ {host} = good ] && exec env HOST={host} \"$@\"");
        // More hosts than there are attempts with one.
        let pool = pool(launcher.hosts(["bad", "worse", "down", "gone", "good"]));
        for _ in 0..3 {
            assert_eq!(pool.submit(variable, "HOST".into()).wait().unwrap().unwrap(), "good");
            kill(pool.workers().workers[0].pid);
        }
    });
}

#[test]
fn another_build_is_an_error_that_names_both() {
    within_deadline(|| {
        // A build id that the linker would have given another program.
        let mut program = fs::read(std::env::current_exe().unwrap()).unwrap();
        let note = b"\x03\0\0\0GNU\0";
        let at = program.windows(note.len()).position(|bytes| bytes == note).expect("a build has an id") + note.len();
        program[at] ^= 1;
        let other = NewFile::new();
        fs::write(other.path(), program).unwrap();
        fs::set_permissions(other.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = failure(Launcher::command(["env"]).program(other.path()));
        let text = format!("{error:#}");
        assert!(text.contains("another build") && text.contains(&other.path().display().to_string()), "{text}");
        let ids =
            text.split([' ', ',', ';']).filter(|word| word.len() == 16 && word.chars().all(|c| c.is_ascii_hexdigit()));
        assert_eq!(ids.count(), 2, "{text}");
    });
}

#[test]
fn a_copy_of_the_program_is_the_same_build() {
    within_deadline(|| {
        let copy = NewFile::new();
        fs::copy(std::env::current_exe().unwrap(), copy.path()).unwrap();
        let pool = pool(Launcher::command(["env"]).program(copy.path()));
        assert_eq!(pool.submit(count, 7).wait().unwrap(), 7);
    });
}

/// A launcher that starts no worker for longer than any test takes, with this file among its arguments.
fn stuck(file: &NewFile) -> Launcher {
    stuck_with(&file.path().to_string_lossy())
}

fn stuck_with(argument: &str) -> Launcher {
    Launcher::command(["sh", "-c", "sleep 1000; true", argument])
}

/// The number of processes that have this file among their arguments.
fn processes_with(file: &NewFile) -> usize {
    let text = file.path().display().to_string();
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(&text)).count()
}

#[test]
fn a_worker_that_does_not_come_in_time_is_given_up() {
    within_deadline(|| {
        let file = NewFile::new();
        let error = failure(stuck(&file).start_timeout(Duration::from_millis(50)));
        assert!(format!("{error:#}").contains("within the `start_timeout`"), "{error:#}");
        eventually("no launcher is left", || processes_with(&file) == 0);
    });
}

#[test]
fn a_pool_whose_workers_wait_in_a_queue_can_be_dropped() {
    within_deadline(|| {
        let file = NewFile::new();
        let pool = pool(stuck(&file));
        let (task, other) = (pool.submit(count, 1), pool.submit(count, 2));
        eventually("a launcher waits", || processes_with(&file) > 0);
        let WorkersStatus { wanted, started, busy, .. } = pool.workers();
        assert_eq!((wanted, started, busy), (1, 0, 0));
        other.cancel();
        assert!(other.wait().unwrap_err().is_cancelled());
        drop((task, pool));
        eventually("no launcher is left", || processes_with(&file) == 0);
    });
}

#[test]
fn a_pool_whose_workers_wait_in_a_queue_can_be_shut_down() {
    within_deadline(|| {
        let file = NewFile::new();
        let pool = pool(stuck(&file));
        let task = pool.submit(count, 1);
        eventually("a launcher waits", || processes_with(&file) > 0);
        let start = Instant::now();
        pool.shutdown_now().wait();
        assert!(task.wait().unwrap_err().is_cancelled());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert_eq!(processes_with(&file), 0);
    });
}

// Ends of workers and launchers.

#[test]
fn a_worker_that_is_killed_costs_its_task_and_its_place_is_named() {
    within_deadline(|| {
        // The shell stays, and passes the signal on as its exit code.
        for launcher in [Launcher::command(["env"]), script("\"$@\"; exit $?")] {
            let pool = pool(launcher.hosts(["a"]));
            let task = pool.submit(spin_with_a_message, ());
            let worker = running(&task);
            kill(worker);
            let error = task.wait().unwrap_err();
            let host = &rustix::system::uname().nodename().to_string_lossy().into_owned();
            let place = format!("lost its worker on {host} (process {worker}): signal 9 (SIGKILL) at 75 %");
            assert!(error.to_string().contains(&place), "{error}");
            assert!(error.source().unwrap().to_string().contains("its launcher, `"), "{error:#}");
            assert_eq!(pool.submit(count, 7).wait().unwrap(), 7);
            assert_eq!(pool.workers().lost, 1);
        }
    });
}

/// Shells and launchers report a signal as 128 and its number.
#[test]
fn an_exit_code_is_taken_for_a_signal_only_where_a_launcher_reports_it() {
    within_deadline(|| {
        for (launcher, expected) in [
            (Launcher::default(), WorkerExit::Code(130)),
            (Launcher::command(["env"]), WorkerExit::Code(130)),
            (script("\"$@\"; exit $?"), WorkerExit::Signal(2)),
        ] {
            let error = pool(launcher).submit(exit_with, 130).wait().unwrap_err();
            assert_eq!(error.kind(), &TaskErrorKind::WorkerLost(expected), "{error:#}");
        }
    });
}

#[test]
fn the_job_and_the_step_are_named() {
    within_deadline(|| {
        let slurm = ["env", "SLURM_JOB_ID=17", "SLURM_STEP_ID=3", "SLURMD_NODENAME=n1"];
        let pool = pool(Launcher::command(slurm));
        let task = pool.submit(spin_with_a_message, ());
        let pid = running(&task);
        let WorkersStatus { wanted, started, busy, lost, workers, .. } = pool.workers();
        assert_eq!((wanted, started, busy, lost, workers.len()), (1, 1, 1, 0, 1));
        let worker = &workers[0];
        assert_eq!((worker.pid, worker.index, worker.is_busy, &*worker.host), (pid, 0, true, "n1"));
        assert_eq!((worker.job.as_deref(), worker.step.as_deref()), (Some("17"), Some("3")));
        kill(pid);
        let error = task.wait().unwrap_err().to_string();
        assert!(error.contains(&format!("on n1 (process {pid}, job 17, step 3)")), "{error}");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn the_way_to_a_launcher_is_open_to_the_program_only() {
    within_deadline(|| {
        let (_ours, socket) = UnixStream::pair().unwrap();
        for (input, is_open) in [(OwnedFd::from(socket).into(), true), (Stdio::null(), false), (Stdio::piped(), false)]
        {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["progress_executor_test_worker", "--exact", "--nocapture", "--"])
                .arg(format!("--progress-executor-launch={}", std::process::id()))
                .args(["echo", "launched"])
                .stdin(input)
                .stderr(Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(said.contains("launched"), is_open, "{said}");
            assert_eq!(output.status.success(), is_open);
        }
    });
}

#[test]
fn the_node_and_the_step_of_the_program_are_not_those_of_its_workers() {
    within_deadline(|| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["launched::program_on_a_node", "--exact", "--nocapture"])
            .envs([("TEST_PROGRAM", "program_on_a_node"), ("SLURM_JOB_ID", "17")])
            .envs([("SLURMD_NODENAME", "n1"), ("SLURM_STEP_ID", "3")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}

/// Not a test, but the program that the one above starts.
#[test]
fn program_on_a_node() {
    if std::env::var("TEST_PROGRAM").is_ok_and(|program| program == "program_on_a_node") {
        // As if ssh had started it.
        let pool = pool(Launcher::command(["env", "-i"]));
        assert_eq!(pool.submit(variable, "SLURM_JOB_ID".into()).wait().unwrap().as_deref(), Some("17"));
        let worker = &pool.workers().workers[0];
        assert!(worker.host != "n1" && worker.step.is_none(), "{worker:?}");
    }
}

#[test]
fn a_launcher_that_is_killed_takes_its_worker_with_it() {
    within_deadline(|| {
        let pool = pool(script("\"$@\"; true"));
        let task = pool.submit(spin_with_a_message, ());
        let worker = running(&task);
        kill(parent_of(worker));
        let error = task.wait().unwrap_err();
        assert!(error.to_string().contains(&WorkerExit::Signal(9).to_string()), "{error}");
        eventually("the worker is gone as well", || !has_process(worker));
    });
}

#[test]
fn what_a_worker_has_not_begun_when_its_launcher_ends_is_run_once() {
    within_deadline(|| {
        let pool = pool(script("\"$@\"; true"));
        assert_eq!(pool.submit(count, 7).wait().unwrap(), 7);
        let worker = pool.workers().workers[0].pid;
        let launcher = parent_of(worker);
        stop(worker);
        let runs = NewFile::new();
        let task = pool.submit(append, (runs.path(), "run".into()));
        eventually("it is sent to the worker", || pool.workers().busy == 1);
        // The worker goes on before it is ended with what its launcher has left.
        kill(launcher);
        eventually("the worker is given up", || pool.workers().workers.iter().all(|other| other.pid != worker));
        signal(worker, Signal::CONT);
        eventually("the worker is gone", || !has_process(worker));
        let outcome = task.wait();
        let runs = fs::read_to_string(runs.path()).unwrap();
        match outcome {
            Ok(_) => assert_eq!(runs, "run\n"),
            // Linux continues what is stopped in the group of a process that ends, and hangs it up: it may begin before that.
            Err(error) => assert!(error.is_worker_lost() && ["", "run\n"].contains(&&*runs), "{runs:?} {error:?}"),
        }
    });
}

#[test]
fn a_task_that_does_not_listen_is_killed_with_whatever_stands_in_front_of_it() {
    within_deadline(|| {
        // The last launcher also keeps the worker's input open, and ignores the request to end.
        let deaf = "trap '' TERM; \"$@\"; true";
        for launcher in
            [Launcher::command(["env"]), Launcher::shell(["sh", "-c"]), script("\"$@\"; true"), script(deaf)]
        {
            let pool = pool(launcher);
            let task = pool.submit(spin_with_a_message, ());
            let worker = running(&task);
            let start = Instant::now();
            task.cancel();
            let error = task.wait().unwrap_err();
            assert!(error.is_cancelled() && start.elapsed() < Duration::from_secs(10), "{error} {:?}", start.elapsed());
            eventually("the worker is gone", || !has_process(worker));
            assert_eq!(pool.submit(count, 7).wait().unwrap(), 7);
        }
    });
}

#[test]
fn a_launcher_has_time_to_end_its_job_while_its_task_has_ended() {
    within_deadline(|| {
        let (gate, ended) = (NewFile::new(), std::env::temp_dir().join(format!("job-ended-{}", process::id())));
        let launcher = format!(
            "trap 'while [ -e {} ]; do sleep .01; done; : >{}; exit' TERM; exec 3<&0; \"$@\" <&3 & wait",
            gate.path().display(),
            ended.display()
        );
        let pool = pool(script(&launcher));
        let task = pool.submit(spin_with_a_message, ());
        running(&task);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        assert_eq!(pool.submit(count, 7).wait().unwrap(), 7, "its place is taken by another");
        // Whatever would be killed has been killed by now, because a pool that has ended leaves nothing.
        let shutdown = pool.shutdown();
        assert!(!ended.exists());
        gate.remove();
        shutdown.wait();
        assert!(ended.exists(), "the launcher was killed");
        fs::remove_file(ended).unwrap();
    });
}

#[test]
fn what_a_launcher_waits_for_is_ended_with_it_although_its_worker_has_left() {
    within_deadline(|| {
        // The request to end kills the one, and the other ends by itself.
        for on_request in ["true", "trap 'exit 3' TERM"] {
            let file = NewFile::new();
            let launcher = format!("{on_request}; \"$@\"; sleep 1000 & echo $! >{}; wait", file.path().display());
            let pool = pool(script(&launcher));
            assert_eq!(pool.submit(count, 7).wait().unwrap(), 7);
            pool.shutdown().wait();
            let sleeper = fs::read_to_string(file.path()).unwrap().trim().parse().unwrap();
            eventually("nothing is left", || !has_process(sleeper));
        }
    });
}

#[test]
fn a_worker_that_is_stopped_is_killed_when_its_task_is_cancelled() {
    within_deadline(|| {
        let pool = pool(launcher_of_environment());
        let task = pool.submit(spin_with_a_message, ());
        let worker = running(&task);
        stop(worker);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        eventually("the worker is gone", || !has_process(worker));
        assert_eq!(pool.submit(count, 7).wait().unwrap(), 7);
    });
}

#[test]
fn what_a_launcher_writes_when_its_worker_has_ended_is_quoted_and_told_from_what_that_has_sent() {
    within_deadline(|| {
        let epilog = "\"$@\"; echo this worker has ended, says its launcher; echo sorry >&2; exit 3";
        let text = format!("{:#}", pool(script(epilog)).submit(talk_and_die, 0).wait().unwrap_err());
        let parts =
            ["\"this worker has ended, says its launcher\" came instead of a message", "its launcher is `sh -c"];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    });
}

#[test]
fn a_launcher_that_never_stops_writing_is_told_from_one_that_fails() {
    within_deadline(|| {
        let text = format!("{:#}", failure(script("yes banner")));
        let parts = ["more than 64 KiB came before it", "its launcher is `sh -c 'yes banner' sh`", "\"banner\\nbanner"];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    });
}

#[test]
fn a_launcher_that_passes_on_only_a_part_of_the_input_is_told_what_to_do() {
    within_deadline(|| {
        let text = format!("{:#}", failure(script("head -c 1 >/dev/null; exec \"$@\"")));
        assert!(text.contains("a launcher must pass its own on to each worker, all of it and unchanged"), "{text}");
    });
}

// Falling out of reach.

/// Short, for workers that must be lost by it, but not too short for a busy machine.
const BEAT: Duration = Duration::from_millis(500);

#[test]
fn a_worker_of_which_nothing_is_heard_is_lost() {
    within_deadline(|| {
        let pool = pool(script("echo on my way >&2; exec \"$@\"").heartbeat(BEAT));
        let task = pool.submit(count_forever, ());
        eventually("it runs", || task.progress().n > 0);
        let worker = pool.workers().workers[0].pid;
        stop(worker);
        let error = task.wait().unwrap_err();
        let text = format!("{error:#}");
        assert!(error.is_worker_lost() && text.contains("nothing for 1.5s; its launcher is `sh -c"), "{text}");
        assert!(text.contains("last output: on my way"), "{text}");
        eventually("the worker is gone", || !has_process(worker));
        assert_eq!(pool.submit(count, 7).wait().unwrap(), 7);
    });
}

#[test]
fn a_worker_that_is_not_heard_says_what_its_launcher_is_to_do() {
    within_deadline(|| {
        for output in ["/dev/null", "&-"] {
            let launcher = script(&format!("exec \"$@\" >{output}")).heartbeat(BEAT / 10);
            let error = format!("{:#}", failure(launcher));
            assert!(error.contains("has sent nothing for 150ms") && error.contains("standard output"), "{error}");
        }
    });
}

#[test]
fn a_worker_that_only_computes_is_not_lost() {
    within_deadline(|| {
        let pool = pool(Launcher::command(["env"]).heartbeat(BEAT));
        let task = pool.submit(spin, ());
        eventually("it runs", || task.progress().message.is_some());
        // Time must pass in which the task says nothing.
        std::thread::sleep(6 * BEAT);
        assert!(!task.is_done() && pool.workers().lost == 0);
    });
}

#[test]
fn a_worker_that_hears_nothing_ends_itself() {
    within_deadline(|| {
        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["launched::program_that_is_stopped", "--exact", "--nocapture"])
            .env("TEST_PROGRAM", "program_that_is_stopped")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(program.stdout.take().unwrap()));
        let mut numbers = lines.filter_map(|line| line.unwrap().split_once("process ")?.1.parse().ok());
        let worker: u32 = numbers.next().unwrap();
        stop(program.id());
        // The parent is stopped, and cannot reap the worker; unless the parent was slow before, and the worker heard
        // nothing then.
        let stat = format!("/proc/{worker}/stat");
        eventually("it has ended", || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")));
        signal(program.id(), Signal::CONT);
        assert!(program.wait().unwrap().success(), "the task is lost, and the pool works on");
    });
}

/// Not a test, but the program that the one above stops.
#[test]
fn program_that_is_stopped() {
    if std::env::var("TEST_PROGRAM").is_ok_and(|program| program == "program_that_is_stopped") {
        let pool = pool(Launcher::command(["env"]).heartbeat(BEAT));
        let task = pool.submit(spin_with_a_message, ());
        println!("\nprocess {}", running(&task));
        assert!(task.wait().unwrap_err().is_worker_lost());
        assert_eq!(pool.submit(count, 7).wait().unwrap(), 7);
    }
}

#[test]
fn a_program_that_is_killed_takes_its_launchers_with_it_though_they_have_started_nobody() {
    within_deadline(|| {
        let file = NewFile::new();
        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["launched::program_whose_workers_never_come", "--exact", "--nocapture"])
            .env("TEST_NEVER_COME", file.path())
            .spawn()
            .unwrap();
        eventually("a launcher waits", || processes_with(&file) > 0);
        program.kill().unwrap();
        program.wait().unwrap();
        eventually("no launcher is left", || processes_with(&file) == 0);
    });
}

/// Not a test, but the program that the one above kills.
#[test]
fn program_whose_workers_never_come() {
    if let Ok(file) = std::env::var("TEST_NEVER_COME") {
        let _ = pool(stuck_with(&file)).submit(count, 1).wait();
    }
}

// What else a pool does.

/// Nothing follows a colon.
#[test]
fn the_error_of_a_task_that_was_cancelled_before_it_began_is_whole() {
    within_deadline(|| {
        let executors: [Box<dyn Executor>; 3] = [
            Box::new(pool(Launcher::command(["env"]))),
            Box::new(ProcessPoolExecutor::new(1).unwrap()),
            Box::new(ThreadPoolExecutor::new(1)),
        ];
        for executor in executors {
            executor.submit(count, 1).wait().unwrap();
            for _ in 0..100 {
                let task = executor.submit(count, 1);
                task.pause();
                task.cancel();
                let Err(error) = task.wait() else { continue };
                let text = format!("{error:#}");
                assert!(error.is_cancelled() && !text.ends_with(": "), "{text}");
            }
        }
    });
}

#[test]
fn tasks_of_a_suspended_pool_make_no_progress() {
    within_deadline(|| {
        let pool = pool(Launcher::command(["env"]).heartbeat(BEAT));
        let task = pool.submit(count_forever, ());
        eventually("it runs", || task.progress().n > 0);
        pool.suspend();
        let stands_still = || {
            let n = task.progress().n;
            std::thread::sleep(3 * BEAT);
            task.progress().n == n
        };
        eventually("it stands still", stands_still);
        assert_eq!((task.progress().status, pool.workers().lost), (Status::Running, 0));
        let n = task.progress().n;
        pool.resume();
        eventually("it goes on", || task.progress().n > n);
        pool.suspend();
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_worker_takes_no_task_in_the_last_of_its_time() {
    within_deadline(|| {
        let margin = Duration::from_secs(3600);
        let brief = Launcher::command(["env"]).lifetime(margin + Duration::from_millis(300), margin);
        let pool = pool(brief);
        let first = pool.submit(process_id, ()).wait().unwrap();
        eventually("its time is over", || !has_process(first));
        assert_ne!(pool.submit(process_id, ()).wait().unwrap(), first);
        assert_eq!(pool.workers().lost, 0);
        let ends = format!("SLURM_JOB_END_TIME={}", u32::MAX);
        let long = Launcher::command(["env", &*ends]).lifetime(Duration::ZERO, margin);
        assert_eq!(self::pool(long).submit(count, 7).wait().unwrap(), 7);
        let over = Launcher::command(["env", "SLURM_JOB_END_TIME=1"]).lifetime(Duration::MAX, margin);
        let none = Launcher::command(["env"]).lifetime(margin, margin);
        for useless in [over, none] {
            assert!(format!("{:#}", failure(useless)).contains("no task in the last 3600s of its `lifetime`"));
        }
    });
}

#[test]
fn a_worker_whose_time_is_over_once_it_is_ready_is_an_error() {
    within_deadline(|| {
        let (margin, useful, gate) = (Duration::from_secs(3600), Duration::from_millis(50), NewFile::new());
        let brief = Launcher::command(["env"]).lifetime(margin + useful, margin);
        let pool = builder(brief).initializer(hold, gate.path()).build().unwrap();
        let task = pool.submit(count, 7);
        eventually("it runs its initializer", || !pool.workers().workers.is_empty());
        // The useful time must pass.
        std::thread::sleep(2 * useful);
        gate.remove();
        let error = format!("{:#}", task.wait().unwrap_err());
        assert!(error.contains("hold`") && error.contains("its `lifetime`"), "{error}");
    });
}

/// They share what they read and write with the worker, and wait there.
#[test]
fn other_programs_of_a_launcher_may_pass_on_what_is_said() {
    within_deadline(|| {
        for launcher in [script("cat | \"$@\""), script("\"$@\" | cat"), script("cat | cat | \"$@\" | cat")] {
            let pool = pool(launcher);
            let worker = pool.submit(process_id, ()).wait().unwrap();
            for _ in 0..10 {
                assert_eq!(pool.submit(process_id, ()).wait().unwrap(), worker);
            }
        }
    });
}

#[test]
fn a_large_input_takes_the_time_that_it_takes() {
    within_deadline(|| {
        // The input is passed on in pieces, so slowly that all of it takes longer than a worker may be silent, as does
        // what the last of these have taken in when there is nothing left to send.
        let slow = "while dd bs=16k count=1 of=\"$0.piece\" 2>/dev/null && [ -s \"$0.piece\" ]; do cat \"$0.piece\"; sleep .1; done";
        let file = NewFile::new();
        let launcher = Launcher::command([
            "sh",
            "-c",
            &format!("cat | cat | cat | ({slow}; rm \"$0.piece\") | \"$@\""),
            &*file.path().to_string_lossy(),
        ]);
        let pool = pool(launcher.heartbeat(BEAT));
        assert_eq!(pool.submit(length, "x".repeat(1 << 20)).wait().unwrap(), 1 << 20);
    });
}

#[test]
fn a_task_is_not_run_again_although_the_news_of_its_start_is_lost_with_the_launcher() {
    within_deadline(|| {
        let (forwarder, log) = (NewFile::new(), NewFile::new());
        let forward = format!("\"$@\" | sh -c 'echo $$ >\"{}\"; exec cat'", forwarder.path().display());
        let pool = pool(script(&forward));
        let worker = pool.submit(process_id, ()).wait().unwrap();
        let forwarder: u32 = fs::read_to_string(forwarder.path()).unwrap().trim().parse().unwrap();
        let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        let launcher = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
        stop(forwarder);
        let task = pool.submit(append, (log.path(), "once".to_owned()));
        let lines = || fs::read_to_string(log.path()).unwrap_or_default();
        eventually("it has run", || lines() == "once\n");
        signal(launcher, Signal::KILL);
        let error = task.wait().unwrap_err();
        signal(forwarder, Signal::KILL);
        assert!(error.is_worker_lost(), "{error:?}");
        pool.submit(count, 1).wait().unwrap();
        assert_eq!(lines(), "once\n");
    });
}

#[test]
fn local_workers_are_listed_as_well() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(2).unwrap();
        assert_eq!(pool.workers(), WorkersStatus::default());
        let pid = pool.submit(process_id, ()).wait().unwrap();
        // On a busy machine, another worker may have been replaced, because it got no time to begin.
        eventually("one is left", || pool.workers().wanted == 1);
        let status = pool.workers();
        assert_eq!((status.started, status.busy, status.queued), (1, 0, 0));
        assert_eq!((status.workers[0].pid, status.workers[0].is_busy), (pid, false));
        assert_ne!(pid, process::id());
        drop(pool);
    });
}

#[test]
fn what_workers_say_is_marked_with_where_they_are() {
    within_deadline(|| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["launched::program_whose_worker_speaks", "--exact", "--nocapture"])
            .env("TEST_PROGRAM", "program_whose_worker_speaks")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let lines: Vec<&str> = said.lines().collect();
        for line in ["[a/0] the launcher speaks", "[n1/0] said on standard output", "[n1/0] said on standard error"] {
            assert!(lines.contains(&line), "{line} of {said}");
        }
    });
}

/// Not a test, but the program whose output the one above reads.
#[test]
fn program_whose_worker_speaks() {
    if std::env::var("TEST_PROGRAM").is_ok_and(|program| program == "program_whose_worker_speaks") {
        let launcher = script("echo the launcher speaks >&2; sleep .2; exec env SLURMD_NODENAME=n1 \"$@\"");
        let pool = pool(launcher.hosts(["a"]));
        pool.submit(say, ()).wait().unwrap();
        pool.shutdown().wait();
    }
}

/// An output that takes its time to be decoded.
#[derive(Serialize)]
pub(crate) struct Slow(Duration);

impl<'de> Deserialize<'de> for Slow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let slow = Self(Duration::deserialize(deserializer)?);
        thread::sleep(slow.0);
        Ok(slow)
    }
}

pub(crate) fn slow_down(time: Duration, _: &Updater) -> TaskResult<Slow> {
    Ok(Slow(time))
}

#[test]
fn workers_are_told_that_the_program_is_there_while_it_decodes() {
    within_deadline(|| {
        let launcher = Launcher::command(["env"]).heartbeat(BEAT);
        let pool = builder(launcher).max_workers(2).build().unwrap();
        let (file, hand) = (NewFile::new(), Hand::new());
        let held = pool.submit(hold, file.path());
        eventually("it runs", || held.progress().status == Status::Running);
        // Polled by hand, so that the pool's own thread decodes the output.
        let mut slow = pool.submit(slow_down, 4 * BEAT);
        let seen = hand.wakes();
        assert!(hand.poll(&mut slow).is_pending());
        hand.wait_for_wake(seen);
        assert!(hand.poll(&mut slow).is_ready());
        drop(file);
        held.wait().unwrap();
        assert_eq!(pool.workers().lost, 0);
    });
}
