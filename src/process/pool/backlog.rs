//! News of tasks, delivered in order and by one thread at a time. Delivering it may call user code.
//!
//! ```text
//!                     the leader delivers news:
//!            guest, light ┌──────────────────────────┐ resident, anything
//!                         ▼                          ▼
//!  idle ──────────────► at once                   at once
//!   │ guest: heavy news, and all that follow
//!   ▼
//!  deferred ──────────► by the resident, which is called
//! ```
//!
//! While the outcome of an item is being delivered, further news of the task is held, as it may be the outcome of the
//! next item.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::process::pool::launch::End;
use crate::process::pool::queued::{Kinds, News, Queued};
use crate::process::pool::scheduler::events::{Action, Task, WorkerNumber};
use crate::process::protocol::wire::Outcome;
use crate::task::state;

/// The largest output that any thread may decode, in bytes.
const LIGHT: usize = 4096;

#[derive(Default)]
pub(super) struct Backlog {
    queue: Mutex<Queue>,
    /// Whether something waits for the resident that is not held.
    has_next: AtomicBool,
    /// Whether something waits, or is being done, that comes before what is received next.
    is_behind: AtomicBool,
}

#[derive(Default)]
struct Queue {
    deferred: VecDeque<Deferred>,
    /// The time of the clock after which all that is deferred has arrived.
    since: u64,
    /// The same for what the resident has taken and is at work on, if it is.
    busy_since: Option<u64>,
    /// Tasks whose news is held, because an outcome of one of their items is being delivered.
    held: Vec<u64>,
}

/// What must be done in order.
pub(super) enum Deferred {
    Do(Action<Kinds>),
    /// A worker is gone. Earlier news of the task that it was running comes first, as the task may be started again.
    Gone(WorkerNumber, Box<End>, Option<u64>),
}

/// The thread that delivers news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deliverer {
    Guest,
    LeadingResident,
    /// The resident, with what other threads have left.
    Resident,
}

impl Backlog {
    /// Whether nothing waits, is held, or is being done by the resident.
    pub(super) fn is_empty(&self) -> bool {
        !self.is_behind.load(Ordering::SeqCst)
    }

    /// Whether there is something for the resident.
    pub(super) fn has_next(&self) -> bool {
        self.has_next.load(Ordering::SeqCst)
    }

    /// How many of these a guest delivers: those before the first heavy one, or none if something is deferred that
    /// comes before them.
    pub(super) fn count_for_guest(&self, batch: &VecDeque<Deferred>) -> usize {
        let is_light = |deferred: &&Deferred| matches!(deferred, Deferred::Do(action) if is_light(action));
        if self.is_empty() { batch.iter().take_while(is_light).count() } else { 0 }
    }

    /// Adds what has arrived after `since`.
    pub(super) fn add(&self, mut deferred: VecDeque<Deferred>, since: u64) {
        self.change(|queue| {
            if queue.deferred.is_empty() {
                queue.since = since;
            }
            queue.deferred.append(&mut deferred);
        });
    }

    /// The time of the clock after which all that waits here and may be of this task has arrived, if anything does. What is held is
    /// of other tasks, and may be for long.
    pub(super) fn heard_until(&self, task: u64) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let queue = self.lock();
        let waits = queue.deferred.iter().any(|deferred| deferred.task() == Some(task) || !queue.holds(deferred));
        waits.then_some(queue.since).into_iter().chain(queue.busy_since).min()
    }

    /// Takes what the resident must do next, which has arrived after the time that is returned. It [says](Self::be_done) when it
    /// is done.
    pub(super) fn next(&self) -> (VecDeque<Deferred>, u64) {
        self.change(|queue| {
            let all = mem::take(&mut queue.deferred);
            let (held, next) = all.into_iter().partition(|deferred| queue.holds(deferred));
            queue.deferred = held;
            queue.busy_since = Some(queue.since);
            (next, queue.since)
        })
    }

    pub(super) fn be_done(&self) {
        self.change(|queue| queue.busy_since = None);
    }

    /// Takes back the rest from a thread that hands over, which has arrived after `since`: it goes before what is deferred. News of
    /// the task `item_of`, whose item that thread is still delivering, is held until [`release`](Self::release).
    pub(super) fn give_back(&self, mut rest: VecDeque<Deferred>, since: u64, item_of: Option<u64>) {
        self.change(|queue| {
            if !rest.is_empty() {
                queue.since = if queue.deferred.is_empty() { since } else { since.min(queue.since) };
            }
            rest.append(&mut queue.deferred);
            queue.deferred = rest;
            queue.busy_since = None;
            queue.held.extend(item_of);
        });
    }

    /// Stops holding the news of this task, as its item was delivered.
    pub(super) fn release(&self, task: u64) {
        self.change(|queue| {
            let index = queue.held.iter().position(|&held| held == task);
            index.map(|index| queue.held.swap_remove(index));
        });
    }

    fn change<R>(&self, change: impl FnOnce(&mut Queue) -> R) -> R {
        let mut queue = self.lock();
        let result = change(&mut queue);
        let has_next = queue.deferred.iter().any(|deferred| !queue.holds(deferred));
        self.has_next.store(has_next, Ordering::SeqCst);
        let is_behind = queue.busy_since.is_some() || !queue.deferred.is_empty() || !queue.held.is_empty();
        self.is_behind.store(is_behind, Ordering::SeqCst);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Only what is of a task that is held: code that handles its outcome may wait for what follows from the loss of another worker.
    fn holds(&self, deferred: &Deferred) -> bool {
        deferred.task().is_some_and(|task| self.held.contains(&task))
    }
}

impl Deferred {
    /// The task that it is of, if it is of one.
    fn task(&self) -> Option<u64> {
        match self {
            Self::Do(action) => action.task().map(Queued::id),
            Self::Gone(_, _, running) => *running,
        }
    }
}

impl Action<Kinds> {
    fn task(&self) -> Option<&Queued> {
        match self {
            Self::Begin(task)
            | Self::Resume(task)
            | Self::Show(task, _)
            | Self::Deliver(task, _)
            | Self::Settle(task, _)
            | Self::Lose(task, ..)
            | Self::ShowRetry(task, _)
            | Self::Refuse(task) => Some(task),
            _ => None,
        }
    }
}

/// Whether any thread may do it: it takes no time, and calls no user code except wakers and what decodes or drops
/// something small.
fn is_light(action: &Action<Kinds>) -> bool {
    match action {
        Action::Begin(task) | Action::Show(task, News::Snapshot(_)) => !is_seen(task),
        Action::Settle(task, (_, outcome)) => {
            let len = match outcome {
                Outcome::Value(output) | Outcome::Partial(output) => output.bytes.len(),
                Outcome::Error(..) => 0,
            };
            !is_seen(task) && len.max(task.task().body.output_size()) <= LIGHT
        }
        _ => false,
    }
}

fn is_seen(task: &Queued) -> bool {
    task.task().core.state.load() & (state::OBSERVED | state::ABANDONED) != 0
}
