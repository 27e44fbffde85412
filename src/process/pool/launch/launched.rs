//! A worker behind a launcher: its start, its place, and what is known when it is lost.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::error::WorkerExit;
use crate::id::WorkerId;
use crate::process::launcher::{Launcher, Values};
use crate::process::output::OutputStream;
use crate::process::pool::launch::child::ChildProcess;
use crate::process::pool::output::line_stream::LineStream;
use crate::process::protocol::descriptor::{above_standard, dev_null};
use crate::process::protocol::wire::Origin;
use crate::process::workers::WorkerStatus;

/// How many bytes a launcher may write before the worker writes.
pub(crate) const MOST_JUNK: usize = 64 * 1024;
/// How many bytes are quoted of what came instead of a greeting.
const QUOTED: usize = 400;

/// What is known about a worker that a launcher has started.
pub(crate) struct Launched {
    site: Site,
    errors: Arc<LineStream>,
    /// Whether its launcher has started other workers too, which share its standard error.
    is_member: bool,
    /// Whether it has connected by itself, so that its launcher may outlive it.
    has_connected: bool,
}

/// Where a worker is.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) index: usize,
    /// As given to the launcher, until the worker has said where it is.
    host: Option<String>,
    /// The launcher, for messages; empty for a worker without one.
    launcher: String,
    pub(crate) origin: Option<Origin>,
}

/// What is known about a launched worker when it has ended.
#[derive(Clone, Debug)]
pub(crate) struct Remains {
    pub(crate) site: Site,
    /// The end of its standard error.
    pub(crate) last_output: String,
    /// What came instead of a greeting or another message.
    pub(crate) junk: String,
    /// Whether what has ended is its connection; its launcher, which has started other workers too, may still run.
    has_connected: bool,
}

impl Launched {
    /// Starts a worker by this command of a launcher.
    pub(super) fn start(
        launcher: &Launcher,
        values: Values<'_>,
        command: Command,
        input: OwnedFd,
    ) -> io::Result<(ChildProcess, Self)> {
        let site = Site::new(launcher, values);
        let (child, errors) = start(command, input, site.mark())?;
        Ok((child, Self { site, errors, is_member: false, has_connected: false }))
    }

    /// Starts many workers, which share the standard error of the launcher.
    #[cfg(feature = "cluster")]
    pub(crate) fn start_many(
        launcher: &Launcher,
        values: Values<'_>,
        command: Command,
        input: OwnedFd,
    ) -> io::Result<(ChildProcess, Self)> {
        let (child, errors) = start(command, input, launcher.name().to_owned())?;
        errors.share();
        Ok((child, Self { site: Site::new(launcher, values), errors, is_member: true, has_connected: false }))
    }

    /// One of these workers, with this index, which has connected.
    #[cfg(feature = "cluster")]
    pub(crate) fn member(&self, index: usize) -> Self {
        let site = Site { index, ..self.site.clone() };
        Self { site, errors: self.errors.clone(), is_member: true, has_connected: true }
    }

    pub(crate) fn errors(&self) -> &Arc<LineStream> {
        &self.errors
    }

    /// Whether this process, which was its launcher, is the worker by now, as behind `env` or `nice`.
    pub(super) fn is_worker(&self, child: &ChildProcess) -> bool {
        self.site.origin.as_ref().and_then(|origin| i32::try_from(origin.pid).ok()) == Some(child.number())
    }

    /// How its worker has ended, by the end of the process that was its launcher.
    pub(super) fn exit(&self, child: &ChildProcess) -> Option<WorkerExit> {
        let exit = child.exit()?;
        Some(if self.is_worker(child) { exit } else { exit_behind(exit) })
    }

    /// Notes that the launcher has ended.
    pub(super) fn leave(&self) {
        if !self.is_member {
            self.errors.leave();
        }
    }

    /// Takes in where the worker says it is.
    pub(crate) fn greet(&mut self, origin: Origin) -> &Site {
        self.site.origin = Some(origin);
        if self.is_member {
            self.errors.greet(self.site.worker(), self.site.mark());
        } else {
            self.errors.set_mark(self.site.mark(), self.site.worker());
        }
        &self.site
    }

