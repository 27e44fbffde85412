//! A count that many threads add to.

use std::array;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

/// How many threads have a place of their own to count in.
const PLACES: usize = 32;
/// The place for all other threads.
const COMMON: usize = PLACES;

/// A counter that is sharded by thread, so that threads neither contend for a cache line nor need a locked instruction.
pub(crate) struct Stripes([Stripe; PLACES + 1]);

/// Two cache lines, for some processors fetch them in pairs.
#[repr(align(128))]
struct Stripe(AtomicU64);

/// Where one thread adds.
#[derive(Clone, Copy)]
pub(crate) struct LocalStripe<'a> {
    stripe: &'a Stripe,
    is_common: bool,
    /// Another thread has another place.
    not_send: PhantomData<*const ()>,
}

impl LocalStripe<'_> {
    #[inline(always)]
    pub(crate) fn add(self, delta: u64) {
        let Stripe(count) = self.stripe;
        if self.is_common {
            count.fetch_add(delta, Ordering::Relaxed);
        } else {
            // Nobody else writes there.
            count.store(count.load(Ordering::Relaxed).wrapping_add(delta), Ordering::Relaxed);
        }
    }
}

impl Stripes {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| Stripe(AtomicU64::new(0))))
    }

    #[inline]
    pub(crate) fn add(&self, delta: u64) {
        self.local().add(delta);
    }

    /// The place of this thread, for those who add many times.
    #[inline]
    pub(crate) fn local(&self) -> LocalStripe<'_> {
        let place = place();
        LocalStripe { stripe: &self.0[place], is_common: place == COMMON, not_send: PhantomData }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, stripe| sum.wrapping_add(stripe.0.load(Ordering::Relaxed)))
    }
}

const NONE: usize = usize::MAX;

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(NONE) };
    /// Gives the place back when the thread ends.
    static LEASE: Lease = Lease::take();
}

/// The place of this thread, from 0 to [`COMMON`].
#[inline(always)]
fn place() -> usize {
    let place = PLACE.get();
    if place <= COMMON { place } else { find_place() }
}

#[cold]
fn find_place() -> usize {
    // A thread that is about to end has no thread-locals any more.
    let place = LEASE.try_with(|lease| lease.0).unwrap_or(COMMON);
    PLACE.set(place);
    place
}

struct Lease(usize);

static FREE: LazyLock<Mutex<Vec<usize>>> = LazyLock::new(|| Mutex::new((0..PLACES).rev().collect()));

impl Lease {
    fn take() -> Self {
        Self(FREE.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or(COMMON))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        PLACE.set(COMMON);
        if self.0 != COMMON {
            FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
        }
    }
}
