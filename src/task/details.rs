//! What only few tasks have, allocated on demand: a name, limits, a message, subscribers, waiting threads, parts, an owner.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use event_listener::Event;

use crate::error::{BoxError, WorkerExit};
use crate::id::{TaskId, WorkerId};
use crate::progress::PartState;
use crate::sync::block_on::Reactor;
use crate::sync::clock::{self, AtomicInstant, Clock, Span};
use crate::task::counts::{Counts, Reading, UNKNOWN, known};
use crate::task::items::Items;
use crate::task::limits::Limits;
use crate::task::lines::Backlog;
use crate::task::parts::Parts;
use crate::task::remote::{Position, Record, RecordedMessage, RemotePart, RemoteSnapshot};
use crate::task::subscribers::Reports;

#[derive(Default)]
pub(crate) struct Details {
    /// The name that the task was given, if any.
    pub(crate) name: Option<Box<str>>,
    default_name: OnceLock<Box<str>>,
    pub(crate) limits: Limits,
    /// The items, if the task is a chunk of a map.
    pub(crate) items: Option<Arc<dyn Items>>,
    /// Wakes the task from a pause or a sleep.
    pub(crate) interrupt: Event,
    /// When cancellation of the running task was requested, when the task noticed that, and since when its next
    /// progress call is awaited.
    pub(crate) requested_at: AtomicInstant,
    pub(crate) noticed_at: AtomicInstant,
    pub(crate) probed_at: AtomicInstant,
    /// The timer entry that watches its limits: the bits of a `TimerId`, or 0.
    pub(crate) watchdog: AtomicU64,
    /// Whether its deadline has passed while it waited in another process.
    pub(crate) is_overdue: AtomicBool,
    reports: Mutex<Reports>,
    totals: Mutex<Totals>,
    /// Lines that it printed before its future was polled.
    early_lines: Mutex<Backlog>,
    owner: Mutex<Option<Arc<dyn Owner>>>,
}

/// An executor that is told what happens to a task, once it is attached to the task.
pub(crate) trait Owner: Send + Sync + UnwindSafe + RefUnwindSafe {
    /// Something was requested of a task: a pause, the end of a pause, cancellation, a report. Its control word says what.
    fn changed(self: Arc<Self>, task: TaskId);
    /// A task has ended.
    fn ended(self: Arc<Self>, task: TaskId);
    /// How far a task has come in the process of this number, and its message there, if that can be looked up.
    fn look(&self, _process: u32, _task: TaskId) -> Option<Record> {
        None
    }
    /// The time of the clock until which all that another process has said of a task is known, unless that is now: what it has said
    /// since may wait for something else to be done, such as the decoding of an output.
    fn heard_until(&self, _task: TaskId) -> Option<u64> {
        None
    }
    /// If the process of this number was stopped by a signal: an error that says so.
    fn stopped(&self, _process: u32) -> Option<BoxError> {
        None
    }
    /// Work that a thread can do while it blocks until one of the owner's tasks has ended.
    fn reactor(self: Arc<Self>) -> Option<Arc<dyn Reactor>> {
        None
    }
    /// A thread blocks without doing the work of the [reactor](Self::reactor), because observers are shown what its task
    /// does, or items are delivered. A thread of the executor must do that work at once.
    fn take_over(&self) {}
}

/// The progress of a task beyond its own count, and its message. The task's clock is started and stopped under this lock.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) parts: Parts,
    pub(crate) message: Option<Arc<str>>,
    /// The part of a unit that is done, as reported by another process.
    remote_part: f64,
    /// What was last read from the memory of another process: newer than what that process has reported. Kept because
    /// the memory may belong to the next task before the end of this one is reported.
    pub(crate) seen: Option<Position>,
    /// The named parts, as reported by another process.
    remote_parts: Vec<PartState>,
    /// How many counts, of the task and its parts, are shared by several threads.
    pub(crate) shared_counts: usize,
    /// How many threads of the task wait because it is paused.
    halted: usize,
    pub(crate) standstill: Standstill,
    /// What only reports need, and few tasks have.
    pub(crate) past: Option<Box<Past>>,
    /// How long the task had been running when its current item began; 0 if it has none, or is at the first.
    pub(crate) item_began: u64,
    /// How far it had come at its end; nothing counts after that.
    closed: Option<Position>,
}

