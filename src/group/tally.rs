//! How far many tasks have come together: incremental sums, so that a change costs the same however many tasks there
//! are.

use std::collections::HashMap;
use std::mem;
use std::time::Duration;

use crate::group::progress::GroupProgress;
use crate::group::run_times::RunTimes;
use crate::id::TaskId;
use crate::progress::{ALMOST_ONE, ProgressState, Status};
use crate::sync::clock::{self, Clock, Span};
use crate::task::TaskRef;
use crate::task::items::ItemReading;
use crate::task::record::TaskRecord;

/// One unit, in fixed-point numbers with 32 fractional bits. Their sums are exact, so that subtracting a share again
/// leaves nothing behind.
const ONE: u128 = 1 << 32;

/// What one task contributes to the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// A status, and how many have it: one task, or items of a chunk.
    status: (Status, usize),
    /// The items of a chunk that have another status.
    others: ItemReading,
    n: u64,
    /// The total that the task has set.
    total: Option<u64>,
    /// How many units there are to do, and how much of that is done, the latter in units of 1 / `ONE`; `None` if
    /// unknown.
    work: Option<(u64, u128)>,
}

/// What the tasks of a group are counted in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Unit {
    /// The units that each task counts.
    #[default]
    OfTasks,
    /// Inputs, and how many there are, if that is known: each task is one input, or a chunk of them.
    Inputs(Option<u64>),
}

impl Share {
    /// What a task contributes right now.
    fn of(task: &TaskRef, state: &ProgressState, unit: Unit) -> Self {
        Self::new(state, unit, task.core.items().map(|items| items.counts().read()))
    }

    /// What a task contributed before it began.
    fn of_pending(task: &TaskRef, state: &ProgressState, unit: Unit) -> Self {
        let items = task.core.items().map(|items| ItemReading { left: items.counts().total(), ..Default::default() });
        Self::new(state, unit, items)
    }

    fn new(state: &ProgressState, unit: Unit, items: Option<ItemReading>) -> Self {
        match (unit, items) {
            (Unit::OfTasks, _) => Self::of_task(state),
            (Unit::Inputs(_), None) => Self::of_chunk(state, ItemReading::of_one(state.status)),
            (Unit::Inputs(_), Some(items)) => Self::of_chunk(state, items),
        }
    }

    fn of_chunk(state: &ProgressState, items: ItemReading) -> Self {
        let at_hand = match state.status {
            Status::Running | Status::Cancelling => items.left.min(1),
            Status::Paused if state.elapsed > Duration::ZERO => items.left.min(1),
            // All items wait, or will never run.
            _ => items.left,
        };
        let ended = items.ended();
        // The given state may be older, and that of another item.
        let is_of_this_item = ended == state.ended_items && !state.status.is_terminal();
        let part = if is_of_this_item { state.fraction().unwrap_or_default() } else { 0.0 };
        let gone = if state.status.is_terminal() { items.left } else { 0 };
        let done = (ended + gone) as u128 * ONE + (part * ONE as f64) as u128;
        let total = (ended + items.left) as u64;
        Self {
            status: (state.status, at_hand),
            others: ItemReading { left: items.left - at_hand, ..items },
            n: (ended + gone) as u64,
            total: Some(total),
            work: Some((total, done)),
        }
    }

    fn of_task(state: &ProgressState) -> Self {
        let done = u128::from(state.n) * ONE + (state.part * ONE as f64) as u128;
        let work = match state.total {
            _ if state.status.is_terminal() => (state.n > 0).then_some((state.n, u128::from(state.n) * ONE)),
            Some(total) if total > state.n => Some((total, done)),
            Some(_) => Some((state.n, u128::from(state.n) * ONE)),
            None => None,
        };
        Self { status: (state.status, 1), others: ItemReading::default(), n: state.n, total: state.total, work }
    }

    fn has_ended(&self) -> bool {
        self.status.0.is_terminal()
    }

    /// How many tasks or items have which status.
    fn statuses(&self) -> [(Status, usize); 5] {
        let ItemReading { finished, failed, cancelled, left, .. } = self.others;
        [
            self.status,
            (Status::Finished, finished),
            (Status::Failed, failed),
            (Status::Cancelled, cancelled),
            (Status::Pending, left),
        ]
    }

    /// Whether the task has set a larger total than before.
    fn has_grown(&self, before: &Self) -> bool {
        match (self.total, before.total) {
            (Some(now), Some(before)) => now > before && !self.has_ended(),
            _ => false,
        }
    }
}

/// What all tasks contribute.
#[derive(Default)]
struct Sums {
    /// The counts per status.
    counts: GroupProgress,
    /// Items without an outcome that will go on in a task that has not been added yet. Negative while that task has been added
    /// and the end of the one that they come from has not been counted.
    moved: isize,
    n: i128,
    /// How many tasks have a known amount of work, how much that is, and how much of it is done.
    known: i64,
    work: i128,
    done: i128,
    /// How many others there are: those that have not ended, and those that have.
    unknown: i64,
    unknown_ended: i64,
}

