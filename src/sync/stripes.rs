//! A count that many threads add to.

use std::array;
use std::cell::Cell;
use std::iter;
use std::marker::PhantomData;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// This many threads have places from the beginning.
const PLACES: usize = 32;
/// How many times the number of places may double: up to more threads than systems have.
const DOUBLINGS: usize = 27;

/// A counter that is sharded by thread, so that threads neither contend for a cache line nor need a locked instruction.
pub(crate) struct Stripes {
    places: [Stripe; PLACES],
    /// The places of further threads: each entry has as many as all before it.
    more: [OnceLock<Box<[Stripe]>>; DOUBLINGS],
}

/// Two cache lines, since some processors fetch them in pairs.
#[repr(align(128))]
struct Stripe(AtomicU64);

impl Stripe {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}

/// The place where one thread adds.
#[derive(Clone, Copy)]
pub(crate) struct LocalStripe<'a> {
    count: &'a AtomicU64,
    /// Another thread has another place.
    not_send: PhantomData<*const ()>,
}

impl LocalStripe<'_> {
    #[inline(always)]
    pub(crate) fn add(self, delta: u64) {
        // No other thread writes there.
        self.count.store(self.count.load(Ordering::Relaxed).wrapping_add(delta), Ordering::Relaxed);
    }
}

impl Stripes {
    pub(crate) fn new() -> Self {
        Self { places: array::from_fn(|_| Stripe::new()), more: [const { OnceLock::new() }; DOUBLINGS] }
    }

    #[inline]
    pub(crate) fn add(&self, delta: u64) {
        self.local().add(delta);
    }

    /// The place of this thread, for code that adds many times.
    #[inline]
    pub(crate) fn local(&self) -> LocalStripe<'_> {
        let place = place();
        let Stripe(count) = self.places.get(place).unwrap_or_else(|| self.further(place));
        LocalStripe { count, not_send: PhantomData }
    }

    #[cold]
    fn further(&self, place: usize) -> &Stripe {
        let doublings = (place / PLACES).ilog2();
        let before = PLACES << doublings;
        let more = || iter::repeat_with(Stripe::new).take(before).collect();
        &self.more[doublings as usize].get_or_init(more)[place - before]
    }

    pub(crate) fn sum(&self) -> u64 {
        let all = self.places.iter().chain(self.more.iter().filter_map(OnceLock::get).flatten());
        all.fold(0, |sum, Stripe(count)| sum.wrapping_add(count.load(Ordering::Relaxed)))
    }
}

const NONE: usize = usize::MAX;

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(NONE) };
    /// Gives the place back when the thread ends.
    static LEASE: Lease = Lease::take();
}

/// The place of this thread.
#[inline(always)]
fn place() -> usize {
    let place = PLACE.get();
    if place == NONE { find_place() } else { place }
}

#[cold]
fn find_place() -> usize {
    let place = LEASE.try_with(|lease| lease.0).unwrap_or_else(|_| {
        // A thread that is about to end has no thread-locals any more: it never gives its place back.
        let lease = mem::ManuallyDrop::new(Lease::take());
        lease.0
    });
    PLACE.set(place);
    place
}

struct Lease(usize);

/// The places that were given back, and the next one that was never taken.
static FREE: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

impl Lease {
    fn take() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let (returned, next) = &mut *free;
        Self(returned.pop().unwrap_or_else(|| mem::replace(next, *next + 1)))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        PLACE.set(NONE);
        FREE.lock().unwrap_or_else(PoisonError::into_inner).0.push(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::{PLACES, Stripes};

    #[test]
    fn each_thread_counts_however_many_there_are() {
        const THREADS: usize = 3 * PLACES + 1;
        let (stripes, all_are_there) = (Stripes::new(), Barrier::new(THREADS));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    stripes.add(1);
                    all_are_there.wait();
                    (0..1000).for_each(|_| stripes.local().add(1));
                });
            }
        });
        assert_eq!(stripes.sum(), 1001 * THREADS as u64);
    }
}
