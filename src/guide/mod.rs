//! The guide, beyond the front page: pages without code of their own.
//!
//! - [`libraries`]: a library that runs its long work on whatever executor the program has, also in worker processes.
//! - [`values`]: what crosses to worker processes, and as what it arrives.
//! - [`cluster`]: the same tasks on other machines, which Slurm, ssh or any other launcher has placed.
//! - [`security`]: who may speak to a program and its workers, and what somebody on the network sees.
//! - [`limits`]: what this crate is not, and what to take instead.

pub mod cluster;
pub mod libraries;
pub mod limits;
pub mod security;
pub mod values;
