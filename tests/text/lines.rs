//! Lines that tasks say.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use progress_executor::{
    Executor, ExecutorExt, GroupBars, GroupEvent, ProcessPoolExecutor, ProgressBar, ProgressState, SyncExecutor,
    TaskEvent, TaskGroup, TaskResult, ThreadPoolExecutor, Triggers, Updater,
};

use crate::support::{eventually, gate, within_deadline};

/// Counts, and says each number that it has come to.
pub(crate) fn say_numbers(numbers: u64, progress: &Updater) -> TaskResult<()> {
    for number in 1..=numbers {
        progress.update(1)?;
        progress.println(number);
    }
    Ok(())
}

/// Says each number from a thread of its own.
pub(crate) fn say_numbers_elsewhere(numbers: u64, progress: &Updater) -> TaskResult<()> {
    let shared = progress.shared();
    std::thread::scope(|scope| scope.spawn(|| (1..=numbers).for_each(|number| shared.println(number))).join().unwrap());
    Ok(())
}

pub(crate) fn say_each(texts: Vec<String>, progress: &Updater) -> TaskResult<()> {
    texts.iter().for_each(|text| progress.println(text));
    Ok(())
}

/// Says this many lines of a kilobyte each, and a last one.
pub(crate) fn say_much(lines: u64, progress: &Updater) -> TaskResult<u64> {
    let line = "x".repeat(1000);
    (0..lines).for_each(|_| progress.println(&line));
    progress.println("the end");
    Ok(lines)
}

/// One executor of each kind; the last one starts its workers through another command, as for other machines.
pub(crate) fn executors() -> [Box<dyn Executor>; 4] {
    let processes = ProcessPoolExecutor::new(1).unwrap();
    let launched = ProcessPoolExecutor::builder().max_workers(1).launcher("env".parse().unwrap()).build().unwrap();
    [Box::new(SyncExecutor::new()), Box::new(ThreadPoolExecutor::new(1)), Box::new(processes), Box::new(launched)]
}

fn numbers(count: u64) -> Vec<String> {
    (1..=count).map(|number| number.to_string()).collect()
}

#[test]
fn lines_come_whole_and_in_order_with_the_progress() {
    within_deadline(|| {
        for executor in executors() {
            let mut events = executor.submit(say_numbers, 500).events();
            let (mut lines, mut said, mut is_done) = (Vec::new(), 0, false);
            while let Some(event) = smol::block_on(events.next()) {
                match event {
                    TaskEvent::Line(line) => {
                        said = line.parse().unwrap();
                        lines.push(line);
                    }
                    TaskEvent::Progress(state) => assert!(state.n >= said, "{} was said before {}", said, state.n),
                    TaskEvent::Done(outcome) => {
                        outcome.unwrap();
                        is_done = true;
                    }
                    _ => unreachable!("there is no other event"),
                }
            }
            assert!(is_done);
            assert_eq!(lines, numbers(500));
        }
    });
}

#[test]
fn one_newline_at_the_end_of_a_line_is_not_part_of_it() {
    within_deadline(|| {
        for executor in executors() {
            let texts = ["one\n", "two\n\n", "\n", ""].map(str::to_owned);
            let events = executor.submit(say_each, texts.to_vec()).events();
            let lines =
                events.filter_map(async |event| if let TaskEvent::Line(line) = event { Some(line) } else { None });
            assert_eq!(smol::block_on(lines.collect::<Vec<_>>()), ["one", "two\n", "", ""]);
        }
    });
}

#[test]
fn progress_does_not_overtake_a_line_while_nobody_polls() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::builder().max_workers(1).report_interval(Duration::ZERO).build();
        let (gate, barrier) = gate();
        let task = executor.spawn(move |progress| {
            barrier.pass();
            progress.update(1)?;
            progress.println("one");
            progress.update(1)?;
            barrier.pass();
            Ok(())
        });
        let events = task.events();
        for _ in 0..2 {
            gate.wait();
            gate.open();
        }
        let told = events.filter_map(async |event| match event {
            TaskEvent::Progress(state) => Some(state.n.to_string()),
            TaskEvent::Line(line) => Some(line),
            _ => None,
        });
        let mut told = smol::block_on(told.collect::<Vec<_>>());
        told.dedup();
        assert_eq!(told, ["0", "1", "one", "2"]);
    });
}

#[test]
fn threads_of_a_task_say_lines_as_well() {
    within_deadline(|| {
        for executor in executors() {
            let events = executor.submit(say_numbers_elsewhere, 50).events();
            let lines =
                events.filter_map(async |event| if let TaskEvent::Line(line) = event { Some(line) } else { None });
            assert_eq!(smol::block_on(lines.collect::<Vec<_>>()), numbers(50));
        }
    });
}

