//! Many inputs of a map as one task, see [`task::items`](crate::task::items).

use std::any::type_name;
use std::collections::VecDeque;
use std::iter;
use std::marker::PhantomData;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::codec::references::{self, References};
use crate::codec::{Encoded, EncodedCow, Format, items};
use crate::error::defect::Defect;
use crate::error::{BoxError, TaskError, TaskErrorKind, TaskResult, guard};
use crate::executor::call::{Crossing, short_name};
use crate::run::{Work, decode_outcome, decode_output, run_items};
use crate::sync::unwind::{drop_each_quietly, drop_quietly};
use crate::task::RemoteFn;
use crate::task::details::default_name;
use crate::task::items::{ItemCounts, Items, Lost};
use crate::updater::Updater;

/// What a map keeps of a chunk.
pub(crate) struct Chunk<I, O> {
    /// The values that the encoded inputs refer to.
    references: Mutex<References>,
    labels: Labels,
    /// Whether the executor had accepted the items in another chunk.
    were_accepted: bool,
    counts: ItemCounts,
    /// The size of the encoded inputs in bytes; 0 if they were not encoded.
    encoded: AtomicUsize,
    outcomes: Arc<Outcomes<O>>,
    unencodable: Mutex<Unencodable>,
    retries: Retries,
    /// The time after which the worker gives back the items that have not begun.
    patience: Option<Duration>,
    end: Mutex<Option<End<I>>>,
    decode: fn(EncodedCow<'_>) -> Result<O, BoxError>,
}

pub(crate) enum Inputs<I> {
    Values(Vec<I>),
    /// Encoded by an earlier chunk.
    Encoded(Vec<u8>),
}

/// The names of the items.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels {
    /// The number of the first input in the map.
    pub(crate) first: usize,
    /// Empty unless the items were given names.
    pub(crate) names: Vec<String>,
}

/// The inputs that could not be encoded, and were not sent with the others. An error is taken when it is delivered.
type Unencodable = Vec<(usize, Option<BoxError>)>;

/// How often an item is started again when the process that runs it is lost.
#[derive(Clone, Copy, Debug)]
struct Retries {
    each: u32,
    /// How often the first item may still be started again.
    first: u32,
}

/// How the chunk ended in the process that ran it.
struct End<I> {
    /// The process was lost, and with it the item that was running.
    is_lost: bool,
    /// The items that have not begun, or must begin again.
    rest: Option<Batch<I>>,
}

/// The inputs of a chunk to be: gathered by a map, or left over from another chunk.
pub(crate) struct Batch<I> {
    inputs: Inputs<I>,
    references: References,
    count: usize,
    labels: Labels,
    unencodable: Unencodable,
    retries: Retries,
    patience: Option<Duration>,
    /// Whether the executor has accepted them in another chunk.
    were_accepted: bool,
}

/// Outcomes on their way to the map, from the thread that runs the items or receives their outcomes; `None` once the map is gone.
pub(crate) struct Outcomes<O>(Mutex<Option<VecDeque<Result<O, TaskError>>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<O> Outcomes<O> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(VecDeque::new()))))
    }

    fn push(&self, outcome: Result<O, TaskError>) {
        if let Some(outcomes) = &mut *lock(&self.0) {
            return outcomes.push_back(outcome);
        }
        drop_quietly(outcome);
    }

    /// Appends all outcomes to `to`.
    pub(crate) fn move_to(&self, to: &mut VecDeque<Result<O, TaskError>>) {
        if let Some(outcomes) = &mut *lock(&self.0) {
            if to.is_empty() { mem::swap(outcomes, to) } else { to.append(outcomes) }
        }
    }

    /// Drops all outcomes, and those that come later.
    pub(crate) fn close(&self) {
        let outcomes = lock(&self.0).take();
        drop_each_quietly(outcomes.into_iter().flatten());
    }

    fn is_closed(&self) -> bool {
        lock(&self.0).is_none()
    }
}

impl<O> Drop for Outcomes<O> {
    fn drop(&mut self) {
        // Quietly, as this may be any thread.
        self.close();
    }
}

impl<I> Drop for Inputs<I> {
    fn drop(&mut self) {
        if let Self::Values(inputs) = self {
            drop_each_quietly(mem::take(inputs));
        }
    }
}

