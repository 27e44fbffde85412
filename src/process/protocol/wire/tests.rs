//! Tests of the [wire](super): what it does with messages, and with arbitrary bytes.

use std::iter::repeat;
use std::slice;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::decoder::Decoder;
use super::outbox::*;
use super::*;
use crate::codec::payload::LARGE;
use crate::codec::{Format, items};
use crate::task::remote::{Position, RemotePart};

/// The sizes at which something changes about how a payload is sent and received.
pub(super) const SIZES: [usize; 9] = [0, 1, LARGE - 1, LARGE, LARGE + 1, ROOM - 1, ROOM, ROOM + 1, 300_000];

pub(super) const KINDS: [u8; 23] = [
    kind::SURROUNDINGS,
    kind::HELLO,
    kind::RUN,
    kind::SHARE,
    kind::FORGET,
    kind::WANT,
    kind::SUSPEND,
    kind::RESUME,
    kind::BEAT,
    kind::QUIT,
    kind::READY,
    kind::STARTED,
    kind::PROGRESS,
    kind::LINE,
    kind::LOG,
    kind::VALUE,
    kind::PARTIAL,
    kind::ERROR,
    kind::ALIVE,
    kind::ITEM_VALUE,
    kind::ITEM_PARTIAL,
    kind::ITEM_ERROR,
    kind::GOODBYE,
];

