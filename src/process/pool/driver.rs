//! Carries out what the [scheduler](super::scheduler) decides, for all workers of a pool, on one thread at a time: the
//! one that [leads](crate::process::pool::leader).
//!
//! Any thread tells the scheduler what has happened, under its lock. What must be sent is queued under the same lock,
//! so that it is sent in this order; all other actions are carried out without the lock. Callers write to the channels
//! themselves. Only the driver reads from them, and only the driver kills and reaps processes, so that no process id is
//! used once it may belong to a foreign process.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use crate::error::WorkerExit;
use crate::process::pool::backlog::Deferred;
use crate::process::pool::connection::Connection;
#[cfg(feature = "cluster")]
use crate::process::pool::crews::crew::Crews;
use crate::process::pool::launch::child::ChildProcess;
use crate::process::pool::launch::killed_launchers::KilledLaunchers;
use crate::process::pool::launch::termination::Termination;
use crate::process::pool::launch::{End, Failure};
use crate::process::pool::peer::{Introduction, Peer};
use crate::process::pool::poller::{Poller, Ready};
use crate::process::pool::queued::Kinds;
use crate::process::pool::round::Round;
use crate::process::pool::scheduler::events::{Action, Event, Order, WorkerNumber};
use crate::process::pool::shared::{Drive, Pool, State};
use crate::process::pool::unwatched::{CHECK_INTERVAL, Unwatched};
use crate::process::program;
use crate::process::protocol::channel::{Received, broken};
use crate::process::protocol::wire::WireError;
use crate::sync::block_on::Sleeper;
use crate::sync::clock;
use crate::sync::spin::AdaptiveSpin;

/// How many times to read from one worker before the others have their turn.
const READS: usize = 64;
/// The same after its end: enough for more than any channel holds.
const LAST_READS: usize = 256;
/// How long a turn may take, without its wait, before what has arrived meanwhile is received ahead of the next wait. In nanoseconds.
const HELD_UP: u64 = 1_000_000;
/// For how long to spin after a message, in case another one follows.
const RECENTLY: Duration = Duration::from_micros(20);

/// Reads from workers, and handles their ends.
pub(super) struct Driver {
    pub(super) pool: Arc<Pool>,
    pub(super) poller: Arc<Poller>,
    /// What was received in this turn, to be delivered after it.
    received: RefCell<Vec<Deferred>>,
    round: Round,
    /// The time of the clock at which the wait of the last turn was over.
    waited_until: u64,
    /// When a guest last received something.
    last_received: Option<Instant>,
    spin: AdaptiveSpin,
    pub(super) peers: BTreeMap<WorkerNumber, Peer>,
    unwatched: Unwatched,
    /// Workers that were given up, but whose process or launcher still has time to end.
    pub(super) lingering: BTreeMap<WorkerNumber, Termination>,
    pub(super) killed_launchers: KilledLaunchers,
    /// When heartbeats are due next.
    pub(super) next_beat: Option<Instant>,
    #[cfg(feature = "cluster")]
    pub(super) crews: Crews,
}

impl Drive for Driver {
    fn turn(&mut self, guest: Option<&Sleeper>) -> Vec<Deferred> {
        let now = clock::now();
        // A worker has a channel and a process.
        let heard_at = self.round.begin_turn(now, 2 * self.peers.len());
        heard_at.into_iter().for_each(|at| self.pool.heard_at.set(at));
        let was_held_up = now.saturating_sub(self.waited_until) > HELD_UP;
        self.pool.forget_images();
        self.fire_timer();
        self.escalate_lingering();
        self.check_heartbeats();
        #[cfg(not(feature = "cluster"))]
        let crews: Vec<Ready> = Vec::new();
        #[cfg(feature = "cluster")]
        let crews = self.poll_crews();
        let next = self.do_what_was_posted();
        let time = Instant::now();
        let check = (!crews.is_empty()).then_some(CHECK_INTERVAL).into_iter().chain(self.unwatched.until_look(time));
        let left = next.map(|next| next.saturating_duration_since(time));
        // What was received must not wait for more.
        let now = (!self.received.get_mut().is_empty()).then_some(Duration::ZERO);
        let stay = guest.and_then(Sleeper::time_to_react);
        let timeout = left.into_iter().chain(check).chain(now).chain(stay).min();
        let mut ready = Vec::new();
        match guest {
            Some(sleeper) => sleeper.interruptibly(|| ready = self.wait_briefly(sleeper, timeout, was_held_up)),
            None => ready = self.wait_for_news(timeout, was_held_up),
        }
        self.pool.is_polling.store(false, Ordering::SeqCst);
        self.waited_until = clock::now();
        self.round.add(ready.len());
        // Channels come first: what a worker has sent before its end still counts.
        ready.extend(crews);
        ready.extend(self.unwatched.due(Instant::now).into_iter().map(Ready::Process));
        for ready in ready {
            match ready {
                Ready::Turn => {}
                Ready::Channel(worker) => self.receive(worker),
                Ready::Process(worker) => self.see_end(worker),
                #[cfg(feature = "cluster")]
                Ready::Crew(crew) => self.update_crew(crew),
                #[cfg(feature = "cluster")]
                Ready::Listener => self.serve_listener(),
            }
        }
        self.received.take()
    }

