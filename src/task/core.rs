//! What is the same for every task: its state, its counts, and who waits for it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use event_listener::Listener;

use crate::error::{BoxError, CancelCause, Subject, TaskError, TaskErrorKind, is_cancellation};
use crate::id::TaskId;
use crate::progress::{ProgressState, Status};
use crate::sync::clock;
use crate::sync::waiter::Waiter;
use crate::task::counts::{Counts, Reading, UNKNOWN};
use crate::task::details::{self, Board};
use crate::task::parts::Position;
use crate::task::remote::Sight;
use crate::task::state::{self, State};

/// What is the same for every task.
///
/// In this order in memory: what a progress call touches comes first, side by side, and off the cache line of a
/// neighbour.
#[repr(C)]
pub(crate) struct Core {
    pub(crate) counts: Counts,
    pub(crate) state: State,
    /// The pool whose threads may run this task where they wait for it; 0 for none.
    home: AtomicU32,
    id: TaskId,
    /// Wakes the future.
    pub(crate) waiter: Waiter,
    board: OnceLock<Box<Board>>,
}

impl Core {
    pub(crate) fn new(board: Option<Box<Board>>) -> Self {
        Self {
            counts: Counts::new(),
            state: State::new(),
            home: AtomicU32::new(0),
            id: TaskId::next(),
            waiter: Waiter::new(),
            board: board.map_or_else(OnceLock::new, OnceLock::from),
        }
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    /// The name that was given to it, or else that of its function.
    pub(crate) fn name(&self, function: &'static str) -> &str {
        self.existing_board().and_then(Board::name).unwrap_or(function)
    }

    pub(crate) fn home(&self) -> u32 {
        self.home.load(Ordering::Relaxed)
    }

    pub(crate) fn set_home(&self, home: u32) {
        self.home.store(home, Ordering::Relaxed);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.load() & state::ENDED != 0
    }

    /// Whether its function was called, be it over or not.
    pub(crate) fn has_run(&self) -> bool {
        self.state.load() & state::RUNNING != 0
    }

    /// The board, made if there is none yet.
    pub(crate) fn board(&self) -> &Board {
        self.board.get_or_init(Box::default)
    }

    pub(crate) fn existing_board(&self) -> Option<&Board> {
        self.board.get().map(|board| &**board)
    }

    /// The state as it is now.
    pub(crate) fn snapshot(&self) -> ProgressState {
        self.snapshot_as(self.status(), self.existing_board().and_then(|board| board.lock().message()))
    }

    pub(crate) fn snapshot_as(&self, status: Status, message: Option<Arc<str>>) -> ProgressState {
        let (Position { reading, part }, elapsed) = self.position();
        ProgressState {
            n: reading.n,
            total: Some(reading.total).filter(|&total| total != UNKNOWN),
            status,
            message,
            elapsed: Duration::from_nanos(elapsed),
            part,
        }
    }

    /// The same without its message, and without the lock that guards this.
    pub(crate) fn glance(&self) -> ProgressState {
        self.snapshot_as(self.status(), None)
    }

    /// When it was started, and until when it has been running; in nanoseconds. The start is moved on by pauses.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        let (Position { reading, .. }, elapsed) = self.position();
        (reading.started > 0).then(|| (reading.started, reading.started + elapsed))
    }

    /// How far it has come, and for how long it has been running, in nanoseconds.
    fn position(&self) -> (Position, u64) {
        if self.existing_board().is_none() {
            let reading = self.counts.read();
            // Looked at again: what was read may be of a count of which a part was handed out just now.
            if self.existing_board().is_none() {
                return (Position { reading, part: 0.0 }, running_for(reading));
            }
        }
        let ledger = self.board().ledger();
        let position = ledger.position(&self.counts);
        // Under the lock: the clock is not stopped at a moment before this one.
        (position, running_for(position.reading))
    }

    /// For how long it has been running, in nanoseconds.
    pub(crate) fn running_for(&self) -> u64 {
        self.position().1
    }

