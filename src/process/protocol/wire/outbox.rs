//! Messages on their way out: encoded, and combined so that few writes send them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::sync::Arc;

use super::{
    HALTED, HEAD, MAGIC, MESSAGE, NEWLINE, NOTICED, Origin, Outcome, PARTS, ROOM, Ready, Reply, Request, Run, SILENT,
    SNAPSHOT, Surroundings, kind,
};
use crate::codec::payload::Payload;
use crate::codec::{Encoded, Format};
use crate::task::remote::{Position, RemoteLog, RemotePart, RemoteSnapshot};

/// What is to be sent: small frames in one buffer, large payloads as they are.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Arc<Vec<u8>>>,
    /// The frames after all chunks.
    tail: Vec<u8>,
    /// How many bytes of the first chunk, or else of the tail, were sent.
    sent: usize,
    /// The position of the tail in all that is ever sent.
    tail_at: u64,
    /// The position in all that is ever sent up to which it was noted in shared memory.
    noted: u64,
}

/// The maximum number of slices that are written at once.
const SLICES: usize = 16;
/// How many bytes the fields of most messages take, at most.
const FIELDS: usize = 64;

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty()
    }

    /// All bytes, of an outbox that has not sent any.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let chunks = self.chunks.iter().map(|chunk| chunk.as_slice());
        chunks.chain([&*self.tail]).collect::<Vec<_>>().concat()
    }

    /// The bytes to send next, for a vectored write.
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

    /// Notes that this many more bytes were sent.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        while let Some(first) = self.chunks.front() {
            if self.sent < first.len() {
                return;
            }
            self.sent -= first.len();
            self.chunks.pop_front();
        }
        // Drops what was sent when that is cheap: when it is everything, or else most of it.
        if self.sent == self.tail.len() || self.sent > ROOM && self.sent > self.tail.len() / 2 {
            self.tail.drain(..self.sent);
            self.tail_at += mem::take(&mut self.sent) as u64;
        }
    }

    /// Passes what is neither sent nor noted yet to `note`, with its position in all that is ever sent. Returns whether
    /// everything is noted now: it is not if there is a large payload or more than `room`, or if `note` has failed.
    pub(crate) fn note(&mut self, room: usize, note: impl FnOnce(u64, &[u8]) -> bool) -> bool {
        let from = self.noted.max(self.tail_at + self.sent as u64);
        let skip = (from - self.tail_at) as usize;
        let is_noted = self.chunks.is_empty() && self.tail.len() <= room && note(from, &self.tail[skip..]);
        if is_noted {
            self.noted = self.tail_at + self.tail.len() as u64;
        }
        is_noted
    }

    pub(crate) fn run(&mut self, run: Run, called: (&str, Option<&str>), format: Format, input: &Payload) {
        let (function, name) = called;
        let fields = |to: &mut Vec<u8>| {
            to.extend(run.place.to_le_bytes());
            to.extend(run.wanted.to_le_bytes());
            to.extend(run.timeout.to_le_bytes());
            to.push(format as u8);
            put_bytes(to, function.as_bytes());
            name.iter().for_each(|name| put_bytes(to, name.as_bytes()));
        };
        self.push(kind::RUN, run.id, fields, input);
    }

    pub(crate) fn share(&mut self, id: u64, format: Format, value: &Payload) {
        self.push(kind::SHARE, id, |to| to.push(format as u8), value);
    }

    pub(crate) fn request(&mut self, request: Request) {
        match request {
            Request::Surroundings(surroundings) => self.push_surroundings(&surroundings),
            Request::Hello(hello) => self.push_small(kind::HELLO, 0, |to| {
                to.extend(MAGIC);
                to.extend(hello.version.to_le_bytes());
                to.extend(hello.depth.to_le_bytes());
                to.extend(hello.report_interval.to_le_bytes());
                to.extend(hello.max_frame.to_le_bytes());
                to.push(hello.shares_memory.into());
                to.extend(hello.heartbeat.to_le_bytes());
                to.push(hello.log_level);
                to.extend(hello.parent.to_le_bytes());
            }),
            Request::Run { run, function, name, input } => {
                self.run(run, (&function, name.as_deref()), input.format, &input.bytes);
            }
            Request::Share { id, value } => self.share(id, value.format, &value.bytes),
            Request::Forget { id } => self.push_small(kind::FORGET, id, |_| {}),
            Request::Want { id, wanted } => self.push_small(kind::WANT, id, |to| to.extend(wanted.to_le_bytes())),
            Request::Suspend => self.push_small(kind::SUSPEND, 0, |_| {}),
            Request::Resume => self.push_small(kind::RESUME, 0, |_| {}),
            Request::Beat => self.push_small(kind::BEAT, 0, |_| {}),
            Request::Quit => self.push_small(kind::QUIT, 0, |_| {}),
        }
    }

    pub(crate) fn reply(&mut self, reply: Reply) {
        match reply {
            Reply::Ready(ready) => self.push_ready(&ready),
            Reply::Started { id } => self.push_small(kind::STARTED, id, |_| {}),
            Reply::Progress { id, snapshot } => self.push_small(kind::PROGRESS, id, |to| put_snapshot(to, &snapshot)),
            Reply::Log { id, log: RemoteLog { level, target, text } } => self.push_small(kind::LOG, id, |to| {
                to.push(level);
                to.extend(u32::try_from(target.len()).unwrap_or(u32::MAX).to_le_bytes());
                to.extend(target.as_bytes());
                to.extend(text.as_bytes());
            }),
            Reply::Line { id, text } => self.push_small(kind::LINE, id, |to| to.extend(text.as_bytes())),
            Reply::Ended { id, snapshot, outcome } => {
                self.push_outcome([kind::VALUE, kind::PARTIAL, kind::ERROR], id, Some(&snapshot), outcome);
            }
            Reply::Item { id, snapshot, outcome } => {
                let snapshot = Some(&snapshot).filter(|_| !matches!(outcome, Outcome::Value(_)));
                self.push_outcome([kind::ITEM_VALUE, kind::ITEM_PARTIAL, kind::ITEM_ERROR], id, snapshot, outcome);
            }
            Reply::Beat => self.push_small(kind::ALIVE, 0, |_| {}),
            Reply::Goodbye => self.push_small(kind::GOODBYE, 0, |_| {}),
        }
    }

    fn push_surroundings(&mut self, surroundings: &Surroundings) {
        let Surroundings { version, directory, set, offered } = surroundings;
        let fields = |to: &mut Vec<u8>| {
            to.extend(MAGIC);
            to.extend(version.to_le_bytes());
            to.extend((set.len() as u64).to_le_bytes());
        };
        let mut payload = Vec::new();
        put_bytes(&mut payload, directory);
        for (name, value) in set.iter().chain(offered) {
            put_bytes(&mut payload, name);
            put_bytes(&mut payload, value);
        }
        self.push(kind::SURROUNDINGS, 0, fields, &payload.into());
    }

    fn push_ready(&mut self, Ready { version, fingerprint, origin, defect }: &Ready) {
        let fields = |to: &mut Vec<u8>| {
            to.extend(MAGIC);
            to.extend(version.to_le_bytes());
            to.extend(fingerprint.binary.to_le_bytes());
            to.extend(fingerprint.tasks.to_le_bytes());
            to.extend(origin.pid.to_le_bytes());
            to.extend(origin.lifetime.to_le_bytes());
            to.extend(defect.to_le_bytes());
        };
        let mut payload = Vec::new();
        let Origin { host, job, step, program, .. } = origin;
        [host, job, step, program].iter().for_each(|text| put_bytes(&mut payload, text.as_bytes()));
        self.push(kind::READY, 0, fields, &payload.into());
    }

    fn push_outcome(&mut self, kinds: [u8; 3], id: u64, snapshot: Option<&RemoteSnapshot>, outcome: Outcome) {
        let [value, partial, error] = kinds;
        let (kind, first, payload) = match outcome {
            Outcome::Value(Encoded { format, bytes }) => (value, format as u8, bytes),
            Outcome::Partial(Encoded { format, bytes }) => (partial, format as u8, bytes),
            Outcome::Error(ending, texts) => {
                let mut payload = Vec::new();
                texts.iter().for_each(|text| put_bytes(&mut payload, text.as_bytes()));
                (error, ending as u8, payload.into())
            }
        };
        let fields = |to: &mut Vec<u8>| {
            to.push(first);
            snapshot.into_iter().for_each(|snapshot| put_snapshot(to, snapshot));
        };
        self.push(kind, id, fields, &payload);
    }

    fn push_small(&mut self, kind: u8, id: u64, fields: impl FnOnce(&mut Vec<u8>)) {
        self.push(kind, id, fields, &Payload::default());
    }

    fn push(&mut self, kind: u8, id: u64, fields: impl FnOnce(&mut Vec<u8>), payload: &Payload) {
        let len = payload.len();
        let copied = if let Payload::Large(_) = payload { 0 } else { len };
        // In one allocation.
        self.tail.reserve(HEAD + FIELDS + copied + 1);
        let start = self.tail.len();
        self.tail.push(kind);
        self.tail.extend(id.to_le_bytes());
        self.tail.extend([0; 4]);
        self.tail.extend((len as u64).to_le_bytes());
        fields(&mut self.tail);
        let fields_len = u32::try_from(self.tail.len() - start - HEAD).unwrap_or(u32::MAX);
        self.tail[start + 9..start + 13].copy_from_slice(&fields_len.to_le_bytes());
        match payload {
            Payload::Tiny(..) | Payload::Small(_) => self.tail.extend_from_slice(payload),
            Payload::Large(bytes) => {
                self.tail_at += (self.tail.len() + len) as u64;
                self.chunks.push_back(Arc::new(mem::take(&mut self.tail)));
                self.chunks.push_back(bytes.clone());
            }
        }
        self.tail.push(NEWLINE);
    }
}

