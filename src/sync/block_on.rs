//! Waiting without a runtime.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::sync::clock::{self, AtomicInstant};
use crate::sync::spin::{AdaptiveSpin, SPIN};

thread_local! {
    static SPIN_STATE: Cell<AdaptiveSpin> = const { Cell::new(AdaptiveSpin::new()) };
    /// Reused from call to call. `None` while it is in use: a nested call makes its own.
    static SLEEPER: Cell<Option<Arc<Sleeper>>> = const { Cell::new(None) };
    /// What [`block_for`] polls on this thread, which blocks if it is not ready. `None` outside of such a poll.
    static POLLED: Cell<Option<Polled>> = const { Cell::new(None) };
}

/// Work that some thread must do before a future becomes ready: the thread that waits for it, if there is one.
pub(crate) trait Reactor: Send + Sync {
    /// Works until the sleeper [must leave](Sleeper::must_leave). Returns early if there is nothing to do.
    fn react(&self, sleeper: &Arc<Sleeper>);
    /// Makes a thread that blocks in `react` check whether it was woken.
    fn interrupt(&self);
}

/// A future that a thread blocks on. It may consist of many.
struct Polled {
    /// The reactor that was passed to [`await_reactor`] last.
    reactor: Option<Arc<dyn Reactor>>,
}

/// Called by a poll that is not ready: the thread runs `reactor` if it blocks now. The last call counts, even after
/// polls that do not call this: of many futures, only those that were woken are polled again.
pub(crate) fn await_reactor(reactor: impl FnOnce() -> Option<Arc<dyn Reactor>>) {
    // A thread that is about to end has no thread-locals any more.
    let _ = POLLED.try_with(|polled| {
        if let Some(before) = polled.take() {
            polled.set(Some(Polled { reactor: reactor() }));
            drop(before);
        }
    });
}

/// Polls the future on this thread until it is ready. Meanwhile, does the work that it waits for, if that is
/// [known](await_reactor).
///
/// Unlike `futures::executor::block_on`, it can be called from within itself.
pub(crate) fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    loop {
        // Without a timeout, this never returns `None`.
        if let Some(output) = block_for(&mut future, None) {
            return output;
        }
    }
}

/// Like [`block_on`], but returns `None` after `timeout`. Polls the future at least once.
pub(crate) fn block_for<F: Future + Unpin>(future: &mut F, timeout: Option<Duration>) -> Option<F::Output> {
    let sleeper = take_sleeper();
    sleeper.set_deadline(timeout);
    let waker = Waker::from(sleeper.clone());
    let mut reactor = None;
    let mut is_late = false;
    let output = loop {
        if let Poll::Ready(output) = poll_hearing(future, &waker, &mut reactor) {
            break Some(output);
        }
        // Each poll may take a while, and find the future woken again.
        if is_late {
            break None;
        }
        match &reactor {
            Some(reactor) => sleeper.react(reactor),
            None => sleeper.spin(),
        }
        if !sleeper.wait() {
            break None;
        }
        is_late = sleeper.time_left() == Some(Duration::ZERO);
    };
    keep_sleeper(sleeper);
    output
}

/// Polls the future, and replaces the reactor if the poll has passed one to [`await_reactor`].
fn poll_hearing<F: Future + Unpin>(
    future: &mut F,
    waker: &Waker,
    reactor: &mut Option<Arc<dyn Reactor>>,
) -> Poll<F::Output> {
    let polled = Polled { reactor: reactor.take() };
    // What was set for the poll around this one.
    let _outer = Restored(POLLED.try_with(|slot| slot.replace(Some(polled))).ok().flatten());
    let poll = Pin::new(future).poll(&mut Context::from_waker(waker));
    *reactor = POLLED.try_with(Cell::take).ok().flatten().and_then(|polled| polled.reactor);
    poll
}

/// Restores the outer poll when dropped, since a poll may panic.
struct Restored(Option<Polled>);

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = POLLED.try_with(|polled| polled.set(self.0.take()));
    }
}

fn take_sleeper() -> Arc<Sleeper> {
    // A thread that is about to end has no thread-locals any more.
    let kept = SLEEPER.try_with(Cell::take).ok().flatten();
    // A waker of the previous call may have set it. If it wakes again, the future is merely polled once more.
    kept.inspect(|kept| kept.woken.store(false, Ordering::Relaxed))
        .unwrap_or_else(|| Arc::new(Sleeper::of_this_thread()))
}

fn keep_sleeper(sleeper: Arc<Sleeper>) {
    let _ = SLEEPER.try_with(|kept| kept.set(Some(sleeper)));
}

/// A thread that waits.
pub(crate) struct Sleeper {
    thread: Thread,
    woken: AtomicBool,
    /// A moment of the [clock](clock::now); 0 for none.
    deadline: AtomicInstant,
    /// Whether it blocks in a reactor.
    is_reacting: AtomicBool,
    reactor: Mutex<Option<Arc<dyn Reactor>>>,
}

