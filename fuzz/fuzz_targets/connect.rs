//! Any bytes on the port where workers connect: before the sender has proved who it is, and after.
//!
//! The files are compiled again here, because they are private.

#![no_main]
#![allow(dead_code)] // Not every function of the files is called.

use std::alloc::System;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use handshakes::{Handshakes, Step, TIMEOUT};
use invitation::Invitation;
use noise::{ANSWER, CONFIRMATION, Initiator, Key, OPENING, Opener, Sealer, Terms};
use wire::Fingerprint;
use wire::decoder::Decoder;

#[path = "../../src/codec/mod.rs"]
mod codec;
#[path = "../../src/process/pool/crews/handshakes.rs"]
mod handshakes;
#[path = "../../src/process/protocol/invitation.rs"]
mod invitation;
#[path = "../../src/process/protocol/noise.rs"]
mod noise;
#[path = "../../src/task/remote.rs"]
mod remote;
#[path = "../../src/process/protocol/wire/mod.rs"]
mod wire;

/// What the files need of their crate.
mod error {
    pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

    /// A panic is a finding.
    pub(crate) fn guard<T>(call: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
        call()
    }
}
mod process {
    pub(crate) mod protocol {
        pub(crate) use crate::{noise, wire};
    }
}
mod task {
    pub(crate) use crate::remote;
}

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const HANDSHAKE: u64 = 7;

/// How much memory a connection may take, whatever it sends: that of its handshake.
const MOST: usize = 16 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[mode, seed], bytes)) = bytes.split_first_chunk() else { return };
    let pieces = Pieces { seed: seed.into() };
    match mode % 8 {
        0..=2 => say_anything(bytes, pieces),
        3 => say_anything(&[b"progexec\x04\0\0\0\0\0\0\0\0\x30", bytes].concat(), pieces),
        4 => invite(bytes),
        5 => change_the_handshake(bytes),
        6 => change_the_channel(bytes, pieces),
        _ => go_mad(bytes, pieces),
    }
});

/// How to cut bytes into pieces.
#[derive(Clone, Copy)]
struct Pieces {
    seed: u32,
}

impl Pieces {
    fn next(&mut self) -> usize {
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Short and long pieces.
        1 << ((self.seed >> 8) % 10)
    }
}

fn terms() -> Terms {
    Terms { fingerprint: Fingerprint { binary: 1, tasks: 2 }, pool: 3, attempt: 4, key: Key::from_bytes([5; 32]) }
}

fn handshakes() -> Handshakes {
    let mut handshakes = Handshakes::default();
    handshakes.expect(terms(), 1);
    handshakes.begin(HANDSHAKE, Instant::now());
    handshakes
}

/// A connection that does not know the key gets no answer, and is gone after a limited number of bytes and a limited time.
fn say_anything(mut bytes: &[u8], mut pieces: Pieces) {
    let mut handshakes = handshakes();
    let (region, mut said) = (Region::new(ALLOCATOR), 0);
    loop {
        let room = handshakes.room(HANDSHAKE);
        assert!(said + room <= OPENING, "more is taken than a connection may send");
        let (piece, rest) = bytes.split_at(pieces.next().min(room).min(bytes.len()));
        if piece.is_empty() {
            break;
        }
        (bytes, said) = (rest, said + piece.len());
        match handshakes.receive(HANDSHAKE, piece) {
            Step::Wait => {}
            Step::Refuse(_) => break,
            _ => panic!("a stranger was let in"),
        }
        assert!(region.change().bytes_allocated <= MOST, "a connection takes too much memory");
    }
    handshakes.expire(Instant::now() + TIMEOUT);
    assert!(handshakes.is_empty());
}

fn invite(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let version = wire::VERSION;
    for line in [text.to_owned(), format!("progress-executor-invitation {version} {text}")] {
        if let Ok(invitation) = Invitation::parse(&line) {
            assert_eq!(Invitation::parse(&invitation.to_line()), Ok(invitation));
        }
    }
}

