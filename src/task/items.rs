//! A task that is a chunk of a map: it runs many inputs, its *items*, one after the other.
//!
//! To its executor, it is one task. To the map and its observers, each item is one: the count, the message and the time
//! are those of the item that is running, and each item has an outcome of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::codec::Encoded;
use crate::error::{TaskError, TaskErrorKind};
use crate::progress::Status;

/// The items of a task, whatever their types.
pub(crate) trait Items: Send + Sync {
    fn counts(&self) -> &ItemCounts;

    /// Whether an executor had accepted these before, as part of another task.
    fn were_accepted(&self) -> bool;

    /// Takes the outcome that the next item had in another process. `error` makes an error for that item.
    fn accept(&self, outcome: Result<Encoded, TaskError>, error: &dyn Fn(TaskErrorKind) -> TaskError);

    /// Like [`accept`](Self::accept), for several items that have ended with values, in the form of
    /// [`codec::items`](crate::codec::items).
    fn accept_values(&self, values: &[u8], error: &dyn Fn(TaskErrorKind) -> TaskError);

    /// The process has run the items, or has given back those that have not begun. `input` is all that it was sent.
    fn end(&self, input: Vec<u8>, error: &dyn Fn(TaskErrorKind) -> TaskError);

    /// The executor gives them back before it has accepted them, as they are too large together.
    fn give_back(&self, input: Vec<u8>, error: &dyn Fn(TaskErrorKind) -> TaskError);

    /// How long to run them before those that have not begun are given back; `None` for as long as it takes.
    fn patience(&self) -> Option<Duration>;

    /// The process that ran them is lost, and with it the item that was running. Those that have not begun go on elsewhere.
    fn lose(&self, lost: Lost, error: &dyn Fn(TaskErrorKind) -> TaskError);
}

/// A chunk whose process is lost.
pub(crate) struct Lost {
    /// All that was sent to that process.
    pub(crate) input: Vec<u8>,
    /// Whether the items without a reported outcome are known not to have ended, and hence all but the first of them
    /// not to have begun.
    pub(crate) is_exact: bool,
    pub(crate) is_cancelled: bool,
}

/// How many items there are, and what has become of them. Written only where they are run, or where their outcomes arrive.
#[derive(Debug, Default)]
pub(crate) struct ItemCounts {
    total: usize,
    finished: AtomicUsize,
    failed: AtomicUsize,
    /// How many of the failed ones were lost with their worker.
    lost: AtomicUsize,
    cancelled: AtomicUsize,
    /// How many go on in another task.
    moved: AtomicUsize,
}

/// What has become of the items, as of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ItemReading {
    pub(crate) finished: usize,
    pub(crate) failed: usize,
    /// How many of the failed ones were lost with their worker.
    pub(crate) lost: usize,
    pub(crate) cancelled: usize,
    /// How many have no outcome, and go on in another task.
    pub(crate) moved: usize,
    /// How many others have no outcome: at most one of them is running.
    pub(crate) left: usize,
}

impl ItemCounts {
    pub(crate) fn new(total: usize) -> Self {
        Self { total, ..Self::default() }
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    pub(crate) fn ended(&self) -> usize {
        self.read().ended()
    }

    /// Counts one more item that has ended.
    pub(crate) fn note<O>(&self, outcome: &Result<O, TaskError>) {
        // There is one writer.
        let add = |count: &AtomicUsize| count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        match outcome {
            Ok(_) => add(&self.finished),
            Err(error) if error.is_cancelled() => add(&self.cancelled),
            Err(error) => {
                add(&self.failed);
                if error.is_worker_lost() {
                    add(&self.lost);
                }
            }
        }
    }

    pub(crate) fn set_moved(&self, moved: usize) {
        self.moved.store(moved, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> ItemReading {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let [finished, failed, cancelled] = [&self.finished, &self.failed, &self.cancelled].map(read);
        // One may have been lost since `failed` was read.
        let (moved, lost) = (read(&self.moved), read(&self.lost).min(failed));
        let left = self.total.saturating_sub(finished + failed + cancelled + moved);
        ItemReading { finished, failed, lost, cancelled, moved, left }
    }
}

impl ItemReading {
    /// The reading of an item that is a task of its own.
    pub(crate) fn of_one(status: Status) -> Self {
        let is = |ending| usize::from(status == ending);
        let [finished, failed, cancelled] = [Status::Finished, Status::Failed, Status::Cancelled].map(is);
        Self { finished, failed, cancelled, left: usize::from(!status.is_terminal()), ..Self::default() }
    }

    pub(crate) fn ended(&self) -> usize {
        self.finished + self.failed + self.cancelled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::ItemCounts;

    #[test]
    fn no_more_items_are_lost_than_have_failed_as_of_one_moment() {
        // As a reader may see it while the first one is noted.
        let counts = ItemCounts { lost: AtomicUsize::new(1), ..ItemCounts::new(3) };
        let reading = counts.read();
        assert_eq!((reading.failed, reading.lost, reading.left), (0, 0, 3));
    }
}
