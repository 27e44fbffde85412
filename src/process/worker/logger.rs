//! A logger whose records go to the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record, set_boxed_logger, set_max_level};

use crate::process::protocol::wire::Reply;
use crate::process::worker::forward::Outlet;
use crate::task::remote::{RemoteLog, beginning};

/// Longer records are cut off.
const LONGEST_RECORD: usize = 64 << 10;

/// Levels from 1 for errors to 5 for traces, as they are sent.
fn filter(level: u8) -> LevelFilter {
    LevelFilter::iter().nth(level.into()).unwrap_or(LevelFilter::Trace)
}

/// Sends records of this level, or of a lower one, to the program from now on. A logger that `main` has set before
/// stays.
pub(super) fn install(level: u8, outlet: Arc<Outlet>) {
    let relayed = Relayed { level: filter(level), outlet, dropped: AtomicU64::new(0) };
    if level > 0 && set_boxed_logger(Box::new(relayed)).is_ok() {
        set_max_level(filter(level));
    }
}

struct Relayed {
    level: LevelFilter,
    outlet: Arc<Outlet>,
    /// How many records there was no room for since the last that was sent.
    dropped: AtomicU64,
}

impl Relayed {
    /// Sends a record. If there is no room, it is dropped, which is reported later.
    fn send(&self, level: Level, target: &str, text: &str) {
        let channel = &self.outlet.channel;
        // Whatever is logged while it is held waits; nothing is that is logged by it.
        let id = self.outlet.current().map_or(0, |(_, run)| run);
        if channel.is_full() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut outbox = channel.outbox();
        let mut reply = |level: Level, target: &str, text: &str| {
            let [target, text] = [target, text].map(|text| beginning(text, LONGEST_RECORD).to_owned());
            outbox.reply(Reply::Log { id, log: RemoteLog { level: level as u8, target, text } });
        };
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let text = format!("{dropped} records were dropped: there was no room for them");
            reply(Level::Warn, env!("CARGO_CRATE_NAME"), &text);
        }
        reply(level, target, text);
        drop(outbox);
        self.outlet.send_off();
    }
}

impl Log for Relayed {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.send(record.level(), record.target(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}
