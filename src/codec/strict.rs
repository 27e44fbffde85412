//! Refuses to encode what would be decoded as something else, or not at all: values that are nested too deeply, and
//! options whose layers MessagePack cannot tell apart.
//!
//! It is a [`Serializer`] around that of MessagePack, which does neither. What a `Serialize` does before it calls its
//! serializer goes unnoticed: recursion there is not bounded.

use std::any::type_name;
use std::fmt::Display;

use serde_core::ser::{
    Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant,
};
use serde_core::{Serialize, Serializer};

/// How deeply values may be nested, so that neither encoding nor decoding them exhausts the stack.
pub(super) const MAX_DEPTH: u16 = 128;

/// How deeply calls of `serialize` may be nested. Most types take two or three per container, since an option or a
/// newtype needs a call too, although no place in the encoding.
const MAX_CALLS: u16 = 4 * MAX_DEPTH;

/// The value, encoded only if it passes the checks.
pub(super) fn strict<T: Serialize>(value: &T) -> impl Serialize + '_ {
    Part { value, nesting: Nesting { containers: MAX_DEPTH, calls: MAX_CALLS }, some_of: None }
}

struct Strict<S> {
    inner: S,
    nesting: Nesting,
    /// The type of what is serialized, if that is the content of a `Some`.
    some_of: Option<&'static str>,
}

/// How much deeper the nesting may become.
#[derive(Clone, Copy)]
struct Nesting {
    /// Of arrays and maps, which are what the decoder limits.
    containers: u16,
    calls: u16,
}

impl<S: Serializer> Strict<S> {
    /// Refuses a value that is encoded like `None`, if it is the content of a `Some`.
    #[inline]
    fn check_nil(&self) -> Result<(), S::Error> {
        self.some_of.map_or(Ok(()), |content| Err(indistinct(content)))
    }
}

impl Nesting {
    #[inline]
    fn enter_call<E: Error>(self) -> Result<Self, E> {
        match self.calls {
            0 => Err(too_deep()),
            calls => Ok(Self { calls: calls - 1, ..self }),
        }
    }

    #[inline]
    fn enter_container<E: Error>(self) -> Result<Self, E> {
        match self.containers {
            // As the decoder counts.
            0 | 1 => Err(too_deep()),
            containers => Self { containers: containers - 1, ..self }.enter_call(),
        }
    }

    /// A variant is a map around the array or the map of its fields.
    #[inline]
    fn enter_variant<E: Error>(self) -> Result<Self, E> {
        self.enter_container()?.enter_container()
    }
}

#[cold]
fn too_deep<E: Error>() -> E {
    E::custom(format_args!("it is nested more than {} deep", MAX_DEPTH - 1))
}

#[cold]
fn indistinct<E: Error>(content: &str) -> E {
    E::custom(format_args!(
        "it has a `Some` around a `{content}` that is encoded as nothing, which would be decoded as `None`: use an enum \
         with a variant for each case instead"
    ))
}

/// A part of a value.
struct Part<T> {
    value: T,
    nesting: Nesting,
    some_of: Option<&'static str>,
}

impl<T: Serialize> Serialize for Part<T> {
    #[inline]
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        let &Self { ref value, nesting, some_of } = self;
        value.serialize(Strict { inner, nesting, some_of })
    }
}

macro_rules! scalars {
    ($($method:ident($scalar:ty))*) => {
        $(#[inline]
        fn $method(self, value: $scalar) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        })*
    };
}

macro_rules! containers {
    ($($enter:ident: $method:ident($($name:ident: $argument:ty),*) -> $container:ident;)*) => {
        $(#[inline]
        fn $method(self, $($name: $argument),*) -> Result<Parts<S::$container>, S::Error> {
            let nesting = self.nesting.$enter()?;
            Ok(Parts { inner: self.inner.$method($($name),*)?, nesting })
        })*
    };
}

