//! An executor whose workers are other processes.

use std::fmt;
use std::sync::Arc;

use crate::codec::Encoded;
use crate::codec::references::{self, References};
use crate::error::remote::RemoteError;
use crate::error::{BoxError, TaskErrorKind};
use crate::executor::Executor;
use crate::executor::call::{CLOSURE, pointer_signature, short_name};
use crate::executor::job::Job;
use crate::executor::shutdown::Shutdown;
use crate::process::output::WorkerOutput;
use crate::process::pool::shared::Pool;
use crate::process::protocol::wire;
use crate::process::protocol::wire::outbox;
use crate::process::registry::TaskRegistry;
use crate::process::workers::WorkersStatus;
use crate::task::details::Owner;
use crate::task::transitions;
use crate::task::{RemoteFn, RemoteOwner, TaskRef};

/// Runs tasks in worker processes.
///
/// While it runs, a task has a process to itself, with the same progress and cancellation as on a thread. A worker that
/// crashes, exits or is killed costs only the task that it was running, and is replaced. Even a task that ignores its
/// cancellation can be ended.
///
/// A worker is this same program, started again with `--progress-executor-task=<id>`. So `main` begins with a
/// [`TaskRegistry`], which says what workers can run; its [`init`](TaskRegistry::init) never returns in a worker.
///
/// ```standalone_crate
/// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
///
/// fn collatz(n: u64, progress: &Updater) -> TaskResult<u64> {
///     let mut longest = 0;
///     for start in progress.iter(1..=n) {
///         let mut x: u64 = start?; // `?` ends the task here when it was cancelled
///         let mut steps = 0;
///         while x != 1 {
///             x = if x % 2 == 0 { x / 2 } else { 3 * x + 1 };
///             steps += 1;
///         }
///         longest = longest.max(steps);
///     }
///     Ok(longest)
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     TaskRegistry::new().register(collatz).init();
///     let executor = ProcessPoolExecutor::new(2)?;
///     smol::block_on(async {
///         let task = executor
///             .submit(collatz, 10_000)
///             .on_progress(|old, new| println!("{} -> {} of {:?}", old.n, new.n, new.total));
///         assert_eq!(task.await?, 261);
///         Ok(())
///     })
/// }
/// ```
///
/// | | new tasks | tasks that wait | tasks that run | idle workers |
/// |---|---|---|---|---|
/// | drop the executor | – | are run | keep running | end |
/// | [`shutdown`](Self::shutdown) | rejected | are run | keep running | end |
/// | [`shutdown_now`](Self::shutdown_now) | rejected | cancelled | asked to end, or else killed | end |
/// | the program ends, or is killed | – | | have a moment to end | end |
///
/// Workers can also be on other machines: a [`Launcher`](crate::Launcher) such as `srun` or `ssh` is put in front of their
/// command. See [From threads to a cluster in one line](crate::guide::cluster).
///
/// A process that the program forks, without executing another program, has copies of its pools and futures. It may drop
/// them, which affects neither tasks nor workers, but must not use them. It can make a pool of its own.
///
/// If the system lacks something to start workers, such as descriptors or memory, tasks wait for it for up to 5 s, and are
/// then rejected with an error that says what was missing. If not even the first thread of the pool can be started, no other
/// thread could try again, so `submit` itself waits.
///
/// Worker processes need Unix. On other systems the types exist, so that code which mentions them compiles, and
/// [`build`](crate::ProcessPoolBuilder::build) returns an error that says so.
///
/// # Inputs and outputs
///
/// Inputs and outputs are sent as [MessagePack](https://msgpack.org) with field names, which supports every attribute of serde.
/// `Vec<u8>`, `String` and vectors of numbers of a fixed size are as fast as a copy if they are the whole input or output; as
/// fields they need [`plain`](crate::plain) or `serde_bytes` for that. A value that many inputs need is sent to each worker only
/// once if it is a [`Shared`](crate::Shared). [`submit`](crate::ExecutorExt::submit) encodes the input, on the thread that calls
/// it.
///
/// A value that would not arrive as it was is an [error](crate::TaskErrorKind::Encode) instead:
///
/// - a `Some` around something that is encoded as nothing, since it would arrive as `None`, like in JSON: `Some(None)`,
///   `Some(())`, `Some(serde_json::Value::Null)`. Use an enum with a variant for each case;
/// - a value that is nested more than 127 levels deep. Sequences, maps, structs and variants with content count as one level,
///   variants with several or with named fields as two. This keeps the stacks of both processes from overflowing, unless a
///   hand-written `Serialize` or `Deserialize` calls itself before it calls its serializer. *Dropping* a deep value may also
///   take a lot of stack, depending on its type;
/// - a path that is not UTF-8, which is a limit of serde. Use an `OsString`.
///
/// Integers of 128 bits do not work with `flatten` or in untagged or internally tagged enums, which is a limit of serde.
///
/// Errors of tasks arrive as text: their message, and those of their [sources](std::error::Error::source), at most 64 of them.
/// So [`downcast_ref`](crate::TaskError::downcast_ref) finds nothing.
///
/// # Cancellation
///
/// [`cancel`](crate::ProgressFuture::cancel) is a request, as on threads: the next progress call of the task returns
/// [`Cancelled`](crate::Cancelled). If the task makes none within the [grace period](crate::ProcessPoolBuilder::cancel_grace),
/// its worker is killed, and the task ends as cancelled. A task that has noticed its cancellation may take its time to clean up.
/// A kill never hits any task but the one that it is meant for. A worker whose task has exceeded a
/// [limit](crate::TaskBuilder::timeout) is treated in the same way, although the future has resolved by then.
///
/// A kill reaches the worker's process group: the worker and the processes that its task has started. Processes in a group
/// or session of their own survive, as with `process_group(0)`, `setsid`, or in a shell with job control: a task that
/// starts such processes must end them itself, for instance with a pipe that they read.
///
/// If tasks take microseconds, the next ones wait inside their worker. They are still pending: they do not run if they are
/// cancelled, and they move to another worker if theirs is lost, or is busy while another is idle.
///
/// # Progress
///
/// On Linux, a task counts in memory that its worker shares with the program. So
/// [`progress`](crate::ProgressFuture::progress) shows every count immediately, the error of a task whose worker was lost says
/// exactly how far the task got, and a task that is not observed sends nothing and wakes no thread, however much it counts.
/// The counts of [parts](crate::Updater::split) and of [several threads](crate::Updater::shared) are recorded there once per
/// [report interval](crate::ProcessPoolBuilder::report_interval). Messages are kept there too, up to 4 KiB of each.
///
/// On other systems, and with workers behind a launcher, the worker sends what has changed once per report interval, and the
/// program knows nothing more recent than that.
///
/// # What a worker is like
///
/// - *Standard output and standard error* are those of the program, so `println!` in a task and the message of a panic
///   appear where they would on a thread; output without a newline at its end appears when the task ends. For that, the
///   worker waits for the lock of standard output, so a thread that a task leaves behind must not keep it. *Standard
///   input* is empty. Both outputs of a launched worker appear on standard error, after a mark of where the worker is.
/// - *Threads*: tasks run on a thread of their own, away from what surrounds the call of `init`.
/// - *Logging* must be set up in each process: do that before `init` if workers should log as well. Whatever `main` does
///   before it calls `init` happens in every worker, and delays its start.
/// - *Environment* and *current directory* are those of the program when the worker is started, unless
///   [set](crate::ProcessPoolBuilder::env). Statics have the values that `main` gave them before `init`; nothing else is
///   shared, and what a task leaves in a static is there for the next one in the same worker.
/// - *Signals*: a worker leads a process group of its own, so Ctrl-C in a terminal reaches the program, and not its
///   workers. The program decides what to do, with [`cancel`](crate::ProgressFuture::cancel) or
///   [`shutdown_now`](Self::shutdown_now); or it ends, and its workers end with it, within a quarter of a second. A service
///   manager that signals each process of a service, as systemd does without `KillMode=mixed`, also ends the workers.
/// - *Descriptors*: processes that tasks start do not inherit the channel.
/// - *Pools within pools*: a task may use a `ProcessPoolExecutor` of its own. Pools may be nested eight levels deep; more is a
///   sign that a task submits itself.
///
/// # Tests
///
/// Tests have no `main` of their own. All they need is [`test_worker!`](crate::test_worker), once in each test program. Or
/// they use a [`SyncExecutor`](crate::SyncExecutor), which runs the same tasks.
///
/// # Debugging
///
/// - *A task in a debugger*: submit it to a [`SyncExecutor`](crate::SyncExecutor) or a
///   [`ThreadPoolExecutor`](crate::ThreadPoolExecutor). Code that takes a `&dyn Executor` needs no other change.
/// - *A worker in a debugger*: let the task say which process it is in, `progress.set_message(format!("process {}",
///   std::process::id()))`, and attach the debugger to that. A worker that is stopped in a debugger is not killed, unless
///   its task is cancelled or has a limit. A worker that is stopped without a task is replaced when it would get one.
/// - *A worker by hand*: `program --progress-executor-task=x` says which tasks are registered. It cannot do more, because
///   no program is at the other end of its standard input.
/// - *Workers in valgrind*: with `--trace-children=yes`, they run in it as the program does. Its first message, about a program
///   that cannot be run, comes from an attempt to start valgrind itself.
/// - *A lost worker*: the [error](crate::TaskErrorKind::WorkerLost) has its exit code or signal, and [how far](#progress) the
///   task got. Whatever the worker itself wrote is on standard error. A task that may be run twice can have
///   [retries](crate::TaskBuilder::retries).
pub struct ProcessPoolExecutor {
    pool: Arc<Pool>,
    /// The pool, as its tasks know it.
    owner: RemoteOwner,
}

