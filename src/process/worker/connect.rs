//! How a worker comes to its channel that was invited to connect: it tries all addresses at once, and takes the first
//! behind which somebody knows the key.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;

use crate::process::program;
use crate::process::protocol::descriptor::above_standard;
use crate::process::protocol::invitation::{Invitation, LONGEST};
use crate::process::protocol::link::Link;
use crate::process::protocol::noise::{ANSWER, Initiator, Terms};
use crate::process::protocol::sealed::SealedStream;
use crate::process::protocol::signature;
use crate::process::protocol::wire::Origin;
use crate::process::registry::{TaskRegistry, portable_fingerprint};
use crate::process::worker::parent::Parent;
use crate::process::worker::settle::{origin, settle};
use crate::process::worker_args;
use crate::process::worker_args::Role;

/// How long to try, when a program has a thousand workers that come at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait for one address, and then for an answer.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long to wait before the next round.
const PAUSE: Duration = Duration::from_millis(200);

/// Finds out where the program is, and comes to it in the surroundings that the program wants.
pub(super) fn join(
    registry: &'static TaskRegistry,
    role: &Role,
    is_settled: bool,
    parent: &mut Parent,
) -> Result<Link, Box<dyn Error>> {
    let line = if is_settled {
        read_line(io::stdout())?
    } else {
        if let Some(path) = worker_args::key_file() {
            let file = File::open(&path);
            let file =
                file.map_err(|error| format!("its invitation in {} could not be read: {error}", path.display()))?;
            rustix::stdio::dup2_stdin(above_standard(file)?)?;
        }
        let line = read_line(io::stdin())?;
        settle(|| leave_line(&line))?;
        line
    };
    let invitation = Invitation::parse(&line)?;
    let (theirs, ours) = (invitation.terms.fingerprint.binary, portable_fingerprint(Some(registry)).binary);
    if theirs != ours {
        let program = program::location()?;
        let program = program.display();
        return Err(format!(
            "this is another build of the program that has invited it: {program} is {ours:016x}, and that is \
             {theirs:016x}; copy it here, or say where it is with `Launcher::program`"
        )
        .into());
    }
    if let Some(lifeline) = role.take_lifeline()? {
        parent.set_lifeline(lifeline);
        // What gives it this also takes what it writes, and that of others. Nobody may read it.
        let Origin { pid, host, .. } = origin();
        let _ = io::stderr().write_all(signature::of(pid, &host).as_bytes());
    }
    Ok(connect(&invitation)?)
}

/// Reads to the end of the line, and nothing of what follows.
fn read_line(from: impl AsFd) -> Result<String, Box<dyn Error>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LONGEST && !line.ends_with(b"\n") {
        if retry_on_intr(|| rustix::io::read(&from, &mut byte))? == 0 {
            break;
        }
        line.extend(byte);
    }
    Ok(String::from_utf8(line)?)
}

/// Leaves the line where the process finds it that this one becomes: nobody else sees it there.
fn leave_line(line: &str) -> io::Result<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(line.as_bytes())?;
    Ok(rustix::stdio::dup2_stdout(above_standard(OwnedFd::from(theirs))?)?)
}

/// Returns in [`PATIENCE`] and one [`ATTEMPT`], with what was wrong with each address where there is no connection.
fn connect(Invitation { terms, addresses }: &Invitation) -> Result<Link, String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let (connected, connections) = channel();
        for address in addresses {
            let (address, connected) = (address.clone(), connected.clone());
            let thread = thread::Builder::new().name("progress-connect".into());
            thread
                .spawn(move || reach(address, &connected))
                .map_err(|error| format!("it could not start a thread: {error}"))?;
        }
        drop(connected);
        let mut failures = Vec::new();
        for (address, stream) in connections {
            match stream.and_then(|stream| introduce(stream, terms)) {
                Ok(link) => return Ok(link),
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        if Instant::now() >= until {
            return Err(format!("it could not connect to its program: {}", failures.join("; ")));
        }
        thread::sleep(PAUSE);
    }
}

type Connected = Sender<(String, io::Result<TcpStream>)>;

/// Tries all that a name stands for. Nobody may wait for it any more.
fn reach(address: String, connected: &Connected) {
    let found: Vec<SocketAddr> = match address.to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => return drop(connected.send((address, Err(error)))),
    };
    for one in found {
        let _ = connected.send((one.to_string(), TcpStream::connect_timeout(&one, ATTEMPT)));
    }
}

fn introduce(mut stream: TcpStream, terms: &Terms) -> io::Result<Link> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    let (initiator, opening) = Initiator::new(terms).map_err(io::Error::other)?;
    stream.write_all(&opening)?;
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer)?;
    let (sealer, opener, confirmation) = initiator.finish(&answer).map_err(io::Error::other)?;
    stream.write_all(&confirmation)?;
    stream.set_read_timeout(None)?;
    Ok(Link::Sealed(SealedStream::new(above_standard(stream)?.into(), sealer, opener)))
}
