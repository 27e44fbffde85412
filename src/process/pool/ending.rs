//! How a process is ended that is not needed any more: a launcher is asked, then killed, with a time limit for each step.

use std::time::{Duration, Instant};

use crate::process::pool::child::ChildProcess;

/// How long it may take after it was asked: it has to end its workers and its job, which it leaves behind when it is killed.
/// The same after it was killed: on a machine that is busy, that takes its time as well.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    step: Step,
    /// When the next step is due.
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    #[cfg(feature = "cluster")]
    Expected,
    Asked,
    Killed,
}

impl Ending {
    /// Its work is done. It may end by itself until then.
    #[cfg(feature = "cluster")]
    pub(super) fn expected(until: Instant) -> Self {
        Self { step: Step::Expected, until }
    }

    /// It has been asked to end.
    pub(super) fn asked(now: Instant) -> Self {
        Self { step: Step::Asked, until: now + PATIENCE }
    }

    /// Whether it may end by itself, and was not asked to.
    #[cfg(feature = "cluster")]
    pub(super) fn is_expected(self) -> bool {
        self.step == Step::Expected
    }

    /// It was killed.
    pub(super) fn killed(now: Instant) -> Self {
        Self { step: Step::Killed, until: now + PATIENCE }
    }

    /// Takes the next step if it is due, and returns when the one after it is; `None` if it was killed and does not end.
    pub(super) fn press(&mut self, process: Option<&ChildProcess>, now: Instant) -> Option<Instant> {
        if self.until <= now {
            *self = match self.step {
                #[cfg(feature = "cluster")]
                Step::Expected => {
                    process.into_iter().for_each(ChildProcess::terminate);
                    Self::asked(now)
                }
                Step::Asked => {
                    process.into_iter().for_each(ChildProcess::kill_alone);
                    Self::killed(now)
                }
                Step::Killed => return None,
            };
        }
        Some(self.until)
    }
}
