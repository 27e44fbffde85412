//! Tasks that are paused, resumed and suspended at random moments: in the end, all observers see the same, and a paused
//! task waits.
//!
//! Repeatable as far as the machine is, and of any length: `TEST_SEED=7 TEST_ROUNDS=10000 cargo test --test pauses`.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use progress_executor::{
    Executor, ExecutorExt, GroupHandle, GroupProgress, ProcessPoolBuilder, ProcessPoolExecutor, ProgressFuture,
    ProgressState, Status, TaskGroup, TaskResult, ThreadPoolExecutor, Updater,
};

use crate::support::{eventually, within_deadline};

progress_executor::test_worker!(go_on, count_briefly);

/// How long it may take until everything is as requested.
const PATIENCE: Duration = Duration::from_secs(20);

fn go_on((): (), progress: &Updater) -> TaskResult<()> {
    loop {
        progress.update(1)?;
        thread::sleep(Duration::from_micros(300));
    }
}

fn count_briefly(pause: Duration, progress: &Updater) -> TaskResult<u64> {
    progress.update(1)?;
    thread::sleep(pause);
    progress.update(1)?;
    Ok(2)
}

/// A pseudorandom number generator.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(asked("TEST_SEED").unwrap_or(1))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// Mostly no time at all, and never much more than a report interval.
    fn let_time_pass(&mut self) {
        let most = self.one_of(&[0, 0, 50, 300, 1_500, 4_000, 25_000]);
        if most > 0 {
            thread::sleep(Duration::from_micros(self.below(most)));
        }
    }
}

/// The value of an environment variable, if it is set.
fn asked(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Pause,
    Resume,
    Suspend,
    ResumePool,
    Look,
}

const ACTS: [Act; 7] = [Act::Pause, Act::Pause, Act::Resume, Act::Resume, Act::Suspend, Act::ResumePool, Act::Look];

type Build = fn(ProcessPoolBuilder) -> ProcessPoolBuilder;

/// Pools with memory that workers share with the program, without it, and as on other machines.
const BUILDS: [Build; 3] =
    [|builder| builder, ProcessPoolBuilder::without_shared_memory, |builder| builder.launcher("env".parse().unwrap())];

fn pool(build: Build, workers: usize) -> ProcessPoolExecutor {
    build(ProcessPoolExecutor::builder().max_workers(workers)).build().unwrap()
}

/// All observers of a group of two tasks.
struct Observers {
    handle: GroupHandle,
    tasks: [Receiver<ProgressState>; 2],
    group: Receiver<GroupProgress>,
    callback: Arc<Mutex<GroupProgress>>,
    last: ([Status; 2], GroupProgress),
}

impl Observers {
    /// How many tasks have this status, according to what each observer was shown last.
    fn counts(&mut self, status: Status) -> [usize; 4] {
        let (tasks, group) = &mut self.last;
        for (last, updates) in tasks.iter_mut().zip(&self.tasks) {
            while let Ok(state) = updates.try_recv() {
                *last = state.status;
            }
        }
        while let Ok(progress) = self.group.try_recv() {
            *group = progress;
        }
        let shown = tasks.iter().filter(|&&last| last == status).count();
        let called = self.callback.lock().unwrap().count(status);
        [self.handle.progress().count(status), shown, group.count(status), called]
    }
}

