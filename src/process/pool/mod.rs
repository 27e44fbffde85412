//! The program's end of the channel.

mod assign;
pub(crate) mod driver;
mod ends;
pub(crate) mod launch;
mod launched;
mod peer;
mod poller;
mod pulses;
mod queued;
mod relay;
pub(crate) mod remote;
mod roster;
pub(crate) mod scheduler;
pub(crate) mod shared;
pub(crate) mod slot;
mod standstill;
mod starts;
pub(crate) mod terms;
mod verdict;
