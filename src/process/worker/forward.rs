//! What a worker tells the program about a task while it runs.

use std::iter;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

#[cfg(feature = "log")]
use crate::error::human::Counted;
use crate::id::TaskId;
use crate::process::protocol::channel::Channel;
use crate::process::protocol::live::Live;
use crate::process::protocol::memory::Memory;
use crate::process::protocol::wake_pipe::WakePipe;
#[cfg(feature = "log")]
use crate::process::protocol::wire::outbox::Outbox;
use crate::process::protocol::wire::{Reply, Run};
use crate::progress::{PartState, ProgressState, Status};
use crate::sync::waiter::Waiter;
use crate::task::context::Relay;
use crate::task::core::Core;
use crate::task::lines::{Backlog, Line, write_to_stderr};
#[cfg(feature = "log")]
use crate::task::remote::RemoteLog;
use crate::task::remote::{Position, RemotePart, RemoteSnapshot, Said, beginning};
use crate::task::subscribers::{Snapshot, Subscriber};
use crate::task::{TaskRef, counts, publish, state};

/// How often the state of a task is looked at to see it between the ends of two items.
const TRIES: u32 = 3;

/// The channel, with what it had no room for, and a way to wake the thread that sends that later.
pub(crate) struct Outlet {
    pub(crate) channel: Channel,
    /// Wakes the thread that reads.
    pub(crate) wake: WakePipe,
    /// The running task, by its id here and its id in the program. No other task is recorded or relayed.
    pub(super) current: Mutex<Option<(TaskId, u64)>>,
    /// Lines that there was no room for. Lock order: `current` before `unsent`.
    unsent: Mutex<Backlog>,
    /// Whether a report on the task was held back for lack of room.
    is_behind: AtomicBool,
    /// How many items have ended. Changed with the outbox locked.
    ended_items: AtomicU64,
    /// How many log records were dropped for lack of room and have not been reported yet.
    #[cfg(feature = "log")]
    pub(super) dropped_records: AtomicU64,
    /// Held from reading the state of the task until it is sent, and while a line is sent, so that no line overtakes the
    /// counts that precede it. Locked before all other locks except `Forwarder::sent`.
    order: Mutex<()>,
}

impl Outlet {
    pub(crate) fn new(channel: Channel, wake: WakePipe) -> Self {
        Self {
            channel,
            wake,
            current: Mutex::default(),
            unsent: Mutex::default(),
            is_behind: AtomicBool::new(false),
            ended_items: AtomicU64::new(0),
            #[cfg(feature = "log")]
            dropped_records: AtomicU64::new(0),
            order: Mutex::default(),
        }
    }

    /// Makes this the task that is recorded from now on. It has not begun; its id in the program is `run`.
    pub(crate) fn turn_to(&self, task: &Core, run: u64) {
        *self.current() = Some((task.id(), run));
        if let Some(live) = self.channel.memory().and_then(Memory::live) {
            live.turn_to(run);
            task.move_out();
        }
    }

    /// Adds the end of the current task to the outbox, after the lines that wait. Nothing more of the task follows, even if a
    /// thread that it has left behind prints something.
    pub(crate) fn end(&self, ended: Reply) {
        let mut current = self.current();
        if let Some((_, run)) = current.take() {
            self.add_lines(run, None);
            #[cfg(feature = "log")]
            self.tell_of_dropped(run, &mut self.channel.outbox());
        }
        self.channel.outbox().reply(ended);
    }

    /// Adds the end of an item of the current task to the outbox.
    pub(crate) fn end_item(&self, ended: Reply) {
        let mut outbox = self.channel.outbox();
        outbox.reply(ended);
        self.ended_items.fetch_add(1, Ordering::Release);
    }

    /// Sends what there is room for, and leaves the rest to the thread that reads.
    pub(super) fn send_off(&self) {
        if !self.channel.send_off() {
            self.wake.wake();
        }
    }

