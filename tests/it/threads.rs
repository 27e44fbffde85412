//! The thread pool.

use std::cell::RefCell;
use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use progress_executor::{Executor, ProgressFuture, Shutdown, TaskGroup, ThreadPoolExecutor};

use crate::support::{Barrier, Gate, Hand, busy_pool, count, eventually, gate, let_another_task_run, within_deadline};

#[test]
fn one_worker_runs_first_in_first_out() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let order = order.clone();
                executor.spawn(move |_| {
                    order.lock().unwrap().push(n);
                    Ok(())
                })
            })
            .collect();
        smol::block_on(futures::future::try_join_all(tasks)).unwrap();
        assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn as_many_tasks_run_at_the_same_time_as_there_are_workers_and_no_more() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(3);
        assert_eq!(executor.max_workers(), 3);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (gates, tasks): (Vec<_>, Vec<_>) = (0..9)
            .map(|_| {
                let (gate, barrier) = gate();
                let (running, most) = (running.clone(), most.clone());
                let task = executor.spawn(move |_| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    barrier.pass();
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                });
                (gate, task)
            })
            .unzip();
        // All three are at their barrier at the same time.
        gates[..3].iter().for_each(|gate| gate.wait());
        assert_eq!(running.load(Ordering::SeqCst), 3);
        gates.iter().for_each(|gate| gate.open());
        smol::block_on(futures::future::try_join_all(tasks)).unwrap();
        assert_eq!(most.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn a_new_pool_starts_a_thread_for_each_of_many_tasks_submitted_at_once() {
    within_deadline(|| {
        for _ in 0..20 {
            let executor = ThreadPoolExecutor::new(40);
            let (gates, tasks): (Vec<_>, Vec<_>) = (0..40)
                .map(|_| {
                    let (gate, barrier) = gate();
                    let task = executor.spawn(move |_| {
                        barrier.pass();
                        Ok(())
                    });
                    (gate, task)
                })
                .unzip();
            gates.iter().for_each(Gate::wait);
            gates.iter().for_each(Gate::open);
            smol::block_on(futures::future::try_join_all(tasks)).unwrap();
        }
    });
}

#[test]
fn two_tasks_submitted_at_once_do_not_wait_for_each_other() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        // The workers are idle, in all phases of falling asleep.
        for _ in 0..200 {
            let (to_b, from_a) = mpsc::channel();
            let (to_a, from_b) = mpsc::channel();
            let a = executor.spawn(move |_| {
                to_b.send(())?;
                Ok(from_b.recv()?)
            });
            let b = executor.spawn(move |_| {
                to_a.send(())?;
                Ok(from_a.recv()?)
            });
            b.wait().unwrap();
            a.wait().unwrap();
        }
    });
}

#[test]
fn threads_are_started_as_they_are_needed_and_named() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::builder().max_workers(3).thread_name("worker").build();
        let (gates, tasks): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (gate, barrier) = gate();
                let task = executor.spawn(move |_| {
                    barrier.pass();
                    Ok(thread::current().name().map(str::to_owned))
                });
                // The next task finds all existing threads busy.
                gate.wait();
                (gate, task)
            })
            .unzip();
        gates.iter().for_each(|gate| gate.open());
        let names = smol::block_on(futures::future::try_join_all(tasks)).unwrap();
        assert_eq!(names.iter().flatten().collect::<Vec<_>>(), ["worker-0", "worker-1", "worker-2"]);
    });
}

#[test]
fn a_panic_costs_no_thread() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let before = executor.spawn(|_| Ok(thread::current().id())).wait().unwrap();
        for _ in 0..10 {
            assert!(
                executor.spawn(|_| -> progress_executor::TaskResult<()> { panic!() }).wait().unwrap_err().is_panic()
            );
        }
        assert_eq!(executor.spawn(|_| Ok(thread::current().id())).wait().unwrap(), before);
    });
}

#[test]
fn dropping_the_executor_runs_what_was_submitted() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let tasks: Vec<_> = (0..100).map(|n| executor.spawn(move |_| Ok(n))).collect();
        drop(executor);
        assert_eq!(smol::block_on(futures::future::try_join_all(tasks)).unwrap(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn shutdown_can_be_awaited_more_than_once_and_dropped() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let task = executor.spawn(|_| Ok(1));
        drop(executor.shutdown());
        smol::block_on(executor.shutdown());
        smol::block_on(executor.shutdown_now());
        assert_eq!(task.wait().unwrap(), 1);
    });
}

#[test]
fn the_shutdown_of_a_pool_that_was_never_used_resolves() {
    within_deadline(|| ThreadPoolExecutor::new(2).shutdown().wait());
}

