//! Who works for a process pool, and where.

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
    /// How many are wanted: those that were asked for and have not ended, be they there yet or not. Workers are asked for as
    /// there are tasks for them, or [ahead](crate::ProcessPoolExecutor::prestart), up to the most that the pool may have.
    pub wanted: usize,
    /// How many of them are there, and take tasks.
    pub started: usize,
    /// How many of those have a task.
    pub busy: usize,
    /// How many were there and were lost, so far: they ended, or were ended, and not because they were no longer wanted.
    pub lost: u64,
    /// How many tasks wait for a worker.
    pub queued: usize,
    /// Those that have said where they are, in the order of their starts.
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
    /// Which of the workers it is, for one that was [launched](crate::Launcher): what `{index}` stands for.
    pub index: usize,
    /// The machine, or the node of Slurm, that it runs on.
    pub host: String,
    /// The number of its process there.
    pub pid: u32,
    /// The job of Slurm that it belongs to.
    pub job: Option<String>,
    /// The step within that job.
    pub step: Option<String>,
    /// Whether it has a task.
    pub is_busy: bool,
}
