//! The program's end: each worker has a thread here, which starts it, listens to it, sees to it that nothing takes too
//! long, and buries it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use event_listener::Event;

use crate::codec::Encoded;
use crate::error::{CancelCause, TaskErrorKind, WorkerExit};
use crate::executor::job::Refusal;
use crate::executor::shutdown::Drain;
use crate::id::TaskId;
use crate::process::error::RemoteError;
use crate::process::pool::launch::{Failure, Launch, Process};
use crate::process::pool::remote;
use crate::process::pool::remote::Loss;
use crate::process::pool::scheduler::{Aftermath, Desk, Duty, Entry, Estate, News};
use crate::process::protocol::channel::Received;
use crate::process::protocol::wire::{Ending, Outcome, WireError};
use crate::task::details::Owner;
use crate::task::transitions;
use crate::task::{TaskRef, publish, state};

pub(crate) struct Pool {
    pub(crate) launch: Launch,
    pub(crate) cancel_grace: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) desk: Mutex<Desk>,
    /// Notified when there may be no task any more that a worker is to be started for.
    pub(crate) changed: Condvar,
    pub(crate) progress: Event,
}

/// How long to wait for the channel of a process that was killed to close.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a thread has killed its worker.
enum Verdict {
    Unheeded,
    Garbled(WireError),
}

impl Pool {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn submit(self: &Arc<Self>, entry: Entry) {
        let mut desk = self.lock();
        if desk.is_closed() {
            drop(desk);
            return entry.job.reject(Refusal::ShutDown);
        }
        let aftermath = desk.add(entry);
        drop(desk);
        self.follow(aftermath);
    }

    pub(crate) fn close(&self) {
        self.lock().close();
        self.tell_all();
    }

    /// Lets everybody who waits look again: there may be nothing left to wait for.
    fn tell_all(&self) {
        let lines = self.lock().lines();
        lines.iter().for_each(|line| line.ring());
        self.changed.notify_all();
        self.progress.notify(usize::MAX);
    }

    /// Does what has to follow a change, now that the lock is free.
    fn follow(self: &Arc<Self>, aftermath: Aftermath) {
        for line in &aftermath.lines {
            // What is left over, its thread sends.
            line.send_off();
        }
        for place in aftermath.threads {
            let pool = self.clone();
            let thread = thread::Builder::new().name(format!("progress-worker-{place}"));
            if let Err(error) = thread.spawn(move || pool.keep_worker(place)) {
                let error = RemoteError::new("its executor could not start a thread", &error);
                self.do_without(1, &Failure { kind: TaskErrorKind::Rejected, error, worth_attempts: 1 });
                self.lock().vacate(place);
                self.progress.notify(usize::MAX);
            }
        }
    }

    /// The life of a thread: one worker after the other, for as long as there is something to do.
    fn keep_worker(self: Arc<Self>, place: usize) {
        let mut attempts = 0;
        loop {
            self.wait_before_start();
            let Some(function) = self.lock().next_start(place) else { break };
            let is_wanted = || self.lock().needs_workers();
            match self.launch.start(function, is_wanted) {
                Ok(process) => {
                    attempts = 0;
                    self.serve(place, process);
                }
                Err(failure) if is_wanted() => {
                    attempts += 1;
                    self.do_without(attempts, &failure);
                }
                // It was ended because there was nothing for it to do.
                Err(_) => {}
            }
        }
        self.progress.notify(usize::MAX);
    }

    /// Waits for as long as it takes not to start one worker after the other that dies at once.
    fn wait_before_start(&self) {
        let desk = self.lock();
        let pause = desk.back_off();
        let is_wanted = |desk: &mut Desk| desk.next_function().is_some();
        drop(self.changed.wait_timeout_while(desk, pause, is_wanted));
    }

    /// A worker could not be started: tasks that no other one will run have failed.
    fn do_without(&self, attempts: u32, failure: &Failure) {
        let given_up = self.lock().fail(attempts, failure);
        for entry in given_up {
            transitions::reject(entry.job.task(), failure.kind.clone(), failure.error.clone().into());
        }
    }

    /// The life of a worker, once it is ready.
    fn serve(self: &Arc<Self>, place: usize, mut process: Process) {
        let aftermath = self.lock().admit(place, process.line.clone());
        self.follow(aftermath);
        let verdict = loop {
            let timeout = match self.lock().duty(place, Instant::now(), self.idle_timeout) {
                Duty::Wait(timeout) => timeout,
                Duty::Dismiss => {
                    process.dismiss();
                    continue;
                }
                Duty::Kill => break Some(Verdict::Unheeded),
            };
            process.line.wait(timeout);
            match process.line.receive(&mut process.decoder) {
                Received::Some => {}
                Received::Nothing => continue,
                Received::End => break None,
            }
            if let Err(error) = self.take_in(place, &mut process) {
                break Some(Verdict::Garbled(error));
            }
        };
        self.lock().give_up(place, Instant::now());
        if verdict.is_some() {
            process.kill();
            self.hear_last_words(place, &mut process);
        }
        let is_garbled = matches!(verdict, Some(Verdict::Garbled(_)));
        process.read_journal(is_garbled);
        // If that makes no sense either, there is nothing more to know.
        let _ = self.take_in(place, &mut process);
        let is_expected = self.lock().has_said_goodbye(place);
        let exit = process.bury(is_expected);
        self.settle_estate(place, exit, verdict);
    }

