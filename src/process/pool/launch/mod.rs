//! One worker process: its start, its introduction, its end.

pub(super) mod child;
pub(super) mod killed_launchers;
pub(super) mod launched;
pub(crate) mod start_error;
pub(super) mod termination;

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, process};

use rustix::process::{Pid, Signal};

use crate::error::remote::RemoteError;
use crate::error::{TaskErrorKind, WorkerExit};
use crate::process::launcher::{Lifetime, Values, argument_of};
use crate::process::output::WorkerOutput;
use crate::process::pool::launch::child::ChildProcess;
use crate::process::pool::launch::launched::{Launched, MOST_JUNK, Remains, Site};
use crate::process::pool::launch::start_error::{missing, name_program};
use crate::process::pool::output::captured::CapturedOutput;
use crate::process::pool::scheduler::events::{self, Seat, Worth};
use crate::process::protocol::channel::Channel;
use crate::process::protocol::descriptor::dev_null;
use crate::process::protocol::memory::Memory;
use crate::process::protocol::wire::outbox::Outbox;
use crate::process::protocol::wire::{
    self, Hello, Origin, Outcome, Ready, Request, Run, Surroundings, VERSION, Variable, WireError,
};
use crate::process::registry::{TaskRegistry, is_this_program, tasks_of};
use crate::process::settings::{Initializer, Launch, Program};
use crate::process::{build_id, program, trampoline, worker_args};
use crate::sync::shortage;
use crate::task::remote::Record;

/// How long the launcher of many workers may take to say how one of them has ended.
const REPORT_TIMEOUT: Duration = Duration::from_millis(200);

const KILLED: WorkerExit = WorkerExit::Signal(Signal::KILL.as_raw());

/// A worker that is running, as far as this program can see it.
pub(crate) enum Process {
    /// The worker itself, what it was started from, and what it writes, if that comes here.
    Worker { child: ChildProcess, program: usize, captured: Option<CapturedOutput> },
    /// The launcher that has started the worker.
    Launcher { child: ChildProcess, launched: Launched },
    /// A worker that was started elsewhere, so that its end is that of its connection: how that ended, and when.
    #[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "only crews have such workers"))]
    Elsewhere { launched: Launched, disconnected: Option<(WorkerExit, Instant)> },
}

/// How a worker ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) exit: WorkerExit,
    /// What was wrong with what it had sent.
    pub(crate) fault: Option<WireError>,
    /// The signal that had stopped it when it was killed.
    pub(crate) stopped: Option<i32>,
    /// The initializer that it was running.
    pub(crate) initializer: Option<&'static str>,
    /// What it was started from.
    pub(crate) program: usize,
    /// The last record of its task.
    pub(crate) record: Option<Record>,
    /// What is known about it, if a launcher has started it.
    pub(crate) remains: Option<Box<Remains>>,
    /// Whether all that it had said is known, sent or only noted.
    pub(crate) is_exact: bool,
    /// The end of what it had written to standard error, if that came here.
    pub(crate) last_output: String,
}

/// Why there is no worker.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The kind of the error of the tasks that needed it.
    pub(crate) kind: TaskErrorKind,
    pub(crate) error: RemoteError,
    worth: Worth,
}

impl Failure {
    /// The system could not start `what`.
    pub(crate) fn of_system(what: &str, error: &io::Error) -> Self {
        Self::of(what, error, Worth::Attempts(3))
    }

    /// The same. `worth` is for where the system lacks nothing.
    fn of(what: &str, error: &io::Error, worth: Worth) -> Self {
        let missing = missing(error);
        let worth = if missing.is_some() { Worth::Patience } else { worth };
        let message = shortage::hinted(&format!("its executor could not start {what}"), missing);
        let error = RemoteError::new(&message, error);
        Self { kind: TaskErrorKind::Rejected, error, worth }
    }

