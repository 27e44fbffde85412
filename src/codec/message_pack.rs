//! The encoding of values that are not sent as they are.

use rmp_serde::decode::Error;
use serde_core::Serialize;
use serde_core::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};

use crate::codec::depth::is_deeper_than;
use crate::codec::strict::{MAX_DEPTH, strict};
use crate::error::BoxError;

/// If the value cannot be encoded, the caller must cut off what was written of it.
pub(super) fn append<T: Serialize>(value: &T, to: &mut Vec<u8>) -> Result<(), BoxError> {
    Ok(rmp_serde::encode::write_named(to, &strict(value))?)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BoxError> {
    if is_deeper_than(usize::from(MAX_DEPTH) - 1, bytes) {
        return Err(format!("it is nested more than {} deep", MAX_DEPTH - 1).into());
    }
    let mut bytes = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
    bytes.set_max_depth(MAX_DEPTH.into());
    let value = T::deserialize(&mut bytes)?;
    if has_ended(&mut bytes) { Ok(value) } else { Err(LONGER.into()) }
}

/// What was decoded is then only the beginning of the value, or has parts in the wrong places.
const LONGER: &str = "it is longer than the lengths in it say: a `Serialize` wrote more elements than it had announced";

fn has_ended<'de>(bytes: impl Deserializer<'de, Error = Error>) -> bool {
    matches!(IgnoredAny::deserialize(bytes), Err(Error::InvalidMarkerRead(_)))
}
