//! Who does what: the tasks that wait, and what each worker was given. Everything here is done under one lock, and
//! nothing here waits, reads, or calls code of the user.
//!
//! ```text
//!  queue ──────────────► sent to a worker ── it has started ──► running ──► ended
//!    ▲  │                     │      ▲                                        ▲
//!    │  ▼                     │      └─ waits inside the worker               │
//!    │ held (it is paused)    │                                               │
//!    └────────────────────────┴─ given back, or the worker is lost: cancelled meanwhile
//! ```

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::codec::Format;
use crate::executor::job::Job;
use crate::id::TaskId;
use crate::process::pool::launch::Failure;
use crate::process::protocol::channel::Line;
use crate::process::protocol::wire;
use crate::process::protocol::wire::{Outcome, Payload, Reply, Request, WireError};
use crate::task::limits::Limits;
use crate::task::remote::RemoteSnapshot;
use crate::task::state::Unclaimed;
use crate::task::transitions;
use crate::task::{TaskRef, state};

/// How much work is kept waiting inside a worker: more would gain nothing, and have to be moved when the worker is lost.
const AHEAD: Duration = Duration::from_millis(1);
/// How many tasks that may be, however short they are.
const MOST_AHEAD: usize = 256;
/// A worker whose task takes longer than this gives those back that wait in it.
const LONG: Duration = Duration::from_millis(2);
/// How long a worker may take to say what it has heard.
const LAST_CALL: Duration = Duration::from_secs(1);
/// How long a worker may take to end that was asked to.
const FAREWELL: Duration = Duration::from_secs(5);
/// A task that was next when so many workers died is not sent to another one.
const STRIKES: u8 = 5;

/// The requests that a worker hears of.
pub(crate) const WANTED: u32 = state::CANCEL | state::PAUSE | state::OBSERVED | state::PROBE | state::CAUSE;

/// A task of the pool.
pub(crate) struct Entry {
    pub(crate) job: Job,
    pub(crate) function: &'static str,
    pub(crate) format: Format,
    /// Until it has started for the last time.
    pub(crate) input: Option<Payload>,
    /// In nanoseconds.
    timeout: u64,
    /// How often it is to be started again, when its worker is lost.
    retries: u32,
    /// What the worker knows that is wanted.
    told: u32,
    /// How many workers died when it was next.
    strikes: u8,
}

impl Entry {
    pub(crate) fn new(job: Job, function: &'static str, format: Format, input: Vec<u8>) -> Self {
        let Limits { timeout, retries, .. } =
            job.task().core.existing_details().map(|board| board.limits).unwrap_or_default();
        let timeout = timeout.and_then(|limit| u64::try_from(limit.as_nanos()).ok()).unwrap_or(wire::NO_TIMEOUT);
        Self { job, function, format, input: Some(input.into()), timeout, retries, told: 0, strikes: 0 }
    }

    fn task(&self) -> &TaskRef {
        self.job.task()
    }

    fn wire_id(&self) -> u64 {
        self.job.id().to_u64()
    }
}

pub(crate) struct Desk {
    max_workers: usize,
    cancel_grace: Duration,
    max_tasks: u64,
    queue: VecDeque<Entry>,
    /// Tasks that were paused when their turn came.
    held: HashMap<TaskId, Entry>,
    seats: Vec<Seat>,
    is_closed: bool,
    /// How many workers in a row could not be started.
    failures: u32,
    /// How long tasks take, at the least estimate that is not too small.
    pace: Option<Duration>,
    /// How many of the queue have ended without being run.
    dead: usize,
}

/// A place for a worker, and for the thread that sees to it.
enum Seat {
    Free,
    /// Its thread is starting a worker.
    Starting,
    Taken(Worker),
}

impl Seat {
    fn worker(&self) -> Option<&Worker> {
        if let Self::Taken(worker) = self { Some(worker) } else { None }
    }

    fn worker_mut(&mut self) -> Option<&mut Worker> {
        if let Self::Taken(worker) = self { Some(worker) } else { None }
    }
}

