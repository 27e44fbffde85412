//! For authors of libraries.
//!
//! A library does not choose where its work runs: it takes a [`&dyn Executor`](crate::Executor), and returns a
//! [`ProgressFuture`](crate::ProgressFuture), a [`TaskGroup`](crate::TaskGroup) or a [`Map`](crate::Map). So its users
//! watch, pause and cancel the work as they do with their own, on threads, in processes, and inline in a test.
//!
//! ```standalone_crate
//! /// The library, as others see it.
//! mod thumbnails {
//!     use progress_executor::{Executor, ExecutorExt, ProgressFuture, TaskRegistry, TaskResult, Updater};
//!
//!     /// Halves a picture: one unit of progress for each row.
//!     pub fn halve(executor: &dyn Executor, rows: Vec<Vec<u8>>) -> ProgressFuture<Vec<Vec<u8>>> {
//!         executor.task(halve_rows, rows).name("halve").submit()
//!     }
//!
//!     /// Makes the functions of this library known to worker processes.
//!     pub fn register(registry: TaskRegistry) -> TaskRegistry {
//!         registry.register(halve_rows)
//!     }
//!
//!     fn halve_rows(rows: Vec<Vec<u8>>, progress: &Updater) -> TaskResult<Vec<Vec<u8>>> {
//!         let mut half = Vec::new();
//!         for row in progress.iter(rows.chunks(2)) {
//!             half.push(row?[0].iter().copied().step_by(2).collect());
//!         }
//!         Ok(half)
//!     }
//! }
//!
//! // A program that uses it.
//! use progress_executor::{ProcessPoolExecutor, TaskRegistry};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     thumbnails::register(TaskRegistry::new()).init(); // `.register(..)` adds one's own
//!     let executor = ProcessPoolExecutor::new(1)?;
//!     assert_eq!(thumbnails::halve(&executor, vec![vec![1, 2], vec![3, 4]]).wait()?, [[1]]);
//!     Ok(())
//! }
//! ```
//!
//! # Worker processes
//!
//! `pub fn register(registry: TaskRegistry) -> TaskRegistry` is all that a library has to offer, and its task functions stay
//! private. A program chains it with those of other libraries, and a library with those of libraries it builds upon. To
//! register a function twice does no harm.
//!
//! A program that forgets it gets an error of each task, of the kind
//! [`NotRegistered`](crate::TaskErrorKind::NotRegistered), which names the function with its path, and so the library. Say in
//! the documentation of `register` that it is needed for [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) only.
//!
//! A task function for every executor is a plain `fn`, and [its input and output](super::values) are owned values that serde
//! knows. What it needs besides, such as a model or a connection, it makes in the worker, once, and keeps it in a static.
//! What the caller wants to be called back for is not passed along: the caller has the future.
//!
//! A library whose work needs no processes may take closures that capture anything, with a
//! [`&ThreadPoolExecutor`](crate::ThreadPoolExecutor).
//!
//! # What a library leaves to its users
//!
//! - *The executor*: a library that makes a pool of its own makes more threads than the machine has processors.
//! - *Names and limits*: a name says what the task is of, as `halve`; a time-out is for those to set who know how long they
//!   want to wait. Let them, with a parameter, where it matters.
//! - *Detaching*: a library that [detaches](crate::ProgressFuture::detach) a task takes its cancellation from the user.
//! - *Blocking*: [`wait`](crate::ProgressFuture::wait) blocks an async caller. Return the future; who has no runtime waits for
//!   it.
//!
//! A function that calls another one that counts gives it a [part](crate::Updater::split) of its own progress. Make the inner
//! one take `&Updater` and public, for tasks of others to call as a part of theirs.
//!
//! # Tests
//!
//! On a [`SyncExecutor`](crate::SyncExecutor) a test needs neither threads nor time, and cancels at an exact unit:
//!
//! ```
//! # mod thumbnails {
//! #     use progress_executor::{Executor, ExecutorExt, ProgressFuture};
//! #     pub fn halve(executor: &dyn Executor, rows: Vec<Vec<u8>>) -> ProgressFuture<Vec<Vec<u8>>> {
//! #         executor.submit(|rows, progress| Ok(progress.iter(rows).collect::<Result<_, _>>()?), rows)
//! #     }
//! # }
//! use progress_executor::SyncExecutor;
//!
//! let task = thumbnails::halve(&SyncExecutor::new(), vec![vec![0; 2]; 100]);
//! let canceller = task.canceller();
//! let task = task.on_progress(move |_, new| if new.n == 3 { canceller.cancel() });
//! let error = task.wait().unwrap_err();
//! assert!(error.is_cancelled() && error.progress().n == 3);
//! ```
//!
//! One test in real worker processes shows that every function is registered and every value crosses.
//! [`test_worker!`](crate::test_worker) takes the same `register`, also in `tests/`, where private functions cannot be named:
//!
//! ```no_run
//! # mod thumbnails {
//! #     use progress_executor::{Executor, ExecutorExt, ProgressFuture, TaskRegistry};
//! #     pub fn halve(executor: &dyn Executor, rows: Vec<Vec<u8>>) -> ProgressFuture<Vec<Vec<u8>>> {
//! #         executor.submit(|rows, _| Ok(rows), rows)
//! #     }
//! #     pub fn register(registry: TaskRegistry) -> TaskRegistry { registry }
//! # }
//! use progress_executor::ProcessPoolExecutor;
//!
//! progress_executor::test_worker!(with thumbnails::register);
//!
//! #[test]
//! fn a_picture_is_halved_in_another_process() {
//!     let executor = ProcessPoolExecutor::new(1).unwrap();
//!     assert_eq!(thumbnails::halve(&executor, vec![vec![1, 2], vec![3, 4]]).wait().unwrap(), [[1]]);
//! }
//! # fn main() {}
//! ```
//!
//! # Features
//!
//! A library that offers no processes depends on this crate with `default-features = false`; what is said here about
//! `register` then goes behind a feature of the library that turns on `processes`.
