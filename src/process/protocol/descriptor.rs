//! Which numbers descriptors have, and what writing to a socket must not do.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::SendFlags;

/// A worker that has just died must not become a signal in the program.
#[cfg(not(target_vendor = "apple"))]
pub(super) const QUIETLY: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(super) const QUIETLY: SendFlags = SendFlags::empty();

/// A program that has closed its standard descriptors must not print into a channel.
pub(crate) fn above_standard<F: AsRawFd + AsFd + From<OwnedFd>>(fd: F) -> io::Result<F> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?.into()) }
}
