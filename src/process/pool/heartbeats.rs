//! Heartbeats, for workers that may fall out of reach.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::process::pool::driver::Driver;
use crate::process::pool::peer::Peer;
use crate::process::pool::scheduler::events::WorkerNumber;
use crate::process::pool::shared::Pool;
use crate::process::protocol::channel::Channel;
use crate::process::protocol::wire::{Request, WireError};
use crate::sync::clock;
use crate::sync::timer::{TIMER, Timed};

impl Driver {
    /// Sends the heartbeats that are due, and gives up workers that were silent for too long.
    pub(super) fn check_heartbeats(&mut self) {
        let Some(interval) = self.pool.launch.launcher.heartbeat_interval() else { return };
        let now = Instant::now();
        if self.next_beat.is_none_or(|at| at <= now) {
            for worker in self.workers_with_heartbeat() {
                self.beat(worker);
            }
            self.pool.beat_at.set(clock::now());
            self.pool.have_substitute();
            let lost =
                self.peers.values().filter_map(|peer| Some(peer.heartbeat.as_ref()?.lost_at())).filter(|&at| at > now);
            self.next_beat = lost.chain([now + interval]).min();
        }
        // The timer was cleared when it was due: set it again.
        self.next_beat.into_iter().for_each(|at| self.pool.look_by(at));
    }

    fn workers_with_heartbeat(&self) -> Vec<WorkerNumber> {
        let has_heartbeat = |peer: &Peer| peer.heartbeat.is_some() && !peer.is_severed;
        self.peers.iter().filter(|(_, peer)| has_heartbeat(peer)).map(|(&worker, _)| worker).collect()
    }

    fn beat(&mut self, worker: WorkerNumber) {
        if self.is_silent(worker) {
            // This program may have been stopped itself: what has arrived meanwhile counts.
            self.receive_all(worker);
        }
        let Some(peer) = self.peers.get(&worker).filter(|peer| !peer.is_severed) else { return };
        let Some(heartbeat) = &peer.heartbeat else { return };
        if heartbeat.lost_at() <= Instant::now() {
            let silence = WireError::silence(heartbeat.timeout());
            return self.sever(worker, Some(silence));
        }
        self.pool.beat(worker, &peer.channel);
    }

    fn is_silent(&self, worker: WorkerNumber) -> bool {
        let heartbeat = self.peers.get(&worker).and_then(|peer| peer.heartbeat.as_ref());
        heartbeat.is_some_and(|heartbeat| heartbeat.lost_at() <= Instant::now())
    }
}

impl Pool {
    fn beat(&self, worker: WorkerNumber, channel: &Arc<Channel>) {
        // What is still to be sent is as good as a heartbeat.
        if !channel.is_full() {
            channel.outbox().request(Request::Beat);
            self.send_off(worker, channel);
        }
    }

    /// The workers that have said who they are.
    fn greeted(&self) -> Vec<(WorkerNumber, Arc<Channel>)> {
        let state = self.lock();
        let greeted = state.connections.iter().filter(|(_, connection)| connection.site.is_some());
        greeted.map(|(&worker, connection)| (worker, connection.channel.clone())).collect()
    }

    /// Makes sure that the timer sends heartbeats where the leader does not.
    fn have_substitute(self: &Arc<Self>) {
        if !self.has_substitute.swap(true, Ordering::SeqCst) {
            let scheduled = TIMER.schedule(Instant::now(), Box::new(Substitute(Arc::downgrade(self))));
            if scheduled.is_err() {
                // Tried again with the next heartbeats.
                self.has_substitute.store(false, Ordering::SeqCst);
            }
        }
    }
}

/// Sends heartbeats while the leader is held up by code of the user, as that which decodes an output.
struct Substitute(Weak<Pool>);

impl Timed for Substitute {
    fn fire(&mut self, _due: Instant, now: Instant) -> Option<Instant> {
        let pool = self.0.upgrade()?;
        let interval = pool.launch.launcher.heartbeat_interval()?;
        if pool.poller().is_none() {
            // The threads of the pool have ended; those that follow will schedule another.
            pool.has_substitute.store(false, Ordering::SeqCst);
            return None;
        }
        let is_late = Duration::from_nanos(clock::now().saturating_sub(pool.beat_at.get())) > interval * 5 / 4;
        if is_late {
            pool.greeted().iter().for_each(|(worker, channel)| pool.beat(*worker, channel));
        }
        now.checked_add(interval / 2)
    }
}
