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

use crate::parcel::{Format, Parcel};
use crate::remote::Sight;

/// Changes with every change of a frame or a message.
pub(crate) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"progexec";

const HEAD: usize = 21;
const NEWLINE: u8 = b'\n';

/// From this size on, a payload is neither copied nor read through a buffer.
const LARGE: usize = 32 * 1024;

/// How much is read at once, at the least.
const ROOM: usize = 64 * 1024;

/// What a program tells a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Hello(Hello),
    /// Run a task, after those that were sent before.
    Run {
        id: u64,
        /// What is requested of it by now: bits of its control word.
        wanted: u32,
        function: String,
        input: Parcel,
    },
    /// What is requested of a task by now. If that is cancellation, the worker says what it [heard](Reply::Heard) and
    /// starts no other task before it is told to [proceed](Request::Proceed): the program may be about to kill it.
    Want {
        id: u64,
        wanted: u32,
    },
    /// Give a task back, if it has not started.
    Recall {
        id: u64,
    },
    /// The task that was cancelled has ended; go on with the next.
    Proceed,
    /// Say goodbye, and end.
    Quit,
}

/// What a worker tells the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Ready(Ready),
    Started {
        id: u64,
    },
    Progress {
        id: u64,
        sight: Sight,
    },
    Ended {
        id: u64,
        sight: Sight,
        outcome: Outcome,
    },
    /// A request for cancellation has reached a task that is running.
    Heard {
        id: u64,
        has_noticed: bool,
    },
    /// A task that has not started, and will not.
    Returned {
        id: u64,
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
    Value(Parcel),
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
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    TooLarge { len: u64, max: u64 },
    NoNewline,
    UnknownKind(u8),
    Malformed(&'static str),
    NoHello,
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
            Self::Version(version) => write!(f, "version {version} of the protocol, where this is version {VERSION}"),
        }
    }
}

impl Error for WireError {}

mod kind {
    pub(super) const HELLO: u8 = b'H';
    pub(super) const RUN: u8 = b'R';
    pub(super) const WANT: u8 = b'W';
    pub(super) const RECALL: u8 = b'C';
    pub(super) const PROCEED: u8 = b'P';
    pub(super) const QUIT: u8 = b'Q';
    pub(super) const READY: u8 = b'h';
    pub(super) const STARTED: u8 = b's';
    pub(super) const PROGRESS: u8 = b'p';
    pub(super) const VALUE: u8 = b'v';
    pub(super) const ERROR: u8 = b'e';
    pub(super) const HEARD: u8 = b'c';
    pub(super) const RETURNED: u8 = b'r';
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
    /// Up to where all that is ever sent was noted in the journal.
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

    pub(crate) fn run(&mut self, id: u64, wanted: u32, function: &str, format: Format, input: &Payload) {
        let fields = |to: &mut Vec<u8>| {
            to.extend(wanted.to_le_bytes());
            to.push(format as u8);
            to.extend(function.as_bytes());
        };
        self.push(kind::RUN, id, fields, input);
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
            Request::Run { id, wanted, function, input } => {
                self.run(id, wanted, &function, input.format, &input.bytes.into());
            }
            Request::Want { id, wanted } => self.push_small(kind::WANT, id, |to| to.extend(wanted.to_le_bytes())),
            Request::Recall { id } => self.push_small(kind::RECALL, id, |_| {}),
            Request::Proceed => self.push_small(kind::PROCEED, 0, |_| {}),
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
            Reply::Ended { id, sight, outcome: Outcome::Value(Parcel { format, bytes }) } => {
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
            Reply::Heard { id, has_noticed } => self.push_small(kind::HEARD, id, |to| to.push(has_noticed.into())),
            Reply::Returned { id } => self.push_small(kind::RETURNED, id, |_| {}),
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
    (HEAD + 5 + function.len() + 1) as u64
}

/// The size of the frame for an output, without the payload; for its bound.
pub(crate) fn value_overhead(sight: &Sight) -> u64 {
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
        Self { max_frame, buffer: Vec::new(), used: 0, large: None, decoded: 0 }
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
            return &mut large.payload;
        }
        self.buffer.drain(..mem::take(&mut self.used));
        self.buffer.reserve(ROOM);
        &mut self.buffer
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
            let (wanted, format) = (from.u32()?, from.format()?);
            let function = from.text()?;
            Request::Run { id, wanted, function, input: Parcel { format, bytes: payload } }
        }
        kind::WANT => Request::Want { id, wanted: Fields { rest: fields, message: "Want" }.u32()? },
        kind::RECALL => Request::Recall { id },
        kind::PROCEED => Request::Proceed,
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
            Reply::Ended { id, sight, outcome: Outcome::Value(Parcel { format, bytes: payload }) }
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
        kind::HEARD => Reply::Heard { id, has_noticed: Fields { rest: fields, message: "Heard" }.u8()? != 0 },
        kind::RETURNED => Reply::Returned { id },
        kind::GOODBYE => Reply::Goodbye,
        _ => return Err(WireError::UnknownKind(kind)),
    })
}

