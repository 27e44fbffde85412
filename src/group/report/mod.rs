//! The report of a run: when and where each task of a group ran, and how it ended.

pub(crate) mod history;
pub(crate) mod html;
pub(crate) mod lanes;
#[cfg(feature = "serde")]
mod serialized;
pub(crate) mod summary;
pub(crate) mod trace;

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::error::TaskErrorKind;
use crate::group::report::history::History;
use crate::id::{TaskId, WorkerId};
use crate::progress::Status;
use crate::sync::clock;
use crate::task::counts::known;
use crate::task::details::TrySpan;
use crate::task::items::ItemReading;
use crate::task::record::TaskRecord;

/// When and where the tasks of a group or a map ran, and how they ended: plain data, made by
/// [`TaskGroup::report`](crate::TaskGroup::report), [`Map::report`](crate::Map::report) and
/// [`GroupHandle::report`](crate::GroupHandle::report).
///
/// Nothing is measured for it: it shows what is known of tasks anyway. Displayed, it is one line:
///
/// ```text
/// 16 ended: 12 finished, 3 failed, 1 lost; 3 workers busy 87 % of 41 s; the longest: walk 04, 6.1 s
/// ```
///
/// A task has *failed* if it ended with an error or a panic, because of a limit, or without having run; it is *lost* if its
/// worker was. For a map, each input counts as a task. Workers are those that have run something. They were *busy* while they
/// did: that is a share of the time from the first start to the last end.
///
/// Moments are given as the time since the first task was [submitted](Self::started_at). With the feature `serde` it
/// can be serialized, with all times in seconds. It is a copy that keeps no task alive and does not change.
///
/// # Examples
///
/// ```
/// use progress_executor::{TaskGroup, ThreadPoolExecutor};
///
/// let executor = ThreadPoolExecutor::new(2);
/// let group: TaskGroup<u32> = (0..16).map(|n| executor.spawn(move |_| Ok(n))).collect();
/// let handle = group.handle();
/// group.join().wait()?;
///
/// let report = handle.report();
/// assert!(report.to_string().starts_with("16 ended: 16 finished; "));
/// for task in report.tasks() {
///     println!("{} on {:?}, from {:?} to {:?}", task.name, task.worker, task.started, task.ended);
/// }
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GroupReport {
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialized::since_epoch"))]
    started_at: SystemTime,
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialized::seconds"))]
    elapsed: Duration,
    summary: String,
    pending: usize,
    omitted: usize,
    tasks: Vec<TaskReport>,
}

/// When and where a task ran, and how it ended; see [`GroupReport`].
///
/// # Examples
///
/// ```
/// use progress_executor::{ExecutorExt, SyncExecutor, TaskGroup, TaskReport};
///
/// let executor = SyncExecutor::new();
/// let mut group = TaskGroup::new();
/// let handle = group.handle();
/// group.add(executor.task(|n: u64, progress| Ok(progress.set_counts(n, 8)?), 7).name("dig").submit());
/// group.join().wait()?;
/// let report = handle.report();
/// let TaskReport { name, n, total, tries, .. } = &report.tasks()[0];
/// assert_eq!((&**name, *n, *total, *tries), ("dig", 7, Some(8), 1));
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TaskReport {
    /// The id of the task.
    pub id: TaskId,
    /// The name that it was given, or else the name of its function with its id.
    pub name: String,
    /// The name of its function, for people.
    pub function: &'static str,
    /// The worker that ran it last; `None` if it was never started, or not again since it has [lost](Self::lost_tries) one.
    pub worker: Option<WorkerId>,
    /// When it was submitted, or more exactly added to the group; if it had started or ended before that, when it did.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialized::seconds"))]
    pub submitted: Duration,
    /// When it was last started, if it was, and has not lost its worker since. For a task in another process, this is known to
    /// about a millisecond: the start of a short task is reported only when it has ended.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialized::maybe_seconds"))]
    pub started: Option<Duration>,
    /// When it ended, if it has.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialized::maybe_seconds"))]
    pub ended: Option<Duration>,
    /// How long it has been running: from its start to its end, or to now, without the time it was paused.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialized::seconds"))]
    pub elapsed: Duration,
    /// What it is doing, or how it has ended.
    pub status: Status,
    /// How it has ended, if not with a value.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialized::maybe_text"))]
    pub error: Option<TaskErrorKind>,
    /// How often it was started.
    pub tries: u32,
    /// Its earlier tries, whose workers were lost; at most the first 32.
    pub lost_tries: Vec<LostTry>,
    /// When it was asked to end, if it was running then.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialized::maybe_seconds"))]
    pub cancel_requested: Option<Duration>,
    /// The units that it has done.
    pub n: u64,
    /// The units to do, if it has set a total.
    pub total: Option<u64>,
    /// How many inputs of a [map](crate::Map::chunks) it has run: 1 unless it is a chunk of several.
    pub inputs: usize,
    /// How many of them have failed. The status of the chunk does not tell; the page and the trace show one with failed inputs as
    /// failed.
    pub failed_inputs: usize,
}

