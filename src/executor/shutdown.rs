//! The shutdown of an executor.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::FusedFuture;

use crate::sync::block_on::{block_for, block_on};
use crate::sync::duty;
use crate::sync::wakers::Wakers;

/// An executor that is being shut down.
pub(crate) trait Drain: Send + Sync {
    /// Does what is left to do on this thread; returns whether all tasks have ended.
    fn drain(&self) -> bool;
    /// Woken when there may be more to drain, or nothing left.
    fn waiting(&self) -> &Wakers;
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
    /// Among those who wait.
    key: u64,
    has_resolved: bool,
}

impl Shutdown {
    pub(crate) fn new(executor: Arc<dyn Drain>) -> Self {
        let key = executor.waiting().key();
        Self { executor, key, has_resolved: false }
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

    /// Blocks this thread until every task has ended, but no longer than `timeout`. Returns whether they have all ended.
    ///
    /// # Blocking
    ///
    /// The timeout does not interrupt a task that this call runs itself, as it runs those of a
    /// [`SyncExecutor`](crate::SyncExecutor).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.sleep(Duration::MAX)?));
    /// if !executor.shutdown().wait_timeout(Duration::from_millis(10)) {
    ///     executor.shutdown_now().wait();
    /// }
    /// assert!(task.is_done());
    /// # drop(task);
    /// ```
    #[must_use = "it says whether all tasks have ended"]
    pub fn wait_timeout(&mut self, timeout: Duration) -> bool {
        block_for(self, Some(timeout)).is_some()
    }
}

impl Future for Shutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_resolved {
            self.executor.waiting().register(self.key, cx.waker());
            if !self.executor.drain() {
                return duty::pending();
            }
            self.has_resolved = true;
            // Its task may be done with this long before it drops it.
            self.executor.waiting().forget(self.key);
        }
        Poll::Ready(())
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        self.executor.waiting().forget(self.key);
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
