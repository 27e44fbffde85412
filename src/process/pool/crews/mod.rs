//! Crews: workers that one command starts, and that connect to the program.
//!
//! ```text
//!  starter: key, command ──► launcher ──► workers        stdin of the launcher: the invitation, and then nothing; its end
//!     │                                      │           is the end of all
//!     ▼                                      ▼
//!  driver: absent ───── handshakes: knows the key ─────► a peer like any other
//! ```
//!
//! Only standard error is read from the launcher. Workers may connect while it runs; once it has ended no more are
//! expected, unless it has only submitted them.

pub(super) mod crew;
mod handshakes;
mod listener;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::WorkerExit;
use crate::process::launcher::Values;
use crate::process::pool::crews::crew::{Crew, CrewNews, KeyFile, STRAGGLING};
use crate::process::pool::crews::listener::{Connected, Listener};
use crate::process::pool::driver::Driver;
use crate::process::pool::launch::launched::Launched;
use crate::process::pool::launch::start_error::name_program;
use crate::process::pool::launch::termination::Termination;
use crate::process::pool::launch::{End, Failure, Process};
use crate::process::pool::peer::Peer;
use crate::process::pool::poller::{Poller, Ready};
use crate::process::pool::scheduler::events::{Event, WorkerNumber};
use crate::process::pool::shared::{Pool, StartOrder};
use crate::process::protocol::channel::Channel;
use crate::process::protocol::heartbeat::Heartbeat;
use crate::process::protocol::invitation::Invitation;
use crate::process::protocol::noise::{Key, Terms};
use crate::process::protocol::wire::Request;
use crate::process::protocol::wire::outbox::Outbox;
use crate::process::registry::{TaskRegistry, portable_fingerprint};
use crate::process::{program, worker_args};

/// How long to gather orders for replacements before a command starts them: many workers are lost together, as with a
/// node, and each command may be a job of its own.
const GATHERING: Duration = Duration::from_millis(200);
/// The least heartbeat interval for a worker that has connected and not greeted: many come at once, and each takes a
/// while.
const GREETING: Duration = Duration::from_secs(5);

// The thread that starts them.

impl Pool {
    pub(super) fn start_crews(self: Arc<Self>, orders: &Receiver<StartOrder>) {
        let mut recruiter = None;
        let mut next = 0;
        while let Ok(first) = orders.recv() {
            if next > 0 {
                thread::sleep(GATHERING);
            }
            // A thread that orders workers holds the lock until all of them are ordered.
            drop(self.lock());
            // A command starts workers on one host.
            let mut crews: BTreeMap<usize, Vec<StartOrder>> = BTreeMap::new();
            for order in [first].into_iter().chain(orders.try_iter()) {
                let (.., seat) = order;
                crews.entry(seat.host).or_default().push(order);
            }
            for crew in crews.values() {
                next += 1;
                if let Err(error) = self.start_crew(&mut recruiter, next, crew) {
                    let workers = crew.iter().map(|&(worker, ..)| worker).collect();
                    self.tell_crews(CrewNews::Failed(next, workers, Failure::of_crew(&error)));
                }
            }
        }
    }

    fn start_crew(&self, recruiter: &mut Option<Recruiter>, number: u64, orders: &[StartOrder]) -> io::Result<()> {
        if recruiter.is_none() {
            // Present while the threads are, of which this is one.
            let poller = self.poller().clone().ok_or(io::ErrorKind::NotConnected)?;
            let launcher = &self.launch.launcher;
            let listener = Listener::open(&launcher.listen_addresses(), launcher.listen_port(), poller)?;
            let addresses = launcher.advertised(listener.port());
            *recruiter = Some(Recruiter { pool: u64::from_le_bytes(random()?), addresses });
            self.tell_crews(CrewNews::Open(listener));
        }
        let Some(recruiter) = recruiter else { return Ok(()) };
        let fingerprint = portable_fingerprint(TaskRegistry::of_this_process())?;
        let terms = Terms { fingerprint, pool: recruiter.pool, attempt: number, key: Key::random()? };
        // Before any worker can connect.
        self.tell_crews(CrewNews::Expect(terms.clone(), orders.len()));
        let invitation = Invitation { terms, addresses: recruiter.addresses.clone() };
        let crew = self.spawn_crew(&invitation, orders)?;
        if let Some(relay) = self.lock().relay.clone().filter(|relay| !relay.is_finishing()) {
            relay.add(crew.launched.errors().clone());
        }
        self.tell_crews(CrewNews::Started(number, Box::new(crew)));
        Ok(())
    }

