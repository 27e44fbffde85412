//! Any bytes, in both formats, as values of all kinds of types.
//!
//! The file is compiled again here, because it is private.

#![no_main]
#![allow(dead_code)] // Not every function of the file is called.

use std::alloc::System;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use codec::{Encoded, Format, decode, encode};

#[path = "../../src/codec/mod.rs"]
mod codec;

/// What the file needs of its crate.
mod error {
    pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

    /// A panic is a finding.
    pub(crate) fn guard<T>(call: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
        call()
    }
}

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How much serde may allocate at once for a sequence, whatever length that claims to have.
const ADVANCE: usize = 1024 * 1024;
/// How deeply sequences may be nested.
const DEPTH: usize = 130;
/// How much larger than its bytes a value can be: an element may take one byte there, and some hundreds here, which
/// grow with room for as many again.
const GROWTH: usize = 1024;

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Record {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    nothing: Option<u8>,
    #[serde(flatten)]
    inner: Inner,
    #[serde(rename = "kind", alias = "type")]
    adjacent: Adjacent,
    untagged: Vec<Untagged>,
    map: BTreeMap<u32, (char, f32)>,
    #[serde(skip)]
    skipped: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, Untagged>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Inner {
    text: Cow<'static, str>,
    #[serde(default)]
    large: u64,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct Strict {
    number: NonZeroU8,
    array: [u16; 3],
    unit: Unit,
    wrapped: Wrapped,
    result: Result<i128, String>,
    duration: Duration,
    path: PathBuf,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Unit;

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(transparent)]
struct Wrapped(Option<Box<Strict>>);

#[derive(Serialize, Deserialize, PartialEq, Debug)]
enum External {
    Unit,
    Newtype(u64),
    Tuple(i8, String),
    Struct {
        x: f64,
        y: Option<bool>,
    },
    Nested(Box<External>),
    #[serde(other)]
    Other,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Internal {
    NoContent,
    ManyFields { x: i64, more: Vec<Internal> },
    AroundAnother(Inner),
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(tag = "type", content = "value")]
enum Adjacent {
    Unit,
    Point { x: i32, y: i32 },
    List(Vec<Adjacent>),
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(untagged)]
enum Untagged {
    Unit,
    Number(i64),
    Float(f64),
    Text(String),
    List(Vec<Untagged>),
    Map(BTreeMap<String, Untagged>),
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Tree(Vec<Tree>);

fuzz_target!(|bytes: &[u8]| {
    let Some((&[kind, format], bytes)) = bytes.split_first_chunk() else { return };
    let format = if format & 1 == 0 { Format::MessagePack } else { Format::Plain };
    let parcel = Encoded { format, bytes: bytes.into() };
    match kind % 32 {
        0 => as_text::<u64>(parcel),
        1 => as_text::<(i8, u16, i32, f32, bool, char)>(parcel),
        2 => as_text::<u128>(parcel),
        3 => as_text::<String>(parcel),
        4 => as_text::<Vec<u8>>(parcel),
        5 => as_text::<Vec<u32>>(parcel),
        6 => as_text::<Vec<f64>>(parcel),
        7 => as_text::<Vec<i128>>(parcel),
        8 => as_text::<Vec<Vec<u16>>>(parcel),
        9 => as_text::<Vec<Vec<Vec<u8>>>>(parcel),
        10 => as_value::<HashMap<String, Vec<i64>>>(parcel),
        11 => as_value::<HashMap<u32, HashMap<char, String>>>(parcel),
        12 => as_text::<Record>(parcel),
        13 => as_text::<Strict>(parcel),
        14 => as_text::<External>(parcel),
        15 => as_text::<Internal>(parcel),
        16 => as_text::<Adjacent>(parcel),
        17 => as_text::<Untagged>(parcel),
        18 => as_text::<Tree>(parcel),
        19 => as_text::<Vec<()>>(parcel),
        20 => as_text::<Vec<Unit>>(parcel),
        21 => as_text::<Vec<[u8; 0]>>(parcel),
        22 => as_text::<Vec<Option<String>>>(parcel),
        23 => as_text::<Vec<Record>>(parcel),
        24 => as_value::<HashMap<String, Internal>>(parcel),
        25 => as_text::<BTreeMap<Vec<u8>, External>>(parcel),
        26 => as_text::<Vec<Strict>>(parcel),
        27 => as_text::<Vec<f32>>(parcel),
        28 => as_text::<Vec<i8>>(parcel),
        29 => as_text::<Option<Vec<i16>>>(parcel),
        30 => as_text::<()>(parcel),
        _ => as_text::<Result<Vec<Untagged>, String>>(parcel),
    }
});

trait Value: Serialize + DeserializeOwned + Debug + 'static {}

impl<T: Serialize + DeserializeOwned + Debug + 'static> Value for T {}

/// For values that may hold a NaN, which is not equal to itself.
fn as_text<T: Value>(parcel: Encoded) {
    check::<T, _>(parcel, |value| format!("{value:?}"));
}

/// For values whose elements have no order.
fn as_value<T: Value + PartialEq>(parcel: Encoded) {
    check::<T, _>(parcel, |value| value);
}

/// Checks that a decoded value is the same after it was encoded and decoded again.
fn check<T: Value, S: PartialEq + Debug>(parcel: Encoded, shown: impl Fn(T) -> S) {
    let (len, copy) = (parcel.bytes.len(), parcel.clone());
    let region = Region::new(ALLOCATOR);
    let value = decode::<T>(parcel);
    let taken = region.change().bytes_allocated;
    assert!(taken <= DEPTH * ADVANCE + GROWTH * len, "{taken} bytes of memory were taken for {len} bytes");
    let Ok(value) = value else { return };
    let packed = encode(value).expect("what was decoded can be encoded");
    let value = decode::<T>(copy).expect("what was decoded can be decoded once more");
    let again = decode::<T>(packed).expect("what was encoded can be decoded");
    assert_eq!(shown(again), shown(value));
}
