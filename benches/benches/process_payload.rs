//! Bytes that are sent to another process and returned by it.

use std::hint::black_box;
use std::mem;
use std::time::Instant;

use criterion::Throughput;
use progress_executor::{ExecutorExt, TaskRegistry, TaskResult, Updater};
use progress_executor_benches::processes::{self, IpcChannel};
use progress_executor_benches::rounds::{Rounds, amount};
use serde_bytes::ByteBuf;

const MB: usize = 1_000_000;

fn main() {
    processes::init(TaskRegistry::new().register(echo));
    compare("1 MB there and back", MB, 200);
    compare("64 MB there and back", 64 * MB, 10);
}

fn echo(bytes: Vec<u8>, _: &Updater) -> TaskResult<Vec<u8>> {
    Ok(bytes)
}

fn compare(title: &'static str, bytes: usize, rounds: usize) {
    let mut table = Rounds::new(title).throughput(Throughput::Bytes(bytes as u64));
    add_sockets(&mut table, "pair of sockets", processes::ECHO_WHOLE, bytes);
    add_sockets(&mut table, "pair of sockets, memory anew", processes::ECHO_ANEW, bytes);
    let pool = processes::ours();
    let mut payload = payload(bytes);
    table.add("ours", move || {
        time(|| payload = pool.submit(echo, mem::take(&mut payload)).wait().expect("the task returns a value"))
    });
    add_ipc_channel(&mut table, bytes);
    add_procspawn(&mut table, bytes);
    table.run(amount(rounds));
}

/// Adds a pair of sockets, with memory that is reused or, as for owned values, newly allocated for each payload.
fn add_sockets(table: &mut Rounds, name: &'static str, process: &str, bytes: usize) {
    let keeps_memory = process == processes::ECHO_WHOLE;
    let (_child, mut socket) = processes::start(process);
    let payload = payload(bytes);
    let mut returned = Vec::new();
    table.add(name, move || {
        if !keeps_memory {
            returned = Vec::new();
        }
        time(|| {
            processes::write_payload(&mut socket, &payload).expect("the process reads");
            processes::read_payload(&mut socket, &mut returned).expect("the process writes");
        })
    });
}

fn add_ipc_channel(table: &mut Rounds, bytes: usize) {
    let (sender, receiver) = IpcChannel::start().bytes;
    let mut payload = payload(bytes);
    table.add("ipc-channel, bytes", move || {
        time(|| {
            sender.send(&payload).expect("the process receives");
            payload = receiver.recv().expect("the process sends");
        })
    });
}

fn add_procspawn(table: &mut Rounds, bytes: usize) {
    let pool = processes::procspawn_pool();
    let mut payload = ByteBuf::from(payload(bytes));
    table.add("procspawn, ByteBuf", move || {
        time(|| {
            let handle = procspawn::spawn!(in pool, (mem::take(&mut payload) => bytes) || bytes);
            payload = handle.join().expect("the function returns");
        })
    });
}

fn payload(bytes: usize) -> Vec<u8> {
    black_box(vec![1; bytes])
}

fn time(trip: impl FnOnce()) -> f64 {
    let start = Instant::now();
    trip();
    start.elapsed().as_nanos() as f64
}
