//! What this crate is not.
//!
//! - *A runtime.* It polls no futures but where you do, and has no reactor and no timers for you. A task is a function that
//!   blocks, not a future. For ten thousand connections take an async runtime; this crate works beside any.
//! - *A way to stop code that does not listen.* A task on a thread ends where it makes a progress call, and nowhere else. One
//!   that makes none can be [found](crate::ProgressFuture::silent_for), and a
//!   [time-out](crate::TaskBuilder::timeout) gives its caller back, not its thread. Only a
//!   [worker process](crate::ProcessPoolExecutor) can be killed.
//! - *A parallel iterator.* A task is worth its overhead where it takes microseconds and more. For a loop over numbers take
//!   rayon, inside of a task: `Updater::par_iter`, or [`Updater::shared`](crate::Updater::shared).
//! - *A queue of jobs.* Tasks wait in memory, first in, first out, without priorities. Those of a program that ends are gone.
//!   [`map`](crate::ExecutorExt::map) takes inputs as there is room; [`submit`](crate::ExecutorExt::submit) never refuses one,
//!   however many wait.
//! - *A scheduler of machines.* Workers can be [on other machines](super::cluster), where somebody else has placed them: Slurm,
//!   ssh, or whatever starts a command there.
//! - *A sandbox.* A worker has all rights of its program. What keeps a crash from doing harm does not keep an attacker from it.
//! - *Exactly once.* A task is started once. Where its worker is lost it has failed, and nobody knows what it had done;
//!   with [`retries`](crate::TaskBuilder::retries) it may be done twice.
//! - *A record of everything.* Observers see the newest state, at most once per report interval, and the last one. A count
//!   that was there in between is not shown. For what must not be missed, a task sends it itself, on a channel of its own, or
//!   returns it.
//! - *A clock.* [ETA](crate::ProgressState::eta) and rate are averages since the start: right for work that goes on as before.
//! - *A drawing of bars.* There is a [trait](crate::ProgressBar), and an implementation for `indicatif`.
//! - *For WebAssembly or `no_std`.* It runs where the standard library has threads; worker processes need Unix.
