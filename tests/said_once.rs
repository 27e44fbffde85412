//! What an error says, in whichever form, it says once.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::error::Error;
use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use progress_executor::{
    Executor, ExecutorExt, ProcessPoolExecutor, ProgressFuture, SyncExecutor, TaskError, TaskGroup, TaskResult,
    ThreadPoolExecutor, Updater,
};
use serde::{Deserialize, Serialize};

use crate::support::{eventually, within_deadline};

progress_executor::test_worker!(end, hold_on);

/// How a task ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Way {
    Cancelled,
    CancelledWhileReading,
    CancelledWithContext,
    CancelledWithin,
    CutShort,
    Unasked,
    FailedWithin,
    Failed,
    Panicked,
    TooLarge,
    Exit,
}

const CANCELLED: [Way; 5] =
    [Way::Cancelled, Way::CancelledWhileReading, Way::CancelledWithContext, Way::CancelledWithin, Way::CutShort];
const ENDED: [Way; 4] = [Way::Unasked, Way::FailedWithin, Way::Failed, Way::Panicked];

#[derive(Debug)]
struct Context(io::Error);

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the menu is not complete")
    }
}

impl Error for Context {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn end(way: Way, progress: &Updater) -> TaskResult<Vec<u8>> {
    progress.set_counts(1, 4)?;
    let read = || progress.reader(io::repeat(0)).read_to_end(&mut Vec::new()).unwrap_err();
    let wait = || progress.sleep(Duration::MAX);
    match way {
        Way::Cancelled => wait()?,
        Way::CancelledWhileReading => return Err(wait().map_err(|_| read()).unwrap_err().into()),
        Way::CancelledWithContext => return Err(Context(wait().map_err(|_| read()).unwrap_err()).into()),
        Way::CancelledWithin => {
            let inner = SyncExecutor::new().spawn(|inner| Ok(inner.check()?));
            let canceller = inner.canceller();
            let _ = wait();
            return Err(inner.on_progress(move |_, _| canceller.cancel()).wait().unwrap_err().into());
        }
        Way::CutShort => return Ok(progress.iter(0..).map_while(Result::ok).map(|_| 0).collect()),
        Way::Unasked => return Err(progress_executor::Cancelled.into()),
        Way::FailedWithin => {
            SyncExecutor::new().task(|(), _| Err::<(), _>("out of paper".into()), ()).name("print").submit().wait()?
        }
        Way::Failed => return Err(Context(io::Error::other("out of paper")).into()),
        Way::Panicked => panic!("out of paper"),
        Way::TooLarge => return Ok(vec![0; 2 << 20]),
        Way::Exit => std::process::exit(3),
    }
    Ok(Vec::new())
}

/// Takes no notice of anything.
fn hold_on((): (), progress: &Updater) -> TaskResult<Vec<u8>> {
    progress.set_counts(1, 4)?;
    loop {
        std::thread::park();
    }
}

#[track_caller]
fn check(error: &TaskError) {
    let line = format!("{error:#}");
    let lines = format!("{error:?}").replace("\n\nCaused by:\n    ", ": ").replace("\n    ", ": ");
    assert_eq!(lines, line, "both say all");
    let message = error.to_string();
    assert!(line.starts_with(&message) && message.starts_with("task `"), "{line}");
    let said: Vec<&str> = line.split(": ").collect();
    for word in
        ["cancelled", "encoded", "decoded", "registered", "know its function", "timed out", "lost", "out of paper"]
    {
        let parts = said.iter().copied().filter(|part| part.contains(word));
        // What is said of another task, which has a name, does not count.
        let (tasks, others): (Vec<&str>, Vec<&str>) = parts.partition(|part| part.starts_with("task `"));
        assert!(others.len() <= usize::from(tasks.is_empty()), "`{word}` is said twice: {line}");
    }
}

/// The error of a task that is cancelled while it runs.
fn cancelled(task: ProgressFuture<Vec<u8>>) -> TaskError {
    eventually("it runs", || task.progress().n > 0);
    task.cancel();
    task.wait().unwrap_err()
}

#[test]
fn every_error_says_each_thing_once() {
    let processes = || ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::from_millis(50));
    let executors: [Box<dyn Executor>; 3] = [
        Box::new(ThreadPoolExecutor::new(1)),
        Box::new(processes().build().unwrap()),
        Box::new(processes().without_shared_memory().build().unwrap()),
    ];
    within_deadline(move || {
        for executor in executors {
            CANCELLED.into_iter().for_each(|way| check(&cancelled(executor.submit(end, way))));
            for way in ENDED {
                check(&executor.submit(end, way).wait().unwrap_err());
            }
            let limit = Duration::from_millis(20);
            check(&executor.task(end, Way::Cancelled).timeout(limit).submit().wait().unwrap_err());
            check(&executor.task(end, Way::Cancelled).stall_timeout(limit).submit().wait().unwrap_err());
            check(&executor.task(end, Way::Cancelled).timeout(limit).name("mine").submit().wait().unwrap_err());
            for outcome in executor.map(end, ENDED).chunks(4).blocking() {
                check(&outcome.unwrap_err());
            }
            let map = executor.map(end, [Way::Cancelled; 2]).chunks(2);
            let handle = map.handle();
            let canceller = std::thread::spawn(move || {
                eventually("it has counted", || handle.progress().fraction() > Some(0.0));
                handle.cancel();
            });
            map.blocking().for_each(|outcome| check(&outcome.unwrap_err()));
            canceller.join().unwrap();
            let mut group = TaskGroup::new();
            group.add(executor.submit(end, Way::Failed));
            group.add(executor.submit(end, Way::Failed));
            check(&group.join().wait().unwrap_err());
        }
        let pool = || processes().max_frame_bytes(1 << 20).build().unwrap();
        check(&pool().submit(end, Way::TooLarge).wait().unwrap_err());
        check(&pool().submit(end, Way::Exit).wait().unwrap_err());
        check(&pool().submit(|(), _: &Updater| Ok(()), ()).wait().unwrap_err());
        let pool = pool();
        check(&cancelled(pool.submit(hold_on, ())));
        drop(pool.shutdown());
        check(&pool.submit(end, Way::Exit).wait().unwrap_err());
    });
}
