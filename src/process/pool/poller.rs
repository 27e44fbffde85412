//! Waits on behalf of the driver: for channels, ends of processes, a time, and other threads.

pub(crate) use imp::Poller;

use crate::process::pool::scheduler::events::WorkerNumber;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// The driver was woken, or its timer is due.
    Turn,
    /// A worker has sent something, or takes more.
    Channel(WorkerNumber),
    /// A process may have ended.
    Process(WorkerNumber),
    /// The command that has started many workers may have ended, or takes more.
    #[cfg(feature = "cluster")]
    Crew(u64),
    /// Something connects, or what has connected and not proved to be a worker has sent something.
    #[cfg(feature = "cluster")]
    Listener,
}

/// How many events are taken at once.
pub(crate) const EVENTS: usize = 64;

#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::time::{Duration, Instant};

    use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };

    use super::{EVENTS, Ready, WorkerNumber};
    use crate::process::protocol::descriptor::above_standard;
    use crate::process::protocol::wake_pipe::WakePipe;

    const WAKE: u64 = 0;
    const TIMER: u64 = 1;
    #[cfg(feature = "cluster")]
    const LISTENER: u64 = u64::MAX;
    /// A bit that no worker's number reaches.
    #[cfg(feature = "cluster")]
    const CREW: u64 = 1 << 63;

    #[derive(Debug)]
    pub(crate) struct Poller {
        epoll: OwnedFd,
        /// Setting it costs a caller less than waking the driver, which would only wait again.
        timer: OwnedFd,
        wake: WakePipe,
    }

    impl Poller {
        /// Whether it reports events for everything that was added.
        #[cfg(feature = "cluster")]
        pub(crate) const TELLS_OF_ALL: bool = true;

        pub(crate) fn new() -> io::Result<Self> {
            let epoll = above_standard(epoll::create(CreateFlags::CLOEXEC)?)?;
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let timer = above_standard(timerfd_create(TimerfdClockId::Monotonic, flags)?)?;
            let wake = WakePipe::new()?;
            epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
            epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
            Ok(Self { epoll, timer, wake })
        }

        pub(crate) fn add(&self, fd: BorrowedFd<'_>, ready: Ready) -> io::Result<()> {
            Ok(epoll::add(&self.epoll, fd, data(ready), EventFlags::IN)?)
        }

        pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
            let _ = epoll::delete(&self.epoll, fd);
        }

        /// Sets whether to wait for a channel to take more.
        pub(crate) fn await_room(&self, fd: BorrowedFd<'_>, worker: WorkerNumber, is_full: bool) {
            let flags = if is_full { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            // Fails only for a channel that was removed.
            let _ = epoll::modify(&self.epoll, fd, data(Ready::Channel(worker)), flags);
        }

        /// Wakes the driver at this time instead of the one set before.
        pub(crate) fn set_timer(&self, at: Instant) {
            // 0 would disarm the timer.
            let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            if let Ok(it_value) = Timespec::try_from(left) {
                // The only errors are those of invalid arguments.
                let once = Itimerspec { it_interval: never, it_value };
                let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
            }
        }

        pub(crate) fn wake(&self) {
            self.wake.wake();
        }

        pub(crate) fn is_woken(&self) -> bool {
            self.wake.is_woken()
        }

        /// Waits for something to happen, at most until the timeout. The descriptors are registered already.
        pub(crate) fn wait<'a>(
            &self,
            _channels: impl Iterator<Item = (BorrowedFd<'a>, WorkerNumber, bool)>,
            timeout: Option<Duration>,
        ) -> Vec<Ready> {
            let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
            let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
            // After an error, the driver looks again.
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
            let mut ready = Vec::with_capacity(events.len());
            for event in events {
                match event.data.u64() {
                    WAKE => {
                        self.wake.drain();
                        ready.push(Ready::Turn);
                    }
                    TIMER => {
                        let _ = rustix::io::read(self.timer.as_fd(), &mut [0; 8]);
                        ready.push(Ready::Turn);
                    }
                    #[cfg(feature = "cluster")]
                    LISTENER if ready.contains(&Ready::Listener) => {}
                    #[cfg(feature = "cluster")]
                    LISTENER => ready.push(Ready::Listener),
                    #[cfg(feature = "cluster")]
                    data if data & CREW != 0 => ready.push(Ready::Crew(data & !CREW)),
                    data if data % 2 == 0 => ready.push(Ready::Channel(data / 2 - 1)),
                    data => ready.push(Ready::Process(data / 2 - 1)),
                }
            }
            ready
        }
    }

    fn data(ready: Ready) -> EventData {
        EventData::new_u64(match ready {
            Ready::Turn => WAKE,
            Ready::Channel(worker) => 2 * (worker + 1),
            Ready::Process(worker) => 2 * (worker + 1) + 1,
            #[cfg(feature = "cluster")]
            Ready::Crew(crew) => CREW | crew,
            #[cfg(feature = "cluster")]
            Ready::Listener => LISTENER,
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::os::fd::BorrowedFd;
    use std::sync::{Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::{Ready, WorkerNumber};
    use crate::process::protocol::wake_pipe::WakePipe;

    #[derive(Debug)]
    pub(crate) struct Poller {
        timer: Mutex<Option<Instant>>,
        wake: WakePipe,
    }

    impl Poller {
        #[cfg(feature = "cluster")]
        pub(crate) const TELLS_OF_ALL: bool = false;

        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self { timer: Mutex::new(None), wake: WakePipe::new()? })
        }

        pub(crate) fn add(&self, _fd: BorrowedFd<'_>, _ready: Ready) -> io::Result<()> {
            Ok(())
        }

        pub(crate) fn remove(&self, _fd: BorrowedFd<'_>) {}

        pub(crate) fn await_room(&self, _fd: BorrowedFd<'_>, _worker: WorkerNumber, is_full: bool) {
            if is_full {
                self.wake();
            }
        }

        /// Has the driver look at the time then, instead of when it was set to before.
        pub(crate) fn set_timer(&self, at: Instant) {
            *self.timer.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
            self.wake();
        }

        pub(crate) fn wake(&self) {
            self.wake.wake();
        }

        pub(crate) fn is_woken(&self) -> bool {
            self.wake.is_woken()
        }

        /// Waits for something to happen, at most until the timeout.
        pub(crate) fn wait<'a>(
            &self,
            channels: impl Iterator<Item = (BorrowedFd<'a>, WorkerNumber, bool)>,
            timeout: Option<Duration>,
        ) -> Vec<Ready> {
            let channels: Vec<_> = channels.collect();
            let flags = |is_full| if is_full { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
            fds.extend(channels.iter().map(|(fd, _, is_full)| PollFd::from_borrowed_fd(*fd, flags(*is_full))));
            let timer = *self.timer.lock().unwrap_or_else(PoisonError::into_inner);
            let left = timer.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = left.into_iter().chain(timeout).min().and_then(|time| Timespec::try_from(time).ok());
            let _ = poll(&mut fds, timeout.as_ref());
            // Otherwise, who has just written something would wake nobody.
            if !fds[0].revents().is_empty() {
                self.wake.drain();
            }
            let workers = channels.iter().map(|(_, worker, _)| *worker);
            let ready = workers.zip(&fds[1..]).filter(|(_, fd)| !fd.revents().is_empty());
            let turn = (!fds[0].revents().is_empty()).then_some(Ready::Turn);
            ready.map(|(worker, _)| Ready::Channel(worker)).chain(turn).collect()
        }
    }
}
