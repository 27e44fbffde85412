//! The task's side, from several threads.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use yoke::Yoke;

use crate::error::Cancelled;
#[cfg(feature = "rayon")]
use crate::sync::stripes::LocalStripe;
use crate::sync::stripes::Stripes;
use crate::task::context::Context;
use crate::task::core::Core;
use crate::task::{TaskRef, state};
use crate::updater::checkpoint;
use crate::updater::{Count, PartHandle, Updater};

/// An [`Updater`] for several threads of one task, made by [`Updater::shared`](crate::Updater::shared):
/// for the closures of a parallel loop.
///
/// It can be cloned, shared and sent; each thread counts in a place of its own, so that they do not slow each other
/// down. Once cancellation is requested every thread gets [`Cancelled`] from its next call, and while the task is paused
/// every thread waits in it.
///
/// It may outlive its task: from then on its calls return [`Cancelled`], and nothing is counted.
///
/// For rayon's iterators there is `Updater::par_iter`, with the feature `rayon`.
///
/// # Examples
///
/// ```
/// use rayon::prelude::*;
///
/// # let executor = progress_executor::ThreadPoolExecutor::new(1);
/// let task = executor.spawn(|progress| {
///     progress.set_total(1000);
///     let shared = progress.shared();
///     (0..1000_u32).into_par_iter().try_for_each(|_number| {
///         // … something that takes long …
///         shared.update(1)
///     })?;
///     Ok(())
/// });
/// # task.wait()?;
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Clone)]
pub struct SharedUpdater {
    /// A plain pointer, as in `Updater`.
    core: Yoke<&'static Core, TaskRef>,
    /// The part that it counts in; `None` if it counts in the task itself.
    part: Option<Arc<PartHandle>>,
    stripes: Arc<Stripes>,
    context: Context,
}

impl Updater {
    /// A handle for counting from several threads of this task, such as those of a parallel loop.
    ///
    /// All handles count in the same place as this updater, and cancellation reaches all of them.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| {
    ///     progress.set_total(2_000);
    ///     let shared = progress.shared();
    ///     std::thread::scope(|scope| {
    ///         let halves = [0..1000, 1000..2000].map(|half| {
    ///             scope.spawn(|| half.into_iter().try_for_each(|_| shared.update(1)))
    ///         });
    ///         halves.into_iter().try_for_each(|half| half.join().unwrap())
    ///     })?;
    ///     Ok(())
    /// });
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn shared(&self) -> SharedUpdater {
        let is_first = !self.count_in().with_parts(|parts, _| parts.is_shared());
        if is_first {
            self.core().share();
        }
        let stripes = self.count_in().with_parts(|parts, _| {
            self.context.spread(self.core().id());
            parts.share()
        });
        checkpoint::follow_spread(self.task(), &self.context);
        SharedUpdater {
            core: Yoke::attach_to_cart(self.task().clone(), |task| &task.core),
            part: if let Count::Part(part) = self.count_in() { Some(part.clone()) } else { None },
            stripes,
            context: self.context.clone(),
        }
    }
}

