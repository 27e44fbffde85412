//! A task that runs in another process, as seen from this one: the thread that receives its messages repeats its
//! transitions here, where otherwise an [`Updater`](crate::Updater) would make them.

use std::time::Duration;

use crate::codec::Encoded;
use crate::codec::payload::Payload;
use crate::error::{BoxError, TaskError, TaskErrorKind, WorkerExit};
use crate::sync::clock;
use crate::task::items::Lost;
use crate::task::lines::Line;
use crate::task::remote::{Record, RemoteSnapshot};
use crate::task::subscribers::Pace;
use crate::task::transitions;
use crate::task::{TaskRef, publish, state, watchdog};

/// A task that was [lent](state::State::lend) to a worker.
pub(super) struct RemoteTask<'a> {
    pub(super) task: &'a TaskRef,
    /// The time between two changes that the worker reports.
    pub(super) report_interval: Duration,
}

impl RemoteTask<'_> {
    /// Notes that it has started.
    pub(super) fn begin(&self) {
        self.begin_at(self.pace());
    }

    fn begin_at(&self, pace: Pace) {
        if self.task.core.state.begin() {
            self.task.core.start_clock(0);
            watchdog::watch(self.task);
            self.show(pace);
        }
    }

    fn pace(&self) -> Pace {
        Pace::Remote(self.report_interval)
    }

    fn show(&self, pace: Pace) {
        if self.task.core.state.load() & state::OBSERVED != 0 {
            publish::due(self.task, pace);
        }
    }

    /// Updates it, while it runs, to what its worker has reported.
    pub(super) fn mirror(&self, snapshot: RemoteSnapshot) {
        self.record(snapshot);
        if self.task.core.seen().is_some() {
            // Look first, so that no observer is shown less than another has seen.
            self.task.look();
        }
        self.show(self.pace());
    }

    /// Shows a line that it has printed. Returns the line if it belongs on standard error.
    pub(super) fn say(&self, text: &str) -> Option<Line> {
        publish::say(&self.task.core, Line::new(self.task.core.id(), text))
    }

    /// Takes in values of its items while it runs, in the encoding of [`codec::items`](crate::codec::items).
    pub(super) fn deliver_values(&self, values: &[u8]) {
        let Some(items) = self.task.core.items() else { return };
        // What is known so far may be of an earlier item.
        self.task.core.begin_item();
        items.accept_values(values, &|kind| self.task.error(kind));
        self.go_on();
    }

    /// Takes in the outcome of its next item while it runs.
    pub(super) fn deliver(&self, snapshot: RemoteSnapshot, outcome: Result<Encoded, Loss>) {
        let core = &self.task.core;
        let Some(items) = core.items() else { return };
        let outcome = outcome.map_err(|loss| {
            // What is known so far may be of an earlier item.
            core.begin_item();
            core.set_item_elapsed(snapshot.elapsed);
            self.record(snapshot);
            error(self.task, loss)
        });
        core.begin_item();
        items.accept(outcome, &|kind| self.task.error(kind));
        self.go_on();
    }

    /// Notes that an item has ended, and that the next one begins.
    fn go_on(&self) {
        self.task.core.waiter.wake();
        self.show(self.pace());
    }

    /// Ends it with its outcome: its encoded output, or an error. `input` is what it was sent, if that was kept;
    /// `heard_at` is the time of the clock at which the outcome was received.
    pub(super) fn end(&self, snapshot: RemoteSnapshot, outcome: Result<Encoded, Loss>, input: Payload, heard_at: u64) {
        let core = &self.task.core;
        let is_observed = core.state.load() & state::OBSERVED != 0;
        let is_new = !is_observed && core.state.begin();
        if is_observed {
            self.begin();
        }
        // An overdue task has timed out, whatever it did.
        let outcome = if core.is_overdue() { Err(Loss::of(TaskErrorKind::TimedOut)) } else { outcome };
        if let Some(items) = core.items().filter(|_| outcome.is_ok()) {
            items.end(input.into(), &|kind| self.task.error(kind));
        }
        // A task that has run took some time, however coarse the clock.
        let elapsed = snapshot.elapsed.max(1);
        let ended_at = if is_new { heard_at } else { clock::now() };
        self.record(snapshot);
        self.settle(Some((elapsed, ended_at)), outcome);
    }

    /// Ends it when nothing more will be heard of it than what was recorded. `input` is what it was sent; `is_exact`
    /// says whether all items that have ended are known.
    pub(super) fn lose(&self, record: Option<Record>, loss: Loss, input: Payload, is_exact: bool) {
        let core = &self.task.core;
        self.begin_at(Pace::EveryChange);
        record.into_iter().for_each(|record| core.restore(record));
        if let Some(items) = core.items() {
            let is_cancelled = core.state.load() & state::CANCEL != 0;
            items.lose(Lost { input: input.into(), is_exact, is_cancelled }, &|kind| self.task.error(kind));
        }
        self.settle(None, Err(loss));
    }

    /// Shows that it waits for another try. Its last worker has ended in this way.
    pub(super) fn show_retry(&self, exit: WorkerExit) {
        self.task.core.note_lost_to(exit);
        publish::change(self.task);
    }

    /// `ran` says for how long it ran, and until when, if that is known.
    fn settle(&self, ran: Option<(u64, u64)>, outcome: Result<Encoded, Loss>) {
        let core = &self.task.core;
        if !core.state.decide() {
            return;
        }
        match ran {
            Some((elapsed, ended_at)) => core.close_after(elapsed, ended_at),
            None => core.close(),
        }
        let ending = self.task.body.accept(core, outcome.map_err(|loss| error(self.task, loss)));
        // Its executor settles it here, and need not be told.
        core.state.clear(state::ATTACHED | state::HALTED);
        transitions::settle(self.task, ending);
    }

    fn record(&self, snapshot: RemoteSnapshot) {
        let core = &self.task.core;
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        core.mirror(&snapshot);
        if snapshot.has_noticed {
            core.notice();
        }
        core.state.set(bit(snapshot.is_halted, state::HALTED));
        let cleared = bit(!snapshot.is_halted, state::HALTED) | bit(!snapshot.is_silent, state::PROBE);
        if core.state.clear(cleared) & cleared & state::HALTED != 0 {
            watchdog::watch(self.task);
        }
        if let Some(message) = snapshot.message {
            core.set_message(message.into(), |_| true);
        }
    }
}

