//! What all threads of a pool and its callers share. A thread that has an event tells the
//! [scheduler](super::scheduler), and does what follows from it.

use std::collections::BTreeMap;
use std::mem;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::codec::references::Keeper;
use crate::error::remote::RemoteError;
use crate::error::{BoxError, CancelCause};
use crate::executor::shutdown::Drain;
use crate::id::TaskId;
use crate::process::pool::backlog::{Backlog, Deferred};
use crate::process::pool::connection::Connection;
#[cfg(feature = "cluster")]
use crate::process::pool::crews::crew::CrewNews;
use crate::process::pool::launch::child::stopped_by;
use crate::process::pool::launch::{Failure, Process};
use crate::process::pool::leader::{Follower, Leadership};
use crate::process::pool::memories::Memories;
use crate::process::pool::output::relay::Relay;
use crate::process::pool::poller::Poller;
use crate::process::pool::queued::Kinds;
use crate::process::pool::scheduler::Scheduler;
use crate::process::pool::scheduler::events::{Action, Event, Order, Seat, WorkerNumber};
use crate::process::pool::scheduler::queries::Counts;
use crate::process::pool::scheduler::slot::Settings;
use crate::process::pool::standby::{Call, Standby};
use crate::process::protocol::channel::Channel;
use crate::process::protocol::wire::Request;
use crate::process::registry::any_function;
use crate::process::settings::Launch;
use crate::process::this_process::ThisProcess;
use crate::process::workers::WorkersStatus;
use crate::sync::block_on::{Reactor, Sleeper};
use crate::sync::clock::AtomicInstant;
use crate::sync::shortage::Shortage;
use crate::sync::wakers::Wakers;
use crate::task::details::Owner;
use crate::task::remote::Record;
use crate::task::transitions;

/// How long to wait for the driver.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Pool {
    /// The process that the pool belongs to.
    process: ThisProcess,
    pub(crate) launch: Launch,
    pub(super) cancel_grace: Duration,
    pub(super) state: Mutex<State>,
    /// Present while the threads are.
    pub(super) poller: Mutex<Option<Arc<Poller>>>,
    /// Which thread drives.
    pub(super) leadership: Leadership<Box<dyn Drive>, Sleeper>,
    pub(super) standby: Standby,
    pub(super) backlog: Backlog,
    /// Whether a thread polls, until [`State::timer`].
    pub(super) is_polling: AtomicBool,
    /// Until when everything that the workers have said is delivered or deferred, unless the leader
    /// [waits for more](Self::is_waiting): then nothing else has arrived.
    pub(super) heard_at: AtomicInstant,
    pub(super) is_waiting: AtomicBool,
    pub(super) waiting: Arc<Wakers>,
    /// Whether the leader has received something that is not delivered yet.
    pub(super) is_delivering: AtomicBool,
    /// Whether no task is left, and none will come.
    pub(super) is_done: AtomicBool,
    /// How often the resident was replaced.
    pub(super) replacements: AtomicU32,
    pub(super) has_warned: AtomicBool,
    /// When the leader last sent heartbeats, and whether the timer [does so](super::heartbeats) if it does not.
    pub(super) beat_at: AtomicInstant,
    pub(super) has_substitute: AtomicBool,
    pub(super) memories: Memories,
    /// Shared values that the program no longer needs, and workers still have.
    forgotten: Mutex<Vec<u64>>,
    /// For starting the pool's first thread.
    pub(super) shortage: Shortage,
    this: Weak<Self>,
}

/// What the leader does.
pub(super) trait Drive: Send {
    /// Does what is due, waits for news, and handles it. Does not keep a guest once it is woken. Returns what must be
    /// [delivered](Pool::deliver).
    fn turn(&mut self, guest: Option<&Sleeper>) -> Vec<Deferred>;
    /// Whether nothing is left to do. If so, ends the thread that starts workers as well.
    fn is_over(&self) -> bool;
}

pub(super) struct State {
    pub(super) scheduler: Scheduler<Kinds>,
    /// The workers that have started, until they are known to be gone.
    pub(super) connections: BTreeMap<WorkerNumber, Connection>,
    /// Whether all tasks were cancelled when the pool was closed.
    pub(super) is_cancelled: bool,
    /// Orders for the driver.
    pub(super) posted: Vec<Order>,
    /// How many workers were ordered whose start or failure the driver has not taken in yet.
    pub(super) unanswered: usize,
    /// How many workers that the scheduler has forgotten still have time to end.
    pub(super) lingering: usize,
    /// Workers that were started, or could not be, for the driver to take in.
    pub(super) arrivals: Vec<(WorkerNumber, Started)>,
    /// News of workers that are started together, for the driver.
    #[cfg(feature = "cluster")]
    pub(super) crew_news: Vec<CrewNews>,
    /// Passes orders to the thread that starts workers; present while the threads are.
    pub(super) starter: Option<Sender<StartOrder>>,
    /// Relays what workers and launchers write.
    pub(super) relay: Option<Arc<Relay>>,
    /// When the driver looks at the time next.
    pub(super) timer: Option<Instant>,
    /// Dropped once the driver has done what was posted.
    pub(super) waiting: Vec<Sender<()>>,
}

