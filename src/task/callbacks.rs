//! What looks at a task where its future is polled: callbacks and bars.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::progress::ProgressState;
use crate::task::core::Core;
use crate::task::publish;

/// Names a progress callback, to [remove](crate::ProgressFuture::remove_progress_callback) it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallbackId(u64);

/// One that is shown snapshots, in order.
pub(crate) trait Observer: Send {
    /// `has_run` tells whether the task's function was called, be it over or not.
    fn show(&mut self, old: &ProgressState, new: &ProgressState, has_run: bool);
    /// Nothing more will be shown.
    fn leave(&mut self, last: &ProgressState);
}

pub(crate) struct Callback<F>(pub(crate) F);

impl<F: FnMut(&ProgressState, &ProgressState) + Send> Observer for Callback<F> {
    fn show(&mut self, old: &ProgressState, new: &ProgressState, _has_run: bool) {
        (self.0)(old, new);
    }

    fn leave(&mut self, _last: &ProgressState) {}
}

/// The observers of one future. Shared with the updater of a task that runs where its future is polled.
#[derive(Default)]
pub(crate) struct Observers(Mutex<List>);

#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    added: u64,
    /// The version of the last snapshot that was shown.
    version: u64,
    /// What the first observer that panicked said.
    panic: Option<Box<dyn Any + Send>>,
}

struct Entry {
    id: CallbackId,
    observer: Box<dyn Observer>,
    seen: ProgressState,
    /// What the task had come to when the observer was added, until that was shown.
    first: Option<ProgressState>,
    /// Snapshots up to this version are older than that.
    since: u64,
}

impl Observers {
    /// Adds an observer that has seen `seen` and is to see `first`, which is newer than the snapshot `since`.
    pub(crate) fn add(
        &self,
        observer: Box<dyn Observer>,
        seen: ProgressState,
        (since, first): (u64, ProgressState),
    ) -> CallbackId {
        let mut list = self.lock();
        list.added += 1;
        let id = CallbackId(list.added);
        list.entries.push(Entry { id, observer, seen, first: Some(first), since });
        id
    }

    pub(crate) fn remove(&self, id: CallbackId) -> bool {
        let mut list = self.lock();
        let found = list.entries.iter().position(|entry| entry.id == id);
        let removed = found.map(|index| list.entries.remove(index));
        drop(list);
        removed.is_some()
    }

    /// Shows every observer the newest snapshot. One that panics is removed, and does not keep the others from seeing
    /// it. Where it is one of them that counts for the task, what that has changed is shown with the next change.
    pub(crate) fn catch_up(&self, core: &Core) {
        let mut list = match self.0.try_lock() {
            Ok(list) => list,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let newest = publish::newer(core, list.version);
        let has_run = core.has_run();
        let List { entries, panic, version, .. } = &mut *list;
        if let Some((newest, _)) = &newest {
            *version = *newest;
        }
        entries.retain_mut(|entry| {
            let first = entry.first.take();
            let new = match &newest {
                Some((version, state)) if *version > entry.since => Some(state),
                _ => first.as_ref(),
            };
            let Some(new) = new.filter(|new| new.says_more_than(&entry.seen)) else { return true };
            let shown = catch_unwind(AssertUnwindSafe(|| entry.observer.show(&entry.seen, new, has_run)));
            entry.seen.clone_from(new);
            shown.map_err(|payload| panic.get_or_insert(payload)).is_ok()
        });
    }

    /// Lets the panic of an observer out, where it was caught before: to whoever polls the future.
    pub(crate) fn raise(&self) {
        let panic = self.lock().panic.take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Tells every observer that nothing will follow.
    pub(crate) fn leave(&self, last: &ProgressState) {
        for entry in &mut self.lock().entries {
            let _ = catch_unwind(AssertUnwindSafe(|| entry.observer.leave(last)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").field("count", &self.lock().entries.len()).finish()
    }
}
