//! Groups and maps from elsewhere: handles, callbacks and events.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::Duration;

use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt, select};
use progress_executor::{GroupEvent, GroupProgress, Status, SyncExecutor, TaskGroup, ThreadPoolExecutor};

use crate::support::{Hand, busy_pool, count, eventually, gate, tick_forever, within_deadline};

const NEVER: Duration = Duration::from_secs(3600);

/// The states that a program sees, in order, and a group whose callback notes them.
fn noted(group: TaskGroup<u64>) -> (Arc<Mutex<Vec<GroupProgress>>>, TaskGroup<u64>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    (seen, group.on_progress(move |_, new| sink.lock().unwrap().push(new.clone())))
}

#[test]
fn a_handle_reaches_the_tasks_of_a_group_that_is_joined() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let mut group = TaskGroup::new();
        let handle = group.handle();
        group.extend((0..5).map(|_| executor.submit(tick_forever, ())));
        // Joining a group ends an earlier pause.
        let joined = group.join_all();
        let canceller = std::thread::spawn({
            let handle = handle.clone();
            move || {
                eventually("tasks run", || handle.progress().running == 2);
                handle.pause();
                eventually("tasks wait", || handle.progress().paused == 5);
                handle.resume();
                eventually("tasks run again", || handle.progress().running == 2);
                handle.cancel();
            }
        });
        assert!(joined.wait().into_iter().all(|outcome| outcome.unwrap_err().is_cancelled()));
        canceller.join().unwrap();
        assert_eq!(handle.progress().cancelled, 5);
    });
}

#[test]
fn what_is_added_while_the_handle_pauses_waits() {
    within_deadline(|| {
        let (executor, gate) = busy_pool();
        let mut group = TaskGroup::new();
        let handle = group.handle();
        handle.pause();
        group.add(executor.submit(count, 3));
        gate.open();
        assert_eq!(handle.progress().count(Status::Paused), 1);
        handle.resume();
        assert_eq!(group.join().wait().unwrap(), [3]);
    });
}

#[test]
fn pauses_from_many_threads_leave_all_tasks_alike() {
    within_deadline(|| {
        for _ in 0..200 {
            let (executor, gate) = busy_pool();
            let mut group = TaskGroup::new();
            let handle = group.handle();
            let threads = [true, false].map(|pauses| {
                let handle = handle.clone();
                std::thread::spawn(move || (0..20).for_each(|_| if pauses { handle.pause() } else { handle.resume() }))
            });
            group.extend((0..20).map(|_| executor.submit(count, 1)));
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let progress = group.progress();
            assert!(progress.paused == 0 || progress.paused == 20, "{progress:?}");
            gate.open();
        }
    });
}

#[test]
fn a_handle_outlives_its_group_and_does_not_keep_receivers_open() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let group: TaskGroup<_> = [executor.submit(count, 7)].into_iter().collect();
        let handle = group.handle();
        let updates = handle.updates();
        group.join().wait().unwrap();
        assert_eq!(updates.recv_blocking().unwrap().n, 7);
        assert!(updates.recv_blocking().is_err());
        // A receiver that is made at the end gets the last state.
        let late = handle.updates();
        assert_eq!(late.recv_blocking().unwrap().n, 7);
        assert!(late.recv_blocking().is_err());
        handle.pause();
        handle.resume();
        handle.cancel();
    });
}

#[test]
fn receivers_of_a_dropped_group_are_closed_at_its_last_end_although_there_is_a_handle() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (gate, barrier) = gate();
        let group: TaskGroup<()> = [executor.spawn(move |_| {
            barrier.pass();
            Ok(())
        })]
        .into_iter()
        .collect();
        gate.wait();
        let handle = group.handle();
        let updates = group.updates();
        drop(group);
        gate.open();
        let last = smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap();
        assert_eq!((last.ended(), handle.progress().ended()), (1, 1));
    });
}

#[test]
fn a_callback_is_shown_the_last_progress_before_the_last_outcome() {
    within_deadline(|| {
        for _ in 0..100 {
            let executor = ThreadPoolExecutor::builder().max_workers(2).report_interval(NEVER).build();
            let group = (0..4).map(|n| executor.submit(count, n)).collect();
            let (seen, mut group) = noted(group);
            for left in (0..4).rev() {
                smol::block_on(group.next()).unwrap().1.unwrap();
                assert!(left > 0 || seen.lock().unwrap().last().unwrap().finished == 4);
            }
        }
    });
}

#[test]
fn a_callback_is_shown_the_last_progress_before_a_join_resolves() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::builder().max_workers(2).report_interval(NEVER).build();
        let (seen, group) = noted((0..4).map(|n| executor.submit(count, n)).collect());
        group.join().wait().unwrap();
        let last = seen.lock().unwrap().pop().unwrap();
        assert_eq!((last.finished, last.n, last.fraction()), (4, 6, Some(1.0)));
    });
}

