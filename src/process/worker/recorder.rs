//! What the program can do in shared memory without asking the [worker](super): read how far its task has come and its last
//! message, and request its end.

use std::sync::Arc;
use std::time::Duration;

use crate::error::CancelCause;
use crate::id::TaskId;
use crate::process::protocol::live::Live;
use crate::process::protocol::memory::Memory;
use crate::process::worker::{Current, Worker};
use crate::task::context::Recorder;
use crate::task::counts;
use crate::task::remote::Said;

impl Worker {
    /// Lets tasks count in the memory that is shared with the program. Returns the recorder for everything else; `None`
    /// without such memory.
    pub(super) fn lay_out(self: &Arc<Self>) -> Option<Arc<dyn Recorder>> {
        // Leaked, as it is used until the process ends.
        let worker: &'static Arc<Self> = Box::leak(Box::new(self.clone()));
        let live = worker.channel().memory().and_then(Memory::live)?;
        counts::lay_out(live.cells, live.request);
        Some(self.clone())
    }
}

impl Recorder for Worker {
    fn record(&self, task: TaskId, said: Said<'_>) {
        self.outlet.record(task, said);
    }

    fn spread(&self, task: TaskId) {
        self.outlet.use_memory(task, |memory, _| memory.live().into_iter().for_each(Live::spread));
    }

    fn watch(self: Arc<Self>, task: TaskId) {
        let mut inbox = self.lock();
        let current = inbox.current.as_mut().filter(|current| current.task.core.id() == task);
        let Some(Current { run, task, forwarder }) = current else { return };
        let forwarder = forwarder.get_or_insert_with(|| self.forwarder(*run, task)).clone();
        drop(inbox);
        forwarder.observe();
    }

    fn take_request(&self, task: TaskId) -> Option<CancelCause> {
        let request = self.outlet.use_memory(task, |memory, run| memory.live()?.take_request(run));
        request.flatten().map(CancelCause::from_bits)
    }

    fn sleep(&self, task: TaskId, duration: Duration) {
        self.read_meanwhile(task, duration);
    }
}
