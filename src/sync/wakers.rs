//! The wakers of all who wait for the same.

use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::sync::unwind::{drop_quietly, quietly};

/// Calls and drops wakers without a lock, and each on its own, as they are foreign code: one may poll in place, or panic.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    waiting: Mutex<Vec<(u64, Waker)>>,
    /// How many, so that it takes no lock to find out that there are none.
    count: AtomicUsize,
    next: AtomicU64,
}

impl Wakers {
    /// A key for somebody who is about to wait.
    pub(crate) fn key(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Has this waker woken, instead of the previous one with that key. What it waits for must be looked at afterwards.
    pub(crate) fn register(&self, key: u64, waker: &Waker) {
        let waker = waker.clone();
        let mut waiting = self.lock();
        let previous = remove(&mut waiting, key);
        waiting.push((key, waker));
        self.count.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        // Either the other side sees it, or what is looked at is what the other side has changed.
        fence(Ordering::SeqCst);
        drop_quietly(previous);
    }

    pub(crate) fn forget(&self, key: u64) {
        let mut waiting = self.lock();
        let previous = remove(&mut waiting, key);
        self.count.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        drop_quietly(previous);
    }

    /// Wakes all, once.
    pub(crate) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut waiting = self.lock();
        let woken = mem::take(&mut *waiting);
        self.count.store(0, Ordering::Relaxed);
        drop(waiting);
        for (_, waker) in woken {
            let _ = quietly(|| waker.wake());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Waker)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(waiting: &mut Vec<(u64, Waker)>, key: u64) -> Option<Waker> {
    let at = waiting.iter().position(|(other, _)| *other == key)?;
    Some(waiting.swap_remove(at).1)
}
