//! What is said, once, where workers do not come.

use std::sync::atomic::Ordering;

use crate::process::pool::census::Counts;
use crate::process::pool::shared::Pool;
use crate::task::lines::to_standard_error;

impl Pool {
    pub(super) fn remark(&self) {
        if self.has_remarked.swap(true, Ordering::Relaxed) {
            return;
        }
        let launcher = &self.launch.launcher;
        to_standard_error(&if launcher.is_local() {
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
