//! What an executor is given: a task on its way to a thread that runs it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock};

use crate::error::TaskErrorKind;
use crate::id::TaskId;
use crate::run;
use crate::sync::shortage::{hinted, missing};
use crate::task::context::Context;
use crate::task::subscribers::REPORT_INTERVAL;
use crate::task::transitions;
use crate::task::{TaskRef, state};

/// A task on its way to a thread that [runs](Self::run) it.
///
/// Dropping a job without running it ends its task as [rejected](crate::TaskErrorKind::Rejected).
///
/// # Examples
///
/// ```
/// use progress_executor::{Executor, ExecutorExt, Job};
///
/// /// Runs each task on a thread of its own.
/// struct Threads;
///
/// impl Executor for Threads {
///     fn execute(&self, job: Job) {
///         std::thread::spawn(move || job.run());
///     }
///
///     fn max_workers(&self) -> usize {
///         64
///     }
/// }
///
/// assert_eq!(Threads.submit(|n: u64, _| Ok(n + 1), 41).wait()?, 42);
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[must_use = "dropping a job ends its task as rejected"]
pub struct Job {
    pub(crate) task: TaskRef,
}

impl Job {
    /// Runs the task on this thread, and returns when it has ended.
    ///
    /// A task that was cancelled meanwhile is not run; if another thread is ending it, this waits until that is done. A panic of
    /// the task becomes its outcome and does not propagate.
    ///
    /// # Blocking
    ///
    /// Blocks for as long as the task takes. A task that is [paused](crate::ProgressFuture::pause) blocks until it is resumed
    /// or cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ExecutorExt, Job, executor_fn};
    ///
    /// let (queue, jobs) = async_channel::unbounded::<Job>();
    /// let executor = executor_fn(move |job: Job| drop(queue.try_send(job)));
    /// let task = executor.submit(|n: u64, _| Ok(n + 1), 41);
    /// std::thread::spawn(move || {
    ///     while let Ok(job) = jobs.recv_blocking() {
    ///         job.run();
    ///     }
    /// });
    /// assert_eq!(task.wait()?, 42);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn run(self) {
        static CONTEXT: LazyLock<Context> = LazyLock::new(|| Context::with_interval(REPORT_INTERVAL));
        run::claim_and_run(&self.task, CONTEXT.clone());
    }

    /// Which task this is.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.task.core.id()
    }

    /// The [name](crate::ProgressFuture::name) of the task.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ExecutorExt, Job, executor_fn};
    ///
    /// let executor = executor_fn(|job: Job| {
    ///     println!("{} begins: {}", job.id(), job.name());
    ///     job.run();
    /// });
    /// # executor.submit(|(), _| Ok(()), ()).wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        self.task.name()
    }

    pub(crate) fn task(&self) -> &TaskRef {
        &self.task
    }

    pub(crate) fn reject(self, reason: Refusal) {
        transitions::reject(&self.task, TaskErrorKind::Rejected, reason.into());
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let word = self.task.core.state.load();
        if state::is_pending(word) && word & state::INLINE == 0 {
            transitions::reject(&self.task, TaskErrorKind::Rejected, Refusal::Dropped.into());
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id()).field("name", &self.name()).finish()
    }
}

/// Why a task was rejected.
#[derive(Debug)]
pub(crate) enum Refusal {
    Dropped,
    ShutDown,
    NoThread(Arc<io::Error>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("its executor dropped it"),
            Self::ShutDown => f.write_str("its executor had been shut down"),
            Self::NoThread(error) => f.write_str(&hinted("its executor could not start a thread", missing(error))),
        }
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoThread(error) => Some(error),
            Self::Dropped | Self::ShutDown => None,
        }
    }
}
