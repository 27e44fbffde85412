//! Frames and messages: all that a program and its workers have in common. Nothing in here does any input or output.
//!
//! ```text
//! ┌──────┬────────┬─────────────┬─────────────┬────────┬─────────┬────┐
//! │ kind │   id   │ fields: len │ payload: len│ fields │ payload │ \n │
//! │  u8  │  u64   │     u32     │     u64     │        │         │    │
//! └──────┴────────┴─────────────┴─────────────┴────────┴─────────┴────┘
//! ```
//!
//! Numbers have their lowest byte first. `id` is the task that the frame is about, 0 for the initializer, and `fields` is
//! what the kind of message asks for. The payload is an encoded value; it stands alone so that a large one can be
//! written from, and read into, its final place. The newline is for launchers that forward whole lines.
//!
//! The first frame of each side is of the same form in every version of the protocol: [`Hello`] and [`Ready`].

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io::IoSlice;
use std::mem;
use std::sync::Arc;

use crate::codec::{Encoded, Format};
use crate::task::remote::RemoteSnapshot;

/// Changes with every change of a frame or a message.
pub(crate) const VERSION: u32 = 3;

/// A time-out that never passes.
pub(crate) const NO_TIMEOUT: u64 = u64::MAX;

const MAGIC: [u8; 8] = *b"progexec";

const HEAD: usize = 21;
const NEWLINE: u8 = b'\n';

/// From this size on, a payload is neither copied nor read through a buffer.
const LARGE: usize = 32 * 1024;

/// How much is read at once, at the least.
const ROOM: usize = 64 * 1024;

/// What a program tells a worker.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Hello(Hello),
    /// Run a task, after those that were sent before.
    Run {
        run: Run,
        function: String,
        input: Encoded,
    },
    /// What is requested of a task by now.
    Want {
        id: u64,
        wanted: u32,
    },
    /// Say goodbye, and end.
    Quit,
}

/// Which task, and how it is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) id: u64,
    /// Its number among those that were sent to this worker.
    pub(crate) place: u64,
    /// What is requested of it by now: bits of its control word.
    pub(crate) wanted: u32,
    /// How long it may take, in nanoseconds; [`NO_TIMEOUT`] stands for as long as it likes.
    pub(crate) timeout: u64,
}

/// What a worker tells the program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Ready(Ready),
    /// Said before it is done, where nothing shows it or somebody waits to see it.
    Started {
        id: u64,
    },
    Progress {
        id: u64,
        sight: RemoteSnapshot,
    },
    Ended {
        id: u64,
        sight: RemoteSnapshot,
        outcome: Outcome,
    },
    /// The worker ends on purpose.
    Goodbye,
}

/// The program introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    /// How many programs of this kind are above the worker, which may be a program to other workers.
    pub(crate) depth: u32,
    /// In nanoseconds.
    pub(crate) report_interval: u64,
    /// The most that a frame may hold, in bytes.
    pub(crate) max_frame: u64,
}

/// The worker says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) version: u32,
    /// Two processes with the same fingerprint run the same program, with the same tasks.
    pub(crate) fingerprint: Fingerprint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) binary: u64,
    pub(crate) tasks: u64,
}

/// How a task ended in a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value(Encoded),
    /// It did not end with a value, but with an error: its message, and those of its sources.
    Error(Ending, Vec<String>),
}

/// How a task ended that has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Cancelled,
    Failed,
    Panicked,
    NotRegistered,
    Encode,
    Decode,
}

const ENDINGS: [Ending; 6] =
    [Ending::Cancelled, Ending::Failed, Ending::Panicked, Ending::NotRegistered, Ending::Encode, Ending::Decode];

/// What is wrong with what was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    TooLarge { len: u64, max: u64 },
    NoNewline,
    UnknownKind(u8),
    Malformed(&'static str),
    NoHello,
    OutOfTurn,
    Version(u32),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, max } => write!(f, "a frame of {len} bytes, where {max} are allowed"),
            Self::NoNewline => f.write_str("a frame that does not end where it says"),
            Self::UnknownKind(kind) => write!(f, "a frame of unknown kind {kind}"),
            Self::Malformed(what) => write!(f, "a malformed `{what}`"),
            Self::NoHello => f.write_str("something else than the introduction that comes first"),
            Self::OutOfTurn => f.write_str("a message out of turn"),
            Self::Version(version) => write!(f, "version {version} of the protocol, where this is version {VERSION}"),
        }
    }
}

impl Error for WireError {}

