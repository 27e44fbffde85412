//! How a [worker](super) reads: it handles requests for the current task at once, and notices the end of the program.

use std::error::Error;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{process, thread};

use rustix::event::{PollFd, PollFlags};

use crate::error::CancelCause;
use crate::id::TaskId;
use crate::process::protocol::alarm::Alarm;
use crate::process::protocol::channel::Received;
use crate::process::protocol::heartbeat::Heartbeat;
use crate::process::protocol::wire::{Reply, Request, WireError};
use crate::process::worker::forward::Forwarder;
use crate::process::worker::reading::{Reader, Reading, Watch};
use crate::process::worker::{Current, Inbox, MISUSED, QueuedRun, STACK, Worker, said};
use crate::sync::unwind::{drop_quietly, quietly};
use crate::task::{TaskRef, state, transitions};

/// How often the alarm checks the runner: while that is busy, requests are received after twice this time at the latest. A
/// few times as long as it takes to wake a thread.
const CHECK_INTERVAL: Duration = Duration::from_micros(200);
/// The same where the program may be far away: a few times as long as a short task takes there.
const REMOTE_CHECK_INTERVAL: Duration = Duration::from_millis(1);
/// How long the outcomes of items that have ended may wait to be sent.
const MOST_DELAY: Duration = Duration::from_millis(1);
/// The shortest delay of an alarm: zero would disarm it.
const AT_ONCE: Duration = Duration::from_nanos(1);
/// How long a task may take to end once the program is gone.
const ORPHAN_GRACE: Duration = Duration::from_millis(200);
/// How long the output of a process may take to flush before it ends.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// The requests that make the worker report on a task.
const REPORTED: u32 = state::OBSERVED | state::ECHO | state::PROBE | state::PAUSE | state::CANCEL;

/// The part of a request that is done without the lock of the inbox.
type Action = Box<dyn FnOnce()>;

/// Drops a value of the user, which may take a while: this thread has to go on reading. If no thread can be started, it is
/// dropped here.
fn drop_elsewhere<T: Send + 'static>(value: T) {
    let thread = thread::Builder::new().name("progress-drop".into()).stack_size(STACK);
    let _ = quietly(|| thread.spawn(|| drop_quietly(value)));
}

impl Worker {
    /// The watcher's loop: reads while it is the watcher's turn. Returns what was wrong with what the program has sent.
    pub(super) fn watch(self: &Arc<Self>) -> Box<dyn Error> {
        // Requests that arrived together with the greeting.
        if let Err(error) = self.take_in(&mut self.reading()) {
            return said(&error).into();
        }
        loop {
            match &self.alarm {
                Some(alarm) if self.lock().reader == Reader::Runner => self.look(alarm),
                _ => {
                    if let Err(error) = self.read(false) {
                        return said(&error).into();
                    }
                }
            }
        }
    }

    /// Waits for the alarm, and takes over reading if the runner is still busy with the task that the last alarm found.
    fn look(&self, alarm: &Alarm) {
        alarm.wait();
        let mut inbox = self.lock();
        let busy_with = inbox.current.as_ref().map(|current| current.run.id);
        inbox.watch = match (busy_with, inbox.watch) {
            (None, _) => Watch::Unset,
            (Some(task), Watch::Seen(seen)) if task == seen => {
                inbox.reader = Reader::Watcher;
                self.is_watched.store(true, Ordering::Relaxed);
                Watch::Unset
            }
            (Some(task), _) => {
                alarm.set(self.look_after());
                Watch::Seen(task)
            }
        };
        drop(inbox);
        if self.is_watched.load(Ordering::Relaxed) {
            self.send_pending();
        }
    }

    /// Sends the outcomes of items that have ended while their task goes on: the next item may take long.
    fn send_pending(&self) {
        // Cleared first, so that a thread that adds something after this sets the alarm again.
        self.is_to_send.store(false, Ordering::Relaxed);
        self.channel().send_off();
    }

    /// Has the watcher send pending replies soon, unless they are sent before.
    pub(super) fn send_soon(&self) {
        // Without shared memory, they have already been sent.
        let Some(alarm) = self.alarm.as_ref().filter(|_| self.channel().memory().is_some()) else { return };
        // What was added before the watcher took over reading is sent by the watcher when it does. The lock of the outbox decides
        // which came first.
        let is_up_to_watcher = self.is_watched.load(Ordering::Relaxed) && !self.is_to_send.load(Ordering::Relaxed);
        if is_up_to_watcher && !self.is_to_send.swap(true, Ordering::Relaxed) {
            alarm.set(MOST_DELAY);
        }
    }

