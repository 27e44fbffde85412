//! What is kept of the tasks of a group that have ended: the latest ones, and sums of all others.

use std::collections::VecDeque;

use crate::group::report::summary::Summary;
use crate::task::record::TaskRecord;

/// Records are kept in blocks that fit into what the tasks have left behind: one large piece of memory would be new to the
/// process, and many small ones cost more than all the rest.
const BLOCK: usize = 512;

/// The records of a group, in the order in which the outcomes were handed out.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// All but the last are full.
    blocks: VecDeque<Vec<TaskRecord>>,
    most_blocks: usize,
    /// Those for which there was no room.
    omitted: Summary,
}

impl History {
    /// One that keeps so many tasks, at least.
    pub(crate) fn new(most: usize) -> Self {
        Self { blocks: VecDeque::new(), most_blocks: most.div_ceil(BLOCK) + 1, omitted: Summary::default() }
    }

    /// Adds a task, in place of an old one where there are too many.
    pub(crate) fn add(&mut self, record: TaskRecord) {
        match self.blocks.back_mut().filter(|block| block.len() < BLOCK) {
            Some(block) => block.push(record),
            None => {
                // The first one grows as it is filled.
                let capacity = if self.blocks.is_empty() { 0 } else { BLOCK };
                let mut block = self.take_oldest().unwrap_or_else(|| Vec::with_capacity(capacity));
                block.push(record);
                self.blocks.push_back(block);
            }
        }
    }

    /// The room of the oldest records, where there is no other.
    fn take_oldest(&mut self) -> Option<Vec<TaskRecord>> {
        let mut block = if self.blocks.len() < self.most_blocks { None } else { self.blocks.pop_front() }?;
        for record in block.drain(..) {
            self.omitted.add(&record);
        }
        Some(block)
    }

    /// All that are kept, and the sums of the others.
    pub(crate) fn into_parts(self) -> (Vec<TaskRecord>, Summary) {
        (self.blocks.into_iter().flatten().collect(), self.omitted)
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, History};
    use crate::task::details::Details;
    use crate::task::idle;
    use crate::task::record::TaskRecord;

    #[test]
    fn the_latest_tasks_are_kept_and_the_others_counted() {
        let mut history = History::new(2 * BLOCK);
        for submitted in 0..5 * BLOCK as u64 + 1 {
            let task = idle::started(Details::default());
            task.core.close();
            task.core.state.settle(0);
            history.add(TaskRecord::new(&task, submitted, None));
        }
        let (kept, omitted) = history.into_parts();
        let first = kept.iter().map(|record| record.submitted).min();
        assert_eq!((kept.len(), first), (2 * BLOCK + 1, Some(3 * BLOCK as u64)));
        assert_eq!(omitted.ended(), 3 * BLOCK);
    }
}
