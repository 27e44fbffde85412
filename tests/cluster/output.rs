//! What workers write to their standard output and error, and to which worker and task it is attributed.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use progress_executor::{ExecutorExt, Launcher, OutputLine, ProcessPoolExecutor, WorkerId, WorkerOutput};

use crate::support::{Gate, Slurm, alone, eventually, on_slurm, say};

fn heard(launcher: Launcher, workers: usize) -> (ProcessPoolExecutor, Receiver<OutputLine>) {
    let (send, lines) = mpsc::channel();
    let output = WorkerOutput::lines(move |line| _ = send.send(line.clone()));
    let builder = ProcessPoolExecutor::builder().max_workers(workers).launcher(launcher).output(output);
    (builder.build().unwrap(), lines)
}

/// The next line that a task has written; launchers may write as well.
fn next(lines: &Receiver<OutputLine>) -> OutputLine {
    loop {
        let line = lines.recv_timeout(Duration::from_secs(60)).expect("there is another line");
        if line.text.contains("said") {
            return line;
        }
    }
}

fn is(worker: &WorkerId, process: u32, node: &str) -> bool {
    matches!(worker, WorkerId::Process { id, host, .. } if *id == process && host.as_deref() == Some(node))
}

#[test]
fn lines_are_those_of_the_worker_that_has_written_them() {
    on_slurm(|slurm| {
        for launcher in [slurm.single_on_each_node(), slurm.bulk_with_labels()] {
            let (pool, lines) = heard(launcher, 2);
            let gate = Gate::new();
            let tasks: Vec<_> = (0..8).map(|n| pool.submit(say, (n, gate.path()))).collect();
            eventually("both have one", || pool.workers().busy == 2);
            gate.open();
            let places: Vec<(u32, String)> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
            assert!(["n1", "n2"].iter().all(|node| places.iter().any(|(_, place)| place == node)), "{places:?}");
            for _ in 0..2 * places.len() {
                let line = next(&lines);
                let number: usize = line.text.split(' ').next().unwrap().parse().expect("there is no label");
                let (process, node) = &places[number];
                assert!(is(&line.worker, *process, node), "{line:?} is of {process} on {node}");
            }
        }
    });
}

#[test]
fn any_label_will_do_that_a_launcher_puts_in_front_of_a_line() {
    alone(|| {
        let script = "\"$@\" 2>&1 >/dev/null | sed -u 's/^/[1,0]<stderr>:/' >&2";
        let (pool, lines) = heard(Launcher::bulk(["sh", "-c", script, "sh"]), 1);
        let (process, _) = pool.submit(say, (7, PathBuf::new())).wait().unwrap();
        let line = next(&lines);
        assert!(line.text.starts_with("7 was said"), "{line:?}");
        assert!(matches!(line.worker, WorkerId::Process { id, .. } if id == process), "{line:?}");
    });
}

/// Not a test, but a program whose standard error the tests read.
#[test]
fn program_whose_workers_write() {
    let Ok(kind) = std::env::var("TEST_OUTPUT") else { return };
    let (launcher, output) = match &*kind {
        "single" => (Slurm.single(), WorkerOutput::Inherit),
        "bulk with labels" => (Slurm.bulk_with_labels(), WorkerOutput::Inherit),
        "bulk" => (Slurm.bulk(), WorkerOutput::Inherit),
        _ => (Slurm.bulk(), WorkerOutput::Null),
    };
    let builder = ProcessPoolExecutor::builder().max_workers(1).launcher(launcher).output(output);
    let pool = builder.build().unwrap();
    let (_, node) = pool.submit(say, (7, PathBuf::new())).wait().unwrap();
    pool.shutdown().wait();
    println!("\nnode {node}");
}

#[test]
fn lines_on_standard_error_are_marked_with_where_they_come_from() {
    on_slurm(|_| {
        for kind in ["single", "bulk with labels", "bulk", "none"] {
            let program = Command::new(std::env::current_exe().unwrap())
                .args(["output::program_whose_workers_write", "--exact", "--nocapture"])
                .env("TEST_OUTPUT", kind)
                .output()
                .unwrap();
            assert!(program.status.success(), "{program:?}");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (said, stderr) = (text(&program.stdout), text(&program.stderr));
            let node = said.lines().find_map(|line| line.strip_prefix("node ")).expect("it says where it was");
            let mark = match kind {
                "bulk" => "[srun] ".to_owned(),
                _ => format!("[{node}/0] "),
            };
            for stream in ["output", "error"] {
                let line = format!("{mark}7 was said on standard {stream}");
                assert_eq!(stderr.lines().any(|other| other == line), kind != "none", "{kind}: {stderr}");
            }
            assert!(!stderr.contains("progress-executor worker"), "{kind}: {stderr}");
            assert_eq!(stderr.contains("7 was said"), kind != "none", "{kind}: {stderr}");
        }
    });
}
