//! How much memory a task takes while it waits for its turn, including its place in the queue, and that its calls take none.

use std::alloc::System;
use std::pin::Pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use progress_executor::{ProgressFuture, ThreadPoolExecutor};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The most bytes that a task may take.
const MOST: usize = 128;
/// In addition, for each task whose future was polled.
const WAKER: usize = 2 * size_of::<usize>();

const TIME: Duration = Duration::from_secs(60);

/// Held by each test: the allocator counts for all threads.
static ALONE: Mutex<()> = Mutex::new(());

/// What this many tasks take, each of which captures a number and returns it, and what they take once they were polled.
fn bytes(tasks: usize) -> [usize; 2] {
    let executor = ThreadPoolExecutor::new(1);
    let (begin, begun) = channel();
    // A thread that waits for a lock allocates nothing.
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap();
    let busy = executor.spawn({
        let gate = gate.clone();
        move |_| {
            begin.send(())?;
            drop(gate.lock());
            Ok(())
        }
    });
    begun.recv_timeout(TIME).expect("the thread begins to work");

    let mut futures = Vec::<ProgressFuture<usize>>::with_capacity(tasks);
    let region = Region::new(ALLOCATOR);
    let taken = || region.change().bytes_allocated.wrapping_sub(region.change().bytes_deallocated);
    futures.extend((0..tasks).map(|n| executor.spawn(move |_| Ok(n))));
    let waiting = taken();
    for future in &mut futures {
        assert!(Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let polled = taken();

    drop(closed);
    busy.wait().expect("it is told to end");
    let sum: usize = futures.into_iter().map(|task| task.wait().expect("it returns its number")).sum();
    assert_eq!(sum, tasks * (tasks - 1) / 2);
    [waiting, polled]
}

/// The least of several times: the allocator also counts what the thread that has started this test allocates.
fn least_bytes(tasks: usize) -> [usize; 2] {
    let times = [(); 3].map(|()| bytes(tasks));
    [0, 1].map(|of| times.iter().map(|time| time[of]).min().unwrap_or_default())
}

#[test]
fn a_task_that_waits_takes_at_most_so_much() {
    let _alone = ALONE.lock();
    // Wherever the queue has grown last.
    for tasks in [100, 1_000, 1_025, 2_049, 5_000, 10_000] {
        let [waiting, polled] = least_bytes(tasks);
        assert!(waiting <= MOST * tasks, "{tasks} tasks take {waiting} bytes");
        assert!(polled <= (MOST + WAKER) * tasks, "{tasks} tasks that were polled take {polled} bytes");
    }
}

/// How often memory is allocated during many progress calls of each kind.
fn allocations_of_calls() -> usize {
    const CALLS: u64 = 100_000;
    let task = ThreadPoolExecutor::new(1).spawn(|progress| {
        let shared = progress.shared();
        shared.update(1)?;
        let steps = progress.iter(0..CALLS);
        let region = Region::new(ALLOCATOR);
        for step in steps {
            step?;
        }
        for n in 0..CALLS {
            progress.update(1)?;
            progress.set_position(n)?;
            progress.check()?;
            shared.update(1)?;
        }
        let change = region.change();
        Ok(change.allocations + change.reallocations)
    });
    task.wait().expect("it returns a number")
}

#[test]
fn progress_calls_of_a_task_that_nobody_observes_allocate_nothing() {
    let _alone = ALONE.lock();
    // Whatever the thread that has started this test allocates meanwhile.
    assert_eq!((0..10).map(|_| allocations_of_calls()).min(), Some(0));
}
