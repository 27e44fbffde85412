//! Looking for something to do before going to sleep.

use std::hint;
use std::time::{Duration, Instant};

/// How long to spin: somewhat longer than a wake-up takes.
pub(crate) const SPIN: Duration = Duration::from_micros(50);

/// The maximum number of chances that are skipped in a row.
const MOST_PASSED: u32 = 63;

/// Decides whether a thread that has nothing to do spins before it sleeps, which may save a wake-up.
///
/// Whether that pays depends on where the system runs the threads: the one that provides the work is faster than a
/// wake-up if it has a processor of its own, and is only held up if it needs this one. So this adapts: each failure
/// doubles the number of chances that are skipped, and a success resets it. A thread that never finds anything spins on
/// one chance in 64.
///
/// Yielding the processor instead of spinning would lose a whole time slice on a busy machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdaptiveSpin {
    misses: u32,
    /// How many chances are still to be skipped.
    passes: u32,
}

impl AdaptiveSpin {
    pub(crate) const fn new() -> Self {
        Self::after_passing(0)
    }

    /// Skips that many chances first.
    pub(crate) const fn after_passing(passes: u32) -> Self {
        Self { misses: 0, passes }
    }

    /// Spins until `found`, or until it is time to sleep; or skips this chance.
    pub(crate) fn spin_until(&mut self, found: impl FnMut() -> bool) {
        if self.passes > 0 {
            self.passes -= 1;
        } else if spin_until(found) {
            self.misses = 0;
        } else {
            self.misses = (2 * self.misses + 1).min(MOST_PASSED);
            self.passes = self.misses;
        }
    }
}

fn spin_until(mut found: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..16 {
            if found() {
                return true;
            }
            hint::spin_loop();
        }
        if start.elapsed() >= SPIN {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AdaptiveSpin;
    use std::cell::Cell;

    #[test]
    fn chances_that_find_nothing_become_rare_and_a_find_brings_them_back() {
        let mut spin = AdaptiveSpin::new();
        let looks = Cell::new(false);
        let mut passed_before_each_look = Vec::new();
        let mut passed = 0;
        while passed_before_each_look.len() < 9 {
            looks.set(false);
            spin.spin_until(|| {
                looks.set(true);
                false
            });
            if looks.get() {
                passed_before_each_look.push(passed);
                passed = 0;
            } else {
                passed += 1;
            }
        }
        assert_eq!(passed_before_each_look, [0, 1, 3, 7, 15, 31, 63, 63, 63]);

        for _ in 0..63 {
            spin.spin_until(|| panic!("this chance is passed by"));
        }
        spin.spin_until(|| true);
        spin.spin_until(|| {
            looks.set(true);
            true
        });
        assert_eq!((spin.misses, spin.passes), (0, 0));
    }
}
