//! What tasks are called.

use progress_executor::{ExecutorExt, ProcessPoolExecutor, SyncExecutor, TaskResult, ThreadPoolExecutor, Updater};

use crate::support::{count, within_deadline};

struct Job;

impl Job {
    fn run(executor: &SyncExecutor) -> String {
        executor.spawn(|progress| Ok(progress.name().to_owned())).wait().unwrap()
    }
}

trait Named {
    fn name(executor: &SyncExecutor) -> String;
}

impl Named for Job {
    fn name(executor: &SyncExecutor) -> String {
        executor.spawn(|progress| Ok(progress.name().to_owned())).wait().unwrap()
    }
}

#[test]
fn tasks_of_one_function_are_told_apart() {
    let executor = SyncExecutor::new();
    let (one, other) = (executor.submit(count, 1), executor.submit(count, 1));
    assert_eq!(one.name(), format!("count #{}", one.id()));
    assert_ne!(one.name(), other.name());
    one.cancel();
    let (name, error) = (one.name().to_owned(), one.wait().unwrap_err());
    assert_eq!(error.name(), name);
    assert!(error.to_string().starts_with(&format!("task `{name}` was cancelled")), "{error}");
}

#[test]
fn a_closure_is_called_as_the_function_that_it_stands_in() {
    let executor = SyncExecutor::new();
    let task = executor.spawn(|_| Ok(()));
    assert_eq!(task.name(), format!("a_closure_is_called_as_the_function_that_it_stands_in #{}", task.id()));
    assert!(Job::run(&executor).starts_with("run #"), "{}", Job::run(&executor));
    assert!(<Job as Named>::name(&executor).starts_with("name #"), "{}", <Job as Named>::name(&executor));
}

#[test]
fn a_name_that_was_given_stays_as_it_is() {
    let executor = ThreadPoolExecutor::new(1);
    assert_eq!(executor.spawn_named("dig", |_| Ok(())).name(), "dig");
    assert_eq!(executor.task(count, 1).name("dig").submit().name(), "dig");
}

#[test]
fn a_task_knows_its_id_and_its_name() {
    let task = ThreadPoolExecutor::new(1).spawn(|progress| {
        let part = progress.split(1);
        assert_eq!((part.id(), part.name()), (progress.id(), progress.name()));
        Ok((progress.id(), progress.name().to_owned()))
    });
    let expected = (task.id(), task.name().to_owned());
    assert_eq!(task.wait().unwrap(), expected);
}

fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

#[test]
fn a_function_pointer_is_named_by_its_signature_and_told_that_it_is_one() {
    within_deadline(|| {
        let pointer: fn(u64, &Updater) -> TaskResult<u64> = double;
        let task = SyncExecutor::new().submit(pointer, 1);
        assert!(task.name().starts_with("fn(u64, &") && !task.name().contains("Result"), "{}", task.name());
        assert_eq!(task.wait().unwrap(), 2);

        let error = ProcessPoolExecutor::new(1).unwrap().submit(pointer, 1).wait().unwrap_err();
        assert!(error.is_not_registered(), "{error:?}");
        assert!(format!("{error:#}").contains("is a function pointer"), "{error:#}");
    });
}

#[test]
#[expect(clippy::needless_borrows_for_generic_args, reason = "they are what is tested")]
fn a_reference_to_a_function_is_told_that_it_is_one() {
    within_deadline(|| {
        let task = SyncExecutor::new().submit(&double, 1);
        assert_eq!(task.name(), format!("double #{}", task.id()));
        let error = ProcessPoolExecutor::new(1).unwrap().submit(&double, 1).wait().unwrap_err();
        assert!(format!("{error:#}").contains("submit `double` itself"), "{error:#}");
    });
}
