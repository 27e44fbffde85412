//! The workers of a process pool, and where they are.

/// The workers of a [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) at one moment, from its
/// [`workers`](crate::ProcessPoolExecutor::workers).
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
///     assert_eq!(executor.submit(double, 21).wait()?, 42);
///     let status = executor.workers();
///     println!("{} of {} workers have started", status.started, status.wanted);
///     for worker in &status.workers {
///         println!("process {} on {}", worker.pid, worker.host);
///     }
/// #   assert_eq!((status.wanted, status.started, status.busy, status.lost), (1, 1, 0, 0));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkersStatus {
    /// How many are wanted: those that were requested and have not ended, whether they have started yet or not. The pool
    /// requests workers as there are tasks for them, or [ahead](crate::ProcessPoolExecutor::prestart), up to its maximum.
    pub wanted: usize,
    /// How many of the wanted workers have started, and take tasks.
    pub started: usize,
    /// How many of the started workers have a task.
    pub busy: usize,
    /// How many started workers were lost so far: they ended, or were ended, for another reason than being no longer wanted.
    pub lost: u64,
    /// How many tasks wait for a worker.
    pub queued: usize,
    /// The workers that have said where they are, in the order of their starts.
    pub workers: Vec<WorkerStatus>,
}

/// One worker, as [`WorkersStatus`] lists it.
///
/// # Examples
///
/// ```standalone_crate
/// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater, WorkerStatus};
///
/// fn pid((): (), _: &Updater) -> TaskResult<u32> {
///     Ok(std::process::id())
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     TaskRegistry::new().register(pid).init();
///     let executor = ProcessPoolExecutor::new(1)?;
///     let pid = executor.submit(pid, ()).wait()?;
///     let workers: Vec<WorkerStatus> = executor.workers().workers;
///     assert!(workers.iter().any(|worker| worker.pid == pid));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// The number of a [launched](crate::Launcher) worker: what `{index}` stands for. 0 for others.
    pub index: usize,
    /// The machine that it runs on, or the Slurm node.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// The Slurm job that it belongs to.
    pub job: Option<String>,
    /// The step within that job.
    pub step: Option<String>,
    /// Whether it has a task.
    pub is_busy: bool,
}
