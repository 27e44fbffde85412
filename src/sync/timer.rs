//! A thread that looks after things, each when it is due. It is there only while there are such things, and for a moment
//! longer.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the thread stays that has nothing to look after.
const LINGER: Duration = Duration::from_millis(200);

/// Something to look after.
pub(crate) trait Visit: Send + 'static {
    /// Looks after it; returns when to do so again, if at all.
    fn visit(&self, now: Instant) -> Option<Instant>;
}

pub(crate) struct Agenda<T> {
    thread_name: &'static str,
    schedule: Mutex<Schedule<T>>,
    changed: Condvar,
}

struct Schedule<T> {
    /// The number keeps those apart that are due at the same time.
    turns: BTreeMap<(Instant, u64), T>,
    added: u64,
    has_thread: bool,
    closed: bool,
}

impl<T: Visit> Agenda<T> {
    pub(crate) fn new(thread_name: &'static str) -> Arc<Self> {
        let schedule = Schedule { turns: BTreeMap::new(), added: 0, has_thread: false, closed: false };
        Arc::new(Self { thread_name, schedule: Mutex::new(schedule), changed: Condvar::new() })
    }

    /// Visits `item` at that time. `false` where it has to do without.
    pub(crate) fn add(self: &Arc<Self>, turn: Instant, item: T) -> bool {
        let mut schedule = self.lock();
        if schedule.closed || !self.ensure_thread(&mut schedule) {
            return false;
        }
        let is_first = schedule.turns.first_key_value().is_none_or(|(&(first, _), _)| turn < first);
        schedule.insert(turn, item);
        drop(schedule);
        if is_first {
            self.changed.notify_one();
        }
        true
    }

    fn ensure_thread(self: &Arc<Self>, schedule: &mut Schedule<T>) -> bool {
        if !schedule.has_thread {
            let agenda = self.clone();
            let thread = thread::Builder::new().name(self.thread_name.into()).spawn(move || agenda.work());
            schedule.has_thread = thread.is_ok();
        }
        schedule.has_thread
    }

    /// Lets the thread go at once, for there will be nothing to look after any more.
    pub(crate) fn close(&self) {
        let mut schedule = self.lock();
        schedule.closed = true;
        let turns = mem::take(&mut schedule.turns);
        drop(schedule);
        self.changed.notify_one();
        drop(turns);
    }

    fn work(&self) {
        let mut schedule = self.lock();
        let mut idle_since = None;
        while !schedule.closed {
            let now = Instant::now();
            let wait = match schedule.turns.first_entry() {
                Some(turn) if turn.key().0 <= now => {
                    idle_since = None;
                    let item = turn.remove();
                    drop(schedule);
                    let next = item.visit(now);
                    schedule = self.lock();
                    match next {
                        Some(next) => schedule.insert(next, item),
                        None => {
                            drop(schedule);
                            // What it belongs to may end with it.
                            drop(item);
                            schedule = self.lock();
                        }
                    }
                    continue;
                }
                Some(turn) => turn.key().0 - now,
                None => match LINGER.checked_sub(now - *idle_since.get_or_insert(now)) {
                    Some(left) if !left.is_zero() => left,
                    _ => break,
                },
            };
            schedule = self.changed.wait_timeout(schedule, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        schedule.has_thread = false;
    }

    fn lock(&self) -> MutexGuard<'_, Schedule<T>> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Schedule<T> {
    fn insert(&mut self, turn: Instant, item: T) {
        self.added += 1;
        self.turns.insert((turn, self.added), item);
    }
}
