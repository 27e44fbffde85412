//! Frames and messages: all that a program and its workers have in common. Nothing here does any I/O.
//!
//! ```text
//! ┌──────┬────────┬─────────────┬─────────────┬────────┬─────────┬────┐
//! │ kind │   id   │ fields: len │ payload: len│ fields │ payload │ \n │
//! │  u8  │  u64   │     u32     │     u64     │        │         │    │
//! └──────┴────────┴─────────────┴─────────────┴────────┴─────────┴────┘
//! ```
//!
//! Numbers are little-endian. `id` is the task that the frame is about, 0 for the initializer; `fields` depends on the kind of
//! message. The payload is an encoded value; it is separate so that a large one can be written from, and read into, its final
//! place. The newline is for launchers that forward whole lines.
//!
//! The first frame of each side, [`Hello`] or [`Ready`], has the same form in every version of the protocol. Before that, a
//! launched worker is sent its [`Surroundings`], and whatever its launcher prints is skipped.

pub(crate) mod decoder;
pub(crate) mod outbox;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::Encoded;
use crate::task::remote::{RemoteLog, RemoteSnapshot};

/// Changes with every change of a frame, a message or the [memory](super::memory) that both ends share.
pub(crate) const VERSION: u32 = 10;

/// A timeout that never passes.
pub(crate) const NO_TIMEOUT: u64 = u64::MAX;

const MAGIC: [u8; 8] = *b"progexec";

/// The size of the head, with which every frame begins.
pub(crate) const HEAD: usize = 21;
const NEWLINE: u8 = b'\n';

/// The size that a worker's frame may have in any case, even if values are limited to less: enough for a line or for a log
/// record with its target.
pub(crate) const MOST_SAID: u64 = 192 * 1024;

/// How many bytes are read at once, at least.
const ROOM: usize = 64 * 1024;

/// What a program tells a worker.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Surroundings(Surroundings),
    Hello(Hello),
    /// Run a task, after those that were sent before.
    Run {
        run: Run,
        function: Arc<str>,
        /// The name that the task was given, if any.
        name: Option<String>,
        input: Encoded,
    },
    /// A value that later inputs refer to.
    Share {
        id: u64,
        value: Encoded,
    },
    /// No later input refers to this value.
    Forget {
        id: u64,
    },
    /// What is currently requested of a task.
    Want {
        id: u64,
        wanted: u32,
    },
    /// Let no task make progress, until [`Resume`](Self::Resume).
    Suspend,
    Resume,
    /// The program is still there.
    Beat,
    /// Say goodbye, and end.
    Quit,
}

/// Which task to run, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) id: u64,
    /// The number of the task among those that were sent to this worker.
    pub(crate) place: u64,
    /// What is currently requested of the task: bits of its control word. `RUNNING` if the program already takes it for begun,
    /// so that the worker need not say so.
    pub(crate) wanted: u32,
    /// How long the task may take, in nanoseconds; [`NO_TIMEOUT`] for as long as it likes. After this time, a task of several
    /// items begins no further item, and gives back the rest.
    pub(crate) timeout: u64,
}

/// What a worker tells the program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Ready(Ready),
    /// Sent before the task runs, if shared memory does not show its start or an observer waits for it.
    Started {
        id: u64,
    },
    Progress {
        id: u64,
        snapshot: RemoteSnapshot,
    },
    /// The task has printed a line.
    Line {
        id: u64,
        text: String,
    },
    /// A log record, of this task unless it is 0.
    Log {
        id: u64,
        log: RemoteLog,
    },
    Ended {
        id: u64,
        snapshot: RemoteSnapshot,
        outcome: Outcome,
    },
    /// The next item of a task that runs several has ended; the snapshot is that of the item, and empty for a value.
    Item {
        id: u64,
        snapshot: RemoteSnapshot,
        outcome: Outcome,
    },
    /// The worker is still there.
    Beat,
    /// The worker ends on purpose.
    Goodbye,
}

/// The surroundings that the program wants for a worker that it has not started itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    pub(crate) version: u32,
    pub(crate) directory: Vec<u8>,
    /// Variables that are set in any case.
    pub(crate) set: Vec<Variable>,
    /// Variables that are set unless they already have a value.
    pub(crate) offered: Vec<Variable>,
}

/// A name and a value.
pub(crate) type Variable = (Vec<u8>, Vec<u8>);

/// The program introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    /// How deeply the program is nested: 0 unless it is a worker of another program itself.
    pub(crate) depth: u32,
    /// In nanoseconds.
    pub(crate) report_interval: u64,
    /// The size of the largest frame, in bytes.
    pub(crate) max_frame: u64,
    /// Whether the [memory](super::memory) that both ends share comes with this.
    pub(crate) shares_memory: bool,
    /// How often each side sends a heartbeat, in nanoseconds; 0 for never.
    pub(crate) heartbeat: u64,
    /// The level of the least severe records that the program wants: 0 for none, 1 for errors, up to 5 for traces.
    pub(crate) log_level: u8,
    /// The process that started the worker, on the same machine; 0 if that was a launcher.
    pub(crate) parent: u32,
}

