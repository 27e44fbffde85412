//! One worker process: its start, its introduction, its end.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid};

use crate::codec::Encoded;
use crate::error::{TaskErrorKind, WorkerExit};
use crate::process::error::RemoteError;
use crate::process::pool::terms::{self, Worth};
use crate::process::protocol::channel::Channel;
use crate::process::protocol::descriptor::above_standard;
use crate::process::protocol::memory::Memory;
use crate::process::protocol::wire::outbox::Outbox;
use crate::process::protocol::wire::{self, Fingerprint, Hello, Outcome, Ready, Request, Run, VERSION, WireError};
use crate::process::registry::{TaskRegistry, fingerprint};
use crate::process::{program, worker_args};
use crate::task::remote::Record;

const KILLED: WorkerExit = WorkerExit::Signal(Signal::KILL.as_raw());

/// How workers are started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launch {
    pub(crate) program: Program,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) current_dir: Option<PathBuf>,
    pub(crate) initializer: Option<Initializer>,
    pub(crate) report_interval: Duration,
    pub(crate) max_frame: u64,
    /// Nothing but the channel is shared with workers.
    pub(crate) without_memory: bool,
}

/// What kind of program this is.
#[derive(Clone, Debug, Default)]
pub(crate) enum Program {
    /// Its `main` calls `init`.
    #[default]
    Main,
    /// It is a test program; this test calls `init`.
    Test(String),
}

/// A task that each worker runs before any other.
#[derive(Clone, Debug)]
pub(crate) struct Initializer {
    pub(crate) function: &'static str,
    pub(crate) input: Encoded,
}

/// A worker that is running.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    /// What it was started from.
    program: usize,
    /// Where there are such descriptors.
    pidfd: Option<OwnedFd>,
}

/// How a worker ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) exit: WorkerExit,
    /// What it had sent that made no sense.
    pub(crate) fault: Option<WireError>,
    /// The signal that had stopped it when it was killed.
    pub(crate) stopped: Option<i32>,
    /// What it was started from.
    pub(crate) program: usize,
    /// What its task had said last.
    pub(crate) record: Option<Record>,
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
    /// The system did not start it.
    pub(crate) fn of_system(what: &str, error: &io::Error) -> Self {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        let (hint, worth) = match errno {
            Some(Errno::MFILE) => (" (the limit on open files, `ulimit -n`, is reached)", Worth::Patience),
            Some(Errno::NFILE) => (" (the system has no more open files)", Worth::Patience),
            Some(Errno::AGAIN) => (" (the limit on processes, `ulimit -u`, is reached)", Worth::Patience),
            Some(Errno::NOMEM) => (" (there is not enough memory)", Worth::Patience),
            _ => ("", Worth::Attempts(3)),
        };
        let error = RemoteError::new(&format!("its executor could not start {what}{hint}"), error);
        Self { kind: TaskErrorKind::Rejected, error, worth }
    }

    fn unfit(error: RemoteError) -> Self {
        Self { kind: TaskErrorKind::Rejected, error, worth: Worth::Attempts(1) }
    }
}

impl terms::Failure<End> for Failure {
    fn lost(End { exit, fault, program, .. }: End) -> Self {
        let what = match fault {
            Some(fault) => format!("its worker has sent {fault} at its start: {exit}"),
            None => format!(
                "its worker, {}, ended before it was ready: {exit}; `TaskRegistry::init` has to be the first thing that \
                 `main` calls",
                program::name(program)
            ),
        };
        let worth = match exit {
            _ if program::chosen() != program => Worth::Patience,
            // What somebody else has killed may live the next time; what dies by itself hardly ever does.
            KILLED => Worth::Attempts(10),
            // It went its way without coming to `init`, and will do so again.
            WorkerExit::Code(0) => Worth::Attempts(1),
            _ => Worth::Attempts(3),
        };
        Self { kind: TaskErrorKind::WorkerLost(exit), error: what.into(), worth }
    }

    fn not_ready() -> Self {
        let what = format!(
            "its worker, {}, was killed because it had not come to call `TaskRegistry::init` in {} s: call that first in \
             `main`",
            program::name(program::chosen()),
            terms::START.as_secs()
        );
        Self { kind: TaskErrorKind::WorkerLost(KILLED), error: what.into(), worth: Worth::Attempts(1) }
    }

    fn worth(&self) -> Worth {
        self.worth
    }
}

impl Launch {
    /// Starts a worker, and says hello. `task` is the one that it is started for.
    pub(crate) fn start(&self, task: &str) -> Result<(Process, Channel), Failure> {
        self.try_to_start(task).map_err(|error| Failure::of_system("a worker process", &error))
    }

    fn try_to_start(&self, task: &str) -> io::Result<(Process, Channel)> {
        let (process, mut channel) = self.spawn(task)?;
        let memory = if self.without_memory { None } else { Memory::new().ok() };
        // A worker that is gone already is seen to be so later.
        let _ = channel.send_first(&self.hello(memory.is_some()), memory);
        if let Some(Initializer { function, input }) = self.initializer.clone() {
            let run = Run { id: 0, place: 0, wanted: 0, timeout: wire::NO_TIMEOUT };
            channel.outbox().request(Request::Run { run, function: function.into(), input });
        }
        Ok((process, channel))
    }

