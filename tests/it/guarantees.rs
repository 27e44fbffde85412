//! What the compiler guarantees; `src/compile_fail.rs` has what it must refuse.

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
fn is_hash<T: Eq + std::hash::Hash>() {}
fn is_plain<T: Copy + Eq + std::hash::Hash + Send + Sync + UnwindSafe + Debug>() {}

/// Inputs that must not be moved.
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
    // The output of a task only has to be `Send`, and the future does not pin it.
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
    is_send::<TaskBuilder<'_, u32>>();
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
    is_send::<GroupHandle>();
    is_sync::<GroupHandle>();
    is_clone::<GroupHandle>();
    is_send::<GroupEvents<u32>>();
    is_unpin::<GroupEvents<std::marker::PhantomPinned>>();
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
    is_hash::<Canceller>();
    is_hash::<TaskErrorKind>();
    is_send::<ExecutorFn<fn(Job)>>();
    is_sync::<ExecutorFn<fn(Job)>>();
}

#[test]
fn futures_and_streams() {
    fn is_future<T: Future<Output = Result<u32, TaskError>> + FusedFuture>() {}
    fn is_stream<T: Stream<Item = TaskEvent<u32>> + FusedStream>() {}
    fn is_group<T: Stream<Item = (TaskId, Result<u32, TaskError>)> + FusedStream>() {}
    fn is_group_events<T: Stream<Item = GroupEvent<u32>> + FusedStream>() {}
    fn is_join<T: Future<Output = Result<Vec<u32>, TaskError>> + FusedFuture>() {}
    fn is_join_all<T: Future<Output = Vec<Result<u32, TaskError>>> + FusedFuture>() {}
    fn is_map<T: Stream<Item = Result<u32, TaskError>> + FusedStream>() {}
    fn is_unit_future<T: Future<Output = ()> + FusedFuture>() {}
    is_future::<ProgressFuture<u32>>();
    is_stream::<TaskEvents<u32>>();
    is_group::<TaskGroup<u32>>();
    is_group_events::<GroupEvents<u32>>();
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
    is_debug::<GroupHandle>();
    is_debug::<GroupEvents<Rc<()>>>();
    is_debug::<GroupBars>();
    is_debug::<Map<'_, Unmoved, Rc<()>>>();
    is_debug::<SharedUpdater>();
}

#[test]
fn executors_are_objects() {
    let executors: [Box<dyn Executor>; 3] = [
        Box::new(SyncExecutor::new()),
        Box::new(ThreadPoolExecutor::new(1)),
        Box::new(executor_fn(|job: Job| drop(std::thread::spawn(move || job.run())))),
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
    assert!(text.contains(r#""status":"finished""#), "{text}");
    assert_eq!(serde_json::from_str::<ProgressState>(&text).unwrap(), state);
    // Formats without the names of fields need all of them.
    let fields = |state: &ProgressState| serde_json::to_value(state).unwrap().as_object().unwrap().len();
    let mut with_parts = state.clone();
    with_parts.parts.push(PartState::default());
    assert_eq!(fields(&state), fields(&with_parts));

    let mut group = TaskGroup::new();
    group.add(SyncExecutor::new().spawn(|progress| Ok(progress.set_counts(1, 2)?)));
    let progress = group.progress();
    let text = serde_json::to_string(&progress).unwrap();
    assert_eq!(serde_json::from_str::<GroupProgress>(&text).unwrap(), progress);
}

#[test]
fn a_status_is_serialized_as_it_is_displayed() {
    use Status::*;
    for status in [Pending, Running, Paused, Cancelling, Finished, Failed, Cancelled] {
        assert_eq!(serde_json::to_value(status).unwrap(), status.to_string());
    }
}

#[test]
fn an_event_is_a_line_of_json() {
    let executor = SyncExecutor::new();
    let task = executor.task(|(), progress: &Updater| Ok(progress.set_counts(1, 4)?), ()).name("dig");
    let (id, lines) = lines(task.submit());
    let last = &lines[lines.len() - 2];
    assert_eq!(last["event"], "progress");
    assert_eq!((last["id"].to_string(), &last["name"]), (id.to_string(), &"dig".into()));
    assert_eq!((&last["status"], &last["n"], &last["total"]), (&"finished".into(), &1.into(), &4.into()));
    assert_eq!(last["fraction"], 0.25);
    assert!(last["eta"].as_f64() > Some(0.0), "{last}");
    assert_eq!(lines.last().unwrap()["event"], "done");

    let refuse = |(), _: &Updater| Err::<(), _>("out of paper".into());
    let (id, lines) = self::lines(executor.task(refuse, ()).name("print").submit());
    let done = lines.last().unwrap();
    assert_eq!((&done["event"], &done["status"]), (&"done".into(), &"failed".into()));
    assert_eq!((done["id"].to_string(), &done["name"]), (id.to_string(), &"print".into()));
    assert!(done["error"].as_str().unwrap().ends_with("failed: out of paper"), "{done}");
    assert!(done["total"].is_null() && done["eta"].is_null(), "{done}");
}

fn lines(task: ProgressFuture<()>) -> (TaskId, Vec<serde_json::Value>) {
    let id = task.id();
    let events = futures::executor::block_on_stream(task.events());
    (id, events.map(|event| serde_json::to_value(event).unwrap()).collect())
}

#[test]
#[expect(clippy::mutable_key_type, reason = "the hash is that of the id of the task, which never changes")]
fn cancellers_of_one_task_are_equal() {
    let executor = SyncExecutor::new();
    let (one, other) = (executor.spawn(|_| Ok(())), executor.spawn(|_| Ok(())));
    let distinct = std::collections::HashSet::from([one.canceller(), one.canceller(), other.canceller()]);
    assert_eq!(distinct.len(), 2);
}
