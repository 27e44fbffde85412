//! How an invited worker connects: it tries all addresses at once, and takes the first where a program proves to know the key.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio, retry_on_intr};
use rustix::net::{RecvFlags, recv};
use rustix::pipe::pipe;
use rustix::process::setpgid;

use crate::process::program;
use crate::process::protocol::descriptor::above_standard;
use crate::process::protocol::invitation::{Invitation, LONGEST, NoInvitation};
use crate::process::protocol::link::Link;
use crate::process::protocol::noise::{ANSWER, Initiator, Opener, Sealer, Terms};
use crate::process::protocol::sealed::SealedStream;
use crate::process::protocol::signature;
use crate::process::protocol::wire::Origin;
use crate::process::registry::{TaskRegistry, portable_fingerprint};
use crate::process::worker::environment::{adopt, origin};
use crate::process::worker::parent::Parent;
use crate::process::worker_args;
use crate::process::worker_args::Role;

/// How long to keep trying: a program may have a thousand workers that connect at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for an invitation, and for what follows its first line.
const INVITED: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
/// How long to wait for a connection, and then for an answer.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long to wait for the program's first message once it knows this worker. Unless the program is stopped, it comes at once.
const GREETING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait before the next round, and how often to check meanwhile whether the program is there.
const PAUSE: Duration = Duration::from_millis(200);

/// Where the descriptors of this process have names.
const DESCRIPTORS: &str = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };

/// Connects to the program that invited this worker, after taking on the surroundings that the program wants.
pub(super) fn join(
    registry: &'static TaskRegistry,
    role: &Role,
    left_in: Option<u32>,
    parent: &mut Parent,
) -> Result<Link, Box<dyn Error>> {
    // A worker that dies kills its process group, to end what its tasks have started. Slurm puts all workers of a launch on a
    // node into one group, which one of them leads: the others leave it here. The leader cannot. If it dies while others are
    // still starting, those are replaced like any that have not come. Were it to spare its group, what its tasks have started
    // would outlive it.
    let _ = setpgid(None, None);
    let invitation = match left_in {
        Some(descriptor) => Invitation::parse(&take_line(descriptor)?)?,
        None => adopt_invited()?,
    };
    let (theirs, ours) = (invitation.terms.fingerprint.binary, portable_fingerprint(Some(registry))?.binary);
    if theirs != ours {
        let program = program::location()?;
        let (program, host) = (program.display(), origin().host);
        return Err(format!(
            "this is another build of the program that has invited it: {program} on {host} is {ours:016x}, and that is \
             {theirs:016x}; copy it here, or say where it is with `Launcher::program`"
        )
        .into());
    }
    match role.take_lifeline()? {
        Some(lifeline) => {
            parent.set_lifeline(lifeline);
            // Shows the program which label the launcher puts in front of this worker's lines. Standard error may have no reader.
            let Origin { pid, host, .. } = origin();
            let _ = io::stderr().write_all(signature::of(pid, &host).as_bytes());
        }
        None => parent.may_leave(),
    }
    Ok(connect(&invitation, parent)?)
}

/// Reads the invitation, and takes on the surroundings that the program wants.
fn adopt_invited() -> Result<Invitation, Box<dyn Error>> {
    if let Some(path) = worker_args::key_file() {
        let file = File::open(&path).map_err(|error| unread(&error))?;
        rustix::stdio::dup2_stdin(above_standard(file)?)?;
    }
    let line = read_line(io::stdin())?;
    let invitation = Invitation::parse(&line).map_err(|error| uninvited(&error))?;
    adopt(Some(&INVITED), || {
        let left = leave_line(&line)?;
        Ok((format!("{}={}", worker_args::SETTLED_CONNECTING, left.as_raw_fd()), Some(left)))
    })?;
    Ok(invitation)
}

fn uninvited(found: &dyn Error) -> String {
    match worker_args::key_file() {
        Some(path) => format!("{} holds {found}", path.display()),
        None => format!(
            "its standard input has {found}, and no invitation: where a launcher does not pass its own on to each worker, \
             use `Launcher::key_file`"
        ),
    }
}

fn unread(error: &dyn Error) -> String {
    let place = worker_args::key_file().map_or("its standard input".into(), |path| path.display().to_string());
    format!("its invitation in {place} could not be read: {error}")
}

/// Reads to the end of the line, and nothing of what follows.
fn read_line(from: impl AsFd) -> Result<String, Box<dyn Error>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LONGEST && !line.ends_with(b"\n") {
        // The program has written it before this worker was started.
        let mut fds = [PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN)];
        if retry_on_intr(|| poll(&mut fds, Some(&INVITED)))? == 0 {
            return Err(uninvited(&NoInvitation::Nothing).into());
        }
        if retry_on_intr(|| rustix::io::read(&from, &mut byte)).map_err(|error| unread(&error))? == 0 {
            break;
        }
        line.extend(byte);
    }
    Ok(String::from_utf8(line).map_err(|_| uninvited(&NoInvitation::Other))?)
}

