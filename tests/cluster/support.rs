//! Helpers for the tests.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use progress_executor::{
    ExecutorExt, Launcher, ProcessPoolExecutor, ProgressFuture, TaskError, TaskErrorKind, TaskResult, Updater,
};

/// Far longer than anything that a test waits for takes, even on a busy machine; after the loss of a node, Slurm alone
/// takes most of a minute.
const DEADLINE: Duration = Duration::from_secs(120);

/// Far longer than a test takes that waits for several things.
const TEST_DEADLINE: Duration = Duration::from_secs(300);

// The tasks.

pub(crate) fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

/// Takes less than `most` milliseconds.
pub(crate) fn wait_and_double((n, most): (u64, u64), progress: &Updater) -> TaskResult<u64> {
    progress.sleep(Duration::from_millis(n % most))?;
    Ok(2 * n)
}

pub(crate) fn count_forever((): (), progress: &Updater) -> TaskResult<()> {
    loop {
        progress.update(1)?;
        progress.sleep(Duration::from_millis(1))?;
    }
}

/// Never ends, and makes no progress call after it has said that it spins.
pub(crate) fn spin((): (), progress: &Updater) -> TaskResult<()> {
    progress.set_counts(3, 4)?;
    progress.set_message("spins");
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

/// Says which process runs it, makes no other progress call, and ends once the gate is open.
pub(crate) fn stay(gate: PathBuf, progress: &Updater) -> TaskResult<u32> {
    progress.set_message(process::id().to_string());
    while gate.exists() {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(process::id())
}

pub(crate) fn variable(name: String, _: &Updater) -> TaskResult<String> {
    Ok(std::env::var(name)?)
}

pub(crate) fn echo(text: String, _: &Updater) -> TaskResult<String> {
    Ok(text)
}

pub(crate) fn echo_bytes(bytes: Vec<u8>, _: &Updater) -> TaskResult<Vec<u8>> {
    Ok(bytes)
}

pub(crate) fn fail((): (), _: &Updater) -> TaskResult<()> {
    Err("it fails on purpose".into())
}

pub(crate) fn abort(gate: PathBuf, progress: &Updater) -> TaskResult<()> {
    progress.set_counts(3, 4)?;
    wait_at(&gate, progress)?;
    process::abort()
}

pub(crate) fn exit((code, gate): (i32, PathBuf), progress: &Updater) -> TaskResult<()> {
    progress.set_counts(3, 4)?;
    wait_at(&gate, progress)?;
    process::exit(code)
}

/// Allocates this many bytes, and returns how many there are.
pub(crate) fn allocate((bytes, gate): (usize, PathBuf), progress: &Updater) -> TaskResult<usize> {
    progress.set_counts(3, 4)?;
    wait_at(&gate, progress)?;
    Ok(vec![1_u8; bytes].into_iter().map(usize::from).sum())
}

/// Starts a process that outlives its worker, and returns its id.
pub(crate) fn leave_behind((): (), _: &Updater) -> TaskResult<u32> {
    Ok(Command::new("sleep").arg("1000").spawn()?.id())
}

/// Ends its worker, unless five workers have ended this way before, each of which has left a line in the file.
pub(crate) fn crash_five_times(file: PathBuf, _: &Updater) -> TaskResult<()> {
    if fs::read_to_string(&file)?.lines().count() >= 5 {
        return Ok(());
    }
    writeln!(fs::File::options().append(true).open(file)?, "dead")?;
    process::exit(3)
}

/// Leaves a line in the file.
pub(crate) fn leave_line(file: PathBuf, _: &Updater) -> TaskResult<()> {
    Ok(writeln!(fs::File::options().append(true).open(file)?, "run")?)
}

/// Writes a line to both streams, and returns its process id and its node.
pub(crate) fn say((number, gate): (u32, PathBuf), progress: &Updater) -> TaskResult<(u32, String)> {
    println!("{number} was said on standard output");
    eprintln!("{number} was said on standard error");
    wait_at(&gate, progress)?;
    Ok((process::id(), node()))
}

fn node() -> String {
    std::env::var("SLURMD_NODENAME").unwrap_or_default()
}

/// Keeps its worker until the gate is open, and returns the worker's node.
pub(crate) fn hold(gate: PathBuf, progress: &Updater) -> TaskResult<String> {
    wait_at(&gate, progress)?;
    Ok(node())
}

/// Does nothing until it is cancelled.
pub(crate) fn rest((): (), progress: &Updater) -> TaskResult<()> {
    loop {
        progress.sleep(Duration::from_secs(60))?;
    }
}

fn wait_at(gate: &Path, progress: &Updater) -> TaskResult<()> {
    while gate.exists() {
        // The other process cannot wake this one.
        progress.sleep(Duration::from_millis(1))?;
    }
    Ok(())
}

/// A file at which tasks wait until it is gone.
pub(crate) struct Gate(PathBuf);

impl Gate {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("progress-executor-gate-{}-{number}", process::id()));
        fs::write(&path, "").unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone()
    }

    pub(crate) fn open(&self) {
        fs::remove_file(&self.0).unwrap();
    }

    /// Opens the gate once the task's progress is known to be 3 of 4, and returns how the task ends.
    pub(crate) fn end_of<T>(&self, task: ProgressFuture<T>) -> TaskError {
        eventually("its progress is known", || task.progress().n == 3);
        self.open();
        task.wait().map(drop).unwrap_err()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // It may have been opened before.
        let _ = fs::remove_file(&self.0);
    }
}

