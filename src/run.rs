//! The one place that runs tasks: it calls the work of a task with an updater.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{iter, mem, thread};

use crate::codec::{Encoded, references};
use crate::error::chain::is_cancellation;
use crate::error::defect::Defect;
use crate::error::remote::RemoteError;
use crate::error::{BoxError, CancelCause, Cancelled, TaskError, TaskErrorKind, TaskResult, guard};
use crate::id::TaskId;
use crate::sync::unwind::{drop_each_quietly, drop_quietly};
use crate::task::context::Context;
use crate::task::core::Core;
use crate::task::details::{Details, Owner};
use crate::task::state::{self, Unclaimed};
use crate::task::transitions::{self, Settled, ending, settle};
use crate::task::watchdog;
use crate::task::{Body, Handle, RemoteFn, RemoteOwner, Task, TaskRef};
use crate::updater::Updater;

/// What a task does: its function, with its input.
pub(crate) trait Work: Send + 'static {
    type Output: Send + 'static;

    /// The name of the function, for people.
    fn function() -> &'static str;
    fn call(self, updater: &Updater) -> TaskResult<Self::Output>;

    /// The function as another process knows it; `None` if it cannot be called there.
    fn remote_fn() -> Option<RemoteFn> {
        None
    }
    /// Encodes the input for that process.
    fn encode(self) -> Result<Encoded, BoxError>
    where
        Self: Sized,
    {
        Err(stays())
    }
    /// Decodes the output of that process.
    fn decode(_output: Encoded) -> Result<Self::Output, BoxError> {
        Err(stays())
    }
}

/// The error for work that is never encoded or decoded.
pub(crate) fn stays() -> BoxError {
    "it stays in this process".into()
}

/// The stages of a task's body: the work, the executor that does it elsewhere, and the outcome never exist at the same
/// time, so they share memory.
enum Stage<W: Work> {
    Waiting(Unaligned<W>),
    /// The task is running, or its outcome is gone.
    Empty,
    /// The work was taken out, and this executor does it.
    Elsewhere(Unaligned<RemoteOwner>),
    Returned(Unaligned<W::Output>),
    Failed(Unaligned<TaskError>),
    /// The error was taken or dropped. Reports still tell how the task has ended.
    Taken(Unaligned<Box<TaskErrorKind>>),
}

/// A value without padding before it, so that the discriminant of the stage fits beside the flags of the mutex. It can
/// be moved in and out, but not borrowed.
#[repr(Rust, packed)]
struct Unaligned<T>(T);

struct Slot<W: Work>(Mutex<Stage<W>>);

impl<W: Work> Stage<W> {
    fn of(outcome: Result<W::Output, TaskError>) -> Self {
        match outcome {
            Ok(output) => Self::Returned(Unaligned(output)),
            Err(error) => Self::Failed(Unaligned(error)),
        }
    }
}

impl<W: Work> Slot<W> {
    fn keep(&self, outcome: Result<W::Output, TaskError>) -> u32 {
        let ending = outcome.as_ref().map_or_else(ending, |_| 0);
        self.replace(Stage::of(outcome));
        ending
    }

    fn replace(&self, stage: Stage<W>) -> Stage<W> {
        mem::replace(&mut *self.lock(), stage)
    }

    /// Replaces a stage that `is_wanted` by the one that `change` makes of it. Other stages stay where they are, unmoved: an
    /// input may be large.
    fn change<R>(
        &self,
        is_wanted: impl FnOnce(&Stage<W>) -> bool,
        change: impl FnOnce(Stage<W>) -> (Stage<W>, Option<R>),
    ) -> Option<R> {
        let mut place = self.lock();
        if !is_wanted(&place) {
            return None;
        }
        let (stage, result) = change(mem::replace(&mut *place, Stage::Empty));
        *place = stage;
        result
    }

