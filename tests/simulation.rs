//! Plays the scheduler of the process pool against simulated workers and a simulated clock. Workers start late or
//! never, on hosts that work or do not, and the system may not answer whether it has started one; they freeze and thaw,
//! die, and say what they cannot mean. Meanwhile tasks are submitted, cancelled, paused, limited and retried, and pools
//! are shut down.
//!
//! `SIMULATION_SEED=7 cargo test --test simulation` repeats one scenario; `SIMULATION_SCENARIOS=1000000` plays that
//! many.

#![allow(dead_code)] // Not every function of the files is part of the simulation.

mod sync {
    pub(crate) mod primitives {
        pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    }
    pub(crate) mod shortage {
        pub(crate) const RETRY_TIME: std::time::Duration = std::time::Duration::from_secs(5);
    }
}
#[path = "../src/task/state.rs"]
mod state;
/// The path under which the scheduler imports `state`.
mod task {
    pub(crate) use crate::state;
}
#[path = "../src/process/protocol/page.rs"]
mod page;
#[path = "../src/process/pool/scheduler/mod.rs"]
mod scheduler;
mod process {
    pub(crate) mod pool {
        pub(crate) use crate::scheduler;
    }
    pub(crate) mod protocol {
        pub(crate) use crate::page;
    }
}

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use page::Doomed;
use scheduler::Scheduler;
use scheduler::events::{
    self, Action, Effects, Event, Failure, KillReason, Page, Report, START, Seat, Task, Types, WorkerNumber, Worth,
};
use scheduler::slot::{FIRST_LOOK, Settings};
use state::{Cancel, State, Unclaimed};

const SCENARIOS: u64 = 10_000;
/// No scenario takes more steps, or more time, unless it goes round in circles.
const MOST_STEPS: usize = 100_000;
const MOST_TIME: Duration = Duration::from_secs(3_600);

/// A random number generator: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    /// Returns a duration of up to `longest`; short ones are as likely as long ones.
    fn time(&mut self, longest: Duration) -> Duration {
        let scale = self.below(longest.as_micros().ilog2().into()) as u32;
        Duration::from_micros(1 + self.below(1 << (scale + 1)))
    }
}

struct Kind;

impl Types for Kind {
    type Task = TaskRef;
    type Page = Rc<SharedPage>;
    type Report = Sight;
    type Outcome = &'static str;
    type Items = ();
    type Exit = &'static str;
    type Failure = NoWorker;
}

struct SimTask {
    id: u64,
    state: State,
    /// How long it runs; `None` if it never ends on its own.
    takes: Option<Duration>,
    /// Whether it makes progress calls.
    listens: bool,
    crashes: bool,
    retries: Cell<u32>,
    /// How many workers have ended before they had begun with it.
    unbegun: Cell<u32>,
    /// How often it was begun, and how often it was made pending again.
    begun: Cell<u32>,
    retried: Cell<u32>,
    /// How often the scheduler assumed that it had begun, because it might have, though it had not.
    assumed: Cell<u32>,
    /// It has noticed that it must end, and the page shows that to the program.
    has_noticed: Cell<bool>,
    is_suspended: Cell<bool>,
    is_limit_due: Cell<bool>,
    outcome: Cell<Option<&'static str>>,
}

impl SimTask {
    /// A task that never ends on its own and makes no progress calls.
    fn new(id: u64) -> Self {
        Self {
            id,
            state: State::new(),
            takes: None,
            listens: false,
            crashes: false,
            retries: Cell::new(0),
            unbegun: Cell::new(0),
            begun: Cell::new(0),
            retried: Cell::new(0),
            assumed: Cell::new(0),
            has_noticed: Cell::new(false),
            is_suspended: Cell::new(false),
            is_limit_due: Cell::new(false),
            outcome: Cell::new(None),
        }
    }
}

#[derive(Clone)]
struct TaskRef(Rc<SimTask>);

impl Task for TaskRef {
    fn id(&self) -> u64 {
        self.0.id
    }
    fn word(&self) -> u32 {
        self.0.state.load()
    }
    fn lend(&self) -> Result<u32, Unclaimed> {
        self.0.state.lend()
    }
    fn take_back(&self) -> bool {
        self.0.state.take_back()
    }
    fn retry(&self) -> bool {
        self.0.state.begin();
        let is_pending = self.0.retries.get() > 0 && self.0.state.retry();
        if is_pending {
            self.0.retries.set(self.0.retries.get() - 1);
            if self.0.begun.get() + self.0.assumed.get() <= self.0.retried.get() {
                self.0.assumed.set(self.0.assumed.get() + 1);
            }
            self.0.retried.set(self.0.retried.get() + 1);
            self.0.is_suspended.set(false);
        }
        is_pending
    }
    fn note_unbegun(&self) -> u32 {
        self.0.unbegun.set(self.0.unbegun.get() + 1);
        self.0.unbegun.get()
    }
}

impl TaskRef {
    fn settle(&self, outcome: &'static str, ending: u32) {
        assert_eq!(self.0.outcome.replace(Some(outcome)), None, "task {} has ended twice", self.0.id);
        self.0.state.settle(ending);
    }

    /// Settles the task when its worker reports its end, or is lost.
    fn settle_run(&self, outcome: &'static str) {
        self.0.state.begin();
        if self.0.state.decide() {
            self.settle(outcome, 0);
        }
    }

    /// Settles the task with an outcome that says it was not run, and checks that it was not.
    fn settle_unrun(&self, outcome: &'static str) {
        let SimTask { id, begun, retried, .. } = &*self.0;
        assert!(begun.get() <= retried.get(), "task {id} has run, and ends as `{outcome}`");
        self.settle(outcome, state::FAILED);
    }

    fn may_begin(&self) {
        let SimTask { id, begun, retried, outcome, .. } = &*self.0;
        assert_eq!(outcome.get(), None, "task {id} begins after its end");
        begun.set(begun.get() + 1);
        self.0.has_noticed.set(false);
        assert!(begun.get() <= retried.get() + 1, "task {id} runs twice");
    }
}

#[derive(Clone, Copy)]
struct Sight {
    has_noticed: bool,
    is_silent: bool,
}

impl Report for Sight {
    fn has_noticed(&self) -> bool {
        self.has_noticed
    }
    fn is_silent(&self) -> bool {
        self.is_silent
    }
}

struct NoWorker(Worth);

impl Failure<&'static str> for NoWorker {
    fn lost(exit: &'static str) -> Self {
        Self(match exit {
            "killed" => Worth::Attempts(10),
            "bad host" => Worth::Hosts(3),
            _ => Worth::Attempts(3),
        })
    }
    fn unused(_: &'static str) -> Self {
        Self(Worth::Attempts(1))
    }
    fn unanswered() -> Self {
        Self(Worth::Attempts(1))
    }
    fn not_ready(_: &'static str) -> Self {
        Self(Worth::Attempts(1))
    }
    fn worth(&self) -> Worth {
        self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Sent,
    TakenBack,
    Running,
    Noticed,
    Doomed,
    Ended,
}

/// The number of places in a page.
const PLACES: u64 = 8;

struct SharedPage {
    /// `None` if nothing is shared.
    places: Option<RefCell<HashMap<u64, Place>>>,
    /// How much of a large input the worker has read; `None` once it has read everything.
    sending: Cell<Option<u64>>,
}

impl SharedPage {
    /// A compare-and-swap; without a page it always succeeds.
    fn change(&self, place: u64, from: Place, to: Place) -> bool {
        let Some(places) = &self.places else { return true };
        let mut places = places.borrow_mut();
        let is_as_expected = places.get(&place) == Some(&from);
        if is_as_expected {
            places.insert(place, to);
        }
        is_as_expected
    }

    fn get(&self, place: u64) -> Option<Place> {
        self.places.as_ref()?.borrow().get(&place).copied()
    }
}

impl Page for Rc<SharedPage> {
    fn places(&self) -> usize {
        if self.places.is_some() { PLACES as usize } else { 1 }
    }
    fn offer(&self, place: u64) {
        if let Some(places) = &self.places {
            let mut places = places.borrow_mut();
            // Places are used again.
            places.retain(|other, _| other % PLACES != place % PLACES);
            places.insert(place, Place::Sent);
        }
    }
    fn take_back(&self, place: u64) -> bool {
        self.places.is_some() && self.change(place, Place::Sent, Place::TakenBack)
    }
    fn has_begun(&self, place: u64) -> bool {
        !matches!(self.get(place), None | Some(Place::Sent | Place::TakenBack))
    }
    fn sending(&self) -> Option<u64> {
        self.sending.get()
    }
    fn doom(&self, place: u64) -> Doomed {
        match self.get(place) {
            None => Doomed::Yes,
            Some(Place::Running) => {
                self.change(place, Place::Running, Place::Doomed);
                Doomed::Yes
            }
            Some(Place::Noticed) => Doomed::Noticed,
            Some(_) => Doomed::Ended,
        }
    }
}