#[test]
fn each_old_progress_is_the_new_one_before_it() {
    let executor = SyncExecutor::new();
    let pairs = Arc::new(Mutex::new(Vec::new()));
    let sink = pairs.clone();
    let group: TaskGroup<u64> = (1..4).map(|n| executor.submit(count, n)).collect();
    let group = group.on_progress(move |old, new| sink.lock().unwrap().push((old.clone(), new.clone())));
    group.join().wait().unwrap();
    let pairs = pairs.lock().unwrap();
    assert_eq!(pairs[0].0, GroupProgress::default());
    assert!(pairs.windows(2).all(|pair| pair[0].1 == pair[1].0));
    // Tasks that run inside of the poll show every single change.
    let mut counts: Vec<u64> = pairs.iter().map(|(_, new)| new.n).collect();
    counts.dedup();
    assert_eq!(counts, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_callback_that_was_removed_is_not_called() {
    let executor = SyncExecutor::new();
    let mut group: TaskGroup<u64> = [executor.submit(count, 3)].into_iter().collect();
    let id = group.add_progress_callback(|_, _| panic!("it was removed"));
    let calls = Arc::new(AtomicUsize::new(0));
    let sink = calls.clone();
    group.add_progress_callback(move |_, _| {
        sink.fetch_add(1, Ordering::Relaxed);
    });
    assert!(group.remove_progress_callback(id));
    assert!(!group.remove_progress_callback(id));
    group.join().wait().unwrap();
    assert!(calls.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_callback_of_the_group_that_panics_costs_no_outcome() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut group: TaskGroup<u64> = [executor.submit(count, 3)].into_iter().collect();
        group.add_progress_callback(|_, new| assert_eq!(new.finished, 0, "as intended"));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            loop {
                if let Some(Some((_, outcome))) = group.next().now_or_never() {
                    return outcome.unwrap();
                }
            }
        }));
        assert!(panicked.is_err());
        assert_eq!((group.len(), group.is_terminated()), (1, false));
        assert_eq!(smol::block_on(group.next()).unwrap().1.unwrap(), 3);
        assert!(group.is_empty());
    });
}

#[test]
fn selecting_between_events_and_something_else_never_misses_the_last_state() {
    within_deadline(|| {
        for _ in 0..100 {
            let executor = ThreadPoolExecutor::new(2);
            let group: TaskGroup<_> = (0..5).map(|n| executor.submit(count, n)).collect();
            let (mut events, mut ticks) = (group.events(), futures::stream::repeat(()));
            let (mut last, mut ended) = (GroupProgress::default(), 0);
            smol::block_on(async {
                loop {
                    select! {
                        event = events.next() => match event {
                            Some(GroupEvent::Progress(progress)) => last = progress,
                            Some(GroupEvent::Ended(_, outcome)) => {
                                outcome.unwrap();
                                ended += 1;
                                assert!(ended < 5 || last.finished == 5, "the last state comes before the last outcome");
                            }
                            Some(other) => panic!("{other:?}"),
                            None => break,
                        },
                        _ = ticks.next() => {}
                    }
                }
            });
            assert_eq!((ended, last.finished, last.n), (5, 5, 10));
        }
    });
}

#[test]
fn events_start_with_the_current_progress_and_end_for_good() {
    let executor = SyncExecutor::new();
    let mut events = [executor.submit(count, 2)].into_iter().collect::<TaskGroup<_>>().events();
    let hand = Hand::new();
    assert!(!events.is_terminated());
    assert!(matches!(hand.poll_next(&mut events), Poll::Ready(Some(GroupEvent::Progress(now))) if now.pending == 1));
    assert!(matches!(hand.poll_next(&mut events), Poll::Ready(Some(GroupEvent::Progress(now))) if now.finished == 1));
    assert!(matches!(hand.poll_next(&mut events), Poll::Ready(Some(GroupEvent::Ended(_, Ok(2))))));
    assert!(matches!(hand.poll_next(&mut events), Poll::Ready(None)));
    assert!(events.is_terminated());
    assert!(matches!(hand.poll_next(&mut events), Poll::Ready(None)));

    // Only until a task is added.
    events.get_mut().add(executor.submit(count, 1));
    assert!(!events.is_terminated());
    let rest: Vec<_> = smol::block_on(events.by_ref().collect());
    assert!(matches!(rest[..], [.., GroupEvent::Progress(_), GroupEvent::Ended(_, Ok(1))]), "{rest:?}");
    assert_eq!(events.get_ref().progress().finished, 2);
}

