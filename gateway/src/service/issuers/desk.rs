//! Which token with an unknown key makes the gate ask the issuer: pure, by a clock passed in.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use tokio::time::Instant;

use super::absent::Absent;
use crate::auth::Refreshed;

/// When a token should come back that found too many waiting.
const BUSY: Duration = Duration::from_secs(1);

/// For how many cool-downs a key that the issuer did not have is not asked for again.
const ABSENT: u32 = 2;

/// The state of the questions to one issuer. A flight is one request to it.
#[derive(Debug)]
pub(super) struct Desk {
    cooldown: Duration,
    /// Tokens that may wait at once.
    most: usize,
    /// Flights that have landed.
    landed: u64,
    /// The flight in the air, and whether a token has caused it.
    flight: Option<bool>,
    /// A token waits for a flight that has not started.
    wanted: bool,
    /// When the last flight started that a token caused.
    caused: Option<Instant>,
    /// Whether the last flight that landed brought an answer, and whether a token had caused it.
    last: Option<(bool, bool)>,
    /// The keys that are waited for.
    waiting: HashMap<u64, usize>,
    /// How many wait for them.
    places: usize,
    /// Those of them that were there before the flight started: of the others it knows nothing.
    asked: Vec<u64>,
    absent: Absent,
}

/// What a token with an unknown key has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: the answer is known.
    Answer(Refreshed),
    /// Wait until so many flights have landed. `start`: one has to be started for it.
    Wait { landed: u64, start: bool },
}

impl Desk {
    /// For an issuer that tokens make the gate ask once in `cooldown`, while at most `most` of them
    /// wait.
    pub(super) fn new(cooldown: Duration, most: usize) -> Self {
        Self {
            cooldown,
            most,
            landed: 0,
            flight: None,
            wanted: false,
            caused: None,
            last: None,
            waiting: HashMap::new(),
            places: 0,
            asked: Vec::new(),
            absent: Absent::new(cooldown.saturating_mul(ABSENT), most.saturating_mul(4)),
        }
    }

    /// A token asks for `key` at `now`. If it has to wait, [`Self::leave`] ends that.
    pub(super) fn ask(&mut self, key: u64, now: Instant) -> Step {
        if self.absent.contains(key, now) {
            return Step::Answer(Refreshed::Current);
        }
        let under_way = self.flight.is_some() || self.wanted;
        if !under_way && let Some(wait) = self.cooling(now) {
            // What the issuer said before this key came up says nothing about it: it may be newer.
            return Step::Answer(Refreshed::Unknown { retry_after: wait });
        }
        if self.places >= self.most {
            return Step::Answer(Refreshed::Unknown { retry_after: BUSY });
        }
        *self.waiting.entry(key).or_default() += 1;
        self.places += 1;
        self.wanted |= !under_way;
        Step::Wait { landed: self.landed + 1, start: !under_way }
    }

    /// What came of the flight that a token has waited for.
    pub(super) fn outcome(&self, now: Instant) -> Refreshed {
        match self.last {
            Some((true, true)) => Refreshed::Current,
            Some((true, false)) => Refreshed::Earlier,
            Some((false, _)) | None => self.unknown(now),
        }
    }

    /// It is not known what the issuer has: when to come back.
    pub(super) fn unknown(&self, now: Instant) -> Refreshed {
        Refreshed::Unknown { retry_after: self.cooling(now).unwrap_or(BUSY) }
    }

    /// A token waits for `key` no longer.
    pub(super) fn leave(&mut self, key: u64) {
        if let Entry::Occupied(mut waiting) = self.waiting.entry(key) {
            self.places = self.places.saturating_sub(1);
            match waiting.get() {
                0 | 1 => drop(waiting.remove()),
                _ => *waiting.get_mut() -= 1,
            }
        }
    }

    /// Whether a token waits for a flight that has not started.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// A flight starts at `now`.
    pub(super) fn start(&mut self, now: Instant) {
        let caused = std::mem::take(&mut self.wanted);
        if caused {
            self.caused = Some(now);
            self.asked = self.waiting.keys().copied().collect();
        }
        self.flight = Some(caused);
    }

    /// The flight has landed at `now`, with an answer or without; how many have by now.
    pub(super) fn land(&mut self, answered: bool, now: Instant) -> u64 {
        let caused = self.flight.take().unwrap_or(false);
        self.last = Some((answered, caused));
        for key in std::mem::take(&mut self.asked) {
            // Those that the issuer has after all are found before anybody looks here.
            if answered {
                self.absent.insert(key, now);
            }
        }
        self.landed += 1;
        self.landed
    }

