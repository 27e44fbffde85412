//! The first thing that a launched worker does: it reads which directory and variables the program wants, and executes itself
//! again if variables are missing.
//!
//! Changing the environment of a running process is unsafe, since another thread may be reading it. A new process can be
//! given any.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, io};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};

use crate::process::program;
use crate::process::protocol::wire::decoder::Decoder;
use crate::process::protocol::wire::{HEAD, NODE, Origin, Request, STEP, Surroundings, VERSION, Variable, WireError};
use crate::process::worker_args;

/// The most bytes that directory and environment may take: more than systems allow.
const MOST: u64 = 64 << 20;

/// Returns once the surroundings are those that the program wants: at once, or else in the process that this one becomes.
/// `settle` returns the argument that tells that process so, in place of this one's, and what it inherits. `patience` limits the
/// wait for what a launcher passes on; the program itself may be stopped for any length of time.
pub(super) fn adopt(
    patience: Option<&Timespec>,
    settle: impl FnOnce() -> io::Result<(String, Option<OwnedFd>)>,
) -> Result<(), Box<dyn Error>> {
    let Surroundings { version, directory, set, offered } = receive(patience)?;
    if version != VERSION {
        return Err(WireError::Version(version).into());
    }
    if !directory.is_empty() {
        let directory = OsStr::from_bytes(&directory);
        env::set_current_dir(directory).map_err(|error| {
            format!(
                "the directory {directory:?} of the program is not here ({error}): say another one with `current_dir`"
            )
        })?;
    }
    let missing = missing(set, offered);
    if missing.is_empty() {
        return Ok(());
    }
    let (settled, _inherited) = settle()?;
    Err(begin_again(missing, &settled).into())
}

/// Reads the first frame and nothing of what follows, which another process may have to read.
fn receive(patience: Option<&Timespec>) -> Result<Surroundings, Box<dyn Error>> {
    let stdin = io::stdin();
    let mut decoder = Decoder::new(MOST);
    let mut bytes = vec![0; HEAD];
    read_exact(&stdin, &mut bytes, patience).map_err(missing_input)?;
    let head = bytes.first_chunk().ok_or(WireError::NoHello)?;
    let len = decoder.frame_len(head).map_err(other_input)?;
    while bytes.len() < len {
        // Memory is allocated as bytes arrive.
        let start = bytes.len();
        bytes.resize(len.min(2 * start), 0);
        read_exact(&stdin, &mut bytes[start..], patience).map_err(missing_input)?;
    }
    decoder.append(&bytes);
    match decoder.next_request() {
        Ok(Some(Request::Surroundings(surroundings))) => Ok(surroundings),
        Ok(_) => Err(other_input(WireError::NoHello).into()),
        Err(error) => Err(other_input(error).into()),
    }
}

fn other_input(found: WireError) -> String {
    format!(
        "its standard input does not begin with the directory and the variables of the program, but with {found}: a launcher must \
         pass its own on to each worker, all of it and unchanged, and starts each worker once"
    )
}

fn missing_input(error: io::Error) -> String {
    format!(
        "its standard input does not tell the directory and the variables of the program ({error}): a launcher must pass its \
         own on to each worker"
    )
}

fn read_exact(from: impl AsFd, mut bytes: &mut [u8], patience: Option<&Timespec>) -> io::Result<()> {
    while !bytes.is_empty() {
        // Also polled without `patience`: another process may have made the descriptor non-blocking.
        if retry_on_intr(|| poll(&mut [PollFd::new(&from, PollFlags::IN)], patience))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match retry_on_intr(|| rustix::io::read(&from, &mut *bytes)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => bytes = &mut bytes[len..],
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The variables that have yet to be set.
fn missing(set: Vec<Variable>, offered: Vec<Variable>) -> Vec<(OsString, OsString)> {
    let is_name = |name: &[u8]| !name.is_empty() && !name.contains(&b'=') && !name.contains(&0);
    let as_text = |(name, value): Variable| (OsString::from_vec(name), OsString::from_vec(value));
    let set = set.into_iter().map(as_text).filter(|(name, value)| env::var_os(name).as_ref() != Some(value));
    let offered = offered.into_iter().map(as_text).filter(|(name, _)| env::var_os(name).is_none());
    set.chain(offered).filter(|(name, _)| is_name(name.as_bytes())).collect()
}

/// Executes this program again with these variables, as a worker with this argument. Returns only if that fails, with the reason.
fn begin_again(variables: Vec<(OsString, OsString)>, settled: &str) -> String {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    let settled = |argument: OsString| match argument.to_str() {
        Some(worker_args::LAUNCHED) => settled.into(),
        #[cfg(feature = "cluster")]
        Some(argument) if worker_args::is_connecting(argument) => settled.into(),
        _ => argument,
    };
    let begin = |path: OsString| {
        let mut command = Command::new(path);
        command.arg0(&name).args(env::args_os().skip(1).map(settled)).envs(variables.iter().cloned()).exec()
    };
    // By its path: if another program runs this one, as valgrind does, `/proc/self/exe` is that other program.
    let error = match program::location() {
        Ok(path) => begin(path.into()),
        Err(error) => error,
    };
    format!("it could not be started again with the variables of the program: {error}")
}

/// Where this worker is.
pub(super) fn origin() -> Origin {
    let variable = |name| env::var(name).unwrap_or_default();
    let node = variable(NODE);
    let uname = rustix::system::uname();
    let ends = variable("SLURM_JOB_END_TIME").parse().ok();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    Origin {
        pid: std::process::id(),
        lifetime: ends.map_or(u64::MAX, |ends: u64| ends.saturating_sub(now)),
        host: if node.is_empty() { uname.nodename().to_string_lossy().into_owned() } else { node },
        job: variable("SLURM_JOB_ID"),
        step: variable(STEP),
        program: program::location().map_or_else(|_| String::new(), |path| path.to_string_lossy().into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::read_exact;
    use rustix::event::Timespec;
    use std::io::{ErrorKind, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn who_passes_on_a_part_of_it_only_is_not_waited_for_without_end() {
        let moment = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut bytes = [0; 4];
        theirs.write_all(b"abcdef").unwrap();
        read_exact(&ours, &mut bytes, Some(&moment)).unwrap();
        assert_eq!(&bytes, b"abcd");
        let error = read_exact(&ours, &mut bytes, Some(&moment)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(theirs);
        let error = read_exact(&ours, &mut bytes, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }
}
