//! The one timer of this library: a thread that runs entries when they are due. It ends soon after the last of them is
//! gone.
//!
//! Entries run without the timer's lock, so they may use the timer. If one panics, the others go on. If one is about to
//! wait, perhaps for what the timer does next, another thread [takes over](crate::sync::duty).

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::io;
use std::mem;
use std::num::NonZero;
use std::process;
use std::rc::Rc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sync::duty::{Duty, on_duty};
use crate::sync::unwind::{drop_quietly, quietly};

/// How long the thread stays when there is nothing to wait for.
const LINGER: Duration = Duration::from_millis(200);

/// Something that is due at some time.
pub(crate) trait Timed: Send {
    /// Does it. `due` is when it should have been done, and `now` is the present. Returns when to do it again, if at all.
    fn fire(&mut self, due: Instant, now: Instant) -> Option<Instant>;
}

/// Identifies an entry, to cancel it. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TimerId(NonZero<u64>);

/// The timer of everything in this library.
pub(crate) static TIMER: Timer = Timer::new();

pub(crate) struct Timer {
    schedule: Mutex<Schedule>,
    changed: Condvar,
}

struct Schedule {
    /// In the order in which they are due; the entry that is firing is not among them.
    queue: BTreeSet<(Instant, TimerId)>,
    entries: HashMap<TimerId, Entry, BuildHasherDefault<DefaultHasher>>,
    next: TimerId,
    /// The number of the thread that serves the timer; 0 if there is none.
    thread: u64,
    threads: u64,
    /// When that thread wakes by itself, if it sleeps.
    wakes_at: Option<Instant>,
    /// The process that this thread belongs to; 0 before there was one.
    process: u32,
}

enum Entry {
    Waiting(Instant, Box<dyn Timed>),
    /// When it must fire again at the latest, if it was [hastened](Timer::hasten) meanwhile.
    Firing(Option<Instant>),
}

impl TimerId {
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        NonZero::new(bits).map(Self)
    }

    /// Never 0.
    pub(crate) fn to_bits(self) -> u64 {
        self.0.get()
    }
}

impl Timer {
    const fn new() -> Self {
        let first = TimerId(NonZero::<u64>::MIN);
        let entries = HashMap::with_hasher(BuildHasherDefault::new());
        let queue = BTreeSet::new();
        let schedule = Schedule { queue, entries, next: first, thread: 0, threads: 0, wakes_at: None, process: 0 };
        Self { schedule: Mutex::new(schedule), changed: Condvar::new() }
    }

    /// Schedules `timed` for `due`. Fails if the system could not start the timer's thread.
    pub(crate) fn schedule(&'static self, due: Instant, timed: Box<dyn Timed>) -> io::Result<TimerId> {
        let mut schedule = self.lock();
        schedule.leave_to_parent();
        if schedule.thread == 0 {
            self.start_thread(&mut schedule)?;
        }
        let id = schedule.next;
        schedule.next = TimerId(id.0.saturating_add(1));
        schedule.insert(id, due, timed);
        self.wake_by(due, schedule);
        Ok(id)
    }

    /// Has an entry fire at `due` at the latest; one that is firing now, if it fires again. Returns whether it is there.
    pub(crate) fn hasten(&self, id: TimerId, due: Instant) -> bool {
        let mut schedule = self.lock();
        schedule.leave_to_parent();
        let Schedule { queue, entries, .. } = &mut *schedule;
        match entries.get_mut(&id) {
            None => return false,
            Some(Entry::Firing(latest)) => *latest = Some(latest.map_or(due, |latest| latest.min(due))),
            Some(Entry::Waiting(before, _)) if *before <= due => {}
            Some(Entry::Waiting(before, _)) => {
                queue.remove(&(*before, id));
                queue.insert((due, id));
                *before = due;
                self.wake_by(due, schedule);
            }
        }
        true
    }

