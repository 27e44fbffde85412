//! Workers that the scheduler waits for no longer, but whose process or launcher still has time to end.

use std::mem;
use std::time::Instant;

use crate::error::WorkerExit;
use crate::process::pool::driver::Driver;
use crate::process::pool::launch::child::ChildProcess;
use crate::process::pool::launch::termination::Termination;
use crate::process::pool::scheduler::events::WorkerNumber;

impl Driver {
    /// Waits no longer for a process that was killed and does not end, or that has come too late. A launcher has more
    /// time, to end its job.
    pub(super) fn give_up(&mut self, worker: WorkerNumber) {
        #[cfg(feature = "cluster")]
        if !self.peers.contains_key(&worker) {
            return self.forget_absent(worker);
        }
        let Some(peer) = self.peers.get_mut(&worker).filter(|peer| !peer.is_given_up) else { return };
        peer.is_given_up = true;
        let now = Instant::now();
        let termination = if peer.process.is_launcher() {
            peer.ask_to_end();
            Termination::asked(now)
        } else {
            peer.process.child().into_iter().for_each(ChildProcess::kill);
            Termination::killed(now)
        };
        let end = peer.end(WorkerExit::Unknown);
        self.linger(worker, termination);
        self.tell_gone(worker, end);
        // It may still connect, or its connection may never end.
        self.sever(worker, None);
    }

    pub(super) fn linger(&mut self, worker: WorkerNumber, termination: Termination) {
        self.lingering.insert(worker, termination);
        self.count_lingering();
    }

    /// Tells those who wait for the shutdown of the pool, which has ended only without any that linger.
    pub(super) fn count_lingering(&self) {
        let before = mem::replace(&mut self.pool.lock().lingering, self.lingering.len());
        if self.lingering.len() < before {
            self.pool.waiting.wake_all();
        }
    }

    /// Ends launchers and processes whose time is over.
    pub(super) fn escalate_lingering(&mut self) {
        let now = Instant::now();
        let (had_any, had_lingering) = (!self.killed_launchers.is_empty(), !self.lingering.is_empty());
        let mut next = self.killed_launchers.sweep(now);
        if had_any && self.killed_launchers.is_empty() {
            // Nothing else may be left to do, which is checked after this turn: so do not wait in it.
            next = Some(now);
        }
        self.lingering.retain(|worker, termination| {
            let due = self.peers.get(worker).and_then(|peer| termination.escalate(peer.process.child(), now));
            next = next.into_iter().chain(due).min();
            due.is_some()
        });
        if had_lingering {
            self.count_lingering();
        }
        // The timer was cleared when it was due: set it again.
        next.into_iter().for_each(|until| self.pool.look_by(until));
    }
}

#[cfg(test)]
mod tests {
    use super::Driver;
    use std::process::Command;
    use std::sync::Arc;
    use std::time::Duration;

    use rustix::process::{Pid, test_kill_process};

    use crate::executor::shutdown::Drain;
    use crate::process::pool::launch::Process;
    use crate::process::pool::launch::child::ChildProcess;
    use crate::process::pool::peer::Peer;
    use crate::process::pool::poller::Poller;
    use crate::process::pool::scheduler::slot::Settings;
    use crate::process::pool::shared::{Drive, Pool};
    use crate::process::protocol::channel::Channel;
    use crate::process::settings::Launch;

    fn pool() -> Arc<Pool> {
        let settings = Settings {
            max_workers: 1,
            max_tasks: u64::MAX,
            cancel_grace: Duration::ZERO,
            idle_timeout: None,
            start_timeout: None,
            silence: Duration::MAX,
            hosts: 1,
            starts_all: false,
            gives_ahead: false,
        };
        Pool::new(Launch::default(), settings)
    }

    #[test]
    fn a_pool_has_ended_only_once_the_processes_that_it_has_given_up_have() {
        let pool = pool();
        let mut driver = Driver::new(pool.clone(), Arc::new(Poller::new().unwrap()));
        pool.close();
        assert!(pool.drain(), "it has no worker");

        // It reads what nobody writes.
        let (channel, theirs) = Channel::pair().unwrap();
        let child = Command::new("cat").stdin(theirs).spawn().unwrap();
        let id = Pid::from_child(&child);
        let (child, ()) = ChildProcess::adopt(child, |_| Ok(())).unwrap();
        let process = Process::Worker { child, program: 0, captured: None };
        driver.admit(1, Peer::new(process, Arc::new(channel), &pool.launch));
        driver.give_up(1);
        assert!(!pool.drain(), "it is not reaped yet");
        while !pool.drain() {
            driver.turn(None);
            pool.note_delivered();
        }
        assert!(test_kill_process(id).is_err(), "it is not reaped");
    }
}
