//! Traces of reports, compared with the documentation of the [trace event format], because readers silently skip what
//! they do not understand, and with what [`viewers`] make of them.
//!
//! [trace event format]: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "../browser/driver.rs"]
mod driver;
#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "../it/support.rs"]
mod support;
mod viewers;

use std::collections::{BTreeMap, BTreeSet};

use progress_executor::{
    ExecutorExt, GroupReport, ProcessPoolExecutor, Status, SyncExecutor, TaskGroup, TaskResult, ThreadPoolExecutor,
    Updater,
};
use serde_json::{Map, Value};

use crate::support::within_deadline;

progress_executor::test_worker!(crash, double);

fn crash((): (), progress: &Updater) -> TaskResult<u64> {
    progress.set_counts(3, 4)?;
    std::process::exit(3)
}

fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

/// Names that would end the text around them if they were not escaped.
const NASTY_NAMES: [&str; 3] = ["\"日本語\" \\ \n\r\t\u{0}\u{1b}[31m\u{2028}👩‍👧", "</script>", ""];

/// A report of tasks on threads and in processes: finished, failed, lost, tried again, cancelled, refused.
fn report_of_all_kinds() -> GroupReport {
    within_deadline(|| {
        let threads = ThreadPoolExecutor::new(2);
        let processes = ProcessPoolExecutor::new(1).unwrap();
        let mut group = TaskGroup::new();
        let handle = group.handle();
        for (n, name) in NASTY_NAMES.into_iter().enumerate() {
            group.add(threads.task(double, n as u64).name(name).submit());
        }
        group.add(threads.task(|(), _| Err("out of paper".into()), ()).name("fails").submit());
        group.add(processes.task(crash, ()).name("is lost").retries(1).submit());
        group.add(processes.task(double, 3).name("is elsewhere").submit());
        let late = threads.task(|(), progress| Ok(progress.sleep(std::time::Duration::MAX).map(|()| 0)?), ()).submit();
        let canceller = late.canceller();
        let is_running = late.updates();
        group.add(late);
        while is_running.recv_blocking().unwrap().status != Status::Running {}
        canceller.cancel();
        let closed = ThreadPoolExecutor::new(1);
        closed.shutdown().wait();
        group.add(closed.task(double, 5).name("is refused").submit());
        let waiting = SyncExecutor::new().task(double, 6).name("never starts").submit();
        waiting.cancel();
        group.add(waiting);
        group.join_all().wait();
        handle.report()
    })
}

fn events(report: &GroupReport) -> Vec<Map<String, Value>> {
    let mut trace = Vec::new();
    report.write_chrome_trace(&mut trace).unwrap();
    let trace: Value = serde_json::from_slice(&trace).unwrap();
    let keys: BTreeSet<_> = trace.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["displayTimeUnit", "otherData", "traceEvents"]));
    assert_eq!(trace["displayTimeUnit"], "ms");
    assert_eq!(trace["otherData"]["summary"], report.to_string());
    trace["traceEvents"].as_array().unwrap().iter().map(|event| event.as_object().unwrap().clone()).collect()
}

/// The colour names of the format that are used here.
const COLOURS: [&str; 5] = ["good", "bad", "terrible", "grey", "thread_state_runnable"];

/// Checks that an event has everything that its phase requires, and nothing that it does not allow.
fn check_event(event: &Map<String, Value>) {
    let (required, optional): (&[&str], &[&str]) = match event["ph"].as_str().unwrap() {
        "X" => (&["name", "ph", "pid", "tid", "ts", "dur"], &["cat", "cname", "args"]),
        "i" => (&["name", "ph", "pid", "tid", "ts", "s"], &["args"]),
        "C" => (&["name", "ph", "pid", "ts", "args"], &[]),
        "M" => (&["name", "ph", "pid", "tid", "args"], &[]),
        other => panic!("a phase {other}: {event:?}"),
    };
    assert!(required.iter().all(|key| event.contains_key(*key)), "{event:?}");
    for (key, value) in event {
        assert!(required.contains(&key.as_str()) || optional.contains(&key.as_str()), "{key}: {event:?}");
        let is_right = match key.as_str() {
            "pid" | "tid" => value.as_u64().is_some_and(|number| number <= u64::from(u32::MAX)),
            // Microseconds, and never before the first task was submitted.
            "ts" | "dur" => value.as_f64().is_some_and(|number| number.is_finite() && number >= 0.0),
            "s" => ["g", "p", "t"].contains(&value.as_str().unwrap()),
            "cname" => COLOURS.contains(&value.as_str().unwrap()),
            "args" => value.is_object(),
            _ => value.is_string(),
        };
        assert!(is_right, "{key}: {event:?}");
    }
}

type Track = (u64, u64);

fn track(event: &Map<String, Value>) -> Track {
    (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap())
}

