//! What both ends of the channel share.

pub(crate) mod channel;
#[cfg(target_os = "linux")]
pub(crate) mod journal;
#[cfg(not(target_os = "linux"))]
#[path = "no_journal.rs"]
pub(crate) mod journal;
pub(crate) mod wire;
