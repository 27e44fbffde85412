//! Groups on a terminal.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;

use futures::StreamExt;
use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};
use progress_executor::{
    Executor, ExecutorExt, GroupBars, ProcessPoolExecutor, ProgressFuture, SyncExecutor, TaskGroup, TaskResult,
    ThreadPoolExecutor, Updater,
};
use vt100::Parser;

use crate::support::{Gate, Hand, NewFile, count, eventually, gate, within_deadline};

const WIDTH: u16 = 80;

/// A terminal in memory.
#[derive(Clone)]
struct Terminal(Arc<Mutex<Screen>>);

struct Screen {
    emulator: Parser,
    /// The lines that were not empty when they were last complete, and the most lines that there ever were.
    shown: Vec<String>,
    tallest: usize,
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new(1_000, WIDTH) // so that nobody else leaves lines out
    }
}

impl Terminal {
    fn new(rows: u16, columns: u16) -> Self {
        let emulator = Parser::new(rows, columns, 0);
        Self(Arc::new(Mutex::new(Screen { emulator, shown: Vec::new(), tallest: 0 })))
    }

    fn bars(&self, rows: usize) -> GroupBars {
        GroupBars::on(self.multi(), rows)
    }

    fn multi(&self) -> MultiProgress {
        MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(self.clone())))
    }

    /// The lines that are not empty.
    fn text(&self) -> Vec<String> {
        self.0.lock().unwrap().shown.clone()
    }

    fn shows(&self, text: &str) -> bool {
        self.text().iter().any(|line| line.contains(text))
    }

    fn tallest(&self) -> usize {
        self.0.lock().unwrap().tallest
    }

    fn size(&self) -> (u16, u16) {
        self.0.lock().unwrap().emulator.screen().size()
    }

    fn go(&self, distance: usize, direction: char) -> io::Result<()> {
        // A distance of 0 would count as 1.
        if distance > 0 { self.write_str(&format!("\x1b[{distance}{direction}")) } else { Ok(()) }
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Terminal").field(&self.text()).finish()
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        self.size().1
    }

    fn height(&self) -> u16 {
        self.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap().emulator.process(text.replace('\n', "\r\n").as_bytes());
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let screen = &mut *self.0.lock().unwrap();
        let rows = screen.emulator.screen().rows(0, screen.emulator.screen().size().1);
        screen.shown = rows.map(|row| row.trim_end().to_owned()).filter(|row| !row.is_empty()).collect();
        screen.tallest = screen.tallest.max(screen.shown.len());
        Ok(())
    }
}

/// A task that does 1 of 4 units, and the rest when its gate is opened.
fn named(executor: &ThreadPoolExecutor, name: &str, message: &'static str) -> (Gate, ProgressFuture<()>) {
    let (gate, barrier) = gate();
    let work = move |(), progress: &Updater| {
        if !message.is_empty() {
            progress.set_message(message);
        }
        progress.set_counts(1, 4)?;
        barrier.pass();
        Ok(progress.set_counts(4, 4)?)
    };
    (gate, executor.task(work, ()).name(name).submit())
}

#[test]
fn a_bar_comes_and_goes_with_its_task_and_the_total_stays() {
    within_deadline(|| {
        let (executor, terminal, mut group) = (ThreadPoolExecutor::new(2), Terminal::default(), TaskGroup::new());
        let (dig, task) = named(&executor, "dig", "");
        group.add(task);
        dig.wait();
        let bars = group.show(terminal.bars(20));
        let (fill, task) = named(&executor, "fill", "with sand");
        group.add(task);
        let (rest, task) = named(&executor, "rest", "");
        group.add(task);
        let poller = thread::spawn(move || group.join().wait());
        eventually("each has its line", || {
            let text = terminal.text();
            text.len() == 3
                && text[0].starts_with("dig ")
                && text[0].contains("  1/4  ")
                && text[1].starts_with("fill ")
                // Between these are rate and time left where there is room, which there is more of as the task takes longer.
                && text[1].contains("  1/4  ")
                && text[1].ends_with("  with sand")
                && text[2].starts_with("total ")
                && text[2].contains("0 of 3 ended")
        });
        dig.open();
        eventually("the third one runs", || terminal.shows("rest") && !terminal.shows("dig"));
        eventually("it is counted", || terminal.shows("1 of 3 ended"));
        fill.open();
        rest.open();
        poller.join().unwrap().unwrap();
        let text = terminal.text();
        assert_eq!(text.len(), 1, "{text:?}");
        assert!(text[0].starts_with("3 ended: 3 finished; "), "{text:?}");
        drop(bars);
        assert_eq!(terminal.text(), text);
    });
}

