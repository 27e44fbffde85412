//! What a task can have besides its function: a name, and limits.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::future::ProgressFuture;
use crate::task::details::Details;
use crate::task::items::Items;
use crate::task::limits::Limits;

/// A task that has not been submitted yet; made by `task` of an executor.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use progress_executor::{ExecutorExt, ThreadPoolExecutor};
///
/// let executor = ThreadPoolExecutor::new(1);
/// let task = executor.task(|n: u64, _| Ok(n + 1), 41);
/// let task = task.name("answer").timeout(Duration::from_secs(60)).submit();
/// assert_eq!(task.wait()?, 42);
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[must_use = "a task that is not submitted does not run"]
pub struct TaskBuilder<'a, O> {
    start: Box<dyn FnOnce(Options) -> ProgressFuture<O> + Send + 'a>,
    options: Options,
}

#[derive(Default)]
pub(crate) struct Options {
    /// If the task needs any.
    pub(crate) details: Option<Box<Details>>,
    /// The time that the task has, from its submission on.
    pub(crate) deadline: Option<Duration>,
}

impl Options {
    pub(crate) fn new(name: Option<String>, limits: Limits) -> Self {
        Self { details: Details::of(name, limits), deadline: None }
    }

    /// The options of a chunk of a map.
    pub(crate) fn of_chunk(name: Option<String>, items: Arc<dyn Items>) -> Self {
        let mut options = Self::default();
        options.details().name = name.map(Into::into);
        options.details().items = Some(items);
        options
    }

    /// Starts the deadline's time when the task is submitted.
    pub(crate) fn start_deadline(&mut self) {
        // A time beyond what an `Instant` can hold never comes.
        if let Some(deadline) = self.deadline.and_then(|limit| Instant::now().checked_add(limit)) {
            self.details().limits.deadline = Some(deadline);
        }
    }

    fn details(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }
}

impl<'a, O> TaskBuilder<'a, O> {
    pub(crate) fn new(start: Box<dyn FnOnce(Options) -> ProgressFuture<O> + Send + 'a>) -> Self {
        Self { start, options: Options::default() }
    }

