//! Tells which worker has written a line of a stream that many workers share, by the label in front of it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

use crate::id::WorkerId;
use crate::process::protocol::signature;

/// More than there are workers.
const MOST: usize = 1 << 16;

#[derive(Debug, Default)]
pub(super) struct Labels {
    workers: BTreeMap<String, WorkerId>,
    marks: HashMap<WorkerId, String>,
}

impl Labels {
    /// Notes a worker that has connected, and the mark that its lines get.
    pub(super) fn greet(&mut self, worker: WorkerId, mark: String) {
        self.marks.insert(worker, mark);
    }

    pub(super) fn mark(&self, worker: &WorkerId) -> Option<&str> {
        self.marks.get(worker).map(String::as_str)
    }

    /// Learns a label, if this line is the [signature] of a worker. Returns whether it is.
    pub(super) fn learn(&mut self, line: &str) -> bool {
        let Some((label, id, host)) = signature::parse(line) else { return false };
        // Behind a known label, a task may write anything, even what looks like a signature.
        if self.find(line).is_some() {
            return false;
        }
        if !label.is_empty() && self.workers.len() < MOST {
            self.workers.insert(label.to_owned(), WorkerId::Process { id, host: Some(Arc::from(host)) });
        }
        true
    }

    /// The worker that has written this line, and what it has written.
    pub(super) fn split<'a>(&self, line: &'a str) -> Option<(&WorkerId, &'a str)> {
        self.find(line).filter(|(worker, _)| self.marks.contains_key(worker))
    }

    fn find<'a>(&self, line: &'a str) -> Option<(&WorkerId, &'a str)> {
        // No label is a prefix of another, so the label of a line is the greatest that is not greater than the line.
        let (label, worker) = self.workers.range::<str, _>((Unbounded, Included(line))).next_back()?;
        Some((worker, line.strip_prefix(&**label)?))
    }
}

#[cfg(test)]
mod tests {
    use super::Labels;
    use crate::id::WorkerId;

    fn worker(id: u32) -> WorkerId {
        WorkerId::Process { id, host: Some("n1".into()) }
    }

    fn labels(lines: &[&str]) -> Labels {
        let mut labels = Labels::default();
        for (line, id) in lines.iter().zip(0..) {
            assert!(labels.learn(line), "{line}");
            labels.greet(worker(id), format!("n1/{id}"));
        }
        labels
    }

    #[test]
    fn the_label_is_what_stands_in_front_of_the_signature() {
        let srun = labels(&[" 0: progress-executor worker 0 on n1", "11: progress-executor worker 1 on n1"]);
        assert_eq!(srun.split(" 0: a: b"), Some((&worker(0), "a: b")));
        assert_eq!(srun.split("11: "), Some((&worker(1), "")));
        assert_eq!(srun.mark(&worker(1)), Some("n1/1"));
        for other in ["srun: error: n1: task 0: Killed", "1: a", "12: a", "", " 0", "ß"] {
            assert_eq!(srun.split(other), None, "{other}");
        }
        let mpirun = labels(&["[1,0]<stderr>:progress-executor worker 0 on n1"]);
        assert_eq!(mpirun.split("[1,0]<stderr>:a"), Some((&worker(0), "a")));
    }

    #[test]
    fn without_labels_lines_are_nobodys() {
        let labels = labels(&["progress-executor worker 0 on n1"]);
        assert_eq!(labels.split("a"), None);
    }

    #[test]
    fn a_worker_makes_itself_known_once_and_has_a_mark_when_it_has_come() {
        let mut labels = labels(&["0: progress-executor worker 0 on n1"]);
        assert!(!labels.learn("0: progress-executor worker 9 on n1"), "a task has written that");
        assert!(!labels.learn("progress-executor worker x on n1"));
        assert!(labels.learn("1: progress-executor worker 1 on n1"));
        assert_eq!(labels.split("1: a"), None);
        labels.greet(worker(1), "n1/1".into());
        assert_eq!(labels.split("1: a"), Some((&worker(1), "a")));
    }
}
