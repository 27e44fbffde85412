//! How workers end, or fail to start, and what becomes of their tasks.

use std::collections::VecDeque;
use std::time::Duration;

use crate::process::pool::scheduler::events::{
    Action, Failure, KillReason, Order, OutOfTurn, Task, Types, WorkerNumber, Worth,
};
use crate::process::pool::scheduler::slot::{Phase, Sent, Slot};
use crate::process::pool::scheduler::start_attempts::StartAttempts;
use crate::process::pool::scheduler::{GOODBYE_TIMEOUT, KILL_TIMEOUT, Scheduler};

/// A task is given up after this many workers that have ended before they had begun with it: before the whole queue is.
const MOST_UNBEGUN: u32 = 8;

impl<K: Types> Scheduler<K> {
    pub(super) fn kill(&mut self, worker: WorkerNumber, reason: KillReason) {
        self.kill_within(worker, reason, KILL_TIMEOUT);
    }

    /// Ends a worker whose channel was closed, or cut off. If the worker was launched and has closed it, its launcher is
    /// expected to say how it ended.
    pub(super) fn sever(&mut self, worker: WorkerNumber, is_heard: bool) {
        let is_told = is_heard && self.slots.get(&worker).is_some_and(|slot| !slot.shares_page());
        self.kill_within(worker, KillReason::Severed, if is_told { GOODBYE_TIMEOUT } else { KILL_TIMEOUT });
    }

