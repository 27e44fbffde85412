//! The program that this process runs: where its file is, so that it can be started again.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;
use std::{env, fmt, fs, path, str};

/// Which of the candidates workers are started from.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);
/// Whether a worker has become ready, which proves that the candidate is right.
static IS_PROVEN: AtomicBool = AtomicBool::new(false);

/// The files that this program may be, the likeliest first: on Linux, the running image itself, even if its file was
/// replaced. If another program runs this one, such as valgrind or the dynamic loader, that image is wrong: then the file is
/// the one that the system reports, or the one by whose name the program was called.
fn candidates() -> &'static [PathBuf] {
    static FOUND: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let image = cfg!(target_os = "linux").then(|| PathBuf::from("/proc/self/exe"));
        let called = env::args_os().next().map(PathBuf::from).filter(|name| name.components().count() > 1);
        let called = called.and_then(|name| path::absolute(name).ok());
        let mut found = Vec::new();
        let mut identities = HashSet::new();
        for path in [image, env::current_exe().ok(), called].into_iter().flatten() {
            if identity_of(&path).is_some_and(|identity| identities.insert(identity)) {
                found.push(path);
            }
        }
        found
    })
}

/// The current choice, for later reference.
pub(crate) fn chosen() -> usize {
    CHOSEN.load(Ordering::SeqCst)
}

/// Notes that a worker of this choice has become ready.
pub(crate) fn prove() {
    IS_PROVEN.store(true, Ordering::SeqCst);
}

/// Notes that a worker of this choice has ended before it was ready: the next ones are started from the next candidate, if
/// there is one and no worker was ever ready.
pub(crate) fn pass_over(choice: usize) {
    if !IS_PROVEN.load(Ordering::SeqCst) && choice + 1 < candidates().len() {
        // Another worker may have led to the same already.
        let _ = CHOSEN.compare_exchange(choice, choice + 1, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// The file that workers run.
pub(crate) fn path(choice: usize) -> io::Result<&'static Path> {
    let path = candidates().get(choice).map(PathBuf::as_path);
    path.ok_or_else(|| {
        let what = "the file of this program was not found: where the system does not tell it, as in Linux without `/proc`, the \
                    program has to be called by its absolute path";
        io::Error::new(ErrorKind::NotFound, what)
    })
}

/// Where this program is, for workers on other machines to find it at the same place.
pub(crate) fn location() -> io::Result<PathBuf> {
    let path = env::current_exe()?;
    // What Linux reports for a file that was replaced meanwhile.
    let replaced = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(replaced.filter(|_| !path.exists()).unwrap_or(path))
}

/// Opens the file of this program, as it is running. By its path first: if another program runs this one, as valgrind does,
/// `/proc/self/exe` is that other program.
pub(crate) fn open() -> io::Result<File> {
    env::current_exe().and_then(File::open).or_else(|_| File::open(path(chosen())?))
}

/// The file that is started as a worker, for people.
pub(crate) fn name(choice: usize) -> String {
    let path = path(choice).map(|path| fs::read_link(path).unwrap_or_else(|_| path.to_owned()));
    path.map_or_else(|error| format!("which was not found ({error})"), |path| format!("`{}`", path.display()))
}

/// The identities of the files that this program may be. They change when it is built again.
pub(crate) fn identities() -> impl Iterator<Item = (u64, SystemTime)> {
    candidates().iter().filter_map(|path| identity_of(path))
}

fn identity_of(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

const MARK: [u8; 32] = *b"\x7fprogress-executor test worker\x01\n";
const MARK_LEN: usize = MARK.len();
const PATH_LEN: usize = 448;
/// The size of a page of memory: a static that is aligned to it is also at a multiple of it within the file.
const PAGE: u64 = 4096;

/// The name of the test that [`test_worker!`](crate::test_worker) makes.
const TEST: &str = "::progress_executor_test_worker";

/// A mark in the file of a program: it says that this is a test program, and how to make it a worker.
///
/// A test program has no `main` that could call `init`, and its tests run in any order, or each in a process of its own.
/// So code that wants to start a worker looks for this mark in the file of the program. Nothing has to run for that.
#[doc(hidden)]
#[repr(C, align(4096))]
pub struct TestWorker {
    mark: [u8; MARK_LEN],
    path: [u8; PATH_LEN],
}

impl TestWorker {
    /// `module` is where the test is.
    #[must_use]
    pub const fn new(module: &str) -> Self {
        let module = module.as_bytes();
        assert!(module.len() < PATH_LEN, "the path of the module is too long");
        let mut path = [0; PATH_LEN];
        let mut i = 0;
        while i < module.len() {
            path[i] = module[i];
            i += 1;
        }
        Self { mark: MARK, path }
    }
}

impl fmt::Debug for TestWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestWorker").field("test", &test_name(&self.path)).finish()
    }
}

/// The names of the tests in this program that are workers.
pub(crate) fn test_workers() -> io::Result<&'static [String]> {
    static FOUND: OnceLock<Vec<String>> = OnceLock::new();
    let found = match FOUND.get() {
        Some(found) => found,
        None => {
            let names = find_test_workers()?;
            FOUND.get_or_init(|| names)
        }
    };
    Ok(found)
}

fn find_test_workers() -> io::Result<Vec<String>> {
    for path in candidates() {
        let names = match File::open(path) {
            Ok(file) => find_marks(&file)?,
            // The program is not this file.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => continue,
            Err(error) => return Err(error),
        };
        if !names.is_empty() {
            return Ok(names);
        }
    }
    Ok(Vec::new())
}

fn find_marks(mut file: &File) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut bytes = [0; MARK_LEN + PATH_LEN];
    for page in 0..file.metadata()?.len() / PAGE {
        file.seek(SeekFrom::Start(page * PAGE))?;
        if file.read_exact(&mut bytes).is_ok() && bytes.starts_with(&MARK) {
            names.extend(test_name(&bytes[MARK_LEN..]));
        }
    }
    Ok(names)
}

/// The name of the test in its harness, which leaves out the crate.
fn test_name(path: &[u8]) -> Option<String> {
    let module = str::from_utf8(path.split(|&byte| byte == 0).next()?).ok()?;
    let is_path = !module.is_empty() && module.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ':'));
    let path = format!("{module}{TEST}");
    is_path.then(|| path.split_once("::").map(|(_crate, test)| test.to_owned()))?
}

#[cfg(test)]
mod tests {
    use super::{TestWorker, test_name};

    #[test]
    fn the_name_of_a_test_is_its_path_without_the_crate() {
        let name = |module| test_name(&TestWorker::new(module).path);
        assert_eq!(name("it").as_deref(), Some("progress_executor_test_worker"));
        assert_eq!(name("it::jobs").as_deref(), Some("jobs::progress_executor_test_worker"));
        assert_eq!(name("not a path"), None);
        assert_eq!(name(""), None);
    }
}
