//! An iterator that counts.

use std::iter::FusedIterator;

use crate::error::Cancelled;
use crate::updater::{Turn, Updater};

/// An iterator that counts its items as progress, made by [`Updater::iter`].
///
/// Its items are `Ok(item)`, and one `Err(Cancelled)` at its end if cancellation was requested. A task that returns a
/// value after that still ends as cancelled; see [`Updater::iter`].
///
/// # Examples
///
/// ```
/// # let executor = progress_executor::SyncExecutor::new();
/// let task = executor.spawn(|progress| {
///     let mut words = progress.iter(["a", "b", "c"]).enumerate();
///     let found = words.find_map(|(index, word)| match word {
///         Ok(word) => (word == "b").then_some(Ok(index)),
///         Err(cancelled) => Some(Err(cancelled)),
///     });
///     Ok(found.transpose()?)
/// });
/// assert_eq!(task.wait()?, Some(1));
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Debug)]
#[must_use = "iterators do nothing unless they are consumed"]
pub struct ProgressIter<'a, I> {
    updater: &'a Updater,
    items: I,
    /// How many items were handed out.
    n: u64,
    turn: Turn,
    /// Whether the total is the iterator's length, and not one that the task has set.
    total_is_counted: bool,
    ended: bool,
}

impl Updater {
    /// Counts the items of an iterator, and checks for cancellation before each.
    ///
    /// This starts a count of its own: `n` from 0, and `total` if the iterator knows its exact length. If it does not,
    /// a total that the task has [set](Self::set_total) before stays, but not that of an earlier iterator. An item
    /// counts as done when the next one is asked for. Items come as `Ok(item)`; once cancellation was requested, one
    /// `Err(Cancelled)` follows, and then nothing.
    ///
    /// The count is that of the iterator that was asked last: if the loop over one contains a loop over another, the
    /// inner one is shown until the outer one goes on. To have both in one count, give the inner loop a
    /// [part](Self::split): `progress.split(1).iter(..)`.
    ///
    /// A part is never taken for the whole: once that error was handed out, the task ends as cancelled, even if it
    /// ignores the error or leaves out what is not `Ok`, and returns a value. That value is kept: see
    /// [`TaskError::into_partial`](crate::TaskError::into_partial). An iterator that was at its end before is not
    /// affected.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let mut sum = 0;
    ///     for number in progress.iter(1..=10) {
    ///         sum += number?;
    ///     }
    ///     Ok(sum)
    /// });
    /// assert_eq!(task.wait()?, 55);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn iter<I: IntoIterator>(&self, items: I) -> ProgressIter<'_, I::IntoIter> {
        let items = items.into_iter();
        let (least, most) = items.size_hint();
        let total = most.filter(|&most| most == least).map(|len| len as u64);
        let turn = self.start_count(total);
        ProgressIter { updater: self, items, n: 0, turn, total_is_counted: total.is_some(), ended: false }
    }
}

impl<I: Iterator> Iterator for ProgressIter<'_, I> {
    type Item = Result<I::Item, Cancelled>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.turn.number != self.updater.turn.get() {
            self.turn = self.updater.resume_count(self.turn, self.total_is_counted, self.n);
        }
        // All that was handed out is done, now that more is asked for.
        if let Err(cancelled) = self.updater.set_position(self.n) {
            self.ended = true;
            return Some(Err(self.updater.cut_short(cancelled)));
        }
        let item = self.items.next();
        match &item {
            Some(_) => self.n += 1,
            None => self.ended = true,
        }
        item.map(Ok)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.ended {
            return (0, Some(0));
        }
        // Cancellation may end it at any time, and adds one item, the error.
        (0, self.items.size_hint().1.and_then(|most| most.checked_add(1)))
    }
}

impl<I: Iterator> FusedIterator for ProgressIter<'_, I> {}