impl ProcessPoolExecutor {
    pub(crate) fn of(pool: Arc<Pool>) -> Self {
        Self { owner: Arc::new(pool.clone() as Arc<dyn Owner>), pool }
    }

    /// Refuses new tasks from now on. The returned future resolves when the accepted ones, and all workers, have ended.
    ///
    /// Tasks that are paused have not ended. Inputs of a [map](crate::ExecutorExt::map) may be sent to a worker together; those
    /// that the worker gives back or is lost with go on when the map is polled. If that is only after the shutdown, workers are
    /// started for them, and end with them: to be left with no worker, finish the map first.
    ///
    /// By then, what tasks have [printed](crate::Updater::println) and workers have written and logged has also been passed on,
    /// unless standard error takes nothing for about a second, as it may be a pipe that nobody reads: what comes after that is not
    /// waited for. Functions that are given to [`WorkerOutput::lines`](crate::WorkerOutput::lines), and loggers, are, however long
    /// they take.
    pub fn shutdown(&self) -> Shutdown {
        self.pool.close();
        Shutdown::new(self.pool.clone())
    }

    /// Refuses new tasks from now on, and cancels the accepted ones. The returned future resolves when they, and all workers,
    /// have ended.
    ///
    /// This takes no longer than the [grace period](crate::ProcessPoolBuilder::cancel_grace), unless a task that has noticed its
    /// cancellation takes longer to clean up, a [launcher](crate::Launcher) to end its job, for which it has 20 s, or the system
    /// to start or to end a process, for which it has 5 and 20 s. What is still to be passed on is waited for
    /// [as well](Self::shutdown).
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
    /// use std::time::Duration;
    ///
    /// fn nap(time: Duration, progress: &Updater) -> TaskResult<()> {
    ///     Ok(progress.sleep(time)?)
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     TaskRegistry::new().register(nap).init();
    ///     let executor = ProcessPoolExecutor::new(2)?;
    ///     let task = executor.submit(nap, Duration::MAX);
    ///     executor.shutdown_now().wait(); // no worker is left
    ///     assert!(task.wait().unwrap_err().is_cancelled());
    ///     Ok(())
    /// }
    /// ```
    pub fn shutdown_now(&self) -> Shutdown {
        self.pool.close();
        self.pool.cancel_all();
        Shutdown::new(self.pool.clone())
    }

