//! The program's end of the channel.

pub(crate) mod launch;
pub(crate) mod remote;
pub(crate) mod scheduler;
pub(crate) mod supervisor;
