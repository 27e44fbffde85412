//! A task: the one state that both of its sides share, in one allocation.
//!
//! The task's side holds it through an [`Updater`], the caller's side through a future and its cancellers, the
//! executor through a [`Job`](crate::Job). Every transition of its [`state`] is made here, and whoever
//! makes one tells those who wait for it: the task ([`Core::interrupt`]), the future ([`Core::waiter`]), the observers
//! ([`report`]) and, where it asked for that, the executor ([`Home`]).

use std::any::TypeId;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use event_listener::Listener;

use crate::attend::Context;
use crate::board::{self, Board};
use crate::counts::{Counts, Reading, UNKNOWN};
use crate::error::{Subject, is_cancellation, panic_message};
use crate::limits;
use crate::parcel::Parcel;
use crate::parts::Position;
use crate::report;
use crate::sight::Sight;
use crate::state::{self, Cancel, State};
use crate::updater::Updater;
use crate::waiter::Waiter;
use crate::{BoxError, CancelCause, ProgressState, Status, TaskError, TaskErrorKind, TaskResult, clock};

/// Which task: unique within the process.
///
/// # Examples
///
/// ```
/// let executor = progress_executor::SyncExecutor::new();
/// let (first, second) = (executor.spawn(|_| Ok(1)), executor.spawn(|_| Ok(2)));
/// assert_ne!(first.id(), second.id());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u64);

impl TaskId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Never 0.
    pub(crate) fn to_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a task does: its function, with its input.
pub(crate) trait Work: Send + 'static {
    type Output: Send + 'static;

    /// The name of the function, for people.
    fn function() -> &'static str;
    fn call(self, updater: &Updater) -> TaskResult<Self::Output>;

    /// Which function that is, where it may be called in another process.
    fn portable() -> Option<Portable> {
        None
    }
    /// The input, encoded for that process.
    fn pack(self) -> Result<Parcel, BoxError>
    where
        Self: Sized,
    {
        Err("it stays in this process".into())
    }
    /// The output of that process.
    fn unpack(_output: Parcel) -> Result<Self::Output, BoxError> {
        Err("it stays in this process".into())
    }
}

/// A function that may be called in another process, if that knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable {
    pub(crate) type_id: TypeId,
    pub(crate) path: &'static str,
    /// Whether it captures something, which cannot be sent.
    pub(crate) captures: bool,
}

/// A task of any type.
pub(crate) type TaskRef = Arc<Task<dyn Body>>;

pub(crate) struct Task<B: ?Sized> {
    pub(crate) core: Core,
    body: B,
}

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

/// What the executor of a task hears of it, once it has [attached](attach) itself.
pub(crate) trait Home: Send + Sync {
    /// Something was requested of a task: to go on, to wait, to end, to show what it does. Its control word says what.
    fn changed(self: Arc<Self>, task: TaskId);
    /// A task has ended.
    fn ended(self: Arc<Self>, task: TaskId);
}

/// The typed part of a task, behind an untyped face.
pub(crate) trait Body: Send + Sync {
    fn function(&self) -> &'static str;
    /// Runs the work, keeps its outcome, and returns how that is to be [settled](State::settle); `None` where somebody
    /// else has ended the task meanwhile.
    fn execute(&self, core: &Core, updater: &Updater) -> Option<u32>;
    /// Drops the work, and keeps `error` as the outcome.
    fn refuse(&self, error: TaskError);
    /// See [`Work::portable`].
    fn portable(&self) -> Option<Portable>;
    /// Takes the work out, to be done elsewhere.
    fn pack(&self) -> Result<Parcel, BoxError>;
    /// The same for the outcome of work that was done elsewhere.
    fn accept(&self, core: &Core, outcome: Result<Parcel, TaskError>) -> u32;
    /// Drops the outcome.
    fn discard(&self);
}

/// A task whose output is a `T`.
pub(crate) trait Handle<T>: Send + Sync {
    fn core(&self) -> &Core;
    fn name(&self) -> &str;
    /// The outcome, once, after the task has ended.
    fn take(&self) -> Option<Result<T, TaskError>>;
    fn to_task(self: Arc<Self>) -> TaskRef;
}

/// A body in its stages. The work and the outcome are never there at the same time, and share their place.
enum Stage<W: Work> {
    Waiting(W),
    /// Running, or done with.
    Empty,
    Ended(Result<W::Output, TaskError>),
}

struct Slot<W: Work>(Mutex<Stage<W>>);