/// A try of a task that ended with the loss of its worker, after which it was [started again](crate::TaskBuilder::retries).
///
/// # Examples
///
/// ```standalone_crate
/// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskGroup, TaskRegistry, TaskResult, Updater};
///
/// fn crash((): (), _: &Updater) -> TaskResult<()> {
///     std::process::exit(1)
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     TaskRegistry::new().register(crash).init();
///     let executor = ProcessPoolExecutor::new(1)?;
///     let mut group = TaskGroup::new();
///     let handle = group.handle();
///     group.add(executor.task(crash, ()).retries(2).submit());
///     assert!(group.join().wait().unwrap_err().is_worker_lost());
///     let report = handle.report();
///     for lost in &report.tasks()[0].lost_tries {
///         println!("{:?} was lost after {:?}", lost.worker, lost.ended - lost.started);
///     }
///     assert_eq!(report.tasks()[0].lost_tries.len(), 2);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LostTry {
    /// The worker that was lost.
    pub worker: Option<WorkerId>,
    /// When the try was started.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialized::seconds"))]
    pub started: Duration,
    /// When its worker was found to be lost.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialized::seconds"))]
    pub ended: Duration,
}

impl GroupReport {
    /// The report of the tasks whose outcomes were handed out, and of those that are present. Of the items that have
    /// moved on, `moved` count in the task that they have moved to; `are_abandoned` if the others never will.
    pub(crate) fn new(history: History, present: Vec<TaskRecord>, moved: usize, are_abandoned: bool) -> Self {
        let (now, now_at) = (clock::now(), SystemTime::now());
        let (mut records, mut summary) = history.into_parts();
        let omitted = summary.ended();
        records.extend(present);
        one_at_a_time(&mut records);
        records.iter().for_each(|record| summary.add(record));
        summary.settle_moved(moved, are_abandoned);
        let first = summary.submitted.unwrap_or(now);
        records.retain(|record| record.tries() > 0 || record.ended().is_some());
        records.sort_by_key(|record| record.id);
        let since = |moment: u64| Duration::from_nanos(moment.saturating_sub(first));
        Self {
            started_at: now_at.checked_sub(since(now)).unwrap_or(now_at),
            elapsed: since(summary.end(now)),
            summary: summary.line(now),
            pending: summary.pending(),
            omitted,
            tasks: records.into_iter().map(|record| TaskReport::new(record, since)).collect(),
        }
    }

    /// Every task that has started or ended, in the order in which they were submitted, except for those that are
    /// [omitted](Self::omitted).
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{Status, TaskGroup};
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = TaskGroup::new();
    /// let handle = group.handle();
    /// group.add(executor.spawn(|_| Err::<(), _>("out of paper".into())));
    /// group.add(executor.spawn(|_| Ok(())));
    /// group.join_all().wait();
    /// let report = handle.report();
    /// let failed = report.tasks().iter().filter(|task| task.status == Status::Failed);
    /// assert_eq!(failed.count(), 1);
    /// ```
    #[must_use]
    pub fn tasks(&self) -> &[TaskReport] {
        &self.tasks
    }

