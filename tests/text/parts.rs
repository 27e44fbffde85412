//! Parts of tasks that have names: what observers are told of them, and what a screen shows of them.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use progress_executor::{
    Executor, ExecutorExt, PartState, ProgressState, Status, TaskEvent, TaskGroup, TaskResult, Updater,
};
use serde_json::json;

use crate::lines::executors;
use crate::screen::{executor, wait_for_step};
use crate::support::{NewFile, within_deadline};
use crate::terminal::{KINDS, Program, everywhere};

/// Has named parts, with a nameless one between them, until the first file is gone; goes on until the second one is.
pub(crate) fn have_parts((first, second): (PathBuf, PathBuf), progress: &Updater) -> TaskResult<()> {
    progress.set_total(8);
    {
        let outer = progress.split(4).named("日本 outer\n");
        outer.set_counts(1, 5)?;
        let nameless = outer.split(2);
        nameless.set_total(1);
        let inner = nameless.split(1).named("\x1b[31minner");
        inner.set_counts(3, 6)?;
        wait_while(&first, progress)?;
    }
    wait_while(&second, progress)
}

/// Has this many parts at once, with long names, until the file is gone.
pub(crate) fn have_many_parts((number, path): (u64, PathBuf), progress: &Updater) -> TaskResult<()> {
    let name = |number| format!("{number} {}", "語".repeat(100_000));
    let _parts: Vec<_> = (0..number).map(|number| progress.split(1).named(name(number))).collect();
    wait_while(&path, progress)
}

pub(crate) fn wait_while(path: &Path, progress: &Updater) -> TaskResult<()> {
    while path.exists() {
        progress.sleep(Duration::from_millis(5))?;
    }
    Ok(())
}

/// Runs a task on every executor, and returns the states that observers were told of each, with the last one.
fn told_of<F>(task: F) -> Vec<Vec<ProgressState>>
where
    F: Fn(&dyn Executor, Box<dyn FnMut(&ProgressState) + Send>),
{
    executors()
        .iter()
        .map(|executor| {
            let (send, told) = mpsc::channel();
            task(&**executor, Box::new(move |state| _ = send.send(state.clone())));
            told.iter().collect()
        })
        .collect()
}

#[test]
fn parts_with_a_name_are_told_of_while_they_are_under_way() {
    within_deadline(|| {
        let told = told_of(|executor, mut tell| {
            let mut files = vec![NewFile::new(), NewFile::new()];
            let task = executor.submit(have_parts, (files[0].path(), files[1].path()));
            let step = move |_: &ProgressState, new: &ProgressState| {
                tell(new);
                // The first file goes when its parts are seen, the second one when they are gone.
                let are_seen = new.parts.last().is_some_and(|part| part.n == 3);
                let are_gone = new.parts.is_empty() && files.len() == 1;
                if are_seen && files.len() == 2 || are_gone {
                    files.remove(0);
                }
            };
            task.on_progress(step).wait().unwrap();
        });
        for states in told {
            let state = states.iter().find(|state| state.parts.len() == 2 && state.parts[1].n == 3).unwrap();
            let parts: Vec<_> = state.parts.iter().map(|part| (&*part.name, part.n, part.total, part.depth)).collect();
            assert_eq!(parts, [("日本 outer\n", 2, Some(5), 0), ("\x1b[31minner", 3, Some(6), 1)]);
            assert_eq!((state.parts[1].fraction(), state.fraction()), (Some(0.5), Some(0.2)));
            let (last, before) = states.split_last().unwrap();
            assert!(last.parts.is_empty() && last.status == Status::Finished, "{last:?}");
            assert!(before.last().is_some_and(|state| state.parts.is_empty() && state.n == 4), "{before:?}");
        }
    });
}

#[test]
fn of_many_parts_and_of_long_names_the_beginning_is_told() {
    within_deadline(|| {
        for states in told_of(|executor, mut tell| {
            let mut file = Some(NewFile::new());
            let path = file.as_ref().map(NewFile::path).unwrap();
            let step = move |_: &ProgressState, new: &ProgressState| {
                tell(new);
                file.take_if(|_| new.parts.len() == 16);
            };
            executor.submit(have_many_parts, (40, path)).on_progress(step).wait().unwrap();
        }) {
            let most = states.iter().find(|state| state.parts.len() == 16).unwrap();
            let names: Vec<_> =
                most.parts.iter().map(|part| part.name.chars().filter(|&c| c == '語').count()).collect();
            assert!(names.len() == 16 && names.iter().all(|&len| len == 84), "{names:?}");
            assert!(most.parts[0].name.starts_with("0 ") && most.parts[15].name.starts_with("15 "), "{most:?}");
        }
    });
}

