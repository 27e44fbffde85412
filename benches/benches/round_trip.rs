//! The time from submitting a trivial task to its value, one at a time.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use futures::executor::block_on;
use progress_executor_benches::pools::*;
use progress_executor_benches::rounds::{Rounds, amount, time_each};

fn main() {
    limit_blocking();
    compare("round trip back to back", 400, 50, Duration::ZERO);
    compare("round trip after 2 ms of rest", 80, 8, Duration::from_millis(2));
}

fn compare(title: &'static str, rounds: usize, trips: usize, rest: Duration) {
    let trips = Trips { count: trips, rest };
    let mut table = Rounds::new(title);
    let limit = PingPong::start();
    table.add("park and unpark", move || trips.time(|| limit.trip()));
    let ours = Ours::default();
    table.add("ours, wait()", move || trips.time(|| drop(black_box(ours.0.spawn(|_| Ok(black_box(1_u64))).wait()))));
    add_all(&mut table, trips);
    table.run(amount(rounds));
}

#[derive(Clone, Copy)]
struct Trips {
    count: usize,
    rest: Duration,
}

impl Trips {
    fn time(self, trip: impl FnMut()) -> f64 {
        time_each(self.count, self.rest, trip)
    }
}

impl Measure for Trips {
    fn measure(self, pool: &impl Pool) -> f64 {
        self.time(|| {
            black_box(block_on(pool.spawn(|| black_box(1))));
        })
    }
}

/// A thread that is woken, and wakes the thread that started it: a round trip that carries no data.
struct PingPong {
    peer: Thread,
    ping: Arc<AtomicBool>,
}

impl PingPong {
    fn start() -> Self {
        let ping = Arc::new(AtomicBool::new(false));
        let caller = thread::current();
        let pinged = ping.clone();
        let peer = thread::spawn(move || {
            loop {
                while !pinged.load(Ordering::Acquire) {
                    thread::park();
                }
                pinged.store(false, Ordering::Release);
                caller.unpark();
            }
        });
        Self { peer: peer.thread().clone(), ping }
    }

    fn trip(&self) {
        self.ping.store(true, Ordering::Release);
        self.peer.unpark();
        while self.ping.load(Ordering::Acquire) {
            thread::park();
        }
    }
}
