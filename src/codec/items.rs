//! Several values, one after the other, each encoded on its own:
//!
//! ```text
//! ┌────────┬──────────┬───────┬────────┬──────────┬───────┬───
//! │ format │ len: u64 │ bytes │ format │ len: u64 │ bytes │ …
//! └────────┴──────────┴───────┴────────┴──────────┴───────┴───
//! ```

use serde_core::Serialize;

use crate::codec::{Encoded, Format, encode_plain, message_pack};
use crate::error::BoxError;

/// The size of what stands before each value.
const HEAD: usize = 9;

/// Appends a value. If it cannot be encoded, the caller must cut off what was written of it.
pub(crate) fn append<T: Serialize + 'static>(value: T, to: &mut Vec<u8>) -> Result<(), BoxError> {
    let start = to.len();
    to.extend([0; HEAD]);
    let mut slot = Some(value);
    let format = match encode_plain(&mut slot) {
        Some(bytes) => {
            to.extend(bytes);
            Format::Plain
        }
        None => {
            slot.iter().try_for_each(|value| message_pack::append(value, to))?;
            Format::MessagePack
        }
    };
    let len = (to.len() - start - HEAD) as u64;
    to[start] = format as u8;
    to[start + 1..start + HEAD].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

/// Appends a value that is encoded already.
pub(crate) fn append_encoded(Encoded { format, bytes }: Encoded<&[u8]>, to: &mut Vec<u8>) {
    to.push(format as u8);
    to.extend((bytes.len() as u64).to_le_bytes());
    to.extend(bytes);
}

/// Splits off the first value. `None` if there is none, or if the bytes make no sense.
pub(crate) fn split_first(bytes: &[u8]) -> Option<(Encoded<&[u8]>, &[u8])> {
    let (&format, rest) = bytes.split_first()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (bytes, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
    Some((Encoded { format: Format::from_byte(format)?, bytes }, rest))
}

/// What comes after the first `count` values.
pub(crate) fn skip(bytes: &[u8], count: usize) -> Option<&[u8]> {
    (0..count).try_fold(bytes, |bytes, _| split_first(bytes).map(|(_, rest)| rest))
}

/// The values, to be decoded one by one; `None` if any of the bytes make no sense.
pub(crate) fn read(bytes: &[u8]) -> Option<impl Iterator<Item = Encoded<&[u8]>>> {
    let mut rest = bytes;
    while !rest.is_empty() {
        (_, rest) = split_first(rest)?;
    }
    let mut rest = bytes;
    Some(std::iter::from_fn(move || {
        let (first, after) = split_first(rest)?;
        rest = after;
        Some(first)
    }))
}

#[cfg(all(test, feature = "processes"))]
mod tests {
    use super::{HEAD, append, read, skip};
    use crate::codec::decode;

    fn texts(bytes: &[u8]) -> Option<Vec<String>> {
        Some(read(bytes)?.map(|text| decode(text).unwrap()).collect())
    }

    #[test]
    fn values_come_out_as_they_went_in() {
        let mut bytes = Vec::new();
        for text in ["", "a", "straße"] {
            append(text.to_owned(), &mut bytes).unwrap();
        }
        append((7_u8, Some(1.5)), &mut bytes).unwrap();
        let mut values = read(&bytes).unwrap();
        for text in ["", "a", "straße"] {
            assert_eq!(decode::<String>(values.next().unwrap()).unwrap(), text);
        }
        assert_eq!(decode::<(u8, Option<f64>)>(values.next().unwrap()).unwrap(), (7, Some(1.5)));
        assert!(values.next().is_none());
        assert_eq!(texts(&[]), Some(Vec::new()));
    }

    #[test]
    fn the_rest_begins_with_a_value() {
        let mut bytes = Vec::new();
        for text in ["a", "b", "c"] {
            append(text.to_owned(), &mut bytes).unwrap();
        }
        assert_eq!(texts(skip(&bytes, 1).unwrap()).unwrap(), ["b", "c"]);
        assert_eq!(skip(&bytes, 3), Some(&[][..]));
        assert_eq!(skip(&bytes, 4), None);
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        let mut bytes = Vec::new();
        append("a".to_owned(), &mut bytes).unwrap();
        append("b".to_owned(), &mut bytes).unwrap();
        for len in 1..bytes.len() {
            assert_eq!(texts(&bytes[..len]).is_some(), len == HEAD + 1, "{len}");
        }
        bytes[0] = 99;
        assert!(read(&bytes).is_none(), "no such format");
        bytes[..HEAD].copy_from_slice(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert!(read(&bytes).is_none(), "longer than there is");
    }
}
