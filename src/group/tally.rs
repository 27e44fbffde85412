//! How far many tasks have come together: sums that are kept up to date by what changes, so that a change costs the same
//! however many tasks there are.
//!
//! Nobody keeps them while nobody wants to know. From the first time that somebody does, the tally observes each task, as
//! any observer would: what a task shows replaces what it has shown before.

use std::collections::BTreeMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};

use crate::group::progress::GroupProgress;
use crate::id::TaskId;
use crate::progress::{ProgressState, Status};
use crate::sync::clock;
use crate::sync::timer::{Agenda, Visit};
use crate::sync::waiter::Waiter;
use crate::task::publish::{Audience, INTERVAL};
use crate::task::{TaskRef, publish};

/// Numbers of units with a part of one, in units of 2⁻³²: sums of them are exact, so that what is taken off again leaves
/// nothing behind.
const ONE: u128 = 1 << 32;

/// What one task contributes to the sums.
#[derive(Clone, Copy, Debug)]
struct Share {
    status: Status,
    n: u64,
    /// What the task has said that there is to do.
    total: Option<u64>,
    /// How much there is to do, and how much of that is done, in units of 1 / `ONE`; where that is known.
    work: Option<(u64, u128)>,
}

impl Share {
    fn new(state: &ProgressState) -> Self {
        let done = u128::from(state.n) * ONE + (state.part * ONE as f64) as u128;
        let work = match state.total {
            _ if state.status.is_terminal() => (state.n > 0).then_some((state.n, u128::from(state.n) * ONE)),
            Some(total) if total > state.n => Some((total, done)),
            Some(_) => Some((state.n, u128::from(state.n) * ONE)),
            None => None,
        };
        Self { status: state.status, n: state.n, total: state.total, work }
    }

    /// Whether the task has said that there is more to do than it said before.
    fn has_grown(&self, before: &Self) -> bool {
        match (self.total, before.total) {
            (Some(now), Some(before)) => now > before && !self.status.is_terminal(),
            _ => false,
        }
    }
}

/// What all tasks contribute.
#[derive(Default)]
struct Sums {
    /// The counts per status, and `n`.
    counts: GroupProgress,
    /// The tasks that are known to have some work, how much that is, and how much of it is done.
    known: usize,
    work: u128,
    done: u128,
    /// The others: those to be done, and those that have ended.
    unknown: usize,
    unknown_ended: usize,
}

impl Sums {
    fn add(&mut self, share: &Share) {
        *self.counts.count_mut(share.status) += 1;
        self.counts.n = self.counts.n.wrapping_add(share.n);
        match share.work {
            Some((work, done)) => {
                self.known += 1;
                self.work += u128::from(work);
                self.done += done;
            }
            None if share.status.is_terminal() => self.unknown_ended += 1,
            None => self.unknown += 1,
        }
    }

    fn remove(&mut self, share: &Share) {
        *self.counts.count_mut(share.status) -= 1;
        self.counts.n = self.counts.n.wrapping_sub(share.n);
        match share.work {
            Some((work, done)) => {
                self.known -= 1;
                self.work -= u128::from(work);
                self.done -= done;
            }
            None if share.status.is_terminal() => self.unknown_ended -= 1,
            None => self.unknown -= 1,
        }
    }

    fn total(&self) -> Option<u64> {
        let is_known = self.unknown == 0 && self.counts.tasks() > 0;
        is_known.then(|| u64::try_from(self.work).unwrap_or(u64::MAX))
    }

    fn fraction(&self) -> Option<f64> {
        let (known, unknown) = (self.known as f64, (self.unknown + self.unknown_ended) as f64);
        if known + unknown == 0.0 {
            return None;
        }
        let work = self.work as f64;
        let average = if work > 0.0 { work / known } else { 1.0 };
        let whole = work + average * unknown;
        let done = self.done as f64 / ONE as f64 + average * self.unknown_ended as f64;
        Some(if whole > 0.0 { (done / whole).min(1.0) } else { 1.0 })
    }
}

/// How long the thread that shows what is due holds on to a group, at the most.
const LONGEST_TURN: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Tally {
    sums: Sums,
    /// Those that have started and not ended, as they are known.
    started: BTreeMap<TaskId, (TaskRef, Share)>,
    clock: Clock,
    /// The largest fraction that was shown since work was added.
    peak: f64,
    has_grown: bool,
    outlets: Vec<Outlet>,
    /// Whether somebody looks at all that can be seen, and is to be woken for it.
    has_viewer: bool,
    /// Whether there is something for the viewer to see.
    has_view: bool,
    interval: Option<Duration>,
    shown_at: Option<Instant>,
    /// Whether it is going to be shown at the end of the interval.
    is_due: bool,
}

