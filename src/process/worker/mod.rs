//! The worker's end: a client of the same core. It runs each task with an ordinary [`Updater`], observes it as any other
//! observer would, and forwards what it sees.
//!
//! Two threads share the work. The *runner* runs the tasks, away from whatever surrounds the call of `init`: an async
//! runtime, a lock, a span. While it is idle, it reads from the channel itself. The *watcher*, the thread that called `init`,
//! [reads](reading) while a task takes longer, and passes requests for that task on at once. Neither polls: a wait has a
//! timeout only where heartbeats are due or no descriptor tells when the parent ends.
//!
//! ```text
//!  channel ──► whoever reads ──► inbox ──► runner: Updater ─► task
//!     ▲             └─ cancel, pause, observe ───────────────▲ │
//!     └───────────────────── outbox ◄──────────────────────────┘ what it shows, how it ends
//! ```
//!
//! In the [memory](super::protocol::memory) that both ends share, the program sees that a task has begun, and finds what the
//! worker has said about earlier tasks but not sent yet. While tasks are short, the replies about many of them are sent together.

mod batch;
#[cfg(feature = "cluster")]
mod connect;
mod environment;
pub(crate) mod forward;
mod greet;
#[cfg(feature = "log")]
mod logger;
mod outcome;
mod parent;
mod reader;
mod reading;
mod recorder;

use std::cell::Cell;
use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use std::{env, process};

use crate::codec::references::{self, Store};
use crate::codec::{self, Encoded, Format};
use crate::error::defect::Defect;
use crate::error::{CancelCause, TaskError, TaskResult};
use crate::id::TaskId;
use crate::process::protocol::alarm::Alarm;
use crate::process::protocol::channel::Channel;
use crate::process::protocol::page::Place;
use crate::process::protocol::wire;
use crate::process::protocol::wire::outbox;
use crate::process::protocol::wire::{Ending, Outcome, Reply, Run, WireError};
use crate::process::registry::{Call, TaskRegistry};
use crate::process::this_process::ThisProcess;
use crate::process::worker::batch::Unsent;
use crate::process::worker::forward::{Forwarder, Outlet, snapshot_of, snapshot_of_item};
use crate::process::worker::parent::Parent;
use crate::process::worker::reading::{Reader, Reading, Watch};
use crate::process::worker_args::Role;
use crate::run::{self, Work, run_items};
use crate::task::context::{Context, Surroundings};
use crate::task::details::Details;
use crate::task::limits::Limits;
use crate::task::remote::{Position, RemoteSnapshot};
use crate::task::transitions;
use crate::task::{Handle, TaskRef, counts, state};
use crate::updater::Updater;

/// The stack size for tasks where that of `main` is unlimited.
const STACK: usize = 8 << 20;

/// The exit code of a worker that cannot serve.
const MISUSED: i32 = 2;

/// Serves the program that started this process, until the program dismisses it.
pub(crate) fn serve(registry: &'static TaskRegistry, role: Role) -> ! {
    let error = match Worker::connect(registry, &role) {
        Ok(worker) => worker.watch(),
        Err(error) => error,
    };
    give_up(&*error)
}

/// Prints why this process cannot serve, and exits.
fn give_up(error: &dyn Error) -> ! {
    let name = env::args_os().next().unwrap_or_default();
    // Standard error may have no reader.
    let _ = writeln!(io::stderr(), "{}: {error}", name.to_string_lossy());
    process::exit(MISUSED)
}

struct Worker {
    process: ThisProcess,
    registry: &'static TaskRegistry,
    report_interval: Duration,
    max_frame: u64,
    outlet: Arc<Outlet>,
    parent: Parent,
    /// Locked by the thread that reads from the channel.
    reading: Mutex<Reading>,
    alarm: Option<Alarm>,
    /// Whether the watcher has taken over reading; saves locking the inbox for each item. The watcher then sends what is
    /// pending when the alarm goes off.
    is_watched: AtomicBool,
    /// Whether the alarm has been set for that.
    is_to_send: AtomicBool,
    /// The shared values that inputs refer to.
    store: Arc<Store>,
    inbox: Mutex<Inbox>,
    /// Notified when the inbox or its current task has changed.
    changed: Condvar,
}

