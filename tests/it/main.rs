//! The integration tests.
//!
//! [`contract`] holds for every executor. The other modules test what is particular to one part.

mod bad_use;
mod bars;
mod cancel_many;
mod contract;
mod crashes;
mod crowds;
mod drops;
mod errors;
mod foreign_executors;
mod future;
mod group_bars;
mod group_reports;
mod groups;
mod guarantees;
mod handles;
mod helped;
mod launched;
mod limits;
mod maps;
mod names;
mod odd_code;
mod partial;
mod parts;
mod pause;
mod processes;
#[cfg(feature = "rayon")]
mod rayon;
mod reports;
mod retries;
mod runtimes;
mod shared;
mod silence;
mod stopped;
mod storm;
mod support;
mod suspended;
mod sync;
mod threads;
mod tidy;
mod totals;
mod wakers;
mod wrapped;

use contract::{
    check_for, copy_for_ever, count_and_fail, count_forever, count_in_parts, count_in_threads,
    count_in_threads_for_ever, crash, echo, fail, fail_when_cancelled, fail_within_a_part, finish_all_the_same,
    finish_too_late, overrun, refuse_seven, say_cancelled, set_a_message, set_pairs, sleep_for_ever,
    sleep_within_a_part, time_left, who_it_is, wrap_the_cancellation,
};
use crashes::{
    echo_bytes, echo_picky, echo_texts, initialize, open_files, process_id, repeat, spring, spring_later, talk_and_die,
    talk_much,
};
use group_bars::say_the_same;
use launched::{directory, exit_with, length, say, slow_down, variable};
use limits::{check_later, see_the_deadline_move};
use odd_code::{deepen, fail_oddly, is_list, name_of, panic_oddly, turn_round};
use partial::take_a_part;
use processes::{
    append, clean_up_slowly, fail_with_sources, generic, hold, leave_a_writer, make_large, nest, spin,
    spin_with_a_child, spin_with_a_message, surroundings,
};
use retries::{announce_and_hold, announce_and_listen, burn, burn_and_sum, burn_slowly, succeed_elsewhere};
use silence::{exit_and_leave_a_child, leave_a_child_behind, print_and_stay, print_without_an_end, thread_name};
use support::{count, tick_forever};
use suspended::notice_and_stay;
use wrapped::{explode, wrap_in};

// What the worker processes of these tests can run.
progress_executor::test_worker!(
    {
        crashes::start();
        announce_and_hold
    },
    announce_and_listen,
    append,
    burn,
    burn_and_sum,
    burn_slowly,
    check_for,
    check_later,
    clean_up_slowly,
    copy_for_ever,
    count,
    count_and_fail,
    count_forever,
    count_in_parts,
    count_in_threads,
    count_in_threads_for_ever,
    crash,
    deepen,
    directory,
    echo,
    echo_bytes,
    echo_picky,
    echo_texts,
    explode,
    exit_and_leave_a_child,
    exit_with,
    fail,
    fail_oddly,
    fail_when_cancelled,
    fail_with_sources,
    fail_within_a_part,
    finish_all_the_same,
    finish_too_late,
    generic::<u8>,
    hold,
    initialize,
    leave_a_child_behind,
    leave_a_writer,
    length,
    make_large,
    name_of,
    nest,
    notice_and_stay,
    open_files,
    overrun,
    print_and_stay,
    print_without_an_end,
    is_list,
    panic_oddly,
    process_id,
    refuse_seven,
    repeat,
    say_cancelled,
    say,
    say_the_same,
    see_the_deadline_move,
    succeed_elsewhere,
    set_a_message,
    slow_down,
    set_pairs,
    sleep_for_ever,
    sleep_within_a_part,
    spin,
    spin_with_a_child,
    spin_with_a_message,
    spring,
    spring_later,
    surroundings,
    take_a_part,
    talk_and_die,
    talk_much,
    thread_name,
    tick_forever,
    turn_round,
    variable,
    time_left,
    who_it_is,
    wrap_in,
    wrap_the_cancellation,
);
