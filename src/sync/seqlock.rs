//! Values that belong together, written by one thread and read by any as one consistent whole: a [seqlock] with a single
//! writer.
//!
//! A sequence number is odd while a write is under way, and readers start again when it has moved. The release fence in
//! [`Sequence::write`] is what makes the plain stores safe: a reader that sees a store made after it, within the write or
//! later, and then passes its own acquire fence, also sees that the number has moved.
//!
//! [seqlock]: https://en.wikipedia.org/wiki/Seqlock

use crate::sync::primitives::{AtomicU32, Ordering, fence, spin_loop};

/// The sequence number that guards some values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence<'a>(pub(crate) &'a AtomicU32);

impl Sequence<'_> {
    /// Runs relaxed `stores`, of which readers see all or none. There is one writer at a time.
    pub(crate) fn write(self, stores: impl FnOnce()) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        stores();
        self.0.store(before.wrapping_add(2), Ordering::Release);
    }

    /// Repeats relaxed `loads` until no write interrupts them.
    pub(crate) fn read<R>(self, loads: impl Fn() -> R) -> R {
        loop {
            if let Some(values) = self.try_read(&loads) {
                return values;
            }
            spin_loop();
        }
    }

    /// Runs relaxed `loads` once. `None` if a write interrupted them, or if the writer never finished one.
    pub(crate) fn try_read<R>(self, loads: impl Fn() -> R) -> Option<R> {
        let before = self.0.load(Ordering::Acquire);
        let values = loads();
        fence(Ordering::Acquire);
        (before % 2 == 0 && before == self.0.load(Ordering::Relaxed)).then_some(values)
    }
}