/// A worker to be started, and the function of the task that it is started for.
pub(super) type StartOrder = (WorkerNumber, &'static str, Seat);

/// What came of starting a worker.
type Started = Result<(Process, Arc<Channel>), Failure>;

/// Channels with something to be sent.
type Channels = Vec<(WorkerNumber, Arc<Channel>)>;

impl Pool {
    pub(crate) fn new(launch: Launch, settings: Settings) -> Arc<Self> {
        let state = State {
            scheduler: Scheduler::new(settings, Instant::now()),
            connections: BTreeMap::new(),
            is_cancelled: false,
            posted: Vec::new(),
            unanswered: 0,
            lingering: 0,
            arrivals: Vec::new(),
            #[cfg(feature = "cluster")]
            crew_news: Vec::new(),
            starter: None,
            relay: None,
            timer: None,
            waiting: Vec::new(),
        };
        Arc::new_cyclic(|this| Self {
            process: ThisProcess::new(),
            launch,
            cancel_grace: settings.cancel_grace,
            state: Mutex::new(state),
            poller: Mutex::default(),
            leadership: Leadership::new(),
            standby: Standby::default(),
            backlog: Backlog::default(),
            is_polling: AtomicBool::new(false),
            heard_at: AtomicInstant::default(),
            is_waiting: AtomicBool::new(false),
            waiting: Arc::default(),
            is_delivering: AtomicBool::new(false),
            is_done: AtomicBool::new(false),
            replacements: AtomicU32::new(0),
            has_warned: AtomicBool::new(false),
            beat_at: AtomicInstant::default(),
            has_substitute: AtomicBool::new(false),
            memories: Memories::default(),
            forgotten: Mutex::default(),
            shortage: Shortage::new(),
            this: this.clone(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the state, and removes what belongs to a worker that is gone.
    pub(super) fn lock_without(&self, worker: WorkerNumber) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let connection = state.connections.remove(&worker);
        connection.into_iter().for_each(|connection| self.memories.close(&connection.channel));
        state
    }

    /// Locked last, and for no longer than a system call takes.
    pub(super) fn poller(&self) -> MutexGuard<'_, Option<Arc<Poller>>> {
        self.poller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn close(self: &Arc<Self>) {
        self.tell(Event::Closed);
    }

    /// Returns once the system was asked to stop the workers, or after [`DRIVER_TIMEOUT`], as user code may hold the driver
    /// up.
    pub(crate) fn suspend(self: &Arc<Self>) {
        if !self.process.is_here() {
            return;
        }
        let (posted, done) = channel();
        let mut state = self.lock();
        // Without a driver there are no workers.
        let has_driver = state.starter.is_some();
        state.waiting.extend(has_driver.then_some(posted));
        self.tell_locked(state, Event::Suspended);
        self.wake_driver();
        let _ = done.recv_timeout(DRIVER_TIMEOUT);
    }

    pub(crate) fn resume(self: &Arc<Self>) {
        self.tell(Event::Resumed);
    }

    /// Cancels all tasks in one step: none is sent to a worker from now on.
    pub(crate) fn cancel_all(&self) {
        let mut state = self.lock();
        state.is_cancelled = true;
        let tasks = state.scheduler.unended().into_iter().map(|queued| queued.task().clone());
        let cancellations = transitions::request_cancel_all(tasks, CancelCause::Shutdown);
        drop(state);
        cancellations.carry_out();
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().scheduler.counts()
    }

    pub(crate) fn workers(&self) -> WorkersStatus {
        let state = self.lock();
        let Counts { wanted, ready: started, busy, lost, queued } = state.scheduler.counts();
        let workers = state.connections.iter().filter_map(|(&worker, connection)| {
            Some(connection.site.as_ref()?.status(state.scheduler.is_busy(worker)))
        });
        WorkersStatus { wanted, started, busy, lost, queued, workers: workers.collect() }
    }

    pub(crate) fn limits_tasks(&self) -> bool {
        self.lock().scheduler.limits_tasks()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().scheduler.is_closed()
    }

    pub(super) fn wake_driver(&self) {
        self.interrupt();
        if self.leadership.is_free() {
            self.standby.call(Call::Now);
        }
    }

    /// Calls the resident, as urgently as needed: no thread drives any more.
    pub(super) fn vacate(&self) {
        self.standby.call(self.urgency());
    }

    /// How soon a thread must drive.
    pub(super) fn urgency(&self) -> Call {
        let is_woken = self.poller().as_ref().is_some_and(|poller| poller.is_woken());
        let state = self.lock();
        // Only the resident ends the pool.
        if is_woken || state.has_posted() || state.scheduler.is_done() {
            Call::Now
        } else if state.scheduler.is_at_rest() {
            Call::Late
        } else {
            Call::Soon
        }
    }

    /// Calls the resident if no thread drives, as there may be something to receive soon.
    pub(super) fn expect_news(&self) {
        if self.leadership.is_free() {
            self.standby.call(Call::Soon);
        }
    }

    /// Tells the scheduler, and does what follows. Does nothing in a forked process, which may drop its copies of our
    /// futures: the tasks and workers are not its own, and the thread that had the lock does not exist there.
    pub(super) fn tell(self: &Arc<Self>, event: Event<Kinds>) {
        if !self.process.is_here() {
            return;
        }
        self.tell_locked(self.lock(), event);
        self.expect_news();
    }

    pub(super) fn tell_locked(&self, state: MutexGuard<'_, State>, event: Event<Kinds>) {
        self.tell_with(state, event, |actions| self.carry_out_all(actions));
    }

    /// Like [`tell_locked`](Self::tell_locked), but passes what the user may notice to `carry_out`.
    pub(super) fn tell_with(
        &self,
        mut state: MutexGuard<'_, State>,
        event: Event<Kinds>,
        carry_out: impl FnOnce(Vec<Action<Kinds>>),
    ) {
        let now = Instant::now();
        // Events of callers are never out of turn.
        let _ = state.scheduler.handle(event, now);
        self.follow(state, carry_out);
    }

    /// Carries out the effects: under the lock only what must be in order. Passes what the user may notice to
    /// `carry_out`, which is called without the lock.
    pub(super) fn follow(&self, mut state: MutexGuard<'_, State>, carry_out: impl FnOnce(Vec<Action<Kinds>>)) {
        let (mut effects, mut channels, mut others) = (state.scheduler.take_effects(), Vec::new(), Vec::new());
        let had_posted = !state.posted.is_empty();
        let mut actions = effects.drain(..);
        while let Some(action) = actions.next() {
            if let Some(other) = self.do_in_order(&mut state, &mut channels, action) {
                // Allocates once, for all that may follow.
                others.reserve(1 + actions.len());
                others.push(other);
            }
        }
        drop(actions);
        state.scheduler.reuse(effects);
        self.set_timer(&mut state);
        let (is_done, has_posted) = (state.scheduler.is_done(), !state.posted.is_empty());
        self.is_done.store(is_done, Ordering::SeqCst);
        drop(state);
        for (worker, channel) in channels {
            self.send_off(worker, &channel);
        }
        if has_posted && !had_posted || is_done {
            self.wake_driver();
        }
        carry_out(others);
        if is_done {
            self.waiting.wake_all();
        }
    }

    /// Does what must be done under the lock; gives any other action back.
    fn do_in_order(&self, state: &mut State, channels: &mut Channels, action: Action<Kinds>) -> Option<Action<Kinds>> {
        match action {
            Action::Send(worker, task, place, wanted) => state.write(worker, channels, |connection| {
                connection.run(&task, place, wanted, || self.this.clone());
            }),
            Action::Want(worker, id, wanted) => state.write(worker, channels, |connection| {
                connection.want(id, wanted);
            }),
            Action::Dismiss(worker) => state.write(worker, channels, |connection| {
                connection.channel.outbox().request(Request::Quit);
            }),
            Action::Start(worker, task, seat) => {
                // Without a starter no worker can be started, and no task waits for one.
                let function = task.map_or_else(any_function, |task| task.0.function);
                let order = state.starter.as_ref().map(|starter| starter.send((worker, function, seat)));
                state.unanswered += usize::from(order.is_some_and(|order| order.is_ok()));
            }
            Action::Post(order) => state.posted.push(order),
            Action::Suspend(task) => task.task().core.suspend(),
            Action::Resume(task) => {
                task.task().core.resume();
                return Some(Action::Resume(task));
            }
            other => return Some(other),
        }
        None
    }

    /// Wakes the driver at this time, unless it wakes earlier.
    pub(super) fn look_by(&self, at: Instant) {
        self.set_timer_to(&mut self.lock(), Some(at));
    }

    fn set_timer(&self, state: &mut State) {
        let next = state.scheduler.next_deadline();
        self.set_timer_to(state, next);
    }

    fn set_timer_to(&self, state: &mut State, next: Option<Instant>) {
        if let Some(next) = next.filter(|&next| state.timer.is_none_or(|timer| next < timer)) {
            state.timer = Some(next);
            if self.is_polling.load(Ordering::SeqCst) {
                self.poller().iter().for_each(|poller| poller.set_timer(next));
            }
        }
    }

    /// Sends what the socket has room for; the driver sends the rest.
    pub(super) fn send_off(&self, worker: WorkerNumber, channel: &Arc<Channel>) {
        channel.send_off_with(|is_full| {
            self.poller().iter().for_each(|poller| poller.await_room(channel.as_fd(), worker, is_full));
        });
    }

    /// Tells workers to forget shared values that the program no longer needs.
    pub(super) fn forget_images(&self) {
        let forgotten = mem::take(&mut *self.forgotten());
        if forgotten.is_empty() {
            return;
        }
        let (mut state, mut channels) = (self.lock(), Channels::new());
        for (&worker, connection) in &mut state.connections {
            if connection.forget(&forgotten) {
                channels.push((worker, connection.channel.clone()));
            }
        }
        drop(state);
        for (worker, channel) in channels {
            self.send_off(worker, &channel);
        }
    }

    fn forgotten(&self) -> MutexGuard<'_, Vec<u64>> {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether there is anything that only the leader does: a guest that was woken for it may have left.
    fn has_posted(&self) -> bool {
        #[cfg(feature = "cluster")]
        let has_news = !self.crew_news.is_empty();
        #[cfg(not(feature = "cluster"))]
        let has_news = false;
        has_news || !self.posted.is_empty() || !self.arrivals.is_empty() || !self.waiting.is_empty()
    }

    /// Queues something for a worker, and notes its channel in `channels`.
    fn write(&mut self, worker: WorkerNumber, channels: &mut Channels, write: impl FnOnce(&mut Connection)) {
        let Some(connection) = self.connections.get_mut(&worker) else { return };
        write(connection);
        if channels.last().is_none_or(|(last, _)| *last != worker) {
            channels.push((worker, connection.channel.clone()));
        }
    }
}

/// Left to the driver: the thread that drops the last reference may hold any lock.
impl Keeper for Pool {
    fn forget(&self, image: u64) {
        if !self.process.is_here() {
            return;
        }
        self.forgotten().push(image);
        self.wake_driver();
    }
}

/// A thread that blocks until tasks have ended drives meanwhile.
impl Reactor for Pool {
    fn react(&self, sleeper: &Arc<Sleeper>) {
        // A forked process must not read what the workers say to this one.
        let Some(pool) = self.this.upgrade().filter(|_| self.process.is_here()) else { return };
        self.leadership.wait(
            sleeper,
            || self.interrupt(),
            |lead| {
                pool.turn(lead, Some(sleeper));
                // This thread may wait for something else as well, and only the resident ends the pool.
                !pool.is_done.load(Ordering::SeqCst)
            },
            || self.vacate(),
        );
    }

    fn interrupt(&self) {
        self.poller().iter().for_each(|poller| poller.wake());
    }
}

impl Follower for Sleeper {
    fn is_woken(&self) -> bool {
        self.must_leave()
    }

    fn sleep(&self) {
        self.park();
    }

    fn promote(&self) {
        self.unpark();
    }
}

impl Owner for Pool {
    fn changed(self: Arc<Self>, task: TaskId) {
        self.tell(Event::Wanted(task.to_u64()));
    }

    fn ended(self: Arc<Self>, task: TaskId) {
        self.tell(Event::Dropped(task.to_u64()));
    }

    fn look(&self, process: u32, task: TaskId) -> Option<Record> {
        self.memories.look(process, task)
    }

    fn heard_until(&self, task: TaskId) -> Option<u64> {
        let leader = if self.is_waiting.load(Ordering::SeqCst) { None } else { Some(self.heard_at.get()) };
        leader.into_iter().chain(self.backlog.heard_until(task.to_u64())).min()
    }

    fn stopped(&self, process: u32) -> Option<BoxError> {
        self.launch.stopped(process).map(|signal| RemoteError::from(stopped_by(signal)).into())
    }

    fn reactor(self: Arc<Self>) -> Option<Arc<dyn Reactor>> {
        self.standby.is_there().then_some(self as Arc<dyn Reactor>)
    }

    /// Calls the resident to drive: any other thread that received something would have to wake it to deliver that.
    fn take_over(&self) {
        if self.leadership.is_free() && self.process.is_here() {
            self.standby.call(Call::Now);
        }
    }
}

impl Drain for Pool {
    fn drain(&self) -> bool {
        let mut state = self.lock();
        state.relay.take_if(|relay| !relay.holds_up());
        state.scheduler.is_done()
            && state.lingering == 0
            && self.backlog.is_empty()
            && !self.is_delivering.load(Ordering::SeqCst)
            && state.relay.is_none()
    }

    fn waiting(&self) -> &Wakers {
        &self.waiting
    }
}