impl SharedUpdater {
    /// Counts `delta` units as done, and checks for cancellation; see [`Updater::update`](crate::Updater::update).
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once the task must end, or has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut task = executor.spawn(|progress| {
    ///     let shared = progress.shared();
    ///     std::thread::scope(|scope| {
    ///         let threads = [(); 2].map(|()| scope.spawn(|| (0..500).try_for_each(|_| shared.update(1))));
    ///         threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    ///     })?;
    ///     Ok(())
    /// });
    /// smol::block_on(&mut task)?;
    /// assert_eq!(task.progress().n, 1000);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[inline]
    #[must_use = "`?` ends the task here once it is cancelled; without it, the task goes on"]
    pub fn update(&self, delta: u64) -> Result<(), Cancelled> {
        self.stripes.add(delta);
        self.checkpoint(state::ATTENTION)
    }

    /// Checks for cancellation, and waits while the task is paused; see [`Updater::check`](crate::Updater::check).
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once the task must end, or has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| {
    ///     let shared = progress.shared();
    ///     std::thread::scope(|scope| scope.spawn(|| shared.check()).join().unwrap())?;
    ///     Ok("nobody has cancelled it")
    /// });
    /// task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[inline]
    #[must_use = "`?` ends the task here once it is cancelled; without it, the task goes on"]
    pub fn check(&self) -> Result<(), Cancelled> {
        self.checkpoint(state::CHECK)
    }

    /// Whether the task must end, or has ended; see [`Updater::is_cancelled`](crate::Updater::is_cancelled).
    #[inline]
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.core.get().needs_attention(state::CANCEL | state::ENDED | state::PROBE)
            && checkpoint::must_end(self.task(), &self.context)
    }

    /// Sets how many units there are to do, for all threads; see [`Updater::set_total`](crate::Updater::set_total). The
    /// last total stays, whichever thread or updater of the task has set it.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut task = executor.spawn(|progress| {
    ///     let shared = progress.shared();
    ///     std::thread::spawn(move || shared.set_total(1000)).join().unwrap();
    ///     Ok(progress.update(1)?)
    /// });
    /// smol::block_on(&mut task)?;
    /// assert_eq!(task.progress().total, Some(1000));
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn set_total(&self, total: u64) {
        let count = self.part.as_ref().map_or(Count::Task(self.task()), Count::Part);
        count.with_parts(|parts, _| {
            // This may be left over from an earlier input of a chunk.
            if parts.share_in(&self.stripes) {
                parts.shared_total = Some(total);
            }
        });
        checkpoint::record_and_report(self.task(), &self.context);
    }

    /// Sets the message of the task; see [`Updater::set_message`](crate::Updater::set_message). The last one stays.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut task = executor.spawn(|progress| {
    ///     let shared = progress.shared();
    ///     std::thread::scope(|scope| scope.spawn(|| shared.set_message("sorting")).join().unwrap());
    ///     Ok(())
    /// });
    /// smol::block_on(&mut task)?;
    /// assert_eq!(task.progress().message.as_deref(), Some("sorting"));
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn set_message(&self, message: impl Into<Cow<'static, str>>) {
        checkpoint::set_message(self.task(), &self.context, message.into(), |parts| match &self.part {
            None => parts.share_in(&self.stripes),
            Some(handle) => parts.have_handed_out(handle.root()),
        });
    }

    /// Shows a line; see [`Updater::println`](crate::Updater::println).
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| {
    ///     let shared = progress.shared();
    ///     std::thread::spawn(move || shared.println("said by another thread")).join().unwrap();
    ///     Ok(())
    /// });
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn println(&self, line: impl fmt::Display) {
        checkpoint::println(self.task(), &self.context, &line.to_string());
    }

    /// Sleeps, unless the task is cancelled; see [`Updater::sleep`](crate::Updater::sleep).
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once the task must end, or has ended.
    ///
    /// # Blocking
    ///
    /// Blocks this thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| {
    ///     let shared = progress.shared();
    ///     std::thread::scope(|scope| scope.spawn(|| shared.sleep(Duration::MAX)).join().unwrap())?;
    ///     Ok(())
    /// });
    /// task.cancel(); // wakes it
    /// assert!(task.wait().unwrap_err().is_cancelled());
    /// ```
    #[must_use = "`?` ends the task here once it is cancelled; without it, the task goes on"]
    pub fn sleep(&self, duration: Duration) -> Result<(), Cancelled> {
        checkpoint::sleep(self.task(), &self.context, duration)
    }

    /// When the timeout or the deadline of the task, whichever is first, will end it; see [`Updater::deadline`](crate::Updater::deadline).
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.core.get().deadline()
    }

    /// Notes that a parallel iterator ends early, so that what the task makes of it is incomplete.
    #[cfg(feature = "rayon")]
    #[cold]
    pub(crate) fn cut_short(&self, cancelled: Cancelled) -> Cancelled {
        self.core.get().cut_short();
        cancelled
    }

    /// Where this thread counts, without checking for anything.
    #[cfg(feature = "rayon")]
    pub(crate) fn local(&self) -> LocalStripe<'_> {
        self.stripes.local()
    }

    /// Shows what was counted, if a report is due.
    #[cfg(feature = "rayon")]
    pub(crate) fn report_if_due(&self) {
        checkpoint::report_if_due(self.task(), &self.context);
    }

    fn task(&self) -> &TaskRef {
        self.core.backing_cart()
    }

    /// Deals with those of `bits` that are set in the control word.
    #[inline(always)]
    pub(crate) fn checkpoint(&self, bits: u32) -> Result<(), Cancelled> {
        if self.core.get().needs_attention(bits) {
            checkpoint::checkpoint(self.task(), &self.context, bits)
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for SharedUpdater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.core.get();
        f.debug_struct("SharedUpdater").field("id", &core.id()).field("progress", &core.snapshot()).finish()
    }
}
