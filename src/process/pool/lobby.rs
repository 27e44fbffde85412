//! Connections that have not yet proved to be workers: *guests*. A state machine without I/O: it takes bytes and the
//! time, and says what to do.
//!
//! A guest may send [`OPENING`] and [`CONFIRMATION`] bytes and no more, within [`PATIENCE`]. Only the number of the
//! attempt is interpreted here; [`noise`](crate::process::protocol::noise) verifies the rest. There are at most
//! [`CAPACITY`] guests; other connections wait in the listen queue of the system, where they cost nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::process::protocol::noise::{
    CONFIRMATION, NoiseError, OPENING, Opener, Responder, Sealer, Terms, attempt_of, ephemeral_of,
};

/// How many guests there may be at a time.
pub(crate) const CAPACITY: usize = 64;
/// How long a guest may take to prove that it is a worker.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The number of a guest; never used again.
pub(crate) type GuestId = u64;

#[derive(Default)]
pub(crate) struct Lobby {
    guests: BTreeMap<GuestId, Guest>,
    attempts: HashMap<u64, Attempt>,
}

/// The workers of one launch.
#[derive(Debug)]
struct Attempt {
    terms: Terms,
    /// How many are still expected.
    expected: usize,
    /// The ephemeral keys of guests that know the key, by which replays are recognised.
    seen: HashSet<[u8; 32]>,
}

struct Guest {
    /// When its time is over.
    until: Instant,
    heard: Vec<u8>,
    /// Set once it was answered: it knows the key, or replays what a guest that knows it has sent.
    answered: Option<(u64, Responder)>,
}

/// What to do with a guest.
pub(crate) enum Verdict {
    /// There is more to come.
    Wait,
    /// Send this.
    Answer(Vec<u8>),
    /// It is a worker of this attempt, and no longer a guest.
    Worker(u64, Sealer, Opener),
    /// Close the connection. It is no longer a guest.
    Refuse(#[allow(dead_code, reason = "a stranger is told nothing, tests are")] Refusal),
}

/// Why a guest is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Noise(NoiseError),
    /// No worker is expected, or no more of them.
    NotExpected,
    /// The same opening was sent before.
    Replayed,
}

impl From<NoiseError> for Refusal {
    fn from(error: NoiseError) -> Self {
        Self::Noise(error)
    }
}

impl Lobby {
    /// From now on, lets in this many workers that know the key.
    pub(crate) fn expect(&mut self, terms: Terms, count: usize) {
        self.attempts.insert(terms.attempt, Attempt { terms, expected: count, seen: HashSet::new() });
    }

    /// Expects one worker less.
    pub(crate) fn expect_one_less(&mut self, attempt: u64) {
        if let Some(found) = self.attempts.get_mut(&attempt) {
            found.expected = found.expected.saturating_sub(1);
            if found.expected == 0 {
                self.attempts.remove(&attempt);
            }
        }
    }

    /// Whether there is room for another guest.
    pub(crate) fn has_room(&self) -> bool {
        self.guests.len() < CAPACITY
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.guests.is_empty()
    }

    pub(crate) fn enter(&mut self, guest: GuestId, now: Instant) {
        self.guests.insert(guest, Guest { until: now + PATIENCE, heard: Vec::new(), answered: None });
    }

    pub(crate) fn leave(&mut self, guest: GuestId) {
        self.guests.remove(&guest);
    }

    /// How many bytes a guest may send before it is answered. No more may be read from it.
    pub(crate) fn room(&self, guest: GuestId) -> usize {
        self.guests.get(&guest).map_or(0, Guest::room)
    }

    /// Takes in what a guest has sent, at most its [`room`](Self::room).
    pub(crate) fn receive(&mut self, guest: GuestId, bytes: &[u8]) -> Verdict {
        let Some(mut found) = self.guests.remove(&guest) else { return Verdict::Refuse(Refusal::NotExpected) };
        let (bytes, excess) = bytes.split_at(bytes.len().min(found.room()));
        found.heard.extend_from_slice(bytes);
        if !excess.is_empty() {
            return Verdict::Refuse(NoiseError::NotOurs.into());
        }
        let verdict = match found.answered.take() {
            None => self.take_opening(&mut found),
            Some((attempt, responder)) => self.take_confirmation(&mut found, attempt, responder),
        };
        match verdict {
            Ok(verdict) => {
                if matches!(verdict, Verdict::Wait | Verdict::Answer(_)) {
                    self.guests.insert(guest, found);
                }
                verdict
            }
            Err(refusal) => Verdict::Refuse(refusal),
        }
    }

