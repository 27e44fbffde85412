//! A process that was forked has a copy of all that this one had, and may drop it.

use std::process;

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
}
