//! What follows from what a guest of the [lead](crate::process::pool::leader) has heard, and is not for its thread: it may call code
//! of the user that takes its time, or needs more stack than that thread has. The driver's own thread does it, in order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::process::pool::queued::{Kinds, News, Queued};
use crate::process::pool::terms::Action;
use crate::process::protocol::wire::Outcome;
use crate::task::state;

/// The largest output that any thread decodes, in bytes.
const LIGHT: usize = 4096;

pub(super) struct Backlog {
    actions: Mutex<VecDeque<Action<Kinds>>>,
    /// Nothing waits, and nothing is being done.
    is_empty: AtomicBool,
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self { actions: Mutex::default(), is_empty: AtomicBool::new(true) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_empty.load(Ordering::SeqCst)
    }

    /// Keeps what is not to be done now, because it is heavy, or has to come after what is. Returns whether there was any.
    pub(super) fn keep(&self, actions: &mut Vec<Action<Kinds>>) -> bool {
        let first = if self.is_empty() { actions.iter().position(|it| !is_light(it)) } else { Some(0) };
        let Some(first) = first.filter(|&first| first < actions.len()) else { return false };
        let mut kept = self.lock();
        kept.extend(actions.drain(first..));
        self.is_empty.store(false, Ordering::SeqCst);
        true
    }

    /// What is to be done next. Whoever does it asks again afterwards.
    pub(super) fn next(&self) -> Option<Action<Kinds>> {
        if self.is_empty() {
            return None;
        }
        let mut kept = self.lock();
        let next = kept.pop_front();
        self.is_empty.store(next.is_none(), Ordering::SeqCst);
        next
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Action<Kinds>>> {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner)
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
