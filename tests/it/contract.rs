//! What holds for every executor.
//!
//! A new executor needs an implementation of [`Subject`] and a line in `contract!`. The tasks are plain functions, and
//! the tests speak to them only through inputs, outputs, progress and cancellation, so that they can also run in
//! another process.

use std::error::Error as _;
use std::io::{self, Read, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures::future::FusedFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use progress_executor::{
    CancelCause, Cancelled, Executor, ExecutorExt, ExecutorFn, GroupEvent, GroupProgress, Job, Launcher,
    ProcessPoolExecutor, ProgressFuture, ProgressState, SharedUpdater, Shutdown, Status, SyncExecutor, TaskErrorKind,
    TaskEvent, TaskGroup, TaskResult, ThreadPoolExecutor, Triggers, Updater, executor_fn,
};

use crate::bars::Log;
use crate::partial::take_a_part;
use crate::processes::append;
use crate::support::{NewFile, count, eventually, longest_wait_during, with_time_enough, within_deadline};
use crate::wrapped::{explode, wrap_in};
use crate::{partial, wrapped};

/// An executor under test.
trait Subject: Send + Sync + 'static {
    fn executor(&self) -> &dyn Executor;
    fn shutdown(&self) -> Option<Shutdown>;
    fn shutdown_now(&self) -> Option<Shutdown>;
    /// Whether tasks wait for others to end.
    fn has_queue(&self) -> bool {
        true
    }
}

macro_rules! subject {
    ($executor:ty) => {
        impl Subject for $executor {
            fn executor(&self) -> &dyn Executor {
                self
            }
            fn shutdown(&self) -> Option<Shutdown> {
                Some(self.shutdown())
            }
            fn shutdown_now(&self) -> Option<Shutdown> {
                Some(self.shutdown_now())
            }
        }
    };
}

subject!(ProcessPoolExecutor);
subject!(ThreadPoolExecutor);
subject!(SyncExecutor);

impl<F: Fn(Job) + Send + Sync + 'static> Subject for ExecutorFn<F> {
    fn executor(&self) -> &dyn Executor {
        self
    }
    fn shutdown(&self) -> Option<Shutdown> {
        None
    }
    fn shutdown_now(&self) -> Option<Shutdown> {
        None
    }
    fn has_queue(&self) -> bool {
        false
    }
}

macro_rules! contract {
    ($($executor:ident: $new:expr;)*) => {
        $(contract!(@ $executor, $new,
            a_task_ends_with_its_value
            a_task_ends_with_its_error
            a_task_ends_with_its_panic
            large_values_pass
            many_tasks_each_end_once
            a_task_has_an_id_and_a_name
            a_task_knows_its_id
            an_error_names_the_task_and_the_place
            a_finished_task_shows_its_last_counts
            a_message_is_shown
            a_split_part_is_shown_finer_than_its_units
            an_error_within_a_part_shows_how_far_that_has_come
            parts_complete_in_their_parent
            threads_of_a_task_count_together
            threads_of_a_task_are_cancelled_together
            elapsed_stands_still_after_the_end
            updates_start_with_the_current_state
            updates_come_in_order_and_end_with_the_last_state
            updates_after_the_end_are_the_last_state
            every_receiver_has_the_last_state_when_the_future_resolves
            counts_and_total_are_never_torn
            callbacks_chain
            a_removed_callback_is_not_called
            callbacks_run_where_the_future_is_polled
            a_bar_follows_the_task_from_its_start_to_its_end
            a_bar_for_cancelled_tasks_is_made_for_those_only
            events_end_with_the_outcome
            cancelled_before_it_starts
            cancelled_while_it_runs
            cancelled_while_it_sleeps
            cancelled_after_its_end
            cancelled_but_finished_all_the_same
            cancellation_in_an_io_error_is_cancellation
            cancellation_as_a_source_is_cancellation
            cancellation_is_found_in_every_wrapper
            a_part_is_never_taken_for_the_whole
            errors_and_payloads_that_panic_are_outcomes_like_others
            cancelled_without_a_request_is_failure
            another_error_after_cancellation_is_failure
            dropping_the_future_cancels
            a_detached_task_runs_on
            a_paused_task_goes_on_when_it_is_resumed
            a_paused_task_can_be_cancelled
            a_future_is_fused
            a_canceller_outlives_everything
            a_task_that_takes_too_long_times_out
            a_task_that_falls_silent_stalls
            a_task_that_keeps_making_calls_does_not_stall
            a_task_within_its_limits_keeps_its_value
            a_limit_of_zero_leaves_no_time_to_run
            a_deadline_is_known_to_the_task
            what_a_task_does_after_its_time_out_changes_nothing
            a_detached_task_times_out
            a_task_that_waits_for_its_turn_ends_at_its_deadline
            a_paused_task_ends_at_its_deadline
            a_running_task_ends_at_its_deadline
            a_task_within_its_deadline_keeps_its_value
            waiting_for_some_time_leaves_the_task_alone
            cancelled_but_deaf_a_task_times_out
            a_task_that_is_not_running_is_not_silent
            how_long_it_takes_to_notice_is_known
            joined_tasks_end_with_the_first_failure
            a_group_ends_with_all_outcomes_and_complete_progress
            dropping_a_group_cancels_its_tasks
            a_handle_cancels_a_group_that_is_joined
            events_of_a_group_show_the_last_state_before_the_last_outcome
            callbacks_of_a_group_are_shown_the_last_state
            a_report_tells_when_where_and_how_each_task_has_run
            a_map_keeps_the_order_of_its_inputs
            an_unordered_map_ends_with_the_first_error
            a_map_counts_inputs
            a_map_names_and_limits_its_tasks
            a_handle_ends_a_map_without_end
            a_map_is_an_ordinary_iterator
            shutdown_waits_for_the_accepted_tasks
            shutdown_now_cancels_the_accepted_tasks
        );)*
    };
    (@ $executor:ident, $new:expr, $($test:ident)*) => {
        mod $executor {
            use super::*;
            $(
                #[test]
                fn $test() {
                    within_deadline(|| super::$test(&$new));
                }
            )*
        }
    };
}

contract! {
    threads: ThreadPoolExecutor::new(2);
    one_thread: ThreadPoolExecutor::new(1);
    processes: ProcessPoolExecutor::new(2).unwrap();
    one_process: ProcessPoolExecutor::new(1).unwrap();
    processes_without_shared_memory: without_shared_memory(2);
    one_process_without_shared_memory: without_shared_memory(1);
    launched_processes: launched(launcher_of_environment());
    processes_launched_by_a_shell: launched(Launcher::shell(["sh", "-c"]));
    processes_elsewhere: elsewhere();
    inline: SyncExecutor::new();
    closure: executor_fn(|job: Job| drop(std::thread::spawn(move || job.run())));
}

/// The launcher that `PROGRESS_EXECUTOR_LAUNCHER` names, such as `srun --exact -n1 -Q`, so that the contract can be
/// tested on a cluster; otherwise one that does nothing.
pub(crate) fn launcher_of_environment() -> Launcher {
    let launcher = Launcher::from_env().unwrap();
    if launcher == Launcher::default() { Launcher::command(["env"]) } else { launcher }
}

