//! The lines at the bottom of the terminal that is standard error: those of all bars of this process, and what is written
//! above them.
//!
//! ```text
//!   what was written before, and scrolls away
//!   a line of bars                               ┐
//!   a line of bars                               ├ drawn anew whenever something has changed
//!   a line of other bars                         ┘
//!   █                                              the cursor
//! ```
//!
//! No line reaches the last column, and the cursor stands below them: so nothing wraps, and what the terminal shows of its
//! own, as `^C`, harms no line. A frame is one write, so that nothing comes in between.
//!
//! Deliberately not that of `indicatif`, which fills each line to its end and lets it wrap.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use console::Term;

use crate::future::text::printable;
use crate::group::bars::layout::width;
use crate::task::lines;

/// Erases what there was in the rest of the line.
const END_OF_LINE: &str = "\x1b[K\r\n";
/// Of a terminal that does not say how large it is.
const ROWS: usize = 24;
const COLUMNS: usize = 80;

/// Standard error, where that is a terminal that lines can be drawn on again.
pub(super) fn standard_error() -> Option<Arc<Terminal>> {
    static STANDARD_ERROR: LazyLock<Option<Arc<Terminal>>> = LazyLock::new(|| {
        let term = Term::stderr();
        (term.is_term() && !console::is_dumb()).then(|| {
            lines::keep_off_bars(|line| standard_error().is_some_and(|terminal| terminal.println_above(line)));
            Arc::new(Terminal { term, screen: Mutex::default() })
        })
    });
    STANDARD_ERROR.clone()
}

#[derive(Debug)]
pub(super) struct Terminal {
    term: Term,
    screen: Mutex<Screen>,
}

#[derive(Debug, Default)]
struct Screen {
    blocks: BTreeMap<u64, Vec<String>>,
    created: u64,
    /// How wide the lines are that were drawn, and in how many columns.
    drawn: Vec<usize>,
    columns: usize,
    /// Whether the cursor stands at the end of the last line, for there is no other below it.
    is_last_row: bool,
    /// How many want the terminal for themselves.
    suspended: usize,
}

/// Lines that belong together; gone when this is dropped.
#[derive(Debug)]
pub(super) struct Block {
    terminal: Arc<Terminal>,
    id: u64,
}

impl Terminal {
    /// Lines below all others; none yet.
    pub(super) fn new_block(self: &Arc<Self>) -> Block {
        let mut screen = self.lock();
        screen.created += 1;
        let id = screen.created;
        screen.blocks.insert(id, Vec::new());
        Block { terminal: self.clone(), id }
    }

    /// Writes a line above the bars, if there are any.
    fn println_above(&self, line: &str) -> bool {
        let mut screen = self.lock();
        let has_bars = screen.blocks.values().any(|lines| !lines.is_empty());
        if has_bars {
            self.write(&mut screen, line);
        }
        has_bars
    }

    pub(super) fn println(&self, text: &str) {
        self.write(&mut self.lock(), text);
    }

