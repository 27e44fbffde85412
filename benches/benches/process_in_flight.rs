//! Trivial tasks for worker processes, all submitted before the first is awaited.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use criterion::Throughput;
use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
use progress_executor_benches::processes::{self, BATCH, FRAME, IpcChannel};
use progress_executor_benches::rounds::{Rounds, amount};

/// As many tasks as a process has file descriptors for: each takes several.
const MOST_OF_PROCSPAWN: usize = 200;

fn main() {
    processes::init(TaskRegistry::new().register(identity));
    let tasks = amount(20_000);
    let mut table = Rounds::new("one of 20 000 tasks in flight").throughput(Throughput::Elements(1));
    let (_child, socket) = processes::start(processes::ECHO);
    table.add("pair of sockets, in batches", move || per_task(tasks, || stream(&socket, tasks)));
    for (name, workers) in [("ours", 1), ("ours, 2 workers", 2), ("ours, 4 workers", 4), ("ours, 16 workers", 16)] {
        let pool = started(workers);
        table.add(name, move || per_task(tasks, || flood(&pool, tasks)));
    }
    let channel = IpcChannel::start();
    table.add("ipc-channel", move || per_task(tasks, || pass(&channel, tasks)));
    let pool = processes::procspawn_pool();
    let few = tasks.min(MOST_OF_PROCSPAWN);
    table.add("procspawn, of 200", move || per_task(few, || spawn(&pool, few)));
    table.run(amount(20));
}

fn per_task(tasks: usize, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / tasks as f64
}

fn identity(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(n)
}

/// Sends `frames` frames there and back, in batches at both ends.
fn stream(socket: &UnixStream, frames: usize) {
    let bytes = frames * FRAME;
    thread::scope(|scope| {
        let mut writer = socket;
        scope.spawn(move || {
            let batch = vec![0; BATCH];
            for sent in (0..bytes).step_by(BATCH) {
                writer.write_all(&batch[..BATCH.min(bytes - sent)]).expect("the process reads");
            }
        });
        let (mut reader, mut batch) = (socket, vec![0; BATCH]);
        let mut received = 0;
        while received < bytes {
            received += reader.read(&mut batch).expect("the process writes");
        }
    });
}

/// A pool with all of its workers started.
fn started(workers: usize) -> ProcessPoolExecutor {
    let pool = ProcessPoolExecutor::new(workers).expect("`init` was called");
    pool.prestart(workers);
    let by = Instant::now() + Duration::from_secs(60);
    while pool.workers().started < workers {
        assert!(Instant::now() < by, "the workers do not start");
        thread::sleep(Duration::from_millis(1));
    }
    pool
}

fn flood(pool: &ProcessPoolExecutor, tasks: usize) {
    let futures: Vec<_> = (0..tasks as u64).map(|n| pool.submit(identity, n)).collect();
    let sum = futures.into_iter().map(|task| task.wait().expect("the task returns a value")).sum::<u64>();
    assert_eq!(sum, (0..tasks as u64).sum::<u64>());
}

/// Sends and receives numbers. The sender has its own thread, since the channel does not have room for all of them.
fn pass(channel: &IpcChannel, tasks: usize) {
    let (sender, receiver) = &channel.numbers;
    let sender = sender.clone();
    thread::scope(|scope| {
        scope.spawn(move || (0..tasks as u64).for_each(|n| sender.send(n).expect("the process receives")));
        let sum = (0..tasks).map(|_| receiver.recv().expect("the process sends")).sum::<u64>();
        assert_eq!(sum, (0..tasks as u64).sum::<u64>());
    });
}

fn spawn(pool: &procspawn::Pool, tasks: usize) {
    let handles: Vec<_> = (0..tasks as u64).map(|n| procspawn::spawn!(in pool, (n) || n)).collect();
    let sum = handles.into_iter().map(|handle| handle.join().expect("the function returns")).sum::<u64>();
    assert_eq!(sum, (0..tasks as u64).sum::<u64>());
}
