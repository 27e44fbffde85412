//! The tasks of a map that were submitted, and whose outcomes were not handed out.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{FuturesOrdered, FuturesUnordered, StreamExt};

use crate::error::TaskError;
use crate::executor::chunk::{Chunk, Outcomes};
use crate::future::ProgressFuture;
use crate::task::TaskRef;

pub(crate) struct InFlight<I, O> {
    /// What goes on in place of a chunk that was lost: it comes before those that follow in order.
    first: Option<Member<I, O>>,
    /// Those that were submitted before the order was given up.
    ordered: FuturesOrdered<Member<I, O>>,
    unordered: FuturesUnordered<Member<I, O>>,
    pub(crate) is_ordered: bool,
    /// Which of the first and of the ordered ones are chunks, in their order.
    chunks: VecDeque<Option<Arc<Chunk<I, O>>>>,
    /// What has come of chunks without order.
    outcomes: Arc<Outcomes<O>>,
}

/// A task, which is handed out with its outcome.
enum Member<I, O> {
    Item(ProgressFuture<O>),
    Chunk(ProgressFuture<()>, Arc<Chunk<I, O>>),
}

pub(crate) enum Ended<I, O> {
    Item(TaskRef, Result<O, TaskError>),
    Chunk(TaskRef, Arc<Chunk<I, O>>, Result<(), TaskError>),
}

impl<I, O> Future for Member<I, O> {
    type Output = Ended<I, O>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Item(future) => Pin::new(&mut *future).poll(cx).map(|outcome| Ended::Item(future.task(), outcome)),
            Self::Chunk(future, chunk) => {
                let outcome = Pin::new(&mut *future).poll(cx);
                outcome.map(|outcome| Ended::Chunk(future.task(), chunk.clone(), outcome))
            }
        }
    }
}

impl<I, O> InFlight<I, O> {
    pub(crate) fn new() -> Self {
        Self {
            first: None,
            ordered: FuturesOrdered::new(),
            unordered: FuturesUnordered::new(),
            is_ordered: true,
            chunks: VecDeque::new(),
            outcomes: Outcomes::new(),
        }
    }

    /// How many tasks there are.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.ordered.len() + self.unordered.len()
    }

    /// Where a chunk that is submitted next is to put what comes of it.
    pub(crate) fn outcomes(&self) -> Arc<Outcomes<O>> {
        if self.is_ordered { Outcomes::new() } else { self.outcomes.clone() }
    }

    pub(crate) fn push_item(&mut self, task: ProgressFuture<O>) {
        self.push(Member::Item(task), None);
    }

    pub(crate) fn push_chunk(&mut self, task: ProgressFuture<()>, chunk: Arc<Chunk<I, O>>) {
        self.push(Member::Chunk(task, chunk.clone()), Some(chunk));
    }

    fn push(&mut self, member: Member<I, O>, chunk: Option<Arc<Chunk<I, O>>>) {
        if self.is_ordered {
            self.ordered.push_back(member);
            self.chunks.push_back(chunk);
        } else {
            self.unordered.push(member);
        }
    }

    /// Adds a chunk in place of the one that was handed out last.
    pub(crate) fn replace_chunk(&mut self, task: ProgressFuture<()>, chunk: Arc<Chunk<I, O>>) {
        let member = Member::Chunk(task, chunk.clone());
        if self.is_ordered {
            self.first = Some(member);
            self.chunks.push_front(Some(chunk));
        } else {
            self.unordered.push(member);
        }
    }

    /// Moves what has come of chunks and is next in order to `to`.
    pub(crate) fn take_outcomes(&self, to: &mut VecDeque<Result<O, TaskError>>) {
        match self.chunks.front() {
            Some(Some(chunk)) => chunk.outcomes().move_to(to),
            Some(None) => {}
            None => self.outcomes.move_to(to),
        }
    }

    /// Returns `None` if there are none.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended<I, O>>> {
        let first = self.poll_ordered(cx);
        if let Poll::Ready(Some(_)) = first {
            self.chunks.pop_front();
            return first;
        }
        let next = self.unordered.poll_next_unpin(cx);
        if let Poll::Ready(None) = next { first } else { next }
    }

    fn poll_ordered(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended<I, O>>> {
        let Some(member) = &mut self.first else { return self.ordered.poll_next_unpin(cx) };
        let ended = Pin::new(member).poll(cx);
        if ended.is_ready() {
            self.first = None;
        }
        ended.map(Some)
    }
}
