//! What carries the bytes of a [channel](super::channel), without waiting.
//!
//! A local worker has one end of a pair of sockets, and so does a launcher. A launched worker has what its launcher gave it as
//! standard input and output: pipes, sockets, or anything else.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, open};
use rustix::io::writev;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, sendmsg, shutdown};

use crate::process::protocol::descriptor::{QUIETLY, above_standard, retry_on_shortage};
#[cfg(feature = "cluster")]
use crate::process::protocol::sealed::SealedStream;

pub(crate) enum Link {
    /// Both directions; the only one that also carries descriptors.
    Socket(OwnedFd),
    /// One direction each.
    Streams { input: Stream, output: Stream },
    /// An encrypted connection.
    #[cfg(feature = "cluster")]
    Sealed(SealedStream),
}

/// One direction of what a launcher has given its worker.
pub(crate) struct Stream {
    fd: OwnedFd,
    /// A socket may be shared with other processes, such as a `cat` in front of the worker, which could not go on if it did not
    /// block. So each call says that it is not to wait.
    is_socket: bool,
}

impl Stream {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let file_type = FileType::from_raw_mode(fstat(&fd)?.st_mode);
        let is_socket = file_type.is_socket();
        let own = if file_type.is_fifo() { reopen(&fd) } else { None };
        let fd = own.unwrap_or(fd);
        if !is_socket {
            fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        }
        Ok(Self { fd, is_socket })
    }

    fn read(&self, bytes: &mut Vec<u8>) -> rustix::io::Result<usize> {
        if self.is_socket {
            return receive(&self.fd, bytes);
        }
        retry_on_shortage(|| rustix::io::read(&self.fd, spare_capacity(&mut *bytes)))
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
        if self.is_socket { send(&self.fd, slices) } else { retry_on_shortage(|| writev(&self.fd, slices)) }
    }
}

/// The same pipe once more, with modes of its own, where the system can do that.
fn reopen(pipe: &OwnedFd) -> Option<OwnedFd> {
    let mode = fcntl_getfl(pipe).ok()? & OFlags::ACCMODE;
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let reopened = open(path, mode | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()?;
    above_standard(reopened).ok()
}

fn receive(socket: &OwnedFd, bytes: &mut Vec<u8>) -> rustix::io::Result<usize> {
    retry_on_shortage(|| recv(socket, spare_capacity(&mut *bytes), RecvFlags::DONTWAIT)).map(|(len, _)| len)
}

fn send(socket: &OwnedFd, slices: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    let flags = QUIETLY | SendFlags::DONTWAIT;
    retry_on_shortage(|| sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags))
}

impl Link {
    /// Takes two streams, which never block from here.
    pub(crate) fn of_streams(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        Ok(Self::Streams { input: Stream::new(input)?, output: Stream::new(output)? })
    }

    /// Readable when something has arrived.
    pub(crate) fn input(&self) -> BorrowedFd<'_> {
        self.ends().0
    }

    /// Writable when there is room for something to be sent.
    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        self.ends().1
    }

    fn ends(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        match self {
            Self::Socket(socket) => (socket.as_fd(), socket.as_fd()),
            Self::Streams { input, output } => (input.fd.as_fd(), output.fd.as_fd()),
            #[cfg(feature = "cluster")]
            Self::Sealed(stream) => (stream.as_fd(), stream.as_fd()),
        }
    }

    /// Appends what has arrived, as far as there is room. 0 bytes mean the end.
    pub(super) fn read(&self, bytes: &mut Vec<u8>) -> rustix::io::Result<usize> {
        match self {
            Self::Socket(socket) => receive(socket, bytes),
            Self::Streams { input, .. } => input.read(bytes),
            #[cfg(feature = "cluster")]
            Self::Sealed(stream) => stream.read(bytes),
        }
    }

    /// Sends some of the bytes, in one write.
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
        match self {
            Self::Socket(socket) => send(socket, slices),
            Self::Streams { output, .. } => output.write(slices),
            #[cfg(feature = "cluster")]
            Self::Sealed(stream) => stream.write(slices),
        }
    }

    /// How many of the written bytes are still to be sent: write again, even if there is nothing to add.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Socket(_) | Self::Streams { .. } => 0,
            #[cfg(feature = "cluster")]
            Self::Sealed(stream) => stream.held(),
        }
    }

    /// Lets the other end see that nothing more is sent.
    pub(super) fn close_output(&self) {
        self.shut_down(Shutdown::Write);
    }

    /// Lets both ends see that the connection has ended.
    pub(super) fn close(&self) {
        self.shut_down(Shutdown::Both);
    }

    /// Streams are closed only when they are dropped.
    fn shut_down(&self, how: Shutdown) {
        if !matches!(self, Self::Streams { .. }) {
            let _ = shutdown(self.output(), how);
        }
    }
}
