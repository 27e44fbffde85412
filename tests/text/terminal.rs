//! A program on a terminal, and what its screen shows according to an emulator.
//!
//! Each program is this test program, which plays a [`scene`](crate::screen) with a pseudo-terminal as its standard error.

use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use vt100::Parser;

use crate::support::{DEADLINE, within_deadline};

pub(crate) const WIDTHS: [u16; 6] = [20, 30, 40, 60, 80, 140];
pub(crate) const KINDS: [&str; 3] = ["threads", "processes", "launched"];

/// Each frame ends by erasing what is below it.
pub(crate) const END_OF_FRAME: &[u8] = b"\x1b[J";

/// How many of the moments at which a key may be shown are tried, of the first and of the last ones.
const MOMENTS: usize = 40;

/// The arguments with which this program plays a scene.
const SCENE: [&str; 5] = ["screen::scene", "--exact", "--ignored", "--nocapture", "--test-threads=1"];

/// A program on a terminal.
pub(crate) struct Program {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    pub(crate) master: File,
    pub(crate) terminal: Parser,
    cut: Cut,
    /// Everything that it has written.
    pub(crate) raw: Vec<u8>,
}

impl Program {
    pub(crate) fn start(scene: &str, kind: &str, size: (u16, u16), variables: &[(&str, &str)]) -> Self {
        let (master, slave) = pseudo_terminal();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(SCENE).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(slave);
        // The system does not stop a process whose process group is orphaned.
        command.process_group(0);
        Self::spawn(command, master, size, &[&[("SCENE", scene), ("KIND", kind)], variables].concat())
    }

