//! The line of each task, laid out in the available columns.
//!
//! ```text
//! hash a.iso            25 %  ━━━━━━━━╸──────────────────────  0.5/2.0 GiB  35.2 MiB/s, 43 s left
//!   read                50 %  ━━━━━━━━━━━━━━━───────────────   128/256
//! total                 12 %  ━━━━╸──────────────────────────  5 of 16 ended: 4 finished, 1 failed
//! ```
//!
//! What does not fit is left out: first the message, then the bar, then the count. The name and how much is done are always
//! shown. The last column is never written to: a terminal that wraps there, or shows `^C`, would tear the line.

use std::time::Duration;

use console::Style;
use unicode_width::UnicodeWidthChar;

use crate::future::text::one_line;
use crate::group::bars::units::Units;
use crate::group::progress::GroupProgress;
use crate::progress::{PartState, ProgressState, ROUNDING, Status};

/// Between two columns.
const GAP: usize = 2;
const PERCENT: usize = 5;
const SHORTEST_BAR: usize = 10;
const SHORTEST_NOTE: usize = 8;
/// How far parts of a task are indented.
const INDENT: usize = 2;

/// Ends the line of something that has failed, if there are no colours.
pub(super) const MARK: &str = " ✗";

/// How many columns there are, and whether there are colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Canvas {
    pub(super) columns: usize,
    pub(super) has_colours: bool,
}

/// What is shown of a task, or of a part of one.
pub(super) struct Row {
    name: String,
    indent: usize,
    /// How much is done, from 0 to 1, if that is known.
    fraction: Option<f64>,
    status: Status,
    count: String,
    /// Alternatives, the longest first.
    notes: Vec<String>,
}

impl Row {
    /// A row for each task, and for its parts that have a name as long as there is room for these.
    pub(super) fn of_tasks<'a>(
        tasks: impl Iterator<Item = (&'a str, ProgressState)>,
        mut room_for_parts: usize,
        units: &Units,
    ) -> Vec<Self> {
        let mut rows = Vec::new();
        for (name, state) in tasks {
            rows.push(Self::of_task(name, &state, units));
            let parts = &state.parts[..state.parts.len().min(room_for_parts)];
            rows.extend(parts.iter().map(|part| Self::of_part(part, state.status)));
            room_for_parts -= parts.len();
        }
        rows
    }

    fn of_part(part: &PartState, status: Status) -> Self {
        Self {
            name: one_line(&part.name).into_owned(),
            indent: INDENT * (usize::from(part.depth) + 1),
            fraction: part.fraction(),
            status,
            // `units` are those of tasks; those of a part only the task knows.
            count: Units::Numbers.count(part.n, part.total),
            notes: Vec::new(),
        }
    }

    fn of_task(name: &str, state: &ProgressState, units: &Units) -> Self {
        let (count, speeds) = (units.count(state.n, state.total), speeds(units.rate(state.rate()), state.eta()));
        let message = state.message.as_deref().map(|message| one_line(message).into_owned());
        let notes = match (state.status, message) {
            (Status::Running, Some(message)) => {
                vec![format!("{}  {message}", speeds[0]).trim_start().to_owned(), message]
            }
            (Status::Running, None) => speeds.into(),
            (Status::Finished, _) => vec![format!("{} in {}", state.status, told(state.elapsed))],
            (status, _) => vec![status.to_string()],
        };
        let fraction = if state.total.is_some() { state.fraction() } else { None };
        // A task that waits has done nothing yet.
        let fraction = fraction.filter(|_| state.status != Status::Pending);
        Self { name: one_line(name).into_owned(), indent: 0, fraction, status: state.status, count, notes }
    }