/// A worker that is ready for tasks.
struct Worker {
    line: Arc<Line>,
    /// In the order in which it runs them.
    sent: VecDeque<Entry>,
    /// When the first of them was started.
    started: Option<Instant>,
    grace: Grace,
    /// Whether those that wait behind its task were recalled.
    has_recalled: bool,
    done: u64,
    idle_since: Instant,
    /// It was asked to end, gets no more tasks, and has until then.
    leaves: Option<Instant>,
    has_said_goodbye: bool,
}

/// How far the patience with a task goes that is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grace {
    None,
    /// The worker was told, and has until then to say that it has heard.
    Told(Instant),
    /// The task was told, and has until then to take notice.
    Until(Instant),
    /// It has not, as far as is known here; the worker was asked, and has until then to answer.
    LastCall(Instant),
    /// It has not, and that is certain.
    Over,
}

/// What is to be done about what a worker said, without the lock and in this order.
pub(crate) enum News {
    /// Its input is not needed any more.
    Begun(TaskRef, Option<Payload>),
    Seen(TaskRef, RemoteSnapshot),
    Ended(Entry, RemoteSnapshot, Outcome),
    /// It was cancelled before it had started.
    Cancelled(Entry),
}

/// What a thread that sees to a worker is to do next.
pub(crate) enum Duty {
    /// Wait for the worker, and at most that long.
    Wait(Option<Duration>),
    /// Ask it to end.
    Dismiss,
    /// Its task takes no notice of its cancellation.
    Kill,
}

/// What is left when a worker is gone.
#[derive(Default)]
pub(crate) struct Estate {
    /// The task that it was running.
    pub(crate) lost: Option<Entry>,
    /// The same, if it is to be started once more.
    pub(crate) retried: Option<TaskRef>,
    /// The tasks that were cancelled before they had started.
    pub(crate) cancelled: Vec<Entry>,
}

/// What has to follow a change, without the lock.
#[derive(Default)]
#[must_use]
pub(crate) struct Aftermath {
    /// Where there is something to be sent.
    pub(crate) lines: Vec<Arc<Line>>,
    /// Threads to be started, each for one of these places.
    pub(crate) threads: Vec<usize>,
    /// Tasks that have ended before.
    pub(crate) dead: Vec<Entry>,
}

impl Duty {
    /// The same, but to wait no longer than until then.
    fn or_until(self, until: Option<Instant>, now: Instant) -> Self {
        match (self, until.map(|until| until.saturating_duration_since(now))) {
            (Self::Wait(Some(wait)), Some(left)) => Self::Wait(Some(wait.min(left))),
            (Self::Wait(None), left) => Self::Wait(left),
            (other, _) => other,
        }
    }
}

impl Desk {
    pub(crate) fn new(max_workers: usize, cancel_grace: Duration, max_tasks: u64) -> Self {
        Self {
            max_workers,
            cancel_grace,
            max_tasks,
            queue: VecDeque::new(),
            held: HashMap::new(),
            seats: Vec::new(),
            is_closed: false,
            failures: 0,
            pace: None,
            dead: 0,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether there is, or may come, something for workers to do.
    pub(crate) fn needs_workers(&self) -> bool {
        !self.is_closed || self.next_function().is_some()
    }

    pub(crate) fn lines(&self) -> Vec<Arc<Line>> {
        self.workers().map(|worker| worker.line.clone()).collect()
    }

    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.seats.iter().filter_map(Seat::worker)
    }

    fn workers_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.seats.iter_mut().filter_map(Seat::worker_mut)
    }

    fn worker_mut(&mut self, place: usize) -> Option<&mut Worker> {
        self.seats.get_mut(place)?.worker_mut()
    }

    /// Whether every task has ended, and every worker.
    pub(crate) fn is_done(&self) -> bool {
        let is_empty = self.seats.iter().all(|seat| matches!(seat, Seat::Free));
        self.is_closed && is_empty && self.held.is_empty() && self.queue.iter().all(has_ended)
    }

