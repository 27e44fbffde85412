//! Every transition of a task, and who is told of it.

use std::sync::Arc;

use crate::error::{BoxError, CancelCause, TaskError, TaskErrorKind};
use crate::sync::clock;
use crate::task::publish;
use crate::task::state::{self, Cancel};
use crate::task::{Home, TaskRef};

/// Ends a task that the caller has [sealed](state::State::seal) or [decided](state::State::decide) on, because of `kind`.
pub(crate) fn refuse(task: &TaskRef, kind: TaskErrorKind, source: Option<BoxError>) {
    let error = task.error(kind);
    refuse_with(
        task,
        match source {
            Some(source) => error.with_source(source),
            None => error,
        },
    );
}

/// The same, with this error as the outcome.
pub(crate) fn refuse_with(task: &TaskRef, error: TaskError) {
    let ending = ending(&error);
    task.body.refuse(error);
    settle(task, ending);
}

/// How a task with this error as its outcome is settled.
pub(crate) fn ending(error: &TaskError) -> u32 {
    if error.is_cancelled() { state::CANCELLED } else { state::FAILED }
}

/// Makes the outcome known: to the observers, to the future, to the executor.
pub(crate) fn settle(task: &TaskRef, ending: u32) {
    let core = &task.core;
    let before = core.state.settle(ending);
    if before & state::OBSERVED != 0 {
        publish::conclude(core);
    }
    if before & state::ABANDONED != 0 {
        task.body.discard();
    }
    core.waiter.wake();
    // A thread may wait to run it, while it is paused.
    core.interrupt();
    if before & state::ATTACHED != 0 {
        let home = core.board().lock().detach_home();
        if let Some(home) = home {
            home.ended(core.id());
        }
    }
}

/// Requests cancellation, and ends the task right here where it has not started.
pub(crate) fn cancel(task: &TaskRef, cause: CancelCause) {
    match request_cancel(task, cause) {
        Cancel::Sealed => refuse(task, TaskErrorKind::Cancelled(cause), None),
        Cancel::Told => {
            task.core.interrupt();
            publish::change(task);
            task.core.tell_home();
        }
        Cancel::Late => {}
    }
}

/// Requests cancellation; whoever waits for it is to be told.
pub(crate) fn request_cancel(task: &TaskRef, cause: CancelCause) -> Cancel {
    let core = &task.core;
    if core.has_run() && !core.has_ended() {
        // Before the task can notice.
        core.board().requested_at.set_once(clock::now());
    }
    core.state.request_cancel(cause as u32)
}

/// Makes a running task that has lost its worker pending again, unless it was asked to end. Returns whether it is.
pub(crate) fn retry(task: &TaskRef) -> bool {
    let is_pending = task.core.state.retry();
    if is_pending {
        // It has one: that is where it is said that it may be started again.
        let board = task.core.board();
        board.ledger().reset(&task.core.counts);
        board.lock().forget_message();
    }
    is_pending
}

/// Ends a task that nobody has run and nobody will run.
pub(crate) fn reject(task: &TaskRef, kind: TaskErrorKind, reason: BoxError) {
    if task.core.state.seal() {
        refuse(task, kind, Some(reason));
    }
}

/// Lets go of the outcome: it is dropped now, or by whoever settles the task.
pub(crate) fn abandon(task: &TaskRef) {
    if task.core.state.set(state::ABANDONED) & state::ENDED != 0 {
        task.body.discard();
    }
}

pub(crate) fn pause(task: &TaskRef) {
    if task.core.state.set(state::PAUSE) & state::PAUSE == 0 {
        task.core.interrupt();
        publish::change(task);
        task.core.tell_home();
    }
}

pub(crate) fn resume(task: &TaskRef) {
    let core = &task.core;
    let before = core.state.clear(state::PAUSE);
    if before & state::PAUSE == 0 {
        return;
    }
    core.interrupt();
    publish::change(task);
    core.tell_home();
    if state::is_pending(before) {
        // The future may be what runs it.
        core.waiter.wake();
    }
}

/// Lets `home` hear of a pending task, if `keep` agrees; it is given the control word, and may store the task.
///
/// Resuming and ending the task wait meanwhile, so `home` hears of whatever comes after `keep`.
pub(crate) fn attach(task: &TaskRef, home: Arc<dyn Home>, keep: impl FnOnce(u32) -> bool) -> bool {
    let mut report = task.core.board().lock();
    let word = task.core.state.set(state::ATTACHED);
    let attached = state::is_pending(word) && keep(word);
    if attached {
        report.attach_home(home);
    }
    attached
}
