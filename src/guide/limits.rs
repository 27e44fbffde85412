//! What this crate is not.
//!
//! - *A runtime.* It polls no futures and has no reactor and no timers: you bring those. A task is a function that blocks,
//!   not a future. For ten thousand connections use an async runtime; this crate works alongside any of them.
//! - *A way to stop code that does not listen.* A task on a thread ends at a progress call and nowhere else. One that makes
//!   none can be [detected](crate::ProgressFuture::silent_for), and a [timeout](crate::TaskBuilder::timeout) frees its
//!   caller but not its thread. Only a [worker process](crate::ProcessPoolExecutor) can be killed.
//! - *A parallel iterator.* A task pays off when it takes microseconds or more. For a loop over numbers, use rayon inside a
//!   task: `Updater::par_iter`, or [`Updater::shared`](crate::Updater::shared).
//! - *A job queue.* Tasks wait in memory, first in, first out, without priorities. When the program ends, they are gone.
//!   [`map`](crate::ExecutorExt::map) takes inputs as there is room for them; [`submit`](crate::ExecutorExt::submit) never
//!   refuses one, however many are waiting.
//! - *A cluster scheduler.* Workers can be [on other machines](super::cluster), but something else has to place them there:
//!   Slurm, ssh, or whatever starts a command.
//! - *A sandbox.* A worker has all the rights of its program. Process isolation contains crashes, not attackers.
//! - *Exactly-once execution.* A task is started once. If its worker is lost, the task has failed, and it is unknown what it
//!   had done by then; with [`retries`](crate::TaskBuilder::retries) it may do things twice.
//! - *A log of everything.* Observers see the newest state, at most once per report interval, and the last one. Counts in
//!   between are not shown. A task returns what must not be missed, or sends it on a channel of its own.
//! - *A forecast.* [ETA](crate::ProgressState::eta) and rate are averages since the start: right for work that proceeds
//!   evenly.
//! - *A widget toolkit.* The feature `indicatif` draws bars on a terminal, and [`bars`](crate::bars) has some for other
//!   programs. Anything else is an implementation of [`ProgressBar`](crate::ProgressBar).
//! - *For WebAssembly or `no_std`.* It runs where the standard library has threads; worker processes need Unix.
