//! Bars for those who do not look at a terminal: wrappers and editors, and the terminal itself.
//!
//! Each is a [`ProgressBar`](crate::ProgressBar), given to a task with [`with_bar`](crate::ProgressFuture::with_bar), and
//! writes to anything that is [`io::Write`](std::io::Write):
//!
//! - [`JsonLines`]: an object of JSON for each update, a line each, for wrappers and CI;
//! - [`Taskbar`]: the progress that the terminal shows in its tab, its title or its task bar (OSC 9;4);
//! - [`WorkDoneProgress`]: the messages of the Language Server Protocol by which a server shows an editor what it does.
//!
//! # The end
//!
//! A task that was given a bar [finishes](crate::ProgressBar::finish) it, when it has ended or when its future is dropped or
//! detached before: then there is a last line, the notification that ends the progress, and nothing more in the tab. A bar
//! that somebody else uses and drops without that leaves what it has shown.
//!
//! # Errors
//!
//! A bar that cannot write has nobody who looks at it, and its task is not to end because of that. So the first error is
//! the end of what is written: the bar lets go of its writer, and the task goes on.
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
