//! What users should not do, or cannot help: each has one defined outcome, and nothing hangs.

use std::error::Error as _;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use progress_executor::{
    Executor, ExecutorExt, Job, ProgressBar, ProgressState, Status, SyncExecutor, TaskResult, ThreadPoolExecutor,
    Triggers, Updater, executor_fn,
};

use crate::support::{gate, within_deadline};

fn answer(n: u32, _: &Updater) -> TaskResult<u32> {
    Ok(n)
}

#[test]
fn zero_workers_are_as_many_as_there_are_processors() {
    within_deadline(|| {
        let processors = std::thread::available_parallelism().unwrap().get();
        for executor in [ThreadPoolExecutor::new(0), ThreadPoolExecutor::builder().max_workers(0).build()] {
            assert_eq!(executor.max_workers(), processors);
            assert_eq!(executor.submit(answer, 42).wait().unwrap(), 42);
        }
    });
}

#[test]
fn a_total_smaller_than_n_is_shown_as_it_is_and_never_more_than_complete() {
    let mut task = SyncExecutor::new().spawn(|progress| Ok(progress.set_counts(7, 5)?));
    smol::block_on(&mut task).unwrap();
    let state = task.progress();
    assert_eq!((state.n, state.total, state.fraction()), (7, Some(5), Some(1.0)));
    assert_eq!(state.eta(), Some(std::time::Duration::ZERO));
}

#[test]
fn n_may_go_backwards() {
    let (send, seen) = std::sync::mpsc::channel();
    let task = SyncExecutor::new().spawn(|progress| {
        progress.set_position(5)?;
        progress.set_position(2)?;
        Ok(())
    });
    task.on_progress(move |_, new| send.send(new.n).unwrap()).wait().unwrap();
    assert_eq!(seen.iter().collect::<Vec<_>>(), [0, 5, 2, 2]);
}

#[test]
fn a_total_of_zero_is_complete_and_the_largest_total_is_unknown() {
    let mut task = SyncExecutor::new().spawn(|progress| {
        progress.set_total(u64::MAX);
        let unknown = progress.is_cancelled();
        Ok(unknown)
    });
    smol::block_on(&mut task).unwrap();
    assert_eq!((task.progress().total, task.progress().fraction(), task.progress().eta()), (None, None, None));
    let mut task = SyncExecutor::new().spawn(|progress| Ok(progress.iter(0..0).count()));
    smol::block_on(&mut task).unwrap();
    assert_eq!((task.progress().total, task.progress().fraction()), (Some(0), Some(1.0)));
}

#[test]
fn a_count_beyond_the_largest_wraps_around() {
    let mut task = SyncExecutor::new().spawn(|progress| {
        progress.update(u64::MAX)?;
        Ok(progress.update(3)?)
    });
    smol::block_on(&mut task).unwrap();
    assert_eq!(task.progress().n, 2);
}

#[test]
fn a_callback_that_panics_is_removed_and_its_panic_goes_to_whoever_polls() {
    within_deadline(|| {
        for executor in [&ThreadPoolExecutor::new(1) as &dyn Executor, &SyncExecutor::new()] {
            let calls = Arc::new(AtomicUsize::new(0));
            let counter = calls.clone();
            let mut task =
                executor.submit(answer, 42).on_progress(|_, _| panic_any("callback")).on_progress(move |_, _| {
                    counter.fetch_add(1, Ordering::SeqCst);
                });
            let payload = catch_unwind(AssertUnwindSafe(|| smol::block_on(&mut task))).unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"callback"));
            assert!(calls.load(Ordering::SeqCst) > 0, "the others are called all the same");
            assert_eq!(smol::block_on(&mut task).unwrap(), 42);
        }
    });
}

#[test]
fn a_bar_that_panics_is_removed_as_well() {
    struct Broken;
    impl ProgressBar for Broken {
        fn update(&mut self, _: &ProgressState) {
            panic_any("update");
        }
        fn finish(&mut self, _: &ProgressState) {
            panic_any("finish");
        }
    }
    let mut task = SyncExecutor::new().spawn(|progress| Ok(progress.update(1)?));
    task.add_bar(Triggers::RUNNING, || Broken);
    let payload = catch_unwind(AssertUnwindSafe(|| smol::block_on(&mut task))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"update"));
    smol::block_on(&mut task).unwrap();
    // A bar that panics while the future is dropped is left alone.
    let mut task = SyncExecutor::new().spawn(|_| Ok(()));
    task.add_bar(Triggers::CANCELLED, || Broken);
    drop(task);
}

