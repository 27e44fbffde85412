//! Decides who does what, and does nothing: a state machine without I/O, threads, locks or clocks. It is told what has
//! happened ([`Event`]) and says what is to be done ([`Action`]); a simulation plays through what nobody can provoke.
//!
//! A task:
//!
//! ```text
//!  queue ─────────► sent to a worker ─── it has begun ───► running ──► ended
//!   ▲  │                  │                                   │
//!   │  ▼                  │ taken back: it is cancelled or    │ its worker is lost: it has retries,
//!   │ held (paused)       │ paused, or its worker is busy,    │ or is lost as well
//!   └─────────────────────┴ silent, or lost ──────────────────┘
//! ```
//!
//! A worker, and what bounds the time that it may spend in each state:
//!
//! ```text
//!  Starting ──► Greeting ──► Preparing ──► Serving ──────────────► Leaving ──┐
//!     │         60 s, or none  its          a task sent that does     5 s     │ the process has ended
//!     │         has use for it initializer  not begin: 1 s; one       │       ├──────────────────────► gone
//!     │            │           takes what   that does not listen:     │       │
//!     │            ▼           it takes     the grace                 ▼       │
//!     └─► gone   Dying ◄──────────────────────── or its channel is closed ────┘
//!                 1 s, then it is given up
//! ```
//!
//! Where a [`Page`] is shared with the worker, a task that has not begun is taken back at once and exactly, and a worker
//! is killed only for the task that it is running. Without one, a worker is sent one task at a time, so that there is
//! nothing else that a kill could hit.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use crate::task::state::{self, Unclaimed};

/// How much work is kept waiting inside of a worker: more would gain nothing, and have to be moved when it is lost.
const AHEAD: Duration = Duration::from_millis(1);
/// To wake a worker for less work than this costs more than to let one that is awake do it.
const WAKING: Duration = Duration::from_micros(40);
/// When to look what a worker has begun of which nothing was heard. A task that still runs then is long: nothing waits
/// behind it.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// How long a worker may take to begin with a task.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a worker may take to be ready, and after what time that is worth a remark.
pub(crate) const START: Duration = Duration::from_secs(60);
const SLOW_START: Duration = Duration::from_secs(3);
/// How long a worker may take to end that was asked to.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a process may take to end that was killed.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// For how long the system may refuse to start any worker.
const SHORTAGE: Duration = Duration::from_secs(5);
/// After so many workers in a row that were ready, and gone before they had begun with anything, there is no use in
/// another one.
const MOST_FRUITLESS: u32 = 10;

/// The requests that a worker hears of.
pub(crate) const WANTED: u32 = state::CANCEL | state::PAUSE | state::OBSERVED | state::PROBE | state::CAUSE;

/// Numbers workers of a pool; none is used twice.
pub(crate) type WorkerId = u64;

/// What the scheduler handles without looking into it.
pub(crate) trait Types {
    type Task: Task;
    type Page: Page;
    /// What a worker tells of a task that it runs.
    type Report: Report;
    /// How a task ended.
    type Outcome;
    /// How a process ended.
    type Exit;
    type Failure: Failure<Self::Exit>;
}

/// A task, shared with whoever may cancel it at any moment.
pub(crate) trait Task: Clone {
    fn id(&self) -> u64;
    /// Its control word.
    fn word(&self) -> u32;
    /// See [`State::lend`](state::State::lend).
    fn lend(&self) -> Result<u32, Unclaimed>;
    /// See [`State::take_back`](state::State::take_back).
    fn take_back(&self) -> bool;
    /// Makes it pending again after it had begun, heard of or not, if it may be started once more.
    fn retry(&self) -> bool;
}

pub(crate) trait Report {
    fn has_noticed(&self) -> bool;
    /// Whether no progress call was made since somebody asked for the next one.
    fn is_silent(&self) -> bool;
}

/// What is shared with a worker: a place for each task that was sent to it and has not ended.
pub(crate) trait Page {
    /// How many places there are: one where nothing is shared.
    fn places(&self) -> usize;
    /// The place is to hold a task that is about to be sent.
    fn offer(&self, place: u64);
    /// Takes a task back, if it has not begun.
    fn take_back(&self, place: u64) -> bool;
    fn has_begun(&self, place: u64) -> bool;
    /// Keeps a task that runs, and has not noticed that it is to end, from ending, for it is about to be killed.
    fn doom(&self, place: u64) -> Doom;
}

/// What came of dooming a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doom {
    /// It will not end by itself, nor will another one begin.
    Done,
    /// It has noticed that it is to end.
    Noticed,
    /// It has ended, or never begun.
    Ended,
}

/// Why there is no worker.
pub(crate) trait Failure<Exit> {
    /// It was gone before it was ready.
    fn lost(exit: Exit) -> Self;
    /// It was not ready in time.
    fn not_ready() -> Self;
    fn worth(&self) -> Worth;
}