/// What a worker sends.
#[derive(Clone)]
enum Frame {
    Greeting,
    Ready,
    Begun(u64),
    Progress(u64, Sight),
    Ended(u64, Duration, &'static str),
    Goodbye,
}

/// What a worker is told.
#[derive(Clone)]
enum Order {
    Run(TaskRef, u64, u32),
    Want(u64, u32),
    Quit,
}

struct Worker {
    page: Rc<SharedPage>,
    inbox: VecDeque<Order>,
    waiting: VecDeque<(TaskRef, u64, u32)>,
    running: Option<Run>,
    /// Noted, but not sent yet.
    noted: VecDeque<Frame>,
    /// On its way to the program.
    sent: VecDeque<Frame>,
    /// Its initializer has ended.
    is_ready: bool,
    quits: bool,
    /// The program has heard that this worker is about to end, true or not.
    has_said_goodbye: bool,
    frozen_until: Option<Instant>,
    /// Its pool is suspended: what it would do now is postponed.
    is_stopped: bool,
    postponed: Vec<Happening>,
    /// Its process does not end, whatever is done to it.
    is_immortal: bool,
    exit: Option<&'static str>,
    is_dying: bool,
    /// It has said something that makes no sense, and the program no longer listens to it.
    is_unheard: bool,
}

impl Worker {
    /// The task that it runs, or that the scheduler assumes it to run.
    fn task(&self) -> Option<TaskRef> {
        let of_order = |order: &Order| match order {
            Order::Run(task, _, wanted) if wanted & state::RUNNING != 0 => Some(task.clone()),
            _ => None,
        };
        let running = self.running.as_ref().map(|run| run.task.clone());
        running.or_else(|| self.inbox.iter().find_map(of_order))
    }
}

struct Run {
    task: TaskRef,
    place: u64,
    /// Tells this run from others.
    number: u64,
    began: Instant,
    has_noticed: bool,
}

enum Happening {
    User(u64),
    /// The command that starts this worker with others runs.
    #[cfg(feature = "cluster")]
    Launched(WorkerNumber),
    StartAnswered(WorkerNumber),
    /// The worker has not come, and is no longer waited for.
    Forgotten(WorkerNumber),
    /// A worker calls `init`.
    Greets(WorkerNumber),
    /// Its initializer has ended.
    Prepared(WorkerNumber),
    /// A worker reads what it was told.
    Reads(WorkerNumber),
    /// The task ends, if this run has not ended before.
    Finishes(WorkerNumber, u64),
    Notices(WorkerNumber, u64),
    Delivers(WorkerNumber),
    Freezes(WorkerNumber, Option<Duration>),
    Dies(WorkerNumber, &'static str),
    Misspeaks(WorkerNumber),
    Severs(WorkerNumber),
    Buried(WorkerNumber),
    Limit(u64),
    Time,
}

struct World {
    dice: Dice,
    now: Instant,
    happenings: BTreeMap<(Instant, u64), Happening>,
    counter: u64,
    scheduler: Scheduler<Kind>,
    tasks: Vec<TaskRef>,
    workers: BTreeMap<WorkerNumber, Worker>,
    starting: BTreeSet<WorkerNumber>,
    /// Workers that the scheduler no longer waits for.
    abandoned: BTreeSet<WorkerNumber>,
    /// Until when the system starts no worker and does not answer either.
    hangs_until: Instant,
    /// One command starts all workers, some of which may never come.
    has_crews: bool,
    /// Where each worker runs, as the scheduler has decided.
    seats: BTreeMap<WorkerNumber, Seat>,
    /// How many workers each index has had.
    attempts: HashMap<usize, u32>,
    /// For each host, whether workers start there.
    hosts: Vec<bool>,
    /// At least once, no worker could be started.
    has_failed_to_start: bool,
    /// Workers have no start timeout.
    is_patient: bool,
    has_pages: bool,
    /// If set, tasks come many at a time and take nanoseconds, except for one in this many.
    long_tasks: Option<u64>,
    /// Since when a task has been waiting while a worker has none, and no task was sent or has ended.
    waits_since: Option<Instant>,
    /// The system never starts a worker.
    is_short: bool,
    /// One in this many things goes wrong.
    mishaps: u64,
    max_workers: usize,
    grace: Duration,
    calm: bool,
    is_suspended: bool,
    timer: Option<Instant>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        dice.below(10);
        let now = Instant::now();
        let max_workers = 1 + dice.below(4) as usize;
        let grace = if dice.one_in(4) { Duration::ZERO } else { dice.time(Duration::from_secs(5)) };
        let hosts: Vec<bool> = (0..dice.below(4)).map(|_| !dice.one_in(4)).collect();
        let is_patient = dice.one_in(3);
        let has_crews = cfg!(feature = "cluster") && dice.one_in(3);
        let settings = Settings {
            starts_all: has_crews,
            max_workers,
            max_tasks: if dice.one_in(3) { 1 + dice.below(5) } else { u64::MAX },
            cancel_grace: grace,
            idle_timeout: dice.one_in(3).then(|| dice.time(Duration::from_secs(2))),
            start_timeout: (!is_patient).then_some(START),
            silence: Duration::from_secs(1),
            hosts: hosts.len(),
            gives_ahead: !dice.one_in(8),
        };
        Self {
            has_pages: dice.one_in(2),
            long_tasks: dice.one_in(3).then(|| 2 + dice.below(100)),
            waits_since: None,
            is_short: dice.one_in(50),
            mishaps: [4, 20, 1_000_000][dice.below(3) as usize],
            dice,
            now,
            happenings: BTreeMap::new(),
            counter: 0,
            scheduler: Scheduler::new(settings, now),
            tasks: Vec::new(),
            workers: BTreeMap::new(),
            starting: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            hangs_until: now,
            seats: BTreeMap::new(),
            attempts: HashMap::new(),
            hosts,
            has_failed_to_start: false,
            is_patient,
            has_crews,
            max_workers,
            grace,
            calm: false,
            is_suspended: false,
            timer: None,
        }
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.counter += 1;
        self.happenings.insert((self.now + after, self.counter), happening);
    }

    fn soon(&mut self, happening: Happening) {
        let after = self.dice.time(Duration::from_millis(2));
        self.later(after, happening);
    }

    fn goes_wrong(&mut self) -> bool {
        !self.calm && self.dice.one_in(self.mishaps)
    }

    // The program.

    fn tell(&mut self, event: Event<Kind>) {
        // Only what a worker says can be out of turn.
        let _ = self.scheduler.handle(event, self.now);
        self.follow();
    }

    fn follow(&mut self) {
        let effects = self.scheduler.take_effects();
        self.see_abandoned();
        self.carry_out(effects);
        if let Some(at) = self.scheduler.next_deadline().filter(|&at| self.timer.is_none_or(|timer| at < timer)) {
            self.timer = Some(at);
            self.later(at.saturating_duration_since(self.now), Happening::Time);
        }
    }

    /// Moves the starting workers that the scheduler no longer waits for to `abandoned`.
    fn see_abandoned(&mut self) {
        let is_abandoned = |worker: &&WorkerNumber| !self.scheduler.has(**worker);
        for worker in self.starting.iter().filter(is_abandoned).copied().collect::<Vec<_>>() {
            let is_unwanted = self.scheduler.is_closed();
            assert!(
                is_unwanted || self.hangs_until + Duration::from_secs(4) > self.now,
                "a worker is abandoned, though it is about to come"
            );
            self.starting.remove(&worker);
            self.seats.remove(&worker);
            self.abandoned.insert(worker);
            self.has_failed_to_start = true;
        }
    }

