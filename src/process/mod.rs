//! Worker processes.
//!
//! ```text
//!            the program                    │ a socket pair, the    │               a worker
//!                                           │ worker's stdin        │
//!  submit ──► desk ──► outbox ──────────────┼──► Run, Want, .. ─────┼──► watcher ──► inbox ──► main: Updater ─► task
//!               ▲                           │                       │     or main                │
//!  future ◄── supervisor ◄── decoder ◄──────┼──── Started, ..  ◄────┼──── outbox ◄───────────────┴─ what it shows
//! ```
//!
//! - [`mod@wire`]: frames and messages. `line`: how they are sent and received. `journal`: what outlives a worker.
//! - `desk`: who does what. `supervisor`: one thread for each worker. `launch`: its start and its end.
//! - `worker`: the other end; `forward`: what it tells of a task; `alarm`: when its watcher wakes; `role`: that it is one. `registry`: what it can run. `image`: what program that is.
//!
//! # The protocol
//!
//! The program speaks first ([`Hello`](wire::Hello)); the worker says who it is ([`Ready`](wire::Ready)). Then tasks are
//! sent, one or many at a time. The worker runs them in that order and says when each has
//! [started](wire::Reply::Started), before it does, and how it has [ended](wire::Reply::Ended). What it has started when
//! its channel closes is lost; what it has not, moves on.
//!
//! A task that was sent is *lent*: only the worker knows whether it is about to start. So what is
//! [wanted](wire::Request::Want) of it is sent there. If it has not started, it is [returned](wire::Reply::Returned), and
//! then nobody runs it who was not meant to. If it has, the worker has [heard](wire::Reply::Heard) of it, and starts no
//! other task before it is told to [proceed](wire::Request::Proceed). So the program may kill the worker, after the grace
//! and after it has asked once more, and can only hit the task that it means to.
//!
//! Each side always reads, whatever else it does, so neither can wait for the other to read.
//!
//! Deliberately absent: heartbeats (a closed channel is the sign of death in both directions), acknowledgements (the
//! channel is reliable), shared memory (it gains nothing without spinning), and limits in the worker: the program sees to
//! them, as it does for any task. The worker is told of a time-out only for its task to know, and is asked for the next
//! progress call, where somebody wants to know of that, with one more bit of what is wanted.

mod alarm;
mod desk;
mod error;
mod forward;
mod image;
#[cfg(target_os = "linux")]
mod journal;
#[cfg(not(target_os = "linux"))]
#[path = "no_journal.rs"]
mod journal;
mod launch;
mod line;
mod registry;
mod role;
mod supervisor;
mod wire;
mod worker;

use std::any::{TypeId, type_name};
use std::ffi::OsString;
use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use event_listener::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::error::ProcessPoolError;
#[doc(hidden)]
pub use self::image::TestWorker;
pub use self::registry::TaskRegistry;

use self::desk::{Desk, Entry};
use self::error::RemoteError;
use self::launch::{Initializer, Launch, Program};
use self::supervisor::Pool;
use crate::executor::short_name;
use crate::parcel::{self, Parcel};
use crate::shutdown::Shutdown;
use crate::task::{self, Portable};
use crate::{BoxError, CancelCause, Executor, Job, TaskErrorKind, TaskResult, Updater, report};

/// How many pools may be inside of one another: a task of a pool that uses a pool, whose tasks use a pool, and so on.
const MAX_DEPTH: u32 = 8;

