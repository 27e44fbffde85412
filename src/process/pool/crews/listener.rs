//! The port that workers connect to, on the addresses of the launcher. What a connection has to prove is
//! decided by the [handshakes](crate::process::pool::crews::handshakes).

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

use crate::process::pool::crews::handshakes::{CAPACITY, HandshakeId, Handshakes, Step};
use crate::process::pool::launch::start_error::missing;
use crate::process::pool::poller::{Poller, Ready};
use crate::process::protocol::descriptor::above_standard;
use crate::process::protocol::link::Link;
use crate::process::protocol::noise::{CONFIRMATION, OPENING, Terms};
use crate::process::protocol::sealed::SealedStream;

/// How many connections may wait to be accepted, as far as the system allows: a thousand workers may come at once.
const BACKLOG: i32 = 4096;

pub(crate) struct Listener {
    sockets: Vec<TcpListener>,
    port: u16,
    handshakes: Handshakes,
    streams: HashMap<HandshakeId, TcpStream>,
    next_handshake: HandshakeId,
    /// Why a connection could not be accepted, as for lack of descriptors: it goes on waiting.
    shortage: Option<io::Error>,
    has_complained: bool,
    /// Whether the driver is woken when something connects.
    is_listening: bool,
    poller: Arc<Poller>,
}

/// Binds an IPv6 address, and no IPv4 address with it.
fn bind_apart(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(AddressFamily::INET6, SocketType::STREAM, None)?;
    // Not inherited by processes that this one starts.
    let socket = rustix::io::fcntl_dupfd_cloexec(socket, 3)?;
    set_socket_reuseaddr(&socket, true)?;
    set_ipv6_v6only(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket.into())
}

/// A connection that has proved to be a worker's.
pub(crate) struct Connected {
    pub(crate) attempt: u64,
    pub(crate) link: Link,
}

