//! The future, polled by hand.

use std::task::Poll;
use std::time::Duration;

use futures::future::FusedFuture;
use futures::select;
use futures::stream::{FusedStream, StreamExt};
use progress_executor::{
    Executor, ExecutorExt, GroupEvent, Status, SyncExecutor, TaskEvent, TaskGroup, ThreadPoolExecutor,
};

use crate::support::{Hand, count, gate, within_deadline};

#[test]
fn pending_until_it_has_ended_then_woken_once() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let executor = ThreadPoolExecutor::new(1);
        let mut task = executor.spawn(move |progress| {
            barrier.pass();
            for step in progress.iter(0..1000) {
                step?;
            }
            Ok(7)
        });
        let hand = Hand::new();
        assert!(hand.poll(&mut task).is_pending());
        gate.wait();
        assert!(hand.poll(&mut task).is_pending());
        assert_eq!(hand.wakes(), 0);
        gate.open();
        hand.wait_for_wake(0);
        assert!(matches!(hand.poll(&mut task), Poll::Ready(Ok(7))));
        assert_eq!(hand.wakes(), 1, "progress that nobody observes wakes nobody");
        assert!(task.is_terminated());
        assert!(hand.poll(&mut task).is_pending());
    });
}

#[test]
fn the_last_one_to_poll_is_woken() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let executor = ThreadPoolExecutor::new(1);
        let mut task = executor.spawn(move |_| {
            barrier.pass();
            Ok(())
        });
        let (first, second) = (Hand::new(), Hand::new());
        assert!(first.poll(&mut task).is_pending());
        assert!(second.poll(&mut task).is_pending());
        gate.open();
        second.wait_for_wake(0);
        assert_eq!(first.wakes(), 0);
        assert!(second.poll(&mut task).is_ready());
    });
}

#[test]
fn cancelling_a_task_that_waits_wakes_its_future_at_once() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let executor = ThreadPoolExecutor::new(1);
        let running = executor.spawn(move |_| {
            barrier.pass();
            Ok(())
        });
        gate.wait();
        let mut waiting = executor.spawn(|_| Ok(()));
        let hand = Hand::new();
        assert!(hand.poll(&mut waiting).is_pending());
        waiting.cancel();
        assert_eq!(hand.wakes(), 1);
        assert!(matches!(hand.poll(&mut waiting), Poll::Ready(Err(error)) if error.is_cancelled()));
        gate.open();
        running.wait().unwrap();
    });
}

#[test]
fn a_report_wakes_a_future_that_has_callbacks() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let executor = ThreadPoolExecutor::new(1);
        let task = executor.spawn(move |progress| {
            barrier.pass();
            progress.update(1)?;
            barrier.pass();
            Ok(())
        });
        gate.wait();
        let seen = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let sink = seen.clone();
        let mut task = task.on_progress(move |_, new| sink.store(new.n, std::sync::atomic::Ordering::SeqCst));
        let hand = Hand::new();
        assert!(hand.poll(&mut task).is_pending());
        gate.open();
        hand.wait_for_wake(0);
        assert_eq!(seen.load(std::sync::atomic::Ordering::SeqCst), 0, "not called where it is not polled");
        assert!(hand.poll(&mut task).is_pending());
        assert_eq!(seen.load(std::sync::atomic::Ordering::SeqCst), 1);
        gate.open();
        task.wait().unwrap();
    });
}

#[test]
fn an_inline_task_runs_at_the_first_poll() {
    let executor = SyncExecutor::new();
    let ran = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = ran.clone();
    let mut task = executor.spawn(move |_| {
        flag.store(true, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    });
    assert_eq!(task.progress().status, Status::Pending);
    assert!(!ran.load(std::sync::atomic::Ordering::SeqCst));
    assert!(Hand::new().poll(&mut task).is_ready());
    assert!(ran.load(std::sync::atomic::Ordering::SeqCst));
}

#[test]
fn events_are_progress_then_the_outcome_then_nothing() {
    let executor = SyncExecutor::new();
    let mut events = executor.spawn(|progress| Ok(progress.set_counts(3, 3)?)).events();
    let hand = Hand::new();
    let mut statuses = Vec::new();
    assert!(!events.is_terminated());
    loop {
        match hand.poll_next(&mut events) {
            Poll::Ready(Some(TaskEvent::Progress(state))) => statuses.push(state.status),
            Poll::Ready(Some(TaskEvent::Done(outcome))) => break outcome.unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(statuses, [Status::Pending, Status::Finished]);
    assert!(matches!(hand.poll_next(&mut events), Poll::Ready(None)));
    assert!(matches!(hand.poll_next(&mut events), Poll::Ready(None)));
}

/// Waits for the end of a stream in a `select!` whose other branch never ends, which polls nothing that is terminated.
fn has_an_end(stream: impl FusedStream + Unpin) {
    let (_press, interrupts) = async_channel::bounded::<()>(1);
    let (mut stream, mut interrupts) = (stream, std::pin::pin!(interrupts));
    smol::block_on(async {
        loop {
            select! {
                item = stream.next() => if item.is_none() { break },
                _ = interrupts.next() => unreachable!(),
            }
        }
    });
    assert!(stream.is_terminated());
}

#[test]
fn select_sees_the_end_of_every_stream() {
    within_deadline(|| {
        let executors: [Box<dyn Executor>; 2] = [Box::new(SyncExecutor::new()), Box::new(ThreadPoolExecutor::new(2))];
        for executor in executors {
            let group = || (0..3).map(|n| executor.submit(count, n)).collect::<TaskGroup<_>>();
            has_an_end(group());
            has_an_end(group().events());
            has_an_end(executor.submit(count, 3).events());
            has_an_end(executor.map(count, 0..3));
            has_an_end(executor.map(count, 0..3).unordered());
            has_an_end(executor.map(count, 0..3).chunks(2));
            has_an_end(executor.map(count, []));
            let task = executor.submit(count, 3);
            let updates = task.updates();
            task.wait().unwrap();
            has_an_end(Box::pin(updates.fuse()));
        }
    });
}

#[test]
fn events_of_a_running_task_show_each_report() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let executor = ThreadPoolExecutor::new(1);
        let mut events = executor
            .spawn(move |progress| {
                barrier.pass();
                progress.update(1)?;
                barrier.pass();
                Ok(())
            })
            .events();
        gate.wait();
        let hand = Hand::new();
        let mut next = || loop {
            let wakes = hand.wakes();
            match hand.poll_next(&mut events) {
                Poll::Ready(event) => return event.unwrap(),
                Poll::Pending => hand.wait_for_wake(wakes),
            }
        };
        assert!(matches!(next(), TaskEvent::Progress(state) if state.n == 0));
        gate.open();
        while !matches!(next(), TaskEvent::Progress(state) if state.n == 1) {}
        gate.open();
        while !matches!(next(), TaskEvent::Done(Ok(()))) {}
    });
}

