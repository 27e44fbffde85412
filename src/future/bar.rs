//! Progress bars: when they are made, and what they are told.

use std::ops::{BitOr, BitOrAssign};

#[cfg(feature = "indicatif")]
use crate::future::text::one_line;
use crate::progress::{ProgressState, Status};
use crate::task::callbacks::Observer;
use crate::task::lines::{Line, write_to_stderr};

/// Something that shows the progress of one task.
///
/// Bars are given to a future with [`add_bar`](crate::ProgressFuture::add_bar), and called where that future is polled.
/// With the feature `indicatif` this is implemented for [`indicatif::ProgressBar`](https://docs.rs/indicatif).
///
/// # Examples
///
/// ```
/// use progress_executor::{ProgressBar, ProgressState, SyncExecutor, Triggers};
///
/// struct Plain;
///
/// impl ProgressBar for Plain {
///     fn update(&mut self, state: &ProgressState) {
///         println!("{} of {:?}", state.n, state.total);
///     }
///     fn finish(&mut self, state: &ProgressState) {
///         println!("{}", state.status);
///     }
/// }
///
/// let task = SyncExecutor::new().spawn(|progress| {
///     for step in progress.iter(0..3) {
///         step?;
///     }
///     Ok(())
/// });
/// task.with_bar(Triggers::RUNNING, || Plain).wait()?;
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
pub trait ProgressBar: Send {
    /// Shows a state that is not the last one.
    fn update(&mut self, state: &ProgressState);

    /// Shows the last state. No method is called after this one.
    ///
    /// The state is [terminal](Status::is_terminal), unless the future was dropped or detached before the task ended.
    fn finish(&mut self, state: &ProgressState);

    /// Shows a line that the task has [printed](crate::Updater::println), whole and without damaging the bar. By default, the
    /// line is written to standard error: once, however many bars the task has.
    fn println(&mut self, line: &str) {
        write_to_stderr(line);
    }
}

impl<B: ProgressBar + ?Sized> ProgressBar for Box<B> {
    fn update(&mut self, state: &ProgressState) {
        (**self).update(state);
    }

    fn finish(&mut self, state: &ProgressState) {
        (**self).finish(state);
    }

    fn println(&mut self, line: &str) {
        (**self).println(line);
    }
}

/// When a bar is made: as soon as one of these has happened. The default is empty, so no bar is made.
///
/// # Examples
///
/// ```
/// use progress_executor::Triggers;
///
/// let triggers = Triggers::RUNNING | Triggers::CANCELLED;
/// assert!(triggers.contains(Triggers::RUNNING));
/// assert!(!triggers.contains(Triggers::NOW));
///
/// let mut chosen = Triggers::default();
/// chosen |= Triggers::NOW;
/// assert_eq!(chosen, Triggers::NOW);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Triggers(u8);

impl Triggers {
    /// At once.
    pub const NOW: Self = Self(1);
    /// The task has started.
    pub const RUNNING: Self = Self(1 << 1);
    /// The task was asked to end, before or after its start.
    pub const CANCELLED: Self = Self(1 << 2);

    /// Whether `self` contains all of `triggers`.
    #[must_use]
    pub const fn contains(self, triggers: Self) -> bool {
        self.0 & triggers.0 == triggers.0
    }

    fn are_reached(self, state: &ProgressState) -> bool {
        // A task that has run took some time.
        let has_run = matches!(state.status, Status::Running | Status::Cancelling) || !state.elapsed.is_zero();
        let is_cancelled = matches!(state.status, Status::Cancelling | Status::Cancelled);
        self.contains(Self::NOW)
            || self.contains(Self::RUNNING) && has_run
            || self.contains(Self::CANCELLED) && is_cancelled
    }
}

impl BitOr for Triggers {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Triggers {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// A bar that is made when it is due.
pub(crate) enum LazyBar<B, F> {
    Waiting(Triggers, Option<F>),
    Made(B),
    Finished,
}

impl<B: ProgressBar, F: FnOnce() -> B> LazyBar<B, F> {
    pub(crate) fn new(triggers: Triggers, make: F) -> Self {
        Self::Waiting(triggers, Some(make))
    }

    /// Makes the bar if it is due; returns whether there is one.
    pub(crate) fn make(&mut self, state: &ProgressState) -> bool {
        if let Self::Waiting(triggers, make) = self {
            if let Some(make) = make.take_if(|_| triggers.are_reached(state)) {
                *self = Self::Made(make());
            }
        }
        matches!(self, Self::Made(_))
    }

    fn finish(&mut self, last: &ProgressState) {
        if let Self::Made(mut bar) = std::mem::replace(self, Self::Finished) {
            bar.finish(last);
        }
    }
}

impl<B: ProgressBar, F: FnOnce() -> B + Send> Observer<ProgressState> for LazyBar<B, F> {
    fn show(&mut self, _old: &ProgressState, new: &ProgressState) {
        self.make(new);
        match self {
            Self::Made(_) if new.status.is_terminal() => self.finish(new),
            Self::Made(bar) => bar.update(new),
            Self::Waiting(..) | Self::Finished => {}
        }
    }

    fn takes_lines(&self) -> bool {
        true
    }

    fn say(&mut self, line: &Line) {
        match self {
            Self::Made(bar) => line.show_with(|text| bar.println(text)),
            _ => line.write_to_stderr(),
        }
    }

    fn leave(&mut self, last: &ProgressState) {
        self.finish(last);
    }
}

/// Shows position, length and message, the message without control characters and colours, which would spoil the bars
/// around it. When the task ends, the bar is finished if the task has a value, and otherwise abandoned where it
/// stands; its `ProgressFinish` plays no part.
///
/// `indicatif::ProgressBar` has methods of its own by these names, so a wrapper has to call
/// `progress_executor::ProgressBar::update(&mut self.0, state)`.
#[cfg(feature = "indicatif")]
impl ProgressBar for indicatif::ProgressBar {
    fn update(&mut self, state: &ProgressState) {
        match state.total {
            Some(total) => self.set_length(total),
            None => self.unset_length(),
        }
        self.set_position(state.n);
        if let Some(message) = state.message.as_deref().map(one_line).filter(|message| self.message() != **message) {
            self.set_message(message.into_owned());
        }
    }

    fn finish(&mut self, state: &ProgressState) {
        ProgressBar::update(self, state);
        match state.status {
            Status::Finished => indicatif::ProgressBar::finish(self),
            _ => self.abandon(),
        }
    }

    fn println(&mut self, line: &str) {
        if self.is_hidden() { write_to_stderr(line) } else { indicatif::ProgressBar::println(self, line) }
    }
}
