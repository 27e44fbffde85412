//! Counts failed attempts to start workers, and says when to try again and when to give up.

use std::time::{Duration, Instant};

use crate::process::pool::scheduler::events::{START, Worth};
use crate::sync::shortage::RETRY_TIME;

/// The pool gives up after this many workers in a row that became ready and were gone before they had begun a task.
const MOST_UNUSED: u32 = 10;

#[derive(Default)]
pub(super) struct StartAttempts {
    /// How many attempts have failed in a row.
    failed: u32,
    failing_since: Option<Instant>,
    /// When the last of them failed; of a round that failed together, the first.
    last_failure: Option<Instant>,
    /// How many workers in a row became ready and were gone before they had begun a task.
    unused: u32,
    not_before: Option<Instant>,
    /// Whether no other attempt is worthwhile, but for those that are under way.
    is_hopeless: bool,
    /// When the next answer is due, while workers are being started.
    answer_by: Option<Instant>,
}

impl StartAttempts {
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    pub(super) fn answer_by(&self) -> Option<Instant> {
        self.answer_by
    }

    /// Notes that another worker will be started. Starts are sequential, so the next answer may be that of an earlier
    /// one.
    pub(super) fn order(&mut self, now: Instant) {
        self.answer_by.get_or_insert(now + START);
    }

    /// Notes an answer, and whether others are to follow.
    pub(super) fn be_answered(&mut self, others_follow: bool, now: Instant) {
        self.answer_by = others_follow.then_some(now + START);
    }

    /// Limits the wait for workers that nobody needs any more: it only makes sure that none is left behind.
    pub(super) fn hurry(&mut self, until: Instant) {
        self.answer_by = self.answer_by.map(|by| by.min(until));
    }

    pub(super) fn succeed(&mut self) {
        *self = Self { unused: self.unused, answer_by: self.answer_by, ..Self::default() };
    }

    /// Notes that a worker has begun a task.
    pub(super) fn note_used(&mut self) {
        self.unused = 0;
    }

    pub(super) fn is_hopeless(&self) -> bool {
        self.is_hopeless
    }

    /// Notes that no other attempt is worthwhile until one of those that are under way succeeds.
    pub(super) fn lose_hope(&mut self) {
        self.is_hopeless = true;
    }

    /// Counts the failure of an attempt that was begun at this time. Returns whether to give up.
    pub(super) fn fail(&mut self, worth: Worth, begun: Instant, now: Instant) -> bool {
        if self.last_failure.is_some_and(|last| begun.saturating_duration_since(last) > RETRY_TIME) {
            // Failures before others were not even tried for a while say nothing about now.
            self.begin_anew();
        }
        let is_of_same_round = self.last_failure.is_some_and(|last| begun <= last);
        if !(is_of_same_round && matches!(worth, Worth::Rounds(_) | Worth::Hosts(_))) {
            self.failed += 1;
            self.not_before = Some(now + back_off(self.failed));
            self.last_failure = Some(now);
        }
        let since = *self.failing_since.get_or_insert(now);
        match worth {
            Worth::Attempts(most) | Worth::Rounds(most) | Worth::Hosts(most) => self.failed >= most,
            Worth::Patience => now.saturating_duration_since(since) >= RETRY_TIME,
        }
    }

    /// Forgets the failures, once the waiting tasks were given up: later tasks have all attempts again.
    pub(super) fn begin_anew(&mut self) {
        (self.failed, self.failing_since, self.last_failure, self.is_hopeless) = (0, None, None, false);
    }

    /// Counts a worker that was ready, and gone before it had begun a task. Returns whether to give up.
    pub(super) fn note_unused(&mut self, now: Instant) -> bool {
        self.unused = (self.unused + 1) % MOST_UNUSED;
        self.not_before = Some(now + back_off(self.unused));
        self.unused == 0
    }
}

/// How long to wait before the next attempt, after this many failures.
fn back_off(failed: u32) -> Duration {
    Duration::from_millis(10 << failed.min(7)).min(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::StartAttempts;
    use std::time::{Duration, Instant};

    use crate::process::pool::scheduler::events::Worth;
    use crate::sync::shortage::RETRY_TIME;

    #[test]
    fn failures_long_before_an_attempt_do_not_count() {
        let (start, hour) = (Instant::now(), Duration::from_secs(3600));
        for worth in [Worth::Attempts(3), Worth::Rounds(3), Worth::Hosts(3)] {
            let mut attempts = StartAttempts::default();
            let mut fail = |at: Instant| attempts.fail(worth, at, at);
            assert!(!fail(start) && !fail(start + RETRY_TIME));
            assert!(!fail(start + hour) && !fail(start + hour + RETRY_TIME));
            assert!(fail(start + hour + 2 * RETRY_TIME));
        }
        // An attempt may take long itself.
        let mut attempts = StartAttempts::default();
        let mut fail = |n| attempts.fail(Worth::Rounds(3), start + n * hour + RETRY_TIME, start + (n + 1) * hour);
        assert!(!fail(0) && !fail(1) && fail(2));
        let mut attempts = StartAttempts::default();
        assert!(!attempts.fail(Worth::Patience, start, start));
        assert!(!attempts.fail(Worth::Patience, start + hour, start + hour));
        assert!(attempts.fail(Worth::Patience, start + hour + RETRY_TIME, start + hour + RETRY_TIME));
    }
}
