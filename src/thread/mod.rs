//! A pool of threads.

pub(crate) mod builder;
pub(crate) mod executor;
mod pool;
