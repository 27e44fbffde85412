//! Calls of foreign code on threads that must go on.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls foreign code; `None` if it panicked.
pub(crate) fn quietly<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(drop_payload).ok()
}

/// Drops a value of the user, whose `drop` may panic.
pub(crate) fn drop_quietly<T>(value: T) {
    let _ = quietly(|| drop(value));
}

/// Drops each value on its own: within a collection, a second `drop` that panics would abort the program.
pub(crate) fn drop_each_quietly<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(drop_quietly);
}

/// A value that is [dropped quietly](drop_quietly) wherever it is held, such as in a collection of another crate.
pub(crate) struct Quiet<T>(Option<T>);

impl<T> Quiet<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value, which is always there.
    pub(crate) fn take(mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for Quiet<T> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(drop_quietly);
    }
}

/// Drops the payload of a panic. That may panic with another such payload, which is leaked: there may be no end to them.
pub(crate) fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(another);
    }
}
