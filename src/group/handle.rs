//! Controls a group from elsewhere.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::iter;
use std::sync::Arc;

use async_channel::Receiver;

use crate::error::CancelCause;
use crate::group::progress::GroupProgress;
use crate::group::report::GroupReport;
use crate::group::state::GroupState;

/// Controls and observes the tasks of a [`TaskGroup`](crate::TaskGroup) or a [`Map`](crate::Map) from anywhere; made
/// by [`TaskGroup::handle`](crate::TaskGroup::handle) and [`Map::handle`](crate::Map::handle).
///
/// It can be cloned and sent, and applies to every task, including tasks that are added after it was made, even while
/// the group is being joined. It outlives the group and the tasks harmlessly, and keeps no task running: dropping the
/// group still cancels its tasks.
///
/// # Examples
///
/// ```
/// use progress_executor::{TaskGroup, ThreadPoolExecutor};
///
/// let executor = ThreadPoolExecutor::new(1);
/// let mut group = TaskGroup::new();
/// let handle = group.handle();
/// group.add(executor.spawn(|progress| Ok(progress.set_counts(3, 3)?)));
/// group.join().wait()?;
/// assert_eq!((handle.progress().finished, handle.progress().n), (1, 3));
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Clone)]
pub struct GroupHandle(Arc<GroupState>);

impl GroupHandle {
    pub(crate) fn new(state: Arc<GroupState>) -> Self {
        Self(state)
    }

    /// Asks every task to end; see [`TaskGroup::cancel`](crate::TaskGroup::cancel). Tasks that are added to a group afterwards
    /// are not affected. A map takes no more inputs.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// group.add(executor.spawn(|progress| Ok(progress.sleep(std::time::Duration::MAX)?)));
    /// group.handle().cancel();
    /// assert!(group.join().wait().unwrap_err().is_cancelled());
    /// ```
    #[doc(alias("abort", "kill"))]
    pub fn cancel(&self) {
        self.0.cancel(iter::empty(), CancelCause::Requested);
    }

    /// Makes every task wait, including those that are added later; see [`TaskGroup::pause`](crate::TaskGroup::pause).
    ///
    /// A group that is being joined then waits until it is resumed: keep a handle for that.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Status;
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut group = progress_executor::TaskGroup::new();
    /// let handle = group.handle();
    /// handle.pause();
    /// group.add(executor.spawn(|_| Ok(1)));
    /// assert_eq!(handle.progress().count(Status::Paused), 1);
    /// handle.resume();
    /// assert_eq!(group.join().wait()?, [1]);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn pause(&self) {
        self.0.pause();
    }

    /// Lets every task go on; see [`pause`](Self::pause).
    pub fn resume(&self) {
        self.0.resume();
    }

    /// How far all tasks that were ever added have come, right now; see
    /// [`TaskGroup::progress`](crate::TaskGroup::progress).
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let group: progress_executor::TaskGroup<u32> = (0..3).map(|n| executor.spawn(move |_| Ok(n))).collect();
    /// let handle = group.handle();
    /// group.join().wait()?; // and meanwhile, from another thread:
    /// assert_eq!((handle.progress().ended(), handle.progress().tasks()), (3, 3));
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn progress(&self) -> GroupProgress {
        self.0.progress()
    }

    /// When and where each task has run, and how it has ended; see [`TaskGroup::report`](crate::TaskGroup::report) and
    /// [`Map::report`](crate::Map::report). This works after the group has been joined as well.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let group: progress_executor::TaskGroup<u32> = (0..3).map(|n| executor.spawn(move |_| Ok(n))).collect();
    /// let handle = group.handle();
    /// group.join().wait()?;
    /// assert_eq!(handle.report().tasks().len(), 3);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn report(&self) -> GroupReport {
        self.0.report()
    }

    /// A new receiver of the progress; see [`TaskGroup::updates`](crate::TaskGroup::updates). It is closed after the last
    /// state, whether or not there are handles.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// let handle = group.handle();
    /// group.add(executor.spawn(|_| Ok(1)));
    /// let updates = handle.updates();
    /// group.join().wait()?;
    /// assert_eq!(updates.recv_blocking().unwrap().finished, 1);
    /// assert!(updates.recv_blocking().is_err());
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn updates(&self) -> Receiver<GroupProgress> {
        self.0.subscribe()
    }
}

/// Two handles are equal if they belong to the same group.
impl PartialEq for GroupHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for GroupHandle {}

impl Hash for GroupHandle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for GroupHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupHandle").field("is_paused", &self.0.is_paused()).finish_non_exhaustive()
    }
}
