//! A bar for programs.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use crate::bars::out::Out;
use crate::future::bar::ProgressBar;
use crate::id::TaskId;
use crate::json::{OrNull, Quoted};
use crate::progress::{PartState, ProgressState};

/// A bar for programs: a line of JSON for each update, and one for the end.
///
/// A line has the fields of a [`TaskEvent`](crate::TaskEvent): `event` (`progress`, and `done` for the last one), `id` (if it
/// was [given](Self::with_id)), `name`, `status`, `n`, `total`, `fraction`, `elapsed` and `eta` (both in seconds), and
/// `message`; unknown values are null. Parts that have a [name](crate::Updater::named) are listed as `parts` while there are
/// any: objects with `name`, `n`, `total`, `fraction` and `depth`. What the task [prints](crate::Updater::println) is a line
/// with `event` (`line`), `id`, `name` and `line`. The last line has no output and no error, which the bar does not get to see.
/// If the future was dropped or detached before the end, it is the line of a task that has not ended.
///
/// ```text
/// {"event":"progress","id":null,"name":"dig","status":"running","n":3,"total":4,"fraction":0.75,"elapsed":6.0,"eta":2.0,"message":null}
/// {"event":"done","id":null,"name":"dig","status":"finished","n":4,"total":4,"fraction":1.0,"elapsed":8.1,"eta":0.0,"message":null}
/// ```
///
/// Each line is written in one go and flushed. After an error of the writer nothing more is
/// [written](crate::bars#errors).
///
/// # Examples
///
/// ```
/// use progress_executor::bars::JsonLines;
/// use progress_executor::{SyncExecutor, Triggers};
///
/// # let path = std::env::temp_dir().join(format!("progress-{}.jsonl", std::process::id()));
/// # let log = std::fs::File::create(&path)?;
/// let task = SyncExecutor::new().spawn(|progress| Ok(progress.set_counts(3, 4)?));
/// let id = task.id();
/// task.with_bar(Triggers::NOW, move || JsonLines::new(log, "dig").with_id(id)).wait()?;
/// # let lines = std::fs::read_to_string(&path)?;
/// # std::fs::remove_file(&path)?;
/// assert!(lines.lines().last().unwrap().starts_with(r#"{"event":"done","#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct JsonLines<W> {
    out: Out<W>,
    id: Option<TaskId>,
    name: String,
}

impl<W: Write> JsonLines<W> {
    /// A bar that writes to `out`, for a task of this name.
    pub fn new(out: W, name: impl Into<String>) -> Self {
        Self { out: Out::new(out), id: None, name: name.into() }
    }

    /// Adds the id of the task to each line, since names may not be unique.
    #[must_use]
    pub fn with_id(mut self, id: TaskId) -> Self {
        self.id = Some(id);
        self
    }

    fn say(&mut self, event: &str, state: &ProgressState) {
        let seconds = |time: Duration| Number(time.as_secs_f64());
        let line = format!(
            "{{\"event\":\"{event}\",\"id\":{},\"name\":{},\"status\":\"{}\",\"n\":{},\"total\":{},\"fraction\":{},\
             \"elapsed\":{},\"eta\":{},\"message\":{}{}}}\n",
            OrNull(self.id),
            Quoted(&self.name),
            state.status,
            state.n,
            OrNull(state.total),
            OrNull(state.fraction().map(Number)),
            seconds(state.elapsed),
            OrNull(state.eta().map(seconds)),
            OrNull(state.message.as_deref().map(Quoted)),
            Parts(&state.parts),
        );
        self.out.say(&line);
    }
}

impl<W: Write + Send> ProgressBar for JsonLines<W> {
    fn update(&mut self, state: &ProgressState) {
        self.say("progress", state);
    }

    fn finish(&mut self, state: &ProgressState) {
        self.say("done", state);
    }

    fn println(&mut self, line: &str) {
        let (id, name, line) = (OrNull(self.id), Quoted(&self.name), Quoted(line));
        self.out.say(&format!("{{\"event\":\"line\",\"id\":{id},\"name\":{name},\"line\":{line}}}\n"));
    }
}

/// The last field of a line, if there are any parts.
struct Parts<'a>(&'a [PartState]);

impl fmt::Display for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { ",\"parts\":[" } else { "," })?;
            let PartState { name, n, total, depth, .. } = part;
            let (name, total, fraction) = (Quoted(name), OrNull(*total), OrNull(part.fraction().map(Number)));
            write!(f, r#"{{"name":{name},"n":{n},"total":{total},"fraction":{fraction},"depth":{depth}}}"#)?;
        }
        f.write_str(if self.0.is_empty() { "" } else { "]" })
    }
}

/// Written as by a serializer: even a whole number has a decimal point.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_finite() { write!(f, "{:?}", self.0) } else { f.write_str("null") }
    }
}

#[cfg(test)]
mod tests {
    use super::JsonLines;
    use crate::future::bar::ProgressBar;
    use crate::progress::{PartState, ProgressState, Status};
    use serde_json::{Value, json};
    use std::time::Duration;

    fn lines(name: &str, states: &[ProgressState]) -> Vec<Value> {
        let mut lines = Vec::new();
        let mut bar = JsonLines::new(&mut lines, name);
        bar.println("a \"line\"");
        let (last, others) = states.split_last().unwrap();
        others.iter().for_each(|state| bar.update(state));
        bar.finish(last);
        String::from_utf8(lines).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_tells_what_the_state_does() {
        let running = ProgressState {
            n: 3,
            total: Some(4),
            status: Status::Running,
            message: Some("\"a\"\nb".into()),
            elapsed: Duration::from_secs(6),
            ..ProgressState::INITIAL
        };
        let last = ProgressState { status: Status::Cancelled, message: None, ..running.clone() };
        let expected = [
            json!({ "event": "line", "id": null, "name": "</dig>", "line": "a \"line\"" }),
            json!({ "event": "progress", "id": null, "name": "</dig>", "status": "running", "n": 3, "total": 4,
                "fraction": 0.75, "elapsed": 6.0, "eta": 2.0, "message": "\"a\"\nb" }),
            json!({ "event": "done", "id": null, "name": "</dig>", "status": "cancelled", "n": 3, "total": 4,
                "fraction": 0.75, "elapsed": 6.0, "eta": 2.0, "message": null }),
        ];
        assert_eq!(lines("</dig>", &[running, last]), expected);
    }

    #[test]
    fn parts_that_have_a_name_are_told_while_there_are_some() {
        let part = |name: &str, n, total, depth| PartState { name: name.into(), n, total, depth, part: 0.5 };
        let running = ProgressState {
            parts: vec![part("\"outer\"", 1, Some(2), 0), part("inner", 7, None, 1)],
            ..ProgressState::INITIAL
        };
        let [_, with, without] = &lines("dig", &[running, ProgressState::INITIAL])[..] else { panic!("three lines") };
        let expected = json!([
            { "name": "\"outer\"", "n": 1, "total": 2, "fraction": 0.75, "depth": 0 },
            { "name": "inner", "n": 7, "total": null, "fraction": null, "depth": 1 },
        ]);
        assert_eq!((&with["parts"], without.get("parts")), (&expected, None));
    }

    #[test]
    fn what_nobody_knows_is_null() {
        let odd = ProgressState { total: Some(1), part: f64::NEG_INFINITY, ..ProgressState::INITIAL };
        let [_, line] = &lines("", &[odd])[..] else { panic!("one line for the end") };
        assert_eq!((&line["fraction"], &line["eta"]), (&json!(null), &json!(null)));
    }
}
