//! Process groups of launchers that were killed.
//!
//! `srun` has a helper process that ends its job when `srun` itself cannot. To kill it at once would leave the job in Slurm for
//! ever, so the rest of the group is killed a moment later. Until then the launcher is not reaped, so that its number is not
//! given to another group.

use std::time::{Duration, Instant};

use crate::process::pool::child::ChildProcess;

const MOMENT: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Remnants(Vec<(ChildProcess, Instant)>);

impl Remnants {
    /// Takes in a launcher that has ended, and was not reaped.
    pub(super) fn keep(&mut self, launcher: ChildProcess, now: Instant) {
        self.0.push((launcher, now + MOMENT));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Kills those whose time is over. Returns when the next one is due.
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
