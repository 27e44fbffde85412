//! What a worker or a launcher writes to a stream: whole lines, with their tasks where those are known, and the last of
//! it for errors.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, mem};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ioctl_fionread, retry_on_intr};

use crate::id::{TaskId, WorkerId};
use crate::process::output::{OutputLine, OutputStream};
use crate::process::pool::output::labels::Labels;
use crate::process::protocol::channel::Channel;
use crate::task::TaskRef;
use crate::task::lines::whole_characters;

/// How many bytes of the end are kept for errors.
const KEPT_OUTPUT: usize = 4 * 1024;
/// The length in bytes beyond which a line is split.
const LONGEST_LINE: usize = 8 * 1024;
/// How many bytes are read at once.
const ROOM: usize = 16 * 1024;
/// How many bytes may wait to be passed on.
const MOST_WAITING: usize = 64 * 1024;

/// What one worker or launcher writes to one of its streams.
pub(crate) struct LineStream {
    fd: OwnedFd,
    stream: OutputStream,
    /// The tasks that may have written it, if that is known.
    writers: Option<Arc<Writers>>,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Said {
    /// The prefix of its lines, where they appear among others.
    mark: String,
    worker: WorkerId,
    /// Which lines are whose, if many workers write to this.
    labels: Option<Labels>,
    last: VecDeque<u8>,
    /// The beginning of a line.
    unfinished: Vec<u8>,
    /// Lines that were not passed on yet, and their size.
    lines: VecDeque<OutputLine>,
    waiting: usize,
    /// What ended tasks have written that was not read yet.
    left: VecDeque<Left>,
    /// Whether what is written now is dropped.
    is_muted: bool,
    /// How much is still to be read, once its process is gone: what others write after that is dropped.
    rest: Option<usize>,
    is_over: bool,
}

/// How many of the unread bytes were written by this task.
#[derive(Debug)]
struct Left {
    bytes: usize,
    writer: Option<Writer>,
}

type Writer = (TaskId, Arc<str>);

/// The tasks that were sent to a worker, of which it runs one.
pub(crate) struct Writers {
    sent: Mutex<VecDeque<(u64, TaskRef)>>,
    channel: Mutex<Option<Arc<Channel>>>,
}

impl Writers {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { sent: Mutex::default(), channel: Mutex::default() })
    }

    pub(crate) fn set_channel(&self, channel: Arc<Channel>) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel);
    }

    /// Notes a task that was sent to the worker.
    pub(crate) fn add(&self, place: u64, task: TaskRef) {
        self.sent().push_back((place, task));
    }

    /// Notes that this task has ended, as have those before it, so that they write nothing more.
    pub(crate) fn end(&self, id: u64) {
        let mut sent = self.sent();
        // It may have been sent before, and taken back.
        if let Some(index) = sent.iter().rposition(|(_, task)| task.core.id().to_u64() == id) {
            sent.drain(..=index);
        }
    }

    fn current(&self) -> Option<Writer> {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = channel.as_ref()?.memory();
        // Without shared memory, a worker has one task at a time.
        let has_begun = |place| memory.is_none_or(|memory| memory.place(place).is_some_and(|place| place.has_begun()));
        let sent = self.sent();
        // A task that has timed out still runs there.
        let (_, task) = sent.iter().find(|(place, _)| has_begun(*place))?;
        Some((task.core.id(), task.name().into()))
    }

    fn sent(&self) -> MutexGuard<'_, VecDeque<(u64, TaskRef)>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LineStream {
    pub(crate) fn new(
        fd: OwnedFd,
        stream: OutputStream,
        worker: WorkerId,
        mark: String,
        writers: Option<Arc<Writers>>,
    ) -> io::Result<Arc<Self>> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        let said = Said {
            mark,
            worker,
            labels: None,
            last: VecDeque::new(),
            unfinished: Vec::new(),
            lines: VecDeque::new(),
            waiting: 0,
            left: VecDeque::new(),
            is_muted: false,
            rest: None,
            is_over: false,
        };
        Ok(Arc::new(Self { fd, stream, writers, said: Mutex::new(said) }))
    }

    /// Sets the prefix of its lines, and who writes them.
    pub(crate) fn set_mark(&self, mark: String, worker: WorkerId) {
        let mut said = self.lock();
        (said.mark, said.worker) = (mark, worker);
    }

    /// Prepares for many workers that write to this.
    #[cfg(feature = "cluster")]
    pub(crate) fn share(&self) {
        self.lock().labels = Some(Labels::default());
    }

    /// Sets the prefix of the lines of one of many workers, which has arrived.
    pub(crate) fn greet(&self, worker: WorkerId, mark: String) {
        self.lock().labels.iter_mut().for_each(|labels| labels.greet(worker.clone(), mark.clone()));
    }

    /// The end of what was written so far, at most 4 KiB.
    pub(crate) fn last_output(&self) -> String {
        let mut said = self.lock();
        self.catch_up(&mut said);
        said.last_output().trim().to_owned()
    }

    /// The same, without lines that are known to come from other workers.
    pub(crate) fn last_output_of(&self, worker: &WorkerId) -> String {
        let mut said = self.lock();
        self.catch_up(&mut said);
        let last = said.last_output();
        let lines = last.lines().filter_map(|line| match said.split(line) {
            Some((writer, text)) => (writer == worker).then_some(text),
            None => Some(line),
        });
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    }

    /// Starts or stops dropping what is written.
    pub(crate) fn mute(&self, is_muted: bool) {
        let mut said = self.lock();
        while said.is_muted && self.read(&mut said) {}
        said.is_muted = is_muted;
    }

    /// Notes that the current task ends: what was written so far belongs to it.
    pub(crate) fn end_task(&self) {
        let mut said = self.lock();
        while self.read(&mut said) {}
        match self.unread() {
            0 => self.finish_line(&mut said),
            unread => {
                let before: usize = said.left.iter().map(|left| left.bytes).sum();
                if unread > before {
                    said.left.push_back(Left { bytes: unread - before, writer: self.writer() });
                }
            }
        }
    }

    /// Notes that its process is gone, and writes nothing more.
    pub(crate) fn leave(&self) {
        let mut said = self.lock();
        said.rest.get_or_insert(self.unread());
    }

    /// Reads all that was written so far, even what there is no room for.
    fn catch_up(&self, said: &mut Said) {
        while self.read(said) {}
        let mut unread = self.unread();
        while unread > 0 {
            match self.take(said, unread) {
                0 => return,
                len => unread -= len,
            }
        }
    }

    /// How many bytes were written and not read yet.
    fn unread(&self) -> usize {
        ioctl_fionread(&self.fd).map_or(0, |len| len as usize)
    }

    /// Reads some of it, if there is room. Returns whether there was something.
    fn read(&self, said: &mut Said) -> bool {
        said.waiting < MOST_WAITING && self.take(said, ROOM) > 0
    }

    /// Reads at most this many bytes, and returns how many.
    fn take(&self, said: &mut Said, most: usize) -> usize {
        if said.is_over {
            return 0;
        }
        let most = said.left.front().map_or(most, |left| left.bytes.min(most));
        let most = said.rest.map_or(most, |rest| rest.min(most));
        let mut bytes = vec![0; most.min(ROOM)];
        match retry_on_intr(|| rustix::io::read(&self.fd, &mut *bytes)) {
            Ok(len @ 1..) => {
                self.take_in(said, &bytes[..len]);
                self.take_off(said, len);
                said.rest = said.rest.map(|rest| rest - len);
                len
            }
            Err(Errno::AGAIN) if said.rest.is_none() => 0,
            Ok(0) | Err(_) => {
                self.finish_line(said);
                said.is_over = true;
                0
            }
        }
    }

    /// Accounts for bytes that were read of what the first of the ended tasks has left.
    fn take_off(&self, said: &mut Said, len: usize) {
        let Some(left) = said.left.front_mut() else { return };
        left.bytes -= len;
        if left.bytes == 0 {
            self.finish_line(said);
            said.left.pop_front();
        }
    }

    fn take_in(&self, said: &mut Said, bytes: &[u8]) {
        if said.is_muted {
            return;
        }
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            said.unfinished.extend_from_slice(piece);
            while let Some(beginning) = said.unfinished.get(..LONGEST_LINE) {
                if without_ending(&said.unfinished).len() <= LONGEST_LINE {
                    break;
                }
                let rest = said.unfinished.split_off(whole_characters(beginning));
                let beginning = mem::replace(&mut said.unfinished, rest);
                self.add_line(said, &beginning, beginning.len());
            }
            if piece.ends_with(b"\n") {
                self.finish_line(said);
            }
        }
    }

    fn finish_line(&self, said: &mut Said) {
        let line = mem::take(&mut said.unfinished);
        if !line.is_empty() {
            self.add_line(said, &line, without_ending(&line).len());
        }
    }

    /// Adds a line, or a part of a long one, whose text has this length.
    fn add_line(&self, said: &mut Said, line: &[u8], len: usize) {
        let text = String::from_utf8_lossy(&line[..len]);
        if said.labels.as_mut().is_some_and(|labels| labels.learn(&text)) {
            return;
        }
        said.waiting += line.len();
        if self.stream == OutputStream::Stderr {
            said.keep(line);
        }
        let writer = said.left.front().map_or_else(|| self.writer(), |left| left.writer.clone());
        let (worker, text) = said.split(&text).unwrap_or((&said.worker, &text));
        let (worker, text) = (worker.clone(), text.to_owned());
        let (task, name) = writer.unzip();
        said.lines.push_back(OutputLine { worker, stream: self.stream, task, name, text });
    }

    /// The task that writes now, if that is known.
    fn writer(&self) -> Option<Writer> {
        self.writers.as_ref()?.current()
    }

    /// Takes the lines to pass on, after reading some more.
    pub(super) fn next_lines(&self) -> VecDeque<OutputLine> {
        let mut said = self.lock();
        self.read(&mut said);
        said.waiting = 0;
        mem::take(&mut said.lines)
    }

    /// The prefix of the lines of this worker.
    pub(super) fn mark(&self, worker: &WorkerId) -> String {
        let said = self.lock();
        said.labels.as_ref().and_then(|labels| labels.mark(worker)).unwrap_or(&said.mark).to_owned()
    }

    pub(super) fn is_over(&self) -> bool {
        let said = self.lock();
        said.is_over && said.lines.is_empty()
    }

    /// Whether there is something to be done that polling the descriptor does not show.
    pub(super) fn has_news(&self) -> bool {
        let said = self.lock();
        !said.lines.is_empty() || said.rest.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for LineStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Said {
    /// The worker that has written this line, if it is one of many, and the line without its label.
    fn split<'a>(&self, line: &'a str) -> Option<(&WorkerId, &'a str)> {
        self.labels.as_ref()?.split(line)
    }

    /// Keeps the end of what was written, for errors.
    fn keep(&mut self, line: &[u8]) {
        self.last.extend(line);
        let surplus = self.last.len().saturating_sub(KEPT_OUTPUT);
        self.last.drain(..surplus);
    }

    fn last_output(&self) -> String {
        let words: Vec<u8> = self.last.iter().chain(&self.unfinished).copied().collect();
        let surplus = words.len().saturating_sub(KEPT_OUTPUT);
        String::from_utf8_lossy(&words[surplus..]).into_owned()
    }
}