/// Measures the time during which something was running; in nanoseconds, see [`clock`].
#[derive(Default)]
struct Clock {
    before: u64,
    since: Option<u64>,
    /// Before the tally was kept: when the first task was started, and when the last one ended.
    first_start: Option<u64>,
    last_end: u64,
}

struct Outlet {
    sender: Sender<GroupProgress>,
    seen: GroupProgress,
}

impl Clock {
    fn set(&mut self, is_running: bool) {
        match (self.since, is_running) {
            (None, true) => self.since = Some(clock::now()),
            (Some(since), false) => {
                self.before += clock::now().saturating_sub(since);
                self.since = None;
            }
            _ => {}
        }
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.before + self.since.map_or(0, |since| clock::now().saturating_sub(since)))
    }

    /// Notes a task of which nothing was seen before.
    fn note(&mut self, task: &TaskRef) {
        if let Some((start, end)) = task.core.span() {
            self.first_start = Some(self.first_start.map_or(start, |first| first.min(start)));
            self.last_end = self.last_end.max(end);
        }
    }

    /// Takes it that something was running from the first start to the last end that was noted.
    fn begin(&mut self) {
        self.before = self.last_end.saturating_sub(self.first_start.unwrap_or(self.last_end));
    }
}

impl Tally {
    fn change(&mut self, task: &TaskRef, old: &ProgressState, new: &ProgressState) {
        let id = task.core.id();
        let before = self.started.get(&id).map_or_else(|| Share::new(old), |(_, share)| *share);
        let is_under_way = task.core.has_run() && !new.status.is_terminal();
        // What is shown may be older than what was seen since it was looked at.
        let share = if is_under_way { Share::new(&task.core.glance()) } else { Share::new(new) };
        self.replace(before, share);
        if is_under_way {
            self.started.insert(id, (task.clone(), share));
        } else {
            self.started.remove(&id);
        }
    }

    fn replace(&mut self, before: Share, share: Share) {
        self.sums.remove(&before);
        self.sums.add(&share);
        self.has_grown |= share.has_grown(&before);
        self.tick();
    }

    fn tick(&mut self) {
        self.clock.set(self.sums.counts.running + self.sums.counts.cancelling > 0);
    }

    /// How far the tasks have come right now.
    fn progress(&mut self) -> GroupProgress {
        let now: Vec<_> =
            self.started.iter().map(|(&id, (task, share))| (id, *share, Share::new(&task.core.glance()))).collect();
        for (id, before, share) in now {
            self.replace(before, share);
            if let Some((_, known)) = self.started.get_mut(&id) {
                *known = share;
            }
        }
        self.known()
    }

    /// How far they have come, as far as they have shown it.
    fn known(&mut self) -> GroupProgress {
        let fraction = self.sums.fraction();
        let computed = fraction.unwrap_or_default();
        self.peak = if mem::take(&mut self.has_grown) { computed } else { self.peak.max(computed) };
        GroupProgress {
            total: self.sums.total(),
            elapsed: self.clock.elapsed(),
            fraction: fraction.map(|_| self.peak),
            ..self.sums.counts.clone()
        }
    }

    fn show(&mut self, now: Instant) {
        self.shown_at = Some(now);
        self.has_view = self.has_viewer;
        let progress = self.known();
        self.outlets.retain_mut(|outlet| outlet.show(&progress));
    }
}

impl Outlet {
    /// Returns whether there still is a receiver.
    fn show(&mut self, progress: &GroupProgress) -> bool {
        if !progress.says_more_than(&self.seen) {
            return !self.sender.is_closed();
        }
        self.seen = progress.clone();
        // A waker that panics must harm neither the task nor the other observers.
        catch_unwind(AssertUnwindSafe(|| self.sender.force_send(progress.clone()).is_ok())).unwrap_or(true)
    }
}

/// The tally of a group, and who looks at it. Kept by the group, and by each task that it observes until that has ended.
pub(crate) struct Tallied {
    tally: Mutex<Tally>,
    /// Whether somebody wants to know, so that each task is observed.
    kept: OnceLock<()>,
    /// Whoever polls the group, if that looks at all that can be seen.
    pub(crate) viewer: Waiter,
}

impl Tallied {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { tally: Mutex::default(), kept: OnceLock::new(), viewer: Waiter::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task was added. Returns whether it is to be observed.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.get().is_some()
    }

    /// A task was handed out that nobody has observed.
    pub(crate) fn note_ended(&self, task: &TaskRef) {
        if !self.is_kept() {
            let mut tally = self.lock();
            tally.sums.add(&Share::new(&task.core.glance()));
            tally.clock.note(task);
        }
    }