    /// Calls the function and keeps its outcome. Returns `None` if another thread has ended the task before or
    /// meanwhile.
    fn call(&self, updater: &Updater) -> Option<u32> {
        let work = self.take_work()?;
        let result = catch_unwind(AssertUnwindSafe(|| work.call(updater)));
        let core = &updater.task().core;
        if !core.state.decide() {
            drop_quietly(result);
            return None;
        }
        core.close();
        Some(self.keep(judge(core, W::function, result)))
    }

    fn take_work(&self) -> Option<W> {
        // The task may have ended already.
        let is_waiting = |stage: &Stage<W>| matches!(stage, Stage::Waiting(_));
        self.change(is_waiting, |stage| match stage {
            Stage::Waiting(Unaligned(work)) => (Stage::Empty, Some(work)),
            other => (other, None),
        })
    }

    /// Takes the outcome, if there is one. How the task has ended stays.
    fn take_outcome(&self) -> Stage<W> {
        let mut place = self.lock();
        match mem::replace(&mut *place, Stage::Empty) {
            Stage::Failed(Unaligned(error)) => {
                *place = Stage::Taken(Unaligned(error.kind().clone().into()));
                Stage::Failed(Unaligned(error))
            }
            other => other,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stage<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Work> Body for Slot<W> {
    fn function(&self) -> fn() -> &'static str {
        W::function
    }

    fn execute(&self, task: TaskRef, context: Context) -> (Context, Option<u32>) {
        let updater = Updater::new(task, context);
        updater.announce();
        let ending = self.call(&updater);
        (updater.into_context(), ending)
    }

    fn refuse(&self, error: TaskError) -> Option<Arc<dyn Owner>> {
        match self.replace(Stage::Failed(Unaligned(error))) {
            Stage::Elsewhere(Unaligned(owner)) => Some((*owner).clone()),
            other => {
                drop_quietly(other);
                None
            }
        }
    }

    fn remote_fn(&self) -> Option<RemoteFn> {
        W::remote_fn()
    }

    fn encode(&self) -> Result<Encoded, BoxError> {
        let work = self.take_work().ok_or("it was taken before")?;
        guard(|| work.encode())
    }

    fn hand_over(&self, owner: RemoteOwner) -> bool {
        let mut place = self.lock();
        // The task may have been refused meanwhile.
        let is_out = matches!(*place, Stage::Empty);
        if is_out {
            *place = Stage::Elsewhere(Unaligned(owner));
        }
        is_out
    }

    fn owner(&self) -> Option<Arc<dyn Owner>> {
        let is_elsewhere = |stage: &Stage<W>| matches!(stage, Stage::Elsewhere(_));
        self.change(is_elsewhere, |stage| match stage {
            Stage::Elsewhere(Unaligned(owner)) => {
                let found = (*owner).clone();
                (Stage::Elsewhere(Unaligned(owner)), Some(found))
            }
            other => (other, None),
        })
    }

    fn accept(&self, core: &Core, outcome: Result<Encoded, TaskError>) -> u32 {
        self.keep(decode_outcome(outcome, W::decode, || core.error(TaskErrorKind::Decode, W::function())))
    }

    fn error_kind(&self) -> Option<TaskErrorKind> {
        let has_failed = |stage: &Stage<W>| matches!(stage, Stage::Failed(_) | Stage::Taken(_));
        self.change(has_failed, |stage| match stage {
            Stage::Failed(Unaligned(error)) => {
                let kind = error.kind().clone();
                (Stage::Failed(Unaligned(error)), Some(kind))
            }
            Stage::Taken(Unaligned(kind)) => {
                let found = (*kind).clone();
                (Stage::Taken(Unaligned(kind)), Some(found))
            }
            other => (other, None),
        })
    }

    fn discard(&self) {
        drop_quietly(self.take_outcome());
    }

    fn output_size(&self) -> usize {
        size_of::<W::Output>()
    }
}

/// Decodes what a function returned in another process.
pub(crate) fn decode_output<T>(decode: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    references::aside(|| guard(decode)).map_err(|source| Defect::Output(source).into())
}

/// Decodes the outcome of a function in another process: its output, or what it returned although it was cancelled. `error`
/// makes the error for an output that cannot be decoded.
pub(crate) fn decode_outcome<T: Send + 'static>(
    outcome: Result<Encoded, TaskError>,
    decode: impl Fn(Encoded) -> Result<T, BoxError>,
    error: impl FnOnce() -> TaskError,
) -> Result<T, TaskError> {
    let decode = |output| decode_output(|| decode(output));
    match outcome {
        Ok(output) => decode(output).map_err(|source| error().with_source(source)),
        Err(mut error) => Err(match error.take_partial().map(decode) {
            None => error,
            Some(Ok(partial)) => error.with_partial(Box::new(partial)),
            // The task was still cancelled.
            Some(Err(source)) => {
                let source = RemoteError::of_error(&*source).of(error.kind());
                error.with_source(source.into())
            }
        }),
    }
}

impl<W: Work> Handle<W::Output> for Task<Slot<W>> {
    fn task(&self) -> &Task<dyn Body> {
        self
    }

