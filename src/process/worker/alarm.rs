//! Wakes a thread after a while.
//!
//! To wake it at once would do, for it can wait by itself. But to wake a thread costs more than all the rest of a small
//! task, while to set a timer costs next to nothing, and it may be set again before it has gone off.

#[cfg(target_os = "linux")]
pub(crate) use timer::Alarm;

#[cfg(not(target_os = "linux"))]
pub(crate) use event::Alarm;

#[cfg(target_os = "linux")]
mod timer {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };

    #[derive(Debug)]
    pub(crate) struct Alarm(OwnedFd);

    impl Alarm {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?))
        }

        /// Lets it go off once, after that time.
        pub(crate) fn set(&self, after: Duration) {
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            let once = Itimerspec { it_interval: never, it_value: Timespec::try_from(after).unwrap_or(never) };
            // The only errors are those of a wrong argument.
            let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once);
        }

        /// Waits until it goes off, or returns for no reason.
        pub(crate) fn wait(&self) {
            let _ = rustix::io::read(&self.0, &mut [0; 8]);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod event {
    use std::io;
    use std::time::Duration;

    use event_listener::{Event, Listener};

    #[derive(Debug)]
    pub(crate) struct Alarm {
        event: Event,
        is_set: std::sync::atomic::AtomicBool,
    }

    impl Alarm {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self { event: Event::new(), is_set: false.into() })
        }

        /// Lets it go off, at once.
        pub(crate) fn set(&self, _after: Duration) {
            self.is_set.store(true, std::sync::atomic::Ordering::SeqCst);
            self.event.notify(1);
        }

        /// Waits until it goes off.
        pub(crate) fn wait(&self) {
            let is_set = || self.is_set.swap(false, std::sync::atomic::Ordering::SeqCst);
            while !is_set() {
                let listener = self.event.listen();
                // It may have been set before there was a listener to hear of it.
                if is_set() {
                    return;
                }
                listener.wait();
            }
        }
    }
}