// The cluster.

/// One test at a time uses the machine, because each of them checks that nothing is left.
static ALONE: Mutex<()> = Mutex::new(());

/// The Slurm that was started for these tests.
#[derive(Clone, Copy)]
pub(crate) struct Slurm;

/// Runs a test on Slurm, alone and with a deadline, and checks that it leaves nothing behind; or says that there is no
/// Slurm.
#[track_caller]
pub(crate) fn on_slurm(test: impl FnOnce(Slurm) + Send + 'static) {
    if !cluster().is_some_and(|cluster| cluster.join("slurm.conf").exists()) {
        return skip("Slurm", "start-slurm");
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // A failed test may have left something.
    nothing_is_left();
    within_deadline(move || test(Slurm));
    nothing_is_left();
}

impl Slurm {
    /// One command starts all workers, more of them than there are processors.
    pub(crate) fn bulk(self) -> Launcher {
        Launcher::bulk(["srun", "-N2", "-n{count}", "--overcommit", "-K0", "-Q"])
    }

    /// The same, with a label on each line that the workers write.
    pub(crate) fn bulk_with_labels(self) -> Launcher {
        Launcher::bulk(["srun", "-N2", "-n{count}", "--overcommit", "-K0", "-Q", "--label"])
    }

    /// The same, but the job starts only after an hour.
    pub(crate) fn bulk_that_waits(self) -> Launcher {
        Launcher::bulk(["srun", "-N2", "-n{count}", "--begin=now+1hour", "-Q"])
    }

    /// One command starts each worker.
    pub(crate) fn single(self) -> Launcher {
        Launcher::command(["srun", "--exact", "-n1", "-Q"])
    }

    /// The same, on both nodes in turn.
    pub(crate) fn single_on_each_node(self) -> Launcher {
        Launcher::command(["srun", "-w", "{host}", "--exact", "-n1", "-Q"]).hosts(["n1", "n2"])
    }
}

/// Runs a test with the sshd that was started for these tests, or says that there is none.
#[track_caller]
pub(crate) fn over_ssh(test: impl FnOnce(Launcher) + Send + 'static) {
    let Some(config) = cluster().map(|cluster| cluster.join("ssh/config")).filter(|config| config.exists()) else {
        return skip("sshd", "start-ssh");
    };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let ssh = ["ssh", "-F", config.to_str().unwrap(), "-T", "{host}"];
    let launcher = Launcher::shell(ssh).hosts(["loop1", "loop2", "loop3"]);
    within_deadline(move || test(launcher));
    no_process_is_left();
}

/// Runs a test that needs neither; it still runs alone.
#[track_caller]
pub(crate) fn alone(test: impl FnOnce() + Send + 'static) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    within_deadline(test);
    no_process_is_left();
}

/// A pool whose launcher is this one.
pub(crate) fn pool(launcher: Launcher, workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(workers).launcher(launcher).build().unwrap()
}

/// The nodes on which the pool has its workers; there must be this many workers.
#[track_caller]
pub(crate) fn nodes_of(pool: &ProcessPoolExecutor, workers: usize) -> BTreeSet<String> {
    let gate = Gate::new();
    let tasks: Vec<_> = (0..workers).map(|_| pool.submit(hold, gate.path())).collect();
    eventually("each has one", || pool.workers().busy == workers);
    gate.open();
    tasks.into_iter().map(|task| task.wait().unwrap()).collect()
}

/// Waits until no job, no process of these tests and no listening port is left, and the nodes are idle.
#[track_caller]
fn nothing_is_left() {
    no_process_is_left();
    eventually("no job is left", || said_by("squeue", &["-h"]).trim().is_empty());
    eventually("the nodes are idle", || {
        said_by("sinfo", &["-h", "-N", "-o", "%T"]).lines().all(|state| state == "idle")
    });
    eventually("nobody listens on a port", || !is_listening());
}

/// Waits until no process of these tests is left, nor a launcher, which the next test could take for its own.
#[track_caller]
fn no_process_is_left() {
    eventually("no process is left", || processes().is_empty() && children().next().is_none());
}

/// Skipped tests must be visible, but libtest hides what `eprintln!` writes in a test that passes.
pub(crate) fn skip(what: &str, script: &str) {
    let _ =
        writeln!(io::stderr(), "LEFT OUT, because there is no {what}: eval \"$(tests/cluster/{script})\" starts one");
}

fn cluster() -> Option<PathBuf> {
    std::env::var_os("TEST_CLUSTER").map(PathBuf::from)
}

pub(crate) fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All processes that run this program, apart from this one.
pub(crate) fn processes() -> Vec<u32> {
    let own = fs::read_link("/proc/self/exe").unwrap();
    let is_ours =
        |id: &u32| *id != process::id() && fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == own);
    all_processes().filter(is_ours).collect()
}

