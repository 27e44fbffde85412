//! Every transition of a task, and who is told of it.

use std::cell::Cell;
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

/// How many tasks of this process have ended that may still be in a queue, because they had not begun, or were run by a
/// thread that waited for them.
static LEFT_BEHIND: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// How many calls that end tasks this thread is inside.
    static ENDING: Cell<u32> = const { Cell::new(0) };
}

/// Exists while its thread ends tasks, which calls code of the user before all of them have ended.
struct Ending;

impl Ending {
    fn begin() -> Self {
        ENDING.set(ENDING.get() + 1);
        Self
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        ENDING.set(ENDING.get() - 1);
    }
}

/// Waits for the end of a task that another thread is about to end. Does not wait in code that this thread calls while it ends
/// tasks itself: this one may be among them.
pub(crate) fn await_end(core: &Core) {
    if !core.has_ended() && ENDING.get() == 0 {
        core.wait_until(|word| word & state::ENDED != 0, None);
    }
}

/// A hint to the owners of queues that some of their tasks may be among these: they are not told of each.
pub(crate) fn left_behind() -> usize {
    LEFT_BEHIND.load(Ordering::Relaxed)
}

/// Notes that a task has ended which may still be in a queue.
pub(crate) fn leave_behind() {
    LEFT_BEHIND.fetch_add(1, Ordering::Relaxed);
}

/// Ends a task that the caller has [sealed](state::State::seal) or [decided](state::State::decide) on, with an error of
/// this `kind`.
pub(crate) fn refuse(task: &TaskRef, kind: TaskErrorKind, source: Option<BoxError>) {
    // A task that waited in another process when its deadline passed could only be asked to end.
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

/// Like [`refuse`], with this error as the outcome.
pub(crate) fn refuse_with(task: &TaskRef, error: TaskError) {
    let ending = ending(&error);
    if !task.core.has_run() {
        task.core.close_unstarted();
        leave_behind();
    }
    let within = Ending::begin();
    let owner = task.body.refuse(error);
    drop(within);
    settle_for(task, ending, owner);
}

/// How to settle a task that has ended with this error.
pub(crate) fn ending(error: &TaskError) -> u32 {
    if error.is_cancelled() { state::CANCELLED } else { state::FAILED }
}

/// All that the control word can hold of a task that was run and polled, but neither observed nor asked for anything.
const PLAIN: u32 = state::RUNNING | state::PROBE | state::ATTENDED;

/// What making an outcome known involved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Next to nothing: there was no one to tell.
    Unnoticed,
    /// Code of the user may have been called.
    Notified,
}

/// Makes the outcome known: to the subscribers, to the future, to the executor.
pub(crate) fn settle(task: &TaskRef, ending: u32) -> Settled {
    settle_for(task, ending, None)
}

/// Like [`settle`], for a task whose work was handed over to `owner`, if it was.
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
    // A thread may be waiting to run it, while it is paused.
    core.interrupt();
    if before & !PLAIN == 0 && core.existing_details().is_none() {
        return if has_woken { Settled::Notified } else { Settled::Unnoticed };
    }
    if before & state::LIMITED != 0 {
        forget_watchdog(core);
    }
    // A task that is still held must not keep its executor alive.
    let attached = core.existing_details().and_then(|details| details.owner().take());
    if let Some(owner) = owner.or(attached).filter(|_| before & state::ATTACHED != 0) {
        owner.ended(core.id());
    }
    Settled::Notified
}

/// Cancels the timer entry that watches the limits of a task.
pub(crate) fn forget_watchdog(core: &Core) {
    let watchdog = core.existing_details().and_then(|it| TimerId::from_bits(it.watchdog.swap(0, Ordering::AcqRel)));
    TIMER.forget(watchdog);
}

/// Requests cancellation, and ends the task right here if it has not started.
pub(crate) fn cancel(task: &TaskRef, cause: CancelCause) {
    tell_cancelled(task, request_cancel(task, cause), cause);
}

/// Cancellations that were requested, but not yet [carried out](Self::carry_out).
#[must_use]
pub(crate) struct Cancellations {
    requested: Vec<(TaskRef, Cancel)>,
    cause: CancelCause,
}