/// Two workers that a launcher has started.
pub(crate) fn launched(launcher: Launcher) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(2).launcher(launcher).build().unwrap()
}

/// Workers behind the launcher that `TEST_LAUNCHER` names, such as `srun --exact -n1 -Q`; after the word `bulk`, one
/// that starts all of them, which then connect. Without the variable, one worker that connects from this machine.
fn elsewhere() -> ProcessPoolExecutor {
    let text = std::env::var("TEST_LAUNCHER").unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        #[cfg(feature = "cluster")]
        [] => ProcessPoolExecutor::builder().max_workers(1).launcher(Launcher::bulk(["env"])).build().unwrap(),
        #[cfg(feature = "cluster")]
        ["bulk", ..] => launched(Launcher::bulk(words[1..].iter().copied())),
        ["ssh", ..] => launched(Launcher::shell(words)),
        _ => launched(Launcher::command(words)),
    }
}

/// Workers without a page, as where processes cannot share memory.
pub(crate) fn without_shared_memory(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(max_workers).without_shared_memory().build().unwrap()
}

// The tasks.

pub(crate) fn echo(text: String, _: &Updater) -> TaskResult<String> {
    Ok(text)
}

pub(crate) fn fail(text: String, progress: &Updater) -> TaskResult<()> {
    progress.set_counts(1, 4)?;
    Err(text.into())
}

pub(crate) fn who_it_is((): (), progress: &Updater) -> TaskResult<String> {
    Ok(progress.id().to_string())
}

pub(crate) fn count_and_fail(n: u64, progress: &Updater) -> TaskResult<u64> {
    count(n, progress)?;
    Err("out of paper".into())
}

pub(crate) fn crash(text: String, progress: &Updater) -> TaskResult<()> {
    progress.set_counts(2, 4)?;
    panic!("{text}")
}

pub(crate) fn count_forever((): (), progress: &Updater) -> TaskResult<()> {
    loop {
        progress.update(1)?;
        progress.sleep(Duration::from_micros(100))?;
    }
}

pub(crate) fn sleep_for_ever((): (), progress: &Updater) -> TaskResult<()> {
    progress.update(1)?;
    Ok(progress.sleep(Duration::MAX)?)
}

/// Goes on after it was told that it is cancelled.
pub(crate) fn finish_all_the_same((): (), progress: &Updater) -> TaskResult<u64> {
    while progress.update(1).is_ok() {
        let _ = progress.sleep(Duration::from_micros(100));
    }
    Ok(42)
}

pub(crate) fn copy_for_ever((): (), progress: &Updater) -> TaskResult<u64> {
    let mut everything = progress.reader(io::repeat(1));
    Ok(io::copy(&mut everything, &mut io::sink())?)
}

#[derive(Debug)]
struct Interrupted(Cancelled);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

pub(crate) fn wrap_the_cancellation((): (), progress: &Updater) -> TaskResult<()> {
    loop {
        progress.update(1).map_err(Interrupted)?;
        let _ = progress.sleep(Duration::from_micros(100));
    }
}

pub(crate) fn fail_when_cancelled((): (), progress: &Updater) -> TaskResult<()> {
    let _ = count_forever((), progress);
    Err("the brake has failed".into())
}

pub(crate) fn say_cancelled((): (), _: &Updater) -> TaskResult<()> {
    Err(Cancelled.into())
}

pub(crate) fn set_pairs(n: u64, progress: &Updater) -> TaskResult<()> {
    for i in 0..n {
        progress.set_counts(i, 2 * i)?;
    }
    Ok(())
}

pub(crate) fn set_a_message(text: String, progress: &Updater) -> TaskResult<()> {
    progress.set_message(text);
    Ok(())
}

pub(crate) fn sleep_within_a_part((): (), progress: &Updater) -> TaskResult<()> {
    progress.set_counts(1, 4)?;
    let part = progress.split(2);
    part.set_counts(1, 8)?;
    Ok(part.sleep(Duration::MAX)?)
}

pub(crate) fn fail_within_a_part((): (), progress: &Updater) -> TaskResult<()> {
    progress.set_counts(1, 4)?;
    let part = progress.split(2);
    part.set_counts(1, 4)?;
    // If it were dropped, the part would count as complete.
    std::mem::forget(part);
    Err("out of paper".into())
}

pub(crate) fn count_in_parts(n: u64, progress: &Updater) -> TaskResult<()> {
    for item in progress.iter(0..n) {
        count(item? * 100, &progress.split(1))?;
    }
    Ok(())
}

pub(crate) fn check_for(input: (Duration, PathBuf), progress: &Updater) -> TaskResult<()> {
    keep_calling(input, || progress.check().and_then(|()| progress.sleep(Duration::from_millis(1))))
}

/// Makes calls for the given time, and then writes into the file how that went.
pub(crate) fn keep_calling(
    (time, file): (Duration, PathBuf),
    call: impl Fn() -> Result<(), Cancelled>,
) -> TaskResult<()> {
    Calls::make(Instant::now(), time, call).tell(&file)
}

/// The calls of a task.
pub(crate) struct Calls {
    last: Instant,
    /// The longest time without one.
    longest: Duration,
    /// How long another thread of the task's process had to wait meanwhile.
    wait: Duration,
    outcome: Result<(), Cancelled>,
}

impl Calls {
    /// Makes calls of a task that has begun, for the given time.
    pub(crate) fn make(begun: Instant, time: Duration, call: impl Fn() -> Result<(), Cancelled>) -> Self {
        let (mut last, mut longest, mut outcome) = (begun, Duration::ZERO, Ok(()));
        let ((), wait) = longest_wait_during(|| {
            while outcome.is_ok() && begun.elapsed() < time {
                outcome = call();
                let now = Instant::now();
                longest = longest.max(now - last);
                last = now;
            }
        });
        Self { last, longest, wait, outcome }
    }

    /// Writes the longest time without a call, and the longest wait, into the file, as the last thing that the task does.
    pub(crate) fn tell(self, file: &Path) -> TaskResult<()> {
        let longest = self.longest.max(self.last.elapsed());
        std::fs::write(file, serde_json::to_vec(&(longest, self.wait))?)?;
        Ok(self.outcome?)
    }
}

/// Has a task [keep calling](keep_calling) for longer than its stall timeout, which `submit` is given. The task may
/// stall only if it was silent, or if other threads, of its process or of this one, had to wait because the machine is
/// busy: they pass its calls on.
pub(crate) fn never_stalls(submit: impl Fn((Duration, PathBuf), Duration) -> ProgressFuture<()>) {
    with_time_enough(Duration::from_millis(300), |limit| {
        let file = NewFile::new();
        let (outcome, here) = longest_wait_during(|| submit((2 * limit, file.path()), limit).wait());
        let Err(error) = outcome else { return Some(()) };
        assert!(error.is_stalled(), "{error:?}");
        let told = || serde_json::from_slice::<(Duration, Duration)>(&std::fs::read(file.path()).ok()?).ok();
        eventually("its function has ended", || told().is_some());
        let (longest, there) = told().unwrap();
        assert!(
            longest >= limit / 2 || here.max(there) >= limit / 8,
            "it was never silent for longer than {longest:?}, and others waited for {here:?} here and {there:?} where it \
             ran at most: {error:?}"
        );
        None
    });
}

