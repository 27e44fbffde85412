//! Workers that one command starts, and that connect to the program.

use std::fs;
use std::time::{Duration, Instant};

use progress_executor::{ExecutorExt, Launcher, Status, TaskErrorKind, WorkerExit};

use crate::support::{
    all_processes, alone, assert_lost_and_told, children_called, count_forever, double, echo, echo_bytes, eventually,
    fail, has, is_listening, kill, leave_behind, nodes_of, on_slurm, parent_of, pool, said_by, spin,
};

#[test]
fn workers_on_both_nodes_do_what_local_ones_do() {
    on_slurm(|slurm| {
        let pool = pool(slurm.bulk(), 4);
        let tasks: Vec<_> = (0..10_000).map(|n| pool.submit(double, n)).collect();
        let values: Vec<u64> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
        assert_eq!(values, (0..10_000).map(|n| 2 * n).collect::<Vec<_>>());
        assert!(nodes_of(&pool, 4).iter().eq(["n1", "n2"]));
        assert_eq!(pool.submit(echo, "ß\n".repeat(100_000)).wait().unwrap(), "ß\n".repeat(100_000));
        let bytes: Vec<u8> = (0..32 << 20).map(|n| (n ^ n >> 8) as u8).collect();
        assert!(pool.submit(echo_bytes, bytes.clone()).wait().unwrap() == bytes);
        let error = pool.submit(fail, ()).wait().unwrap_err();
        assert_eq!(*error.kind(), TaskErrorKind::Failed);
        let task = pool.submit(count_forever, ());
        eventually("it counts", || task.progress().n > 3);
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        let status = pool.workers();
        assert_eq!((status.started, status.lost, status.workers.len()), (4, 0, 4), "{status:?}");
        assert!(status.workers.iter().all(|worker| worker.job.is_some() && worker.step.is_some()), "{status:?}");
        pool.shutdown().wait();
        assert_eq!(said_by("squeue", &["-h", "-t", "R,PD"]), "", "the job has ended once the pool has");
    });
}

#[test]
fn a_worker_that_is_killed_costs_its_task_and_is_replaced() {
    on_slurm(|slurm| {
        let pool = pool(slurm.bulk(), 3);
        let tasks: Vec<_> = (0..3).map(|_| pool.submit(spin, ())).collect();
        for task in &tasks {
            eventually("it spins", || task.progress().message.is_some());
        }
        let status = pool.workers();
        kill(status.workers[0].pid);
        let lost = || tasks.iter().filter(|task| task.progress().status == Status::Failed).count();
        eventually("its task has failed", || lost() > 0);
        assert_eq!(lost(), 1);
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
        let status = pool.workers();
        assert_eq!((status.started, status.lost), (3, 1), "{status:?}");
        for task in tasks {
            task.cancel();
            let error = task.wait().unwrap_err();
            if let TaskErrorKind::WorkerLost(exit) = error.kind() {
                assert_lost_and_told(&error);
                let text = format!("{error:#}");
                assert!(text.contains("on n1 (process ") || text.contains("on n2 (process "), "{text}");
                assert_eq!(*exit, WorkerExit::Unknown, "{text}");
            }
        }
    });
}

#[test]
fn a_worker_that_takes_its_program_for_gone_is_lost_and_its_task_was_not_cancelled() {
    alone(|| {
        // The process that forwards the launcher's standard input ends, while the program and the connection are well.
        let pool = pool(Launcher::bulk(["sh", "-c", "cat | \"$@\"", "sh"]), 1);
        let task = pool.submit(count_forever, ());
        eventually("it counts", || task.progress().n > 3);
        let launcher = children_called("sh")[0];
        let is_cat = |&id: &u32| parent_of(id) == Some(launcher) && has(id, "cmdline", "cat\0");
        kill(all_processes().find(is_cat).unwrap());
        let error = task.wait().unwrap_err();
        assert!(matches!(error.kind(), TaskErrorKind::WorkerLost(_)), "{error:#}");
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
    });
}

#[test]
fn a_launcher_that_passes_on_only_the_first_line_is_told_what_is_missing() {
    alone(|| {
        let pool = pool(Launcher::bulk(["sh", "-c", "head -n 1 | \"$@\"", "sh"]), 1);
        let text = format!("{:#}", pool.submit(double, 1).wait().unwrap_err());
        assert!(text.contains("standard input does not tell the directory"), "{text}");
    });
}

