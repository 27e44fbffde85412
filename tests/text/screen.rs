//! What the screen of a [program on a terminal](crate::terminal) holds.

use std::collections::BTreeSet;
use std::env;
use std::io::{self, BufRead, BufReader, Write, stdin};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};
use progress_executor::{
    Executor, ExecutorExt, GroupBars, ProcessPoolExecutor, TaskGroup, TaskResult, ThreadPoolExecutor, Units, Updater,
    WorkerOutput,
};
use serde::{Deserialize, Serialize};

use crate::keys;
use crate::lines::say_much;
use crate::parts;
use crate::support::{NewFile, count, eventually, within_deadline};
use crate::terminal::{DEADLINE, KINDS, Program, everywhere, is_bar};

/// What may stand in names and messages.
const NAMES: [&str; 8] = [
    "plain",
    "日本語の名前はとても長いです",
    "👩‍👩‍👧‍👦 family, e\u{301}clair",
    "first\nsecond",
    "up\x1b[2Aaway",
    "\x1b[31mred",
    "\x1b]0;unterminated",
    "tab\tback\u{8}\r",
];
const MESSAGES: [&str; 4] =
    ["", "12 %\rOVERWRITTEN 漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字", "\x1b[31mred red red red", "a\tb\nc"];

/// What a task of a scene does.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    message: String,
    says: u32,
    /// It goes on when this is gone.
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
    /// One that goes on until a file is gone.
    pub(crate) fn until(file: &NewFile) -> Self {
        Self { until: Some(file.path()), ..part() }
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
        // Behind any other command, as they are on other machines.
        builder = builder.launcher("env".parse().unwrap());
    }
    Pool::Processes(builder.build().unwrap())
}

/// Ends when all that was written has arrived.
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

/// Waits for the test.
pub(crate) fn wait_for_step() {
    stdin().lock().read_line(&mut String::new()).unwrap();
}

/// What the program does that a test looks at.
#[test]
#[ignore = "it is started by the other tests, on a terminal"]
fn scene() {
    let Ok(scene) = env::var("SCENE") else { return };
    match scene.as_str() {
        "names" => names(),
        "text" => text(),
        "failures" => failures(),
        "company" => company(),
        "unread" => unread(),
        "many" => many(),
        "a thousand" => a_thousand(),
        "comings and goings" => comings_and_goings(),
        "stopped" => keys::play(),
        "parts" => parts::play_group(),
        "parts of one" => parts::play_task(),
        _ => panic!("there is no such scene"),
    }
}

fn names() {
    let (executor, file) = (executor(NAMES.len()), NewFile::new());
    let mut group = TaskGroup::new();
    for (index, name) in NAMES.iter().enumerate() {
        let message = MESSAGES[index % MESSAGES.len()].to_owned();
        let part = Part { message, until: Some(file.path()), ..part() };
        group.add(executor.task(play, part).name(*name).submit());
    }
    group.show_bars();
    let opener = thread::spawn(move || {
        wait_for_step();
        drop(file);
    });
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
        // As wide as the terminal.
        let columns = env::var("WIDTH").unwrap().parse().unwrap();
        bars.println("x".repeat(columns));
        bars.suspend(|| eprintln!("suspended"));
    });
    group.join().wait().unwrap();
    logger.join().unwrap();
}

fn failures() {
    let executor = executor(2);
    let mut group: TaskGroup<()> = TaskGroup::new();
    group.show_bars().units(Units::Bytes);
    for index in 0..6 {
        group.add(executor.submit(play, Part { fails: index < 2, ..part() }));
    }
    let file = NewFile::new();
    let waiting = executor.submit(play, Part { until: Some(file.path()), ..part() });
    waiting.cancel();
    group.add(waiting);
    group.join_all().wait();
}

/// A task says more to standard error than that takes, while another one runs.
fn unread() {
    let executor = ProcessPoolExecutor::new(2).unwrap();
    let mut talker = executor.submit(say_much, 500);
    assert!(talker.wait_timeout(Duration::ZERO).is_none());
    eventually("it has said all", || talker.is_done());
    executor.submit(count, 10).wait().unwrap();
    println!("\nalive");
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
        program.master.write_all(b"\x03").unwrap();
        let (seen, until) = (program.raw.len(), Instant::now() + DEADLINE);
        while !program.raw[seen..].windows(2).any(|bytes| bytes == b"^C") {
            assert!(program.read(until));
        }
        // It stands below them, if nothing was drawn since.
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
        assert_eq!(count("suspended"), 1);
        let wrote = lines.iter().filter(|line| line.starts_with("wrote ")).count();
        assert!(wrote == 20 || kind == "threads", "what workers write: {lines:#?}");
        let said = |line: &String| {
            ["said ", "logged ", "wrote ", "suspended", "xxx"].iter().any(|what| line.starts_with(what))
        };
        let rest: Vec<_> = lines.iter().filter(|line| !said(line)).collect();
        assert!(kind == "threads" || rest.len() == 1 && rest[0].starts_with("2 ended: "), "{rest:#?}");
    });
}

