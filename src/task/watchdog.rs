//! Enforces the limits of a task.
//!
//! The timer looks at a task at least eight times per limit. Each look asks the next progress call to clear a bit
//! ([`PROBE`](state::PROBE)), so no call ever reads a clock. A task that waits (for its turn, in a pause, in a suspended
//! process pool) is only looked at when its deadline has passed.
//!
//! If the program itself was stopped for a while, so were its tasks: the time by which a look comes late does not
//! count, and a look that comes very late ends no running task, and is repeated. So less of a stop counts than the time between
//! two looks.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{CancelCause, TaskError, TaskErrorKind};
use crate::sync::shortage::{self, Shortage};
use crate::sync::timer::{TIMER, Timed};
use crate::task::TaskRef;
use crate::task::limits::Limits;
use crate::task::state;
use crate::task::transitions;

/// The least time between two looks at a task.
const SHORTEST: Duration = Duration::from_millis(1);
/// The latest that a task is looked at for the first time.
const FIRST: Duration = Duration::from_millis(20);
/// How late a look may be without the program having been stopped.
const TOLERANCE: Duration = Duration::from_millis(20);

/// How long no thread could be started for the timer.
static SHORTAGE: Shortage = Shortage::new();

struct Limited(TaskRef);

/// Watches the limits of a task that starts, or goes on after a pause, and the deadline of a task that was submitted.
#[inline]
pub(crate) fn watch(task: &TaskRef) {
    if task.core.state.peek() & state::LIMITED != 0 {
        begin_to_watch(task);
    }
}

#[cold]
fn begin_to_watch(task: &TaskRef) {
    transitions::forget_watchdog(&task.core);
    let now = Instant::now();
    let Some(due) = look(task, now, now) else { return };
    let scheduled = SHORTAGE.outlast(shortage::of_threads, || TIMER.schedule(due, Box::new(Limited(task.clone()))));
    match scheduled {
        Ok(watchdog) => task.core.details().watchdog.store(watchdog.to_bits(), Ordering::Release),
        Err(error) => {
            let error =
                shortage::explain("its limits could not be watched: the system could not start a thread", &error);
            transitions::reject(task, TaskErrorKind::Rejected, error.clone().into());
            end(task, TaskErrorKind::Rejected, |rejected| rejected.with_source(error.into()));
        }
    }
}

impl Timed for Limited {
    fn fire(&mut self, due: Instant, now: Instant) -> Option<Instant> {
        look(&self.0, due, now)
    }
}

/// Returns when to look again, if one of the limits can still pass.
fn look(task: &TaskRef, due: Instant, now: Instant) -> Option<Instant> {
    let (core, word) = (&task.core, task.core.state.load());
    let limits = core.existing_details().map(|details| details.limits).filter(|_| word & state::ENDED == 0)?;
    let stands_still = core.details().totals().standstill.since.is_some();
    let is_running = word & state::RUNNING != 0 && word & state::HALTED == 0 && !stands_still;
    if !is_running {
        // Its other limits are watched again when it starts or goes on.
        return look_at_waiting(task, limits.deadline?, now);
    }
    let lateness = now.saturating_duration_since(due);
    if lateness > TOLERANCE {
        core.exclude(lateness);
    }
    let silence = limits.stall_timeout.map(|_| task.silence());
    if lateness > TOLERANCE.max(limits.shortest() / 8) {
        // The program was stopped, and the answer of the task may be on the way. The shortest of its limits decides when to look
        // again.
        let eighth = limits.shortest() / 8;
        let left = limits.deadline.map(|deadline| deadline.saturating_duration_since(now));
        return now.checked_add(left.map_or(eighth, |left| left.min(eighth)).max(FIRST));
    }
    let excluded = core.details().totals().standstill.total;
    let elapsed = Duration::from_nanos(core.running_for().saturating_sub(excluded));
    look_at_running(task, limits, elapsed, silence, now)
}

/// Returns when to look again, unless the deadline has passed. That is a point in time, so a look that comes late judges as
/// well; if each were repeated, none of very many that are due together would ever judge.
fn look_at_waiting(task: &TaskRef, deadline: Instant, now: Instant) -> Option<Instant> {
    if now < deadline {
        return Some(deadline.max(now + SHORTEST));
    }
    pass_deadline(task);
    None
}

