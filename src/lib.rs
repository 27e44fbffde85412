//! Runs long blocking work on threads, in worker processes, or inline in a test, **with the same code**. It shows live
//! progress, cancels work that is already running, and is awaited from any async runtime or from none.
//!
//! ```
//! use progress_executor::{ExecutorExt, TaskResult, ThreadPoolExecutor, Updater};
//!
//! fn longest_walk(n: u64, progress: &Updater) -> TaskResult<u64> {
//!     let mut longest = 0;
//!     for start in progress.iter(1..=n) {
//!         longest = longest.max(steps(start?)); // `?` ends the task here when it was cancelled
//!     }
//!     Ok(longest)
//! }
//!
//! # fn steps(mut x: u64) -> u64 {
//! #     let mut steps = 0;
//! #     while x != 1 {
//! #         x = if x % 2 == 0 { x / 2 } else { 3 * x + 1 };
//! #         steps += 1;
//! #     }
//! #     steps
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let executor = ThreadPoolExecutor::new(3);
//! smol::block_on(async {
//!     let task = executor
//!         .submit(longest_walk, 10_000)
//!         .on_progress(|old, new| println!("{} -> {} of {:?}", old.n, new.n, new.total));
//!     assert_eq!(task.await?, 261);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! The idea: work that runs long reports its progress anyway, so the calls that report progress are also the places
//! where cancellation is noticed. Nothing is ever torn down from outside, except a worker process that does not listen.
//!
//! # The two sides of a task
//!
//! **A task** is a function of an input and an [`Updater`]. It counts what it has done ([`update`](Updater::update),
//! [`iter`](Updater::iter), [`reader`](Updater::reader) and others), says what it is doing
//! ([`set_message`](Updater::set_message)) and waits where it has to ([`sleep`](Updater::sleep)). Calls that count, check
//! or wait return [`Cancelled`] once the task has been asked to end, and `?` passes that on. Counting is one store and
//! one load: no lock, no clock, no system call.
//!
//! **The caller** has a [`ProgressFuture`], which resolves to the task's value, or to a [`TaskError`] that says how else
//! the task ended and how far it got. There are four ways to observe progress:
//!
//! - ask for it: [`progress`](ProgressFuture::progress);
//! - receive it: [`updates`](ProgressFuture::updates) is a plain [`async_channel::Receiver`], for `select!` and for other
//!   tasks;
//! - be called back: [`on_progress`](ProgressFuture::on_progress) and [`with_bar`](ProgressFuture::with_bar) call on the
//!   thread that adds them, polls the future or drops it, and nowhere else, so that an event loop remains the only place that touches its screen;
//! - stream it together with the outcome: [`events`](ProgressFuture::events).
//!
//! A [`TaskGroup`] has one progress for many tasks, and can cancel the rest after the first error. A
//! [`map`](ExecutorExt::map) runs one function over any number of inputs.
//!
//! A task can also [print lines](Updater::println), which appear above the bars wherever it runs. What worker processes
//! print themselves appears where the program's own output does, or is [passed on](ProcessPoolBuilder::output) line by
//! line. Loggers can write to the bars.
//!
//! The [report](GroupReport) of a group says when and where each task ran, also as a page for a browser and as a trace for
//! Perfetto. Besides bars on a terminal there are [bars] for programs, editors and task bars.
//!
//! Observers never hold up a task. They see the first change at once, then at most one snapshot per report interval (20
//! ms unless set), always the newest, and always the last.
//!
//! # The life of a task
//!
//! ```text
//!  submit
//!    │
//!    ▼            it is cancelled, or its executor is shut down
//! pending ───────────────────────────────────────────────────────────────────────► cancelled, rejected
//!    │
//!    ▼   pause: it waits in a progress call
//! running ◄───────────────────────────────────► paused
//!    │ │
//!    │ └─ cancel ─► cancelling ─ a progress call returns Cancelled, `?` passes it on ─► cancelled
//!    │                   │
//!    ▼                   ▼ it takes no notice
//! its function returns, or panics ───────────────────────────────────────────────► finished, failed
//! ```
//!
//! Every task ends exactly once, and its future always resolves: even if the task panics, if nobody watches it, or if
//! its executor is gone.
//!
//! A task can have [limits](TaskBuilder): how long it may run, when it has to be done, or how long it may go without a
//! progress call. When a limit passes, the future resolves to an error at once, and the task is asked to end, as if it had
//! been cancelled. If the worker process that runs a task is lost, the task fails, or is started
//! [again](TaskBuilder::retries).
//!
//! # Parts of a task
//!
//! A function that reports its own progress can be called as a [part](Updater::split) of a larger one. The threads of a
//! parallel loop within a task count [together](Updater::shared), and cancellation reaches all of them; rayon's iterators
//! have `Updater::par_iter`.
//!
//! # Drop, cancel, detach, shut down
//!
//! | | a pending task | a running task | its future |
//! |---|---|---|---|
//! | drop the future | never runs | is asked to end | |
//! | [`cancel`](ProgressFuture::cancel) | never runs | is asked to end | resolves when the task has ended: cancelled, or finished anyway |
//! | [`detach`](ProgressFuture::detach) | runs | keeps running | |
//! | [`pause`](ProgressFuture::pause) | leaves its place to others | waits in its next progress call | stays pending |
//! | drop a [`TaskGroup`] or a [`Map`] | never runs | is asked to end | |
//! | drop the executor | runs | keeps running | resolves as usual |
//! | [`shutdown`](ThreadPoolExecutor::shutdown) | runs; new ones are rejected | keeps running | resolves as usual |
//! | [`shutdown_now`](ThreadPoolExecutor::shutdown_now) | never runs | is asked to end | resolves when the task has ended |
//!
//! None of these blocks, except `detach` on a task of a [`SyncExecutor`], which runs it. *Asked to end* means: the next
//! progress call returns [`Cancelled`]. A task that makes none cannot be cancelled, except in a worker process, which is
//! [killed](ProcessPoolBuilder::cancel_grace).
//!
//! # Executors
//!
//! - [`ThreadPoolExecutor`]: a pool of threads, first in, first out.
//! - [`ProcessPoolExecutor`]: a pool of processes. A crash costs one task, and nothing else.
//! - [`SyncExecutor`]: no threads at all. A task runs where its future is polled, and every single update reaches its
//!   callbacks: a test can cancel at exactly `n == 5`.
//! - [`executor_fn`]`(|job: Job| rayon::spawn(move || job.run()))` runs tasks on a pool that exists already.
//!
//! Each of them is an [`Executor`] and has the methods of [`ExecutorExt`], so code that takes a `&dyn Executor` runs
//! on all of them. The thread pool and the inline executor also have inherent methods that take any closure, such as
//! `spawn(|progress| ..)`. Worker processes take plain functions that are [registered](TaskRegistry).
//!
//! # Tests
//!
//! ```
//! use progress_executor::{ExecutorExt, SyncExecutor, TaskResult, Updater};
//!
//! fn shout(words: Vec<String>, progress: &Updater) -> TaskResult<Vec<String>> {
//!     progress.iter(words).map(|word| Ok(word?.to_uppercase())).collect()
//! }
//!
//! let words = || ["a", "b", "c"].map(String::from).to_vec();
//! assert_eq!(SyncExecutor::new().submit(shout, words()).wait()?, ["A", "B", "C"]);
//!
//! let task = SyncExecutor::new().submit(shout, words());
//! let canceller = task.canceller();
//! let task = task.on_progress(move |_, new| if new.n == 2 { canceller.cancel() });
//! assert_eq!(task.wait().unwrap_err().progress().n, 2);
//! # Ok::<(), progress_executor::TaskError>(())
//! ```
//!
//! # More
//!
//! The [guide] has pages for authors of [libraries](crate::guide::libraries), on
//! [values](crate::guide::values) that cross to worker processes, on workers on
//! [other machines](crate::guide::cluster) and their [security](crate::guide::security), and on what this crate is
//! [not](crate::guide::limits).
//!
//! # Features
//!
//! - `processes`, on by default: [`ProcessPoolExecutor`]. Without it, neither worker processes nor what only they need
//!   (`rmp-serde`, `vm-memory`) are built.
//! - `cluster`: workers that connect to the program, started by one command (`Launcher::bulk`).
//! - `indicatif`: bars on the terminal for tasks, groups and maps (`TaskGroup::show_bars`), and [`ProgressBar`] for
//!   `indicatif::ProgressBar`.
//! - `log`: relays what worker processes log to the logger of the program (`ProcessPoolBuilder::relay_logs`).
//! - `rayon`: counts the items of rayon's parallel iterators (`Updater::par_iter`).
//! - `serde`, on by default: implements serde's traits for the types of this crate, such as [`ProgressState`],
//!   [`TaskEvent`] and [`GroupReport`]. Without it, serde's `derive` is not built; worker processes do not need it.
//!
//! # Origin
//!
//! The idea comes from the Python package [`progress-executor`](https://pypi.org/project/progress-executor/), which
//! brought it to the executors of `concurrent.futures`.