impl<W: Work> Slot<W> {
    fn keep(&self, outcome: Result<W::Output, TaskError>) -> u32 {
        let ending = outcome.as_ref().map_or_else(ending, |_| 0);
        self.replace(Stage::Ended(outcome));
        ending
    }

    fn replace(&self, stage: Stage<W>) -> Stage<W> {
        mem::replace(&mut *self.lock(), stage)
    }

    fn take_work(&self) -> Option<W> {
        let mut stage = self.lock();
        match mem::replace(&mut *stage, Stage::Empty) {
            Stage::Waiting(work) => Some(work),
            // It may have been ended already.
            other => {
                *stage = other;
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stage<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Work> Body for Slot<W> {
    fn function(&self) -> &'static str {
        W::function()
    }

    fn execute(&self, core: &Core, updater: &Updater) -> Option<u32> {
        let work = self.take_work()?;
        let result = catch_unwind(AssertUnwindSafe(|| work.call(updater)));
        if !core.state.decide() {
            drop_quietly(result);
            return None;
        }
        core.stop_clock();
        let outcome = match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(core.judge(error, W::function())),
            Err(payload) => Err(core.error(TaskErrorKind::Panicked, W::function()).with_panic(payload)),
        };
        Some(self.keep(outcome))
    }

    fn refuse(&self, error: TaskError) {
        drop_quietly(self.replace(Stage::Ended(Err(error))));
    }

    fn portable(&self) -> Option<Portable> {
        W::portable()
    }

    fn pack(&self) -> Result<Parcel, BoxError> {
        let work = self.take_work().ok_or("it was taken before")?;
        guard(|| work.pack())
    }

    fn accept(&self, core: &Core, outcome: Result<Parcel, TaskError>) -> u32 {
        self.keep(outcome.and_then(|output| {
            guard(|| W::unpack(output))
                .map_err(|error| core.error(TaskErrorKind::Decode, W::function()).with_source(error))
        }))
    }

    fn discard(&self) {
        drop_quietly(self.replace(Stage::Empty));
    }
}

/// Calls code of the user that has no business to panic; if it does, that is an error like others.
fn guard<T>(call: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        Err(match panic_message(&*payload) {
            Some(message) => format!("it panicked: {message}").into(),
            None => "it panicked".into(),
        })
    })
}

impl<W: Work> Handle<W::Output> for Task<Slot<W>> {
    fn core(&self) -> &Core {
        &self.core
    }

    fn name(&self) -> &str {
        Task::name(self)
    }

    fn take(&self) -> Option<Result<W::Output, TaskError>> {
        match self.body.replace(Stage::Empty) {
            Stage::Ended(outcome) => Some(outcome),
            Stage::Waiting(_) | Stage::Empty => None,
        }
    }

    fn to_task(self: Arc<Self>) -> TaskRef {
        self
    }
}

/// Drops what belongs to the user, whose `drop` may panic, on a thread that must go on.
fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

/// Makes a task, seen from both of its sides.
pub(crate) fn new<W: Work>(work: W, board: Option<Box<Board>>) -> (TaskRef, Arc<dyn Handle<W::Output>>) {
    let task = Arc::new(Task {
        core: Core {
            counts: Counts::new(),
            state: State::new(),
            home: AtomicU32::new(0),
            id: TaskId::next(),
            waiter: Waiter::new(),
            board: board.map_or_else(OnceLock::new, OnceLock::from),
        },
        body: Slot(Mutex::new(Stage::Waiting(work))),
    });
    (task.clone(), task)
}

impl<B: Body + ?Sized> Task<B> {
    pub(crate) fn name(&self) -> &str {
        self.core.name(self.body.function())
    }

    pub(crate) fn body(&self) -> &B {
        &self.body
    }

    /// An error of this task, as of now.
    pub(crate) fn error(&self, kind: TaskErrorKind) -> TaskError {
        self.core.error(kind, self.body.function())
    }
}

