//! Workers whose end nothing announces, so that they are polled from time to time: usually none, even of a thousand.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::process::pool::scheduler::events::WorkerNumber;

/// How often to look. Each look at a worker is a system call, so it is not done at every turn.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Unwatched {
    workers: BTreeSet<WorkerNumber>,
    /// When to look next, if not at once.
    next: Option<Instant>,
}

impl Unwatched {
    /// Adds a worker, which may have ended by now.
    pub(super) fn insert(&mut self, worker: WorkerNumber) {
        self.workers.insert(worker);
        self.hurry();
    }

    pub(super) fn remove(&mut self, worker: WorkerNumber) {
        self.workers.remove(&worker);
    }

    /// Makes the next look due at once, as one of them may be about to end.
    pub(super) fn hurry(&mut self) {
        self.next = None;
    }

    /// How long it is until the next look, if there is anything to look at.
    pub(super) fn until_look(&self, now: Instant) -> Option<Duration> {
        let left = self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
        (!self.workers.is_empty()).then_some(left)
    }

    /// Workers to look at now: all or none. Reads the clock only if there are any.
    pub(super) fn due(&mut self, now: impl FnOnce() -> Instant) -> Vec<WorkerNumber> {
        if self.workers.is_empty() {
            return Vec::new();
        }
        let now = now();
        if self.until_look(now) != Some(Duration::ZERO) {
            return Vec::new();
        }
        self.next = Some(now + CHECK_INTERVAL);
        self.workers.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{CHECK_INTERVAL, Unwatched};
    use std::time::{Duration, Instant};

    #[test]
    fn they_are_looked_at_at_intervals_however_often_it_is_asked() {
        let (mut unwatched, start) = (Unwatched::default(), Instant::now());
        assert_eq!((unwatched.until_look(start), unwatched.due(|| start)), (None, Vec::new()));
        (0..3).for_each(|worker| unwatched.insert(worker));
        let looks = |unwatched: &mut Unwatched, millis| unwatched.due(|| start + Duration::from_millis(millis)).len();
        assert_eq!((0..1000).map(|millis| looks(&mut unwatched, millis)).sum::<usize>(), 3 * 10);
        assert_eq!(unwatched.until_look(start + 9 * CHECK_INTERVAL), Some(CHECK_INTERVAL));
        unwatched.remove(1);
        unwatched.hurry();
        assert_eq!([901, 902].map(|millis| looks(&mut unwatched, millis)), [2, 0]);
    }
}