    /// How many tasks wait for their start. They are not listed, unless they wait to be [started
    /// again](crate::TaskBuilder::retries).
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{SyncExecutor, TaskGroup};
    ///
    /// let mut group = TaskGroup::new();
    /// group.add(SyncExecutor::new().spawn(|_| Ok(())));
    /// assert_eq!((group.report().pending(), group.report().tasks().len()), (1, 0));
    /// # group.join().wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// How many ended tasks are not listed, because there were too many: a group keeps the latest 131,072 of them, a map the
    /// latest 10,000.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::{ExecutorExt, SyncExecutor};
    ///
    /// # smol::block_on(async {
    /// let executor = SyncExecutor::new();
    /// let mut map = executor.map(|n: u64, _| Ok(n), 0..10_001);
    /// while map.next().await.is_some() {}
    /// assert_eq!(map.report().omitted(), 1);
    /// # });
    /// ```
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// When the first task was submitted; all other moments are relative to this.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::SystemTime;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let group: progress_executor::TaskGroup<()> = [executor.spawn(|_| Ok(()))].into_iter().collect();
    /// let handle = group.handle();
    /// group.join().wait()?;
    /// let report = handle.report();
    /// let ended: Option<SystemTime> = report.tasks()[0].ended.map(|ended| report.started_at() + ended);
    /// assert!(ended.is_some());
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// The time from when the first task was submitted until the last one ended, or until now if one is running.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let group: progress_executor::TaskGroup<()> = [executor.spawn(|_| Ok(()))].into_iter().collect();
    /// let handle = group.handle();
    /// group.join().wait()?;
    /// let report = handle.report();
    /// assert_eq!(Some(report.elapsed()), report.tasks()[0].ended);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

impl TaskReport {
    fn new(record: TaskRecord, since: impl Fn(u64) -> Duration) -> Self {
        let lost_tries = record.lost_tries().map_or(&[][..], |lost| &lost.first);
        let lost_try = |lost: &TrySpan| LostTry {
            worker: lost.worker.clone(),
            started: since(lost.started),
            ended: since(lost.ended),
        };
        Self {
            id: record.id,
            name: record.name().into(),
            function: record.function(),
            submitted: since(record.submitted),
            started: record.started().map(&since),
            ended: record.ended().map(&since),
            elapsed: Duration::from_nanos(record.elapsed),
            status: record.status,
            error: record.error().cloned(),
            tries: record.tries(),
            lost_tries: lost_tries.iter().map(lost_try).collect(),
            cancel_requested: record.cancel_requested().map(&since),
            n: record.n,
            total: known(record.total),
            inputs: record.items().map_or(1, ItemReading::ended),
            failed_inputs: record.items().map_or((record.status == Status::Failed).into(), |items| items.failed),
            worker: record.worker(),
        }
    }

    /// What it is doing, or how it has ended, in a few words.
    fn outcome(&self) -> String {
        match &self.error {
            Some(error) if self.status == Status::Failed => error.to_string(),
            _ if self.inputs > 1 => format!("{}, {} of {} inputs failed", self.status, self.failed_inputs, self.inputs),
            _ => self.status.to_string(),
        }
    }
}

/// A process runs one task at a time, but reports in bursts. So the end of each task is moved back to the start of the
/// next.
fn one_at_a_time(records: &mut [TaskRecord]) {
    let mut processes: Vec<(WorkerId, &mut TaskRecord)> = Vec::new();
    for record in records.iter_mut().filter(|record| record.ended().is_some()) {
        if let Some(worker @ WorkerId::Process { .. }) = record.worker() {
            processes.push((worker, record));
        }
    }
    processes.sort_unstable_by(|(a, one), (b, other)| (a, one.ended(), one.id).cmp(&(b, other.ended(), other.id)));
    for records in processes.chunk_by_mut(|(one, _), (other, _)| one == other) {
        let mut next_start = u64::MAX;
        for (_, record) in records.iter_mut().rev() {
            record.move_back(record.ended().map_or(0, |ended| ended.saturating_sub(next_start)));
            next_start = record.started().unwrap_or(next_start);
        }
    }
}

/// The tasks in one line.
impl fmt::Display for GroupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.summary)
    }
}

#[cfg(test)]
mod tests {
    use super::GroupReport;
    use crate::group::report::history::History;
    use crate::progress::Status;
    use crate::run;
    use crate::task::details::{LostTries, TrySpan};
    use crate::task::idle::Idle;
    use crate::task::record::TaskRecord;

    #[test]
    fn a_task_that_waits_for_another_try_is_listed_with_the_one_that_was_lost() {
        let (task, _handle) = run::new(Idle, None);
        let lost = TrySpan { worker: None, started: 2, ended: 3 };
        task.core.details().totals().past.get_or_insert_default().lost_tries =
            LostTries { count: 1, first: vec![lost], last_exit: None };
        let report = GroupReport::new(History::new(9), vec![TaskRecord::new(&task, 1)], 0, false);

        let [listed] = report.tasks() else { panic!("{report:?}") };
        assert_eq!((listed.status, listed.tries, listed.lost_tries.len()), (Status::Pending, 1, 1));
        assert_eq!((listed.started, listed.ended, report.pending()), (None, None, 1));
        let mut trace = Vec::new();
        report.write_chrome_trace(&mut trace).unwrap();
        assert!(!String::from_utf8(trace).unwrap().contains("\"cancel\""), "nobody has asked it to end");
    }
}