    pub(crate) fn unended(&self) -> Vec<TaskRef> {
        let sent = self.workers().flat_map(|worker| &worker.sent);
        let entries = sent.chain(&self.queue).chain(self.held.values());
        let mut tasks: Vec<TaskRef> = entries.map(|entry| entry.task().clone()).collect();
        // The last ones first, or else workers that become free would start them.
        tasks.reverse();
        tasks
    }

    /// How many workers there are, and how many tasks that wait for one.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.workers().count(), self.queue.len())
    }

    // Tasks.

    pub(crate) fn add(&mut self, entry: Entry) -> Aftermath {
        self.queue.push_back(entry);
        self.assign()
    }

    /// Looks at what is wanted of a task.
    pub(crate) fn heed(&mut self, task: TaskId) -> Aftermath {
        let is_paused = |entry: &Entry| entry.task().core.state.load() & state::PAUSE != 0;
        match self.held.get(&task).map(is_paused) {
            Some(true) => return Aftermath::default(),
            Some(false) => {
                self.queue.extend(self.held.remove(&task));
                return self.assign();
            }
            None => {}
        }
        let grace = self.cancel_grace;
        for worker in self.workers_mut() {
            let Some(place) = worker.sent.iter().position(|entry| entry.job.id() == task) else { continue };
            let entry = &mut worker.sent[place];
            let wanted = entry.task().core.state.load() & WANTED;
            if wanted == entry.told {
                break;
            }
            entry.told = wanted;
            worker.line.outbox().request(Request::Want { id: task.to_u64(), wanted });
            if place == 0 {
                worker.start_grace(grace);
            }
            return Aftermath { lines: vec![worker.line.clone()], ..Aftermath::default() };
        }
        Aftermath::default()
    }

    /// Forgets a task that has ended without being run.
    pub(crate) fn forget(&mut self, task: TaskId) -> Vec<Entry> {
        if let Some(entry) = self.held.remove(&task) {
            return vec![entry];
        }
        self.dead += 1;
        if self.dead < 64 || self.dead * 2 < self.queue.len() {
            return Vec::new();
        }
        self.dead = 0;
        let (dead, alive) = self.queue.drain(..).partition(has_ended);
        self.queue = alive;
        Vec::from(dead)
    }

    /// Gives every task to a worker for which there is one, or will be.
    pub(crate) fn assign(&mut self) -> Aftermath {
        let mut aftermath = Aftermath::default();
        if self.queue.is_empty() {
            return aftermath;
        }
        for place in 0..self.seats.len() {
            if self.seats[place].worker().is_some_and(Worker::is_idle) {
                self.give(place, 1, &mut aftermath);
            }
        }
        if self.queue.len() > self.starting() {
            self.give_ahead(&mut aftermath);
        }
        while self.queue.len() > self.starting() {
            let Some(place) = self.take_seat() else { break };
            aftermath.threads.push(place);
        }
        aftermath
    }

    fn starting(&self) -> usize {
        self.seats.iter().filter(|seat| matches!(seat, Seat::Starting)).count()
    }

    fn take_seat(&mut self) -> Option<usize> {
        let free = self.seats.iter().position(|seat| matches!(seat, Seat::Free));
        let place = free.or_else(|| {
            let has_room = self.seats.len() < self.max_workers;
            has_room.then(|| {
                self.seats.push(Seat::Free);
                self.seats.len() - 1
            })
        })?;
        self.seats[place] = Seat::Starting;
        Some(place)
    }

    /// Gives tasks to workers that are busy, for them to have something to do at once when they have done that.
    fn give_ahead(&mut self, aftermath: &mut Aftermath) {
        let ahead = self.pace.map_or(0, |pace| (AHEAD.as_nanos() / pace.as_nanos().max(1)) as usize).min(MOST_AHEAD);
        if ahead < 2 {
            return;
        }
        let ready = self.workers().count().max(1);
        let share = self.queue.len().div_ceil(ready);
        for place in 0..self.seats.len() {
            let Some(worker) = self.seats[place].worker() else { continue };
            // In one go, when half of it is done.
            if worker.sent.len() <= ahead / 2 && !worker.is_delayed() {
                let count = (ahead - worker.sent.len()).min(share);
                self.give(place, count, aftermath);
            }
        }
    }

    fn give(&mut self, place: usize, count: usize, aftermath: &mut Aftermath) {
        let Some(worker) = self.seats[place].worker_mut().filter(|worker| worker.leaves.is_none()) else { return };
        let mut given = 0;
        while given < count && worker.done + (worker.sent.len() as u64) < self.max_tasks {
            let Some(mut entry) = self.queue.pop_front() else { break };
            match entry.task().core.state.lend() {
                Ok(word) => {
                    entry.told = word & WANTED;
                    let (id, timeout) = (entry.wire_id(), entry.timeout);
                    let input = entry.input.get_or_insert_default();
                    worker.line.outbox().run(id, entry.told, timeout, entry.function, entry.format, input);
                    worker.sent.push_back(entry);
                    given += 1;
                }
                Err(Unclaimed::Paused) => {
                    self.held.insert(entry.job.id(), entry);
                }
                Err(Unclaimed::Taken) => aftermath.dead.push(entry),
            }
        }
        if given > 0 {
            if worker.started.is_some() {
                // Its thread has to see to it that they do not wait for long.
                worker.line.ring();
            }
            aftermath.lines.push(worker.line.clone());
        }
    }

    // Workers.

    /// The function of the task that a worker would be started for.
    pub(crate) fn next_function(&self) -> Option<&'static str> {
        self.queue.iter().find(|entry| !has_ended(entry)).map(|entry| entry.function)
    }

    /// The same for a thread without a worker; `None` where it has nothing to do any more, and is to end.
    pub(crate) fn next_start(&mut self, place: usize) -> Option<&'static str> {
        self.seats[place] = Seat::Starting;
        let starting = self.starting();
        // There is one task at least for each thread that is about to start a worker.
        let is_wanted = self.queue.iter().filter(|entry| !has_ended(entry)).take(starting).count() == starting;
        let function = self.next_function().filter(|_| is_wanted);
        if function.is_none() {
            self.seats[place] = Seat::Free;
        }
        function
    }

    pub(crate) fn vacate(&mut self, place: usize) {
        self.seats[place] = Seat::Free;
    }

    pub(crate) fn admit(&mut self, place: usize, line: Arc<Line>) -> Aftermath {
        self.failures = 0;
        self.seats[place] = Seat::Taken(Worker {
            line,
            sent: VecDeque::new(),
            started: None,
            grace: Grace::None,
            has_recalled: false,
            done: 0,
            idle_since: Instant::now(),
            leaves: None,
            has_said_goodbye: false,
        });
        self.assign()
    }

    /// A worker could not be started. Returns the tasks that will do without.
    pub(crate) fn fail(&mut self, attempts: u32, failure: &Failure) -> Vec<Entry> {
        self.failures += 1;
        let is_hopeless = attempts >= failure.worth_attempts && self.workers().next().is_none();
        if is_hopeless { self.queue.drain(..).collect() } else { Vec::new() }
    }

    /// How long to wait before the next attempt to start a worker.
    pub(crate) fn back_off(&self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            failures => Duration::from_millis(10 << failures.min(7)).min(Duration::from_secs(1)),
        }
    }

    /// What the thread that sees to this worker is to do.
    pub(crate) fn duty(&mut self, place: usize, now: Instant, idle_timeout: Option<Duration>) -> Duty {
        let nothing_follows = self.is_closed && self.held.is_empty() && self.queue.iter().all(has_ended);
        let max_tasks = self.max_tasks;
        let Some(worker) = self.worker_mut(place) else { return Duty::Wait(None) };
        let left = |until: Instant| until.saturating_duration_since(now);
        if let Some(until) = worker.leaves {
            return if now < until { Duty::Wait(Some(left(until))) } else { Duty::Kill };
        }
        if !worker.sent.is_empty() {
            return worker.see_to_grace(now).or_until(worker.see_to_those_behind(now), now);
        }
        // A time that cannot be told never comes.
        let idle_until = idle_timeout.and_then(|timeout| worker.idle_since.checked_add(timeout));
        let is_idle_for_long = idle_until.is_some_and(|until| now >= until);
        if nothing_follows || worker.done >= max_tasks || is_idle_for_long {
            worker.leaves = Some(now + FAREWELL);
            return Duty::Dismiss;
        }
        Duty::Wait(idle_until.map(left))
    }

    /// A worker is about to be gone: it gets no more tasks.
    pub(crate) fn give_up(&mut self, place: usize, now: Instant) {
        if let Some(worker) = self.worker_mut(place) {
            worker.leaves = Some(now);
        }
    }

    pub(crate) fn has_said_goodbye(&mut self, place: usize) -> bool {
        self.worker_mut(place).is_some_and(|worker| worker.has_said_goodbye)
    }

    /// Takes in what a worker says.
    pub(crate) fn hear(
        &mut self,
        place: usize,
        reply: Reply,
        now: Instant,
        news: &mut Vec<News>,
    ) -> Result<(), WireError> {
        let grace = self.cancel_grace;
        let Some(worker) = self.seats[place].worker_mut() else { return Ok(()) };
        match reply {
            Reply::Started { id } => {
                let entry = worker.first(id, false).ok_or(WireError::Malformed("Started"))?;
                let input = entry.input.take_if(|_| entry.retries == 0);
                news.push(News::Begun(entry.task().clone(), input));
                worker.started = Some(now);
                worker.start_grace(grace);
            }
            Reply::Progress { id, sight } => {
                let entry = worker.first(id, true).ok_or(WireError::Malformed("Progress"))?;
                let task = entry.task().clone();
                if !sight.is_silent {
                    // Whoever wants to know about the next progress call has to say so again.
                    entry.told &= !state::PROBE;
                }
                worker.note(sight.has_noticed);
                news.push(News::Seen(task, sight));
            }
            Reply::Ended { id, sight, outcome } => {
                worker.first(id, true).ok_or(WireError::Malformed("Ended"))?;
                let duration = Duration::from_nanos(sight.elapsed);
                news.extend(worker.finish(now).map(|entry| News::Ended(entry, sight, outcome)));
                // Long tasks count at once, short ones little by little: to keep tasks waiting is worse than to send
                // them one by one.
                self.pace = Some(self.pace.map_or(duration, |pace| duration.max((7 * pace + duration) / 8)));
            }
            Reply::Heard { id, has_noticed } => {
                if worker.first(id, true).is_some() {
                    worker.answer(has_noticed, grace);
                }
            }
            Reply::Returned { id } => {
                let is_it = |entry: &Entry| entry.wire_id() == id;
                let index = worker.sent.iter().position(is_it).filter(|&index| index > 0 || worker.started.is_none());
                let entry = index.and_then(|index| worker.sent.remove(index));
                let entry = entry.ok_or(WireError::Malformed("Returned"))?;
                news.extend(self.take_back(entry).map(News::Cancelled));
            }
            Reply::Goodbye => worker.has_said_goodbye = true,
            Reply::Ready(_) => return Err(WireError::Malformed("Ready")),
        }
        Ok(())
    }

    /// A task that was sent to a worker, and not started there, is to go elsewhere. Returns it where it was cancelled
    /// meanwhile.
    fn take_back(&mut self, entry: Entry) -> Option<Entry> {
        if entry.task().core.state.take_back() {
            return Some(entry);
        }
        self.put_back(entry);
        None
    }

    /// To the front, and among those that came back in the order in which they were submitted.
    fn put_back(&mut self, entry: Entry) {
        let later = self.queue.iter().position(|other| other.job.id() > entry.job.id());
        self.queue.insert(later.unwrap_or(self.queue.len()), entry);
    }

    /// A task has lost its worker: it is started once more, or is lost itself.
    fn retry(&mut self, mut entry: Entry, estate: &mut Estate) {
        if entry.retries > 0 && transitions::retry(entry.task()) {
            entry.retries -= 1;
            estate.retried = Some(entry.task().clone());
            self.put_back(entry);
        } else {
            estate.lost = Some(entry);
        }
    }

    /// A worker is gone.
    pub(crate) fn remove(&mut self, place: usize) -> Estate {
        let Seat::Taken(mut worker) = mem::replace(&mut self.seats[place], Seat::Starting) else {
            return Estate::default();
        };
        let mut estate = Estate::default();
        if worker.started.is_some() {
            if let Some(entry) = worker.sent.pop_front() {
                self.retry(entry, &mut estate);
            }
        } else if let Some(next) = worker.sent.front_mut() {
            next.strikes += 1;
            if next.strikes >= STRIKES {
                estate.lost = worker.sent.pop_front();
            }
        }
        estate.cancelled = worker.sent.into_iter().filter_map(|entry| self.take_back(entry)).collect();
        estate
    }
}

