//! A process that this program has started and must reap.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group, waitid};

use crate::error::WorkerExit;

pub(crate) struct ChildProcess {
    pid: Pid,
    /// `None` where there are no such descriptors.
    pidfd: Option<OwnedFd>,
}

impl ChildProcess {
    /// Takes over a process that was just started, and sets something up for it. If that fails, kills and reaps the
    /// process.
    pub(in crate::process::pool) fn adopt<T>(
        mut child: Child,
        set_up: impl FnOnce(&mut Child) -> io::Result<T>,
    ) -> io::Result<(Self, T)> {
        let adopted = set_up(&mut child).and_then(|set_up| {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
            Ok((Self { pid, pidfd: open_pidfd(pid) }, set_up))
        });
        if adopted.is_err() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        adopted
    }

    pub(super) fn number(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Readable once it has ended.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// From now on, its end is polled for instead of waited for.
    #[cfg(feature = "cluster")]
    pub(crate) fn forget_pidfd(&mut self) {
        self.pidfd = None;
    }

    /// Kills it, with everything in its process group.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Kills it, and nothing else in its process group.
    pub(super) fn kill_alone(&self) {
        self.signal_alone(Signal::KILL);
    }

    /// Asks it to end, and no other process. If it is stopped, continues it, so that it can end.
    pub(crate) fn terminate(&self) {
        self.signal_alone(Signal::TERM);
        self.signal_alone(Signal::CONT);
    }

    /// Sends a signal to it, and to its process group.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.has_number() {
            // The only error is that it has ended.
            let _ = kill_process_group(self.pid, signal);
            // It may not have its own group yet, or may have left it.
            let _ = kill_process(self.pid, signal);
        }
    }

    fn signal_alone(&self, signal: Signal) {
        if self.has_number() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Whether the process id is still its own: once somebody else has reaped it, that may belong to any process.
    fn has_number(&self) -> bool {
        look(self.pid, WaitIdOptions::EXITED).is_ok()
    }

    /// The signal that has stopped it, if it is stopped.
    pub(crate) fn stopped(&self) -> Option<i32> {
        stopped(self.pid)
    }

    /// How it ended, if it has. Does not reap it.
    pub(crate) fn exit(&self) -> Option<WorkerExit> {
        match look(self.pid, WaitIdOptions::EXITED) {
            Ok(status) => status.map(|it| WorkerExit::from_parts(it.exit_status(), it.terminating_signal())),
            // Somebody else has reaped it.
            Err(_) => Some(WorkerExit::Unknown),
        }
    }

    /// Reaps it, if it has ended.
    pub(crate) fn reap(&self) {
        let _ = waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

/// The signal that has stopped this child, if it is stopped.
pub(super) fn stopped(pid: Pid) -> Option<i32> {
    look(pid, WaitIdOptions::STOPPED).ok()??.stopping_signal()
}

/// Why a worker that somebody has stopped makes no progress.
pub(crate) fn stopped_by(signal: i32) -> String {
    format!("it was stopped ({}), as by a debugger or because it had touched the terminal", WorkerExit::Signal(signal))
}

fn look(pid: Pid, what: WaitIdOptions) -> rustix::io::Result<Option<WaitIdStatus>> {
    let look = what | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), look))
}

#[cfg(target_os = "linux")]
fn open_pidfd(pid: Pid) -> Option<OwnedFd> {
    use crate::process::protocol::descriptor::above_standard;

    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    above_standard(pidfd).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_pidfd(_pid: Pid) -> Option<OwnedFd> {
    None
}

#[cfg(test)]
mod tests {
    use super::ChildProcess;
    use std::io;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, test_kill_process};

    #[test]
    fn a_process_that_cannot_be_set_up_leaves_nothing_behind() {
        let start = || Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (child, input) = ChildProcess::adopt(start(), |child| Ok(child.stdin.take())).unwrap();
        assert!(test_kill_process(child.pid).is_ok());
        drop(input);
        let child = start();
        let id = Pid::from_child(&child);
        assert!(ChildProcess::adopt(child, |_| Err::<(), _>(io::ErrorKind::Other.into())).is_err());
        assert!(test_kill_process(id).is_err(), "it is not reaped");
    }
}
