//! Many tasks as one.

#[cfg(feature = "indicatif")]
pub(crate) mod bars;
#[cfg(feature = "serde")]
mod event_record;
pub(crate) mod events;
pub(crate) mod handle;
pub(crate) mod join;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod run_times;
pub(crate) mod state;
pub(crate) mod tally;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_channel::Receiver;
use futures::future::FusedFuture;
use futures::stream::{FusedStream, FuturesUnordered, Stream, StreamExt};

use crate::error::{CancelCause, TaskError};
use crate::future::ProgressFuture;
#[cfg(feature = "indicatif")]
use crate::group::bars::GroupBars;
#[cfg(feature = "indicatif")]
use crate::group::bars::shown::Shown;
use crate::group::handle::GroupHandle;
use crate::group::progress::GroupProgress;
use crate::group::report::GroupReport;
use crate::group::state::{Entry, GroupState};
use crate::group::tally::Unit;
use crate::id::TaskId;
use crate::sync::duty;
use crate::sync::unwind::drop_quietly;
use crate::task::TaskRef;
use crate::task::callbacks::{Callback, CallbackId, Callbacks, Observer};

/// Tasks that belong together: a stream of their outcomes in the order in which they end, with one progress for all.
///
/// Tasks can be added at any time, even while the stream is being read; the stream ends when all of them have ended. The group
/// takes no part in running them: they run whether or not it is polled, except those of a
/// [`SyncExecutor`](crate::SyncExecutor), each of which runs within a poll, and meanwhile keeps the group from noticing
/// anything else.
///
/// | | the tasks | resolves when |
/// |---|---|---|
/// | [`join`](Self::join) | the first failure cancels the rest | all have ended, with all values or the first error |
/// | [`join_all`](Self::join_all) | run to their ends | all have ended, with all outcomes |
/// | as a stream | run to their ends | each has ended |
/// | [`cancel`](Self::cancel) | are cancelled | |
/// | drop the group | are cancelled, their outcomes are dropped | |
///
/// Without a runtime, `futures::executor::block_on_stream(group)` is an ordinary iterator over the outcomes.
///
/// # Cancel safety
///
/// No `select!` loses an outcome: `group.next()` can be dropped at any time. Dropping a [`Join`](crate::Join) drops the group
/// in it, and so cancels its tasks. A `select!` over [`updates`](Self::updates) and `join` may see the end before the last
/// state; [callbacks](Self::add_progress_callback) and [`events`](Self::events) always show the last state first.
///
/// # Panics
///
/// Polling the group panics if [polling](ProgressFuture#panics) one of its futures does, or if a callback of the group panics;
/// no outcome is lost, and the group can be polled again.
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
#[doc(alias("join_set", "scope", "as_completed"))]
#[must_use = "dropping the group cancels its tasks"]
pub struct TaskGroup<T> {
    members: FuturesUnordered<Member<T>>,
    state: Arc<GroupState>,
    /// How many tasks were added.
    added: usize,
    /// The outcome to hand out next.
    ended: Option<Ended<T>>,
    callbacks: Option<Arc<Callbacks<GroupProgress>>>,
    #[cfg(feature = "indicatif")]
    bars: Option<Shown>,
}

/// A task, and its index in the order in which tasks were added.
struct Member<T> {
    index: usize,
    entry: Entry,
    future: ProgressFuture<T>,
}

type Ended<T> = (usize, TaskRef, Result<T, TaskError>);

enum Polled<T> {
    Ended(Ended<T>, Entry),
    /// A callback has panicked, which ends neither the task nor the group.
    Panicked(Member<T>, Box<dyn Any + Send>),
}

impl<T> Future for Member<T> {
    type Output = Polled<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { index, entry, future } = &mut *self;
        // `FuturesUnordered` would drop a future that panics.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *future).poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(outcome)) => Poll::Ready(Polled::Ended((*index, future.task(), outcome), mem::take(entry))),
            Err(payload) => {
                let member = Self { index: *index, entry: mem::take(entry), future: future.take() };
                Poll::Ready(Polled::Panicked(member, payload))
            }
        }
    }
}

