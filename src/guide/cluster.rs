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
//! ends processes, and knows nothing of tasks; the pool gives tasks to them, shows their progress, cancels them, and
//! says what became of each. Nothing else stands in between: no server, no database, no directory that has to be
//! polled.
//!
//! With [`Launcher::from_env`] that line needs no change either: the program runs on this machine, or where
//! `PROGRESS_EXECUTOR_LAUNCHER` says.
//!
//! ```sh
//! cargo run --release --example full_example -- --launcher "srun --exact -n1 -Q"
//! PROGRESS_EXECUTOR_LAUNCHER="srun --exact -n1 -Q" cargo run --release --example full_example
//! ```
//!
//! Tasks do not see shared memory or statics of the program in any case, and need no change. What they take for granted
//! about files does: see [below](#what-has-to-be-there-on-the-other-side).
//!
//! # Inside of an allocation: `salloc` and `sbatch`
//!
//! ```sh
//! salloc -N4 -n64 ./walks                               # interactive: bars, Ctrl-C
//! sbatch -N4 -n64 --no-requeue --wrap ./walks           # or in a batch job
//! ```
//!
//! with `srun --exact -n1 -Q` as the launcher: each worker is a step with one processor, on whatever node has one that is
//! free. `--exact` keeps a step from taking a whole node, and `-Q` keeps srun quiet while it waits. `-c4` gives a worker
//! four processors. `salloc --no-kill` keeps a node that fails from taking the others with it, and `sbatch --no-requeue`
//! keeps Slurm from running the whole program a second time.
//!
//! Where there are more workers than processors that were allocated, the others wait in the queue of srun, and start when
//! some end. [`max_workers`](crate::ProcessPoolBuilder::max_workers) says how many there are at most.
//!
//! Without an allocation, on a login node, the same launcher makes a job of each worker. They come when Slurm has room
//! for them. The pool works with those that have come, says once that it waits, and
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
//! To drop the pool, to press Ctrl-C or to kill the program revokes what is still queued.
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
//! Twelve workers make four on each. `BatchMode` keeps ssh from asking for a password, which nobody would see. A host
//! that cannot be reached is tried after the others; what ssh said of it is in the error where no host is left.
//!
//! With many workers to a host, `-oControlMaster=auto -oControlPath=~/.ssh/%C -oControlPersist=60` lets them share a
//! connection. (`MaxSessions` of the server, 10 unless set, is how many may.)
//!
//! # A job array
//!
//! The elements of an array are programs of their own, and know nothing of one another. Each takes its share of the
//! inputs, and has local workers for that:
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
//! Take an array where shares are independent and may start days apart, and one program with a launcher where somebody
//! watches the whole, where tasks take unequal times, or where one failure is to cancel the rest.
//!
//! # HyperQueue
//!
//! [HyperQueue](https://it4innovations.github.io/hyperqueue) keeps allocations alive and fills them with small jobs. It
//! connects no standard input to what it runs, so that workers have to connect to the program, with the feature `cluster`:
//!
//! ```ignore
//! let launcher = Launcher::bulk(["hq", "submit", "--array=1-{count}", "--"])
//!     .key_file("/home/me/walks/key") // where workers look for the address and the key
//!     .listen(["10.0.0.5"]);
//! ```
//!
//! Or submit the program itself as one of its jobs, `hq submit --cpus=16 ./walks`, with a local pool of as many workers.
//!
//! # Containers and Kubernetes
//!
//! What passes standard input and output on is a launcher:
//!
//! ```
//! use progress_executor::Launcher;
//!
//! let docker = Launcher::command(["docker", "run", "--rm", "-i", "walks:1.2"]).program("/walks");
//! let pods = Launcher::command(["kubectl", "exec", "-i", "walks-{index}", "--"]).program("/walks");
//! # let _ = (docker, pods);
//! ```
//!
//! The second one uses pods that are there, for instance those of a `StatefulSet`, whose names end in numbers. *This
//! was not tried with a real Kubernetes.* `kubectl` passes no signal on: the worker ends because its input does.
//!
//! # What has to be there on the other side
//!
//! - *The program*, the same build. It is looked for at the same path unless [`Launcher::program`] says another one. A
//!   different build is an error that names both.
//! - *The current directory*. It is that of the program unless [`current_dir`](crate::ProcessPoolBuilder::current_dir)
//!   says another one; a directory that is not there is an error that says so.
//! - *Files* that tasks are given as paths. Inputs and outputs that are values travel with the task.
//! - *Libraries*. A program that needs `module load` to start needs it on the other side as well. srun forwards the
//!   environment, so that modules of the program are those of its workers. ssh does not, and the worker has to start
//!   before it can be told anything: let a shell load them, as below, or link the program so that it needs none.
//! - *Variables* come by themselves once the worker has started: those of the program that it lacks, and all of those
//!   that [`env`](crate::ProcessPoolBuilder::env) names.
//!
//! ```
//! use progress_executor::Launcher;
//!
//! // ssh joins its arguments: this is one line for the shell on the other side, and the worker's command is its end.
//! let launcher = Launcher::shell(["ssh", "-T", "{host}", "module load gcc/13 && exec"]).hosts(["anna"]);
//! # let _ = launcher;
//! ```
//!
//! Banners, prologs and what a `.bashrc` prints before the worker does no harm, up to 64 KiB.
//!
//! # Firewalls
//!
//! Nothing listens, and nothing connects: the channel is the launcher's standard input and output. Where `srun` or
//! `ssh` works by hand, so does a pool. (`Launcher::bulk`, behind the feature `cluster`, starts many workers by one
//! command; these connect to a port of the program. The [page on security](super::security) says who may.)
//!
//! # Time limits
//!
//! A job that comes to the end of its time is killed, and its tasks are lost, with an error that says so. A worker that
//! is to take no task that would not end in time is told its [`lifetime`](crate::Launcher::lifetime):
//!
//! ```
//! use progress_executor::Launcher;
//! use std::time::Duration;
//!
//! // Tasks take ten minutes at most; when the job ends is known from `SLURM_JOB_END_TIME`, and else after an hour.
//! let launcher = Launcher::command(["srun", "--time=60", "-n1", "-Q"])
//!     .lifetime(Duration::from_secs(3600), Duration::from_secs(600));
//! # let _ = launcher;
//! ```
//!
//! For a task that may be done twice, [`retries`](crate::TaskBuilder::retries) starts it again on another worker.
//!
//! # When something goes wrong
//!
//! | | what is seen | after |
//! |---|---|---|
//! | the launcher is missing, or refuses | what waits fails, with its last words | three attempts |
//! | another build, no such directory | what waits fails, with both builds, or the name | one or three attempts |
//! | a task crashes its worker | that task fails, with host, job, step, signal and progress | at once |
//! | the launcher is killed | its worker ends; that task fails | at once |
//! | a node is frozen, or cut off | the tasks on it fail | three [heartbeats](crate::Launcher::heartbeat) |
//! | a task does not listen when it is cancelled | it is cancelled, and its worker ends | the [grace](crate::ProcessPoolBuilder::cancel_grace), and a second |
//! | the program is killed | its workers end, and what is queued is revoked | a second |
//! | the program is stopped, as with Ctrl-Z | its workers end, if that lasts | three heartbeats |
//!
//! A task is never started a second time without being asked for: that is what retries are for.
#![cfg_attr(feature = "cluster", doc = include_str!("cluster_connections.md"))]
//!
//! [`Launcher`]: crate::Launcher
//! [`Launcher::from_env`]: crate::Launcher::from_env
//! [`Launcher::program`]: crate::Launcher::program
