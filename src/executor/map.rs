//! One function over many inputs.

use std::collections::VecDeque;
use std::fmt;
use std::iter::{self, FusedIterator};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures::stream::{FusedStream, Stream, StreamExt};

use crate::error::{CancelCause, TaskError};
use crate::executor::buffer::Buffer;
use crate::executor::builder::Options;
use crate::executor::chunk::{Batch, Chunk, Labels, Outcomes};
use crate::executor::chunk_size::{ChunkSize, MOST_WAITING};
use crate::executor::in_flight::{Ended, InFlight};
use crate::executor::job::Job;
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
use crate::sync::block_on::block_on;
use crate::sync::duty;
use crate::sync::unwind::{drop_each_quietly, drop_quietly};
use crate::task::TaskRef;
use crate::task::limits::Limits;

/// A stream of the outcomes of one function over many inputs, made by [`ExecutorExt::map`](crate::ExecutorExt::map).
///
/// It is lazy: while it is being polled, it takes an input whenever there is room for one more task. So the inputs may be
/// endless, and a million of them take no more memory than a few. Outcomes come in the order of the inputs, or, if the map is
/// [`unordered`](Self::unordered), as the tasks end. The items are `Result`s: with `futures::TryStreamExt`, `try_collect` and
/// others stop at the first error.
///
/// The iterator is called where the stream is polled: an iterator that blocks also blocks the poll. If it panics, so
/// does the poll; no more inputs are taken, and the tasks that were submitted can still be awaited.
///
/// Without a runtime, [`blocking`](Self::blocking) makes it an ordinary iterator. A [`handle`](Self::handle) cancels
/// or pauses it from elsewhere, and tells how many inputs are done.
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
    /// `None` once there are no more.
    inputs: Option<I>,
    submit: Box<dyn Submit<I::Item, O> + 'a>,
    name: Option<Name<'a, I::Item>>,
    limits: Limits,
    buffer: Buffer,
    chunk_size: ChunkSize,
    /// Inputs that were taken but not submitted, for the next chunk, and their names.
    gathered: (Vec<I::Item>, Labels),
    /// How many inputs were taken.
    taken: usize,
    handed_out: usize,
    /// The outcomes to hand out next.
    outcomes: VecDeque<Result<O, TaskError>>,
    in_flight: InFlight<I::Item, O>,
    /// Whether it is known that there are no more inputs.
    is_closed: bool,
    /// Whether `None` was handed out.
    is_terminated: bool,
    state: Arc<GroupState>,
    #[cfg(feature = "indicatif")]
    bars: Option<Shown>,
}

/// How long inputs are gathered for one chunk, if the map chooses its size.
const GATHERING: Duration = Duration::from_micros(100);

/// Names the task of an input.
type Name<'a, I> = Box<dyn FnMut(usize, &I) -> String + Send + 'a>;

/// Makes inputs into tasks.
pub(crate) trait Submit<I, O>: Send {
    fn item(&mut self, input: I, options: Options) -> Made<O>;
    fn chunk(&mut self, batch: Batch<I>, outcomes: Arc<Outcomes<O>>) -> (Made<()>, Arc<Chunk<I, O>>);
    /// Hands the job to the executor, once its task is among those that are cancelled together.
    fn hand_over(&mut self, job: Option<Job>);
}

/// A new task. It has no job if it has ended already: if its limits leave no time at all, or its function could not be
/// cloned.
pub(crate) type Made<O> = (ProgressFuture<O>, Option<Job>);

