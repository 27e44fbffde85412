//! When observers are told: subscriptions, the rate limit, and the thread that stands by it.
//!
//! Observers see the first change at once, then at most one snapshot per interval, always the newest. Nobody looks at a
//! clock for that while a task counts:
//!
//! ```text
//!                        the task makes a change:
//!                    it shows it, and asks to be watched
//!       ┌───────┐ ─────────────────────────────────────────► ┌─────────┐ ──┐ something has changed:
//!       │ quiet │                                            │ watched │   │ the reporter shows it, and
//!       └───────┘ ◄───────────────────────────────────────── └─────────┘ ◄─┘ looks again after an interval
//!                    nothing has changed for two intervals
//! ```
//!
//! A *quiet* task has [`REPORT`](state::REPORT) set in its control word, so that its next change is shown by the very
//! call that makes it. A task that counts all the time stays *watched*, and never leaves the fast path. The reporter
//! sets `REPORT` after one interval without a change but looks once more after another one: the task may have counted
//! just before it could see the bit.
//!
//! Deliberately absent: a queue of snapshots. Each observer has room for one, and a newer one takes its place.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, MutexGuard};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};

use crate::progress::ProgressState;
use crate::sync::timer::{Agenda, Visit};
use crate::task::core::Core;
use crate::task::{Home, TaskRef, state};

/// The time between two snapshots, unless set otherwise.
pub(crate) const INTERVAL: Duration = Duration::from_millis(20);

/// As good as never, and yet a time that can be added to the present.
const LONGEST_INTERVAL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What was shown, and to whom.
#[derive(Default)]
pub(crate) struct Report {
    message: Option<Arc<str>>,
    subscribers: Vec<Subscriber>,
    /// Whether the future is to be woken for every snapshot.
    future_listens: bool,
    /// The newest snapshot that was shown, and how many there were.
    latest: Option<ProgressState>,
    version: u64,
    shown_at: Option<Instant>,
    /// Who watches the task, once it runs. Without one, every change is shown.
    reporter: Option<Arc<Reporter>>,
    /// Whether the reporter has it on its list.
    watched: bool,
    /// Whether the last state was shown.
    concluded: bool,
    /// The executor, where it wants to hear of the task.
    home: Option<Arc<dyn Home>>,
}

struct Subscriber {
    audience: Box<dyn Audience>,
    seen: ProgressState,
}

/// One that is shown snapshots where they are made: on the thread of the task or of its reporter, and with a lock held
/// that the task needs. It must not wait.
pub(crate) trait Audience: Send {
    /// `interval` is the time between two of them, where there is one. Returns whether anybody is there to see the next.
    fn show(&mut self, old: &ProgressState, new: &ProgressState, interval: Option<Duration>) -> bool;
    fn is_there(&self) -> bool;
}

impl Audience for Sender<ProgressState> {
    fn show(&mut self, _old: &ProgressState, new: &ProgressState, _interval: Option<Duration>) -> bool {
        self.force_send(new.clone()).is_ok()
    }

    fn is_there(&self) -> bool {
        !self.is_closed()
    }
}

impl Report {
    pub(crate) fn message(&self) -> Option<Arc<str>> {
        self.message.clone()
    }

    pub(crate) fn set_message(&mut self, message: Arc<str>) {
        self.message = Some(message);
    }

    pub(crate) fn forget_message(&mut self) {
        self.message = None;
    }

    pub(crate) fn attach_home(&mut self, home: Arc<dyn Home>) {
        self.home = Some(home);
    }

    pub(crate) fn home(&self) -> Option<Arc<dyn Home>> {
        self.home.clone()
    }

    pub(crate) fn detach_home(&mut self) -> Option<Arc<dyn Home>> {
        self.home.take()
    }

    /// Gives every observer the snapshot, if it says more than what they saw; returns whether it does.
    fn publish(&mut self, snapshot: ProgressState) -> bool {
        let interval = self.reporter.as_ref().map(|reporter| reporter.interval);
        self.subscribers.retain_mut(|subscriber| subscriber.show(&snapshot, interval));
        let is_news = self.latest.as_ref().is_none_or(|latest| snapshot.says_more_than(latest));
        if is_news {
            self.latest = Some(snapshot);
            self.version += 1;
        }
        is_news
    }

    fn is_observed(&self) -> bool {
        self.future_listens || !self.subscribers.is_empty()
    }

    /// When the next snapshot may be shown.
    fn next_turn(&self, interval: Duration) -> Option<Instant> {
        self.shown_at?.checked_add(interval)
    }
}

impl Subscriber {
    /// Returns whether anybody is there to see the next one.
    fn show(&mut self, snapshot: &ProgressState, interval: Option<Duration>) -> bool {
        if !snapshot.says_more_than(&self.seen) {
            return self.audience.is_there();
        }
        let old = mem::replace(&mut self.seen, snapshot.clone());
        // Sending wakes the receivers' wakers. One that panics must harm neither the task nor the other observers.
        catch_unwind(AssertUnwindSafe(|| self.audience.show(&old, snapshot, interval))).unwrap_or(true)
    }
}

/// A new receiver of the task's snapshots, which starts with the current one.
pub(crate) fn subscribe(core: &Core) -> Receiver<ProgressState> {
    let (sender, receiver) = async_channel::bounded(1);
    admit(core, Box::new(sender.clone()), |seen| {
        // Neither full nor closed: nobody else has it yet.
        let _ = sender.try_send(seen.clone());
    });
    receiver
}

