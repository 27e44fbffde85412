//! Where bars are shown, and how each of these places takes lines.

use std::env;
use std::io::{self, Write};
use std::sync::Arc;

use console::{Term, colors_enabled_stderr};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::future::text::printable;
use crate::group::bars::plain::Plain;
use crate::group::bars::terminal::{Block, Terminal, standard_error};
use crate::task::lines::write_to_stderr;

/// The rows that are not for tasks: the line for all of them, and the row of the cursor.
const OTHER_ROWS: usize = 2;
/// The columns of a terminal of unknown width: few enough for most.
const NARROW: usize = 60;

/// Where progress is shown.
pub(super) enum Target {
    Terminal(Block),
    Others(Others),
    Plain(Plain),
}

/// Lines among the other bars of a `MultiProgress`.
pub(super) struct Others {
    all: MultiProgress,
    /// Holds all lines, since `indicatif` draws at each change.
    bar: ProgressBar,
    rows: usize,
    lines: String,
    pub(super) shown: String,
    /// How many callers have suspended it: whatever is asked of `all` or `bar` meanwhile would wait for them.
    suspended: usize,
    /// How it is to end, if it is.
    end: Option<End>,
}

#[derive(Clone, Copy)]
enum End {
    Leave,
    Clear,
}

/// A screen that can be used without the lock of the bars.
pub(super) enum Handle {
    Terminal(Arc<Terminal>),
    Others(MultiProgress),
    Plain,
}

impl Target {
    /// Standard error, or lines if that is not a terminal.
    pub(super) fn standard_error() -> Self {
        match standard_error() {
            Some(terminal) => Self::Terminal(terminal.new_block()),
            None => Self::Plain(Plain::new(Box::new(io::stderr()), has_colours(), true)),
        }
    }

    /// At most this many rows among the bars of `all`.
    pub(super) fn others(all: MultiProgress, rows: usize) -> Self {
        let bar = all.add(ProgressBar::no_length());
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
        let (lines, shown) = (String::new(), String::new());
        Self::Others(Others { all, bar, rows, lines, shown, suspended: 0, end: None })
    }

    /// A line for each start and each end.
    pub(super) fn lines(out: Box<dyn Write + Send>) -> Self {
        Self::Plain(Plain::new(out, are_colours_forced(), false))
    }

    pub(super) fn handle(&self) -> Handle {
        match self {
            Self::Terminal(block) => Handle::Terminal(block.terminal().clone()),
            Self::Others(others) => Handle::Others(others.all.clone()),
            Self::Plain(_) => Handle::Plain,
        }
    }

    /// Whether it draws nothing, and would drop lines.
    pub(super) fn is_hidden(&self) -> bool {
        matches!(self, Self::Others(others) if others.suspended > 0 || others.all.is_hidden())
    }

    /// Notes that a caller suspends the bars from now on, or no longer. A terminal counts by itself.
    pub(super) fn note_suspended(&mut self, is_suspended: bool) {
        if let Self::Others(others) = self {
            others.suspended = if is_suspended { others.suspended + 1 } else { others.suspended.saturating_sub(1) };
            others.draw();
        }
    }

    /// Shows `text` above the bars, with or without a newline at its end.
    pub(super) fn println(&mut self, text: &str) {
        if self.is_hidden() {
            return write_to_stderr(&printable_lines(text));
        }
        match self {
            Self::Terminal(block) => block.terminal().println(text),
            Self::Others(others) => {
                // An error means that the output has no reader.
                let _ = others.all.println(printable_lines(text) + "\n");
            }
            Self::Plain(plain) => plain.say(&printable_lines(text)),
        }
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        match self {
            Self::Terminal(block) => block.size(),
            Self::Others(others) => {
                let columns = [Term::stderr(), Term::stdout()].iter().find_map(|term| term.size_checked());
                let rows = others.rows.saturating_sub(OTHER_ROWS).max(1) + 1;
                (rows, columns.map_or(NARROW, |(_, columns)| columns.into()))
            }
            Self::Plain(_) => (usize::MAX, usize::MAX),
        }
    }

    /// Returns whether the lines are drawn, and not only in the next frame. If they are the last ones, they are.
    pub(super) fn show(&mut self, lines: Vec<String>, are_last: bool) -> bool {
        match self {
            Self::Terminal(block) => return block.show(lines, are_last),
            Self::Others(others) => {
                others.lines = lines.join("\n");
                others.draw();
            }
            Self::Plain(_) => {}
        }
        true
    }

    /// Removes what is shown, for good.
    pub(super) fn clear(&mut self) {
        match self {
            Self::Terminal(block) => block.clear(),
            Self::Others(others) => {
                others.lines.clear();
                others.end(End::Clear);
            }
            Self::Plain(_) => {}
        }
    }

    /// Leaves what is shown where it is.
    pub(super) fn leave(&mut self) {
        match self {
            Self::Terminal(block) => block.finish(),
            Self::Others(others) => others.end(End::Leave),
            Self::Plain(_) => {}
        }
    }

    /// Draws lines that wait for the next frame, if that is due. Returns whether they are drawn.
    pub(super) fn draw_if_due(&self) -> bool {
        if let Self::Terminal(block) = self { block.draw_if_due() } else { true }
    }
}

impl Others {
    fn end(&mut self, end: End) {
        self.end = Some(end);
        self.draw();
    }

    /// Draws the lines, unless the bars are suspended.
    fn draw(&mut self) {
        if self.suspended > 0 {
            return;
        }
        if self.lines != self.shown {
            self.shown.clone_from(&self.lines);
            self.bar.set_message(self.lines.clone());
        }
        match self.end.take() {
            Some(End::Leave) => self.bar.abandon(),
            Some(End::Clear) => {
                self.bar.finish_and_clear();
                self.all.remove(&self.bar);
            }
            None => {}
        }
    }
}

fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// `NO_COLOR` takes precedence over all other variables.
pub(super) fn has_colours() -> bool {
    let is_unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !is_unwanted && colors_enabled_stderr()
}

/// Whether colours are wanted wherever the text goes.
pub(super) fn are_colours_forced() -> bool {
    has_colours() && env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0")
}
