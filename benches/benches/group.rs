//! Trivial tasks in a group: what the group adds to each, and whether that depends on their number.

use std::time::Instant;

use futures::executor::block_on;
use futures::future::ready;
use futures::stream::{FuturesUnordered, StreamExt};
use progress_executor::{ProgressFuture, TaskGroup, ThreadPoolExecutor};
use progress_executor_benches::pools::WORKERS;
use progress_executor_benches::rounds::{Rounds, amount};
use tokio::task::JoinSet;

const TASKS: usize = 100_000;

/// Tasks that are submitted when the iterator is advanced.
type Tasks<'a> = dyn Iterator<Item = ProgressFuture<usize>> + 'a;

fn main() {
    compare_with_others();
    compare_sizes();
}

fn compare_with_others() {
    let mut table = Rounds::new("a task of 100,000");
    table.add("ours in FuturesUnordered", || {
        time(TASKS, |tasks| {
            let tasks: FuturesUnordered<_> = tasks.collect();
            block_on(tasks.filter(|outcome| ready(outcome.is_ok())).count())
        })
    });
    table.add("TaskGroup, as a stream", || time(TASKS, |tasks| stream(tasks.collect())));
    table.add("TaskGroup::join", || {
        time(TASKS, |tasks| block_on(tasks.collect::<TaskGroup<_>>().join()).map_or(0, |values| values.len()))
    });
    table.add("TaskGroup, with updates", || time(TASKS, |tasks| observed(tasks.collect())));
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(WORKERS).build();
    let runtime = runtime.expect("the system has threads");
    table.add("tokio JoinSet", move || {
        let start = Instant::now();
        let done = runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for n in 0..amount(TASKS) {
                tasks.spawn_blocking(move || n);
            }
            let mut done = 0;
            while tasks.join_next().await.is_some_and(|outcome| outcome.is_ok()) {
                done += 1;
            }
            done
        });
        per_task(start, TASKS, done)
    });
    table.run(amount(15));
}

fn compare_sizes() {
    let mut table = Rounds::new("a task, by the size of its group");
    // The same total number of tasks, in as many groups as necessary.
    for (name, size) in [("10 tasks", 10), ("1,000 tasks", 1_000), ("100,000 tasks", 100_000)] {
        table.add(name, move || time(TASKS, |tasks| in_groups(tasks, amount(size), stream)));
    }
    for (name, size) in [("10, with updates", 10), ("1,000, with updates", 1_000), ("100,000, with updates", 100_000)] {
        table.add(name, move || time(TASKS, |tasks| in_groups(tasks, amount(size), observed)));
    }
    table.run(amount(15));
}

fn in_groups(tasks: &mut Tasks<'_>, size: usize, run: fn(TaskGroup<usize>) -> usize) -> usize {
    let groups = std::iter::repeat_with(|| tasks.take(size).collect::<TaskGroup<_>>());
    groups.take_while(|group| !group.is_empty()).map(run).sum()
}

fn stream(group: TaskGroup<usize>) -> usize {
    block_on(group.filter(|(_, outcome)| ready(outcome.is_ok())).count())
}

fn observed(group: TaskGroup<usize>) -> usize {
    let updates = group.updates();
    let done = stream(group);
    assert!(updates.recv_blocking().is_ok_and(|last| last.finished == done));
    done
}

/// Nanoseconds per task.
fn time(size: usize, run: impl FnOnce(&mut Tasks<'_>) -> usize) -> f64 {
    let pool = ThreadPoolExecutor::new(WORKERS);
    let start = Instant::now();
    let done = run(&mut (0..amount(size)).map(|n| pool.spawn(move |_| Ok(n))));
    per_task(start, size, done)
}

fn per_task(start: Instant, size: usize, done: usize) -> f64 {
    assert_eq!(done, amount(size));
    start.elapsed().as_nanos() as f64 / done as f64
}
