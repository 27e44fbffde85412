//! A task knows its name wherever it runs.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskResult, Updater, test_worker};

use crate::support::within_deadline;

test_worker!(name);

fn name(_: u64, progress: &Updater) -> TaskResult<(String, String)> {
    Ok((progress.name().to_owned(), progress.split(1).name().to_owned()))
}

#[test]
fn a_task_in_a_worker_process_has_the_name_that_the_program_knows_it_by() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let named = |given: &str| executor.task(name, 1).name(given).submit();
        for task in [executor.submit(name, 1), named("dig"), executor.submit(name, 2), named("")] {
            let expected = task.name().to_owned();
            assert_eq!(task.wait().unwrap(), (expected.clone(), expected));
        }
    });
}

#[test]
fn what_is_called_too_long_does_not_fit_into_a_frame() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::builder().max_workers(1).max_frame_bytes(64 * 1024).build().unwrap();
        let error = executor.task(name, 1).name("n".repeat(64 * 1024)).submit().wait().unwrap_err();
        assert!(format!("{error:#}").contains("a frame of"), "{}", error.kind());
        assert!(executor.submit(name, 1).wait().is_ok());
    });
}
