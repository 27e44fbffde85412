//! An executor without threads.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::CancelCause;
use crate::executor::job::{Job, Refusal};
use crate::executor::shutdown::{Drain, Shutdown};
use crate::executor::{Executor, submit_methods};
use crate::id::TaskId;
use crate::run;
use crate::sync::wakers::Wakers;
use crate::task::context::Context;
use crate::task::details::Owner;
use crate::task::transitions;
use crate::task::{TaskRef, state};

/// Runs each task on the thread that polls its future, at the first poll: for tests, and where there are no threads.
///
/// Every single update reaches the callbacks and bars of the future, in order and while the task is within the call
/// that made it. So what a test does in a callback happens at an exact point of the task:
///
/// ```
/// use progress_executor::SyncExecutor;
///
/// let task = SyncExecutor::new().spawn(|progress| {
///     for step in progress.iter(0..10) {
///         step?;
///     }
///     Ok(())
/// });
/// let canceller = task.canceller();
/// let error = task.on_progress(move |_, new| if new.n == 5 { canceller.cancel() }).wait().unwrap_err();
/// assert!(error.is_cancelled());
/// assert_eq!(error.progress().n, 5);
/// ```
///
/// What other threads of a task count, such as those of a [shared](crate::Updater::shared) updater or of a parallel
/// iterator, is shown at the task's next progress call on its own thread, or at its end.
///
/// The poll that runs a task takes as long as the task does. A future that is never polled never runs its task;
/// [`detach`](crate::ProgressFuture::detach) runs it on the spot. Tasks do not run concurrently, so a task that waits
/// for something another task does waits for ever, unless it awaits the other task's future.
///
/// Dropping the executor changes nothing.
#[derive(Default)]
pub struct SyncExecutor {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tasks: Mutex<Tasks>,
    waiting: Wakers,
}

#[derive(Default)]
struct Tasks {
    is_shut_down: bool,
    /// Tasks that have not ended, in the order of their ids.
    live: VecDeque<TaskRef>,
}

impl SyncExecutor {
    /// A new executor.
    ///
    /// # Examples
    ///
    /// ```
    /// let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|_| Ok(std::thread::current().id()));
    /// assert_eq!(task.wait()?, std::thread::current().id());
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses new tasks from now on, and resolves when the accepted ones have ended.
    ///
    /// Tasks that have not run yet run where this is polled. Their futures keep the outcomes.
    ///
    /// # Examples
    ///
    /// ```
    /// let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|_| Ok(6 * 7));
    /// executor.shutdown().wait(); // runs it
    /// assert!(task.is_done());
    /// assert!(executor.spawn(|_| Ok(())).wait().unwrap_err().is_rejected());
    /// assert_eq!(task.wait()?, 42);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn shutdown(&self) -> Shutdown {
        self.shared.lock().is_shut_down = true;
        Shutdown::new(self.shared.clone())
    }

    /// Refuses new tasks from now on, cancels the accepted ones, and resolves when they have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|_| Ok(6 * 7));
    /// executor.shutdown_now().wait();
    /// assert!(task.wait().unwrap_err().is_cancelled());
    /// ```
    pub fn shutdown_now(&self) -> Shutdown {
        let shutdown = self.shutdown();
        let tasks = self.shared.lock();
        let cancellations = transitions::request_cancel_all(tasks.live.iter().rev().cloned(), CancelCause::Shutdown);
        drop(tasks);
        cancellations.carry_out();
        shutdown
    }
}

submit_methods!(SyncExecutor);

impl Executor for SyncExecutor {
    fn execute(&self, job: Job) {
        let task = job.task();
        let before = task.core.state.set(state::INLINE);
        let is_accepted = transitions::attach(task, self.shared.clone(), |_| {
            let mut tasks = self.shared.lock();
            if !tasks.is_shut_down {
                let place = tasks.find(task.core.id()).unwrap_or_else(|place| place);
                tasks.live.insert(place, task.clone());
            }
            !tasks.is_shut_down
        });
        if !is_accepted {
            return job.reject(Refusal::ShutDown);
        }
        // Another executor may have held the job until now: its future may already wait, or be detached.
        if before & state::ABANDONED == 0 {
            task.core.waiter.wake();
        } else if task.core.claim().is_ok() {
            // It was detached, so no future will poll it.
            run::run(task.clone(), Context::default());
        }
    }
}

impl Tasks {
    /// The index of a task, or else the one to insert it at.
    fn find(&self, task: TaskId) -> Result<usize, usize> {
        self.live.binary_search_by_key(&task, |task| task.core.id())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner for Shared {
    fn changed(self: Arc<Self>, _task: TaskId) {
        self.waiting.wake_all();
    }

    fn ended(self: Arc<Self>, task: TaskId) {
        let mut tasks = self.lock();
        let task = tasks.find(task).ok().and_then(|place| tasks.live.remove(place));
        drop(tasks);
        self.waiting.wake_all();
        drop(task);
    }
}

impl Drain for Shared {
    fn drain(&self) -> bool {
        let live: Vec<TaskRef> = self.lock().live.iter().cloned().collect();
        for task in live {
            if task.core.claim().is_ok() {
                run::run(task, Context::default());
            }
        }
        self.lock().live.is_empty()
    }

    fn waiting(&self) -> &Wakers {
        &self.waiting
    }
}

impl fmt::Debug for SyncExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks = self.shared.lock();
        f.debug_struct("SyncExecutor")
            .field("live", &tasks.live.len())
            .field("is_shut_down", &tasks.is_shut_down)
            .finish()
    }
}
