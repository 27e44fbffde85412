//! Progress and outcome as one stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::FusedFuture;
use futures::stream::{FusedStream, Stream};
use pin_project_lite::pin_project;

use crate::error::TaskError;
use crate::future::{ProgressFuture, untyped};
use crate::progress::{Origin, ProgressState};
use crate::task::lines::{Feed, News};

/// An event of a task, from [`TaskEvents`].
///
/// With the feature `serde` it can be serialized, for example as a line of JSON. Progress and errors have the fields
/// `event`, `id`, `name`, `status`, `n`, `total`, `fraction`, `elapsed` and `eta` (both in seconds), and `message`;
/// unknown values are null. Parts that have a [name](crate::Updater::named) are listed as `parts` while there are any:
/// objects with `name`, `n`, `total`, `fraction` and `depth`. An error is added as `error`, on one line with its
/// sources. A printed line has the field `line`, and a value has `output`; [`TaskEvents::labelled`] adds the id and
/// the name to these two.
///
/// ```text
/// {"event":"progress","id":7,"name":"dig","status":"running","n":3,"total":4,"fraction":0.75,"elapsed":6.0,"eta":2.0,"message":null}
/// {"event":"line","line":"a stone"}
/// {"event":"done","status":"finished","output":"struck water"}
/// ```
///
/// # Examples
///
/// ```
/// use futures::StreamExt;
/// use progress_executor::{SyncExecutor, TaskEvent};
///
/// # smol::block_on(async {
/// let mut events = SyncExecutor::new().spawn(|progress| Ok(progress.set_counts(3, 3)?)).events();
/// let mut seen = 0;
/// while let Some(event) = events.next().await {
///     match event {
///         TaskEvent::Progress(state) => seen = state.n,
///         TaskEvent::Done(outcome) => outcome?,
///         _ => {} // there may be more
///     }
/// }
/// assert_eq!(seen, 3);
/// # Ok::<(), progress_executor::TaskError>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskEvent<T> {
    /// The task's progress has changed.
    Progress(ProgressState),
    /// The task has [printed](crate::Updater::println) this line, after the progress before it and before the progress
    /// that follows.
    Line(String),
    /// The task has ended. This is the last event.
    Done(Result<T, TaskError>),
}

pin_project! {
    /// A stream of a task's progress that ends with its outcome, made by [`ProgressFuture::events`].
    ///
    /// It starts with the current state, shows changes as [`updates`](ProgressFuture::updates) does (at most one per
    /// report interval, always the newest), then the last state, and then [`TaskEvent::Done`]. Lines that the task
    /// [prints](crate::Updater::println) come in between, and are not written to standard error.
    ///
    /// Dropping it drops the future, and so cancels the task. [`get_ref`](Self::get_ref) gives access to the future,
    /// whose callbacks and bars are served while the stream is polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::{TaskEvent, ThreadPoolExecutor};
    ///
    /// # smol::block_on(async {
    /// let executor = ThreadPoolExecutor::new(1);
    /// let mut events = executor.spawn(|progress| Ok(progress.update(1)?)).events();
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         TaskEvent::Progress(state) => println!("{} so far", state.n),
    ///         TaskEvent::Done(outcome) => println!("{outcome:?}"),
    ///         _ => {} // there may be more to tell in later versions
    ///     }
    /// }
    /// # });
    /// ```
    #[derive(Debug)]
    #[must_use = "dropping the stream cancels its task"]
    pub struct TaskEvents<T> {
        #[pin]
        future: ProgressFuture<T>,
        // What the stream yields next.
        feed: Arc<Feed<ProgressState>>,
        // Attached to each state.
        origin: Origin,
        outcome: Option<Result<T, TaskError>>,
        // Whether `None` was handed out.
        is_terminated: bool,
    }
}

impl<T> ProgressFuture<T> {
    /// A stream of the task's progress that ends with its outcome. If that was taken before, the stream is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::TaskEvent;
    ///
    /// # smol::block_on(async {
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut events = executor.spawn(|progress| Ok(progress.set_counts(3, 3)?)).events();
    /// let mut last = None;
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         TaskEvent::Progress(state) => last = Some(state),
    ///         TaskEvent::Done(outcome) => outcome?,
    ///         _ => {}
    ///     }
    /// }
    /// assert_eq!(last.unwrap().n, 3); // the last state comes before the outcome
    /// # Ok::<(), progress_executor::TaskError>(())
    /// # }).unwrap();
    /// ```
    pub fn events(mut self) -> TaskEvents<T> {
        let (now, feed) = (self.progress(), Feed::new());
        feed.take_lines();
        if now.status.is_terminal() {
            // The lines that the task has printed come before its last state.
            self.observe(Box::new(feed.clone()), ProgressState::INITIAL);
        } else {
            self.observe(Box::new(feed.clone()), now.clone());
            feed.set(now);
        }
        // Nothing else can be added that takes lines. If they waited for the first poll, later progress would overtake them.
        untyped::attend(self.core());
        let origin = Origin(Some((self.id(), self.name().into())));
        TaskEvents { future: self, feed, origin, outcome: None, is_terminated: false }
    }
}

impl<T> TaskEvents<T> {
    /// The underlying future.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let events = executor.spawn(|progress| Ok(progress.sleep(std::time::Duration::MAX)?)).events();
    /// events.get_ref().cancel(); // the stream ends with that outcome
    /// # drop(events);
    /// ```
    pub fn get_ref(&self) -> &ProgressFuture<T> {
        &self.future
    }
}

impl<T> Stream for TaskEvents<T> {
    type Item = TaskEvent<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let (future, origin) = (this.future, this.origin);
        let poll = || if future.is_terminated() { Poll::Ready(None) } else { future.poll(cx).map(Some) };
        let show = |news| match news {
            News::Snapshot(state) => TaskEvent::Progress(ProgressState { origin: origin.clone(), ..state }),
            News::Line(line) => TaskEvent::Line(line.text.to_string()),
        };
        let event = poll_event(this.feed, this.outcome, poll, show, TaskEvent::Done);
        *this.is_terminated = matches!(event, Poll::Ready(None));
        event
    }
}

/// The next event of a stream: news first, and an outcome only when there are no more. `poll` returns an outcome, or
/// `None` if nothing is left.
pub(crate) fn poll_event<S, O, E>(
    feed: &Feed<S>,
    ended: &mut Option<O>,
    poll: impl FnOnce() -> Poll<Option<O>>,
    show: impl Fn(News<S>) -> E,
    end: impl FnOnce(O) -> E,
) -> Poll<Option<E>> {
    if let Some(news) = feed.next() {
        return Poll::Ready(Some(show(news)));
    }
    let mut is_over = false;
    if ended.is_none() {
        match poll() {
            Poll::Ready(Some(outcome)) => *ended = Some(outcome),
            Poll::Ready(None) => is_over = true,
            Poll::Pending => {}
        }
    }
    // News may have arrived during the poll.
    if let Some(news) = feed.next() {
        return Poll::Ready(Some(show(news)));
    }
    match ended.take() {
        Some(outcome) => Poll::Ready(Some(end(outcome))),
        None if is_over => Poll::Ready(None),
        None => Poll::Pending,
    }
}

/// Terminated once it has yielded `None`.
impl<T> FusedStream for TaskEvents<T> {
    fn is_terminated(&self) -> bool {
        self.is_terminated
    }
}
