//! Plain data: how far a task has come.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::id::TaskId;

/// How far a task has come: a plain snapshot, taken at one moment.
///
/// Snapshots come from [`ProgressFuture::progress`](crate::ProgressFuture::progress), from
/// [`updates`](crate::ProgressFuture::updates), as arguments of progress callbacks, and with every
/// [`TaskError`](crate::TaskError). They can be sent elsewhere: with the feature `serde`, they implement
/// its traits. To construct one, for example to test a bar, start with the [default](Self::default), a task that has
/// not started, and set its fields.
///
/// `n` and `total` are what the task has reported, in units of its own choice. A task may exceed its total
/// (`n > total`) and may go back, for example to count again from the start; [`fraction`](Self::fraction) stays
/// between 0 and 1. While a [part](crate::Updater::split) of the work is under way, `n` includes what it has done so
/// far, rounded down.
///
/// # Examples
///
/// ```
/// use progress_executor::{Status, SyncExecutor};
///
/// let executor = SyncExecutor::new();
/// let task = executor.spawn(|progress| {
///     progress.set_counts(30, 40)?;
///     Err::<(), _>("out of paper".into())
/// });
/// let error = task.wait().unwrap_err();
/// assert_eq!(error.progress().status, Status::Failed);
/// assert_eq!(error.progress().fraction(), Some(0.75));
/// ```
#[derive(Clone, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ProgressState {
    /// The units done so far.
    pub n: u64,
    /// The units to do, if the task has set a total.
    pub total: Option<u64>,
    /// What the task is doing.
    pub status: Status,
    /// The last message that the task has set.
    pub message: Option<Arc<str>>,
    /// How long the task has been running: from its start to its end, without the time it was paused. Zero before the
    /// start.
    pub elapsed: Duration,
    /// How much of the next unit is done, from 0 to less than 1. Other than 0 only while a
    /// [part](crate::Updater::split) of the work is under way.
    #[cfg_attr(feature = "serde", serde(default))]
    pub part: f64,
    /// The [parts](crate::Updater::split) of the work that are under way and have a [name](crate::Updater::named), in the order
    /// in which they were split off, each followed by its own parts; at most the first 16. Empty once the task has ended.
    #[cfg_attr(feature = "serde", serde(default))]
    pub parts: Vec<PartState>,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) origin: Origin,
    /// For a chunk of a map: how many of its items have ended.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) ended_items: usize,
}

/// Shows the public fields only.
impl fmt::Debug for ProgressState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressState")
            .field("n", &self.n)
            .field("total", &self.total)
            .field("status", &self.status)
            .field("message", &self.message)
            .field("elapsed", &self.elapsed)
            .field("part", &self.part)
            .field("parts", &self.parts)
            .finish()
    }
}

/// The task that a state belongs to, if it is serialized with the state. Not part of the state itself: all origins
/// compare equal.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "serde"), expect(dead_code, reason = "only what is serialized tells it"))]
pub(crate) struct Origin(pub(crate) Option<(TaskId, Arc<str>)>);

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Compensates for rounding errors in sums of fractions, and in hundredths that are computed from them.
pub(crate) const ROUNDING: f64 = 1e-9;
/// The largest number below 1.
pub(crate) const ALMOST_ONE: f64 = 1.0 - f64::EPSILON / 2.0;

impl ProgressState {
    /// The state of a task before anything has happened.
    pub(crate) const INITIAL: Self = Self {
        n: 0,
        total: None,
        status: Status::Pending,
        message: None,
        elapsed: Duration::ZERO,
        part: 0.0,
        parts: Vec::new(),
        origin: Origin(None),
        ended_items: 0,
    };

    /// The fraction that is done, from 0 to 1; `None` if the total is unknown. It is 1 only if nothing is left; a total of 0
    /// counts as done.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ProgressState, Status};
    /// use std::time::Duration;
    ///
    /// let mut state = ProgressState::default();
    /// (state.n, state.total, state.status) = (3, Some(4), Status::Running);
    /// state.elapsed = Duration::from_secs(6);
    /// assert_eq!(state.fraction(), Some(0.75));
    /// assert_eq!(state.rate(), 0.5);
    /// assert_eq!(state.eta(), Some(Duration::from_secs(2)));
    /// ```
    #[must_use]
    pub fn fraction(&self) -> Option<f64> {
        fraction(self.n, self.total, self.part)
    }

    /// The fraction in percent, rounded down, so that only complete work is at 100. Computed with integers, since 100 times
    /// 0.29 is less than 29.
    pub(crate) fn percent(&self) -> Option<u8> {
        let hundred_parts = (100.0 * self.part.clamp(0.0, 1.0) + ROUNDING) as u128;
        let done = 100 * u128::from(self.n) + hundred_parts;
        Some(done.checked_div(self.total?.into()).map_or(100, |percent| percent.min(100) as u8))
    }

