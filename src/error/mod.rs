//! How a task can end other than with a value.

pub(crate) mod chain;
pub(crate) mod defect;
pub(crate) mod human;
pub(crate) mod remote;

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::chain::{CANCELLED, CancellationMark, OneLine, fmt_causes, fmt_chain};
use crate::error::human::{Counted, HumanDuration, UNITS};
use crate::id::TaskId;
use crate::progress::ProgressState;
use crate::sync::unwind::drop_payload;

/// Any error that a task may return.
///
/// # Examples
///
/// ```
/// use progress_executor::BoxError;
///
/// let error: BoxError = "out of paper".into(); // any error, or a text
/// assert_eq!(error.to_string(), "out of paper");
/// ```
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What a task function returns: a value, or any error. The `?` operator turns [`Cancelled`] into one.
///
/// To submit a function that returns another `Result`, wrap it in one that returns this: `Ok(parse(input)?)`.
///
/// # Examples
///
/// ```
/// use progress_executor::{TaskResult, Updater};
///
/// fn parse(lines: Vec<String>, progress: &Updater) -> TaskResult<Vec<u64>> {
///     let mut numbers = Vec::new();
///     for line in progress.iter(lines) {
///         numbers.push(line?.parse()?); // `?` takes `Cancelled`, and any error
///     }
///     Ok(numbers)
/// }
/// # let lines = vec!["1".to_owned(), "two".to_owned()];
/// # assert!(progress_executor::SyncExecutor::new().submit(parse, lines).wait().unwrap_err().is_failed());
/// ```
pub type TaskResult<T> = Result<T, BoxError>;

/// What progress calls return once cancellation of the task was requested.
///
/// Pass it on with `?`. It may be wrapped: if cancellation was requested, a task that returns an error that is
/// `Cancelled`, or that has it among its [sources](Error::source), ends as [cancelled](TaskErrorKind::Cancelled), and so
/// does one that returns the [`TaskError`] of another task that was cancelled; otherwise the task has failed. An error
/// that stands for what it wraps, as an [`io::Error`] or a `transparent` one does, is recognized as well; an error that
/// keeps only its text is not.
///
/// How a task responds is its own decision: a task that counts with [`update`](crate::Updater::update) may finish all
/// the same, and keeps its value. If an [iterator](crate::Updater::iter), a reader or a writer has ended early with
/// this error, a value that the task returns may be incomplete: the task then ends as cancelled, and the value is its
/// [partial result](TaskError::into_partial).
///
/// # Examples
///
/// ```
/// use progress_executor::{Cancelled, Updater};
///
/// fn steps(progress: &Updater) -> Result<(), Cancelled> {
///     for step in progress.iter(0..10) {
///         step?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cancelled;

/// Says what to do, as this is what `unwrap` shows.
impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancelled (the task was cancelled: end it by passing this on with `?`)")
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CANCELLED)
    }
}

/// The source is a mark, by which `Cancelled` is also found within errors that report the source of what they wrap
/// rather than what they wrap (an [`io::Error`], a `transparent` enum, an error of serde).
impl Error for Cancelled {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&CancellationMark)
    }
}

/// For readers and writers: an error of kind [`Other`](io::ErrorKind::Other), because loops such as [`io::copy`] would
/// retry for ever on [`Interrupted`](io::ErrorKind::Interrupted).
impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> Self {
        io::Error::other(cancelled)
    }
}

/// The error of a task that has not ended with a value.
///
/// It tells [how](Self::kind) the task ended, [which](Self::name) task that was and [how far](Self::progress) it had
/// come. So does its message: ``task `scan` (count_words) failed at 61 %``, or ``task `count_words #7` failed at 61 %``
/// if the task was given no name. The task's own error is the [source](Error::source), and not part of the message.
///
/// | format | shows |
/// |---|---|
/// | `{error}` | the message |
/// | `{error:#}` | the message and those of its sources, on one line |
/// | `{error:?}`, or returned from `main` | the message, and below it `Caused by:` with those of its sources |
/// | `{error:#?}` | the structure |
///
/// # Examples
///
/// ```
/// use progress_executor::SyncExecutor;
/// use std::num::ParseIntError;
///
/// let executor = SyncExecutor::new();
/// let error = executor.submit(|text: &str, _| Ok(text.parse::<u32>()?), "twelve").wait().unwrap_err();
///
/// assert!(error.is_failed());
/// assert!(error.downcast_ref::<ParseIntError>().is_some());
///
/// let error = executor.task(|_: (), _| Err::<(), _>("no paper".into()), ()).name("print").submit().wait().unwrap_err();
/// let line = format!("{error:#}");
/// assert!(line.starts_with("task `print` ") && line.ends_with(" failed: no paper"), "{line}");
/// ```
pub struct TaskError(Box<Inner>);

