//! What the documentation says of a task to which things happen.

use std::time::Duration;

use progress_executor::{CancelCause, Status, TaskError, TaskErrorKind, WorkerExit};

use crate::part::{End, Stage, VALUE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Cancel,
    Pause,
    Suspend,
    /// After a pause or a suspension.
    Resume,
    TimeOut,
    Stall,
    Deadline,
    ShutDown,
    ShutDownNow,
    /// Another task of its group, which is joined, fails.
    OtherFails,
    /// Its group is dropped.
    Drop,
    /// The task goes on after a pause, but not its pool after a suspension. Only in cases of its own.
    ResumeTask,
}

pub(crate) const EVENTS: [Event; 11] = [
    Event::Cancel,
    Event::Pause,
    Event::Suspend,
    Event::Resume,
    Event::TimeOut,
    Event::Stall,
    Event::Deadline,
    Event::ShutDown,
    Event::ShutDownNow,
    Event::OtherFails,
    Event::Drop,
];

impl Event {
    pub(crate) fn is_limit(&self) -> bool {
        matches!(self, Self::TimeOut | Self::Stall | Self::Deadline)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value,
    /// Cancelled, with the value as a partial result.
    Partial(CancelCause),
    Error(TaskErrorKind),
}

use Outcome::{Error, Partial, Value};

impl Outcome {
    pub(crate) fn status(&self) -> Status {
        match self {
            Value => Status::Finished,
            Partial(_) | Error(TaskErrorKind::Cancelled(_)) => Status::Cancelled,
            Error(_) => Status::Failed,
        }
    }
}

impl From<Result<u32, TaskError>> for Outcome {
    fn from(outcome: Result<u32, TaskError>) -> Self {
        let Err(error) = outcome else { return Value };
        match (error.kind().clone(), error.into_partial::<u32>()) {
            (TaskErrorKind::Cancelled(cause), Ok(VALUE)) => Partial(cause),
            (kind, partial) => {
                assert!(partial.is_err(), "{kind:?}");
                Error(kind)
            }
        }
    }
}

/// What the documentation says: of `ProgressFuture::cancel`, `pause` and `TaskBuilder::{timeout, stall_timeout, deadline,
/// retries}`, of `ProcessPoolExecutor::{suspend, shutdown, shutdown_now}`, and of `TaskErrorKind`.
pub(crate) struct Documented {
    stage: Stage,
    pub(crate) is_paused: bool,
    pub(crate) is_suspended: bool,
    /// The first request decides.
    pub(crate) cancelled: Option<CancelCause>,
    pub(crate) outcome: Option<Outcome>,
    /// For how long, at least, no time has passed for the timeouts.
    pub(crate) stood_still: Duration,
    tries: u32,
}

impl Documented {
    pub(crate) fn new(stage: Stage) -> Self {
        let tries = u32::from(stage != Stage::Waits);
        let (cancelled, outcome, stood_still) = (None, None, Duration::ZERO);
        Self { stage, is_paused: false, is_suspended: false, cancelled, outcome, stood_still, tries }
    }

    pub(crate) fn after(&mut self, event: Event) {
        if self.outcome.is_some() {
            return;
        }
        match event {
            Event::Cancel => self.is_asked_to_end(CancelCause::Requested),
            // Both resume a suspended pool.
            Event::ShutDownNow => {
                self.is_suspended = false;
                self.is_asked_to_end(CancelCause::Shutdown);
            }
            Event::ShutDown => self.is_suspended = false,
            Event::OtherFails => self.is_asked_to_end(CancelCause::GroupFailed),
            Event::Drop => self.is_asked_to_end(CancelCause::Dropped),
            Event::Pause => self.is_paused = true,
            Event::Suspend => self.is_suspended = true,
            Event::Resume => (self.is_paused, self.is_suspended) = (false, false),
            Event::ResumeTask => self.is_paused = false,
            Event::TimeOut if self.time_passes() => self.outcome = Some(Error(TaskErrorKind::TimedOut)),
            Event::Stall if self.time_passes() && self.stage == Stage::IsDeaf => {
                self.outcome = Some(Error(TaskErrorKind::Stalled));
            }
            Event::TimeOut | Event::Stall => {}
            // Whatever the task is doing then.
            Event::Deadline => self.outcome = Some(Error(TaskErrorKind::TimedOut)),
        }
    }

    /// Whether time passes for the timeouts. A pause takes effect in a progress call.
    pub(crate) fn time_passes(&self) -> bool {
        match self.stage {
            Stage::Waits => false,
            Stage::Listens => !self.is_paused && !self.is_suspended,
            // A cancelled task goes on although its pool is suspended.
            Stage::IsDeaf => !self.is_suspended || self.cancelled.is_some(),
        }
    }

    pub(crate) fn is_asked_to_end(&mut self, cause: CancelCause) {
        let cause = *self.cancelled.get_or_insert(cause);
        // A waiting task never starts, and neither a pause nor a suspension keeps a task from listening.
        if self.stage != Stage::IsDeaf {
            self.outcome = Some(Error(TaskErrorKind::Cancelled(cause)));
        }
    }

    /// How the task ends, and how often it was started.
    pub(crate) fn in_the_end(self, end: End) -> (Outcome, u32) {
        if let Some(outcome) = self.outcome {
            return (outcome, self.tries);
        }
        let lost = Error(TaskErrorKind::WorkerLost(WorkerExit::Code(3)));
        let outcome = match (end, self.cancelled) {
            (End::Asks, Some(cause)) => Error(TaskErrorKind::Cancelled(cause)),
            (End::IsCutShort, Some(cause)) => Partial(cause),
            (End::Asks | End::IsCutShort, None) | (End::Returns, _) => Value,
            (End::Fails, _) => Error(TaskErrorKind::Failed),
            (End::Panics, _) => Error(TaskErrorKind::Panicked),
            // A cancelled task is not tried again either.
            (End::Crashes, _) | (End::CrashesOnce, Some(_)) => lost,
            (End::CrashesOnce, None) => return (Value, 2),
        };
        (outcome, 1)
    }
}
