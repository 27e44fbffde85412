//! A program with bars that is stopped by Ctrl-Z, and goes on by `fg`.

use std::env;
use std::thread;
use std::time::Duration;

use progress_executor::{ExecutorExt, GroupBars, TaskGroup};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::SIGTSTP;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::screen::{Part, executor, wait_for_step};
use crate::support::{NewFile, within_deadline};
use crate::terminal::{KINDS, Program, WIDTHS, everywhere, is_bar};

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
    program.press(b"\x1a", "^Z");
    let process = program.stop(Signal::TSTP);
    (program, process)
}

/// A shell says what it has to, below what the terminal shows of the key, and has the program go on.
fn go_on(program: &mut Program, process: Pid) {
    program.terminal.process(SHELL.map(|line| format!("\r\n{line}")).concat().as_bytes());
    program.terminal.process(b"\r\n");
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
        let is_whole = |line: &String| is_bar(line) || line == "^Z" || SHELL.contains(&line.as_str());
        let (last, others) = lines.split_last().unwrap();
        assert!(last.starts_with("2 ended: ") && others.iter().all(is_whole), "{lines:#?}");
    });
}

/// For how long a program is stopped that is to notice it.
const STOP: Duration = Duration::from_millis(2200);

#[test]
fn bars_that_stay_there_begin_anew_below_what_the_shell_has_written() {
    for kind in KINDS {
        within_deadline(move || {
            let mut all = WIDTHS.map(|columns| stopped(kind, columns, &[]));
            // What is looked for is that time has passed.
            thread::sleep(STOP);
            for (program, process) in &mut all {
                go_on(program, *process);
                let above = |lines: &[String]| lines.iter().position(|line| *line == SHELL[0]);
                program.wait_until(|lines| {
                    let below = above(lines).and_then(|at| lines.get(at + SHELL.len()..));
                    below.is_some_and(are_whole)
                });
                program.step();
                program.wait();
                let lines = program.lines();
                let (before, after) = lines.split_at(above(&lines).unwrap());
                assert!(are_whole(before.strip_suffix(&["^Z".to_owned()]).unwrap_or(before)), "{lines:#?}");
                assert!(after.len() == 4 && after[..3] == SHELL && after[3].starts_with("2 ended: "), "{lines:#?}");
            }
        });
    }
}