mod kind {
    pub(super) const HELLO: u8 = b'H';
    pub(super) const RUN: u8 = b'R';
    pub(super) const WANT: u8 = b'W';
    pub(super) const QUIT: u8 = b'Q';
    pub(super) const READY: u8 = b'h';
    pub(super) const STARTED: u8 = b's';
    pub(super) const PROGRESS: u8 = b'p';
    pub(super) const VALUE: u8 = b'v';
    pub(super) const ERROR: u8 = b'e';
    pub(super) const GOODBYE: u8 = b'g';
}

/// What is to be sent: small frames side by side, large payloads as they are.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Arc<Vec<u8>>>,
    /// The frames after all chunks.
    tail: Vec<u8>,
    /// How much of the first of them was sent.
    sent: usize,
    /// Where in all that is ever sent the tail begins.
    tail_at: u64,
    /// Up to where all that is ever sent was noted in shared memory.
    noted: u64,
}

/// How many slices are written at once, at the most.
const SLICES: usize = 16;

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty()
    }

    /// The bytes of small messages.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.tail
    }

    /// What is next to be sent, for a write of several slices at once.
    pub(crate) fn slices(&self) -> ([IoSlice<'_>; SLICES], usize) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let all = self.chunks.iter().map(|chunk| &**chunk).chain([&self.tail]);
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(all) {
            let skip = if count == 0 { self.sent } else { 0 };
            *slice = IoSlice::new(&chunk[skip..]);
            count += 1;
        }
        (slices, count)
    }

    /// So many bytes more were sent.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        while let Some(first) = self.chunks.front() {
            if self.sent < first.len() {
                return;
            }
            self.sent -= first.len();
            self.chunks.pop_front();
        }
        // What was sent goes when that costs little: always in the end, and else when it is most of it.
        if self.sent == self.tail.len() || self.sent > ROOM && self.sent > self.tail.len() / 2 {
            self.tail.drain(..self.sent);
            self.tail_at += mem::take(&mut self.sent) as u64;
        }
    }

    /// Lets `note` have what is neither sent nor noted before, with its place in all that is ever sent. Returns whether
    /// everything is noted now: not where there is more than `room`, or where `note` did not take it.
    pub(crate) fn note(&mut self, room: usize, note: impl FnOnce(u64, &[u8]) -> bool) -> bool {
        let from = self.noted.max(self.tail_at + self.sent as u64);
        let skip = (from - self.tail_at) as usize;
        let is_noted = self.chunks.is_empty() && self.tail.len() <= room && note(from, &self.tail[skip..]);
        if is_noted {
            self.noted = self.tail_at + self.tail.len() as u64;
        }
        is_noted
    }

    pub(crate) fn run(&mut self, run: Run, function: &str, format: Format, input: &Payload) {
        let fields = |to: &mut Vec<u8>| {
            to.extend(run.place.to_le_bytes());
            to.extend(run.wanted.to_le_bytes());
            to.extend(run.timeout.to_le_bytes());
            to.push(format as u8);
            to.extend(function.as_bytes());
        };
        self.push(kind::RUN, run.id, fields, input);
    }

    pub(crate) fn request(&mut self, request: Request) {
        match request {
            Request::Hello(hello) => self.push_small(kind::HELLO, 0, |to| {
                to.extend(MAGIC);
                to.extend(hello.version.to_le_bytes());
                to.extend(hello.depth.to_le_bytes());
                to.extend(hello.report_interval.to_le_bytes());
                to.extend(hello.max_frame.to_le_bytes());
            }),
            Request::Run { run, function, input } => self.run(run, &function, input.format, &input.bytes.into()),
            Request::Want { id, wanted } => self.push_small(kind::WANT, id, |to| to.extend(wanted.to_le_bytes())),
            Request::Quit => self.push_small(kind::QUIT, 0, |_| {}),
        }
    }

    pub(crate) fn reply(&mut self, reply: Reply) {
        match reply {
            Reply::Ready(ready) => self.push_small(kind::READY, 0, |to| {
                to.extend(MAGIC);
                to.extend(ready.version.to_le_bytes());
                to.extend(ready.fingerprint.binary.to_le_bytes());
                to.extend(ready.fingerprint.tasks.to_le_bytes());
            }),
            Reply::Started { id } => self.push_small(kind::STARTED, id, |_| {}),
            Reply::Progress { id, sight } => self.push_small(kind::PROGRESS, id, |to| put_sight(to, &sight)),
            Reply::Ended { id, sight, outcome: Outcome::Value(Encoded { format, bytes }) } => {
                let fields = |to: &mut Vec<u8>| {
                    to.push(format as u8);
                    put_sight(to, &sight);
                };
                self.push(kind::VALUE, id, fields, &bytes.into());
            }
            Reply::Ended { id, sight, outcome: Outcome::Error(ending, texts) } => {
                let fields = |to: &mut Vec<u8>| {
                    to.push(ending as u8);
                    put_sight(to, &sight);
                };
                let mut payload = Vec::new();
                for text in texts {
                    payload.extend((text.len() as u64).to_le_bytes());
                    payload.extend(text.as_bytes());
                }
                self.push(kind::ERROR, id, fields, &payload.into());
            }
            Reply::Goodbye => self.push_small(kind::GOODBYE, 0, |_| {}),
        }
    }

    fn push_small(&mut self, kind: u8, id: u64, fields: impl FnOnce(&mut Vec<u8>)) {
        self.push(kind, id, fields, &Payload::Small(Vec::new()));
    }

    fn push(&mut self, kind: u8, id: u64, fields: impl FnOnce(&mut Vec<u8>), payload: &Payload) {
        let len = match payload {
            Payload::Small(bytes) => bytes.len(),
            Payload::Large(bytes) => bytes.len(),
        };
        let start = self.tail.len();
        self.tail.push(kind);
        self.tail.extend(id.to_le_bytes());
        self.tail.extend([0; 4]);
        self.tail.extend((len as u64).to_le_bytes());
        fields(&mut self.tail);
        let fields_len = u32::try_from(self.tail.len() - start - HEAD).unwrap_or(u32::MAX);
        self.tail[start + 9..start + 13].copy_from_slice(&fields_len.to_le_bytes());
        match payload {
            Payload::Small(bytes) => self.tail.extend(bytes),
            Payload::Large(bytes) => {
                self.tail_at += (self.tail.len() + len) as u64;
                self.chunks.push_back(Arc::new(mem::take(&mut self.tail)));
                self.chunks.push_back(bytes.clone());
            }
        }
        self.tail.push(NEWLINE);
    }
}

