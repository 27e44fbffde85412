//! Where a process becomes a program with workers, or a worker.

use std::panic::Location;

use crate::process::program::TestWorker;
use crate::process::registry::{DEFECT, REGISTRY, TaskRegistry};
#[cfg(unix)]
use crate::process::{trampoline, worker, worker_args::Role};

impl TaskRegistry {
    /// Makes the functions known to this process. In a worker process, serves tasks and never returns.
    ///
    /// Call this once, first thing in `main`: what comes before it happens in every worker as well. A second call in the same
    /// process registers nothing, and makes [`ProcessPoolExecutor::new`](crate::ProcessPoolExecutor::new) fail.
    #[track_caller]
    pub fn init(mut self) {
        if let Some(defect) = self.defect.take() {
            let _ = DEFECT.set(defect);
        }
        let place = Location::caller();
        match REGISTRY.set(self) {
            Ok(()) => serve_in_worker(),
            Err(second) => {
                drop(second);
                let _ = DEFECT
                    .set(format!("{place}: `TaskRegistry::init` was called before; call it once, with all functions"));
            }
        }
    }

    /// Called by [`test_worker!`](crate::test_worker): does nothing, except in a worker process.
    #[doc(hidden)]
    pub fn init_test_worker(self, mark: &'static TestWorker) {
        std::hint::black_box(mark);
        #[cfg(unix)]
        trampoline::run_if_asked();
        #[cfg(unix)]
        if Role::of_this_process().is_some() {
            self.init();
        }
    }
}

/// Never returns in a worker process, or on the way to a launcher.
fn serve_in_worker() {
    #[cfg(unix)]
    trampoline::run_if_asked();
    #[cfg(unix)]
    if let (Some(role), Some(registry)) = (Role::of_this_process(), REGISTRY.get()) {
        worker::serve(registry, role);
    }
}
