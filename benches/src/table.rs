//! What `cargo bench -p progress-executor-benches -- --table` writes from all measurements: a page with every row, including
//! the unflattering ones, and the state of the machine beside them.

use std::sync::Once;
use std::{env, fs, io};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::readme;
use crate::rounds::{Quartiles, Row};

/// The page of all benchmarks, with a section for each table.
pub(crate) const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/BENCHMARKS.md");
/// As many CPUs as the compared pools have workers.
const CPUS: usize = 2;

/// Whether the command line asks for the page to be written.
pub fn is_wanted() -> bool {
    env::args().any(|argument| argument == "--table")
}

/// Pins this process, and those that it starts, to the same CPUs: otherwise the choice of CPUs would affect the comparison.
pub fn pin() {
    static PINNED: Once = Once::new();
    PINNED.call_once(|| pin_to(CPUS));
}

/// Pins this thread, and the threads and processes that it starts, to the first `cpus` CPUs that are allowed.
pub fn pin_to(cpus: usize) {
    let pinned = allowed_cpus().and_then(|allowed| {
        let mut few = CpuSet::new();
        allowed.into_iter().take(cpus).for_each(|cpu| few.set(cpu));
        Ok(sched_setaffinity(None, &few)?)
    });
    if let Err(error) = pinned {
        eprintln!("not pinned to {cpus} CPUs: {error}");
    }
}

fn allowed_cpus() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect())
}

/// Describes the machine, and how busy it is with other things.
pub fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load: Vec<_> = read("/proc/loadavg").split(' ').take(1).map(str::to_owned).collect();
    let cpus = allowed_cpus().map_or(0, |cpus| cpus.len());
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    format!("{model}, pinned to {cpus} of its CPUs; Linux {}; load {}", kernel.trim(), load.concat())
}

/// Puts a table in its place on the page, and updates the selection that the README shows.
pub fn write(title: &str, rounds: usize, machine: &str, rows: &[Row]) -> io::Result<()> {
    let page = fs::read_to_string(PAGE).unwrap_or_else(|_| HEAD.into());
    let page = replace_section(&page, title, &section(title, rounds, machine, rows));
    fs::write(PAGE, &page)?;
    if let Err(error) = readme::write(&page) {
        eprintln!("the README stays as it is: {error}");
    }
    Ok(())
}

const HEAD: &str = "\
# Benchmarks

Written by `cargo bench -p progress-executor-benches -- --table`. Each row is measured once per round, alternating with the rows that
it is compared with. The first row of a table is the limit, or the reference for the others. Times are medians over all rounds, with
the middle half in brackets; ratios are medians of the ratios within the rounds. Ratios carry over to other machines, times do not.
";

fn section(title: &str, rounds: usize, machine: &str, rows: &[Row]) -> String {
    let mut section = format!("## {title}\n\n| | median | ratio |\n|---|---|---|\n");
    for Row { name, nanos, ratio } in rows {
        let Quartiles { lower, median, upper } = nanos;
        section += &format!("| {name} | {} ({} – {}) | {ratio:.2} |\n", time(*median), time(*lower), time(*upper));
    }
    section + &format!("\n{rounds} rounds; {machine}.\n")
}

fn time(nanos: f64) -> String {
    match nanos {
        0.0..1e3 => format!("{nanos:.1} ns"),
        1e3..1e6 => format!("{:.2} µs", nanos / 1e3),
        1e6..1e9 => format!("{:.2} ms", nanos / 1e6),
        _ => format!("{:.2} s", nanos / 1e9),
    }
}

/// Returns the page with `section` in place of the section with the same title, or at its end if there is none.
fn replace_section(page: &str, title: &str, section: &str) -> String {
    let heading = format!("## {title}\n");
    let Some(start) = page.find(&heading) else { return format!("{}\n\n{section}", page.trim_end()) };
    let end = page[start + 1..].find("\n## ").map_or(page.len(), |at| start + 1 + at);
    let after = page[end..].trim_start();
    let gap = if after.is_empty() { "" } else { "\n" };
    format!("{}{section}{gap}{after}", &page[..start])
}

#[cfg(test)]
mod tests {
    use super::{replace_section, time};

    #[test]
    fn a_section_takes_the_place_of_the_one_before() {
        let page = replace_section("# Page\n", "one", "## one\n1\n");
        assert_eq!(page, "# Page\n\n## one\n1\n");
        let page = replace_section(&page, "two", "## two\n2\n");
        assert_eq!(page, "# Page\n\n## one\n1\n\n## two\n2\n");
        let page = replace_section(&page, "one", "## one\n11\n");
        assert_eq!(page, "# Page\n\n## one\n11\n\n## two\n2\n");
        let page = replace_section(&page, "two", "## two\n22\n");
        assert_eq!(page, "# Page\n\n## one\n11\n\n## two\n22\n");
    }

    #[test]
    fn times_have_their_units() {
        assert_eq!([0.9, 1_500.0, 2.5e6, 3e9].map(time), ["0.9 ns", "1.50 µs", "2.50 ms", "3.00 s"]);
    }
}
