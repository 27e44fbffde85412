//! Handshakes with connections that have not yet proved to be workers. A state machine without I/O: it takes bytes and
//! the time, and says what to do.
//!
//! A connection may send [`OPENING`] and [`CONFIRMATION`] bytes and no more, within [`TIMEOUT`]. Only the number of the
//! attempt is interpreted here; [`noise`](crate::process::protocol::noise) verifies the rest. There are at most
//! [`CAPACITY`] handshakes at a time; other connections wait in the listen queue of the system, where they cost
//! nothing. Where there is no room, who has not said what a worker says at once [makes way](Handshakes::make_room) for
//! them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::process::protocol::noise::{
    CONFIRMATION, NoiseError, OPENING, Opener, Responder, Sealer, Terms, attempt_of, ephemeral_of,
};

/// How many there may be at a time.
pub(crate) const CAPACITY: usize = 64;
/// How long a connection may take to prove that it is a worker's.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take to open the handshake if others wait: longer than a worker needs on a busy machine or a slow
/// line, and so short that as many strangers as the system lets wait are through before a worker gives up.
const YIELDING: Duration = Duration::from_millis(200);

/// The number of a handshake; never used again.
pub(crate) type HandshakeId = u64;

#[derive(Default)]
pub(crate) struct Handshakes {
    handshakes: BTreeMap<HandshakeId, Handshake>,
    attempts: HashMap<u64, Attempt>,
}

/// The workers of one launch.
#[derive(Debug)]
struct Attempt {
    terms: Terms,
    /// How many are still expected.
    expected: usize,
    /// The ephemeral keys of those that know the key, by which replays are recognised.
    seen: HashSet<[u8; 32]>,
}

struct Handshake {
    /// When its time is over.
    until: Instant,
    /// When it makes way for another one.
    yields_from: Instant,
    received: Vec<u8>,
    /// Set once it was answered: it knows the key, or replays what another that knows it has sent.
    answered: Option<(u64, Responder)>,
}

/// What to do next.
pub(crate) enum Step {
    /// There is more to come.
    Wait,
    /// Send this.
    Answer(Vec<u8>),
    /// It is a worker of this attempt. The handshake is over.
    Worker(u64, Sealer, Opener),
    /// Close the connection. The handshake is over.
    Refuse(#[allow(dead_code, reason = "a stranger is told nothing, tests are")] Refusal),
}

/// Why a connection is refused.
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

impl Handshakes {
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

    /// Whether there is room for another handshake.
    pub(crate) fn has_room(&self) -> bool {
        self.handshakes.len() < CAPACITY
    }

    /// Whether there is room, or [can be made](Self::make_room).
    pub(crate) fn may_begin(&self, now: Instant) -> bool {
        self.has_room() || self.yielding(now).is_some()
    }

    /// Where there is no room, ends the handshake of whoever has not opened it for the longest time, and returns it. What all of
    /// them have sent by then must have been received.
    pub(crate) fn make_room(&mut self, now: Instant) -> Option<HandshakeId> {
        let yielding = self.yielding(now).filter(|_| !self.has_room())?;
        self.end(yielding);
        Some(yielding)
    }

    fn yielding(&self, now: Instant) -> Option<HandshakeId> {
        let (&first, handshake) = self.handshakes.iter().find(|(_, handshake)| handshake.answered.is_none())?;
        (handshake.yields_from <= now).then_some(first)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.handshakes.is_empty()
    }

    pub(crate) fn begin(&mut self, handshake: HandshakeId, now: Instant) {
        let (until, yields_from) = (now + TIMEOUT, now + YIELDING);
        self.handshakes.insert(handshake, Handshake { until, yields_from, received: Vec::new(), answered: None });
    }

    pub(crate) fn end(&mut self, handshake: HandshakeId) {
        self.handshakes.remove(&handshake);
    }

    /// How many bytes a connection may send before it is answered. No more may be read from it.
    pub(crate) fn room(&self, handshake: HandshakeId) -> usize {
        self.handshakes.get(&handshake).map_or(0, Handshake::room)
    }

