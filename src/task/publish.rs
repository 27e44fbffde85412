//! When subscribers are shown what a task does: the rate limit, and the timer that watches the task for it.
//!
//! Subscribers see the first change at once, then at most one snapshot per interval, always the newest. The task looks
//! at no clock for that while it counts:
//!
//! ```text
//!                        the task makes a change:
//!                    it shows it, and asks to be watched
//!       ┌───────┐ ─────────────────────────────────────────► ┌─────────┐ ──┐ something has changed:
//!       │ quiet │                                            │ watched │   │ the timer shows it, and
//!       └───────┘ ◄───────────────────────────────────────── └─────────┘ ◄─┘ looks again after an interval
//!                    nothing has changed for two intervals
//! ```
//!
//! A *quiet* task has [`REPORT`](state::REPORT) set in its control word, so that its next change is shown by the very
//! call that makes it. A task that counts all the time stays *watched*, and never leaves the fast path. The timer sets
//! `REPORT` after one interval without a change but looks once more after another one: the task may have counted just
//! before it could see the bit.

use std::iter;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use async_channel::Receiver;

use crate::progress::ProgressState;
use crate::sync::timer::{TIMER, Timed};
use crate::task::TaskRef;
use crate::task::core::Core;
use crate::task::lines::{Line, MOST_LINES, write_to_stderr};
use crate::task::state;
use crate::task::subscribers::{Channel, Notices, Pace, Reports, Subscriber, after};

/// The most subscribers that a task notifies from within its own progress call; with more, the timer does it.
const FEW: usize = 16;

/// A new receiver of the task's snapshots, which starts with the current one.
pub(crate) fn subscribe(task: &TaskRef) -> Receiver<ProgressState> {
    let (channel, receiver) = Channel::new();
    admit(task, channel.clone(), |seen| channel.start_with(seen.clone()));
    receiver
}

/// Adds a subscriber that has seen the state which `first` is given, with the reports locked.
pub(crate) fn admit(
    task: &TaskRef,
    subscriber: Arc<dyn Subscriber<ProgressState>>,
    first: impl FnOnce(&ProgressState),
) {
    let core = &task.core;
    task.look();
    let mut reports = core.details().reports();
    let is_first = begin_to_observe(core, &reports);
    let mut told = Vec::new();
    if subscriber.takes_lines() {
        // If it shows lines where another subscriber does, that one must not show earlier lines after later ones.
        reports.subscribers.waiting_lines().iter().for_each(|line| subscriber.say(line));
        take_early_lines(core, |line| {
            // The subscribers already there are shown them as well, so that all see the lines in one order.
            told.push(reports.subscribers.say(line));
            subscriber.say(line);
        });
    }
    // Taken after the lines, so that it is no older than they are.
    let seen = core.snapshot();
    first(&seen);
    let notices = if seen.status.is_terminal() { Notices::NONE } else { reports.subscribers.add(subscriber, seen) };
    drop(reports);
    told.into_iter().chain([notices]).for_each(|notices| notices.notify(&core.waiter));
    if is_first {
        task.tell_owner();
    }
}

/// Shows the current state to a subscriber that was [admitted](admit) before, whether it is news or not. `take` is
/// given the state with the reports locked, so that nothing older comes after it.
pub(crate) fn refresh<R>(
    core: &Core,
    subscriber: &impl Subscriber<ProgressState>,
    take: impl FnOnce(ProgressState) -> R,
) -> R {
    let mut reports = core.details().reports();
    let now = core.snapshot();
    reports.subscribers.note(subscriber, &now);
    take(now)
}

/// Marks the task as observed. Returns whether it was not before.
fn begin_to_observe(core: &Core, reports: &Reports) -> bool {
    let due = if reports.watched.is_some() { 0 } else { state::REPORT };
    core.state.set(state::OBSERVED | due) & state::OBSERVED == 0
}

