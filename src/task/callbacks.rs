//! Observers that are called where a task or a group is polled: callbacks and bars.

use std::any::Any;
use std::collections::BTreeMap;
use std::iter;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;

use crate::sync::unwind::{drop_each_quietly, drop_payload, quietly};
use crate::task::lines::{Feed, Line, News};
use crate::task::subscribers::Snapshot;

/// Names a progress callback, to [remove](crate::ProgressFuture::remove_progress_callback) it.
///
/// # Examples
///
/// ```
/// use progress_executor::{CallbackId, SyncExecutor};
///
/// let mut task = SyncExecutor::new().spawn(|progress| Ok(progress.update(1)?));
/// let id: CallbackId = task.add_progress_callback(|_, new| println!("{}", new.n));
/// assert!(task.remove_progress_callback(id));
/// assert!(!task.remove_progress_callback(id));
/// # task.wait()?;
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallbackId(u64);

/// Something that is shown snapshots, in order.
pub(crate) trait Observer<S>: Send {
    fn show(&mut self, old: &S, new: &S);

    /// Whether it shows lines that tasks print.
    fn takes_lines(&self) -> bool {
        false
    }

    fn say(&mut self, _line: &Line) {}

    /// Called where the task or group is polled, after everything new was shown. Waking `waker` has it polled again.
    fn poll(&mut self, _waker: &Waker) {}

    /// Nothing more will be shown.
    fn leave(&mut self, _last: &S) {}
}

pub(crate) struct Callback<F>(pub(crate) F);

impl<S, F: FnMut(&S, &S) + Send> Observer<S> for Callback<F> {
    fn show(&mut self, old: &S, new: &S) {
        (self.0)(old, new);
    }
}

/// For a stream, which hands out what this was shown.
impl<S: Snapshot> Observer<S> for Arc<Feed<S>> {
    fn show(&mut self, _old: &S, new: &S) {
        self.set(new.clone());
    }

    fn takes_lines(&self) -> bool {
        true
    }

    fn say(&mut self, line: &Line) {
        Feed::say(self, line);
    }
}

/// The observers of one future or group. Shared with the updater of a task that runs where its future is polled.
pub(crate) struct Callbacks<S> {
    /// What will be shown next.
    pub(crate) latest: Arc<Feed<S>>,
    list: Mutex<List<S>>,
}

struct List<S> {
    /// By the numbers of their [`CallbackId`]s, and so in the order in which they were added.
    entries: BTreeMap<u64, Entry<S>>,
    added: u64,
    /// The payload of the first observer that panicked.
    panic: Option<Box<dyn Any + Send>>,
}

impl<S> Drop for List<S> {
    /// Runs where the future or the group is dropped, or its outcome arrives. If the drops of two observers panicked
    /// one inside the other, the program would abort.
    fn drop(&mut self) {
        drop_each_quietly(mem::take(&mut self.entries).into_values());
        self.panic.take().into_iter().for_each(drop_payload);
    }
}

struct Entry<S> {
    observer: Box<dyn Observer<S>>,
    seen: S,
}

impl<S: Snapshot> Entry<S> {
    fn show(&mut self, news: &News<S>) {
        match news {
            News::Line(line) => self.observer.say(line),
            News::Snapshot(newest) if newest.says_more_than(&self.seen) => {
                let seen = mem::replace(&mut self.seen, newest.clone());
                self.observer.show(&seen, newest);
            }
            News::Snapshot(_) => {}
        }
    }
}

impl<S: Snapshot> Callbacks<S> {
    pub(crate) fn new() -> Arc<Self> {
        let list = Mutex::new(List { entries: BTreeMap::new(), added: 0, panic: None });
        Arc::new(Self { latest: Feed::new(), list })
    }

    /// Adds an observer that has seen `seen`.
    pub(crate) fn add(&self, observer: Box<dyn Observer<S>>, seen: S) -> CallbackId {
        if observer.takes_lines() {
            self.latest.take_lines();
        }
        let mut list = self.lock();
        list.added += 1;
        let id = list.added;
        list.entries.insert(id, Entry { observer, seen });
        CallbackId(id)
    }

    pub(crate) fn remove(&self, id: CallbackId) -> bool {
        // Dropped without the lock.
        let removed = self.lock().entries.remove(&id.0);
        removed.is_some()
    }

    /// Shows every observer what is new. An observer that panics is removed, and does not keep the others from seeing
    /// it. What arrives meanwhile is shown the next time: a task may change faster than observers look, and an observer
    /// may itself cause changes.
    pub(crate) fn catch_up(&self) {
        let _ = (0..self.latest.len()).all(|_| self.show_next());
    }

    /// Shows every observer the next piece of news. Returns whether there was one.
    fn show_next(&self) -> bool {
        let mut list = match self.list.try_lock() {
            Ok(list) => list,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let Some(news) = self.latest.next() else { return false };
        let mut panics = Vec::new();
        for (&id, entry) in &mut list.entries {
            let shown = catch_unwind(AssertUnwindSafe(|| entry.show(&news)));
            panics.extend(shown.err().map(|payload| (id, payload)));
        }
        let (mut gone, mut unheard) = (Vec::new(), Vec::new());
        for (id, payload) in panics {
            gone.extend(list.entries.remove(&id));
            match list.panic {
                None => list.panic = Some(payload),
                Some(_) => unheard.push(payload),
            }
        }
        // Without the lock: dropping users' values may call back into this.
        drop(list);
        drop_each_quietly(gone);
        unheard.into_iter().for_each(drop_payload);
        true
    }

    /// Polls every observer. A panic here is ignored: everything new was shown before.
    pub(crate) fn poll(&self, waker: &Waker) {
        if let Ok(mut list) = self.list.try_lock() {
            for entry in list.entries.values_mut() {
                let _ = quietly(|| entry.observer.poll(waker));
            }
        }
    }

    /// Resumes a caught panic of an observer, on the polling thread.
    pub(crate) fn raise(&self) {
        let panic = self.lock().panic.take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Shows every observer the lines that are left, and tells it that nothing will follow.
    pub(crate) fn leave(&self, last: &S) {
        self.latest.close();
        let mut list = self.lock();
        for news in iter::from_fn(|| self.latest.next()).filter(|news| matches!(news, News::Line(_))) {
            for entry in list.entries.values_mut() {
                let _ = quietly(|| entry.show(&news));
            }
        }
        for entry in list.entries.values_mut() {
            let _ = quietly(|| entry.observer.leave(last));
        }
    }

    fn lock(&self) -> MutexGuard<'_, List<S>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
