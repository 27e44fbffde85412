//! The executor traits: executors get jobs, and callers get futures.

pub(crate) mod buffer;
pub(crate) mod builder;
pub(crate) mod call;
pub(crate) mod chunk;
pub(crate) mod chunk_size;
pub(crate) mod executor_fn;
pub(crate) mod in_flight;
pub(crate) mod job;
pub(crate) mod map;
pub(crate) mod shutdown;

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::error::{TaskErrorKind, TaskResult};
use crate::executor::builder::{Options, TaskBuilder};
use crate::executor::call::{Call, Crosses, Crossing};
use crate::executor::chunk::{Batch, Chunk, ChunkCall, Outcomes};
use crate::executor::job::Job;
use crate::executor::map::{Made, Map, Submit};
use crate::future::ProgressFuture;
use crate::run;
use crate::run::Work;
use crate::sync::unwind::{drop_quietly, quietly};
use crate::task::TaskRef;
use crate::task::details::Details;
use crate::task::state;
use crate::task::transitions;
use crate::task::watchdog;
use crate::updater::Updater;

/// Something that runs tasks.
///
/// An executor is given [`Job`]s and runs them somewhere. Programs submit tasks with [`ExecutorExt`], which every
/// executor implements. Implement this trait to write an executor; often a closure will do, with
/// [`executor_fn`](crate::executor_fn()).
///
/// The trait can be used as `dyn Executor`, and a pointer to an executor is an executor too, so that a
/// `struct App<E: Executor>` can hold an `Arc<dyn Executor>`:
///
/// ```
/// use progress_executor::{Executor, ExecutorExt, SyncExecutor, ThreadPoolExecutor};
///
/// fn choose(threads: usize) -> Box<dyn Executor> {
///     match threads {
///         0 => Box::new(SyncExecutor::new()),
///         _ => Box::new(ThreadPoolExecutor::new(threads)),
///     }
/// }
/// assert_eq!(choose(2).submit(|n: u64, _| Ok(n + 1), 41).wait()?, 42);
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
pub trait Executor: Send + Sync {
    /// Makes sure that the job is [run](Job::run) once, on some thread. Returns without waiting for it.
    ///
    /// An executor that cannot run the job drops it.
    fn execute(&self, job: Job);

    /// The maximum number of jobs that run at the same time: 1 unless this is implemented. A [`map`](ExecutorExt::map) sizes its
    /// buffer by it.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{Executor, ThreadPoolExecutor};
    ///
    /// assert_eq!(ThreadPoolExecutor::new(3).max_workers(), 3);
    /// ```
    fn max_workers(&self) -> usize {
        1
    }

    /// [Executes](Self::execute) a job whose future has not been handed out yet, so that no thread can wait for it.
    #[doc(hidden)]
    fn execute_new(&self, job: Job) {
        self.execute(job);
    }

    /// Whether sending a job costs so much that a [map](ExecutorExt::map) should gather short inputs into one job.
    #[doc(hidden)]
    fn gathers_inputs(&self) -> bool {
        false
    }
}

/// A pointer to an executor is an executor.
macro_rules! delegate {
    ($($pointer:ty),*) => {
        $(impl<E: Executor + ?Sized> Executor for $pointer {
            fn execute(&self, job: Job) {
                (**self).execute(job);
            }

            fn execute_new(&self, job: Job) {
                (**self).execute_new(job);
            }

            fn max_workers(&self) -> usize {
                (**self).max_workers()
            }

            fn gathers_inputs(&self) -> bool {
                (**self).gathers_inputs()
            }
        })*
    };
}

delegate!(&E, Box<E>, Arc<E>);

