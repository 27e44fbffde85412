//! Workers with a launcher each, which speak through its standard input and output.

use std::time::Duration;

use progress_executor::{ExecutorExt, Launcher, ProcessPoolExecutor, Status, TaskErrorKind, WorkerExit};

use crate::support::{
    Gate, abort, assert_lost_and_told, children_called, count_forever, double, echo_bytes, eventually, exit, kill,
    nodes_of, on_slurm, over_ssh, pool, said_by, spin,
};

fn all_bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n ^ n >> 8) as u8).collect()
}

#[test]
fn single_workers_on_both_nodes_do_what_local_ones_do() {
    on_slurm(|slurm| {
        let pool = pool(slurm.single_on_each_node(), 4);
        let tasks: Vec<_> = (0..10_000).map(|n| pool.submit(double, n)).collect();
        let values: Vec<u64> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
        assert_eq!(values, (0..10_000).map(|n| 2 * n).collect::<Vec<_>>());
        assert!(nodes_of(&pool, 4).iter().eq(["n1", "n2"]));
        let task = pool.submit(count_forever, ());
        eventually("it counts", || task.progress().n > 3);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        pool.shutdown().wait();
        assert_eq!(said_by("squeue", &["-h", "-t", "R,PD"]), "", "the jobs have ended once the pool has");
    });
}

#[test]
fn every_byte_passes_through_srun_whether_it_buffers_or_not() {
    on_slurm(|slurm| {
        for launcher in [slurm.single(), Launcher::command(["srun", "--unbuffered", "--exact", "-n1", "-Q"])] {
            let pool = pool(launcher, 1);
            for bytes in [all_bytes(256), all_bytes(70 * 1024), all_bytes(64 << 20)] {
                assert!(pool.submit(echo_bytes, bytes.clone()).wait().unwrap() == bytes);
            }
        }
    });
}

#[test]
fn workers_over_ssh_do_what_local_ones_do() {
    over_ssh(|launcher| {
        let pool = pool(launcher, 3);
        let tasks: Vec<_> = (0..2_000).map(|n| pool.submit(double, n)).collect();
        let values: Vec<u64> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
        assert_eq!(values, (0..2_000).map(|n| 2 * n).collect::<Vec<_>>());
        let bytes = all_bytes(16 << 20);
        assert!(pool.submit(echo_bytes, bytes.clone()).wait().unwrap() == bytes);
        let task = pool.submit(spin, ());
        eventually("it spins", || task.progress().message.is_some());
        kill(pool.workers().workers.iter().find(|worker| worker.is_busy).unwrap().pid);
        let error = task.wait().unwrap_err();
        assert!(matches!(error.kind(), TaskErrorKind::WorkerLost(_)), "{error:#}");
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
    });
}

#[test]
fn a_worker_that_ends_costs_its_task_whose_error_says_how_and_where() {
    on_slurm(|slurm| {
        let pool = pool(slurm.single(), 1);
        let check = |error: progress_executor::TaskError, expected: WorkerExit| {
            let text = format!("{error:#}");
            assert_eq!(*error.kind(), TaskErrorKind::WorkerLost(expected), "{text}");
            let is_placed = ["n1", "n2"].iter().any(|node| text.contains(&format!("on {node} (process ")));
            assert!(is_placed && text.contains("step 0"), "{text}");
            assert_eq!(error.progress().n, 3, "{text}");
        };
        let (first, second) = (Gate::new(), Gate::new());
        check(first.end_of(pool.submit(abort, first.path())), WorkerExit::Signal(6));
        check(second.end_of(pool.submit(exit, (3, second.path()))), WorkerExit::Code(3));
        let task = pool.submit(spin, ());
        eventually("it spins", || task.progress().message.is_some());
        kill(pool.workers().workers[0].pid);
        check(task.wait().unwrap_err(), WorkerExit::Signal(9));
    });
}

#[test]
fn a_launcher_that_is_killed_costs_its_tasks_and_leaves_no_job() {
    on_slurm(|slurm| {
        for launcher in [slurm.single(), slurm.bulk()] {
            let pool = pool(launcher, 1);
            let task = pool.submit(spin, ());
            eventually("it spins", || task.progress().message.is_some());
            let launchers = children_called("srun");
            assert_eq!(launchers.len(), 1);
            kill(launchers[0]);
            assert_lost_and_told(&task.wait().unwrap_err());
            assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
            // Only the launcher of the next worker is left.
            pool.shutdown().wait();
            assert!(children_called("srun").is_empty());
        }
    });
}

#[test]
fn a_job_that_is_cancelled_costs_its_task_and_is_replaced() {
    on_slurm(|slurm| {
        let pool = pool(slurm.single(), 1);
        for (signal, of) in [("--full", ""), ("--signal=KILL", ""), ("--quiet", ".0")] {
            let task = pool.submit(spin, ());
            eventually("it spins", || task.progress().message.is_some());
            let job = pool.workers().workers[0].job.clone().unwrap();
            said_by("scancel", &[signal, &format!("{job}{of}")]);
            let error = task.wait().unwrap_err();
            assert!(matches!(error.kind(), TaskErrorKind::WorkerLost(_)), "{error:#}");
            assert!(format!("{error:#}").contains(&format!("job {job}")), "{error:#}");
            assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
        }
    });
}

#[test]
fn a_task_that_does_not_listen_is_ended_after_the_grace() {
    on_slurm(|slurm| {
        for launcher in [slurm.single(), slurm.bulk()] {
            let builder = ProcessPoolExecutor::builder().max_workers(1).launcher(launcher);
            let pool = builder.cancel_grace(Duration::from_millis(200)).build().unwrap();
            let task = pool.submit(spin, ());
            eventually("it spins", || task.progress().message.is_some());
            task.cancel();
            let error = task.wait().unwrap_err();
            assert!(error.is_cancelled(), "{error:#}");
        }
    });
}

#[test]
fn what_never_starts_can_be_cancelled_and_dropped() {
    on_slurm(|_| {
        let pool = pool(Launcher::command(["srun", "--begin=now+1hour", "-n1", "-Q"]), 3);
        let tasks: Vec<_> = (0..3).map(|_| pool.submit(double, 1)).collect();
        eventually("they wait in the queue", || said_by("squeue", &["-h", "-t", "PD"]).lines().count() == 3);
        assert!(tasks.iter().all(|task| task.progress().status == Status::Pending));
        drop(tasks);
        drop(pool);
    });
}
