//! A program that cannot start the first thread of a kind when it needs it.

#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io, iter, process};

use progress_executor::{
    ExecutorExt, ProcessPoolExecutor, SyncExecutor, TaskError, TaskErrorKind, TaskResult, ThreadPoolExecutor, Updater,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{eventually, threads_of, within_deadline};

progress_executor::test_worker!(double);

fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

/// Of threads that have ended. The C library keeps up to 40 MiB, and each takes 2 MiB.
const MOST_KEPT_STACKS: usize = 20;

/// All threads that there is memory for, until this is dropped. A limit on their number would not hold for root.
struct TakenThreads {
    before: Rlimit,
    threads: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl TakenThreads {
    /// Takes them once this test has only `own` threads of its own.
    fn new(own: usize) -> Self {
        // Another thread could get the stack of one that ends later.
        eventually("no thread of an executor is left", || {
            own_threads() == own && !thread_names().any(|name| name.starts_with("progress-"))
        });
        let take = || {
            let ((hold, held), (begin, begun)) = (channel::<()>(), channel());
            let hold_on = move || {
                let _ = begin.send(());
                let _ = held.recv();
            };
            let thread = thread::Builder::new().spawn(hold_on)?;
            begun.recv().unwrap();
            io::Result::Ok((hold, thread))
        };
        // Before the limit is set: what each thread needs beside a stack that was kept would leave too little for the test.
        let mut threads: Vec<_> = (0..MOST_KEPT_STACKS).map(|_| take().unwrap()).collect();
        let before = getrlimit(Resource::As);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        let size: u64 = size.trim_end_matches("kB").trim().parse().unwrap();
        // Too little for the stack of a thread, which takes 2 MiB, also if a bit is freed meanwhile.
        setrlimit(Resource::As, Rlimit { current: Some((size + 1664) << 10), ..before }).unwrap();
        threads.extend(iter::repeat_with(take).map_while(Result::ok));
        Self { before, threads }
    }
}

fn thread_names() -> impl Iterator<Item = String> {
    let threads = threads_of(process::id()).unwrap();
    threads.into_iter().filter_map(|thread| fs::read_to_string(thread.join("comm")).ok())
}

/// The threads of this test, and those that it has started and that have no other name yet.
fn own_threads() -> usize {
    let own = fs::read_to_string("/proc/thread-self/comm").unwrap();
    thread_names().filter(|name| *name == own).count()
}

impl Drop for TakenThreads {
    fn drop(&mut self) {
        setrlimit(Resource::As, self.before).unwrap();
        for (hold, thread) in self.threads.drain(..) {
            drop(hold);
            thread.join().unwrap();
        }
    }
}

/// Checks a `submit` that needs a thread which it can only get a moment later.
fn check_short_lack(own: usize, submit: impl FnOnce() -> Result<u64, TaskError>) {
    let (send, taken) = channel::<TakenThreads>();
    let letting_go = thread::spawn(move || {
        let taken = taken.recv();
        // Nothing tells when the first attempt has failed. If it has not by then, this test shows nothing.
        thread::sleep(Duration::from_millis(300));
        drop(taken);
    });
    send.send(TakenThreads::new(own + 1)).unwrap();
    assert_eq!(submit().unwrap(), 2);
    letting_go.join().unwrap();
}

#[track_caller]
fn assert_names_the_lack(outcome: Result<u64, TaskError>) {
    let error = outcome.unwrap_err();
    assert_eq!(*error.kind(), TaskErrorKind::Rejected);
    assert!(format!("{error:#}").contains("`ulimit -u`"), "{error:#}");
}

#[test]
fn threads_are_waited_for() {
    within_deadline(|| {
        // The thread that watches the limit may stay for that long.
        let limited = || SyncExecutor::new().task(double, 1).timeout(Duration::from_secs(10)).submit().wait();
        // Only once, because a joined thread may still be counted for a moment.
        let own = own_threads();
        check_short_lack(own, || ProcessPoolExecutor::new(1).unwrap().submit(double, 1).wait());
        check_short_lack(own, || ThreadPoolExecutor::new(1).submit(double, 1).wait());
        check_short_lack(own, limited);

        let (processes, threads) = (ProcessPoolExecutor::new(1).unwrap(), ThreadPoolExecutor::new(1));
        let taken = TakenThreads::new(own);
        // Only the first of each kind waits.
        (0..100).for_each(|_| assert_names_the_lack(processes.submit(double, 1).wait()));
        (0..100).for_each(|_| assert_names_the_lack(threads.submit(double, 1).wait()));
        (0..100).for_each(|_| assert_names_the_lack(limited()));
        drop(taken);
        assert_eq!(processes.submit(double, 1).wait().unwrap(), 2, "it is tried again for those that follow");
        assert_eq!(threads.submit(double, 1).wait().unwrap(), 2);
        assert_eq!(limited().unwrap(), 2);
    });
}