impl<'a, I: Iterator, O> Map<'a, I, O> {
    pub(crate) fn new(inputs: I, submit: Box<dyn Submit<I::Item, O> + 'a>, max_workers: usize, sends: bool) -> Self {
        let chunk_size = if sends { ChunkSize::ADAPTIVE } else { ChunkSize::fixed(1) };
        let count = match inputs.size_hint() {
            (least, Some(most)) if least == most => Some(least as u64),
            _ => None,
        };
        Self {
            inputs: Some(inputs),
            submit,
            name: None,
            limits: Limits::default(),
            buffer: Buffer::adaptive(max_workers),
            chunk_size,
            gathered: (Vec::new(), Labels::default()),
            taken: 0,
            handed_out: 0,
            outcomes: VecDeque::new(),
            in_flight: InFlight::new(),
            is_closed: false,
            is_terminated: false,
            state: GroupState::new(Unit::Inputs(count)),
            #[cfg(feature = "indicatif")]
            bars: None,
        }
    }

    /// Yields each outcome as soon as there is one, not in the order of the inputs, so that a slow input keeps no others
    /// waiting.
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
    #[doc(alias = "as_completed")]
    pub fn unordered(mut self) -> Self {
        self.in_flight.is_ordered = false;
        self.gather_no_more_by_itself();
        self
    }