/// The task's side: shows what the task has changed, because a report is due.
///
/// The first call decides at which `pace` the task is shown.
pub(crate) fn due(task: &TaskRef, pace: Pace) {
    let mut reports = task.core.details().reports();
    if reports.pace == Pace::EveryChange {
        reports.pace = pace;
    }
    let now = Instant::now();
    let is_left = reports.subscribers.len() > FEW && leave_to_timer(task, &mut reports, now);
    if is_left || is_for_callbacks(&reports, now) {
        task.core.state.clear(state::REPORT);
        return;
    }
    show(task, reports, now);
}

/// Shows a line to the subscribers that take lines. Returns the line if there are none: it is for standard error.
///
/// A task may print something before anything could subscribe, so lines wait until its future is [attended](attend) to.
pub(crate) fn say(core: &Core, line: Line) -> Option<Line> {
    if core.state.load() & state::ATTENDED == 0 && core.state.set(state::SAID) & state::ATTENDED == 0 {
        let mut early_lines = core.details().early_lines();
        // Looked at again: `attend` sets the bit with this lock held.
        if core.state.load() & state::ATTENDED == 0 {
            early_lines.push(line);
            return None;
        }
    }
    (!show_if_observed(core, &line)).then_some(line)
}

/// Shows the lines that have waited for the future of the task to be polled, or given away.
#[cold]
pub(crate) fn attend(core: &Core) {
    // The usual case, which needs no details.
    if core.state.attend() {
        return;
    }
    for shown in 0.. {
        // Locked until the line is shown: if the task ended before that, no subscriber would be left.
        let reports = core.details().reports();
        // A task may print faster than this shows.
        let Some(line) = next_early_line(core, shown >= MOST_LINES) else { return };
        if !show_line(core, reports, &line) {
            write_to_stderr(&line.text);
        }
    }
}

/// Takes the lines that wait, with their lock held: `say` must neither wait nor call foreign code.
fn take_early_lines(core: &Core, mut say: impl FnMut(&Line)) {
    let mut early_lines = core.details().early_lines();
    iter::from_fn(|| early_lines.pop()).for_each(|line| say(&line));
}

/// Takes the lines that a task has printed before its future was polled, for a caller that shows them at once.
pub(crate) fn early_lines(core: &Core) -> Vec<Line> {
    let mut lines = Vec::new();
    if core.existing_details().is_some() {
        take_early_lines(core, |line| lines.push(line.clone()));
    }
    lines
}

/// Takes the lines of a task that has ended before its future was polled, unless a subscriber will be shown them.
pub(crate) fn lines_left(core: &Core) -> Vec<Line> {
    let mut lines = Vec::new();
    if core.has_ended() && core.state.load() & state::SAID != 0 {
        let reports = core.details().reports();
        if !reports.subscribers.take_lines() {
            take_early_lines(core, |line| lines.push(line.clone()));
        }
    }
    lines
}

/// Takes the next line that waits. If there is none, later lines do not wait. `is_late` makes sure that this comes to pass:
/// no more lines are let in.
fn next_early_line(core: &Core, is_late: bool) -> Option<Line> {
    let mut early_lines = core.details().early_lines();
    if is_late {
        early_lines.close();
    }
    let next = early_lines.pop();
    if next.is_none() || is_late && early_lines.is_empty() {
        core.state.set(state::ATTENDED);
    }
    next
}

/// Shows a line to the subscribers that take lines. Returns whether there are any.
fn show_if_observed(core: &Core, line: &Line) -> bool {
    if core.state.load() & state::OBSERVED == 0 {
        return false;
    }
    show_line(core, core.details().reports(), line)
}

fn show_line(core: &Core, reports: MutexGuard<'_, Reports>, line: &Line) -> bool {
    let notices = reports.subscribers.say(line);
    let is_shown = !notices.is_empty();
    notify(core, reports, notices);
    is_shown
}

/// Shows a change of phase, which may come from any thread, unless the timer is about to show it.
pub(crate) fn change(task: &TaskRef) {
    if task.core.state.load() & state::OBSERVED == 0 {
        return;
    }
    let reports = task.core.details().reports();
    let now = Instant::now();
    let is_about_to = reports.watched.is_some() && reports.next_due().is_some_and(|due| now < due);
    if !is_about_to {
        show(task, reports, now);
    }
}

