//! The one waker of a task: who is told when there is something to see.
//!
//! Register, then look, then wait: [`wake`](Waiter::wake) comes after the change that it tells of, so a waker that was
//! registered too late for it belongs to somebody who is yet to look.
//!
//! `futures::task::AtomicWaker` would do, but for wakers that panic when they are cloned: it never wakes again then.

use std::task::Waker;

use crate::sync::primitives::AtomicCell;
use crate::sync::unwind::{drop_quietly, quietly};

/// Boxed, for most tasks that wait for their turn have no waker.
#[derive(Default)]
pub(crate) struct Waiter(AtomicCell<Option<Box<Waker>>>);

impl Waiter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Remembers `waker` in place of the one before. The caller looks again afterwards.
    pub(crate) fn register(&self, waker: &Waker) {
        // A wake-up that finds nothing meanwhile came before the caller looks.
        let (kept, replaced) = match self.0.take() {
            Some(old) if old.will_wake(waker) => (Some(old), None),
            other => (None, other),
        };
        // It may be of somebody else, whom a panic of it concerns, and not the caller.
        drop_quietly(replaced);
        let new = kept.unwrap_or_else(|| Box::new(waker.clone()));
        drop_quietly(self.0.swap(Some(new)));
    }

    /// Wakes the waker, if there is one, and forgets it. Returns whether there was. A waker that panics is on its own: this
    /// thread goes on.
    pub(crate) fn wake(&self) -> bool {
        let Some(waker) = self.0.take() else { return false };
        // The box is dropped afterwards: somebody waits.
        let _ = quietly(move || waker.wake_by_ref());
        true
    }

    /// Forgets the waker without waking it.
    pub(crate) fn take(&self) -> Option<Waker> {
        self.0.take().map(|waker| *waker)
    }
}
