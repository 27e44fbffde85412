//! Helpers for the tests.

use std::fs;
use std::future::Future;
use std::io;
use std::iter;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use progress_executor::{TaskResult, ThreadPoolExecutor, Updater};
use rustix::process::Pid;

/// Far longer than anything that a test waits for takes, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Longer than [`DEADLINE`], so that a wait that hangs can first say what it waited for.
const TEST_DEADLINE: Duration = Duration::from_secs(300);

/// A task that counts to `n`.
pub(crate) fn count(n: u64, progress: &Updater) -> TaskResult<u64> {
    for step in progress.iter(0..n) {
        step?;
    }
    Ok(n)
}

/// A task that only ends when it is cancelled.
pub(crate) fn tick_forever((): (), progress: &Updater) -> TaskResult<()> {
    loop {
        progress.update(1)?;
    }
}

/// Runs a test that could hang; fails when it does.
#[track_caller]
pub(crate) fn within_deadline<R: Send + 'static>(test: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || {
        let _ = done.send(test());
    });
    match result.recv_timeout(TEST_DEADLINE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the test hangs: it has not ended within {TEST_DEADLINE:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(payload) => std::panic::resume_unwind(payload),
            Ok(()) => unreachable!("a test that ends has sent its result"),
        },
    }
}

/// A door that a task waits at until the test opens it, and that tells the test when the task is there.
pub(crate) fn gate() -> (Gate, Barrier) {
    let (arrive, arrived) = mpsc::channel();
    let (open, opened) = mpsc::channel();
    (Gate { arrived, open }, Barrier { arrive, opened })
}

pub(crate) struct Gate {
    arrived: mpsc::Receiver<()>,
    open: mpsc::Sender<()>,
}

pub(crate) struct Barrier {
    arrive: mpsc::Sender<()>,
    opened: mpsc::Receiver<()>,
}

impl Gate {
    /// Waits until a task stands at the barrier.
    pub(crate) fn wait(&self) {
        assert!(self.is_reached(), "whoever was to come to the barrier has ended");
    }

    /// Waits until a task stands at the barrier, or never will because the barrier is gone.
    pub(crate) fn is_reached(&self) -> bool {
        match self.arrived.recv_timeout(DEADLINE) {
            Ok(()) => true,
            Err(mpsc::RecvTimeoutError::Disconnected) => false,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("nobody has come to the barrier within {DEADLINE:?}"),
        }
    }

    /// A sender with which others can open the gate.
    pub(crate) fn opener(&self) -> mpsc::Sender<()> {
        self.open.clone()
    }

    /// Lets one task pass the barrier.
    pub(crate) fn open(&self) {
        // A task that is gone needs no open door.
        let _ = self.open.send(());
    }
}

impl Barrier {
    pub(crate) fn pass(&self) {
        let _ = self.arrive.send(());
        // A gate that is gone opens the barrier too, so that a failed test leaves no thread behind.
        let opened = self.opened.recv_timeout(TEST_DEADLINE);
        assert_ne!(opened, Err(mpsc::RecvTimeoutError::Timeout), "nobody has opened the gate within {TEST_DEADLINE:?}");
    }
}

/// A pool of one thread that is busy until the gate is opened.
pub(crate) fn busy_pool() -> (ThreadPoolExecutor, Gate) {
    let (gate, barrier) = gate();
    let executor = ThreadPoolExecutor::new(1);
    executor
        .spawn(move |_| {
            barrier.pass();
            Ok(())
        })
        .detach();
    gate.wait();
    (executor, gate)
}

/// Polls futures by hand, and counts the wake-ups.
pub(crate) struct Hand {
    wakes: Arc<Wakes>,
    waker: Waker,
}

#[derive(Default)]
struct Wakes {
    count: AtomicUsize,
    poller: std::sync::Mutex<Option<thread::Thread>>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        if let Some(thread) = &*self.poller.lock().unwrap() {
            thread.unpark();
        }
    }
}

impl Hand {
    pub(crate) fn new() -> Self {
        let wakes = Arc::new(Wakes::default());
        *wakes.poller.lock().unwrap() = Some(thread::current());
        Self { waker: Waker::from(wakes.clone()), wakes }
    }

