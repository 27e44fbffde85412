//! Decodes the bytes that arrive into messages.

use std::mem;
use std::str;
use std::sync::Arc;

use super::{
    ENDINGS, Fingerprint, HALTED, HEAD, Hello, MAGIC, MESSAGE, NEWLINE, NOTICED, Origin, Outcome, PARTS, ROOM, Ready,
    Reply, Request, Run, SILENT, Surroundings, WireError, kind,
};
use crate::codec::payload::{LARGE, Payload};
use crate::codec::{Encoded, Format, items};
use crate::task::remote::{Position, RemoteLog, RemotePart, RemoteSnapshot};

/// How much memory is kept for later frames, however much the earlier ones have taken.
const KEPT: usize = 2 * ROOM;

/// Collects arriving bytes, and makes messages of them.
///
/// Memory is allocated as the bytes arrive: a frame that claims to be large costs nothing until it is.
#[derive(Debug)]
pub(crate) struct Decoder {
    max_frame: u64,
    pub(super) buffer: Vec<u8>,
    /// How much of the buffer was decoded.
    pub(super) used: usize,
    pub(super) large: Option<Large>,
    /// How many bytes were decoded so far.
    decoded: u64,
    /// How many bytes that are still to arrive are known already.
    known: u64,
    /// How long the buffer was before the last bytes arrived.
    before: usize,
    /// The function of the last task, which is mostly that of the next one.
    function: Arc<str>,
}

/// A frame whose payload is read into its final place.
#[derive(Debug)]
pub(super) struct Large {
    head: Head,
    pub(super) fields: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    kind: u8,
    id: u64,
    fields: usize,
    payload: usize,
}

impl Head {
    /// The size of the whole frame. It cannot overflow: a head belongs to a frame that a vector can hold.
    fn frame_len(&self) -> usize {
        HEAD + self.fields + self.payload + 1
    }
}

impl Decoder {
    pub(crate) fn new(max_frame: u64) -> Self {
        let (buffer, function) = (Vec::new(), Arc::default());
        Self { max_frame, buffer, used: 0, large: None, decoded: 0, known: 0, before: 0, function }
    }

    pub(crate) fn set_max_frame(&mut self, max_frame: u64) {
        self.max_frame = max_frame;
    }

    /// The buffer to append arriving bytes to. It has room for some; to append more is fine.
    pub(crate) fn space(&mut self) -> &mut Vec<u8> {
        let missing = self.missing();
        if let Some(large) = &mut self.large {
            let (len, whole) = (large.payload.len(), large.head.payload + 1);
            if large.payload.capacity() == len {
                large.payload.reserve_exact((whole - len).min(len.max(ROOM)));
            }
            self.before = len;
            return &mut large.payload;
        }
        self.buffer.drain(..mem::take(&mut self.used));
        if self.buffer.len() <= ROOM {
            self.buffer.shrink_to(KEPT);
        }
        let len = self.buffer.len();
        let more = missing.min(len).max(ROOM);
        if len > KEPT {
            self.buffer.reserve_exact(more);
        } else {
            self.buffer.reserve(more);
        }
        self.before = len;
        &mut self.buffer
    }

    /// How much of the first frame has not arrived, as far as that is known, if the frame is read into the buffer.
    fn missing(&self) -> usize {
        let head = self.rest().first_chunk::<HEAD>().and_then(|head| self.head(head).ok());
        head.map_or(0, |head| head.frame_len()).saturating_sub(self.rest().len())
    }

    /// Adds bytes that have not arrived yet, and that will be skipped when they do.
    pub(crate) fn foresee(&mut self, bytes: &[u8]) {
        self.append(bytes);
        self.known += bytes.len() as u64;
    }

    /// Skips bytes that have just arrived but were known already.
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

    /// How many bytes have arrived so far, or were known before that.
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

    /// Frees the buffer, if all that has arrived was decoded.
    #[cfg(feature = "cluster")]
    pub(crate) fn release(&mut self) {
        if self.large.is_none() && self.used == self.buffer.len() {
            (self.buffer, self.used) = (Vec::new(), 0);
        }
    }

