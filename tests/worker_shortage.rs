//! Workers that cannot get from the system what they need to serve.

#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::env;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;

use progress_executor::{ExecutorExt, ProcessPoolBuilder, ProcessPoolExecutor, TaskErrorKind, TaskResult, Updater};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{NewFile, within_deadline};

progress_executor::test_worker!({
    run_short();
    double
});

fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

/// What each worker lacks while a file is there.
const LACK: &str = "TEST_LACK";
/// The file.
const WHILE: &str = "TEST_LACK_WHILE";
/// Set if the worker removes the file, so that the next one lacks nothing.
const ONCE: &str = "TEST_LACK_ONCE";

/// What a worker does before it calls `init`.
fn run_short() {
    let (Ok(lack), Ok(file)) = (env::var(LACK), env::var(WHILE)) else { return };
    if !Path::new(&file).exists() {
        return;
    }
    if env::var_os(ONCE).is_some() {
        fs::remove_file(&file).unwrap();
    }
    let (resource, limit) = match &*lack {
        "descriptors" => (Resource::Nofile, next_descriptor() + 3),
        _ => (Resource::As, memory_in_use() + (1 << 20)),
    };
    setrlimit(resource, Rlimit { current: Some(limit), ..getrlimit(resource) }).unwrap();
}

fn next_descriptor() -> u64 {
    File::open("/dev/null").unwrap().as_raw_fd() as u64
}

/// With a little more than this, there is no room for the stack of a thread.
fn memory_in_use() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    size.trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

fn pool_that_lacks(lack: &str, file: &NewFile) -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder().max_workers(2).env(LACK, lack).env(WHILE, file.path())
}

#[test]
fn what_a_worker_lacks_is_waited_for() {
    within_deadline(|| {
        for lack in ["descriptors", "threads"] {
            let file = NewFile::new();
            let pool = pool_that_lacks(lack, &file).env(ONCE, "").build().unwrap();
            let tasks: Vec<_> = (0..10).map(|n| pool.submit(double, n)).collect();
            for (n, task) in (0..).zip(tasks) {
                assert_eq!(task.wait().unwrap(), 2 * n, "{lack}");
            }
            assert!(!file.exists(), "a worker lacked {lack}");
        }
    });
}

#[test]
fn what_workers_lack_for_long_is_told() {
    within_deadline(|| {
        for (lack, limit) in [("descriptors", "`ulimit -n`"), ("threads", "`ulimit -u`")] {
            let file = NewFile::new();
            let pool = pool_that_lacks(lack, &file).build().unwrap();
            let tasks: Vec<_> = (0..10).map(|n| pool.submit(double, n)).collect();
            for task in tasks {
                let error = task.wait().unwrap_err();
                assert_eq!(*error.kind(), TaskErrorKind::Rejected, "{error:#}");
                assert!(format!("{error:#}").contains(limit), "{error:#}");
            }
            drop(file);
            assert_eq!(pool.submit(double, 1).wait().unwrap(), 2, "it is tried again for those that follow");
        }
    });
}
