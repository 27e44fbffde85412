//! Makes a process pool from its settings.

use std::ffi::OsStr;
use std::num::NonZero;
use std::thread;
use std::time::Duration;

use crate::process::error::ProcessPoolError;
use crate::process::executor::{ProcessPoolExecutor, check_size, function_id};
use crate::process::output::WorkerOutput;
use crate::process::pool::launch::start_error::missing;
use crate::process::pool::scheduler::events::START;
use crate::process::pool::scheduler::slot::Settings;
use crate::process::pool::shared::Pool;
use crate::process::protocol::heartbeat;
use crate::process::registry::TaskRegistry;
use crate::process::settings::{GivenInitializer, Initializer, Launch, PoolSettings, Program};
use crate::process::{program, worker_args};
use crate::sync::shortage::hinted;

/// How deeply pools may be nested: a task of a pool uses a pool, whose tasks use a pool, and so on.
const MAX_DEPTH: u32 = 8;
/// How long a worker on this machine may take to begin a task.
const SILENCE: Duration = Duration::from_secs(1);
/// The same behind a launcher, at least. A large input may pass slowly, and heartbeats tell whether the worker lives.
const PASSAGE: Duration = Duration::from_secs(60);

impl ProcessPoolExecutor {
    pub(crate) fn set_up(settings: PoolSettings) -> Result<Self, ProcessPoolError> {
        let mut launch = Launch { program: program()?, ..settings.launch };
        if worker_args::depth() >= MAX_DEPTH {
            return Err(ProcessPoolError::new(format!(
                "{MAX_DEPTH} process pools are inside of one another, which is the most that is allowed: a task seems to \
                 submit itself"
            )));
        }
        if let Some(defect) = launch.launcher.defect().or_else(|| launch.defect()) {
            return Err(ProcessPoolError::new(defect));
        }
        if let Some(setup) = settings.initializer {
            launch.initializer = Some(setup.check(launch.max_frame)?);
        }
        if launch.max_workers == 0 {
            launch.max_workers = thread::available_parallelism().map_or(1, NonZero::get);
        }
        let settings = Settings {
            max_workers: launch.max_workers,
            max_tasks: settings.max_tasks_per_worker,
            cancel_grace: settings.cancel_grace,
            idle_timeout: settings.idle_timeout,
            start_timeout: if launch.launcher.is_local() { Some(START) } else { launch.launcher.start_limit() },
            silence: launch
                .launcher
                .heartbeat_interval()
                .map_or(SILENCE, |interval| heartbeat::timeout(interval).max(PASSAGE)),
            hosts: launch.launcher.host_count(),
            #[cfg(feature = "cluster")]
            starts_all: launch.launcher.is_bulk(),
            #[cfg(not(feature = "cluster"))]
            starts_all: false,
            // A task's output is read when the task ends, and the next task must not have written anything by then.
            gives_ahead: !matches!(launch.output, WorkerOutput::Lines(_)),
        };
        Ok(Self::of(Pool::new(launch, settings)))
    }
}

impl Launch {
    /// What makes it impossible to start a process with these settings, if anything does.
    fn defect(&self) -> Option<String> {
        let has_nul = |text: &OsStr| text.as_encoded_bytes().contains(&0);
        let is_name = |name: &OsStr| !name.is_empty() && !name.as_encoded_bytes().contains(&b'=') && !has_nul(name);
        for (name, value) in &self.env {
            if !is_name(name) {
                return Some(format!("no environment can have a variable of the name {name:?}"));
            }
            if has_nul(value) {
                return Some(format!(
                    "the value of the variable {name:?} has a NUL in it, which no environment can have"
                ));
            }
        }
        let directory = self.current_dir.as_ref().filter(|directory| has_nul(directory.as_os_str()))?;
        Some(format!("the `current_dir` {directory:?} has a NUL in it, as no directory has"))
    }
}

impl GivenInitializer {
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

/// How a worker of this program must be started.
fn program() -> Result<Program, ProcessPoolError> {
    if let Some(defect) = TaskRegistry::defect() {
        return Err(ProcessPoolError::new(defect));
    }
    let role = worker_args::Role::of_this_process();
    let is_test = role.as_ref().is_some_and(|role| role.is_test);
    if TaskRegistry::of_this_process().is_some() && !is_test {
        return Ok(Program::Main);
    }
    let tests = program::test_workers().map_err(|error| {
        let what = "the file of this program could not be searched for a `test_worker!`";
        ProcessPoolError::new(hinted(what, missing(&error))).with_source(error.into())
    })?;
    match tests {
        // Otherwise, a worker process that has not become a worker would start another, and so on.
        [test] if role.is_none() || TaskRegistry::of_this_process().is_some() => Ok(Program::Test(test.clone())),
        [_, _, ..] => Err(ProcessPoolError::new(format!(
            "a test program can have one `test_worker!`, with all functions; this has several: {}",
            tests.join(", ")
        ))),
        _ => Err(ProcessPoolError::new(
            "worker processes run this same program again, and it has not said what they can run. Call this first thing \
             in `main`:\n\n    use progress_executor::TaskRegistry;\n    TaskRegistry::new().register(your_task).init();\n\n\
             or write this in a test crate: `progress_executor::test_worker!(your_task);`",
        )),
    }
}
