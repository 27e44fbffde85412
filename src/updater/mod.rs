//! The task's side: counting, checking, waiting.

pub(crate) mod checkpoint;
pub(crate) mod io;
pub(crate) mod iter;
#[cfg(feature = "rayon")]
pub(crate) mod par_iter;
pub(crate) mod shared;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use yoke::Yoke;
use yoke::either::EitherCart;

use crate::error::Cancelled;
use crate::id::TaskId;
use crate::task::TaskRef;
use crate::task::context::Context;
use crate::task::core::Core;
use crate::task::counts::{Counter, Counts, UNKNOWN, known};
use crate::task::parts::{Part, Parts};
use crate::task::state;

/// A task's handle to itself, with which it reports progress and learns of cancellation.
///
/// Every task function is given one. Long-running work reports its progress anyway, so the calls that report progress
/// are also the places where cancellation is noticed: from then on they return [`Cancelled`], and `?` ends the task
/// there. They are also the places where a [paused](crate::ProgressFuture::pause) task waits.
///
/// Progress is counted in units of the task's choice: steps, files, bytes. A call costs a store to memory and a look at
/// one word, or two in a worker process, whether or not the task is observed: call it as often as there is something to
/// count.
///
/// There is one writer: an `Updater` can be sent to another thread but not shared between threads, and all of its
/// methods take `&self`. To count from several threads of a task, use [`shared`](Self::shared).
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
#[doc(alias = "tqdm")]
pub struct Updater {
    /// What it counts in, a task or a part of one, with plain pointers to the counter and to the task's core: finding
    /// them through an `Arc<dyn ..>` would double the cost of a progress call.
    count: Yoke<(&'static AtomicU64, &'static Core), EitherCart<TaskRef, Arc<PartHandle>>>,
    context: Context,
    _completion: Option<Box<Completion>>,
    /// Whether the total is that of an iterator, and not one that the task has set. A cell, since the counts have one writer.
    total_is_counted: Cell<bool>,
    /// The number of the last [`Turn`].
    turn: Cell<u64>,
}

/// An iterator's turn to count, which lasts until another one is started, perhaps within the loop over the first.
/// Passed in registers, since an iterator that is kept in them takes half the time.
#[derive(Clone, Copy, Debug)]
struct Turn {
    number: u64,
    total: u64,
}

/// A part of a task's work, and what it is a part of.
struct PartHandle {
    part: Arc<Part>,
    task: TaskRef,
    /// The part that this is a part of; `None` if that is the task itself.
    parent: Option<Arc<PartHandle>>,
}

impl PartHandle {
    fn parent(&self) -> Count<'_> {
        self.parent.as_ref().map_or(Count::Task(&self.task), Count::Part)
    }

    /// The part of the task itself that contains this one.
    fn root(&self) -> &Part {
        let mut handle = self;
        while let Some(parent) = &handle.parent {
            handle = parent;
        }
        &handle.part
    }
}

impl Drop for PartHandle {
    /// Drops its ancestors in a loop, not recursively: there may be any number of them.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut handle) = parent.and_then(Arc::into_inner) {
            parent = handle.parent.take();
        }
    }
}

/// Completes a part when its updater is dropped, even if parts of its own still hold it.
struct Completion {
    handle: Arc<PartHandle>,
    context: Context,
}

impl Drop for Completion {
    fn drop(&mut self) {
        let PartHandle { part, task, .. } = &*self.handle;
        let taken_back = self.handle.parent().with_parts(|parts, _| parts.take_back(part));
        // Without the lock.
        drop(taken_back);
        if part.lock().is_shared() {
            task.core.unshare();
        }
        checkpoint::record_and_report(task, &self.context);
    }
}

