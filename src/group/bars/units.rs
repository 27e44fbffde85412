//! What tasks count, as people read it.

use std::borrow::Cow;

use crate::future::text::one_line;

/// The units that tasks count in, as [bars](crate::GroupBars) show them. With the feature `indicatif`.
///
/// # Examples
///
/// ```
/// use progress_executor::Units;
///
/// # let executor = progress_executor::ThreadPoolExecutor::new(1);
/// let mut group = progress_executor::TaskGroup::new();
/// group.show_bars().units(Units::Bytes); // 1.5/4.0 GiB, 35.2 MiB/s
/// group.add(executor.spawn(|progress| Ok(progress.set_counts(4096, 4096)?)));
/// group.join().wait()?;
///
/// let mut task = executor.spawn(|progress| Ok(progress.set_counts(16, 16)?));
/// task.show_bar("scan").units(Units::named("files")); // 3/16 files, 12 files/s
/// task.wait()?;
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Units {
    /// Numbers without a name.
    #[default]
    Numbers,
    /// Bytes, in powers of 1024.
    Bytes,
    /// Things of this name, in the plural.
    Named(Cow<'static, str>),
}

/// The names of 1024, 1024², and so on.
const BINARY: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl Units {
    /// Things of this name, in the plural.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Units;
    ///
    /// assert_eq!(Units::named("files"), Units::Named("files".into()));
    /// ```
    #[must_use]
    pub fn named(name: impl Into<Cow<'static, str>>) -> Self {
        Self::Named(name.into())
    }

    /// How many are done, and out of how many. Empty while there is nothing to tell.
    pub(super) fn count(&self, n: u64, total: Option<u64>) -> String {
        if n == 0 && total.unwrap_or(0) == 0 {
            return String::new();
        }
        match self {
            Self::Bytes => {
                let power = power_of(total.unwrap_or(n).max(n) as f64);
                let [n, total] = [Some(n), total].map(|bytes| bytes.map(|bytes| scaled(bytes as f64, power)));
                let total = total.map_or(String::new(), |total| format!("/{total}"));
                format!("{}{total} {}", n.unwrap_or_default(), BINARY[power])
            }
            _ => {
                let total = total.map_or(String::new(), |total| format!("/{total}"));
                format!("{n}{total}{}", self.name())
            }
        }
    }

    pub(super) fn rate(&self, per_second: f64) -> String {
        match self {
            _ if per_second <= 0.0 => String::new(),
            Self::Bytes if per_second >= 1.0 => {
                let power = power_of(per_second);
                format!("{} {}/s", scaled(per_second, power), BINARY[power])
            }
            Self::Bytes => slow(per_second, " B"),
            _ => slow(per_second, &self.name()),
        }
    }

    /// The name with a space before it.
    fn name(&self) -> String {
        if let Self::Named(name) = self { format!(" {}", one_line(name)) } else { String::new() }
    }
}

/// A rate in a unit of time in which it does not round to zero, if there is one.
fn slow(per_second: f64, name: &str) -> String {
    let units = [(1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d")];
    let told = units.iter().map(|(seconds, unit)| (per_second * seconds, unit)).find(|(rate, _)| *rate >= 0.1);
    told.map_or(String::new(), |(rate, unit)| format!("{}{name}/{unit}", short(rate)))
}

/// The largest power of 1024 that is not larger than a number.
fn power_of(bytes: f64) -> usize {
    let powers = (1..BINARY.len()).take_while(|&power| bytes >= 1024_f64.powi(power as i32));
    powers.last().unwrap_or(0)
}

fn scaled(bytes: f64, power: usize) -> String {
    let scaled = bytes / 1024_f64.powi(power as i32);
    if power == 0 { format!("{scaled:.0}") } else { format!("{scaled:.1}") }
}

/// In short, with at least two digits.
fn short(number: f64) -> String {
    match number {
        1e9.. => format!("{:.1}G", number / 1e9),
        1e6.. => format!("{:.1}M", number / 1e6),
        1e4.. => format!("{:.1}k", number / 1e3),
        10.0.. => format!("{number:.0}"),
        1.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Units;

    #[test]
    fn counts_are_short_and_of_one_scale() {
        let files = Units::named("files");
        let bytes = |n, total| Units::Bytes.count(n, total);
        assert_eq!([Units::Numbers.count(0, None), Units::Bytes.count(0, Some(0))], ["", ""]);
        assert_eq!([Units::Numbers.count(1, Some(4)), files.count(3, Some(16))], ["1/4", "3/16 files"]);
        assert_eq!([Units::Numbers.count(37, None), files.count(37, None)], ["37", "37 files"]);
        assert_eq!([bytes(0, Some(3 << 30)), bytes(3 << 29, Some(4 << 30))], ["0.0/3.0 GiB", "1.5/4.0 GiB"]);
        assert_eq!([bytes(512, Some(1000)), bytes(1536, None)], ["512/1000 B", "1.5 KiB"]);
        assert_eq!(bytes(u64::MAX, None), "16.0 EiB");
    }

    #[test]
    fn rates_have_few_digits() {
        assert_eq!(
            [0.0, 0.123, 1.26, 12.6, 123_456.0].map(|rate| Units::Numbers.rate(rate)),
            ["", "0.12/s", "1.3/s", "13/s", "123.5k/s"]
        );
        assert_eq!(Units::named("files").rate(12.0), "12 files/s");
        assert_eq!(
            [0.003, 0.000_123, 0.000_004, 1e-9].map(|rate| Units::named("files").rate(rate)),
            ["0.18 files/min", "0.44 files/h", "0.35 files/d", ""]
        );
        assert_eq!([0.5, 0.003].map(|rate| Units::Bytes.rate(rate)), ["0.50 B/s", "0.18 B/min"]);
        assert_eq!(Units::Bytes.rate(35.2 * 1048576.0), "35.2 MiB/s");
    }
}
