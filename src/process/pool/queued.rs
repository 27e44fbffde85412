//! The types that the [scheduler](super::scheduler) handles in a pool: tasks, and what is shared with workers.

use std::mem;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::codec::payload::Payload;
use crate::codec::references::{Image, References};
use crate::codec::{Encoded, Format};
use crate::executor::job::Job;
use crate::process::pool::launch::{End, Failure};
use crate::process::pool::scheduler::events::{Page, Report, Task, Types};
use crate::process::protocol::channel::Channel;
use crate::process::protocol::memory;
use crate::process::protocol::page::Doomed;
use crate::process::protocol::wire::{self, Outcome};
use crate::task::remote::{RemoteLog, RemoteSnapshot};
use crate::task::state::Unclaimed;
use crate::task::{TaskRef, transitions};

pub(super) struct Kinds;

impl Types for Kinds {
    type Task = Queued;
    type Page = Arc<Channel>;
    type Report = News;
    type Outcome = (RemoteSnapshot, Outcome);
    type Items = ItemsEnded;
    /// Boxed, as it is rare and large.
    type Exit = Box<End>;
    type Failure = Failure;
}

/// How the next items of a task have ended.
pub(super) enum ItemsEnded {
    /// Several with values, in the encoding of [`codec::items`](crate::codec::items).
    Values(Vec<u8>),
    One(RemoteSnapshot, Outcome),
}

/// A task of the pool: a thin pointer to a small entry, since there may be a million of them.
#[derive(Clone)]
pub(super) struct Queued(pub(super) Arc<Entry>);

pub(super) struct Entry {
    pub(super) job: Job,
    pub(super) function: &'static str,
    pub(super) format: Format,
    input: Mutex<Input>,
    /// How often it may still be started again when its worker is lost.
    pub(super) retries: AtomicU32,
    /// How many workers, one after the other, have ended before they had begun with it.
    unbegun: AtomicU8,
}

/// What is sent for a task.
#[derive(Default)]
pub(super) struct Input {
    /// Empty once the task has begun for the last time, or has ended.
    pub(super) bytes: Payload,
    /// The shared values that the bytes refer to, if there are any.
    references: Option<Box<References>>,
}

impl Input {
    pub(super) fn references(&self) -> &[Arc<Image>] {
        self.references.as_ref().map_or(&[], |references| references)
    }
}

impl Queued {
    pub(super) fn new(job: Job, function: &'static str, input: Encoded, references: References) -> Self {
        let retries = job.task().core.existing_details().map_or(0, |details| details.limits.retries);
        Self(Arc::new(Entry {
            job,
            function,
            format: input.format,
            input: Mutex::new(Input {
                bytes: input.bytes,
                references: (!references.is_empty()).then(|| Box::new(references)),
            }),
            retries: AtomicU32::new(retries),
            unbegun: AtomicU8::new(0),
        }))
    }

    pub(super) fn task(&self) -> &TaskRef {
        self.0.job.task()
    }

    pub(super) fn input(&self) -> MutexGuard<'_, Input> {
        self.0.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bytes of the input, which will not be sent again.
    pub(super) fn take_input(&self) -> Payload {
        mem::take(&mut self.input().bytes)
    }

    /// Takes all that would be sent for a task that has ended.
    pub(super) fn take_all(&self) -> Input {
        mem::take(&mut *self.input())
    }

    /// After how many nanoseconds the task must end, or a chunk must give back the items that it has not begun.
    pub(super) fn timeout(&self) -> u64 {
        let core = &self.task().core;
        let limit = core.existing_details().and_then(|details| details.limits.timeout);
        let limit = limit.or_else(|| core.items()?.patience());
        limit.and_then(|limit| u64::try_from(limit.as_nanos()).ok()).unwrap_or(wire::NO_TIMEOUT)
    }
}

impl Task for Queued {
    fn id(&self) -> u64 {
        self.0.job.id().to_u64()
    }

    fn word(&self) -> u32 {
        self.task().core.state.load()
    }

    fn lend(&self) -> Result<u32, Unclaimed> {
        self.task().core.lend()
    }

    fn take_back(&self) -> bool {
        self.task().core.state.take_back()
    }

    fn retry(&self) -> bool {
        let left = self.0.retries.load(Ordering::Relaxed);
        if left == 0 {
            return false;
        }
        self.0.retries.store(left - 1, Ordering::Relaxed);
        self.0.unbegun.store(0, Ordering::Relaxed);
        transitions::retry(self.task())
    }

    fn note_unbegun(&self) -> u32 {
        let unbegun = self.0.unbegun.load(Ordering::Relaxed).saturating_add(1);
        self.0.unbegun.store(unbegun, Ordering::Relaxed);
        unbegun.into()
    }
}

/// What a worker reports about a task that it runs.
pub(super) enum News {
    Snapshot(RemoteSnapshot),
    Line(String),
    #[cfg_attr(not(feature = "log"), expect(dead_code, reason = "nobody asks for it"))]
    Log(RemoteLog),
}

impl Report for News {
    fn has_noticed(&self) -> bool {
        matches!(self, Self::Snapshot(snapshot) if snapshot.has_noticed)
    }

    fn is_silent(&self) -> bool {
        match self {
            Self::Snapshot(snapshot) => snapshot.is_silent,
            // It may come from a thread that does nothing else for the task.
            Self::Line(_) | Self::Log(_) => true,
        }
    }
}

/// Without shared memory, only the worker knows which task has begun.
impl Page for Arc<Channel> {
    fn places(&self) -> usize {
        if self.memory().is_some() { memory::PLACES } else { 1 }
    }

    fn offer(&self, place: u64) {
        if let Some(place) = self.memory().and_then(|memory| memory.place(place)) {
            place.offer();
        }
    }

    fn take_back(&self, place: u64) -> bool {
        self.memory().and_then(|memory| memory.place(place)).is_some_and(|place| place.take_back())
    }

    fn has_begun(&self, place: u64) -> bool {
        self.memory().and_then(|memory| memory.place(place)).is_some_and(|place| place.has_begun())
    }

    fn sending(&self) -> Option<u64> {
        self.is_full().then(|| self.departed())
    }

    fn doom(&self, place: u64) -> Doomed {
        self.memory().and_then(|memory| memory.place(place)).map_or(Doomed::Yes, |place| place.doom())
    }
}
