//! What each worker has run, one task after the other.

use std::cmp::Reverse;
use std::time::Duration;

use crate::error::TaskErrorKind;
use crate::group::report::{GroupReport, TaskReport};
use crate::id::WorkerId;
use crate::progress::Status;

/// How a task or one of its tries has ended, as far as its colour tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Finished,
    Failed,
    Lost,
    Cancelled,
    Running,
    /// It has lost its worker and waits to be started again.
    Waiting,
}

/// A task on a worker, from its start to its end, or to the end of the report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    /// The index of the task in the report.
    pub(crate) index: usize,
    pub(crate) task: &'a TaskReport,
    pub(crate) started: Duration,
    pub(crate) ended: Duration,
    pub(crate) fate: Fate,
}

/// Spans that follow each other.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    pub(crate) worker: &'a WorkerId,
    pub(crate) title: String,
    pub(crate) spans: Vec<Span<'a>>,
}

impl Fate {
    pub(crate) fn of(task: &TaskReport) -> Self {
        match (task.status, &task.error) {
            (Status::Failed, Some(TaskErrorKind::WorkerLost(_))) => Self::Lost,
            (Status::Failed, _) => Self::Failed,
            (Status::Finished, _) if task.failed_inputs > 0 => Self::Failed,
            (Status::Finished, _) => Self::Finished,
            (Status::Cancelled, _) => Self::Cancelled,
            (Status::Pending, _) => Self::Waiting,
            _ => Self::Running,
        }
    }
}

/// A lane for each worker. A worker that ran a second task within the first, like a thread that runs what it waits
/// for, has another lane for that.
pub(crate) fn lanes(report: &GroupReport) -> Vec<Lane<'_>> {
    let tasks = report.tasks().iter().enumerate();
    lanes_of(tasks.flat_map(|(index, task)| spans(index, task, report)).collect())
}

fn lanes_of<'a>(mut spans: Vec<(&'a WorkerId, Span<'a>)>) -> Vec<Lane<'a>> {
    // Of two spans that start together, the longer one encloses the other.
    spans.sort_unstable_by_key(|(worker, span)| (*worker, span.started, Reverse(span.ended), span.index));
    spans.chunk_by(|(one, _), (other, _)| one == other).flat_map(side_by_side).collect()
}

/// The tries of a task, with the workers that ran them.
fn spans<'a>(
    index: usize,
    task: &'a TaskReport,
    report: &GroupReport,
) -> impl Iterator<Item = (&'a WorkerId, Span<'a>)> {
    let (end, fate) = (report.elapsed(), Fate::of(task));
    let lost = task.lost_tries.iter().map(|lost| (&lost.worker, lost.started, lost.ended, Fate::Lost));
    let last = task.started.map(|started| (&task.worker, started, task.ended.unwrap_or(end), fate));
    lost.chain(last).filter_map(move |(worker, started, ended, fate)| {
        Some((worker.as_ref()?, Span { index, task, started, ended: ended.max(started), fate }))
    })
}

/// The lanes of one worker.
fn side_by_side<'a>(spans: &[(&'a WorkerId, Span<'a>)]) -> Vec<Lane<'a>> {
    let mut lanes: Vec<Lane<'a>> = Vec::new();
    for &(worker, span) in spans {
        let is_free = |lane: &&mut Lane<'_>| lane.spans.last().is_none_or(|last| last.ended <= span.started);
        match lanes.iter_mut().find(is_free) {
            Some(lane) => lane.spans.push(span),
            None => {
                let title = match lanes.len() {
                    0 => worker.to_string(),
                    others => format!("{worker} ({})", others + 1),
                };
                lanes.push(Lane { worker, title, spans: vec![span] });
            }
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::{Fate, Span, lanes_of};
    use crate::group::report::TaskReport;
    use crate::id::WorkerId;
    use crate::task::details::Details;
    use crate::task::idle;
    use crate::task::record::TaskRecord;
    use std::time::Duration;

    /// As on a thread that runs what its task waits for.
    #[test]
    fn what_runs_within_another_task_has_a_lane_beside_it() {
        let record = TaskRecord::new(&idle::started(Details::default()), 0);
        let task = TaskReport::new(record, Duration::from_nanos);
        let span = |index, started, ended| {
            let (started, ended) = (Duration::from_millis(started), Duration::from_millis(ended));
            (&WorkerId::Thread(7), Span { index, task: &task, started, ended, fate: Fate::Finished })
        };
        let lanes = lanes_of(vec![span(0, 0, 2), span(1, 3, 5), span(2, 2, 9), span(3, 9, 10)]);
        let lanes: Vec<_> = lanes
            .iter()
            .map(|lane| (&*lane.title, lane.spans.iter().map(|span| span.index).collect::<Vec<_>>()))
            .collect();
        assert_eq!(lanes, [("thread 7", vec![0, 2, 3]), ("thread 7 (2)", vec![1])]);
    }
}