    /// How long no token makes the gate ask.
    fn cooling(&self, now: Instant) -> Option<Duration> {
        let until = self.caused? + self.cooldown;
        Some(until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    fn desk() -> (Desk, Instant) {
        (Desk::new(COOLDOWN, 3), Instant::now())
    }

    fn flight(desk: &mut Desk, answered: bool, now: Instant) {
        desk.start(now);
        desk.land(answered, now);
        for key in desk.waiting.clone().into_keys() {
            desk.leave(key);
        }
        assert_eq!(desk.places, 0, "one token for each key");
    }

    #[test]
    fn all_that_ask_at_once_share_one_flight() {
        let (mut desk, now) = desk();
        assert_eq!(desk.ask(1, now), Step::Wait { landed: 1, start: true });
        assert_eq!(desk.ask(2, now), Step::Wait { landed: 1, start: false });
        desk.start(now);
        assert_eq!(desk.ask(3, now), Step::Wait { landed: 1, start: false });
        assert_eq!(desk.land(true, now), 1);
        assert_eq!(desk.outcome(now), Refreshed::Current);
    }

    #[test]
    fn a_flood_of_other_keys_starts_one_flight_in_a_cooldown() {
        let (mut desk, start) = desk();
        let mut flights = 0;
        for tenth in 0..1000_u32 {
            let now = start + SECOND / 10 * tenth;
            match desk.ask(u64::from(tenth), now) {
                Step::Wait { start, .. } => {
                    assert!(start);
                    flights += 1;
                    flight(&mut desk, true, now);
                }
                Step::Answer(answer) => assert!(matches!(answer, Refreshed::Unknown { .. })),
            }
        }
        assert_eq!(flights, 4, "in 100 s");
    }

    #[test]
    fn a_key_that_came_up_during_the_cooldown_may_be_a_new_one_and_is_asked_for_after_it() {
        let (mut desk, now) = desk();
        desk.ask(1, now);
        flight(&mut desk, true, now);
        let wait = COOLDOWN - SECOND;
        assert_eq!(desk.ask(2, now + SECOND), Step::Answer(Refreshed::Unknown { retry_after: wait }));
        assert_eq!(desk.ask(1, now + SECOND), Step::Answer(Refreshed::Current), "it was asked for");
        assert!(matches!(desk.ask(2, now + COOLDOWN), Step::Wait { start: true, .. }));
    }

    #[test]
    fn more_than_may_wait_are_sent_away_without_blame() {
        let (mut desk, now) = desk();
        for key in 0..3 {
            assert!(matches!(desk.ask(key, now), Step::Wait { .. }));
        }
        assert_eq!(desk.ask(3, now), Step::Answer(Refreshed::Unknown { retry_after: BUSY }));
        desk.leave(1);
        assert!(matches!(desk.ask(0, now), Step::Wait { .. }));
        assert!(matches!(desk.ask(1, now), Step::Answer(_)));
        desk.leave(0);
        assert!(matches!(desk.ask(0, now), Step::Wait { .. }), "two waited for it");
    }

    #[test]
    fn a_flight_that_was_in_the_air_before_says_nothing_about_a_newer_key() {
        let (mut desk, now) = desk();
        desk.start(now);
        assert_eq!(desk.ask(1, now), Step::Wait { landed: 1, start: false });
        desk.land(true, now);
        assert_eq!(desk.outcome(now), Refreshed::Earlier);
        desk.leave(1);
        assert_eq!(desk.ask(1, now), Step::Wait { landed: 2, start: true });
    }

    #[test]
    fn a_key_that_came_up_during_a_flight_is_not_known_to_be_absent() {
        let (mut desk, now) = desk();
        desk.ask(1, now);
        desk.start(now);
        desk.ask(2, now);
        desk.land(true, now);
        desk.leave(1);
        desk.leave(2);
        let later = now + COOLDOWN;
        assert_eq!(desk.ask(1, later), Step::Answer(Refreshed::Current));
        assert!(matches!(desk.ask(2, later), Step::Wait { start: true, .. }));
    }

    #[test]
    fn when_the_issuer_is_down_nothing_is_known_until_it_may_be_asked_again() {
        let (mut desk, now) = desk();
        desk.ask(1, now);
        flight(&mut desk, false, now);
        let wait = COOLDOWN - SECOND;
        assert_eq!(desk.outcome(now + SECOND), Refreshed::Unknown { retry_after: wait });
        assert_eq!(desk.ask(1, now + SECOND), Step::Answer(Refreshed::Unknown { retry_after: wait }));
        assert_eq!(desk.ask(1, now + COOLDOWN), Step::Wait { landed: 2, start: true });
    }

    #[test]
    fn a_key_that_the_issuer_did_not_have_is_no_outage_when_it_is_down() {
        let (mut desk, now) = desk();
        desk.ask(1, now);
        flight(&mut desk, true, now);
        flight(&mut desk, false, now + SECOND);
        assert_eq!(desk.ask(1, now + SECOND * 2), Step::Answer(Refreshed::Current));
        assert!(matches!(desk.ask(2, now + SECOND * 2), Step::Answer(Refreshed::Unknown { .. })));
        assert_eq!(desk.ask(1, now + COOLDOWN + SECOND), Step::Answer(Refreshed::Current));
        assert!(matches!(desk.ask(1, now + COOLDOWN * ABSENT), Step::Wait { .. }));
    }
}
