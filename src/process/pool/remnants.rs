//! What is left of launchers that were killed.
//!
//! `srun` has a helper that ends its job when it cannot do so itself: to kill that with it would leave the job in Slurm for
//! ever. So the rest of a launcher's process group has a moment before it is killed as well. Until then the launcher is not
//! reaped, so that no other group has its number.

use std::time::{Duration, Instant};

use crate::process::pool::launch::Process;

const MOMENT: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Remnants(Vec<(Process, Instant)>);

impl Remnants {
    /// Takes in a launcher that has ended, and was not reaped.
    pub(super) fn keep(&mut self, launcher: Process, now: Instant) {
        self.0.push((launcher, now + MOMENT));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends those that have had their time. Returns when to do so next.
    pub(super) fn see_to(&mut self, now: Instant) -> Option<Instant> {
        self.0.retain(|(launcher, until)| {
            if *until <= now {
                launcher.kill();
                launcher.reap();
            }
            *until > now
        });
        self.0.iter().map(|&(_, until)| until).min()
    }
}
