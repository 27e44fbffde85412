//! What is known about crews: workers that one command starts, and that connect to the program.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::error::WorkerExit;
use crate::process::pool::crews::listener::{Connected, Listener};
use crate::process::pool::launch::child::ChildProcess;
use crate::process::pool::launch::launched::{Launched, exit_behind};
use crate::process::pool::launch::termination::Termination;
use crate::process::pool::launch::{End, Failure};
use crate::process::pool::scheduler::events::WorkerNumber;
use crate::process::program;
use crate::process::protocol::channel::Channel;
use crate::process::protocol::noise::Terms;
use crate::process::this_process::ThisProcess;

/// How long a launcher may take to end by itself once its workers have ended.
const EXIT_GRACE: Duration = Duration::from_secs(2);
/// How long after one worker the next may connect: by then all of them run, and none tries to connect for so long.
pub(super) const STRAGGLING: Duration = Duration::from_secs(60);

/// What the thread that starts crews tells the driver.
pub(crate) enum CrewNews {
    Open(Listener),
    /// This many workers may connect under these terms.
    Expect(Terms, usize),
    /// The command of this crew runs.
    Started(u64, Box<Crew>),
    /// These workers will not come.
    Failed(u64, Vec<WorkerNumber>, Failure),
}

pub(crate) struct Crew {
    /// The launcher, until it has ended.
    pub(super) launcher: Option<ChildProcess>,
    /// What is known about a worker that has not connected.
    pub(super) launched: Launched,
    /// The launcher's standard input: carries the invitation, and then shows that this program lives. `None` if the invitation
    /// is in a file.
    pub(super) lifeline: Option<Channel>,
    pub(super) key_file: Option<KeyFile>,
    /// Workers that have not connected, with their indices.
    pub(super) absent: VecDeque<(WorkerNumber, usize)>,
    /// How many are connected.
    pub(super) present: usize,
    /// When the last one connected.
    pub(super) last_arrival: Option<Instant>,
    /// The last worker, which has said goodbye. Its place stays taken until the launcher has ended, so that nothing is left when
    /// the pool has ended.
    pub(super) leaving: Option<(WorkerNumber, End)>,
    /// Set once the launcher is no longer needed.
    pub(super) termination: Option<Termination>,
}

/// The file with an invitation, readable by its owner only. It is locked, so that no other pool takes its name, and removed
/// when dropped.
pub(super) struct KeyFile {
    path: PathBuf,
    process: ThisProcess,
    locked: File,
}

impl KeyFile {
    /// Creates the file, and replaces one that a killed program has left behind.
    pub(super) fn create(path: PathBuf, content: &[u8]) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        // Kept locked until the new file exists, so that no other pool replaces it at the same time.
        let _left_behind = remove_left_behind(&path).map_err(named)?;
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(named)?;
        // Not all file systems have locks.
        let _ = try_lock(&file);
        // Made before the writing, so that a file that cannot be written completely is removed too.
        let key_file = Self { path: path.clone(), process: ThisProcess::new(), locked: file };
        (&key_file.locked).write_all(content).map_err(named)?;
        Ok(key_file)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if self.process.is_here() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes a file that a killed program has left behind, but not one that a pool uses, or is just making.
fn remove_left_behind(path: &Path) -> io::Result<Option<File>> {
    // Does not wait for whatever is there, such as a pipe. Opened for writing, as NFS locks no other file exclusively.
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let opened = File::options().read(true).write(true).custom_flags(nonblocking).open(path);
    let Ok(file) = opened else { return Ok(None) };
    let found = file.metadata()?;
    let is_here = fs::symlink_metadata(path).is_ok_and(|it| (it.dev(), it.ino()) == (found.dev(), found.ino()));
    let problem = match try_lock(&file) {
        Err(Errno::WOULDBLOCK) => String::from("another pool uses this file: each needs a `key_file` of its own"),
        Err(error) => {
            format!("another pool may use this file, which cannot be locked ({error}): remove it if none does")
        }
        Ok(()) if !is_here || !found.is_file() || found.len() == 0 => {
            "no pool has left this behind: remove it, or choose another `key_file`".into()
        }
        Ok(()) => {
            fs::remove_file(path)?;
            return Ok(Some(file));
        }
    };
    Err(io::Error::new(io::ErrorKind::AlreadyExists, problem))
}

fn try_lock(file: &File) -> rustix::io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// What the driver knows about crews.
#[derive(Default)]
pub(crate) struct Crews {
    pub(super) listener: Option<Listener>,
    pub(super) by_number: HashMap<u64, Box<Crew>>,
    /// Workers that connected before the driver was told that their launcher runs.
    pub(super) early: Vec<Connected>,
}

impl Crews {
    pub(crate) fn are_over(&self) -> bool {
        self.by_number.is_empty()
    }
}

impl Crew {
    /// The end of a worker that has not connected.
    pub(super) fn process_end(&self, exit: WorkerExit) -> End {
        End {
            exit,
            fault: None,
            stopped: None,
            initializer: None,
            program: program::chosen(),
            record: None,
            is_exact: false,
            remains: Some(Box::new(self.launched.remains(&[]))),
            last_output: String::new(),
        }
    }

