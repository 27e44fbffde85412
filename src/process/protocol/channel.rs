//! One end of the channel between a program and a worker: a [link](super::link), what is still to be sent, and the memory
//! that both ends share, where there is any.
//!
//! Any thread may [send](Channel::send_off). One thread at a time [receives](Channel::receive); that thread also sends, later,
//! what the link had no room for.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, recvmsg, sendmsg,
};

use crate::id::WorkerId;
use crate::process::protocol::descriptor::{QUIETLY, above_standard, retry_on_shortage};
use crate::process::protocol::link::Link;
use crate::process::protocol::memory::{self, Memory};
use crate::process::protocol::wire::WireError;
use crate::process::protocol::wire::decoder::Decoder;
use crate::process::protocol::wire::outbox::Outbox;

/// How long to wait for the first message: its sender may have ended while another process holds its end of the channel.
const FIRST: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

pub(crate) struct Channel {
    link: Link,
    outbox: Mutex<Outbox>,
    /// Whether the link had no room for everything that was to be sent.
    is_full: AtomicBool,
    /// Whether something could not be sent.
    is_broken: AtomicBool,
    /// How many bytes the link has taken.
    taken: AtomicU64,
    memory: Option<Memory>,
    /// The worker at the other end, once that is known.
    worker: OnceLock<WorkerId>,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Some,
    Nothing,
    /// The other end is closed. All that it has sent was received.
    End,
    /// The connection has failed. What the other end has sent last may be lost.
    Broken(Errno),
}

impl Received {
    /// Whether nothing more will come.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::End | Self::Broken(_))
    }
}

/// What is wrong with what the other end has sent, where the connection has failed with this error.
pub(crate) fn broken(error: Errno) -> WireError {
    WireError::Broken(match error {
        Errno::BADMSG => "bytes that were changed on their way".into(),
        error => format!("something that has not arrived: {error}"),
    })
}

