//! The tasks of a group on a terminal.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use console::{Term, truncate_str};
use indicatif::{MultiProgress, ProgressStyle};

use crate::future::ProgressFuture;
use crate::future::bar::ProgressBar;
use crate::future::text::one_line;
use crate::group::progress::GroupProgress;
use crate::group::state::{GroupState, View};
use crate::id::TaskId;
use crate::progress::{ProgressState, Status};
use crate::task::TaskRef;
use crate::task::callbacks::Observer;
use crate::task::lines::Line;

/// The bars of a [`TaskGroup`](crate::TaskGroup) or a [`Map`](crate::Map), made and shown by
/// [`TaskGroup::show_bars`](crate::TaskGroup::show_bars) and [`Map::show_bars`](crate::Map::show_bars).
///
/// It can be cloned and sent; all clones are the same bars. With the feature `indicatif`.
///
/// # Examples
///
/// ```
/// # let executor = progress_executor::ThreadPoolExecutor::new(1);
/// let mut group = progress_executor::TaskGroup::new();
/// let bars = group.show_bars();
/// group.extend((0..3).map(|n| executor.spawn(move |_| Ok(n))));
/// group.join().wait()?;
/// bars.println("all is done"); // above the bars
/// bars.clear();
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Clone)]
pub struct GroupBars(Arc<Mutex<Screen>>);

/// Where progress is shown.
enum Screen {
    Bars(Box<Bars>),
    Lines(Lines),
}

struct Bars {
    all: MultiProgress,
    whole: indicatif::ProgressBar,
    tasks: BTreeMap<TaskId, indicatif::ProgressBar>,
    /// The lines that there are; those of the terminal, unless it is known.
    rows: Option<usize>,
    is_cleared: bool,
}

struct Lines {
    out: Box<dyn Write + Send>,
    /// Those whose start was told.
    started: BTreeMap<TaskId, TaskRef>,
}

/// The lines beside those for tasks: the one for all of them, and the one that the cursor is in.
const OTHER_ROWS: usize = 2;

/// The most columns of a message that are shown, so that it fits in the line of its task.
const REMARK: usize = 30;

/// The length of the bar for all tasks, which shows a fraction.
const WHOLE: u64 = 10_000;

impl GroupBars {
    /// On standard error: bars, or lines where that is no terminal. All that are made in this way share one screen.
    #[must_use]
    pub fn new() -> Self {
        static STANDARD_ERROR: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
        let all = STANDARD_ERROR.clone();
        if all.is_hidden() { Self::lines(io::stderr()) } else { Self::of(Screen::Bars(Bars::new(all, None))) }
    }

