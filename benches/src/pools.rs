//! The pools that are compared, each with two workers.

use std::env;
use std::future::{self, Future};
use std::process::{self, Command};
use std::sync::Arc;
use std::thread;

use futures::executor::{ThreadPool as FuturesPool, block_on};
use futures::task::SpawnExt;
use progress_executor::ThreadPoolExecutor;

use crate::rounds::Rounds;

pub const WORKERS: usize = 2;

/// A pool that runs blocking work, and returns a future of the result.
pub trait Pool: Default + 'static {
    const NAME: &str;

    fn spawn(&self, work: impl FnOnce() -> u64 + Send + 'static) -> impl Future<Output = u64>;
}

/// Restarts the program with a limit on the threads of `blocking`, which reads it from the environment, unless it is set already.
pub fn limit_blocking() {
    const LIMIT: &str = "BLOCKING_MAX_THREADS";
    if env::var_os(LIMIT).is_some() {
        return;
    }
    let program = env::current_exe().expect("the program knows its path");
    let status = Command::new(program).args(env::args_os().skip(1)).env(LIMIT, WORKERS.to_string()).status();
    process::exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}

/// A measurement of a pool, in nanoseconds.
pub trait Measure: Copy + 'static {
    fn measure(self, pool: &impl Pool) -> f64;
}

/// Compares all of the pools.
pub fn add_all(rounds: &mut Rounds, measure: impl Measure) {
    add::<Ours>(rounds, measure);
    add::<Rayon>(rounds, measure);
    add::<Threadpool>(rounds, measure);
    add::<AsyncExecutor>(rounds, measure);
    add::<Tokio>(rounds, measure);
    add::<Futures>(rounds, measure);
    add::<Blocking>(rounds, measure);
}

fn add<P: Pool>(rounds: &mut Rounds, measure: impl Measure) {
    let pool = P::default();
    rounds.add(P::NAME, move || measure.measure(&pool));
}

pub struct Ours(pub ThreadPoolExecutor);

impl Default for Ours {
    fn default() -> Self {
        Self(ThreadPoolExecutor::new(WORKERS))
    }
}

impl Pool for Ours {
    const NAME: &str = "ours";

    fn spawn(&self, work: impl FnOnce() -> u64 + Send + 'static) -> impl Future<Output = u64> {
        let task = self.0.spawn(|_| Ok(work()));
        async { task.await.expect("the task returns a value") }
    }
}

#[derive(Default)]
pub struct Blocking;

impl Pool for Blocking {
    const NAME: &str = "blocking";

    fn spawn(&self, work: impl FnOnce() -> u64 + Send + 'static) -> impl Future<Output = u64> {
        blocking::unblock(work)
    }
}

pub struct Rayon(rayon::ThreadPool);

impl Default for Rayon {
    fn default() -> Self {
        Self(rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().expect("threads can be started"))
    }
}

impl Pool for Rayon {
    const NAME: &str = "rayon + oneshot";

    fn spawn(&self, work: impl FnOnce() -> u64 + Send + 'static) -> impl Future<Output = u64> {
        let (sender, receiver) = oneshot::channel();
        self.0.spawn(move || sender.send(work()).expect("somebody waits"));
        async { receiver.await.expect("the task sends a value") }
    }
}

pub struct Tokio(tokio::runtime::Runtime);

impl Default for Tokio {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(WORKERS).build();
        Self(runtime.expect("a runtime without drivers can be built"))
    }
}

impl Pool for Tokio {
    const NAME: &str = "tokio spawn_blocking";

    fn spawn(&self, work: impl FnOnce() -> u64 + Send + 'static) -> impl Future<Output = u64> {
        let task = self.0.spawn_blocking(work);
        async { task.await.expect("the task returns a value") }
    }
}

pub struct Futures(FuturesPool);

impl Default for Futures {
    fn default() -> Self {
        Self(FuturesPool::builder().pool_size(WORKERS).create().expect("threads can be started"))
    }
}

impl Pool for Futures {
    const NAME: &str = "futures ThreadPool";

    fn spawn(&self, work: impl FnOnce() -> u64 + Send + 'static) -> impl Future<Output = u64> {
        self.0.spawn_with_handle(async { work() }).expect("the pool is not shut down")
    }
}

pub struct Threadpool(threadpool::ThreadPool);

impl Default for Threadpool {
    fn default() -> Self {
        Self(threadpool::ThreadPool::new(WORKERS))
    }
}

impl Pool for Threadpool {
    const NAME: &str = "threadpool + oneshot";

    fn spawn(&self, work: impl FnOnce() -> u64 + Send + 'static) -> impl Future<Output = u64> {
        let (sender, receiver) = oneshot::channel();
        self.0.execute(move || sender.send(work()).expect("somebody waits"));
        async { receiver.await.expect("the task sends a value") }
    }
}

pub struct AsyncExecutor(Arc<async_executor::Executor<'static>>);

impl Default for AsyncExecutor {
    fn default() -> Self {
        let executor = Arc::new(async_executor::Executor::new());
        for _ in 0..WORKERS {
            let executor = executor.clone();
            thread::spawn(move || block_on(executor.run(future::pending::<()>())));
        }
        Self(executor)
    }
}

impl Pool for AsyncExecutor {
    const NAME: &str = "async-executor";

    fn spawn(&self, work: impl FnOnce() -> u64 + Send + 'static) -> impl Future<Output = u64> {
        self.0.spawn(async { work() })
    }
}
