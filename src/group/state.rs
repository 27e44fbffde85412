//! What a group or a map knows of its tasks, what it does to all of them, and who is shown their progress.
//!
//! The tally is kept only from the first request for it on. From then on the group subscribes to each task, and each
//! snapshot of a task replaces the one before.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{iter, mem};

use async_channel::Receiver;
use slab::Slab;

use crate::error::CancelCause;
use crate::group::progress::GroupProgress;
use crate::group::report::GroupReport;
use crate::group::report::history::History;
use crate::group::tally::{Tally, Unit};
use crate::progress::ProgressState;
use crate::sync::clock;
use crate::sync::timer::{TIMER, Timed, TimerId};
use crate::sync::waiter::Waiter;
use crate::task::TaskRef;
use crate::task::bulk::Standstill;
use crate::task::core::Core;
#[cfg(feature = "indicatif")]
use crate::task::lines::News;
use crate::task::lines::{Feed, Line};
use crate::task::publish;
use crate::task::record::TaskRecord;
use crate::task::subscribers::{Channel, Notices, REPORT_INTERVAL, Snapshot, Subscriber, Subscribers, after};
use crate::task::transitions;

/// Kept alive by the group and its handles, and by each task that it observes until that task has ended.
pub(crate) struct GroupState {
    /// Lock order: `members` before `inner`.
    members: Mutex<Members>,
    inner: Mutex<Inner>,
    /// Whether the tasks are [known](Self::know) here.
    known: OnceLock<()>,
    /// Whether the tally has been asked for, so that each task is observed.
    kept: OnceLock<()>,
    /// Wakes the poller of the group when there is something for it to see.
    pub(crate) waiter: Waiter,
}

/// The tasks whose outcomes were not handed out (once they are known), what is requested of tasks that are added, and
/// the records of those that have ended.
struct Members {
    tasks: Slab<Member>,
    history: History,
    is_paused: bool,
    /// Whether all tasks were asked to end.
    is_cancelled: bool,
    /// How many items have moved to tasks that were added.
    moved: usize,
    /// Whether tasks that are added must be observed.
    are_observed: bool,
}

struct Member {
    task: TaskRef,
    added_at: u64,
}

/// Kept beside a task until its outcome is handed out.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    added_at: u64,
    /// Its key among the known tasks.
    key: OnceLock<usize>,
}

#[derive(Default)]
struct Inner {
    tally: Tally,
    subscribers: Subscribers<GroupProgress>,
    /// The time between two snapshots, if a task has reported it.
    interval: Option<Duration>,
    shown_at: Option<Instant>,
    /// The timer entry that shows the group at the end of the interval, if something has changed in it.
    due: Option<TimerId>,
    /// Whether no task will be added any more.
    is_closed: bool,
    /// How many threads are notifying subscribers right now.
    notifying: usize,
    /// Whether something of a task has changed that the progress of the group does not include, such as its message; `None` if no
    /// bars show it.
    has_details: Option<bool>,
    /// Whether the poller of the group must be woken for a line, or for such details.
    has_news: bool,
}

/// How many ended tasks a report lists: the latest ones. A map keeps fewer, so that a million inputs take no more
/// memory than a few.
const TASKS_KEPT: usize = 1 << 17;
const INPUTS_KEPT: usize = 10_000;

impl Members {
    fn new(most_kept: usize) -> Self {
        Self {
            tasks: Slab::new(),
            history: History::new(most_kept),
            is_paused: false,
            is_cancelled: false,
            moved: 0,
            are_observed: false,
        }
    }

    fn insert(&mut self, task: TaskRef, entry: &Entry) {
        let key = self.tasks.insert(Member { task, added_at: entry.added_at });
        entry.key.get_or_init(|| key);
    }

    /// The tasks in the order in which they were submitted.
    fn tasks(&self) -> Vec<TaskRef> {
        in_order(self.tasks.iter().map(|(_, member)| member.task.clone()))
    }
}

