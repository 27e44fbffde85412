//! The crash matrix: every way for a worker to end, at every place, in every situation. Each time, the one task
//! concerned has the right error, all others have their values, and the pool works on.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use progress_executor::{
    BoxError, ExecutorExt, ProcessPoolExecutor, TaskError, TaskErrorKind, TaskResult, Updater, WorkerExit,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal, getpid, getppid, kill_process, pidfd_getfd, pidfd_open};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::processes::{append, sorted_lines};
use crate::support::{NewFile, count, eventually, has_process, within_deadline};

/// Ways to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    Error,
    Panic,
    Exit,
    Abort,
    Kill,
    Close,
    Garbage,
}

const WAYS: [Way; 7] = [Way::Error, Way::Panic, Way::Exit, Way::Abort, Way::Kill, Way::Close, Way::Garbage];

impl Way {
    /// Ends in this way. `Error` returns and `Panic` unwinds; the others never return.
    pub(crate) fn go(self) -> Result<(), String> {
        match self {
            Self::Error => return Err("as intended".into()),
            // Without the message that `panic!` writes to standard error.
            Self::Panic => std::panic::resume_unwind(Box::new("as intended".to_string())),
            Self::Exit => process::exit(3),
            Self::Abort => process::abort(),
            Self::Kill => kill_process(getpid(), Signal::KILL).map_err(|error| error.to_string())?,
            Self::Close => rustix::net::shutdown(channel(), rustix::net::Shutdown::Both).unwrap(),
            Self::Garbage => UnixStream::from(channel()).write_all(&[b'?'; 100]).unwrap(),
        }
        // Waits to be killed.
        loop {
            thread::park();
        }
    }

    /// How a task ends that was started.
    pub(crate) fn kind(self) -> TaskErrorKind {
        match self {
            Self::Error => TaskErrorKind::Failed,
            Self::Panic => TaskErrorKind::Panicked,
            Self::Exit => TaskErrorKind::WorkerLost(WorkerExit::Code(3)),
            Self::Abort => TaskErrorKind::WorkerLost(WorkerExit::Signal(6)),
            Self::Kill | Self::Close | Self::Garbage => TaskErrorKind::WorkerLost(WorkerExit::Signal(9)),
        }
    }
}

/// The channel of this worker: its first socket. The library does not expose it, so it is taken out of the process as a
/// debugger would.
fn channel() -> OwnedFd {
    let is_socket = |fd: &i32| {
        fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    let fd = (3..1000).find(is_socket).expect("a worker has a channel");
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(this, fd, PidfdGetfdFlags::empty()).unwrap()
}

pub(crate) fn is_worker() -> bool {
    std::env::args().next_back().is_some_and(|argument| argument.starts_with("--progress-executor-task="))
}

/// Where a task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    Decoding,
    Running,
    Encoding,
}

/// The input of a task that ends at one of the places.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Trap {
    way: Way,
    place: Place,
}

#[derive(Deserialize)]
struct PlainTrap {
    way: Way,
    place: Place,
}

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let PlainTrap { way, place } = PlainTrap::deserialize(deserializer)?;
        if place == Place::Decoding && is_worker() {
            way.go().map_err(D::Error::custom)?;
        }
        Ok(Self { way, place })
    }
}

/// The output of a task; encoding it ends the task if `Some`.
#[derive(Debug, Deserialize)]
pub(crate) struct Sprung(Option<Way>);

impl Serialize for Sprung {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(way) = self.0 {
            way.go().map_err(S::Error::custom)?;
        }
        self.0.serialize(serializer)
    }
}

pub(crate) fn spring(trap: Trap, progress: &Updater) -> TaskResult<Sprung> {
    progress.set_counts(1, 4)?;
    match trap.place {
        Place::Decoding => Err("the trap was not sprung".into()),
        Place::Running => Ok(trap.way.go().map(|()| Sprung(None))?),
        Place::Encoding => Ok(Sprung(Some(trap.way))),
    }
}

/// Ends the worker once the file is gone; the worker is idle by then.
pub(crate) fn spring_later((way, file): (Way, PathBuf), _: &Updater) -> TaskResult<u32> {
    thread::spawn(move || {
        while file.exists() {
            // The other process cannot wake this one.
            thread::sleep(Duration::from_millis(1));
        }
        way.go()
    });
    Ok(process::id())
}

