//! Reports of groups and maps: what they tell of each task, and how they are written.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use progress_executor::{
    CancelCause, ExecutorExt, GroupReport, ProcessPoolExecutor, Status, SyncExecutor, TaskErrorKind, TaskGroup,
    ThreadPoolExecutor, WorkerId,
};
use serde_json::{Value, json};

use crate::crashes::process_id;
use crate::retries::{announce_and_listen, announced, kill};
use crate::support::{
    NewFile, busy_pool, count, eventually, gate, let_another_task_run, tick_forever, within_deadline,
};

fn workers(report: &GroupReport) -> BTreeSet<&WorkerId> {
    report.tasks().iter().filter_map(|task| task.worker.as_ref()).collect()
}

// What a report tells.

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
        // Each task waits for the other, so that they run on two threads.
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

/// The program hears of a worker in bursts.
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
    assert_eq!((report.tasks().len(), report.omitted()), (10_000, 10_000));
    assert!(report.tasks().iter().all(|task| task.status == Status::Finished), "the first one has failed");
    assert!(report.to_string().starts_with("20000 ended: 19999 finished, 1 failed; 1 worker busy "), "{report}");
}

#[test]
fn how_an_input_has_failed_is_told_while_its_outcome_waits_for_its_turn() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let (gate, barrier) = gate();
        let barrier = Arc::new(Mutex::new(Some(barrier)));
        let mut map = executor.map(
            move |is_slow: bool, _| {
                if is_slow {
                    barrier.lock().unwrap().take().unwrap().pass();
                    Ok(())
                } else {
                    Err("on purpose".into())
                }
            },
            [true, false],
        );
        assert!(map.next().now_or_never().is_none());
        eventually("the second fails", || map.progress().failed == 1);
        for _ in 0..2 {
            assert_eq!(map.report().tasks()[1].error, Some(TaskErrorKind::Failed));
            // Takes the outcome, but does not hand it out.
            assert!(map.next().now_or_never().is_none());
        }
        gate.open();
        assert_eq!(smol::block_on(map.count()), 2);
    });
}

#[test]
fn how_tasks_have_ended_is_told_although_their_group_is_gone() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut group = TaskGroup::new();
        let handle = group.handle();
        group.add(executor.spawn(|_| Err("on purpose".into())));
        eventually("it fails", || handle.progress().failed == 1);
        group.add(executor.submit(tick_forever, ()));
        eventually("it runs", || handle.progress().running == 1);
        drop(group);
        eventually("all have ended", || handle.progress().ended() == 2);
        let errors: Vec<_> = handle.report().tasks().iter().map(|task| task.error.clone()).collect();
        let dropped = TaskErrorKind::Cancelled(CancelCause::Dropped);
        assert_eq!(errors, [TaskErrorKind::Failed, dropped].map(Some));
    });
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

// How a report is written.

/// Names that would end the text around them if they were not escaped.
const NASTY_NAMES: [&str; 2] = ["</script><!--data--><!--<script>", "\"日本語\" \\ \n\r\t\u{0}\u{1b}[31m\u{2028}👩‍👧"];

/// A report with a task of each kind: one that has finished, one that has failed, and ones that were cancelled while
/// they ran and before that.
fn report_of_all_kinds() -> GroupReport {
    let executor = ThreadPoolExecutor::new(1);
    let mut group = TaskGroup::new();
    let handle = group.handle();
    group.add(executor.task(count, 3).name(NASTY_NAMES[0]).submit());
    group.add(executor.task(|(), _| Err("out of paper".into()), ()).name(NASTY_NAMES[1]).submit());
    let task = executor.task(|(), progress| tick_forever((), progress).map(|()| 0), ()).name("endless").submit();
    let canceller = task.canceller();
    eventually("it runs", || task.progress().status == Status::Running);
    group.add(task);
    group.add(executor.task(count, 3).name("late").submit());
    handle.cancel();
    assert!(canceller.is_cancelled());
    smol::block_on(group.join_all());
    handle.report()
}

fn trace_of(report: &GroupReport) -> Vec<Value> {
    let mut trace = Vec::new();
    report.write_chrome_trace(&mut trace).unwrap();
    let trace: Value = serde_json::from_slice(&trace).unwrap();
    trace["traceEvents"].as_array().unwrap().clone()
}

fn with<'a>(events: &'a [Value], phase: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["ph"] == phase)
}

