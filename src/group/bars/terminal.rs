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
//! No line reaches the last column, and the cursor stands below the lines. So nothing wraps, and what the terminal itself
//! shows, such as `^C`, damages no line: a frame is one write, and Linux inserts nothing into a write of up to 2 kB except
//! where a new line begins. So line feeds make room first, and the drawing that follows moves between lines that exist.
//!
//! Most terminals that become narrower wrap the existing lines: how many rows the lines of the last frame then take
//! can be computed. A terminal that cuts them off instead, as xterm does, loses that many rows of the text above.
//!
//! The drawing of `indicatif` is deliberately not used: it fills each line to its end and lets it wrap.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use console::{Term, strip_ansi_codes, truncate_str};

use crate::future::text::printable;
use crate::group::bars::job::JobControl;
use crate::group::bars::layout::width;
use crate::group::bars::stop_detector::StopDetector;
use crate::task::lines;

const ERASE_REST: &str = "\x1b[K";
const END_OF_LINE: &str = "\r\n";
/// To a line that exists.
const NEXT_LINE: &str = "\r\x1b[B";
/// Lines that are too wide are cut off, or continue in the next row.
const CUT: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";
/// The size of a terminal that does not report it.
const ROWS: usize = 24;
const COLUMNS: usize = 80;
/// The time between two drawings.
pub(super) const FRAME: Duration = Duration::from_millis(50);
/// The columns that `^C` takes.
const KEY_ECHO: usize = 2;

/// Standard error, if that is a terminal on which lines can be redrawn.
pub(super) fn standard_error() -> Option<Arc<Terminal>> {
    static STANDARD_ERROR: LazyLock<Option<Arc<Terminal>>> = LazyLock::new(|| {
        let term = Term::stderr();
        (term.is_term() && !console::is_dumb()).then(|| {
            lines::keep_off_bars(|line| standard_error().is_some_and(|terminal| terminal.println_above(line)));
            Arc::new(Terminal { term, screen: Mutex::default(), stop_detector: Arc::default() })
        })
    });
    STANDARD_ERROR.clone()
}

#[derive(Debug)]
pub(super) struct Terminal {
    term: Term,
    screen: Mutex<Screen>,
    stop_detector: Arc<StopDetector>,
}

#[derive(Debug, Default)]
struct Screen {
    blocks: Vec<(u64, Vec<String>)>,
    created: u64,
    /// The widths of the lines that were drawn, and in how many columns.
    drawn: Vec<usize>,
    columns: usize,
    drawn_at: Option<Instant>,
    /// Whether lines have changed since then.
    is_dirty: bool,
    /// Whether the cursor stands at the end of the last line, because there is no row below it.
    is_last_row: bool,
    /// How many callers have suspended the bars.
    suspended: usize,
    job: JobControl,
    /// Whether the shell has the terminal, and nothing may be drawn on it.
    is_in_background: bool,
}

/// Lines that belong together, until this is dropped.
#[derive(Debug)]
pub(super) struct Block {
    terminal: Arc<Terminal>,
    id: u64,
}

impl Terminal {
    /// A block below all others, without lines yet.
    pub(super) fn new_block(self: &Arc<Self>) -> Block {
        let mut screen = self.lock();
        screen.created += 1;
        let id = screen.created;
        screen.blocks.push((id, Vec::new()));
        Block { terminal: self.clone(), id }
    }

    /// Writes a line above the bars, if there are any.
    fn println_above(&self, line: &str) -> bool {
        let mut screen = self.lock();
        let has_bars = screen.has_lines();
        if has_bars {
            self.write(&mut screen, line);
        }
        has_bars
    }

    pub(super) fn println(&self, text: &str) {
        self.write(&mut self.lock(), text);
    }

