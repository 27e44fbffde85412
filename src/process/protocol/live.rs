//! The words in which the task that a worker runs counts, so that its program can read the count at any time. They belong to one
//! task at a time.
//!
//! ```text
//! ┌──────────┬──────┬─────┬───────┬────────┬─────────┐
//! │ sequence │ task │  n  │ total │ spread │ request │
//! └──────────┴──────┴─────┴───────┴────────┴─────────┘
//! ```
//!
//! A progress call stores `n`, and nothing else. The worker turns to its next task within a write of the
//! [sequence](crate::sync::seqlock), so that no reader takes the count of one task for that of another.
//!
//! While the count of a task is *spread*, over parts of its work or over threads, `n` is not what it has counted: only what is
//! recorded of the task is valid. `spread` is odd from before that until all that the task has counted is in `n` again.
//!
//! The program writes `request`, and only that: which task must end, and why. The next progress call of the task takes the
//! request, so even a task that is too young for another thread to read from the channel on its behalf learns of its
//! cancellation at once. This is a shortcut on which nothing depends: a frame follows, for a task that sleeps or waits in a
//! pause. A request that comes too late names a task that has ended, and the next task drops it.

use crate::sync::primitives::{AtomicU64, Ordering, fence};
use crate::task::counts::{Cells, Reading, UNKNOWN};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Live<'a> {
    pub(crate) task: &'a AtomicU64,
    pub(crate) cells: Cells<'a>,
    pub(crate) spread: &'a AtomicU64,
    pub(crate) request: &'a AtomicU64,
}

/// How many bits of a request give the cause: as many as in the control word of a task.
const CAUSE_BITS: u32 = 2;
const NO_REQUEST: u64 = 0;

/// What the program sees of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Counted(Reading),
    Spread,
    /// The worker runs another task.
    Nothing,
}

impl Live<'_> {
    // The worker.

    /// Turns to this task, which has counted nothing yet.
    pub(crate) fn turn_to(self, task: u64) {
        self.cells.sequence.write(|| {
            self.task.store(task, Ordering::Relaxed);
            self.cells.store(0, UNKNOWN);
            self.spread.store(0, Ordering::Relaxed);
        });
    }

    /// Marks the count as spread, before it is.
    pub(crate) fn spread(self) {
        let times = self.spread.load(Ordering::Relaxed);
        if times % 2 == 0 {
            self.spread.store(times.wrapping_add(1), Ordering::Relaxed);
            // A reader that sees what is counted from now on also sees this.
            fence(Ordering::Release);
        }
    }

    /// Marks the count as complete in `n` again.
    pub(crate) fn gather(self) {
        let times = self.spread.load(Ordering::Relaxed);
        if times % 2 != 0 {
            self.spread.store(times.wrapping_add(1), Ordering::Release);
        }
    }

    /// Takes the request that this task must end, and returns the bits that give the cause. Drops a request for an earlier task.
    pub(crate) fn take_request(self, task: u64) -> Option<u32> {
        let request = Some(self.request.load(Ordering::Relaxed)).filter(|&request| request != NO_REQUEST)?;
        // A request that has just replaced it stays.
        let _ = self.request.compare_exchange(request, NO_REQUEST, Ordering::Relaxed, Ordering::Relaxed);
        (request >> CAUSE_BITS == task).then_some(request as u32 & ((1 << CAUSE_BITS) - 1))
    }

    // The program.

    /// Lets the next progress call of this task end it. Has no effect if the worker runs another task by now.
    pub(crate) fn request_end(self, task: u64, cause: u32) {
        // Not a store: loom does not know that one cannot come between the halves of the worker's exchange.
        self.request.swap(task << CAUSE_BITS | u64::from(cause), Ordering::Relaxed);
    }

    /// The task that the worker runs, or last ran.
    pub(crate) fn task(self) -> u64 {
        self.task.load(Ordering::Relaxed)
    }

    /// What there is to see of this task. `None` if the worker was writing meanwhile, or has ended in the middle of a write.
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
