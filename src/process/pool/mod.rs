//! The program's end of the channel.
//!
//! The [`scheduler`] decides what to do, without I/O. The [`driver`] does it, on the thread that leads (see [`leader`]), and
//! [`delivery`] passes on what was received. [`launch`] is one worker from its start to its end, `crews` are workers that one
//! command starts, and [`output`] is what they write. [`shared`] is what all threads share.

mod backlog;
mod connection;
#[cfg(feature = "cluster")]
mod crews;
mod delivery;
pub(crate) mod driver;
mod heartbeats;
pub(crate) mod launch;
pub(crate) mod leader;
mod lingering;
pub(crate) mod memories;
mod outcome;
pub(crate) mod output;
mod peer;
mod poller;
mod queued;
mod remote;
mod round;
pub(crate) mod scheduler;
pub(crate) mod shared;
mod standby;
mod threads;
mod unwatched;
