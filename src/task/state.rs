//! The control word of a task: every phase, every request, and every transition between them.
//!
//! ```text
//!            claim                  settle
//!  pending ─────────► RUNNING ─────────────────► RUNNING|ENDED
//!     │                                               ▲
//!     │ seal (cancelled or refused before it ran)     │
//!     ├─────────────► SEALED ────────────────► SEALED|ENDED
//!     │
//!     │ lend                  begin
//!     └─────────────► LENT ─────────► RUNNING
//!                      │                 │
//!                      │                 └─ retry (its worker was lost) ─► pending
//!                      ├─ retry, if its start was never reported ─► pending
//!                      └─ take_back ─► pending, or SEALED if it was cancelled meanwhile
//! ```
//!
//! A task is *pending* while none of `RUNNING`, `SEALED` and `ENDED` is set. Only the thread that sets `RUNNING` or
//! `SEALED` writes the outcome, and it sets `ENDED` afterwards: that is why each task ends exactly once. A running task
//! with a limit can be ended by its runner or by the limit: by whichever is first to set `DECIDED`.
//!
//! A pending task that is *lent* waits in another process, which may be about to start it. So cancelling it is a
//! request, and it is sealed only when the other process has given it back.
//!
//! The low byte holds what a progress call has to look at. The call has nothing to do while the byte is zero or, in a
//! worker process, while it holds only `LAID_OUT` and nothing is [requested](crate::task::counts::is_requested).

use crate::sync::primitives::{AtomicU32, Ordering};

/// Cancellation was requested. A request, not a phase: the task may still finish. Never cleared.
pub(crate) const CANCEL: u32 = 1;
/// The task must wait: before it starts, or in its next progress call.
pub(crate) const PAUSE: u32 = 1 << 1;
/// A report is due: the next call that changes something shows it to the observers.
pub(crate) const REPORT: u32 = 1 << 2;

/// Its outcome is written. Code of the task that still runs, because the task has timed out or has left threads behind,
/// is told to end.
pub(crate) const ENDED: u32 = 1 << 3;
/// Set to learn whether the task makes progress calls: the next one clears it.
pub(crate) const PROBE: u32 = 1 << 4;
/// Several threads count, so setting the position takes more than a store.
pub(crate) const SHARED: u32 = 1 << 5;
/// The task counts in memory that another process sees, and in which that process may request something.
pub(crate) const LAID_OUT: u32 = 1 << 6;

/// What interrupts a task that sleeps.
pub(crate) const INTERRUPT: u32 = CANCEL | PAUSE | ENDED;
/// What `check` looks at.
pub(crate) const CHECK: u32 = INTERRUPT | PROBE;
/// What the calls that count look at.
pub(crate) const ATTENTION: u32 = CHECK | REPORT;

/// Its function was called.
pub(crate) const RUNNING: u32 = 1 << 8;
/// It will not run: it was cancelled or refused while it was pending.
pub(crate) const SEALED: u32 = 1 << 9;
/// It has a limit, so its outcome may be written while its function still runs.
pub(crate) const LIMITED: u32 = 1 << 10;

/// With `ENDED`: the outcome is an error that is not a cancellation.
pub(crate) const FAILED: u32 = 1 << 11;
/// With `ENDED`: the outcome is a cancellation.
pub(crate) const CANCELLED: u32 = 1 << 12;

/// A progress call has told the task that it is cancelled.
pub(crate) const NOTICED: u32 = 1 << 13;
/// The task waits inside a progress call because of `PAUSE`.
pub(crate) const HALTED: u32 = 1 << 14;
/// No future wants the outcome: the thread that settles the task drops it.
pub(crate) const ABANDONED: u32 = 1 << 15;
/// The task is observed: every change of phase must be published.
pub(crate) const OBSERVED: u32 = 1 << 16;
/// It runs where its future is polled.
pub(crate) const INLINE: u32 = 1 << 17;
/// Its executor wants to know when something is requested of the task, and when the task ends.
pub(crate) const ATTACHED: u32 = 1 << 18;
/// A thread has waited for a change of this word, and may do so again.
pub(crate) const WAITS: u32 = 1 << 19;

/// It waits in another process, which may start it at any moment.
pub(crate) const LENT: u32 = 1 << 20;
/// With `LIMITED`: a thread is writing the outcome, or has written it.
pub(crate) const DECIDED: u32 = 1 << 21;
/// With `PROBE`: another process waits for that call, which also clears this bit and wakes the forwarder that tells
/// that process. Not set when this process asks for a later call.
pub(crate) const ECHO: u32 = 1 << 22;
/// An iterator, a reader or a writer of the task has ended early because the task must end: what the task returns may
/// be incomplete.
pub(crate) const CUT_SHORT: u32 = 1 << 23;

/// Two bits that say why cancellation was requested; the first request decides.
const CAUSE_SHIFT: u32 = 24;
pub(crate) const CAUSE: u32 = 0b11 << CAUSE_SHIFT;

/// Its future was polled, or is gone: whatever shows the task's lines has subscribed by now.
pub(crate) const ATTENDED: u32 = 1 << 26;
/// It has lines that wait for `ATTENDED`, or is about to.
pub(crate) const SAID: u32 = 1 << 27;

const TAKEN: u32 = RUNNING | SEALED | ENDED;

/// Why a task cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    /// It is paused: it cannot start before it is resumed.
    Paused,
    /// It was claimed, lent or ended before.
    Taken,
}

/// What a request for cancellation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// A pending task: the caller has sealed it, and must settle it.
    Sealed,
    /// A task that is running, or lent to a process that may run it: it is now asked to end.
    Told,
    /// Nothing to do: cancellation was requested before, or the task has ended.
    Late,
}