    /// Adds bytes that have arrived in another way.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.space().extend_from_slice(bytes);
    }

    /// Drops what comes before the first [`Ready`]. Returns whether that frame has begun to arrive, or an error if it is
    /// preceded by more than `most` bytes.
    ///
    /// What a launcher prints has no particular form, but none of it looks like the head of that frame.
    pub(crate) fn skip_to_ready(&mut self, most: usize) -> Result<bool, WireError> {
        let rest = self.rest();
        let is_ready = |frame: &[u8]| frame[0] == kind::READY && frame[1..9] == [0; 8] && frame[HEAD..] == MAGIC;
        let found = rest.windows(HEAD + MAGIC.len()).position(is_ready);
        if found.unwrap_or(rest.len()) > most {
            return Err(WireError::NoHello);
        }
        self.consume(found.unwrap_or(0));
        Ok(found.is_some())
    }

    /// What has arrived and was not decoded.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Notes that this many more bytes of the buffer were decoded.
    fn consume(&mut self, len: usize) {
        self.used += len;
        self.decoded += len as u64;
    }

    pub(crate) fn next_request(&mut self) -> Result<Option<Request>, WireError> {
        let mut function = mem::take(&mut self.function);
        let request = self.next(|head, fields, payload| request(head, fields, payload, &mut function));
        self.function = function;
        request
    }

    pub(crate) fn next_reply(&mut self) -> Result<Option<Reply>, WireError> {
        self.next(reply)
    }

    /// Takes the values of consecutive items of one task, encoded together as [`codec::items`](crate::codec::items) does it.
    /// `None` if something else comes first, which may be a malformed value.
    pub(crate) fn next_values(&mut self) -> Option<(u64, Vec<u8>)> {
        let mut all: Option<(u64, Vec<u8>)> = None;
        while let Some((task, value, len)) = self.first_value() {
            let (of, values) = all.get_or_insert_with(|| (task, Vec::new()));
            if *of != task {
                break;
            }
            items::append_encoded(value, values);
            self.consume(len);
        }
        all
    }

    /// The value in the next frame, if that has arrived in full and is the value of an item; with its task and the frame's size.
    fn first_value(&self) -> Option<(u64, Encoded<&[u8]>, usize)> {
        let (head, rest) = self.rest().split_at_checked(HEAD).filter(|_| self.large.is_none())?;
        let is_value = |head: &Head| head.kind == kind::ITEM_VALUE && head.fields == 1;
        let head = self.head(head).ok().filter(is_value)?;
        let (&format, rest) = rest.split_first()?;
        let (bytes, rest) = rest.split_at_checked(head.payload)?;
        let value = Encoded { format: Format::from_byte(format)?, bytes };
        (rest.first() == Some(&NEWLINE)).then_some((head.id, value, head.frame_len()))
    }

    fn next<M>(
        &mut self,
        decode: impl FnOnce(Head, &[u8], Payload) -> Result<M, WireError>,
    ) -> Result<Option<M>, WireError> {
        if self.large.is_some() {
            return self.next_large(decode);
        }
        let Some((head, rest)) = self.rest().split_at_checked(HEAD) else { return Ok(None) };
        let head = self.head(head)?;
        let Some((fields, rest)) = rest.split_at_checked(head.fields) else { return Ok(None) };
        if let Some((payload, rest)) = rest.split_at_checked(head.payload) {
            let Some(&last) = rest.first() else { return Ok(None) };
            if last != NEWLINE {
                return Err(WireError::NoNewline);
            }
            let message = decode(head, fields, payload.into())?;
            self.consume(head.frame_len());
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
        decode: impl FnOnce(Head, &[u8], Payload) -> Result<M, WireError>,
    ) -> Result<Option<M>, WireError> {
        let is_whole = |large: &mut Large| large.payload.len() > large.head.payload;
        let Some(Large { head, fields, mut payload }) = self.large.take_if(is_whole) else { return Ok(None) };
        if payload[head.payload] != NEWLINE {
            return Err(WireError::NoNewline);
        }
        self.buffer.extend_from_slice(&payload[head.payload + 1..]);
        payload.truncate(head.payload);
        let message = decode(head, &fields, payload.into())?;
        self.decoded += head.frame_len() as u64;
        Ok(Some(message))
    }

    /// The size of the frame that begins with this head.
    pub(crate) fn frame_len(&self, head: &[u8; HEAD]) -> Result<usize, WireError> {
        self.head(head).map(|head| head.frame_len())
    }

    fn head(&self, head: &[u8]) -> Result<Head, WireError> {
        let mut from = Fields { rest: head, message: "head" };
        let (kind, id, fields, payload) = (from.u8()?, from.u64()?, from.u32()?, from.u64()?);
        let len = (HEAD as u64 + 1).saturating_add(fields.into()).saturating_add(payload);
        // A vector cannot hold more, whatever is allowed.
        let whole = isize::try_from(len).ok().filter(|_| len <= self.max_frame);
        match (whole, usize::try_from(payload)) {
            (Some(_), Ok(payload)) => Ok(Head { kind, id, fields: fields as usize, payload }),
            _ => Err(WireError::TooLarge { len, max: self.max_frame }),
        }
    }
}

