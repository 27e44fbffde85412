//! Many inputs of a map as one task, see [`task::items`](crate::task::items).

use std::any::{TypeId, type_name};
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::codec::{Encoded, Format};
use crate::error::{BoxError, TaskError, TaskErrorKind, TaskResult};
use crate::executor::call::{Crossing, short_name};
use crate::run::{STAYS, Work, run_items};
use crate::sync::unwind::drop_quietly;
use crate::task::RemoteFn;
use crate::task::details::default_name;
use crate::task::items::{ItemCounts, Items, Lost};
use crate::updater::Updater;

/// The inputs of a chunk, and what has come of them.
pub(crate) struct Chunk<I, O> {
    inputs: Mutex<Inputs<I>>,
    labels: Labels,
    counts: ItemCounts,
    outcomes: Arc<Outcomes<O>>,
    unencodable: Mutex<Unencodable>,
    retries: Retries,
    loss: Mutex<Option<Loss>>,
    codec: Codec<I, O>,
}

enum Inputs<I> {
    Values(Vec<I>),
    /// As they were encoded before.
    Encoded(Vec<u8>),
    Taken,
}

/// What the items are called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels {
    /// The number of the first input in the map.
    pub(crate) first: usize,
    /// Where they were given names.
    pub(crate) names: Vec<String>,
}

/// Which inputs could not be encoded, and were not sent with the others. An error that was told is gone.
type Unencodable = BTreeMap<usize, Option<BoxError>>;

/// How often an item is started again when the process that runs it is lost.
#[derive(Clone, Copy, Debug)]
struct Retries {
    each: u32,
    /// How often that may still happen to the first one.
    first: u32,
}

/// The process that ran the chunk is lost.
struct Loss {
    /// The items that have not begun, or are to begin again.
    rest: Option<Rest>,
}

/// Items that go on in another chunk.
pub(crate) struct Rest {
    inputs: Vec<u8>,
    count: usize,
    labels: Labels,
    unencodable: Unencodable,
    retries: Retries,
}

/// How inputs cross to another process, and an output comes back.
struct Codec<I, O> {
    append: fn(I, &mut Vec<u8>) -> Result<(), BoxError>,
    skip: fn(&[u8], usize) -> Option<&[u8]>,
    decode: fn(Encoded) -> Result<O, BoxError>,
}

/// Outcomes on their way from whoever runs items to the map.
pub(crate) struct Outcomes<O>(Mutex<VecDeque<Result<O, TaskError>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<O> Outcomes<O> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    fn push(&self, outcome: Result<O, TaskError>) {
        lock(&self.0).push_back(outcome);
    }

    /// Moves all that there are behind those in `to`.
    pub(crate) fn move_to(&self, to: &mut VecDeque<Result<O, TaskError>>) {
        let mut outcomes = lock(&self.0);
        if to.is_empty() { mem::swap(&mut *outcomes, to) } else { to.append(&mut outcomes) }
    }
}

impl<O> Drop for Outcomes<O> {
    fn drop(&mut self) {
        // On any thread that was the last to know of them.
        drop_quietly(mem::take(&mut *lock(&self.0)));
    }
}

impl<I, O> Codec<I, O> {
    fn of<C: Crossing<I, O>>() -> Self {
        Self { append: C::append, skip: C::skip, decode: C::decode }
    }
}

impl Rest {
    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

impl<I, O> Chunk<I, O> {
    pub(crate) fn new<C>(inputs: Vec<I>, labels: Labels, retries: u32, outcomes: Arc<Outcomes<O>>) -> Self
    where
        C: Crossing<I, O>,
    {
        Self {
            counts: ItemCounts::new(inputs.len()),
            inputs: Mutex::new(Inputs::Values(inputs)),
            labels,
            outcomes,
            unencodable: Mutex::default(),
            retries: Retries { each: retries, first: retries },
            loss: Mutex::default(),
            codec: Codec::of::<C>(),
        }
    }

    /// One that goes on where another was lost.
    pub(crate) fn resumed<C: Crossing<I, O>>(rest: Rest, outcomes: Arc<Outcomes<O>>) -> Self {
        let Rest { inputs, count, labels, unencodable, retries } = rest;
        Self {
            counts: ItemCounts::new(count),
            inputs: Mutex::new(Inputs::Encoded(inputs)),
            labels,
            outcomes,
            unencodable: Mutex::new(unencodable),
            retries,
            loss: Mutex::default(),
            codec: Codec::of::<C>(),
        }
    }

    /// What the whole chunk is called, where its items have names.
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

    /// The error as that of the next item.
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

    /// Tells of what could not be encoded, where that is next.
    fn push_unencodable(&self, error: &dyn Fn(TaskErrorKind) -> TaskError) {
        let mut unencodable = lock(&self.unencodable);
        while let Some(source) = unencodable.get_mut(&self.counts.ended()).and_then(Option::take) {
            self.push(Err(error(TaskErrorKind::Encode).of_another().with_source(NotEncoded(source).into())));
        }
    }

