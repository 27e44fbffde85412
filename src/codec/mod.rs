//! Values on their way to another process: encoded as [MessagePack], with the names of fields, which supports every
//! attribute of serde. Bytes, text and plain numbers are sent as they are, since an encoding that looks at each of
//! their elements costs many times more than sending them.
//!
//! [MessagePack]: https://msgpack.org

#[cfg(feature = "processes")]
mod depth;
pub(crate) mod items;
#[cfg(feature = "processes")]
mod message_pack;
#[cfg(not(feature = "processes"))]
#[path = "no_message_pack.rs"]
mod message_pack;
pub(crate) mod payload;
pub mod plain;
pub(crate) mod references;
pub(crate) mod shared;
#[cfg(feature = "processes")]
mod strict;

use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::codec::payload::Payload;
use crate::codec::plain::for_numbers;
use crate::error::BoxError;

/// An encoded value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded<B = Payload> {
    pub(crate) format: Format,
    pub(crate) bytes: B,
}

/// An encoded value that is owned, or borrowed from something larger.
pub(crate) type EncodedCow<'a> = Encoded<Cow<'a, [u8]>>;

impl From<Encoded> for EncodedCow<'_> {
    fn from(Encoded { format, bytes }: Encoded) -> Self {
        Self { format, bytes: Vec::from(bytes).into() }
    }
}

impl Encoded {
    /// Lends it to be decoded; see [`Payload::lend`].
    pub(crate) fn lend(&mut self) -> EncodedCow<'_> {
        Encoded { format: self.format, bytes: self.bytes.lend() }
    }
}

impl<'a> From<Encoded<&'a [u8]>> for EncodedCow<'a> {
    fn from(Encoded { format, bytes }: Encoded<&'a [u8]>) -> Self {
        Self { format, bytes: bytes.into() }
    }
}

/// How a value is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    MessagePack,
    /// Bytes, text, or numbers with the lowest byte first: the type that is asked for decides which.
    Plain,
    /// Several values; see [`items`].
    Items,
}

impl Format {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::MessagePack, Self::Plain, Self::Items].into_iter().find(|&format| format as u8 == byte)
    }
}

pub(crate) fn encode<T: Serialize + 'static>(value: T) -> Result<Encoded, BoxError> {
    // An option, so that a value that is sent as it is can be moved out.
    let mut slot = Some(value);
    if let Some(bytes) = encode_plain(&mut slot) {
        return Ok(Encoded { format: Format::Plain, bytes: bytes.into() });
    }
    let bytes = slot.as_ref().map_or_else(|| Ok(Payload::default()), encode_message_pack)?;
    Ok(Encoded { format: Format::MessagePack, bytes })
}

/// Like [`encode`], for a value that is only borrowed.
pub(crate) fn encode_ref<T: Serialize + 'static>(value: &T) -> Result<Encoded, BoxError> {
    if let Some(bytes) = plain_bytes(value) {
        return Ok(Encoded { format: Format::Plain, bytes: bytes.into() });
    }
    Ok(Encoded { format: Format::MessagePack, bytes: encode_message_pack(value)? })
}

/// Up to this size, an encoding is copied once more, so that it takes no more memory than it needs.
const COPIED: usize = 4096;

/// A small encoding takes no more memory than it needs, since it may wait for long.
fn encode_message_pack<T: Serialize>(value: &T) -> Result<Payload, BoxError> {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // A new buffer if the value encodes others meanwhile, or if the thread is about to end.
    let mut bytes = BUFFER.try_with(Cell::take).unwrap_or_default();
    message_pack::append(value, &mut bytes)?;
    if bytes.len() > COPIED {
        return Ok(bytes.into());
    }
    let exact = bytes.as_slice().into();
    bytes.clear();
    let _ = BUFFER.try_with(|buffer| buffer.set(bytes));
    Ok(exact)
}

