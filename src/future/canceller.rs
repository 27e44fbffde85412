//! Cancels a task from elsewhere.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::error::CancelCause;
use crate::task::transitions;
use crate::task::{TaskRef, state};

/// Cancels a task from anywhere; made by [`ProgressFuture::canceller`](crate::ProgressFuture::canceller).
///
/// It can be cloned and sent, and outlives the future and the task harmlessly. Two cancellers are equal if they belong
/// to the same task.
///
/// Three things can be told apart: whether cancellation was [requested](Self::is_cancelled), whether the task has
/// [acknowledged](Self::is_acknowledged) it, and whether the task has [ended](crate::ProgressFuture::is_done).
///
/// # Examples
///
/// ```
/// use progress_executor::ThreadPoolExecutor;
///
/// let executor = ThreadPoolExecutor::new(1);
/// let task = executor.spawn(|progress| -> progress_executor::TaskResult<()> {
///     loop {
///         progress.update(1)?;
///     }
/// });
/// let canceller = task.canceller();
/// std::thread::spawn(move || canceller.cancel());
/// assert!(task.wait().unwrap_err().is_cancelled());
/// ```
#[derive(Clone)]
pub struct Canceller {
    pub(crate) task: TaskRef,
}

impl Canceller {
    /// Asks the task to end; see [`ProgressFuture::cancel`](crate::ProgressFuture::cancel).
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|_| Ok(()));
    /// let canceller = task.canceller();
    /// canceller.cancel();
    /// canceller.cancel(); // does nothing more
    /// assert!(task.wait().unwrap_err().is_cancelled());
    /// ```
    pub fn cancel(&self) {
        transitions::cancel(&self.task, CancelCause::Requested);
    }

    /// Whether cancellation was requested before the task ended, in any way, including by dropping the future. The
    /// task may still be running, or may have finished nevertheless.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|_| Ok(()));
    /// let canceller = task.canceller();
    /// assert!(!canceller.is_cancelled());
    /// drop(task);
    /// assert!(canceller.is_cancelled());
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.task.core.state.load() & state::CANCEL != 0
    }

    /// Whether the task knows: a progress call has returned [`Cancelled`](crate::Cancelled).
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| Ok(progress.iter(0..9).try_for_each(|n| n.map(drop))?));
    /// let canceller = task.canceller();
    /// let hand = canceller.clone();
    /// let error = task.on_progress(move |_, new| if new.n == 2 { hand.cancel() }).wait().unwrap_err();
    /// assert!(error.is_cancelled() && canceller.is_acknowledged());
    /// ```
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.task.core.state.load() & state::NOTICED != 0
    }
}

impl PartialEq for Canceller {
    fn eq(&self, other: &Self) -> bool {
        self.task.core.id() == other.task.core.id()
    }
}

impl Eq for Canceller {}

impl Hash for Canceller {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.task.core.id().hash(state);
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller")
            .field("id", &self.task.core.id())
            .field("is_cancelled", &self.is_cancelled())
            .field("is_acknowledged", &self.is_acknowledged())
            .finish()
    }
}
