//! How far the tasks of a group have come: plain data.

use std::time::Duration;

use crate::progress::Status;

/// How far the tasks of a [`TaskGroup`](crate::TaskGroup) have come together: a plain snapshot.
///
/// The progress of a [`Map`](crate::Map) counts inputs: each input is one unit.
///
/// # Examples
///
/// ```
/// use progress_executor::{SyncExecutor, TaskGroup};
///
/// let executor = SyncExecutor::new();
/// let mut group = TaskGroup::new();
/// for n in [10, 30] {
///     group.add(executor.spawn(move |progress| Ok(progress.set_counts(n, n)?)));
/// }
/// assert_eq!(group.progress().pending, 2);
/// let _ = futures::executor::block_on_stream(&mut group).next();
///
/// let progress = group.progress();
/// assert_eq!((progress.n, progress.finished, progress.pending), (10, 1, 1));
/// assert_eq!(progress.fraction(), Some(0.5)); // the other one is taken to be as large
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct GroupProgress {
    /// The units that all tasks have done.
    pub n: u64,
    /// The units to do, if every task that has not ended has set a total. A task that has ended counts with what it
    /// has done.
    pub total: Option<u64>,
    /// How many tasks have not started.
    pub pending: usize,
    /// How many are running.
    pub running: usize,
    /// How many wait because they were paused.
    pub paused: usize,
    /// How many are running and were asked to end.
    pub cancelling: usize,
    /// How many have ended with a value.
    pub finished: usize,
    /// How many have ended with an error or a panic, because of a limit, or without having run.
    pub failed: usize,
    /// How many have ended because they were asked to.
    pub cancelled: usize,
    /// The time during which at least one of the tasks was running.
    pub elapsed: Duration,
    pub(crate) fraction: Option<f64>,
}

impl GroupProgress {
    /// How many tasks there are, including those that have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::GroupProgress;
    ///
    /// let mut progress = GroupProgress::default();
    /// (progress.running, progress.finished) = (2, 3);
    /// assert_eq!((progress.ended(), progress.tasks()), (3, 5));
    /// ```
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.pending + self.running + self.paused + self.cancelling + self.ended()
    }

    /// How many tasks have ended, in whatever way.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::GroupProgress;
    ///
    /// let mut progress = GroupProgress::default();
    /// (progress.finished, progress.failed, progress.cancelled) = (3, 2, 1);
    /// assert_eq!(progress.ended(), 6);
    /// ```
    #[must_use]
    pub fn ended(&self) -> usize {
        self.finished + self.failed + self.cancelled
    }

    /// How many tasks have this status.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{GroupProgress, Status};
    ///
    /// let mut progress = GroupProgress::default();
    /// progress.running = 2;
    /// assert_eq!(progress.count(Status::Running), 2);
    /// ```
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        *self.clone().count_mut(status)
    }

    /// The fraction that is done, from 0 to 1; `None` for a group without tasks, and for a map with an unknown number
    /// of inputs.
    ///
    /// If every task counts and has a total, this is `n / total`. A task whose total is unknown is assumed to be as large as
    /// the others are on average, and counts as not begun; a task that has ended without counting anything is assumed to be as
    /// large, and counts as done. If a task turns out to be larger, the fraction stands still until that is made up for: it
    /// goes back only when work is added, by a new task or by a total that grows.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut group = progress_executor::TaskGroup::new();
    /// assert_eq!(group.progress().fraction(), None);
    /// group.extend((0..4).map(|n| executor.spawn(move |_| Ok(n))));
    /// let _ = futures::executor::block_on_stream(&mut group).next();
    /// assert_eq!(group.progress().fraction(), Some(0.25));
    /// ```
    #[must_use]
    pub fn fraction(&self) -> Option<f64> {
        self.fraction
    }

    /// Units per second, over the time that the group has been [running](Self::elapsed); zero before any time has
    /// passed.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::GroupProgress;
    ///
    /// let mut progress = GroupProgress::default();
    /// (progress.n, progress.elapsed) = (30, std::time::Duration::from_secs(10));
    /// assert_eq!(progress.rate(), 3.0);
    /// ```
    #[must_use]
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.n as f64 / seconds } else { 0.0 }
    }

    /// The time that the rest will take if it goes on as before: zero when nothing is left, `None` if that cannot be
    /// told, because nothing has been done yet or the [fraction](Self::fraction) is unknown.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut group = progress_executor::TaskGroup::new();
    /// assert_eq!(group.progress().eta(), None);
    /// group.add(executor.spawn(|progress| Ok(progress.set_counts(3, 3)?)));
    /// let _ = futures::executor::block_on_stream(&mut group).next();
    /// assert_eq!(group.progress().eta(), Some(Duration::ZERO));
    /// ```
    #[must_use]
    pub fn eta(&self) -> Option<Duration> {
        let fraction = self.fraction?;
        if fraction >= 1.0 {
            return Some(Duration::ZERO);
        }
        // Tasks that have ended without having run tell nothing about the rest.
        if self.elapsed.is_zero() {
            return None;
        }
        Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * (1.0 - fraction) / fraction).ok()
    }

    pub(crate) fn count_mut(&mut self, status: Status) -> &mut usize {
        match status {
            Status::Pending => &mut self.pending,
            Status::Running => &mut self.running,
            Status::Paused => &mut self.paused,
            Status::Cancelling => &mut self.cancelling,
            Status::Finished => &mut self.finished,
            Status::Failed => &mut self.failed,
            Status::Cancelled => &mut self.cancelled,
        }
    }
}
