//! Hashes every file below the given folders with SHA-256 on a pool of threads, and writes what `sha256sum` writes.
//!
//! ```text
//! cargo run --release --example hash_files -- DIR | sha256sum --check --quiet
//! ```
//!
//! Without arguments it hashes the sources of this crate: everything in its folder except `target` and `.git`.
//! Apart from that, only what is not a file is left out: symbolic links to folders below the given paths are not followed,
//! and pipes and devices are not read.
//!
//! The digests go to standard output, sorted by path (byte by byte, as `LC_ALL=C sort` does); everything else goes to
//! standard error, with a bar if that is a terminal. Files that cannot be read are reported and skipped, and the exit
//! code is then 1. Ctrl-C ends the program early, with the digests so far and the exit code 130.
//!
//! However many files there are, only a few tasks exist at a time. A digest is kept until all files before it in the
//! order have ended.

mod cli;

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::{self, File, Metadata};
use std::future::ready;
use std::io::{self, BufReader, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use progress_executor::{BoxError, Executor, TaskError, TaskResult, ThreadPoolExecutor, Triggers, Updater};
use sha2::{Digest, Sha256};

const USAGE: &str = "\
Usage: hash_files [PATH...]

Hashes every file below the given paths with SHA-256, and writes what sha256sum
writes. Without a path it hashes the sources of this crate.";

/// How many tasks exist per thread at a time: the one that it runs, and those that come next.
const TASKS_PER_WORKER: usize = 4;
/// How much is read at a time.
const BUFFER: usize = 128 * 1024;
/// The minimum time between two writes of digests, except the last.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    cli::run(USAGE, parse, run)
}

/// The paths to begin with.
fn parse(arguments: Vec<OsString>) -> Result<Vec<PathBuf>, String> {
    let mut roots = Vec::new();
    let mut has_options = true;
    for argument in arguments {
        match argument.to_str() {
            Some("--") if has_options => has_options = false,
            Some(option) if has_options && option.starts_with('-') => {
                return Err(format!("unknown option {option:?}"));
            }
            _ => roots.push(argument.into()),
        }
    }
    Ok(roots)
}

fn run(mut roots: Vec<PathBuf>) -> Result<ExitCode, BoxError> {
    if roots.is_empty() {
        roots = sources_of_this_crate()?;
    }
    let pool = Arc::new(ThreadPoolExecutor::new(0));
    let interrupted = shut_down_on_interrupt(&pool)?;
    smol::block_on(async {
        let Some(found) = find(&pool, roots, &interrupted).await? else { return Ok(ExitCode::from(cli::INTERRUPTED)) };
        let mut report = Report::new(&found.files);
        found.failures.iter().for_each(|failure| report.fail(failure));
        let result = hash(&pool, &found.files, &interrupted, &mut report).await;
        Ok(report.close(result, interrupted.load(Ordering::Relaxed))?)
    })
}