    /// Takes the bars away while `f` runs.
    pub(super) fn suspend<R>(&self, f: impl FnOnce() -> R) -> R {
        /// Also where `f` panics.
        struct Resume<'a>(&'a Terminal);
        impl Drop for Resume<'_> {
            fn drop(&mut self) {
                let mut screen = self.0.lock();
                screen.suspended -= 1;
                self.0.draw(&mut screen, "");
            }
        }
        let mut screen = self.lock();
        emit(&screen.clear(self.size().1));
        screen.suspended += 1;
        // Not held while `f` runs, which may have something to write.
        drop(screen);
        let _resume = Resume(self);
        f()
    }

    fn write(&self, screen: &mut Screen, text: &str) {
        let (_, columns) = self.size();
        let ended = |line: String| {
            let width = width(&console::strip_ansi_codes(&line));
            // Behind the last column the cursor still stands on it, and would erase it.
            let is_full = width > 0 && width % columns == 0;
            line + if is_full { "\r\n" } else { END_OF_LINE }
        };
        let text: String = text.lines().map(|line| ended(printable(line))).collect();
        self.put(screen, if text.is_empty() { END_OF_LINE } else { &text });
    }

    /// Writes lines that stay.
    fn put(&self, screen: &mut Screen, text: &str) {
        if screen.suspended > 0 { emit(text) } else { self.draw(screen, text) }
    }

    /// Draws all lines, below a text that stays.
    fn draw(&self, screen: &mut Screen, text: &str) {
        if screen.suspended > 0 {
            return;
        }
        let (rows, columns) = self.size();
        // Where the terminal was made narrower, it has wrapped what was too wide.
        let is_wrapped = columns < screen.columns;
        let mut frame = if is_wrapped { screen.clear(columns) } else { screen.go_to_top(columns) };
        frame += text;
        let lines: Vec<&String> = screen.blocks.values().flatten().collect();
        // The last lines are those that tell most.
        let shown = &lines[lines.len().saturating_sub(rows.saturating_sub(1).max(1))..];
        screen.is_last_row = rows == 1;
        for line in shown {
            frame += line;
            frame += if screen.is_last_row { "\x1b[K" } else { END_OF_LINE };
        }
        frame += "\x1b[J";
        screen.drawn = shown.iter().map(|line| width(&console::strip_ansi_codes(line))).collect();
        screen.columns = columns;
        emit(&frame);
    }

    /// Rows and columns.
    fn size(&self) -> (usize, usize) {
        let known = self.term.size_checked().filter(|&(rows, columns)| rows > 0 && columns > 0);
        known.map_or((ROWS, COLUMNS), |(rows, columns)| (rows.into(), columns.into()))
    }

    fn lock(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Screen {
    /// How many lines the cursor is below the first one that was drawn.
    fn height(&self, columns: usize) -> usize {
        let rows: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        rows - usize::from(self.is_last_row && rows > 0)
    }

    /// Moves the cursor to the first line that was drawn.
    fn go_to_top(&self, columns: usize) -> String {
        up(self.height(columns))
    }

    /// The same, and takes the lines away: one by one, for some terminals keep what is erased as a whole.
    fn clear(&mut self, columns: usize) -> String {
        let rows = self.height(columns);
        self.drawn.clear();
        up(rows) + &END_OF_LINE.repeat(rows) + "\x1b[K" + &up(rows)
    }

    fn remove(&mut self, id: u64) -> Option<Vec<String>> {
        self.blocks.remove(&id).filter(|lines| !lines.is_empty())
    }
}

impl Block {
    /// How many rows there are for this, and how many columns.
    pub(super) fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.terminal.size();
        let screen = self.terminal.lock();
        // One for the cursor.
        let rows = rows.saturating_sub(1);
        let others: usize = screen.blocks.iter().filter(|(id, _)| **id != self.id).map(|(_, lines)| lines.len()).sum();
        let share = rows / screen.blocks.len().max(1);
        (rows.saturating_sub(others).max(share).max(1), columns)
    }

    /// Shows these lines from now on.
    pub(super) fn show(&self, lines: Vec<String>) {
        let mut screen = self.terminal.lock();
        let before = screen.blocks.insert(self.id, lines);
        if before.as_ref() != screen.blocks.get(&self.id) {
            self.terminal.draw(&mut screen, "");
        }
    }

    pub(super) fn terminal(&self) -> &Arc<Terminal> {
        &self.terminal
    }
}

/// What it shows stays, above what is drawn from now on.
impl Drop for Block {
    fn drop(&mut self) {
        let mut screen = self.terminal.lock();
        if let Some(lines) = screen.remove(self.id) {
            let text: String = lines.iter().map(|line| format!("{line}{END_OF_LINE}")).collect();
            self.terminal.put(&mut screen, &text);
        }
    }
}

/// Moves the cursor up, to the first column.
fn up(rows: usize) -> String {
    if rows == 0 { "\r".into() } else { format!("\r\x1b[{rows}A") }
}

fn emit(frame: &str) {
    let mut out = io::stderr().lock();
    // Where nobody looks any more, nothing is drawn.
    let _ = out.write_all(frame.as_bytes()).and_then(|()| out.flush());
}
