//! The caller's side of a task.

pub(crate) mod bar;
pub(crate) mod canceller;
#[cfg(feature = "serde")]
pub(crate) mod event_record;
pub(crate) mod events;
#[cfg(feature = "indicatif")]
pub(crate) mod text;
mod untyped;

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use async_channel::Receiver;
use futures::future::FusedFuture;

use crate::error::{CancelCause, TaskError, TaskErrorKind};
use crate::future::bar::{LazyBar, ProgressBar, Triggers};
use crate::future::canceller::Canceller;
use crate::future::untyped::Observers;
use crate::id::TaskId;
use crate::progress::ProgressState;
use crate::sync::block_on::{block_for, block_on};
use crate::sync::unwind::drop_quietly;
use crate::task::callbacks::{Callback, CallbackId, Observer};
use crate::task::core::Core;
use crate::task::transitions;
use crate::task::{Handle, TaskRef, publish, state};

/// The future of a task: its outcome, its progress, and the means to end it.
///
/// It resolves to the task's value, or to a [`TaskError`] that tells how else the task ended. Any runtime may poll it,
/// and it may move from one runtime to another.
///
/// | | a pending task | a running task |
/// |---|---|---|
/// | drop the future | will not run | is asked to end; the outcome is dropped |
/// | [`cancel`](Self::cancel) | will not run, the future resolves at once | is asked to end; the future resolves when it has |
/// | [`detach`](Self::detach) | runs | runs on; the outcome is dropped |
///
/// # Cancel safety
///
/// Dropping the future cancels the task. To stop waiting without cancelling, poll it by reference
/// (`futures::select! { outcome = &mut task => .., .. }`) or [`detach`](Self::detach) it.
///
/// # Panics
///
/// Polling panics if a progress callback or bar of this future panics, after all of them have been called. The task is
/// not harmed, the callback is removed, and the future can be polled again. A future that is polled after it has
/// resolved stays pending; [`wait`](Self::wait) and [`wait_timeout`](Self::wait_timeout) then return an error.
///
/// # Examples
///
/// ```
/// use progress_executor::ThreadPoolExecutor;
///
/// let executor = ThreadPoolExecutor::new(2);
/// let task = executor.spawn(|progress| {
///     for step in progress.iter(0..100) {
///         step?;
///     }
///     Ok("done")
/// });
/// let task = task.on_progress(|old, new| println!("{} -> {} of {:?}", old.n, new.n, new.total));
/// assert_eq!(smol::block_on(task)?, "done");
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[must_use = "dropping the future cancels its task; `detach` lets it run on"]
pub struct ProgressFuture<T> {
    handle: Arc<dyn Handle<T>>,
    callbacks: Option<Observers>,
    /// Whether the outcome was handed out, or will never be.
    resolved: bool,
}

impl<T> ProgressFuture<T> {
    pub(crate) fn new(handle: Arc<dyn Handle<T>>) -> Self {
        Self { handle, callbacks: None, resolved: false }
    }

