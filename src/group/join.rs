//! Waiting for every task of a group.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::FusedFuture;

use crate::error::{CancelCause, TaskError, TaskErrorKind};
use crate::group::TaskGroup;
use crate::sync::block_on::block_on;
use crate::sync::unwind::{drop_each_quietly, drop_quietly};

impl<T> TaskGroup<T> {
    /// Resolves when every task has ended: to all values in the order in which the tasks were added, or to the first
    /// error. The first failure cancels the rest ([`CancelCause::GroupFailed`]): structured concurrency.
    ///
    /// A failure is any outcome but a value, including the cancellation of a task by other means. The error tells how
    /// many [other](TaskError::others) tasks have failed as well. The values of tasks that ended before the failure
    /// are dropped. Outcomes that the stream has already handed out are not included. A paused group is resumed; from
    /// then on, only a [handle](Self::handle) can pause and resume it.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{TaskGroup, TaskResult, ThreadPoolExecutor, Updater};
    ///
    /// fn dig(depth: u64, progress: &Updater) -> TaskResult<u64> {
    ///     for meter in progress.iter(0..depth) {
    ///         if meter? == 7 {
    ///             return Err("struck water".into());
    ///         }
    ///     }
    ///     Ok(depth)
    /// }
    ///
    /// let executor = ThreadPoolExecutor::new(2);
    /// let mut group = TaskGroup::new();
    /// for depth in [3, 10, u64::MAX - 1] {
    ///     group.add(executor.submit(dig, depth));
    /// }
    /// let error = group.join().wait().unwrap_err();
    /// assert!(error.is_failed());
    /// assert_eq!(error.progress().n, 7);
    /// ```
    pub fn join(self) -> Join<T> {
        self.resume();
        Join { values: Vec::with_capacity(self.len()), group: Some(self), error: None, others: 0 }
    }

    /// Resolves when every task has ended, to all outcomes in the order in which the tasks were added. Outcomes that
    /// the stream has already handed out are not included. A paused group is resumed, as by [`join`](Self::join).
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// group.add(executor.spawn(|_| Ok(1)));
    /// group.add(executor.spawn(|_| Err("out of paper".into())));
    /// let outcomes = group.join_all().wait();
    /// assert!(outcomes[0].is_ok() && outcomes[1].is_err());
    /// ```
    pub fn join_all(self) -> JoinAll<T> {
        self.resume();
        JoinAll { outcomes: Vec::with_capacity(self.len()), group: Some(self) }
    }
}

/// Waits for every task of a group, and cancels the rest once one has failed; made by [`TaskGroup::join`]. Polled after it has
/// resolved, it stays pending; [`wait`](Self::wait) then returns no values.
///
/// # Examples
///
/// ```
/// use progress_executor::{Join, TaskGroup, ThreadPoolExecutor};
///
/// let executor = ThreadPoolExecutor::new(2);
/// let group: TaskGroup<u32> = (0..3).map(|n| executor.spawn(move |_| Ok(n))).collect();
/// let all: Join<u32> = group.join();
/// assert_eq!(smol::block_on(all)?, [0, 1, 2]);
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[must_use = "dropping it cancels the tasks of its group"]
pub struct Join<T> {
    /// `None` once it has resolved.
    group: Option<TaskGroup<T>>,
    values: Vec<(usize, T)>,
    error: Option<TaskError>,
    /// How many other tasks have failed, and not because of the first failure.
    others: usize,
}

impl<T> Join<T> {
    /// Blocks this thread until every task has ended, for code without a runtime. A join that has resolved before has
    /// no values left.
    ///
    /// # Errors
    ///
    /// The first error that a task has ended with.
    ///
    /// # Blocking
    ///
    /// Like [`ProgressFuture::wait`](crate::ProgressFuture::wait), this works meanwhile: on a thread of a thread pool it runs
    /// tasks of that pool that have not started, and it reads what the workers of a process pool send.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// group.add(executor.spawn(|_| Ok(1)));
    /// group.add(executor.spawn(|_| Err("out of paper".into())));
    /// assert!(group.join().wait().unwrap_err().is_failed());
    /// ```
    pub fn wait(self) -> Result<Vec<T>, TaskError> {
        if self.is_terminated() { Ok(Vec::new()) } else { block_on(self) }
    }
}

impl<T> Unpin for Join<T> {}