const HALTED: u8 = 1;
const NOTICED: u8 = 1 << 1;
const MESSAGE: u8 = 1 << 2;

/// The size of a [`Sight`], without its message.
const SIGHT: usize = 25;

fn put_sight(to: &mut Vec<u8>, sight: &Sight) {
    let bit = |is_set, bit| if is_set { bit } else { 0 };
    to.extend(sight.n.to_le_bytes());
    to.extend(sight.total.to_le_bytes());
    to.extend(sight.elapsed.to_le_bytes());
    to.push(bit(sight.is_halted, HALTED) | bit(sight.has_noticed, NOTICED) | bit(sight.message.is_some(), MESSAGE));
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

    fn sight(mut self) -> Result<Sight, WireError> {
        let (n, total, elapsed, bits) = (self.u64()?, self.u64()?, self.u64()?, self.u8()?);
        let message = if bits & MESSAGE == 0 { None } else { Some(self.text()?) };
        Ok(Sight { n, total, elapsed, is_halted: bits & HALTED != 0, has_noticed: bits & NOTICED != 0, message })
    }
}

#[cfg(test)]
mod tests {
    use std::iter::{from_fn, repeat};
    use std::slice;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    /// Where something changes about how a payload is sent and received.
    const SIZES: [usize; 9] = [0, 1, LARGE - 1, LARGE, LARGE + 1, ROOM - 1, ROOM, ROOM + 1, 300_000];

    const KINDS: [u8; 14] = [
        kind::HELLO,
        kind::RUN,
        kind::WANT,
        kind::RECALL,
        kind::PROCEED,
        kind::QUIT,
        kind::READY,
        kind::STARTED,
        kind::PROGRESS,
        kind::VALUE,
        kind::ERROR,
        kind::HEARD,
        kind::RETURNED,
        kind::GOODBYE,
    ];

    /// A message of either side.
    trait Message: Clone + PartialEq + fmt::Debug {
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

    // What is sent.

    /// A frame, in the words of the documentation.
    fn frame(kind: u8, id: u64, fields: &[u8], payload: &[u8]) -> Vec<u8> {
        let head = head(kind, id, fields.len() as u32, payload.len() as u64);
        [&head, fields, payload, b"\n"].concat()
    }

    fn head(kind: u8, id: u64, fields: u32, payload: u64) -> Vec<u8> {
        [&[kind][..], &id.to_le_bytes(), &fields.to_le_bytes(), &payload.to_le_bytes()].concat()
    }

    /// Sends some of what is to be sent: as much as the socket takes at once.
    fn send(outbox: &mut Outbox, takes: usize, sent: &mut Vec<u8>) {
        let (slices, count) = outbox.slices();
        let (mut left, before) = (takes.max(1), sent.len());
        for slice in &slices[..count] {
            let taken = left.min(slice.len());
            sent.extend(&slice[..taken]);
            left -= taken;
        }
        assert!(sent.len() > before, "it is not empty, and yet there is nothing to be sent");
        outbox.advance(sent.len() - before);
    }

    fn encoded<M: Message>(messages: &[M]) -> Vec<u8> {
        let (mut outbox, mut sent) = (Outbox::default(), Vec::new());
        messages.iter().cloned().for_each(|message| message.put(&mut outbox));
        while !outbox.is_empty() {
            send(&mut outbox, usize::MAX, &mut sent);
        }
        sent
    }

