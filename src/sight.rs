//! Plain data: what one process tells another of a task.

/// What is known of a task in another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) n: u64,
    pub(crate) total: u64,
    /// For how long it has been running, in nanoseconds.
    pub(crate) elapsed: u64,
    /// It waits because it is paused.
    pub(crate) is_halted: bool,
    /// It knows that it is cancelled.
    pub(crate) has_noticed: bool,
    /// The message, where there is another one than before.
    pub(crate) message: Option<String>,
}
