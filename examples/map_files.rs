//! Counts the lines of many files in worker processes, a few at a time, and shows the largest.
//!
//! ```text
//! cargo run --release --example map_files -- FOLDER
//! ```

mod cli;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures::StreamExt;
use progress_executor::{BoxError, ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};

const USAGE: &str = "\
Usage: map_files FOLDER

Counts the lines of all files below the folder in worker processes, a few files at
a time, and shows the largest. Files that cannot be read are reported.";

fn count_lines(path: PathBuf, progress: &Updater) -> TaskResult<(u64, PathBuf)> {
    let file = File::open(&path)?;
    progress.set_total(file.metadata()?.len());
    let mut lines = BufReader::new(progress.reader(file)); // counts bytes, and ends with an error when cancelled
    let (mut count, mut line) = (0, Vec::new());
    while lines.read_until(b'\n', &mut line)? > 0 {
        count += 1;
        line.clear();
    }
    Ok((count, path))
}

/// The files below a folder, found lazily, however many there are. Includes folders that cannot be read, so that their errors
/// are reported like those of files.
fn files(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let mut left = vec![folder.to_owned()];
    std::iter::from_fn(move || {
        while let Some(path) = left.pop() {
            match fs::read_dir(&path) {
                Ok(entries) => {
                    let paths = entries.flatten().map(|entry| entry.path());
                    left.extend(paths.filter(|path| !path.is_symlink()));
                }
                // Neither a file nor a folder: opening a pipe would block until something writes to it.
                Err(_) if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) => {}
                Err(_) => return Some(path),
            }
        }
        None
    })
}

fn main() -> ExitCode {
    TaskRegistry::new().register(count_lines).init(); // in a worker process this serves tasks, and never returns
    cli::run(USAGE, parse, |folder| count_all(&folder))
}

fn parse(arguments: Vec<OsString>) -> Result<PathBuf, String> {
    match <[OsString; 1]>::try_from(arguments) {
        Ok([option]) if option.as_encoded_bytes().starts_with(b"-") => Err(format!("unknown option {option:?}")),
        Ok([folder]) => Ok(folder.into()),
        Err(arguments) => Err(format!("expected one folder, but there are {}", arguments.len())),
    }
}

fn count_all(folder: &Path) -> Result<ExitCode, BoxError> {
    let executor = ProcessPoolExecutor::new(0)?; // as many as there are processors
    smol::block_on(async {
        let (mut total, mut largest, mut exit_code) = (0, None, ExitCode::SUCCESS);
        // Twice as many files as there are workers are in flight, and more if they are short.
        let counts = executor.map(count_lines, files(folder)).unordered();
        let mut counts = counts.named(|_, path| path.display().to_string()); // for the errors
        while let Some(outcome) = counts.next().await {
            match outcome {
                Ok(count) => {
                    total += count.0;
                    largest = largest.max(Some(count));
                }
                // An error affects only that file.
                Err(error) => {
                    cli::complain(&format_args!("{error:#}"));
                    exit_code = ExitCode::FAILURE;
                }
            }
        }
        match largest {
            Some((lines, path)) => cli::say(&format_args!("{total} lines; the most are {lines} in {}", path.display())),
            None => cli::complain(&"there is no file whose lines could be counted"),
        }
        Ok(exit_code)
    })
}
