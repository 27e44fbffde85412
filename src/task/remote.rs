//! Plain data: what one process tells another of a task.

use std::sync::Arc;

/// How far something has come: what was counted, and the part of the next unit that is done, from 0 to less than 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Position {
    pub(crate) n: u64,
    pub(crate) total: u64,
    pub(crate) part: f64,
}

/// What is known of a task in another process.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RemoteSnapshot {
    pub(crate) position: Position,
    /// How long it has been running, in nanoseconds.
    pub(crate) elapsed: u64,
    /// Whether it waits because it is paused.
    pub(crate) is_halted: bool,
    /// Whether it knows that it is cancelled.
    pub(crate) has_noticed: bool,
    /// Whether it has made no progress call since its start, or since the program last asked about that.
    pub(crate) is_silent: bool,
    /// The named parts under way.
    pub(crate) parts: Box<[RemotePart]>,
    /// The message, if it has changed.
    pub(crate) message: Option<Box<str>>,
}

/// A part of a task's work that has a name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RemotePart {
    pub(crate) name: Arc<str>,
    pub(crate) position: Position,
    /// How many of the other named parts it is nested in.
    pub(crate) depth: u8,
}

/// Something that was logged in another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteLog {
    /// From 1 for an error to 5 for a trace.
    pub(crate) level: u8,
    pub(crate) target: String,
    pub(crate) text: String,
}

/// How far a task has come, and what it says, to be recorded.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "it is recorded in memory that is shared, on Linux only")]
pub(crate) struct Said<'a> {
    pub(crate) position: Position,
    pub(crate) message: Option<&'a str>,
    /// Whether the count is spread over parts or threads: then nothing but this says how far the task has come.
    pub(crate) is_spread: bool,
}

/// What a task has said last in another process, as recorded there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// The id of the task in the program.
    pub(crate) task: u64,
    pub(crate) position: Position,
    pub(crate) message: Option<RecordedMessage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedMessage {
    pub(crate) text: String,
    /// Whether there was no room for the rest.
    pub(crate) is_cut: bool,
}

impl RecordedMessage {
    /// Whether it is more than the beginning of what was heard before.
    pub(crate) fn says_more_than(&self, heard: Option<&str>) -> bool {
        !(self.is_cut && heard.is_some_and(|heard| heard.starts_with(&self.text)))
    }
}

/// The longest beginning of a text that fits into `room` bytes, cut between characters.
pub(crate) fn beginning(text: &str, room: usize) -> &str {
    if text.len() <= room {
        return text;
    }
    let end = (0..=room).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::{RecordedMessage, beginning};

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(["", "ß", "ßx", "ßxß"].map(|text| beginning(text, 3)), ["", "ß", "ßx", "ßx"]);
        assert_eq!(beginning("ßß", 3), "ß");
        assert_eq!(beginning("ß", 1), "");
    }

    #[test]
    fn only_the_beginning_of_what_was_heard_says_no_more() {
        let says_more = |is_cut, heard| RecordedMessage { text: "file 1".into(), is_cut }.says_more_than(heard);
        assert!(!says_more(true, Some("file 12")));
        assert!(says_more(false, Some("file 12")), "it is another message");
        assert!(says_more(true, Some("file 2")));
        assert!(says_more(true, None));
    }
}
