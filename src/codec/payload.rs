//! The bytes of encoded values.

use std::borrow::Cow;
use std::fmt;
use std::mem;
use std::ops::Deref;
use std::sync::Arc;

/// Up to this many bytes take no memory of their own: the enum is no larger than a vector.
const TINY: usize = 15;
/// From this size on, bytes are not copied to be sent.
pub(crate) const LARGE: usize = 32 * 1024;

/// The bytes of an encoded value, which may be sent more than once.
#[derive(Clone)]
pub(crate) enum Payload {
    /// The number of bytes, and the bytes.
    Tiny(u8, [u8; TINY]),
    Small(Vec<u8>),
    Large(Arc<Vec<u8>>),
}

impl Payload {
    /// Lends the bytes to be decoded. If a copy would take memory, they are moved out instead, which leaves this empty.
    pub(crate) fn lend(&mut self) -> Cow<'_, [u8]> {
        if let Self::Tiny(..) = self { Cow::Borrowed(self) } else { Cow::Owned(mem::take(self).into()) }
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Tiny(len, bytes) => &bytes[..usize::from(*len)],
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Tiny(0, [0; TINY])
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() < LARGE { Self::Small(bytes) } else { Self::Large(Arc::new(bytes)) }
    }
}

/// Takes no more memory than it needs.
impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        let mut tiny = [0; TINY];
        match tiny.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Self::Tiny(bytes.len() as u8, tiny)
            }
            None => bytes.to_vec().into(),
        }
    }
}

impl From<Payload> for Vec<u8> {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Tiny(..) => payload.to_vec(),
            Payload::Small(bytes) => bytes,
            Payload::Large(bytes) => Arc::unwrap_or_clone(bytes),
        }
    }
}

impl From<Payload> for Arc<Vec<u8>> {
    fn from(payload: Payload) -> Self {
        if let Payload::Large(bytes) = payload { bytes } else { Arc::new(payload.into()) }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{LARGE, Payload, TINY};

    #[test]
    fn it_is_no_larger_than_a_vector() {
        assert_eq!(size_of::<Payload>(), size_of::<Vec<u8>>());
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        for len in [0, 1, TINY, TINY + 1, LARGE - 1, LARGE, LARGE + 1] {
            let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
            for mut payload in [Payload::from(&*bytes), Payload::from(bytes.clone())] {
                assert_eq!(*payload, *bytes);
                assert_eq!(Vec::from(payload.clone()), bytes);
                let is_tiny = matches!(payload, Payload::Tiny(..));
                assert_eq!(payload.lend(), bytes);
                assert_eq!(*payload == *bytes, is_tiny || len == 0);
            }
        }
    }

    #[test]
    fn only_few_bytes_are_copied() {
        let bytes = vec![7; TINY + 1];
        let place = bytes.as_ptr();
        let mut payload = Payload::from(bytes);
        let Cow::Owned(bytes) = payload.lend() else { panic!("it was copied to be lent") };
        assert_eq!(bytes.as_ptr(), place);
        assert!(matches!(Payload::from(&[7; TINY][..]).lend(), Cow::Borrowed(_)));
    }
}
