//! The encrypted channel between a program and a worker that connects to it: `Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s`.
//! Nothing here does any input or output.
//!
//! ```text
//!   worker                                     program
//!      │ ──── "progexec", attempt; psk, e ──────► │ who has no key of this attempt is turned away
//!      │ ◄──────────────── e, ee ──────────────── │
//!      │ ──────────── an empty message ─────────► │ nobody else could have made sense of the answer
//!      │ ◄─────────────── messages ─────────────► │
//! ```
//!
//! Every message is preceded by its length, in two bytes, big-endian. Until the third message is verified, the program reads
//! at most [`OPENING`] and [`CONFIRMATION`] bytes, and interprets none but the number of the attempt. Protocol version,
//! [`Fingerprint`], pool and attempt are part of the prologue: if the ends do not agree on them, there is no channel.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use snow::params::NoiseParams;
use snow::{Builder, HandshakeState, StatelessTransportState};

use crate::process::protocol::wire::{Fingerprint, VERSION};

const PROTOCOL: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const MAGIC: [u8; 8] = *b"progexec";
const KEY: usize = 32;
/// The authentication tag of a message.
const TAG: usize = 16;
/// The length before each message.
const LEN: usize = 2;
/// The longest plain text of a message.
const MAX_PLAIN: usize = u16::MAX as usize - TAG;
/// A message of the handshake: an ephemeral key.
const HANDSHAKE: usize = LEN + KEY + TAG;

/// How many bytes the worker sends first.
pub(crate) const OPENING: usize = MAGIC.len() + size_of::<u64>() + HANDSHAKE;
/// How many bytes the program answers.
pub(crate) const ANSWER: usize = HANDSHAKE;
/// How many bytes the worker sends next, before the program reads anything else of it.
pub(crate) const CONFIRMATION: usize = LEN + TAG;

/// How many bytes are read at once: while little arrives, and otherwise.
const ROOM: (usize, usize) = (4 * 1024, 256 * 1024);

/// The secret of one launch.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key([u8; KEY]);

impl Key {
    pub(crate) fn random() -> io::Result<Self> {
        let mut key = [0; KEY];
        getrandom::fill(&mut key)?;
        Ok(Self(key))
    }

    pub(crate) fn from_bytes(bytes: [u8; KEY]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY] {
        &self.0
    }
}

/// Keeps the key out of logs.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What both ends must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) pool: u64,
    /// The number of the launch. Each has its own key.
    pub(crate) attempt: u64,
    pub(crate) key: Key,
}

impl Terms {
    fn prologue(&self) -> Vec<u8> {
        let mut prologue = MAGIC.to_vec();
        prologue.extend(VERSION.to_le_bytes());
        for number in [self.fingerprint.binary, self.fingerprint.tasks, self.pool, self.attempt] {
            prologue.extend(number.to_le_bytes());
        }
        prologue
    }

    fn handshake(
        &self,
        build: impl FnOnce(Builder<'_>) -> Result<HandshakeState, snow::Error>,
    ) -> Result<HandshakeState, NoiseError> {
        let params: NoiseParams = PROTOCOL.parse()?;
        let prologue = self.prologue();
        Ok(build(Builder::new(params).prologue(&prologue)?.psk(0, self.key.as_bytes())?)?)
    }
}

/// Why there is no channel, or no channel any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoiseError {
    /// What was received does not have the form that it should.
    NotOurs,
    /// The other end has another key or other [`Terms`], or a message was changed on its way.
    NotAuthentic,
    /// The system has no random numbers, or a channel is used up.
    Unavailable,
}

impl fmt::Display for NoiseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOurs => "something other than a connection between a program and its workers",
            Self::NotAuthentic => {
                "something that does not come from whom it seems to come from, or was changed on its way"
            }
            Self::Unavailable => "a channel that cannot be encrypted",
        })
    }
}

impl Error for NoiseError {}

