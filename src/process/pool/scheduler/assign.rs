//! Decides which worker is given which task, and how many workers are started.

use std::time::Duration;

use crate::process::pool::scheduler::events::{Action, Task, Types, WorkerNumber};
use crate::process::pool::scheduler::slot::{FIRST_LOOK, Phase, Serving, Slot};
use crate::process::pool::scheduler::{Scheduler, WANTED};
use crate::task::state;

/// How much work is queued inside a worker, in nanoseconds: more would gain nothing, and would have to be moved if the
/// worker is lost.
const AHEAD: u64 = 1_000_000;
/// Waking a worker for less work than this, in nanoseconds, costs more than queueing it at one that is awake.
const WAKING: u64 = 40_000;
/// What a task costs the program at least, in nanoseconds: sending it, and making its outcome known.
const SENDING: u64 = 1_000;

impl<K: Types> Scheduler<K> {
    pub(super) fn has_queued(&self) -> bool {
        !self.queue.iter().all(Task::has_ended)
    }

    /// Whether one more task could only wait as well: all workers have as much as they are given ahead, and no more
    /// workers may be started.
    pub(super) fn is_saturated(&self) -> bool {
        !self.queue.is_empty() && self.idle.is_empty() && self.slots.len() >= self.settings.max_workers
    }

    /// Assigns tasks to workers, and starts as many workers as there is work and room for.
    pub(super) fn assign(&mut self) {
        if self.queue.is_empty() || self.is_suspended {
            return;
        }
        self.share_out();
        self.give_ahead();
        while self.wants_start() && self.starts.not_before().is_none_or(|at| at <= self.now) {
            let Some(task) = self.queue.iter().find(|task| !task.has_ended()).cloned() else { return };
            self.start(Some(task));
        }
    }

    fn start(&mut self, task: Option<K::Task>) {
        let worker = self.next_worker;
        self.next_worker += 1;
        self.slots.insert(worker, Slot::new(task.is_none()));
        self.starts.order(self.now);
        self.effects.push(Action::Start(worker, task, self.seats.take(worker, self.now)));
    }

    /// Starts workers ahead of need, up to that number. Those that fail are not started again.
    pub(super) fn prestart(&mut self, workers: usize) {
        if self.is_closed || self.is_suspended {
            return;
        }
        let max_workers = self.settings.max_workers;
        let wanted = if self.settings.starts_all && workers > 0 { max_workers } else { workers.min(max_workers) };
        while self.slots.len() < wanted {
            self.start(None);
        }
    }

    pub(super) fn wants_start(&self) -> bool {
        if self.is_suspended || self.slots.len() >= self.settings.max_workers {
            return false;
        }
        // If others always joined those under way, there would always be some to wait for.
        if self.starts.is_hopeless() && self.slots.values().any(|slot| !slot.was_ready) {
            return false;
        }
        if self.settings.starts_all {
            return self.has_queued();
        }
        let starting = self.slots.values().filter(|slot| slot.is_starting()).count();
        self.queue.iter().filter(|task| !task.has_ended()).nth(starting).is_some()
    }

    /// The worker that was given tasks last, if the queued ones are so short that a second worker would wait for the program
    /// as well.
    fn sole_worker(&self) -> Option<WorkerNumber> {
        let is_short = self.pace.is_some_and(|pace| pace < SENDING);
        let worker = self.last_given.filter(|_| is_short)?;
        self.slots.get(&worker)?.keeps_up(self.now, self.settings.max_tasks).then_some(worker)
    }

    /// Gives a task to each worker that has none, unless one that is awake will have done it sooner.
    fn share_out(&mut self) {
        while let Some(&worker) = self.idle.last().filter(|_| !self.queue.is_empty()) {
            if self.sole_worker().is_some() {
                return;
            }
            let work = self.pace.map_or(WAKING, |pace| pace.saturating_mul(self.queue.len() as u64));
            let (ahead, max_tasks) = (self.ahead(), self.settings.max_tasks);
            let will_do = |slot: &Slot<K>| slot.takes_more(ahead, max_tasks) && slot.keeps_up(self.now, max_tasks);
            if work < WAKING && ahead >= 2 && self.slots.values().any(will_do) {
                return;
            }
            let before = self.queue.len();
            self.give(worker, 1);
            if self.queue.len() == before {
                return;
            }
        }
    }

    /// Updates the pace. Long tasks count at once, short ones gradually: keeping tasks waiting is worse than sending
    /// them one by one.
    pub(super) fn update_pace(&mut self, took: Duration) {
        if !self.settings.gives_ahead {
            return;
        }
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.pace = Some(self.pace.map_or(took, |pace| took.max((pace - pace / 8).saturating_add(took / 8))));
    }

    /// How many tasks may wait in a worker that has one.
    pub(super) fn ahead(&self) -> usize {
        self.pace.map_or(0, |pace| (AHEAD / pace.max(1)) as usize)
    }

    /// Queues tasks at busy workers, so that they have the next one at hand.
    fn give_ahead(&mut self) {
        let (ahead, max_tasks) = (self.ahead(), self.settings.max_tasks);
        if ahead < 2 || self.queue.is_empty() {
            return;
        }
        let (first, last) = self.sole_worker().map_or((0, WorkerNumber::MAX), |worker| (worker, worker));
        let takers: Vec<WorkerNumber> = self
            .slots
            .range(first..=last)
            .filter(|(_, slot)| slot.takes_more(ahead, max_tasks))
            .map(|(&worker, _)| worker)
            .collect();
        let share = self.queue.len().div_ceil(takers.len().max(1));
        for worker in takers {
            let slot = &self.slots[&worker];
            let room = slot.room(ahead).saturating_sub(slot.sent.len());
            self.give(worker, room.min(share));
        }
    }

    pub(super) fn give(&mut self, worker: WorkerNumber, count: usize) {
        let Some(slot) = self.slots.get_mut(&worker) else { return };
        let (was_idle, follows) = (slot.sent.is_empty(), slot.has_just_ended_one(self.now));
        if slot.is_expired(self.now) {
            // An idle worker is asked to end when it expires, a busy one when it becomes idle.
            return;
        }
        let mut given = 0;
        while given < count && slot.may_have_another(self.settings.max_tasks) {
            let Some(task) = self.queue.pop_front() else { break };
            match task.lend() {
                // If the task is limited or observed, it matters when it begins.
                Ok(word) if follows && word & (state::LIMITED | state::OBSERVED) == 0 => {
                    self.effects.push(slot.send(worker, task.clone(), word & WANTED | state::RUNNING));
                    slot.has_begun = true;
                    self.effects.push(Action::Begin(task));
                    given += 1;
                }
                Ok(word) => {
                    self.effects.push(slot.send(worker, task, word & WANTED));
                    given += 1;
                }
                // Until it is resumed, or until the thread that cancels it has ended it.
                Err(_) if !task.has_ended() => _ = self.held.insert(task.id(), task),
                Err(_) => {
                    self.dead = self.dead.saturating_sub(1);
                    self.effects.push(Action::Forget(task));
                }
            }
        }
        if given > 0 {
            self.last_given = Some(worker);
        }
        if was_idle && given > 0 {
            slot.phase = Phase::Serving(Serving::new(self.now, Some(self.now + FIRST_LOOK)));
            self.idle.retain(|&idle| idle != worker);
            self.schedule(worker);
        }
    }
}
