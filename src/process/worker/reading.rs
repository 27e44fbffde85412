//! Whose turn it is to read in a [worker](super), and what it takes.
//!
//! Whoever waits reads. The runner reads for itself while it has nothing to do, so that what arrives wakes the thread that
//! it is for, and no other. While it is busy, the watcher reads; but to call it for a short task would cost more than that.
//! So an alarm calls it when one task has taken for a while, and at once when one goes to sleep for as long:
//!
//! ```text
//!                  the alarm finds the task that it has found before
//!  runner reads ──────────────────────────────────────────────────────► watcher reads
//!       ▲                                                                      │
//!       └──────────────────────────────────────────────────────────────────────┘
//!                  the watcher has something for a runner that has nothing to do
//! ```
//!
//! Where there are no such alarms, the watcher reads always.

use std::time::{Duration, Instant};

use crate::process::protocol::channel::Received;
use crate::process::protocol::pulse::Pulse;
use crate::process::protocol::wire::decoder::Decoder;
use crate::sync::spin::AdaptiveSpin;

/// For how long after a request the next one may be waited for without sleeping.
const RECENTLY: Duration = Duration::from_micros(20);

/// What only the thread that reads uses.
pub(super) struct Reading {
    pub(super) decoder: Decoder,
    pub(super) pulse: Option<Pulse>,
    /// When something has come last.
    heard: Option<Instant>,
    spin: AdaptiveSpin,
}

/// Who reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reader {
    Runner,
    /// Also from the beginning, until it has something for the runner.
    #[default]
    Watcher,
}

/// What the watcher knows of the runner; the alarm is set while that is not `Unset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Watch {
    #[default]
    Unset,
    Set,
    /// It was found to be busy with this task.
    Seen(u64),
}

impl Reading {
    pub(super) fn new(decoder: Decoder, heartbeat: Option<Duration>) -> Self {
        let pulse = heartbeat.map(|interval| Pulse::new(interval, Instant::now()));
        Self { decoder, pulse, heard: None, spin: AdaptiveSpin::new() }
    }

    pub(super) fn note(&mut self, received: Received) {
        if received == Received::Some {
            self.heard = Some(Instant::now());
        }
    }

    /// Whether anything has come since the program has introduced itself.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.is_some()
    }

    /// Spins for a moment if something has just arrived: the next may come sooner than a thread is woken.
    pub(super) fn spin(&mut self, mut found: impl FnMut(&mut Decoder) -> bool) {
        if self.heard.is_some_and(|heard| heard.elapsed() < RECENTLY) {
            self.spin.spin_until(|| found(&mut self.decoder));
        }
    }
}
