//! A logger whose records go to the program.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use log::{Level, LevelFilter, Log, Metadata, Record, set_boxed_logger, set_max_level};

use crate::process::protocol::wire::outbox::Outbox;
use crate::process::protocol::wire::{MOST_SAID, Reply};
use crate::process::worker::forward::Outlet;
use crate::task::remote::{RemoteLog, beginning};

/// Longer records are cut off.
const LONGEST_RECORD: usize = 64 << 10;
const _: () = assert!(2 * LONGEST_RECORD as u64 + 1024 < MOST_SAID, "there is room for a record and its target");
/// How many bytes may wait in a full channel before records are dropped.
const MOST_WAITING: usize = 1 << 20;

/// The filter for a level as it is sent: 0 for none, 1 for errors, up to 5 for traces.
fn filter(level: u8) -> LevelFilter {
    LevelFilter::iter().nth(level.into()).unwrap_or(LevelFilter::Trace)
}

/// Sends records of this level, or of a more severe one, to the program from now on. A logger that `main` has set before
/// stays.
pub(super) fn install(level: u8, outlet: Arc<Outlet>) {
    let relayed = Relayed { level: filter(level), outlet };
    if level > 0 && set_boxed_logger(Box::new(relayed)).is_ok() {
        set_max_level(filter(level));
    }
}

struct Relayed {
    level: LevelFilter,
    outlet: Arc<Outlet>,
}

impl Relayed {
    /// Sends a record. If there is no room, drops it; the next record, or the end of the task, reports that.
    fn send(&self, level: Level, target: &str, text: &str) {
        let Outlet { channel, dropped_records, .. } = &*self.outlet;
        // Locked until the record is in the outbox: after the end of the task, it would be out of turn.
        let current = self.outlet.current();
        let id = current.map_or(0, |(_, run)| run);
        let mut outbox = channel.outbox();
        // Being full is not enough: many short records fill the channel with few bytes.
        if channel.is_full() && waiting_in(&outbox) > MOST_WAITING {
            dropped_records.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.outlet.tell_of_dropped(id, &mut outbox);
        let [target, text] = [target, text].map(|text| beginning(text, LONGEST_RECORD).to_owned());
        outbox.reply(Reply::Log { id, log: RemoteLog { level: level as u8, target, text } });
        drop((outbox, current));
        self.outlet.send_off();
    }
}

/// How many bytes the next write would send.
fn waiting_in(outbox: &Outbox) -> usize {
    let (slices, count) = outbox.slices();
    slices[..count].iter().map(|slice| slice.len()).sum()
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

#[cfg(test)]
mod tests {
    use super::{MOST_WAITING, Relayed};
    use crate::id::TaskId;
    use crate::process::protocol::channel::{Channel, Received};
    use crate::process::protocol::wake_pipe::WakePipe;
    use crate::process::protocol::wire::decoder::Decoder;
    use crate::process::protocol::wire::{Ending, Outcome, Reply};
    use crate::process::worker::forward::Outlet;
    use crate::task::remote::RemoteSnapshot;
    use log::{Level, LevelFilter};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    /// A logger, and the channel that its records go to, from which nothing has been read yet.
    fn relayed() -> (Relayed, Channel) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let outlet = Arc::new(Outlet::new(Channel::new(ours).unwrap(), WakePipe::new().unwrap()));
        *outlet.current() = Some((TaskId::next(), 7));
        (Relayed { level: LevelFilter::Trace, outlet }, Channel::new(theirs).unwrap())
    }

    /// All that was sent, up to the end of the task.
    fn read(relayed: &Relayed, channel: &Channel) -> Vec<String> {
        let outcome = Outcome::Error(Ending::Failed, Vec::new());
        relayed.outlet.end(Reply::Ended { id: 7, snapshot: RemoteSnapshot::default(), outcome });
        let (mut decoder, mut texts) = (Decoder::new(1 << 20), Vec::new());
        loop {
            relayed.outlet.channel.send_off();
            assert_eq!(channel.receive(&mut decoder), Received::Some);
            while let Some(reply) = decoder.next_reply().unwrap() {
                match reply {
                    Reply::Log { id: 7, log } => texts.push(log.text),
                    _ => return texts,
                }
            }
        }
    }

    #[test]
    fn more_records_wait_than_the_channel_has_room_for() {
        let (relayed, channel) = relayed();
        let sent: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
        sent.iter().for_each(|text| relayed.send(Level::Info, "test", text));
        assert!(relayed.outlet.channel.is_full(), "all have found room");
        assert_eq!(read(&relayed, &channel), sent);
    }

    #[test]
    fn a_task_does_not_end_between_a_look_at_which_it_is_and_its_record() {
        let (relayed, _channel) = relayed();
        let outlet = relayed.outlet.clone();
        let outbox = outlet.channel.outbox();
        let logging = thread::spawn(move || relayed.send(Level::Info, "test", "from a thread that is left behind"));
        let is_at_it = || outlet.current.try_lock().is_err();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_at_it() && Instant::now() < deadline {
            thread::yield_now();
        }
        assert!((0..1000).all(|_| is_at_it()), "the task could end now");
        drop(outbox);
        logging.join().unwrap();
    }

    #[test]
    fn records_that_there_is_no_room_for_are_told_at_the_end_of_the_task_at_the_latest() {
        let (relayed, channel) = relayed();
        let (long, many) = ("x".repeat(1000), 3 * MOST_WAITING / 1000);
        (0..many).for_each(|_| relayed.send(Level::Info, "test", &long));
        let told = read(&relayed, &channel);
        let last = told.last().unwrap();
        assert_eq!(*last, format!("{} records were dropped: there was no room for more", many + 1 - told.len()));
    }
}
