//! Many tasks as one.

use std::any::Any;
use std::cmp::Reverse;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use async_channel::Receiver;
use futures::future::FusedFuture;
use futures::stream::{FusedStream, FuturesUnordered, Stream, StreamExt};

use crate::block_on::block_on;
use crate::tally::Tallied;
use crate::task::{self, TaskRef};
use crate::{CancelCause, GroupProgress, ProgressFuture, TaskError, TaskErrorKind, TaskId};

/// Tasks that belong together: a stream of their outcomes in the order in which they end, and their progress as one.
///
/// Tasks can be added at any time, also while the stream is being read; it ends when all of them have. The group takes no
/// part in running them: they run whether or not it is polled, except those of a [`SyncExecutor`](crate::SyncExecutor).
///
/// | | the tasks | resolves when |
/// |---|---|---|
/// | [`join`](Self::join) | the first failure cancels the rest | all have ended, with all values or the first error |
/// | [`join_all`](Self::join_all) | run to their ends | all have ended, with all outcomes |
/// | as a stream | run to their ends | each has ended |
/// | [`cancel`](Self::cancel) | are cancelled | |
/// | drop the group | are cancelled, their outcomes are dropped | |
///
/// # Cancel safety
///
/// An outcome is lost by no `select!`: `group.next()` can be dropped at any time. Dropping a [`Join`] drops the group
/// within, and so cancels its tasks.
///
/// # Panics
///
/// Polling the group panics where [polling](ProgressFuture#panics) one of its futures does; no outcome is lost, and the
/// group can be polled again.
///
/// # Examples
///
/// ```
/// use futures::StreamExt;
/// use progress_executor::{TaskGroup, ThreadPoolExecutor};
///
/// # smol::block_on(async {
/// let executor = ThreadPoolExecutor::new(2);
/// let mut group = TaskGroup::new();
/// for n in 0..4 {
///     group.add(executor.submit(|n, progress| Ok(progress.iter(0..n).count()), n));
/// }
/// let mut sum = 0;
/// while let Some((id, outcome)) = group.next().await {
///     println!("{id}: {outcome:?}, {:?} of all", group.progress().fraction());
///     sum += outcome?;
/// }
/// assert_eq!(sum, 6);
/// # Ok::<(), progress_executor::TaskError>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping the group cancels its tasks"]
pub struct TaskGroup<T> {
    members: FuturesUnordered<Member<T>>,
    tallied: Arc<Tallied>,
    /// How many tasks were added.
    added: usize,
    is_paused: AtomicBool,
    #[cfg(feature = "indicatif")]
    bars: Option<crate::group_bars::GroupBars>,
}

/// A task, and which one it is in the order in which they were added.
struct Member<T> {
    index: usize,
    future: ProgressFuture<T>,
}

type Ended<T> = (usize, TaskRef, Result<T, TaskError>);

enum Polled<T> {
    Ended(Ended<T>),
    /// A callback has panicked, which ends neither the task nor the group.
    Panicked(Member<T>, Box<dyn Any + Send>),
}

impl<T> Future for Member<T> {
    type Output = Polled<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { index, future } = &mut *self;
        // `FuturesUnordered` would drop a future that panics.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *future).poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(outcome)) => Poll::Ready(Polled::Ended((*index, future.task(), outcome))),
            Err(payload) => Poll::Ready(Polled::Panicked(Self { index: *index, future: future.take() }, payload)),
        }
    }
}

impl<T> TaskGroup<T> {
    /// A group without tasks.
    pub fn new() -> Self {
        Self {
            members: FuturesUnordered::new(),
            tallied: Tallied::new(),
            added: 0,
            is_paused: AtomicBool::new(false),
            #[cfg(feature = "indicatif")]
            bars: None,
        }
    }

    /// Adds a task. If the group is [paused](Self::pause), so is the task.
    ///
    /// A future that has resolved already has nothing more to give, and is not added.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// let id = group.add(executor.spawn(|_| Ok(6 * 7)));
    /// assert_eq!(group.join().wait()?, [42]);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[cfg_attr(not(feature = "indicatif"), expect(unused_mut))]
    pub fn add(&mut self, mut task: ProgressFuture<T>) -> TaskId {
        let id = task.id();
        if task.is_terminated() {
            return id;
        }
        #[cfg(feature = "indicatif")]
        if let Some(bars) = &self.bars {
            draw_within(&mut task, bars, &self.tallied);
        }
        if self.is_paused() {
            task.pause();
        }
        if self.tallied.is_kept() {
            self.tallied.observe(&task.task());
        }
        self.members.push(Member { index: self.added, future: task });
        self.added += 1;
        id
    }

