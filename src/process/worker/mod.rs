//! The worker's end: a client of the same core. It runs each task with an ordinary [`Updater`], observes it as any
//! observer would, and forwards what it sees.
//!
//! Two threads share the work. The *main* thread runs the tasks, and reads the channel itself while it has none: so a
//! task that comes to an idle worker is run by the thread that has received it. The *watcher* reads the channel while
//! main is busy with one task for longer than a moment, so that cancellation, and the end of the program, reach a worker
//! whose task never looks.
//!
//! ```text
//!                  a task takes longer than a tick
//!   main reads ──────────────────────────────────────► the watcher reads
//!              ◄──────────────────────────────────────
//!                   main has nothing to do: it rings
//! ```
//!
//! That a task has started is said before it is, together with how the one before it ended, in a way that outlives this
//! process. Whatever happens to it after that, the program knows which task it has cost. While tasks are short, what was
//! said about many of them is sent at once.

pub(crate) mod alarm;
pub(crate) mod forward;

use std::collections::VecDeque;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, process};

use crate::codec::Encoded;
use crate::error::{CancelCause, TaskError, TaskErrorKind, TaskResult};
use crate::process::error::texts;
use crate::process::protocol::channel::{Line, Received};
use crate::process::protocol::wire;
use crate::process::protocol::wire::{Decoder, Ending, Hello, Outcome, Ready, Reply, Request, VERSION, WireError};
use crate::process::registry::{Call, Defect, TaskRegistry};
use crate::process::worker::alarm::Alarm;
use crate::process::worker::forward::{Forwarder, see, shorten};
use crate::process::worker_args::Role;
use crate::process::{registry, worker_args};
use crate::run;
use crate::run::Work;
use crate::task::context::Context;
use crate::task::details::Details;
use crate::task::limits::Limits;
use crate::task::remote::RemoteSnapshot;
use crate::task::state::Unclaimed;
use crate::task::transitions;
use crate::task::{Handle, TaskRef, counts, state};
use crate::updater::Updater;

/// A task that takes longer than that is watched.
const TICK: Duration = Duration::from_millis(1);
/// How much work may be done before what has come of it is sent, while more is waiting.
const BATCH: Duration = Duration::from_micros(100);
/// How often a task that is watched is looked at.
const GLANCE: Duration = Duration::from_millis(20);
/// How long a task may take to end when the program is gone.
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// How many errors, each the source of the one before, are told.
const MOST_SOURCES: usize = 64;

/// The exit code of a worker that cannot do what it is for.
const MISUSED: i32 = 2;

/// Serves the program that has started this process, until it has had enough.
pub(crate) fn serve(registry: &'static TaskRegistry, role: Role) -> ! {
    let code = match Worker::connect(registry, &role) {
        Ok(worker) => worker.work(),
        Err(error) => {
            eprintln!("{}: {error}", env::args().next().unwrap_or_default());
            MISUSED
        }
    };
    process::exit(code)
}

struct Worker {
    registry: &'static TaskRegistry,
    report_interval: Duration,
    max_frame: u64,
    line: Arc<Line>,
    decoder: Mutex<Decoder>,
    inbox: Mutex<Inbox>,
    changed: Condvar,
    /// Odd while main runs a task.
    epoch: AtomicU64,
    /// Whether the watcher is to be woken when main runs a task.
    watcher_sleeps: AtomicBool,
    alarm: Alarm,
    /// What the epoch was when the alarm was set.
    alarmed_epoch: AtomicU64,
}

#[derive(Default)]
struct Inbox {
    waiting: VecDeque<Assignment>,
    current: Option<Current>,
    /// No task is to be started before the program says so.
    holds: bool,
    quits: bool,
    /// The program is gone.
    ends: bool,
    watcher_reads: bool,
    /// Main has nothing to do, and wants to read.
    main_waits: bool,
}

struct Assignment {
    id: u64,
    wanted: u32,
    timeout: u64,
    function: String,
    input: Encoded,
}

