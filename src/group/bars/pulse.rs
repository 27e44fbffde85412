//! Detects that the program was stopped, as between Ctrl-Z and `fg`.
//!
//! A timer that fires much too late reveals it, not a signal handler: signals belong to the program. The timer goes on
//! as long as something is drawn, so a screen on which nothing changes causes no wake-ups.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sync::timer::{TIMER, Timed};

/// How long after a drawing a stop is still noticed, at least.
const BEAT: Duration = Duration::from_millis(500);
/// How late the timer must be to reveal a stop. On a busy machine a timer is late as well, but not that much.
const LATE: Duration = Duration::from_millis(1500);

#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the timer goes off, if it is set.
    due: Option<Instant>,
    was_late: bool,
    /// Whether something was drawn since the timer last went off.
    is_drawn: bool,
}

impl Pulse {
    /// Whether the program was stopped since the previous call.
    pub(super) fn has_missed(self: &Arc<Self>) -> bool {
        let (mut state, now) = (self.lock(), Instant::now());
        // The timer may not have fired yet.
        if state.due.is_some_and(|due| is_late(due, now)) {
            (state.due, state.was_late) = (None, true);
        }
        state.is_drawn = true;
        if state.due.is_none() {
            state.due = now.checked_add(BEAT).filter(|&due| TIMER.schedule(due, Box::new(self.clone())).is_ok());
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

impl Timed for Arc<Pulse> {
    fn fire(&mut self, due: Instant, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        if state.due != Some(due) {
            // `has_missed` has found it to be late before.
            return None;
        }
        state.was_late |= is_late(due, now);
        // Set again at once, as a stop would go unnoticed in a gap.
        state.due = now.checked_add(BEAT).filter(|_| mem::take(&mut state.is_drawn));
        state.due
    }
}

#[cfg(test)]
mod tests {
    use super::{BEAT, LATE, Pulse};
    use crate::sync::timer::Timed;
    use std::sync::Arc;
    use std::time::Instant;

    /// A pulse whose timer was due this long ago, and goes off now.
    fn overdue(by: std::time::Duration) -> Arc<Pulse> {
        let (mut pulse, now) = (Arc::new(Pulse::default()), Instant::now() + LATE);
        pulse.lock().due = Some(now - by);
        assert_eq!(pulse.fire(now - by, now), None);
        pulse
    }

    #[test]
    fn a_timer_that_is_late_by_far_tells_of_a_stop_once() {
        let pulse = overdue(LATE);
        assert!(pulse.has_missed() && !pulse.has_missed());
        assert!(!overdue(LATE / 2).has_missed(), "the machine was busy");
    }

    #[test]
    fn the_timer_goes_on_without_a_gap_as_long_as_something_is_drawn() {
        let mut pulse = Arc::new(Pulse::default());
        assert!(!pulse.has_missed());
        let due = pulse.lock().due.unwrap();
        let next = pulse.fire(due, due).unwrap();
        assert_eq!(next, due + BEAT);
        // Stopped right then.
        assert_eq!(pulse.fire(next, next + LATE), None, "nothing was drawn");
        assert!(pulse.has_missed());
    }

    #[test]
    fn a_stop_is_noticed_before_the_timer_goes_off_and_not_again_when_it_does() {
        let mut pulse = Arc::new(Pulse::default());
        assert!(!pulse.has_missed());
        let due = pulse.lock().due.unwrap();
        assert!(due <= Instant::now() + BEAT);
        let long_ago = due - BEAT - 2 * LATE;
        pulse.lock().due = Some(long_ago);
        assert!(pulse.has_missed());
        assert_eq!(pulse.fire(long_ago, Instant::now()), None);
        assert!(!pulse.has_missed());
    }
}
