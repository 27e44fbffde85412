//! What the benchmarks share: the pools that are compared, and how they are.

pub mod pools;
pub mod rounds;
