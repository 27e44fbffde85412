//! The counts of a task: written by the task alone, with plain stores, and read from any thread as one consistent whole.
//!
//! Counting up is a store to `n` and nothing else. Only a change of `total`, with or without `n`, is framed by a
//! [sequence number](Sequence).
//!
//! In a worker process, the task that it runs counts in [memory](lay_out) that the program reads. The updater has a
//! plain pointer to the [place](Counts::counter) either way, and makes the same store. In that memory, it also sees
//! whether the program [requests](is_requested) something.

use std::sync::OnceLock;

use crate::sync::primitives::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::seqlock::Sequence;

/// A `total` that is not known.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// A total, if it is known.
pub(crate) fn known(total: u64) -> Option<u64> {
    Some(total).filter(|&total| total != UNKNOWN)
}

#[derive(Debug)]
pub(crate) struct Counts {
    n: AtomicU64,
    total: AtomicU64,
    sequence: AtomicU32,
    /// Whether they stand in the memory that is laid out for the program.
    is_laid_out: AtomicBool,
}

/// The cells in which counts stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cells<'a> {
    pub(crate) n: &'a AtomicU64,
    pub(crate) total: &'a AtomicU64,
    pub(crate) sequence: Sequence<'a>,
}

/// The cell in which a task counts up; only the task writes to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter<'a>(pub(crate) &'a AtomicU64);

/// One consistent reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) n: u64,
    pub(crate) total: u64,
}

/// The memory that is laid out for the program.
#[derive(Clone, Copy, Debug)]
struct LaidOut {
    cells: Cells<'static>,
    /// Not 0 while the program requests something.
    request: &'static AtomicU64,
}

static LAID_OUT: OnceLock<LaidOut> = OnceLock::new();

/// Has this worker process's tasks, of which one runs at a time, count where its program sees it.
pub(crate) fn lay_out(cells: Cells<'static>, request: &'static AtomicU64) {
    // A worker has one program.
    let _ = LAID_OUT.set(LaidOut { cells, request });
}

/// Whether the program of this worker process requests something, perhaps of a task that has ended.
#[inline(always)]
pub(crate) fn is_requested() -> bool {
    LAID_OUT.get().is_some_and(|it| it.request.load(Ordering::Relaxed) != 0)
}

impl Counter<'_> {
    /// Counts up by `delta`; wraps around after 2⁶⁴ units.
    #[inline(always)]
    pub(crate) fn advance(self, delta: u64) {
        self.set(self.0.load(Ordering::Relaxed).wrapping_add(delta));
    }

    #[inline(always)]
    pub(crate) fn set(self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

impl Cells<'_> {
    fn set_both(self, n: u64, total: u64) {
        self.sequence.write(|| self.store(n, total));
    }

    /// Only within a [write](Sequence::write).
    pub(crate) fn store(self, n: u64, total: u64) {
        self.n.store(n, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// Only within a [read](Sequence::read).
    pub(crate) fn load(self) -> Reading {
        Reading { n: self.n.load(Ordering::Relaxed), total: self.total.load(Ordering::Relaxed) }
    }
}

impl Counts {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            n: AtomicU64::new(0),
            total: AtomicU64::new(UNKNOWN),
            sequence: AtomicU32::new(0),
            is_laid_out: AtomicBool::new(false),
        }
    }

    /// The place to count up in, for code that does so many times.
    #[inline]
    pub(crate) fn counter(&self) -> Counter<'_> {
        Counter(self.cells().n)
    }

    /// Only the task calls this.
    pub(crate) fn set_total(&self, total: u64) {
        let cells = self.cells();
        cells.sequence.write(|| cells.total.store(total, Ordering::Relaxed));
    }

    /// Only the task calls this.
    pub(crate) fn set_both(&self, n: u64, total: u64) {
        self.cells().set_both(n, total);
    }

    pub(crate) fn read(&self) -> Reading {
        let cells = self.cells();
        cells.sequence.read(|| cells.load())
    }

    /// Has a task that is about to run in a worker process, and has not counted yet, count in memory that the program
    /// reads. Returns whether there is such memory.
    pub(crate) fn move_out(&self) -> bool {
        let is_laid_out = LAID_OUT.get().is_some();
        self.is_laid_out.store(is_laid_out, Ordering::Release);
        is_laid_out
    }

    /// Copies the counts back once the task has returned: that memory is for the next task.
    pub(crate) fn move_in(&self) {
        let Reading { n, total } = self.read();
        self.own().set_both(n, total);
        self.is_laid_out.store(false, Ordering::Release);
    }

    #[inline]
    fn cells(&self) -> Cells<'_> {
        if self.is_laid_out.load(Ordering::Acquire) {
            LAID_OUT.get().map_or(self.own(), |it| it.cells)
        } else {
            self.own()
        }
    }

    #[inline]
    fn own(&self) -> Cells<'_> {
        Cells { n: &self.n, total: &self.total, sequence: Sequence(&self.sequence) }
    }
}