/// Leaves the line, which holds a key, in a pipe: only the process that this one becomes inherits it, and can read it. Standard
/// output has to stay as it is, as that process may print before it gets here.
fn leave_line(line: &str) -> io::Result<OwnedFd> {
    let (left, writer) = pipe()?;
    // Nobody reads yet: where pipes have no room for the line, it is an error.
    ioctl_fionbio(&writer, true)?;
    File::from(writer).write_all(line.as_bytes())?;
    let left = above_standard(left)?;
    fcntl_setfd(&left, FdFlags::empty())?;
    Ok(left)
}

/// Reads the line that [was left](leave_line) in this descriptor. That stays open, and is empty from now on.
fn take_line(descriptor: u32) -> Result<String, Box<dyn Error>> {
    let left = File::open(format!("{DESCRIPTORS}/{descriptor}"))
        .map_err(|error| format!("its invitation in the descriptor {descriptor} could not be read: {error}"))?;
    read_line(left)
}

/// Takes no longer than [`CONNECT_TIMEOUT`] and two [`ATTEMPT`]s, unless the program is stopped. The error says what was wrong with
/// each address.
fn connect(Invitation { terms, addresses }: &Invitation, parent: &Parent) -> Result<Link, String> {
    let until = Instant::now() + CONNECT_TIMEOUT;
    loop {
        let (answered, answers) = channel();
        for address in addresses {
            let (name, terms) = (address.clone(), terms.clone());
            spawn(address, &answered, move |answered| reach(&name, &terms, answered));
        }
        drop(answered);
        let round_until = Instant::now() + 2 * ATTEMPT;
        let mut failures = Vec::new();
        loop {
            match answers.recv_timeout(PAUSE) {
                Ok((address, answer)) => match answer.and_then(Answer::confirm) {
                    Ok(link) => return Ok(link),
                    Err(error) => failures.push(format!("{address}: {error}")),
                },
                Err(RecvTimeoutError::Timeout) if Instant::now() >= round_until => {
                    // The system may take any time to find the addresses of a name.
                    failures.push(format!(
                        "nothing else has come of {} within {:?}",
                        addresses.join(", "),
                        2 * ATTEMPT
                    ));
                    break;
                }
                Err(RecvTimeoutError::Timeout) if parent.is_gone() => {
                    return Err("its program, or the launcher that has started it, has ended".into());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if parent.is_gone() || Instant::now() >= until {
            return Err(format!(
                "it could not connect to its program ({}): set where the program listens with `Launcher::listen`, and \
                 where workers reach it with `Launcher::advertise`",
                failures.join("; ")
            ));
        }
        thread::sleep(PAUSE);
    }
}

/// What has come of an address, or of a name. The receiver may have found its program by then, and be gone.
type Answered = Sender<(String, io::Result<Answer>)>;

/// Does something about this address on a thread of its own.
fn spawn(address: &str, answered: &Answered, run: impl FnOnce(&Answered) + Send + 'static) {
    let thread = thread::Builder::new().name("progress-connect".into());
    let theirs = answered.clone();
    if let Err(error) = thread.spawn(move || run(&theirs)) {
        // There may be room for another thread in the next round.
        let _ = answered.send((address.to_owned(), Err(error)));
    }
}

/// Finds all addresses of a name, and tries them.
fn reach(name: &str, terms: &Terms, answered: &Answered) {
    match name.to_socket_addrs() {
        Ok(found) => try_all(found, terms, answered),
        Err(error) => _ = answered.send((name.to_owned(), Err(error))),
    }
}

/// Tries all of them at once.
fn try_all(addresses: impl IntoIterator<Item = SocketAddr>, terms: &Terms, answered: &Answered) {
    for address in addresses {
        let (name, terms) = (address.to_string(), terms.clone());
        spawn(&name.clone(), answered, move |answered| {
            let _ = answered.send((name, introduce(address, &terms)));
        });
    }
}

/// A program that has proved to know the key and waits for the confirmation, which is sent to only one of those that answer.
struct Answer {
    stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
    confirmation: Vec<u8>,
}

fn introduce(address: SocketAddr, terms: &Terms) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, ATTEMPT)?;
    stream.set_nodelay(true)?;
    let (initiator, opening) = Initiator::new(terms).map_err(io::Error::other)?;
    stream.write_all(&opening)?;
    let mut answer = [0; ANSWER];
    read_within(ATTEMPT, &stream, &mut answer).map_err(|error| silent(error, ATTEMPT))?;
    let finished = initiator.finish(&answer);
    let (sealer, opener, confirmation) =
        finished.map_err(|error| io::Error::other(format!("the other side has sent {error}")))?;
    Ok(Answer { stream, sealer, opener, confirmation })
}

/// Fills the buffer within this time. A stream's own timeout is for each read: one byte at a time could take as long.
fn read_within(patience: Duration, mut stream: &TcpStream, mut bytes: &mut [u8]) -> io::Result<()> {
    let until = Instant::now() + patience;
    while !bytes.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => bytes = &mut bytes[len..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Puts into words what the system's error does not say: that nothing came in time, or that nothing will come.
fn silent(error: io::Error, patience: Duration) -> io::Error {
    let what = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the other side has not answered within {patience:?}")
        }
        io::ErrorKind::UnexpectedEof => {
            "the other side has hung up: it is not a program that has invited this worker, or no longer expects it"
                .into()
        }
        _ => return error,
    };
    io::Error::new(error.kind(), what)
}

impl Answer {
    /// Returns once the program has sent something. It turns away a worker that takes long to confirm, as on a busy machine.
    fn confirm(self) -> io::Result<Link> {
        let Self { mut stream, sealer, opener, confirmation } = self;
        stream.write_all(&confirmation)?;
        stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
        let peeked = retry_on_intr(|| recv(&stream, &mut [0], RecvFlags::PEEK));
        if peeked.map_err(|error| silent(error.into(), GREETING_TIMEOUT))?.1 == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the program did not wait for the confirmation"));
        }
        Ok(Link::Sealed(SealedStream::new(above_standard(stream)?.into(), sealer, opener)))
    }
}

