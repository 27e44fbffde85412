//! The process that has started a worker. Its end is not the end of the channel, which other processes may hold as well.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, getppid};

/// How often to look where nothing tells.
const GLANCE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Parent {
    pid: Option<Pid>,
    /// Readable once it has ended, where there are such descriptors.
    pidfd: Option<OwnedFd>,
    /// Ends with the program, where that is somewhere else.
    lifeline: Option<OwnedFd>,
}

impl Parent {
    pub(crate) fn of_this_process() -> Self {
        let pid = getppid();
        Self { pid, pidfd: pid.and_then(open), lifeline: None }
    }

    #[cfg(feature = "cluster")]
    pub(crate) fn set_lifeline(&mut self, lifeline: OwnedFd) {
        self.lifeline = Some(lifeline);
    }

    /// Whether it has ended, or the program has.
    pub(crate) fn is_gone(&self) -> bool {
        getppid() != self.pid || self.lifeline.as_ref().is_some_and(has_ended)
    }

    /// Readable when it may be gone.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pidfd.iter().chain(&self.lifeline).map(AsFd::as_fd)
    }

    /// How long to wait before another look.
    pub(crate) fn glance(&self) -> Option<Duration> {
        self.pidfd.is_none().then_some(GLANCE)
    }
}

/// Skips what is said there, as long as something is.
fn has_ended(lifeline: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(lifeline, PollFlags::IN)];
    let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_ready = retry_on_intr(|| poll(&mut fds, Some(&nothing))).is_ok_and(|ready| ready > 0);
    is_ready && retry_on_intr(|| rustix::io::read(lifeline, &mut [0; 256])).is_ok_and(|len| len == 0)
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