/// Time in which the process of the task stood still, because its pool was suspended or it was stopped. Limits do not
/// count it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standstill {
    /// When the current standstill began, if there is one, or when the task went on in it after a pause.
    pub(crate) since: Option<u64>,
    /// The sum of those that are over, in nanoseconds, without pauses: a clock that is stopped counts nothing anyway.
    pub(crate) total: u64,
}

impl Standstill {
    /// For how long the clock of the task has been running in the current one.
    fn lasted(&self, Span { started, stopped }: Span, now: u64) -> u64 {
        match self.since {
            Some(since) if started > 0 && stopped == 0 => now.saturating_sub(since.max(started)),
            _ => 0,
        }
    }
}

/// What has happened to a task, for its report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// When it was started, if pauses have moved the start of its clock since; 0 otherwise.
    first_start: u64,
    pub(crate) lost_tries: LostTries,
    /// The host of the process that it was sent to, if that is another host.
    pub(crate) host: Option<Arc<str>>,
}

impl Past {
    /// Notes the start of the clock, which the end of a pause is about to move.
    fn note_start(&mut self, span: Span) {
        if self.first_start == 0 {
            self.first_start = span.started;
        }
    }

    /// When the task was started, given what its clock says; 0 if it was not. This is not computed from its running
    /// time and its pauses: for a task in another process, two clocks measure those, and they may overlap.
    pub(crate) fn started(&self, span: Span) -> u64 {
        if self.first_start == 0 { span.started } else { span.started.min(self.first_start) }
    }
}

/// The tries of the task on workers that were lost.
#[derive(Clone, Debug, Default)]
pub(crate) struct LostTries {
    pub(crate) count: u32,
    /// The first of them.
    pub(crate) first: Vec<TrySpan>,
    /// How the worker of the last of them ended, once that is told.
    pub(crate) last_exit: Option<WorkerExit>,
}

#[derive(Clone, Debug)]
pub(crate) struct TrySpan {
    pub(crate) worker: Option<WorkerId>,
    pub(crate) started: u64,
    pub(crate) ended: u64,
}

/// How many are kept, so that a task that is lost over and over does not take more and more memory.
const MOST_LOST_TRIES: usize = 32;

impl LostTries {
    fn add(&mut self, lost: TrySpan) {
        self.count = self.count.saturating_add(1);
        if self.first.len() < MOST_LOST_TRIES {
            self.first.push(lost);
        }
    }
}

impl Details {
    /// The details of a task with this name and these limits; `None` if it has neither.
    pub(crate) fn of(name: Option<String>, limits: Limits) -> Option<Box<Self>> {
        let has_any = name.is_some() || limits != Limits::default();
        has_any.then(|| Box::new(Self { name: name.map(Into::into), limits, ..Self::default() }))
    }

    /// The given name, or else one that tells the task apart from others of the same function.
    pub(crate) fn name_or_default(&self, id: TaskId, function: &str) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.default_name.get_or_init(|| default_name(id, function)))
    }

    pub(crate) fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lock order: `reports` before `totals`.
    pub(crate) fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn early_lines(&self) -> MutexGuard<'_, Backlog> {
        self.early_lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn owner(&self) -> MutexGuard<'_, Option<Arc<dyn Owner>>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it took the task to notice its cancellation.
    pub(crate) fn noticed_after(&self) -> Option<Duration> {
        match (self.requested_at.get(), self.noticed_at.get()) {
            (0, _) | (_, 0) => None,
            (requested, noticed) => Some(Duration::from_nanos(noticed.saturating_sub(requested))),
        }
    }
}

/// The name of a task that was given none: `work #7`.
pub(crate) fn default_name(id: TaskId, function: &str) -> Box<str> {
    format!("{function} #{id}").into()
}

impl From<&RemotePart> for PartState {
    fn from(RemotePart { name, position, depth }: &RemotePart) -> Self {
        let Position { n, total, part } = *position;
        Self { name: name.clone(), n, total: known(total), part, depth: *depth }
    }
}

impl Totals {
    pub(crate) fn position(&self, counts: &Counts) -> Position {
        self.closed.unwrap_or_else(|| {
            let position = self.parts.position(counts);
            Position { part: position.part + self.remote_part, ..position }
        })
    }

    /// Stores what was read from the memory of the process that runs the task.
    pub(crate) fn see(&mut self, Record { position, message, .. }: Record) {
        if self.is_closed() {
            return;
        }
        self.seen = Some(position);
        self.take_message(message);
    }

    /// The newest position known here, including what was read from another process.
    pub(crate) fn shown(&self, counts: &Counts) -> Position {
        self.closed.or(self.seen).unwrap_or_else(|| self.position(counts))
    }

