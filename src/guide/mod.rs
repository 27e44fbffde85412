//! The guide, beyond the front page. These modules contain documentation only.
//!
//! - [`libraries`]: how a library runs its long work on whatever executor the program has, worker processes included.
//! - [`values`]: which values cross to worker processes, and how they arrive.
//! - [`cluster`]: the same tasks on other machines, placed there by Slurm, ssh or any other launcher.
//! - [`security`]: who may talk to a program and its workers, and what others on the network can see.
//! - [`limits`]: what this crate is not, and what to use instead.

pub mod cluster;
pub mod libraries;
pub mod limits;
pub mod security;
pub mod values;