struct Inner {
    kind: TaskErrorKind,
    subject: Subject,
    progress: ProgressState,
    /// Shared with the errors [of other tasks](TaskError::of_another).
    source: Option<Arc<dyn Error + Send + Sync>>,
    silent_for: Option<Duration>,
    noticed_after: Option<Duration>,
    /// Where its worker was, unless certainly on this machine.
    place: Option<Box<str>>,
    /// Whether it was to be run again after it had lost its worker, and could not be.
    is_not_run_again: bool,
    /// How many other tasks of its group failed.
    others: usize,
    /// In a mutex only to be `Sync`.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// What the task returned although it was cut short. In a mutex for the same reason.
    partial: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Which task an error is about.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) id: TaskId,
    pub(crate) name: Box<str>,
    /// Whether the name was made of its function and its id.
    pub(crate) is_default: bool,
    /// The name of its function.
    pub(crate) function: &'static str,
}

/// How a task ended that did not end with a value. Displayed in a few words.
///
/// # When several things happen
///
/// What comes first decides, but a cancellation is a request: it decides nothing until the task ends because of it.
///
/// | first | and then | the task |
/// |---|---|---|
/// | a limit passes | anything else happens | has timed out, or stalled |
/// | it is cancelled while it waits for its turn | | is cancelled, and never starts |
/// | it is cancelled while it runs | a progress call tells it so | is cancelled, for the cause of the first request |
/// | | it returns a value nevertheless | has finished, or is cancelled with a [partial result] if that was cut short |
/// | | it returns another error, panics, or loses its worker | has failed, panicked, or lost it, and is not [retried] |
/// | | a limit passes before it has ended | has timed out, or stalled, even if it has noticed |
/// | it waits for its turn, is paused, or its pool is suspended | a timeout of either kind would pass | goes on: no time counts |
/// | | its deadline passes | has timed out |
/// | | it is cancelled | is cancelled: none of these keeps it from noticing |
/// | its executor is shut down | | goes on as if it were not; `shutdown_now` cancels it |
///
/// [partial result]: TaskError::into_partial
/// [retried]: crate::TaskBuilder::retries
///
/// # Examples
///
/// ```
/// use progress_executor::{TaskErrorKind, WorkerExit};
///
/// assert_eq!(TaskErrorKind::TimedOut.to_string(), "timed out");
/// assert_eq!(TaskErrorKind::WorkerLost(WorkerExit::Code(3)).to_string(), "lost its worker: exit code 3");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskErrorKind {
    /// It was asked to end, and did: before it started, or at one of its progress calls. It may have returned a
    /// [partial result](TaskError::into_partial).
    Cancelled(CancelCause),
    /// Its function returned an error, which is the [source](Error::source) of the [`TaskError`].
    Failed,
    /// Its function panicked or, in a worker process, the code that decodes its input or encodes its output did; see
    /// [`TaskError::into_panic`].
    Panicked,
    /// It took longer than its [timeout](crate::TaskBuilder::timeout) allows, or missed its
    /// [deadline](crate::TaskBuilder::deadline).
    TimedOut,
    /// It made no progress call for longer than its [stall timeout](crate::TaskBuilder::stall_timeout) allows.
    Stalled,
    /// The process that ran it ended in the given way: it exited, crashed or was killed. So did several, one after the other,
    /// before they had begun with it, if the [source](Error::source) says so; whatever else is known is there as well. If it
    /// was to be [run again](crate::TaskBuilder::retries) and could not be, the source says why.
    WorkerLost(WorkerExit),
    /// The worker processes do not know its function: it must be [registered](crate::TaskRegistry), and must not
    /// capture anything.
    NotRegistered,
    /// Its input or its output could not be encoded to be sent to another process. The [source](Error::source) says
    /// which, and why.
    Encode,
    /// Its input or its output could not be decoded when it came from another process. The [source](Error::source) says
    /// which, and why.
    Decode,
    /// It was never run: the executor was shut down, dropped its [`Job`](crate::Job), or could not start a worker. The
    /// [source](Error::source) says which. A task that was run, and that no worker could be started for after the loss of the
    /// first one, has [lost its worker](Self::WorkerLost), unless it is an input in a [chunk](crate::Map::chunks).
    Rejected,
    /// Its outcome was handed out before, and its future was asked for it again. How the task itself has ended is the
    /// [status](crate::ProgressState::status) of the error's [progress](TaskError::progress).
    Taken,
}

