//! The part of a future that does not depend on the type of its output: a program compiles it once, not for each task.

use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::CancelCause;
use crate::progress::ProgressState;
use crate::run;
use crate::sync::block_on::await_reactor;
use crate::sync::duty;
use crate::sync::unwind::drop_quietly;
use crate::task::callbacks::{CallbackId, Callbacks, Observer};
use crate::task::context::{Context, Surroundings};
use crate::task::core::Core;
use crate::task::lines::Feed;
use crate::task::{Body, Task, TaskRef, publish, state, transitions};

/// Far more than it takes to write an outcome, and to notify those who observe the task.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(1);

/// The observers of a future.
pub(super) type Observers = Arc<Callbacks<ProgressState>>;

/// Adds an observer that has already seen `seen`.
pub(super) fn observe(
    task: &TaskRef,
    place: &mut Option<Observers>,
    observer: Box<dyn Observer<ProgressState>>,
    seen: ProgressState,
) -> CallbackId {
    let is_first = place.is_none();
    let observers = place.get_or_insert_with(Callbacks::new);
    // Added first, so that the observer is shown the lines printed before.
    let id = observers.add(observer, seen);
    if is_first {
        publish::admit(task, observers.latest.clone(), |seen| observers.latest.set(seen.clone()));
    } else {
        if observers.latest.takes_lines() {
            // The observers before this one may have taken none.
            publish::lines_left(&task.core).iter().for_each(|line| Feed::say(&observers.latest, line));
        }
        publish::refresh(&task.core, &*observers.latest, |now| observers.latest.renew(now));
    }
    // The next poll of the future has something to show.
    task.core.waiter.wake();
    id
}

pub(super) fn remove(observers: &Callbacks<ProgressState>, id: CallbackId) -> bool {
    observers.remove(id)
}

/// Shows the observers what is new, where the future is polled.
pub(super) fn show(observers: &Callbacks<ProgressState>, waker: &Waker) {
    observers.catch_up();
    observers.poll(waker);
    observers.raise();
}

/// Shows the lines that were kept until the future of the task was polled; later ones are not kept.
#[inline]
pub(super) fn attend(core: &Core) {
    if core.state.peek() & state::ATTENDED == 0 {
        publish::attend(core);
    }
}

/// Whether the task runs where its future is polled, unless it has been started elsewhere.
#[inline]
pub(super) fn belongs_here(core: &Core) -> bool {
    core.state.load() & state::INLINE != 0 || run::current_pool(core.pool_id()).is_some()
}

/// Runs a task that this thread has claimed. `core` is that of the task.
pub(super) fn run_here(core: &Core, task: TaskRef, observers: Option<Observers>) {
    let callbacks = observers.map(|observers| (thread::current().id(), observers));
    let report_interval = run::current_pool(core.pool_id()).map(|pool| pool.report_interval);
    let is_default = report_interval.is_none() && callbacks.is_none();
    let surroundings = || Surroundings { report_interval, callbacks, ..Surroundings::default() };
    let is_settled = run::run(task, if is_default { Context::default() } else { Context::new(surroundings()) });
    if !is_settled {
        // Another thread is about to write the outcome and to show it: the future must be ready when this returns.
        core.wait_until(|_| has_settled(core), Some(Instant::now() + OUTCOME_TIMEOUT));
    }
    if report_interval.is_some() {
        // The pool still has the task in its queue.
        transitions::leave_behind();
    }
}

/// Whether the task has ended, and all its observers have been shown the last state.
#[inline]
pub(super) fn has_settled(core: &Core) -> bool {
    let word = core.state.load();
    word & state::ENDED != 0 && (word & state::OBSERVED == 0 || publish::conclude(core))
}

/// Called when the future is not ready and its thread may block.
pub(super) fn before_waiting(task: &Task<dyn Body>) {
    await_reactor(|| task.before_blocking());
    duty::before_waiting();
}

/// Abandons and cancels a task whose future was dropped before it was ready.
pub(super) fn abandon(task: &TaskRef, observers: Option<&Callbacks<ProgressState>>) {
    transitions::abandon(task);
    transitions::cancel(task, CancelCause::Dropped);
    // Not before: where nothing else shows its lines, standard error may be slow to take them.
    attend(&task.core);
    leave(task, observers);
}

/// Tells callbacks and bars that nothing will follow, and drops the waker of the last poll: the task may go on for
/// long.
pub(super) fn leave(task: &Task<dyn Body>, observers: Option<&Callbacks<ProgressState>>) {
    drop_quietly(task.core.waiter.take());
    if let Some(observers) = observers {
        observers.leave(&progress(task));
    }
}

pub(super) fn progress(task: &Task<dyn Body>) -> ProgressState {
    task.look();
    task.core.snapshot()
}

#[cfg(test)]
mod tests {
    use super::run_here;
    use crate::error::TaskErrorKind;
    use crate::task::details::Details;
    use crate::task::idle;
    use crate::task::limits::Limits;
    use crate::task::{state, transitions};
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn a_task_that_was_run_here_has_ended_even_if_another_thread_ends_it() {
        let limits = Limits { timeout: Some(Duration::MAX), ..Limits::default() };
        let task = idle::started(*Details::of(None, limits).unwrap());
        task.core.state.set(state::LIMITED);
        // As the watchdog does when the limit passes. Here it then takes its time.
        assert!(task.core.state.decide());
        task.core.close();
        let late = task.clone();
        let watchdog = thread::spawn(move || {
            let start = Instant::now();
            while late.core.state.load() & state::WAITS == 0 {
                assert!(start.elapsed() < Duration::from_secs(20), "nobody waits for it");
                thread::yield_now();
            }
            transitions::refuse(&late, TaskErrorKind::TimedOut, None);
        });
        run_here(&task.core, task.clone(), None);
        assert!(task.core.has_ended());
        watchdog.join().unwrap();
    }
}
