//! A value that many inputs share, as users see it.

use std::any::TypeId;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde_core::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde_core::ser::{Error as _, SerializeStruct};
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::encode_ref;
use crate::codec::plain;
use crate::codec::references::{self, Image, OF_ANOTHER_TYPE};

/// A value that many inputs share: encoded once, sent once to each worker process, and kept there for as long as it is needed.
///
/// It can stand anywhere within the input of a task, and can be cloned at no cost: within this process it is a counted
/// reference, like an [`Arc`], and a task on a thread gets the very value. Use it for a model, a table, a configuration
/// that each of a thousand tasks needs.
///
/// - A worker receives it before the first input that refers to it, and decodes it when it is first asked for. A worker
///   that replaces a lost one receives it again.
/// - When the last `Shared` of it in this program is gone, and no waiting task refers to it, workers are told to forget
///   it. A task that has it keeps it to its end.
/// - The program keeps the value and, once it was first sent to a worker, its encoding.
/// - Everywhere else, it is serialized as the value itself: in outputs, in the input of an
///   [initializer](crate::ProcessPoolBuilder::initializer), within another `Shared`, with other crates.
///
/// # Errors
///
/// If it cannot be encoded, or takes more than [`max_frame_bytes`](crate::ProcessPoolBuilder::max_frame_bytes), no input that
/// refers to it can be sent: such tasks end with [`TaskErrorKind::Encode`](crate::TaskErrorKind::Encode). If a worker cannot
/// decode it, they end with [`TaskErrorKind::Decode`](crate::TaskErrorKind::Decode).
///
/// # Examples
///
/// ```
/// use progress_executor::{ExecutorExt, Shared, TaskError, TaskResult, ThreadPoolExecutor, Updater};
///
/// fn count_word((text, word): (Shared<String>, String), _: &Updater) -> TaskResult<usize> {
///     Ok(text.split_whitespace().filter(|it| *it == word).count())
/// }
///
/// let executor = ThreadPoolExecutor::new(2); // or a `ProcessPoolExecutor`, which sends the text once to each worker
/// let text = Shared::new("a rose is a rose is a rose".to_owned());
/// let inputs = ["rose", "is", "thorn"].map(|word| (text.clone(), word.to_owned()));
/// let counts: Result<Vec<usize>, TaskError> = executor.map(count_word, inputs).blocking().collect();
/// assert_eq!(counts?, [3, 2, 0]);
/// # Ok::<(), TaskError>(())
/// ```
#[doc(alias("memmap", "broadcast"))]
pub struct Shared<T>(Arc<Inner<T>>);

struct Inner<T> {
    value: T,
    /// Its encoding, made when it is first sent.
    image: OnceLock<Result<Arc<Image>, String>>,
}

impl<T> Shared<T> {
    /// Shares a value.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Shared;
    ///
    /// let numbers = Shared::new(vec![1, 2, 3]);
    /// assert_eq!(numbers.iter().sum::<i32>(), 6); // as if it was the vector
    /// ```
    pub fn new(value: T) -> Self {
        Self(Arc::new(Inner { value, image: OnceLock::new() }))
    }
}

impl<T: Serialize + 'static> Shared<T> {
    fn image(&self) -> Result<&Arc<Image>, &str> {
        let make = || {
            // Shared values within it are encoded in full.
            let encoded = references::without(|| encode_ref(&self.0.value));
            encoded.map(Image::new).map_err(|error| error.to_string())
        };
        self.0.image.get_or_init(make).as_ref().map_err(String::as_str)
    }
}

impl<T: Serialize + 'static> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if references::are_wanted() {
            let image = self.image().map_err(S::Error::custom)?;
            references::add(image).map_err(S::Error::custom)?;
            return Reference::new::<T>(image).serialize(serializer);
        }
        self.0.value.serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned + Send + Sync + 'static> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if let Some(store) = references::store() {
            let id = Reference::deserialize(deserializer)?.id_of::<T>().map_err(D::Error::custom)?;
            let shared: Arc<Self> = store.get(id, Self::new).map_err(D::Error::custom)?;
            return Ok((*shared).clone());
        }
        T::deserialize(deserializer).map(Self::new)
    }
}

/// Stands for the value with this id. As a struct, it can be flattened and be the content of an internally tagged enum,
/// as the value can. Variants of an untagged enum that hold numbers, or shared values of other types, do not match it.
struct Reference {
    id: u64,
    /// Tells the types of shared values apart, in all processes of this program.
    value_type: u64,
}

impl Reference {
    const NAME: &str = "Shared";
    /// No field of a user's type has this name.
    const FIELD: &str = "\0";

    fn new<T: 'static>(image: &Image) -> Self {
        Self { id: image.id, value_type: number_of_type::<T>() }
    }

    /// The id of the value, if it is a `T`.
    fn id_of<T: 'static>(&self) -> Result<u64, &'static str> {
        if self.value_type == number_of_type::<T>() { Ok(self.id) } else { Err(OF_ANOTHER_TYPE) }
    }
}

fn number_of_type<T: 'static>() -> u64 {
    let mut hasher = DefaultHasher::new();
    TypeId::of::<T>().hash(&mut hasher);
    hasher.finish()
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct(Self::NAME, 1)?;
        fields.serialize_field(Self::FIELD, &Numbers([self.id, self.value_type]))?;
        fields.end()
    }
}

/// The only field: as bytes, since those are nested no deeper than a number, and taken for nothing else.
struct Numbers([u64; 2]);

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        plain::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let numbers = plain::deserialize::<u64, D>(deserializer)?;
        let count = numbers.len();
        numbers.try_into().map(Self).map_err(|_| D::Error::invalid_length(count, &ReferenceVisitor))
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct(Self::NAME, &[Self::FIELD], ReferenceVisitor)
    }
}

impl From<Numbers> for Reference {
    fn from(Numbers([id, value_type]): Numbers) -> Self {
        Self { id, value_type }
    }
}

struct ReferenceVisitor;

impl<'de> Visitor<'de> for ReferenceVisitor {
    type Value = Reference;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reference to a shared value")
    }

    /// If several are flattened, the fields of the others follow.
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Reference, A::Error> {
        let numbers = fields.next_key::<Field>()?.map(|Field| fields.next_value::<Numbers>()).transpose()?;
        numbers.map(Reference::from).ok_or_else(|| A::Error::missing_field(Reference::FIELD))
    }

    /// For formats that do not name fields.
    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Reference, A::Error> {
        let numbers = fields.next_element::<Numbers>()?;
        numbers.map(Reference::from).ok_or_else(|| A::Error::invalid_length(0, &self))
    }
}

/// The name of the only field.
struct Field;

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(Self)
    }
}

impl Visitor<'_> for Field {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ReferenceVisitor.expecting(f)
    }

    fn visit_str<E: serde_core::de::Error>(self, name: &str) -> Result<Self, E> {
        if name == Reference::FIELD { Ok(self) } else { Err(E::unknown_field(name, &[Reference::FIELD])) }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> AsRef<T> for Shared<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.value == other.0.value
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.value.hash(state);
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}