fn on_three_threads(progress: &Updater, work: fn(u64, &SharedUpdater) -> TaskResult<()>, n: u64) -> TaskResult<()> {
    let shared = progress.shared();
    std::thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(|| work(n, &shared)));
        // The thread that polls an inline task shows its updates.
        while threads.iter().any(|thread| !thread.is_finished()) && progress.update(0).is_ok() {
            std::thread::yield_now();
        }
        threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    })
}

pub(crate) fn count_in_threads(n: u64, progress: &Updater) -> TaskResult<()> {
    progress.set_total(4 * n);
    on_three_threads(progress, |n, shared| Ok((0..n).try_for_each(|_| shared.update(1))?), n)?;
    Ok(progress.update(n)?)
}

pub(crate) fn count_in_threads_for_ever((): (), progress: &Updater) -> TaskResult<()> {
    let tick = |_, shared: &SharedUpdater| {
        loop {
            shared.update(1)?;
            shared.sleep(Duration::from_micros(100))?;
        }
    };
    on_three_threads(progress, tick, 0)
}

pub(crate) fn time_left((): (), progress: &Updater) -> TaskResult<Option<Duration>> {
    Ok(progress.deadline().map(|deadline| deadline - Instant::now()))
}

pub(crate) fn finish_too_late((): (), progress: &Updater) -> TaskResult<u64> {
    progress.set_counts(1, 2)?;
    while progress.check().is_ok() {
        let _ = progress.sleep(Duration::from_micros(100));
    }
    progress.set_message("too late");
    let _ = progress.set_counts(2, 2);
    Ok(42)
}

/// Ignores its cancellation, and ends when twice its timeout has passed.
pub(crate) fn overrun((): (), progress: &Updater) -> TaskResult<u64> {
    let deadline = progress.deadline().ok_or("it has no deadline")?;
    let end = deadline + deadline.saturating_duration_since(Instant::now());
    while Instant::now() < end {
        let _ = progress.update(1);
        std::thread::yield_now();
    }
    Ok(42)
}

pub(crate) fn refuse_seven(n: u64, progress: &Updater) -> TaskResult<u64> {
    if n == 7 {
        return Err("not seven".into());
    }
    count(n, progress)
}

/// Requests cancellation once the task has come to `n`, from where its future is polled.
fn cancel_at<T>(n: u64, task: ProgressFuture<T>) -> ProgressFuture<T> {
    let canceller = task.canceller();
    task.on_progress(move |_, new| {
        if new.n >= n {
            canceller.cancel();
        }
    })
}

/// Everything left in a receiver after the task has ended.
fn rest(updates: &Receiver<ProgressState>) -> Vec<ProgressState> {
    smol::block_on(updates.clone().collect())
}

// The tests.

fn a_task_ends_with_its_value(subject: &dyn Subject) {
    let task = subject.executor().submit(echo, "value".to_string());
    assert_eq!(task.wait().unwrap(), "value");
}

fn a_task_ends_with_its_error(subject: &dyn Subject) {
    let error = subject.executor().submit(fail, "out of paper".into()).wait().unwrap_err();
    assert_eq!(error.kind(), &TaskErrorKind::Failed);
    assert!(error.is_failed() && !error.is_cancelled() && !error.is_panic() && !error.is_rejected());
    assert_eq!(error.source().unwrap().to_string(), "out of paper");
    assert_eq!((error.progress().n, error.progress().total), (1, Some(4)));
    assert_eq!(error.progress().status, Status::Failed);
}

fn a_task_ends_with_its_panic(subject: &dyn Subject) {
    let error = subject.executor().submit(crash, "out of ink".into()).wait().unwrap_err();
    assert_eq!(error.kind(), &TaskErrorKind::Panicked);
    assert_eq!(error.to_string(), format!("task `crash #{}` panicked at 50 %: out of ink", error.id()));
    assert_eq!(error.progress().fraction(), Some(0.5));
    let payload = error.into_panic().unwrap();
    assert_eq!(payload.downcast_ref::<String>().unwrap(), "out of ink");
    // No other task is harmed.
    assert_eq!(subject.executor().submit(count, 3).wait().unwrap(), 3);
}

fn large_values_pass(subject: &dyn Subject) {
    let text = "x".repeat(1 << 20);
    assert_eq!(subject.executor().submit(echo, text.clone()).wait().unwrap(), text);
}

fn many_tasks_each_end_once(subject: &dyn Subject) {
    let tasks: Vec<_> = (0..200).map(|n| subject.executor().submit(count, n)).collect();
    let values = smol::block_on(futures::future::try_join_all(tasks)).unwrap();
    assert_eq!(values, (0..200).collect::<Vec<_>>());
}

fn a_task_has_an_id_and_a_name(subject: &dyn Subject) {
    let executor = subject.executor();
    let (plain, named) = (executor.submit(count, 1), executor.task(count, 1).name("first").submit());
    assert_ne!(plain.id(), named.id());
    assert_eq!((plain.name(), named.name()), (&*format!("count #{}", plain.id()), "first"));
    plain.wait().unwrap();
    named.wait().unwrap();
}

fn a_task_knows_its_id(subject: &dyn Subject) {
    for _ in 0..2 {
        let task = subject.executor().submit(who_it_is, ());
        let id = task.id().to_string();
        assert_eq!(task.wait().unwrap(), id);
    }
}

fn an_error_names_the_task_and_the_place(subject: &dyn Subject) {
    let task = subject.executor().task(fail, "out of paper".into()).name("print").submit();
    let id = task.id();
    let error = task.wait().unwrap_err();
    assert_eq!(error.to_string(), "task `print` (fail) failed at 25 %");
    assert_eq!((error.id(), error.name()), (id, "print"));
}

fn a_finished_task_shows_its_last_counts(subject: &dyn Subject) {
    let task = subject.executor().submit(count, 7);
    let updates = task.updates();
    task.wait().unwrap();
    let last = rest(&updates).pop().unwrap();
    assert_eq!((last.n, last.total, last.status), (7, Some(7), Status::Finished));
    assert!(last.elapsed > Duration::ZERO);
}

fn a_message_is_shown(subject: &dyn Subject) {
    let task = subject.executor().submit(set_a_message, "halfway".to_string());
    let updates = task.updates();
    task.wait().unwrap();
    assert_eq!(rest(&updates).pop().unwrap().message.as_deref(), Some("halfway"));
}

