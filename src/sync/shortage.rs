//! What the system refuses to start now, but may start a moment later.
//!
//! If not even a thread can be started, only the thread that asks for it is there to try again. So it waits.

use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sync::duty;

/// How long to keep trying.
pub(crate) const RETRY_TIME: Duration = Duration::from_secs(5);
const NEXT_TRY: Duration = Duration::from_millis(20);

/// What the system lacks to start a thread.
pub(crate) fn missing(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        // The C library also says so if there is no memory for the stack.
        ErrorKind::WouldBlock => Some("the limit on processes and threads, `ulimit -u`, or that on memory is reached"),
        ErrorKind::OutOfMemory => Some("there is not enough memory"),
        _ => None,
    }
}

/// Says what the system lacks if that is known, or else what the system has said.
pub(crate) fn explain(what: &str, error: &io::Error) -> String {
    match missing(error) {
        None => format!("{what}: {error}"),
        missing => hinted(what, missing),
    }
}

/// Adds what is missing, if that is known.
pub(crate) fn hinted(what: &str, missing: Option<&str>) -> String {
    missing.map_or_else(|| what.to_owned(), |missing| format!("{what} ({missing})"))
}

pub(crate) fn of_threads(error: &io::Error) -> bool {
    missing(error).is_some()
}

/// How long something could not be started, by any thread that has tried.
#[derive(Debug, Default)]
pub(crate) struct Shortage(Mutex<Option<Failing>>);

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    last: Instant,
}

impl Shortage {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Tries until it succeeds, fails for a reason other than a shortage, or has failed for [`RETRY_TIME`]. If others
    /// have just given up, tries once.
    pub(crate) fn outlast<T>(
        &self,
        is_shortage: impl Fn(&io::Error) -> bool,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut outcome = attempt();
        while outcome.as_ref().is_err_and(&is_shortage) && !self.note_failure(Instant::now()) {
            duty::before_waiting();
            thread::sleep(NEXT_TRY);
            outcome = attempt();
            if outcome.is_ok() {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
        outcome
    }

    /// Notes a failure. Returns whether to give up.
    fn note_failure(&self, now: Instant) -> bool {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Failures longer ago say nothing about now.
        let recent = failing.filter(|failing| now.saturating_duration_since(failing.last) < RETRY_TIME);
        let since = recent.map_or(now, |failing| failing.since);
        *failing = Some(Failing { since, last: now });
        now.saturating_duration_since(since) >= RETRY_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::{RETRY_TIME, Shortage, of_threads};
    use std::io::{self, ErrorKind};
    use std::time::{Duration, Instant};

    #[test]
    fn a_shortage_lasts_from_its_first_failure_until_nobody_has_tried_for_a_while() {
        let (shortage, start, step) = (Shortage::new(), Instant::now(), RETRY_TIME / 2);
        let give_up = [0, 1, 2, 3, 5, 6, 7].map(|steps| shortage.note_failure(start + steps * step));
        assert_eq!(give_up, [false, false, true, true, false, false, true]);
    }

    #[test]
    fn only_a_shortage_is_outlasted() {
        let shortage = Shortage::new();
        let mut outcomes = [Err(ErrorKind::WouldBlock), Err(ErrorKind::OutOfMemory), Ok(1)].into_iter();
        let attempt = || outcomes.next().unwrap().map_err(io::Error::from);
        assert_eq!(shortage.outlast(of_threads, attempt).unwrap(), 1);
        assert!(!shortage.note_failure(Instant::now() + RETRY_TIME - Duration::from_nanos(1)), "it was over");
        let mut attempts = 0;
        let refused = shortage.outlast(of_threads, || {
            attempts += 1;
            Err::<(), _>(io::Error::from(ErrorKind::PermissionDenied))
        });
        assert_eq!((refused.unwrap_err().kind(), attempts), (ErrorKind::PermissionDenied, 1));
    }
}