    /// Which task this is.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let (first, second) = (executor.spawn(|_| Ok(1)), executor.spawn(|_| Ok(2)));
    /// assert_ne!(first.id(), second.id());
    /// # (first.wait()?, second.wait()?);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.core().id()
    }

    /// The name that the task was [given](crate::TaskBuilder::name), or else the name of its function with its id, such as
    /// `work #7`. A closure goes by the name of the function that contains it.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{TaskResult, ThreadPoolExecutor, Updater};
    ///
    /// fn work((): (), _: &Updater) -> TaskResult<()> {
    ///     Ok(())
    /// }
    ///
    /// let executor = ThreadPoolExecutor::new(1);
    /// let task = executor.submit(work, ());
    /// assert_eq!(task.name(), format!("work #{}", task.id()));
    /// assert_eq!(executor.task(work, ()).name("cleanup").submit().name(), "cleanup");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        self.handle.task().name()
    }

    /// How far the task has come, right now. For a task in a worker process, this is as far as it can be
    /// [seen](crate::ProcessPoolExecutor#progress) from here.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{Status, SyncExecutor};
    ///
    /// let mut task = SyncExecutor::new().spawn(|progress| Ok(progress.set_counts(3, 3)?));
    /// assert_eq!(task.progress().status, Status::Pending);
    /// smol::block_on(&mut task)?;
    /// assert_eq!((task.progress().status, task.progress().n), (Status::Finished, 3));
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn progress(&self) -> ProgressState {
        untyped::progress(self.handle.task())
    }

    /// A new receiver of the task's progress: it yields the current state, then changes, and finally the last state,
    /// after which it is closed.
    ///
    /// The first change comes at once, further ones at most once per report interval of the executor (20 ms unless
    /// set). A receiver holds one state, and a newer one replaces it if it has not been received. So a receiver is
    /// always up to date, takes no more memory the longer it is not read, and never holds up the task; dropping it is
    /// harmless. Clones of a receiver share its states: call this method again for an independent receiver.
    ///
    /// The receiver outlives the future, and gets the last state even if the future is dropped or detached. It is closed a
    /// moment after that state, and then yields `None`. As a stream, it must be pinned, with [`std::pin::pin!`], before it can
    /// be used in `select!`. There, a loop that waits for its `None` needs `pin!(task.updates().fuse())`: a receiver that is
    /// closed counts as terminated before it has yielded `None`, and `select!` polls nothing that is terminated.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::{Status, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.set_counts(1, 2)?));
    /// let updates = task.updates();
    /// let states: Vec<_> = smol::block_on(updates.collect());
    /// assert_eq!(states.last().unwrap().status, Status::Finished);
    /// ```
    ///
    /// Together with the outcome (with [`events`](Self::events), the last state would come before it):
    ///
    /// ```
    /// use futures::{StreamExt, select};
    /// use std::pin::pin;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut task = executor.spawn(|progress| Ok(progress.set_counts(1, 2)?));
    /// let mut updates = pin!(task.updates());
    /// smol::block_on(async {
    ///     loop {
    ///         select! {
    ///             state = updates.select_next_some() => println!("{} of {:?}", state.n, state.total),
    ///             outcome = task => break outcome,
    ///         }
    ///     }
    /// })?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn updates(&self) -> Receiver<ProgressState> {
        publish::subscribe(&self.task())
    }

    /// Calls `f` with the old and the new state whenever the task's progress changes, at most once per report
    /// interval.
    ///
    /// Callbacks run where the future is polled, in the order in which they were added; a future that is not polled
    /// calls none. The first `old` is that of a task that has not started, so that nothing is missed between
    /// submitting the task and this call; each further `old` is the previous `new`. The last state of the task is
    /// always shown, before the future resolves.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let sink = seen.clone();
    /// let mut task = executor.spawn(|progress| Ok((0..2).try_for_each(|_| progress.update(1))?));
    /// task.add_progress_callback(move |old, new| if old.n < new.n { sink.lock().unwrap().push(new.n) });
    /// task.wait()?;
    /// assert_eq!(*seen.lock().unwrap(), [1, 2]); // this executor shows every change
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn add_progress_callback(
        &mut self,
        f: impl FnMut(&ProgressState, &ProgressState) + Send + 'static,
    ) -> CallbackId {
        self.observe(Box::new(Callback(f)), ProgressState::INITIAL)
    }

    /// Removes a callback. Returns whether it was there.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut task = executor.spawn(|progress| Ok(progress.update(1)?));
    /// let id = task.add_progress_callback(|_, new| println!("{}", new.n));
    /// assert!(task.remove_progress_callback(id));
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn remove_progress_callback(&mut self, id: CallbackId) -> bool {
        self.callbacks.as_ref().is_some_and(|callbacks| untyped::remove(callbacks, id))
    }

    /// [Adds a callback](Self::add_progress_callback), and returns the future.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.iter(0..1000).sum::<Result<u64, _>>()?));
    /// let task = task.on_progress(|old, new| println!("{} more, {:?} in all", new.n - old.n, new.fraction()));
    /// assert_eq!(task.wait()?, 499_500);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn on_progress(mut self, f: impl FnMut(&ProgressState, &ProgressState) + Send + 'static) -> Self {
        self.add_progress_callback(f);
        self
    }

    /// Makes a bar when the task reaches one of `triggers`, and lets it follow the task's state from then on.
    ///
    /// Like callbacks, `make` and the bar are called where the future is polled. If a trigger has been reached
    /// already, as [`Triggers::NOW`] always has, this call calls them as well.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Triggers;
    /// use progress_executor::bars::JsonLines;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut task = executor.spawn(|progress| Ok(progress.set_counts(3, 4)?));
    /// task.add_bar(Triggers::RUNNING, || JsonLines::new(std::io::stdout(), "dig"));
    /// task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn add_bar<B: ProgressBar + 'static>(
        &mut self,
        triggers: impl Into<Triggers>,
        make: impl FnOnce() -> B + Send + 'static,
    ) {
        let mut bar = LazyBar::new(triggers.into(), make);
        // Other bars, if there are any, are shown the lines where the future is polled, and so is this one.
        let are_shown_later = self.callbacks.as_ref().is_some_and(|observers| observers.latest.takes_lines());
        if bar.make(&self.progress()) && !are_shown_later {
            publish::early_lines(self.core()).iter().for_each(|line| bar.say(line));
        }
        let now = self.progress();
        bar.show(&now, &now);
        self.observe(Box::new(bar), now);
    }

    /// [Adds a bar](Self::add_bar), and returns the future.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ProgressBar, ProgressState, Triggers};
    ///
    /// struct Line;
    ///
    /// impl ProgressBar for Line {
    ///     fn update(&mut self, state: &ProgressState) {
    ///         print!("\r{} of {:?}", state.n, state.total);
    ///     }
    ///     fn finish(&mut self, state: &ProgressState) {
    ///         println!("\r{}", state.status);
    ///     }
    /// }
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.iter(0..1000).sum::<Result<u64, _>>()?));
    /// assert_eq!(task.with_bar(Triggers::RUNNING, || Line).wait()?, 499_500);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn with_bar<B: ProgressBar + 'static>(
        mut self,
        triggers: impl Into<Triggers>,
        make: impl FnOnce() -> B + Send + 'static,
    ) -> Self {
        self.add_bar(triggers, make);
        self
    }

    /// Asks the task to end.
    ///
    /// This is a request, and returns at once; the outcome tells what came of it. A task that has not started never will, and
    /// this call drops its input. A running task is told by its next progress call, and wakes from
    /// [`sleep`](crate::Updater::sleep) and from a pause. It may still finish, and then keeps its value, unless one of its
    /// [iterators](crate::Updater::iter), readers or writers has ended early: then it is cancelled, with a [partial
    /// result](TaskError::into_partial). Cancelling again, or after the end, does nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{TaskResult, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| -> TaskResult<()> {
    ///     loop {
    ///         progress.update(1)?;
    ///     }
    /// });
    /// task.cancel();
    /// assert!(task.wait().unwrap_err().is_cancelled());
    /// ```
    #[doc(alias("abort", "kill"))]
    pub fn cancel(&self) {
        transitions::cancel(&self.task(), CancelCause::Requested);
    }

    /// A handle that can cancel the task from elsewhere.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.sleep(std::time::Duration::MAX)?));
    /// let canceller = task.canceller();
    /// std::thread::spawn(move || canceller.cancel()); // when the user presses a button, say
    /// assert!(task.wait().unwrap_err().is_cancelled());
    /// ```
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller { task: self.task() }
    }

    /// Makes the task wait: before it starts, or else in its next progress call.
    ///
    /// A task that is paused before it starts leaves its place in the pool's queue to others. A task that waits in a
    /// progress call keeps its thread. Cancelling wakes it.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.iter(0..1000).sum::<Result<u64, _>>()?));
    /// task.pause();
    /// // … the user thinks about it …
    /// task.resume();
    /// assert_eq!(task.wait()?, 499_500);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn pause(&self) {
        transitions::pause(&self.task());
    }

    /// Lets a paused task go on.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|_| Ok(6 * 7));
    /// task.pause();
    /// assert_eq!(task.progress().status, progress_executor::Status::Paused);
    /// task.resume();
    /// assert_eq!(smol::block_on(task)?, 42);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn resume(&self) {
        transitions::resume(&self.task());
    }

    /// For how long, at least, the running task has made no progress call; `None` if it is not running. Pauses do not
    /// count.
    ///
    /// Progress calls read no clock. Instead, each call of this method asks for the task's next progress call to be
    /// noted, and returns zero if one was noted since the previous call. Called at intervals, it lags behind by at
    /// most one interval. The first answer lags by at most the report interval if the task is observed, and not at all
    /// if the task has made no progress call yet. The answer is never longer than the actual silence, except that behind a
    /// [launcher](crate::ProcessPoolBuilder::launcher) it includes the way of the question to the worker and back.
    ///
    /// A task that stays silent cannot be cancelled; this method detects it. See also
    /// [`stall_timeout`](crate::TaskBuilder::stall_timeout), which ends it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let (answer, question) = channel();
    /// let task = executor.spawn(move |_| Ok(question.recv()?)); // hears nothing until somebody answers
    /// while task.silent_for() < Some(Duration::from_millis(10)) {
    ///     std::thread::yield_now();
    /// }
    /// answer.send("here you are").unwrap();
    /// task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        let core = self.core();
        let is_running = core.has_run() && !core.has_ended();
        is_running.then(|| self.task().silence())
    }

    /// How long it took the task to notice its cancellation: from the request until a progress call returned
    /// [`Cancelled`](crate::Cancelled). `None` if cancellation was not requested while the task was running, or if the
    /// task has not noticed it yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.sleep(Duration::MAX)?));
    /// while task.silent_for().is_none() {
    ///     std::thread::yield_now(); // until it runs
    /// }
    /// assert_eq!(task.noticed_after(), None);
    /// task.cancel();
    /// while task.noticed_after().is_none() {
    ///     std::thread::yield_now();
    /// }
    /// assert!(task.canceller().is_acknowledged());
    /// ```
    #[must_use]
    pub fn noticed_after(&self) -> Option<Duration> {
        self.core().existing_details()?.noticed_after()
    }

    /// Whether the task has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut task = executor.spawn(|_| Ok(()));
    /// assert!(!task.is_done());
    /// smol::block_on(&mut task)?;
    /// assert!(task.is_done());
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.core().has_ended()
    }

    /// Lets the task run on without its future; its outcome is dropped. A paused task is resumed, since no future is
    /// left to resume it.
    ///
    /// # Blocking
    ///
    /// This call runs a task of a [`SyncExecutor`](crate::SyncExecutor) that has not run yet.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// executor.spawn(|progress| Ok(progress.iter(0..1000).sum::<Result<u64, _>>()?)).detach();
    /// ```
    pub fn detach(mut self) {
        self.resume();
        untyped::attend(self.core());
        // First, so that an executor that is given the task later knows that no future will poll it.
        transitions::abandon(&self.task());
        if self.is_inline() {
            self.run_here();
            // They were shown every change but the last.
            self.callbacks.iter().for_each(|callbacks| callbacks.catch_up());
        }
        untyped::leave(self.handle.task(), self.callbacks.as_deref());
        self.resolved = true;
    }

    /// Blocks this thread until the task has ended, for code without a runtime. In async code, `.await` the future instead:
    /// this call would keep everything else on the runtime's thread from running. A paused task is resumed, since no future is
    /// left to resume it.
    ///
    /// # Errors
    ///
    /// The error says how the task ended, if not with a value. If its outcome was handed out before, the error is of the kind
    /// [`Taken`](crate::TaskErrorKind::Taken).
    ///
    /// # Panics
    ///
    /// As [polling](Self#panics) does.
    ///
    /// # Blocking
    ///
    /// On a thread of a [`ThreadPoolExecutor`](crate::ThreadPoolExecutor), this call runs a task of the same pool that
    /// has not started yet, so tasks may wait for tasks of their own pool, however few threads it has.
    ///
    /// User code that this library calls elsewhere (a waker, or the code that decodes or drops an output) may wait for
    /// other tasks as well: another thread takes over its thread's duties meanwhile. It must not wait for the very
    /// task whose outcome it holds up.
    ///
    /// While it waits for a task of a process pool, this thread reads what the workers send, in place of the pool's own thread,
    /// which then need not be woken. It decodes outputs of up to 4 KiB of tasks that are not observed, and wakes whatever waits
    /// for them. Larger outputs are left to the pool's own thread. So is all of this if the task that is waited for is
    /// observed, for example by a callback.
    ///
    /// # Examples
    ///
    /// ```
    /// let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// assert_eq!(executor.spawn(|_| Ok(6 * 7)).wait()?, 42);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[doc(alias = "result")]
    pub fn wait(self) -> Result<T, TaskError> {
        if self.resolved {
            return Err(self.taken());
        }
        self.resume();
        block_on(self)
    }

    /// Blocks this thread until the task has ended, but no longer than `timeout`; `None` if it has not ended by then. The task is
    /// not affected.
    ///
    /// A `timeout` of zero only checks, for loops that must never block, such as a game's. Callbacks and bars are served as
    /// well.
    ///
    /// If the outcome was handed out before, this returns the same error as [`wait`](Self::wait), at once, so a loop that waits for
    /// `Some` ends.
    ///
    /// Unlike `wait`, this does not resume a paused task: the future remains, and can resume it.
    ///
    /// # Panics
    ///
    /// As [polling](Self#panics) does.
    ///
    /// # Blocking
    ///
    /// The timeout does not interrupt a task that this call runs itself, as [`wait`](Self::wait) does, or as it runs
    /// one of a [`SyncExecutor`](crate::SyncExecutor).
    ///
    /// Like `wait`, this reads what workers send, until a millisecond before the time is up.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut task = executor.spawn(|progress| Ok(progress.sleep(Duration::MAX)?));
    /// assert!(task.wait_timeout(Duration::from_millis(10)).is_none());
    /// task.cancel();
    /// let outcome = task.wait_timeout(Duration::from_secs(60)).unwrap();
    /// assert!(outcome.unwrap_err().is_cancelled());
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<T, TaskError>> {
        if self.resolved {
            return Some(Err(self.taken()));
        }
        block_for(self, Some(timeout))
    }

    /// The error for waiting for an outcome that was handed out before.
    fn taken(&self) -> TaskError {
        self.handle.task().error(TaskErrorKind::Taken)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.handle.task().core
    }

    pub(crate) fn task(&self) -> TaskRef {
        self.handle.clone().to_task()
    }

    /// Whether the task runs inside the poll.
    pub(crate) fn is_inline(&self) -> bool {
        self.core().state.load() & state::INLINE != 0
    }

    /// Moves the future out, and leaves one that counts as resolved.
    pub(crate) fn take(&mut self) -> Self {
        let resolved = mem::replace(&mut self.resolved, true);
        Self { handle: self.handle.clone(), callbacks: self.callbacks.take(), resolved }
    }

    /// Adds an observer that has already seen `seen`.
    pub(crate) fn observe(&mut self, observer: Box<dyn Observer<ProgressState>>, seen: ProgressState) -> CallbackId {
        untyped::observe(&self.task(), &mut self.callbacks, observer, seen)
    }

    /// Runs the task on this thread, if it can be claimed.
    fn run_here(&self) {
        if self.core().claim().is_ok() {
            untyped::run_here(self.core(), self.task(), self.callbacks.clone());
        }
    }
}