/// Ends the worker if the file is there. If that must happen only once, removes the file first.
fn spring_if_there(way: Way, file: &Path, is_for_once: bool) -> Result<(), String> {
    let is_there = if is_for_once { fs::remove_file(file).is_ok() } else { file.exists() };
    if is_there { way.go() } else { Ok(()) }
}

pub(crate) fn initialize((way, file, is_for_once): (Way, PathBuf, bool), _: &Updater) -> TaskResult<()> {
    Ok(spring_if_there(way, &file, is_for_once)?)
}

/// What a worker does before it calls `init`.
pub(crate) fn start() {
    if is_worker() && std::env::var_os("TEST_NEVER_CALLS_INIT").is_some() {
        eprintln!("worker {}", process::id());
        loop {
            thread::park();
        }
    }
    if let Some(log) = std::env::var_os("TEST_STARTS_LATE").filter(|_| is_worker()) {
        let program = getppid();
        fs::write(log, process::id().to_string()).unwrap();
        eventually("its program is gone", || getppid() != program);
    }
    let Ok(order) = std::env::var("TEST_CRASH_AT_START") else { return };
    let (way, file, is_for_once): (Way, PathBuf, bool) = serde_json::from_str(&order).unwrap();
    if is_worker() && spring_if_there(way, &file, is_for_once).is_err() {
        process::exit(4);
    }
}

pub(crate) fn process_id((): (), _: &Updater) -> TaskResult<u32> {
    Ok(process::id())
}

/// What else goes on while a worker ends.
#[derive(Clone, Copy, Debug)]
enum Situation {
    OthersRun,
    QueueIsFull,
    ShutsDown,
}

const SITUATIONS: [Situation; 3] = [Situation::OthersRun, Situation::QueueIsFull, Situation::ShutsDown];

/// Submits what else goes on, then the task in question, then more; returns how that task ended.
fn amid<T>(
    executor: &ProcessPoolExecutor,
    situation: Situation,
    task: impl FnOnce() -> progress_executor::ProgressFuture<T>,
) -> Result<T, TaskError> {
    let others = match situation {
        Situation::QueueIsFull => 100,
        Situation::OthersRun | Situation::ShutsDown => 1,
    };
    let submit = |n| (n, executor.submit(count, n));
    let before: Vec<_> = (0..others).map(|n| submit(1_000 * n)).collect();
    let task = task();
    let after: Vec<_> = (0..others).map(submit).collect();
    let shutdown = matches!(situation, Situation::ShutsDown).then(|| executor.shutdown());
    let outcome = task.wait();
    for (n, task) in before.into_iter().chain(after) {
        assert_eq!(task.wait().unwrap(), n, "{situation:?}");
    }
    match shutdown {
        Some(shutdown) => shutdown.wait(),
        None => assert_eq!(executor.submit(count, 7).wait().unwrap(), 7, "{situation:?}"),
    }
    outcome
}

fn crash_at(place: Place) {
    for way in WAYS {
        for situation in SITUATIONS {
            let executor = ProcessPoolExecutor::new(2).unwrap();
            let error = amid(&executor, situation, || executor.submit(spring, Trap { way, place })).unwrap_err();
            let kind = match (way, place) {
                (Way::Error, Place::Decoding) => TaskErrorKind::Decode,
                (Way::Error, Place::Encoding) => TaskErrorKind::Encode,
                _ => way.kind(),
            };
            assert_eq!(error.kind(), &kind, "{way:?} {place:?} {situation:?}: {error:?}");
            let n = if place == Place::Decoding { 0 } else { 1 };
            let is_known = !error.is_worker_lost() || error.progress().n == n || error.progress().n == 0;
            assert!(is_known, "{way:?} {place:?} {situation:?}: {error:?}");
        }
    }
}

#[test]
fn a_crash_while_the_input_is_decoded_costs_one_task() {
    within_deadline(|| crash_at(Place::Decoding));
}

#[test]
fn a_crash_of_the_function_costs_one_task() {
    within_deadline(|| crash_at(Place::Running));
}

#[test]
fn a_crash_while_the_output_is_encoded_costs_one_task() {
    within_deadline(|| crash_at(Place::Encoding));
}

#[test]
fn a_crash_of_an_idle_worker_costs_nothing() {
    within_deadline(|| {
        for way in WAYS {
            for situation in SITUATIONS {
                let executor = ProcessPoolExecutor::new(1).unwrap();
                let file = NewFile::new();
                let worker = executor.submit(spring_later, (way, file.path())).wait().unwrap();
                file.remove();
                if !matches!(way, Way::Error | Way::Panic) {
                    // The worker is idle, and then gone.
                    eventually("the worker is reaped", || !has_process(worker));
                }
                amid(&executor, situation, || executor.submit(process_id, ())).unwrap();
            }
        }
    });
}

