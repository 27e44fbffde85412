//! How much of what has come of tasks a [worker](super) sends at a time, while more tasks wait.

use std::time::Duration;

use crate::process::protocol::memory::PLACES;

/// For how long tasks may run before what has come of them is sent.
pub(super) const LONGEST: Duration = Duration::from_micros(100);
/// How many they may be: so that the program takes in what has come of some, and sends others, while there are still some to
/// do.
const MOST: usize = PLACES / 4;

/// The tasks that have ended since something was sent, and the time that they took.
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
