//! When observers are told.

use std::time::Duration;

use async_channel::Receiver;
use progress_executor::{Executor, ExecutorExt, ProcessPoolExecutor, ProgressState, Status, ThreadPoolExecutor};

use crate::support::{Hand, count, eventually, gate, within_deadline};

const NEVER: Duration = Duration::from_secs(3600);

fn pool(report_interval: Duration) -> ThreadPoolExecutor {
    ThreadPoolExecutor::builder().max_workers(1).report_interval(report_interval).build()
}

fn receive(updates: &Receiver<ProgressState>) -> ProgressState {
    updates.recv_blocking().expect("closed too early")
}

#[test]
fn the_first_change_is_shown_at_once() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = pool(NEVER).spawn(move |progress| {
            barrier.pass();
            progress.update(1)?;
            barrier.pass();
            Ok(())
        });
        gate.wait();
        let updates = task.updates();
        assert_eq!(receive(&updates).n, 0);
        gate.open();
        assert_eq!(receive(&updates).n, 1);
        gate.open();
        task.wait().unwrap();
    });
}

#[test]
fn there_is_one_report_per_interval() {
    for interval in [NEVER, Duration::MAX] {
        shows_the_first_and_the_last_only(&pool(interval), 0);
        let processes = || ProcessPoolExecutor::builder().max_workers(1).report_interval(interval);
        let pools = [
            processes().build(),
            processes().without_shared_memory().build(),
            processes().launcher("env".parse().unwrap()).build(),
        ];
        // Its start, and what it had counted when its worker was asked for more, are shown as well.
        pools.into_iter().for_each(|pool| shows_the_first_and_the_last_only(&pool.unwrap(), 3));
    }
}

fn shows_the_first_and_the_last_only(executor: &dyn Executor, more: usize) {
    let task = executor.submit(count, 100_000);
    within_deadline(move || {
        let updates = task.updates();
        let reader = std::thread::spawn(move || {
            let mut states = Vec::new();
            while let Ok(state) = updates.recv_blocking() {
                states.push(state);
            }
            states
        });
        task.wait().unwrap();
        let states = reader.join().unwrap();
        // The current state, the first change, and the last state; no second change within the interval.
        assert!(states.len() <= 3 + more, "{states:?}");
        assert_eq!(states.last().unwrap().n, 100_000);
    });
}

#[test]
fn what_is_asked_of_a_task_within_an_interval_is_not_shown_before_its_end() {
    for report_interval in [NEVER, Duration::MAX] {
        within_deadline(move || {
            let (gate, barrier) = gate();
            let task = pool(report_interval).spawn(move |progress| {
                barrier.pass();
                let shown = progress.set_position(1);
                barrier.pass();
                Ok(shown?)
            });
            gate.wait();
            let updates = task.updates();
            gate.open();
            gate.wait();
            assert_eq!(updates.try_recv().unwrap().n, 1, "the first change is shown at once");
            task.cancel();
            assert_eq!((updates.len(), task.progress().status), (0, Status::Cancelling));
            gate.open();
            task.wait().unwrap();
        });
    }
}

#[test]
fn what_was_counted_before_the_task_fell_silent_is_picked_up() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = pool(Duration::from_millis(2)).spawn(move |progress| {
            barrier.pass();
            for _ in 0..10 {
                progress.update(1)?;
            }
            barrier.pass();
            Ok(())
        });
        gate.wait();
        let updates = task.updates();
        gate.open();
        // The task waits at the barrier while this is received, so only the reporting thread can show it.
        while receive(&updates).n < 10 {}
        gate.wait();
        gate.open();
        task.wait().unwrap();
    });
}

#[test]
fn a_task_that_reports_rarely_is_seen_at_every_change() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = pool(Duration::from_millis(1)).spawn(move |progress| {
            for _ in 0..20 {
                barrier.pass();
                progress.update(1)?;
            }
            barrier.pass();
            Ok(())
        });
        let updates = task.updates();
        for n in 1..=20 {
            gate.open();
            while receive(&updates).n < n {}
        }
        gate.open();
        task.wait().unwrap();
    });
}