/// Runs tasks in worker processes.
///
/// A task has a process of its own for as long as it runs, and the same progress and cancellation as on a thread. A
/// worker that crashes, exits or is killed costs the one task that it was running, and is replaced. A task that does not
/// listen when it is cancelled can be ended all the same.
///
/// A worker is this same program, started again with `--progress-executor-task=<id>`. So `main` begins with a
/// [`TaskRegistry`], which says what workers can run; its [`init`](TaskRegistry::init) never returns in a worker.
///
/// ```standalone_crate
/// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
///
/// fn collatz(n: u64, progress: &Updater) -> TaskResult<u64> {
///     let mut longest = 0;
///     for start in progress.iter(1..=n) {
///         let mut x: u64 = start?; // `?` ends the task here when it was cancelled
///         let mut steps = 0;
///         while x != 1 {
///             x = if x % 2 == 0 { x / 2 } else { 3 * x + 1 };
///             steps += 1;
///         }
///         longest = longest.max(steps);
///     }
///     Ok(longest)
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     TaskRegistry::new().register(collatz).init();
///     let executor = ProcessPoolExecutor::new(2)?;
///     smol::block_on(async {
///         let task = executor
///             .submit(collatz, 10_000)
///             .on_progress(|old, new| println!("{} -> {} of {:?}", old.n, new.n, new.total));
///         assert_eq!(task.await?, 261);
///         Ok(())
///     })
/// }
/// ```
///
/// | | new tasks | tasks that wait | tasks that run | idle workers |
/// |---|---|---|---|---|
/// | drop the executor | – | are run | run on | end |
/// | [`shutdown`](Self::shutdown) | rejected | are run | run on | end |
/// | [`shutdown_now`](Self::shutdown_now) | rejected | cancelled | asked to end, or else killed | end |
/// | the program ends, or is killed | – | | have a moment to end | end |
///
/// Available on Unix.
///
/// # Inputs and outputs
///
/// They cross as [MessagePack](https://msgpack.org) with the names of fields, which takes every attribute of serde.
/// `Vec<u8>`, `String` and vectors of plain numbers cross as they are, at the speed of a copy, where they are the whole
/// input or output. The input is encoded by [`submit`](crate::ExecutorExt::submit), on the thread that calls it.
///
/// As in JSON, `None`, `Some(None)` and `Some(())` are the same, and come out as `None`. Values may be nested 100 deep.
/// Integers of 128 bits do not go with `flatten` and untagged or internally tagged enums, which is a limit of serde.
///
/// Errors of tasks keep their message, and those of their [sources](std::error::Error::source), as text; so
/// [`downcast_ref`](crate::TaskError::downcast_ref) finds nothing.
///
/// # Cancellation
///
/// [`cancel`](crate::ProgressFuture::cancel) is a request, as on threads: the next progress call of the task returns
/// [`Cancelled`](crate::Cancelled). If there is none for the time of the [grace](ProcessPoolBuilder::cancel_grace), the
/// worker is killed, with all processes that its task has started, and the task has ended as cancelled. A task that has
/// noticed may take its time to clean up. Only the task that is meant is ever hit. The same befalls a worker whose task
/// has come to a [limit](crate::TaskBuilder::timeout), though the future of that has resolved by then.
///
/// Where tasks take microseconds, the next ones wait inside of their worker. They are still pending: cancelled, they do
/// not run; and they move on when their worker is lost, or is busy while another is idle.
///
/// # What a worker is like
///
/// - *Standard output and standard error* are those of the program, so that `println!` in a task, and what a panic
///   says, appear where they would on a thread. *Standard input* is empty.
/// - *Logging* is to be set up in each process: before `init`, for workers to log as well. What `main` does before it
///   calls `init` happens in each of them, and takes time at each start.
/// - *Environment* and *current directory* are those of the program when the worker is started, unless
///   [set](ProcessPoolBuilder::env). Statics have the values that `main` had given them before `init`; nothing else is
///   shared, and what a task leaves in a static is there for the next one in the same worker.
/// - *Signals*: a worker leads a process group of its own, so Ctrl-C in a terminal reaches the program, and not its
///   workers. The program decides, with [`cancel`](crate::ProgressFuture::cancel) or
///   [`shutdown_now`](Self::shutdown_now); or it ends, and its workers with it, within a quarter of a second.
/// - *Descriptors*: the channel is not passed on to processes that tasks start.
/// - *Pools inside of pools*: a task may use a `ProcessPoolExecutor` of its own. Eight of them may be inside of one
///   another, which is a sign that a task submits itself.
///
/// # Tests
///
/// Tests have no `main` of their own. [`test_worker!`](crate::test_worker), once in each test program, is all that they
/// need. Or they use a [`SyncExecutor`](crate::SyncExecutor), for the tasks are the same.
///
/// # Debugging
///
/// - *A task in a debugger*: submit it to a [`SyncExecutor`](crate::SyncExecutor) or a
///   [`ThreadPoolExecutor`](crate::ThreadPoolExecutor). Code that takes a `&dyn Executor` needs no other change.
/// - *A worker in a debugger*: let the task say which process it is in, `progress.set_message(format!("process {}",
///   std::process::id()))`, and attach the debugger to that. A worker that stands still in a debugger is not killed,
///   unless its task is cancelled or has a limit.
/// - *A worker by hand*: `program --progress-executor-task=x` says which tasks are registered. It cannot do more, for
///   nobody is at the other end of its standard input.
/// - *A lost worker*: the [error](crate::TaskErrorKind::WorkerLost) has its exit code or signal, and how far the task
///   had come. What the worker itself had to say is on standard error. A task that can be done twice can have
///   [retries](crate::TaskBuilder::retries).
pub struct ProcessPoolExecutor {
    pool: Arc<Pool>,
    max_workers: usize,
}