    fn kill_within(&mut self, worker: WorkerNumber, reason: KillReason, time: Duration) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        match slot.phase {
            Phase::Dying { .. } => return,
            // It is expected to close its channel, and still has time to end.
            Phase::Leaving { .. } if reason == KillReason::Severed => return,
            _ => slot.phase = Phase::Dying { until: self.now + time, reason },
        }
        // A stopped process can be killed as it is.
        slot.stopped_since = None;
        self.effects.push(Action::Post(Order::Kill(worker)));
        self.retire(worker);
    }

    /// Asks a worker that has nothing to do to end.
    pub(super) fn dismiss(&mut self, worker: WorkerNumber, patience: Duration) {
        self.effects.push(Action::Dismiss(worker));
        let is_stopped = self.slots.get_mut(&worker).is_some_and(|slot| slot.stopped_since.take().is_some());
        self.effects.extend(is_stopped.then_some(Action::Post(Order::Continue(worker))));
        self.leave(worker, patience);
    }

    pub(super) fn goodbye(&mut self, worker: WorkerNumber) -> Result<(), OutOfTurn> {
        let is_busy = self.slots.get(&worker).is_some_and(|slot| slot.serving().is_some() && !slot.sent.is_empty());
        if is_busy {
            return Err(OutOfTurn);
        }
        self.leave(worker, self.goodbye_timeout());
        Ok(())
    }

    pub(super) fn leave(&mut self, worker: WorkerNumber, patience: Duration) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        if !matches!(slot.phase, Phase::Leaving { .. } | Phase::Dying { .. }) {
            slot.phase = Phase::Leaving { until: self.now + patience };
        }
        self.idle.retain(|&idle| idle != worker);
        self.schedule(worker);
    }

    /// A worker gets no more tasks, and gives back those that it has not begun.
    fn retire(&mut self, worker: WorkerNumber) {
        self.idle.retain(|&idle| idle != worker);
        self.schedule(worker);
        self.recall_behind(worker);
    }

    pub(super) fn gone(&mut self, worker: WorkerNumber, exit: K::Exit) {
        let Some(mut slot) = self.remove(worker) else { return };
        let reason = if let Phase::Dying { reason, .. } = slot.phase { Some(reason) } else { None };
        let is_leaving = matches!(slot.phase, Phase::Leaving { .. });
        self.lost += u64::from(slot.was_ready && !is_leaving && reason != Some(KillReason::Unwanted));
        let begun = slot.begun();
        let mut unused = None;
        if begun > 0 {
            for sent in slot.sent.drain(..begun) {
                self.lose(sent.task, exit.clone(), reason);
            }
        } else if !slot.was_ready && reason != Some(KillReason::Unwanted) && !is_leaving {
            let is_late = reason == Some(KillReason::NotReady);
            let failure = if is_late { K::Failure::not_ready(exit) } else { K::Failure::lost(exit) };
            self.start_failed(worker, failure);
        } else if !slot.sent.is_empty() {
            let is_sudden = !is_leaving && matches!(reason, None | Some(KillReason::Severed | KillReason::Silent));
            if is_sudden {
                self.note_unbegun(&mut slot.sent, &exit);
            }
            unused = (slot.done == 0).then_some(exit);
        }
        // From last to first, so that each finds its place at the front of the queue.
        for sent in slot.sent.into_iter().rev() {
            self.take_back(sent.task);
        }
        // Only now, as the tasks that it was sent may be all that there are to give up.
        unused.into_iter().for_each(|exit| self.ended_unused(exit));
        self.seats.leave(worker);
    }

    /// Notes that a worker ended before it had begun with the first of these. That task may be why, as an input may be too
    /// large for the worker: so it is not tried for ever.
    fn note_unbegun(&mut self, sent: &mut VecDeque<Sent<K::Task>>, exit: &K::Exit) {
        if sent.front().is_none_or(|first| first.task.note_unbegun() < MOST_UNBEGUN) {
            return;
        }
        let Some(Sent { task, .. }) = sent.pop_front() else { return };
        self.effects.push(if task.take_back() {
            Action::Refuse(task)
        } else {
            Action::Reject(vec![task], K::Failure::unused(exit.clone()))
        });
    }

    pub(super) fn lose(&mut self, task: K::Task, exit: K::Exit, reason: Option<KillReason>) {
        if task.retry() {
            self.effects.push(Action::ShowRetry(task.clone(), exit));
            self.put_back(task);
        } else {
            self.effects.push(Action::Lose(task, exit, reason));
        }
    }

    pub(super) fn remove(&mut self, worker: WorkerNumber) -> Option<Slot<K>> {
        let slot = self.slots.remove(&worker)?;
        self.ready -= usize::from(slot.was_ready);
        self.idle.retain(|&idle| idle != worker);
        if let Some(at) = slot.deadline {
            self.deadlines.remove(&(at, worker));
        }
        Some(slot)
    }

    /// Counts a worker that was ready, and has ended before it began a task.
    fn ended_unused(&mut self, exit: K::Exit) {
        if self.starts.note_unused(self.now) && !self.has_others() {
            self.give_up_on_queue(K::Failure::unused(exit));
        }
    }

    pub(super) fn not_started(&mut self, worker: WorkerNumber, failure: K::Failure) {
        if self.remove(worker).is_some() {
            self.start_failed(worker, failure);
            self.seats.leave(worker);
        }
        self.starts.be_answered(self.is_starting_any(), self.now);
    }

    /// Gives up on the workers that are being started, as the system does not answer. One that comes after all is
    /// [given up](Order::GiveUp).
    pub(super) fn abandon_starts(&mut self) {
        self.starts.be_answered(false, self.now);
        let starting = self.slots.iter().filter(|(_, slot)| slot.phase == Phase::Starting).map(|(&worker, _)| worker);
        for worker in starting.collect::<Vec<WorkerNumber>>() {
            self.not_started(worker, K::Failure::unanswered());
        }
    }

    /// Handles a worker that could not be started. If no other attempt is worthwhile, and no other worker is there, all
    /// queued tasks fail.
    pub(super) fn start_failed(&mut self, worker: WorkerNumber, failure: K::Failure) {
        let (begun, worth) = (self.seats.fail(worker).unwrap_or(self.now), failure.worth());
        let has_failed_on_all = !matches!(worth, Worth::Hosts(_)) || self.seats.has_failed_everywhere();
        let is_hopeless = self.starts.fail(worth, begun, self.now) && has_failed_on_all;
        if is_hopeless && self.has_others() {
            self.starts.lose_hope();
        } else if is_hopeless {
            self.starts.begin_anew();
            self.give_up_on_queue(failure);
        }
    }

    /// Whether some worker may still take what is queued.
    fn has_others(&self) -> bool {
        self.slots.values().any(|slot| slot.is_starting() || slot.serving().is_some())
    }

    /// No worker can be started, and nothing will try again: all tasks fail, paused ones too.
    pub(crate) fn give_up(&mut self, failure: K::Failure) {
        for worker in self.slots.keys().copied().collect::<Vec<WorkerNumber>>() {
            self.remove(worker);
            self.seats.leave(worker);
        }
        self.starts = StartAttempts::default();
        self.queue.extend(self.held.drain().map(|(_, task)| task));
        self.give_up_on_queue(failure);
    }

    fn give_up_on_queue(&mut self, failure: K::Failure) {
        self.dead = 0;
        self.effects.push(Action::Reject(self.queue.drain(..).collect(), failure));
    }

    /// Dismisses workers that have nothing to do, and will have nothing.
    pub(super) fn dismiss_unwanted(&mut self) {
        if self.has_queued() {
            return;
        }
        let is_over = self.is_closed && self.held.is_empty();
        let is_unwanted = |slot: &Slot<K>| match slot.phase {
            Phase::Greeting { is_slow, .. } => is_slow && !slot.is_ahead || is_over,
            phase => is_over && matches!(phase, Phase::Preparing { .. }),
        };
        // Usually there are none, and this runs after every event.
        if self.ready < self.slots.len() {
            let unwanted = self.slots.iter().filter(|(_, slot)| is_unwanted(slot)).map(|(&worker, _)| worker);
            for worker in unwanted.collect::<Vec<WorkerNumber>>() {
                self.kill(worker, KillReason::Unwanted);
            }
        }
        if is_over {
            self.starts.hurry(self.now + GOODBYE_TIMEOUT);
        }
        while let Some(&worker) = self.idle.last().filter(|_| is_over) {
            self.dismiss(worker, self.goodbye_timeout());
        }
    }
}