/// Runs 50 tasks at a time, and returns the last line while they all run, and the most lines that there were.
fn crowd(rows: usize, message: &'static str) -> (String, usize) {
    let (executor, terminal) = (ThreadPoolExecutor::new(50), Terminal::default());
    let (gates, mut group): (Vec<_>, TaskGroup<_>) = (0..50).map(|_| named(&executor, "crowd", message)).unzip();
    gates.iter().for_each(Gate::wait);
    group.show(terminal.bars(rows));
    let text = terminal.text();
    for gate in gates {
        gate.open();
        smol::block_on(futures::StreamExt::next(&mut group)).unwrap().1.unwrap();
    }
    drop(group);
    assert_eq!(terminal.text().len(), 1);
    (text.last().unwrap().clone(), terminal.tallest())
}

#[test]
fn no_more_lines_are_drawn_than_there_are_and_the_rest_is_told() {
    within_deadline(|| {
        let (total, tallest) = crowd(10, "");
        assert!(total.contains("0 of 50 ended, 42 more running"), "{total}");
        assert_eq!(tallest, 9);
        let (total, tallest) = crowd(0, "");
        assert!(total.contains("0 of 50 ended, 49 more running"), "{total}");
        assert_eq!(tallest, 2, "one task is shown anyway");
    });
}

#[test]
fn a_message_takes_no_line_of_its_own() {
    within_deadline(|| {
        assert_eq!(crowd(10, "on\ntwo lines").1, 9);
        assert_eq!(
            crowd(10, "a message that is longer than what is left of the line beside the name and the bar").1,
            9
        );
    });
}

#[test]
fn lines_are_written_above_the_bars_and_whole() {
    within_deadline(|| {
        let (executor, terminal, mut group) = (ThreadPoolExecutor::new(1), Terminal::default(), TaskGroup::new());
        let (dig, task) = named(&executor, "dig", "");
        group.add(task);
        dig.wait();
        let bars = group.show(terminal.bars(20));
        let long = "long".repeat(30);
        bars.println("first");
        bars.println(&long);
        let text = terminal.text();
        assert_eq!(text.len(), 5, "{text:?}");
        assert_eq!((text[0].as_str(), format!("{}{}", text[1], text[2])), ("first", long.clone()));
        assert!(text[3].starts_with("dig ") && text[4].starts_with("total "), "{text:?}");
        dig.open();
        bars.clone().println("last");
        group.join().wait().unwrap();
        let text = terminal.text();
        assert_eq!((text.len(), text[3].as_str()), (5, "last"), "{text:?}");
        assert!(text[4].starts_with("1 ended: 1 finished; "), "{text:?}");
        bars.println("over");
        assert_eq!(terminal.text()[4], "over");
    });
}

#[test]
fn bars_that_were_cleared_stay_away_and_lines_do_not_go() {
    within_deadline(|| {
        let (executor, terminal, mut group) = (ThreadPoolExecutor::new(2), Terminal::default(), TaskGroup::new());
        let (dig, task) = named(&executor, "dig", "");
        group.add(task);
        dig.wait();
        let bars = group.show(terminal.bars(20));
        bars.println("a line");
        assert_eq!(terminal.text().len(), 3);
        bars.clear();
        assert_eq!(terminal.text(), ["a line"]);
        group.add(executor.spawn(|_| Ok(())));
        dig.open();
        group.join().wait().unwrap();
        assert_eq!(terminal.text(), ["a line"]);
        bars.clear();
        drop(bars);
        assert_eq!(terminal.text(), ["a line"]);
    });
}

#[test]
fn an_inline_task_is_drawn_while_it_runs() {
    within_deadline(|| {
        let (terminal, mut group) = (Terminal::default(), TaskGroup::new());
        let executor = SyncExecutor::new();
        let submit = |name: &str| {
            let terminal = terminal.clone();
            let work = move |name: String, progress: &Updater| {
                eventually("it is drawn", || {
                    progress.update(1).unwrap();
                    terminal.text().iter().any(|line| line.starts_with(&name) && !line.contains(" 0/"))
                });
                Ok(())
            };
            executor.task(work, name.to_owned()).name(name).submit()
        };
        group.add(submit("early"));
        group.show(terminal.bars(20));
        group.add(submit("late"));
        group.join().wait().unwrap();
        assert!(terminal.text()[0].starts_with("2 ended: 2 finished; "));
    });
}

