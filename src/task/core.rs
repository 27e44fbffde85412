//! What every task has: its state, its counts, its clock, and the waiter of its future.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use event_listener::Listener;
use once_cell::race::OnceBox;

use crate::error::{Subject, TaskError, TaskErrorKind, WorkerExit};
use crate::id::{TaskId, WorkerId};
use crate::progress::{Origin, PartState, ProgressState, Status};
use crate::sync::clock::{self, Clock, Span};
use crate::sync::duty::before_waiting;
use crate::sync::waiter::Waiter;
use crate::task::bulk;
use crate::task::counts::{self, Counts, known};
use crate::task::details::{Details, Totals, default_name};
use crate::task::items::Items;
use crate::task::limits::Limits;
use crate::task::parts::Parts;
use crate::task::remote::{Position, Record, RemoteSnapshot, Said};
use crate::task::state::{self, State, Unclaimed};

/// Where a task runs, apart from the host: on a thread of the program, or in a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(u32);

impl Place {
    pub(crate) const NONE: Self = Self(0);
    /// Set if the rest is the number of a process.
    const PROCESS: u32 = 1 << 31;

    fn process(self) -> Option<u32> {
        (self.0 & Self::PROCESS != 0).then_some(self.0 & !Self::PROCESS)
    }

    /// The worker there, which may be on another host.
    pub(crate) fn worker(self, host: impl FnOnce() -> Option<Arc<str>>) -> Option<WorkerId> {
        match self.0 {
            0 => None,
            thread if thread & Self::PROCESS == 0 => Some(WorkerId::Thread(thread)),
            process => Some(WorkerId::Process { id: process & !Self::PROCESS, host: host() }),
        }
    }
}

/// What every task has.
///
/// In this order in memory: what a progress call touches comes first, side by side, and off the cache line of a
/// neighbour.
#[repr(C)]
pub(crate) struct Core {
    pub(crate) counts: Counts,
    pub(crate) clock: Clock,
    pub(crate) state: State,
    /// Before its start, the [pool](Self::pool_id) that it belongs to; then the [worker](Self::worker) that runs it.
    place: AtomicU32,
    id: TaskId,
    /// Wakes the future.
    pub(crate) waiter: Waiter,
    details: OnceBox<Details>,
}

/// How far a task has come, when it was running, and what it says, as of one moment.
pub(crate) struct Moment {
    pub(crate) position: Position,
    pub(crate) span: Span,
    /// How long it had been running when its current item began.
    item_began: u64,
    message: Option<Arc<str>>,
    named_parts: Vec<PartState>,
}

