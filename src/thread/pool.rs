//! The threads of a pool, and their queue.
//!
//! Jobs are added at the *intake*. A thread that finds more than a few there makes all of them *ready*, behind a second lock,
//! where threads take them without contending with those that add jobs. Nothing is taken from the intake while anything is
//! ready, so the order is still that of one queue; with few jobs, there is only one lock to pass.
//!
//! The lock of the intake also guards how many workers look for jobs or sleep, so that a thread that adds or takes a
//! job can tell whether another worker has to be woken ([`Pool::wake_or_start`]):
//!
//! ```text
//!             takes a job                  finds none for some microseconds
//!  working ◄──────────────── looking ──────────────────────────────────────────► asleep
//!     │                        ▲  ▲                                                │
//!     └────────────────────────┘  └────────────────────────────────────────────────┘
//!            ends the job                         is called
//! ```
//!
//! A worker that is looking saves the thread that adds a job a wake-up, which costs more than all the rest of a small
//! task. The worker that fell asleep last is woken first: its stack and its processor are the warmest. At most one
//! worker is being woken at a time: it wakes the next one, if there still is something to do. For this, a worker that
//! was started or woken takes its first job with the lock of the intake held.
//!
//! Deliberately absent: work stealing and per-thread queues (tasks are long; first in, first out is what users can reason
//! about), idle timeouts (a sleeping thread costs nothing but its stack).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::CancelCause;
use crate::executor::job::{Job, Refusal};
use crate::executor::shutdown::Drain;
use crate::id::TaskId;
use crate::run::{self, CurrentPool};
use crate::sync::shortage::{self, Shortage};
use crate::sync::spin::AdaptiveSpin;
use crate::sync::wakers::Wakers;
use crate::task::bulk::Standstill;
use crate::task::context::Context;
use crate::task::details::Owner;
use crate::task::state::Unclaimed;
use crate::task::transitions;
use crate::task::{TaskRef, state};

/// More jobs than this are made ready: a second lock only pays for many.
const FEW: usize = 8;
/// Fewer tasks than this that have ended in the queue are left there until their turn comes.
const SWEEP: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_workers: usize,
    pub(super) thread_name: String,
    pub(super) stack_size: Option<usize>,
    pub(super) report_interval: Duration,
}

pub(super) struct Pool {
    pub(super) settings: Settings,
    /// Identifies the pool to its tasks.
    id: u32,
    intake: Padded<Intake>,
    /// Jobs that come before those of the intake. Lock order: `intake` before `ready`, which is filled only with both
    /// locked.
    ready: Padded<VecDeque<Job>>,
    shortage: Shortage,
    waiting: Wakers,
}

/// A part of the queue on cache lines of its own, with its length for threads that look without the lock.
#[repr(align(128))]
struct Padded<T> {
    part: Mutex<T>,
    len: AtomicUsize,
}

#[derive(Default)]
struct Intake {
    jobs: VecDeque<Job>,
    /// The workers of all threads, by their numbers.
    workers: Vec<Arc<Worker>>,
    /// Tasks that are running on a thread that waits for them.
    helped: Vec<TaskRef>,
    /// Jobs that were paused when their turn came.
    held: HashMap<TaskId, Job>,
    threads: usize,
    /// How many of these are still being started.
    starting: usize,
    /// The numbers of threads that could not be started.
    vacant: Vec<usize>,
    looking: usize,
    /// Workers that sleep; the one that fell asleep last is at the end.
    asleep: Vec<Arc<Worker>>,
    /// Whether a sleeper was woken, and does not run yet.
    is_waking: bool,
    /// Whether no more tasks are accepted, so that threads end when there is nothing left to do.
    is_closed: bool,
    /// How many tasks had [ended in a queue](transitions::left_behind) when this one was swept last.
    left_behind: usize,
    /// How many threads are ending tasks that were waiting, or wait for others that do.
    ending: usize,
}

/// Tasks that a thread has had in its hands, and which other threads are ending or running: no shutdown is over before.
#[derive(Default)]
struct Unsettled(Vec<TaskRef>);

/// What a thread shares with others, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Worker {
    /// The job that the worker is working on. Locked last: a job is put here before its queue is unlocked, so that a
    /// shutdown sees it at every moment.
    job: Mutex<Option<Job>>,
    wake: Condvar,
}