    /// Sets how many tasks at most are waiting, running, or ended with an outcome that has not been asked for. 0 means 1.
    ///
    /// By default this is twice the number of workers, so that each worker finds its next task when it has finished one. If
    /// outcomes come and are asked for at short intervals, it grows to as many tasks as take about a millisecond, but to no
    /// more than 64 times the number of workers.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let map = executor.map(|n: u64, _| Ok(n * n), 1..=3).buffer(1); // takes an input when the one before has ended
    /// let squares: Result<Vec<u64>, _> = map.blocking().collect();
    /// assert_eq!(squares?, [1, 4, 9]);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn buffer(mut self, tasks: usize) -> Self {
        self.buffer = Buffer::fixed(tasks);
        self.gather_no_more_by_itself();
        self
    }

    /// Runs this many inputs as one task, one after the other. 0 means 1, which is the default except for worker processes.
    ///
    /// This is for inputs that take less time than handing a task to a worker and waking a thread for its outcome. The inputs
    /// of a chunk are sent to a worker process all at once; the function is registered as usual. Otherwise nothing changes:
    /// each input has its own outcome, in its place, and its own name; a panic or an error affects one input;
    /// [progress](Self::progress) counts inputs; and each outcome is handed out as soon as there is one, before the rest of its
    /// chunk.
    ///
    /// - A cancellation ends a chunk at the next input that has not begun, whether or not the function makes progress calls.
    /// - When a worker process is lost, so is the one input that it was running. Those behind it continue in another worker,
    ///   and so does that input if it has [retries](Self::retries). But if no memory is shared with the worker (it is on
    ///   another machine, or the system is not Linux), it is unknown which input that was: then all inputs without an outcome
    ///   are lost, unless they have retries.
    /// - The inputs of a chunk cross to a worker process together, so
    ///   [`max_frame_bytes`](crate::ProcessPoolBuilder::max_frame_bytes) limits their total size: if they take more, each of
    ///   them ends with [`TaskErrorKind::Encode`](crate::TaskErrorKind::Encode).
    /// - With a [timeout](Self::timeout) or a [stall timeout](Self::stall_timeout), each input is a task of its own after all,
    ///   since limits apply to tasks.
    /// - The [buffer](Self::buffer) counts tasks: with `chunks(100).buffer(4)`, up to 400 inputs are taken.
    /// - A slow input keeps those behind it in the chunk waiting, even while other workers are idle. The last chunk has as many
    ///   inputs as are left. The iterator is asked for all inputs of a chunk before it is submitted.
    /// - [`Updater::id`](crate::Updater::id) and [`Updater::name`](crate::Updater::name) are those of the task, and so is the
    ///   [id](TaskError::id) of an error.
    ///
    /// # Automatic chunks
    ///
    /// A map over worker processes whose inputs take less than about 20 µs gathers as many of them as take about 200 µs, and at
    /// most a thousand or about 32 KiB. It does not do so if it was asked for [chunks](Self::chunks) (`chunks(1)` is enough), a
    /// [buffer](Self::buffer), or outcomes [in any order](Self::unordered), if workers are replaced after [some
    /// tasks](crate::ProcessPoolBuilder::max_tasks_per_worker), or if what they write is passed on
    /// [line by line](crate::WorkerOutput::lines). It begins with single inputs. When some inputs take longer than
    /// those before, those behind them in their chunk move on to another task within 2 ms of work. No input waits for the
    /// others that it is sent with for more than 100 µs and the one call of the iterator under way. The map takes inputs ahead
    /// for up to [as many tasks](Self::buffer) as without chunks.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ExecutorExt, TaskError, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(2); // or a `ProcessPoolExecutor`
    /// let sum: Result<u64, TaskError> = executor.map(|n: u64, _| Ok(n * n), 0..10_000).chunks(500).blocking().sum();
    /// assert_eq!(sum?, 333_283_335_000);
    /// # Ok::<(), TaskError>(())
    /// ```
    #[doc(alias("chunksize", "batch"))]
    pub fn chunks(mut self, inputs: usize) -> Self {
        self.chunk_size = ChunkSize::fixed(inputs);
        self
    }

    /// Names each task, for people: `name` gets the number of the input, from 0, and the input itself. The name appears in
    /// errors.
    ///
    /// Like the iterator, `name` is called where the stream is polled; if it panics, no more inputs are taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::{ExecutorExt, TaskResult, ThreadPoolExecutor, Updater};
    ///
    /// fn parse(text: String, _: &Updater) -> TaskResult<u32> {
    ///     Ok(text.parse()?)
    /// }
    ///
    /// # smol::block_on(async {
    /// let executor = ThreadPoolExecutor::new(2);
    /// let map = executor.map(parse, ["1".to_owned(), "two".to_owned()]);
    /// let mut map = map.named(|index, text| format!("{index}: {text}"));
    /// assert_eq!(map.next().await.unwrap()?, 1);
    /// assert_eq!(map.next().await.unwrap().unwrap_err().name(), "1: two");
    /// # Ok::<(), progress_executor::TaskError>(())
    /// # }).unwrap();
    /// ```
    pub fn named<N: Into<String>>(mut self, mut name: impl FnMut(usize, &I::Item) -> N + Send + 'a) -> Self {
        self.name = Some(Box::new(move |index, input| name(index, input).into()));
        self
    }

    /// Ends each task as timed out when it has been running for this long; see
    /// [`TaskBuilder::timeout`](crate::TaskBuilder::timeout). The others are not affected.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use progress_executor::{ExecutorExt, TaskResult, ThreadPoolExecutor, Updater};
    ///
    /// fn nap(seconds: u64, progress: &Updater) -> TaskResult<u64> {
    ///     progress.sleep(Duration::from_secs(seconds))?;
    ///     Ok(seconds)
    /// }
    ///
    /// let executor = ThreadPoolExecutor::new(2);
    /// let naps = executor.map(nap, [0, 100_000]).timeout(Duration::from_secs(1)).blocking();
    /// let outcomes: Vec<_> = naps.map(|nap| nap.map_err(|error| error.is_timed_out())).collect();
    /// assert_eq!(outcomes, [Ok(0), Err(true)]);
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limits.timeout = Some(limit);
        self
    }

    /// Ends each task as stalled when it has made no progress call for this long; see
    /// [`TaskBuilder::stall_timeout`](crate::TaskBuilder::stall_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let map = executor.map(|n: u64, progress| Ok(progress.iter(0..n).try_fold(0, |sum, n| n.map(|n| sum + n))?), [3, 4]);
    /// let sums: Result<Vec<u64>, _> = map.stall_timeout(Duration::from_secs(60)).blocking().collect();
    /// assert_eq!(sums?, [3, 6]);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn stall_timeout(mut self, limit: Duration) -> Self {
        self.limits.stall_timeout = Some(limit);
        self
    }

    /// Starts each task again, up to this many times, when its worker process is lost; see
    /// [`TaskBuilder::retries`](crate::TaskBuilder::retries), also for what is then done twice.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let map = executor.map(|n: u64, _| Ok(n + 1), [1, 2]).retries(3); // of a `ProcessPoolExecutor`, mostly
    /// assert_eq!(map.blocking().collect::<Result<Vec<u64>, _>>()?, [2, 3]);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[doc(alias = "retry")]
    pub fn retries(mut self, retries: u32) -> Self {
        self.limits.retries = retries;
        self
    }

    /// How far the inputs have come, right now: `n` of them have ended, out of a `total` that is known if the iterator
    /// knows its size or has ended. A running task counts for the fraction that it has done. The counts per status are
    /// those of the inputs that were taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::{ExecutorExt, ThreadPoolExecutor};
    ///
    /// # smol::block_on(async {
    /// let executor = ThreadPoolExecutor::new(1);
    /// let mut map = executor.map(|n: u64, _| Ok(n), 0..4).buffer(1);
    /// map.next().await.unwrap()?;
    /// let progress = map.progress();
    /// assert_eq!((progress.n, progress.total, progress.fraction()), (1, Some(4), Some(0.25)));
    /// # Ok::<(), progress_executor::TaskError>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn progress(&self) -> GroupProgress {
        self.state.progress()
    }

    /// A new receiver of the [progress](Self::progress): it yields the current one, then changes, at most one per
    /// report interval, always the newest. It is closed after the last one, when every task has ended, and every input
    /// has been taken or the stream was dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let map = executor.map(|n: u64, _| Ok(n), 0..4);
    /// let updates = map.updates();
    /// map.blocking().try_for_each(|outcome| outcome.map(drop))?;
    /// assert_eq!(updates.recv_blocking().unwrap().fraction(), Some(1.0));
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn updates(&self) -> Receiver<GroupProgress> {
        self.state.subscribe()
    }

    /// When and where the task of each input has run, and how it has ended, for all that have started or ended by now. See
    /// [`TaskGroup::report`](crate::TaskGroup::report). Inputs that are run as [one task](Self::chunks) are listed as one.
    ///
    /// Of tasks whose outcomes were handed out, it lists the last 10,000, so that a map takes no more memory the longer it is;
    /// the [summary](GroupReport) covers all.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::{ExecutorExt, ThreadPoolExecutor};
    ///
    /// # smol::block_on(async {
    /// let executor = ThreadPoolExecutor::new(2);
    /// let mut map = executor.map(|n: u64, _| Ok(n * n), 1..=3);
    /// while map.next().await.is_some() {}
    /// println!("{}", map.report()); // 3 ended: 3 finished; ..
    /// # assert_eq!(map.report().tasks().len(), 3);
    /// # });
    /// ```
    #[must_use]
    pub fn report(&self) -> GroupReport {
        self.state.report()
    }

    /// A handle to control the stream from elsewhere. Once it [cancels](GroupHandle::cancel) the map, no more inputs are taken,
    /// and the stream ends after the outcomes of those that were. While it [pauses](GroupHandle::pause) the map, inputs that
    /// are taken wait as well: before they start, or in their next progress call.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ExecutorExt, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(2);
    /// let map = executor.map(|n: u64, _| Ok(n), 0..); // without end
    /// let handle = map.handle();
    /// for outcome in map.blocking() {
    ///     if outcome.is_ok_and(|n| n == 10) {
    ///         handle.cancel(); // on Ctrl-C, say
    ///     }
    /// }
    /// assert!(handle.progress().finished > 10);
    /// ```
    #[must_use]
    pub fn handle(&self) -> GroupHandle {
        GroupHandle::new(self.state.clone())
    }

    /// An ordinary iterator over the outcomes, for code without a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ExecutorExt, TaskError, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(2);
    /// let sum: Result<u64, TaskError> = executor.map(|n: u64, _| Ok(n * n), 1..=3).blocking().sum();
    /// assert_eq!(sum?, 14);
    /// # Ok::<(), TaskError>(())
    /// ```
    pub fn blocking(self) -> BlockingMap<'a, I, O> {
        BlockingMap(self)
    }

    /// Takes inputs for as long as there is room.
    fn fill(&mut self) {
        while self.in_flight.len() < self.buffer.tasks() && self.gather() {
            let inputs = mem::take(&mut self.gathered.0);
            let mut labels = mem::take(&mut self.gathered.1);
            labels.first = self.taken - inputs.len();
            match <[I::Item; 1]>::try_from(inputs) {
                Ok([input]) => self.submit_item(input, labels.names.pop()),
                Err(inputs) => self.submit_chunk(inputs, labels),
            }
        }
    }

    /// Makes each input a task of its own, unless the size of chunks was given.
    fn gather_no_more_by_itself(&mut self) {
        if self.chunk_size.is_adaptive() {
            self.chunk_size = ChunkSize::fixed(1);
        }
    }

    /// Gathers the inputs of the next task. Returns whether there are any.
    fn gather(&mut self) -> bool {
        // Limits apply to tasks, so a task with limits must be a single item.
        let size = if self.limits.are_timed() { 1 } else { self.chunk_size.inputs() };
        let until = (size > 1 && self.chunk_size.is_adaptive()).then(|| Instant::now() + GATHERING);
        while self.gathered.0.len() < size {
            // Taken out, so that an iterator that panics is not called again.
            let Some(mut inputs) = self.inputs.take() else { break };
            let next = if self.state.is_cancelled() { None } else { inputs.next() };
            let Some(input) = next else { break };
            let name = self.name.as_mut().map(|name| name(self.taken, &input));
            self.inputs = Some(inputs);
            self.taken += 1;
            self.gathered.0.push(input);
            self.gathered.1.names.extend(name);
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
        let is_over = self.inputs.is_none() && self.gathered.0.is_empty();
        if is_over && !mem::replace(&mut self.is_closed, true) {
            self.state.set_inputs(Some(self.taken as u64));
            self.state.close();
        }
        !is_over
    }

    fn submit_item(&mut self, input: I::Item, name: Option<String>) {
        let made = self.submit.item(input, Options::new(name, self.limits));
        let (entry, task) = self.launch(made, 0);
        self.in_flight.push_item(entry, task);
    }

    fn submit_chunk(&mut self, inputs: Vec<I::Item>, labels: Labels) {
        let patience = self.chunk_size.is_adaptive().then_some(MOST_WAITING);
        let batch = Batch::new(inputs, labels, self.limits.retries, patience);
        let (made, chunk) = self.submit.chunk(batch, self.in_flight.outcomes());
        let (entry, task) = self.launch(made, 0);
        self.in_flight.push_chunk(entry, task, chunk);
    }

    /// Submits the rest of a chunk again, ahead of all others.
    fn submit_rest(&mut self, mut rest: Batch<I::Item>) {
        let mut parts = Vec::new();
        if self.chunk_size.is_adaptive() {
            // The chunk took longer than expected.
            parts.extend(iter::from_fn(|| rest.split_off_first(self.chunk_size.inputs())));
        }
        parts.push(rest);
        for part in parts.into_iter().rev() {
            let count = part.len();
            let (made, chunk) = self.submit.chunk(part, self.in_flight.outcomes());
            let (entry, task) = self.launch(made, count);
            self.in_flight.push_chunk_first(entry, task, chunk);
        }
    }

    /// Hands a task to the executor. `moved` is how many of its items were items of another task.
    fn launch<T>(&mut self, (task, job): Made<T>, moved: usize) -> (Entry, ProgressFuture<T>) {
        // Before it can start: a cancelled map starts nothing.
        let entry = self.state.add(|| task.task(), moved);
        if self.state.is_cancelled() {
            // Cancelled since the inputs were taken.
            task.cancel();
        }
        self.submit.hand_over(job);
        #[cfg(feature = "indicatif")]
        let task = self.drawn(task);
        (entry, task)
    }

    /// Has the bars show a task that runs inside the poll.
    #[cfg(feature = "indicatif")]
    fn drawn<T>(&self, mut task: ProgressFuture<T>) -> ProgressFuture<T> {
        if let Some(bars) = &self.bars {
            bars.draw_within(&mut task);
        }
        task
    }

    /// Notes a task that has ended, and takes its outcomes.
    fn note_ended(&mut self, ended: Ended<I::Item, O>) -> TaskRef {
        self.buffer.note_outcome(Instant::now);
        let (entry, task, chunk, outcome) = match ended {
            Ended::Item(entry, task, outcome) => {
                self.state.note_ended(&task, &entry);
                self.chunk_size.note_task(1, Duration::from_nanos(task.core.running_for()));
                self.chunk_size.note_unknown();
                self.outcomes.push_back(outcome);
                return task;
            }
            Ended::Chunk(entry, task, chunk, outcome) => (entry, task, chunk, outcome),
        };
        let rest = chunk.conclude(outcome, &|kind| task.error(kind));
        self.chunk_size.note_task(chunk.ended(), Duration::from_nanos(task.core.running_for()));
        let (inputs, bytes) = chunk.size();
        self.chunk_size.note_bytes(inputs, bytes);
        chunk.outcomes().move_to(&mut self.outcomes);
        self.state.note_ended(&task, &entry);
        if let Some(rest) = rest {
            self.submit_rest(rest);
        }
        task
    }

    /// Takes outcomes of chunks that are still running, if they are next.
    fn take_outcomes(&mut self) {
        if self.outcomes.is_empty() {
            self.in_flight.take_outcomes(&mut self.outcomes);
        }
    }
}

