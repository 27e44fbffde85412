//! One function over many inputs.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{FusedStream, FuturesOrdered, FuturesUnordered, Stream, StreamExt};

use crate::error::TaskError;
use crate::future::ProgressFuture;

/// A stream of the outcomes of one function over many inputs, made by [`ExecutorExt::map`](crate::ExecutorExt::map).
///
/// It is lazy: it takes an input when there is room for one more task, while it is being polled, so that its input may be
/// without end and a million inputs take no more memory than a few. Outcomes come in the order of the inputs, or, if it
/// is [`unordered`](Self::unordered), as the tasks end. Its items are `Result`s: with `futures::TryStreamExt`,
/// `try_collect` and others stop at the first error.
///
/// The iterator is called where the stream is polled: one that blocks keeps that waiting. If it panics, so does the
/// poll; no more is taken from it, and the tasks that were submitted can still be awaited.
///
/// # Cancel safety
///
/// `map.next()` can be dropped at any time; nothing is lost. Dropping the stream cancels its tasks, and takes no more
/// inputs.
///
/// # Examples
///
/// ```
/// use futures::{StreamExt, TryStreamExt};
/// use progress_executor::{ExecutorExt, TaskResult, ThreadPoolExecutor, Updater};
///
/// fn square(n: u64, _: &Updater) -> TaskResult<u64> {
///     Ok(n.checked_mul(n).ok_or("too large")?)
/// }
///
/// # smol::block_on(async {
/// let executor = ThreadPoolExecutor::new(2);
/// let squares: Vec<u64> = executor.map(square, 1..).take(4).try_collect().await?;
/// assert_eq!(squares, [1, 4, 9, 16]);
/// # Ok::<(), progress_executor::TaskError>(())
/// # }).unwrap();
/// ```
#[must_use = "a stream takes no input unless it is polled; dropping it cancels its tasks"]
pub struct Map<'a, I: Iterator, O> {
    /// Until there are no more.
    inputs: Option<I>,
    submit: Submit<'a, I::Item, O>,
    buffer: usize,
    in_flight: InFlight<O>,
}

/// Makes a task of an input.
pub(crate) type Submit<'a, I, O> = Box<dyn FnMut(I) -> ProgressFuture<O> + Send + 'a>;

/// Tasks that were submitted, and whose outcomes were not handed out.
struct InFlight<O> {
    /// Those that were submitted before the order was given up.
    ordered: FuturesOrdered<ProgressFuture<O>>,
    unordered: FuturesUnordered<ProgressFuture<O>>,
    is_ordered: bool,
}

impl<O> InFlight<O> {
    fn len(&self) -> usize {
        self.ordered.len() + self.unordered.len()
    }

    fn push(&mut self, task: ProgressFuture<O>) {
        if self.is_ordered { self.ordered.push_back(task) } else { self.unordered.push(task) }
    }

    /// Returns `None` if there are none.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<O, TaskError>>> {
        let first = self.ordered.poll_next_unpin(cx);
        if let Poll::Ready(Some(_)) = first {
            return first;
        }
        let next = self.unordered.poll_next_unpin(cx);
        if let Poll::Ready(None) = next { first } else { next }
    }
}

impl<'a, I: Iterator, O> Map<'a, I, O> {
    pub(crate) fn new(inputs: I, submit: Submit<'a, I::Item, O>, max_workers: usize) -> Self {
        let (ordered, unordered) = (FuturesOrdered::new(), FuturesUnordered::new());
        let in_flight = InFlight { ordered, unordered, is_ordered: true };
        Self { inputs: Some(inputs), submit, buffer: max_workers.saturating_mul(2).max(1), in_flight }
    }

    /// Yields each outcome as soon as there is one, and not in the order of the inputs: so that one that takes long keeps
    /// no others waiting.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::TryStreamExt;
    /// use progress_executor::{ExecutorExt, ThreadPoolExecutor};
    ///
    /// # smol::block_on(async {
    /// let executor = ThreadPoolExecutor::new(2);
    /// let mut halves: Vec<u64> = executor.map(|n: u64, _| Ok(n / 2), [2, 6, 4]).unordered().try_collect().await?;
    /// halves.sort();
    /// assert_eq!(halves, [1, 2, 3]);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// # }).unwrap();
    /// ```
    pub fn unordered(mut self) -> Self {
        self.in_flight.is_ordered = false;
        self
    }

    /// The most tasks at a time that are waiting, running, or ended with an outcome that has not been asked for. By default
    /// this is twice the number of workers, so that each finds the next task when it has done one. 0 means 1.
    pub fn buffer(mut self, tasks: usize) -> Self {
        self.buffer = tasks.max(1);
        self
    }

    /// Takes inputs for as long as there is room.
    fn fill(&mut self) {
        while self.in_flight.len() < self.buffer {
            // Taken out, so that one that panics is not asked again.
            let Some(mut inputs) = self.inputs.take() else { return };
            let Some(input) = inputs.next() else { return };
            self.inputs = Some(inputs);
            self.in_flight.push((self.submit)(input));
        }
    }
}

/// Nothing in it is pinned.
impl<I: Iterator, O> Unpin for Map<'_, I, O> {}

impl<I: Iterator, O> Stream for Map<'_, I, O> {
    type Item = Result<O, TaskError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.fill();
        self.in_flight.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.inputs.as_ref().map_or((0, Some(0)), Iterator::size_hint);
        let in_flight = self.in_flight.len();
        (least.saturating_add(in_flight), most.and_then(|most| most.checked_add(in_flight)))
    }
}

impl<I: Iterator, O> FusedStream for Map<'_, I, O> {
    fn is_terminated(&self) -> bool {
        self.inputs.is_none() && self.in_flight.len() == 0
    }
}

impl<I: Iterator, O> fmt::Debug for Map<'_, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("buffer", &self.buffer)
            .field("in_flight", &self.in_flight.len())
            .field("is_ordered", &self.in_flight.is_ordered)
            .finish_non_exhaustive()
    }
}
