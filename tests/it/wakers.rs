//! Wakers and drops of users that call back into the task or group that calls them: they get whatever they ask for.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use async_channel::{Receiver, Recv};
use progress_executor::{
    Canceller, ExecutorExt, ProcessPoolExecutor, ProgressFuture, Shutdown, TaskGroup, ThreadPoolExecutor,
};

use crate::contract::count_forever;
use crate::support::{Gate, Hand, eventually, gate, within_deadline};

/// Calls `act` when it is woken, and when it is dropped.
struct Acting {
    act: Box<dyn Fn() + Send + Sync>,
    woken: Arc<AtomicUsize>,
}

impl Wake for Acting {
    fn wake(self: Arc<Self>) {
        (self.act)();
        self.woken.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        (self.act)();
    }
}

/// A waker that calls `act`, and how often it was woken.
fn acting(act: impl Fn() + Send + Sync + 'static) -> (Waker, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    (Waker::from(Arc::new(Acting { act: Box::new(act), woken: woken.clone() })), woken)
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// A task that waits at a gate, then counts, and ends after a second gate.
fn counter(pool: &ThreadPoolExecutor) -> (ProgressFuture<()>, Gate) {
    let (gate, barrier) = gate();
    let task = pool.spawn(move |progress| {
        barrier.pass();
        for _ in 0..1000 {
            progress.update(1)?;
        }
        progress.set_message("counted");
        barrier.pass();
        Ok(progress.update(1)?)
    });
    gate.wait();
    (task, gate)
}

/// What a waker of a user may ask of a task.
fn requests(task: &Arc<ProgressFuture<()>>) -> Vec<Box<dyn Fn() + Send + Sync>> {
    let canceller = task.canceller();
    let of_task = |request: fn(&ProgressFuture<()>)| {
        // A weak reference, so that the waker does not keep the future alive.
        let task = Arc::downgrade(task);
        Box::new(move || _ = task.upgrade().map(|task| request(&task))) as Box<dyn Fn() + Send + Sync>
    };
    vec![
        of_task(|task| _ = task.progress()),
        of_task(|task| drop(task.updates())),
        of_task(|task| drop((task.silent_for(), task.noticed_after(), format!("{task:?}")))),
        of_task(|task| {
            task.pause();
            task.resume();
        }),
        of_task(ProgressFuture::cancel),
        Box::new(move || Canceller::cancel(&canceller)),
    ]
}

fn pinned<T>(receiver: &Receiver<T>) -> Pin<Box<Recv<'_, T>>> {
    Box::pin(receiver.recv())
}

#[test]
fn the_waker_of_a_receiver_may_ask_its_task_for_anything() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        for way in 0..6 {
            let (task, gate) = counter(&pool);
            let task = Arc::new(task);
            let updates = task.updates();
            updates.recv_blocking().unwrap();
            let (waker, woken) = acting(requests(&task).swap_remove(way));
            let mut change = pinned(&updates);
            assert!(poll(&mut change, &waker).is_pending());
            gate.open();
            eventually("the receiver is woken by a change", || woken.load(Ordering::SeqCst) > 0);
            drop(change);
            // A cancelled task does not reach the second barrier.
            gate.is_reached();
            while updates.try_recv().is_ok() {}
            let mut end = pinned(&updates);
            let is_pending = poll(&mut end, &waker).is_pending();
            gate.open();
            eventually("the receiver is woken by the end", || !is_pending || woken.load(Ordering::SeqCst) > 1);
            drop(end);
            eventually("the task ends", || task.is_done());
        }
    });
}

#[test]
fn the_waker_of_a_future_may_ask_for_anything_and_poll_in_place() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let (task, gate) = counter(&pool);
        let task = Arc::new(Mutex::new(task));
        let (canceller, updates) = {
            let task = task.lock().unwrap();
            (task.canceller(), task.updates())
        };
        let handle = Arc::downgrade(&task);
        let (waker, woken) = acting(move || {
            let Some(task) = handle.upgrade() else { return };
            // The test holds the lock only while no wake-up comes.
            let Ok(mut task) = task.try_lock() else { return };
            let _ = (task.progress(), task.updates(), canceller.is_cancelled(), updates.try_recv());
            let _ = poll(&mut *task, Waker::noop());
        });
        task.lock().unwrap().add_progress_callback(|_, _| ());
        assert!(poll(&mut *task.lock().unwrap(), &waker).is_pending());
        gate.open();
        eventually("the future is woken by a change", || woken.load(Ordering::SeqCst) > 0);
        gate.wait();
        let is_pending = poll(&mut *task.lock().unwrap(), &waker).is_pending();
        gate.open();
        eventually("the future is woken by the end", || !is_pending || woken.load(Ordering::SeqCst) > 1);
        // What wakes it may also have been another change.
        eventually("the task ends", || task.lock().unwrap().is_done());
    });
}

#[test]
fn a_waker_that_is_replaced_may_ask_while_it_is_dropped() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let (mut task, gate) = counter(&pool);
        let (canceller, updates) = (task.canceller(), task.updates());
        let (waker, _) = acting(move || drop((canceller.is_acknowledged(), updates.try_recv())));
        assert!(poll(&mut task, &waker).is_pending());
        drop(waker);
        assert!(poll(&mut task, Waker::noop()).is_pending());
        gate.open();
        gate.wait();
        gate.open();
        task.wait().unwrap();
    });
}

