//! Every transition of a task, and who is told of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{BoxError, CancelCause, TaskError, TaskErrorKind};
use crate::sync::clock;
use crate::sync::timer::{TIMER, TimerId};
use crate::task::core::Core;
use crate::task::details::Owner;
use crate::task::publish;
use crate::task::state::{self, Cancel};
use crate::task::{RemoteOwner, TaskRef};

/// How many tasks of this process have ended that nobody has taken out of a queue for that: they had not begun, or have been
/// run by whoever waited for them.
static LEFT_BEHIND: AtomicUsize = AtomicUsize::new(0);

/// A hint, for whoever has tasks in a queue, that some of them may be among these: nobody is told of each.
pub(crate) fn left_behind() -> usize {
    LEFT_BEHIND.load(Ordering::Relaxed)
}

/// A task has ended, and may still be in a queue.
pub(crate) fn leave_behind() {
    LEFT_BEHIND.fetch_add(1, Ordering::Relaxed);
}

/// Ends a task that the caller has [sealed](state::State::seal) or [decided](state::State::decide) on, because of `kind`.
pub(crate) fn refuse(task: &TaskRef, kind: TaskErrorKind, source: Option<BoxError>) {
    // One that waited in another process could only be asked to end when its deadline passed.
    let kind = if task.core.is_overdue() { TaskErrorKind::TimedOut } else { kind };
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
    if !task.core.has_run() {
        task.core.close_unstarted();
        leave_behind();
    }
    let owner = task.body.refuse(error);
    settle_for(task, ending, owner);
}

/// How a task with this error as its outcome is settled.
pub(crate) fn ending(error: &TaskError) -> u32 {
    if error.is_cancelled() { state::CANCELLED } else { state::FAILED }
}

/// All that the control word holds of a task that was run and polled, and that nobody has observed or asked anything of.
const PLAIN: u32 = state::RUNNING | state::PROBE | state::ATTENDED;

/// What it took to make an outcome known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Next to no time: there was nobody to be told.
    Quietly,
    /// Perhaps code of the user was called.
    Aloud,
}

/// Makes the outcome known: to the subscribers, to the future, to the executor.
pub(crate) fn settle(task: &TaskRef, ending: u32) -> Settled {
    settle_for(task, ending, None)
}

/// The same for a task whose work was handed over to `owner`, if it was.
fn settle_for(task: &TaskRef, ending: u32, owner: Option<Arc<dyn Owner>>) -> Settled {
    let core = &task.core;
    let before = core.state.settle(ending);
    if before & state::OBSERVED != 0 {
        publish::conclude(core);
    }
    if before & state::ABANDONED != 0 {
        task.body.discard();
    }
    let has_woken = core.waiter.wake();
    // A thread may wait to run it, while it is paused.
    core.interrupt();
    if before & !PLAIN == 0 && core.existing_details().is_none() {
        return if has_woken { Settled::Aloud } else { Settled::Quietly };
    }
    if before & state::LIMITED != 0 {
        forget_watchdog(core);
    }
    // Those who still hold the task must not keep its executor alive.
    let attached = core.existing_details().and_then(|details| details.owner().take());
    if let Some(owner) = owner.or(attached).filter(|_| before & state::ATTACHED != 0) {
        owner.ended(core.id());
    }
    Settled::Aloud
}

/// Cancels the timer entry that watches the limits of a task.
pub(crate) fn forget_watchdog(core: &Core) {
    let watchdog = core.existing_details().and_then(|it| TimerId::from_bits(it.watchdog.swap(0, Ordering::AcqRel)));
    TIMER.forget(watchdog);
}

/// Requests cancellation, and ends the task right here where it has not started.
pub(crate) fn cancel(task: &TaskRef, cause: CancelCause) {
    tell_cancelled(task, request_cancel(task, cause), cause);
}

/// Requested cancellations that nobody was told of yet.
#[must_use]
pub(crate) struct Cancellations {
    requested: Vec<(TaskRef, Cancel)>,
    cause: CancelCause,
}