    /// When a running task will have come to its time-out.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let timeout = self.existing_board()?.limits.timeout?;
        clock::instant(self.counts.read().started)?.checked_add(timeout)
    }

    /// For how long the task has made no progress call, at least; `None` where nobody asks for that yet.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        let word = self.state.load();
        if word & state::PROBE == 0 || word & (state::RUNNING | state::HALTED) != state::RUNNING {
            return None;
        }
        let started = self.counts.read().started;
        if started == 0 {
            // It is about to start.
            return None;
        }
        let probed_at = self.existing_board().map_or(0, |board| board.probed_at.get());
        let since = probed_at.max(started);
        Some(Duration::from_nanos(clock::now().saturating_sub(since)))
    }

    /// Asks the next progress call of a running task to be noted. Returns whether nobody has asked before.
    pub(crate) fn probe(&self) -> bool {
        let word = self.state.load();
        let is_new = word & (state::RUNNING | state::HALTED | state::PROBE) == state::RUNNING;
        if is_new {
            self.board().probed_at.set(clock::now());
            self.state.set(state::PROBE);
        }
        is_new
    }

    /// For how long the task has made no progress call, at least, and asks for the next one to be noted.
    pub(crate) fn silence(&self) -> Duration {
        let silence = self.silent_for();
        if silence.is_none() && self.probe() {
            self.tell_home();
        }
        silence.unwrap_or_default()
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

    /// Stops the clock at the end. A task that has run took some time, however coarse the clock.
    pub(crate) fn stop_clock(&self) {
        self.stop_clock_at(|| {
            let Reading { started, stopped, .. } = self.counts.read();
            // It stands still already where the task waits in another process.
            let now = if stopped == 0 { clock::now() } else { stopped };
            now.max(started + 1)
        });
    }

    fn stop_clock_at(&self, now: impl FnOnce() -> u64) {
        match self.existing_board() {
            Some(board) => {
                let mut ledger = board.ledger();
                ledger.close(&self.counts, now());
            }
            None => self.counts.stop_clock(now()),
        }
    }

    /// Sets what another process has counted. Only whoever hears of the task there calls this.
    pub(crate) fn mirror(&self, sight: &Sight) {
        let was_halted = self.state.load() & state::HALTED != 0;
        match self.existing_board() {
            None if sight.part == 0.0 => details::mirror(&self.counts, sight, was_halted),
            _ => self.board().ledger().mirror(&self.counts, sight, was_halted),
        }
    }

    /// Starts the clock of a task in another process.
    pub(crate) fn start_clock(&self) {
        // Held, for its limit may pass just now.
        let _ledger = self.existing_board().map(Board::ledger);
        self.counts.start_clock(clock::now());
    }

    /// The same for the clock, which has come to its end there after so many nanoseconds.
    pub(crate) fn stop_clock_after(&self, elapsed: u64) {
        self.stop_clock_at(|| self.counts.read().started.saturating_add(elapsed));
    }

    pub(crate) fn set_message(&self, message: Arc<str>) {
        let mut report = self.board().lock();
        // What a task says after its end is not part of its outcome, nor what it says while that is written.
        if self.state.load() & (state::ENDED | state::DECIDED) == 0 {
            report.set_message(message);
        }
    }

    /// The task knows of its cancellation.
    pub(crate) fn notice(&self) {
        if self.state.set(state::NOTICED) & state::NOTICED == 0 {
            self.board().noticed_at.set_once(clock::now());
        }
    }

    /// What an error returned by the task means.
    pub(crate) fn judge(&self, error: BoxError, function: &'static str) -> TaskError {
        let word = self.state.load();
        let kind = if word & state::CANCEL != 0 && is_cancellation(&error) {
            TaskErrorKind::Cancelled(CancelCause::from_bits(state::cause(word)))
        } else {
            TaskErrorKind::Failed
        };
        self.error(kind, function).with_source(error)
    }

    /// An error of this task, as of now.
    pub(crate) fn error(&self, kind: TaskErrorKind, function: &'static str) -> TaskError {
        let status = match kind {
            TaskErrorKind::Cancelled(_) => Status::Cancelled,
            _ => Status::Failed,
        };
        let board = self.existing_board();
        let subject = Subject { id: self.id, name: board.and_then(Board::name).map(Box::from), function };
        let progress = self.snapshot_as(status, board.and_then(|board| board.lock().message()));
        TaskError::new(kind, subject, progress).with_response(self.silent_for(), board.and_then(Board::noticed_after))
    }

    /// Waits until the control word is as it should be, and at most until the deadline.
    pub(crate) fn wait_until(&self, holds: impl Fn(u32) -> bool, deadline: Option<Instant>) {
        let interrupt = &self.board().interrupt;
        // Whoever changes the word after this knows that somebody listens.
        self.state.set(state::WAITS);
        while !holds(self.state.load()) {
            let listener = interrupt.listen();
            // The change may have come before there was a listener to hear of it.
            if holds(self.state.load()) {
                return;
            }
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

    /// Lets the executor look at the control word, if it wants to.
    pub(crate) fn tell_home(&self) {
        if self.state.load() & state::ATTACHED != 0 {
            let home = self.board().lock().home();
            if let Some(home) = home {
                home.changed(self.id);
            }
        }
    }

    /// Wakes whoever [waits](Self::wait_until) for a change of the control word, after it.
    pub(crate) fn interrupt(&self) {
        if self.state.load() & state::WAITS != 0 {
            self.board().interrupt.notify(usize::MAX);
        }
    }
}

fn running_for(reading: Reading) -> u64 {
    let until = match (reading.started, reading.stopped) {
        (0, _) => 0,
        (_, 0) => clock::now(),
        (_, stopped) => stopped,
    };
    until.saturating_sub(reading.started)
}
