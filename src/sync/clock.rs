//! Timestamps that fit into one atomic, and a stopwatch made of them.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::sync::primitives::{AtomicU64, Ordering, fence, spin_loop};

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

/// A stopwatch: how long something has been running, without the time for which it was stopped.
///
/// Any thread may read it. Threads that start or stop it must exclude each other. Its start is the sequence number of a
/// [seqlock](crate::sync::seqlock): while that is the same, only the other word can differ. It never returns to an
/// earlier value except 0, before which nothing was stopped.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// When it was started, moved forward by each stop; 0 before that, [`CHANGING`] during a write.
    started: AtomicU64,
    /// When it was stopped; 0 while it runs.
    stopped: AtomicU64,
}

const CHANGING: u64 = u64::MAX;

/// One consistent reading of a [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// 0 if it was never started.
    pub(crate) started: u64,
    /// 0 while it is running.
    pub(crate) stopped: u64,
}

impl Clock {
    /// Starts the clock, or restarts it.
    pub(crate) fn start(&self, now: u64) {
        let Span { started, stopped } = self.read();
        let started = match (started, stopped) {
            (0, _) => now,
            (_, 0) => started,
            _ => started + now.saturating_sub(stopped),
        };
        self.set(Span { started, stopped: 0 });
    }

    /// Stops the clock; does nothing if it stands still.
    pub(crate) fn stop(&self, now: u64) {
        let Span { started, stopped } = self.read();
        if stopped == 0 {
            self.set(Span { started, stopped: now.max(started) });
        }
    }

    pub(crate) fn set(&self, span: Span) {
        self.write(|| span);
    }

    /// Sets it to what `change` makes of it. A moment that `change` reads is hardly earlier than one that was read by a
    /// thread which then finds the clock unchanged.
    pub(crate) fn change(&self, change: impl FnOnce(Span) -> Span) {
        let before = self.read();
        self.write(|| change(before));
    }

    /// Readers wait for `span`.
    fn write(&self, span: impl FnOnce() -> Span) {
        self.started.store(CHANGING, Ordering::Relaxed);
        fence(Ordering::Release);
        let Span { started, stopped } = span();
        self.stopped.store(stopped, Ordering::Relaxed);
        self.started.store(started, Ordering::Release);
    }

    pub(crate) fn read(&self) -> Span {
        loop {
            let started = self.started.load(Ordering::Acquire);
            let stopped = self.stopped.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if started != CHANGING && started == self.started.load(Ordering::Relaxed) {
                return Span { started, stopped };
            }
            spin_loop();
        }
    }

    /// Like [`read`](Self::read), with the present as the end if the clock is running. It is no later than the moment as
    /// of which another thread [changes](Self::change) the clock, or hardly, unless the caller excludes that.
    pub(crate) fn read_until_now(&self) -> Span {
        loop {
            let span = self.read();
            if span.started == 0 || span.stopped != 0 {
                return span;
            }
            let stopped = now();
            if self.read() == span {
                return Span { stopped, ..span };
            }
        }
    }
}

impl Span {
    /// A clock that was never started.
    pub(crate) const ZERO: Self = Self { started: 0, stopped: 0 };

    /// When it was stopped, or now if it is running; 0 if it was never started.
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