impl From<snow::Error> for NoiseError {
    fn from(error: snow::Error) -> Self {
        match error {
            // No peer that knows the key sends a point that is not on the curve.
            snow::Error::Decrypt | snow::Error::Input | snow::Error::Dh => Self::NotAuthentic,
            _ => Self::Unavailable,
        }
    }
}

/// Which attempt an opening belongs to.
pub(crate) fn attempt_of(opening: &[u8; OPENING]) -> Result<u64, NoiseError> {
    let (magic, rest) = opening.split_first_chunk().ok_or(NoiseError::NotOurs)?;
    let (attempt, _) = rest.split_first_chunk().ok_or(NoiseError::NotOurs)?;
    if *magic == MAGIC { Ok(u64::from_le_bytes(*attempt)) } else { Err(NoiseError::NotOurs) }
}

/// The ephemeral key of an opening. An honest worker never sends the same one twice, so a repeated one is a replay.
pub(crate) fn ephemeral_of(opening: &[u8; OPENING]) -> [u8; KEY] {
    let mut ephemeral = [0; KEY];
    ephemeral.copy_from_slice(&opening[OPENING - TAG - KEY..OPENING - TAG]);
    ephemeral
}

/// The worker's side of the handshake.
pub(crate) struct Initiator(HandshakeState);

impl Initiator {
    /// Returns the opening as well.
    pub(crate) fn new(terms: &Terms) -> Result<(Self, Vec<u8>), NoiseError> {
        let mut handshake = terms.handshake(|builder| builder.build_initiator())?;
        let mut opening = MAGIC.to_vec();
        opening.extend(terms.attempt.to_le_bytes());
        put_handshake(&mut handshake, &mut opening)?;
        Ok((Self(handshake), opening))
    }

    /// Takes the answer. Returns the channel and the confirmation.
    pub(crate) fn finish(mut self, answer: &[u8; ANSWER]) -> Result<(Sealer, Opener, Vec<u8>), NoiseError> {
        take_handshake(&mut self.0, answer)?;
        let (mut sealer, opener) = split(self.0)?;
        let mut confirmation = Vec::with_capacity(CONFIRMATION);
        sealer.seal_one(&[], &mut confirmation)?;
        Ok((sealer, opener, confirmation))
    }
}

/// The program's side of the handshake, once it has answered.
pub(crate) struct Responder {
    sealer: Sealer,
    opener: Opener,
}

impl Responder {
    /// Returns the answer as well.
    pub(crate) fn new(terms: &Terms, opening: &[u8; OPENING]) -> Result<(Self, Vec<u8>), NoiseError> {
        let mut handshake = terms.handshake(|builder| builder.build_responder())?;
        take_handshake(&mut handshake, &opening[OPENING - HANDSHAKE..])?;
        let mut answer = Vec::with_capacity(ANSWER);
        put_handshake(&mut handshake, &mut answer)?;
        let (sealer, opener) = split(handshake)?;
        Ok((Self { sealer, opener }, answer))
    }

    pub(crate) fn confirm(self, confirmation: &[u8; CONFIRMATION]) -> Result<(Sealer, Opener), NoiseError> {
        let Self { sealer, mut opener } = self;
        opener.wire.extend_from_slice(confirmation);
        let mut plain = Vec::new();
        opener.open(&mut plain)?;
        if opener.wire.is_empty() && plain.is_empty() { Ok((sealer, opener)) } else { Err(NoiseError::NotOurs) }
    }
}

fn put_handshake(handshake: &mut HandshakeState, to: &mut Vec<u8>) -> Result<(), NoiseError> {
    let at = to.len() + LEN;
    to.extend(((HANDSHAKE - LEN) as u16).to_be_bytes());
    to.resize(at + HANDSHAKE - LEN, 0);
    let len = handshake.write_message(&[], &mut to[at..])?;
    debug_assert_eq!(len, HANDSHAKE - LEN);
    Ok(())
}

