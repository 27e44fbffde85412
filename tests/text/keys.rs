//! A program with bars that is stopped by Ctrl-Z, and goes on by `fg`.

use std::env;
use std::io::Write;
use std::thread;
use std::time::Instant;

use progress_executor::{ExecutorExt, GroupBars, TaskGroup};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use signal_hook::consts::SIGTSTP;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::screen::{Part, executor, wait_for_step};
use crate::support::NewFile;
use crate::terminal::{DEADLINE, Program, everywhere, is_bar};

/// What a shell writes meanwhile.
const SHELL: [&str; 3] = ["[1]+ Stopped", "$ fg", "program"];

/// Two tasks that go on until the test has seen enough.
pub(crate) fn play() {
    let (executor, file) = (executor(2), NewFile::new());
    let mut group: TaskGroup<()> = TaskGroup::new();
    let bars = group.show_bars();
    if env::var_os("HANDLES").is_some() {
        take_away_on_ctrl_z(bars);
    }
    for name in ["one", "two"] {
        group.add(executor.task(crate::screen::play, Part::until(&file)).name(name).submit());
    }
    let opener = thread::spawn(move || {
        wait_for_step();
        drop(file);
    });
    group.join().wait().unwrap();
    opener.join().unwrap();
}

fn take_away_on_ctrl_z(bars: GroupBars) {
    let mut signals = Signals::new([SIGTSTP]).unwrap();
    thread::spawn(move || {
        for signal in signals.forever() {
            bars.suspend(|| emulate_default_handler(signal)).unwrap();
        }
    });
}

fn are_whole(lines: &[String]) -> bool {
    let names = ["one", "two", "total"];
    lines.len() == names.len() && lines.iter().zip(names).all(|(line, name)| line.starts_with(name) && is_bar(line))
}

/// Starts the program, and stops it as Ctrl-Z does in a terminal.
fn stopped(kind: &str, columns: u16, variables: &[(&str, &str)]) -> (Program, Pid) {
    let mut program = Program::start("stopped", kind, (24, columns), variables);
    program.wait_until(are_whole);
    let (seen, until) = (program.raw.len(), Instant::now() + DEADLINE);
    program.master.write_all(b"\x1a").unwrap();
    while !program.raw[seen..].windows(2).any(|bytes| bytes == b"^Z") {
        assert!(program.read(until));
    }
    let process = Pid::from_child(&program.child);
    kill_process(process, Signal::TSTP).unwrap();
    let (_, status) = waitpid(Some(process), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped());
    (program, process)
}

/// A shell says what it has to, and has the program go on.
fn go_on(program: &mut Program, process: Pid) {
    program.terminal.process(SHELL.map(|line| format!("{line}\r\n")).concat().as_bytes());
    kill_process(process, Signal::CONT).unwrap();
}

#[test]
fn bars_that_are_taken_away_on_ctrl_z_leave_the_screen_to_the_shell() {
    everywhere(|kind, columns| {
        let (mut program, process) = stopped(kind, columns, &[("HANDLES", "")]);
        program.wait_until(<[String]>::is_empty);
        go_on(&mut program, process);
        program.wait_until(|lines| lines.strip_prefix(&SHELL.map(str::to_owned)).is_some_and(are_whole));
        program.step();
        program.wait();
        let lines = program.lines();
        assert!(lines.len() == 4 && lines[..3] == SHELL && lines[3].starts_with("2 ended: "), "{lines:#?}");
    });
}

#[test]
fn bars_that_stay_there_are_not_torn_when_the_program_goes_on() {
    everywhere(|kind, columns| {
        let (mut program, process) = stopped(kind, columns, &[]);
        go_on(&mut program, process);
        program.step();
        program.wait();
        let lines = program.lines();
        let is_whole = |line: &String| is_bar(line) || line.starts_with("^Z") || SHELL.contains(&line.as_str());
        let (last, others) = lines.split_last().unwrap();
        assert!(last.starts_with("2 ended: ") && others.iter().all(is_whole), "{lines:#?}");
    });
}
