//! Queries that the [scheduler](crate::process::pool::scheduler) answers.

use crate::process::pool::scheduler::Scheduler;
use crate::process::pool::scheduler::events::{Task, Types, WorkerNumber};
use crate::process::pool::scheduler::slot::{Phase, Slot};

/// How many workers and tasks there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Workers that were started, or are about to be, and have not ended.
    pub(crate) wanted: usize,
    pub(crate) ready: usize,
    pub(crate) busy: usize,
    pub(crate) lost: u64,
    pub(crate) queued: usize,
}

impl<K: Types> Scheduler<K> {
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether workers are replaced after a number of tasks.
    pub(crate) fn limits_tasks(&self) -> bool {
        self.settings.max_tasks < u64::MAX
    }

    /// Whether there are actions to carry out.
    pub(crate) fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Whether it is closed, and every task and every worker has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.is_closed && self.slots.is_empty() && self.held.is_empty() && !self.has_queued()
    }

    /// Whether nothing will be received, unless a task is submitted or an idle worker ends.
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_idle = |slot: &Slot<K>| matches!(slot.phase, Phase::Serving(_)) && slot.sent.is_empty();
        !self.is_closed && !self.has_queued() && self.held.is_empty() && self.slots.values().all(is_idle)
    }

    pub(crate) fn counts(&self) -> Counts {
        let ready = self.slots.values().filter(|slot| slot.serving().is_some());
        Counts {
            wanted: self.slots.len(),
            ready: ready.clone().count(),
            busy: ready.filter(|slot| !slot.sent.is_empty()).count(),
            lost: self.lost,
            // Tasks that were cancelled may still be in the queue.
            queued: self.queue.iter().filter(|task| !task.has_ended()).count(),
        }
    }

    /// Whether a worker is there, or expected.
    pub(crate) fn has(&self, worker: WorkerNumber) -> bool {
        self.slots.contains_key(&worker)
    }

    /// Whether the system is still to answer whether a worker was started.
    pub(super) fn is_starting_any(&self) -> bool {
        // Workers that are being started are among the last.
        self.starts.answer_by().is_some() && self.slots.values().rev().any(|slot| slot.phase == Phase::Starting)
    }

    /// Whether a worker has a task.
    pub(crate) fn is_busy(&self, worker: WorkerNumber) -> bool {
        self.slots.get(&worker).is_some_and(|slot| !slot.sent.is_empty())
    }

    /// The task that a worker runs, or is about to.
    pub(crate) fn first_of(&self, worker: WorkerNumber) -> Option<u64> {
        self.slots.get(&worker)?.sent.front().map(|sent| sent.task.id())
    }

    /// All tasks that have not ended, the last ones first: to end them in the other order would free workers to begin
    /// the rest.
    pub(crate) fn unended(&self) -> Vec<K::Task> {
        let sent = self.slots.values().flat_map(|slot| &slot.sent).map(|sent| &sent.task);
        let mut tasks: Vec<K::Task> = sent.chain(&self.queue).chain(self.held.values()).cloned().collect();
        tasks.reverse();
        tasks
    }
}