    /// The command that starts many workers could not be started: one attempt, however many of them there are.
    #[cfg(feature = "cluster")]
    pub(super) fn of_crew(error: &io::Error) -> Self {
        Self::of("worker processes that connect", error, Worth::Rounds(3))
    }

    /// The system could not start the threads, even after a while where waiting might have helped.
    pub(super) fn of_threads(error: &io::Error) -> Self {
        Self { worth: Worth::Attempts(1), ..Self::of_system("the threads that serve its workers", error) }
    }

    /// A launcher has brought no worker, or one that was lost before it was ready.
    fn launch(remains: &Remains, exit: WorkerExit, what: String) -> Self {
        let has_come = remains.site.origin.is_some();
        let kind = if has_come { TaskErrorKind::WorkerLost(exit) } else { TaskErrorKind::Rejected };
        // A process that somebody else has killed may survive the next time.
        let rounds = if exit == KILLED { 10 } else { 3 };
        Self { kind, error: what.into(), worth: Worth::Hosts(rounds) }
    }

    /// A worker has not connected, although others that the same command has started have.
    #[cfg(feature = "cluster")]
    pub(super) fn absent(launch: &Launch, patience: Duration, last_output: &str) -> Self {
        let mut what = format!(
            "a worker has not connected within {patience:?} of the others that `{}` has started",
            launch.launcher
        );
        launched::add_last_output(&mut what, last_output);
        Self { kind: TaskErrorKind::Rejected, error: what.into(), worth: Worth::Hosts(3) }
    }

    fn unfit(error: RemoteError) -> Self {
        Self { kind: TaskErrorKind::Rejected, error, worth: Worth::Attempts(1) }
    }
}

impl events::Failure<Box<End>> for Failure {
    fn lost(end: Box<End>) -> Self {
        let End { exit, fault, stopped, initializer, program, remains, .. } = *end;
        if let Some(remains) = remains {
            let mut what = format!("its worker{} could not be started: ", remains.site);
            match fault {
                Some(silence @ WireError::Silence(_)) => {
                    what += &format!("it has said {silence}");
                    launched::add_last_output(&mut what, &remains.last_output);
                }
                Some(WireError::NoHello) => {
                    what += &format!(
                        "more than {} KiB came before it through the standard output of its launcher; {}",
                        MOST_JUNK / 1024,
                        remains.description_so_far()
                    );
                }
                _ => what += &remains.description(exit),
            }
            return Self::launch(&remains, exit, what);
        }
        let what = match (fault, initializer) {
            (Some(fault), _) => format!("its worker has sent {fault} at its start: {exit}"),
            (None, Some(name)) => {
                let stopped = stopped.map_or(String::new(), |signal| format!("; {}", child::stopped_by(signal)));
                format!("its worker ended in the initializer `{name}`: {exit}{stopped}")
            }
            (None, None) => format!(
                "its worker, {}, ended before it was ready: {exit}; `TaskRegistry::init` has to be the first thing that \
                 `main` calls",
                program::name(program)
            ),
        };
        let worth = match exit {
            _ if program::chosen() != program => Worth::Patience,
            // What has stopped it may do so again, and each time takes a while.
            _ if stopped.is_some() => Worth::Attempts(2),
            // A process that somebody else has killed may survive the next time; one that dies by itself hardly ever
            // does.
            KILLED => Worth::Attempts(10),
            // It ended without coming to `init`, and will do so again.
            WorkerExit::Code(0) => Worth::Attempts(1),
            _ => Worth::Attempts(3),
        };
        Self { kind: TaskErrorKind::WorkerLost(exit), error: what.into(), worth }
    }

    fn unused(end: Box<End>) -> Self {
        let End { exit, remains, last_output, .. } = *end;
        let mut how = format!(": {exit}");
        launched::add_last_output(&mut how, &last_output);
        let how = remains.map_or(how, |remains| format!("{}: {}", remains.site, remains.description(exit)));
        let what = format!(
            "several workers ended before they had begun with it, perhaps because its input is too large for their memory, \
             or for a slow connection; the last one{how}"
        );
        Self { kind: TaskErrorKind::WorkerLost(exit), error: what.into(), worth: Worth::Attempts(1) }
    }

