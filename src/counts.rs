//! What a task counts: written by the task alone, with plain stores, and read by anybody as one consistent whole.
//!
//! Counting up is a store to `n` and nothing else. Changes that belong together (a new `n` with a new `total`, the
//! clock) are framed by a sequence number that is odd while they are under way, and readers start again when it moved:
//! a [seqlock] with a single writer.
//!
//! The release fence in [`write`](Counts::write) is what makes the plain stores safe: a reader that sees a store made
//! after it, within the frame or later, and then passes its own acquire fence, also sees that the sequence number has
//! moved.
//!
//! [seqlock]: https://en.wikipedia.org/wiki/Seqlock

use crate::primitives::{AtomicU32, AtomicU64, Ordering, fence, spin_loop};

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
    sequence: AtomicU32,
}

/// One consistent reading. Times are in nanoseconds, see [`clock`](crate::clock).
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
            sequence: AtomicU32::new(0),
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
        self.write(|| self.total.store(total, Ordering::Relaxed));
    }

    /// Only the task calls this.
    pub(crate) fn set_both(&self, n: u64, total: u64) {
        self.write(|| {
            self.n.store(n, Ordering::Relaxed);
            self.total.store(total, Ordering::Relaxed);
        });
    }

    /// Starts the clock, or starts it again where it was stopped. Only the task calls this.
    pub(crate) fn start_clock(&self, now: u64) {
        let stopped_for = match self.stopped.load(Ordering::Relaxed) {
            0 => now,
            stopped => now.saturating_sub(stopped),
        };
        let started = self.started.load(Ordering::Relaxed) + stopped_for;
        self.write(|| {
            self.started.store(started, Ordering::Relaxed);
            self.stopped.store(0, Ordering::Relaxed);
        });
    }

    /// Sets what another process has counted, and how long its clock has been running, if it was stopped. Only whoever
    /// hears of the task there calls this.
    pub(crate) fn mirror(&self, n: u64, total: u64, stopped_after: Option<u64>) {
        let started = self.started.load(Ordering::Relaxed);
        self.write(|| {
            self.n.store(n, Ordering::Relaxed);
            self.total.store(total, Ordering::Relaxed);
            if let Some(elapsed) = stopped_after {
                self.stopped.store(started.saturating_add(elapsed), Ordering::Relaxed);
            }
        });
    }

    /// Only the task calls this.
    pub(crate) fn stop_clock(&self, now: u64) {
        self.write(|| self.stopped.store(now, Ordering::Relaxed));
    }

    fn write(&self, stores: impl FnOnce()) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        stores();
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    pub(crate) fn read(&self) -> Reading {
        loop {
            let sequence = self.sequence.load(Ordering::Acquire);
            let reading = Reading {
                n: self.n.load(Ordering::Relaxed),
                total: self.total.load(Ordering::Relaxed),
                started: self.started.load(Ordering::Relaxed),
                stopped: self.stopped.load(Ordering::Relaxed),
            };
            fence(Ordering::Acquire);
            if sequence % 2 == 0 && sequence == self.sequence.load(Ordering::Relaxed) {
                return reading;
            }
            spin_loop();
        }
    }
}
