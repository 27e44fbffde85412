//! Workers that are started ahead of need.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskResult, Updater};

use crate::support::{eventually, within_deadline};

progress_executor::test_worker!(process_id, prepare);

static IS_PREPARED: AtomicBool = AtomicBool::new(false);

fn prepare((): (), _: &Updater) -> TaskResult<()> {
    IS_PREPARED.store(true, Ordering::SeqCst);
    Ok(())
}

fn process_id((): (), _: &Updater) -> TaskResult<(u32, bool)> {
    Ok((process::id(), IS_PREPARED.load(Ordering::SeqCst)))
}

#[test]
fn workers_are_there_before_their_tasks() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::builder().max_workers(3).initializer(prepare, ()).build().unwrap();
        assert_eq!(executor.workers().started, 0);
        executor.prestart(2);
        eventually("two have started", || executor.workers().started == 2);
        let first = executor.submit(process_id, ()).wait().unwrap();
        assert_ne!(first.0, process::id());
        assert!(first.1, "the initializer has run");
        executor.prestart(1);
        executor.prestart(2);
        assert_eq!(
            executor.submit(process_id, ()).wait().unwrap().0,
            first.0,
            "the one that had a task last is taken first"
        );
        assert_eq!(executor.workers().started, 2, "there are as many");
        executor.prestart(usize::MAX);
        eventually("all have started", || executor.workers().started == 3);
        executor.shutdown().wait();
        executor.prestart(3);
        assert_eq!(executor.workers().started, 0);
    });
}

#[test]
fn nothing_is_left_of_workers_that_had_no_task() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(2).unwrap();
        executor.prestart(2);
        // It resolves when the workers have ended.
        executor.shutdown().wait();
        assert_eq!(executor.workers().started, 0);
        let executor =
            ProcessPoolExecutor::builder().max_workers(1).idle_timeout(Duration::from_millis(1)).build().unwrap();
        executor.prestart(1);
        let pid = || executor.submit(process_id, ()).wait().unwrap().0;
        let first = pid();
        eventually("it was idle for too long", || executor.workers().wanted == 0);
        assert_ne!(pid(), first);
    });
}