    fn carry_out(&mut self, effects: Effects<Kind>) {
        // Orders to workers are queued first, so that they are sent in this order.
        let mut others = Effects::new();
        for action in effects {
            match action {
                Action::Send(worker, task, place, wanted) => {
                    self.waits_since = None;
                    let is_assumed = wanted & state::RUNNING != 0;
                    task.0.assumed.set(task.0.assumed.get() + u32::from(is_assumed));
                    self.order(worker, Order::Run(task, place, wanted));
                }
                Action::Want(worker, task, wanted) => self.order(worker, Order::Want(task, wanted)),
                Action::Dismiss(worker) => self.order(worker, Order::Quit),
                other => others.push(other),
            }
        }
        for action in others {
            match action {
                Action::Send(..) | Action::Want(..) | Action::Dismiss(_) => {}
                Action::Start(worker, task, seat) => {
                    self.take_seat(worker, seat);
                    let has_ended = task.is_some_and(|task| task.0.outcome.get().is_some());
                    assert!(!has_ended, "a worker is started for a task that has ended");
                    assert!(self.starting.insert(worker));
                    let count = self.starting.len() + self.workers.len();
                    assert!(count <= self.max_workers, "{count} workers, where {} are allowed", self.max_workers);
                    if self.goes_wrong() && self.dice.one_in(8) {
                        // Forever only if there is no other worker: while there is one, the scheduler keeps trying to
                        // start more.
                        let is_for_ever = count == 1 && self.dice.one_in(2);
                        let time = if is_for_ever { 2 * MOST_TIME } else { self.dice.time(3 * START) };
                        self.hangs_until = self.hangs_until.max(self.now + time);
                    }
                    let hang = self.hangs_until.saturating_duration_since(self.now);
                    let after = self.dice.time(Duration::from_millis(if self.dice.0 % 8 == 0 { 3_000 } else { 5 }));
                    #[cfg(feature = "cluster")]
                    if self.has_crews {
                        self.later(hang, Happening::Launched(worker));
                    }
                    self.later(hang + after, Happening::StartAnswered(worker));
                }
                Action::Post(events::Order::Look(worker)) => {
                    self.hear_all(worker);
                    self.tell(Event::Looked(worker));
                }
                Action::Post(events::Order::CheckStopped(worker)) => {
                    let until = self.workers.get(&worker).and_then(|it| it.frozen_until);
                    self.tell(Event::StopChecked(worker, until.is_some_and(|until| until > self.now)));
                }
                Action::Post(events::Order::Stop(worker)) => {
                    if let Some(it) = self.workers.get_mut(&worker) {
                        assert!(!mem::replace(&mut it.is_stopped, true), "a worker is stopped twice");
                    }
                }
                Action::Post(events::Order::Continue(worker)) => {
                    let Some(it) = self.workers.get_mut(&worker) else { continue };
                    assert!(mem::replace(&mut it.is_stopped, false), "a worker is continued that was not stopped");
                    for happening in mem::take(&mut it.postponed) {
                        self.soon(happening);
                    }
                }
                Action::Suspend(task) => assert!(!task.0.is_suspended.replace(true), "a task is suspended twice"),
                Action::Resume(task) => {
                    assert!(task.0.is_suspended.replace(false), "a task was not suspended");
                    if task.0.is_limit_due.take() {
                        self.soon(Happening::Limit(task.id()));
                    }
                }
                Action::Post(events::Order::Kill(worker)) => {
                    if let Some(worker) = self.workers.get_mut(&worker) {
                        worker.is_dying = true;
                    }
                    // A worker that has not come yet is not let in any more.
                    let is_absent = self.starting.remove(&worker);
                    let end = Happening::Dies(worker, "killed");
                    self.soon(if is_absent { Happening::Forgotten(worker) } else { end });
                }
                Action::Post(events::Order::GiveUp(worker)) => {
                    let is_late = self.abandoned.remove(&worker);
                    assert!(is_late || self.workers[&worker].is_dying);
                    self.end_worker(worker, "unknown");
                }
                Action::Post(events::Order::Warn) => {}
                Action::Begin(task) => {
                    assert!(
                        task.0.begun.get() + task.0.assumed.get() > task.0.retried.get(),
                        "a task that has not begun is said to run"
                    );
                    task.0.state.begin();
                    if task.word() & state::LIMITED != 0 && self.dice.one_in(2) {
                        self.soon(Happening::Limit(task.id()));
                    }
                }
                Action::Deliver(..) => unreachable!("no task of these has items"),
                Action::Show(task, _) => assert_eq!(task.word() & state::LENT, 0, "shown before it has begun"),
                Action::Settle(task, outcome) => task.settle_run(outcome),
                Action::Lose(task, _, reason) => {
                    if matches!(reason, Some(KillReason::IgnoredCancel | KillReason::Unheard)) {
                        assert_ne!(task.word() & state::CANCEL, 0, "a task is killed for another's sake");
                    }
                    if reason == Some(KillReason::IgnoredCancel) {
                        assert!(!task.0.has_noticed.get(), "a task is killed that has noticed");
                    }
                    if self.has_pages {
                        assert_ne!(reason, Some(KillReason::Silent), "killed as silent, though it runs a task");
                    }
                    assert_ne!(reason, Some(KillReason::Unwanted), "unwanted, though it runs a task");
                    task.settle_run("lost");
                }
                Action::ShowRetry(..) => {}
                Action::Refuse(task) => task.settle_unrun("cancelled"),
                Action::Reject(tasks, NoWorker(worth)) => {
                    let is_hopeless =
                        self.goes_well() && self.hosts.contains(&true) && matches!(worth, Worth::Hosts(_));
                    assert!(!is_hopeless, "given up, though there is a host that was not tried");
                    for task in tasks {
                        if task.0.state.seal() {
                            task.settle_unrun("rejected");
                        }
                    }
                }
                Action::Forget(task) => assert!(task.0.outcome.get().is_some(), "a task is forgotten"),
            }
        }
    }

    /// Whether almost nothing goes wrong except with hosts.
    fn goes_well(&self) -> bool {
        self.mishaps > 1_000
    }

    fn take_seat(&mut self, worker: WorkerNumber, seat: Seat) {
        assert!(seat.index < self.max_workers, "a worker beyond the last");
        assert!(
            self.seats.values().all(|other| other.index != seat.index),
            "two workers have the index {}",
            seat.index
        );
        let attempt = self.attempts.entry(seat.index).or_default();
        assert_eq!(seat.attempt, *attempt, "the attempts of an index are counted");
        *attempt += 1;
        let live = |host: usize| self.seats.values().filter(|seat| seat.host == host).count();
        let least = (0..self.hosts.len().max(1)).map(live).min();
        assert!(self.has_failed_to_start || Some(live(seat.host)) == least, "a host has more workers than another");
        self.seats.insert(worker, seat);
    }

    fn order(&mut self, worker: WorkerNumber, order: Order) {
        let is_large = matches!(order, Order::Run(..)) && self.dice.one_in(8);
        if let Some(it) = self.workers.get_mut(&worker) {
            it.inbox.push_back(order);
            if is_large {
                it.page.sending.set(it.page.sending.get().or(Some(0)));
            }
            self.soon(Happening::Reads(worker));
        }
    }

    /// Handles the frames of one read, up to the first that makes no sense. What follows it is never heard.
    fn hear(&mut self, worker: WorkerNumber, frames: Vec<Frame>) {
        let Some(it) = self.workers.get_mut(&worker).filter(|it| !it.is_unheard) else { return };
        if frames.iter().any(|frame| matches!(frame, Frame::Ended(..))) {
            self.waits_since = None;
        }
        it.has_said_goodbye |= frames.iter().any(|frame| matches!(frame, Frame::Goodbye));
        let result = frames.into_iter().try_for_each(|frame| {
            let event = match frame {
                Frame::Greeting => Event::Greeted(worker),
                Frame::Ready => Event::Ready(worker, None),
                Frame::Begun(task) => Event::Begun(worker, task),
                Frame::Progress(task, snapshot) => Event::Progress(worker, task, snapshot),
                Frame::Ended(task, took, outcome) => Event::Ended(worker, task, took, outcome),
                Frame::Goodbye => Event::Goodbye(worker),
            };
            self.scheduler.note(event, self.now)
        });
        self.scheduler.assign_work(self.now);
        self.follow();
        if result.is_err() {
            self.workers.entry(worker).and_modify(|it| it.is_unheard = true);
            self.tell(Event::Severed(worker, false));
        }
    }

    /// Handles everything that a worker has said so far.
    fn hear_all(&mut self, worker: WorkerNumber) {
        while let Some(it) = self.workers.get_mut(&worker) {
            let frames: Vec<Frame> = it.sent.drain(..).chain(it.noted.drain(..)).collect();
            if frames.is_empty() {
                return;
            }
            self.hear(worker, frames);
        }
    }

    fn end_worker(&mut self, worker: WorkerNumber, exit: &'static str) {
        self.hear_all(worker);
        if let Some(it) = self.workers.remove(&worker) {
            self.has_failed_to_start |= !it.is_ready || it.is_unheard;
            self.seats.remove(&worker);
            self.tell(Event::Gone(worker, exit));
        }
    }

    // What users do.

