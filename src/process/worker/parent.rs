//! The process that has started a worker. Its end is not the end of the channel, which other processes may hold as well.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::{Pid, getppid};

/// How often to look where nothing tells.
const GLANCE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Parent {
    pid: Option<Pid>,
    /// Readable once it has ended, where there are such descriptors.
    pidfd: Option<OwnedFd>,
}

impl Parent {
    pub(crate) fn of_this_process() -> Self {
        let pid = getppid();
        Self { pid, pidfd: pid.and_then(open) }
    }

    pub(crate) fn is_gone(&self) -> bool {
        getppid() != self.pid
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// How long to wait before another look.
    pub(crate) fn glance(&self) -> Option<Duration> {
        self.pidfd.is_none().then_some(GLANCE)
    }
}

#[cfg(target_os = "linux")]
fn open(parent: Pid) -> Option<OwnedFd> {
    use rustix::process::{PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal};

    // Wakes a worker that is stopped, and does nothing else. It also comes when only the thread ends that has started
    // this process.
    let _ = set_parent_process_death_signal(Some(Signal::CONT));
    pidfd_open(parent, PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn open(_parent: Pid) -> Option<OwnedFd> {
    None
}
