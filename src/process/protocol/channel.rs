//! One end of the channel between a program and a worker: a socket, and what is still to be sent.
//!
//! Any thread may [send](Line::send). One thread at a time [waits](Line::wait) for something to arrive, and sees to it
//! that what the socket had no room for is sent later; others get it out of there by [ringing](Line::ring).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv,
    recvmsg, sendmsg,
};

use crate::process::protocol::journal;
use crate::process::protocol::journal::Journal;
use crate::process::protocol::wire::{Decoder, Outbox};

/// A worker that has just died must not become a signal in the program.
#[cfg(not(target_vendor = "apple"))]
const QUIETLY: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const QUIETLY: SendFlags = SendFlags::empty();

#[derive(Debug)]
pub(crate) struct Line {
    socket: UnixStream,
    outbox: Mutex<Outbox>,
    bell: Bell,
    journal: Option<journal::Writer>,
}

/// Gets a thread out of [`Line::wait`].
#[derive(Debug)]
struct Bell {
    button: UnixStream,
    gong: UnixStream,
    rings: AtomicBool,
}

/// What came of trying to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Some,
    Nothing,
    /// The other end is closed.
    End,
}

impl Line {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        #[cfg(target_vendor = "apple")]
        rustix::net::sockopt::set_socket_nosigpipe(&socket, true)?;
        let (button, gong) = UnixStream::pair()?;
        button.set_nonblocking(true)?;
        gong.set_nonblocking(true)?;
        let bell = Bell { button, gong, rings: AtomicBool::new(false) };
        Ok(Self { socket, outbox: Mutex::default(), bell, journal: None })
    }

    /// Sends a message that comes first, and the journal with it, if there is one.
    pub(crate) fn send_first(&self, bytes: &[u8], journal: Option<&Journal>) -> io::Result<()> {
        let fds = journal.map(AsFd::as_fd);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if fds.is_some() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds.as_slice()));
        }
        // The socket is empty, and has room for more than that.
        sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, QUIETLY)?;
        Ok(())
    }

    /// Receives what comes first, and keeps the journal.
    pub(crate) fn receive_first(&mut self, decoder: &mut Decoder) -> Received {
        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::DONTWAIT);
        let bytes = match received {
            Ok(message) if message.bytes > 0 => &bytes[..message.bytes],
            Err(Errno::AGAIN | Errno::INTR) => return Received::Nothing,
            _ => return Received::End,
        };
        decoder.space().extend_from_slice(bytes);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                // Not for the processes that tasks start.
                let keep = |fd: &OwnedFd| rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).is_ok();
                self.journal = fds.next().filter(keep).and_then(|fd| journal::Writer::new(fd).ok());
            }
        }
        Received::Some
    }

    /// Sees to it that what was said outlives this process, which may take care of sending it later.
    pub(crate) fn note(&self) {
        let mut outbox = self.outbox();
        let note = |at, bytes: &[u8]| self.journal.as_ref().is_some_and(|journal| journal.write(at, bytes));
        if !outbox.note(journal::SIZE, note) {
            drop(outbox);
            self.send_all();
        }
    }

    /// What is to be sent. Whoever adds something [sends it off](Self::send_off) afterwards.
    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds frames to what is to be sent, and sends what the socket has room for. The thread that waits does the rest.
    pub(crate) fn send(&self, write: impl FnOnce(&mut Outbox)) {
        write(&mut self.outbox());
        self.send_off();
    }

    /// Sends what the socket has room for. The thread that waits does the rest.
    pub(crate) fn send_off(&self) {
        if !self.flush_now() {
            self.ring();
        }
    }

    /// Sends everything, for as long as it takes. Others who have something to send wait.
    pub(crate) fn send_all(&self) {
        self.flush(self.outbox(), QUIETLY);
    }

    /// Sends what the socket has room for; returns whether that was all.
    fn flush_now(&self) -> bool {
        match self.outbox.try_lock() {
            Ok(outbox) => self.flush(outbox, QUIETLY | SendFlags::DONTWAIT),
            Err(TryLockError::Poisoned(outbox)) => self.flush(outbox.into_inner(), QUIETLY | SendFlags::DONTWAIT),
            // Somebody else is at it, and sends everything.
            Err(TryLockError::WouldBlock) => true,
        }
    }

    fn flush(&self, mut outbox: MutexGuard<'_, Outbox>, flags: SendFlags) -> bool {
        while !outbox.is_empty() {
            let (slices, count) = outbox.slices();
            match retry(|| sendmsg(&self.socket, &slices[..count], &mut SendAncillaryBuffer::default(), flags)) {
                Ok(bytes) => outbox.advance(bytes),
                Err(Errno::AGAIN) => return false,
                // Nobody will read it. What the other end had sent before is still there, and then comes its end.
                Err(Errno::PIPE | Errno::CONNRESET) => *outbox = Outbox::default(),
                Err(_) => {
                    *outbox = Outbox::default();
                    self.close();
                }
            }
        }
        true
    }

    /// Lets both ends see the end.
    pub(crate) fn close(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Reads once, without waiting.
    pub(crate) fn receive(&self, decoder: &mut Decoder) -> Received {
        self.read(decoder, RecvFlags::DONTWAIT)
    }

    /// Reads once, and waits for something to be there, or the end. Everything was sent before.
    pub(crate) fn await_some(&self, decoder: &mut Decoder) -> Received {
        self.read(decoder, RecvFlags::empty())
    }

    fn read(&self, decoder: &mut Decoder, flags: RecvFlags) -> Received {
        match retry(|| recv(&self.socket, spare_capacity(decoder.space()), flags)) {
            Err(Errno::AGAIN) => Received::Nothing,
            Ok((1.., _)) => Received::Some,
            // An error is what a socket says whose other end went with data unread.
            Ok((0, _)) | Err(_) => Received::End,
        }
    }

    /// Waits until something has arrived, until somebody [rings](Self::ring), or until the time has passed; meanwhile
    /// sends what is still to be sent.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        let is_all_out = self.flush_now();
        let socket = if is_all_out { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut fds = [PollFd::new(&self.socket, socket), PollFd::new(&self.bell.gong, PollFlags::IN)];
        // One that is too long to be told is as good as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        // An error is as good as a ring: whoever waits looks again.
        let _ = poll(&mut fds, timeout.as_ref());
        if !fds[1].revents().is_empty() {
            self.bell.quiet();
        }
    }

    /// Lets the thread that waits, or else the next one to wait, return at once.
    pub(crate) fn ring(&self) {
        if !self.bell.rings.swap(true, Ordering::SeqCst) {
            // Full means that it rings.
            let _ = (&self.bell.button).write(&[0]);
        }
    }
}

impl Bell {
    fn quiet(&self) {
        let _ = (&self.gong).read(&mut [0; 16]);
        self.rings.swap(false, Ordering::SeqCst);
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