impl Sums {
    /// Counts a share once more, or once less if `times` is -1.
    fn count(&mut self, share: &Share, times: i64) {
        for (status, count) in share.statuses() {
            let counted = self.counts.count_mut(status);
            *counted = counted.wrapping_add_signed(times as isize * count as isize);
        }
        self.moved += times as isize * share.others.moved as isize;
        self.n += i128::from(times) * i128::from(share.n);
        match share.work {
            Some((work, done)) => {
                self.known += times;
                self.work += i128::from(times) * i128::from(work);
                self.done += i128::from(times) * done as i128;
            }
            None if share.has_ended() => self.unknown_ended += times,
            None => self.unknown += times,
        }
    }

    /// Whether all work is done.
    fn is_complete(&self) -> bool {
        self.unknown == 0 && self.done >= self.work.saturating_mul(ONE as i128)
    }

    fn total(&self) -> Option<u64> {
        let is_known = self.unknown == 0 && self.counts.tasks() > 0;
        is_known.then(|| saturated(self.work))
    }

    fn fraction(&self) -> Option<f64> {
        let (known, unknown) = (self.known as f64, (self.unknown + self.unknown_ended) as f64);
        if known + unknown == 0.0 {
            return None;
        }
        let work = self.work as f64;
        let average = if work > 0.0 { work / known } else { 1.0 };
        let whole = work + average * unknown;
        let done = self.done as f64 / ONE as f64 + average * self.unknown_ended as f64;
        Some(if self.is_complete() { 1.0 } else { (done / whole).min(ALMOST_ONE) })
    }
}

/// A sum of counts, saturated to the range of one.
fn saturated(sum: i128) -> u64 {
    u64::try_from(sum.max(0)).unwrap_or(u64::MAX)
}

/// The sums of a group, and what they are made of.
#[derive(Default)]
pub(crate) struct Tally {
    unit: Unit,
    sums: Sums,
    /// The tasks that have started and not ended, with the shares that are counted.
    started: HashMap<TaskId, (TaskRef, Share)>,
    /// The time during which something was running.
    clock: Clock,
    /// When tasks ran before the tally was kept.
    before: RunTimes,
    /// The largest fraction that was shown since work was added.
    peak: f64,
    has_grown: bool,
    /// Whether no task will be started in which [moved](Sums::moved) items could go on.
    are_moved_abandoned: bool,
}

impl Tally {
    pub(crate) fn new(unit: Unit) -> Self {
        Self { unit, ..Self::default() }
    }

    pub(crate) fn set_unit(&mut self, unit: Unit) {
        self.unit = unit;
    }

    /// Counts a task that has ended, and that was not counted before.
    pub(crate) fn add_ended(&mut self, record: &TaskRecord) {
        let state = ProgressState { n: record.n, status: record.status, ..ProgressState::INITIAL };
        self.sums.count(&Share::new(&state, self.unit, record.items().copied()), 1);
        self.note_span(record.run_time());
    }

    /// Notes that no items will go on in another task any more.
    pub(crate) fn abandon_moved(&mut self) {
        self.are_moved_abandoned = true;
    }

    /// Whether [moved](Sums::moved) items will never run.
    pub(crate) fn are_moved_abandoned(&self) -> bool {
        self.are_moved_abandoned
    }

    /// Notes that this many items that had not begun go on in another task, and count there.
    pub(crate) fn withdraw(&mut self, items: usize) {
        self.sums.moved -= items as isize;
    }

    /// Notes when a task ran that was not counted at the time.
    pub(crate) fn note_span(&mut self, span: Option<(u64, u64)>) {
        span.into_iter().for_each(|span| self.before.add(span));
    }

    /// Starts the clock as if it had run whenever one of the noted tasks did.
    pub(crate) fn start_clock(&mut self) {
        if let Some((elapsed, last)) = mem::take(&mut self.before).sum() {
            let stopped = if self.is_anything_running() { 0 } else { last };
            self.clock.set(Span { started: (last - elapsed).max(1), stopped });
        }
    }

    /// Counts a task, which has this state, from now on.
    pub(crate) fn add(&mut self, task: &TaskRef, state: &ProgressState) {
        let share = Share::of(task, state, self.unit);
        self.sums.count(&share, 1);
        self.has_grown |= matches!(self.unit, Unit::OfTasks) && !state.status.is_terminal();
        if task.core.has_run() && !state.status.is_terminal() {
            self.started.insert(task.core.id(), (task.clone(), share));
        }
        self.tick();
    }

    /// Replaces the share of a task that has changed.
    pub(crate) fn change(&mut self, task: &TaskRef, old: &ProgressState, new: &ProgressState) {
        let id = task.core.id();
        let before = self.started.get(&id).map_or_else(|| Share::of_pending(task, old, self.unit), |(_, share)| *share);
        let is_under_way = task.core.has_run() && !new.status.is_terminal();
        // The shown state may be older than one that was read since.
        let newest = is_under_way.then(|| task.core.snapshot());
        let share = Share::of(task, newest.as_ref().unwrap_or(new), self.unit);
        self.replace(before, share);
        if is_under_way {
            self.started.insert(id, (task.clone(), share));
        } else {
            self.started.remove(&id);
        }
    }

