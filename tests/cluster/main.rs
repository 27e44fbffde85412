//! Workers that an engine has placed: Slurm, and ssh. `start-slurm` and `start-ssh` beside this file start both on this
//! machine; without them, these tests are left out, and say so.

#![cfg(target_os = "linux")]

mod bulk;
mod crowd;
mod files;
mod launched;
mod nodes;
mod programs;
mod strangers;
mod support;

use support::{abort, count_forever, double, echo, echo_bytes, exit, fail, spin, take_time};

progress_executor::test_worker!(abort, count_forever, double, echo, echo_bytes, exit, fail, spin, take_time);
