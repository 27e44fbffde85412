//! What launchers and their workers write to standard error: it appears on the program's, line by line, behind the worker
//! that it came from, and the last of it is kept for errors.
//!
//! One thread for all workers of a pool reads and writes it. A reader of the program's standard error who does not read holds
//! up that thread, and in the end whoever writes too much; not the driver, and no task that has nothing to say.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{mem, thread};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, retry_on_intr};

use crate::process::protocol::wake_pipe::WakePipe;

/// How much of what was said last is kept for errors.
const LAST_WORDS: usize = 4 * 1024;
/// How long a line may be before it is taken for one.
const LONGEST_LINE: usize = 8 * 1024;
/// How much is read at once.
const ROOM: usize = 16 * 1024;
/// How much of what was said is read without being written, at the end.
const MOST_UNWRITTEN: usize = 64 * 1024;

/// What one launcher writes to its standard error, and so its worker.
#[derive(Debug)]
pub(crate) struct ErrorStream {
    fd: OwnedFd,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// What lines are marked with.
    mark: String,
    last: VecDeque<u8>,
    /// What was not written yet.
    unwritten: Vec<u8>,
    is_over: bool,
}

impl ErrorStream {
    pub(crate) fn new(fd: OwnedFd, mark: String) -> io::Result<Self> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        Ok(Self { fd, said: Mutex::new(Said { mark, ..Said::default() }) })
    }

    /// Where it came from is known better now.
    pub(crate) fn set_mark(&self, mark: String) {
        self.lock().mark = mark;
    }

    /// The end of what was said by now, at most 4 KiB.
    pub(crate) fn last_words(&self) -> String {
        let mut said = self.lock();
        while said.unwritten.len() < MOST_UNWRITTEN && self.read(&mut said) {}
        let last = said.last.make_contiguous();
        String::from_utf8_lossy(last).trim().to_owned()
    }

    /// Reads some of it, and returns whether there was something.
    fn read(&self, said: &mut Said) -> bool {
        if said.is_over {
            return false;
        }
        let mut bytes = Vec::with_capacity(ROOM);
        match retry_on_intr(|| rustix::io::read(&self.fd, spare_capacity(&mut bytes))) {
            Ok(1..) => {
                said.unwritten.extend(&bytes);
                said.last.extend(&bytes);
                let surplus = said.last.len().saturating_sub(LAST_WORDS);
                said.last.drain(..surplus);
                true
            }
            Err(Errno::AGAIN) => false,
            Ok(0) | Err(_) => {
                said.is_over = true;
                false
            }
        }
    }

    /// Reads some of it, and returns the lines that are whole, with their marks.
    fn next_lines(&self) -> Vec<u8> {
        let mut said = self.lock();
        self.read(&mut said);
        let is_all = said.is_over || said.unwritten.len() > LONGEST_LINE;
        let end = if is_all { said.unwritten.len() } else { end_of_lines(&said.unwritten) };
        let rest = said.unwritten.split_off(end);
        let lines = mem::replace(&mut said.unwritten, rest);
        marked(&said.mark, &lines)
    }

    fn is_over(&self) -> bool {
        self.lock().is_over
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end_of_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
}

fn marked(mark: &str, lines: &[u8]) -> Vec<u8> {
    let mut marked = Vec::with_capacity(lines.len() + 64);
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        marked.extend(format!("[{mark}] ").as_bytes());
        marked.extend(line);
        if !line.ends_with(b"\n") {
            marked.push(b'\n');
        }
    }
    marked
}

/// What the thread that relays is told.
#[derive(Debug)]
pub(crate) struct Relay {
    wake: WakePipe,
    news: Mutex<News>,
}

#[derive(Debug, Default)]
struct News {
    arrived: Vec<Arc<ErrorStream>>,
    /// No other will arrive.
    is_over: bool,
}

impl Relay {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let relay = Arc::new(Self { wake: WakePipe::new()?, news: Mutex::default() });
        let shared = relay.clone();
        thread::Builder::new().name("progress-relay".into()).spawn(move || shared.run())?;
        Ok(relay)
    }

    pub(crate) fn add(&self, stream: Arc<ErrorStream>) {
        self.news().arrived.push(stream);
        self.wake.wake();
    }

    /// Lets the thread end once those who speak have ended.
    pub(crate) fn finish(&self) {
        self.news().is_over = true;
        self.wake.wake();
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut streams: Vec<Arc<ErrorStream>> = Vec::new();
        loop {
            self.wake.drain();
            let mut news = self.news();
            streams.append(&mut news.arrived);
            if news.is_over && streams.is_empty() {
                return;
            }
            drop(news);
            let mut ready = self.wait(&streams).into_iter();
            streams.retain(|stream| {
                if ready.next() == Some(true) {
                    // Nobody may read it.
                    let _ = io::stderr().write_all(&stream.next_lines());
                }
                !stream.is_over()
            });
        }
    }

    /// Waits until somebody has spoken, or there is somebody else to listen to. Returns who has.
    fn wait(&self, streams: &[Arc<ErrorStream>]) -> Vec<bool> {
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(streams.iter().map(|stream| PollFd::new(&stream.fd, PollFlags::IN)));
        // An error is as good as something to read: whoever waits looks again.
        let _ = retry_on_intr(|| poll(&mut fds, None));
        fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorStream, LAST_WORDS, marked};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn lines_are_marked_and_the_last_words_are_kept() {
        assert_eq!(marked("a/1", b"one\n\ntwo"), b"[a/1] one\n[a/1] \n[a/1] two\n");
        let (mut writer, reader) = UnixStream::pair().unwrap();
        let stream = ErrorStream::new(reader.into(), "a/1".into()).unwrap();
        writer.write_all(b"one\ntw").unwrap();
        assert_eq!(stream.next_lines(), b"[a/1] one\n", "a line that may go on waits");
        writer.write_all(&[b'x'; LAST_WORDS]).unwrap();
        writer.write_all(b"the end\n").unwrap();
        drop(writer);
        let last = stream.last_words();
        assert!(last.ends_with("xthe end") && last.len() == LAST_WORDS - 1, "{last}");
        assert!(stream.next_lines().starts_with(b"[a/1] twxx") && stream.is_over());
    }
}