    /// Whether a task that has started is counted with another share than that of this state.
    pub(crate) fn has_other_than(&self, task: &TaskRef, state: &ProgressState) -> bool {
        let counted = self.started.get(&task.core.id());
        counted.is_some_and(|(_, share)| *share != Share::of(task, state, self.unit))
    }

    fn replace(&mut self, before: Share, share: Share) {
        self.sums.count(&before, -1);
        self.sums.count(&share, 1);
        self.has_grown |= share.has_grown(&before);
        self.tick();
    }

    fn tick(&mut self) {
        if self.is_anything_running() {
            self.clock.start(clock::now());
        } else {
            self.clock.stop(clock::now());
        }
    }

    fn is_anything_running(&self) -> bool {
        self.sums.counts.running + self.sums.counts.cancelling > 0
    }

    /// How many items will never run, because no other task takes them.
    fn abandoned(&self) -> isize {
        if self.are_moved_abandoned { self.sums.moved } else { 0 }
    }

    /// The fraction that is done of this many inputs.
    fn fraction_of(&self, inputs: u64) -> f64 {
        let (done, whole) = (self.sums.done + self.abandoned() as i128 * ONE as i128, i128::from(inputs) * ONE as i128);
        if done >= whole { 1.0 } else { (done as f64 / whole as f64).min(ALMOST_ONE) }
    }

    /// How many tasks or items have which status.
    fn counts(&self) -> GroupProgress {
        let mut counts = self.sums.counts.clone();
        let moved = if self.are_moved_abandoned { Status::Cancelled } else { Status::Pending };
        let counted = counts.count_mut(moved);
        *counted = counted.wrapping_add_signed(self.sums.moved);
        counts
    }

    pub(crate) fn have_all_ended(&self) -> bool {
        let GroupProgress { pending, running, paused, cancelling, .. } = self.counts();
        // Not their sum: while some are not counted yet, one of them may be below zero.
        [pending, running, paused, cancelling] == [0; 4]
    }

    /// Whether it counts inputs of a map, and not what tasks count.
    pub(crate) fn is_of_inputs(&self) -> bool {
        matches!(self.unit, Unit::Inputs(_))
    }

    /// How many inputs there are, if inputs are counted and their number is known.
    #[cfg(feature = "indicatif")]
    pub(crate) fn inputs(&self) -> Option<u64> {
        if let Unit::Inputs(inputs) = self.unit { inputs } else { None }
    }

    /// The tasks that have started and not ended.
    #[cfg(feature = "indicatif")]
    pub(crate) fn started(&self) -> impl Iterator<Item = &TaskRef> {
        self.started.values().map(|(task, _)| task)
    }

    /// How far the tasks have come right now.
    pub(crate) fn progress(&mut self) -> GroupProgress {
        let look = |task: &TaskRef| {
            task.look();
            Share::of(task, &task.core.snapshot(), self.unit)
        };
        let now: Vec<_> = self.started.iter().map(|(&id, (task, share))| (id, *share, look(task))).collect();
        for (id, before, share) in now {
            self.replace(before, share);
            if let Some((_, known)) = self.started.get_mut(&id) {
                *known = share;
            }
        }
        self.known()
    }

    /// How far the tasks have come, by the last states that they have shown.
    pub(crate) fn known(&mut self) -> GroupProgress {
        let (total, fraction) = match self.unit {
            Unit::OfTasks => (self.sums.total(), self.sums.fraction()),
            Unit::Inputs(inputs) => (inputs, inputs.map(|inputs| self.fraction_of(inputs))),
        };
        let computed = fraction.unwrap_or_default();
        self.peak = if mem::take(&mut self.has_grown) { computed } else { self.peak.max(computed) };
        GroupProgress {
            n: saturated(self.sums.n + self.abandoned() as i128),
            total,
            elapsed: Duration::from_nanos(self.clock.read().elapsed()),
            // A task that goes over its items once more is not complete, even if it was.
            fraction: fraction.map(|computed| if computed < 1.0 { self.peak.min(ALMOST_ONE) } else { 1.0 }),
            ..self.counts()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Tally, Unit};
    use crate::task::details::Details;
    use crate::task::idle;
    use crate::task::record::TaskRecord;

    #[test]
    fn items_that_go_on_elsewhere_may_be_taken_off_before_they_are_counted() {
        let mut tally = Tally::new(Unit::Inputs(None));
        tally.withdraw(1);
        for _ in 0..3 {
            let task = idle::started(Details::default());
            task.core.close();
            task.core.state.settle(0);
            tally.add_ended(&TaskRecord::new(&task, 0));
        }
        assert!(!tally.have_all_ended());
    }
}
