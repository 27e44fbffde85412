//! An input of a map.

use std::fs;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use progress_executor::{ExecutorExt, GroupHandle, Map};

use crate::case::{Case, Times, same};
use crate::course::{Site, Subject};
use crate::documented::{Event, Outcome};
use crate::part::{End, GO, Kind, Part, Stage, play};
use crate::support::NewFile;

struct Input {
    handle: GroupHandle,
    inputs: usize,
    /// The map has asked for more.
    is_submitted: Arc<AtomicBool>,
}

impl Subject for Input {
    fn handle(&self) -> &GroupHandle {
        &self.handle
    }

    fn is_submitted(&self) -> bool {
        self.is_submitted.load(Ordering::SeqCst)
    }

    fn cancel(&self) {
        self.handle.cancel();
    }

    fn is_asked_to_end(&self) -> bool {
        self.handle.progress().cancelling == 1 || self.is_over()
    }

    fn is_paused(&self) -> bool {
        self.handle.progress().paused == 1
    }

    fn is_over(&self) -> bool {
        self.handle.progress().ended() == self.inputs
    }

    fn happens(&mut self, event: Event) {
        unreachable!("{event:?} of a map");
    }
}

impl Case {
    /// A map has no deadline, and its inline tasks do not exist before it is polled.
    pub(crate) fn can_be_in_map(&self) -> bool {
        let is_of_group = [Event::Deadline, Event::OtherFails, Event::Drop].into_iter().any(|event| self.has(event));
        !is_of_group && (self.kind != Kind::Inline || self.stage != Stage::Waits)
    }

    /// With a limit, each input is a task of its own.
    pub(crate) fn can_be_in_chunk(&self) -> bool {
        self.can_be_in_map() && !self.has(Event::TimeOut) && !self.has(Event::Stall)
    }

    /// Plays the case as an input behind this many others of its chunk. The error says what differs from the
    /// documentation.
    pub(crate) fn play_in_map(&self, others: usize) -> Result<(), String> {
        let (site, ready) = (Site::new(self), NewFile::new());
        fs::write(ready.path(), GO).unwrap();
        let other = Part::new(Stage::Waits, End::Returns, &NewFile::new(), &ready, &ready);
        let mut inputs = vec![other; others];
        inputs.push(site.part(self));
        let (submitted, count) = (Instant::now(), inputs.len());
        let is_submitted = Arc::new(AtomicBool::new(false));
        let asked_for_more = is_submitted.clone();
        let inputs = inputs.into_iter().chain(iter::from_fn(move || {
            asked_for_more.store(true, Ordering::SeqCst);
            None
        }));
        let executor = site.pool.executor();
        let mut map: Map<'_, _, u32> = executor.map(play, inputs).chunks(count).buffer(2).retries(self.retries());
        for (event, limit) in self.limits() {
            map = match event {
                Event::TimeOut => map.timeout(limit),
                Event::Stall => map.stall_timeout(limit),
                _ => map,
            };
        }
        let mut input = Input { handle: map.handle(), inputs: count, is_submitted };
        let poll = move || map.blocking().last();
        let Some((found, documented)) = site.play(self, &mut input, poll) else { return Ok(()) };
        let times = Times { over_after: submitted.elapsed(), stood_still: documented.stood_still };
        let (expected, _) = documented.in_the_end(self.end);
        let found = found.ok_or("there is no outcome")?;
        if self.is_late(&found, &expected, times) {
            return Ok(());
        }
        same("the outcome", &Outcome::from(found), &expected)
    }
}