    fn user(&mut self) {
        let task = match self.tasks.len() as u64 {
            0 => None,
            count => Some(self.tasks[self.dice.below(count) as usize].clone()),
        };
        match (self.dice.below(15), task) {
            (12, _) => {
                // Closing the pool resumes it; it may be suspended again after that.
                self.is_suspended = true;
                self.tell(Event::Suspended);
            }
            (13, _) => {
                self.is_suspended = false;
                self.tell(Event::Resumed);
            }
            (14, _) => {
                let workers = self.dice.below(2 * self.max_workers as u64) as usize;
                self.tell(Event::Prestarted(workers));
            }
            (0..=5, _) | (_, None) => {
                let most = if self.long_tasks.is_some() { 20 } else { 6 };
                for _ in 0..1 + self.dice.below(most) {
                    self.submit();
                }
            }
            (6 | 7, Some(task)) => self.cancel(&task),
            (8, Some(task)) => self.pause(&task),
            (9, Some(task)) => self.resume(&task),
            (10, Some(task)) => {
                task.0.state.set(state::OBSERVED | state::PROBE);
                self.tell(Event::Wanted(task.id()));
            }
            (_, Some(_)) => {
                if self.dice.one_in(6) {
                    self.close();
                    if self.dice.one_in(2) {
                        self.cancel_all();
                    }
                }
            }
        }
    }

    fn close(&mut self) {
        self.is_suspended = false;
        self.tell(Event::Closed);
    }

    fn submit(&mut self) {
        if self.scheduler.is_closed() {
            return;
        }
        let task = TaskRef(Rc::new(SimTask {
            takes: self.duration(),
            listens: self.dice.one_in(2),
            crashes: !self.calm && self.dice.one_in(self.mishaps * 4),
            retries: Cell::new(self.dice.below(3) as u32),
            ..SimTask::new(self.tasks.len() as u64 + 1)
        }));
        if self.dice.one_in(4) {
            task.0.state.set(state::LIMITED);
        }
        self.tasks.push(task.clone());
        self.tell(Event::Submitted(task));
    }

    fn duration(&mut self) -> Option<Duration> {
        let is_short = self.long_tasks.is_some_and(|chances| !self.dice.one_in(chances));
        if is_short {
            return Some(Duration::from_nanos(self.dice.below(500)));
        }
        (!self.dice.one_in(8)).then(|| self.dice.time(Duration::from_millis(50)))
    }

    fn cancel(&mut self, task: &TaskRef) {
        match task.0.state.request_cancel(0) {
            Cancel::Sealed => {
                task.settle_unrun("cancelled");
                self.tell(Event::Dropped(task.id()));
            }
            Cancel::Told => self.tell(Event::Wanted(task.id())),
            Cancel::Late => {}
        }
    }

    fn pause(&mut self, task: &TaskRef) {
        task.0.state.set(state::PAUSE);
        self.tell(Event::Wanted(task.id()));
    }

    fn resume(&mut self, task: &TaskRef) {
        task.0.state.clear(state::PAUSE);
        self.tell(Event::Wanted(task.id()));
    }

    fn cancel_all(&mut self) {
        for task in self.scheduler.unended() {
            self.cancel(&task);
        }
    }

    /// The limit of a running task passes.
    fn limit(&mut self, id: u64) {
        let task = self.tasks[id as usize - 1].clone();
        if task.0.is_suspended.get() {
            // No time passes for a suspended task.
            return task.0.is_limit_due.set(true);
        }
        if task.word() & state::RUNNING != 0 && task.0.state.decide() {
            task.0.state.request_cancel(0);
            self.tell(Event::Wanted(id));
            task.settle("timed out", state::FAILED);
            self.tell(Event::Dropped(id));
        }
    }

    // Workers.

    fn start_answered(&mut self, worker: WorkerNumber) {
        if self.abandoned.contains(&worker) {
            let page = Rc::new(SharedPage { places: None, sending: Cell::new(None) });
            self.tell(Event::Started(worker, page));
            return assert!(!self.abandoned.contains(&worker), "a worker that comes too late is left alone");
        }
        if !self.starting.remove(&worker) {
            return;
        }
        if self.is_short || self.goes_wrong() {
            let worth = if self.is_short || self.dice.one_in(2) { Worth::Patience } else { Worth::Attempts(3) };
            self.has_failed_to_start = true;
            self.seats.remove(&worker);
            return self.tell(Event::NotStarted(worker, NoWorker(worth)));
        }
        let host = self.seats.get(&worker).map_or(0, |seat| seat.host);
        let is_bad = self.hosts.get(host) == Some(&false);
        let page = SharedPage { places: self.has_pages.then(RefCell::default), sending: Cell::new(None) };
        let page = Rc::new(page);
        let is_immortal = !self.calm && !is_bad && self.dice.one_in(self.mishaps * 10);
        let it = Worker {
            page: page.clone(),
            inbox: VecDeque::new(),
            waiting: VecDeque::new(),
            running: None,
            noted: VecDeque::new(),
            sent: VecDeque::new(),
            is_ready: false,
            quits: false,
            has_said_goodbye: false,
            frozen_until: None,
            is_stopped: false,
            postponed: Vec::new(),
            is_immortal,
            exit: None,
            is_dying: false,
            is_unheard: false,
        };
        self.workers.insert(worker, it);
        self.tell(Event::Started(worker, page));
        if is_bad {
            return self.soon(Happening::Dies(worker, "bad host"));
        }
        if !self.goes_wrong() {
            let longest = Duration::from_secs(if self.goes_wrong() { 100 } else { 1 });
            let after = self.dice.time(longest);
            self.later(after, Happening::Greets(worker));
        }
        self.plan_mishaps(worker);
    }

    fn plan_mishaps(&mut self, worker: WorkerNumber) {
        for _ in 0..3 {
            if self.goes_wrong() {
                let after = self.dice.time(Duration::from_secs(2));
                let mishap = match self.dice.below(6) {
                    0 => Happening::Freezes(worker, None),
                    1 | 2 => Happening::Freezes(worker, Some(self.dice.time(Duration::from_secs(4)))),
                    3 => Happening::Dies(worker, "code"),
                    4 => Happening::Misspeaks(worker),
                    _ => Happening::Severs(worker),
                };
                self.later(after, mishap);
            }
        }
    }

    /// Returns the worker if it can act now. What a stopped or frozen worker would do happens when it continues or
    /// thaws.
    fn awake(&mut self, worker: WorkerNumber, happening: impl FnOnce() -> Happening) -> Option<&mut Worker> {
        let it = self.workers.get(&worker)?;
        if it.exit.is_some() {
            return None;
        }
        if it.is_stopped {
            let happening = happening();
            if let Some(it) = self.workers.get_mut(&worker) {
                it.postponed.push(happening);
            }
            return None;
        }
        if let Some(until) = it.frozen_until.filter(|&until| until > self.now) {
            if until < self.now + MOST_TIME {
                self.later(until - self.now, happening());
            }
            return None;
        }
        self.workers.get_mut(&worker)
    }

    fn say(&mut self, worker: WorkerNumber, frame: Frame) {
        if let Some(it) = self.workers.get_mut(&worker) {
            it.noted.push_back(frame);
        }
    }

    fn send_off(&mut self, worker: WorkerNumber) {
        let Some(it) = self.workers.get_mut(&worker) else { return };
        let count = it.noted.len();
        it.sent.append(&mut it.noted);
        for _ in 0..count {
            self.soon(Happening::Delivers(worker));
        }
    }

    fn read(&mut self, worker: WorkerNumber) {
        let is_part = self.dice.one_in(2);
        let Some(it) = self.awake(worker, || Happening::Reads(worker)) else { return };
        if let Some(read) = it.page.sending.get() {
            it.page.sending.set(is_part.then_some(read + 1));
            if is_part {
                let after = self.dice.time(Duration::from_secs(1));
                return self.later(after, Happening::Reads(worker));
            }
        }
        let orders: Vec<Order> = it.inbox.drain(..).collect();
        for order in orders {
            match order {
                Order::Run(task, place, wanted) => {
                    if let Some(it) = self.workers.get_mut(&worker) {
                        it.waiting.push_back((task, place, wanted));
                    }
                }
                Order::Want(id, wanted) => self.want(worker, id, wanted),
                Order::Quit => {
                    if let Some(it) = self.workers.get_mut(&worker) {
                        it.quits = true;
                    }
                }
            }
        }
        self.go_on(worker);
    }

    fn want(&mut self, worker: WorkerNumber, id: u64, wanted: u32) {
        let Some(it) = self.workers.get_mut(&worker) else { return };
        for (task, _, told) in &mut it.waiting {
            if task.id() == id {
                // A worker that dropped this bit would say once more that the task has begun.
                *told = wanted | *told & state::RUNNING;
            }
        }
        let Some(run) = it.running.as_ref().filter(|run| run.task.id() == id) else { return };
        let number = run.number;
        if wanted & state::CANCEL != 0 && run.task.0.listens {
            self.soon(Happening::Notices(worker, number));
        }
        if wanted & state::PROBE != 0 && run_is_listening(run_of(&self.workers, worker)) {
            self.say(worker, Frame::Progress(id, Sight { has_noticed: false, is_silent: false }));
            self.send_off(worker);
        }
    }