impl<T> TaskGroup<T> {
    /// A group without tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// let group = progress_executor::TaskGroup::<u64>::new();
    /// assert!(group.join().wait()?.is_empty()); // nothing to wait for
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn new() -> Self {
        Self {
            members: FuturesUnordered::new(),
            state: GroupState::new(Unit::OfTasks),
            added: 0,
            ended: None,
            callbacks: None,
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
    pub fn add(&mut self, task: ProgressFuture<T>) -> TaskId {
        let id = task.id();
        self.push(task);
        id
    }

    /// Does not touch the memory of the task unless the group has been asked for something: a thread may be at work on
    /// it.
    fn push(&mut self, mut task: ProgressFuture<T>) {
        if task.is_terminated() {
            return;
        }
        #[cfg(feature = "indicatif")]
        if let Some(bars) = &self.bars {
            bars.draw_within(&mut task);
        }
        if let Some(callbacks) = &self.callbacks {
            call_back_within(&mut task, &self.state, callbacks);
        }
        let entry = self.state.add(|| task.task(), 0);
        self.members.push(Member { index: self.added, entry, future: task });
        self.added += 1;
    }

    /// The state, which knows the tasks from now on.
    pub(crate) fn known(&self) -> &Arc<GroupState> {
        self.state.know(self.members.iter().map(|member| (member.future.task(), &member.entry)));
        &self.state
    }

    /// How many tasks there are whose outcomes have not been handed out.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut group = progress_executor::TaskGroup::new();
    /// group.extend((0..3).map(|n| executor.spawn(move |_| Ok(n))));
    /// assert_eq!(group.len(), 3);
    /// let _ = futures::executor::block_on_stream(&mut group).next();
    /// assert_eq!(group.len(), 2);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len() + usize::from(self.ended.is_some())
    }

    /// Whether every outcome was handed out.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut group = progress_executor::TaskGroup::new();
    /// assert!(group.is_empty());
    /// group.add(executor.spawn(|_| Ok(())));
    /// assert!(!group.is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How far all tasks that were ever added have come, right now.
    ///
    /// From the first call of this method or of [`updates`](Self::updates) on, the group observes its tasks. Each of
    /// their reports then has a constant cost, however many tasks there are, and so has this method, apart from a cost
    /// for each running task.
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
        self.known().progress()
    }

