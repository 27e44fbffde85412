//! What the screen of a [program on a terminal](crate::terminal) shows.

use std::collections::BTreeSet;
use std::env;
use std::fs::File;
use std::io::{self, BufRead, Write, stdin};
use std::ops::Deref;
use std::os::fd::AsFd;
use std::panic;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::StreamExt;
use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};
use progress_executor::{
    Executor, ExecutorExt, GroupBars, Launcher, ProcessPoolExecutor, ProgressFuture, TaskGroup, TaskResult,
    ThreadPoolExecutor, Triggers, Units, Updater, WorkerOutput, bars::Taskbar,
};
use rustix::stdio::dup2_stderr;
use serde::{Deserialize, Serialize};
use vt100::Parser;

use crate::keys;
use crate::parts;
use crate::support::{DEADLINE, NewFile, eventually, within_deadline};
use crate::terminal::{END_OF_FRAME, KINDS, Program, everywhere, is_bar};

/// What names and messages may contain, and how often it is repeated.
const NAMES: [(&str, usize); 8] = [
    ("plain", 1),
    ("日本語の名前はとても長いです", 30_000),
    ("👩‍👩‍👧‍👦 family, e\u{301}clair", 1),
    ("first\nsecond\ttab\u{8}\r", 1),
    ("up\x1b[2Aaway", 1),
    ("\x1b[31mred", 1),
    ("\x1b]0;unterminated", 1),
    ("\u{9b}31mred \u{90}control", 1),
];
const MESSAGES: [(&str, usize); 4] =
    [("", 0), ("12 %\rOVERWRITTEN 漢字", 50_000), ("\x1b[31mred red red red", 1), ("a\tb\nc", 1)];

/// What a task of a scene does.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    message: String,
    says: u32,
    /// The task goes on when this file is gone.
    until: Option<PathBuf>,
    fails: bool,
}

pub(crate) fn play(part: Part, progress: &Updater) -> TaskResult<()> {
    if !part.message.is_empty() {
        progress.set_message(part.message);
    }
    progress.set_counts(1, 4)?;
    for line in 0..part.says {
        progress.println(format_args!("said {line} by it"));
        if line % 10 == 0 {
            eprintln!("wrote {line}");
        }
    }
    while part.until.as_ref().is_some_and(|path| path.exists()) {
        progress.sleep(Duration::from_millis(5))?;
        // Something changes all the time.
        progress.set_counts(1, 4)?;
        progress.set_message(format!("{:?}", Instant::now()));
    }
    progress.set_counts(4, 4)?;
    if part.fails { Err("on purpose".into()) } else { Ok(()) }
}

impl Part {
    /// A part that goes on until a file is gone.
    pub(crate) fn until(file: &NewFile) -> Self {
        Self::until_gone(file.path())
    }

    pub(crate) fn until_gone(path: PathBuf) -> Self {
        Self { until: Some(path), ..part() }
    }
}

fn part() -> Part {
    Part { message: String::new(), says: 0, until: None, fails: false }
}

pub(crate) fn executor(workers: usize) -> Pool {
    let kind = env::var("KIND").unwrap_or_default();
    if kind == "threads" {
        return Pool::Threads(ThreadPoolExecutor::new(workers));
    }
    let mut builder = ProcessPoolExecutor::builder().max_workers(workers).output(WorkerOutput::above_bars());
    if kind == "launched" {
        // The workers start through another command, as on other machines. Tests stop their program, on a busy machine
        // for longer than they mean to.
        let launcher: Launcher = "env".parse().unwrap();
        builder = builder.launcher(launcher.heartbeat(DEADLINE));
    }
    let pool = builder.build().unwrap();
    start_silently(&pool, workers);
    Pool::Processes(pool)
}

/// Starts the workers without what the pool says if that takes long, as on a busy machine.
fn start_silently(pool: &ProcessPoolExecutor, workers: usize) {
    let standard_error = io::stderr().as_fd().try_clone_to_owned().unwrap();
    dup2_stderr(File::options().write(true).open("/dev/null").unwrap()).unwrap();
    pool.prestart(workers);
    eventually("the workers have started", || pool.workers().started == workers);
    dup2_stderr(standard_error).unwrap();
}

/// A pool; its drop waits for everything that was written to arrive.
pub(crate) enum Pool {
    Threads(ThreadPoolExecutor),
    Processes(ProcessPoolExecutor),
}

impl Deref for Pool {
    type Target = dyn Executor;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Threads(pool) => pool,
            Self::Processes(pool) => pool,
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        match self {
            Self::Threads(pool) => pool.shutdown().wait(),
            Self::Processes(pool) => pool.shutdown().wait(),
        }
    }
}

/// Removes the file that tasks wait for, at the next step.
fn removed_at_step(file: NewFile) -> JoinHandle<()> {
    thread::spawn(move || {
        wait_for_step();
        drop(file);
    })
}