#[test]
fn a_callback_that_is_added_late_is_shown_where_the_task_stands() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let executor = ThreadPoolExecutor::new(1);
        let mut task = executor.spawn(move |progress| {
            progress.update(3)?;
            barrier.pass();
            Ok(())
        });
        gate.wait();
        let hand = Hand::new();
        assert!(hand.poll(&mut task).is_pending());
        let (send, seen) = std::sync::mpsc::channel();
        task.add_progress_callback(move |old, new| send.send((old.n, old.status, new.n, new.status)).unwrap());
        assert_eq!(hand.wakes(), 1, "whoever polls is to come and call it");
        assert!(hand.poll(&mut task).is_pending());
        assert_eq!(seen.try_recv(), Ok((0, Status::Pending, 3, Status::Running)));
        gate.open();
        task.wait().unwrap();
        assert_eq!(seen.try_recv(), Ok((3, Status::Running, 3, Status::Finished)));
    });
}

#[test]
fn nobody_waits_for_longer_than_asked_although_callbacks_keep_the_thread_busy() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::builder().report_interval(Duration::ZERO).build();
        let (more, next) = std::sync::mpsc::sync_channel(0);
        let mut task = executor.spawn(move |progress| {
            while next.recv().is_ok() {
                progress.update(1)?;
            }
            Ok(())
        });
        let feed = more.clone();
        // Once the task takes the second, it has shown the first: there is always news.
        let show = move || (0..2).for_each(|_| feed.send(()).unwrap());
        show();
        task.add_progress_callback(move |_, _| show());
        for timeout in [Duration::ZERO, Duration::from_millis(1)] {
            assert!(task.wait_timeout(timeout).is_none());
        }
        task.cancel();
        // Unless it has ended by now, it waits for that.
        let _ = more.send(());
    });
}

#[test]
fn events_of_a_group_that_was_read_to_its_end_end_as_others() {
    let mut group = TaskGroup::from_iter([SyncExecutor::new().spawn(|_| Ok(1))]);
    assert_eq!(smol::block_on(group.by_ref().map(|(_, outcome)| outcome.unwrap()).collect::<Vec<_>>()), [1]);
    let mut events = group.events();
    assert!(matches!(smol::block_on(events.next()), Some(GroupEvent::Progress(_))));
    assert!(!events.is_terminated(), "`select!` has yet to see the end");
    assert!(smol::block_on(events.next()).is_none() && events.is_terminated());
    events.get_mut().add(SyncExecutor::new().spawn(|_| Ok(2)));
    assert!(!events.is_terminated() && smol::block_on(events.next()).is_some());
}

#[test]
fn events_are_serialized_with_as_many_fields_as_they_have() {
    let task = SyncExecutor::new().spawn_named("dig", |_| Ok(7));
    let events = task.events();
    for (event, is_labelled, fields) in [
        (TaskEvent::Done(Ok(7)), false, 3),
        (TaskEvent::Done(Ok(7)), true, 5),
        (TaskEvent::Line("deeper".into()), false, 2),
        (TaskEvent::Line("deeper".into()), true, 4),
    ] {
        let labelled = events.labelled(&event);
        let bytes = if is_labelled { rmp_serde::to_vec(&labelled) } else { rmp_serde::to_vec(&event) };
        // A struct, and not a map whose length is known at its end: some formats have none.
        assert_eq!(bytes.unwrap()[0], 0x90 + fields, "{event:?}");
    }
}