fn a_split_part_is_shown_finer_than_its_units(subject: &dyn Subject) {
    let task = subject.executor().submit(sleep_within_a_part, ());
    let (canceller, (send, within)) = (task.canceller(), channel());
    let task = task.on_progress(move |_, new| {
        if new.part > 0.0 {
            send.send((new.n, new.part, new.fraction())).unwrap();
            canceller.cancel();
        }
    });
    let error = task.wait().unwrap_err();
    assert_eq!(within.recv().unwrap(), (1, 0.25, Some(1.25 / 4.0)));
    // The part was dropped, which completes it.
    assert_eq!((error.progress().n, error.progress().part), (3, 0.0));
}

fn an_error_within_a_part_shows_how_far_that_has_come(subject: &dyn Subject) {
    let task = subject.executor().submit(fail_within_a_part, ());
    let updates = task.updates();
    let error = task.wait().unwrap_err();
    assert_eq!((error.progress().n, error.progress().part), (1, 0.5));
    assert_eq!(error.to_string(), format!("task `fail_within_a_part #{}` failed at 37 %", error.id()));
    assert_eq!(rest(&updates).pop().unwrap().fraction(), Some(1.5 / 4.0));
}

fn parts_complete_in_their_parent(subject: &dyn Subject) {
    let task = subject.executor().submit(count_in_parts, 40);
    let updates = task.updates();
    let reader = std::thread::spawn(move || rest(&updates));
    task.wait().unwrap();
    let states = reader.join().unwrap();
    let fractions: Vec<_> = states.iter().filter_map(ProgressState::fraction).collect();
    assert!(fractions.windows(2).all(|pair| pair[0] <= pair[1]), "goes back: {fractions:?}");
    let last = states.last().unwrap();
    assert_eq!((last.n, last.total, last.part), (40, Some(40), 0.0));
}

fn threads_of_a_task_count_together(subject: &dyn Subject) {
    let task = subject.executor().submit(count_in_threads, 10_000);
    let updates = task.updates();
    let reader = std::thread::spawn(move || rest(&updates));
    task.wait().unwrap();
    let states = reader.join().unwrap();
    assert!(states.windows(2).all(|pair| pair[0].n <= pair[1].n), "goes back: {states:?}");
    let last = states.last().unwrap();
    assert_eq!((last.n, last.fraction(), last.status), (40_000, Some(1.0), Status::Finished));
}

fn threads_of_a_task_are_cancelled_together(subject: &dyn Subject) {
    let task = cancel_at(5, subject.executor().submit(count_in_threads_for_ever, ()));
    let canceller = task.canceller();
    let error = task.wait().unwrap_err();
    assert!(error.is_cancelled() && error.progress().n >= 5, "{error:?}");
    assert!(canceller.is_acknowledged());
}

fn elapsed_stands_still_after_the_end(subject: &dyn Subject) {
    let mut task = subject.executor().submit(count, 7);
    smol::block_on(&mut task).unwrap();
    let last = task.progress();
    assert!(last.elapsed > Duration::ZERO);
    assert_eq!(task.progress(), last);
}

fn updates_start_with_the_current_state(subject: &dyn Subject) {
    let task = subject.executor().submit(count_forever, ());
    task.pause();
    let first = task.updates().try_recv().unwrap();
    assert!(!first.status.is_terminal());
    task.cancel();
    assert!(task.wait().unwrap_err().is_cancelled());
}

fn updates_come_in_order_and_end_with_the_last_state(subject: &dyn Subject) {
    let task = subject.executor().submit(count, 200_000);
    let updates = task.updates();
    let reader = std::thread::spawn(move || rest(&updates));
    task.wait().unwrap();
    let states = reader.join().unwrap();
    for pair in states.windows(2) {
        let news = (pair[0].n, pair[0].total, pair[0].status) != (pair[1].n, pair[1].total, pair[1].status);
        assert!(news, "says nothing new: {pair:?}");
        assert!(pair[0].n <= pair[1].n && pair[0].elapsed <= pair[1].elapsed, "goes back: {pair:?}");
    }
    let (last, others) = states.split_last().unwrap();
    assert_eq!((last.n, last.status), (200_000, Status::Finished));
    assert!(others.iter().all(|state| !state.status.is_terminal()));
}

fn updates_after_the_end_are_the_last_state(subject: &dyn Subject) {
    let mut task = subject.executor().submit(count, 3);
    smol::block_on(&mut task).unwrap();
    let states = rest(&task.updates());
    assert_eq!(states.len(), 1);
    assert_eq!((states[0].n, states[0].status), (3, Status::Finished));
}

fn every_receiver_has_the_last_state_when_the_future_resolves(subject: &dyn Subject) {
    for n in 1..50 {
        let task = subject.executor().submit(count, n);
        let receivers = [task.updates(), task.updates(), task.updates()];
        smol::block_on(task).unwrap();
        for updates in receivers {
            let last = updates.try_recv().unwrap();
            assert_eq!((last.n, last.status), (n, Status::Finished));
            assert!(updates.is_closed());
        }
    }
}

fn counts_and_total_are_never_torn(subject: &dyn Subject) {
    let task = subject.executor().submit(set_pairs, 100_000);
    let updates = task.updates();
    let reader = std::thread::spawn(move || rest(&updates));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    task.on_progress(move |_, new| sink.lock().unwrap().push(new.clone())).wait().unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    for state in reader.join().unwrap().iter().chain(&seen) {
        if let Some(total) = state.total {
            assert_eq!(total, 2 * state.n, "{state:?}");
        }
    }
}

fn callbacks_chain(subject: &dyn Subject) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let task = subject.executor().submit(count, 100_000);
    task.on_progress(move |old, new| sink.lock().unwrap().push((old.clone(), new.clone()))).wait().unwrap();
    let seen = seen.lock().unwrap();
    for pair in seen.windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "each old is the new before it");
    }
    let last = &seen.last().unwrap().1;
    assert_eq!((last.n, last.status), (100_000, Status::Finished));
}

fn a_removed_callback_is_not_called(subject: &dyn Subject) {
    let calls = Arc::new(Mutex::new(0));
    let (mut task, counter) = (subject.executor().submit(count, 10), calls.clone());
    task.pause();
    let id = task.add_progress_callback(|_, _| panic!("was removed"));
    task.add_progress_callback(move |_, _| *counter.lock().unwrap() += 1);
    assert!(task.remove_progress_callback(id));
    assert!(!task.remove_progress_callback(id));
    task.resume();
    task.wait().unwrap();
    // After the pause, the task may also have been seen running again.
    assert!(*calls.lock().unwrap() >= 1);
}

fn callbacks_run_where_the_future_is_polled(subject: &dyn Subject) {
    let here = std::thread::current().id();
    let task = subject.executor().submit(count, 50_000);
    task.on_progress(move |_, _| assert_eq!(std::thread::current().id(), here)).wait().unwrap();
}