/// Waits until the test takes the next step.
pub(crate) fn wait_for_step() {
    stdin().lock().read_line(&mut String::new()).unwrap();
}

/// The program whose screen a test looks at.
#[test]
#[ignore = "it is started by the other tests, on a terminal"]
fn scene() {
    let Ok(scene) = env::var("SCENE") else { return };
    match scene.as_str() {
        "names" => names(),
        "text" => text(),
        "failures" => failures(),
        "company" => company(),
        "many" => many(),
        "many at a time" => many_at_a_time(),
        "cleared" => cleared(),
        "log" => log(),
        "a thousand" => a_thousand(),
        "comings and goings" => comings_and_goings(),
        "stopped" => keys::play(),
        "in the background" => keys::play_in_background(),
        "below text" => below_text(),
        "lines of two bars" => lines_of_two_bars(),
        "hidden" => hidden(),
        "written below" => written_below(),
        "kept" => kept(),
        "speeds" => speeds(),
        "panics" => panics(),
        "parts" => parts::play_group(),
        "parts of one" => parts::play_task(),
        _ => panic!("there is no such scene"),
    }
}

fn names() {
    let (executor, file) = (executor(NAMES.len()), NewFile::new());
    let mut group = TaskGroup::new();
    for ((name, times), (message, often)) in NAMES.into_iter().zip(MESSAGES.into_iter().cycle()) {
        let part = Part { message: message.repeat(often), until: Some(file.path()), ..part() };
        group.add(executor.task(play, part).name(name.repeat(times)).submit());
    }
    group.show_bars();
    let opener = removed_at_step(file);
    group.join().wait().unwrap();
    opener.join().unwrap();
}

fn text() {
    let executor = executor(2);
    let mut group: TaskGroup<()> = TaskGroup::new();
    let bars = group.show_bars();
    for _ in 0..2 {
        group.add(executor.submit(play, Part { says: 100, ..part() }));
    }
    let logger = thread::spawn(move || {
        let mut log = bars.clone();
        for line in 0..100 {
            // In pieces, as some loggers write.
            write!(log, "logged ").unwrap();
            writeln!(log, "{line}").unwrap();
        }
        // As wide as the terminal; with characters that do not fit at its end; and with characters that only move the
        // cursor.
        let columns = env::var("WIDTH").unwrap().parse().unwrap();
        bars.println("x".repeat(columns));
        bars.println(wide_line(columns));
        bars.println("tab\ttab");
        bars.suspend(|| eprintln!("suspended"));
    });
    group.join().wait().unwrap();
    logger.join().unwrap();
}

/// A line whose characters of two columns each do not fit exactly into a row.
fn wide_line(columns: usize) -> String {
    format!("x{}", "語".repeat(columns))
}

/// Seven tasks that have ended, in every possible way, while another one goes on.
fn failures() {
    let (executor, file) = (executor(2), NewFile::new());
    let mut group: TaskGroup<()> = TaskGroup::new();
    group.show_bars().units(Units::Bytes);
    group.add(executor.task(play, Part::until(&file)).name("last").submit());
    for index in 0..6 {
        group.add(executor.submit(play, Part { fails: index < 2, ..part() }));
    }
    let waiting = executor.submit(play, Part::until(&file));
    waiting.cancel();
    group.add(waiting);
    let opener = removed_at_step(file);
    group.join_all().wait();
    opener.join().unwrap();
}

/// Tasks that panic while another one goes on; their messages keep off the bars.
fn panics() {
    let (executor, file) = (executor(2), NewFile::new());
    let mut group: TaskGroup<()> = TaskGroup::new();
    let bars = group.show_bars();
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| bars.suspend(|| hook(panic))));
    group.add(executor.task(play, Part::until(&file)).name("last").submit());
    group.extend((0..3).map(|number| executor.submit(fall, number)));
    let opener = removed_at_step(file);
    group.join_all().wait();
    opener.join().unwrap();
}

pub(crate) fn fall(number: u32, _: &Updater) -> TaskResult<()> {
    panic!("fallen {number}")
}

/// A task with a speed and a remaining time, a quarter of which is always done.
fn speeds() {
    let (executor, file) = (executor(1), NewFile::new());
    let mut task = executor.submit(grow, file.path());
    task.show_bar("walk").units(Units::named("files"));
    let opener = removed_at_step(file);
    task.wait().unwrap();
    opener.join().unwrap();
}

/// A quarter of it is always done.
pub(crate) fn grow(until: PathBuf, progress: &Updater) -> TaskResult<()> {
    let steps = (1..).take_while(|_| until.exists());
    for step in steps {
        progress.sleep(Duration::from_millis(5))?;
        progress.set_counts(step, 4 * step)?;
    }
    Ok(())
}