/// Shows what has changed, since the thread that shows it to the callbacks is about to wait, unless it will be back by the time at
/// which that is due.
pub(crate) fn before_waiting(task: &TaskRef, until: Option<Instant>) {
    if task.core.state.load() & state::OBSERVED == 0 {
        return;
    }
    let reports = task.core.details().reports();
    let is_back = reports.next_due().zip(until).is_some_and(|(due, until)| until <= due);
    if !is_back {
        show(task, reports, Instant::now());
    }
}

fn show(task: &TaskRef, mut reports: MutexGuard<'_, Reports>, now: Instant) {
    let core = &task.core;
    if reports.concluded {
        return;
    }
    let pace = reports.pace;
    let notices = reports.subscribers.store(&core.snapshot(), pace.interval());
    reports.shown_at = Some(now);
    if reports.subscribers.is_empty() {
        core.state.clear(state::OBSERVED | state::REPORT);
    } else if reports.watched.is_some()
        || pace.limit().is_some_and(|interval| watch(task, &mut reports, after(now, interval)))
    {
        core.state.clear(state::REPORT);
    }
    notify(core, reports, notices);
}

/// Has the timer show at once what has changed. Returns whether that was arranged.
fn leave_to_timer(task: &TaskRef, reports: &mut Reports, now: Instant) -> bool {
    match reports.pace {
        Pace::EveryChange | Pace::TaskThread(_) => return false,
        // The timer is about to do so.
        Pace::Remote(_) if reports.watched.is_some() => return true,
        Pace::Timer(_) | Pace::Remote(_) => {}
    }
    // The entry is not replaced: it may be firing, and would go on beside the new one.
    reports.watched.is_some_and(|watched| TIMER.hasten(watched, now)) || watch(task, reports, now)
}

/// Whether the timer has just shown the task, and only the callbacks are still to be called.
fn is_for_callbacks(reports: &Reports, now: Instant) -> bool {
    let is_watched = matches!(reports.pace, Pace::TaskThread(_)) && reports.watched.is_some();
    is_watched && reports.next_due().is_some_and(|due| now < due)
}

/// Has the timer look at the task from `due` on, at regular intervals, if its pace has any. Returns whether that was
/// arranged.
fn watch(task: &TaskRef, reports: &mut Reports, due: Instant) -> bool {
    if reports.pace.interval().is_none_or(|interval| interval.is_zero()) {
        return false;
    }
    reports.watched = TIMER.schedule(due, Box::new(Watched(task.clone()))).ok();
    reports.watched.is_some()
}

/// Notifies the subscribers for which something was stored, without the lock.
fn notify(core: &Core, mut reports: MutexGuard<'_, Reports>, notices: Notices<ProgressState>) {
    if notices.is_empty() {
        return;
    }
    reports.notifying += 1;
    drop(reports);
    notices.notify(&core.waiter);
    let mut reports = core.details().reports();
    reports.notifying -= 1;
    let is_over = reports.concluded && reports.notifying == 0;
    drop(reports);
    if is_over {
        // The future may be waiting for the last state to have reached everyone.
        core.waiter.wake();
        core.interrupt();
    }
}

/// Shows the last state, and removes every subscriber; the first thread to see that the task has ended does so. Returns
/// whether all have been shown the last state: until then, the future does not resolve.
pub(crate) fn conclude(core: &Core) -> bool {
    let mut reports = core.details().reports();
    if !reports.concluded {
        reports.concluded = true;
        if reports.subscribers.take_lines() {
            // These subscribers will be gone when the future is polled.
            take_early_lines(core, |line| _ = reports.subscribers.say(line));
        }
        let watched = reports.watched.take();
        let interval = reports.pace.interval();
        let notices = reports.subscribers.conclude(&core.snapshot(), interval);
        notify(core, reports, notices);
        TIMER.forget(watched);
        reports = core.details().reports();
    }
    reports.notifying == 0
}

/// A task that the timer looks at in regular intervals.
struct Watched(TaskRef);

