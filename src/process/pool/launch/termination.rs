//! Ends a process that is no longer needed: a launcher is asked, then killed, with a time limit for each step.

use std::time::{Duration, Instant};

use crate::process::pool::launch::child::ChildProcess;

/// How long a process may take after it was asked: a launcher has to end its workers and its job, which it leaves
/// behind if it is killed. Also how long it may take after it was killed, as a busy machine takes its time for that
/// too.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Termination {
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

impl Termination {
    /// A process whose work is done: it has until then to end by itself.
    #[cfg(feature = "cluster")]
    pub(crate) fn expected(until: Instant) -> Self {
        Self { step: Step::Expected, until }
    }

    /// A process that was asked to end.
    pub(crate) fn asked(now: Instant) -> Self {
        Self { step: Step::Asked, until: now + STEP_TIMEOUT }
    }

    /// Whether it has time to end by itself, and was not asked to.
    #[cfg(feature = "cluster")]
    pub(crate) fn is_expected(self) -> bool {
        self.step == Step::Expected
    }

    /// A process that was killed.
    pub(crate) fn killed(now: Instant) -> Self {
        Self { step: Step::Killed, until: now + STEP_TIMEOUT }
    }

    /// Takes the next step if it is due, and returns when the one after it is; `None` if it was killed and does not end.
    pub(crate) fn escalate(&mut self, process: Option<&ChildProcess>, now: Instant) -> Option<Instant> {
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
