//! Workers that end on their own, or that the engine ends.

use std::fs;

use progress_executor::{ExecutorExt, Launcher, ProcessPoolExecutor, TaskErrorKind, WorkerExit};

use crate::support::{
    Gate, allocate, assert_lost_and_told, count_forever, crash_five_times, double, eventually, on_slurm, pool, said_by,
    spin,
};

#[test]
fn a_job_that_comes_to_the_end_of_its_time_costs_its_task_whether_that_listens_or_not() {
    on_slurm(|_| {
        let pool = pool(Launcher::command(["srun", "--exact", "-n1", "-Q", "--time=1"]), 2);
        let tasks = [pool.submit(count_forever, ()), pool.submit(spin, ())];
        eventually("they have begun", || tasks.iter().all(|task| task.progress().n > 2));
        for worker in pool.workers().workers {
            // The shortest time limit is a minute, and Slurm checks it only twice a minute.
            said_by("scontrol", &["update", &format!("JobId={}", worker.job.unwrap()), "EndTime=now"]);
        }
        for task in tasks {
            // The error does not always say why: srun may end before it has heard of the time limit.
            assert_lost_and_told(&task.wait().unwrap_err());
        }
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8, "the next one has its own time");
    });
}

#[test]
fn a_worker_that_runs_out_of_memory_costs_its_task_whose_error_says_so() {
    on_slurm(|_| {
        // Slurm limits memory by control groups, if there are any; then the worker ends by signal 9.
        // A backtrace would be longer than what is kept.
        let script = "ulimit -v 2000000; RUST_BACKTRACE=0 exec \"$@\"";
        let pool = pool(Launcher::command(["srun", "--exact", "-n1", "-Q", "sh", "-c", script, "sh"]), 1);
        let gate = Gate::new();
        let error = gate.end_of(pool.submit(allocate, (4_000_000_000, gate.path())));
        let text = format!("{error:#}");
        assert_eq!(*error.kind(), TaskErrorKind::WorkerLost(WorkerExit::Signal(6)), "{text}");
        assert!(text.contains("memory allocation of 4000000000 bytes failed"), "{text}");
        assert_eq!(pool.submit(allocate, (1_000_000, gate.path())).wait().unwrap(), 1_000_000);
    });
}

#[test]
fn a_worker_that_dies_right_after_its_greeting_costs_no_task_before_it_has_done_so_three_times() {
    on_slurm(|slurm| {
        for launcher in [slurm.single(), slurm.bulk()] {
            let deaths = std::env::temp_dir().join(format!("progress-executor-deaths-{}", std::process::id()));
            fs::write(&deaths, "").unwrap();
            let count = || fs::read_to_string(&deaths).unwrap().lines().count();
            let builder = ProcessPoolExecutor::builder().max_workers(1).launcher(launcher);
            let pool = builder.initializer(crash_five_times, deaths.clone()).build().unwrap();
            let error = pool.submit(double, 4).wait().unwrap_err();
            let text = format!("{error:#}");
            assert!(matches!(error.kind(), TaskErrorKind::WorkerLost(_)), "{text}");
            assert!(text.contains("could not be started"), "{text}");
            assert_eq!(count(), 3, "{text}");
            assert_eq!(pool.submit(double, 4).wait().unwrap(), 8, "the sixth one lives");
            assert_eq!(count(), 5);
            fs::remove_file(deaths).unwrap();
        }
    });
}
