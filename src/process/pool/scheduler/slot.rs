//! What the [scheduler](crate::process::pool::scheduler) knows about one worker.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::process::pool::scheduler::events::{Action, KillReason, Page, Types, WorkerNumber};

/// When to look for the first time at what a silent worker has begun. A task that still runs then is long: nothing
/// waits behind it.
pub(crate) const FIRST_LOOK: Duration = Duration::from_millis(1);
/// If a worker is not ready after this time, the user is told.
const SLOW_START: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) max_workers: usize,
    pub(crate) max_tasks: u64,
    pub(crate) cancel_grace: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    /// How long a worker may take to say who it is; `None` where that is not limited.
    pub(crate) start_timeout: Option<Duration>,
    /// How long a worker may take to begin with a task.
    pub(crate) silence: Duration,
    /// How many hosts there are to start workers on.
    pub(crate) hosts: usize,
    /// Whether all workers are started as soon as one is wanted, because one command starts them.
    pub(crate) starts_all: bool,
    /// Whether tasks may wait in a busy worker: not where it matters which task has written what.
    pub(crate) gives_ahead: bool,
}

impl Settings {
    /// How long after its start to check whether a worker has said who it is.
    fn patience(&self, is_slow: bool) -> Option<Duration> {
        if is_slow {
            self.start_timeout
        } else {
            Some(self.start_timeout.map_or(SLOW_START, |all| all.min(SLOW_START)))
        }
    }

    /// Whether the time to say who it is has run out.
    pub(crate) fn is_late(&self, since: Instant, now: Instant) -> bool {
        self.start_timeout.is_some_and(|limit| now.saturating_duration_since(since) >= limit)
    }
}

/// A place for a worker, taken from before its start to after its end.
pub(crate) struct Slot<K: Types> {
    pub(crate) phase: Phase,
    pub(crate) page: Option<K::Page>,
    /// Tasks that were sent and have not ended, in the order in which the worker runs them.
    pub(crate) sent: VecDeque<Sent<K::Task>>,
    /// Whether the first of them has begun.
    pub(crate) has_begun: bool,
    /// For how long tasks had waited for it when they were taken back, since it last began with one.
    pub(crate) silent: Duration,
    pub(crate) was_ready: bool,
    /// Whether it was started ahead of need, and is kept although there is no task for it.
    pub(crate) is_ahead: bool,
    /// The number of the next task that is sent.
    pub(crate) place: u64,
    pub(crate) done: u64,
    /// When it stops taking tasks.
    pub(crate) expires: Option<Instant>,
    /// Since when it stands still because the pool is suspended.
    pub(crate) stopped_since: Option<Instant>,
    /// Its entry among the deadlines.
    pub(crate) deadline: Option<Instant>,
}

pub(crate) struct Sent<T> {
    pub(crate) task: T,
    pub(crate) place: u64,
    /// The requests that the worker knows of.
    pub(crate) told: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Greeting {
        since: Instant,
        is_slow: bool,
    },
    /// When to check next whether somebody has stopped it, and how many checks in a row have found it stopped.
    Preparing {
        stop_check: Instant,
        stopped: u32,
    },
    Serving(Serving),
    Leaving {
        until: Instant,
    },
    Dying {
        until: Instant,
        reason: KillReason,
    },
}

/// What is known about the first task that was sent to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Serving {
    /// When it became the first, or when the worker became idle.
    pub(crate) since: Instant,
    /// Whether it takes long, so that nothing must wait behind it.
    pub(crate) is_long: bool,
    /// When to look whether it has begun, or still runs.
    pub(crate) look: Option<Instant>,
    /// What [was being sent](Page::sending) at the last look.
    pub(crate) sending: Option<u64>,
    /// When its time to notice its cancellation runs out.
    pub(crate) grace: Option<Instant>,
    /// When to check whether somebody has stopped the worker: set once its task has noticed its cancellation.
    pub(crate) stop_check: Option<Instant>,
    /// Until when the worker may stay stopped then.
    pub(crate) stop_grace: Option<Instant>,
    /// Whether the grace period is over, and only what the worker had said by then is still to be heard.
    pub(crate) is_last_call: bool,
}

impl Serving {
    pub(crate) fn new(since: Instant, look: Option<Instant>) -> Self {
        Self {
            since,
            is_long: false,
            look,
            sending: None,
            grace: None,
            stop_check: None,
            stop_grace: None,
            is_last_call: false,
        }
    }

    /// Whether the first look is still to come.
    fn is_fresh(&self, now: Instant) -> bool {
        let first_look = self.since + FIRST_LOOK;
        self.look == Some(first_look) && now < first_look
    }
}

impl<K: Types> Slot<K> {
    pub(crate) fn new(is_ahead: bool) -> Self {
        Self {
            phase: Phase::Starting,
            page: None,
            sent: VecDeque::new(),
            has_begun: false,
            silent: Duration::ZERO,
            was_ready: false,
            is_ahead,
            place: 0,
            done: 0,
            expires: None,
            stopped_since: None,
            deadline: None,
        }
    }

