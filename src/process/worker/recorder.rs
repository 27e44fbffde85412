//! What the program can read in shared memory without asking the [worker](super), how far its task has come and its last
//! message, and what it can request there.

use std::sync::Arc;
use std::time::Duration;

use crate::error::CancelCause;
use crate::id::TaskId;
use crate::process::protocol::memory::Memory;
use crate::process::worker::{Current, Worker};
use crate::task::context::{Recorder, Watcher};
use crate::task::counts;
use crate::task::remote::Position;

impl Worker {
    /// Lets tasks count in the memory that is shared with the program. Returns what records the rest there; `None`
    /// without such memory.
    pub(super) fn lay_out(self: &Arc<Self>) -> Option<Arc<dyn Watcher>> {
        // Leaked, as it is used until the process ends.
        let worker: &'static Arc<Self> = Box::leak(Box::new(self.clone()));
        let live = worker.channel().memory().and_then(Memory::live)?;
        counts::lay_out(live.cells, live.request);
        Some(self.clone())
    }
}

impl Recorder for Worker {
    fn record(&self, task: TaskId, position: Position, message: Option<&str>, is_spread: bool) {
        self.outlet.record(task, position, message, is_spread);
    }

    fn spread(&self, task: TaskId) {
        self.outlet.spread(task);
    }
}

impl Watcher for Worker {
    fn watch(self: Arc<Self>, task: TaskId) {
        let mut inbox = self.lock();
        let current = inbox.current.as_mut().filter(|current| current.task.core.id() == task);
        let Some(Current { run, task, forwarder }) = current else { return };
        let forwarder = forwarder.get_or_insert_with(|| self.forwarder(*run, task)).clone();
        drop(inbox);
        forwarder.observe();
    }

    fn take_request(&self, task: TaskId) -> Option<CancelCause> {
        self.outlet.take_request(task)
    }

    fn sleep(&self, task: TaskId, duration: Duration) {
        self.read_meanwhile(task, duration);
    }
}
