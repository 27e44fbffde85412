//! What the [driver](super::driver) knows about one worker, and how it understands the worker's messages.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::error::WorkerExit;
use crate::process::pool::connection::Connection;
use crate::process::pool::launch::child::ChildProcess;
use crate::process::pool::launch::launched::MOST_JUNK;
use crate::process::pool::launch::{End, Process};
use crate::process::pool::output::captured::CapturedOutput;
use crate::process::pool::queued::{ItemsEnded, Kinds, News};
use crate::process::pool::scheduler::events::{Event, WorkerNumber};
use crate::process::program;
use crate::process::protocol::channel::Channel;
use crate::process::protocol::heartbeat::Heartbeat;
use crate::process::protocol::memory::Memory;
use crate::process::protocol::wire::decoder::Decoder;
use crate::process::protocol::wire::{MOST_SAID, Reply, Request, WireError};
use crate::process::settings::Launch;

/// A process, and what is known about it.
pub(super) struct Peer {
    pub(super) process: Process,
    /// The number of its crew, if one command has started many workers.
    #[cfg(feature = "cluster")]
    pub(super) crew: Option<u64>,
    pub(super) channel: Arc<Channel>,
    pub(super) decoder: Decoder,
    pub(super) introduction: Introduction,
    /// Set once it was heard or has connected, if it may fall out of reach.
    pub(super) heartbeat: Option<Heartbeat>,
    /// When it stops taking tasks.
    pub(super) expires: Option<Instant>,
    /// Whether it is no longer read from.
    pub(super) is_severed: bool,
    pub(super) is_leaving: bool,
    /// Whether it is a launcher that was asked to end.
    pub(super) is_asked: bool,
    /// Whether the scheduler already knows of its end.
    pub(super) is_given_up: bool,
    pub(super) fault: Option<WireError>,
    pub(super) stopped: Option<i32>,
}

/// What is still to come before a worker is ready.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Introduction {
    Greeting,
    /// The worker runs this function.
    Initializer(&'static str),
    Done,
}

impl Peer {
    pub(super) fn new(process: Process, channel: Arc<Channel>, launch: &Launch) -> Self {
        Self {
            process,
            #[cfg(feature = "cluster")]
            crew: None,
            channel,
            decoder: Decoder::new(launch.max_frame.max(MOST_SAID)),
            introduction: Introduction::Greeting,
            heartbeat: None,
            expires: None,
            is_severed: false,
            is_leaving: false,
            is_asked: false,
            is_given_up: false,
            fault: None,
            stopped: None,
        }
    }

    /// Kills it without listening to it. Nothing more is expected from it.
    pub(super) fn abandon(&mut self) {
        self.process.child().into_iter().for_each(ChildProcess::kill);
        (self.is_severed, self.is_asked, self.is_given_up) = (true, true, true);
    }

    /// How it has ended, as far as that is known.
    pub(super) fn end(&self, exit: WorkerExit) -> End {
        End {
            exit,
            fault: self.fault.clone(),
            stopped: self.stopped,
            initializer: if let Introduction::Initializer(name) = self.introduction { Some(name) } else { None },
            program: self.process.program(),
            record: self.channel.memory().and_then(Memory::last_look),
            // A process that could not be ended may report more.
            is_exact: self.channel.memory().is_some() && self.fault.is_none() && exit != WorkerExit::Unknown,
            last_output: self.process.captured().map(CapturedOutput::last_output).unwrap_or_default(),
            remains: self.process.launched().map(|launched| Box::new(launched.remains(self.junk()))),
        }
    }

    /// What has come through its launcher instead of a greeting or another message.
    fn junk(&self) -> &[u8] {
        let is_junk = match &self.fault {
            None => self.introduction == Introduction::Greeting,
            Some(WireError::Silence(_) | WireError::OutOfTurn) => false,
            Some(_) => self.process.is_launcher(),
        };
        if is_junk { self.decoder.rest() } else { &[] }
    }

    /// Frees memory that was kept for what it will send, as it may be one of a thousand.
    pub(super) fn release_memory(&mut self) {
        #[cfg(feature = "cluster")]
        if self.crew.is_some() {
            self.decoder.release();
        }
    }

    /// Kills it. A launched worker may take a while to end, as its launcher has to end it.
    pub(super) fn kill(&mut self) {
        if let Process::Worker { child, .. } = &self.process {
            self.stopped = child.stopped();
            child.kill();
            return;
        }
        self.channel.close_output();
        // A launcher whose worker is gone reports how that has ended, which a signal could cut short.
        let is_about_to_end = self.is_severed && self.fault.is_none();
        if !is_about_to_end {
            self.ask_to_end();
        }
    }

    /// Asks a launcher to end, once.
    pub(super) fn ask_to_end(&mut self) {
        if !mem::replace(&mut self.is_asked, true) {
            self.process.child().into_iter().for_each(ChildProcess::terminate);
        }
    }

    /// Queues a heartbeat, so that the outcome of a short task comes at once: the connection behind a launcher carries
    /// one small message, and holds back the next until something comes the other way (Nagle's algorithm). The caller
    /// must send it off.
    pub(super) fn answer(&self) {
        if !self.channel.is_full() {
            self.channel.outbox().request(Request::Beat);
        }
    }

