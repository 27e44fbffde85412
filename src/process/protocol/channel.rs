//! One end of the channel between a program and a worker: a socket, what is still to be sent, and the memory that both
//! ends share, where there is any.
//!
//! Any thread may [send](Channel::send). One thread at a time [receives](Channel::receive), and sees to it that what the
//! socket had no room for is sent later.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv,
    recvmsg, sendmsg,
};

use crate::process::protocol::descriptor::above_standard;
use crate::process::protocol::memory::{self, Memory};
use crate::process::protocol::wire::decoder::Decoder;
use crate::process::protocol::wire::outbox::Outbox;

/// A worker that has just died must not become a signal in the program.
#[cfg(not(target_vendor = "apple"))]
const QUIETLY: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const QUIETLY: SendFlags = SendFlags::empty();

#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    outbox: Mutex<Outbox>,
    /// The socket had no room for all that was to be sent.
    is_full: AtomicBool,
    memory: Option<Memory>,
}

/// What came of trying to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Some,
    Nothing,
    /// The other end is closed.
    End,
}

impl Channel {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        #[cfg(target_vendor = "apple")]
        rustix::net::sockopt::set_socket_nosigpipe(&socket, true)?;
        Ok(Self {
            socket: above_standard(socket)?.into(),
            outbox: Mutex::default(),
            is_full: AtomicBool::new(false),
            memory: None,
        })
    }

    pub(crate) fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// Sends a message that comes first, and the memory with it.
    pub(crate) fn send_first(&mut self, bytes: &[u8], memory: Option<Memory>) -> io::Result<()> {
        self.memory = memory;
        let fds: Vec<BorrowedFd<'_>> = self.memory.iter().filter_map(Memory::file).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        }
        // The socket is empty, and has room for more than that.
        sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, QUIETLY)?;
        Ok(())
    }

    /// Receives what comes first, and the memory with it.
    pub(crate) fn receive_first(&mut self, decoder: &mut Decoder) -> Received {
        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::empty())
        });
        let bytes = match received {
            Ok(message) if message.bytes > 0 => &bytes[..message.bytes],
            _ => return Received::End,
        };
        decoder.append(bytes);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                // Not for the processes that tasks start.
                let keep = |fd: &OwnedFd| rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).is_ok();
                self.memory = fds.next().filter(keep).and_then(|fd| Memory::open(fd).ok());
            }
        }
        Received::Some
    }

    /// Sees to it that what was said outlives this process, be it sent by then or not.
    pub(crate) fn note(&self) {
        let mut outbox = self.outbox();
        let note = |at, bytes: &[u8]| self.memory.as_ref().is_some_and(|memory| memory.note(at, bytes));
        if !outbox.note(memory::NOTES, note) {
            self.flush(outbox, QUIETLY);
        }
    }

    /// What is to be sent. Whoever adds something sends it off afterwards.
    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds frames to what is to be sent, and sends what the socket has room for. Returns whether that was all.
    pub(crate) fn send(&self, write: impl FnOnce(&mut Outbox)) -> bool {
        write(&mut self.outbox());
        self.send_off()
    }

    /// Sends what the socket has room for; returns whether that was all.
    pub(crate) fn send_off(&self) -> bool {
        self.flush(self.outbox(), QUIETLY | SendFlags::DONTWAIT)
    }

    /// Sends everything, for as long as it takes. Others who have something to send wait.
    pub(crate) fn send_all(&self) {
        self.flush(self.outbox(), QUIETLY);
    }

    /// Whether there is something that the socket had no room for.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::SeqCst)
    }

    fn flush(&self, mut outbox: MutexGuard<'_, Outbox>, flags: SendFlags) -> bool {
        while !outbox.is_empty() {
            let (slices, count) = outbox.slices();
            match retry_on_intr(|| sendmsg(&self.socket, &slices[..count], &mut SendAncillaryBuffer::default(), flags))
            {
                Ok(bytes) => outbox.advance(bytes),
                Err(Errno::AGAIN) => {
                    self.is_full.store(true, Ordering::SeqCst);
                    return false;
                }
                // Nobody will read it. What the other end had sent before is still there, and then comes its end.
                Err(Errno::PIPE | Errno::CONNRESET) => *outbox = Outbox::default(),
                Err(_) => {
                    *outbox = Outbox::default();
                    self.close();
                }
            }
        }
        self.is_full.store(false, Ordering::SeqCst);
        true
    }

    /// Lets both ends see the end.
    pub(crate) fn close(&self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Reads once, without waiting.
    pub(crate) fn receive(&self, decoder: &mut Decoder) -> Received {
        match retry_on_intr(|| recv(&self.socket, spare_capacity(decoder.space()), RecvFlags::DONTWAIT)) {
            Err(Errno::AGAIN) => Received::Nothing,
            Ok((1.., _)) => {
                decoder.skip_known();
                Received::Some
            }
            // An error is what a socket says whose other end went with data unread.
            Ok((0, _)) | Err(_) => Received::End,
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
