//! Decides what each worker does, without doing anything itself: a state machine without I/O, threads, locks or clocks.
//! It takes events ([`Event`]) and returns actions ([`Action`]), so that a simulation can play through interleavings
//! that no other test could provoke.
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
//!     │ 60 s    60 s, or none  its          a task sent that does     5 s     │ the process has ended
//!     │         has use for it initializer  not begin: 1 s; one       │       ├──────────────────────► gone
//!     │            │           takes what   that does not listen:     │       │
//!     │            ▼           it takes     the grace                 ▼       │
//!     └─► gone   Dying ◄──────────────────────── or its channel is closed ────┘
//!                 1 s, then it is given up
//! ```
//!
//! A worker that stays stopped for 60 s in its initializer is killed.
//!
//! Where a [`Page`] is shared with the worker, a task that has not begun is taken back at once and exactly, and a
//! worker is killed only for the task that it is running. Without a page, a worker is sent one task at a time, so that
//! a kill can hit no other; and a task sent as soon as the previous one has ended counts as begun when it is sent.
//!
//! Long tasks are spread over all workers, short ones over as few as suffice: waking a worker takes longer than running
//! many of them. If they take less time than the program needs to send them, one worker suffices, as a second one would
//! only wait for the program too. That holds only while the worker is seen to make progress: if it has not ended a task
//! within a millisecond, the others are given what is queued.

mod assign;
mod ends;
pub(crate) mod events;
mod looks;
pub(super) mod queries;
mod seats;
pub(crate) mod slot;
mod start_attempts;
mod suspension;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use crate::process::pool::scheduler::events::{
    Action, Effects, Event, KillReason, Order, OutOfTurn, Page, Report, Task, Types, WorkerNumber,
};
use crate::process::pool::scheduler::seats::Seats;
use crate::process::pool::scheduler::slot::{FIRST_LOOK, Phase, Sent, Serving, Settings, Slot};
use crate::process::pool::scheduler::start_attempts::StartAttempts;
use crate::process::protocol::page::Doomed;
use crate::task::state;

/// How often to look at what a worker has begun.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often to check whether somebody has stopped a worker whose task is slow to end.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long a worker may take to end when it is asked to, and a launcher when its worker is gone.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a process may take to end when it is killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest capacity of the effects that is kept for reuse: enough for a worker that has ended all its tasks and is
/// given as many.
const MOST_EFFECTS: usize = 512;

/// How far from its place in the order of ids a queued task is looked for.
const MOST_ASTRAY: usize = 64;

/// The bits of a control word that a worker is told about.
const WANTED: u32 = state::CANCEL | state::PAUSE | state::OBSERVED | state::PROBE | state::CAUSE;

pub(crate) struct Scheduler<K: Types> {
    settings: Settings,
    queue: VecDeque<K::Task>,
    /// How many tasks in the queue have ended.
    dead: usize,
    /// Tasks that were paused when their turn came, or that another thread was ending.
    held: HashMap<u64, K::Task>,
    slots: BTreeMap<WorkerNumber, Slot<K>>,
    /// Number of slots whose worker is or was ready.
    ready: usize,
    /// Workers without a task; the one that had a task most recently is the last.
    idle: Vec<WorkerNumber>,
    deadlines: BTreeSet<(Instant, WorkerNumber)>,
    next_worker: WorkerNumber,
    is_closed: bool,
    is_suspended: bool,
    /// Estimated duration of a task in nanoseconds, rather too long than too short. Kept only where tasks may wait in
    /// workers.
    pace: Option<u64>,
    /// The worker that was given tasks last.
    last_given: Option<WorkerNumber>,
    starts: StartAttempts,
    seats: Seats,
    /// Number of workers that were ready and ended without being asked to.
    lost: u64,
    /// Time of the event that is being handled.
    now: Instant,
    /// Actions decided on and not yet taken.
    effects: Effects<K>,
}

