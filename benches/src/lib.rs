//! What the benchmarks share: the pools that are compared, and how they are.

pub mod latency;
pub mod pools;
pub mod processes;
mod readme;
pub mod rounds;
pub mod table;