/// Two groups, a map and a task at the same time.
fn company() {
    let (executor, file) = (executor(5), NewFile::new());
    let hold = Part { until: Some(file.path()), ..part() };
    let groups = ["one", "two"].map(|name| {
        let mut group: TaskGroup<()> = TaskGroup::new();
        group.show_bars();
        group.add(executor.task(play, hold.clone()).name(name).submit());
        group
    });
    let mut map = executor.map(play, [hold.clone()]).named(|_, _| "three");
    map.show_bars();
    let mut task = executor.submit(play, hold);
    task.show_bar("four").units(Units::named("files"));
    thread::scope(|scope| {
        groups.into_iter().for_each(|group| _ = scope.spawn(|| group.join().wait().unwrap()));
        scope.spawn(|| map.blocking().for_each(|outcome| outcome.unwrap()));
        scope.spawn(|| task.wait().unwrap());
        wait_for_step();
        drop(file);
    });
}

#[test]
fn each_task_has_one_clean_line_and_keys_and_sizes_tear_none() {
    everywhere(|kind, columns| {
        let mut program = Program::start("names", kind, (30, columns), &[]);
        let is_whole = |lines: &[String]| {
            lines.len() == NAMES.len() + 1
                && lines.iter().all(|line| is_bar(line))
                && lines[NAMES.len()].starts_with("total")
        };
        program.wait_until(is_whole);
        assert_eq!(program.last_column(), "", "{:#?}", program.lines());
        assert!(program.lines()[0].starts_with("plain"));
        program.press(b"\x03", "^C");
        // The key stands below the bars, if nothing was drawn since.
        program.wait_until(|lines| is_whole(lines.strip_suffix(&["^C".to_owned()]).unwrap_or(lines)));
        // Another size, while it draws all the time.
        program.resize(30, columns / 2 + 10);
        program.wait_until(|lines| is_whole(lines.strip_suffix(&["^C".to_owned()]).unwrap_or(lines)));
        program.resize(5, columns);
        // The emulator has cut off the last lines.
        program.wait_until(|lines| lines.last().is_some_and(|line| line.starts_with("total")));
        program.resize(30, columns);
        program.wait_until(|lines| lines.len() > NAMES.len() && is_whole(&lines[lines.len() - NAMES.len() - 1..]));
        program.step();
        program.wait();
        let lines = program.lines();
        let last = lines.last().unwrap();
        assert!(last.starts_with(&"8 ended: 8 finished"[..usize::from(columns - 2).min(19)]), "{lines:#?}");
    });
}

#[test]
fn a_key_that_is_shown_while_a_frame_is_written_harms_no_line() {
    everywhere(|kind, columns| {
        let mut program = Program::start("names", kind, (30, columns), &[]);
        program.wait_until(|lines| lines.len() == NAMES.len() + 1);
        program.wait_for_end_of_frame();
        let (screens, without) = (program.screens_with("^C"), program.screens_with(""));
        assert!(screens.len() > NAMES.len());
        screens.iter().for_each(|screen| assert_eq!(screen, &without[0]));
        program.step();
        program.wait();
    });
}

/// What is written above the bars, before the test looks at these.
const TEXT: [(&str, usize); 3] = [("a", 10), ("b", 60), ("c", 130)];

/// A group and a map whose bars are still there when everything has ended, and something is written then.
fn written_below() {
    let executor = executor(2);
    let mut group: TaskGroup<()> = (0..2).map(|_| executor.submit(play, part())).collect();
    let bars = group.show_bars();
    smol::block_on(async { while group.next().await.is_some() {} });
    eprintln!("below the group");
    drop((bars, group));
    let mut map = executor.map(play, [part(), part()]);
    let bars = map.show_bars();
    smol::block_on(async { while map.next().await.is_some() {} });
    eprintln!("below the map");
    drop((map, bars));
}

#[test]
fn what_is_written_below_bars_of_what_has_ended_stays() {
    everywhere(|kind, columns| {
        let mut program = Program::start("written below", kind, (24, columns), &[]);
        program.wait();
        let (lines, begins) = (program.lines(), ["2 ended: ", "below the group", "2 ended: ", "below the map"]);
        let is_whole =
            lines.len() == begins.len() && lines.iter().zip(begins).all(|(line, begin)| line.starts_with(begin));
        assert!(is_whole, "{lines:#?}");
    });
}

/// A group that is gone while its bars are kept, as for a logger, and another one after it.
fn kept() {
    let executor = executor(1);
    let run = || {
        let mut group: TaskGroup<()> = [executor.submit(play, part())].into_iter().collect();
        let bars = group.show_bars();
        group.join().wait().unwrap();
        bars
    };
    let bars = run();
    eprintln!("written");
    bars.println("logged");
    eprintln!("written again");
    bars.suspend(|| eprintln!("suspended"));
    let mut group: TaskGroup<()> = [executor.submit(play, part())].into_iter().collect();
    let others = group.show_bars();
    smol::block_on(async { while group.next().await.is_some() {} });
    others.suspend(|| drop(group));
    eprintln!("the end");
    bars.clear();
    drop((bars, others));
}