    fn hello(&self, shares_memory: bool) -> Vec<u8> {
        let mut first = Outbox::default();
        first.request(Request::Hello(Hello {
            version: VERSION,
            depth: worker_args::depth(),
            report_interval: u64::try_from(self.report_interval.as_nanos()).unwrap_or(u64::MAX),
            max_frame: self.max_frame,
            shares_memory,
        }));
        first.into_bytes()
    }

    fn spawn(&self, task: &str) -> io::Result<(Process, Channel)> {
        // One after the other: where a socket cannot be made and marked as private in one step, a worker that is
        // started meanwhile would inherit the channel of this one.
        static SPAWNING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);

        let (ours, theirs) = UnixStream::pair()?;
        let channel = Channel::new(ours)?;
        let theirs = above_standard(OwnedFd::from(theirs))?;
        let program = program::chosen();
        let child = self.command(program, task)?.stdin(theirs).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        Ok((Process { pid, program, pidfd: open_pidfd(pid) }, channel))
    }

    fn command(&self, program: usize, task: &str) -> io::Result<Command> {
        let mut command = Command::new(program::path(program)?);
        if let Some(name) = std::env::args_os().next() {
            command.arg0(name);
        }
        if let Program::Test(test) = &self.program {
            // As a standard descriptor it would be written over by the one for standard input.
            let nowhere = above_standard(File::options().write(true).open("/dev/null")?)?;
            command.args([test, "--exact", "--nocapture", "--test-threads=1", "--"]).stdout(nowhere);
        }
        command.arg(format!("{}{task}", worker_args::ARGUMENT)).process_group(0);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(directory) = &self.current_dir {
            command.current_dir(directory);
        }
        Ok(command)
    }

    /// Whether a worker that has said who it is can be used.
    pub(crate) fn compare(&self, Ready { version, fingerprint: theirs }: Ready) -> Result<(), Failure> {
        let unfit = |what: &str| Err(Failure::unfit(what.to_string().into()));
        if version != VERSION {
            return unfit(&WireError::Version(version).to_string());
        }
        let Fingerprint { binary, tasks } = fingerprint(TaskRegistry::of_this_process());
        if theirs.binary != binary {
            return unfit("its worker runs another build of the program");
        }
        // A test program does not know its tasks.
        if matches!(self.program, Program::Main) && theirs.tasks != tasks {
            return unfit(
                "its worker has registered other tasks than this process; register the same ones in every process",
            );
        }
        Ok(())
    }

    /// Whether the initializer of a worker has left it fit for use.
    pub(crate) fn judge(&self, outcome: Outcome) -> Result<(), Failure> {
        let Outcome::Error(ending, texts) = outcome else { return Ok(()) };
        let name = self.initializer.as_ref().map_or("", |initializer| initializer.function);
        let what = format!("the initializer `{name}` of its worker {}", ending.verb());
        let error = RemoteError::from_chain([what].into_iter().chain(texts).collect());
        Err(Failure { kind: ending.kind(), error, worth: Worth::Attempts(1) })
    }
}

#[cfg(target_os = "linux")]
fn open_pidfd(pid: Pid) -> Option<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    above_standard(pidfd).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_pidfd(_pid: Pid) -> Option<OwnedFd> {
    None
}

impl Process {
    pub(crate) fn program(&self) -> usize {
        self.program
    }

    /// Readable once the process has ended.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Ends the worker now, with everything in its process group.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal to its process group.
    pub(crate) fn signal(&self, signal: Signal) {
        // A number that is not ours any more, because somebody else has reaped it, may be that of any process.
        if self.look(WaitIdOptions::EXITED).is_ok() {
            // The only error is that it has ended.
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// Its end is looked for now and then, instead of waited for.
    pub(crate) fn forget_pidfd(&mut self) {
        self.pidfd = None;
    }

    /// The signal that has stopped it, if it is stopped.
    pub(crate) fn stopped(&self) -> Option<i32> {
        self.look(WaitIdOptions::STOPPED).ok()??.stopping_signal()
    }

    /// How it ended, if it has. It is not reaped yet.
    pub(crate) fn exit(&self) -> Option<WorkerExit> {
        match self.look(WaitIdOptions::EXITED) {
            Ok(status) => {
                status.map(|status| WorkerExit::from_parts(status.exit_status(), status.terminating_signal()))
            }
            // Somebody else has reaped it.
            Err(_) => Some(WorkerExit::Unknown),
        }
    }

    /// Lets the system forget a process that has ended.
    pub(crate) fn reap(self) {
        let _ = waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }

    fn look(&self, what: WaitIdOptions) -> rustix::io::Result<Option<WaitIdStatus>> {
        let look = what | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        rustix::io::retry_on_intr(|| waitid(WaitId::Pid(self.pid), look))
    }
}
