//! What a task counts: written by the task alone, with plain stores, and read by anybody as one consistent whole.
//!
//! Counting up is a store to `n` and nothing else. Only a new `n` together with a new `total` is framed by a
//! [sequence number](Sequence).

use crate::sync::primitives::{AtomicU64, Ordering};
use crate::sync::seqlock::Sequence;

/// A `total` that is not known.
pub(crate) const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Counts {
    n: AtomicU64,
    total: AtomicU64,
    sequence: Sequence,
}

/// One consistent reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) n: u64,
    pub(crate) total: u64,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self { n: AtomicU64::new(0), total: AtomicU64::new(UNKNOWN), sequence: Sequence::new() }
    }

    /// Counts up by `delta`; wraps around after 2⁶⁴ units. Only the task calls this.
    #[inline(always)]
    pub(crate) fn advance(&self, delta: u64) {
        self.set_n(self.n().wrapping_add(delta));
    }

    /// What was counted, for the task itself.
    #[inline(always)]
    pub(crate) fn n(&self) -> u64 {
        self.n.load(Ordering::Relaxed)
    }

    /// Only the task calls this.
    #[inline(always)]
    pub(crate) fn set_n(&self, n: u64) {
        self.n.store(n, Ordering::Relaxed);
    }

    /// Only the task calls this.
    pub(crate) fn set_total(&self, total: u64) {
        self.sequence.write(|| self.total.store(total, Ordering::Relaxed));
    }

    /// Only the task calls this.
    pub(crate) fn set_both(&self, n: u64, total: u64) {
        self.sequence.write(|| {
            self.n.store(n, Ordering::Relaxed);
            self.total.store(total, Ordering::Relaxed);
        });
    }

    pub(crate) fn read(&self) -> Reading {
        self.sequence.read(|| Reading { n: self.n.load(Ordering::Relaxed), total: self.total.load(Ordering::Relaxed) })
    }
}
