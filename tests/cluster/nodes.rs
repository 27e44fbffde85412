//! Nodes that die, or fall silent.

use std::fs;
use std::time::{Duration, Instant};

use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskErrorKind};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{double, eventually, on_slurm, processes, spin};

const HEARTBEAT: Duration = Duration::from_millis(300);

/// What a node consists of: its daemon, the managers of its steps, and their workers.
fn processes_of(node: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let has = |id: u32, what: &str, text: &str| {
        fs::read(format!("/proc/{id}/{what}")).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
    };
    let workers = processes().into_iter().filter(|&id| has(id, "environ", &format!("SLURMD_NODENAME={node}\0")));
    let mut found: Vec<u32> = workers.collect();
    let parents: Vec<u32> = found.iter().filter_map(|&id| parent_of(id)).collect();
    found.extend(parents.into_iter().filter(|&id| has(id, "comm", "slurmstepd")));
    found.extend(all.filter(|&id| has(id, "comm", "slurmd\n") && has(id, "cmdline", &format!("-N\0{node}\0"))));
    found
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn signal(processes: &[u32], signal: Signal) {
    for &process in processes {
        // It may have ended meanwhile.
        let _ = kill_process(Pid::from_raw(process as i32).unwrap(), signal);
    }
}

#[test]
fn a_node_that_falls_silent_costs_its_tasks_and_no_others() {
    on_slurm(|slurm| {
        let launcher = slurm.bulk().heartbeat(HEARTBEAT);
        let pool = ProcessPoolExecutor::builder().max_workers(2).launcher(launcher).build().unwrap();
        let tasks = [pool.submit(spin, ()), pool.submit(spin, ())];
        for task in &tasks {
            eventually("it spins", || task.progress().message.is_some());
        }
        let node = processes_of("n2");
        assert!(node.len() >= 3, "{node:?}");
        let start = Instant::now();
        signal(&node, Signal::STOP);
        let has_ended = |at: usize| tasks[at].progress().status.is_terminal();
        eventually("a task is lost", || has_ended(0) || has_ended(1));
        let elapsed = start.elapsed();
        assert!(!(has_ended(0) && has_ended(1)), "the other node is well");
        signal(&node, Signal::CONT);
        assert!(elapsed < 3 * HEARTBEAT + Duration::from_secs(1), "it takes {elapsed:?}");
        let (mut lost, mut well) = (0, 0);
        for task in tasks {
            if !task.progress().status.is_terminal() {
                well += 1;
                continue;
            }
            let error = task.wait().unwrap_err();
            assert!(matches!(error.kind(), TaskErrorKind::WorkerLost(_)), "{error:#}");
            assert!(format!("{error:#}").contains("on n2 (process "), "{error:#}");
            lost += 1;
        }
        assert_eq!((lost, well), (1, 1));
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8, "the pool goes on");
        drop(pool.shutdown_now());
    });
}