/// How a process ended.
///
/// # Examples
///
/// ```
/// use progress_executor::WorkerExit;
///
/// assert_eq!(WorkerExit::Code(3).to_string(), "exit code 3");
/// assert_eq!(WorkerExit::Signal(9).to_string(), "signal 9 (SIGKILL)");
/// assert_eq!((WorkerExit::Signal(9).code(), WorkerExit::Signal(9).signal()), (None, Some(9)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerExit {
    /// It exited with this code.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// It is gone, and how it ended is not known.
    Unknown,
}

impl WorkerExit {
    /// The exit code, if it exited.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::WorkerExit;
    ///
    /// assert_eq!(WorkerExit::Code(3).code(), Some(3));
    /// assert_eq!(WorkerExit::Signal(9).code(), None);
    /// ```
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        if let Self::Code(code) = *self { Some(code) } else { None }
    }

    /// The number of the signal that ended it, if one did.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::WorkerExit;
    ///
    /// assert_eq!(WorkerExit::Signal(9).signal(), Some(9));
    /// assert_eq!(WorkerExit::Code(3).signal(), None);
    /// ```
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        if let Self::Signal(signal) = *self { Some(signal) } else { None }
    }
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => match signal_name(signal) {
                Some(name) => write!(f, "signal {signal} ({name})"),
                None => write!(f, "signal {signal}"),
            },
            Self::Unknown => f.write_str("nobody knows how it ended"),
        }
    }
}

/// The names of signals that have the same number on every Unix.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// Why a task was asked to end.
///
/// # Examples
///
/// ```
/// use progress_executor::{CancelCause, SyncExecutor, TaskErrorKind};
///
/// let task = SyncExecutor::new().spawn(|_| Ok(()));
/// task.cancel();
/// assert_eq!(*task.wait().unwrap_err().kind(), TaskErrorKind::Cancelled(CancelCause::Requested));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelCause {
    /// [`cancel`](crate::ProgressFuture::cancel) was called, on the future, a [`Canceller`](crate::Canceller), or its
    /// [group](crate::TaskGroup::cancel).
    Requested,
    /// Its future was dropped.
    Dropped,
    /// Its executor was shut down with `shutdown_now`.
    Shutdown,
    /// Another task of its [group](crate::TaskGroup::join) has failed.
    GroupFailed,
}

impl CancelCause {
    /// The cause whose discriminant this is.
    pub(crate) fn from_bits(bits: u32) -> Self {
        [Self::Requested, Self::Dropped, Self::Shutdown, Self::GroupFailed][bits as usize % 4]
    }
}

impl TaskError {
    pub(crate) fn new(kind: TaskErrorKind, subject: Subject, progress: ProgressState) -> Self {
        Self(Box::new(Inner {
            kind,
            subject,
            progress,
            source: None,
            silent_for: None,
            noticed_after: None,
            place: None,
            is_not_run_again: false,
            others: 0,
            panic: Mutex::new(None),
            partial: Mutex::new(None),
        }))
    }

    /// How the task has responded to its cancellation.
    pub(crate) fn with_response(mut self, silent_for: Option<Duration>, noticed_after: Option<Duration>) -> Self {
        (self.0.silent_for, self.0.noticed_after) = (silent_for, noticed_after);
        self
    }

    pub(crate) fn with_silence(mut self, silent_for: Option<Duration>) -> Self {
        self.0.silent_for = silent_for;
        self
    }

