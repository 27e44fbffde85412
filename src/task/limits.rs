//! What a task may take: how long in all, how long without a progress call, and how many workers.

use std::time::{Duration, Instant};

use crate::error::TaskErrorKind;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) timeout: Option<Duration>,
    /// When it must have ended, whether it has started or not.
    pub(crate) deadline: Option<Instant>,
    pub(crate) stall_timeout: Option<Duration>,
    /// How many times a task that has lost its worker is started again.
    pub(crate) retries: u32,
}

impl Limits {
    /// Whether any of them needs to be watched.
    pub(crate) fn are_timed(&self) -> bool {
        self.timeout.is_some() || self.stall_timeout.is_some() || self.deadline.is_some()
    }

    /// The shorter of the two timeouts; zero if neither is set.
    pub(crate) fn shortest(&self) -> Duration {
        [self.timeout, self.stall_timeout].into_iter().flatten().min().unwrap_or_default()
    }

    /// The error of a limit that leaves no time at all, if there is one.
    pub(crate) fn passed_at_once(&self) -> Option<TaskErrorKind> {
        match self {
            Self { timeout: Some(Duration::ZERO), .. } => Some(TaskErrorKind::TimedOut),
            Self { stall_timeout: Some(Duration::ZERO), .. } => Some(TaskErrorKind::Stalled),
            _ => None,
        }
    }
}
