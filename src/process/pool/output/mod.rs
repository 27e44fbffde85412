//! What workers and launchers write, on its way to the user.

pub(super) mod captured;
mod labels;
pub(super) mod line_stream;
#[cfg(feature = "log")]
mod logs;
pub(super) mod relay;
mod standard_error;