#[derive(Clone)]
struct Current {
    id: u64,
    task: TaskRef,
    forwarder: Option<Arc<Forwarder>>,
}

/// A task as it was made here, seen from both of its sides.
struct Made {
    task: TaskRef,
    handle: Arc<dyn Handle<Encoded>>,
}

/// What is still to be done about a request, without the lock.
enum Errand {
    Cancel(TaskRef, u32),
    Pause(TaskRef),
    Resume(TaskRef),
    Observe(Arc<Forwarder>),
    Probe(Arc<Forwarder>),
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

    fn call(self, updater: &Updater) -> TaskResult<Encoded> {
        self.function.call(self.input, updater)
    }
}

impl Worker {
    /// Takes the channel for itself, and exchanges introductions.
    fn connect(registry: &'static TaskRegistry, role: &Role) -> Result<Arc<Self>, Box<dyn Error>> {
        let socket = role.take_channel().map_err(|error| worker_args::by_hand(registry, &error))?;
        let mut line = Line::new(socket)?;
        let mut decoder = Decoder::new(1024);
        let hello = loop {
            line.wait(None);
            if line.receive_first(&mut decoder) == Received::End {
                return Err("the program that started this worker is gone".into());
            }
            match decoder.next_request().map_err(|error| said(&error))? {
                Some(Request::Hello(hello)) => break hello,
                Some(_) => return Err(said(&WireError::NoHello).into()),
                None => {}
            }
        };
        let Hello { version, depth, report_interval, max_frame } = hello;
        let ready = Ready { version: VERSION, fingerprint: registry::fingerprint(Some(registry)) };
        line.outbox().reply(Reply::Ready(ready));
        line.send_all();
        if version != VERSION {
            return Err(said(&WireError::Version(version)).into());
        }
        worker_args::set_depth(depth.saturating_add(1));
        decoder.set_max_frame(max_frame);
        Ok(Arc::new(Self {
            registry,
            report_interval: Duration::from_nanos(report_interval),
            max_frame,
            line: Arc::new(line),
            decoder: Mutex::new(decoder),
            inbox: Mutex::default(),
            changed: Condvar::new(),
            epoch: AtomicU64::new(0),
            watcher_sleeps: AtomicBool::new(false),
            alarm: Alarm::new()?,
            alarmed_epoch: AtomicU64::new(0),
        }))
    }

    /// The life of the worker; returns its exit code.
    fn work(self: Arc<Self>) -> i32 {
        let worker = self.clone();
        if let Err(error) = thread::Builder::new().name("progress-watch".into()).spawn(move || worker.watch()) {
            eprintln!("a worker of progress-executor could not start a thread: {error}");
            return MISUSED;
        }
        // What came together with the introduction.
        self.take_in(&mut self.decoder.lock().unwrap_or_else(PoisonError::into_inner));
        let mut context = Context::with_interval(self.report_interval);
        let mut unsent = Duration::ZERO;
        while let Some((id, found)) = self.next(&mut unsent) {
            match found {
                Some(made) => context = self.run(id, made, context, &mut unsent),
                None => self.refuse(id),
            }
        }
        self.line.outbox().reply(Reply::Goodbye);
        self.line.send_all();
        0
    }

    /// The next task for main, which waits for one; `None` when it is to end.
    fn next(self: &Arc<Self>, unsent: &mut Duration) -> Option<(u64, Option<Made>)> {
        let mut inbox = self.lock();
        loop {
            if !inbox.holds {
                if let Some(assignment) = inbox.waiting.pop_front() {
                    return Some((assignment.id, self.take_up(&mut inbox, assignment)));
                }
                if inbox.quits {
                    return None;
                }
            }
            drop(inbox);
            self.line.send_all();
            *unsent = Duration::ZERO;
            self.read();
            inbox = self.lock();
        }
    }