    fn spawn_crew(&self, invitation: &Invitation, orders: &[StartOrder]) -> io::Result<Crew> {
        let launch = &self.launch;
        let Invited { input, lifeline, key_file, argument } = self.invite(invitation)?;
        let Some(&(_, function, seat)) = orders.first() else { return Err(io::ErrorKind::InvalidInput.into()) };
        let values =
            Values { index: 0, count: orders.len(), host: launch.launcher.host(seat.host), attempt: seat.attempt };
        let command = launch.launcher_command(values, [argument, worker_args::argument(function)])?;
        let started = Launched::start_many(&launch.launcher, values, command, input);
        let (child, launched) = started.map_err(|error| name_program(program::chosen(), "", error))?;
        let absent = orders.iter().map(|&(worker, _, seat)| (worker, seat.index)).collect();
        Ok(Crew {
            launcher: Some(child),
            launched,
            lifeline,
            key_file,
            absent,
            present: 0,
            last_arrival: None,
            leaving: None,
            termination: None,
        })
    }

    /// Makes the invitation, together with the surroundings, available to the workers.
    fn invite(&self, invitation: &Invitation) -> io::Result<Invited> {
        let surroundings = Request::Surroundings(self.launch.surroundings());
        let line = invitation.to_line();
        let Some(path) = self.launch.launcher.key_file_of(invitation.terms.attempt) else {
            let (mut lifeline, input) = Channel::pair()?;
            lifeline.send_first(line.as_bytes(), None)?;
            lifeline.outbox().request(surroundings);
            let argument = worker_args::CONNECTING.into();
            return Ok(Invited { input, lifeline: Some(lifeline), key_file: None, argument });
        };
        let (mut content, mut outbox) = (line.into_bytes(), Outbox::default());
        outbox.request(surroundings);
        content.extend(outbox.into_bytes());
        let argument = format!("{}={}", worker_args::CONNECTING, path.display());
        let key_file = Some(KeyFile::create(path, &content)?);
        // As empty as `/dev/null`, and known to be of this program.
        let (_, input) = Channel::pair()?;
        Ok(Invited { input, lifeline: None, key_file, argument })
    }

    fn tell_crews(&self, news: CrewNews) {
        self.lock().crew_news.push(news);
        self.wake_driver();
    }
}

/// How workers find their invitation.
struct Invited {
    /// The launcher's standard input.
    input: OwnedFd,
    lifeline: Option<Channel>,
    key_file: Option<KeyFile>,
    /// The argument that makes a process such a worker.
    argument: String,
}

/// What all invitations of a pool have in common.
struct Recruiter {
    pool: u64,
    addresses: Vec<String>,
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

// The driver.

impl Driver {
    /// Takes in news of crews. Returns what to look at in this turn even if the poller does not report it.
    pub(super) fn poll_crews(&mut self) -> Vec<Ready> {
        let news = mem::take(&mut self.pool.lock().crew_news);
        for news in news {
            self.take_crew_news(news);
        }
        self.give_up_stragglers();
        let needs_serving = |listener: &Listener| listener.is_waiting() || !Poller::TELLS_OF_ALL;
        let listener = self.crews.listener.as_ref().filter(|it| needs_serving(it)).map(|_| Ready::Listener);
        let crews = self.crews.by_number.iter().filter(|(_, crew)| crew.needs_looks());
        let crews = crews.map(|(&number, _)| Ready::Crew(number));
        crews.chain(listener).collect()
    }

