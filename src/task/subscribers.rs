//! The subscribers of a task or of a group, and what each has been shown: plain data, under a lock of its owner.
//!
//! Showing takes two steps. First, a new snapshot is *stored* under the lock, so that each subscriber gets snapshots in
//! order; each has room for one, which a newer one replaces. Then those for which one was stored are *notified*,
//! without the lock: that runs foreign code, mostly wakers, which may call back into the task.
//!
//! Deliberately absent: a queue of snapshots. Lines that a task prints are queued, up to a [bound](super::lines).

use std::mem;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};

use crate::progress::ProgressState;
use crate::sync::timer::TimerId;
use crate::sync::unwind::{drop_quietly, quietly};
use crate::sync::waiter::Waiter;
use crate::task::lines::{Feed, Line};

/// The time between two snapshots, unless set otherwise.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_millis(20);

/// Practically for ever, yet short enough to be added to the present.
const LONGEST_INTERVAL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The end of an interval that begins at `moment`, and may be longer than an `Instant` can express.
pub(crate) fn after(moment: Instant, interval: Duration) -> Instant {
    moment + interval.min(LONGEST_INTERVAL)
}

/// A state that is shown as it changes.
pub(crate) trait Snapshot: Clone + Send + 'static {
    /// Whether this shows anything that `earlier` does not, time aside.
    fn says_more_than(&self, earlier: &Self) -> bool;
}

impl Snapshot for ProgressState {
    fn says_more_than(&self, earlier: &Self) -> bool {
        self.n != earlier.n
            || self.total != earlier.total
            || self.part != earlier.part
            || self.status != earlier.status
            || self.message != earlier.message
            || self.parts != earlier.parts
            || self.ended_items != earlier.ended_items
    }
}

/// Something that is shown snapshots.
pub(crate) trait Subscriber<S>: Send + Sync {
    /// Stores `new`, which comes after `old`. `interval` is the time between two snapshots, if there is one.
    ///
    /// Called with a lock held that the task needs: it must neither wait nor call foreign code.
    fn store(&self, old: &S, new: &S, interval: Option<Duration>);

    /// Whether it has, on its own, seen something other than `shown` since it was shown that: then `shown` is news
    /// again. Called as [`store`](Self::store) is.
    fn has_seen_other_than(&self, _shown: &S) -> bool {
        false
    }

    /// Whether it shows lines. Called as [`store`](Self::store) is.
    fn takes_lines(&self) -> bool {
        false
    }

    /// Stores a line. Called as [`store`](Self::store) is.
    fn say(&self, _line: &Line) {}

    /// The lines that were stored and not shown yet. Called as [`store`](Self::store) is.
    fn waiting_lines(&self) -> Vec<Line> {
        Vec::new()
    }

    /// Wakes whatever waits for what was stored. Called without a lock. `owner` wakes the poller of the observed task
    /// or group.
    fn notify(&self, owner: &Waiter);

    /// Whether anyone is there to see the next one.
    fn is_open(&self) -> bool {
        true
    }
}

/// All subscribers of one task or group.
pub(crate) struct Subscribers<S> {
    list: Vec<Subscription<S>>,
    /// Closed ones are searched for once there are this many.
    crowd: usize,
}

struct Subscription<S> {
    subscriber: Arc<dyn Subscriber<S>>,
    seen: S,
}

/// Subscribers to be [notified](Self::notify) of what was stored for them, and subscribers that are gone, to be
/// dropped: both without a lock.
#[must_use]
pub(crate) struct Notices<S> {
    stored: Vec<Arc<dyn Subscriber<S>>>,
    gone: Vec<Subscription<S>>,
}

/// The least number of subscribers at which closed ones are searched for.
const CROWD: usize = 8;

impl<S> Default for Subscribers<S> {
    fn default() -> Self {
        Self { list: Vec::new(), crowd: CROWD }
    }
}

impl<S: Snapshot> Subscribers<S> {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Adds a subscriber that has seen `seen`.
    pub(crate) fn add(&mut self, subscriber: Arc<dyn Subscriber<S>>, seen: S) -> Notices<S> {
        let mut notices = Notices::NONE;
        // Subscribers that were dropped while nothing changed would never be found otherwise.
        if self.list.len() >= self.crowd {
            self.remove_closed(&mut notices.gone);
            self.crowd = (2 * self.list.len()).max(CROWD);
        }
        self.list.push(Subscription { subscriber, seen });
        notices
    }