#[test]
fn an_inline_task_of_a_map_is_drawn_while_it_runs() {
    within_deadline(|| {
        for size in [1, 2] {
            let (terminal, executor) = (Terminal::default(), SyncExecutor::new());
            let screen = terminal.clone();
            let work = move |_: u64, progress: &Updater| {
                // More than once: what is drawn first may be that it has started.
                for _ in 0..3 {
                    let before = screen.text();
                    eventually("it is drawn", || {
                        progress.update(1).unwrap();
                        screen.text() != before
                    });
                }
                Ok(())
            };
            let mut map = executor.map(work, 0..4).chunks(size);
            map.show(terminal.bars(20));
            assert_eq!(map.blocking().filter(Result::is_ok).count(), 4);
        }
    });
}

#[test]
fn a_group_that_is_dropped_takes_its_bars_along() {
    within_deadline(|| {
        let (executor, terminal, mut group) = (ThreadPoolExecutor::new(1), Terminal::default(), TaskGroup::new());
        let (dig, task) = named(&executor, "dig", "");
        let end = task.updates();
        group.add(task);
        dig.wait();
        let (_, waiting) = named(&executor, "wait", "");
        group.add(waiting);
        let bars = group.show(terminal.bars(20));
        assert_eq!(terminal.text().len(), 2);
        drop(group);
        let text = terminal.text();
        assert!(text.len() == 1 && text[0].contains("1 of 2 ended"), "{text:?}");
        dig.open();
        while end.recv_blocking().is_ok() {}
        drop(bars);
        assert_eq!(terminal.text(), text);
    });
}

#[test]
fn bars_of_others_stay() {
    within_deadline(|| {
        let (executor, terminal) = (ThreadPoolExecutor::new(1), Terminal::default());
        let all = terminal.multi();
        let other = all.add(indicatif::ProgressBar::new(7));
        other.set_position(3);
        other.tick();
        let mut group: TaskGroup<_> = (0..3).map(|_| executor.spawn(|_| Ok(()))).collect();
        group.show(GroupBars::on(all, 20));
        group.join().wait().unwrap();
        assert!(terminal.text()[0].ends_with("3/7"));
        assert!(terminal.text()[1].starts_with("3 ended: 3 finished; "));
    });
}

/// Sends what is written, line by line.
struct Lines(mpsc::Sender<String>, Vec<u8>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend(bytes);
        while let Some(end) = self.1.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.1.drain(..=end).collect();
            let _ = self.0.send(String::from_utf8(line).unwrap().trim_end().to_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_tell_of_each_start_and_each_end() {
    within_deadline(|| {
        let (executor, hand) = (ThreadPoolExecutor::new(1), Hand::new());
        let ((send, told), mut group) = (mpsc::channel(), TaskGroup::new());
        let bars = group.show(GroupBars::lines(Lines(send, Vec::new())));
        let (dig, task) = named(&executor, "dig", "");
        group.add(task);
        let waiting = executor.task(|(), _| Ok(()), ()).name("wait").submit();
        waiting.cancel();
        group.add(waiting);
        let fail = executor.task(|(), _| Err("out of sand".into()), ()).name("fill").submit();
        group.add(fail);
        dig.wait();
        while hand.poll_next(&mut group).is_ready() {}
        let mut lines: Vec<String> = told.try_iter().collect();
        while !lines.contains(&"dig: started".to_owned()) {
            assert!(hand.poll_next(&mut group).is_pending());
            lines.extend(told.try_iter());
        }
        lines.sort();
        assert_eq!(lines, ["dig: started", "wait: cancelled before it started"]);
        bars.println("digging");
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["digging"]);
        dig.open();
        assert_eq!(group.join_all().wait().len(), 2);
        let mut lines: Vec<String> = told.try_iter().filter(|line| line != "fill: started").collect();
        lines.sort();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("dig: finished after 4 units and "), "{lines:?}");
        assert!(lines[1].starts_with("fill: failed after 0 units and "), "{lines:?}");
        bars.clear();
        assert_eq!(told.try_iter().count(), 0);
    });
}