    fn unanswered() -> Self {
        let what = format!(
            "its executor could not start a worker process: the system has not answered for {} s; the program may be on a \
             file system that does not answer",
            events::START.as_secs()
        );
        Self { kind: TaskErrorKind::Rejected, error: what.into(), worth: Worth::Attempts(1) }
    }

    fn not_ready(end: Box<End>) -> Self {
        let End { exit, remains, .. } = *end;
        if let Some(remains) = remains {
            // A launcher of many workers is not ended because of one of them.
            let description =
                if exit == WorkerExit::Unknown { remains.description_so_far() } else { remains.description(exit) };
            let what = format!("its worker{} has not started within the `start_timeout`: {description}", remains.site);
            return Self::launch(&remains, exit, what);
        }
        let what = format!(
            "its worker, {}, was killed because it had not called `TaskRegistry::init` within {} s: call that first in \
             `main`",
            program::name(program::chosen()),
            events::START.as_secs()
        );
        Self { kind: TaskErrorKind::WorkerLost(KILLED), error: what.into(), worth: Worth::Attempts(1) }
    }

    fn worth(&self) -> Worth {
        self.worth
    }
}

impl Launch {
    /// The signal that has stopped a worker, if it is stopped.
    pub(super) fn stopped(&self, worker: u32) -> Option<i32> {
        let worker = i32::try_from(worker).ok().filter(|_| self.launcher.is_local())?;
        child::stopped(Pid::from_raw(worker)?)
    }

    /// Starts a worker for this task, and says hello.
    pub(crate) fn start(&self, task: &str, seat: Seat) -> Result<(Process, Channel), Failure> {
        self.try_to_start(task, seat).map_err(|error| Failure::of_system("a worker process", &error))
    }

    fn try_to_start(&self, task: &str, seat: Seat) -> io::Result<(Process, Channel)> {
        let (process, mut channel) = self.spawn(task, seat)?;
        if process.is_launcher() {
            channel.outbox().request(Request::Surroundings(self.surroundings()));
            channel.outbox().request(Request::Hello(self.hello(false)));
        } else {
            let memory = if self.without_memory { None } else { Memory::new().ok() };
            // If the worker is gone already, that is noticed later. Otherwise, the system sends no descriptors.
            let _ = self.say_hello(&mut channel, memory).or_else(|_| self.say_hello(&mut channel, None));
        }
        if !self.is_muted_at_first() {
            self.prepare(&channel);
        }
        Ok((process, channel))
    }

    fn say_hello(&self, channel: &mut Channel, memory: Option<Memory>) -> io::Result<()> {
        let mut first = Outbox::default();
        first.request(Request::Hello(self.hello(memory.is_some())));
        channel.send_first(&first.into_bytes(), memory)
    }

    /// Says hello to a worker that has connected.
    #[cfg(feature = "cluster")]
    pub(super) fn greet(&self, channel: &Channel) {
        channel.outbox().request(Request::Hello(self.hello(false)));
        self.prepare(channel);
    }

    /// Whether what a worker writes does not count until it is ready, as the harness of a test program writes as well. It gets
    /// its initializer only then.
    pub(super) fn is_muted_at_first(&self) -> bool {
        self.launcher.is_local() && matches!(self.program, Program::Test(_))
    }

    /// Has it run the initializer.
    pub(super) fn prepare(&self, channel: &Channel) {
        if let Some(Initializer { function, input }) = self.initializer.clone() {
            let run = Run { id: 0, place: 0, wanted: 0, timeout: wire::NO_TIMEOUT };
            channel.outbox().request(Request::Run { run, function: function.into(), name: None, input });
        }
    }