/// `function` is that of the previous task.
fn request(head: Head, fields: &[u8], payload: Payload, function: &mut Arc<str>) -> Result<Request, WireError> {
    let Head { kind, id, .. } = head;
    Ok(match kind {
        kind::SURROUNDINGS => Request::Surroundings(surroundings(fields, &payload)?),
        kind::HELLO => Request::Hello(hello(fields)?),
        kind::RUN => run(id, fields, payload, function)?,
        kind::SHARE => {
            let format = Fields { rest: fields, message: "Share" }.format()?;
            Request::Share { id, value: Encoded { format, bytes: payload } }
        }
        kind::FORGET => Request::Forget { id },
        kind::WANT => Request::Want { id, wanted: Fields { rest: fields, message: "Want" }.u32()? },
        kind::SUSPEND => Request::Suspend,
        kind::RESUME => Request::Resume,
        kind::BEAT => Request::Beat,
        kind::QUIT => Request::Quit,
        _ => return Err(WireError::UnknownKind(kind)),
    })
}

fn reply(head: Head, fields: &[u8], payload: Payload) -> Result<Reply, WireError> {
    let Head { kind, id, .. } = head;
    Ok(match kind {
        kind::READY => {
            let mut from = Fields { rest: fields, message: "Ready" };
            from.magic()?;
            let version = from.u32()?;
            let fingerprint = Fingerprint { binary: from.u64()?, tasks: from.u64()? };
            // Other versions may not have this.
            let (origin, defect) = origin(from, &payload).unwrap_or_default();
            Reply::Ready(Ready { version, fingerprint, origin, defect })
        }
        kind::STARTED => Reply::Started { id },
        kind::PROGRESS => Reply::Progress { id, snapshot: Fields { rest: fields, message: "Progress" }.snapshot()? },
        kind::LOG => {
            let mut from = Fields { rest: fields, message: "Log" };
            let (level, len) = (from.u8()?, from.u32()?);
            let target = Fields { rest: from.take(len as usize)?, ..from }.text()?;
            Reply::Log { id, log: RemoteLog { level, target, text: from.text()? } }
        }
        kind::LINE => Reply::Line { id, text: Fields { rest: fields, message: "Line" }.text()? },
        kind::VALUE | kind::PARTIAL | kind::ERROR => {
            let (snapshot, outcome) = outcome(kind, fields, payload)?;
            Reply::Ended { id, snapshot, outcome }
        }
        kind::ITEM_VALUE | kind::ITEM_PARTIAL | kind::ITEM_ERROR => {
            let (snapshot, outcome) = outcome(kind, fields, payload)?;
            Reply::Item { id, snapshot, outcome }
        }
        kind::ALIVE => Reply::Beat,
        kind::GOODBYE => Reply::Goodbye,
        _ => return Err(WireError::UnknownKind(kind)),
    })
}

fn hello(fields: &[u8]) -> Result<Hello, WireError> {
    let mut from = Fields { rest: fields, message: "Hello" };
    from.magic()?;
    let (version, depth) = (from.u32()?, from.u32()?);
    let (report_interval, max_frame) = (from.u64()?, from.u64()?);
    // Other versions may not have this.
    let shares_memory = from.u8().is_ok_and(|flag| flag != 0);
    let heartbeat = from.u64().unwrap_or(0);
    let log_level = from.u8().unwrap_or(0);
    let parent = from.u32().unwrap_or(0);
    Ok(Hello { version, depth, report_interval, max_frame, shares_memory, heartbeat, log_level, parent })
}

fn run(id: u64, fields: &[u8], payload: Payload, function: &mut Arc<str>) -> Result<Request, WireError> {
    let mut from = Fields { rest: fields, message: "Run" };
    let (place, wanted, timeout, format) = (from.u64()?, from.u32()?, from.u64()?, from.format()?);
    from.one_text_into(function)?;
    let name = if from.rest.is_empty() { None } else { Some(from.one_text()?) };
    if !from.rest.is_empty() {
        return Err(from.malformed());
    }
    let run = Run { id, place, wanted, timeout };
    Ok(Request::Run { run, function: function.clone(), name, input: Encoded { format, bytes: payload } })
}

fn surroundings(fields: &[u8], payload: &[u8]) -> Result<Surroundings, WireError> {
    let mut from = Fields { rest: fields, message: "Surroundings" };
    from.magic()?;
    let (version, set) = (from.u32()?, from.u64()?);
    let mut from = Fields { rest: payload, ..from };
    let directory = from.bytes()?.to_vec();
    let mut variables = Vec::new();
    while !from.rest.is_empty() {
        variables.push((from.bytes()?.to_vec(), from.bytes()?.to_vec()));
    }
    let set = usize::try_from(set).ok().filter(|&set| set <= variables.len()).ok_or(from.malformed())?;
    let offered = variables.split_off(set);
    Ok(Surroundings { version, directory, set: variables, offered })
}

