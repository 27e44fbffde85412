//! Cancellations in errors of all kinds, and errors that do what no error should.

use std::error::Error;
use std::panic::panic_any;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io, thread};

use progress_executor::{
    BoxError, Cancelled, ExecutorExt, ProcessPoolExecutor, ProgressFuture, Status, SyncExecutor, TaskError, TaskResult,
    ThreadPoolExecutor, Updater,
};

use crate::processes::spin;
use crate::support::{busy_pool, eventually, gate, tick_forever, within_deadline};

/// Looks like the error that it wraps, as errors do that are made with `#[error(transparent)]`.
#[derive(Debug)]
struct Transparent<E>(E);

impl<E: fmt::Display> fmt::Display for Transparent<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Error> Error for Transparent<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Has the error that it wraps as its source.
#[derive(Debug)]
struct Opaque<E>(E);

impl<E> fmt::Display for Opaque<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl<E: Error + 'static> Error for Opaque<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

type Wrapper = fn(Cancelled) -> BoxError;

/// Every kind of wrapper, in every place of a chain.
const WRAPPERS: [Wrapper; 14] = [
    |it| it.into(),
    |it| io::Error::from(it).into(),
    |it| Opaque(it).into(),
    |it| Transparent(it).into(),
    |it| Transparent(io::Error::from(it)).into(),
    |it| Transparent(Transparent(Transparent(it))).into(),
    |it| Transparent(Opaque(Transparent(it))).into(),
    |it| Opaque(Transparent(Opaque(io::Error::other(Transparent(it))))).into(),
    |it| io::Error::new(io::ErrorKind::UnexpectedEof, Transparent(io::Error::from(it))).into(),
    |it| io::Error::other(io::Error::other(io::Error::from(it))).into(),
    |it| Arc::new(Transparent(it)).into(),
    |it| serde_json::Error::io(it.into()).into(),
    |it| Opaque(serde_json::Error::io(it.into())).into(),
    |it| io::Error::from(serde_json::Error::io(it.into())).into(),
];

/// Returns the cancellation in the wrapper with this number; for contract tests.
pub(crate) fn wrap_in(way: usize, progress: &Updater) -> TaskResult<()> {
    loop {
        progress.update(1).map_err(WRAPPERS[way])?;
    }
}

/// How many wrappers there are.
pub(crate) const WAYS: usize = WRAPPERS.len();

/// Returns or panics with a value that panics whenever something is done with it; for contract tests.
pub(crate) fn explode(panics: bool, _: &Updater) -> TaskResult<()> {
    if panics { panic_any(Explosive(3)) } else { Err(Explosive(3).into()) }
}

/// How a task ends that is cancelled and returns this error.
fn ends_with(error: impl FnOnce(Cancelled) -> BoxError + Send + 'static) -> TaskError {
    let task = SyncExecutor::new().spawn(move |progress: &Updater| -> TaskResult<()> {
        loop {
            if let Err(cancelled) = progress.update(1) {
                return Err(error(cancelled));
            }
        }
    });
    let canceller = task.canceller();
    task.on_progress(move |_, new| {
        if new.n == 3 {
            canceller.cancel()
        }
    })
    .wait()
    .unwrap_err()
}

#[test]
fn a_cancellation_is_found_in_every_wrapper() {
    for (way, wrapper) in WRAPPERS.into_iter().enumerate() {
        let error = ends_with(wrapper);
        assert!(error.is_cancelled(), "{way}: {error:?}");
    }
    let error = ends_with(|_| serde_json::from_reader::<_, u8>(Refusing).unwrap_err().into());
    assert!(error.is_cancelled(), "{error:?}");
}

/// Returns the error of a task that it waits for and cancels, as it is cancelled itself.
fn outcome_of_one_that_waits_for(
    inner: ProgressFuture<()>,
    wrapper: impl FnOnce(TaskError) -> BoxError + Send + 'static,
) -> TaskError {
    let (gate, barrier) = gate();
    let executor = ThreadPoolExecutor::new(1);
    let outer = executor.spawn(move |_| -> TaskResult<()> {
        barrier.pass();
        inner.cancel();
        inner.wait().map_err(wrapper)
    });
    gate.wait();
    outer.cancel();
    gate.open();
    outer.wait().unwrap_err()
}

#[test]
fn a_cancellation_is_found_in_the_error_of_another_task() {
    within_deadline(|| {
        let (busy, gate) = busy_pool();
        let threads = ThreadPoolExecutor::new(1);
        let processes =
            ProcessPoolExecutor::builder().max_workers(1).cancel_grace(Duration::from_millis(10)).build().unwrap();
        let begun = |task: ProgressFuture<()>| {
            eventually("it runs", || task.progress().status == Status::Running);
            task
        };
        let inner: [&dyn Fn() -> ProgressFuture<()>; 4] = [
            &|| busy.spawn(|_| Ok(())),
            &|| begun(threads.submit(tick_forever, ())),
            &|| begun(processes.submit(tick_forever, ())),
            &|| begun(processes.submit(spin, ())),
        ];
        for (which, submit) in inner.into_iter().enumerate() {
            let wrappers: [fn(TaskError) -> BoxError; 4] = [
                |it| it.into(),
                |it| io::Error::other(it).into(),
                |it| Transparent(it).into(),
                |it| Opaque(Transparent(it)).into(),
            ];
            for wrapper in wrappers {
                let error = outcome_of_one_that_waits_for(submit(), wrapper);
                assert!(error.is_cancelled(), "{which}: {error:?}");
                assert!(!format!("{error:#}").contains("asked to end"), "{error:#}");
            }
        }
        gate.open();
    });
}