/// Settings of a [`ProcessPoolExecutor`]; made by [`ProcessPoolExecutor::builder`].
#[must_use = "a builder does nothing before `build` is called"]
pub struct ProcessPoolBuilder {
    max_workers: usize,
    cancel_grace: Duration,
    max_tasks_per_worker: u64,
    idle_timeout: Option<Duration>,
    initializer: Option<Setup>,
    launch: Launch,
}

/// An initializer as it was given.
struct Setup {
    function: Portable,
    input: Result<Parcel, BoxError>,
}

impl ProcessPoolExecutor {
    /// A pool of at most `max_workers` processes; 0 stands for the [available
    /// parallelism](std::thread::available_parallelism).
    ///
    /// Starts no process yet: they are started as they are needed, and kept.
    ///
    /// # Errors
    ///
    /// As [`build`](ProcessPoolBuilder::build), mostly that this program has not called [`TaskRegistry::init`]:
    ///
    /// ```
    /// # use progress_executor::ProcessPoolExecutor;
    /// let error = ProcessPoolExecutor::new(2).unwrap_err();
    /// assert!(error.to_string().contains("TaskRegistry::new().register(your_task).init();"));
    /// ```
    pub fn new(max_workers: usize) -> Result<Self, ProcessPoolError> {
        Self::builder().max_workers(max_workers).build()
    }

    /// A pool with other settings.
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
    /// use std::sync::OnceLock;
    /// use std::time::Duration;
    ///
    /// static MODEL: OnceLock<String> = OnceLock::new();
    ///
    /// fn load_model(name: String, _: &Updater) -> TaskResult<()> {
    ///     MODEL.set(name).map_err(|name| format!("there is another model than {name}").into())
    /// }
    /// fn apply(n: u64, _: &Updater) -> TaskResult<String> {
    ///     Ok(format!("{} of {n}", MODEL.get().ok_or("there is no model")?))
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     TaskRegistry::new().register(load_model).register(apply).init();
    ///     let executor = ProcessPoolExecutor::builder()
    ///         .max_workers(2)
    ///         .initializer(load_model, "square".to_string())
    ///         .cancel_grace(Duration::from_secs(1))
    ///         .max_tasks_per_worker(1000)
    ///         .idle_timeout(Duration::from_secs(60))
    ///         .env("RUST_LOG", "debug")
    ///         .build()?;
    ///     assert_eq!(executor.submit(apply, 7).wait()?, "square of 7");
    ///     Ok(())
    /// }
    /// ```
    pub fn builder() -> ProcessPoolBuilder {
        ProcessPoolBuilder {
            max_workers: 0,
            cancel_grace: Duration::from_secs(5),
            max_tasks_per_worker: u64::MAX,
            idle_timeout: None,
            initializer: None,
            launch: Launch { report_interval: report::INTERVAL, max_frame: 1 << 30, ..Launch::default() },
        }
    }

    /// Refuses new tasks from now on, and resolves when the accepted ones, and all workers, have ended.
    ///
    /// Tasks that are paused have not ended.
    pub fn shutdown(&self) -> Shutdown {
        self.pool.close();
        Shutdown::new(self.pool.clone())
    }

    /// Refuses new tasks from now on, cancels the accepted ones, and resolves when they, and all workers, have ended.
    ///
    /// That takes no longer than the [grace](ProcessPoolBuilder::cancel_grace), unless a task has noticed and takes
    /// longer to clean up.
    pub fn shutdown_now(&self) -> Shutdown {
        self.pool.close();
        let unended = self.pool.lock().unended();
        for task in unended {
            task::cancel(&task, CancelCause::Shutdown);
        }
        Shutdown::new(self.pool.clone())
    }

    /// The task's function and its input, for another process.
    fn entry(&self, job: Job) -> Result<Entry, (Job, TaskErrorKind, BoxError)> {
        let body = job.task().body();
        let function = match body.portable().ok_or_else(not_portable).and_then(function_id) {
            Ok(function) => function,
            Err(error) => return Err((job, TaskErrorKind::NotRegistered, error.into())),
        };
        let parcel = body.pack().and_then(|parcel| self.check_size(function, parcel));
        match parcel {
            Ok(Parcel { format, bytes }) => Ok(Entry::new(job, function, format, bytes)),
            Err(error) => {
                let error = RemoteError::new("its input could not be encoded", &*error);
                Err((job, TaskErrorKind::Encode, error.into()))
            }
        }
    }

