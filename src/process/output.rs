//! What happens to what workers write to their standard output and error.

use std::fmt;
#[cfg(unix)]
use std::sync::PoisonError;
use std::sync::{Arc, Mutex};

use crate::id::{TaskId, WorkerId};
#[cfg(unix)]
use crate::sync::unwind::quietly;
use crate::task::lines::write_to_stderr;

/// What happens to what the workers of a [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) write to their standard output
/// and error; for [`ProcessPoolBuilder::output`](crate::ProcessPoolBuilder::output).
///
/// What a *launched* worker writes to standard output arrives with its standard error, since its standard output is its channel.
///
/// # Examples
///
/// ```standalone_crate
/// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater, WorkerOutput};
/// use std::sync::mpsc;
/// use std::time::Duration;
///
/// fn greet(name: String, _: &Updater) -> TaskResult<()> {
///     println!("hello {name}");
///     Ok(())
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     TaskRegistry::new().register(greet).init();
///     let (said, heard) = mpsc::channel();
///     let output = WorkerOutput::lines(move |line| _ = said.send(line.text.clone()));
///     let executor = ProcessPoolExecutor::builder().max_workers(1).output(output).build()?;
///     executor.submit(greet, "world".to_owned()).wait()?;
///     assert_eq!(heard.recv_timeout(Duration::from_secs(60))?, "hello world");
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum WorkerOutput {
    /// It appears where this program's does. The output of a [launched](crate::Launcher) worker appears on standard error, line
    /// by line, with a mark of where it came from.
    #[default]
    Inherit,
    /// It is dropped.
    Null,
    /// It is passed on, line by line; made by [`lines`](Self::lines) and [`above_bars`](Self::above_bars).
    Lines(LineCallback),
}

/// The function that is called with each line; see [`WorkerOutput::lines`].
///
/// # Examples
///
/// ```
/// use progress_executor::WorkerOutput;
///
/// let output = WorkerOutput::lines(|line| println!("{line}"));
/// assert!(matches!(output, WorkerOutput::Lines(_))); // it is within
/// ```
#[derive(Clone)]
pub struct LineCallback {
    callback: Arc<Mutex<Callback>>,
    /// Whether it does nothing but write to standard error.
    is_for_stderr: bool,
}

type Callback = dyn FnMut(&OutputLine) + Send;

impl WorkerOutput {
    /// Calls `f` with each line that a worker writes. With `GroupBars`, the lines can go above the bars:
    /// `WorkerOutput::lines(move |line| bars.println(line))`.
    ///
    /// `f` is called on a thread of its own, one for all workers of the pool, with one line after the other. So it may take its
    /// time: meanwhile, workers write until the pipe is full (64 KiB on Linux, and as much again waits in this program) and
    /// then wait, as they would for a slow terminal. No memory is used beyond that, and neither the pool nor a task that writes
    /// nothing is held up. `f` must not wait for a task that writes more than that, or for a shutdown of the pool. A line may
    /// arrive a moment after its task has ended; when a [`shutdown`](crate::ProcessPoolExecutor::shutdown) has resolved, all have
    /// arrived, unless standard error took nothing of what tasks have [printed](crate::Updater::println). If `f` panics, only
    /// that line is lost.
    ///
    /// So that it is known which task has written what, a worker is sent only one task at a time, and a
    /// [map](crate::ExecutorExt::map) gathers inputs into one task only if it is [asked to](crate::Map::chunks). That is slower
    /// for tasks that take microseconds.
    ///
    /// Lines come without their newline. A line of more than 8 KiB comes in pieces of that size, and what a task has left of a
    /// line when it ends comes as a line as well. The last 4 KiB of standard error are also part of the error of a task whose
    /// worker is lost.
    ///
    /// What a [launched](crate::Launcher) worker writes arrives as standard error of its launcher, without the task. There, what
    /// a task has left of a line becomes the beginning of the next one.
    pub fn lines(f: impl FnMut(&OutputLine) + Send + 'static) -> Self {
        Self::Lines(LineCallback { callback: Arc::new(Mutex::new(f)), is_for_stderr: false })
    }

    /// Writes each line to standard error: whole, and above the bars that are shown there.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use progress_executor::{ProcessPoolExecutor, WorkerOutput};
    ///
    /// let executor = ProcessPoolExecutor::builder().output(WorkerOutput::above_bars()).build()?;
    /// # Ok::<(), progress_executor::ProcessPoolError>(())
    /// ```
    pub fn above_bars() -> Self {
        let callback = Arc::new(Mutex::new(|line: &OutputLine| write_to_stderr(&line.text)));
        Self::Lines(LineCallback { callback, is_for_stderr: true })
    }
}

impl LineCallback {
    #[cfg(unix)]
    pub(crate) fn call(&self, line: &OutputLine) {
        let mut callback = self.callback.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = quietly(|| callback(line));
    }

    #[cfg(unix)]
    pub(crate) fn is_for_stderr(&self) -> bool {
        self.is_for_stderr
    }
}

impl fmt::Debug for LineCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineCallback").finish_non_exhaustive()
    }
}

/// A line that a worker has written. Displayed as its text.
///
/// # Examples
///
/// ```
/// use progress_executor::{OutputLine, WorkerOutput};
///
/// fn log(line: &OutputLine) {
///     match &line.name {
///         Some(task) => println!("[{task}] {line}"),
///         None => println!("[{}] {line}", line.worker), // no task was running
///     }
/// }
///
/// let output = WorkerOutput::lines(log); // for `ProcessPoolBuilder::output`
/// # let _ = output;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputLine {
    /// The process that has written it, or its launcher.
    pub worker: WorkerId,
    /// The stream that it was written to.
    pub stream: OutputStream,
    /// The task that the worker was running, if that is known.
    pub task: Option<TaskId>,
    /// The name of that task.
    pub name: Option<Arc<str>>,
    /// The line, without its newline. Invalid UTF-8 is replaced.
    pub text: String,
}

/// Standard output or standard error.
///
/// # Examples
///
/// ```
/// use progress_executor::{OutputStream, WorkerOutput};
///
/// let output = WorkerOutput::lines(|line| match line.stream {
///     OutputStream::Stdout => println!("{line}"),
///     OutputStream::Stderr => eprintln!("{line}"),
/// });
/// # let _ = output;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for OutputLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl AsRef<str> for OutputLine {
    fn as_ref(&self) -> &str {
        &self.text
    }
}