/// A message of either side.
pub(super) trait Message: Clone + PartialEq + fmt::Debug {
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

/// A frame, as the documentation describes it.
pub(super) fn frame(kind: u8, id: u64, fields: &[u8], payload: &[u8]) -> Vec<u8> {
    let head = head(kind, id, fields.len() as u32, payload.len() as u64);
    [&head, fields, payload, b"\n"].concat()
}

pub(super) fn head(kind: u8, id: u64, fields: u32, payload: u64) -> Vec<u8> {
    [&[kind][..], &id.to_le_bytes(), &fields.to_le_bytes(), &payload.to_le_bytes()].concat()
}

/// Sends as much of the outbox as the socket takes at once.
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

pub(super) fn encoded<M: Message>(messages: &[M]) -> Vec<u8> {
    let (mut outbox, mut sent) = (Outbox::default(), Vec::new());
    messages.iter().cloned().for_each(|message| message.put(&mut outbox));
    while !outbox.is_empty() {
        send(&mut outbox, usize::MAX, &mut sent);
    }
    sent
}

/// Whatever the socket takes at once, and whenever it does, the same bytes are sent, and the same are noted on the way.
fn is_sent_as_a_whole<M: Message>(messages: &[M], takes: &[usize], rooms: &[usize]) {
    let whole = encoded(messages);
    let mut takes = takes.iter().copied().cycle().take(500).chain(repeat(usize::MAX));
    let mut rooms = rooms.iter().copied().cycle();
    let (mut outbox, mut sent, mut put, mut noted) = (Outbox::default(), Vec::new(), 0, vec![0; whole.len()]);
    for message in messages {
        message.clone().put(&mut outbox);
        put += encoded(slice::from_ref(message)).len();
        // 0 stands for a full socket.
        let bytes = takes.next().unwrap_or(0);
        if bytes > 0 {
            send(&mut outbox, bytes, &mut sent);
        }
        // 0 stands for notes that cannot be written.
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
pub(super) struct Delivery {
    /// How many at a time. After so many pieces that more would show nothing new, all that is left comes at once.
    pub(super) sizes: Vec<usize>,
    /// Whether more may arrive at a time than the decoder has room for.
    pub(super) beyond_room: bool,
}

impl Delivery {
    pub(super) fn at_once() -> Self {
        Self { sizes: vec![usize::MAX], beyond_room: true }
    }
}

/// Decodes what arrives, until there is an error. Checks on the way that each step makes progress, and that memory is
/// allocated only for what has arrived.
pub(super) fn decoded<M: Message>(
    max_frame: u64,
    mut bytes: &[u8],
    delivery: &Delivery,
) -> (Vec<M>, Option<WireError>) {
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
            // What has arrived, while its buffer grows: once in a buffer, once in the fields of a large frame.
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

pub(super) fn held(decoder: &Decoder) -> usize {
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

/// Whatever arrives is decoded or refused, and in the same way however it is cut.
fn is_withstood<M: Message>(max_frame: u64, bytes: &[u8], delivery: &Delivery) {
    let (messages, error) = decoded::<M>(max_frame, bytes, delivery);
    assert!(decoded::<M>(max_frame, bytes, &Delivery::at_once()) == (messages.clone(), error));
    let again = decoded::<M>(u64::MAX, &encoded(&messages), delivery);
    assert!(again == (messages, None));
}

/// What a worker says, until there is an error; the values of items are taken one by one, or several at a time.
fn said(pieces: [&[u8]; 2], takes_several: bool) -> (Vec<Reply>, Option<WireError>) {
    let (mut decoder, mut replies) = (Decoder::new(1 << 30), Vec::new());
    for piece in pieces {
        decoder.append(piece);
        loop {
            if let Some((id, values)) = takes_several.then(|| decoder.next_values()).flatten() {
                let values = items::read(&values).expect("it is what an input of several values is as well");
                let owned = |Encoded { format, bytes }: Encoded<&[u8]>| Encoded { format, bytes: bytes.into() };
                replies.extend(values.map(|value| item(id, RemoteSnapshot::default(), Outcome::Value(owned(value)))));
            }
            match decoder.next_reply() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

// Messages, and bytes that are none.

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![9 => 0..40_usize, 1 => select(&SIZES)];
    (len, any::<u8>()).prop_map(|(len, first)| {
        // A period long enough that a piece in the wrong place makes a difference.
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

fn value() -> impl Strategy<Value = Encoded> {
    let format = select(&[Format::MessagePack, Format::Plain]);
    (format, bytes()).prop_map(|(format, bytes)| Encoded { format, bytes: bytes.into() })
}

fn snapshot() -> impl Strategy<Value = RemoteSnapshot> {
    let message = prop_oneof![Just(None), text().prop_map(|text| Some(text.into()))];
    let position = || (any::<(u64, u64)>(), 0.0..1.0).prop_map(|((n, total), part)| Position { n, total, part });
    let part = (text(), position(), any::<u8>());
    let part = part.prop_map(|(name, position, depth)| RemotePart { name: name.into(), position, depth });
    let known = any::<(u64, bool, bool, bool)>();
    (position(), known, vec(part, 0..4), message).prop_map(|(position, known, parts, message)| {
        let (elapsed, is_halted, has_noticed, is_silent) = known;
        RemoteSnapshot { position, elapsed, is_halted, has_noticed, is_silent, parts: parts.into(), message }
    })
}

fn request() -> impl Strategy<Value = Request> {
    let variables = || vec((bytes(), bytes()), 0..4);
    let surroundings =
        (any::<u32>(), bytes(), variables(), variables()).prop_map(|(version, directory, set, offered)| {
            Request::Surroundings(Surroundings { version, directory, set, offered })
        });
    let hello = any::<(u32, u32, u64, u64, bool, u64, u8, u32)>().prop_map(|known| {
        let (version, depth, report_interval, max_frame, shares_memory, heartbeat, log_level, parent) = known;
        Request::Hello(Hello {
            version,
            depth,
            report_interval,
            max_frame,
            shares_memory,
            heartbeat,
            log_level,
            parent,
        })
    });
    let run = (any::<(u64, u64, u32, u64)>(), text(), option::of(text()), value()).prop_map(
        |(run, function, name, input)| {
            let (id, place, wanted, timeout) = run;
            Request::Run { run: Run { id, place, wanted, timeout }, function: function.into(), name, input }
        },
    );
    prop_oneof![
        1 => surroundings,
        1 => hello,
        4 => run,
        2 => (any::<u64>(), value()).prop_map(|(id, value)| Request::Share { id, value }),
        1 => any::<u64>().prop_map(|id| Request::Forget { id }),
        1 => any::<(u64, u32)>().prop_map(|(id, wanted)| Request::Want { id, wanted }),
        1 => select(vec![Request::Suspend, Request::Resume, Request::Beat, Request::Quit]),
    ]
}

fn item(id: u64, snapshot: RemoteSnapshot, outcome: Outcome) -> Reply {
    // The position of an item with a value is not sent.
    let is_value = matches!(outcome, Outcome::Value(_));
    Reply::Item { id, snapshot: if is_value { RemoteSnapshot::default() } else { snapshot }, outcome }
}

fn reply() -> impl Strategy<Value = Reply> {
    let texts = (text(), text(), text(), text());
    let ready = (any::<(u32, u64, u64, u32, u64, i32)>(), texts).prop_map(|(known, (host, job, step, program))| {
        let (version, binary, tasks, pid, lifetime, defect) = known;
        let origin = Origin { pid, lifetime, host, job, step, program };
        Reply::Ready(Ready { version, fingerprint: Fingerprint { binary, tasks }, origin, defect })
    });
    let outcome = prop_oneof![
        2 => value().prop_map(Outcome::Value),
        1 => value().prop_map(Outcome::Partial),
        1 => (select(&ENDINGS), vec(text(), 0..4)).prop_map(|(ending, texts)| Outcome::Error(ending, texts)),
    ];
    prop_oneof![
        1 => ready,
        1 => any::<u64>().prop_map(|id| Reply::Started { id }),
        2 => (any::<u64>(), snapshot()).prop_map(|(id, snapshot)| Reply::Progress { id, snapshot }),
        1 => (any::<u64>(), text()).prop_map(|(id, text)| Reply::Line { id, text }),
        1 => (any::<u64>(), any::<u8>(), text(), text())
            .prop_map(|(id, level, target, text)| Reply::Log { id, log: RemoteLog { level, target, text } }),
        4 => (any::<u64>(), snapshot(), outcome.clone())
            .prop_map(|(id, snapshot, outcome)| Reply::Ended { id, snapshot, outcome }),
        4 => (any::<u64>(), snapshot(), outcome).prop_map(|(id, snapshot, outcome)| item(id, snapshot, outcome)),
        1 => select(vec![Reply::Beat, Reply::Goodbye]),
    ]
}

/// Mostly what a worker says about a map.
fn reply_of_items() -> impl Strategy<Value = Reply> {
    let value = (0..2_u64, value()).prop_map(|(id, value)| item(id, RemoteSnapshot::default(), Outcome::Value(value)));
    prop_oneof![4 => value, 1 => reply()]
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let size = prop_oneof![1..40_usize, 1..100_000_usize];
    let sizes = prop_oneof![1 => Just(vec![1]), 4 => vec(size, 1..8)];
    (sizes, any::<bool>()).prop_map(|(sizes, beyond_room)| Delivery { sizes, beyond_room })
}

/// The limit for frames: it may be too low, or as good as none.
fn max_frame() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(1 << 30), 1 => select(vec![0, HEAD as u64 + 1, 60, 1024, 64 * 1024, u64::MAX])]
}

/// A frame with arbitrary contents, which may claim a length other than its own.
fn wild_frame() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![9 => select(&KINDS), 1 => any::<u8>()];
    let some = || prop_oneof![any::<u8>(), 0..8_u8];
    let fields = prop_oneof![
        vec(some(), 0..60),
        vec(some(), 18..26).prop_map(|rest| [&MAGIC[..], &rest].concat()),
        vec(some(), 34).prop_map(|snapshot| [&[0][..], &snapshot].concat()),
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
    let bytes = || prop_oneof![vec(any::<u8>(), 1..10), any::<u64>().prop_map(|number| number.to_le_bytes().into())];
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
    fn values_of_items_that_are_taken_off_together_are_those_that_come_one_by_one(
        replies in vec(reply_of_items(), 1..12), cut in any::<Index>(), damages in vec(damage(), 0..2),
    ) {
        let bytes = damaged(encoded(&replies), damages);
        let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
        prop_assert_eq!(said([first, second], true), said([first, second], false));
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