impl Labels {
    /// The labels of the items from `from` on.
    fn from(&self, from: usize) -> Self {
        Self { first: self.first + from, names: self.names.iter().skip(from).cloned().collect() }
    }
}

/// The encoded inputs from `from` on, and the unencodable ones from there on, which are removed from `unencodable`.
fn split_off(inputs: &[u8], unencodable: &mut Unencodable, from: usize) -> Option<(Vec<u8>, Unencodable)> {
    let before = unencodable.partition_point(|&(index, _)| index < from);
    let inputs = items::skip(inputs, from - before)?.to_vec();
    let unencodable = unencodable.split_off(before).into_iter();
    Some((inputs, unencodable.map(|(index, error)| (index - from, error)).collect()))
}

impl<I> Batch<I> {
    /// Each input is started again up to `retries` times when the process that runs it is lost. After `patience`, the inputs
    /// that have not begun are given back.
    pub(crate) fn new(inputs: Vec<I>, labels: Labels, retries: u32, patience: Option<Duration>) -> Self {
        Self {
            count: inputs.len(),
            inputs: Inputs::Values(inputs),
            references: References::new(),
            labels,
            unencodable: Unencodable::new(),
            retries: Retries { each: retries, first: retries },
            patience,
            were_accepted: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    fn accepted(self) -> Self {
        Self { were_accepted: true, ..self }
    }

    /// Splits the first `count` inputs off the rest of a chunk, if it has more than that.
    pub(crate) fn split_off_first(&mut self, count: usize) -> Option<Self> {
        let left = self.count.checked_sub(count).filter(|&left| left > 0)?;
        let Inputs::Encoded(bytes) = &mut self.inputs else { return None };
        let (inputs, unencodable) = split_off(bytes, &mut self.unencodable, count)?;
        bytes.truncate(bytes.len() - inputs.len());
        let rest = Self {
            inputs: Inputs::Encoded(inputs),
            references: self.references.clone(),
            count: left,
            labels: self.labels.from(count),
            unencodable,
            retries: Retries { first: self.retries.each, ..self.retries },
            patience: self.patience,
            were_accepted: self.were_accepted,
        };
        self.count = count;
        self.labels.names.truncate(count);
        Some(mem::replace(self, rest))
    }
}

impl<I, O> Chunk<I, O> {
    /// Also returns the inputs, for the [call](ChunkCall).
    pub(crate) fn new<C: Crossing<I, O>>(batch: Batch<I>, outcomes: Arc<Outcomes<O>>) -> (Arc<Self>, Inputs<I>) {
        let Batch { inputs, references, count, labels, unencodable, retries, patience, were_accepted } = batch;
        let encoded = if let Inputs::Encoded(bytes) = &inputs { bytes.len() } else { 0 };
        let chunk = Self {
            references: Mutex::new(references),
            labels,
            were_accepted,
            counts: ItemCounts::new(count),
            encoded: AtomicUsize::new(encoded),
            outcomes,
            unencodable: Mutex::new(unencodable),
            retries,
            patience,
            end: Mutex::default(),
            decode: C::decode,
        };
        (Arc::new(chunk), inputs)
    }

    /// The number of items, and their encoded size in bytes; 0 if they were not encoded.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.counts.total(), self.encoded.load(Ordering::Relaxed))
    }

    /// How many items have ended.
    pub(crate) fn ended(&self) -> usize {
        self.counts.ended()
    }

    /// The name of the whole chunk, if its items have names.
    pub(crate) fn name(&self) -> Option<String> {
        let names = &self.labels.names;
        let (first, last) = (names.first()?, names.last()?);
        Some(if names.len() == 1 { first.clone() } else { format!("{first} … {last}") })
    }

    pub(crate) fn outcomes(&self) -> &Outcomes<O> {
        &self.outcomes
    }

    fn push(&self, outcome: Result<O, TaskError>) {
        let outcome = outcome.map_err(|error| self.label(error));
        self.counts.note(&outcome);
        self.outcomes.push(outcome);
    }

    /// Makes the error that of the next item.
    fn label(&self, error: TaskError) -> TaskError {
        let index = self.counts.ended();
        match self.labels.names.get(index) {
            Some(name) => error.named(name.as_str().into(), false),
            None => {
                let chunk = default_name(error.id(), error.function());
                error.named(format!("{chunk}, input {}", self.labels.first + index).into(), true)
            }
        }
    }

    /// Delivers errors for the next items, as far as these could not be encoded.
    fn push_unencodable(&self, error: &dyn Fn(TaskErrorKind) -> TaskError) {
        let mut unencodable = lock(&self.unencodable);
        let next = || {
            let found = unencodable.binary_search_by_key(&self.counts.ended(), |&(index, _)| index).ok()?;
            unencodable[found].1.take()
        };
        for source in iter::from_fn(next) {
            self.push(Err(error(TaskErrorKind::Encode).of_another().with_source(Defect::Input(source).into())));
        }
    }

    /// Called when the task has ended. Items without an outcome get the task's error, except those that go on in another chunk,
    /// which are returned. `error` makes an error of the task.
    pub(crate) fn conclude(
        &self,
        outcome: Result<(), TaskError>,
        error: &dyn Fn(TaskErrorKind) -> TaskError,
    ) -> Option<Batch<I>> {
        let End { is_lost, rest } = lock(&self.end).take().unwrap_or(End { is_lost: false, rest: None });
        let mut cause = outcome.err().unwrap_or_else(|| error(TaskErrorKind::Decode).with_source(MISSING.into()));
        // One item was running, or gets the panic of cloning the function; the others have not begun.
        let mut is_that_of_next = is_lost || cause.is_panic();
        loop {
            self.push_unencodable(error);
            if self.counts.read().left == 0 {
                return rest;
            }
            let another = cause.of_another();
            let is_own = mem::take(&mut is_that_of_next);
            self.push(Err(if is_own { mem::replace(&mut cause, another) } else { another }));
        }
    }

    /// The rest of a chunk whose next item is lost.
    fn rest_of_lost(&self, Lost { input, is_exact, is_cancelled }: Lost) -> Option<Batch<I>> {
        let lost = self.counts.ended();
        let tries = if lost == 0 { self.retries.first } else { self.retries.each };
        // An item that may have begun does not begin again without retries.
        if is_cancelled || !is_exact && self.retries.each == 0 {
            return None;
        }
        match tries.checked_sub(1) {
            Some(first) => self.rest(&input, lost, first),
            None => self.rest(&input, lost + 1, self.retries.each),
        }
    }

    /// The items from `from` on, the first of which may be started again `first` times.
    fn rest(&self, input: &[u8], from: usize, first: u32) -> Option<Batch<I>> {
        let count = self.counts.total().checked_sub(from).filter(|&count| count > 0)?;
        let (inputs, unencodable) = split_off(input, &mut lock(&self.unencodable), from)?;
        Some(Batch {
            inputs: Inputs::Encoded(inputs),
            references: lock(&self.references).clone(),
            count,
            labels: self.labels.from(from),
            unencodable,
            retries: Retries { first, ..self.retries },
            patience: self.patience,
            were_accepted: self.were_accepted,
        })
    }

    /// The items without an outcome, if the map has gathered them itself: then they may go on in smaller chunks.
    fn gathered_rest(&self, input: &[u8]) -> Option<Batch<I>> {
        self.patience.and_then(|_| self.rest(input, self.counts.ended(), self.retries.each))
    }

    fn end_with(&self, is_lost: bool, rest: Option<Batch<I>>) {
        self.counts.set_moved(rest.as_ref().map_or(0, Batch::len));
        *lock(&self.end) = Some(End { is_lost, rest });
        if self.outcomes.is_closed() {
            self.abandon();
        }
    }

    /// The map is gone: drops what only the map needs. Handles of it may keep the chunk.
    pub(crate) fn abandon(&self) {
        self.outcomes.close();
        let references = mem::take(&mut *lock(&self.references));
        let unencodable = mem::take(&mut *lock(&self.unencodable));
        let end = lock(&self.end).take();
        drop_quietly((references, unencodable, end));
    }
}

/// The error of an item whose worker has ended the chunk without it.
const MISSING: &str = "its worker has told of fewer outcomes than it was sent inputs";

impl<I: Send, O: Send + 'static> Items for Chunk<I, O> {
    fn counts(&self) -> &ItemCounts {
        &self.counts
    }

