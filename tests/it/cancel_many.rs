//! Many tasks that are cancelled at once: none of those that wait is started while the others are being told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use progress_executor::{
    CancelCause, ProgressFuture, SyncExecutor, TaskErrorKind, TaskGroup, TaskResult, ThreadPoolExecutor, Updater,
};

use crate::support::{Hand, busy_pool, within_deadline};

/// Calls something when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

const TASKS: usize = 20;

type Work = Box<dyn FnOnce() + Send>;

fn run(work: Work, _: &Updater) -> TaskResult<()> {
    work();
    Ok(())
}

/// Returns how many tasks were started while they were being cancelled. They wait in a pool of one thread. As soon as
/// the first of them is told of anything, that thread becomes free, and has gone through all of them before the next is
/// told. `cancel` submits the tasks, calls the function that it is given, and cancels the tasks.
fn started_while_cancelling(cancel: impl FnOnce(&ThreadPoolExecutor, Vec<Work>, &dyn Fn()) + Send + 'static) -> usize {
    within_deadline(|| {
        let (pool, gate) = busy_pool();
        let started = Arc::new(AtomicUsize::new(0));
        let (send, behind_them) = async_channel::bounded::<()>(1);
        let work = |_| {
            let (gate, behind_them, started) = (gate.opener(), behind_them.clone(), started.clone());
            let told = OnDrop(move || {
                let _ = gate.send(());
                // Closed when the task that was submitted last has run.
                let _ = behind_them.recv_blocking();
            });
            Box::new(move || {
                started.fetch_add(1, Ordering::SeqCst);
                std::mem::forget(told);
            }) as Work
        };
        let work = (0..TASKS).map(work).collect();
        let submit_last = || {
            let send = send.clone();
            pool.spawn(move |_| Ok(_ = send.close())).detach();
        };
        cancel(&pool, work, &submit_last);
        assert!(send.is_closed(), "somebody was told");
        started.load(Ordering::SeqCst)
    })
}

fn submit_all(pool: &ThreadPoolExecutor, work: Vec<Work>) -> TaskGroup<()> {
    work.into_iter().map(|work| pool.submit(run, work)).collect()
}

#[test]
fn tasks_of_a_group_do_not_start_while_it_is_cancelled() {
    let started = started_while_cancelling(|pool, work, submit_last| {
        let tasks = submit_all(pool, work);
        submit_last();
        tasks.cancel();
        for outcome in tasks.join_all().wait() {
            assert_eq!(outcome.unwrap_err().kind(), &TaskErrorKind::Cancelled(CancelCause::Requested));
        }
    });
    assert_eq!(started, 0);
}

#[test]
fn tasks_of_a_group_do_not_start_while_it_is_dropped() {
    let started = started_while_cancelling(|pool, work, submit_last| {
        let tasks = submit_all(pool, work);
        submit_last();
        drop(tasks);
    });
    assert_eq!(started, 0);
}

#[test]
fn tasks_of_a_map_do_not_start_while_it_is_dropped() {
    let started = started_while_cancelling(|pool, work, submit_last| {
        let mut tasks = pool.map(run, work).buffer(TASKS);
        assert!(Hand::new().poll_next(&mut tasks).is_pending());
        submit_last();
        drop(tasks);
    });
    assert_eq!(started, 0);
}

#[test]
fn tasks_do_not_start_while_their_executor_is_shut_down() {
    within_deadline(|| {
        let executor = SyncExecutor::new();
        let started = Arc::new(AtomicUsize::new(0));
        let others: Arc<Mutex<Vec<ProgressFuture<()>>>> = Arc::default();
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (others, started) = (others.clone(), started.clone());
                let told = OnDrop(move || {
                    let others = std::mem::take(&mut *others.lock().unwrap());
                    // Detached, they run here if they can.
                    others.into_iter().for_each(ProgressFuture::detach);
                });
                executor.spawn(move |_| {
                    started.fetch_add(1, Ordering::SeqCst);
                    std::mem::forget(told);
                    Ok(())
                })
            })
            .collect();
        *others.lock().unwrap() = tasks;
        executor.shutdown_now().wait();
        assert_eq!(started.load(Ordering::SeqCst), 0);
        assert!(others.lock().unwrap().is_empty(), "somebody was told");
    });
}
