//! Bars that follow a group or a map.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::future::ProgressFuture;
use crate::future::text::one_line;
use crate::group::bars::layout::Row;
use crate::group::bars::target::Target;
use crate::group::bars::{Bars, GroupBars};
use crate::group::progress::GroupProgress;
use crate::group::state::GroupState;
use crate::progress::ProgressState;
use crate::sync::unwind::quietly;
use crate::task::TaskRef;
use crate::task::callbacks::Observer;
use crate::task::lines::{Feed, Line};

/// Bars that follow a group or a map where it is polled.
#[derive(Clone)]
pub(crate) struct Shown {
    bars: GroupBars,
    group: Arc<GroupState>,
    /// What the bars have not shown yet.
    feed: Arc<Feed<GroupProgress>>,
}

impl Shown {
    pub(crate) fn new(group: &Arc<GroupState>, bars: GroupBars) -> Self {
        let shown = Self { bars, group: group.clone(), feed: group.feed_bars() };
        shown.catch_up(None);
        shown
    }

    /// Makes a task that runs inside the poll draw as well.
    pub(crate) fn draw_within<T>(&self, task: &mut ProgressFuture<T>) {
        if task.is_inline() {
            task.observe(Box::new(self.clone()), ProgressState::INITIAL);
        }
    }

    /// Draws what has changed; `ended` is a task whose outcome is handed out now.
    pub(crate) fn draw(&self, cx: &mut Context<'_>, ended: Option<&TaskRef>) {
        // Registered first: what changes after this wakes us.
        self.group.waiter.register(cx.waker());
        self.catch_up(Some(cx.waker()));
        if let (Some(task), Bars { target: Target::Plain(plain), units, .. }) = (ended, &mut *self.bars.lock()) {
            let (core, name) = (&task.core, task.name());
            match core.items() {
                Some(items) => {
                    let elapsed = Duration::from_nanos(core.running_for());
                    plain.note_chunk_ended(core.id(), name, items.counts().read(), elapsed);
                }
                None => plain.note_ended(core.id(), name, &core.snapshot(), units),
            }
        }
    }

    fn catch_up(&self, waker: Option<&Waker>) {
        let (lines, has_news) = self.group.take_news(&self.feed);
        self.bars.say(&lines);
        let has_changed = has_news && !self.is_summarized();
        if let (true, Target::Plain(plain)) = (has_changed, &mut self.bars.lock().target) {
            self.group.now(&self.feed).0.iter().for_each(|task| plain.note_started(task.core.id(), task.name()));
        }
        self.bars.draw(has_changed, waker, |rows, units| {
            let (started, progress) = self.group.now(&self.feed);
            // The last row is for all of them.
            let (shown, hidden) = started.split_at(started.len().min(rows - 1));
            let tasks = shown.iter().map(|task| (task.name(), task.core.snapshot()));
            let whole = Row::of_group(&progress, self.group.tasks(&progress), hidden.len(), units);
            (Row::of_tasks(tasks, rows - 1 - shown.len(), units), Some(whole))
        });
    }

    /// Whether the summary that is shown is still that of all tasks. What has come too late to be in it must not be drawn: the
    /// program may have written below.
    fn is_summarized(&self) -> bool {
        let summarized = self.bars.lock().summarized;
        summarized.is_some_and(|tasks| self.group.now(&self.feed).1.tasks() == tasks)
    }

    /// For the poll of a task, which a panic would end: drawing the group itself raises that panic again. Does nothing once
    /// other bars show the group.
    fn catch_up_within(&self) {
        if self.feed.is_open() {
            let _ = quietly(|| self.catch_up(None));
        }
    }

    /// Lets other bars show the group from now on.
    pub(crate) fn give_way(&self, others: &GroupBars) {
        // Lines that were printed before are not passed on to the other bars.
        self.catch_up(None);
        self.feed.close();
        if !Arc::ptr_eq(&self.bars.shared, &others.shared) {
            self.bars.clear();
        }
    }

    /// Called when all tasks have ended. More may come; until then the summary is shown as at the end, since the program may
    /// write below it.
    pub(crate) fn rest(&self) {
        let (bars, now) = (self.bars.lock(), Instant::now());
        let is_plain = matches!(bars.target, Target::Plain(_));
        let is_at_rest = bars.summarized.is_some() && !bars.is_dirty;
        // The summary looks at all tasks: for a group that ends and goes on again and again, it takes a tenth of the time at
        // most.
        let is_costly = bars.rested.is_some_and(|(at, took)| now < at + 10 * took);
        drop(bars);
        if is_plain || is_at_rest || is_costly {
            return;
        }
        let (summary, progress) = self.summary();
        let mut bars = self.bars.lock();
        bars.rested = Some((now, now.elapsed()));
        if progress.tasks() > 0 {
            bars.summarize(&summary, &progress);
        }
    }

    /// The summary, kept to one line as it contains names of tasks, and the progress.
    fn summary(&self) -> (String, GroupProgress) {
        let (_, progress) = self.group.now(&self.feed);
        (one_line(&self.group.report().to_string()).into_owned(), progress)
    }

    /// Called when the group is gone, perhaps because a writer has panicked, which would do so again.
    pub(crate) fn finish(&self) {
        self.feed.close();
        let _ = quietly(|| {
            self.catch_up(None);
            let (summary, progress) = self.summary();
            self.bars.lock().finish(&summary, &progress);
        });
    }
}

/// Draws a group while one of its tasks runs inside the poll.
impl Observer<ProgressState> for Shown {
    fn show(&mut self, _old: &ProgressState, _new: &ProgressState) {
        self.catch_up_within();
    }

    fn takes_lines(&self) -> bool {
        true
    }

    /// The group has got the line as well.
    fn say(&mut self, _line: &Line) {
        self.catch_up_within();
    }
}

#[cfg(test)]
mod tests {
    use super::Shown;
    use crate::error::TaskErrorKind;
    use crate::group::bars::GroupBars;
    use crate::group::bars::target::Target;
    use crate::group::progress::GroupProgress;
    use crate::group::state::GroupState;
    use crate::group::tally::Unit;
    use crate::task::details::Details;
    use crate::task::{idle, transitions};
    use indicatif::{MultiProgress, ProgressDrawTarget};

    fn text(bars: &GroupBars) -> String {
        let Target::Others(others) = &bars.lock().target else { panic!("it is drawn elsewhere") };
        others.shown.clone()
    }

    /// The program may have written below it.
    #[test]
    fn only_another_task_takes_the_place_of_the_summary() {
        let bars = GroupBars::on(MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), 10);
        let group = GroupState::new(Unit::OfTasks);
        group.know(std::iter::empty());
        let shown = Shown::new(&group, bars.clone());
        // Something that was stored before, and is noticed only now, when the next frame is due.
        let catch_up_late = || {
            shown.feed.set(GroupProgress::default());
            bars.lock().drawn_at = None;
            shown.catch_up(None);
        };
        for tasks in 1..3 {
            let task = idle::started(Details::default());
            let entry = group.add(|| task.clone(), 0);
            catch_up_late();
            assert!(text(&bars).contains("total"), "{}", text(&bars));
            transitions::refuse(&task, TaskErrorKind::TimedOut, None);
            group.note_ended(&task, &entry);
            bars.lock().rested = None;
            shown.rest();
            let summary = text(&bars);
            assert!(summary.contains(&format!("{tasks} ended:")), "{summary}");
            catch_up_late();
            assert_eq!(text(&bars), summary);
        }
    }
}