    /// Stops all workers, and the processes that their tasks have started, until [`resume`](Self::resume). Returns once the
    /// system has been asked to stop them, or after a second.
    ///
    /// - A running task keeps its [status](crate::Status), and later goes on from where it was. Its
    ///   [timeout](crate::TaskBuilder::timeout) and [stall timeout](crate::TaskBuilder::stall_timeout) do not run meanwhile; a
    ///   [deadline](crate::TaskBuilder::deadline) is a point in time, and does not move.
    /// - Waiting tasks are not started, and new ones wait as well.
    /// - A task that is cancelled goes on, so that it can notice this within the
    ///   [grace period](crate::ProcessPoolBuilder::cancel_grace) and clean up; then its worker is stopped. A task that was
    ///   cancelled before goes on in the same way.
    /// - Workers of a pool that a task has itself go on, as other processes do that are in a process group of their own.
    /// - Shutting the pool down, or dropping it, resumes it.
    ///
    /// Workers are not in the process group of the program, so Ctrl-Z in a terminal stops only the program. A program whose tasks
    /// should stop with it handles that signal: here with the crate [`signal-hook`](https://docs.rs/signal-hook), and in the
    /// example `full_example` as a stream, with [`async-signal`](https://docs.rs/async-signal):
    ///
    /// ```ignore
    /// let mut signals = Signals::new([SIGTSTP])?;
    /// thread::spawn(move || {
    ///     for signal in signals.forever() {
    ///         executor.suspend();
    ///         // Stops the program, and returns when it goes on.
    ///         let _ = emulate_default_handler(signal);
    ///         executor.resume();
    ///     }
    /// });
    /// ```
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
    /// use std::time::Duration;
    ///
    /// fn count(n: u64, progress: &Updater) -> TaskResult<u64> {
    ///     for _ in 0..n {
    ///         progress.sleep(Duration::from_millis(1))?;
    ///         progress.update(1)?;
    ///     }
    ///     Ok(n)
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     TaskRegistry::new().register(count).init();
    ///     let executor = ProcessPoolExecutor::new(1)?;
    ///     let task = executor.submit(count, 100);
    ///     executor.suspend();
    ///     assert!(!task.is_done());
    ///     executor.resume();
    ///     assert_eq!(task.wait()?, 100);
    ///     Ok(())
    /// }
    /// ```
    pub fn suspend(&self) {
        self.pool.suspend();
    }

