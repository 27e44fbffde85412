//! Detects that the program was stopped, as between Ctrl-Z and `fg`.
//!
//! A timer that fires much too late reveals it, not a signal handler: signals belong to the program. The timer goes on
//! as long as something is drawn, so a screen on which nothing changes causes no wake-ups.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sync::timer::{TIMER, Timed};

/// How long after a drawing a stop is still noticed, at least.
const INTERVAL: Duration = Duration::from_millis(500);
/// How late the timer must be to reveal a stop. On a busy machine a timer is late as well, but not that much.
const LATE: Duration = Duration::from_millis(1500);

#[derive(Debug, Default)]
pub(super) struct StopDetector(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the timer goes off, if it is set.
    due: Option<Instant>,
    was_late: bool,
    /// Whether something was drawn since the timer last went off.
    is_drawn: bool,
}

impl StopDetector {
    /// Whether the program was stopped since the previous call.
    pub(super) fn take_stop(self: &Arc<Self>) -> bool {
        let (mut state, now) = (self.lock(), Instant::now());
        // The timer may not have fired yet.
        if state.due.is_some_and(|due| is_late(due, now)) {
            (state.due, state.was_late) = (None, true);
        }
        state.is_drawn = true;
        if state.due.is_none() {
            state.due = now.checked_add(INTERVAL).filter(|&due| TIMER.schedule(due, Box::new(self.clone())).is_ok());
        }
        mem::take(&mut state.was_late)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_late(due: Instant, now: Instant) -> bool {
    now.saturating_duration_since(due) >= LATE
}

impl Timed for Arc<StopDetector> {
    fn fire(&mut self, due: Instant, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        if state.due != Some(due) {
            // `take_stop` has found it to be late before.
            return None;
        }
        state.was_late |= is_late(due, now);
        // Set again at once, as a stop would go unnoticed in a gap.
        state.due = now.checked_add(INTERVAL).filter(|_| mem::take(&mut state.is_drawn));
        state.due
    }
}

#[cfg(test)]
mod tests {
    use super::{INTERVAL, LATE, StopDetector};
    use crate::sync::timer::Timed;
    use std::sync::Arc;
    use std::time::Instant;

    /// One whose timer was due this long ago, and goes off now.
    fn overdue(by: std::time::Duration) -> Arc<StopDetector> {
        let (mut stop_detector, now) = (Arc::new(StopDetector::default()), Instant::now() + LATE);
        stop_detector.lock().due = Some(now - by);
        assert_eq!(stop_detector.fire(now - by, now), None);
        stop_detector
    }

    #[test]
    fn a_timer_that_is_late_by_far_tells_of_a_stop_once() {
        let stop_detector = overdue(LATE);
        assert!(stop_detector.take_stop() && !stop_detector.take_stop());
        assert!(!overdue(LATE / 2).take_stop(), "the machine was busy");
    }

    #[test]
    fn the_timer_goes_on_without_a_gap_as_long_as_something_is_drawn() {
        let mut stop_detector = Arc::new(StopDetector::default());
        assert!(!stop_detector.take_stop());
        let due = stop_detector.lock().due.unwrap();
        let next = stop_detector.fire(due, due).unwrap();
        assert_eq!(next, due + INTERVAL);
        // Stopped right then.
        assert_eq!(stop_detector.fire(next, next + LATE), None, "nothing was drawn");
        assert!(stop_detector.take_stop());
    }

    #[test]
    fn a_stop_is_noticed_before_the_timer_goes_off_and_not_again_when_it_does() {
        let mut stop_detector = Arc::new(StopDetector::default());
        assert!(!stop_detector.take_stop());
        let due = stop_detector.lock().due.unwrap();
        assert!(due <= Instant::now() + INTERVAL);
        let long_ago = due - INTERVAL - 2 * LATE;
        stop_detector.lock().due = Some(long_ago);
        assert!(stop_detector.take_stop());
        assert_eq!(stop_detector.fire(long_ago, Instant::now()), None);
        assert!(!stop_detector.take_stop());
    }
}
