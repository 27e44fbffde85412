//! Waiting without a runtime.

use std::future::Future;
use std::hint;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// For how long a thread that has nothing to do looks for something before it sleeps: less than a wake-up takes.
const PATIENCE: Duration = Duration::from_micros(5);

/// Spins until `found`, for a moment at the most.
pub(crate) fn spin_until(found: impl Fn() -> bool) {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        for _ in 0..16 {
            if found() {
                return;
            }
            hint::spin_loop();
        }
    }
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
        spin_until(|| sleeper.woken.load(Ordering::Relaxed));
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