pub(crate) fn decode<'a, T: DeserializeOwned + 'static>(encoded: impl Into<EncodedCow<'a>>) -> Result<T, BoxError> {
    let Encoded { format, bytes } = encoded.into();
    match format {
        Format::MessagePack => message_pack::decode(&bytes),
        Format::Plain => {
            let mut slot: Option<T> = None;
            decode_plain(&mut slot, bytes.into_owned())?;
            slot.ok_or_else(|| "it is encoded as plain bytes, and not meant to be".into())
        }
        Format::Items => Err("it is encoded as several values, where one is wanted".into()),
    }
}

macro_rules! encode_numbers {
    ($any:expr; $($number:ident)*) => {
        $(if let Some(numbers) = $any.downcast_ref::<Vec<$number>>() {
            return Some(plain::to_bytes(numbers));
        })*
    };
}

macro_rules! decode_numbers {
    ($any:expr, $bytes:expr; $($number:ident)*) => {
        $(if let Some(slot) = $any.downcast_mut::<Option<Vec<$number>>>() {
            *slot = Some(plain::from_bytes(&$bytes).ok_or("it ends within a number")?);
            return Ok(());
        })*
    };
}

/// The bytes of a value that can be sent as it is, taken out of its slot if that saves a copy.
fn encode_plain<T: 'static>(slot: &mut Option<T>) -> Option<Vec<u8>> {
    let any: &mut dyn Any = slot;
    if let Some(bytes) = any.downcast_mut::<Option<Vec<u8>>>() {
        return bytes.take();
    }
    if let Some(text) = any.downcast_mut::<Option<String>>() {
        return text.take().map(String::into_bytes);
    }
    plain_bytes(slot.as_ref()?)
}

/// The bytes of a value that can be sent as it is.
fn plain_bytes<T: 'static>(value: &T) -> Option<Vec<u8>> {
    let value: &dyn Any = value;
    if let Some(bytes) = value.downcast_ref::<Vec<u8>>() {
        return Some(bytes.clone());
    }
    if let Some(text) = value.downcast_ref::<String>() {
        return Some(text.clone().into_bytes());
    }
    for_numbers!(encode_numbers!(value));
    None
}

/// Fills the slot, if it is for a value that is sent as it is.
fn decode_plain<T: 'static>(slot: &mut Option<T>, bytes: Vec<u8>) -> Result<(), BoxError> {
    let slot: &mut dyn Any = slot;
    if let Some(slot) = slot.downcast_mut::<Option<Vec<u8>>>() {
        *slot = Some(bytes);
        return Ok(());
    }
    if let Some(slot) = slot.downcast_mut::<Option<String>>() {
        *slot = Some(String::from_utf8(bytes)?);
        return Ok(());
    }
    for_numbers!(decode_numbers!(slot, bytes));
    Ok(())
}

#[cfg(all(test, feature = "processes"))]
mod tests {
    use super::{Encoded, Format, decode, encode};
    use crate::codec::strict::strict;
    use serde::de::DeserializeOwned;
    use serde::ser::SerializeSeq;
    use serde::{Deserialize, Serialize, Serializer};
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use std::net::IpAddr;

