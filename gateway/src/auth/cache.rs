//! Tokens whose signature was verified, so that it is verified once.
//!
//! A signature says that a key of the issuer signed these bytes. That stays true as long as the
//! keys are the same, so what is remembered belongs to one [`KeySet`](super::KeySet) and ends with
//! it. Everything else about a token changes with time, route and configuration, and is judged at
//! each handshake.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, UnitWeighter};

use super::jws::{Content, Jws};
use super::token::Token;

/// Bytes of the longest token that is remembered, which bounds the memory of an entry. Longer ones
/// are verified each time.
pub(super) const LONGEST: usize = 4096;

/// The tokens that one key set has verified, with what they say.
///
/// An entry is found by a hash with a random key (SipHash, `RandomState`) of the end of its signature, so
/// nobody can choose tokens that meet in one bucket; and it is believed only when all bytes of the token are
/// the same. That comparison does not take constant time, and need not: it happens only between
/// tokens of one keyed hash, which a stranger cannot aim for.
///
/// It holds whole tokens. `Debug` prints none of them, and the daemon forbids core dumps.
pub(super) struct Verified<S = RandomState> {
    tokens: Option<Cache<Verbatim, Arc<Content>, UnitWeighter, S>>,
}

/// A token that was verified.
struct Verbatim(Box<str>);

/// A token that is looked for.
struct Sought<'a>(&'a str);

/// Characters at the end of a token that its hash is of: 36 bytes of the signature at least. No two tokens
/// whose signatures are right end alike, and whoever looks for one that merely ends like another finds that
/// one entry, and that it is not the same. A whole token is ten times as long, and it is hashed when it is
/// sought, when it comes and when it makes room for another.
const HASHED: usize = 48;

fn hash_end<H: Hasher>(token: &str, state: &mut H) {
    let bytes = token.as_bytes();
    bytes[bytes.len().saturating_sub(HASHED)..].hash(state);
}

impl Hash for Verbatim {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_end(&self.0, state);
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_end(self.0, state);
    }
}

impl PartialEq for Verbatim {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Verbatim {}

impl Equivalent<Verbatim> for Sought<'_> {
    fn equivalent(&self, key: &Verbatim) -> bool {
        *self.0 == *key.0
    }
}

impl Verified {
    /// Remembers at most about `most` tokens; 0: none.
    pub(super) fn new(most: usize) -> Self {
        Self::hashed_by(RandomState::new(), most)
    }
}

impl<S: BuildHasher + Clone> Verified<S> {
    fn hashed_by(hasher: S, most: usize) -> Self {
        let cache = || Cache::with(most, most as u64, UnitWeighter, hasher, DefaultLifecycle::default());
        Self { tokens: (most > 0).then(cache) }
    }

    /// What `token` says, if its signature was verified before.
    pub(super) fn get(&self, token: &Token) -> Option<Arc<Content>> {
        self.tokens.as_ref()?.get(&Sought(token.as_str()))
    }

    /// Remembers `jws`, whose signature is right.
    pub(super) fn insert(&self, jws: &Jws<'_>) {
        let text = jws.token.as_str();
        if let Some(tokens) = self.tokens.as_ref().filter(|_| text.len() <= LONGEST) {
            tokens.insert(Verbatim(text.into()), Arc::clone(&jws.content));
        }
    }

    /// How many tokens are remembered.
    pub(super) fn len(&self) -> usize {
        self.tokens.as_ref().map_or(0, Cache::len)
    }
}

impl<S: BuildHasher + Clone> fmt::Debug for Verified<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("tokens", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::Forge;

    /// Gives every token the same hash.
    #[derive(Clone)]
    struct Colliding;

    impl Hasher for Colliding {
        fn write(&mut self, _: &[u8]) {}

        fn finish(&self) -> u64 {
            7
        }
    }

    impl BuildHasher for Colliding {
        type Hasher = Self;

        fn build_hasher(&self) -> Self {
            Self
        }
    }

    fn token(number: u64) -> Token {
        Token::parse(Forge::good().claim("jti", number.to_string()).token().as_bytes()).unwrap()
    }

    fn remember<S: BuildHasher + Clone>(verified: &Verified<S>, token: &Token) {
        verified.insert(&Jws::parse(token).unwrap());
    }

    #[test]
    fn a_token_with_the_hash_of_a_verified_one_is_not_taken_for_it() {
        let verified = Verified::hashed_by(Colliding, 64);
        let (good, other) = (token(1), token(2));
        remember(&verified, &good);
        assert!(verified.get(&good).is_some());
        assert!(verified.get(&other).is_none());
        let last = |text: &str| {
            format!("{}{}", &text[..text.len() - 1], if text.ends_with('A') { 'Q' } else { 'A' })
        };
        let altered = Token::parse(last(good.as_str()).as_bytes()).unwrap();
        assert!(verified.get(&altered).is_none(), "it differs in one character of its signature");
    }

    #[test]
    fn a_token_that_ends_like_a_verified_one_is_not_taken_for_it() {
        let verified = Verified::new(64);
        let good = token(1);
        remember(&verified, &good);
        let (content, signature) = good.as_str().rsplit_once('.').unwrap();
        assert!(signature.len() >= HASHED - 5);
        let other = content.replacen('.', ".e30", 1);
        for forged in [format!("{other}.{signature}"), format!("x{content}.{signature}")] {
            let forged = Token::parse(forged.as_bytes()).unwrap();
            assert!(verified.get(&forged).is_none());
        }
        assert!(verified.get(&good).is_some());
    }

    #[test]
    fn a_flood_of_distinct_tokens_does_not_grow_the_memory_of_verified_ones() {
        let verified = Verified::new(64);
        let jws = token(0);
        let signature = jws.as_str().rsplit_once('.').unwrap().0.to_owned();
        for number in 0..1000 {
            // Whether it is right does not matter here: whoever inserts has verified it.
            let token = Token::parse(format!("{signature}.{number:08}").as_bytes()).unwrap();
            remember(&verified, &token);
        }
        assert!((1..=64).contains(&verified.len()), "{}", verified.len());
    }

    #[test]
    fn a_long_token_is_not_remembered() {
        let verified = Verified::new(64);
        let long = Forge::good().claim("padding", "x".repeat(LONGEST)).token();
        let long = Token::parse(long.as_bytes()).unwrap();
        remember(&verified, &long);
        assert_eq!(verified.len(), 0);
    }

    #[test]
    fn with_a_limit_of_zero_nothing_is_remembered() {
        let verified = Verified::new(0);
        remember(&verified, &token(1));
        assert!(verified.get(&token(1)).is_none());
    }

    #[test]
    fn remembered_tokens_are_never_printed() {
        let verified = Verified::new(64);
        remember(&verified, &token(1));
        assert_eq!(format!("{verified:?}"), "Verified { tokens: 1 }");
    }
}
