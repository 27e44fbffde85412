//! The threads of a pool: the resident, which drives while no waiting thread does, and one that starts workers, because
//! that blocks. They live until the pool is closed and all of its tasks and workers have ended, and are started again
//! for the rest of a chunk that comes later.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, MutexGuard};
use std::thread;

use crate::codec::Encoded;
use crate::codec::references::References;
use crate::error::CancelCause;
use crate::executor::job::{Job, Refusal};
use crate::process::output::WorkerOutput;
use crate::process::pool::driver::Driver;
use crate::process::pool::launch::start_error::is_shortage;
use crate::process::pool::launch::{Failure, Process};
use crate::process::pool::poller::Poller;
use crate::process::pool::queued::Queued;
use crate::process::pool::scheduler::events::{Event, Failure as _};
use crate::process::pool::shared::{Pool, StartOrder, State};
use crate::process::pool::standby::Call;
use crate::sync::shortage::Shortage;
use crate::task::transitions;

/// Stack of the thread that drives, which decodes outputs: as much as that of `main` usually has, as large arrays lie
/// on it.
const DECODER_STACK: usize = 8 << 20;

impl Pool {
    pub(crate) fn submit(
        self: &Arc<Self>,
        job: Job,
        function: &'static str,
        (input, references): (Encoded, References),
    ) {
        match self.shortage.outlast(is_shortage, || self.admit(&job)) {
            Ok(Some(state)) => {
                let queued = Queued::new(job, function, input, references);
                self.tell_locked(state, Event::Submitted(queued));
                self.expect_news();
            }
            Ok(None) if was_accepted(&job) => transitions::cancel(job.task(), CancelCause::Shutdown),
            Ok(None) => job.reject(Refusal::ShutDown),
            Err(error) => {
                let Failure { kind, error, .. } = Failure::of_threads(&error);
                transitions::reject(job.task(), kind, error.into());
            }
        }
    }