#[test]
fn what_is_written_below_bars_of_what_is_gone_stays_although_they_are_kept() {
    everywhere(|kind, columns| {
        let mut program = Program::start("kept", kind, (24, columns), &[]);
        program.wait();
        let begins = ["1 ended: ", "written", "logged", "written again", "suspended", "1 ended: ", "the end"];
        let lines = program.lines();
        let is_whole =
            lines.len() == begins.len() && lines.iter().zip(begins).all(|(line, begin)| line.starts_with(begin));
        assert!(is_whole, "{lines:#?}");
    });
}

/// Two groups below some text; one of them changes all the time, the other does not.
fn below_text() {
    let (executor, file) = (executor(2), NewFile::new());
    let mut groups: [TaskGroup<()>; 2] = Default::default();
    let bars = groups.each_mut().map(|group| group.show_bars());
    let path = (file.path(), file.path());
    groups[0].add(executor.task(parts::have_parts, path).name("still").submit());
    groups[1].add(executor.task(play, Part::until(&file)).name("busy").submit());
    TEXT.into_iter().for_each(|(text, times)| bars[0].println(text.repeat(times)));
    thread::scope(|scope| {
        groups.into_iter().for_each(|group| _ = scope.spawn(|| group.join().wait().unwrap()));
        wait_for_step();
        drop(file);
    });
}

#[test]
fn bars_fit_a_terminal_that_becomes_narrower_and_wider_and_leave_the_text_above() {
    for kind in KINDS {
        within_deadline(move || {
            let mut program = Program::start("below text", kind, (30, 140), &[]);
            let text = |columns: u16| -> Vec<String> {
                let rows = |(text, times): (&str, usize)| {
                    let left = (0..times).step_by(columns.into()).map(|at| times - at);
                    left.map(|left| text.repeat(left.min(columns.into()))).collect::<Vec<_>>()
                };
                TEXT.into_iter().flat_map(rows).collect()
            };
            let names = ["still", "  日本 out", "    inner", "total", "busy", "total"];
            for (columns, frames) in [(140, 1), (40, 0), (100, 0), (60, 3), (140, 3), (40, 3)] {
                program.reflow(30, columns);
                // A terminal may report late that it has become smaller; the program keeps drawing on it meanwhile.
                program.wait_for_frames(frames);
                program.tell_size();
                program.wait_until(|lines| {
                    lines.strip_prefix(&*text(columns)).is_some_and(|bars| {
                        bars.len() == names.len()
                            && bars.iter().zip(names).all(|(line, name)| line.starts_with(name) && is_bar(line))
                            // What is drawn anew takes all columns, or almost all.
                            && bars[4].chars().count() + 10 > usize::from(columns)
                    })
                });
            }
            program.step();
            program.wait();
            let lines = program.lines();
            let ended = lines.strip_prefix(&*text(40)).unwrap();
            assert!(ended.len() == 2 && ended.iter().all(|line| line.starts_with("1 ended: ")), "{lines:#?}");
        });
    }
}

/// A task with a bar of its own, and with another that cannot show lines, in a group with bars.
fn lines_of_two_bars() {
    let executor = executor(1);
    let mut group: TaskGroup<()> = TaskGroup::new();
    group.show_bars();
    let mut task = executor.submit(play, Part { says: 30, ..part() });
    task.show_bar("one");
    task.add_bar(Triggers::NOW, Taskbar::stderr);
    group.add(task);
    group.join().wait().unwrap();
}

#[test]
fn a_line_appears_once_however_many_bars_its_task_has() {
    everywhere(|kind, columns| {
        let mut program = Program::start("lines of two bars", kind, (24, columns), &[]);
        program.wait();
        let lines = program.lines();
        let said: Vec<_> = lines.iter().filter(|line| line.starts_with("said ")).collect();
        let expected: Vec<_> = (0..30).map(|line| format!("said {line} by it")).collect();
        assert_eq!(said, expected.iter().collect::<Vec<_>>(), "{lines:#?}");
    });
    // Also where there is no screen.
    within_deadline(|| {
        let mut program = Program::start("lines of two bars", "threads", (24, 80), &[("TERM", "dumb")]);
        program.wait();
        let lines = program.lines();
        assert_eq!(lines.iter().filter(|line| line.starts_with("said ")).count(), 30, "{lines:#?}");
    });
}