    /// Makes a task out of what was received.
    fn take_up(self: &Arc<Self>, inbox: &mut Inbox, assignment: Assignment) -> Option<Made> {
        let Assignment { id, wanted, timeout, function, input } = assignment;
        let function = self.registry.function(&function)?;
        // The program sees to it; here it is for the task to know.
        let details = (timeout != wire::NO_TIMEOUT).then(|| {
            let limits = Limits { timeout: Some(Duration::from_nanos(timeout)), ..Limits::default() };
            Box::new(Details::with_limits(limits))
        });
        let (task, handle) = run::new(Remote { function, input }, details);
        let forwarder = (wanted & state::OBSERVED != 0).then(|| self.forwarder(id, &task));
        if let Some(forwarder) = &forwarder {
            forwarder.start();
        }
        inbox.current = Some(Current { id, task: task.clone(), forwarder });
        Some(Made { task, handle })
    }

    /// `unsent` is the time that the tasks took of which nothing was sent yet.
    fn run(&self, id: u64, made: Made, context: Context, unsent: &mut Duration) -> Context {
        let Made { task, handle } = made;
        self.line.outbox().reply(Reply::Started { id });
        let is_observed = task.core.state.load() & state::OBSERVED != 0;
        if is_observed || *unsent > BATCH {
            self.line.send_all();
            *unsent = Duration::ZERO;
        } else {
            // The watcher sends it, if this takes longer than a moment.
            self.line.note();
        }
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        if self.watcher_sleeps.load(Ordering::SeqCst) && self.watcher_sleeps.swap(false, Ordering::SeqCst) {
            self.alarmed_epoch.store(epoch, Ordering::SeqCst);
            self.alarm.set(TICK);
        }
        let context = carry_out(task.clone(), context);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        let mut inbox = self.lock();
        let current = inbox.current.take();
        if inbox.ends {
            self.changed.notify_all();
        }
        drop(inbox);
        if let Some(forwarder) = current.and_then(|current| current.forwarder) {
            // Nothing may be said of a task after its end.
            forwarder.close();
        }
        let sight = see(&task, self.longest_text());
        *unsent += Duration::from_nanos(sight.elapsed);
        let outcome = match handle.take() {
            Some(outcome) => self.outcome(outcome, &sight),
            None => Outcome::Error(Ending::Failed, vec!["its outcome is gone".into()]),
        };
        self.line.outbox().reply(Reply::Ended { id, sight, outcome });
        context
    }

    fn refuse(&self, id: u64) {
        let sight = RemoteSnapshot { total: counts::UNKNOWN, ..RemoteSnapshot::default() };
        let text = "the worker does not know its function".into();
        let mut outbox = self.line.outbox();
        outbox.reply(Reply::Started { id });
        outbox.reply(Reply::Ended { id, sight, outcome: Outcome::Error(Ending::NotRegistered, vec![text]) });
    }

    /// How the task ended, in terms of the protocol.
    fn outcome(&self, outcome: Result<Encoded, TaskError>, sight: &RemoteSnapshot) -> Outcome {
        let error = match outcome {
            Ok(value) => {
                let len = value.bytes.len() as u64 + wire::value_overhead(sight);
                if len <= self.max_frame {
                    return Outcome::Value(value);
                }
                return Outcome::Error(
                    Ending::Encode,
                    vec![
                        "its output could not be encoded".into(),
                        wire::WireError::TooLarge { len, max: self.max_frame }.to_string(),
                    ],
                );
            }
            Err(error) => error,
        };
        let ending = match (error.kind(), error.downcast_ref()) {
            (TaskErrorKind::Cancelled(_), _) => Ending::Cancelled,
            (TaskErrorKind::Panicked, _) => Ending::Panicked,
            (_, Some(Defect::Input(_))) => Ending::Decode,
            (_, Some(Defect::Output(_))) => Ending::Encode,
            _ => Ending::Failed,
        };
        let mut room = self.longest_text();
        let texts = texts(error.source()).chain(error.panic_text()).take(MOST_SOURCES).map(|text| {
            let text = shorten(text, room);
            room -= text.len();
            text
        });
        Outcome::Error(ending, texts.collect())
    }