/// The size of an input's frame without the payload, to keep the frame within its bound.
pub(crate) fn run_overhead((function, name): (&str, Option<&str>)) -> u64 {
    let name = name.map_or(0, |name| 8 + name.len());
    (HEAD + 29 + function.len() + name + 1) as u64
}

/// The size of a shared value's or an item's frame without the payload, to keep the frame within its bound.
pub(crate) const BARE_OVERHEAD: u64 = (HEAD + 1 + 1) as u64;

/// The size of an output's frame without the payload, to keep the frame within its bound.
pub(crate) fn value_overhead(snapshot: &RemoteSnapshot) -> u64 {
    (HEAD + 1 + SNAPSHOT + parts_of(snapshot).len() + snapshot.message.as_deref().map_or(0, str::len) + 1) as u64
}

/// Appends the bytes after their length, as one of several.
fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend((bytes.len() as u64).to_le_bytes());
    to.extend(bytes);
}

fn put_snapshot(to: &mut Vec<u8>, snapshot: &RemoteSnapshot) {
    let bit = |is_set, bit| if is_set { bit } else { 0 };
    put_position(to, snapshot.position);
    to.extend(snapshot.elapsed.to_le_bytes());
    to.push(
        bit(snapshot.is_halted, HALTED)
            | bit(snapshot.has_noticed, NOTICED)
            | bit(snapshot.message.is_some(), MESSAGE)
            | bit(snapshot.is_silent, SILENT)
            | bit(!snapshot.parts.is_empty(), PARTS),
    );
    to.extend(parts_of(snapshot));
    to.extend(snapshot.message.as_deref().unwrap_or_default().as_bytes());
}

fn put_position(to: &mut Vec<u8>, Position { n, total, part }: Position) {
    to.extend(n.to_le_bytes());
    to.extend(total.to_le_bytes());
    to.extend(part.to_le_bytes());
}

/// The encoded parts after their size; empty if there are none.
fn parts_of(snapshot: &RemoteSnapshot) -> Vec<u8> {
    let (mut parts, mut bytes) = (Vec::new(), Vec::new());
    for RemotePart { name, position, depth } in &snapshot.parts {
        parts.push(*depth);
        put_position(&mut parts, *position);
        put_bytes(&mut parts, name.as_bytes());
    }
    if !parts.is_empty() {
        put_bytes(&mut bytes, &parts);
    }
    bytes
}
