//! The events and the actions of the [scheduler](super::scheduler), and what it has to know of tasks and workers.

use std::time::{Duration, Instant};

use crate::process::protocol::page::Doomed;
use crate::task::state::{self, Unclaimed};

/// How long the system may take to start a worker, and a worker on this machine to be ready.
pub(crate) const START: Duration = Duration::from_secs(60);

/// Where a worker is to be started: its index in the pool, how many workers had that index before, and the index of its
/// host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) index: usize,
    pub(crate) attempt: u32,
    pub(crate) host: usize,
}

/// The number of a worker in its pool; never used again.
pub(crate) type WorkerId = u64;

/// What the scheduler handles without looking into it.
pub(crate) trait Types {
    type Task: Task;
    type Page: Page;
    /// What a worker tells of a task that it runs.
    type Report: Report;
    /// How a task ended.
    type Outcome;
    /// How some of its items ended.
    type Items;
    /// How a process ended.
    type Exit: Clone;
    type Failure: Failure<Self::Exit>;
}

/// A task, shared with whoever may cancel it at any moment.
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
    /// Makes it pending again after it had begun, heard of or not, if it may be started once more.
    fn retry(&self) -> bool;
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
    /// The place is to hold a task that is about to be sent.
    fn offer(&self, place: u64);
    /// Takes a task back, if it has not begun.
    fn take_back(&self, place: u64) -> bool;
    fn has_begun(&self, place: u64) -> bool;
    /// Where some of what was sent is still here, so that the worker cannot have begun with it: a number that changes while
    /// that becomes less.
    fn sending(&self) -> Option<u64>;
    /// Keeps a task that runs, and has not noticed that it is to end, from ending, for it is about to be killed.
    fn doom(&self, place: u64) -> Doomed;
}

/// Why there is no worker.
pub(crate) trait Failure<Exit> {
    /// It was gone before it was ready.
    fn lost(exit: Exit) -> Self;
    /// The system has not answered whether it was started.
    fn unanswered() -> Self;
    /// It was killed because it was not ready in time.
    fn not_ready(exit: Exit) -> Self;
    fn worth(&self) -> Worth;
}

/// Whether there is use in another attempt to start a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// Up to so many in a row.
    Attempts(u32),
    /// Up to so many in a row, each begun after the one before had failed: many may fail at once for a temporary
    /// reason.
    Rounds(u32),
    /// The system has run out of something, temporarily perhaps.
    Patience,
}

/// What has happened.
pub(crate) enum Event<K: Types> {
    Submitted(K::Task),
    /// Something else is wanted of a task that has not ended.
    Wanted(u64),
    /// A task has ended in another way than through a worker.
    Dropped(u64),
    /// No task is submitted any more, and nobody may be there to resume the pool.
    Closed,
    /// All workers are to stand still.
    Suspended,
    Resumed,
    /// There are to be so many workers, whether or not there are tasks.
    Prestarted(usize),
    Started(WorkerId, K::Page),
    /// It may come, and then [`Event::Started`]: what is to start it somewhere else runs.
    #[cfg(feature = "cluster")]
    Launched(WorkerId),
    NotStarted(WorkerId, K::Failure),
    /// It has called `init`, and runs its initializer.
    Greeted(WorkerId),
    /// It is ready for its first task, and takes none any more from then on.
    Ready(WorkerId, Option<Instant>),
    /// It has said why it cannot be used.
    Unfit(WorkerId, K::Failure),
    /// It has begun with this task. Heard where there is no page.
    Begun(WorkerId, u64),
    Progress(WorkerId, u64, K::Report),
    /// Items of a task have ended, which goes on.
    Items(WorkerId, u64, K::Items),
    Ended(WorkerId, u64, Duration, K::Outcome),
    /// Everything that it has sent so far was received.
    Looked(WorkerId),
    /// Whether somebody has stopped it.
    Glanced(WorkerId, bool),
    Goodbye(WorkerId),
    /// Its channel is closed, or has carried something malformed: then (`false`) what it has said last was not heard.
    Severed(WorkerId, bool),
    /// The process is gone, and everything that it had sent was received.
    Gone(WorkerId, K::Exit),
    Time,
}

/// What is to be done, in this order.
pub(crate) enum Action<K: Types> {
    /// Start a process, for this task to begin with, or ahead of any: an answer is [`Event::Started`] or
    /// [`Event::NotStarted`].
    Start(WorkerId, Option<K::Task>, Seat),
    /// Send a task, of which so much is wanted.
    Send(WorkerId, K::Task, u64, u32),
    /// Send what is wanted of a task.
    Want(WorkerId, u64, u32),
    /// Ask a worker to end.
    Dismiss(WorkerId),
    /// Have the driver do something.
    Post(Order),
    /// A task has begun.
    Begin(K::Task),
    /// No time passes for its limits, because its worker is stopped.
    Suspend(K::Task),
    Resume(K::Task),
    Show(K::Task, K::Report),
    /// Items of a task have ended.
    Deliver(K::Task, K::Items),
    /// It has ended; perhaps nobody has said before that it had begun.
    Settle(K::Task, K::Outcome),
    /// Its worker is lost, and it had begun there, heard of or not.
    Lose(K::Task, K::Exit, Option<KillReason>),
    /// It is to be started again.
    ShowRetry(K::Task),
    /// It was cancelled before it had begun.
    Refuse(K::Task),
    /// There is no worker for these.
    Reject(Vec<K::Task>, K::Failure),
    /// It has ended before, and can be dropped.
    Forget(K::Task),
}

pub(crate) type Effects<K> = Vec<Action<K>>;

/// What only the driver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Look at what a worker has noted, then [`Event::Looked`].
    Look(WorkerId),
    /// See whether its process is stopped, then [`Event::Glanced`].
    Glance(WorkerId),
    /// Stop its process group, for the pool is suspended.
    Stop(WorkerId),
    Continue(WorkerId),
    /// End it now, and then [`Event::Gone`].
    Kill(WorkerId),
    /// The same, though its process does not end, or nobody has waited for it.
    GiveUp(WorkerId),
    /// Say that a worker does not get ready.
    Remark,
}

/// Why a worker was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// Its task took no notice of its cancellation.
    Unheeded,
    /// Its task has noticed its cancellation, and could not end because somebody has stopped the worker; or it could not get
    /// ready because of that.
    Stopped,
    /// It did not begin with what it was sent.
    Silent,
    /// Its channel was closed, or made no sense.
    Severed,
    /// It was not ready in time.
    NotReady,
    /// Nobody wanted it any more.
    Unwanted,
}

/// A worker said something that it cannot mean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfTurn;
