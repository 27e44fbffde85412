//! Workers that one command starts, and that connect to the program: what is known of them.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::WorkerExit;
use crate::process::pool::launch::{End, Failure, LAUNCHER_PATIENCE, Process};
use crate::process::pool::reception::{Newcomer, Reception};
use crate::process::pool::relay::LineStream;
use crate::process::pool::terms::{Seat, WorkerId};
use crate::process::protocol::channel::Channel;
use crate::process::protocol::noise::Terms;

/// How long a launcher may take to end whose workers have ended.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// What the driver is told by the thread that starts crews.
pub(super) enum CrewNews {
    Open(Reception),
    /// So many who agree to this may come.
    Expect(Terms, usize),
    /// Its command runs.
    Started(u64, Box<Crew>),
    /// These will not come.
    Failed(u64, Vec<WorkerId>, Failure),
}

pub(super) struct Crew {
    pub(super) process: Process,
    /// Carries the invitation, and then shows that this program is there; or else the invitation is in a file.
    pub(super) lifeline: Option<Channel>,
    pub(super) key_file: Option<KeyFile>,
    /// The launcher has ended, and has left it to somebody else to start the workers.
    pub(super) is_submitted: bool,
    pub(super) errors: Arc<LineStream>,
    /// Those that have not come.
    pub(super) absent: VecDeque<(WorkerId, Seat)>,
    /// How many are there.
    pub(super) present: usize,
    pub(super) has_come: bool,
    /// The last of those that have said goodbye, whose place is taken until the launcher has ended: then nothing is left.
    pub(super) leaving: Option<(WorkerId, End)>,
    pub(super) end: Ending,
}

/// How far the end of a launcher has come, and until when it has time for that.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    NotYet,
    /// Nobody needs it any more.
    Unneeded(Instant),
    Terminated(Instant),
    Killed,
}

/// A file that nobody else can read, while it is needed.
pub(super) struct KeyFile(PathBuf);

impl KeyFile {
    /// Replaces what a program may have left that was killed.
    pub(super) fn create(path: PathBuf, content: &[u8]) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let _ = fs::remove_file(&path);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(named)?;
        file.write_all(content).map_err(named)?;
        Ok(Self(path))
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What the driver knows of crews.
#[derive(Default)]
pub(super) struct Crews {
    pub(super) reception: Option<Reception>,
    pub(super) by_number: HashMap<u64, Box<Crew>>,
    /// Workers that have come before it was told that their launcher runs.
    pub(super) early: Vec<Newcomer>,
}

impl Crews {
    pub(super) fn are_over(&self) -> bool {
        self.by_number.is_empty()
    }
}

impl Crew {
    /// How it ended for one that has not come.
    pub(super) fn process_end(&self, exit: WorkerExit) -> End {
        let remains = self.process.launched().map(|launched| Box::new(launched.remains(&[])));
        End {
            exit,
            fault: None,
            stopped: None,
            program: self.process.program(),
            record: None,
            is_exact: false,
            remains,
            last_words: String::new(),
        }
    }

    pub(super) fn needs_looks(&self) -> bool {
        let is_feeding = self.lifeline.as_ref().is_some_and(Channel::is_full);
        is_feeding || !matches!(self.end, Ending::NotYet) || !self.is_submitted && self.process.pidfd().is_none()
    }

    /// Whether nobody is there, nor is to come.
    pub(super) fn is_empty(&self) -> bool {
        self.absent.is_empty() && self.present == 0
    }

    /// How the launcher has ended, or somebody else who was to start the workers, if that is so.
    pub(super) fn exit(&self) -> Option<WorkerExit> {
        if self.is_submitted { self.is_empty().then_some(WorkerExit::Code(0)) } else { self.process.exit() }
    }

    /// Takes note of it that the launcher has ended well, though workers are still to come. Returns whether that may be.
    pub(super) fn submit(&mut self, exit: &WorkerExit) -> bool {
        let is_submitted = self.key_file.is_some() && !self.absent.is_empty() && *exit == WorkerExit::Code(0);
        self.is_submitted |= is_submitted;
        is_submitted
    }

    /// Tells the launcher to end, more and more clearly.
    pub(super) fn press(&mut self, now: Instant) {
        match self.end {
            Ending::Unneeded(until) if until <= now => {
                self.process.terminate();
                self.end = Ending::Terminated(now + LAUNCHER_PATIENCE);
            }
            Ending::Terminated(until) if until <= now => {
                self.process.kill_launcher();
                self.end = Ending::Killed;
            }
            _ => {}
        }
    }
}
