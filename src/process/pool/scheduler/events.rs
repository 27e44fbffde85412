//! The events and actions of the [scheduler](crate::process::pool::scheduler), and what it needs to know about tasks and workers.

use std::time::{Duration, Instant};

use crate::process::protocol::page::Doomed;
use crate::task::state::{self, Unclaimed};

/// How long the system may take to start a worker, and a worker on this machine to be ready.
pub(crate) const START: Duration = Duration::from_secs(60);

/// Where to start a worker: its index in the pool, how many workers had that index before, and the index of its
/// host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) index: usize,
    pub(crate) attempt: u32,
    pub(crate) host: usize,
}

/// The number of a worker in its pool; never used again.
pub(crate) type WorkerNumber = u64;

/// What the scheduler passes on without looking into it.
pub(crate) trait Types {
    type Task: Task;
    type Page: Page;
    /// What a worker reports about a task that it runs.
    type Report: Report;
    /// How a task ended.
    type Outcome;
    /// How some of its items ended.
    type Items;
    /// How a process ended.
    type Exit: Clone;
    type Failure: Failure<Self::Exit>;
}

/// A task, shared with other threads, which may cancel it at any moment.
pub(crate) trait Task: Clone {
    fn id(&self) -> u64;
    /// Its control word.
    fn word(&self) -> u32;
    fn has_ended(&self) -> bool {
        self.word() & state::ENDED != 0
    }
    /// See [`State::lend`](state::State::lend).
    fn lend(&self) -> Result<u32, Unclaimed>;
    /// See [`State::take_back`](state::State::take_back).
    fn take_back(&self) -> bool;
    /// Makes a task that had begun, reported or not, pending again if it may be started once more.
    fn retry(&self) -> bool;
    /// Counts a worker that has ended before it had begun with this. Returns how many there were.
    fn note_unbegun(&self) -> u32;
}

pub(crate) trait Report {
    fn has_noticed(&self) -> bool;
    /// Whether no progress call was made since somebody asked for the next one.
    fn is_silent(&self) -> bool;
}

/// What is shared with a worker: a place for each task that was sent to it and has not ended.
pub(crate) trait Page {
    /// How many places there are: one where nothing is shared.
    fn places(&self) -> usize;
    /// Prepares a place for a task that is about to be sent.
    fn offer(&self, place: u64);
    /// Takes a task back, if it has not begun.
    fn take_back(&self, place: u64) -> bool;
    fn has_begun(&self, place: u64) -> bool;
    /// While part of what was sent is still in this process, so that the worker cannot have begun with it: a number
    /// that changes as that part shrinks.
    fn sending(&self) -> Option<u64>;
    /// Keeps a running task that has not noticed its cancellation from ending, because its worker is about to be
    /// killed.
    fn doom(&self, place: u64) -> Doomed;
}

/// Why there is no worker.
pub(crate) trait Failure<Exit> {
    /// The worker was gone before it was ready.
    fn lost(exit: Exit) -> Self;
    /// The worker was ready, and gone before it had begun with a task.
    fn unused(exit: Exit) -> Self;
    /// The system has not answered whether the worker was started.
    fn unanswered() -> Self;
    /// The worker was killed because it was not ready in time.
    fn not_ready(exit: Exit) -> Self;
    fn worth(&self) -> Worth;
}

/// Whether another attempt to start a worker is worthwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// Up to this many in a row.
    Attempts(u32),
    /// Up to this many in a row, each begun after the one before had failed: many may fail at once for one reason.
    #[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "one launch is one worker"))]
    Rounds(u32),
    /// The same, and at least one on each host: what has failed on some may succeed on another.
    Hosts(u32),
    /// The system has run out of some resource, perhaps temporarily.
    Patience,
}

