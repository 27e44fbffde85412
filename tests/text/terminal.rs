//! A program on a terminal, and what its screen holds, as an emulator of one sees it.
//!
//! Each program is this test program, which plays a [`scene`](crate::screen) with a pseudo-terminal as its standard error.

use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use vt100::Parser;

use crate::support::within_deadline;

pub(crate) const WIDTHS: [u16; 6] = [20, 30, 40, 60, 80, 140];
pub(crate) const KINDS: [&str; 3] = ["threads", "processes", "launched"];
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A program on a terminal.
pub(crate) struct Program {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    pub(crate) master: File,
    pub(crate) terminal: Parser,
    /// All that it has written.
    pub(crate) raw: Vec<u8>,
}

impl Program {
    pub(crate) fn start(scene: &str, kind: &str, (rows, columns): (u16, u16), variables: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let slave = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["screen::scene", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("SCENE", scene).env("KIND", kind).env("TERM", "xterm-256color");
        for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM"] {
            command.env_remove(variable);
        }
        // The system stops no process whose group nobody outside of it looks after.
        command.process_group(0);
        command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(slave);
        let mut program = Self {
            child: Command::new("true").spawn().unwrap(),
            stdin: None,
            master: master.into(),
            terminal: Parser::new(rows, columns, 10_000),
            raw: Vec::new(),
        };
        program.resize(rows, columns);
        program.child.wait().unwrap();
        program.child = command.spawn().unwrap();
        program.stdin = program.child.stdin.take();
        program
    }

    pub(crate) fn resize(&mut self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
        self.terminal.screen_mut().set_size(rows, columns);
    }

    pub(crate) fn step(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Returns whether the program is still there.
    pub(crate) fn read(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not within {DEADLINE:?}: {:#?}", self.lines());
        let fd = OwnedFd::from(self.master.try_clone().unwrap());
        let timeout = Timespec::try_from(left).unwrap();
        if poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) == Ok(0) {
            return true;
        }
        let mut bytes = [0; 4096];
        match self.master.read(&mut bytes) {
            Ok(len @ 1..) => {
                self.terminal.process(&bytes[..len]);
                self.raw.extend(&bytes[..len]);
                true
            }
            // An error is how a terminal ends.
            _ => false,
        }
    }

    pub(crate) fn wait_until(&mut self, holds: impl Fn(&[String]) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !holds(&self.lines()) {
            assert!(self.read(until), "it has ended: {:#?}", self.lines());
        }
    }

    pub(crate) fn wait(&mut self) {
        let until = Instant::now() + DEADLINE;
        while self.read(until) {}
        assert!(self.child.wait().unwrap().success(), "{:#?}", self.lines());
    }

    /// The lines that are not empty, also those that have scrolled away.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let (_, columns) = self.terminal.screen().size();
        let screen = self.terminal.screen_mut();
        screen.set_scrollback(usize::MAX);
        let mut lines = Vec::new();
        for above in (1..=screen.scrollback()).rev() {
            screen.set_scrollback(above);
            lines.extend(screen.rows(0, columns).next());
        }
        screen.set_scrollback(0);
        lines.extend(screen.rows(0, columns));
        lines.into_iter().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
    }

    /// The characters in the last column.
    pub(crate) fn last_column(&self) -> String {
        let (rows, columns) = self.terminal.screen().size();
        let cells = (0..rows).filter_map(|row| self.terminal.screen().cell(row, columns - 1));
        cells.map(|cell| cell.contents().trim().to_owned()).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn is_bar(line: &str) -> bool {
    line.contains(" %") && !line.contains("said")
}

/// Calls a test with each kind of executor, and each width.
pub(crate) fn everywhere(test: impl Fn(&str, u16) + Copy + Send + 'static) {
    for kind in KINDS {
        for columns in WIDTHS {
            within_deadline(move || test(kind, columns));
        }
    }
}