/// While tasks are short, the worker sends its reports on many of them at once: these must not be lost with the worker.
#[test]
fn a_crash_among_short_tasks_costs_one_and_none_is_run_twice() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(1).unwrap();
        for way in [Way::Exit, Way::Abort, Way::Kill, Way::Close, Way::Garbage] {
            let log = NewFile::new();
            let append = |n: u32| executor.submit(append, (log.path(), n.to_string()));
            (0..50).map(append).for_each(|task| assert!(task.wait().is_ok()));
            let mut tasks: Vec<_> = (50..200).map(append).collect();
            let crash = executor.submit(spring, Trap { way, place: Place::Running });
            tasks.extend((200..350).map(append));
            assert_eq!(crash.wait().unwrap_err().kind(), &way.kind());
            tasks.into_iter().for_each(|task| assert!(task.wait().is_ok()));
            assert_eq!(sorted_lines(&log), (0..350).collect::<Vec<_>>(), "{way:?}");
        }
    });
}

fn pool_that_crashes_at_start(way: Way, file: &Path, is_for_once: bool) -> ProcessPoolExecutor {
    let order = serde_json::to_string(&(way, file, is_for_once)).unwrap();
    ProcessPoolExecutor::builder().max_workers(1).env("TEST_CRASH_AT_START", order).build().unwrap()
}

/// There is no channel yet that a worker could close or fill with garbage.
const WAYS_TO_FAIL_TO_START: [Way; 5] = [Way::Error, Way::Panic, Way::Exit, Way::Abort, Way::Kill];

#[test]
fn a_crash_at_the_start_costs_nothing() {
    within_deadline(|| {
        for way in WAYS_TO_FAIL_TO_START {
            for situation in SITUATIONS {
                let file = NewFile::new();
                let executor = pool_that_crashes_at_start(way, &file.path(), true);
                amid(&executor, situation, || executor.submit(process_id, ())).unwrap();
                assert!(!file.exists(), "a worker has crashed");
            }
        }
    });
}

#[test]
fn workers_that_never_start_are_an_error_of_the_tasks_and_not_a_loop() {
    within_deadline(|| {
        for way in WAYS_TO_FAIL_TO_START {
            let file = NewFile::new();
            let executor = pool_that_crashes_at_start(way, &file.path(), false);
            let tasks: Vec<_> = (0..10).map(|n| executor.submit(count, n)).collect();
            for task in tasks {
                let error = task.wait().unwrap_err();
                assert!(error.is_worker_lost(), "{way:?}: {error:?}");
                assert_eq!(error.progress().elapsed, Duration::ZERO);
            }
            file.remove();
            assert_eq!(executor.submit(count, 7).wait().unwrap(), 7, "{way:?}");
        }
    });
}

fn pool_with_initializer(way: Way, file: &Path, is_for_once: bool) -> ProcessPoolExecutor {
    let input = (way, file.to_owned(), is_for_once);
    ProcessPoolExecutor::builder().max_workers(1).initializer(initialize, input).build().unwrap()
}

#[test]
fn a_crash_of_the_initializer_costs_nothing_if_it_is_the_only_one() {
    within_deadline(|| {
        for way in [Way::Exit, Way::Abort, Way::Kill, Way::Close, Way::Garbage] {
            for situation in SITUATIONS {
                let file = NewFile::new();
                let executor = pool_with_initializer(way, &file.path(), true);
                amid(&executor, situation, || executor.submit(process_id, ())).unwrap();
                assert!(!file.exists(), "the initializer has crashed");
            }
        }
    });
}

#[test]
fn an_error_of_the_initializer_is_the_error_of_the_tasks() {
    within_deadline(|| {
        for way in WAYS {
            let file = NewFile::new();
            let executor = pool_with_initializer(way, &file.path(), false);
            let tasks: Vec<_> = (0..10).map(|n| executor.submit(count, n)).collect();
            for task in tasks {
                let error = task.wait().unwrap_err();
                assert_eq!(error.kind(), &way.kind(), "{way:?}: {error:?}");
            }
            file.remove();
            assert_eq!(executor.submit(count, 7).wait().unwrap(), 7, "{way:?}");
        }
    });
}

pub(crate) fn echo_bytes(bytes: Vec<u8>, _: &Updater) -> TaskResult<Vec<u8>> {
    Ok(bytes)
}