/// Nanoseconds, which are exact.
fn nanoseconds(value: &Value) -> u64 {
    (value.as_f64().unwrap() * 1000.0).round() as u64
}

fn span(event: &Map<String, Value>) -> (u64, u64) {
    let start = nanoseconds(&event["ts"]);
    (start, start + nanoseconds(&event["dur"]))
}

/// Each machine and each lane has one name, and no event is on one without a name.
fn check_names(events: &[Map<String, Value>]) {
    let (mut processes, mut threads) = (BTreeMap::new(), BTreeMap::new());
    for event in events.iter().filter(|event| event["ph"] == "M") {
        let name = event["args"]["name"].as_str().unwrap();
        let (pid, tid) = track(event);
        let before = match event["name"].as_str().unwrap() {
            "process_name" => processes.insert(pid, name),
            "thread_name" => threads.insert((pid, tid), name),
            other => panic!("nothing is called {other}"),
        };
        assert_eq!(before, None, "{name}");
    }
    for event in events.iter().filter(|event| event["ph"] != "M") {
        assert!(processes.contains_key(&event["pid"].as_u64().unwrap()), "{event:?}");
        let is_on_a_lane = event["ph"] == "X" || event.get("s").is_some_and(|scope| scope == "t");
        assert!(!is_on_a_lane || threads.contains_key(&track(event)), "{event:?}");
    }
}

/// The spans of a lane follow each other: readers make a mess of spans that overlap.
fn check_lanes(events: &[Map<String, Value>]) {
    let mut lanes: BTreeMap<Track, Vec<(u64, u64)>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        lanes.entry(track(event)).or_default().push(span(event));
    }
    for spans in lanes.values_mut() {
        spans.sort_unstable();
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:?}");
    }
}

/// The counter tells at each moment how many spans there are.
fn check_counter(events: &[Map<String, Value>]) {
    let spans: Vec<_> = events.iter().filter(|event| event["ph"] == "X").map(span).collect();
    let mut last = None;
    for event in events.iter().filter(|event| event["ph"] == "C") {
        let (now, args) = (nanoseconds(&event["ts"]), event["args"].as_object().unwrap());
        assert!(last.is_none_or(|last| last < now), "{event:?}");
        last = Some(now);
        let running = spans.iter().filter(|(start, end)| *start <= now && now < *end).count();
        assert_eq!((args.len(), args["tasks"].as_u64()), (1, Some(running as u64)), "{event:?}");
    }
    let ends = spans.iter().map(|(_, end)| *end).max();
    assert_eq!(last, ends, "it goes on until nothing runs");
}

fn check(events: &[Map<String, Value>]) {
    events.iter().for_each(check_event);
    check_names(events);
    check_lanes(events);
    check_counter(events);
}

#[test]
fn a_trace_of_all_kinds_is_what_the_format_says() {
    let report = report_of_all_kinds();
    let events = events(&report);
    check(&events);
    let with = |phase: &str, key: &str| -> Vec<String> {
        let events = events.iter().filter(|event| event["ph"] == phase);
        let mut texts: Vec<_> = events.map(|event| event[key].as_str().unwrap().to_owned()).collect();
        texts.sort_unstable();
        texts
    };
    let expected = ["cancelled", "failed", "finished", "finished", "finished", "finished", "lost", "lost"];
    assert_eq!(with("X", "cat"), expected);
    assert_eq!(with("i", "name"), ["cancel", "cancel", "failed", "lost", "lost", "retry"]);
    let names = with("X", "name");
    assert!(NASTY_NAMES.iter().all(|name| names.iter().any(|it| it == name)), "{names:?}");
}

#[test]
fn traces_of_nothing_and_of_much_are_what_the_format_says() {
    within_deadline(|| {
        check(&events(&TaskGroup::<()>::new().report()));
        let threads = ThreadPoolExecutor::new(4);
        let group: TaskGroup<u64> = (0..2000).map(|n| threads.submit(double, n)).collect();
        let handle = group.handle();
        group.join().wait().unwrap();
        let events = events(&handle.report());
        check(&events);
        assert_eq!(events.iter().filter(|event| event["ph"] == "X").count(), 2000);
    });
}

#[test]
fn what_runs_is_in_a_trace_up_to_now() {
    within_deadline(|| {
        let threads = ThreadPoolExecutor::new(1);
        let mut group = TaskGroup::new();
        let task = threads.spawn(|progress| Ok(progress.sleep(std::time::Duration::MAX)?));
        let is_running = task.updates();
        group.add(task);
        while is_running.recv_blocking().unwrap().status != Status::Running {}
        let events = events(&group.report());
        check(&events);
        assert!(events.iter().any(|event| event["ph"] == "X" && event["cat"] == "running"), "{events:?}");
    });
}