    fn hello(&self, shares_memory: bool) -> Hello {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Hello {
            version: VERSION,
            depth: worker_args::depth(),
            report_interval: nanos(self.report_interval),
            max_frame: self.max_frame,
            shares_memory,
            heartbeat: self.launcher.heartbeat_interval().map_or(0, nanos),
            log_level: self.log_level,
            parent: if self.launcher.is_local() { process::id() } else { 0 },
        }
    }

    fn spawn(&self, task: &str, seat: Seat) -> io::Result<(Process, Channel)> {
        // One at a time where a socket cannot be created close-on-exec in one step: a worker that is started meanwhile
        // would inherit the channel of this one. Elsewhere, a start that hangs holds up no other pool.
        static SPAWNING: Mutex<()> = Mutex::new(());
        let is_exclusive = !cfg!(target_os = "linux");
        let _one_at_a_time = is_exclusive.then(|| SPAWNING.lock().unwrap_or_else(PoisonError::into_inner));

        let (channel, theirs) = Channel::pair()?;
        if !self.launcher.is_local() {
            // Computed here, as that may read the whole file: where the id is compared, the pool is locked and no
            // heartbeats are sent.
            build_id::of_this_process()?;
            let Seat { index, attempt, host } = seat;
            let values = Values { index, count: self.max_workers, host: self.launcher.host(host), attempt };
            let command = self.launcher_command(values, [worker_args::LAUNCHED.into(), worker_args::argument(task)])?;
            let started = Launched::start(&self.launcher, values, command, theirs);
            let (child, launched) = started.map_err(|error| name_program(program::chosen(), "", error))?;
            return Ok((Process::Launcher { child, launched }, channel));
        }
        let program = program::chosen();
        let child = self.command(program, task)?.stdin(theirs).spawn();
        let child = child.map_err(|error| name_program(program, &self.suspect_setting(&error), error))?;
        let (child, captured) =
            ChildProcess::adopt(child, |child| CapturedOutput::of(child, self.is_muted_at_first()))?;
        Ok((Process::Worker { child, program, captured }, channel))
    }

    fn command(&self, program: usize, task: &str) -> io::Result<Command> {
        let mut command = Command::new(program::path(program)?);
        if let Some(name) = env::args_os().next() {
            command.arg0(name);
        }
        if matches!(self.program, Program::Test(_)) {
            command.args(self.program.harness()).stdout(dev_null()?);
        }
        match self.output {
            WorkerOutput::Inherit => {}
            WorkerOutput::Null => _ = command.stdout(dev_null()?).stderr(dev_null()?),
            WorkerOutput::Lines(_) => _ = command.stdout(Stdio::piped()).stderr(Stdio::piped()),
        }
        command.arg(worker_args::argument(task)).process_group(0);
        command.envs(&self.env);
        if let Some(directory) = &self.current_dir {
            command.current_dir(directory);
        }
        Ok(command)
    }