impl Core {
    #[inline]
    pub(crate) fn new(id: TaskId, details: Option<Box<Details>>) -> Self {
        Self {
            counts: Counts::new(),
            clock: Clock::default(),
            state: State::new(),
            place: AtomicU32::new(0),
            id,
            waiter: Waiter::new(),
            details: details.map_or_else(OnceBox::new, OnceBox::with_value),
        }
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    /// The name that it was given, if any.
    pub(crate) fn given_name(&self) -> Option<&str> {
        self.existing_details()?.name.as_deref()
    }

    /// The given name, or else one made of the function's name and the id.
    pub(crate) fn name(&self, function: &'static str) -> &str {
        self.details().name_or_default(self.id, function)
    }

    /// The pool whose threads may run this task when they wait for it; 0 for none. Meaningless once it has started.
    pub(crate) fn pool_id(&self) -> u32 {
        self.place.load(Ordering::Relaxed)
    }

    pub(crate) fn set_pool_id(&self, pool_id: u32) {
        self.place.store(pool_id, Ordering::Relaxed);
    }

    /// Notes that the task is about to start on this thread of the program.
    pub(crate) fn set_thread(&self, number: u32) {
        self.place.store(number & !Place::PROCESS, Ordering::Relaxed);
    }

    /// Notes that the task is sent to this process, to start there.
    pub(crate) fn set_process(&self, worker: &WorkerId) {
        if let WorkerId::Process { id, host } = worker {
            self.place.store(id | Place::PROCESS, Ordering::Relaxed);
            self.set_host(host.as_ref());
        }
    }

    /// The process that it was sent to.
    pub(crate) fn process(&self) -> Option<u32> {
        self.place().process()
    }

    /// Whether it runs in another process, or may start there at any moment, and has one count: in a chunk of a map,
    /// each item counts for itself.
    pub(crate) fn is_elsewhere(&self) -> bool {
        let word = self.state.load();
        let may_run = word & (state::LENT | state::RUNNING) != 0 && word & state::ENDED == 0;
        may_run && self.process().is_some() && self.items().is_none()
    }

    /// Stores how far it has come there, as read by `look` with the totals locked.
    pub(crate) fn look(&self, look: impl FnOnce(u32) -> Option<Record>) {
        let mut totals = self.details().totals();
        // Under the lock, so that nothing older is stored after it, nor a reading of a worker that was lost.
        if self.is_elsewhere() {
            self.process().and_then(look).into_iter().for_each(|record| totals.see(record));
        }
    }

    /// How far it had come there at the last look.
    pub(crate) fn seen(&self) -> Option<Position> {
        self.process()?;
        self.existing_details()?.totals().seen
    }

    /// Stores the host, if any. Most workers are on this machine, and take no memory for it.
    fn set_host(&self, host: Option<&Arc<str>>) {
        if host.is_some() {
            self.details().totals().past.get_or_insert_default().host = host.cloned();
        } else if let Some(details) = self.existing_details() {
            details.totals().past.iter_mut().for_each(|past| past.host = None);
        }
    }

    pub(crate) fn place(&self) -> Place {
        Place(self.place.load(Ordering::Relaxed))
    }

    /// The worker that it was sent to, or has started on.
    pub(crate) fn worker(&self) -> Option<WorkerId> {
        self.place().worker(|| self.existing_details()?.totals().past.as_ref()?.host.clone())
    }

    /// Claims the task to start it here, unless it is paused or taken. Waits while [many](bulk) tasks are being cancelled.
    pub(crate) fn claim(&self) -> Result<(), Unclaimed> {
        bulk::await_cancellers();
        self.state.claim()
    }

    /// Like [`claim`](Self::claim), to start it in another process. Returns the control word before.
    pub(crate) fn lend(&self) -> Result<u32, Unclaimed> {
        bulk::await_cancellers();
        self.state.lend()
    }

    /// Whether a progress call has more to do than to count: one of `bits` is set, or something is requested where the
    /// task counts.
    #[inline(always)]
    pub(crate) fn needs_attention(&self, bits: u32) -> bool {
        let word = self.state.peek() & (bits | state::LAID_OUT);
        word != 0 && (word != state::LAID_OUT || counts::is_requested())
    }

    /// Has a task that is about to run in a worker process count where the program sees it, if there is such memory.
    pub(crate) fn move_out(&self) {
        if self.counts.move_out() {
            self.state.set(state::LAID_OUT);
        }
    }

    /// Takes the counts back once the task has returned: that memory is for the next task.
    pub(crate) fn move_in(&self) {
        self.counts.move_in();
        self.state.clear(state::LAID_OUT);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.load() & state::ENDED != 0
    }

    /// Whether its function was called; it may have returned since.
    pub(crate) fn has_run(&self) -> bool {
        self.state.load() & state::RUNNING != 0
    }

    /// The details, made if there are none yet.
    pub(crate) fn details(&self) -> &Details {
        self.details.get_or_init(Box::default)
    }

    pub(crate) fn existing_details(&self) -> Option<&Details> {
        self.details.get()
    }

    /// The state as it is now.
    pub(crate) fn snapshot(&self) -> ProgressState {
        // Read first: if `seen` was dropped before this, what is read below is newer.
        let (seen, is_known_to_run) = (self.seen(), self.has_run());
        let state = self.snapshot_as(self.status());
        let Some(Position { n, total, part }) = seen.filter(|_| !state.status.is_terminal()) else { return state };
        // It was seen to count, so it runs, although its worker has not said so yet.
        let is_taken_to_wait = matches!(state.status, Status::Pending | Status::Paused) && !is_known_to_run;
        let status = if is_taken_to_wait { Status::Running } else { state.status };
        ProgressState { n, total: known(total), part, status, ..state }
    }

    fn snapshot_as(&self, status: Status) -> ProgressState {
        let Moment { position, span, item_began, message, named_parts } = self.moment();
        let Position { n, total, part } = position;
        let elapsed = match item_began {
            0 => span.elapsed(),
            // An item that has begun took some time, however coarse the clock.
            began => span.elapsed().saturating_sub(began).max(1),
        };
        ProgressState {
            n,
            total: known(total),
            status,
            message,
            elapsed: Duration::from_nanos(elapsed),
            part,
            // Parts that outlive the task do not count.
            parts: if status.is_terminal() { Vec::new() } else { named_parts },
            origin: Origin(None),
            ended_items: self.items().map_or(0, |items| items.counts().ended()),
        }
    }

    /// When it was started, and until when it has been running; `None` before its start. Pauses move the start forward.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        let span = self.moment().span;
        (span.started > 0).then(|| (span.started, span.end()))
    }