    fn take_crew_news(&mut self, news: CrewNews) {
        match news {
            CrewNews::Open(mut listener) => {
                listener.listen(true);
                self.crews.listener = Some(listener);
            }
            CrewNews::Expect(terms, count) => {
                self.crews.listener.iter_mut().for_each(|listener| listener.expect(terms.clone(), count));
            }
            CrewNews::Started(number, crew) => self.take_on_crew(number, crew),
            CrewNews::Failed(number, workers, failure) => {
                self.pool.lock().unanswered -= workers.len();
                self.crews.early.retain(|connected| connected.attempt != number);
                for worker in workers {
                    self.expect_one_less(number);
                    self.tell(Event::NotStarted(worker, failure.clone()));
                }
            }
        }
    }

    fn take_on_crew(&mut self, number: u64, mut crew: Box<Crew>) {
        if let Some(launcher) = &mut crew.launcher {
            let listening = launcher.pidfd().map(|pidfd| self.poller.add(pidfd, Ready::Crew(number)));
            if listening.is_some_and(|listening| listening.is_err()) {
                launcher.forget_pidfd();
            }
        }
        let workers: Vec<WorkerNumber> = crew.absent.iter().map(|&(worker, _)| worker).collect();
        self.pool.lock().unanswered -= workers.len();
        self.crews.by_number.insert(number, crew);
        for worker in workers {
            self.tell(Event::Launched(worker));
        }
        for connected in mem::take(&mut self.crews.early) {
            self.admit_connected(connected);
        }
        self.update_crew(number);
    }

    pub(super) fn serve_listener(&mut self) {
        let Some(listener) = &mut self.crews.listener else { return };
        let (connected, complaint) = (listener.serve(), listener.complaint());
        if let Some(why) = complaint {
            self.pool.say(&format!("progress-executor: workers that connect cannot be let in: {why}"));
        }
        for connected in connected {
            self.admit_connected(connected);
        }
    }

    fn admit_connected(&mut self, connected: Connected) {
        let Some(crew) = self.crews.by_number.get_mut(&connected.attempt) else {
            // Only expected workers are let in, so the crew of this one is about to be made known.
            return self.crews.early.push(connected);
        };
        let Connected { attempt, link } = connected;
        // As many are expected as are absent, so there is one.
        let Some((worker, index)) = crew.absent.pop_front() else { return };
        let process = Process::Elsewhere { launched: crew.launched.member(index), disconnected: None };
        (crew.present, crew.last_arrival) = (crew.present + 1, Some(Instant::now()));
        if crew.absent.is_empty() {
            crew.key_file = None;
        }
        let channel = Channel::over(link);
        self.pool.launch.greet(&channel);
        // It has proved to be a worker, so it greets the program soon unless it has fallen out of reach.
        let interval = self.pool.launch.launcher.heartbeat_interval().map(|interval| interval.max(GREETING));
        let heartbeat = interval.map(|interval| Heartbeat::new(interval, Instant::now()));
        let peer = Peer::new(process, Arc::new(channel), &self.pool.launch);
        self.admit(worker, Peer { crew: Some(attempt), heartbeat, ..peer });
    }

    /// Handles the end of a worker of a crew. Returns it, unless it will be told with the end of the launcher.
    pub(super) fn leave_crew(
        &mut self,
        number: u64,
        worker: WorkerNumber,
        mut end: Option<End>,
        has_said_goodbye: bool,
    ) -> Option<End> {
        let Some(crew) = self.crews.by_number.get_mut(&number) else { return end };
        crew.present -= 1;
        if has_said_goodbye && crew.is_empty() {
            crew.leaving = end.take().map(|end| (worker, end));
        }
        self.release_crew(number);
        end
    }

    /// Gives up a worker that has not connected and is no longer wanted.
    pub(super) fn forget_absent(&mut self, worker: WorkerNumber) {
        let is_of = |crew: &Crew| crew.absent.iter().any(|&(absent, _)| absent == worker);
        let Some((&number, crew)) = self.crews.by_number.iter_mut().find(|(_, crew)| is_of(crew)) else { return };
        crew.absent.retain(|&(absent, _)| absent != worker);
        let end = crew.process_end(WorkerExit::Unknown);
        self.expect_one_less(number);
        self.release_crew(number);
        self.tell_gone(worker, end);
    }