/// A group of two tasks with parts.
pub(crate) fn play_group() {
    let (executor, files) = (executor(2), [NewFile::new(), NewFile::new()]);
    let mut group = TaskGroup::new();
    for name in ["one", "two"] {
        let paths = (files[0].path(), files[1].path());
        group.add(executor.task(have_parts, paths).name(name).submit());
    }
    group.show_bars();
    let stepper = thread::spawn(move || remove_step_by_step(files));
    group.join().wait().unwrap();
    stepper.join().unwrap();
}

/// One task with parts, and nothing else.
pub(crate) fn play_task() {
    let (executor, files) = (executor(1), [NewFile::new(), NewFile::new()]);
    let mut task = executor.submit(have_parts, (files[0].path(), files[1].path()));
    task.show_bar("one");
    let stepper = thread::spawn(move || remove_step_by_step(files));
    task.wait().unwrap();
    stepper.join().unwrap();
}

fn remove_step_by_step(files: [NewFile; 2]) {
    for file in files {
        wait_for_step();
        drop(file);
    }
}

/// Whether each line begins with one text and holds another.
fn are(lines: &[String], expected: &[(&str, &str)]) -> bool {
    lines.len() == expected.len()
        && lines.iter().zip(expected).all(|(line, (start, holds))| line.starts_with(start) && line.contains(holds))
}

const PARTS: [(&str, &str); 2] = [("  日本 out", " 40 %"), ("    inner", " 50 %")];

#[test]
fn parts_stand_below_their_tasks_while_they_are_under_way() {
    everywhere(|kind, columns| {
        let mut program = Program::start("parts", kind, (24, columns), &[]);
        let [outer, inner] = PARTS;
        program.wait_until(|lines| {
            are(lines, &[("one", " 20 %"), outer, inner, ("two", " 20 %"), outer, inner, ("total", " %")])
        });
        assert_eq!(program.last_column(), "", "{:#?}", program.lines());
        program.step();
        program.wait_until(|lines| are(lines, &[("one", " 50 %"), ("two", " 50 %"), ("total", " %")]));
        program.step();
        program.wait();
        assert!(are(&program.lines(), &[("2 ended: 2 finish", "")]), "{:#?}", program.lines());
    });
}

#[test]
fn where_there_is_little_room_it_is_for_tasks() {
    for kind in KINDS {
        within_deadline(move || {
            let mut program = Program::start("parts", kind, (5, 80), &[]);
            let [outer, _] = PARTS;
            program.wait_until(|lines| are(lines, &[("one", " 20 %"), outer, ("two", " 20 %"), ("total", " %")]));
            program.step();
            program.step();
            program.wait();
        });
    }
}

#[test]
fn a_task_shows_its_parts() {
    everywhere(|kind, columns| {
        let mut program = Program::start("parts of one", kind, (24, columns), &[]);
        let [outer, inner] = PARTS;
        program.wait_until(|lines| are(lines, &[("one", " 20 %"), outer, inner]));
        program.step();
        program.wait_until(|lines| are(lines, &[("one", " 50 %")]));
        program.step();
        program.wait();
        assert!(are(&program.lines(), &[("one", "")]), "{:#?}", program.lines());
    });
}

#[test]
fn an_event_tells_parts_that_have_a_name_while_there_are_some() {
    let mut part = PartState::default();
    (part.name, part.n, part.total, part.depth) = ("outer".into(), 1, Some(4), 1);
    let mut state = ProgressState::default();
    state.parts.push(part);
    let told = |state: ProgressState| serde_json::to_value(TaskEvent::<()>::Progress(state)).unwrap();
    let expected = json!([{ "name": "outer", "n": 1, "total": 4, "fraction": 0.25, "depth": 1 }]);
    assert_eq!(told(state)["parts"], expected);
    assert_eq!(told(ProgressState::default()).get("parts"), None);
}