/// Tasks in the order in which they were submitted.
fn in_order(tasks: impl Iterator<Item = TaskRef>) -> Vec<TaskRef> {
    let mut tasks: Vec<TaskRef> = tasks.collect();
    tasks.sort_unstable_by_key(|task| task.core.id());
    tasks
}

impl Snapshot for GroupProgress {
    fn says_more_than(&self, earlier: &Self) -> bool {
        *self != Self { elapsed: self.elapsed, ..earlier.clone() }
    }
}

impl GroupState {
    pub(crate) fn new(unit: Unit) -> Arc<Self> {
        let most_kept = if let Unit::Inputs(_) = unit { INPUTS_KEPT } else { TASKS_KEPT };
        let state = Self {
            members: Mutex::new(Members::new(most_kept)),
            inner: Mutex::new(Inner { tally: Tally::new(unit), ..Inner::default() }),
            known: OnceLock::new(),
            kept: OnceLock::new(),
            waiter: Waiter::new(),
        };
        if let Unit::Inputs(_) = unit {
            // A map never has many at a time.
            state.know(iter::empty());
        }
        Arc::new(state)
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the tasks known here, and all that are added later.
    ///
    /// Until something is requested of all of them, nothing is done for each: the thread that submits tasks would have to touch
    /// them again, while other threads are at work on them.
    pub(crate) fn know<'a>(&self, tasks: impl Iterator<Item = (TaskRef, &'a Entry)>) {
        self.known.get_or_init(|| {
            let mut members = self.members();
            for (task, entry) in tasks {
                members.insert(task, entry);
            }
        });
    }

    /// Whether the tasks are known here.
    pub(crate) fn knows(&self) -> bool {
        self.known.get().is_some()
    }

    /// Adds the task that `task` returns, with the current time. `moved` is how many of its items have moved to it from a task whose
    /// outcome was handed out.
    pub(crate) fn add(self: &Arc<Self>, task: impl FnOnce() -> TaskRef, moved: usize) -> Entry {
        let entry = Entry { added_at: clock::now(), key: OnceLock::new() };
        if self.knows() {
            self.insert(task(), &entry, moved);
        }
        entry
    }

    fn insert(self: &Arc<Self>, task: TaskRef, entry: &Entry, moved: usize) {
        let mut members = self.members();
        // Under the lock, so that no `resume` comes in between.
        let is_newly_paused = members.is_paused && transitions::request_pause(&task.core);
        let is_observed = members.are_observed;
        members.insert(task.clone(), entry);
        members.moved += moved;
        drop(members);
        if is_newly_paused {
            transitions::tell_paused(&task);
        }
        if is_observed {
            self.observe(&task, moved);
        } else if moved > 0 {
            self.lock().tally.withdraw(moved);
        }
    }

    /// Notes a task whose outcome is handed out.
    pub(crate) fn note_ended(&self, task: &TaskRef, entry: &Entry) {
        let record = TaskRecord::new(task, entry.added_at);
        let mut members = self.members();
        let member = entry.key.get().map(|&key| members.tasks.remove(key));
        let displaced = members.history.add(record);
        if let Some(record) = displaced.filter(|_| !members.are_observed) {
            self.lock().tally.add_ended(&record);
        }
        drop(members);
        drop(member);
    }

    /// A report of what is known of each task.
    pub(crate) fn report(&self) -> GroupReport {
        let members = self.members();
        let history = members.history.clone();
        let mut present = Vec::with_capacity(members.tasks.len());
        for (_, Member { task, added_at }) in &members.tasks {
            present.push(TaskRecord::new(task, *added_at));
        }
        let moved = members.moved;
        let are_abandoned = self.lock().tally.are_moved_abandoned();
        drop(members);
        GroupReport::new(history, present, moved, are_abandoned)
    }

    /// The map is dropped: no items will go on in another task any more.
    pub(crate) fn abandon_moved(&self) {
        self.lock().tally.abandon_moved();
    }

    /// Keeps the tally from now on. Later callers wait until all tasks are in it.
    fn keep(self: &Arc<Self>) {
        self.kept.get_or_init(|| {
            let mut members = self.members();
            members.are_observed = true;
            let mut inner = self.lock();
            members.history.latest().for_each(|record| inner.tally.add_ended(record));
            drop(inner);
            let tasks = members.tasks();
            drop(members);
            for task in tasks {
                self.lock().tally.note_span(task.core.span());
                self.observe(&task, 0);
            }
            self.lock().tally.start_clock();
        });
    }

    /// Asks every task to end that is known here, and these `others`. None of them starts from now on.
    pub(crate) fn cancel(&self, others: impl Iterator<Item = TaskRef>, cause: CancelCause) {
        let standstill = Standstill::begin();
        let mut members = self.members();
        members.is_cancelled = true;
        let tasks = members.tasks().into_iter().rev().chain(others);
        let cancellations = transitions::request_cancel_all(tasks, cause);
        drop(members);
        drop(standstill);
        cancellations.carry_out();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.members().is_cancelled
    }

    /// Makes every task wait, including those that are added later.
    pub(crate) fn pause(&self) {
        self.change(true, transitions::request_pause).iter().for_each(transitions::tell_paused);
    }

    /// Lets every task go on.
    pub(crate) fn resume(&self) {
        self.change(false, transitions::request_resume).iter().for_each(transitions::tell_resumed);
    }

    /// Makes the same request of all tasks under one lock. Returns those that the caller must tell without the lock.
    fn change(&self, is_paused: bool, request: impl Fn(&Core) -> bool) -> Vec<TaskRef> {
        let mut members = self.members();
        members.is_paused = is_paused;
        members.tasks().into_iter().filter(|task| request(&task.core)).collect()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.members().is_paused
    }

    /// Sets how many inputs there are, if that is known.
    pub(crate) fn set_inputs(&self, inputs: Option<u64>) {
        self.lock().tally.set_unit(Unit::Inputs(inputs));
    }

    /// Observes a task from now on, to which this many items have moved.
    fn observe(self: &Arc<Self>, task: &TaskRef, moved: usize) {
        let observed = Arc::new(Observed { group: self.clone(), task: task.clone() });
        publish::admit(task, observed, |state| {
            let tally = &mut self.lock().tally;
            tally.add(task, state);
            tally.withdraw(moved);
        });
        self.publish();
    }

    /// How far the tasks have come, right now.
    pub(crate) fn progress(self: &Arc<Self>) -> GroupProgress {
        self.keep();
        self.lock().tally.progress()
    }

    /// A new receiver of changes.
    pub(crate) fn subscribe(self: &Arc<Self>) -> Receiver<GroupProgress> {
        let (channel, receiver) = Channel::new();
        self.admit(channel.clone(), |seen| channel.start_with(seen.clone()));
        receiver
    }

    /// Shows every change from now on to `subscriber`, which has already seen what `first` is given.
    pub(crate) fn admit(
        self: &Arc<Self>,
        subscriber: Arc<dyn Subscriber<GroupProgress>>,
        first: impl FnOnce(&GroupProgress),
    ) {
        self.keep();
        let mut inner = self.lock();
        let seen = inner.tally.progress();
        first(&seen);
        if inner.is_over() {
            return;
        }
        let notices = inner.subscribers.add(subscriber, seen);
        self.notify(inner, notices);
    }

    /// Like [`admit`](Self::admit), for a feed that the poller of the group reads.
    pub(crate) fn admit_feed(self: &Arc<Self>, feed: &Arc<Feed<GroupProgress>>) {
        // Before the tasks are observed, so that no line that they have printed by then is missed.
        let notices = self.lock().subscribers.add(feed.clone(), GroupProgress::default());
        notices.notify(&self.waiter);
        self.keep();
        self.take_lines_left();
        self.refresh(feed);
        if self.lock().is_over() {
            self.conclude(self.lock());
        }
    }

    /// Shows the lines of tasks that have ended while nothing here took lines, if something takes them now.
    pub(crate) fn take_lines_left(&self) {
        if !self.lock().subscribers.take_lines() {
            return;
        }
        let tasks = self.members().tasks();
        for line in tasks.iter().flat_map(|task| publish::lines_left(&task.core)) {
            let notices = self.lock().subscribers.say(&line);
            notices.notify(&self.waiter);
        }
    }

    /// Puts the current state into a feed that was [admitted](Self::admit) before.
    pub(crate) fn refresh(&self, latest: &Feed<GroupProgress>) {
        // Under the lock, so that nothing older comes after it.
        let mut inner = self.lock();
        let now = inner.tally.progress();
        inner.subscribers.note(latest, &now);
        latest.set(now);
    }

    /// Shows what has changed, or leaves that to the end of the report interval.
    fn publish(self: &Arc<Self>) {
        // Not all tasks are in the tally yet: a subscriber that waits for them is shown all of them afterwards.
        if self.kept.get().is_none() {
            return;
        }
        let now = Instant::now();
        let mut inner = self.lock();
        if inner.is_over() {
            self.conclude(inner);
            return;
        }
        if inner.subscribers.is_empty() || inner.due.is_some() {
            return;
        }
        let interval = inner.interval.unwrap_or(REPORT_INTERVAL);
        if let Some(due) = inner.shown_at.map(|shown| after(shown, interval)).filter(|&due| now < due) {
            inner.due = TIMER.schedule(due, Box::new(Arc::downgrade(self))).ok();
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
        self.notify(inner, notices);
    }

    /// Notifies the subscribers for which something was stored, without the lock.
    fn notify(&self, mut inner: MutexGuard<'_, Inner>, notices: Notices<GroupProgress>) {
        if notices.is_empty() {
            return;
        }
        inner.notifying += 1;
        drop(inner);
        notices.notify(&self.waiter);
        let mut inner = self.lock();
        inner.notifying -= 1;
        let is_over = inner.is_over() && inner.notifying == 0;
        drop(inner);
        if is_over {
            // The poller may be waiting for the last state to be everywhere.
            self.waiter.wake();
        }
    }

    /// Shows the current state, which may be the last: no task will be added. Returns whether all observers have been
    /// shown it.
    pub(crate) fn close(&self) -> bool {
        let mut inner = self.lock();
        inner.is_closed = true;
        if inner.is_over() {
            // Not left to `drop`, as handles may still hold the group.
            self.conclude(inner);
        } else {
            self.show(inner, Instant::now());
        }
        self.lock().notifying == 0
    }

    /// Shows the last state, and drops every subscriber.
    fn conclude(&self, mut inner: MutexGuard<'_, Inner>) {
        let progress = inner.tally.known();
        let notices = inner.subscribers.conclude(&progress, None);
        let due = inner.due.take();
        self.notify(inner, notices);
        TIMER.forget(due);
    }
}

