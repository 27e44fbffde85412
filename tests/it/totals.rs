//! What an iterator does to the total that its task has set.

use std::sync::{Arc, Mutex};

use progress_executor::{SyncExecutor, TaskResult, Updater};

/// The counts of a task at its end.
fn counts(task: impl FnOnce(&Updater) -> TaskResult<()> + Send + 'static) -> (u64, Option<u64>) {
    let mut task = SyncExecutor::new().spawn(task);
    smol::block_on(&mut task).unwrap();
    (task.progress().n, task.progress().total)
}

/// This many items, of an iterator that does not know their number in advance.
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
fn of_two_iterators_the_one_that_goes_on_has_its_own_total() {
    let counted = counts(|progress| progress.iter(0..4).try_for_each(|_| exhaust(progress, 0..3)));
    assert_eq!(counted, (4, Some(4)));
    let counted = counts(|progress| progress.iter(uncounted(4)).try_for_each(|_| exhaust(progress, 0..3)));
    assert_eq!(counted, (4, None));
    let counted = counts(|progress| {
        progress.set_total(7);
        progress.iter(uncounted(4)).try_for_each(|_| {
            exhaust(progress, 0..3)?;
            exhaust(progress, uncounted(3))
        })
    });
    assert_eq!(counted, (4, Some(7)));
    let counted = counts(|progress| {
        let both = progress.iter(0..3).zip(progress.iter(0..5));
        Ok(both.into_iter().try_for_each(|(first, second)| first.and(second).map(drop))?)
    });
    assert_eq!(counted, (3, Some(3)));
    // A total that is set within the loop is not one of the iterators'.
    let counted = counts(|progress| {
        progress.iter(0..4).try_for_each(|_| {
            exhaust(progress, 0..3)?;
            progress.set_total(9);
            Ok(())
        })
    });
    assert_eq!(counted, (4, Some(9)));
    let counted = counts(|progress| {
        progress.iter(uncounted(4)).try_for_each(|item| {
            progress.set_total(9 - item?);
            exhaust(progress, uncounted(3))
        })
    });
    assert_eq!(counted, (4, Some(6)));
}

#[test]
fn whoever_looks_sees_each_position_with_its_own_total() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let task = SyncExecutor::new().spawn(|progress| progress.iter(0..2).try_for_each(|_| exhaust(progress, 0..3)));
    task.on_progress(move |_, new| sink.lock().unwrap().push((new.n, new.total))).wait().unwrap();
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.dedup();
    let of_three = [0, 1, 2, 3].map(|n| (n, Some(3)));
    let all = [&[(0, None), (0, Some(2))], &of_three[..], &[(1, Some(2))], &of_three, &[(2, Some(2))]].concat();
    assert_eq!(seen, all);
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
