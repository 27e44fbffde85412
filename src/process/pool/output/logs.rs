//! What workers have logged, on its way to the logger of this program.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use log::{Level, Metadata, Record, logger, max_level};

use crate::error::human::Counted;
use crate::id::TaskId;
use crate::sync::unwind::quietly;
use crate::task::remote::RemoteLog;

/// How many records may wait.
const MOST_RECORDS: usize = 1000;

/// Records that wait for the logger of this program.
#[derive(Debug, Default)]
pub(super) struct Records {
    waiting: VecDeque<(RemoteLog, TaskId, Arc<str>)>,
    /// How many there was no room for.
    dropped: u64,
}

impl Records {
    /// Adds a record, and the task that has logged it.
    pub(super) fn push(&mut self, log: RemoteLog, id: TaskId, name: Arc<str>) {
        if self.waiting.len() < MOST_RECORDS {
            self.waiting.push_back((log, id, name));
        } else {
            self.dropped += 1;
        }
    }

    pub(super) fn take(&mut self) -> Self {
        mem::take(self)
    }

    /// Hands all of them to the logger of this program, which is user code.
    pub(super) fn log(self) {
        for (log, id, name) in self.waiting {
            let _ = quietly(|| log_record(&log, id, &name));
        }
        if self.dropped > 0 {
            let dropped = Counted(self.dropped, ["record of a worker was", "records of workers were"]);
            let _ = quietly(|| log::warn!("{dropped} dropped: there was no room for more"));
        }
    }
}

fn log_record(RemoteLog { level, target, text }: &RemoteLog, id: TaskId, name: &str) {
    let Some(level) = Level::iter().nth(usize::from(*level).saturating_sub(1)) else { return };
    let metadata = Metadata::builder().level(level).target(target).build();
    if level > max_level() || !logger().enabled(&metadata) {
        return;
    }
    let context = [("task_id", id.to_u64().into()), ("task_name", log::kv::Value::from(name))];
    let mut record = Record::builder();
    record.metadata(metadata).key_values(&context);
    logger().log(&record.args(format_args!("[{name}, task {id}] {text}")).build());
}
