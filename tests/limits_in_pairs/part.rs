//! A task, and where it runs.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use progress_executor::{
    Executor, ProcessPoolExecutor, Shutdown, SyncExecutor, TaskResult, ThreadPoolExecutor, Updater,
};
use serde::{Deserialize, Serialize};

use crate::support::{DEADLINE, NewFile, eventually};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Inline,
    Threads,
    Processes,
    /// Started through another command, as on other machines: they share no memory with the program.
    Launched,
}

impl Kind {
    pub(crate) fn has_workers(self) -> bool {
        matches!(self, Self::Processes | Self::Launched)
    }
}

/// What the task is doing while things happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// It has not started.
    Waits,
    /// It makes one progress call after the other, and ends when one tells it to.
    Listens,
    /// It makes no progress call.
    IsDeaf,
}

/// What the task's function does after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// Makes a progress call, and returns its error, or a value.
    Asks,
    /// Returns a value without a progress call.
    Returns,
    /// Returns a value after an iterator, which may have been cut short.
    IsCutShort,
    Fails,
    Panics,
    /// Ends its worker.
    Crashes,
    /// The same the first time; it may be retried.
    CrashesOnce,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Inline, Kind::Threads, Kind::Processes, Kind::Launched];
pub(crate) const STAGES: [Stage; 3] = [Stage::Waits, Stage::Listens, Stage::IsDeaf];
pub(crate) const ENDS: [End; 7] =
    [End::Asks, End::Returns, End::IsCutShort, End::Fails, End::Panics, End::Crashes, End::CrashesOnce];

pub(crate) const VALUE: u32 = 7;

pub(crate) const GO: &str = "go";
pub(crate) const GO_WHEN_TOLD: &str = "told";

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    stage: Stage,
    end: End,
    /// The task removes this when it has started.
    started: PathBuf,
    /// The task goes on when there is a word in this.
    gate: PathBuf,
    /// The task crashes once, while this is there.
    fuse: PathBuf,
}

impl Part {
    pub(crate) fn new(stage: Stage, end: End, started: &NewFile, gate: &NewFile, fuse: &NewFile) -> Self {
        Self { stage, end, started: started.path(), gate: gate.path(), fuse: fuse.path() }
    }
}

pub(crate) fn play(part: Part, progress: &Updater) -> TaskResult<u32> {
    progress.set_counts(1, 2)?;
    let _ = fs::remove_file(&part.started);
    let word = loop {
        let word = fs::read_to_string(&part.gate)?;
        if !word.is_empty() {
            break word;
        }
        if part.stage == Stage::Listens {
            progress.check()?;
        }
        thread::sleep(Duration::from_micros(500));
    };
    if word == GO_WHEN_TOLD {
        // A request takes some time to reach another process.
        eventually("it is told that it is to end", || progress.is_cancelled());
    }
    match part.end {
        End::Asks => progress.update(1)?,
        End::Returns => {}
        End::IsCutShort => drop(progress.iter(0..3).find(Result::is_err)),
        End::Fails => return Err("on purpose".into()),
        // Without the message of the panic hook.
        End::Panics => std::panic::resume_unwind(Box::new("on purpose")),
        End::Crashes => std::process::exit(3),
        End::CrashesOnce => {
            if fs::remove_file(&part.fuse).is_ok() {
                std::process::exit(3);
            }
        }
    }
    Ok(VALUE)
}

pub(crate) enum Pool {
    Inline(SyncExecutor),
    Threads(ThreadPoolExecutor),
    Processes(ProcessPoolExecutor),
}

impl Pool {
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Inline => Self::Inline(SyncExecutor::new()),
            Kind::Threads => Self::Threads(ThreadPoolExecutor::new(1)),
            // A task that does not listen must not be killed.
            Kind::Processes | Kind::Launched => {
                let builder = ProcessPoolExecutor::builder().max_workers(1).cancel_grace(DEADLINE);
                let is_launched = kind == Kind::Launched;
                let builder = if is_launched { builder.launcher("env".parse().unwrap()) } else { builder };
                Self::Processes(builder.build().unwrap())
            }
        }
    }

    pub(crate) fn executor(&self) -> &dyn Executor {
        match self {
            Self::Inline(pool) => pool,
            Self::Threads(pool) => pool,
            Self::Processes(pool) => pool,
        }
    }

    pub(crate) fn suspend(&self) {
        if let Self::Processes(pool) = self {
            pool.suspend();
        }
    }

    pub(crate) fn resume(&self) {
        if let Self::Processes(pool) = self {
            pool.resume();
        }
    }

    pub(crate) fn shut_down(&self) -> Shutdown {
        match self {
            Self::Inline(pool) => pool.shutdown(),
            Self::Threads(pool) => pool.shutdown(),
            Self::Processes(pool) => pool.shutdown(),
        }
    }

    pub(crate) fn shut_down_now(&self) -> Shutdown {
        match self {
            Self::Inline(pool) => pool.shutdown_now(),
            Self::Threads(pool) => pool.shutdown_now(),
            Self::Processes(pool) => pool.shutdown_now(),
        }
    }
}
