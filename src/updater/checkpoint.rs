//! The slow path of a progress call: a report is due, the task is paused, or it must end.

use std::borrow::Cow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Cancelled;
use crate::progress::ProgressState;
use crate::sync::clock;
use crate::task::TaskRef;
use crate::task::callbacks::Callbacks;
use crate::task::context::Context;
use crate::task::core::Core;
use crate::task::counts;
use crate::task::lines::{Line, write_to_stderr};
use crate::task::parts::Parts;
use crate::task::publish;
use crate::task::state;
use crate::task::subscribers::Pace;
use crate::task::transitions;
use crate::task::watchdog;

/// Handles those of `bits` that are set in the control word.
#[cold]
pub(crate) fn checkpoint(task: &TaskRef, context: &Context, bits: u32) -> Result<(), Cancelled> {
    let core = &task.core;
    handle_request(task, context);
    let word = core.state.peek();
    if word & state::PROBE != 0 {
        answer_probe(core);
    }
    if word & bits & state::REPORT != 0 {
        report(task, context);
    }
    // Read again: an observer of that report may have requested something.
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
        halt(task, context);
    }
}

/// Whether the task must end; called only if something wants attention.
#[cold]
pub(crate) fn must_end(task: &TaskRef, context: &Context) -> bool {
    handle_request(task, context);
    let word = task.core.state.peek();
    if word & state::PROBE != 0 {
        answer_probe(&task.core);
    }
    word & (state::CANCEL | state::ENDED) != 0
}

/// In a worker process: cancels the task if the program has requested that in the memory that both share.
fn handle_request(task: &TaskRef, context: &Context) {
    if task.core.state.peek() & state::LAID_OUT == 0 || !counts::is_requested() {
        return;
    }
    let request = context.recorder().and_then(|recorder| recorder.take_request(task.core.id()));
    if let Some(cause) = request {
        transitions::cancel(task, cause);
    }
}

/// Notes that a progress call was made.
fn answer_probe(core: &Core) {
    if core.state.clear(state::PROBE | state::ECHO) & state::ECHO != 0 {
        core.waiter.wake();
    }
}

/// The end of a progress call that does not check for cancellation: shows what has changed, if a report is due.
pub(crate) fn report_if_due(task: &TaskRef, context: &Context) {
    let word = task.core.state.peek();
    if word & state::PROBE != 0 {
        answer_probe(&task.core);
    }
    if word & state::REPORT != 0 {
        report(task, context);
    }
}

/// The end of a call that says something new: records it, so that it outlives the process, and shows it if that is due.
pub(crate) fn record_and_report(task: &TaskRef, context: &Context) {
    record(task, context);
    report_if_due(task, context);
}

pub(crate) fn record(task: &TaskRef, context: &Context) {
    if let Some(recorder) = context.recorder() {
        task.core.record(|said| recorder.record(task.core.id(), said));
    }
}

/// Follows a count that is spread over parts or threads: unlike a single count, the program sees it only if it is recorded.
pub(crate) fn follow_spread(task: &TaskRef, context: &Context) {
    record(task, context);
    if let Some(recorder) = context.recorder() {
        recorder.clone().watch(task.core.id());
    }
}

#[cold]
pub(crate) fn report(task: &TaskRef, context: &Context) {
    record(task, context);
    publish::due(task, Pace::of_this_process(context.report_interval(), context.callbacks().is_some()));
    catch_up(context);
}

/// Calls the callbacks of a task that runs where its future is polled.
fn catch_up(context: &Context) {
    own_callbacks(context).into_iter().for_each(|callbacks| callbacks.catch_up());
}

/// The callbacks that this thread calls. Another thread of the task must not call what belongs to the polling thread.
fn own_callbacks(context: &Context) -> Option<&Callbacks<ProgressState>> {
    let (polling_thread, callbacks) = context.callbacks()?;
    (*polling_thread == thread::current().id()).then_some(&**callbacks)
}

/// Called before this thread waits within a progress call, perhaps until a known time: nothing else would call the callbacks
/// meanwhile.
fn show_before_waiting(task: &TaskRef, context: &Context, until: Option<Instant>) {
    if own_callbacks(context).is_some() {
        publish::before_waiting(task, until);
        catch_up(context);
    }
}

/// Has a line, without the newline at its end, shown wherever the task is shown; what was counted before it comes first.
pub(crate) fn println(task: &TaskRef, context: &Context, text: &str) {
    report_if_due(task, context);
    let line = Line::new(task.core.id(), text.strip_suffix('\n').unwrap_or(text));
    match context.relay() {
        Some(relay) => relay.say(line),
        None => {
            if let Some(line) = publish::say(&task.core, line) {
                write_to_stderr(&line.text);
            }
            catch_up(context);
        }
    }
}

/// Waits while the task is paused, with its clock stopped.
fn halt(task: &TaskRef, context: &Context) {
    let core = &task.core;
    let details = core.details();
    let mut totals = details.totals();
    if totals.halt(&core.clock, clock::now()) {
        core.state.set(state::HALTED);
    }
    drop(totals);
    publish::change(task);
    show_before_waiting(task, context, None);
    core.wait_until(|word| word & state::PAUSE == 0 || word & (state::CANCEL | state::ENDED) != 0, None);
    let mut totals = details.totals();
    let is_last = totals.go_on(&core.clock, clock::now());
    if is_last {
        // A probe from just before the pause would count the pause as silence.
        core.state.clear(state::HALTED | state::PROBE | state::ECHO);
    }
    drop(totals);
    if is_last {
        watchdog::watch(task);
    }
    publish::change(task);
    catch_up(context);
}

/// Sleeps for `duration`, or until the task is told to end.
pub(crate) fn sleep(task: &TaskRef, context: &Context, duration: Duration) -> Result<(), Cancelled> {
    // No deadline if it lies beyond the end of time: then only cancellation ends the sleep.
    let deadline = Instant::now().checked_add(duration);
    loop {
        checkpoint(task, context, state::CHECK)?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(());
        }
        if let Some(recorder) = context.recorder() {
            recorder.sleep(task.core.id(), duration);
        }
        show_before_waiting(task, context, deadline);
        task.core.wait_until(|word| word & state::INTERRUPT != 0, deadline);
    }
}

pub(crate) fn set_message(
    task: &TaskRef,
    context: &Context,
    message: Cow<'static, str>,
    is_current: impl FnOnce(&Parts) -> bool,
) {
    let message: Arc<str> = match message {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => text.into(),
    };
    task.core.set_message(message, is_current);
    record_and_report(task, context);
}
