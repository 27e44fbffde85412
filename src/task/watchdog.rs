//! What a task may take: how long in all, and how long without a progress call.
//!
//! One thread looks after all tasks that have a limit and are running: it looks at a task when the time-out may have
//! passed, and before that now and then, to let go of it if it has ended. At one with a stall time-out it looks eight
//! times as often as that may pass, and each time asks the next progress call to clear a bit ([`PROBE`](state::PROBE)):
//! so no call ever looks at a clock.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::error::{CancelCause, TaskError, TaskErrorKind};
use crate::sync::timer::{Agenda, Visit};
use crate::task::transitions;
use crate::task::{TaskRef, state};

/// How long it takes until a task is looked at again, at the least.
const LEAST_TURN: Duration = Duration::from_millis(1);
/// The same for one that is paused, or that has just been started.
const FIRST_TURN: Duration = Duration::from_millis(20);
/// The most: a task that has ended is not kept for longer.
const LONGEST_TURN: Duration = Duration::from_secs(1);

struct Limited(TaskRef);

/// Sees to the limits of a task that has just been started.
#[inline]
pub(crate) fn watch(task: &TaskRef) {
    if task.core.state.peek() & state::LIMITED != 0 {
        begin_to_watch(task);
    }
}

#[cold]
fn begin_to_watch(task: &TaskRef) {
    static AGENDA: LazyLock<Arc<Agenda<Limited>>> = LazyLock::new(|| Agenda::new("progress-limits"));

    let item = Limited(task.clone());
    let Some(turn) = item.visit(Instant::now()) else { return };
    if !AGENDA.add(turn, item) {
        let error = "its limits could not be watched: the system could not start a thread";
        end(task, TaskErrorKind::Rejected, |rejected| rejected.with_source(error.into()));
    }
}

impl Visit for Limited {
    fn visit(&self, now: Instant) -> Option<Instant> {
        let Self(task) = self;
        let (core, word) = (&task.core, task.core.state.load());
        if word & state::RUNNING == 0 || word & state::ENDED != 0 {
            return None;
        }
        let limits = core.existing_board()?.limits;
        let left = |limit: Duration, used: Duration| limit.saturating_sub(used);
        let elapsed = Duration::from_nanos(core.running_for());
        let until_timeout = limits.timeout.map(|limit| left(limit, elapsed));
        let silence = limits.stall_timeout.map(|_| core.silence());
        let until_stalled = limits.stall_timeout.zip(silence).map(|(limit, silence)| left(limit, silence));
        if until_timeout == Some(Duration::ZERO) {
            end(task, TaskErrorKind::TimedOut, |error| error);
            return None;
        }
        if until_stalled == Some(Duration::ZERO) {
            // As it was just now: the task may make a call at any moment.
            end(task, TaskErrorKind::Stalled, |error| error.with_silence(silence));
            return None;
        }
        let glance = limits.stall_timeout.map(|limit| limit / 8);
        let turn = [until_timeout, until_stalled, glance].into_iter().flatten().min()?;
        let least = if word & state::HALTED == 0 { LEAST_TURN } else { FIRST_TURN };
        // Most tasks end long before their limits, and sooner than they have been running already.
        let most = elapsed.clamp(FIRST_TURN, LONGEST_TURN);
        // A limit that cannot be told never passes.
        now.checked_add(turn)?;
        now.checked_add(turn.clamp(least, most))
    }
}

/// Ends a task while its function is running, unless that has returned just now. The function is asked to end.
fn end(task: &TaskRef, kind: TaskErrorKind, complete: impl FnOnce(TaskError) -> TaskError) {
    if task.core.state.decide() {
        task.core.stop_clock();
        let error = complete(task.error(kind));
        transitions::request_cancel(task, CancelCause::Requested);
        task.core.tell_home();
        transitions::refuse_with(task, error);
    }
}