    /// The row for all of `tasks`; some running ones may be hidden.
    pub(super) fn of_group(progress: &GroupProgress, tasks: u64, hidden: usize, units: &Units) -> Self {
        let (ended, eta) = (progress.ended(), worth_telling(progress.eta()));
        let failures = counts(&[(progress.failed, "failed"), (progress.cancelled, "cancelled")]);
        let all =
            counts(&[(progress.finished, "finished"), (progress.failed, "failed"), (progress.cancelled, "cancelled")]);
        let but = |counts: &str| if failures.is_empty() { String::new() } else { format!(": {counts}") };
        let more = if hidden > 0 { format!(", {hidden} more running") } else { String::new() };
        let left = eta.map_or(String::new(), |eta| format!(", {} left", told(eta)));
        let rate = if *units == Units::Numbers { String::new() } else { units.rate(progress.rate()) };
        let rate = if rate.is_empty() { rate } else { format!(", {rate}") };
        let shortest = format!("{ended}/{tasks}");
        let notes = vec![
            format!("{ended} of {tasks} ended{}{more}{left}{rate}", but(&all)),
            format!("{ended} of {tasks} ended{}{more}{left}", but(&all)),
            format!("{ended} of {tasks} ended{}{more}", but(&all)),
            format!("{ended} of {tasks} ended{}", but(&failures)),
            format!("{shortest}{}", if failures.is_empty() { String::new() } else { format!(", {failures}") }),
            shortest,
            // A number that is cut off would be another one.
            String::new(),
        ];
        let status = if progress.failed > 0 { Status::Failed } else { Status::Running };
        Self {
            name: "total".into(),
            indent: 0,
            fraction: achieved(progress, tasks),
            status,
            count: String::new(),
            notes,
        }
    }
}

/// The fraction that is done, less what was cancelled or has failed: with failures, it never reaches 1.
fn achieved(progress: &GroupProgress, tasks: u64) -> Option<f64> {
    let lost = (progress.failed + progress.cancelled) as f64 / tasks.max(1) as f64;
    progress.fraction().map(|fraction| fraction * (1.0 - lost).max(0.0))
}