#[test]
fn what_a_task_of_a_group_has_said_comes_before_its_outcome() {
    within_deadline(|| {
        for executor in executors() {
            let mut group = TaskGroup::new();
            let ids = [20, 30].map(|count| (group.add(executor.submit(say_numbers, count)), count));
            let mut said: Vec<Vec<String>> = vec![Vec::new(); 2];
            let mut events = group.events();
            while let Some(event) = smol::block_on(events.next()) {
                let index = |id| ids.iter().position(|(other, _)| *other == id).unwrap();
                match event {
                    GroupEvent::Line(id, line) => said[index(id)].push(line),
                    GroupEvent::Ended(id, outcome) => {
                        outcome.unwrap();
                        assert_eq!(said[index(id)], numbers(ids[index(id)].1));
                    }
                    _ => {}
                }
            }
        }
    });
}

#[test]
fn what_a_task_of_a_group_says_before_anybody_polls_is_heard_by_those_who_listen() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let task = ThreadPoolExecutor::new(1).spawn(move |progress| {
            progress.println("before");
            barrier.pass();
            progress.println("after");
            Ok(())
        });
        let mut group = TaskGroup::new();
        group.add(task);
        gate.wait();
        let (handle, events) = (group.handle(), group.events());
        gate.open();
        eventually("it ends", || handle.progress().finished == 1);
        let lines =
            events.filter_map(async |event| if let GroupEvent::Line(_, line) = event { Some(line) } else { None });
        assert_eq!(smol::block_on(lines.collect::<Vec<_>>()), ["before", "after"]);
    });
}

#[test]
fn what_has_ended_before_anybody_listens_is_heard_although_others_have_looked_at_it() {
    within_deadline(|| {
        let [_, threads, processes, launched] = executors();
        for executor in [threads, processes, launched] {
            let ended = || {
                let task = executor.submit(say_numbers, 2).on_progress(|_, _| ());
                eventually("it ends", || task.is_done());
                task
            };
            let lines = ended().events().filter_map(async |event| match event {
                TaskEvent::Line(line) => Some(line),
                _ => None,
            });
            assert_eq!(smol::block_on(lines.collect::<Vec<_>>()), ["1", "2"]);

            // Observed before its end, and after.
            for is_known in [true, false] {
                for has_callback in [true, false] {
                    let mut group = TaskGroup::new();
                    if is_known {
                        let _ = group.progress();
                    }
                    group.add(ended());
                    if has_callback {
                        group.add_progress_callback(|_, _| ());
                    }
                    let _ = group.progress();
                    let lines = group.events().filter_map(async |event| match event {
                        GroupEvent::Line(_, line) => Some(line),
                        _ => None,
                    });
                    assert_eq!(smol::block_on(lines.collect::<Vec<_>>()), ["1", "2"], "{is_known} {has_callback}");
                }
            }
        }
    });
}

#[test]
fn bars_show_what_has_ended_before_they_were_made_although_others_have_looked_at_it() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        for is_group in [true, false] {
            let written = Written::default();
            let mut task = executor.submit(say_numbers, 2).on_progress(|_, _| ());
            let mut group = TaskGroup::new();
            if is_group {
                let handle = group.handle();
                group.add(task);
                eventually("it ends", || handle.progress().finished == 1);
                group.show(GroupBars::lines(written.clone()));
            } else {
                eventually("it ends", || task.is_done());
                task.show("one", GroupBars::lines(written.clone()));
                group.add(task);
            }
            group.join().wait().unwrap();
            let written = written.0.lock().unwrap().clone();
            let text = String::from_utf8(written).unwrap();
            assert!(text.lines().any(|line| line == "1") && text.lines().any(|line| line == "2"), "{text}");
        }
    });
}

#[test]
fn a_task_that_says_more_than_is_taken_is_not_held_up_and_the_rest_is_counted() {
    within_deadline(|| {
        let [_, threads, processes, launched] = executors();
        for (executor, is_exact) in [(threads, true), (processes, false), (launched, false)] {
            let events = executor.submit(say_much, 5000).events();
            // Nothing is taken before the task has ended.
            eventually("it ends", || events.get_ref().is_done());
            let lines =
                events.filter_map(async |event| if let TaskEvent::Line(line) = event { Some(line) } else { None });
            let lines: Vec<_> = smol::block_on(lines.collect());
            let dropped = |line: &String| line.strip_prefix('(')?.split_once(' ')?.0.parse::<u64>().ok();
            let (notices, said): (Vec<_>, Vec<_>) = lines.iter().partition(|line| dropped(line).is_some());
            assert!(said.len() <= 1100 && !notices.is_empty(), "{}, {notices:?}", said.len());
            let known = said.len() as u64 + notices.into_iter().filter_map(dropped).sum::<u64>();
            // A worker's own notice may be among those that were dropped.
            assert!(known == 5001 || !is_exact, "{known}");
        }
    });
}

/// A bar that keeps the lines.
struct Keeps(Arc<Mutex<Vec<String>>>);

impl ProgressBar for Keeps {
    fn update(&mut self, _: &ProgressState) {}

    fn finish(&mut self, _: &ProgressState) {}