impl Intake {
    fn push(&mut self, job: Job) {
        if self.jobs.len() == self.jobs.capacity() {
            // By a half only: unused capacity counts as memory of the waiting tasks.
            self.jobs.reserve_exact(self.jobs.len() / 2 + 4);
        }
        self.jobs.push_back(job);
    }
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
            ready: Padded::new(VecDeque::new()),
            shortage: Shortage::new(),
            waiting: Wakers::default(),
        }
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
        intake.push(job);
        self.intake.set_len(intake.jobs.len());
        let ended = self.sweep(&mut intake);
        self.wake_or_start(intake);
        drop(ended);
    }

    /// Takes out tasks that were cancelled while they waited, or run by a thread that waited for them, once they may be half of
    /// all: it may take long until a thread comes to them.
    fn sweep(&self, intake: &mut Intake) -> Vec<Job> {
        let left_behind = transitions::left_behind();
        let most = left_behind.wrapping_sub(intake.left_behind);
        if most < SWEEP || most < self.waiting() / 2 {
            return Vec::new();
        }
        intake.left_behind = left_behind;
        self.take_ended(intake)
    }

    #[cold]
    fn take_ended(&self, intake: &mut Intake) -> Vec<Job> {
        let mut ready = self.ready.lock();
        let mut ended = Vec::new();
        for jobs in [&mut *ready, &mut intake.jobs] {
            let (over, waiting): (VecDeque<_>, VecDeque<_>) =
                mem::take(jobs).into_iter().partition(|job| job.task().core.has_ended());
            *jobs = waiting;
            ended.extend(over);
        }
        self.ready.set_len(ready.len());
        self.intake.set_len(intake.jobs.len());
        ended
    }

    /// How many jobs wait. With the intake locked, this is exact, except that ready ones may have been taken.
    pub(super) fn waiting(&self) -> usize {
        self.intake.len() + self.ready.len()
    }

    /// Wakes or starts a worker if there are more jobs than workers that look for one.
    fn wake_or_start(self: &Arc<Self>, mut intake: MutexGuard<'_, Intake>) {
        let has_sleeper = !intake.asleep.is_empty();
        let has_more = if has_sleeper { !intake.is_waking } else { intake.threads < self.settings.max_workers };
        // In this order: reading how many are ready contends with the threads that take them.
        if !has_more || intake.jobs.len() <= intake.looking && self.waiting() <= intake.looking {
            return;
        }
        if has_sleeper {
            intake.is_waking = true;
            let worker = intake.asleep.pop();
            drop(intake);
            worker.iter().for_each(|worker| worker.wake.notify_one());
        } else {
            intake.threads += 1;
            intake.starting += 1;
            let index = intake.vacant.pop().unwrap_or(intake.workers.len());
            if index == intake.workers.len() {
                intake.workers.push(Arc::default());
            }
            let worker = intake.workers[index].clone();
            drop(intake);
            self.start_thread(index, &worker);
        }
    }

    /// Starts a thread. If the system lacks resources for it, and no other thread does the work, tries again for a
    /// while.
    #[cold]
    fn start_thread(self: &Arc<Self>, index: usize, worker: &Arc<Worker>) {
        let is_worth_it = |error: &io::Error| shortage::of_threads(error) && self.is_stranded();
        let started = self.shortage.outlast(is_worth_it, || self.spawn(index, worker.clone()));
        let mut intake = self.intake.lock();
        intake.starting -= 1;
        let Err(error) = started else { return };
        intake.threads -= 1;
        intake.vacant.push(index);
        // The other threads do the work, if there are any.
        let stranded = if intake.threads == 0 { self.take_all(&mut intake) } else { Vec::new() };
        intake.ending += 1;
        drop(intake);
        let error = Arc::new(error);
        for job in stranded {
            job.reject(Refusal::NoThread(error.clone()));
        }
        self.intake.lock().ending -= 1;
        self.waiting.wake_all();
    }

    fn spawn(self: &Arc<Self>, index: usize, worker: Arc<Worker>) -> io::Result<()> {
        let mut builder = thread::Builder::new().name(format!("{}-{index}", self.settings.thread_name));
        if let Some(bytes) = self.settings.stack_size {
            builder = builder.stack_size(bytes);
        }
        let pool = self.clone();
        builder.spawn(move || pool.work(&worker)).map(drop)
    }

    /// Whether there are jobs, and no thread that would get to them.
    fn is_stranded(&self) -> bool {
        let intake = self.intake.lock();
        intake.threads == intake.starting && self.waiting() > 0
    }

    /// Takes all waiting jobs, in order.
    fn take_all(&self, intake: &mut Intake) -> Vec<Job> {
        let mut ready = self.ready.lock();
        self.intake.set_len(0);
        self.ready.set_len(0);
        mem::take(&mut *ready).into_iter().chain(mem::take(&mut intake.jobs)).collect()
    }

    /// The life of a thread.
    fn work(self: Arc<Self>, worker: &Arc<Worker>) {
        let report_interval = self.settings.report_interval;
        run::enter_pool(CurrentPool { id: self.id, report_interval });
        let mut context = Context::with_interval(report_interval);
        // The thread that waits for the first task may need this processor.
        let mut spin = AdaptiveSpin::after_passing(1);
        let mut unsettled = Unsettled::default();
        let mut next = self.next(worker, &mut spin, &mut unsettled);
        let mut free_since = 0;
        while let Some(task) = next {
            let since = mem::take(&mut free_since);
            match task.core.claim() {
                Ok(()) => (context, free_since) = run::run_from(task, context, since),
                Err(Unclaimed::Paused) => self.hold(worker, &task),
                Err(Unclaimed::Taken) => self.note(task),
            }
            next = self.next_ready(worker, &mut unsettled).or_else(|| {
                free_since = 0;
                self.next(worker, &mut spin, &mut unsettled)
            });
        }
    }

    /// Takes the next of the ready tasks.
    fn next_ready(&self, worker: &Worker, unsettled: &mut Unsettled) -> Option<TaskRef> {
        if self.ready.len() == 0 {
            return None;
        }
        let (task, before) = self.take_ready(worker)?;
        unsettled.let_go(before);
        Some(task)
    }

    #[inline]
    fn take_ready(&self, worker: &Worker) -> Option<Started> {
        let mut ready = self.ready.lock();
        let job = ready.pop_front()?;
        self.ready.set_len(ready.len());
        Some(worker.start(job, ready))
    }

    /// Waits for the next task; `None` if the thread must end. Wakes another worker for what is left.
    fn next(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        spin: &mut AdaptiveSpin,
        unsettled: &mut Unsettled,
    ) -> Option<TaskRef> {
        let mut intake = self.intake.lock();
        if self.waiting() == 0 && !intake.is_closed {
            intake.looking += 1;
            drop(intake);
            let before = worker.job().take();
            unsettled.let_go(before);
            spin.spin_until(|| self.waiting() > 0);
            intake = self.intake.lock();
            intake.looking -= 1;
        }
        loop {
            if let Some((task, before)) = self.take(&mut intake, worker) {
                self.wake_or_start(intake);
                unsettled.let_go(before);
                return Some(task);
            }
            let before = worker.job().take();
            if before.is_some() {
                drop(intake);
                unsettled.let_go(before);
                intake = self.intake.lock();
                continue;
            }
            if intake.is_closed {
                intake.threads -= 1;
                self.leave(intake, unsettled);
                return None;
            }
            intake = Self::sleep(intake, worker);
        }
    }

    /// The end of a thread, which has left what it had in its hands to others: these are waited for.
    fn leave(&self, mut intake: MutexGuard<'_, Intake>, unsettled: &mut Unsettled) {
        intake.ending += 1;
        drop(intake);
        mem::take(&mut unsettled.0).iter().for_each(|task| task.core.wait_until(|word| word & state::ENDED != 0, None));
        self.intake.lock().ending -= 1;
        self.waiting.wake_all();
    }

    /// Takes the first job for a worker, and makes the others ready if there are many.
    fn take(&self, intake: &mut Intake, worker: &Worker) -> Option<Started> {
        if self.ready.len() > 0 {
            if let Some(started) = self.take_ready(worker) {
                return Some(started);
            }
        }
        let started = worker.start(intake.jobs.pop_front()?, ());
        if intake.jobs.len() > FEW {
            let mut ready = self.ready.lock();
            mem::swap(&mut *ready, &mut intake.jobs);
            self.ready.set_len(ready.len());
        }
        self.intake.set_len(intake.jobs.len());
        Some(started)
    }

    fn sleep<'a>(mut intake: MutexGuard<'a, Intake>, worker: &Arc<Worker>) -> MutexGuard<'a, Intake> {
        intake.asleep.push(worker.clone());
        while intake.asleep.iter().any(|other| Arc::ptr_eq(other, worker)) {
            intake = worker.wake.wait(intake).unwrap_or_else(PoisonError::into_inner);
        }
        intake.is_waking = false;
        intake
    }

    /// How many threads sleep.
    #[cfg(test)]
    pub(super) fn asleep(&self) -> usize {
        self.intake.lock().asleep.len()
    }

    /// Sets the paused job of a worker aside until it is resumed or cancelled.
    fn hold(self: &Arc<Self>, worker: &Worker, task: &TaskRef) {
        let is_held = transitions::attach(task, self.clone(), |word| {
            let is_paused = word & state::PAUSE != 0;
            if is_paused {
                let mut intake = self.intake.lock();
                let job = worker.job().take();
                intake.held.extend(job.map(|job| (job.id(), job)));
            }
            is_paused
        });
        if !is_held {
            let intake = self.intake.lock();
            let job = worker.job().take();
            if let Some(job) = job {
                self.push(intake, job);
            }
        }
    }

    /// Keeps track of a task that another thread has started. A task that was cancelled before it could start needs no
    /// tracking, and there may be many of those at a time.
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
        asleep.iter().for_each(|worker| worker.wake.notify_one());
    }

    /// Accepts no more jobs, and cancels all tasks. No waiting task is started meanwhile, neither by a thread of the pool nor
    /// by a task that waits for it.
    pub(super) fn close_now(&self) {
        let standstill = Standstill::begin();
        self.close();
        let mut intake = self.intake.lock();
        let waiting = self.take_all(&mut intake);
        let running = intake.workers.iter().filter_map(|worker| worker.job().as_ref().map(|job| job.task().clone()));
        // Jobs that are held are removed as their tasks end.
        let held = intake.held.values().map(|job| job.task().clone());
        let others: Vec<TaskRef> = running.chain(held).chain(intake.helped.iter().cloned()).collect();
        let tasks = waiting.iter().map(Job::task).chain(&others).cloned();
        let cancellations = transitions::request_cancel_all(tasks, CancelCause::Shutdown);
        // What others have sealed before is left in the queue, for a thread to wait until they have ended it.
        let is_done = |(job, is_sealed): &(Job, bool)| *is_sealed || job.task().core.has_ended();
        let (done, left): (Vec<_>, Vec<_>) = waiting.into_iter().zip(cancellations.sealed()).partition(is_done);
        intake.jobs.extend(left.into_iter().map(|(job, _)| job));
        self.intake.set_len(intake.jobs.len());
        intake.ending += 1;
        drop(intake);
        drop(standstill);
        cancellations.carry_out();
        drop((done, others));
        self.intake.lock().ending -= 1;
        self.waiting.wake_all();
    }
}

