//! What is said, once, where workers do not come.

use std::sync::atomic::Ordering;

use crate::process::pool::census::Counts;
use crate::process::pool::relay::is_written_at_once;
use crate::process::pool::shared::Pool;
use crate::task::lines::to_standard_error;

impl Pool {
    /// Writes a line to standard error, unless nobody reads that: whoever drives does not wait for it.
    pub(super) fn say(&self, line: &str) {
        if is_written_at_once(line) {
            to_standard_error(line);
        }
    }

    pub(super) fn remark(&self) {
        if self.has_remarked.swap(true, Ordering::Relaxed) {
            return;
        }
        let launcher = &self.launch.launcher;
        self.say(&if launcher.is_local() {
            "progress-executor: a worker process has not called `TaskRegistry::init` for 3 s; it has to be the first thing \
             that `main` calls"
                .to_owned()
        } else {
            let Counts { wanted, ready, .. } = self.counts();
            format!(
                "progress-executor: {ready} of {wanted} workers have started; the others may wait in a queue (`{launcher}`)"
            )
        });
    }
}
