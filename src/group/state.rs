//! What a group knows of its tasks, and who is shown that.
//!
//! Nobody keeps the tally while nobody wants to know. From the first time that somebody does, the group observes each
//! task, as any subscriber would: what a task shows replaces what it has shown before.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_channel::Receiver;

use crate::group::progress::GroupProgress;
use crate::group::tally::Tally;
use crate::progress::ProgressState;
use crate::sync::timer::{TIMER, Timed, TimerId};
use crate::sync::waiter::Waiter;
use crate::task::TaskRef;
use crate::task::publish;
#[cfg(feature = "indicatif")]
use crate::task::subscribers::Latest;
use crate::task::subscribers::{Channel, Notices, REPORT_INTERVAL, Snapshot, Subscriber, Subscribers};

/// Kept by the group, and by each task that it observes until that has ended.
pub(crate) struct GroupState {
    inner: Mutex<Inner>,
    /// Whether somebody wants to know, so that each task is observed.
    kept: OnceLock<()>,
    /// Wakes whoever polls the group, when there is something for that to see.
    pub(crate) waiter: Waiter,
}

struct Inner {
    tally: Tally,
    subscribers: Subscribers<GroupProgress>,
    /// The time between two snapshots, as far as the tasks have told.
    interval: Option<Duration>,
    shown_at: Option<Instant>,
    /// What shows the group at the end of the interval, where something has changed within it.
    due: Option<TimerId>,
}

impl Snapshot for GroupProgress {
    fn says_more_than(&self, earlier: &Self) -> bool {
        *self != Self { elapsed: self.elapsed, ..earlier.clone() }
    }
}

impl GroupState {
    pub(crate) fn new() -> Arc<Self> {
        let inner =
            Inner { tally: Tally::new(), subscribers: Subscribers::new(), interval: None, shown_at: None, due: None };
        Arc::new(Self { inner: Mutex::new(inner), kept: OnceLock::new(), waiter: Waiter::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a task that is added is to be observed.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.get().is_some()
    }

    /// A task was handed out that nobody has observed.
    pub(crate) fn note_ended(&self, task: &TaskRef) {
        if !self.is_kept() {
            self.lock().tally.add_ended(task);
        }
    }

    /// Keeps the tally from now on, with these tasks in addition to those that were [noted](Self::note_ended). Whoever
    /// comes second waits until they are all in it.
    pub(crate) fn keep(self: &Arc<Self>, tasks: impl Iterator<Item = TaskRef>) {
        self.kept.get_or_init(|| {
            for task in tasks {
                self.lock().tally.note_span(&task);
                self.observe(&task);
            }
            self.lock().tally.start_clock();
        });
    }

    /// Observes a task from now on.
    pub(crate) fn observe(self: &Arc<Self>, task: &TaskRef) {
        let member = Arc::new(Member { group: self.clone(), task: task.clone() });
        publish::admit(&task.core, member, |state| self.lock().tally.add(task, state));
        self.publish();
    }

    pub(crate) fn progress(&self) -> GroupProgress {
        self.lock().tally.progress()
    }

    pub(crate) fn subscribe(&self) -> Receiver<GroupProgress> {
        let (sender, receiver) = async_channel::bounded(1);
        let channel = Channel::new(sender.clone());
        self.admit(channel, |seen| {
            // Neither full nor closed, and without a waker: nobody else has it yet.
            let _ = sender.try_send(seen.clone());
        });
        receiver
    }

    /// Shows every change from now on to `subscriber`, which has seen what `first` is given.
    fn admit(&self, subscriber: Arc<dyn Subscriber<GroupProgress>>, first: impl FnOnce(&GroupProgress)) {
        let mut inner = self.lock();
        let seen = inner.tally.progress();
        first(&seen);
        let notices = inner.subscribers.add(subscriber, seen);
        drop(inner);
        notices.notify(&self.waiter);
    }

    /// Shows what has changed, unless that was done within the interval; then it is done at its end.
    fn publish(self: &Arc<Self>) {
        let now = Instant::now();
        let mut inner = self.lock();
        if inner.subscribers.is_empty() || inner.due.is_some() {
            return;
        }
        let interval = inner.interval.unwrap_or(REPORT_INTERVAL);
        if let Some(due) = inner.shown_at.and_then(|shown| shown.checked_add(interval)).filter(|&due| now < due) {
            inner.due = TIMER.schedule(due, Box::new(Arc::downgrade(self)));
            if inner.due.is_some() {
                return;
            }
        }
        self.show(inner, now);
    }

    fn show(&self, mut inner: MutexGuard<'_, Inner>, now: Instant) {
        inner.shown_at = Some(now);
        let progress = inner.tally.known();
        let notices = inner.subscribers.store(&progress, None);
        drop(inner);
        notices.notify(&self.waiter);
    }

    /// Shows what there is to be seen, for it may be the last. No task will be added.
    pub(crate) fn flush(&self) {
        let mut inner = self.lock();
        if inner.tally.have_all_ended() {
            // Not left to whoever else may hold on to the group for a moment yet.
            let notices = inner.conclude();
            drop(inner);
            notices.notify(&self.waiter);
        } else {
            self.show(inner, Instant::now());
        }
    }
}

impl Inner {
    fn conclude(&mut self) -> Notices<GroupProgress> {
        let progress = self.tally.known();
        self.subscribers.conclude(&progress, None)
    }
}

impl Timed for Weak<GroupState> {
    fn fire(&mut self, _due: Instant, now: Instant) -> Option<Instant> {
        if let Some(group) = self.upgrade() {
            let mut inner = group.lock();
            inner.due = None;
            group.show(inner, now);
        }
        None
    }
}

impl Drop for GroupState {
    fn drop(&mut self) {
        // The group is gone, and every task has ended.
        let mut inner = self.lock();
        let (due, notices) = (inner.due.take(), inner.conclude());
        drop(inner);
        notices.notify(&self.waiter);
        drop(due.and_then(|due| TIMER.cancel(due)));
    }
}

/// A task that is observed for the group it belongs to.
struct Member {
    group: Arc<GroupState>,
    task: TaskRef,
}

impl Subscriber<ProgressState> for Member {
    fn store(&self, old: &ProgressState, new: &ProgressState, interval: Option<Duration>) {
        let mut inner = self.group.lock();
        inner.tally.change(&self.task, old, new);
        inner.interval = interval.or(inner.interval);
    }

    fn notify(&self, _owner: &Waiter) {
        self.group.publish();
    }
}

/// What the bars of a group have not shown yet.
#[cfg(feature = "indicatif")]
pub(crate) struct View {
    group: Arc<GroupState>,
    latest: Arc<Latest<GroupProgress>>,
}

#[cfg(feature = "indicatif")]
impl View {
    pub(crate) fn new(group: Arc<GroupState>) -> Arc<Self> {
        let latest = Latest::new();
        group.admit(latest.clone(), |seen| latest.set(seen.clone()));
        Arc::new(Self { group, latest })
    }

    /// The tasks that have started and not ended, and how far all have come, if something has changed.
    pub(crate) fn take(&self) -> Option<(Vec<TaskRef>, GroupProgress)> {
        self.latest.take()?;
        let mut inner = self.group.lock();
        Some((inner.tally.started().cloned().collect(), inner.tally.progress()))
    }

    pub(crate) fn progress(&self) -> GroupProgress {
        self.group.progress()
    }
}
