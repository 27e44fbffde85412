//! What is kept of the ended tasks of a group: the latest ones, and sums of all others.

use std::collections::VecDeque;

use crate::group::report::summary::Summary;
use crate::task::record::TaskRecord;

/// The records of a group, in the order in which the outcomes were handed out.
#[derive(Clone, Debug)]
pub(crate) struct History {
    latest: VecDeque<TaskRecord>,
    most: usize,
    /// The sums of those for which there was no room.
    omitted: Summary,
}

impl History {
    /// A history that keeps up to `most` tasks.
    pub(crate) fn new(most: usize) -> Self {
        Self { latest: VecDeque::new(), most, omitted: Summary::default() }
    }

    /// Adds a task. If there are too many, returns the oldest one, of which only the sums remain.
    pub(crate) fn add(&mut self, record: TaskRecord) -> Option<TaskRecord> {
        let displaced = if self.latest.len() == self.most { self.latest.pop_front() } else { None };
        displaced.iter().for_each(|oldest| self.omitted.add(oldest));
        self.latest.push_back(record);
        displaced
    }

    /// The records that are kept.
    pub(crate) fn latest(&self) -> impl Iterator<Item = &TaskRecord> {
        self.latest.iter()
    }

    /// All that are kept, and the sums of the others.
    pub(crate) fn into_parts(self) -> (Vec<TaskRecord>, Summary) {
        (self.latest.into(), self.omitted)
    }
}

#[cfg(test)]
mod tests {
    use super::History;
    use crate::task::details::Details;
    use crate::task::idle;
    use crate::task::record::TaskRecord;

    #[test]
    fn the_latest_tasks_are_kept_and_the_others_counted() {
        let mut history = History::new(3);
        for submitted in 0..8 {
            let task = idle::started(Details::default());
            task.core.close();
            task.core.state.settle(0);
            history.add(TaskRecord::new(&task, submitted));
        }
        let (kept, omitted) = history.into_parts();
        let kept: Vec<_> = kept.iter().map(|record| record.submitted).collect();
        assert_eq!((kept, omitted.ended()), (vec![5, 6, 7], 5));
    }
}
