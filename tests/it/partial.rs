//! A part is never taken for the whole: how a task ends that was cut short and returns a value.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use progress_executor::{
    CancelCause, Cancelled, ProgressFuture, Status, SyncExecutor, TaskError, TaskErrorKind, TaskGroup, TaskResult,
    ThreadPoolExecutor, Updater,
};

use crate::support::{Hand, eventually, gate, within_deadline};

/// The outcome of an inline task that is cancelled as soon as it shows `n`.
fn cancelled_at<T: Send + 'static>(
    n: u64,
    task: impl FnOnce(&Updater) -> TaskResult<T> + Send + 'static,
) -> Result<T, TaskError> {
    cancel_at(n, SyncExecutor::new().spawn(task)).wait()
}

fn cancel_at<T>(n: u64, task: ProgressFuture<T>) -> ProgressFuture<T> {
    let canceller = task.canceller();
    task.on_progress(move |_, new| {
        if new.n >= n {
            canceller.cancel()
        }
    })
}

/// The partial value of a task that was cancelled by a request.
#[track_caller]
fn partial<T: 'static>(outcome: Result<T, TaskError>) -> T {
    let Err(error) = outcome else { panic!("a part was taken for the whole") };
    assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Requested));
    assert_eq!(error.progress().status, Status::Cancelled);
    assert!(error.downcast_ref::<Cancelled>().is_some(), "{error:?}");
    error.into_partial().unwrap()
}

/// Takes a part for the whole when it is cancelled, in one of several ways; for contract tests.
pub(crate) fn take_a_part(way: u32, progress: &Updater) -> TaskResult<u64> {
    let endless = progress.iter(0_u64..);
    let counted = match way {
        0 => endless.count(),
        1 => {
            let mut laps = 0;
            for _ in endless {
                laps += 1;
            }
            laps
        }
        2 => endless.flatten().count(),
        3 => endless.filter_map(Result::ok).count(),
        4 => io::BufReader::new(progress.reader(io::repeat(b'x'))).bytes().map_while(Result::ok).count(),
        5 => {
            let mut out = progress.writer(io::sink());
            (0..).take_while(|_| out.write_all(b"x").is_ok()).count()
        }
        _ => parallel_part(progress)?,
    };
    Ok(counted as u64)
}

/// How many ways there are.
pub(crate) const WAYS: u32 = 7;

#[cfg(feature = "rayon")]
fn parallel_part(progress: &Updater) -> TaskResult<usize> {
    use ::rayon::iter::ParallelIterator;

    // On this thread, because an inline task calls its callbacks only there.
    let threads = ::rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build()?;
    let items = progress.par_iter(0..u64::MAX);
    Ok(threads.install(|| items.filter_map(Result::ok).count()))
}

#[cfg(not(feature = "rayon"))]
fn parallel_part(progress: &Updater) -> TaskResult<usize> {
    Ok(progress.iter(0_u64..).count())
}

#[test]
fn an_iterator_whose_error_is_ignored_gives_a_part() {
    let words = || (0..1000).map(|n| n.to_string());
    assert_eq!(partial(cancelled_at(5, move |progress| Ok(progress.iter(words()).count()))), 6);
    assert_eq!(partial(cancelled_at(5, move |progress| Ok(progress.iter(words()).flatten().count()))), 5);
    assert_eq!(partial(cancelled_at(5, move |progress| Ok(progress.iter(words()).filter_map(Result::ok).count()))), 5);
    let laps = cancelled_at(5, move |progress| {
        let mut laps = 0;
        for _ in progress.iter(words()) {
            laps += 1;
        }
        Ok(laps)
    });
    assert_eq!(partial(laps), 6);
    let within_a_part = cancelled_at(0, move |progress| {
        progress.set_total(10);
        progress.set_message("begun");
        Ok(progress.split(5).iter(words()).filter_map(Result::ok).count())
    });
    assert!(partial(within_a_part) < 1000);
}

#[test]
fn a_reader_whose_error_is_swallowed_gives_a_part() {
    let read = cancelled_at(1 << 16, |progress| {
        let mut bytes = Vec::new();
        let _ = progress.reader(io::repeat(b'x').take(1 << 24)).read_to_end(&mut bytes);
        Ok(bytes.len())
    });
    assert!((1 << 16..1 << 24).contains(&partial(read)));
    let lines = cancelled_at(100, |progress| {
        let text = "a line\n".repeat(1000);
        Ok(io::BufRead::lines(progress.reader(text.as_bytes())).map_while(Result::ok).count())
    });
    assert!((14..1000).contains(&partial(lines)));
}

#[test]
fn a_writer_whose_error_is_swallowed_gives_a_part() {
    let written = cancelled_at(100, |progress| {
        let mut out = progress.writer(Vec::new());
        for line in 0..1000 {
            let _ = writeln!(out, "{line}");
        }
        Ok(out.into_inner().len())
    });
    assert_eq!(partial(written), 100);
}

