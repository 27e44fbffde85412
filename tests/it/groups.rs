//! Groups: how tasks end together, and how far they have come together.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures::future::FusedFuture as _;
use futures::stream::FusedStream as _;
use futures::{Stream as _, StreamExt};
use progress_executor::{
    CancelCause, Cancelled, Canceller, ExecutorExt, GroupEvent, GroupProgress, Job, ProgressFuture, Status,
    SyncExecutor, TaskErrorKind, TaskGroup, TaskResult, ThreadPoolExecutor, Updater, executor_fn,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::{
    Gate, Hand, busy_pool, count, eventually, gate, let_another_task_run, tick_forever, within_deadline,
};

#[test]
fn counts_that_are_too_large_together_are_as_much_as_can_be_told() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let mut group = TaskGroup::new();
        let (handle, most) = (group.handle(), u64::MAX - 1);
        let _ = handle.progress();
        group.extend((0..3).map(|_| executor.spawn(move |progress| Ok(progress.set_counts(most, most)?))));
        group.join().wait().unwrap();
        let progress = handle.progress();
        assert_eq!((progress.n, progress.total, progress.fraction()), (u64::MAX, Some(u64::MAX), Some(1.0)));
    });
}

#[test]
fn what_is_added_after_a_group_was_cancelled_runs_and_what_is_added_while_it_is_paused_waits() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut group = TaskGroup::new();
        let handle = group.handle();
        group.add(executor.submit(tick_forever, ()));
        handle.cancel();
        handle.pause();
        // This task begins when it is waited for.
        group.add(SyncExecutor::new().spawn(|_| Ok(())));
        assert_eq!(handle.progress().paused, 1);
        handle.resume();
        let outcomes = group.join_all().wait();
        assert!(outcomes[0].as_ref().is_err_and(|error| error.is_cancelled()) && outcomes[1].is_ok(), "{outcomes:?}");
    });
}

const NEVER: Duration = Duration::from_secs(3600);

fn pool(report_interval: Duration) -> ThreadPoolExecutor {
    ThreadPoolExecutor::builder().max_workers(2).report_interval(report_interval).build()
}

/// A task that ends with `value` when the gate is opened.
fn gated<T: Send + 'static>(executor: &ThreadPoolExecutor, value: T) -> (Gate, ProgressFuture<T>) {
    let (gate, barrier) = gate();
    let task = executor.spawn(move |_| {
        barrier.pass();
        Ok(value)
    });
    (gate, task)
}

/// A group of tasks that end with 0, 1 and so on when their gates are opened.
fn gated_group(executor: &ThreadPoolExecutor, tasks: usize) -> (Vec<Gate>, TaskGroup<usize>) {
    (0..tasks).map(|n| gated(executor, n)).unzip()
}

/// A group whose first task runs on the only thread until it is cancelled, so that the many others wait; and the number
/// of those that have run.
fn crowded_group() -> (ThreadPoolExecutor, TaskGroup<()>, Arc<AtomicUsize>) {
    let (executor, ran) = (ThreadPoolExecutor::new(1), Arc::new(AtomicUsize::new(0)));
    let mut group = TaskGroup::new();
    let (gate, barrier) = gate();
    group.add(executor.spawn(move |progress| {
        barrier.pass();
        tick_forever((), progress)
    }));
    gate.wait();
    gate.open();
    group.extend((0..2_000).map(|_| {
        let ran = ran.clone();
        executor.spawn(move |_| Ok(_ = ran.fetch_add(1, Ordering::SeqCst)))
    }));
    (executor, group, ran)
}

/// Everything left in a receiver, once it is closed.
fn rest(updates: &Receiver<GroupProgress>) -> Vec<GroupProgress> {
    smol::block_on(updates.clone().collect())
}

// The outcomes.

#[test]
fn outcomes_come_in_the_order_in_which_the_tasks_end() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(3);
        let mut group = TaskGroup::new();
        let mut tasks = Vec::new();
        for n in 0..3 {
            let (gate, task) = gated(&executor, n);
            tasks.push((gate, group.add(task)));
        }
        for n in [1, 2, 0] {
            let (gate, id) = &tasks[n];
            gate.open();
            let (ended, outcome) = smol::block_on(group.next()).unwrap();
            assert_eq!((ended, outcome.unwrap()), (*id, n));
        }
        assert!(smol::block_on(group.next()).is_none());
    });
}

#[test]
fn a_group_grows_while_it_is_read_and_after_it_has_ended() {
    let (executor, hand) = (SyncExecutor::new(), Hand::new());
    let mut group = TaskGroup::new();
    for _ in 0..2 {
        group.add(executor.spawn(|_| Ok(3)));
        assert!(!group.is_terminated());
        let mut values = Vec::new();
        while let Poll::Ready(Some((_, outcome))) = hand.poll_next(&mut group) {
            let n = outcome.unwrap();
            values.push(n);
            if n > 0 {
                group.add(executor.spawn(move |_| Ok(n - 1)));
                assert_eq!((group.len(), group.size_hint()), (1, (1, Some(1))));
            }
        }
        assert_eq!(values, [3, 2, 1, 0]);
        assert!(group.is_empty() && group.is_terminated());
    }
}

