//! Does what the [scheduler](super::scheduler) says: one thread for all workers of a pool, and one more that starts them,
//! for that blocks.
//!
//! Everybody tells the scheduler what has happened, under its lock; what is to be sent is queued there as well, so that it
//! is sent in this order. All the rest follows without the lock. Callers write to the channels themselves. Only the
//! driver reads them, and only it ends and reaps processes, so that no number of a process is used that is not ours.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use crate::codec::Encoded;
use crate::codec::shared::References;
use crate::error::WorkerExit;
use crate::executor::job::{Job, Refusal};
use crate::process::output::WorkerOutput;
#[cfg(feature = "cluster")]
use crate::process::pool::crew::Crews;
use crate::process::pool::launch::{End, Failure, LAUNCHER_PATIENCE, Process};
use crate::process::pool::peer::{Introduction, Peer};
use crate::process::pool::poller::{Poller, Ready};
use crate::process::pool::queued::Queued;
use crate::process::pool::scheduler::Counts;
use crate::process::pool::shared::{Pool, State};
use crate::process::pool::terms::{Action, Event, Seat, WorkerId};
use crate::process::program;
use crate::process::protocol::channel::{Channel, Received};
use crate::process::protocol::wire::WireError;
use crate::process::protocol::wire::decoder::Decoder;
use crate::task::transitions;

/// How often a worker is read from before others have their turn.
const READS: usize = 64;
/// The stack of the driver, which decodes outputs: as much as the one of `main` mostly has, for large arrays lie on it.
const DECODER_STACK: usize = 8 << 20;

impl Pool {
    pub(crate) fn submit(
        self: &Arc<Self>,
        job: Job,
        function: &'static str,
        (input, references): (Encoded, References),
    ) {
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
        let queued = Queued::new(job, function, input, references);
        self.tell_locked(state, [Event::Submitted(queued)]);
    }

    /// Has workers started ahead of need, until there are so many.
    pub(crate) fn prestart(self: &Arc<Self>, workers: usize) {
        let mut state = self.lock();
        // Where that fails, it does so again for the first task, which says why.
        if !state.scheduler.is_closed() && self.start_threads(&mut state).is_ok() {
            self.tell_locked(state, [Event::Prestarted(workers)]);
        }
    }

    fn start_threads(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        if state.starter.is_some() {
            return Ok(());
        }
        if self.poller.get().is_none() {
            let _ = self.poller.set(Poller::new()?);
        }
        let has_lines = !self.launch.launcher.is_local() || matches!(self.launch.output, WorkerOutput::Lines(_));
        let has_lines = has_lines || self.launch.log_level > 0;
        if has_lines && state.relay.is_none() {
            state.relay = Some(self.start_relay()?);
        }
        let (starter, orders) = channel();
        let pool = self.clone();
        thread::Builder::new().name("progress-start".into()).spawn(move || pool.start_workers(&orders))?;
        let driver = Driver {
            pool: self.clone(),
            peers: HashMap::new(),
            unwatched: BTreeSet::new(),
            lingering: BTreeMap::new(),
            next_beat: None,
            #[cfg(feature = "cluster")]
            crews: Crews::default(),
        };
        let thread = thread::Builder::new().name("progress-drive".into()).stack_size(DECODER_STACK);
        thread.spawn(move || driver.run())?;
        state.starter = Some(starter);
        Ok(())
    }

    /// The life of the thread that starts workers. It lives as long as they do, for the system may tell them when it
    /// ends.
    fn start_workers(self: Arc<Self>, orders: &Receiver<(WorkerId, &'static str, Seat)>) {
        #[cfg(feature = "cluster")]
        if self.launch.launcher.is_bulk() {
            return self.start_crews(orders);
        }
        while let Ok((worker, function, seat)) = orders.recv() {
            match self.launch.start(function, seat) {
                Ok((process, channel)) => {
                    self.relay(&process);
                    self.lock().arrivals.push((worker, process, Arc::new(channel)));
                    self.wake_driver();
                }
                Err(failure) => self.tell(Event::NotStarted(worker, failure)),
            }
        }
    }
}

impl Pool {
    /// Lets what a worker or its launcher writes be passed on.
    fn relay(&self, process: &Process) {
        let Some(relay) = self.lock().relay.clone() else { return };
        if let Some(launched) = process.launched() {
            relay.add(launched.errors().clone());
        }
        for stream in process.spoken().iter().flat_map(|spoken| &spoken.streams) {
            relay.add(stream.clone());
        }
    }
}

/// The thread that reads from workers, and sees to their ends.
pub(super) struct Driver {
    pub(super) pool: Arc<Pool>,
    pub(super) peers: HashMap<WorkerId, Peer>,
    /// Those of whose end nothing tells, so that it is looked for now and then: mostly none of a thousand.
    unwatched: BTreeSet<WorkerId>,
    /// Those whose launchers were asked to end, and until when they may take for it.
    lingering: BTreeMap<WorkerId, Instant>,
    /// When to see to those that may fall out of reach.
    pub(super) next_beat: Option<Instant>,
    #[cfg(feature = "cluster")]
    pub(super) crews: Crews,
}

impl Driver {
    fn run(mut self) {
        let pool = self.pool.clone();
        while let Some(poller) = pool.poller.get() {
            self.do_what_was_posted();
            self.see_to_time();
            self.see_to_lingering();
            self.see_to_pulses();
            let mut ready = self.what_nothing_tells();
            if self.is_over() {
                return;
            }
            let open = self.peers.iter().filter(|(_, peer)| !peer.is_severed);
            let channels = open.map(|(&worker, peer)| (peer.channel.as_fd(), worker, peer.channel.is_full()));
            // The channels come first: what a worker has said before its end still counts.
            let is_short = !ready.is_empty();
            ready.splice(..0, poller.wait(channels, is_short));
            for ready in ready {
                match ready {
                    Ready::Channel(worker) => self.receive(worker),
                    Ready::Process(worker) => self.see_end(worker),
                    #[cfg(feature = "cluster")]
                    Ready::Crew(crew) => self.see_to_crew(crew),
                    #[cfg(feature = "cluster")]
                    Ready::Reception => self.serve_reception(),
                }
            }
        }
    }

