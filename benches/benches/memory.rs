//! How much memory a task takes while it waits for its turn.
//!
//! A separate benchmark, because an allocator that counts slows down the variants that allocate more.

use std::alloc::System;
use std::sync::{Arc, Barrier};

use futures::StreamExt;
use futures::executor::block_on;
use futures::future;
use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, ThreadPoolExecutor, Updater};
use progress_executor_benches::pools::*;
use progress_executor_benches::rounds::amount;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    TaskRegistry::new().register(identity).init();
    limit_blocking();
    println!("{:<32} {:>10} {:>12} {:>10}", "a task that waits", "of", "allocations", "bytes");
    for tasks in [1_000, 10_000, 100_000].map(amount) {
        measure::<Ours>(tasks);
        measure_processes(tasks);
        measure::<Rayon>(tasks);
        measure::<Threadpool>(tasks);
        measure::<AsyncExecutor>(tasks);
        measure::<Tokio>(tasks);
        measure::<Futures>(tasks);
        measure::<Blocking>(tasks);
    }
    println!("\n{:<32} {:>10} {:>12} {:>10}", "a map over inputs", "of", "allocations", "peak bytes");
    for inputs in [1_000, 1_000_000].map(amount) {
        measure_map(inputs);
    }
}

/// Prints the peak memory of a map while it goes through so many inputs, and its allocations per input.
fn measure_map(inputs: usize) {
    let pool = ThreadPoolExecutor::new(WORKERS);
    let region = Region::new(ALLOCATOR);
    let (mut peak, mut done) = (0, 0_usize);
    let outcomes = pool.map(|n: usize, _| Ok(n), 0..inputs);
    block_on(outcomes.for_each(|outcome| {
        assert_eq!(outcome.ok(), Some(done));
        done += 1;
        if done % 100 == 0 {
            let change = region.change();
            peak = peak.max(change.bytes_allocated.saturating_sub(change.bytes_deallocated));
        }
        future::ready(())
    }));
    let allocations = region.change().allocations as f64 / inputs as f64;
    println!("{:<32} {inputs:>10} {allocations:>12.2} {peak:>10}", "map");
}

/// Counts what is allocated for `tasks` tasks while every worker is busy, apart from the futures themselves.
fn measure<P: Pool>(tasks: usize) {
    let pool = P::default();
    let gate = Arc::new(Barrier::new(WORKERS + 1));
    let held = (0..WORKERS).map(|_| {
        let gate = gate.clone();
        pool.spawn(move || {
            gate.wait();
            gate.wait();
            0
        })
    });
    let held: Vec<_> = held.collect();
    gate.wait();
    let mut futures = Vec::with_capacity(tasks);
    let region = Region::new(ALLOCATOR);
    futures.extend((0..tasks as u64).map(|n| pool.spawn(move || n)));
    let change = region.change();
    gate.wait();
    let sum = held.into_iter().map(block_on).sum::<u64>() + futures.into_iter().map(block_on).sum::<u64>();
    assert_eq!(sum, (0..tasks as u64).sum::<u64>());

    print(P::NAME, tasks, change);
}

fn identity(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(n)
}

/// Counts the same for tasks that wait for a worker process.
fn measure_processes(tasks: usize) {
    let pool = ProcessPoolExecutor::new(1).expect("there is a registry");
    pool.submit(identity, 0).wait().expect("it has nothing to fail at");
    pool.suspend();
    let mut futures = Vec::with_capacity(tasks);
    let region = Region::new(ALLOCATOR);
    futures.extend((0..tasks as u64).map(|n| pool.submit(identity, n)));
    let change = region.change();
    pool.resume();
    let sum: u64 = futures.into_iter().map(|task| task.wait().expect("it has nothing to fail at")).sum();
    assert_eq!(sum, (0..tasks as u64).sum::<u64>());
    print("ours, in a process", tasks, change);
}

fn print(name: &str, tasks: usize, change: Stats) {
    let per_task = |count: usize| count as f64 / tasks as f64;
    let allocations = per_task(change.allocations);
    let bytes = per_task(change.bytes_allocated - change.bytes_deallocated);
    println!("{name:<32} {tasks:>10} {allocations:>12.2} {bytes:>10.0}");
}