    /// For how long it has been running, in nanoseconds: all items together, in a chunk.
    pub(crate) fn running_for(&self) -> u64 {
        self.moment().span.elapsed()
    }

    /// How far it has come, when it was running, and what it says, as of one moment.
    pub(crate) fn moment(&self) -> Moment {
        self.read(|position, span, totals| Moment {
            position,
            span,
            item_began: totals.map_or(0, |totals| totals.item_began),
            message: totals.and_then(|totals| totals.message.clone()),
            named_parts: totals.map(Totals::named_parts).unwrap_or_default(),
        })
    }

    /// Calls `read` with the position, the times and, if there are any, the totals, all as of one moment: if the task is
    /// running, its end is now.
    pub(crate) fn read<R>(&self, read: impl FnOnce(Position, Span, Option<&Totals>) -> R) -> R {
        if self.existing_details().is_none() {
            let (counts, span) = (self.counts.read(), self.clock.read_until_now());
            // Looked at again: a part may have been handed out of this count just now.
            if self.existing_details().is_none() {
                return read(counts.into(), span, None);
            }
        }
        let totals = self.details().totals();
        // Under the lock, so that the clock is not stopped later as of an earlier moment.
        read(totals.position(&self.counts), self.clock.read_until_now(), Some(&totals))
    }

    /// How the last worker ended that was lost while it ran the task, if there is one.
    pub(crate) fn lost_to(&self) -> Option<WorkerExit> {
        self.existing_details()?.totals().past.as_ref()?.lost_tries.last_exit
    }

    /// Notes how the worker of its last try ended.
    pub(crate) fn note_lost_to(&self, exit: WorkerExit) {
        self.details().totals().past.get_or_insert_default().lost_tries.last_exit = Some(exit);
    }

    /// The items that it runs one after the other, if it is a chunk of a map.
    pub(crate) fn items(&self) -> Option<&dyn Items> {
        self.existing_details()?.items.as_deref()
    }

    /// Starts count, message and clock afresh for the next item. Returns whether the last item had counted or said
    /// anything, and for how long the task has been running.
    pub(crate) fn begin_item(&self) -> (bool, Duration) {
        let elapsed = self.clock.read().elapsed();
        let mut totals = self.details().totals();
        let (had_said, was_shared) = totals.begin_item(&self.counts, elapsed);
        if was_shared {
            self.unshare_in(&mut totals);
        }
        (had_said, Duration::from_nanos(elapsed))
    }

    /// Sets for how long another process has been running the current item, in nanoseconds.
    pub(crate) fn set_item_elapsed(&self, elapsed: u64) {
        let mut totals = self.details().totals();
        totals.item_began = self.clock.read().elapsed().saturating_sub(elapsed).max(1);
    }