/// An encoded value to be sent, maybe more than once.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// It is copied.
    Small(Vec<u8>),
    Large(Arc<Vec<u8>>),
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() < LARGE { Self::Small(bytes) } else { Self::Large(Arc::new(bytes)) }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Small(Vec::new())
    }
}

/// The size of the frame for an input, without the payload; for its bound.
pub(crate) fn run_overhead(function: &str) -> u64 {
    (HEAD + 21 + function.len() + 1) as u64
}

/// The size of the frame for an output, without the payload; for its bound.
pub(crate) fn value_overhead(sight: &RemoteSnapshot) -> u64 {
    (HEAD + 1 + SIGHT + sight.message.as_ref().map_or(0, String::len) + 1) as u64
}

/// What has arrived, on its way to become frames.
///
/// Memory is taken as the bytes come: a frame that claims to be large costs nothing before it is.
#[derive(Debug)]
pub(crate) struct Decoder {
    max_frame: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was decoded.
    used: usize,
    large: Option<Large>,
    /// How many bytes were decoded so far.
    decoded: u64,
    /// How many bytes are known already that are still to arrive.
    known: u64,
    /// How long the buffer was before the last bytes arrived.
    before: usize,
}

/// A frame whose payload is read into its final place.
#[derive(Debug)]
struct Large {
    head: Head,
    fields: Vec<u8>,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    kind: u8,
    id: u64,
    fields: usize,
    payload: usize,
}

impl Decoder {
    pub(crate) fn new(max_frame: u64) -> Self {
        Self { max_frame, buffer: Vec::new(), used: 0, large: None, decoded: 0, known: 0, before: 0 }
    }

    pub(crate) fn set_max_frame(&mut self, max_frame: u64) {
        self.max_frame = max_frame;
    }

    /// Where bytes that arrive are to be appended; it has room for some. More than that is fine.
    pub(crate) fn space(&mut self) -> &mut Vec<u8> {
        if let Some(large) = &mut self.large {
            let (len, whole) = (large.payload.len(), large.head.payload + 1);
            if large.payload.capacity() == len {
                large.payload.reserve_exact((whole - len).min(len.max(ROOM)));
            }
            self.before = len;
            return &mut large.payload;
        }
        self.buffer.drain(..mem::take(&mut self.used));
        self.buffer.reserve(ROOM);
        self.before = self.buffer.len();
        &mut self.buffer
    }

    /// Adds bytes that will still arrive, and are to be skipped then.
    pub(crate) fn foresee(&mut self, bytes: &[u8]) {
        self.append(bytes);
        self.known += bytes.len() as u64;
    }