impl Channel {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        #[cfg(target_vendor = "apple")]
        rustix::net::sockopt::set_socket_nosigpipe(&socket, true)?;
        Ok(Self::over(Link::Socket(above_standard(socket)?.into())))
    }

    /// A new channel, and its other end for the standard input of another process.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self::new(ours)?, above_standard(OwnedFd::from(theirs))?))
    }

    pub(crate) fn over(link: Link) -> Self {
        Self {
            link,
            outbox: Mutex::default(),
            is_full: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            memory: None,
            worker: OnceLock::new(),
        }
    }

    /// The worker at the other end, as a report names it.
    pub(crate) fn worker(&self) -> Option<&WorkerId> {
        self.worker.get()
    }

    /// Only the first call has an effect.
    pub(crate) fn set_worker(&self, worker: WorkerId) {
        let _ = self.worker.set(worker);
    }

    pub(crate) fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// Sends the first message, and the memory with it.
    pub(crate) fn send_first(&mut self, bytes: &[u8], memory: Option<Memory>) -> io::Result<()> {
        self.memory = memory;
        let fds: Vec<BorrowedFd<'_>> = self.memory.iter().filter_map(Memory::file).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        }
        // The socket is empty, and has room for more than this.
        retry_on_shortage(|| sendmsg(self.link.output(), &[IoSlice::new(bytes)], &mut ancillary, QUIETLY))?;
        Ok(())
    }

    /// Waits for the first message and receives it, and the memory with it. `None` if nothing comes in time.
    pub(crate) fn receive_first(&mut self, decoder: &mut Decoder) -> Option<Received> {
        let mut fds = [PollFd::from_borrowed_fd(self.link.input(), PollFlags::IN)];
        // After an error, the read is tried all the same.
        if retry_on_intr(|| poll(&mut fds, Some(&FIRST))) == Ok(0) {
            return None;
        }
        let Link::Socket(socket) = &self.link else { return Some(self.receive(decoder)) };
        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_shortage(|| {
            recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::empty())
        });
        let bytes = match received {
            Ok(message) if message.bytes > 0 => &bytes[..message.bytes],
            _ => return Some(Received::End),
        };
        decoder.append(bytes);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                // Not inherited by the processes that tasks start.
                let keep = |fd: &OwnedFd| rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).is_ok();
                self.memory = fds.next().filter(keep).and_then(|fd| Memory::open(fd).ok());
            }
        }
        Some(Received::Some)
    }

    /// Notes in shared memory what is still to be sent, so that it outlives this process. Returns whether that worked; if not,
    /// it must be sent.
    pub(crate) fn note(&self) -> bool {
        let note = |at, bytes: &[u8]| self.memory.as_ref().is_some_and(|memory| memory.note(at, bytes));
        self.outbox().note(memory::NOTES, note)
    }

    /// What is to be sent. Callers that add something must send it off afterwards.
    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what the link has room for; returns whether that was all.
    pub(crate) fn send_off(&self) -> bool {
        self.send_off_with(|_| {})
    }

    /// Like [`send_off`](Self::send_off). Also calls `await_room` each time that the rest begins or ceases to wait for room,
    /// under the lock of the outbox, so that threads that send at the same time cannot report this out of order.
    pub(crate) fn send_off_with(&self, await_room: impl FnOnce(bool)) -> bool {
        let mut outbox = self.outbox();
        while !outbox.is_empty() || self.link.held() > 0 {
            let (slices, count) = outbox.slices();
            match self.link.write(&slices[..count]) {
                Ok(bytes) => {
                    outbox.advance(bytes);
                    self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
                }
                Err(Errno::AGAIN) => {
                    if !self.is_full.swap(true, Ordering::SeqCst) {
                        await_room(true);
                    }
                    return false;
                }
                Err(error) => {
                    *outbox = Outbox::default();
                    self.is_broken.store(true, Ordering::SeqCst);
                    // Otherwise nothing will read it, and what the other end has sent can still be received, and then its end.
                    if ![Errno::PIPE, Errno::CONNRESET].contains(&error) {
                        self.close();
                    }
                }
            }
        }
        if self.is_full.swap(false, Ordering::SeqCst) {
            await_room(false);
        }
        true
    }

    /// Whether something could not be sent, as nothing will read it.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::SeqCst)
    }

    /// Whether there is something that the link had no room for.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::SeqCst)
    }

    /// How many bytes have left this process. Changes as long as something is being sent.
    pub(crate) fn departed(&self) -> u64 {
        self.taken.load(Ordering::Relaxed).wrapping_sub(self.link.held() as u64)
    }

    /// Closes both directions, which both ends see.
    pub(crate) fn close(&self) {
        self.link.close();
    }

    /// Closes the outgoing direction, which the other end sees. What the other end still sends can be received.
    pub(crate) fn close_output(&self) {
        self.link.close_output();
    }

    /// Reads once, without waiting.
    pub(crate) fn receive(&self, decoder: &mut Decoder) -> Received {
        match self.link.read(decoder.space()) {
            Err(Errno::AGAIN) => Received::Nothing,
            Ok(1..) => {
                decoder.skip_known();
                Received::Some
            }
            // A socket reports a reset if its other end was closed with data unread.
            Ok(0) | Err(Errno::CONNRESET) => Received::End,
            Err(error) => Received::Broken(error),
        }
    }

    /// Writable when there is room for something to be sent.
    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        self.link.output()
    }
}

/// Readable when something has arrived; for a socket, also writable when there is room.
impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.input()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::Channel;
    use crate::process::protocol::wire::Request;

    #[test]
    fn nobody_else_sends_while_it_is_told_that_there_is_no_room_or_some_again() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (channel, mut told) = (Channel::new(ours).unwrap(), Vec::new());
        let mut send_off = || {
            channel.send_off_with(|is_full| {
                assert!(channel.outbox.try_lock().is_err());
                told.push(is_full);
            })
        };
        while send_off() {
            (0..1000).for_each(|id| channel.outbox().request(Request::Forget { id }));
        }
        assert!(!send_off(), "nothing was taken");
        while !send_off() {
            while theirs.read(&mut [0; 4096]).is_ok() {}
        }
        assert!(send_off());
        assert_eq!(told, [true, false]);
    }
}
