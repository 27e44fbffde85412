//! Memory that a worker and its program share, and that outlives the worker.
//!
//! ```text
//! ┌──────────┬───────┬─────┬──────────────────┬─────────────────────────────────────┐
//! │ reserved │ start │ end │ a word for each  │ from start to end, the byte at n of │
//! │   u64    │  u64  │ u64 │ place: u64 × 256 │ all that is sent, at n modulo size  │
//! └──────────┴───────┴─────┴──────────────────┴─────────────────────────────────────┘
//! ```
//!
//! The words say which tasks have begun, see [`page`](super::page). Behind them the worker notes what it has said and not
//! sent: a copy, no system call, and nobody is woken. The program looks there when a worker is lost, or has been silent
//! for a while.
//!
//! Where there is no such memory, workers are sent one task at a time, and send at once what they have to say.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Resource, getrlimit};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

use crate::process::protocol::descriptor::above_standard;
use crate::process::protocol::page::Place;

/// How many tasks a worker has at most.
pub(crate) const PLACES: usize = 256;
/// How much can be noted that was not sent.
pub(crate) const NOTES: usize = 64 * 1024;

const RESERVED: usize = 0;
const START: usize = 8;
const END: usize = 16;
const WORDS: usize = 24;
const NOTES_AT: usize = WORDS + 8 * PLACES;
const SIZE: usize = NOTES_AT + NOTES;

#[derive(Debug)]
pub(crate) struct Memory(MmapRegion<()>);

impl Memory {
    pub(crate) fn new() -> io::Result<Self> {
        // To go beyond the limit on the size of files is not an error but a signal.
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < SIZE as u64) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let file = memfd_create("progress-executor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let file = File::from(above_standard(file)?);
        file.set_len(SIZE as u64)?;
        // A file that has become shorter would be found out by a signal.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::open(file.into())
    }

    /// The memory behind a file that came from the other end.
    pub(crate) fn open(file: OwnedFd) -> io::Result<Self> {
        let region = MmapRegion::from_file(FileOffset::new(file.into(), 0), SIZE).map_err(io::Error::other)?;
        Ok(Self(region))
    }

    /// The file behind it, for the other end.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.0.file_offset().map(|offset| offset.file().as_fd())
    }

    pub(crate) fn place(&self, number: u64) -> Option<Place<'_>> {
        let index = (number % PLACES as u64) as usize;
        let word = self.word(WORDS + 8 * index)?;
        Some(Place::new(word, number))
    }

    fn bounds(&self) -> Option<[&AtomicU64; 3]> {
        Some([self.word(RESERVED)?, self.word(START)?, self.word(END)?])
    }

    fn word(&self, offset: usize) -> Option<&AtomicU64> {
        self.0.get_atomic_ref(offset).ok()
    }

    /// Notes the bytes from `at` on; returns whether that has worked. Only the worker does this.
    pub(crate) fn note(&self, at: u64, bytes: &[u8]) -> bool {
        let Some([reserved, start, end]) = self.bounds() else { return false };
        let memory = self.0.as_volatile_slice();
        let (first, rest) = bytes.split_at(bytes.len().min(NOTES - offset(at)));
        let until = at + bytes.len() as u64;
        reserved.store(until, Ordering::Relaxed);
        if end.load(Ordering::Relaxed) != at {
            // What comes before was sent, and never noted.
            start.store(at, Ordering::Relaxed);
        }
        // Whoever sees a byte that is written over sees that it may be.
        fence(Ordering::Release);
        let is_noted =
            memory.write_slice(first, NOTES_AT + offset(at)).is_ok() && memory.write_slice(rest, NOTES_AT).is_ok();
        if is_noted {
            end.store(until, Ordering::Release);
        }
        is_noted
    }

    /// The bytes from `at` on, as far as they are noted.
    pub(crate) fn notes(&self, at: u64) -> Vec<u8> {
        let Some([reserved, start, end]) = self.bounds() else { return Vec::new() };
        let len = end.load(Ordering::Acquire).saturating_sub(at);
        // More was sent than was noted, or else the worker has written something there that makes no sense.
        let Some(len) = usize::try_from(len).ok().filter(|&len| len <= NOTES) else { return Vec::new() };
        let mut bytes = vec![0; len];
        let (first, rest) = bytes.split_at_mut(len.min(NOTES - offset(at)));
        let memory = self.0.as_volatile_slice();
        let is_read =
            memory.read_slice(first, NOTES_AT + offset(at)).is_ok() && memory.read_slice(rest, NOTES_AT).is_ok();
        fence(Ordering::Acquire);
        let is_whole =
            reserved.load(Ordering::Relaxed).saturating_sub(at) <= NOTES as u64 && start.load(Ordering::Relaxed) <= at;
        if is_read && is_whole { bytes } else { Vec::new() }
    }
}

fn offset(at: u64) -> usize {
    (at % NOTES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::{Memory, PLACES};
    use crate::process::protocol::page::Doomed;

    /// As both ends have it.
    fn pair() -> (Memory, Memory) {
        let ours = Memory::new().unwrap();
        let theirs = Memory::open(ours.file().unwrap().try_clone_to_owned().unwrap()).unwrap();
        (ours, theirs)
    }

    #[test]
    fn notes_are_given_back_from_any_place_on_and_no_more() {
        let (program, worker) = pair();
        let byte = |at: u64| (at % 251) as u8;
        let mut end = 0;
        for len in (1..1_000_u64).chain([0, 1]) {
            let bytes: Vec<u8> = (end..end + len).map(byte).collect();
            assert!(worker.note(end, &bytes));
            end += len;
            let from = end.saturating_sub(5_000);
            assert_eq!(program.notes(from), (from..end).map(byte).collect::<Vec<_>>());
        }
        assert!(program.notes(end).is_empty());
        assert!(program.notes(end + 1).is_empty(), "more was sent than was noted");
        assert!(worker.note(end + 10, &[1, 2]));
        assert!(program.notes(end).is_empty(), "what comes first was not noted");
        assert_eq!(program.notes(end + 10), [1, 2]);
    }

    #[test]
    fn nonsense_among_the_notes_is_nothing() {
        let (program, worker) = pair();
        assert!(worker.note(u64::MAX - 3, &[1, 2, 3]));
        assert!(program.notes(7).is_empty());
    }

    #[test]
    fn both_ends_see_the_same_places() {
        let (program, worker) = pair();
        for number in 0..3 * PLACES as u64 {
            let (ours, theirs) = (program.place(number).unwrap(), worker.place(number).unwrap());
            ours.offer();
            assert!(!ours.has_begun());
            let is_taken_back = number % 3 == 0 && ours.take_back();
            assert_eq!(theirs.begin(), !is_taken_back, "{number}");
            assert_eq!(ours.has_begun(), number % 3 != 0);
            assert!(!worker.place(number + PLACES as u64).unwrap().begin(), "another task in the same place");
            if number % 3 == 1 {
                theirs.notice();
                assert_eq!(ours.doom(), Doomed::Noticed);
                assert!(theirs.end());
                assert_eq!(ours.doom(), Doomed::Ended);
            } else if number % 3 == 2 {
                assert_eq!(ours.doom(), Doomed::Yes);
                assert!(!theirs.end());
            }
        }
    }
}
