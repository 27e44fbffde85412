//! The submitted tasks of a map whose outcomes have not been handed out yet.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{FuturesOrdered, FuturesUnordered, StreamExt};

use crate::error::TaskError;
use crate::executor::chunk::{Chunk, Outcomes};
use crate::future::ProgressFuture;
use crate::group::state::Entry;
use crate::sync::unwind::Quiet;
use crate::task::TaskRef;

pub(crate) struct InFlight<I, O> {
    /// Includes the tasks that were submitted before the map became unordered.
    ordered: FuturesOrdered<Member<I, O>>,
    unordered: FuturesUnordered<Member<I, O>>,
    pub(crate) is_ordered: bool,
    /// The chunks among the ordered tasks, one entry for each task.
    chunks: VecDeque<Option<Arc<Chunk<I, O>>>>,
    /// The outcomes of the unordered chunks.
    outcomes: Arc<Outcomes<O>>,
}

/// A task, which is handed out with its outcome.
enum Member<I, O> {
    Item(Entry, ProgressFuture<O>),
    Chunk(Entry, ProgressFuture<()>, Arc<Chunk<I, O>>),
}

pub(crate) enum Ended<I, O> {
    Item(Entry, TaskRef, Result<O, TaskError>),
    Chunk(Entry, TaskRef, Arc<Chunk<I, O>>, Result<(), TaskError>),
}

impl<I, O> Future for Member<I, O> {
    /// `Quiet`, since `FuturesOrdered` keeps what has ended out of order.
    type Output = Quiet<Ended<I, O>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Item(entry, future) => {
                let outcome = Pin::new(&mut *future).poll(cx);
                outcome.map(|outcome| Quiet::new(Ended::Item(mem::take(entry), future.task(), outcome)))
            }
            Self::Chunk(entry, future, chunk) => {
                let outcome = Pin::new(&mut *future).poll(cx);
                outcome.map(|outcome| Quiet::new(Ended::Chunk(mem::take(entry), future.task(), chunk.clone(), outcome)))
            }
        }
    }
}

impl<I, O> InFlight<I, O> {
    pub(crate) fn new() -> Self {
        Self {
            ordered: FuturesOrdered::new(),
            unordered: FuturesUnordered::new(),
            is_ordered: true,
            chunks: VecDeque::new(),
            outcomes: Outcomes::new(),
        }
    }

    /// How many tasks there are.
    pub(crate) fn len(&self) -> usize {
        self.ordered.len() + self.unordered.len()
    }

    /// Where the next chunk puts its outcomes.
    pub(crate) fn outcomes(&self) -> Arc<Outcomes<O>> {
        if self.is_ordered { Outcomes::new() } else { self.outcomes.clone() }
    }

    pub(crate) fn push_item(&mut self, entry: Entry, task: ProgressFuture<O>) {
        self.push(Member::Item(entry, task), None);
    }

    pub(crate) fn push_chunk(&mut self, entry: Entry, task: ProgressFuture<()>, chunk: Arc<Chunk<I, O>>) {
        self.push(Member::Chunk(entry, task, chunk.clone()), Some(chunk));
    }

    fn push(&mut self, member: Member<I, O>, chunk: Option<Arc<Chunk<I, O>>>) {
        if self.is_ordered {
            self.ordered.push_back(member);
            self.chunks.push_back(chunk);
        } else {
            self.unordered.push(member);
        }
    }

    /// Adds a chunk whose items come before all others.
    pub(crate) fn push_chunk_first(&mut self, entry: Entry, task: ProgressFuture<()>, chunk: Arc<Chunk<I, O>>) {
        if self.is_ordered {
            self.ordered.push_front(Member::Chunk(entry, task, chunk.clone()));
            self.chunks.push_front(Some(chunk));
        } else {
            self.push_chunk(entry, task, chunk);
        }
    }

    /// Moves to `to` the outcomes of the chunk that is next in order, and those of all unordered chunks.
    pub(crate) fn take_outcomes(&self, to: &mut VecDeque<Result<O, TaskError>>) {
        if let Some(Some(chunk)) = self.chunks.front() {
            chunk.outcomes().move_to(to);
        }
        self.outcomes.move_to(to);
    }

    /// The map is dropped: nothing of its chunks is needed any more.
    pub(crate) fn abandon(&self) {
        let unordered = self.unordered.iter().filter_map(|member| match member {
            Member::Item(..) => None,
            Member::Chunk(_, _, chunk) => Some(chunk),
        });
        self.chunks.iter().flatten().chain(unordered).for_each(|chunk| chunk.abandon());
    }

    /// Returns `None` if no task is in flight.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended<I, O>>> {
        let take = |ended: Option<Quiet<_>>| ended.and_then(Quiet::take);
        let first = self.ordered.poll_next_unpin(cx).map(take);
        if let Poll::Ready(Some(_)) = first {
            self.chunks.pop_front();
            return first;
        }
        let next = self.unordered.poll_next_unpin(cx).map(take);
        if let Poll::Ready(None) = next { first } else { next }
    }
}