    /// Starts the program as a command of a shell that has the terminal.
    pub(crate) fn start_in_shell(scene: &str, kind: &str, size: (u16, u16), variables: &[(&str, &str)]) -> Self {
        let (master, slave) = pseudo_terminal();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "--noediting", "-i"]).env("PS1", "$ ");
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        // Not on the command line, because the terminal shows that.
        let program = format!("{} {}", env::current_exe().unwrap().display(), SCENE.join(" "));
        let variables = [&[("SCENE", scene), ("KIND", kind), ("PROGRAM", &program)], variables].concat();
        let mut shell = Self::spawn(command, master, size, &variables);
        shell.enter("$PROGRAM >/dev/null");
        shell
    }

    fn spawn(mut command: Command, master: OwnedFd, size: (u16, u16), variables: &[(&str, &str)]) -> Self {
        for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM"] {
            command.env_remove(variable);
        }
        let (rows, columns) = size;
        tell_size(&master, rows, columns);
        let mut child = command.env("TERM", "xterm-256color").envs(variables.iter().copied()).spawn().unwrap();
        Self {
            stdin: child.stdin.take(),
            child,
            master: master.into(),
            terminal: Parser::new(rows, columns, 10_000),
            cut: Cut::default(),
            raw: Vec::new(),
        }
    }

    /// Types a line at the terminal.
    pub(crate) fn enter(&mut self, line: &str) {
        self.master.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(crate) fn resize(&mut self, rows: u16, columns: u16) {
        self.terminal.screen_mut().set_size(rows, columns);
        self.tell_size();
    }

    /// Resizes as most terminals do: what is too wide goes on in the next row, and is one line again when there is
    /// room. The program does not know of the new size until it is [told](Self::tell_size).
    pub(crate) fn reflow(&mut self, rows: u16, columns: u16) {
        // Output on its way to the terminal was drawn for the old size, so none may be left.
        let process = self.stop_between_frames();
        let (row, column) = self.terminal.screen().cursor_position();
        assert_eq!(column, 0, "the cursor stands below the bars");
        let below = self.terminal.screen().size().0 - row;
        let lines = self.rows();
        let mut terminal = Parser::new(rows, columns, 10_000);
        for (text, is_wrapped) in &lines[..lines.len() - usize::from(below)] {
            terminal.process(text.as_bytes());
            terminal.process(if *is_wrapped { b"" } else { b"\r\n" });
        }
        self.terminal = terminal;
        kill_process(process, Signal::CONT).unwrap();
    }

    pub(crate) fn tell_size(&self) {
        let (rows, columns) = self.terminal.screen().size();
        tell_size(&self.master, rows, columns);
    }

    /// Stops the program, and takes in what it has written by then.
    pub(crate) fn stop(&mut self, signal: Signal) -> Pid {
        let process = Pid::from_child(&self.child);
        kill_process(process, signal).unwrap();
        let (_, status) = waitpid(Some(process), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped());
        while self.is_readable(Duration::ZERO) && self.take_in() {}
        process
    }

    /// Stops the program where it stands between two frames: one that is ahead of its terminal may be stopped within a
    /// frame, and goes on then.
    fn stop_between_frames(&mut self) -> Pid {
        loop {
            let process = self.stop(Signal::STOP);
            if self.raw.ends_with(END_OF_FRAME) {
                return process;
            }
            kill_process(process, Signal::CONT).unwrap();
            self.wait_for_end_of_frame();
        }
    }

    /// Whether the last frame was whole when `shown` appeared for a key, and is whole now. A program that is ahead of
    /// its terminal, by as much as the system buffers, stands within a frame.
    pub(crate) fn stood_between_frames(&self, shown: &str) -> bool {
        let at = self.raw.windows(shown.len()).rposition(|bytes| bytes == shown.as_bytes()).unwrap();
        let (before, after) = self.raw.split_at(at);
        before.ends_with(END_OF_FRAME) && (!after.contains(&0x1b) || after.ends_with(END_OF_FRAME))
    }

    /// The screen at the end of the last whole frame, for each moment of the first and the last frames at which Linux
    /// may have shown a key: before it turns a line feed into a new line.
    pub(crate) fn screens_with(&self, key: &str) -> Vec<String> {
        let end = self.raw.windows(END_OF_FRAME.len()).rposition(|bytes| bytes == END_OF_FRAME).unwrap();
        let (rows, columns) = self.terminal.screen().size();
        let moments: Vec<_> = (0..end).filter(|&at| self.raw[at..end].starts_with(b"\r\n")).collect();
        // On a busy machine there are hundreds of frames, and each moment is played from the first one on.
        let (first, others) = moments.split_at(moments.len().min(MOMENTS));
        let last = &others[others.len().saturating_sub(MOMENTS)..];
        let screen_with_key_at = |at| {
            let (mut terminal, mut cut) = (Parser::new(rows, columns, 0), Cut::default());
            let written = [&self.raw[..at], key.as_bytes(), &self.raw[at..end], END_OF_FRAME].concat();
            written.into_iter().for_each(|byte| cut.process(byte, &mut terminal));
            terminal.screen().contents()
        };
        [first, last].concat().into_iter().map(screen_with_key_at).collect()
    }

    pub(crate) fn step(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Returns whether the program is still there.
    pub(crate) fn read(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not within {DEADLINE:?}: {:#?}", self.lines());
        !self.is_readable(left) || self.take_in()
    }

    fn is_readable(&self, timeout: Duration) -> bool {
        let fd = OwnedFd::from(self.master.try_clone().unwrap());
        let timeout = Timespec::try_from(timeout).unwrap();
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) != Ok(0)
    }

    /// Returns whether there was something to take in.
    fn take_in(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.master.read(&mut bytes) {
            Ok(len @ 1..) => {
                bytes[..len].iter().for_each(|&byte| self.cut.process(byte, &mut self.terminal));
                self.raw.extend(&bytes[..len]);
                true
            }
            // A terminal ends with an error.
            _ => false,
        }
    }

    pub(crate) fn wait_until(&mut self, holds: impl Fn(&[String]) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !holds(&self.lines()) {
            assert!(self.read(until), "it has ended: {:#?}", self.lines());
        }
    }

    /// Presses a key, and waits for what the terminal shows of it.
    pub(crate) fn press(&mut self, key: &[u8], shown: &str) {
        let (seen, until) = (self.raw.len(), Instant::now() + DEADLINE);
        self.master.write_all(key).unwrap();
        while !self.raw[seen..].windows(shown.len()).any(|bytes| bytes == shown.as_bytes()) {
            assert!(self.read(until));
        }
    }

    /// Waits until the program has drawn this many frames.
    pub(crate) fn wait_for_frames(&mut self, frames: usize) {
        let (seen, until) = (self.raw.len(), Instant::now() + DEADLINE);
        let is_end = |bytes: &&[u8]| *bytes == END_OF_FRAME;
        while self.raw[seen..].windows(END_OF_FRAME.len()).filter(is_end).count() < frames {
            assert!(self.read(until), "it has ended: {:#?}", self.lines());
        }
    }

    pub(crate) fn wait_for_end_of_frame(&mut self) {
        let until = Instant::now() + DEADLINE;
        while !self.raw.ends_with(END_OF_FRAME) {
            assert!(self.read(until), "it has ended: {:#?}", self.lines());
        }
    }

    pub(crate) fn wait(&mut self) {
        let until = Instant::now() + DEADLINE;
        while self.read(until) {}
        assert!(self.child.wait().unwrap().success(), "{:#?}", self.lines());
    }

    /// The rows that are not empty, including those that have scrolled away.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        self.rows().into_iter().map(|(row, _)| row).filter(|row| !row.is_empty()).collect()
    }

    /// All rows, including those that have scrolled away, and whether each goes on in the next one.
    fn rows(&mut self) -> Vec<(String, bool)> {
        let (rows, columns) = self.terminal.screen().size();
        let screen = self.terminal.screen_mut();
        screen.set_scrollback(usize::MAX);
        let mut lines = Vec::new();
        for above in (1..=screen.scrollback()).rev() {
            screen.set_scrollback(above);
            lines.extend(screen.rows(0, columns).next().map(|row| (row, screen.row_wrapped(0))));
        }
        screen.set_scrollback(0);
        lines.extend(screen.rows(0, columns).zip((0..rows).map(|row| screen.row_wrapped(row))));
        lines.into_iter().map(|(row, is_wrapped)| (row.trim_end().to_owned(), is_wrapped)).collect()
    }

    /// The characters in the last column.
    pub(crate) fn last_column(&self) -> String {
        let (rows, columns) = self.terminal.screen().size();
        let cells = (0..rows).filter_map(|row| self.terminal.screen().cell(row, columns - 1));
        cells.map(|cell| cell.contents().trim().to_owned()).collect()
    }
}

