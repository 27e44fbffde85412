//! What a report keeps of a task when everything else of it is gone.

use std::sync::Arc;

use crate::error::TaskErrorKind;
use crate::id::{TaskId, WorkerId};
use crate::progress::Status;
use crate::task::core::{Core, Place};
use crate::task::details::{LostTries, Past, default_name};
use crate::task::items::ItemReading;
use crate::task::{Body, Task};

/// A task as it is now, or was at its end. Moments are nanoseconds of the [clock](crate::sync::clock).
///
/// A group keeps one for each task that has ended, so what most tasks lack is boxed.
#[derive(Clone, Debug)]
pub(crate) struct TaskRecord {
    pub(crate) id: TaskId,
    function: fn() -> &'static str,
    pub(crate) submitted: u64,
    /// 0 if it was not started.
    started: u64,
    /// 0 if it has not ended.
    ended: u64,
    /// How long it has been running, in nanoseconds, without its pauses.
    pub(crate) elapsed: u64,
    pub(crate) n: u64,
    pub(crate) total: u64,
    place: Place,
    pub(crate) status: Status,
    rest: Option<Box<Rest>>,
}

#[derive(Clone, Debug, Default)]
struct Rest {
    name: Option<Box<str>>,
    host: Option<Arc<str>>,
    error: Option<TaskErrorKind>,
    cancel_requested: Option<u64>,
    lost_tries: LostTries,
    items: Option<ItemReading>,
}

impl TaskRecord {
    /// The record of a task that was submitted at `submitted` or before.
    pub(crate) fn new(task: &Task<dyn Body>, submitted: u64) -> Self {
        let core = &task.core;
        // A thread that sees that it has ended also sees when and how.
        let status = core.status();
        let has_failed = matches!(status, Status::Failed | Status::Cancelled);
        let error = if has_failed { task.body.error_kind() } else { None };
        let (position, span, past) = core.read(|position, span, totals| {
            (position, span, totals.and_then(|totals| totals.past.as_deref().cloned()).unwrap_or_default())
        });
        let position = if status.is_terminal() { position } else { task.look().unwrap_or(position) };
        let started = past.started(span);
        let ended = if status.is_terminal() { span.stopped } else { 0 };
        let has_started = started > 0;
        // It may have been added to its group later than all of this.
        let first_try = past.lost_tries.first.first().map(|lost| lost.started);
        let known = [started, ended].into_iter().filter(|&at| at > 0).chain(first_try);
        Self {
            id: core.id(),
            function: task.body.function(),
            submitted: known.fold(submitted, u64::min),
            started,
            ended,
            elapsed: span.elapsed(),
            n: position.n,
            total: position.total,
            place: if has_started { core.place() } else { Place::NONE },
            status,
            rest: Rest::new(core, started, past, error),
        }
    }

    pub(crate) fn name(&self) -> Box<str> {
        let given = self.rest.as_ref().and_then(|rest| rest.name.clone());
        given.unwrap_or_else(|| default_name(self.id, self.function()))
    }

    pub(crate) fn function(&self) -> &'static str {
        (self.function)()
    }

    /// The worker that it has started on.
    pub(crate) fn worker(&self) -> Option<WorkerId> {
        self.place.worker(|| self.rest.as_ref()?.host.clone())
    }

    pub(crate) fn started(&self) -> Option<u64> {
        Some(self.started).filter(|&at| at > 0)
    }

    pub(crate) fn ended(&self) -> Option<u64> {
        Some(self.ended).filter(|&at| at > 0)
    }

    /// When it ran, if it has ended, as if its pauses had come before.
    pub(crate) fn run_time(&self) -> Option<(u64, u64)> {
        self.started()?;
        self.ended().map(|ended| (ended.saturating_sub(self.elapsed), ended))
    }

    pub(crate) fn error(&self) -> Option<&TaskErrorKind> {
        self.rest.as_ref()?.error.as_ref()
    }

    /// When it was asked to end while it was running.
    pub(crate) fn cancel_requested(&self) -> Option<u64> {
        let at = self.rest.as_ref()?.cancel_requested?;
        // It may have returned just before, or its end was moved back since.
        Some(self.ended().map_or(at, |ended| at.min(ended)))
    }

    pub(crate) fn lost_tries(&self) -> Option<&LostTries> {
        self.rest.as_ref().map(|rest| &rest.lost_tries)
    }

    /// What has become of its items, if it is a chunk of a map.
    pub(crate) fn items(&self) -> Option<&ItemReading> {
        self.rest.as_ref()?.items.as_ref()
    }

    /// How many times it was started.
    pub(crate) fn tries(&self) -> u32 {
        self.lost_tries().map_or(0, |lost| lost.count).saturating_add(self.started().is_some().into())
    }

    /// Moves start and end back by the time that the message about its end took to arrive. What does not fit between what came
    /// before and the end is no part of the time that it ran.
    pub(crate) fn move_back(&mut self, by: u64) {
        let lost = self.lost_tries().and_then(|lost| lost.first.last());
        let earliest = lost.map_or(self.submitted, |lost| lost.ended.max(self.submitted));
        for moment in [&mut self.started, &mut self.ended] {
            *moment = moment.saturating_sub(by).max(earliest);
        }
        self.elapsed = self.elapsed.min(self.ended.saturating_sub(self.started));
    }
}

