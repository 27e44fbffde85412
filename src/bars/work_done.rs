//! A bar in an editor.

use std::io::Write;
use std::sync::Arc;

use crate::bars::out::Out;
use crate::future::bar::ProgressBar;
use crate::json::Quoted;
use crate::progress::ProgressState;

/// A bar in an editor: the work done progress of the Language Server Protocol, `$/progress` notifications with `begin`,
/// `report` and `end`.
///
/// The notifications are framed as that protocol requires, each with a `Content-Length`, and each is written in one go: a
/// server may write its other messages to the same writer. The token is one that the client has sent with a request
/// (`workDoneToken`), or has agreed to (`window/workDoneProgress/create`).
///
/// `begin` and `report` have a `percentage`, which is 0 until the total is known, and never falls: editors may ignore a
/// percentage that falls, or that only comes later. The message is that of the task, or else names the
/// [parts](crate::Updater::named) that are under way; at the end it says how the task ended. Nothing is written if neither
/// changes. After an error of the writer nothing more is [written](crate::bars#errors).
///
/// # Examples
///
/// ```
/// use progress_executor::{SyncExecutor, Triggers, bars::WorkDoneProgress};
///
/// let task = SyncExecutor::new().spawn(|progress| Ok(progress.set_counts(3, 4)?));
/// let canceller = task.canceller(); // for `window/workDoneProgress/cancel`
/// let bar = || WorkDoneProgress::new(std::io::stdout(), "index-1", "Indexing").cancellable();
/// task.with_bar(Triggers::RUNNING, bar).wait()?;
/// # drop(canceller);
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[doc(alias = "lsp")]
#[derive(Debug)]
pub struct WorkDoneProgress<W> {
    out: Out<W>,
    token: String,
    title: String,
    is_cancellable: bool,
    /// The percentage and the message that were sent last; `None` before `begin`.
    told: Option<(u8, Option<Arc<str>>)>,
}

impl<W: Write> WorkDoneProgress<W> {
    /// A bar that writes to `out`, with this token and this title.
    pub fn new(out: W, token: impl Into<String>, title: impl Into<String>) -> Self {
        Self { out: Out::new(out), token: token.into(), title: title.into(), is_cancellable: false, told: None }
    }

    /// Lets the editor offer to cancel the task. If its user does so, it sends `window/workDoneProgress/cancel`: the program
    /// must receive that, and [cancel](crate::Canceller::cancel) the task.
    #[must_use]
    pub fn cancellable(mut self) -> Self {
        self.is_cancellable = true;
        self
    }

