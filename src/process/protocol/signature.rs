//! The line by which a worker identifies itself on a standard error that many workers share.
//!
//! A launcher of many workers can label each line that it passes on: `srun --label`, `mpirun --tag-output`. But it does not say
//! which label belongs to which worker, and each launcher has a format of its own. So a worker writes one line that says who it
//! is, and what arrives in front of that is its label.

const KNOWN_BY: &str = "progress-executor worker ";
const ON: &str = " on ";

#[cfg(feature = "cluster")]
pub(crate) fn of(pid: u32, host: &str) -> String {
    format!("{KNOWN_BY}{pid}{ON}{host}\n")
}

/// The label, the process id and the host, if this is such a line.
pub(crate) fn parse(line: &str) -> Option<(&str, u32, &str)> {
    let (label, worker) = line.split_once(KNOWN_BY)?;
    let (pid, host) = worker.split_once(ON)?;
    Some((label, pid.parse().ok()?, host))
}
