//! Maps: what they take, when, and what they give.

use std::cell::Cell;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures::stream::FusedStream as _;
use futures::{Stream as _, StreamExt, TryStreamExt};
use progress_executor::{
    Executor, ExecutorExt, GroupHandle, Job, SyncExecutor, TaskResult, ThreadPoolExecutor, Updater, executor_fn,
};

use crate::support::{Hand, count, eventually, gate, tick_forever, within_deadline};

/// A function that returns its input once the sender is gone.
fn behind_a_door() -> (Sender<()>, impl Fn(u64, &Updater) -> TaskResult<u64> + Clone) {
    let (door, opened): (_, Receiver<()>) = async_channel::bounded(1);
    let pass = move |n, _: &Updater| {
        let _ = opened.recv_blocking();
        Ok(n)
    };
    (door, pass)
}

/// The numbers from 0, and the count of those that were taken. They stay on this thread.
fn counted() -> (Rc<Cell<u64>>, impl Iterator<Item = u64>) {
    let pulled = Rc::new(Cell::new(0));
    let counter = pulled.clone();
    (pulled, (0..).inspect(move |_| counter.set(counter.get() + 1)))
}

#[test]
fn outcomes_come_in_the_order_of_the_inputs() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let ((first, barrier), (ended, end)) = (gate(), mpsc::channel());
        let barrier = Arc::new(std::sync::Mutex::new(barrier));
        let task = move |n, _: &Updater| {
            if n == 0 {
                barrier.lock().unwrap().pass();
            }
            ended.send(n)?;
            Ok(n)
        };
        let mut map = executor.map(task, 0..4);
        let hand = Hand::new();
        assert!(hand.poll_next(&mut map).is_pending());
        assert_eq!(end.iter().take(3).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(hand.poll_next(&mut map).is_pending(), "the first one has not ended");
        first.open();
        assert_eq!(smol::block_on(map.try_collect::<Vec<_>>()).unwrap(), [0, 1, 2, 3]);
    });
}

#[test]
fn an_unordered_map_yields_what_ends_first() {
    within_deadline(|| {
        let (doors, waits): (Vec<_>, Vec<_>) = (0..4).map(|_| async_channel::bounded::<()>(1)).unzip();
        let executor = ThreadPoolExecutor::new(4);
        let pass = move |n: usize, _: &Updater| {
            let _ = waits[n].recv_blocking();
            Ok(n)
        };
        let mut map = executor.map(pass, 0..4).buffer(4).unordered();
        for first in [2, 0, 3, 1] {
            assert!(Hand::new().poll_next(&mut map).is_pending());
            doors[first].close();
            assert_eq!(smol::block_on(map.next()).unwrap().unwrap(), first);
        }
        assert!(smol::block_on(map.next()).is_none());
    });
}

#[test]
fn a_map_that_becomes_unordered_keeps_what_it_has_taken() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut map = executor.map(count, 0..5);
        let first = smol::block_on(map.next()).unwrap().unwrap();
        let mut rest: Vec<_> = smol::block_on(map.unordered().unordered().try_collect()).unwrap();
        rest.sort();
        assert_eq!((first, rest), (0, vec![1, 2, 3, 4]));
    });
}

#[test]
fn outcomes_of_chunks_come_at_once_where_a_map_has_become_unordered_behind_a_longer_one() {
    within_deadline(|| {
        let (doors, waits): (Vec<_>, Vec<_>) = (0..2).map(|_| async_channel::bounded::<()>(1)).unzip();
        let executor = ThreadPoolExecutor::new(2);
        let pass = move |n: usize, _: &Updater| {
            if n == 3 || n == 5 {
                let _ = waits[(n - 3) / 2].recv_blocking();
            }
            Ok(n)
        };
        let mut map = executor.map(pass, 0..6).chunks(2).buffer(2);
        let ordered: Vec<_> = smol::block_on(map.by_ref().take(2).try_collect()).unwrap();
        assert_eq!(ordered, [0, 1]);
        // The chunk of 2 and 3 is ordered, and goes on; that of 4 and 5 is not.
        let mut map = map.unordered();
        let mut next: Vec<_> = smol::block_on(map.by_ref().take(2).try_collect()).unwrap();
        next.sort();
        assert_eq!(next, [2, 4]);
        drop(doors);
        let mut rest: Vec<_> = smol::block_on(map.try_collect()).unwrap();
        rest.sort();
        assert_eq!(rest, [3, 5]);
    });
}

