//! Issuers, and which of them a route believes.

use std::sync::Arc;
use std::time::Duration;

use super::introspection::Introspect;
use super::keys::{KeySet, Lack, LiveKeys, TRIES};
use super::revocation::InForce;
use crate::config::{self, ClaimRule, ScopeRule};

/// Someone whose tokens can be accepted: the rules for its tokens and its keys.
#[derive(Debug)]
pub struct Issuer {
    pub(super) rules: config::Issuer,
    pub(super) keys: Keys,
    pub(super) introspector: Option<Arc<dyn Introspect>>,
}

/// The keys of an issuer.
#[derive(Debug)]
pub(super) enum Keys {
    /// Those of its file, as they were when this was made.
    Fixed(Arc<KeySet>),
    /// Those that it was last heard to have.
    Live(Arc<LiveKeys>),
}

impl Keys {
    /// The keys that can be used at `now`, in seconds since 1970.
    pub(super) fn current(&self, now: u64) -> Result<Arc<KeySet>, Lack> {
        match self {
            Self::Fixed(keys) if keys.is_empty() => Err(Lack::Nothing),
            Self::Fixed(keys) => Ok(Arc::clone(keys)),
            Self::Live(keys) => keys.current(now),
        }
    }

    /// The keys, be they too old to be used.
    pub(super) fn last(&self) -> Arc<KeySet> {
        match self {
            Self::Fixed(keys) => Arc::clone(keys),
            Self::Live(keys) => keys.last(),
        }
    }
}

impl Issuer {
    /// The issuer of the configuration with the keys that were loaded for it.
    pub fn new(rules: config::Issuer, keys: Arc<KeySet>) -> Self {
        Self { rules, keys: Keys::Fixed(keys), introspector: None }
    }

    /// The issuer of the configuration with the keys that are fetched for it.
    pub fn live(rules: config::Issuer, keys: Arc<LiveKeys>) -> Self {
        Self { rules, keys: Keys::Live(keys), introspector: None }
    }

    /// The same, which `introspector` asks about tokens that only it can read.
    #[must_use]
    pub fn asked_by(self, introspector: Option<Arc<dyn Introspect>>) -> Self {
        Self { introspector, ..self }
    }

    /// The `iss` of its tokens.
    pub fn identifier(&self) -> &str {
        &self.rules.issuer
    }

    /// Its public keys as JWKs, where it serves them; they are its own.
    pub fn served(&self) -> Vec<serde_json::Value> {
        match &self.keys {
            Keys::Fixed(keys) if self.rules.serve_keys => keys.served().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.rules.name
    }

    /// What may keep some tokens of this issuer out although their key is there: more keys for one
    /// of the accepted algorithms than are tried for a token that does not name its key.
    pub fn crowd(&self) -> Option<String> {
        let keys = self.keys.last();
        let (algorithm, count) =
            keys.crowds().find(|(algorithm, _)| self.rules.algorithms.contains(algorithm))?;
        Some(format!(
            "{count} keys of the issuer `{}` are for {algorithm:?}: of a token without `kid`, only the first {TRIES} \
             are tried. Remove old keys, or let the issuer name the key in its tokens",
            self.rules.name
        ))
    }

    /// What keeps every token of this issuer out, although each part is valid: no key verifies
    /// any of the accepted algorithms. An empty set has its own warning.
    pub fn mismatch(&self) -> Option<String> {
        let keys = self.keys.last();
        let fits = self.rules.algorithms.iter().any(|algorithm| keys.fits(*algorithm));
        (!fits && !keys.is_empty()).then(|| {
            format!(
                "no key of the issuer `{}` is for {}: correct its algorithms or its keys",
                self.rules.name,
                names(&self.rules.algorithms)
            )
        })
    }
}

/// All issuers, with the keys of one moment. Immutable: new keys make a new one.
#[derive(Debug, Default)]
pub struct Authenticator {
    issuers: Vec<Arc<Issuer>>,
    revocations: InForce,
}

impl Authenticator {
    /// With these issuers.
    pub fn new(issuers: impl IntoIterator<Item = Issuer>) -> Self {
        Self { issuers: issuers.into_iter().map(Arc::new).collect(), revocations: InForce::default() }
    }

    /// The same, where these revocations are in force.
    #[must_use]
    pub fn revoking(self, revocations: InForce) -> Self {
        Self { revocations, ..self }
    }

    /// The revocations in force.
    pub fn revocations(&self) -> &InForce {
        &self.revocations
    }

    /// All issuers, in the order of the configuration.
    pub fn issuers(&self) -> &[Arc<Issuer>] {
        &self.issuers
    }

    /// What `route` demands of a token.
    pub fn requirement(&self, route: &config::Route) -> Requirement {
        let believed = self.issuers.iter().filter(|issuer| route.issuers.contains(&issuer.rules.name));
        Requirement {
            issuers: believed.cloned().collect(),
            scopes: route.scopes.clone(),
            claims: route.claims.clone(),
            max_age: route.max_age,
            revocations: self.revocations.clone(),
        }
    }
}

/// What a route demands of a token.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// Who may have issued it. With none, no token is accepted.
    pub issuers: Vec<Arc<Issuer>>,
    /// What it must allow.
    pub scopes: ScopeRule,
    /// What its claims must be.
    pub claims: ClaimRule,
    /// The longest time since its user signed in.
    pub max_age: Option<Duration>,
    /// What is revoked.
    pub revocations: InForce,
}

impl Requirement {
    /// A token of one of these issuers, whatever it allows.
    pub fn any_token(issuers: Vec<Arc<Issuer>>) -> Self {
        Self {
            issuers,
            scopes: ScopeRule::default(),
            claims: ClaimRule::default(),
            max_age: None,
            revocations: InForce::default(),
        }
    }
}

/// Algorithms, for a note.
pub(super) fn names(algorithms: &[jsonwebtoken::Algorithm]) -> String {
    algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect::<Vec<_>>().join(", ")
}
