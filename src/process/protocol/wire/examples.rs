//! Tests of the [wire](super): messages that mean something in particular, and their frames.

use std::iter::from_fn;

use super::decoder::Decoder;
use super::outbox::*;
use super::tests::{Delivery, KINDS, SIZES, decoded, encoded, frame, head, held};
use super::*;
use crate::codec::Format;
use crate::codec::payload::LARGE;

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
    let input = Encoded { format: Format::Plain, bytes: vec![7; len].into() };
    Request::Run {
        run: Run { id: 1, place: 4, wanted: 2, timeout: 3 },
        function: "f".into(),
        name: Some("name".into()),
        input,
    }
}

#[test]
fn a_frame_is_as_the_documentation_says() {
    let want = encoded(&[Request::Want { id: 0x0102, wanted: 3 }]);
    assert_eq!(want, b"W\x02\x01\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\n");
    let fields = b"\x04\0\0\0\0\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\x01";
    let texts = b"\x01\0\0\0\0\0\0\0f\x04\0\0\0\0\0\0\0name";
    assert_eq!(encoded(&[run_of(3)]), frame(b'R', 1, &[&fields[..], texts].concat(), &[7; 3]));
}

#[test]
fn messages_arrive_one_byte_at_a_time() {
    for len in SIZES {
        let bytes = encoded(&[Request::Want { id: 7, wanted: 1 }, run_of(len), Request::Quit]);
        let (mut decoder, mut messages) = (Decoder::new(1 << 30), Vec::new());
        for &byte in &bytes {
            decoder.space().push(byte);
            messages.extend(decoder.next_request().unwrap());
        }
        assert!(messages == [Request::Want { id: 7, wanted: 1 }, run_of(len), Request::Quit], "{len}");
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
            // In two pieces, so that a large frame may have begun as well.
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
    let snapshot = RemoteSnapshot { message: Some("what it is at".into()), ..RemoteSnapshot::default() };
    for len in SIZES {
        assert_eq!(encoded(&[run_of(len)]).len() as u64, len as u64 + run_overhead(("f", Some("name"))));
        let outcome = Outcome::Value(Encoded { format: Format::Plain, bytes: vec![7; len].into() });
        let ended = Reply::Ended { id: 1, snapshot: snapshot.clone(), outcome };
        assert_eq!(encoded(&[ended]).len() as u64, len as u64 + value_overhead(&snapshot));
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
fn a_frame_of_long_fields_takes_its_size_and_gives_it_back() {
    let Request::Run { run, input, .. } = run_of(1) else { unreachable!() };
    let long = Request::Run { run, function: "x".repeat(8 << 20).into(), name: None, input };
    let bytes = encoded(&[long]);
    let mut decoder = Decoder::new(1 << 30);
    for piece in bytes.chunks(ROOM) {
        decoder.space().extend(piece);
        assert!(held(&decoder) <= bytes.len() + ROOM, "{}", held(&decoder));
        assert_eq!(decoder.next_request().unwrap().is_some(), decoder.taken() == bytes.len() as u64);
    }
    decoder.space();
    assert!(held(&decoder) <= 2 * ROOM, "{}", held(&decoder));
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
        let others = [kind::SURROUNDINGS, kind::SUSPEND, kind::RESUME, kind::BEAT, kind::QUIT];
        let requests = [&[kind::HELLO, kind::RUN, kind::SHARE, kind::FORGET, kind::WANT][..], &others].concat();
        assert_eq!(request_of(&bytes) == Err(WireError::UnknownKind(kind)), !requests.contains(&kind));
        assert_eq!(reply_of(&bytes) == Err(unknown), requests.contains(&kind) || !KINDS.contains(&kind));
    }
}

#[test]
fn a_message_that_lacks_something_is_refused() {
    let requests = [(kind::HELLO, "Hello", 32), (kind::RUN, "Run", 29), (kind::WANT, "Want", 4)];
    let replies = [
        (kind::READY, "Ready", 28),
        (kind::PROGRESS, "Progress", SNAPSHOT),
        (kind::LOG, "Log", 5),
        (kind::VALUE, "Value", 1 + SNAPSHOT),
        (kind::PARTIAL, "Partial", 1 + SNAPSHOT),
        (kind::ERROR, "Error", 1 + SNAPSHOT),
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
    let snapshot = |bits: u8, message: &[u8]| [&[0; SNAPSHOT - 1][..], &[bits], message].concat();
    let text = |byte| [1, 0, 0, 0, 0, 0, 0, 0, byte];
    let (known, unknown) = (text(b'f'), text(0xff));
    for (format, texts) in [(3, vec![known]), (0, vec![unknown]), (0, vec![known, unknown]), (0, vec![known; 3])] {
        let fields = [&[0; 20][..], &[format], &texts.concat()].concat();
        assert_eq!(request_of(&frame(kind::RUN, 1, &fields, &[])), Err(WireError::Malformed("Run")));
    }
    let progress = snapshot(MESSAGE, b"\xff");
    assert_eq!(reply_of(&frame(kind::PROGRESS, 1, &progress, &[])), Err(WireError::Malformed("Progress")));
    assert_eq!(reply_of(&frame(kind::LINE, 1, b"\xff", &[])), Err(WireError::Malformed("Line")));
    let value = [&[3][..], &snapshot(0, &[])].concat();
    assert_eq!(reply_of(&frame(kind::VALUE, 1, &value, &[])), Err(WireError::Malformed("Value")));
    assert_eq!(reply_of(&frame(kind::PARTIAL, 1, &value, &[])), Err(WireError::Malformed("Partial")));
    let error = |ending| [&[ending][..], &snapshot(0, &[])].concat();
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
    let hello = Hello {
        version: VERSION + 1,
        depth: 1,
        report_interval: 2,
        max_frame: 3,
        shares_memory: true,
        heartbeat: 4,
        log_level: 5,
        parent: 6,
    };
    let mut bytes = encoded(&[Request::Hello(hello.clone())]);
    assert_eq!(request_of(&bytes), Ok(Some(Request::Hello(hello.clone()))));
    // A later version may say more.
    bytes.splice(bytes.len() - 1.., *b"more\n");
    bytes[9] += 4;
    assert_eq!(request_of(&bytes), Ok(Some(Request::Hello(hello))));
    let error = WireError::Version(VERSION + 1).to_string();
    assert!(error.contains(&format!("{}", VERSION + 1)) && error.contains(&VERSION.to_string()), "{error}");
}

/// Bytes that are known before they arrive are not decoded twice, wherever they end.
#[test]
fn what_was_foreseen_is_skipped_when_it_arrives() {
    for len in [5, LARGE + 1, ROOM + 1] {
        let messages = [run_of(5), run_of(len), Request::Quit];
        let bytes = encoded(&messages);
        let head = 40;
        for cut in (0..head).chain(bytes.len() - 8 - head..bytes.len()) {
            let (mut decoder, mut received) = (Decoder::new(1 << 30), Vec::new());
            for known in [0, 1, 17, bytes.len() - cut] {
                let known = known.min(bytes.len() - decoder.taken().max(cut as u64) as usize);
                if decoder.taken() == 0 {
                    decoder.append(&bytes[..cut]);
                }
                let taken = decoder.taken() as usize;
                decoder.foresee(&bytes[taken..taken + known]);
                received.extend(from_fn(|| decoder.next_request().unwrap()));
            }
            for piece in bytes[cut..].chunks(1_000) {
                decoder.space().extend_from_slice(piece);
                decoder.skip_known();
                received.extend(from_fn(|| decoder.next_request().unwrap()));
            }
            assert!(received == messages, "{len} {cut}");
        }
    }
}