    pub(crate) fn with_place(mut self, place: String) -> Self {
        self.0.place = Some(place.into());
        self
    }

    pub(crate) fn not_run_again(mut self) -> Self {
        self.0.is_not_run_again = true;
        self
    }

    pub(crate) fn with_others(mut self, others: usize) -> Self {
        self.0.others = others;
        self
    }

    pub(crate) fn with_source(mut self, source: BoxError) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn with_panic(mut self, payload: Box<dyn Any + Send>) -> Self {
        self.0.panic = Mutex::new(Some(payload));
        self
    }

    pub(crate) fn with_partial(mut self, value: Box<dyn Any + Send>) -> Self {
        self.0.partial = Mutex::new(Some(value));
        self
    }

    /// The same error for a part of the task that has another name.
    pub(crate) fn named(mut self, name: Box<str>, is_default: bool) -> Self {
        (self.0.subject.name, self.0.subject.is_default) = (name, is_default);
        self
    }

    /// The same error for something that has not begun, and now never will.
    pub(crate) fn of_another(&self) -> Self {
        let Inner { kind, subject, progress, source, .. } = &*self.0;
        let progress = ProgressState { status: progress.status, ..ProgressState::INITIAL };
        let mut another = Self::new(kind.clone(), subject.clone(), progress);
        another.0.source.clone_from(source);
        another
    }

