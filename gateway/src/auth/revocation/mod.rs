//! Tokens that are not accepted any more although nothing else is wrong with them. Pure.

mod lines;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};

pub use lines::{Fault, parse, print};

/// What a revocation is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// One token, by its `jti`.
    Token(String),
    /// Everybody's tokens who is this `sub`.
    Subject(String),
    /// The tokens of one sign-in, by their `sid`.
    Session(String),
    /// The tokens that were signed with the key of this `kid`.
    Key(String),
    /// The tokens whose `iat` is before this second since 1970, and those without one.
    IssuedBefore(u64),
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub revoked: Revoked,
    /// The `iss` of the tokens; `None`: those of every issuer.
    pub issuer: Option<String>,
    /// From this second since 1970 on it is forgotten; `None`: never.
    pub until: Option<u64>,
    /// Why and by whom, for the journal.
    pub note: Option<String>,
}

impl Revocation {
    /// A short name, the same for the same tokens.
    pub fn id(&self) -> String {
        let plain = Self { until: None, note: None, ..self.clone() };
        let hash = digest(&SHA256, print(&plain).as_bytes());
        hash.as_ref().iter().take(5).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether this revokes all that `other` does, of the same issuer by their times of issue, and as
    /// long.
    fn outdoes(&self, other: &Self) -> bool {
        let (Revoked::IssuedBefore(own), Revoked::IssuedBefore(time)) = (&self.revoked, &other.revoked)
        else {
            return false;
        };
        own >= time && self.until.is_none_or(|own| other.until.is_some_and(|until| own >= until))
    }

    fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// What a token is known by. The parts are those of a token whose signature is right.
#[derive(Clone, Copy, Debug)]
pub struct Marks<'a> {
    /// `iss`
    pub issuer: &'a str,
    /// `sub`
    pub subject: &'a str,
    /// `jti`
    pub token_id: Option<&'a str>,
    /// `sid`
    pub session_id: Option<&'a str>,
    /// `kid`
    pub key_id: Option<&'a str>,
    /// `iat`, in seconds since 1970.
    pub issued: Option<u64>,
}

/// All revocations of one moment. Whether a token is revoked costs a few lookups, however many they
/// are.
#[derive(Debug, Default)]
pub struct Revocations {
    all: Vec<Revocation>,
    /// By what is revoked, and of which issuer.
    exact: HashMap<(Revoked, Option<String>), usize>,
    /// Those by time of issue, of each issuer: none that another outdoes in its time and in its end.
    before: HashMap<Option<String>, Vec<usize>>,
}

impl Revocations {
    /// These, without those that are over at `now`. Of several about the same tokens, the one that
    /// holds longest counts.
    pub fn new(all: impl IntoIterator<Item = Revocation>, now: SystemTime) -> Self {
        let now = seconds(now);
        let mut this = Self::default();
        for revocation in all {
            if !revocation.is_over(now) {
                this.add(revocation);
            }
        }
        this
    }

    fn add(&mut self, revocation: Revocation) {
        let index = self.all.len();
        let (issuer, revoked) = (revocation.issuer.clone(), revocation.revoked.clone());
        let slot = self.exact.entry((revoked, issuer.clone())).or_insert(index);
        if *slot != index {
            let known = &mut self.all[*slot];
            // `None` is for ever.
            let longer = known.until.zip(revocation.until).map(|(one, other)| one.max(other));
            known.until = longer;
            known.note = revocation.note.or(known.note.take());
            return;
        }
        if let Revoked::IssuedBefore(_) = revocation.revoked {
            let all = &self.all;
            let known = self.before.entry(issuer).or_default();
            if known.iter().any(|index| all.get(*index).is_some_and(|other| other.outdoes(&revocation))) {
                return;
            }
            known.retain(|index| all.get(*index).is_some_and(|other| !revocation.outdoes(other)));
            known.push(index);
        }
        self.all.push(revocation);
    }

    /// All of them, in the order in which they came.
    pub fn all(&self) -> &[Revocation] {
        &self.all
    }

    /// The revocation that a token with these marks falls under at `now`, in seconds since 1970.
    pub fn of(&self, marks: &Marks<'_>, now: u64) -> Option<&Revocation> {
        if self.all.is_empty() {
            return None;
        }
        let own = |text: Option<&str>, what: fn(String) -> Revoked| text.map(|text| what(text.to_owned()));
        let subject = Some(Revoked::Subject(marks.subject.to_owned()));
        let named = [
            own(marks.token_id, Revoked::Token),
            subject,
            own(marks.session_id, Revoked::Session),
            own(marks.key_id, Revoked::Key),
        ];
        let issuers = [Some(marks.issuer.to_owned()), None];
        let exact = named.into_iter().flatten().flat_map(|revoked| {
            let keys = issuers.clone().map(|issuer| (revoked.clone(), issuer));
            keys.into_iter().filter_map(|key| self.exact.get(&key))
        });
        let before = issuers.iter().filter_map(|issuer| self.before.get(issuer)).flatten().filter(|index| {
            let revoked = self.all.get(**index).map(|revocation| &revocation.revoked);
            let Some(Revoked::IssuedBefore(time)) = revoked else { return false };
            marks.issued.is_none_or(|issued| issued < *time)
        });
        exact.chain(before).filter_map(|index| self.all.get(*index)).find(|found| !found.is_over(now))
    }
}

/// The revocations in force, for all who judge. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct InForce(Arc<ArcSwap<Revocations>>);

impl InForce {
    /// These are in force from now on.
    pub fn set(&self, revocations: Revocations) {
        self.0.store(Arc::new(revocations));
    }

