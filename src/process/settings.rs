//! The settings of a process pool.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::codec::Encoded;
use crate::error::BoxError;
use crate::process::launcher::Launcher;
use crate::process::output::WorkerOutput;
use crate::task::RemoteFn;

/// What a pool is set up from.
pub(crate) struct PoolSettings {
    pub(crate) cancel_grace: Duration,
    pub(crate) max_tasks_per_worker: u64,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) initializer: Option<GivenInitializer>,
    pub(crate) launch: Launch,
}

/// An initializer as it was given.
pub(crate) struct GivenInitializer {
    pub(crate) function: RemoteFn,
    pub(crate) input: Result<Encoded, BoxError>,
}

/// How workers are started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launch {
    pub(crate) program: Program,
    pub(crate) launcher: Launcher,
    /// 0 for the available parallelism, before the pool is set up.
    pub(crate) max_workers: usize,
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) current_dir: Option<PathBuf>,
    pub(crate) initializer: Option<Initializer>,
    pub(crate) report_interval: Duration,
    pub(crate) max_frame: u64,
    /// The level of the least severe records that workers relay: 0 for none, 1 for errors, up to 5 for traces.
    pub(crate) log_level: u8,
    /// What happens to what the workers write.
    pub(crate) output: WorkerOutput,
    /// Only the channel is shared with workers.
    pub(crate) without_memory: bool,
}

/// What kind of program this is.
#[derive(Clone, Debug, Default)]
pub(crate) enum Program {
    /// Its `main` calls `init`.
    #[default]
    Main,
    /// It is a test program; this test calls `init`.
    Test(String),
}

/// A task that each worker runs before any other.
#[derive(Clone, Debug)]
pub(crate) struct Initializer {
    pub(crate) function: &'static str,
    pub(crate) input: Encoded,
}

#[cfg(unix)]
impl Program {
    /// The arguments that make a test program run its worker.
    pub(crate) fn harness(&self) -> Vec<String> {
        match self {
            Self::Main => Vec::new(),
            Self::Test(test) => [test, "--exact", "--nocapture", "--test-threads=1", "--"].map(str::to_owned).to_vec(),
        }
    }
}