    /// Takes a message that another process has recorded.
    fn take_message(&mut self, message: Option<RecordedMessage>) {
        let news = message.filter(|message| message.says_more_than(self.message.as_deref()));
        if let Some(message) = news {
            self.message = Some(message.text.into());
        }
    }

    /// The parts under way that have a name.
    pub(crate) fn named_parts(&self) -> Vec<PartState> {
        // A task runs either here or there.
        if self.remote_parts.is_empty() { self.parts.named() } else { self.remote_parts.clone() }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// A thread is about to wait in a pause. Returns whether it is the first.
    pub(crate) fn halt(&mut self, clock: &Clock, now: u64) -> bool {
        self.halted += 1;
        let is_first = self.halted == 1 && !self.is_closed();
        if is_first {
            clock.stop(now);
        }
        is_first
    }

    /// A thread goes on. Returns whether it was the last one that waited.
    pub(crate) fn go_on(&mut self, clock: &Clock, now: u64) -> bool {
        self.halted -= 1;
        let is_last = self.halted == 0;
        if is_last && !self.is_closed() {
            self.go_on_at(clock, now);
        }
        is_last
    }

    /// Starts the clock again after a pause.
    fn go_on_at(&mut self, clock: &Clock, now: u64) {
        self.past.get_or_insert_default().note_start(clock.read());
        clock.start(now);
        self.standstill.since = self.standstill.since.map(|_| now);
    }

    /// Stops the clock, as another process has reported a pause that began when it had been running the task for `elapsed`.
    fn halt_after(&mut self, elapsed: u64, clock: &Clock, now: u64) {
        let span = clock.read();
        if self.standstill.since.is_none() && self.standstill.total == 0 {
            let stopped = span.started.saturating_add(self.item_began).saturating_add(elapsed);
            return clock.set(Span { stopped, ..span });
        }
        // Unlike this clock, that of the other process may have been stopped meanwhile. Late looks count here as well: then, the
        // pause begins when it is heard of, and not when it began.
        self.standstill.total += self.standstill.lasted(span, now);
        clock.stop(now);
    }

    /// Ends the current standstill. Returns for how long the clock has been running in it, as far as that is not counted yet.
    pub(crate) fn end_standstill(&mut self, clock: &Clock, now: u64) -> u64 {
        let lasted = self.standstill.lasted(clock.read(), now);
        self.standstill.since = None;
        lasted
    }

    /// Makes `position` the last one. The clock is stopped already.
    pub(crate) fn close(&mut self, position: Position) {
        self.closed.get_or_insert(position);
    }

    /// Sets the state that another process has reported. `was_halted` says whether the task was known to be paused.
    pub(crate) fn mirror(
        &mut self,
        (counts, clock): (&Counts, &Clock),
        remote: &RemoteSnapshot,
        was_halted: bool,
        now: u64,
    ) {
        if self.is_closed() {
            return;
        }
        self.set_remote(counts, remote.position);
        self.remote_parts = remote.parts.iter().map(PartState::from).collect();
        if remote.is_halted {
            self.halt_after(remote.elapsed, clock, now);
        } else if was_halted {
            self.go_on_at(clock, now);
        }
    }

    /// Sets what another process has counted.
    fn set_remote(&mut self, counts: &Counts, Position { n, total, part }: Position) {
        if !self.is_closed() {
            self.remote_part = part;
            counts.set_both(n, total);
        }
    }

    /// Sets what another process had recorded of the task before it was lost.
    pub(crate) fn restore(&mut self, counts: &Counts, Record { position, message, .. }: Record) {
        if !self.is_closed() {
            self.seen = None;
            self.set_remote(counts, position);
            self.take_message(message);
        }
    }

    /// Undoes the start of the task, and records the try on the lost `worker`.
    pub(crate) fn reset(&mut self, counts: &Counts, clock: &Clock, worker: Option<WorkerId>) {
        let span = clock.read();
        let ended = clock::now();
        // Its start may not have been reported.
        let past = self.past.get_or_insert_default();
        let started = if span.started == 0 { ended } else { past.started(span) };
        past.first_start = 0;
        past.lost_tries.add(TrySpan { worker, started, ended });
        self.remote_part = 0.0;
        self.seen = None;
        self.remote_parts.clear();
        self.message = None;
        self.standstill = Standstill::default();
        counts.set_both(0, UNKNOWN);
        clock.set(Span::ZERO);
    }

    /// Starts afresh for the next item, after the task has been running for `elapsed`. Returns whether the last item
    /// had counted or said anything, and whether its count was shared. Whatever that item has left of parts and threads
    /// no longer counts.
    pub(crate) fn begin_item(&mut self, counts: &Counts, elapsed: u64) -> (bool, bool) {
        let Reading { n, total } = counts.read();
        let had_said = n != 0 || total != UNKNOWN || self.message.is_some() || !self.parts.is_empty();
        let was_shared = self.parts.is_shared();
        self.parts.begin_item();
        if had_said {
            self.parts.clear();
            self.remote_part = 0.0;
            self.remote_parts.clear();
            self.message = None;
            counts.set_both(0, UNKNOWN);
        }
        self.item_began = elapsed.max(1);
        (had_said, was_shared)
    }
}

#[cfg(test)]
mod tests {
    use super::Totals;
    use crate::sync::clock::{Clock, Span};
    use crate::task::counts::Counts;
    use crate::task::remote::RemoteSnapshot;