/// A task that a thread is starting, and the job that the thread has ended before, which must be dropped without the
/// locks.
type Started = (TaskRef, Option<Job>);

impl Worker {
    fn job(&self) -> MutexGuard<'_, Option<Job>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes this the job that the worker works on, and only then unlocks the queue it was taken from. Looks at the job itself
    /// after that, which takes a while, as another processor has written it.
    #[inline(always)]
    fn start<Q>(&self, job: Job, queue: Q) -> Started {
        let mut place = self.job();
        let ended = place.take();
        let job = place.insert(job);
        drop(queue);
        (job.task().clone(), ended)
    }
}

impl Unsettled {
    /// Drops a job whose turn is over, without locks.
    #[inline]
    fn let_go(&mut self, job: Option<Job>) {
        if let Some(job) = job.filter(|job| !job.task().core.has_ended()) {
            self.keep(job);
        }
    }

    #[cold]
    fn keep(&mut self, job: Job) {
        if self.0.len() == self.0.capacity() {
            self.0.retain(|task| !task.core.has_ended());
        }
        self.0.push(job.task().clone());
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
        self.waiting.wake_all();
    }
}

impl Drain for Pool {
    fn drain(&self) -> bool {
        let intake = self.intake.lock();
        let is_idle = intake.threads == 0 && intake.ending == 0 && self.waiting() == 0 && intake.held.is_empty();
        intake.is_closed && is_idle
    }

    fn waiting(&self) -> &Wakers {
        &self.waiting
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
