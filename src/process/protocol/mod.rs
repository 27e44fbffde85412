//! What both ends of the channel share.

pub(crate) mod channel;
pub(crate) mod descriptor;
pub(crate) mod link;
#[cfg(target_os = "linux")]
pub(crate) mod memory;
#[cfg(not(target_os = "linux"))]
#[path = "no_memory.rs"]
pub(crate) mod memory;
pub(crate) mod page;
pub(crate) mod pulse;
pub(crate) mod wake_pipe;
pub(crate) mod wire;
