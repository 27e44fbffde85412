//! Wakes a thread at a time that other threads set.

pub(crate) use imp::Alarm;

#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::time::Duration;

    use rustix::io::{read, retry_on_intr};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };

    use crate::process::protocol::descriptor::above_standard;

    /// A timer of the system. Setting it costs a system call, and wakes no thread before it is due.
    #[derive(Debug)]
    pub(crate) struct Alarm(OwnedFd);

    impl Alarm {
        pub(crate) const EXISTS: bool = true;

        pub(crate) fn new() -> io::Result<Option<Self>> {
            let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
            Ok(Some(Self(above_standard(timer)?)))
        }

        pub(crate) fn set(&self, after: Duration) {
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            if let Ok(it_value) = Timespec::try_from(after) {
                // It fails only for wrong arguments.
                let once = Itimerspec { it_interval: never, it_value };
                let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once);
            }
        }

        /// Waits until it is due.
        pub(crate) fn wait(&self) {
            let _ = retry_on_intr(|| read(&self.0, &mut [0; 8]));
        }
    }

    /// Readable once it is due.
    impl AsFd for Alarm {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::time::Duration;

    /// This system has none.
    #[derive(Debug)]
    pub(crate) enum Alarm {}

    impl Alarm {
        pub(crate) const EXISTS: bool = false;

        pub(crate) fn new() -> io::Result<Option<Self>> {
            Ok(None)
        }

        pub(crate) fn set(&self, _after: Duration) {
            match *self {}
        }

        pub(crate) fn wait(&self) {
            match *self {}
        }
    }

    impl AsFd for Alarm {
        fn as_fd(&self) -> BorrowedFd<'_> {
            match *self {}
        }
    }
}