/// Flips bits as `bytes` says: what was changed is refused, and nothing else is.
fn change_the_handshake(bytes: &[u8]) {
    let mut handshakes = handshakes();
    let mut change = Change { bytes };
    let (initiator, mut opening) = Initiator::new(&terms()).expect("there are random numbers");
    let is_changed = change.apply(&mut opening[..OPENING]);
    let mut answer: [u8; ANSWER] = match handshakes.receive(HANDSHAKE, &opening) {
        Step::Answer(answer) if !is_changed => answer.try_into().expect("it has its length"),
        Step::Refuse(_) if is_changed => return,
        _ => panic!("changed: {is_changed}, and then it was taken for the opposite"),
    };
    let is_changed = change.apply(&mut answer);
    let Ok((_, _, mut confirmation)) = initiator.finish(&answer) else { return assert!(is_changed) };
    assert!(!is_changed);
    let is_changed = change.apply(&mut confirmation[..CONFIRMATION]);
    match handshakes.receive(HANDSHAKE, &confirmation) {
        Step::Worker(4, ..) if !is_changed => {}
        Step::Refuse(_) if is_changed => {}
        _ => panic!("changed: {is_changed}, and then it was taken for the opposite"),
    }
    assert!(handshakes.is_empty());
}

/// Which bits to flip: where, and how.
struct Change<'a> {
    bytes: &'a [u8],
}

impl Change<'_> {
    /// Returns whether the message has changed.
    fn apply(&mut self, message: &mut [u8]) -> bool {
        let before = message.to_vec();
        if let Some((&[place, bits], rest)) = self.bytes.split_first_chunk() {
            self.bytes = rest;
            if let Some(byte) = message.get_mut(usize::from(place)) {
                *byte ^= bits;
            }
        }
        message != before
    }
}

/// A channel from a worker to its program.
fn channel() -> (Sealer, Opener) {
    let mut handshakes = handshakes();
    let (initiator, opening) = Initiator::new(&terms()).expect("there are random numbers");
    let Step::Answer(answer) = handshakes.receive(HANDSHAKE, &opening) else { panic!("it knows the key") };
    let answer = answer.try_into().expect("it has its length");
    let (sealer, _, confirmation) = initiator.finish(&answer).expect("nothing was changed");
    let Step::Worker(_, _, opener) = handshakes.receive(HANDSHAKE, &confirmation) else { panic!("it is a worker") };
    (sealer, opener)
}

/// An attacker on the way inserts anything: what comes out is what was said, up to where it was changed.
fn change_the_channel(bytes: &[u8], mut pieces: Pieces) {
    let (mut sealer, mut opener) = channel();
    let Some((&[messages, place], bytes)) = bytes.split_first_chunk() else { return };
    let (mut said, mut wire) = (Vec::new(), Vec::new());
    for message in 0..messages % 8 {
        let text = vec![message; usize::from(message) * 37];
        sealer.seal(&text, &mut wire).expect("it is not used up");
        said.extend(text);
    }
    wire.splice(usize::from(place).min(wire.len()).., bytes.iter().copied());
    let mut heard = Vec::new();
    open(&mut opener, &wire, &mut pieces, |plain| heard.extend_from_slice(plain));
    assert!(said.starts_with(&heard), "what was not said was heard");
}

/// A worker that knows the key, and says anything.
fn go_mad(bytes: &[u8], mut pieces: Pieces) {
    let (mut sealer, mut opener) = channel();
    let (mut wire, mut decoder, mut rest) = (Vec::new(), Decoder::new(1 << 20), bytes);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(pieces.next().min(rest.len()));
        sealer.seal(piece, &mut wire).expect("it is not used up");
        rest = after;
    }
    let (mut heard, mut is_over) = (Vec::new(), false);
    open(&mut opener, &wire, &mut pieces, |plain| {
        heard.extend_from_slice(plain);
        decoder.append(plain);
        while !is_over {
            match decoder.next_reply() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => is_over = true,
            }
        }
    });
    assert!(heard == bytes, "what was said was not heard");
}

fn open(opener: &mut Opener, mut wire: &[u8], pieces: &mut Pieces, mut hear: impl FnMut(&[u8])) {
    while !wire.is_empty() {
        let (piece, rest) = wire.split_at(pieces.next().min(wire.len()));
        wire = rest;
        opener.space().extend_from_slice(piece);
        let mut plain = Vec::new();
        let opened = opener.open(&mut plain);
        hear(&plain);
        if opened.is_err() {
            return;
        }
    }
}