#[test]
fn an_interval_of_zero_shows_every_change() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = pool(Duration::ZERO).spawn(move |progress| {
            barrier.pass();
            for n in 1..=100 {
                progress.set_position(n)?;
                barrier.pass();
            }
            Ok(())
        });
        let updates = task.updates();
        gate.wait();
        while receive(&updates).status != Status::Running {}
        for n in 1..=100 {
            gate.open();
            gate.wait();
            // Shown by the call itself, which has returned.
            assert_eq!(updates.try_recv().unwrap().n, n);
        }
        gate.open();
        task.wait().unwrap();
    });
}

#[test]
fn a_receiver_that_nobody_reads_holds_one_state() {
    within_deadline(|| {
        let task = pool(Duration::ZERO).spawn(|progress| {
            for step in progress.iter(0..10_000) {
                step?;
            }
            Ok(())
        });
        let updates = task.updates();
        task.wait().unwrap();
        assert_eq!(updates.len(), 1);
        assert_eq!(receive(&updates).n, 10_000);
        assert!(updates.recv_blocking().is_err());
    });
}

#[test]
fn a_dropped_receiver_leaves_the_others_alone() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = pool(Duration::ZERO).spawn(move |progress| {
            barrier.pass();
            progress.update(1)?;
            barrier.pass();
            Ok(progress.update(1)?)
        });
        gate.wait();
        let (dropped, kept) = (task.updates(), task.updates());
        gate.open();
        gate.wait();
        drop(dropped);
        gate.open();
        task.wait().unwrap();
        assert_eq!(receive(&kept).n, 2);
    });
}

#[test]
fn a_new_receiver_starts_with_counts_that_others_were_not_shown_yet() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = pool(NEVER).spawn(move |progress| {
            for _ in 0..3 {
                progress.update(1)?;
            }
            barrier.pass();
            Ok(())
        });
        let early = task.updates();
        gate.wait();
        assert_eq!(receive(&task.updates()).n, 3);
        gate.open();
        task.wait().unwrap();
        assert_eq!(early.recv_blocking().unwrap().n, 3);
    });
}

#[test]
fn a_message_alone_is_a_change() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = pool(Duration::from_millis(1)).spawn(move |progress| {
            progress.set_message("reading");
            barrier.pass();
            progress.set_message(String::from("writing"));
            barrier.pass();
            Ok(())
        });
        let updates = task.updates();
        while receive(&updates).message.as_deref() != Some("reading") {}
        gate.open();
        while receive(&updates).message.as_deref() != Some("writing") {}
        gate.open();
        task.wait().unwrap();
    });
}

#[test]
fn checking_alone_shows_nothing() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = pool(Duration::ZERO).spawn(move |progress| {
            barrier.pass();
            for _ in 0..1000 {
                progress.check()?;
            }
            barrier.pass();
            Ok(())
        });
        gate.wait();
        let updates = task.updates();
        receive(&updates);
        gate.open();
        gate.wait();
        assert!(updates.is_empty());
        gate.open();
        task.wait().unwrap();
    });
}

#[test]
fn progress_is_exact_without_any_observer() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = pool(NEVER).spawn(move |progress| {
            progress.set_counts(3, 10)?;
            barrier.pass();
            Ok(())
        });
        gate.wait();
        let state = task.progress();
        assert_eq!((state.n, state.total, state.status), (3, Some(10), Status::Running));
        assert!(state.elapsed > Duration::ZERO && state.rate() > 0.0 && state.eta().is_some());
        eventually("the clock runs", || task.progress().elapsed > state.elapsed);
        gate.open();
        task.wait().unwrap();
    });
}

#[test]
fn a_callback_that_is_added_late_is_not_shown_what_is_older_than_that() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let mut task = pool(NEVER).spawn(move |progress| {
            barrier.pass();
            progress.update(1)?;
            progress.update(1)?;
            barrier.pass();
            Ok(())
        });
        gate.wait();
        let updates = task.updates();
        gate.open();
        gate.wait();
        assert_eq!(receive(&updates).n, 1, "the second one is not due within the hour");
        let (send, seen) = std::sync::mpsc::channel();
        task.add_progress_callback(move |old, new| send.send((old.n, new.n)).unwrap());
        assert!(Hand::new().poll(&mut task).is_pending());
        gate.open();
        task.wait().unwrap();
        assert_eq!(seen.iter().collect::<Vec<_>>(), [(0, 2), (2, 2)]);
    });
}
