//! Inputs, closures and outputs are dropped exactly once, on every path, and as early as they can be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake};

use futures::{FutureExt, StreamExt};
use progress_executor::{ProgressFuture, SyncExecutor, TaskGroup, TaskResult, ThreadPoolExecutor, Updater};

use crate::support::{eventually, gate, within_deadline};

/// Counts how many of its kind were made and dropped.
#[derive(Clone, Debug, Default)]
struct Ledger(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    made: AtomicUsize,
    dropped: AtomicUsize,
}

#[derive(Debug)]
struct Item(Ledger);

impl Ledger {
    fn item(&self) -> Item {
        self.0.made.fetch_add(1, Ordering::SeqCst);
        Item(self.clone())
    }

    fn alive(&self) -> isize {
        let [made, dropped] = [&self.0.made, &self.0.dropped].map(|count| count.load(Ordering::SeqCst) as isize);
        made - dropped
    }

    fn made(&self) -> usize {
        self.0.made.load(Ordering::SeqCst)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.0.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy)]
enum End {
    Value,
    Error,
    Panic,
}

/// A task that holds an item in its closure and one as its input, and makes one as its output.
fn task(ledger: &Ledger, end: End) -> (impl FnOnce(Item, &Updater) -> TaskResult<Item> + Send + use<>, Item) {
    let (ledger, captured, input) = (ledger.clone(), ledger.item(), ledger.item());
    let function = move |input: Item, progress: &Updater| {
        let _held = (&captured, &input);
        progress.update(1)?;
        let output = ledger.item();
        match end {
            End::Value => Ok(output),
            End::Error => Err("failed".into()),
            End::Panic => panic!("panicked"),
        }
    };
    (function, input)
}

const ENDS: [End; 3] = [End::Value, End::Error, End::Panic];

/// Runs the test on both executors, with each end, and checks that everything is dropped.
fn on_every_path(test: impl Fn(&dyn Fn(End) -> ProgressFuture<Item>, End, &Ledger) + Send + 'static) {
    within_deadline(move || {
        let (threads, inline) = (ThreadPoolExecutor::new(1), SyncExecutor::new());
        for end in ENDS {
            let ledger = Ledger::default();
            let submit = |end| {
                let (function, input) = task(&ledger, end);
                threads.submit(function, input)
            };
            test(&submit, end, &ledger);
            eventually("everything is dropped", || ledger.alive() == 0);

            let submit = |end| {
                let (function, input) = task(&ledger, end);
                inline.submit(function, input)
            };
            test(&submit, end, &ledger);
            assert_eq!(ledger.alive(), 0);
        }
    });
}

#[test]
fn awaited() {
    on_every_path(|submit, end, ledger| {
        let outcome = submit(end).wait();
        assert_eq!(ledger.alive(), isize::from(outcome.is_ok()), "only the output is left");
        drop(outcome);
    });
}

#[test]
fn dropped() {
    on_every_path(|submit, end, _| drop(submit(end)));
}

#[test]
fn dropped_while_a_canceller_is_kept() {
    on_every_path(|submit, end, ledger| {
        let task = submit(end);
        let canceller = task.canceller();
        drop(task);
        // The canceller keeps the task, but not what is in it.
        eventually("everything is dropped", || ledger.alive() == 0);
        drop(canceller);
    });
}

#[test]
fn detached() {
    on_every_path(|submit, end, _| submit(end).detach());
}

#[test]
fn cancelled() {
    on_every_path(|submit, end, _| {
        let task = submit(end);
        task.cancel();
        let _ = task.wait();
    });
}

#[test]
fn cancelled_in_the_queue_drops_the_input_at_once() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (gate, barrier) = gate();
        let blocker = executor.spawn(move |_| {
            barrier.pass();
            Ok(())
        });
        gate.wait();
        for drop_the_future in [true, false] {
            let ledger = Ledger::default();
            let (function, input) = task(&ledger, End::Value);
            let waiting = executor.submit(function, input);
            assert_eq!(ledger.alive(), 2);
            if drop_the_future {
                drop(waiting);
                assert_eq!(ledger.alive(), 0);
            } else {
                waiting.cancel();
                assert_eq!(ledger.alive(), 0);
                assert!(waiting.wait().unwrap_err().is_cancelled());
            }
            assert_eq!(ledger.made(), 2, "it never ran");
        }
        gate.open();
        blocker.wait().unwrap();
    });
}