    /// How many tasks there are whose outcomes were not handed out yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether every outcome was handed out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How far all tasks that were ever added have come, right now.
    ///
    /// From the first call of this or of [`updates`](Self::updates) on, the group observes its tasks. Each of their
    /// reports then costs the same, however many tasks there are, and so does this, but for those that are running.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// assert_eq!(group.progress().fraction(), None);
    /// group.add(executor.spawn(|progress| Ok(progress.set_counts(3, 3)?)));
    /// let updates = group.updates();
    /// group.join().wait()?;
    /// assert_eq!(updates.recv_blocking().unwrap().fraction(), Some(1.0));
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn progress(&self) -> GroupProgress {
        self.keep_tally();
        self.tallied.progress()
    }

    /// A new receiver of the group's progress: of its current state, then of changes, at most one per report interval,
    /// always the newest. See [`ProgressFuture::updates`].
    ///
    /// It needs nobody to poll the group, and outlives it. It is closed after the last state, when the group is gone and
    /// its tasks have ended.
    #[must_use]
    pub fn updates(&self) -> Receiver<GroupProgress> {
        self.keep_tally();
        self.tallied.subscribe()
    }

    fn keep_tally(&self) {
        self.tallied.keep(self.members.iter().map(|member| member.future.task()));
    }

    /// Asks every task to end, the last ones first; see [`ProgressFuture::cancel`].
    pub fn cancel(&self) {
        self.cancel_because(CancelCause::Requested);
    }

    fn cancel_because(&self, cause: CancelCause) {
        let mut tasks: Vec<_> = self.members.iter().map(|member| member.future.task()).collect();
        // Or else workers that become free would start those that are cancelled next.
        tasks.sort_by_key(|task| Reverse(task.core.id()));
        for task in &tasks {
            task::cancel(task, cause);
        }
    }

    /// Makes every task wait, also those that are added later; see [`ProgressFuture::pause`].
    pub fn pause(&self) {
        self.is_paused.store(true, Ordering::Relaxed);
        for member in &self.members {
            member.future.pause();
        }
    }

    /// Lets every task go on.
    pub fn resume(&self) {
        self.is_paused.store(false, Ordering::Relaxed);
        for member in &self.members {
            member.future.resume();
        }
    }

    fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    /// Resolves when every task has ended: to all values in the order in which the tasks were added, or to the first
    /// error. The first failure cancels the rest ([`CancelCause::GroupFailed`]): structured concurrency.
    ///
    /// A failure is any outcome but a value; so is a task that somebody else has cancelled. The error tells how many
    /// [other](TaskError::others) tasks have failed as well. Values of tasks that had ended before are dropped then.
    /// Outcomes that the stream has handed out before are not part of this. A paused group is resumed, for nobody else
    /// could.
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

    /// Resolves when every task has ended, to all outcomes in the order in which the tasks were added. Outcomes that the
    /// stream has handed out before are not among them. A paused group is resumed, for nobody else could.
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

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended<T>>> {
        let ended = self.members.poll_next_unpin(cx).map(|polled| {
            polled.map(|polled| match polled {
                Polled::Ended(ended) => ended,
                Polled::Panicked(member, payload) => {
                    self.members.push(member);
                    resume_unwind(payload)
                }
            })
        });
        let task = if let Poll::Ready(Some((_, task, _))) = &ended { Some(task) } else { None };
        if let Some(task) = task {
            self.tallied.note_ended(task);
        }
        #[cfg(feature = "indicatif")]
        if let Some(bars) = &self.bars {
            self.tallied.viewer.register(cx.waker());
            bars.draw(&self.tallied);
            task.into_iter().for_each(|task| bars.note_ended(task));
        }
        ended
    }
}

#[cfg(feature = "indicatif")]
impl<T> TaskGroup<T> {
    /// Shows the group on the terminal: a bar for each task that is running, as far as they fit, and one for all of
    /// them.
    ///
    /// They are drawn where the group is polled, at most once per report interval. A bar appears when its task starts
    /// and goes when that ends; the last one stays, until it is [cleared](crate::GroupBars::clear). Where standard error
    /// is no terminal there is a line for each start and each end instead.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// let bars = group.show_bars();
    /// for n in 1..=3 {
    ///     group.add(executor.spawn(move |progress| Ok(progress.iter(0..n).count())));
    /// }
    /// bars.println("digging");
    /// group.join().wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn show_bars(&mut self) -> crate::GroupBars {
        self.show(crate::GroupBars::new())
    }

    /// The same with bars that were made before, to show them elsewhere than on standard error.
    pub fn show(&mut self, bars: crate::GroupBars) -> crate::GroupBars {
        self.keep_tally();
        self.tallied.admit_viewer();
        for member in self.members.iter_mut() {
            draw_within(&mut member.future, &bars, &self.tallied);
        }
        bars.draw(&self.tallied);
        self.bars = Some(bars.clone());
        bars
    }
}

