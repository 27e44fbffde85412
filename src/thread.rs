//! A pool of threads.
//!
//! One lock holds the queue and the numbers of those who see to it, so that whoever adds a job or takes one can tell
//! whether somebody else has to be called ([`Shared::summon`]):
//!
//! ```text
//!             takes a job                  finds none for some microseconds
//!  working ◄──────────────── looking ──────────────────────────────────────────► asleep
//!     │                        ▲  ▲                                                │
//!     └────────────────────────┘  └────────────────────────────────────────────────┘
//!            ends the job                         is called
//! ```
//!
//! A worker that looks spares its caller a wake-up, which costs more than all the rest of a small task. At most one
//! worker is being woken at a time: it calls the next one, if there still is something to do.
//!
//! Deliberately absent: a lock-free queue (one lock answers all questions at once, and is held for some nanoseconds),
//! work stealing (tasks are long; first in, first out is what users can reason about), idle time-outs (a sleeping
//! thread costs nothing but its stack).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::mem;
use std::num::NonZero;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use event_listener::Event;

use crate::error::CancelCause;
use crate::executor::job::{Job, Refusal};
use crate::executor::shutdown::{Drain, Shutdown};
use crate::executor::{Executor, submit_methods};
use crate::id::TaskId;
use crate::run::{self, CurrentPool};
use crate::sync::spin::AdaptiveSpin;
use crate::task::context::Context;
use crate::task::details::Owner;
use crate::task::state::Unclaimed;
use crate::task::subscribers::REPORT_INTERVAL;
use crate::task::transitions;
use crate::task::{TaskRef, state};

/// Runs tasks on a pool of threads, first in, first out.
///
/// Threads are started as they are needed, up to a maximum, and are kept until the executor is dropped. A task that
/// panics costs no thread. Idle threads use no CPU.
///
/// | | new tasks | tasks that wait | tasks that run |
/// |---|---|---|---|
/// | drop the executor | – | are run | run on |
/// | [`shutdown`](Self::shutdown) | rejected | are run | run on |
/// | [`shutdown_now`](Self::shutdown_now) | rejected | cancelled | asked to end |
///
/// None of them blocks; the threads end when there is nothing left to do.
///
/// # Tasks that wait for tasks of their own pool
///
/// A future that is polled or [waited](crate::ProgressFuture::wait) for on a thread of the pool that its task was
/// submitted to runs the task right there, if no other thread has started it. So tasks can submit tasks to their own
/// pool and wait for them, even if it has one thread only; what a task waits for counts on the stack of its thread.
///
/// # Examples
///
/// ```
/// use progress_executor::{TaskResult, ThreadPoolExecutor, Updater};
///
/// fn sum(numbers: Vec<u64>, progress: &Updater) -> TaskResult<u64> {
///     let mut sum = 0;
///     for number in progress.iter(numbers) {
///         sum += number?;
///     }
///     Ok(sum)
/// }
///
/// let executor = ThreadPoolExecutor::new(2);
/// let small = executor.submit(sum, vec![1, 2, 3]);
/// let large = executor.submit(sum, (1..=1000).collect());
/// let (small, large) = smol::block_on(futures::future::join(small, large));
/// assert_eq!((small?, large?), (6, 500_500));
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
pub struct ThreadPoolExecutor {
    shared: Arc<Shared>,
}

/// Settings of a [`ThreadPoolExecutor`]; made by [`ThreadPoolExecutor::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build` is called"]
pub struct ThreadPoolBuilder {
    max_workers: usize,
    thread_name: String,
    stack_size: Option<usize>,
    report_interval: Duration,
}

struct Shared {
    settings: ThreadPoolBuilder,
    /// What its tasks know it by.
    id: u32,
    queue: Mutex<Queue>,
    /// The length of the queue, for those who look without the lock.
    queued: AtomicUsize,
    work: Condvar,
    progress: Event,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// What each thread is working on.
    running: Vec<Option<Job>>,
    /// Tasks that are running on a thread that waits for them.
    helped: Vec<TaskRef>,
    /// Jobs that were paused when their turn came.
    held: HashMap<TaskId, Job>,
    threads: usize,
    looking: usize,
    asleep: usize,
    /// Whether one of those asleep was called, and is not up yet.
    is_waking: bool,
    /// Whether no more tasks are accepted, so that threads end when there is nothing left to do.
    is_closed: bool,
}

impl ThreadPoolExecutor {
    /// A pool of at most `max_workers` threads; 0 stands for the [available
    /// parallelism](std::thread::available_parallelism).
    ///
    /// Starts no thread yet.
    #[must_use]
    pub fn new(max_workers: usize) -> Self {
        Self::builder().max_workers(max_workers).build()
    }