#[test]
fn a_task_may_wait_for_tasks_of_its_own_pool_of_one_thread() {
    fn countdown(executor: Arc<ThreadPoolExecutor>, n: u32) -> ProgressFuture<u32> {
        let submit_to = executor.clone();
        submit_to.spawn(move |_| if n == 0 { Ok(0) } else { Ok(countdown(executor, n - 1).wait()? + 1) })
    }
    within_deadline(|| {
        let executor = Arc::new(ThreadPoolExecutor::new(1));
        assert_eq!(countdown(executor, 20).wait().unwrap(), 20);
    });
}

#[test]
fn a_task_may_await_tasks_of_its_own_pool_of_one_thread() {
    within_deadline(|| {
        let executor = Arc::new(ThreadPoolExecutor::new(1));
        let inner = executor.clone();
        let sum = executor.spawn(move |_| {
            let tasks: Vec<_> = (0..10).map(|n| inner.spawn(move |_| Ok(n))).collect();
            Ok(smol::block_on(futures::future::try_join_all(tasks))?.into_iter().sum::<u32>())
        });
        assert_eq!(sum.wait().unwrap(), 45);
    });
}

#[test]
fn shutdown_now_reaches_a_task_that_runs_on_the_thread_of_one_that_waits_for_it() {
    within_deadline(|| {
        let executor = Arc::new(ThreadPoolExecutor::new(2));
        let (gate, barrier) = gate();
        let inner = executor.clone();
        let outer = executor.spawn(move |_| {
            let helped = inner.spawn(move |progress| {
                barrier.pass();
                loop {
                    progress.update(1)?;
                }
                #[allow(unreachable_code, reason = "gives the closure its type")]
                Ok(())
            });
            Ok(helped.wait()?)
        });
        gate.wait();
        gate.open();
        executor.shutdown_now().wait();
        let error = outer.wait().unwrap_err();
        let source = error.source().unwrap().downcast_ref::<progress_executor::TaskError>().unwrap();
        assert!(source.is_cancelled());
    });
}

/// A waker that frees a worker while the waiting tasks are being cancelled, and goes on when the worker's thread has
/// ended.
struct FreesWorker {
    gate: Mutex<Gate>,
    thread_ended: Mutex<mpsc::Receiver<()>>,
    woken: mpsc::Sender<Result<(), mpsc::RecvTimeoutError>>,
}

impl Wake for FreesWorker {
    fn wake(self: Arc<Self>) {
        self.gate.lock().unwrap().open();
        let ended = match self.thread_ended.lock().unwrap().recv_timeout(Duration::from_secs(20)) {
            // The sender was dropped with the thread.
            Err(mpsc::RecvTimeoutError::Disconnected) => Ok(()),
            other => other,
        };
        self.woken.send(ended).unwrap();
    }
}

#[test]
fn shutdown_now_starts_no_task_that_waits_however_long_it_takes_to_cancel_them() {
    thread_local! {
        static ENDS_WITH_THREAD: RefCell<Option<mpsc::Sender<()>>> = const { RefCell::new(None) };
    }
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let ((gate, barrier), (thread, thread_ended), (woken, was_woken)) = (gate(), mpsc::channel(), mpsc::channel());
        let running = executor.spawn(move |_| {
            ENDS_WITH_THREAD.set(Some(thread));
            barrier.pass();
            Ok(())
        });
        gate.wait();
        let started = Arc::new(AtomicUsize::new(0));
        let mut waiting: Vec<_> = (0..100)
            .map(|_| {
                let started = started.clone();
                executor.spawn(move |_| Ok(_ = started.fetch_add(1, Ordering::SeqCst)))
            })
            .collect();
        let waker = FreesWorker { gate: Mutex::new(gate), thread_ended: Mutex::new(thread_ended), woken };
        let waker = Waker::from(Arc::new(waker));
        assert!(waiting[0].poll_unpin(&mut Context::from_waker(&waker)).is_pending());

        executor.shutdown_now().wait();
        assert_eq!(was_woken.recv().unwrap(), Ok(()), "the thread was there while the tasks were cancelled");
        assert_eq!(started.load(Ordering::SeqCst), 0);
        assert!(waiting.into_iter().all(|task| task.wait().unwrap_err().is_cancelled()));
        running.wait().unwrap();
    });
}

/// Lets another thread do something while it is dropped.
struct Aside(mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>);

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = self.0.send(());
        let _ = self.1.get_mut().unwrap().recv();
    }
}