/// Requests cancellation of many tasks, best passed in the reverse of the order in which they start. All are sealed
/// before anything else is done about any of them, so that none starts meanwhile. Runs no foreign code: may be called
/// with a lock held.
pub(crate) fn request_cancel_all(tasks: impl Iterator<Item = TaskRef>, cause: CancelCause) -> Cancellations {
    let requested = tasks.map(|task| {
        let found = request_cancel(&task, cause);
        (task, found)
    });
    Cancellations { requested: requested.collect(), cause }
}

impl Cancellations {
    /// Which of the tasks were sealed, in the order in which they were passed. The others have started, or were sealed before.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = bool> {
        self.requested.iter().map(|&(_, found)| found == Cancel::Sealed)
    }

    /// Tells the tasks that have started, or may at any moment, and then ends the others. Must be called without a lock.
    pub(crate) fn carry_out(self) {
        let _ending = Ending::begin();
        let (told, others): (Vec<_>, Vec<_>) =
            self.requested.into_iter().partition(|&(_, found)| found == Cancel::Told);
        for (task, found) in told.into_iter().chain(others) {
            tell_cancelled(&task, found, self.cause);
        }
    }
}

/// Does what follows a request for cancellation.
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

/// Requests cancellation. The caller must then tell those who wait for it, or end the task.
pub(crate) fn request_cancel(task: &TaskRef, cause: CancelCause) -> Cancel {
    let core = &task.core;
    // It may be seen to count before its start was reported.
    if (core.has_run() || core.seen().is_some()) && !core.has_ended() {
        // Before the task can notice.
        core.details().requested_at.set_once(clock::now());
    }
    core.state.request_cancel(cause as u32)
}

/// Makes a running task that has lost its worker pending again, unless it was asked to end. Returns whether it is pending.
pub(crate) fn retry(task: &TaskRef) -> bool {
    let (core, worker) = (&task.core, task.core.worker());
    // Locked before it is pending: whoever ends it from then on sees it as it is after this.
    let mut totals = core.details().totals();
    if !core.state.retry() {
        return false;
    }
    totals.reset(&core.counts, &core.clock, worker);
    core.details().noticed_at.set(0);
    core.details().probed_at.set(0);
    drop(totals);
    // The timer entry that watches its deadline stays.
    if core.details().limits.deadline.is_none() {
        forget_watchdog(core);
    }
    true
}

/// Ends a task that has not been run, and will not be; or not again, if its worker was lost.
pub(crate) fn reject(task: &TaskRef, kind: TaskErrorKind, reason: BoxError) {
    if !task.core.state.seal() {
        return;
    }
    match task.core.lost_to() {
        Some(exit) if !task.core.is_overdue() => {
            let error = task.error(TaskErrorKind::WorkerLost(exit));
            refuse_with(task, error.with_source(reason).not_run_again());
        }
        _ => refuse(task, kind, Some(reason)),
    }
}

/// Gives up the outcome: it is dropped now, or by the thread that settles the task.
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

/// Requests a pause. Runs no foreign code. If it returns `true`, the caller must [tell](tell_paused) those who wait for it.
pub(crate) fn request_pause(core: &Core) -> bool {
    core.state.set(state::PAUSE) & state::PAUSE == 0
}

/// Like [`request_pause`], for the end of a pause.
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
        // It may run where its future is polled.
        task.core.waiter.wake();
    }
}

/// Attaches `owner` to a pending task, if `keep` agrees. `keep` is given the control word, and may store the task.
///
/// A thread that resumes or ends the task meanwhile waits, so `owner` is told of everything that comes after `keep`.
pub(crate) fn attach(task: &TaskRef, owner: Arc<dyn Owner>, keep: impl FnOnce(u32) -> bool) -> bool {
    let mut place = task.core.details().owner();
    let word = task.core.state.set(state::ATTACHED);
    let is_attached = state::is_pending(word) && keep(word);
    if is_attached {
        *place = Some(owner);
    }
    is_attached
}

/// Attaches `owner` to a task whose work it has taken out to do elsewhere. Returns `false` if another thread is ending the
/// task, or has ended it: `owner` will not be told of that, and must let go of the task.
#[must_use]
pub(crate) fn hand_over(task: &TaskRef, owner: &RemoteOwner) -> bool {
    let is_attached = task.body.hand_over(owner.clone());
    if is_attached {
        task.core.state.set(state::ATTACHED);
    }
    is_attached
}
