//! Delivers what the leader has received, which may call user code.
//!
//! When such code is about to wait, its thread [hands over](crate::sync::duty): it puts what it has not begun into
//! the [backlog](super::backlog), and steps down if it leads. A resident is replaced by another thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::process::pool::backlog::{Deferred, Deliverer};
use crate::process::pool::launch::Failure;
use crate::process::pool::leader::Lead;
use crate::process::pool::outcome::{cancelled_kind, loss, result_of};
use crate::process::pool::queued::{ItemsEnded, Kinds, News, Queued};
use crate::process::pool::remote::RemoteTask;
use crate::process::pool::scheduler::events::{Action, Event, Task};
use crate::process::pool::shared::{Drive, Pool};
use crate::process::pool::standby::Call;
use crate::sync::block_on::{Reactor, Sleeper};
use crate::sync::clock;
use crate::sync::duty::{Duty, on_duty};
use crate::task::{transitions, watchdog};

/// What a thread has to deliver.
struct Delivery {
    pool: Arc<Pool>,
    deliverer: Deliverer,
    rest: RefCell<VecDeque<Deferred>>,
    /// The time of the clock after which all of it has arrived.
    since: u64,
    /// The task whose item is being delivered.
    item_of: Cell<Option<u64>>,
}

impl Pool {
    /// One turn of the leader: the resident, unless there is a guest.
    pub(super) fn turn<V: Fn()>(
        self: &Arc<Self>,
        lead: &mut Lead<'_, Box<dyn Drive>, Sleeper, V>,
        guest: Option<&Sleeper>,
    ) {
        let deliverer = if guest.is_some() { Deliverer::Guest } else { Deliverer::LeadingResident };
        match lead.driven().map(|driver| driver.turn(guest)) {
            Some(received) if !received.is_empty() => lead.aside(|| self.deliver(received, deliverer)),
            _ => self.note_delivered(),
        }
    }

    /// Delivers a batch. Returns `false` if the rest was handed over meanwhile.
    pub(super) fn deliver(self: &Arc<Self>, batch: Vec<Deferred>, deliverer: Deliverer) -> bool {
        let is_left = self.deliver_batch(VecDeque::from(batch), self.heard_at.get(), deliverer);
        if is_left {
            self.note_delivered();
        }
        is_left
    }

    /// Notes that all that was received is delivered or deferred.
    pub(super) fn note_delivered(&self) {
        self.is_delivering.store(false, Ordering::SeqCst);
        if self.is_done.load(Ordering::SeqCst) {
            self.waiting.wake_all();
        }
    }

    /// Does what other threads have left to the resident.
    pub(super) fn work_off(self: &Arc<Self>) {
        while self.backlog.has_next() {
            let (batch, since) = self.backlog.next();
            if !self.deliver_batch(batch, since, Deliverer::Resident) {
                return;
            }
            self.backlog.be_done();
            if self.lock().scheduler.is_done() {
                self.waiting.wake_all();
            }
        }
    }

    fn deliver_batch(self: &Arc<Self>, batch: VecDeque<Deferred>, since: u64, deliverer: Deliverer) -> bool {
        let count = match deliverer {
            Deliverer::Guest => self.backlog.count_for_guest(&batch),
            // What is in the backlog comes first.
            Deliverer::LeadingResident if !self.backlog.is_empty() => 0,
            Deliverer::LeadingResident | Deliverer::Resident => usize::MAX,
        };
        let rest = RefCell::new(batch);
        let delivery = Rc::new(Delivery { pool: self.clone(), deliverer, rest, since, item_of: Cell::new(None) });
        let is_left = on_duty(delivery.clone(), || delivery.run(count));
        if let Some(task) = delivery.item_of.take().filter(|_| !is_left) {
            self.backlog.release(task);
            self.interrupt();
            self.call_resident();
        }
        is_left
    }

    pub(super) fn carry_out_all(&self, actions: Vec<Action<Kinds>>) {
        if actions.is_empty() {
            return;
        }
        let received_at = clock::now();
        actions.into_iter().for_each(|action| self.carry_out(action, received_at));
    }

