//! A connection whose bytes are [encrypted](super::noise): between a program and a worker that has connected to it.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::process::protocol::descriptor::{QUIETLY, retry_on_shortage};
use crate::process::protocol::noise::{Opener, Sealer};

/// How many bytes are sealed at once.
const MOST: usize = 256 * 1024;

pub(crate) struct SealedStream {
    socket: OwnedFd,
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Opener>,
}

struct Outgoing {
    sealer: Sealer,
    /// What was sealed, of which `sent` bytes were sent.
    wire: Vec<u8>,
    sent: usize,
}

impl SealedStream {
    pub(crate) fn new(socket: OwnedFd, sealer: Sealer, opener: Opener) -> Self {
        let outgoing = Outgoing { sealer, wire: Vec::new(), sent: 0 };
        Self { socket, outgoing: Mutex::new(outgoing), incoming: Mutex::new(opener) }
    }

    /// Appends what has arrived and is authentic: perhaps nothing, as a message may be incomplete. Returns how many bytes have
    /// arrived, as any are a sign of life; 0 means the end.
    pub(super) fn read(&self, bytes: &mut Vec<u8>) -> rustix::io::Result<usize> {
        let mut opener = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        let received = retry_on_shortage(|| recv(&self.socket, spare_capacity(opener.space()), RecvFlags::DONTWAIT));
        let Ok((len @ 1.., _)) = received else {
            opener.release();
            return received.map(|_| 0);
        };
        opener.open(bytes).map_err(|_| Errno::BADMSG)?;
        Ok(len)
    }

    /// Seals some of the bytes, and sends what there is room for: the rest of what was sealed is [still to be sent](Self::held).
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
        let mut outgoing = self.outgoing();
        let written = outgoing.write(&self.socket, slices);
        if written.is_err_and(|error| error != Errno::AGAIN) {
            // Nothing will read it.
            outgoing.forget();
        }
        written
    }

    /// How many sealed bytes are still to be sent.
    pub(super) fn held(&self) -> usize {
        let outgoing = self.outgoing();
        outgoing.wire.len() - outgoing.sent
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    fn write(&mut self, socket: &OwnedFd, slices: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
        self.send(socket)?;
        let mut taken = 0;
        for slice in slices {
            let piece = &slice[..slice.len().min(MOST - taken)];
            self.sealer.seal(piece, &mut self.wire).map_err(|_| Errno::BADMSG)?;
            taken += piece.len();
        }
        match self.send(socket) {
            Ok(()) | Err(Errno::AGAIN) => Ok(taken),
            Err(error) => Err(error),
        }
    }

    /// Sends all that was sealed, as far as there is room.
    fn send(&mut self, socket: &OwnedFd) -> rustix::io::Result<()> {
        while self.sent < self.wire.len() {
            self.sent += retry_on_shortage(|| send(socket, &self.wire[self.sent..], QUIETLY | SendFlags::DONTWAIT))?;
        }
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.wire.clear();
        self.wire.shrink_to(0);
        self.sent = 0;
    }
}

impl AsFd for SealedStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::SealedStream;
    use crate::process::protocol::channel::{Channel, Received};
    use crate::process::protocol::link::Link;
    use crate::process::protocol::noise::{Sealer, tests};
    use crate::process::protocol::wire::Reply;
    use crate::process::protocol::wire::decoder::Decoder;
    use crate::process::protocol::wire::outbox::Outbox;

    /// The program's end of a connection, and what the worker sends with.
    fn connection() -> (Channel, TcpStream, Sealer) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let worker = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (program, _) = listener.accept().unwrap();
        let [(sends, _), (sealer, opener)] = tests::pair();
        (Channel::over(Link::Sealed(SealedStream::new(program.into(), sealer, opener))), worker, sends)
    }

    /// What is received next, in the time that it may take.
    fn receive(channel: &Channel, decoder: &mut Decoder) -> Received {
        let mut fds = [PollFd::new(channel, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&Duration::from_secs(60).try_into().unwrap())), Ok(1), "nothing comes");
        channel.receive(decoder)
    }

    #[test]
    fn each_piece_of_a_message_is_a_sign_of_life() {
        let (channel, mut worker, mut sealer) = connection();
        let (mut outbox, mut wire, mut decoder) = (Outbox::default(), Vec::new(), Decoder::new(1024));
        outbox.reply(Reply::Beat);
        sealer.seal(&outbox.into_bytes(), &mut wire).unwrap();
        let (first, rest) = wire.split_at(wire.len() / 2);
        worker.write_all(first).unwrap();
        assert_eq!(receive(&channel, &mut decoder), Received::Some);
        assert!(decoder.next_reply().unwrap().is_none());
        worker.write_all(rest).unwrap();
        assert_eq!(receive(&channel, &mut decoder), Received::Some);
        assert!(matches!(decoder.next_reply(), Ok(Some(Reply::Beat))));
    }
}