    /// Units per second, averaged over the whole time that the task has been running; zero before any time has passed.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::ProgressState;
    /// use std::time::Duration;
    ///
    /// let mut state = ProgressState::default();
    /// assert_eq!(state.rate(), 0.0);
    /// (state.n, state.elapsed) = (30, Duration::from_secs(10));
    /// assert_eq!(state.rate(), 3.0);
    /// ```
    #[must_use]
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { (self.n as f64 + self.part) / seconds } else { 0.0 }
    }

    /// The time that the rest will take at the [`rate`](Self::rate) so far: zero when nothing is left, `None` if that
    /// cannot be told, because the total is unknown or nothing has been done yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::ProgressState;
    /// use std::time::Duration;
    ///
    /// let mut state = ProgressState::default();
    /// (state.n, state.elapsed) = (30, Duration::from_secs(10));
    /// assert_eq!(state.eta(), None); // of how many?
    /// state.total = Some(120);
    /// assert_eq!(state.eta(), Some(Duration::from_secs(30)));
    /// ```
    #[must_use]
    pub fn eta(&self) -> Option<Duration> {
        let left = self.total?.saturating_sub(self.n);
        if left == 0 {
            return Some(Duration::ZERO);
        }
        Duration::try_from_secs_f64((left as f64 - self.part) / self.rate()).ok()
    }
}

/// How far a [named](crate::Updater::named) part of a task's work has come; one of the [parts](ProgressState::parts)
/// of a [`ProgressState`].
///
/// # Examples
///
/// ```
/// use progress_executor::SyncExecutor;
///
/// let task = SyncExecutor::new().spawn(|progress| {
///     progress.set_total(100);
///     let part = progress.split(90).named("download");
///     part.set_counts(3, 4)?;
///     Ok(())
/// });
/// let task = task.on_progress(|_, new| {
///     for part in &new.parts {
///         println!("{}: {} of {:?}", part.name, part.n, part.total); // download: 3 of Some(4)
///     }
/// });
/// task.wait()?;
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PartState {
    /// The name that the task has given the part.
    pub name: Arc<str>,
    /// The units done so far, in the part's own units rather than the task's.
    pub n: u64,
    /// The units to do, if the part has a total.
    pub total: Option<u64>,
    /// How much of the next unit is done, from 0 to less than 1.
    pub part: f64,
    /// How many named parts this one is nested in.
    pub depth: u8,
}

impl PartState {
    /// The fraction that is done, from 0 to 1; `None` if the total is unknown. It is 1 only if nothing is left; a total of 0
    /// counts as done.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::PartState;
    ///
    /// let mut part = PartState::default();
    /// assert_eq!(part.fraction(), None);
    /// (part.n, part.total) = (3, Some(4));
    /// assert_eq!(part.fraction(), Some(0.75));
    /// ```
    #[must_use]
    pub fn fraction(&self) -> Option<f64> {
        fraction(self.n, self.total, self.part)
    }
}

/// Less than 1 while something is left, even if that is too little for the precision of the counts.
fn fraction(n: u64, total: Option<u64>, part: f64) -> Option<f64> {
    let total = total?;
    let is_complete = total.saturating_sub(n) as f64 <= part.max(0.0) + ROUNDING;
    Some(if is_complete { 1.0 } else { ((n as f64 + part) / total as f64).min(ALMOST_ONE) })
}

/// What a task is doing. Displayed and serialized (with the feature `serde`) as one lower-case word.
///
/// ```text
/// Pending ──► Running ──► Finished | Failed | Cancelled
///    │         │   ▲ │
///    │         ▼   │ └──► Cancelling ──► Finished | Failed | Cancelled
///    │        Paused
///    └──► Paused (before it starts), Failed (refused), Cancelled
/// ```
///
/// A task that has lost its worker and will be started [again](crate::TaskBuilder::retries) is pending once more.
///
/// # Examples
///
/// ```
/// use progress_executor::{Status, SyncExecutor};
///
/// let task = SyncExecutor::new().spawn(|_| Ok(()));
/// assert_eq!(task.progress().status, Status::Pending);
/// assert_eq!(Status::Cancelling.to_string(), "cancelling");
/// # task.wait()?;
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Status {
    /// Not started yet.
    #[default]
    Pending,
    /// Its function is running.
    Running,
    /// Waits inside a progress call, or has not been started, because it was [paused](crate::ProgressFuture::pause).
    Paused,
    /// Running, and asked to end.
    Cancelling,
    /// Ended with a value.
    Finished,
    /// Ended with an error or a panic, because of a limit, or without having run.
    Failed,
    /// Ended because it was asked to.
    Cancelled,
}

impl Status {
    /// Whether the task has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Status;
    ///
    /// assert!(Status::Cancelled.is_terminal());
    /// assert!(!Status::Cancelling.is_terminal());
    /// ```
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelling => "cancelling",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}
