//! Workers that cannot get from the system what they need to serve.

#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::env;
use std::fs::{self, File};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use progress_executor::{ExecutorExt, ProcessPoolBuilder, ProcessPoolExecutor, TaskErrorKind, TaskResult, Updater};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{capabilities, set_capabilities};

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

/// Sends a descriptor, which nobody receives.
fn send_descriptor(to: &UnixStream) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [to.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(to, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty())
}

#[test]
fn a_worker_serves_although_no_descriptor_can_be_sent_to_it() {
    /// How many descriptors may be open, and also on their way to other processes.
    const LIMIT: u64 = 60;
    within_deadline(|| {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        (0..2 * LIMIT).for_each(|_| _ = send_descriptor(&ours).unwrap());
        // The limit does not hold for an administrator. The threads of the pool inherit this from this one.
        let mut allowed = capabilities(None).unwrap();
        allowed.effective = allowed.effective.difference(allowed.effective);
        set_capabilities(None, allowed).unwrap();
        setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), ..getrlimit(Resource::Nofile) }).unwrap();
        send_descriptor(&ours).unwrap_err();
        let pool = ProcessPoolExecutor::new(1).unwrap();
        assert_eq!(pool.submit(double, 1).wait().unwrap(), 2);
    });
}