/// What has happened.
pub(crate) enum Event<K: Types> {
    Submitted(K::Task),
    /// What is wanted of a task that has not ended has changed.
    Wanted(u64),
    /// A task has ended other than through a worker.
    Dropped(u64),
    /// No more tasks will be submitted, and there may be nobody left to resume the pool.
    Closed,
    /// All workers must stand still.
    Suspended,
    Resumed,
    /// There must be this many workers, whether or not there are tasks.
    Prestarted(usize),
    Started(WorkerNumber, K::Page),
    /// The launcher of the worker runs: the worker may connect, which is [`Event::Started`].
    #[cfg(feature = "cluster")]
    Launched(WorkerNumber),
    NotStarted(WorkerNumber, K::Failure),
    /// The worker has called `init`, and runs its initializer.
    Greeted(WorkerNumber),
    /// The worker is ready for its first task. The time, if any, is when it stops taking tasks.
    Ready(WorkerNumber, Option<Instant>),
    /// The worker has said why it cannot be used.
    Unfit(WorkerNumber, K::Failure),
    /// The worker has begun with this task. Only said where there is no page.
    Begun(WorkerNumber, u64),
    Progress(WorkerNumber, u64, K::Report),
    /// Items of a task have ended; the task goes on.
    Items(WorkerNumber, u64, K::Items),
    Ended(WorkerNumber, u64, Duration, K::Outcome),
    /// Everything that the worker has sent so far was received.
    Looked(WorkerNumber),
    /// Whether the worker was found stopped.
    StopChecked(WorkerNumber, bool),
    Goodbye(WorkerNumber),
    /// The worker's channel is closed (`true`), or has carried something malformed or was cut off (`false`): then its
    /// last messages are unknown.
    Severed(WorkerNumber, bool),
    /// The process is gone, and everything that it had sent was received.
    Gone(WorkerNumber, K::Exit),
    Time,
}

/// What must be done, in this order.
pub(crate) enum Action<K: Types> {
    /// Start a process, for this task to begin with, or ahead of any; answered by [`Event::Started`] or
    /// [`Event::NotStarted`].
    Start(WorkerNumber, Option<K::Task>, Seat),
    /// Send a task, with its place and what is wanted of it.
    Send(WorkerNumber, K::Task, u64, u32),
    /// Send what is wanted of a task.
    Want(WorkerNumber, u64, u32),
    /// Ask a worker to end.
    Dismiss(WorkerNumber),
    /// Have the driver do something.
    Post(Order),
    /// A task has begun.
    Begin(K::Task),
    /// The limits of a task stand still, because its worker is stopped.
    Suspend(K::Task),
    Resume(K::Task),
    Show(K::Task, K::Report),
    /// Items of a task have ended.
    Deliver(K::Task, K::Items),
    /// A task has ended; that it had begun may not have been reported before.
    Settle(K::Task, K::Outcome),
    /// A task's worker is lost, and the task had begun there, reported or not.
    Lose(K::Task, K::Exit, Option<KillReason>),
    /// A task's worker is lost, and the task will be started again.
    ShowRetry(K::Task, K::Exit),
    /// A task was cancelled before it had begun.
    Refuse(K::Task),
    /// There is no worker for these tasks.
    Reject(Vec<K::Task>, K::Failure),
    /// A task ended earlier, and needs its input no more. It may still be in the queue.
    Forget(K::Task),
}

pub(crate) type Effects<K> = Vec<Action<K>>;

/// What only the driver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Look at what a worker has noted, then [`Event::Looked`].
    Look(WorkerNumber),
    /// See whether its process is stopped, then [`Event::StopChecked`].
    CheckStopped(WorkerNumber),
    /// Stop its process group, because the pool is suspended.
    Stop(WorkerNumber),
    Continue(WorkerNumber),
    /// Kill the worker; [`Event::Gone`] follows when it has ended.
    Kill(WorkerNumber),
    /// Wait no longer for a worker whose process does not end, or that came too late; [`Event::Gone`] follows at once.
    GiveUp(WorkerNumber),
    /// Tell the user that a worker does not get ready.
    Warn,
}

/// Why a worker was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// Its task took no notice of its cancellation.
    IgnoredCancel,
    /// Somebody had stopped the worker, so that its task could not end though it had noticed its cancellation, or so
    /// that the worker could not get ready.
    Stopped,
    /// Its task had ended when its time to notice its cancellation ran out, but the outcome did not arrive.
    Unheard,
    /// It did not begin with what it was sent.
    Silent,
    /// Its channel was closed, or carried something malformed.
    Severed,
    /// It was not ready in time.
    NotReady,
    /// It was no longer wanted.
    Unwanted,
}

/// A worker sent a message that makes no sense in its state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfTurn;
