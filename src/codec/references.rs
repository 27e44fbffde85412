//! Values that many inputs share: each crosses once to each process that needs it.
//!
//! A [`Shared`](super::shared::Shared) within an input is encoded as a number. Which values an input refers to is found
//! out while the input is encoded, and what the numbers stand for must be known while it is decoded. Serde carries no
//! context along, so thread-local variables do, while a thread encodes or decodes.
//!
//! ```text
//!   the program                                             a worker
//!
//!   Shared ──► value                                        Store: id ──► bytes, decoded when it is asked for first
//!     └──────► Image: id, bytes ── sent once to a worker ──►  ▲
//!                ▲                                            │
//!   a task ──────┘ ── its input, which has the id in it ──────┘
//!
//!   no Shared and no task has the image any more ─────────► forgotten; a task that has the value keeps it to its end
//! ```

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use serde_core::de::DeserializeOwned;

use crate::codec::{Encoded, EncodedCow, Format, decode};
use crate::error::{BoxError, guard};

/// A shared value as it is sent.
pub(crate) struct Image {
    /// Unique within the process.
    pub(crate) id: u64,
    pub(crate) format: Format,
    pub(crate) bytes: Arc<Vec<u8>>,
    /// The keepers that have sent it, to be told when it is no longer needed.
    keepers: Mutex<Vec<Weak<dyn Keeper>>>,
}

/// The shared values that inputs refer to.
pub(crate) type References = Vec<Arc<Image>>;

/// What an input refers to, as far as it is encoded.
struct Found {
    references: References,
    /// The most bytes that the image of a shared value may have.
    max_bytes: u64,
}

/// Something that has sent shared values elsewhere.
pub(crate) trait Keeper: Send + Sync {
    /// This value is no longer needed. Called by any thread, with any lock held but the keeper's own.
    fn forget(&self, image: u64);
}

thread_local! {
    /// What the input that is being encoded refers to. It has no destructor, so that it can be used until its thread
    /// has ended.
    static REFERENCES: RefCell<ManuallyDrop<Option<Found>>> = const { RefCell::new(ManuallyDrop::new(None)) };
    /// What the inputs that this thread decodes may refer to.
    static STORE: RefCell<Option<Arc<Store>>> = const { RefCell::new(None) };
    static IS_DECODING: Cell<bool> = const { Cell::new(false) };
}