    /// A new receiver of the group's progress: it yields the current state, then changes, at most one per report
    /// interval, always the newest. See [`ProgressFuture::updates`].
    ///
    /// It works even if the group is not polled, and outlives it. It is closed after the last state, when the group is
    /// gone and its tasks have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// let updates = group.updates();
    /// group.extend((0..3).map(|_| executor.spawn(|progress| Ok(progress.set_counts(5, 5)?))));
    /// let viewer = std::thread::spawn(move || {
    ///     let mut last = None;
    ///     while let Ok(progress) = updates.recv_blocking() {
    ///         last = Some(progress);
    ///     }
    ///     last.unwrap()
    /// });
    /// group.join().wait()?;
    /// assert_eq!(viewer.join().unwrap().n, 15);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn updates(&self) -> Receiver<GroupProgress> {
        self.known().subscribe()
    }

    /// Calls `f` with the old and the new progress whenever it changes, at most once per report interval.
    ///
    /// Callbacks run where the group is polled, including within [`join`](Self::join), in the order in which they were added.
    /// The first `old` is that of a group without tasks, so that nothing is missed; each further `old` is the previous `new`.
    /// Tasks of a [`SyncExecutor`](crate::SyncExecutor), which run inside the poll, show every single change.
    ///
    /// The last progress is always shown before the end: before the last outcome is handed out, and before a `join`
    /// resolves.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use std::sync::Arc;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// let finished = Arc::new(AtomicUsize::new(0));
    /// let sink = finished.clone();
    /// group.add_progress_callback(move |_, new| sink.store(new.finished, Ordering::Relaxed));
    /// group.extend((0..3).map(|n| executor.spawn(move |_| Ok(n))));
    /// group.join().wait()?;
    /// assert_eq!(finished.load(Ordering::Relaxed), 3);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn add_progress_callback(
        &mut self,
        f: impl FnMut(&GroupProgress, &GroupProgress) + Send + 'static,
    ) -> CallbackId {
        self.show_to(Box::new(Callback(f)), GroupProgress::default())
    }

    /// Removes a callback. Returns whether it was there.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut group = progress_executor::TaskGroup::<()>::new();
    /// let id = group.add_progress_callback(|_, new| println!("{}", new.n));
    /// assert!(group.remove_progress_callback(id));
    /// assert!(!group.remove_progress_callback(id));
    /// ```
    pub fn remove_progress_callback(&mut self, id: CallbackId) -> bool {
        self.callbacks.as_ref().is_some_and(|callbacks| callbacks.remove(id))
    }

    /// [Adds a callback](Self::add_progress_callback), and returns the group.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let group: progress_executor::TaskGroup<u32> = (0..3).map(|n| executor.spawn(move |_| Ok(n))).collect();
    /// let group = group.on_progress(|_, new| println!("{} of {} ended", new.ended(), new.tasks()));
    /// assert_eq!(group.join().wait()?, [0, 1, 2]);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn on_progress(mut self, f: impl FnMut(&GroupProgress, &GroupProgress) + Send + 'static) -> Self {
        self.add_progress_callback(f);
        self
    }

    /// Adds an observer that has already seen `seen`.
    pub(crate) fn show_to(&mut self, observer: Box<dyn Observer<GroupProgress>>, seen: GroupProgress) -> CallbackId {
        let callbacks = self.callbacks(observer.takes_lines());
        self.state.refresh(&callbacks.latest);
        let id = callbacks.add(observer, seen);
        // The next poll of the group has something to show.
        self.state.waiter.wake();
        id
    }

    /// The callbacks, made if there are none yet. With `take_lines`, they also get the lines that were printed before.
    pub(crate) fn callbacks(&mut self, take_lines: bool) -> Arc<Callbacks<GroupProgress>> {
        let callbacks = self.callbacks.clone().unwrap_or_else(Callbacks::new);
        if take_lines {
            callbacks.latest.take_lines();
        }
        if self.callbacks.is_some() {
            self.state.take_lines_left();
        } else {
            self.callbacks = Some(callbacks.clone());
            self.known().admit_feed(&callbacks.latest);
            for member in self.members.iter_mut() {
                call_back_within(&mut member.future, &self.state, &callbacks);
            }
        }
        callbacks
    }

    /// When and where each task has run, and how it has ended, for all that have started or ended by now.
    ///
    /// It need not be asked for beforehand. Of tasks whose outcomes were handed out, it lists the last 131,072; the
    /// [summary](GroupReport) covers all.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::{Status, TaskGroup, ThreadPoolExecutor};
    ///
    /// # smol::block_on(async {
    /// let executor = ThreadPoolExecutor::new(2);
    /// let mut group: TaskGroup<u32> = (0..3).map(|n| executor.spawn(move |_| Ok(n))).collect();
    /// while group.next().await.is_some() {}
    /// let report = group.report();
    /// assert!(report.tasks().iter().all(|task| task.status == Status::Finished && task.ended >= task.started));
    /// println!("{report}"); // 3 ended: 3 finished; ..
    /// # });
    /// ```
    #[must_use]
    pub fn report(&self) -> GroupReport {
        self.known().report()
    }

    /// A handle to control the group from elsewhere, even while it is being joined.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{TaskGroup, TaskResult, ThreadPoolExecutor, Updater};
    ///
    /// fn wait_for_news((): (), progress: &Updater) -> TaskResult<()> {
    ///     loop {
    ///         progress.update(1)?;
    ///     }
    /// }
    ///
    /// let executor = ThreadPoolExecutor::new(2);
    /// let mut group = TaskGroup::new();
    /// let handle = group.handle(); // of all tasks, also of those that are added later
    /// group.extend((0..4).map(|_| executor.submit(wait_for_news, ())));
    /// std::thread::spawn(move || handle.cancel()); // on Ctrl-C, say
    /// assert!(group.join().wait().unwrap_err().is_cancelled());
    /// ```
    #[must_use]
    pub fn handle(&self) -> GroupHandle {
        GroupHandle::new(self.known().clone())
    }

    /// Asks every task to end that is in the group now; see [`ProgressFuture::cancel`]. No pending task is started while the
    /// others are being told. Tasks that are added afterwards are not affected, so the group can be used again.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// group.extend((0..3).map(|_| executor.spawn(|progress| Ok(progress.sleep(std::time::Duration::MAX)?))));
    /// group.cancel();
    /// let outcomes = group.join_all().wait();
    /// assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|error| error.is_cancelled())));
    /// ```
    pub fn cancel(&self) {
        self.cancel_because(CancelCause::Requested);
    }

    pub(crate) fn cancel_because(&self, cause: CancelCause) {
        // Making them known first would take some time for each: others would start meanwhile.
        let unknown = (!self.state.knows()).then(|| self.members.iter());
        self.state.cancel(unknown.into_iter().flatten().map(|member| member.future.task()), cause);
    }

    /// Makes every task wait, including those that are added later; see [`ProgressFuture::pause`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut group = progress_executor::TaskGroup::new();
    /// group.extend((0..3).map(|n| executor.spawn(move |_| Ok(n))));
    /// group.pause();
    /// assert_eq!(group.progress().paused, 3);
    /// group.resume();
    /// assert_eq!(group.join().wait()?, [0, 1, 2]);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn pause(&self) {
        self.known().pause();
    }

    /// Lets every task go on.
    pub fn resume(&self) {
        if self.state.knows() {
            self.state.resume();
        } else {
            self.members.iter().for_each(|member| member.future.resume());
        }
    }

    /// Ready when all observers of the group have been shown its last state. No task may be added any more.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Registered first: a thread that is still notifying wakes us, and one that has finished is seen below.
        self.state.waiter.register(cx.waker());
        if self.state.close() { Poll::Ready(()) } else { duty::pending() }
    }

    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended<T>>> {
        let mut is_over = false;
        if self.ended.is_none() {
            match self.poll_member(cx) {
                Poll::Ready(Some(ended)) => self.ended = Some(ended),
                Poll::Ready(None) => is_over = true,
                Poll::Pending => {}
            }
            #[cfg(feature = "indicatif")]
            if let Some(bars) = &self.bars {
                bars.draw(cx, self.ended.as_ref().map(|(_, task, _)| task));
                if is_over {
                    bars.rest();
                }
            }
        }
        // If this panics, the outcome is kept.
        self.call_back(cx);
        match self.ended.take() {
            None if !is_over => duty::pending(),
            ended => Poll::Ready(ended),
        }
    }

    fn poll_member(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended<T>>> {
        self.members.poll_next_unpin(cx).map(|polled| {
            polled.map(|polled| match polled {
                Polled::Ended(ended, entry) => {
                    self.state.note_ended(&ended.1, &entry);
                    ended
                }
                Polled::Panicked(member, payload) => {
                    self.members.push(member);
                    resume_unwind(payload)
                }
            })
        })
    }

    /// Shows the callbacks what has changed.
    fn call_back(&self, cx: &mut Context<'_>) {
        let Some(callbacks) = &self.callbacks else { return };
        // Registered first: what changes after this wakes us.
        self.state.waiter.register(cx.waker());
        if self.members.is_empty() {
            // No event will follow that would show the last change.
            self.state.refresh(&callbacks.latest);
        }
        callbacks.catch_up();
        callbacks.raise();
    }
}