#[test]
fn lines_tell_what_has_become_of_the_inputs_of_a_chunk() {
    within_deadline(|| {
        let (executor, (send, told)) = (ThreadPoolExecutor::new(1), mpsc::channel());
        let dig = |n: u64, _: &Updater| if n == 1 { Err("out of sand".into()) } else { Ok(n) };
        let mut map = executor.map(dig, 0..3).chunks(3).named(|n, _| n.to_string());
        map.show(GroupBars::lines(Lines(send, Vec::new())));
        assert_eq!(map.blocking().filter(Result::is_ok).count(), 2);
        let ends: Vec<_> = told.iter().filter(|line| !line.contains("started")).collect();
        assert_eq!(ends.len(), 1, "{ends:?}");
        let end = &ends[0];
        assert!(end.starts_with("0 … 2: ended after 3 inputs and ") && end.contains(", 1 failed"), "{end}");
    });
}

/// As the hook of panics does if the writer panics.
#[test]
fn a_writer_may_suspend_the_bars_that_write_to_it() {
    struct Suspends(Arc<Mutex<Option<GroupBars>>>);
    impl Write for Suspends {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let bars = self.0.lock().unwrap();
            Ok(bars.as_ref().map_or(bytes.len(), |bars| bars.suspend(|| bytes.len())))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    within_deadline(|| {
        let place = Arc::new(Mutex::new(None));
        let bars = GroupBars::lines(Suspends(place.clone()));
        *place.lock().unwrap() = Some(bars.clone());
        bars.println("a line");
        place.lock().unwrap().take();
    });
}

#[test]
fn a_panic_while_bars_among_others_are_suspended_harms_nobody() {
    within_deadline(|| {
        let (executor, terminal, mut group) = (ThreadPoolExecutor::new(1), Terminal::default(), TaskGroup::new());
        let bars = group.show(terminal.bars(20));
        let panic = AssertUnwindSafe(|| bars.suspend(|| resume_unwind(Box::new("as intended"))));
        assert_eq!(catch_unwind(panic).unwrap_err().downcast_ref(), Some(&"as intended"));
        group.add(executor.submit(count, 3));
        group.join().wait().unwrap();
        assert!(terminal.text()[0].starts_with("1 ended: 1 finished; "), "{:?}", terminal.text());
    });
}

#[test]
fn tasks_are_polled_while_bars_among_others_are_suspended() {
    within_deadline(|| {
        let (executor, terminal, mut group) = (ThreadPoolExecutor::new(1), Terminal::default(), TaskGroup::new());
        let bars = group.show(terminal.bars(20));
        bars.suspend(|| {
            let say = |(), progress: &Updater| {
                progress.println("meanwhile");
                Ok(())
            };
            group.add(executor.submit(say, ()));
            group.join().wait().unwrap();
            assert_eq!(terminal.text(), Vec::<String>::new());
        });
        let text = terminal.text();
        assert!(text.len() == 1 && text[0].starts_with("1 ended: 1 finished; "), "{text:?}");
    });
}

#[test]
fn lines_that_cannot_be_written_harm_nobody() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        let mut group: TaskGroup<_> = (0..3).map(|n| executor.spawn(move |_| Ok(n))).collect();
        let bars = group.show(GroupBars::lines(Broken));
        bars.println("nobody reads this");
        assert_eq!(group.join().wait().unwrap(), [0, 1, 2]);
    });
}

/// What a terminal of this width shows of a task and its group after both were drawn several times.
fn screen(executor: &ThreadPoolExecutor, columns: u16, name: &str, message: &'static str) -> Vec<String> {
    let terminal = Terminal::new(50, columns);
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255);
    let (gate, task) = named(executor, name, message);
    gate.wait();
    let mut group = TaskGroup::from_iter([task]);
    let bars = group.show(GroupBars::on(MultiProgress::with_draw_target(target), 50));
    (0..3).for_each(|_| bars.println("above"));
    let lines = terminal.text();
    gate.open();
    group.join().wait().unwrap();
    lines
}

