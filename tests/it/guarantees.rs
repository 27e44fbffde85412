//! What the compiler guarantees; what it must refuse stands in `src/compile_fail.rs`.

use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::panic::UnwindSafe;
use std::rc::Rc;

use futures::Stream;
use futures::future::FusedFuture;
use futures::stream::FusedStream;
use progress_executor::*;

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn is_clone<T: Clone>() {}
fn is_unpin<T: Unpin>() {}
fn is_debug<T: Debug>() {}
fn is_error<T: Error + Send + Sync + 'static>() {}
fn is_plain<T: Copy + Eq + std::hash::Hash + Send + Sync + UnwindSafe + Debug>() {}

/// Inputs that may not be moved.
struct Unmoved(std::marker::PhantomPinned);

impl Iterator for Unmoved {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        None
    }
}

#[test]
fn auto_traits() {
    is_send::<ProgressFuture<u32>>();
    is_unpin::<ProgressFuture<u32>>();
    // The output of a task only has to be `Send`, and the future is pinned by nobody.
    is_send::<ProgressFuture<std::cell::Cell<u32>>>();
    is_unpin::<ProgressFuture<std::marker::PhantomPinned>>();
    is_send::<TaskEvents<u32>>();
    is_unpin::<TaskEvents<u32>>();
    is_send::<Canceller>();
    is_sync::<Canceller>();
    is_send::<Updater>();
    is_send::<SharedUpdater>();
    is_sync::<SharedUpdater>();
    is_clone::<SharedUpdater>();
    is_send::<Job>();
    is_send::<Shutdown>();
    is_unpin::<Shutdown>();
    is_send::<ThreadPoolExecutor>();
    is_sync::<ThreadPoolExecutor>();
    is_send::<SyncExecutor>();
    is_sync::<SyncExecutor>();
    is_send::<ProcessPoolExecutor>();
    is_sync::<ProcessPoolExecutor>();
    is_send::<ProcessPoolBuilder>();
    is_error::<ProcessPoolError>();
    is_plain::<WorkerExit>();
    is_send::<TaskGroup<std::cell::Cell<u32>>>();
    is_unpin::<TaskGroup<std::marker::PhantomPinned>>();
    is_send::<Join<u32>>();
    is_unpin::<Join<std::marker::PhantomPinned>>();
    is_send::<JoinAll<u32>>();
    is_unpin::<JoinAll<std::marker::PhantomPinned>>();
    is_send::<GroupProgress>();
    is_sync::<GroupProgress>();
    is_send::<GroupBars>();
    is_sync::<GroupBars>();
    is_send::<Map<'_, std::vec::IntoIter<u32>, std::cell::Cell<u32>>>();
    is_unpin::<Map<'_, Unmoved, std::marker::PhantomPinned>>();
    is_send::<SharedUpdater>();
    is_sync::<SharedUpdater>();
    is_send::<ProgressState>();
    is_sync::<ProgressState>();
    is_error::<TaskError>();
    is_error::<Cancelled>();
    is_plain::<Cancelled>();
    is_plain::<Status>();
    is_plain::<CancelCause>();
    is_plain::<Triggers>();
    is_plain::<TaskId>();
    is_plain::<CallbackId>();
}

#[test]
fn futures_and_streams() {
    fn is_future<T: Future<Output = Result<u32, TaskError>> + FusedFuture>() {}
    fn is_stream<T: Stream<Item = TaskEvent<u32>> + FusedStream>() {}
    fn is_group<T: Stream<Item = (TaskId, Result<u32, TaskError>)> + FusedStream>() {}
    fn is_join<T: Future<Output = Result<Vec<u32>, TaskError>> + FusedFuture>() {}
    fn is_join_all<T: Future<Output = Vec<Result<u32, TaskError>>> + FusedFuture>() {}
    fn is_map<T: Stream<Item = Result<u32, TaskError>> + FusedStream>() {}
    fn is_unit_future<T: Future<Output = ()>>() {}
    is_future::<ProgressFuture<u32>>();
    is_stream::<TaskEvents<u32>>();
    is_group::<TaskGroup<u32>>();
    is_join::<Join<u32>>();
    is_join_all::<JoinAll<u32>>();
    is_map::<Map<'_, std::ops::Range<u32>, u32>>();
    is_unit_future::<Shutdown>();
}

#[test]
fn everything_can_be_debugged() {
    is_debug::<ProgressFuture<Rc<()>>>();
    is_debug::<TaskEvents<u32>>();
    is_debug::<TaskBuilder<'_, Rc<()>>>();
    is_debug::<Canceller>();
    is_debug::<Updater>();
    is_debug::<SharedUpdater>();
    is_debug::<Job>();
    is_debug::<Shutdown>();
    is_debug::<ThreadPoolExecutor>();
    is_debug::<ThreadPoolBuilder>();
    is_debug::<SyncExecutor>();
    is_debug::<ProcessPoolExecutor>();
    is_debug::<ProcessPoolBuilder>();
    is_debug::<TaskRegistry>();
    is_debug::<ProgressIter<'_, std::vec::IntoIter<u32>>>();
    is_debug::<ProgressReader<'_, std::io::Empty>>();
    is_debug::<ProgressWriter<'_, std::io::Sink>>();
    is_debug::<TaskError>();
    is_debug::<TaskGroup<Rc<()>>>();
    is_debug::<Join<Rc<()>>>();
    is_debug::<JoinAll<Rc<()>>>();
    is_debug::<GroupProgress>();
    is_debug::<GroupBars>();
    is_debug::<Map<'_, Unmoved, Rc<()>>>();
    is_debug::<SharedUpdater>();
}

#[test]
fn executors_are_objects() {
    let executors: [Box<dyn Executor>; 3] = [
        Box::new(SyncExecutor::new()),
        Box::new(ThreadPoolExecutor::new(1)),
        Box::new(|job: Job| drop(std::thread::spawn(move || job.run()))),
    ];
    for executor in executors {
        assert_eq!(executor.submit(|n: u32, _: &Updater| Ok(n), 1).wait().unwrap(), 1);
    }
}

#[test]
fn a_snapshot_survives_serde() {
    let mut task = SyncExecutor::new().spawn(|progress| {
        progress.set_message("halfway");
        Ok(progress.set_counts(1, 2)?)
    });
    smol::block_on(&mut task).unwrap();
    let state = task.progress();
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<ProgressState>(&text).unwrap(), state);

    let mut group = TaskGroup::new();
    group.add(SyncExecutor::new().spawn(|progress| Ok(progress.set_counts(1, 2)?)));
    let progress = group.progress();
    let text = serde_json::to_string(&progress).unwrap();
    assert_eq!(serde_json::from_str::<GroupProgress>(&text).unwrap(), progress);
}