fn take_handshake(handshake: &mut HandshakeState, message: &[u8]) -> Result<(), NoiseError> {
    let (len, message) = message.split_first_chunk().ok_or(NoiseError::NotOurs)?;
    if usize::from(u16::from_be_bytes(*len)) != message.len() {
        return Err(NoiseError::NotOurs);
    }
    handshake.read_message(message, &mut [0; HANDSHAKE])?;
    Ok(())
}

fn split(handshake: HandshakeState) -> Result<(Sealer, Opener), NoiseError> {
    let state = Arc::new(handshake.into_stateless_transport_mode()?);
    let opener = Opener { state: state.clone(), nonce: 0, wire: Vec::new(), is_busy: false };
    Ok((Sealer { state, nonce: 0 }, opener))
}

/// Encrypts what is sent.
pub(crate) struct Sealer {
    state: Arc<StatelessTransportState>,
    nonce: u64,
}

impl Sealer {
    /// Appends the text, encrypted, in as many messages as it takes.
    pub(crate) fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), NoiseError> {
        plain.chunks(MAX_PLAIN).try_for_each(|chunk| self.seal_one(chunk, wire))
    }

    fn seal_one(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), NoiseError> {
        let len = plain.len() + TAG;
        let at = wire.len() + LEN;
        wire.extend((len as u16).to_be_bytes());
        wire.resize(at + len, 0);
        self.state.write_message(self.nonce, plain, &mut wire[at..])?;
        self.nonce += 1;
        Ok(())
    }
}

/// Decrypts what arrives. After a message that is missing, repeated, out of order or changed, nothing is accepted any more.
pub(crate) struct Opener {
    state: Arc<StatelessTransportState>,
    nonce: u64,
    /// The beginning of a message that is not complete.
    wire: Vec<u8>,
    /// Whether the last read has filled the room.
    is_busy: bool,
}

impl Opener {
    /// The buffer to append arriving bytes to. It has room for some, and for more while more keeps arriving.
    pub(crate) fn space(&mut self) -> &mut Vec<u8> {
        self.wire.reserve(if self.is_busy { ROOM.1 } else { ROOM.0 });
        &mut self.wire
    }

    /// Appends the plain text of the messages that are complete.
    pub(crate) fn open(&mut self, plain: &mut Vec<u8>) -> Result<(), NoiseError> {
        self.is_busy = !self.wire.is_empty() && self.wire.len() == self.wire.capacity();
        let mut rest = &self.wire[..];
        while let Some((len, after)) = rest.split_first_chunk() {
            let len = usize::from(u16::from_be_bytes(*len));
            let room = len.checked_sub(TAG).ok_or(NoiseError::NotOurs)?;
            let Some((message, after)) = after.split_at_checked(len) else { break };
            let at = plain.len();
            plain.resize(at + room, 0);
            if let Err(error) = self.state.read_message(self.nonce, message, &mut plain[at..]) {
                plain.truncate(at);
                return Err(error.into());
            }
            self.nonce += 1;
            rest = after;
        }
        let used = self.wire.len() - rest.len();
        self.wire.drain(..used);
        if !self.is_busy {
            self.release();
        }
        Ok(())
    }

    /// Frees the buffer if it is empty: there may be a thousand of these, and one at a time is read.
    pub(crate) fn release(&mut self) {
        if self.wire.is_empty() {
            self.wire = Vec::new();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The worker's and the program's side of a channel.
    pub(crate) fn pair() -> [(Sealer, Opener); 2] {
        let fingerprint = Fingerprint { binary: 1, tasks: 2 };
        let terms = Terms { fingerprint, pool: 3, attempt: 4, key: Key::random().unwrap() };
        let (initiator, opening) = Initiator::new(&terms).unwrap();
        let (responder, answer) = Responder::new(&terms, &opening.try_into().unwrap()).unwrap();
        let (sealer, opener, confirmation) = initiator.finish(&answer.try_into().unwrap()).unwrap();
        [(sealer, opener), responder.confirm(&confirmation.try_into().unwrap()).unwrap()]
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i ^ i >> 8) as u8).collect()
    }