    /// When its timeout or its deadline passes, whichever is first, as far as is known now.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let details = self.existing_details()?;
        let Limits { timeout, deadline, .. } = details.limits;
        let totals = details.totals();
        let started = clock::instant(self.clock.read().started.saturating_add(totals.standstill.total));
        drop(totals);
        let timed_out = started.zip(timeout).and_then(|(started, timeout)| started.checked_add(timeout));
        timed_out.into_iter().chain(deadline).min()
    }

    /// Whether its deadline has passed while it waited in another process, or before that process was known to run it.
    pub(crate) fn is_overdue(&self) -> bool {
        self.existing_details().is_some_and(|details| details.is_overdue.load(Ordering::Acquire))
    }

    /// For how long, at least, the task has made no progress call; `None` if it does not run, or has made one since the
    /// last [`probe`](Self::probe).
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        self.silent_until(clock::now())
    }

    /// The same until a time of the clock.
    pub(crate) fn silent_until(&self, time: u64) -> Option<Duration> {
        let word = self.state.load();
        if word & state::PROBE == 0 || word & (state::RUNNING | state::HALTED) != state::RUNNING {
            return None;
        }
        let started = self.clock.read().started;
        if started == 0 {
            // It is about to start.
            return None;
        }
        let probed_at = self.existing_details().map_or(0, |details| details.probed_at.get());
        let since = probed_at.max(started);
        Some(Duration::from_nanos(time.saturating_sub(since)))
    }

    /// Asks a running task to note its next progress call. Returns whether it was not asked before.
    pub(crate) fn probe(&self) -> bool {
        let word = self.state.load();
        let is_new = word & (state::RUNNING | state::HALTED | state::PROBE) == state::RUNNING;
        if is_new {
            self.details().probed_at.set(clock::now());
            self.state.set(state::PROBE);
        }
        is_new
    }

    /// Excludes from its limits a time in which it could not have made a call.
    pub(crate) fn exclude(&self, time: Duration) {
        if let Some(details) = self.existing_details() {
            self.exclude_in(details, &mut details.totals(), u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    fn exclude_in(&self, details: &Details, totals: &mut Totals, time: u64) {
        totals.standstill.total = totals.standstill.total.saturating_add(time);
        let since = details.probed_at.get().max(self.clock.read().started);
        details.probed_at.set(since.saturating_add(time));
    }

    /// Notes that the process where it runs is stopped for a while.
    pub(crate) fn suspend(&self) {
        self.details().totals().standstill.since = Some(clock::now());
    }

    /// Notes that the process goes on. The caller watches the limits again.
    pub(crate) fn resume(&self) {
        let Some(details) = self.existing_details() else { return };
        let mut totals = details.totals();
        let now = clock::now();
        let time = totals.end_standstill(&self.clock, now);
        self.exclude_in(details, &mut totals, time);
        // It may have been asked meanwhile, and is silent from now on at the latest.
        details.probed_at.set(details.probed_at.get().min(now));
    }

    pub(crate) fn status(&self) -> Status {
        let word = self.state.load();
        let has = |bits| word & bits != 0;
        if has(state::ENDED) {
            if has(state::FAILED) {
                Status::Failed
            } else if has(state::CANCELLED) {
                Status::Cancelled
            } else {
                Status::Finished
            }
        } else if has(state::CANCEL) {
            Status::Cancelling
        } else if has(state::HALTED) || has(state::PAUSE) && !has(state::RUNNING) {
            Status::Paused
        } else if has(state::RUNNING) {
            Status::Running
        } else {
            Status::Pending
        }
    }

    /// Starts the clock, as of `as_of` if that is not 0. Does nothing if the deadline has passed since the task was claimed.
    pub(crate) fn start_clock(&self, as_of: u64) {
        // Locked, since its limit may pass at this moment.
        let totals = self.existing_details().map(Details::totals);
        if totals.as_ref().is_some_and(|totals| totals.is_closed()) {
            return;
        }
        // With limits the start must be exact: none may take effect early.
        let is_exact = as_of == 0 || totals.is_some();
        self.clock.start(if is_exact { clock::now() } else { as_of });
    }

    /// When its clock was stopped; 0 if it was not.
    pub(crate) fn stopped_at(&self) -> u64 {
        self.clock.read().stopped
    }

    /// Ends the counting, as of now. A task that has run took some time, however coarse the clock.
    pub(crate) fn close(&self) {
        self.close_at(Totals::shown, |Span { started, stopped }| {
            // The clock of a paused task is stopped already.
            let now = if stopped == 0 { clock::now() } else { stopped };
            Span { started, stopped: now.max(started + 1) }
        });
    }

    /// Like [`close`](Self::close), for a task that has been running in another process for `elapsed` nanoseconds,
    /// until `now`; but for no less than was shown here. The program may not have heard of its start before.
    pub(crate) fn close_after(&self, elapsed: u64, now: u64) {
        self.close_at(Totals::position, |shown| {
            // It was shown to be running until the present, which may be later than `now`.
            let until = shown.end();
            let elapsed = elapsed.max(until.saturating_sub(shown.started));
            let started = now.max(until).saturating_sub(elapsed).max(1);
            Span { started, stopped: started.saturating_add(elapsed) }
        });
    }

    /// Stops the clock of a task that will not run, as of now.
    pub(crate) fn close_unstarted(&self) {
        self.clock.stop(clock::now());
    }

    fn close_at(&self, position: fn(&Totals, &Counts) -> Position, end: impl FnOnce(Span) -> Span) {
        let totals = self.existing_details().map(Details::totals);
        if totals.as_ref().is_some_and(|totals| totals.is_closed()) {
            return;
        }
        self.clock.change(end);
        if let Some(mut totals) = totals {
            let position = position(&totals, &self.counts);
            totals.close(position);
        }
    }

    /// Sets what another process has counted. Only the receiver of its messages calls this.
    pub(crate) fn mirror(&self, remote: &RemoteSnapshot) {
        let was_halted = self.state.load() & state::HALTED != 0;
        let Position { n, total, part } = remote.position;
        let is_plain = !was_halted && !remote.is_halted && part == 0.0 && remote.parts.is_empty();
        if is_plain && self.existing_details().is_none() {
            // Most tasks need no details. If another thread makes some right now, they hold nothing older.
            return self.counts.set_both(n, total);
        }
        self.details().totals().mirror((&self.counts, &self.clock), remote, was_halted, clock::now());
    }

    /// Notes that one more count of the task is shared by several threads.
    pub(crate) fn share(&self) {
        let mut totals = self.details().totals();
        totals.shared_counts += 1;
        self.state.set(state::SHARED);
    }

    /// Undoes one [`share`](Self::share).
    pub(crate) fn unshare(&self) {
        self.unshare_in(&mut self.details().totals());
    }

    fn unshare_in(&self, totals: &mut Totals) {
        totals.shared_counts -= 1;
        if totals.shared_counts == 0 {
            self.state.clear(state::SHARED);
        }
    }

    pub(crate) fn set_message(&self, message: Arc<str>, is_current: impl FnOnce(&Parts) -> bool) {
        let mut totals = self.details().totals();
        // What a task says after its end, or while its outcome is being written, is not part of the outcome.
        if self.state.load() & (state::ENDED | state::DECIDED) == 0 && is_current(&totals.parts) {
            totals.message = Some(message);
        }
    }

    /// Calls `record` with what the task has said so far.
    pub(crate) fn record(&self, record: impl FnOnce(Said<'_>)) {
        let totals = self.details().totals();
        let (position, message) = (totals.position(&self.counts), totals.message.as_deref());
        // Under the lock, so that what is said later is recorded later.
        record(Said { position, message, is_spread: !totals.parts.is_empty() });
    }

    /// Sets what a process had recorded of the task before it was lost. Only the receiver of its messages calls this.
    pub(crate) fn restore(&self, record: Record) {
        self.details().totals().restore(&self.counts, record);
    }

    /// Notes that the task knows of its cancellation.
    pub(crate) fn notice(&self) {
        let before = self.state.set(state::NOTICED);
        if before & state::NOTICED == 0 {
            self.details().noticed_at.set_once(clock::now());
            if before & state::OBSERVED != 0 {
                // Nothing else shows it, and in a worker the program must hear of it.
                self.waiter.wake();
            }
        }
    }

    /// Notes that an iterator, a reader or a writer of the task ends early.
    pub(crate) fn cut_short(&self) {
        self.state.set(state::CUT_SHORT);
    }

    /// An error of this task, with its progress as of now.
    pub(crate) fn error(&self, kind: TaskErrorKind, function: &'static str) -> TaskError {
        let status = match kind {
            TaskErrorKind::Cancelled(_) => Status::Cancelled,
            // It says nothing about the task.
            TaskErrorKind::Taken => self.status(),
            _ => Status::Failed,
        };
        let details = self.existing_details();
        let (name, is_default) = match self.given_name() {
            Some(name) => (name.into(), false),
            None => (default_name(self.id, function), true),
        };
        let subject = Subject { id: self.id, name, is_default, function };
        let progress = self.snapshot_as(status);
        TaskError::new(kind, subject, progress)
            .with_response(self.silent_for(), details.and_then(Details::noticed_after))
    }

    /// Waits until `holds` is true of the control word, or until the deadline.
    pub(crate) fn wait_until(&self, holds: impl Fn(u32) -> bool, deadline: Option<Instant>) {
        let interrupt = &self.details().interrupt;
        // From now on, whatever changes the word wakes those who wait.
        self.state.set(state::WAITS);
        while !holds(self.state.load()) {
            let listener = interrupt.listen();
            // The change may have come before there was a listener to hear of it.
            if holds(self.state.load()) {
                return;
            }
            before_waiting();
            match deadline {
                None => listener.wait(),
                Some(deadline) => {
                    if listener.wait_deadline(deadline).is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Wakes the threads that [wait](Self::wait_until) for a change of the control word. Called after the change.
    pub(crate) fn interrupt(&self) {
        if self.state.load() & state::WAITS != 0 {
            self.details().interrupt.notify(usize::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::run;
    use crate::sync::clock;
    use crate::task::idle::Idle;

    #[test]
    fn a_task_ends_after_no_less_time_than_it_was_seen_to_run_for() {
        for has_details in [true, false] {
            for end in [|task: &super::Core| task.close(), |task: &super::Core| task.close_after(1, clock::now())] {
                let (task, _handle) = run::new(Idle, has_details.then(Box::default));
                task.core.start_clock(0);
                let seen = task.core.moment().span;
                end(&task.core);
                assert!(seen.elapsed() <= task.core.running_for(), "{seen:?}, details: {has_details}");
            }
        }
    }
}