    /// Skips what is known of the bytes that have just arrived.
    pub(crate) fn skip_known(&mut self) {
        if self.known == 0 {
            return;
        }
        let bytes = self.large.as_mut().map_or(&mut self.buffer, |large| &mut large.payload);
        let arrived = bytes.len() - self.before;
        let skipped = usize::try_from(self.known).map_or(arrived, |known| known.min(arrived));
        bytes.drain(self.before..self.before + skipped);
        self.known -= skipped as u64;
    }

    /// How many bytes have arrived so far.
    pub(crate) fn taken(&self) -> u64 {
        let large = self.large.as_ref().map_or(0, |large| HEAD + large.fields.len() + large.payload.len());
        self.decoded + (self.buffer.len() - self.used + large) as u64
    }

    /// Drops what has arrived since the last message.
    pub(crate) fn forget_rest(&mut self) {
        self.buffer.clear();
        self.used = 0;
        self.large = None;
    }

    /// Adds bytes that have arrived in another way.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.space().extend_from_slice(bytes);
    }

    pub(crate) fn next_request(&mut self) -> Result<Option<Request>, WireError> {
        self.next(request)
    }

    pub(crate) fn next_reply(&mut self) -> Result<Option<Reply>, WireError> {
        self.next(reply)
    }

    fn next<M>(
        &mut self,
        decode: impl FnOnce(Head, &[u8], Vec<u8>) -> Result<M, WireError>,
    ) -> Result<Option<M>, WireError> {
        if self.large.is_some() {
            return self.next_large(decode);
        }
        let rest = &self.buffer[self.used..];
        let Some((head, rest)) = rest.split_at_checked(HEAD) else { return Ok(None) };
        let head = self.head(head)?;
        let Some((fields, rest)) = rest.split_at_checked(head.fields) else { return Ok(None) };
        if let Some((payload, rest)) = rest.split_at_checked(head.payload) {
            let Some(&last) = rest.first() else { return Ok(None) };
            if last != NEWLINE {
                return Err(WireError::NoNewline);
            }
            let message = decode(head, fields, payload.to_vec())?;
            self.used += HEAD + head.fields + head.payload + 1;
            self.decoded += (HEAD + head.fields + head.payload + 1) as u64;
            return Ok(Some(message));
        }
        if head.payload >= LARGE {
            self.large = Some(Large { head, fields: fields.to_vec(), payload: rest.to_vec() });
            self.buffer.clear();
            self.used = 0;
        }
        Ok(None)
    }

    fn next_large<M>(
        &mut self,
        decode: impl FnOnce(Head, &[u8], Vec<u8>) -> Result<M, WireError>,
    ) -> Result<Option<M>, WireError> {
        let is_whole = |large: &mut Large| large.payload.len() > large.head.payload;
        let Some(Large { head, fields, mut payload }) = self.large.take_if(is_whole) else { return Ok(None) };
        if payload[head.payload] != NEWLINE {
            return Err(WireError::NoNewline);
        }
        self.buffer.extend_from_slice(&payload[head.payload + 1..]);
        payload.truncate(head.payload);
        let message = decode(head, &fields, payload)?;
        self.decoded += (HEAD + head.fields + head.payload + 1) as u64;
        Ok(Some(message))
    }

    fn head(&self, head: &[u8]) -> Result<Head, WireError> {
        let mut from = Fields { rest: head, message: "head" };
        let (kind, id, fields, payload) = (from.u8()?, from.u64()?, from.u32()?, from.u64()?);
        let len = (HEAD as u64 + 1).saturating_add(fields.into()).saturating_add(payload);
        // Whatever is allowed, a vector holds no more.
        let whole = isize::try_from(len).ok().filter(|_| len <= self.max_frame);
        match (whole, usize::try_from(payload)) {
            (Some(_), Ok(payload)) => Ok(Head { kind, id, fields: fields as usize, payload }),
            _ => Err(WireError::TooLarge { len, max: self.max_frame }),
        }
    }
}

fn request(head: Head, fields: &[u8], payload: Vec<u8>) -> Result<Request, WireError> {
    let Head { kind, id, .. } = head;
    Ok(match kind {
        kind::HELLO => {
            let mut from = Fields { rest: fields, message: "Hello" };
            from.magic()?;
            let (version, depth) = (from.u32()?, from.u32()?);
            let (report_interval, max_frame) = (from.u64()?, from.u64()?);
            Request::Hello(Hello { version, depth, report_interval, max_frame })
        }
        kind::RUN => {
            let mut from = Fields { rest: fields, message: "Run" };
            let (place, wanted, timeout, format) = (from.u64()?, from.u32()?, from.u64()?, from.format()?);
            let function = from.text()?;
            let run = Run { id, place, wanted, timeout };
            Request::Run { run, function, input: Encoded { format, bytes: payload } }
        }
        kind::WANT => Request::Want { id, wanted: Fields { rest: fields, message: "Want" }.u32()? },
        kind::QUIT => Request::Quit,
        _ => return Err(WireError::UnknownKind(kind)),
    })
}

