//! What this process is: a program, or a worker of one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
#[cfg(feature = "cluster")]
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, io};

use rustix::fs::{FileType, fstat};

use crate::process::protocol::descriptor::above_standard;
use crate::process::protocol::link::Link;
use crate::process::registry::TaskRegistry;

/// Marks the argument that makes a process a worker; the id of a task follows.
pub(crate) const ARGUMENT: &str = "--progress-executor-task=";
/// The argument before that one, if a launcher has started the worker.
pub(crate) const LAUNCHED: &str = "--progress-executor-stdio";
/// The same, once the worker has the surroundings that the program wants.
pub(crate) const SETTLED: &str = "--progress-executor-settled";
/// The argument before that one, if the worker must connect: its invitation is the first line of standard input, or of the
/// file that is named after `=`.
#[cfg(feature = "cluster")]
pub(crate) const CONNECTING: &str = "--progress-executor-connect";
/// The same, once the worker has its surroundings. It then reads the invitation from the descriptor whose number follows after
/// `=`.
#[cfg(feature = "cluster")]
pub(crate) const SETTLED_CONNECTING: &str = "--progress-executor-connect-settled";

/// The argument of a worker that is started for this task.
pub(crate) fn argument(task: &str) -> String {
    format!("{ARGUMENT}{task}")
}

/// How many programs this one is nested in: 0 unless it is a worker.
static DEPTH: AtomicU32 = AtomicU32::new(0);

pub(crate) fn depth() -> u32 {
    DEPTH.load(Ordering::Relaxed)
}

pub(crate) fn set_depth(depth: u32) {
    DEPTH.store(depth, Ordering::Relaxed);
}

/// What kind of worker this process is, by its arguments.
#[derive(Debug)]
pub(crate) struct Role {
    /// Whether a test harness writes to standard output first.
    pub(crate) is_test: bool,
    pub(crate) transport: Transport,
}

/// How a worker and its program reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Standard input is a socket, and its other end is the program's.
    Inherited,
    /// Standard input and output are those of a launcher.
    Launched {
        /// The surroundings are those that the program wants.
        is_settled: bool,
    },
    /// The worker connects.
    #[cfg(feature = "cluster")]
    Connecting {
        /// The descriptor that holds the invitation, once the surroundings are those that the program wants.
        left_in: Option<u32>,
    },
}

impl Role {
    pub(crate) fn of_this_process() -> Option<Self> {
        let mut arguments = env::args_os().skip(1).collect::<Vec<_>>().into_iter().rev();
        let is_worker = arguments.next()?.to_str().is_some_and(|argument| argument.starts_with(ARGUMENT));
        let transport = match arguments.next().as_deref().and_then(OsStr::to_str) {
            Some(LAUNCHED) => Transport::Launched { is_settled: false },
            Some(SETTLED) => Transport::Launched { is_settled: true },
            #[cfg(feature = "cluster")]
            Some(argument) if is_connecting(argument) => Transport::Connecting { left_in: None },
            #[cfg(feature = "cluster")]
            Some(argument) => {
                left_in(argument).map_or(Transport::Inherited, |it| Transport::Connecting { left_in: Some(it) })
            }
            _ => Transport::Inherited,
        };
        is_worker.then(|| Self { is_test: env::args_os().any(|argument| argument == "--exact"), transport })
    }

    /// Returns an error if standard input cannot be the channel.
    pub(crate) fn check_input(&self) -> io::Result<()> {
        let stdin = io::stdin();
        match self.transport {
            Transport::Inherited if !file_type(&stdin)?.is_socket() => {
                Err(io::Error::other("its standard input is not a socket"))
            }
            Transport::Inherited => Ok(()),
            _ if stdin.is_terminal() => Err(io::Error::other("its standard input is a terminal")),
            _ => Ok(()),
        }
    }