/// Fails like a reader of a cancelled task.
struct Refusing;

impl io::Read for Refusing {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(Cancelled.into())
    }
}

#[test]
fn a_cancellation_that_is_only_told_of_is_another_error() {
    assert!(ends_with(|cancelled| cancelled.to_string().into()).is_failed());
    assert!(ends_with(|_| io::Error::other("closed").into()).is_failed());
    assert!(ends_with(|_| Opaque(Transparent(fmt::Error)).into()).is_failed());
}

/// One of several errors in a circle: each is the source of the one before it, and the first is that of the last.
#[derive(Debug)]
struct InCircle(usize, &'static [InCircle]);

static ONE: [InCircle; 1] = [InCircle(0, &ONE)];
static TWO: [InCircle; 2] = [InCircle(0, &TWO), InCircle(1, &TWO)];
static FIVE: [InCircle; 5] =
    [InCircle(0, &FIVE), InCircle(1, &FIVE), InCircle(2, &FIVE), InCircle(3, &FIVE), InCircle(4, &FIVE)];

impl fmt::Display for InCircle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.0, self.1.len())
    }
}

impl Error for InCircle {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.1[(self.0 + 1) % self.1.len()])
    }
}

#[test]
fn errors_that_are_among_their_own_sources_end_the_task() {
    within_deadline(|| {
        for circle in [&ONE[..], &TWO, &FIVE] {
            assert!(ends_with(move |_| InCircle(0, circle).into()).is_failed());
            assert!(ends_with(move |_| Transparent(Opaque(InCircle(0, circle))).into()).is_failed());
        }
    });
}

/// Panics whenever something is done with it, with a payload that panics when it is dropped, and so on.
struct Explosive(u32);

impl Explosive {
    fn explode(&self) {
        if self.0 > 0 {
            panic_any(Explosive(self.0 - 1));
        }
    }
}

impl fmt::Debug for Explosive {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explode();
        Err(fmt::Error)
    }
}

impl fmt::Display for Explosive {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explode();
        Err(fmt::Error)
    }
}

impl Error for Explosive {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.explode();
        None
    }
}

impl Drop for Explosive {
    fn drop(&mut self) {
        self.explode();
    }
}

/// The only thread of a pool.
fn thread_of(pool: &ThreadPoolExecutor) -> thread::ThreadId {
    pool.spawn(|_| Ok(thread::current().id())).wait().unwrap()
}

#[test]
fn errors_outputs_and_payloads_that_panic_cost_a_pool_no_thread() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let thread = thread_of(&pool);
        for depth in 0..4 {
            let end = |task: ProgressFuture<Explosive>, is_cancelled: bool| {
                if is_cancelled {
                    drop(task);
                } else {
                    task.detach();
                }
                assert_eq!(thread_of(&pool), thread, "depth {depth}");
            };
            for is_cancelled in [false, true] {
                let hold = move |progress: &Updater| {
                    while is_cancelled && progress.update(1).is_ok() {}
                };
                end(pool.spawn(move |progress| Ok((hold(progress), Explosive(depth)).1)), is_cancelled);
                end(pool.spawn(move |progress| Err((hold(progress), Explosive(depth)).1.into())), is_cancelled);
                end(pool.spawn(move |progress| panic_any((hold(progress), Explosive(depth)).1)), is_cancelled);
            }
            // What is captured by a task that does not run.
            let (gate, barrier) = gate();
            let busy = pool.spawn(move |_| {
                barrier.pass();
                Ok(())
            });
            busy.detach();
            gate.wait();
            let captured = Explosive(depth);
            drop(pool.spawn(move |_| Ok(captured)));
            gate.open();
            assert_eq!(thread_of(&pool), thread, "depth {depth}");
        }
    });
}

#[test]
fn an_error_that_panics_when_it_is_looked_at_fails_its_task() {
    within_deadline(|| {
        let pool = ThreadPoolExecutor::new(1);
        let thread = thread_of(&pool);
        let task = pool.spawn(|progress| -> TaskResult<()> {
            while progress.update(1).is_ok() {}
            Err(Explosive(2).into())
        });
        task.cancel();
        let error = task.wait().unwrap_err();
        // The cancellation may have come before the thread started the task.
        assert!(error.is_failed() || error.progress().elapsed.is_zero());
        std::mem::forget(error);
        assert_eq!(thread_of(&pool), thread);
    });
}
