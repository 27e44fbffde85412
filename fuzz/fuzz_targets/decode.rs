//! Any bytes, in any pieces, to the decoders of both sides.
//!
//! The files are compiled again here, because they are private.

#![no_main]
#![allow(dead_code)] // Not every function of the files is called.

use std::alloc::System;
use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use wire::decoder::Decoder;
use wire::outbox::Outbox;
use wire::{Reply, Request, WireError};

#[path = "../../src/codec/mod.rs"]
mod codec;
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
mod task {
    pub(crate) use crate::remote;
}

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How much memory a decoder may take before anything has arrived.
const ROOM: usize = 64 * 1024;

/// The most that a frame may hold.
const BOUNDS: [u64; 4] = [1 << 30, 1024, 64 * 1024, u64::MAX];

fuzz_target!(|bytes: &[u8]| {
    // The first bytes say how the rest arrives.
    let Some((&[mode, seed], bytes)) = bytes.split_first_chunk() else { return };
    let max_frame = BOUNDS[usize::from(mode & 3)];
    let stream = if mode & 1 << 7 == 0 { bytes.to_vec() } else { frames(bytes) };
    let pieces = Pieces { mode, seed: seed.into(), left: 300 };
    check::<Request>(max_frame, &stream, pieces);
    check::<Reply>(max_frame, &stream, pieces);
});

/// Well-formed frames with any contents: frames of random bytes would have the wrong length.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some((&[kind, id, fields, payload, filler], rest)) = bytes.split_first_chunk() {
        let (fields, rest) = rest.split_at(rest.len().min(fields.into()));
        let (payload, rest) = rest.split_at(rest.len().min(payload.into()));
        bytes = rest;
        // So that a short input is enough for a large frame, but not for many.
        let filler = if stream.len() < ROOM { usize::from(filler.saturating_sub(64)) * 512 } else { 0 };
        let filler = vec![b'x'; filler];
        stream.push(kind);
        stream.extend(u64::from(id).to_le_bytes());
        stream.extend((fields.len() as u32).to_le_bytes());
        stream.extend(((payload.len() + filler.len()) as u64).to_le_bytes());
        stream.extend([fields, payload, &filler, b"\n"].concat());
    }
    stream
}

/// A message of either side.
trait Message: Clone + PartialEq + Debug {
    fn put(self, outbox: &mut Outbox);
    fn next(decoder: &mut Decoder) -> Result<Option<Self>, WireError>;
}

impl Message for Request {
    fn put(self, outbox: &mut Outbox) {
        outbox.request(self);
    }

    fn next(decoder: &mut Decoder) -> Result<Option<Self>, WireError> {
        decoder.next_request()
    }
}

impl Message for Reply {
    fn put(self, outbox: &mut Outbox) {
        outbox.reply(self);
    }

    fn next(decoder: &mut Decoder) -> Result<Option<Self>, WireError> {
        decoder.next_reply()
    }
}

/// How to cut bytes into pieces.
#[derive(Clone, Copy)]
struct Pieces {
    mode: u8,
    seed: u32,
    /// How many more pieces there are before everything that is left comes at once.
    left: u32,
}

impl Pieces {
    fn next_len(&mut self) -> usize {
        if self.left == 0 {
            return usize::MAX;
        }
        self.left -= 1;
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let random = (self.seed >> 8) as usize;
        match self.mode >> 2 & 3 {
            0 => usize::MAX,
            1 => 1 + random % 16,
            2 => 1 + random % 4096,
            // Short and long pieces.
            _ => 1 << (random % 17),
        }
    }

    /// Whether more may arrive than the decoder has room for.
    fn go_beyond_room(self) -> bool {
        self.mode & 1 << 4 != 0
    }
}

fn check<M: Message>(max_frame: u64, stream: &[u8], pieces: Pieces) {
    let (messages, error) = decode::<M>(max_frame, stream, pieces);
    // However the bytes are cut, the result is the same.
    assert!(decode::<M>(max_frame, stream, Pieces { mode: 1 << 4, seed: 0, left: 0 }) == (messages.clone(), error));
    let again = decode::<M>(u64::MAX, &encode(&messages, pieces), pieces);
    assert!(again == (messages, None));
}

fn decode<M: Message>(max_frame: u64, mut bytes: &[u8], mut pieces: Pieces) -> (Vec<M>, Option<WireError>) {
    let mut decoder = Decoder::new(max_frame);
    let mut messages = Vec::new();
    let (mut arrived, mut kept) = (0, 0);
    while !bytes.is_empty() {
        let region = Region::new(ALLOCATOR);
        let space = decoder.space();
        let room = space.capacity() - space.len();
        assert!(room > 0, "an empty read looks like the end");
        let most = if pieces.go_beyond_room() { bytes.len() } else { room.min(bytes.len()) };
        let (piece, rest) = bytes.split_at(pieces.next_len().min(most));
        if pieces.go_beyond_room() {
            decoder.append(piece);
        } else {
            space.extend_from_slice(piece);
        }
        bytes = rest;
        arrived += piece.len();
        assert_eq!(decoder.taken(), arrived as u64);
        let mut next = M::next(&mut decoder);
        while let Ok(Some(message)) = next {
            messages.push(message);
            // The smallest frame is its head and the newline.
            assert!(22 * messages.len() <= arrived, "{} messages in {arrived} bytes", messages.len());
            next = M::next(&mut decoder);
        }
        let change = region.change();
        let taken = change.bytes_allocated;
        kept += taken as isize - change.bytes_deallocated as isize;
        // What has arrived, as its buffer grows, and messages, which are larger than their frames if these are small.
        assert!(taken <= 32 * arrived + 4 * ROOM, "{taken} bytes of memory were taken for {arrived} bytes");
        assert!(kept <= (16 * arrived + 4 * ROOM) as isize, "{kept} bytes of memory are kept for {arrived} bytes");
        if let Err(error) = next {
            return (messages, Some(error));
        }
    }
    (messages, None)
}

fn encode<M: Message>(messages: &[M], mut pieces: Pieces) -> Vec<u8> {
    let (mut outbox, mut sent) = (Outbox::default(), Vec::new());
    for message in messages.iter().cloned() {
        message.put(&mut outbox);
        send(&mut outbox, pieces.next_len(), &mut sent);
    }
    while !outbox.is_empty() {
        send(&mut outbox, pieces.next_len(), &mut sent);
    }
    sent
}

fn send(outbox: &mut Outbox, mut most: usize, sent: &mut Vec<u8>) {
    let (slices, count) = outbox.slices();
    let before = sent.len();
    for slice in &slices[..count] {
        let taken = most.min(slice.len());
        sent.extend(&slice[..taken]);
        most -= taken;
    }
    assert!(sent.len() > before, "it is not empty, and yet there is nothing to be sent");
    outbox.advance(sent.len() - before);
}