    /// A frame has to have room for it, and for something else.
    fn longest_text(&self) -> usize {
        usize::try_from(self.max_frame / 4).unwrap_or(usize::MAX)
    }

    fn forwarder(&self, id: u64, task: &TaskRef) -> Arc<Forwarder> {
        Forwarder::new(self.line.clone(), id, task.clone(), self.longest_text())
    }

    /// Reads the channel once, or waits for the watcher to do it.
    fn read(self: &Arc<Self>) {
        let mut inbox = self.lock();
        if inbox.watcher_reads {
            inbox.main_waits = true;
            self.line.ring();
            while inbox.watcher_reads {
                inbox = self.changed.wait(inbox).unwrap_or_else(PoisonError::into_inner);
            }
            inbox.main_waits = false;
            return;
        }
        drop(inbox);
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        // Not in `wait`, which takes a system call more: nobody rings while main reads.
        let received = self.line.await_some(&mut decoder);
        if received == Received::End {
            die();
        }
        self.take_in(&mut decoder);
    }

    /// The life of the watcher.
    fn watch(self: Arc<Self>) {
        loop {
            self.sleep_until_a_tick_after_a_start();
            let mut seen = self.alarmed_epoch.load(Ordering::SeqCst);
            loop {
                let epoch = self.epoch.load(Ordering::SeqCst);
                if epoch % 2 == 0 {
                    break;
                }
                if epoch == seen {
                    self.read_for_main(epoch);
                } else {
                    seen = epoch;
                    thread::sleep(TICK);
                }
            }
        }
    }

    fn sleep_until_a_tick_after_a_start(&self) {
        self.watcher_sleeps.store(true, Ordering::SeqCst);
        // Main may have started a task just before it could see that; then nobody sets the alarm.
        let is_running = self.epoch.load(Ordering::SeqCst) % 2 == 1;
        if !is_running || !self.watcher_sleeps.swap(false, Ordering::SeqCst) {
            self.alarm.wait();
        }
    }

