//! The threads of a pool, and their queue.
//!
//! Jobs are added at the *intake*, and taken from among those that are *ready*: when there is none left, whoever looks for
//! one makes all of the intake ready. So those who add and those who take meet at a lock only then, and the order is still
//! that of one queue.
//!
//! The lock of the intake also guards the numbers of those who see to it, so that whoever adds a job or looks for one
//! there can tell whether somebody else has to be called ([`Pool::summon`]):
//!
//! ```text
//!             takes a job                  finds none for some microseconds
//!  working ◄──────────────── looking ──────────────────────────────────────────► asleep
//!     │                        ▲  ▲                                                │
//!     └────────────────────────┘  └────────────────────────────────────────────────┘
//!            ends the job                         is called
//! ```
//!
//! A worker that looks spares its caller a wake-up, which costs more than all the rest of a small task. The worker that
//! fell asleep last is called first: its stack and its processor are the warmest. At most one worker is being woken at a
//! time: it calls the next one, if there still is something to do. So one that was started or woken takes its first
//! job with the lock of the intake held.
//!
//! Deliberately absent: work stealing and shares of the queue (tasks are long; first in, first out is what users can reason
//! about), idle time-outs (a sleeping thread costs nothing but its stack).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use event_listener::Event;

use crate::error::CancelCause;
use crate::executor::job::{Job, Refusal};
use crate::executor::shutdown::Drain;
use crate::id::TaskId;
use crate::run::{self, CurrentPool};
use crate::sync::spin::AdaptiveSpin;
use crate::task::context::Context;
use crate::task::details::Owner;
use crate::task::state::Unclaimed;
use crate::task::transitions;
use crate::task::{TaskRef, state};

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_workers: usize,
    pub(super) thread_name: String,
    pub(super) stack_size: Option<usize>,
    pub(super) report_interval: Duration,
}

pub(super) struct Pool {
    settings: Settings,
    /// What its tasks know it by.
    id: u32,
    intake: Padded<Intake>,
    /// Locked after the intake where both are.
    ready: Padded<Ready>,
    progress: Event,
}

/// A part of the queue on cache lines of its own, with its length for those who look without the lock.
#[repr(align(128))]
struct Padded<T> {
    part: Mutex<T>,
    len: AtomicUsize,
}

#[derive(Default)]
struct Intake {
    /// What comes after the jobs that are ready.
    jobs: VecDeque<Job>,
    /// Tasks that are running on a thread that waits for them.
    helped: Vec<TaskRef>,
    /// Jobs that were paused when their turn came.
    held: HashMap<TaskId, Job>,
    threads: usize,
    /// The places of threads that could not be started.
    vacant: Vec<usize>,
    looking: usize,
    /// What wakes those who sleep; the last of them fell asleep last.
    asleep: Vec<Arc<Condvar>>,
    /// Whether one of those who slept was called, and is not up yet.
    is_waking: bool,
    /// Whether no more tasks are accepted, so that threads end when there is nothing left to do.
    is_closed: bool,
    /// How many callers are cancelling what has been waiting.
    cancelling: usize,
}

#[derive(Default)]
struct Ready {
    jobs: VecDeque<Job>,
    /// What each thread is working on.
    running: Vec<Option<Job>>,
}

/// What a thread of the pool knows of itself.
struct Worker {
    index: usize,
    bell: Arc<Condvar>,
    spin: AdaptiveSpin,
}