impl Worker {
    fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.leaves.is_none()
    }

    /// Whether its task takes long, so that nothing should wait behind it.
    fn is_delayed(&self) -> bool {
        self.started.is_some_and(|started| started.elapsed() >= LONG)
    }

    /// The first task, if it is this one and has been started, or not.
    fn first(&mut self, id: u64, has_started: bool) -> Option<&mut Entry> {
        let is_as_expected = self.started.is_some() == has_started;
        self.sent.front_mut().filter(|entry| entry.wire_id() == id && is_as_expected)
    }

    /// Takes away the task that has ended.
    fn finish(&mut self, now: Instant) -> Option<Entry> {
        self.started = None;
        self.grace = Grace::None;
        self.has_recalled = false;
        self.done += 1;
        self.idle_since = now;
        let entry = self.sent.pop_front()?;
        if entry.told & state::CANCEL != 0 {
            self.line.outbox().request(Request::Proceed);
        }
        Some(entry)
    }

    fn start_grace(&mut self, grace: Duration) {
        let is_running = self.started.is_some();
        let Some(entry) = self.sent.front().filter(|_| is_running && self.grace == Grace::None) else { return };
        let word = entry.task().core.state.load();
        if word & state::CANCEL != 0 && word & state::NOTICED == 0 {
            self.grace = after(grace.saturating_add(LAST_CALL), Grace::Told);
        }
    }

    /// Recalls the tasks that wait in this worker, if its own takes long. Returns when to look again.
    fn see_to_those_behind(&mut self, now: Instant) -> Option<Instant> {
        let until = self.started? + LONG;
        if self.sent.len() == 1 || self.has_recalled {
            return None;
        }
        if now < until {
            return Some(until);
        }
        self.has_recalled = true;
        let mut outbox = self.line.outbox();
        for entry in self.sent.iter().skip(1) {
            outbox.request(Request::Recall { id: entry.wire_id() });
        }
        None
    }

    fn note(&mut self, has_noticed: bool) {
        if let Some(entry) = self.sent.front().filter(|_| has_noticed) {
            entry.task().core.notice();
            self.grace = Grace::None;
        }
    }

    fn answer(&mut self, has_noticed: bool, grace: Duration) {
        self.note(has_noticed);
        self.grace = match self.grace {
            Grace::Told(_) => after(grace, Grace::Until),
            Grace::LastCall(_) => Grace::Over,
            other => other,
        };
    }

    fn see_to_grace(&mut self, now: Instant) -> Duty {
        let (until, then) = match self.grace {
            Grace::None => return Duty::Wait(None),
            Grace::Over => return Duty::Kill,
            Grace::Until(until) => (until, Grace::LastCall(now + LAST_CALL)),
            Grace::Told(until) | Grace::LastCall(until) => (until, Grace::Over),
        };
        if now < until {
            return Duty::Wait(Some(until - now));
        }
        self.grace = then;
        if then == Grace::Over {
            return Duty::Kill;
        }
        if let Some(entry) = self.sent.front() {
            self.line.outbox().request(Request::Want { id: entry.wire_id(), wanted: entry.told });
        }
        Duty::Wait(Some(LAST_CALL))
    }
}

/// A time that cannot be told never comes.
fn after(duration: Duration, grace: fn(Instant) -> Grace) -> Grace {
    Instant::now().checked_add(duration).map_or(Grace::None, grace)
}

fn has_ended(entry: &Entry) -> bool {
    entry.job.task().core.has_ended()
}