    /// A pool with other settings.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::ThreadPoolExecutor;
    /// use std::time::Duration;
    ///
    /// let executor = ThreadPoolExecutor::builder()
    ///     .max_workers(2)
    ///     .thread_name("encoder")
    ///     .report_interval(Duration::from_millis(100))
    ///     .build();
    /// let name = executor.spawn(|_| Ok(std::thread::current().name().map(str::to_owned)));
    /// assert_eq!(name.wait()?.as_deref(), Some("encoder-0"));
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder {
            max_workers: 0,
            thread_name: "progress".into(),
            stack_size: None,
            report_interval: REPORT_INTERVAL,
        }
    }

    /// Refuses new tasks from now on, and resolves when the accepted ones have ended.
    ///
    /// Tasks that are paused have not ended.
    ///
    /// # Examples
    ///
    /// ```
    /// let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|_| Ok(1));
    /// executor.shutdown().wait();
    /// assert!(task.is_done());
    /// assert!(executor.spawn(|_| Ok(2)).wait().unwrap_err().is_rejected());
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn shutdown(&self) -> Shutdown {
        self.shared.close();
        Shutdown::new(self.shared.clone())
    }

    /// Refuses new tasks from now on, cancels the accepted ones, and resolves when they have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{CancelCause, TaskErrorKind, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(1);
    /// let task = executor.spawn(|progress| Ok(progress.sleep(std::time::Duration::MAX)?));
    /// smol::block_on(executor.shutdown_now());
    /// let error = task.wait().unwrap_err();
    /// assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Shutdown));
    /// ```
    pub fn shutdown_now(&self) -> Shutdown {
        self.shared.close();
        for task in self.shared.unended() {
            transitions::cancel(&task, CancelCause::Shutdown);
        }
        Shutdown::new(self.shared.clone())
    }
}

submit_methods!(ThreadPoolExecutor);

impl Default for ThreadPoolExecutor {
    /// A pool of as many threads as the [available parallelism](std::thread::available_parallelism).
    fn default() -> Self {
        Self::new(0)
    }
}

impl ThreadPoolBuilder {
    /// At most so many threads; 0 stands for the [available parallelism](std::thread::available_parallelism), which is
    /// the default.
    pub fn max_workers(mut self, max_workers: usize) -> Self {
        self.max_workers = max_workers;
        self
    }

    /// Names the threads: `name-0`, `name-1` and so on. The default is `progress`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// The size of each thread's stack in bytes; the default is that of [`std::thread`].
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// The time between two snapshots of a task that observers are shown; 20 ms by default. Zero shows every change, at
    /// the cost of the task.
    pub fn report_interval(mut self, interval: Duration) -> Self {
        self.report_interval = interval;
        self
    }

    /// Makes the pool.
    #[must_use]
    pub fn build(mut self) -> ThreadPoolExecutor {
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        if self.max_workers == 0 {
            self.max_workers = thread::available_parallelism().map_or(1, NonZero::get);
        }
        // Part of a C string below.
        self.thread_name.retain(|character| character != '\0');
        let shared = Shared {
            settings: self,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            queue: Mutex::default(),
            queued: AtomicUsize::new(0),
            work: Condvar::new(),
            progress: Event::new(),
        };
        ThreadPoolExecutor { shared: Arc::new(shared) }
    }
}

impl Executor for ThreadPoolExecutor {
    fn execute(&self, job: Job) {
        let queue = self.shared.lock();
        if queue.is_closed {
            drop(queue);
            return job.reject(Refusal::ShutDown);
        }
        job.task().core.set_pool_id(self.shared.id);
        self.shared.push(queue, job);
    }

    fn max_workers(&self) -> usize {
        self.shared.settings.max_workers
    }
}

