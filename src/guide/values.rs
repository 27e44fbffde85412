//! Values that cross to worker processes.
//!
//! A [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) encodes the inputs and outputs of its tasks with serde, as
//! [MessagePack](https://msgpack.org) with field names. Every attribute of serde works, and types that have a human-readable
//! form, such as [`IpAddr`](std::net::IpAddr), use it. `Vec<u8>`, `String` and vectors of numbers of a fixed size cross at the
//! speed of a copy if they are the whole input or output. As fields of a struct, numbers need [`plain`](crate::plain) for that, and bytes
//! [`serde_bytes`](https://docs.rs/serde_bytes).
//!
//! # Owned types
//!
//! An input outlives the call that submits it, so it has to own its data: `String` and not `&str`, `Vec<T>` and not `&[T]`,
//! `PathBuf` and not `&Path`. Nor can it borrow while it is decoded: a `Cow` without `#[serde(borrow)]` compiles, and arrives
//! owned. A function that needs several values takes a tuple or a struct:
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
//! An `Arc<T>` crosses as its content: the worker gets a copy, and changes to it stay there. A large value that many tasks
//! need is best wrapped in a [`Shared`](crate::Shared), which is sent once to each worker. Or make it in the worker, with an
//! [initializer](crate::ProcessPoolBuilder::initializer) or by reading a file.
//!
//! # What does not cross
//!
//! | | what happens | instead |
//! |---|---|---|
//! | files, sockets, locks, channels, closures, [`Instant`](std::time::Instant) | does not compile: they do not implement serde's traits | send the path or the address, return the value |
//! | a path that is not UTF-8, as `PathBuf` | [`Encode`](crate::TaskErrorKind::Encode) error | `OsString` |
//! | `Some(None)`, `Some(())`, `Some(serde_json::Value::Null)` | `Encode` error, as they would arrive as `None` | an enum with a variant for each case |
//! | nested more than 127 deep, such as a long linked list | `Encode` error | a `Vec` of nodes with indices |
//! | more than [`max_frame_bytes`](crate::ProcessPoolBuilder::max_frame_bytes), 1 GiB unless set | `Encode` error | a file, and its path |
//! | a `Serialize` of your own that announces fewer elements than it writes, or more | `Decode` error | the right length, or `None` |
//! | `u128` and `i128` with `flatten`, or in untagged or internally tagged enums | `Encode` or `Decode` error | a `String`, or two `u64` |
//!
//! Either error costs only its task, not the worker or the pool.
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
//! - *Fields with `#[serde(skip)]`* arrive as their defaults, and so do those that `skip_serializing_if` leaves out.
//! - *Untagged enums* arrive as the first variant that fits: put the more specific ones first. In an input, a
//!   [`Shared`](crate::Shared) also fits a struct whose fields are all optional.
//! - *Sharing* is lost: two `Arc`s of one value arrive as two values. Two clones of a [`Shared`](crate::Shared) arrive as one.
//! - *Errors of tasks* arrive as their messages and those of their sources, so
//!   [`downcast_ref`](crate::TaskError::downcast_ref) finds nothing. If the caller has to distinguish an error, make it part
//!   of the output: `TaskResult<Result<T, MyError>>`.
//! - *Panics* arrive as their text.
//!
//! On threads and inline nothing is encoded, so a test on a [`SyncExecutor`](crate::SyncExecutor) does not notice any of
//! this: add one in [worker processes](crate::test_worker).
//!
//! # Large arrays
//!
//! Serde supports arrays of up to 32 elements, but arrays of arrays can still be large. They are decoded on the stack and
//! copied several times there, many more times in debug builds: there, an array of a quarter of a megabyte can overflow a
//! stack of eight megabytes, the usual size for a task, and so can one of a megabyte in a `Box`. A stack overflow ends the
//! process. In a worker, that costs the task. In the program, which encodes the input and decodes the output, it ends
//! everything.
//! Anything above some ten kilobytes is better a `Vec`, whose elements are never on the stack all at once.