#[test]
fn what_has_failed_stands_out_and_is_never_all() {
    for kind in KINDS {
        for (variables, has_colours) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
            within_deadline(move || {
                let mut program = Program::start("failures", kind, (24, 80), variables);
                program.wait();
                let (lines, raw) = (program.lines(), String::from_utf8_lossy(&program.raw).into_owned());
                let [last] = &lines[..] else { panic!("{lines:#?}") };
                assert!(last.starts_with("7 ended: 4 finished, 2 failed, 1 cancelled; "), "{last}");
                assert_eq!(last.ends_with('✗'), !has_colours, "{last}");
                assert_eq!(raw.contains("\x1b[31m7 ended"), has_colours, "{raw:?}");
                assert!(!raw.lines().any(|line| line.contains("total") && line.contains("100 %")), "{raw:?}");
            });
        }
    }
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

/// More tasks with a bar each than the terminal has rows, of which few run at a time.
fn many() {
    let (executor, file) = (executor(2), NewFile::new());
    let tasks = (0..30).map(|number| {
        let mut task = executor.submit(play, Part::until(&file));
        task.show_bar(format!("task {number:02}"));
        task
    });
    let tasks: Vec<_> = tasks.collect();
    let opener = thread::spawn(move || {
        wait_for_step();
        drop(file);
    });
    smol::block_on(join_all(tasks)).into_iter().for_each(|outcome| outcome.unwrap());
    opener.join().unwrap();
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

/// Groups of which one ends before the others, one is shown twice, and one is not shown any more; a handle on bars that
/// outlives them, and what it writes after all.
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
            begin(&lines, &["1 ended: ", "1 ended: ", "1 ended: ", "suspended twice", "cleared"])
                || begin(&lines, &["1 ended: ", "1 ended: ", "suspended twice", "1 ended: ", "cleared"]),
            "{lines:#?}"
        );
    });
}

#[test]
fn where_nothing_can_be_drawn_again_there_are_lines() {
    within_deadline(|| {
        let mut program = Program::start("failures", "threads", (24, 80), &[("TERM", "dumb")]);
        program.wait();
        let lines = program.lines();
        assert!(!program.raw.contains(&0x1b), "{:?}", String::from_utf8_lossy(&program.raw));
        assert!(lines.iter().any(|line| line.contains(": finished after 4 B and ")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains(": failed after ") && line.ends_with(" ✗")), "{lines:#?}");
        // It is longer than a row.
        let ends = |line: &String| line.starts_with("7 ended: 4 finished, 2 failed, 1 cancelled; ");
        assert!(lines.iter().any(ends), "{lines:#?}");
        let mut program = Program::start("failures", "threads", (24, 80), &[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")]);
        program.wait();
        assert!(String::from_utf8_lossy(&program.raw).contains("\x1b[31m"));
    });
}

#[test]
fn one_row_is_enough() {
    everywhere(|kind, columns| {
        let mut program = Program::start("names", kind, (1, columns), &[]);
        program.wait_until(|lines| lines.iter().any(|line| line.starts_with("total")));
        program.step();
        program.wait();
        let lines = program.lines();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.starts_with("8 ended: ")), "{lines:#?}");
    });
}

#[test]
fn a_standard_error_that_nobody_reads_holds_up_no_task_of_a_worker() {
    within_deadline(|| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["screen::scene", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("SCENE", "unread").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "alive"));
        child.kill().unwrap();
        child.wait().unwrap();
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
            // Each drawing ends by erasing what is below.
            let frames = raw.matches("\x1b[J").count();
            // Beside the first and the last, which is drawn and then left.
            let most = time.as_millis() as usize / 50 + 4;
            assert!((3..=most).contains(&frames), "{frames} frames in {time:?}");
        });
    }
}

/// A terminal that counts how often it was drawn on, and what.
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
        // Beside the first and the last, which is drawn and then left.
        let most = time.as_millis() as usize / 50 + 4;
        assert!((3..=most).contains(&frames), "{frames} frames in {time:?}");
    });
}