/// Shows every change from now on to `audience`, which has seen what `first` is given.
pub(crate) fn admit(core: &Core, audience: Box<dyn Audience>, first: impl FnOnce(&ProgressState)) {
    let mut report = core.board().lock();
    let is_first = observe(core, &report);
    let seen = core.snapshot_as(core.status(), report.message());
    first(&seen);
    if !seen.status.is_terminal() {
        report.subscribers.push(Subscriber { audience, seen });
    }
    drop(report);
    if is_first {
        core.tell_home();
    }
}

/// Lets the future be woken for every snapshot from now on; returns the current one, and the version to ask after.
pub(crate) fn listen(core: &Core) -> (u64, ProgressState) {
    let mut report = core.board().lock();
    let is_first = observe(core, &report);
    report.future_listens = true;
    let current = (report.version, core.snapshot_as(core.status(), report.message()));
    drop(report);
    if is_first {
        core.tell_home();
    }
    current
}

/// Returns whether nobody observed the task before.
fn observe(core: &Core, report: &Report) -> bool {
    let due = if report.watched { 0 } else { state::REPORT };
    core.state.set(state::OBSERVED | due) & state::OBSERVED == 0
}

/// The newest snapshot that was shown, if it is another one than `version`.
pub(crate) fn newer(core: &Core, version: u64) -> Option<(u64, ProgressState)> {
    let report = core.existing_board()?.lock();
    let latest = report.latest.as_ref().filter(|_| report.version != version)?;
    Some((report.version, latest.clone()))
}

/// The task's side: shows what it has changed, because a report is due.
pub(crate) fn due(task: &TaskRef, reporter: Option<&Arc<Reporter>>) {
    let mut report = task.core.board().lock();
    if report.reporter.is_none() {
        report.reporter = reporter.cloned();
    }
    show(task, report, Instant::now());
}

/// Shows a change of phase, which may come from any thread, unless the reporter is about to.
pub(crate) fn change(task: &TaskRef) {
    if task.core.state.load() & state::OBSERVED == 0 {
        return;
    }
    let report = task.core.board().lock();
    let now = Instant::now();
    let reporter_will = report.watched
        && report
            .reporter
            .as_ref()
            .and_then(|reporter| report.next_turn(reporter.interval))
            .is_some_and(|turn| now < turn);
    if !reporter_will {
        show(task, report, now);
    }
}

fn show(task: &TaskRef, mut report: MutexGuard<'_, Report>, now: Instant) {
    let core = &task.core;
    if report.concluded {
        return;
    }
    let snapshot = core.snapshot_as(core.status(), report.message());
    let is_news = report.publish(snapshot);
    report.shown_at = Some(now);
    if !report.is_observed() {
        core.state.clear(state::OBSERVED | state::REPORT);
    } else if let Some(reporter) = report.reporter.clone() {
        report.watched = report.watched || reporter.watch(task, now);
        if report.watched {
            core.state.clear(state::REPORT);
        }
    }
    let wake = is_news && report.future_listens;
    drop(report);
    if wake {
        core.waiter.wake();
    }
}

/// Shows the last state, and closes every subscription. Whoever sees first that the task has ended does it.
pub(crate) fn conclude(core: &Core) {
    let mut report = core.board().lock();
    if report.concluded {
        return;
    }
    report.concluded = true;
    let snapshot = core.snapshot_as(core.status(), report.message());
    report.publish(snapshot);
    for subscriber in report.subscribers.drain(..) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(subscriber)));
    }
    report.reporter = None;
}

/// Watches tasks that are observed: shows what they have counted since they last reported.
///
/// Each pool has a reporter of its own; executors that are mere closures share one.
pub(crate) struct Reporter {
    interval: Duration,
    agenda: Arc<Agenda<Watched>>,
}

struct Watched {
    task: TaskRef,
    interval: Duration,
}

impl Visit for Watched {
    fn visit(&self, now: Instant) -> Option<Instant> {
        look_after(&self.task, now, self.interval)
    }
}

impl Reporter {
    pub(crate) fn new(interval: Duration) -> Arc<Self> {
        let interval = interval.min(LONGEST_INTERVAL);
        Arc::new(Self { interval, agenda: Agenda::new("progress-report") })
    }

    /// The one for executors without a reporter of their own.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Reporter>> = LazyLock::new(|| Reporter::new(INTERVAL));
        SHARED.clone()
    }

    /// Looks after the task one interval from now. `false` where the task has to do without.
    fn watch(&self, task: &TaskRef, now: Instant) -> bool {
        let interval = self.interval;
        let Some(turn) = now.checked_add(interval).filter(|_| !interval.is_zero()) else { return false };
        self.agenda.add(turn, Watched { task: task.clone(), interval })
    }

    /// Lets its thread go at once, for there will be nothing to watch any more.
    pub(crate) fn close(&self) {
        self.agenda.close();
    }
}

/// The reporter's turn for one task; returns when the next one is, if it is to be watched further.
fn look_after(task: &TaskRef, now: Instant, interval: Duration) -> Option<Instant> {
    let core = &task.core;
    let mut report = core.board().lock();
    if report.concluded || !report.is_observed() {
        report.watched = false;
        return None;
    }
    // The task, or a change of its phase, was shown in between.
    if let Some(turn) = report.next_turn(interval).filter(|&turn| now < turn) {
        return Some(turn);
    }
    let snapshot = core.snapshot_as(core.status(), report.message());
    if report.publish(snapshot) {
        report.shown_at = Some(now);
        core.state.clear(state::REPORT);
        let wake = report.future_listens;
        drop(report);
        if wake {
            core.waiter.wake();
        }
    } else {
        // A task that falls silent is to be known to, from about now on.
        core.probe();
        if core.state.set(state::REPORT) & state::REPORT != 0 {
            report.watched = false;
            return None;
        }
    }
    now.checked_add(interval)
}