    fn check_size(&self, function: &str, parcel: Parcel) -> Result<Parcel, BoxError> {
        let (len, max) = (parcel.bytes.len() as u64 + wire::run_overhead(function), self.pool.launch.max_frame);
        if len <= max { Ok(parcel) } else { Err(wire::WireError::TooLarge { len, max }.into()) }
    }
}

impl Executor for ProcessPoolExecutor {
    fn execute(&self, job: Job) {
        match self.entry(job) {
            Ok(entry) => {
                // It hears of whatever is requested of the task from now on.
                task::attach(entry.job.task(), self.pool.clone(), |_| true);
                self.pool.submit(entry);
            }
            Err((job, kind, error)) => task::reject(job.task(), kind, error),
        }
    }

    fn max_workers(&self) -> usize {
        self.max_workers
    }
}

impl Drop for ProcessPoolExecutor {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl fmt::Debug for ProcessPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let desk = self.pool.lock();
        let (workers, queued) = desk.counts();
        f.debug_struct("ProcessPoolExecutor")
            .field("max_workers", &self.max_workers)
            .field("workers", &workers)
            .field("queued", &queued)
            .field("is_shut_down", &desk.is_closed())
            .finish()
    }
}

fn not_portable() -> String {
    "it was submitted in a way that keeps it in this process".into()
}

/// What the workers know the function as.
fn function_id(function: Portable) -> Result<&'static str, String> {
    let Portable { type_id, path, captures } = function;
    if captures {
        let name = short_name(path);
        return Err(format!(
            "`{name}` captures something, which cannot be sent: pass it as the input of a plain function"
        ));
    }
    let Some(registry) = TaskRegistry::of_this_process() else {
        // A test program: its worker knows, or says that it does not.
        return Ok(path);
    };
    registry.id(type_id).ok_or_else(|| {
        let name = short_name(path);
        format!("workers do not know `{path}`: add `.register({name})` where `TaskRegistry::init` is called")
    })
}

impl ProcessPoolBuilder {
    /// At most so many processes; 0 stands for the [available parallelism](std::thread::available_parallelism), which
    /// is the default.
    pub fn max_workers(mut self, max_workers: usize) -> Self {
        self.max_workers = max_workers;
        self
    }

    /// How long a task that was cancelled, or that has come to a limit, may take to notice that; 5 s by default. Then its
    /// process is killed.
    ///
    /// A task that has noticed may take as long as it needs to clean up.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = grace;
        self
    }

    /// Replaces a worker by a new one after so many tasks; without a limit by default. 0 means 1.
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        self.max_tasks_per_worker = tasks.max(1);
        self
    }

    /// Ends a worker that has had no task for so long. By default workers are kept.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// A task that each worker runs before any other. It has to be registered as well.
    ///
    /// If it fails, so do the tasks that needed the worker: in the same way, with its error as their
    /// [source](std::error::Error::source).
    pub fn initializer<F, I, O>(mut self, task: F, input: I) -> Self
    where
        F: Fn(I, &Updater) -> TaskResult<O> + Send + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        let function =
            Portable { type_id: TypeId::of::<F>(), path: type_name::<F>(), captures: size_of_val(&task) > 0 };
        self.initializer = Some(Setup { function, input: parcel::pack(input) });
        self
    }

    /// Sets a variable in the environment of the workers; the others are those of this process.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.launch.env.push((key.into(), value.into()));
        self
    }

    /// The current directory of the workers; by default it is that of this process when the worker is started.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.launch.current_dir = Some(directory.into());
        self
    }

    /// The time between two snapshots of a task that observers are shown; 20 ms by default. Zero shows every change, at
    /// the cost of the task.
    pub fn report_interval(mut self, interval: Duration) -> Self {
        self.launch.report_interval = interval;
        self
    }

    /// The most that an input or an output may take, encoded; 1 GiB by default. Larger ones are an
    /// [error](TaskErrorKind::Encode) of their task.
    ///
    /// Memory is taken as the bytes arrive, whatever this is set to.
    pub fn max_frame_bytes(mut self, bytes: u64) -> Self {
        /// What the smallest value, with a long message, takes.
        const LEAST: u64 = 64 * 1024;
        self.launch.max_frame = bytes.max(LEAST);
        self
    }

    /// Makes the pool. Starts no process yet.
    ///
    /// # Errors
    ///
    /// If this program has not called [`TaskRegistry::init`], or has registered functions that contradict each other; if
    /// the initializer is not registered, or its input cannot be encoded; or if too many pools are inside of one
    /// another.
    pub fn build(self) -> Result<ProcessPoolExecutor, ProcessPoolError> {
        let mut launch = Launch { program: program()?, ..self.launch };
        if role::depth() >= MAX_DEPTH {
            return Err(ProcessPoolError::new(format!(
                "{MAX_DEPTH} process pools are inside of one another, which is the most that is allowed: a task seems to \
                 submit itself"
            )));
        }
        if let Some(Setup { function, input }) = self.initializer {
            let function =
                function_id(function).map_err(|error| ProcessPoolError::new(format!("initializer: {error}")))?;
            let input = input.map_err(|error| {
                ProcessPoolError::new("the input of the initializer could not be encoded").with_source(error)
            })?;
            launch.initializer = Some(Initializer { function, input });
        }
        let max_workers = match self.max_workers {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        let pool = Pool {
            launch,
            cancel_grace: self.cancel_grace,
            idle_timeout: self.idle_timeout,
            desk: Mutex::new(Desk::new(max_workers, self.cancel_grace, self.max_tasks_per_worker)),
            changed: Condvar::new(),
            progress: Event::new(),
        };
        Ok(ProcessPoolExecutor { pool: Arc::new(pool), max_workers })
    }
}