#[test]
fn a_waker_that_is_replaced_may_panic_when_it_is_dropped() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let (mut task, gate) = counter(&pool);
        let (waker, _) = acting(|| panic!("on purpose"));
        assert!(poll(&mut task, &waker).is_pending());
        drop(waker);
        // Now the task has the last reference.
        let hand = Hand::new();
        assert!(hand.poll(&mut task).is_pending());
        let seen = hand.wakes();
        gate.open();
        gate.wait();
        gate.open();
        hand.wait_for_wake(seen);
        task.wait().unwrap();
    });
}

#[test]
fn the_waker_of_a_receiver_may_ask_its_group_for_anything() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        for way in 0..5 {
            let (task, gate) = counter(&pool);
            let mut group = TaskGroup::new();
            let updates = group.updates();
            group.add(task);
            while updates.try_recv().is_ok() {}
            let handle = group.handle();
            let (waker, woken) = acting(move || match way {
                0 => _ = handle.progress(),
                1 => drop(handle.updates()),
                2 => {
                    handle.pause();
                    handle.resume();
                }
                3 => handle.cancel(),
                _ => drop(format!("{handle:?}")),
            });
            let mut change = pinned(&updates);
            let is_pending = poll(&mut change, &waker).is_pending();
            gate.open();
            eventually("the receiver is woken by a change", || !is_pending || woken.load(Ordering::SeqCst) > 0);
            drop(change);
            gate.is_reached();
            gate.open();
            drop(group.join_all().wait());
            drop(waker);
        }
    });
}

#[test]
fn the_waker_of_a_group_may_poll_it_in_place() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let (task, gate) = counter(&pool);
        let mut group = TaskGroup::new();
        group.add_progress_callback(|_, _| ());
        group.add(task);
        let group = Arc::new(Mutex::new(group));
        let handle = Arc::downgrade(&group);
        let (waker, woken) = acting(move || {
            let Some(group) = handle.upgrade() else { return };
            let Ok(mut group) = group.try_lock() else { return };
            let _ = (group.progress(), group.updates());
            let _ = futures::StreamExt::poll_next_unpin(&mut *group, &mut Context::from_waker(Waker::noop()));
        });
        let mut cx = Context::from_waker(&waker);
        assert!(futures::StreamExt::poll_next_unpin(&mut *group.lock().unwrap(), &mut cx).is_pending());
        gate.open();
        gate.wait();
        gate.open();
        eventually("the group is woken", || woken.load(Ordering::SeqCst) > 0);
        eventually("the task ends", || group.lock().unwrap().progress().finished == 1);
    });
}

/// Calls a function when it is dropped.
struct Asking<F: Fn()>(F);

impl<F: Fn()> Drop for Asking<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn what_a_callback_captures_may_ask_while_it_is_dropped() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let (mut task, gate) = counter(&pool);
        let asked = Arc::new(AtomicUsize::new(0));
        let asking = || {
            let (asked, updates, canceller) = (asked.clone(), task.updates(), task.canceller());
            Asking(move || {
                let _ = (updates.try_recv(), canceller.is_cancelled());
                asked.fetch_add(1, Ordering::SeqCst);
            })
        };
        let (removed, panicking, kept) = (asking(), asking(), asking());
        let id = task.add_progress_callback(move |_, _| _ = &removed);
        assert!(task.remove_progress_callback(id));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        task.add_progress_callback(move |_, _| {
            let _ = &panicking;
            panic!("out of paper")
        });
        task.add_progress_callback(move |_, _| _ = &kept);
        let mut caught = 0;
        gate.open();
        gate.wait();
        gate.open();
        while !matches!(
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(&mut task, Waker::noop())))
                .inspect_err(|_| caught += 1),
            Ok(Poll::Ready(Ok(())))
        ) {
            std::thread::yield_now();
        }
        assert_eq!((caught, asked.load(Ordering::SeqCst)), (1, 2));
        drop(task);
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    });
}

/// A task of each kind of pool, which ends once it is cancelled, and the shutdowns of the pool that wait for that.
fn shutdowns() -> Vec<(ProgressFuture<()>, [Shutdown; 2])> {
    let (threads, processes) = (ThreadPoolExecutor::new(2), ProcessPoolExecutor::new(2).unwrap());
    vec![
        (threads.submit(count_forever, ()), [threads.shutdown(), threads.shutdown()]),
        (processes.submit(count_forever, ()), [processes.shutdown(), processes.shutdown()]),
    ]
}

#[test]
fn a_shutdown_may_be_polled_in_place() {
    within_deadline(|| {
        for (task, [shutdown, other]) in shutdowns() {
            let place = Arc::new(Mutex::new(Some(shutdown)));
            let polled = Arc::downgrade(&place);
            let (waker, _) = acting(move || {
                let Some(place) = polled.upgrade() else { return };
                let mut place = place.lock().unwrap();
                if place.as_mut().is_some_and(|shutdown| poll(shutdown, Waker::noop()).is_ready()) {
                    // It is dropped in place as well.
                    *place = None;
                }
            });
            assert!(poll(place.lock().unwrap().as_mut().unwrap(), &waker).is_pending());
            task.cancel();
            other.wait();
            assert!(task.wait().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn a_waker_of_a_shutdown_that_panics_keeps_nobody_else_waiting() {
    within_deadline(|| {
        for (task, [mut shutdown, other]) in shutdowns() {
            let (waker, _) = acting(|| {
                if !std::thread::panicking() {
                    panic!("as intended");
                }
            });
            assert!(poll(&mut shutdown, &waker).is_pending());
            let others = std::thread::spawn(move || other.wait());
            task.cancel();
            others.join().unwrap();
            std::mem::forget((shutdown, waker));
            assert!(task.wait().unwrap_err().is_cancelled());
        }
    });
}