    pub(super) fn needs_looks(&self) -> bool {
        let is_feeding = self.lifeline.as_ref().is_some_and(Channel::is_full);
        let is_unwatched = self.launcher.as_ref().is_some_and(|launcher| launcher.pidfd().is_none());
        is_feeding || is_unwatched || self.termination.is_some()
    }

    /// When to give up workers that have not connected. Not if they were only submitted, as each may wait in a queue of
    /// its own.
    pub(super) fn next_arrival_by(&self) -> Option<Instant> {
        let is_waiting = self.lifeline.is_some() && !self.absent.is_empty();
        self.last_arrival.filter(|_| is_waiting).map(|last| last + STRAGGLING)
    }

    /// Whether no worker is connected, and none expected.
    pub(super) fn is_empty(&self) -> bool {
        self.absent.is_empty() && self.present == 0
    }

    /// Lets the launcher end if it has no more workers. Removes the key file if no other worker is expected.
    pub(super) fn release(&mut self, now: Instant) {
        if self.absent.is_empty() {
            self.key_file = None;
        }
        if self.is_empty() && self.termination.is_none() {
            self.lifeline.iter().for_each(Channel::close);
            let patience = if self.last_arrival.is_some() { EXIT_GRACE } else { Duration::ZERO };
            self.termination = Some(Termination::expected(now + patience));
        }
    }

    /// How the launcher has ended, if it has; `Unknown` if it does not, and is not waited for any longer.
    pub(super) fn exit(&mut self, now: Instant) -> Option<WorkerExit> {
        let launcher = self.launcher.as_ref()?;
        let is_stuck =
            self.termination.as_mut().is_some_and(|termination| termination.escalate(Some(launcher), now).is_none());
        launcher.exit().map(exit_behind).or(is_stuck.then_some(WorkerExit::Unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::KeyFile;
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("progress-executor-key-{name}-{}", std::process::id()))
    }

    /// Creates the file; panics if that takes more than a minute.
    fn create(path: &Path) -> std::io::Result<KeyFile> {
        let (path, (send, created)) = (path.to_owned(), channel());
        thread::spawn(move || send.send(KeyFile::create(path, b"the new one")));
        created.recv_timeout(Duration::from_secs(60)).expect("it waits for something")
    }

    #[test]
    fn what_a_killed_program_has_left_behind_is_replaced() {
        let path = path("left-behind");
        fs::write(&path, "the old one").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        let file = create(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"the new one");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
    }

    /// In a process of its own, which may not write to files.
    #[test]
    fn what_cannot_be_written_is_not_left_behind() {
        let name = "process::pool::crews::crew::tests::what_cannot_be_written_is_not_left_behind";
        if std::env::var_os("TEST_NO_SPACE").is_some() {
            let path = path("no-space");
            assert_eq!(create(&path).map(drop).unwrap_err().kind(), ErrorKind::FileTooLarge);
            assert!(!path.exists());
            return;
        }
        let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
        let mut again = Command::new("sh");
        again.args(["-c", script, "sh"]).arg(std::env::current_exe().unwrap()).args([name, "--exact"]);
        let output = again.env("TEST_NO_SPACE", "yes").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn what_another_pool_uses_or_is_making_or_nobody_has_made_is_left_alone() {
        let (used, empty, pipe, link) = (path("used"), path("empty"), path("pipe"), path("link"));
        let of_other = create(&used).unwrap();
        File::create(&empty).unwrap();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let target = path("target");
        fs::write(&target, "somebody's").unwrap();
        symlink(&target, &link).unwrap();
        for path in [&used, &empty, &pipe, &link] {
            let before = fs::symlink_metadata(path).unwrap().ino();
            let error = create(path).err().unwrap_or_else(|| panic!("{} is replaced", path.display()));
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
            assert_eq!(fs::symlink_metadata(path).unwrap().ino(), before);
        }
        assert_eq!(fs::read(&target).unwrap(), b"somebody's");
        drop(of_other);
        [empty, pipe, link, target].iter().for_each(|path| fs::remove_file(path).unwrap());
    }
}
