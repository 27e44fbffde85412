//! The executor without threads.

use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;

use progress_executor::{Status, SyncExecutor, TaskErrorKind};

use crate::support::{Hand, within_deadline};

#[test]
fn every_update_reaches_the_callbacks_in_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let task = SyncExecutor::new().spawn(|progress| {
        for step in progress.iter(0..100) {
            step?;
        }
        progress.set_message("done");
        Ok(())
    });
    task.on_progress(move |_, new| sink.lock().unwrap().push((new.n, new.status, new.message.is_some())))
        .wait()
        .unwrap();
    let seen = Arc::into_inner(seen).unwrap().into_inner().unwrap();
    let counts: Vec<_> = seen.iter().map(|(n, ..)| *n).collect();
    assert_eq!(counts[..2], [0, 0], "the start, then the total");
    assert_eq!(counts[2..102], (1..=100).collect::<Vec<_>>());
    assert_eq!(seen[102..], [(100, Status::Running, true), (100, Status::Finished, true)]);
}

#[test]
fn cancelled_at_exactly_five_after_exactly_five_steps() {
    for counts_with_iter in [true, false] {
        let steps = Arc::new(Mutex::new(0));
        let counter = steps.clone();
        let task = SyncExecutor::new().spawn(move |progress| {
            if counts_with_iter {
                for step in progress.iter(0..10) {
                    step?;
                    *counter.lock().unwrap() += 1;
                }
            } else {
                for _ in 0..10 {
                    *counter.lock().unwrap() += 1;
                    progress.update(1)?;
                }
            }
            Ok(())
        });
        let canceller = task.canceller();
        let task = task.on_progress(move |_, new| {
            if new.n == 5 {
                canceller.cancel();
            }
        });
        let error = task.wait().unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!((error.progress().n, *steps.lock().unwrap()), (5, 5));
    }
}

#[test]
fn tasks_run_on_the_thread_that_polls() {
    let executor = SyncExecutor::new();
    let task = executor.spawn(|_| Ok(thread::current().id()));
    assert_eq!(task.wait().unwrap(), thread::current().id());
    let task = executor.spawn(|_| Ok(thread::current().id()));
    let elsewhere = thread::spawn(|| (task.wait().unwrap(), thread::current().id()));
    let (ran_on, waited_on) = elsewhere.join().unwrap();
    assert_eq!(ran_on, waited_on);
}

#[test]
fn detaching_runs_the_task() {
    let ran = Arc::new(Mutex::new(false));
    let flag = ran.clone();
    let task = SyncExecutor::new().spawn(move |_| {
        *flag.lock().unwrap() = true;
        Ok(())
    });
    task.detach();
    assert!(*ran.lock().unwrap());
}

#[test]
fn detaching_shows_every_change() {
    let (send, seen) = mpsc::channel();
    let task = SyncExecutor::new().spawn(|progress| Ok(progress.update(1)?));
    task.on_progress(move |_, new| _ = send.send((new.n, new.status))).detach();
    assert_eq!(seen.iter().last(), Some((1, Status::Finished)));
}

#[test]
fn a_task_outlives_its_executor() {
    let executor = SyncExecutor::new();
    let task = executor.spawn(|_| Ok(1));
    drop(executor);
    assert_eq!(task.wait().unwrap(), 1);
}

#[test]
fn shutdown_runs_what_has_not_run_yet_and_keeps_the_outcomes() {
    let executor = SyncExecutor::new();
    let order = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..3)
        .map(|n| {
            let order = order.clone();
            executor.spawn(move |_| {
                order.lock().unwrap().push(n);
                Ok(n)
            })
        })
        .collect();
    executor.shutdown().wait();
    assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.wait().unwrap(), n);
    }
    assert_eq!(executor.spawn(|_| Ok(())).wait().unwrap_err().kind(), &TaskErrorKind::Rejected);
}

#[test]
fn shutdown_waits_for_a_task_that_runs_elsewhere() {
    within_deadline(|| {
        let executor = Arc::new(SyncExecutor::new());
        let (gate, barrier) = crate::support::gate();
        let task = executor.spawn(move |_| {
            barrier.pass();
            Ok(1)
        });
        let runner = thread::spawn(move || task.wait().unwrap());
        gate.wait();
        let (mut shutdown, hand) = (executor.shutdown(), Hand::new());
        assert_eq!(hand.poll(&mut shutdown), Poll::Pending);
        gate.open();
        shutdown.wait();
        assert_eq!(runner.join().unwrap(), 1);
    });
}

#[test]
fn bytes_are_counted_wherever_they_are() {
    use std::io::{Cursor, Read, Seek, SeekFrom, Write};

    let task = SyncExecutor::new().spawn(|progress| {
        let mut reader = progress.reader(Cursor::new(b"0123456789".to_vec()));
        let mut text = String::new();
        reader.seek(SeekFrom::Start(4))?;
        reader.read_to_string(&mut text)?;
        assert_eq!((text.as_str(), reader.stream_position()?), ("456789", 10));
        reader.get_mut().set_position(8); // not counted
        reader.read_to_string(&mut text)?;

        let mut writer = progress.writer(Cursor::new(Vec::new()));
        writer.write_all(b"abcd")?;
        writer.rewind()?;
        writer.write_all(b"x")?;
        writer.get_mut().get_mut().push(b'!');
        Ok(writer.into_inner().into_inner())
    });
    let counted = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let sink = counted.clone();
    let task = task.on_progress(move |_, new| sink.store(new.n, std::sync::atomic::Ordering::Relaxed));
    assert_eq!(task.wait().unwrap(), b"xbcd!");
    assert_eq!(counted.load(std::sync::atomic::Ordering::Relaxed), 6 + 2 + 4 + 1);
}
