//! What an iterator does to the total that its task has set.

use progress_executor::{SyncExecutor, TaskResult, Updater};

/// The counts of a task at its end.
fn counts(task: impl FnOnce(&Updater) -> TaskResult<()> + Send + 'static) -> (u64, Option<u64>) {
    let mut task = SyncExecutor::new().spawn(task);
    smol::block_on(&mut task).unwrap();
    (task.progress().n, task.progress().total)
}

/// Of these many items, so that nobody knows their number before.
fn uncounted(items: u64) -> impl Iterator<Item = u64> {
    (0..items).filter(|_| true)
}

fn exhaust(progress: &Updater, items: impl Iterator<Item = u64>) -> TaskResult<()> {
    Ok(progress.iter(items).try_for_each(|item| item.map(drop))?)
}

#[test]
fn an_iterator_of_unknown_length_keeps_the_total_that_the_task_has_set() {
    let counted = counts(|progress| {
        progress.set_total(7);
        exhaust(progress, uncounted(3))?;
        exhaust(progress, uncounted(5))
    });
    assert_eq!(counted, (5, Some(7)));
    let counted = counts(|progress| {
        progress.set_counts(2, 7)?;
        exhaust(progress, uncounted(3))
    });
    assert_eq!(counted, (3, Some(7)));
    assert_eq!(counts(|progress| exhaust(progress, uncounted(3))), (3, None));
}

#[test]
fn an_exact_length_is_the_total() {
    let counted = counts(|progress| {
        progress.set_total(7);
        exhaust(progress, 0..3)
    });
    assert_eq!(counted, (3, Some(3)));
}

#[test]
fn the_total_of_one_iterator_is_not_that_of_the_next() {
    let counted = counts(|progress| {
        exhaust(progress, 0..10)?;
        exhaust(progress, uncounted(3))
    });
    assert_eq!(counted, (3, None));
    let counted = counts(|progress| {
        exhaust(progress, 0..10)?;
        progress.set_total(4);
        exhaust(progress, uncounted(3))?;
        exhaust(progress, uncounted(2))
    });
    assert_eq!(counted, (2, Some(4)));
}

#[test]
fn a_part_has_totals_of_its_own() {
    let mut task = SyncExecutor::new().spawn(|progress| {
        progress.set_total(100);
        let part = progress.split(50);
        part.set_total(4);
        exhaust(&part, uncounted(2))?;
        Ok(part)
    });
    let part = smol::block_on(&mut task).unwrap();
    assert_eq!((task.progress().n, task.progress().total), (25, Some(100)));
    drop(part);
}
