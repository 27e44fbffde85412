//! The outcomes of tasks, in terms of the protocol.

use std::error::Error;

use crate::codec::Encoded;
use crate::error::chain::texts;
use crate::error::defect::Defect;
use crate::error::{TaskError, TaskErrorKind};
use crate::process::protocol::wire::{Ending, Outcome, WireError};
use crate::process::worker::Worker;
use crate::process::worker::forward::shorten;
use crate::sync::unwind::drop_quietly;

/// How many errors of a chain of sources are sent.
const MOST_SOURCES: usize = 64;

impl Worker {
    /// An output, in terms of the protocol; the rest of its frame takes `overhead` bytes.
    pub(super) fn value(&self, output: Encoded, overhead: u64) -> Outcome {
        match self.check_size(&output, overhead) {
            Ok(()) => Outcome::Value(output),
            Err(defect) => fault(Ending::Encode, &defect),
        }
    }

    /// How the task ended without an output; see [`value`](Self::value).
    pub(super) fn error(&self, mut error: TaskError, overhead: u64) -> Outcome {
        match error.take_partial() {
            Some(value) => match self.check_size(&value, overhead) {
                Ok(()) => Outcome::Partial(value),
                Err(defect) => fault(Ending::Cancelled, &defect),
            },
            None => self.failure(error),
        }
    }

    /// Fails if a frame has no room for an output.
    pub(super) fn check_size(&self, output: &Encoded, overhead: u64) -> Result<(), Defect> {
        let (len, max) = (output.bytes.len() as u64 + overhead, self.max_frame);
        if len > max { Err(Defect::Output(WireError::TooLarge { len, max }.into())) } else { Ok(()) }
    }

    fn failure(&self, error: TaskError) -> Outcome {
        let ending = match (error.kind(), error.downcast_ref()) {
            (TaskErrorKind::Cancelled(_), _) => Ending::Cancelled,
            (TaskErrorKind::Panicked, _) => Ending::Panicked,
            (_, Some(Defect::Input(_))) => Ending::Decode,
            (_, Some(Defect::Output(_))) => Ending::Encode,
            _ => Ending::Failed,
        };
        let mut room = self.longest_text();
        let texts = texts(error.source()).chain(error.panic_text()).take(MOST_SOURCES).map(|text| {
            let text = shorten(text, room);
            room -= text.len();
            text
        });
        let texts = texts.collect();
        // Errors and payloads of users may panic when they are dropped.
        drop_quietly(error);
        Outcome::Error(ending, texts)
    }

    /// The longest text: its frame must also have room for something else.
    pub(super) fn longest_text(&self) -> usize {
        usize::try_from(self.max_frame / 4).unwrap_or(usize::MAX)
    }
}

fn fault(ending: Ending, error: &(dyn Error + 'static)) -> Outcome {
    Outcome::Error(ending, texts(error).collect())
}
