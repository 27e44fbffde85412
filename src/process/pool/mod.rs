//! The program's end of the channel.

mod assign;
mod backlog;
mod captured_output;
mod child;
mod connection;
#[cfg(feature = "cluster")]
mod crew;
#[cfg(feature = "cluster")]
mod crews;
mod delivery;
pub(crate) mod driver;
mod ends;
pub(crate) mod events;
#[cfg(feature = "cluster")]
mod handshakes;
mod heartbeats;
mod killed_launchers;
mod labels;
pub(crate) mod launch;
mod launched;
pub(crate) mod leader;
mod line_stream;
#[cfg(feature = "cluster")]
mod listener;
#[cfg(feature = "log")]
mod logs;
mod looks;
pub(crate) mod memories;
mod outcome;
mod peer;
mod poller;
mod queries;
mod queued;
mod relay;
mod remote;
pub(crate) mod scheduler;
mod seats;
pub(crate) mod shared;
pub(crate) mod slot;
mod standard_error;
mod standby;
mod start_attempts;
mod suspension;
mod termination;
mod threads;
mod unwatched;