    /// Removes the bars while `f` runs.
    pub(super) fn suspend<R>(&self, f: impl FnOnce() -> R) -> R {
        /// Even if `f` panics.
        struct Resume<'a>(&'a Terminal);
        impl Drop for Resume<'_> {
            fn drop(&mut self) {
                let mut screen = self.0.lock();
                screen.suspended -= 1;
                self.0.draw(&mut screen, "");
            }
        }
        let mut screen = self.lock();
        self.leave_to_the_shell(&mut screen);
        if !screen.is_in_background {
            emit(&screen.clear(self.size()));
        }
        screen.suspended += 1;
        // Not held while `f` runs, which may write something.
        drop(screen);
        let _resume = Resume(self);
        f()
    }

    fn write(&self, screen: &mut Screen, text: &str) {
        let lines: String = text.lines().map(|line| printable(line) + END_OF_LINE).collect();
        self.draw(screen, if lines.is_empty() { END_OF_LINE } else { &lines });
    }

    /// Draws all lines below a text that stays. Writes only that text if nothing may be drawn.
    fn draw(&self, screen: &mut Screen, text: &str) {
        self.leave_to_the_shell(screen);
        if screen.suspended > 0 || screen.is_in_background {
            emit(text);
            return;
        }
        let size @ (rows, columns) = self.size();
        // Text may skip columns, or wrap before the last one; and a terminal that was made narrower has wrapped lines
        // that were too wide. If no lines are left, the end of the frame would erase the old ones at once.
        let needs_erasing = !text.is_empty() || columns < screen.columns || !screen.has_lines();
        let mut frame = if needs_erasing { screen.clear(size) } else { up(screen.height(columns)) };
        frame += text;
        let lines: Vec<&String> = screen.blocks.iter().flat_map(|(_, lines)| lines).collect();
        // The last lines say most.
        let shown = &lines[lines.len().saturating_sub(rows.saturating_sub(1).max(1))..];
        screen.is_last_row = rows == 1;
        screen.drawn.clear();
        if !screen.is_last_row {
            frame += &[END_OF_LINE.repeat(shown.len()), up(shown.len())].concat();
        }
        // The terminal may have become narrower without having said so yet. Lines that are cut off still take one row
        // each, as is assumed here.
        frame += CUT;
        for line in shown {
            // Some lines were made when the terminal was wider.
            let line = truncate_str(line, columns - 1, "");
            screen.drawn.push(width(&strip_ansi_codes(&line)));
            // The whole line is erased first: some terminals wrap columns that were erased like text.
            frame += ERASE_REST;
            frame += &line;
            frame += if screen.is_last_row { "" } else { NEXT_LINE };
        }
        frame += WRAP;
        frame += "\x1b[J";
        (screen.columns, screen.drawn_at, screen.is_dirty) = (columns, Some(Instant::now()), false);
        emit(&frame);
    }

    /// Draws what has changed, if that is due or urgent. Returns whether it is drawn.
    fn draw_if_due(&self, screen: &mut Screen, is_urgent: bool) -> bool {
        let is_due = screen.drawn_at.is_none_or(|drawn_at| drawn_at.elapsed() >= FRAME);
        if screen.is_dirty && (is_due || is_urgent) {
            self.draw(screen, "");
        }
        // If nothing may be drawn now, all lines are drawn as soon as something may be.
        !screen.is_dirty || screen.suspended > 0 || screen.is_in_background
    }

    /// If the program was stopped or in the background, the shell has written an unknown number of lines below the bars:
    /// those bars are left as they are. Returns whether the bars have to be drawn anew.
    fn leave_to_the_shell(&self, screen: &mut Screen) -> bool {
        let was_in_background = mem::replace(&mut screen.is_in_background, screen.job.is_in_background());
        let is_left = self.stop_detector.take_stop() || was_in_background;
        if is_left {
            screen.drawn.clear();
        }
        is_left
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
    fn has_lines(&self) -> bool {
        self.blocks.iter().any(|(_, lines)| !lines.is_empty())
    }

    /// How many lines the cursor is below the first one that was drawn.
    fn height(&self, columns: usize) -> usize {
        let rows: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        rows - usize::from(self.is_last_row && rows > 0)
    }

    /// Erases the lines that were drawn, and moves the cursor to where the first one was. Line by line, as some
    /// terminals keep what is erased at once.
    fn clear(&mut self, (rows, columns): (usize, usize)) -> String {
        // Lines that have left the screen because it was made lower cannot be erased.
        let height = self.height(columns).min(rows - 1);
        self.drawn.clear();
        let erased = [ERASE_REST, NEXT_LINE].concat().repeat(height);
        up(height) + &erased + ERASE_REST + &up(height)
    }

    fn remove(&mut self, id: u64) -> Option<Vec<String>> {
        let found = self.blocks.iter().position(|(block, _)| *block == id)?;
        Some(self.blocks.remove(found).1).filter(|lines| !lines.is_empty())
    }

    /// Stops drawing these lines, which stay where they are. Returns whether that is possible: they must stand, as a whole,
    /// above all others that are drawn.
    fn leave(&mut self, lines: &[String]) -> bool {
        let others: usize = self.blocks.iter().map(|(_, lines)| lines.len()).sum();
        let widths = lines.iter().map(|line| width(&strip_ansi_codes(line)));
        let is_first = !self.is_last_row
            && !self.is_dirty
            && self.drawn.len() == lines.len() + others
            && self.drawn.iter().copied().zip(widths).all(|(drawn, width)| drawn == width);
        if is_first {
            self.drawn.drain(..lines.len());
        }
        is_first
    }
}