#[test]
fn dropping_events_cancels_the_tasks() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let group: TaskGroup<_> = [executor.submit(tick_forever, ())].into_iter().collect();
        let handle = group.handle();
        drop(group.events());
        eventually("the task has ended", || handle.progress().cancelled == 1);
    });
}

#[test]
fn events_of_a_group_are_lines_of_json() {
    let executor = SyncExecutor::new();
    let group: TaskGroup<u64> =
        [executor.submit(count, 3), executor.task(|(), _| Err("no paper".into()), ()).name("print").submit()]
            .into_iter()
            .collect();
    let lines: Vec<_> =
        futures::executor::block_on_stream(group.events()).map(|event| serde_json::to_value(event).unwrap()).collect();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).cloned().collect::<Vec<_>>();
    let (progress, ended) = (of("progress"), of("ended"));
    let last = progress.last().unwrap();
    assert_eq!((&last["n"], &last["finished"], &last["failed"]), (&3.into(), &1.into(), &1.into()));
    assert_eq!((&last["fraction"], &last["eta"]), (&1.0.into(), &0.0.into()));
    assert!(ended.iter().all(|line| line["id"].is_u64() && line["status"].is_string()), "{ended:?}");
    assert!(ended.iter().any(|line| line["output"] == 3), "{ended:?}");
    assert!(ended.iter().any(|line| line["name"] == "print" && line["error"].is_string()), "{ended:?}");
}

#[test]
fn a_callback_may_use_the_handle() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (send, threads) = mpsc::channel();
        let mut group = TaskGroup::new();
        let handle = group.handle();
        group.add_progress_callback(move |_, _| {
            handle.pause();
            handle.resume();
            send.send(handle.progress()).unwrap();
        });
        group.extend((0..3).map(|n| executor.submit(count, n)));
        group.join().wait().unwrap();
        assert_eq!(threads.iter().last().unwrap().ended(), 3);
    });
}

#[test]
fn a_map_that_is_dropped_closes_its_receivers_and_cancels_its_tasks() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let mut map = executor.map(tick_forever, std::iter::repeat_n((), 10));
        assert!(map.next().now_or_never().is_none());
        let (handle, updates) = (map.handle(), map.updates());
        drop(map);
        let last = smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap();
        assert_eq!((last.cancelled, last.n, last.total), (4, 4, Some(10)));
        assert_eq!(handle.progress().cancelled, 4);
    });
}

#[test]
fn a_map_counts_tasks_that_run_for_what_they_have_done() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (gate, barrier) = gate();
        let barrier = Arc::new(Mutex::new(barrier));
        let halve = move |(), progress: &progress_executor::Updater| {
            progress.set_counts(1, 2)?;
            barrier.lock().unwrap().pass();
            Ok(())
        };
        let mut map = executor.map(halve, [(), (), (), ()]).buffer(1);
        assert!(map.next().now_or_never().is_none());
        gate.wait();
        let progress = map.progress();
        assert_eq!((progress.n, progress.running, progress.fraction()), (0, 1, Some(0.125)));
        drop(gate);
    });
}

#[test]
fn a_map_learns_at_its_end_how_many_inputs_there_were() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut map = executor.map(count, (0..10).filter(|n| n % 2 == 0)).buffer(2);
        smol::block_on(map.next()).unwrap().unwrap();
        assert_eq!(map.progress().total, None);
        let (handle, rest) = (map.handle(), map.blocking().count());
        assert_eq!((rest, handle.progress().n, handle.progress().total), (4, 5, Some(5)));
        // An empty map is known to be empty.
        let map = executor.map(count, std::iter::empty());
        assert_eq!((map.progress().total, map.progress().fraction()), (Some(0), Some(1.0)));
    });
}

#[test]
fn a_paused_map_waits_and_so_does_what_it_takes() {
    within_deadline(|| {
        // A task that starts at once may have ended before it can be told to wait.
        let (executor, gate) = busy_pool();
        let mut map = executor.map(count, 0..3).buffer(3);
        let handle = map.handle();
        handle.pause();
        assert!(map.next().now_or_never().is_none());
        assert_eq!(handle.progress().paused, 3);
        gate.open();
        handle.resume();
        assert_eq!(map.blocking().map(Result::unwrap).sum::<u64>(), 3);
    });
}

#[test]
fn a_name_that_panics_takes_no_more_inputs() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let map = executor.map(count, 0..10).buffer(1);
        let mut map = map.named(|index, _| {
            assert!(index < 2, "as intended");
            format!("{index}")
        });
        let mut outcomes = 0;
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while smol::block_on(map.next()).is_some() {
                outcomes += 1;
            }
        }));
        assert!(panicked.is_err());
        assert_eq!((outcomes, smol::block_on(map.next()).is_none()), (2, true));
    });
}
