//! Reports of groups and maps: what they tell of each task, and how they are written.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use progress_executor::{
    CancelCause, ExecutorExt, GroupReport, ProcessPoolExecutor, Status, SyncExecutor, TaskErrorKind, TaskGroup,
    ThreadPoolExecutor, WorkerId,
};

use crate::crashes::process_id;
use crate::retries::{announce_and_listen, announced, kill};
use crate::support::{
    NewFile, busy_pool, count, eventually, gate, let_another_task_run, tick_forever, within_deadline,
};

fn workers(report: &GroupReport) -> BTreeSet<&WorkerId> {
    report.tasks().iter().filter_map(|task| task.worker.as_ref()).collect()
}

// What is told.

#[test]
fn it_is_of_those_that_have_started_or_ended() {
    within_deadline(|| {
        let (executor, door) = busy_pool();
        let mut group = TaskGroup::new();
        let (gate, barrier) = gate();
        let first = group.add(executor.spawn(move |progress| {
            progress.set_counts(3, 4)?;
            barrier.pass();
            Ok(())
        }));
        let second = executor.spawn(|_| Ok(()));
        second.cancel();
        let second = group.add(second);
        group.add(executor.spawn(|_| Ok(())));
        let ids = |report: &GroupReport| report.tasks().iter().map(|task| task.id).collect::<Vec<_>>();

        let report = group.report();
        assert_eq!((ids(&report), report.pending()), (vec![second], 2));
        assert_eq!(report.to_string(), "1 of 3 ended: 1 cancelled");
        door.open();
        gate.wait();
        let report = group.report();
        assert_eq!((ids(&report), report.pending()), (vec![first, second], 1));
        assert!(report.to_string().starts_with("1 of 3 ended: 1 cancelled; 1 running; 1 worker busy "));
        let task = &report.tasks()[0];
        assert_eq!((task.status, task.n, task.total), (Status::Running, 3, Some(4)));
        assert!(task.started.is_some() && task.ended.is_none() && task.tries == 1);
        gate.open();
        smol::block_on(group.by_ref().count());
        assert_eq!((group.report().tasks().len(), group.report().pending()), (3, 0));
    });
}

#[test]
fn a_task_that_never_ran_has_ended_without_a_start() {
    within_deadline(|| {
        let (executor, _gate) = busy_pool();
        let mut group = TaskGroup::new();
        group.add(executor.spawn(|_| Ok(())));
        let_another_task_run();
        group.cancel();
        for is_handed_out in [false, true] {
            let report = group.report();
            let task = &report.tasks()[0];
            assert_eq!((task.status, task.started, &task.worker, task.tries), (Status::Cancelled, None, &None, 0));
            assert_eq!(task.error, Some(TaskErrorKind::Cancelled(CancelCause::Requested)), "{is_handed_out}");
            assert!(task.ended > Some(task.submitted) && task.elapsed.is_zero());
            smol::block_on(group.next());
        }
    });
}

#[test]
fn when_a_task_was_asked_to_end_is_told() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut group = TaskGroup::new();
        let handle = group.handle();
        group.add(executor.submit(tick_forever, ()));
        eventually("it runs", || handle.progress().running == 1);
        handle.cancel();
        smol::block_on(group.join_all());
        let report = handle.report();
        let task = &report.tasks()[0];
        assert!(task.started <= task.cancel_requested && task.cancel_requested <= task.ended, "{task:?}");
    });
}

#[test]
fn a_pause_lies_between_start_and_end() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut group = TaskGroup::new();
        let handle = group.handle();
        let (gate, barrier) = gate();
        group.add(executor.spawn(move |progress| {
            barrier.pass();
            Ok(progress.update(1)?)
        }));
        gate.wait();
        let started = handle.report().tasks()[0].started;
        handle.pause();
        gate.open();
        eventually("it is paused", || handle.report().tasks()[0].status == Status::Paused);
        let_another_task_run();
        handle.resume();
        smol::block_on(group.join()).unwrap();
        let report = handle.report();
        let task = &report.tasks()[0];
        assert_eq!(task.started, started);
        assert!(task.elapsed < task.ended.unwrap() - started.unwrap(), "{task:?}");
    });
}