/// Whether there is use in another attempt to start a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// Up to so many in a row.
    Attempts(u32),
    /// The system is short of something, and may have it again in a while.
    Patience,
}

/// What has happened.
pub(crate) enum Event<K: Types> {
    Submitted(K::Task),
    /// Something else is wanted of a task that has not ended.
    Wanted(u64),
    /// A task has ended in another way than through a worker.
    Dropped(u64),
    /// No task is submitted any more.
    Closed,
    Started(WorkerId, K::Page),
    NotStarted(WorkerId, K::Failure),
    /// It has called `init`, and runs its initializer.
    Greeted(WorkerId),
    /// It is ready for its first task.
    Ready(WorkerId),
    /// It has said why it cannot be used.
    Unfit(WorkerId, K::Failure),
    /// It has begun with this task. Heard where there is no page.
    Begun(WorkerId, u64),
    Progress(WorkerId, u64, K::Report),
    Ended(WorkerId, u64, Duration, K::Outcome),
    /// All that it has said by now was heard.
    Looked(WorkerId),
    Goodbye(WorkerId),
    /// Its channel is closed, or makes no sense.
    Severed(WorkerId),
    /// The process is gone, and all that it had said was heard.
    Gone(WorkerId, K::Exit),
    Time,
}

/// What is to be done, in this order.
pub(crate) enum Action<K: Types> {
    /// Start a process, for this task to begin with: an answer is [`Event::Started`] or [`Event::NotStarted`].
    Start(WorkerId, K::Task),
    /// Send a task, of which so much is wanted.
    Send(WorkerId, K::Task, u64, u32),
    /// Send what is wanted of a task.
    Want(WorkerId, u64, u32),
    /// Ask a worker to end.
    Dismiss(WorkerId),
    /// Look at what it has noted, then [`Event::Looked`].
    Look(WorkerId),
    /// End it now, and then [`Event::Gone`].
    Kill(WorkerId),
    /// The same, though its process does not end.
    GiveUp(WorkerId),
    /// Say that a worker does not get ready.
    Remark,
    /// A task has begun.
    Begin(K::Task),
    Show(K::Task, K::Report),
    Settle(K::Task, K::Outcome),
    /// Its worker is lost, and it had begun there, heard of or not.
    Lose(K::Task, K::Exit, Option<KillReason>),
    /// It is to be started again.
    ShowRetry(K::Task),
    /// It was cancelled before it had begun.
    Refuse(K::Task),
    /// There is no worker for these.
    Reject(Vec<K::Task>, K::Failure),
    /// It has ended before, and can be dropped.
    Forget(K::Task),
}

pub(crate) type Effects<K> = Vec<Action<K>>;

/// Why a worker was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// Its task took no notice of its cancellation.
    Unheeded,
    /// It did not begin with what it was sent.
    Silent,
    /// Its channel was closed, or made no sense.
    Severed,
    /// It was not ready in time.
    NotReady,
    /// Nobody wanted it any more.
    Unwanted,
}

/// A worker said something that it cannot mean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfTurn;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) max_workers: usize,
    pub(crate) max_tasks: u64,
    pub(crate) cancel_grace: Duration,
    pub(crate) idle_timeout: Option<Duration>,
}

pub(crate) struct Scheduler<K: Types> {
    settings: Settings,
    queue: VecDeque<K::Task>,
    /// How many of the queue have ended.
    dead: usize,
    /// Tasks that were paused when their turn came.
    held: HashMap<u64, K::Task>,
    slots: BTreeMap<WorkerId, Slot<K>>,
    /// Workers without a task; the last one to have had one is the last.
    idle: Vec<WorkerId>,
    deadlines: BTreeSet<(Instant, WorkerId)>,
    next_worker: WorkerId,
    is_closed: bool,
    /// How long tasks take: the least estimate that is not too small.
    pace: Option<Duration>,
    starts: Starts,
}

/// How the last attempts to start a worker went.
#[derive(Default)]
struct Starts {
    /// How many have failed in a row.
    failed: u32,
    failing_since: Option<Instant>,
    /// How many workers in a row were gone before they had begun with anything.
    fruitless: u32,
    not_before: Option<Instant>,
}

/// A place for a worker, taken from before its start to after its end.
struct Slot<K: Types> {
    phase: Phase,
    page: Option<K::Page>,
    /// In the order in which it runs them.
    sent: VecDeque<Sent<K::Task>>,
    /// The first of them has begun.
    has_begun: bool,
    was_ready: bool,
    /// The number of the next task that is sent.
    place: u64,
    done: u64,
    /// As it is noted among the deadlines.
    deadline: Option<Instant>,
}

struct Sent<T> {
    task: T,
    place: u64,
    /// What the worker knows that is wanted.
    told: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Greeting { until: Instant, is_slow: bool },
    Preparing,
    Serving(Serving),
    Leaving { until: Instant },
    Dying { until: Instant, reason: KillReason },
}