    pub(crate) fn poll<F: Future + Unpin>(&self, future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(&self.waker))
    }

    pub(crate) fn poll_next<S: futures::Stream + Unpin>(&self, stream: &mut S) -> Poll<Option<S::Item>> {
        Pin::new(stream).poll_next(&mut Context::from_waker(&self.waker))
    }

    pub(crate) fn wakes(&self) -> usize {
        self.wakes.count.load(Ordering::SeqCst)
    }

    /// Waits for a wake-up beyond the first `seen`.
    pub(crate) fn wait_for_wake(&self, seen: usize) {
        let start = Instant::now();
        while self.wakes() <= seen {
            assert!(start.elapsed() < DEADLINE, "not woken within {DEADLINE:?}");
            thread::park_timeout(DEADLINE);
        }
    }
}

/// Waits until `holds` returns true, for what other threads do in their own time.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        thread::yield_now();
    }
}

/// Gives whatever must stand still a chance to go on: returns once another task has started, counted and ended, and the
/// clock of all tasks has advanced.
pub(crate) fn let_another_task_run() {
    let start = Instant::now();
    ThreadPoolExecutor::new(1).submit(count, 10_000).wait().unwrap();
    eventually("the clock goes on", || !start.elapsed().is_zero());
}

/// Makes an attempt in which something must be done within `limit`. If that takes too long because the machine is busy,
/// tries again with twice the limit.
pub(crate) fn with_time_enough<R>(limit: Duration, attempt: impl Fn(Duration) -> Option<R>) -> R {
    let limits = iter::successors(Some(limit), |&limit| limit.checked_mul(2)).take_while(|&limit| limit < DEADLINE / 4);
    limits.into_iter().find_map(attempt).expect("it takes too long, whatever the limit")
}

/// Measures how busy the machine is while `run` runs: the longest time that a thread which wants to go on every
/// millisecond had to wait.
pub(crate) fn longest_wait_during<R>(run: impl FnOnce() -> R) -> (R, Duration) {
    let (end, is_over) = mpsc::channel::<()>();
    // Taken here, as the thread may have to wait before it begins, and after that until the end.
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    let watcher = thread::spawn(move || {
        loop {
            let is_last = is_over.recv_timeout(Duration::from_millis(1)) != Err(RecvTimeoutError::Timeout);
            let now = Instant::now();
            longest = longest.max(now - last);
            last = now;
            if is_last {
                return longest;
            }
        }
    });
    let result = run();
    drop(end);
    (result, watcher.join().unwrap())
}

/// A file with a unique name, removed on drop.
pub(crate) struct NewFile(PathBuf);

impl NewFile {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("progress-executor-test-{}-{number}", std::process::id()));
        fs::write(&path, "").unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone()
    }

    pub(crate) fn exists(&self) -> bool {
        self.0.exists()
    }

    pub(crate) fn remove(&self) {
        fs::remove_file(&self.0).unwrap();
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether there is a process with this id that has not been reaped.
pub(crate) fn has_process(id: u32) -> bool {
    rustix::process::test_kill_process(Pid::from_raw(id as i32).unwrap()).is_ok()
}

/// The directories below `/proc` for the threads of this process.
pub(crate) fn threads_of(process: u32) -> io::Result<Vec<PathBuf>> {
    // The listing breaks off where a thread ends meanwhile.
    loop {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let count = status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse::<usize>().ok());
        let threads = fs::read_dir(format!("/proc/{process}/task"))?.map(|thread| Ok(thread?.path()));
        let threads: Vec<_> = threads.collect::<io::Result<_>>()?;
        if count.is_some_and(|count| threads.len() >= count) {
            return Ok(threads);
        }
    }
}

/// Whether this process is stopped. Its threads stop one after the other; the process is stopped once all of them are.
pub(crate) fn is_stopped(process: u32) -> bool {
    let stands_still =
        |thread: &PathBuf| fs::read_to_string(thread.join("stat")).is_ok_and(|text| text.contains(") T "));
    threads_of(process).is_ok_and(|threads| threads.iter().all(stands_still))
}