impl Inner {
    /// Whether nothing will change any more.
    fn is_over(&self) -> bool {
        self.is_closed && self.tally.have_all_ended()
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
        // In case the last tasks were not observed.
        self.conclude(self.lock());
    }
}

/// A task that is observed on behalf of its group.
struct Observed {
    group: Arc<GroupState>,
    task: TaskRef,
}

impl Subscriber<ProgressState> for Observed {
    fn store(&self, old: &ProgressState, new: &ProgressState, interval: Option<Duration>) {
        let mut inner = self.group.lock();
        inner.tally.change(&self.task, old, new);
        inner.interval = interval.or(inner.interval);
        // The progress of a map counts its inputs only.
        let has_counted = inner.tally.is_of_inputs() && (old.n, old.total) != (new.n, new.total);
        let has_details = has_counted || old.message != new.message || old.parts != new.parts;
        if inner.has_details == Some(false) && has_details {
            inner.has_details = Some(true);
            inner.has_news = true;
        }
    }

    /// A request for the group's progress looks at each task itself.
    fn has_seen_other_than(&self, shown: &ProgressState) -> bool {
        self.group.lock().tally.has_other_than(&self.task, shown)
    }

    fn takes_lines(&self) -> bool {
        self.group.lock().subscribers.take_lines()
    }

