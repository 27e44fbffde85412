//! Values that cross to worker processes.
//!
//! Inputs and outputs of tasks of a [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) are encoded by serde as
//! [MessagePack](https://msgpack.org), with the names of fields. Every attribute of serde works. `Vec<u8>`, `String` and
//! vectors of plain numbers cross at the speed of a copy, where they are the whole input or output; within a struct, numbers
//! do with [`plain`](crate::plain), and bytes with [`serde_bytes`](https://docs.rs/serde_bytes).
//!
//! # Owned types
//!
//! An input outlives the call that submits it, so it owns what it has: `String` and not `&str`, `Vec<T>` and not `&[T]`,
//! `PathBuf` and not `&Path`. For several inputs take a tuple, or a struct:
//!
//! ```
//! use progress_executor::{ExecutorExt, SyncExecutor, TaskResult, Updater};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Crop {
//!     file: String,
//!     corner: (u32, u32),
//! }
//!
//! fn crop(Crop { file, corner }: Crop, _: &Updater) -> TaskResult<String> {
//!     Ok(format!("{file} from {corner:?}"))
//! }
//!
//! let input = Crop { file: "a.png".into(), corner: (3, 4) };
//! assert_eq!(SyncExecutor::new().submit(crop, input).wait()?, "a.png from (3, 4)");
//! # Ok::<(), progress_executor::TaskError>(())
//! ```
//!
//! An `Arc<T>` crosses as its content: the worker has one of its own, and what it changes there nobody sees. A large value that many tasks need
//! is best a [`Shared`](crate::Shared), which is sent once to each worker; or it is made there, by an
//! [initializer](crate::ProcessPoolBuilder::initializer) or from the name of a file.
//!
//! # What does not cross
//!
//! | | what happens | instead |
//! |---|---|---|
//! | files, sockets, locks, channels, closures | does not compile: serde does not know them | the path, the address; return the value |
//! | a path that is not UTF-8, as `PathBuf` | [`Encode`](crate::TaskErrorKind::Encode) error | `OsString` |
//! | `Some(None)`, `Some(())`, `Some(serde_json::Value::Null)` | `Encode` error, for they would arrive as `None` | an enum with a variant for each case |
//! | nested more than 127 deep, as a long linked list | `Encode` error | a `Vec` of nodes with indices |
//! | more than [`max_frame_bytes`](crate::ProcessPoolBuilder::max_frame_bytes), 1 GiB unless set | `Encode` error | a file, and its path |
//! | `u128` and `i128` with `flatten`, or in untagged or internally tagged enums | `Encode` or `Decode` error | a `String`, or two `u64` |
//!
//! An error of either kind costs its task, and neither the worker nor the pool.
//!
//! ```standalone_crate
//! use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
//! use std::ffi::OsString;
//! use std::os::unix::ffi::OsStringExt;
//! use std::path::PathBuf;
//!
//! fn length(file: OsString, _: &Updater) -> TaskResult<usize> {
//!     Ok(PathBuf::from(file).as_os_str().len())
//! }
//! fn length_of_path(file: PathBuf, _: &Updater) -> TaskResult<usize> {
//!     Ok(file.as_os_str().len())
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     TaskRegistry::new().register(length).register(length_of_path).init();
//!     let executor = ProcessPoolExecutor::new(1)?;
//!     let file = OsString::from_vec(b"caf\xe9".to_vec()); // in Latin-1, as old archives have it
//!     assert!(executor.submit(length_of_path, file.clone().into()).wait().unwrap_err().is_encode_error());
//!     assert_eq!(executor.submit(length, file).wait()?, 4);
//!     Ok(())
//! }
//! ```
//!
//! # What arrives as another value
//!
//! - *Fields with `#[serde(skip)]`* arrive as their defaults, and so does what `skip_serializing_if` leaves out.
//! - *Untagged enums* arrive as the first variant that fits: put the more specific ones first.
//! - *Sharing* is lost: two `Arc`s of one value arrive as two values. Two clones of a [`Shared`](crate::Shared) arrive as one.
//! - *Errors of tasks* arrive as their messages and those of their sources. [`downcast_ref`](crate::TaskError::downcast_ref)
//!   finds nothing: an error that the caller is to tell from others is part of the output, as a
//!   `TaskResult<Result<T, MyError>>`.
//! - *Panics* arrive as their text.
//! - An [`Instant`](std::time::Instant) does not compile, and a [`Duration`](std::time::Duration) crosses as it is.
//!
//! On threads and inline nothing is encoded. A test on a [`SyncExecutor`](crate::SyncExecutor) does not notice any of this:
//! add one in [worker processes](crate::test_worker).
//!
//! # Large arrays
//!
//! Serde knows arrays of up to 32 elements; arrays of arrays can be large all the same. They are decoded on the stack, where
//! they are copied several times, and far more often in debug builds: there, a quarter of a megabyte can take more than the
//! eight megabytes that a task mostly has, and inside of a `Box` a megabyte can. A stack that overflows ends its process:
//! in a worker, the task has lost it; in the program, which encodes the input and decodes the output, all is over. What takes
//! more than some ten kilobytes is better a `Vec`, whose elements never lie on the stack together.