    /// Those in force now.
    pub fn get(&self) -> Arc<Revocations> {
        self.0.load_full()
    }
}

/// Seconds since 1970; 0 before.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn revocation(revoked: Revoked, issuer: Option<&str>) -> Revocation {
        Revocation { revoked, issuer: issuer.map(str::to_owned), until: None, note: None }
    }

    fn marks() -> Marks<'static> {
        Marks {
            issuer: "https://idp.example",
            subject: "alice",
            token_id: Some("t1"),
            session_id: Some("s1"),
            key_id: Some("k1"),
            issued: Some(NOW - 10),
        }
    }

    fn hits(all: &[Revocation]) -> bool {
        Revocations::new(all.to_vec(), now()).of(&marks(), NOW).is_some()
    }

    #[test]
    fn a_token_is_revoked_by_each_of_its_marks_of_its_own_issuer_or_of_any() {
        let text = |text: &str| text.to_owned();
        for (good, bad) in [
            (Revoked::Token(text("t1")), Revoked::Token(text("t2"))),
            (Revoked::Subject(text("alice")), Revoked::Subject(text("Alice"))),
            (Revoked::Session(text("s1")), Revoked::Session(text("t1"))),
            (Revoked::Key(text("k1")), Revoked::Key(text("k"))),
            (Revoked::IssuedBefore(NOW - 9), Revoked::IssuedBefore(NOW - 10)),
        ] {
            for issuer in [Some("https://idp.example"), None] {
                assert!(hits(&[revocation(good.clone(), issuer)]), "{good:?} {issuer:?}");
                assert!(!hits(&[revocation(bad.clone(), issuer)]), "{bad:?} {issuer:?}");
            }
            assert!(!hits(&[revocation(good.clone(), Some("https://other.example"))]), "{good:?}");
        }
        assert!(!hits(&[]));
    }

    #[test]
    fn a_token_that_does_not_say_when_it_was_issued_was_issued_before() {
        let set = Revocations::new([revocation(Revoked::IssuedBefore(1), None)], now());
        assert!(set.of(&Marks { issued: None, ..marks() }, NOW).is_some());
        assert!(set.of(&marks(), NOW).is_none());
    }

    #[test]
    fn the_latest_of_several_times_counts() {
        let early = revocation(Revoked::IssuedBefore(NOW - 1000), None);
        let late = revocation(Revoked::IssuedBefore(NOW), None);
        for order in [[early.clone(), late.clone()], [late, early]] {
            assert!(hits(&order));
        }
    }

    #[test]
    fn a_later_time_that_is_over_does_not_hide_an_earlier_one_that_holds() {
        let early = revocation(Revoked::IssuedBefore(NOW - 5), None);
        let late = Revocation { until: Some(NOW + 9), ..revocation(Revoked::IssuedBefore(NOW), None) };
        for order in [[early.clone(), late.clone()], [late, early]] {
            let set = Revocations::new(order, now());
            assert!(set.of(&marks(), NOW + 8).is_some() && set.of(&marks(), NOW + 9).is_some());
            let young = Marks { issued: Some(NOW - 3), ..marks() };
            assert!(set.of(&young, NOW + 8).is_some() && set.of(&young, NOW + 9).is_none());
        }
    }

    #[test]
    fn a_revocation_that_is_over_revokes_nothing_and_is_forgotten() {
        let one = Revocation { until: Some(NOW + 5), ..revocation(Revoked::Token("t1".to_owned()), None) };
        let set = Revocations::new([one.clone()], now());
        assert!(set.of(&marks(), NOW + 4).is_some());
        assert!(set.of(&marks(), NOW + 5).is_none());
        assert!(Revocations::new([one.clone()], now() + Duration::from_secs(5)).all().is_empty());
        // The same again, for ever.
        let set = Revocations::new([one.clone(), Revocation { until: None, ..one }], now());
        assert_eq!(set.all().len(), 1);
        assert!(set.of(&marks(), u64::MAX).is_some());
    }

    #[test]
    fn the_name_of_a_revocation_does_not_depend_on_its_end_or_its_note() {
        let one = revocation(Revoked::Token("t1".to_owned()), None);
        let same = Revocation { until: Some(5), note: Some("x".to_owned()), ..one.clone() };
        assert_eq!(one.id(), same.id());
        assert_eq!(one.id().len(), 10);
        assert_ne!(one.id(), revocation(Revoked::Token("t2".to_owned()), None).id());
        assert_ne!(one.id(), revocation(Revoked::Session("t1".to_owned()), None).id());
    }
}