#![cfg_attr(
    not(all(feature = "processes", unix)),
    allow(dead_code, reason = "what only worker processes need stands beside what every executor needs")
)]
#![cfg_attr(
    not(all(feature = "processes", feature = "serde", unix)),
    allow(rustdoc::broken_intra_doc_links, reason = "the documentation names what features add")
)]
// The types of worker processes exist on every platform.
#![cfg_attr(docsrs, feature(doc_cfg), doc(auto_cfg(hide(unix))))]

#[cfg(not(target_has_atomic = "64"))]
compile_error!("progress-executor needs 64-bit atomics, which this target does not have");
#[cfg(target_family = "wasm")]
compile_error!("progress-executor blocks threads, as for tasks that sleep, which WebAssembly cannot do");

// In reading order: each module builds only on those above it. `docs/ARCHITECTURE.md` draws how they work together.
//
// - Where does a progress call go? To `Updater::update`, and on to `updater::checkpoint` if something wants attention.
// - Where does a cancel go? To `task::transitions::cancel`, which sets a bit of the control word (`task::state`).
// - What happens when a task ends? `task::transitions::settle` tells its subscribers, its future and its executor.
// - What would I write for a new executor? An `Executor` that runs the jobs it is given; `inline` is the smallest.

// Plain data: a task's id and progress.
mod id;

