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
    blocks: Vec<Lines>,
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

/// The lines of a block.
#[derive(Debug)]
struct Lines {
    id: u64,
    lines: Vec<String>,
    /// Whether all of them are drawn.
    are_drawn: bool,
    /// Whether they stay as they are. Once something else is drawn, they are left where they are, as the program may have written
    /// something below them.
    are_final: bool,
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
        screen.blocks.push(Lines { id, lines: Vec::new(), are_drawn: false, are_final: false });
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
        screen.leave_final_lines();
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
        screen.leave_final_lines();
        let size @ (rows, columns) = self.size();
        // Text may skip columns, or wrap before the last one; and a terminal that was made narrower has wrapped lines
        // that were too wide. If no lines are left, the end of the frame would erase the old ones at once.
        let needs_erasing = !text.is_empty() || columns < screen.columns || !screen.has_lines();
        let mut frame = if needs_erasing { screen.clear(size) } else { up(screen.height(columns)) };
        frame += text;
        let lines: Vec<&String> = screen.blocks.iter().flat_map(|block| &block.lines).collect();
        // The last lines say most.
        let hidden = lines.len().saturating_sub(rows.saturating_sub(1).max(1));
        let shown = &lines[hidden..];
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
        screen.note_drawn(hidden);
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
        self.blocks.iter().any(|block| !block.lines.is_empty())
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
        self.blocks.iter_mut().for_each(|block| block.are_drawn = false);
        let erased = [ERASE_REST, NEXT_LINE].concat().repeat(height);
        up(height) + &erased + ERASE_REST + &up(height)
    }

    /// Notes that all lines but the first `hidden` ones are drawn.
    fn note_drawn(&mut self, hidden: usize) {
        let mut before = 0;
        for block in &mut self.blocks {
            block.are_drawn = before >= hidden;
            before += block.lines.len();
        }
    }

    /// Stops drawing the first lines if they are final, and leaves them where they are.
    fn leave_final_lines(&mut self) {
        // Without a row below them, the cursor stands in them.
        if self.is_last_row {
            return;
        }
        let is_left = |block: &&mut Lines| block.are_drawn && (block.are_final || block.lines.is_empty());
        let mut left = 0;
        for block in self.blocks.iter_mut().take_while(is_left) {
            left += mem::take(&mut block.lines).len();
        }
        // The shell may have been left more already.
        self.drawn.drain(..left.min(self.drawn.len()));
    }

    fn block(&mut self, id: u64) -> Option<&mut Lines> {
        self.blocks.iter_mut().find(|block| block.id == id)
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
        let others: usize =
            screen.blocks.iter().filter(|block| block.id != self.id).map(|block| block.lines.len()).sum();
        let share = rows / screen.blocks.len().max(1);
        (rows.saturating_sub(others).max(share).max(1), columns)
    }

    /// Shows these lines from now on: from the next frame on, unless they are the first ones or the last ones. Returns
    /// whether that frame is drawn.
    pub(super) fn show(&self, lines: Vec<String>, are_last: bool) -> bool {
        let mut screen = self.terminal.lock();
        let is_left = self.terminal.leave_to_the_shell(&mut screen);
        if !lines.is_empty() {
            self.begin_anew(&mut screen);
        } else if screen.block(self.id).is_some_and(|block| block.are_final) {
            // There is nothing to begin with yet.
            return true;
        }
        self.replace(&mut screen, lines, is_left, are_last)
    }

    /// Removes what it shows, even if that is final.
    pub(super) fn clear(&self) {
        let mut screen = self.terminal.lock();
        let is_left = self.terminal.leave_to_the_shell(&mut screen);
        self.replace(&mut screen, Vec::new(), is_left, true);
    }

    fn replace(&self, screen: &mut Screen, lines: Vec<String>, is_left: bool, is_urgent: bool) -> bool {
        let Some(shown) = screen.block(self.id) else { return true };
        let before = mem::replace(&mut shown.lines, lines);
        let has_changed = before != shown.lines;
        shown.are_drawn &= !has_changed;
        screen.is_dirty |= is_left || has_changed;
        self.terminal.draw_if_due(screen, is_left || is_urgent || before.is_empty())
    }

    /// What it shows stays as it is, above what is drawn from now on; so does what was written below it, if it is the first.
    pub(super) fn finish(&self) {
        self.terminal.lock().block(self.id).into_iter().for_each(|block| block.are_final = true);
    }

    /// Leaves the final lines where they are, if there are any, or moves them above all others.
    fn begin_anew(&self, screen: &mut Screen) {
        if !screen.block(self.id).is_some_and(|block| block.are_final) {
            return;
        }
        screen.leave_final_lines();
        let lines = screen.block(self.id).map(|block| mem::take(&mut block.lines)).unwrap_or_default();
        if !lines.is_empty() {
            let text: String = lines.iter().map(|line| format!("{line}{END_OF_LINE}")).collect();
            self.terminal.draw(screen, &text);
        }
        screen.block(self.id).into_iter().for_each(|block| block.are_final = false);
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

/// Like [`finish`](Self::finish).
impl Drop for Block {
    fn drop(&mut self) {
        self.finish();
        let mut screen = self.terminal.lock();
        self.begin_anew(&mut screen);
        screen.blocks.retain(|block| block.id != self.id);
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
