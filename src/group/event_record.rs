//! Events of a group as they are serialized.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::future::event_record::{Label, serialize_error, serialize_line, serialize_output};
use crate::group::events::GroupEvent;
use crate::group::progress::GroupProgress;

#[derive(Serialize)]
struct Record {
    event: &'static str,
    n: u64,
    total: Option<u64>,
    fraction: Option<f64>,
    elapsed: f64,
    eta: Option<f64>,
    pending: usize,
    running: usize,
    paused: usize,
    cancelling: usize,
    finished: usize,
    failed: usize,
    cancelled: usize,
}

impl From<&GroupProgress> for Record {
    fn from(progress: &GroupProgress) -> Self {
        Self {
            event: "progress",
            n: progress.n,
            total: progress.total,
            fraction: progress.fraction(),
            elapsed: progress.elapsed.as_secs_f64(),
            eta: progress.eta().as_ref().map(Duration::as_secs_f64),
            pending: progress.pending,
            running: progress.running,
            paused: progress.paused,
            cancelling: progress.cancelling,
            finished: progress.finished,
            failed: progress.failed,
            cancelled: progress.cancelled,
        }
    }
}

impl<T: Serialize> Serialize for GroupEvent<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let label = |id| Label { id: Some(id), name: None };
        match self {
            Self::Progress(progress) => Record::from(progress).serialize(serializer),
            Self::Line(id, line) => serialize_line(label(*id), line, serializer),
            Self::Ended(id, Ok(output)) => serialize_output("ended", label(*id), output, serializer),
            Self::Ended(_, Err(error)) => serialize_error("ended", error, serializer),
        }
    }
}
