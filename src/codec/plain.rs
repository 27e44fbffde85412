//! Vectors of numbers within inputs and outputs, at the speed of a copy: for `#[serde(with = "progress_executor::plain")]`.
//!
//! A `Vec<f64>` that is the whole input or output of a task crosses to a worker process as it is. Within a struct,
//! serde passes on its elements one by one, which takes many times longer. With this module, such a field crosses as
//! bytes, too. For a `Vec<u8>`, the crate [`serde_bytes`](https://docs.rs/serde_bytes) does the same.
//!
//! The lowest byte of each number comes first, on any machine.
//!
//! # Examples
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Signal {
//!     rate: u32,
//!     #[serde(with = "progress_executor::plain")]
//!     samples: Vec<f64>,
//! }
//! # let signal = Signal { rate: 7, samples: vec![1.5, -0.25] };
//! # let again: Signal = serde_json::from_str(&serde_json::to_string(&signal).unwrap()).unwrap();
//! # assert_eq!((again.rate, again.samples), (7, vec![1.5, -0.25]));
//! ```

use std::fmt;
use std::marker::PhantomData;

use serde_core::de::{Error, SeqAccess, Visitor};
use serde_core::{Deserializer, Serializer};

/// A number that is encoded as its bytes alone.
pub trait Number: Copy + private::Bytes {}

mod private {
    pub trait Bytes: Sized {
        const SIZE: usize;

        fn put(self, to: &mut [u8]);
        /// Takes exactly [`SIZE`](Self::SIZE) bytes.
        fn get(from: &[u8]) -> Self;
    }
}

/// Calls a macro with the types of all numbers.
macro_rules! for_numbers {
    ($do:ident!($($argument:expr),*)) => {
        $do! { $($argument),*; i8 u16 i16 u32 i32 u64 i64 u128 i128 f32 f64 }
    };
}
pub(super) use for_numbers;

macro_rules! numbers {
    (; $($number:ident)*) => {
        $(impl Number for $number {}

        impl private::Bytes for $number {
            const SIZE: usize = size_of::<Self>();

            #[inline]
            fn put(self, to: &mut [u8]) {
                to.copy_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn get(from: &[u8]) -> Self {
                let mut bytes = [0; Self::SIZE];
                bytes.copy_from_slice(from);
                Self::from_le_bytes(bytes)
            }
        })*
    };
}

for_numbers!(numbers!());

pub(crate) fn to_bytes<N: Number>(numbers: &[N]) -> Vec<u8> {
    let mut bytes = vec![0; numbers.len() * N::SIZE];
    for (place, number) in bytes.chunks_exact_mut(N::SIZE).zip(numbers) {
        number.put(place);
    }
    bytes
}

/// `None` if the bytes end within a number.
pub(crate) fn from_bytes<N: Number>(bytes: &[u8]) -> Option<Vec<N>> {
    let places = bytes.chunks_exact(N::SIZE);
    places.remainder().is_empty().then(|| places.map(N::get).collect())
}

/// Serializes numbers as bytes.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<N: Number, S: Serializer>(numbers: &[N], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(&to_bytes(numbers))
}

/// Deserializes what [`serialize`] has written.
///
/// # Errors
///
/// Those of the deserializer, and one if the bytes end within a number.
pub fn deserialize<'de, N: Number, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<N>, D::Error> {
    deserializer.deserialize_bytes(Numbers(PhantomData))
}

struct Numbers<N>(PhantomData<N>);

impl<'de, N: Number> Visitor<'de> for Numbers<N> {
    type Value = Vec<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of numbers")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<N>, E> {
        from_bytes(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))
    }

    /// Human-readable formats have no bytes.
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<N>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = elements.next_element()? {
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}

#[cfg(all(test, feature = "processes"))]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};

    use super::Number;
    use crate::codec::{decode, encode};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(bound = "")]
    struct Field<N: Number>(#[serde(with = "crate::codec::plain")] Vec<N>);

    fn crosses<N: Number + PartialEq + Debug + 'static>(numbers: &[N])
    where
        Field<N>: DeserializeOwned,
    {
        let field = Field(numbers.to_vec());
        let encoded = encode(field.clone()).unwrap();
        assert_eq!(decode::<Field<N>>(encoded).unwrap(), field);
    }

    #[test]
    fn numbers_come_out_as_they_went_in() {
        crosses::<f64>(&[]);
        crosses(&[1.5_f64, f64::MIN, f64::INFINITY]);
        crosses(&[f32::MIN, 0.0]);
        crosses(&[i8::MIN, 1]);
        crosses(&[u16::MAX, 1]);
        crosses(&[i128::MIN, 1]);
    }

    #[test]
    fn bytes_that_end_within_a_number_are_an_error() {
        let encoded = encode(Field(vec![1_u16, 2, 3])).unwrap();
        assert!(decode::<Field<u32>>(encoded).unwrap_err().to_string().contains("invalid length 6"));
    }
}