impl Timed for Watched {
    /// Shows what the task has counted since it last reported.
    fn fire(&mut self, _due: Instant, now: Instant) -> Option<Instant> {
        let Self(task) = self;
        let core = &task.core;
        let mut reports = core.details().reports();
        if reports.concluded || reports.subscribers.is_empty() {
            reports.watched = None;
            return None;
        }
        let Some(interval) = reports.pace.limit() else {
            // From now on, each change is shown as it arrives.
            reports.watched = None;
            show(task, reports, now);
            return None;
        };
        // The task, or a change of its phase, was shown in between.
        if let Some(due) = reports.next_due().filter(|&due| now < due) {
            return Some(due);
        }
        let notices = reports.subscribers.store(&core.snapshot(), Some(interval));
        if !notices.is_empty() {
            reports.shown_at = Some(now);
            match reports.pace {
                // The next progress call shows it to the callbacks.
                Pace::TaskThread(_) => core.state.set(state::REPORT),
                _ => core.state.clear(state::REPORT),
            };
            notify(core, reports, notices);
            return Some(after(now, interval));
        }
        // If the task falls silent, its silence is measured from about now.
        core.probe();
        // The next call shows its change. If none was made since this bit was set last time, that call also starts the
        // watch anew.
        let is_silent = core.state.set(state::REPORT) & state::REPORT != 0;
        reports.watched = reports.watched.filter(|_| !is_silent);
        reports.watched.map(|_| after(now, interval))
    }
}

#[cfg(test)]
mod tests {
    use super::{leave_to_timer, watch};
    use crate::progress::ProgressState;
    use crate::sync::timer::TIMER;
    use crate::sync::waiter::Waiter;
    use crate::task::details::Details;
    use crate::task::lines::{Line, MOST_LINES};
    use crate::task::subscribers::{Channel, Pace, Subscriber};
    use crate::task::{TaskRef, idle, state};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn a_task_is_watched_once_also_where_more_is_left_to_the_timer_while_it_looks() {
        let task = idle::started(Details::default());
        let (channel, updates) = Channel::new();
        let now = Instant::now();
        let mut reports = task.core.details().reports();
        reports.pace = Pace::Timer(Duration::from_millis(1));
        let _ = reports.subscribers.add(channel, task.core.snapshot());
        assert!(watch(&task, &mut reports, now));
        let watched = reports.watched;
        // The timer waits for the lock.
        eventually("the timer looks", || TIMER.is_firing(watched.unwrap()));
        assert!(leave_to_timer(&task, &mut reports, now));
        assert_eq!(reports.watched, watched);
        task.core.counts.set_both(3, 4);
        drop(reports);
        eventually("the state is shown", || updates.try_recv().is_ok_and(|state| state.n == 3));
        super::conclude(&task.core);
    }

    /// A subscriber that has another line said for each that it is shown.
    struct Echo(TaskRef, AtomicUsize);

    impl Subscriber<ProgressState> for Echo {
        fn store(&self, _old: &ProgressState, _new: &ProgressState, _interval: Option<Duration>) {}

        fn takes_lines(&self) -> bool {
            true
        }

        fn say(&self, line: &Line) {
            let shown = self.1.fetch_add(1, Ordering::Relaxed);
            assert!(shown < 10 * MOST_LINES, "it does not end");
            let mut early_lines = self.0.core.details().early_lines();
            if self.0.core.state.load() & state::ATTENDED == 0 {
                early_lines.push(line.clone());
            }
        }

        fn notify(&self, _owner: &Waiter) {}
    }

    #[test]
    fn whoever_shows_the_lines_that_have_waited_is_done_however_fast_others_come() {
        let task = idle::started(Details::default());
        let echo = Arc::new(Echo(task.clone(), AtomicUsize::new(0)));
        super::admit(&task, echo.clone(), |_| ());
        assert!(super::say(&task.core, Line::new(task.core.id(), "here")).is_none());
        super::attend(&task.core);
        assert!(echo.1.load(Ordering::Relaxed) > MOST_LINES);
        assert_ne!(task.core.state.load() & state::ATTENDED, 0);
        super::conclude(&task.core);
    }

    fn eventually(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < deadline, "never: {what}");
            thread::yield_now();
        }
    }
}
