//! Workers that an engine has placed: Slurm, and ssh. `start-slurm` and `start-ssh` beside this file start both on this
//! machine; without them, these tests are left out, and say so.

#![cfg(target_os = "linux")]

mod bulk;
mod support;

use support::{count, count_forever, double, echo, echo_bytes, fail, process_id, spin, take_time};

progress_executor::test_worker!(count, count_forever, double, echo, echo_bytes, fail, process_id, spin, take_time);