#[derive(Default)]
struct Inbox {
    waiting: VecDeque<QueuedRun>,
    current: Option<Current>,
    reader: Reader,
    watch: Watch,
    /// The pool is suspended: no task may make progress.
    is_suspended: bool,
    quits: bool,
    /// The program is gone.
    ends: bool,
}

struct QueuedRun {
    run: Run,
    function: Arc<str>,
    name: Option<String>,
    input: Encoded,
}

#[derive(Clone)]
struct Current {
    run: Run,
    task: TaskRef,
    forwarder: Option<Arc<Forwarder>>,
}

/// A task made from a request: the side that runs it, and the side that takes its outcome.
struct Prepared {
    run: Run,
    function: &'static str,
    task: TaskRef,
    handle: Arc<dyn Handle<Encoded>>,
}

/// What the runner does next.
enum Next {
    Run(Prepared),
    /// The function is not registered.
    Refuse(Run),
    Quit,
}

/// A registered function with its input.
struct Remote {
    function: &'static dyn Call,
    input: Encoded,
}

impl Work for Remote {
    type Output = Encoded;

    fn function() -> &'static str {
        "task"
    }

    fn call(mut self, updater: &Updater) -> TaskResult<Encoded> {
        self.function.call(self.input.lend(), updater)
    }
}

/// A registered function with several inputs, each of which has its own outcome.
struct RemoteItems {
    function: &'static dyn Call,
    input: Encoded,
    run: Run,
    worker: Arc<Worker>,
}

impl Work for RemoteItems {
    type Output = Encoded;

    fn function() -> &'static str {
        "task"
    }

    fn call(self, updater: &Updater) -> TaskResult<Encoded> {
        let items = codec::items::read(&self.input.bytes).ok_or_else(|| Defect::Input("they make no sense".into()))?;
        // When the last item ended, and when outcomes were last sent.
        let (now, mut sent) = (Cell::new(Duration::ZERO), Duration::ZERO);
        let patience = Duration::from_nanos(self.run.timeout);
        let items = items.take_while(|_| now.get() < patience);
        let call = |input: Encoded<&[u8]>, progress: &Updater| {
            let output = self.function.call(input.into(), progress)?;
            // Here, because the item still has its progress.
            self.worker.check_size(&output, outbox::BARE_OVERHEAD)?;
            Ok(output)
        };
        run_items(updater, Self::function, items, call, |outcome, elapsed| {
            self.worker.end_copies(elapsed.saturating_sub(now.get()));
            self.worker.end_item(self.run, outcome);
            now.set(elapsed);
            if elapsed.saturating_sub(sent) > batch::LONGEST {
                self.worker.send_what_was_said();
                sent = elapsed;
            } else {
                self.worker.send_soon();
            }
        })?;
        Ok(Encoded::default())
    }
}

impl Worker {
    fn channel(&self) -> &Channel {
        &self.outlet.channel
    }

    // The runner.

