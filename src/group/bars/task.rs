//! One task on a terminal.

use std::iter;
use std::slice;
use std::task::Waker;
use std::time::Instant;

use crate::future::ProgressFuture;
use crate::group::bars::layout::Row;
use crate::group::bars::target::Target;
use crate::group::bars::units::Units;
use crate::group::bars::{Bars, GroupBars};
use crate::id::TaskId;
use crate::progress::{ProgressState, Status};
use crate::task::callbacks::Observer;
use crate::task::lines::Line;

impl<T> ProgressFuture<T> {
    /// Shows the task on the terminal under this name, with how much is done, how fast, and how long the rest will take; in the
    /// style of the bars of a [group](crate::TaskGroup::show_bars), and on the same screen. With the feature `indicatif`.
    ///
    /// It is drawn where the future is polled, from the start of the task on, at most 20 times a second. What it showed last
    /// stays until it is [cleared](GroupBars::clear), even if the future is dropped or detached before the end. If standard
    /// error is not a terminal, there is a line for the start and one for the end.
    ///
    /// Lines that the task [prints](crate::Updater::println) appear above the bars: once, even if the task is in a group with
    /// bars.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut task = executor.spawn(|progress| Ok(progress.iter(0..1000).sum::<Result<u64, _>>()?));
    /// task.show_bar("sum");
    /// assert_eq!(task.wait()?, 499_500);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn show_bar(&mut self, name: impl Into<String>) -> GroupBars {
        self.show(name, GroupBars::new())
    }

    /// [Shows the task](Self::show_bar) with the given bars, to show it elsewhere than on standard error.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::GroupBars;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut task = executor.spawn(|progress| Ok(progress.set_counts(3, 3)?));
    /// task.show("dig", GroupBars::lines(std::io::stdout())); // for a log
    /// task.wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn show(&mut self, name: impl Into<String>, bars: GroupBars) -> GroupBars {
        let now = self.progress();
        let mut shown =
            ShownTask { bars: bars.clone(), id: self.id(), name: name.into(), state: now.clone(), is_over: false };
        shown.show(&now, &now);
        self.observe(Box::new(shown), now);
        bars
    }
}

/// A bar that follows one task where its future is polled.
struct ShownTask {
    bars: GroupBars,
    id: TaskId,
    name: String,
    state: ProgressState,
    is_over: bool,
}

impl ShownTask {
    fn draw(&self, has_changed: bool, waker: Option<&Waker>) {
        self.bars.draw(has_changed, waker, |rows, units| (self.rows(rows, units), None));
    }

    /// None while the task is pending: among many tasks, those that run are of interest.
    fn rows(&self, rows: usize, units: &Units) -> Vec<Row> {
        if self.state.status == Status::Pending {
            return Vec::new();
        }
        Row::of_tasks(iter::once((&*self.name, self.state.clone())), rows - 1, units)
    }

    fn finish(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let bars = &mut *self.bars.lock();
        if let Bars { target: Target::Plain(plain), units, .. } = bars {
            plain.note_ended(self.id, &self.name, &self.state, units);
        } else if !bars.is_cleared {
            // Parts that are still under way are not shown any more.
            bars.draw(Instant::now(), true, |_, units| (self.rows(1, units), None));
        }
        bars.leave();
    }
}

impl Observer<ProgressState> for ShownTask {
    fn show(&mut self, _old: &ProgressState, new: &ProgressState) {
        if self.is_over {
            return;
        }
        self.state.clone_from(new);
        if new.status.is_terminal() {
            return self.finish();
        }
        if let (Status::Running, Target::Plain(plain)) = (new.status, &mut self.bars.lock().target) {
            plain.note_started(self.id, &self.name);
        }
        self.draw(true, None);
    }

    fn poll(&mut self, waker: &Waker) {
        if !self.is_over {
            self.draw(false, Some(waker));
        }
    }

    fn takes_lines(&self) -> bool {
        true
    }

    fn say(&mut self, line: &Line) {
        self.bars.say(slice::from_ref(line));
    }

    fn leave(&mut self, last: &ProgressState) {
        self.state.clone_from(last);
        self.finish();
    }
}
