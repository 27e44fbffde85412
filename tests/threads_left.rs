//! Threads come and go with what needs them. In a process of its own, because nothing else may start threads meanwhile.

#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use progress_executor::{
    ExecutorExt, Job, SyncExecutor, TaskGroup, TaskResult, ThreadPoolExecutor, Updater, executor_fn,
};

use crate::support::{count, threads_of, within_deadline};

/// A thread of this process.
#[derive(Debug, PartialEq, Eq)]
struct Thread {
    name: String,
    /// Processor time.
    ticks: u64,
    /// How often it has waited for something, or has lost its processor to another thread.
    switches: u64,
}

/// The threads of this process, by id.
fn threads() -> BTreeMap<String, Thread> {
    let threads = threads_of(process::id()).unwrap();
    threads
        .into_iter()
        .filter_map(|thread| {
            let stat = fs::read_to_string(thread.join("stat")).ok()?;
            let (head, fields) = stat.rsplit_once(')')?;
            let name = head.split_once('(')?.1.to_string();
            let fields: Vec<&str> = fields.split_whitespace().collect();
            let ticks = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
            let status = fs::read_to_string(thread.join("status")).ok()?;
            let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
            let switches = switches.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum();
            Some((thread.file_name()?.to_str()?.into(), Thread { name, ticks, switches }))
        })
        .collect()
}

fn has_thread(name: &str) -> bool {
    threads().values().any(|thread| thread.name.starts_with(name))
}

#[track_caller]
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}, but {:?}", threads());
        thread::yield_now();
    }
}

fn tick_forever((): (), progress: &Updater) -> TaskResult<()> {
    loop {
        progress.update(1)?;
        progress.sleep(Duration::from_millis(1))?;
    }
}

/// One test, because its parts must not run at the same time.
#[test]
fn threads_come_and_go() {
    within_deadline(|| {
        let before = threads().len();

        let executor = SyncExecutor::new();
        executor.submit(count, 1000).on_progress(|_, _| {}).wait().unwrap();
        assert_eq!(threads().len(), before, "running inline needs no thread");

        let executor = ThreadPoolExecutor::new(3);
        assert_eq!(threads().len(), before, "nor does a pool without tasks");

        executor.submit(count, 1000).wait().unwrap();
        assert!(!has_thread("progress-timer"), "without an observer there is nothing to report");

        let tasks: Vec<_> = (0..20).map(|_| executor.submit(count, 1000)).collect();
        for task in tasks {
            task.wait().unwrap();
        }
        executor.task(count, 1000).retries(3).submit().wait().unwrap();
        assert!(!has_thread("progress-timer"), "nor without a limit anything to be watched");
        let busy = threads().len();
        assert!(busy > before && busy <= before + 3, "at most three workers");
        idle_threads_use_no_processor_time();

        let task = executor.submit(tick_forever, ());
        let updates = task.updates();
        eventually("an observed task is watched", || has_thread("progress-timer"));
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        eventually("the reporter has nothing to watch any more", || !has_thread("progress-timer"));
        drop(updates);

        let limit = Duration::from_secs(3600);
        let forever = || executor.task(tick_forever, ());
        for task in [forever().timeout(limit).stall_timeout(limit), forever().deadline(limit)] {
            let task = task.submit();
            eventually("a task with a limit is watched", || has_thread("progress-timer"));
            // Longer than the thread stays when there is nothing to wait for.
            thread::sleep(Duration::from_millis(300));
            assert!(has_thread("progress-timer"), "as long as it runs");
            task.cancel();
            assert!(task.wait().unwrap_err().is_cancelled());
            eventually("there is no limit to be watched any more", || !has_thread("progress-timer"));
        }
        let task = executor.task(tick_forever, ()).timeout(Duration::from_millis(20)).submit();
        assert!(task.wait().unwrap_err().is_timed_out());
        eventually("nor is there after it has passed", || !has_thread("progress-timer"));

        let group: TaskGroup<_> = [executor.submit(tick_forever, ())].into_iter().collect();
        drop(group.join_all());
        assert!(!has_thread("progress-timer"), "a group that nobody looks at needs no thread");
        let mut group = TaskGroup::new();
        let updates = group.updates();
        let start = Instant::now();
        while !has_thread("progress-timer") {
            // Two within an interval, unless this thread is held up; then later ones will be.
            group.add(executor.submit(count, 1));
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "never: the updates of a group are shown when they are due"
            );
        }
        drop(group);
        eventually("there is nothing more to show", || !has_thread("progress-timer"));
        drop(updates);

        executor.submit(count, 1_000_000).on_progress(|_, _| {}).wait().unwrap();
        drop(executor);
        eventually("the threads end with their pool", || threads().len() == before);

        let closure = executor_fn(|job: Job| drop(thread::spawn(move || job.run())));
        closure.submit(count, 1_000_000).on_progress(|_, _| {}).wait().unwrap();
        eventually("the reporter of executors without one ends as well", || threads().len() == before);

        let executor = ThreadPoolExecutor::new(2);
        let tasks: Vec<_> = (0..10).map(|_| executor.submit(count, u64::MAX)).collect();
        drop(executor);
        drop(tasks);
        eventually("dropped futures end their tasks, and the threads", || threads().len() == before);
    });
}

fn idle_threads_use_no_processor_time() {
    let idle = || -> BTreeMap<String, Thread> {
        threads().into_iter().filter(|(_, thread)| thread.name.starts_with("progress-")).collect()
    };
    eventually("the threads sleep on", || {
        let before = idle();
        // What is tested is that nothing happens for some time; threads on their way to sleep get another such time.
        thread::sleep(Duration::from_millis(200));
        idle() == before
    });
}
