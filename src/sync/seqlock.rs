//! Values that belong together, written by one thread and read by any as one consistent whole: a [seqlock] with a single
//! writer.
//!
//! A sequence number is odd while a write is under way, and readers start again when it has moved. The release fence in
//! [`Sequence::write`] is what makes the plain stores safe: a reader that sees a store made after it, within the write or
//! later, and then passes its own acquire fence, also sees that the number has moved.
//!
//! [seqlock]: https://en.wikipedia.org/wiki/Seqlock

use crate::sync::primitives::{AtomicU32, Ordering, fence, spin_loop};

#[derive(Debug)]
pub(crate) struct Sequence(AtomicU32);

impl Sequence {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Makes relaxed `stores` that readers see all of, or none. There is one writer at a time.
    pub(crate) fn write(&self, stores: impl FnOnce()) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        stores();
        self.0.store(before.wrapping_add(2), Ordering::Release);
    }

    /// Repeats relaxed `loads` until they were not interrupted by a write.
    pub(crate) fn read<R>(&self, loads: impl Fn() -> R) -> R {
        loop {
            let before = self.0.load(Ordering::Acquire);
            let values = loads();
            fence(Ordering::Acquire);
            if before % 2 == 0 && before == self.0.load(Ordering::Relaxed) {
                return values;
            }
            spin_loop();
        }
    }
}