    /// Sends the lines that wait, if there is room for them again.
    pub(crate) fn send_unsent(&self) {
        if self.channel.is_full() || self.unsent().is_empty() {
            return;
        }
        let current = self.current();
        if let Some((_, run)) = *current {
            self.add_lines(run, None);
        }
        drop(current);
        self.channel.send_off();
    }

    /// Whether there is room again for a report that was held back. Returns `true` once.
    pub(super) fn take_room_again(&self) -> bool {
        !self.channel.is_full() && self.is_behind.swap(false, Ordering::SeqCst)
    }

    /// Whether there is no room. If so, the thread that reads [sends the report](Self::take_room_again) once there is.
    fn note_if_behind(&self) -> bool {
        // Checked again: a thread that has just made room may have looked before the flag was set.
        self.channel.is_full() && {
            self.is_behind.store(true, Ordering::SeqCst);
            self.channel.is_full()
        }
    }

    /// Uses the memory for this task, if it is the current one. Threads that a task has left behind may still call this. The
    /// lock is held meanwhile, so that they neither write beside the next task nor drop a request that is meant for that.
    pub(super) fn use_memory<R>(&self, task: TaskId, act: impl FnOnce(&Memory, u64) -> R) -> Option<R> {
        let memory = self.channel.memory()?;
        let current = self.current();
        let (_, run) = current.filter(|&(current, _)| current == task)?;
        Some(act(memory, run))
    }

    /// Records in the memory what this task has said, if it is the current one.
    pub(super) fn record(&self, task: TaskId, said: Said<'_>) {
        self.use_memory(task, |memory, run| {
            memory.record(run, said);
            memory.live().filter(|_| !said.is_spread).into_iter().for_each(Live::gather);
        });
    }

    fn add_lines(&self, run: u64, last: Option<Line>) {
        let (mut unsent, mut outbox) = (self.unsent(), self.channel.outbox());
        for line in iter::from_fn(|| unsent.pop()).chain(last) {
            outbox.reply(Reply::Line { id: run, text: line.text.to_string() });
        }
    }

    /// Reports how many records were dropped for lack of room, as a record of this task.
    #[cfg(feature = "log")]
    pub(super) fn tell_of_dropped(&self, run: u64, outbox: &mut Outbox) {
        let dropped = self.dropped_records.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let text =
                format!("{} dropped: there was no room for more", Counted(dropped, ["record was", "records were"]));
            let (level, target) = (log::Level::Warn as u8, env!("CARGO_CRATE_NAME").to_owned());
            outbox.reply(Reply::Log { id: run, log: RemoteLog { level, target, text } });
        }
    }

    fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsent(&self) -> MutexGuard<'_, Backlog> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn current(&self) -> MutexGuard<'_, Option<(TaskId, u64)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay for Outlet {
    fn say(&self, line: Line) {
        let in_order = self.order();
        let current = self.current();
        // The initializer is no task of the program, and threads that a task has left behind belong to none.
        let Some((_, run)) = current.filter(|&(task, run)| task == line.task && run != 0) else {
            // Standard error may be slow, and the current task must not wait for it.
            drop((current, in_order));
            return write_to_stderr(&line.text);
        };
        if self.channel.is_full() {
            self.unsent().push(line);
            // Checked again: a thread that has just made room may have looked before the line was there.
            if self.channel.is_full() {
                return;
            }
            self.add_lines(run, None);
        } else {
            self.add_lines(run, Some(line));
        }
        self.send_off();
    }
}

/// Forwards the visible state of a task to the program.
pub(crate) struct Forwarder {
    outlet: Arc<Outlet>,
    run: Run,
    task: TaskRef,
    /// In bytes.
    longest_message: usize,
    /// What the program currently wants of the task: bits of its control word.
    wanted: AtomicU32,
    /// Whether this has subscribed to the task, rather than only waiting for its next progress call.
    observes: AtomicBool,
    sent: Mutex<Sent>,
}

struct Sent {
    state: ProgressState,
    /// How many items had ended by then. Each begins anew.
    items: u64,
    has_noticed: bool,
    is_silent: bool,
    /// Nothing more is sent from here: the end of the task is sent separately.
    is_closed: bool,
}

