//! Heartbeats: how a launched worker and its program know that the other side is there.

use std::time::{Duration, Instant};

/// After this many silent intervals, the other side counts as lost.
const MOST_MISSED: u32 = 3;

/// How long the other side may be silent.
pub(crate) fn timeout(interval: Duration) -> Duration {
    MOST_MISSED * interval
}

#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Duration,
    heard: Instant,
    /// When the next heartbeat of this side is due.
    due: Instant,
}

impl Heartbeat {
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, heard: now, due: now + interval }
    }

    /// Notes that something has arrived from the other side. Unless this side has sent a heartbeat a moment ago, one is due at
    /// once, as an answer: so a side that waits wakes up once per interval, and not a second time for a heartbeat of its own.
    pub(crate) fn note_arrival(&mut self, now: Instant) {
        self.heard = now;
        if self.due <= now + self.interval {
            self.due = now;
        }
    }

    /// Whether to send a heartbeat now. The next one is then due somewhat later than the other side is expected to be heard.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due <= now;
        if is_due {
            self.due = now + self.interval * 3 / 2;
        }
        is_due
    }

    /// When the other side will have been silent for too long. Valid once all that has arrived was [noted](Self::note_arrival).
    pub(crate) fn lost_at(&self) -> Instant {
        self.heard + self.timeout()
    }

    pub(crate) fn timeout(&self) -> Duration {
        timeout(self.interval)
    }

    /// When to check again.
    pub(crate) fn next(&self) -> Instant {
        self.due.min(self.lost_at())
    }
}

#[cfg(test)]
mod tests {
    use super::Heartbeat;
    use std::time::{Duration, Instant};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn three_intervals_without_a_word_are_one_too_many() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SECOND, start);
        assert_eq!(heartbeat.lost_at(), start + 3 * SECOND);
        heartbeat.note_arrival(start + 2 * SECOND);
        assert_eq!(heartbeat.lost_at(), start + 5 * SECOND);
    }

    #[test]
    fn a_word_is_due_once_in_a_while() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SECOND, start);
        assert!(!heartbeat.take_due(start));
        assert_eq!(heartbeat.next(), start + SECOND);
        assert!(heartbeat.take_due(start + SECOND) && !heartbeat.take_due(start + SECOND));
        assert_eq!(heartbeat.next(), start + SECOND * 5 / 2);
    }

    #[test]
    fn a_word_is_answered_by_one_and_by_no_other_at_another_time() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SECOND, start);
        for beat in 1..5 {
            let now = start + beat * SECOND - SECOND / 3;
            heartbeat.note_arrival(now);
            assert!(heartbeat.take_due(now) && !heartbeat.take_due(now + SECOND), "{beat}");
            heartbeat.note_arrival(now + SECOND / 4);
            assert!(!heartbeat.take_due(now + SECOND / 4), "there was one just now: {beat}");
        }
    }
}