    fn println(&mut self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

#[test]
fn a_bar_shows_the_lines_of_its_task() {
    within_deadline(|| {
        for executor in executors() {
            let said = Arc::new(Mutex::new(Vec::new()));
            let bar = Keeps(said.clone());
            executor.submit(say_numbers, 50).with_bar(Triggers::NOW, || bar).wait().unwrap();
            assert_eq!(*said.lock().unwrap(), numbers(50));
        }
    });
}

/// Memory that is written to.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn bars_that_show_a_task_and_its_group_show_its_lines_once_in_each_place() {
    within_deadline(|| {
        for executor in executors() {
            let written = [Written::default(), Written::default()];
            let [here, elsewhere] = written.clone().map(GroupBars::lines);
            let mut group = TaskGroup::new();
            let mut task = executor.submit(say_numbers, 50);
            task.show("one", here.clone());
            task.show("one", elsewhere);
            group.show(here);
            group.add(task);
            group.join().wait().unwrap();
            for written in written {
                let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
                let said: Vec<_> = text.lines().filter(|line| line.parse::<u64>().is_ok()).collect();
                assert_eq!(said, numbers(50), "{text}");
            }
        }
    });
}

#[test]
fn lines_come_in_order_whenever_bars_in_one_place_begin_to_show_them() {
    within_deadline(|| {
        let executor = ThreadPoolExecutor::new(1);
        for choice in 0..8 {
            let [is_group_shown_first, has_two_bars, is_polled] = [1, 2, 4].map(|bit| choice & bit != 0);
            let written = Written::default();
            let bars = GroupBars::lines(written.clone());
            let (to_say, to_be_said) = mpsc::channel::<u64>();
            let (said, is_said) = mpsc::channel();
            let mut task = executor.spawn(move |progress| {
                for number in to_be_said {
                    progress.println(number);
                    said.send(())?;
                }
                Ok(())
            });
            let say = |number| {
                to_say.send(number).unwrap();
                is_said.recv().unwrap();
            };
            let mut group = TaskGroup::new();
            if is_group_shown_first {
                group.show(bars.clone());
            }
            say(1);
            task.show("one", bars.clone());
            if is_polled {
                assert!((&mut task).now_or_never().is_none());
            }
            say(2);
            let kept = Arc::default();
            if has_two_bars {
                let bar = Keeps(Arc::clone(&kept));
                task.add_bar(Triggers::NOW, || bar);
            }
            group.add(task);
            say(3);
            if !is_group_shown_first {
                group.show(bars);
            }
            say(4);
            drop(to_say);
            group.join().wait().unwrap();
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            let said: Vec<_> = text.lines().filter(|line| line.parse::<u64>().is_ok()).collect();
            assert_eq!(said, numbers(4), "{choice:03b}: {text}");
            let kept = kept.lock().unwrap();
            assert!(
                numbers(4).ends_with(&kept) && kept.len() >= if has_two_bars { 3 } else { 0 },
                "{choice:03b}: {kept:?}"
            );
        }
    });
}

#[test]
fn what_is_written_without_an_end_is_cut_between_characters() {
    let written = Written::default();
    let mut bars = GroupBars::lines(written.clone());
    let text = "x".to_owned() + &"語".repeat(50_000);
    text.as_bytes().chunks(1000).for_each(|piece| bars.write_all(piece).unwrap());
    drop(bars);
    let shown = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(shown.lines().count() > 2 && shown.replace('\n', "") == text);
}

#[test]
fn empty_lines_are_lines() {
    within_deadline(|| {
        let written = Written::default();
        let mut bars = GroupBars::lines(written.clone());
        bars.write_all(b"written\n\n").unwrap();
        bars.println("");
        bars.println("printed\n");
        let mut task = SyncExecutor::new().spawn(|progress| {
            ["said", "", "\n", ""].into_iter().for_each(|line| progress.println(line));
            Ok(())
        });
        task.show("one", bars);
        task.wait().unwrap();
        let executor = ThreadPoolExecutor::new(1);
        let task = executor.spawn(|progress| {
            ["said together", ""].into_iter().for_each(|line| progress.println(line));
            Ok(())
        });
        eventually("it ends", || task.is_done());
        let mut group: TaskGroup<()> = [task].into_iter().collect();
        group.show(GroupBars::lines(written.clone()));
        group.join().wait().unwrap();
        let shown = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        for lines in ["written\n\n\nprinted\n", "printed\none: started\nsaid\n\n\n\none", "said together\n\n"] {
            assert!(shown.contains(lines), "{shown:?} has no {lines:?}");
        }
    });
}

#[test]
fn lines_are_serialized_with_their_task_where_it_could_be_another() {
    let line: TaskEvent<()> = TaskEvent::Line("a \"stone\"".into());
    assert_eq!(serde_json::to_string(&line).unwrap(), r#"{"event":"line","line":"a \"stone\""}"#);
    let task = SyncExecutor::new().spawn(|_| Ok(()));
    let line: GroupEvent<()> = GroupEvent::Line(task.id(), "a stone".into());
    assert_eq!(
        serde_json::to_string(&line).unwrap(),
        format!(r#"{{"event":"line","id":{},"line":"a stone"}}"#, task.id())
    );
}