    /// Begins the next task, if there is one and the last has ended.
    fn go_on(&mut self, worker: WorkerNumber) {
        loop {
            let Some(it) = self.workers.get_mut(&worker) else { return };
            if it.running.is_some() || !it.is_ready {
                return;
            }
            let Some((task, place, wanted)) = it.waiting.pop_front() else {
                if it.quits {
                    self.say(worker, Frame::Goodbye);
                    if !self.goes_wrong() {
                        self.soon(Happening::Dies(worker, "code"));
                    }
                }
                return self.send_off(worker);
            };
            if !it.page.change(place, Place::Sent, Place::Running) {
                continue;
            }
            self.counter += 1;
            let number = self.counter;
            it.running = Some(Run { task: task.clone(), place, number, began: self.now, has_noticed: false });
            task.may_begin();
            if wanted & state::RUNNING != 0 {
                // The scheduler has assumed that it would begin, and was right.
                task.0.assumed.set(task.0.assumed.get() - 1);
            } else if !self.has_pages {
                self.say(worker, Frame::Begun(task.id()));
                self.send_off(worker);
            } else if wanted & state::OBSERVED != 0 {
                self.say(worker, Frame::Progress(task.id(), Sight { has_noticed: false, is_silent: true }));
                self.send_off(worker);
            }
            if let Some(takes) = task.0.takes {
                self.later(takes, Happening::Finishes(worker, number));
            }
            if wanted & state::CANCEL != 0 && task.0.listens {
                self.soon(Happening::Notices(worker, number));
            }
            if task.0.crashes {
                self.soon(Happening::Dies(worker, "code"));
            }
            return;
        }
    }

    fn notice(&mut self, worker: WorkerNumber, number: u64) {
        let Some(it) = self.awake(worker, || Happening::Notices(worker, number)) else { return };
        let Some(run) = it.running.as_mut().filter(|run| run.number == number && !run.has_noticed) else { return };
        run.has_noticed = true;
        let id = run.task.id();
        let is_shown = it.page.places.is_some() && it.page.change(run.place, Place::Running, Place::Noticed);
        run.task.0.has_noticed.set(is_shown);
        self.say(worker, Frame::Progress(id, Sight { has_noticed: true, is_silent: false }));
        self.send_off(worker);
        if self.goes_wrong() {
            self.soon(Happening::Freezes(worker, None));
        }
        let cleaning = self.dice.time(Duration::from_secs(10));
        self.later(cleaning, Happening::Finishes(worker, number));
    }

    fn finish(&mut self, worker: WorkerNumber, number: u64) {
        let now = self.now;
        let Some(it) = self.awake(worker, || Happening::Finishes(worker, number)) else { return };
        let Some(run) = it.running.take_if(|run| run.number == number) else { return };
        let may_end = it.page.change(run.place, Place::Running, Place::Ended)
            || it.page.change(run.place, Place::Noticed, Place::Ended);
        if !may_end {
            // Doomed: it waits to be killed.
            it.running = Some(run);
            return;
        }
        let outcome = if run.has_noticed { "cancelled" } else { "value" };
        self.say(worker, Frame::Ended(run.task.id(), now - run.began, outcome));
        if self.dice.one_in(4) {
            self.send_off(worker);
        }
        self.go_on(worker);
    }

    fn die(&mut self, worker: WorkerNumber, exit: &'static str) {
        let Some(it) = self.workers.get_mut(&worker) else { return };
        if it.exit.is_some() || it.is_immortal {
            return;
        }
        it.exit = Some(exit);
        if !self.has_pages {
            // Unsent frames are lost. Without a page, these can only be outcomes.
            assert!(it.noted.iter().all(|frame| matches!(frame, Frame::Ended(..))) || it.noted.is_empty());
        }
        self.soon(Happening::Buried(worker));
    }

    fn misspeak(&mut self, worker: WorkerNumber) {
        let id = 1 + self.dice.below(self.tasks.len() as u64 + 1);
        let frame = match self.dice.below(4) {
            0 => Frame::Ready,
            1 => Frame::Begun(id + 1_000),
            2 => Frame::Progress(id + 1_000, Sight { has_noticed: true, is_silent: false }),
            _ => Frame::Goodbye,
        };
        self.say(worker, frame);
        self.send_off(worker);
    }

    // The course of things.

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::User(_) => {
                self.user();
                self.check_queued();
            }
            #[cfg(feature = "cluster")]
            Happening::Launched(worker) => {
                if self.starting.contains(&worker) || self.abandoned.contains(&worker) {
                    self.tell(Event::Launched(worker));
                }
            }
            Happening::StartAnswered(worker) => self.start_answered(worker),
            Happening::Forgotten(worker) => {
                self.has_failed_to_start = true;
                self.seats.remove(&worker);
                self.tell(Event::Gone(worker, "killed"));
            }
            Happening::Greets(worker) => {
                if self.awake(worker, || Happening::Greets(worker)).is_some() {
                    if self.dice.one_in(3) {
                        self.say(worker, Frame::Greeting);
                        self.send_off(worker);
                    }
                    self.soon(Happening::Prepared(worker));
                }
            }
            Happening::Prepared(worker) => {
                if let Some(it) = self.awake(worker, || Happening::Prepared(worker)) {
                    it.is_ready = true;
                    self.say(worker, Frame::Ready);
                    self.send_off(worker);
                    self.read(worker);
                }
            }
            Happening::Reads(worker) => self.read(worker),
            Happening::Finishes(worker, number) => self.finish(worker, number),
            Happening::Notices(worker, number) => self.notice(worker, number),
            Happening::Delivers(worker) => {
                let most = 1 + self.dice.below(4) as usize;
                if let Some(it) = self.workers.get_mut(&worker).filter(|it| !it.sent.is_empty()) {
                    let frames = it.sent.drain(..most.min(it.sent.len())).collect();
                    self.hear(worker, frames);
                }
            }
            Happening::Freezes(worker, time) => {
                let until = self.now + time.unwrap_or(2 * MOST_TIME);
                if let Some(it) = self.workers.get_mut(&worker) {
                    it.frozen_until = it.frozen_until.max(Some(until));
                }
            }
            Happening::Dies(worker, exit) => self.die(worker, exit),
            Happening::Misspeaks(worker) => {
                if self.awake(worker, || Happening::Misspeaks(worker)).is_some() {
                    self.misspeak(worker);
                }
            }
            Happening::Severs(worker) => {
                if self.workers.contains_key(&worker) {
                    self.tell(Event::Severed(worker, true));
                }
            }
            Happening::Buried(worker) => {
                if let Some(exit) = self.workers.get(&worker).and_then(|it| it.exit) {
                    self.end_worker(worker, exit);
                }
            }
            Happening::Limit(id) => self.limit(id),
            Happening::Time => {
                self.timer = None;
                self.tell(Event::Time);
            }
        }
        self.check();
    }

    /// A suspended pool stands still, except for workers that end, or whose task ends.
    fn check_standstill(&self) {
        for it in self.workers.values().filter(|it| it.is_stopped && !it.is_dying) {
            let is_cancelled = it.running.as_ref().is_some_and(|run| run.task.word() & state::CANCEL != 0);
            assert!(!is_cancelled, "a task that is cancelled stands still");
        }
        let is_live = |it: &&Worker| !it.is_stopped && !it.is_dying && !it.quits && !it.has_said_goodbye;
        for it in self.workers.values().filter(is_live) {
            let is_told = it.inbox.iter().any(|order| matches!(order, Order::Quit));
            let running = it.running.iter().map(|run| &run.task);
            let waiting = it.waiting.iter().map(|(task, ..)| task);
            let sent =
                it.inbox.iter().filter_map(|order| if let Order::Run(task, ..) = order { Some(task) } else { None });
            let ends = running.chain(waiting).chain(sent).any(|task| task.word() & state::CANCEL != 0);
            let said = |frame: &Frame| matches!(frame, Frame::Ended(..) | Frame::Goodbye);
            let is_unheard = it.sent.iter().chain(&it.noted).any(said);
            assert!(is_told || ends || is_unheard, "a worker goes on in a suspended pool");
        }
    }

    fn check_queued(&self) {
        let is_queued = |task: &&TaskRef| state::is_pending(task.word()) && task.word() & state::LENT == 0;
        let queued = self.tasks.iter().filter(is_queued).count();
        assert!(self.scheduler.counts().queued <= queued, "tasks that have ended are said to wait");
    }

    /// A worker has nothing to do only while another one is expected to do the queued tasks at once.
    fn check_idle(&mut self) {
        let counts = self.scheduler.counts();
        let waits = !self.is_suspended && counts.queued > 0 && counts.busy < counts.ready;
        self.waits_since = self.waits_since.or(Some(self.now)).filter(|_| waits);
        let waited = self.waits_since.map_or(Duration::ZERO, |since| self.now - since);
        assert!(waited <= FIRST_LOOK, "a task waits for {waited:?}, and a worker has none");
    }

    /// Nothing that can be done is left undone.
    fn check(&mut self) {
        self.check_idle();
        if self.is_suspended {
            return self.check_standstill();
        }
        let is_waiting = |task: &&TaskRef| {
            state::is_pending(task.word()) && task.word() & (state::LENT | state::PAUSE | state::CANCEL) == 0
        };
        if !self.tasks.iter().any(|task| is_waiting(&task)) {
            return;
        }
        let nobody = self.workers.is_empty() && self.starting.is_empty();
        assert!(!nobody || self.scheduler.next_deadline().is_some(), "a task waits, and nothing is done about it");
    }

    fn run(&mut self, acts: u64) {
        let mut at = Duration::ZERO;
        for act in 0..acts {
            self.later(at, Happening::User(act));
            at += self.dice.time(Duration::from_millis(400));
        }
        let mut is_ending = false;
        for _ in 0..MOST_STEPS {
            let is_over = self.happenings.keys().next().is_none_or(|&(next, _)| next > self.now + MOST_TIME);
            if !is_over {
                if let Some(((now, _), happening)) = self.happenings.pop_first() {
                    self.now = self.now.max(now);
                    self.happen(happening);
                }
            } else if !is_ending {
                is_ending = true;
                self.end();
            } else if !self.end_what_stands_still() {
                return self.check_end();
            }
        }
        panic!("things go round in circles");
    }

    /// Ends what would otherwise go on forever.
    fn end(&mut self) {
        self.calm = true;
        for task in self.tasks.clone() {
            self.resume(&task);
            if task.0.takes.is_none() {
                self.cancel(&task);
            }
        }
        self.close();
    }

    /// A task of which nothing is wanted may stand still with its worker indefinitely, and others may wait for their
    /// turn that long. Cancels such tasks, and returns whether there were any.
    fn end_what_stands_still(&mut self) -> bool {
        let stands_still = |it: &&Worker| it.frozen_until.is_some_and(|until| until > self.now);
        let still: Vec<TaskRef> = self.workers.values().filter(stands_still).filter_map(Worker::task).collect();
        // These workers may never come, so the user who waits for one must lose patience.
        let never_come = self.is_patient && self.workers.values().any(|it| !it.is_ready);
        let is_full = still.len() == self.max_workers || never_come;
        for task in self.tasks.iter().filter(|task| task.0.outcome.get().is_none()) {
            let is_still = still.iter().any(|other| other.id() == task.id());
            let waits = is_full && state::is_pending(task.word());
            assert!(is_still || waits, "task {} never ends: {:b}", task.id(), task.word());
        }
        for task in &still {
            // The scheduler does not wait for a task that has noticed its cancellation if the worker stands still.
            assert_eq!(task.word() & state::CANCEL, 0, "task {} stands still, though it is cancelled", task.0.id);
            self.cancel(task);
        }
        let has_waited = never_come && self.tasks.iter().any(|task| task.0.outcome.get().is_none());
        if never_come {
            self.cancel_all();
        }
        !still.is_empty() || has_waited
    }

    fn check_end(&self) {
        for task in &self.tasks {
            assert!(task.0.outcome.get().is_some(), "task {} never ends: {:b}", task.id(), task.word());
        }
        assert!(self.scheduler.is_done(), "the pool is never shut down");
        assert_eq!(self.scheduler.next_deadline(), None, "something is left over");
        assert!(self.workers.is_empty() && self.starting.is_empty(), "workers are left over");
    }
}

