//! Placeholder.
mod clock;
mod primitives;

mod error;
mod progress;

mod counts;
mod report;
mod state;
mod task;
mod waiter;

mod io;
mod iter;
mod updater;

mod bar;
mod block_on;
mod events;
mod future;
mod observers;

mod executor;
mod shutdown;
mod sync;
mod thread;

#[cfg(doctest)]
mod compile_fail;

pub use crate::bar::{ProgressBar, Triggers};
pub use crate::error::{BoxError, CancelCause, Cancelled, TaskError, TaskErrorKind, TaskResult};
pub use crate::events::{TaskEvent, TaskEvents};
pub use crate::executor::{Executor, ExecutorExt, Job, TaskBuilder};
pub use crate::future::{Canceller, ProgressFuture};
pub use crate::io::{ProgressReader, ProgressWriter};
pub use crate::iter::ProgressIter;
pub use crate::observers::CallbackId;
pub use crate::progress::{ProgressState, Status};
pub use crate::shutdown::Shutdown;
pub use crate::sync::SyncExecutor;
pub use crate::task::TaskId;
pub use crate::thread::{ThreadPoolBuilder, ThreadPoolExecutor};
pub use crate::updater::Updater;
