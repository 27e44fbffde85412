//! The port that workers connect to, on the addresses of the launcher. The [lobby](super::lobby) decides what a
//! connection has to prove.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

use crate::process::pool::lobby::{CAPACITY, GuestId, Lobby, Verdict};
use crate::process::pool::poller::{Poller, Ready};
use crate::process::protocol::descriptor::above_standard;
use crate::process::protocol::link::Link;
use crate::process::protocol::noise::{CONFIRMATION, OPENING, Terms};
use crate::process::protocol::sealed::SealedStream;

/// How many connections may wait to be accepted, as far as the system allows: a thousand workers may come at once.
const BACKLOG: i32 = 4096;

pub(crate) struct Reception {
    listeners: Vec<TcpListener>,
    port: u16,
    lobby: Lobby,
    guests: HashMap<GuestId, TcpStream>,
    next_guest: GuestId,
    /// Whether a connection could not be accepted, as for lack of descriptors.
    is_short: bool,
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
pub(crate) struct Newcomer {
    pub(crate) attempt: u64,
    pub(crate) link: Link,
}

impl Reception {
    /// Listens on one port of all addresses: this one, or, if it is 0, any that is free.
    pub(crate) fn open(addresses: &[IpAddr], mut port: u16, poller: Arc<Poller>) -> io::Result<Self> {
        // Otherwise, a socket for all interfaces of IPv6 is one for those of IPv4 too, whose port would be taken.
        let is_apart = addresses.iter().any(IpAddr::is_ipv4);
        let mut listeners = Vec::new();
        for &address in addresses {
            let address = SocketAddr::new(address, port);
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
            let is_apart = is_apart && address.is_ipv6();
            let listener = if is_apart { bind_apart(address) } else { TcpListener::bind(address) };
            let listener = above_standard(listener.map_err(named)?)?;
            listener.set_nonblocking(true)?;
            listen(&listener, BACKLOG)?;
            port = listener.local_addr()?.port();
            listeners.push(listener);
        }
        Ok(Self {
            listeners,
            port,
            lobby: Lobby::default(),
            guests: HashMap::new(),
            next_guest: 0,
            is_short: false,
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
        for listener in &self.listeners {
            if is_listening {
                // If this fails, connections are noticed when something else happens.
                let _ = self.poller.add(listener.as_fd(), Ready::Reception);
            } else {
                self.poller.remove(listener.as_fd());
            }
        }
    }

    /// Whether to [serve](Self::serve) again soon, even if the driver is not woken: there are guests, whose time is
    /// limited, or connections that could not be accepted.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_short || !self.lobby.is_empty()
    }

    pub(crate) fn expect(&mut self, terms: Terms, count: usize) {
        self.lobby.expect(terms, count);
    }

    pub(crate) fn expect_one_less(&mut self, attempt: u64) {
        self.lobby.expect_one_less(attempt);
    }

    /// Accepts and serves connections without blocking: as many as can be waiting by now, but not all that strangers
    /// may make meanwhile. Returns those of workers.
    pub(crate) fn serve(&mut self) -> Vec<Newcomer> {
        let mut newcomers = Vec::new();
        for _ in 0..=BACKLOG as usize / CAPACITY {
            let has_come = self.let_in();
            let guests: Vec<GuestId> = self.guests.keys().copied().collect();
            newcomers.extend(guests.into_iter().filter_map(|guest| self.serve_guest(guest)));
            for guest in self.lobby.overdue(Instant::now()) {
                self.dismiss(guest);
            }
            if !has_come || !self.lobby.has_room() {
                break;
            }
        }
        // The driver need not be woken for connections that there is no room for.
        self.listen(self.lobby.has_room() && !self.is_short);
        newcomers
    }

    /// Accepts connections as far as there is room. Returns whether there was one.
    fn let_in(&mut self) -> bool {
        let before = self.next_guest;
        self.is_short = false;
        for listener in &self.listeners {
            while self.lobby.has_room() {
                let stream = match listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Such as a lack of descriptors: the connection goes on waiting.
                        self.is_short |= error.kind() != io::ErrorKind::WouldBlock;
                        break;
                    }
                };
                let guest = self.next_guest;
                self.next_guest += 1;
                let Ok(stream) = above_standard(stream) else { continue };
                let is_fit = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
                if is_fit.and_then(|()| self.poller.add(stream.as_fd(), Ready::Reception)).is_ok() {
                    self.lobby.enter(guest, Instant::now());
                    self.guests.insert(guest, stream);
                }
            }
        }
        self.next_guest != before
    }

    /// Reads what a guest may send, and answers it.
    fn serve_guest(&mut self, guest: GuestId) -> Option<Newcomer> {
        loop {
            let mut bytes = [0; if OPENING > CONFIRMATION { OPENING } else { CONFIRMATION }];
            let room = self.lobby.room(guest);
            let stream = self.guests.get_mut(&guest)?;
            let len = match stream.read(&mut bytes[..room]) {
                Ok(len @ 1..) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Ok(0) | Err(_) => {
                    self.dismiss(guest);
                    return None;
                }
            };
            match self.lobby.receive(guest, &bytes[..len]) {
                Verdict::Wait => {}
                // Nothing was sent before, so the socket has room for it.
                Verdict::Answer(answer) => {
                    if stream.write_all(&answer).is_err() {
                        self.dismiss(guest);
                        return None;
                    }
                }
                Verdict::Worker(attempt, sealer, opener) => {
                    let stream = self.guests.remove(&guest)?;
                    self.poller.remove(stream.as_fd());
                    let link = Link::Sealed(SealedStream::new(stream.into(), sealer, opener));
                    return Some(Newcomer { attempt, link });
                }
                Verdict::Refuse(_) => {
                    self.dismiss(guest);
                    return None;
                }
            }
        }
    }

    fn dismiss(&mut self, guest: GuestId) {
        self.lobby.leave(guest);
        if let Some(stream) = self.guests.remove(&guest) {
            self.poller.remove(stream.as_fd());
        }
    }
}