#[test]
fn a_group_can_be_selected_from_while_others_add_to_it() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (mut group, mut values) = (TaskGroup::new(), Vec::new());
        let mut late = executor.spawn(|_| Ok(()));
        smol::block_on(async {
            assert!(group.next().await.is_none());
            loop {
                futures::select! {
                    (_, outcome) = group.select_next_some() => values.push(outcome.unwrap()),
                    _ = late => group.extend((0..3).map(|n| executor.spawn(move |_| Ok(n)))),
                    complete => break,
                }
            }
        });
        assert_eq!(values, [0, 1, 2]);
    });
}

#[test]
fn join_gives_the_values_in_the_order_in_which_the_tasks_were_added() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(3);
        let (gates, group) = gated_group(&executor, 3);
        let (mut join, hand) = (group.join(), Hand::new());
        for n in [2, 0] {
            assert!(hand.poll(&mut join).is_pending());
            let seen = hand.wakes();
            gates[n].open();
            hand.wait_for_wake(seen);
        }
        gates[1].open();
        assert_eq!(smol::block_on(&mut join).unwrap(), [0, 1, 2]);
        assert!(join.is_terminated() && hand.poll(&mut join).is_pending());
    });
}

#[test]
fn join_leaves_out_what_the_stream_has_handed_out() {
    let executor = SyncExecutor::new();
    let group = || (0..4).map(|n| executor.spawn(move |_| Ok(n))).collect::<TaskGroup<_>>();
    let mut joined = group();
    smol::block_on(joined.next()).unwrap().1.unwrap();
    assert_eq!(joined.join().wait().unwrap(), [1, 2, 3]);
    let mut joined = group();
    smol::block_on(joined.next()).unwrap().1.unwrap();
    assert_eq!(joined.join_all().wait().into_iter().collect::<Result<Vec<_>, _>>().unwrap(), [1, 2, 3]);
}

#[test]
fn the_first_failure_cancels_the_rest_and_join_waits_for_their_ends() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(4);
        let ended = Arc::new(AtomicUsize::new(0));
        let (trigger, failing) = gate();
        let mut group = TaskGroup::new();
        let early = executor.submit(count, 5);
        eventually("it has ended", || early.is_done());
        group.add(early);
        let gates: Vec<_> = (0..3)
            .map(|_| {
                let ((gate, barrier), ended) = (gate(), ended.clone());
                group.add(executor.spawn(move |progress| {
                    barrier.pass();
                    while progress.update(1).is_ok() {}
                    barrier.pass();
                    ended.fetch_add(1, Ordering::SeqCst);
                    Err(Cancelled.into())
                }));
                gate
            })
            .collect();
        for gate in &gates {
            gate.wait();
            gate.open();
        }
        let culprit = group.add(executor.spawn(move |progress| {
            progress.set_counts(1, 4)?;
            failing.pass();
            Err("out of paper".into())
        }));
        trigger.wait();
        let (mut join, hand) = (group.join(), Hand::new());
        assert!(hand.poll(&mut join).is_pending());
        let seen = hand.wakes();
        trigger.open();
        hand.wait_for_wake(seen);
        assert!(hand.poll(&mut join).is_pending());
        gates.iter().for_each(Gate::wait);
        assert!(hand.poll(&mut join).is_pending(), "they have noticed, and not ended");
        gates.iter().for_each(Gate::open);
        let error = smol::block_on(join).unwrap_err();
        assert_eq!(ended.load(Ordering::SeqCst), 3);
        assert_eq!((error.id(), error.kind(), error.others()), (culprit, &TaskErrorKind::Failed, 0));
        assert!(error.to_string().ends_with(" failed at 25 %"), "{error}");
    });
}

/// Joins a task that fails with others that notice it and then end in the given ways.
fn fail_with(others: Vec<fn() -> TaskResult<()>>) -> progress_executor::TaskError {
    within_deadline(move || {
        let executor = ThreadPoolExecutor::new(others.len() + 1);
        let mut group = TaskGroup::new();
        let gates: Vec<_> = others
            .into_iter()
            .map(|end| {
                let (gate, barrier) = gate();
                group.add(executor.spawn(move |progress| {
                    barrier.pass();
                    while progress.update(1).is_ok() {}
                    end()
                }));
                gate
            })
            .collect();
        for gate in &gates {
            gate.wait();
            gate.open();
        }
        group.add(executor.task(|(), _| Err("first".into()), ()).name("culprit").submit());
        let error = group.join().wait().unwrap_err();
        assert_eq!(error.name(), "culprit");
        error
    })
}

#[test]
fn the_error_counts_the_further_failures() {
    let cancelled: fn() -> TaskResult<()> = || Err(Cancelled.into());
    let error = fail_with(vec![cancelled, || Ok(())]);
    assert_eq!(error.others(), 0);
    assert!(!error.to_string().contains("its group"), "{error}");

    let error = fail_with(vec![cancelled, || Err("second".into())]);
    assert_eq!(error.others(), 1);
    assert!(error.to_string().ends_with(", and another task of its group failed"), "{error}");

    let error = fail_with(vec![|| Err("second".into()), cancelled, || panic_any("third")]);
    assert_eq!(error.others(), 2);
    assert!(error.to_string().ends_with(", and 2 other tasks of its group failed"), "{error}");
}