    /// Takes in what a connection has sent, at most its [`room`](Self::room).
    pub(crate) fn receive(&mut self, handshake: HandshakeId, bytes: &[u8]) -> Step {
        let Some(mut found) = self.handshakes.remove(&handshake) else { return Step::Refuse(Refusal::NotExpected) };
        let (bytes, excess) = bytes.split_at(bytes.len().min(found.room()));
        found.received.extend_from_slice(bytes);
        if !excess.is_empty() {
            return Step::Refuse(NoiseError::NotOurs.into());
        }
        let step = match found.answered.take() {
            None => self.take_opening(&mut found),
            Some((attempt, responder)) => self.take_confirmation(&mut found, attempt, responder),
        };
        match step {
            Ok(step) => {
                if matches!(step, Step::Wait | Step::Answer(_)) {
                    self.handshakes.insert(handshake, found);
                }
                step
            }
            Err(refusal) => Step::Refuse(refusal),
        }
    }

    fn take_opening(&mut self, handshake: &mut Handshake) -> Result<Step, Refusal> {
        let Ok(opening) = <[u8; OPENING]>::try_from(&handshake.received[..]) else { return Ok(Step::Wait) };
        let attempt = self.attempts.get_mut(&attempt_of(&opening)?).ok_or(Refusal::NotExpected)?;
        let (responder, answer) = Responder::new(&attempt.terms, &opening)?;
        // Only once the opening is known to be authentic, so that strangers cannot make this grow.
        if !attempt.seen.insert(ephemeral_of(&opening)) {
            return Err(Refusal::Replayed);
        }
        handshake.received.clear();
        handshake.answered = Some((attempt.terms.attempt, responder));
        Ok(Step::Answer(answer))
    }

    fn take_confirmation(
        &mut self,
        handshake: &mut Handshake,
        attempt: u64,
        responder: Responder,
    ) -> Result<Step, Refusal> {
        let Ok(confirmation) = <[u8; CONFIRMATION]>::try_from(&handshake.received[..]) else {
            handshake.answered = Some((attempt, responder));
            return Ok(Step::Wait);
        };
        let (sealer, opener) = responder.confirm(&confirmation)?;
        // All expected workers may have come meanwhile.
        if !self.attempts.contains_key(&attempt) {
            return Err(Refusal::NotExpected);
        }
        self.expect_one_less(attempt);
        Ok(Step::Worker(attempt, sealer, opener))
    }

    /// Ends the handshakes that have taken too long, and returns them.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<HandshakeId> {
        let expired: Vec<HandshakeId> = self
            .handshakes
            .iter()
            .filter(|(_, handshake)| handshake.until <= now)
            .map(|(&handshake, _)| handshake)
            .collect();
        expired.iter().for_each(|handshake| self.end(*handshake));
        expired
    }
}

