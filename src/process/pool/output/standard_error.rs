//! What a pool writes to standard error: lines of its tasks, and a single warning if workers do not come.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::process::pool::output::relay::{Relay, is_written_at_once};
use crate::process::pool::scheduler::queries::Counts;
use crate::process::pool::shared::Pool;
use crate::task::lines::{Line, write_to_stderr};

impl Pool {
    /// Writes a line to standard error, or drops it if that would block: the driver must not wait for a reader.
    pub(crate) fn say(&self, line: &str) {
        if is_written_at_once(line) {
            write_to_stderr(line);
        }
    }

    /// Writes a line to standard error: at once if that takes no time, else on the relay's thread.
    pub(crate) fn print(&self, line: Line) {
        let mut state = self.lock();
        let is_behind = state.relay.as_ref().is_some_and(|relay| relay.has_lines());
        if !is_behind && is_written_at_once(&line.text) {
            drop(state);
            return write_to_stderr(&line.text);
        }
        let relay = state.relay.take().or_else(|| self.start_relay().ok());
        state.relay.clone_from(&relay);
        drop(state);
        match relay {
            Some(relay) => relay.print(line),
            None => write_to_stderr(&line.text),
        }
    }

    pub(crate) fn start_relay(&self) -> io::Result<Arc<Relay>> {
        Relay::start(self.launch.output.clone(), self.waiting.clone())
    }

    pub(crate) fn warn(&self) {
        if self.has_warned.swap(true, Ordering::Relaxed) {
            return;
        }
        let launcher = &self.launch.launcher;
        self.say(&if launcher.is_local() {
            "progress-executor: a worker process has not called `TaskRegistry::init` for 3 s; it has to be the first thing \
             that `main` calls"
                .to_owned()
        } else {
            let Counts { wanted, ready, .. } = self.counts();
            format!(
                "progress-executor: {ready} of {wanted} workers have started; the others may wait in a queue (`{launcher}`)"
            )
        });
    }
}