    /// The setting that may be the cause of the error of a worker that was not started, to follow the name of its program.
    fn suspect_setting(&self, error: &io::Error) -> String {
        let setting = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied => {
                self.current_dir.as_ref().map(|directory| format!(" in the `current_dir` {directory:?}"))
            }
            io::ErrorKind::ArgumentListTooLong => {
                let longest = self.env.iter().max_by_key(|(name, value)| name.len() + value.len());
                longest.map(|(name, value)| format!(" with `env`, whose longest is {name:?} of {} bytes", value.len()))
            }
            _ => None,
        };
        setting.unwrap_or_default()
    }

    /// The command that becomes the launcher, for a worker with these arguments.
    pub(super) fn launcher_command(&self, values: Values<'_>, arguments: [String; 2]) -> io::Result<Command> {
        let program = match self.launcher.remote_program(values) {
            Some(program) => program,
            None => argument_of(&program::location()?).map_err(io::Error::other)?,
        };
        let harness = self.program.harness();
        let mut command = Command::new(program::path(program::chosen())?);
        command.args(&harness).arg(trampoline::argument(process::id(), arguments[0] == worker_args::LAUNCHED));
        let worker = [program].into_iter().chain(harness).chain(arguments).collect();
        command.args(self.launcher.command_line(values, worker));
        Ok(command)
    }

    /// The directory and the variables for a worker that does not inherit them.
    pub(super) fn surroundings(&self) -> Surroundings {
        let here = env::current_dir().ok();
        let directory = match (&self.current_dir, here) {
            // The launcher may change the directory.
            (Some(directory), Some(here)) => Some(here.join(directory)),
            (directory, here) => directory.clone().or(here),
        };
        // These name the place of this process: a worker that lacks them is in another place.
        let is_of_here = |name: &OsString| wire::OF_A_PLACE.iter().any(|other| name == other);
        let as_bytes = |(name, value): (OsString, OsString)| -> Variable { (name.into_vec(), value.into_vec()) };
        Surroundings {
            version: VERSION,
            directory: directory.map(|path| path.into_os_string().into_vec()).unwrap_or_default(),
            set: self.env.clone().into_iter().map(as_bytes).collect(),
            offered: env::vars_os()
                .filter(|(name, _)| !self.env.contains_key(name) && !is_of_here(name))
                .map(as_bytes)
                .collect(),
        }
    }

    /// Whether a worker that has said who it is can be used.
    pub(crate) fn compare(&self, ready: &Ready) -> Result<(), Failure> {
        let Ready { version, fingerprint: theirs, .. } = ready;
        let unfit = |what: String| Err(Failure::unfit(what.into()));
        if *version != VERSION {
            return unfit(WireError::Version(*version).to_string());
        }
        if let Some(difference) = self.difference(ready) {
            return unfit(difference);
        }
        // A test program does not know its tasks.
        if matches!(self.program, Program::Main) && theirs.tasks != tasks_of(TaskRegistry::of_this_process()) {
            let what =
                "its worker has registered other tasks than this process; register the same ones in every process";
            return unfit(what.into());
        }
        Ok(())
    }

    /// Whether a worker of this program has all that it needs to serve.
    pub(crate) fn check_defect(&self, Ready { origin, defect, .. }: &Ready) -> Result<(), Failure> {
        if *defect == 0 {
            return Ok(());
        }
        let place = if self.launcher.is_local() { String::new() } else { format!(" on {}", origin.host) };
        let error = io::Error::from_raw_os_error(*defect);
        Err(Failure::of_system(&format!("a worker process{place}"), &error))
    }

    /// How a worker's build of the program differs from this one, if it does.
    fn difference(&self, Ready { fingerprint, origin, .. }: &Ready) -> Option<String> {
        let theirs = fingerprint.binary;
        if self.launcher.is_local() {
            return (!is_this_program(theirs)).then(|| "its worker runs another build of the program".into());
        }
        if theirs == 0 {
            return Some(format!(
                "its worker on {} cannot read the file of its program, {}",
                origin.host, origin.program
            ));
        }
        // It could be read when the worker was started.
        let ours = build_id::of_this_process().unwrap_or(0);
        (theirs != ours).then(|| {
            format!(
                "its worker on {} runs another build of the program: {} is {theirs:016x}, and this is {ours:016x}; copy this \
                 one there, or say where it is with `Launcher::program`",
                origin.host, origin.program
            )
        })
    }

    /// When a worker stops taking tasks, if that is limited.
    pub(crate) fn expiry(&self, origin: &Origin, now: Instant) -> Result<Option<Instant>, Failure> {
        let Some(Lifetime { of, margin }) = self.launcher.worker_lifetime() else { return Ok(None) };
        let left = if origin.lifetime == u64::MAX { of } else { Duration::from_secs(origin.lifetime) };
        match left.checked_sub(margin).filter(|useful| !useful.is_zero()) {
            // A time beyond what an `Instant` can hold never comes.
            Some(useful) => Ok(now.checked_add(useful)),
            None => Err(Failure::unfit(
                format!(
                    "its worker on {} ends in {left:?}, and takes no task in the last {margin:?} of its `lifetime`",
                    origin.host
                )
                .into(),
            )),
        }
    }

    /// Checks whether the initializer of a worker has left it fit for use. `expires` is when it stops taking tasks.
    pub(crate) fn judge(&self, outcome: Outcome, expires: Option<Instant>) -> Result<(), Failure> {
        let name = self.initializer.as_ref().map_or("", |initializer| initializer.function);
        let Outcome::Error(ending, texts) = outcome else {
            // Another worker would fare no better.
            let is_over = expires.is_some_and(|at| at <= Instant::now());
            let what =
                || format!("the initializer `{name}` of its worker took all the time of its `lifetime` for tasks");
            return if is_over { Err(Failure::unfit(what().into())) } else { Ok(()) };
        };
        let what = format!("the initializer `{name}` of its worker {}", ending.verb());
        let error = RemoteError::from_chain([what].into_iter().chain(texts).collect());
        Err(Failure { kind: ending.kind(), error, worth: Worth::Attempts(1) })
    }
}