fn run_of(workers: &BTreeMap<WorkerNumber, Worker>, worker: WorkerNumber) -> Option<&Run> {
    workers.get(&worker)?.running.as_ref()
}

fn run_is_listening(run: Option<&Run>) -> bool {
    run.is_some_and(|run| run.task.0.listens)
}

fn play(seed: u64, acts: u64) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| World::new(seed).run(acts))).map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_default()
    })
}

const MOST_ACTS: u64 = 16;

/// Plays the scenario of this seed. An error tells the shortest course that goes wrong, and how.
fn scenario(seed: u64) -> Result<(), String> {
    let acts = 1 + seed % MOST_ACTS;
    let Err(error) = play(seed, acts) else { return Ok(()) };
    let shorter = (1..acts).find_map(|acts| play(seed, acts).err().map(|error| (acts, error)));
    let (acts, error) = shorter.unwrap_or((acts, error));
    Err(format!("seed {seed}, after {acts} acts: {error}"))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn whatever_happens_every_task_ends_once_and_nothing_is_left_over() {
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("SIMULATION_SCENARIOS").unwrap_or(SCENARIOS),
    };
    // The panics that `play` catches would fill the screen. Those of other tests are shown.
    let (this, hook) = (std::thread::current().id(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() != this {
            hook(panic);
        }
    }));
    let failed = seeds.into_iter().find_map(|seed| scenario(seed).err());
    let _ = std::panic::take_hook();
    assert_eq!(failed, None);
}

/// For a pool of one worker.
fn settings() -> Settings {
    Settings {
        max_workers: 1,
        max_tasks: u64::MAX,
        cancel_grace: Duration::from_secs(1),
        idle_timeout: None,
        start_timeout: None,
        silence: Duration::from_secs(1),
        hosts: 0,
        starts_all: false,
        gives_ahead: true,
    }
}

#[test]
fn a_task_that_ends_behind_others_is_emptied_at_once_and_the_last_to_end_costs_no_more_than_the_first() {
    const COUNT: u64 = 10_000;
    let now = Instant::now();
    let mut scheduler = Scheduler::<Kind>::new(settings(), now);
    // As several threads submit them at once.
    let tasks: Vec<_> = (0..COUNT).map(|n| TaskRef(Rc::new(SimTask::new(n ^ 7)))).collect();
    for task in &tasks {
        assert_eq!(scheduler.handle(Event::Submitted(task.clone()), now), Ok(()));
    }
    scheduler.take_effects();
    let mut forgotten = 0;
    for task in tasks.iter().rev() {
        assert!(task.0.state.seal());
        task.settle_unrun("cancelled");
        assert_eq!(scheduler.handle(Event::Dropped(task.id()), now), Ok(()));
        let effects = scheduler.take_effects();
        let emptied = effects.iter().filter_map(|it| if let Action::Forget(it) = it { Some(it.id()) } else { None });
        let emptied: Vec<u64> = emptied.collect();
        assert!(emptied.contains(&task.id()), "{} keeps its input", task.id());
        forgotten += emptied.len();
    }
    assert!(forgotten <= 2 * COUNT as usize, "{forgotten} actions");
    // One that ends while it is handed over is not queued at all.
    let late = TaskRef(Rc::new(SimTask::new(COUNT)));
    assert!(late.0.state.seal());
    late.settle_unrun("cancelled");
    assert_eq!(scheduler.handle(Event::Submitted(late), now), Ok(()));
    assert!(matches!(scheduler.take_effects()[..], [Action::Forget(_)]));
}

/// How long it takes until a worker that does not begin its task is killed, if the program first looks at it `late`
/// after the start.
fn silence_until_killed(late: Duration) -> Duration {
    let mut scheduler = Scheduler::<Kind>::new(settings(), Instant::now());
    let start = Instant::now();
    let task = TaskRef(Rc::new(SimTask::new(1)));
    let page = Rc::new(SharedPage { places: Some(RefCell::default()), sending: Cell::new(None) });
    for event in [Event::Submitted(task), Event::Started(0, page), Event::Ready(0, None)] {
        assert_eq!(scheduler.handle(event, start), Ok(()));
    }
    let mut now = start + late;
    for _ in 0..MOST_LOOKS {
        scheduler.take_effects();
        assert_eq!(scheduler.handle(Event::Time, now), Ok(()));
        let mut effects = scheduler.take_effects();
        if effects.iter().any(|action| matches!(action, Action::Post(events::Order::Look(_)))) {
            assert_eq!(scheduler.handle(Event::Looked(0), now), Ok(()));
            effects.extend(scheduler.take_effects());
        }
        if effects.iter().any(|action| matches!(action, Action::Post(events::Order::Kill(_)))) {
            return now - start;
        }
        now = scheduler.next_deadline().unwrap();
    }
    panic!("it is never killed")
}

/// More often than any deadline is offered before something happens.
const MOST_LOOKS: usize = 1000;

#[test]
fn a_worker_that_does_not_begin_is_killed_when_its_time_is_over_and_not_later() {
    for late in [1, 3, 300, 700, 990] {
        assert_eq!(silence_until_killed(Duration::from_millis(late)), settings().silence);
    }
}