#[test]
fn a_task_that_somebody_else_has_cancelled_fails_its_group() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut group = TaskGroup::new();
        let task = executor.spawn(|progress| tick_forever((), progress));
        let canceller = task.canceller();
        group.add(task);
        group.add(executor.submit(|(), progress: &Updater| tick_forever((), progress), ()));
        canceller.cancel();
        let error = group.join().wait().unwrap_err();
        assert_eq!((error.kind(), error.others()), (&TaskErrorKind::Cancelled(CancelCause::Requested), 0));
    });
}

#[test]
fn join_all_keeps_every_outcome_in_order() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let (blocked, task) = gated(&executor, 0);
        let mut group = TaskGroup::from_iter([task]);
        group.add(executor.spawn(|_| Err("out of paper".into())));
        group.add(executor.spawn(|_| panic_any("out of ink")));
        group.add(executor.spawn(|_| Ok(3)));
        let cancelled = executor.spawn(|_| Ok(4));
        cancelled.pause();
        cancelled.cancel();
        group.add(cancelled);
        let (mut all, hand) = (group.join_all(), Hand::new());
        assert!(hand.poll(&mut all).is_pending());
        blocked.open();
        let outcomes = smol::block_on(&mut all);
        assert!(all.is_terminated() && hand.poll(&mut all).is_pending());
        assert_eq!(outcomes.len(), 5);
        let error = |n: usize| outcomes[n].as_ref().unwrap_err();
        assert_eq!((outcomes[0].as_ref().unwrap(), outcomes[3].as_ref().unwrap()), (&0, &3));
        assert!(error(1).is_failed() && error(2).is_panic() && error(4).is_cancelled());
        assert_eq!(error(1).others(), 0, "nobody has joined them");
    });
}

#[test]
fn a_panic_is_the_error_of_its_group() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let group: TaskGroup<()> = (0..3).map(|_| executor.spawn(|_| panic_any("out of ink"))).collect();
        let error = group.join().wait().unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.into_panic().unwrap().downcast_ref(), Some(&"out of ink"));
    });
}

#[test]
fn an_empty_group_is_over() {
    let hand = Hand::new();
    assert!(matches!(hand.poll_next(&mut TaskGroup::<u32>::new()), Poll::Ready(None)));
    assert!(matches!(hand.poll(&mut TaskGroup::<u32>::new().join()), Poll::Ready(Ok(values)) if values.is_empty()));
    assert!(matches!(hand.poll(&mut TaskGroup::<u32>::new().join_all()), Poll::Ready(all) if all.is_empty()));
    let group = TaskGroup::<u32>::default();
    group.cancel();
    group.pause();
    assert_eq!((group.len(), group.progress().fraction(), group.progress().total), (0, None, None));
    assert_eq!(group.progress().eta(), None);
}

#[test]
fn a_future_that_has_resolved_is_not_added() {
    let executor = SyncExecutor::new();
    let mut group = TaskGroup::new();
    let mut resolved = executor.spawn(|_| Ok(1));
    smol::block_on(&mut resolved).unwrap();
    let id = resolved.id();
    assert_eq!(group.add(resolved), id);
    assert!(group.is_empty());
    assert_eq!(group.progress().tasks(), 0);
    group.add(executor.spawn(|_| Ok(2)));
    assert_eq!(group.join().wait().unwrap(), [2]);
}

#[test]
fn ten_thousand_tasks() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(2);
        let mut group: TaskGroup<_> = (0..10_000).map(|n| executor.submit(count, n % 7)).collect();
        let mut ended = 0;
        while let Some((_, outcome)) = smol::block_on(group.next()) {
            outcome.unwrap();
            ended += 1;
            if ended % 1_000 == 0 {
                let progress = group.progress();
                assert!(progress.finished >= ended && progress.tasks() == 10_000);
            }
        }
        assert_eq!((ended, group.progress().finished, group.progress().fraction()), (10_000, 10_000, Some(1.0)));
    });
}

// Cancelling and pausing groups.

#[test]
fn cancelling_leaves_those_that_wait_no_chance_to_start() {
    type Way = fn(TaskGroup<()>);
    let ways: [(&str, Way); 4] = [
        ("cancel", |group| {
            group.cancel();
            let outcomes = group.join_all().wait();
            let is_requested = |error: &progress_executor::TaskError| {
                *error.kind() == TaskErrorKind::Cancelled(CancelCause::Requested)
            };
            assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(is_requested)));
        }),
        ("drop", |group| drop(group)),
        ("drop join", |group| drop(group.join())),
        ("drop join_all", |group| drop(group.join_all())),
    ];
    for (name, way) in ways {
        within_deadline(move || {
            let (executor, group, ran) = crowded_group();
            way(group);
            executor.shutdown().wait();
            assert_eq!(ran.load(Ordering::SeqCst), 0, "{name}");
        });
    }
}

