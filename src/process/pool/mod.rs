//! The program's end of the channel.

mod assign;
pub(crate) mod driver;
mod ends;
pub(crate) mod launch;
mod poller;
mod queued;
pub(crate) mod remote;
pub(crate) mod scheduler;
pub(crate) mod shared;
mod slot;
mod standstill;
mod starts;
mod terms;
mod verdict;