impl<S: Serializer> Serializer for Strict<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<S::SerializeSeq>;
    type SerializeTuple = Parts<S::SerializeTuple>;
    type SerializeTupleStruct = Parts<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<S::SerializeTupleVariant>;
    type SerializeMap = Parts<S::SerializeMap>;
    type SerializeStruct = Parts<S::SerializeStruct>;
    type SerializeStructVariant = Parts<S::SerializeStructVariant>;

    scalars! {
        serialize_bool(bool)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_f32(f32) serialize_f64(f64)
        serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_unit_struct(&'static str)
    }

    containers! {
        enter_container: serialize_seq(len: Option<usize>) -> SerializeSeq;
        enter_container: serialize_tuple(len: usize) -> SerializeTuple;
        enter_container: serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        enter_variant: serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> SerializeTupleVariant;
        enter_container: serialize_map(len: Option<usize>) -> SerializeMap;
        enter_container: serialize_struct(name: &'static str, len: usize) -> SerializeStruct;
        enter_variant: serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> SerializeStructVariant;
    }

    /// 128 bits are encoded as bytes, which serde takes for text where it buffers what it decodes: only if they are needed.
    #[inline]
    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.inner.serialize_i64(value),
            (_, Ok(value)) => self.inner.serialize_u64(value),
            _ => self.inner.serialize_i128(value),
        }
    }

    #[inline]
    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        match u64::try_from(value) {
            Ok(value) => self.inner.serialize_u64(value),
            Err(_) => self.inner.serialize_u128(value),
        }
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.check_nil()?;
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.check_nil()?;
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let nesting = self.nesting.enter_call()?;
        self.inner.serialize_some(&Part { value, nesting, some_of: Some(type_name::<T>()) })
    }

    #[inline]
    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error>
    where
        T: Serialize + ?Sized,
    {
        // Its content is encoded with nothing around it.
        let (nesting, some_of) = (self.nesting.enter_call()?, self.some_of);
        self.inner.serialize_newtype_struct(name, &Part { value, nesting, some_of })
    }

    #[inline]
    fn serialize_newtype_variant<T>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error>
    where
        T: Serialize + ?Sized,
    {
        let nesting = self.nesting.enter_container()?;
        self.inner.serialize_newtype_variant(name, index, variant, &Part { value, nesting, some_of: None })
    }

    #[inline]
    fn collect_seq<I>(self, values: I) -> Result<S::Ok, S::Error>
    where
        I: IntoIterator<Item: Serialize>,
    {
        let nesting = self.nesting.enter_container()?;
        self.inner.collect_seq(Values { values: values.into_iter(), nesting })
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    /// What serde buffers, for `flatten` and for untagged and internally tagged enums, claims to be human-readable when
    /// it is decoded, wherever it comes from.
    #[inline]
    fn is_human_readable(&self) -> bool {
        true
    }
}

/// The values of a sequence, for the inner serializer to iterate over. For numbers, this is as fast as without checks,
/// unlike serializing them one by one here, or iterating with `map`.
struct Values<I> {
    values: I,
    nesting: Nesting,
}

impl<I: Iterator> Iterator for Values<I> {
    type Item = Part<I::Item>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let value = self.values.next()?;
        Some(Part { value, nesting: self.nesting, some_of: None })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.values.size_hint()
    }
}

/// The parts of an array or a map.
struct Parts<C> {
    inner: C,
    nesting: Nesting,
}

impl<C> Parts<C> {
    #[inline]
    fn part<T>(&self, value: T) -> Part<T> {
        Part { value, nesting: self.nesting, some_of: None }
    }
}

/// Passes each value within a container on as a part of it.
macro_rules! impl_parts {
    ($($container:ident { $($method:ident($($key:ident)?)),+ $(; $skip:ident)? })*) => {
        $(impl<C: $container> $container for Parts<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            $(#[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, $($key: &'static str,)? value: &T) -> Result<(), C::Error> {
                let part = self.part(value);
                self.inner.$method($($key,)? &part)
            })+

            $(#[inline]
            fn $skip(&mut self, key: &'static str) -> Result<(), C::Error> {
                self.inner.$skip(key)
            })?

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
}

impl_parts! {
    SerializeSeq { serialize_element() }
    SerializeTuple { serialize_element() }
    SerializeTupleStruct { serialize_field() }
    SerializeTupleVariant { serialize_field() }
    SerializeMap { serialize_key(), serialize_value() }
    SerializeStruct { serialize_field(key); skip_field }
    SerializeStructVariant { serialize_field(key); skip_field }
}
