//! A task that runs in another process, as seen from this one: its transitions there are repeated here by the receiver
//! of its messages, in place of an [`Updater`](crate::Updater).

use std::time::Duration;

use crate::codec::Encoded;
use crate::error::{BoxError, TaskError, TaskErrorKind};
use crate::sync::clock;
use crate::task::items::Lost;
use crate::task::lines::Line;
use crate::task::remote::{Record, RemoteSnapshot};
use crate::task::subscribers::Pace;
use crate::task::transitions;
use crate::task::{TaskRef, publish, state, watchdog};

/// A task that was [lent](state::State::lend) has been started. Its worker tells of changes at intervals of
/// `report_interval`.
pub(crate) fn begin(task: &TaskRef, report_interval: Duration) {
    begin_at(task, Pace::Remote(report_interval));
}

fn begin_at(task: &TaskRef, pace: Pace) {
    if task.core.state.begin() {
        task.core.start_clock();
        watchdog::watch(task);
        show(task, pace);
    }
}

/// Updates a running task to what its worker has reported.
pub(crate) fn mirror(task: &TaskRef, snapshot: RemoteSnapshot, report_interval: Duration) {
    record(task, snapshot);
    if task.core.seen().is_some() {
        // Read first, so that nobody is shown less than somebody has seen.
        task.look();
    }
    show(task, Pace::Remote(report_interval));
}

/// Shows what a task has said. Gives it back where that is for standard error.
pub(crate) fn say(task: &TaskRef, text: &str) -> Option<Line> {
    publish::say(&task.core, Line::new(task.core.id(), text))
}

/// How a task ended, other than with a value.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) kind: TaskErrorKind,
    pub(crate) source: Option<BoxError>,
    /// What its panic said, where it said that with a string.
    pub(crate) panic: Option<String>,
    /// What it returned although it was cancelled.
    pub(crate) partial: Option<Encoded>,
    /// Where its worker was, if not on this machine for sure.
    pub(crate) place: Option<String>,
}

impl Loss {
    /// One with nothing else known.
    pub(crate) fn of(kind: TaskErrorKind) -> Self {
        Self { kind, source: None, panic: None, partial: None, place: None }
    }
}

/// Takes the values of items of a running task, as [`codec::items`](crate::codec::items) has them.
pub(crate) fn deliver_values(task: &TaskRef, values: &[u8], report_interval: Duration) {
    let core = &task.core;
    let Some(items) = core.items() else { return };
    items.accept_values(values, &|kind| task.error(kind));
    core.begin_item();
    core.waiter.wake();
    show(task, Pace::Remote(report_interval));
}

/// Takes what has come of the next item of a running task.
pub(crate) fn deliver(
    task: &TaskRef,
    snapshot: RemoteSnapshot,
    outcome: Result<Encoded, Loss>,
    report_interval: Duration,
) {
    let core = &task.core;
    let Some(items) = core.items() else { return };
    let outcome = outcome.map_err(|loss| {
        // What is known so far may be of an earlier item.
        core.begin_item();
        core.set_item_elapsed(snapshot.elapsed);
        record(task, snapshot);
        error(task, loss)
    });
    core.begin_item();
    items.accept(outcome, &|kind| task.error(kind));
    core.waiter.wake();
    show(task, Pace::Remote(report_interval));
}

/// Ends a task with the outcome that it had: its encoded output, or an error. With what it was sent, where that is kept;
/// with the moment when that was heard, and the interval of reports.
pub(crate) fn end(
    task: &TaskRef,
    snapshot: RemoteSnapshot,
    outcome: Result<Encoded, Loss>,
    input: Vec<u8>,
    (heard_at, report_interval): (u64, Duration),
) {
    let core = &task.core;
    let is_observed = core.state.load() & state::OBSERVED != 0;
    let is_new = !is_observed && core.state.begin();
    if is_observed {
        begin(task, report_interval);
    }
    if let Some(items) = core.items().filter(|_| outcome.is_ok()) {
        items.end(input, &|kind| task.error(kind));
    }
    // A task that has run took some time, however coarse the clock; and no less than was shown here.
    let shown = if is_new { 0 } else { core.running_for() };
    let elapsed = snapshot.elapsed.max(shown).max(1);
    let ended_at = if is_new { heard_at } else { clock::now() };
    record(task, snapshot);
    settle(task, Some((elapsed, ended_at)), outcome);
}

/// Ends a task of which nothing more will be heard than what was recorded of it. With what it was sent, and whether all
/// of its items are known that have ended.
pub(crate) fn lose(task: &TaskRef, record: Option<Record>, loss: Loss, (input, is_exact): (Vec<u8>, bool)) {
    begin_at(task, Pace::EveryChange);
    record.into_iter().for_each(|record| task.core.restore(record));
    if let Some(items) = task.core.items() {
        let is_cancelled = task.core.state.load() & state::CANCEL != 0;
        items.lose(Lost { input, is_exact, is_cancelled }, &|kind| task.error(kind));
    }
    settle(task, None, Err(loss));
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
        // Decoded by whoever knows its type.
        error = error.with_partial(partial);
    }
    match panic {
        Some(text) => error.with_panic(Box::new(text)),
        None if is_panic => error.with_panic(Box::new(())),
        None => error,
    }
}

/// `ran` tells for how long it has been running, and until when, where that is known.
fn settle(task: &TaskRef, ran: Option<(u64, u64)>, outcome: Result<Encoded, Loss>) {
    let core = &task.core;
    if !core.state.decide() {
        return;
    }
    match ran {
        Some((elapsed, ended_at)) => core.close_after(elapsed, ended_at),
        None => core.close(),
    }
    let ending = task.body.accept(core, outcome.map_err(|loss| error(task, loss)));
    // It is its executor that settles it.
    core.state.clear(state::ATTACHED | state::HALTED);
    transitions::settle(task, ending);
}

fn record(task: &TaskRef, snapshot: RemoteSnapshot) {
    let core = &task.core;
    let bit = |is_set, bit| if is_set { bit } else { 0 };
    core.mirror(&snapshot);
    if snapshot.has_noticed {
        core.notice();
    }
    core.state.set(bit(snapshot.is_halted, state::HALTED));
    let cleared = bit(!snapshot.is_halted, state::HALTED) | bit(!snapshot.is_silent, state::PROBE);
    if core.state.clear(cleared) & cleared & state::HALTED != 0 {
        watchdog::watch(task);
    }
    if let Some(message) = snapshot.message {
        core.set_message(message.into());
    }
}

fn show(task: &TaskRef, pace: Pace) {
    if task.core.state.load() & state::OBSERVED != 0 {
        publish::due(task, pace);
    }
}
