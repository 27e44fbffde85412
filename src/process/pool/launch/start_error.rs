//! Why the system could not start a process, for people.

use std::io;

use rustix::io::Errno;

use crate::process::program;
use crate::sync::shortage;

/// What the system lacks, maybe only for a while.
pub(crate) fn missing(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => Some("the limit on open files, `ulimit -n`, is reached"),
        Some(Errno::NFILE) => Some("the system has no more open files"),
        _ => shortage::missing(error),
    }
}

/// Whether the same may succeed a moment later.
pub(in crate::process::pool) fn is_shortage(error: &io::Error) -> bool {
    missing(error).is_some()
}

/// Adds the program that the system could not start to an error that names nothing, unless it is about a shortage.
pub(in crate::process::pool) fn name_program(program: usize, place: &str, error: io::Error) -> io::Error {
    if error.raw_os_error().is_none() || is_shortage(&error) {
        return error;
    }
    io::Error::new(error.kind(), format!("{}{place}: {error}", program::name(program)))
}