fn reply(head: Head, fields: &[u8], payload: Vec<u8>) -> Result<Reply, WireError> {
    let Head { kind, id, .. } = head;
    Ok(match kind {
        kind::READY => {
            let mut from = Fields { rest: fields, message: "Ready" };
            from.magic()?;
            let version = from.u32()?;
            let fingerprint = Fingerprint { binary: from.u64()?, tasks: from.u64()? };
            Reply::Ready(Ready { version, fingerprint })
        }
        kind::STARTED => Reply::Started { id },
        kind::PROGRESS => Reply::Progress { id, sight: Fields { rest: fields, message: "Progress" }.sight()? },
        kind::VALUE => {
            let mut from = Fields { rest: fields, message: "Value" };
            let (format, sight) = (from.format()?, from.sight()?);
            Reply::Ended { id, sight, outcome: Outcome::Value(Encoded { format, bytes: payload }) }
        }
        kind::ERROR => {
            let mut from = Fields { rest: fields, message: "Error" };
            let ending = ENDINGS.get(usize::from(from.u8()?)).copied().ok_or(from.malformed())?;
            let sight = from.sight()?;
            let mut texts = Vec::new();
            let mut from = Fields { rest: &payload, message: "Error" };
            while !from.rest.is_empty() {
                let len = from.u64()?;
                let len = usize::try_from(len).map_err(|_| from.malformed())?;
                texts.push(Fields { rest: from.take(len)?, ..from }.text()?);
            }
            Reply::Ended { id, sight, outcome: Outcome::Error(ending, texts) }
        }
        kind::GOODBYE => Reply::Goodbye,
        _ => return Err(WireError::UnknownKind(kind)),
    })
}

const HALTED: u8 = 1;
const NOTICED: u8 = 1 << 1;
const MESSAGE: u8 = 1 << 2;
const SILENT: u8 = 1 << 3;

/// The size of a [`RemoteSnapshot`], without its message.
const SIGHT: usize = 33;

fn put_sight(to: &mut Vec<u8>, sight: &RemoteSnapshot) {
    let bit = |is_set, bit| if is_set { bit } else { 0 };
    to.extend(sight.n.to_le_bytes());
    to.extend(sight.total.to_le_bytes());
    to.extend(sight.part.to_le_bytes());
    to.extend(sight.elapsed.to_le_bytes());
    to.push(
        bit(sight.is_halted, HALTED)
            | bit(sight.has_noticed, NOTICED)
            | bit(sight.message.is_some(), MESSAGE)
            | bit(sight.is_silent, SILENT),
    );
    to.extend(sight.message.as_deref().unwrap_or_default().as_bytes());
}

/// The fields of a message that are still to be read.
#[derive(Clone, Copy)]
struct Fields<'a> {
    rest: &'a [u8],
    message: &'static str,
}

impl<'a> Fields<'a> {
    fn malformed(&self) -> WireError {
        WireError::Malformed(self.message)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(self.malformed())?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    fn magic(&mut self) -> Result<(), WireError> {
        if self.array()? == MAGIC { Ok(()) } else { Err(WireError::NoHello) }
    }

    fn format(&mut self) -> Result<Format, WireError> {
        Format::from_byte(self.u8()?).ok_or(self.malformed())
    }

    /// All the rest.
    fn text(self) -> Result<String, WireError> {
        String::from_utf8(self.rest.to_vec()).map_err(|_| self.malformed())
    }

    fn sight(mut self) -> Result<RemoteSnapshot, WireError> {
        let (n, total, part) = (self.u64()?, self.u64()?, self.array().map(f64::from_le_bytes)?);
        if !(0.0..1.0).contains(&part) {
            return Err(self.malformed());
        }
        let (elapsed, bits) = (self.u64()?, self.u8()?);
        let has = |bit| bits & bit != 0;
        let message = if has(MESSAGE) { Some(self.text()?) } else { None };
        Ok(RemoteSnapshot {
            n,
            total,
            part,
            elapsed,
            is_halted: has(HALTED),
            has_noticed: has(NOTICED),
            is_silent: has(SILENT),
            message,
        })
    }
}

// They are compiled by `tests/wire.rs`, so that the crate itself is built without what they take.
#[cfg(all(test, feature = "property-tests"))]
#[path = "wire_tests.rs"]
mod tests;
