//! Smoke.
use progress_executor::*;
use std::sync::{Arc, Mutex};
fn collatz(n: u64, progress: &Updater) -> TaskResult<u64> {
    let mut longest = 0;
    for start in progress.iter(1..=n) {
        let mut x = start?;
        let mut steps = 0;
        while x != 1 {
            x = if x % 2 == 0 { x / 2 } else { 3 * x + 1 };
            steps += 1;
        }
        longest = longest.max(steps);
    }
    Ok(longest)
}
#[test]
fn threads() {
    let e = ThreadPoolExecutor::new(2);
    let seen = Arc::new(Mutex::new(vec![]));
    let s2 = seen.clone();
    let t = e.submit(collatz, 1_000_000).on_progress(move |o, n| s2.lock().unwrap().push((o.clone(), n.clone())));
    let rx = t.updates();
    assert_eq!(t.wait().unwrap(), 524);
    let seen = seen.lock().unwrap();
    for w in seen.windows(2) {
        assert_eq!(w[0].1, w[1].0);
    }
    eprintln!("{} {:?}", seen.len(), seen.iter().map(|s| (s.1.n, s.1.status)).collect::<Vec<_>>());
    eprintln!("{:?} {:?}", rx.try_recv(), rx.try_recv());
}
#[test]
fn sync() {
    let e = SyncExecutor::new();
    let t = e.submit(collatz, 10);
    let c = t.canceller();
    let err = t
        .on_progress(move |_, n| {
            eprintln!("{n:?}");
            if n.n == 5 {
                c.cancel()
            }
        })
        .wait()
        .unwrap_err();
    eprintln!("{err} / {err:?}");
    assert_eq!(err.progress().n, 5);
}
#[test]
fn nested_one_thread() {
    let e = Arc::new(ThreadPoolExecutor::new(1));
    let e2 = e.clone();
    assert_eq!(e.spawn(move |_| Ok(e2.spawn(|_| Ok(5)).wait()? + 1)).wait().unwrap(), 6);
}
#[test]
fn paused_pending() {
    let e = ThreadPoolExecutor::new(1);
    let t = e.spawn(|_| Ok(1));
    t.pause();
    let u = e.spawn(|_| Ok(2));
    assert_eq!(u.wait().unwrap(), 2);
    assert!(t.progress().status == Status::Paused || t.is_done(), "{t:?}");
    t.resume();
    assert_eq!(t.wait().unwrap(), 1);
}