impl Block {
    /// The number of rows for this block, and of columns.
    pub(super) fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.terminal.size();
        let screen = self.terminal.lock();
        // If the cursor stands at the end of the line, `^C` needs room there.
        let columns = if rows == 1 { columns.saturating_sub(KEY_ECHO).max(1) } else { columns };
        // One row is for the cursor.
        let rows = rows.saturating_sub(1);
        let others: usize = screen.blocks.iter().filter(|(id, _)| *id != self.id).map(|(_, lines)| lines.len()).sum();
        let share = rows / screen.blocks.len().max(1);
        (rows.saturating_sub(others).max(share).max(1), columns)
    }

    /// Shows these lines from now on: from the next frame on, unless they are the first ones or the last ones. Returns
    /// whether that frame is drawn.
    pub(super) fn show(&self, lines: Vec<String>, are_last: bool) -> bool {
        let mut screen = self.terminal.lock();
        let is_left = self.terminal.leave_to_the_shell(&mut screen);
        let Some((_, shown)) = screen.blocks.iter_mut().find(|(id, _)| *id == self.id) else { return true };
        let before = mem::replace(shown, lines);
        let has_changed = before != *shown;
        screen.is_dirty |= is_left || has_changed;
        self.terminal.draw_if_due(&mut screen, is_left || are_last || before.is_empty())
    }

    /// Draws the next frame if it is due. Returns whether it is drawn, perhaps by others.
    pub(super) fn draw_if_due(&self) -> bool {
        let mut screen = self.terminal.lock();
        let is_left = self.terminal.leave_to_the_shell(&mut screen);
        screen.is_dirty |= is_left;
        self.terminal.draw_if_due(&mut screen, is_left)
    }

    pub(super) fn terminal(&self) -> &Arc<Terminal> {
        &self.terminal
    }
}

/// What it shows stays above what is drawn from now on; so does what was written below it, if it was the last.
impl Drop for Block {
    fn drop(&mut self) {
        let mut screen = self.terminal.lock();
        let is_first = screen.blocks.iter().take_while(|(id, _)| *id != self.id).all(|(_, lines)| lines.is_empty());
        if let Some(lines) = screen.remove(self.id).filter(|lines| !is_first || !screen.leave(lines)) {
            let text: String = lines.iter().map(|line| format!("{line}{END_OF_LINE}")).collect();
            self.terminal.draw(&mut screen, &text);
        }
    }
}

/// Moves the cursor up, to the first column.
fn up(rows: usize) -> String {
    if rows == 0 { "\r".into() } else { format!("\r\x1b[{rows}A") }
}

fn emit(frame: &str) {
    if frame.is_empty() {
        return;
    }
    let mut out = io::stderr().lock();
    // An error means that the output has no reader.
    let _ = out.write_all(frame.as_bytes()).and_then(|()| out.flush());
}