/// Checks how many inputs a map takes: only as many as may be in flight.
fn takes(executor: &dyn Executor, buffer: Option<usize>, expected: u64) {
    for is_ordered in [true, false] {
        let ((door, task), (pulled, inputs), hand) = (behind_a_door(), counted(), Hand::new());
        let mut map = executor.map(task, inputs);
        if let Some(buffer) = buffer {
            map = map.buffer(buffer);
        }
        if !is_ordered {
            map = map.unordered();
        }
        assert_eq!(pulled.get(), 0, "nothing is taken before the first poll");
        for _ in 0..3 {
            assert!(hand.poll_next(&mut map).is_pending());
            assert_eq!(pulled.get(), expected);
        }
        drop(door);
        for n in 0..10 {
            smol::block_on(map.next()).unwrap().unwrap();
            // The next input is taken only when another outcome is asked for.
            assert_eq!(pulled.get(), expected + n);
        }
        drop(map);
        assert_eq!(pulled.get(), expected + 9);
    }
}

#[test]
fn no_more_are_in_flight_than_the_buffer_holds() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(3);
        takes(&executor, None, 6);
        takes(&executor, Some(0), 1);
        takes(&executor, Some(1), 1);
        takes(&executor, Some(5), 5);
        let threads = || executor_fn(|job: Job| drop(thread::spawn(move || job.run())));
        takes(&threads().with_max_workers(4), None, 8);
        takes(&threads().with_max_workers(0), None, 2);
        takes(&threads(), None, 2 * thread::available_parallelism().unwrap().get() as u64);
    });
}

#[test]
fn a_handle_reaches_what_runs_within_its_submission() {
    within_deadline(|| {
        for size in [1, 4] {
            let executor = executor_fn(Job::run);
            let handle = Arc::new(OnceLock::<GroupHandle>::new());
            let cancel = handle.clone();
            let map = executor.map(
                move |n: u64, progress: &Updater| {
                    cancel.get().unwrap().cancel();
                    progress.check()?;
                    Ok(n)
                },
                0..4,
            );
            let map = map.chunks(size);
            handle.set(map.handle()).unwrap();
            let outcomes: Vec<_> = map.blocking().collect();
            assert_eq!(outcomes.len(), size);
            assert!(outcomes.into_iter().all(|outcome| outcome.unwrap_err().is_cancelled()));
        }
    });
}

#[test]
fn outcomes_that_nobody_has_taken_are_in_flight() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (pulled, inputs) = counted();
        let mut map = executor.map(count, inputs).buffer(3);
        smol::block_on(map.next()).unwrap().unwrap();
        executor.shutdown().wait();
        assert_eq!(pulled.get(), 3);
    });
}

#[test]
fn a_map_that_is_never_polled_takes_nothing() {
    let (pulled, inputs) = counted();
    let executor = SyncExecutor::new();
    drop(executor.map(count, inputs));
    assert_eq!(pulled.get(), 0);
}

#[test]
fn the_first_error_stops_it_all() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(4);
        let (pulled, inputs) = counted();
        let task = |n: u64, progress: &Updater| match n {
            0..3 => Ok(n),
            3 => Err("three".into()),
            _ => tick_forever((), progress).map(|()| n),
        };
        let outcome: Result<Vec<_>, _> = smol::block_on(executor.map(task, inputs).buffer(4).try_collect());
        assert!(outcome.unwrap_err().is_failed());
        assert_eq!(pulled.get(), 7, "those before it, it, and those in flight");
        // Hangs if any of them runs on.
        executor.shutdown().wait();
    });
}

#[test]
fn dropping_a_map_cancels_its_tasks_and_those_that_wait_never_start() {
    for is_ordered in [true, false] {
        within_deadline(move || {
            let executor = ThreadPoolExecutor::new(1);
            let ran = Arc::new(AtomicUsize::new(0));
            let (counter, (pulled, inputs)) = (ran.clone(), counted());
            let task = move |_, progress: &Updater| {
                counter.fetch_add(1, Ordering::SeqCst);
                tick_forever((), progress)
            };
            let map = executor.map(task, inputs).buffer(2_000);
            let mut map = if is_ordered { map } else { map.unordered() };
            assert!(Hand::new().poll_next(&mut map).is_pending());
            eventually("the first one runs", || ran.load(Ordering::SeqCst) == 1);
            drop(map);
            executor.shutdown().wait();
            assert_eq!((ran.load(Ordering::SeqCst), pulled.get()), (1, 2_000));
        });
    }
}

