//! Tasks on a terminal: what is shown of them, and where.
//!
//! - [`layout`] makes lines of the states of tasks, and [`units`] formats what they count.
//! - A [`target`] is where they are shown: [`terminal`] draws the lines on standard error, [`plain`] writes lines where
//!   nothing can be redrawn, and bars among those of a `MultiProgress` of the program are drawn by `indicatif`.
//! - [`task`] follows a task, and [`shown`] a group or a map.

mod job;
mod layout;
mod plain;
pub(crate) mod shown;
mod stop_detector;
mod target;
mod task;
mod terminal;
pub(crate) mod units;

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;

use crate::future::text::WIDEST;
use crate::group::bars::layout::{Canvas, Row};
use crate::group::bars::target::{Handle, Target, has_colours};
use crate::group::bars::terminal::FRAME;
use crate::group::bars::units::Units;
use crate::group::progress::GroupProgress;
use crate::sync::timer::{TIMER, Timed};
use crate::sync::unwind::quietly;
use crate::sync::waiter::Waiter;
use crate::task::lines::{Line, LineTarget, whole_characters};

/// The bars of a [`TaskGroup`](crate::TaskGroup), a [`Map`](crate::Map) or a task, made and shown by
/// [`TaskGroup::show_bars`](crate::TaskGroup::show_bars), [`Map::show_bars`](crate::Map::show_bars) and
/// [`ProgressFuture::show_bar`](crate::ProgressFuture::show_bar). With the feature `indicatif`.
///
/// It can be cloned and sent; all clones are the same bars. They are drawn where the group, map or task is polled, at
/// most 20 times a second; all bars on standard error share the terminal. Each task takes one line, whatever its name
/// and its messages contain. Below it, its parts that have a [name](crate::Updater::named) are shown while they are
/// under way, indented, if there is room for them.
///
/// Dropping it removes nothing from the screen. The bars go on while their group, map or task exists, and what they showed last
/// then stays on the screen, unless they are [cleared](Self::clear) before anything else is drawn.
///
/// # Text
///
/// What the program writes [through the bars](Self::println) while they are shown appears above them, whole: a `GroupBars` is
/// an [`io::Write`] that keeps what is written until its line is complete. So it is a target for loggers:
/// `env_logger::Target::Pipe(Box::new(bars.clone()))`, `.with_writer(move || bars.clone())` of `tracing-subscriber`. Lines that
/// tasks [print](crate::Updater::println) appear there as well, and so does what worker processes write, with
/// `WorkerOutput::above_bars`. For everything else, such as the messages of panics, there is [`suspend`](Self::suspend):
///
/// ```
/// use std::panic;
///
/// # let mut group = progress_executor::TaskGroup::<()>::new();
/// let bars = group.show_bars();
/// let hook = panic::take_hook();
/// panic::set_hook(Box::new(move |panic| bars.suspend(|| hook(panic))));
/// ```
///
/// # Ctrl-Z
///
/// While a program is stopped, the shell writes to the terminal. Bars that go on after two seconds or more are drawn
/// anew below that, and what they showed before stays above; this is noticed if they had changed within half a second
/// before the stop. After `bg`, nothing is drawn until `fg`; lines are still written above the prompt or into it, as for
/// any program. A program that handles the signal can remove its bars before it stops, and restore them when it goes on;
/// here with the crate [`signal-hook`](https://docs.rs/signal-hook), and in the example `full_example` as a stream, with
/// [`async-signal`](https://docs.rs/async-signal):
///
/// ```ignore
/// let mut signals = Signals::new([SIGTSTP])?;
/// thread::spawn(move || {
///     for signal in signals.forever() {
///         // Stops the program, and returns when it goes on.
///         let _ = bars.suspend(|| emulate_default_handler(signal));
///     }
/// });
/// ```
///
/// # Colours
///
/// By the usual conventions: none if `NO_COLOR` is set or `CLICOLOR` is 0, and colours even without a terminal if
/// `CLICOLOR_FORCE` is not 0. If standard error is not a terminal, or `TERM` is `dumb`, there are lines instead of
/// bars.
///
/// # Examples
///
/// ```
/// use std::io::Write;
///
/// # let executor = progress_executor::ThreadPoolExecutor::new(1);
/// let mut group = progress_executor::TaskGroup::new();
/// let mut bars = group.show_bars();
/// group.extend((0..3).map(|n| executor.spawn(move |_| Ok(n))));
/// group.join().wait()?;
/// writeln!(bars, "all is done").unwrap(); // above the bars
/// bars.clear();
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
pub struct GroupBars {
    shared: Arc<Shared>,
    /// The beginning of a line that this clone has not completed.
    unfinished: Vec<u8>,
}

