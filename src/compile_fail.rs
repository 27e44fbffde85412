//! Code that must not compile, each with a counterpart that differs in just that point and does compile. These are
//! documentation tests, as in `rayon-core`.

/// An updater has one writer: it cannot be shared between threads.
///
/// ```compile_fail,E0277
/// progress_executor::SyncExecutor::new()
///     .spawn(|progress| Ok(std::thread::scope(|scope| scope.spawn(|| progress.update(1)).join().unwrap())?))
///     .detach();
/// ```
///
/// ```
/// progress_executor::SyncExecutor::new()
///     .spawn(|progress| Ok(std::thread::scope(|_| progress.update(1))?))
///     .detach();
/// ```
mod updater_is_not_shared {}

/// An updater ends with its task.
///
/// ```compile_fail
/// use progress_executor::Updater;
/// fn keep(progress: &Updater) -> &'static Updater {
///     progress
/// }
/// ```
///
/// ```
/// use progress_executor::Updater;
/// fn keep(progress: &Updater) -> &Updater {
///     progress
/// }
/// ```
mod updater_does_not_escape {}

/// What a task captures moves to another thread.
///
/// ```compile_fail,E0277
/// let counter = std::rc::Rc::new(1);
/// progress_executor::ThreadPoolExecutor::new(1).spawn(move |_| Ok(*counter)).detach();
/// ```
///
/// ```
/// let counter = std::sync::Arc::new(1);
/// progress_executor::ThreadPoolExecutor::new(1).spawn(move |_| Ok(*counter)).detach();
/// ```
mod captures_are_send {}

/// Dropping a future cancels its task, so that should not happen by oversight.
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// progress_executor::ThreadPoolExecutor::new(1).spawn(|_| Ok(()));
/// ```
///
/// ```
/// #![deny(unused_must_use)]
/// drop(progress_executor::ThreadPoolExecutor::new(1).spawn(|_| Ok(())));
/// ```
mod unused_futures_are_warned_of {}

/// Code that works with any executor needs inputs that can cross to another process.
///
/// ```compile_fail,E0277
/// use progress_executor::{Executor, ExecutorExt, SyncExecutor};
/// let executor: &dyn Executor = &SyncExecutor::new();
/// executor.submit(|_: std::time::Instant, _| Ok(()), std::time::Instant::now()).detach();
/// ```
///
/// ```
/// use progress_executor::{Executor, ExecutorExt, SyncExecutor};
/// let executor: &dyn Executor = &SyncExecutor::new();
/// executor.submit(|_: std::time::Duration, _| Ok(()), std::time::Duration::ZERO).detach();
/// ```
mod portable_inputs_are_serializable {}

/// The events of a task end with its outcome, so a group cannot have the outcome as well.
///
/// ```compile_fail,E0382
/// let task = progress_executor::SyncExecutor::new().spawn(|_| Ok(()));
/// let mut group = progress_executor::TaskGroup::new();
/// let events = task.events();
/// group.add(task);
/// ```
///
/// ```
/// let task = progress_executor::SyncExecutor::new().spawn(|_| Ok(()));
/// let mut group = progress_executor::TaskGroup::new();
/// let updates = task.updates();
/// group.add(task);
/// ```
mod an_outcome_is_handed_out_once {}
