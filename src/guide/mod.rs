//! The guide, beyond the front page: pages without code of their own.
//!
//! - [`libraries`]: a library that runs its long work on whatever executor the program has, also in worker processes.
//! - [`values`]: what crosses to worker processes, and as what it arrives.
//! - [`limits`]: what this crate is not, and what to take instead.

pub mod libraries;
pub mod limits;
pub mod values;