    /// Notes that a subscriber has seen `snapshot` on its own. Otherwise, a return to what it was shown before would
    /// not be news to it.
    pub(crate) fn note(&mut self, subscriber: &impl Subscriber<S>, snapshot: &S) {
        let is_it = |one: &&mut Subscription<S>| ptr::addr_eq(Arc::as_ptr(&one.subscriber), subscriber);
        if let Some(subscription) = self.list.iter_mut().find(is_it) {
            subscription.seen = snapshot.clone();
        }
    }

    /// Stores `snapshot` for each subscriber to which it says something new.
    pub(crate) fn store(&mut self, snapshot: &S, interval: Option<Duration>) -> Notices<S> {
        let mut notices = Notices::NONE;
        self.remove_closed(&mut notices.gone);
        for Subscription { subscriber, seen } in &mut self.list {
            if snapshot.says_more_than(seen) || subscriber.has_seen_other_than(snapshot) {
                let old = mem::replace(seen, snapshot.clone());
                subscriber.store(&old, snapshot, interval);
                notices.stored.push(subscriber.clone());
            }
        }
        notices
    }

    /// Stores a line for the subscribers that take lines.
    pub(crate) fn say(&self, line: &Line) -> Notices<S> {
        let subscribers = self.list.iter().map(|subscription| &subscription.subscriber);
        let takers = subscribers.filter(|subscriber| subscriber.takes_lines());
        let stored = takers.inspect(|taker| taker.say(line)).cloned().collect();
        Notices { stored, gone: Vec::new() }
    }

    /// The lines that some subscriber has not shown yet. Each still has the last ones of all, so whoever has most has them all.
    pub(crate) fn waiting_lines(&self) -> Vec<Line> {
        let takers = self.list.iter().filter(|subscription| subscription.subscriber.takes_lines());
        takers.map(|taker| taker.subscriber.waiting_lines()).max_by_key(Vec::len).unwrap_or_default()
    }

    pub(crate) fn take_lines(&self) -> bool {
        self.list.iter().any(|subscription| subscription.subscriber.takes_lines())
    }

    /// [Stores](Self::store) the last snapshot, and removes every subscriber.
    pub(crate) fn conclude(&mut self, snapshot: &S, interval: Option<Duration>) -> Notices<S> {
        let mut notices = self.store(snapshot, interval);
        notices.gone.append(&mut self.list);
        notices
    }

    fn remove_closed(&mut self, gone: &mut Vec<Subscription<S>>) {
        if self.list.iter().any(|subscription| !subscription.subscriber.is_open()) {
            let (open, closed) = mem::take(&mut self.list).into_iter().partition(|one| one.subscriber.is_open());
            self.list = open;
            *gone = closed;
        }
    }
}

impl<S> Notices<S> {
    pub(crate) const NONE: Self = Self { stored: Vec::new(), gone: Vec::new() };

    pub(crate) fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.gone.is_empty()
    }

    /// Notifies every subscriber. A waker that panics harms neither the task nor the others.
    pub(crate) fn notify(self, owner: &Waiter) {
        for subscriber in self.stored {
            let _ = quietly(|| subscriber.notify(owner));
            drop_quietly(subscriber);
        }
        self.gone.into_iter().for_each(drop_quietly);
    }
}

/// The sending end of a channel with room for one.
pub(crate) struct Channel<S> {
    sender: Sender<S>,
    unsent: Mutex<Unsent<S>>,
}

struct Unsent<S> {
    newest: Option<S>,
    /// Whether a thread is sending. It looks again afterwards, so nothing older is sent after something newer.
    is_sending: bool,
}

impl<S> Channel<S> {
    pub(crate) fn new() -> (Arc<Self>, Receiver<S>) {
        let (sender, receiver) = async_channel::bounded(1);
        let unsent = Mutex::new(Unsent { newest: None, is_sending: false });
        (Arc::new(Self { sender, unsent }), receiver)
    }

    /// Sends the first snapshot, before the receiver is handed out. Runs no foreign code.
    pub(crate) fn start_with(&self, first: S) {
        // The channel is neither full nor closed, and has no waker.
        let _ = self.sender.try_send(first);
    }

    fn lock(&self) -> MutexGuard<'_, Unsent<S>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_unsent(&self) -> Option<S> {
        let mut unsent = self.lock();
        if unsent.is_sending {
            return None;
        }
        let newest = unsent.newest.take();
        unsent.is_sending = newest.is_some();
        newest
    }
}

