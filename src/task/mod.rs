//! A task: the one state that both of its sides share, in one allocation.
//!
//! The task's side holds it through an [`Updater`], the caller's side through a future and its cancellers, the
//! executor through a [`Job`](crate::Job). Every transition of its [`state`] is made here, and whoever
//! makes one tells those who wait for it: the task ([`Core::interrupt`]), the future ([`Core::waiter`]), the observers
//! ([`publish`]) and, where it asked for that, the executor ([`Home`]).

pub(crate) mod callbacks;
pub(crate) mod core;
pub(crate) mod counts;
pub(crate) mod details;
pub(crate) mod limits;
pub(crate) mod parts;
pub(crate) mod publish;
pub(crate) mod remote;
pub(crate) mod state;
pub(crate) mod transitions;
pub(crate) mod watchdog;

use std::any::TypeId;
use std::sync::Arc;

use crate::codec::Parcel;
use crate::error::{BoxError, TaskError, TaskErrorKind};
use crate::id::TaskId;
use crate::task::core::Core;
use crate::updater::Updater;

/// A function that may be called in another process, if that knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable {
    pub(crate) type_id: TypeId,
    pub(crate) path: &'static str,
    /// Whether it captures something, which cannot be sent.
    pub(crate) captures: bool,
}

/// A task of any type.
pub(crate) type TaskRef = Arc<Task<dyn Body>>;

pub(crate) struct Task<B: ?Sized> {
    pub(crate) core: Core,
    pub(crate) body: B,
}

/// What the executor of a task hears of it, once it has [attached](transitions::attach) itself.
pub(crate) trait Home: Send + Sync {
    /// Something was requested of a task: to go on, to wait, to end, to show what it does. Its control word says what.
    fn changed(self: Arc<Self>, task: TaskId);
    /// A task has ended.
    fn ended(self: Arc<Self>, task: TaskId);
}

/// The typed part of a task, behind an untyped face.
pub(crate) trait Body: Send + Sync {
    fn function(&self) -> &'static str;
    /// Runs the work, keeps its outcome, and returns how that is to be [settled](state::State::settle); `None` where somebody
    /// else has ended the task meanwhile.
    fn execute(&self, core: &Core, updater: &Updater) -> Option<u32>;
    /// Drops the work, and keeps `error` as the outcome.
    fn refuse(&self, error: TaskError);
    /// Which function it calls, where that may be called in another process.
    fn portable(&self) -> Option<Portable>;
    /// Takes the work out, to be done elsewhere.
    fn pack(&self) -> Result<Parcel, BoxError>;
    /// The same for the outcome of work that was done elsewhere.
    fn accept(&self, core: &Core, outcome: Result<Parcel, TaskError>) -> u32;
    /// Drops the outcome.
    fn discard(&self);
}

/// A task whose output is a `T`.
pub(crate) trait Handle<T>: Send + Sync {
    fn core(&self) -> &Core;
    fn name(&self) -> &str;
    /// The outcome, once, after the task has ended.
    fn take(&self) -> Option<Result<T, TaskError>>;
    fn to_task(self: Arc<Self>) -> TaskRef;
}

impl<B: Body + ?Sized> Task<B> {
    pub(crate) fn name(&self) -> &str {
        self.core.name(self.body.function())
    }

    pub(crate) fn body(&self) -> &B {
        &self.body
    }

    /// An error of this task, as of now.
    pub(crate) fn error(&self, kind: TaskErrorKind) -> TaskError {
        self.core.error(kind, self.body.function())
    }
}