#[test]
fn what_the_launcher_has_said_is_in_the_error_of_a_lost_task() {
    alone(|| {
        // The launcher becomes the only worker, so it has said everything by then; when srun says something depends on
        // how busy the machine is.
        let script = "echo this machine is about to be switched off >&2; exec \"$@\"";
        let pool = pool(Launcher::bulk(["sh", "-c", script, "sh"]), 1);
        let task = pool.submit(spin, ());
        eventually("it spins", || task.progress().message.is_some());
        kill(pool.workers().workers[0].pid);
        let text = format!("{:#}", task.wait().unwrap_err());
        assert!(text.contains("last output: this machine is about to be switched off"), "{text}");
    });
}

#[test]
fn a_pool_that_waits_in_a_queue_says_so_and_leaves_nothing_there() {
    on_slurm(|slurm| {
        let pool = pool(slurm.bulk_that_waits(), 2);
        let task = pool.submit(double, 1);
        eventually("it waits in the queue", || said_by("squeue", &["-h", "-t", "PD"]).lines().count() == 1);
        let status = pool.workers();
        assert_eq!((status.wanted, status.started, status.queued), (2, 0, 1), "{status:?}");
        assert!(is_listening(), "workers may come");
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        drop(pool);
    });
}

#[test]
fn a_launch_that_fails_is_the_error_of_what_waits_and_quotes_the_launcher() {
    on_slurm(|slurm| {
        let launcher = Launcher::bulk(["srun", "--partition=none", "-n{count}"]);
        let error = pool(launcher, 2).submit(double, 1).wait().unwrap_err();
        assert!(format!("{error:#}").contains("invalid partition specified: none"), "{error:#}");
        let too_much = Launcher::bulk(["srun", "--mem=10000000", "-n{count}"]);
        let error = pool(too_much, 2).submit(double, 1).wait().unwrap_err();
        assert!(format!("{error:#}").contains("Requested node configuration is not available"), "{error:#}");
        let missing = slurm.bulk().program("/nowhere/program");
        let error = pool(missing, 2).submit(double, 1).wait().unwrap_err();
        assert!(format!("{error:#}").contains("/nowhere/program"), "{error:#}");
        // The same program, except for the build id that its linker has given it.
        let other = std::env::temp_dir().join(format!("another-build-{}", std::process::id()));
        let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        let note = b"\x14\0\0\0\x03\0\0\0GNU\0";
        let at = bytes.windows(note.len()).position(|window| window == note).unwrap() + note.len();
        bytes[at] ^= 1;
        fs::write(&other, bytes).unwrap();
        fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let result = pool(slurm.bulk().program(&other), 2).submit(double, 1).wait();
        fs::remove_file(&other).unwrap();
        let text = format!("{:#}", result.unwrap_err());
        assert!(text.contains("another build") && text.contains(other.to_str().unwrap()), "{text}");
    });
}

#[test]
fn a_worker_that_gives_up_before_it_has_connected_is_replaced_while_the_others_serve() {
    on_slurm(|_| {
        // `SLURM_PROCID` is 0 for the workers of later launches.
        let script = "test \"$SLURM_PROCID\" = 0 && exec \"$@\"";
        let srun = ["srun", "-n{count}", "--overcommit", "-K0", "-Q", "sh", "-c", script, "sh"];
        let pool = pool(Launcher::bulk(srun), 2);
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8, "the other one serves");
        assert_eq!((pool.workers().wanted, pool.workers().started), (2, 1));
        nodes_of(&pool, 2);
    });
}

#[test]
fn a_launcher_that_keeps_its_standard_input_to_itself_is_an_error_that_says_what_to_do() {
    alone(|| {
        let launcher = Launcher::bulk(["sh", "-c", "exec \"$@\" </dev/null", "sh"]);
        let error = format!("{:#}", pool(launcher, 1).submit(double, 1).wait().unwrap_err());
        assert!(error.contains("use `Launcher::key_file`"), "{error}");
    });
}