    fn is_over(&self) -> bool {
        let mut state = self.pool.lock();
        let is_done = state.scheduler.is_done() && self.lingering.is_empty() && self.killed_launchers.is_empty();
        #[cfg(feature = "cluster")]
        let is_done = is_done && self.crews.are_over();
        if is_done {
            // Kept, as `Pool::drain` waits until it has ended.
            state.relay.iter().for_each(|relay| relay.finish());
        }
        // A worker that comes too late must still be ended.
        let is_over = is_done && state.unanswered == 0;
        if is_over {
            state.starter = None;
            state.waiting.clear();
            // With the lock held, so that a task submitted after all finds no threads, and starts new ones.
            self.pool.release();
        }
        drop(state);
        if is_over {
            self.pool.waiting.wake_all();
        }
        is_over
    }
}

impl Driver {
    pub(super) fn new(pool: Arc<Pool>, poller: Arc<Poller>) -> Self {
        Self {
            pool,
            poller,
            received: RefCell::default(),
            round: Round::default(),
            waited_until: 0,
            last_received: None,
            spin: AdaptiveSpin::new(),
            peers: BTreeMap::new(),
            unwatched: Unwatched::default(),
            lingering: BTreeMap::new(),
            killed_launchers: KilledLaunchers::default(),
            next_beat: None,
            #[cfg(feature = "cluster")]
            crews: Crews::default(),
        }
    }

    /// Spins first if something was received recently: the next message may come sooner than a thread is woken.
    fn wait_briefly(&mut self, sleeper: &Sleeper, timeout: Option<Duration>, was_held_up: bool) -> Vec<Ready> {
        let mut ready = Vec::new();
        if self.last_received.is_some_and(|at| at.elapsed() < RECENTLY) {
            let mut spin = self.spin;
            spin.spin_until(|| {
                ready = self.wait(Some(Duration::ZERO));
                !ready.is_empty() || sleeper.must_leave()
            });
            self.spin = spin;
        }
        if ready.is_empty() && !sleeper.must_leave() {
            ready = self.wait_for_news(timeout, was_held_up);
        }
        if !ready.is_empty() {
            self.last_received = Some(Instant::now());
        }
        ready
    }

    /// Waits where everything that has arrived is known. If this thread was held up, what has arrived since comes first.
    fn wait_for_news(&self, timeout: Option<Duration>, was_held_up: bool) -> Vec<Ready> {
        let ready = if was_held_up { self.wait(Some(Duration::ZERO)) } else { Vec::new() };
        if !ready.is_empty() {
            return ready;
        }
        self.pool.is_waiting.store(true, Ordering::SeqCst);
        let ready = self.wait(timeout);
        self.pool.is_waiting.store(false, Ordering::SeqCst);
        ready
    }

    fn wait(&self, timeout: Option<Duration>) -> Vec<Ready> {
        let open = self.peers.iter().filter(|(_, peer)| !peer.is_severed);
        let channels = open.map(|(&worker, peer)| (peer.channel.as_fd(), worker, peer.channel.is_full()));
        self.poller.wait(channels, timeout)
    }

