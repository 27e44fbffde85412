//! A report in the [trace event format], which Perfetto and `chrome://tracing` open.
//!
//! [trace event format]: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::ops::RangeFrom;
use std::time::Duration;

use crate::group::report::lanes::{Fate, Span, lanes};
use crate::group::report::{GroupReport, TaskReport};
use crate::id::WorkerId;
use crate::json::{OrNull, Quoted};
use crate::progress::Status;

impl GroupReport {
    /// Writes the report as a trace, for [Perfetto](https://ui.perfetto.dev) or `chrome://tracing`: a lane per worker, a span
    /// for each task, coloured by how it ended, marks where a task was asked to end, was lost, was started again, or failed
    /// without a start, and a curve of how many were running.
    ///
    /// Perfetto colours spans by their names alone, whatever a trace says. There, the category of a span tells how its task
    /// ended, as in `select ts, dur, name from slice where category = 'failed'`.
    ///
    /// The trace is written piece by piece, and buffered.
    ///
    /// # Errors
    ///
    /// The errors of `w`.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let group: progress_executor::TaskGroup<u32> = (0..3).map(|n| executor.spawn(move |_| Ok(n))).collect();
    /// let handle = group.handle();
    /// group.join().wait()?;
    /// # let path = std::env::temp_dir().join(format!("run-{}.json", std::process::id()));
    /// handle.report().write_chrome_trace(std::fs::File::create(&path)?)?; // run.json
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_chrome_trace(&self, w: impl Write) -> io::Result<()> {
        let mut trace = Trace { out: BufWriter::new(w), is_first: true, hosts: Vec::new(), numbers: 1.. };
        let summary = self.to_string();
        write!(
            trace.out,
            r#"{{"displayTimeUnit":"ms","otherData":{{"summary":{}}},"traceEvents":["#,
            Quoted(&summary)
        )?;
        let mut spans = Vec::new();
        for lane in lanes(self) {
            let pid = trace.process(host(lane.worker))?;
            let tid = trace.next_number();
            trace.name("thread_name", pid, tid, &lane.title)?;
            for span in &lane.spans {
                trace.span(pid, tid, span)?;
            }
            spans.extend(lane.spans);
        }
        for task in self.tasks().iter().filter(|task| task.started.is_none()) {
            let Some(ended) = task.ended else { continue };
            let pid = trace.process(THIS_MACHINE)?;
            let what = if task.status == Status::Failed { "failed" } else { "cancel" };
            trace.mark(what, pid, None, ended, task)?;
        }
        trace.count(&spans)?;
        trace.out.write_all(b"\n]}\n")?;
        trace.out.flush()
    }
}

const THIS_MACHINE: &str = "this machine";

fn host(worker: &WorkerId) -> &str {
    if let WorkerId::Process { host: Some(host), .. } = worker { host } else { THIS_MACHINE }
}

struct Trace<W: Write> {
    out: BufWriter<W>,
    is_first: bool,
    /// The machines that have a name by now, and the number that stands for each.
    hosts: Vec<(String, usize)>,
    /// For machines and lanes alike: Perfetto takes a thread with the number of its process for the main one.
    numbers: RangeFrom<usize>,
}

impl<W: Write> Trace<W> {
    fn event(&mut self, event: fmt::Arguments<'_>) -> io::Result<()> {
        let comma = if std::mem::take(&mut self.is_first) { "" } else { "," };
        write!(self.out, "{comma}\n{{{event}}}")
    }

    /// The number that stands for a machine, which is named the first time.
    fn process(&mut self, host: &str) -> io::Result<usize> {
        if let Some((_, known)) = self.hosts.iter().find(|(known, _)| known == host) {
            return Ok(*known);
        }
        let pid = self.next_number();
        self.hosts.push((host.to_owned(), pid));
        self.name("process_name", pid, 0, host)?;
        Ok(pid)
    }

    fn next_number(&mut self) -> usize {
        self.numbers.next().unwrap_or_default()
    }

    /// Names a lane, or all lanes of a machine.
    fn name(&mut self, what: &str, pid: usize, tid: usize, name: &str) -> io::Result<()> {
        let name = Quoted(name);
        self.event(format_args!(r#""ph":"M","name":"{what}","pid":{pid},"tid":{tid},"args":{{"name":{name}}}"#))
    }

    /// A try of a task, with the marks that belong to it.
    fn span(&mut self, pid: usize, tid: usize, span: &Span<'_>) -> io::Result<()> {
        let Span { task, started, ended, fate, .. } = span;
        let TaskReport { id, n, tries, function, .. } = task;
        self.event(format_args!(
            r#""ph":"X","name":{},"cat":"{}","cname":"{}","pid":{pid},"tid":{tid},"ts":{},"dur":{},"args":{{"id":{id},"function":{},"outcome":{},"n":{n},"total":{},"tries":{tries},"waited_ms":{}}}"#,
            Quoted(&task.name),
            fate.word(),
            fate.colour(),
            Micros(*started),
            Micros(ended.saturating_sub(*started)),
            Quoted(function),
            Quoted(&task.outcome()),
            OrNull(task.total),
            started.saturating_sub(task.submitted).as_millis(),
        ))?;
        let is_last = task.started == Some(*started);
        if let Some(at) = task.cancel_requested.filter(|_| is_last) {
            self.mark("cancel", pid, Some(tid), at, task)?;
        }
        if *fate == Fate::Lost {
            self.mark("lost", pid, Some(tid), *ended, task)?;
        }
        if is_last && !task.lost_tries.is_empty() {
            self.mark("retry", pid, Some(tid), *started, task)?;
        }
        Ok(())
    }

    /// Marks a moment on a lane, or on all lanes of a machine.
    fn mark(&mut self, what: &str, pid: usize, tid: Option<usize>, at: Duration, task: &TaskReport) -> io::Result<()> {
        let (scope, tid) = tid.map_or(("p", 0), |tid| ("t", tid));
        self.event(format_args!(
            r#""ph":"i","s":"{scope}","name":"{what}","pid":{pid},"tid":{tid},"ts":{},"args":{{"task":{}}}"#,
            Micros(at),
            Quoted(&task.name),
        ))
    }

    /// Writes how many tasks were running, whenever that changes.
    fn count(&mut self, spans: &[Span<'_>]) -> io::Result<()> {
        let mut changes: Vec<(Duration, i64)> =
            spans.iter().flat_map(|span| [(span.started, 1), (span.ended, -1)]).collect();
        changes.sort_unstable();
        let (mut running, pid) = (0, self.process(THIS_MACHINE)?);
        for changes in changes.chunk_by(|(one, _), (other, _)| one == other) {
            running += changes.iter().map(|(_, change)| change).sum::<i64>();
            self.event(format_args!(
                r#""ph":"C","name":"running","pid":{pid},"ts":{},"args":{{"tasks":{running}}}"#,
                Micros(changes[0].0)
            ))?;
        }
        Ok(())
    }
}

impl Fate {
    fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
            Self::Running => "running",
            Self::Waiting => "waiting",
        }
    }

    /// One of the colours that the format has names for.
    fn colour(self) -> &'static str {
        match self {
            Self::Finished => "good",
            Self::Failed => "terrible",
            Self::Lost => "bad",
            Self::Cancelled => "grey",
            Self::Running | Self::Waiting => "thread_state_runnable",
        }
    }
}

/// Microseconds, the unit of the format, with all digits.
struct Micros(Duration);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_micros(), self.0.subsec_nanos() % 1000)
    }
}
