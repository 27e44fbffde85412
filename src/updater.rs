//! The task's side: counting, checking, waiting.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use yoke::Yoke;

use crate::counts::UNKNOWN;
use crate::observers::Observers;
use crate::report::{self, Reporter};
use crate::task::{Core, TaskRef};
use crate::{Cancelled, ProgressIter, ProgressReader, ProgressWriter, clock, state};

/// A task's handle on itself: it reports progress, and hears of cancellation.
///
/// Every task function is given one. Work that runs long reports its progress anyway, so the calls that report progress
/// are also the places where cancellation is noticed: they return [`Cancelled`] from then on, and `?` ends the task
/// there. They are also the places where a [paused](crate::ProgressFuture::pause) task waits.
///
/// Progress is counted in units of the task's choice: steps, files, bytes. A call costs a store to memory and a look at
/// one word, whether or not anybody observes the task; call it as often as there is something to count.
///
/// There is one writer: an `Updater` can be sent to another thread but not shared between threads, and all of its
/// methods take `&self`.
///
/// # Examples
///
/// ```
/// use progress_executor::{SyncExecutor, TaskResult, Updater};
///
/// fn count_words(files: Vec<String>, progress: &Updater) -> TaskResult<usize> {
///     let mut words = 0;
///     for file in progress.iter(files) {
///         let file = file?; // ends the task here when it was cancelled
///         words += file.split_whitespace().count();
///         progress.set_message(format!("{words} words so far"));
///     }
///     Ok(words)
/// }
///
/// let files = vec!["Call me Ishmael.".to_string(), "It was the best of times".to_string()];
/// let task = SyncExecutor::new().submit(count_words, files);
/// assert_eq!(task.wait()?, 9);
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
pub struct Updater {
    /// The task, and a plain pointer to its core: a progress call must not look for it through an `Arc<dyn ..>`, which
    /// costs as much as all the rest of it.
    core: Yoke<&'static Core, TaskRef>,
    context: Context,
    /// The counts have one writer.
    not_sync: PhantomData<Cell<()>>,
}

/// What surrounds a running task: who watches it, and who looks at it from the thread that it runs on.
#[derive(Default)]
pub(crate) struct Context {
    pub(crate) reporter: Option<Arc<Reporter>>,
    pub(crate) observers: Option<Arc<Observers>>,
}

impl Updater {
    pub(crate) fn new(task: TaskRef, context: Context) -> Self {
        Self { core: Yoke::attach_to_cart(task, |task| &task.core), context, not_sync: PhantomData }
    }

    pub(crate) fn into_parts(self) -> (TaskRef, Context) {
        (self.core.into_backing_cart(), self.context)
    }

    #[inline(always)]
    fn core(&self) -> &Core {
        self.core.get()
    }

    pub(crate) fn task(&self) -> &TaskRef {
        self.core.backing_cart()
    }

    /// Shows that the task is running now, to whom it may concern.
    pub(crate) fn announce(&self) {
        if self.core().state.load() & state::OBSERVED != 0 {
            self.report();
        }
    }

    /// Says how many units there are to do. [`u64::MAX`] means that it is not known.
    ///
    /// The total may change at any time. One that is smaller than `n` is shown as it is, while
    /// [`fraction`](crate::ProgressState::fraction) stays at 1.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     progress.set_total(3);
    ///     for _ in 0..3 {
    ///         progress.update(1)?;
    ///     }
    ///     Ok(())
    /// });
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn set_total(&self, total: u64) {
        self.core().counts.set_total(total);
        self.report_if_due();
    }

    /// Sets the number of units done, forwards or backwards, and checks for cancellation.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once cancellation was requested. The position is set all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let text = "one\ntwo\nthree\n";
    ///     progress.set_total(text.len() as u64);
    ///     for (offset, _line) in text.match_indices('\n') {
    ///         progress.set_position(offset as u64 + 1)?;
    ///     }
    ///     Ok(())
    /// });
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[inline]
    pub fn set_position(&self, n: u64) -> Result<(), Cancelled> {
        self.core().counts.set_n(n);
        self.attend(state::ATTENTION)
    }

    /// Sets both counts at once, and checks for cancellation: no snapshot shows the one without the other.
    ///
    /// A `total` of [`u64::MAX`] means that it is not known.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once cancellation was requested. The counts are set all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     progress.set_counts(0, 3)?; // first this part,
    ///     progress.update(3)?;
    ///     progress.set_counts(0, 500)?; // then that one
    ///     Ok(progress.update(500)?)
    /// });
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn set_counts(&self, n: u64, total: u64) -> Result<(), Cancelled> {
        self.core().counts.set_both(n, total);
        self.attend(state::ATTENTION)
    }

    /// Sets the message that is shown with the counts.
    ///
    /// This costs an allocation, other than counting. It does not check for cancellation.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     progress.set_message("reading");
    ///     progress.update(1)?;
    ///     progress.set_message(format!("{} bytes read", 12));
    ///     Ok(())
    /// });
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn set_message(&self, message: impl Into<Cow<'static, str>>) {
        let message: Arc<str> = match message.into() {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        };
        self.core().board().lock().set_message(message);
        self.report_if_due();
    }

    /// Counts `delta` units as done, and checks for cancellation. The count wraps around after 2⁶⁴ units.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once cancellation was requested. The units are counted all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let mut x = 27_u64;
    ///     while x != 1 {
    ///         x = if x % 2 == 0 { x / 2 } else { 3 * x + 1 };
    ///         progress.update(1)?;
    ///     }
    ///     Ok(())
    /// });
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[inline]
    pub fn update(&self, delta: u64) -> Result<(), Cancelled> {
        self.core().counts.advance(delta);
        self.attend(state::ATTENTION)
    }

