//! The surroundings of a running task.

use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use crate::error::CancelCause;
use crate::id::TaskId;
use crate::progress::ProgressState;
use crate::task::callbacks::Callbacks;
use crate::task::lines::Line;
use crate::task::remote::Said;

/// How often a running task is shown, and who observes it on the thread that runs it. By default, every change is
/// shown, and there is no such observer.
///
/// A thread moves its context into each task and out again, so this is one pointer.
#[derive(Clone, Default)]
pub(crate) struct Context(Option<Arc<Surroundings>>);

#[derive(Clone, Default)]
pub(crate) struct Surroundings {
    /// The time between two snapshots. Without one, every change is shown.
    pub(crate) report_interval: Option<Duration>,
    /// The callbacks of its future and the polling thread, if that thread also runs the task.
    pub(crate) callbacks: Option<(ThreadId, Arc<Callbacks<ProgressState>>)>,
    /// The name of its function, if the task does not know it.
    pub(crate) function: Option<&'static str>,
    /// Records what the task says.
    pub(crate) recorder: Option<Arc<dyn Recorder>>,
    /// Takes its lines, if they are not shown in this process.
    pub(crate) relay: Option<Arc<dyn Relay>>,
}

/// Records what a task has said last, for another process. That process may also see what the task counts on its own,
/// and request something of it.
pub(crate) trait Recorder: Send + Sync {
    /// Called in the order in which things are said, with a lock of the task held.
    fn record(&self, task: TaskId, said: Said<'_>);
    /// The count is about to be spread. Called with a lock of the task held.
    fn spread(&self, task: TaskId);
    /// The count is spread: record it as often as it would be shown, even if nothing observes the task.
    fn watch(self: Arc<Self>, task: TaskId);
    /// Takes the request to end this task, if there is one beside its count.
    fn take_request(&self, task: TaskId) -> Option<CancelCause>;
    /// This task is about to sleep for `duration`, and takes no request meanwhile.
    fn sleep(&self, task: TaskId, duration: Duration);
}

/// Sends the lines of a task to another process.
pub(crate) trait Relay: Send + Sync {
    /// Neither waits nor takes memory without bounds.
    fn say(&self, line: Line);
}

impl Context {
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        Self(Some(Arc::new(surroundings)))
    }

    pub(crate) fn with_interval(report_interval: Duration) -> Self {
        Self::new(Surroundings { report_interval: Some(report_interval), ..Surroundings::default() })
    }

    /// The same context, for a function of this name.
    pub(crate) fn calling(self, function: &'static str) -> Self {
        if self.function() == Some(function) {
            return self;
        }
        let surroundings = self.0.map(Arc::unwrap_or_clone).unwrap_or_default();
        Self::new(Surroundings { function: Some(function), ..surroundings })
    }

    pub(crate) fn report_interval(&self) -> Option<Duration> {
        self.0.as_ref()?.report_interval
    }

    pub(crate) fn callbacks(&self) -> Option<&(ThreadId, Arc<Callbacks<ProgressState>>)> {
        self.0.as_ref()?.callbacks.as_ref()
    }

    pub(crate) fn function(&self) -> Option<&'static str> {
        self.0.as_ref()?.function
    }

    pub(crate) fn recorder(&self) -> Option<&Arc<dyn Recorder>> {
        self.0.as_ref()?.recorder.as_ref()
    }

    pub(crate) fn relay(&self) -> Option<&Arc<dyn Relay>> {
        self.0.as_ref()?.relay.as_ref()
    }

    /// Notes that the count is about to be spread over parts or threads. Called with a lock of the task held.
    pub(crate) fn spread(&self, task: TaskId) {
        self.recorder().into_iter().for_each(|recorder| recorder.spread(task));
    }
}