/// Where a worker is, and what keeps it from serving.
fn origin(mut from: Fields<'_>, payload: &[u8]) -> Result<(Origin, i32), WireError> {
    let (pid, lifetime, defect) = (from.u32()?, from.u64()?, from.i32()?);
    let mut from = Fields { rest: payload, ..from };
    let [host, job, step, program] = [from.one_text()?, from.one_text()?, from.one_text()?, from.one_text()?];
    Ok((Origin { pid, lifetime, host, job, step, program }, defect))
}

/// The outcome of a task or of an item; that of an item comes without a snapshot if it is a value.
fn outcome(kind: u8, fields: &[u8], payload: Payload) -> Result<(RemoteSnapshot, Outcome), WireError> {
    match kind {
        kind::VALUE => {
            let (snapshot, value) = Fields { rest: fields, message: "Value" }.value(payload)?;
            Ok((snapshot, Outcome::Value(value)))
        }
        kind::ITEM_VALUE => {
            let format = Fields { rest: fields, message: "Value" }.format()?;
            Ok((RemoteSnapshot::default(), Outcome::Value(Encoded { format, bytes: payload })))
        }
        kind::PARTIAL | kind::ITEM_PARTIAL => {
            let (snapshot, value) = Fields { rest: fields, message: "Partial" }.value(payload)?;
            Ok((snapshot, Outcome::Partial(value)))
        }
        _ => error(fields, &payload),
    }
}

fn error(fields: &[u8], payload: &[u8]) -> Result<(RemoteSnapshot, Outcome), WireError> {
    let mut from = Fields { rest: fields, message: "Error" };
    let ending = ENDINGS.get(usize::from(from.u8()?)).copied().ok_or(from.malformed())?;
    let snapshot = from.snapshot()?;
    let mut texts = Vec::new();
    let mut from = Fields { rest: payload, message: "Error" };
    while !from.rest.is_empty() {
        texts.push(from.one_text()?);
    }
    Ok((snapshot, Outcome::Error(ending, texts)))
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

    fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_le_bytes)
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

    /// Bytes that follow their length.
    fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(self.u64()?).map_err(|_| self.malformed())?;
        self.take(len)
    }

    /// A text that follows its length.
    fn one_text(&mut self) -> Result<String, WireError> {
        Fields { rest: self.bytes()?, ..*self }.text()
    }

    /// Replaces `text` by a text that follows its length, unless they are equal.
    fn one_text_into(&mut self, text: &mut Arc<str>) -> Result<(), WireError> {
        let bytes = self.bytes()?;
        if bytes != text.as_bytes() {
            *text = str::from_utf8(bytes).map_err(|_| self.malformed())?.into();
        }
        Ok(())
    }

    /// The rest, as a text.
    fn text(self) -> Result<String, WireError> {
        String::from_utf8(self.rest.to_vec()).map_err(|_| self.malformed())
    }

    fn value(mut self, bytes: Payload) -> Result<(RemoteSnapshot, Encoded), WireError> {
        let format = self.format()?;
        Ok((self.snapshot()?, Encoded { format, bytes }))
    }

    fn snapshot(mut self) -> Result<RemoteSnapshot, WireError> {
        let (position, elapsed, bits) = (self.position()?, self.u64()?, self.u8()?);
        let has = |bit| bits & bit != 0;
        let parts = if has(PARTS) { Fields { rest: self.bytes()?, ..self }.parts()? } else { Box::default() };
        let message = if has(MESSAGE) { Some(self.text()?.into()) } else { None };
        Ok(RemoteSnapshot {
            position,
            elapsed,
            is_halted: has(HALTED),
            has_noticed: has(NOTICED),
            is_silent: has(SILENT),
            parts,
            message,
        })
    }

    fn parts(mut self) -> Result<Box<[RemotePart]>, WireError> {
        let mut parts = Vec::new();
        while !self.rest.is_empty() {
            let (depth, position) = (self.u8()?, self.position()?);
            parts.push(RemotePart { name: self.one_text()?.into(), position, depth });
        }
        Ok(parts.into())
    }

    fn position(&mut self) -> Result<Position, WireError> {
        let (n, total, part) = (self.u64()?, self.u64()?, self.array().map(f64::from_le_bytes)?);
        if (0.0..1.0).contains(&part) { Ok(Position { n, total, part }) } else { Err(self.malformed()) }
    }
}