/// The line without what ends it.
fn without_ending(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::{KEPT_OUTPUT, LONGEST_LINE, LineStream, MOST_WAITING};
    use crate::id::WorkerId;
    use crate::process::output::OutputStream;
    use std::io::{ErrorKind, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    fn stream() -> (UnixStream, Arc<LineStream>) {
        let (writer, reader) = UnixStream::pair().unwrap();
        let worker = WorkerId::Thread(1);
        (writer, LineStream::new(reader.into(), OutputStream::Stderr, worker, "a/1".into(), None).unwrap())
    }

    fn texts(stream: &LineStream) -> Vec<String> {
        stream.next_lines().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_are_whole_and_the_last_words_are_kept() {
        let (mut writer, stream) = stream();
        writer.write_all(b"one\r\n\ntw").unwrap();
        assert_eq!(texts(&stream), ["one", ""], "a line that may go on waits");
        writer.write_all(&[b'x'; KEPT_OUTPUT]).unwrap();
        writer.write_all(b"the end\nno newline").unwrap();
        drop(writer);
        let last = stream.last_output();
        assert!(last.ends_with("xthe end\nno newline") && last.len() == KEPT_OUTPUT, "{last}");
        let rest = texts(&stream);
        assert!(rest[0].starts_with("twxx") && rest[1..] == ["no newline"] && stream.is_over());
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_characters() {
        let (mut writer, stream) = stream();
        let text = "x".to_owned() + &"語".repeat(20_000);
        let sender = std::thread::spawn({
            let text = text.clone();
            move || writer.write_all(text.as_bytes()).unwrap()
        });
        let mut lines = Vec::new();
        while !stream.is_over() {
            lines.extend(texts(&stream));
        }
        sender.join().unwrap();
        assert!(lines.iter().all(|line| line.len() <= LONGEST_LINE));
        assert_eq!((lines.concat(), lines.len()), (text, 8));
    }

    #[test]
    fn a_line_is_as_long_as_is_said() {
        let (mut writer, stream) = stream();
        let line = |len| "x".repeat(len);
        for ending in ["\n", "\r\n"] {
            for len in [LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1, 2 * LONGEST_LINE, 2 * LONGEST_LINE + 1] {
                writer.write_all((line(len) + ending).as_bytes()).unwrap();
                stream.end_task();
                let lens: Vec<usize> = texts(&stream).iter().map(String::len).collect();
                let rest = (len - 1) % LONGEST_LINE + 1;
                let expected = [vec![LONGEST_LINE; (len - 1) / LONGEST_LINE], vec![rest]].concat();
                assert_eq!(lens, expected, "{len} {ending:?}");
            }
        }
    }

    #[test]
    fn what_was_said_last_is_known_also_where_nobody_takes_what_was_said_before() {
        let (mut writer, stream) = stream();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        while stream.lock().waiting < MOST_WAITING {
            writer.write_all(&line).unwrap();
            stream.end_task();
        }
        writer.write_all(b"the end").unwrap();
        stream.end_task();
        assert!(stream.last_output().ends_with("the end"));
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn lines_of_many_are_told_apart_by_what_a_launcher_labels_them_with() {
        let (mut writer, stream) = stream();
        let worker = |id| WorkerId::Process { id, host: Some("n1".into()) };
        stream.share();
        (0..2).for_each(|id| stream.greet(worker(id), format!("n1/{id}")));
        writer.write_all(b"0: progress-executor worker 0 on n1\n1: progress-executor worker 1 on n1\n").unwrap();
        writer.write_all(b"0: a\n1: b\nsrun: c\n").unwrap();
        assert_eq!(stream.last_output_of(&worker(1)), "b\nsrun: c");
        let lines: Vec<_> =
            stream.next_lines().into_iter().map(|line| (stream.mark(&line.worker), line.text)).collect();
        let expected = [("n1/0", "a"), ("n1/1", "b"), ("a/1", "srun: c")];
        assert_eq!(lines, expected.map(|(mark, text)| (mark.to_owned(), text.to_owned())));
    }

    #[test]
    fn what_nobody_takes_stays_in_the_pipe() {
        let (mut writer, stream) = stream();
        writer.set_nonblocking(true).unwrap();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        let is_full = (0..100_000).any(|_| {
            stream.end_task();
            writer.write_all(&line).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        assert!(is_full && stream.lock().waiting <= 2 * MOST_WAITING);
    }

    #[test]
    fn what_is_muted_is_nobodys_and_what_others_hold_ends_with_the_process() {
        let (mut writer, stream) = stream();
        stream.mute(true);
        writer.write_all(b"running 1 test\n").unwrap();
        stream.mute(false);
        writer.write_all(b"said").unwrap();
        assert!(texts(&stream).is_empty() && !stream.is_over());
        stream.leave();
        while !stream.lock().is_over {
            stream.last_output();
        }
        assert_eq!(texts(&stream), ["said"], "although it is still open");
    }
}