#[test]
fn an_iterator_that_panics_is_not_asked_again_and_what_it_gave_is_kept() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        for is_ordered in [true, false] {
            let calls = Cell::new(0);
            let inputs = iter::from_fn(|| {
                calls.set(calls.get() + 1);
                if calls.get() == 4 { panic_any("no more") } else { Some(calls.get()) }
            });
            let map = executor.map(count, inputs).buffer(10);
            let mut map = if is_ordered { map } else { map.unordered() };
            let payload = catch_unwind(AssertUnwindSafe(|| smol::block_on(map.next()))).unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"no more"));
            assert!(!map.is_terminated());
            assert_eq!(map.size_hint(), (3, Some(3)));
            let mut values: Vec<_> = smol::block_on(map.by_ref().try_collect()).unwrap();
            values.sort();
            assert_eq!(values, [1, 2, 3]);
            assert!(map.is_terminated());
            assert!(matches!(Hand::new().poll_next(&mut map), Poll::Ready(None)));
            assert_eq!(calls.get(), 4);
        }
    });
}

/// Panics when it is cloned for the third time.
struct Fragile(Arc<AtomicUsize>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert_ne!(self.0.fetch_add(1, Ordering::Relaxed), 2, "no third one");
        Self(self.0.clone())
    }
}

#[test]
fn a_function_that_panics_when_it_is_cloned_fails_what_it_was_cloned_for_and_nothing_else() {
    within_deadline(|| {
        fails_alone(&ThreadPoolExecutor::new(2), 1);
        fails_alone(&ThreadPoolExecutor::new(2), 3);
        fails_alone(&SyncExecutor::new(), 1);
        fails_alone(&SyncExecutor::new(), 3);
    });
}

fn fails_alone(executor: &dyn Executor, chunk: usize) {
    let fragile = Fragile(Arc::default());
    let square = move |n: u64, _: &Updater| {
        let _ = &fragile;
        Ok(n * n)
    };
    let mut map = executor.map(square, 0..12).chunks(chunk);
    let outcomes: Vec<_> = smol::block_on(map.by_ref().collect());
    let unmade = 2 * chunk..3 * chunk;
    assert_eq!(outcomes.len(), 12);
    for (n, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(value) => assert!(*value == (n * n) as u64 && !unmade.contains(&n)),
            Err(error) => assert!(error.is_panic() && unmade.contains(&n), "{error}"),
        }
    }
    let first = outcomes[unmade.start].as_ref().unwrap_err().to_string();
    assert!(first.contains("no third one"), "{first}");
    let progress = map.progress();
    assert_eq!((progress.finished, progress.failed), (12 - chunk, chunk));
    assert!(map.is_terminated());
}

#[test]
fn an_iterator_that_is_over_is_not_asked_again() {
    let calls = Cell::new(0);
    let inputs = iter::from_fn(|| {
        calls.set(calls.get() + 1);
        (calls.get() != 3).then_some(1)
    });
    let executor = SyncExecutor::new();
    let mut map = executor.map(count, inputs).buffer(1);
    assert_eq!(smol::block_on(map.by_ref().count()), 2);
    assert!(smol::block_on(map.next()).is_none());
    assert_eq!(calls.get(), 3);
}

#[test]
fn an_iterator_that_blocks_keeps_nobody_waiting_but_the_one_who_polls() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let ((send, inputs), (ended, end)) = (mpsc::channel(), mpsc::channel());
        let poller = thread::spawn(move || {
            let task = move |n: u64, _: &Updater| {
                ended.send(n)?;
                Ok(n)
            };
            smol::block_on(executor.map(task, inputs).buffer(4).try_collect::<Vec<_>>()).unwrap()
        });
        for n in 0..3 {
            send.send(n).unwrap();
            assert_eq!(end.recv().unwrap(), n);
        }
        assert!(!poller.is_finished());
        drop(send);
        assert_eq!(poller.join().unwrap(), [0, 1, 2]);
    });
}

#[test]
fn the_size_is_what_is_in_flight_and_perhaps_what_is_to_come() {
    let executor = SyncExecutor::new();
    let mut map = executor.map(count, 0..10).buffer(2);
    assert_eq!(map.size_hint(), (0, Some(10)));
    for left in (0..10).rev() {
        smol::block_on(map.next()).unwrap().unwrap();
        assert_eq!(map.size_hint(), (left.min(1), Some(left)));
    }
    let mut endless = executor.map(count, iter::repeat(1)).buffer(2);
    smol::block_on(endless.next()).unwrap().unwrap();
    assert_eq!(endless.size_hint(), (1, None));
}