    fn were_accepted(&self) -> bool {
        self.were_accepted
    }

    fn accept(&self, outcome: Result<Encoded, TaskError>, error: &dyn Fn(TaskErrorKind) -> TaskError) {
        self.push_unencodable(error);
        // A faulty worker may send more outcomes than there are items.
        if self.counts.read().left > 0 {
            let decode = |mut output: Encoded| (self.decode)(output.lend());
            self.push(decode_outcome(outcome, decode, || error(TaskErrorKind::Decode)));
        }
    }

    fn accept_values(&self, values: &[u8], error: &dyn Fn(TaskErrorKind) -> TaskError) {
        for value in items::read(values).into_iter().flatten() {
            self.push_unencodable(error);
            if self.counts.read().left > 0 {
                let output = decode_output(|| (self.decode)(value.into()));
                self.push(output.map_err(|source| error(TaskErrorKind::Decode).with_source(source)));
            }
        }
    }

    fn end(&self, input: Vec<u8>, error: &dyn Fn(TaskErrorKind) -> TaskError) {
        self.push_unencodable(error);
        self.end_with(false, self.gathered_rest(&input).map(Batch::accepted));
    }

    fn give_back(&self, input: Vec<u8>, error: &dyn Fn(TaskErrorKind) -> TaskError) {
        self.push_unencodable(error);
        self.end_with(false, self.gathered_rest(&input));
    }

