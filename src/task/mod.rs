//! A task: the one state that both of its sides share, in one allocation.
//!
//! The task's side holds it through an [`Updater`](crate::Updater), the caller's side through a future and its
//! cancellers, the executor through a [`Job`](crate::Job). Every transition of its [`state`] is made in
//! [`transitions`], which tells those who wait for it: the task ([`Core::interrupt`]), the future ([`Core::waiter`]),
//! the subscribers ([`publish`]) and, if it asked for that, the executor ([`Owner`]).

pub(crate) mod bulk;
pub(crate) mod callbacks;
pub(crate) mod context;
pub(crate) mod core;
pub(crate) mod counts;
pub(crate) mod details;
pub(crate) mod items;
pub(crate) mod limits;
pub(crate) mod lines;
pub(crate) mod parts;
pub(crate) mod publish;
pub(crate) mod record;
pub(crate) mod remote;
pub(crate) mod state;
pub(crate) mod subscribers;
pub(crate) mod transitions;
pub(crate) mod watchdog;

use std::any::{TypeId, type_name};
use std::sync::Arc;
use std::time::Duration;

use crate::codec::Encoded;
use crate::error::{BoxError, TaskError, TaskErrorKind};
use crate::sync::block_on::Reactor;
use crate::sync::clock;
use crate::task::context::Context;
use crate::task::core::Core;
use crate::task::details::Owner;
use crate::task::remote::Position;

/// A task of any type.
pub(crate) type TaskRef = Arc<Task<dyn Body>>;

pub(crate) struct Task<B: ?Sized> {
    pub(crate) core: Core,
    pub(crate) body: B,
}

/// A function that can also be called in another process, if it is registered there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemoteFn {
    pub(crate) type_id: TypeId,
    pub(crate) path: &'static str,
    /// Whether it captures anything: captures cannot be sent.
    pub(crate) captures: bool,
}

impl RemoteFn {
    pub(crate) fn of<F: 'static>() -> Self {
        Self { type_id: TypeId::of::<F>(), path: type_name::<F>(), captures: size_of::<F>() > 0 }
    }
}

/// The executor of a task that waits or runs elsewhere. A thin pointer, since a million queued tasks may hold one.
pub(crate) type RemoteOwner = Arc<Arc<dyn Owner>>;

/// The typed part of a task, with its types erased.
pub(crate) trait Body: Send + Sync {
    /// Returns a function that finds the name of the task's function, which takes a while.
    fn function(&self) -> fn() -> &'static str;
    /// Runs the work of `task`, whose body this is, and stores the outcome. Returns the context, and how to
    /// [settle](state::State::settle) the task; `None` if another thread has ended it meanwhile.
    fn execute(&self, task: TaskRef, context: Context) -> (Context, Option<u32>);
    /// Drops the work, and stores `error` as the outcome. Returns the executor that the work was [handed
    /// over](Self::hand_over) to, if it was.
    fn refuse(&self, error: TaskError) -> Option<Arc<dyn Owner>>;
    /// The function that the task calls, if it can be called in another process.
    fn remote_fn(&self) -> Option<RemoteFn>;
    /// Takes the work out, encoded, to be done elsewhere.
    fn encode(&self) -> Result<Encoded, BoxError>;
    /// Stores `owner` where the work was, until the outcome replaces it. Returns `false` if an outcome is there already.
    fn hand_over(&self, owner: RemoteOwner) -> bool;
    /// The executor that the work was handed over to; `None` if it was not, or once the task has ended.
    fn owner(&self) -> Option<Arc<dyn Owner>>;
    /// Stores the outcome of work that was done elsewhere. Returns how to settle the task.
    fn accept(&self, core: &Core, outcome: Result<Encoded, TaskError>) -> u32;
    /// The kind of error that the task has ended with, or is about to; also after the outcome was taken or dropped.
    fn error_kind(&self) -> Option<TaskErrorKind>;
    /// Drops the outcome.
    fn discard(&self);
    /// The size of an output in memory, apart from what it points to.
    fn output_size(&self) -> usize;
}

/// A task whose output is a `T`.
pub(crate) trait Handle<T>: Send + Sync {
    fn task(&self) -> &Task<dyn Body>;
    /// Takes the outcome. Only after the task has ended; `None` if it was taken or dropped before.
    fn take(&self) -> Option<Result<T, TaskError>>;
    fn to_task(self: Arc<Self>) -> TaskRef;
}

impl Task<dyn Body> {
    pub(crate) fn name(&self) -> &str {
        self.core.name(self.body.function()())
    }

    /// An error of this task, with its progress as of now.
    pub(crate) fn error(&self, kind: TaskErrorKind) -> TaskError {
        self.core.error(kind, self.body.function()())
    }

    /// Has the executor look at the control word, if it is attached.
    pub(crate) fn tell_owner(&self) {
        if let Some(owner) = self.owner() {
            owner.changed(self.core.id());
        }
    }

    /// Called when this thread is about to block until the task has ended. Returns work of the executor that the thread
    /// can do meanwhile. If a thread of the executor must do that work instead, wakes it.
    pub(crate) fn before_blocking(&self) -> Option<Arc<dyn Reactor>> {
        let owner = self.owner()?;
        let tells_others = self.core.state.load() & state::OBSERVED != 0 || self.core.items().is_some();
        if tells_others {
            owner.take_over();
            return None;
        }
        owner.reactor()
    }

    /// Reads how far the task has come, if it runs in another process that can be looked into. Returns what was read last.
    pub(crate) fn look(&self) -> Option<Position> {
        if self.core.is_elsewhere() {
            let owner = self.owner()?;
            self.core.look(|process| owner.look(process, self.core.id()));
        }
        self.core.seen()
    }

    /// If the process where the task runs was stopped by a signal: an error that says so.
    pub(crate) fn stopped(&self) -> Option<BoxError> {
        self.owner()?.stopped(self.core.process()?)
    }

    fn owner(&self) -> Option<Arc<dyn Owner>> {
        if self.core.state.load() & state::ATTACHED == 0 {
            return None;
        }
        self.body.owner().or_else(|| self.core.existing_details()?.owner().clone())
    }

    /// Returns for how long, at least, the task has made no progress call, and asks for the next call to be noted. What is not
    /// known yet does not count as silence.
    pub(crate) fn silence(&self) -> Duration {
        let heard_until = self.owner().and_then(|owner| owner.heard_until(self.core.id()));
        let silence = self.core.silent_until(heard_until.unwrap_or_else(clock::now));
        if silence.is_none() && self.core.probe() {
            self.tell_owner();
        }
        silence.unwrap_or_default()
    }
}

/// Tasks that do nothing, for the tests of this layer.
#[cfg(test)]
pub(crate) mod idle {
    use crate::error::TaskResult;
    use crate::run::{self, Work};
    use crate::task::TaskRef;
    use crate::task::details::Details;
    use crate::updater::Updater;

    pub(crate) struct Idle;

    impl Work for Idle {
        type Output = ();

        fn function() -> &'static str {
            "idle"
        }

        fn call(self, _updater: &Updater) -> TaskResult<()> {
            Ok(())
        }
    }

    /// A task that has been started.
    pub(crate) fn started(details: Details) -> TaskRef {
        let (task, _) = run::new(Idle, Some(Box::new(details)));
        assert_eq!(task.core.state.claim(), Ok(()));
        task.core.start_clock(0);
        task
    }
}