/// Where a count is kept: in the task itself, or in a part of it.
#[derive(Clone, Copy)]
enum Count<'a> {
    Task(&'a TaskRef),
    Part(&'a Arc<PartHandle>),
}

impl Count<'_> {
    /// Calls `f` with the parts handed out of the count, and with the count, under the lock of the parts.
    fn with_parts<R>(self, f: impl FnOnce(&mut Parts, &Counts) -> R) -> R {
        match self {
            Self::Task(task) => f(&mut task.core.details().totals().parts, &task.core.counts),
            Self::Part(handle) => f(&mut handle.part.lock(), &handle.part.counts),
        }
    }
}

impl Updater {
    #[inline]
    pub(crate) fn new(task: TaskRef, context: Context) -> Self {
        let count = Yoke::attach_to_cart(task, |task| (task.core.counts.counter().0, &task.core));
        let count = count.wrap_cart_in_either_a();
        Self { count, context, _completion: None, total_is_counted: Cell::new(false), turn: Cell::new(0) }
    }

    fn of_part(handle: PartHandle, context: Context) -> Self {
        let handle = Arc::new(handle);
        let completion = Completion { handle: handle.clone(), context: context.clone() };
        let count = Yoke::attach_to_cart(handle, |handle| (handle.part.counts.counter().0, &handle.task.core));
        let count = count.wrap_cart_in_either_b();
        Self {
            count,
            context,
            _completion: Some(Box::new(completion)),
            total_is_counted: Cell::new(false),
            turn: Cell::new(0),
        }
    }

    pub(crate) fn into_context(self) -> Context {
        self.context
    }

