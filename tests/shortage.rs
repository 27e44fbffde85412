//! A program that has no descriptors left when it submits the first task of a pool.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::fs::File;
use std::iter;

use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskErrorKind, TaskResult, Updater};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::within_deadline;

progress_executor::test_worker!(double);

fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

/// Takes all descriptors that there are.
fn take_descriptors() -> Vec<File> {
    let limit = Rlimit { current: Some(100), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    iter::repeat_with(|| File::open("/dev/null")).map_while(Result::ok).collect()
}

/// One test, because its parts share the descriptors of the process.
#[test]
fn tasks_wait_for_descriptors() {
    within_deadline(|| {
        let taken = take_descriptors();
        let error = ProcessPoolExecutor::new(2).unwrap_err();
        assert!(format!("{error:#}").contains("`ulimit -n`"), "{error:#}");
        drop(taken);
        let pools = [(); 3].map(|()| ProcessPoolExecutor::new(2).unwrap());
        let taken = take_descriptors();
        let [pool, ..] = &pools;
        let tasks: Vec<_> = (0..10).map(|n| pool.submit(double, n)).collect();
        assert!(tasks.iter().all(|task| !task.progress().status.is_terminal()), "they wait");
        drop(taken);
        for (n, task) in (0..).zip(tasks) {
            assert_eq!(task.wait().unwrap(), 2 * n, "a short lack costs nothing");
        }

        let taken = take_descriptors();
        let [_, pool, _] = &pools;
        let tasks: Vec<_> = (0..10).map(|n| pool.submit(double, n)).collect();
        for task in tasks {
            let error = task.wait().unwrap_err();
            assert_eq!(*error.kind(), TaskErrorKind::Rejected);
            assert!(format!("{error:#}").contains("`ulimit -n`"), "{error:#}");
        }
        let cancelled = pool.submit(double, 1);
        cancelled.cancel();
        let left = pool.shutdown_now();
        assert!(cancelled.wait().unwrap_err().is_cancelled());
        left.wait();

        let [.., pool] = &pools;
        let paused = pool.submit(double, 1);
        paused.pause();
        for task in 0..2 {
            assert!(pool.submit(double, 1).wait().is_err(), "task {task}, right after a failure");
        }
        assert!(paused.progress().status.is_terminal(), "nobody would start it");
        drop(taken);
        assert_eq!(pool.submit(double, 1).wait().unwrap(), 2, "it is tried again for those that follow");
    });
}