#[cfg(test)]
mod tests {
    use super::{introduce, leave_line, read_within, silent, take_line, try_all};
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::{FdFlags, fcntl_getfd};

    use crate::process::protocol::noise::{ANSWER, Key, OPENING, Terms};
    use crate::process::protocol::wire::Fingerprint;

    fn terms() -> Terms {
        let fingerprint = Fingerprint { binary: 1, tasks: 2 };
        Terms { fingerprint, pool: 3, attempt: 4, key: Key::from_bytes([5; 32]) }
    }

    #[test]
    fn an_invitation_can_be_left_to_another_program_which_reads_it_once() {
        let left = leave_line("a line\n").unwrap();
        assert!(left.as_raw_fd() > 2);
        assert_eq!(fcntl_getfd(&left), Ok(FdFlags::empty()), "it is inherited");
        let descriptor = left.as_raw_fd().unsigned_abs();
        assert_eq!(take_line(descriptor).unwrap(), "a line\n");
        let mut fds = [PollFd::new(&left, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        assert!(!fds[0].revents().contains(PollFlags::IN), "nothing is left of it");
        drop(left);
        assert!(take_line(u32::MAX).unwrap_err().to_string().contains("the descriptor 4294967295"));
    }

    #[test]
    fn all_addresses_of_a_name_are_tried_at_once() {
        // Each takes ten seconds to be given up.
        let silent: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let addresses = silent.iter().map(|listener| listener.local_addr().unwrap()).chain([refused]);
        let (answered, answers) = channel();
        try_all(addresses, &terms(), &answered);
        let (first, answer) = answers.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!((first, answer.map(drop).unwrap_err().kind()), (refused.to_string(), ErrorKind::ConnectionRefused));
    }

    #[test]
    fn who_says_a_little_at_a_time_is_not_waited_for_any_longer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        theirs.write_all(b"x").unwrap();
        // Ends when nobody reads any more.
        let talker = thread::spawn(move || {
            while theirs.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        });
        // More than comes in an hour.
        let mut bytes = vec![0; 4 << 20];
        let error = read_within(Duration::from_millis(50), &ours, &mut bytes).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        assert_eq!(bytes[0], b'x');
        drop(ours);
        talker.join().unwrap();
    }

    #[test]
    fn who_answers_wrongly_or_not_at_all_is_an_error_that_says_so() {
        for (answer, expected) in [(0, "has hung up"), (ANSWER - 1, "has hung up"), (ANSWER, "has sent something")] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let stranger = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; OPENING]).unwrap();
                stream.write_all(&vec![0; answer]).unwrap();
            });
            let error = introduce(address, &terms()).map(drop).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            stranger.join().unwrap();
        }
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let error = silent(ours.read(&mut [0]).unwrap_err(), Duration::from_secs(10)).to_string();
        assert!(error.contains("has not answered within 10s"), "{error}");
    }
}