#[test]
fn rejected() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        executor.shutdown().wait();
        let ledger = Ledger::default();
        let (function, input) = task(&ledger, End::Value);
        let task = executor.submit(function, input);
        assert_eq!(ledger.alive(), 0);
        assert!(task.wait().is_err_and(|error| error.is_rejected()));
    });
}

#[test]
fn an_output_that_nobody_takes_is_dropped_with_its_future() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let ledger = Ledger::default();
        let (function, input) = task(&ledger, End::Value);
        let task = executor.submit(function, input);
        let canceller = task.canceller();
        eventually("the task has ended", || task.is_done());
        assert_eq!(ledger.alive(), 1);
        drop(task);
        assert_eq!(ledger.alive(), 0);
        drop(canceller);
    });
}

#[test]
fn callbacks_and_bars_go_with_the_future() {
    let ledger = Ledger::default();
    let (callback, bar) = (ledger.item(), ledger.item());
    let task = SyncExecutor::new().spawn(|_| Ok(()));
    let mut task = task.on_progress(move |_, _| _ = &callback);
    task.add_bar(progress_executor::Triggers::CANCELLED, move || -> crate::bars::Log {
        drop(bar);
        unreachable!("never cancelled")
    });
    smol::block_on(&mut task).unwrap();
    drop(task);
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn dropped_while_it_runs_and_a_canceller_is_kept() {
    within_deadline(|| {
        for detach in [true, false] {
            let executor = ThreadPoolExecutor::new(1);
            let ledger = Ledger::default();
            let (gate, barrier) = gate();
            let maker = ledger.clone();
            let task = executor.spawn(move |_| {
                barrier.pass();
                Ok(maker.item())
            });
            gate.wait();
            let canceller = task.canceller();
            if detach {
                task.detach();
            } else {
                drop(task);
            }
            gate.open();
            executor.shutdown().wait();
            assert_eq!((ledger.made(), ledger.alive()), (1, 0));
            drop(canceller);
        }
    });
}

/// The waker of a poll is dropped with the future that was polled, not with the task, which may take its time.
#[test]
fn whoever_has_polled_is_let_go_of_with_the_future_while_its_task_runs() {
    struct Poller;

    impl Wake for Poller {
        fn wake(self: Arc<Self>) {}
    }

    let ways: [fn(ProgressFuture<()>, &mut Context<'_>); 5] = [
        |mut task, cx| assert!(task.poll_unpin(cx).is_pending()),
        |mut task, cx| {
            assert!(task.poll_unpin(cx).is_pending());
            task.detach();
        },
        |task, cx| {
            let mut events = task.events();
            while events.poll_next_unpin(cx).is_ready() {}
        },
        |task, cx| {
            let mut group: TaskGroup<()> = [task].into_iter().collect();
            group.add_progress_callback(|_, _| ());
            assert!(group.next().poll_unpin(cx).is_pending());
        },
        |task, cx| assert!([task].into_iter().collect::<TaskGroup<()>>().join().poll_unpin(cx).is_pending()),
    ];
    within_deadline(move || {
        for (way, poll_and_drop) in ways.into_iter().enumerate() {
            let executor = ThreadPoolExecutor::new(1);
            let (gate, barrier) = gate();
            let task = executor.spawn(move |_| {
                barrier.pass();
                Ok(())
            });
            gate.wait();
            let poller = Arc::new(Poller);
            poll_and_drop(task, &mut Context::from_waker(&poller.clone().into()));
            assert_eq!(Arc::strong_count(&poller), 1, "way {way}");
            gate.open();
        }
    });
}
