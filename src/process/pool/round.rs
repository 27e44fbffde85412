//! Until when everything that the workers have said is received.

use std::mem;

use crate::process::pool::poller::EVENTS;

/// Turns of the driver, of which the last one may not have been the last: each takes in a limited number of events.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The time of the clock.
    began_at: u64,
    events: usize,
    /// Whether there may have been more events in the last turn.
    is_full: bool,
}

impl Round {
    /// Begins a turn. If all that had arrived when the round began is received by now, returns that time, and begins another round.
    /// There are up to `sources` events at a time, which take their turns.
    pub(super) fn begin_turn(&mut self, now: u64, sources: usize) -> Option<u64> {
        let is_over = !self.is_full || self.events > sources + EVENTS;
        is_over.then(|| mem::replace(self, Self { began_at: now, ..Self::default() }).began_at)
    }

    /// Notes how many events this turn takes in.
    pub(super) fn add(&mut self, events: usize) {
        (self.events, self.is_full) = (self.events + events, events >= EVENTS);
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENTS, Round};

    #[test]
    fn what_had_arrived_before_a_turn_is_received_in_it_unless_there_was_more_than_it_takes() {
        let mut round = Round::default();
        assert_eq!(round.begin_turn(1, 200), Some(0));
        round.add(EVENTS - 1);
        assert_eq!(round.begin_turn(2, 200), Some(1));
        // Each of these may have passed over the same ones.
        for now in 3..7 {
            round.add(EVENTS);
            assert_eq!(round.begin_turn(now, 200), None);
        }
        round.add(EVENTS);
        assert_eq!(round.begin_turn(7, 200), Some(2));
    }
}