#[test]
fn a_failure_leaves_those_that_wait_no_chance_to_start() {
    within_deadline(|| {
        let (executor, mut group, ran) = crowded_group();
        group.add(SyncExecutor::new().spawn(|_| Err("out of paper".into())));
        assert!(group.join().wait().unwrap_err().is_failed());
        executor.shutdown().wait();
        assert_eq!(ran.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn dropping_a_group_drops_the_outcomes_and_says_why_its_tasks_end() {
    within_deadline(|| {
        type Way = fn(TaskGroup<Arc<()>>);
        let ways: [Way; 3] = [|group| drop(group), |group| drop(group.join()), |group| drop(group.join_all())];
        for way in ways {
            let executor = ThreadPoolExecutor::new(2);
            let output = Arc::new(());
            let kept = output.clone();
            let ended = executor.spawn(move |_| Ok(kept));
            eventually("it has ended", || ended.is_done());
            let running = executor.spawn(|progress| tick_forever((), progress).map(Arc::new));
            let (canceller, updates) = (running.canceller(), running.updates());
            way([ended, running].into_iter().collect());
            assert!(canceller.is_cancelled());
            let states: Vec<_> = smol::block_on(updates.collect());
            assert_eq!(states.last().unwrap().status, Status::Cancelled);
            assert_eq!(Arc::strong_count(&output), 1);
        }
    });
}

#[test]
fn a_paused_group_waits_and_so_does_what_is_added_to_it() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(3);
        let mut group: TaskGroup<()> = (0..2).map(|_| executor.spawn(|progress| tick_forever((), progress))).collect();
        eventually("both run", || group.progress().running == 2);
        group.pause();
        group.add(executor.spawn(|progress| tick_forever((), progress)));
        eventually("all wait", || group.progress().paused == 3);
        let paused = group.progress();
        let_another_task_run();
        assert_eq!(group.progress(), paused);
        assert!(paused.elapsed > Duration::ZERO);
        group.resume();
        eventually("all run", || group.progress().running == 3);
        assert!(group.progress().n > paused.n);
        group.cancel();
        assert!(group.join_all().wait().iter().all(Result::is_err));
    });
}

#[test]
fn joining_resumes_a_paused_group() {
    within_deadline(|| {
        let group = || {
            let (executor, gate) = busy_pool();
            let mut group = TaskGroup::new();
            group.pause();
            group.extend((0..3).map(|n| executor.submit(count, n)));
            gate.open();
            // The paused tasks leave their places to this one.
            executor.spawn(|_| Ok(())).wait().unwrap();
            assert_eq!(group.progress().paused, 3);
            group
        };
        assert_eq!(group().join().wait().unwrap(), [0, 1, 2]);
        assert_eq!(group().join_all().wait().len(), 3);
    });
}

#[test]
fn a_callback_that_panics_costs_its_group_no_outcome() {
    within_deadline(|| {
        let executor = SyncExecutor::new();
        let task = |n| executor.spawn(move |progress| Ok(progress.update(1).map(|()| n)?));
        let mut join = [task(1), task(2).on_progress(|_, _| panic_any("callback")), task(3)]
            .into_iter()
            .collect::<TaskGroup<_>>()
            .join();
        let payload = catch_unwind(AssertUnwindSafe(|| smol::block_on(&mut join))).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"callback"));
        assert_eq!(smol::block_on(join).unwrap(), [1, 2, 3]);
    });
}

// The progress of groups.

/// What a task of the property test is told to do.
enum Order {
    Count(u64, u64),
    End(End),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Value,
    Error,
    Panic,
    Cancelled,
}

/// What happens to a group; a step that does not apply is skipped.
#[derive(Clone, Debug)]
enum Step {
    Add { paused: bool },
    Start(Index),
    Count(Index, u64, Option<u64>),
    Cancel(Index),
    End(Index, End),
    HandOut,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (index, number) = (any::<Index>(), 0..40_u64);
    let end = prop_oneof![Just(End::Value), Just(End::Error), Just(End::Panic), Just(End::Cancelled)];
    let step = prop_oneof![
        3 => prop::bool::weighted(0.1).prop_map(|paused| Step::Add { paused }),
        3 => index.clone().prop_map(Step::Start),
        8 => (index.clone(), number.clone(), prop::option::weighted(0.8, number)).prop_map(|(i, n, total)| Step::Count(i, n, total)),
        1 => index.clone().prop_map(Step::Cancel),
        2 => (index, end).prop_map(|(i, end)| Step::End(i, end)),
        1 => Just(Step::HandOut),
    ];
    vec(step, 1..60)
}

/// A task that does what it is told, and what the test knows of it.
struct Puppet {
    /// `None` once it runs.
    job: Option<Job>,
    thread: Option<thread::JoinHandle<()>>,
    orders: mpsc::Sender<Order>,
    done: mpsc::Receiver<()>,
    canceller: Canceller,
    status: Status,
    n: u64,
    total: Option<u64>,
}

