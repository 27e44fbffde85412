//! A logger whose records go to the program.

use std::sync::Arc;

use log::{LevelFilter, Log, Metadata, Record, set_boxed_logger, set_max_level};

use crate::process::worker::forward::Outlet;

/// Levels from 1 for errors to 5 for traces, as they are sent.
fn filter(level: u8) -> LevelFilter {
    LevelFilter::iter().nth(level.into()).unwrap_or(LevelFilter::Trace)
}

/// Sends records of this level, or of a lower one, to the program from now on. A logger that `main` has set before
/// stays.
pub(super) fn install(level: u8, outlet: Arc<Outlet>) {
    if level > 0 && set_boxed_logger(Box::new(Relayed { level: filter(level), outlet })).is_ok() {
        set_max_level(filter(level));
    }
}

struct Relayed {
    level: LevelFilter,
    outlet: Arc<Outlet>,
}

impl Log for Relayed {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.outlet.log(record.level() as u8, record.target(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}
