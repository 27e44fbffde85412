//! The settings of a pool.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::task::subscribers::REPORT_INTERVAL;
use crate::thread::executor::ThreadPoolExecutor;
use crate::thread::pool::{Pool, Settings};

/// Settings of a [`ThreadPoolExecutor`]; made by [`ThreadPoolExecutor::builder`].
///
/// # Examples
///
/// ```
/// use progress_executor::{Executor, ThreadPoolExecutor};
///
/// let executor = ThreadPoolExecutor::builder().max_workers(2).thread_name("encoder").build();
/// assert_eq!(executor.max_workers(), 2);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build` is called"]
pub struct ThreadPoolBuilder {
    settings: Settings,
}

impl ThreadPoolExecutor {
    /// A builder for a pool with other settings.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::ThreadPoolExecutor;
    /// use std::time::Duration;
    ///
    /// let executor = ThreadPoolExecutor::builder()
    ///     .max_workers(2)
    ///     .thread_name("encoder")
    ///     .report_interval(Duration::from_millis(100))
    ///     .build();
    /// let name = executor.spawn(|_| Ok(std::thread::current().name().map(str::to_owned)));
    /// assert_eq!(name.wait()?.as_deref(), Some("encoder-0"));
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn builder() -> ThreadPoolBuilder {
        let settings = Settings {
            max_workers: 0,
            thread_name: "progress".into(),
            stack_size: None,
            report_interval: REPORT_INTERVAL,
        };
        ThreadPoolBuilder { settings }
    }
}

impl ThreadPoolBuilder {
    /// The maximum number of threads; 0 stands for the [available parallelism](std::thread::available_parallelism), which is
    /// the default.
    pub fn max_workers(mut self, max_workers: usize) -> Self {
        self.settings.max_workers = max_workers;
        self
    }

    /// Names the threads: `name-0`, `name-1` and so on. The default is `progress`.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::ThreadPoolExecutor;
    ///
    /// let executor = ThreadPoolExecutor::builder().thread_name("encoder").build();
    /// let name = executor.spawn(|_| Ok(std::thread::current().name().map(str::to_owned)));
    /// assert_eq!(name.wait()?.as_deref(), Some("encoder-0"));
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.settings.thread_name = name.into();
        self
    }

    /// The size of each thread's stack in bytes; the default is that of [`std::thread`].
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::ThreadPoolExecutor;
    ///
    /// let executor = ThreadPoolExecutor::builder().stack_size(16 << 20).build();
    /// let task = executor.spawn(|_| Ok([1_u8; 8 << 20].iter().map(|&n| u64::from(n)).sum::<u64>()));
    /// assert_eq!(task.wait()?, 8 << 20);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.settings.stack_size = Some(bytes);
        self
    }

    /// The time between two snapshots of a task that observers are shown; 20 ms by default. With zero, every change is
    /// passed on at once, at the cost of the task; who looks less often still sees only the newest.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::ThreadPoolExecutor;
    /// use std::time::Duration;
    ///
    /// // For a screen that is drawn ten times a second.
    /// let executor = ThreadPoolExecutor::builder().report_interval(Duration::from_millis(100)).build();
    /// # executor.spawn(|progress| Ok(progress.update(1)?)).wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn report_interval(mut self, interval: Duration) -> Self {
        self.settings.report_interval = interval;
        self
    }

    /// Makes the pool.
    #[must_use]
    pub fn build(mut self) -> ThreadPoolExecutor {
        if self.settings.max_workers == 0 {
            self.settings.max_workers = thread::available_parallelism().map_or(1, NonZero::get);
        }
        // The name becomes a C string.
        self.settings.thread_name.retain(|character| character != '\0');
        ThreadPoolExecutor { pool: Arc::new(Pool::new(self.settings)) }
    }
}
