//! Memory that a worker and its program share, and that outlives the worker.
//!
//! ```text
//! ┌──────────┬───────┬─────┬──────────────────┬─────────┬──────────┬────────┬─────────────────────────────────────┐
//! │ reserved │ start │ end │ a word for each  │ the one │ sequence │ record │ from start to end, the byte at n of │
//! │   u64    │  u64  │ u64 │ place: u64 × 256 │ it runs │   u64    │  × 2   │ all that is sent, at n modulo size  │
//! └──────────┴───────┴─────┴──────────────────┴─────────┴──────────┴────────┴─────────────────────────────────────┘
//! ```
//!
//! The words say which tasks have begun, see [`page`](super::page). In the last part, the worker notes what it has to say and
//! has not sent: that takes a copy, but no system call, and wakes no thread. The program reads the notes when a worker is lost,
//! or has been silent for a while.
//!
//! The task that runs counts in this memory, see [`live`](super::live). What it says is recorded immediately. There are two
//! records, so that one is complete wherever the worker ends: the record with the number `sequence`, modulo 2. So the program
//! can see how far a task has come at any time, also when the worker is gone, without a frame from it.
//!
//! Without such memory, workers are sent one task at a time, and send what they have to say immediately.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Resource, getrlimit};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

use crate::process::protocol::descriptor::above_standard;
use crate::process::protocol::live::{Live, Seen};
use crate::process::protocol::page::Place;
use crate::sync::seqlock::Sequence;
use crate::task::counts::Cells;
use crate::task::remote::{Position, Record, RecordedMessage, Said, beginning};

/// How many tasks a worker has at most.
pub(crate) const PLACES: usize = 256;
/// How many unsent bytes can be noted.
pub(crate) const NOTES: usize = 64 * 1024;
/// How many bytes of a message are recorded.
const MESSAGE: usize = 4 * 1024;

/// Whether a record has a message, and whether that is complete.
const NO_MESSAGE: u64 = 0;
const WHOLE: u64 = 1;
const CUT: u64 = 2;

/// How often to try a read that a live worker overwrites meanwhile.
const ATTEMPTS: usize = 16;

const RESERVED: usize = 0;
const START: usize = 8;
const END: usize = 16;
const WORDS: usize = 24;
/// On two cache lines of its own, as the task writes there all the time.
const LIVE: usize = (WORDS + 8 * PLACES).next_multiple_of(128);
const SEQUENCE: usize = LIVE + 128;
const RECORDS: usize = SEQUENCE + 8;
const FIELDS: usize = 7;
const RECORD: usize = 8 * FIELDS + MESSAGE;
const NOTES_AT: usize = RECORDS + 2 * RECORD;
const SIZE: usize = NOTES_AT + NOTES;

#[derive(Debug)]
pub(crate) struct Memory(MmapRegion<()>);

/// What was recorded, and whether the count was spread then.
struct Recorded {
    record: Record,
    is_spread: bool,
}

impl Memory {
    pub(crate) fn new() -> io::Result<Self> {
        // Exceeding the limit on the size of files raises a signal instead of an error.
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < SIZE as u64) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let file = memfd_create("progress-executor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let file = File::from(above_standard(file)?);
        file.set_len(SIZE as u64)?;
        // Accessing a file that was shortened would raise a signal.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::open(file.into())
    }

    /// Maps the file that came from the other end.
    pub(crate) fn open(file: OwnedFd) -> io::Result<Self> {
        let region = MmapRegion::from_file(FileOffset::new(file.into(), 0), SIZE).map_err(io::Error::other)?;
        Ok(Self(region))
    }

    /// The file behind the memory, for the other end.
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

