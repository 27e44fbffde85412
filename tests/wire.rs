//! What the wire makes of messages, and of any bytes: its unit tests that need proptest.
//!
//! The files are compiled again here, because they are private.

#![allow(dead_code, unreachable_pub)] // Not every function of the files is called, and nobody else can call them.

#[path = "../src/codec/mod.rs"]
mod codec;
#[path = "../src/task/remote.rs"]
mod remote;
#[path = "../src/process/protocol/wire/mod.rs"]
mod wire;

/// What the files need of their crate.
mod error {
    pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

    /// Nothing panics here.
    pub(crate) fn guard<T>(call: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
        call()
    }
}
mod task {
    pub(crate) use crate::remote;
}
