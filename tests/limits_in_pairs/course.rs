//! How a case is played.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use progress_executor::{ExecutorExt, GroupHandle, ProgressFuture};

use crate::case::Case;
use crate::documented::{Documented, Event};
use crate::part::{End, GO, GO_WHEN_TOLD, Kind, Part, Pool, Stage, play};
use crate::support::{NewFile, eventually};

/// Where the task of a case runs, and what it waits for.
pub(crate) struct Site {
    pub(crate) pool: Pool,
    started: NewFile,
    gate: NewFile,
    fuse: NewFile,
    /// Runs until the gate is open, if the task must wait for its turn.
    _first: Option<ProgressFuture<u32>>,
}

/// The task of a case.
pub(crate) trait Subject {
    fn handle(&self) -> &GroupHandle;
    /// Whether the executor has the task. A map takes its inputs when it is polled.
    fn is_submitted(&self) -> bool {
        true
    }
    /// Whether its start is known here, and not only where it runs.
    fn has_started(&self) -> bool {
        true
    }
    fn cancel(&self);
    fn is_asked_to_end(&self) -> bool;
    fn is_paused(&self) -> bool;
    fn is_over(&self) -> bool;
    /// Lets another event happen to it.
    fn happens(&mut self, event: Event);
}

impl Site {
    pub(crate) fn new(case: &Case) -> Self {
        let pool = Pool::new(case.kind);
        if case.kind.has_workers() {
            start_worker(&pool);
        }
        let [started, gate, fuse] = [(); 3].map(|()| NewFile::new());
        let has_queue = case.kind != Kind::Inline;
        let first = (case.stage == Stage::Waits && has_queue).then(|| {
            let started = NewFile::new();
            let first = pool.executor().submit(play, Part::new(Stage::IsDeaf, End::Returns, &started, &gate, &fuse));
            eventually("the first task runs", || !started.exists());
            first
        });
        Self { pool, started, gate, fuse, _first: first }
    }

    pub(crate) fn part(&self, case: &Case) -> Part {
        Part::new(case.stage, case.end, &self.started, &self.gate, &self.fuse)
    }

    /// Runs `poll` while the events happen, and returns what it returns and what is documented up to then. Returns
    /// `None` if the machine is too busy for the task to start within its limits.
    pub(crate) fn play<S: Subject, T: Send>(
        &self,
        case: &Case,
        subject: &mut S,
        poll: impl FnOnce() -> T + Send,
    ) -> Option<(T, Documented)> {
        thread::scope(|scope| {
            let mut poll = Some(poll);
            let mut start = || poll.take().map(|poll| scope.spawn(poll));
            let starts_later = case.stage == Stage::Waits && case.kind == Kind::Inline;
            let poller = if starts_later { None } else { start() };
            if case.stage == Stage::Waits {
                eventually(&format!("{case:?}: it is submitted"), || subject.is_submitted());
            } else {
                let mut is_known = false;
                eventually(&format!("{case:?}: it runs"), || {
                    is_known |= subject.has_started();
                    is_known && !self.started.exists() || subject.is_over()
                });
                if self.started.exists() || !is_known {
                    assert!(case.has_limits(), "it is over before it has started");
                    eprintln!("{case:?}: a limit has passed before it could start, on a machine that is busy");
                    // It may be running by now, where this thread only saw that it was over.
                    fs::write(self.gate.path(), GO).unwrap();
                    // Otherwise the join of the group would wait for the other task.
                    if case.has(Event::OtherFails) {
                        subject.happens(Event::OtherFails);
                    }
                    return None;
                }
            }
            let documented = self.let_happen(case, subject);
            self.pool.resume();
            subject.handle().resume();
            let is_told = documented.cancelled.is_some() && documented.outcome.is_none();
            fs::write(self.gate.path(), if is_told { GO_WHEN_TOLD } else { GO }).unwrap();
            let poller = poller.or_else(start).expect("it is started once");
            Some((poller.join().unwrap(), documented))
        })
    }

    fn let_happen<S: Subject>(&self, case: &Case, subject: &mut S) -> Documented {
        let mut documented = Documented::new(case.stage);
        let mut stands_since: Option<Instant> = None;
        for (event, limit) in case.limits() {
            documented.after(event);
            let is_over = documented.outcome.is_some();
            let stands_still = !is_over && !documented.time_passes();
            if let Some(since) = stands_since.take_if(|_| !stands_still) {
                documented.stood_still += since.elapsed();
            }
            match event {
                Event::Cancel => subject.cancel(),
                Event::Pause => subject.handle().pause(),
                Event::Suspend => self.pool.suspend(),
                Event::Resume => {
                    subject.handle().resume();
                    self.pool.resume();
                }
                Event::ResumeTask => subject.handle().resume(),
                Event::ShutDown => drop(self.pool.shut_down()),
                Event::ShutDownNow => drop(self.pool.shut_down_now()),
                Event::OtherFails | Event::Drop => subject.happens(event),
                // Long enough to see that the limit does not pass.
                Event::TimeOut | Event::Stall | Event::Deadline if !is_over => thread::sleep(2 * limit),
                Event::TimeOut | Event::Stall | Event::Deadline => {}
            }
            if is_over {
                eventually(&format!("{case:?}: it is over"), || subject.is_over());
            } else if documented.cancelled.is_some() {
                eventually(&format!("{case:?}: it is told"), || subject.is_asked_to_end());
            } else if documented.is_paused && !documented.is_suspended && case.stage == Stage::Listens {
                eventually(&format!("{case:?}: it waits"), || subject.is_paused() || subject.is_over());
            }
            // A limit that has passed in time, on a machine that is busy, has passed by now.
            if stands_still && !subject.is_over() {
                stands_since.get_or_insert_with(Instant::now);
            }
        }
        documented.stood_still += stands_since.map_or(Duration::ZERO, |since| since.elapsed());
        documented
    }
}

/// Starts a worker in advance, because that takes time.
fn start_worker(pool: &Pool) {
    let [started, gate] = [(); 2].map(|()| NewFile::new());
    fs::write(gate.path(), GO).unwrap();
    pool.executor().submit(play, Part::new(Stage::Waits, End::Returns, &started, &gate, &gate)).wait().unwrap();
}
