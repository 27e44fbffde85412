//! Nodes that die, fall silent or come back, and parts of a node that die alone.

use std::process::Command;
use std::time::Duration;

use progress_executor::{ExecutorExt, Launcher, ProcessPoolExecutor, ProgressFuture, TaskError, TaskErrorKind};
use rustix::process::Signal;

use crate::support::{
    all_processes, assert_lost_and_told, count_forever, double, eventually, has, nodes_of, on_slurm, parent_of, pool,
    processes, signal, spin,
};

/// Short, for nodes that must be lost by it, but not too short for a busy machine.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// One of the two nodes. Dropping this restores it for the other tests.
pub(crate) struct Node(pub(crate) &'static str);

impl Node {
    fn workers(&self) -> Vec<u32> {
        let is_here = |&id: &u32| has(id, "environ", &format!("SLURMD_NODENAME={}\0", self.0));
        processes().into_iter().filter(is_here).collect()
    }

    /// The managers of the node's steps.
    fn managers(&self) -> Vec<u32> {
        let parents = self.workers().into_iter().filter_map(parent_of);
        parents.filter(|&id| has(id, "comm", "slurmstepd")).collect()
    }

    fn daemons(&self) -> Vec<u32> {
        let cluster = format!("SLURM_CONF={}\0", std::env::var("SLURM_CONF").unwrap());
        let is_its = |&id: &u32| {
            has(id, "comm", "slurmd\n")
                && has(id, "cmdline", &format!("-N\0{}\0", self.0))
                && has(id, "environ", &cluster)
        };
        all_processes().filter(is_its).collect()
    }

    pub(crate) fn all(&self) -> Vec<u32> {
        let all = [self.daemons(), self.managers(), self.workers()];
        assert!(all.iter().all(|found| !found.is_empty()), "{all:?}");
        all.concat()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let daemons = self.daemons();
        for &process in daemons.iter().chain(&self.managers()).chain(&self.workers()) {
            signal(process, Signal::CONT);
        }
        if daemons.is_empty() {
            let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
            let started = Command::new("slurmd").args(["-N", self.0]).env("PATH", path).status();
            assert!(started.unwrap().success(), "slurmd does not start again");
        }
    }
}

pub(crate) fn signal_all(processes: &[u32], which: Signal) {
    processes.iter().for_each(|&process| signal(process, which));
}

/// A worker on each node, both busy with `spin`.
fn on_both(launcher: Launcher) -> (ProcessPoolExecutor, Vec<ProgressFuture<()>>) {
    let pool = pool(launcher, 2);
    let tasks: Vec<_> = (0..2).map(|_| pool.submit(spin, ())).collect();
    for task in &tasks {
        eventually("it spins", || task.progress().message.is_some());
    }
    (pool, tasks)
}

/// Returns the error of the lost task, and the other task, which is well.
fn the_lost_one(tasks: Vec<ProgressFuture<()>>) -> (TaskError, ProgressFuture<()>) {
    eventually("a task is lost", || tasks.iter().any(|task| task.progress().status.is_terminal()));
    let (mut lost, mut well): (Vec<_>, Vec<_>) =
        tasks.into_iter().partition(|task| task.progress().status.is_terminal());
    assert_eq!((lost.len(), well.len()), (1, 1), "the other node is well");
    let error = lost.remove(0).wait().unwrap_err();
    assert!(matches!(error.kind(), TaskErrorKind::WorkerLost(_)), "{error:#}");
    assert!(format!("{error:#}").contains("on n2 (process "), "{error:#}");
    (error, well.remove(0))
}

#[test]
fn a_node_that_falls_silent_costs_its_tasks_and_no_others_and_is_used_again_when_it_is_back() {
    on_slurm(|slurm| {
        let (pool, tasks) = on_both(slurm.bulk().heartbeat(HEARTBEAT));
        let node = Node("n2");
        signal_all(&node.all(), Signal::STOP);
        let (error, well) = the_lost_one(tasks);
        assert!(format!("{error:#}").contains("nothing for 6s"), "{error:#}");
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8, "the pool goes on");
        assert!(!well.is_done());
        drop(node);
        drop(pool.shutdown_now());
        let back = Launcher::command(["srun", "-w", "n2", "--exact", "-n1", "-Q"]);
        assert!(nodes_of(&self::pool(back, 1), 1).iter().eq(["n2"]));
    });
}

#[test]
fn a_node_that_dies_costs_its_tasks_and_no_others() {
    on_slurm(|slurm| {
        let (pool, tasks) = on_both(slurm.bulk());
        let node = Node("n2");
        signal_all(&node.all(), Signal::KILL);
        let (error, well) = the_lost_one(tasks);
        assert_lost_and_told(&error);
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8, "the pool goes on");
        assert!(!well.is_done());
        drop(pool.shutdown_now());
    });
}

#[test]
fn a_slurmstepd_that_is_killed_costs_the_tasks_of_its_step() {
    on_slurm(|slurm| {
        for launcher in [slurm.bulk(), slurm.single_on_each_node()] {
            let (pool, tasks) = on_both(launcher.heartbeat(HEARTBEAT));
            signal_all(&Node("n2").managers(), Signal::KILL);
            // The program learns at once that a worker which has connected is gone; but srun waits on for one that
            // speaks through it.
            let (_, well) = the_lost_one(tasks);
            assert_eq!(pool.submit(double, 4).wait().unwrap(), 8, "the pool goes on");
            assert!(!well.is_done());
        }
    });
}

#[test]
fn a_slurmd_that_is_killed_costs_nothing() {
    on_slurm(|slurm| {
        for launcher in [slurm.bulk(), slurm.single_on_each_node()] {
            let pool = pool(launcher.heartbeat(HEARTBEAT), 2);
            let tasks = [pool.submit(count_forever, ()), pool.submit(count_forever, ())];
            let count = |task: &ProgressFuture<()>| task.progress().n;
            tasks.iter().for_each(|task| eventually("it counts", || count(task) > 3));
            let node = Node("n2");
            signal_all(&node.daemons(), Signal::KILL);
            eventually("it is gone", || node.daemons().is_empty());
            // Longer than a silent worker is waited for.
            std::thread::sleep(4 * HEARTBEAT);
            let before = tasks.each_ref().map(count);
            for (task, before) in tasks.iter().zip(before) {
                eventually("it counts on", || count(task) > before);
            }
            for task in tasks {
                task.cancel();
                assert!(task.wait().unwrap_err().is_cancelled());
            }
            assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
            assert_eq!(pool.workers().lost, 0);
            // Slurm considers a step over only when the node says so.
            drop(node);
        }
    });
}