    #[inline(always)]
    fn counter(&self) -> Counter<'_> {
        Counter(self.count.get().0)
    }

    #[inline(always)]
    fn core(&self) -> &Core {
        self.count.get().1
    }

    pub(crate) fn task(&self) -> &TaskRef {
        match self.count.backing_cart() {
            EitherCart::A(task) => task,
            EitherCart::B(handle) => &handle.task,
        }
    }

    fn counts(&self) -> &Counts {
        match self.count.backing_cart() {
            EitherCart::A(task) => &task.core.counts,
            EitherCart::B(handle) => &handle.part.counts,
        }
    }

    fn count_in(&self) -> Count<'_> {
        match self.count.backing_cart() {
            EitherCart::A(task) => Count::Task(task),
            EitherCart::B(handle) => Count::Part(handle),
        }
    }

    /// Shows the observers of the task that it is running now.
    #[inline]
    pub(crate) fn announce(&self) {
        if self.core().state.load() & state::OBSERVED != 0 {
            checkpoint::report(self.task(), &self.context);
        }
    }

    /// Which task this is: the [id](crate::ProgressFuture::id) of its future, also in a worker process.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| Ok(progress.id()));
    /// let id = task.id();
    /// assert_eq!(task.wait()?, id);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.core().id()
    }

    /// The [name](crate::ProgressFuture::name) of the task, also in a worker process.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.task(|(), progress| Ok(progress.name().to_owned()), ()).name("dig").submit();
    /// assert_eq!(task.wait()?, "dig");
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        match self.context.function() {
            Some(function) => self.core().name(function),
            None => self.task().name(),
        }
    }

    /// Sets how many units there are to do. [`u64::MAX`] means that it is not known.
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
        self.total_is_counted.set(false);
        self.write_counts(|counts| counts.set_total(total));
        self.record_and_report();
    }

    /// Sets the number of units done, forwards or backwards, and checks for cancellation.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once cancellation was requested. The position is set anyway.
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
    #[must_use = "`?` ends the task here once it is cancelled; without it, the task goes on"]
    pub fn set_position(&self, n: u64) -> Result<(), Cancelled> {
        if !self.core().needs_attention(state::ATTENTION | state::SHARED) {
            self.counter().set(n);
            return Ok(());
        }
        self.move_to(n)
    }

    /// The slow path: something wants attention, or other threads count as well.
    #[cold]
    fn move_to(&self, n: u64) -> Result<(), Cancelled> {
        self.counter().set(self.own(n));
        checkpoint::checkpoint(self.task(), &self.context, state::ATTENTION)
    }

    /// Writes a total, which replaces one that another thread of the task has set.
    fn write_counts(&self, write: impl FnOnce(&Counts)) {
        if self.core().state.peek() & state::SHARED == 0 {
            write(self.counts());
        } else {
            self.count_in().with_parts(|parts, counts| {
                parts.shared_total = None;
                write(counts);
            });
        }
    }

    /// The part of position `n` that this updater counts itself; other threads count the rest.
    fn own(&self, n: u64) -> u64 {
        if self.core().state.peek() & state::SHARED == 0 {
            return n;
        }
        let (shared, is_unshared, has_total) = self.count_in().with_parts(|parts, counts| {
            let has_total = parts.shared_total.is_some();
            let is_unshared = parts.is_shared() && parts.unshare(counts);
            (parts.shared(), is_unshared, has_total)
        });
        if is_unshared {
            self.core().unshare();
            self.total_is_counted.set(self.total_is_counted.get() && !has_total);
        }
        n.wrapping_sub(shared)
    }

    /// Sets both counts at once, and checks for cancellation: no snapshot shows one without the other.
    ///
    /// A `total` of [`u64::MAX`] means that it is not known.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once cancellation was requested. The counts are set anyway.
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
    #[must_use = "`?` ends the task here once it is cancelled; without it, the task goes on"]
    pub fn set_counts(&self, n: u64, total: u64) -> Result<(), Cancelled> {
        self.total_is_counted.set(false);
        let own = self.own(n);
        self.write_counts(|counts| counts.set_both(own, total));
        checkpoint::record(self.task(), &self.context);
        self.checkpoint(state::ATTENTION)
    }

    /// Sets the message that is shown with the counts.
    ///
    /// Unlike counting, this costs an allocation. It does not check for cancellation.
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
        checkpoint::set_message(self.task(), &self.context, message.into(), |parts| match self.count_in() {
            Count::Task(_) => true,
            Count::Part(handle) => parts.have_handed_out(handle.root()),
        });
    }

    /// Shows a line, whole and in order with the progress, wherever the task runs: above the [bars](crate::TaskGroup) if
    /// there are any, as an event of an [event stream](crate::TaskEvent::Line), and otherwise on standard error. It is not
    /// part of the outcome.
    ///
    /// Lines from a worker process are shown in the same way. A line may have any length, but only its first 64 KiB are
    /// shown. It should contain no newline except at its end: how others are shown depends on what shows the line.
    ///
    /// Lines that are printed before the future is first polled, by `await` or [`wait`](crate::ProgressFuture::wait)
    /// for example, are kept until then, since what will show them may not exist yet.
    ///
    /// Up to 1000 lines, or 1 MiB, wait to be shown. Lines beyond that are dropped, and a line in their place says how many
    /// there were. So showing its lines does not hold up the task, with one exception: if nothing but standard error shows
    /// the lines of a task in this process, the task writes them there itself once its future was polled, and waits if that
    /// is slow. So does whoever first polls, detaches or drops the future, for the lines that were kept until then. A task in a
    /// worker process never waits. This call does not check for cancellation.
    ///
    /// As with `eprintln!`, nobody may hold the [lock](std::io::Stderr::lock) of standard error while waiting for tasks that print.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::TaskEvent;
    ///
    /// # smol::block_on(async {
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| {
    ///     for file in ["a.txt", "b.txt"] {
    ///         progress.println(format_args!("{file} is empty"));
    ///     }
    ///     Ok(())
    /// });
    /// let lines = task.events().filter_map(async |event| match event {
    ///     TaskEvent::Line(line) => Some(line),
    ///     _ => None,
    /// });
    /// assert_eq!(lines.collect::<Vec<_>>().await, ["a.txt is empty", "b.txt is empty"]);
    /// # });
    /// ```
    pub fn println(&self, line: impl fmt::Display) {
        checkpoint::println(self.task(), &self.context, &line.to_string());
    }

    /// Counts `delta` units as done, and checks for cancellation. The count wraps around after 2⁶⁴ units.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once cancellation was requested. The units are counted anyway.
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
    #[must_use = "`?` ends the task here once it is cancelled; without it, the task goes on"]
    pub fn update(&self, delta: u64) -> Result<(), Cancelled> {
        self.counter().advance(delta);
        self.checkpoint(state::ATTENTION)
    }

    /// Checks for cancellation, and waits while the task is paused: for code that has nothing to count.
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
    #[must_use = "`?` ends the task here once it is cancelled; without it, the task goes on"]
    pub fn check(&self) -> Result<(), Cancelled> {
        self.checkpoint(state::CHECK)
    }

    /// Whether the task must end. Unlike [`check`](Self::check), this never waits, and does not count as the task
    /// having noticed.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let outcome = progress.iter(0..9).try_for_each(|n| n.map(drop));
    ///     if progress.is_cancelled() {
    ///         println!("tidying up");
    ///     }
    ///     Ok(outcome?)
    /// });
    /// let canceller = task.canceller();
    /// assert!(task.on_progress(move |_, new| if new.n == 2 { canceller.cancel() }).wait().is_err());
    /// ```
    #[inline]
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.core().needs_attention(state::CANCEL | state::ENDED | state::PROBE)
            && checkpoint::must_end(self.task(), &self.context)
    }

    /// Sleeps, unless the task is cancelled: then it wakes at once.
    ///
    /// A task that is paused while it sleeps waits until it is resumed, and then returns if its time has passed.
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
    #[must_use = "`?` ends the task here once it is cancelled; without it, the task goes on"]
    pub fn sleep(&self, duration: Duration) -> Result<(), Cancelled> {
        checkpoint::sleep(self.task(), &self.context, duration)
    }

    /// Splits off a part of this work, worth `units` of it, for a function that counts on its own.
    ///
    /// The part has a count of its own, and the fraction of it that is done is counted here as that fraction of
    /// `units`. Dropping it completes it, however far it got: so a function that is given a part need not know what it
    /// is a part of, and one that returns early leaves no gap. Parts can have parts; a part that is more than 64 levels
    /// down counts as not begun until it is complete. A part can be sent to another thread, and there may be several at
    /// a time. If it outlives the task, its calls return [`Cancelled`] from then on, and nothing is counted.
    ///
    /// Except for its count, a part shares everything with the task: cancellation, pauses, the message.
    ///
    /// A part never exceeds the whole: if fewer than `units` are left of a known total, it is worth those, and possibly
    /// nothing. Until it has set a total, it counts as not begun. Setting the position of the whole while a part is
    /// under way says where the whole will be once the part is complete.
    ///
    /// The idea is that of Eclipse's `SubMonitor`.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{SyncExecutor, TaskResult, Updater};
    ///
    /// fn sum(numbers: &[u64], progress: &Updater) -> TaskResult<u64> {
    ///     let mut sum = 0;
    ///     for number in progress.iter(numbers) {
    ///         sum += number?;
    ///     }
    ///     Ok(sum)
    /// }
    ///
    /// fn mean(numbers: Vec<u64>, progress: &Updater) -> TaskResult<u64> {
    ///     progress.set_total(100);
    ///     let sum = sum(&numbers, &progress.split(90))?; // ends at 90 of 100
    ///     progress.update(10)?;
    ///     Ok(sum / numbers.len() as u64)
    /// }
    ///
    /// assert_eq!(SyncExecutor::new().submit(mean, vec![1, 2, 3]).wait()?, 2);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use = "a part that is dropped is complete"]
    pub fn split(&self, units: u64) -> Updater {
        let part = self.count_in().with_parts(|parts, counts| {
            self.context.spread(self.core().id());
            parts.hand_out(counts, units)
        });
        checkpoint::follow_spread(self.task(), &self.context);
        let parent = match self.count_in() {
            Count::Task(_) => None,
            Count::Part(handle) => Some(handle.clone()),
        };
        Self::of_part(PartHandle { part, task: self.task().clone(), parent }, self.context.clone())
    }

    /// Names a part, so that it is shown while it is under way, with its own count: among the
    /// [parts](crate::ProgressState::parts) of the task and, where [bars](crate::TaskGroup) are shown, on an indented
    /// line below that of the task, if there is room. How it counts does not change.
    ///
    /// A part keeps the first name that it is given, of which only the first 256 bytes are kept. At most 16 named parts
    /// of a task are shown at a time, the first ones under way. Dropping the part completes it, and removes its line.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{SyncExecutor, TaskResult, Updater};
    ///
    /// fn install(packages: Vec<String>, progress: &Updater) -> TaskResult<()> {
    ///     progress.set_total(packages.len() as u64);
    ///     for package in &packages {
    ///         let part = progress.split(1).named(format!("unpack {package}"));
    ///         part.iter(0..1000).try_for_each(|file| file.map(drop))?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let packages = vec!["bash".to_string(), "coreutils".to_string()];
    /// let task = SyncExecutor::new().submit(install, packages);
    /// task.on_progress(|_, new| println!("{:?}", new.parts)).wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use = "a part that is dropped is complete"]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Updater {
        // A task only borrows its own updater, so this is a part.
        if let Count::Part(handle) = self.count_in() {
            handle.part.set_name(&name.into());
        }
        self.record_and_report();
        self
    }

    /// When the task will be ended by its [timeout](crate::TaskBuilder::timeout) or its
    /// [deadline](crate::TaskBuilder::deadline), whichever is first, so that it can choose to do less; `None` if it has
    /// neither. Time in a pause postpones the timeout, and so does time for which the program was stopped. In a worker process,
    /// only the timeout is known, and it does not include the time for which the program or the process was stopped: the task may
    /// be given more time than this says.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.task(|limit: u64, progress| {
    ///     let (mut best, mut tries) = (u64::MAX, 0);
    ///     let stop = progress.deadline().map(|deadline| deadline - Duration::from_secs(1));
    ///     while tries < limit && stop.is_none_or(|stop| Instant::now() < stop) {
    ///         tries += 1;
    ///         best = best.min(tries * 2_654_435_761 % 1_000_003);
    ///         progress.update(1)?;
    ///     }
    ///     Ok(best)
    /// }, 100);
    /// # let _ =
    /// task.timeout(Duration::from_secs(60)).submit().wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.core().deadline()
    }

    /// Notes that an iterator, a reader or a writer ends early, so that what the task makes of it is incomplete.
    #[cold]
    pub(crate) fn cut_short(&self, cancelled: Cancelled) -> Cancelled {
        self.core().cut_short();
        cancelled
    }

    /// Counts without checking for cancellation.
    pub(crate) fn count(&self, delta: u64) {
        self.counter().advance(delta);
        checkpoint::report_if_due(self.task(), &self.context);
    }

    /// Starts a count from 0. If its total is not known, one that the task has set stays.
    fn start_count(&self, total: Option<u64>) -> Turn {
        let own = self.own(0);
        let set_before = self.total_of_task();
        match (total, set_before) {
            (None, Some(_)) => self.counter().set(own),
            _ => self.write_counts(|counts| counts.set_both(own, total.unwrap_or(UNKNOWN))),
        }
        self.total_is_counted.set(total.is_some());
        self.record_and_report();
        self.next_turn(total.or(set_before).unwrap_or(UNKNOWN))
    }

    /// Resumes a count after another one was started. A total that the task has set meanwhile stays.
    #[cold]
    fn resume_count(&self, turn: Turn, total_is_counted: bool, n: u64) -> Turn {
        let own = self.own(n);
        if self.total_of_task().is_some() {
            self.counter().set(own);
        } else {
            self.write_counts(|counts| counts.set_both(own, turn.total));
            self.total_is_counted.set(total_is_counted);
        }
        checkpoint::record(self.task(), &self.context);
        self.next_turn(turn.total)
    }

    fn next_turn(&self, total: u64) -> Turn {
        let number = self.turn.get() + 1;
        self.turn.set(number);
        Turn { number, total }
    }

    /// The total, if the task has set it, on any thread, rather than an iterator.
    fn total_of_task(&self) -> Option<u64> {
        let is_shared = self.core().state.peek() & state::SHARED != 0;
        let shared = if is_shared { self.count_in().with_parts(|parts, _| parts.shared_total) } else { None };
        shared.or_else(|| known(self.counts().read().total).filter(|_| !self.total_is_counted.get()))
    }

    /// Wakes the future of the task, which has something to hand out before its end.
    pub(crate) fn wake_future(&self) {
        self.core().waiter.wake();
    }

    /// Turns to the next item of the task, which counts from 0. Returns how long the task has been running.
    pub(crate) fn begin_item(&self) -> Duration {
        self.total_is_counted.set(false);
        let (had_said, elapsed) = self.core().begin_item();
        if had_said {
            // What is recorded is still that of the item before.
            checkpoint::record(self.task(), &self.context);
        }
        elapsed
    }

    /// The end of every progress call: does nothing, unless one of `bits` wants attention.
    #[inline(always)]
    fn checkpoint(&self, bits: u32) -> Result<(), Cancelled> {
        if self.core().needs_attention(bits) {
            checkpoint::checkpoint(self.task(), &self.context, bits)
        } else {
            Ok(())
        }
    }

    fn record_and_report(&self) {
        checkpoint::record_and_report(self.task(), &self.context);
    }
}

