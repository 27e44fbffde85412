//! What this process is: a program, or a worker of one.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, io};

use crate::process::registry::TaskRegistry;

/// What marks the argument that makes a process a worker; the id of a task follows.
pub(crate) const ARGUMENT: &str = "--progress-executor-task=";

/// How many programs are above this one: 0 where it is not a worker.
static DEPTH: AtomicU32 = AtomicU32::new(0);

pub(crate) fn depth() -> u32 {
    DEPTH.load(Ordering::Relaxed)
}

pub(crate) fn set_depth(depth: u32) {
    DEPTH.store(depth, Ordering::Relaxed);
}

/// What the arguments of this process say it is, if it is a worker.
#[derive(Debug)]
pub(crate) struct Role {
    /// Whether a test harness has the first word on standard output.
    pub(crate) is_test: bool,
}

impl Role {
    pub(crate) fn of_this_process() -> Option<Self> {
        let last = env::args_os().skip(1).last()?;
        let is_worker = last.to_str().is_some_and(|argument| argument.starts_with(ARGUMENT));
        is_worker.then(|| Self { is_test: env::args_os().any(|argument| argument == "--exact") })
    }

    /// Takes the channel away from standard input, so that neither the tasks nor what they start get hold of it.
    pub(crate) fn take_channel(&self) -> io::Result<UnixStream> {
        let stdin = io::stdin();
        let is_socket = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&stdin)?.st_mode).is_socket();
        if !is_socket {
            return Err(io::Error::other("its standard input is not a socket"));
        }
        let channel: OwnedFd = rustix::io::fcntl_dupfd_cloexec(stdin.as_fd(), 3)?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        if self.is_test {
            // The harness has written there what nobody wants to see.
            rustix::stdio::dup2_stdout(io::stderr())?;
        }
        Ok(channel.into())
    }
}

/// What somebody is told who starts a worker by hand, under whatever name:
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
