//! Parts of a task's work: what they add to the whole, wherever and however they end.

use std::iter;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use progress_executor::{
    Cancelled, ProgressFuture, ProgressState, Status, SyncExecutor, TaskResult, ThreadPoolExecutor, Updater,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::{Barrier, count, eventually, gate, let_another_task_run, within_deadline};

/// Everything that a callback sees of a task, which is every single change.
fn seen(task: impl FnOnce(&Updater) -> TaskResult<()> + Send + 'static) -> Vec<ProgressState> {
    let (send, seen) = mpsc::channel();
    let task = SyncExecutor::new().spawn(task);
    task.on_progress(move |_, new| send.send(new.clone()).unwrap()).wait().unwrap();
    seen.try_iter().collect()
}

/// The counts that are shown once there is a total.
fn positions(task: impl FnOnce(&Updater) -> TaskResult<()> + Send + 'static) -> Vec<(u64, f64)> {
    let states = seen(task).into_iter().filter(|state| state.total.is_some());
    let mut positions: Vec<_> = states.map(|state| (state.n, state.part)).collect();
    positions.dedup();
    positions
}

fn fractions(task: impl FnOnce(&Updater) -> TaskResult<()> + Send + 'static) -> Vec<f64> {
    let mut fractions: Vec<_> = seen(task).iter().filter_map(ProgressState::fraction).collect();
    fractions.dedup();
    fractions
}

#[track_caller]
fn assert_never_decreases(fractions: &[f64]) {
    assert!(fractions.windows(2).all(|pair| pair[0] <= pair[1]), "goes back: {fractions:?}");
}

/// A part that its task has given away, and the task, which has ended.
fn outliving_part() -> (ProgressFuture<()>, Updater) {
    let (send, parts) = mpsc::channel();
    let mut task = ThreadPoolExecutor::new(1).spawn(move |progress| {
        progress.set_counts(2, 10)?;
        let part = progress.split(4);
        part.set_counts(1, 8)?;
        send.send(part).unwrap();
        Ok(())
    });
    smol::block_on(&mut task).unwrap();
    (task, parts.recv().unwrap())
}

#[test]
fn what_a_part_has_done_is_shown_as_units_of_the_whole() {
    let shown = positions(|progress| {
        progress.set_total(10);
        progress.update(2)?;
        let part = progress.split(4);
        part.set_total(8);
        part.update(1)?;
        part.update(1)?;
        part.update(5)?;
        part.update(1)?;
        drop(part);
        Ok(progress.update(4)?)
    });
    assert_eq!(shown, [(0, 0.0), (2, 0.0), (2, 0.5), (3, 0.0), (5, 0.5), (6, 0.0), (10, 0.0)]);
}

#[test]
fn the_fraction_includes_what_parts_have_done() {
    let states = seen(|progress| {
        progress.set_total(4);
        let part = progress.split(2);
        Ok(part.set_counts(1, 4)?)
    });
    let within = states.iter().find(|state| state.part > 0.0).unwrap();
    assert_eq!((within.n, within.part, within.fraction()), (0, 0.5, Some(0.125)));
}

#[test]
fn a_part_is_complete_when_it_is_dropped_however_that_comes() {
    fn return_early(part: Updater) -> TaskResult<()> {
        for step in part.iter(0..3) {
            if step? == 1 {
                return Err("early".into());
            }
        }
        unreachable!()
    }
    let ends: [fn(Updater); 6] = [
        drop,
        |part| part.set_total(3),
        |part| count(3, &part).map(drop).unwrap(),
        |part| drop(return_early(part).unwrap_err()),
        |part| {
            let panic = catch_unwind(AssertUnwindSafe(move || {
                part.set_counts(1, 3).unwrap();
                resume_unwind(Box::new(()));
            }));
            panic.unwrap_err();
        },
        |part| thread::spawn(move || part.set_counts(1, 3).unwrap()).join().unwrap(),
    ];
    for (index, end) in ends.into_iter().enumerate() {
        let shown = positions(move |progress| {
            progress.set_counts(1, 10)?;
            end(progress.split(4));
            progress.set_message("over");
            Ok(())
        });
        assert_eq!(shown.last(), Some(&(5, 0.0)), "way {index}");
    }
}

#[test]
fn a_part_is_complete_when_its_task_panics() {
    let task = SyncExecutor::new().spawn(|progress| -> TaskResult<()> {
        progress.set_total(4);
        let part = progress.split(3);
        part.set_counts(1, 2)?;
        resume_unwind(Box::new(()));
    });
    let error = task.wait().unwrap_err();
    assert!(error.is_panic());
    assert_eq!(error.progress().fraction(), Some(0.75));
}

#[test]
fn parts_of_parts_are_exact() {
    let shown = fractions(|progress| {
        progress.set_total(2);
        let half = progress.split(1);
        half.set_total(2);
        half.update(1)?;
        let quarter = half.split(1);
        quarter.set_total(2);
        let eighth = quarter.split(1);
        count(4, &eighth)?;
        drop(eighth);
        quarter.update(1)?;
        Ok(())
    });
    let eighth: Vec<_> = (8..=12).map(|n| f64::from(n) / 32.0).collect();
    assert_eq!(shown, [&[0.0], &*eighth, &[0.5]].concat());
}

#[test]
fn parts_of_parts_count_whole_units() {
    let shown = positions(|progress| {
        progress.set_total(1000);
        let half = progress.split(500);
        half.set_total(10);
        let quarter = half.split(5);
        quarter.set_total(100);
        let eighth = quarter.split(50);
        count(5, &eighth)?;
        Ok(())
    });
    assert_eq!(
        shown,
        [(0, 0.0), (25, 0.0), (50, 0.0), (75, 0.0), (100, 0.0), (125, 0.0), (250, 0.0), (500, 0.0)],
        "the parts are dropped in turn"
    );
}

#[test]
fn what_is_done_of_a_unit_in_several_parts_adds_up_to_whole_units() {
    let shown = positions(|progress| {
        progress.set_total(8);
        let parts = [(); 4].map(|()| progress.split(1));
        for part in &parts {
            part.set_counts(3, 4)?;
        }
        Ok(())
    });
    assert_eq!(shown[..5], [(0, 0.0), (0, 0.75), (1, 0.5), (2, 0.25), (3, 0.0)]);
    assert_eq!(shown.last(), Some(&(4, 0.0)));
}

#[test]
fn a_part_that_is_over_takes_its_own_parts_with_it() {
    let shown = positions(|progress| {
        progress.set_total(10);
        let part = progress.split(5);
        part.set_total(2);
        let inner = part.split(1);
        inner.set_counts(1, 2)?;
        drop(part);
        inner.update(1)?;
        drop(inner);
        Ok(progress.update(5)?)
    });
    assert_eq!(shown, [(0, 0.0), (1, 0.25), (5, 0.0), (10, 0.0)]);
}

#[test]
fn a_part_of_no_units_is_worth_nothing() {
    let shown = positions(|progress| {
        progress.set_counts(1, 4)?;
        count(3, &progress.split(0))?;
        progress.update(3)?;
        // Nothing is left.
        count(3, &progress.split(2))?;
        progress.update(0)?;
        Ok(())
    });
    assert_eq!(shown, [(1, 0.0), (4, 0.0)]);
}

#[test]
fn a_part_is_worth_no_more_than_is_left() {
    let shown = positions(|progress| {
        progress.set_counts(6, 10)?;
        let part = progress.split(100);
        part.set_counts(1, 2)?;
        // Everything is handed out.
        let late = progress.split(1);
        late.set_counts(1, 1)?;
        part.update(1)?;
        Ok(())
    });
    assert_eq!(shown, [(6, 0.0), (8, 0.0), (10, 0.0)]);
}

#[test]
fn a_part_of_a_part_is_worth_no_more_than_is_left_of_that() {
    let shown = positions(|progress| {
        progress.set_total(8);
        let part = progress.split(4);
        part.set_counts(1, 4)?;
        let inner = part.split(u64::MAX);
        inner.set_counts(1, 3)?;
        drop(inner);
        part.check()?;
        progress.update(4)?;
        Ok(())
    });
    assert_eq!(shown, [(0, 0.0), (1, 0.0), (2, 0.0), (4, 0.0), (8, 0.0)]);
}

#[test]
fn a_part_of_an_unknown_total_is_worth_all_its_units() {
    let states = seen(|progress| {
        progress.update(7)?;
        let part = progress.split(1000);
        part.set_counts(1, 4)?;
        drop(part);
        Ok(progress.update(1)?)
    });
    let counts: Vec<_> = states.iter().map(|state| (state.n, state.total)).collect();
    assert_eq!(counts[1..5], [(7, None), (257, None), (1007, None), (1008, None)]);
}

#[test]
fn a_part_is_worth_no_more_than_can_be_counted() {
    let states = seen(|progress| {
        progress.update(7)?;
        let (part, other) = (progress.split(u64::MAX), progress.split(1));
        part.set_total(4);
        drop(other);
        part.update(2)?;
        drop(part);
        Ok(())
    });
    let counts: Vec<_> = states.iter().map(|state| state.n).collect();
    assert!(counts.is_sorted(), "{counts:?}");
    assert_eq!(counts.last(), Some(&u64::MAX));
}

#[test]
fn a_part_without_a_total_has_not_begun() {
    let shown = positions(|progress| {
        progress.set_total(10);
        let part = progress.split(10);
        part.update(3)?;
        part.set_total(6);
        part.set_total(u64::MAX);
        Ok(())
    });
    assert_eq!(shown, [(0, 0.0), (5, 0.0), (0, 0.0), (10, 0.0)]);
}

#[test]
fn a_part_with_nothing_to_do_is_done() {
    let shown = positions(|progress| {
        progress.set_total(10);
        let part = progress.split(4);
        part.set_total(0);
        progress.update(6)?;
        Ok(())
    });
    assert_eq!(shown, [(0, 0.0), (4, 0.0), (10, 0.0)]);
}

#[test]
fn a_part_that_runs_over_is_worth_its_units() {
    let shown = positions(|progress| {
        progress.set_total(10);
        let part = progress.split(4);
        part.set_total(2);
        part.update(1)?;
        part.update(50)?;
        part.update(u64::MAX / 2)?;
        Ok(())
    });
    assert_eq!(shown, [(0, 0.0), (2, 0.0), (4, 0.0)]);
}

#[test]
fn parts_under_way_at_the_same_time_count_each_for_itself() {
    let shown = positions(|progress| {
        progress.set_total(16);
        let (first, second) = (progress.split(4), progress.split(8));
        first.set_counts(1, 4)?;
        second.set_counts(1, 4)?;
        progress.update(1)?;
        drop(second);
        first.update(1)?;
        drop(first);
        progress.update(3)?;
        Ok(())
    });
    assert_eq!(shown, [0, 1, 3, 4, 10, 11, 13, 16].map(|n| (n, 0.0)));
}

#[test]
fn parts_count_on_threads_of_their_own() {
    within_deadline(|| {
        let mut task = ThreadPoolExecutor::new(1).spawn(|progress| {
            progress.set_total(4);
            let parts = [(); 4].map(|()| progress.split(1));
            thread::scope(|scope| {
                let threads = parts.map(|part| scope.spawn(move || count(20_000, &part)));
                threads.into_iter().try_for_each(|thread| thread.join().unwrap().map(drop))
            })
        });
        let (mut seen, mut last) = (vec![0.0], false);
        while !last {
            last = task.is_done();
            seen.extend(task.progress().fraction());
        }
        smol::block_on(&mut task).unwrap();
        assert_never_decreases(&seen);
        let end = task.progress();
        assert_eq!((end.n, end.part), (4, 0.0));
    });
}

#[test]
fn a_part_for_every_item_counts_none_twice() {
    let shown = fractions(|progress| {
        for item in progress.iter(0..4) {
            item?;
            count(4, &progress.split(1))?;
        }
        Ok(())
    });
    assert_eq!(shown, (0..=16).map(|n| f64::from(n) / 16.0).collect::<Vec<_>>());
}

#[test]
fn parts_of_items_may_be_under_way_while_others_are_handed_out() {
    let shown = positions(|progress| {
        let mut parts = Vec::new();
        for item in progress.iter(0..3) {
            item?;
            parts.push(progress.split(1));
        }
        for part in parts {
            count(2, &part)?;
        }
        Ok(())
    });
    assert_eq!(shown, [0, 1, 2, 3, 4, 5, 6].map(|half| (half / 2, (half % 2) as f64 / 2.0)));
}

#[test]
fn a_position_set_after_a_part_is_absolute() {
    let shown = positions(|progress| {
        progress.set_total(10);
        drop(progress.split(5));
        progress.set_position(6)?;
        progress.set_counts(2, 8)?;
        drop(progress.split(1));
        progress.set_position(2)?;
        Ok(())
    });
    assert_eq!(shown, [0, 5, 6, 2, 3, 2].map(|n| (n, 0.0)));
}

#[test]
fn a_position_set_while_a_part_is_under_way_is_where_it_will_end() {
    let shown = positions(|progress| {
        progress.set_total(10);
        let part = progress.split(4);
        part.set_counts(1, 2)?;
        progress.set_position(6)?;
        progress.set_position(1)?;
        progress.set_position(4)?;
        drop(part);
        Ok(progress.update(6)?)
    });
    assert_eq!(shown, [0, 2, 4, 0, 2, 4, 10].map(|n| (n, 0.0)), "never less than nothing");
}

#[test]
fn a_part_of_a_count_that_was_set_back_shows_nothing_before_it_makes_up_for_that() {
    let shown = fractions(|progress| {
        progress.set_total(10);
        let part = progress.split(4);
        part.set_total(16);
        progress.set_position(2)?;
        for _ in 0..16 {
            part.update(1)?;
        }
        Ok(())
    });
    assert_never_decreases(&shown);
    assert_eq!(shown[1], 0.025, "{shown:?}");
}

#[test]
fn a_part_speaks_for_its_task() {
    let mut task = SyncExecutor::new().spawn(|progress| {
        let part = progress.split(1);
        part.set_message("reading");
        part.split(1).set_message("parsing");
        Ok(())
    });
    smol::block_on(&mut task).unwrap();
    assert_eq!(task.progress().message.as_deref(), Some("parsing"));
}

#[test]
fn cancellation_reaches_every_part() {
    within_deadline(|| {
        let (send, heard) = mpsc::channel();
        let (gate, barrier) = gate();
        let task = ThreadPoolExecutor::new(1).spawn(move |progress| {
            let (sleeping, part) = (progress.split(1), progress.split(1));
            let inner = part.split(1);
            thread::scope(|scope| {
                scope.spawn(move || {
                    barrier.pass();
                    send.send(sleeping.sleep(Duration::MAX)).unwrap();
                    send.send(inner.sleep(Duration::MAX)).unwrap();
                });
                while part.update(1).is_ok() {}
                assert!(part.is_cancelled() && part.split(1).is_cancelled());
                Ok(progress.check()?)
            })
        });
        gate.wait();
        gate.open();
        let canceller = task.canceller();
        canceller.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        assert!(canceller.is_acknowledged());
        assert_eq!(heard.iter().collect::<Vec<_>>(), [Err(Cancelled); 2]);
    });
}

#[test]
fn a_pause_halts_the_whole_and_its_parts() {
    within_deadline(|| {
        let (send, went_on) = mpsc::channel();
        let [(first, a), (second, b), (third, c)] = [(); 3].map(|()| gate());
        let gates = [first, second, third];
        let mut task = ThreadPoolExecutor::new(1).spawn(move |progress| {
            let part = progress.split(1);
            let inner = part.split(1);
            let go = |progress: &Updater, barrier: &Barrier| {
                barrier.pass();
                send.send(progress.check()).unwrap();
            };
            thread::scope(|scope| {
                let go = &go;
                scope.spawn(move || go(&part, &a));
                scope.spawn(move || go(&inner, &b));
                go(progress, &c);
            });
            Ok(())
        });
        gates.iter().for_each(|gate| gate.wait());
        task.pause();
        gates[2].open();
        eventually("the task waits", || task.progress().status == Status::Paused);
        gates.iter().for_each(|gate| gate.open());
        let paused = task.progress();
        let_another_task_run();
        assert_eq!(went_on.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(task.progress(), paused);
        task.resume();
        smol::block_on(&mut task).unwrap();
        assert_eq!(went_on.iter().collect::<Vec<_>>(), [Ok(()); 3]);
        assert!(task.progress().elapsed > paused.elapsed);
    });
}

#[test]
fn a_part_alone_is_halted_by_a_pause() {
    within_deadline(|| {
        let task = ThreadPoolExecutor::new(1).spawn(|progress| {
            let part = progress.split(1);
            part.set_total(u64::MAX - 1);
            loop {
                part.update(1)?;
            }
            #[expect(unreachable_code, reason = "it says what the task returns")]
            Ok(())
        });
        // Otherwise the task would wait in the queue, and not in the part.
        eventually("the task counts", || task.progress().part > 0.0);
        task.pause();
        eventually("the task waits", || task.progress().status == Status::Paused);
        let paused = task.progress();
        let_another_task_run();
        assert_eq!(task.progress(), paused);
        task.resume();
        eventually("the task goes on", || task.progress().part > paused.part);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_part_that_outlives_its_task_counts_for_nothing() {
    within_deadline(|| {
        let (task, part) = outliving_part();
        let end = task.progress();
        assert_eq!((end.n, end.part, end.status), (2, 0.5, Status::Finished));
        assert!(part.is_cancelled());
        part.set_total(2);
        part.set_message("too late");
        assert_eq!(part.update(1), Err(Cancelled));
        assert_eq!(part.set_position(1), Err(Cancelled));
        assert_eq!(part.set_counts(1, 2), Err(Cancelled));
        assert_eq!(part.check(), Err(Cancelled));
        assert_eq!(part.sleep(Duration::MAX), Err(Cancelled));
        assert_eq!(part.iter(0..2).collect::<Vec<_>>(), [Err(Cancelled)]);
        let inner = part.split(1);
        assert_eq!(inner.update(1), Err(Cancelled));
        drop(inner);
        assert_eq!(part.shared().update(1), Err(Cancelled));
        assert_eq!(task.progress(), end);
        drop(part);
        assert_eq!(task.progress(), end);
    });
}

#[test]
fn a_part_that_outlives_its_task_and_the_future_does_no_harm() {
    within_deadline(|| {
        let (task, part) = outliving_part();
        drop(task);
        assert_eq!(part.split(1).update(1), Err(Cancelled));
    });
}

#[test]
fn a_task_may_end_while_its_part_counts() {
    within_deadline(|| {
        let (send, threads) = mpsc::channel();
        let mut task = ThreadPoolExecutor::new(1).spawn(move |progress| {
            progress.set_total(2);
            let part = progress.split(1);
            part.set_total(u64::MAX - 1);
            send.send(thread::spawn(move || while part.update(1).is_ok() {}))?;
            Ok(())
        });
        smol::block_on(&mut task).unwrap();
        let end = task.progress();
        threads.recv().unwrap().join().unwrap();
        assert_eq!(task.progress(), end);
    });
}

#[test]
fn a_forgotten_part_does_no_harm() {
    let executor = SyncExecutor::new();
    let mut task = executor.spawn(|progress| {
        progress.set_total(8);
        let part = progress.split(4);
        part.set_counts(1, 2)?;
        mem::forget(part);
        progress.update(2)?;
        drop(progress.split(1));
        Ok(())
    });
    smol::block_on(&mut task).unwrap();
    assert_eq!((task.progress().n, task.progress().status), (5, Status::Finished));
    executor.submit(count, 3).wait().unwrap();
    executor.shutdown().wait();
}

#[test]
fn handing_out_a_part_is_no_progress() {
    let shown = positions(|progress| {
        progress.set_counts(1, 10)?;
        let part = progress.split(4);
        progress.set_message("handed out");
        part.set_counts(1, 2)?;
        let inner = part.split(1);
        progress.set_message("and once more");
        drop((inner, part));
        progress.set_message("over");
        Ok(())
    });
    assert_eq!(shown, [(1, 0.0), (3, 0.0), (5, 0.0)]);
}

#[test]
fn handing_out_parts_is_never_seen_as_progress_from_another_thread() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        // On a single processor the threads take turns, and each look takes as long as a turn.
        let start = Instant::now();
        let has_time = || start.elapsed() < Duration::from_secs(10);
        // Before a task has its first part, a reader does not look for parts.
        for enough in iter::repeat_n(3, 300).take_while(|_| has_time()).chain([2_000]) {
            let task = executor.spawn(|progress| -> TaskResult<()> {
                progress.set_total(1 << 40);
                loop {
                    let part = progress.split(1 << 8);
                    part.set_total(2);
                    part.update(1)?;
                    drop(part.split(1));
                }
            });
            let mut seen = vec![];
            while seen.len() < 3 || seen.len() < enough && has_time() {
                let state = task.progress();
                assert_eq!((state.n % (1 << 7), state.part), (0, 0.0), "halves of parts");
                seen.extend(state.fraction());
                seen.dedup();
            }
            assert_never_decreases(&seen);
            task.cancel();
            assert!(task.wait().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn huge_numbers_come_to_something_between_nothing_and_all() {
    const HUGE: [u64; 8] = [0, 1, 2, 3, 1 << 53, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    let mut values = iter::repeat(HUGE).flatten();
    let mut next = move || values.next().unwrap();
    for (total, units) in HUGE.into_iter().flat_map(|total| HUGE.map(|units| (total, units))) {
        let (inner_total, inner_units, done) = (next(), next(), HUGE);
        let states = seen(move |progress| {
            for n in done {
                progress.set_counts(n, total)?;
                let (part, other) = (progress.split(units), progress.split(units));
                for n in done {
                    part.set_counts(n, inner_total)?;
                    let inner = part.split(inner_units);
                    for n in done {
                        inner.set_counts(n, total)?;
                        inner.update(n)?;
                    }
                    other.set_counts(n, units)?;
                }
            }
            Ok(())
        });
        for state in states {
            assert!(state.fraction().is_none_or(|fraction| (0.0..=1.0).contains(&fraction)), "{state:?}");
            assert!((0.0..1.0).contains(&state.part), "{state:?}");
            let _ = (state.rate(), state.eta());
        }
    }
}

/// One step in the life of a task and its parts, which are numbered in the order of their creation.
#[derive(Clone, Debug)]
enum Step {
    Split(Index, u64),
    SetTotal(Index, u64),
    Update(Index, u64),
    Drop(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<Index>(), 0..12_u64).prop_map(|(of, units)| Step::Split(of, units)),
        3 => (any::<Index>(), 0..12_u64).prop_map(|(of, total)| Step::SetTotal(of, total)),
        5 => (any::<Index>(), 0..4_u64).prop_map(|(of, delta)| Step::Update(of, delta)),
        2 => any::<Index>().prop_map(Step::Drop),
    ]
}

/// What a part must come to: units count when they are done, not when they are handed out.
#[derive(Clone, Debug, Default)]
struct Model {
    done: u64,
    total: Option<u64>,
    /// What it is worth in its parent.
    units: u64,
    parent: Option<usize>,
    is_over: bool,
}

fn under_way(nodes: &[Model], parent: usize) -> impl Iterator<Item = usize> + '_ {
    (0..nodes.len()).filter(move |&node| nodes[node].parent == Some(parent) && !nodes[node].is_over)
}

fn fraction(nodes: &[Model], node: usize) -> f64 {
    match nodes[node].total {
        None => 0.0,
        Some(0) => 1.0,
        Some(total) => {
            let parts: f64 = under_way(nodes, node).map(|part| nodes[part].units as f64 * fraction(nodes, part)).sum();
            ((nodes[node].done as f64 + parts) / total as f64).min(1.0)
        }
    }
}

impl Step {
    fn model(&self, nodes: &mut Vec<Model>) {
        match self {
            Step::Split(of, units) => {
                let parent = of.index(nodes.len());
                let handed_out: u64 = under_way(nodes, parent).map(|part| nodes[part].units).sum();
                let Model { done, total, .. } = nodes[parent];
                let left = total.map_or(u64::MAX, |total| total.saturating_sub(done + handed_out));
                nodes.push(Model { units: left.min(*units), parent: Some(parent), ..Model::default() });
            }
            Step::SetTotal(of, total) => {
                let node = of.index(nodes.len());
                nodes[node].total.get_or_insert(*total);
            }
            Step::Update(of, delta) => {
                let node = of.index(nodes.len());
                nodes[node].done += delta;
            }
            Step::Drop(of) => {
                let node = of.index(nodes.len());
                if let (Some(parent), false) = (nodes[node].parent, nodes[node].is_over) {
                    nodes[node].is_over = true;
                    nodes[parent].done += nodes[node].units;
                }
            }
        }
    }

    /// Does the same with real updaters. The whole is no. 0, and is never dropped.
    fn perform(&self, progress: &Updater, parts: &mut Vec<Option<Updater>>, has_total: &mut Vec<bool>) {
        let all = parts.len() + 1;
        let get = |parts: &[Option<Updater>], node: usize, act: &dyn Fn(&Updater)| match node {
            0 => act(progress),
            _ => parts[node - 1].iter().for_each(act),
        };
        match self {
            Step::Split(of, units) => {
                let part = match of.index(all) {
                    0 => Some(progress.split(*units)),
                    node => parts[node - 1].as_ref().map(|part| part.split(*units)),
                };
                parts.push(part);
                has_total.push(false);
            }
            Step::SetTotal(of, total) => {
                let node = of.index(all);
                if !mem::replace(&mut has_total[node], true) {
                    get(parts, node, &|part| part.set_total(*total));
                }
            }
            Step::Update(of, delta) => get(parts, of.index(all), &|part| part.update(*delta).unwrap()),
            Step::Drop(of) => drop(of.index(all).checked_sub(1).and_then(|part| parts[part].take())),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parts_count_as_a_simple_model_does(total in 0..40_u64, steps in vec(step(), 0..60)) {
        let mut nodes = vec![Model { total: Some(total), ..Model::default() }];
        let expected: Vec<_> = steps
            .iter()
            .map(|step| {
                step.model(&mut nodes);
                fraction(&nodes, 0)
            })
            .collect();
        let states = seen(move |progress| {
            let (mut parts, mut has_total) = (Vec::new(), vec![true]);
            progress.set_total(total);
            for (number, step) in steps.iter().enumerate() {
                step.perform(progress, &mut parts, &mut has_total);
                progress.set_message(number.to_string());
            }
            drop(parts);
            drop(progress.split(u64::MAX));
            Ok(())
        });
        let shown: Vec<_> = states.iter().filter_map(ProgressState::fraction).collect();
        prop_assert!(shown.iter().all(|fraction| (0.0..=1.0).contains(fraction)), "{shown:?}");
        prop_assert!(shown.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12), "goes back: {shown:?}");
        prop_assert_eq!(shown.last(), Some(&1.0));
        for (number, expected) in expected.into_iter().enumerate() {
            let number = number.to_string();
            let state = states.iter().find(|state| state.message.as_deref() == Some(&number)).unwrap();
            let fraction = state.fraction().unwrap();
            prop_assert!((fraction - expected).abs() < 1e-9, "after step {number}: {fraction}, not {expected}");
            prop_assert!((0.0..1.0).contains(&state.part));
        }
    }
}
