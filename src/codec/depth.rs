//! How deeply encoded values are nested, found without recursion.
//!
//! The decoder counts arrays and maps, but not enum variants with one value, which are encoded as maps: a chain of
//! those would make it recurse without a limit.

use std::iter;

/// Whether arrays, maps or variants with content are nested more than `max` deep. Malformed bytes are left to the
/// decoder.
pub(super) fn is_deeper_than(max: usize, bytes: &[u8]) -> bool {
    // Each takes at least one byte.
    if bytes.len() <= max {
        return false;
    }
    let mut rest = bytes;
    // How many values are still to come in each container.
    let mut left: Vec<u64> = Vec::new();
    while let Some((&marker, after)) = rest.split_first() {
        let Some((values, after)) = value(marker, after) else { return false };
        rest = after;
        if values > 0 {
            if left.len() == max {
                return true;
            }
            left.push(values);
            continue;
        }
        // That may have been the last value of its container, which may have been the last of its own, and so on.
        for count in iter::from_fn(|| left.pop()) {
            if count > 1 {
                left.push(count - 1);
                break;
            }
        }
        if left.is_empty() {
            return false;
        }
    }
    false
}

/// How many values the value with this marker contains, and the bytes that follow: those values, or else the next value.
fn value(marker: u8, after: &[u8]) -> Option<(u64, &[u8])> {
    let skip = |len: usize| Some((0, after.get(len..)?));
    let number = |size: usize| {
        let (bytes, after) = after.split_at_checked(size)?;
        Some((bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)), after))
    };
    let text = |size: usize, more: usize| {
        let (len, after) = number(size)?;
        Some((0, after.get(usize::try_from(len).ok()?.checked_add(more)?..)?))
    };
    let values = |size: usize, each: u64| number(size).map(|(count, after)| (each * count, after));
    match marker {
        0x80..=0x8f => Some((2 * u64::from(marker & 0x0f), after)),
        0x90..=0x9f => Some((u64::from(marker & 0x0f), after)),
        0xa0..=0xbf => skip(usize::from(marker & 0x1f)),
        0xcc | 0xd0 => skip(1),
        0xcd | 0xd1 => skip(2),
        0xca | 0xce | 0xd2 => skip(4),
        0xcb | 0xcf | 0xd3 => skip(8),
        0xd4..=0xd8 => skip(1 + (1 << (marker - 0xd4))),
        0xc4 | 0xd9 => text(1, 0),
        0xc5 | 0xda => text(2, 0),
        0xc6 | 0xdb => text(4, 0),
        0xc7 => text(1, 1),
        0xc8 => text(2, 1),
        0xc9 => text(4, 1),
        0xdc => values(2, 1),
        0xdd => values(4, 1),
        0xde => values(2, 2),
        0xdf => values(4, 2),
        // Small integers, nil, booleans, and the marker that is never used.
        _ => Some((0, after)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::is_deeper_than;
    use crate::codec::payload::Payload;
    use crate::codec::{Encoded, Format, decode, encode};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Chain {
        Link(Box<Chain>),
        End,
    }

    fn links(count: usize) -> Vec<u8> {
        [b"\x81\xa4Link".repeat(count), b"\xa3End".to_vec()].concat()
    }

    #[test]
    fn a_chain_without_end_is_an_error_and_not_the_end_of_the_process() {
        for (count, is_fine) in [(0, true), (127, true), (128, false), (1_000_000, false)] {
            let encoded = Encoded { format: Format::MessagePack, bytes: Payload::from(links(count)) };
            let decoded = decode::<Chain>(encoded);
            assert_eq!(decoded.is_ok(), is_fine, "{count} links");
            if let Err(error) = decoded {
                assert_eq!(error.to_string(), "it is nested more than 127 deep");
            }
        }
    }

    #[test]
    fn what_can_be_encoded_can_be_decoded() {
        let chain = (0..127).fold(Chain::End, |chain, _| Chain::Link(chain.into()));
        assert_eq!(decode::<Chain>(encode(chain).unwrap()).unwrap().depth(), 127);
    }

    impl Chain {
        fn depth(&self) -> usize {
            if let Self::Link(chain) = self { 1 + chain.depth() } else { 0 }
        }
    }

    /// An encoding with every kind of value.
    fn bytes() -> Vec<u8> {
        let text = |len| "x".repeat(len);
        let numbers = (i8::MIN, u8::MAX, i16::MIN, u16::MAX, i32::MIN, u32::MAX, i64::MIN, u64::MAX, 1.5_f32, 1.5_f64);
        let texts = (text(1), text(31), text(32), text(256), text(70_000), 'x', true, None::<u8>, -1, 7);
        let few: BTreeMap<u32, u32> = (0..3).map(|n| (n, n)).collect();
        let many: BTreeMap<u32, Vec<u32>> = (0..70_000).map(|n| (n, vec![n; (n % 20) as usize])).collect();
        rmp_serde::to_vec_named(&(numbers, texts, few, many, vec![(); 70_000], vec![1_u16; 300])).unwrap()
    }

    #[test]
    fn every_kind_of_value_is_passed_over() {
        let bytes = bytes();
        assert!(!is_deeper_than(3, &bytes));
        assert!(is_deeper_than(2, &bytes));
        // If any were not, what follows would be taken for something else.
        let deep = [&[0x92][..], &bytes, &links(130)].concat();
        assert!(is_deeper_than(127, &deep));
        let flat = [&[0x92][..], &bytes, &links(100)].concat();
        assert!(!is_deeper_than(127, &flat));
    }

    #[test]
    fn bytes_and_extensions_are_passed_over() {
        let long = [&[0xc5, 1, 0][..], &[0x91; 256]].concat();
        for (marker, value) in [
            ("bin 8", vec![0xc4, 3, 0x91, 0x91, 0x91]),
            ("bin 16", long),
            ("bin 32", [&[0xc6, 0, 0, 0, 2][..], &[0x91; 2]].concat()),
            ("ext 8", vec![0xc7, 2, 0x91, 0x91, 0x91]),
            ("ext 16", vec![0xc8, 0, 2, 0x91, 0x91, 0x91]),
            ("ext 32", vec![0xc9, 0, 0, 0, 2, 0x91, 0x91, 0x91]),
            ("fixext 1", vec![0xd4, 0x91, 0x91]),
            ("fixext 2", vec![0xd5, 0x91, 0x91, 0x91]),
            ("fixext 4", [&[0xd6][..], &[0x91; 5]].concat()),
            ("fixext 8", [&[0xd7][..], &[0x91; 9]].concat()),
            ("fixext 16", [&[0xd8][..], &[0x91; 17]].concat()),
        ] {
            assert!(!is_deeper_than(1, &[&[0x92][..], &value, &[0xc0]].concat()), "{marker}");
            assert!(is_deeper_than(1, &[&[0x92][..], &value, &[0x91, 0xc0]].concat()), "{marker}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_to_the_decoder() {
        for bytes in [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0xdb, 0xff, 0xff], &[0x91; 3], &[0xc1; 200], &[]] {
            assert!(!is_deeper_than(127, bytes));
        }
    }
}
