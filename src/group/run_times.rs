//! For how long at least one of several tasks was running, given when each of them did.

/// How many spans are kept apart.
const MOST: usize = 1024;

/// When tasks ran, in nanoseconds of the [clock](crate::sync::clock). Takes a bounded amount of memory: if there are very many
/// gaps, the shortest ones count as well.
#[derive(Default)]
pub(crate) struct RunTimes {
    /// From start to end.
    spans: Vec<(u64, u64)>,
    /// The longest gap that counts.
    tolerance: u64,
}

impl RunTimes {
    pub(crate) fn add(&mut self, span: (u64, u64)) {
        self.spans.push(span);
        if self.spans.len() == 2 * MOST {
            self.merge();
            while self.spans.len() > MOST {
                self.tolerance = 2 * self.tolerance + 1;
                self.merge();
            }
        }
    }

    /// For how long something ran, and when the last one of them ended; `None` if nothing ran.
    pub(crate) fn sum(mut self) -> Option<(u64, u64)> {
        self.merge();
        let &(_, last) = self.spans.last()?;
        Some((self.spans.iter().map(|(start, end)| end.saturating_sub(*start)).sum(), last))
    }

    /// Leaves only spans between which there is a gap that does not count.
    fn merge(&mut self) {
        self.spans.sort_unstable();
        let tolerance = self.tolerance;
        self.spans.dedup_by(|(start, end), (_, end_before)| {
            let is_same = *start <= end_before.saturating_add(tolerance);
            *end_before = if is_same { (*end).max(*end_before) } else { *end_before };
            is_same
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, RunTimes};

    fn sum(spans: impl IntoIterator<Item = (u64, u64)>) -> Option<(u64, u64)> {
        let mut times = RunTimes::default();
        spans.into_iter().for_each(|span| times.add(span));
        times.sum()
    }

    #[test]
    fn time_counts_once_and_gaps_do_not() {
        assert_eq!(sum([]), None);
        assert_eq!(sum([(7, 9), (1, 3), (2, 4), (8, 9), (4, 5), (2, 3)]), Some((4 + 2, 9)));
    }

    #[test]
    fn many_take_no_more_memory_and_long_gaps_still_do_not_count() {
        // Two bursts of tasks with short gaps, in any order.
        let burst = |start: u64| (0..10 * MOST as u64).map(move |n| (start + 10 * (n * 7919 % (10 * MOST as u64)), 9));
        let mut times = RunTimes::default();
        for (start, length) in burst(1).chain(burst(1 << 40)) {
            times.add((start, start + length));
            assert!(times.spans.len() < 2 * MOST);
        }
        let (elapsed, _) = times.sum().unwrap();
        let ran = 2 * 90 * MOST as u64;
        assert!(ran <= elapsed && elapsed <= ran / 9 * 10, "{elapsed} of {ran}");
    }
}