    /// Names the task, for people: the name appears in its errors.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.task(|(), _| Err::<(), _>("out of paper".into()), ()).name("print").submit();
    /// assert!(task.wait().unwrap_err().to_string().starts_with("task `print`"));
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.details().name = Some(name.into().into());
        self
    }

    /// Ends the task as [timed out](crate::TaskErrorKind::TimedOut) when it has been running for this long.
    ///
    /// The time counts from the start of the task, without pauses; the task can see its end as
    /// [`deadline`](crate::Updater::deadline). When it is up, the future resolves at once, and the task is asked to end, as if
    /// it had been cancelled. A thread is free again when the task's next progress call returns
    /// [`Cancelled`](crate::Cancelled); a worker process is killed if that takes longer than its
    /// [grace](crate::ProcessPoolBuilder::cancel_grace). With a [`SyncExecutor`](crate::SyncExecutor), which runs the task
    /// within the poll, the future resolves when the task reaches that call.
    ///
    /// The limit never takes effect early, and about a millisecond late unless the machine is overloaded. Time during which the
    /// whole program was stopped does not count, except for an eighth of the limit or 20 ms at most, each time.
    ///
    /// A timeout of zero passes before the task can start: the task is not run.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{TaskResult, ThreadPoolExecutor, Updater};
    /// use std::time::Duration;
    ///
    /// fn count_up(from: u64, progress: &Updater) -> TaskResult<()> {
    ///     (from..).try_for_each(|_| Ok(progress.update(1)?))
    /// }
    ///
    /// let executor = ThreadPoolExecutor::new(1);
    /// let task = executor.task(count_up, 1).timeout(Duration::from_millis(10)).submit();
    /// assert!(task.wait().unwrap_err().is_timed_out());
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.details().limits.timeout = Some(limit);
        self
    }

    /// Ends the task as [timed out](crate::TaskErrorKind::TimedOut) this long after it was submitted, whatever it is doing
    /// then.
    ///
    /// Unlike for a [timeout](Self::timeout), the time counts while the task waits for its turn, while it is paused, and over
    /// all its [tries](Self::retries). A task that has not started by then never will. For a running task, the consequences are
    /// those of a timeout; a task that runs inside the poll of a [`SyncExecutor`](crate::SyncExecutor) ends at its next
    /// progress call. A running task sees the earlier of the two as [`Updater::deadline`](crate::Updater::deadline); in a
    /// worker process, it sees the timeout only.
    ///
    /// A deadline of zero passes before the task can start: the task is not run.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use progress_executor::{TaskResult, ThreadPoolExecutor, Updater};
    ///
    /// fn nap(time: Duration, progress: &Updater) -> TaskResult<()> {
    ///     Ok(progress.sleep(time)?)
    /// }
    ///
    /// let executor = ThreadPoolExecutor::new(1);
    /// let first = executor.submit(nap, Duration::MAX);
    /// let second = executor.task(nap, Duration::ZERO).deadline(Duration::from_millis(10)).submit();
    /// let error = second.wait().unwrap_err(); // it waits for a thread, and in vain
    /// assert!(error.is_timed_out());
    /// assert!(error.to_string().ends_with("timed out before it started"));
    /// # drop(first);
    /// ```
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.options.deadline = Some(limit);
        self
    }

    /// Ends the task as [stalled](crate::TaskErrorKind::Stalled) when it has made no progress call for this long while it was
    /// running and not paused. The consequences are those of a [timeout](Self::timeout).
    ///
    /// Any call of the [`Updater`](crate::Updater) that counts, prints or checks something will do, even one that changes
    /// nothing. A [sleep](crate::Updater::sleep) is two calls: one at its start and one at its end. The limit never takes
    /// effect early, and at most an eighth of it late, or a millisecond if that is more. It takes longer only if the machine
    /// is overloaded or the program was stopped meanwhile: a check that comes late ends no task, and the lost time does not
    /// count as silence. After a pause, the silence starts afresh. Behind a [launcher](crate::ProcessPoolBuilder::launcher), silence
    /// includes the way of a question to the worker and back: there, the limit must be longer than that takes.
    ///
    /// A limit of zero passes before the task can start: the task is not run.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let (answer, question) = channel::<()>();
    /// let task = executor.task(move |(), progress| {
    ///     progress.update(1)?;
    ///     Ok(question.recv()?) // nobody answers
    /// }, ());
    /// let error = task.stall_timeout(Duration::from_millis(10)).submit().wait().unwrap_err();
    /// assert!(error.is_stalled());
    /// assert!(error.silent_for() >= Some(Duration::from_millis(10)));
    /// # drop(answer);
    /// ```
    pub fn stall_timeout(mut self, limit: Duration) -> Self {
        self.options.details().limits.stall_timeout = Some(limit);
        self
    }

    /// Starts the task again, up to this many times, when the worker process that ran it is lost: when it crashed, exited, or
    /// was killed from outside. The program keeps the input for that.
    ///
    /// An error of the task, a panic, a timeout or a cancellation ends it as usual, and a task that was asked to end before
    /// its worker was lost is not started again. A restarted task counts from the beginning, and its timeout starts afresh.
    /// Threads are never lost, so this changes nothing there.
    ///
    /// **Whatever the task did before its worker was lost is done twice**: use this for functions that can be called again
    /// without harm, and not for those that send, append or pay.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ExecutorExt, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(1); // or a `ProcessPoolExecutor`
    /// let task = executor.task(|n: u64, _| Ok(n + 1), 41).retries(3).submit();
    /// assert_eq!(task.wait()?, 42);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[doc(alias = "retry")]
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.details().limits.retries = retries;
        self
    }

    /// Submits the task.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.task(|n: u64, _| Ok(n + 1), 41).name("answer");
    /// assert_eq!(task.submit().wait()?, 42);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn submit(self) -> ProgressFuture<O> {
        (self.start)(self.options)
    }
}

impl<O> fmt::Debug for TaskBuilder<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = self.options.details.as_ref();
        f.debug_struct("TaskBuilder")
            .field("name", &details.and_then(|details| details.name.as_deref()))
            .field("limits", &details.map(|details| details.limits))
            .field("deadline", &self.options.deadline)
            .finish_non_exhaustive()
    }
}
