//! The process pool where there are no worker processes: its types, so that code which mentions them compiles anywhere,
//! and an error instead of a pool.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TaskResult;
use crate::executor::Executor;
use crate::executor::job::Job;
use crate::executor::shutdown::Shutdown;
use crate::process::error::ProcessPoolError;
use crate::process::launcher::Launcher;
use crate::process::output::WorkerOutput;
use crate::process::workers::WorkersStatus;
use crate::updater::Updater;

/// Runs tasks in worker processes, on Unix; on this system nobody can have one.
#[derive(Debug)]
pub struct ProcessPoolExecutor {
    never: Infallible,
}

impl ProcessPoolExecutor {
    /// A pool of `max_workers` processes, on Unix.
    ///
    /// # Errors
    ///
    /// Always, on this system.
    pub fn new(max_workers: usize) -> Result<Self, ProcessPoolError> {
        Self::builder().max_workers(max_workers).build()
    }

    /// Sets up a pool, on Unix.
    pub fn builder() -> ProcessPoolBuilder {
        ProcessPoolBuilder { _private: () }
    }

    /// Refuses new tasks from now on, and resolves when the accepted ones have ended.
    pub fn shutdown(&self) -> Shutdown {
        match self.never {}
    }

    /// Refuses new tasks from now on, cancels the accepted ones, and resolves when they have ended.
    pub fn shutdown_now(&self) -> Shutdown {
        match self.never {}
    }

    /// Stops all workers until [`resume`](Self::resume), on Unix.
    pub fn suspend(&self) {
        match self.never {}
    }

    /// How many workers there are, on Unix.
    pub fn workers(&self) -> WorkersStatus {
        match self.never {}
    }

    /// Starts workers ahead of need, on Unix.
    pub fn prestart(&self, _workers: usize) {
        match self.never {}
    }

    /// Lets the workers go on, on Unix.
    pub fn resume(&self) {
        match self.never {}
    }
}

impl Executor for ProcessPoolExecutor {
    fn execute(&self, _job: Job) {
        match self.never {}
    }

    fn max_workers(&self) -> usize {
        match self.never {}
    }
}

/// Sets up a [`ProcessPoolExecutor`], on Unix. On this system [`build`](Self::build) says that there is none.
#[derive(Debug)]
#[must_use = "a builder does nothing before `build` is called"]
pub struct ProcessPoolBuilder {
    _private: (),
}

impl ProcessPoolBuilder {
    /// Passes on what the workers log.
    #[cfg(feature = "log")]
    pub fn relay_logs(self, _level: log::LevelFilter) -> Self {
        self
    }

    /// What becomes of what the workers write.
    pub fn output(self, _output: WorkerOutput) -> Self {
        self
    }

    /// The maximum number of processes.
    pub fn max_workers(self, _max_workers: usize) -> Self {
        self
    }

    /// How long a task that was cancelled may take to notice that.
    pub fn cancel_grace(self, _grace: Duration) -> Self {
        self
    }

    /// Replaces a worker by a new one after this many tasks.
    pub fn max_tasks_per_worker(self, _tasks: u64) -> Self {
        self
    }

    /// Ends a worker that has had no task for this long.
    pub fn idle_timeout(self, _timeout: Duration) -> Self {
        self
    }

    /// A task that each worker runs before any other.
    pub fn initializer<F, I, O>(self, _task: F, _input: I) -> Self
    where
        F: Fn(I, &Updater) -> TaskResult<O> + Send + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        self
    }

    /// Sets a variable in the environment of the workers.
    pub fn env(self, _key: impl Into<OsString>, _value: impl Into<OsString>) -> Self {
        self
    }

    /// The current directory of the workers.
    pub fn current_dir(self, _directory: impl Into<PathBuf>) -> Self {
        self
    }

    /// The time between two snapshots of a task that observers are shown.
    pub fn report_interval(self, _interval: Duration) -> Self {
        self
    }

    /// The most that an input or an output may take, encoded.
    pub fn max_frame_bytes(self, _bytes: u64) -> Self {
        self
    }

    /// Starts the workers through a command such as `srun` or `ssh`, on Unix.
    pub fn launcher(self, _launcher: Launcher) -> Self {
        self
    }

    /// Shares nothing with the workers but the channel.
    #[doc(hidden)]
    pub fn without_shared_memory(self) -> Self {
        self
    }

    /// Says that there is no such pool.
    ///
    /// # Errors
    ///
    /// Always, on this system.
    pub fn build(self) -> Result<ProcessPoolExecutor, ProcessPoolError> {
        Err(ProcessPoolError::new(format!(
            "worker processes are for Unix, and this is {}: run the same tasks on a `ThreadPoolExecutor`",
            std::env::consts::OS
        )))
    }
}