    /// The name of the task's function.
    pub(crate) fn function(&self) -> &'static str {
        self.0.subject.function
    }

    /// How the task ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::TaskErrorKind;
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let error = executor.spawn(|_| Err::<(), _>("out of paper".into())).wait().unwrap_err();
    /// match error.kind() {
    ///     TaskErrorKind::Cancelled(cause) => println!("cancelled: {cause:?}"),
    ///     TaskErrorKind::WorkerLost(exit) => println!("its process is gone: {exit}"),
    ///     _ => println!("{error:#}"),
    /// }
    /// # assert!(error.is_failed());
    /// ```
    #[must_use]
    pub fn kind(&self) -> &TaskErrorKind {
        &self.0.kind
    }

    /// The task's [id](crate::ProgressFuture::id).
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|_| Err::<(), _>("out of paper".into()));
    /// let id = task.id();
    /// assert_eq!(task.wait().unwrap_err().id(), id);
    /// ```
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.0.subject.id
    }

    /// The task's [name](crate::ProgressFuture::name).
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn_named("print", |_| Err::<(), _>("out of paper".into()));
    /// assert_eq!(task.wait().unwrap_err().name(), "print");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.subject.name
    }

    /// How far the task had come when it ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     progress.set_counts(3, 4)?;
    ///     Err::<(), _>("out of paper".into())
    /// });
    /// let error = task.wait().unwrap_err();
    /// assert_eq!((error.progress().n, error.progress().fraction()), (3, Some(0.75)));
    /// ```
    #[must_use]
    pub fn progress(&self) -> &ProgressState {
        &self.0.progress
    }

    /// Whether the task ended because it was asked to.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|_| Ok(()));
    /// task.cancel();
    /// match task.wait() {
    ///     Ok(()) => println!("finished"),
    ///     Err(error) if error.is_cancelled() => {} // as the user wished
    ///     Err(error) => panic!("{error:#}"),
    /// }
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::Cancelled(_))
    }

    /// Whether the task's function returned an error.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let error = executor.spawn(|_| Ok("seven".parse::<u64>()?)).wait().unwrap_err();
    /// assert!(error.is_failed());
    /// assert!(format!("{error:#}").ends_with("failed: invalid digit found in string"));
    /// ```
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.0.kind == TaskErrorKind::Failed
    }

    /// Whether the task's function panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let error = executor.spawn::<_, ()>(|_| panic!("out of paper")).wait().unwrap_err();
    /// assert!(error.is_panic());
    /// assert!(error.to_string().ends_with("panicked: out of paper"));
    /// ```
    #[must_use]
    pub fn is_panic(&self) -> bool {
        self.0.kind == TaskErrorKind::Panicked
    }

    /// Whether the task took longer than its timeout allows, or missed its deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.task(|(), progress| Ok(progress.sleep(Duration::MAX)?), ());
    /// let error = task.timeout(Duration::from_millis(10)).submit().wait().unwrap_err();
    /// assert!(error.is_timed_out() && !error.is_cancelled());
    /// ```
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        self.0.kind == TaskErrorKind::TimedOut
    }

    /// Whether the task made no progress call for longer than its stall timeout allows.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let (answer, question) = channel::<()>();
    /// let task = executor.task(move |(), _| Ok(question.recv()?), ()); // nobody answers
    /// let error = task.stall_timeout(Duration::from_millis(10)).submit().wait().unwrap_err();
    /// assert!(error.is_stalled() && !error.is_timed_out());
    /// # drop(answer);
    /// ```
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.0.kind == TaskErrorKind::Stalled
    }

    /// Whether the process that ran the task ended, other than by the task's own cancellation.
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
    ///
    /// fn crash(code: i32, progress: &Updater) -> TaskResult<()> {
    ///     progress.set_counts(3, 4)?;
    ///     std::process::exit(code)
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     TaskRegistry::new().register(crash).init();
    ///     let error = ProcessPoolExecutor::new(1)?.submit(crash, 7).wait().unwrap_err();
    ///     assert!(error.is_worker_lost());
    ///     assert!(error.to_string().ends_with("lost its worker: exit code 7 at 75 %"));
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn is_worker_lost(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::WorkerLost(_))
    }

    /// Whether the worker processes do not know the task's function.
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
    ///
    /// fn resize((): (), _: &Updater) -> TaskResult<()> {
    ///     Ok(())
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     TaskRegistry::new().init(); // forgets `.register(resize)`
    ///     let error = ProcessPoolExecutor::new(1)?.submit(resize, ()).wait().unwrap_err();
    ///     assert!(error.is_not_registered());
    ///     assert!(format!("{error:#}").contains("add `.register(resize)`"));
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn is_not_registered(&self) -> bool {
        self.0.kind == TaskErrorKind::NotRegistered
    }

    /// Whether the task's input or output could not be encoded.
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
    ///
    /// fn count(names: Vec<Option<()>>, _: &Updater) -> TaskResult<usize> {
    ///     Ok(names.len())
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     TaskRegistry::new().register(count).init();
    ///     // `Some(())` would arrive as `None`.
    ///     let error = ProcessPoolExecutor::new(1)?.submit(count, vec![None, Some(())]).wait().unwrap_err();
    ///     assert!(error.is_encode_error());
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn is_encode_error(&self) -> bool {
        self.0.kind == TaskErrorKind::Encode
    }

    /// Whether the task's input or output could not be decoded.
    #[must_use]
    pub fn is_decode_error(&self) -> bool {
        self.0.kind == TaskErrorKind::Decode
    }

    /// Whether the task was never run because its executor did not take it.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// drop(executor.shutdown());
    /// assert!(executor.spawn(|_| Ok(())).wait().unwrap_err().is_rejected());
    /// ```
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.0.kind == TaskErrorKind::Rejected
    }

    /// Whether the outcome of the task was handed out before.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut task = executor.spawn(|_| Ok(6 * 7));
    /// assert_eq!(task.wait_timeout(Duration::MAX).unwrap()?, 42);
    /// assert!(task.wait().unwrap_err().is_taken());
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.kind == TaskErrorKind::Taken
    }

    /// For how long, at least, the task had made no progress call when it ended; `None` if it was not silent, as far as
    /// is known. See [`ProgressFuture::silent_for`](crate::ProgressFuture::silent_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let (answer, question) = channel::<()>();
    /// let task = executor.task(move |(), _| Ok(question.recv()?), ()); // nobody answers
    /// let error = task.stall_timeout(Duration::from_millis(10)).submit().wait().unwrap_err();
    /// assert!(error.silent_for() >= Some(Duration::from_millis(10)));
    /// # drop(answer);
    /// ```
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        self.0.silent_for
    }

    /// How long it took the task to notice its cancellation; `None` if that was not requested while it was running, or
    /// if the task has not noticed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.sleep(Duration::MAX)?));
    /// while task.silent_for().is_none() {
    ///     std::thread::yield_now(); // until it runs
    /// }
    /// task.cancel();
    /// assert!(task.wait().unwrap_err().noticed_after() < Some(Duration::from_secs(60)));
    /// ```
    #[must_use]
    pub fn noticed_after(&self) -> Option<Duration> {
        self.0.noticed_after
    }

    /// How many other tasks of the same group failed, if this is the error of [`TaskGroup::join`], not counting those
    /// that were cancelled because of this one.
    ///
    /// [`TaskGroup::join`]: crate::TaskGroup::join
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut group = progress_executor::TaskGroup::new();
    /// group.add(executor.spawn(|_| Ok(())));
    /// group.add(executor.spawn(|_| Err("out of paper".into())));
    /// assert_eq!(group.join().wait().unwrap_err().others(), 0);
    /// ```
    #[must_use]
    pub fn others(&self) -> usize {
        self.0.others
    }

    /// The payload of the task's panic, for [`resume_unwind`](std::panic::resume_unwind).
    ///
    /// # Errors
    ///
    /// The error itself, unchanged, if the task did not panic.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::SyncExecutor;
    ///
    /// let executor = SyncExecutor::new();
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// let error = executor.spawn::<_, ()>(|_| panic!("out of paper")).wait().unwrap_err();
    /// let payload = error.into_panic().unwrap();
    /// assert_eq!(payload.downcast_ref(), Some(&"out of paper"));
    /// ```
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        let payload = self.payload().take();
        payload.ok_or(self)
    }

    /// What the task returned although it was cut short: it was cancelled while it used an
    /// [iterator](crate::Updater::iter), a reader or a writer of its updater, and returned a value nevertheless. That
    /// value may be incomplete, and is never taken for the whole.
    ///
    /// A task that has [timed out](Self::is_timed_out) or [stalled](Self::is_stalled) has none: this error existed
    /// before its function returned.
    ///
    /// # Errors
    ///
    /// The error itself, unchanged, if there is no such value or if it is not a `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::SyncExecutor;
    ///
    /// let task = SyncExecutor::new().spawn(|progress| {
    ///     Ok(progress.iter(1..=100).map_while(Result::ok).sum::<u64>())
    /// });
    /// let canceller = task.canceller();
    /// let error = task.on_progress(move |_, new| if new.n == 4 { canceller.cancel() }).wait().unwrap_err();
    /// assert!(error.is_cancelled());
    /// assert_eq!(error.into_partial::<u64>().unwrap(), 1 + 2 + 3 + 4);
    /// ```
    pub fn into_partial<T: 'static>(mut self) -> Result<T, Self> {
        self.take_partial().ok_or(self)
    }

    /// Like [`into_partial`](Self::into_partial), but keeps the error.
    pub(crate) fn take_partial<T: 'static>(&mut self) -> Option<T> {
        let place = self.0.partial.get_mut().unwrap_or_else(PoisonError::into_inner);
        match place.take()?.downcast() {
            Ok(value) => Some(*value),
            Err(other) => {
                *place = Some(other);
                None
            }
        }
    }

    /// The error that the task returned, if it is an `E`. Errors that came from another process never are: they keep
    /// their message and those of their sources, as text.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::num::ParseIntError;
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let error = executor.spawn(|_| Ok("seven".parse::<u64>()?)).wait().unwrap_err();
    /// assert!(error.downcast_ref::<ParseIntError>().is_some());
    /// assert!(error.downcast_ref::<std::io::Error>().is_none());
    /// ```
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.source.as_deref()?.downcast_ref()
    }

    /// The message of the task's panic.
    pub(crate) fn panic_text(&self) -> Option<String> {
        self.payload().as_deref().and_then(panic_message).map(str::to_owned)
    }

    fn payload(&self) -> std::sync::MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        self.0.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the task ended: ` at 61 %`.
    fn fmt_place(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        let progress = &self.0.progress;
        match progress.percent() {
            _ if self.0.is_not_run_again => f.write_str(", and could not be run again"),
            _ if progress.elapsed.is_zero() => f.write_str(" before it started"),
            Some(percent) => write!(f, " at {percent} %"),
            None if progress.n > 0 => write!(f, " after {}", Counted(progress.n, UNITS)),
            None => Ok(()),
        }
    }

    /// How late the task has responded: `, without a progress call for 12.3 s`.
    fn fmt_response(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        let is_remarkable = |silence: &Duration| match self.0.kind {
            TaskErrorKind::Stalled => true,
            TaskErrorKind::TimedOut | TaskErrorKind::Cancelled(_) => *silence >= REMARKABLE,
            _ => false,
        };
        if let Some(silence) = self.0.silent_for.filter(is_remarkable) {
            write!(f, ", without a progress call for {}", HumanDuration(silence))?;
        }
        if let Some(time) = self.0.noticed_after.filter(|&time| time >= REMARKABLE) {
            write!(f, ", noticed after {}", HumanDuration(time))?;
        }
        Ok(())
    }
}