#[test]
fn text_appears_whole_and_once_above_the_bars_and_leaves_nothing_behind() {
    everywhere(|kind, columns| {
        let mut program = Program::start("text", kind, (24, columns), &[("WIDTH", &columns.to_string())]);
        program.wait();
        let lines = program.lines();
        let count = |text: &str| lines.iter().filter(|line| *line == text).count();
        for number in 0..100 {
            assert_eq!(count(&format!("said {number} by it")), 2, "{number}: {lines:#?}");
            assert_eq!(count(&format!("logged {number}")), 1, "{number}: {lines:#?}");
        }
        assert_eq!(count(&"x".repeat(columns.into())), 1, "{lines:#?}");
        assert_eq!((count("suspended"), count("tab     tab")), (1, 1), "{lines:#?}");
        let wide: String = lines.iter().filter(|line| line.contains('語')).map(String::as_str).collect();
        assert_eq!(wide, wide_line(columns.into()), "{lines:#?}");
        let wrote = lines.iter().filter(|line| line.starts_with("wrote ")).count();
        assert!(wrote == 20 || kind == "threads", "what workers write: {lines:#?}");
        let said = |line: &String| {
            ["said ", "logged ", "wrote ", "suspended", "xxx", "x語", "語", "tab "]
                .iter()
                .any(|what| line.starts_with(what))
        };
        let rest: Vec<_> = lines.iter().filter(|line| !said(line)).collect();
        assert!(kind == "threads" || rest.len() == 1 && rest[0].starts_with("2 ended: "), "{rest:#?}");
    });
}

#[test]
fn what_has_failed_stands_out_and_is_never_all() {
    everywhere(|kind, columns| {
        for (variables, has_colours) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
            let mut program = Program::start("failures", kind, (24, columns), variables);
            let told = match columns {
                80.. => "7 of 8 ended: 4 finished, 2 failed, 1 cancelled",
                60.. => "7/8, 2 failed, 1 cancelled",
                _ => "7/8",
            };
            program.wait_until(|lines| {
                let [last, total] = lines else { return false };
                last.starts_with("last") && total.starts_with("total") && total.contains(told)
            });
            assert_eq!(program.lines()[1].ends_with('✗'), !has_colours, "{:#?}", program.lines());
            program.step();
            program.wait();
            let (lines, raw) = (program.lines(), String::from_utf8_lossy(&program.raw).into_owned());
            let [last] = &lines[..] else { panic!("{lines:#?}") };
            let summary = "8 ended: 5 finished, 2 failed, 1 cancelled; ";
            let begins = |text: &str| summary.starts_with(text) || text.starts_with(summary);
            assert!(begins(last.trim_end_matches([' ', '✗', '…'])) && last.len() > 15, "{last}");
            assert_eq!(last.ends_with('✗'), !has_colours, "{last}");
            assert_eq!(raw.contains("\x1b[31m8 ended"), has_colours, "{raw:?}");
            // Each line that is drawn is cleared first.
            let is_whole = |line: &str| line.contains("total") && line.contains("100 %");
            assert!(!raw.split("\x1b[K").any(is_whole), "{raw:?}");
        }
    });
}

#[test]
fn panics_are_told_above_the_bars() {
    everywhere(|kind, columns| {
        let mut program = Program::start("panics", kind, (24, columns), &[("RUST_BACKTRACE", "0")]);
        let is_fallen = |line: &String| line.starts_with("fallen ");
        program.wait_until(|lines| {
            let Some([last, total]) = lines.last_chunk() else { return false };
            let have_ended = ["3/4", "3 of 4 ended"].iter().any(|told| total.contains(told));
            lines.iter().filter(|line| is_fallen(line)).count() == 3 && last.starts_with("last") && have_ended
        });
        let lines = program.lines();
        assert_eq!(lines.iter().filter(|line| is_bar(line)).count(), 2, "{lines:#?}");
        program.step();
        program.wait();
        let lines = program.lines();
        let (last, before) = lines.split_last().unwrap();
        assert!(last.starts_with("4 ended: ") && !before.iter().any(|line| is_bar(line)), "{lines:#?}");
        assert_eq!(before.iter().filter(|line| is_fallen(line)).count(), 3, "{lines:#?}");
    });
}

#[test]
fn a_line_tells_as_much_as_there_is_room_for() {
    everywhere(|kind, columns| {
        let mut program = Program::start("speeds", kind, (24, columns), &[]);
        let holds: &[&str] = match columns {
            100.. => &["━", " files", " files/s, ", " s left"],
            80.. => &["━", " files", " s left"],
            60.. => &["━", " files"],
            40.. => &[" files"],
            _ => &[],
        };
        let is_right = |line: &String| {
            let has_all = |of: &[&str]| of.iter().all(|what| line.contains(what));
            has_all(&["walk", " 25 %"]) && has_all(holds)
        };
        program.wait_until(|lines| lines.len() == 1 && is_right(&lines[0]));
        program.step();
        program.wait();
    });
}

