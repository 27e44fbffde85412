//! A bar that the terminal draws.

use std::env;
use std::io::{IsTerminal, Stderr, Write, stderr};

use crate::bars::out::Out;
use crate::future::bar::ProgressBar;
use crate::progress::{ProgressState, Status};

/// A bar that the terminal draws: in its tab, its title or the task bar. It is controlled by the escape sequence OSC 9;4, which
/// comes from ConEmu.
///
/// It shows the fraction that is done, including what [parts](crate::Updater::split) have done, or just that something is going
/// on if the total is unknown; and whether the task is paused. It disappears when the task ends, in whatever way. A terminal
/// has one such bar: of several tasks, the last one to report is seen.
///
/// The sequence moves no cursor and needs no line, so it goes well with other bars. After an error of the writer nothing more
/// is [written](crate::bars#errors).
///
/// # Examples
///
/// ```
/// use progress_executor::{SyncExecutor, Triggers, bars::Taskbar};
///
/// let task = SyncExecutor::new().spawn(|progress| Ok(progress.set_counts(3, 4)?));
/// task.with_bar(Triggers::RUNNING, Taskbar::stderr).wait()?;
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Debug)]
pub struct Taskbar<W> {
    out: Out<W>,
    shown: Shown,
}

/// What the terminal shows. The numbers are percentages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    Percent(u8),
    Activity,
    Paused(u8),
}

impl Taskbar<Stderr> {
    /// On standard error, if that is a terminal that is known to draw such a bar. Otherwise nothing is written: some
    /// terminals take the sequence for a message to their user.
    #[must_use]
    pub fn stderr() -> Self {
        let is_known = stderr().is_terminal() && draws_it(|variable| env::var(variable).ok());
        Self { out: if is_known { Out::new(stderr()) } else { Out::nowhere() }, shown: Shown::Nothing }
    }
}

impl<W: Write> Taskbar<W> {
    /// On any terminal, whether or not it is known to draw such a bar.
    pub fn new(out: W) -> Self {
        Self { out: Out::new(out), shown: Shown::Nothing }
    }

    fn show(&mut self, shown: Shown) {
        if std::mem::replace(&mut self.shown, shown) == shown {
            return;
        }
        let (state, percent) = match shown {
            Shown::Nothing => (0, 0),
            Shown::Percent(percent) => (1, percent),
            Shown::Activity => (3, 0),
            Shown::Paused(percent) => (4, percent),
        };
        self.out.say(&format!("\x1b]9;4;{state};{percent}\x1b\\"));
    }
}

impl<W: Write + Send> ProgressBar for Taskbar<W> {
    fn update(&mut self, state: &ProgressState) {
        self.show(match (state.status, state.percent()) {
            (Status::Paused, percent) => Shown::Paused(percent.unwrap_or_default()),
            (_, Some(percent)) => Shown::Percent(percent),
            (_, None) => Shown::Activity,
        });
    }

    fn finish(&mut self, _state: &ProgressState) {
        self.show(Shown::Nothing);
    }
}

/// Whether the terminal that set these variables draws the bar.
fn draws_it(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is = |name, value| variable(name).is_some_and(|it| it == value);
    // iTerm2 lists its features as letters with numbers: P stands for progress bars.
    let iterm_can = || variable("TERM_FEATURES").is_some_and(|features| features.contains('P'));
    variable("WT_SESSION").is_some()
        || is("ConEmuANSI", "ON")
        || is("TERM_PROGRAM", "WezTerm")
        || is("TERM_PROGRAM", "ghostty")
        || is("TERM_PROGRAM", "iTerm.app") && iterm_can()
}

#[cfg(test)]
mod tests {
    use super::{Taskbar, draws_it};
    use crate::future::bar::ProgressBar;
    use crate::progress::{ProgressState, Status};

    fn state(status: Status, n: u64, total: Option<u64>) -> ProgressState {
        ProgressState { n, total, status, ..ProgressState::INITIAL }
    }

    #[test]
    fn what_changes_is_shown_once() {
        let mut screen = Vec::new();
        let mut bar = Taskbar::new(&mut screen);
        bar.update(&state(Status::Running, 0, None));
        bar.update(&state(Status::Running, 7, None));
        bar.update(&state(Status::Running, 501, Some(1000)));
        bar.update(&state(Status::Running, 509, Some(1000)));
        bar.update(&state(Status::Paused, 510, Some(1000)));
        bar.update(&state(Status::Cancelling, 2000, Some(1000)));
        bar.finish(&state(Status::Failed, 2000, Some(1000)));
        let screen = String::from_utf8(screen).unwrap();
        let sequences: Vec<_> = screen.split_terminator("\x1b\\").map(|it| it.strip_prefix("\x1b]9;4;")).collect();
        assert_eq!(sequences, [Some("3;0"), Some("1;50"), Some("4;51"), Some("1;100"), Some("0;0")]);
    }

    #[test]
    fn a_bar_that_has_shown_nothing_has_nothing_to_take_away() {
        let mut screen = Vec::new();
        Taskbar::new(&mut screen).finish(&state(Status::Cancelled, 0, None));
        assert!(screen.is_empty());
    }

    #[test]
    fn terminals_that_draw_it_are_known() {
        let draws = |variables: &[(&str, &str)]| {
            draws_it(|name| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(
            draws(&[("WT_SESSION", "")]) && draws(&[("ConEmuANSI", "ON")]) && draws(&[("TERM_PROGRAM", "ghostty")])
        );
        assert!(!draws(&[]) && !draws(&[("ConEmuANSI", "OFF")]) && !draws(&[("TERM_PROGRAM", "Apple_Terminal")]));
        assert!(draws(&[("TERM_PROGRAM", "iTerm.app"), ("TERM_FEATURES", "T3CwLrMSc7UUw9Ts3BFGsSyHNoSxFP")]));
        assert!(!draws(&[("TERM_PROGRAM", "iTerm.app"), ("TERM_FEATURES", "T3CwLrMSc7UUw9Ts3BFGsSyHNoSxF")]));
    }
}