fn agree_in_the_end(executor: &dyn Executor, pool: Option<&ProcessPoolExecutor>) {
    let mut group = TaskGroup::new();
    let tasks = [(); 2].map(|()| executor.submit(go_on, ()));
    let updates = tasks.each_ref().map(ProgressFuture::updates);
    group.extend(tasks);
    let (handle, callback) = (group.handle(), Arc::<Mutex<GroupProgress>>::default());
    let shown = callback.clone();
    group.add_progress_callback(move |_, new| *shown.lock().unwrap() = new.clone());
    let last = ([Status::Pending; 2], GroupProgress::default());
    let mut observers = Observers { handle: handle.clone(), tasks: updates, group: group.updates(), callback, last };
    let joining = thread::spawn(move || group.join_all().wait());
    eventually("both run", || handle.progress().running == 2);

    let mut random = Random::new();
    for round in 0..asked("TEST_ROUNDS").unwrap_or(150) {
        let acts: Vec<Act> = (0..=random.below(8)).map(|_| random.one_of(&ACTS)).collect();
        for act in &acts {
            match act {
                Act::Pause => handle.pause(),
                Act::Resume => handle.resume(),
                Act::Suspend => pool.into_iter().for_each(ProcessPoolExecutor::suspend),
                Act::ResumePool => pool.into_iter().for_each(ProcessPoolExecutor::resume),
                Act::Look => drop(handle.progress()),
            }
            random.let_time_pass();
        }
        let status = random.one_of(&[Status::Paused, Status::Running]);
        if status == Status::Paused {
            handle.pause()
        } else {
            handle.resume()
        }
        pool.into_iter().for_each(ProcessPoolExecutor::resume);
        let start = Instant::now();
        loop {
            let counts = observers.counts(status);
            if counts == [2; 4] {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{round}: of two that are {status:?} after {acts:?}, {counts:?} are");
            // The next act may come at any moment of a report interval.
            thread::sleep(Duration::from_millis(1 + random.below(30)));
        }
    }
    handle.cancel();
    assert_eq!(joining.join().unwrap().len(), 2);
}

#[test]
fn all_who_look_at_tasks_on_threads_agree_in_the_end() {
    within_deadline(|| agree_in_the_end(&ThreadPoolExecutor::new(2), None));
}

#[test]
fn all_who_look_at_tasks_in_workers_agree_in_the_end() {
    for build in BUILDS {
        within_deadline(move || {
            let pool = pool(build, 2);
            agree_in_the_end(&pool, Some(&pool));
        });
    }
}

/// Wherever a paused task is by then, on either side of its start, it is shown to wait, or ends.
fn wait_where_they_are(pool: &ProcessPoolExecutor) {
    let mut random = Random::new();
    for round in 0..asked("TEST_ROUNDS").unwrap_or(200) {
        let before = (random.below(2) == 0).then(|| pool.submit(count_briefly, Duration::ZERO));
        let mut task = pool.submit(count_briefly, Duration::from_micros(random.one_of(&[0, 100, 1_000])));
        let updates = (random.below(2) == 0).then(|| task.updates());
        let acts: Vec<Act> = (0..random.below(6)).map(|_| random.one_of(&ACTS)).collect();
        for act in &acts {
            match act {
                Act::Pause => task.pause(),
                Act::Resume => task.resume(),
                Act::Suspend => pool.suspend(),
                Act::ResumePool => pool.resume(),
                Act::Look => drop(task.progress()),
            }
            random.let_time_pass();
        }
        task.pause();
        pool.resume();
        if let Some(before) = before {
            assert!(before.wait().is_ok(), "{round}: after {acts:?}");
        }
        let is_there = || task.progress().status == Status::Paused || task.is_done();
        // Not only until its start is known.
        for _ in 0..2 {
            eventually(&format!("{round}: it waits after {acts:?}"), is_there);
            thread::sleep(Duration::from_millis(2));
        }
        task.resume();
        assert_eq!(task.wait_timeout(PATIENCE).expect("it goes on").unwrap(), 2, "{round}: after {acts:?}");
        let last = updates.map(|updates| std::iter::from_fn(|| updates.recv_blocking().ok()).last());
        assert!(last.is_none_or(|last| last.is_some_and(|last| last.status == Status::Finished)), "{round}");
    }
}

#[test]
fn tasks_that_are_paused_wait_where_they_are() {
    for build in BUILDS {
        within_deadline(move || wait_where_they_are(&pool(build, 1)));
    }
}
