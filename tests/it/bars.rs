//! Bars: when they are made, and what they are told.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use progress_executor::{
    ProgressBar, ProgressFuture, ProgressState, Status, SyncExecutor, ThreadPoolExecutor, Triggers,
};

use crate::support::{Hand, gate, within_deadline};

/// A bar that reports what it is told.
pub(crate) struct Log(pub(crate) Sender<(&'static str, u64, Status)>);

impl ProgressBar for Log {
    fn update(&mut self, state: &ProgressState) {
        let _ = self.0.send(("update", state.n, state.status));
    }

    fn finish(&mut self, state: &ProgressState) {
        let _ = self.0.send(("finish", state.n, state.status));
    }
}

fn count_to_two() -> ProgressFuture<()> {
    SyncExecutor::new().spawn(|progress| {
        progress.update(1)?;
        progress.update(1)?;
        Ok(())
    })
}

#[test]
fn a_bar_follows_the_task_from_its_trigger_to_its_end() {
    let (send, told) = channel();
    let task = count_to_two();
    let task = task.with_bar(Triggers::RUNNING, move || -> Box<dyn ProgressBar> { Box::new(Log(send)) });
    assert!(told.try_recv().is_err());
    task.wait().unwrap();
    let told: Vec<_> = told.iter().collect();
    assert_eq!(
        told,
        [
            ("update", 0, Status::Running),
            ("update", 1, Status::Running),
            ("update", 2, Status::Running),
            ("finish", 2, Status::Finished),
        ]
    );
}

#[test]
fn now_makes_the_bar_at_once() {
    let (send, told) = channel();
    let task = count_to_two().with_bar(Triggers::NOW, move || Log(send));
    assert_eq!(told.try_recv(), Ok(("update", 0, Status::Pending)));
    task.wait().unwrap();
    assert_eq!(told.try_recv(), Ok(("update", 0, Status::Running)), "nothing is told twice");
}

#[test]
fn a_bar_for_what_never_comes_to_pass_is_not_made() {
    let (send, told) = channel();
    count_to_two().with_bar(Triggers::CANCELLED, move || Log(send)).wait().unwrap();
    assert_eq!(told.iter().count(), 0);
}

#[test]
fn a_task_that_is_cancelled_before_it_starts_was_never_running() {
    let (running, told) = channel();
    let task = count_to_two().with_bar(Triggers::RUNNING, move || Log(running));
    task.cancel();
    assert!(task.wait().unwrap_err().is_cancelled());
    assert_eq!(told.iter().count(), 0);

    let (cancelled, told) = channel();
    let task = count_to_two().with_bar(Triggers::RUNNING | Triggers::CANCELLED, move || Log(cancelled));
    task.cancel();
    assert!(task.wait().unwrap_err().is_cancelled());
    assert_eq!(told.iter().collect::<Vec<_>>(), [("finish", 0, Status::Cancelled)]);
}

#[test]
fn a_task_that_ended_between_two_polls_was_running() {
    within_deadline(|| {
        let (send, told) = channel();
        let task = ThreadPoolExecutor::new(1).spawn(|progress| Ok(progress.update(1)?));
        let task = task.with_bar(Triggers::RUNNING, move || Log(send));
        crate::support::eventually("the task has ended", || task.is_done());
        task.wait().unwrap();
        assert_eq!(told.iter().last(), Some(("finish", 1, Status::Finished)));
    });
}

#[test]
fn a_bar_that_is_added_to_a_running_task_shows_it_at_once() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let mut task = ThreadPoolExecutor::new(1).spawn(move |progress| {
            progress.update(3)?;
            barrier.pass();
            Ok(())
        });
        gate.wait();
        let (send, told) = channel();
        task.add_bar(Triggers::RUNNING, move || Log(send));
        assert_eq!(told.try_recv(), Ok(("update", 3, Status::Running)));
        gate.open();
        task.wait().unwrap();
        assert_eq!(told.iter().last(), Some(("finish", 3, Status::Finished)));
    });
}

#[test]
fn a_bar_that_is_added_after_the_end_is_finished_at_once() {
    let mut task = count_to_two();
    assert!(Hand::new().poll(&mut task).is_ready());
    let (send, told) = channel();
    task.add_bar(Triggers::RUNNING, move || Log(send));
    drop(task);
    assert_eq!(told.iter().collect::<Vec<_>>(), [("finish", 2, Status::Finished)]);
}

#[test]
fn a_bar_is_finished_when_the_future_goes_before_the_task() {
    within_deadline(|| {
        for detach in [true, false] {
            let (gate, barrier) = gate();
            let task = ThreadPoolExecutor::new(1).spawn(move |progress| {
                progress.update(1)?;
                barrier.pass();
                Ok(())
            });
            gate.wait();
            let (send, told) = channel();
            let task = task.with_bar(Triggers::NOW, move || Log(send));
            if detach {
                task.detach();
            } else {
                drop(task);
            }
            let status = if detach { Status::Running } else { Status::Cancelling };
            assert_eq!(told.iter().last(), Some(("finish", 1, status)));
            gate.open();
        }
    });
}

#[test]
fn an_indicatif_bar_shows_position_length_and_message() {
    let bar = indicatif::ProgressBar::hidden();
    let (shown, shared) = (bar.clone(), bar.clone());
    let task = SyncExecutor::new().spawn(move |progress| {
        progress.set_message("half of it");
        progress.set_counts(2, 4)?;
        assert_eq!((shared.position(), shared.length(), shared.message().as_str()), (2, Some(4), "half of it"));
        progress.set_counts(3, u64::MAX)?;
        assert_eq!((shared.position(), shared.length()), (3, None));
        Ok(progress.set_counts(4, 4)?)
    });
    task.with_bar(Triggers::RUNNING, move || shown).wait().unwrap();
    assert!(bar.is_finished());
    assert_eq!(bar.position(), 4);
}

#[test]
fn an_indicatif_bar_is_abandoned_where_the_task_failed() {
    let bar = indicatif::ProgressBar::hidden();
    let shown = bar.clone();
    let task = SyncExecutor::new().spawn(|progress| {
        progress.set_counts(1, 4)?;
        Err::<(), _>("out of paper".into())
    });
    assert!(task.with_bar(Triggers::NOW, move || shown).wait().unwrap_err().is_failed());
    assert!(bar.is_finished());
    assert_eq!((bar.position(), bar.length()), (1, Some(4)));
}

#[test]
fn a_bar_that_is_added_late_does_not_go_back() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::builder().max_workers(1).report_interval(Duration::ZERO).build();
        let (gate, barrier) = gate();
        let mut task = executor.spawn(move |progress| {
            barrier.pass();
            progress.update(1)?;
            progress.println("one");
            progress.update(1)?;
            barrier.pass();
            Ok(())
        });
        let (first, second) = (channel(), channel());
        gate.wait();
        task.add_bar(Triggers::NOW, move || Log(first.0));
        let hand = Hand::new();
        assert!(hand.poll(&mut task).is_pending());
        gate.open();
        gate.wait();
        // What has happened since waits to be shown.
        task.add_bar(Triggers::NOW, move || Log(second.0));
        assert!(hand.poll(&mut task).is_pending());
        gate.open();
        task.wait().unwrap();
        for told in [first.1, second.1] {
            let counts: Vec<u64> = told.iter().map(|(_, n, _)| n).collect();
            assert!(counts.is_sorted() && counts.last() == Some(&2), "{counts:?}");
        }
    });
}
