//! The synchronization primitives of the files that a model checks: `tests/model.rs` compiles those files again, with the
//! primitives of `loom` instead.

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
#[allow(unused_imports, reason = "only pools of processes, where there are any, have a leader")]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) use crossbeam_utils::atomic::AtomicCell;
