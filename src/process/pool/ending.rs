//! The end of a launcher that is not needed any more: it is told so more and more clearly, and each step has its bound.

use std::time::{Duration, Instant};

use crate::process::pool::launch::Process;
use crate::process::pool::scheduler::LAST_MOMENT;

/// How long one may take that was asked to. It has workers to end first, and its job: one that is killed leaves that.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    step: Step,
    /// When the next one is due.
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
    /// Its work is done: until then it may end by itself.
    #[cfg(feature = "cluster")]
    pub(super) fn expected(until: Instant) -> Self {
        Self { step: Step::Expected, until }
    }

    /// It has been asked to end.
    pub(super) fn asked(now: Instant) -> Self {
        Self { step: Step::Asked, until: now + PATIENCE }
    }

    /// Nobody has told it to.
    #[cfg(feature = "cluster")]
    pub(super) fn is_expected(self) -> bool {
        self.step == Step::Expected
    }

    /// Takes the next step if that is due. Returns when the one after it is; `None` when there is none, and no use in waiting.
    pub(super) fn press(&mut self, launcher: &Process, now: Instant) -> Option<Instant> {
        if self.until <= now {
            *self = match self.step {
                #[cfg(feature = "cluster")]
                Step::Expected => {
                    launcher.terminate();
                    Self::asked(now)
                }
                Step::Asked => {
                    launcher.kill_launcher();
                    Self { step: Step::Killed, until: now + LAST_MOMENT }
                }
                Step::Killed => return None,
            };
        }
        Some(self.until)
    }
}
