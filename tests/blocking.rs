//! User code that waits where others depend on it: in a waker, and where an output is decoded or dropped.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures::StreamExt;
use progress_executor::{
    Executor, ExecutorExt, ProcessPoolExecutor, ProgressFuture, TaskGroup, TaskResult, ThreadPoolExecutor, Updater,
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::support::{DEADLINE, tick_forever, within_deadline};

progress_executor::test_worker!(double, text, waiting, losing, exit, tick_forever);

fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

/// An output of more than 4 KiB is too much for a thread that only waits: it leaves the decoding to the resident.
fn text(len: usize, _: &Updater) -> TaskResult<String> {
    Ok("x".repeat(len))
}

fn waiting(n: u64, _: &Updater) -> TaskResult<Waiting> {
    Ok(Waiting(n))
}

fn losing(n: u64, _: &Updater) -> TaskResult<Losing> {
    Ok(Losing(n))
}

fn exit((): (), _: &Updater) -> TaskResult<()> {
    std::process::exit(3)
}

/// A value that waits for a task that is lost, when it is decoded.
#[derive(Debug, Serialize)]
struct Losing(u64);

impl<'de> Deserialize<'de> for Losing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let n = u64::deserialize(deserializer)?;
        assert!(pool().submit(exit, ()).wait().unwrap_err().is_worker_lost());
        Ok(Self(n))
    }
}

/// A value that waits for another task in the program, when it is decoded or dropped.
#[derive(Debug, Serialize)]
struct Waiting(u64);

static POOL: OnceLock<ProcessPoolExecutor> = OnceLock::new();

fn pool() -> &'static ProcessPoolExecutor {
    POOL.get_or_init(|| ProcessPoolExecutor::new(2).unwrap())
}

impl<'de> Deserialize<'de> for Waiting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let n = u64::deserialize(deserializer)?;
        // So large that only the resident decodes it.
        assert_eq!(pool().submit(text, 10_000).wait().unwrap().len(), 10_000);
        Ok(Self(pool().submit(double, n).wait().unwrap()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let in_worker = POOL.get().is_none();
        if !in_worker {
            pool().submit(double, self.0).wait().unwrap();
        }
    }
}

/// Calls a function when it is woken for the first time.
struct Calling(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for Calling {
    fn wake(self: Arc<Self>) {
        let call = self.0.lock().unwrap().take();
        call.into_iter().for_each(|call| call());
    }
}

/// Submits a task, and has `call` called by the thread that wakes its waiter. Returns the task, and what receives the
/// result of `call`.
fn when_woken<T: Send + 'static>(
    submit: impl Fn() -> ProgressFuture<T>,
    call: impl FnOnce() -> u64 + Send + 'static,
) -> (ProgressFuture<T>, mpsc::Receiver<u64>) {
    let (done, is_done) = mpsc::channel();
    let call: Box<dyn FnOnce() + Send> = Box::new(move || done.send(call()).unwrap());
    let waker = Waker::from(Arc::new(Calling(Mutex::new(Some(call)))));
    // A task that has ended by then wakes nothing.
    let submitted = std::iter::repeat_with(|| {
        let mut task = submit();
        Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending().then_some(task)
    });
    (submitted.flatten().next().unwrap(), is_done)
}

fn heard(is_done: &mpsc::Receiver<u64>) -> u64 {
    is_done.recv_timeout(DEADLINE).expect("the waker waits for a task that does not end")
}

/// The ways to wait for tasks of a pool.
const WAYS: [fn(&'static ProcessPoolExecutor) -> u64; 7] = [
    |pool| pool.submit(double, 21).wait().unwrap(),
    |pool| pool.submit(double, 21).wait_timeout(DEADLINE).unwrap().unwrap(),
    |pool| smol::block_on(pool.submit(double, 21)).unwrap(),
    |pool| pool.submit(text, 10_000).wait().unwrap().len() as u64 - 9958,
    |pool| {
        let group: TaskGroup<_> = [1, 20].map(|n| pool.submit(double, n)).into_iter().collect();
        group.join().wait().unwrap().into_iter().sum()
    },
    |pool| pool.map(double, [1, 20]).blocking().map(Result::unwrap).sum(),
    |pool| {
        let events = pool.submit(double, 21).events();
        smol::block_on(events.count()) as u64 + 40
    },
];

/// Either the pool's own thread calls the waker, or a thread that waits for another task.
#[test]
fn a_waker_may_wait_for_other_tasks_of_the_pool() {
    within_deadline(|| {
        for way in WAYS {
            for is_helped in [false, true] {
                let (task, is_done) = when_woken(|| pool().submit(double, 1), move || way(pool()));
                if is_helped {
                    pool().submit(double, 2).wait().unwrap();
                }
                assert!(heard(&is_done) >= 42);
                assert_eq!(task.wait().unwrap(), 2);
            }
        }
    });
}

/// Each waker waits for the next one.
#[test]
fn wakers_may_wait_within_each_other() {
    fn wait(depth: u64) -> u64 {
        if depth == 0 {
            return 0;
        }
        let (task, is_done) = when_woken(|| pool().submit(double, depth), move || wait(depth - 1));
        heard(&is_done) + task.wait().unwrap()
    }
    within_deadline(|| assert_eq!(wait(20), 2 * (1..=20).sum::<u64>()));
}

#[test]
fn an_output_may_wait_where_it_is_decoded_or_dropped() {
    within_deadline(|| {
        for n in 0..20 {
            let task = pool().submit(waiting, n);
            if n % 3 == 0 {
                task.detach();
            } else {
                assert_eq!(task.wait().unwrap().0, 2 * n);
            }
        }
        let values = pool().map(waiting, 0..100).chunks(10).blocking().map(|value| value.unwrap().0);
        assert!(values.eq((0..100).map(|n| 2 * n)), "in order, and each once");
    });
}

#[test]
fn an_output_of_a_chunk_may_wait_for_a_task_that_is_lost_with_another_worker() {
    within_deadline(|| {
        let values = pool().map(losing, 0..3).chunks(3).blocking().map(|value| value.unwrap().0);
        assert!(values.eq(0..3));
        let values = smol::block_on(pool().map(losing, 0..3).chunks(3).collect::<Vec<_>>());
        assert!(values.into_iter().map(|value| value.unwrap().0).eq(0..3));
    });
}

/// The thread that wakes them is, or was, the one that starts workers: it must start one for what they wait for.
#[test]
fn a_waker_of_a_task_that_no_worker_could_be_started_for_may_wait_for_another_such_task() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(1).current_dir("/nowhere/to/be/found").build().unwrap();
        let pool: &'static ProcessPoolExecutor = Box::leak(Box::new(pool));
        let next = || u64::from(pool.submit(double, 4).wait().is_err());
        let are_done = [1, 2, 3].map(|n| when_woken(|| pool.submit(double, n), next));
        assert!(are_done.iter().all(|(_, is_done)| heard(is_done) == 1));
    });
}

/// The timer reports changes, and ends what has taken too long.
#[test]
fn a_waker_that_the_timer_calls_may_wait_for_what_the_timer_is_to_end() {
    fn hangs(executor: &'static (dyn Executor + Sync)) {
        let limited = || executor.task(tick_forever, ()).timeout(Duration::from_millis(20)).submit();
        let (_task, is_done) = when_woken(limited, move || u64::from(limited().wait().unwrap_err().is_timed_out()));
        assert_eq!(heard(&is_done), 1);
    }
    within_deadline(|| {
        hangs(Box::leak(Box::new(ThreadPoolExecutor::new(2))));
        hangs(pool());
    });
}