struct Shared {
    /// Beside the lock, which a writer has that panics, and whose panic is shown by a hook while the bars are suspended.
    handle: Handle,
    bars: Mutex<Bars>,
}

struct Bars {
    target: Target,
    is_standard_error: bool,
    units: Units,
    /// The columns of the terminal, if that is not standard error.
    columns: Option<usize>,
    drawn_at: Option<Instant>,
    /// Whether something has changed since `drawn_at`.
    is_dirty: bool,
    /// Whether lines wait for the next frame, because others were drawn on the same screen a moment ago.
    is_waiting: bool,
    /// Wakes the poller that draws the change, and whether the timer is set for it.
    alarm: Arc<Waiter>,
    is_alarm_set: bool,
    is_cleared: bool,
    /// How many tasks there were, if all have ended and the summary is shown.
    summarized: Option<usize>,
    /// When the summary was last put together, and how long that took.
    rested: Option<(Instant, Duration)>,
}

/// How much of an unfinished line is kept.
const LONGEST_LINE: usize = 64 << 10;

impl GroupBars {
    /// Bars on standard error, or lines if that is not a terminal. All bars that are made in this way share one
    /// screen.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Target::standard_error(), true)
    }

    /// Bars among others, or on another terminal, with at most this many rows. At least one task is shown.
    ///
    /// If `all` is hidden, as it is where its output is not a terminal, no bars are drawn, and lines go to standard error.
    ///
    /// [`columns`](Self::columns) sets the width of that terminal; by default, it is assumed to be as wide as standard
    /// error or standard output, or 60 columns if neither is a terminal.
    ///
    /// # Examples
    ///
    /// ```
    /// use indicatif::{MultiProgress, ProgressDrawTarget};
    /// use progress_executor::{GroupBars, TaskGroup};
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
    /// let mut group = TaskGroup::new();
    /// group.show(GroupBars::on(screen, 10)); // ten rows, however many tasks there are
    /// group.extend((0..100).map(|n| executor.spawn(move |_| Ok(n))));
    /// group.join().wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn on(all: MultiProgress, rows: usize) -> Self {
        Self::of(Target::others(all, rows), false)
    }

    /// A line for each task that has started, and for each that has ended. A task that starts and ends between two
    /// polls has the latter only. There are no [colours](Self#colours) unless `CLICOLOR_FORCE` asks for them. Errors of `out`
    /// are ignored.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{GroupBars, TaskGroup};
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = TaskGroup::new();
    /// group.show(GroupBars::lines(std::io::stdout())); // for a log
    /// group.add(executor.spawn_named("save", |_| Ok(())));
    /// group.join().wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn lines(out: impl Write + Send + 'static) -> Self {
        Self::of(Target::lines(Box::new(out)), false)
    }

    fn of(target: Target, is_standard_error: bool) -> Self {
        let handle = target.handle();
        let bars = Bars {
            target,
            is_standard_error,
            units: Units::default(),
            columns: None,
            drawn_at: None,
            is_dirty: false,
            is_waiting: false,
            alarm: Arc::new(Waiter::new()),
            is_alarm_set: false,
            is_cleared: false,
            summarized: None,
            rested: None,
        };
        Self { shared: Arc::new(Shared { handle, bars: Mutex::new(bars) }), unfinished: Vec::new() }
    }

    /// Sets what the tasks count; numbers without a name by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Units;
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// let bars = group.show_bars().units(Units::Bytes);
    /// group.add(executor.spawn(|progress| Ok(std::io::copy(&mut progress.reader(&[0; 4096][..]), &mut std::io::sink())?)));
    /// group.join().wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[allow(clippy::must_use_candidate, reason = "the bars are shown already")]
    pub fn units(self, units: Units) -> Self {
        let mut bars = self.lock();
        (bars.units, bars.is_dirty) = (units, true);
        drop(bars);
        self
    }

    /// Sets the width of the terminal that the bars were put [on](Self::on). Lines take one column less.
    ///
    /// # Examples
    ///
    /// ```
    /// use indicatif::{MultiProgress, ProgressDrawTarget};
    /// use progress_executor::{GroupBars, TaskGroup};
    ///
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
    /// let mut group = TaskGroup::new();
    /// group.show(GroupBars::on(screen, 24).columns(100));
    /// group.add(executor.spawn(|_| Ok(())));
    /// group.join().wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    #[must_use]
    pub fn columns(self, columns: usize) -> Self {
        self.lock().columns = Some(columns.min(WIDEST));
        self
    }

    /// Writes a line above the bars, without tearing them, to the same place as the bars.
    ///
    /// Colours are kept; anything that would move the cursor is left out.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// let bars = group.show_bars();
    /// group.extend((0..3).map(|n| executor.spawn(move |_| Ok(n))));
    /// bars.println("three tasks are under way");
    /// group.join().wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn println(&self, line: impl fmt::Display) {
        // Without the lock, as this may be code of the user.
        let line = line.to_string();
        self.lock().target.println(&line);
    }

    /// Removes the bars while `f` runs, so that it may write to the terminal as it likes, ask the user something, or run
    /// another program. Nothing is drawn meanwhile, and the tasks go on; afterwards the bars come back, up to date.
    ///
    /// If the bars are among [others](Self::on), `f` must not use these others. Lines that are written meanwhile, also by tasks, go
    /// to standard error.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut group = progress_executor::TaskGroup::new();
    /// let bars = group.show_bars();
    /// group.add(executor.spawn(|_| Ok(())));
    /// let answer = bars.suspend(|| {
    ///     println!("go on? yes, of course");
    ///     "yes"
    /// });
    /// assert_eq!(answer, "yes");
    /// group.join().wait()?;
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn suspend<R>(&self, f: impl FnOnce() -> R) -> R {
        // Without the lock: other threads may go on to show something, and `f` may write something.
        match &self.shared.handle {
            Handle::Terminal(terminal) => terminal.suspend(f),
            Handle::Others(all) => {
                let _suspension = Suspension::new(self);
                // A panic would leave a lock of `indicatif` poisoned.
                let result = all.suspend(|| catch_unwind(AssertUnwindSafe(f)));
                result.unwrap_or_else(|payload| resume_unwind(payload))
            }
            Handle::Plain => f(),
        }
    }

    /// Removes the bars for good. Lines that were written stay, and more can be written. Once what the bars follow has ended, only
    /// bars below which nothing was written or drawn since can be removed.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::ThreadPoolExecutor::new(1);
    /// let mut task = executor.spawn(|progress| Ok(progress.set_counts(3, 3)?));
    /// let bars = task.show_bar("dig");
    /// task.wait()?;
    /// bars.clear(); // nothing is left of it
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn clear(&self) {
        let mut bars = self.lock();
        bars.is_cleared = true;
        bars.target.clear();
    }

    /// Shows lines of tasks, except those that other bars have shown in the same place.
    fn say(&self, lines: &[Line]) {
        let mut bars = self.lock();
        let target = match bars.is_standard_error || bars.target.is_hidden() {
            true => LineTarget::StandardError,
            false => LineTarget::Bars(Arc::as_ptr(&self.shared).addr()),
        };
        let lines: Vec<&str> = lines.iter().filter(|line| line.claim_for(target)).map(|line| &*line.text).collect();
        if !lines.is_empty() {
            // The last one may be empty.
            bars.target.println(&(lines.join("\n") + "\n"));
        }
    }

    /// Draws what has changed now, or has `waker` woken when the next frame is due.
    fn draw(&self, has_changed: bool, waker: Option<&Waker>, rows: impl Fn(usize, &Units) -> (Vec<Row>, Option<Row>)) {
        let mut bars = self.lock();
        bars.is_dirty |= has_changed;
        let has_lines = !bars.is_cleared && !matches!(bars.target, Target::Plain(_));
        if !(has_lines && bars.is_unseen()) {
            return;
        }
        let now = Instant::now();
        if bars.drawn_at.is_none_or(|drawn_at| now.saturating_duration_since(drawn_at) >= FRAME) {
            if bars.is_dirty {
                bars.draw(now, false, &rows);
            } else {
                bars.draw_waiting(now);
            }
        }
        let due = bars.drawn_at.and_then(|drawn_at| drawn_at.checked_add(FRAME)).filter(|_| bars.is_unseen());
        if let (Some(waker), Some(due)) = (waker, due) {
            let (alarm, is_set) = (bars.alarm.clone(), mem::replace(&mut bars.is_alarm_set, true));
            // A waker is foreign code.
            drop(bars);
            alarm.register(waker);
            if !is_set && TIMER.schedule(due, Box::new(Alarm(alarm))).is_err() {
                // Nothing would wake the poller to draw it later.
                self.lock().draw(now, true, rows);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Bars> {
        self.shared.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bars {
    /// Whether there is something that is not drawn.
    fn is_unseen(&self) -> bool {
        self.is_dirty || self.is_waiting
    }

    fn draw(&mut self, now: Instant, is_last: bool, rows: impl Fn(usize, &Units) -> (Vec<Row>, Option<Row>)) {
        (self.drawn_at, self.is_dirty, self.is_alarm_set, self.summarized) = (Some(now), false, false, None);
        let (height, canvas) = self.canvas();
        let (tasks, whole) = rows(height, &self.units);
        self.is_waiting = !self.target.show(canvas.draw(&tasks, whole.as_ref()), is_last);
    }

    /// Draws the lines that wait, as they are: they would change with the time, and wait again.
    fn draw_waiting(&mut self, now: Instant) {
        (self.drawn_at, self.is_alarm_set) = (Some(now), false);
        self.is_waiting = !self.target.draw_if_due();
    }

    /// The number of rows for bars, and the canvas.
    fn canvas(&self) -> (usize, Canvas) {
        let (height, columns) = self.target.size();
        (height, Canvas { columns: self.columns.unwrap_or(columns), has_colours: has_colours() })
    }

    /// Shows a line instead of the bars.
    fn summarize(&mut self, text: &str, progress: &GroupProgress) {
        if !self.is_cleared {
            (self.is_dirty, self.is_waiting, self.summarized) = (false, false, Some(progress.tasks()));
            let (_, canvas) = self.canvas();
            self.target.show(vec![canvas.last_line(text, has_failures(progress))], true);
        }
    }

    /// Shows the last line, which summarizes all tasks.
    fn finish(&mut self, text: &str, progress: &GroupProgress) {
        match &mut self.target {
            Target::Plain(plain) => plain.summarize(text, has_failures(progress)),
            _ => self.summarize(text, progress),
        }
        self.leave();
    }

    /// Leaves what is shown where it is.
    fn leave(&mut self) {
        if !self.is_cleared {
            self.target.leave();
        }
    }
}

/// While this exists, the bars are suspended.
struct Suspension<'a>(&'a GroupBars);

impl<'a> Suspension<'a> {
    fn new(bars: &'a GroupBars) -> Self {
        bars.lock().target.note_suspended(true);
        Self(bars)
    }
}

impl Drop for Suspension<'_> {
    fn drop(&mut self) {
        self.0.lock().target.note_suspended(false);
    }
}

/// Wakes the poller that has something to draw.
struct Alarm(Arc<Waiter>);

impl Timed for Alarm {
    fn fire(&mut self, _due: Instant, _now: Instant) -> Option<Instant> {
        self.0.wake();
        None
    }
}

fn has_failures(progress: &GroupProgress) -> bool {
    progress.failed + progress.cancelled > 0
}

impl Clone for GroupBars {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), unfinished: Vec::new() }
    }
}