/// Whether a worker that shares nothing is killed for its cancelled task after the program has stood still for longer
/// than the grace period; `has_noticed` says whether the task has noticed the cancellation meanwhile.
fn is_killed_after_standstill(has_noticed: bool) -> bool {
    let mut scheduler = Scheduler::<Kind>::new(settings(), Instant::now());
    let mut now = Instant::now();
    let mut tell = |event, now| {
        assert_eq!(scheduler.handle(event, now), Ok(()));
        scheduler.take_effects()
    };
    let task = TaskRef(Rc::new(SimTask::new(1)));
    let page = Rc::new(SharedPage { places: None, sending: Cell::new(None) });
    for event in [Event::Submitted(task.clone()), Event::Started(0, page), Event::Ready(0, None), Event::Begun(0, 1)] {
        tell(event, now);
    }
    task.0.state.begin();
    task.0.state.request_cancel(0);
    tell(Event::Wanted(1), now);

    for _ in 0..2 {
        now += Duration::from_secs(10);
        for action in tell(Event::Time, now) {
            match action {
                Action::Post(events::Order::Kill(_)) => return true,
                Action::Post(events::Order::Look(_)) => {
                    if has_noticed {
                        tell(Event::Progress(0, 1, Sight { has_noticed, is_silent: false }), now);
                    }
                    tell(Event::Looked(0), now);
                }
                _ => {}
            }
        }
    }
    false
}

#[test]
fn what_a_worker_has_said_while_the_program_stood_still_is_heard_before_it_is_killed() {
    assert!(is_killed_after_standstill(false));
    assert!(!is_killed_after_standstill(true));
}

#[test]
fn a_task_that_was_asked_to_end_is_not_lost_if_its_worker_is_stopped_before_it_sends_the_outcome() {
    let mut scheduler = Scheduler::<Kind>::new(settings(), Instant::now());
    let mut now = Instant::now();
    let task = TaskRef(Rc::new(SimTask::new(1)));
    let page = Rc::new(SharedPage { places: Some(RefCell::default()), sending: Cell::new(None) });
    for event in [Event::Submitted(task.clone()), Event::Started(0, page.clone()), Event::Ready(0, None)] {
        assert_eq!(scheduler.handle(event, now), Ok(()));
    }
    assert!(page.change(0, Place::Sent, Place::Running));
    now += FIRST_LOOK;
    for event in [Event::Time, Event::Looked(0)] {
        assert_eq!(scheduler.handle(event, now), Ok(()));
    }
    task.0.state.begin();
    task.0.state.request_cancel(0);
    assert_eq!(scheduler.handle(Event::Wanted(1), now), Ok(()));
    assert!(page.change(0, Place::Running, Place::Ended));
    let is_kill = |action: &Action<Kind>| matches!(action, Action::Post(events::Order::Kill(_)));
    let is_killed = (0..MOST_LOOKS).any(|_| {
        now = scheduler.next_deadline().unwrap();
        assert_eq!(scheduler.handle(Event::Time, now), Ok(()));
        scheduler.take_effects().iter().any(is_kill)
    });
    assert!(is_killed);
    assert_eq!(scheduler.handle(Event::Gone(0, "killed"), now), Ok(()));
    let reasons = scheduler.take_effects().into_iter().filter_map(|action| match action {
        Action::Lose(_, _, reason) => Some(reason),
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), [Some(KillReason::Unheard)]);
}

/// A pool of three workers, each of which has ended one task that took the given time.
struct Three {
    scheduler: Scheduler<Kind>,
    pages: Vec<Rc<SharedPage>>,
    now: Instant,
    submitted: u64,
    /// The tasks that each worker was sent, with their places.
    sent: [Vec<(u64, u64)>; 3],
}

impl Three {
    fn new(took: Duration) -> Self {
        let now = Instant::now();
        let scheduler = Scheduler::new(Settings { max_workers: 3, ..settings() }, now);
        let new_page = |_| Rc::new(SharedPage { places: Some(RefCell::default()), sending: Cell::new(None) });
        let pages: Vec<_> = (0..3).map(new_page).collect();
        let mut three = Self { scheduler, pages, now, submitted: 0, sent: Default::default() };
        three.submit(3);
        for worker in 0..3 {
            three.tell(Event::Started(worker, three.pages[worker as usize].clone()));
            three.tell(Event::Ready(worker, None));
            three.end_all(worker, took);
        }
        three
    }

    fn tell(&mut self, event: Event<Kind>) {
        assert_eq!(self.scheduler.handle(event, self.now), Ok(()));
        for action in self.scheduler.take_effects() {
            match action {
                Action::Send(worker, task, place, _) => self.sent[worker as usize].push((task.id(), place)),
                Action::Post(events::Order::Look(worker)) => self.tell(Event::Looked(worker)),
                _ => {}
            }
        }
    }

    fn submit(&mut self, count: u64) {
        for _ in 0..count {
            self.submitted += 1;
            self.tell(Event::Submitted(TaskRef(Rc::new(SimTask::new(self.submitted)))));
        }
    }

    /// The program reads the outcomes of all tasks that the worker was sent so far at once.
    fn end_all(&mut self, worker: WorkerNumber, took: Duration) {
        for (task, _) in mem::take(&mut self.sent[worker as usize]) {
            assert_eq!(self.scheduler.note(Event::Ended(worker, task, took, "value"), self.now), Ok(()));
        }
        self.tell(Event::Time);
    }

    /// The worker begins the task at this index of those that it was sent.
    fn begin(&self, worker: WorkerNumber, index: usize) {
        let (_, place) = self.sent[worker as usize][index];
        assert!(self.pages[worker as usize].change(place, Place::Sent, Place::Running));
    }

    /// A millisecond passes, and the program looks at what has become of the tasks.
    fn pass_time(&mut self) {
        self.now += FIRST_LOOK;
        self.tell(Event::Time);
    }

    /// The workers that have tasks.
    fn busy(&self) -> Vec<WorkerNumber> {
        (0..3).filter(|&worker| self.scheduler.is_busy(worker)).collect()
    }

    /// Submits `count` tasks, and returns the one worker that they were all sent to.
    fn sole_taker_of(&mut self, count: u64) -> WorkerNumber {
        self.submit(count);
        let busy = self.busy();
        assert_eq!(busy.len(), 1, "{busy:?}");
        busy[0]
    }
}

const SHORT: Duration = Duration::from_nanos(100);

#[test]
fn tasks_that_are_shorter_than_to_send_them_go_to_one_worker() {
    let mut three = Three::new(SHORT);
    let taker = three.sole_taker_of(10_000);
    for _ in 0..20 {
        three.end_all(taker, SHORT);
        assert_eq!(three.busy(), [taker], "it has done what it was sent, and so waits for the program");
    }
}

#[test]
fn longer_tasks_go_to_all_workers() {
    for took in [Duration::from_micros(5), Duration::from_micros(100), Duration::from_millis(10)] {
        let mut three = Three::new(took);
        three.submit(1_000);
        assert_eq!(three.busy(), [0, 1, 2], "{took:?}");
    }
}

#[test]
fn what_waits_for_a_worker_that_is_at_a_long_task_goes_to_all_others() {
    let mut three = Three::new(SHORT);
    let taker = three.sole_taker_of(10);
    three.begin(taker, 0);
    three.pass_time();
    assert_eq!(three.busy(), [0, 1, 2]);
}

#[test]
fn a_worker_that_goes_on_while_it_is_looked_at_is_looked_at_again() {
    let mut three = Three::new(SHORT);
    let taker = three.sole_taker_of(2);
    three.begin(taker, 0);
    // The first task has ended, but the program has not yet read the worker's note of that.
    three.begin(taker, 1);
    three.pass_time();
    assert!(three.scheduler.next_deadline().is_some_and(|next| next <= three.now));
}

#[test]
fn the_place_of_a_task_that_runs_is_not_used_again_for_one_behind_it() {
    let mut three = Three::new(SHORT);
    let taker = three.sole_taker_of(PLACES);
    three.begin(taker, 0);
    let (_, place) = three.sent[taker as usize][0];
    for _ in 0..3 {
        // Tasks that have not begun are taken back and sent again.
        three.tell(Event::Suspended);
        three.tell(Event::Resumed);
    }
    assert_eq!(three.pages[taker as usize].get(place), Some(Place::Running));
}

#[test]
fn what_is_queued_does_not_wait_for_a_worker_that_does_not_go_on() {
    let mut three = Three::new(SHORT);
    three.sole_taker_of(10);
    three.pass_time();
    assert_eq!(three.busy().len(), 2, "another one gets what is queued");
}

