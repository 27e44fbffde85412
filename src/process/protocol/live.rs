//! Where the task that a worker runs counts, for its program to look at whenever it wants to know: in words of their own,
//! each of one task at a time.
//!
//! ```text
//! ┌──────────┬──────┬─────┬───────┬────────┬─────────┐
//! │ sequence │ task │  n  │ total │ spread │ request │
//! └──────────┴──────┴─────┴───────┴────────┴─────────┘
//! ```
//!
//! A progress call stores `n`, and nothing else. The worker turns to its next task in a write of the
//! [sequence](crate::sync::seqlock), so that nobody takes what one has counted for another's.
//!
//! A task whose count is *spread*, over parts of its work or over threads, has counted more or less than `n`. Then only
//! what is recorded of it counts. `spread` is odd then: from before that, until all that it has counted is in `n` again.
//!
//! The program writes `request`, and only that: which task is to end, and why. The next progress call of the task takes it
//! from there, so a task that is too young for anybody to read in its place what the program sends hears of its
//! cancellation at once. It is a shortcut, and nothing depends on it: a frame follows, for a task that sleeps, or waits in a
//! pause. A request that comes too late names a task that has ended, and is dropped by the next one.

use crate::sync::primitives::{AtomicU64, Ordering, fence};
use crate::task::counts::{Cells, Reading, UNKNOWN};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Live<'a> {
    pub(crate) task: &'a AtomicU64,
    pub(crate) cells: Cells<'a>,
    pub(crate) spread: &'a AtomicU64,
    pub(crate) request: &'a AtomicU64,
}

/// How many bits of a request say why: as many as in the control word of a task.
const CAUSE_BITS: u32 = 2;
const NO_REQUEST: u64 = 0;

/// What is seen of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Counted(Reading),
    Spread,
    /// The worker runs another task.
    Nothing,
}

impl Live<'_> {
    // The worker.

    /// From now on it runs this task, which has counted nothing yet.
    pub(crate) fn turn_to(self, task: u64) {
        self.cells.sequence.write(|| {
            self.task.store(task, Ordering::Relaxed);
            self.cells.store(0, UNKNOWN);
            self.spread.store(0, Ordering::Relaxed);
        });
    }

    /// The count is about to be spread.
    pub(crate) fn spread(self) {
        let times = self.spread.load(Ordering::Relaxed);
        if times % 2 == 0 {
            self.spread.store(times.wrapping_add(1), Ordering::Relaxed);
            // Whoever sees what is counted from now on sees this.
            fence(Ordering::Release);
        }
    }

    /// All is in one place again.
    pub(crate) fn gather(self) {
        let times = self.spread.load(Ordering::Relaxed);
        if times % 2 != 0 {
            self.spread.store(times.wrapping_add(1), Ordering::Release);
        }
    }

    /// Takes the request that this task is to end: returns the bits that say why. One for a task before it is dropped.
    pub(crate) fn take_request(self, task: u64) -> Option<u32> {
        let request = Some(self.request.load(Ordering::Relaxed)).filter(|&request| request != NO_REQUEST)?;
        // One that is written over it just now stays.
        let _ = self.request.compare_exchange(request, NO_REQUEST, Ordering::Relaxed, Ordering::Relaxed);
        (request >> CAUSE_BITS == task).then_some(request as u32 & ((1 << CAUSE_BITS) - 1))
    }

    // The program.

    /// Lets the next progress call of this task end it; nothing, where the worker runs another one by now.
    pub(crate) fn request_end(self, task: u64, cause: u32) {
        // Not a store, of which loom does not know that it cannot come between the halves of the worker's exchange.
        self.request.swap(task << CAUSE_BITS | u64::from(cause), Ordering::Relaxed);
    }

    /// The task that the worker runs, or has run last.
    pub(crate) fn task(self) -> u64 {
        self.task.load(Ordering::Relaxed)
    }

    /// What is seen of this task. `None` where the worker was writing meanwhile; it may have ended in the midst of that.
    pub(crate) fn see(self, task: u64) -> Option<Seen> {
        let (seen, times, reading) = self.cells.sequence.try_read(|| {
            let times = self.spread.load(Ordering::Acquire);
            (self.task(), times, self.cells.load())
        })?;
        // Read again: the count may have been spread just now.
        let is_spread = times % 2 != 0 || self.spread.load(Ordering::Relaxed) != times;
        Some(match seen {
            _ if seen != task => Seen::Nothing,
            _ if is_spread => Seen::Spread,
            _ => Seen::Counted(reading),
        })
    }
}