#[test]
fn shutdown_now_starts_no_task_that_waits_where_another_task_waits_for_it() {
    within_deadline(|| {
        let executor = Arc::new(ThreadPoolExecutor::new(1));
        let (gate, barrier) = gate();
        let (begun, has_begun) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let inner = executor.clone();
        let outer = executor.spawn(move |_| {
            let aside = Aside(begun, Mutex::new(is_done));
            let cancelled_first = inner.spawn(move |_| {
                drop(aside);
                Ok(())
            });
            let mut helped = inner.spawn(|_| Ok(()));
            barrier.pass();
            // The first task is being cancelled.
            has_begun.recv()?;
            let is_started = helped.poll_unpin(&mut Context::from_waker(Waker::noop())).is_ready();
            done.send(())?;
            drop(cancelled_first);
            Ok(!is_started && helped.wait().is_err_and(|error| error.is_cancelled()))
        });
        gate.wait();
        gate.open();
        executor.shutdown_now().wait();
        assert!(outer.wait().unwrap(), "it was started");
    });
}

#[test]
fn shutdown_resolves_when_all_are_cancelled_although_no_thread_is_left() {
    within_deadline(|| {
        let (executor, worker) = busy_pool();
        let executor = Arc::new(executor);
        let mut waiting = executor.spawn(|_| Ok(()));
        let ((blocked, barrier), shutting) = (gate(), executor.clone());
        let waker = Waker::from(Arc::new(Blocks(Mutex::new(Some(barrier)))));
        assert!(waiting.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        let shutdown_now = thread::spawn(move || shutting.shutdown_now().wait());
        blocked.wait();
        worker.open();
        eventually("the thread has ended", || format!("{executor:?}").contains("threads: 0"));
        let hand = Hand::new();
        let mut shutdown = executor.shutdown();
        assert!(hand.poll(&mut shutdown).is_pending(), "a task is still being cancelled");
        blocked.open();
        shutdown.wait();
        shutdown_now.join().unwrap();
    });
}

/// A waker that blocks when it is woken for the first time after it was given a barrier.
#[derive(Default)]
struct Blocks(Mutex<Option<Barrier>>);

impl Wake for Blocks {
    fn wake(self: Arc<Self>) {
        let barrier = self.0.lock().unwrap().take();
        barrier.iter().for_each(Barrier::pass);
    }
}

/// Checks that a shutdown of either kind waits for two tasks of which another thread has ended only one so far. Both wait in a
/// pool whose only worker is busy until `free`.
pub(crate) fn check_shutdown_while_cancelling(
    [first, second]: [ProgressFuture<u64>; 2],
    free: impl FnOnce(),
    shut_down: impl FnOnce() -> Shutdown,
) {
    let group: TaskGroup<u64> = [first, second].into_iter().collect();
    let (handle, (blocked, barrier)) = (group.handle(), gate());
    let mut join = group.join_all();
    let blocks = Arc::new(Blocks::default());
    let waker = Waker::from(blocks.clone());
    assert!(join.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    *blocks.0.lock().unwrap() = Some(barrier);
    let cancelling = handle.clone();
    let cancelled = thread::spawn(move || cancelling.cancel());
    blocked.wait();
    let (mut shutdown, hand) = (shut_down(), Hand::new());
    free();
    // The worker has time to come to them, and to end.
    (0..100).for_each(|_| let_another_task_run());
    let progress = handle.progress();
    assert!(progress.cancelled < 2, "{progress:?}");
    assert_eq!(hand.poll(&mut shutdown), Poll::Pending, "a task has not ended");
    blocked.open();
    shutdown.wait();
    assert_eq!(handle.progress().cancelled, 2);
    cancelled.join().unwrap();
}

#[test]
fn shutdown_waits_for_tasks_that_another_thread_cancels() {
    within_deadline(|| {
        for shut_down in [ThreadPoolExecutor::shutdown, ThreadPoolExecutor::shutdown_now] {
            let (executor, worker) = busy_pool();
            let tasks = [executor.submit(count, 1), executor.submit(count, 1)];
            check_shutdown_while_cancelling(tasks, || worker.open(), || shut_down(&executor));
        }
    });
}

#[test]
fn the_size_of_the_stack_can_be_set() {
    #[inline(never)]
    fn fill(bytes: usize) -> u8 {
        let frame = [1_u8; 16 * 1024];
        if bytes < frame.len() { std::hint::black_box(frame)[0] } else { fill(bytes - frame.len()) + frame[7] - 1 }
    }
    within_deadline(|| {
        let executor = ThreadPoolExecutor::builder().max_workers(1).stack_size(64 << 20).build();
        assert_eq!(executor.spawn(|_| Ok(fill(16 << 20))).wait().unwrap(), 1);
    });
}
