//! The process pool where there are no worker processes: its types, so that code which mentions them compiles anywhere,
//! and an error instead of a pool.

use std::convert::Infallible;

use crate::executor::Executor;
use crate::executor::job::Job;
use crate::executor::shutdown::Shutdown;
use crate::process::error::ProcessPoolError;
use crate::process::settings::PoolSettings;
use crate::process::workers::WorkersStatus;

/// Runs tasks in worker processes, on Unix; on this system it cannot be made.
#[derive(Debug)]
pub struct ProcessPoolExecutor {
    never: Infallible,
}

impl ProcessPoolExecutor {
    pub(crate) fn set_up(_settings: PoolSettings) -> Result<Self, ProcessPoolError> {
        Err(ProcessPoolError::new(format!(
            "worker processes need Unix, and this is {}: run the same tasks on a `ThreadPoolExecutor`",
            std::env::consts::OS
        )))
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

    /// Continues the workers, on Unix.
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