    /// Cancels an entry. One that is firing at this moment still finishes, but does not fire again. Returns what the
    /// caller must drop while it holds no lock.
    pub(crate) fn cancel(&self, id: TimerId) -> Option<Box<dyn Timed>> {
        let mut schedule = self.lock();
        match schedule.entries.remove(&id)? {
            Entry::Waiting(due, timed) => {
                schedule.queue.remove(&(due, id));
                if schedule.queue.is_empty() {
                    // Nothing is left to wait for, and the thread leaves.
                    self.wake_by(Instant::now() + LINGER, schedule);
                }
                Some(timed)
            }
            Entry::Firing(_) => None,
        }
    }

    /// Like [`cancel`](Self::cancel), for an entry that may be dropped here, if there is one.
    pub(crate) fn forget(&self, id: Option<TimerId>) {
        drop_quietly(id.and_then(|id| self.cancel(id)));
    }

    /// Wakes the thread if it would sleep for longer than that.
    fn wake_by(&self, time: Instant, schedule: MutexGuard<'_, Schedule>) {
        let is_late = schedule.wakes_at.is_some_and(|at| time < at);
        drop(schedule);
        if is_late {
            // All, as a thread that was replaced may not have left yet.
            self.changed.notify_all();
        }
    }

    /// Starts a thread that replaces the current one, if there is one.
    fn start_thread(&'static self, schedule: &mut Schedule) -> io::Result<()> {
        let number = schedule.threads + 1;
        thread::Builder::new().name("progress-timer".into()).spawn(move || self.work(number))?;
        (schedule.thread, schedule.threads, schedule.wakes_at) = (number, number, None);
        Ok(())
    }

    /// Serves the timer until another thread replaces this one, or nothing was scheduled for [`LINGER`].
    fn work(&'static self, number: u64) {
        let mut schedule = self.lock();
        let (mut idle_since, duty) = (None, Rc::new(Thread(self, number)));
        while schedule.thread == number {
            let now = Instant::now();
            let wait = match schedule.queue.first().copied() {
                Some((due, id)) if due <= now => {
                    idle_since = None;
                    schedule = self.fire(schedule, (id, now), &duty);
                    continue;
                }
                Some((due, _)) => {
                    idle_since = None;
                    due - now
                }
                // An entry that fires on another thread may be due again.
                None if !schedule.entries.is_empty() => LINGER,
                None => match LINGER.checked_sub(now - *idle_since.get_or_insert(now)) {
                    Some(left) if !left.is_zero() => left,
                    _ => {
                        schedule.thread = 0;
                        break;
                    }
                },
            };
            schedule.wakes_at = now.checked_add(wait);
            schedule = self.changed.wait_timeout(schedule, wait).unwrap_or_else(PoisonError::into_inner).0;
            if schedule.thread == number {
                schedule.wakes_at = None;
            }
        }
    }