impl<T> Padded<T> {
    fn new(part: T) -> Self {
        Self { part: Mutex::new(part), len: AtomicUsize::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the lock held.
    fn set_len(&self, len: usize) {
        self.len.store(len, Ordering::Relaxed);
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}

impl Pool {
    pub(super) fn new(settings: Settings) -> Self {
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        Self {
            settings,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            intake: Padded::new(Intake::default()),
            ready: Padded::new(Ready::default()),
            progress: Event::new(),
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn add(self: &Arc<Self>, job: Job) {
        job.task().core.set_pool_id(self.id);
        let intake = self.intake.lock();
        if intake.is_closed {
            drop(intake);
            return job.reject(Refusal::ShutDown);
        }
        self.push(intake, job);
    }

    fn push(self: &Arc<Self>, mut intake: MutexGuard<'_, Intake>, job: Job) {
        intake.jobs.push_back(job);
        self.intake.set_len(intake.jobs.len());
        self.summon(intake);
    }

    /// Jobs that wait; exact with the lock of the intake held, but that there may be fewer which are ready.
    fn waiting(&self) -> usize {
        self.intake.len() + self.ready.len()
    }

    /// Calls somebody, if there are more jobs than there are threads that look for one.
    fn summon(self: &Arc<Self>, mut intake: MutexGuard<'_, Intake>) {
        if self.waiting() <= intake.looking {
            return;
        }
        if !intake.asleep.is_empty() {
            if !mem::replace(&mut intake.is_waking, true) {
                let bell = intake.asleep.pop();
                drop(intake);
                bell.iter().for_each(|bell| bell.notify_one());
            }
        } else if intake.threads < self.settings.max_workers {
            intake.threads += 1;
            let index = intake.vacant.pop().unwrap_or_else(|| self.add_place());
            drop(intake);
            self.start_thread(index);
        }
    }

    fn add_place(&self) -> usize {
        let running = &mut self.ready.lock().running;
        running.push(None);
        running.len() - 1
    }

    fn start_thread(self: &Arc<Self>, index: usize) {
        let mut builder = thread::Builder::new().name(format!("{}-{index}", self.settings.thread_name));
        if let Some(bytes) = self.settings.stack_size {
            builder = builder.stack_size(bytes);
        }
        let pool = self.clone();
        let Err(error) = builder.spawn(move || pool.work(index)) else { return };
        let mut intake = self.intake.lock();
        intake.threads -= 1;
        intake.vacant.push(index);
        // The other threads will do it all, if there are any.
        let stranded = if intake.threads == 0 { self.take_all(&mut intake) } else { Vec::new() };
        drop(intake);
        let error = Arc::new(error);
        for job in stranded {
            job.reject(Refusal::NoThread(error.clone()));
        }
        self.progress.notify(usize::MAX);
    }

    /// Takes every job that waits, in their order.
    fn take_all(&self, intake: &mut Intake) -> Vec<Job> {
        let mut ready = self.ready.lock();
        self.intake.set_len(0);
        self.ready.set_len(0);
        mem::take(&mut ready.jobs).into_iter().chain(mem::take(&mut intake.jobs)).collect()
    }

    /// The life of a thread.
    fn work(self: Arc<Self>, index: usize) {
        let report_interval = self.settings.report_interval;
        run::enter_pool(CurrentPool { id: self.id, report_interval });
        let mut context = Context::with_interval(report_interval);
        // Who waits for its first task may need the processor to get there.
        let mut worker = Worker { index, bell: Arc::default(), spin: AdaptiveSpin::after_passing(1) };
        let mut next = self.next_from_intake(&mut worker);
        while let Some(task) = next {
            match task.core.state.claim() {
                Ok(()) => context = run::run(task, context),
                Err(Unclaimed::Paused) => self.hold(index, &task),
                Err(Unclaimed::Taken) => self.note(task),
            }
            next = self.next_ready(index).or_else(|| self.next_from_intake(&mut worker));
        }
    }

    /// The next of the tasks that are ready.
    fn next_ready(&self, index: usize) -> Option<TaskRef> {
        if self.ready.len() == 0 {
            return None;
        }
        let mut ready = self.ready.lock();
        let taken = ready.start_next(index);
        self.ready.set_len(ready.jobs.len());
        drop(ready);
        let (task, _ended) = taken?;
        Some(task)
    }

    /// The next task of all, which is waited for; `None` when the thread is to end. Calls others for what is left.
    fn next_from_intake(self: &Arc<Self>, worker: &mut Worker) -> Option<TaskRef> {
        let mut intake = self.intake.lock();
        if self.waiting() == 0 && !intake.is_closed {
            intake.looking += 1;
            drop(intake);
            self.forget_ended(worker.index);
            worker.spin.spin_until(|| self.waiting() > 0);
            intake = self.intake.lock();
            intake.looking -= 1;
        }
        loop {
            if let Some((task, ended)) = self.take(&mut intake, worker.index) {
                self.summon(intake);
                drop(ended);
                return Some(task);
            }
            if intake.is_closed {
                intake.threads -= 1;
                drop(intake);
                self.forget_ended(worker.index);
                self.progress.notify(usize::MAX);
                return None;
            }
            intake = Self::sleep(intake, &worker.bell);
        }
    }

    /// Takes the first job of all, for a thread; makes the intake ready if it is there.
    fn take(&self, intake: &mut Intake, index: usize) -> Option<Started> {
        let mut ready = self.ready.lock();
        if ready.jobs.is_empty() {
            mem::swap(&mut ready.jobs, &mut intake.jobs);
            self.intake.set_len(0);
        }
        let taken = ready.start_next(index);
        self.ready.set_len(ready.jobs.len());
        taken
    }

    fn sleep<'a>(mut intake: MutexGuard<'a, Intake>, bell: &Arc<Condvar>) -> MutexGuard<'a, Intake> {
        intake.asleep.push(bell.clone());
        while intake.asleep.iter().any(|other| Arc::ptr_eq(other, bell)) {
            intake = bell.wait(intake).unwrap_or_else(PoisonError::into_inner);
        }
        intake.is_waking = false;
        intake
    }

    /// How many threads sleep.
    #[cfg(test)]
    pub(super) fn asleep(&self) -> usize {
        self.intake.lock().asleep.len()
    }

    /// Lets go of what a thread was working on.
    fn forget_ended(&self, index: usize) {
        let ended = self.ready.lock().running[index].take();
        // Without the lock: what the user gave may be dropped with it.
        drop(ended);
    }

    /// Sets the job of a thread aside, for it is paused, until it is resumed or cancelled.
    fn hold(self: &Arc<Self>, index: usize, task: &TaskRef) {
        let is_held = transitions::attach(task, self.clone(), |word| {
            let is_paused = word & state::PAUSE != 0;
            if is_paused {
                let mut intake = self.intake.lock();
                let job = self.ready.lock().running[index].take();
                intake.held.extend(job.map(|job| (job.id(), job)));
            }
            is_paused
        });
        if !is_held {
            let intake = self.intake.lock();
            let job = self.ready.lock().running[index].take();
            if let Some(job) = job {
                self.push(intake, job);
            }
        }
    }

    /// Keeps track of a task that somebody else has started. One that was cancelled before it could start needs no tracking,
    /// and there may be many of them at a time.
    fn note(&self, task: TaskRef) {
        let mut intake = self.intake.lock();
        let (ended, helped): (Vec<_>, _) =
            mem::take(&mut intake.helped).into_iter().partition(|task| task.core.has_ended());
        intake.helped = helped;
        if task.core.has_run() && !task.core.has_ended() {
            intake.helped.push(task);
        }
        drop(intake);
        drop(ended);
    }

    /// Accepts no more jobs.
    pub(super) fn close(&self) {
        let mut intake = self.intake.lock();
        intake.is_closed = true;
        let asleep = mem::take(&mut intake.asleep);
        drop(intake);
        asleep.iter().for_each(|bell| bell.notify_one());
    }

    /// Accepts no more jobs, and cancels all tasks. Those that wait are taken first, so that no thread starts one while the
    /// others are cancelled.
    pub(super) fn close_now(&self) {
        self.close();
        let mut intake = self.intake.lock();
        let mut waiting = self.take_all(&mut intake);
        waiting.extend(mem::take(&mut intake.held).into_values());
        let ready = self.ready.lock();
        let running: Vec<TaskRef> =
            ready.running.iter().flatten().map(Job::task).chain(&intake.helped).cloned().collect();
        drop(ready);
        intake.cancelling += 1;
        drop(intake);
        for task in waiting.iter().map(Job::task).chain(&running) {
            transitions::cancel(task, CancelCause::Shutdown);
        }
        drop((waiting, running));
        self.intake.lock().cancelling -= 1;
        self.progress.notify(usize::MAX);
    }
}

/// A task that is being started by a thread, and what that has ended before, to be dropped without the locks.
type Started = (TaskRef, Option<Job>);

impl Ready {
    fn start_next(&mut self, index: usize) -> Option<Started> {
        let job = self.jobs.pop_front()?;
        let task = job.task().clone();
        Some((task, self.running[index].replace(job)))
    }
}

impl Owner for Pool {
    fn changed(self: Arc<Self>, task: TaskId) {
        let mut intake = self.intake.lock();
        if let Some(job) = intake.held.remove(&task) {
            self.push(intake, job);
        }
    }

    fn ended(self: Arc<Self>, task: TaskId) {
        let job = self.intake.lock().held.remove(&task);
        drop(job);
        self.progress.notify(usize::MAX);
    }
}

impl Drain for Pool {
    fn drain(&self) -> bool {
        let intake = self.intake.lock();
        let is_idle = intake.threads == 0 && intake.cancelling == 0 && self.waiting() == 0 && intake.held.is_empty();
        intake.is_closed && is_idle
    }

    fn progress(&self) -> &Event {
        &self.progress
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let intake = self.intake.lock();
        f.debug_struct("ThreadPoolExecutor")
            .field("max_workers", &self.settings.max_workers)
            .field("threads", &intake.threads)
            .field("queued", &self.waiting())
            .field("is_shut_down", &intake.is_closed)
            .finish()
    }
}