fn sources_of_this_crate() -> io::Result<Vec<PathBuf>> {
    let is_left_out = |name: &OsStr| name == "target" || name == ".git";
    // The package that builds this example is in a subfolder of the crate.
    let mut paths = entries(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    paths.retain(|path| !path.file_name().is_some_and(is_left_out));
    Ok(paths)
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

/// Cancels every task on Ctrl-C, and lets no new ones start. Returns a flag that is set when that happens.
fn shut_down_on_interrupt(pool: &Arc<ThreadPoolExecutor>) -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (pool, flag, interrupts) = (pool.clone(), interrupted.clone(), cli::interrupts()?);
    let shut_down = interrupts.for_each(move |_| {
        flag.store(true, Ordering::Relaxed);
        pool.shutdown_now();
        ready(())
    });
    smol::spawn(shut_down).detach();
    Ok(interrupted)
}

/// The files to hash, and the paths that cannot be hashed.
#[derive(Default)]
struct Found {
    files: Vec<Entry>,
    failures: Vec<Failure>,
}

/// A file to be hashed.
struct Entry {
    path: PathBuf,
    size: u64,
}

/// A path that cannot be hashed, and why.
struct Failure(String);

impl Failure {
    fn new(path: &Path, error: &dyn Display) -> Self {
        Self(format!("{}: {error:#}", path.display()))
    }
}

/// Looks for files as a task of the pool, with a bar that is removed when the task ends. Returns `None` if it was interrupted.
async fn find(
    pool: &ThreadPoolExecutor,
    roots: Vec<PathBuf>,
    interrupted: &AtomicBool,
) -> Result<Option<Found>, TaskError> {
    let bar = ProgressBar::no_length().with_style(style("looking for files: {human_pos}"));
    let shown = bar.clone();
    let outcome = pool.submit(find_files, roots).with_bar(Triggers::RUNNING, || shown).await;
    bar.finish_and_clear();
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(_) if interrupted.load(Ordering::Relaxed) => {
            cli::complain(&"interrupted before all files were found");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn find_files(roots: Vec<PathBuf>, progress: &Updater) -> TaskResult<Found> {
    let mut found = Found::default();
    let mut folders = Vec::new();
    for root in roots {
        match fs::metadata(&root) {
            Ok(metadata) if metadata.is_dir() => folders.push(root),
            Ok(metadata) if metadata.is_file() => found.add(root, &metadata),
            Ok(_) => found.fail(&root, &"neither a file nor a folder"),
            Err(error) => found.fail(&root, &error),
        }
    }
    while let Some(folder) = folders.pop() {
        progress.check()?;
        found.visit(&folder, &mut folders, progress)?;
    }
    found.files.sort_unstable_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    Ok(found)
}

impl Found {
    /// Adds the files of a folder to the result, and its subfolders to `folders`, which are still to be visited.
    fn visit(&mut self, folder: &Path, folders: &mut Vec<PathBuf>, progress: &Updater) -> TaskResult<()> {
        let paths = entries(folder).unwrap_or_else(|error| {
            self.fail(folder, &error);
            Vec::new()
        });
        for path in paths {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => {
                    self.add(path, &metadata);
                    progress.update(1)?;
                }
                Ok(metadata) if metadata.is_dir() && !path.is_symlink() => folders.push(path),
                Ok(_) => {}
                Err(error) => self.fail(&path, &error),
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, metadata: &Metadata) {
        self.files.push(Entry { path, size: metadata.len() });
    }

    fn fail(&mut self, path: &Path, error: &dyn Display) {
        self.failures.push(Failure::new(path, error));
    }
}

type Sha256Digest = sha2::digest::Output<Sha256>;

/// Hashes one file, and counts its bytes.
fn digest(path: PathBuf, progress: &Updater) -> TaskResult<Sha256Digest> {
    let mut hasher = Sha256::new();
    let mut reader = BufReader::with_capacity(BUFFER, progress.reader(File::open(path)?));
    io::copy(&mut reader, &mut hasher)?;
    Ok(hasher.finalize())
}

/// Hashes the files, a few at a time, until all are done or Ctrl-C is pressed.
async fn hash(
    pool: &ThreadPoolExecutor,
    files: &[Entry],
    interrupted: &AtomicBool,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let bar = report.bar.clone();
    let start = |(index, file): (usize, &Entry)| {
        let bar = bar.clone();
        let task = pool.submit(digest, file.path.clone()).on_progress(move |old, new| bar.inc(new.n - old.n));
        async move { (index, task.await) }
    };
    let wanted = files.iter().enumerate().take_while(|_| !interrupted.load(Ordering::Relaxed));
    let mut outcomes = stream::iter(wanted).map(start).buffer_unordered(TASKS_PER_WORKER * pool.max_workers());
    while let Some((index, outcome)) = outcomes.next().await {
        // A file that fails after Ctrl-C, for whatever reason, counts as not hashed and not as failed.
        if outcome.is_ok() || !interrupted.load(Ordering::Relaxed) {
            report.settle(index, outcome)?;
        }
    }
    Ok(())
}

/// The outcomes of all files, for standard output and standard error.
struct Report<'a> {
    files: &'a [Entry],
    bar: ProgressBar,
    lines: Lines<'a>,
    started: Instant,
    written_at: Instant,
    hashed_files: u64,
    hashed_bytes: u64,
    failures: u64,
}

impl<'a> Report<'a> {
    fn new(files: &'a [Entry]) -> Self {
        let template =
            "{bytes:>10} of {total_bytes}  {wide_bar:.cyan/238}  {percent:>3} %  {bytes_per_sec:>12}  {eta:>4}";
        let bar = ProgressBar::new(total_size(files)).with_style(style(template).progress_chars("━╸─"));
        let now = Instant::now();
        Self {
            files,
            bar,
            lines: Lines::new(files),
            started: now,
            written_at: now,
            hashed_files: 0,
            hashed_bytes: 0,
            failures: 0,
        }
    }

    /// Records the outcome of one file.
    fn settle(&mut self, index: usize, outcome: Result<Sha256Digest, TaskError>) -> io::Result<()> {
        let file = &self.files[index];
        match outcome {
            Ok(digest) => {
                self.hashed_files += 1;
                self.hashed_bytes += file.size;
                self.lines.add(index, Some(digest));
            }
            Err(error) => {
                self.bar.dec_length(file.size.saturating_sub(error.progress().n));
                self.fail(&Failure::new(&file.path, error.source().unwrap_or(&error)));
                self.lines.add(index, None);
            }
        }
        if self.written_at.elapsed() > WRITE_INTERVAL { self.write() } else { Ok(()) }
    }

    fn fail(&mut self, failure: &Failure) {
        self.failures += 1;
        self.bar.suspend(|| cli::complain(&failure.0));
    }

    /// Writes the lines that are ready. The bar is hidden meanwhile, since they may go to the same terminal.
    fn write(&mut self) -> io::Result<()> {
        self.written_at = Instant::now();
        self.bar.suspend(|| self.lines.write(&mut io::stdout().lock()))
    }

    /// Writes the remaining lines and the summary, unless writing fails, or has failed already as `result` tells.
    fn close(mut self, result: io::Result<()>, interrupted: bool) -> io::Result<ExitCode> {
        self.lines.skip_gaps();
        self.bar.finish_and_clear();
        match result.and_then(|()| self.write()) {
            // The reader of the output may have been interrupted as well.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::from(cli::BROKEN_PIPE)),
            result => result?,
        }
        self.sum_up(interrupted);
        Ok(match self.failures {
            _ if interrupted => ExitCode::from(cli::INTERRUPTED),
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }

    fn sum_up(&self, interrupted: bool) {
        cli::complain(&self.summary(interrupted));
        if self.failures > 0 {
            cli::complain(&format!("{} could not be read", HumanCount(self.failures)));
        }
    }

    fn summary(&self, interrupted: bool) -> String {
        let (files, all_files) = (HumanCount(self.hashed_files), HumanCount(self.files.len() as u64));
        let (bytes, all_bytes) = (HumanBytes(self.hashed_bytes), HumanBytes(total_size(self.files)));
        let hashed = format!("{files} of {all_files} files hashed, {bytes} of {all_bytes}");
        if interrupted {
            return format!("interrupted: {hashed}");
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = HumanBytes((self.hashed_bytes as f64 / seconds) as u64);
        format!("{hashed}, in {seconds:.1} s ({rate}/s)")
    }
}

fn total_size(files: &[Entry]) -> u64 {
    files.iter().map(|file| file.size).sum()
}

/// Makes lines from digests, in the order of the files, in whatever order the digests arrive.
struct Lines<'a> {
    files: &'a [Entry],
    /// The first file that has not ended yet.
    next: usize,
    /// The outcomes of later files; `None` for one without a digest.
    ended: BTreeMap<usize, Option<Sha256Digest>>,
    /// The lines to be written.
    text: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(files: &'a [Entry]) -> Self {
        Self { files, next: 0, ended: BTreeMap::new(), text: Vec::new() }
    }

    /// Adds the outcome of a file. Without a digest, there is no line for it.
    fn add(&mut self, index: usize, digest: Option<Sha256Digest>) {
        self.ended.insert(index, digest);
        while let Some(digest) = self.ended.remove(&self.next) {
            self.push(self.next, digest);
            self.next += 1;
        }
    }

    /// Makes lines from all digests that are known, without waiting for the files in between.
    fn skip_gaps(&mut self) {
        for (index, digest) in mem::take(&mut self.ended) {
            self.push(index, digest);
        }
    }

    fn push(&mut self, index: usize, digest: Option<Sha256Digest>) {
        if let Some(digest) = digest {
            push_line(&mut self.text, &digest, &self.files[index].path);
        }
    }

    fn write(&mut self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.text)?;
        self.text.clear();
        out.flush()
    }
}

/// Appends a line as `sha256sum` writes it: it begins with a backslash if the name has characters that have to be escaped.
fn push_line(text: &mut Vec<u8>, digest: &Sha256Digest, path: &Path) {
    let name = path.as_os_str().as_encoded_bytes();
    if name.iter().any(|&byte| escape(byte).is_some()) {
        text.push(b'\\');
    }
    text.extend_from_slice(format!("{digest:x}  ").as_bytes());
    for byte in name {
        match escape(*byte) {
            Some(escaped) => text.extend_from_slice(escaped),
            None => text.push(*byte),
        }
    }
    text.push(b'\n');
}

fn escape(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'\\' => Some(b"\\\\"),
        b'\n' => Some(b"\\n"),
        b'\r' => Some(b"\\r"),
        _ => None,
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed")
}