    /// Tells a task what has become of it. User code may be called: outputs are decoded and dropped, futures are
    /// woken. `received_at` is the time of the clock at which it was received.
    pub(super) fn carry_out(&self, action: Action<Kinds>, received_at: u64) {
        let caught = catch_unwind(AssertUnwindSafe(|| match action {
            Action::Begin(task) => {
                // Items that have not begun go on elsewhere when the worker is lost.
                let is_last = task.0.retries.load(Ordering::Relaxed) == 0 && task.task().core.items().is_none();
                // Taken first: while wakers run, the worker may be lost, and a retry may begin that needs the input.
                let input = is_last.then(|| task.take_input());
                self.remote(&task).begin();
                drop(input);
            }
            Action::Resume(task) => watchdog::watch(task.task()),
            Action::Show(task, News::Snapshot(snapshot)) => self.remote(&task).mirror(snapshot),
            #[cfg(feature = "log")]
            Action::Show(task, News::Log(log)) => {
                if let Some(relay) = self.lock().relay.clone() {
                    relay.log(log, task.task());
                }
            }
            Action::Show(task, News::Line(text)) => {
                self.remote(&task).say(&text).into_iter().for_each(|line| self.print(line));
            }
            Action::Deliver(task, ItemsEnded::Values(values)) => self.remote(&task).deliver_values(&values),
            Action::Deliver(task, ItemsEnded::One(snapshot, outcome)) => {
                self.remote(&task).deliver(snapshot, result_of(task.task(), outcome));
            }
            Action::Settle(task, (snapshot, outcome)) => {
                let outcome = result_of(task.task(), outcome);
                self.remote(&task).end(snapshot, outcome, task.take_input(), received_at);
            }
            Action::Lose(task, mut end, reason) => {
                let record = end.record.take().filter(|record| record.task == task.id());
                let (is_exact, loss) = (end.is_exact, loss(task.task(), self.cancel_grace, *end, reason));
                self.remote(&task).lose(record, loss, task.take_input(), is_exact);
            }
            Action::ShowRetry(task, end) => self.remote(&task).show_retry(end.exit),
            Action::Refuse(task) => transitions::refuse(task.task(), cancelled_kind(task.task()), None),
            Action::Reject(tasks, Failure { kind, error, .. }) => {
                for task in tasks {
                    transitions::reject(task.task(), kind.clone(), error.clone().into());
                }
            }
            // Not under the lock, as it may be large.
            Action::Forget(task) => drop(task.take_all()),
            // All other actions were carried out before.
            _ => {}
        }));
        // The payload of the panic may panic again when it is dropped.
        caught.unwrap_or_else(mem::forget);
    }

    fn remote<'a>(&self, task: &'a Queued) -> RemoteTask<'a> {
        RemoteTask { task: task.task(), report_interval: self.launch.report_interval }
    }

    fn call_resident(&self) {
        if self.standby.is_there() { self.standby.call(Call::Now) } else { self.wake_driver() }
    }
}

impl Delivery {
    /// Delivers this many, and leaves the others to the resident.
    fn run(&self, count: usize) {
        let received_at = clock::now();
        for _ in 0..count {
            let next = self.rest.borrow_mut().pop_front();
            match next {
                None => return,
                Some(Deferred::Gone(worker, end, _)) => {
                    let pool = &self.pool;
                    pool.tell_with(pool.lock_without(worker), Event::Gone(worker, end), |actions| {
                        let mut rest = self.rest.borrow_mut();
                        actions.into_iter().rev().for_each(|action| rest.push_front(Deferred::Do(action)));
                    });
                }
                // One by one, as code that is called for one task may wait for another.
                Some(Deferred::Do(Action::Reject(tasks, failure))) if tasks.len() > 1 => {
                    let each = |task| Deferred::Do(Action::Reject(vec![task], failure.clone()));
                    let mut rest = self.rest.borrow_mut();
                    tasks.into_iter().rev().for_each(|task| rest.push_front(each(task)));
                }
                Some(Deferred::Do(action)) => {
                    self.item_of.set(if let Action::Deliver(task, _) = &action { Some(task.id()) } else { None });
                    self.pool.carry_out(action, received_at);
                }
            }
        }
        let left = self.rest.take();
        if !left.is_empty() {
            self.pool.backlog.add(left, self.since);
            self.pool.call_resident();
        }
    }
}

impl Duty for Delivery {
    fn hand_over(&self) {
        let pool = &self.pool;
        pool.backlog.give_back(self.rest.take(), self.since, self.item_of.get());
        if self.deliverer != Deliverer::Resident {
            pool.note_delivered();
            pool.leadership.step_down(&|| pool.vacate());
        }
        match self.deliverer {
            Deliverer::Guest => pool.call_resident(),
            Deliverer::LeadingResident | Deliverer::Resident => pool.replace_resident(),
        }
    }
}