/// What is known of the first task that was sent to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Serving {
    /// When it became the first, or when the worker became idle.
    since: Instant,
    /// It takes long, so that nothing is to wait behind it.
    is_long: bool,
    /// When to look whether it has begun, or still runs.
    look: Option<Instant>,
    /// Until when it may take to notice its cancellation.
    grace: Option<Instant>,
    /// It had ended when the grace was over, so that its outcome is on its way.
    is_last_call: bool,
}

impl Serving {
    fn new(since: Instant, look: Option<Instant>) -> Self {
        Self { since, is_long: false, look, grace: None, is_last_call: false }
    }
}

impl<K: Types> Slot<K> {
    fn new() -> Self {
        Self {
            phase: Phase::Starting,
            page: None,
            sent: VecDeque::new(),
            has_begun: false,
            was_ready: false,
            place: 0,
            done: 0,
            deadline: None,
        }
    }

    fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Greeting { .. } | Phase::Preparing)
    }

    fn serving(&self) -> Option<&Serving> {
        if let Phase::Serving(serving) = &self.phase { Some(serving) } else { None }
    }

    fn serving_mut(&mut self) -> Option<&mut Serving> {
        if let Phase::Serving(serving) = &mut self.phase { Some(serving) } else { None }
    }

    /// How many tasks it may have, where so many are worth it.
    fn room(&self, ahead: usize) -> usize {
        self.page.as_ref().map_or(1, Page::places).min(ahead)
    }

    /// Whether it is to be given more, though it has something to do. In one go, when half of that is done.
    fn takes_more(&self, ahead: usize, max_tasks: u64) -> bool {
        let is_fit = self.serving().is_some_and(|serving| !serving.is_long);
        let room = self.room(ahead);
        let has_room = room > 1 && (1..=room / 2).contains(&self.sent.len());
        is_fit && has_room && self.done + (self.sent.len() as u64) < max_tasks
    }

    fn send(&mut self, worker: WorkerId, task: K::Task, wanted: u32) -> Action<K> {
        let place = self.place;
        self.place += 1;
        if let Some(page) = &self.page {
            page.offer(place);
        }
        self.sent.push_back(Sent { task: task.clone(), place, told: wanted });
        Action::Send(worker, task, place, wanted)
    }

    /// Whether the first task has begun, as far as that can be known here.
    fn has_begun_with(&self, place: u64) -> bool {
        self.has_begun || self.page.as_ref().is_some_and(|page| page.has_begun(place))
    }

    fn next_deadline(&self, idle_timeout: Option<Duration>) -> Option<Instant> {
        match self.phase {
            Phase::Starting | Phase::Preparing => None,
            Phase::Greeting { until, .. } | Phase::Leaving { until } | Phase::Dying { until, .. } => Some(until),
            // A time that cannot be told never comes.
            Phase::Serving(serving) if self.sent.is_empty() => serving.since.checked_add(idle_timeout?),
            Phase::Serving(serving) => serving.look.into_iter().chain(serving.grace).min(),
        }
    }
}

impl<K: Types> Scheduler<K> {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            queue: VecDeque::new(),
            dead: 0,
            held: HashMap::new(),
            slots: BTreeMap::new(),
            idle: Vec::new(),
            deadlines: BTreeSet::new(),
            next_worker: 0,
            is_closed: false,
            pace: None,
            starts: Starts::default(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether every task has ended, and every worker.
    pub(crate) fn is_done(&self) -> bool {
        self.is_closed && self.slots.is_empty() && self.held.is_empty() && !self.has_queued()
    }

    /// When [`Event::Time`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let first = self.deadlines.first().map(|&(at, _)| at);
        // It matters while a worker would be started otherwise.
        let start = self.starts.not_before.filter(|_| self.wants_start());
        first.into_iter().chain(start).min()
    }