    /// What is to be looked at now and then, because nothing tells.
    fn what_nothing_tells(&mut self) -> Vec<Ready> {
        let ready: Vec<Ready> = self.unwatched.iter().map(|&worker| Ready::Process(worker)).collect();
        #[cfg(feature = "cluster")]
        let ready = ready.into_iter().chain(self.see_to_crews()).collect();
        ready
    }

    /// Whether nothing is left to do. Then the thread that starts workers ends as well.
    fn is_over(&self) -> bool {
        let mut state = self.pool.lock();
        let is_over = state.scheduler.is_done() && self.lingering.is_empty();
        #[cfg(feature = "cluster")]
        let is_over = is_over && self.crews.are_over();
        if is_over {
            state.starter = None;
            state.waiting.clear();
            // Kept, for there is something to wait for until it has ended.
            state.relay.iter().for_each(|relay| relay.finish());
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
            self.pool.forget_images();
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
                    Action::Stop(worker) => self.stop(worker, true),
                    Action::Continue(worker) => self.stop(worker, false),
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

    pub(super) fn admit(&mut self, worker: WorkerId, mut process: Process, channel: Arc<Channel>) {
        let listening = self.listen(worker, &process, &channel);
        if listening.is_err() {
            process.kill();
            process.forget_pidfd();
        }
        let speakers = process.spoken().map(|spoken| spoken.speakers.clone());
        let peer = Peer {
            process,
            #[cfg(feature = "cluster")]
            crew: None,
            channel: channel.clone(),
            decoder: Decoder::new(self.pool.launch.max_frame),
            ahead: None,
            introduction: Introduction::Greeting,
            pulse: None,
            expires: None,
            is_severed: listening.is_err(),
            is_leaving: false,
            is_given_up: listening.is_err(),
            fault: None,
            stopped: None,
        };
        if peer.process.pidfd().is_none() && !peer.process.is_elsewhere() {
            self.unwatched.insert(worker);
        }
        self.peers.insert(worker, peer);
        if let Err(error) = listening {
            let failure = Failure::of_system("to listen to a worker process", &error);
            return self.pool.tell(Event::NotStarted(worker, failure));
        }
        let mut state = self.pool.lock();
        state.channels.insert(worker, channel.clone());
        if let Some(speakers) = speakers {
            speakers.set_channel(channel.clone());
            state.speakers.insert(worker, speakers);
        }
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

    pub(super) fn receive_all(&mut self, worker: WorkerId) {
        for _ in 0..READS {
            let Some(peer) = self.peers.get_mut(&worker).filter(|peer| !peer.is_severed) else { return };
            match peer.channel.receive(&mut peer.decoder) {
                Received::Some => self.take_in(worker),
                Received::Nothing => return peer.rest(),
                Received::End => return self.sever(worker, None),
            }
        }
    }

    fn take_in(&mut self, worker: WorkerId) {
        let Some(peer) = self.peers.get_mut(&worker) else { return };
        let (now, mut effects) = (Instant::now(), Vec::new());
        peer.pulse.iter_mut().for_each(|pulse| pulse.hear(now));
        match peer.has_greeting() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.sever(worker, Some(error)),
        }
        let mut state = self.pool.lock();
        let result = loop {
            match peer.next_event(worker, &self.pool.launch, &mut state.sites) {
                Ok(Some(event)) => {
                    if state.scheduler.handle(event, now, &mut effects).is_err() {
                        break Err(WireError::OutOfTurn);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        peer.rest();
        if let (Some(relay), Some(_)) = (&state.relay, peer.process.spoken()) {
            // What tasks have said until their ends was read already.
            relay.wake();
        }
        self.pool.follow(state, effects);
        if let Err(error) = result {
            self.sever(worker, Some(error));
        }
    }

    /// Nothing more is to be heard of a worker, or nothing that makes sense.
    pub(super) fn sever(&mut self, worker: WorkerId, fault: Option<WireError>) {
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
        self.see_disconnected(worker);
    }

    /// Where nothing else is known of a process, the end of its connection is its own.
    fn see_disconnected(&mut self, worker: WorkerId) {
        let Some(peer) = self.peers.get_mut(&worker).filter(|peer| peer.process.is_elsewhere()) else { return };
        peer.process.disconnect(if peer.is_leaving { WorkerExit::Code(0) } else { WorkerExit::Unknown });
        self.unwatched.insert(worker);
        self.see_end(worker);
    }

    fn glance(&mut self, worker: WorkerId) {
        let is_stopped = self.peers.get(&worker).is_some_and(|peer| peer.process.stopped().is_some());
        self.pool.tell(Event::Glanced(worker, is_stopped));
    }

    /// Lets a worker stand still, or go on.
    fn stop(&self, worker: WorkerId, is_stopped: bool) {
        if let Some(peer) = self.peers.get(&worker) {
            if !peer.stop(is_stopped) {
                self.pool.send_off(worker, &peer.channel);
            }
        }
    }

    fn kill(&mut self, worker: WorkerId) {
        match self.peers.get_mut(&worker) {
            Some(peer) => peer.kill(),
            #[cfg(feature = "cluster")]
            None => self.forget_absent(worker),
            #[cfg(not(feature = "cluster"))]
            None => {}
        }
    }

    /// Sees to a worker whose process may have ended.
    fn see_end(&mut self, worker: WorkerId) {
        let Some(exit) = self.peers.get(&worker).and_then(|peer| peer.process.exit()) else { return };
        self.hear_last(worker);
        let Some(peer) = self.peers.remove(&worker) else { return };
        self.unwatched.remove(&worker);
        self.lingering.remove(&worker);
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
        let end = peer.end(exit);
        if peer.introduction == Introduction::Greeting && end.remains.is_none() && matches!(exit, WorkerExit::Code(_)) {
            program::pass_over(end.program);
        }
        peer.process.leave_streams();
        self.pool.lock().relay.iter().for_each(|relay| relay.wake());
        peer.process.reap();
        let end = (!peer.is_given_up).then_some(end);
        #[cfg(feature = "cluster")]
        let end = match peer.crew {
            Some(crew) => self.leave_crew(crew, worker, end, peer.is_leaving),
            None => end,
        };
        end.into_iter().for_each(|end| self.tell_gone(worker, end));
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
        if peer.fault.is_some() && peer.process.launched().is_none() {
            peer.decoder.forget_rest();
        }
        let notes = peer.channel.memory().map(|memory| memory.notes(peer.decoder.taken()));
        peer.decoder.append(&notes.unwrap_or_default());
        self.take_in(worker);
    }

    /// A process that was killed does not end, and is waited for no longer. A launcher has time on its own to end its job.
    fn give_up(&mut self, worker: WorkerId) {
        let Some(peer) = self.peers.get_mut(&worker).filter(|peer| !peer.is_given_up) else { return };
        peer.is_given_up = true;
        if peer.process.is_launcher() {
            self.lingering.insert(worker, Instant::now() + LAUNCHER_PATIENCE);
        } else {
            peer.process.kill();
        }
        let end = peer.end(WorkerExit::Unknown);
        self.tell_gone(worker, end);
        // A process that is elsewhere may never say that its connection has ended.
        if self.peers.get(&worker).is_some_and(|peer| peer.process.is_elsewhere()) {
            self.sever(worker, None);
        }
    }

    /// Ends the launchers that have had their time.
    fn see_to_lingering(&mut self) {
        let now = Instant::now();
        self.lingering.retain(|worker, until| {
            let is_late = *until <= now;
            if is_late {
                self.peers.get(worker).into_iter().for_each(|peer| peer.process.kill());
            }
            !is_late
        });
        // Whoever looks at the time has forgotten when to do so next.
        self.lingering.values().min().into_iter().for_each(|&until| self.pool.look_by(until));
    }

    pub(super) fn tell_gone(&self, worker: WorkerId, end: End) {
        let mut state = self.pool.lock();
        state.channels.remove(&worker);
        state.images.forget_worker(worker);
        state.sites.remove(&worker);
        state.speakers.remove(&worker);
        self.pool.tell_locked(state, [Event::Gone(worker, end)]);
    }

    fn remark(&self) {
        if self.pool.has_remarked.swap(true, Ordering::Relaxed) {
            return;
        }
        let launcher = &self.pool.launch.launcher;
        if launcher.is_local() {
            eprintln!(
                "progress-executor: a worker process has not called `TaskRegistry::init` for 3 s; it has to be the first \
                 thing that `main` calls"
            );
        } else {
            let Counts { wanted, ready, .. } = self.pool.counts();
            eprintln!(
                "progress-executor: {ready} of {wanted} workers have started; the others may wait in a queue (`{launcher}`)"
            );
        }
    }
}
