//! Does what the [scheduler](super::scheduler) says: one thread for all workers of a pool, and one more that starts them,
//! for that blocks.
//!
//! Everybody tells the scheduler what has happened, under its lock; what is to be sent is queued there as well, so that it
//! is sent in this order. All the rest follows without the lock. Callers write to the channels themselves. Only the
//! driver reads them, and only it ends and reaps processes, so that no number of a process is used that is not ours.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use event_listener::Event as Notifier;

use crate::codec::{Encoded, Format};
use crate::error::{CancelCause, TaskErrorKind, WorkerExit};
use crate::executor::job::{Job, Refusal};
use crate::executor::shutdown::Drain;
use crate::id::TaskId;
use crate::process::error::RemoteError;
use crate::process::pool::launch::{End, Failure, Launch, Process};
use crate::process::pool::poller::{Poller, Ready};
use crate::process::pool::remote::{self, Loss};
use crate::process::pool::scheduler::{
    Action, Doom, Effects, Event, KillReason, Page, Report, Scheduler, Settings, Task, Types, WorkerId,
};
use crate::process::protocol::channel::{Channel, Received};
use crate::process::protocol::memory;
use crate::process::protocol::page::Doomed;
use crate::process::protocol::wire::decoder::Decoder;
use crate::process::protocol::wire::outbox::Payload;
use crate::process::protocol::wire::{self, Ending, Outcome, Reply, Request, Run, WireError};
use crate::task::details::Owner;
use crate::task::remote::RemoteSnapshot;
use crate::task::state::Unclaimed;
use crate::task::{TaskRef, publish, state, transitions};

/// How often a worker is read from before others have their turn.
const READS: usize = 64;

pub(crate) struct Pool {
    pub(crate) launch: Launch,
    cancel_grace: Duration,
    state: Mutex<State>,
    poller: OnceLock<Poller>,
    progress: Notifier,
    has_remarked: AtomicBool,
}

struct State {
    scheduler: Scheduler<Kinds>,
    /// Where to send what a worker is to be told.
    channels: HashMap<WorkerId, Arc<Channel>>,
    /// What only the driver does.
    posted: Effects<Kinds>,
    /// Processes that were started, for the driver.
    arrivals: Vec<(WorkerId, Process, Arc<Channel>)>,
    /// Who starts them; there while the threads are.
    starter: Option<Sender<(WorkerId, &'static str)>>,
    /// When the driver looks at the time.
    timer: Option<Instant>,
}

/// What the scheduler handles.
struct Kinds;

impl Types for Kinds {
    type Task = Queued;
    type Page = Arc<Channel>;
    type Report = RemoteSnapshot;
    type Outcome = (RemoteSnapshot, Outcome);
    type Exit = End;
    type Failure = Failure;
}

/// A task of the pool.
#[derive(Clone)]
struct Queued(Arc<Entry>);

struct Entry {
    job: Job,
    function: &'static str,
    format: Format,
    /// Until it has begun for the last time.
    input: Mutex<Payload>,
    /// In nanoseconds.
    timeout: u64,
    /// How often it is to be started again, when its worker is lost.
    retries: AtomicU32,
}

impl Queued {
    fn task(&self) -> &TaskRef {
        self.0.job.task()
    }

    fn input(&self) -> MutexGuard<'_, Payload> {
        self.0.input.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task for Queued {
    fn id(&self) -> u64 {
        self.0.job.id().to_u64()
    }

    fn word(&self) -> u32 {
        self.task().core.state.load()
    }

    fn lend(&self) -> Result<u32, Unclaimed> {
        self.task().core.state.lend()
    }

    fn take_back(&self) -> bool {
        self.task().core.state.take_back()
    }

    fn retry(&self) -> bool {
        let left = self.0.retries.load(Ordering::Relaxed);
        if left == 0 {
            return false;
        }
        // Nobody may have heard that it had begun.
        self.task().core.state.begin();
        self.0.retries.store(left - 1, Ordering::Relaxed);
        transitions::retry(self.task())
    }
}

impl Report for RemoteSnapshot {
    fn has_noticed(&self) -> bool {
        self.has_noticed
    }