    pub(super) fn tell(&self, event: Event<Kinds>) {
        self.tell_locked(self.pool.lock(), event);
    }

    fn tell_locked(&self, mut state: MutexGuard<'_, State>, event: Event<Kinds>) {
        // Events of the driver are never out of turn.
        let _ = state.scheduler.handle(event, Instant::now());
        self.follow(state);
    }

    fn follow(&self, state: MutexGuard<'_, State>) {
        if state.scheduler.has_effects() {
            self.pool.is_delivering.store(true, Ordering::SeqCst);
        }
        self.pool.follow(state, |actions| self.defer(actions));
    }

    /// Defers what must be delivered to the end of this turn.
    fn defer(&self, actions: Vec<Action<Kinds>>) {
        let (mut received, deferred) = (self.received.borrow_mut(), actions.into_iter().map(Deferred::Do));
        if received.is_empty() {
            // Collects in place, in the allocation of `actions`.
            *received = deferred.collect();
        } else {
            received.extend(deferred);
        }
    }

    /// Does what was posted. Returns when to look at the time next; other threads may move that forward meanwhile.
    fn do_what_was_posted(&mut self) -> Option<Instant> {
        loop {
            let mut state = self.pool.lock();
            let (arrivals, posted) = (mem::take(&mut state.arrivals), mem::take(&mut state.posted));
            // Dropping these wakes the threads that wait for the driver.
            let waiting = mem::take(&mut state.waiting);
            if arrivals.is_empty() && posted.is_empty() && waiting.is_empty() {
                self.pool.is_polling.store(true, Ordering::SeqCst);
                return state.timer;
            }
            state.unanswered -= arrivals.len();
            drop(state);
            for (worker, started) in arrivals {
                match started {
                    Ok((process, channel)) => self.admit(worker, Peer::new(process, channel, &self.pool.launch)),
                    Err(failure) => self.tell(Event::NotStarted(worker, failure)),
                }
            }
            for order in posted {
                match order {
                    Order::Look(worker) => self.look(worker),
                    Order::CheckStopped(worker) => self.check_stopped(worker),
                    Order::Stop(worker) => self.stop(worker, true),
                    Order::Continue(worker) => self.stop(worker, false),
                    Order::Kill(worker) => self.kill(worker),
                    Order::GiveUp(worker) => self.give_up(worker),
                    Order::Warn => self.pool.warn(),
                }
            }
        }
    }

    fn fire_timer(&mut self) {
        let mut state = self.pool.lock();
        if state.timer.is_some_and(|timer| timer <= Instant::now()) {
            state.timer = None;
            self.tell_locked(state, Event::Time);
        }
    }

    pub(super) fn admit(&mut self, worker: WorkerNumber, mut peer: Peer) {
        let listening = self.listen(worker, &peer);
        if listening.is_err() {
            peer.abandon();
            if peer.process.child().is_some() {
                self.linger(worker, Termination::killed(Instant::now()));
            }
        }
        if peer.process.child().is_some_and(|child| listening.is_err() || child.pidfd().is_none()) {
            self.unwatched.insert(worker);
        }
        let (channel, writers) =
            (peer.channel.clone(), peer.process.captured().map(|captured| captured.writers.clone()));
        self.peers.insert(worker, peer);
        if let Err(error) = listening {
            let failure = Failure::of_system("to listen to a worker process", &error);
            return self.tell(Event::NotStarted(worker, failure));
        }
        let mut state = self.pool.lock();
        state.connections.insert(worker, Connection::new(channel.clone(), writers));
        self.tell_locked(state, Event::Started(worker, channel.clone()));
        self.pool.send_off(worker, &channel);
    }

    fn listen(&self, worker: WorkerNumber, peer: &Peer) -> io::Result<()> {
        self.poller.add(peer.channel.as_fd(), Ready::Channel(worker))?;
        let pidfd = peer.process.child().and_then(ChildProcess::pidfd);
        let listening = pidfd.map_or(Ok(()), |pidfd| self.poller.add(pidfd, Ready::Process(worker)));
        if listening.is_err() {
            self.poller.remove(peer.channel.as_fd());
        }
        listening
    }

