//! Pools of other crates, each wrapped in a closure.

use std::sync::Arc;

use progress_executor::{Executor, ExecutorExt, Job, executor_fn};

use crate::support::{count, tick_forever, within_deadline};

/// Checks values, progress and cancellation.
pub(crate) fn check(executor: &dyn Executor) {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = seen.clone();
    let task = executor.submit(count, 1000).on_progress(move |_, new| sink.lock().unwrap().push(new.n));
    assert_eq!(task.wait().unwrap(), 1000);
    assert_eq!(seen.lock().unwrap().last(), Some(&1000));

    let task = executor.submit(tick_forever, ());
    let canceller = task.canceller();
    // Two reports: the second one comes from the thread that all such executors share.
    let task = task.on_progress(move |old, _| {
        if old.n > 0 {
            canceller.cancel()
        }
    });
    assert!(task.wait().unwrap_err().is_cancelled());
}

#[test]
fn tokio_spawn_blocking() {
    within_deadline(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let handle = runtime.handle().clone();
        check(&executor_fn(move |job: Job| drop(handle.spawn_blocking(move || job.run()))));
    });
}

#[test]
fn tokio_spawn_blocking_outside_of_a_runtime_rejects_the_task() {
    let executor = executor_fn(|job: Job| drop(tokio::task::spawn_blocking(move || job.run())));
    assert!(executor.submit(count, 1).wait().unwrap_err().is_rejected());
}

#[test]
fn smol_unblock() {
    within_deadline(|| check(&executor_fn(|job: Job| smol::unblock(move || job.run()).detach())));
}

#[test]
fn threads_of_the_standard_library() {
    within_deadline(|| check(&executor_fn(|job: Job| drop(std::thread::spawn(move || job.run())))));
}

#[test]
fn an_executor_may_be_held_by_whatever_points_to_it() {
    struct App<E: Executor>(E);
    impl<E: Executor> App<E> {
        fn run(&self) -> u64 {
            assert_eq!(self.0.max_workers(), 3);
            self.0.submit(count, 5).wait().unwrap()
        }
    }
    within_deadline(|| {
        let pool = progress_executor::ThreadPoolExecutor::new(3);
        assert_eq!(App(&pool).run(), 5);
        assert_eq!(App(&pool as &dyn Executor).run(), 5);
        let pool: Arc<dyn Executor> = Arc::new(pool);
        assert_eq!(App(pool.clone()).run(), 5);
        assert_eq!(App(Box::new(pool)).run(), 5);
    });
}

#[test]
fn an_executor_may_be_a_type_of_ones_own() {
    struct Counting<E>(E, std::sync::atomic::AtomicUsize);
    impl<E: Executor> Executor for Counting<E> {
        fn execute(&self, job: Job) {
            assert_eq!(job.name(), format!("count #{}", job.id()));
            self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            self.0.execute(job);
        }
        fn max_workers(&self) -> usize {
            self.0.max_workers()
        }
    }
    within_deadline(|| {
        let executor = Counting(progress_executor::ThreadPoolExecutor::new(3), Default::default());
        assert_eq!(executor.submit(count, 5).wait().unwrap(), 5);
        assert_eq!((executor.max_workers(), executor.1.into_inner()), (3, 1));
    });
}