impl Forwarder {
    pub(crate) fn new(outlet: Arc<Outlet>, run: Run, task: TaskRef, longest_message: usize) -> Arc<Self> {
        let core = &task.core;
        // The program waits for the first progress call, and nothing else has asked for one before the task is observed here.
        core.state.set(state::ECHO);
        if core.has_run() && core.state.load() & state::PROBE == 0 {
            core.state.clear(state::ECHO);
        }
        // The start of the task is sent separately.
        let state = ProgressState { status: Status::Running, ..ProgressState::INITIAL };
        let sent = Mutex::new(Sent { state, items: 0, has_noticed: false, is_silent: true, is_closed: false });
        let (wanted, observes) = (AtomicU32::new(0), AtomicBool::new(false));
        Arc::new(Self { outlet, run, task, longest_message, wanted, observes, sent })
    }

    /// Changes what the program wants to know about the task. The caller [forwards](Self::forward) it afterwards.
    pub(crate) fn set_wanted(self: &Arc<Self>, wanted: u32) {
        self.wanted.store(wanted, Ordering::SeqCst);
        // The program may have ended a pause and begun another, and only the latter has arrived here: it is reported again. The
        // end of a pause is news anyway.
        let mut sent = self.lock();
        if wanted & state::PAUSE != 0 && sent.state.status == Status::Paused {
            sent.state.status = Status::Running;
        }
        drop(sent);
        if wanted & (state::OBSERVED | state::PAUSE | state::CANCEL) != 0 {
            // A wait of the task, or that it has noticed its cancellation, is reported as well.
            self.observe();
        }
    }

    /// Subscribes to the task.
    pub(crate) fn observe(self: &Arc<Self>) {
        if !self.observes.swap(true, Ordering::SeqCst) {
            publish::admit(&self.task, self.clone(), |_| {});
            self.forward();
        }
    }

    /// Whether the program currently wants this of the task.
    fn is_wanted(&self, bit: u32) -> bool {
        self.wanted.load(Ordering::SeqCst) & bit != 0
    }

    /// Has the state of the task sent at its next progress call.
    pub(crate) fn probe(&self) {
        let mut sent = self.lock();
        let word = self.task.core.state.load();
        if word & (state::RUNNING | state::HALTED) == state::RUNNING {
            self.task.core.state.set(state::PROBE | state::ECHO);
        }
        sent.is_silent = true;
    }

    /// Sends nothing from now on.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what has changed. Called whenever the task, or its reporter, shows a change.
    pub(crate) fn forward(self: &Arc<Self>) {
        let core = &self.task.core;
        core.waiter.register(&Waker::from(self.clone()));
        if core.has_ended() {
            // Drops the waker, which holds the task.
            return drop(core.waiter.take());
        }
        let mut sent = self.lock();
        let _in_order = self.outlet.order();
        // Again if an item ends meanwhile: what was seen may be of that one, and should not follow its end. Many items may end.
        let _ = (0..TRIES).any(|tried| self.send_news(&mut sent, tried + 1 == TRIES));
    }

