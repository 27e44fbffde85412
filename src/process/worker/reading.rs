//! Which thread of a [worker](super) reads, and the state that reading takes.
//!
//! The thread that waits reads. An idle runner reads for itself, so that what arrives wakes only the thread that needs it.
//! While the runner is busy, the watcher reads; but waking the watcher costs more than a short task takes. So an alarm wakes
//! it once a task has run for a while, or at once if a task goes to sleep for at least as long:
//!
//! ```text
//!                  the alarm finds the task that it has found before
//!  runner reads ──────────────────────────────────────────────────────► watcher reads
//!       ▲                                                                      │
//!       └──────────────────────────────────────────────────────────────────────┘
//!                  the watcher has something for a runner that has nothing to do
//! ```
//!
//! Where there are no such alarms, the watcher always reads.

use std::time::{Duration, Instant};

use crate::process::protocol::channel::Received;
use crate::process::protocol::heartbeat::Heartbeat;
use crate::process::protocol::wire::decoder::Decoder;
use crate::sync::spin::AdaptiveSpin;

/// How soon after a request the runner spins for the next one before it sleeps.
const RECENTLY: Duration = Duration::from_micros(20);

/// The state that only the thread that reads uses.
pub(super) struct Reading {
    pub(super) decoder: Decoder,
    pub(super) heartbeat: Option<Heartbeat>,
    /// When something last arrived.
    heard: Option<Instant>,
    spin: AdaptiveSpin,
}

/// Who reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reader {
    Runner,
    /// The initial reader, until it has something for the runner to do.
    #[default]
    Watcher,
}

/// What the watcher knows about the runner. The alarm is set unless this is `Unset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Watch {
    #[default]
    Unset,
    Set,
    /// The runner was seen busy with this task.
    Seen(u64),
}

impl Reading {
    pub(super) fn new(decoder: Decoder, heartbeat: Option<Duration>) -> Self {
        let heartbeat = heartbeat.map(|interval| Heartbeat::new(interval, Instant::now()));
        Self { decoder, heartbeat, heard: None, spin: AdaptiveSpin::new() }
    }

    pub(super) fn note(&mut self, received: Received) {
        if received == Received::Some {
            self.heard = Some(Instant::now());
        }
    }

    /// Whether anything has arrived since the program introduced itself.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.is_some()
    }

    /// Spins briefly if something has just arrived: the next request may come sooner than a thread could be woken.
    pub(super) fn spin(&mut self, mut found: impl FnMut(&mut Decoder) -> bool) {
        if self.heard.is_some_and(|heard| heard.elapsed() < RECENTLY) {
            self.spin.spin_until(|| found(&mut self.decoder));
        }
    }
}