impl Core {
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
            None if sight.part == 0.0 => board::mirror(&self.counts, sight, was_halted),
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
    fn judge(&self, error: BoxError, function: &'static str) -> TaskError {
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
    fn interrupt(&self) {
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

/// Runs a task that the caller has [claimed](State::claim), and settles it.
pub(crate) fn run(task: TaskRef, context: Context) -> Context {
    task.core.counts.start_clock(clock::now());
    limits::watch(&task);
    let updater = Updater::new(task, context);
    updater.announce();
    let ending = updater.task().body.execute(&updater.task().core, &updater);
    let (task, context) = updater.into_parts();
    if let Some(ending) = ending {
        settle(&task, ending);
    }
    context
}

/// Ends a task that the caller has [sealed](State::seal) or [decided](State::decide) on, because of `kind`.
pub(crate) fn refuse(task: &TaskRef, kind: TaskErrorKind, source: Option<BoxError>) {
    let error = task.error(kind);
    refuse_with(
        task,
        match source {
            Some(source) => error.with_source(source),
            None => error,
        },
    );
}

/// The same, with this error as the outcome.
pub(crate) fn refuse_with(task: &TaskRef, error: TaskError) {
    let ending = ending(&error);
    task.body.refuse(error);
    settle(task, ending);
}

/// How a task with this error as its outcome is settled.
fn ending(error: &TaskError) -> u32 {
    if error.is_cancelled() { state::CANCELLED } else { state::FAILED }
}

/// Makes the outcome known: to the observers, to the future, to the executor.
pub(crate) fn settle(task: &TaskRef, ending: u32) {
    let core = &task.core;
    let before = core.state.settle(ending);
    if before & state::OBSERVED != 0 {
        report::conclude(core);
    }
    if before & state::ABANDONED != 0 {
        task.body.discard();
    }
    core.waiter.wake();
    // A thread may wait to run it, while it is paused.
    core.interrupt();
    if before & state::ATTACHED != 0 {
        let home = core.board().lock().detach_home();
        if let Some(home) = home {
            home.ended(core.id);
        }
    }
}

/// Requests cancellation, and ends the task right here where it has not started.
pub(crate) fn cancel(task: &TaskRef, cause: CancelCause) {
    match request_cancel(task, cause) {
        Cancel::Sealed => refuse(task, TaskErrorKind::Cancelled(cause), None),
        Cancel::Told => {
            task.core.interrupt();
            report::change(task);
            task.core.tell_home();
        }
        Cancel::Late => {}
    }
}

/// Requests cancellation; whoever waits for it is to be told.
pub(crate) fn request_cancel(task: &TaskRef, cause: CancelCause) -> Cancel {
    let core = &task.core;
    if core.has_run() && !core.has_ended() {
        // Before the task can notice.
        core.board().requested_at.set_once(clock::now());
    }
    core.state.request_cancel(cause as u32)
}

/// Makes a running task that has lost its worker pending again, unless it was asked to end. Returns whether it is.
pub(crate) fn retry(task: &TaskRef) -> bool {
    let is_pending = task.core.state.retry();
    if is_pending {
        // It has one: that is where it is said that it may be started again.
        let board = task.core.board();
        board.ledger().reset(&task.core.counts);
        board.lock().forget_message();
    }
    is_pending
}

/// Ends a task that nobody has run and nobody will run.
pub(crate) fn reject(task: &TaskRef, kind: TaskErrorKind, reason: BoxError) {
    if task.core.state.seal() {
        refuse(task, kind, Some(reason));
    }
}

/// Lets go of the outcome: it is dropped now, or by whoever settles the task.
pub(crate) fn abandon(task: &TaskRef) {
    if task.core.state.set(state::ABANDONED) & state::ENDED != 0 {
        task.body.discard();
    }
}

pub(crate) fn pause(task: &TaskRef) {
    if task.core.state.set(state::PAUSE) & state::PAUSE == 0 {
        task.core.interrupt();
        report::change(task);
        task.core.tell_home();
    }
}

pub(crate) fn resume(task: &TaskRef) {
    let core = &task.core;
    let before = core.state.clear(state::PAUSE);
    if before & state::PAUSE == 0 {
        return;
    }
    core.interrupt();
    report::change(task);
    core.tell_home();
    if state::is_pending(before) {
        // The future may be what runs it.
        core.waiter.wake();
    }
}

/// Lets `home` hear of a pending task, if `keep` agrees; it is given the control word, and may store the task.
///
/// Resuming and ending the task wait meanwhile, so `home` hears of whatever comes after `keep`.
pub(crate) fn attach(task: &TaskRef, home: Arc<dyn Home>, keep: impl FnOnce(u32) -> bool) -> bool {
    let mut report = task.core.board().lock();
    let word = task.core.state.set(state::ATTACHED);
    let attached = state::is_pending(word) && keep(word);
    if attached {
        report.attach_home(home);
    }
    attached
}
