//! Heartbeats, for workers that may fall out of reach.

use std::time::Instant;

use crate::process::pool::driver::Driver;
use crate::process::pool::peer::Peer;
use crate::process::pool::scheduler::events::WorkerId;
use crate::process::protocol::wire::{Request, WireError};

impl Driver {
    /// Sends the heartbeats that are due, and gives up workers that were silent for too long.
    pub(super) fn check_heartbeats(&mut self) {
        let Some(interval) = self.pool.launch.launcher.heartbeat_interval() else { return };
        let now = Instant::now();
        if self.next_beat.is_none_or(|at| at <= now) {
            for worker in self.workers_with_heartbeat() {
                self.beat(worker);
            }
            let lost =
                self.peers.values().filter_map(|peer| Some(peer.heartbeat.as_ref()?.lost_at())).filter(|&at| at > now);
            self.next_beat = lost.chain([now + interval]).min();
        }
        // The timer was cleared when it was due: set it again.
        self.next_beat.into_iter().for_each(|at| self.pool.look_by(at));
    }

    fn workers_with_heartbeat(&self) -> Vec<WorkerId> {
        let has_heartbeat = |peer: &Peer| peer.heartbeat.is_some() && !peer.is_severed;
        self.peers.iter().filter(|(_, peer)| has_heartbeat(peer)).map(|(&worker, _)| worker).collect()
    }

    fn beat(&mut self, worker: WorkerId) {
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
        // What is still to be sent is as good as a heartbeat.
        if !peer.channel.is_full() {
            peer.channel.outbox().request(Request::Beat);
            self.pool.send_off(worker, &peer.channel);
        }
    }

    fn is_silent(&self, worker: WorkerId) -> bool {
        let heartbeat = self.peers.get(&worker).and_then(|peer| peer.heartbeat.as_ref());
        heartbeat.is_some_and(|heartbeat| heartbeat.lost_at() <= Instant::now())
    }
}