impl Sleeper {
    fn of_this_thread() -> Self {
        Self {
            thread: thread::current(),
            woken: AtomicBool::new(false),
            deadline: AtomicInstant::default(),
            is_reacting: AtomicBool::new(false),
            reactor: Mutex::new(None),
        }
    }

    /// Spins, unless that would outlast the deadline.
    fn spin(&self) {
        if self.time_left().is_some_and(|left| left < SPIN) {
            return;
        }
        let mut spin = SPIN_STATE.get();
        spin.spin_until(|| self.woken.load(Ordering::Relaxed));
        SPIN_STATE.set(spin);
    }

    /// Sets the deadline. A time that the clock cannot hold is no deadline.
    fn set_deadline(&self, timeout: Option<Duration>) {
        let timeout = timeout.and_then(|timeout| u64::try_from(timeout.as_nanos()).ok());
        self.deadline.set(timeout.and_then(|timeout| clock::now().checked_add(timeout)).unwrap_or(0));
    }

    /// The time until the deadline, if there is one.
    fn time_left(&self) -> Option<Duration> {
        let deadline = Some(self.deadline.get()).filter(|&deadline| deadline != 0);
        deadline.map(|deadline| Duration::from_nanos(deadline.saturating_sub(clock::now())))
    }

    /// Waits for a wake-up, and consumes it. Returns `false` if the deadline passed first.
    fn wait(&self) -> bool {
        while !self.woken.swap(false, Ordering::Acquire) {
            match self.time_left() {
                None => thread::park(),
                Some(Duration::ZERO) => return false,
                Some(left) => thread::park_timeout(left),
            }
        }
        true
    }

    fn react(self: &Arc<Self>, reactor: &Arc<dyn Reactor>) {
        self.set_reactor(Some(reactor.clone()));
        reactor.react(self);
        self.set_reactor(None);
    }

    fn set_reactor(&self, reactor: Option<Arc<dyn Reactor>>) {
        *self.reactor.lock().unwrap_or_else(PoisonError::into_inner) = reactor;
    }

    fn interrupt(&self) {
        let reactor = self.reactor.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reactor.into_iter().for_each(|reactor| reactor.interrupt());
    }
}

/// How long before its deadline a thread leaves the reactor: what that waits with may count in milliseconds.
const AHEAD_OF_DEADLINE: Duration = Duration::from_millis(1);

/// For a reactor.
impl Sleeper {
    /// Whether its thread must leave the reactor: it was woken, or its deadline is near.
    pub(crate) fn must_leave(&self) -> bool {
        self.woken.load(Ordering::SeqCst) || self.time_to_react() == Some(Duration::ZERO)
    }

    /// For how long its thread stays in the reactor, unless it is woken; `None` without a deadline.
    pub(crate) fn time_to_react(&self) -> Option<Duration> {
        self.time_left().map(|left| left.saturating_sub(AHEAD_OF_DEADLINE))
    }

    /// Parks until the thread must leave or is unparked; may return early.
    pub(crate) fn park(&self) {
        if self.must_leave() {
            return;
        }
        match self.time_to_react() {
            None => thread::park(),
            Some(left) => thread::park_timeout(left),
        }
    }

    /// Unparks its thread without waking it.
    pub(crate) fn unpark(&self) {
        self.thread.unpark();
    }

    /// Runs `wait`, which [`Reactor::interrupt`] ends, unless the thread must leave already.
    pub(crate) fn interruptibly(&self, wait: impl FnOnce()) {
        self.is_reacting.store(true, Ordering::SeqCst);
        if !self.must_leave() {
            wait();
        }
        self.is_reacting.store(false, Ordering::SeqCst);
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.thread.unpark();
            if self.is_reacting.load(Ordering::SeqCst) {
                self.interrupt();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AdaptiveSpin, SPIN, SPIN_STATE, block_for};
    use std::future;
    use std::task::Poll;
    use std::time::Duration;

    /// Whether a thread that waits for at most `timeout` spins before it sleeps.
    fn spins(timeout: Duration) -> bool {
        let before = AdaptiveSpin::after_passing(1);
        SPIN_STATE.set(before);
        let mut has_been_polled = false;
        let mut future = future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if std::mem::replace(&mut has_been_polled, true) { Poll::Ready(()) } else { Poll::Pending }
        });
        assert_eq!(block_for(&mut future, Some(timeout)), Some(()));
        // This changes only if the thread got a chance to spin, which it skips.
        SPIN_STATE.get() != before
    }

    #[test]
    fn whoever_has_no_time_to_wait_does_not_spin() {
        assert_eq!(
            [Duration::ZERO, SPIN / 2, Duration::from_secs(3600), Duration::MAX].map(spins),
            [false, false, true, true]
        );
    }
}