/// The children of this process that have not ended: one that has still exists, but has no command line.
fn children() -> impl Iterator<Item = u32> {
    all_processes().filter(|&id| parent_of(id) == Some(process::id()) && has(id, "cmdline", "\0"))
}

/// Those that have this name.
pub(crate) fn children_called(name: &str) -> Vec<u32> {
    children().filter(|&id| has(id, "cmdline", &format!("{name}\0"))).collect()
}

pub(crate) fn all_processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Whether this file of a process in `/proc` contains the text.
pub(crate) fn has(process: u32, what: &str, text: &str) -> bool {
    fs::read(format!("/proc/{process}/{what}")).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
}

pub(crate) fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

pub(crate) fn kill(process: u32) {
    signal(process, Signal::KILL);
}

pub(crate) fn signal(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).unwrap();
    // It may have ended meanwhile.
    let _ = kill_process(process, signal);
}

/// Whether this process listens on any port.
pub(crate) fn is_listening() -> bool {
    let own: HashSet<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let sockets = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let listening = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    listening
        .into_iter()
        .any(|words| words.get(3) == Some(&"0A") && words.get(9).is_some_and(|inode| own.contains(*inode)))
}

#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        // Other processes cannot wake this one.
        thread::sleep(Duration::from_millis(10));
    }
}

/// Checks that the program was told of the loss of the worker. `benches/cluster` measures how soon.
#[track_caller]
pub(crate) fn assert_lost_and_told(error: &TaskError) {
    let text = format!("{error:#}");
    assert!(matches!(error.kind(), TaskErrorKind::WorkerLost(_)), "{text}");
    assert!(!text.contains("nothing for"), "it was known by its silence: {text}");
}

/// Runs a test that could hang; fails when it does.
#[track_caller]
pub(crate) fn within_deadline(test: impl FnOnce() + Send + 'static) {
    let (done, result) = channel();
    let thread = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match result.recv_timeout(TEST_DEADLINE) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => panic!("the test hangs: it has not ended within {TEST_DEADLINE:?}"),
        Err(RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}
