//! Relays what workers and launchers write to their standard output and error, if that is captured: reads it, passes it
//! on line by line, and keeps the end of it for errors.
//!
//! One thread does so for all workers of a pool. A slow consumer of lines holds up that thread, and once the pipes are
//! full also the processes that write too much; but neither the driver nor tasks that write nothing. Before the end of
//! a task is made known, the driver reads what the task has written, so that this is attributed to that task.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use crate::process::output::WorkerOutput;
use crate::process::pool::output::line_stream::LineStream;
#[cfg(feature = "log")]
use crate::process::pool::output::logs::Records;
use crate::process::protocol::wake_pipe::WakePipe;
use crate::sync::timer::{TIMER, Timed, TimerId};
use crate::sync::wakers::Wakers;
#[cfg(feature = "log")]
use crate::task::TaskRef;
use crate::task::lines::{Backlog, Line, write_to_stderr};
#[cfg(feature = "log")]
use crate::task::remote::RemoteLog;

/// How long a shutdown waits for standard error to take a line.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// The thread that reads and passes on, as other threads see it.
pub(crate) struct Relay {
    wake: WakePipe,
    output: WorkerOutput,
    /// Woken when it no longer [holds up](Self::holds_up) a shutdown.
    waiting: Arc<Wakers>,
    news: Mutex<News>,
}

#[derive(Default)]
struct News {
    arrived: Vec<Arc<LineStream>>,
    /// Lines of tasks, for standard error.
    lines: Backlog,
    /// Since when a line is being written to standard error.
    writing_since: Option<Instant>,
    /// Whether standard error has once taken too long since the pool was over: it may have no reader that ever reads on.
    is_given_up: bool,
    #[cfg(feature = "log")]
    records: Records,
    /// Whether no other stream will arrive.
    is_over: bool,
    has_ended: bool,
    /// The timer entry that ends the wait for standard error.
    timer: Option<TimerId>,
}

impl Relay {
    /// Starts the thread, which wakes those who are `waiting` last.
    pub(crate) fn start(output: WorkerOutput, waiting: Arc<Wakers>) -> io::Result<Arc<Self>> {
        let relay = Arc::new(Self { wake: WakePipe::new()?, output, waiting, news: Mutex::default() });
        let shared = relay.clone();
        thread::Builder::new().name("progress-relay".into()).spawn(move || {
            shared.run();
            let mut news = shared.news();
            news.has_ended = true;
            let timer = news.timer.take();
            drop(news);
            TIMER.forget(timer);
            shared.waiting.wake_all();
        })?;
        Ok(relay)
    }

    /// Whether there is something to pass on, or more may come.
    pub(crate) fn holds_up(&self) -> bool {
        let news = self.news();
        !news.has_ended && !news.is_given_up
    }

    pub(crate) fn add(&self, stream: Arc<LineStream>) {
        self.news().arrived.push(stream);
        self.wake.wake();
    }

    /// Logs a record of a task, unless too many wait.
    #[cfg(feature = "log")]
    pub(crate) fn log(&self, log: RemoteLog, task: &TaskRef) {
        self.news().records.push(log, task.core.id(), task.name().into());
        self.wake.wake();
    }

    /// Writes a line to standard error.
    pub(crate) fn print(&self, line: Line) {
        self.news().lines.push(line);
        self.wake.wake();
    }

    /// Whether lines wait to be written.
    pub(crate) fn has_lines(&self) -> bool {
        let news = self.news();
        news.writing_since.is_some() || !news.lines.is_empty()
    }

    /// Calls what writes a line to standard error.
    fn write(&self, write: impl FnOnce()) {
        self.news().writing_since = Some(Instant::now());
        write();
        self.news().writing_since = None;
    }

    /// Writes what waits to be written.
    fn print_lines(&self) {
        loop {
            let mut news = self.news();
            let next = news.lines.pop();
            // With the lock held, so that no line is between being there and being written.
            news.writing_since = next.as_ref().map(|_| Instant::now());
            drop(news);
            let Some(line) = next else { return };
            write_to_stderr(&line.text);
        }
    }

    /// Has the thread pass on what another thread has read.
    pub(crate) fn wake(&self) {
        self.wake.wake();
    }

    /// Lets the thread end once all streams have ended.
    pub(crate) fn finish(self: &Arc<Self>) {
        let mut news = self.news();
        if !mem::replace(&mut news.is_over, true) {
            // If the timer has no thread, a shutdown waits for as long as standard error takes.
            news.timer = TIMER.schedule(Instant::now() + WRITE_TIMEOUT, Box::new(Finishing(self.clone()))).ok();
        }
        drop(news);
        self.wake.wake();
    }

    /// Whether it takes no more streams.
    pub(crate) fn is_finishing(&self) -> bool {
        self.news().is_over
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut streams: Vec<Arc<LineStream>> = Vec::new();
        loop {
            self.wake.drain();
            let mut news = self.news();
            streams.append(&mut news.arrived);
            #[cfg(feature = "log")]
            let records = news.records.take();
            let is_over = news.is_over;
            drop(news);
            #[cfg(feature = "log")]
            records.log();
            self.print_lines();
            if is_over && streams.is_empty() {
                return;
            }
            let mut ready = self.wait(&streams).into_iter();
            streams.retain(|stream| {
                if ready.next() == Some(true) || stream.has_news() {
                    self.pass_on(stream);
                }
                !stream.is_over()
            });
        }
    }

    fn pass_on(&self, stream: &LineStream) {
        for line in stream.next_lines() {
            match &self.output {
                WorkerOutput::Inherit => {
                    self.write(|| write_to_stderr(&format!("[{}] {line}", stream.mark(&line.worker))));
                }
                WorkerOutput::Lines(callback) if callback.is_for_stderr() => self.write(|| callback.call(&line)),
                WorkerOutput::Lines(callback) => callback.call(&line),
                WorkerOutput::Null => {}
            }
        }
    }

    /// Waits until something was written, or another stream was added. Returns which streams are readable.
    fn wait(&self, streams: &[Arc<LineStream>]) -> Vec<bool> {
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(streams.iter().map(|stream| PollFd::new(&**stream, PollFlags::IN)));
        // After an error, the streams are looked at again.
        let is_due = streams.iter().any(|stream| stream.has_news());
        let timeout = is_due.then_some(Timespec { tv_sec: 0, tv_nsec: 0 });
        let _ = retry_on_intr(|| poll(&mut fds, timeout.as_ref()));
        fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect()
    }
}

/// A relay whose pool is over: the timer sees whether standard error still takes what is left.
struct Finishing(Arc<Relay>);

impl Timed for Finishing {
    fn fire(&mut self, _due: Instant, now: Instant) -> Option<Instant> {
        let Self(relay) = self;
        let mut news = relay.news();
        if news.has_ended {
            return None;
        }
        let gives_up_at = news.writing_since.unwrap_or(now) + WRITE_TIMEOUT;
        if now < gives_up_at {
            return Some(gives_up_at);
        }
        news.is_given_up = true;
        drop(news);
        relay.waiting.wake_all();
        None
    }
}

/// Whether a text can be written to standard error without blocking.
pub(super) fn is_written_at_once(text: &str) -> bool {
    /// What a writable pipe takes at once.
    const ATOMIC: usize = 4096;
    let stderr = io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    let is_ready = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0);
    is_ready && text.len() < ATOMIC
}
