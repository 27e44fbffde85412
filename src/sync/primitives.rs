//! The synchronization primitives of the lock-free files ([`state`](crate::task::state), [`counts`](crate::task::counts),
//! [`waiter`](crate::sync::waiter)): `tests/model.rs` compiles those files again with the ones of `loom` in their place.

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
