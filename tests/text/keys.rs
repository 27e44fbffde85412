//! A program with bars that Ctrl-Z stops, and that `fg` or `bg` continues.

use std::env;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use progress_executor::{ExecutorExt, GroupBars, TaskGroup};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::SIGTSTP;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::screen::{Part, executor, wait_for_step};
use crate::support::{NewFile, eventually, within_deadline};
use crate::terminal::{END_OF_FRAME, KINDS, Program, WIDTHS, everywhere, is_bar};

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

/// Starts the program, and stops it between two frames, as Ctrl-Z does in a terminal.
fn stopped(kind: &str, columns: u16) -> (Program, Pid) {
    loop {
        let (program, process) = stopped_anywhere(kind, columns, &[]);
        if program.stood_between_frames("^Z") {
            return (program, process);
        }
    }
}

fn stopped_anywhere(kind: &str, columns: u16, variables: &[(&str, &str)]) -> (Program, Pid) {
    let mut program = Program::start("stopped", kind, (24, columns), variables);
    program.wait_until(are_whole);
    program.press(b"\x1a", "^Z");
    let process = program.stop(Signal::TSTP);
    (program, process)
}

/// The shell writes its lines below what the terminal shows of the key, and continues the program.
fn go_on(program: &mut Program, process: Pid) {
    program.terminal.process(SHELL.map(|line| format!("\r\n{line}")).concat().as_bytes());
    program.terminal.process(b"\r\n");
    kill_process(process, Signal::CONT).unwrap();
}

#[test]
fn bars_that_are_taken_away_on_ctrl_z_leave_the_screen_to_the_shell() {
    everywhere(|kind, columns| {
        let (mut program, process) = stopped_anywhere(kind, columns, &[("HANDLES", "")]);
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
        let (mut program, process) = stopped(kind, columns);
        go_on(&mut program, process);
        program.step();
        program.wait();
        let lines = program.lines();
        let is_whole = |line: &String| is_bar(line) || line == "^Z" || SHELL.contains(&line.as_str());
        let (last, others) = lines.split_last().unwrap();
        assert!(last.starts_with("2 ended: ") && others.iter().all(is_whole), "{lines:#?}");
    });
}

/// How long a program must be stopped to notice it.
const STOP: Duration = Duration::from_millis(2200);

/// How often to try with a program that a busy machine may give no time to draw before it is stopped: it notices a stop
/// only if it has drawn something within half a second before.
const ATTEMPTS: usize = 5;

/// Continues a program that was stopped. Returns whether its bars begin anew below what the shell has written, and not
/// above that.
fn begins_anew(program: &mut Program, process: Pid) -> bool {
    go_on(program, process);
    let split = |lines: &[String]| {
        let at = lines.iter().position(|line| *line == SHELL[0])?;
        Some((lines[..at].to_vec(), lines[at..].to_vec()))
    };
    let is_drawn_below = |after: &[String]| after.get(SHELL.len()..).is_some_and(are_whole);
    program.wait_until(|lines| split(lines).is_none_or(|(_, after)| is_drawn_below(&after)));
    program.step();
    program.wait();
    let lines = program.lines();
    let Some((before, after)) = split(&lines) else { return false };
    assert!(are_whole(before.strip_suffix(&["^Z".to_owned()]).unwrap_or(&before)), "{lines:#?}");
    assert!(after.len() == 4 && after[..3] == SHELL && after[3].starts_with("2 ended: "), "{lines:#?}");
    true
}

#[test]
fn bars_that_stay_there_begin_anew_below_what_the_shell_has_written() {
    for kind in KINDS {
        within_deadline(move || {
            let mut left = WIDTHS.to_vec();
            for _ in 0..ATTEMPTS {
                let all: Vec<_> = left.iter().map(|&columns| (columns, stopped(kind, columns))).collect();
                // The program notices the stop by the time that has passed.
                thread::sleep(STOP);
                let drawn_over =
                    |(columns, (mut program, process))| (!begins_anew(&mut program, process)).then_some(columns);
                left = all.into_iter().filter_map(drawn_over).collect();
                if left.is_empty() {
                    return;
                }
            }
            panic!("{kind}, columns {left:?}: what the shell has written was drawn over {ATTEMPTS} times");
        });
    }
}

/// Says something when one file is gone, and ends when the other one is.
pub(crate) fn play_in_background() {
    let (executor, [say, end]) = (executor(2), ["SAY", "END"].map(|name| PathBuf::from(env::var_os(name).unwrap())));
    let mut group: TaskGroup<()> = TaskGroup::new();
    let bars = group.show_bars();
    for name in ["one", "two"] {
        group.add(executor.task(crate::screen::play, Part::until_gone(end.clone())).name(name).submit());
    }
    thread::spawn(move || {
        eventually("something is to be said", || !say.exists());
        bars.println("half way");
    });
    group.join().wait().unwrap();
}

#[test]
fn a_program_in_the_background_does_not_draw_over_what_the_shell_writes() {
    for (kind, columns) in KINDS.into_iter().zip([20, 80, 40]) {
        within_deadline(move || {
            let [say, end] = [NewFile::new(), NewFile::new()];
            let files = [say.path(), end.path()].map(|path| path.into_os_string().into_string().unwrap());
            let variables = [("SAY", &*files[0]), ("END", &*files[1])];
            let ends_with_bars = |lines: &[String]| are_whole(&lines[lines.len().saturating_sub(3)..]);
            let has = |what: &'static str| move |lines: &[String]| lines.iter().any(|line| line.contains(what));
            let mut program = loop {
                let mut program = Program::start_in_shell("in the background", kind, (24, columns), &variables);
                program.wait_until(ends_with_bars);
                program.press(b"\x1a", "^Z");
                program.wait_until(has("Stopped"));
                if program.stood_between_frames("^Z") {
                    break program;
                }
            };

            program.enter("bg; echo $((40 + 2))");
            program.wait_until(has("42"));
            let seen = program.raw.len();
            say.remove();
            program.wait_until(has("half way"));
            let has_drawn = program.raw[seen..].windows(END_OF_FRAME.len()).any(|bytes| bytes == END_OF_FRAME);
            assert!(!has_drawn, "{:#?}", program.lines());

            program.enter("fg");
            program.wait_until(ends_with_bars);
            end.remove();
            // Text that is typed before the shell asks for it would show up between the bars.
            program.wait_until(|lines| lines.last().is_some_and(|line| line.trim_end() == "$"));
            program.enter("exit");
            program.wait();
            let lines = program.lines();
            let is_whole = |line: &&String| is_bar(line) || line.starts_with("2 ended: ");
            assert_eq!(
                lines.iter().filter(is_whole).count(),
                4,
                "the bars that were left, and the summary: {lines:#?}"
            );
        });
    }
}