/// Each complete line goes above the bars. An unfinished line is shown when it is flushed or dropped, or exceeds 64 KiB. Each
/// clone has an unfinished line of its own. No write fails.
impl Write for GroupBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The bytes that were kept have no newline.
        let before = self.unfinished.len();
        self.unfinished.extend_from_slice(bytes);
        let end = match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => before + end + 1,
            None if self.unfinished.len() > LONGEST_LINE => whole_characters(&self.unfinished),
            None => return Ok(bytes.len()),
        };
        let rest = self.unfinished.split_off(end);
        let lines = mem::replace(&mut self.unfinished, rest);
        let lines = String::from_utf8_lossy(&lines);
        self.println(lines);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = mem::take(&mut self.unfinished);
        if !line.is_empty() {
            self.println(String::from_utf8_lossy(&line));
        }
        Ok(())
    }
}

impl Drop for GroupBars {
    fn drop(&mut self) {
        let _ = quietly(|| self.flush());
    }
}

impl Default for GroupBars {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for GroupBars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bars = self.lock();
        let is_lines = matches!(bars.target, Target::Plain(_));
        f.debug_struct("GroupBars").field("is_lines", &is_lines).field("units", &bars.units).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::GroupBars;
    use indicatif::{MultiProgress, ProgressDrawTarget};
    use std::sync::Arc;
    use std::sync::mpsc::{self, Sender};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// The waker of a task that holds the bars: the last waker may drop the bars, which then write what they hold.
    struct Holder(GroupBars, Sender<&'static str>);

    impl Wake for Holder {
        fn wake(self: Arc<Self>) {
            let _ = self.1.send("woken");
        }
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            self.0.println("gone");
            let _ = self.1.send("gone");
        }
    }

    #[test]
    fn a_waker_may_use_the_bars_when_it_is_dropped() {
        let bars = GroupBars::on(MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), 10);
        let draw = |bars: &GroupBars, waker: Option<&Waker>| bars.draw(true, waker, |_, _| (Vec::new(), None));
        let (send, events) = mpsc::channel();
        loop {
            draw(&bars, None);
            let waker = Waker::from(Arc::new(Holder(bars.clone(), send.clone())));
            draw(&bars, Some(&waker));
            drop(waker);
            // Unless it was drawn at once, because enough time had passed.
            if events.recv_timeout(DEADLINE) == Ok("woken") {
                break;
            }
        }
        let (done, is_drawn) = mpsc::channel();
        let others = bars.clone();
        std::thread::spawn(move || {
            draw(&others, None);
            let _ = done.send(());
        });
        is_drawn.recv_timeout(DEADLINE).expect("the lock is not held");
        assert_eq!(events.recv_timeout(DEADLINE), Ok("gone"));
    }
}
