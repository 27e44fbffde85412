//! A worker that tasks can be sent to, and what it was sent.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use crate::codec::payload::Payload;
use crate::codec::references::Keeper;
use crate::process::pool::launch::launched::Site;
use crate::process::pool::output::line_stream::Writers;
use crate::process::pool::queued::{Entry, Queued};
use crate::process::pool::scheduler::events::Task;
use crate::process::protocol::channel::Channel;
use crate::process::protocol::memory::Memory;
use crate::process::protocol::wire::{Request, Run};
use crate::task::state;

pub(super) struct Connection {
    pub(super) channel: Arc<Channel>,
    /// Where the worker is, once it has said so.
    pub(super) site: Option<Site>,
    /// Tells which tasks its lines belong to, if its output comes here.
    writers: Option<Arc<Writers>>,
    /// The shared values that it was sent, and was not told to forget.
    known_images: HashSet<u64>,
}

impl Connection {
    pub(super) fn new(channel: Arc<Channel>, writers: Option<Arc<Writers>>) -> Self {
        writers.iter().for_each(|writers| writers.set_channel(channel.clone()));
        Self { channel, site: None, writers, known_images: HashSet::new() }
    }

    /// Queues a task, after the shared values that it refers to and the worker does not have. `keeper` is told when one
    /// of those is no longer needed.
    pub(super) fn run(&mut self, task: &Queued, place: u64, wanted: u32, keeper: impl Fn() -> Weak<dyn Keeper>) {
        self.writers.iter().for_each(|writers| writers.add(place, task.task().clone()));
        self.channel.worker().into_iter().for_each(|worker| task.task().core.set_process(worker));
        let Entry { function, format, .. } = *task.0;
        let run = Run { id: task.id(), place, wanted, timeout: task.timeout() };
        let (mut outbox, input) = (self.channel.outbox(), task.input());
        for image in input.references().iter().filter(|image| self.known_images.insert(image.id)) {
            image.tell(&keeper());
            outbox.share(image.id, image.format, &Payload::Large(image.bytes.clone()));
        }
        outbox.run(run, (function, task.task().core.given_name()), format, &input.bytes);
    }

    /// Queues what is wanted of a task. A cancellation is also written where the task's next progress call sees it.
    pub(super) fn want(&self, id: u64, wanted: u32) {
        if let Some(live) = self.channel.memory().and_then(Memory::live).filter(|_| wanted & state::CANCEL != 0) {
            live.request_end(id, state::cause(wanted));
        }
        self.channel.outbox().request(Request::Want { id, wanted });
    }

    /// Tells the worker to forget those of these shared values that it has. Returns whether it has any.
    pub(super) fn forget(&mut self, images: &[u64]) -> bool {
        let before = self.known_images.len();
        for &id in images.iter().filter(|id| self.known_images.remove(id)) {
            self.channel.outbox().request(Request::Forget { id });
        }
        self.known_images.len() < before
    }
}
