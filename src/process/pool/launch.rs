//! One worker process: its start, its introduction, its end.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::codec::Encoded;
use crate::error::{TaskErrorKind, WorkerExit};
use crate::process::error::RemoteError;
use crate::process::protocol::channel::{Line, Received};
use crate::process::protocol::journal::Journal;
use crate::process::protocol::wire;
use crate::process::protocol::wire::{Decoder, Hello, Outbox, Outcome, Reply, Request, VERSION, WireError};
use crate::process::registry::{TaskRegistry, fingerprint};
use crate::process::{program, worker_args};

/// How long a program may take to come to its call of `init`.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often somebody who waits for a worker to start looks whether that is still wanted.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a process may take to end that has closed its channel.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// How long a worker may take to end that was asked to.
const FAREWELL: Duration = Duration::from_secs(5);

const ATTEMPTS: u32 = 3;
const MANY_ATTEMPTS: u32 = 10;
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
pub(crate) struct Process {
    child: Child,
    pub(crate) line: Arc<Line>,
    pub(crate) decoder: Decoder,
    journal: Option<Journal>,
}

/// Why there is no worker.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The kind of the error of the tasks that needed it.
    pub(crate) kind: TaskErrorKind,
    pub(crate) error: RemoteError,
    /// After how many attempts in a row there is no use in another one.
    pub(crate) worth_attempts: u32,
}

impl Launch {
    /// Starts a worker, and waits until it is ready for its first task. `task` is the one that it is started for.
    pub(crate) fn start(&self, task: &str, is_wanted: impl Fn() -> bool) -> Result<Process, Failure> {
        let mut process = self.spawn(task).map_err(|error| Failure {
            kind: TaskErrorKind::Rejected,
            error: RemoteError::new("its executor could not start a worker process", &error),
            worth_attempts: ATTEMPTS,
        })?;
        match self.introduce(&mut process, is_wanted) {
            Ok(()) => Ok(process),
            Err(Fault::Lost(what)) => {
                let exit = process.bury(false);
                // What somebody else has killed may live the next time; what dies by itself hardly ever does.
                let worth_attempts = if exit == KILLED { MANY_ATTEMPTS } else { ATTEMPTS };
                let error = RemoteError::from(format!("{what}: {exit}"));
                Err(Failure { kind: TaskErrorKind::WorkerLost(exit), error, worth_attempts })
            }
            Err(Fault::Unfit(what)) => {
                process.kill();
                process.bury(false);
                Err(Failure { kind: TaskErrorKind::Rejected, error: what, worth_attempts: 1 })
            }
            Err(Fault::Initializer(kind, error)) => {
                process.dismiss();
                process.bury(true);
                Err(Failure { kind, error, worth_attempts: 1 })
            }
        }
    }

    fn spawn(&self, task: &str) -> io::Result<Process> {
        // One after the other: where a socket cannot be made and marked as private in one step, a worker that is
        // started meanwhile would inherit the channel of this one.
        static SPAWNING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);

