//! A thread that waits for tasks of a process pool reads what the workers say meanwhile, instead of the pool's own
//! thread: for one task or for many, with a deadline or without, alone or beside others.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::future::Future;
use std::iter;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use progress_executor::{
    Executor, ExecutorExt, ProcessPoolExecutor, ProgressFuture, TaskGroup, TaskResult, ThreadPoolExecutor, Updater,
};

use crate::support::{DEADLINE, tick_forever, within_deadline};

progress_executor::test_worker!(double, count_twice, hang, tick_forever);

fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

fn count_twice(n: u64, progress: &Updater) -> TaskResult<u64> {
    progress.update(1)?;
    progress.update(1)?;
    Ok(2 * n)
}

/// Ends only when it is killed.
fn hang((): (), _: &Updater) -> TaskResult<()> {
    loop {
        thread::park();
    }
}

type Way = fn(&dyn Executor) -> u64;

/// All the ways to block. Each returns 42.
const WAYS: [(&str, Way); 7] = [
    ("wait", |pool| pool.submit(double, 21).wait().unwrap()),
    ("wait_timeout", |pool| pool.submit(double, 21).wait_timeout(DEADLINE).unwrap().unwrap()),
    ("join", |pool| group(pool, [1, 20]).join().wait().unwrap().into_iter().sum()),
    ("join_all", |pool| group(pool, [1, 20]).join_all().wait().into_iter().map(Result::unwrap).sum()),
    ("map", |pool| pool.map(double, [1, 20]).blocking().map(Result::unwrap).sum()),
    ("map, one at a time", |pool| pool.map(double, [1, 20]).buffer(1).blocking().map(Result::unwrap).sum()),
    ("map, unordered", |pool| pool.map(double, [1, 20]).unordered().blocking().map(Result::unwrap).sum()),
];

fn group(pool: &dyn Executor, inputs: impl IntoIterator<Item = u64>) -> TaskGroup<u64> {
    inputs.into_iter().map(|n| pool.submit(double, n)).collect()
}

/// The thread that has woken it.
#[derive(Default)]
struct WokenBy(Mutex<Option<ThreadId>>);

impl Wake for WokenBy {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = Some(thread::current().id());
    }
}

/// Returns which thread has heard of the end of a task while `wait` waited for another one, which the same worker ran
/// after it. Returns `None` if the task had ended before.
fn heard_by(pool: &ProcessPoolExecutor, wait: impl FnOnce()) -> Option<ThreadId> {
    let woken_by = Arc::new(WokenBy::default());
    let mut task = pool.submit(double, 1);
    let is_ready = Pin::new(&mut task).poll(&mut Context::from_waker(&Waker::from(woken_by.clone()))).is_ready();
    wait();
    if is_ready {
        return None;
    }
    assert_eq!(task.wait().unwrap(), 2);
    *woken_by.0.lock().unwrap()
}

#[test]
fn whoever_waits_reads_in_whatever_way_it_waits() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        for (name, way) in WAYS {
            let start = Instant::now();
            // The pool's own thread may have been there first.
            while heard_by(&pool, || assert_eq!(way(&pool), 42)) != Some(thread::current().id()) {
                assert!(start.elapsed() < DEADLINE / 2, "{name}: it is never the thread that waits");
            }
        }
    });
}

#[test]
fn those_who_wait_at_once_hand_the_place_over() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(2).unwrap();
        thread::scope(|scope| {
            for (name, way) in WAYS {
                let pool = &pool;
                scope.spawn(move || (0..300).for_each(|round| assert_eq!(way(pool), 42, "{name}, {round}")));
            }
        });
    });
}

#[test]
fn who_gives_up_waiting_leaves_the_place_to_others() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(2).unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for timeout in [0, 500, 2_000, 5_000].map(Duration::from_micros) {
                let (pool, is_over) = (&pool, &is_over);
                scope.spawn(move || {
                    // Until it is cancelled, an endless task occupies a worker, or waits for one.
                    let mut endless = pool.submit(tick_forever, ());
                    while !is_over.load(Ordering::SeqCst) {
                        let start = Instant::now();
                        assert!(endless.wait_timeout(timeout).is_none());
                        assert!(start.elapsed() >= timeout);
                        endless.cancel();
                        assert!(endless.wait().unwrap_err().is_cancelled());
                        endless = pool.submit(tick_forever, ());
                    }
                });
            }
            for (name, way) in WAYS {
                (0..40).for_each(|round| assert_eq!(way(&pool), 42, "{name}, {round}"));
            }
            is_over.store(true, Ordering::SeqCst);
        });
    });
}