    /// Reads once, and sends what there was no room for before.
    fn receive(&mut self, worker: WorkerNumber) {
        let Some(peer) = self.peers.get_mut(&worker).filter(|peer| !peer.is_severed) else { return };
        if peer.channel.is_full() {
            self.pool.send_off(worker, &peer.channel);
        }
        match peer.channel.receive(&mut peer.decoder) {
            Received::Some => self.take_in(worker),
            Received::Nothing => {}
            Received::End => self.sever(worker, None),
            Received::Broken(error) => self.sever(worker, Some(broken(error))),
        }
    }

    /// Takes in everything that a worker has sent or noted so far. Does nothing for a worker that is gone, from which
    /// everything was received: the start of a task must not be reported after its end.
    fn look(&mut self, worker: WorkerNumber) {
        self.receive_all(worker);
        let Some(peer) = self.peers.get_mut(&worker) else { return };
        if !peer.is_severed {
            let notes = peer.channel.memory().map(|memory| memory.notes(peer.decoder.taken()));
            peer.decoder.foresee(&notes.unwrap_or_default());
            self.take_in(worker);
        }
        self.tell(Event::Looked(worker));
    }

    pub(super) fn receive_all(&mut self, worker: WorkerNumber) {
        for _ in 0..READS {
            let Some(peer) = self.peers.get_mut(&worker).filter(|peer| !peer.is_severed) else { return };
            match peer.channel.receive(&mut peer.decoder) {
                Received::Some => self.take_in(worker),
                Received::Nothing => return peer.release_memory(),
                Received::End => return self.sever(worker, None),
                Received::Broken(error) => return self.sever(worker, Some(broken(error))),
            }
        }
    }