    fn sealed(sealer: &mut Sealer, plain: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        sealer.seal(plain, &mut wire).unwrap();
        wire
    }

    #[test]
    fn what_is_sealed_comes_out_as_it_was_however_it_is_cut() {
        let [(mut worker, mut from_program), (mut program, mut from_worker)] = pair();
        let sizes = [0, 1, 1000, MAX_PLAIN - 1, MAX_PLAIN, MAX_PLAIN + 1, 3 * MAX_PLAIN, 1_000_000];
        for (sealer, opener) in [(&mut worker, &mut from_worker), (&mut program, &mut from_program)] {
            for (size, piece) in sizes.into_iter().zip([1, 2, 3, 700, 65_537, 4096, 1 << 20, 50_000]) {
                let plain = bytes(size);
                let (wire, mut opened) = (sealed(sealer, &plain), Vec::new());
                assert_eq!(wire.len(), size + size.div_ceil(MAX_PLAIN) * (LEN + TAG));
                for piece in wire.chunks(piece) {
                    opener.space().extend_from_slice(piece);
                    opener.open(&mut opened).unwrap();
                }
                assert!(opened == plain, "{size} bytes in pieces of {piece}");
            }
        }
    }

    #[test]
    fn both_ends_do_not_say_the_same() {
        let [(mut worker, mut from_program), (mut program, _)] = pair();
        assert_ne!(sealed(&mut worker, b"text"), sealed(&mut program, b"text"));
        // Neither end accepts what it has sent itself.
        from_program.space().extend(sealed(&mut worker, b"text"));
        assert_eq!(from_program.open(&mut Vec::new()), Err(NoiseError::NotAuthentic));
    }

    #[test]
    fn a_message_that_was_changed_left_out_moved_or_played_again_is_seen() {
        let [one, two] = [b"one", b"two"];
        type Change = fn(Vec<u8>, Vec<u8>) -> Vec<u8>;
        let changes: [Change; 4] = [
            |one, two| [two, one].concat(),
            |_, two| two,
            |one, two| [one.clone(), one, two].concat(),
            |mut one, _| {
                one[LEN] ^= 1;
                one
            },
        ];
        for (which, change) in changes.into_iter().enumerate() {
            let [(mut worker, _), (_, mut from_worker)] = pair();
            let (one, two) = (sealed(&mut worker, one), sealed(&mut worker, two));
            let mut opened = Vec::new();
            from_worker.space().extend(change(one, two));
            assert_eq!(from_worker.open(&mut opened), Err(NoiseError::NotAuthentic), "change {which}");
            assert!(opened.is_empty() || opened == b"one", "nothing is taken that is not authentic: {opened:?}");
        }
    }

    #[test]
    fn a_message_that_is_too_short_for_its_proof_is_seen() {
        let [_, (_, mut from_worker)] = pair();
        from_worker.space().extend([0, TAG as u8 - 1]);
        assert_eq!(from_worker.open(&mut Vec::new()), Err(NoiseError::NotOurs));
    }

    #[test]
    fn an_opener_takes_memory_while_there_is_much_and_gives_it_back() {
        let [(mut worker, _), (_, mut from_worker)] = pair();
        let (wire, mut opened) = (sealed(&mut worker, &bytes(4 << 20)), Vec::new());
        let (mut rest, mut most) = (&wire[..], 0);
        while !rest.is_empty() {
            let space = from_worker.space();
            most = most.max(space.capacity());
            let room = space.capacity() - space.len();
            let (piece, after) = rest.split_at(room.min(rest.len()));
            space.extend_from_slice(piece);
            from_worker.open(&mut opened).unwrap();
            rest = after;
        }
        assert!(most > ROOM.1, "it reads much at once where there is much: {most} bytes");
        assert!(most < 4 * ROOM.1, "and not all: {most} bytes");
        from_worker.open(&mut opened).unwrap();
        assert_eq!(from_worker.wire.capacity(), 0, "it keeps nothing");
        assert!(from_worker.space().capacity() <= 2 * ROOM.0);
    }
}