    fn read_for_main(self: &Arc<Self>, epoch: u64) {
        let mut inbox = self.lock();
        if inbox.current.is_none() || self.epoch.load(Ordering::SeqCst) != epoch {
            return;
        }
        inbox.watcher_reads = true;
        drop(inbox);
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.glance();
            self.line.wait(Some(GLANCE));
            match self.line.receive(&mut decoder) {
                Received::Some => self.take_in(&mut decoder),
                Received::Nothing => {}
                Received::End => self.see_it_end(),
            }
            let mut inbox = self.lock();
            if inbox.main_waits {
                drop(decoder);
                inbox.watcher_reads = false;
                self.changed.notify_all();
                return;
            }
        }
    }

    /// Sees to it that the program hears of the current task, whether or not it has asked for that.
    fn glance(self: &Arc<Self>) {
        let mut inbox = self.lock();
        let Some(current) = &mut inbox.current else { return };
        let forwarder = match &current.forwarder {
            Some(forwarder) => forwarder.clone(),
            None => {
                let forwarder = self.forwarder(current.id, &current.task);
                current.forwarder = Some(forwarder.clone());
                drop(inbox);
                return forwarder.start();
            }
        };
        drop(inbox);
        forwarder.forward_notice();
    }

    /// Does what the program asks for.
    fn take_in(self: &Arc<Self>, decoder: &mut Decoder) {
        let mut errands = Vec::new();
        let mut inbox = self.lock();
        loop {
            match decoder.next_request() {
                Ok(Some(request)) => self.heed(&mut inbox, request, &mut errands),
                Ok(None) => break,
                Err(error) => {
                    eprintln!("a worker of progress-executor ends: {}", said(&error));
                    process::exit(MISUSED);
                }
            }
        }
        drop(inbox);
        for errand in errands {
            errand.run();
        }
        self.line.send_off();
    }

    fn heed(self: &Arc<Self>, inbox: &mut Inbox, request: Request, errands: &mut Vec<Errand>) {
        match request {
            Request::Run { id, wanted, timeout, function, input } => {
                inbox.waiting.push_back(Assignment { id, wanted, timeout, function, input });
            }
            Request::Want { id, wanted } => match &mut inbox.current {
                Some(current) if current.id == id => {
                    inbox.holds |= wanted & state::CANCEL != 0;
                    self.want(current, wanted, errands);
                }
                _ if wanted & state::INTERRUPT != 0 => self.give_back(inbox, id),
                _ => {
                    for assignment in inbox.waiting.iter_mut().filter(|assignment| assignment.id == id) {
                        assignment.wanted = wanted;
                    }
                }
            },
            Request::Recall { id } => self.give_back(inbox, id),
            Request::Proceed => inbox.holds = false,
            Request::Quit => inbox.quits = true,
            // Once was enough.
            Request::Hello(_) => {}
        }
    }

    /// Passes on what is wanted of the current task.
    fn want(self: &Arc<Self>, current: &mut Current, wanted: u32, errands: &mut Vec<Errand>) {
        let Current { id, task, forwarder } = current;
        if wanted & state::CANCEL != 0 {
            // Before the task can end: main takes the lock for that, which is held here.
            let has_noticed = task.core.state.load() & state::NOTICED != 0;
            self.line.outbox().reply(Reply::Heard { id: *id, has_noticed });
            errands.push(Errand::Cancel(task.clone(), state::cause(wanted)));
        }
        errands.push(match wanted & state::PAUSE {
            0 => Errand::Resume(task.clone()),
            _ => Errand::Pause(task.clone()),
        });
        if wanted & (state::OBSERVED | state::PROBE) != 0 && forwarder.is_none() {
            let new = self.forwarder(*id, task);
            *forwarder = Some(new.clone());
            errands.push(Errand::Observe(new));
        }
        if let Some(forwarder) = forwarder.as_ref().filter(|_| wanted & state::PROBE != 0) {
            errands.push(Errand::Probe(forwarder.clone()));
        }
    }

    fn give_back(&self, inbox: &mut Inbox, id: u64) {
        let place = inbox.waiting.iter().rposition(|assignment| assignment.id == id);
        if place.and_then(|place| inbox.waiting.remove(place)).is_some() {
            self.line.outbox().reply(Reply::Returned { id });
        }
    }

    /// The program is gone: gives the task a moment to end, and ends.
    fn see_it_end(&self) -> ! {
        let mut inbox = self.lock();
        (inbox.holds, inbox.ends) = (true, true);
        if let Some(Current { task, .. }) = inbox.current.clone() {
            drop(inbox);
            transitions::cancel(&task, CancelCause::Shutdown);
            inbox = self.lock();
        }
        let deadline = Instant::now() + LAST_MOMENT;
        while inbox.current.is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inbox = self.changed.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        die()
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Errand {
    fn run(self) {
        match self {
            Self::Cancel(task, cause) => transitions::cancel(&task, CancelCause::from_bits(cause)),
            Self::Pause(task) => transitions::pause(&task),
            Self::Resume(task) => transitions::resume(&task),
            Self::Observe(forwarder) => forwarder.start(),
            Self::Probe(forwarder) => forwarder.probe(),
        }
    }
}

/// Runs a task, also one that was paused or cancelled since it was said to have started.
fn carry_out(task: TaskRef, mut context: Context) -> Context {
    loop {
        match task.core.state.claim() {
            Ok(()) => {
                context = run::run(task, context);
                return context;
            }
            Err(Unclaimed::Taken) => return context,
            Err(Unclaimed::Paused) => {
                task.core.wait_until(|word| word & state::PAUSE == 0 || !state::is_pending(word), None);
            }
        }
    }
}

fn said(error: &WireError) -> String {
    format!("the program that started it has sent {error}")
}

/// Ends at once, with everything that the tasks have started.
fn die() -> ! {
    if rustix::process::getpgrp() == rustix::process::getpid() {
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
    }
    process::exit(MISUSED)
}