fn a_bar_follows_the_task_from_its_start_to_its_end(subject: &dyn Subject) {
    let (send, told) = channel();
    subject.executor().submit(count, 50_000).with_bar(Triggers::RUNNING, || Log(send)).wait().unwrap();
    let told: Vec<_> = told.iter().collect();
    let (last, before) = told.split_last().unwrap();
    assert_eq!(last, &("finish", 50_000, Status::Finished));
    assert!(before.iter().all(|(call, _, status)| *call == "update" && !status.is_terminal()), "{before:?}");
    assert!(before.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{before:?}");
}

fn a_bar_for_cancelled_tasks_is_made_for_those_only(subject: &dyn Subject) {
    let (send, told) = channel();
    let (finished, cancelled) = (send.clone(), send);
    let task = subject.executor().submit(count, 10);
    task.with_bar(Triggers::CANCELLED, || Log(finished)).wait().unwrap();
    let task = cancel_at(3, subject.executor().submit(count_forever, ()));
    assert!(task.with_bar(Triggers::CANCELLED, || Log(cancelled)).wait().unwrap_err().is_cancelled());
    let told: Vec<_> = told.iter().filter(|(call, ..)| *call == "finish").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].2, Status::Cancelled);
}

fn events_end_with_the_outcome(subject: &dyn Subject) {
    let events: Vec<_> = smol::block_on(subject.executor().submit(count, 100_000).events().collect());
    let (last, before) = events.split_last().unwrap();
    assert!(matches!(last, TaskEvent::Done(Ok(100_000))), "{last:?}");
    let states: Vec<_> = before
        .iter()
        .map(|event| match event {
            TaskEvent::Progress(state) => state,
            other => panic!("there is one end: {other:?}"),
        })
        .collect();
    assert!(states.windows(2).all(|pair| pair[0].n <= pair[1].n));
    assert_eq!(states.last().unwrap().status, Status::Finished);
}

fn cancelled_before_it_starts(subject: &dyn Subject) {
    let task = subject.executor().submit(count_forever, ());
    task.pause();
    let (updates, canceller) = (task.updates(), task.canceller());
    task.cancel();
    let error = task.wait().unwrap_err();
    assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Requested));
    assert!(canceller.is_cancelled());
    assert_eq!(rest(&updates).pop().unwrap().status, Status::Cancelled);
}

fn cancelled_while_it_runs(subject: &dyn Subject) {
    let task = cancel_at(5, subject.executor().submit(count_forever, ()));
    let (updates, canceller) = (task.updates(), task.canceller());
    let error = task.wait().unwrap_err();
    assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Requested));
    assert!(error.is_cancelled());
    assert!(error.progress().n >= 5);
    assert!(canceller.is_cancelled() && canceller.is_acknowledged());
    assert_eq!(rest(&updates).pop().unwrap().status, Status::Cancelled);
}

fn cancelled_while_it_sleeps(subject: &dyn Subject) {
    let task = cancel_at(1, subject.executor().submit(sleep_for_ever, ()));
    assert!(task.wait().unwrap_err().is_cancelled());
}

fn cancelled_after_its_end(subject: &dyn Subject) {
    let mut task = subject.executor().submit(count, 3);
    let canceller = task.canceller();
    assert_eq!(smol::block_on(&mut task).unwrap(), 3);
    task.cancel();
    canceller.cancel();
    assert!(!canceller.is_cancelled(), "nothing was there to be cancelled");
    assert_eq!(task.progress().status, Status::Finished);
}

fn cancelled_but_finished_all_the_same(subject: &dyn Subject) {
    let task = cancel_at(2, subject.executor().submit(finish_all_the_same, ()));
    let canceller = task.canceller();
    assert_eq!(task.wait().unwrap(), 42);
    assert!(canceller.is_cancelled() && canceller.is_acknowledged());
}

fn cancellation_in_an_io_error_is_cancellation(subject: &dyn Subject) {
    let error = cancel_at(1 << 16, subject.executor().submit(copy_for_ever, ())).wait().unwrap_err();
    assert!(error.is_cancelled(), "{error:?}");
}

fn cancellation_as_a_source_is_cancellation(subject: &dyn Subject) {
    let error = cancel_at(3, subject.executor().submit(wrap_the_cancellation, ())).wait().unwrap_err();
    assert!(error.is_cancelled(), "{error:?}");
    assert_eq!(error.source().unwrap().to_string(), "interrupted");
}

fn cancellation_is_found_in_every_wrapper(subject: &dyn Subject) {
    for way in 0..wrapped::WAYS {
        let error = cancel_at(3, subject.executor().submit(wrap_in, way)).wait().unwrap_err();
        assert!(error.is_cancelled(), "{way}: {error:?}");
    }
}

fn a_part_is_never_taken_for_the_whole(subject: &dyn Subject) {
    for way in 0..partial::WAYS {
        let error = cancel_at(5, subject.executor().submit(take_a_part, way)).wait().unwrap_err();
        assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Requested), "{way}");
        assert_eq!(error.source().unwrap().to_string(), Cancelled.to_string());
        assert!(error.into_partial::<u64>().unwrap() >= 5, "{way}");
    }
    let mut group = TaskGroup::new();
    group.add(cancel_at(5, subject.executor().submit(take_a_part, 3)));
    let updates = group.updates();
    assert!(group.join().wait().unwrap_err().into_partial::<u64>().unwrap() >= 5);
    let last = smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap();
    assert_eq!((last.cancelled, last.finished), (1, 0));
}

fn errors_and_payloads_that_panic_are_outcomes_like_others(subject: &dyn Subject) {
    let error = subject.executor().submit(explode, false).wait().unwrap_err();
    assert!(error.is_failed());
    // The error may hold something that panics when it is dropped.
    mem::forget(error);
    let error = subject.executor().submit(explode, true).wait().unwrap_err();
    assert!(error.is_panic());
    mem::forget(error);
    assert_eq!(subject.executor().submit(count, 3).wait().unwrap(), 3);
}

fn cancelled_without_a_request_is_failure(subject: &dyn Subject) {
    assert!(subject.executor().submit(say_cancelled, ()).wait().unwrap_err().is_failed());
}

fn another_error_after_cancellation_is_failure(subject: &dyn Subject) {
    let error = cancel_at(3, subject.executor().submit(fail_when_cancelled, ())).wait().unwrap_err();
    assert!(error.is_failed());
    assert_eq!(error.source().unwrap().to_string(), "the brake has failed");
}

fn dropping_the_future_cancels(subject: &dyn Subject) {
    let task = subject.executor().submit(count_forever, ());
    let (updates, canceller) = (task.updates(), task.canceller());
    drop(task);
    assert!(canceller.is_cancelled());
    assert_eq!(rest(&updates).pop().unwrap().status, Status::Cancelled);
}

fn a_detached_task_runs_on(subject: &dyn Subject) {
    let task = subject.executor().submit(count, 1000);
    let updates = task.updates();
    task.detach();
    let last = rest(&updates).pop().unwrap();
    assert_eq!((last.n, last.status), (1000, Status::Finished));
}

fn a_paused_task_goes_on_when_it_is_resumed(subject: &dyn Subject) {
    let mut task = subject.executor().submit(count, 1000);
    task.pause();
    // The task may have ended before.
    eventually("the task waits", || matches!(task.progress().status, Status::Paused | Status::Finished));
    task.resume();
    assert_eq!(smol::block_on(&mut task).unwrap(), 1000);
}