    /// Where the task that the worker runs counts, and learns that it must end.
    pub(crate) fn live(&self) -> Option<Live<'_>> {
        let sequence = self.0.get_atomic_ref::<AtomicU32>(LIVE).ok()?;
        let word = |index: usize| self.word(LIVE + 8 * index);
        let cells = Cells { n: word(2)?, total: word(3)?, sequence: Sequence(sequence) };
        Some(Live { task: word(1)?, cells, spread: word(4)?, request: word(5)? })
    }

    /// How far this task has come, and its message, if it is the one that the worker runs or last ran.
    pub(crate) fn look(&self, task: u64) -> Option<Record> {
        // Read first, so that the counts are no older than the message.
        let recorded = self.last_recorded().filter(|recorded| recorded.record.task == task);
        let live = self.live()?;
        match (0..ATTEMPTS).find_map(|_| live.see(task))? {
            Seen::Counted(reading) => {
                let message = recorded.and_then(|recorded| recorded.record.message);
                Some(Record { task, position: reading.into(), message })
            }
            Seen::Spread => recorded.filter(|recorded| recorded.is_spread).map(|recorded| recorded.record),
            Seen::Nothing => None,
        }
    }

    /// Like [`look`](Self::look), for whichever task a lost worker last ran.
    pub(crate) fn last_look(&self) -> Option<Record> {
        let seen = self.live().and_then(|live| self.look(live.task()));
        // The worker may have ended in the middle of a write.
        seen.or_else(|| Some(self.last_recorded()?.record))
    }

    /// Records what a task has said. Only the worker calls this, from one thread at a time.
    pub(crate) fn record(&self, task: u64, said: Said<'_>) {
        let Some(sequence) = self.word(SEQUENCE) else { return };
        let next = sequence.load(Ordering::Relaxed).wrapping_add(1);
        // A reader that sees any byte of this record change also sees that `sequence` has moved to the other one.
        fence(Ordering::Release);
        if self.write_record(record_at(next), task, said).is_some() {
            sequence.store(next, Ordering::Release);
        }
    }

    fn write_record(&self, at: usize, task: u64, said: Said<'_>) -> Option<()> {
        let Said { position: Position { n, total, part }, message, is_spread } = said;
        let text = beginning(message.unwrap_or_default(), MESSAGE);
        let extent = message.map_or(NO_MESSAGE, |message| if message.len() == text.len() { WHOLE } else { CUT });
        let fields = [task, n, total, part.to_bits(), is_spread.into(), extent, text.len() as u64];
        for (index, value) in fields.into_iter().enumerate() {
            self.word(at + 8 * index)?.store(value, Ordering::Relaxed);
        }
        self.0.as_volatile_slice().write_slice(text.as_bytes(), at + 8 * FIELDS).ok()
    }

    /// The last record, if it makes sense.
    fn last_recorded(&self) -> Option<Recorded> {
        let sequence = self.word(SEQUENCE)?;
        for _ in 0..ATTEMPTS {
            let before = sequence.load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            let record = self.read_record(record_at(before));
            fence(Ordering::Acquire);
            if sequence.load(Ordering::Relaxed) == before {
                return record;
            }
        }
        None
    }

    fn read_record(&self, at: usize) -> Option<Recorded> {
        let field = |index: usize| Some(self.word(at + 8 * index)?.load(Ordering::Relaxed));
        let [task, n, total] = [field(0)?, field(1)?, field(2)?];
        let part = Some(f64::from_bits(field(3)?)).filter(|part| (0.0..1.0).contains(part))?;
        let (is_spread, extent) = (field(4)? != 0, field(5)?);
        let len = usize::try_from(field(6)?).ok().filter(|&len| len <= MESSAGE)?;
        let mut bytes = vec![0; len];
        self.0.as_volatile_slice().read_slice(&mut bytes, at + 8 * FIELDS).ok()?;
        let message = RecordedMessage { text: String::from_utf8_lossy(&bytes).into_owned(), is_cut: extent == CUT };
        let position = Position { n, total, part };
        let record = Record { task, position, message: (extent != NO_MESSAGE).then_some(message) };
        Some(Recorded { record, is_spread })
    }

    /// Notes bytes whose position in all that is ever sent is `at`. Returns whether that worked. Only the worker calls this.
    pub(crate) fn note(&self, at: u64, bytes: &[u8]) -> bool {
        let Some([reserved, start, end]) = self.bounds() else { return false };
        let memory = self.0.as_volatile_slice();
        let (first, rest) = bytes.split_at(bytes.len().min(NOTES - offset(at)));
        let until = at + bytes.len() as u64;
        reserved.store(until, Ordering::Relaxed);
        if end.load(Ordering::Relaxed) != at {
            // What comes before was sent without being noted.
            start.store(at, Ordering::Relaxed);
        }
        // A reader that sees an overwritten byte also sees the new `reserved` and `start`.
        fence(Ordering::Release);
        let is_noted =
            memory.write_slice(first, NOTES_AT + offset(at)).is_ok() && memory.write_slice(rest, NOTES_AT).is_ok();
        if is_noted {
            end.store(until, Ordering::Release);
        }
        is_noted
    }

    /// The noted bytes from position `at` on; empty unless all of them are there.
    pub(crate) fn notes(&self, at: u64) -> Vec<u8> {
        let Some([reserved, start, end]) = self.bounds() else { return Vec::new() };
        let len = end.load(Ordering::Acquire).saturating_sub(at);
        // They are more than can be noted, because some were sent without that, or because the worker has written nonsense.
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

fn record_at(sequence: u64) -> usize {
    RECORDS + RECORD * (sequence % 2) as usize
}

fn offset(at: u64) -> usize {
    (at % NOTES as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use vm_memory::{Bytes, VolatileMemory};

    use super::{FIELDS, LIVE, MESSAGE, Memory, PLACES, SEQUENCE, record_at};
    use crate::process::protocol::page::Doomed;
    use crate::task::counts::{Counter, UNKNOWN};
    use crate::task::remote::{Position, Record, RecordedMessage, Said};

    /// The memory as each end maps it.
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

    /// What was recorded last.
    fn last(memory: &Memory) -> Option<Record> {
        memory.last_recorded().map(|recorded| recorded.record)
    }

    const POSITION: Position = Position { n: 60, total: 1000, part: 0.25 };

    fn said(position: Position, message: Option<&str>) -> Said<'_> {
        Said { position, message, is_spread: false }
    }

    fn record(task: u64, message: Option<(&str, bool)>) -> Record {
        let message = message.map(|(text, is_cut)| RecordedMessage { text: text.into(), is_cut });
        Record { task, position: POSITION, message }
    }

    #[test]
    fn what_was_recorded_last_is_given_back() {
        let (program, worker) = pair();
        assert_eq!(last(&program), None);
        worker.record(7, said(POSITION, None));
        assert_eq!(last(&program), Some(record(7, None)));
        for message in ["file 60", "", "ß", "file 6"] {
            worker.record(8, said(POSITION, Some(message)));
            assert_eq!(last(&program), Some(record(8, Some((message, false)))));
        }
        worker.record(9, said(POSITION, None));
        assert_eq!(last(&program), Some(record(9, None)), "the message was that of another task");
        assert!(program.notes(0).is_empty(), "records are no notes");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let (program, worker) = pair();
        let longest = "x".repeat(MESSAGE);
        worker.record(7, said(POSITION, Some(&longest)));
        assert_eq!(last(&program), Some(record(7, Some((&longest, false)))));
        let odd = format!("x{}", "ß".repeat(MESSAGE));
        worker.record(7, said(POSITION, Some(&odd)));
        assert_eq!(last(&program), Some(record(7, Some((&odd[..MESSAGE - 1], true)))));
    }

    #[test]
    fn a_record_that_is_being_written_leaves_the_one_before() {
        let (program, worker) = pair();
        for task in 1..5 {
            worker.record(task, said(POSITION, Some("whole")));
            worker.write_record(record_at(task + 1), task + 1, said(POSITION, Some("the worker ends in it"))).unwrap();
            assert_eq!(last(&program), Some(record(task, Some(("whole", false)))));
        }
    }

    #[test]
    fn records_are_read_whole_while_they_are_written() {
        let (program, worker) = pair();
        let writer = thread::spawn(move || {
            for n in 1..20_000 {
                let message = n.to_string().repeat(50);
                worker.record(n, said(Position { n, total: n, part: 0.0 }, Some(&message)));
            }
        });
        while !writer.is_finished() {
            if let Some(Record { task, position, message }) = last(&program) {
                assert_eq!((position.n, position.total), (task, task));
                assert_eq!(message.unwrap().text, task.to_string().repeat(50));
            }
        }
        writer.join().unwrap();
        assert_eq!(last(&program).unwrap().task, 19_999);
    }

    #[test]
    fn nonsense_in_a_record_is_nothing_or_a_text() {
        let (program, worker) = pair();
        worker.record(7, said(POSITION, Some("file 60")));
        let at = record_at(worker.word(SEQUENCE).unwrap().load(Ordering::Relaxed));
        let set = |index: usize, value: u64| worker.word(at + 8 * index).unwrap().swap(value, Ordering::Relaxed);
        for len in [MESSAGE as u64 + 1, u64::MAX] {
            let before = set(6, len);
            assert_eq!(last(&program), None, "{len} bytes");
            set(6, before);
        }
        for part in [f64::NAN, 1.0, -1.0] {
            let before = set(3, part.to_bits());
            assert_eq!(last(&program), None, "{part}");
            set(3, before);
        }
        worker.0.as_volatile_slice().write_slice(&[0xff], at + 8 * FIELDS).unwrap();
        assert_eq!(last(&program), Some(record(7, Some(("\u{fffd}ile 60", false)))));
        worker.word(SEQUENCE).unwrap().store(u64::MAX, Ordering::Relaxed);
        assert!(last(&program).is_some(), "any number is that of one of both");
    }

    #[test]
    fn a_task_is_seen_as_it_counts_and_what_it_says_with_that() {
        let (program, worker) = pair();
        let live = worker.live().unwrap();
        live.turn_to(7);
        let seen = |n, total, message: Option<&str>| {
            let message = message.map(|text| RecordedMessage { text: text.into(), is_cut: false });
            Some(Record { task: 7, position: Position { n, total, part: 0.0 }, message })
        };
        assert_eq!(program.look(7), seen(0, UNKNOWN, None));
        Counter(live.cells.n).advance(59);
        worker.record(7, said(Position { n: 59, total: 1000, part: 0.0 }, Some("file 59")));
        Counter(live.cells.n).advance(1);
        assert_eq!(program.look(7), seen(60, UNKNOWN, Some("file 59")));
        assert_eq!(program.last_look(), program.look(7));
        assert_eq!(program.look(8), None);
        live.turn_to(8);
        assert_eq!(program.look(7), None);
        assert_eq!(program.look(8), Some(Record { task: 8, ..seen(0, UNKNOWN, None).unwrap() }));
    }

    #[test]
    fn a_count_that_is_spread_is_seen_as_it_is_recorded() {
        let (program, worker) = pair();
        let live = worker.live().unwrap();
        live.turn_to(7);
        worker.record(7, said(Position { n: 3, ..POSITION }, None));
        live.spread();
        Counter(live.cells.n).advance(900);
        assert_eq!(program.look(7), None, "nothing says how far that is");
        worker.record(7, Said { is_spread: true, ..said(POSITION, None) });
        assert_eq!(program.look(7), Some(record(7, None)));
        live.gather();
        assert_eq!(program.look(7).unwrap().position.n, 900);
    }

    #[test]
    fn a_request_is_taken_once_by_the_task_that_it_is_for_and_dropped_by_another() {
        let (program, worker) = pair();
        let (program, worker) = (program.live().unwrap(), worker.live().unwrap());
        assert_eq!(worker.take_request(7), None);
        for cause in 0..4 {
            program.request_end(7, cause);
            assert_eq!(worker.take_request(7), Some(cause));
            assert_eq!(worker.take_request(7), None);
        }
        for nonsense in [7, 3, u64::MAX] {
            worker.request.store(nonsense, Ordering::Relaxed);
            assert_eq!(worker.take_request(8), None, "{nonsense}");
            assert_eq!(worker.request.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn what_is_written_for_ever_is_not_waited_for() {
        let (program, worker) = pair();
        worker.live().unwrap().turn_to(7);
        worker.record(7, said(POSITION, None));
        worker.0.get_atomic_ref::<AtomicU32>(LIVE).unwrap().store(1, Ordering::Relaxed);
        assert_eq!(program.look(7), None);
        assert_eq!(program.last_look(), Some(record(7, None)));
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