/// Submits tasks to any [`Executor`], including a `dyn Executor`.
///
/// Inputs and outputs of these tasks must be serializable, so that code that is generic over its executor also works
/// with executors whose workers are other processes. [`ThreadPoolExecutor`](crate::ThreadPoolExecutor) and
/// [`SyncExecutor`](crate::SyncExecutor) also have methods of the same names without that condition.
///
/// With this trait in scope, a call on an `Arc` of one of these finds the method of the trait: `(*executor).submit(..)` calls that
/// of the executor.
///
/// Submitting never panics or returns an error: what goes wrong is the outcome of the future. It does not block either, except
/// for up to 5 s where the system cannot start the first thread of a pool, or the one that watches [deadlines](TaskBuilder::deadline).
///
/// # Examples
///
/// ```
/// use progress_executor::{Executor, ExecutorExt, SyncExecutor, TaskError, ThreadPoolExecutor};
///
/// fn run(executor: &dyn Executor) -> Result<u64, TaskError> {
///     let first = executor.task(|n: u64, _| Ok(n + 1), 1).name("first").submit();
///     let others = executor.map(|n: u64, _| Ok(n * n), [2, 3]).blocking().sum::<Result<u64, _>>()?;
///     Ok(first.wait()? + others)
/// }
///
/// assert_eq!(run(&SyncExecutor::new())?, 15);
/// assert_eq!(run(&ThreadPoolExecutor::new(2))?, 15);
/// # Ok::<(), TaskError>(())
/// ```
#[doc(alias = "tokio")]
pub trait ExecutorExt: Executor {
    /// Submits a task: `task` will be called with `input`, and an [`Updater`] to report progress to.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{Executor, ExecutorExt, SyncExecutor, TaskError, TaskResult, Updater};
    ///
    /// fn sum(numbers: Vec<u64>, progress: &Updater) -> TaskResult<u64> {
    ///     let mut sum = 0;
    ///     for number in progress.iter(numbers) {
    ///         sum += number?;
    ///     }
    ///     Ok(sum)
    /// }
    ///
    /// fn run(executor: &dyn Executor) -> Result<u64, TaskError> {
    ///     executor.submit(sum, vec![1, 2, 3]).wait()
    /// }
    ///
    /// assert_eq!(run(&SyncExecutor::new())?, 6);
    /// # Ok::<(), TaskError>(())
    /// ```
    #[doc(alias = "spawn_blocking")]
    fn submit<F, I, O>(&self, task: F, input: I) -> ProgressFuture<O>
    where
        F: Fn(I, &Updater) -> TaskResult<O> + Send + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        start(self, Call::<F, I, Crosses>::new(task, input), Options::default())
    }

    /// Prepares a task, to give it a name or limits.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{ExecutorExt, ThreadPoolExecutor};
    ///
    /// let executor = ThreadPoolExecutor::new(1);
    /// let task = executor.task(|n: u64, _| Ok(n), 1).name("first").submit();
    /// assert_eq!(task.name(), "first");
    /// # task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    fn task<F, I, O>(&self, task: F, input: I) -> TaskBuilder<'_, O>
    where
        F: Fn(I, &Updater) -> TaskResult<O> + Send + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        prepare(self, Call::<F, I, Crosses>::new(task, input))
    }

    /// Submits a task for each of `inputs`, some at a time, and streams their outcomes; see [`Map`].
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use progress_executor::{ExecutorExt, TaskResult, ThreadPoolExecutor, Updater};
    ///
    /// fn count_words(text: String, progress: &Updater) -> TaskResult<usize> {
    ///     let words: Vec<&str> = progress.iter(text.split(' ')).collect::<Result<_, _>>()?;
    ///     Ok(words.len())
    /// }
    ///
    /// # smol::block_on(async {
    /// let executor = ThreadPoolExecutor::new(2); // or any other
    /// let mut counts = executor.map(count_words, ["a b c", "d e"].map(String::from));
    /// while let Some(count) = counts.next().await {
    ///     println!("{}", count?);
    /// }
    /// # Ok::<(), progress_executor::TaskError>(())
    /// # }).unwrap();
    /// ```
    #[doc(alias("thread_map", "process_map", "chunksize"))]
    fn map<F, I, O, N>(&self, task: F, inputs: N) -> Map<'_, N::IntoIter, O>
    where
        F: Fn(I, &Updater) -> TaskResult<O> + Clone + Send + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
        N: IntoIterator<Item = I>,
    {
        let submitter = Submitter::<'_, Self, F, Crosses>::new(self, task);
        Map::new(inputs.into_iter(), Box::new(submitter), self.max_workers(), self.gathers_inputs())
    }
}

impl<E: Executor + ?Sized> ExecutorExt for E {}

/// Makes a task and hands it to the executor.
pub(crate) fn start<E, W>(executor: &E, work: W, options: Options) -> ProgressFuture<W::Output>
where
    E: Executor + ?Sized,
    W: Work,
{
    let (future, job) = make(work, options);
    hand_to(executor, job);
    future
}

fn hand_to<E: Executor + ?Sized>(executor: &E, job: Option<Job>) {
    // The executor may be foreign code. If it panics, it drops the job, which ends the task.
    let _ = job.map(|job| quietly(|| executor.execute_new(job)));
}

