//! A task that runs in another process, as seen from this one: whoever hears of it there makes the same transitions
//! here, in place of an [`Updater`](crate::Updater).

use crate::parcel::Parcel;
use crate::sight::Sight;
use crate::task::{self, TaskRef};
use crate::{BoxError, TaskError, TaskErrorKind, clock, report, state};

/// A task that was [lent](state::State::lend) has been started.
pub(crate) fn begin(task: &TaskRef) {
    if task.core.state.begin() {
        task.core.counts.start_clock(clock::now());
        show(task);
    }
}

/// Brings a running task up to what is known.
pub(crate) fn mirror(task: &TaskRef, sight: Sight) {
    let core = &task.core;
    let was_halted = core.state.load() & state::HALTED != 0;
    if was_halted && !sight.is_halted {
        core.counts.start_clock(clock::now());
    }
    let stopped_after = sight.is_halted.then_some(sight.elapsed);
    record(task, sight, stopped_after);
    show(task);
}

/// How a task ended, other than with a value.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) kind: TaskErrorKind,
    pub(crate) source: Option<BoxError>,
    /// What its panic said, where it said that with a string.
    pub(crate) panic: Option<String>,
}

/// Ends a running task with the outcome that it had: its encoded output, or an error.
pub(crate) fn end(task: &TaskRef, sight: Sight, outcome: Result<Parcel, Loss>) {
    // A task that has run took some time, however coarse the clock; and no less than was shown here.
    let elapsed = sight.elapsed.max(task.core.running_for()).max(1);
    record(task, sight, Some(elapsed));
    let ending = task.body().accept(&task.core, outcome.map_err(|loss| error(task, loss)));
    settle(task, ending);
}

/// Ends a task of which nothing more will be heard.
pub(crate) fn lose(task: &TaskRef, loss: Loss) {
    begin(task);
    task.core.stop_clock();
    let ending = task.body().accept(&task.core, Err(error(task, loss)));
    settle(task, ending);
}

fn error(task: &TaskRef, Loss { kind, source, panic }: Loss) -> TaskError {
    let is_panic = kind == TaskErrorKind::Panicked;
    let mut error = task.error(kind);
    if let Some(source) = source {
        error = error.with_source(source);
    }
    match panic {
        Some(text) => error.with_panic(Box::new(text)),
        None if is_panic => error.with_panic(Box::new(())),
        None => error,
    }
}

fn settle(task: &TaskRef, ending: u32) {
    // Its executor is who says so.
    task.core.state.clear(state::ATTACHED | state::HALTED);
    task::settle(task, ending);
}

fn record(task: &TaskRef, sight: Sight, stopped_after: Option<u64>) {
    let core = &task.core;
    let bit = |is_set, bit| if is_set { bit } else { 0 };
    core.counts.mirror(sight.n, sight.total, stopped_after);
    core.state.set(bit(sight.is_halted, state::HALTED) | bit(sight.has_noticed, state::NOTICED));
    core.state.clear(bit(!sight.is_halted, state::HALTED));
    if let Some(message) = sight.message {
        core.board().lock().set_message(message.into());
    }
}

/// The other process keeps to the report interval, so that this one need not.
fn show(task: &TaskRef) {
    if task.core.state.load() & state::OBSERVED != 0 {
        report::due(task, None);
    }
}