    /// Among others, or on another terminal, which has that many rows: no more are drawn. At least one task is shown.
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
        Self::of(Screen::Bars(Bars::new(all, Some(rows))))
    }

    /// A line for each task that has started, and for each that has ended. One that was over before anybody could look
    /// has the latter only. Errors of `out` are ignored.
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
        Self::of(Screen::Lines(Lines { out: Box::new(out), started: BTreeMap::new() }))
    }

    fn of(screen: Screen) -> Self {
        Self(Arc::new(Mutex::new(screen)))
    }

    /// Writes a line above the bars, without tearing them. It goes where they do.
    pub fn println(&self, line: impl AsRef<str>) {
        self.lock().println(line.as_ref());
    }

    /// Takes the bars away, for good. Lines that were written stay, and more can be.
    pub fn clear(&self) {
        if let Screen::Bars(bars) = &mut *self.lock() {
            bars.is_cleared = true;
            for bar in mem::take(&mut bars.tasks).values().chain([&bars.whole]) {
                bar.finish_and_clear();
                bars.all.remove(bar);
            }
        }
    }

    /// Shows what there is to be seen, if it was not shown before.
    fn draw(&self, view: &View) {
        // The lock comes first, so that what was seen later is drawn later.
        let mut screen = self.lock();
        let (lines, has_changed) = view.take();
        lines.iter().for_each(|line| screen.println(line));
        if has_changed {
            screen.draw(view);
        }
    }

    /// Tells of a task that has ended.
    fn note_ended(&self, task: &TaskRef) {
        if let Screen::Lines(lines) = &mut *self.lock() {
            lines.note_ended(task);
        }
    }

    fn finish(&self, view: &View) {
        view.close();
        self.draw(view);
        if let Screen::Bars(bars) = &mut *self.lock() {
            let (_, progress) = view.now();
            bars.draw(&[], &progress, view.tasks(&progress));
            if !bars.is_cleared {
                bars.whole.abandon();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Screen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bars that follow a group or a map where that is polled.
pub(crate) struct Shown {
    bars: GroupBars,
    view: Arc<View>,
}

impl Shown {
    pub(crate) fn new(group: &Arc<GroupState>, bars: GroupBars) -> Self {
        let view = View::new(group.clone());
        bars.draw(&view);
        Self { bars, view }
    }

    /// A task that runs inside of the poll is to be seen while it does.
    pub(crate) fn draw_within<T>(&self, task: &mut ProgressFuture<T>) {
        if task.is_inline() {
            let within = DrawWithin { bars: self.bars.clone(), view: self.view.clone() };
            task.observe(Box::new(within), ProgressState::INITIAL);
        }
    }

    /// Draws what has changed; `ended` is a task whose outcome is handed out now.
    pub(crate) fn draw(&self, cx: &mut Context<'_>, ended: Option<&TaskRef>) {
        // Registered first: what changes after this wakes us.
        self.view.waiter().register(cx.waker());
        self.bars.draw(&self.view);
        ended.into_iter().for_each(|task| self.bars.note_ended(task));
    }

    /// The group is gone.
    pub(crate) fn finish(&self) {
        self.bars.finish(&self.view);
    }
}

impl Screen {
    fn println(&mut self, line: &str) {
        match self {
            // Where nobody reads any more, nothing is said.
            Self::Bars(bars) => drop(bars.all.println(line)),
            Self::Lines(lines) => lines.say(line),
        }
    }

    fn draw(&mut self, view: &View) {
        let (started, progress) = view.now();
        match self {
            Self::Bars(bars) => bars.draw(&started, &progress, view.tasks(&progress)),
            Self::Lines(lines) => lines.announce(started),
        }
    }
}

/// Draws a group while one of its tasks runs inside of the poll.
struct DrawWithin {
    bars: GroupBars,
    view: Arc<View>,
}

impl Observer<ProgressState> for DrawWithin {
    fn show(&mut self, _old: &ProgressState, _new: &ProgressState) {
        self.bars.draw(&self.view);
    }

    fn takes_lines(&self) -> bool {
        true
    }

    /// The group has heard it as well.
    fn say(&mut self, _line: &Line) {
        self.bars.draw(&self.view);
    }

    fn leave(&mut self, _last: &ProgressState) {}
}

impl Bars {
    fn new(all: MultiProgress, rows: Option<usize>) -> Box<Self> {
        let whole = all.add(indicatif::ProgressBar::new(WHOLE));
        whole.set_style(style("{prefix:20!.bold}  {wide_bar:.bold/238}  {percent:>3} %  {msg}"));
        whole.set_prefix("total");
        Box::new(Self { all, whole, tasks: BTreeMap::new(), rows, is_cleared: false })
    }

    fn draw(&mut self, started: &[TaskRef], progress: &GroupProgress, tasks: u64) {
        if self.is_cleared {
            return;
        }
        let rows = self.rows.unwrap_or_else(|| Term::stderr().size().0.into());
        let (shown, hidden) = started.split_at(started.len().min(rows.saturating_sub(OTHER_ROWS).max(1)));
        self.tasks.retain(|id, bar| {
            let is_shown = shown.iter().any(|task| task.core.id() == *id);
            if !is_shown {
                bar.finish_and_clear();
                self.all.remove(bar);
            }
            is_shown
        });
        for task in shown {
            let bar = self.tasks.entry(task.core.id()).or_insert_with(|| {
                let bar = self.all.insert_before(&self.whole, indicatif::ProgressBar::no_length());
                bar.set_style(style("{prefix:20!}  {wide_bar:.cyan/238}  {pos}/{len}  {msg}"));
                bar.set_prefix(one_line(task.name()).into_owned());
                bar
            });
            let state = task.core.snapshot();
            let message = remark(&state);
            ProgressBar::update(bar, &ProgressState { message: Some(message.into()), ..state });
        }
        self.whole.set_position((progress.fraction().unwrap_or_default() * WHOLE as f64) as u64);
        self.whole.set_message(summary(progress, tasks, hidden.len()));
    }
}

impl Lines {
    fn announce(&mut self, started: Vec<TaskRef>) {
        for task in started {
            let id = task.core.id();
            if !self.started.contains_key(&id) {
                self.say(&format!("{}: started", one_line(task.name())));
                self.started.insert(id, task);
            }
        }
    }

    fn note_ended(&mut self, task: &TaskRef) {
        self.started.remove(&task.core.id());
        let ProgressState { n, status, elapsed, .. } = task.core.snapshot();
        let name = one_line(task.name());
        self.say(&match elapsed.is_zero() {
            true => format!("{name}: {status} before it started"),
            false => format!("{name}: {status} after {n} units and {:.1} s", elapsed.as_secs_f64()),
        });
    }

    fn say(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}");
    }
}

/// What a task is up to, in few words.
fn remark(state: &ProgressState) -> String {
    match (state.status, &state.message, state.eta()) {
        (Status::Running, Some(message), _) => truncate_str(&one_line(message), REMARK, "…").into_owned(),
        (Status::Running, None, Some(eta)) => format!("{:.1} s left", eta.as_secs_f64()),
        (Status::Running, None, None) => String::new(),
        (status, ..) => status.to_string(),
    }
}

fn summary(progress: &GroupProgress, tasks: u64, hidden: usize) -> String {
    let mut summary = format!("{} of {tasks} ended", progress.ended());
    if hidden > 0 {
        summary += &format!(", {hidden} more running");
    }
    match progress.eta() {
        Some(eta) if !eta.is_zero() => summary + &format!(", {:.0} s left", eta.as_secs_f64().ceil()),
        _ => summary,
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

impl Default for GroupBars {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for GroupBars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_lines = matches!(*self.lock(), Screen::Lines(_));
        f.debug_struct("GroupBars").field("is_lines", &is_lines).finish_non_exhaustive()
    }
}
