//! Text beside bars: what tasks say, what workers write and log, and what a screen shows of it all.

mod keys;
mod lines;
mod output;
mod parts;
mod screen;
mod standard_error;
#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "../it/support.rs"]
mod support;
mod terminal;

use lines::{say_each, say_much, say_numbers, say_numbers_elsewhere};
use output::{
    complain_and_die, leave_a_talker, log_levels, say_at_length, say_hello, write_for_ever, write_kilobytes,
    write_lines, write_number, write_when_it_is_to_end,
};
use parts::{have_many_parts, have_parts};
use screen::{fall, grow, play};
use standard_error::say_much_later;
use support::count;

progress_executor::test_worker!(
    complain_and_die,
    count,
    fall,
    grow,
    have_many_parts,
    have_parts,
    leave_a_talker,
    log_levels,
    play,
    say_at_length,
    say_each,
    say_hello,
    say_much,
    say_much_later,
    say_numbers,
    say_numbers_elsewhere,
    write_for_ever,
    write_kilobytes,
    write_lines,
    write_number,
    write_when_it_is_to_end,
);
