//! Workers that read from a file where to connect: whatever starts them gives them nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use progress_executor::{ExecutorExt, Launcher, ProcessPoolExecutor};

use crate::support::{
    Gate, alone, children_called, count_forever, double, eventually, kill, nodes_of, on_slurm, parent_of, pool,
    processes, said_by, skip, spin, stay, variable,
};

/// Starts as many workers as its first argument says, all in one process group, as Slurm does on each node. It becomes the
/// last of them, and so leads the group.
const ONE_GROUP: &str = "n=$0; while [ $((n -= 1)) -gt 0 ]; do \"$@\" & done; exec \"$@\"";

fn key_file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("progress-executor-{name}-{}", std::process::id()))
}

/// The name of the file at the first launch.
fn first(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}-1", file.display()))
}

#[test]
fn a_worker_that_was_only_submitted_comes_and_its_file_goes() {
    alone(|| {
        let file = key_file("submitted");
        // The launcher ends at once, and its worker comes when there is another file.
        let go = file.with_extension("go");
        let script = "(while [ ! -e \"$0\" ]; do sleep 0.05; done; exec \"$@\") </dev/null >/dev/null 2>&1 &";
        let launcher = Launcher::bulk(["sh", "-c", script, go.to_str().unwrap()]).key_file(&file);
        let pool = pool(launcher, 1);
        let task = pool.submit(double, 4);
        eventually("there is the file", || first(&file).exists());
        assert_eq!(fs::metadata(first(&file)).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&go, "").unwrap();
        assert_eq!(task.wait().unwrap(), 8);
        assert!(!first(&file).exists(), "all have come");
        // The next worker comes from another launch, and has another key.
        let task = pool.submit(spin, ());
        eventually("it spins", || task.progress().message.is_some());
        kill(pool.workers().workers[0].pid);
        task.wait().unwrap_err();
        assert_eq!(pool.submit(double, 5).wait().unwrap(), 10);
        drop(pool);
        fs::remove_file(&go).unwrap();
    });
}

#[test]
fn the_file_goes_when_no_other_worker_is_expected_although_one_serves() {
    alone(|| {
        let file = key_file("one-of-two");
        let pool = pool(Launcher::bulk(["sh", "-c", "exec \"$@\"", "sh"]).key_file(&file), 2);
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
        assert!(first(&file).exists(), "the other one may still come");
        eventually("the other one is no longer wanted", || pool.workers().wanted == 1);
        eventually("the file is gone", || !first(&file).exists());
        assert_eq!(pool.workers().started, 1);
    });
}

#[test]
fn a_launcher_may_end_while_its_workers_serve() {
    alone(|| {
        let (file, gate) = (key_file("left"), Gate::new());
        let script = "\"$@\" & while [ -e \"$0\" ]; do sleep 0.05; done";
        let launcher = Launcher::bulk(["sh", "-c", script, gate.path().to_str().unwrap()]).key_file(&file);
        let pool = pool(launcher, 1);
        let task = pool.submit(count_forever, ());
        eventually("it counts", || task.progress().n > 0);
        gate.open();
        eventually("its launcher has ended", || children_called("sh").is_empty());
        let n = task.progress().n;
        // About a second, in which the worker could notice that.
        eventually("it counts on", || task.progress().n > n + 1000 || task.is_done());
        assert!(!task.is_done() && pool.workers().lost == 0);
    });
}

#[test]
fn a_file_of_another_pool_is_left_to_it() {
    alone(|| {
        let (file, gate) = (key_file("shared"), Gate::new());
        let script = "while [ -e \"$0\" ]; do sleep 0.05; done; exec \"$@\"";
        let launcher = Launcher::bulk(["sh", "-c", script, gate.path().to_str().unwrap()]).key_file(&file);
        let (one, other) = (pool(launcher.clone(), 4), pool(launcher, 4));
        let task = one.submit(double, 4);
        eventually("the file is complete, so that it is launched", || children_called("sh").len() == 1);
        let invitation = fs::read(self::first(&file)).unwrap();
        // The other pool's second launch has another name.
        let second = PathBuf::from(format!("{}-2", file.display()));
        let others = other.submit(double, 5);
        eventually("there is another file", || second.exists());
        assert!(fs::read(self::first(&file)).unwrap() == invitation);
        gate.open();
        assert_eq!((task.wait().unwrap(), others.wait().unwrap()), (8, 10));
    });
}