    fn tell(&mut self, state: &ProgressState) {
        let percentage = state.percent().unwrap_or(0);
        let (before, known) =
            self.told.as_ref().map_or((0, None), |(percentage, message)| (*percentage, Some(message)));
        let percentage = percentage.max(before);
        let message = message_of(state);
        let is_new = known.is_none_or(|known| *known != message) || percentage > before;
        if !is_new {
            return;
        }
        let begin = match known {
            Some(_) => r#""kind":"report""#.to_owned(),
            None => format!(r#""kind":"begin","title":{},"cancellable":{}"#, Quoted(&self.title), self.is_cancellable),
        };
        // An editor keeps the previous message if there is none.
        let has_message = known.is_some_and(Option::is_some);
        let shown = message.as_deref().or(has_message.then_some(""));
        self.notify(&format!(r#"{begin},"percentage":{percentage}{}"#, field(shown)));
        self.told = Some((percentage, message));
    }

    fn notify(&mut self, value: &str) {
        let token = Quoted(&self.token);
        let text =
            format!(r#"{{"jsonrpc":"2.0","method":"$/progress","params":{{"token":{token},"value":{{{value}}}}}}}"#);
        self.out.say(&format!("Content-Length: {}\r\n\r\n{text}", text.len()));
    }
}

impl<W: Write + Send> ProgressBar for WorkDoneProgress<W> {
    fn update(&mut self, state: &ProgressState) {
        self.tell(state);
    }

    fn finish(&mut self, state: &ProgressState) {
        // What has not begun cannot end.
        if self.told.is_none() {
            self.tell(state);
        }
        self.notify(&format!(r#""kind":"end"{}"#, field(Some(&state.status.to_string()))));
    }
}

/// What the task is doing: its message, or else the names of its outermost parts.
fn message_of(state: &ProgressState) -> Option<Arc<str>> {
    let names = || {
        let parts = state.parts.iter().filter(|part| part.depth == 0).map(|part| &*part.name);
        let names = parts.collect::<Vec<_>>().join(", ");
        Some(names.into()).filter(|_| !state.parts.is_empty())
    };
    state.message.clone().or_else(names)
}

fn field(message: Option<&str>) -> String {
    message.map_or_else(String::new, |message| format!(r#","message":{}"#, Quoted(message)))
}

#[cfg(test)]
mod tests {
    use super::WorkDoneProgress;
    use crate::future::bar::ProgressBar;
    use crate::progress::{PartState, ProgressState, Status};
    use serde_json::{Value, json};

    fn state(status: Status, n: u64, total: Option<u64>, message: Option<&str>) -> ProgressState {
        ProgressState { n, total, status, message: message.map(Into::into), ..ProgressState::INITIAL }
    }

    /// The values of the notifications, as a client reads them.
    fn values(bytes: &[u8]) -> Vec<Value> {
        let (mut rest, mut values) = (std::str::from_utf8(bytes).unwrap(), Vec::new());
        while !rest.is_empty() {
            let (header, content) = rest.split_once("\r\n\r\n").unwrap();
            let length: usize = header.strip_prefix("Content-Length: ").unwrap().parse().unwrap();
            let mut message: Value = serde_json::from_str(&content[..length]).unwrap();
            assert_eq!((&message["jsonrpc"], &message["method"]), (&json!("2.0"), &json!("$/progress")));
            assert_eq!(message["params"]["token"], "index \"1\"");
            values.push(message["params"]["value"].take());
            rest = &content[length..];
        }
        values
    }

    #[test]
    fn an_editor_sees_it_begin_go_on_and_end() {
        let mut sent = Vec::new();
        let mut bar = WorkDoneProgress::new(&mut sent, "index \"1\"", "Indexing").cancellable();
        bar.update(&state(Status::Running, 0, None, None));
        bar.update(&state(Status::Running, 1, None, None));
        bar.update(&state(Status::Running, 1, Some(2), Some("größe")));
        bar.update(&state(Status::Running, 1, Some(4), Some("größe")));
        bar.update(&state(Status::Running, 1, Some(4), None));
        bar.update(&state(Status::Running, 3, Some(4), None));
        bar.finish(&state(Status::Failed, 1, Some(4), None));
        let expected = [
            json!({ "kind": "begin", "title": "Indexing", "cancellable": true, "percentage": 0 }),
            json!({ "kind": "report", "percentage": 50, "message": "größe" }),
            json!({ "kind": "report", "percentage": 50, "message": "" }),
            json!({ "kind": "report", "percentage": 75 }),
            json!({ "kind": "end", "message": "failed" }),
        ];
        assert_eq!(values(&sent), expected);
    }

    #[test]
    fn parts_are_named_where_the_task_has_no_message() {
        let part = |name: &str, depth| PartState { name: name.into(), depth, ..PartState::default() };
        let parts = vec![part("read", 0), part("block", 1), part("hash", 0)];
        let mut sent = Vec::new();
        let mut bar = WorkDoneProgress::new(&mut sent, "index \"1\"", "Indexing");
        bar.update(&ProgressState { parts: parts.clone(), ..state(Status::Running, 0, None, None) });
        bar.update(&ProgressState { parts: parts.clone(), ..state(Status::Running, 0, None, None) });
        bar.update(&ProgressState { parts, ..state(Status::Running, 0, None, Some("all")) });
        bar.update(&state(Status::Running, 0, None, None));
        let messages: Vec<_> = values(&sent).into_iter().map(|mut value| value["message"].take()).collect();
        assert_eq!(messages, ["read, hash", "all", ""]);
    }

    #[test]
    fn what_ends_at_once_has_begun() {
        let mut sent = Vec::new();
        WorkDoneProgress::new(&mut sent, "index \"1\"", "Indexing").finish(&state(Status::Finished, 4, Some(4), None));
        let kinds: Vec<_> = values(&sent).into_iter().map(|mut value| value["kind"].take()).collect();
        assert_eq!(kinds, ["begin", "end"]);
    }
}