    /// Takes in all that has arrived.
    fn take_in(self: &Arc<Self>, place: usize, process: &mut Process) -> Result<(), WireError> {
        let (now, mut news) = (Instant::now(), Vec::new());
        let mut desk = self.lock();
        let result = loop {
            match process.decoder.next_reply() {
                Ok(Some(reply)) => {
                    if let Err(error) = desk.hear(place, reply, now, &mut news) {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let aftermath = desk.assign();
        drop(desk);
        // First the workers get something to do.
        self.follow(aftermath);
        process.line.send_off();
        news.into_iter().for_each(spread);
        result
    }

    /// What a worker had sent before it was killed still counts.
    fn hear_last_words(self: &Arc<Self>, place: usize, process: &mut Process) {
        let deadline = Instant::now() + LAST_WORDS;
        while Instant::now() < deadline {
            match process.line.receive(&mut process.decoder) {
                Received::Some if self.take_in(place, process).is_ok() => {}
                Received::Nothing => process.line.wait(Some(LAST_WORDS)),
                Received::Some | Received::End => return,
            }
        }
    }

    /// Ends the task that went with its worker, and passes the others on.
    fn settle_estate(self: &Arc<Self>, place: usize, exit: WorkerExit, verdict: Option<Verdict>) {
        let mut desk = self.lock();
        let Estate { lost, retried, cancelled } = desk.remove(place);
        let aftermath = desk.assign();
        drop(desk);
        self.follow(aftermath);
        retried.iter().for_each(publish::change);
        cancelled.into_iter().map(News::Cancelled).for_each(spread);
        if let Some(entry) = lost {
            let task = entry.job.task();
            let loss = match verdict {
                None => Loss { kind: TaskErrorKind::WorkerLost(exit), source: None, panic: None },
                Some(Verdict::Unheeded) => {
                    let what =
                        format!("it took no notice for {:?}, so the process that ran it was killed", self.cancel_grace);
                    Loss { kind: cancelled_kind(task), source: Some(RemoteError::from(what).into()), panic: None }
                }
                Some(Verdict::Garbled(error)) => {
                    let source = RemoteError::new("its worker was killed, because of what it had sent", &error);
                    Loss { kind: TaskErrorKind::WorkerLost(exit), source: Some(source.into()), panic: None }
                }
            };
            remote::lose(task, loss);
        }
    }
}

/// Makes known what a worker said of a task.
fn spread(news: News) {
    // Code of the user may be called: outputs are decoded, and dropped.
    let _ = catch_unwind(AssertUnwindSafe(|| match news {
        News::Begun(task, _input) => remote::begin(&task),
        News::Seen(task, sight) => remote::mirror(&task, sight),
        News::Ended(entry, sight, outcome) => {
            let task = entry.job.task();
            remote::end(task, sight, judge(task, outcome));
        }
        News::Cancelled(entry) => {
            let task = entry.job.task();
            transitions::refuse(task, cancelled_kind(task), None);
        }
    }));
}

fn judge(task: &TaskRef, outcome: Outcome) -> Result<Encoded, Loss> {
    let (ending, texts) = match outcome {
        Outcome::Value(output) => return Ok(output),
        Outcome::Error(ending, texts) => (ending, texts),
    };
    let is_requested = task.core.state.load() & state::CANCEL != 0;
    Err(match ending {
        Ending::Cancelled if is_requested => {
            Loss { kind: cancelled_kind(task), source: Some(RemoteError::from_chain(texts).into()), panic: None }
        }
        Ending::Panicked => Loss { kind: TaskErrorKind::Panicked, source: None, panic: texts.into_iter().next() },
        _ => Loss { kind: ending.kind(), source: Some(RemoteError::from_chain(texts).into()), panic: None },
    })
}

fn cancelled_kind(task: &TaskRef) -> TaskErrorKind {
    TaskErrorKind::Cancelled(CancelCause::from_bits(state::cause(task.core.state.load())))
}

impl Owner for Pool {
    fn changed(self: Arc<Self>, task: TaskId) {
        let aftermath = self.lock().heed(task);
        let lines = aftermath.lines.clone();
        self.follow(aftermath);
        // Their threads may have to wait less long from now on.
        lines.iter().for_each(|line| line.ring());
    }

    fn ended(self: Arc<Self>, task: TaskId) {
        let mut desk = self.lock();
        let forgotten = desk.forget(task);
        let is_closed = desk.is_closed();
        drop(desk);
        drop(forgotten);
        if is_closed {
            self.tell_all();
        }
    }
}

impl Drain for Pool {
    fn drain(&self) -> bool {
        self.lock().is_done()
    }

    fn progress(&self) -> &Event {
        &self.progress
    }
}