/// The worker says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) version: u32,
    /// Two processes with the same fingerprint run the same program, with the same tasks.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) origin: Origin,
    /// The error of the system that keeps it from serving; 0 if it can.
    pub(crate) defect: i32,
}

/// Where a worker is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) pid: u32,
    /// How long the worker will live, in seconds; `u64::MAX` if that is unknown.
    pub(crate) lifetime: u64,
    pub(crate) host: String,
    /// The job and the step in Slurm; empty where the worker does not run under it. See [`OF_A_PLACE`].
    pub(crate) job: String,
    pub(crate) step: String,
    /// The file that it runs.
    pub(crate) program: String,
}

/// The variables by which Slurm tells a process where it runs: its node and its step. They do not hold for another process.
pub(crate) const OF_A_PLACE: [&str; 2] = [NODE, STEP];
pub(crate) const NODE: &str = "SLURMD_NODENAME";
pub(crate) const STEP: &str = "SLURM_STEP_ID";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) binary: u64,
    pub(crate) tasks: u64,
}

/// How a task ended in a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value(Encoded),
    /// It was cancelled, and has returned a value nevertheless.
    Partial(Encoded),
    /// It ended without a value: the message of its error, and those of the sources.
    Error(Ending, Vec<String>),
}

/// How a task without a value ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Cancelled,
    Failed,
    Panicked,
    NotRegistered,
    Encode,
    Decode,
}

const ENDINGS: [Ending; 6] =
    [Ending::Cancelled, Ending::Failed, Ending::Panicked, Ending::NotRegistered, Ending::Encode, Ending::Decode];

/// What is wrong with what was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    TooLarge {
        len: u64,
        max: u64,
    },
    NoNewline,
    UnknownKind(u8),
    Malformed(&'static str),
    NoHello,
    OutOfTurn,
    Version(u32),
    /// Nothing arrived for this many milliseconds.
    Silence(u64),
    /// The connection has failed, in this way.
    Broken(String),
}

impl WireError {
    pub(crate) fn silence(of: Duration) -> Self {
        Self::Silence(u64::try_from(of.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, max } => write!(f, "a frame of {len} bytes, where {max} are allowed"),
            Self::NoNewline => f.write_str("a frame that does not end where it says"),
            Self::UnknownKind(kind) => write!(f, "a frame of unknown kind {kind}"),
            Self::Malformed(what) => write!(f, "a malformed `{what}`"),
            Self::NoHello => f.write_str("something other than the introduction that comes first"),
            Self::OutOfTurn => f.write_str("a message out of turn"),
            Self::Version(version) => write!(f, "version {version} of the protocol, where this is version {VERSION}"),
            Self::Silence(millis) => write!(f, "nothing for {:?}", Duration::from_millis(*millis)),
            Self::Broken(how) => f.write_str(how),
        }
    }
}

impl Error for WireError {}

// The bits of a snapshot.
const HALTED: u8 = 1;
const NOTICED: u8 = 1 << 1;
const MESSAGE: u8 = 1 << 2;
const SILENT: u8 = 1 << 3;
const PARTS: u8 = 1 << 4;

/// The size of a [`RemoteSnapshot`], without its parts and its message.
const SNAPSHOT: usize = 33;

mod kind {
    pub(super) const HELLO: u8 = b'H';
    pub(super) const RUN: u8 = b'R';
    pub(super) const SHARE: u8 = b'X';
    pub(super) const FORGET: u8 = b'F';
    pub(super) const WANT: u8 = b'W';
    pub(super) const SURROUNDINGS: u8 = b'N';
    pub(super) const SUSPEND: u8 = b'S';
    pub(super) const RESUME: u8 = b'C';
    pub(super) const BEAT: u8 = b'B';
    pub(super) const QUIT: u8 = b'Q';
    pub(super) const READY: u8 = b'h';
    pub(super) const STARTED: u8 = b's';
    pub(super) const PROGRESS: u8 = b'p';
    pub(super) const LINE: u8 = b'l';
    pub(super) const LOG: u8 = b'o';
    pub(super) const VALUE: u8 = b'v';
    pub(super) const PARTIAL: u8 = b'q';
    pub(super) const ERROR: u8 = b'e';
    pub(super) const ITEM_VALUE: u8 = b'V';
    pub(super) const ITEM_PARTIAL: u8 = b'P';
    pub(super) const ITEM_ERROR: u8 = b'E';
    pub(super) const ALIVE: u8 = b'b';
    pub(super) const GOODBYE: u8 = b'g';
}

// `tests/wire.rs` compiles them, so that the crate itself is built without their dependencies.
#[cfg(all(test, feature = "property-tests"))]
mod examples;
#[cfg(all(test, feature = "property-tests"))]
mod tests;
