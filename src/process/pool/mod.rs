//! The program's end of the channel.

mod assign;
mod backlog;
mod census;
mod child;
mod connection;
#[cfg(feature = "cluster")]
mod crew;
#[cfg(feature = "cluster")]
mod crews;
pub(crate) mod driver;
mod ending;
mod ends;
mod labels;
pub(crate) mod launch;
mod launched;
pub(crate) mod leader;
mod line_stream;
#[cfg(feature = "cluster")]
mod lobby;
#[cfg(feature = "log")]
mod logs;
mod looks;
mod peer;
mod poller;
mod pulses;
mod queued;
#[cfg(feature = "cluster")]
mod reception;
mod relay;
mod remark;
mod remnants;
mod remote;
mod roster;
pub(crate) mod scheduler;
pub(crate) mod shared;
pub(crate) mod slot;
mod spoken;
mod standby;
mod standstill;
mod starts;
mod telling;
pub(crate) mod terms;
mod threads;
mod unwatched;
mod verdict;
pub(crate) mod windows;
