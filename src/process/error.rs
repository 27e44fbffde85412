//! Errors of this module: how what a worker has sent is told, and why there is no pool.

use std::error::Error;
use std::fmt;
use std::fmt::Write;
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::error::chain::{OneLine, fmt_causes, fmt_chain};
use crate::error::{BoxError, TaskErrorKind, WorkerExit};
use crate::process::protocol::wire::Ending;

impl Ending {
    pub(crate) fn kind(self) -> TaskErrorKind {
        match self {
            // A cancellation that was not requested here is an error of the task.
            Self::Cancelled | Self::Failed => TaskErrorKind::Failed,
            Self::Panicked => TaskErrorKind::Panicked,
            Self::NotRegistered => TaskErrorKind::NotRegistered,
            Self::Encode => TaskErrorKind::Encode,
            Self::Decode => TaskErrorKind::Decode,
        }
    }

    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Cancelled => "was cancelled",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::NotRegistered => "is not registered",
            Self::Encode => "could not be encoded",
            Self::Decode => "could not be decoded",
        }
    }
}

impl From<ExitStatus> for WorkerExit {
    fn from(status: ExitStatus) -> Self {
        #[cfg(unix)]
        let signal = status.signal();
        #[cfg(not(unix))]
        let signal = None;
        Self::from_parts(status.code(), signal)
    }
}

impl WorkerExit {
    pub(crate) fn from_parts(code: Option<i32>, signal: Option<i32>) -> Self {
        signal.map(Self::Signal).or(code.map(Self::Code)).unwrap_or(Self::Unknown)
    }
}

/// Why a [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) could not be made. Its message says what to do about it.
///
/// Its formats are those of a [`TaskError`](crate::TaskError): `{error}` is the message, `{error:#}` has its sources on
/// the same line, `{error:?}` below it.
///
/// # Examples
///
/// ```
/// use progress_executor::{ProcessPoolError, ProcessPoolExecutor};
///
/// let error: ProcessPoolError = ProcessPoolExecutor::new(2).unwrap_err(); // this program has no `TaskRegistry`
/// assert!(format!("{error:#}").contains("Call this first thing in `main`"));
/// ```
pub struct ProcessPoolError {
    message: String,
    source: Option<BoxError>,
}

impl ProcessPoolError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    pub(crate) fn with_source(mut self, source: BoxError) -> Self {
        self.source = Some(source);
        self
    }
}

impl fmt::Display for ProcessPoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OneLine(f).write_str(&self.message)?;
        if f.alternate() { fmt_chain(self, f) } else { Ok(()) }
    }
}

/// Readable, for this is what a `main` that returns the error shows; `{:#?}` shows the structure.
impl fmt::Debug for ProcessPoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            f.write_str(&self.message)?;
            return fmt_causes(self, f);
        }
        f.debug_struct("ProcessPoolError").field("message", &self.message).field("source", &self.source).finish()
    }
}

impl Error for ProcessPoolError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