fn make<W: Work>(work: W, mut options: Options) -> Made<W::Output> {
    options.start_deadline();
    let (task, handle) = run::new(work, options.details);
    let job = begin(task, options.deadline);
    (ProgressFuture::new(handle), job)
}

/// Watches the limits of a submitted task, if it has any. Returns no job if they leave it no time at all. Compiled
/// once, not for each function.
fn begin(task: TaskRef, deadline: Option<Duration>) -> Option<Job> {
    if let Some(Details { limits, .. }) = task.core.existing_details() {
        if limits.are_timed() {
            task.core.state.set(state::LIMITED);
        }
        let has_passed = (deadline == Some(Duration::ZERO)).then_some(TaskErrorKind::TimedOut);
        if let Some(kind) = has_passed.or_else(|| limits.passed_at_once()) {
            transitions::reject(&task, kind, "the limit leaves no time at all".into());
            return None;
        }
        if limits.deadline.is_some() {
            watchdog::watch(&task);
        }
    }
    Some(Job { task })
}

pub(crate) fn prepare<'a, E, W>(executor: &'a E, work: W) -> TaskBuilder<'a, W::Output>
where
    E: Executor + ?Sized,
    W: Work,
{
    TaskBuilder::new(Box::new(move |options| start(executor, work, options)))
}

/// Submits tasks of one function. `C` says whether inputs and outputs can cross to another process.
pub(crate) struct Submitter<'a, E: ?Sized, F, C> {
    executor: &'a E,
    task: F,
    crossing: PhantomData<fn() -> C>,
}

impl<'a, E: ?Sized, F, C> Submitter<'a, E, F, C> {
    pub(crate) fn new(executor: &'a E, task: F) -> Self {
        Self { executor, task, crossing: PhantomData }
    }

    /// The function for one more task, or the panic of cloning it.
    fn function(&self) -> thread::Result<F>
    where
        F: Clone,
    {
        catch_unwind(AssertUnwindSafe(|| self.task.clone()))
    }
}

/// A task that has ended because cloning its function has panicked.
fn unmade<W: Work>(payload: Box<dyn Any + Send>, options: Options) -> Made<W::Output> {
    let (task, handle) = run::without_work::<W>(options.details);
    let error = task.error(TaskErrorKind::Panicked).with_panic(payload);
    if task.core.state.seal() {
        transitions::refuse_with(&task, error);
    }
    (ProgressFuture::new(handle), None)
}

impl<E, F, I, O, C> Submit<I, O> for Submitter<'_, E, F, C>
where
    E: Executor + ?Sized,
    F: Fn(I, &Updater) -> TaskResult<O> + Clone + Send + 'static,
    I: Send + 'static,
    O: Send + 'static,
    C: Crossing<I, O>,
{
    fn item(&mut self, input: I, options: Options) -> Made<O> {
        match self.function() {
            Ok(task) => make(Call::<F, I, C>::new(task, input), options),
            Err(payload) => {
                drop_quietly(input);
                unmade::<Call<F, I, C>>(payload, options)
            }
        }
    }

    fn chunk(&mut self, batch: Batch<I>, outcomes: Arc<Outcomes<O>>) -> (Made<()>, Arc<Chunk<I, O>>) {
        let (chunk, inputs) = Chunk::new::<C>(batch, outcomes);
        let options = Options::of_chunk(chunk.name(), chunk.clone());
        let made = match self.function() {
            Ok(task) => make(ChunkCall { task, inputs, chunk: chunk.clone(), crossing: self.crossing }, options),
            Err(payload) => unmade::<ChunkCall<F, I, O, C>>(payload, options),
        };
        (made, chunk)
    }

    fn hand_over(&mut self, job: Option<Job>) {
        hand_to(self.executor, job);
    }
}