/// Responses that take this long are mentioned.
const REMARKABLE: Duration = Duration::from_secs(1);

impl fmt::Display for TaskErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cancelled(_) => "was cancelled",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed out",
            Self::Stalled => "stalled",
            Self::WorkerLost(exit) => return write!(f, "lost its worker: {exit}"),
            Self::NotRegistered => "was not run: its function is not registered",
            Self::Encode => "could not be encoded",
            Self::Decode => "could not be decoded",
            Self::Rejected => "was not run",
            Self::Taken => "has no outcome left: it was taken before",
        })
    }
}

impl TaskError {
    /// Where, why and how late the task ended.
    fn fmt_end(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        self.fmt_place(f)?;
        match self.0.kind {
            TaskErrorKind::Cancelled(CancelCause::Dropped) => f.write_str(": its future was dropped")?,
            TaskErrorKind::Cancelled(CancelCause::Shutdown) => f.write_str(": its executor was shut down")?,
            TaskErrorKind::Cancelled(CancelCause::GroupFailed) => {
                f.write_str(": another task of its group has failed")?
            }
            _ => {}
        }
        if let Some(message) = self.payload().as_deref().and_then(panic_message) {
            write!(f, ": {message}")?;
        }
        self.fmt_response(f)
    }

    fn fmt_message(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        let Subject { name, is_default, function, .. } = &self.0.subject;
        match is_default {
            true => write!(f, "task `{name}` ")?,
            false => write!(f, "task `{name}` ({function}) ")?,
        }
        match (&self.0.kind, &self.0.place) {
            (TaskErrorKind::WorkerLost(exit), Some(place)) => write!(f, "lost its worker{place}: {exit}")?,
            (kind, _) => write!(f, "{kind}")?,
        }
        if !matches!(self.0.kind, TaskErrorKind::NotRegistered | TaskErrorKind::Rejected | TaskErrorKind::Taken) {
            self.fmt_end(f)?;
        }
        match self.0.others {
            0 => Ok(()),
            1 => f.write_str(", and another task of its group failed"),
            others => write!(f, ", and {others} other tasks of its group failed"),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_message(&mut OneLine(f))?;
        if f.alternate() { fmt_chain(self, f) } else { Ok(()) }
    }
}

/// The message of a panic, if its payload is a string, as that of `panic!` is.
fn panic_message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Calls code of the user, and turns a panic into an error.
pub(crate) fn guard<T>(call: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| Err(panic_error(payload)))
}

fn panic_error(payload: Box<dyn Any + Send>) -> BoxError {
    let error = match panic_message(&*payload) {
        Some(message) => format!("it panicked: {message}").into(),
        None => "it panicked".into(),
    };
    drop_payload(payload);
    error
}

/// Readable, since this is what a `main` that returns the error shows; `{:#?}` shows the structure.
impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            self.fmt_message(f)?;
            return fmt_causes(self, f);
        }
        f.debug_struct("TaskError")
            .field("kind", &self.0.kind)
            .field("id", &self.0.subject.id)
            .field("message", &format_args!("{self}"))
            .field("progress", &self.0.progress)
            .field("silent_for", &self.0.silent_for)
            .field("noticed_after", &self.0.noticed_after)
            .field("source", &self.0.source)
            .finish()
    }
}

impl Error for TaskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.0.source.as_deref().map(|source| source as _);
        // So that a task that waits for this one, and is cancelled as well, can pass this error on.
        source.or(self.is_cancelled().then_some(&CancellationMark))
    }
}