    /// Stops or continues it; a launched worker, once the caller has sent off what is queued.
    pub(super) fn stop(&self, is_stopped: bool) {
        match &self.process {
            Process::Worker { child, .. } => child.signal(if is_stopped { Signal::STOP } else { Signal::CONT }),
            _ => self.channel.outbox().request(if is_stopped { Request::Suspend } else { Request::Resume }),
        }
    }

    /// Whether the worker has said who it is. Skips what its launcher has written before that.
    pub(super) fn has_greeting(&mut self) -> Result<bool, WireError> {
        if self.introduction != Introduction::Greeting || self.process.launched().is_none() {
            return Ok(true);
        }
        self.decoder.skip_to_ready(MOST_JUNK)
    }

    /// The next thing that the worker reports. Consecutive items that end with values are one event.
    pub(super) fn next_event(
        &mut self,
        worker: WorkerNumber,
        launch: &Launch,
        connections: &mut BTreeMap<WorkerNumber, Connection>,
    ) -> Result<Option<Event<Kinds>>, WireError> {
        let is_introduced = self.introduction == Introduction::Done;
        if let Some((task, values)) = is_introduced.then(|| self.decoder.next_values()).flatten() {
            return Ok(Some(Event::Items(worker, task, ItemsEnded::Values(values))));
        }
        loop {
            let Some(reply) = self.decoder.next_reply()? else { return Ok(None) };
            let event = match self.introduction {
                Introduction::Done => self.event(worker, reply),
                _ => self.introduce(worker, reply, launch, connections),
            };
            if let Some(event) = event? {
                return Ok(Some(event));
            }
        }
    }

    /// Handles what a worker says before it is ready.
    fn introduce(
        &mut self,
        worker: WorkerNumber,
        reply: Reply,
        launch: &Launch,
        connections: &mut BTreeMap<WorkerNumber, Connection>,
    ) -> Result<Option<Event<Kinds>>, WireError> {
        let verdict = match (self.introduction, reply) {
            (Introduction::Greeting, Reply::Ready(ready)) => {
                let site = self.process.greet(ready.origin.clone());
                self.channel.set_worker(site.worker());
                connections.entry(worker).and_modify(|connection| connection.site = Some(site));
                let now = Instant::now();
                self.heartbeat = launch.launcher.heartbeat_interval().map(|interval| Heartbeat::new(interval, now));
                let is_right = launch.compare(&ready).inspect(|()| program::prove());
                let can_serve = is_right.and_then(|()| launch.check_defect(&ready));
                can_serve.and_then(|()| launch.expiry(&ready.origin, now)).map(|expires| {
                    self.process.captured().into_iter().for_each(CapturedOutput::listen);
                    self.expires = expires;
                    let Some(initializer) = &launch.initializer else {
                        self.introduction = Introduction::Done;
                        return Event::Ready(worker, expires);
                    };
                    self.introduction = Introduction::Initializer(initializer.function);
                    if launch.is_muted_at_first() {
                        launch.prepare(&self.channel);
                    }
                    Event::Greeted(worker)
                })
            }
            (Introduction::Initializer(_), Reply::Ended { id: 0, outcome, .. }) => {
                // What it has written is not that of the first task.
                self.process.captured().into_iter().for_each(|captured| captured.end_task(0));
                launch.judge(outcome, self.expires).map(|()| {
                    self.introduction = Introduction::Done;
                    Event::Ready(worker, self.expires)
                })
            }
            (Introduction::Initializer(_), Reply::Started { id: 0 } | Reply::Progress { id: 0, .. }) => {
                return Ok(None);
            }
            (_, Reply::Goodbye | Reply::Beat | Reply::Log { .. }) => return Ok(None),
            _ => return Err(WireError::OutOfTurn),
        };
        Ok(Some(verdict.unwrap_or_else(|failure| Event::Unfit(worker, failure))))
    }

    fn event(&mut self, worker: WorkerNumber, reply: Reply) -> Result<Option<Event<Kinds>>, WireError> {
        Ok(Some(match reply {
            Reply::Started { id } => Event::Begun(worker, id),
            Reply::Progress { id, snapshot } => Event::Progress(worker, id, News::Snapshot(snapshot)),
            Reply::Log { id, log } if id != 0 => Event::Progress(worker, id, News::Log(log)),
            // What it does between two tasks is of no interest to anybody.
            Reply::Log { .. } => return Ok(None),
            Reply::Line { id, text } => Event::Progress(worker, id, News::Line(text)),
            Reply::Ended { id, snapshot, outcome } => {
                self.process.captured().into_iter().for_each(|captured| captured.end_task(id));
                Event::Ended(worker, id, Duration::from_nanos(snapshot.elapsed), (snapshot, outcome))
            }
            Reply::Goodbye => {
                self.is_leaving = true;
                Event::Goodbye(worker)
            }
            Reply::Beat => return Ok(None),
            Reply::Item { id, snapshot, outcome } => Event::Items(worker, id, ItemsEnded::One(snapshot, outcome)),
            Reply::Ready(_) => return Err(WireError::OutOfTurn),
        }))
    }
}
