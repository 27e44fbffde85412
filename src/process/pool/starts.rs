//! Counts failed attempts to start workers, and says when to try again and when to give up.

use std::time::{Duration, Instant};

use crate::process::pool::terms::{START, Worth};
use crate::sync::shortage::PATIENCE;

/// The pool gives up after so many workers in a row that became ready, and were gone before they had begun with a task.
const MOST_FRUITLESS: u32 = 10;

#[derive(Default)]
pub(super) struct Starts {
    /// How many have failed in a row.
    failed: u32,
    failing_since: Option<Instant>,
    /// When the last of them did; of a round that failed together, the first.
    last_failure: Option<Instant>,
    /// How many workers in a row became ready, and were gone before they had begun with a task.
    fruitless: u32,
    not_before: Option<Instant>,
    /// Until when the next answer is to come, while there are workers that are being started.
    answer_by: Option<Instant>,
}

impl Starts {
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    pub(super) fn answer_by(&self) -> Option<Instant> {
        self.answer_by
    }

    /// Another worker is to be started. They are one after the other, so that the next answer may be that of an earlier one.
    pub(super) fn order(&mut self, now: Instant) {
        self.answer_by.get_or_insert(now + START);
    }

    /// An answer has come, and others are to follow or not.
    pub(super) fn be_answered(&mut self, others_follow: bool, now: Instant) {
        self.answer_by = others_follow.then_some(now + START);
    }

    /// Nobody needs the workers that are being started, but that none is left behind.
    pub(super) fn hurry(&mut self, until: Instant) {
        self.answer_by = self.answer_by.map(|by| by.min(until));
    }

    pub(super) fn succeed(&mut self) {
        *self = Self { fruitless: self.fruitless, answer_by: self.answer_by, ..Self::default() };
    }

    /// A worker has started a task.
    pub(super) fn bear_fruit(&mut self) {
        self.fruitless = 0;
    }

    /// An attempt that was begun at that time has failed. Returns whether to give up.
    pub(super) fn fail(&mut self, worth: Worth, begun: Instant, now: Instant) -> bool {
        let is_of_same_round = self.last_failure.is_some_and(|last| begun <= last);
        if !(is_of_same_round && matches!(worth, Worth::Rounds(_))) {
            self.failed += 1;
            self.not_before = Some(now + back_off(self.failed));
            self.last_failure = Some(now);
        }
        let since = *self.failing_since.get_or_insert(now);
        match worth {
            Worth::Attempts(attempts) | Worth::Rounds(attempts) => self.failed >= attempts,
            Worth::Patience => now.saturating_duration_since(since) >= PATIENCE,
        }
    }

    /// The waiting tasks were given up: those that follow have all attempts again.
    pub(super) fn begin_anew(&mut self) {
        (self.failed, self.failing_since, self.last_failure) = (0, None, None);
    }

    /// A worker was ready, and gone before it had begun with a task. Returns whether to give up.
    pub(super) fn fail_to_bear_fruit(&mut self, now: Instant) -> bool {
        self.fruitless = (self.fruitless + 1) % MOST_FRUITLESS;
        self.not_before = Some(now + back_off(self.fruitless));
        self.fruitless == 0
    }
}

/// How long to wait before the next attempt, after so many that have failed.
fn back_off(failed: u32) -> Duration {
    Duration::from_millis(10 << failed.min(7)).min(Duration::from_secs(1))
}