    /// Sets the alarm for the runner, which is about to be busy.
    pub(super) fn set_alarm(&self, inbox: &mut Inbox) {
        if let (Some(alarm), Reader::Runner, Watch::Unset) = (&self.alarm, inbox.reader, inbox.watch) {
            alarm.set(self.look_after());
            inbox.watch = Watch::Set;
        }
    }

    /// Has the watcher take over reading at once for a task that is about to sleep, if it would do so during that sleep anyway.
    pub(super) fn read_meanwhile(&self, task: TaskId, duration: Duration) {
        let Some(alarm) = self.alarm.as_ref().filter(|_| duration > 2 * self.look_after()) else { return };
        let mut inbox = self.lock();
        let current = inbox.current.as_ref().filter(|current| current.task.core.id() == task);
        if let (Some(run), Reader::Runner) = (current.map(|current| current.run.id), inbox.reader) {
            inbox.watch = Watch::Seen(run);
            alarm.set(AT_ONCE);
        }
    }

    fn look_after(&self) -> Duration {
        if self.channel().memory().is_some() { CHECK_INTERVAL } else { REMOTE_CHECK_INTERVAL }
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something can be read or sent, and handles the requests. The runner spins first: where it has just been given
    /// a task, another one may follow.
    pub(super) fn read(self: &Arc<Self>, is_runner: bool) -> Result<(), WireError> {
        let mut reading = self.reading();
        let mut received = Received::Nothing;
        if is_runner {
            reading.spin(|decoder| {
                received = self.channel().receive(decoder);
                received != Received::Nothing
            });
        }
        if received == Received::Nothing {
            self.wait(reading.heartbeat.as_ref(), is_runner);
        }
        if self.channel().is_full() {
            self.channel().send_off();
        }
        self.catch_up();
        if received == Received::Nothing {
            received = self.channel().receive(&mut reading.decoder);
        }
        // Not checked if something has arrived: should the program be gone since then, the next call notices.
        if received != Received::Some && self.parent.is_gone() {
            self.see_it_end();
        }
        reading.note(received);
        if received.is_over() {
            self.see_it_end();
        }
        if let Some(Err(silence)) = reading.heartbeat.as_mut().map(|heartbeat| self.keep_alive(heartbeat, received)) {
            // A program that has never answered may never have heard this worker: end with an error that the user can see.
            if !reading.has_heard() && self.lock().current.is_none() {
                return Err(silence);
            }
            self.see_it_end();
        }
        self.take_in(&mut reading)
    }

    /// Sends a heartbeat, if one is due. Returns an error if the program has been silent for too long.
    fn keep_alive(&self, heartbeat: &mut Heartbeat, received: Received) -> Result<(), WireError> {
        let now = Instant::now();
        if received == Received::Some {
            heartbeat.note_arrival(now);
        }
        // A full channel needs none: what fills it will be received as well.
        if heartbeat.take_due(now) && !self.channel().is_full() {
            self.channel().outbox().reply(Reply::Beat);
            self.outlet.send_off();
        }
        if heartbeat.lost_at() > now { Ok(()) } else { Err(WireError::silence(heartbeat.timeout())) }
    }

    fn wait(&self, heartbeat: Option<&Heartbeat>, is_runner: bool) {
        let mut fds = vec![PollFd::new(self.channel(), PollFlags::IN), PollFd::new(&self.outlet.wake, PollFlags::IN)];
        let alarm = self.alarm.as_ref().filter(|_| !is_runner);
        fds.extend(alarm.map(|alarm| PollFd::new(alarm, PollFlags::IN)));
        if self.channel().is_full() {
            fds.push(PollFd::from_borrowed_fd(self.channel().output(), PollFlags::OUT));
        }
        let beat = heartbeat.map(|heartbeat| heartbeat.next().saturating_duration_since(Instant::now()));
        self.parent.wait(&mut fds, beat);
        if !fds[1].revents().is_empty() {
            self.outlet.wake.drain();
        }
        if let Some(alarm) = alarm.filter(|_| !fds[2].revents().is_empty()) {
            alarm.wait();
            self.send_pending();
        }
    }

    /// Sends all that is pending. Ends the process if the program is gone.
    pub(super) fn send_all(&self) {
        if self.channel().send_off() {
            return;
        }
        if !self.parent.send_all(self.channel()) {
            self.see_it_end();
        }
        self.catch_up();
    }

    /// Sends what there was no room for if there is room again, whichever thread made it.
    fn catch_up(&self) {
        if self.outlet.take_room_again() {
            let forwarder = self.lock().current.as_ref().and_then(|current| current.forwarder.clone());
            forwarder.iter().for_each(Forwarder::forward);
        }
        self.outlet.send_unsent();
    }

    fn take_in(self: &Arc<Self>, reading: &mut Reading) -> Result<(), WireError> {
        let mut actions = Vec::new();
        let mut inbox = self.lock();
        while let Some(request) = reading.decoder.next_request()? {
            self.handle(&mut inbox, request, &mut actions);
        }
        let is_work = !inbox.waiting.is_empty() || inbox.quits;
        let is_for_other = is_work && inbox.current.is_none() && inbox.reader == Reader::Watcher;
        if is_for_other && self.alarm.is_some() {
            inbox.reader = Reader::Runner;
            self.is_watched.store(false, Ordering::Relaxed);
            self.is_to_send.store(false, Ordering::Relaxed);
        }
        drop(inbox);
        if is_for_other {
            self.changed.notify_all();
        }
        actions.into_iter().for_each(|action| action());
        Ok(())
    }

    fn handle(self: &Arc<Self>, inbox: &mut Inbox, request: Request, actions: &mut Vec<Action>) {
        match request {
            Request::Run { run, function, name, input } => {
                inbox.waiting.push_back(QueuedRun { run, function, name, input });
            }
            Request::Share { id, value } => self.store.keep(id, value),
            Request::Forget { id } => {
                if let Some(forgotten) = self.store.forget(id) {
                    actions.push(Box::new(|| drop_elsewhere(forgotten)));
                }
            }
            Request::Want { id, wanted } => match &mut inbox.current {
                Some(current) if current.run.id == id => actions.push(self.want(current, wanted, inbox.is_suspended)),
                _ => {
                    for queued in inbox.waiting.iter_mut().filter(|queued| queued.run.id == id) {
                        queued.run.wanted = wanted;
                    }
                }
            },
            Request::Suspend => self.suspend(inbox, true, actions),
            Request::Resume => self.suspend(inbox, false, actions),
            Request::Quit => inbox.quits = true,
            // Introductions are valid only in the greeting, and a heartbeat has served its purpose by arriving.
            Request::Surroundings(_) | Request::Hello(_) | Request::Beat => {}
        }
    }

    /// Keeps the current task and those that follow from making progress, or lets them. The program does not see this pause.
    fn suspend(&self, inbox: &mut Inbox, is_suspended: bool, actions: &mut Vec<Action>) {
        inbox.is_suspended = is_suspended;
        if let Some(Current { run, task, forwarder }) = inbox.current.clone() {
            actions.push(Box::new(move || {
                set_paused(&task, is_suspended || run.wanted & state::PAUSE != 0);
                // A task that keeps waiting reports nothing of its own accord.
                forwarder.iter().for_each(Forwarder::forward);
            }));
        }
    }

    /// Passes requests on to the current task.
    fn want(self: &Arc<Self>, current: &mut Current, wanted: u32, is_suspended: bool) -> Action {
        current.run.wanted = wanted;
        if current.forwarder.is_none() && wanted & REPORTED != 0 {
            current.forwarder = Some(self.forwarder(current.run, &current.task));
        }
        let Current { task, forwarder, .. } = current.clone();
        Box::new(move || {
            forwarder.iter().for_each(|forwarder| forwarder.set_wanted(wanted));
            if wanted & state::CANCEL != 0 {
                transitions::cancel(&task, CancelCause::from_bits(state::cause(wanted)));
            }
            set_paused(&task, is_suspended || wanted & state::PAUSE != 0);
            forwarder.iter().for_each(Forwarder::forward);
            if let Some(forwarder) = forwarder.filter(|_| wanted & state::PROBE != 0) {
                forwarder.probe();
            }
        })
    }

    /// The program is gone: gives the task a moment to end, then ends the process.
    pub(super) fn see_it_end(&self) -> ! {
        let mut inbox = self.lock();
        inbox.ends = true;
        if let Some(Current { task, .. }) = inbox.current.clone() {
            drop(inbox);
            transitions::cancel(&task, CancelCause::Shutdown);
            inbox = self.lock();
        }
        let deadline = Instant::now() + ORPHAN_GRACE;
        while inbox.current.is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inbox = self.changed.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(inbox);
        flush_output();
        die()
    }
}

/// Has what was printed so far appear, unless that takes long: a task may be printing, or nobody may read it.
fn flush_output() {
    let (send, is_flushed) = mpsc::channel();
    let flush = move || {
        let _ = io::stdout().flush();
        let _ = send.send(());
    };
    if thread::Builder::new().stack_size(STACK).spawn(flush).is_ok() {
        let _ = is_flushed.recv_timeout(FLUSH_TIMEOUT);
    }
}

fn set_paused(task: &TaskRef, is_paused: bool) {
    if is_paused { transitions::pause(task) } else { transitions::resume(task) }
}

/// Ends the process at once, and with it everything that the tasks have started in its process group.
pub(super) fn die() -> ! {
    if rustix::process::getpgrp() == rustix::process::getpid() {
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
    }
    process::exit(MISUSED)
}
