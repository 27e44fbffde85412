//! What worker processes are compared with, each with one child process: a bare pair of sockets, which is the limit,
//! `ipc-channel`, and `procspawn`.

use std::env;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{self, Child, Command};
use std::thread;

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender};
use progress_executor::{ProcessPoolExecutor, TaskRegistry};

use crate::latency;

/// The size of a message without a payload.
pub const FRAME: usize = 64;
/// The maximum number of bytes written at once.
pub const BATCH: usize = 64 * 1024;

/// The argument for a process that ends at once.
pub const END: &str = "--end";
/// The argument for a process that sends back what it receives, as it comes.
pub const ECHO: &str = "--echo";
/// The argument for a process that sends back each payload once it is complete, and reuses its memory for the next one.
pub const ECHO_WHOLE: &str = "--echo-whole";
/// Like [`ECHO_WHOLE`], with newly allocated memory for each payload.
pub const ECHO_ANEW: &str = "--echo-anew";
/// The argument for a process that reports that it has started, and is then busy.
pub const WORK: &str = "--work";
const IPC_CHANNEL: &str = "--ipc-channel";

/// Must come first in `main`. Never returns in a process that was started with one of the arguments above, or as a worker.
pub fn init(registry: TaskRegistry) {
    match env::args().nth(1).as_deref() {
        Some(END) => process::exit(0),
        Some(ECHO) => end_with(echo()),
        Some(ECHO_WHOLE) => end_with(echo_whole(true)),
        Some(ECHO_ANEW) => end_with(echo_whole(false)),
        Some(WORK) => end_with(work()),
        Some(IPC_CHANNEL) => end_with(serve_ipc_channel()),
        _ => {}
    }
    registry.init();
    procspawn::init();
}

/// Ends this process once it has nothing more to serve, since the process that started it is gone.
fn end_with(_: io::Result<()>) -> ! {
    process::exit(0)
}

fn echo() -> io::Result<()> {
    let mut socket = socket()?;
    let mut buffer = vec![0; BATCH];
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(()),
            bytes => socket.write_all(&buffer[..bytes])?,
        }
    }
}

fn echo_whole(keeps_memory: bool) -> io::Result<()> {
    let mut socket = socket()?;
    let mut payload = Vec::new();
    loop {
        read_payload(&mut socket, &mut payload)?;
        write_payload(&mut socket, &payload)?;
        if !keeps_memory {
            payload = Vec::new();
        }
    }
}

fn work() -> io::Result<()> {
    socket()?.write_all(&[1])?;
    loop {
        latency::work();
    }
}

/// The socket that this process was started with.
fn socket() -> io::Result<UnixStream> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// A command that starts this program again.
pub fn this_program(argument: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("the program knows its path"));
    command.arg(argument);
    command
}

/// Starts a process with one of the arguments above, and returns it with a socket to talk to it.
pub fn start(argument: &str) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("sockets can be made");
    let child = this_program(argument).stdin(OwnedFd::from(theirs)).spawn().expect("the program can be started");
    (child, ours)
}

/// Sends one frame and receives it back.
pub fn ping_pong(mut socket: &UnixStream) -> io::Result<()> {
    let mut frame = [0; FRAME];
    socket.write_all(&frame)?;
    socket.read_exact(&mut frame)
}

pub fn write_payload(socket: &mut UnixStream, payload: &[u8]) -> io::Result<()> {
    socket.write_all(&(payload.len() as u64).to_le_bytes())?;
    socket.write_all(payload)
}

/// Reads a payload, into the memory of `payload` if that has the right size.
pub fn read_payload(socket: &mut UnixStream, payload: &mut Vec<u8>) -> io::Result<()> {
    let mut len = [0; 8];
    socket.read_exact(&mut len)?;
    let len = u64::from_le_bytes(len) as usize;
    if payload.len() != len {
        *payload = vec![0; len];
    }
    socket.read_exact(payload)
}

/// A process that sends back what it receives through `ipc-channel`.
pub struct IpcChannel {
    pub numbers: (IpcSender<u64>, IpcReceiver<u64>),
    pub bytes: (IpcBytesSender, IpcBytesReceiver),
    _process: Child,
}

type Ends = (IpcSender<u64>, IpcReceiver<u64>, IpcBytesSender, IpcBytesReceiver);

impl IpcChannel {
    pub fn start() -> Self {
        let (server, name) = IpcOneShotServer::<Ends>::new().expect("sockets can be made");
        let process = this_program(IPC_CHANNEL).arg(name).spawn().expect("the program can be started");
        let (_, (number_sender, number_receiver, byte_sender, byte_receiver)) = server.accept().expect("it connects");
        Self { numbers: (number_sender, number_receiver), bytes: (byte_sender, byte_receiver), _process: process }
    }
}

fn serve_ipc_channel() -> io::Result<()> {
    let server = IpcSender::connect(env::args().nth(2).unwrap_or_default())?;
    let ((to_numbers, numbers), (number_sender, number_receiver)) = (ipc::channel::<u64>()?, ipc::channel::<u64>()?);
    let ((to_bytes, bytes), (byte_sender, byte_receiver)) = (ipc::bytes_channel()?, ipc::bytes_channel()?);
    let ends: Ends = (to_numbers, number_receiver, to_bytes, byte_receiver);
    server.send(ends).map_err(io::Error::other)?;
    // Both ends serve until the program no longer uses either.
    thread::scope(|scope| {
        scope.spawn(move || while bytes.recv().is_ok_and(|payload| byte_sender.send(&payload).is_ok()) {});
        while numbers.recv().is_ok_and(|number| number_sender.send(number).is_ok()) {}
    });
    Ok(())
}

/// A pool with one worker.
pub fn ours() -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(1).expect("`init` was called")
}

/// A `procspawn` pool with one process.
pub fn procspawn_pool() -> procspawn::Pool {
    procspawn::Pool::new(1).expect("processes can be started")
}
