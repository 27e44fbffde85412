//! Workers that stand still: those of a suspended pool, and one that was stopped from outside while its task ends.

use std::error::Error;
use std::thread;
use std::time::Duration;

use progress_executor::{
    ExecutorExt, ProcessPoolBuilder, ProcessPoolExecutor, ProgressFuture, Status, TaskResult, Updater,
};

use crate::contract::count_forever;
use crate::crashes::process_id;
use crate::silence::stop;
use crate::support::{DEADLINE, count, eventually, has_process, is_stopped, within_deadline};

/// Notices its cancellation, and does not end.
pub(crate) fn notice_and_stay((): (), progress: &Updater) -> TaskResult<()> {
    while progress.update(1).is_ok() {
        thread::yield_now();
    }
    loop {
        thread::park();
    }
}

/// Calls `check` for a pool with memory shared with its worker, and for one without.
fn for_each_pool(check: impl Fn(ProcessPoolBuilder) + Send + 'static) {
    within_deadline(move || {
        let builder = || ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::from_millis(100));
        check(builder());
        check(builder().without_shared_memory());
    });
}

/// A suspended pool, its worker, and the task that the worker runs.
fn suspended(builder: ProcessPoolBuilder) -> (ProcessPoolExecutor, u32, ProgressFuture<()>) {
    let pool = builder.build().unwrap();
    let worker = pool.submit(process_id, ()).wait().unwrap();
    let task = pool.submit(count_forever, ());
    eventually("it runs", || task.progress().n > 0);
    pool.suspend();
    eventually("the worker is stopped", || is_stopped(worker));
    (pool, worker, task)
}

#[test]
fn a_task_goes_on_from_where_it_was_when_its_pool_was_suspended() {
    for_each_pool(|builder| {
        let (pool, worker, task) = suspended(builder);
        assert_eq!(task.progress().status, Status::Running);
        let next = pool.submit(count, 7);
        pool.resume();
        eventually("the worker goes on", || !is_stopped(worker));
        let n = task.progress().n;
        eventually("the task goes on", || task.progress().n > n);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        assert_eq!(next.wait().unwrap(), 7);
    });
}

#[test]
fn tasks_are_not_started_in_a_suspended_pool() {
    for_each_pool(|builder| {
        let pool = builder.build().unwrap();
        pool.suspend();
        let first = pool.submit(process_id, ());
        assert!(format!("{pool:?}").contains("queued: 1"), "{pool:?}");
        pool.resume();
        let worker = first.wait().unwrap();
        pool.suspend();
        eventually("an idle worker is stopped", || is_stopped(worker));
        let second = pool.submit(process_id, ());
        assert!(format!("{pool:?}").contains("queued: 1"), "{pool:?}");
        pool.resume();
        assert_eq!(second.wait().unwrap(), worker);
    });
}

#[test]
fn a_task_can_be_cancelled_while_its_pool_is_suspended() {
    for_each_pool(|builder| {
        // Time enough to end by itself, however busy the machine is.
        let (pool, worker, task) = suspended(builder.cancel_grace(DEADLINE));
        let next = pool.submit(count, 7);
        task.cancel();
        let error = task.wait().unwrap_err();
        assert!(error.is_cancelled() && error.source().is_some_and(|source| !source.to_string().contains("killed")));
        eventually("the worker is stopped again", || is_stopped(worker));
        assert_eq!(next.progress().status, Status::Pending);
        next.cancel();
        assert!(next.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_suspended_pool_can_be_shut_down() {
    for_each_pool(|builder| {
        let (pool, worker, task) = suspended(builder);
        pool.shutdown_now().wait();
        assert!(task.wait().unwrap_err().is_cancelled());
        assert!(!has_process(worker));
    });
}

#[test]
fn a_suspended_pool_that_is_dropped_is_resumed() {
    for_each_pool(|builder| {
        let (pool, worker, task) = suspended(builder);
        let next = pool.submit(count, 7);
        drop(pool);
        let n = task.progress().n;
        eventually("the task goes on", || task.progress().n > n);
        task.cancel();
        assert_eq!(next.wait().unwrap(), 7);
        eventually("the worker ends", || !has_process(worker));
    });
}

#[test]
fn a_suspended_task_comes_to_no_limit() {
    for_each_pool(|builder| {
        let pool = builder.build().unwrap();
        pool.submit(count, 1).wait().unwrap();
        // Long enough for a worker to be heard of on a busy machine.
        let limits = [Duration::from_secs(4), Duration::from_secs(2)];
        let timing = pool.task(count_forever, ()).timeout(limits[0]).stall_timeout(limits[1]).submit();
        eventually("it runs", || timing.progress().n > 0);
        pool.suspend();
        // Time must pass that the task is not given.
        thread::sleep(limits[0] + Duration::from_millis(500));
        assert!(!timing.is_done());
        pool.resume();
        let n = timing.progress().n;
        eventually("it goes on", || timing.progress().n > n);
        let error = timing.wait().unwrap_err();
        assert!(error.is_timed_out(), "{error:#}");
    });
}

#[test]
fn a_task_that_has_noticed_is_not_waited_for_when_somebody_stops_its_worker() {
    for_each_pool(|builder| {
        // Time enough to notice, on a busy machine.
        let pool = builder.cancel_grace(Duration::from_secs(2)).build().unwrap();
        let worker = pool.submit(process_id, ()).wait().unwrap();
        let task = pool.submit(notice_and_stay, ());
        eventually("it runs", || task.progress().n > 0);
        task.cancel();
        eventually("it has noticed", || task.noticed_after().is_some());
        stop(worker);
        let error = task.wait().unwrap_err();
        assert!(error.is_cancelled(), "{error:?}");
        let why = error.source().unwrap().to_string();
        assert!(why.contains("it had noticed, but") && why.contains("it was stopped (signal 19"), "{why}");
    });
}
