//! Lines that tasks print: how they wait to be shown, and where they go when nobody shows them.
//!
//! A task that prints more than can be shown is not held up, nor does it take more and more memory: lines for which
//! there is no room are dropped, and a line in their place says how many.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::human::Counted;
use crate::id::TaskId;
use crate::task::remote::beginning;

/// At most this many lines wait to be shown, with at most this many bytes.
pub(crate) const MOST_LINES: usize = 1000;
const MOST_BYTES: usize = 1 << 20;
/// Longer lines are cut off.
const LONGEST_LINE: usize = 64 << 10;

/// A line that a task has printed.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) task: TaskId,
    pub(crate) text: Arc<str>,
    /// How many lines it stands for: more than one only if it tells of dropped ones.
    stands_for: u64,
    /// Where it was shown, shared by all clones.
    targets: Arc<Mutex<Vec<LineTarget>>>,
}

/// Where lines are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineTarget {
    StandardError,
    /// Bars that write elsewhere, by their address.
    #[cfg(feature = "indicatif")]
    Bars(usize),
}

impl Line {
    /// A line of this text, cut off if it is too long.
    pub(crate) fn new(task: TaskId, text: &str) -> Self {
        Self { task, text: beginning(text, LONGEST_LINE).into(), stands_for: 1, targets: Arc::default() }
    }

    /// A line that stands for dropped ones.
    fn of_dropped(task: TaskId, dropped: u64) -> Self {
        let lines = Counted(dropped, ["line was", "lines were"]);
        let text = format!("({lines} dropped here: there was no room for more)").into();
        Self { task, text, stands_for: dropped, targets: Arc::default() }
    }

    /// Whether it still has to be shown there; only the first to ask gets `true`: a task and its group may both have
    /// bars on one screen.
    pub(crate) fn claim_for(&self, target: LineTarget) -> bool {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !targets.contains(&target);
        if is_new {
            targets.push(target);
        }
        is_new
    }

    /// Writes it to standard error, unless that was done before.
    pub(crate) fn write_to_stderr(&self) {
        self.show_with(write_to_stderr);
    }

    /// Has `show` show it. If that [writes it to standard error](write_to_stderr), it is written there only once.
    pub(crate) fn show_with(&self, show: impl FnOnce(&str)) {
        /// Restores the previous line, even if `show` panics.
        struct Restore(Option<Line>);
        impl Drop for Restore {
            fn drop(&mut self) {
                set_shown_now(self.0.take());
            }
        }
        let _restore = Restore(set_shown_now(Some(self.clone())));
        show(&self.text);
    }
}

/// The room that waiting lines take.
#[derive(Debug, Default)]
pub(crate) struct Room {
    lines: usize,
    bytes: usize,
    /// The task of the last line that was dropped, and how many were.
    dropped: Option<(TaskId, u64)>,
    is_closed: bool,
}

impl Room {
    /// Returns the lines that will wait: this one, after one that tells of those dropped before it; or none.
    pub(crate) fn admit(&mut self, line: Line) -> impl Iterator<Item = Line> + use<> {
        let is_full = self.is_closed || self.lines >= MOST_LINES || self.bytes + line.text.len() > MOST_BYTES;
        let admitted = if is_full {
            let dropped = self.dropped.map_or(0, |(_, dropped)| dropped);
            self.dropped = Some((line.task, dropped + line.stands_for));
            [None, None]
        } else {
            [self.take_dropped(), Some(line)]
        };
        for line in admitted.iter().flatten() {
            self.lines += 1;
            self.bytes += line.text.len();
        }
        admitted.into_iter().flatten()
    }

    /// Frees the room of a line that waits no longer.
    pub(crate) fn release(&mut self, line: &Line) {
        self.lines -= 1;
        self.bytes -= line.text.len();
    }

    /// Takes the line that tells of those dropped since the last that waits.
    pub(crate) fn take_dropped(&mut self) -> Option<Line> {
        self.dropped.take().map(|(task, dropped)| Line::of_dropped(task, dropped))
    }

    pub(crate) fn has_dropped(&self) -> bool {
        self.dropped.is_some()
    }
}

/// Lines that wait to be shown.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    lines: VecDeque<Line>,
    room: Room,
}

impl Backlog {
    pub(crate) fn push(&mut self, line: Line) {
        self.lines.extend(self.room.admit(line));
    }

    pub(crate) fn pop(&mut self) -> Option<Line> {
        let line = self.lines.pop_front();
        line.inspect(|line| self.room.release(line)).or_else(|| self.room.take_dropped())
    }

