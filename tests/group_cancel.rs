//! A group that is cancelled as one: none of its tasks starts once any of them was seen to be cancelled.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use progress_executor::{ExecutorExt, Job, TaskGroup, executor_fn};

use crate::support::{eventually, within_deadline};

/// Enough for the first to be asked long after the last.
const TASKS: u64 = 50_000;

/// One thread cancels the group, and another one runs its jobs as soon as it sees that.
#[test]
fn no_task_starts_while_others_are_cancelled() {
    within_deadline(|| {
        let jobs = Arc::new(Mutex::new(VecDeque::new()));
        let executor = {
            let jobs = jobs.clone();
            executor_fn(move |job: Job| jobs.lock().unwrap().push_back(job))
        };
        let started = Arc::new(AtomicUsize::new(0));
        let submit = |n| {
            let started = started.clone();
            executor.submit(move |_: u64, _| Ok(_ = started.fetch_add(1, Ordering::SeqCst)), n)
        };
        let tasks: Vec<_> = (0..TASKS).map(submit).collect();
        // One at either end, because it is not specified which tasks are asked first.
        let ends: Vec<_> = [&tasks[0], &tasks[tasks.len() - 1]].map(|task| task.canceller()).into();
        let group: TaskGroup<()> = tasks.into_iter().collect();
        let handle = group.handle();
        let canceller = thread::spawn(move || handle.cancel());
        eventually("it is cancelled", || ends.iter().any(|end| end.is_cancelled()));
        let jobs = std::mem::take(&mut *jobs.lock().unwrap());
        jobs.into_iter().for_each(Job::run);
        assert_eq!(started.load(Ordering::SeqCst), 0);
        canceller.join().unwrap();
    });
}
