//! Cancels many tasks at once: none of them starts while they are sealed one by one.
//!
//! Sealing a hundred thousand tasks takes some milliseconds, in which threads would start thousands of the others. So a
//! thread that is about to start a task waits while any are being sealed, and then finds its task sealed or not. That
//! also holds up tasks of other groups, since a task does not know which group it is in: telling each of them at
//! submit, when a thread may already be at work on it, costs more than everything else that a group does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Read-locked by each thread that cancels; there may be several.
static CANCELLING: RwLock<()> = RwLock::new(());
/// How many threads do, for those that look without the lock.
static CANCELLERS: AtomicUsize = AtomicUsize::new(0);

/// No task starts while this exists.
#[must_use]
pub(crate) struct Standstill {
    _cancelling: RwLockReadGuard<'static, ()>,
}

impl Standstill {
    /// Begins a standstill. Its holder only seals tasks, and does nothing else.
    pub(crate) fn begin() -> Self {
        // A thread that sees a task sealed sees this as well.
        CANCELLERS.fetch_add(1, Ordering::SeqCst);
        Self { _cancelling: CANCELLING.read().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        CANCELLERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits for the threads that are sealing many tasks right now.
pub(crate) fn await_cancellers() {
    if CANCELLERS.load(Ordering::SeqCst) != 0 {
        drop(CANCELLING.write().unwrap_or_else(PoisonError::into_inner));
    }
}