    /// Starts the threads that a job needs; returns `None` if the job must not run.
    fn admit(self: &Arc<Self>, job: &Job) -> io::Result<Option<MutexGuard<'_, State>>> {
        let mut state = self.lock();
        if state.scheduler.is_closed() && (!was_accepted(job) || state.is_cancelled) {
            return Ok(None);
        }
        self.start_threads(&mut state)?;
        Ok(Some(state))
    }

    /// Has workers started ahead of need, until there are this many.
    pub(crate) fn prestart(self: &Arc<Self>, workers: usize) {
        let mut state = self.lock();
        // If this fails, it fails again for the first task, whose error says why.
        if !state.scheduler.is_closed() && self.start_threads(&mut state).is_ok() {
            self.tell_locked(state, Event::Prestarted(workers));
            self.expect_news();
        }
    }

    fn start_threads(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        if state.starter.is_some() {
            return Ok(());
        }
        let (starter, orders) = channel();
        let starting = self.clone();
        thread::Builder::new().name("progress-start".into()).spawn(move || starting.start_workers(&orders))?;
        // What the system lacks now, it may have a moment later: the thread that was just started tries again.
        self.start_driver(state).or_else(|error| if is_shortage(&error) { Ok(()) } else { Err(error) })?;
        state.starter = Some(starter);
        Ok(())
    }

    fn start_driver(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let poller = Arc::new(Poller::new()?);
        self.standby.open()?;
        let has_lines = !self.launch.launcher.is_local() || matches!(self.launch.output, WorkerOutput::Lines(_));
        let has_lines = has_lines || self.launch.log_level > 0;
        // It takes nothing more.
        state.relay.take_if(|relay| relay.is_finishing());
        if has_lines && state.relay.is_none() {
            state.relay = Some(self.start_relay()?);
        }
        *self.poller() = Some(poller.clone());
        let driving = self.clone();
        let started = spawn_resident(move || driving.drive(poller));
        if started.is_err() {
            // Nothing else would end it.
            state.relay.take().into_iter().for_each(|relay| relay.finish());
            self.release();
        }
        started
    }

    /// If the driver could not be started yet, tries again while that may help and the driver is needed.
    fn await_driver(self: &Arc<Self>) -> io::Result<()> {
        // No caller is held up, so the tasks that follow a failure have as much time again.
        let was_started = Shortage::new().outlast(is_shortage, || {
            // Once this is locked, the thread that has started this one is done.
            let mut state = self.lock();
            let is_needed = state.starter.is_some() && self.poller().is_none();
            if is_needed {
                self.start_driver(&mut state)?;
            }
            Ok(is_needed)
        })?;
        if was_started {
            self.wake_driver();
        }
        Ok(())
    }

    /// Fails all waiting tasks, as there will be no driver. Tasks that are submitted later start the threads anew.
    fn give_up(&self, error: &io::Error) {
        let mut state = self.lock();
        (state.starter, state.unanswered) = (None, 0);
        state.scheduler.give_up(Failure::of_threads(error));
        self.follow(state, |actions| self.carry_out_all(actions));
    }

    /// Closes what the threads wait with.
    pub(super) fn release(&self) {
        *self.poller() = None;
        self.standby.close();
    }

    /// Body of the thread that starts workers. It lives as long as they do, as the system may signal its end to them.
    fn start_workers(self: Arc<Self>, orders: &Receiver<StartOrder>) {
        if let Err(error) = self.await_driver() {
            return self.give_up(&error);
        }
        #[cfg(feature = "cluster")]
        if self.launch.launcher.is_bulk() {
            return self.start_crews(orders);
        }
        while let Ok((worker, function, seat)) = orders.recv() {
            // The order may have waited for too long, behind one that the system did not carry out.
            let is_wanted = self.lock().scheduler.has(worker);
            let started = if is_wanted { self.launch.start(function, seat) } else { Err(Failure::unanswered()) };
            let started = started.map(|(process, channel)| {
                self.relay(&process);
                (process, Arc::new(channel))
            });
            self.lock().arrivals.push((worker, started));
            self.wake_driver();
        }
    }

    /// Has the relay pass on what a worker or its launcher writes.
    fn relay(&self, process: &Process) {
        let Some(relay) = self.lock().relay.clone().filter(|relay| !relay.is_finishing()) else { return };
        if let Some(launched) = process.launched() {
            relay.add(launched.errors().clone());
        }
        for stream in process.captured().iter().flat_map(|captured| &captured.streams) {
            relay.add(stream.clone());
        }
    }

    /// Body of the first resident.
    fn drive(self: Arc<Self>, poller: Arc<Poller>) {
        self.leadership.open(Box::new(Driver::new(self.clone(), poller)));
        self.run_resident(self.replacements.load(Ordering::SeqCst));
    }

    /// Drives while no other thread does, until this resident is replaced.
    fn run_resident(self: &Arc<Self>, replacement: u32) {
        let is_resident = || self.replacements.load(Ordering::SeqCst) == replacement;
        while is_resident() {
            self.work_off();
            let lead = if is_resident() { self.leadership.lead(|| self.vacate()) } else { None };
            if let Some(mut lead) = lead {
                // What guests have left comes before what is received next.
                while let Some(driver) = lead.driven().filter(|_| !self.backlog.has_next()) {
                    if self.backlog.is_empty() && driver.is_over() {
                        drop(lead.close());
                        return;
                    }
                    if self.standby.is_there() && self.leadership.has_followers() {
                        break;
                    }
                    self.turn(&mut lead, None);
                }
            }
            if !self.backlog.has_next() && is_resident() {
                self.stand_by();
            }
        }
    }

    /// Has another thread replace the resident, which is about to wait in user code. If none can be started, it stays
    /// the resident, and only threads that wait drive meanwhile.
    pub(super) fn replace_resident(self: &Arc<Self>) {
        let (pool, replacement) = (self.clone(), self.replacements.load(Ordering::SeqCst).wrapping_add(1));
        self.replacements.store(replacement, Ordering::SeqCst);
        if spawn_resident(move || pool.run_resident(replacement)).is_err() {
            self.replacements.store(replacement.wrapping_sub(1), Ordering::SeqCst);
        }
    }

    /// Waits until there is something to do that no other thread does.
    fn stand_by(&self) {
        let is_at_rest = || !self.backlog.has_next() && self.urgency() == Call::Late;
        while self.standby.wait() == Some(Call::Soon) && is_at_rest() {
            self.standby.call(Call::Late);
        }
    }
}

/// The rest of a chunk was accepted with the chunk, so it must run even if all else has ended.
fn was_accepted(job: &Job) -> bool {
    job.task().core.items().is_some_and(|items| items.were_accepted())
}

fn spawn_resident(life: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name("progress-drive".into()).stack_size(DECODER_STACK);
    thread.spawn(life).map(drop)
}
