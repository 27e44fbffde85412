//! Errors as text: those that a worker has sent, and what is told in the same form.

use std::error::Error;
use std::fmt;

use crate::error::TaskErrorKind;
use crate::error::chain::{CancellationMark, texts};

/// The maximum number of errors in a chain.
const LONGEST: usize = 100;

/// An error as text: messages, each the source of the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct RemoteError {
    message: String,
    source: Option<Box<RemoteError>>,
    /// Whether the task was cancelled.
    is_cancellation: bool,
}

impl RemoteError {
    pub(crate) fn new(message: &str, source: &(dyn Error + 'static)) -> Self {
        Self::from_chain([message.into()].into_iter().chain(texts(source)).collect())
    }

    pub(crate) fn of_error(error: &(dyn Error + 'static)) -> Self {
        Self::from_chain(texts(error).collect())
    }

    pub(crate) fn from_chain(mut messages: Vec<String>) -> Self {
        // Dropping a chain recurses: a chain from a worker that has gone wrong must not exhaust the stack.
        messages.truncate(LONGEST);
        let chain = messages
            .into_iter()
            .rev()
            .fold(None, |source, message| Some(Box::new(Self { message, source, is_cancellation: false })));
        *chain.unwrap_or_default()
    }

    /// The same error, as that of a task that ended in this way.
    pub(crate) fn of(self, kind: &TaskErrorKind) -> Self {
        let is_cancellation = matches!(kind, TaskErrorKind::Cancelled(_));
        let source = self.source.map(|source| Box::new(source.of(kind)));
        Self { source, is_cancellation, ..self }
    }
}

impl From<String> for RemoteError {
    fn from(message: String) -> Self {
        Self { message, source: None, is_cancellation: false }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for RemoteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_deref().map(|source| source as _);
        source.or(self.is_cancellation.then_some(&CancellationMark))
    }
}
