//! What only few tasks have: a name, limits, a message, observers, somebody who waits inside of them, parts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::Event;

use crate::sync::clock;
use crate::task::counts::Counts;
use crate::task::limits::Limits;
use crate::task::parts::{Parts, Position};
use crate::task::publish::Report;
use crate::task::remote::Sight;

#[derive(Default)]
pub(crate) struct Board {
    pub(crate) name: Option<Box<str>>,
    pub(crate) limits: Limits,
    /// Wakes the task out of a pause or a sleep.
    pub(crate) interrupt: Event,
    /// When cancellation was requested of a task that was running, when it has noticed, and since when its next progress
    /// call is waited for: moments of the [`clock`], or 0.
    pub(crate) requested_at: Moment,
    pub(crate) noticed_at: Moment,
    pub(crate) probed_at: Moment,
    report: Mutex<Report>,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
pub(crate) struct Moment(AtomicU64);

impl Moment {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// Only the first one counts.
    pub(crate) fn set_once(&self, now: u64) {
        let _ = self.0.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// How far the task has come, beyond what it counts by itself. Whoever stops or starts its clock holds the lock.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) parts: Parts,
    /// The part of a unit that another process has told of.
    part: f64,
    /// How many threads of the task wait because it is paused.
    halted: usize,
    /// How far it had come at its end: nothing that comes later counts.
    closed: Option<Position>,
}

impl Board {
    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May be locked after the report, and not the other way round.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it took the task to notice its cancellation.
    pub(crate) fn noticed_after(&self) -> Option<Duration> {
        match (self.requested_at.get(), self.noticed_at.get()) {
            (0, _) | (_, 0) => None,
            (requested, noticed) => Some(Duration::from_nanos(noticed.saturating_sub(requested))),
        }
    }
}

impl Ledger {
    pub(crate) fn position(&self, counts: &Counts) -> Position {
        self.closed.unwrap_or_else(|| {
            let position = self.parts.position(counts);
            Position { part: position.part + self.part, ..position }
        })
    }

    /// A thread is about to wait. Returns whether it is the first one.
    pub(crate) fn halt(&mut self, counts: &Counts, now: u64) -> bool {
        self.halted += 1;
        let is_first = self.halted == 1 && self.closed.is_none();
        if is_first {
            counts.stop_clock(now);
        }
        is_first
    }

    /// A thread goes on. Returns whether it was the last one that has waited.
    pub(crate) fn go_on(&mut self, counts: &Counts, now: u64) -> bool {
        self.halted -= 1;
        let is_last = self.halted == 0;
        if is_last && self.closed.is_none() {
            counts.start_clock(now);
        }
        is_last
    }

    /// The task ends.
    pub(crate) fn close(&mut self, counts: &Counts, now: u64) {
        if self.closed.is_some() {
            return;
        }
        if self.halted == 0 {
            counts.stop_clock(now);
        }
        self.closed = Some(self.position(counts));
    }

    /// Sets what is known of the task in another process, which was halted, as far as was known before, or not.
    pub(crate) fn mirror(&mut self, counts: &Counts, sight: &Sight, was_halted: bool) {
        if self.closed.is_some() {
            return;
        }
        self.part = sight.part;
        mirror(counts, sight, was_halted);
    }

    /// As if the task had never been started.
    pub(crate) fn reset(&mut self, counts: &Counts) {
        self.part = 0.0;
        counts.reset();
    }
}

/// The same for a task that has no board.
pub(crate) fn mirror(counts: &Counts, sight: &Sight, was_halted: bool) {
    if sight.is_halted {
        counts.stop_clock_after(sight.elapsed);
    } else if was_halted {
        counts.start_clock(clock::now());
    }
    counts.set_both(sight.n, sight.total);
}