#[test]
fn short_tasks_do_not_wait_behind_a_large_input_that_is_on_its_way() {
    let mut three = Three::new(SHORT);
    let taker = three.sole_taker_of(1);
    three.pages[taker as usize].sending.set(Some(0));
    three.submit(1);
    assert_eq!(three.busy().len(), 2, "another one gets what comes after it");
}

#[test]
fn the_only_task_is_not_tried_for_ever_on_workers_that_are_gone_before_they_begin() {
    let mut now = Instant::now();
    let mut scheduler = Scheduler::<Kind>::new(settings(), now);
    assert_eq!(scheduler.handle(Event::Submitted(TaskRef(Rc::new(SimTask::new(1)))), now), Ok(()));
    for worker in 0..100 {
        let is_given_up = |action: &Action<Kind>| matches!(action, Action::Reject(tasks, _) if tasks.len() == 1);
        if scheduler.take_effects().iter().any(is_given_up) {
            assert_eq!(worker, 8);
            return;
        }
        let page = Rc::new(SharedPage { places: Some(RefCell::default()), sending: Cell::new(None) });
        for event in [Event::Started(worker, page), Event::Ready(worker, None), Event::Severed(worker, true)] {
            assert_eq!(scheduler.handle(event, now), Ok(()));
        }
        assert_eq!(scheduler.handle(Event::Gone(worker, "gone"), now), Ok(()));
        now += Duration::from_secs(1);
        assert_eq!(scheduler.handle(Event::Time, now), Ok(()));
    }
    panic!("it is tried for ever");
}

/// What a pool makes of workers whose start always fails in this way, each some time after the one before: how many it
/// starts until it rejects both tasks.
fn starts_until_rejected(fail: impl Fn(WorkerNumber) -> Event<Kind>) -> usize {
    let mut now = Instant::now();
    let mut scheduler = Scheduler::<Kind>::new(Settings { max_workers: 2, ..settings() }, now);
    let (mut starting, mut started, mut rejected) = (VecDeque::new(), 0, 0);
    for task in [1, 2] {
        assert_eq!(scheduler.handle(Event::Submitted(TaskRef(Rc::new(SimTask::new(task)))), now), Ok(()));
        now += Duration::from_secs(3);
    }
    while started < 100 {
        for action in scheduler.take_effects() {
            match action {
                Action::Start(worker, ..) => {
                    started += 1;
                    starting.push_back(worker);
                }
                Action::Reject(tasks, _) => rejected += tasks.len(),
                _ => {}
            }
        }
        if rejected == 2 {
            return started;
        }
        // Each takes a while, during which another is started where one is wanted.
        now += Duration::from_secs(3);
        assert_eq!(scheduler.handle(Event::Time, now), Ok(()));
        if let Some(worker) = starting.pop_front() {
            let page = Rc::new(SharedPage { places: Some(RefCell::default()), sending: Cell::new(None) });
            for event in
                [Event::Started(worker, page), Event::Greeted(worker), fail(worker), Event::Gone(worker, "gone")]
            {
                assert_eq!(scheduler.handle(event, now), Ok(()));
            }
            // The back-off is over, so that it is not because of that if no other one is started.
            now += Duration::from_secs(2);
            assert_eq!(scheduler.handle(Event::Time, now), Ok(()));
        }
    }
    panic!("others are started for ever: {rejected} rejected");
}

#[test]
fn workers_that_never_start_are_not_tried_for_ever_because_another_one_is_always_starting() {
    assert_eq!(starts_until_rejected(|worker| Event::Unfit(worker, NoWorker(Worth::Attempts(1)))), 2);
    assert!(starts_until_rejected(|worker| Event::Severed(worker, true)) <= 5);
}

/// Has two workers for these tasks. `react` returns what comes of an action, or `None` if that is the end. Time passes if there
/// is nothing else to do.
fn play_until_over(tasks: u64, is_shared: bool, mut react: impl FnMut(Action<Kind>) -> Option<Vec<Event<Kind>>>) {
    let mut now = Instant::now();
    let mut scheduler = Scheduler::<Kind>::new(Settings { max_workers: 2, ..settings() }, now);
    let mut events =
        VecDeque::from_iter((1..=tasks).map(|task| Event::Submitted(TaskRef(Rc::new(SimTask::new(task))))));
    let mut actions = VecDeque::new();
    loop {
        if let Some(event) = events.pop_front() {
            assert_eq!(scheduler.handle(event, now), Ok(()));
            actions.extend(scheduler.take_effects());
        } else if let Some(Action::Start(worker, ..)) = actions.front() {
            let page = Rc::new(SharedPage { places: is_shared.then(RefCell::default), sending: Cell::new(None) });
            events.extend([Event::Started(*worker, page), Event::Ready(*worker, None)]);
            actions.pop_front();
        } else if let Some(action) = actions.pop_front() {
            let Some(reaction) = react(action) else { return };
            events.extend(reaction);
        } else {
            now = scheduler.next_deadline().unwrap();
            events.push_back(Event::Time);
        }
    }
}

#[test]
fn a_task_that_ends_its_workers_before_it_begins_does_not_keep_others_from_running() {
    let (mut deaths, mut sent_others, mut rejected) = (0, 0, Vec::new());
    play_until_over(4, true, |action| {
        let events = match action {
            // The first is at work for ever, the second is too much for any worker.
            Action::Send(worker, task, ..) if task.id() == 1 => vec![Event::Begun(worker, 1)],
            Action::Send(worker, task, ..) if task.id() == 2 => {
                deaths += 1;
                assert!(deaths < 100, "it is tried for ever");
                vec![Event::Severed(worker, true), Event::Gone(worker, "gone")]
            }
            Action::Send(worker, task, ..) => {
                sent_others += 1;
                vec![Event::Ended(worker, task.id(), Duration::from_secs(1), "value")]
            }
            Action::Reject(tasks, _) => {
                rejected.extend(tasks.iter().map(Task::id));
                Vec::new()
            }
            _ => Vec::new(),
        };
        (rejected.is_empty() || sent_others < 2).then_some(events)
    });
    assert_eq!((deaths, rejected, sent_others), (8, vec![2], 2));
}

#[test]
fn a_task_that_no_worker_begins_in_time_is_not_tried_for_ever_while_another_worker_serves() {
    for is_shared in [true, false] {
        let (mut killed, mut rejected) = (0, Vec::new());
        play_until_over(2, is_shared, |action| {
            let events = match action {
                // The first is at work for ever, and of the second nothing is heard.
                Action::Send(worker, task, ..) if task.id() == 1 => vec![Event::Begun(worker, 1)],
                Action::Post(events::Order::Look(worker)) => vec![Event::Looked(worker)],
                Action::Post(events::Order::Kill(worker)) => {
                    killed += 1;
                    assert!(killed < 100, "it is tried for ever");
                    vec![Event::Gone(worker, "gone")]
                }
                Action::Reject(tasks, _) => {
                    rejected.extend(tasks.iter().map(Task::id));
                    Vec::new()
                }
                _ => Vec::new(),
            };
            rejected.is_empty().then_some(events)
        });
        assert_eq!((killed, rejected), (8, vec![2]));
    }
}

#[test]
fn a_worker_that_begins_nothing_is_found_out_although_no_task_waits_for_it_for_long() {
    let mut now = Instant::now();
    let mut scheduler = Scheduler::<Kind>::new(settings(), now);
    for id in 1..=10 {
        let task = TaskRef(Rc::new(SimTask::new(id)));
        assert_eq!(scheduler.handle(Event::Submitted(task.clone()), now), Ok(()));
        if id == 1 {
            let page = Rc::new(SharedPage { places: Some(RefCell::default()), sending: Cell::new(None) });
            for event in [Event::Started(0, page), Event::Ready(0, None)] {
                assert_eq!(scheduler.handle(event, now), Ok(()));
            }
        }
        let until = now + Duration::from_millis(300);
        while let Some(next) = scheduler.next_deadline().filter(|&next| next <= until) {
            now = next;
            assert_eq!(scheduler.handle(Event::Time, now), Ok(()));
            let mut effects = VecDeque::from(scheduler.take_effects());
            while let Some(action) = effects.pop_front() {
                match action {
                    Action::Post(events::Order::Look(_)) => {
                        assert_eq!(scheduler.handle(Event::Looked(0), now), Ok(()));
                        effects.extend(scheduler.take_effects());
                    }
                    Action::Post(events::Order::Kill(_)) => {
                        assert_eq!(id, 4, "a second is over");
                        return;
                    }
                    _ => {}
                }
            }
        }
        now = until;
        task.0.state.request_cancel(0);
        assert_eq!(scheduler.handle(Event::Wanted(id), now), Ok(()));
    }
    panic!("it is never replaced");
}