/// Only the program inherits the terminal, which ends with the last process that has it: not what other tests start meanwhile.
fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap();
    let slave = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    (master, slave)
}

fn tell_size(master: impl AsFd, ws_row: u16, ws_col: u16) {
    tcsetwinsize(master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mode that the emulator does not support: what does not fit in a line is cut off.
#[derive(Default)]
struct Cut {
    is_on: bool,
    /// The part of an escape sequence that has arrived so far.
    sequence: Vec<u8>,
    /// This character is cut off.
    is_skipped: bool,
}

impl Cut {
    fn process(&mut self, byte: u8, terminal: &mut Parser) {
        if byte == 0x1b || !self.sequence.is_empty() {
            self.sequence.push(byte);
            if byte.is_ascii_alphabetic() {
                let sequence = std::mem::take(&mut self.sequence);
                self.is_on = (self.is_on || sequence == b"\x1b[?7l") && sequence != b"\x1b[?7h";
                terminal.process(&sequence);
            }
            return;
        }
        let is_first_byte = byte & 0xc0 != 0x80;
        if is_first_byte {
            let (_, column) = terminal.screen().cursor_position();
            self.is_skipped = self.is_on && byte >= b' ' && column + 1 >= terminal.screen().size().1;
        }
        if !self.is_skipped {
            terminal.process(&[byte]);
        }
    }
}

pub(crate) fn is_bar(line: &str) -> bool {
    line.contains(" %") && !line.contains("said")
}

/// Calls a test with each kind of executor and each width.
pub(crate) fn everywhere(test: impl Fn(&str, u16) + Copy + Send + 'static) {
    for kind in KINDS {
        for columns in WIDTHS {
            within_deadline(move || test(kind, columns));
        }
    }
}
