//! Heartbeats: how each side of a launched worker knows that the other one is there.

use std::time::{Duration, Instant};

/// After so many silent intervals, the other side is given up.
const PATIENCE: u32 = 3;

#[derive(Debug)]
pub(crate) struct Pulse {
    interval: Duration,
    heard: Instant,
    /// When the next word is due from here.
    due: Instant,
}

impl Pulse {
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, heard: now, due: now + interval }
    }

    /// Something has come from the other side, whatever it was. Unless there was a word to it a moment ago, it is answered at
    /// once: so a side that waits is woken once in an interval, and not a second time for a word of its own.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard = now;
        if self.due <= now + self.interval {
            self.due = now;
        }
    }

    /// Whether to say something now. Then the next word is due later: somewhat later than the other side is heard.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.due <= now;
        if is_due {
            self.due = now + self.interval * 3 / 2;
        }
        is_due
    }

    /// When the other side will have been silent for too long. To be asked when all that has arrived was heard.
    pub(crate) fn lost_at(&self) -> Instant {
        self.heard + self.patience()
    }

    pub(crate) fn patience(&self) -> Duration {
        PATIENCE * self.interval
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Instant {
        self.due.min(self.lost_at())
    }
}

#[cfg(test)]
mod tests {
    use super::Pulse;
    use std::time::{Duration, Instant};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn three_intervals_without_a_word_are_one_too_many() {
        let start = Instant::now();
        let mut pulse = Pulse::new(SECOND, start);
        assert_eq!(pulse.lost_at(), start + 3 * SECOND);
        pulse.hear(start + 2 * SECOND);
        assert_eq!(pulse.lost_at(), start + 5 * SECOND);
    }

    #[test]
    fn a_word_is_due_once_in_a_while() {
        let start = Instant::now();
        let mut pulse = Pulse::new(SECOND, start);
        assert!(!pulse.is_due(start));
        assert_eq!(pulse.next(), start + SECOND);
        assert!(pulse.is_due(start + SECOND) && !pulse.is_due(start + SECOND));
        assert_eq!(pulse.next(), start + SECOND * 5 / 2);
    }

    #[test]
    fn a_word_is_answered_by_one_and_by_no_other_at_another_time() {
        let start = Instant::now();
        let mut pulse = Pulse::new(SECOND, start);
        for beat in 1..5 {
            let now = start + beat * SECOND - SECOND / 3;
            pulse.hear(now);
            assert!(pulse.is_due(now) && !pulse.is_due(now + SECOND), "{beat}");
            pulse.hear(now + SECOND / 4);
            assert!(!pulse.is_due(now + SECOND / 4), "there was one just now: {beat}");
        }
    }
}