    fn take(&self) -> Option<Result<W::Output, TaskError>> {
        match self.body.take_outcome() {
            Stage::Returned(Unaligned(output)) => Some(Ok(output)),
            Stage::Failed(Unaligned(error)) => Some(Err(error)),
            _ => None,
        }
    }

    fn to_task(self: Arc<Self>) -> TaskRef {
        self
    }
}

/// The outcome of a task whose function has returned or panicked. `function` is called for errors only, as it has to
/// search for the name.
fn judge<O: Send + 'static>(
    core: &Core,
    function: fn() -> &'static str,
    result: thread::Result<TaskResult<O>>,
) -> Result<O, TaskError> {
    match result {
        Ok(Ok(value)) if core.state.load() & state::CUT_SHORT == 0 => Ok(value),
        // The value may be incomplete.
        Ok(Ok(value)) => Err(cancelled(core, function, Cancelled.into()).with_partial(Box::new(value))),
        Ok(Err(source)) => Err(failed(core, function, source)),
        Err(payload) => Err(core.error(TaskErrorKind::Panicked, function()).with_panic(payload)),
    }
}

/// The outcome of a task whose function has returned this error: cancelled or failed.
fn failed(core: &Core, function: fn() -> &'static str, source: BoxError) -> TaskError {
    let word = core.state.load();
    let is_cancelled = word & state::CANCEL != 0 && is_cancellation(&*source);
    // A part that could not be encoded: the task was cancelled all the same.
    let is_of_part = word & state::CUT_SHORT != 0 && matches!(source.downcast_ref(), Some(Defect::Output(_)));
    if is_cancelled || is_of_part {
        return cancelled(core, function, source);
    }
    core.error(TaskErrorKind::Failed, function()).with_source(source)
}

fn cancelled(core: &Core, function: fn() -> &'static str, source: BoxError) -> TaskError {
    let cause = CancelCause::from_bits(state::cause(core.state.load()));
    core.error(TaskErrorKind::Cancelled(cause), function()).with_source(source)
}

/// Calls `call` with each item of a chunk until the task is asked to end, and delivers each outcome, together with how long the
/// task has been running by then. An error or a panic ends its own item only.
pub(crate) fn run_items<I, O: Send + 'static>(
    updater: &Updater,
    function: fn() -> &'static str,
    items: impl IntoIterator<Item = I>,
    call: impl Fn(I, &Updater) -> TaskResult<O>,
    mut deliver: impl FnMut(Result<O, TaskError>, Duration),
) -> TaskResult<()> {
    let mut items = items.into_iter();
    while let Some(item) = items.next() {
        // Even if the function makes no progress call, the task ends or pauses here, and reports its progress.
        if let Err(cancelled) = updater.update(0) {
            drop_each_quietly(iter::once(item).chain(items));
            return Err(cancelled.into());
        }
        let result = catch_unwind(AssertUnwindSafe(|| call(item, updater)));
        let outcome = judge(&updater.task().core, function, result);
        // Before the delivery, or else what the item has counted would count twice for a moment.
        let elapsed = updater.begin_item();
        deliver(outcome, elapsed);
    }
    Ok(())
}

