//! What follows from a look at a worker that has been silent for a while.

use crate::process::pool::scheduler::events::{KillReason, Page, Task, Types, WorkerNumber};
use crate::process::pool::scheduler::slot::FIRST_LOOK;
use crate::process::pool::scheduler::{LOOK_INTERVAL, Scheduler, WANTED};
use crate::task::state;

impl<K: Types> Scheduler<K> {
    /// Decides what to do about a silent worker, now that everything it has sent so far was received.
    pub(super) fn looked(&mut self, worker: WorkerNumber) {
        let now = self.now;
        let Some(slot) = self.slots.get(&worker) else { return };
        let (Some(&serving), Some(first)) = (slot.serving(), slot.sent.front()) else { return };
        let waited = now.saturating_duration_since(serving.since);
        let sending = slot.page.as_ref().and_then(Page::sending);
        if slot.has_begun_with(first.place) {
            self.begin(worker);
            if waited >= FIRST_LOOK {
                self.update_pace(waited);
                self.mark_long(worker);
            } else {
                self.update(worker, |serving| serving.look = Some(serving.since + FIRST_LOOK));
            }
        } else if slot.stopped_since.is_some() {
            // It cannot begin.
        } else if sending != serving.sending {
            // A large input or a slow connection: its time starts when all of it is sent, or when sending has stalled.
            self.update(worker, |it| (it.since, it.look, it.sending) = (now, Some(now + LOOK_INTERVAL), sending));
        } else if slot.silent + waited >= self.settings.silence {
            self.replace_silent(worker);
        } else {
            let end = serving.since + self.settings.silence.saturating_sub(slot.silent);
            let next = (now + waited.clamp(FIRST_LOOK, LOOK_INTERVAL)).min(end);
            self.update(worker, |serving| serving.look = Some(next));
        }
    }

    /// Handles a task that takes long: takes back those that wait behind it, and asks for its progress. A shared page
    /// shows that already, except whether the task has made a progress call.
    fn mark_long(&mut self, worker: WorkerNumber) {
        self.update(worker, |serving| (serving.is_long, serving.look) = (true, None));
        // If one of them has begun, the first has ended by now, and `recall` has asked for another look.
        self.recall_behind(worker);
        let slot = &self.slots[&worker];
        let told = if slot.shares_page() { state::ECHO } else { state::OBSERVED };
        if let Some(word) = slot.sent.front().map(|sent| sent.task.word()) {
            self.want(worker, 0, word & WANTED | told);
        }
    }

    /// Replaces a worker that does not begin what it was sent. Its tasks move on; the first one only once it is gone, which
    /// [counts](Self::gone) against the task.
    fn replace_silent(&mut self, worker: WorkerNumber) {
        self.recall_behind(worker);
        let slot = &self.slots[&worker];
        let is_taken = |place| slot.page.as_ref().is_some_and(|page| page.take_back(place));
        if slot.sent.front().is_none_or(|first| is_taken(first.place) || !slot.has_begun_with(first.place)) {
            self.kill(worker, KillReason::Silent);
        } else {
            self.update(worker, |serving| serving.look = Some(serving.since));
        }
    }
}