impl<T> Future for ProgressFuture<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        if self.resolved {
            return Poll::Pending;
        }
        untyped::attend(self.core());
        if untyped::belongs_here(self.core()) {
            self.run_here();
        }
        let has_ended = untyped::has_settled(self.core()) || {
            // Registered first: what happens after this wakes us, and what happened before it is seen below.
            self.core().waiter.register(cx.waker());
            if untyped::belongs_here(self.core()) {
                self.run_here();
            }
            let has_ended = untyped::has_settled(self.core());
            if has_ended {
                // Whoever has ended it may have looked for a waker before.
                drop_quietly(self.core().waiter.take());
            }
            has_ended
        };
        if let Some(callbacks) = &self.callbacks {
            untyped::show(callbacks, cx.waker());
        }
        if !has_ended {
            untyped::before_waiting(self.handle.task());
            return Poll::Pending;
        }
        self.resolved = true;
        match self.handle.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

impl<T> FusedFuture for ProgressFuture<T> {
    fn is_terminated(&self) -> bool {
        self.resolved
    }
}

impl<T> Drop for ProgressFuture<T> {
    fn drop(&mut self) {
        if !self.resolved {
            untyped::abandon(&self.task(), self.callbacks.as_deref());
        }
    }
}

impl<T> fmt::Debug for ProgressFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressFuture")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("progress", &self.progress())
            .finish()
    }
}