#[test]
fn what_an_endless_map_has_done_until_it_is_cancelled_can_be_collected() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let map = executor.map(count, iter::repeat(1)).buffer(2);
        let handle = map.handle();
        let mut outcomes = 0;
        let until_the_third = map.blocking().inspect(|_| {
            outcomes += 1;
            if outcomes == 3 {
                handle.cancel();
            }
        });
        let all: Vec<_> = until_the_third.collect();
        assert!(all[..3].iter().all(Result::is_ok) && all.len() <= 4, "{all:?}");
    });
}

#[test]
fn a_map_can_be_selected_from() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let (mut left, mut right) = (executor.map(count, 0..10), executor.map(count, 10..15).unordered());
        let mut sum = 0;
        smol::block_on(async {
            loop {
                futures::select! {
                    n = left.select_next_some() => sum += n.unwrap(),
                    n = right.select_next_some() => sum += n.unwrap(),
                    complete => break,
                }
            }
        });
        assert_eq!(sum, (0..15).sum::<u64>());
    });
}

#[test]
fn inputs_without_end_are_taken_as_far_as_they_are_wanted() {
    within_deadline(|| {
        let executor: &dyn Executor = &ThreadPoolExecutor::new(2);
        let (pulled, inputs) = counted();
        let map = executor.map(count, inputs).take(5);
        assert_eq!(smol::block_on(map.try_collect::<Vec<_>>()).unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(pulled.get(), 4 + 4);
    });
}

#[test]
fn many_inputs_take_no_more_memory_than_few() {
    struct Input(Arc<AtomicUsize>);
    impl Drop for Input {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        for is_ordered in [true, false] {
            let alive = Arc::new(AtomicUsize::new(0));
            let inputs = (0..50_000).map(|_| {
                let before = alive.fetch_add(1, Ordering::SeqCst);
                assert!(before < 10, "{before} others are alive");
                Input(alive.clone())
            });
            let map = executor.map(|_: Input, _| Ok(()), inputs).buffer(10);
            let map = if is_ordered { map } else { map.unordered() };
            assert_eq!(smol::block_on(map.count()), 50_000);
            assert_eq!(alive.load(Ordering::SeqCst), 0);
        }
    });
}

#[test]
fn an_inline_map_runs_its_tasks_as_they_are_asked_for() {
    let (ran, runs) = mpsc::channel();
    let executor = SyncExecutor::new();
    let task = move |n: u64, progress: &Updater| {
        ran.send(n)?;
        Ok(progress.sleep(Duration::ZERO)?)
    };
    let mut map = executor.map(task, 0..5).buffer(3);
    for n in 0..5 {
        smol::block_on(map.next()).unwrap().unwrap();
        assert_eq!(runs.try_iter().collect::<Vec<_>>(), [n]);
    }
}

#[test]
fn what_an_input_of_a_chunk_has_left_behind_says_nothing_for_the_next_one() {
    within_deadline(|| {
        let left = Arc::new(Mutex::new(None));
        let task = move |n: u64, progress: &Updater| -> TaskResult<()> {
            if n == 0 {
                let (shared, part) = (progress.shared(), progress.split(1));
                let shared_part = part.shared();
                part.set_message("of the part");
                *left.lock().unwrap() = Some((shared, part.split(1), shared_part));
                return Err("one".into());
            }
            let own = (progress.shared(), progress.split(1).shared());
            own.0.set_total(3);
            own.1.set_message("its own");
            let left = left.lock().unwrap().take();
            let (shared, part, shared_part) = left.unwrap();
            shared.set_total(7);
            shared.set_message("shared");
            part.set_message("part");
            shared_part.set_message("shared part");
            Err("two".into())
        };
        let executor = ThreadPoolExecutor::new(1);
        let outcomes: Vec<_> = executor.map(task, 0..2).chunks(2).blocking().collect();
        let said = |n: usize| outcomes[n].as_ref().unwrap_err().progress();
        assert_eq!(said(0).message.as_deref(), Some("of the part"));
        assert_eq!((said(1).message.as_deref(), said(1).total), (Some("its own"), Some(3)));
    });
}
