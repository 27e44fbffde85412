//! What the examples have in common as programs: `--help`, errors with their causes, and exit codes.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::{self, ExitCode};

use async_signal::{Signal, Signals};
use progress_executor::BoxError;

/// The exit code that a shell reports for a program that Ctrl-C has ended.
#[allow(dead_code)] // Not every example handles Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code that a shell reports for a program whose output is no longer read (`SIGPIPE`).
pub(crate) const BROKEN_PIPE: u8 = 141;

/// The signals that ask a program to end; `Int` is Ctrl-C.
#[cfg(unix)]
const REQUESTS_TO_END: [Signal; 3] = [Signal::Int, Signal::Term, Signal::Hup];
#[cfg(not(unix))]
const REQUESTS_TO_END: [Signal; 1] = [Signal::Int];

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

const EXIT_CODES: &str = "
Exit codes: 0 finished, 1 failed, 2 wrong usage, 130 cancelled by Ctrl-C,
141 nobody reads the output";

/// Shows what `--help` asks for, or does the work that the command line asks for.
pub(crate) fn run<O>(
    usage: &str,
    parse: impl FnOnce(Vec<OsString>) -> Result<O, String>,
    work: impl FnOnce(O) -> Result<ExitCode, BoxError>,
) -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let mut options = arguments.iter().take_while(|&argument| argument != "--");
    if options.any(|option| option == "--help" || option == "-h") {
        say(&format_args!("{usage}\n{EXIT_CODES}"));
        return ExitCode::SUCCESS;
    }
    match parse(arguments) {
        Ok(options) => work(options).unwrap_or_else(|error| {
            complain(&format_args!("{error:#}")); // with its causes
            ExitCode::from(FAILED)
        }),
        Err(problem) => {
            complain(&format_args!("{problem}; `--help` shows the usage"));
            ExitCode::from(WRONG_USAGE)
        }
    }
}

/// Returns a stream with an item for each Ctrl-C, or other signal that asks the program to end.
#[allow(dead_code)] // Not every example handles Ctrl-C.
pub(crate) fn interrupts() -> io::Result<Signals> {
    Signals::new(REQUESTS_TO_END)
}

/// For an example that takes no arguments.
#[allow(dead_code)] // Not every example is one.
pub(crate) fn no_arguments(arguments: Vec<OsString>) -> Result<(), String> {
    arguments.first().map_or(Ok(()), |argument| Err(format!("unknown argument {argument:?}")))
}

/// Writes a line to standard output. If the reader has seen enough and is gone, such as `head`, the program exits, as others
/// do; `println!` would panic.
pub(crate) fn say(line: &dyn Display) {
    let Err(error) = writeln!(io::stdout(), "{line}") else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        process::exit(BROKEN_PIPE.into());
    }
    complain(&format_args!("cannot write to standard output: {error}"));
    process::exit(FAILED.into());
}

/// Writes a problem to standard error, after the name of the example. Failures are ignored: there is nowhere to report them.
pub(crate) fn complain(problem: &dyn Display) {
    let _ = writeln!(io::stderr(), "{}: {problem}", env!("CARGO_CRATE_NAME"));
}