    fn patience(&self) -> Option<Duration> {
        self.patience
    }

    fn lose(&self, lost: Lost, error: &dyn Fn(TaskErrorKind) -> TaskError) {
        self.push_unencodable(error);
        let rest = self.rest_of_lost(lost);
        self.end_with(true, rest.map(Batch::accepted));
    }
}

/// The work of a chunk: a function with all of its inputs.
pub(crate) struct ChunkCall<F, I, O, C> {
    pub(crate) task: F,
    pub(crate) inputs: Inputs<I>,
    pub(crate) chunk: Arc<Chunk<I, O>>,
    pub(crate) crossing: PhantomData<fn() -> C>,
}

impl<F, I, O, C> Work for ChunkCall<F, I, O, C>
where
    F: Fn(I, &Updater) -> TaskResult<O> + Send + 'static,
    I: Send + 'static,
    O: Send + 'static,
    C: Crossing<I, O>,
{
    type Output = ();

    fn function() -> &'static str {
        short_name(type_name::<F>())
    }

    fn call(mut self, updater: &Updater) -> TaskResult<()> {
        let Inputs::Values(inputs) = &mut self.inputs else { return Err(STAYED.into()) };
        run_items(updater, Self::function, mem::take(inputs), self.task, |outcome, _elapsed| {
            self.chunk.push(outcome);
            updater.wake_future();
        })
    }

    fn remote_fn() -> Option<RemoteFn> {
        C::CROSSES.then(RemoteFn::of::<F>)
    }

    fn encode(mut self) -> Result<Encoded, BoxError> {
        let inputs = match &mut self.inputs {
            Inputs::Values(inputs) => mem::take(inputs),
            Inputs::Encoded(bytes) => {
                lock(&self.chunk.references).iter().try_for_each(references::add)?;
                return Ok(Encoded { format: Format::Items, bytes: mem::take(bytes).into() });
            }
        };
        let (mut bytes, mut unencodable) = (Vec::new(), Unencodable::new());
        for (index, input) in inputs.into_iter().enumerate() {
            let end = bytes.len();
            if let Err(error) = guard(|| C::append(input, &mut bytes)) {
                // Cuts off the part that was written.
                bytes.truncate(end);
                unencodable.push((index, Some(error)));
            }
        }
        self.chunk.encoded.store(bytes.len(), Ordering::Relaxed);
        *lock(&self.chunk.unencodable) = unencodable;
        *lock(&self.chunk.references) = references::known();
        Ok(Encoded { format: Format::Items, bytes: bytes.into() })
    }

    fn decode(_nothing: Encoded) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Why a chunk that was lost in another process cannot go on in this one.
const STAYED: &str = "its inputs are encoded for another process";
