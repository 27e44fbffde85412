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
//! - [`mod@wire`]: frames and messages. `line`: how they are sent and received.
//! - `desk`: who does what. `supervisor`: one thread for each worker. `launch`: its start and its end.
//! - `worker`: the other end. `registry`: what it can run. `image`: what program that is.
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
//! channel is reliable), shared memory (it gains nothing without spinning), and a limit of time for tasks.

mod desk;
mod error;
mod image;
mod launch;
mod line;
mod registry;
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
/// A task gets a process of its own for as long as it runs, and the same progress and cancellation as on a thread. A
/// worker that crashes, exits or is killed costs the one task that it was running, and is replaced. A task that does not
/// listen when it is cancelled can be ended all the same.
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
    /// # Errors
    ///
    /// If this program has not called [`TaskRegistry::init`].
    pub fn new(max_workers: usize) -> Result<Self, ProcessPoolError> {
        Self::builder().max_workers(max_workers).build()
    }

    /// A pool with other settings.
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
    pub fn shutdown(&self) -> Shutdown {
        self.pool.close();
        Shutdown::new(self.pool.clone())
    }

    /// Refuses new tasks from now on, cancels the accepted ones, and resolves when they, and all workers, have ended.
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

    /// How long a task that was cancelled may take to notice that; 5 s by default. Then its process is killed.
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
        if worker::depth() >= MAX_DEPTH {
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
    let role = worker::Role::of_this_process();
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