    fn take_opening(&mut self, guest: &mut Guest) -> Result<Verdict, Refusal> {
        let Ok(opening) = <[u8; OPENING]>::try_from(&guest.heard[..]) else { return Ok(Verdict::Wait) };
        let attempt = self.attempts.get_mut(&attempt_of(&opening)?).ok_or(Refusal::NotExpected)?;
        let (responder, answer) = Responder::new(&attempt.terms, &opening)?;
        // Only once the opening is known to be authentic, so that strangers cannot make this grow.
        if !attempt.seen.insert(ephemeral_of(&opening)) {
            return Err(Refusal::Replayed);
        }
        guest.heard.clear();
        guest.answered = Some((attempt.terms.attempt, responder));
        Ok(Verdict::Answer(answer))
    }

    fn take_confirmation(&mut self, guest: &mut Guest, attempt: u64, responder: Responder) -> Result<Verdict, Refusal> {
        let Ok(confirmation) = <[u8; CONFIRMATION]>::try_from(&guest.heard[..]) else {
            guest.answered = Some((attempt, responder));
            return Ok(Verdict::Wait);
        };
        let (sealer, opener) = responder.confirm(&confirmation)?;
        // All expected workers may have come meanwhile.
        if !self.attempts.contains_key(&attempt) {
            return Err(Refusal::NotExpected);
        }
        self.expect_one_less(attempt);
        Ok(Verdict::Worker(attempt, sealer, opener))
    }

    /// Removes guests that have taken too long, and returns them.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<GuestId> {
        let overdue: Vec<GuestId> =
            self.guests.iter().filter(|(_, guest)| guest.until <= now).map(|(&guest, _)| guest).collect();
        overdue.iter().for_each(|guest| self.leave(*guest));
        overdue
    }
}

