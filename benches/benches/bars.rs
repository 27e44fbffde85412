//! What bars and a report cost the tasks that they show.

use std::hint::black_box;
use std::io;
use std::time::Instant;

use futures::executor::block_on;
use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};
use progress_executor::{Cancelled, GroupBars, TaskGroup, ThreadPoolExecutor, Updater};
use progress_executor_benches::pools::WORKERS;
use progress_executor_benches::rounds::{Rounds, amount};

/// The steps of all tasks together: enough for the bars to be drawn several times.
const STEPS: usize = 200_000_000;
const ROWS: u16 = 24;

fn main() {
    compare("a step of one of four tasks, shown", 4);
    compare("a step of one of 1,000 tasks, shown", 1_000);
}

fn compare(title: &'static str, tasks: usize) {
    let mut table = Rounds::new(title);
    table.add("to nobody", move || time(tasks, false, false));
    table.add("in a report", move || time(tasks, false, true));
    table.add("by bars", move || time(tasks, true, false));
    table.add("by bars and in a report", move || time(tasks, true, true));
    table.run(amount(20));
}

/// Nanoseconds per step.
fn time(tasks: usize, has_bars: bool, has_report: bool) -> f64 {
    let pool = ThreadPoolExecutor::new(WORKERS);
    let steps = amount(STEPS).div_ceil(tasks);
    let start = Instant::now();
    let mut group = TaskGroup::new();
    let handle = group.handle();
    if has_bars {
        let target = ProgressDrawTarget::term_like(Box::new(Screen));
        group.show(GroupBars::on(MultiProgress::with_draw_target(target), ROWS.into()).columns(80));
    }
    group.extend((0..tasks).map(|_| pool.spawn(move |progress| Ok(count(steps, progress)?))));
    block_on(group.join()).expect("nobody cancels");
    if has_report {
        black_box(handle.report().to_string());
    }
    start.elapsed().as_nanos() as f64 / (steps * tasks) as f64
}

fn count(steps: usize, progress: &Updater) -> Result<(), Cancelled> {
    progress.set_total(steps as u64);
    for step in 0..steps {
        black_box(step);
        progress.update(1)?;
    }
    Ok(())
}

/// A terminal that accepts everything that is drawn, and shows nothing.
#[derive(Debug)]
struct Screen;

impl TermLike for Screen {
    fn width(&self) -> u16 {
        80
    }

    fn height(&self) -> u16 {
        ROWS
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        black_box(line);
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        black_box(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