#[test]
fn groups_maps_and_tasks_share_one_screen() {
    everywhere(|kind, columns| {
        let mut program = Program::start("company", kind, (24, columns), &[]);
        program.wait_until(|lines| {
            let names = ["one", "total", "two", "total", "three", "total", "four"];
            lines.len() == names.len()
                && lines.iter().zip(names).all(|(line, name)| line.starts_with(name))
                && lines.iter().filter(|line| !line.starts_with("total")).all(|line| line.contains("25 %"))
                && (columns < 60 || lines[6].contains("1/4 files"))
        });
        program.step();
        program.wait();
        let lines = program.lines();
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("1 ended: 1 fini")).count(), 3, "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("four") && line.contains("100 %")), "{lines:#?}");
    });
}

/// Waits for tasks that end once the file is removed, which the next step does.
fn join_at_step(tasks: Vec<ProgressFuture<()>>, file: NewFile) {
    let opener = removed_at_step(file);
    smol::block_on(join_all(tasks)).into_iter().for_each(|outcome| outcome.unwrap());
    opener.join().unwrap();
}

/// More tasks with a bar each than the terminal has rows; few of them run at a time.
fn many() {
    let (executor, file) = (executor(2), NewFile::new());
    let tasks = (0..30).map(|number| {
        let mut task = executor.submit(play, Part::until(&file));
        task.show_bar(format!("task {number:02}"));
        task
    });
    join_at_step(tasks.collect(), file);
}

#[test]
fn of_many_tasks_with_a_bar_each_those_that_run_are_seen() {
    everywhere(|kind, columns| {
        let mut program = Program::start("many", kind, (10, columns), &[]);
        program.wait_until(|lines| {
            lines.len() == 2 && lines.iter().all(|line| line.starts_with("task 0") && line.contains(" 25 %"))
        });
        program.step();
        program.wait();
        let lines = program.lines();
        let numbers: BTreeSet<_> = lines.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert!(lines.len() == 30 && numbers.len() == 30, "{lines:#?}");
        assert!(lines.iter().all(|line| line.contains("100 %")), "{lines:#?}");
    });
}

/// Tasks with a bar each that change all the time.
fn many_at_a_time() {
    let (executor, file) = (executor(10), NewFile::new());
    let tasks = (0..10).map(|number| {
        let mut task = executor.submit(grow, file.path());
        task.show_bar(format!("task {number}"));
        task
    });
    join_at_step(tasks.collect(), file);
}

#[test]
fn however_many_bars_share_a_screen_it_is_drawn_no_more_than_20_times_a_second() {
    for kind in KINDS {
        within_deadline(move || {
            let mut program = Program::start("many at a time", kind, (24, 80), &[]);
            program.wait_until(|lines| lines.iter().filter(|line| line.contains(" 25 %")).count() == 10);
            let (start, seen) = (Instant::now(), program.raw.len());
            program.wait_for_frames(40);
            let time = start.elapsed();
            let raw = String::from_utf8_lossy(&program.raw[seen..]);
            let frames = raw.matches(std::str::from_utf8(END_OF_FRAME).unwrap()).count();
            // Apart from those that were on their way.
            let most = time.as_millis() as usize / 50 + 10;
            assert!(frames <= most, "{frames} frames in {time:?}");
            program.step();
            program.wait();
            let lines = program.lines();
            assert!(lines.len() == 10 && lines.iter().all(|line| line.contains("finished in")), "{lines:#?}");
        });
    }
}

/// A group whose bars are removed before its end.
fn cleared() {
    let (executor, file) = (executor(1), NewFile::new());
    let mut group: TaskGroup<()> = TaskGroup::new();
    let bars = group.show_bars();
    group.add(executor.submit(play, Part::until(&file)));
    thread::scope(|scope| {
        scope.spawn(|| group.join().wait().unwrap());
        wait_for_step();
        bars.clear();
        drop(file);
    });
}

#[test]
fn bars_that_fill_the_screen_are_removed_for_good() {
    everywhere(|kind, columns| {
        let size = (2, columns);
        let mut program = Program::start("cleared", kind, size, &[]);
        program.wait_until(|lines| lines.last().is_some_and(|line| line.starts_with("total")));
        program.step();
        program.wait();
        assert!(program.lines().is_empty(), "{:#?}", program.lines());
        // Some terminals keep a whole screen that is erased at once.
        let mut terminal = Parser::new(size.0, size.1, 0);
        for frame in String::from_utf8_lossy(&program.raw).split("\x1b[J") {
            terminal.process(frame.as_bytes());
            let screen = terminal.screen();
            assert!(screen.cursor_position() != (0, 0) || screen.contents().is_empty(), "{:?}", screen.contents());
            terminal.process(END_OF_FRAME);
        }
    });
}

