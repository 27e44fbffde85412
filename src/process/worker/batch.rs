//! How many outcomes a [worker](super) collects before it sends them, while more tasks wait.

use std::time::Duration;

use crate::process::protocol::memory::PLACES;

/// How long tasks may run in total before their outcomes are sent.
pub(super) const LONGEST: Duration = Duration::from_micros(100);
/// How many tasks may end before their outcomes are sent: few enough for the program to take them in, and to send more tasks,
/// while the worker still has some to run.
const MOST: usize = PLACES / 4;

/// How many tasks have ended since outcomes were last sent, and how long they ran.
#[derive(Default)]
pub(super) struct Unsent {
    tasks: usize,
    time: Duration,
}

impl Unsent {
    pub(super) fn add(&mut self, took: Duration) {
        self.tasks += 1;
        self.time += took;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks == 0
    }

    pub(super) fn is_a_batch(&self) -> bool {
        self.tasks > MOST || self.time > LONGEST
    }
}
