//! One trivial function over many inputs, in chunks: on threads compared with rayon, and on worker processes compared with
//! Python's `multiprocessing.Pool.map`.

use std::process::Command;
use std::time::Instant;

use progress_executor::{
    Executor, ExecutorExt, Map, ProcessPoolExecutor, TaskRegistry, TaskResult, ThreadPoolExecutor, Updater,
};
use progress_executor_benches::pools::WORKERS;
use progress_executor_benches::processes;
use progress_executor_benches::rounds::{Rounds, amount};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

const INPUTS: usize = 1_000_000;
const CHUNK: usize = 1_000;

fn main() {
    processes::init(TaskRegistry::new().register(double));
    compare_threads();
    compare_processes();
}

fn compare_threads() {
    let mut table = Rounds::new("a small input, on threads");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().expect("threads can be started");
    table.add("rayon, into_par_iter", move || {
        time(|inputs| pool.install(|| inputs.into_par_iter().map(|n| std::hint::black_box(2 * n)).sum()))
    });
    let pool = ThreadPoolExecutor::new(WORKERS);
    table.add("map", move || time_map(&pool, |map| map));
    let pool = ThreadPoolExecutor::new(WORKERS);
    table.add("map, chunks(100)", move || time_map(&pool, |map| map.chunks(100)));
    let pool = ThreadPoolExecutor::new(WORKERS);
    table.add("map, chunks(1000)", move || time_map(&pool, |map| map.chunks(CHUNK)));
    table.run(amount(9));
}

fn compare_processes() {
    let pool = || ProcessPoolExecutor::new(WORKERS).expect("`init` was called");
    let mut table = Rounds::new("a small input, on processes");
    if python(CHUNK).is_some() {
        table.add("Python Pool.map, chunksize 1000", || python(CHUNK).unwrap_or(f64::NAN));
    }
    let ours = pool();
    table.add("map, chunks(1000)", move || time_map(&ours, |map| map.chunks(CHUNK)));
    let ours = pool();
    table.add("map, chunks(100)", move || time_map(&ours, |map| map.chunks(100)));
    let ours = pool();
    table.add("map, by itself", move || time_map(&ours, |map| map));
    let ours = pool();
    table.add("map, chunks(1)", move || time_map(&ours, |map| map.chunks(1)));
    table.run(amount(9));
}

fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(2 * n)
}

type Inputs = std::ops::Range<u64>;

fn time_map(executor: &dyn Executor, set_up: impl FnOnce(Map<'_, Inputs, u64>) -> Map<'_, Inputs, u64>) -> f64 {
    time(|inputs| set_up(executor.map(double, inputs)).blocking().map(|it| it.expect("the task returns a value")).sum())
}

/// Nanoseconds per input.
fn time(run: impl FnOnce(Inputs) -> u64) -> f64 {
    let inputs = amount(INPUTS) as u64;
    let start = Instant::now();
    assert_eq!(run(0..inputs), inputs * (inputs - 1));
    start.elapsed().as_nanos() as f64 / inputs as f64
}

/// The time that `multiprocessing` takes per input, with its workers started before; `None` if there is no Python.
fn python(chunk: usize) -> Option<f64> {
    let program = format!(
        "import multiprocessing, time\n\
         def double(n):\n    return 2 * n\n\
         if __name__ == '__main__':\n    \
             with multiprocessing.get_context('fork').Pool({WORKERS}) as pool:\n        \
                 pool.map(double, range(1000), {chunk})\n        \
                 start = time.perf_counter_ns()\n        \
                 pool.map(double, range({inputs}), {chunk})\n        \
                 print((time.perf_counter_ns() - start) / {inputs})\n",
        inputs = amount(INPUTS),
    );
    let output = Command::new("python3").args(["-c", &program]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