#[test]
fn a_waker_that_panics_harms_neither_the_task_nor_the_pool() {
    struct Broken;
    impl Wake for Broken {
        fn wake(self: Arc<Self>) {
            panic!("cannot wake");
        }
    }
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (gate, barrier) = gate();
        let mut task = executor.spawn(move |progress| {
            barrier.pass();
            Ok(progress.update(1)?)
        });
        gate.wait();
        let updates = task.updates();
        let (healthy, mut receive) = (task.updates(), Box::pin(async move { while updates.recv().await.is_ok() {} }));
        let waker = Waker::from(Arc::new(Broken));
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut task).poll(&mut cx).is_pending());
        assert!(receive.as_mut().poll(&mut cx).is_pending());
        gate.open();
        assert_eq!(executor.submit(answer, 42).wait().unwrap(), 42);
        smol::block_on(task).unwrap();
        assert_eq!(healthy.recv_blocking().unwrap().n, 1);
        // Dropping the receiver with the broken waker may panic.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(receive)));
    });
}

#[test]
fn an_executor_that_drops_a_job_rejects_its_task() {
    let executor = executor_fn(|job: Job| drop(job));
    let error = executor.submit(answer, 1).wait().unwrap_err();
    assert!(error.is_rejected());
    assert_eq!(error.to_string(), format!("task `answer #{}` was not run", error.id()));
    assert_eq!(error.source().unwrap().to_string(), "its executor dropped it");
    assert_eq!(error.progress().status, Status::Failed);
}

#[test]
fn an_executor_that_panics_rejects_the_task_and_submit_returns() {
    let executor = executor_fn(|_: Job| panic_any("no runtime here"));
    assert!(executor.submit(answer, 1).wait().unwrap_err().is_rejected());
}

#[test]
fn an_executor_that_drops_a_job_later_does_not_harm_a_task_that_was_cancelled() {
    let kept = std::sync::Mutex::new(Vec::new());
    let executor = executor_fn(|job: Job| kept.lock().unwrap().push(job));
    let task = executor.submit(answer, 1);
    task.cancel();
    kept.lock().unwrap().clear();
    assert!(task.wait().unwrap_err().is_cancelled());
}

#[test]
fn a_job_that_is_run_within_submit_has_ended_when_it_returns() {
    let task = executor_fn(|job: Job| job.run()).submit(answer, 42);
    assert!(task.is_done());
    assert_eq!(task.wait().unwrap(), 42);
}

#[test]
fn a_pool_that_cannot_start_a_thread_rejects_its_tasks() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::builder().max_workers(2).stack_size(usize::MAX / 4).build();
        let error = executor.submit(answer, 1).wait().unwrap_err();
        assert!(error.is_rejected());
        let source = error.source().unwrap();
        assert!(source.to_string().starts_with("its executor could not start a thread"), "{source}");
        assert!(source.source().is_some(), "and says why");
        executor.shutdown().wait();
    });
}

#[test]
fn a_name_that_no_thread_can_have_is_stripped_of_what_is_wrong_with_it() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::builder().thread_name("a\0b").build();
        let name = executor.spawn(|_| Ok(std::thread::current().name().map(str::to_owned)));
        assert_eq!(name.wait().unwrap().as_deref(), Some("ab-0"));
    });
}

#[test]
fn a_future_may_move_from_one_runtime_to_another() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let executor = ThreadPoolExecutor::new(1);
        let mut task = executor.spawn(move |_| {
            barrier.pass();
            Ok(42)
        });
        gate.wait();
        let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(tokio.block_on(async { futures::poll!(&mut task).is_pending() }));
        assert!(smol::block_on(async { futures::poll!(&mut task).is_pending() }));
        gate.open();
        assert_eq!(async_std::task::block_on(task).unwrap(), 42);
    });
}

#[test]
fn thousands_of_cancellers_on_many_threads_cancel_once() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let task = executor.spawn(|progress| -> TaskResult<()> {
            loop {
                progress.update(1)?;
            }
        });
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let cancellers = vec![task.canceller(); 2_500];
                std::thread::spawn(move || cancellers.iter().for_each(progress_executor::Canceller::cancel))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(task.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_value_whose_drop_panics_costs_no_thread() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic_any("dropped");
            }
        }
    }
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        executor.spawn(|_| Ok(Bomb)).detach();
        let _ = executor.submit(|_: Bomb, _: &Updater| Ok(()), Bomb).wait();
        let (gate, barrier) = gate();
        let blocker = executor.spawn(move |_| {
            barrier.pass();
            Ok(())
        });
        gate.wait();
        let waiting = executor.submit(|_: Bomb, _: &Updater| Ok(()), Bomb);
        waiting.cancel();
        assert!(waiting.wait().unwrap_err().is_cancelled());
        gate.open();
        blocker.wait().unwrap();
        assert_eq!(executor.submit(answer, 42).wait().unwrap(), 42);
    });
}
