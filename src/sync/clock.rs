//! Timestamps that fit into one atomic, and a stopwatch of such.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::sync::primitives::{AtomicU32, AtomicU64, Ordering};
use crate::sync::seqlock::Sequence;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since some moment of this process; never zero, and never going back.
pub(crate) fn now() -> u64 {
    u64::try_from(EPOCH.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
}

/// The instant of such a moment; `None` if an [`Instant`] cannot hold it.
pub(crate) fn instant(moment: u64) -> Option<Instant> {
    EPOCH.checked_add(Duration::from_nanos(moment))
}

/// A moment that is set by one thread and read by others; 0 before it is set.
#[derive(Debug, Default)]
pub(crate) struct AtomicInstant(AtomicU64);

impl AtomicInstant {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// Only the first call has an effect.
    pub(crate) fn set_once(&self, now: u64) {
        let _ = self.0.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// A stopwatch: for how long something has been running, without the time for which it was stopped.
///
/// Any thread may read it. Those who start or stop it exclude each other.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// When it was started, moved forward by each stop; 0 before that.
    started: AtomicU64,
    /// When it was stopped; 0 while it runs.
    stopped: AtomicU64,
    sequence: AtomicU32,
}

/// One consistent reading of a [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// 0 where it was never started.
    pub(crate) started: u64,
    /// 0 where it is running.
    pub(crate) stopped: u64,
}

impl Clock {
    /// Starts the clock, or restarts it. Returns for how long it was stopped.
    pub(crate) fn start(&self, now: u64) -> u64 {
        let Span { started, stopped } = self.read();
        let (started, pause) = match (started, stopped) {
            (0, _) => (now, 0),
            (_, 0) => (started, 0),
            _ => (started, now.saturating_sub(stopped)),
        };
        self.set(Span { started: started + pause, stopped: 0 });
        pause
    }

    /// Stops the clock; does nothing where it stands still.
    pub(crate) fn stop(&self, now: u64) {
        let Span { started, stopped } = self.read();
        if stopped == 0 {
            self.set(Span { started, stopped: now.max(started) });
        }
    }

    pub(crate) fn set(&self, Span { started, stopped }: Span) {
        Sequence(&self.sequence).write(|| {
            self.started.store(started, Ordering::Relaxed);
            self.stopped.store(stopped, Ordering::Relaxed);
        });
    }

    pub(crate) fn read(&self) -> Span {
        Sequence(&self.sequence).read(|| Span {
            started: self.started.load(Ordering::Relaxed),
            stopped: self.stopped.load(Ordering::Relaxed),
        })
    }
}

impl Span {
    /// A clock that was never started.
    pub(crate) const ZERO: Self = Self { started: 0, stopped: 0 };

    /// Until when it has been running, so far.
    pub(crate) fn end(self) -> u64 {
        match self {
            Self { started: 0, .. } => 0,
            Self { stopped: 0, .. } => now(),
            Self { stopped, .. } => stopped,
        }
    }

    /// For how long it has been running, in nanoseconds.
    pub(crate) fn elapsed(self) -> u64 {
        self.end().saturating_sub(self.started)
    }
}