    /// Whatever the socket takes at once, and whenever it does, the same is sent; and what is noted on the way is that.
    fn is_sent_as_a_whole<M: Message>(messages: &[M], takes: &[usize], rooms: &[usize]) {
        let whole = encoded(messages);
        let mut takes = takes.iter().copied().cycle().take(500).chain(repeat(usize::MAX));
        let mut rooms = rooms.iter().copied().cycle();
        let (mut outbox, mut sent, mut put, mut noted) = (Outbox::default(), Vec::new(), 0, vec![0; whole.len()]);
        for message in messages {
            message.clone().put(&mut outbox);
            put += encoded(slice::from_ref(message)).len();
            // 0 is for a socket that is full.
            let bytes = takes.next().unwrap_or(0);
            if bytes > 0 {
                send(&mut outbox, bytes, &mut sent);
            }
            // 0 is for a journal that cannot be written to.
            let room = rooms.next().unwrap_or(0);
            let is_noted = outbox.note(room, |at, bytes| {
                let place = at as usize..at as usize + bytes.len();
                assert!(place.start >= sent.len() && !noted[place.clone()].contains(&1));
                assert!(whole[place.clone()] == *bytes);
                if room > 0 {
                    noted[place].fill(1);
                }
                room > 0
            });
            assert!(!is_noted || !noted[sent.len()..put].contains(&0_u8));
        }
        while !outbox.is_empty() {
            send(&mut outbox, takes.next().unwrap_or(usize::MAX), &mut sent);
        }
        assert!(sent == whole);
    }

    // What arrives.

    /// How bytes arrive.
    #[derive(Clone, Debug)]
    struct Delivery {
        /// How many at a time. All that is left comes at once, after so many pieces that the rest would be more of the
        /// same.
        sizes: Vec<usize>,
        /// Also where the decoder has room for fewer.
        beyond_room: bool,
    }

    impl Delivery {
        fn at_once() -> Self {
            Self { sizes: vec![usize::MAX], beyond_room: true }
        }
    }

    /// Decodes what arrives, until there is an error; on the way, sees to it that each step makes progress, and that
    /// memory is taken only for what has arrived.
    fn decoded<M: Message>(max_frame: u64, mut bytes: &[u8], delivery: &Delivery) -> (Vec<M>, Option<WireError>) {
        let mut decoder = Decoder::new(max_frame);
        let mut messages = Vec::new();
        let mut sizes = delivery.sizes.iter().copied().cycle().take(500).chain(repeat(usize::MAX));
        let mut arrived = 0;
        while !bytes.is_empty() {
            let space = decoder.space();
            let room = space.capacity() - space.len();
            assert!(room > 0, "an empty read looks like the end");
            let most = if delivery.beyond_room { bytes.len() } else { room.min(bytes.len()) };
            let (piece, rest) = bytes.split_at(sizes.next().unwrap_or(1).min(most));
            if delivery.beyond_room {
                decoder.append(piece);
            } else {
                space.extend_from_slice(piece);
            }
            bytes = rest;
            arrived += piece.len();
            assert_eq!(decoder.taken(), arrived as u64);
            loop {
                let before = undecoded(&decoder);
                let next = M::next(&mut decoder);
                let after = undecoded(&decoder);
                // What has arrived, as it grows: once for a buffer, once for the fields of a large frame.
                assert!(held(&decoder) <= 3 * arrived + 4 * ROOM, "{} bytes for {arrived}", held(&decoder));
                assert!(next.is_err() || decoder.taken() == arrived as u64);
                match next {
                    Ok(Some(message)) => {
                        assert!(after + HEAD < before, "a message out of {before} - {after} bytes");
                        messages.push(message);
                    }
                    Ok(None) => {
                        assert_eq!(after, before);
                        break;
                    }
                    Err(error) => return (messages, Some(error)),
                }
            }
        }
        (messages, None)
    }

    fn held(decoder: &Decoder) -> usize {
        let large = decoder.large.as_ref().map_or(0, |large| large.fields.capacity() + large.payload.capacity());
        decoder.buffer.capacity() + large
    }

    fn undecoded(decoder: &Decoder) -> usize {
        let large = decoder.large.as_ref().map_or(0, |large| HEAD + large.fields.len() + large.payload.len());
        decoder.buffer.len() - decoder.used + large
    }

    fn arrives<M: Message>(messages: &[M], delivery: &Delivery) {
        assert!(decoded(1 << 30, &encoded(messages), delivery) == (messages.to_vec(), None));
    }

