//! Parallel iterators count, and a part of their items is never taken for the whole. Rayon as an executor.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use progress_executor::{
    Cancelled, Job, ProgressFuture, ProgressParIter, Status, SyncExecutor, TaskResult, ThreadPoolExecutor, Updater,
    executor_fn,
};
use rayon::iter::ParallelBridge;
use rayon::prelude::*;

use crate::foreign_executors;
use crate::support::{eventually, gate, within_deadline};

const MANY: u64 = 1 << 40;

/// Runs a task on a thread, with rayon threads of its own for its iterators.
fn spawn<T: Send + 'static>(
    task: impl FnOnce(&Updater, &rayon::ThreadPool) -> TaskResult<T> + Send + 'static,
) -> ProgressFuture<T> {
    ThreadPoolExecutor::new(1).spawn(move |progress| {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
        task(progress, &threads)
    })
}

#[test]
fn every_item_is_counted_and_collected_in_order() {
    within_deadline(|| {
        let mut task = spawn(|progress, threads| {
            let items = progress.par_iter(0..10_000_u64);
            let doubled: Vec<u64> =
                threads.install(|| items.map(|n| n.map(|n| 2 * n)).collect::<Result<_, Cancelled>>())?;
            Ok(doubled)
        });
        assert_eq!(smol::block_on(&mut task).unwrap(), (0..10_000).map(|n| 2 * n).collect::<Vec<_>>());
        let last = task.progress();
        assert_eq!((last.n, last.total, last.status), (10_000, Some(10_000), Status::Finished));
    });
}

#[test]
fn each_iterator_starts_a_count_of_its_own() {
    within_deadline(|| {
        let mut task = SyncExecutor::new().spawn(|progress| {
            progress.set_counts(3, 4)?;
            let sum = progress.par_iter(vec![1, 2, 3]).map(Result::unwrap).sum::<u32>();
            let count = progress.par_iter([(); 5]).count();
            Ok((sum, count))
        });
        assert_eq!(smol::block_on(&mut task).unwrap(), (6, 5));
        assert_eq!((task.progress().n, task.progress().total), (5, Some(5)));
    });
}

#[test]
fn a_length_that_is_not_known_is_no_total() {
    within_deadline(|| {
        let mut task = SyncExecutor::new().spawn(|progress| {
            let count = progress.par_iter((0..100).par_bridge()).count();
            Ok((count, progress.par_iter((0..100).into_par_iter().filter(|n| n % 2 == 0)).count()))
        });
        assert_eq!(smol::block_on(&mut task).unwrap(), (100, 50));
        assert_eq!((task.progress().n, task.progress().total), (50, None));
    });
}

/// Cancels a task in the middle of its iterator, and returns the iterator's result and the number of visited items.
fn cancelled_midway<R: Send + 'static>(
    drive: impl FnOnce(ProgressParIter<rayon::range::Iter<u64>>, &(dyn Fn() + Sync)) -> R + Send + 'static,
) -> (R, usize) {
    within_deadline(|| {
        let visited = Arc::new(AtomicUsize::new(0));
        let (result, counter) = (Arc::new(std::sync::Mutex::new(None)), visited.clone());
        let sink = result.clone();
        let task = spawn(move |progress, threads| {
            let items = progress.par_iter(0..MANY);
            let visit = || _ = counter.fetch_add(1, Ordering::SeqCst);
            let result = threads.install(|| drive(items, &visit));
            *sink.lock().unwrap() = Some(result);
            Ok(progress.check()?)
        });
        eventually("it counts", || task.progress().n > 100);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        (result.lock().unwrap().take().unwrap(), visited.load(Ordering::SeqCst))
    })
}

