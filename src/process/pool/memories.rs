//! The shared memory of workers, which shows how far their tasks have come.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::id::{TaskId, WorkerId};
use crate::process::protocol::channel::Channel;
use crate::task::remote::Record;

/// The channels of workers that share memory, by process number. Locked last.
#[derive(Default)]
pub(super) struct Memories(RwLock<HashMap<u32, Arc<Channel>>>);

impl Memories {
    /// Opens the memory of a worker that has said who it is.
    pub(super) fn open(&self, channel: &Arc<Channel>) {
        if let (Some(_), Some(process)) = (channel.memory(), process(channel)) {
            self.0.write().unwrap_or_else(PoisonError::into_inner).insert(process, channel.clone());
        }
    }

    /// Closes it: nothing is read there from now on.
    pub(super) fn close(&self, channel: &Arc<Channel>) {
        let Some(process) = process(channel) else { return };
        let mut memories = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Another worker may have claimed to be this process.
        if memories.get(&process).is_some_and(|open| Arc::ptr_eq(open, channel)) {
            memories.remove(&process);
        }
    }

    pub(super) fn look(&self, process: u32, task: TaskId) -> Option<Record> {
        let memories = self.0.read().unwrap_or_else(PoisonError::into_inner);
        memories.get(&process)?.memory()?.look(task.to_u64())
    }
}

fn process(channel: &Channel) -> Option<u32> {
    if let Some(WorkerId::Process { id, .. }) = channel.worker() { Some(*id) } else { None }
}