/// How a task ended, other than with a value.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) kind: TaskErrorKind,
    pub(crate) source: Option<BoxError>,
    /// The message of its panic, if that was a string.
    pub(crate) panic: Option<String>,
    /// What it returned although it was cancelled.
    pub(crate) partial: Option<Encoded>,
    /// Where its worker was, if a launcher had started it.
    pub(crate) place: Option<String>,
}

impl Loss {
    /// A loss of which nothing else is known.
    pub(crate) fn of(kind: TaskErrorKind) -> Self {
        Self { kind, source: None, panic: None, partial: None, place: None }
    }
}

fn error(task: &TaskRef, Loss { kind, source, panic, partial, place }: Loss) -> TaskError {
    let is_panic = kind == TaskErrorKind::Panicked;
    let mut error = task.error(kind);
    if let Some(source) = source {
        error = error.with_source(source);
    }
    if let Some(place) = place {
        error = error.with_place(place);
    }
    if let Some(partial) = partial {
        // Decoded where its type is known.
        error = error.with_partial(Box::new(partial));
    }
    match panic {
        Some(text) => error.with_panic(Box::new(text)),
        None if is_panic => error.with_panic(Box::new(())),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    use crate::codec::items;
    use crate::error::CancelCause;
    use crate::executor::call::Crosses;
    use crate::executor::chunk::{Batch, Chunk, Labels, Outcomes};
    use crate::executor::job::Job;
    use crate::process::pool::queued::Queued;
    use crate::process::pool::scheduler::events::Task;
    use crate::run;
    use crate::task::details::Details;
    use crate::task::idle::Idle;
    use crate::task::record::TaskRecord;
    use crate::task::remote::{Position, RemotePart};

    #[test]
    fn it_has_started_when_it_did_although_its_worker_had_it_run_while_it_was_known_to_be_paused() {
        let (task, _handle) = run::new(Idle, None);
        Queued::new(Job { task: task.clone() }, "idle", Encoded::default(), Vec::new()).lend().unwrap();
        let remote = RemoteTask { task: &task, report_interval: Duration::ZERO };
        remote.begin();
        let started = task.core.span().unwrap().0;
        remote.mirror(RemoteSnapshot { elapsed: 1, is_halted: true, ..RemoteSnapshot::default() });
        let heard_at = clock::now();
        // It went on at once, and has run ever since.
        let elapsed = heard_at - started;
        let at_its_end = RemoteSnapshot { elapsed, ..RemoteSnapshot::default() };
        remote.end(at_its_end, Err(Loss::of(TaskErrorKind::Failed)), Payload::default(), heard_at);

        let record = TaskRecord::new(&task, 0);
        assert!(record.tries() == 1 && record.started() >= Some(started) && record.ended() > record.started());
        assert!(record.elapsed >= elapsed);
    }

    #[test]
    fn all_that_its_worker_reports_is_shown_also_where_nobody_has_asked_before() {
        let (task, _handle) = run::new(Idle, None);
        let queued = Queued::new(Job { task: task.clone() }, "idle", Encoded::default(), Vec::new());
        queued.lend().unwrap();
        let remote = RemoteTask { task: &task, report_interval: Duration::ZERO };
        remote.begin();
        assert!(task.core.existing_details().is_none());
        let part = RemotePart { name: "read".into(), position: Position { n: 1, total: 2, part: 0.0 }, depth: 0 };
        let position = Position { n: 7, total: 10, ..Position::default() };
        remote.mirror(RemoteSnapshot { position, parts: [part].into(), ..RemoteSnapshot::default() });

        let shown = task.core.snapshot();
        let parts: Vec<_> = shown.parts.iter().map(|part| (&*part.name, part.n, part.total)).collect();
        assert_eq!((shown.n, shown.total, parts), (7, Some(10), vec![("read", 1, Some(2))]));
    }

    #[test]
    fn a_task_that_is_lost_before_anybody_has_heard_of_its_start_was_tried_all_the_same() {
        for is_cancelled in [false, true] {
            let mut details = Details::default();
            details.limits.retries = 1;
            let (task, _handle) = run::new(Idle, Some(Box::new(details)));
            let queued = Queued::new(Job { task: task.clone() }, "idle", Encoded::default(), Vec::new());
            queued.lend().unwrap();
            if is_cancelled {
                transitions::cancel(&task, CancelCause::Requested);
            }

            assert_eq!(queued.retry(), !is_cancelled);
            if is_cancelled {
                let lost = Loss::of(TaskErrorKind::WorkerLost(WorkerExit::Code(3)));
                RemoteTask { task: &task, report_interval: Duration::ZERO }.lose(None, lost, Payload::default(), true);
            } else {
                queued.lend().expect("it waits for its next worker");
            }

            let record = TaskRecord::new(&task, 0);
            assert_eq!(record.tries(), 1, "cancelled: {is_cancelled}");
            assert_eq!(record.status.is_terminal(), is_cancelled);
        }
    }

    #[test]
    fn nothing_that_its_lost_worker_has_reported_is_left_when_it_begins_again() {
        let mut details = Details::default();
        details.limits.retries = 1;
        let (task, _handle) = run::new(Idle, Some(Box::new(details)));
        let queued = Queued::new(Job { task: task.clone() }, "idle", Encoded::default(), Vec::new());
        queued.lend().unwrap();
        let before = (task.core.snapshot(), queued.word());
        let remote = RemoteTask { task: &task, report_interval: Duration::ZERO };
        remote.begin();
        task.core.details().probed_at.set(clock::now());
        // A worker that hears nothing from a program that is stopped cancels its task of its own accord.
        remote.mirror(RemoteSnapshot {
            position: Position { n: 7, total: 10, part: 0.5 },
            is_halted: true,
            has_noticed: true,
            is_silent: true,
            parts: [RemotePart { name: "read".into(), position: Position::default(), depth: 0 }].into(),
            message: Some("halfway".into()),
            ..RemoteSnapshot::default()
        });
        assert!(queued.retry());
        queued.lend().unwrap();

        assert_eq!((task.core.snapshot(), queued.word()), before);
        assert_eq!(task.core.details().probed_at.get(), 0);
        remote.begin();
        transitions::cancel(&task, CancelCause::Requested);
        assert_eq!(task.error(TaskErrorKind::Failed).noticed_after(), None, "it does not know yet");
    }

    #[test]
    fn a_task_that_has_lost_its_worker_and_cannot_be_run_again_was_run() {
        let mut details = Details::default();
        details.limits.retries = 1;
        let (task, handle) = run::new(Idle, Some(Box::new(details)));
        let queued = Queued::new(Job { task: task.clone() }, "idle", Encoded::default(), Vec::new());
        queued.lend().unwrap();
        let remote = RemoteTask { task: &task, report_interval: Duration::ZERO };
        remote.begin();
        assert!(queued.retry());
        remote.show_retry(WorkerExit::Code(3));
        transitions::reject(&task, TaskErrorKind::Rejected, "there is no other".into());

        let error = handle.take().unwrap().unwrap_err();
        assert_eq!(*error.kind(), TaskErrorKind::WorkerLost(WorkerExit::Code(3)));
        let text = format!("{error:#}");
        let end = "lost its worker: exit code 3, and could not be run again: there is no other";
        assert!(text.ends_with(end), "{text}");
        assert_eq!(TaskRecord::new(&task, 0).tries(), 1);
    }

    #[test]
    fn an_item_that_cannot_be_decoded_is_not_told_with_how_far_another_one_has_come() {
        let batch = Batch::new(vec![1_u64, 2], Labels::default(), 0, None);
        let (chunk, _inputs) = Chunk::<u64, String>::new::<Crosses>(batch, Outcomes::new());
        let mut details = Details::default();
        details.items = Some(chunk.clone());
        let (task, _handle) = run::new(Idle, Some(Box::new(details)));
        Queued::new(Job { task: task.clone() }, "idle", Encoded::default(), Vec::new()).lend().unwrap();
        let remote = RemoteTask { task: &task, report_interval: Duration::ZERO };
        remote.begin();
        let position = Position { n: 7, total: 10, ..Position::default() };
        remote.mirror(RemoteSnapshot { position, message: Some("one".into()), ..RemoteSnapshot::default() });
        let mut values = Vec::new();
        items::append("one".to_owned(), &mut values).unwrap();
        items::append(2, &mut values).unwrap();
        remote.deliver_values(&values);

        let mut outcomes = VecDeque::new();
        chunk.outcomes().move_to(&mut outcomes);
        assert_eq!(outcomes.pop_front().unwrap().unwrap(), "one");
        let error = outcomes.pop_front().unwrap().unwrap_err();
        let progress = error.progress();
        assert!(error.is_decode_error(), "{error:#}");
        assert_eq!((progress.n, progress.total, progress.message.as_deref()), (0, None, None));
    }
}
