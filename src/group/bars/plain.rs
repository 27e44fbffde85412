//! For output on which nothing can be redrawn: a line for each start and each end.

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use console::Style;

use crate::error::human::{Counted, UNITS};
use crate::future::text::one_line;
use crate::group::bars::layout::{Canvas, MARK, told};
use crate::group::bars::units::Units;
use crate::id::TaskId;
use crate::progress::{ProgressState, Status};
use crate::task::items::ItemReading;

pub(super) struct Plain {
    out: Box<dyn Write + Send>,
    canvas: Canvas,
    /// Whether the last line summarizes all tasks.
    summarizes: bool,
    /// The tasks whose start was written.
    started: HashSet<TaskId>,
}

impl Plain {
    pub(super) fn new(out: Box<dyn Write + Send>, has_colours: bool, summarizes: bool) -> Self {
        let canvas = Canvas { columns: usize::MAX, has_colours };
        Self { out, canvas, summarizes, started: HashSet::new() }
    }

    /// Writes, once, that a task has started.
    pub(super) fn note_started(&mut self, id: TaskId, name: &str) {
        if self.started.insert(id) {
            self.say(&format!("{}: started", one_line(name)));
        }
    }

    pub(super) fn note_ended(&mut self, id: TaskId, name: &str, state: &ProgressState, units: &Units) {
        self.started.remove(&id);
        let (name, status) = (one_line(name), state.status);
        let count = match (units, units.count(state.n, None)) {
            (Units::Numbers, _) => Counted(state.n, UNITS).to_string(),
            (_, count) if count.is_empty() => "nothing".into(),
            (_, count) => count,
        };
        let line = match state.elapsed.is_zero() {
            true => format!("{name}: {status} before it started"),
            false => format!("{name}: {status} after {count} and {}", told(state.elapsed)),
        };
        self.say_end(&line, status == Status::Failed);
    }

    /// The same for a chunk of a map, whose items each have an outcome.
    pub(super) fn note_chunk_ended(&mut self, id: TaskId, name: &str, items: ItemReading, elapsed: Duration) {
        self.started.remove(&id);
        let ran = Counted((items.finished + items.failed) as u64, ["input", "inputs"]);
        let mut line = match elapsed.is_zero() {
            true => format!("{}: ended before it started", one_line(name)),
            false => format!("{}: ended after {ran} and {}", one_line(name), told(elapsed)),
        };
        let unfinished =
            [(items.failed, "failed"), (items.cancelled, "cancelled"), (items.moved, "to go on elsewhere")];
        for (count, how) in unfinished.into_iter().filter(|(count, _)| *count > 0) {
            line += &format!(", {count} {how}");
        }
        self.say_end(&line, items.failed > 0);
    }

    fn say_end(&mut self, line: &str, has_failed: bool) {
        let mark = if has_failed && !self.canvas.has_colours { MARK } else { "" };
        let line = self.canvas.paint(line, has_failed.then(|| Style::new().red())) + mark;
        self.say(&line);
    }

    /// Writes the last line, which summarizes all tasks, if that is wanted.
    pub(super) fn summarize(&mut self, text: &str, has_failures: bool) {
        if self.summarizes {
            self.say(&self.canvas.last_line(text, has_failures));
        }
    }

    pub(super) fn say(&mut self, text: &str) {
        // In one write, so that lines of several threads do not mix.
        let _ = self.out.write_all(format!("{text}\n").as_bytes()).and_then(|()| self.out.flush());
    }
}
