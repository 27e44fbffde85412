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
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::codec::Encoded;
use crate::error::WorkerExit;
use crate::executor::job::{Job, Refusal};
use crate::process::pool::launch::{End, Failure, Launch, Process};
use crate::process::pool::poller::{Poller, Ready};
use crate::process::pool::queued::{Kinds, Queued};
use crate::process::pool::shared::{Pool, State};
use crate::process::pool::terms::{Action, Event, WorkerId};
use crate::process::program;
use crate::process::protocol::channel::{Channel, Received};
use crate::process::protocol::memory::Memory;
use crate::process::protocol::wire::decoder::Decoder;
use crate::process::protocol::wire::{Reply, WireError};
use crate::task::remote::Record;
use crate::task::transitions;

/// How often a worker is read from before others have their turn.
const READS: usize = 64;
/// The stack of the driver, which decodes outputs: as much as the one of `main` mostly has, for large arrays lie on it.
const DECODER_STACK: usize = 8 << 20;

impl Pool {
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
        let queued = Queued::new(job, function, input);
        self.tell_locked(state, [Event::Submitted(queued)]);
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
        let thread = thread::Builder::new().name("progress-drive".into()).stack_size(DECODER_STACK);
        thread.spawn(move || driver.run())?;
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
            let blind = self.peers.iter().filter(|(_, peer)| peer.process.pidfd().is_none());
            let mut ready: Vec<Ready> = blind.map(|(&worker, _)| Ready::Process(worker)).collect();
            let open = self.peers.iter().filter(|(_, peer)| !peer.is_severed);
            let channels = open.map(|(&worker, peer)| (peer.channel.as_fd(), worker, peer.channel.is_full()));
            // The channels come first: what a worker has said before its end still counts.
            let is_short = !ready.is_empty();
            ready.splice(..0, poller.wait(channels, is_short));
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
            state.waiting.clear();
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
            // Those who wait hear of it when these are dropped.
            let waiting = mem::take(&mut state.waiting);
            drop(state);
            if arrivals.is_empty() && posted.is_empty() && waiting.is_empty() {
                return;
            }
            for (worker, process, channel) in arrivals {
                self.admit(worker, process, channel);
            }
            for action in posted {
                match action {
                    Action::Look(worker) => self.look(worker),
                    Action::Glance(worker) => self.glance(worker),
                    Action::Stop(worker) => self.signal(worker, Signal::STOP),
                    Action::Continue(worker) => self.signal(worker, Signal::CONT),
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

    fn admit(&mut self, worker: WorkerId, mut process: Process, channel: Arc<Channel>) {
        let listening = self.listen(worker, &process, &channel);
        if listening.is_err() {
            process.kill();
            process.forget_pidfd();
        }
        let peer = Peer {
            process,
            channel: channel.clone(),
            decoder: Decoder::new(self.pool.launch.max_frame),
            introduction: Introduction::Greeting,
            is_severed: listening.is_err(),
            is_leaving: false,
            is_given_up: listening.is_err(),
            fault: None,
            stopped: None,
        };
        self.peers.insert(worker, peer);
        if let Err(error) = listening {
            let failure = Failure::of_system("to listen to a worker process", &error);
            return self.pool.tell(Event::NotStarted(worker, failure));
        }
        let mut state = self.pool.lock();
        state.channels.insert(worker, channel.clone());
        self.pool.tell_locked(state, [Event::Started(worker, channel.clone())]);
        self.pool.send_off(worker, &channel);
    }

    fn listen(&self, worker: WorkerId, process: &Process, channel: &Channel) -> io::Result<()> {
        let Some(poller) = self.pool.poller.get() else { return Ok(()) };
        poller.add(channel.as_fd(), Ready::Channel(worker))?;
        let listening = process.pidfd().map_or(Ok(()), |pidfd| poller.add(pidfd, Ready::Process(worker)));
        if listening.is_err() {
            poller.remove(channel.as_fd());
        }
        listening
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

    fn glance(&mut self, worker: WorkerId) {
        let is_stopped = self.peers.get(&worker).is_some_and(|peer| peer.process.stopped().is_some());
        self.pool.tell(Event::Glanced(worker, is_stopped));
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) {
        if let Some(peer) = self.peers.get(&worker) {
            peer.process.signal(signal);
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
        let program = peer.process.program();
        if peer.introduction == Introduction::Greeting && matches!(exit, WorkerExit::Code(_)) {
            program::pass_over(program);
        }
        let record = peer.last_record();
        peer.process.reap();
        if !peer.is_given_up {
            self.tell_gone(worker, End { exit, fault: peer.fault, stopped: peer.stopped, program, record });
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
        let (program, record) = (peer.process.program(), peer.last_record());
        let end = End { exit: WorkerExit::Unknown, fault: peer.fault.take(), stopped: peer.stopped, program, record };
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
    fn last_record(&self) -> Option<Record> {
        self.channel.memory().and_then(Memory::last_record)
    }

    /// What a worker says before it is ready.
    fn introduce(
        &mut self,
        worker: WorkerId,
        reply: Reply,
        launch: &Launch,
    ) -> Result<Option<Event<Kinds>>, WireError> {
        let verdict = match (self.introduction, reply) {
            (Introduction::Greeting, Reply::Ready(ready)) => launch.compare(ready).map(|()| {
                program::prove();
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
            Reply::Progress { id, snapshot } => Event::Progress(worker, id, snapshot),
            Reply::Ended { id, snapshot, outcome } => {
                Event::Ended(worker, id, Duration::from_nanos(snapshot.elapsed), (snapshot, outcome))
            }
            Reply::Goodbye => {
                self.is_leaving = true;
                Event::Goodbye(worker)
            }
            Reply::Ready(_) => return Err(WireError::OutOfTurn),
        }))
    }
}