    /// The task has ended. The items that have no outcome then have its error, but for those that go on in another chunk,
    /// which are returned. `error` makes an error of the task.
    pub(crate) fn conclude(
        &self,
        outcome: Result<(), TaskError>,
        error: &dyn Fn(TaskErrorKind) -> TaskError,
    ) -> Option<Rest> {
        let loss = lock(&self.loss).take();
        let mut cause = outcome.err().unwrap_or_else(|| error(TaskErrorKind::Decode).with_source(MISSING.into()));
        // One item was running then; the others have not begun.
        let mut is_that_of_next = loss.is_some();
        loop {
            self.push_unencodable(error);
            if self.counts.read().left == 0 {
                return loss.and_then(|loss| loss.rest);
            }
            let another = cause.of_another();
            let is_own = mem::take(&mut is_that_of_next);
            self.push(Err(if is_own { mem::replace(&mut cause, another) } else { another }));
        }
    }

    /// What is left of a chunk whose next item is lost.
    fn rest(&self, Lost { input, is_exact, is_cancelled }: Lost) -> Option<Rest> {
        let (lost, total) = (self.counts.ended(), self.counts.total());
        let tries = if lost == 0 { self.retries.first } else { self.retries.each };
        let from = if tries > 0 { lost } else { lost + 1 };
        // What may have begun does not begin again, unless that was asked for.
        if is_cancelled || from >= total || !is_exact && self.retries.each == 0 {
            return None;
        }
        let mut unencodable = lock(&self.unencodable);
        let inputs = (self.codec.skip)(&input, from - unencodable.range(..from).count())?.to_vec();
        let unencodable = unencodable.split_off(&from).into_iter();
        Some(Rest {
            inputs,
            count: total - from,
            labels: Labels {
                first: self.labels.first + from,
                names: self.labels.names.iter().skip(from).cloned().collect(),
            },
            unencodable: unencodable.map(|(index, error)| (index - from, error)).collect(),
            retries: Retries { first: tries.checked_sub(1).unwrap_or(self.retries.each), ..self.retries },
        })
    }

    fn take_inputs(&self) -> Inputs<I> {
        mem::replace(&mut *lock(&self.inputs), Inputs::Taken)
    }
}

/// What it is said of an item whose worker has ended the chunk without it.
const MISSING: &str = "its worker has told of fewer outcomes than it was sent inputs";

impl<I: Send, O: Send> Items for Chunk<I, O> {
    fn counts(&self) -> &ItemCounts {
        &self.counts
    }

    fn accept(&self, outcome: Result<Encoded, TaskError>, error: &dyn Fn(TaskErrorKind) -> TaskError) {
        self.push_unencodable(error);
        // A worker that tells of more is out of its mind.
        if self.counts.read().left > 0 {
            let decode = |output| (self.codec.decode)(output);
            self.push(
                outcome.and_then(|output| {
                    decode(output).map_err(|source| error(TaskErrorKind::Decode).with_source(source))
                }),
            );
        }
    }

    fn lose(&self, lost: Lost, error: &dyn Fn(TaskErrorKind) -> TaskError) {
        self.push_unencodable(error);
        let rest = self.rest(lost);
        self.counts.set_moved(rest.as_ref().map_or(0, Rest::len));
        *lock(&self.loss) = Some(Loss { rest });
    }
}

impl<I, O> Drop for Chunk<I, O> {
    fn drop(&mut self) {
        drop_quietly(self.take_inputs());
    }
}

/// The work of a chunk: a function with all of its inputs.
pub(crate) struct ChunkCall<F, I, O, C> {
    pub(crate) task: F,
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

    fn call(self, updater: &Updater) -> TaskResult<()> {
        let Inputs::Values(inputs) = self.chunk.take_inputs() else { return Err(STAYED.into()) };
        run_items(updater, Self::function, inputs, self.task, |outcome| {
            self.chunk.push(outcome);
            updater.wake_future();
        })
    }

    fn remote_fn() -> Option<RemoteFn> {
        C::CROSSES.then(|| RemoteFn {
            type_id: TypeId::of::<F>(),
            path: type_name::<F>(),
            captures: size_of::<F>() > 0,
        })
    }

    fn encode(self) -> Result<Encoded, BoxError> {
        let inputs = match self.chunk.take_inputs() {
            Inputs::Values(inputs) => inputs,
            Inputs::Encoded(bytes) => return Ok(Encoded { format: Format::Items, bytes }),
            Inputs::Taken => return Err(STAYS.into()),
        };
        let (mut bytes, mut unencodable) = (Vec::new(), Unencodable::new());
        for (index, input) in inputs.into_iter().enumerate() {
            if let Err(error) = (self.chunk.codec.append)(input, &mut bytes) {
                unencodable.insert(index, Some(error));
            }
        }
        *lock(&self.chunk.unencodable) = unencodable;
        Ok(Encoded { format: Format::Items, bytes })
    }

    fn decode(_nothing: Encoded) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Why a chunk that was lost in another process cannot go on in this one.
const STAYED: &str = "its inputs are encoded for another process";

/// Why an item has no outcome of its function.
#[derive(Debug)]
struct NotEncoded(BoxError);

impl fmt::Display for NotEncoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its input could not be encoded")
    }
}

impl Error for NotEncoded {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