#[test]
fn a_cancelled_iterator_gives_no_part_for_the_whole() {
    let (result, visited) = cancelled_midway(|items, visit| {
        // Keeps few of them, because there is no memory for all.
        items.inspect(|_| visit()).filter(|n| !matches!(n, Ok(n) if n % 1_000 > 0)).collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(result, Err(Cancelled));
    assert!((100..MANY as usize).contains(&visited));

    let (result, _) = cancelled_midway(|items, visit| {
        items.try_for_each(|n| {
            visit();
            n.map(drop)
        })
    });
    assert_eq!(result, Err(Cancelled));

    let (result, _) = cancelled_midway(|items, _| items.try_reduce(|| 0, |a, b| Ok(a.max(b))));
    assert_eq!(result, Err(Cancelled));

    let (result, _) = cancelled_midway(|items, _| items.map(|n| n.map(|n| n % 2)).sum::<Result<u64, _>>());
    assert_eq!(result, Err(Cancelled));
}

#[test]
fn a_cancelled_iterator_tells_each_piece_once_and_ends() {
    let (errors, visited) = cancelled_midway(|items, visit| {
        let errors = AtomicUsize::new(0);
        items.for_each(|n| match n {
            Ok(_) => visit(),
            Err(Cancelled) => _ = errors.fetch_add(1, Ordering::SeqCst),
        });
        errors.into_inner()
    });
    assert!((1..1_000).contains(&errors), "{errors}");
    assert!((100..MANY as usize).contains(&visited));

    let (count, _) = cancelled_midway(|items, _| items.count());
    assert!((100..MANY as usize).contains(&count));
}

#[test]
fn an_iterator_of_a_task_that_was_cancelled_before_visits_nothing() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = spawn(move |progress, threads| {
            barrier.pass();
            let items = progress.par_iter(0..1_000_u64);
            let (ok, errors): (Vec<_>, Vec<_>) = threads.install(|| items.partition(Result::is_ok));
            assert!(ok.is_empty() && !errors.is_empty());
            Ok(progress.check()?)
        });
        gate.wait();
        task.cancel();
        gate.open();
        let error = task.wait().unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        assert_eq!((error.progress().n, error.progress().total), (0, Some(1_000)));
    });
}

#[test]
fn an_iterator_is_seen_while_it_runs() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let mut task = spawn(move |progress, threads| {
            let (items, barrier) = (progress.par_iter(0..100_u64), std::sync::Mutex::new(barrier));
            let halfway = AtomicUsize::new(0);
            threads.install(|| {
                items.try_for_each(|n| {
                    if halfway.fetch_add(1, Ordering::SeqCst) == 50 {
                        barrier.lock().unwrap().pass();
                    }
                    n.map(drop)
                })
            })?;
            Ok(())
        });
        let updates = task.updates();
        gate.wait();
        // One thread waits with an item that is not done, and the other one takes all the others that it can get.
        while updates.recv_blocking().unwrap().n < 50 {}
        let state = task.progress();
        assert!((50..100).contains(&state.n) && state.total == Some(100), "{state:?}");
        gate.open();
        smol::block_on(&mut task).unwrap();
        assert_eq!(task.progress().n, 100);
    });
}

#[test]
fn an_iterator_waits_while_its_task_is_paused() {
    within_deadline(|| {
        let task = spawn(|progress, threads| {
            let items = progress.par_iter(0..MANY);
            Ok(threads.install(|| items.try_for_each(|n| n.map(drop)))?)
        });
        eventually("it counts", || task.progress().n > 0);
        task.pause();
        eventually("it waits", || task.progress().status == Status::Paused);
        task.resume();
        let paused = task.progress().n;
        eventually("it goes on", || task.progress().n > paused);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn an_item_that_panics_is_the_panic_of_its_task() {
    within_deadline(|| {
        let task = spawn(|progress, threads| {
            let items = progress.par_iter(0..1_000_u64);
            threads.install(|| {
                items.for_each(|n| {
                    if n == Ok(500) {
                        std::panic::resume_unwind(Box::new("out of ink"));
                    }
                });
            });
            Ok(())
        });
        let error = task.wait().unwrap_err();
        assert_eq!(error.into_panic().unwrap().downcast_ref(), Some(&"out of ink"));
    });
}

#[test]
fn a_parallel_loop_counts_and_is_cancelled() {
    within_deadline(|| {
        fn square(limit: u64, progress: &Updater) -> TaskResult<u64> {
            progress.set_total(limit);
            let shared = progress.shared();
            let squares = (0..limit).into_par_iter().map(|number| shared.update(1).map(|()| number % 10));
            Ok(squares.try_reduce(|| 0, |a, b| Ok(a + b))?)
        }
        let executor = ThreadPoolExecutor::new(1);
        let mut task = executor.submit(square, 10_000);
        assert_eq!(smol::block_on(&mut task).unwrap(), 45_000);
        assert_eq!((task.progress().n, task.progress().fraction()), (10_000, Some(1.0)));

        let task = executor.spawn(|progress| {
            let shared = progress.shared();
            Ok(rayon::iter::repeat(()).try_for_each(|()| shared.update(1))?)
        });
        eventually("the loop runs", || task.progress().n > 0);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn its_threads_run_tasks() {
    within_deadline(|| foreign_executors::check(&executor_fn(|job: Job| rayon::spawn(move || job.run()))));
}

#[test]
fn an_iterator_can_be_sent_and_debugged() {
    fn is_send_and_debug<T: Send + Debug>() {}
    is_send_and_debug::<ProgressParIter<rayon::vec::IntoIter<u32>>>();
}