/// Gives an executor of this process the methods of [`ExecutorExt`], for functions that capture anything and run once.
macro_rules! submit_methods {
    ($executor:ident) => {
        impl $executor {
            /// Submits a task: `task` will be called with `input`, and an [`Updater`](crate::Updater) to report
            /// progress to.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("# let executor = progress_executor::", stringify!($executor), "::default();")]
            /// let started = std::time::Instant::now(); // anything can be captured
            /// let task = executor.submit(move |n: u64, _| Ok((n, started.elapsed())), 7);
            /// assert_eq!(task.wait()?.0, 7);
            /// # Ok::<(), progress_executor::TaskError>(())
            /// ```
            pub fn submit<F, I, O>(&self, task: F, input: I) -> $crate::future::ProgressFuture<O>
            where
                F: FnOnce(I, &$crate::updater::Updater) -> $crate::error::TaskResult<O> + Send + 'static,
                I: Send + 'static,
                O: Send + 'static,
            {
                let call = $crate::executor::call::Call::<F, I, $crate::executor::call::Stays>::new(task, input);
                $crate::executor::start(self, call, Default::default())
            }

            /// Submits a task without an input.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("# let executor = progress_executor::", stringify!($executor), "::default();")]
            /// let words = vec!["a", "b"];
            /// assert_eq!(executor.spawn(move |_| Ok(words.concat())).wait()?, "ab");
            /// # Ok::<(), progress_executor::TaskError>(())
            /// ```
            pub fn spawn<F, O>(&self, task: F) -> $crate::future::ProgressFuture<O>
            where
                F: FnOnce(&$crate::updater::Updater) -> $crate::error::TaskResult<O> + Send + 'static,
                O: Send + 'static,
            {
                $crate::executor::start(self, $crate::executor::call::Spawn(task), Default::default())
            }

            /// Submits a task without an input, under a name; see [`TaskBuilder::name`](crate::TaskBuilder::name).
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("# let executor = progress_executor::", stringify!($executor), "::default();")]
            /// let task = executor.spawn_named("answer", |_| Ok(6 * 7));
            /// assert_eq!(task.name(), "answer");
            /// # task.wait()?;
            /// # Ok::<(), progress_executor::TaskError>(())
            /// ```
            pub fn spawn_named<F, O>(&self, name: impl Into<String>, task: F) -> $crate::future::ProgressFuture<O>
            where
                F: FnOnce(&$crate::updater::Updater) -> $crate::error::TaskResult<O> + Send + 'static,
                O: Send + 'static,
            {
                $crate::executor::prepare(self, $crate::executor::call::Spawn(task)).name(name).submit()
            }

            /// Prepares a task, to give it a name or limits.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("# let executor = progress_executor::", stringify!($executor), "::default();")]
            /// let task = executor.task(|n: u64, _| Ok(n), 1).name("first").submit();
            /// assert_eq!(task.name(), "first");
            /// # task.wait()?;
            /// # Ok::<(), progress_executor::TaskError>(())
            /// ```
            pub fn task<F, I, O>(&self, task: F, input: I) -> $crate::executor::builder::TaskBuilder<'_, O>
            where
                F: FnOnce(I, &$crate::updater::Updater) -> $crate::error::TaskResult<O> + Send + 'static,
                I: Send + 'static,
                O: Send + 'static,
            {
                let call = $crate::executor::call::Call::<F, I, $crate::executor::call::Stays>::new(task, input);
                $crate::executor::prepare(self, call)
            }

            /// Submits a task for each of `inputs`, some at a time, and streams their outcomes; see
            /// [`Map`](crate::Map).
            ///
            /// # Examples
            ///
            /// ```
            /// use futures::TryStreamExt;
            ///
            #[doc = concat!("# let executor = progress_executor::", stringify!($executor), "::default();")]
            /// # smol::block_on(async {
            /// let factor = std::rc::Rc::new(3); // the inputs stay here
            /// let inputs = (1..=3).map(|n| n * *factor);
            /// let doubled: Vec<u64> = executor.map(|n, _| Ok(2 * n), inputs).try_collect().await?;
            /// assert_eq!(doubled, [6, 12, 18]);
            /// # Ok::<(), progress_executor::TaskError>(())
            /// # }).unwrap();
            /// ```
            pub fn map<F, I, O, N>(&self, task: F, inputs: N) -> $crate::executor::map::Map<'_, N::IntoIter, O>
            where
                F: Fn(I, &$crate::updater::Updater) -> $crate::error::TaskResult<O> + Clone + Send + 'static,
                I: Send + 'static,
                O: Send + 'static,
                N: IntoIterator<Item = I>,
            {
                use $crate::executor::call::Stays;
                let submitter = $crate::executor::Submitter::<'_, Self, F, Stays>::new(self, task);
                let workers = $crate::Executor::max_workers(self);
                $crate::executor::map::Map::new(inputs.into_iter(), Box::new(submitter), workers, false)
            }
        }
    };
}

pub(crate) use submit_methods;
