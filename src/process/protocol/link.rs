//! What carries the bytes of a [channel](super::channel), without waiting.
//!
//! A local worker has one end of a pair of sockets, and so does a launcher. A launched worker has what its launcher gave it as
//! standard input and output: pipes, sockets, or anything else.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::writev;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, sendmsg, shutdown};

use crate::process::protocol::descriptor::{QUIETLY, retry_on_shortage};
#[cfg(feature = "cluster")]
use crate::process::protocol::sealed::SealedStream;

pub(crate) enum Link {
    /// Both directions; the only one that also carries descriptors.
    Socket(OwnedFd),
    /// One direction each. Neither blocks.
    Streams { input: OwnedFd, output: OwnedFd },
    /// An encrypted connection.
    #[cfg(feature = "cluster")]
    Sealed(SealedStream),
}

impl Link {
    /// Takes two streams, and makes them non-blocking.
    pub(crate) fn of_streams(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        for stream in [&input, &output] {
            fcntl_setfl(stream, fcntl_getfl(stream)? | OFlags::NONBLOCK)?;
        }
        Ok(Self::Streams { input, output })
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
            Self::Streams { input, output } => (input.as_fd(), output.as_fd()),
            #[cfg(feature = "cluster")]
            Self::Sealed(stream) => (stream.as_fd(), stream.as_fd()),
        }
    }

    /// Appends what has arrived, as far as there is room. 0 bytes mean the end.
    pub(super) fn read(&self, bytes: &mut Vec<u8>) -> rustix::io::Result<usize> {
        match self {
            Self::Socket(socket) => {
                retry_on_shortage(|| recv(socket, spare_capacity(&mut *bytes), RecvFlags::DONTWAIT)).map(|(len, _)| len)
            }
            Self::Streams { input, .. } => retry_on_shortage(|| rustix::io::read(input, spare_capacity(&mut *bytes))),
            #[cfg(feature = "cluster")]
            Self::Sealed(stream) => stream.read(bytes),
        }
    }

    /// Sends some of the bytes, in one write.
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
        match self {
            Self::Socket(socket) => {
                let flags = QUIETLY | SendFlags::DONTWAIT;
                retry_on_shortage(|| sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags))
            }
            Self::Streams { output, .. } => retry_on_shortage(|| writev(output, slices)),
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