impl<K: Types> Scheduler<K> {
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            queue: VecDeque::new(),
            dead: 0,
            held: HashMap::new(),
            slots: BTreeMap::new(),
            ready: 0,
            idle: Vec::new(),
            deadlines: BTreeSet::new(),
            next_worker: 0,
            is_closed: false,
            is_suspended: false,
            pace: None,
            last_given: None,
            starts: StartAttempts::default(),
            seats: Seats::new(settings.hosts),
            lost: 0,
            now,
            effects: Effects::new(),
        }
    }

    /// When [`Event::Time`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let first = self.deadlines.first().map(|&(at, _)| at);
        // Only relevant while a worker would be started otherwise.
        let start = self.starts.not_before().filter(|_| self.wants_start());
        first.into_iter().chain(start).chain(self.starts.answer_by()).min()
    }

    /// Handles an event, and decides on the [actions](Self::take_effects) that follow from it.
    pub(crate) fn handle(&mut self, event: Event<K>, now: Instant) -> Result<(), OutOfTurn> {
        let is_one_more = matches!(event, Event::Submitted(_)) && self.is_saturated();
        self.note(event, now)?;
        if !is_one_more {
            self.assign_work(now);
        }
        Ok(())
    }

    /// Takes the actions decided on since the last call, in the order in which they must be carried out.
    pub(crate) fn take_effects(&mut self) -> Effects<K> {
        mem::take(&mut self.effects)
    }

    /// Takes back the memory of effects that were carried out, to reuse it.
    pub(crate) fn reuse(&mut self, effects: Effects<K>) {
        if effects.capacity() <= MOST_EFFECTS {
            self.effects = effects;
        }
    }

    /// Assigns tasks as far as there is room, and dismisses workers that are not needed.
    pub(crate) fn assign_work(&mut self, now: Instant) {
        self.now = now;
        self.assign();
        self.dismiss_unwanted();
    }

    /// Like [`handle`](Self::handle), for one of several events: the caller must [assign the work](Self::assign_work)
    /// after the last.
    pub(crate) fn note(&mut self, event: Event<K>, now: Instant) -> Result<(), OutOfTurn> {
        self.now = now;
        match event {
            // It may have ended while it was handed over.
            Event::Submitted(task) if task.has_ended() => self.effects.push(Action::Forget(task)),
            Event::Submitted(task) => self.queue.push_back(task),
            Event::Wanted(task) => self.request(task),
            Event::Dropped(task) => self.forget(task),
            Event::Closed => {
                self.is_closed = true;
                self.resume();
            }
            Event::Suspended => self.suspend(),
            Event::Resumed => self.resume(),
            Event::Prestarted(workers) => self.prestart(workers),
            Event::Started(worker, page) => self.started(worker, page),
            #[cfg(feature = "cluster")]
            Event::Launched(worker) => self.answered(worker),
            Event::NotStarted(worker, failure) => self.not_started(worker, failure),
            Event::Greeted(worker) => self.greeted(worker)?,
            Event::Ready(worker, expires) => self.ready(worker, expires)?,
            Event::Unfit(worker, failure) => {
                self.dismiss(worker, KILL_TIMEOUT);
                self.start_failed(worker, failure);
            }
            Event::Begun(worker, task) => {
                self.first(worker, task)?;
                self.begin(worker);
            }
            Event::Progress(worker, task, report) => self.progress(worker, task, report)?,
            Event::Items(worker, task, ended) => {
                let task = self.first(worker, task)?.task.clone();
                self.begin(worker);
                self.effects.push(Action::Deliver(task, ended));
            }
            Event::Ended(worker, task, took, outcome) => self.ended(worker, task, took, outcome)?,
            Event::Looked(worker) => self.looked(worker),
            Event::StopChecked(worker, is_stopped) => self.note_stop_check(worker, is_stopped),
            Event::Goodbye(worker) => self.goodbye(worker)?,
            Event::Severed(worker, is_heard) => {
                if !is_heard {
                    self.assume_begun(worker);
                }
                self.sever(worker, is_heard);
            }
            Event::Gone(worker, exit) => self.gone(worker, exit),
            Event::Time => self.pass_time(),
        }
        Ok(())
    }

    // Tasks.

    /// Handles a change of what is requested of a task.
    fn request(&mut self, id: u64) {
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
        if word & state::CANCEL != 0 {
            // So that the task can notice.
            self.let_go_on(worker);
        }
        if word & state::INTERRUPT != 0 && self.recall(worker, index) {
            return;
        }
        self.want(worker, index, word & WANTED);
        self.start_grace(worker);
    }

    fn want(&mut self, worker: WorkerNumber, index: usize, wanted: u32) {
        let Some(sent) = self.slots.get_mut(&worker).and_then(|slot| slot.sent.get_mut(index)) else { return };
        // A worker that was asked to observe a task does so to the end.
        let wanted = wanted | sent.told & (state::OBSERVED | state::ECHO);
        if mem::replace(&mut sent.told, wanted) != wanted {
            self.effects.push(Action::Want(worker, sent.task.id(), wanted));
        }
    }

    /// Takes back a task that was sent, if it has not begun. Returns whether it did.
    fn recall(&mut self, worker: WorkerNumber, index: usize) -> bool {
        let Some(slot) = self.slots.get_mut(&worker) else { return false };
        if index == 0 && slot.has_begun {
            return false;
        }
        if !slot.page.as_ref().is_some_and(|page| page.take_back(slot.sent[index].place)) {
            // It seems to have begun. Look at once, so that its grace period starts.
            if let Some(serving) = slot.serving_mut() {
                serving.look = Some(self.now);
            }
            self.schedule(worker);
            return false;
        }
        if index == 0 {
            // Otherwise a worker that hangs would never be found out if no task waits for it for long.
            let since =
                slot.serving().filter(|_| slot.stopped_since.is_none()).map_or(self.now, |serving| serving.since);
            slot.silent += self.now.saturating_duration_since(since);
        }
        if let Some(sent) = slot.sent.remove(index) {
            self.take_back(sent.task);
        }
        if index == 0 {
            self.next_first(worker);
        }
        true
    }

    /// Takes back all tasks that wait behind the first one of a worker.
    fn recall_behind(&mut self, worker: WorkerNumber) {
        let count = self.slots.get(&worker).map_or(0, |slot| slot.sent.len());
        for index in (1..count).rev() {
            self.recall(worker, index);
        }
    }

    /// Makes a task that was sent and has not begun pending again, or refuses it if it was cancelled meanwhile.
    fn take_back(&mut self, task: K::Task) {
        if task.take_back() { self.effects.push(Action::Refuse(task)) } else { self.put_back(task) }
    }

    /// Puts a task back into the queue, which is in order of submission.
    fn put_back(&mut self, task: K::Task) {
        // If several threads submit tasks, the queue is only roughly in that order.
        let at = self.queue.partition_point(|other| other.id() < task.id());
        self.queue.insert(at, task);
    }

    /// Forgets a task that has ended without a worker. Ended tasks at the front of the queue are removed at once. Those
    /// behind are only emptied; they go many at a time, or are skipped when tasks are assigned.
    fn forget(&mut self, id: u64) {
        if let Some(task) = self.held.remove(&id) {
            self.effects.push(Action::Forget(task));
            return;
        }
        self.dead += 1;
        let mut is_gone = false;
        while self.queue.front().is_some_and(Task::has_ended) {
            let Some(task) = self.queue.pop_front() else { break };
            self.dead = self.dead.saturating_sub(1);
            is_gone |= task.id() == id;
            self.effects.push(Action::Forget(task));
        }
        if self.dead >= 64 && self.dead * 2 >= self.queue.len() {
            self.dead = 0;
            let (dead, alive): (VecDeque<_>, VecDeque<_>) =
                mem::take(&mut self.queue).into_iter().partition(Task::has_ended);
            self.queue = alive;
            self.effects.extend(dead.into_iter().map(Action::Forget));
        } else if !is_gone {
            let queued = self.queued(id).cloned();
            self.effects.extend(queued.map(Action::Forget));
        }
    }

    /// The task with this id, if it is in the queue, near the place that its id suggests.
    fn queued(&self, id: u64) -> Option<&K::Task> {
        let is_it = |task: &&K::Task| task.id() == id;
        let at = self.queue.partition_point(|other| other.id() < id);
        // If several threads submit tasks, the queue is only roughly in the order of the ids.
        let around = at.saturating_sub(MOST_ASTRAY)..self.queue.len().min(at + MOST_ASTRAY);
        self.queue.get(at).filter(is_it).or_else(|| self.queue.range(around).find(is_it))
    }

    // What workers say.

    fn started(&mut self, worker: WorkerNumber, page: K::Page) {
        self.answered(worker);
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        slot.page = Some(page);
        if self.is_suspended {
            self.stop(worker);
        }
    }

    /// Handles the start of a worker, or of its launcher: its time runs from now on. If it comes too late, it is given
    /// up.
    fn answered(&mut self, worker: WorkerNumber) {
        match self.slots.get_mut(&worker) {
            Some(slot) if slot.phase == Phase::Starting => {
                slot.phase = Phase::Greeting { since: self.now, is_slow: false };
                self.schedule(worker);
            }
            Some(_) => {}
            None => self.effects.push(Action::Post(Order::GiveUp(worker))),
        }
        self.starts.be_answered(self.is_starting_any(), self.now);
    }

    fn greeted(&mut self, worker: WorkerNumber) -> Result<(), OutOfTurn> {
        match self.slots.get_mut(&worker).map(|slot| &mut slot.phase) {
            Some(phase @ Phase::Greeting { .. }) => *phase = Phase::preparing(self.now),
            Some(Phase::Leaving { .. } | Phase::Dying { .. }) => {}
            _ => return Err(OutOfTurn),
        }
        self.schedule(worker);
        Ok(())
    }

    fn ready(&mut self, worker: WorkerNumber, expires: Option<Instant>) -> Result<(), OutOfTurn> {
        let slot = self.slots.get_mut(&worker).ok_or(OutOfTurn)?;
        let serving = Phase::Serving(Serving::new(self.now, None));
        match slot.phase {
            Phase::Greeting { .. } | Phase::Preparing { .. } => slot.phase = serving,
            Phase::Leaving { .. } | Phase::Dying { .. } if !slot.was_ready => {}
            _ => return Err(OutOfTurn),
        }
        slot.was_ready = true;
        slot.expires = expires;
        self.ready += 1;
        self.starts.succeed();
        self.seats.succeed(worker);
        self.next_first(worker);
        Ok(())
    }

    /// The first task that was sent to a worker, which it runs or is about to run, if it has this id.
    fn first(&mut self, worker: WorkerNumber, id: u64) -> Result<&mut Sent<K::Task>, OutOfTurn> {
        let slot = self.slots.get_mut(&worker).ok_or(OutOfTurn)?;
        slot.sent.front_mut().filter(|sent| sent.task.id() == id).ok_or(OutOfTurn)
    }

    /// Handles the start of the first task of a worker.
    fn begin(&mut self, worker: WorkerNumber) {
        if !self.note_begun(worker) {
            return;
        }
        let Some(slot) = self.slots.get(&worker) else { return };
        let is_stopped = slot.stopped_since.is_some();
        if let Some(Sent { task, .. }) = slot.sent.front() {
            self.effects.push(Action::Begin(task.clone()));
            self.effects.extend(is_stopped.then(|| Action::Suspend(task.clone())));
        }
        self.start_grace(worker);
    }

    /// The last messages of a worker are unknown. Without a page to look at, it may have begun what it was sent.
    fn assume_begun(&mut self, worker: WorkerNumber) {
        if let Some(slot) = self.slots.get_mut(&worker) {
            slot.has_begun |= slot.page.as_ref().is_some_and(|page| page.places() == 1);
        }
    }

    /// Notes that the first task has begun. Returns whether that is news.
    fn note_begun(&mut self, worker: WorkerNumber) -> bool {
        let Some(slot) = self.slots.get_mut(&worker) else { return false };
        let is_new = !mem::replace(&mut slot.has_begun, true);
        if is_new {
            slot.silent = Duration::ZERO;
            self.starts.note_used();
        }
        is_new
    }

    fn progress(&mut self, worker: WorkerNumber, id: u64, report: K::Report) -> Result<(), OutOfTurn> {
        let sent = self.first(worker, id)?;
        if !report.is_silent() {
            // A probe for the next progress call has to be sent again.
            sent.told &= !state::PROBE;
        }
        let task = sent.task.clone();
        self.begin(worker);
        if report.has_noticed() {
            self.noticed(worker);
        }
        self.effects.push(Action::Show(task, report));
        Ok(())
    }

    fn ended(&mut self, worker: WorkerNumber, id: u64, took: Duration, outcome: K::Outcome) -> Result<(), OutOfTurn> {
        self.first(worker, id)?;
        // No `Action::Begin`: that the task is settled implies that it had begun.
        self.note_begun(worker);
        let Some(slot) = self.slots.get_mut(&worker) else { return Ok(()) };
        slot.done += 1;
        self.effects.extend(slot.sent.pop_front().map(|sent| Action::Settle(sent.task, outcome)));
        self.update_pace(took);
        self.next_first(worker);
        Ok(())
    }

    /// Updates a worker whose first task is another one now, or that has none left.
    fn next_first(&mut self, worker: WorkerNumber) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        slot.has_begun = false;
        if slot.serving().is_none() {
            return;
        }
        let is_idle = slot.sent.is_empty();
        slot.phase = Phase::Serving(Serving::new(self.now, (!is_idle).then_some(self.now + FIRST_LOOK)));
        if is_idle && (slot.done >= self.settings.max_tasks || slot.is_expired(self.now)) {
            return self.dismiss(worker, self.goodbye_timeout());
        }
        if is_idle {
            self.idle.push(worker);
        }
        self.schedule(worker);
        if self.is_suspended {
            self.stop(worker);
        }
    }

    // Cancellation.

    /// How long a worker may take to end when it is asked to: at most a moment longer than the grace period.
    fn goodbye_timeout(&self) -> Duration {
        GOODBYE_TIMEOUT.min(self.settings.cancel_grace.saturating_add(KILL_TIMEOUT))
    }

    /// Bounds the time that the first task of a worker may take to notice its cancellation.
    fn start_grace(&mut self, worker: WorkerNumber) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        let word = slot.sent.front().map_or(0, |sent| sent.task.word());
        // Without shared memory, it is not known whether it has begun.
        let may_run = slot.has_begun || !slot.shares_page();
        if may_run && word & (state::CANCEL | state::NOTICED) == state::CANCEL {
            // A time beyond what an `Instant` can hold never comes.
            let until = self.now.checked_add(self.settings.cancel_grace);
            self.update(worker, |serving| serving.grace = serving.grace.or(until));
        }
    }

    /// Handles the end of the grace period: kills the worker, unless its task has noticed or ended just now.
    fn end_grace(&mut self, worker: WorkerNumber) {
        let now = self.now;
        let Some(slot) = self.slots.get(&worker) else { return };
        let (Some(serving), Some(first), Some(page)) = (slot.serving(), slot.sent.front(), &slot.page) else { return };
        let (reason, time_to_hear) = match page.doom(first.place) {
            Doomed::Noticed => return self.noticed(worker),
            // Its outcome is on its way, unless somebody has stopped the worker.
            Doomed::Ended => (KillReason::Unheard, Some(KILL_TIMEOUT)),
            // The message that it has noticed may have arrived and still be unread, as this program may have stood
            // still.
            Doomed::Yes => (KillReason::IgnoredCancel, (!slot.shares_page()).then_some(FIRST_LOOK)),
        };
        match time_to_hear.filter(|_| !serving.is_last_call) {
            Some(time) => self.update(worker, |serving| {
                (serving.look, serving.is_last_call) = (Some(now), true);
                serving.grace = Some(now + time);
            }),
            None => self.kill(worker, reason),
        }
    }

    // Time.

    fn pass_time(&mut self) {
        let now = self.now;
        if self.starts.answer_by().is_some_and(|by| by <= now) {
            self.abandon_starts();
        }
        while let Some(&(at, worker)) = self.deadlines.first().filter(|&&(at, _)| at <= now) {
            self.deadlines.remove(&(at, worker));
            let Some(slot) = self.slots.get_mut(&worker) else { continue };
            slot.deadline = None;
            match slot.phase {
                Phase::Starting | Phase::Preparing { .. } => self.check_preparing(worker),
                Phase::Greeting { since, .. } if self.settings.is_late(since, now) => {
                    self.kill(worker, KillReason::NotReady);
                }
                Phase::Greeting { since, .. } => {
                    slot.phase = Phase::Greeting { since, is_slow: true };
                    if self.has_queued() {
                        self.effects.push(Action::Post(Order::Warn));
                    }
                }
                Phase::Serving(_) if slot.sent.is_empty() => self.dismiss(worker, self.goodbye_timeout()),
                Phase::Serving(serving) if serving.grace.is_some_and(|grace| grace <= now) => {
                    self.end_grace(worker);
                }
                Phase::Serving(serving) if serving.stop_check.is_some_and(|stop_check| stop_check <= now) => {
                    self.update(worker, |serving| serving.stop_check = Some(now + STOP_CHECK_INTERVAL));
                    self.effects.push(Action::Post(Order::CheckStopped(worker)));
                }
                Phase::Serving(_) => {
                    self.update(worker, |serving| serving.look = Some(now + LOOK_INTERVAL));
                    self.effects.push(Action::Post(Order::Look(worker)));
                }
                Phase::Leaving { .. } => self.kill(worker, KillReason::Unwanted),
                Phase::Dying { reason, .. } => {
                    slot.phase = Phase::Dying { until: now + KILL_TIMEOUT, reason };
                    self.effects.push(Action::Post(Order::GiveUp(worker)));
                }
            }
            self.schedule(worker);
        }
    }

    fn update(&mut self, worker: WorkerNumber, change: impl FnOnce(&mut Serving)) {
        self.slots.get_mut(&worker).and_then(Slot::serving_mut).map(change);
        self.schedule(worker);
    }

    fn schedule(&mut self, worker: WorkerNumber) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        let next = slot.next_deadline(&self.settings);
        let before = mem::replace(&mut slot.deadline, next);
        if before != next {
            before.map(|at| self.deadlines.remove(&(at, worker)));
            next.map(|at| self.deadlines.insert((at, worker)));
        }
    }
}
