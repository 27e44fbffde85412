//! Which numbers descriptors have.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A program that has closed its standard descriptors must not print into a channel.
pub(crate) fn above_standard<F: AsRawFd + AsFd + From<OwnedFd>>(fd: F) -> io::Result<F> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?.into()) }
}