#[cfg(feature = "indicatif")]
impl<T> TaskGroup<T> {
    /// Shows the group on the terminal: a bar for each running task, as many as fit, and one for the whole group.
    ///
    /// They are drawn where the group is polled, at most 20 times a second. A bar appears when its task starts and
    /// disappears when it ends; the last one stays, until it is [cleared](crate::GroupBars::clear). If standard error
    /// is not a terminal, there is a line for each start and each end instead, and one for the whole group at the end.
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

    /// [Shows the group](Self::show_bars) with the given bars, to show it elsewhere than on standard error. Bars that have
    /// shown the group until now are cleared.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{GroupBars, TaskGroup};
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = TaskGroup::new();
    /// group.show(GroupBars::lines(std::io::stdout())); // for a log
    /// group.add(executor.spawn_named("save", |_| Ok(())));
    /// group.join().wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn show(&mut self, bars: GroupBars) -> GroupBars {
        self.bars.take().into_iter().for_each(|before| before.give_way(&bars));
        let shown = Shown::new(self.known(), bars.clone());
        for member in self.members.iter_mut() {
            shown.draw_within(&mut member.future);
        }
        self.bars = Some(shown);
        bars
    }
}

/// Calls the group's callbacks from within a task that runs where it is polled.
fn call_back_within<T>(
    task: &mut ProgressFuture<T>,
    group: &Arc<GroupState>,
    callbacks: &Arc<Callbacks<GroupProgress>>,
) {
    if task.is_inline() {
        let (group, callbacks) = (group.clone(), callbacks.clone());
        task.add_progress_callback(move |_, _| {
            group.refresh(&callbacks.latest);
            callbacks.catch_up();
        });
    }
}

/// Nothing in a group is pinned.
impl<T> Unpin for TaskGroup<T> {}

impl<T> Stream for TaskGroup<T> {
    type Item = (TaskId, Result<T, TaskError>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_ended(cx).map(|ended| ended.map(|(_, task, outcome)| (task.core.id(), outcome)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

/// Terminated once it has yielded `None`, until a task is added.
impl<T> FusedStream for TaskGroup<T> {
    fn is_terminated(&self) -> bool {
        self.members.is_terminated() && self.ended.is_none()
    }
}

impl<T> Drop for TaskGroup<T> {
    fn drop(&mut self) {
        self.cancel_because(CancelCause::Dropped);
        drop_quietly(self.ended.take());
        // The tasks may go on for long.
        drop_quietly(self.state.waiter.take());
        self.state.close();
        if let Some(callbacks) = &self.callbacks {
            callbacks.leave(&self.known().progress());
        }
        #[cfg(feature = "indicatif")]
        if let Some(bars) = &self.bars {
            bars.finish();
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
            self.push(task);
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
            .field("is_paused", &self.state.is_paused())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;
    use crate::task::idle::Idle;

    #[test]
    fn tasks_need_not_be_known_to_be_cancelled() {
        let mut group = TaskGroup::new();
        let tasks: Vec<TaskRef> = (0..3)
            .map(|_| {
                let (task, handle) = run::new(Idle, None);
                group.add(ProgressFuture::new(handle));
                task
            })
            .collect();
        group.cancel();
        assert!(!group.state.knows());
        assert!(tasks.iter().all(|task| task.core.has_ended()));
        assert_eq!(group.progress().cancelled, 3);
    }
}
