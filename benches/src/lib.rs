//! What the benchmarks share: the pools that are compared, how they are measured, and the tables that are written.

pub mod latency;
pub mod pools;
pub mod processes;
mod readme;
pub mod rounds;
pub mod table;