    /// Continues the workers that [`suspend`](Self::suspend) has stopped, and starts tasks again.
    pub fn resume(&self) {
        self.pool.resume();
    }

    /// Starts workers ahead of need, until there are this many, or as many as the pool's
    /// [maximum](crate::ProcessPoolBuilder::max_workers). Returns immediately, before they have started.
    ///
    /// Without this, a worker is started for the first task that has none, and that task waits for it. To spare it the wait, call
    /// this where the pool is made, and do other work before the first task. An
    /// [initializer](crate::ProcessPoolBuilder::initializer) runs ahead as well.
    ///
    /// Workers that exist already count. Those that have no task end as others do, after the
    /// [idle timeout](crate::ProcessPoolBuilder::idle_timeout) if there is one. A worker that fails to start is not started
    /// again: whether workers can be started is shown by the outcome of a task. A pool that is shut down or
    /// [suspended](Self::suspend) starts none. If the launcher starts all workers with one command, all are started.
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
    ///
    /// fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    ///     Ok(2 * n)
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     TaskRegistry::new().register(double).init();
    ///     let executor = ProcessPoolExecutor::new(2)?;
    ///     executor.prestart(2);
    ///     let input = 21; // read from somewhere, while they start
    ///     assert_eq!(executor.submit(double, input).wait()?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn prestart(&self, workers: usize) {
        self.pool.prestart(workers);
    }

    /// How many workers are wanted, have started, are busy and were lost, and where they are.
    ///
    /// # Examples
    ///
    /// See [`WorkersStatus`].
    #[must_use]
    pub fn workers(&self) -> WorkersStatus {
        self.pool.workers()
    }

    /// Prepares the task's function and its input for another process.
    fn prepare(&self, job: &Job) -> Result<Prepared, (TaskErrorKind, BoxError)> {
        let body = &job.task().body;
        let function = body.remote_fn().ok_or_else(not_portable).and_then(function_id);
        let function = function.map_err(|error| (TaskErrorKind::NotRegistered, error.into()))?;
        let max = self.pool.launch.max_frame;
        let (input, references) = references::with(max.saturating_sub(outbox::BARE_OVERHEAD), || body.encode());
        let called = (function, job.task().core.given_name());
        let refuse = |error: BoxError| {
            let error = RemoteError::new("its input", &*error);
            (TaskErrorKind::Encode, error.into())
        };
        let input = input.map_err(refuse)?;
        if let Err(error) = check_size(called, &input, max) {
            give_back(job.task(), input.bytes.into(), max);
            return Err(refuse(error));
        }
        Ok((function, (input, references)))
    }
}