/// The control word.
#[derive(Debug)]
pub(crate) struct State(AtomicU32);

impl State {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Reads the word for a progress call: without ordering, since the word only says where else to look.
    #[inline(always)]
    pub(crate) fn peek(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Reads the word. A reader that sees `ENDED` also sees the outcome and the last counts.
    #[inline]
    pub(crate) fn load(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn set(&self, bits: u32) -> u32 {
        self.0.fetch_or(bits, Ordering::AcqRel)
    }

    pub(crate) fn clear(&self, bits: u32) -> u32 {
        self.0.fetch_and(!bits, Ordering::AcqRel)
    }

    /// pending → `RUNNING`, unless it is paused.
    pub(crate) fn claim(&self) -> Result<(), Unclaimed> {
        self.take(RUNNING | PROBE).map(drop)
    }

    /// pending → `LENT`, unless it is paused. Returns the word before.
    pub(crate) fn lend(&self) -> Result<u32, Unclaimed> {
        self.take(LENT)
    }

    fn take(&self, bits: u32) -> Result<u32, Unclaimed> {
        self.transition(|word| match word {
            _ if word & (TAKEN | LENT) != 0 => Err(Unclaimed::Taken),
            _ if word & PAUSE != 0 => Err(Unclaimed::Paused),
            _ => Ok(word | bits),
        })
    }

    /// `LENT` → `RUNNING`: the task has started where it was lent to. Returns whether it was lent.
    pub(crate) fn begin(&self) -> bool {
        self.transition(|word| if word & LENT == 0 { Err(()) } else { Ok(word & !LENT | RUNNING | PROBE) }).is_ok()
    }

    /// `RUNNING` or `LENT` → pending, for another attempt, unless it was asked to end. Returns whether it is pending now.
    pub(crate) fn retry(&self) -> bool {
        // It may have noticed a cancellation that only its worker knew of.
        let undone = RUNNING | LENT | PROBE | HALTED | NOTICED;
        let next = |word| if word & (CANCEL | ENDED | DECIDED) != 0 { Err(()) } else { Ok(word & !undone) };
        self.transition(next).is_ok()
    }

    /// Whether the caller must write the outcome of a task that was running, and [settle](Self::settle) it.
    #[inline]
    pub(crate) fn decide(&self) -> bool {
        // After a retry it may be pending when its limit passes.
        let next = |word| if word & (RUNNING | DECIDED) == RUNNING { Ok(word | DECIDED) } else { Err(()) };
        self.peek() & LIMITED == 0 || self.transition(next).is_ok()
    }

    /// `LENT` → pending, or `SEALED` if it was cancelled meanwhile: a caller that gets `true` must settle it.
    pub(crate) fn take_back(&self) -> bool {
        let before = self.transition(|word| match word {
            _ if word & LENT == 0 => Err(()),
            _ if word & CANCEL != 0 => Ok(word & !LENT | SEALED),
            _ => Ok(word & !LENT),
        });
        before.is_ok_and(|before| before & CANCEL != 0)
    }

    /// Sets `ATTENDED`, unless `SAID` is set. Returns whether it did.
    pub(crate) fn attend(&self) -> bool {
        self.set_unless(SAID, ATTENDED)
    }

    /// pending → `SEALED`. A caller that gets `true` must settle the task.
    pub(crate) fn seal(&self) -> bool {
        self.set_unless(TAKEN, SEALED)
    }

    /// Like [`seal`](Self::seal), but only for a task that waits in this process.
    pub(crate) fn seal_unlent(&self) -> bool {
        self.set_unless(TAKEN | LENT, SEALED)
    }

    /// Requests cancellation; in the same step, seals the task if it is pending here.
    pub(crate) fn request_cancel(&self, cause: u32) -> Cancel {
        let request = CANCEL | cause << CAUSE_SHIFT;
        let before = self.transition(|word| match word {
            _ if word & (CANCEL | ENDED) != 0 => Err(()),
            _ if word & (TAKEN | LENT) == 0 => Ok(word | request | SEALED),
            _ => Ok(word | request),
        });
        match before {
            Err(()) => Cancel::Late,
            Ok(before) if before & (TAKEN | LENT) == 0 => Cancel::Sealed,
            Ok(_) => Cancel::Told,
        }
    }

    /// `RUNNING` or `SEALED` → `ENDED`, with `FAILED`, `CANCELLED` or neither. Returns the word before.
    #[inline]
    pub(crate) fn settle(&self, ending: u32) -> u32 {
        self.0.fetch_or(ENDED | ending, Ordering::AcqRel)
    }

    /// Sets `bits`, unless one of `others` is set. Returns whether it did.
    fn set_unless(&self, others: u32, bits: u32) -> bool {
        self.transition(|word| if word & others == 0 { Ok(word | bits) } else { Err(()) }).is_ok()
    }

    fn transition<E>(&self, next: impl Fn(u32) -> Result<u32, E>) -> Result<u32, E> {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            match self.0.compare_exchange_weak(word, next(word)?, Ordering::AcqRel, Ordering::Acquire) {
                Ok(before) => return Ok(before),
                Err(now) => word = now,
            }
        }
    }
}

/// The cause that came with the first request for cancellation.
pub(crate) fn cause(word: u32) -> u32 {
    (word & CAUSE) >> CAUSE_SHIFT
}

/// Whether the task is pending, be it lent or not.
pub(crate) fn is_pending(word: u32) -> bool {
    word & TAKEN == 0
}
