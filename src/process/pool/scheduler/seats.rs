//! Seats: which worker has which index, which attempt of that index it is, and on which host.

use std::time::Instant;

use crate::process::pool::scheduler::events::{Seat, WorkerNumber};

/// The seats of a pool. The lowest free index is taken first.
#[derive(Debug)]
pub(super) struct Seats {
    places: Vec<Place>,
    hosts: Vec<Host>,
    /// Where the search for a host begins, so that hosts take turns.
    next_host: usize,
}

#[derive(Clone, Debug, Default)]
struct Place {
    taken: Option<Taken>,
    attempts: u32,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    worker: WorkerNumber,
    seat: Seat,
    since: Instant,
}

#[derive(Clone, Debug, Default)]
struct Host {
    workers: usize,
    /// How many starts in a row have failed there.
    failed: u32,
}

impl Seats {
    /// Seats on this many hosts; for 0, all seats are on one host.
    pub(super) fn new(hosts: usize) -> Self {
        Self { places: Vec::new(), hosts: vec![Host::default(); hosts.max(1)], next_host: 0 }
    }

    /// Gives a worker that is about to be started the first seat that is free.
    pub(super) fn take(&mut self, worker: WorkerNumber, since: Instant) -> Seat {
        let index = self.places.iter().position(|place| place.taken.is_none()).unwrap_or(self.places.len());
        if index == self.places.len() {
            self.places.push(Place::default());
        }
        let host = self.best_host();
        self.hosts[host].workers += 1;
        self.next_host = (host + 1) % self.hosts.len();
        let place = &mut self.places[index];
        let seat = Seat { index, attempt: place.attempts, host };
        place.attempts += 1;
        place.taken = Some(Taken { worker, seat, since });
        seat
    }

    /// The host with the fewest failures in a row, and among those the one with the fewest workers.
    fn best_host(&self) -> usize {
        let count = self.hosts.len();
        let in_turn = (self.next_host..self.next_host + count).map(|host| host % count);
        in_turn.min_by_key(|&host| (self.hosts[host].failed, self.hosts[host].workers)).unwrap_or(0)
    }

    /// Frees the seat of a worker that is gone, or has never arrived.
    pub(super) fn leave(&mut self, worker: WorkerNumber) {
        if let Some(place) = self.places.iter_mut().find(|place| place.is_of(worker)) {
            if let Some(Taken { seat, .. }) = place.taken.take() {
                self.hosts[seat.host].workers -= 1;
            }
        }
    }

    /// Notes that a worker is ready, so that its host works.
    pub(super) fn succeed(&mut self, worker: WorkerNumber) {
        if let Some(Taken { seat, .. }) = self.find(worker) {
            self.hosts[seat.host].failed = 0;
        }
    }

    /// Notes that a worker could not be started, if it still has its seat. Returns when it took the seat.
    pub(super) fn fail(&mut self, worker: WorkerNumber) -> Option<Instant> {
        let Taken { seat, since, .. } = self.find(worker)?;
        self.hosts[seat.host].failed += 1;
        Some(since)
    }

    /// Whether the last start has failed on each host.
    pub(super) fn has_failed_everywhere(&self) -> bool {
        self.hosts.iter().all(|host| host.failed > 0)
    }

    fn find(&self, worker: WorkerNumber) -> Option<Taken> {
        self.places.iter().find(|place| place.is_of(worker))?.taken
    }
}

impl Place {
    fn is_of(&self, worker: WorkerNumber) -> bool {
        self.taken.is_some_and(|taken| taken.worker == worker)
    }
}

#[cfg(test)]
mod tests {
    use super::Seats;
    use std::time::Instant;

    fn hosts(seats: &mut Seats, workers: std::ops::Range<u64>) -> Vec<usize> {
        workers.map(|worker| seats.take(worker, Instant::now()).host).collect()
    }

    #[test]
    fn hosts_are_taken_in_turn_and_have_as_many_workers() {
        let mut seats = Seats::new(3);
        assert_eq!(hosts(&mut seats, 0..7), [0, 1, 2, 0, 1, 2, 0]);
        seats.leave(4);
        let seat = seats.take(7, Instant::now());
        assert_eq!((seat.index, seat.attempt, seat.host), (4, 1, 1));
    }

    #[test]
    fn a_host_on_which_nothing_starts_is_tried_after_the_others() {
        let mut seats = Seats::new(2);
        assert_eq!(hosts(&mut seats, 0..1), [0]);
        seats.fail(0);
        seats.leave(0);
        assert_eq!(hosts(&mut seats, 1..4), [1, 1, 1]);
        seats.fail(1);
        seats.fail(1);
        assert!(seats.has_failed_everywhere());
        assert_eq!(hosts(&mut seats, 4..5), [0]);
        seats.succeed(1);
        assert!(!seats.has_failed_everywhere());
        assert_eq!(hosts(&mut seats, 5..6), [1]);
    }
}