impl fmt::Debug for Updater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updater").field("id", &self.core().id()).field("progress", &self.core().snapshot()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Updater;
    use crate::task::context::Context;
    use crate::task::details::Details;
    use crate::task::{idle, state};

    /// Whether setting the position is more than a store.
    fn is_shared(updater: &Updater) -> bool {
        updater.core().state.peek() & state::SHARED != 0
    }

    #[test]
    fn a_count_that_was_shared_costs_nothing_when_it_is_not_any_more() {
        let progress = Updater::new(idle::started(Details::default()), Context::default());
        for round in 1..=3 {
            let shared = progress.shared();
            shared.clone().update(2).unwrap();
            assert!(is_shared(&progress));
            progress.set_position(7).unwrap();
            assert!(is_shared(&progress), "there still is somebody who counts");
            drop(shared);
            progress.set_position(round).unwrap();
            assert!(!is_shared(&progress));
            assert_eq!(progress.core().snapshot().n, round);
        }
    }

    #[test]
    fn neither_does_one_of_a_part_nor_the_whole_of_one() {
        let progress = Updater::new(idle::started(Details::default()), Context::default());
        let part = progress.split(10);
        drop(part.shared());
        assert!(is_shared(&progress));
        part.set_position(1).unwrap();
        assert!(!is_shared(&progress));
        // A count that was not unshared before is unshared with its part.
        let shared = part.shared();
        drop(part);
        assert!(!is_shared(&progress));
        drop(shared);
        progress.set_position(1).unwrap();
        assert!(!is_shared(&progress));
    }

    #[cfg(feature = "rayon")]
    #[test]
    fn neither_does_a_parallel_iterator() {
        use rayon::iter::ParallelIterator;

        let progress = Updater::new(idle::started(Details::default()), Context::default());
        assert_eq!(progress.par_iter(0..100).filter(Result::is_ok).count(), 100);
        progress.iter(0..3).for_each(drop);
        assert!(!is_shared(&progress));
        assert_eq!(progress.core().snapshot().n, 3);
    }
}