fn a_paused_task_can_be_cancelled(subject: &dyn Subject) {
    let task = subject.executor().submit(count_forever, ());
    task.pause();
    eventually("the task waits", || task.progress().status == Status::Paused);
    task.cancel();
    assert!(smol::block_on(task).unwrap_err().is_cancelled());
}

fn a_future_is_fused(subject: &dyn Subject) {
    let mut task = subject.executor().submit(count, 3);
    assert!(!task.is_terminated());
    smol::block_on(&mut task).unwrap();
    assert!(task.is_terminated() && task.is_done());
    assert!((&mut task).now_or_never().is_none());
}

fn a_canceller_outlives_everything(subject: &dyn Subject) {
    let task = subject.executor().submit(count, 3);
    let cancellers = vec![task.canceller(); 1000];
    task.wait().unwrap();
    for canceller in cancellers {
        canceller.cancel();
        assert!(!canceller.is_cancelled());
    }
}

fn a_task_that_takes_too_long_times_out(subject: &dyn Subject) {
    const LIMIT: Duration = Duration::from_millis(30);
    let mut task = subject.executor().task(count_forever, ()).timeout(LIMIT).submit();
    let updates = task.updates();
    let error = smol::block_on(&mut task).unwrap_err();
    assert_eq!(error.kind(), &TaskErrorKind::TimedOut);
    assert!(error.is_timed_out() && !error.is_stalled() && !error.is_cancelled() && !error.is_failed());
    assert!(error.source().is_none());
    assert_eq!(error.progress().status, Status::Failed);
    assert!(error.progress().elapsed >= LIMIT);
    assert!(error.to_string().starts_with(&format!("task `count_forever #{}` timed out", error.id())), "{error}");
    assert_eq!(&task.progress(), error.progress());
    assert_eq!(&rest(&updates).pop().unwrap(), error.progress());
}

fn a_task_that_falls_silent_stalls(subject: &dyn Subject) {
    const LIMIT: Duration = Duration::from_millis(30);
    let error = subject.executor().task(sleep_for_ever, ()).stall_timeout(LIMIT).submit().wait().unwrap_err();
    assert_eq!(error.kind(), &TaskErrorKind::Stalled);
    assert!(error.is_stalled() && !error.is_timed_out() && !error.is_cancelled() && !error.is_failed());
    assert_eq!(error.progress().status, Status::Failed);
    let silence = error.silent_for().unwrap();
    assert!(silence >= LIMIT && error.progress().elapsed >= LIMIT, "{error:?}");
    let message = error.to_string();
    assert!(message.starts_with(&format!("task `sleep_for_ever #{}` stalled", error.id())), "{message}");
    // In milliseconds, unless the machine is busy.
    let is_told = message.contains(", without a progress call for ") && !message.contains("call for 0");
    assert!(is_told, "{message}");
}

fn a_task_that_keeps_making_calls_does_not_stall(subject: &dyn Subject) {
    never_stalls(|input, limit| subject.executor().task(check_for, input).stall_timeout(limit).submit());
}

fn a_task_within_its_limits_keeps_its_value(subject: &dyn Subject) {
    for limit in [Duration::from_secs(3600), Duration::from_nanos(u64::MAX), Duration::MAX] {
        let task = subject.executor().task(count, 1000).timeout(limit).stall_timeout(limit).retries(u32::MAX);
        assert_eq!(task.submit().wait().unwrap(), 1000);
        let task = subject.executor().task(fail, "out of paper".into()).timeout(limit).retries(u32::MAX);
        assert!(task.submit().wait().unwrap_err().is_failed());
    }
}

fn a_limit_of_zero_leaves_no_time_to_run(subject: &dyn Subject) {
    let log = NewFile::new();
    let task = || subject.executor().task(append, (log.path(), "it has run".into()));
    let error = task().timeout(Duration::ZERO).submit().now_or_never().unwrap().unwrap_err();
    assert!(error.is_timed_out());
    assert_eq!(error.to_string(), format!("task `append #{}` timed out before it started", error.id()));
    assert_eq!(error.source().unwrap().to_string(), "the limit leaves no time at all");
    let error = task().stall_timeout(Duration::ZERO).submit().now_or_never().unwrap().unwrap_err();
    assert!(error.is_stalled());
    assert_eq!(error.to_string(), format!("task `append #{}` stalled before it started", error.id()));
    assert_eq!((error.progress().elapsed, error.silent_for()), (Duration::ZERO, None));
    if let Some(shutdown) = subject.shutdown() {
        shutdown.wait();
    }
    assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "");
}

fn a_deadline_is_known_to_the_task(subject: &dyn Subject) {
    const LIMIT: Duration = Duration::from_secs(3600);
    let executor = subject.executor();
    assert_eq!(executor.submit(time_left, ()).wait().unwrap(), None);
    assert_eq!(executor.task(time_left, ()).stall_timeout(LIMIT).submit().wait().unwrap(), None);
    assert_eq!(executor.task(time_left, ()).timeout(Duration::MAX).submit().wait().unwrap(), None);
    let left = executor.task(time_left, ()).timeout(LIMIT).submit().wait().unwrap().unwrap();
    assert!(left <= LIMIT && left > LIMIT - Duration::from_secs(60), "{left:?}");
}

fn what_a_task_does_after_its_time_out_changes_nothing(subject: &dyn Subject) {
    let mut task = subject.executor().task(finish_too_late, ()).timeout(Duration::from_millis(50)).submit();
    let (updates, canceller) = (task.updates(), task.canceller());
    let error = smol::block_on(&mut task).unwrap_err();
    assert!(error.is_timed_out());
    assert!(error.progress().n <= 1 && error.progress().message.is_none());
    eventually("the task has noticed", || canceller.is_acknowledged());
    if let Some(shutdown) = subject.shutdown() {
        shutdown.wait();
    }
    assert_eq!(&task.progress(), error.progress());
    assert_eq!(&rest(&updates).pop().unwrap(), error.progress());
    assert_eq!(&rest(&task.updates()).pop().unwrap(), error.progress());
}

fn a_detached_task_times_out(subject: &dyn Subject) {
    let task = subject.executor().task(count_forever, ()).timeout(Duration::from_millis(20)).submit();
    let updates = task.updates();
    task.detach();
    assert_eq!(rest(&updates).pop().unwrap().status, Status::Failed);
}

fn cancelled_but_deaf_a_task_times_out(subject: &dyn Subject) {
    with_time_enough(Duration::from_millis(300), |limit| {
        let task = subject.executor().task(overrun, ()).timeout(limit).submit();
        let (updates, canceller) = (task.updates(), task.canceller());
        // If its timeout was noticed too late, the task has returned.
        let error = cancel_at(3, task).wait().err()?;
        assert!(error.is_timed_out(), "{error:?}");
        assert_eq!(&rest(&updates).pop().unwrap(), error.progress());
        error.noticed_after()?;
        assert!(canceller.is_acknowledged());
        Some(())
    });
}