#[test]
fn a_worker_that_is_killed_ends_no_other_one_of_the_group_that_it_leads() {
    alone(|| {
        let gate = Gate::new();
        let launcher = Launcher::bulk(["sh", "-c", ONE_GROUP, "{count}"]).key_file(key_file("group"));
        let builder = ProcessPoolExecutor::builder().max_workers(3).launcher(launcher);
        let pool = builder.cancel_grace(Duration::from_millis(10)).build().unwrap();
        let tasks: Vec<_> = (0..3).map(|_| pool.submit(stay, gate.path())).collect();
        eventually("each has said where it runs", || tasks.iter().all(|task| task.progress().message.is_some()));
        let mut leaders = 0;
        let mut others = Vec::new();
        for task in tasks {
            let worker = task.progress().message.unwrap().parse().unwrap();
            if parent_of(worker) != Some(process::id()) {
                others.push((worker, task));
                continue;
            }
            leaders += 1;
            task.cancel();
            assert!(task.wait().unwrap_err().is_cancelled());
            eventually("it is gone", || !processes().contains(&worker));
        }
        gate.open();
        assert_eq!((leaders, others.len()), (1, 2));
        for (worker, task) in others {
            assert_eq!(task.wait().unwrap(), worker);
        }
    });
}

#[test]
fn there_is_a_launch_for_each_host_which_starts_the_workers_of_that_host() {
    alone(|| {
        let (file, launches) = (key_file("hosts"), key_file("hosts-launches"));
        let script =
            "echo \"$1 $2\" >> \"$0\"; n=$2; shift 2; while [ $((n -= 1)) -gt 0 ]; do \"$@\" & done; exec \"$@\"";
        let command = ["sh", "-c", script, launches.to_str().unwrap(), "{host}", "{count}"];
        let pool = pool(Launcher::bulk(command).key_file(&file).hosts(["anna", "berta", "carla"]), 5);
        nodes_of(&pool, 5);
        let text = fs::read_to_string(&launches).unwrap();
        fs::remove_file(&launches).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["anna 2", "berta 2", "carla 1"]);
    });
}

#[test]
fn a_worker_that_lacks_variables_gets_them_although_its_program_prints_before_it_begins() {
    alone(|| {
        let bare = || Launcher::bulk(["env", "-i"]);
        for launcher in [bare(), bare().key_file(key_file("bare"))] {
            let builder = ProcessPoolExecutor::builder().max_workers(1).launcher(launcher);
            let pool = builder.env("TEST_VARIABLE", "its value").build().unwrap();
            assert_eq!(pool.submit(variable, "TEST_VARIABLE".into()).wait().unwrap(), "its value");
        }
    });
}

#[test]
fn a_submission_that_fails_is_the_error_of_what_waits() {
    alone(|| {
        let launcher =
            Launcher::bulk(["sh", "-c", "echo no such queue >&2; exit 1", "sh"]).key_file(key_file("failed"));
        let error = pool(launcher, 1).submit(double, 4).wait().unwrap_err();
        assert!(format!("{error:#}").contains("no such queue"), "{error:#}");
        eventually("its file is gone", || !first(&key_file("failed")).exists());
    });
}

#[test]
fn a_job_array_works_for_its_program() {
    on_slurm(|_| {
        let file = key_file("array");
        let script = "exec sbatch -Q -o /dev/null --array=1-$0 --wrap \"$(printf '%q ' \"$@\")\"";
        let launcher = Launcher::bulk(["bash", "-c", script, "{count}"]).key_file(&file);
        let pool = pool(launcher, 3);
        let tasks: Vec<_> = (0..1_000).map(|n| pool.submit(double, n)).collect();
        assert!((0..1_000).zip(tasks).all(|(n, task)| task.wait().unwrap() == 2 * n));
        eventually("all have come", || pool.workers().started == 3);
        eventually("each has a job", || said_by("squeue", &["-h", "-t", "R"]).lines().count() == 3);
        eventually("each is a process", || processes().len() == 3);
        drop(pool);
    });
}

/// Runs in a network namespace of its own, in which the test is started again.
#[test]
fn hyperqueue_starts_workers_as_well() {
    let Some(python) = std::env::var_os("TEST_HYPERQUEUE") else {
        return skip("HyperQueue for Python", "start-hyperqueue");
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/submit_to_hyperqueue.py");
    if std::env::var_os("TEST_IN_NAMESPACE").is_none() {
        return alone(move || {
            let mut again = Command::new("unshare");
            again.args(["--net", "--"]).arg(&python).arg(script).arg(std::env::current_exe().unwrap());
            again.args(["files::hyperqueue_starts_workers_as_well", "--exact", "--nocapture"]);
            assert!(again.env("TEST_IN_NAMESPACE", "yes").status().unwrap().success());
        });
    }
    let file = key_file("hyperqueue");
    let launcher = Launcher::bulk([python.to_str().unwrap(), script, "{count}"]).key_file(&file);
    let pool = pool(launcher, 3);
    let tasks: Vec<_> = (0..1_000).map(|n| pool.submit(double, n)).collect();
    assert!((0..1_000).zip(tasks).all(|(n, task)| task.wait().unwrap() == 2 * n));
    eventually("all have come", || pool.workers().started == 3);
    let task = pool.submit(spin, ());
    eventually("it spins", || task.progress().message.is_some());
    kill(pool.workers().workers.iter().find(|worker| worker.is_busy).unwrap().pid);
    task.wait().unwrap_err();
    assert_eq!(pool.submit(double, 5).wait().unwrap(), 10);
    pool.shutdown().wait();
}
