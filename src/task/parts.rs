//! What a task has handed out of its own work: parts to functions that count for themselves, and a count that several
//! threads share.
//!
//! ```text
//!  own count:   ├──── done before ────┤── units of the part ──┤
//!  the part:                          ├─── 30 % ───┤░░░░░░░░░░┤   still to be done there, and taken off
//!  shown:       ├──────────────────────────────────┤
//! ```
//!
//! The parent counts the units of a part at once, and each reading takes off what the part has not done yet. So a part
//! that is complete leaves nothing behind, on whichever thread it was dropped, and the parent remains the only writer
//! of its own count.
//!
//! A part knows neither its parent nor its task: the updater that counts in it does, and takes it out of its parent
//! when dropped.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::progress::PartState;
use crate::sync::stripes::Stripes;
use crate::task::counts::{Counts, Reading, UNKNOWN, known};
use crate::task::remote::{Position, beginning};

/// How many named parts are shown, and how many bytes of each name: snapshots must be small, as they are made often.
const MOST_NAMED: usize = 16;
const LONGEST_NAME: usize = 256;

/// How many levels of parts are looked at: more might overflow the reader's stack.
const LEVELS: usize = 64;

impl From<Reading> for Position {
    fn from(Reading { n, total }: Reading) -> Self {
        Self { n, total, part: 0.0 }
    }
}

/// What was handed out of one count.
#[derive(Default)]
pub(crate) struct Parts {
    /// In the order in which they were handed out, which is that of their keys.
    under_way: Vec<Arc<Part>>,
    handed_out: u64,
    /// How many of them earlier items have handed out.
    of_others: u64,
    shared: Option<Arc<Stripes>>,
    /// The total that one of the threads sharing the count has set last; it replaces that of the count.
    pub(crate) shared_total: Option<u64>,
}

/// A part of a count, with a count of its own.
pub(crate) struct Part {
    pub(crate) counts: Counts,
    parts: Mutex<Parts>,
    units: u64,
    name: OnceLock<Arc<str>>,
    /// Its number among the parts of its parent.
    key: u64,
}

impl Parts {
    /// How far `counts` has come, whose parts these are.
    pub(crate) fn position(&self, counts: &Counts) -> Position {
        self.position_within(LEVELS, counts)
    }

    fn position_within(&self, levels: usize, counts: &Counts) -> Position {
        let mut position = Position::from(counts.read());
        position.n = position.n.wrapping_add(self.shared());
        position.total = self.shared_total.unwrap_or(position.total);
        if self.under_way.is_empty() {
            return position;
        }
        let (mut n, mut part) = (i128::from(position.n), 0.0);
        for child in &self.under_way {
            let (whole, rest) = child.done(levels);
            n -= i128::from(child.units - whole);
            part += rest;
        }
        n += part as i128;
        if n < 0 {
            // More was taken off than there is: the count was set back meanwhile.
            return Position { n: 0, ..position };
        }
        Position { n: u64::try_from(n).unwrap_or(u64::MAX), part: part.fract(), ..position }
    }

    /// The parts under way that have a name, each followed by its own.
    pub(crate) fn named(&self) -> Vec<PartState> {
        let mut named = Vec::new();
        self.add_named(LEVELS, 0, &mut named);
        named
    }

    /// `depth` is the number of named parts that these are nested in.
    fn add_named(&self, levels: usize, depth: u8, named: &mut Vec<PartState>) {
        let Some(below) = levels.checked_sub(1) else { return };
        for child in &self.under_way {
            if named.len() == MOST_NAMED {
                return;
            }
            let parts = child.lock();
            let Some(name) = child.name.get() else {
                parts.add_named(below, depth, named);
                continue;
            };
            let Position { n, total, part } = parts.position_within(below, &child.counts);
            named.push(PartState { name: name.clone(), n, total: known(total), part, depth });
            parts.add_named(below, depth.saturating_add(1), named);
        }
    }