    fn crosses<T: Serialize + DeserializeOwned + PartialEq + Debug + Clone + 'static>(value: T, format: Format) {
        let encoded = encode(value.clone()).unwrap();
        assert_eq!(encoded.format, format, "{value:?}");
        assert_eq!(decode::<T>(encoded).unwrap(), value);
    }

    #[test]
    fn bytes_text_and_numbers_go_as_they_are() {
        crosses(vec![1_u8, 2, 255], Format::Plain);
        crosses(Vec::<u8>::new(), Format::Plain);
        crosses("straße".to_string(), Format::Plain);
        crosses(vec![u16::MAX, 1], Format::Plain);
        crosses(vec![i64::MIN, -1, 1], Format::Plain);
        crosses(vec![1.5_f64, f64::MIN, f64::INFINITY], Format::Plain);
        crosses(vec![i128::MIN, 1], Format::Plain);
    }

    #[test]
    fn a_small_value_takes_no_more_memory_than_its_encoding() {
        for value in [vec![(1_u64, "one".to_owned())], vec![]] {
            let bytes = Vec::from(encode(value).unwrap().bytes);
            assert_eq!(bytes.capacity(), bytes.len());
        }
    }

    #[test]
    fn the_bytes_of_a_vector_are_moved_and_not_copied() {
        let bytes = vec![7_u8; 100];
        let place = bytes.as_ptr();
        let unpacked: Vec<u8> = decode(encode(bytes).unwrap()).unwrap();
        assert_eq!(unpacked.as_ptr(), place);
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Outer {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        nothing: Option<u8>,
        #[serde(flatten)]
        inner: Inner,
        #[serde(rename = "kind")]
        tagged: Tagged,
        untagged: Vec<Untagged>,
        map: BTreeMap<u32, (char, f32)>,
        #[serde(flatten)]
        rest: BTreeMap<String, i64>,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Inner {
        text: String,
        large: u64,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    #[serde(tag = "type", content = "value")]
    enum Tagged {
        Unit,
        Point { x: i32, y: i32 },
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    #[serde(untagged)]
    enum Untagged {
        Number(i64),
        Text(String),
    }

    #[test]
    fn every_attribute_of_serde_works() {
        let value = Outer {
            nothing: None,
            inner: Inner { text: "inner".into(), large: u64::MAX },
            tagged: Tagged::Point { x: -1, y: 2 },
            untagged: vec![Untagged::Number(-5), Untagged::Text("five".into())],
            map: BTreeMap::from([(1, ('ß', 0.5))]),
            rest: BTreeMap::from([("more".into(), 3)]),
        };
        crosses(value, Format::MessagePack);
        crosses(Tagged::Unit, Format::MessagePack);
        crosses((), Format::MessagePack);
        crosses(Some(3_u8), Format::MessagePack);
        crosses(Option::<u8>::None, Format::MessagePack);
        crosses(Result::<u8, String>::Err("no".into()), Format::MessagePack);
    }

    /// Has a human-readable form, and another one.
    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Host {
        address: IpAddr,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Flattened {
        #[serde(flatten)]
        host: Host,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    #[serde(untagged)]
    enum Any {
        Host(Host),
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    #[serde(tag = "type")]
    enum Internal {
        Host(Host),
        Named { host: Host },
    }

    #[test]
    fn types_with_a_form_for_people_cross_wherever_they_stand() {
        let host = || Host { address: "::1".parse().unwrap() };
        crosses(host(), Format::MessagePack);
        crosses(Some(host().address), Format::MessagePack);
        crosses(BTreeMap::from([(host().address, vec![host().address])]), Format::MessagePack);
        crosses(Flattened { host: host() }, Format::MessagePack);
        crosses(Any::Host(host()), Format::MessagePack);
        crosses(Internal::Host(host()), Format::MessagePack);
        crosses(Internal::Named { host: host() }, Format::MessagePack);
    }

    /// Arrays in arrays.
    #[derive(Deserialize)]
    struct Nested(#[expect(dead_code, reason = "nobody looks at what is too deep")] Vec<Nested>);

    #[derive(Serialize, Deserialize, Default)]
    struct List {
        next: Option<Box<List>>,
    }

    impl Drop for List {
        /// Without recursion.
        fn drop(&mut self) {
            let mut next = self.next.take();
            while let Some(mut list) = next {
                next = list.next.take();
            }
        }
    }

    fn list(depth: usize) -> List {
        (1..depth).fold(List::default(), |next, _| List { next: Some(Box::new(next)) })
    }

    #[test]
    fn what_is_nested_too_deeply_to_be_decoded_is_not_encoded() {
        for depth in 1..300 {
            let is_decoded = |list| {
                let bytes = rmp_serde::to_vec_named(&list).unwrap();
                decode::<List>(Encoded { format: Format::MessagePack, bytes: &*bytes }).is_ok()
            };
            assert_eq!(encode(list(depth)).is_ok(), is_decoded(list(depth)), "{depth} lists");
        }
        let wraps: [fn(Chain) -> Chain; 7] = [
            |rest| Chain::Link(Box::new(rest)),
            |rest| Chain::Pair((Box::new(rest),)),
            |rest| Chain::Several(0, Box::new(rest)),
            |rest| Chain::Named { rest: Box::new(rest) },
            |rest| Chain::Layered(vec![Some(rest)]),
            |rest| Chain::Map(BTreeMap::from([(1, rest)])),
            |rest| Chain::Map(BTreeMap::from([(1, Chain::Link(Box::new(rest)))])),
        ];
        for (wrap, depth) in wraps.into_iter().flat_map(|wrap| (1..150).map(move |depth| (wrap, depth))) {
            let chain = (0..depth).fold(Chain::End, |rest, _| wrap(rest));
            let bytes = rmp_serde::to_vec_named(&chain).unwrap();
            let is_decoded = decode::<Chain>(Encoded { format: Format::MessagePack, bytes: &*bytes }).is_ok();
            assert_eq!(encode(chain).is_ok(), is_decoded, "{depth} levels, beginning with {:?}", &bytes[..8]);
        }
        assert!(encode(list(127)).is_ok());
        let error = encode(list(128)).unwrap_err().to_string();
        assert!(error.contains("nested more than 127 deep"), "{error}");
    }

    /// Has no containers in its encoding, however deep it is.
    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Deep(Option<Box<Deep>>);

    #[derive(Serialize, Deserialize)]
    enum Chain {
        End,
        Link(Box<Chain>),
        Pair((Box<Chain>,)),
        Several(u8, Box<Chain>),
        Named { rest: Box<Chain> },
        Layered(Vec<Option<Chain>>),
        Map(BTreeMap<u8, Chain>),
    }

    #[test]
    fn no_depth_exhausts_the_stack() {
        let link = |wrap: fn(Chain) -> Chain| (0..20_000).fold(Chain::End, |rest, _| wrap(rest));
        let wraps: [fn(Chain) -> Chain; 5] = [
            |rest| Chain::Link(Box::new(rest)),
            |rest| Chain::Pair((Box::new(rest),)),
            |rest| Chain::Named { rest: Box::new(rest) },
            |rest| Chain::Layered(vec![Some(rest)]),
            |rest| Chain::Map(BTreeMap::from([(1, rest)])),
        ];
        for wrap in wraps {
            // Making and dropping it takes as much stack as it is deep; encoding it must get by with that of any thread.
            let with_large_stack = std::thread::Builder::new().stack_size(64 << 20);
            let check = move || {
                let chain = link(wrap);
                let encode = || rmp_serde::to_vec_named(&strict(&chain)).map_err(|error| error.to_string());
                std::thread::scope(|scope| scope.spawn(encode).join().unwrap())
            };
            let error = with_large_stack.spawn(check).unwrap().join().unwrap().unwrap_err();
            assert!(error.contains("nested"), "{error}");
        }
        let error = encode(list(100_000)).unwrap_err().to_string();
        assert!(error.contains("nested"), "{error}");
        let deep = (0..1_000).fold(Deep(None), |inner, _| Deep(Some(Box::new(inner))));
        assert!(encode(deep).unwrap_err().to_string().contains("nested"));
    }

    #[test]
    fn what_would_become_another_value_is_not_encoded() {
        fn is_refused<T: Serialize + Debug + 'static>(value: T) {
            let text = format!("{value:?}");
            let error = encode(value).expect_err(&text).to_string();
            assert!(error.contains("`Some` around a `") && error.contains("use an enum"), "{text}: {error}");
        }

        #[derive(Serialize, Debug)]
        struct Wrapper(Option<u8>);
        #[derive(Serialize, Debug)]
        #[serde(untagged)]
        enum Either {
            Nothing,
        }

        let error = encode(vec![Some(Option::<u8>::None)]).unwrap_err().to_string();
        assert!(error.contains("`core::option::Option<u8>`"), "{error}");
        is_refused(Some(Option::<u8>::None));
        is_refused(Some(Some(Option::<u8>::None)));
        is_refused(Some(()));
        is_refused(Some(Wrapper(None)));
        is_refused(Some(Either::Nothing));
        is_refused(BTreeMap::from([("key", Some(()))]));
        is_refused(Deep(Some(Box::new(Deep(None)))));

        crosses(Deep(None), Format::MessagePack);
        crosses(Some(Some(1_u8)), Format::MessagePack);
        crosses(Option::<Option<u8>>::None, Format::MessagePack);
        crosses(Some(vec![Option::<u8>::None, Some(1)]), Format::MessagePack);
        crosses(Some((Option::<u8>::None, ())), Format::MessagePack);
        crosses(Some(Result::<(), Option<u8>>::Err(None)), Format::MessagePack);
        crosses(Some(Result::<(), Option<u8>>::Ok(())), Format::MessagePack);
        crosses(Some(std::marker::PhantomData::<u8>), Format::MessagePack);
        crosses(Some(Box::new(String::new())), Format::MessagePack);
    }

    /// Has a length other than it announces.
    #[derive(Debug)]
    struct Misjudged {
        announced: usize,
        elements: Vec<u8>,
    }

    impl Serialize for Misjudged {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(Some(self.announced))?;
            self.elements.iter().try_for_each(|element| seq.serialize_element(element))?;
            seq.end()
        }
    }

    #[test]
    fn a_value_of_another_length_than_it_announces_does_not_arrive_as_another_value() {
        fn is_decoded<T: Serialize + 'static, R: DeserializeOwned + 'static>(value: T) -> bool {
            decode::<R>(encode(value).unwrap()).is_ok()
        }
        for (announced, is_fine) in [(0, false), (1, false), (2, true), (3, false)] {
            let misjudged = || Misjudged { announced, elements: vec![7, 8] };
            assert_eq!(is_decoded::<_, Vec<u8>>(misjudged()), is_fine, "{announced}");
            assert_eq!(is_decoded::<_, (Vec<u8>, u8)>((misjudged(), 9_u8)), is_fine, "{announced}");
            let named = BTreeMap::from([("a", misjudged()), ("b", misjudged())]);
            assert_eq!(is_decoded::<_, BTreeMap<String, Vec<u8>>>(named), is_fine, "{announced}");
        }
        let error = decode::<Vec<u8>>(encode(Misjudged { announced: 1, elements: vec![7, 8] }).unwrap()).unwrap_err();
        assert!(error.to_string().contains("more elements than it had announced"), "{error}");
    }

    #[test]
    fn integers_of_128_bits_cross() {
        crosses((u128::MAX, i128::MIN, Some(u128::MAX)), Format::MessagePack);
        for wide in [0, 65, u64::MAX.into(), u128::from(u64::MAX) + 1] {
            crosses(wide, Format::MessagePack);
            crosses((wide as i128, -(wide as i128)), Format::MessagePack);
        }
    }

    #[test]
    fn an_integer_of_128_bits_does_not_arrive_as_text() {
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Unsigned(u128),
            Signed(i128),
        }

        for either in [Either::Unsigned(65), Either::Unsigned(1 << 62), Either::Signed(65), Either::Signed(1 << 63)] {
            let text = format!("{either:?}");
            assert!(decode::<Either>(encode(either).unwrap()).is_err(), "{text}: serde buffers none");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        fn plain(bytes: &[u8]) -> Encoded<&[u8]> {
            Encoded { format: Format::Plain, bytes }
        }
        assert!(decode::<Vec<u32>>(plain(&[1, 2, 3])).is_err());
        assert!(decode::<String>(plain(&[255])).is_err());
        assert!(decode::<u64>(plain(&[1])).is_err());
        fn packed(bytes: &[u8]) -> Encoded<&[u8]> {
            Encoded { format: Format::MessagePack, bytes }
        }
        assert!(decode::<u64>(packed(&[])).is_err());
        assert!(decode::<Vec<u64>>(packed(&[0xdd, 255, 255, 255, 255])).is_err(), "an array that claims to be huge");
        assert!(decode::<Nested>(packed(&[0x91; 100_000])).is_err(), "arrays in arrays in arrays");
    }
}
