//! What errors look like.

use std::fmt;
use std::io;
use std::process::Command;

use progress_executor::{
    Cancelled, ExecutorExt, ProcessPoolExecutor, SyncExecutor, TaskError, TaskErrorKind, Updater, WorkerExit,
};

use crate::support::{count, within_deadline};

/// The error of a task, with two sources.
fn error() -> TaskError {
    #[derive(Debug)]
    struct Unreadable(io::Error);
    impl fmt::Display for Unreadable {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`menu.txt` cannot be read")
        }
    }
    impl std::error::Error for Unreadable {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let executor = SyncExecutor::new();
    let refuse = |(), _: &Updater| Err::<(), _>(Unreadable(io::Error::other("the disk\nis on fire")).into());
    executor.task(refuse, ()).name("cook").submit().wait().unwrap_err()
}

#[test]
fn a_message_stands_alone() {
    let message = error().to_string();
    assert!(message.starts_with("task `cook` (") && message.ends_with(") failed"), "{message}");
}

#[test]
fn the_alternate_form_has_the_sources_on_the_same_line() {
    let error = error();
    assert_eq!(format!("{error:#}"), format!("{error}: `menu.txt` cannot be read: the disk is on fire"));
}

#[test]
fn what_main_shows_is_readable() {
    let error = error();
    let expected = format!("{error}\n\nCaused by:\n    `menu.txt` cannot be read\n    the disk\nis on fire");
    assert_eq!(format!("{error:?}"), expected);

    let cancelled = SyncExecutor::new().spawn(|_| Ok(()));
    cancelled.cancel();
    let cancelled = cancelled.wait().unwrap_err();
    assert_eq!(format!("{cancelled:?}"), cancelled.to_string());
}

#[test]
fn the_structure_can_be_seen() {
    let structure = format!("{:#?}", error());
    assert!(structure.starts_with("TaskError {") && structure.contains("kind: Failed"), "{structure}");
    assert!(structure.contains("Unreadable("), "{structure}");
}

#[test]
fn whoever_unwraps_a_cancellation_is_told_to_pass_it_on() {
    assert!(format!("{:?}", Cancelled).contains('?'));
}

#[test]
fn an_error_without_an_end_is_shown_in_part() {
    #[derive(Debug)]
    struct Endless;
    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("once more")
        }
    }
    impl std::error::Error for Endless {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(self)
        }
    }
    let error = SyncExecutor::new().spawn(|_| Err::<(), _>(Endless.into())).wait().unwrap_err();
    for shown in [format!("{error:#}"), format!("{error:?}")] {
        assert!((1..=100).contains(&shown.matches("once more").count()), "{shown}");
    }
}

#[test]
fn kinds_are_told_in_words() {
    assert_eq!(TaskErrorKind::Stalled.to_string(), "stalled");
    assert_eq!(TaskErrorKind::WorkerLost(WorkerExit::Signal(9)).to_string(), "lost its worker: signal 9 (SIGKILL)");
}

#[test]
fn an_exit_status_is_the_exit_of_a_worker() {
    let exit = |script| WorkerExit::from(Command::new("sh").args(["-c", script]).status().unwrap());
    assert_eq!(exit("exit 3"), WorkerExit::Code(3));
    assert_eq!(exit("kill -9 $$"), WorkerExit::Signal(9));
}

#[test]
fn one_unit_is_not_told_as_several() {
    let told = |units: u64| {
        let task = SyncExecutor::new().spawn_named("dig", move |progress| {
            progress.update(units)?;
            Err::<(), _>("a rock".into())
        });
        task.wait().unwrap_err().to_string()
    };
    for (units, end) in [(1, " failed after 1 unit"), (2, " failed after 2 units")] {
        let message = told(units);
        assert!(message.ends_with(end), "{message}");
    }
}

#[test]
fn a_program_that_the_system_does_not_start_is_named() {
    within_deadline(|| {
        let program = std::env::current_exe().unwrap().display().to_string();
        let builder = ProcessPoolExecutor::builder;
        // The first is more than any system passes on.
        for builder in [builder().env("TEST_LARGE", "x".repeat(8 << 20)), builder().current_dir("/is/not/there")] {
            let error = builder.build().unwrap().submit(count, 1).wait().unwrap_err();
            assert!(format!("{error:#}").contains(&program), "{error:#}");
        }
    });
}
