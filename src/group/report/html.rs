//! A report as a page for a browser.
//!
//! The page is one file, so that it can be sent and kept. Its script draws the data that is written into it as JSON.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, SystemTime};

use crate::group::report::lanes::{Fate, Lane, lanes};
use crate::group::report::{GroupReport, TaskReport};
use crate::json::{OrNull, QuotedInScript};

const PAGE: &str = include_str!("page.html");
/// Placeholders for the summary and the data.
const SUMMARY: &str = "<!--summary-->";
const DATA: &str = "<!--data-->";

impl GroupReport {
    /// Writes the report as a page for a browser: a lane per worker, a curve of how many tasks were running, and a table of
    /// all tasks, which can be sorted and filtered.
    ///
    /// The page is one file that needs nothing else, not even a network, and follows the reader's choice of a light or a dark
    /// screen. It is written piece by piece, and buffered.
    ///
    /// # Errors
    ///
    /// The errors of `w`.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let group: progress_executor::TaskGroup<u32> = (0..3).map(|n| executor.spawn(move |_| Ok(n))).collect();
    /// let handle = group.handle();
    /// group.join().wait()?;
    /// # let path = std::env::temp_dir().join(format!("run-{}.html", std::process::id()));
    /// handle.report().write_html(std::fs::File::create(&path)?)?; // run.html
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_html(&self, w: impl Write) -> io::Result<()> {
        let mut out = BufWriter::new(w);
        let (head, rest) = PAGE.split_once(SUMMARY).unwrap_or((PAGE, ""));
        let (body, script) = rest.split_once(DATA).unwrap_or((rest, ""));
        write!(out, "{head}{}{body}", Escaped(&self.to_string()))?;
        self.write_data(&mut out)?;
        out.write_all(script.as_bytes())?;
        out.flush()
    }

    fn write_data(&self, out: &mut impl Write) -> io::Result<()> {
        let lanes = lanes(self);
        let started_at = self.started_at().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        write!(
            out,
            r#"{{"started_at":{},"elapsed":{},"pending":{},"omitted":{},"lanes":["#,
            Seconds(started_at),
            Seconds(self.elapsed()),
            self.pending(),
            self.omitted()
        )?;
        write_list(out, lanes.iter(), |out, lane| write!(out, "{}", QuotedInScript(&lane.title)))?;
        write!(out, "],\n\"tasks\":[")?;
        let tasks = self.tasks().iter().zip(lanes_of_tasks(&lanes, self.tasks().len()));
        write_list(out, tasks, |out, (task, lane)| write_task(out, task, lane))?;
        write!(out, "],\n\"spans\":[")?;
        let spans = lanes.iter().enumerate().flat_map(|(lane, it)| it.spans.iter().map(move |span| (lane, span)));
        write_list(out, spans, |out, (lane, span)| {
            let (index, started, ended) = (span.index, Seconds(span.started), Seconds(span.ended));
            write!(out, "[{lane},{index},{started},{ended},{}]", span.fate as u8)
        })?;
        write!(out, "]}}")
    }
}

/// The lane that each task was on last.
fn lanes_of_tasks(lanes: &[Lane<'_>], tasks: usize) -> Vec<Option<usize>> {
    let mut lane_of = vec![None; tasks];
    for (lane, it) in lanes.iter().enumerate() {
        for span in it.spans.iter().filter(|span| span.task.started == Some(span.started)) {
            lane_of[span.index] = Some(lane);
        }
    }
    lane_of
}

fn write_task(out: &mut impl Write, task: &TaskReport, lane: Option<usize>) -> io::Result<()> {
    write!(
        out,
        "[{},{},{},{},{},{},{},{},{},{},{},{},{}]",
        task.id,
        QuotedInScript(&task.name),
        QuotedInScript(task.function),
        Fate::of(task) as u8,
        QuotedInScript(&task.outcome()),
        OrNull(lane),
        Seconds(task.submitted),
        OrNull(task.started.map(Seconds)),
        OrNull(task.ended.map(Seconds)),
        Seconds(task.elapsed),
        task.tries,
        task.n,
        OrNull(task.total)
    )
}

fn write_list<W: Write, T>(
    out: &mut W,
    items: impl Iterator<Item = T>,
    write: impl Fn(&mut W, T) -> io::Result<()>,
) -> io::Result<()> {
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.write_all(b",\n")?;
        }
        write(out, item)?;
    }
    Ok(())
}

/// Seconds, with all digits.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0.as_secs(), self.0.subsec_nanos())
    }
}

/// A text escaped for HTML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.split_inclusive(['&', '<']).try_for_each(|piece| {
            let text = piece.trim_end_matches(['&', '<']);
            f.write_str(text)?;
            f.write_str(match &piece[text.len()..] {
                "&" => "&amp;",
                "<" => "&lt;",
                _ => "",
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{DATA, Escaped, PAGE, SUMMARY};

    #[test]
    fn the_page_has_a_place_for_all_that_is_written() {
        let (summary, data) = (PAGE.find(SUMMARY), PAGE.find(DATA));
        assert!(summary.is_some() && summary < data, "{summary:?} {data:?}");
    }

    #[test]
    fn a_text_remains_a_text() {
        assert_eq!(Escaped("a < b && c<").to_string(), "a &lt; b &amp;&amp; c&lt;");
        assert_eq!(Escaped("</p>").to_string(), "&lt;/p>");
    }
}
