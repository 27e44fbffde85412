//! What a worker has said last, in memory that outlives it.
//!
//! A worker that has said something before it does what may kill it need not have *sent* it: it is enough that the
//! program can look it up. So it writes that to a file which exists only in memory, for as long as one of both has it
//! open: a copy, no system call, and nobody is woken. Only when a worker is lost, the program reads it.
//!
//! ```text
//! ┌─────┬───────────────────────────────────────────┐
//! │ end │  the byte at place n of all that is ever  │
//! │ u64 │  sent is at place n modulo the size       │
//! └─────┴───────────────────────────────────────────┘
//! ```
//!
//! Where there are no such files, workers send everything at once.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// How much can be noted that was not sent.
pub(crate) const SIZE: usize = 64 * 1024;

const HEAD: usize = 8;

/// The program's side.
#[derive(Debug)]
pub(crate) struct Journal(File);

/// The worker's side.
#[derive(Debug)]
pub(crate) struct Writer(MmapRegion<()>);

impl Journal {
    pub(crate) fn new() -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create("progress-journal", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.set_len((HEAD + SIZE) as u64)?;
        Ok(Self(file))
    }

    /// The bytes from place `at` on, as far as they were noted.
    pub(crate) fn read(&self, at: u64) -> io::Result<Vec<u8>> {
        let mut head = [0; HEAD];
        self.0.read_exact_at(&mut head, 0)?;
        let mut bytes = vec![0; SIZE];
        self.0.read_exact_at(&mut bytes, HEAD as u64)?;
        // More was sent than was noted, or else the worker has written something there that makes no sense.
        let noted = u64::from_le_bytes(head).saturating_sub(at);
        let len = usize::try_from(noted).ok().filter(|&len| len <= SIZE).unwrap_or(0);
        bytes.rotate_left(place(at));
        bytes.truncate(len);
        Ok(bytes)
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Writer {
    pub(crate) fn new(journal: OwnedFd) -> io::Result<Self> {
        MmapRegion::from_file(FileOffset::new(journal.into(), 0), HEAD + SIZE).map(Self).map_err(io::Error::other)
    }

    /// Notes the bytes from place `at` on; returns whether that has worked.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> bool {
        let memory = self.0.as_volatile_slice();
        let (first, rest) = bytes.split_at(bytes.len().min(SIZE - place(at)));
        let end = (at + bytes.len() as u64).to_le();
        // The end comes last: what is before it is there.
        memory.write_slice(first, HEAD + place(at)).is_ok()
            && memory.write_slice(rest, HEAD).is_ok()
            && memory.store(end, 0, Ordering::Release).is_ok()
    }
}

fn place(at: u64) -> usize {
    (at % SIZE as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::{Journal, Writer};
    use std::os::fd::AsFd;

    #[test]
    fn a_journal_gives_back_what_was_noted_from_any_place_on_and_no_more() {
        let journal = Journal::new().unwrap();
        let writer = Writer::new(journal.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let byte = |place: u64| (place % 251) as u8;
        let mut end = 0;
        for len in (1..1_000_u64).chain([0, 1]) {
            let bytes: Vec<u8> = (end..end + len).map(byte).collect();
            assert!(writer.write(end, &bytes));
            end += len;
            let from = end.saturating_sub(5_000);
            assert_eq!(journal.read(from).unwrap(), (from..end).map(byte).collect::<Vec<_>>());
        }
        assert!(journal.read(end).unwrap().is_empty());
        assert!(journal.read(end + 1).unwrap().is_empty(), "more was sent than was noted");
    }

    #[test]
    fn nonsense_in_a_journal_is_nothing() {
        let journal = Journal::new().unwrap();
        let writer = Writer::new(journal.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert!(writer.write(u64::MAX - 3, &[1, 2, 3]));
        assert!(journal.read(7).unwrap().is_empty());
    }
}