/// Returns when to look again, unless one of the limits has passed.
fn look_at_running(
    task: &TaskRef,
    limits: Limits,
    elapsed: Duration,
    silence: Option<Duration>,
    now: Instant,
) -> Option<Instant> {
    let until_timeout = limits.timeout.map(|limit| limit.saturating_sub(elapsed));
    let until_stalled = limits.stall_timeout.zip(silence).map(|(limit, silence)| limit.saturating_sub(silence));
    let until_deadline = limits.deadline.map(|deadline| deadline.saturating_duration_since(now));
    if until_timeout == Some(Duration::ZERO) || until_deadline == Some(Duration::ZERO) {
        end(task, TaskErrorKind::TimedOut, |error| error);
        return None;
    }
    if until_stalled == Some(Duration::ZERO) {
        // With its silence as of just now: the task may make a call at any moment.
        end(task, TaskErrorKind::Stalled, |error| error.with_silence(silence));
        return None;
    }
    // Most tasks end before they are looked at. Longer ones are looked at to notice when the program stood still.
    let again = limits.timeout.map(|limit| elapsed.min(limit / 8).max(FIRST));
    let eighth = limits.stall_timeout.map(|limit| limit / 8);
    let next = [until_timeout, again, until_deadline, until_stalled, eighth].into_iter().flatten().min()?;
    now.checked_add(next.max(SHORTEST))
}

/// Ends a task whose deadline has passed while it was waiting.
fn pass_deadline(task: &TaskRef) {
    let core = &task.core;
    if core.state.seal_unlent() {
        transitions::refuse(task, TaskErrorKind::TimedOut, None);
    } else if core.has_run() {
        // It waits in a pause.
        end(task, TaskErrorKind::TimedOut, |error| error);
    } else {
        // Only the process where it waits knows whether it is about to start.
        core.details().is_overdue.store(true, Ordering::Release);
        transitions::cancel(task, CancelCause::Requested);
    }
}

/// Ends a task while its function is running, unless that has returned just now. The function is asked to end.
fn end(task: &TaskRef, kind: TaskErrorKind, complete: impl FnOnce(TaskError) -> TaskError) {
    task.look();
    if task.core.state.decide() {
        task.core.close();
        let mut error = complete(task.error(kind));
        if let Some(source) = task.stopped() {
            error = error.with_source(source);
        }
        transitions::request_cancel(task, CancelCause::Requested);
        task.tell_owner();
        transitions::refuse_with(task, error);
    }
}

#[cfg(test)]
mod tests {
    use super::{FIRST, Limited, SHORTEST, TOLERANCE};
    use crate::run;
    use crate::sync::clock::Span;
    use crate::sync::timer::Timed;
    use crate::task::TaskRef;
    use crate::task::details::Details;
    use crate::task::idle::{self, Idle};
    use crate::task::limits::Limits;
    use crate::task::state;
    use std::time::{Duration, Instant};

    fn limited(limits: Limits) -> (TaskRef, Limited) {
        let task = idle::started(*Details::of(None, limits).unwrap());
        task.core.state.set(state::LIMITED);
        (task.clone(), Limited(task))
    }

    fn stalls_after(stall_timeout: Duration) -> (TaskRef, Limited) {
        limited(Limits { stall_timeout: Some(stall_timeout), ..Limits::default() })
    }

    fn times_out_after(timeout: Duration) -> (TaskRef, Limited) {
        limited(Limits { timeout: Some(timeout), ..Limits::default() })
    }

    /// A task with this deadline that has not started.
    fn due_at(deadline: Instant) -> TaskRef {
        let limits = Limits { deadline: Some(deadline), ..Limits::default() };
        let (task, _handle) = run::new(Idle, Details::of(None, limits));
        task.core.state.set(state::LIMITED);
        task
    }

    #[test]
    fn looks_are_an_eighth_of_the_limit_apart_or_a_millisecond() {
        for millis in [1, 2, 5, 8, 9, 30, 1000, 3_600_000] {
            let limit = Duration::from_millis(millis);
            let (task, mut watch) = stalls_after(limit);
            let now = Instant::now();
            // Its first look may come after a very short limit has passed.
            let Some(next) = watch.fire(now, now) else { continue };
            assert!(next - now <= (limit / 8).max(SHORTEST), "{limit:?}: {:?}", next - now);
            // A call was made, and after a pause there was none before.
            task.core.state.clear(state::PROBE);
            let next = watch.fire(now, now).unwrap();
            assert!(next - now <= (limit / 8).max(SHORTEST), "{limit:?}: {:?}", next - now);
        }
    }

    #[test]
    fn a_look_that_comes_late_judges_nobody() {
        let hour = Duration::from_secs(3600);
        for (task, mut watch) in [stalls_after(Duration::from_nanos(1)), times_out_after(Duration::from_nanos(1))] {
            let now = Instant::now();
            // As long as the program was stopped.
            let again = watch.fire(now, now + TOLERANCE + hour).unwrap();
            assert!(again <= now + TOLERANCE + hour + FIRST);
            assert_eq!(task.core.state.peek() & state::ENDED, 0);
            assert_eq!(task.core.silent_for().unwrap_or_default(), Duration::ZERO);
        }
    }

