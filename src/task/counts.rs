//! What a task counts: written by the task alone, with plain stores, and read by anybody as one consistent whole.
//!
//! Counting up is a store to `n` and nothing else. Changes that belong together (a new `n` with a new `total`; both ends
//! of the clock) are framed by a sequence number that is odd while they are under way, and readers start again when it
//! moved: a [seqlock] with a single writer. The clock has one of its own, for where a task counts in several threads it
//! may be another one of them that stops it.
//!
//! The release fence in [`write()`] is what makes the plain stores safe: a reader that sees a store made after it, within
//! the frame or later, and then passes its own acquire fence, also sees that the sequence number has moved.
//!
//! [seqlock]: https://en.wikipedia.org/wiki/Seqlock

use crate::sync::primitives::{AtomicU32, AtomicU64, Ordering, fence, spin_loop};

/// A `total` that is not known.
pub(crate) const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Counts {
    n: AtomicU64,
    total: AtomicU64,
    /// When the clock was started, moved forward by every pause; 0 before that.
    started: AtomicU64,
    /// When the clock was stopped, by a pause or by the end; 0 while it runs.
    stopped: AtomicU64,
    count_sequence: AtomicU32,
    clock_sequence: AtomicU32,
}

/// One consistent reading. Times are in nanoseconds, see [`clock`](crate::sync::clock).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) n: u64,
    pub(crate) total: u64,
    pub(crate) started: u64,
    pub(crate) stopped: u64,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self {
            n: AtomicU64::new(0),
            total: AtomicU64::new(UNKNOWN),
            started: AtomicU64::new(0),
            stopped: AtomicU64::new(0),
            count_sequence: AtomicU32::new(0),
            clock_sequence: AtomicU32::new(0),
        }
    }

    /// Counts up by `delta`; wraps around after 2⁶⁴ units. Only the task calls this.
    #[inline(always)]
    pub(crate) fn advance(&self, delta: u64) {
        self.set_n(self.n.load(Ordering::Relaxed).wrapping_add(delta));
    }

    /// Only the task calls this.
    #[inline(always)]
    pub(crate) fn set_n(&self, n: u64) {
        self.n.store(n, Ordering::Relaxed);
    }

    /// Only the task calls this.
    pub(crate) fn set_total(&self, total: u64) {
        write(&self.count_sequence, || self.total.store(total, Ordering::Relaxed));
    }

    /// Only the task calls this.
    pub(crate) fn set_both(&self, n: u64, total: u64) {
        write(&self.count_sequence, || {
            self.n.store(n, Ordering::Relaxed);
            self.total.store(total, Ordering::Relaxed);
        });
    }

    /// Starts the clock, or starts it again where it was stopped. Nobody else changes the clock at the same time.
    pub(crate) fn start_clock(&self, now: u64) {
        let stopped_for = match self.stopped.load(Ordering::Relaxed) {
            0 => now,
            stopped => now.saturating_sub(stopped),
        };
        let started = self.started.load(Ordering::Relaxed) + stopped_for;
        write(&self.clock_sequence, || {
            self.started.store(started, Ordering::Relaxed);
            self.stopped.store(0, Ordering::Relaxed);
        });
    }

    /// Stops the clock. Nobody else changes it at the same time.
    pub(crate) fn stop_clock(&self, now: u64) {
        write(&self.clock_sequence, || self.stopped.store(now, Ordering::Relaxed));
    }

    /// Stops the clock of a task in another process, where it has been running for so long.
    pub(crate) fn stop_clock_after(&self, elapsed: u64) {
        self.stop_clock(self.started.load(Ordering::Relaxed).saturating_add(elapsed));
    }

    /// As if the task had never been started. Nobody else writes at the same time.
    pub(crate) fn reset(&self) {
        self.set_both(0, UNKNOWN);
        write(&self.clock_sequence, || {
            self.started.store(0, Ordering::Relaxed);
            self.stopped.store(0, Ordering::Relaxed);
        });
    }

    pub(crate) fn read(&self) -> Reading {
        let (n, total) =
            read(&self.count_sequence, || (self.n.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed)));
        let (started, stopped) =
            read(&self.clock_sequence, || (self.started.load(Ordering::Relaxed), self.stopped.load(Ordering::Relaxed)));
        Reading { n, total, started, stopped }
    }
}

fn write(sequence: &AtomicU32, stores: impl FnOnce()) {
    let before = sequence.load(Ordering::Relaxed);
    sequence.store(before.wrapping_add(1), Ordering::Relaxed);
    fence(Ordering::Release);
    stores();
    sequence.store(before.wrapping_add(2), Ordering::Release);
}

fn read<R>(sequence: &AtomicU32, loads: impl Fn() -> R) -> R {
    loop {
        let before = sequence.load(Ordering::Acquire);
        let values = loads();
        fence(Ordering::Acquire);
        if before % 2 == 0 && before == sequence.load(Ordering::Relaxed) {
            return values;
        }
        spin_loop();
    }
}