    fn say(&self, line: &Line) {
        let mut inner = self.group.lock();
        inner.has_news |= !inner.subscribers.say(line).is_empty();
    }

    fn notify(&self, _owner: &Waiter) {
        let has_news = mem::take(&mut self.group.lock().has_news);
        if has_news {
            self.group.waiter.wake();
        }
        self.group.publish();
    }
}

/// For bars, which show the tasks themselves.
#[cfg(feature = "indicatif")]
impl GroupState {
    /// A feed of what bars have not shown yet.
    pub(crate) fn feed_bars(self: &Arc<Self>) -> Arc<Feed<GroupProgress>> {
        let feed = Feed::new();
        feed.take_lines();
        self.lock().has_details = Some(false);
        self.admit_feed(&feed);
        feed
    }

    /// The lines that were printed, and whether something else has changed.
    pub(crate) fn take_news(&self, feed: &Feed<GroupProgress>) -> (Vec<Line>, bool) {
        let has_details = self.lock().has_details.replace(false);
        let (mut lines, mut has_changed) = (Vec::new(), has_details == Some(true));
        while let Some(news) = feed.next() {
            match news {
                News::Line(line) => lines.push(line),
                News::Snapshot(_) => has_changed = true,
            }
        }
        (lines, has_changed)
    }

