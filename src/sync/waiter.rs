//! The one waker of a task, woken when there is something to see.
//!
//! Register, then look, then wait: [`wake`](Waiter::wake) comes after the change that it announces, so a waker that was
//! registered too late for it belongs to a poller that has yet to look.
//!
//! `futures::task::AtomicWaker` would do, except that it never wakes again after a waker has panicked in its `clone`.

use std::task::Waker;

use crate::sync::primitives::AtomicCell;
use crate::sync::unwind::{drop_quietly, quietly};

/// Boxed, since most tasks that wait for their turn have no waker.
#[derive(Default)]
pub(crate) struct Waiter(AtomicCell<Option<Box<Waker>>>);

impl Waiter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Stores `waker` in place of the one before. The caller must look again afterwards.
    pub(crate) fn register(&self, waker: &Waker) {
        // A wake-up that finds no waker here is not lost: the caller has yet to look.
        let (kept, replaced) = match self.0.take() {
            Some(old) if old.will_wake(waker) => (Some(old), None),
            other => (None, other),
        };
        // It may belong to another poller: a panic in its `drop` is not the caller's.
        drop_quietly(replaced);
        let new = kept.unwrap_or_else(|| Box::new(waker.clone()));
        drop_quietly(self.0.swap(Some(new)));
    }

    /// Wakes the waker, if there is one, and forgets it. Returns whether there was one. If the waker panics, this
    /// thread goes on.
    pub(crate) fn wake(&self) -> bool {
        let Some(waker) = self.0.take() else { return false };
        // The box is dropped only afterwards, so as not to delay the wake-up.
        let _ = quietly(move || waker.wake_by_ref());
        true
    }

    /// Forgets the waker without waking it.
    pub(crate) fn take(&self) -> Option<Waker> {
        self.0.take().map(|waker| *waker)
    }
}