impl Puppet {
    fn new(paused: bool) -> (Self, ProgressFuture<()>) {
        let ((orders, told), (tell, done)) = (mpsc::channel(), mpsc::channel());
        let job = Mutex::new(None);
        let executor = executor_fn(|new: Job| *job.lock().unwrap() = Some(new));
        let obey = move |(), progress: &Updater| loop {
            match told.recv()? {
                Order::Count(n, total) => {
                    let _ = progress.set_counts(n, total);
                    tell.send(())?;
                }
                Order::End(End::Value) => return Ok(()),
                Order::End(End::Error) => return Err("told to fail".into()),
                Order::End(End::Panic) => std::panic::resume_unwind(Box::new("told to panic")),
                Order::End(End::Cancelled) => return Err(Cancelled.into()),
            }
        };
        let task = executor.submit(obey, ());
        if paused {
            task.pause();
        }
        let puppet = Self {
            job: job.lock().unwrap().take(),
            thread: None,
            orders,
            done,
            canceller: task.canceller(),
            status: if paused { Status::Paused } else { Status::Pending },
            n: 0,
            total: None,
        };
        (puppet, task)
    }

    fn start(&mut self) {
        if self.status == Status::Pending {
            let job = self.job.take().unwrap();
            self.thread = Some(thread::spawn(move || job.run()));
            self.status = Status::Running;
            // Counts nothing, but tells when it has begun.
            self.count(0, None);
        }
    }

    /// Returns whether a known total has grown.
    fn count(&mut self, n: u64, total: Option<u64>) -> bool {
        if !matches!(self.status, Status::Running | Status::Cancelling) {
            return false;
        }
        self.orders.send(Order::Count(n, total.unwrap_or(u64::MAX))).unwrap();
        self.done.recv().unwrap();
        let before = std::mem::replace(&mut self.total, total);
        self.n = n;
        matches!((before, total), (Some(before), Some(total)) if total > before)
    }

    fn cancel(&mut self) {
        self.canceller.cancel();
        self.status = match self.status {
            Status::Pending | Status::Paused => Status::Cancelled,
            Status::Running => Status::Cancelling,
            other => other,
        };
    }

    fn end(&mut self, end: End) {
        if self.status.is_terminal() {
            return;
        }
        match self.thread.take() {
            Some(thread) => {
                self.orders.send(Order::End(end)).unwrap();
                thread.join().unwrap();
            }
            None => drop(self.job.take()),
        }
        self.status = match (self.status, end) {
            (Status::Running | Status::Cancelling, End::Value) => Status::Finished,
            (Status::Cancelling, End::Cancelled) => Status::Cancelled,
            _ => Status::Failed,
        };
    }

    /// How much there is to do, and how much of that is done, if that is known.
    fn work(&self) -> Option<(u64, u64)> {
        match self.total {
            _ if self.status.is_terminal() => Some((self.n, self.n)).filter(|&(n, _)| n > 0),
            Some(total) => Some((total.max(self.n), self.n)),
            None => None,
        }
    }
}

fn fraction(puppets: &[Puppet]) -> Option<f64> {
    let known: Vec<_> = puppets.iter().filter_map(Puppet::work).collect();
    let (work, done) = known.iter().fold((0, 0), |sum, task| (sum.0 + task.0, sum.1 + task.1));
    let unknown = puppets.iter().filter(|task| task.work().is_none());
    let unknown_ended = unknown.clone().filter(|task| task.status.is_terminal()).count();
    let average = if work > 0 { work as f64 / known.len() as f64 } else { 1.0 };
    let whole = work as f64 + average * unknown.count() as f64;
    let done = done as f64 + average * unknown_ended as f64;
    (!puppets.is_empty()).then(|| if whole > 0.0 { done / whole } else { 1.0 })
}