#[test]
fn tasks_are_told_apart_by_the_thread_that_has_run_them() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let mut group = TaskGroup::new();
        // Each waits for the other, so that they are on two threads.
        let barrier = std::sync::Arc::new(std::sync::Barrier::new(2));
        for _ in 0..2 {
            let barrier = barrier.clone();
            group.add(executor.spawn(move |_| Ok(_ = barrier.wait())));
        }
        let handle = group.handle();
        smol::block_on(group.join()).unwrap();
        let report = handle.report();
        let workers = workers(&report);
        assert!(workers.len() == 2 && workers.iter().all(|worker| matches!(worker, WorkerId::Thread(1..))));
        assert!(report.to_string().contains("; 2 workers busy "), "{report}");
    });
}

#[test]
fn tasks_are_told_apart_by_the_process_that_has_run_them() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(2).unwrap();
        let mut group = TaskGroup::new();
        let handle = group.handle();
        group.extend((0..50).map(|_| executor.submit(process_id, ())));
        let ids = smol::block_on(group.join()).unwrap();
        for (task, process) in handle.report().tasks().iter().zip(ids) {
            let worker = task.worker.clone();
            assert!(matches!(worker, Some(WorkerId::Process { id, host: None, .. }) if id == process), "{worker:?}");
        }
    });
}

/// What is heard of a worker is heard in bursts.
#[test]
fn a_process_is_never_in_two_tasks_at_a_time() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let mut group = TaskGroup::new();
        let handle = group.handle();
        group.extend((0..500).map(|n| executor.submit(count, 100 * n)));
        smol::block_on(group.join()).unwrap();
        let report = handle.report();
        let mut spans: Vec<_> = report.tasks().iter().map(|task| (task.started, task.ended)).collect();
        spans.sort();
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:?}");
    });
}

#[test]
fn the_tries_of_a_task_that_has_lost_its_worker_are_told() {
    within_deadline(|| {
        let (executor, log, file) = (ProcessPoolExecutor::new(1).unwrap(), NewFile::new(), NewFile::new());
        let task = executor.task(announce_and_listen, (log.path(), file.path())).retries(1).submit();
        let first = announced(&task, None);
        kill(first);
        let second = announced(&task, Some(first));
        let mut group = TaskGroup::new();
        let handle = group.handle();
        group.add(task);
        kill(second);
        assert!(smol::block_on(group.join()).unwrap_err().is_worker_lost());
        let report = handle.report();
        assert!(report.to_string().starts_with("1 ended: 1 lost; 2 workers busy "), "{report}");
        let task = &report.tasks()[0];
        assert!(matches!(task.error, Some(TaskErrorKind::WorkerLost(_))));
        assert_eq!((task.tries, task.lost_tries.len()), (2, 1));
        let is_process =
            |worker: &Option<WorkerId>, process| matches!(worker, Some(WorkerId::Process { id, .. }) if *id == process);
        assert!(is_process(&task.lost_tries[0].worker, first) && is_process(&task.worker, second), "{task:?}");
        assert!(task.lost_tries[0].ended <= task.started.unwrap());
    });
}

#[test]
fn a_map_tells_the_latest_inputs_and_sums_up_the_others() {
    let executor = SyncExecutor::new();
    let mut map = executor.map(|n: u64, _| n.checked_sub(1).ok_or("there is less than nothing".into()), 0..20_000);
    while smol::block_on(map.next()).is_some() {}
    let report = map.report();
    assert!((10_000..12_000).contains(&report.tasks().len()), "{}", report.tasks().len());
    assert_eq!(report.tasks().len() + report.omitted(), 20_000);
    assert!(report.tasks().iter().all(|task| task.status == Status::Finished), "the first one has failed");
    assert!(report.to_string().starts_with("20000 ended: 19999 finished, 1 failed; 1 worker busy "), "{report}");
}

#[test]
fn a_group_without_tasks_has_nothing_to_tell() {
    let report = TaskGroup::<()>::new().report();
    assert_eq!((report.to_string().as_str(), report.tasks().len()), ("0 ended", 0));
    assert_eq!(report.elapsed(), Duration::ZERO);
}

#[test]
fn it_is_serialized_with_times_in_seconds() {
    let mut group = TaskGroup::new();
    group.add(SyncExecutor::new().spawn(|progress| Ok(progress.set_counts(3, 4)?)));
    smol::block_on(group.next());
    let report = group.report();
    let value = serde_json::to_value(&report).unwrap();
    let task = &value["tasks"][0];
    assert_eq!(task["ended"].as_f64(), report.tasks()[0].ended.map(|ended| ended.as_secs_f64()));
    assert_eq!((&task["status"], &task["error"], &task["n"]), (&"finished".into(), &().into(), &3.into()));
    assert!(task["worker"]["thread"].is_u64(), "{task}");
}
