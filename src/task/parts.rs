//! What a task has handed out of its own work: parts to functions that count for themselves, and a count that several
//! threads share.
//!
//! ```text
//!  own count:   ├──── done before ────┤── units of the part ──┤
//!  the part:                          ├─── 30 % ───┤░░░░░░░░░░┤   still to be done there, and taken off
//!  shown:       ├──────────────────────────────────┤
//! ```
//!
//! The units of a part are counted by its parent at once, and what the part has not done yet is taken off again whenever
//! somebody looks. So a part that is complete leaves nothing behind, on whichever thread it was dropped, and the parent
//! stays the only one who writes its own count.

use std::collections::BTreeMap;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sync::stripes::Stripes;
use crate::task::TaskRef;
use crate::task::counts::{Counts, Reading, UNKNOWN};

/// How far something has come: what was counted, and the part of the next unit that is done, from 0 to less than 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) reading: Reading,
    pub(crate) part: f64,
}

/// What was handed out of one count.
#[derive(Default)]
pub(crate) struct Parts {
    under_way: BTreeMap<u64, Arc<Part>>,
    handed_out: u64,
    shared: Option<Arc<Stripes>>,
}

/// A part of a count, with a count of its own.
pub(crate) struct Part {
    pub(crate) task: TaskRef,
    pub(crate) counts: Counts,
    pub(crate) parts: Mutex<Parts>,
    units: u64,
    /// Which one it is among the parts of its parent.
    key: u64,
    parent: Option<Arc<Part>>,
}

impl Parts {
    /// How far a count has come of which these are the parts.
    pub(crate) fn position(&self, counts: &Counts) -> Position {
        let mut reading = counts.read();
        if let Some(shared) = &self.shared {
            reading.n = reading.n.wrapping_add(shared.sum());
        }
        if self.under_way.is_empty() {
            return Position { reading, part: 0.0 };
        }
        let (mut n, mut part) = (i128::from(reading.n), 0.0);
        for child in self.under_way.values() {
            let (whole, rest) = child.done();
            n -= i128::from(child.units - whole);
            part += rest;
        }
        // There may be less than was taken off, if the count was set back meanwhile.
        n = (n + part as i128).max(0);
        reading.n = u64::try_from(n).unwrap_or(u64::MAX);
        Position { reading, part: part.fract() }
    }

    /// Hands out a part worth `units`, but no more than are left.
    fn hand_out(&mut self, counts: &Counts, units: u64, task: TaskRef, parent: Option<Arc<Part>>) -> Arc<Part> {
        let Reading { n, total, .. } = counts.read();
        let counted = self.shared.as_ref().map_or(n, |shared| n.wrapping_add(shared.sum()));
        let units = if total == UNKNOWN { units } else { units.min(total.saturating_sub(counted)) };
        self.handed_out += 1;
        let key = self.handed_out;
        let part = Arc::new(Part { task, counts: Counts::new(), parts: Mutex::default(), units, key, parent });
        self.under_way.insert(key, part.clone());
        // Whoever sees the count sees the board too.
        fence(Ordering::Release);
        counts.advance(units);
        part
    }

    /// The count that several threads share, made if there is none yet.
    fn share(&mut self) -> Arc<Stripes> {
        let shared = self.shared.get_or_insert_with(|| Arc::new(Stripes::new())).clone();
        // As above, for the positions that are set from now on.
        fence(Ordering::Release);
        shared
    }

    /// What the threads that share this count have counted.
    pub(crate) fn shared(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.sum())
    }
}

impl Part {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of its units are done.
    fn done(&self) -> (u64, f64) {
        let Position { reading: Reading { n, total, .. }, part } = self.lock().position(&self.counts);
        if total == UNKNOWN {
            return (0, 0.0);
        }
        if n >= total {
            return (self.units, 0.0);
        }
        let done = u128::from(self.units) * u128::from(n);
        let (whole, rest) = (done / u128::from(total), done % u128::from(total));
        let part = (rest as f64 + self.units as f64 * part) / total as f64;
        // Less than all of them, for `n` is less than `total`.
        let whole = whole as u64 + part as u64;
        if whole < self.units { (whole, part.fract()) } else { (self.units, 0.0) }
    }
}

/// Where a count is kept: in the task itself, or in a part of it.
#[derive(Clone, Copy)]
pub(crate) enum Count<'a> {
    Task(&'a TaskRef),
    Part(&'a Arc<Part>),
}

impl Count<'_> {
    /// Only the one who counts calls this.
    pub(crate) fn split(self, units: u64) -> Arc<Part> {
        match self {
            Self::Task(task) => task.core.board().ledger().parts.hand_out(&task.core.counts, units, task.clone(), None),
            Self::Part(part) => part.lock().hand_out(&part.counts, units, part.task.clone(), Some(part.clone())),
        }
    }

    pub(crate) fn share(self) -> Arc<Stripes> {
        match self {
            Self::Task(task) => task.core.board().ledger().parts.share(),
            Self::Part(part) => part.lock().share(),
        }
    }

    /// What the threads that share this count have counted.
    pub(crate) fn shared(self) -> u64 {
        match self {
            Self::Task(task) => task.core.existing_board().map_or(0, |board| board.ledger().parts.shared()),
            Self::Part(part) => part.lock().shared(),
        }
    }
}

/// A part that is over is complete.
pub(crate) fn complete(part: &Part) {
    let removed = match &part.parent {
        None => part.task.core.board().ledger().parts.under_way.remove(&part.key),
        Some(parent) => parent.lock().under_way.remove(&part.key),
    };
    // Without the lock.
    drop(removed);
}
