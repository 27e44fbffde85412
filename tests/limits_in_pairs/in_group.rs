//! A task of a group that is read, joined or dropped.

use std::cell::RefCell;
use std::iter;
use std::mem;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use async_channel::Receiver;
use futures::StreamExt;
use futures::channel::oneshot;
use futures::future::{Either, select};
use progress_executor::{
    Canceller, ExecutorExt, GroupHandle, ProgressFuture, ProgressState, Status, TaskErrorKind, TaskGroup, TaskId,
    ThreadPoolExecutor,
};

use crate::case::{Case, Times, same};
use crate::course::{Site, Subject};
use crate::documented::{Event, Outcome};
use crate::part::play;

/// What the test has of the task beside its group.
struct Member {
    id: TaskId,
    handle: GroupHandle,
    canceller: Canceller,
    updates: Receiver<ProgressState>,
    received: RefCell<Vec<ProgressState>>,
    /// Dropping this makes another task fail.
    fail: Option<mpsc::Sender<()>>,
    /// Dropping this drops the group.
    group: Option<oneshot::Sender<()>>,
}

impl Member {
    fn status(&self) -> Status {
        let mut received = self.received.borrow_mut();
        received.extend(iter::from_fn(|| self.updates.try_recv().ok()));
        received.last().map_or(Status::Pending, |state| state.status)
    }
}

impl Subject for Member {
    fn handle(&self) -> &GroupHandle {
        &self.handle
    }

    fn has_started(&self) -> bool {
        matches!(self.status(), Status::Running | Status::Paused)
    }

    fn cancel(&self) {
        self.canceller.cancel();
    }

    fn is_asked_to_end(&self) -> bool {
        self.canceller.is_cancelled()
    }

    fn is_paused(&self) -> bool {
        self.status() == Status::Paused
    }

    fn is_over(&self) -> bool {
        self.status().is_terminal()
    }

    fn happens(&mut self, event: Event) {
        if event == Event::Drop { drop(self.group.take()) } else { drop(self.fail.take()) }
    }
}

impl Case {
    fn submit(&self, site: &Site) -> ProgressFuture<u32> {
        let mut task = site.pool.executor().task(play, site.part(self)).retries(self.retries());
        for (event, limit) in self.limits() {
            task = match event {
                Event::TimeOut => task.timeout(limit),
                Event::Stall => task.stall_timeout(limit),
                Event::Deadline => task.deadline(limit),
                _ => task,
            };
        }
        task.submit()
    }

    /// The error says what differs from the documentation.
    pub(crate) fn play(&self) -> Result<(), String> {
        let (site, threads) = (Site::new(self), ThreadPoolExecutor::new(1));
        let (submitted, seen) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let sink = seen.clone();
        let task = self.submit(&site).on_progress(move |_, new| sink.lock().unwrap().push(new.clone()));
        let (fail, is_to_fail) = mpsc::channel::<()>();
        let (drop_group, is_to_be_dropped) = oneshot::channel::<()>();
        let mut group = TaskGroup::new();
        let mut member = Member {
            id: task.id(),
            handle: group.handle(),
            canceller: task.canceller(),
            updates: task.updates(),
            received: RefCell::default(),
            fail: Some(fail),
            group: Some(drop_group),
        };
        let id = group.add(task);
        let group = if self.has(Event::OtherFails) {
            let (run, is_running) = mpsc::channel();
            group.add(threads.spawn(move |_| {
                run.send(())?;
                Err(is_to_fail.recv().unwrap_err().into())
            }));
            is_running.recv().unwrap();
            // Joining a group ends its pause, so the join comes first.
            Either::Left(group.join())
        } else {
            Either::Right(group)
        };
        // The outcome, unless nothing is there to take it.
        let poll = move || match group {
            Either::Left(join) => join.wait().err().filter(|error| error.id() == id).map(Err),
            Either::Right(mut group) => match futures::executor::block_on(select(group.next(), is_to_be_dropped)) {
                Either::Left((outcome, _)) => outcome.map(|(_, outcome)| outcome),
                Either::Right(_) => None,
            },
        };
        let Some((found, documented)) = site.play(self, &mut member, poll) else { return Ok(()) };
        while let Ok(state) = member.updates.recv_blocking() {
            member.received.borrow_mut().push(state);
        }
        let times = Times { over_after: submitted.elapsed(), stood_still: documented.stood_still };
        let (expected, tries) = documented.in_the_end(self.end);
        if found.is_none() && self.is_late_unseen(member.status(), &expected, times) {
            return Ok(());
        }
        let last = found.as_ref().and_then(|found| Some(found.as_ref().err()?.progress().clone()));
        if let Some(found) = found {
            if self.is_late(&found, &expected, times) {
                return Ok(());
            }
            same("the outcome", &Outcome::from(found), &expected)?;
        }
        observed("a receiver", &member.received.take(), &expected, last.as_ref())?;
        // Nothing calls the callbacks of a task whose group is dropped.
        if !self.has(Event::Drop) {
            observed("a callback", &mem::take(&mut *seen.lock().unwrap()), &expected, last.as_ref())?;
        }
        self.check_report(&member, expected, tries)
    }

    fn check_report(&self, member: &Member, expected: Outcome, tries: u32) -> Result<(), String> {
        let report = member.handle.report();
        let Some(task) = report.tasks().iter().find(|task| task.id == member.id) else {
            return Err("it is not in the report".to_owned());
        };
        same("the status in the report", &task.status, &expected.status())?;
        same("the tries in the report", &task.tries, &tries)?;
        let kind = match expected {
            Outcome::Value => None,
            Outcome::Partial(cause) => Some(TaskErrorKind::Cancelled(cause)),
            Outcome::Error(kind) => Some(kind),
        };
        // The error of a dropped task is not known.
        if self.has(Event::Drop) { Ok(()) } else { same("the error in the report", &task.error, &kind) }
    }
}

/// Checks that an observer has seen the end once and last, in the state that the error has.
fn observed(
    who: &str,
    states: &[ProgressState],
    expected: &Outcome,
    in_error: Option<&ProgressState>,
) -> Result<(), String> {
    let last = states.last().ok_or(format!("{who} has seen nothing"))?;
    same(&format!("the last state of {who}"), &last.status, &expected.status())?;
    let ends = states.iter().filter(|state| state.status.is_terminal()).count();
    same(&format!("how often {who} has seen the end"), &ends, &1)?;
    in_error.map_or(Ok(()), |state| same(&format!("what {who} has seen last"), last, state))
}