/// A task that runs inside of the poll is to be seen while it does.
#[cfg(feature = "indicatif")]
fn draw_within<T>(task: &mut ProgressFuture<T>, bars: &crate::GroupBars, tallied: &Arc<Tallied>) {
    if task.core().state.load() & crate::state::INLINE != 0 {
        let (bars, tallied) = (bars.clone(), tallied.clone());
        task.add_progress_callback(move |_, _| bars.draw(&tallied));
    }
}

impl<T> Stream for TaskGroup<T> {
    type Item = (TaskId, Result<T, TaskError>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_ended(cx).map(|ended| ended.map(|(_, task, outcome)| (task.core.id(), outcome)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

/// Ended once it has said so; until a task is added.
impl<T> FusedStream for TaskGroup<T> {
    fn is_terminated(&self) -> bool {
        self.members.is_terminated()
    }
}

impl<T> Drop for TaskGroup<T> {
    fn drop(&mut self) {
        self.cancel_because(CancelCause::Dropped);
        self.tallied.flush();
        #[cfg(feature = "indicatif")]
        if let Some(bars) = &self.bars {
            bars.finish(&self.tallied);
        }
    }
}

impl<T> Default for TaskGroup<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Extend<ProgressFuture<T>> for TaskGroup<T> {
    fn extend<I: IntoIterator<Item = ProgressFuture<T>>>(&mut self, tasks: I) {
        for task in tasks {
            self.add(task);
        }
    }
}

impl<T> FromIterator<ProgressFuture<T>> for TaskGroup<T> {
    fn from_iter<I: IntoIterator<Item = ProgressFuture<T>>>(tasks: I) -> Self {
        let mut group = Self::new();
        group.extend(tasks);
        group
    }
}

impl<T> fmt::Debug for TaskGroup<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("len", &self.len())
            .field("is_paused", &self.is_paused())
            .finish_non_exhaustive()
    }
}

/// Waits for every task of a group, and cancels them once one has failed; made by [`TaskGroup::join`].
#[must_use = "dropping it cancels the tasks of its group"]
pub struct Join<T> {
    /// Until it has resolved.
    group: Option<TaskGroup<T>>,
    values: Vec<(usize, T)>,
    error: Option<TaskError>,
    /// How many tasks have failed besides the first one, and not because of it.
    others: usize,
}

impl<T> Join<T> {
    /// Blocks this thread until every task has ended, for code without a runtime.
    ///
    /// # Errors
    ///
    /// The first error that a task has ended with.
    pub fn wait(self) -> Result<Vec<T>, TaskError> {
        block_on(self)
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
                Ok(_) => {}
                Err(first) if error.is_none() => {
                    values.clear();
                    *error = Some(first);
                    unended.cancel_because(CancelCause::GroupFailed);
                }
                Err(error) if *error.kind() == TaskErrorKind::Cancelled(CancelCause::GroupFailed) => {}
                Err(_) => *others += 1,
            }
        }
        // Whoever observes it has seen the last of it when this resolves.
        *group = None;
        Poll::Ready(match error.take() {
            Some(error) => Err(error.with_others(*others)),
            None => Ok(in_order(values)),
        })
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

/// Waits for every task of a group; made by [`TaskGroup::join_all`].
#[must_use = "dropping it cancels the tasks of its group"]
pub struct JoinAll<T> {
    /// Until it has resolved.
    group: Option<TaskGroup<T>>,
    outcomes: Vec<(usize, Result<T, TaskError>)>,
}

impl<T> JoinAll<T> {
    /// Blocks this thread until every task has ended, for code without a runtime.
    pub fn wait(self) -> Vec<Result<T, TaskError>> {
        block_on(self)
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
        *group = None;
        Poll::Ready(in_order(outcomes))
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

/// In the order in which the tasks were added.
fn in_order<R>(results: &mut Vec<(usize, R)>) -> Vec<R> {
    results.sort_unstable_by_key(|(index, _)| *index);
    results.drain(..).map(|(_, result)| result).collect()
}
