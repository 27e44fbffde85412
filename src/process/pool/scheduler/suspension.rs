//! Workers that stand still: all of them while the pool is suspended, and those that somebody else has stopped.
//!
//! Time stands still too for the workers of a suspended pool: their deadlines are postponed. A worker whose task must
//! end goes on until the task has ended, as the pool may never be resumed.

use std::time::{Duration, Instant};

use crate::process::pool::scheduler::events::{Action, KillReason, Order, Task, Types, WorkerNumber};
use crate::process::pool::scheduler::slot::Phase;
use crate::process::pool::scheduler::{STOP_CHECK_INTERVAL, Scheduler};
use crate::task::state;

/// How many checks in a row must find a worker stopped in its initializer before it is killed. Checks are counted, not
/// time, as a program that has stood still itself checks once.
const MOST_STOPPED: u32 = 4;
/// How often to check.
const INITIALIZER_CHECK_INTERVAL: Duration = Duration::from_secs(15);

impl Phase {
    /// The phase of a worker that begins its initializer.
    pub(super) fn preparing(now: Instant) -> Self {
        Self::Preparing { stop_check: now + INITIALIZER_CHECK_INTERVAL, stopped: 0 }
    }
}

impl<K: Types> Scheduler<K> {
    pub(super) fn suspend(&mut self) {
        self.is_suspended = true;
        for worker in self.workers() {
            self.stop(worker);
        }
    }

    pub(super) fn resume(&mut self) {
        self.is_suspended = false;
        for worker in self.workers() {
            self.let_go_on(worker);
        }
    }

    fn workers(&self) -> Vec<WorkerNumber> {
        self.slots.keys().copied().collect()
    }

    /// Stops a worker of a suspended pool, unless it or its task is about to end. Tasks that it has not begun wait in
    /// the program.
    pub(super) fn stop(&mut self, worker: WorkerNumber) {
        let count = self.slots.get(&worker).map_or(0, |slot| slot.sent.len());
        for index in (0..count).rev() {
            self.recall(worker, index);
        }
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        // One that has not arrived yet is stopped when it does.
        let is_there = slot.page.is_some();
        let is_live =
            is_there && matches!(slot.phase, Phase::Greeting { .. } | Phase::Preparing { .. } | Phase::Serving(_));
        let ends = slot.sent.iter().any(|sent| sent.task.word() & state::CANCEL != 0);
        if !is_live || ends || slot.stopped_since.is_some() {
            return;
        }
        slot.stopped_since = Some(self.now);
        self.effects.push(Action::Post(Order::Stop(worker)));
        if slot.has_begun {
            self.effects.extend(slot.sent.front().map(|sent| Action::Suspend(sent.task.clone())));
        } else if !slot.sent.is_empty() {
            // It may have begun, and be about to be cancelled.
            self.effects.push(Action::Post(Order::Look(worker)));
        }
        self.schedule(worker);
    }

    /// Continues a worker, if it was stopped because the pool is suspended.
    pub(super) fn let_go_on(&mut self, worker: WorkerNumber) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        let Some(since) = slot.stopped_since.take() else { return };
        slot.postpone(self.now.saturating_duration_since(since));
        if slot.has_begun {
            self.effects.extend(slot.sent.front().map(|sent| Action::Resume(sent.task.clone())));
        }
        self.effects.push(Action::Post(Order::Continue(worker)));
        self.schedule(worker);
    }

    /// The first task of a worker has noticed its cancellation, and may take as long as it likes to end; but not while
    /// somebody keeps its worker stopped.
    pub(super) fn noticed(&mut self, worker: WorkerNumber) {
        let now = self.now;
        self.update(worker, |serving| {
            serving.grace = None;
            serving.stop_check = serving.stop_check.or(Some(now + STOP_CHECK_INTERVAL));
        });
    }

    /// Has the driver check whether somebody has stopped a worker that runs its initializer.
    pub(super) fn check_preparing(&mut self, worker: WorkerNumber) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        if let Phase::Preparing { stop_check, .. } = &mut slot.phase {
            *stop_check = self.now + INITIALIZER_CHECK_INTERVAL;
            self.effects.push(Action::Post(Order::CheckStopped(worker)));
        }
    }

    /// Handles the answer to such a check, for a worker that runs its initializer or whose task has noticed its
    /// cancellation.
    pub(super) fn note_stop_check(&mut self, worker: WorkerNumber, is_stopped: bool) {
        let now = self.now;
        let slot = self.slots.get_mut(&worker).filter(|slot| slot.stopped_since.is_none());
        let Some(slot) = slot else { return };
        if let Phase::Preparing { stopped, .. } = &mut slot.phase {
            *stopped = if is_stopped { *stopped + 1 } else { 0 };
            // Tasks may wait for it, and this is not an initializer that merely takes long.
            return if *stopped >= MOST_STOPPED {
                self.kill(worker, KillReason::Stopped)
            };
        }
        let Some(serving) = slot.serving().filter(|serving| serving.stop_check.is_some()) else { return };
        // A time beyond what an `Instant` can hold never comes.
        let over = serving.stop_grace.or(now.checked_add(self.settings.cancel_grace)).filter(|_| is_stopped);
        if over.is_some_and(|over| over <= now) {
            return self.kill(worker, KillReason::Stopped);
        }
        self.update(worker, |serving| {
            serving.stop_grace = over;
            serving.stop_check = over.into_iter().chain([now + STOP_CHECK_INTERVAL]).min();
        });
    }
}