    /// What another process does with a task, and what is done with that process.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// After it has been running for so long, by the clock of that process.
        Halts(u64),
        GoesOn,
        IsSuspended,
        IsResumed,
    }

    use Event::{GoesOn, Halts, IsResumed, IsSuspended};

    /// Plays the events at their times, from a start at 1000. Returns how long the task has been running at `end` then, and how
    /// much of that limits count.
    fn play(events: &[(u64, Event)], end: u64) -> (u64, u64) {
        let (mut totals, counts, clock) = (Totals::default(), Counts::new(), Clock::default());
        clock.start(1000);
        let elapsed = |now| {
            let Span { started, stopped } = clock.read();
            (if stopped == 0 { now } else { stopped }) - started
        };
        let (mut is_halted, mut shown) = (false, 0);
        for &(now, event) in events {
            let mut mirror = |elapsed, halts| {
                let remote = RemoteSnapshot { elapsed, is_halted: halts, ..RemoteSnapshot::default() };
                totals.mirror((&counts, &clock), &remote, std::mem::replace(&mut is_halted, halts), now);
            };
            match event {
                Halts(elapsed) => mirror(elapsed, true),
                GoesOn => mirror(0, false),
                IsSuspended => totals.standstill.since = Some(now),
                IsResumed => {
                    let lasted = totals.end_standstill(&clock, now);
                    totals.standstill.total += lasted;
                }
            }
            assert!(elapsed(now) >= shown, "{event:?} at {now}: it is shown to have run for less than before");
            shown = elapsed(now);
        }
        (elapsed(end), elapsed(end) - totals.standstill.total)
    }

    /// Such a process is on another machine, where a suspension is a pause that it does not report.
    #[test]
    fn limits_count_neither_suspensions_nor_pauses_and_all_other_time_once() {
        // It ran from 1000 to 2000.
        let is_over = [(2000, IsSuspended), (9000, IsResumed)];
        assert_eq!(play(&is_over, 9000), (8000, 1000));
        for reported in [1500, 8500] {
            // By a clock that has left the suspension out, or not.
            let paused = [&is_over[..], &[(9500, Halts(reported))]].concat();
            assert_eq!(play(&paused, 20_000), (8500, 1500), "{reported}");
            let again = [&paused[..], &[(9600, Halts(reported + 10)), (10_000, GoesOn)]].concat();
            assert_eq!(play(&again, 11_000), (9500, 2500), "{reported}");
        }
        assert_eq!(play(&[(2000, IsSuspended), (3000, Halts(1000)), (9000, IsResumed)], 9000), (2000, 1000));
        let goes_on_later = [(2000, IsSuspended), (3000, Halts(1000)), (9000, IsResumed), (10_000, GoesOn)];
        assert_eq!(play(&goes_on_later, 10_500), (2500, 1500));
        // The task is told to go on while its pool is still suspended.
        let goes_on_first = [(2100, Halts(1000)), (3000, IsSuspended), (4000, GoesOn), (9000, IsResumed)];
        assert_eq!(play(&goes_on_first, 9500), (6500, 1500));
        let twice = [(2000, IsSuspended), (3000, Halts(1000)), (4000, GoesOn), (5000, Halts(1000)), (9000, IsResumed)];
        assert_eq!(play(&twice, 9000), (3000, 1000));
    }

    #[test]
    fn a_pause_began_when_the_other_process_says() {
        assert_eq!(play(&[(2100, Halts(1050))], 9000), (1050, 1050));
    }
}
