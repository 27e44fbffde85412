//! Waiting without a runtime.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::sync::spin::AdaptiveSpin;

thread_local! {
    static SPIN_STATE: Cell<AdaptiveSpin> = const { Cell::new(AdaptiveSpin::new()) };
}

/// Polls the future on this thread until it is ready.
///
/// Other than `futures::executor::block_on` it can be called from within itself.
pub(crate) fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    let sleeper = Arc::new(Sleeper { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(sleeper.clone());
    loop {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut patience = SPIN_STATE.get();
        patience.spin_until(|| sleeper.woken.load(Ordering::Relaxed));
        SPIN_STATE.set(patience);
        while !sleeper.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
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
