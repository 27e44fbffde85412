//! Detects that the shell has moved the program to the background, as `bg` does after Ctrl-Z.

/// The state of the program under job control.
#[derive(Debug, Default)]
pub(super) struct JobControl {
    was_in_foreground: bool,
}

impl JobControl {
    /// A program that was never in the foreground does not count: `timeout` and the like give it a process group of
    /// its own, and still leave the terminal to it.
    pub(super) fn is_in_background(&mut self) -> bool {
        let is_in_foreground = is_in_foreground();
        self.was_in_foreground |= is_in_foreground == Some(true);
        self.was_in_foreground && is_in_foreground == Some(false)
    }
}

/// `None` if standard error is not the controlling terminal of the program.
#[cfg(unix)]
fn is_in_foreground() -> Option<bool> {
    let foreground = rustix::termios::tcgetpgrp(std::io::stderr()).ok()?;
    Some(foreground == rustix::process::getpgrp())
}

#[cfg(not(unix))]
fn is_in_foreground() -> Option<bool> {
    None
}