impl Process {
    /// The process on this machine that must be ended with it, if there is any.
    pub(super) fn child(&self) -> Option<&ChildProcess> {
        match self {
            Self::Worker { child, .. } | Self::Launcher { child, .. } => Some(child),
            Self::Elsewhere { .. } => None,
        }
    }

    pub(super) fn into_child(self) -> Option<ChildProcess> {
        match self {
            Self::Worker { child, .. } | Self::Launcher { child, .. } => Some(child),
            Self::Elsewhere { .. } => None,
        }
    }

    pub(super) fn is_launcher(&self) -> bool {
        matches!(self, Self::Launcher { .. })
    }

    /// Whether it is a launcher that was killed, and not replaced by its worker before: it may not have passed on all
    /// that the worker had said.
    pub(super) fn is_cut_off(&self) -> bool {
        let Self::Launcher { child, launched } = self else { return false };
        !launched.is_worker(child) && matches!(child.exit(), Some(WorkerExit::Signal(_)))
    }

    pub(super) fn launched(&self) -> Option<&Launched> {
        match self {
            Self::Worker { .. } => None,
            Self::Launcher { launched, .. } | Self::Elsewhere { launched, .. } => Some(launched),
        }
    }

    pub(super) fn captured(&self) -> Option<&CapturedOutput> {
        if let Self::Worker { captured, .. } = self { captured.as_ref() } else { None }
    }

    /// What it was started from.
    pub(super) fn program(&self) -> usize {
        if let Self::Worker { program, .. } = self { *program } else { program::chosen() }
    }

    /// Takes in where the worker says it is.
    pub(super) fn greet(&mut self, origin: Origin) -> Site {
        match self {
            Self::Worker { .. } => Site::here(origin),
            Self::Launcher { launched, .. } | Self::Elsewhere { launched, .. } => launched.greet(origin).clone(),
        }
    }

    /// Takes the end of its connection for that of the process, if that was started elsewhere. Returns whether it was.
    pub(super) fn disconnect(&mut self, exit: WorkerExit) -> bool {
        let Self::Elsewhere { disconnected, .. } = self else { return false };
        disconnected.get_or_insert((exit, Instant::now()));
        true
    }

    /// How it ended, if it has. Does not reap it.
    pub(super) fn exit(&self) -> Option<WorkerExit> {
        match self {
            Self::Worker { child, .. } => child.exit(),
            Self::Launcher { child, launched } => launched.exit(child),
            // What its launcher has to say about an unexpected end comes a moment later.
            Self::Elsewhere { disconnected, .. } => disconnected
                .filter(|(exit, at)| *exit == WorkerExit::Code(0) || at.elapsed() >= REPORT_TIMEOUT)
                .map(|(exit, _)| exit),
        }
    }

    /// Notes that it has ended: what it has written is read to the end, and no further.
    pub(super) fn leave_streams(&self) {
        self.captured().into_iter().for_each(CapturedOutput::leave);
        self.launched().into_iter().for_each(Launched::leave);
    }
}
