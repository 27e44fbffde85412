//! The integration tests.
//!
//! [`contract`] holds for every executor. The other modules test what is particular to one part.

mod bad_use;
mod bars;
mod contract;
mod drops;
mod foreign_executors;
mod future;
mod guarantees;
mod pause;
mod reports;
mod runtimes;
mod storm;
mod support;
mod sync;
mod threads;
mod tidy;