impl<S: Snapshot> Subscriber<S> for Channel<S> {
    fn store(&self, _old: &S, new: &S, _interval: Option<Duration>) {
        self.lock().newest = Some(new.clone());
    }

    fn notify(&self, _owner: &Waiter) {
        while let Some(newest) = self.next_unsent() {
            let _ = quietly(|| self.sender.force_send(newest));
            self.lock().is_sending = false;
        }
    }

    fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

impl<S: Snapshot> Subscriber<S> for Feed<S> {
    fn store(&self, _old: &S, new: &S, _interval: Option<Duration>) {
        self.set(new.clone());
    }

    fn takes_lines(&self) -> bool {
        Feed::takes_lines(self)
    }

    fn say(&self, line: &Line) {
        Feed::say(self, line);
    }

    fn waiting_lines(&self) -> Vec<Line> {
        self.lines()
    }

    fn notify(&self, owner: &Waiter) {
        owner.wake();
    }

    fn is_open(&self) -> bool {
        Feed::is_open(self)
    }
}

/// What enforces the report interval of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Nothing: every change is shown.
    #[default]
    EveryChange,
    /// The timer, which also shows what has changed meanwhile.
    Timer(Duration),
    /// The timer too, but the task's own thread calls the callbacks, in the next progress call.
    TaskThread(Duration),
    /// The process that runs the task: it reports no more often.
    Remote(Duration),
}

impl Pace {
    /// The pace of a task that runs in this process.
    pub(crate) fn of_this_process(interval: Option<Duration>, calls_callbacks: bool) -> Self {
        match interval {
            None => Self::EveryChange,
            Some(interval) if calls_callbacks => Self::TaskThread(interval),
            Some(interval) => Self::Timer(interval),
        }
    }

    /// The report interval, as subscribers know it.
    pub(crate) fn interval(self) -> Option<Duration> {
        match self {
            Self::EveryChange => None,
            Self::Timer(interval) | Self::TaskThread(interval) | Self::Remote(interval) => Some(interval),
        }
    }

    /// The report interval, if this process enforces it.
    pub(crate) fn limit(self) -> Option<Duration> {
        match self {
            Self::EveryChange | Self::Remote(_) => None,
            Self::Timer(interval) | Self::TaskThread(interval) => Some(interval),
        }
    }
}

/// What a task has shown, to whom, and when it will show the next.
#[derive(Default)]
pub(crate) struct Reports {
    pub(crate) subscribers: Subscribers<ProgressState>,
    pub(crate) pace: Pace,
    pub(crate) shown_at: Option<Instant>,
    /// The timer entry that looks at the task at intervals, while it changes.
    pub(crate) watched: Option<TimerId>,
    /// Whether the last state was shown.
    pub(crate) concluded: bool,
    /// How many threads are notifying right now.
    pub(crate) notifying: usize,
}

impl Reports {
    /// When the next snapshot may be shown.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        Some(after(self.shown_at?, self.pace.limit()?))
    }
}

#[cfg(test)]
mod tests {
    use super::{Subscriber, Subscribers};
    use crate::progress::{ProgressState, Status};
    use crate::sync::waiter::Waiter;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    #[derive(Default)]
    struct Stored(Mutex<Vec<Status>>);

    impl Subscriber<ProgressState> for Stored {
        fn store(&self, _old: &ProgressState, new: &ProgressState, _interval: Option<Duration>) {
            self.0.lock().unwrap().push(new.status);
        }

        fn notify(&self, _owner: &Waiter) {}
    }

    fn state(status: Status) -> ProgressState {
        ProgressState { status, ..ProgressState::INITIAL }
    }

    #[test]
    fn what_one_was_shown_is_news_again_after_it_has_seen_something_else_by_itself() {
        let (subscriber, other) = (Arc::new(Stored::default()), Arc::new(Stored::default()));
        let mut subscribers = Subscribers::default();
        let _ = subscribers.add(subscriber.clone(), state(Status::Running));
        let _ = subscribers.add(other.clone(), state(Status::Running));
        let _ = subscribers.store(&state(Status::Paused), None);
        // It went on for a moment that no other subscriber was shown.
        subscribers.note(&*subscriber, &state(Status::Running));
        let _ = subscribers.store(&state(Status::Paused), None);
        assert_eq!(*subscriber.0.lock().unwrap(), [Status::Paused; 2]);
        assert_eq!(*other.0.lock().unwrap(), [Status::Paused]);
    }
}