        let (ours, theirs) = UnixStream::pair()?;
        let line = Arc::new(Line::new(ours)?);
        let child = self.command(task)?.stdin(OwnedFd::from(theirs)).spawn()?;
        Ok(Process { child, line, decoder: Decoder::new(self.max_frame), journal: Journal::new().ok() })
    }

    fn command(&self, task: &str) -> io::Result<Command> {
        let mut command = Command::new(program::path()?);
        if let Some(name) = std::env::args_os().next() {
            command.arg0(name);
        }
        if let Program::Test(test) = &self.program {
            command.args([test, "--exact", "--nocapture", "--test-threads=1", "--"]).stdout(Stdio::null());
        }
        command.arg(format!("{}{task}", worker_args::ARGUMENT)).process_group(0);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(directory) = &self.current_dir {
            command.current_dir(directory);
        }
        Ok(command)
    }

    fn introduce(&self, process: &mut Process, is_wanted: impl Fn() -> bool) -> Result<(), Fault> {
        let hello = Hello {
            version: VERSION,
            depth: worker_args::depth(),
            report_interval: u64::try_from(self.report_interval.as_nanos()).unwrap_or(u64::MAX),
            max_frame: self.max_frame,
        };
        let mut first = Outbox::default();
        first.request(Request::Hello(hello));
        // A worker that is gone already is seen to be so below.
        let _ = process.line.send_first(&first.into_bytes(), process.journal.as_ref());
        process.line.send(|outbox| {
            if let Some(Initializer { function, input }) = self.initializer.clone() {
                outbox.request(Request::Run {
                    id: 0,
                    wanted: 0,
                    timeout: wire::NO_TIMEOUT,
                    function: function.into(),
                    input,
                });
            }
        });
        let deadline = Instant::now() + START_TIMEOUT;
        let mut is_ready = false;
        loop {
            match process.receive()? {
                Some(Reply::Ready(ready)) if !is_ready => {
                    self.compare(ready.version, ready.fingerprint)?;
                    is_ready = true;
                    if self.initializer.is_none() {
                        return Ok(());
                    }
                }
                Some(Reply::Started { id: 0 } | Reply::Progress { id: 0, .. }) if is_ready => {}
                Some(Reply::Ended { id: 0, outcome, .. }) if is_ready => return self.judge(outcome),
                Some(_) => return Err(Fault::Lost("the worker has spoken out of turn".into())),
                None => {
                    if !is_wanted() {
                        process.kill();
                    } else if !is_ready && Instant::now() > deadline {
                        process.kill();
                        let seconds = START_TIMEOUT.as_secs();
                        return Err(Fault::Lost(format!("its worker did not call `init` within {seconds} s")));
                    }
                    process.line.wait(Some(GLANCE));
                }
            }
        }
    }

    fn compare(&self, version: u32, theirs: wire::Fingerprint) -> Result<(), Fault> {
        if version != VERSION {
            return Err(Fault::Unfit(WireError::Version(version).to_string().into()));
        }
        let ours = fingerprint(TaskRegistry::of_this_process());
        if theirs.binary != ours.binary {
            return Err(Fault::Unfit("its worker runs another build of the program".to_string().into()));
        }
        // A test program does not know its tasks.
        if matches!(self.program, Program::Main) && theirs.tasks != ours.tasks {
            let what =
                "its worker has registered other tasks than this process; register the same ones in every process";
            return Err(Fault::Unfit(what.to_string().into()));
        }
        Ok(())
    }

    fn judge(&self, outcome: Outcome) -> Result<(), Fault> {
        let Outcome::Error(ending, texts) = outcome else { return Ok(()) };
        let name = self.initializer.as_ref().map_or("", |initializer| initializer.function);
        let what = format!("the initializer `{name}` of its worker {}", ending.verb());
        let texts = [what].into_iter().chain(texts).collect();
        Err(Fault::Initializer(ending.kind(), RemoteError::from_chain(texts)))
    }
}

enum Fault {
    Lost(String),
    Unfit(RemoteError),
    Initializer(TaskErrorKind, RemoteError),
}

impl Process {
    /// The next message, if it is there.
    fn receive(&mut self) -> Result<Option<Reply>, Fault> {
        loop {
            match self.decoder.next_reply() {
                Ok(Some(reply)) => return Ok(Some(reply)),
                Ok(None) => {}
                Err(error) => {
                    self.kill();
                    return Err(Fault::Lost(format!("its worker has sent {error} at its start")));
                }
            }
            match self.line.receive(&mut self.decoder) {
                Received::Some => {}
                Received::Nothing => return Ok(None),
                Received::End => return Err(Fault::Lost("its worker ended before it was ready".into())),
            }
        }
    }

    /// What the worker had said that it did not come to send, or that came after something that was no message.
    pub(crate) fn read_journal(&mut self, is_garbled: bool) {
        if is_garbled {
            self.decoder.forget_rest();
        }
        let said = self.journal.as_ref().and_then(|journal| journal.read(self.decoder.taken()).ok());
        self.decoder.append(&said.unwrap_or_default());
    }

    /// Asks the worker to end.
    pub(crate) fn dismiss(&self) {
        self.line.send(|outbox| outbox.request(Request::Quit));
    }

    /// Ends the worker now, with everything that it has started.
    pub(crate) fn kill(&self) {
        if let Some(group) = self.pid() {
            // The only error is that it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Waits for the end of a worker that has closed its channel, or is about to.
    pub(crate) fn bury(mut self, is_expected: bool) -> WorkerExit {
        let patience = if is_expected { FAREWELL } else { LAST_MOMENT };
        let has_ended = self.await_end(patience);
        if !has_ended || !is_expected {
            // It is not reaped yet, so that nobody else can have its number.
            self.kill();
        }
        self.child.wait().map_or(WorkerExit::Unknown, worker_exit)
    }

    /// Waits for the process to end, without reaping it; returns whether it has.
    fn await_end(&self, patience: Duration) -> bool {
        let Some(pid) = self.pid() else { return true };
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_micros(100);
        loop {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            match waitid(WaitId::Pid(pid), look) {
                Ok(None) if Instant::now() < deadline => {}
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
            thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_millis(10));
        }
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

fn worker_exit(status: ExitStatus) -> WorkerExit {
    match (status.code(), status.signal()) {
        (Some(code), _) => WorkerExit::Code(code),
        (None, Some(signal)) => WorkerExit::Signal(signal),
        (None, None) => WorkerExit::Unknown,
    }
}
