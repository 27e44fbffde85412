//! Workers that one command starts, and that connect.

use std::collections::BTreeSet;

use progress_executor::{ExecutorExt, TaskErrorKind};

use crate::support::{count_forever, double, echo, fail, on_slurm, pool, take_time};

#[test]
fn workers_on_both_nodes_do_what_local_ones_do() {
    on_slurm(|slurm| {
        let pool = pool(slurm.bulk(), 4);
        let tasks: Vec<_> = (0..1000).map(|n| pool.submit(double, n)).collect();
        let values: Vec<u64> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
        assert_eq!(values, (0..1000).map(|n| 2 * n).collect::<Vec<_>>());
        let places: Vec<_> = (0..8).map(|_| pool.submit(take_time, 100)).collect();
        let places: BTreeSet<String> = places.into_iter().map(|task| task.wait().unwrap()).collect();
        assert_eq!(places.into_iter().collect::<Vec<_>>(), ["n1", "n2"]);
        assert_eq!(pool.submit(echo, "ß\n".repeat(100_000)).wait().unwrap(), "ß\n".repeat(100_000));
        let error = pool.submit(fail, ()).wait().unwrap_err();
        assert_eq!(*error.kind(), TaskErrorKind::Failed);
        let task = pool.submit(count_forever, ());
        while task.progress().n < 3 {
            std::thread::yield_now();
        }
        task.cancel();
        assert!(task.wait().unwrap_err().is_cancelled());
        pool.shutdown().wait();
    });
}
