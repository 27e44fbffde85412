//! A process that the program has forked, without another program in it, drops its copies of everything that belongs to
//! the program. One test, because its child must have a copy of nothing else.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use fork::{Fork, fork, waitpid};
use progress_executor::{ExecutorExt, ProcessPoolExecutor, Shared, TaskGroup, TaskResult, Updater};

use crate::support::within_deadline;

progress_executor::test_worker!(length, until);

fn length(text: Shared<String>, _: &Updater) -> TaskResult<usize> {
    Ok(text.len())
}

/// Ends when the file at `path` exists.
fn until(path: String, progress: &Updater) -> TaskResult<u32> {
    while !std::path::Path::new(&path).exists() {
        progress.sleep(Duration::from_millis(1))?;
    }
    Ok(std::process::id())
}

/// Makes a call in a forked process, which then ends as if it were killed, and waits for that process.
fn in_fork(call: impl FnOnce()) {
    match fork().unwrap() {
        Fork::Child => {
            call();
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        Fork::Parent(child) => _ = waitpid(child).unwrap(),
    }
}

#[test]
fn what_a_forked_process_drops_is_still_there_for_the_program() {
    within_deadline(|| {
        let done = support::NewFile::new();
        let path = done.path().to_str().unwrap().to_owned();
        done.remove();
        let pool = Arc::new(ProcessPoolExecutor::new(1).unwrap());
        let shared = Shared::new("x".repeat(100));
        let worker = |pool: &ProcessPoolExecutor| pool.workers().workers[0].pid;
        pool.submit(length, shared.clone()).wait().unwrap();
        let before = worker(&pool);
        // A timeout runs meanwhile.
        let running = pool.task(until, path.clone()).timeout(Duration::from_secs(600)).submit();
        support::eventually("it runs", || running.silent_for().is_some());
        let waiting: TaskGroup<_> = (0..3).map(|_| pool.submit(length, shared.clone())).collect();
        let mut held = Some((running, waiting, pool, shared));
        in_fork(|| drop(held.take()));
        let (mut running, waiting, pool, shared) = held.take().unwrap();
        // It waits in vain, and reads nothing of what the workers say to this process.
        in_fork(|| _ = running.wait_timeout(Duration::from_millis(20)));
        in_fork(|| {
            running.cancel();
            running.pause();
            drop(pool.shutdown());
        });
        let timed_out = support::NewFile::new();
        in_fork(|| {
            // No timeout passes here, not even in a pool of its own.
            let own = ProcessPoolExecutor::new(1).unwrap();
            let mut task = own.task(until, path.clone()).timeout(Duration::from_millis(1)).submit();
            let outcome = task.wait_timeout(Duration::from_secs(30));
            if outcome.is_some_and(|outcome| outcome.is_err_and(|error| error.is_timed_out())) {
                timed_out.remove();
            }
        });
        assert!(!timed_out.exists(), "no timeout passes in a process that was forked");
        std::fs::write(&path, "").unwrap();
        assert!(running.wait().is_ok());
        assert_eq!(waiting.join().wait().unwrap(), [100; 3]);
        assert_eq!(pool.submit(length, shared).wait().unwrap(), 100, "it accepts tasks");
        assert_eq!(worker(&pool), before, "it is still there");
        std::fs::remove_file(path).unwrap();
    });
}