impl Guest {
    fn room(&self) -> usize {
        let whole = if self.answered.is_some() { CONFIRMATION } else { OPENING };
        whole - self.heard.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::protocol::noise::{ANSWER, Initiator, Key};
    use crate::process::protocol::wire::Fingerprint;

    fn terms() -> Terms {
        let fingerprint = Fingerprint { binary: 1, tasks: 2 };
        Terms { fingerprint, pool: 3, attempt: 4, key: Key::from_bytes([5; 32]) }
    }

    fn lobby(count: usize) -> Lobby {
        let mut lobby = Lobby::default();
        lobby.expect(terms(), count);
        lobby
    }

    /// Sends all bytes in pieces of this size, and returns the verdict on the last one.
    fn say(lobby: &mut Lobby, guest: GuestId, bytes: &[u8], size: usize) -> Verdict {
        let mut verdict = Verdict::Wait;
        for piece in bytes.chunks(size) {
            assert!(matches!(verdict, Verdict::Wait), "it is answered too early");
            verdict = lobby.receive(guest, piece);
        }
        verdict
    }

    fn answer(verdict: Verdict) -> [u8; ANSWER] {
        let Verdict::Answer(answer) = verdict else { panic!("no answer") };
        answer.try_into().expect("an answer has its length")
    }

    fn refusal(verdict: Verdict) -> Refusal {
        let Verdict::Refuse(refusal) = verdict else { panic!("it is not refused") };
        refusal
    }

    /// Goes through the whole handshake; also returns what the worker has sent.
    fn admit(lobby: &mut Lobby, guest: GuestId, size: usize) -> (Verdict, Vec<u8>, Vec<u8>) {
        lobby.enter(guest, Instant::now());
        let (initiator, opening) = Initiator::new(&terms()).unwrap();
        let answer = answer(say(lobby, guest, &opening, size));
        let (_, _, confirmation) = initiator.finish(&answer).unwrap();
        (say(lobby, guest, &confirmation, size), opening, confirmation)
    }

    #[test]
    fn who_knows_the_key_is_a_worker_however_its_bytes_are_cut() {
        for size in [1, 7, OPENING] {
            let mut lobby = lobby(1);
            let verdict = admit(&mut lobby, 9, size).0;
            assert!(matches!(verdict, Verdict::Worker(4, ..)), "in pieces of {size}");
            assert!(lobby.is_empty(), "a worker is no guest any more");
        }
    }

    #[test]
    fn a_guest_may_say_what_it_takes_and_no_more() {
        let mut lobby = lobby(1);
        lobby.enter(0, Instant::now());
        assert_eq!(lobby.room(0), OPENING);
        let (initiator, opening) = Initiator::new(&terms()).unwrap();
        assert!(matches!(lobby.receive(0, &opening[..1]), Verdict::Wait));
        assert_eq!(lobby.room(0), OPENING - 1);
        let answer = answer(lobby.receive(0, &opening[1..]));
        assert_eq!(lobby.room(0), CONFIRMATION);
        let (_, _, mut confirmation) = initiator.finish(&answer).unwrap();
        confirmation.push(0);
        assert_eq!(refusal(lobby.receive(0, &confirmation)), Refusal::Noise(NoiseError::NotOurs));
        assert_eq!(lobby.room(0), 0);
    }

    #[test]
    fn who_agrees_to_other_terms_is_refused() {
        let others: [fn(&mut Terms); 4] = [
            |terms| terms.key = Key::from_bytes([6; 32]),
            |terms| terms.pool += 1,
            |terms| terms.fingerprint.binary += 1,
            |terms| terms.fingerprint.tasks += 1,
        ];
        let mut lobby = lobby(1);
        for (guest, change) in (0..).zip(others) {
            let mut terms = terms();
            change(&mut terms);
            lobby.enter(guest, Instant::now());
            let (_, opening) = Initiator::new(&terms).unwrap();
            assert_eq!(refusal(lobby.receive(guest, &opening)), Refusal::Noise(NoiseError::NotAuthentic), "{guest}");
        }
        lobby.enter(9, Instant::now());
        let (_, opening) = Initiator::new(&Terms { attempt: 5, ..terms() }).unwrap();
        assert_eq!(refusal(lobby.receive(9, &opening)), Refusal::NotExpected);
        assert!(lobby.is_empty());
    }

    #[test]
    fn a_bit_that_is_flipped_on_its_way_is_seen() {
        for bit in (0..8 * OPENING).step_by(3) {
            let mut lobby = lobby(1);
            lobby.enter(0, Instant::now());
            let mut opening = Initiator::new(&terms()).unwrap().1;
            opening[bit / 8] ^= 1 << (bit % 8);
            refusal(lobby.receive(0, &opening));
        }
        for bit in (0..8 * CONFIRMATION).step_by(3) {
            let mut lobby = lobby(1);
            lobby.enter(0, Instant::now());
            let (initiator, opening) = Initiator::new(&terms()).unwrap();
            let answer = answer(lobby.receive(0, &opening));
            let mut confirmation = initiator.finish(&answer).unwrap().2;
            confirmation[bit / 8] ^= 1 << (bit % 8);
            refusal(lobby.receive(0, &confirmation));
        }
        for bit in (0..8 * ANSWER).step_by(3) {
            let mut lobby = lobby(1);
            lobby.enter(0, Instant::now());
            let (initiator, opening) = Initiator::new(&terms()).unwrap();
            let mut answer = answer(lobby.receive(0, &opening));
            answer[bit / 8] ^= 1 << (bit % 8);
            assert!(initiator.finish(&answer).is_err(), "bit {bit} of the answer");
        }
    }

    #[test]
    fn a_recorded_worker_that_is_played_again_is_refused() {
        let mut lobby = lobby(2);
        let (verdict, opening, _) = admit(&mut lobby, 0, OPENING);
        assert!(matches!(verdict, Verdict::Worker(..)));
        lobby.enter(1, Instant::now());
        assert_eq!(refusal(lobby.receive(1, &opening)), Refusal::Replayed);
    }

    #[test]
    fn as_many_come_as_were_expected() {
        let mut lobby = lobby(2);
        let mut handshakes = Vec::new();
        for guest in 0..3 {
            lobby.enter(guest, Instant::now());
            let (initiator, opening) = Initiator::new(&terms()).unwrap();
            let answer = answer(lobby.receive(guest, &opening));
            handshakes.push((guest, initiator.finish(&answer).unwrap().2));
        }
        let (third, others) = handshakes.split_last().unwrap();
        for (guest, confirmation) in others {
            assert!(matches!(lobby.receive(*guest, confirmation), Verdict::Worker(..)));
        }
        assert_eq!(refusal(lobby.receive(third.0, &third.1)), Refusal::NotExpected);
        lobby.enter(3, Instant::now());
        let (_, opening) = Initiator::new(&terms()).unwrap();
        assert_eq!(refusal(lobby.receive(3, &opening)), Refusal::NotExpected);
    }

    #[test]
    fn guests_have_their_time_and_there_is_room_for_so_many() {
        let (mut lobby, now) = (lobby(1), Instant::now());
        for guest in 0..CAPACITY as u64 {
            assert!(lobby.has_room());
            lobby.enter(guest, now + Duration::from_millis(guest));
        }
        assert!(!lobby.has_room());
        assert!(lobby.overdue(now + PATIENCE - Duration::from_nanos(1)).is_empty());
        // Whether they speak or not.
        assert!(matches!(lobby.receive(0, b"progexec"), Verdict::Wait));
        assert_eq!(lobby.overdue(now + PATIENCE + Duration::from_millis(1)), [0, 1]);
        assert!(lobby.has_room());
        assert_eq!(refusal(lobby.receive(0, b"x")), Refusal::NotExpected);
    }
}