impl<T> Future for Join<T> {
    type Output = Result<Vec<T>, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { group, values, error, others } = &mut *self;
        let Some(unended) = group else { return Poll::Pending };
        while let Some((index, _, outcome)) = ready!(unended.poll_ended(cx)) {
            match outcome {
                Ok(value) if error.is_none() => values.push((index, value)),
                Err(first) if error.is_none() => {
                    *error = Some(first);
                    unended.cancel_because(CancelCause::GroupFailed);
                    drop_each_quietly(mem::take(values));
                }
                late => {
                    *others += usize::from(late.as_ref().is_err_and(is_failure_of_its_own));
                    drop_quietly(late);
                }
            }
        }
        ready!(unended.poll_close(cx));
        *group = None;
        Poll::Ready(match error.take() {
            Some(error) => Err(error.with_others(*others)),
            None => Ok(in_order(values)),
        })
    }
}

/// Whether the error is not a consequence of the first failure of its group.
fn is_failure_of_its_own(error: &TaskError) -> bool {
    *error.kind() != TaskErrorKind::Cancelled(CancelCause::GroupFailed)
}

impl<T> Drop for Join<T> {
    fn drop(&mut self) {
        drop_each_quietly(mem::take(&mut self.values));
    }
}

impl<T> FusedFuture for Join<T> {
    fn is_terminated(&self) -> bool {
        self.group.is_none()
    }
}

impl<T> fmt::Debug for Join<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").field("group", &self.group).field("error", &self.error).finish_non_exhaustive()
    }
}

/// Waits for every task of a group; made by [`TaskGroup::join_all`]. Polled after it has resolved, it stays pending;
/// [`wait`](Self::wait) then returns no outcomes.
///
/// # Examples
///
/// ```
/// use progress_executor::{JoinAll, TaskGroup, ThreadPoolExecutor};
///
/// let executor = ThreadPoolExecutor::new(2);
/// let group: TaskGroup<u32> = (0..3).map(|n| executor.spawn(move |_| Ok(n))).collect();
/// let all: JoinAll<u32> = group.join_all();
/// assert!(smol::block_on(all).iter().all(Result::is_ok));
/// ```
#[must_use = "dropping it cancels the tasks of its group"]
pub struct JoinAll<T> {
    /// `None` once it has resolved.
    group: Option<TaskGroup<T>>,
    outcomes: Vec<(usize, Result<T, TaskError>)>,
}

impl<T> JoinAll<T> {
    /// Blocks this thread until every task has ended, for code without a runtime. A join that has resolved before has
    /// no outcomes left.
    ///
    /// # Blocking
    ///
    /// See [`Join::wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let group: progress_executor::TaskGroup<u32> =
    ///     (0..3_u32).map(|n| executor.spawn(move |_| n.checked_sub(1).ok_or("too small".into()))).collect();
    /// let (values, errors): (Vec<_>, Vec<_>) = group.join_all().wait().into_iter().partition(Result::is_ok);
    /// assert_eq!((values.len(), errors.len()), (2, 1));
    /// ```
    pub fn wait(self) -> Vec<Result<T, TaskError>> {
        if self.is_terminated() { Vec::new() } else { block_on(self) }
    }
}

impl<T> Unpin for JoinAll<T> {}

impl<T> Future for JoinAll<T> {
    type Output = Vec<Result<T, TaskError>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { group, outcomes } = &mut *self;
        let Some(unended) = group else { return Poll::Pending };
        while let Some((index, _, outcome)) = ready!(unended.poll_ended(cx)) {
            outcomes.push((index, outcome));
        }
        ready!(unended.poll_close(cx));
        *group = None;
        Poll::Ready(in_order(outcomes))
    }
}

impl<T> Drop for JoinAll<T> {
    fn drop(&mut self) {
        drop_each_quietly(mem::take(&mut self.outcomes));
    }
}

impl<T> FusedFuture for JoinAll<T> {
    fn is_terminated(&self) -> bool {
        self.group.is_none()
    }
}

impl<T> fmt::Debug for JoinAll<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAll").field("group", &self.group).finish_non_exhaustive()
    }
}

/// The results in the order in which the tasks were added.
fn in_order<R>(results: &mut Vec<(usize, R)>) -> Vec<R> {
    results.sort_unstable_by_key(|(index, _)| *index);
    results.drain(..).map(|(_, result)| result).collect()
}