    /// Checks for cancellation, and waits while the task is paused; for where there is nothing to count.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once cancellation was requested.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let mut numbers: Vec<u64> = (0..1000).rev().collect();
    ///     progress.check()?;
    ///     numbers.sort();
    ///     progress.check()?;
    ///     Ok(numbers)
    /// });
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[inline]
    pub fn check(&self) -> Result<(), Cancelled> {
        self.attend(state::INTERRUPT)
    }

    /// Whether cancellation was requested. Other than [`check`](Self::check) this never waits, and is not taken as a
    /// sign that the task has noticed.
    #[inline]
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.core().state.peek() & state::CANCEL != 0
    }

    /// Sleeps, unless the task is cancelled: then it wakes at once.
    ///
    /// A task that is paused while it sleeps waits until it is resumed, and returns then if its time has passed.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once cancellation was requested.
    ///
    /// # Blocking
    ///
    /// Blocks this thread: it is for task functions, which run on threads of their own.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.sleep(Duration::from_secs(3600))?));
    /// task.cancel();
    /// assert!(task.wait().unwrap_err().is_cancelled());
    /// ```
    pub fn sleep(&self, duration: Duration) -> Result<(), Cancelled> {
        // No deadline where it is beyond the end of time: then only cancellation ends the sleep.
        let deadline = Instant::now().checked_add(duration);
        loop {
            self.check()?;
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(());
            }
            self.core().wait_until(|word| word & state::INTERRUPT != 0, deadline);
        }
    }

    /// Counts the items of an iterator, and checks for cancellation before each.
    ///
    /// This starts a count of its own: `n` from 0, and `total` where the iterator knows its exact length. An item
    /// counts as done when the next one is asked for. Items come as `Ok(item)`; after cancellation was requested one
    /// `Err(Cancelled)` follows, and then nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let mut sum = 0;
    ///     for number in progress.iter(1..=10) {
    ///         sum += number?;
    ///     }
    ///     Ok(sum)
    /// });
    /// assert_eq!(task.wait()?, 55);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn iter<I: IntoIterator>(&self, items: I) -> ProgressIter<'_, I::IntoIter> {
        let items = items.into_iter();
        let total = match items.size_hint() {
            (least, Some(most)) if least == most => least as u64,
            _ => UNKNOWN,
        };
        self.core().counts.set_both(0, total);
        self.report_if_due();
        ProgressIter::new(self, items)
    }

    /// Counts the bytes that are read, on top of what was counted before.
    ///
    /// Once cancellation was requested, reading returns an error that makes the task end as cancelled when it is passed
    /// on; see [`ProgressReader`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{self, Read};
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let input = io::repeat(b'x').take(1 << 20);
    ///     progress.set_total(1 << 20);
    ///     Ok(io::copy(&mut progress.reader(input), &mut io::sink())?)
    /// });
    /// assert_eq!(task.wait()?, 1 << 20);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn reader<R: io::Read>(&self, reader: R) -> ProgressReader<'_, R> {
        ProgressReader::new(self, reader)
    }

    /// Counts the bytes that are written, on top of what was counted before; see [`ProgressWriter`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let mut out = progress.writer(Vec::new());
    ///     for line in 0..100 {
    ///         writeln!(out, "{line}")?;
    ///     }
    ///     Ok(out.into_inner())
    /// });
    /// assert_eq!(task.wait()?.len(), 290);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn writer<W: io::Write>(&self, writer: W) -> ProgressWriter<'_, W> {
        ProgressWriter::new(self, writer)
    }

    /// When the task is to have ended, so that it can choose to do less; `None` where it has no limit. No executor sets
    /// a limit yet.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Counts without checking for cancellation.
    pub(crate) fn count(&self, delta: u64) {
        self.core().counts.advance(delta);
        self.report_if_due();
    }

    /// The end of every progress call: nothing, unless one of `bits` wants attention.
    #[inline(always)]
    fn attend(&self, bits: u32) -> Result<(), Cancelled> {
        if self.core().state.peek() & bits == 0 { Ok(()) } else { self.attend_to(bits) }
    }

    #[cold]
    fn attend_to(&self, bits: u32) -> Result<(), Cancelled> {
        if self.core().state.peek() & bits & state::REPORT != 0 {
            self.report();
        }
        // Looked at again: whoever saw the report may have requested it just now.
        while self.core().state.peek() & state::INTERRUPT != 0 {
            if self.is_cancelled() {
                self.core().state.set(state::NOTICED);
                return Err(Cancelled);
            }
            self.halt();
        }
        Ok(())
    }

    fn report_if_due(&self) {
        if self.core().state.peek() & state::REPORT != 0 {
            self.report();
        }
    }

    #[cold]
    fn report(&self) {
        report::due(self.task(), self.context.reporter.as_ref());
        if let Some(observers) = &self.context.observers {
            observers.catch_up(self.core());
        }
    }

    /// Waits while the task is paused, with the clock stopped.
    fn halt(&self) {
        let core = self.core();
        core.counts.stop_clock(clock::now());
        core.state.set(state::HALTED);
        report::change(self.task());
        core.wait_until(|word| word & state::PAUSE == 0 || word & state::CANCEL != 0, None);
        core.state.clear(state::HALTED);
        core.counts.start_clock(clock::now());
        report::change(self.task());
    }
}

impl fmt::Debug for Updater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updater").field("id", &self.core().id()).field("progress", &self.core().snapshot()).finish()
    }
}
