//! Which numbers descriptors have, and how they are read from and written to.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::SendFlags;

const NULL: &str = "/dev/null";

/// Keeps the death of a worker from raising a signal in the program that writes to it.
#[cfg(not(target_vendor = "apple"))]
pub(super) const QUIETLY: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(super) const QUIETLY: SendFlags = SendFlags::empty();

/// Moves a descriptor above the standard ones: a program that has closed those must not print into a channel.
pub(crate) fn above_standard<F: AsRawFd + AsFd + From<OwnedFd>>(fd: F) -> io::Result<F> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?.into()) }
}

/// A sink for what a process writes to a standard stream and nobody wants to see.
pub(crate) fn dev_null() -> io::Result<File> {
    // A standard descriptor would be overwritten by the one for standard input.
    above_standard(File::options().write(true).open(NULL).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => io::Error::new(error.kind(), format!("`{NULL}`: {error}")),
        _ => error,
    })?)
}

/// How often to try again when the system is out of memory: after a millisecond, and then after twice as long each time, half
/// a second in all.
const SHORTAGES: u32 = 9;

/// Reads or writes once. An interruption, or a system that is short of memory for a moment, is no reason to lose a worker.
pub(super) fn retry_on_shortage<T>(mut transfer: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for shortage in 0..SHORTAGES {
        match retry_on_intr(&mut transfer) {
            Err(Errno::NOBUFS | Errno::NOMEM) => thread::sleep(Duration::from_millis(1 << shortage)),
            other => return other,
        }
    }
    retry_on_intr(transfer)
}

#[cfg(test)]
mod tests {
    use super::{SHORTAGES, retry_on_shortage};
    use rustix::io::Errno;

    /// The result of a transfer that fails this many times, and how often it is tried.
    fn transfer(failures: u32, error: Errno) -> (Result<(), Errno>, u32) {
        let mut tries = 0;
        let result = retry_on_shortage(|| {
            tries += 1;
            if tries <= failures { Err(error) } else { Ok(()) }
        });
        (result, tries)
    }

    #[test]
    fn a_shortage_is_waited_for_and_not_for_ever() {
        for error in [Errno::NOBUFS, Errno::NOMEM] {
            assert_eq!(transfer(2, error), (Ok(()), 3));
        }
        assert_eq!(transfer(u32::MAX, Errno::NOMEM), (Err(Errno::NOMEM), SHORTAGES + 1));
        assert_eq!(transfer(u32::MAX, Errno::AGAIN), (Err(Errno::AGAIN), 1));
        assert_eq!(transfer(100, Errno::INTR), (Ok(()), 101));
    }
}
