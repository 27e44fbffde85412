//! Without worker processes nothing is encoded.

use crate::error::BoxError;

const UNSUPPORTED: &str = "this crate was built without the feature `processes`";

pub(super) fn append<T>(_value: &T, _to: &mut Vec<u8>) -> Result<(), BoxError> {
    Err(UNSUPPORTED.into())
}

pub(super) fn decode<T>(_bytes: &[u8]) -> Result<T, BoxError> {
    Err(UNSUPPORTED.into())
}
