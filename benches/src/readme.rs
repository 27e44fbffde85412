//! The table of the README: a selection from the page of all benchmarks, so that no figure is copied by hand.

use std::{fs, io};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
/// The first line of the table.
const HEAD: &str = "| | here | others |\n";

/// The table without its figures. `{title > row}` stands for the ratio of a row to the first row of its table,
/// `{title > row > time}` for its median.
const TEMPLATE: &str = "\
|---|---|---|
| a progress call around one Collatz step (the bare loop, {a step and a progress call > bare loop > time}) | {a step and a progress call > ours}; observed {a step and a progress call > ours, observed} | prodash {a step and a progress call > prodash}, `CancellationToken` {a step and a progress call > tokio-util is_cancelled}, indicatif {a step and a progress call > indicatif} |
| submit a trivial task, and `wait()` (park/unpark there and back) | {round trip back to back > ours, wait()}, awaited {round trip back to back > ours}; after 2 ms of rest {round trip after 2 ms of rest > ours, wait()} | rayon {round trip back to back > rayon + oneshot}, tokio {round trip back to back > tokio spawn_blocking}, `threadpool` {round trip back to back > threadpool + oneshot}; {round trip after 2 ms of rest > rayon + oneshot}, {round trip after 2 ms of rest > tokio spawn_blocking}, {round trip after 2 ms of rest > threadpool + oneshot} |
| one of a million tasks on two workers (an allocation through a channel) | {one of a million tasks > ours} | `threadpool` {one of a million tasks > threadpool + oneshot}, tokio {one of a million tasks > tokio spawn_blocking}, `blocking` {one of a million tasks > blocking} |
| one of 400,000 tasks beside a busy core | {400,000 by one, beside a busy core > ours > time} | `threadpool` {400,000 by one, beside a busy core > threadpool + oneshot > time}, `async-executor` {400,000 by one, beside a busy core > async-executor > time} |
| from `cancel()` to the awaiting side resumed (unpark) | {from cancel to resumed > ours} | tokio {from cancel to resumed > tokio token, spawn_blocking} |
| a count that each of two threads of a task adds to (the same by one thread) | {a step of a parallel loop > ours, each of two} | `fetch_add` {a step of a parallel loop > fetch_add, each of two}, indicatif {a step of a parallel loop > indicatif, each of two} |
| a task in a `TaskGroup` of 100,000 (in `FuturesUnordered`) | {a task of 100,000 > TaskGroup, as a stream}; with updates {a task of 100,000 > TaskGroup, with updates} | tokio `JoinSet` {a task of 100,000 > tokio JoinSet} |
| submit to a worker process and `wait()`, back to back (a pair of sockets) | {process round trip back to back > ours, wait()}; awaited by smol {process round trip back to back > ours, smol} | ipc-channel {process round trip back to back > ipc-channel}, procspawn {process round trip back to back > procspawn} |
| the same, after 2 ms of rest | {process round trip after 2 ms > ours, wait()}; smol {process round trip after 2 ms > ours, smol} | ipc-channel {process round trip after 2 ms > ipc-channel}, procspawn {process round trip after 2 ms > procspawn} |
| one of 20,000 tasks in flight on one worker process | {one of 20 000 tasks in flight > ours > time} | ipc-channel {one of 20 000 tasks in flight > ipc-channel > time}, procspawn, of 200 tasks, {one of 20 000 tasks in flight > procspawn, of 200 > time} |
| a small input of a map over two worker processes | {a small input, on processes > map, by itself > time}; `chunks(1000)` {a small input, on processes > map, chunks(1000) > time} | Python's `Pool.map`, 1,000 at a time, {a small input, on processes > Python Pool.map, chunksize 1000 > time} |
| 1 MB to a worker process and back (a pair of sockets) | {1 MB there and back > ours} | ipc-channel {1 MB there and back > ipc-channel, bytes}, procspawn {1 MB there and back > procspawn, ByteBuf} |
| a worker process started, and its first result (this program started) | {start of a process > ours, first task} | procspawn {start of a process > procspawn, first task} |
| a microsecond of work and a progress call in a worker process, observed (not observed) | {a progress call, of 5 000 > receiver, callback and bar} | |
| from `cancel()` of a task in a worker process to resumed (`kill` and `wait`) | {from cancel to resumed, processes > ours}; just started {from cancel to resumed, processes > ours, task has just started} | |
";

/// Rewrites the table from the page of all benchmarks.
pub(crate) fn write(page: &str) -> io::Result<()> {
    let table = fill(page).map_err(io::Error::other)?;
    let readme = fs::read_to_string(README)?;
    let start =
        readme.find(HEAD).ok_or_else(|| io::Error::other(format!("{README} has no table that begins with {HEAD}")))?;
    let start = start + HEAD.len();
    let end = readme[start..].find("\n\n").map_or(readme.len(), |at| start + at + 1);
    fs::write(README, format!("{}{table}{}", &readme[..start], &readme[end..]))
}

/// Fills in the figures of the template.
fn fill(page: &str) -> Result<String, String> {
    let mut parts = TEMPLATE.split(['{', '}']);
    let mut table = parts.next().unwrap_or_default().to_owned();
    while let (Some(figure), Some(text)) = (parts.next(), parts.next()) {
        table +=
            &look_up(page, figure).ok_or_else(|| format!("there is no `{figure}` on the page of all benchmarks"))?;
        table += text;
    }
    Ok(table)
}

fn look_up(page: &str, figure: &str) -> Option<String> {
    let mut path = figure.split(" > ");
    let (title, row) = (path.next()?, path.next()?);
    let (_, section) = page.split_once(&format!("## {title}\n"))?;
    let section = section.split("\n## ").next()?;
    let line = section.lines().find_map(|line| line.strip_prefix(&format!("| {row} | ")))?;
    let (time, ratio) = line.trim_end_matches(" |").split_once(" | ")?;
    match path.next() {
        Some(_) => time.split_once(" (").map(|(median, _)| median.to_owned()),
        None => ratio.parse().ok().map(rounded),
    }
}

/// A ratio with its significant digits.
fn rounded(ratio: f64) -> String {
    match ratio {
        ..1.5 => format!("{ratio:.2}"),
        1.5..10.0 => format!("{ratio:.1}"),
        _ => format!("{ratio:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{README, fill, rounded};
    use crate::table::PAGE;

    #[test]
    fn the_table_is_a_choice_of_what_is_on_the_page() {
        let table = fill(&fs::read_to_string(PAGE).unwrap()).unwrap();
        assert!(fs::read_to_string(README).unwrap().contains(&table), "to be written anew:\n{table}");
    }

    #[test]
    fn a_ratio_has_the_digits_that_mean_something() {
        assert_eq!([0.123, 1.449, 1.55, 9.94, 38.4].map(rounded), ["0.12", "1.45", "1.6", "9.9", "38"]);
    }
}