    /// Has no room from now on.
    pub(crate) fn close(&mut self) {
        self.room.is_closed = true;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Something to be shown.
#[derive(Debug)]
pub(crate) enum News<S> {
    Snapshot(S),
    Line(Line),
}

/// What will be shown next, in order, where the observed task or group is polled: lines, and the newest of the
/// snapshots between two lines.
#[derive(Debug)]
pub(crate) struct Feed<S> {
    waiting: Mutex<Waiting<S>>,
    takes_lines: AtomicBool,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Waiting<S> {
    news: VecDeque<News<S>>,
    room: Room,
}

impl<S> Feed<S> {
    /// A feed that takes no lines yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::new(Waiting { news: VecDeque::new(), room: Room::default() }),
            takes_lines: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Takes lines from now on.
    pub(crate) fn take_lines(&self) {
        self.takes_lines.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, snapshot: S) {
        let mut waiting = self.lock();
        match waiting.news.back_mut() {
            Some(News::Snapshot(newest)) => *newest = snapshot,
            _ => waiting.news.push_back(News::Snapshot(snapshot)),
        }
    }

    /// Puts in the current snapshot instead of all that wait: somebody may have been shown a newer one than these.
    pub(crate) fn renew(&self, snapshot: S) {
        let mut waiting = self.lock();
        waiting.news.retain(|news| matches!(news, News::Line(_)));
        waiting.news.push_back(News::Snapshot(snapshot));
    }

    pub(crate) fn takes_lines(&self) -> bool {
        self.takes_lines.load(Ordering::Relaxed) && self.is_open()
    }

    pub(crate) fn say(&self, line: &Line) {
        let Waiting { news, room } = &mut *self.lock();
        news.extend(room.admit(line.clone()).map(News::Line));
    }

    /// The lines that wait to be shown.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let waiting = self.lock();
        let lines = waiting.news.iter().filter_map(|news| if let News::Line(line) = news { Some(line) } else { None });
        lines.cloned().collect()
    }

    /// Takes what will be shown next.
    pub(crate) fn next(&self) -> Option<News<S>> {
        let Waiting { news, room } = &mut *self.lock();
        let next = news.pop_front();
        match &next {
            Some(News::Line(line)) => room.release(line),
            Some(News::Snapshot(_)) => {}
            None => return room.take_dropped().map(News::Line),
        }
        next
    }

    /// How many things wait to be shown.
    pub(crate) fn len(&self) -> usize {
        let waiting = self.lock();
        waiting.news.len() + usize::from(waiting.room.has_dropped())
    }

    /// Notes that nothing more will be taken.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<S>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows a line above the bars on standard error; returns whether there are any.
type ShowAbove = fn(&str) -> bool;

static ABOVE_BARS: OnceLock<ShowAbove> = OnceLock::new();

/// Has lines for standard error shown above the bars there.
#[cfg(feature = "indicatif")]
pub(crate) fn keep_off_bars(show: ShowAbove) {
    let _ = ABOVE_BARS.set(show);
}

thread_local! {
    /// The line that this thread is showing right now.
    static SHOWN_NOW: RefCell<Option<Line>> = const { RefCell::new(None) };
}

/// Returns the previous one. A thread that is about to end has none.
fn set_shown_now(line: Option<Line>) -> Option<Line> {
    SHOWN_NOW.try_with(|now| now.replace(line)).ok().flatten()
}

fn is_shown_now(text: &str) -> bool {
    let is_shown = |line: &Line| *line.text == *text && !line.claim_for(LineTarget::StandardError);
    SHOWN_NOW.try_with(|now| now.borrow().as_ref().is_some_and(is_shown)).unwrap_or(false)
}

/// Writes a line that nothing else shows to standard error.
pub(crate) fn write_to_stderr(line: &str) {
    if is_shown_now(line) {
        return;
    }
    if !ABOVE_BARS.get().is_some_and(|show| show(line)) {
        // In one write, so that lines of several threads do not mix. An error only means that nobody reads it.
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

/// How many bytes of `line` are whole characters; the rest of the last one may follow later.
#[cfg(any(feature = "indicatif", feature = "processes"))]
pub(crate) fn whole_characters(line: &[u8]) -> usize {
    line.len() - line.utf8_chunks().last().map_or(0, |last| last.invalid().len())
}

#[cfg(test)]
mod tests {
    use super::{Feed, Line, MOST_LINES, News};
    use crate::id::TaskId;

    fn told<S: std::fmt::Debug>(feed: &Feed<S>) -> Vec<String> {
        std::iter::from_fn(|| feed.next())
            .map(|news| match news {
                News::Snapshot(snapshot) => format!("{snapshot:?}"),
                News::Line(line) => line.text.to_string(),
            })
            .collect()
    }

    #[test]
    fn lines_and_snapshots_keep_their_order_and_only_the_newest_snapshot_waits() {
        let (feed, task) = (Feed::new(), TaskId::next());
        assert!(!feed.takes_lines());
        feed.take_lines();
        assert!(feed.takes_lines());
        feed.set(1);
        feed.set(2);
        feed.say(&Line::new(task, "two"));
        feed.set(3);
        feed.say(&Line::new(task, "three"));
        assert_eq!(told(&feed), ["2", "two", "3", "three"]);
        feed.close();
        assert!(!feed.takes_lines());
    }

    #[test]
    fn lines_that_there_is_no_room_for_are_counted_in_their_place() {
        let (feed, task) = (Feed::<()>::new(), TaskId::next());
        let say = |count: usize| (0..count).for_each(|_| feed.say(&Line::new(task, "x")));
        say(MOST_LINES + 7);
        assert!(matches!(feed.next(), Some(News::Line(_))));
        say(3);
        assert!(feed.len() > 0);
        let told = told(&feed);
        let notices: Vec<_> = told.iter().enumerate().filter(|(_, line)| *line != "x").collect();
        let notice = |lines: u64| Line::of_dropped(task, lines).text.to_string();
        assert_eq!(notices, [(MOST_LINES - 1, &notice(7)), (MOST_LINES + 1, &notice(2))]);
        assert_eq!(feed.len(), 0);
    }

    #[test]
    fn long_lines_take_no_more_memory_than_there_is_for_lines() {
        let (feed, task) = (Feed::<()>::new(), TaskId::next());
        let long = "x".repeat(10 << 20);
        (0..100).for_each(|_| feed.say(&Line::new(task, &long)));
        assert!(told(&feed).iter().map(String::len).sum::<usize>() <= super::MOST_BYTES + 100);
    }
}