#[cfg(feature = "indicatif")]
impl<I: Iterator, O> Map<'_, I, O> {
    /// Shows the tasks on the terminal, and how many of the inputs are done; see
    /// [`TaskGroup::show_bars`](crate::TaskGroup::show_bars).
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ExecutorExt, TaskError, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(2);
    /// let mut map = executor.map(|n: u64, _| Ok(n * n), 1..=3);
    /// let bars = map.show_bars();
    /// let squares: Result<Vec<u64>, TaskError> = map.blocking().collect();
    /// bars.println(format!("{:?}", squares?));
    /// # Ok::<(), TaskError>(())
    /// ```
    pub fn show_bars(&mut self) -> GroupBars {
        self.show(GroupBars::new())
    }

    /// [Shows the bars](Self::show_bars), and returns the stream: for a line like
    /// `for outcome in pool.map(f, inputs).with_bars().blocking()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ExecutorExt, TaskError, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(2);
    /// let squares = executor.map(|n: u64, _| Ok(n * n), 1..=3).with_bars().blocking();
    /// assert_eq!(squares.collect::<Result<Vec<u64>, TaskError>>()?, [1, 4, 9]);
    /// # Ok::<(), TaskError>(())
    /// ```
    pub fn with_bars(mut self) -> Self {
        self.show_bars();
        self
    }

    /// [Shows the tasks](Self::show_bars) with the given bars, to show them elsewhere than on standard error. Bars that have
    /// shown the map until now are cleared.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ExecutorExt, GroupBars, TaskError, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(2);
    /// let mut map = executor.map(|n: u64, _| Ok(n * n), 1..=3);
    /// map.show(GroupBars::lines(std::io::stdout())); // for a log
    /// let squares: Result<Vec<u64>, TaskError> = map.blocking().collect();
    /// assert_eq!(squares?, [1, 4, 9]);
    /// # Ok::<(), TaskError>(())
    /// ```
    pub fn show(&mut self, bars: GroupBars) -> GroupBars {
        self.bars.take().into_iter().for_each(|before| before.give_way(&bars));
        self.bars = Some(Shown::new(&self.state, bars.clone()));
        bars
    }
}