    pub(crate) fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Greeting { .. } | Phase::Preparing { .. })
    }

    pub(crate) fn serving(&self) -> Option<&Serving> {
        if let Phase::Serving(serving) = &self.phase { Some(serving) } else { None }
    }

    pub(crate) fn serving_mut(&mut self) -> Option<&mut Serving> {
        if let Phase::Serving(serving) = &mut self.phase { Some(serving) } else { None }
    }

    /// How many tasks it may have, where `ahead` are worthwhile.
    pub(crate) fn room(&self, ahead: usize) -> usize {
        self.page.as_ref().map_or(1, Page::places).min(ahead)
    }

    /// Whether shared memory shows what it has begun, and how far it has come.
    pub(crate) fn shares_page(&self) -> bool {
        self.room(2) > 1
    }

    /// Whether it has just ended a task, and would have to say that it has begun the next one. It need not, as
    /// receiving that would cost as much as a short task: what it is given counts as begun, and so is lost with it.
    pub(crate) fn has_just_ended_one(&self, now: Instant) -> bool {
        !self.shares_page() && self.done > 0 && self.serving().is_some_and(|serving| serving.since == now)
    }

    /// Whether to give it more although it is busy: in one go, when at least half of its room is free.
    pub(crate) fn takes_more(&self, ahead: usize, max_tasks: u64) -> bool {
        let is_fit = self.serving().is_some_and(|serving| !serving.is_long);
        let room = self.room(ahead);
        let has_room = room > 1 && (1..=room / 2).contains(&self.sent.len());
        is_fit && has_room && self.may_have_another(max_tasks)
    }

    /// Whether it may be given another task: it is not due to be replaced, and its page has a place. Places are counted
    /// from the first task, as those in between may have been taken back.
    pub(crate) fn may_have_another(&self, max_tasks: u64) -> bool {
        let places = self.page.as_ref().map_or(1, Page::places) as u64;
        let has_place = self.sent.front().is_none_or(|first| self.place - first.place < places);
        has_place && self.done + (self.sent.len() as u64) < max_tasks
    }

    /// Whether it reads what it is sent, goes on with that as far as is known, and will take more.
    pub(crate) fn keeps_up(&self, now: Instant, max_tasks: u64) -> bool {
        let takes_in = |page: &K::Page| page.places() > 1 && page.sending().is_none();
        self.serving().is_some_and(|serving| serving.is_fresh(now))
            && self.page.as_ref().is_some_and(takes_in)
            && !self.is_expired(now)
            && self.may_have_another(max_tasks)
    }

    pub(crate) fn send(&mut self, worker: WorkerNumber, task: K::Task, wanted: u32) -> Action<K> {
        let place = self.place;
        self.place += 1;
        if let Some(page) = &self.page {
            page.offer(place);
        }
        self.sent.push_back(Sent { task: task.clone(), place, told: wanted });
        Action::Send(worker, task, place, wanted)
    }

    /// Whether the first task has begun, as far as the program can know.
    pub(crate) fn has_begun_with(&self, place: u64) -> bool {
        self.has_begun || self.page.as_ref().is_some_and(|page| page.has_begun(place))
    }

    /// How many tasks it has begun whose outcomes were not heard: several if the program no longer listened to it.
    pub(crate) fn begun(&self) -> usize {
        let has_begun = |sent: &Sent<K::Task>| self.page.as_ref().is_some_and(|page| page.has_begun(sent.place));
        let count = self.sent.iter().take_while(|sent| has_begun(sent)).count();
        count.max(usize::from(self.has_begun && !self.sent.is_empty()))
    }

    /// Postpones its deadlines by the time that it stood still.
    pub(crate) fn postpone(&mut self, by: Duration) {
        match &mut self.phase {
            Phase::Starting => {}
            Phase::Greeting { since: at, .. }
            | Phase::Preparing { stop_check: at, .. }
            | Phase::Leaving { until: at }
            | Phase::Dying { until: at, .. } => *at += by,
            Phase::Serving(serving) => {
                serving.since += by;
                let deadlines =
                    [&mut serving.look, &mut serving.grace, &mut serving.stop_check, &mut serving.stop_grace];
                for deadline in deadlines {
                    *deadline = deadline.and_then(|at| at.checked_add(by));
                }
            }
        }
    }

    /// Whether it takes no more tasks.
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    pub(crate) fn next_deadline(&self, settings: &Settings) -> Option<Instant> {
        match self.phase {
            _ if self.stopped_since.is_some() => None,
            Phase::Starting => None,
            Phase::Preparing { stop_check, .. } => Some(stop_check),
            // A time beyond what an `Instant` can hold never comes.
            Phase::Greeting { since, is_slow } => since.checked_add(settings.patience(is_slow)?),
            Phase::Leaving { until } | Phase::Dying { until, .. } => Some(until),
            Phase::Serving(serving) if self.sent.is_empty() => {
                let idle = settings.idle_timeout.and_then(|timeout| serving.since.checked_add(timeout));
                idle.into_iter().chain(self.expires).min()
            }
            Phase::Serving(serving) => [serving.look, serving.grace, serving.stop_check].into_iter().flatten().min(),
        }
    }
}
