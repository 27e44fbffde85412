//! What a progress call does that something wants: a report, a pause, the end.

use std::borrow::Cow;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::error::Cancelled;
use crate::sync::clock;
use crate::task::callbacks::Observers;
use crate::task::core::Core;
use crate::task::publish::Reporter;
use crate::task::{TaskRef, publish, state};

/// What surrounds a running task: who watches it, and who looks at it from the thread that it runs on.
#[derive(Clone, Default)]
pub(crate) struct Context {
    pub(crate) reporter: Option<Arc<Reporter>>,
    pub(crate) observers: Option<(ThreadId, Arc<Observers>)>,
}

/// Attends to those of `bits` that are set.
#[cold]
pub(crate) fn attend(task: &TaskRef, context: &Context, bits: u32) -> Result<(), Cancelled> {
    let core = &task.core;
    let word = core.state.peek();
    if word & state::PROBE != 0 {
        answer(core);
    }
    if word & bits & state::REPORT != 0 {
        report(task, context);
    }
    // Looked at again: whoever saw the report may have requested it just now.
    loop {
        let word = core.state.peek();
        if word & state::CANCEL != 0 {
            core.notice();
            return Err(Cancelled);
        }
        if word & state::ENDED != 0 {
            return Err(Cancelled);
        }
        if word & state::PAUSE == 0 {
            return Ok(());
        }
        halt(task);
    }
}

/// Lets it be known that a progress call was made.
fn answer(core: &Core) {
    if core.state.clear(state::PROBE | state::ECHO) & state::ECHO != 0 {
        core.waiter.wake();
    }
}

/// The end of a progress call that does not check for cancellation: shows what has changed, if that is due.
pub(crate) fn report_if_due(task: &TaskRef, context: &Context) {
    let word = task.core.state.peek();
    if word & state::PROBE != 0 {
        answer(&task.core);
    }
    if word & state::REPORT != 0 {
        report(task, context);
    }
}

#[cold]
pub(crate) fn report(task: &TaskRef, context: &Context) {
    publish::due(task, context.reporter.as_ref());
    if let Some((home, observers)) = &context.observers {
        // Another thread of the task must not call what belongs to the one that polls.
        if *home == thread::current().id() {
            observers.catch_up(&task.core);
        }
    }
}

/// Waits while the task is paused, with its clock stopped.
fn halt(task: &TaskRef) {
    let core = &task.core;
    let board = core.board();
    let mut ledger = board.ledger();
    if ledger.halt(&core.counts, clock::now()) {
        core.state.set(state::HALTED);
    }
    drop(ledger);
    publish::change(task);
    core.wait_until(|word| word & state::PAUSE == 0 || word & (state::CANCEL | state::ENDED) != 0, None);
    let mut ledger = board.ledger();
    if ledger.go_on(&core.counts, clock::now()) {
        // Who has asked for the next call just before the pause would take that for silence.
        core.state.clear(state::HALTED | state::PROBE | state::ECHO);
    }
    drop(ledger);
    publish::change(task);
}

/// Sleeps for so long, or until the task is told to end.
pub(crate) fn sleep(task: &TaskRef, context: &Context, duration: Duration) -> Result<(), Cancelled> {
    // No deadline where it is beyond the end of time: then only cancellation ends the sleep.
    let deadline = Instant::now().checked_add(duration);
    loop {
        attend(task, context, state::CHECK)?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(());
        }
        task.core.wait_until(|word| word & state::INTERRUPT != 0, deadline);
    }
}

pub(crate) fn set_message(task: &TaskRef, context: &Context, message: Cow<'static, str>) {
    let message: Arc<str> = match message {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => text.into(),
    };
    task.core.set_message(message);
    report_if_due(task, context);
}
