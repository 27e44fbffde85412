//! Errors of this module: what came from a worker as text, and why there is no pool.

use std::error::Error;
use std::fmt;
use std::fmt::Write;
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::error::chain::{CancellationMark, OneLine, chain, fmt_causes, fmt_chain};
use crate::error::{BoxError, TaskErrorKind, WorkerExit};
use crate::process::protocol::wire::Ending;
use crate::sync::unwind::quietly;

/// The maximum number of errors in a chain.
const LONGEST: usize = 100;

/// An error as it is told in another process: messages, each the source of the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct RemoteError {
    message: String,
    source: Option<Box<RemoteError>>,
}

impl RemoteError {
    pub(crate) fn new(message: &str, source: &(dyn Error + 'static)) -> Self {
        Self::from_chain([message.into()].into_iter().chain(texts(source)).collect())
    }

    pub(crate) fn from_chain(mut messages: Vec<String>) -> Self {
        // Whoever drops a chain goes down it: one from a worker that is out of its mind must not exhaust the stack.
        messages.truncate(LONGEST);
        let chain = messages.into_iter().rev().fold(None, |source, message| Some(Box::new(Self { message, source })));
        *chain.unwrap_or_default()
    }
}

/// What an error says, and then each of its sources. There may be no end to them.
pub(crate) fn texts<'a>(error: impl Into<Option<&'a (dyn Error + 'static)>>) -> impl Iterator<Item = String> {
    // The mark says what the one before it says.
    chain(error.into()).filter(|error| !error.is::<CancellationMark>()).map(text)
}

/// What an error says, also one whose `Display` fails or panics.
fn text(error: &(dyn Error + 'static)) -> String {
    let text = quietly(|| {
        let mut text = String::new();
        // What it said before it failed is kept.
        let _ = write!(text, "{error}");
        text
    });
    text.unwrap_or_else(|| "an error that panics when it is displayed".into())
}

impl From<String> for RemoteError {
    fn from(message: String) -> Self {
        Self { message, source: None }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for RemoteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

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
            Self::Encode => "had an output that could not be encoded",
            Self::Decode => "had an input that could not be decoded",
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

#[cfg(test)]
mod tests {
    use super::texts;
    use std::error::Error;
    use std::fmt;

    #[derive(Debug)]
    enum Odd {
        CannotBeShown,
        PanicsWhenShown,
        HasItself,
        PanicsWhenAsked,
        HasAnother(Box<Odd>),
    }

    impl fmt::Display for Odd {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("odd")?;
            match self {
                Self::CannotBeShown => Err(fmt::Error),
                Self::PanicsWhenShown => panic!("shown"),
                _ => Ok(()),
            }
        }
    }

    impl Error for Odd {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            match self {
                Self::HasItself => Some(self),
                Self::PanicsWhenAsked => panic!("asked"),
                Self::HasAnother(other) => Some(&**other),
                _ => None,
            }
        }
    }

    /// Two errors at the same place, of which one is the other's source.
    #[derive(Debug)]
    struct Around(Odd);

    impl fmt::Display for Around {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(&self.0, f)
        }
    }

    impl Error for Around {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn told(error: &(dyn Error + 'static)) -> Vec<String> {
        texts(error).collect()
    }

    #[test]
    fn an_error_is_told_whatever_its_code_does() {
        assert_eq!(told(&Odd::CannotBeShown), ["odd"]);
        assert_eq!(told(&Odd::PanicsWhenShown), ["an error that panics when it is displayed"]);
        assert_eq!(told(&Odd::HasItself), ["odd"]);
        assert_eq!(told(&Odd::PanicsWhenAsked), ["odd"]);
        assert_eq!(told(&Odd::HasAnother(Box::new(Odd::HasItself))), ["odd", "odd"]);
        assert_eq!(told(&Around(Odd::CannotBeShown)), ["odd"; 2]);
        assert_eq!(texts(None).count(), 0);
    }
}