    /// Gives up workers that have not connected, although others that the same command has started have.
    fn give_up_stragglers(&mut self) {
        let due = self.crews.by_number.values().filter_map(|crew| crew.next_arrival_by()).min();
        let Some(due) = due.filter(|_| self.pool.launch.launcher.start_limit().is_none()) else { return };
        if due > Instant::now() {
            return self.pool.look_by(due);
        }
        // This program may have been stopped itself: workers that have connected meanwhile count.
        self.serve_listener();
        if self.crews.listener.as_ref().is_some_and(Listener::is_waiting) {
            return;
        }
        let now = Instant::now();
        let is_late = |crew: &Crew| crew.next_arrival_by().is_some_and(|by| by <= now);
        let late = self.crews.by_number.iter().filter(|(_, crew)| is_late(crew)).map(|(&number, _)| number);
        for number in late.collect::<Vec<_>>() {
            self.give_up_absent(number);
        }
    }

    fn give_up_absent(&mut self, number: u64) {
        let Some(crew) = self.crews.by_number.get_mut(&number) else { return };
        let absent = mem::take(&mut crew.absent);
        self.pool.say(&format!(
            "progress-executor: {} of {} workers have not connected within {STRAGGLING:?} of the others, and are given up; \
             more are started while there is work for them (`{}`)",
            absent.len(),
            absent.len() + crew.present,
            self.pool.launch.launcher
        ));
        let failure = Failure::absent(&self.pool.launch, STRAGGLING, &crew.launched.errors().last_output());
        for (worker, _) in absent {
            self.expect_one_less(number);
            self.tell(Event::NotStarted(worker, failure.clone()));
        }
        self.release_crew(number);
    }

    fn expect_one_less(&mut self, number: u64) {
        self.crews.listener.iter_mut().for_each(|listener| listener.expect_one_less(number));
    }

    /// Lets the launcher end if it has no more workers.
    fn release_crew(&mut self, number: u64) {
        self.crews.by_number.get_mut(&number).into_iter().for_each(|crew| crew.release(Instant::now()));
        self.update_crew(number);
    }

    /// Sends what the launcher has room for, and handles its end. Forgets the crew once the launcher and all workers
    /// are gone.
    pub(super) fn update_crew(&mut self, number: u64) {
        let Some(crew) = self.crews.by_number.get_mut(&number) else { return };
        crew.lifeline.iter().for_each(|lifeline| _ = lifeline.send_off());
        if let Some(exit) = crew.exit(Instant::now()) {
            // Workers that have connected by now still count.
            self.serve_listener();
            self.see_launcher_end(number, exit);
        }
        let is_over = |crew: &Crew| crew.launcher.is_none() && crew.is_empty();
        if self.crews.by_number.get(&number).is_some_and(|crew| is_over(crew)) {
            let Some(mut crew) = self.crews.by_number.remove(&number) else { return };
            crew.launched.errors().leave();
            self.pool.lock().relay.iter().for_each(|relay| relay.wake());
            crew.leaving.take().into_iter().for_each(|(worker, end)| self.tell_gone(worker, end));
        }
    }

    /// Handles the end of a launcher. Workers that have not connected will not come, unless they were only submitted.
    fn see_launcher_end(&mut self, number: u64, exit: WorkerExit) {
        let Some(mut crew) = self.crews.by_number.remove(&number) else { return };
        // While `termination` is not set, it may merely not be known yet that the workers have ended.
        let is_well = exit == WorkerExit::Code(0);
        let is_leaving = crew.termination.map_or(is_well, Termination::is_expected);
        crew.launcher.take().into_iter().for_each(|launcher| self.clean_up(launcher, true, is_leaving));
        crew.lifeline = None;
        let mut lost = VecDeque::new();
        // With a key file, it may have submitted the absent workers.
        if crew.key_file.is_none() || !is_well {
            crew.key_file = None;
            mem::swap(&mut lost, &mut crew.absent);
        }
        let ends: Vec<_> = lost.into_iter().map(|(worker, _)| (worker, crew.process_end(exit))).collect();
        self.crews.by_number.insert(number, crew);
        for (worker, end) in ends {
            self.expect_one_less(number);
            self.tell_gone(worker, end);
        }
    }
}
