//! Events as they are serialized.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::error::TaskError;
use crate::future::events::{TaskEvent, TaskEvents};
use crate::id::TaskId;
use crate::progress::{PartState, ProgressState, Status};

/// A record of progress, or of an error.
#[derive(Serialize)]
struct Record<'a> {
    event: &'static str,
    id: Option<TaskId>,
    name: Option<&'a str>,
    status: Status,
    n: u64,
    total: Option<u64>,
    fraction: Option<f64>,
    elapsed: f64,
    eta: Option<f64>,
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartRecord<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct PartRecord<'a> {
    name: &'a str,
    n: u64,
    total: Option<u64>,
    fraction: Option<f64>,
    depth: u8,
}

#[derive(Serialize)]
struct OutputRecord<'a, T> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    status: Status,
    output: &'a T,
}

#[derive(Serialize)]
struct LineRecord<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    line: &'a str,
}

/// The task that an event belongs to, as far as it is serialized.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Label<'a> {
    pub(crate) id: Option<TaskId>,
    pub(crate) name: Option<&'a str>,
}

/// An event that is always serialized with its task.
struct Labelled<'a, T> {
    event: &'a TaskEvent<T>,
    label: Label<'a>,
}

impl<'a> Record<'a> {
    fn of_state(state: &'a ProgressState) -> Self {
        let (id, name) = state.origin.0.as_ref().map(|(id, name)| (*id, &**name)).unzip();
        Self {
            event: "progress",
            id,
            name,
            status: state.status,
            n: state.n,
            total: state.total,
            fraction: state.fraction(),
            elapsed: state.elapsed.as_secs_f64(),
            eta: state.eta().as_ref().map(Duration::as_secs_f64),
            message: state.message.as_deref(),
            parts: state.parts.iter().map(PartRecord::from).collect(),
            error: None,
        }
    }

    fn of_error(event: &'static str, error: &'a TaskError) -> Self {
        let (id, name) = (Some(error.id()), Some(error.name()));
        Self { event, id, name, error: Some(format!("{error:#}")), ..Self::of_state(error.progress()) }
    }
}

impl<'a> From<&'a PartState> for PartRecord<'a> {
    fn from(part: &'a PartState) -> Self {
        let PartState { name, n, total, depth, .. } = part;
        Self { name, n: *n, total: *total, fraction: part.fraction(), depth: *depth }
    }
}

/// Serializes a line that a task has printed.
pub(crate) fn serialize_line<S: Serializer>(label: Label<'_>, line: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let Label { id, name } = label;
    LineRecord { event: "line", id, name, line }.serialize(serializer)
}

/// Serializes the end of a task with a value.
pub(crate) fn serialize_output<T: Serialize, S: Serializer>(
    event: &'static str,
    label: Label<'_>,
    output: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Label { id, name } = label;
    OutputRecord { event, id, name, status: Status::Finished, output }.serialize(serializer)
}

/// Serializes the end of a task without a value.
pub(crate) fn serialize_error<S: Serializer>(
    event: &'static str,
    error: &TaskError,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    Record::of_error(event, error).serialize(serializer)
}

impl<T: Serialize> Serialize for TaskEvent<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Labelled { event: self, label: Label::default() }.serialize(serializer)
    }
}

impl<T: Serialize> Serialize for Labelled<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.event {
            TaskEvent::Progress(state) => Record::of_state(state).serialize(serializer),
            TaskEvent::Line(line) => serialize_line(self.label, line, serializer),
            TaskEvent::Done(Err(error)) => serialize_error("done", error, serializer),
            TaskEvent::Done(Ok(output)) => serialize_output("done", self.label, output, serializer),
        }
    }
}

impl<T> TaskEvents<T> {
    /// Wraps an event of this stream so that it is always serialized with the `id` and the `name` of its task, for
    /// logs that several tasks share.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    ///
    /// # smol::block_on(async {
    /// let mut events = progress_executor::SyncExecutor::new().spawn_named("dig", |_| Ok(7)).events();
    /// let mut last = String::new();
    /// while let Some(event) = events.next().await {
    ///     last = serde_json::to_string(&events.labelled(&event))?;
    /// }
    /// let id = events.get_ref().id();
    /// assert_eq!(last, format!(r#"{{"event":"done","id":{id},"name":"dig","status":"finished","output":7}}"#));
    /// # Ok::<(), serde_json::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn labelled<'a>(&'a self, event: &'a TaskEvent<T>) -> impl Serialize + 'a
    where
        T: Serialize,
    {
        let label = Label { id: Some(self.get_ref().id()), name: Some(self.get_ref().name()) };
        Labelled { event, label }
    }
}
