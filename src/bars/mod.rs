//! Bars beyond the screen: for wrappers and editors, and for the tab or task bar of the terminal itself.
//!
//! Each is a [`ProgressBar`](crate::ProgressBar), given to a task with [`with_bar`](crate::ProgressFuture::with_bar), and
//! writes to any [`io::Write`](std::io::Write):
//!
//! - [`JsonLines`]: a line with a JSON object for each update, for wrappers and CI;
//! - [`Taskbar`]: the progress that the terminal shows in its tab, its title or its task bar (OSC 9;4);
//! - [`WorkDoneProgress`]: the messages of the Language Server Protocol with which a server shows its progress in an
//!   editor.
//!
//! # The end
//!
//! A bar that was given to a task is [finished](crate::ProgressBar::finish) when the task has ended, or when its future is
//! dropped or detached before: it then writes a last line or the notification that ends the progress, or clears the tab. A bar
//! that is used in another way, and dropped without that, leaves what it has shown.
//!
//! # Errors
//!
//! A bar that cannot write has no reader left, and its task must not end because of that. So the first error is the
//! end of what is written: the bar drops its writer, and the task goes on.
//!
//! # Examples
//!
//! ```
//! use progress_executor::{ThreadPoolExecutor, Triggers, bars};
//!
//! let executor = ThreadPoolExecutor::new(1);
//! let task = executor.spawn_named("dig", |progress| Ok(progress.iter(0..3).try_for_each(|step| step.map(drop))?));
//! let task = task.with_bar(Triggers::NOW, || bars::JsonLines::new(std::io::stdout(), "dig"));
//! task.wait()?;
//! # Ok::<(), progress_executor::TaskError>(())
//! ```

mod json_lines;
mod out;
mod taskbar;
mod work_done;

pub use crate::bars::json_lines::JsonLines;
pub use crate::bars::taskbar::Taskbar;
pub use crate::bars::work_done::WorkDoneProgress;
