//! Stands in for the [`memory`](super::memory) that a worker and its program share, where there is none.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::process::protocol::page::Place;

pub(crate) const PLACES: usize = 1;
pub(crate) const NOTES: usize = 0;

#[derive(Debug)]
pub(crate) struct Memory(Infallible);

#[derive(Debug)]
pub(crate) struct Handle(OwnedFd);

impl Handle {
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Handle {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Memory {
    pub(crate) fn new(_handle: Handle) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn place(&self, _number: u64) -> Option<Place<'_>> {
        match self.0 {}
    }

    pub(crate) fn note(&self, _at: u64, _bytes: &[u8]) -> bool {
        match self.0 {}
    }

    pub(crate) fn notes(&self, _at: u64) -> Vec<u8> {
        match self.0 {}
    }
}
