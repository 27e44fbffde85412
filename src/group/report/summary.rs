//! How the tasks of a group have ended, in one line.

use std::collections::HashSet;
use std::fmt::Write;
use std::mem;
use std::time::Duration;

use crate::error::TaskErrorKind;
use crate::error::chain::OneLine;
use crate::error::human::HumanDuration;
use crate::id::WorkerId;
use crate::progress::Status;
use crate::task::items::ItemReading;
use crate::task::record::TaskRecord;

/// Sums over tasks, and the longest of them. Moments are nanoseconds of the [clock](crate::sync::clock).
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    finished: usize,
    failed: usize,
    lost: usize,
    cancelled: usize,
    running: usize,
    pending: usize,
    /// Items that go on in another task, which may not have been added yet.
    moved: usize,
    workers: HashSet<WorkerId>,
    /// How long all tasks together have been running, including tries whose worker was lost.
    busy: u64,
    /// When the first task was submitted.
    pub(crate) submitted: Option<u64>,
    /// When the first task was started, and when the last of the started ones ended.
    started: Option<u64>,
    ran_until: u64,
    /// When the last task ended, even if it was never started.
    ended: u64,
    longest: Option<(Box<str>, u64)>,
}

impl Summary {
    pub(crate) fn add(&mut self, record: &TaskRecord) {
        self.add_items(record, record.items().copied().unwrap_or_else(|| one_item(record)));
        self.submitted = earlier(self.submitted, record.submitted);
        self.ended = self.ended.max(record.ended().unwrap_or(0));
        if let Some(started) = record.started() {
            self.note_run(record.worker().as_ref(), started, record.ended().unwrap_or(0), record.elapsed);
            if self.longest.as_ref().is_none_or(|(_, longest)| record.elapsed > *longest) {
                self.longest = Some((record.name(), record.elapsed));
            }
        }
        for lost in record.lost_tries().iter().flat_map(|lost| &lost.first) {
            self.note_run(lost.worker.as_ref(), lost.started, lost.ended, lost.ended.saturating_sub(lost.started));
        }
    }

    /// Counts each item of a chunk. Items that are left at its end have ended with it.
    fn add_items(&mut self, record: &TaskRecord, items: ItemReading) {
        match record.status {
            Status::Finished => self.finished += items.left,
            Status::Failed if is_lost(record) => self.lost += items.left,
            Status::Failed => self.failed += items.left,
            Status::Cancelled => self.cancelled += items.left,
            _ => {
                let running = items.left.min(record.started().is_some().into());
                self.running += running;
                self.pending += items.left - running;
            }
        }
        self.finished += items.finished;
        self.failed += items.failed - items.lost;
        self.lost += items.lost;
        self.cancelled += items.cancelled;
        self.moved += items.moved;
    }

    /// Counts the items that go on elsewhere, of which `counted` are counted there: the others wait for that, or will never run.
    pub(crate) fn settle_moved(&mut self, counted: usize, are_abandoned: bool) {
        let rest = mem::take(&mut self.moved).saturating_sub(counted);
        *(if are_abandoned { &mut self.cancelled } else { &mut self.pending }) += rest;
    }

    fn note_run(&mut self, worker: Option<&WorkerId>, started: u64, ended: u64, elapsed: u64) {
        if let Some(worker) = worker.filter(|worker| !self.workers.contains(worker)) {
            self.workers.insert(worker.clone());
        }
        self.started = earlier(self.started, started);
        self.ran_until = self.ran_until.max(ended);
        self.busy = self.busy.saturating_add(elapsed);
    }

    pub(crate) fn ended(&self) -> usize {
        self.finished + self.failed + self.lost + self.cancelled
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// When the last task, or a try of one, ended: now, if something is running.
    pub(crate) fn end(&self, now: u64) -> u64 {
        self.run_end(now).max(self.ended)
    }

    /// Until when something was running: now, if something is.
    fn run_end(&self, now: u64) -> u64 {
        if self.running > 0 { now } else { self.ran_until }
    }

    /// The summary in one line, as of `now`.
    pub(crate) fn line(&self, now: u64) -> String {
        let Self { running, pending, .. } = self;
        let mut line = match running + pending {
            0 => format!("{} ended", self.ended()),
            more => format!("{} of {} ended", self.ended(), self.ended() + more),
        };
        let endings =
            [("finished", self.finished), ("failed", self.failed), ("lost", self.lost), ("cancelled", self.cancelled)];
        let endings: Vec<_> = endings.iter().filter(|(_, n)| *n > 0).map(|(how, n)| format!("{n} {how}")).collect();
        if !endings.is_empty() {
            line += &format!(": {}", endings.join(", "));
        }
        if *running > 0 {
            line += &format!("; {running} running");
        }
        if let Some(started) = self.started {
            let time = self.run_end(now).saturating_sub(started);
            let workers = self.workers.len();
            let capacity = workers as f64 * time as f64;
            let busy = if capacity > 0.0 { (100.0 * self.busy as f64 / capacity).min(100.0) } else { 100.0 };
            let noun = if workers == 1 { "worker" } else { "workers" };
            line += &format!("; {workers} {noun} busy {busy:.0} % of {}", HumanDuration(Duration::from_nanos(time)));
        }
        if let Some((name, elapsed)) = &self.longest {
            // Writing to a `String` cannot fail.
            let _ =
                write!(OneLine(&mut line), "; the longest: {name}, {}", HumanDuration(Duration::from_nanos(*elapsed)));
        }
        line
    }
}

/// A task that is not a chunk, as a single item.
fn one_item(record: &TaskRecord) -> ItemReading {
    ItemReading { lost: is_lost(record).into(), ..ItemReading::of_one(record.status) }
}

fn is_lost(record: &TaskRecord) -> bool {
    record.status == Status::Failed && matches!(record.error(), Some(TaskErrorKind::WorkerLost(_)))
}

fn earlier(known: Option<u64>, moment: u64) -> Option<u64> {
    Some(known.map_or(moment, |known| known.min(moment)))
}
