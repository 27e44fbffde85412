//! Progress and outcome as one stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::FusedFuture;
use futures::stream::{FusedStream, Stream};
use pin_project_lite::pin_project;

use crate::error::TaskError;
use crate::future::ProgressFuture;
use crate::progress::ProgressState;
use crate::task::subscribers::Latest;

/// Something that a task has come to, from [`TaskEvents`].
#[derive(Debug)]
pub enum TaskEvent<T> {
    /// The task's progress has changed.
    Progress(ProgressState),
    /// The task has ended. This is the last event.
    Done(Result<T, TaskError>),
}

pin_project! {
    /// A stream of a task's progress that ends with its outcome, made by [`ProgressFuture::events`].
    ///
    /// It starts with the current state, shows changes as [`updates`](ProgressFuture::updates) does (at most one per
    /// report interval, always the newest), then the last state, and then [`TaskEvent::Done`].
    ///
    /// Dropping it drops the future, and so cancels the task. The future can be reached by
    /// [`get_ref`](Self::get_ref), and its callbacks and bars are served while the stream is polled.
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
    ///     }
    /// }
    /// # });
    /// ```
    #[derive(Debug)]
    #[must_use = "dropping the stream cancels its task"]
    pub struct TaskEvents<T> {
        #[pin]
        future: ProgressFuture<T>,
        // What is to be handed out next.
        latest: Arc<Latest<ProgressState>>,
        outcome: Option<Result<T, TaskError>>,
    }
}

impl<T> ProgressFuture<T> {
    /// A stream of the task's progress that ends with its outcome.
    pub fn events(mut self) -> TaskEvents<T> {
        let (now, latest) = (self.progress(), Latest::new());
        self.observe(Box::new(latest.clone()), now.clone());
        latest.set(now);
        TaskEvents { future: self, latest, outcome: None }
    }
}

impl<T> TaskEvents<T> {
    /// The future within.
    pub fn get_ref(&self) -> &ProgressFuture<T> {
        &self.future
    }
}

impl<T> Stream for TaskEvents<T> {
    type Item = TaskEvent<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        if let Some(state) = this.latest.take() {
            return Poll::Ready(Some(TaskEvent::Progress(state)));
        }
        if this.outcome.is_none() && !this.future.is_terminated() {
            if let Poll::Ready(outcome) = this.future.as_mut().poll(cx) {
                *this.outcome = Some(outcome);
            }
            if let Some(state) = this.latest.take() {
                return Poll::Ready(Some(TaskEvent::Progress(state)));
            }
        }
        match this.outcome.take() {
            Some(outcome) => Poll::Ready(Some(TaskEvent::Done(outcome))),
            None if this.future.is_terminated() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<T> FusedStream for TaskEvents<T> {
    fn is_terminated(&self) -> bool {
        self.latest.is_empty() && self.outcome.is_none() && self.future.is_terminated()
    }
}