impl fmt::Debug for ProcessPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPoolBuilder")
            .field("max_workers", &self.max_workers)
            .field("cancel_grace", &self.cancel_grace)
            .field("max_tasks_per_worker", &self.max_tasks_per_worker)
            .field("idle_timeout", &self.idle_timeout)
            .field("launch", &self.launch)
            .finish_non_exhaustive()
    }
}

/// What a worker has to be started as.
fn program() -> Result<Program, ProcessPoolError> {
    if let Some(defect) = TaskRegistry::defect() {
        return Err(ProcessPoolError::new(defect));
    }
    let role = role::Role::of_this_process();
    let is_test = role.as_ref().is_some_and(|role| role.is_test);
    if TaskRegistry::of_this_process().is_some() && !is_test {
        return Ok(Program::Main);
    }
    match image::test_workers() {
        // A worker that has not become one would start another, and so on.
        [test] if role.is_none() || TaskRegistry::of_this_process().is_some() => Ok(Program::Test(test.clone())),
        [_, _, ..] => Err(ProcessPoolError::new(format!(
            "a test program can have one `test_worker!`, with all functions; this has several: {}",
            image::test_workers().join(", ")
        ))),
        _ => Err(ProcessPoolError::new(
            "worker processes run this same program again, and it has not said what they can run. Call this first thing \
             in `main`:\n\n    use progress_executor::TaskRegistry;\n    TaskRegistry::new().register(your_task).init();\n\n\
             or write this in a test crate: `progress_executor::test_worker!(your_task);`",
        )),
    }
}

/// Makes a test program able to start worker processes, which know these functions.
///
/// Once in each test program (in `lib.rs` or `main.rs` for unit tests, in each file of `tests` that has a
/// [`ProcessPoolExecutor`]), with all functions that its tests submit:
///
/// ```no_run
/// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskResult, Updater};
///
/// fn double(n: u64, _: &Updater) -> TaskResult<u64> {
///     Ok(2 * n)
/// }
///
/// progress_executor::test_worker!(double);
///
/// #[test]
/// fn doubles() {
///     let executor = ProcessPoolExecutor::new(1).unwrap();
///     assert_eq!(executor.submit(double, 21).wait().unwrap(), 42);
/// }
/// # fn main() {}
/// ```
///
/// It makes a test, `progress_executor_test_worker`, which does nothing, and is what the workers run. This works with
/// `cargo test` and with `cargo nextest`, whichever tests are run. Standard output of the workers goes to standard
/// error, for a test program has things of its own to say on the other.
#[macro_export]
macro_rules! test_worker {
    ($($task:expr),* $(,)?) => {
        #[test]
        fn progress_executor_test_worker() {
            static WORKER: $crate::__private::TestWorker = $crate::__private::TestWorker::new(::core::module_path!());
            $crate::TaskRegistry::new()$(.register($task))*.init_test_worker(&WORKER);
        }
    };
}