#[test]
fn each_task_has_one_line_whatever_its_name_and_message_hold() {
    within_deadline(|| {
        let (executor, long) = (ThreadPoolExecutor::new(1), "x".repeat(100_000));
        let names = [
            "plain",
            "日本語の名前はとても長いです",
            "👩‍👩‍👧‍👦 family, e\u{301}clair",
            "first\nsecond",
            "up\x1b[2Aaway",
            "\x1b[31mred",
            "\u{9b}2Jcleared",
            "\x1b]0;unterminated",
            "tab\tback\u{8}\r",
            &long,
        ];
        let messages = [
            "",
            "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字",
            "12 %\rOVERWRITTEN",
            "\x1b[31mred red red red red red red red red",
            "a\tb\nc",
        ];
        for columns in [60, 80, 140] {
            for name in names {
                for message in messages {
                    let lines = screen(&executor, columns, name, message);
                    let case = format!("{columns} columns, {message:?}: {lines:#?}");
                    let [above @ .., task, total] = &lines[..] else { panic!("{case}") };
                    assert_eq!(above, ["above"; 3], "{case}");
                    assert!(task.contains("1/4") && total.starts_with("total "), "{case}");
                }
            }
        }
    });
}

#[test]
fn a_map_is_shown_as_a_group_of_as_many_tasks_as_there_are_inputs() {
    within_deadline(|| {
        let terminal = Terminal::new(10, WIDTH);
        let executor = ThreadPoolExecutor::new(1);
        let mut map = executor.map(count, 0..7).buffer(1);
        map.show(terminal.bars(10));
        smol::block_on(map.next()).unwrap().unwrap();
        assert!(terminal.shows("of 7 ended"), "{:?}", terminal.text());
        assert_eq!(map.blocking().count(), 6);
        assert!(terminal.shows("7 ended: 7 finished; "), "{:?}", terminal.text());
    });
}

/// Says the same for each input, and counts on until a file is gone.
pub(crate) fn say_the_same((total, until): (u64, PathBuf), progress: &Updater) -> TaskResult<()> {
    progress.set_message("under way");
    progress.set_total(total);
    while until.exists() {
        (0..total).try_for_each(|n| progress.set_position(n))?;
    }
    Ok(())
}

#[test]
fn what_an_input_of_a_chunk_says_is_shown_although_another_has_said_the_same() {
    within_deadline(|| {
        let launched = ProcessPoolExecutor::builder().max_workers(1).launcher("env".parse().unwrap()).build().unwrap();
        let executors: [Box<dyn Executor>; 3] =
            [Box::new(ThreadPoolExecutor::new(1)), Box::new(ProcessPoolExecutor::new(1).unwrap()), Box::new(launched)];
        for executor in executors {
            let (terminal, files) = (Terminal::default(), [(); 3].map(|()| NewFile::new()));
            let inputs: Vec<_> = (100..).zip(files.iter().map(NewFile::path)).collect();
            let mut map = executor.map(say_the_same, inputs).chunks(3);
            map.show(terminal.bars(20));
            let (map, hand) = (RefCell::new(map), Hand::new());
            let ended = || match hand.poll_next(&mut *map.borrow_mut()) {
                Poll::Ready(outcome) => outcome.unwrap().is_ok(),
                Poll::Pending => false,
            };
            for (total, file) in (100..).zip(files) {
                let is_shown = |line: &String| line.contains(&format!("/{total}")) && line.contains("under way");
                eventually("it is shown", || !ended() && terminal.text().iter().any(is_shown));
                file.remove();
                eventually("it has ended", ended);
            }
        }
    });
}

#[test]
fn bars_that_others_have_replaced_write_no_more() {
    within_deadline(|| {
        let (executor, (first, replaced), (second, told)) = (SyncExecutor::new(), mpsc::channel(), mpsc::channel());
        let mut group: TaskGroup<()> = (0..3)
            .map(|_| {
                executor.spawn(|progress| {
                    progress.set_message("under way");
                    progress.println("here");
                    Ok(progress.update(1)?)
                })
            })
            .collect();
        group.show(GroupBars::lines(Lines(first, Vec::new())));
        group.show(GroupBars::lines(Lines(second, Vec::new())));
        group.join().wait().unwrap();
        assert_eq!(replaced.iter().collect::<Vec<_>>(), Vec::<String>::new());
        let told: Vec<_> = told.iter().collect();
        for what in ["started", "here", "finished"] {
            assert_eq!(told.iter().filter(|line| line.contains(what)).count(), 3, "{told:?}");
        }
    });
}