impl Image {
    pub(crate) fn new(Encoded { format, bytes }: Encoded) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { id, format, bytes: bytes.into(), keepers: Mutex::default() })
    }

    /// Registers `keeper`, to be told when the value is no longer needed.
    pub(crate) fn tell(&self, keeper: &Weak<dyn Keeper>) {
        let mut keepers = lock(&self.keepers);
        if !keepers.iter().any(|other| other.ptr_eq(keeper)) {
            keepers.push(keeper.clone());
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for keeper in lock(&self.keepers).drain(..).filter_map(|keeper| keeper.upgrade()) {
            keeper.forget(self.id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Restores the state of a thread when dropped, even if code of the user panics.
struct Restore<F: FnMut()>(F);

impl<F: FnMut()> Drop for Restore<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn replace_found(found: Option<Found>) -> Option<Found> {
    ManuallyDrop::into_inner(REFERENCES.replace(ManuallyDrop::new(found)))
}

/// Encodes something with shared values as references, none of which may take more than `max_bytes`. Also returns those values.
pub(crate) fn with<R>(max_bytes: u64, encode: impl FnOnce() -> R) -> (R, References) {
    let mut before = replace_found(Some(Found { references: Vec::new(), max_bytes }));
    let mut references = Vec::new();
    let restore = Restore(|| references = replace_found(before.take()).map_or_else(Vec::new, |it| it.references));
    let result = encode();
    drop(restore);
    (result, references)
}

/// Encodes something with shared values in full.
pub(crate) fn without<R>(encode: impl FnOnce() -> R) -> R {
    let mut before = replace_found(None);
    let _restore = Restore(|| drop(replace_found(before.take())));
    encode()
}

/// Runs something else while this thread may be encoding or decoding an input: user code that waits there can run any task.
/// Shared values that such a task encodes or decodes are whole.
#[inline]
pub(crate) fn aside<R>(run: impl FnOnce() -> R) -> R {
    if are_wanted() || IS_DECODING.get() { without(|| decoding(false, run)) } else { run() }
}

/// Whether a shared value must be encoded as a reference.
pub(crate) fn are_wanted() -> bool {
    REFERENCES.with_borrow(|found| found.is_some())
}

/// Notes that what is being encoded refers to this, unless it is too large to be sent.
pub(crate) fn add(image: &Arc<Image>) -> Result<(), String> {
    REFERENCES.with_borrow_mut(|found| {
        let Some(Found { references, max_bytes }) = found.as_mut() else { return Ok(()) };
        if references.iter().any(|other| other.id == image.id) {
            return Ok(());
        }
        let len = image.bytes.len() as u64;
        if len > *max_bytes {
            return Err(format!("a value that it shares takes {len} bytes, where {max_bytes} are allowed"));
        }
        references.push(image.clone());
        Ok(())
    })
}

/// The shared values that what is being encoded has referred to so far.
pub(crate) fn known() -> References {
    REFERENCES.with_borrow(|found| found.as_ref().map_or_else(Vec::new, |it| it.references.clone()))
}

/// Sets where inputs that are decoded on this thread find the shared values that they refer to.
pub(crate) fn use_store(store: Option<Arc<Store>>) {
    // A thread that is about to end decodes no input any more.
    let _ = STORE.try_with(|it| it.replace(store));
}

/// Where the input that is being decoded finds what it refers to; `None` outside of an input.
pub(crate) fn store() -> Option<Arc<Store>> {
    if IS_DECODING.get() { STORE.try_with(|store| store.borrow().clone()).ok()? } else { None }
}

/// Decodes an input, which may refer to shared values that this process was sent.
pub(crate) fn decode_input<T: DeserializeOwned + 'static>(input: EncodedCow<'_>) -> Result<T, BoxError> {
    decoding(true, || decode(input))
}

fn decoding<R>(has_references: bool, decode: impl FnOnce() -> R) -> R {
    let before = IS_DECODING.replace(has_references);
    let _restore = Restore(|| IS_DECODING.set(before));
    decode()
}

pub(crate) const OF_ANOTHER_TYPE: &str = "a value that it shares is one of another type";

/// The shared values that this process was sent.
#[derive(Default)]
pub(crate) struct Store(Mutex<HashMap<u64, Arc<Stored>>>);

/// One of them, decoded when it is first asked for.
pub(crate) struct Stored {
    encoded: Mutex<Option<Encoded>>,
    decoded: OnceLock<Result<Arc<dyn Any + Send + Sync>, String>>,
}

impl Store {
    pub(crate) fn keep(&self, id: u64, encoded: Encoded) {
        let stored = Stored { encoded: Mutex::new(Some(encoded)), decoded: OnceLock::new() };
        lock(&self.0).insert(id, Arc::new(stored));
    }

    /// Returns what the caller must drop without a lock, as that runs code of the user.
    pub(crate) fn forget(&self, id: u64) -> Option<Arc<Stored>> {
        lock(&self.0).remove(&id)
    }

    /// The value with this id, made by `share` when it is first asked for.
    pub(crate) fn get<T: DeserializeOwned + 'static, S: Any + Send + Sync>(
        &self,
        id: u64,
        share: impl FnOnce(T) -> S,
    ) -> Result<Arc<S>, String> {
        let stored = lock(&self.0).get(&id).cloned();
        let stored = stored.ok_or("a value that it shares was not sent")?;
        let decoded = stored.decoded.get_or_init(|| {
            let encoded = lock(&stored.encoded).take().unwrap_or_default();
            // Shared values within it were encoded in full.
            // Done once, whatever the result: all who ask are told of a panic.
            let value = guard(|| decoding(false, || decode::<T>(encoded))).map_err(|error| error.to_string())?;
            Ok(Arc::new(share(value)))
        });
        decoded.clone()?.downcast().map_err(|_| OF_ANOTHER_TYPE.into())
    }
}
