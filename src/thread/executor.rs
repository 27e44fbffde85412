//! The public side of the pool.

use std::fmt;
use std::sync::Arc;

use crate::executor::job::Job;
use crate::executor::shutdown::Shutdown;
use crate::executor::{Executor, submit_methods};
use crate::thread::pool::Pool;

/// Runs tasks on a pool of threads, first in, first out.
///
/// Threads are started as they are needed, up to a maximum, and are kept until the executor is dropped. A task that
/// panics costs no thread. Idle threads use no CPU.
///
/// | | new tasks | pending tasks | running tasks |
/// |---|---|---|---|
/// | drop the executor | – | are run | keep running |
/// | [`shutdown`](Self::shutdown) | rejected | are run | keep running |
/// | [`shutdown_now`](Self::shutdown_now) | rejected | cancelled | asked to end |
///
/// None of these blocks; the threads end when there is nothing left to do.
///
/// If the system cannot start a thread, the others do the work. If there are no others, `submit` tries again for 5 s; after
/// that the tasks are rejected with an error that says what was missing.
///
/// # Tasks that wait for tasks of their own pool
///
/// A future that is polled or [waited](crate::ProgressFuture::wait) for on a thread of the pool that its task was
/// submitted to runs the task right there, unless another thread has started it. So tasks can submit tasks to their
/// own pool and wait for them, even if it has only one thread. A task that is run in this way uses the stack of the
/// thread that waits.
///
/// # Examples
///
/// ```
/// use progress_executor::{TaskResult, ThreadPoolExecutor, Updater};
///
/// fn sum(numbers: Vec<u64>, progress: &Updater) -> TaskResult<u64> {
///     let mut sum = 0;
///     for number in progress.iter(numbers) {
///         sum += number?;
///     }
///     Ok(sum)
/// }
///
/// let executor = ThreadPoolExecutor::new(2);
/// let small = executor.submit(sum, vec![1, 2, 3]);
/// let large = executor.submit(sum, (1..=1000).collect());
/// let (small, large) = smol::block_on(futures::future::join(small, large));
/// assert_eq!((small?, large?), (6, 500_500));
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
pub struct ThreadPoolExecutor {
    pub(super) pool: Arc<Pool>,
}

impl ThreadPoolExecutor {
    /// A pool of at most `max_workers` threads; 0 stands for the [available
    /// parallelism](std::thread::available_parallelism).
    ///
    /// Starts no thread yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{Executor, ThreadPoolExecutor};
    ///
    /// assert_eq!(ThreadPoolExecutor::new(3).max_workers(), 3);
    /// assert!(ThreadPoolExecutor::new(0).max_workers() >= 1);
    /// ```
    #[must_use]
    pub fn new(max_workers: usize) -> Self {
        Self::builder().max_workers(max_workers).build()
    }

    /// Refuses new tasks from now on, and resolves when the accepted ones have ended.
    ///
    /// Tasks that are paused have not ended. A thread of the pool that waits for this, in a task or where it drops what a task has
    /// captured or returned, waits for itself.
    ///
    /// # Examples
    ///
    /// ```
    /// let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|_| Ok(1));
    /// executor.shutdown().wait();
    /// assert!(task.is_done());
    /// assert!(executor.spawn(|_| Ok(2)).wait().unwrap_err().is_rejected());
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn shutdown(&self) -> Shutdown {
        self.pool.close();
        Shutdown::new(self.pool.clone())
    }

    /// Refuses new tasks from now on, cancels the accepted ones, and resolves when they have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{CancelCause, TaskErrorKind, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.sleep(std::time::Duration::MAX)?));
    /// smol::block_on(executor.shutdown_now());
    /// let error = task.wait().unwrap_err();
    /// assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Shutdown));
    /// ```
    pub fn shutdown_now(&self) -> Shutdown {
        self.pool.close_now();
        Shutdown::new(self.pool.clone())
    }
}

submit_methods!(ThreadPoolExecutor);

impl Default for ThreadPoolExecutor {
    /// A pool of as many threads as the [available parallelism](std::thread::available_parallelism).
    fn default() -> Self {
        Self::new(0)
    }
}

impl Executor for ThreadPoolExecutor {
    fn execute(&self, job: Job) {
        let task = job.task().clone();
        self.pool.add(job);
        // Another executor may have held the job until now, and a thread of this pool may wait for it: that thread
        // must then run it.
        task.core.waiter.wake();
    }

    fn execute_new(&self, job: Job) {
        self.pool.add(job);
    }

    fn max_workers(&self) -> usize {
        self.pool.settings.max_workers
    }
}

impl Drop for ThreadPoolExecutor {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier, Mutex};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::ThreadPoolExecutor;

    fn wait_until_all_sleep(executor: &ThreadPoolExecutor, threads: usize) {
        let start = Instant::now();
        while executor.pool.asleep() < threads {
            assert!(start.elapsed() < Duration::from_secs(60), "the threads have not gone to sleep");
            thread::yield_now();
        }
    }

    #[test]
    fn the_thread_that_fell_asleep_last_is_woken_first() {
        const THREADS: usize = 4;
        let executor = ThreadPoolExecutor::new(THREADS);
        let barrier = Arc::new(Barrier::new(THREADS));
        let all = [(); THREADS].map(|()| {
            let barrier = barrier.clone();
            executor.spawn(move |_| Ok(barrier.wait().is_leader()))
        });
        for task in all {
            task.wait().unwrap();
        }
        let mut ran_on = Vec::new();
        for _ in 0..10 {
            wait_until_all_sleep(&executor, THREADS);
            ran_on.push(executor.spawn(|_| Ok(thread::current().id())).wait().unwrap());
        }
        ran_on.dedup();
        assert_eq!(ran_on.len(), 1, "{ran_on:?}");
    }

    #[test]
    fn what_was_cancelled_does_not_pile_up_behind_a_task_that_takes_long() {
        let executor = ThreadPoolExecutor::new(1);
        let barrier = Arc::new(Barrier::new(2));
        let other = barrier.clone();
        let busy = executor.spawn(move |_| Ok(_ = other.wait()));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut live = Vec::new();
        for n in 0..10_000 {
            if n % 100 == 0 {
                let order = order.clone();
                live.push(executor.spawn(move |_| {
                    order.lock().unwrap().push(n);
                    Ok(())
                }));
            }
            executor.spawn(|_| Ok(())).cancel();
            let waiting = executor.pool.waiting();
            assert!(waiting <= 2 * live.len() + 100, "{waiting} wait where {} are to run", live.len());
        }
        barrier.wait();
        busy.wait().unwrap();
        let count = live.len();
        live.into_iter().for_each(|task| task.wait().unwrap());
        assert_eq!(*order.lock().unwrap(), (0..count).map(|n| 100 * n).collect::<Vec<_>>());
    }

    #[test]
    fn neither_does_what_a_task_waits_for_and_so_runs_itself() {
        let executor = Arc::new(ThreadPoolExecutor::new(1));
        let inner = executor.clone();
        let outer = executor.spawn(move |_| {
            let mut most = 0;
            for n in 0..1_000 {
                assert_eq!(inner.spawn(move |_| Ok(n)).wait()?, n);
                most = most.max(inner.pool.waiting());
            }
            Ok(most)
        });
        let most = outer.wait().unwrap();
        assert!(most <= 100, "{most} wait where none is to run");
    }
}
