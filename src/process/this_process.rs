//! A process that was forked has a copy of all that this one had, and may drop it.

use std::process;
use std::time::Duration;

/// A tenth of what a fork takes.
const FORK: Duration = Duration::from_micros(5);

/// The process that something belongs to which is not in its memory alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThisProcess(u32);

impl ThisProcess {
    pub(super) fn new() -> Self {
        Self(process::id())
    }

    /// Whether this is that process, and not one that it has forked. Asks the system.
    pub(super) fn is_here(self) -> bool {
        self.0 == process::id()
    }

    /// The same, where it is known that it was so long ago. To ask the system takes as long as a short task, which has had no
    /// time to fork.
    pub(super) fn is_here_after(self, time: Duration) -> bool {
        time < FORK || self.is_here()
    }
}