fn check(progress: &GroupProgress, puppets: &[Puppet]) {
    use Status::{Cancelled, Cancelling, Failed, Finished, Paused, Pending, Running};
    for status in [Pending, Running, Paused, Cancelling, Finished, Failed, Cancelled] {
        let expected = puppets.iter().filter(|task| task.status == status).count();
        assert_eq!(progress.count(status), expected, "{status}");
    }
    assert_eq!((progress.tasks(), progress.n), (puppets.len(), puppets.iter().map(|task| task.n).sum()));
    let total = |task: &Puppet| {
        if task.status.is_terminal() { Some(task.n) } else { task.total.map(|total| total.max(task.n)) }
    };
    let total = puppets.iter().map(total).sum::<Option<u64>>();
    assert_eq!(progress.total, total.filter(|_| !puppets.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn progress_is_what_a_plain_computation_makes_of_the_tasks(steps in steps(), first_look in 0..60_usize) {
        let (mut group, mut puppets, hand) = (TaskGroup::new(), Vec::<Puppet>::new(), Hand::new());
        let (mut shown, mut has_grown) = (0.0, false);
        for (number, step) in steps.into_iter().enumerate() {
            let at = |index: Index| (!puppets.is_empty()).then(|| index.index(puppets.len()));
            match step {
                Step::Add { paused } => {
                    let (puppet, task) = Puppet::new(paused);
                    puppets.push(puppet);
                    group.add(task);
                    has_grown = true;
                }
                Step::Start(index) => at(index).into_iter().for_each(|i| puppets[i].start()),
                Step::Count(index, n, total) => has_grown = at(index).is_some_and(|i| puppets[i].count(n, total)),
                Step::Cancel(index) => at(index).into_iter().for_each(|i| puppets[i].cancel()),
                Step::End(index, end) => at(index).into_iter().for_each(|i| puppets[i].end(end)),
                Step::HandOut => drop(hand.poll_next(&mut group)),
            }
            if number < first_look {
                continue;
            }
            let progress = group.progress();
            check(&progress, &puppets);
            let computed = fraction(&puppets);
            shown = if has_grown || number == first_look { computed.unwrap_or(0.0) } else { computed.unwrap_or(0.0).max(shown) };
            match progress.fraction() {
                None => assert_eq!(computed, None),
                Some(fraction) => {
                    assert!((fraction - shown).abs() < 1e-9, "{fraction} is not {shown}");
                    assert!((0.0..=1.0).contains(&fraction));
                }
            }
            has_grown = false;
        }
        puppets.iter_mut().for_each(|puppet| puppet.end(End::Value));
        check(&group.progress(), &puppets);
        assert_eq!(group.progress().fraction(), (!puppets.is_empty()).then_some(1.0));
    }
}

#[test]
fn the_fraction_stands_still_where_a_task_turns_out_to_be_larger() {
    let (mut puppets, tasks): (Vec<_>, Vec<_>) = (0..2).map(|_| Puppet::new(false)).unzip();
    let group: TaskGroup<_> = tasks.into_iter().collect();
    let fraction = || group.progress().fraction().unwrap();
    puppets.iter_mut().for_each(Puppet::start);
    puppets[0].count(10, Some(10));
    assert_eq!(fraction(), 0.5);
    puppets[1].count(0, Some(990));
    assert_eq!(fraction(), 0.5, "and not 0.01");
    puppets[1].count(590, Some(990));
    assert_eq!(fraction(), 0.6);
    puppets[0].count(11, Some(10));
    puppets[1].count(500, Some(990));
    assert_eq!(fraction(), 0.6, "what was counted beyond a total is not a total that grows");
    puppets[1].count(500, Some(1_989));
    assert!(fraction() < 0.3, "a total that grows is");
    puppets.iter_mut().for_each(|puppet| puppet.end(End::Value));
}

#[test]
fn a_part_under_way_counts() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (gate, barrier) = gate();
        let mut group = TaskGroup::new();
        group.add(executor.spawn(move |progress| {
            progress.set_total(2);
            let part = progress.split(1);
            part.set_counts(1, 2)?;
            barrier.pass();
            Ok(())
        }));
        gate.wait();
        let progress = group.progress();
        assert_eq!((progress.n, progress.total, progress.fraction()), (0, Some(2), Some(0.25)));
        gate.open();
        group.join().wait().unwrap();
    });
}

#[test]
fn two_threads_may_be_the_first_to_look() {
    within_deadline(|| {
        let executor = SyncExecutor::new();
        for _ in 0..200 {
            let group: TaskGroup<()> = (0..100).map(|_| executor.spawn(|_| Ok(()))).collect();
            let start = Barrier::new(2);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        start.wait();
                        assert_eq!(group.progress().tasks(), 100);
                    });
                }
            });
        }
    });
}

#[test]
fn elapsed_is_the_time_in_which_something_runs() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut group = TaskGroup::new();
        let ((open, barrier), (second, task)) = (gate(), gated(&executor, ()));
        second.wait();
        group.add(executor.spawn(move |progress| {
            progress.set_counts(1, 4)?;
            barrier.pass();
            Ok(())
        }));
        let waiting = group.progress();
        assert_eq!((waiting.pending, waiting.elapsed, waiting.rate(), waiting.eta()), (1, Duration::ZERO, 0.0, None));
        second.open();
        task.wait().unwrap();
        open.wait();
        let running = group.progress();
        eventually("time passes", || group.progress().elapsed > running.elapsed);
        let (seconds, rate) = (running.elapsed.as_secs_f64(), running.rate());
        assert!((rate * seconds - 1.0).abs() < 1e-6);
        assert!((running.eta().unwrap().as_secs_f64() - 3.0 * seconds).abs() < 1e-6);
        open.open();
        smol::block_on(group.next()).unwrap().1.unwrap();
        let ended = group.progress();
        let_another_task_run();
        assert_eq!(group.progress(), ended);
        assert_eq!(ended.eta(), Some(Duration::ZERO));
    });
}

#[test]
fn progress_that_is_first_asked_for_at_the_end_knows_all_tasks_and_their_time() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut group = TaskGroup::new();
        let (lasted, time) = mpsc::channel();
        group.add(executor.spawn(move |progress| {
            let start = Instant::now();
            let n = count(3, progress)?;
            lasted.send(start.elapsed())?;
            Ok(n)
        }));
        smol::block_on(group.next()).unwrap().1.unwrap();
        let unread = executor.submit(count, 4);
        eventually("it has ended", || unread.is_done());
        group.add(unread);
        let progress = group.progress();
        assert_eq!((progress.n, progress.total, progress.finished), (7, Some(7), 2));
        assert!(progress.elapsed >= time.recv().unwrap());
        assert_eq!(group.progress(), progress);
    });
}