/// A function, and its input with the shared values that it refers to.
type Prepared = (&'static str, (Encoded, References));

impl Executor for ProcessPoolExecutor {
    fn execute(&self, job: Job) {
        match self.prepare(&job) {
            Ok((function, input)) => {
                // From now on, the pool learns of everything that is requested of the task.
                if transitions::hand_over(job.task(), &self.owner) {
                    self.pool.submit(job, function, input);
                }
            }
            Err((kind, error)) => transitions::reject(job.task(), kind, error),
        }
    }

    fn max_workers(&self) -> usize {
        self.pool.launch.max_workers
    }

    /// Not if the number of tasks per worker is limited, or if it must be known which input has written a line.
    fn gathers_inputs(&self) -> bool {
        !self.pool.limits_tasks() && !matches!(self.pool.launch.output, WorkerOutput::Lines(_))
    }
}

impl Drop for ProcessPoolExecutor {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl fmt::Debug for ProcessPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.pool.counts();
        f.debug_struct("ProcessPoolExecutor")
            .field("max_workers", &self.max_workers())
            .field("workers", &counts.ready)
            .field("queued", &counts.queued)
            .field("is_shut_down", &self.pool.is_closed())
            .finish()
    }
}

fn not_portable() -> String {
    "it was submitted in a way that keeps it in this process".into()
}

/// The id by which workers know the function.
pub(crate) fn function_id(function: RemoteFn) -> Result<&'static str, String> {
    let RemoteFn { type_id, path, captures } = function;
    if captures {
        let name = short_name(path);
        return Err(if pointer_signature(path).is_some() {
            format!("`{name}` is a function pointer, which no other process can follow: submit the function itself")
        } else if path.starts_with('&') {
            format!("`{path}` is a reference, which cannot be sent: submit `{name}` itself")
        } else {
            let subject = if is_closure(path) { format!("the closure in `{name}`") } else { format!("`{name}`") };
            format!("{subject} captures something, which cannot be sent: pass it as the input of a plain function")
        });
    }
    let Some(registry) = TaskRegistry::of_this_process() else {
        // This is a test program: its worker knows the function, or reports that it does not.
        return Ok(path);
    };
    registry.id(type_id).ok_or_else(|| unknown(path))
}

/// What to do about a function that is not registered.
fn unknown(path: &'static str) -> String {
    if is_closure(path) {
        return format!(
            "workers do not know the closure `{path}`, and no other closure can be registered for it: make it a function, and \
             add that function with `.register(..)` where `TaskRegistry::init` is called"
        );
    }
    let name = short_name(path);
    format!(
        "workers do not know `{path}`: add `.register({name})` where `TaskRegistry::init` is called, or, if a library keeps \
         it private, call there what the library registers its functions with"
    )
}

fn is_closure(path: &str) -> bool {
    path.ends_with(CLOSURE)
}

/// Checks the frame of an input, with its function and the name that its task was given, against the maximum size.
pub(crate) fn check_size(called: (&str, Option<&str>), input: &Encoded, max: u64) -> Result<(), BoxError> {
    let len = input.bytes.len() as u64 + outbox::run_overhead(called);
    if len <= max { Ok(()) } else { Err(wire::WireError::TooLarge { len, max }.into()) }
}

/// Gives inputs that a map has gathered itself, and that are too large together, back to it, to go on in smaller chunks.
fn give_back(task: &TaskRef, input: Vec<u8>, max: u64) {
    // What is too large may be the name.
    let is_large = input.len() as u64 > max / 2;
    let gathered = task.core.items().filter(|items| is_large && items.counts().total() > 1);
    if let Some(items) = gathered {
        items.give_back(input, &|kind| task.error(kind));
    }
}

#[cfg(test)]
mod tests {
    use super::{ProcessPoolExecutor, function_id, unknown};
    use crate::task::RemoteFn;
    use std::any::TypeId;
    use std::panic::{RefUnwindSafe, UnwindSafe};

    #[test]
    fn it_may_be_used_after_a_panic_as_the_other_executors() {
        fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
        is_unwind_safe::<ProcessPoolExecutor>();
    }

    #[test]
    fn what_can_be_registered_is_said() {
        assert!(unknown("app::jobs::collatz").contains("add `.register(collatz)` where"));
        assert!(unknown("app::main::{{closure}}").contains("make it a function, and add that function"));
    }

    #[test]
    fn a_closure_is_not_taken_for_the_function_that_it_stands_in() {
        let captures = |path| RemoteFn { type_id: TypeId::of::<()>(), path, captures: true };
        let of_closure = function_id(captures("app::main::{{closure}}")).unwrap_err();
        assert!(of_closure.starts_with("the closure in `main` captures something"), "{of_closure}");
        let of_callable = function_id(captures("app::Scale")).unwrap_err();
        assert!(of_callable.starts_with("`Scale` captures something"), "{of_callable}");
    }
}
