//! From threads to a cluster in one line.
//!
//! The tasks stay as they are. What changes is the line that makes the executor:
//!
//! ```no_run
//! use progress_executor::{ExecutorExt, Launcher, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
//!
//! fn walk(n: u64, progress: &Updater) -> TaskResult<u64> {
//!     let mut sum = 0;
//!     for step in progress.iter(0..n) {
//!         sum += step?;
//!     }
//!     Ok(sum)
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     TaskRegistry::new().register(walk).init();
//!     // let executor = progress_executor::ThreadPoolExecutor::new(64);
//!     // let executor = ProcessPoolExecutor::new(64)?;
//!     let launcher = Launcher::command(["srun", "--exact", "-n1", "-Q"]);
//!     let executor = ProcessPoolExecutor::builder().max_workers(64).launcher(launcher).build()?;
//!     let tasks: Vec<_> = (0..1000).map(|n| executor.submit(walk, n)).collect();
//!     for task in tasks {
//!         println!("{}", task.wait()?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A [`Launcher`] is a command that is put in front of the worker's own. An engine such as Slurm places, limits and
//! ends processes, and knows nothing about tasks. The pool gives tasks to these processes, shows their progress, cancels
//! them, and reports how each one ended. There is nothing in between: no server, no database, no directory to poll.
//!
//! With [`Launcher::from_env`], not even that line needs to change: the program runs on this machine, or wherever
//! `PROGRESS_EXECUTOR_LAUNCHER` says.
//!
//! ```sh
//! cargo run --release --example full_example -- --launcher "srun --exact -n1 -Q"
//! PROGRESS_EXECUTOR_LAUNCHER="srun --exact -n1 -Q" cargo run --release --example full_example
//! ```
//!
//! Tasks in worker processes never see the memory or the statics of the program, so they need no change. What they assume
//! about files may: see [below](#what-has-to-be-there-on-the-other-side).
//!
//! # Inside an allocation: `salloc` and `sbatch`
//!
//! ```sh
//! salloc -N4 -n64 ./walks                               # interactive: bars, Ctrl-C
//! sbatch -N4 -n64 --no-requeue --wrap ./walks           # or in a batch job
//! ```
//!
//! with `srun --exact -N1 -n1 -Q` as the launcher. Each worker is a step with one processor, on whichever node has a free one.
//! `--exact` keeps a step from taking a whole node, `-N1` tells srun that one node is enough (otherwise it warns about each
//! worker), and `-Q` keeps it quiet while it waits. `-c4` gives a worker four processors. `salloc --no-kill` keeps a failing
//! node from taking the others with it, and `sbatch --no-requeue` keeps Slurm from running the whole program a second time.
//!
//! If there are more workers than allocated processors, the surplus waits in the queue of srun until others end.
//! [`max_workers`](crate::ProcessPoolBuilder::max_workers) sets the limit.
//!
//! Without an allocation, on a login node, the same launcher submits a job for each worker, which starts when Slurm has
//! room for it. The pool works with those that have started, says once that it is waiting, and
//! [`workers`](crate::ProcessPoolExecutor::workers) tells how many there are:
//!
//! ```no_run
//! # let executor = progress_executor::ProcessPoolExecutor::new(2)?;
//! let status = executor.workers();
//! println!("{} of {} workers have started, {} are busy", status.started, status.wanted, status.busy);
//! for worker in &status.workers {
//!     println!("{} in job {:?}, step {:?}", worker.host, worker.job, worker.step);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`shutdown_now`](crate::ProcessPoolExecutor::shutdown_now), pressing Ctrl-C or killing the program revokes whatever is still
//! queued; so does dropping the pool, once no task waits.
//!
//! # Machines with `ssh`
//!
//! ```
//! use progress_executor::Launcher;
//!
//! let launcher = Launcher::shell(["ssh", "-oBatchMode=yes", "-T", "{host}"])
//!     .hosts(["anna", "berta", "carla"])
//!     .program("/opt/walks/walks");
//! # let _ = launcher;
//! ```
//!
//! With twelve workers, each host has four. `BatchMode` keeps ssh from asking for a password at a prompt that nobody would see.
//! A host that cannot be reached is tried again after the others. If no host is left, the error quotes what ssh said.
//!
//! With many workers per host, `-oControlMaster=auto -oControlPath=~/.ssh/%C -oControlPersist=60` lets them share a
//! connection, as many as the server's `MaxSessions` allows (10 unless set).
//!
//! # A job array
//!
//! The elements of an array are separate programs that know nothing of each other. Each takes its share of the inputs and
//! has local workers for it:
//!
//! ```no_run
//! # let inputs: Vec<u64> = Vec::new();
//! let share: usize = std::env::var("SLURM_ARRAY_TASK_ID")?.parse()?;
//! let shares: usize = std::env::var("SLURM_ARRAY_TASK_COUNT")?.parse()?;
//! let mine = inputs.into_iter().skip(share).step_by(shares);
//! # drop(mine);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Use an array if the shares are independent and may start days apart. Use one program with a launcher if the work should be
//! watched as a whole, if tasks take different times, or if one failure should cancel the rest.
//!
//! # HyperQueue
//!
//! [HyperQueue](https://it4innovations.github.io/hyperqueue) keeps allocations alive and fills them with small jobs. Its
//! jobs have no standard input, so workers have to connect to the program, which needs the feature `cluster`:
//!
//! ```ignore
//! let launcher = Launcher::bulk(["hq", "submit", "--array=1-{count}", "--"])
//!     .key_file("/home/me/walks/key") // where workers look for the address and the key
//!     .listen(["10.0.0.5"])
//!     .start_timeout(Duration::from_secs(12 * 3600)); // longer than they are ever queued
//! ```
//!
//! Or submit the program itself as a job, `hq submit --cpus=16 ./walks`, with a local pool of as many workers.
//!
//! # Containers and Kubernetes
//!
//! Any command that forwards standard input and output is a launcher:
//!
//! ```
//! use progress_executor::Launcher;
//!
//! let docker = Launcher::command(["docker", "run", "--rm", "-i", "walks:1.2"]).program("/walks");
//! let pods = Launcher::command(["kubectl", "exec", "-i", "walks-{index}", "--"]).program("/walks");
//! # let _ = (docker, pods);
//! ```
//!
//! The second one uses existing pods, for instance those of a `StatefulSet`, whose names end in numbers. *This has not been
//! tried with a real Kubernetes.* `kubectl` forwards no signals: the worker ends because its input does.
//!
//! # What has to be there on the other side
//!
//! - *The program*, the same build. It is expected at the same path unless [`Launcher::program`] gives another one. A
//!   different build is an error that names both.
//! - *The current directory*. It is that of the program unless [`current_dir`](crate::ProcessPoolBuilder::current_dir)
//!   gives another one; a missing directory is an error that says so.
//! - *Files* whose paths are inputs of tasks. Inputs and outputs that are values travel with the task.
//! - *Libraries*. A program that needs `module load` to start needs it on the other side as well. srun forwards the
//!   environment, so workers have the modules of the program. ssh does not, and a worker has to start before it can be
//!   told anything: let a shell load them, as below, or link the program so that it needs none.
//! - *Variables* are passed on once the worker has started: those of the program that the worker lacks, and all that
//!   [`env`](crate::ProcessPoolBuilder::env) names; but not `SLURMD_NODENAME` and `SLURM_STEP_ID`, which say where the program
//!   is.
//!
//! ```
//! use progress_executor::Launcher;
//!
//! // ssh joins its arguments: this is one line for the shell on the other side, and the worker's command is its end.
//! let launcher = Launcher::shell(["ssh", "-T", "{host}", "module load gcc/13 && exec"]).hosts(["anna"]);
//! # let _ = launcher;
//! ```
//!
//! Banners, prologs and the output of a `.bashrc` do no harm before the worker starts, up to 64 KiB.
//!
//! # Firewalls
//!
//! Nothing listens and nothing connects: the channel is the launcher's standard input and output. Wherever `srun` or
//! `ssh` works by hand, a pool works too. (`Launcher::bulk`, behind the feature `cluster`, starts many workers with one
//! command, and these do connect to a port of the program. The [page on security](super::security) says who may.)
//!
//! # Time limits
//!
//! The program asks a worker whether its task makes progress calls, so a [stall timeout](crate::TaskBuilder::stall_timeout) must be
//! longer than a question takes to get there and back.
//!
//! When the time of a job is up it is killed and its tasks are lost, with an error that says so. To keep a worker from
//! taking tasks that would not end in time, tell it its [`lifetime`](crate::Launcher::lifetime):
//!
//! ```
//! use progress_executor::Launcher;
//! use std::time::Duration;
//!
//! // Tasks take ten minutes at most. `SLURM_JOB_END_TIME` says when the job ends; without it, that is in an hour.
//! let launcher = Launcher::command(["srun", "--time=60", "-n1", "-Q"])
//!     .lifetime(Duration::from_secs(3600), Duration::from_secs(600));
//! # let _ = launcher;
//! ```
//!
//! If a task may be run twice, [`retries`](crate::TaskBuilder::retries) starts it again on another worker.
//!
//! # When something goes wrong
//!
//! | what happens | what is seen | after |
//! |---|---|---|
//! | the launcher is missing, or refuses | waiting tasks fail, quoting what it said last | three attempts |
//! | another build, no such directory | waiting tasks fail, naming both builds, or the directory | one or three attempts |
//! | a worker waits in a queue | the pool works with the others, and says once how many there are | 3 s |
//! | a task crashes its worker | that task fails, with host, job, step, signal and progress | at once |
//! | the launcher is killed | its worker ends; that task fails | at once |
//! | a node is frozen, or cut off | the tasks on it fail | three [heartbeats](crate::Launcher::heartbeat) |
//! | a task does not listen when it is cancelled | it is cancelled, and its worker ends | the [grace](crate::ProcessPoolBuilder::cancel_grace), and a second |
//! | the program is killed | its workers end, and queued ones are revoked | a second |
//! | the program is stopped, as by Ctrl-Z | its workers end, unless it continues in time | three heartbeats |
//!
//! A task is never started a second time unless [`retries`](crate::TaskBuilder::retries) ask for it.
#![cfg_attr(feature = "cluster", doc = include_str!("cluster_connections.md"))]
//!
//! [`Launcher`]: crate::Launcher
//! [`Launcher::from_env`]: crate::Launcher::from_env
//! [`Launcher::program`]: crate::Launcher::program
