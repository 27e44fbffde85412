//! A task in a worker process hears of its cancellation through the memory that the worker shares with its program,
//! while nothing in the worker reads what is sent to it.
#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::hint;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use progress_executor::{ExecutorExt, ProcessPoolExecutor, Shared, TaskResult, Updater};
use serde::{Deserialize, Serialize};

use crate::support::{DEADLINE, NewFile, count, eventually, within_deadline};

progress_executor::test_worker!(count, keep, process_id, go_on_until_told, take_a_moment);

/// Holds up the thread that drops it in a worker, until the test lets go.
#[derive(Serialize, Deserialize)]
struct Obstacle {
    test: PathBuf,
    #[serde(skip, default = "in_worker")]
    is_in_worker: bool,
}

fn in_worker() -> bool {
    true
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        if self.is_in_worker {
            let stream = UnixStream::connect(&self.test);
            let _ = stream.and_then(|mut stream| stream.read(&mut [0]));
        }
    }
}

/// After this, the worker has the value.
fn keep(_: Shared<Obstacle>, _: &Updater) -> TaskResult<()> {
    Ok(())
}

fn process_id((): (), _: &Updater) -> TaskResult<u32> {
    Ok(process::id())
}

/// How a task finds out that it must end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Way {
    Update,
    SetPosition,
    Check,
    Look,
    Iterate,
    Sleep,
    Part,
    Threads,
    ThreadsThatLook,
}

const WAYS: [Way; 9] = [
    Way::Update,
    Way::SetPosition,
    Way::Check,
    Way::Look,
    Way::Iterate,
    Way::Sleep,
    Way::Part,
    Way::Threads,
    Way::ThreadsThatLook,
];

fn go_on_until_told(way: Way, progress: &Updater) -> TaskResult<()> {
    progress.update(1)?;
    match way {
        Way::Update => loop {
            progress.update(1)?;
        },
        Way::SetPosition => loop {
            progress.set_position(1)?;
        },
        Way::Check => loop {
            progress.check()?;
        },
        Way::Look => while !progress.is_cancelled() {},
        Way::Iterate => {
            for item in progress.iter(0_u64..) {
                item?;
            }
        }
        Way::Sleep => loop {
            progress.sleep(Duration::from_micros(1))?;
        },
        Way::Part => {
            let part = progress.split(1);
            loop {
                part.update(1)?;
            }
        }
        Way::Threads => {
            let shared = progress.shared();
            let go_on = || while shared.update(1).is_ok() {};
            thread::scope(|scope| _ = [(); 2].map(|()| scope.spawn(go_on)));
        }
        Way::ThreadsThatLook => {
            let shared = progress.shared();
            let go_on = || while !shared.is_cancelled() {};
            thread::scope(|scope| _ = [(); 2].map(|()| scope.spawn(go_on)));
        }
    }
    Ok(progress.check()?)
}

fn take_a_moment(_: u32, _: &Updater) -> TaskResult<()> {
    thread::sleep(Duration::from_millis(1));
    Ok(())
}

/// A pool of one worker, which is not killed soon for a task that does not hear.
fn pool() -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(1).cancel_grace(DEADLINE / 2).build().unwrap()
}

/// Calls `test` with what `start` has started in the worker, while nothing there reads what the program sends.
fn unheard<T>(
    pool: &ProcessPoolExecutor,
    start: impl FnOnce() -> T,
    has_begun: impl Fn(&T) -> bool,
    test: impl FnOnce(T),
) {
    let path = NewFile::new();
    path.remove();
    let listener = UnixListener::bind(path.path()).unwrap();
    let worker = pool.submit(process_id, ()).wait().unwrap();
    let obstacle = Shared::new(Obstacle { test: path.path(), is_in_worker: false });
    pool.submit(keep, obstacle.clone()).wait().unwrap();
    let running = start();
    eventually("it has begun", || has_begun(&running));
    // The thread that reads while a task runs hears that the value is not needed any more, and drops it.
    drop(obstacle);
    let (held_up, _) = listener.accept().unwrap();
    test(running);
    drop(held_up);
    assert_eq!(pool.submit(process_id, ()).wait().unwrap(), worker, "it was killed for its task");
}

#[test]
fn a_task_hears_that_it_is_to_end_although_nobody_reads() {
    within_deadline(|| {
        let pool = pool();
        for way in WAYS {
            println!("{way:?}");
            let start = || pool.submit(go_on_until_told, way);
            unheard(
                &pool,
                start,
                |task| task.progress().n > 0,
                |task| {
                    task.cancel();
                    let error = task.wait().unwrap_err();
                    assert!(error.is_cancelled(), "{error:#}");
                },
            );
        }
    });
}

#[test]
fn inputs_that_are_run_as_one_task_end_with_the_one_that_runs() {
    within_deadline(|| {
        let pool = pool();
        let start = || {
            let map = pool.map(take_a_moment, 0..60_000).chunks(60_000);
            let (handle, mut outcomes) = (map.handle(), map.blocking());
            assert!(outcomes.next().is_some_and(|outcome| outcome.is_ok()));
            (handle, outcomes)
        };
        unheard(
            &pool,
            start,
            |_| true,
            |(handle, mut outcomes)| {
                handle.cancel();
                assert!(outcomes.any(|outcome| outcome.is_err_and(|error| error.is_cancelled())));
            },
        );
    });
}

#[test]
fn a_request_that_comes_too_late_ends_no_other_task() {
    within_deadline(|| {
        let pool = pool();
        for round in 0..3_000 {
            let [cancelled, next] = [5, 50].map(|n| pool.submit(count, n));
            // A moment that grows. Yielding would take a time slice of a busy machine each time.
            (0..round % 100 * 50).for_each(|_| hint::spin_loop());
            cancelled.cancel();
            assert_eq!(next.wait().unwrap(), 50, "round {round}");
        }
    });
}
