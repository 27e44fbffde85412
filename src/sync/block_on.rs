//! Waiting without a runtime.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::sync::spin::AdaptiveSpin;

thread_local! {
    static SPIN_STATE: Cell<AdaptiveSpin> = const { Cell::new(AdaptiveSpin::new()) };
    /// Reused from call to call. `None` while it is in use: a nested call makes its own.
    static SLEEPER: Cell<Option<Arc<Sleeper>>> = const { Cell::new(None) };
}

/// Work that some thread has to do before a future becomes ready: the one that waits for it, if there is one.
pub(crate) trait Reactor: Send + Sync {
    /// Works until the sleeper is woken. Returns early if there is nothing to do.
    fn react(&self, sleeper: &Arc<Sleeper>);
    /// Makes a thread that blocks in `react` check whether it was woken.
    fn interrupt(&self);
}

/// Polls the future on this thread until it is ready.
///
/// Unlike `futures::executor::block_on` it can be called from within itself.
pub(crate) fn block_on<F: Future + Unpin>(future: F) -> F::Output {
    block_on_reacting(future, |_| None)
}

/// The same, and runs the reactor of the future meanwhile, which is known once it was polled.
pub(crate) fn block_on_reacting<F: Future + Unpin>(
    mut future: F,
    reactor: impl Fn(&F) -> Option<Arc<dyn Reactor>>,
) -> F::Output {
    loop {
        // No deadline passes.
        if let Some(output) = block_until(&mut future, None, &reactor) {
            return output;
        }
    }
}

/// The same until the deadline at the latest: then this returns `None`. The future is polled at least once.
pub(crate) fn block_until<F: Future + Unpin>(
    future: &mut F,
    deadline: Option<Instant>,
    reactor: impl Fn(&F) -> Option<Arc<dyn Reactor>>,
) -> Option<F::Output> {
    let sleeper = take_sleeper();
    let waker = Waker::from(sleeper.clone());
    let output = loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut Context::from_waker(&waker)) {
            break Some(output);
        }
        match reactor(future) {
            Some(reactor) => sleeper.react(&reactor),
            None => sleeper.spin(),
        }
        if !sleeper.wait(deadline) {
            break None;
        }
    };
    keep_sleeper(sleeper);
    output
}

fn take_sleeper() -> Arc<Sleeper> {
    // A thread that is about to end has no thread-locals any more.
    let kept = SLEEPER.try_with(Cell::take).ok().flatten();
    // A waker of the call before may have set it. If that wakes again, the future is polled once more.
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
    /// Whether it blocks in a reactor.
    is_reacting: AtomicBool,
    reactor: Mutex<Option<Arc<dyn Reactor>>>,
}

impl Sleeper {
    fn of_this_thread() -> Self {
        Self {
            thread: thread::current(),
            woken: AtomicBool::new(false),
            is_reacting: AtomicBool::new(false),
            reactor: Mutex::new(None),
        }
    }

    fn spin(&self) {
        let mut spin = SPIN_STATE.get();
        spin.spin_until(|| self.woken.load(Ordering::Relaxed));
        SPIN_STATE.set(spin);
    }

    /// Waits for a wake-up, and consumes it. Returns `false` if the deadline passed first.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        while !self.woken.swap(false, Ordering::Acquire) {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
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

/// For a reactor.
#[allow(dead_code, reason = "only pools of processes have one, where there are any")]
impl Sleeper {
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    /// Parks until it is woken or unparked; may return early.
    pub(crate) fn park(&self) {
        if !self.is_woken() {
            thread::park();
        }
    }

    /// Unparks its thread without waking it.
    pub(crate) fn unpark(&self) {
        self.thread.unpark();
    }

    /// Runs a `wait` that [`Reactor::interrupt`] ends, unless it is woken already.
    pub(crate) fn interruptibly(&self, wait: impl FnOnce()) {
        self.is_reacting.store(true, Ordering::SeqCst);
        if !self.is_woken() {
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