#[test]
fn an_invitation_that_is_no_text_is_an_error_that_says_what_to_do() {
    alone(|| {
        let launcher = Launcher::bulk(["sh", "-c", "printf '\\377\\n' | \"$@\"", "sh"]);
        let error = format!("{:#}", pool(launcher, 1).submit(double, 1).wait().unwrap_err());
        assert!(error.contains("use `Launcher::key_file`"), "{error}");
    });
}

#[test]
fn workers_that_do_not_come_in_time_are_an_error_that_quotes_their_launcher() {
    alone(|| {
        let launcher = Launcher::bulk(["sh", "-c", "echo queued >&2; sleep 100"]);
        let launcher = launcher.start_timeout(Duration::from_millis(500));
        let error = format!("{:#}", pool(launcher, 2).submit(double, 1).wait().unwrap_err());
        assert!(error.contains("within the `start_timeout`: its launcher is `sh -c"), "{error}");
        assert!(error.contains("last output: queued") && !error.contains("ended"), "{error}");
    });
}

#[test]
fn what_a_launcher_has_started_is_gone_with_it() {
    alone(|| {
        // Longer than any test takes, and unique to this one.
        let seconds = format!("9{}", std::process::id());
        let sleepers = || all_processes().filter(|&id| has(id, "cmdline", &format!("sleep\0{seconds}\0"))).count();
        let pool = pool(Launcher::bulk(["sh", "-c", &format!("sleep {seconds}; true")]), 2);
        let task = pool.submit(double, 1);
        eventually("it waits", || sleepers() == 1);
        drop((task, pool));
        eventually("nothing is left", || sleepers() == 0);
    });
}

#[test]
fn nobody_waits_for_what_a_launcher_has_left_where_there_is_nothing() {
    alone(|| {
        let waiting = ["sh", "-c", "exec sleep 1000"];
        for launcher in [Launcher::command(waiting), Launcher::bulk(waiting)] {
            // A launcher that has left something gets 2 s. The shortest time counts, because this machine may be busy.
            let durations = (0..10).map(|_| {
                let pool = pool(launcher.clone(), 1);
                let task = pool.submit(double, 1);
                eventually("its launcher waits", || children_called("sleep").len() == 1);
                let start = Instant::now();
                pool.shutdown_now().wait();
                assert!(task.wait().unwrap_err().is_cancelled());
                start.elapsed()
            });
            assert!(durations.min() < Some(Duration::from_millis(500)), "{launcher:?}");
        }
    });
}

#[test]
fn who_is_left_behind_by_a_task_holds_up_nobody() {
    alone(|| {
        for launcher in [Launcher::command(["env"]), Launcher::bulk(["env"])] {
            let is_left = || {
                let pool = pool(launcher.clone(), 1);
                let left = pool.submit(leave_behind, ()).wait().unwrap();
                pool.shutdown().wait();
                // It has the standard error of its worker.
                let is_left = has(left, "comm", "sleep\n");
                if is_left {
                    kill(left);
                }
                is_left
            };
            // Where a busy machine does not let a launcher end in time, what it has started ends with it.
            eventually("it is left", is_left);
        }
    });
}

#[test]
fn a_worker_that_is_killed_while_it_has_nothing_to_do_costs_no_task() {
    alone(|| {
        for launcher in [Launcher::command(["env"]), Launcher::bulk(["env"])] {
            let pool = pool(launcher, 1);
            for lost in 0..5 {
                // Many tasks follow each other before each loss.
                let tasks: Vec<_> = (0..100).map(|n| pool.submit(double, n)).collect();
                assert!((0..100).zip(tasks).all(|(n, task)| task.wait().unwrap() == 2 * n));
                assert_eq!(pool.workers().lost, lost);
                kill(pool.workers().workers[0].pid);
            }
            assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
        }
    });
}

#[test]
fn a_pool_that_is_dropped_ends_more_workers_than_there_are_processors() {
    on_slurm(|slurm| {
        let pool = pool(slurm.bulk(), 64);
        let tasks: Vec<_> = (0..64).map(|_| pool.submit(spin, ())).collect();
        eventually("some spin", || tasks.iter().filter(|task| task.progress().message.is_some()).count() > 10);
        drop(tasks);
        pool.shutdown_now();
    });
}