/// Nothing comes before its timeout.
#[test]
fn who_waits_alone_gives_up_in_time() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        pool.submit(double, 1).wait().unwrap();
        let mut endless = pool.submit(tick_forever, ());
        for timeout in [0, 500, 5_000, 50_000].map(Duration::from_micros) {
            let start = Instant::now();
            assert!(endless.wait_timeout(timeout).is_none());
            assert!(start.elapsed() >= timeout);
        }
    });
}

#[test]
fn tasks_of_several_executors_are_waited_for_together() {
    within_deadline(|| {
        let (first, second) = (ProcessPoolExecutor::new(1).unwrap(), ProcessPoolExecutor::new(1).unwrap());
        let threads = ThreadPoolExecutor::new(1);
        let executors: [&dyn Executor; 3] = [&first, &second, &threads];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for _ in 0..30 {
                let group: TaskGroup<_> =
                    order.into_iter().zip(0..).map(|(which, n)| executors[which].submit(double, n)).collect();
                assert_eq!(group.join().wait().unwrap(), [0, 2, 4]);
            }
        }
    });
}

/// The thread of a task waits, and so does the thread that joins the tasks.
#[test]
fn a_task_on_a_thread_may_wait_for_those_of_processes() {
    within_deadline(|| {
        let pool = Arc::new(ProcessPoolExecutor::new(1).unwrap());
        let threads = ThreadPoolExecutor::new(2);
        for _ in 0..30 {
            let tasks = WAYS.map(|(_, way)| {
                let pool = pool.clone();
                threads.spawn(move |_| Ok(way(&*pool)))
            });
            let tasks: TaskGroup<u64> = tasks.into_iter().collect();
            assert_eq!(tasks.join().wait().unwrap(), [42; WAYS.len()]);
        }
    });
}

/// The thread that joins a group calls the group's callbacks, which may wait themselves.
#[test]
fn a_callback_of_who_waits_may_wait_itself() {
    within_deadline(|| {
        let pool = Arc::new(ProcessPoolExecutor::new(1).unwrap());
        for (_, way) in WAYS {
            let (within, called) = (pool.clone(), Arc::new(AtomicBool::new(false)));
            let mut group: TaskGroup<_> = (0..3).map(|n| pool.submit(count_twice, n)).collect();
            let is_called = called.clone();
            group.add_progress_callback(move |_, _| {
                is_called.store(true, Ordering::SeqCst);
                assert_eq!(way(&*within), 42);
            });
            assert_eq!(group.join().wait().unwrap(), [0, 2, 4]);
            assert!(called.load(Ordering::SeqCst));
        }
    });
}

/// The driving thread handles deadlines of tasks and ends of workers.
#[test]
fn who_waits_sees_to_limits_and_to_lost_workers() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::ZERO).build().unwrap();
        let hangs = || pool.task(hang, ()).timeout(Duration::from_millis(20)).submit();
        let waits: [&dyn Fn(ProgressFuture<()>) -> bool; 3] = [
            &|task| task.wait().unwrap_err().is_timed_out(),
            &|mut task| task.wait_timeout(DEADLINE).unwrap().unwrap_err().is_timed_out(),
            &|task| iter::once(task).collect::<TaskGroup<_>>().join().wait().unwrap_err().is_timed_out(),
        ];
        for wait in waits {
            assert!(wait(hangs()));
            assert_eq!(pool.submit(double, 21).wait().unwrap(), 42, "by another worker");
        }
        let limited = pool.map(hang, [()]).timeout(Duration::from_millis(20)).blocking();
        assert!(limited.map(Result::unwrap_err).all(|error| error.is_timed_out()));
    });
}
