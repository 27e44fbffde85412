//! Waiting without a runtime.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::sync::spin::AdaptiveSpin;

thread_local! {
    static SPIN_STATE: Cell<AdaptiveSpin> = const { Cell::new(AdaptiveSpin::new()) };
    /// Kept from one call for the next. Gone while it is in use, for calls within that one.
    static SLEEPER: Cell<Option<Arc<Sleeper>>> = const { Cell::new(None) };
}

/// Polls the future on this thread until it is ready.
///
/// Unlike `futures::executor::block_on` it can be called from within itself.
pub(crate) fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    loop {
        // Without a deadline there is no other end.
        if let Some(output) = block_until(&mut future, None) {
            return output;
        }
    }
}

/// The same, until the deadline at the latest: then this returns `None`. The future is polled at least once.
pub(crate) fn block_until<F: Future + Unpin>(future: &mut F, deadline: Option<Instant>) -> Option<F::Output> {
    let sleeper = take_sleeper();
    let output = poll_until(future, &sleeper, deadline);
    keep_sleeper(sleeper);
    output
}

fn poll_until<F: Future + Unpin>(
    future: &mut F,
    sleeper: &Arc<Sleeper>,
    deadline: Option<Instant>,
) -> Option<F::Output> {
    let waker = Waker::from(sleeper.clone());
    loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let mut spin = SPIN_STATE.get();
        spin.spin_until(|| sleeper.woken.load(Ordering::Relaxed));
        SPIN_STATE.set(spin);
        while !sleeper.woken.swap(false, Ordering::Acquire) {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return None,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

fn take_sleeper() -> Arc<Sleeper> {
    // A thread that is about to end keeps nothing any more.
    let kept = SLEEPER.try_with(Cell::take).ok().flatten();
    // What may have woken it for the call before; if it does so again, the future is polled once more.
    kept.inspect(|kept| kept.woken.store(false, Ordering::Relaxed))
        .unwrap_or_else(|| Arc::new(Sleeper { thread: thread::current(), woken: AtomicBool::new(false) }))
}

fn keep_sleeper(sleeper: Arc<Sleeper>) {
    let _ = SLEEPER.try_with(|kept| kept.set(Some(sleeper)));
}

struct Sleeper {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}