    /// Keeps the tally from now on, with these tasks in addition to those that were [noted](Self::note_ended). Whoever
    /// comes second waits until they are all in it.
    pub(crate) fn keep(self: &Arc<Self>, tasks: impl Iterator<Item = TaskRef>) {
        self.kept.get_or_init(|| {
            for task in tasks {
                self.lock().clock.note(&task);
                self.observe(&task);
            }
            let mut tally = self.lock();
            tally.clock.begin();
            if let Some(first) = tally.clock.first_start.filter(|_| tally.clock.since.is_some()) {
                (tally.clock.before, tally.clock.since) = (0, Some(first));
            }
        });
    }

    /// Observes a task from now on.
    pub(crate) fn observe(self: &Arc<Self>, task: &TaskRef) {
        let member = Member { tallied: self.clone(), task: task.clone() };
        publish::admit(&task.core, Box::new(member), |state| {
            let mut tally = self.lock();
            let share = Share::new(state);
            tally.sums.add(&share);
            tally.has_grown |= !state.status.is_terminal();
            if task.core.has_run() && !state.status.is_terminal() {
                tally.started.insert(task.core.id(), (task.clone(), share));
            }
            tally.tick();
        });
        self.publish(Instant::now());
    }

    pub(crate) fn progress(&self) -> GroupProgress {
        self.lock().progress()
    }

    pub(crate) fn subscribe(&self) -> Receiver<GroupProgress> {
        let (sender, receiver) = async_channel::bounded(1);
        let mut tally = self.lock();
        let seen = tally.progress();
        // Neither full nor closed: nobody else has it yet.
        let _ = sender.try_send(seen.clone());
        tally.outlets.push(Outlet { sender, seen });
        receiver
    }

    /// Shows what has changed, unless that was done within the interval; then it is done at its end.
    fn publish(self: &Arc<Self>, now: Instant) {
        static AGENDA: LazyLock<Arc<Agenda<Weak<Tallied>>>> = LazyLock::new(|| Agenda::new("progress-groups"));

        let mut tally = self.lock();
        if tally.outlets.is_empty() && !tally.has_viewer || tally.is_due {
            return;
        }
        let interval = tally.interval.unwrap_or(INTERVAL);
        let turn = tally.shown_at.and_then(|shown| shown.checked_add(interval)).filter(|&turn| now < turn);
        if let Some(turn) = turn {
            tally.is_due = true;
            drop(tally);
            // Looked at before that, to let go of a group that is gone.
            if AGENDA.add(turn.min(now + LONGEST_TURN), Arc::downgrade(self)) {
                return;
            }
            tally = self.lock();
            tally.is_due = false;
        }
        tally.show(now);
        let has_viewer = tally.has_viewer;
        drop(tally);
        if has_viewer {
            self.viewer.wake();
        }
    }

    /// Shows what there is to be seen, for it may be the last. No task will be added.
    pub(crate) fn flush(&self) {
        let mut tally = self.lock();
        tally.show(Instant::now());
        let is_last = tally.sums.counts.ended() == tally.sums.counts.tasks();
        // Closed here, for somebody else may hold the tally for a moment yet.
        let outlets = if is_last { mem::take(&mut tally.outlets) } else { Vec::new() };
        drop(tally);
        drop(outlets);
    }

    /// Wakes the [viewer](Self::viewer) from now on, as often as a receiver is told something.
    #[cfg(feature = "indicatif")]
    pub(crate) fn admit_viewer(&self) {
        let mut tally = self.lock();
        (tally.has_viewer, tally.has_view) = (true, true);
    }

    /// What the viewer has not seen yet: the tasks that have started and not ended, and how far all have come.
    #[cfg(feature = "indicatif")]
    pub(crate) fn view(&self) -> Option<(Vec<TaskRef>, GroupProgress)> {
        let mut tally = self.lock();
        if !mem::take(&mut tally.has_view) {
            return None;
        }
        let started = tally.started.values().map(|(task, _)| task.clone()).collect();
        Some((started, tally.progress()))
    }
}

impl Visit for Weak<Tallied> {
    fn visit(&self, now: Instant) -> Option<Instant> {
        if let Some(tallied) = self.upgrade() {
            tallied.lock().is_due = false;
            tallied.publish(now);
        }
        None
    }
}

/// A task that is observed for the group it belongs to.
struct Member {
    tallied: Arc<Tallied>,
    task: TaskRef,
}

impl Audience for Member {
    fn show(&mut self, old: &ProgressState, new: &ProgressState, interval: Option<Duration>) -> bool {
        let mut tally = self.tallied.lock();
        tally.change(&self.task, old, new);
        tally.interval = interval.or(tally.interval);
        drop(tally);
        self.tallied.publish(Instant::now());
        true
    }

    fn is_there(&self) -> bool {
        true
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        // The group is gone, and every task has ended.
        self.show(Instant::now());
    }
}
