//! The shutdown of an executor.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use event_listener::{Event, EventListener};
use futures::future::FusedFuture;

use crate::sync::block_on::block_on;
use crate::sync::duty;

/// An executor that is being shut down.
pub(crate) trait Drain: Send + Sync {
    /// Does what is left to do on this thread; returns whether all tasks have ended.
    fn drain(&self) -> bool;
    /// Notified when there may be more to drain, or nothing left.
    fn progress(&self) -> &Event;
}

/// Resolves when every task that an executor had accepted has ended; made by `shutdown` and `shutdown_now`.
///
/// The executor refuses new tasks from that call on, whether or not this future is awaited. Dropping it is harmless. Polled
/// after it has resolved, it is ready again.
///
/// # Examples
///
/// ```
/// use progress_executor::ThreadPoolExecutor;
///
/// let executor = ThreadPoolExecutor::new(1);
/// executor.spawn(|_| Ok(println!("saved"))).detach();
/// smol::block_on(executor.shutdown()); // all is saved
/// ```
pub struct Shutdown {
    executor: Arc<dyn Drain>,
    listener: Option<EventListener>,
    has_resolved: bool,
}

impl Shutdown {
    pub(crate) fn new(executor: Arc<dyn Drain>) -> Self {
        Self { executor, listener: None, has_resolved: false }
    }

    /// Blocks this thread until every task has ended, for code without a runtime.
    ///
    /// # Blocking
    ///
    /// Called by a task of the executor itself, this waits for the end of that very task, for ever.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.sleep(std::time::Duration::MAX)?));
    /// executor.shutdown_now().wait();
    /// assert!(task.is_done());
    /// # drop(task);
    /// ```
    pub fn wait(self) {
        block_on(self);
    }
}

impl Future for Shutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.has_resolved || self.executor.drain() {
                self.has_resolved = true;
                return Poll::Ready(());
            }
            let Some(listener) = &mut self.listener else {
                let listener = self.executor.progress().listen();
                self.listener = Some(listener);
                // The last task may have ended before there was a listener.
                continue;
            };
            if Pin::new(listener).poll(cx).is_pending() {
                return duty::pending();
            }
            self.listener = None;
        }
    }
}

impl FusedFuture for Shutdown {
    fn is_terminated(&self) -> bool {
        self.has_resolved
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").finish_non_exhaustive()
    }
}
