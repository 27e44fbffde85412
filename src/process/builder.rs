//! How a process pool is set up.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, Encoded};
use crate::error::{BoxError, TaskResult};
use crate::process::error::ProcessPoolError;
use crate::process::executor::{ProcessPoolExecutor, check_size, function_id};
use crate::process::launcher::Launcher;
use crate::process::output::WorkerOutput;
use crate::process::pool::launch::{Initializer, Launch, Program};
use crate::process::pool::shared::Pool;
use crate::process::pool::slot::Settings;
use crate::process::pool::terms::START;
use crate::process::program;
use crate::process::registry::TaskRegistry;
use crate::process::worker_args;
use crate::task::RemoteFn;
use crate::task::subscribers::REPORT_INTERVAL;
use crate::updater::Updater;

/// How many pools may be inside of one another: a task of a pool that uses a pool, whose tasks use a pool, and so on.
const MAX_DEPTH: u32 = 8;
/// How long a worker on this machine may take to begin with a task.
const SILENCE: Duration = Duration::from_secs(1);

/// Settings of a [`ProcessPoolExecutor`]; made by [`ProcessPoolExecutor::builder`].
///
/// # Examples
///
/// ```standalone_crate
/// use std::time::Duration;
/// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
///
/// fn language((): (), _: &Updater) -> TaskResult<String> {
///     Ok(std::env::var("LANG")?)
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     TaskRegistry::new().register(language).init();
///     let builder = ProcessPoolExecutor::builder().max_workers(1).env("LANG", "C");
///     let executor = builder.cancel_grace(Duration::from_secs(1)).build()?;
///     assert_eq!(executor.submit(language, ()).wait()?, "C");
///     Ok(())
/// }
/// ```
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
    function: RemoteFn,
    input: Result<Encoded, BoxError>,
}

impl Setup {
    fn check(self, max_frame: u64) -> Result<Initializer, ProcessPoolError> {
        let function =
            function_id(self.function).map_err(|error| ProcessPoolError::new(format!("initializer: {error}")))?;
        let input = self.input.and_then(|input| {
            check_size((function, None), &input, max_frame)?;
            Ok(input)
        });
        let input = input.map_err(|error| {
            ProcessPoolError::new("the input of the initializer could not be encoded").with_source(error)
        })?;
        Ok(Initializer { function, input })
    }
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
            launch: Launch { report_interval: REPORT_INTERVAL, max_frame: 1 << 30, ..Launch::default() },
        }
    }
}

impl ProcessPoolBuilder {
    /// The maximum number of processes; 0 stands for the [available parallelism](std::thread::available_parallelism), which
    /// is the default.
    pub fn max_workers(mut self, max_workers: usize) -> Self {
        self.max_workers = max_workers;
        self
    }