    #[test]
    fn after_a_look_that_came_late_no_limit_waits_for_a_longer_one() {
        let (short, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let now = Instant::now();
        let late = now + short;
        for stall_timeout in [hour, Duration::MAX] {
            let stalls = Limits { stall_timeout: Some(stall_timeout), ..Limits::default() };
            let timed = Limits { timeout: Some(short), ..stalls };
            let due = Limits { deadline: Some(late + short), ..stalls };
            for limits in [timed, due] {
                let (_task, mut watch) = limited(limits);
                let again = watch.fire(now, late).unwrap();
                assert!(again <= late + short, "{limits:?}: after {:?}", again - late);
            }
        }
    }

    #[test]
    fn time_that_does_not_count_is_not_made_up_for_after_a_pause() {
        let hour = Duration::from_secs(3600);
        let (task, mut watch) = times_out_after(hour);
        let now = Instant::now();
        assert!(watch.fire(now, now + 2 * hour).is_some());
        // As if it had been running for that long, all of it while the program was stopped.
        let started = task.core.clock.read().started;
        let span = Span { started, stopped: started + u64::try_from((2 * hour).as_nanos()).unwrap() };
        task.core.clock.set(span);
        // The end of a pause has it watched anew.
        let now = Instant::now();
        assert!(Limited(task.clone()).fire(now, now).is_some());
        assert_eq!(task.core.state.peek() & state::ENDED, 0);
    }

    #[test]
    fn a_task_is_told_to_end_later_by_the_time_that_does_not_count() {
        let (task, _watch) = times_out_after(Duration::from_secs(3600));
        let deadline = task.core.deadline().unwrap();
        task.core.exclude(Duration::from_secs(60));
        assert_eq!(task.core.deadline(), Some(deadline + Duration::from_secs(60)));
    }

    #[test]
    fn what_counts_of_a_stop_is_an_eighth_of_the_limit_at_most() {
        let hour = Duration::from_secs(3600);
        for minutes in 0..60 {
            let (task, mut watch) = times_out_after(hour);
            let started = task.core.clock.read().started;
            let elapsed = u64::try_from(Duration::from_secs(60 * minutes).as_nanos()).unwrap();
            task.core.clock.set(Span { started, stopped: started + elapsed });
            let now = Instant::now();
            let next = watch.fire(now, now).unwrap();
            assert!(next - now <= hour / 8, "after {minutes} minutes: {:?}", next - now);
            // Less than what makes a look judge nobody.
            let late = Duration::from_secs(60);
            assert!(watch.fire(next, next + late).is_some(), "after {minutes} minutes");
            assert_eq!(task.core.details().totals().standstill.total, u64::try_from(late.as_nanos()).unwrap());
        }
    }

    #[test]
    fn a_look_in_time_judges() {
        let limit = Duration::from_nanos(1);
        for (task, mut watch) in [stalls_after(limit), times_out_after(limit)] {
            while task.core.running_for() == 0 || task.core.silent_for() < Some(limit) {
                std::thread::yield_now();
            }
            let now = Instant::now();
            assert_eq!(watch.fire(now, now), None);
            assert_ne!(task.core.state.peek() & state::ENDED, 0);
        }
    }

    #[test]
    fn the_clock_of_a_task_whose_deadline_passes_as_it_is_about_to_start_stands_still() {
        let now = Instant::now();
        let task = due_at(now);
        assert_eq!(task.core.claim(), Ok(()));
        assert_eq!(Limited(task.clone()).fire(now, now), None);
        assert!(task.core.has_ended());
        task.core.start_clock(0);
        assert_eq!(task.core.span(), None, "it has never started");
        assert!(task.core.stopped_at() > 0);
    }

    /// If very many are due together, all looks but the first ones are late.
    #[test]
    fn the_deadline_of_a_task_that_waits_passes_however_late_the_look_is() {
        let now = Instant::now();
        let task = due_at(now);
        assert_eq!(Limited(task.clone()).fire(now, now + 2 * TOLERANCE), None);
        assert!(task.core.has_ended());
    }

    #[test]
    fn the_time_by_which_a_look_is_late_does_not_count_for_that_look() {
        let limit = Duration::from_secs(1);
        let (task, mut watch) = times_out_after(limit);
        let (now, late) = (Instant::now(), Duration::from_millis(100));
        let started = task.core.clock.read().started;
        // As if the limit had passed during this time, and not before.
        let elapsed = u64::try_from((limit + late / 2).as_nanos()).unwrap();
        task.core.clock.set(Span { started, stopped: started + elapsed });
        assert!(watch.fire(now, now + late).is_some());
        assert_eq!(task.core.state.peek() & state::ENDED, 0);
    }

    #[test]
    fn a_task_that_waits_in_a_pause_is_not_looked_at() {
        let (task, mut watch) = stalls_after(Duration::from_nanos(1));
        task.core.state.set(state::HALTED);
        let now = Instant::now();
        assert_eq!(watch.fire(now, now), None);
        assert_eq!(task.core.state.peek() & state::ENDED, 0);
    }
}