/// `12 finished, 3 failed`, without counts of zero.
fn counts(counts: &[(usize, &str)]) -> String {
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// Alternatives, the longest first. The last is empty, as a time that is cut off says nothing.
fn speeds(rate: String, eta: Option<Duration>) -> [String; 3] {
    let left = worth_telling(eta).map_or(String::new(), |eta| format!("{} left", told(eta)));
    let both = if rate.is_empty() || left.is_empty() { rate + &left } else { format!("{rate}, {left}") };
    [both, left, String::new()]
}

/// Drops a time of less than a moment.
fn worth_telling(eta: Option<Duration>) -> Option<Duration> {
    eta.filter(|eta| eta.as_millis() >= 50)
}

/// A time, for people.
pub(super) fn told(time: Duration) -> String {
    match (time.as_secs_f64(), time.as_secs()) {
        (seconds, _) if seconds < 9.95 => format!("{seconds:.1} s"),
        (seconds, _) if seconds < 99.5 => format!("{seconds:.0} s"),
        (_, seconds) if seconds < 6000 => format!("{} min {} s", seconds / 60, seconds % 60),
        (_, seconds) => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// The widths of the columns of a line; 0 for a column without room.
struct Widths {
    name: usize,
    percent: usize,
    bar: usize,
    count: usize,
    note: usize,
}

impl Canvas {
    /// The columns that may be written to.
    fn room(self) -> usize {
        self.columns.saturating_sub(1).max(1)
    }

    /// A line for each row, in the same columns, and one for all tasks.
    pub(super) fn draw(self, tasks: &[Row], whole: Option<&Row>) -> Vec<String> {
        let count = tasks.iter().map(|row| width(&row.count)).max().unwrap_or(0);
        let note = tasks.iter().flat_map(|row| &row.notes).map(|note| width(note)).max().unwrap_or(0);
        let has_percent = whole.is_some() || tasks.iter().any(|row| row.fraction.is_some());
        let widths = self.widths(count, note, has_percent);
        let tasks = tasks.iter().map(|row| self.line(row, &widths, Style::new().cyan()));
        tasks.chain(whole.map(|row| self.whole(row, widths.name))).collect()
    }

    fn widths(self, count: usize, note: usize, has_percent: bool) -> Widths {
        let room = self.room();
        let percent = if has_percent { PERCENT } else { 0 };
        let name = match self.columns {
            100.. => 28,
            80.. => 20,
            60.. => 16,
            _ => room.saturating_sub(GAP + PERCENT).clamp(1, 12),
        };
        let mut left = room.saturating_sub(name + gapped(percent));
        let count = take(&mut left, count);
        let bar = take(&mut left, SHORTEST_BAR);
        // Independent of the current messages, so that bars do not move about.
        let most = if self.columns >= 100 { 48 } else { 30 };
        let note = if note == 0 { 0 } else { left.saturating_sub(GAP).min(most) };
        let note = if bar > 0 && note >= SHORTEST_NOTE { take(&mut left, note) } else { 0 };
        Widths { name, percent, bar: if bar > 0 { bar + left } else { 0 }, count, note }
    }

    fn line(self, row: &Row, widths: &Widths, colour: Style) -> String {
        let percent = row.fraction.map_or(String::new(), |fraction| percent(fraction, row.status));
        let bar = match row.fraction {
            Some(fraction) => self.bar(fraction, widths.bar, &self.shade(row.status).unwrap_or(colour)),
            None => " ".repeat(widths.bar),
        };
        let note = row.notes.iter().find(|note| width(note) <= widths.note).or(row.notes.last());
        // However deep the part is, half of the column is for the name.
        let indent = " ".repeat(row.indent.min(widths.name / 2));
        let cells = [
            fit(&(indent + &row.name), widths.name),
            align_right(&percent, widths.percent),
            bar,
            align_right(&row.count, widths.count),
            self.paint(&cut(note.map_or("", String::as_str), widths.note), self.shade(row.status)),
        ];
        join(&cells)
    }

    /// The line of all tasks has no columns: it holds as much as there is room for.
    fn whole(self, row: &Row, name: usize) -> String {
        let percent = row.fraction.map_or(String::new(), |fraction| percent(fraction, row.status));
        let mark = if row.status == Status::Failed && !self.has_colours { MARK } else { "" };
        // Aligned with the names above, if there is room for more than them.
        let room = self.room().saturating_sub(gapped(PERCENT) + gapped(width(mark)));
        let name = if self.columns >= 60 { name } else { width(&row.name).min(room).max(1) };
        let left = self.room().saturating_sub(name + gapped(PERCENT) + GAP);
        let most = left.saturating_sub(width(mark));
        let note = row.notes.iter().find(|note| width(note) <= most).or(row.notes.last());
        let note = cut(note.map_or("", String::as_str), most);
        let bar = left.saturating_sub(gapped(width(&note) + width(mark)));
        let bar = if bar < SHORTEST_BAR { 0 } else { bar };
        let bar = row.fraction.map_or(String::new(), |fraction| self.bar(fraction, bar, &Style::new().bold()));
        let note = self.paint(&note, self.shade(row.status)) + mark;
        join(&[self.paint(&fit(&row.name, name), Some(Style::new().bold())), align_right(&percent, PERCENT), bar, note])
    }

    /// The line of a text that stays.
    pub(super) fn last_line(self, text: &str, has_failures: bool) -> String {
        let mark = if has_failures && !self.has_colours { MARK } else { "" };
        let text = cut(text, self.room().saturating_sub(width(mark)));
        let style = if has_failures { Style::new().red() } else { Style::new().bold() };
        self.paint(&text, Some(style)) + mark
    }

    fn bar(self, fraction: f64, width: usize, style: &Style) -> String {
        let halves = (fraction.clamp(0.0, 1.0) * width as f64 * 2.0) as usize;
        let (done, is_half) = (halves / 2, halves % 2 == 1);
        let filled = "━".repeat(done) + if is_half { "╸" } else { "" };
        let track = "─".repeat(width - done - usize::from(is_half));
        self.paint(&filled, Some(style.clone())) + &self.paint(&track, Some(Style::new().color256(238)))
    }

    /// The style that makes a status stand out.
    fn shade(self, status: Status) -> Option<Style> {
        match status {
            Status::Failed => Some(Style::new().red()),
            Status::Cancelled | Status::Cancelling | Status::Paused => Some(Style::new().yellow()),
            _ => None,
        }
    }

    pub(super) fn paint(self, text: &str, style: Option<Style>) -> String {
        match style.filter(|_| self.has_colours && !text.is_empty()) {
            Some(style) => style.force_styling(true).apply_to(text).to_string(),
            None => text.to_owned(),
        }
    }
}

/// Rounded down, and less than 100 for what is not complete, or has not ended well.
fn percent(fraction: f64, status: Status) -> String {
    let is_complete = fraction >= 1.0 && !matches!(status, Status::Failed | Status::Cancelled);
    let most = if is_complete { 100 } else { 99 };
    format!("{} %", ((fraction * 100.0 + ROUNDING) as u32).min(most))
}

/// Takes a column of this width, if there is room for it. Returns its width, or 0.
fn take(left: &mut usize, width: usize) -> usize {
    if width == 0 || gapped(width) > *left {
        return 0;
    }
    *left -= gapped(width);
    width
}

fn gapped(width: usize) -> usize {
    if width > 0 { width + GAP } else { 0 }
}

fn join(cells: &[String]) -> String {
    let cells = cells.iter().filter(|cell| !cell.is_empty()).map(String::as_str);
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// How many columns a text takes, at most: a terminal may draw several characters as one.
pub(super) fn width(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}

/// Cuts a text that is too wide.
fn cut(text: &str, columns: usize) -> String {
    if columns == 0 {
        return String::new();
    }
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut used, mut end) = (0, 0);
    for (at, character) in text.char_indices() {
        used += character.width().unwrap_or(0);
        if used + 1 > columns {
            break;
        }
        end = at + character.len_utf8();
    }
    format!("{}…", text[..end].trim_end())
}

/// Cuts a text that is too wide, and pads one that is too narrow.
fn fit(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let missing = columns.saturating_sub(width(&text));
    text + &" ".repeat(missing)
}

/// Left blank if it does not fit.
fn align_right(text: &str, columns: usize) -> String {
    match columns.checked_sub(width(text)) {
        Some(missing) => " ".repeat(missing) + text,
        None => " ".repeat(columns),
    }
}

#[cfg(test)]
mod tests {
    use super::{Canvas, Row, width};
    use crate::group::bars::units::Units;
    use crate::group::progress::GroupProgress;
    use crate::progress::{ProgressState, Status};
    use std::time::Duration;

    #[test]
    fn the_number_of_tasks_that_have_ended_is_told_as_a_whole_or_not_at_all() {
        let progress = GroupProgress { finished: 345, failed: 12, running: 2643, ..GroupProgress::default() };
        for columns in 20..150 {
            let row = Row::of_group(&progress, 3_000, 10, &Units::Numbers);
            let line = &Canvas { columns, has_colours: true }.draw(&[], Some(&row))[0];
            assert!(width(&console::strip_ansi_codes(line)) < columns && !line.contains('…'), "{line}");
        }
    }

    #[test]
    fn a_line_never_takes_the_last_column() {
        let progress = GroupProgress { failed: 3, ..GroupProgress::default() };
        let odd = |message: &str| ProgressState {
            n: 1,
            total: Some(2),
            status: Status::Running,
            message: Some(message.into()),
            ..ProgressState::INITIAL
        };
        for columns in 13..150 {
            for message in ["", "\u{301}", "日本語", "\u{1b}[31mred"] {
                let row = Row::of_task(message, &odd(message), &Units::named("e\u{301}\n"));
                let whole = Row::of_group(&progress, 3, 0, &Units::Numbers);
                // There is no room for anything but the mark of a failure.
                let unnoted =
                    Row { notes: Vec::new(), fraction: Some(0.5), ..Row::of_group(&progress, 3, 0, &Units::Numbers) };
                let canvas = Canvas { columns, has_colours: false };
                for line in canvas.draw(&[row], Some(&whole)).into_iter().chain(canvas.draw(&[], Some(&unnoted))) {
                    assert!(width(&line) < columns && !line.contains(char::is_control), "{columns}: {line:?}");
                }
            }
        }
    }

    #[test]
    fn only_what_is_complete_is_at_100_percent_however_large_it_is() {
        let total = 1 << 60;
        for (n, percent) in [(total, "100 %"), (total - 1, " 99 %"), (total / 100 * 29 + 1, " 29 %")] {
            let state = ProgressState { n, total: Some(total), status: Status::Running, ..ProgressState::INITIAL };
            let row = Row::of_task("walk", &state, &Units::Bytes);
            let line = &Canvas { columns: 80, has_colours: false }.draw(&[row], None)[0];
            assert!(line.contains(percent), "{line}");
        }
    }

    #[test]
    fn a_speed_is_told_as_a_whole_or_not_at_all() {
        for (elapsed, total) in [(1, 200), (700, 3_000), (90_000, 20_000)] {
            let state = ProgressState {
                n: 100,
                total: Some(total),
                status: Status::Running,
                elapsed: Duration::from_secs(elapsed),
                ..ProgressState::INITIAL
            };
            for columns in 20..150 {
                let row = || Row::of_task("walk", &state, &Units::named("files"));
                let line = &Canvas { columns, has_colours: false }.draw(&[row()], None)[0];
                assert!(width(line) < columns && !line.contains('…'), "{line}");
            }
        }
    }
}