    fn is_silent(&self) -> bool {
        self.is_silent
    }
}

/// Without memory that is shared, nobody but the worker knows which task has begun.
impl Page for Arc<Channel> {
    fn places(&self) -> usize {
        if self.memory().is_some() { memory::PLACES } else { 1 }
    }

    fn offer(&self, place: u64) {
        if let Some(place) = self.memory().and_then(|memory| memory.place(place)) {
            place.offer();
        }
    }

    fn take_back(&self, place: u64) -> bool {
        self.memory().and_then(|memory| memory.place(place)).is_some_and(|place| place.take_back())
    }

    fn has_begun(&self, place: u64) -> bool {
        self.memory().and_then(|memory| memory.place(place)).is_some_and(|place| place.has_begun())
    }

    fn doom(&self, place: u64) -> Doom {
        match self.memory().and_then(|memory| memory.place(place)).map(|place| place.doom()) {
            None | Some(Doomed::Yes) => Doom::Done,
            Some(Doomed::Noticed) => Doom::Noticed,
            Some(Doomed::Ended) => Doom::Ended,
        }
    }
}

impl Pool {
    pub(crate) fn new(launch: Launch, settings: Settings) -> Self {
        let state = State {
            scheduler: Scheduler::new(settings),
            channels: HashMap::new(),
            posted: Vec::new(),
            arrivals: Vec::new(),
            starter: None,
            timer: None,
        };
        Self {
            launch,
            cancel_grace: settings.cancel_grace,
            state: Mutex::new(state),
            poller: OnceLock::new(),
            progress: Notifier::new(),
            has_remarked: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn submit(self: &Arc<Self>, job: Job, function: &'static str, input: Encoded) {
        let mut state = self.lock();
        if state.scheduler.is_closed() {
            drop(state);
            return job.reject(Refusal::ShutDown);
        }
        if let Err(error) = self.start_threads(&mut state) {
            drop(state);
            let Failure { kind, error, .. } = Failure::of_system("the threads that see to its workers", &error);
            return transitions::reject(job.task(), kind, error.into());
        }
        let limits = job.task().core.existing_details().map(|details| details.limits).unwrap_or_default();
        let timeout = limits.timeout.and_then(|limit| u64::try_from(limit.as_nanos()).ok());
        let entry = Entry {
            job,
            function,
            format: input.format,
            input: Mutex::new(input.bytes.into()),
            timeout: timeout.unwrap_or(wire::NO_TIMEOUT),
            retries: AtomicU32::new(limits.retries),
        };
        self.tell_locked(state, [Event::Submitted(Queued(Arc::new(entry)))]);
    }

    pub(crate) fn close(self: &Arc<Self>) {
        self.tell(Event::Closed);
    }

    pub(crate) fn unended(&self) -> Vec<TaskRef> {
        self.lock().scheduler.unended().iter().map(|queued| queued.task().clone()).collect()
    }

    /// How many workers there are, how many tasks that wait for one, and whether more are refused.
    pub(crate) fn status(&self) -> (usize, usize, bool) {
        let state = self.lock();
        let (workers, queued) = state.scheduler.counts();
        (workers, queued, state.scheduler.is_closed())
    }

    fn start_threads(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        if state.starter.is_some() {
            return Ok(());
        }
        if self.poller.get().is_none() {
            let _ = self.poller.set(Poller::new()?);
        }
        let (starter, orders) = channel();
        let pool = self.clone();
        thread::Builder::new().name("progress-start".into()).spawn(move || pool.start_workers(&orders))?;
        let driver = Driver { pool: self.clone(), peers: HashMap::new() };
        thread::Builder::new().name("progress-drive".into()).spawn(move || driver.run())?;
        state.starter = Some(starter);
        Ok(())
    }

    /// The life of the thread that starts workers. It lives as long as they do, for the system may tell them when it
    /// ends.
    fn start_workers(self: Arc<Self>, orders: &Receiver<(WorkerId, &'static str)>) {
        while let Ok((worker, function)) = orders.recv() {
            match self.launch.start(function) {
                Ok((process, channel)) => {
                    self.lock().arrivals.push((worker, process, Arc::new(channel)));
                    self.wake_driver();
                }
                Err(failure) => self.tell(Event::NotStarted(worker, failure)),
            }
        }
    }

    fn wake_driver(&self) {
        if let Some(poller) = self.poller.get() {
            poller.wake();
        }
    }

    /// Tells the scheduler, and does what follows.
    fn tell(self: &Arc<Self>, event: Event<Kinds>) {
        self.tell_locked(self.lock(), [event]);
    }

    fn tell_locked(&self, mut state: MutexGuard<'_, State>, events: impl IntoIterator<Item = Event<Kinds>>) {
        let (now, mut effects) = (Instant::now(), Vec::new());
        for event in events {
            // What callers say is never out of turn.
            let _ = state.scheduler.handle(event, now, &mut effects);
        }
        self.follow(state, effects);
    }

    /// Does what is to be done, and lets go of the lock for all but what has to be in order.
    fn follow(&self, mut state: MutexGuard<'_, State>, effects: Effects<Kinds>) {
        let (mut others, mut channels) = (Vec::new(), Vec::new());
        let had_posted = !state.posted.is_empty();
        for action in effects {
            match action {
                Action::Send(worker, task, place, wanted) => state.send(worker, &mut channels, |channel| {
                    let Entry { function, format, timeout, .. } = *task.0;
                    let run = Run { id: task.id(), place, wanted, timeout };
                    channel.outbox().run(run, function, format, &task.input());
                }),
                Action::Want(worker, id, wanted) => state.send(worker, &mut channels, |channel| {
                    channel.outbox().request(Request::Want { id, wanted });
                }),
                Action::Dismiss(worker) => {
                    state.send(worker, &mut channels, |channel| channel.outbox().request(Request::Quit));
                }
                Action::Start(worker, task) => {
                    // There while there is anybody who could start it, and else there is nobody who waits.
                    _ = state.starter.as_ref().map(|starter| starter.send((worker, task.0.function)));
                }
                Action::Look(_) | Action::Kill(_) | Action::GiveUp(_) | Action::Remark => state.posted.push(action),
                other => others.push(other),
            }
        }
        self.set_timer(&mut state);
        let (is_done, has_posted) = (state.scheduler.is_done(), !state.posted.is_empty());
        drop(state);
        for (worker, channel) in channels {
            self.send_off(worker, &channel);
        }
        if has_posted && !had_posted || is_done {
            self.wake_driver();
        }
        others.into_iter().for_each(|action| self.carry_out(action));
        if is_done {
            self.progress.notify(usize::MAX);
        }
    }

    fn set_timer(&self, state: &mut State) {
        let next = state.scheduler.next_deadline();
        let is_sooner = next.filter(|&next| state.timer.is_none_or(|timer| next < timer));
        if let (Some(next), Some(poller)) = (is_sooner, self.poller.get()) {
            state.timer = Some(next);
            poller.set_timer(next);
        }
    }

    /// Sends what the socket has room for; the driver does the rest.
    fn send_off(&self, worker: WorkerId, channel: &Arc<Channel>) {
        if !channel.send_off() {
            if let Some(poller) = self.poller.get() {
                poller.await_room(channel.as_fd(), worker, true);
            }
        }
    }

    /// Makes known what has become of a task. Code of the user may be called: outputs are decoded and dropped, futures
    /// are woken.
    fn carry_out(&self, action: Action<Kinds>) {
        let caught = catch_unwind(AssertUnwindSafe(|| match action {
            Action::Begin(task) => {
                remote::begin(task.task());
                if task.0.retries.load(Ordering::Relaxed) == 0 {
                    drop(mem::take(&mut *task.input()));
                }
            }
            Action::Show(task, sight) => remote::mirror(task.task(), sight),
            Action::Settle(task, (sight, outcome)) => remote::end(task.task(), sight, judge(task.task(), outcome)),
            Action::Lose(task, end, reason) => remote::lose(task.task(), self.loss(task.task(), end, reason)),
            Action::ShowRetry(task) => publish::change(task.task()),
            Action::Refuse(task) => transitions::refuse(task.task(), cancelled_kind(task.task()), None),
            Action::Reject(tasks, Failure { kind, error, .. }) => {
                for task in tasks {
                    transitions::reject(task.task(), kind.clone(), error.clone().into());
                }
            }
            // Dropped here, and not under the lock; all others are the driver's, or were done.
            _ => {}
        }));
        // What was thrown may throw again when it is dropped.
        caught.unwrap_or_else(mem::forget);
    }

    fn loss(&self, task: &TaskRef, End { exit, fault, stopped }: End, reason: Option<KillReason>) -> Loss {
        let stopped = stopped.map_or(String::new(), |signal| {
            format!(
                "; it was stopped ({}), as by a debugger or because it had touched the terminal",
                WorkerExit::Signal(signal)
            )
        });
        let lost = TaskErrorKind::WorkerLost(exit);
        let (kind, source) = match (reason, fault) {
            (Some(KillReason::Unheeded), _) => {
                let grace = self.cancel_grace;
                let what = format!("it took no notice for {grace:?}, so the process that ran it was killed{stopped}");
                (cancelled_kind(task), Some(RemoteError::from(what)))
            }
            (Some(KillReason::Silent), _) => {
                (lost, Some(format!("its worker was killed, because it said nothing{stopped}").into()))
            }
            (_, Some(fault)) => {
                (lost, Some(RemoteError::new("its worker was killed, because of what it had sent", &fault)))
            }
            (_, None) => (lost, None),
        };
        Loss { kind, source: source.map(Into::into), panic: None }
    }
}

impl State {
    fn send(&mut self, worker: WorkerId, channels: &mut Vec<(WorkerId, Arc<Channel>)>, write: impl FnOnce(&Channel)) {
        let Some(channel) = self.channels.get(&worker) else { return };
        write(channel);
        if channels.last().is_none_or(|(last, _)| *last != worker) {
            channels.push((worker, channel.clone()));
        }
    }
}

/// The thread that reads from workers, and sees to their ends.
struct Driver {
    pool: Arc<Pool>,
    peers: HashMap<WorkerId, Peer>,
}

/// A process, and what is known of it.
struct Peer {
    process: Process,
    channel: Arc<Channel>,
    decoder: Decoder,
    introduction: Introduction,
    /// It is not read from any more.
    is_severed: bool,
    is_leaving: bool,
    /// The scheduler knows of its end.
    is_given_up: bool,
    fault: Option<WireError>,
    stopped: Option<i32>,
}

/// What is still to come before a worker is ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Introduction {
    Greeting,
    Initializer,
    Done,
}

impl Driver {
    fn run(mut self) {
        let pool = self.pool.clone();
        while let Some(poller) = pool.poller.get() {
            self.do_what_was_posted();
            self.see_to_time();
            if self.is_over() {
                return;
            }
            let ready = poller.wait(self.peers.iter().filter_map(|(&worker, peer)| {
                let fd = peer.channel.as_fd();
                (!peer.is_severed).then_some((fd, Ready::Channel(worker), peer.channel.is_full()))
            }));
            for ready in ready {
                match ready {
                    Ready::Channel(worker) => self.receive(worker),
                    Ready::Process(worker) => self.see_end(worker),
                }
            }
        }
    }

    /// Whether nothing is left to do. Then the thread that starts workers ends as well.
    fn is_over(&self) -> bool {
        let mut state = self.pool.lock();
        let is_over = state.scheduler.is_done();
        if is_over {
            state.starter = None;
        }
        drop(state);
        if is_over {
            self.pool.progress.notify(usize::MAX);
        }
        is_over
    }

    fn do_what_was_posted(&mut self) {
        loop {
            let mut state = self.pool.lock();
            let (arrivals, posted) = (mem::take(&mut state.arrivals), mem::take(&mut state.posted));
            drop(state);
            if arrivals.is_empty() && posted.is_empty() {
                return;
            }
            for (worker, process, channel) in arrivals {
                self.admit(worker, process, channel);
            }
            for action in posted {
                match action {
                    Action::Look(worker) => self.look(worker),
                    Action::Kill(worker) => self.kill(worker),
                    Action::GiveUp(worker) => self.give_up(worker),
                    Action::Remark => self.remark(),
                    _ => {}
                }
            }
        }
    }

    fn see_to_time(&mut self) {
        let mut state = self.pool.lock();
        if state.timer.is_some_and(|timer| timer <= Instant::now()) {
            state.timer = None;
            self.pool.tell_locked(state, [Event::Time]);
            self.do_what_was_posted();
        }
    }

    fn admit(&mut self, worker: WorkerId, process: Process, channel: Arc<Channel>) {
        if let Some(poller) = self.pool.poller.get() {
            let fd = channel.as_fd();
            let added = poller.add(fd, Ready::Channel(worker));
            let added = added.and(process.pidfd().map_or(Ok(()), |fd| poller.add(fd, Ready::Process(worker))));
            if let Err(error) = added {
                process.kill();
                let failure = Failure::of_system("to listen to a worker process", &error);
                return self.pool.tell(Event::NotStarted(worker, failure));
            }
        }
        let peer = Peer {
            process,
            channel: channel.clone(),
            decoder: Decoder::new(self.pool.launch.max_frame),
            introduction: Introduction::Greeting,
            is_severed: false,
            is_leaving: false,
            is_given_up: false,
            fault: None,
            stopped: None,
        };
        self.peers.insert(worker, peer);
        let mut state = self.pool.lock();
        state.channels.insert(worker, channel.clone());
        self.pool.tell_locked(state, [Event::Started(worker, channel.clone())]);
        self.pool.send_off(worker, &channel);
    }

    /// Reads once, and sends what there was no room for.
    fn receive(&mut self, worker: WorkerId) {
        let Some(peer) = self.peers.get_mut(&worker).filter(|peer| !peer.is_severed) else { return };
        if peer.channel.is_full() && peer.channel.send_off() {
            if let Some(poller) = self.pool.poller.get() {
                poller.await_room(peer.channel.as_fd(), worker, false);
            }
        }
        match peer.channel.receive(&mut peer.decoder) {
            Received::Some => self.take_in(worker),
            Received::Nothing => {}
            Received::End => self.sever(worker, None),
        }
    }

    /// Takes in all that a worker has said by now, be it sent or noted.
    fn look(&mut self, worker: WorkerId) {
        self.receive_all(worker);
        if let Some(peer) = self.peers.get_mut(&worker).filter(|peer| !peer.is_severed) {
            let notes = peer.channel.memory().map(|memory| memory.notes(peer.decoder.taken()));
            peer.decoder.foresee(&notes.unwrap_or_default());
            self.take_in(worker);
        }
        self.pool.tell(Event::Looked(worker));
    }

    fn receive_all(&mut self, worker: WorkerId) {
        for _ in 0..READS {
            let Some(peer) = self.peers.get_mut(&worker).filter(|peer| !peer.is_severed) else { return };
            match peer.channel.receive(&mut peer.decoder) {
                Received::Some => self.take_in(worker),
                Received::Nothing => return,
                Received::End => return self.sever(worker, None),
            }
        }
    }

    fn take_in(&mut self, worker: WorkerId) {
        let Some(peer) = self.peers.get_mut(&worker) else { return };
        let (now, mut effects) = (Instant::now(), Vec::new());
        let mut state = self.pool.lock();
        let result = loop {
            match peer.decoder.next_reply() {
                Ok(Some(reply)) => {
                    let event = match peer.introduction {
                        Introduction::Done => peer.event(worker, reply),
                        _ => peer.introduce(worker, reply, &self.pool.launch),
                    };
                    let handled = event.and_then(|event| match event {
                        Some(event) => {
                            state.scheduler.handle(event, now, &mut effects).map_err(|_| WireError::OutOfTurn)
                        }
                        None => Ok(()),
                    });
                    if let Err(error) = handled {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.pool.follow(state, effects);
        if let Err(error) = result {
            self.sever(worker, Some(error));
        }
    }

    /// Nothing more is to be heard of a worker, or nothing that makes sense.
    fn sever(&mut self, worker: WorkerId, fault: Option<WireError>) {
        let Some(peer) = self.peers.get_mut(&worker) else { return };
        if fault.is_some() && peer.fault.is_none() {
            peer.fault = fault;
        }
        if !mem::replace(&mut peer.is_severed, true) {
            if let Some(poller) = self.pool.poller.get() {
                poller.remove(peer.channel.as_fd());
            }
            self.pool.tell(Event::Severed(worker));
        }
    }

    fn kill(&mut self, worker: WorkerId) {
        if let Some(peer) = self.peers.get_mut(&worker) {
            peer.stopped = peer.process.stopped();
            peer.process.kill();
        }
    }

    /// Sees to a worker whose process may have ended.
    fn see_end(&mut self, worker: WorkerId) {
        let Some(exit) = self.peers.get(&worker).and_then(|peer| peer.process.exit()) else { return };
        self.hear_last(worker);
        let Some(peer) = self.peers.remove(&worker) else { return };
        if !peer.is_leaving {
            // What its task has started goes with it. It is not reaped yet, so that nobody else has its number.
            peer.process.kill();
        }
        if let Some(poller) = self.pool.poller.get() {
            if !peer.is_severed {
                poller.remove(peer.channel.as_fd());
            }
            if let Some(fd) = peer.process.pidfd() {
                poller.remove(fd);
            }
        }
        peer.process.reap();
        if !peer.is_given_up {
            self.tell_gone(worker, End { exit, fault: peer.fault, stopped: peer.stopped });
        }
    }

    /// What a worker had said before its end still counts, sent or not.
    fn hear_last(&mut self, worker: WorkerId) {
        while self.peers.get(&worker).is_some_and(|peer| !peer.is_severed) {
            let Some(peer) = self.peers.get_mut(&worker) else { return };
            match peer.channel.receive(&mut peer.decoder) {
                Received::Some => self.take_in(worker),
                // Another process may have its end of the channel, and nothing to say.
                Received::Nothing | Received::End => break,
            }
        }
        let Some(peer) = self.peers.get_mut(&worker) else { return };
        if peer.fault.is_some() {
            peer.decoder.forget_rest();
        }
        let notes = peer.channel.memory().map(|memory| memory.notes(peer.decoder.taken()));
        peer.decoder.append(&notes.unwrap_or_default());
        self.take_in(worker);
    }

    /// A process that was killed does not end, and is waited for no longer.
    fn give_up(&mut self, worker: WorkerId) {
        let Some(peer) = self.peers.get_mut(&worker).filter(|peer| !peer.is_given_up) else { return };
        peer.is_given_up = true;
        let end = End { exit: WorkerExit::Unknown, fault: peer.fault.take(), stopped: peer.stopped };
        self.tell_gone(worker, end);
    }

    fn tell_gone(&self, worker: WorkerId, end: End) {
        let mut state = self.pool.lock();
        state.channels.remove(&worker);
        self.pool.tell_locked(state, [Event::Gone(worker, end)]);
    }

    fn remark(&self) {
        if !self.pool.has_remarked.swap(true, Ordering::Relaxed) {
            eprintln!(
                "progress-executor: a worker process has not called `TaskRegistry::init` for 3 s; it has to be the first \
                 thing that `main` calls"
            );
        }
    }
}

impl Peer {
    /// What a worker says before it is ready.
    fn introduce(
        &mut self,
        worker: WorkerId,
        reply: Reply,
        launch: &Launch,
    ) -> Result<Option<Event<Kinds>>, WireError> {
        let verdict = match (self.introduction, reply) {
            (Introduction::Greeting, Reply::Ready(ready)) => launch.compare(ready).map(|()| {
                let has_initializer = launch.initializer.is_some();
                self.introduction = if has_initializer { Introduction::Initializer } else { Introduction::Done };
                if has_initializer { Event::Greeted(worker) } else { Event::Ready(worker) }
            }),
            (Introduction::Initializer, Reply::Ended { id: 0, outcome, .. }) => launch.judge(outcome).map(|()| {
                self.introduction = Introduction::Done;
                Event::Ready(worker)
            }),
            (Introduction::Initializer, Reply::Started { id: 0 } | Reply::Progress { id: 0, .. }) => return Ok(None),
            (_, Reply::Goodbye) => return Ok(None),
            _ => return Err(WireError::OutOfTurn),
        };
        Ok(Some(verdict.unwrap_or_else(|failure| Event::Unfit(worker, failure))))
    }

    fn event(&mut self, worker: WorkerId, reply: Reply) -> Result<Option<Event<Kinds>>, WireError> {
        Ok(Some(match reply {
            Reply::Started { id } => Event::Begun(worker, id),
            Reply::Progress { id, sight } => Event::Progress(worker, id, sight),
            Reply::Ended { id, sight, outcome } => {
                Event::Ended(worker, id, Duration::from_nanos(sight.elapsed), (sight, outcome))
            }
            Reply::Goodbye => {
                self.is_leaving = true;
                Event::Goodbye(worker)
            }
            Reply::Ready(_) => return Err(WireError::OutOfTurn),
        }))
    }
}

fn judge(task: &TaskRef, outcome: Outcome) -> Result<Encoded, Loss> {
    let (ending, texts) = match outcome {
        Outcome::Value(output) => return Ok(output),
        Outcome::Error(ending, texts) => (ending, texts),
    };
    let is_requested = task.core.state.load() & state::CANCEL != 0;
    Err(match ending {
        Ending::Cancelled if is_requested => {
            Loss { kind: cancelled_kind(task), source: Some(RemoteError::from_chain(texts).into()), panic: None }
        }
        Ending::Panicked => Loss { kind: TaskErrorKind::Panicked, source: None, panic: texts.into_iter().next() },
        _ => Loss { kind: ending.kind(), source: Some(RemoteError::from_chain(texts).into()), panic: None },
    })
}

fn cancelled_kind(task: &TaskRef) -> TaskErrorKind {
    TaskErrorKind::Cancelled(CancelCause::from_bits(state::cause(task.core.state.load())))
}

impl Owner for Pool {
    fn changed(self: Arc<Self>, task: TaskId) {
        self.tell(Event::Wanted(task.to_u64()));
    }

    fn ended(self: Arc<Self>, task: TaskId) {
        self.tell(Event::Dropped(task.to_u64()));
    }
}

impl Drain for Pool {
    fn drain(&self) -> bool {
        self.lock().scheduler.is_done()
    }

    fn progress(&self) -> &Notifier {
        &self.progress
    }
}