fn a_task_that_is_not_running_is_not_silent(subject: &dyn Subject) {
    let mut task = subject.executor().submit(count, 3);
    task.pause();
    let waits = || task.is_done() || task.progress().status == Status::Paused;
    // In a worker, the task may still be about to start, and waits then.
    eventually("the task waits", || waits() && matches!(task.silent_for(), None | Some(Duration::ZERO)));
    task.resume();
    smol::block_on(&mut task).unwrap();
    assert_eq!((task.silent_for(), task.noticed_after()), (None, None));
}

fn how_long_it_takes_to_notice_is_known(subject: &dyn Subject) {
    let start = Instant::now();
    let mut task = cancel_at(5, subject.executor().submit(count_forever, ()));
    assert_eq!(task.noticed_after(), None);
    let error = smol::block_on(&mut task).unwrap_err();
    assert!(error.noticed_after().unwrap() <= start.elapsed());
    assert_eq!(error.noticed_after(), task.noticed_after());

    let task = subject.executor().submit(count_forever, ());
    task.pause();
    task.cancel();
    let error = task.wait().unwrap_err();
    let has_run = error.progress().elapsed > Duration::ZERO;
    assert!(has_run || error.noticed_after().is_none(), "{error:?}");
}

fn joined_tasks_end_with_the_first_failure(subject: &dyn Subject) {
    let executor = subject.executor();
    let mut group = TaskGroup::new();
    group.add(executor.submit(fail, "out of paper".into()));
    let endless: Vec<_> = (0..4).map(|_| executor.submit(count_forever, ())).collect();
    let updates: Vec<_> = endless.iter().map(ProgressFuture::updates).collect();
    group.extend(endless);
    let error = group.join().wait().unwrap_err();
    assert_eq!((error.kind(), error.others()), (&TaskErrorKind::Failed, 0));
    assert_eq!(error.to_string(), format!("task `fail #{}` failed at 25 %", error.id()));
    for updates in updates {
        assert!(updates.is_closed(), "the task has ended");
        assert_eq!(rest(&updates).pop().unwrap().status, Status::Cancelled);
    }
}

fn a_group_ends_with_all_outcomes_and_complete_progress(subject: &dyn Subject) {
    let mut group: TaskGroup<_> = (1..=20).map(|n| subject.executor().submit(count, n)).collect();
    let updates = group.updates();
    let mut values: Vec<_> = smol::block_on(group.by_ref().map(|(_, outcome)| outcome.unwrap()).collect());
    values.sort();
    assert_eq!(values, (1..=20).collect::<Vec<_>>());
    let last = group.progress();
    assert_eq!((last.n, last.total, last.finished, last.tasks()), (210, Some(210), 20, 20));
    assert_eq!(last.fraction(), Some(1.0));
    assert!(last.elapsed > Duration::ZERO);
    drop(group);
    assert_eq!(smol::block_on(updates.collect::<Vec<_>>()).pop(), Some(last));
}

fn dropping_a_group_cancels_its_tasks(subject: &dyn Subject) {
    let group: TaskGroup<_> = (0..5).map(|_| subject.executor().submit(count_forever, ())).collect();
    let updates = group.updates();
    drop(group);
    let last = smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap();
    assert_eq!((last.cancelled, last.tasks()), (5, 5));
}

fn a_handle_cancels_a_group_that_is_joined(subject: &dyn Subject) {
    let mut group = TaskGroup::new();
    let handle = group.handle();
    group.extend((0..5).map(|_| subject.executor().submit(count_forever, ())));
    let canceller = handle.clone();
    let group = group.on_progress(move |_, new| {
        if new.n > 0 {
            canceller.cancel();
        }
    });
    assert!(group.join_all().wait().into_iter().all(|outcome| outcome.unwrap_err().is_cancelled()));
    assert_eq!(handle.progress().cancelled, 5);
}

fn events_of_a_group_show_the_last_state_before_the_last_outcome(subject: &dyn Subject) {
    let group: TaskGroup<_> = (0..5).map(|n| subject.executor().submit(count, n)).collect();
    let mut events: Vec<_> = smol::block_on(group.events().collect());
    assert!(matches!(events.pop(), Some(GroupEvent::Ended(_, Ok(_)))));
    let mut states =
        events.iter().filter_map(|event| if let GroupEvent::Progress(state) = event { Some(state) } else { None });
    assert_eq!(states.next_back().map(|last| (last.finished, last.n)), Some((5, 10)));
    assert_eq!(events.iter().filter(|event| matches!(event, GroupEvent::Ended(..))).count(), 4);
}

fn callbacks_of_a_group_are_shown_the_last_state(subject: &dyn Subject) {
    let last = Arc::new(Mutex::new(GroupProgress::default()));
    let sink = last.clone();
    let group: TaskGroup<_> = (0..5).map(|n| subject.executor().submit(count, n)).collect();
    group.on_progress(move |_, new| *sink.lock().unwrap() = new.clone()).join().wait().unwrap();
    let last = last.lock().unwrap();
    assert_eq!((last.finished, last.n), (5, 10));
}

fn a_report_tells_when_where_and_how_each_task_has_run(subject: &dyn Subject) {
    let executor = subject.executor();
    let mut group = TaskGroup::new();
    let handle = group.handle();
    for n in 0..8 {
        group.add(executor.task(count, n).name(format!("count {n}")).submit());
    }
    group.add(executor.submit(count_and_fail, 3));
    smol::block_on(group.join_all());
    let report = handle.report();
    assert!(report.to_string().starts_with("9 ended: 8 finished, 1 failed; "), "{report}");
    for (n, task) in report.tasks().iter().enumerate() {
        let (started, ended) = (task.started.unwrap(), task.ended.unwrap());
        assert!(task.submitted <= started && started < ended && ended <= report.elapsed(), "{task:?}");
        assert!(task.elapsed <= ended - started && task.worker.is_some() && task.tries == 1, "{task:?}");
        if let Some(name) = (n < 8).then(|| format!("count {n}")) {
            assert_eq!((&task.name, task.function, task.n), (&name, "count", n as u64));
            assert_eq!((task.status, &task.error), (Status::Finished, &None));
        } else {
            assert_eq!((&*task.name, task.n), (&*format!("count_and_fail #{}", task.id), 3));
            assert_eq!((task.status, &task.error), (Status::Failed, &Some(TaskErrorKind::Failed)));
        }
    }
}

fn a_map_keeps_the_order_of_its_inputs(subject: &dyn Subject) {
    let values: Vec<_> = smol::block_on(subject.executor().map(count, (0..50).rev()).try_collect()).unwrap();
    assert_eq!(values, (0..50).rev().collect::<Vec<_>>());
}

fn an_unordered_map_ends_with_the_first_error(subject: &dyn Subject) {
    let values = subject.executor().map(refuse_seven, 0..).unordered().try_collect::<Vec<_>>();
    let error = smol::block_on(values).unwrap_err();
    assert!(error.is_failed());
    assert_eq!(error.source().unwrap().to_string(), "not seven");
}

