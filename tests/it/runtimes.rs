//! The same code, awaited on every runtime.

use std::future::Future;
use std::pin::Pin;

use futures::{FutureExt, StreamExt, select};
use progress_executor::{Executor, ExecutorExt, Status, SyncExecutor, TaskEvent, ThreadPoolExecutor};

use crate::support::{count, tick_forever, within_deadline};

type Test = Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! runtimes {
    ($($runtime:ident: $block_on:expr;)*) => {
        $(mod $runtime {
            use super::*;

            fn run(test: fn(Box<dyn Executor>) -> Test) {
                within_deadline(move || {
                    let block_on: fn(Test) = $block_on;
                    block_on(test(Box::new(ThreadPoolExecutor::new(2))));
                    block_on(test(Box::new(SyncExecutor::new())));
                });
            }

            #[test]
            fn a_task_is_awaited() {
                run(|executor| Box::pin(super::a_task_is_awaited(executor)));
            }
            #[test]
            fn many_tasks_are_joined() {
                run(|executor| Box::pin(super::many_tasks_are_joined(executor)));
            }
            #[test]
            fn progress_and_outcome_are_selected() {
                run(|executor| Box::pin(super::progress_and_outcome_are_selected(executor)));
            }
            #[test]
            fn events_are_streamed() {
                run(|executor| Box::pin(super::events_are_streamed(executor)));
            }
            #[test]
            fn a_callback_cancels() {
                run(|executor| Box::pin(super::a_callback_cancels(executor)));
            }
        })*
    };
}

runtimes! {
    futures_executor: |test| futures::executor::block_on(test);
    smol_block_on: |test| smol::block_on(test);
    smol_executor: |test| smol::block_on(smol::Executor::new().run(test));
    async_std_block_on: |test| async_std::task::block_on(test);
    async_std_spawn: |test| async_std::task::block_on(async_std::task::spawn(test));
    tokio_current_thread: |test| tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test);
    tokio_multi_thread: |test| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async { tokio::spawn(test).await.unwrap() });
    };
}

async fn a_task_is_awaited(executor: Box<dyn Executor>) {
    assert_eq!(executor.submit(count, 1000).await.unwrap(), 1000);
}

async fn many_tasks_are_joined(executor: Box<dyn Executor>) {
    let tasks = (0..50).map(|n| executor.submit(count, n));
    assert_eq!(futures::future::try_join_all(tasks).await.unwrap(), (0..50).collect::<Vec<_>>());
}

async fn progress_and_outcome_are_selected(executor: Box<dyn Executor>) {
    let mut task = executor.submit(count, 50_000);
    let mut updates = Box::pin(task.updates()).fuse();
    let mut last = None;
    let mut outcome = None;
    while outcome.is_none() {
        select! {
            state = updates.select_next_some() => last = Some(state),
            ended = task => outcome = Some(ended),
        }
    }
    assert_eq!(outcome.unwrap().unwrap(), 50_000);
    while let Some(state) = updates.next().await {
        last = Some(state);
    }
    assert_eq!(last.unwrap().status, Status::Finished);
}

async fn events_are_streamed(executor: Box<dyn Executor>) {
    let mut events = executor.submit(count, 50_000).events().fuse();
    let mut seen = 0;
    let outcome = loop {
        match events.next().await.unwrap() {
            TaskEvent::Progress(state) => {
                assert!(state.n >= seen);
                seen = state.n;
            }
            TaskEvent::Done(outcome) => break outcome,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((outcome.unwrap(), seen), (50_000, 50_000));
    assert!(events.next().now_or_never().unwrap().is_none());
}

async fn a_callback_cancels(executor: Box<dyn Executor>) {
    let task = executor.submit(tick_forever, ());
    let canceller = task.canceller();
    let task = task.on_progress(move |_, new| {
        if new.n > 3 {
            canceller.cancel()
        }
    });
    assert!(task.await.unwrap_err().is_cancelled());
}
