//! Wakes a thread that polls descriptors.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::process::protocol::descriptor::above_standard;

#[derive(Debug)]
pub(crate) struct WakePipe {
    write: UnixStream,
    read: UnixStream,
    is_woken: AtomicBool,
}

impl WakePipe {
    pub(crate) fn new() -> io::Result<Self> {
        let (write, read) = UnixStream::pair()?;
        let (write, read) = (above_standard(write)?, above_standard(read)?);
        write.set_nonblocking(true)?;
        read.set_nonblocking(true)?;
        Ok(Self { write, read, is_woken: AtomicBool::new(false) })
    }

    /// Makes the thread that waits, or the next one to wait, return at once.
    pub(crate) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            // If it is full, the thread has been woken.
            let _ = (&self.write).write(&[0]);
        }
    }

    /// Whether it was woken, and has not been drained since.
    pub(crate) fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::SeqCst)
    }

    /// Called by the woken thread before it looks for what there is to do.
    pub(crate) fn drain(&self) {
        let _ = (&self.read).read(&mut [0; 16]);
        self.is_woken.store(false, Ordering::SeqCst);
    }
}

/// Readable while a wake-up is pending.
impl AsFd for WakePipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}