/// Nothing in a map is pinned.
impl<I: Iterator, O> Unpin for Map<'_, I, O> {}

impl<I: Iterator, O> Stream for Map<'_, I, O> {
    type Item = Result<O, TaskError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(outcome) = self.outcomes.pop_front() {
                self.handed_out += 1;
                return Poll::Ready(Some(outcome));
            }
            self.fill();
            let ended = self.in_flight.poll_next(cx);
            let is_pending = ended.is_pending();
            // Its outcome is kept even if something that bars write to panics.
            let task = match ended {
                Poll::Ready(None) => {
                    self.is_terminated = true;
                    #[cfg(feature = "indicatif")]
                    self.bars.take().into_iter().for_each(|bars| bars.finish());
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(ended)) => Some(self.note_ended(ended)),
                Poll::Pending => None,
            };
            #[cfg(feature = "indicatif")]
            if let Some(bars) = &self.bars {
                bars.draw(cx, task.as_ref());
            }
            #[cfg(not(feature = "indicatif"))]
            drop(task);
            // Taken after the poll: whatever comes later wakes us.
            self.take_outcomes();
            if is_pending && self.outcomes.is_empty() {
                return duty::pending();
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = self.inputs.as_ref().map_or(Some(0), |inputs| inputs.size_hint().1);
        let taken = self.taken - self.handed_out;
        // Cancellation may end the stream at any time, before it has taken the remaining inputs.
        (taken, most.and_then(|most| most.checked_add(taken)))
    }
}

