//! The way from this program to a launcher: a process of this program that becomes the launcher.
//!
//! It does what only a process itself can do, before it becomes the launcher: it leaves the session of the program, so
//! that Ctrl-C does not reach the launcher, and asks the system to end the launcher with the program, even if the
//! program is killed while the launcher waits in a queue.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{self, Command};

use rustix::process::{Pid, getppid, setsid};

/// Marks the argument before the launcher's command; the program's process id follows.
const ARGUMENT: &str = "--progress-executor-launch=";
/// Follows the program's process id if the launcher's input is also its output.
const BOTH_WAYS: &str = ":both";

/// The exit code of a process that could not become a launcher, as in a shell.
const NOT_FOUND: i32 = 127;

/// Becomes the launcher, if the arguments of this process say so.
pub(crate) fn run_if_asked() {
    let mut arguments = env::args_os().skip(1).skip_while(|argument| order_in(argument).is_none());
    let Some((parent, is_both_ways)) = arguments.next().and_then(|argument| order_in(&argument)) else { return };
    let command: Vec<OsString> = arguments.collect();
    let Some((name, arguments)) = command.split_first() else { return };
    // This process leads no group, so it can have a session of its own.
    let _ = setsid();
    end_with_parent();
    if getppid() != Pid::from_raw(parent) {
        // The program ended before the death signal was set.
        process::exit(NOT_FOUND)
    }
    if !is_started_by_this_user() {
        let _ =
            writeln!(io::stderr(), "`{ARGUMENT}..` is for this program itself: its standard input shows who uses it");
        process::exit(NOT_FOUND)
    }
    // Only now, so that nothing that is printed on the way gets there.
    let output = if is_both_ways { rustix::stdio::dup2_stdout(io::stdin()) } else { Ok(()) };
    let error = match output {
        Ok(()) => Command::new(name).args(arguments).exec(),
        Err(error) => error.into(),
    };
    // Standard error may have no reader.
    let _ = writeln!(io::stderr(), "the launcher `{}` could not be started: {error}", name.to_string_lossy());
    process::exit(NOT_FOUND)
}

/// The argument for a launcher of the program with this process id. It says whether the launcher's input is also its output.
pub(crate) fn argument(program: u32, is_both_ways: bool) -> String {
    format!("{ARGUMENT}{program}{}", if is_both_ways { BOTH_WAYS } else { "" })
}

fn order_in(argument: &OsString) -> Option<(i32, bool)> {
    let order = argument.to_str()?.strip_prefix(ARGUMENT)?;
    let (program, is_both_ways) = order.strip_suffix(BOTH_WAYS).map_or((order, false), |program| (program, true));
    Some((program.parse().ok()?, is_both_ways))
}

/// Whether standard input is a socket of this user, as the program makes it. Otherwise, who may choose the arguments of a program
/// that runs under another account, as with `sudo`, could have it run any command there.
#[cfg(target_os = "linux")]
fn is_started_by_this_user() -> bool {
    use rustix::fs::{FileType, fstat};

    let input = fstat(io::stdin());
    input.is_ok_and(|input| {
        FileType::from_raw_mode(input.st_mode).is_socket() && input.st_uid == rustix::process::geteuid().as_raw()
    })
}

#[cfg(not(target_os = "linux"))]
fn is_started_by_this_user() -> bool {
    true
}

#[cfg(target_os = "linux")]
fn end_with_parent() {
    use rustix::process::{Signal, set_parent_process_death_signal};

    // The setting survives the `exec` of the launcher. The signal also comes when only the thread ends that has started this
    // process, but that thread lives as long as the workers do.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent() {}