    /// Moves the channel away from the standard streams, so that neither tasks nor what they start can reach it.
    pub(crate) fn take_channel(&self) -> io::Result<Link> {
        let input: OwnedFd = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
        let link = match self.transport {
            Transport::Inherited => Link::Socket(input),
            _ => {
                let output = rustix::io::fcntl_dupfd_cloexec(io::stdout().as_fd(), 3)?;
                Link::of_streams(input, output)?
            }
        };
        self.leave_standard_streams()?;
        Ok(link)
    }

    /// Takes the stream that shows whether the program is there: standard input, which ends with it. `None` if that is a file.
    #[cfg(feature = "cluster")]
    pub(crate) fn take_lifeline(&self) -> io::Result<Option<OwnedFd>> {
        let input = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
        let is_file = file_type(&input)?.is_file();
        self.leave_standard_streams()?;
        Ok((!is_file).then_some(input))
    }

    fn leave_standard_streams(&self) -> io::Result<()> {
        rustix::stdio::dup2_stdin(above_standard(nothing_from("/dev/null")?)?)?;
        // A reader of this pipe skips what a test harness has written.
        let is_read = file_type(io::stdout()).is_ok_and(|output| output.is_fifo());
        if self.transport != Transport::Inherited || self.is_test && !is_read {
            // What a test harness writes there is of no interest, and the standard output of a launched worker is the channel.
            rustix::stdio::dup2_stdout(io::stderr())?;
        }
        Ok(())
    }
}

#[cfg(feature = "cluster")]
pub(crate) fn is_connecting(argument: &str) -> bool {
    argument.strip_prefix(CONNECTING).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

#[cfg(feature = "cluster")]
fn left_in(argument: &str) -> Option<u32> {
    argument.strip_prefix(SETTLED_CONNECTING)?.strip_prefix('=')?.parse().ok()
}

/// The file that holds the invitation of this process, unless standard input does.
#[cfg(feature = "cluster")]
pub(crate) fn key_file() -> Option<PathBuf> {
    let argument = env::args_os().skip(1).rev().nth(1)?;
    argument.to_str()?.strip_prefix(CONNECTING)?.strip_prefix('=').map(PathBuf::from)
}

/// What reads as empty: this file, or, if there is none, as in a `chroot`, a connection without another end.
fn nothing_from(path: &str) -> io::Result<OwnedFd> {
    File::open(path).map(OwnedFd::from).or_else(|_| Ok(UnixStream::pair()?.0.into()))
}

fn file_type(fd: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

/// The message for a user who starts a worker by hand, whatever the program is called:
///
/// ```standalone_crate
/// use std::ffi::OsStr;
/// use std::os::unix::{ffi::OsStrExt, process::CommandExt};
/// use std::process::{Command, Stdio};
///
/// fn main() {
///     progress_executor::TaskRegistry::new().init();
///     let mut program = Command::new(std::env::current_exe().unwrap());
///     program.arg0(OsStr::from_bytes(b"progr\xfem")).arg("--progress-executor-task=x");
///     let output = program.stdin(Stdio::null()).output().unwrap();
///     assert_eq!(output.status.code(), Some(2));
///     let said = String::from_utf8(output.stderr).unwrap();
///     assert!(said.starts_with("progr\u{fffd}m: `--progress-executor-task=..` starts a worker"), "{said}");
/// }
/// ```
pub(crate) fn by_hand(registry: &TaskRegistry, error: &io::Error) -> String {
    let tasks: Vec<&str> = registry.ids().collect();
    format!(
        "`{ARGUMENT}..` starts a worker process, which serves the program that has started it through its standard \
         input; but {error}. To run a task by hand, or in a debugger, let the program run it in its own process. Tasks \
         that are registered here: {}",
        tasks.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::nothing_from;

    #[test]
    fn standard_input_is_empty_also_where_there_is_no_such_file() {
        for path in ["/dev/null", "/no/such/file"] {
            let mut text = String::new();
            File::from(nothing_from(path).unwrap()).read_to_string(&mut text).unwrap();
            assert_eq!(text, "", "{path}");
        }
    }
}