/// Makes a task, and returns both sides of it.
#[inline]
pub(crate) fn new<W: Work>(work: W, details: Option<Box<Details>>) -> (TaskRef, Arc<dyn Handle<W::Output>>) {
    with_id(TaskId::next(), work, details)
}

/// Like [`new`], for a task that has an id already.
#[inline]
pub(crate) fn with_id<W: Work>(
    id: TaskId,
    work: W,
    details: Option<Box<Details>>,
) -> (TaskRef, Arc<dyn Handle<W::Output>>) {
    at_stage::<W>(id, Stage::Waiting(Unaligned(work)), details)
}

/// A task whose work could not be made; the caller refuses it.
pub(crate) fn without_work<W: Work>(details: Option<Box<Details>>) -> (TaskRef, Arc<dyn Handle<W::Output>>) {
    at_stage::<W>(TaskId::next(), Stage::Empty, details)
}

#[inline]
fn at_stage<W: Work>(
    id: TaskId,
    stage: Stage<W>,
    details: Option<Box<Details>>,
) -> (TaskRef, Arc<dyn Handle<W::Output>>) {
    let task = Arc::new(Task { core: Core::new(id, details), body: Slot(Mutex::new(stage)) });
    (task.clone(), task)
}

/// Runs a task, unless another thread ends it, and returns when it has ended. Waits until a paused task is resumed.
pub(crate) fn claim_and_run(task: &TaskRef, context: Context) {
    loop {
        match task.core.claim() {
            Ok(()) => {
                run(task.clone(), context);
                break;
            }
            Err(Unclaimed::Taken) => break,
            Err(Unclaimed::Paused) => {
                task.core.wait_until(|word| word & state::PAUSE == 0 || !state::is_pending(word), None);
            }
        }
    }
    transitions::await_end(&task.core);
}

/// Runs a task that the caller has [claimed](crate::task::state::State::claim). The caller may be code that waits within
/// the encoding of an input. Returns whether this thread has settled it; if not, a limit has passed, and another one does.
pub(crate) fn run(task: TaskRef, context: Context) -> bool {
    references::aside(|| execute(&task, context, 0).1.is_some())
}

/// Like [`run`], for a thread that only runs tasks, but starts the task's clock at `free_since` if that is not 0: the moment
/// since which the thread has had nothing else to do. For a short task, reading the clock is a quarter of the whole cost.
/// Returns that moment for the next task, or 0.
pub(crate) fn run_from(task: TaskRef, context: Context, free_since: u64) -> (Context, u64) {
    let (context, settled) = execute(&task, context, free_since);
    (context, if settled == Some(Settled::Unnoticed) { task.core.stopped_at() } else { 0 })
}

fn execute(task: &TaskRef, context: Context, free_since: u64) -> (Context, Option<Settled>) {
    task.core.set_thread(THREAD.with(|number| *number));
    task.core.start_clock(free_since);
    watchdog::watch(task);
    let (context, ending) = task.body.execute(task.clone(), context);
    (context, ending.map(|ending| settle(task, ending)))
}

/// A pool whose threads run the tasks they wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CurrentPool {
    /// Never 0.
    pub(crate) id: u32,
    pub(crate) report_interval: Duration,
}

/// The number of the next thread that runs a task for the first time.
static NEXT_THREAD: AtomicU32 = AtomicU32::new(1);

thread_local! {
    static THREAD: u32 = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
    static CURRENT_POOL: Cell<Option<CurrentPool>> = const { Cell::new(None) };
}

/// Makes this thread one of the threads of `pool`.
pub(crate) fn enter_pool(pool: CurrentPool) {
    CURRENT_POOL.set(Some(pool));
}

/// The pool that this thread belongs to, if it has this id.
#[inline]
pub(crate) fn current_pool(id: u32) -> Option<CurrentPool> {
    CURRENT_POOL.get().filter(|pool| pool.id == id)
}

