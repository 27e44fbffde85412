//! Stands in for the [`memory`](super::memory) that a worker and its program share, on systems that have none.

use std::convert::Infallible;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::process::protocol::live::Live;
use crate::process::protocol::page::Place;
use crate::task::remote::{Record, Said};

pub(crate) const PLACES: usize = 1;
pub(crate) const NOTES: usize = 0;

#[derive(Debug)]
pub(crate) struct Memory(Infallible);

impl Memory {
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn open(_file: OwnedFd) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        match self.0 {}
    }

    pub(crate) fn place(&self, _number: u64) -> Option<Place<'_>> {
        match self.0 {}
    }

    pub(crate) fn live(&self) -> Option<Live<'_>> {
        match self.0 {}
    }

    pub(crate) fn look(&self, _task: u64) -> Option<Record> {
        match self.0 {}
    }

    pub(crate) fn last_look(&self) -> Option<Record> {
        match self.0 {}
    }

    pub(crate) fn record(&self, _task: u64, _said: Said<'_>) {
        match self.0 {}
    }

    pub(crate) fn note(&self, _at: u64, _bytes: &[u8]) -> bool {
        match self.0 {}
    }

    pub(crate) fn notes(&self, _at: u64) -> Vec<u8> {
        match self.0 {}
    }
}
