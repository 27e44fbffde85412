//! How a process pool is set up.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::codec::{self, references};
use crate::error::{TaskResult, guard};
use crate::process::error::ProcessPoolError;
#[cfg(unix)]
use crate::process::executor::ProcessPoolExecutor;
use crate::process::launcher::Launcher;
use crate::process::output::WorkerOutput;
use crate::process::settings::{GivenInitializer, Launch, PoolSettings};
#[cfg(not(unix))]
use crate::process::unsupported::ProcessPoolExecutor;
use crate::task::RemoteFn;
use crate::task::subscribers::REPORT_INTERVAL;
use crate::updater::Updater;

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
    settings: PoolSettings,
}

impl ProcessPoolExecutor {
    /// A pool of at most `max_workers` processes; 0 stands for the [available
    /// parallelism](std::thread::available_parallelism).
    ///
    /// Starts no process yet: workers are started when they are needed, and kept.
    ///
    /// # Errors
    ///
    /// Those of [`build`](ProcessPoolBuilder::build), most often that this program has not called
    /// [`TaskRegistry::init`](crate::TaskRegistry::init):
    ///
    /// ```
    /// # use progress_executor::ProcessPoolExecutor;
    /// let error = ProcessPoolExecutor::new(2).unwrap_err();
    /// assert!(error.to_string().contains("TaskRegistry::new().register(your_task).init();"));
    /// ```
    pub fn new(max_workers: usize) -> Result<Self, ProcessPoolError> {
        Self::builder().max_workers(max_workers).build()
    }

    /// A builder for a pool with other settings.
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
        let settings = PoolSettings {
            cancel_grace: Duration::from_secs(5),
            max_tasks_per_worker: u64::MAX,
            idle_timeout: None,
            initializer: None,
            launch: Launch { report_interval: REPORT_INTERVAL, max_frame: 1 << 30, ..Launch::default() },
        };
        ProcessPoolBuilder { settings }
    }
}

impl ProcessPoolBuilder {
    /// The maximum number of processes; 0 stands for the [available parallelism](std::thread::available_parallelism), which
    /// is the default. The processes that have started share the tasks, except those that take less than a microsecond: one
    /// process runs them as fast as the program sends them.
    pub fn max_workers(mut self, max_workers: usize) -> Self {
        self.settings.launch.max_workers = max_workers;
        self
    }

    /// How long a task that was cancelled, or that has exceeded a limit, may take to notice; 5 s by default. After that, its
    /// process is killed.
    ///
    /// It has noticed once a call has returned [`Cancelled`](crate::Cancelled); [`is_cancelled`](crate::Updater::is_cancelled) is not
    /// enough. A task that has noticed may take as long as it needs to clean up.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.settings.cancel_grace = grace;
        self
    }

    /// Replaces a worker by a new one after this many tasks; by default there is no limit. 0 means 1.
    ///
    /// Each input of a [map](crate::ExecutorExt::map) counts as a task. If the map was asked for
    /// [chunks](crate::Map::chunks), each chunk does.
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        self.settings.max_tasks_per_worker = tasks.max(1);
        self
    }

    /// Ends a worker that has had no task for this long. By default workers are kept.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = Some(timeout);
        self
    }

    /// A task that each worker runs before any other. It must be registered as well.
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
        let input = references::aside(|| guard(|| codec::encode(input)));
        self.settings.initializer = Some(GivenInitializer { function: RemoteFn::of::<F>(), input });
        self
    }

    /// Sets a variable in the environment of the workers, replacing what was set for it before. All other variables are those of
    /// this process.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.settings.launch.env.insert(key.into(), value.into());
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
        self.settings.launch.output = output;
        self
    }

    /// Relays what tasks in workers log through the crate `log` to the logger of this program: records up to this level that the
    /// logger accepts. Needs the feature `log`.
    ///
    /// The message says which task logged it, `[walk 04, task 7] ..`, and so do the key-value pairs `task_id` and `task_name`
    /// of the record. The logger is called on a thread of its own; records that arrive faster than it can take them are dropped
    /// and counted. What is logged between tasks and by the initializer is not relayed, nor are the place and the other key-value
    /// pairs of a record.
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
        self.settings.launch.log_level = level as u8;
        self
    }

    /// The current directory of the workers. By default, it is that of this process when the worker is started; a relative path
    /// is resolved against that.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.launch.current_dir = Some(directory.into());
        self
    }

    /// The time between two snapshots of a task that observers see; 20 ms by default. With zero, every change is passed
    /// on at once, at the expense of the task; who looks less often still sees only the newest.
    pub fn report_interval(mut self, interval: Duration) -> Self {
        self.settings.launch.report_interval = interval;
        self
    }

    /// The maximum size of an encoded input or output, with what is sent along with it, such as a name or the last message;
    /// 1 GiB by default, and at least 64 KiB. A larger one is an [error](crate::TaskErrorKind::Encode) of its task.
    ///
    /// Memory is allocated only as the bytes arrive, whatever this is set to.
    pub fn max_frame_bytes(mut self, bytes: u64) -> Self {
        /// Room for the smallest value with a long message.
        const LEAST: u64 = 64 * 1024;
        self.settings.launch.max_frame = bytes.max(LEAST);
        self
    }

    /// Starts the workers through a command such as `srun` or `ssh`, on this machine or on others. Without a launcher, this
    /// process starts them itself.
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
        // Without a command, as from an empty variable, its other settings say nothing.
        self.settings.launch.launcher = if launcher.is_local() { Launcher::local() } else { launcher };
        self
    }

    /// Shares only the channel with the workers, as on systems without shared memory.
    #[doc(hidden)]
    pub fn without_shared_memory(mut self) -> Self {
        self.settings.launch.without_memory = true;
        self
    }

    /// Makes the pool. Starts no process yet.
    ///
    /// # Errors
    ///
    /// Fails if this program has not called [`TaskRegistry::init`](crate::TaskRegistry::init), or has registered functions that
    /// contradict each other; if the [launcher](Self::launcher) has an unknown placeholder, or an address that is invalid or that
    /// it has no use for; if a [variable](Self::env) or a [directory](Self::current_dir) has a name that no process can have; if
    /// the initializer is not registered, or its input cannot be encoded or is larger than
    /// [`max_frame_bytes`](Self::max_frame_bytes); or if pools are nested too deeply. Always fails on systems other than Unix,
    /// which have no worker processes.
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
        ProcessPoolExecutor::set_up(self.settings)
    }
}

impl fmt::Debug for ProcessPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPoolBuilder")
            .field("max_workers", &self.settings.launch.max_workers)
            .field("cancel_grace", &self.settings.cancel_grace)
            .field("max_tasks_per_worker", &self.settings.max_tasks_per_worker)
            .field("idle_timeout", &self.settings.idle_timeout)
            .field("launch", &self.settings.launch)
            .finish_non_exhaustive()
    }
}