impl Listener {
    /// Listens on one port of all addresses: this one, or, if it is 0, any that is free.
    pub(crate) fn open(addresses: &[IpAddr], mut port: u16, poller: Arc<Poller>) -> io::Result<Self> {
        // Otherwise, a socket for all interfaces of IPv6 is one for those of IPv4 too, whose port would be taken.
        let is_apart = addresses.iter().any(IpAddr::is_ipv4);
        let mut sockets = Vec::new();
        for &address in addresses {
            let address = SocketAddr::new(address, port);
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
            let is_apart = is_apart && address.is_ipv6();
            let listener = if is_apart { bind_apart(address) } else { TcpListener::bind(address) };
            let listener = above_standard(listener.map_err(named)?)?;
            listener.set_nonblocking(true)?;
            listen(&listener, BACKLOG)?;
            port = listener.local_addr()?.port();
            sockets.push(listener);
        }
        Ok(Self {
            sockets,
            port,
            handshakes: Handshakes::default(),
            streams: HashMap::new(),
            next_handshake: 0,
            shortage: None,
            has_complained: false,
            is_listening: false,
            poller,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts or stops having the driver woken when something connects.
    pub(crate) fn listen(&mut self, is_listening: bool) {
        if mem::replace(&mut self.is_listening, is_listening) == is_listening {
            return;
        }
        for listener in &self.sockets {
            if is_listening {
                // If this fails, connections are noticed when something else happens.
                let _ = self.poller.add(listener.as_fd(), Ready::Listener);
            } else {
                self.poller.remove(listener.as_fd());
            }
        }
    }

    /// Whether to [serve](Self::serve) again soon, even if the driver is not woken: there are handshakes, whose time is
    /// limited, or connections that could not be accepted.
    pub(crate) fn is_waiting(&self) -> bool {
        self.shortage.is_some() || !self.handshakes.is_empty()
    }

    /// Why connections are not accepted, if they are not. Returns it once.
    pub(crate) fn complaint(&mut self) -> Option<&'static str> {
        let why = self.shortage.as_ref().and_then(missing).filter(|_| !self.has_complained)?;
        self.has_complained = true;
        Some(why)
    }

    pub(crate) fn expect(&mut self, terms: Terms, count: usize) {
        self.handshakes.expect(terms, count);
    }

    pub(crate) fn expect_one_less(&mut self, attempt: u64) {
        self.handshakes.expect_one_less(attempt);
    }

    /// Accepts and serves connections without blocking: as many as can be waiting by now, but not all that strangers
    /// may make meanwhile. Returns those of workers.
    pub(crate) fn serve(&mut self) -> Vec<Connected> {
        // First, so that nobody makes way who has said something.
        let mut connected = self.serve_handshakes();
        for _ in 0..=BACKLOG as usize / CAPACITY {
            let has_come = self.accept();
            connected.extend(self.serve_handshakes());
            for handshake in self.handshakes.expire(Instant::now()) {
                self.close(handshake);
            }
            if !has_come || !self.handshakes.has_room() {
                break;
            }
        }
        // The driver need not be woken for connections that there is no room for.
        self.listen(self.handshakes.has_room() && self.shortage.is_none());
        connected
    }

    /// Accepts connections as far as there is room, or room can be made. Returns whether there was one.
    fn accept(&mut self) -> bool {
        let (before, now) = (self.next_handshake, Instant::now());
        self.shortage = None;
        for listener in 0..self.sockets.len() {
            while self.handshakes.may_begin(now) {
                let stream = match self.sockets[listener].accept() {
                    Ok((stream, _)) => stream,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        self.shortage = Some(error);
                        break;
                    }
                };
                let handshake = self.next_handshake;
                self.next_handshake += 1;
                let Ok(stream) = above_standard(stream) else { continue };
                if let Some(silent) = self.handshakes.make_room(now) {
                    self.close(silent);
                }
                let is_fit = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
                if is_fit.and_then(|()| self.poller.add(stream.as_fd(), Ready::Listener)).is_ok() {
                    self.handshakes.begin(handshake, now);
                    self.streams.insert(handshake, stream);
                }
            }
        }
        self.next_handshake != before
    }

    /// Reads what all connections may send, and answers it. Returns those of workers.
    fn serve_handshakes(&mut self) -> Vec<Connected> {
        let all: Vec<HandshakeId> = self.streams.keys().copied().collect();
        all.into_iter().filter_map(|handshake| self.serve_handshake(handshake)).collect()
    }

    /// Reads what a connection may send, and answers it.
    fn serve_handshake(&mut self, handshake: HandshakeId) -> Option<Connected> {
        loop {
            let mut bytes = [0; if OPENING > CONFIRMATION { OPENING } else { CONFIRMATION }];
            let room = self.handshakes.room(handshake);
            let stream = self.streams.get_mut(&handshake)?;
            let len = match stream.read(&mut bytes[..room]) {
                Ok(len @ 1..) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Ok(0) | Err(_) => {
                    self.close(handshake);
                    return None;
                }
            };
            match self.handshakes.receive(handshake, &bytes[..len]) {
                Step::Wait => {}
                // Nothing was sent before, so the socket has room for it.
                Step::Answer(answer) => {
                    if stream.write_all(&answer).is_err() {
                        self.close(handshake);
                        return None;
                    }
                }
                Step::Worker(attempt, sealer, opener) => {
                    let stream = self.streams.remove(&handshake)?;
                    self.poller.remove(stream.as_fd());
                    let link = Link::Sealed(SealedStream::new(stream.into(), sealer, opener));
                    return Some(Connected { attempt, link });
                }
                Step::Refuse(_) => {
                    self.close(handshake);
                    return None;
                }
            }
        }
    }

    fn close(&mut self, handshake: HandshakeId) {
        self.handshakes.end(handshake);
        if let Some(stream) = self.streams.remove(&handshake) {
            self.poller.remove(stream.as_fd());
        }
    }
}
