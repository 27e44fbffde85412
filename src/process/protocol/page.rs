//! The state of a task that was sent to a worker, as one shared word: whichever end changes it first decides.
//!
//! ```text
//!            the worker              the worker            the worker
//!  SENT ────────────────► RUNNING ──────────────► NOTICED ─────────► ENDED
//!    │                     │   └──────────────────────────────────────▲
//!    │ the program         │ the program
//!    └───────► TAKEN       └───────► DOOMED
//! ```
//!
//! So a task that is taken back never runs, and a worker that is killed because of its task has neither ended that task nor
//! begun the next one. The word also holds the number of the task, since places are reused. Neither end trusts the word
//! beyond that: one that makes no sense cannot be changed.

use crate::sync::primitives::{AtomicU64, Ordering};

const SENT: u64 = 1;
const TAKEN: u64 = 2;
const RUNNING: u64 = 3;
const NOTICED: u64 = 4;
const DOOMED: u64 = 5;
const ENDED: u64 = 6;

/// Memory is shared on Linux only, where that has 64 bits.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const STATE_BITS: u32 = 3;

/// The result of dooming a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doomed {
    /// The task cannot end by itself any more, and no other will begin.
    Yes,
    /// The task knows that it must end.
    Noticed,
    /// The task has ended, or has never begun.
    Ended,
}

/// A place, while it holds the task with this number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    word: &'a AtomicU64,
    number: u64,
}

impl<'a> Place<'a> {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    pub(crate) fn new(word: &'a AtomicU64, number: u64) -> Self {
        Self { word, number: number << STATE_BITS }
    }

    fn change(&self, from: u64, to: u64) -> bool {
        let (from, to) = (self.number | from, self.number | to);
        self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn state(&self) -> u64 {
        let word = self.word.load(Ordering::Acquire);
        // Another number means that this task is not in the place.
        word.wrapping_sub(self.number)
    }

    // The program.

    /// Puts the task into the place, before it is sent.
    pub(crate) fn offer(&self) {
        self.word.store(self.number | SENT, Ordering::Release);
    }

    /// Takes the task back, unless it has begun. Returns whether that worked: then the task never runs.
    pub(crate) fn take_back(&self) -> bool {
        self.change(SENT, TAKEN)
    }

    pub(crate) fn has_begun(&self) -> bool {
        (RUNNING..=ENDED).contains(&self.state())
    }

    /// Keeps a running task from ending, unless it has noticed that it must end.
    pub(crate) fn doom(&self) -> Doomed {
        if self.change(RUNNING, DOOMED) || self.state() == DOOMED {
            Doomed::Yes
        } else if self.state() == NOTICED {
            Doomed::Noticed
        } else {
            Doomed::Ended
        }
    }

    // The worker.

    /// Begins the task, unless it was taken back. Returns whether that worked: then the task must run.
    pub(crate) fn begin(&self) -> bool {
        self.change(SENT, RUNNING)
    }

    /// Notes that the task knows that it must end.
    pub(crate) fn notice(&self) {
        self.change(RUNNING, NOTICED);
    }

    /// Ends the task. Returns `false` if the worker is about to be killed because of it.
    pub(crate) fn end(&self) -> bool {
        self.change(RUNNING, ENDED) || self.change(NOTICED, ENDED) || self.state() != DOOMED
    }
}
