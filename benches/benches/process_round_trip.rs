//! The time from submitting a trivial task to its value, one at a time, when another process runs it.

use std::hint::black_box;
use std::iter;
use std::time::Duration;

use progress_executor::{ExecutorExt, TaskGroup, TaskRegistry, TaskResult, Updater};
use progress_executor_benches::processes::{self, IpcChannel};
use progress_executor_benches::rounds::{Rounds, amount, time_each};
use progress_executor_benches::table;

fn main() {
    processes::init(TaskRegistry::new().register(identity));
    compare("process round trip back to back", 200, 50, Duration::ZERO);
    compare("process round trip after 2 ms", 60, 8, Duration::from_millis(2));
    // Waking a thread on another CPU costs several times more, and the system decides on which CPU it runs.
    table::pin_to(1);
    compare("process round trip back to back, on one CPU", 100, 50, Duration::ZERO);
    compare("process round trip after 2 ms, on one CPU", 60, 8, Duration::from_millis(2));
}

fn identity(n: u64, _: &Updater) -> TaskResult<u64> {
    Ok(n)
}

fn compare(title: &'static str, rounds: usize, trips: usize, rest: Duration) {
    let mut table = Rounds::new(title);
    let (_child, socket) = processes::start(processes::ECHO);
    table.add("pair of sockets", move || {
        time_each(trips, rest, || processes::ping_pong(&socket).expect("the process sends back what it gets"))
    });
    let pool = processes::ours();
    table.add("ours, wait()", move || {
        time_each(trips, rest, || _ = black_box(pool.submit(identity, 1).wait().expect("the task returns a value")))
    });
    let pool = processes::ours();
    table.add("ours, join().wait()", move || {
        time_each(trips, rest, || {
            let group: TaskGroup<_> = iter::once(pool.submit(identity, 1)).collect();
            black_box(group.join().wait().expect("the task returns a value"));
        })
    });
    let pool = processes::ours();
    table.add("ours, map of one at a time", move || {
        let mut map = pool.map(identity, iter::repeat(1)).buffer(1).blocking();
        time_each(trips, rest, || _ = black_box(map.next().expect("it is endless").expect("the task returns a value")))
    });
    let pool = processes::ours();
    table.add("ours, smol", move || {
        let trip = || _ = black_box(smol::block_on(pool.submit(identity, 1)).expect("the task returns a value"));
        time_each(trips, rest, trip)
    });
    let (sender, receiver) = IpcChannel::start().numbers;
    table.add("ipc-channel", move || {
        time_each(trips, rest, || {
            sender.send(1).expect("the process receives");
            black_box(receiver.recv().expect("the process sends"));
        })
    });
    let pool = processes::procspawn_pool();
    table.add("procspawn", move || {
        time_each(trips, rest, || {
            black_box(procspawn::spawn!(in pool, (1_u64 => n) || n).join().expect("the function returns"));
        })
    });
    table.run(amount(rounds));
}