pub(crate) fn echo_texts(texts: Vec<String>, _: &Updater) -> TaskResult<Vec<String>> {
    Ok(texts)
}

#[test]
fn values_of_every_size_cross() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(2).unwrap();
        let sizes = [0, 1, 21, 32 * 1024 - 1, 32 * 1024, 65_535, 65_536, 65_537, 1 << 20, 100_000_000];
        let pattern: Vec<u8> = (0..251).collect();
        let bytes = |size: usize| {
            let mut bytes = pattern.repeat(size.div_ceil(pattern.len()));
            bytes.truncate(size);
            bytes
        };
        let tasks: Vec<_> = sizes.iter().map(|&size| (size, executor.submit(echo_bytes, bytes(size)))).collect();
        for (size, task) in tasks {
            assert!(task.wait().unwrap() == bytes(size), "{size} bytes");
        }
        for size in sizes {
            let texts = vec!["x".repeat(size); 2];
            assert!(executor.submit(echo_texts, texts.clone()).wait().unwrap() == texts, "{size} characters");
        }
    });
}

#[test]
fn values_that_are_too_large_are_errors_of_their_task() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::builder().max_workers(1).max_frame_bytes(100_000).build().unwrap();
        let error = executor.submit(echo_bytes, vec![0; 100_000]).wait().unwrap_err();
        assert!(error.is_encode_error(), "{error:?}");
        let error = executor.submit(repeat, 100_000).wait().unwrap_err();
        assert!(error.is_encode_error(), "{error:?}");
        assert_eq!(executor.submit(repeat, 99_000).wait().unwrap().len(), 99_000);
    });
}

/// A value that the program cannot encode or cannot decode; such a failure costs no worker.
#[derive(Debug)]
pub(crate) struct Picky(Way);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !is_worker() && matches!(self.0, Way::Error | Way::Panic) {
            self.0.go().map_err(S::Error::custom)?;
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let way = Way::deserialize(deserializer)?;
        match way {
            Way::Exit if !is_worker() => Err(D::Error::custom("as intended")),
            Way::Abort if !is_worker() => std::panic::resume_unwind(Box::new("as intended".to_string())),
            _ => Ok(Self(way)),
        }
    }
}

pub(crate) fn echo_picky(picky: Picky, _: &Updater) -> TaskResult<Picky> {
    Ok(picky)
}

#[test]
fn what_the_program_can_neither_encode_nor_decode_costs_no_worker() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let worker = executor.submit(process_id, ()).wait().unwrap();
        for way in [Way::Error, Way::Panic] {
            let error = executor.submit(echo_picky, Picky(way)).wait().unwrap_err();
            assert!(error.is_encode_error(), "{error:?}");
        }
        for way in [Way::Exit, Way::Abort] {
            let error = executor.submit(echo_picky, Picky(way)).wait().unwrap_err();
            assert!(error.is_decode_error(), "{error:?}");
        }
        assert!(executor.submit(echo_picky, Picky(Way::Kill)).wait().is_ok());
        assert_eq!(executor.submit(process_id, ()).wait().unwrap(), worker);
    });
}

#[test]
fn the_error_of_a_pool_has_its_causes_on_the_same_line_or_below() {
    let builder = ProcessPoolExecutor::builder().initializer(echo_picky, Picky(Way::Error));
    let error = builder.build().unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(format!("{error:#}"), format!("{error}: {source}"));
    assert_eq!(format!("{error:?}"), format!("{error}\n\nCaused by:\n    {source}"));
    assert!(format!("{error:#?}").starts_with("ProcessPoolError {"));
}

pub(crate) fn talk_much((way, len): (Way, usize), progress: &Updater) -> TaskResult<()> {
    progress.set_message("ß".repeat(len));
    match way {
        Way::Error => Err((0..len).fold("the first".into(), |source: BoxError, _| Box::new(Wrapped(source)))),
        Way::Panic => std::panic::resume_unwind(Box::new("ß".repeat(len))),
        _ => Err("ß".repeat(len).into()),
    }
}

/// An error that has another one as its source, and so on.
#[derive(Debug)]
struct Wrapped(BoxError);

impl std::fmt::Display for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it has failed")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