#[test]
fn events_show_all_tasks_of_the_group_at_any_time() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut group = TaskGroup::new();
        for n in 0..3 {
            let task = executor.spawn(move |progress| {
                progress.println(n);
                count(n, progress)
            });
            eventually("it has ended", || task.is_done());
            group.add(task);
        }
        let events: Vec<_> = futures::executor::block_on_stream(group.events()).collect();
        let shown = |event: &GroupEvent<_>| if let GroupEvent::Progress(it) = event { Some(it.tasks()) } else { None };
        assert!(events.iter().filter_map(shown).all(|tasks| tasks == 3), "{events:?}");
        let lines = events.iter().filter(|event| matches!(event, GroupEvent::Line(..)));
        assert_eq!(lines.count(), 3);
    });
}

#[test]
fn events_do_not_go_back_to_what_waited_to_be_shown_before_them() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut group = TaskGroup::new().on_progress(|_, _| {});
        for n in 1..=3 {
            let task = executor.spawn(move |progress| {
                progress.println(n);
                count(n, progress)
            });
            eventually("it has ended", || task.is_done());
            group.add(task);
        }
        let mut last = 0;
        for event in futures::executor::block_on_stream(group.events()) {
            if let GroupEvent::Progress(progress) = event {
                assert!(progress.finished >= last, "{progress:?} after {last}");
                last = progress.finished;
            }
        }
        assert_eq!(last, 3);
    });
}

#[test]
fn time_in_which_nothing_ran_does_not_count_whenever_progress_is_first_asked_for() {
    within_deadline(|| {
        let (executor, start) = (ThreadPoolExecutor::new(1), Instant::now());
        let mut group = TaskGroup::new();
        let handle = group.handle();
        group.add(executor.submit(count, 3));
        smol::block_on(group.next()).unwrap().1.unwrap();
        let idle = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
        let idle = idle.elapsed();
        group.add(executor.submit(count, 4));
        group.join().wait().unwrap();
        let progress = handle.progress();
        assert!(progress.elapsed > Duration::ZERO && progress.elapsed <= start.elapsed() - idle, "{progress:?}");
    });
}

#[test]
fn progress_that_is_first_asked_for_midway_counts_the_time_from_the_start() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let (gate, barrier) = gate();
        let mut group = TaskGroup::new();
        let (begun, start) = mpsc::channel();
        group.add(executor.spawn(move |_| {
            begun.send(Instant::now())?;
            barrier.pass();
            Ok(())
        }));
        gate.wait();
        let time = start.recv().unwrap().elapsed();
        assert!(group.progress().elapsed >= time);
        gate.open();
        group.join().wait().unwrap();
    });
}

// Updates.

#[test]
fn updates_start_with_the_current_state() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let mut group = TaskGroup::new();
        assert_eq!(group.updates().try_recv().unwrap(), GroupProgress::default());
        group.add(pool(NEVER).spawn(move |progress| {
            progress.set_counts(3, 5)?;
            barrier.pass();
            Ok(())
        }));
        gate.wait();
        let now = group.updates().try_recv().unwrap();
        assert_eq!((now.n, now.total, now.running), (3, Some(5), 1));
        gate.open();
    });
}

#[test]
fn updates_need_nobody_to_poll_the_group() {
    within_deadline(|| {
        let executor = pool(Duration::from_millis(1));
        let group: TaskGroup<_> = (0..10).map(|_| executor.submit(count, 1_000)).collect();
        let updates = group.updates();
        let mut last = updates.recv_blocking().unwrap();
        while last.finished < 10 {
            let next = updates.recv_blocking().unwrap();
            assert!(next.finished >= last.finished && next.elapsed >= last.elapsed);
            last = next;
        }
        assert_eq!((last.n, last.fraction()), (10_000, Some(1.0)));
        assert_eq!(group.len(), 10);
    });
}

/// A task that counts up to `end`, and arrives at the barrier before each step.
fn stepping(executor: &ThreadPoolExecutor, end: u64) -> (Gate, ProgressFuture<()>) {
    let (gate, barrier) = gate();
    let task = executor.spawn(move |progress| {
        for n in 1..=end {
            barrier.pass();
            progress.set_position(n)?;
        }
        barrier.pass();
        Ok(())
    });
    gate.wait();
    (gate, task)
}

/// Returns when another group with the usual interval has shown an update that was not due at once.
fn an_update_is_due_elsewhere() {
    let (gate, task) = stepping(&ThreadPoolExecutor::new(1), 2);
    let group = TaskGroup::from_iter([task]);
    let updates = group.updates();
    for _ in 0..2 {
        gate.open();
        gate.wait();
    }
    while updates.recv_blocking().unwrap().n < 2 {}
    gate.open();
}

#[test]
fn there_is_one_update_per_report_interval() {
    shows_the_first_and_the_last_change_only(NEVER);
    shows_the_first_and_the_last_change_only(Duration::MAX);
}