#[cfg(test)]
mod tests {
    use super::{Work, claim_and_run, new, run_from};
    use crate::error::{CancelCause, TaskErrorKind, TaskResult};
    use crate::id::TaskId;
    use crate::sync::clock;
    use crate::task::context::Context;
    use crate::task::details::{Details, Owner};
    use crate::task::idle::Idle;
    use crate::task::limits::Limits;
    use crate::task::{RemoteOwner, TaskRef, publish, state, transitions};
    use crate::updater::Updater;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use std::task::Waker;
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    const DEADLINE: Duration = Duration::from_secs(60);

    #[derive(Default)]
    struct Pool {
        changed: AtomicUsize,
        ended: AtomicUsize,
    }

    impl Owner for Pool {
        fn changed(self: Arc<Self>, _task: TaskId) {
            self.changed.fetch_add(1, Ordering::Relaxed);
        }

        fn ended(self: Arc<Self>, _task: TaskId) {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Pool {
        fn heard(&self) -> (usize, usize) {
            (self.changed.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_task_that_has_ended_keeps_no_executor() {
        for is_told in [true, false] {
            let (task, _handle) = new(Idle, None);
            let pool = Arc::new(Pool::default());
            assert!(transitions::attach(&task, pool.clone(), |_| true));
            if !is_told {
                task.core.state.clear(state::ATTACHED);
            }
            assert!(task.core.state.seal());
            transitions::refuse(&task, TaskErrorKind::Rejected, None);
            assert_eq!(Arc::strong_count(&pool), 1, "told: {is_told}");
        }
    }

    #[test]
    fn whoever_has_taken_the_work_hears_of_a_task_that_has_no_details() {
        let (task, _handle) = new(Idle, None);
        let pool = Arc::new(Pool::default());
        let owner: RemoteOwner = Arc::new(pool.clone() as Arc<dyn Owner>);
        assert!(task.body.encode().is_err(), "it stays in this process");
        assert!(transitions::hand_over(&task, &owner));
        transitions::pause(&task);
        transitions::resume(&task);
        assert_eq!(pool.heard(), (2, 0));
        transitions::cancel(&task, CancelCause::Requested);
        assert_eq!(pool.heard(), (2, 1));
        assert!(task.core.existing_details().is_none());
        assert_eq!(Arc::strong_count(&owner), 1, "a task that has ended keeps no executor");
    }

    /// Work that calls a function when it is run, and another when it is dropped.
    struct Calls {
        run: fn(&TaskRef),
        drop: Box<dyn Fn() + Send>,
    }

    impl Work for Calls {
        type Output = ();

        fn function() -> &'static str {
            "calls"
        }

        fn call(self, updater: &Updater) -> TaskResult<()> {
            (self.run)(updater.task());
            Ok(())
        }
    }

    impl Drop for Calls {
        fn drop(&mut self) {
            (self.drop)();
        }
    }

    fn calls(drop: impl Fn() + Send + 'static) -> TaskRef {
        new(Calls { run: |_| {}, drop: Box::new(drop) }, None).0
    }

    /// Runs the task on another thread, until that waits for the end of the task or, wrongly, no longer does.
    fn run_until_it_waits(task: &TaskRef) -> JoinHandle<bool> {
        let running = task.clone();
        let runner = thread::spawn(move || {
            claim_and_run(&running, Context::default());
            running.core.has_ended()
        });
        while task.core.state.load() & state::WAITS == 0 && !runner.is_finished() {
            thread::yield_now();
        }
        runner
    }

    #[test]
    fn whoever_runs_a_task_that_another_thread_is_ending_waits_for_its_end() {
        // Before its start: that thread still drops the input.
        let ((dropping, is_dropping), (go_on, may_go_on)) = (channel(), channel());
        let task = calls(move || {
            let _ = dropping.send(());
            let _ = may_go_on.recv_timeout(DEADLINE);
        });
        let cancelled = task.clone();
        let canceller = thread::spawn(move || transitions::cancel(&cancelled, CancelCause::Requested));
        is_dropping.recv_timeout(DEADLINE).unwrap();
        let runner = run_until_it_waits(&task);
        go_on.send(()).unwrap();
        assert!(runner.join().unwrap(), "its input was being dropped");
        canceller.join().unwrap();

        // After its start: a limit has passed, and that thread has decided how the task ends.
        let limits = Limits { timeout: Some(Duration::MAX), ..Limits::default() };
        let decide = |task: &TaskRef| assert!(task.core.state.decide());
        let (task, _handle) = new(Calls { run: decide, drop: Box::new(|| {}) }, Details::of(None, limits));
        task.core.state.set(state::LIMITED);
        let runner = run_until_it_waits(&task);
        transitions::refuse(&task, TaskErrorKind::TimedOut, None);
        assert!(runner.join().unwrap(), "its limit had passed");
    }

    #[test]
    fn a_thread_that_is_ending_tasks_does_not_wait_for_its_own_doing() {
        let (done, is_done) = channel();
        thread::spawn(move || {
            let (to_drop, dropped) = channel::<TaskRef>();
            let run = move || dropped.try_iter().for_each(|task| claim_and_run(&task, Context::default()));
            let (first, second) = (calls(run), calls(|| {}));
            // The one whose input is being dropped, and one that was sealed with it.
            for task in [&first, &second] {
                to_drop.send(task.clone()).unwrap();
            }
            let tasks = [first.clone(), second.clone()].into_iter();
            transitions::request_cancel_all(tasks, CancelCause::Requested).carry_out();
            done.send(first.core.has_ended() && second.core.has_ended()).unwrap();
        });
        assert_eq!(is_done.recv_timeout(DEADLINE), Ok(true));
    }

    #[test]
    fn a_task_that_is_being_ended_is_not_handed_over_since_its_executor_would_not_hear_of_the_end() {
        let (task, _handle) = new(Idle, None);
        let pool = Arc::new(Pool::default());
        let owner: RemoteOwner = Arc::new(pool.clone() as Arc<dyn Owner>);
        // One thread takes the work out, another begins to end the task.
        assert!(task.body.encode().is_err(), "it stays in this process");
        assert!(task.core.state.seal());
        assert!(task.body.refuse(task.error(TaskErrorKind::Rejected)).is_none());
        assert!(!transitions::hand_over(&task, &owner));
        transitions::settle(&task, state::FAILED);
        assert_eq!((pool.heard(), Arc::strong_count(&owner)), ((0, 0), 1));
        assert!(!transitions::hand_over(&task, &owner), "it has ended");
    }

    /// When the task started, and the `free_since` of the next task on its thread.
    fn run(task: &TaskRef, free_since: u64) -> (u64, u64) {
        assert_eq!(task.core.claim(), Ok(()));
        let (_, free_since) = run_from(task.clone(), Context::default(), free_since);
        let (started, ended) = task.core.span().unwrap();
        assert!(free_since == 0 || free_since == ended);
        (started, free_since)
    }

    #[test]
    fn a_task_starts_when_the_one_before_it_has_ended_unless_code_of_the_user_was_called_in_between() {
        let (_, free_since) = run(&new(Idle, None).0, 0);
        let (started, next) = run(&new(Idle, None).0, free_since);
        assert_eq!(started, free_since);
        assert!(next > free_since);

        let (awaited, _) = new(Idle, None);
        awaited.core.waiter.register(Waker::noop());
        assert_eq!(run(&awaited, 0).1, 0);
        let (observed, _) = new(Idle, None);
        let _updates = publish::subscribe(&observed);
        assert_eq!(run(&observed, 0).1, 0);
        let (abandoned, _) = new(Idle, None);
        transitions::abandon(&abandoned);
        assert_eq!(run(&abandoned, 0).1, 0);
    }

    #[test]
    fn a_task_with_a_limit_starts_no_earlier_than_now() {
        let limits = Limits { timeout: Some(Duration::MAX), ..Limits::default() };
        let (limited, _) = new(Idle, Details::of(None, limits));
        let before = clock::now();
        while clock::now() == before {}
        assert!(run(&limited, before).0 > before);
    }
}