#[test]
fn texts_that_are_too_long_are_cut() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::builder().max_workers(1).max_frame_bytes(100_000).build().unwrap();
        for (way, len) in [(Way::Error, 500), (Way::Panic, 70_000), (Way::Exit, 70_000)] {
            let error = executor.submit(talk_much, (way, len)).wait().unwrap_err();
            let message = error.progress().message.clone().unwrap();
            assert!(message.starts_with('ß') && message.len() <= 25_000, "{way:?}");
            match way {
                Way::Panic => assert!(error.is_panic() && error.to_string().ends_with('ß')),
                _ => assert!(error.is_failed(), "{error:?}"),
            }
        }
    });
}

/// Where a task sets its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Speaker {
    Task,
    Threads,
}

/// Sets its message to the file that it is at, and ends its worker at the bad one. If `first` is gone, an earlier
/// attempt has removed it: then it ends its worker before it has said anything.
pub(crate) fn open_files(
    (way, bad, speaker, first): (Way, u64, Speaker, PathBuf),
    progress: &Updater,
) -> TaskResult<()> {
    if fs::remove_file(first).is_err() {
        way.go()?;
    }
    let shared = progress.shared();
    for n in 0..1000 {
        let message = format!("file {n}");
        match speaker {
            Speaker::Task => progress.set_message(message),
            Speaker::Threads => thread::scope(|scope| {
                scope.spawn(|| shared.set_message(message));
            }),
        }
        progress.set_counts(n, 1000)?;
        if n == bad {
            way.go()?;
        }
    }
    Ok(())
}

fn open_files_until(bad: u64, way: Way, speaker: Speaker, is_observed: bool) -> TaskError {
    let (executor, first) = (ProcessPoolExecutor::new(1).unwrap(), NewFile::new());
    let task = executor.submit(open_files, (way, bad, speaker, first.path()));
    let updates = is_observed.then(|| task.updates());
    let error = task.wait().unwrap_err();
    if let Some(updates) = updates {
        let last = std::iter::from_fn(|| updates.recv_blocking().ok()).last();
        assert_eq!(last.as_ref(), Some(error.progress()), "what is shown last is what the error says");
    }
    error
}

#[test]
fn the_error_of_a_lost_worker_tells_what_its_task_has_said_last() {
    within_deadline(|| {
        for way in [Way::Exit, Way::Abort, Way::Kill, Way::Close, Way::Garbage] {
            for speaker in [Speaker::Task, Speaker::Threads] {
                for (is_observed, bad) in [(false, 60), (true, 61), (false, 0), (true, 999)] {
                    let error = open_files_until(bad, way, speaker, is_observed);
                    let what = format!("{way:?} {speaker:?} {is_observed}: {error:?}");
                    assert_eq!(error.kind(), &way.kind(), "{what}");
                    let said = error.progress();
                    assert_eq!(said.message.as_deref(), Some(&*format!("file {bad}")), "{what}");
                    assert_eq!((said.n, said.total), (bad, Some(1000)), "{what}");
                }
            }
        }
    });
}

#[test]
fn what_is_recorded_is_of_one_task_and_one_attempt() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let first = NewFile::new();
        let input = || (Way::Kill, 60, Speaker::Task, first.path());
        let error = executor.task(open_files, input()).retries(1).submit().wait().unwrap_err();
        assert_eq!((error.progress().n, error.progress().message.as_deref()), (0, None), "{error:?}");

        // The worker of the next task has heard of many files.
        let first = NewFile::new();
        executor.submit(open_files, (Way::Kill, u64::MAX, Speaker::Task, first.path())).wait().unwrap();
        let error = executor.submit(open_files, (Way::Kill, 60, Speaker::Task, first.path())).wait().unwrap_err();
        assert_eq!((error.progress().n, error.progress().message.as_deref()), (0, None), "{error:?}");
    });
}

pub(crate) fn talk_and_die(len: usize, progress: &Updater) -> TaskResult<()> {
    progress.set_message("ß".repeat(len));
    Ok(Way::Kill.go()?)
}

#[test]
fn the_beginning_of_a_long_message_outlives_its_worker() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(1).unwrap();
        for (len, least) in [(2_000, 2_000), (100_000, 2_048)] {
            let error = executor.submit(talk_and_die, len).wait().unwrap_err();
            let message = error.progress().message.clone().unwrap();
            assert!(message.chars().all(|character| character == 'ß'), "it is cut between characters");
            // The whole message, if it was sent in time.
            assert!((least..=len).contains(&message.chars().count()), "{} bytes", message.len());
        }
    });
}

pub(crate) fn repeat(n: usize, _: &Updater) -> TaskResult<String> {
    Ok("x".repeat(n))
}