#[test]
fn a_trace_has_a_lane_for_each_worker_and_a_span_for_each_task() {
    within_deadline(|| {
        let report = report_of_all_kinds();
        let events = trace_of(&report);
        let names: Vec<_> = with(&events, "M").map(|event| (&event["name"], &event["args"]["name"])).collect();
        let worker = workers(&report).first().unwrap().to_string();
        assert_eq!(names, [(&json!("process_name"), &json!("this machine")), (&json!("thread_name"), &json!(worker))]);
        let spans: Vec<_> = with(&events, "X").map(|event| [&event["name"], &event["cat"], &event["cname"]]).collect();
        let expected = [
            [NASTY_NAMES[0], "finished", "good"],
            [NASTY_NAMES[1], "failed", "terrible"],
            ["endless", "cancelled", "grey"],
        ]
        .map(|texts| texts.map(Value::from));
        assert_eq!(spans, expected.each_ref().map(|texts| texts.each_ref()));
        let (first, task) = (with(&events, "X").next().unwrap(), &report.tasks()[0]);
        let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
        assert_eq!(first["ts"].as_f64(), task.started.map(micros));
        assert_eq!(first["args"]["n"], 3);
        let marks: Vec<_> = with(&events, "i").map(|event| [&event["name"], &event["args"]["task"]]).collect();
        assert_eq!(marks, [[&json!("cancel"), &json!("endless")], [&json!("cancel"), &json!("late")]]);
    });
}

#[test]
fn a_trace_counts_what_runs() {
    within_deadline(|| {
        let events = trace_of(&report_of_all_kinds());
        let counts: Vec<_> = with(&events, "C").map(|event| event["args"]["tasks"].as_i64().unwrap()).collect();
        assert!(counts.iter().all(|&n| n == 0 || n == 1) && counts.contains(&1), "{counts:?}");
        assert_eq!(counts.last(), Some(&0));
    });
}

#[test]
fn a_trace_marks_what_was_lost_and_is_tried_again() {
    within_deadline(|| {
        let (executor, log, file) = (ProcessPoolExecutor::new(1).unwrap(), NewFile::new(), NewFile::new());
        let task = executor.task(announce_and_listen, (log.path(), file.path())).retries(1).submit();
        let first = announced(&task, None);
        kill(first);
        announced(&task, Some(first));
        let mut group = TaskGroup::new();
        group.add(task);
        file.remove();
        smol::block_on(group.next());
        let events = trace_of(&group.report());
        let spans: Vec<_> = with(&events, "X").map(|event| (event["cat"].clone(), event["tid"].clone())).collect();
        assert_eq!(spans.len(), 2);
        assert_ne!(spans[0].1, spans[1].1, "each process has a lane");
        let marks: BTreeSet<_> = with(&events, "i").map(|event| event["name"].as_str().unwrap()).collect();
        assert_eq!(marks, BTreeSet::from(["lost", "retry"]));
    });
}

#[test]
fn a_page_holds_its_data_whatever_they_are() {
    within_deadline(|| {
        let report = report_of_all_kinds();
        let mut page = Vec::new();
        report.write_html(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        // It names the task that took longest, which may be any of them.
        let summary = report.to_string().replace('&', "&amp;").replace('<', "&lt;");
        assert!(page.contains(&format!("<p id=\"summary\">{summary}</p>")), "the summary is there without a script");
        assert_eq!(page.matches("</script>").count(), 2, "no name ends the script");
        assert!(!page.contains("http:") && !page.contains("https:"), "nothing is loaded from elsewhere");
        let (_, data) = page.split_once("id=\"data\">").unwrap();
        let data: Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
        let names: Vec<_> = data["tasks"].as_array().unwrap().iter().map(|task| task[1].as_str().unwrap()).collect();
        assert_eq!(names, report.tasks().iter().map(|task| &*task.name).collect::<Vec<_>>());
        assert_eq!(data["spans"].as_array().unwrap().len(), 3);
    });
}

/// A writer with room for this many bytes.
struct Full(usize);

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.0 == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[test]
fn an_error_of_what_is_written_to_is_returned() {
    within_deadline(|| {
        let report = report_of_all_kinds();
        let full = Some(io::ErrorKind::StorageFull);
        for room in [0, 1_000] {
            assert_eq!(report.write_html(Full(room)).err().map(|error| error.kind()), full, "{room}");
            assert_eq!(report.write_chrome_trace(Full(room)).err().map(|error| error.kind()), full, "{room}");
        }
        assert!(report.write_html(Full(1 << 20)).is_ok() && report.write_chrome_trace(Full(1 << 20)).is_ok());
    });
}
