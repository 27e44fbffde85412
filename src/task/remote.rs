//! Plain data: what one process tells another of a task.

/// What is known of a task in another process.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RemoteSnapshot {
    pub(crate) n: u64,
    pub(crate) total: u64,
    /// How much of the next unit is done, from 0 to less than 1.
    pub(crate) part: f64,
    /// For how long it has been running, in nanoseconds.
    pub(crate) elapsed: u64,
    /// It waits because it is paused.
    pub(crate) is_halted: bool,
    /// It knows that it is cancelled.
    pub(crate) has_noticed: bool,
    /// It has made no progress call since it was started, or since somebody wanted to know.
    pub(crate) is_silent: bool,
    /// The message, where there is another one than before.
    pub(crate) message: Option<String>,
}
