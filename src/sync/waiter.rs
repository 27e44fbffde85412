//! The one waker of a task: who is told when there is something to see.
//!
//! Register, then look, then wait: [`wake`](Waiter::wake) comes after the change that it tells of, so a waker that was
//! registered too late for it belongs to somebody who is yet to look.
//!
//! `futures::task::AtomicWaker` would do, but for wakers that panic when they are cloned: it never wakes again then.

use std::mem;
use std::sync::PoisonError;
use std::task::Waker;

use crate::sync::primitives::Mutex;
use crate::sync::unwind::quietly;

#[derive(Debug)]
pub(crate) struct Waiter(Mutex<Option<Waker>>);

impl Waiter {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Remembers `waker` in place of the one before. The caller looks again afterwards.
    pub(crate) fn register(&self, waker: &Waker) {
        if self.swap(|slot| slot.as_ref().is_some_and(|old| old.will_wake(waker))) {
            return;
        }
        // Cloned and dropped outside of the lock: both are foreign code, which may come back here.
        let new = waker.clone();
        let old = self.swap(|slot| slot.replace(new));
        drop(old);
    }

    /// Wakes the waker, if there is one, and forgets it. A waker that panics is on its own: this thread goes on.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.take() {
            let _ = quietly(|| waker.wake());
        }
    }

    /// Forgets the waker without waking it.
    pub(crate) fn take(&self) -> Option<Waker> {
        self.swap(mem::take)
    }

    fn swap<R>(&self, change: impl FnOnce(&mut Option<Waker>) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
