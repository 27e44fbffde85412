//! How a test program declares what its workers can run.

/// Lets a test program start worker processes, which know these functions.
///
/// Write this once in each test program (in `lib.rs` or `main.rs` for unit tests, in each file of `tests` that has a
/// [`ProcessPoolExecutor`](crate::ProcessPoolExecutor)), with all functions that its tests submit:
///
/// ```no_run
/// use progress_executor::{ExecutorExt, ProcessPoolExecutor, TaskResult, Updater};
///
/// fn double(n: u64, _: &Updater) -> TaskResult<u64> {
///     Ok(2 * n)
/// }
///
/// progress_executor::test_worker!(double);
///
/// #[test]
/// fn doubles() {
///     let executor = ProcessPoolExecutor::new(1).unwrap();
///     assert_eq!(executor.submit(double, 21).wait().unwrap(), 42);
/// }
/// # fn main() {}
/// ```
///
/// Functions that are private to a library are added by the function with which the library registers them, as described for
/// [libraries](crate::guide::libraries), together with your own:
///
/// ```no_run
/// # mod thumbnails {
/// #     pub fn register(registry: progress_executor::TaskRegistry) -> progress_executor::TaskRegistry { registry }
/// # }
/// # fn double(n: u64, _: &progress_executor::Updater) -> progress_executor::TaskResult<u64> { Ok(2 * n) }
/// progress_executor::test_worker!(with |registry| thumbnails::register(registry).register(double));
/// # fn main() {}
/// ```
///
/// The macro makes a test, `progress_executor_test_worker`, which does nothing on its own and is what the workers run. This works
/// with `cargo test` and with `cargo nextest`, whichever tests are run. The standard output of the workers goes to standard
/// error, because the test harness writes to standard output itself.
#[macro_export]
macro_rules! test_worker {
    (with $register:expr) => {
        #[test]
        fn progress_executor_test_worker() {
            static WORKER: $crate::__private::TestWorker = $crate::__private::TestWorker::new(::core::module_path!());
            let register: fn($crate::TaskRegistry) -> $crate::TaskRegistry = $register;
            register($crate::TaskRegistry::new()).init_test_worker(&WORKER);
        }
    };
    ($($task:expr),* $(,)?) => {
        $crate::test_worker!(with |registry| registry$(.register($task))*);
    };
}