    /// The tasks that have started and not ended, and the progress of all, which is then no news for `feed` any more.
    pub(crate) fn now(&self, feed: &Feed<GroupProgress>) -> (Vec<TaskRef>, GroupProgress) {
        let mut inner = self.lock();
        let progress = inner.tally.progress();
        inner.subscribers.note(feed, &progress);
        (in_order(inner.tally.started().cloned()), progress)
    }

    /// How many tasks there are, or will be, if that is known.
    pub(crate) fn tasks(&self, progress: &GroupProgress) -> u64 {
        self.lock().tally.inputs().unwrap_or(progress.tasks() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::GroupState;
    use crate::group::tally::Unit;
    use crate::task::details::Details;
    use crate::task::subscribers::Pace;
    use crate::task::{TaskRef, idle, publish, state};
    use std::iter;
    use std::sync::Arc;
    use std::time::Instant;

    /// A group of one task that has started.
    fn group_of_one() -> (Arc<GroupState>, TaskRef) {
        let (group, task) = (GroupState::new(Unit::OfTasks), idle::started(Details::default()));
        group.know(iter::empty());
        group.add(|| task.clone(), 0);
        (group, task)
    }

    /// Makes the task wait, and shows that to all observers.
    fn halt(group: &GroupState, task: &TaskRef) {
        task.core.state.set(state::HALTED);
        publish::due(task, Pace::EveryChange);
        group.show(group.lock(), Instant::now());
    }

    #[test]
    fn a_pause_is_shown_again_after_somebody_has_seen_the_task_go_on() {
        let (group, task) = group_of_one();
        let updates = group.subscribe();
        halt(&group, &task);
        // For a moment that no observer is told of.
        task.core.state.clear(state::HALTED);
        assert_eq!(group.progress().running, 1);
        halt(&group, &task);
        assert_eq!(updates.try_recv().unwrap().paused, 1);
    }

    #[cfg(feature = "indicatif")]
    #[test]
    fn bars_are_drawn_anew_after_they_have_shown_the_task_go_on() {
        let (group, task) = group_of_one();
        let feed = group.feed_bars();
        halt(&group, &task);
        assert!(group.take_news(&feed).1);
        task.core.state.clear(state::HALTED);
        assert_eq!(group.now(&feed).1.running, 1);
        halt(&group, &task);
        assert!(group.take_news(&feed).1);
        assert_eq!(group.now(&feed).1.paused, 1);
    }
}