/// Groups, one of which ends before the others, one is shown twice, and one is no longer shown; and a handle on bars
/// that outlives them, with what is written to it afterwards.
fn comings_and_goings() {
    let (executor, files) = (executor(4), [NewFile::new(), NewFile::new()]);
    let group = |name, file| {
        let mut group: TaskGroup<()> = TaskGroup::new();
        group.add(executor.task(play, Part::until(file)).name(name).submit());
        group
    };
    let [mut one, mut two, mut three, mut four] =
        [("one", 0), ("two", 1), ("three", 1), ("four", 1)].map(|(name, file)| group(name, &files[file]));
    one.show_bars();
    let bars = two.show_bars();
    three.show_bars();
    three.show_bars();
    let hidden = four.show_bars();
    thread::scope(|scope| {
        let groups = [one, two, three, four].map(|group| scope.spawn(|| group.join().wait().unwrap()));
        wait_for_step();
        hidden.clear();
        for file in files {
            wait_for_step();
            drop(file);
        }
        groups.into_iter().for_each(|group| _ = group.join().unwrap());
    });
    bars.suspend(|| bars.suspend(|| bars.println("suspended twice")));
    eprintln!("written below");
    drop(bars);
    hidden.println("cleared");
}

#[test]
fn bars_come_and_go_in_any_order() {
    everywhere(|kind, columns| {
        let begin = |lines: &[String], names: &[&str]| {
            lines.len() == names.len() && lines.iter().zip(names).all(|(line, name)| line.starts_with(name))
        };
        let mut program = Program::start("comings and goings", kind, (24, columns), &[]);
        program.wait_until(|lines| {
            begin(lines, &["one", "total", "two", "total", "three", "total", "four", "total"])
                && lines.iter().all(|line| is_bar(line))
        });
        program.step();
        program.wait_until(|lines| begin(lines, &["one", "total", "two", "total", "three", "total"]));
        program.step();
        program.wait_until(|lines| begin(lines, &["1 ended: ", "two", "total", "three", "total"]));
        program.step();
        program.wait();
        let lines = program.lines();
        assert!(
            begin(&lines, &["1 ended: ", "1 ended: ", "1 ended: ", "suspended twice", "written below", "cleared"])
                || begin(
                    &lines,
                    &["1 ended: ", "1 ended: ", "suspended twice", "1 ended: ", "written below", "cleared"]
                ),
            "{lines:#?}"
        );
    });
}

#[test]
fn where_nothing_can_be_drawn_again_there_are_lines() {
    for kind in KINDS {
        within_deadline(move || {
            let play = |scene, variables: &[(&str, &str)]| {
                let variables = [&[("TERM", "dumb")], variables].concat();
                // Wide enough for the longest possible lines.
                let mut program = Program::start(scene, kind, (24, 10_000), &variables);
                program.step();
                program.wait();
                (program.lines(), String::from_utf8(program.raw.clone()).unwrap())
            };
            let (lines, raw) = play("failures", &[]);
            assert!(!raw.contains('\x1b'), "{raw:?}");
            assert!(lines.iter().any(|line| line.contains(": finished after 4 B and ")), "{lines:#?}");
            assert!(lines.iter().any(|line| line.contains(": failed after ") && line.ends_with(" ✗")), "{lines:#?}");
            let ends = |line: &String| line.starts_with("8 ended: 5 finished, 2 failed, 1 cancelled; ");
            assert!(lines.iter().any(ends), "{lines:#?}");
            assert!(play("failures", &[("CLICOLOR_FORCE", "1")]).1.contains("\x1b[31m"));
            let (_, raw) = play("failures", &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
            assert!(!raw.contains('\x1b'), "{raw:?}");

            let (lines, raw) = play("names", &[]);
            assert!(raw.chars().all(|character| !character.is_control() || "\r\n".contains(character)), "{raw:?}");
            let count = |what| lines.iter().filter(|line| line.contains(what)).count();
            // A task that ends before anything has looked at it is only said to have finished.
            let (started, finished) = (count(": started"), count(": finished after "));
            assert_eq!((finished, count("8 ended: 8 finished; ")), (8, 1), "{lines:#?}");
            assert!(started <= 8 && lines.len() == started + 9, "{lines:#?}");
        });
    }
}

/// Lines as for a file, of a task that fails.
fn log() {
    let executor = executor(1);
    let mut group: TaskGroup<()> = TaskGroup::new();
    group.show(GroupBars::lines(io::stderr()));
    group.add(executor.submit(play, Part { fails: true, ..part() }));
    group.join_all().wait();
}

#[test]
fn lines_have_colours_only_if_these_are_asked_for() {
    for kind in KINDS {
        within_deadline(move || {
            for (variables, has_colours) in [(&[][..], false), (&[("CLICOLOR_FORCE", "1")], true)] {
                let mut program = Program::start("log", kind, (24, 200), variables);
                program.wait();
                let (lines, raw) = (program.lines(), String::from_utf8_lossy(&program.raw).into_owned());
                let last = lines.last().unwrap();
                assert!(last.contains(": failed after ") && last.ends_with('✗') != has_colours, "{lines:#?}");
                assert_eq!(raw.contains('\x1b'), has_colours, "{raw:?}");
            }
        });
    }
}

#[test]
fn where_there_is_no_terminal_there_are_lines() {
    for kind in KINDS {
        within_deadline(move || {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["screen::scene", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
            command.env("SCENE", "failures").env("KIND", kind).env_remove("CLICOLOR_FORCE");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let output = command.output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success() && !text.contains('\x1b'), "{text}");
            assert!(text.lines().any(|line| line.contains(": failed after ") && line.ends_with(" ✗")), "{text}");
            assert!(text.lines().last().unwrap().starts_with("8 ended: "), "{text}");
        });
    }
}

/// A task in a group, each with bars that are not drawn since there is no terminal.
fn hidden() {
    let executor = executor(1);
    let mut group: TaskGroup<()> = TaskGroup::new();
    let mut bars = group.show(GroupBars::on(MultiProgress::new(), 10));
    let mut task = executor.submit(play, Part { says: 30, ..part() });
    task.show("one", GroupBars::on(MultiProgress::new(), 10));
    group.add(task);
    writeln!(bars, "logged").unwrap();
    bars.println("two\x1b[2A\nlines");
    group.join().wait().unwrap();
}

#[test]
fn where_bars_are_hidden_lines_go_to_standard_error() {
    for kind in KINDS {
        within_deadline(move || {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["screen::scene", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
            command.env("SCENE", "hidden").env("KIND", kind);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let output = command.output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{text}");
            let said = (0..30).map(|line| format!("said {line} by it"));
            let expected: Vec<_> = ["logged", "two", "lines"].map(Into::into).into_iter().chain(said).collect();
            let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("wrote ")).collect();
            assert_eq!(lines, expected);
        });
    }
}

#[test]
fn one_row_is_enough() {
    everywhere(|kind, columns| {
        let mut program = Program::start("names", kind, (1, columns), &[]);
        let is_total = |line: &String| line.starts_with("total");
        program.wait_until(|lines| lines.iter().any(is_total));
        program.press(b"\x03", "^C");
        program.step();
        program.wait();
        let lines = program.lines();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.starts_with("8 ended: ")), "{lines:#?}");
    });
}

