//! Workers that Slurm or ssh has placed. `start-slurm` and `start-ssh` beside this file start both on this machine;
//! without them, these tests are skipped, and say so.

#![cfg(target_os = "linux")]

mod bulk;
mod crowd;
mod ends;
mod files;
mod launched;
mod nodes;
mod output;
mod programs;
mod strangers;
mod support;

use support::{
    abort, allocate, count_forever, crash_five_times, double, echo, echo_bytes, exit, fail, hold, leave_behind,
    leave_line, rest, say, spin, stay, variable, wait_and_double,
};

progress_executor::test_worker!(
    abort,
    allocate,
    count_forever,
    crash_five_times,
    double,
    echo,
    echo_bytes,
    exit,
    fail,
    hold,
    leave_behind,
    leave_line,
    rest,
    say,
    spin,
    stay,
    variable,
    wait_and_double
);
