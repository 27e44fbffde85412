//! Many tasks as one.

#[cfg(feature = "indicatif")]
pub(crate) mod bars;
pub(crate) mod join;
pub(crate) mod progress;
pub(crate) mod state;
pub(crate) mod tally;

use std::any::Any;
use std::cmp::Reverse;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use async_channel::Receiver;
use futures::future::FusedFuture;
use futures::stream::{FusedStream, FuturesUnordered, Stream, StreamExt};

use crate::error::{CancelCause, TaskError};
use crate::future::ProgressFuture;
#[cfg(feature = "indicatif")]
use crate::group::bars::GroupBars;
use crate::group::progress::GroupProgress;
use crate::group::state::GroupState;
#[cfg(feature = "indicatif")]
use crate::group::state::View;
use crate::id::TaskId;
use crate::task::TaskRef;
use crate::task::transitions;

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
/// An outcome is lost by no `select!`: `group.next()` can be dropped at any time. Dropping a [`Join`](crate::Join) drops the group
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
///     group.add(executor.submit(|n, progress| Ok(progress.iter(0..n).sum::<Result<u64, _>>()?), n));
/// }
/// let mut sum = 0;
/// while let Some((id, outcome)) = group.next().await {
///     println!("{id}: {outcome:?}, {:?} of all", group.progress().fraction());
///     sum += outcome?;
/// }
/// assert_eq!(sum, 4);
/// # Ok::<(), progress_executor::TaskError>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping the group cancels its tasks"]
pub struct TaskGroup<T> {
    members: FuturesUnordered<Member<T>>,
    state: Arc<GroupState>,
    /// How many tasks were added.
    added: usize,
    is_paused: AtomicBool,
    #[cfg(feature = "indicatif")]
    bars: Option<(GroupBars, Arc<View>)>,
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
            state: GroupState::new(),
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
    #[cfg_attr(not(feature = "indicatif"), expect(unused_mut, reason = "only bars change it"))]
    pub fn add(&mut self, mut task: ProgressFuture<T>) -> TaskId {
        let id = task.id();
        if task.is_terminated() {
            return id;
        }
        #[cfg(feature = "indicatif")]
        if let Some((bars, view)) = &self.bars {
            draw_within(&mut task, bars, view);
        }
        if self.is_paused() {
            task.pause();
        }
        if self.state.is_kept() {
            self.state.observe(&task.task());
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
        self.state.progress()
    }

    /// A new receiver of the group's progress: of its current state, then of changes, at most one per report interval,
    /// always the newest. See [`ProgressFuture::updates`].
    ///
    /// It needs nobody to poll the group, and outlives it. It is closed after the last state, when the group is gone and
    /// its tasks have ended.
    #[must_use]
    pub fn updates(&self) -> Receiver<GroupProgress> {
        self.keep_tally();
        self.state.subscribe()
    }

    fn keep_tally(&self) {
        self.state.keep(self.members.iter().map(|member| member.future.task()));
    }

    /// Asks every task to end, the last ones first; see [`ProgressFuture::cancel`].
    pub fn cancel(&self) {
        self.cancel_because(CancelCause::Requested);
    }

    pub(crate) fn cancel_because(&self, cause: CancelCause) {
        let mut tasks: Vec<_> = self.members.iter().map(|member| member.future.task()).collect();
        // Or else workers that become free would start those that are cancelled next.
        tasks.sort_by_key(|task| Reverse(task.core.id()));
        for task in &tasks {
            transitions::cancel(task, cause);
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

    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended<T>>> {
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
            self.state.note_ended(task);
        }
        #[cfg(feature = "indicatif")]
        if let Some((bars, view)) = &self.bars {
            self.state.waiter.register(cx.waker());
            bars.draw(view);
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
    ///     group.add(executor.spawn(move |progress| Ok(progress.iter(0..n).sum::<Result<u64, _>>()?)));
    /// }
    /// bars.println("digging");
    /// group.join().wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn show_bars(&mut self) -> GroupBars {
        self.show(GroupBars::new())
    }

    /// The same with bars that were made before, to show them elsewhere than on standard error.
    pub fn show(&mut self, bars: GroupBars) -> GroupBars {
        self.keep_tally();
        let view = View::new(self.state.clone());
        for member in self.members.iter_mut() {
            draw_within(&mut member.future, &bars, &view);
        }
        bars.draw(&view);
        self.bars = Some((bars.clone(), view));
        bars
    }
}

/// A task that runs inside of the poll is to be seen while it does.
#[cfg(feature = "indicatif")]
fn draw_within<T>(task: &mut ProgressFuture<T>, bars: &GroupBars, view: &Arc<View>) {
    if task.core().state.load() & crate::task::state::INLINE != 0 {
        let (bars, view) = (bars.clone(), view.clone());
        task.add_progress_callback(move |_, _| bars.draw(&view));
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
        self.state.flush();
        #[cfg(feature = "indicatif")]
        if let Some((bars, view)) = &self.bars {
            bars.finish(view);
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