impl Rest {
    /// `None` if there is nothing to keep.
    fn new(core: &Core, started: u64, past: Past, error: Option<TaskErrorKind>) -> Option<Box<Self>> {
        let details = core.existing_details();
        if details.is_none() && error.is_none() {
            return None;
        }
        let Past { lost_tries, host, .. } = past;
        let name = details.and_then(|details| details.name.clone());
        let cancel_requested = details.map(|details| details.requested_at.get()).filter(|&at| at > 0);
        // It counts as running a moment before its clock is started.
        let cancel_requested = cancel_requested.map(|at| at.max(started));
        let items = core.items().map(|items| items.counts().read());
        let has_more = name.is_some() || cancel_requested.is_some() || lost_tries.count > 0 || items.is_some();
        let is_plain = !has_more && host.is_none() && error.is_none();
        (!is_plain).then(|| Box::new(Self { name, host, error, cancel_requested, lost_tries, items }))
    }
}

#[cfg(test)]
mod tests {
    use super::TaskRecord;
    use crate::error::TaskErrorKind;
    use crate::id::WorkerId;
    use crate::progress::Status;
    use crate::run;
    use crate::task::details::{Details, LostTries, TrySpan};
    use crate::task::idle::{self, Idle};
    use crate::task::state;

    #[test]
    fn a_pause_lies_between_start_and_end_and_is_no_part_of_the_time_that_it_ran() {
        let task = idle::started(Details::default());
        let core = &task.core;
        let started = core.moment().span.started;
        let details = core.details();
        assert!(details.totals().halt(&core.clock, started + 10));
        assert!(details.totals().go_on(&core.clock, started + 110));
        core.close();
        let record = TaskRecord::new(&task, 0);
        assert_eq!(core.running_for() + 100, core.span().map_or(0, |(_, end)| end - started));
        assert_eq!((record.started, record.elapsed), (started, core.running_for()));
    }

    #[test]
    fn it_is_not_asked_to_end_before_it_has_started() {
        let task = idle::started(Details::default());
        let started = task.core.moment().span.started;
        // By a thread that saw that it was about to start.
        task.core.details().requested_at.set(started - 1);
        assert_eq!(TaskRecord::new(&task, 0).cancel_requested(), Some(started));
        task.core.details().requested_at.set(started + 1);
        assert_eq!(TaskRecord::new(&task, 0).cancel_requested(), Some(started + 1));
    }

    #[test]
    fn it_is_not_asked_to_end_after_it_has_ended() {
        let task = idle::started(Details::default());
        task.core.close();
        // Just before its end is known.
        task.core.details().requested_at.set(task.core.stopped_at() + 1);
        task.core.state.settle(0);
        let mut record = TaskRecord::new(&task, 0);
        assert_eq!((record.cancel_requested(), record.ended), (record.ended(), task.core.stopped_at()));
        record.move_back(1);
        assert_eq!((record.cancel_requested(), record.ended), (record.ended(), task.core.stopped_at() - 1));
    }

    #[test]
    fn how_it_has_failed_is_known_as_soon_as_it_has_and_no_earlier() {
        let task = idle::started(Details::default());
        task.core.close();
        task.body.refuse(task.error(TaskErrorKind::Panicked));
        // A thread is about to settle it.
        let record = TaskRecord::new(&task, 0);
        assert_eq!((record.status, record.error()), (Status::Running, None));
        task.core.state.settle(state::FAILED);
        let record = TaskRecord::new(&task, 0);
        assert_eq!((record.status, record.error()), (Status::Failed, Some(&TaskErrorKind::Panicked)));
        task.body.discard();
        assert_eq!(TaskRecord::new(&task, 0).error(), Some(&TaskErrorKind::Panicked));
    }

    #[test]
    fn whatever_happened_to_it_came_after_it_was_submitted_and_a_try_after_the_one_before() {
        let (waiting, _handle) = run::new(Idle, None);
        waiting.core.close_unstarted();
        assert!(waiting.core.state.seal());
        waiting.core.state.settle(state::CANCELLED);
        // Added to its group only then.
        let record = TaskRecord::new(&waiting, u64::MAX);
        assert_eq!(Some(record.submitted), record.ended());

        let task = idle::started(Details::default());
        let started = task.core.moment().span.started;
        let lost = TrySpan { worker: None, started: started - 3, ended: started - 2 };
        task.core.details().totals().past.get_or_insert_default().lost_tries =
            LostTries { count: 1, first: vec![lost], last_exit: None };
        task.core.close();
        task.core.state.settle(0);
        let mut record = TaskRecord::new(&task, u64::MAX);
        assert_eq!(record.submitted, started - 3);
        record.move_back(u64::MAX);
        assert_eq!(record.started(), Some(started - 2));
        assert!(record.elapsed <= record.ended - record.started);
    }

    #[test]
    fn the_last_process_that_it_was_sent_to_has_run_it() {
        let task = idle::started(Details::default());
        for host in [Some("node7"), None, Some("node8")] {
            let worker = WorkerId::Process { id: 4711, host: host.map(Into::into) };
            task.core.set_process(&worker);
            assert_eq!(TaskRecord::new(&task, 0).worker(), Some(worker));
        }
    }
}