mod progress;

// What threads wait with: wakers, the timer, clocks.
mod sync;

// How a task fails.
mod error;

// JSON strings.
mod json;

// Values to bytes and back.
mod codec;

// The state that both sides of a task share.
mod task;

// The task's side: what counts, checks and waits.
mod updater;

// The one place that runs a task.
mod run;

// The caller's side: what is awaited, observed and cancelled.
mod future;

// Bars other than those on a screen.
pub mod bars;

// Many tasks as one.
mod group;

// The executor traits, and maps.
mod executor;

// The executors, which are independent of each other.
mod inline;

mod thread;

#[cfg(feature = "processes")]
mod process;

pub mod guide;

#[cfg(doctest)]
mod compile_fail;
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use crate::codec::plain;
pub use crate::codec::shared::Shared;
pub use crate::error::{BoxError, CancelCause, Cancelled, TaskError, TaskErrorKind, TaskResult, WorkerExit};
pub use crate::executor::builder::TaskBuilder;
pub use crate::executor::executor_fn::{ExecutorFn, executor_fn};
pub use crate::executor::job::Job;
pub use crate::executor::map::{BlockingMap, Map};
pub use crate::executor::shutdown::Shutdown;
pub use crate::executor::{Executor, ExecutorExt};
pub use crate::future::ProgressFuture;
pub use crate::future::bar::{ProgressBar, Triggers};
pub use crate::future::canceller::Canceller;
pub use crate::future::events::{TaskEvent, TaskEvents};
pub use crate::group::TaskGroup;
#[cfg(feature = "indicatif")]
pub use crate::group::bars::GroupBars;
#[cfg(feature = "indicatif")]
pub use crate::group::bars::units::Units;
pub use crate::group::events::{GroupEvent, GroupEvents};
pub use crate::group::handle::GroupHandle;
pub use crate::group::join::{Join, JoinAll};
pub use crate::group::progress::GroupProgress;
pub use crate::group::report::{GroupReport, LostTry, TaskReport};
pub use crate::id::{TaskId, WorkerId};
pub use crate::inline::SyncExecutor;
#[cfg(feature = "processes")]
pub use crate::process::builder::ProcessPoolBuilder;
#[cfg(feature = "processes")]
pub use crate::process::error::ProcessPoolError;
#[cfg(all(feature = "processes", unix))]
pub use crate::process::executor::ProcessPoolExecutor;
#[cfg(feature = "processes")]
pub use crate::process::launcher::Launcher;
#[cfg(feature = "processes")]
pub use crate::process::output::{LineCallback, OutputLine, OutputStream, WorkerOutput};
#[cfg(feature = "processes")]
pub use crate::process::registry::TaskRegistry;
#[cfg(all(feature = "processes", not(unix)))]
pub use crate::process::unsupported::ProcessPoolExecutor;
#[cfg(feature = "processes")]
pub use crate::process::workers::{WorkerStatus, WorkersStatus};
pub use crate::progress::{PartState, ProgressState, Status};
pub use crate::task::callbacks::CallbackId;
pub use crate::thread::builder::ThreadPoolBuilder;
pub use crate::thread::executor::ThreadPoolExecutor;
pub use crate::updater::Updater;
pub use crate::updater::io::{ProgressReader, ProgressWriter};
pub use crate::updater::iter::ProgressIter;
#[cfg(feature = "rayon")]
pub use crate::updater::par_iter::ProgressParIter;
pub use crate::updater::shared::SharedUpdater;

/// What macros need.
#[doc(hidden)]
#[cfg(feature = "processes")]
pub mod __private {
    pub use crate::process::program::TestWorker;
}