impl Drop for ThreadPoolExecutor {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>, job: Job) {
        queue.jobs.push_back(job);
        self.queued.store(queue.jobs.len(), Ordering::Relaxed);
        self.summon(queue);
    }

    /// Calls somebody, if there are more jobs than there are threads that look for one.
    fn summon(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        if queue.jobs.len() <= queue.looking {
            return;
        }
        if queue.asleep > 0 {
            if !mem::replace(&mut queue.is_waking, true) {
                drop(queue);
                self.work.notify_one();
            }
        } else if queue.threads < self.settings.max_workers {
            queue.threads += 1;
            let index = queue.running.len();
            queue.running.push(None);
            drop(queue);
            self.start_thread(index);
        }
    }

    fn start_thread(self: &Arc<Self>, index: usize) {
        let mut builder = thread::Builder::new().name(format!("{}-{index}", self.settings.thread_name));
        if let Some(bytes) = self.settings.stack_size {
            builder = builder.stack_size(bytes);
        }
        let shared = self.clone();
        let Err(error) = builder.spawn(move || shared.work(index)) else { return };
        let mut queue = self.lock();
        queue.threads -= 1;
        // The other threads will do it all, if there are any.
        let stranded = if queue.threads == 0 { mem::take(&mut queue.jobs) } else { VecDeque::new() };
        self.queued.store(queue.jobs.len(), Ordering::Relaxed);
        drop(queue);
        let error = Arc::new(error);
        for job in stranded {
            job.reject(Refusal::NoThread(error.clone()));
        }
        self.progress.notify(usize::MAX);
    }

    /// The life of a thread.
    fn work(self: Arc<Self>, index: usize) {
        let report_interval = self.settings.report_interval;
        run::enter_pool(CurrentPool { id: self.id, report_interval });
        let mut context = Context::with_interval(report_interval);
        let mut patience = AdaptiveSpin::new();
        while let Some(task) = self.next(index, &mut patience) {
            match task.core.state.claim() {
                Ok(()) => context = run::run(task, context),
                Err(Unclaimed::Paused) => self.hold(index, &task),
                Err(Unclaimed::Taken) => self.note(task),
            }
        }
    }

    /// The next task for a thread, which waits for one; `None` when it is to end.
    fn next(self: &Arc<Self>, index: usize, patience: &mut AdaptiveSpin) -> Option<TaskRef> {
        let mut queue = self.lock();
        if queue.jobs.is_empty() && !queue.is_closed {
            let ended = queue.running[index].take();
            queue.looking += 1;
            drop(queue);
            drop(ended);
            patience.spin_until(|| self.queued.load(Ordering::Relaxed) > 0);
            queue = self.lock();
            queue.looking -= 1;
        }
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                self.queued.store(queue.jobs.len(), Ordering::Relaxed);
                let task = job.task().clone();
                let ended = queue.running[index].replace(job);
                self.summon(queue);
                drop(ended);
                return Some(task);
            }
            if queue.is_closed {
                queue.threads -= 1;
                drop(queue);
                self.progress.notify(usize::MAX);
                return None;
            }
            queue.asleep += 1;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.asleep -= 1;
            queue.is_waking = false;
        }
    }

    /// Sets the job of a thread aside, for it is paused, until it is resumed or cancelled.
    fn hold(self: &Arc<Self>, index: usize, task: &TaskRef) {
        let is_held = transitions::attach(task, self.clone(), |word| {
            let is_paused = word & state::PAUSE != 0;
            if is_paused {
                let mut queue = self.lock();
                let job = queue.running[index].take();
                queue.held.extend(job.map(|job| (job.id(), job)));
            }
            is_paused
        });
        if !is_held {
            let mut queue = self.lock();
            if let Some(job) = queue.running[index].take() {
                self.push(queue, job);
            }
        }
    }

    /// Keeps track of a task that somebody else has started. One that was cancelled before it could start needs no tracking,
    /// and there may be many of them at a time.
    fn note(&self, task: TaskRef) {
        let mut queue = self.lock();
        let (ended, helped): (Vec<_>, _) =
            mem::take(&mut queue.helped).into_iter().partition(|task| task.core.has_ended());
        queue.helped = helped;
        if task.core.has_run() && !task.core.has_ended() {
            queue.helped.push(task);
        }
        drop(queue);
        drop(ended);
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.work.notify_all();
    }

    fn unended(&self) -> Vec<TaskRef> {
        let queue = self.lock();
        let jobs = queue.jobs.iter().chain(queue.held.values()).chain(queue.running.iter().flatten());
        jobs.map(Job::task).chain(&queue.helped).cloned().collect()
    }
}

impl Owner for Shared {
    fn changed(self: Arc<Self>, task: TaskId) {
        let mut queue = self.lock();
        if let Some(job) = queue.held.remove(&task) {
            self.push(queue, job);
        }
    }

    fn ended(self: Arc<Self>, task: TaskId) {
        let job = self.lock().held.remove(&task);
        drop(job);
        self.progress.notify(usize::MAX);
    }
}

impl Drain for Shared {
    fn drain(&self) -> bool {
        let queue = self.lock();
        queue.is_closed && queue.threads == 0 && queue.jobs.is_empty() && queue.held.is_empty()
    }

    fn progress(&self) -> &Event {
        &self.progress
    }
}

impl fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.shared.lock();
        f.debug_struct("ThreadPoolExecutor")
            .field("max_workers", &self.shared.settings.max_workers)
            .field("threads", &queue.threads)
            .field("queued", &queue.jobs.len())
            .field("is_shut_down", &queue.is_closed)
            .finish()
    }
}
