//! Many tasks that are cancelled at once: none of them starts while they are asked one by one.
//!
//! To seal a hundred thousand tasks takes some milliseconds, in which threads would start thousands of the others. So
//! whoever is about to start a task waits while any are being sealed, and then finds it sealed or not. That holds up tasks
//! of others as well, for a task does not know which group it is in: to tell each of them at submit, while a thread is at
//! work on it already, costs more than all the rest that a group does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Held by those who cancel; there may be several.
static CANCELLING: RwLock<()> = RwLock::new(());
/// How many do, for those who look without the lock.
static CANCELLERS: AtomicUsize = AtomicUsize::new(0);

/// While this is there, no task starts.
#[must_use]
pub(crate) struct Standstill {
    _cancelling: RwLockReadGuard<'static, ()>,
}

impl Standstill {
    /// From now on. Whoever has this seals tasks, and does nothing else.
    pub(crate) fn begin() -> Self {
        // Whoever sees a task that was sealed sees this as well.
        CANCELLERS.fetch_add(1, Ordering::SeqCst);
        Self { _cancelling: CANCELLING.read().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        CANCELLERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until nobody seals many who does so now.
pub(crate) fn await_cancellers() {
    if CANCELLERS.load(Ordering::SeqCst) != 0 {
        drop(CANCELLING.write().unwrap_or_else(PoisonError::into_inner));
    }
}
