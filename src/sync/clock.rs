//! Moments that fit into one atomic.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since some moment of this process; never zero, and never going back.
pub(crate) fn now() -> u64 {
    u64::try_from(EPOCH.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
}

/// The moment that lies so many nanoseconds after that; `None` where it cannot be told.
pub(crate) fn instant(moment: u64) -> Option<Instant> {
    EPOCH.checked_add(Duration::from_nanos(moment))
}