/// Requests cancellation of many tasks, the last of them first where there is an order in which they start. All are
/// sealed before anything else is done about any of them, so that none starts meanwhile. Runs no foreign code: it may be
/// called with a lock held.
pub(crate) fn request_cancel_all(tasks: impl Iterator<Item = TaskRef>, cause: CancelCause) -> Cancellations {
    let requested = tasks.map(|task| {
        let found = request_cancel(&task, cause);
        (task, found)
    });
    Cancellations { requested: requested.collect(), cause }
}

impl Cancellations {
    /// Tells those that have started, or may at any moment, and then ends the others. To be called without a lock.
    pub(crate) fn carry_out(self) {
        let (told, others): (Vec<_>, Vec<_>) =
            self.requested.into_iter().partition(|&(_, found)| found == Cancel::Told);
        for (task, found) in told.into_iter().chain(others) {
            tell_cancelled(&task, found, self.cause);
        }
    }
}

/// What follows a request for cancellation.
fn tell_cancelled(task: &TaskRef, found: Cancel, cause: CancelCause) {
    match found {
        Cancel::Sealed => refuse(task, TaskErrorKind::Cancelled(cause), None),
        Cancel::Told => {
            task.core.interrupt();
            publish::change(task);
            task.tell_owner();
        }
        Cancel::Late => {}
    }
}

/// Requests cancellation; whoever waits for it is to be told.
pub(crate) fn request_cancel(task: &TaskRef, cause: CancelCause) -> Cancel {
    let core = &task.core;
    // It may be seen to run before anybody has told.
    if (core.has_run() || core.seen().is_some()) && !core.has_ended() {
        // Before the task can notice.
        core.details().requested_at.set_once(clock::now());
    }
    core.state.request_cancel(cause as u32)
}

/// Makes a running task that has lost its worker pending again, unless it was asked to end. Returns whether it is.
pub(crate) fn retry(task: &TaskRef) -> bool {
    let core = &task.core;
    let is_pending = core.state.retry();
    if is_pending {
        let worker = core.worker();
        core.details().totals().reset(&core.counts, &core.clock, worker);
        // What watches its deadline goes on.
        if core.details().limits.deadline.is_none() {
            forget_watchdog(core);
        }
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
    if request_pause(&task.core) {
        tell_paused(task);
    }
}

pub(crate) fn resume(task: &TaskRef) {
    if request_resume(&task.core) {
        tell_resumed(task);
    }
}

/// Requests a pause. Runs no foreign code; where this returns `true`, those who wait for it [are to be told](tell_paused).
pub(crate) fn request_pause(core: &Core) -> bool {
    core.state.set(state::PAUSE) & state::PAUSE == 0
}

/// The same for the end of a pause.
pub(crate) fn request_resume(core: &Core) -> bool {
    core.state.load() & state::PAUSE != 0 && core.state.clear(state::PAUSE) & state::PAUSE != 0
}

pub(crate) fn tell_paused(task: &TaskRef) {
    task.core.interrupt();
    publish::change(task);
    task.tell_owner();
}

pub(crate) fn tell_resumed(task: &TaskRef) {
    let was_pending = state::is_pending(task.core.state.load());
    tell_paused(task);
    if was_pending {
        // The future may be what runs it.
        task.core.waiter.wake();
    }
}

/// Attaches `owner` to a pending task, if `keep` agrees. That is given the control word, and may store the task.
///
/// The task is neither resumed nor ended meanwhile, so `owner` is told of all that comes after `keep`.
pub(crate) fn attach(task: &TaskRef, owner: Arc<dyn Owner>, keep: impl FnOnce(u32) -> bool) -> bool {
    let mut place = task.core.details().owner();
    let word = task.core.state.set(state::ATTACHED);
    let is_attached = state::is_pending(word) && keep(word);
    if is_attached {
        *place = Some(owner);
    }
    is_attached
}

/// Attaches `owner` to a task whose work it has taken out, to be done elsewhere.
pub(crate) fn hand_over(task: &TaskRef, owner: &RemoteOwner) {
    task.body.hand_over(owner.clone());
    task.core.state.set(state::ATTACHED);
}
