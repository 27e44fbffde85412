//! All sequences of events that can happen to a task.

use std::fmt::Debug;
use std::time::Duration;

use progress_executor::{Status, TaskError};

use crate::documented::{Documented, EVENTS, Event, Outcome};
use crate::part::{ENDS, End, Kind, STAGES, Stage};

/// The limit of the first event, the second one and so on, if that event is a limit.
const LIMITS: [Duration; 4] =
    [Duration::from_millis(60), Duration::from_millis(120), Duration::from_millis(180), Duration::from_millis(240)];

/// For how long a task was there, and how much of that time does not count for timeouts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) over_after: Duration,
    pub(crate) stood_still: Duration,
}

impl Times {
    /// Whether this limit can have passed. The time in which the task stood still counts only for a deadline.
    fn allow(self, event: Event, limit: Duration) -> bool {
        let Self { over_after, stood_still } = self;
        match event {
            Event::TimeOut | Event::Stall => over_after.saturating_sub(stood_still) >= limit,
            Event::Deadline => over_after >= limit,
            _ => false,
        }
    }
}

/// A task, and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) stage: Stage,
    pub(crate) events: Vec<Event>,
    pub(crate) end: End,
}

impl Case {
    /// All cases with this many events.
    pub(crate) fn all(kinds: &[Kind], events: usize) -> Vec<Self> {
        let mut rows = vec![Vec::new()];
        for _ in 0..events {
            let with = |row: Vec<Event>| EVENTS.map(|event| [&row[..], &[event]].concat());
            rows = rows.into_iter().flat_map(with).collect();
        }
        let mut cases = Vec::new();
        for &kind in kinds {
            for stage in STAGES {
                for events in &rows {
                    cases.extend(ENDS.map(|end| Self { kind, stage, events: events.clone(), end }));
                }
            }
        }
        cases.retain(|case| case.is_possible() && !case.has_nothing_new());
        cases
    }

    pub(crate) fn has(&self, event: Event) -> bool {
        self.events.contains(&event)
    }

    fn is_possible(&self) -> bool {
        let needs_workers = matches!(self.end, End::Crashes | End::CrashesOnce) || self.has(Event::Suspend);
        // The thread that polls an inline task is busy running it.
        let needs_poller = self.has(Event::OtherFails) || self.has(Event::Drop);
        let is_joined_and_dropped = self.has(Event::OtherFails) && self.has(Event::Drop);
        (self.kind.has_workers() || !needs_workers)
            && (self.kind != Kind::Inline || !needs_poller)
            && !is_joined_and_dropped
    }

    fn has_nothing_new(&self) -> bool {
        let count = |event| self.events.iter().filter(|it| **it == event).count();
        let happens_once = |event| matches!(event, Event::TimeOut | Event::Stall | Event::Deadline | Event::Drop);
        let is_repeated = EVENTS.into_iter().any(|event| happens_once(event) && count(event) > 1);
        // Where the outcome no longer depends on what the function does, one way to end is enough.
        let mut documented = Documented::new(self.stage);
        self.events.iter().for_each(|event| documented.after(*event));
        let is_over = documented.outcome.is_some() && !matches!(self.end, End::Returns | End::CrashesOnce);
        is_repeated || is_over
    }

    pub(crate) fn retries(&self) -> u32 {
        u32::from(self.end == End::CrashesOnce)
    }

    pub(crate) fn has_limits(&self) -> bool {
        self.events.iter().any(Event::is_limit)
    }

    /// The events, each with the limit that it is, if it is one.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (Event, Duration)> {
        self.events.iter().copied().zip(LIMITS)
    }

    /// Whether a limit has passed before something else could happen, according to the times in the error: limits never
    /// pass early.
    pub(crate) fn is_late(&self, found: &Result<u32, TaskError>, expected: &Outcome, times: Times) -> bool {
        let Err(error) = found else { return false };
        let has_passed =
            self.limits().filter(|&(event, limit)| times.allow(event, limit)).any(|(event, limit)| match event {
                Event::TimeOut => error.is_timed_out() && error.progress().elapsed >= limit,
                Event::Stall => error.is_stalled() && error.silent_for() >= Some(limit),
                _ => error.is_timed_out(),
            });
        self.excused(has_passed && *expected != Outcome::Error(error.kind().clone()))
    }

    /// The same, according to how the task has ended, where its error is not available.
    pub(crate) fn is_late_unseen(&self, found: Status, expected: &Outcome, times: Times) -> bool {
        let has_passed = self.limits().any(|(event, limit)| times.allow(event, limit));
        self.excused(has_passed && found == Status::Failed && expected.status() != found)
    }

    fn excused(&self, is_late: bool) -> bool {
        if is_late {
            eprintln!("{self:?}: a limit has passed too soon, on a machine that is busy");
        }
        is_late
    }
}

pub(crate) fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, and not {expected:?}")) }
}