    /// Fires the first entry of the queue, without the lock.
    fn fire(
        &'static self,
        mut schedule: MutexGuard<'static, Schedule>,
        (id, now): (TimerId, Instant),
        duty: &Rc<Thread>,
    ) -> MutexGuard<'static, Schedule> {
        schedule.queue.pop_first();
        let entry = schedule.entries.get_mut(&id).map(|entry| mem::replace(entry, Entry::Firing(None)));
        let Some(Entry::Waiting(due, mut timed)) = entry else { return schedule };
        drop(schedule);
        let mut next = None;
        on_duty(duty.clone(), || next = quietly(|| timed.fire(due, now)).flatten());
        let mut schedule = self.lock();
        // It is gone if it was cancelled meanwhile.
        let entry = schedule.entries.remove(&id);
        match next.zip(entry) {
            Some((next, entry)) => {
                let latest = if let Entry::Firing(latest) = entry { latest } else { None };
                let due = latest.map_or(next, |latest| next.min(latest));
                schedule.insert(id, due, timed);
                // Another thread may have taken over, and be waiting for something later.
                self.wake_by(due, schedule);
                schedule = self.lock();
            }
            None => {
                drop(schedule);
                on_duty(duty.clone(), || drop_quietly(timed));
                schedule = self.lock();
            }
        }
        schedule
    }

    /// Whether an entry is firing right now.
    #[cfg(test)]
    pub(crate) fn is_firing(&self, id: TimerId) -> bool {
        matches!(self.lock().entries.get(&id), Some(Entry::Firing(_)))
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty of the timer thread with this number.
struct Thread(&'static Timer, u64);

impl Duty for Thread {
    fn hand_over(&self) {
        let Self(timer, number) = self;
        let mut schedule = timer.lock();
        if schedule.thread == *number {
            // If the system has no thread for it, this one goes on once it has waited.
            let _ = timer.start_thread(&mut schedule);
        }
    }
}

impl Schedule {
    /// In a forked process, what was scheduled before belongs to the parent, and so does the thread.
    fn leave_to_parent(&mut self) {
        let process = process::id();
        if mem::replace(&mut self.process, process) != process {
            self.thread = 0;
            self.queue.clear();
            // Not dropped: that would run code of the user.
            mem::forget(mem::take(&mut self.entries));
        }
    }

    fn insert(&mut self, id: TimerId, due: Instant, timed: Box<dyn Timed>) {
        self.queue.insert((due, id));
        self.entries.insert(id, Entry::Waiting(due, timed));
    }
}

#[cfg(test)]
mod tests {
    use super::{TIMER, Timed};
    use std::panic::panic_any;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::{Duration, Instant};

    /// Panics when it is dropped, with another one as the payload.
    struct Explosive(u32);

    impl Drop for Explosive {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Explosive(self.0 - 1));
            }
        }
    }

    struct Panicking {
        is_due: Sender<()>,
        _dropped: Explosive,
    }

    impl Timed for Panicking {
        fn fire(&mut self, _due: Instant, _now: Instant) -> Option<Instant> {
            let _ = self.is_due.send(());
            panic_any(Explosive(3))
        }
    }

    struct Counting(u32, Sender<u32>);

    impl Timed for Counting {
        fn fire(&mut self, _due: Instant, now: Instant) -> Option<Instant> {
            self.0 += 1;
            self.1.send(self.0).ok().map(|()| now)
        }
    }

    const DEADLINE: Duration = Duration::from_secs(60);

    #[test]
    fn an_entry_that_panics_ends_nothing_else() {
        let (count, counted) = channel();
        let counting = TIMER.schedule(Instant::now(), Box::new(Counting(0, count))).unwrap();
        for _ in 0..3 {
            let (is_due, due) = channel();
            let panicking = Panicking { is_due, _dropped: Explosive(3) };
            assert!(TIMER.schedule(Instant::now(), Box::new(panicking)).is_ok());
            due.recv_timeout(DEADLINE).unwrap();
            let so_far = counted.try_iter().last().unwrap_or_default();
            assert!(counted.recv_timeout(DEADLINE).unwrap() > so_far);
        }
        // What fires right now goes on until it is over.
        let _ = TIMER.cancel(counting);
        while counted.recv_timeout(DEADLINE).is_ok() {}
    }

    /// Tells when it has fired, and is due again when it is told.
    struct Told(Sender<Instant>, Receiver<Instant>);

    impl Timed for Told {
        fn fire(&mut self, due: Instant, _now: Instant) -> Option<Instant> {
            self.0.send(due).ok()?;
            self.1.recv_timeout(DEADLINE).ok()
        }
    }

    #[test]
    fn an_entry_can_be_hastened_while_it_waits_and_while_it_fires() {
        let (fired, has_fired) = channel();
        let (next, is_next) = channel();
        let (now, far) = (Instant::now(), Instant::now() + 60 * DEADLINE);
        let id = TIMER.schedule(far, Box::new(Told(fired, is_next))).unwrap();
        assert!(TIMER.hasten(id, now));
        assert_eq!(has_fired.recv_timeout(DEADLINE), Ok(now));
        assert!(TIMER.hasten(id, now + Duration::from_millis(2)) && TIMER.hasten(id, now + Duration::from_millis(1)));
        next.send(far).unwrap();
        assert_eq!(has_fired.recv_timeout(DEADLINE), Ok(now + Duration::from_millis(1)));
        let _ = TIMER.cancel(id);
        drop(next);
        assert!(!TIMER.hasten(id, now));
    }
}