    /// Whatever it is that arrives, it is decoded or refused, and the same however it is cut.
    fn is_withstood<M: Message>(max_frame: u64, bytes: &[u8], delivery: &Delivery) {
        let (messages, error) = decoded::<M>(max_frame, bytes, delivery);
        assert!(decoded::<M>(max_frame, bytes, &Delivery::at_once()) == (messages.clone(), error));
        let again = decoded::<M>(u64::MAX, &encoded(&messages), delivery);
        assert!(again == (messages, None));
    }

    // Messages, and what is none.

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let len = prop_oneof![9 => 0..40_usize, 1 => select(&SIZES)];
        (len, any::<u8>()).prop_map(|(len, first)| {
            // So many that a piece of them in the wrong place differs.
            let some: Vec<u8> = (0..251.min(len)).map(|i| i as u8 ^ first).collect();
            let mut bytes = some.repeat(len / 251 + 1);
            bytes.truncate(len);
            bytes
        })
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            19 => vec(any::<char>(), 0..12).prop_map(String::from_iter),
            1 => select(&SIZES).prop_map(|len| "x".repeat(len)),
        ]
    }

    fn parcel() -> impl Strategy<Value = Parcel> {
        let format = select(&[Format::MessagePack, Format::Plain]);
        (format, bytes()).prop_map(|(format, bytes)| Parcel { format, bytes })
    }

    fn sight() -> impl Strategy<Value = Sight> {
        let message = prop_oneof![Just(None), text().prop_map(Some)];
        (any::<(u64, u64, u64, bool, bool)>(), message).prop_map(|(known, message)| {
            let (n, total, elapsed, is_halted, has_noticed) = known;
            Sight { n, total, elapsed, is_halted, has_noticed, message }
        })
    }

    fn request() -> impl Strategy<Value = Request> {
        let hello = any::<(u32, u32, u64, u64)>().prop_map(|(version, depth, report_interval, max_frame)| {
            Request::Hello(Hello { version, depth, report_interval, max_frame })
        });
        let run = (any::<u64>(), any::<u32>(), text(), parcel())
            .prop_map(|(id, wanted, function, input)| Request::Run { id, wanted, function, input });
        prop_oneof![
            1 => hello,
            4 => run,
            1 => any::<(u64, u32)>().prop_map(|(id, wanted)| Request::Want { id, wanted }),
            1 => any::<u64>().prop_map(|id| Request::Recall { id }),
            1 => Just(Request::Proceed),
            1 => Just(Request::Quit),
        ]
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let ready = any::<(u32, u64, u64)>().prop_map(|(version, binary, tasks)| {
            Reply::Ready(Ready { version, fingerprint: Fingerprint { binary, tasks } })
        });
        let outcome = prop_oneof![
            2 => parcel().prop_map(Outcome::Value),
            1 => (select(&ENDINGS), vec(text(), 0..4)).prop_map(|(ending, texts)| Outcome::Error(ending, texts)),
        ];
        prop_oneof![
            1 => ready,
            1 => any::<u64>().prop_map(|id| Reply::Started { id }),
            2 => (any::<u64>(), sight()).prop_map(|(id, sight)| Reply::Progress { id, sight }),
            4 => (any::<u64>(), sight(), outcome).prop_map(|(id, sight, outcome)| Reply::Ended { id, sight, outcome }),
            1 => any::<(u64, bool)>().prop_map(|(id, has_noticed)| Reply::Heard { id, has_noticed }),
            1 => any::<u64>().prop_map(|id| Reply::Returned { id }),
            1 => Just(Reply::Goodbye),
        ]
    }

    fn delivery() -> impl Strategy<Value = Delivery> {
        let size = prop_oneof![1..40_usize, 1..100_000_usize];
        let sizes = prop_oneof![1 => Just(vec![1]), 4 => vec(size, 1..8)];
        (sizes, any::<bool>()).prop_map(|(sizes, beyond_room)| Delivery { sizes, beyond_room })
    }

    /// The most that a frame may hold, which may be too little, and as good as no limit.
    fn max_frame() -> impl Strategy<Value = u64> {
        prop_oneof![4 => Just(1 << 30), 1 => select(vec![0, HEAD as u64 + 1, 60, 1024, 64 * 1024, u64::MAX])]
    }

    /// A frame with anything in it, which may claim to be of another length than it is.
    fn wild_frame() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop_oneof![9 => select(&KINDS), 1 => any::<u8>()];
        let some = || prop_oneof![any::<u8>(), 0..8_u8];
        let fields = prop_oneof![
            vec(some(), 0..60),
            vec(some(), 18..26).prop_map(|rest| [&MAGIC[..], &rest].concat()),
            vec(some(), 26).prop_map(|sight| [&[0][..], &sight].concat()),
        ];
        let texts = vec((prop_oneof![9 => Just(0), 1 => any::<u64>()], vec(some(), 0..8)), 0..4).prop_map(|texts| {
            let text = |(more, text): (u64, Vec<u8>)| {
                let len = (text.len() as u64).wrapping_add(more);
                [&len.to_le_bytes()[..], &text].concat()
            };
            texts.into_iter().flat_map(text).collect()
        });
        let payload = prop_oneof![vec(some(), 0..40), texts, bytes()];
        let lie = prop_oneof![
            select(vec![0, 1, LARGE as u64, ROOM as u64, 1 << 20, (1 << 30) - 22, 1 << 30, u32::MAX.into()]),
            select(vec![u64::MAX / 2, u64::MAX - 22, u64::MAX - 21, u64::MAX - 1, u64::MAX]),
            any::<u64>(),
        ];
        let lies = prop_oneof![
            3 => Just((None, None)),
            1 => lie.clone().prop_map(|len| (Some(len as u32), None)),
            1 => lie.prop_map(|len| (None, Some(len))),
        ];
        (kind, any::<u64>(), fields, payload, lies).prop_map(|(kind, id, fields, payload, lies)| {
            let fields_len = lies.0.unwrap_or(fields.len() as u32);
            let payload_len = lies.1.unwrap_or(payload.len() as u64);
            [&head(kind, id, fields_len, payload_len)[..], &fields, &payload, b"\n"].concat()
        })
    }

    /// What may happen to bytes on their way.
    #[derive(Clone, Debug)]
    enum Damage {
        Flip { bit: u8 },
        Overwrite { bytes: Vec<u8> },
        Insert { bytes: Vec<u8> },
        Repeat { len: usize },
        Cut { len: usize },
        End,
    }

    fn damage() -> impl Strategy<Value = (Index, Damage)> {
        let bytes =
            || prop_oneof![vec(any::<u8>(), 1..10), any::<u64>().prop_map(|number| number.to_le_bytes().into())];
        let damage = prop_oneof![
            4 => (0..8_u8).prop_map(|bit| Damage::Flip { bit }),
            2 => bytes().prop_map(|bytes| Damage::Overwrite { bytes }),
            1 => bytes().prop_map(|bytes| Damage::Insert { bytes }),
            1 => (1..100_usize).prop_map(|len| Damage::Repeat { len }),
            1 => (1..100_usize).prop_map(|len| Damage::Cut { len }),
            1 => Just(Damage::End),
        ];
        (any::<Index>(), damage)
    }

    fn damaged(mut stream: Vec<u8>, damages: Vec<(Index, Damage)>) -> Vec<u8> {
        for (at, damage) in damages {
            if stream.is_empty() {
                break;
            }
            let at = at.index(stream.len());
            let upto = |len: usize| (at + len).min(stream.len());
            match damage {
                Damage::Flip { bit } => stream[at] ^= 1 << bit,
                Damage::Overwrite { bytes } => drop(stream.splice(at..upto(bytes.len()), bytes)),
                Damage::Insert { bytes } => drop(stream.splice(at..at, bytes)),
                Damage::Repeat { len } => {
                    let bytes = stream[at..upto(len)].to_vec();
                    stream.splice(at..at, bytes);
                }
                Damage::Cut { len } => drop(stream.drain(at..upto(len))),
                Damage::End => stream.truncate(at),
            }
        }
        stream
    }

    proptest! {
        #[test]
        fn every_request_arrives_as_it_was_sent(messages in vec(request(), 1..8), delivery in delivery()) {
            arrives(&messages, &delivery);
        }

        #[test]
        fn every_reply_arrives_as_it_was_sent(messages in vec(reply(), 1..8), delivery in delivery()) {
            arrives(&messages, &delivery);
        }

        #[test]
        fn what_is_sent_does_not_depend_on_what_the_socket_takes_at_once(
            requests in vec(request(), 0..8),
            replies in vec(reply(), 0..12),
            takes in vec(prop_oneof![Just(0), 1..40_usize, 1..100_000_usize], 1..8),
            rooms in vec(prop_oneof![Just(0), 1..1000_usize, 1..100_000_usize], 1..8),
        ) {
            is_sent_as_a_whole(&requests, &takes, &rooms);
            is_sent_as_a_whole(&replies, &takes, &rooms);
        }

        #[test]
        fn any_bytes_are_withstood(
            bytes in vec(any::<u8>(), 0..200), delivery in delivery(), max_frame in max_frame(),
        ) {
            is_withstood::<Request>(max_frame, &bytes, &delivery);
            is_withstood::<Reply>(max_frame, &bytes, &delivery);
        }

        #[test]
        fn frames_with_anything_in_them_are_withstood(
            frames in vec(wild_frame(), 1..4), delivery in delivery(), max_frame in max_frame(),
        ) {
            is_withstood::<Request>(max_frame, &frames.concat(), &delivery);
            is_withstood::<Reply>(max_frame, &frames.concat(), &delivery);
        }

        #[test]
        fn damaged_requests_are_withstood(
            messages in vec(request(), 1..5),
            damages in vec(damage(), 1..6),
            delivery in delivery(),
            max_frame in max_frame(),
        ) {
            is_withstood::<Request>(max_frame, &damaged(encoded(&messages), damages), &delivery);
        }

        #[test]
        fn damaged_replies_are_withstood(
            messages in vec(reply(), 1..5),
            damages in vec(damage(), 1..6),
            delivery in delivery(),
            max_frame in max_frame(),
        ) {
            is_withstood::<Reply>(max_frame, &damaged(encoded(&messages), damages), &delivery);
        }
    }

    // Examples.

    fn request_of(bytes: &[u8]) -> Result<Option<Request>, WireError> {
        let mut decoder = Decoder::new(1024);
        decoder.space().extend(bytes);
        decoder.next_request()
    }

    fn reply_of(bytes: &[u8]) -> Result<Option<Reply>, WireError> {
        let mut decoder = Decoder::new(1024);
        decoder.space().extend(bytes);
        decoder.next_reply()
    }

    fn run_of(len: usize) -> Request {
        let input = Parcel { format: Format::Plain, bytes: vec![7; len] };
        Request::Run { id: 1, wanted: 2, function: "f".into(), input }
    }

    #[test]
    fn a_frame_is_as_the_documentation_says() {
        let recall = encoded(&[Request::Recall { id: 0x0102 }]);
        assert_eq!(recall, b"C\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\n");
        assert_eq!(encoded(&[run_of(3)]), frame(b'R', 1, b"\x02\0\0\0\x01f", &[7; 3]));
    }

    #[test]
    fn messages_arrive_one_byte_at_a_time() {
        for len in SIZES {
            let bytes = encoded(&[Request::Proceed, run_of(len), Request::Quit]);
            let (mut decoder, mut messages) = (Decoder::new(1 << 30), Vec::new());
            for &byte in &bytes {
                decoder.space().push(byte);
                messages.extend(decoder.next_request().unwrap());
            }
            assert!(messages == [Request::Proceed, run_of(len), Request::Quit], "{len}");
        }
    }

    #[test]
    fn more_may_arrive_at_once_than_there_is_room_for() {
        for len in SIZES {
            let messages = [run_of(len), run_of(len), run_of(3 * ROOM)];
            let bytes = encoded(&messages);
            let (mut decoder, mut arrived) = (Decoder::new(1 << 30), Vec::new());
            for piece in [&bytes[..HEAD + 10], &bytes[HEAD + 10..]] {
                decoder.append(piece);
                arrived.extend(from_fn(|| decoder.next_request().unwrap()));
            }
            assert!(arrived == messages, "{len}");
        }
    }

    #[test]
    fn what_has_arrived_of_a_message_can_be_forgotten_and_arrive_again() {
        for len in SIZES {
            let messages = [run_of(5), run_of(len), Request::Quit];
            let bytes = encoded(&messages);
            for cut in [0, 1, HEAD, 40, 60, bytes.len() / 2, bytes.len() - HEAD - 2, bytes.len() - 1] {
                let (mut decoder, mut arrived) = (Decoder::new(1 << 30), Vec::new());
                // In two pieces, so that also a large frame has begun.
                for piece in [&bytes[..cut / 2], &bytes[cut / 2..cut]] {
                    decoder.append(piece);
                    arrived.extend(from_fn(|| decoder.next_request().unwrap()));
                }
                decoder.forget_rest();
                assert!(decoder.taken() <= cut as u64);
                decoder.append(&bytes[decoder.taken() as usize..]);
                arrived.extend(from_fn(|| decoder.next_request().unwrap()));
                assert!(arrived == messages, "{len}, {cut}");
            }
        }
    }

    #[test]
    fn a_frame_is_as_large_as_its_bound_says() {
        let sight = Sight { message: Some("what it is at".into()), ..Sight::default() };
        for len in SIZES {
            assert_eq!(encoded(&[run_of(len)]).len() as u64, len as u64 + run_overhead("f"));
            let outcome = Outcome::Value(Parcel { format: Format::Plain, bytes: vec![7; len] });
            let ended = Reply::Ended { id: 1, sight: sight.clone(), outcome };
            assert_eq!(encoded(&[ended]).len() as u64, len as u64 + value_overhead(&sight));
        }
    }

    #[test]
    fn a_frame_beyond_the_bound_is_refused_before_it_comes() {
        for len in SIZES {
            let bytes = encoded(&[run_of(len)]);
            let whole = bytes.len() as u64;
            assert!(decoded(whole, &bytes, &Delivery::at_once()) == (vec![run_of(len)], None));
            let max = whole - 1;
            let refused = (vec![], Some(WireError::TooLarge { len: whole, max }));
            assert_eq!(decoded::<Request>(max, &bytes[..HEAD - 1], &Delivery::at_once()), (vec![], None));
            assert_eq!(decoded::<Request>(max, &bytes[..HEAD], &Delivery::at_once()), refused);
        }
    }

    #[test]
    fn a_frame_that_no_vector_could_hold_is_refused_whatever_is_allowed() {
        for payload in [isize::MAX as u64 - HEAD as u64, u64::MAX - HEAD as u64 - 1, u64::MAX] {
            let refused = Some(WireError::TooLarge { len: payload.saturating_add(HEAD as u64 + 1), max: u64::MAX });
            let head = head(kind::RUN, 1, 0, payload);
            assert_eq!(decoded::<Request>(u64::MAX, &head, &Delivery::at_once()), (vec![], refused));
        }
    }

    #[test]
    fn a_frame_that_claims_to_be_large_costs_nothing_before_it_is() {
        let claims = [(5, (1 << 30) - 27), ((1 << 30) - 22, 0), (1 << 29, (1 << 29) - 22)];
        for (fields, payload) in claims {
            let mut decoder = Decoder::new(1 << 30);
            decoder.space().extend(head(kind::RUN, 1, fields, payload));
            for _ in 0..100 {
                decoder.space().extend(b"some bytes");
                assert_eq!(decoder.next_request(), Ok(None));
                assert!(held(&decoder) <= 4 * ROOM, "{}", held(&decoder));
            }
        }
    }

    #[test]
    fn a_decoder_takes_no_more_memory_the_longer_it_runs() {
        let bytes = encoded(&vec![run_of(100); 1000]);
        let (mut decoder, mut count) = (Decoder::new(1 << 30), 0);
        for _ in 0..50 {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(ROOM));
                decoder.space().extend(piece);
                rest = after;
                while decoder.next_request().unwrap().is_some() {
                    count += 1;
                }
                assert!(held(&decoder) <= 3 * ROOM, "{}", held(&decoder));
            }
        }
        assert_eq!(count, 50_000);
    }

    #[test]
    fn a_frame_that_does_not_end_where_it_says_is_refused() {
        for len in SIZES {
            let mut bytes = encoded(&[run_of(len), run_of(len)]);
            let end = bytes.len() / 2 - 1;
            bytes[end] = b'R';
            for sizes in [vec![usize::MAX], vec![100, 10_000]] {
                let refused = decoded::<Request>(1 << 30, &bytes, &Delivery { sizes, beyond_room: true });
                assert_eq!(refused, (vec![], Some(WireError::NoNewline)));
            }
        }
    }

    #[test]
    fn a_frame_of_another_kind_is_refused() {
        for kind in 0..=u8::MAX {
            let bytes = frame(kind, 1, &[], &[]);
            let unknown = WireError::UnknownKind(kind);
            let requests = [kind::HELLO, kind::RUN, kind::WANT, kind::RECALL, kind::PROCEED, kind::QUIT];
            assert_eq!(request_of(&bytes) == Err(WireError::UnknownKind(kind)), !requests.contains(&kind));
            assert_eq!(reply_of(&bytes) == Err(unknown), requests.contains(&kind) || !KINDS.contains(&kind));
        }
    }

    #[test]
    fn a_message_that_lacks_something_is_refused() {
        let requests = [(kind::HELLO, "Hello", 32), (kind::RUN, "Run", 5), (kind::WANT, "Want", 4)];
        let replies = [
            (kind::READY, "Ready", 28),
            (kind::PROGRESS, "Progress", SIGHT),
            (kind::VALUE, "Value", 1 + SIGHT),
            (kind::ERROR, "Error", 1 + SIGHT),
            (kind::HEARD, "Heard", 1),
        ];
        let fields = |kind, len| {
            let mut fields = vec![0; len];
            if kind == kind::HELLO || kind == kind::READY {
                let len = len.min(MAGIC.len());
                fields[..len].copy_from_slice(&MAGIC[..len]);
            }
            fields
        };
        for (kind, message, len) in requests {
            assert!(matches!(request_of(&frame(kind, 1, &fields(kind, len), &[])), Ok(Some(_))), "{message}");
            for less in 0..len {
                let bytes = frame(kind, 1, &fields(kind, less), &[]);
                assert_eq!(request_of(&bytes), Err(WireError::Malformed(message)));
            }
        }
        for (kind, message, len) in replies {
            assert!(matches!(reply_of(&frame(kind, 1, &fields(kind, len), &[])), Ok(Some(_))), "{message}");
            for less in 0..len {
                let bytes = frame(kind, 1, &fields(kind, less), &[]);
                assert_eq!(reply_of(&bytes), Err(WireError::Malformed(message)));
            }
        }
    }

    #[test]
    fn a_message_with_something_unknown_in_it_is_refused() {
        let sight = |bits: u8, message: &[u8]| [&[0; SIGHT - 1][..], &[bits], message].concat();
        for fields in [b"\0\0\0\0\x02f", b"\0\0\0\0\0\xff"] {
            assert_eq!(request_of(&frame(kind::RUN, 1, fields, &[])), Err(WireError::Malformed("Run")));
        }
        let progress = sight(MESSAGE, b"\xff");
        assert_eq!(reply_of(&frame(kind::PROGRESS, 1, &progress, &[])), Err(WireError::Malformed("Progress")));
        let value = [&[2][..], &sight(0, &[])].concat();
        assert_eq!(reply_of(&frame(kind::VALUE, 1, &value, &[])), Err(WireError::Malformed("Value")));
        let error = |ending| [&[ending][..], &sight(0, &[])].concat();
        let bytes = frame(kind::ERROR, 1, &error(ENDINGS.len() as u8), &[]);
        assert_eq!(reply_of(&bytes), Err(WireError::Malformed("Error")));
        let texts: [&[u8]; 4] = [b"seven b", b"\x02\0\0\0\0\0\0\x001", b"\x01\0\0\0\0\0\0\0\xff", &[255; 8]];
        for texts in texts {
            assert_eq!(reply_of(&frame(kind::ERROR, 1, &error(0), texts)), Err(WireError::Malformed("Error")));
        }
    }

    #[test]
    fn something_else_than_an_introduction_is_refused() {
        assert_eq!(request_of(&frame(kind::HELLO, 0, &[b'x'; 32], &[])), Err(WireError::NoHello));
        assert_eq!(reply_of(&frame(kind::READY, 0, &[b'x'; 28], &[])), Err(WireError::NoHello));
    }

    #[test]
    fn the_version_of_another_protocol_can_be_read() {
        let hello = Hello { version: VERSION + 1, depth: 1, report_interval: 2, max_frame: 3 };
        let mut bytes = encoded(&[Request::Hello(hello.clone())]);
        assert_eq!(request_of(&bytes), Ok(Some(Request::Hello(hello.clone()))));
        // A later version may say more.
        bytes.splice(bytes.len() - 1.., *b"more\n");
        bytes[9] += 4;
        assert_eq!(request_of(&bytes), Ok(Some(Request::Hello(hello))));
        let error = WireError::Version(VERSION + 1).to_string();
        assert!(error.contains(&format!("{}", VERSION + 1)) && error.contains(&VERSION.to_string()), "{error}");
    }
}