    /// How long a task that was cancelled, or that has exceeded a limit, may take to notice; 5 s by default. After that, its
    /// process is killed.
    ///
    /// A task that has noticed may take as long as it needs to clean up.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = grace;
        self
    }

    /// Replaces a worker by a new one after this many tasks; by default there is no limit. 0 means 1.
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        self.max_tasks_per_worker = tasks.max(1);
        self
    }

    /// Ends a worker that has had no task for this long. By default workers are kept.
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
        // The worker calls the function that it has registered.
        drop(task);
        self.initializer = Some(Setup { function: RemoteFn::of::<F>(), input: codec::encode(input) });
        self
    }

    /// Sets a variable in the environment of the workers; the others are those of this process.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.launch.env.push((key.into(), value.into()));
        self
    }

    /// Where the standard output and error of the workers go; by default they appear where those of this process do.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use progress_executor::{ProcessPoolExecutor, WorkerOutput};
    ///
    /// let output = WorkerOutput::lines(|line| println!("{} of {:?}: {line}", line.worker, line.name));
    /// let executor = ProcessPoolExecutor::builder().output(output).build()?;
    /// # Ok::<(), progress_executor::ProcessPoolError>(())
    /// ```
    pub fn output(mut self, output: WorkerOutput) -> Self {
        self.launch.output = output;
        self
    }

    /// Relays what tasks log in workers, through the crate `log`, to the logger of this program: records up to this level
    /// that the logger lets through. With the feature `log`.
    ///
    /// The message says which task logged it, `[walk 04, task 7] ..`, and so do the key-value pairs `task_id` and `task_name`
    /// of the record. The logger is called on a thread of its own; records that come faster than it can take them are dropped
    /// and counted. What is logged between tasks and by the initializer is not relayed.
    ///
    /// A worker logs to this relay only if the program has set no other logger before
    /// [`TaskRegistry::init`](crate::TaskRegistry::init), so set the program's logger after it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use progress_executor::ProcessPoolExecutor;
    ///
    /// let builder = ProcessPoolExecutor::builder().relay_logs(log::LevelFilter::Info);
    /// let executor = builder.build()?; // `log::info!` of a task reaches the logger of this program
    /// # Ok::<(), progress_executor::ProcessPoolError>(())
    /// ```
    #[cfg(feature = "log")]
    pub fn relay_logs(mut self, level: log::LevelFilter) -> Self {
        self.launch.log_level = level as u8;
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

    /// The maximum size of an encoded input or output; 1 GiB by default. A larger one is an
    /// [error](crate::TaskErrorKind::Encode) of its task.
    ///
    /// Memory is taken as the bytes arrive, whatever this is set to.
    pub fn max_frame_bytes(mut self, bytes: u64) -> Self {
        /// What the smallest value, with a long message, takes.
        const LEAST: u64 = 64 * 1024;
        self.launch.max_frame = bytes.max(LEAST);
        self
    }

    /// Starts the workers through a command such as `srun` or `ssh`, on this machine or on others. Without one they are
    /// processes that this one starts.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{Launcher, ProcessPoolExecutor};
    ///
    /// let slurm = Launcher::command(["srun", "--exact", "-n1", "-Q"]);
    /// let builder = ProcessPoolExecutor::builder().max_workers(64).launcher(slurm);
    /// # let _ = builder;
    /// ```
    pub fn launcher(mut self, launcher: Launcher) -> Self {
        self.launch.launcher = launcher;
        self
    }

    /// Shares nothing with the workers but the channel, as where there is no memory that could be shared.
    #[doc(hidden)]
    pub fn without_shared_memory(mut self) -> Self {
        self.launch.without_memory = true;
        self
    }

    /// Makes the pool. Starts no process yet.
    ///
    /// # Errors
    ///
    /// If this program has not called [`TaskRegistry::init`], or has registered functions that contradict each other;
    /// if the [launcher](Self::launcher) has an unknown placeholder; if the initializer is not registered, or its input
    /// cannot be encoded or is larger than [`max_frame_bytes`](Self::max_frame_bytes); or if pools are nested too
    /// deeply.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::ProcessPoolExecutor;
    ///
    /// let builder = ProcessPoolExecutor::builder().max_workers(2);
    /// let error = builder.build().unwrap_err(); // this program has no `TaskRegistry`
    /// assert!(error.to_string().contains("TaskRegistry::new()"));
    /// ```
    pub fn build(self) -> Result<ProcessPoolExecutor, ProcessPoolError> {
        let mut launch = Launch { program: program()?, ..self.launch };
        if worker_args::depth() >= MAX_DEPTH {
            return Err(ProcessPoolError::new(format!(
                "{MAX_DEPTH} process pools are inside of one another, which is the most that is allowed: a task seems to \
                 submit itself"
            )));
        }
        if let Some(defect) = launch.launcher.defect() {
            return Err(ProcessPoolError::new(defect));
        }
        if let Some(setup) = self.initializer {
            launch.initializer = Some(setup.check(launch.max_frame)?);
        }
        let max_workers = match self.max_workers {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        let settings = Settings {
            max_workers,
            max_tasks: self.max_tasks_per_worker,
            cancel_grace: self.cancel_grace,
            idle_timeout: self.idle_timeout,
            start_timeout: if launch.launcher.is_local() { Some(START) } else { launch.launcher.start_limit() },
            silence: launch.launcher.heartbeat_interval().map_or(SILENCE, |interval| 3 * interval),
            hosts: launch.launcher.host_count(),
            #[cfg(feature = "cluster")]
            starts_all: launch.launcher.is_bulk(),
            #[cfg(not(feature = "cluster"))]
            starts_all: false,
        };
        launch.max_workers = max_workers;
        Ok(ProcessPoolExecutor::of(Pool::new(launch, settings)))
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
    let role = worker_args::Role::of_this_process();
    let is_test = role.as_ref().is_some_and(|role| role.is_test);
    if TaskRegistry::of_this_process().is_some() && !is_test {
        return Ok(Program::Main);
    }
    match program::test_workers() {
        // A worker that has not become one would start another, and so on.
        [test] if role.is_none() || TaskRegistry::of_this_process().is_some() => Ok(Program::Test(test.clone())),
        [_, _, ..] => Err(ProcessPoolError::new(format!(
            "a test program can have one `test_worker!`, with all functions; this has several: {}",
            program::test_workers().join(", ")
        ))),
        _ => Err(ProcessPoolError::new(
            "worker processes run this same program again, and it has not said what they can run. Call this first thing \
             in `main`:\n\n    use progress_executor::TaskRegistry;\n    TaskRegistry::new().register(your_task).init();\n\n\
             or write this in a test crate: `progress_executor::test_worker!(your_task);`",
        )),
    }
}
