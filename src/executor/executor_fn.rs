//! Executors from closures.

use std::fmt;
use std::num::NonZero;
use std::thread;

use crate::executor::Executor;
use crate::executor::job::Job;

/// Makes an executor from a closure that makes sure that a job is [run](Job::run): brings tasks with progress and
/// cancellation to any existing pool.
///
/// It is assumed to run as many jobs at a time as the system has [parallelism](thread::available_parallelism); if that is
/// wrong, set the number with [`with_max_workers`](ExecutorFn::with_max_workers). If the closure panics or drops the job, the
/// task ends as [rejected](crate::TaskErrorKind::Rejected).
///
/// # Examples
///
/// ```
/// use progress_executor::{ExecutorExt, Job, executor_fn};
///
/// let executor = executor_fn(|job: Job| rayon::spawn(move || job.run()));
/// let task = executor.submit(|n: u64, progress| progress.iter(0..n).try_fold(0, |sum, n| Ok(sum + n?)), 10);
/// assert_eq!(task.wait()?, 45);
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
pub fn executor_fn<F: Fn(Job) + Send + Sync>(f: F) -> ExecutorFn<F> {
    ExecutorFn { f, max_workers: thread::available_parallelism().map_or(1, NonZero::get) }
}

/// An executor that calls a closure, made by [`executor_fn`].
///
/// Dropping it drops the closure; jobs that the closure has passed on are not affected.
///
/// # Examples
///
/// ```
/// use progress_executor::{ExecutorExt, ExecutorFn, Job, executor_fn};
///
/// fn start_thread(job: Job) {
///     std::thread::spawn(move || job.run());
/// }
///
/// let executor: ExecutorFn<fn(Job)> = executor_fn(start_thread);
/// assert_eq!(executor.submit(|n: u64, _| Ok(n + 1), 41).wait()?, 42);
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Clone, Copy)]
pub struct ExecutorFn<F> {
    f: F,
    max_workers: usize,
}

impl<F> ExecutorFn<F> {
    /// Sets the maximum number of jobs that run at the same time, which a [`map`](crate::ExecutorExt::map) sizes its buffer by.
    /// 0 means 1.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{Executor, Job, executor_fn};
    ///
    /// let executor = executor_fn(|job: Job| job.run()).with_max_workers(1); // within `submit`
    /// assert_eq!(executor.max_workers(), 1);
    /// ```
    #[must_use]
    pub fn with_max_workers(self, max_workers: usize) -> Self {
        Self { max_workers: max_workers.max(1), ..self }
    }
}

impl<F: Fn(Job) + Send + Sync> Executor for ExecutorFn<F> {
    fn execute(&self, job: Job) {
        (self.f)(job);
    }

    fn max_workers(&self) -> usize {
        self.max_workers
    }
}

impl<F> fmt::Debug for ExecutorFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorFn").field("max_workers", &self.max_workers).finish_non_exhaustive()
    }
}
