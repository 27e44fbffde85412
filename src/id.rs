//! The identities of tasks and workers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// Identifies a task; unique within the process. Serialized (with the feature `serde`) as a number.
///
/// # Examples
///
/// ```
/// let executor = progress_executor::SyncExecutor::new();
/// let (first, second) = (executor.spawn(|_| Ok(1)), executor.spawn(|_| Ok(2)));
/// assert_ne!(first.id(), second.id());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(transparent))]
pub struct TaskId(u64);

/// On a cache line of its own, so that it does not share one with data that every task reads.
static NEXT: CachePadded<AtomicU64> = CachePadded::new(AtomicU64::new(1));

impl TaskId {
    pub(crate) fn next() -> Self {
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The id of a task of another process, whose worker this process is.
    pub(crate) fn of_program(id: u64) -> Self {
        Self(id)
    }

    /// Keeps the ids of this process, which is `depth` levels of workers below the program, apart from those it is
    /// sent.
    pub(crate) fn set_depth(depth: u32) {
        NEXT.fetch_max(u64::from(depth) << 48, Ordering::Relaxed);
    }

    /// Never 0.
    pub(crate) fn to_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies the worker that ran a task. Displayed in a few words: `thread 2`, `process 4711 on node7`.
///
/// # Examples
///
/// ```
/// use progress_executor::{TaskGroup, ThreadPoolExecutor, WorkerId};
///
/// let executor = ThreadPoolExecutor::new(1);
/// let mut group = TaskGroup::new();
/// let handle = group.handle();
/// group.add(executor.spawn(|_| Ok(())));
/// group.join().wait()?;
/// let report = handle.report();
/// assert!(matches!(report.tasks()[0].worker, Some(WorkerId::Thread(_))));
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum WorkerId {
    /// A thread of this program. Threads are numbered, from 1, in the order in which they run their first task.
    Thread(u32),
    /// A worker process.
    #[non_exhaustive]
    Process {
        /// Its process id on the machine it runs on.
        id: u32,
        /// The name of that machine, if a [launcher](crate::Launcher) has started the worker.
        host: Option<Arc<str>>,
    },
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thread(number) => write!(f, "thread {number}"),
            Self::Process { id, host: None } => write!(f, "process {id}"),
            Self::Process { id, host: Some(host) } => write!(f, "process {id} on {host}"),
        }
    }
}
