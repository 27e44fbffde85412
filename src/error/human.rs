//! Times and numbers, for people.

use std::fmt;
use std::time::Duration;

/// A time, shown with the two or three digits that matter.
pub(crate) struct HumanDuration(pub(crate) Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(time) = self;
        let (seconds, minutes) = (time.as_secs_f64(), (time.as_secs_f64() / 60.0).round() as u64);
        match time.as_nanos() {
            nanos @ 1..1_000 => write!(f, "{nanos} ns"),
            0..1_000_000 => write!(f, "{} µs", time.as_micros()),
            1_000_000..1_000_000_000 => write!(f, "{} ms", time.as_millis()),
            1_000_000_000..9_950_000_000 => write!(f, "{seconds:.1} s"),
            9_950_000_000..119_500_000_000 => write!(f, "{seconds:.0} s"),
            119_500_000_000..7_200_000_000_000 => write!(f, "{minutes} min"),
            _ => write!(f, "{} h {:02} min", minutes / 60, minutes % 60),
        }
    }
}

/// A number of things, with the word for one of them and for several.
pub(crate) struct Counted(pub(crate) u64, pub(crate) [&'static str; 2]);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self(number, [one, several]) = self;
        write!(f, "{number} {}", if number == 1 { one } else { several })
    }
}

/// What tasks count, unless something else is named.
pub(crate) const UNITS: [&str; 2] = ["unit", "units"];

#[cfg(test)]
mod tests {
    use super::{Counted, HumanDuration, UNITS};
    use std::time::Duration;

    #[test]
    fn times_are_brief() {
        let times = [
            (0, "0 µs"),
            (1, "1 ns"),
            (999, "999 ns"),
            (1_000, "1 µs"),
            (999_999, "999 µs"),
            (1_000_000, "1 ms"),
            (999_999_999, "999 ms"),
            (6_130_000_000, "6.1 s"),
            (9_960_000_000, "10 s"),
            (41_400_000_000, "41 s"),
            (119_400_000_000, "119 s"),
            (120_000_000_000, "2 min"),
            (7_200_000_000_000, "2 h 00 min"),
            (u64::MAX, "5124095 h 35 min"),
        ];
        for (time, shown) in times {
            assert_eq!(HumanDuration(Duration::from_nanos(time)).to_string(), shown);
        }
    }

    #[test]
    fn one_is_not_called_as_several_are() {
        assert_eq!([0, 1, 2].map(|n| Counted(n, UNITS).to_string()), ["0 units", "1 unit", "2 units"]);
    }
}
