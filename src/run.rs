//! The one place that runs a task.

use std::cell::Cell;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::codec::Parcel;
use crate::error::{BoxError, TaskError, TaskErrorKind, TaskResult, panic_message};
use crate::sync::clock;
use crate::task::core::Core;
use crate::task::details::Board;
use crate::task::transitions::{ending, settle};
use crate::task::{Body, Handle, Portable, Task, TaskRef, watchdog};
use crate::updater::Updater;
use crate::updater::checkpoint::Context;

/// What a task does: its function, with its input.
pub(crate) trait Work: Send + 'static {
    type Output: Send + 'static;

    /// The name of the function, for people.
    fn function() -> &'static str;
    fn call(self, updater: &Updater) -> TaskResult<Self::Output>;

    /// Which function that is, where it may be called in another process.
    fn portable() -> Option<Portable> {
        None
    }
    /// The input, encoded for that process.
    fn pack(self) -> Result<Parcel, BoxError>
    where
        Self: Sized,
    {
        Err("it stays in this process".into())
    }
    /// The output of that process.
    fn unpack(_output: Parcel) -> Result<Self::Output, BoxError> {
        Err("it stays in this process".into())
    }
}

/// A body in its stages. The work and the outcome are never there at the same time, and share their place.
enum Stage<W: Work> {
    Waiting(W),
    /// Running, or done with.
    Empty,
    Ended(Result<W::Output, TaskError>),
}

struct Slot<W: Work>(Mutex<Stage<W>>);

impl<W: Work> Slot<W> {
    fn keep(&self, outcome: Result<W::Output, TaskError>) -> u32 {
        let ending = outcome.as_ref().map_or_else(ending, |_| 0);
        self.replace(Stage::Ended(outcome));
        ending
    }

    fn replace(&self, stage: Stage<W>) -> Stage<W> {
        mem::replace(&mut *self.lock(), stage)
    }

    fn take_work(&self) -> Option<W> {
        let mut stage = self.lock();
        match mem::replace(&mut *stage, Stage::Empty) {
            Stage::Waiting(work) => Some(work),
            // It may have been ended already.
            other => {
                *stage = other;
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stage<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Work> Body for Slot<W> {
    fn function(&self) -> &'static str {
        W::function()
    }

    fn execute(&self, core: &Core, updater: &Updater) -> Option<u32> {
        let work = self.take_work()?;
        let result = catch_unwind(AssertUnwindSafe(|| work.call(updater)));
        if !core.state.decide() {
            drop_quietly(result);
            return None;
        }
        core.stop_clock();
        let outcome = match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(core.judge(error, W::function())),
            Err(payload) => Err(core.error(TaskErrorKind::Panicked, W::function()).with_panic(payload)),
        };
        Some(self.keep(outcome))
    }

    fn refuse(&self, error: TaskError) {
        drop_quietly(self.replace(Stage::Ended(Err(error))));
    }

    fn portable(&self) -> Option<Portable> {
        W::portable()
    }

    fn pack(&self) -> Result<Parcel, BoxError> {
        let work = self.take_work().ok_or("it was taken before")?;
        guard(|| work.pack())
    }

    fn accept(&self, core: &Core, outcome: Result<Parcel, TaskError>) -> u32 {
        self.keep(outcome.and_then(|output| {
            guard(|| W::unpack(output))
                .map_err(|error| core.error(TaskErrorKind::Decode, W::function()).with_source(error))
        }))
    }

    fn discard(&self) {
        drop_quietly(self.replace(Stage::Empty));
    }
}

/// Calls code of the user that has no business to panic; if it does, that is an error like others.
fn guard<T>(call: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        Err(match panic_message(&*payload) {
            Some(message) => format!("it panicked: {message}").into(),
            None => "it panicked".into(),
        })
    })
}

impl<W: Work> Handle<W::Output> for Task<Slot<W>> {
    fn core(&self) -> &Core {
        &self.core
    }

    fn name(&self) -> &str {
        Task::name(self)
    }

    fn take(&self) -> Option<Result<W::Output, TaskError>> {
        match self.body.replace(Stage::Empty) {
            Stage::Ended(outcome) => Some(outcome),
            Stage::Waiting(_) | Stage::Empty => None,
        }
    }

    fn to_task(self: Arc<Self>) -> TaskRef {
        self
    }
}

/// Drops what belongs to the user, whose `drop` may panic, on a thread that must go on.
fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

/// Makes a task, seen from both of its sides.
pub(crate) fn new<W: Work>(work: W, board: Option<Box<Board>>) -> (TaskRef, Arc<dyn Handle<W::Output>>) {
    let task = Arc::new(Task { core: Core::new(board), body: Slot(Mutex::new(Stage::Waiting(work))) });
    (task.clone(), task)
}

/// Runs a task that the caller has [claimed](crate::task::state::State::claim), and settles it.
pub(crate) fn run(task: TaskRef, context: Context) -> Context {
    task.core.counts.start_clock(clock::now());
    watchdog::watch(&task);
    let updater = Updater::new(task, context);
    updater.announce();
    let ending = updater.task().body.execute(&updater.task().core, &updater);
    let (task, context) = updater.into_parts();
    if let Some(ending) = ending {
        settle(&task, ending);
    }
    context
}

thread_local! {
    static HOME: Cell<u32> = const { Cell::new(0) };
}

/// Makes this thread one of those that work for the pool `home`.
pub(crate) fn settle_in(home: u32) {
    HOME.set(home);
}

/// Whether this thread works for the pool `home`.
pub(crate) fn is_home(home: u32) -> bool {
    home != 0 && HOME.get() == home
}
