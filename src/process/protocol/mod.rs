//! What both ends of the channel share.

pub(crate) mod alarm;
pub(crate) mod channel;
pub(crate) mod descriptor;
pub(crate) mod heartbeat;
#[cfg(feature = "cluster")]
pub(crate) mod invitation;
pub(crate) mod link;
#[cfg_attr(
    not(all(target_os = "linux", target_pointer_width = "64")),
    expect(dead_code, reason = "only memory that is shared can be looked at")
)]
pub(crate) mod live;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) mod memory;
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
#[path = "no_memory.rs"]
pub(crate) mod memory;
#[cfg(feature = "cluster")]
pub(crate) mod noise;
pub(crate) mod page;
#[cfg(feature = "cluster")]
pub(crate) mod sealed;
pub(crate) mod signature;
pub(crate) mod wake_pipe;
pub(crate) mod wire;