/// Terminated once it has yielded `None`, not before: `select!` polls nothing that is terminated.
impl<I: Iterator, O> FusedStream for Map<'_, I, O> {
    fn is_terminated(&self) -> bool {
        self.is_terminated
    }
}

impl<I: Iterator, O> Drop for Map<'_, I, O> {
    fn drop(&mut self) {
        self.state.cancel(iter::empty(), CancelCause::Dropped);
        drop_quietly(self.state.waiter.take());
        self.in_flight.abandon();
        self.state.abandon_moved();
        self.state.close();
        #[cfg(feature = "indicatif")]
        if let Some(bars) = &self.bars {
            bars.finish();
        }
        drop_each_quietly(mem::take(&mut self.gathered.0));
        drop_each_quietly(mem::take(&mut self.outcomes));
    }
}

impl<I: Iterator, O> fmt::Debug for Map<'_, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("buffer", &self.buffer.tasks())
            .field("in_flight", &self.in_flight.len())
            .field("is_ordered", &self.in_flight.is_ordered)
            .finish_non_exhaustive()
    }
}

/// An iterator over the outcomes of one function over many inputs, made by [`Map::blocking`].
///
/// It takes inputs only while it waits for an outcome; the submitted tasks run on in between. Dropping it cancels
/// them, as dropping the stream does.
///
/// # Blocking
///
/// `next` blocks this thread until there is an outcome. While the map is paused by its [handle](Map::handle), it waits
/// until it is resumed.
///
/// Like [`ProgressFuture::wait`], it works meanwhile: on a thread of a thread pool it runs tasks of that pool that have not
/// started, and it reads what the workers of a process pool send, except for [chunks](Map::chunks).
///
/// # Examples
///
/// ```
/// # let executor = progress_executor::ThreadPoolExecutor::new(1);
/// let map = executor.map(|n: u64, _| Ok(n * n), 1..=3);
/// for square in map.blocking() {
///     println!("{}", square?);
/// }
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[must_use = "an iterator takes no input unless it is used; dropping it cancels its tasks"]
pub struct BlockingMap<'a, I: Iterator, O>(Map<'a, I, O>);

impl<I: Iterator, O> Iterator for BlockingMap<'_, I, O> {
    type Item = Result<O, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        block_on(self.0.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<I: Iterator, O> FusedIterator for BlockingMap<'_, I, O> {}

impl<I: Iterator, O> fmt::Debug for BlockingMap<'_, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockingMap").field(&self.0).finish()
    }
}
