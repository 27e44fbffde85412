//! Tells a process from those that it has forked: each has a copy of everything, which it may drop.

use std::process;
use std::time::Duration;

/// A tenth of the time that a fork takes.
const FORK: Duration = Duration::from_micros(5);

/// The process that owns something which exists outside of its memory as well.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThisProcess(u32);

impl ThisProcess {
    pub(super) fn new() -> Self {
        Self(process::id())
    }

    /// Whether this process is that one, and not one that it has forked. Takes a system call.
    pub(super) fn is_here(self) -> bool {
        self.0 == process::id()
    }

    /// The same, if it was known to be so this long ago. The system call takes as long as a short task, which has had no time to
    /// fork.
    pub(super) fn is_here_after(self, time: Duration) -> bool {
        time < FORK || self.is_here()
    }
}
