//! The progress and the outcomes of a group as one stream.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{FusedStream, Stream, StreamExt};

use crate::error::TaskError;
use crate::future::events::poll_event;
use crate::group::TaskGroup;
use crate::group::progress::GroupProgress;
use crate::id::TaskId;
use crate::task::lines::{Feed, News};

/// An event of a group, from [`GroupEvents`].
///
/// With the feature `serde` it can be serialized, for example as a line of JSON. Progress has the fields `event`, `n`, `total`,
/// `fraction`, `elapsed` and `eta` (both in seconds), and the number of tasks for each status. The end of a task is serialized
/// as for a [`TaskEvent`](crate::TaskEvent), but named `ended`. With an `output`, it also has the `id` of the task, and so has
/// a `line`.
///
/// # Examples
///
/// ```
/// use futures::StreamExt;
/// use progress_executor::{GroupEvent, SyncExecutor, TaskGroup};
///
/// # smol::block_on(async {
/// let executor = SyncExecutor::new();
/// let mut group = TaskGroup::new();
/// group.add(executor.spawn(|_| Ok(6 * 7)));
/// let mut events = group.events();
/// while let Some(event) = events.next().await {
///     match event {
///         GroupEvent::Progress(progress) => println!("{} of {} tasks", progress.ended(), progress.tasks()),
///         GroupEvent::Ended(_, outcome) => assert_eq!(outcome?, 42),
///         _ => {} // there may be more
///     }
/// }
/// # Ok::<(), progress_executor::TaskError>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum GroupEvent<T> {
    /// The group's progress has changed.
    Progress(GroupProgress),
    /// A task has [printed](crate::Updater::println) this line.
    Line(TaskId, String),
    /// A task has ended.
    Ended(TaskId, Result<T, TaskError>),
}

/// A stream of a group's progress and of the outcomes of its tasks, made by [`TaskGroup::events`].
///
/// It starts with the current progress, after the lines that tasks have [printed](crate::Updater::println) before. It shows
/// changes as [`updates`](TaskGroup::updates) does (at most one per report interval, always the newest), in order with further
/// lines, and each outcome as soon as there is one. The last progress comes before the last outcome, whatever else a `select!`
/// waits for, and all lines of a task come before its outcome.
///
/// Tasks can be added with [`get_mut`](Self::get_mut), even while the stream is being read; the stream ends when all
/// of them have ended.
///
/// Dropping it drops the group, and so cancels its tasks. `events.next()` can be dropped at any time; nothing is lost.
///
/// # Examples
///
/// ```
/// use futures::StreamExt;
/// use progress_executor::{GroupEvent, TaskGroup, ThreadPoolExecutor};
///
/// # smol::block_on(async {
/// let executor = ThreadPoolExecutor::new(2);
/// let group: TaskGroup<u32> = (0..3).map(|n| executor.spawn(move |_| Ok(n))).collect();
/// let (mut events, mut finished) = (group.events(), 0);
/// while let Some(event) = events.next().await {
///     match event {
///         GroupEvent::Progress(progress) => finished = progress.finished,
///         GroupEvent::Ended(id, outcome) => println!("{id}: {outcome:?}"),
///         _ => {}
///     }
/// }
/// assert_eq!(finished, 3);
/// # });
/// ```
#[must_use = "dropping the stream cancels the tasks of its group"]
pub struct GroupEvents<T> {
    group: TaskGroup<T>,
    /// What the stream yields next, and then the outcome in `ended`.
    feed: Arc<Feed<GroupProgress>>,
    ended: Option<(TaskId, Result<T, TaskError>)>,
    is_terminated: bool,
}

impl<T> TaskGroup<T> {
    /// A stream of the group's progress and of the outcomes of its tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::GroupEvent;
    ///
    /// # smol::block_on(async {
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut group = progress_executor::TaskGroup::new();
    /// group.extend((0..3).map(|n| executor.spawn(move |_| Ok(n))));
    /// let outcomes = group.events().filter_map(async |event| match event {
    ///     GroupEvent::Ended(_, outcome) => outcome.ok(),
    ///     _ => None,
    /// });
    /// assert_eq!(outcomes.collect::<Vec<_>>().await, [0, 1, 2]);
    /// # });
    /// ```
    pub fn events(mut self) -> GroupEvents<T> {
        let feed = Feed::new();
        feed.take_lines();
        if self.is_empty() {
            let now = self.progress();
            self.show_to(Box::new(feed.clone()), now.clone());
            feed.set(now);
            return GroupEvents { group: self, feed, ended: None, is_terminated: false };
        }
        let is_alone = self.callbacks.is_none();
        // It is shown all that waits to be shown, in order and up to the present. A state that is read here could be newer than
        // one that waits behind a line.
        self.show_to(Box::new(feed.clone()), GroupProgress::default());
        if let Some(callbacks) = self.callbacks.as_ref().filter(|_| is_alone) {
            // Calls nothing else.
            callbacks.catch_up();
        }
        GroupEvents { group: self, feed, ended: None, is_terminated: false }
    }
}

impl<T> GroupEvents<T> {
    /// The underlying group.
    pub fn get_ref(&self) -> &TaskGroup<T> {
        &self.group
    }

    /// The underlying group, to add tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::GroupEvent;
    ///
    /// # smol::block_on(async {
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut group = progress_executor::TaskGroup::new();
    /// group.add(executor.spawn(|_| Ok(1)));
    /// let (mut events, mut values) = (group.events(), Vec::new());
    /// while let Some(event) = events.next().await {
    ///     if let GroupEvent::Ended(_, Ok(value)) = event {
    ///         values.push(value);
    ///         if value == 1 {
    ///             events.get_mut().add(executor.spawn(|_| Ok(2)));
    ///         }
    ///     }
    /// }
    /// assert_eq!(values, [1, 2]);
    /// # });
    /// ```
    pub fn get_mut(&mut self) -> &mut TaskGroup<T> {
        // Whatever is added, it has yet to be read.
        self.is_terminated = false;
        &mut self.group
    }
}

impl<T> Unpin for GroupEvents<T> {}

impl<T> Stream for GroupEvents<T> {
    type Item = GroupEvent<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { group, feed, ended, is_terminated } = &mut *self;
        let poll = || group.poll_next_unpin(cx);
        let show = |news| match news {
            News::Snapshot(progress) => GroupEvent::Progress(progress),
            News::Line(line) => GroupEvent::Line(line.task, line.text.to_string()),
        };
        let event = poll_event(feed, ended, poll, show, |(id, outcome)| GroupEvent::Ended(id, outcome));
        *is_terminated = matches!(event, Poll::Ready(None));
        event
    }
}

/// Terminated once it has yielded `None`, unless the group was [taken to be changed](GroupEvents::get_mut) since.
impl<T> FusedStream for GroupEvents<T> {
    fn is_terminated(&self) -> bool {
        self.is_terminated
    }
}

impl<T> fmt::Debug for GroupEvents<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupEvents").field("group", &self.group).finish_non_exhaustive()
    }
}
