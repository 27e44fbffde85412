//! For authors of libraries.
//!
//! A library should not choose where its work runs. It takes a [`&dyn Executor`](crate::Executor) and returns a
//! [`ProgressFuture`](crate::ProgressFuture), a [`TaskGroup`](crate::TaskGroup) or a [`Map`](crate::Map). Its users then
//! watch, pause and cancel that work like their own: on threads, in processes, and inline in a test.
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
//! // A program that uses the library.
//! use progress_executor::{ProcessPoolExecutor, TaskRegistry};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     thumbnails::register(TaskRegistry::new()).init(); // `.register(..)` adds your own
//!     let executor = ProcessPoolExecutor::new(1)?;
//!     assert_eq!(thumbnails::halve(&executor, vec![vec![1, 2], vec![3, 4]]).wait()?, [[1]]);
//!     Ok(())
//! }
//! ```
//!
//! # Worker processes
//!
//! A library offers `pub fn register(registry: TaskRegistry) -> TaskRegistry`, and its task functions stay private. A
//! program chains the `register` functions of several libraries, and a library calls those of the libraries it builds on.
//! Registering a function twice does no harm.
//!
//! If a program forgets the call, each task fails with [`NotRegistered`](crate::TaskErrorKind::NotRegistered). The error
//! gives the path of the function, and with it the name of the library. Document `register` as needed for
//! [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) only.
//!
//! A task function that runs on every executor is a plain `fn` whose [input and output](super::values) are owned values
//! that implement serde's traits. Anything else it needs, such as a model or a connection, it creates in the worker, once,
//! and keeps in a static. Do not pass callbacks: the caller has the future to observe.
//!
//! A library whose work needs no processes can take a [`&ThreadPoolExecutor`](crate::ThreadPoolExecutor) instead, and
//! submit closures that capture anything.
//!
//! # What a library leaves to its users
//!
//! - *The executor*: if each library makes its own pool, there are more threads than processors.
//! - *Names and limits*: name the task after what it does, such as `halve`. Only the caller knows how long to wait, so take
//!   a timeout as a parameter where one matters.
//! - *Detaching*: if a library [detaches](crate::ProgressFuture::detach) a task, its user can no longer cancel it.
//! - *Blocking*: [`wait`](crate::ProgressFuture::wait) blocks an async caller. Return the future; a caller without a runtime
//!   can wait for it.
//!
//! When a task function calls another one that reports progress, it passes a [part](crate::Updater::split) of its own. Make
//! the inner function public and let it take `&Updater`, so that others can call it as a part of their tasks.
//!
//! # Tests
//!
//! On a [`SyncExecutor`](crate::SyncExecutor), a test needs no threads and no sleeps, and can cancel at an exact unit:
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
//! A test in real worker processes shows that every function is registered and every value crosses.
//! [`test_worker!`](crate::test_worker) takes the same `register`, so that it works in `tests/`, where private functions
//! cannot be named:
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
//! A library that does not need processes depends on this crate with `default-features = false`. To support them optionally,
//! it puts `register` behind a feature of its own that turns on `processes`. If it serializes types of this crate, such as
//! [`TaskEvent`](crate::TaskEvent), it asks for the feature `serde`.