/// Tasks that change all the time.
fn a_thousand() {
    let executor = executor(4);
    let mut group: TaskGroup<()> = TaskGroup::new();
    group.show_bars();
    group.extend((0..1000).map(|_| executor.submit(play, Part { message: "begins".into(), ..part() })));
    group.join().wait().unwrap();
}

#[test]
fn a_screen_of_a_thousand_tasks_is_drawn_no_more_than_20_times_a_second() {
    for kind in KINDS {
        within_deadline(move || {
            let start = Instant::now();
            let mut program = Program::start("a thousand", kind, (24, 80), &[]);
            program.wait();
            let time = start.elapsed();
            let raw = String::from_utf8_lossy(&program.raw);
            let frames = raw.matches(std::str::from_utf8(END_OF_FRAME).unwrap()).count();
            // Apart from the first and the last one.
            let most = time.as_millis() as usize / 50 + 3;
            assert!((2..=most).contains(&frames), "{frames} frames in {time:?}");
        });
    }
}

/// A terminal that counts how often it was drawn on.
#[derive(Clone, Debug, Default)]
struct Drawn(Arc<AtomicUsize>);

impl TermLike for Drawn {
    fn width(&self) -> u16 {
        80
    }

    fn height(&self) -> u16 {
        24
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn write_str(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn a_thousand_tasks_are_drawn_no_more_than_20_times_a_second() {
    within_deadline(|| {
        let (drawn, executor) = (Drawn::default(), ThreadPoolExecutor::new(4));
        let target = ProgressDrawTarget::term_like(Box::new(drawn.clone()));
        let mut group: TaskGroup<()> = TaskGroup::new();
        let start = Instant::now();
        group.show(GroupBars::on(MultiProgress::with_draw_target(target), 20));
        for _ in 0..1000 {
            group.add(executor.spawn(|progress| {
                for step in 0..20 {
                    progress.set_message(format!("step {step}"));
                    progress.set_counts(step, 20)?;
                    progress.sleep(Duration::from_micros(200))?;
                }
                Ok(())
            }));
        }
        group.join().wait().unwrap();
        let (frames, time) = (drawn.0.load(Ordering::Relaxed), start.elapsed());
        // Apart from the first and the last one, which is drawn and then left.
        let most = time.as_millis() as usize / 50 + 4;
        assert!((3..=most).contains(&frames), "{frames} frames in {time:?}");
    });
}
