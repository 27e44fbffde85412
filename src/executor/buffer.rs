//! How many tasks a map has in flight.

use std::time::{Duration, Instant};

/// How long the tasks in flight should keep the workers busy, at least: longer than it takes until the map is polled
/// again.
const AHEAD: Duration = Duration::from_millis(1);
/// Tasks per worker at first, and if tasks take long.
const LEAST_PER_WORKER: usize = 2;
/// Tasks per worker at most, however short they are.
const MOST_PER_WORKER: usize = 64;
/// The minimum number of outcomes for a measurement of the pace.
const FEWEST_OUTCOMES: usize = 32;

/// How many tasks are in flight: fixed, or adapted to how fast outcomes come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    tasks: usize,
    pace: Option<Pace>,
}

/// A measurement of how fast outcomes come.
#[derive(Clone, Copy, Debug)]
struct Pace {
    max_workers: usize,
    /// Outcomes since `since`.
    outcomes: usize,
    since: Option<Instant>,
}

impl Buffer {
    /// Adapts to how fast outcomes come.
    pub(crate) fn adaptive(max_workers: usize) -> Self {
        let max_workers = max_workers.max(1);
        let pace = Pace { max_workers, outcomes: 0, since: None };
        Self { tasks: max_workers.saturating_mul(LEAST_PER_WORKER), pace: Some(pace) }
    }

    pub(crate) fn fixed(tasks: usize) -> Self {
        Self { tasks: tasks.max(1), pace: None }
    }

    pub(crate) fn tasks(&self) -> usize {
        self.tasks
    }

    /// Notes an outcome. The clock is read once for many.
    pub(crate) fn note_outcome(&mut self, now: impl FnOnce() -> Instant) {
        let Some(pace) = &mut self.pace else { return };
        pace.outcomes += 1;
        if pace.outcomes < self.tasks.max(FEWEST_OUTCOMES) {
            return;
        }
        let now = now();
        if let Some(since) = pace.since {
            let least = pace.max_workers.saturating_mul(LEAST_PER_WORKER);
            let most = pace.max_workers.saturating_mul(MOST_PER_WORKER);
            let wanted = outcomes_within(AHEAD, pace.outcomes, now - since);
            // Step by step: how fast outcomes come depends on how many tasks there are.
            self.tasks = wanted.clamp(self.tasks / 2, self.tasks.saturating_mul(2)).clamp(least, most);
        }
        *pace = Pace { outcomes: 0, since: Some(now), ..*pace };
    }
}

fn outcomes_within(time: Duration, outcomes: usize, took: Duration) -> usize {
    let wanted = time.as_nanos() * outcomes as u128 / took.as_nanos().max(1);
    usize::try_from(wanted).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Buffer;

    /// The buffer after this many outcomes, one each `every`.
    fn after(mut buffer: Buffer, outcomes: u32, every: Duration) -> Buffer {
        let start = Instant::now();
        (1..=outcomes).for_each(|n| buffer.note_outcome(|| start + every * n));
        buffer
    }

    #[test]
    fn it_is_small_where_tasks_take_long() {
        let buffer = after(Buffer::adaptive(2), 1_000, Duration::from_millis(5));
        assert_eq!(buffer.tasks(), 4);
    }

    #[test]
    fn it_grows_with_the_pace_up_to_its_bound_and_shrinks_again() {
        let paced = after(Buffer::adaptive(2), 10_000, Duration::from_micros(20));
        assert_eq!(paced.tasks(), 50);
        let fast = after(paced, 10_000, Duration::from_nanos(100));
        assert_eq!(fast.tasks(), 128);
        let slow = after(fast, 10_000, Duration::from_millis(1));
        assert_eq!(slow.tasks(), 4);
    }

    #[test]
    fn one_that_was_given_stays() {
        assert_eq!(after(Buffer::fixed(0), 1_000, Duration::from_nanos(1)).tasks(), 1);
        assert_eq!(after(Buffer::fixed(7), 1_000, Duration::from_nanos(1)).tasks(), 7);
    }

    #[test]
    fn any_number_of_workers_will_do() {
        assert_eq!(Buffer::adaptive(0).tasks(), 2);
        let buffer = after(Buffer::adaptive(usize::MAX), 1_000, Duration::ZERO);
        assert_eq!(buffer.tasks(), usize::MAX);
    }
}
