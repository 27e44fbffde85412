//! How many inputs of a map make one task.

use std::time::Duration;

/// How long a task should take, at least, so that the cost of sending it is negligible.
const WORTH_SENDING: Duration = Duration::from_micros(200);
/// The cost of sending a task to another process and its outcome back. Inputs that take longer are sent one by one.
const SENDING: Duration = Duration::from_micros(20);
/// The most inputs of a chunk, however short they are.
const MOST: usize = 1000;
/// The most bytes of a chunk: copying more costs more than sending the inputs one by one.
const MOST_BYTES: usize = 32 * 1024;
/// After this time, a chunk that takes longer than expected gives back the inputs that have not begun.
pub(crate) const MOST_WAITING: Duration = Duration::from_millis(2);

/// How many inputs make one task: fixed, or adapted to how long they take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChunkSize {
    Fixed(usize),
    Adaptive {
        size: usize,
        /// The estimated time per input: it rises at once, and falls little by little.
        pace: Option<Duration>,
        /// The estimated bytes per input, in the same way; 0 if unknown.
        weight: usize,
    },
}

impl ChunkSize {
    /// Single inputs at first.
    pub(crate) const ADAPTIVE: Self = Self::Adaptive { size: 1, pace: None, weight: 0 };

    pub(crate) fn fixed(inputs: usize) -> Self {
        Self::Fixed(inputs.max(1))
    }

    pub(crate) fn inputs(self) -> usize {
        match self {
            Self::Fixed(inputs) => inputs,
            Self::Adaptive { size, weight, .. } => size.min(MOST_BYTES / weight.max(1)).max(1),
        }
    }

    pub(crate) fn is_adaptive(self) -> bool {
        matches!(self, Self::Adaptive { .. })
    }

    /// Notes how long a task took that ran this many inputs.
    pub(crate) fn note_task(&mut self, inputs: usize, took: Duration) {
        let Self::Adaptive { size, pace, .. } = self else { return };
        let Some(each) = u32::try_from(inputs).ok().and_then(|inputs| took.checked_div(inputs)) else { return };
        // Long times count at once, short ones little by little: keeping inputs waiting is worse than sending them one
        // by one.
        let each = pace.map_or(each, |pace| each.max((7 * pace + each) / 8));
        *pace = Some(each);
        let wanted = WORTH_SENDING.as_nanos() / each.as_nanos().max(1);
        let wanted = if each > SENDING { 1 } else { usize::try_from(wanted).unwrap_or(MOST).clamp(1, MOST) };
        // Step by step: the first inputs may be unlike the others.
        *size = wanted.min(2 * *size);
    }

    /// Notes how large this many inputs were together.
    pub(crate) fn note_bytes(&mut self, inputs: usize, bytes: usize) {
        let Self::Adaptive { weight, .. } = self else { return };
        let each = bytes.div_ceil(inputs.max(1));
        *weight = each.max((7 * *weight + each) / 8);
    }

    /// Notes a single input, whose size is unknown: later inputs may be smaller than earlier ones.
    pub(crate) fn note_unknown(&mut self) {
        self.note_bytes(1, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ChunkSize;

    /// The size after this many tasks whose inputs take this long.
    fn after(mut size: ChunkSize, tasks: usize, each: Duration) -> ChunkSize {
        for _ in 0..tasks {
            let inputs = size.inputs();
            size.note_task(inputs, each * inputs as u32);
        }
        size
    }

    #[test]
    fn long_inputs_stay_alone() {
        assert_eq!(after(ChunkSize::ADAPTIVE, 100, Duration::from_micros(21)).inputs(), 1);
        assert_eq!(after(ChunkSize::ADAPTIVE, 100, Duration::from_secs(1)).inputs(), 1);
    }

    #[test]
    fn short_ones_come_together_step_by_step_up_to_a_bound() {
        let micro = Duration::from_micros(1);
        let sizes = [1, 2, 3, 4].map(|tasks| after(ChunkSize::ADAPTIVE, tasks, micro).inputs());
        assert_eq!(sizes, [2, 4, 8, 16]);
        assert_eq!(after(ChunkSize::ADAPTIVE, 100, micro).inputs(), 200);
        assert_eq!(after(ChunkSize::ADAPTIVE, 100, Duration::from_nanos(1)).inputs(), 1000);
        assert_eq!(after(ChunkSize::ADAPTIVE, 100, Duration::ZERO).inputs(), 1000);
    }

    #[test]
    fn a_long_one_counts_at_once_and_is_forgotten_little_by_little() {
        let short = after(ChunkSize::ADAPTIVE, 100, Duration::from_micros(1));
        let mut size = short;
        size.note_task(200, Duration::from_millis(200));
        assert_eq!(size.inputs(), 1);
        assert_eq!(after(size, 10, Duration::from_micros(1)).inputs(), 1);
        assert_eq!(after(size, 200, Duration::from_micros(1)).inputs(), 200);
    }

    #[test]
    fn large_ones_come_together_up_to_a_bound_in_bytes() {
        let short = after(ChunkSize::ADAPTIVE, 100, Duration::from_nanos(1));
        let mut size = short;
        size.note_bytes(1000, 1000 * 1024);
        assert_eq!(size.inputs(), 32);
        size.note_bytes(32, 32 << 20);
        assert_eq!(size.inputs(), 1);
        // That input may be the only large one.
        (0..100).for_each(|_| size.note_unknown());
        assert_eq!(size.inputs(), 1000);
    }

    #[test]
    fn one_that_was_given_stays() {
        assert_eq!(after(ChunkSize::fixed(0), 100, Duration::ZERO).inputs(), 1);
        assert_eq!(after(ChunkSize::fixed(7), 100, Duration::ZERO).inputs(), 7);
    }

    #[test]
    fn nothing_that_was_run_says_nothing() {
        let mut size = ChunkSize::ADAPTIVE;
        size.note_task(0, Duration::from_secs(1));
        assert_eq!(after(size, 1, Duration::ZERO).inputs(), 2);
    }
}