    fn take_in(&mut self, worker: WorkerNumber) {
        let Some(peer) = self.peers.get_mut(&worker) else { return };
        let now = Instant::now();
        peer.heartbeat.iter_mut().for_each(|heartbeat| heartbeat.note_arrival(now));
        match peer.has_greeting() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.sever(worker, Some(error)),
        }
        let mut state = self.pool.lock();
        let (mut has_just_begun, mut has_requests) = (false, false);
        let result = loop {
            match peer.next_event(worker, &self.pool.launch, &mut state.connections) {
                Ok(Some(event)) => {
                    has_just_begun = matches!(event, Event::Begun(..));
                    // Its initializer may have had to wait for this.
                    has_requests |= matches!(event, Event::Greeted(_));
                    if let Event::Ready(..) = event {
                        self.pool.memories.open(&peer.channel);
                    }
                    if state.scheduler.note(event, now).is_err() {
                        break Err(WireError::OutOfTurn);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        state.scheduler.assign_work(now);
        if has_just_begun && peer.process.is_launcher() {
            peer.answer();
            has_requests = true;
        }
        if has_requests {
            self.pool.send_off(worker, &peer.channel);
        }
        peer.release_memory();
        if let (Some(relay), Some(_)) = (&state.relay, peer.process.captured()) {
            // What tasks had written until they ended was read, and must be passed on.
            relay.wake();
        }
        self.follow(state);
        if let Err(error) = result {
            self.sever(worker, Some(error));
        }
    }

    /// Stops listening to a worker: nothing more will come, or only malformed messages.
    pub(super) fn sever(&mut self, worker: WorkerNumber, fault: Option<WireError>) {
        let Some(peer) = self.peers.get_mut(&worker) else { return };
        let is_heard = fault.is_none();
        if !is_heard && peer.fault.is_none() {
            peer.fault = fault;
        }
        if !mem::replace(&mut peer.is_severed, true) {
            self.unwatched.hurry();
            self.poller.remove(peer.channel.as_fd());
            self.tell(Event::Severed(worker, is_heard));
        }
        self.see_disconnected(worker);
    }

    /// Takes the end of the connection for that of the process, if nothing else shows when the process ends.
    fn see_disconnected(&mut self, worker: WorkerNumber) {
        let Some(peer) = self.peers.get_mut(&worker) else { return };
        if peer.process.disconnect(if peer.is_leaving { WorkerExit::Code(0) } else { WorkerExit::Unknown }) {
            self.unwatched.insert(worker);
            self.see_end(worker);
        }
    }

    fn check_stopped(&mut self, worker: WorkerNumber) {
        let child = self.peers.get(&worker).and_then(|peer| peer.process.child());
        let is_stopped = child.is_some_and(|child| child.stopped().is_some());
        self.tell(Event::StopChecked(worker, is_stopped));
    }

    /// Stops or continues a worker.
    fn stop(&self, worker: WorkerNumber, is_stopped: bool) {
        if let Some(peer) = self.peers.get(&worker) {
            peer.stop(is_stopped);
            self.pool.send_off(worker, &peer.channel);
        }
    }

    fn kill(&mut self, worker: WorkerNumber) {
        match self.peers.get_mut(&worker) {
            Some(peer) => peer.kill(),
            #[cfg(feature = "cluster")]
            None => self.forget_absent(worker),
            #[cfg(not(feature = "cluster"))]
            None => {}
        }
    }

    /// Handles a worker whose process may have ended.
    fn see_end(&mut self, worker: WorkerNumber) {
        let Some(peer) = self.peers.get(&worker) else { return };
        let Some(exit) = peer.process.exit() else { return };
        if peer.process.is_launcher() {
            // Its worker may still live, and must not begin what another one is given.
            peer.channel.close();
        }
        self.drain_last(worker);
        let Some(peer) = self.peers.remove(&worker) else { return };
        if !peer.is_asked && peer.process.is_cut_off() {
            self.tell(Event::Severed(worker, false));
        }
        self.unwatched.remove(worker);
        if !peer.is_severed {
            self.poller.remove(peer.channel.as_fd());
        }
        let end = peer.end(exit);
        if peer.introduction == Introduction::Greeting && end.remains.is_none() && matches!(exit, WorkerExit::Code(_)) {
            program::pass_over(end.program);
        }
        peer.process.leave_streams();
        self.pool.lock().relay.iter().for_each(|relay| relay.wake());
        let is_launcher = peer.process.is_launcher();
        // A launcher that had to be asked has not left by itself, and neither may what it was waiting for.
        let is_leaving = peer.is_leaving && !peer.is_asked;
        peer.process.into_child().into_iter().for_each(|child| self.clean_up(child, is_launcher, is_leaving));
        if self.lingering.remove(&worker).is_some() {
            self.count_lingering();
        }
        let end = (!peer.is_given_up).then_some(end);
        #[cfg(feature = "cluster")]
        let end = match peer.crew {
            Some(crew) => self.leave_crew(crew, worker, end, peer.is_leaving),
            None => end,
        };
        end.into_iter().for_each(|end| self.tell_gone(worker, end));
    }

    /// Cleans up after a process that has ended: what it has started is killed, unless it was leaving.
    pub(super) fn clean_up(&mut self, child: ChildProcess, is_launcher: bool, is_leaving: bool) {
        child.pidfd().into_iter().for_each(|pidfd| self.poller.remove(pidfd));
        if is_launcher && !is_leaving && matches!(child.exit(), Some(WorkerExit::Signal(_))) {
            return self.killed_launchers.keep(child, Instant::now());
        }
        if !is_leaving {
            // It is not reaped yet, so that its process id is not reused.
            child.kill();
        }
        child.reap();
    }

    /// Takes in what a worker had said before its end, sent or only noted: it still counts.
    fn drain_last(&mut self, worker: WorkerNumber) {
        for _ in 0..LAST_READS {
            let Some(peer) = self.peers.get_mut(&worker).filter(|peer| !peer.is_severed) else { break };
            match peer.channel.receive(&mut peer.decoder) {
                Received::Some => self.take_in(worker),
                // Another process may hold its end of the channel, and send nothing, or too much.
                Received::Nothing | Received::End | Received::Broken(_) => break,
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

    pub(super) fn tell_gone(&self, worker: WorkerNumber, end: End) {
        let end = Box::new(end);
        let mut received = self.received.borrow_mut();
        if !received.is_empty() || !self.pool.backlog.is_empty() {
            let running = self.pool.lock().scheduler.first_of(worker);
            return received.push(Deferred::Gone(worker, end, running));
        }
        drop(received);
        self.tell_locked(self.pool.lock_without(worker), Event::Gone(worker, end));
    }
}
