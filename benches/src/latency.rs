//! The time from a request on one thread to its effect on another.

use std::thread;
use std::time::{Duration, Instant};

use crate::rounds::median;

/// The median of several measurements.
pub fn repeat(latency: impl Fn() -> f64) -> f64 {
    median(&(0..10).map(|_| latency()).collect::<Vec<_>>())
}

/// The time from `request`, on another thread and after a rest, to the end of `wait`, on this one, in nanoseconds.
pub fn measure<R>(rest: Duration, request: impl FnOnce() + Send, wait: impl FnOnce() -> R) -> f64 {
    thread::scope(|scope| {
        let requester = scope.spawn(|| {
            thread::sleep(rest);
            let requested = Instant::now();
            request();
            requested
        });
        wait();
        let resumed = Instant::now();
        (resumed - requester.join().expect("the thread does not panic")).as_nanos() as f64
    })
}

/// Spins for about a microsecond.
pub fn work() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(1) {}
}
