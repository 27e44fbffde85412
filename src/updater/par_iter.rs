//! A parallel iterator that counts.

use std::cell::Cell;

use rayon::iter::plumbing::{Consumer, Folder, UnindexedConsumer};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::error::Cancelled;
use crate::sync::stripes::LocalStripe;
use crate::task::state;
use crate::updater::Updater;
use crate::updater::shared::SharedUpdater;

impl Updater {
    /// Counts the items of a rayon iterator, and checks for cancellation before each. Requires the feature `rayon`.
    ///
    /// This starts a count of its own, as [`iter`](Self::iter) does. An item counts as done once the consumer has taken
    /// it in. Items come as `Ok(item)`; once cancellation was requested, each of the pieces
    /// into which rayon has split them ends with one `Err(Cancelled)`: so `try_for_each` and `collect::<Result<_, _>>` end early. A task that returns a value
    /// nevertheless still ends as cancelled, as with [`iter`](Self::iter): a part is never taken for the whole.
    ///
    /// To control how the items are split, or to use `enumerate` or `zip`, call the methods of rayon before this one.
    ///
    /// # Examples
    ///
    /// ```
    /// use rayon::prelude::*;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let task = executor.submit(|numbers: Vec<u64>, progress| {
    ///     let squares: Vec<u64> = progress.par_iter(numbers).map(|n| n.map(|n| n * n)).collect::<Result<_, _>>()?;
    ///     Ok(squares)
    /// }, vec![1, 2, 3]);
    /// assert_eq!(task.wait()?, [1, 4, 9]);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn par_iter<I: IntoParallelIterator>(&self, items: I) -> ProgressParIter<I::Iter> {
        let items = items.into_par_iter();
        let shared = self.shared();
        let _ = self.start_count(items.opt_len().map(|len| len as u64));
        ProgressParIter { shared, items }
    }
}

/// A parallel iterator that counts its items as progress, made by [`Updater::par_iter`].
///
/// Its items are `Ok(item)`, and one `Err(Cancelled)` for each piece of them that was cut short because cancellation was
/// requested.
///
/// # Examples
///
/// ```
/// use rayon::prelude::*;
///
/// # let executor = progress_executor::ThreadPoolExecutor::new(1);
/// let task = executor.spawn(|progress| {
///     progress.par_iter(0..1000_u64).try_for_each(|number| {
///         // … something that takes long …
///         number.map(drop)
///     })?;
///     Ok(())
/// });
/// task.wait()?;
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Debug)]
#[must_use = "iterators do nothing unless they are consumed"]
pub struct ProgressParIter<I> {
    shared: SharedUpdater,
    items: I,
}

impl<I: ParallelIterator> ParallelIterator for ProgressParIter<I> {
    type Item = Result<I::Item, Cancelled>;

    fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(self, consumer: C) -> C::Result {
        self.items.drive_unindexed(Counted { shared: &self.shared, base: consumer })
    }
}

/// A consumer of items that are counted.
struct Counted<'a, C> {
    shared: &'a SharedUpdater,
    base: C,
}

impl<'a, T, C: Consumer<Result<T, Cancelled>>> Consumer<T> for Counted<'a, C> {
    type Folder = CountedFolder<'a, C::Folder>;
    type Reducer = C::Reducer;
    type Result = C::Result;

    fn split_at(self, index: usize) -> (Self, Self, Self::Reducer) {
        let (left, right, reducer) = self.base.split_at(index);
        let shared = self.shared;
        (Counted { shared, base: left }, Counted { shared, base: right }, reducer)
    }

    fn into_folder(self) -> Self::Folder {
        let local = self.shared.local();
        CountedFolder { shared: self.shared, local, base: self.base.into_folder(), is_cancelled: false }
    }

    fn full(&self) -> bool {
        self.base.full()
    }
}

impl<T, C: UnindexedConsumer<Result<T, Cancelled>>> UnindexedConsumer<T> for Counted<'_, C> {
    fn split_off_left(&self) -> Self {
        Counted { shared: self.shared, base: self.base.split_off_left() }
    }

    fn to_reducer(&self) -> Self::Reducer {
        self.base.to_reducer()
    }
}

struct CountedFolder<'a, F> {
    shared: &'a SharedUpdater,
    /// A folder stays on its thread.
    local: LocalStripe<'a>,
    base: F,
    /// Whether it has handed out the error, and takes no more items.
    is_cancelled: bool,
}

impl<T, F: Folder<Result<T, Cancelled>>> Folder<T> for CountedFolder<'_, F> {
    type Result = F::Result;

    #[inline]
    fn consume(mut self, item: T) -> Self {
        if self.is_cancelled {
            return self;
        }
        // One look at the control word, for the count of the item before and for this item.
        match self.shared.checkpoint(state::ATTENTION) {
            Err(cancelled) => {
                self.base = self.base.consume(Err(self.shared.cut_short(cancelled)));
                self.is_cancelled = true;
            }
            Ok(()) => {
                self.base = self.base.consume(Ok(item));
                self.local.add(1);
            }
        }
        self
    }

    /// The consumer goes through the items in its own way, perhaps in a tight loop.
    fn consume_iter<I: IntoIterator<Item = T>>(mut self, items: I) -> Self {
        if self.is_cancelled {
            return self;
        }
        let (shared, local) = (self.shared, self.local);
        let (is_one_out, is_cancelled) = (Cell::new(false), Cell::new(false));
        let items = items.into_iter();
        self.base = self.base.consume_iter(CountedItems {
            shared,
            local,
            items,
            is_one_out: &is_one_out,
            is_cancelled: &is_cancelled,
        });
        if is_one_out.get() {
            local.add(1);
        }
        self.is_cancelled = is_cancelled.get();
        self
    }

    fn complete(self) -> Self::Result {
        self.shared.report_if_due();
        self.base.complete()
    }

    fn full(&self) -> bool {
        self.is_cancelled || self.base.full()
    }
}

/// The items of a folder, each of which is counted when the next one is asked for.
struct CountedItems<'a, I> {
    shared: &'a SharedUpdater,
    local: LocalStripe<'a>,
    items: I,
    /// Whether an item was handed out and not yet counted.
    is_one_out: &'a Cell<bool>,
    is_cancelled: &'a Cell<bool>,
}

impl<I> CountedItems<'_, I> {
    #[inline(always)]
    fn count_last(&self) {
        if self.is_one_out.take() {
            self.local.add(1);
        }
    }

    /// The item, unless the task must end.
    #[inline(always)]
    fn checked<T>(&self, item: T) -> Result<T, Cancelled> {
        match self.shared.checkpoint(state::ATTENTION) {
            Ok(()) => Ok(item),
            Err(cancelled) => {
                self.is_cancelled.set(true);
                Err(self.shared.cut_short(cancelled))
            }
        }
    }
}

impl<I: Iterator> Iterator for CountedItems<'_, I> {
    type Item = Result<I::Item, Cancelled>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.count_last();
        if self.is_cancelled.get() {
            return None;
        }
        let item = self.items.next()?;
        let item = self.checked(item);
        self.is_one_out.set(item.is_ok());
        Some(item)
    }

    /// Does not use the flags that are kept between two calls of [`next`](Self::next).
    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(mut self, init: B, mut f: F) -> B {
        self.count_last();
        if self.is_cancelled.get() {
            return init;
        }
        let mut folded = init;
        while let Some(item) = self.items.next() {
            let item = self.checked(item);
            let is_cancelled = item.is_err();
            folded = f(folded, item);
            if is_cancelled {
                break;
            }
            self.local.add(1);
        }
        folded
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // It may end early.
        (0, self.items.size_hint().1)
    }
}
