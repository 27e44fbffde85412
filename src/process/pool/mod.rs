//! The program's end of the channel.

pub(crate) mod driver;
pub(crate) mod launch;
mod poller;
pub(crate) mod remote;
pub(crate) mod scheduler;