#[cfg(feature = "rayon")]
#[test]
fn a_parallel_iterator_whose_items_are_filtered_gives_a_part() {
    use ::rayon::iter::ParallelIterator;

    let counted = cancelled_at(5, |progress| {
        let threads = ::rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build()?;
        let items = progress.par_iter(0..1_000_000_u64);
        Ok(threads.install(|| items.filter_map(Result::ok).count()))
    });
    assert!(partial(counted) < 1_000_000);
}

#[test]
fn an_iterator_that_had_ended_before_was_not_cut_short() {
    let counted = cancelled_at(7, |progress| {
        let all = progress.iter(0..3).collect::<Result<Vec<_>, _>>()?.len();
        let none = progress.update(7).is_err();
        Ok((all, none))
    });
    assert_eq!(counted.unwrap(), (3, true));
    let asked_again = cancelled_at(7, |progress| {
        let mut items = progress.iter(0..3);
        let all = items.by_ref().collect::<Result<Vec<_>, _>>()?.len();
        let told = progress.update(7);
        Ok((all, told, items.next()))
    });
    assert_eq!(asked_again.unwrap(), (3, Err(Cancelled), None));
}

#[test]
fn calls_that_only_count_leave_the_value_as_it_is() {
    let counted = cancelled_at(3, |progress| {
        let refused = (0..10).filter(|_| progress.update(1).is_err()).count();
        let _ = (progress.check(), progress.set_position(4), progress.set_counts(5, 6), progress.sleep(Duration::MAX));
        Ok(refused)
    });
    assert_eq!(counted.unwrap(), 8);
}

#[test]
fn an_error_stays_an_error_after_the_iterator_was_cut_short() {
    let failed = cancelled_at(3, |progress| match progress.iter(0..10).find(Result::is_err) {
        Some(_) => Err::<(), _>("the brake has failed".into()),
        None => Ok(()),
    });
    assert!(failed.unwrap_err().is_failed());
}

#[test]
fn only_the_type_that_was_returned_is_given() {
    let error = cancelled_at(1, |progress| Ok(progress.iter(0..10).count())).unwrap_err();
    let error = error.into_partial::<String>().unwrap_err();
    assert!(error.is_cancelled() && error.to_string().contains("was cancelled at 10 %"), "{error}");
    assert_eq!(error.into_partial::<usize>().unwrap(), 2);
    let passed_on = cancelled_at(1, |progress| Ok(progress.iter(0..10).collect::<Result<Vec<_>, _>>()?)).unwrap_err();
    assert!(passed_on.is_cancelled());
    assert!(passed_on.into_partial::<Vec<i32>>().is_err());
}

#[test]
fn a_part_is_dropped_with_its_error_or_without_its_future() {
    struct Tell(Sender<()>);
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let (send, dropped) = channel();
        let (gate, barrier) = gate();
        let task = pool.spawn(move |progress| {
            barrier.pass();
            progress.iter(0..10).for_each(drop);
            Ok(Tell(send))
        });
        gate.wait();
        drop(task);
        gate.open();
        dropped.recv().unwrap();
        let (send, dropped) = channel();
        let task = cancelled_at(3, move |progress| {
            progress.iter(0..10).for_each(drop);
            Ok(Tell(send))
        });
        assert!(dropped.try_recv().is_err());
        drop(task);
        dropped.recv().unwrap();
    });
}

#[test]
fn a_task_that_timed_out_while_it_iterates_has_no_part() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let task = pool.task(|(), progress| Ok(progress.iter(0_u64..).count()), ()).timeout(Duration::from_millis(10));
        let error = task.submit().wait().unwrap_err();
        assert!(error.is_timed_out());
        assert!(error.into_partial::<usize>().is_err());
    });
}

#[test]
fn groups_and_maps_tell_parts_from_values() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let count = |progress: &Updater| Ok(progress.iter(0_u64..).filter_map(Result::ok).count());
        let mut group = TaskGroup::new();
        group.add(pool.spawn(count));
        group.add(cancel_at(5, SyncExecutor::new().spawn(count)));
        let (_, outcome) = smol::block_on(group.next()).unwrap();
        assert_eq!(partial(outcome), 5);
        assert_eq!((group.progress().cancelled, group.progress().finished), (1, 0));
        eventually("it counts", || group.progress().n > 10);
        group.cancel();
        assert!(partial(group.join().wait().map(|_| 0_usize)) > 5);

        let (gate, barrier) = gate();
        let barrier = Arc::new(Mutex::new(barrier));
        let task = move |n: u64, progress: &Updater| {
            let numbers = progress.iter(0..n);
            barrier.lock().unwrap().pass();
            Ok(numbers.filter_map(Result::ok).count())
        };
        let mut counts = pool.map(task, [1000]);
        assert!(Hand::new().poll_next(&mut counts).is_pending());
        gate.wait();
        let shutdown = pool.shutdown_now();
        gate.open();
        let error = smol::block_on(counts.next()).unwrap().unwrap_err();
        assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Shutdown));
        assert_eq!(error.into_partial::<usize>().unwrap(), 0);
        shutdown.wait();
    });
}