    /// Sends what has changed. Returns `false` if an item has ended meanwhile, unless this is the last try.
    fn send_news(&self, sent: &mut Sent, is_last_try: bool) -> bool {
        let core = &self.task.core;
        let items = self.outlet.ended_items.load(Ordering::Acquire);
        if sent.items != items {
            sent.items = items;
            sent.state = ProgressState { status: sent.state.status, ..ProgressState::INITIAL };
        }
        let state = self.see();
        let mut snapshot = snapshot_of(&self.task, &state, self.longest_message);
        if snapshot.has_noticed && !sent.has_noticed {
            self.note_notice();
        }
        if sent.is_closed {
            return true;
        }
        let says_more = state.says_more_than(&sent.state);
        if says_more {
            // Recorded first, so that the record is never older than what is sent.
            core.record(|said| self.outlet.record(core.id(), said));
        }
        // The program can read the rest in shared memory.
        let is_shown = says_more && self.is_wanted(state::OBSERVED);
        let is_hidden = state.status != sent.state.status || state.parts != sent.state.parts;
        let is_news =
            is_shown || is_hidden || snapshot.has_noticed != sent.has_noticed || !snapshot.is_silent && sent.is_silent;
        // While there is no room, only the newest state is kept, and forwarded once there is.
        if !is_news || self.outlet.note_if_behind() {
            return true;
        }
        if state.message == sent.state.message {
            snapshot.message = None;
        }
        let mut outbox = self.outlet.channel.outbox();
        if !is_last_try && self.outlet.ended_items.load(Ordering::Acquire) != items {
            return false;
        }
        (sent.state, sent.has_noticed, sent.is_silent) = (state, snapshot.has_noticed, snapshot.is_silent);
        // Under the lock, so that what was seen later is sent later.
        outbox.reply(Reply::Progress { id: self.run.id, snapshot });
        drop(outbox);
        self.outlet.send_off();
        true
    }

    /// The task as the program should see it now: the program knows no reason to wait other than its own pause.
    fn see(&self) -> ProgressState {
        let core = &self.task.core;
        let state = if self.observes.load(Ordering::SeqCst) {
            publish::refresh(core, self, |now| now)
        } else {
            core.snapshot()
        };
        let status = match state.status {
            Status::Paused if self.is_wanted(state::PAUSE) => Status::Paused,
            // A suspension is not reported, nor is a pause that the program has just ended: it knows, and the next pause is news
            // even if the task has not gone on in between. A task that is about to start has started for the program.
            Status::Paused | Status::Pending => Status::Running,
            status => status,
        };
        ProgressState { status, ..state }
    }

    /// Notes in shared memory that the task has noticed its cancellation, so that the worker is no longer killed for it.
    fn note_notice(&self) {
        if let Some(place) = self.outlet.channel.memory().and_then(|memory| memory.place(self.run.place)) {
            place.notice();
        }
    }
}

impl Subscriber<ProgressState> for Forwarder {
    fn store(&self, _old: &ProgressState, _new: &ProgressState, _interval: Option<Duration>) {}

    /// Wakes the forwarder, which is what waits for the task in a worker.
    fn notify(&self, owner: &Waiter) {
        owner.wake();
    }
}

impl Wake for Forwarder {
    fn wake(self: Arc<Self>) {
        self.forward();
    }
}

/// What the program is shown of a task in this state.
pub(crate) fn snapshot_of(task: &TaskRef, state: &ProgressState, longest_message: usize) -> RemoteSnapshot {
    let word = task.core.state.load();
    let progress = snapshot_of_item(state, longest_message);
    RemoteSnapshot {
        // A task that has been told to end does not stay in a pause.
        is_halted: state.status == Status::Paused,
        has_noticed: word & state::NOTICED != 0,
        is_silent: word & state::ECHO != 0,
        parts: state.parts.iter().cloned().map(remote_part).collect(),
        ..progress
    }
}

fn remote_part(PartState { name, n, total, part, depth }: PartState) -> RemotePart {
    RemotePart { name, position: position(n, total, part), depth }
}

fn position(n: u64, total: Option<u64>, part: f64) -> Position {
    Position { n, total: total.unwrap_or(counts::UNKNOWN), part }
}

/// How far an item had come when it ended.
pub(crate) fn snapshot_of_item(state: &ProgressState, longest_message: usize) -> RemoteSnapshot {
    RemoteSnapshot {
        position: position(state.n, state.total, state.part),
        elapsed: u64::try_from(state.elapsed.as_nanos()).unwrap_or(u64::MAX),
        message: state.message.as_deref().map(|message| beginning(message, longest_message).into()),
        ..RemoteSnapshot::default()
    }
}

/// Shortens a text to at most this many bytes, at a character boundary.
pub(crate) fn shorten(mut text: String, room: usize) -> String {
    text.truncate(beginning(&text, room).len());
    text
}