    /// How many workers are ready, and how many tasks wait for one.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.slots.values().filter(|slot| slot.serving().is_some()).count(), self.queue.len())
    }

    /// The last ones first, or else workers that become free would begin with them.
    pub(crate) fn unended(&self) -> Vec<K::Task> {
        let sent = self.slots.values().flat_map(|slot| &slot.sent).map(|sent| &sent.task);
        let mut tasks: Vec<K::Task> = sent.chain(&self.queue).chain(self.held.values()).cloned().collect();
        tasks.reverse();
        tasks
    }

    /// Takes in what has happened, and adds what is to be done about it.
    pub(crate) fn handle(&mut self, event: Event<K>, now: Instant, effects: &mut Effects<K>) -> Result<(), OutOfTurn> {
        match event {
            Event::Submitted(task) => self.queue.push_back(task),
            Event::Wanted(task) => self.heed(task, now, effects),
            Event::Dropped(task) => self.forget(task, effects),
            Event::Closed => self.is_closed = true,
            Event::Started(worker, page) => self.started(worker, page, now),
            Event::NotStarted(worker, failure) => {
                self.remove(worker);
                self.start_failed(failure, now, effects);
            }
            Event::Greeted(worker) => self.greeted(worker)?,
            Event::Ready(worker) => self.ready(worker, now, effects)?,
            Event::Unfit(worker, failure) => {
                self.dismiss(worker, now + LAST_MOMENT, effects);
                self.start_failed(failure, now, effects);
            }
            Event::Begun(worker, task) => {
                self.first(worker, task)?;
                self.begin(worker, now, effects);
            }
            Event::Progress(worker, task, report) => self.progress(worker, task, report, now, effects)?,
            Event::Ended(worker, task, took, outcome) => self.ended(worker, task, took, outcome, now, effects)?,
            Event::Looked(worker) => self.looked(worker, now, effects),
            Event::Goodbye(worker) => self.goodbye(worker, now)?,
            Event::Severed(worker) => self.kill(worker, KillReason::Severed, now, effects),
            Event::Gone(worker, exit) => self.gone(worker, exit, now, effects),
            Event::Time => self.pass_time(now, effects),
        }
        self.assign(now, effects);
        self.dismiss_unwanted(now, effects);
        Ok(())
    }

    // Tasks.

    /// Looks at what is wanted of a task.
    fn heed(&mut self, id: u64, now: Instant, effects: &mut Effects<K>) {
        if let Some(task) = self.held.remove(&id) {
            if task.word() & state::PAUSE != 0 {
                self.held.insert(id, task);
            } else {
                self.put_back(task);
            }
            return;
        }
        let place_of = |slot: &Slot<K>| slot.sent.iter().position(|sent| sent.task.id() == id);
        let found = self.slots.iter().find_map(|(&worker, slot)| Some((worker, place_of(slot)?)));
        let Some((worker, index)) = found else { return };
        let word = self.slots[&worker].sent[index].task.word();
        if word & state::INTERRUPT != 0 && self.recall(worker, index, now, effects) {
            return;
        }
        self.want(worker, index, word & WANTED, effects);
        self.start_grace(worker, now);
    }

    fn want(&mut self, worker: WorkerId, index: usize, wanted: u32, effects: &mut Effects<K>) {
        let Some(sent) = self.slots.get_mut(&worker).and_then(|slot| slot.sent.get_mut(index)) else { return };
        // A worker that was asked to observe a task does so to the end.
        let wanted = wanted | sent.told & state::OBSERVED;
        if mem::replace(&mut sent.told, wanted) != wanted {
            effects.push(Action::Want(worker, sent.task.id(), wanted));
        }
    }

    /// Takes a task back that was sent, if it has not begun. Returns whether that is so.
    fn recall(&mut self, worker: WorkerId, index: usize, now: Instant, effects: &mut Effects<K>) -> bool {
        let Some(slot) = self.slots.get_mut(&worker) else { return false };
        if index == 0 && slot.has_begun {
            return false;
        }
        if !slot.page.as_ref().is_some_and(|page| page.take_back(slot.sent[index].place)) {
            // It seems to have begun: to be looked at, so that its grace begins.
            if let Some(serving) = slot.serving_mut() {
                serving.look = Some(now);
            }
            self.schedule(worker);
            return false;
        }
        if let Some(sent) = slot.sent.remove(index) {
            self.take_back(sent.task, effects);
        }
        if index == 0 {
            self.next_first(worker, now, effects);
        }
        true
    }

    /// Takes back all that waits behind the first task of a worker.
    fn recall_behind(&mut self, worker: WorkerId, now: Instant, effects: &mut Effects<K>) {
        let count = self.slots.get(&worker).map_or(0, |slot| slot.sent.len());
        for index in (1..count).rev() {
            self.recall(worker, index, now, effects);
        }
    }

    /// A task that was sent, and has not begun, is pending again, or was cancelled meanwhile.
    fn take_back(&mut self, task: K::Task, effects: &mut Effects<K>) {
        if task.take_back() { effects.push(Action::Refuse(task)) } else { self.put_back(task) }
    }

    /// To the front, and among those that came back in the order in which they were submitted.
    fn put_back(&mut self, task: K::Task) {
        let later = self.queue.iter().position(|other| other.id() > task.id());
        self.queue.insert(later.unwrap_or(self.queue.len()), task);
    }

    /// Forgets a task that has ended without a worker. Those in the queue go many at a time.
    fn forget(&mut self, id: u64, effects: &mut Effects<K>) {
        if let Some(task) = self.held.remove(&id) {
            effects.push(Action::Forget(task));
            return;
        }
        self.dead += 1;
        if self.dead >= 64 && self.dead * 2 >= self.queue.len() {
            self.dead = 0;
            let (dead, alive): (VecDeque<_>, VecDeque<_>) = mem::take(&mut self.queue).into_iter().partition(has_ended);
            self.queue = alive;
            effects.extend(dead.into_iter().map(Action::Forget));
        }
    }

    fn has_queued(&self) -> bool {
        !self.queue.iter().all(has_ended)
    }

    /// Gives tasks to workers, and has as many started as there is work and room for.
    fn assign(&mut self, now: Instant, effects: &mut Effects<K>) {
        if self.queue.is_empty() {
            return;
        }
        self.share_out(now, effects);
        self.give_ahead(now, effects);
        while self.wants_start() && self.starts.not_before.is_none_or(|at| at <= now) {
            let Some(task) = self.queue.iter().find(|task| !has_ended(*task)).cloned() else { return };
            let worker = self.next_worker;
            self.next_worker += 1;
            self.slots.insert(worker, Slot::new());
            effects.push(Action::Start(worker, task));
        }
    }

    fn wants_start(&self) -> bool {
        let starting = self.slots.values().filter(|slot| slot.is_starting()).count();
        let has_room = self.slots.len() < self.settings.max_workers;
        has_room && self.queue.iter().filter(|task| !has_ended(*task)).nth(starting).is_some()
    }

    /// Gives a task to each worker that has none, unless one that is awake will have done it sooner.
    fn share_out(&mut self, now: Instant, effects: &mut Effects<K>) {
        while let Some(&worker) = self.idle.last().filter(|_| !self.queue.is_empty()) {
            let work = self.pace.map_or(WAKING, |pace| pace.saturating_mul(self.queue.len() as u32));
            if work < WAKING
                && self.ahead() >= 2
                && self.slots.values().any(|slot| slot.takes_more(self.ahead(), self.settings.max_tasks))
            {
                return;
            }
            let before = self.queue.len();
            self.give(worker, 1, now, effects);
            if self.queue.len() == before {
                return;
            }
        }
    }

    /// How many tasks may wait in a worker that has one.
    fn ahead(&self) -> usize {
        self.pace.map_or(0, |pace| (AHEAD.as_nanos() / pace.as_nanos().max(1)) as usize)
    }

    /// Gives tasks to workers that are busy, for them to have something to do at once when they have done that.
    fn give_ahead(&mut self, now: Instant, effects: &mut Effects<K>) {
        let (ahead, max_tasks) = (self.ahead(), self.settings.max_tasks);
        if ahead < 2 || self.queue.is_empty() {
            return;
        }
        let takers: Vec<WorkerId> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.takes_more(ahead, max_tasks))
            .map(|(&worker, _)| worker)
            .collect();
        let share = self.queue.len().div_ceil(takers.len().max(1));
        for worker in takers {
            let slot = &self.slots[&worker];
            let room = slot.room(ahead).saturating_sub(slot.sent.len());
            self.give(worker, room.min(share), now, effects);
        }
    }

    fn give(&mut self, worker: WorkerId, count: usize, now: Instant, effects: &mut Effects<K>) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        let was_idle = slot.sent.is_empty();
        let mut given = 0;
        while given < count && slot.done + (slot.sent.len() as u64) < self.settings.max_tasks {
            let Some(task) = self.queue.pop_front() else { break };
            match task.lend() {
                Ok(word) => {
                    effects.push(slot.send(worker, task, word & WANTED));
                    given += 1;
                }
                Err(Unclaimed::Paused) => _ = self.held.insert(task.id(), task),
                Err(Unclaimed::Taken) => {
                    self.dead = self.dead.saturating_sub(1);
                    effects.push(Action::Forget(task));
                }
            }
        }
        if was_idle && given > 0 {
            slot.phase = Phase::Serving(Serving::new(now, Some(now + FIRST_LOOK)));
            self.idle.retain(|&idle| idle != worker);
            self.schedule(worker);
        }
    }

    // What workers say.

    fn started(&mut self, worker: WorkerId, page: K::Page, now: Instant) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        slot.page = Some(page);
        slot.phase = Phase::Greeting { until: now + SLOW_START, is_slow: false };
        self.schedule(worker);
    }

    fn greeted(&mut self, worker: WorkerId) -> Result<(), OutOfTurn> {
        match self.slots.get_mut(&worker).map(|slot| &mut slot.phase) {
            Some(phase @ Phase::Greeting { .. }) => *phase = Phase::Preparing,
            Some(Phase::Leaving { .. } | Phase::Dying { .. }) => {}
            _ => return Err(OutOfTurn),
        }
        self.schedule(worker);
        Ok(())
    }

    fn ready(&mut self, worker: WorkerId, now: Instant, effects: &mut Effects<K>) -> Result<(), OutOfTurn> {
        let slot = self.slots.get_mut(&worker).ok_or(OutOfTurn)?;
        match slot.phase {
            Phase::Greeting { .. } | Phase::Preparing => slot.phase = Phase::Serving(Serving::new(now, None)),
            Phase::Leaving { .. } | Phase::Dying { .. } if !slot.was_ready => {}
            _ => return Err(OutOfTurn),
        }
        slot.was_ready = true;
        self.starts = Starts { fruitless: self.starts.fruitless, ..Starts::default() };
        self.next_first(worker, now, effects);
        Ok(())
    }

    /// The task that this worker runs, or is about to, if it is this one.
    fn first(&mut self, worker: WorkerId, id: u64) -> Result<&mut Sent<K::Task>, OutOfTurn> {
        let slot = self.slots.get_mut(&worker).ok_or(OutOfTurn)?;
        slot.sent.front_mut().filter(|sent| sent.task.id() == id).ok_or(OutOfTurn)
    }

    /// The first task of a worker has begun.
    fn begin(&mut self, worker: WorkerId, now: Instant, effects: &mut Effects<K>) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        if mem::replace(&mut slot.has_begun, true) {
            return;
        }
        self.starts.fruitless = 0;
        effects.extend(slot.sent.front().map(|sent| Action::Begin(sent.task.clone())));
        self.start_grace(worker, now);
    }

    fn progress(
        &mut self,
        worker: WorkerId,
        id: u64,
        report: K::Report,
        now: Instant,
        effects: &mut Effects<K>,
    ) -> Result<(), OutOfTurn> {
        let sent = self.first(worker, id)?;
        if !report.is_silent() {
            // Whoever wants to know about the next progress call has to say so again.
            sent.told &= !state::PROBE;
        }
        let task = sent.task.clone();
        self.begin(worker, now, effects);
        if report.has_noticed() {
            self.end_grace(worker);
        }
        effects.push(Action::Show(task, report));
        Ok(())
    }

    fn ended(
        &mut self,
        worker: WorkerId,
        id: u64,
        took: Duration,
        outcome: K::Outcome,
        now: Instant,
        effects: &mut Effects<K>,
    ) -> Result<(), OutOfTurn> {
        self.first(worker, id)?;
        self.begin(worker, now, effects);
        let Some(slot) = self.slots.get_mut(&worker) else { return Ok(()) };
        slot.done += 1;
        effects.extend(slot.sent.pop_front().map(|sent| Action::Settle(sent.task, outcome)));
        // Long tasks count at once, short ones little by little: to keep tasks waiting is worse than to send them one by
        // one.
        self.pace = Some(self.pace.map_or(took, |pace| took.max((7 * pace + took) / 8)));
        self.next_first(worker, now, effects);
        Ok(())
    }

    /// Another task is the first of those that were sent to a worker, or there is none any more.
    fn next_first(&mut self, worker: WorkerId, now: Instant, effects: &mut Effects<K>) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        slot.has_begun = false;
        if slot.serving().is_none() {
            return;
        }
        let is_idle = slot.sent.is_empty();
        slot.phase = Phase::Serving(Serving::new(now, (!is_idle).then_some(now + FIRST_LOOK)));
        if is_idle && slot.done >= self.settings.max_tasks {
            return self.dismiss(worker, now + FAREWELL, effects);
        }
        if is_idle {
            self.idle.push(worker);
        }
        self.schedule(worker);
    }

    /// All that this worker has said by now was heard.
    fn looked(&mut self, worker: WorkerId, now: Instant, effects: &mut Effects<K>) {
        let Some(slot) = self.slots.get(&worker) else { return };
        let (Some(&serving), Some(first)) = (slot.serving(), slot.sent.front()) else { return };
        let waited = now.saturating_duration_since(serving.since);
        if slot.has_begun_with(first.place) {
            self.begin(worker, now, effects);
            self.see_to_long(worker, now, effects);
        } else if waited >= SILENCE {
            self.see_to_silent(worker, now, effects);
        } else {
            self.update(worker, |serving| serving.look = Some(now + waited.clamp(FIRST_LOOK, SILENCE)));
        }
    }

    /// The task of this worker takes long: nothing waits behind it, and how far it comes is worth to be known.
    fn see_to_long(&mut self, worker: WorkerId, now: Instant, effects: &mut Effects<K>) {
        self.recall_behind(worker, now, effects);
        self.update(worker, |serving| (serving.is_long, serving.look) = (true, None));
        if let Some(word) = self.slots[&worker].sent.front().map(|sent| sent.task.word()) {
            self.want(worker, 0, word & WANTED | state::OBSERVED, effects);
        }
    }

    /// This worker does not begin with what it was sent. That moves on, and the worker is replaced.
    fn see_to_silent(&mut self, worker: WorkerId, now: Instant, effects: &mut Effects<K>) {
        self.recall_behind(worker, now, effects);
        let is_empty = self.recall(worker, 0, now, effects);
        let has_begun =
            self.slots[&worker].sent.front().is_some_and(|sent| self.slots[&worker].has_begun_with(sent.place));
        if is_empty || !has_begun {
            self.kill(worker, KillReason::Silent, now, effects);
        }
    }

    // Cancellation.

    /// Bounds the time that the first task of a worker may take to notice its cancellation.
    fn start_grace(&mut self, worker: WorkerId, now: Instant) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        let word = slot.sent.front().map_or(0, |sent| sent.task.word());
        // Where nothing is shared, nobody knows whether it has begun.
        let may_run = slot.has_begun || slot.room(2) == 1;
        if may_run && word & (state::CANCEL | state::NOTICED) == state::CANCEL {
            // A time that cannot be told never comes.
            let until = now.checked_add(self.settings.cancel_grace);
            self.update(worker, |serving| serving.grace = serving.grace.or(until));
        }
    }

    fn end_grace(&mut self, worker: WorkerId) {
        self.update(worker, |serving| serving.grace = None);
    }

    /// The grace is over: the worker is killed, unless its task has noticed or ended just now.
    fn see_to_unheeded(&mut self, worker: WorkerId, now: Instant, effects: &mut Effects<K>) {
        let Some(slot) = self.slots.get(&worker) else { return };
        let (Some(serving), Some(first), Some(page)) = (slot.serving(), slot.sent.front(), &slot.page) else { return };
        match page.doom(first.place) {
            Doom::Noticed => self.end_grace(worker),
            Doom::Ended if !serving.is_last_call => self.update(worker, |serving| {
                (serving.look, serving.is_last_call) = (Some(now), true);
                serving.grace = Some(now + LAST_MOMENT);
            }),
            Doom::Ended => self.kill(worker, KillReason::Severed, now, effects),
            Doom::Done => self.kill(worker, KillReason::Unheeded, now, effects),
        }
    }

    // The ends of workers.

    fn kill(&mut self, worker: WorkerId, reason: KillReason, now: Instant, effects: &mut Effects<K>) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        match slot.phase {
            Phase::Dying { .. } => return,
            // It is expected to close its channel, and has its time to end.
            Phase::Leaving { .. } if reason == KillReason::Severed => return,
            _ => slot.phase = Phase::Dying { until: now + LAST_MOMENT, reason },
        }
        effects.push(Action::Kill(worker));
        self.retire(worker, now, effects);
    }

    /// Asks a worker that has nothing to do to end.
    fn dismiss(&mut self, worker: WorkerId, until: Instant, effects: &mut Effects<K>) {
        effects.push(Action::Dismiss(worker));
        self.leave(worker, until);
    }

    fn goodbye(&mut self, worker: WorkerId, now: Instant) -> Result<(), OutOfTurn> {
        let is_busy = self.slots.get(&worker).is_some_and(|slot| slot.serving().is_some() && !slot.sent.is_empty());
        if is_busy {
            return Err(OutOfTurn);
        }
        self.leave(worker, now + FAREWELL);
        Ok(())
    }

    fn leave(&mut self, worker: WorkerId, until: Instant) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        if !matches!(slot.phase, Phase::Leaving { .. } | Phase::Dying { .. }) {
            slot.phase = Phase::Leaving { until };
        }
        self.idle.retain(|&idle| idle != worker);
        self.schedule(worker);
    }

    /// A worker gets nothing more, and does not keep what it has not begun.
    fn retire(&mut self, worker: WorkerId, now: Instant, effects: &mut Effects<K>) {
        self.idle.retain(|&idle| idle != worker);
        self.schedule(worker);
        self.recall_behind(worker, now, effects);
    }

    fn gone(&mut self, worker: WorkerId, exit: K::Exit, now: Instant, effects: &mut Effects<K>) {
        let Some(mut slot) = self.remove(worker) else { return };
        let reason = if let Phase::Dying { reason, .. } = slot.phase { Some(reason) } else { None };
        let is_ours = matches!(reason, Some(KillReason::Unwanted | KillReason::NotReady));
        let is_leaving = matches!(slot.phase, Phase::Leaving { .. });
        let first = slot.sent.front().map(|sent| sent.place);
        if first.is_some_and(|place| slot.has_begun_with(place)) {
            let lost = slot.sent.pop_front().map(|sent| sent.task);
            if let Some(task) = lost {
                self.lose(task, exit, reason, effects);
            }
        } else if !slot.was_ready && !is_ours && !is_leaving {
            self.start_failed(K::Failure::lost(exit), now, effects);
        } else if first.is_some() && slot.done == 0 {
            self.see_to_fruitless(exit, now, effects);
        }
        // From the last to the first, so that each finds its place at the front.
        for sent in slot.sent.into_iter().rev() {
            self.take_back(sent.task, effects);
        }
    }

    fn lose(&mut self, task: K::Task, exit: K::Exit, reason: Option<KillReason>, effects: &mut Effects<K>) {
        if task.retry() {
            effects.push(Action::ShowRetry(task.clone()));
            self.put_back(task);
        } else {
            effects.push(Action::Lose(task, exit, reason));
        }
    }

    fn remove(&mut self, worker: WorkerId) -> Option<Slot<K>> {
        let slot = self.slots.remove(&worker)?;
        self.idle.retain(|&idle| idle != worker);
        if let Some(at) = slot.deadline {
            self.deadlines.remove(&(at, worker));
        }
        Some(slot)
    }

    /// A worker was ready, and gone before it had begun with anything.
    fn see_to_fruitless(&mut self, exit: K::Exit, now: Instant, effects: &mut Effects<K>) {
        self.starts.fruitless += 1;
        if self.starts.fruitless < MOST_FRUITLESS {
            self.starts.not_before = Some(now + back_off(self.starts.fruitless));
        } else {
            self.starts.fruitless = 0;
            self.give_up_on_queue(K::Failure::lost(exit), effects);
        }
    }

    /// A worker could not be started. What no other one will run has failed, if there is no use in another attempt.
    fn start_failed(&mut self, failure: K::Failure, now: Instant, effects: &mut Effects<K>) {
        self.starts.failed += 1;
        self.starts.not_before = Some(now + back_off(self.starts.failed));
        let since = *self.starts.failing_since.get_or_insert(now);
        let is_hopeless = match failure.worth() {
            Worth::Attempts(attempts) => self.starts.failed >= attempts,
            Worth::Patience => now.saturating_duration_since(since) >= SHORTAGE,
        };
        let others = self.slots.values().any(|slot| slot.is_starting() || slot.serving().is_some());
        if is_hopeless && !others {
            (self.starts.failed, self.starts.failing_since) = (0, None);
            self.give_up_on_queue(failure, effects);
        }
    }

    fn give_up_on_queue(&mut self, failure: K::Failure, effects: &mut Effects<K>) {
        self.dead = 0;
        effects.push(Action::Reject(self.queue.drain(..).collect(), failure));
    }

    /// Lets go of workers that have nothing to do, and will have nothing.
    fn dismiss_unwanted(&mut self, now: Instant, effects: &mut Effects<K>) {
        if self.has_queued() {
            return;
        }
        let is_over = self.is_closed && self.held.is_empty();
        let is_unwanted = |phase| match phase {
            Phase::Greeting { is_slow, .. } => is_slow || is_over,
            phase => is_over && phase == Phase::Preparing,
        };
        let unwanted: Vec<WorkerId> =
            self.slots.iter().filter(|(_, slot)| is_unwanted(slot.phase)).map(|(&worker, _)| worker).collect();
        for worker in unwanted {
            self.kill(worker, KillReason::Unwanted, now, effects);
        }
        while let Some(&worker) = self.idle.last().filter(|_| is_over) {
            self.dismiss(worker, now + FAREWELL, effects);
        }
    }

    // Time.

    fn pass_time(&mut self, now: Instant, effects: &mut Effects<K>) {
        while let Some(&(at, worker)) = self.deadlines.first().filter(|&&(at, _)| at <= now) {
            self.deadlines.remove(&(at, worker));
            let Some(slot) = self.slots.get_mut(&worker) else { continue };
            slot.deadline = None;
            match slot.phase {
                Phase::Starting | Phase::Preparing => {}
                Phase::Greeting { is_slow: false, .. } => {
                    slot.phase = Phase::Greeting { until: now + (START - SLOW_START), is_slow: true };
                    if self.has_queued() {
                        effects.push(Action::Remark);
                    }
                }
                Phase::Greeting { .. } => {
                    self.kill(worker, KillReason::NotReady, now, effects);
                    self.start_failed(K::Failure::not_ready(), now, effects);
                }
                Phase::Serving(_) if slot.sent.is_empty() => self.dismiss(worker, now + FAREWELL, effects),
                Phase::Serving(serving) if serving.grace.is_some_and(|grace| grace <= now) => {
                    self.see_to_unheeded(worker, now, effects);
                }
                Phase::Serving(_) => {
                    self.update(worker, |serving| serving.look = Some(now + SILENCE));
                    effects.push(Action::Look(worker));
                }
                Phase::Leaving { .. } => self.kill(worker, KillReason::Unwanted, now, effects),
                Phase::Dying { reason, .. } => {
                    slot.phase = Phase::Dying { until: now + LAST_MOMENT, reason };
                    effects.push(Action::GiveUp(worker));
                }
            }
            self.schedule(worker);
        }
    }

    fn update(&mut self, worker: WorkerId, change: impl FnOnce(&mut Serving)) {
        self.slots.get_mut(&worker).and_then(Slot::serving_mut).map(change);
        self.schedule(worker);
    }

    fn schedule(&mut self, worker: WorkerId) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        let next = slot.next_deadline(self.settings.idle_timeout);
        let before = mem::replace(&mut slot.deadline, next);
        if before != next {
            before.map(|at| self.deadlines.remove(&(at, worker)));
            next.map(|at| self.deadlines.insert((at, worker)));
        }
    }
}

/// How long to wait before the next attempt, after so many that have failed.
fn back_off(failed: u32) -> Duration {
    Duration::from_millis(10 << failed.min(7)).min(Duration::from_secs(1))
}

fn has_ended<T: Task>(task: &T) -> bool {
    task.word() & state::ENDED != 0
}