fn shows_the_first_and_the_last_change_only(report_interval: Duration) {
    within_deadline(move || {
        let (gate, task) = stepping(&pool(report_interval), 2);
        let mut group = TaskGroup::new();
        let updates = group.updates();
        updates.try_recv().unwrap();
        group.add(task);
        assert_eq!(updates.try_recv().unwrap().running, 1, "the first change is shown at once");
        for _ in 0..2 {
            gate.open();
            gate.wait();
        }
        an_update_is_due_elsewhere();
        assert!(updates.is_empty());
        assert_eq!(group.progress().n, 2);
        gate.open();
        group.join().wait().unwrap();
        let rest = rest(&updates);
        assert_eq!((rest.len(), rest[0].n, rest[0].finished), (1, 2, 1), "but for the last state");
    });
}

#[test]
fn an_interval_of_zero_shows_every_change() {
    within_deadline(|| {
        let (gate, task) = stepping(&pool(Duration::ZERO), 50);
        let mut group = TaskGroup::new();
        let updates = group.updates();
        group.add(task);
        for n in 1..=50 {
            gate.open();
            gate.wait();
            assert_eq!(updates.try_recv().unwrap().n, n);
        }
        gate.open();
        group.join().wait().unwrap();
    });
}

#[test]
fn what_comes_within_an_interval_is_shown_at_its_end() {
    within_deadline(|| {
        let (gate, task) = stepping(&pool(Duration::from_millis(5)), 10);
        let group = TaskGroup::from_iter([task]);
        let updates = group.updates();
        for _ in 0..10 {
            gate.open();
            gate.wait();
        }
        // The task waits at the barrier while this is received.
        while updates.recv_blocking().unwrap().n < 10 {}
        gate.open();
    });
}

#[test]
fn updates_never_go_back_however_often_somebody_looks() {
    within_deadline(|| {
        let executor = pool(Duration::from_micros(50));
        let group: TaskGroup<()> = (0..2).map(|_| executor.spawn(|progress| tick_forever((), progress))).collect();
        for _ in 0..2_000 {
            let updates = group.updates();
            let mut last = updates.recv_blocking().unwrap();
            for _ in 0..3 {
                let _ = group.progress();
                let next = updates.recv_blocking().unwrap();
                assert!(next.n >= last.n && next.elapsed >= last.elapsed, "{last:?}, {next:?}");
                last = next;
            }
        }
    });
}

#[test]
fn every_receiver_has_the_last_state_and_is_closed_when_join_resolves() {
    within_deadline(|| {
        for interval in [Duration::ZERO, Duration::from_micros(20), Duration::from_millis(1), NEVER] {
            let executor = pool(interval);
            for n in 0..300 {
                let group: TaskGroup<_> = (0..3).map(|_| executor.submit(count, n)).collect();
                let receivers = [group.updates(), group.updates(), group.updates()];
                drop(group.updates());
                group.join().wait().unwrap();
                for updates in receivers {
                    assert!(updates.is_closed());
                    let last = updates.try_recv().unwrap();
                    assert_eq!((last.n, last.finished, last.fraction()), (3 * n, 3, Some(1.0)));
                    assert!(updates.is_empty());
                }
            }
        }
    });
}

#[test]
fn updates_outlive_a_dropped_group_until_its_last_task_has_ended() {
    within_deadline(|| {
        let (executor, gate) = busy_pool();
        let (waits, task) = gated(&ThreadPoolExecutor::new(1), ());
        waits.wait();
        let group: TaskGroup<()> = [task, executor.spawn(|_| Ok(()))].into_iter().collect();
        let updates = group.updates();
        drop(group);
        let dropped = updates.recv_blocking().unwrap();
        assert_eq!((dropped.cancelling, dropped.cancelled), (1, 1));
        assert!(!updates.is_closed(), "a task runs on");
        waits.open();
        let last = rest(&updates).pop().unwrap();
        assert_eq!((last.finished, last.cancelled, last.fraction()), (1, 1, Some(1.0)));
        gate.open();
    });
}

#[test]
fn updates_of_an_empty_group_end_with_it() {
    let group = TaskGroup::<()>::new();
    let updates = group.updates();
    drop(group);
    assert_eq!(rest(&updates), [GroupProgress::default()]);
}

#[test]
fn a_group_is_not_complete_while_something_is_left() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        // A second pass over the same items, and one unit of more than a float can tell apart.
        for (first, second) in [((5, 5), (0, 5)), ((0, 1 << 60), ((1 << 60) - 1, 1 << 60))] {
            let (send, receive) = std::sync::mpsc::channel::<()>();
            let mut group = TaskGroup::new();
            group.add(executor.spawn(move |progress| {
                for (n, total) in [first, second] {
                    progress.set_counts(n, total)?;
                    receive.recv()?;
                }
                Ok(progress.set_counts(second.1, second.1)?)
            }));
            eventually("the first pass", || group.progress().running == 1 && group.progress().n == first.0);
            send.send(()).unwrap();
            eventually("the second pass", || group.progress().n == second.0);
            let fraction = group.progress().fraction().unwrap();
            assert!(fraction < 1.0, "{fraction}");
            send.send(()).unwrap();
            group.join().wait().unwrap();
        }
    });
}