impl Handshake {
    fn room(&self) -> usize {
        let whole = if self.answered.is_some() { CONFIRMATION } else { OPENING };
        whole - self.received.len()
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

    fn handshakes(count: usize) -> Handshakes {
        let mut handshakes = Handshakes::default();
        handshakes.expect(terms(), count);
        handshakes
    }

    /// Sends all bytes in pieces of this size, and returns the step after the last one.
    fn say(handshakes: &mut Handshakes, handshake: HandshakeId, bytes: &[u8], size: usize) -> Step {
        let mut step = Step::Wait;
        for piece in bytes.chunks(size) {
            assert!(matches!(step, Step::Wait), "it is answered too early");
            step = handshakes.receive(handshake, piece);
        }
        step
    }

    fn answer(step: Step) -> [u8; ANSWER] {
        let Step::Answer(answer) = step else { panic!("no answer") };
        answer.try_into().expect("an answer has its length")
    }

    fn refusal(step: Step) -> Refusal {
        let Step::Refuse(refusal) = step else { panic!("it is not refused") };
        refusal
    }

    /// Goes through the whole handshake; also returns what the worker has sent.
    fn admit(handshakes: &mut Handshakes, handshake: HandshakeId, size: usize) -> (Step, Vec<u8>, Vec<u8>) {
        handshakes.begin(handshake, Instant::now());
        let (initiator, opening) = Initiator::new(&terms()).unwrap();
        let answer = answer(say(handshakes, handshake, &opening, size));
        let (_, _, confirmation) = initiator.finish(&answer).unwrap();
        (say(handshakes, handshake, &confirmation, size), opening, confirmation)
    }

    #[test]
    fn who_knows_the_key_is_a_worker_however_its_bytes_are_cut() {
        for size in [1, 7, OPENING] {
            let mut handshakes = handshakes(1);
            let step = admit(&mut handshakes, 9, size).0;
            assert!(matches!(step, Step::Worker(4, ..)), "in pieces of {size}");
            assert!(handshakes.is_empty(), "the handshake is over");
        }
    }

    #[test]
    fn a_connection_may_say_what_it_takes_and_no_more() {
        let mut handshakes = handshakes(1);
        handshakes.begin(0, Instant::now());
        assert_eq!(handshakes.room(0), OPENING);
        let (initiator, opening) = Initiator::new(&terms()).unwrap();
        assert!(matches!(handshakes.receive(0, &opening[..1]), Step::Wait));
        assert_eq!(handshakes.room(0), OPENING - 1);
        let answer = answer(handshakes.receive(0, &opening[1..]));
        assert_eq!(handshakes.room(0), CONFIRMATION);
        let (_, _, mut confirmation) = initiator.finish(&answer).unwrap();
        confirmation.push(0);
        assert_eq!(refusal(handshakes.receive(0, &confirmation)), Refusal::Noise(NoiseError::NotOurs));
        assert_eq!(handshakes.room(0), 0);
    }

    #[test]
    fn who_agrees_to_other_terms_is_refused() {
        let others: [fn(&mut Terms); 4] = [
            |terms| terms.key = Key::from_bytes([6; 32]),
            |terms| terms.pool += 1,
            |terms| terms.fingerprint.binary += 1,
            |terms| terms.fingerprint.tasks += 1,
        ];
        let mut handshakes = handshakes(1);
        for (handshake, change) in (0..).zip(others) {
            let mut terms = terms();
            change(&mut terms);
            handshakes.begin(handshake, Instant::now());
            let (_, opening) = Initiator::new(&terms).unwrap();
            assert_eq!(
                refusal(handshakes.receive(handshake, &opening)),
                Refusal::Noise(NoiseError::NotAuthentic),
                "{handshake}"
            );
        }
        handshakes.begin(9, Instant::now());
        let (_, opening) = Initiator::new(&Terms { attempt: 5, ..terms() }).unwrap();
        assert_eq!(refusal(handshakes.receive(9, &opening)), Refusal::NotExpected);
        assert!(handshakes.is_empty());
    }

    #[test]
    fn a_bit_that_is_flipped_on_its_way_is_seen() {
        for bit in (0..8 * OPENING).step_by(3) {
            let mut handshakes = handshakes(1);
            handshakes.begin(0, Instant::now());
            let mut opening = Initiator::new(&terms()).unwrap().1;
            opening[bit / 8] ^= 1 << (bit % 8);
            refusal(handshakes.receive(0, &opening));
        }
        for bit in (0..8 * CONFIRMATION).step_by(3) {
            let mut handshakes = handshakes(1);
            handshakes.begin(0, Instant::now());
            let (initiator, opening) = Initiator::new(&terms()).unwrap();
            let answer = answer(handshakes.receive(0, &opening));
            let mut confirmation = initiator.finish(&answer).unwrap().2;
            confirmation[bit / 8] ^= 1 << (bit % 8);
            refusal(handshakes.receive(0, &confirmation));
        }
        for bit in (0..8 * ANSWER).step_by(3) {
            let mut handshakes = handshakes(1);
            handshakes.begin(0, Instant::now());
            let (initiator, opening) = Initiator::new(&terms()).unwrap();
            let mut answer = answer(handshakes.receive(0, &opening));
            answer[bit / 8] ^= 1 << (bit % 8);
            assert!(initiator.finish(&answer).is_err(), "bit {bit} of the answer");
        }
    }

    #[test]
    fn a_recorded_worker_that_is_played_again_is_refused() {
        let mut handshakes = handshakes(2);
        let (step, opening, _) = admit(&mut handshakes, 0, OPENING);
        assert!(matches!(step, Step::Worker(..)));
        handshakes.begin(1, Instant::now());
        assert_eq!(refusal(handshakes.receive(1, &opening)), Refusal::Replayed);
    }

    #[test]
    fn as_many_come_as_were_expected() {
        let mut handshakes = handshakes(2);
        let mut confirmations = Vec::new();
        for handshake in 0..3 {
            handshakes.begin(handshake, Instant::now());
            let (initiator, opening) = Initiator::new(&terms()).unwrap();
            let answer = answer(handshakes.receive(handshake, &opening));
            confirmations.push((handshake, initiator.finish(&answer).unwrap().2));
        }
        let (third, others) = confirmations.split_last().unwrap();
        for (handshake, confirmation) in others {
            assert!(matches!(handshakes.receive(*handshake, confirmation), Step::Worker(..)));
        }
        assert_eq!(refusal(handshakes.receive(third.0, &third.1)), Refusal::NotExpected);
        handshakes.begin(3, Instant::now());
        let (_, opening) = Initiator::new(&terms()).unwrap();
        assert_eq!(refusal(handshakes.receive(3, &opening)), Refusal::NotExpected);
    }

    #[test]
    fn handshakes_have_their_time_and_there_is_room_for_so_many() {
        let (mut handshakes, now) = (handshakes(1), Instant::now());
        for handshake in 0..CAPACITY as u64 {
            assert!(handshakes.has_room());
            handshakes.begin(handshake, now + Duration::from_millis(handshake));
        }
        assert!(!handshakes.has_room());
        assert!(handshakes.expire(now + TIMEOUT - Duration::from_nanos(1)).is_empty());
        // Whether they speak or not.
        assert!(matches!(handshakes.receive(0, b"progexec"), Step::Wait));
        assert_eq!(handshakes.expire(now + TIMEOUT + Duration::from_millis(1)), [0, 1]);
        assert!(handshakes.has_room());
        assert_eq!(refusal(handshakes.receive(0, b"x")), Refusal::NotExpected);
    }

    #[test]
    fn who_has_not_opened_the_handshake_makes_way_for_who_waits() {
        let (mut handshakes, now) = (handshakes(1), Instant::now());
        for handshake in 0..CAPACITY as u64 {
            assert_eq!(handshakes.make_room(now + TIMEOUT), None, "there is room");
            handshakes.begin(handshake, now + Duration::from_millis(handshake));
        }
        let (_, opening) = Initiator::new(&terms()).unwrap();
        answer(handshakes.receive(0, &opening));
        assert!(matches!(handshakes.receive(1, &opening[..OPENING - 1]), Step::Wait));
        let first = now + Duration::from_millis(1) + YIELDING;
        assert!(!handshakes.may_begin(first - Duration::from_nanos(1)));
        assert_eq!(handshakes.make_room(first - Duration::from_nanos(1)), None);
        assert!(handshakes.may_begin(first));
        assert_eq!(handshakes.make_room(first), Some(1), "the first one knows the key");
        assert_eq!(handshakes.make_room(first), None, "there is room now");
        handshakes.begin(99, first);
        assert!(!handshakes.may_begin(first), "the others have come later");
        let all: Vec<_> = (2..CAPACITY as u64).collect();
        let late = first + TIMEOUT / 2;
        for (number, other) in all.into_iter().enumerate() {
            assert_eq!(handshakes.make_room(late), Some(other));
            handshakes.begin(100 + number as u64, late);
        }
        assert_eq!(handshakes.make_room(late), Some(99));
        handshakes.begin(1000, late);
        assert!(!handshakes.may_begin(late), "nobody has to yield before his time");
    }
}
