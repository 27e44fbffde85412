//! Identifies one build of a program, wherever its file is and however it got there.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::OnceLock;

use crate::process::program;

const PT_NOTE: u64 = 4;
const NT_GNU_BUILD_ID: u64 = 3;
/// More than any linker writes, in bytes.
const LONGEST_NOTE: u64 = 64 * 1024;

/// The id of the build that this process runs, which is not 0. If its file cannot be read now, perhaps it can be later.
pub(crate) fn of_this_process() -> io::Result<u64> {
    static BUILD: OnceLock<u64> = OnceLock::new();
    match BUILD.get() {
        Some(&build) => Ok(build),
        None => of_file(&mut program::open()?).map(|build| *BUILD.get_or_init(|| build)),
    }
}

/// Hashes the build id that the linker has noted in the file, or else the whole file.
fn of_file(file: &mut File) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    match note_of(file) {
        Ok(Some(id)) => hasher.write(&id),
        _ => hash_all(file, &mut hasher)?,
    }
    // 0 stands for an unknown build.
    Ok(hasher.finish().max(1))
}

fn hash_all(file: &mut File, hasher: &mut DefaultHasher) -> io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    file.seek(SeekFrom::Start(0))?;
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(()),
            len => hasher.write(&bytes[..len]),
        }
    }
}

/// Where a little-endian ELF file describes its segments.
struct Layout {
    start: &'static [u8],
    header: u64,
    /// The length of an address.
    word: usize,
    table: usize,
    entry_len: usize,
    entries: usize,
    entry: u64,
    offset: usize,
    len: usize,
}

/// For 32 and for 64 bits.
const LAYOUTS: [Layout; 2] = [
    Layout {
        start: b"\x7fELF\x01\x01",
        header: 52,
        word: 4,
        table: 28,
        entry_len: 42,
        entries: 44,
        entry: 32,
        offset: 4,
        len: 16,
    },
    Layout {
        start: b"\x7fELF\x02\x01",
        header: 64,
        word: 8,
        table: 32,
        entry_len: 54,
        entries: 56,
        entry: 56,
        offset: 8,
        len: 32,
    },
];

/// The build id in an ELF file, if it has one.
fn note_of(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let start = read_at(file, 0, 6)?;
    let Some(layout) = LAYOUTS.iter().find(|layout| start == layout.start) else { return Ok(None) };
    let header = read_at(file, 0, layout.header)?;
    let table = number(&header, layout.table, layout.word);
    let (size, count) = (number(&header, layout.entry_len, 2), number(&header, layout.entries, 2));
    for index in 0..count {
        let entry = read_at(file, table.saturating_add(index * size), layout.entry)?;
        let (offset, len) = (number(&entry, layout.offset, layout.word), number(&entry, layout.len, layout.word));
        if number(&entry, 0, 4) == PT_NOTE && len <= LONGEST_NOTE {
            let notes = read_at(file, offset, len)?;
            if let Some(id) = build_id_in(&notes) {
                return Ok(Some(id.to_vec()));
            }
        }
    }
    Ok(None)
}

fn build_id_in(mut notes: &[u8]) -> Option<&[u8]> {
    while notes.len() >= 12 {
        let [name_len, id_len] = [number(notes, 0, 4), number(notes, 4, 4)].map(|len| len as usize);
        let kind = number(notes, 8, 4);
        let id_at = 12 + name_len.next_multiple_of(4);
        let name = notes.get(12..12 + name_len)?;
        let id = notes.get(id_at..id_at + id_len)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && !id.is_empty() {
            return Some(id);
        }
        notes = notes.get(id_at + id_len.next_multiple_of(4)..)?;
    }
    None
}

fn read_at(file: &mut File, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(len).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

/// A number of this many bytes. The caller has checked that they are there.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::{LAYOUTS, build_id_in, note_of, of_file, of_this_process};
    use std::fs::{self, File};
    use std::{env, process};

    #[test]
    fn a_build_is_the_same_wherever_its_file_is_and_another_one_is_not() {
        let copy = env::temp_dir().join(format!("progress-executor-build-{}", process::id()));
        let build = |path| of_file(&mut File::open(path).unwrap()).unwrap();
        fs::copy(env::current_exe().unwrap(), &copy).unwrap();
        assert_eq!(build(&copy), of_this_process().unwrap());
        fs::write(&copy, "one").unwrap();
        let one = build(&copy);
        fs::write(&copy, "other").unwrap();
        assert_ne!(build(&copy), one);
        fs::write(&copy, b"\x7fELF\x02\x01").unwrap();
        assert_ne!(build(&copy), 0, "a file that ends in its header");
        fs::remove_file(&copy).unwrap();
    }

    fn note(kind: u8, name: &[u8], id: &[u8]) -> Vec<u8> {
        let pad = |bytes: &[u8]| [bytes, &vec![0; bytes.len().next_multiple_of(4) - bytes.len()]].concat();
        let head = [name.len() as u8, 0, 0, 0, id.len() as u8, 0, 0, 0, kind, 0, 0, 0];
        [&head[..], &pad(name), &pad(id)].concat()
    }

    #[test]
    fn a_note_is_found_in_files_of_32_and_of_64_bits() {
        let path = env::temp_dir().join(format!("progress-executor-note-{}", process::id()));
        for layout in LAYOUTS {
            // The second segment holds the note.
            let (note, mut file) = (note(3, b"GNU\0", b"id"), vec![0; 400]);
            file[..6].copy_from_slice(layout.start);
            let (table, at) = (100, 300);
            let entry = table + layout.entry as usize;
            let numbers = [
                (layout.table, table),
                (layout.entry_len, layout.entry as usize),
                (layout.entries, 2),
                (entry, 4),
                (entry + layout.offset, at),
                (entry + layout.len, note.len()),
            ];
            numbers
                .into_iter()
                .for_each(|(at, number)| file[at..at + 2].copy_from_slice(&(number as u16).to_le_bytes()));
            file[at..at + note.len()].copy_from_slice(&note);
            fs::write(&path, file).unwrap();
            assert_eq!(
                note_of(&mut File::open(&path).unwrap()).unwrap().as_deref(),
                Some(&b"id"[..]),
                "{}",
                layout.word
            );
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_id_is_found_among_other_notes() {
        let notes = [note(1, b"GNU\0", b"abi"), note(3, b"Go\0", b"other"), note(3, b"GNU\0", b"id")].concat();
        assert_eq!(build_id_in(&notes), Some(&b"id"[..]));
        for len in 0..notes.len() - 2 {
            assert_eq!(build_id_in(&notes[..len]), None, "{len}");
        }
        assert_eq!(build_id_in(&[255; 40]), None);
    }
}
