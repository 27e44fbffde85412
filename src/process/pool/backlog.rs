//! What follows from what a guest of the [lead](crate::process::pool::leader) has heard, and is not for its thread: it may
//! call code of the user that takes its time, or needs more stack than that thread has. The driver's own thread does it, in
//! order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::process::pool::launch::End;
use crate::process::pool::queued::{Kinds, News, Queued};
use crate::process::pool::terms::{Action, WorkerId};
use crate::process::protocol::wire::Outcome;
use crate::task::state;

/// The largest output that any thread decodes, in bytes.
const LIGHT: usize = 4096;

pub(super) struct Backlog {
    kept: Mutex<VecDeque<Kept>>,
    /// Nothing waits, and nothing is being done.
    is_empty: AtomicBool,
}

/// What is to be done later.
pub(super) enum Kept {
    Do(Action<Kinds>),
    /// A worker is gone. What its tasks have shown before comes first: they may be started again.
    Gone(WorkerId, End),
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::default(), is_empty: AtomicBool::new(true) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_empty.load(Ordering::SeqCst)
    }

    /// Takes away what is not for this thread: from what is heavy on, or all of it, because it has to come after what is
    /// kept. It is to be added once the rest is done.
    pub(super) fn split(&self, actions: &mut Vec<Action<Kinds>>) -> Vec<Action<Kinds>> {
        let is_light = |action: &Action<Kinds>| self.is_empty() && is_light(action);
        let first = actions.iter().position(|action| !is_light(action));
        first.map(|first| actions.split_off(first)).unwrap_or_default()
    }

    /// Only whoever leads adds something.
    pub(super) fn add(&self, kept: impl IntoIterator<Item = Kept>) {
        let mut all = self.lock();
        all.extend(kept);
        self.is_empty.store(false, Ordering::SeqCst);
    }

    /// What is to be done next. Whoever does it asks again afterwards.
    pub(super) fn next(&self) -> Option<Kept> {
        if self.is_empty() {
            return None;
        }
        let mut kept = self.lock();
        let next = kept.pop_front();
        self.is_empty.store(next.is_none(), Ordering::SeqCst);
        next
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether any thread may do it: it takes no time, and calls no code of the user but wakers, and what decodes or drops
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
