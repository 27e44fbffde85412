//! Everything at once: tasks that end in every way, while other threads pause, resume, cancel, observe, drop and detach
//! them, and while their limits pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use progress_executor::{ProgressFuture, Status, TaskResult, ThreadPoolExecutor, Triggers, Updater};

use crate::support::{eventually, within_deadline};

/// A random number generator: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn work(seed: u64, progress: &Updater) -> TaskResult<u64> {
    let mut dice = Dice(seed);
    let steps = dice.roll(2_000);
    for step in progress.iter(0..steps) {
        if step? % 500 == 499 {
            progress.set_message(format!("step {steps}"));
        }
    }
    match dice.roll(10) {
        0 => Err("failed".into()),
        // Without calling the panic hook.
        1 => std::panic::resume_unwind(Box::new("panicked")),
        _ => Ok(steps),
    }
}

/// Submits a task, which may have a limit that passes while it runs.
fn submit(executor: &ThreadPoolExecutor, dice: &mut Dice) -> ProgressFuture<u64> {
    let task = executor.task(work, 1 + dice.roll(u64::MAX - 1));
    match dice.roll(8) {
        0 => task.timeout(Duration::from_micros(dice.roll(300))).submit(),
        1 => task.stall_timeout(Duration::from_micros(dice.roll(3000))).submit(),
        _ => task.submit(),
    }
}

/// Does something to a task. If it returns the task, that must end.
fn meddle(dice: &mut Dice, mut task: ProgressFuture<u64>) -> Option<ProgressFuture<u64>> {
    for _ in 0..dice.roll(4) {
        match dice.roll(9) {
            0 => task.pause(),
            1 => task.resume(),
            2 => task.cancel(),
            3 => drop(task.updates()),
            4 => _ = task.add_progress_callback(|old, new| assert_ne!((old.n, old.status), (u64::MAX, new.status))),
            5 => task.add_bar(Triggers::RUNNING, indicatif::ProgressBar::hidden),
            6 => assert!(task.progress().n <= 2_000),
            7 => {
                task.detach();
                return None;
            }
            _ => {
                drop(task);
                return None;
            }
        }
    }
    task.resume();
    Some(task)
}

fn storm(seed: u64) {
    let executor = ThreadPoolExecutor::new(3);
    let ended = Arc::new(AtomicUsize::new(0));
    let actors: Vec<_> = (1..=3)
        .map(|actor| {
            let mut dice = Dice(seed * 31 + actor);
            let (tasks, watchers): (Vec<_>, Vec<_>) = (0..300)
                .map(|_| {
                    let task = submit(&executor, &mut dice);
                    let updates = task.updates();
                    (task, updates)
                })
                .unzip();
            let ended = ended.clone();
            thread::spawn(move || {
                let kept: Vec<_> = tasks.into_iter().filter_map(|task| meddle(&mut dice, task)).collect();
                for outcome in smol::block_on(futures::future::join_all(kept)) {
                    assert!(outcome.as_ref().map_or_else(|error| !error.is_rejected(), |steps| *steps < 2_000));
                }
                for updates in watchers {
                    let last = smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap();
                    assert!(last.status.is_terminal() && last.status != Status::Cancelling);
                    ended.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let shutdown = executor.shutdown();
    for actor in actors {
        actor.join().unwrap();
    }
    assert_eq!(ended.load(Ordering::SeqCst), 900, "every task has ended, whoever was left to see it");
    shutdown.wait();
    eventually("the threads have ended", || format!("{executor:?}").contains("threads: 0"));
}

#[test]
fn every_task_ends_once_whatever_is_done_to_it() {
    for seed in 1..=10 {
        within_deadline(move || storm(seed));
    }
}

/// Several threads submit, pause, resume and cancel while the pool is shut down.
fn storm_and_shut_down(seed: u64) {
    let executor = Arc::new(ThreadPoolExecutor::new(1 + seed as usize % 3));
    let submitters: Vec<_> = (1..=3)
        .map(|submitter| {
            let (executor, mut dice) = (executor.clone(), Dice(seed * 31 + submitter));
            thread::spawn(move || {
                let tasks = (0..200).map(|_| {
                    let starts = Arc::new(AtomicUsize::new(0));
                    let counted = starts.clone();
                    let task = executor.spawn(move |_| Ok(_ = counted.fetch_add(1, Ordering::SeqCst)));
                    match dice.roll(8) {
                        0 => task.pause(),
                        1 => {
                            task.pause();
                            task.resume();
                        }
                        2 => task.cancel(),
                        _ => {}
                    }
                    (task, starts)
                });
                tasks.collect::<Vec<_>>()
            })
        })
        .collect();
    let mut dice = Dice(seed);
    // Somewhere among the tasks of the submitters.
    let before: Vec<_> = (0..dice.roll(300)).map(|_| executor.spawn(|_| Ok(()))).collect();
    let shutdown = executor.shutdown_now();
    for (task, starts) in submitters.into_iter().flat_map(|submitter| submitter.join().unwrap()) {
        let has_run = task.wait().is_ok();
        assert_eq!(starts.load(Ordering::SeqCst), usize::from(has_run));
    }
    before.into_iter().for_each(|task| _ = task.wait());
    shutdown.wait();
    eventually("the threads have ended", || format!("{executor:?}").contains("threads: 0, queued: 0"));
}

#[test]
fn every_task_ends_and_none_that_was_refused_has_run_whenever_the_pool_is_shut_down() {
    within_deadline(|| (1..=200).for_each(storm_and_shut_down));
}