    /// What is known about it when it has ended. `junk` is what came instead of messages.
    pub(crate) fn remains(&self, junk: &[u8]) -> Remains {
        let is_one_of_many = self.is_member && self.site.origin.is_some();
        let last_output =
            if is_one_of_many { self.errors.last_output_of(&self.site.worker()) } else { self.errors.last_output() };
        let junk = String::from_utf8_lossy(&junk[..junk.len().min(QUOTED)]).trim().to_owned();
        Remains { site: self.site.clone(), last_output, junk, has_connected: self.has_connected }
    }
}

impl Site {
    fn new(launcher: &Launcher, values: Values<'_>) -> Self {
        let host = values.host.map(str::to_owned);
        Self { index: values.index, host, launcher: launcher.typed(values), origin: None }
    }

    /// The site of a worker on this machine, without a launcher.
    pub(crate) fn here(origin: Origin) -> Self {
        Self { index: 0, host: None, launcher: String::new(), origin: Some(origin) }
    }

    /// The mark of its lines on standard error.
    fn mark(&self) -> String {
        match self.host() {
            Some(host) => format!("{host}/{}", self.index),
            None => self.index.to_string(),
        }
    }

    pub(crate) fn status(&self, is_busy: bool) -> WorkerStatus {
        let Origin { pid, job, step, .. } = self.origin.clone().unwrap_or_default();
        let known = |text: String| Some(text).filter(|text| !text.is_empty());
        let host = self.host().unwrap_or_default().to_owned();
        WorkerStatus { index: self.index, host, pid, job: known(job), step: known(step), is_busy }
    }

    /// Its name in reports.
    pub(crate) fn worker(&self) -> WorkerId {
        let is_here = self.launcher.is_empty();
        let id = self.origin.as_ref().map_or(0, |origin| origin.pid);
        WorkerId::Process { id, host: self.host().filter(|_| !is_here).map(Arc::from) }
    }

    pub(crate) fn host(&self) -> Option<&str> {
        self.origin.as_ref().map(|origin| &*origin.host).or(self.host.as_deref())
    }
}

/// To follow a noun: ` on node7 (process 4711, job 17, step 3)`.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(host) = self.host() else { return write!(f, " {}", self.index) };
        write!(f, " on {host}")?;
        let Some(Origin { pid, job, step, .. }) = &self.origin else { return Ok(()) };
        write!(f, " (process {pid}")?;
        for (what, value) in [("job", job), ("step", step)].into_iter().filter(|(_, value)| !value.is_empty()) {
            write!(f, ", {what} {value}")?;
        }
        f.write_str(")")
    }
}

/// What the launcher did, and what it said.
impl Remains {
    pub(crate) fn description(&self, ended: impl fmt::Display) -> String {
        let launcher = &self.site.launcher;
        self.with_output(if self.has_connected {
            format!("its connection has ended, and `{launcher}` has started it")
        } else {
            format!("its launcher, `{launcher}`, has ended: {ended}")
        })
    }

    /// The same for a launcher that is not known to have ended, or not by itself.
    pub(crate) fn description_so_far(&self) -> String {
        self.with_output(format!("its launcher is `{}`", self.site.launcher))
    }

    fn with_output(&self, mut text: String) -> String {
        if !self.junk.is_empty() {
            text += &format!("; {:?} came instead of a ", self.junk);
            text += match self.site.origin {
                None => "greeting",
                Some(_) => "message, and only its worker may write to the standard output of a launcher",
            };
        }
        add_last_output(&mut text, &self.last_output);
        text
    }
}

pub(super) fn add_last_output(text: &mut String, last_output: &str) {
    if !last_output.is_empty() {
        *text += &format!("; last output: {last_output}");
    }
}

/// How a worker has ended, judged by its launcher. Launchers and shells report a signal as exit code 128 + n.
pub(crate) fn exit_behind(exit: WorkerExit) -> WorkerExit {
    match exit {
        WorkerExit::Code(code @ 129..=192) => WorkerExit::Signal(code - 128),
        exit => exit,
    }
}

/// Starts a launcher, whose lines on standard error begin with this mark. They are its own until a worker greets.
fn start(mut command: Command, input: OwnedFd, mark: String) -> io::Result<(ChildProcess, Arc<LineStream>)> {
    // A test harness, or a program that does not know yet that it is a worker, may print something.
    let child = command.stdin(input).stdout(dev_null()?).stderr(Stdio::piped()).spawn()?;
    ChildProcess::adopt(child, |child| {
        let errors = OwnedFd::from(child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let launcher = WorkerId::Process { id: child.id(), host: None };
        LineStream::new(above_standard(errors)?, OutputStream::Stderr, launcher, mark, None)
    })
}