    fn start_runner(self: &Arc<Self>) -> io::Result<()> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Stack).current;
        // As much as `main` has.
        let stack = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(STACK).clamp(STACK / 4, 8 * STACK);
        let worker = self.clone();
        let thread = thread::Builder::new().name("progress-task".into()).stack_size(stack);
        thread.spawn(move || worker.run_tasks()).map(drop)
    }

    /// The runner's loop. Ends the process when the program dismisses the worker.
    fn run_tasks(self: Arc<Self>) {
        let mut context = Context::new(Surroundings {
            report_interval: Some(self.report_interval),
            recorder: self.lay_out(),
            relay: Some(self.outlet.clone()),
            ..Surroundings::default()
        });
        let mut unsent = Unsent::default();
        loop {
            match self.next(&mut unsent) {
                Next::Run(prepared) => {
                    context = context.calling(prepared.function);
                    self.run(prepared, context.clone(), &mut unsent);
                }
                Next::Refuse(run) => self.refuse(run),
                Next::Quit => break,
            }
        }
        self.channel().outbox().reply(Reply::Goodbye);
        self.send_all();
        process::exit(0)
    }

    /// Waits for something to do. Before it waits, sends all that is pending.
    fn next(self: &Arc<Self>, unsent: &mut Unsent) -> Next {
        let mut inbox = self.lock();
        loop {
            while let Some(queued) = inbox.waiting.pop_front() {
                let place = self.place(queued.run);
                if !inbox.ends && place.is_none_or(|place| place.begin()) {
                    return self.take_up(&mut inbox, queued);
                }
            }
            if inbox.quits {
                return Next::Quit;
            }
            if !unsent.is_empty() || !self.channel().outbox().is_empty() {
                drop(inbox);
                self.send_all();
                *unsent = Unsent::default();
                inbox = self.lock();
                continue;
            }
            inbox = match inbox.reader {
                Reader::Watcher => self.changed.wait(inbox).unwrap_or_else(PoisonError::into_inner),
                Reader::Runner => {
                    drop(inbox);
                    self.read(true).unwrap_or_else(|error| give_up(&*Box::<dyn Error>::from(said(&error))));
                    self.lock()
                }
            };
        }
    }

    /// The place where both ends see the state of a task. The initializer has none.
    fn place(&self, run: Run) -> Option<Place<'_>> {
        self.channel().memory().filter(|_| run.id != 0).and_then(|memory| memory.place(run.place))
    }

    /// Makes a task from a request.
    fn take_up(self: &Arc<Self>, inbox: &mut Inbox, queued: QueuedRun) -> Next {
        let QueuedRun { run, function, name, input } = queued;
        let Some(function) = self.registry.function(&function) else { return Next::Refuse(run) };
        // The program enforces it; here it only sets the task's deadline. For a task with items, it says when to begin no more.
        let is_limited = run.timeout != wire::NO_TIMEOUT && input.format != Format::Items;
        let timeout = is_limited.then(|| Duration::from_nanos(run.timeout));
        let details = Details::of(name, Limits { timeout, ..Limits::default() });
        let called = function.name();
        // The initializer is no task of the program.
        let id = if run.id == 0 { TaskId::next() } else { TaskId::of_program(run.id) };
        let (task, handle) = match input.format {
            Format::Items => run::with_id(id, RemoteItems { function, input, run, worker: self.clone() }, details),
            _ => run::with_id(id, Remote { function, input }, details),
        };
        let is_watched = run.wanted & (state::OBSERVED | state::PAUSE | state::CANCEL) != 0;
        let forwarder = is_watched.then(|| self.forwarder(run, &task));
        if let Some(forwarder) = &forwarder {
            forwarder.set_wanted(run.wanted);
            forwarder.forward();
        }
        inbox.current = Some(Current { run, task: task.clone(), forwarder });
        self.set_alarm(inbox);
        // Requested since the task was sent: without shared memory, the program could not take it back.
        if run.wanted & state::PAUSE != 0 || inbox.is_suspended {
            transitions::pause(&task);
        }
        if run.wanted & state::CANCEL != 0 {
            transitions::cancel(&task, CancelCause::from_bits(state::cause(run.wanted)));
        }
        Next::Run(Prepared { run, function: called, task, handle })
    }

    fn run(&self, prepared: Prepared, context: Context, unsent: &mut Unsent) {
        let Prepared { run, task, handle, .. } = prepared;
        let is_known = self.place(run).is_some() || run.wanted & state::RUNNING != 0;
        let is_awaited = !is_known || task.core.state.load() & state::OBSERVED != 0;
        if is_awaited {
            self.channel().outbox().reply(Reply::Started { id: run.id });
        }
        if is_awaited || unsent.is_a_batch() {
            self.send_all();
            *unsent = Unsent::default();
        }
        if !is_known && self.channel().is_broken() {
            // The program does not hear that this task begins, and has another worker run it.
            self.leave_task(&task);
            self.see_it_end();
        }
        self.outlet.turn_to(&task.core, run.id);
        // The initializer runs before any value is shared.
        references::use_store((run.id != 0).then(|| self.store.clone()));
        // The task may have been paused or cancelled since `Started` was sent.
        run::claim_and_run(&task, context);
        // Includes all items, if the task has items.
        let elapsed = task.core.running_for();
        self.end_copies(Duration::from_nanos(elapsed));
        // What the task printed must appear before its outcome. The task is still the current one, so the watcher takes over
        // reading if this takes long: printing may block, and errors are user code.
        let _ = io::stdout().flush();
        let snapshot = RemoteSnapshot { elapsed, ..snapshot_of(&task, &task.core.snapshot(), self.longest_text()) };
        unsent.add(Duration::from_nanos(snapshot.elapsed));
        let overhead = outbox::value_overhead(&snapshot);
        let outcome = match handle.take() {
            Some(Ok(value)) => self.value(value, overhead),
            Some(Err(error)) => self.error(error, overhead),
            None => Outcome::Error(Ending::Failed, vec!["its outcome is gone".into()]),
        };
        self.leave_task(&task);
        self.end(run, snapshot, outcome);
    }

    /// Makes this no longer the current task. Does not return if the program is gone: then the process ends.
    fn leave_task(&self, task: &TaskRef) {
        let mut inbox = self.lock();
        let (current, ends) = (inbox.current.take(), inbox.ends);
        drop(inbox);
        if let Some(forwarder) = current.and_then(|current| current.forwarder) {
            // Nothing may be sent about a task after its end.
            forwarder.close();
        }
        task.core.move_in();
        if ends {
            self.changed.notify_all();
            wait_for_the_end();
        }
    }

    /// Ends a forked copy of this process: a task that ran for this long may have forked, and if the child returns from the
    /// task function as well, it is no worker of the program and must send nothing.
    fn end_copies(&self, took: Duration) {
        if !self.process.is_here_after(took) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            wait_for_the_end();
        }
    }

    fn refuse(&self, run: Run) {
        let position = Position { total: counts::UNKNOWN, ..Position::default() };
        let snapshot = RemoteSnapshot { position, ..RemoteSnapshot::default() };
        let text = "add it to `test_worker!`".into();
        self.end(run, snapshot, Outcome::Error(Ending::NotRegistered, vec![text]));
    }

    fn end(&self, run: Run, snapshot: RemoteSnapshot, outcome: Outcome) {
        if self.place(run).is_some_and(|place| !place.end()) {
            // The program is about to kill this process because of this task. No other task may be hit by that.
            wait_for_the_end();
        }
        self.outlet.end(Reply::Ended { id: run.id, snapshot, outcome });
        self.note();
    }

    /// Adds the outcome of an item of the running task.
    fn end_item(&self, run: Run, outcome: Result<Encoded, TaskError>) {
        if outcome.is_err() && self.lock().ends {
            wait_for_the_end();
        }
        let (snapshot, outcome) = match outcome {
            Ok(value) => (RemoteSnapshot::default(), Outcome::Value(value)),
            Err(error) => {
                let snapshot = snapshot_of_item(error.progress(), self.longest_text());
                let outcome = self.error(error, outbox::value_overhead(&snapshot));
                (snapshot, outcome)
            }
        };
        self.outlet.end_item(Reply::Item { id: run.id, snapshot, outcome });
        self.note();
    }

    /// Makes pending replies outlive this process: notes them in shared memory, or else sends them.
    fn note(&self) {
        if !self.channel().note() {
            self.send_all();
        }
    }

    fn send_what_was_said(&self) {
        // What the task printed must appear before the outcomes.
        let _ = io::stdout().flush();
        self.send_all();
    }

    fn forwarder(&self, run: Run, task: &TaskRef) -> Arc<Forwarder> {
        Forwarder::new(self.outlet.clone(), run, task.clone(), self.longest_text())
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of the process, which ends for a reason other than its task. If only something in between has ended,
/// such as a launcher, the program is still there: it must not be told that its task was cancelled, which nobody requested.
fn wait_for_the_end() -> ! {
    loop {
        thread::park();
    }
}

fn said(error: &WireError) -> String {
    let said = format!("the program that started it has sent {error}");
    match error {
        WireError::Silence(_) => {
            said + ": a launcher must pass on everything that its worker writes to standard output"
        }
        _ => said,
    }
}
