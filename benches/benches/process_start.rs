//! The time from a pool without a worker to the value of its first task, and from there to the end of the pool.

use std::process::Command;
use std::time::Instant;

use progress_executor::{ExecutorExt, TaskRegistry, TaskResult, Updater};
use progress_executor_benches::processes;
use progress_executor_benches::rounds::{Rounds, amount};

fn main() {
    processes::init(TaskRegistry::new().register(identity));
    let mut table = Rounds::new("start of a process");
    table.add("this program, ends at once", || run(processes::this_program(processes::END)));
    table.add("/bin/true", || run(Command::new("/bin/true")));
    table.add("this program, one frame back", start_and_ping);
    table.add("ours, first task", || start_ours().0);
    table.add("ours, shutdown", || start_ours().1);
    table.add("procspawn, first task", start_procspawn);
    table.run(amount(100));
}

fn identity(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(n)
}

fn run(mut command: Command) -> f64 {
    let start = Instant::now();
    let status = command.status().expect("the program can be started");
    assert!(status.success());
    nanos_since(start)
}

fn start_and_ping() -> f64 {
    let start = Instant::now();
    let (mut child, socket) = processes::start(processes::ECHO);
    processes::ping_pong(&socket).expect("the process sends back what it gets");
    let nanos = nanos_since(start);
    drop(socket);
    child.wait().expect("nobody else has waited for it");
    nanos
}

/// Returns the time to the value, and the time of the shutdown.
fn start_ours() -> (f64, f64) {
    let start = Instant::now();
    let pool = processes::ours();
    pool.submit(identity, 1).wait().expect("the task returns a value");
    let nanos = nanos_since(start);
    let start = Instant::now();
    pool.shutdown().wait();
    (nanos, nanos_since(start))
}

fn start_procspawn() -> f64 {
    let start = Instant::now();
    let pool = processes::procspawn_pool();
    procspawn::spawn!(in pool, (1_u64 => n) || n).join().expect("the function returns");
    let nanos = nanos_since(start);
    pool.shutdown();
    nanos
}

fn nanos_since(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64
}