    /// Hands out a part worth `units`, or what is left if that is less.
    pub(crate) fn hand_out(&mut self, counts: &Counts, units: u64) -> Arc<Part> {
        let Reading { n, total } = counts.read();
        let counted = n.wrapping_add(self.shared());
        let total = self.shared_total.unwrap_or(total);
        // With an unknown total, everything that can be counted is left.
        let units = units.min(total.saturating_sub(counted));
        self.handed_out += 1;
        let key = self.handed_out;
        let part = Arc::new(Part { counts: Counts::new(), parts: Mutex::default(), units, name: OnceLock::new(), key });
        self.under_way.push(part.clone());
        // A reader that sees the new count also sees that there are details, and looks for the parts in them.
        fence(Ordering::Release);
        counts.counter().advance(units);
        part
    }

    /// Takes back a part that has ended, which makes it complete. The caller drops it without the lock.
    pub(crate) fn take_back(&mut self, part: &Part) -> Option<Arc<Part>> {
        let found = self.under_way.binary_search_by_key(&part.key, |part| part.key).ok()?;
        Some(self.under_way.remove(found))
    }

    /// The count that several threads share, made if there is none yet.
    pub(crate) fn share(&mut self) -> Arc<Stripes> {
        let shared = self.shared.get_or_insert_with(|| Arc::new(Stripes::new())).clone();
        // As above, for the positions that are set from now on.
        fence(Ordering::Release);
        shared
    }

    /// Whether nothing is handed out.
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.shared.is_none()
    }

    /// Forgets what was handed out, which counts no longer. Keys are not used again.
    pub(crate) fn clear(&mut self) {
        *self = Self { handed_out: self.handed_out, of_others: self.of_others, ..Self::default() };
    }

    /// From now on, another item hands out parts.
    pub(crate) fn begin_item(&mut self) {
        self.of_others = self.handed_out;
    }

    /// Whether the current item has handed out the part.
    pub(crate) fn have_handed_out(&self, part: &Part) -> bool {
        part.key > self.of_others
    }

    /// Whether this is the count that is shared now.
    pub(crate) fn share_in(&self, stripes: &Arc<Stripes>) -> bool {
        self.shared.as_ref().is_some_and(|shared| Arc::ptr_eq(shared, stripes))
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// What the threads that share this count have counted.
    pub(crate) fn shared(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.sum())
    }

    /// Adds the shared count to `counts`, if no thread can add to it any more. Returns whether nothing is shared now.
    /// Only the thread that counts calls this.
    pub(crate) fn unshare(&mut self, counts: &Counts) -> bool {
        // If this is the last reference, nothing can make another.
        if let Some(shared) = self.shared.take_if(|shared| Arc::get_mut(shared).is_some()) {
            counts.counter().advance(shared.sum());
            self.shared_total.take().into_iter().for_each(|total| counts.set_total(total));
        }
        self.shared.is_none()
    }
}

impl Part {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it a name, if it has none.
    pub(crate) fn set_name(&self, name: &str) {
        self.name.get_or_init(|| beginning(name, LONGEST_NAME).into());
    }

    /// How many of its units are done. A part too far down to be looked at counts as not begun.
    fn done(&self, levels: usize) -> (u64, f64) {
        let Some(below) = levels.checked_sub(1) else { return (0, 0.0) };
        let Position { n, total, part } = self.lock().position_within(below, &self.counts);
        if total == UNKNOWN {
            return (0, 0.0);
        }
        if n >= total {
            return (self.units, 0.0);
        }
        let done = u128::from(self.units) * u128::from(n);
        let (whole, rest) = (done / u128::from(total), done % u128::from(total));
        let part = (rest as f64 + self.units as f64 * part) / total as f64;
        // Less than all of them, as `n` is less than `total`.
        let whole = whole as u64 + part as u64;
        if whole < self.units { (whole, part.fract()) } else { (self.units, 0.0) }
    }
}
