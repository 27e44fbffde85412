//! The process that started a worker. Its end does not always end the channel, which other processes may hold open as well.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, getppid};

use crate::process::protocol::channel::Channel;

/// How often to check on the parent where no descriptor tells when it ends.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Parent {
    /// `None` if this worker may outlive it.
    process: Option<ParentProcess>,
    /// A stream that ends with the program, where the program runs elsewhere.
    lifeline: Option<OwnedFd>,
}

#[derive(Debug)]
struct ParentProcess {
    pid: Option<Pid>,
    /// Readable once the process has ended; `None` where such descriptors are not available.
    pidfd: Option<OwnedFd>,
}

impl Parent {
    pub(crate) fn of_this_process() -> Self {
        let pid = getppid();
        Self { process: Some(ParentProcess { pid, pidfd: pid.and_then(open) }), lifeline: None }
    }

    /// Whether the parent is not this program, which has then ended before the worker first looked. 0 stands for a number that
    /// means nothing here.
    pub(crate) fn is_other_than(&self, program: u32) -> bool {
        let parent = self.process.as_ref().and_then(|parent| parent.pid);
        program != 0 && parent.is_some_and(|parent| u32::try_from(parent.as_raw_nonzero().get()) != Ok(program))
    }

    /// Lets the parent end without ending this worker: it has only submitted it.
    #[cfg(feature = "cluster")]
    pub(crate) fn may_leave(&mut self) {
        self.process = None;
    }

    #[cfg(feature = "cluster")]
    pub(crate) fn set_lifeline(&mut self, lifeline: OwnedFd) {
        self.lifeline = Some(lifeline);
    }

    /// Whether the parent or the program has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.process.as_ref().is_some_and(|parent| getppid() != parent.pid)
            || self.lifeline.as_ref().is_some_and(has_ended)
    }

    /// Waits until one of the descriptors is ready, the timeout has passed, or the parent may be gone. May return early: the
    /// caller checks again.
    pub(crate) fn wait<'a>(&'a self, fds: &mut Vec<PollFd<'a>>, timeout: Option<Duration>) {
        let pidfd = self.process.as_ref().and_then(|parent| parent.pidfd.as_ref());
        fds.extend(pidfd.into_iter().chain(&self.lifeline).map(|fd| PollFd::new(fd, PollFlags::IN)));
        let next_check = (self.process.is_some() && pidfd.is_none()).then_some(CHECK_INTERVAL);
        let timeout = next_check.into_iter().chain(timeout).min().and_then(|time| Timespec::try_from(time).ok());
        // After an error, the caller checks as well.
        let _ = poll(fds, timeout.as_ref());
    }

    /// Sends everything that is pending. Returns `false` if the program is gone before all is sent.
    pub(crate) fn send_all(&self, channel: &Channel) -> bool {
        while !channel.send_off() {
            if self.is_gone() {
                return false;
            }
            self.wait(&mut vec![PollFd::from_borrowed_fd(channel.output(), PollFlags::OUT)], None);
        }
        true
    }
}

/// Whether the stream is at its end. Skips what arrives on it.
fn has_ended(lifeline: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(lifeline, PollFlags::IN)];
    let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_ready = retry_on_intr(|| poll(&mut fds, Some(&nothing))).is_ok_and(|ready| ready > 0);
    is_ready && retry_on_intr(|| rustix::io::read(lifeline, &mut [0; 256])).is_ok_and(|len| len == 0)
}

#[cfg(target_os = "linux")]
fn open(parent: Pid) -> Option<OwnedFd> {
    use rustix::process::{PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal};

    // Continues a worker that is stopped, and does nothing else. The signal also comes when only the thread ends that
    // started this process.
    let _ = set_parent_process_death_signal(Some(Signal::CONT));
    pidfd_open(parent, PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn open(_parent: Pid) -> Option<OwnedFd> {
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::Parent;
    use crate::process::protocol::channel::Channel;
    use crate::process::protocol::wire::Request;

    #[test]
    fn nobody_waits_for_a_program_that_is_gone_to_take_something() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (life, lifeline) = UnixStream::pair().unwrap();
        let outgoing = Channel::new(ours).unwrap();
        while outgoing.send_off() {
            (0..1000).for_each(|id| outgoing.outbox().request(Request::Forget { id }));
        }
        let (send, sent) = channel();
        thread::spawn(move || {
            let parent = Parent { lifeline: Some(lifeline.into()), ..Parent::of_this_process() };
            send.send(parent.send_all(&outgoing)).unwrap();
        });
        drop(life);
        assert_eq!(sent.recv_timeout(Duration::from_secs(60)), Ok(false));
    }
}