fn a_map_counts_inputs(subject: &dyn Subject) {
    let map = subject.executor().map(count, [100, 1, 10, 1000]);
    assert_eq!((map.progress().n, map.progress().total), (0, Some(4)));
    let (handle, updates) = (map.handle(), map.updates());
    assert_eq!(smol::block_on(map.try_collect::<Vec<_>>()).unwrap(), [100, 1, 10, 1000]);
    let last = smol::block_on(updates.collect::<Vec<_>>()).pop().unwrap();
    assert_eq!((last.n, last.total, last.fraction(), last.finished), (4, Some(4), Some(1.0), 4));
    assert_eq!(handle.progress().finished, 4);
}

fn a_map_names_and_limits_its_tasks(subject: &dyn Subject) {
    let map = subject.executor().map(sleep_for_ever, [(), ()]).named(|index, ()| format!("nap {index}"));
    let outcomes: Vec<_> = smol::block_on(map.timeout(Duration::from_millis(20)).collect());
    let errors: Vec<_> = outcomes.into_iter().map(Result::unwrap_err).collect();
    assert!(errors.iter().all(|error| error.is_timed_out()), "{errors:?}");
    assert_eq!(errors.iter().map(|error| error.name()).collect::<Vec<_>>(), ["nap 0", "nap 1"]);
}

fn a_handle_ends_a_map_without_end(subject: &dyn Subject) {
    let mut map = subject.executor().map(count, 0..);
    let handle = map.handle();
    assert_eq!(smol::block_on(map.next()).unwrap().unwrap(), 0);
    assert_eq!(map.progress().fraction(), None);
    handle.cancel();
    let rest: Vec<_> = smol::block_on(map.collect());
    assert!(rest.iter().all(|outcome| outcome.as_ref().err().is_none_or(|error| error.is_cancelled())), "{rest:?}");
    let last = handle.progress();
    assert_eq!((last.n, last.total), (1 + rest.len() as u64, Some(1 + rest.len() as u64)));
}

fn a_map_is_an_ordinary_iterator(subject: &dyn Subject) {
    let mut map = subject.executor().map(count, 0..5).blocking();
    assert_eq!(map.next().unwrap().unwrap(), 0);
    assert_eq!(map.map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

fn a_task_that_waits_for_its_turn_ends_at_its_deadline(subject: &dyn Subject) {
    let executor = subject.executor();
    // One busy task for each worker, and more late ones than a worker is sent ahead.
    let busy: Vec<_> = (0..executor.max_workers()).map(|_| executor.submit(count_forever, ())).collect();
    let file = NewFile::new();
    let late: Vec<_> = (0..8)
        .map(|_| executor.task(append, (file.path(), "late".into())).deadline(Duration::from_millis(20)).submit())
        .collect();
    if subject.has_queue() {
        for late in late {
            // Polling a late task would run it on an executor that runs tasks inside of the poll.
            eventually("its deadline passes", || late.is_done());
            let error = late.wait().unwrap_err();
            assert!(error.is_timed_out() && error.progress().elapsed.is_zero(), "{error:?}");
        }
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "");
    }
    drop(busy);
}

fn a_paused_task_ends_at_its_deadline(subject: &dyn Subject) {
    let mut task = subject.executor().task(count_forever, ()).deadline(Duration::from_millis(20)).submit();
    task.pause();
    let error = smol::block_on(&mut task).unwrap_err();
    assert!(error.is_timed_out(), "{error:?}");
}

fn a_running_task_ends_at_its_deadline(subject: &dyn Subject) {
    let task = subject.executor().task(count_forever, ()).deadline(Duration::from_millis(200)).submit();
    let error = task.wait().unwrap_err();
    assert!(error.is_timed_out(), "{error:?}");
}

fn a_task_within_its_deadline_keeps_its_value(subject: &dyn Subject) {
    for deadline in [Duration::from_secs(3600), Duration::MAX] {
        assert_eq!(subject.executor().task(count, 100).deadline(deadline).submit().wait().unwrap(), 100);
    }
    let error = subject.executor().task(count, 100).deadline(Duration::ZERO).submit().wait().unwrap_err();
    assert!(error.is_timed_out(), "{error:?}");
}

fn waiting_for_some_time_leaves_the_task_alone(subject: &dyn Subject) {
    let mut task = subject.executor().submit(count_forever, ());
    // Otherwise a task that runs inside of the poll would never end.
    task.pause();
    assert!(task.wait_timeout(Duration::from_millis(10)).is_none());
    assert!(task.wait_timeout(Duration::ZERO).is_none());
    task.cancel();
    assert!(task.wait_timeout(Duration::MAX).unwrap().unwrap_err().is_cancelled());
    let mut task = subject.executor().submit(count, 1000);
    assert_eq!(task.wait_timeout(Duration::MAX).unwrap().unwrap(), 1000);
    // There is only one outcome.
    let taken = task.wait_timeout(Duration::MAX).unwrap().unwrap_err();
    assert!(taken.is_taken() && taken.progress().status == Status::Finished, "{taken:#?}");
    assert!(task.wait().unwrap_err().is_taken());
}

fn shutdown_waits_for_the_accepted_tasks(subject: &dyn Subject) {
    let executor = subject.executor();
    let tasks: Vec<_> = (0..20).map(|_| executor.submit(count, 1000)).collect();
    let Some(shutdown) = subject.shutdown() else { return };
    let refused = executor.submit(count, 1);
    shutdown.wait();
    assert!(tasks.iter().all(ProgressFuture::is_done));
    assert_eq!(smol::block_on(futures::future::try_join_all(tasks)).unwrap().len(), 20);
    let error = refused.wait().unwrap_err();
    assert_eq!(error.kind(), &TaskErrorKind::Rejected);
    assert_eq!(error.to_string(), format!("task `count #{}` was not run", error.id()));
    assert_eq!(error.source().unwrap().to_string(), "its executor had been shut down");
}

fn shutdown_now_cancels_the_accepted_tasks(subject: &dyn Subject) {
    let tasks: Vec<_> = (0..20).map(|_| subject.executor().submit(count_forever, ())).collect();
    let Some(shutdown) = subject.shutdown_now() else {
        return;
    };
    smol::block_on(shutdown);
    for task in tasks {
        assert!(task.is_done());
        let error = task.wait().unwrap_err();
        assert_eq!(error.kind(), &TaskErrorKind::Cancelled(CancelCause::Shutdown));
    }
}

/// Readers and writers count what passes through them, whatever the executor.
#[test]
fn readers_and_writers_count_bytes() {
    let executor = SyncExecutor::new();
    let mut task = executor.spawn(|progress| {
        let mut bytes = Vec::new();
        progress.reader(&b"twelve bytes"[..]).read_to_end(&mut bytes)?;
        progress.writer(io::sink()).write_all(&bytes)?;
        let lines = io::BufRead::lines(progress.reader(&b"one\ntwo\n"[..]));
        Ok(lines.collect::<Result<Vec<_>, _>>()?.len())
    });
    assert_eq!(smol::block_on(&mut task).unwrap(), 2);
    assert_eq!(task.progress().n, 12 + 12 + 8);
}
