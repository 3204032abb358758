//! The checks that a token went through, for `gatehouse explain`.

use serde_json::{Map, Value};

use super::judge::Identity;
use crate::rejection::{Layer, Rejection};

/// A check of a token. The order of the variants is that of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Three parts, a header and claims that are JSON objects of unique names, nothing critical.
    Form,
    /// `iss` names an issuer of the route.
    Issuer,
    /// The issuer accepts the algorithm.
    Algorithm,
    /// The issuer has a key for it, with the token's `kid`.
    Key,
    /// That key made the signature.
    Signature,
    /// `typ` is that of an access token.
    Type,
    /// The claims of the profile are there and of their types.
    Claims,
    /// The token is not revoked.
    Revocation,
    /// The token is not bound to a key.
    Binding,
    /// The claims have the values that the issuer has to give.
    Values,
    /// The token is not valid for too long.
    Lifetime,
    /// `aud` names this service.
    Audience,
    /// `nbf` and `iat` are in the past.
    NotYet,
    /// `exp` is in the future.
    Expiry,
    /// The user signed in recently enough.
    SignIn,
    /// The scopes are those that the route needs.
    Scopes,
    /// The claims are those that the route needs.
    RouteClaims,
}

impl Step {
    /// All checks in their order.
    pub const ALL: [Self; 17] = [
        Self::Form,
        Self::Issuer,
        Self::Algorithm,
        Self::Key,
        Self::Signature,
        Self::Type,
        Self::Claims,
        Self::Revocation,
        Self::Binding,
        Self::Values,
        Self::Lifetime,
        Self::Audience,
        Self::NotYet,
        Self::Expiry,
        Self::SignIn,
        Self::Scopes,
        Self::RouteClaims,
    ];

    /// The name in the JSON form of `gatehouse explain`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Issuer => "issuer",
            Self::Algorithm => "algorithm",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Type => "type",
            Self::Claims => "claims",
            Self::Revocation => "revocation",
            Self::Binding => "binding",
            Self::Values => "values",
            Self::Lifetime => "lifetime",
            Self::Audience => "audience",
            Self::NotYet => "not_yet",
            Self::Expiry => "expiry",
            Self::SignIn => "sign_in",
            Self::Scopes => "scopes",
            Self::RouteClaims => "route_claims",
        }
    }

    /// The layer that rejects when it fails, but for outages.
    pub const fn layer(self) -> Layer {
        match self {
            Self::Expiry | Self::SignIn => Layer::Expiry,
            Self::Scopes | Self::RouteClaims => Layer::Scope,
            _ => Layer::Credentials,
        }
    }

    /// The check after this one.
    pub(super) fn next(self) -> Option<Self> {
        let at = Self::ALL.iter().position(|step| *step == self)?;
        Self::ALL.get(at + 1).copied()
    }
}

/// One check that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which one.
    pub step: Step,
    /// Whether the token passed. A failed check is not the end where several issuers have the
    /// same `iss`: another of them may accept the token.
    pub passed: bool,
    /// What was found, in words for the operator.
    pub text: String,
}

/// What a token says, without its signature. Whether any of it is true is another question.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// The header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

/// A judgement with all its steps.
#[derive(Debug)]
pub struct Explanation {
    /// The checks in their order; the one that decided to reject is in `outcome` and `failed` only.
    pub checks: Vec<Check>,
    /// The check that decided to reject.
    pub failed: Option<Step>,
    /// What the token says, when it can be read.
    pub contents: Option<Contents>,
    /// The same as without an explanation.
    pub outcome: Result<Identity, Box<Rejection>>,
}

/// Takes down the checks. The unit type does not, and costs nothing: judging for real and
/// explaining are the same code.
pub(super) trait Trace {
    fn passed(&mut self, step: Step, text: impl FnOnce() -> String);
    fn failed(&mut self, step: Step, text: impl FnOnce() -> String);
}

impl Trace for () {
    fn passed(&mut self, _: Step, _: impl FnOnce() -> String) {}
    fn failed(&mut self, _: Step, _: impl FnOnce() -> String) {}
}

impl Trace for Vec<Check> {
    fn passed(&mut self, step: Step, text: impl FnOnce() -> String) {
        self.push(Check { step, passed: true, text: text() });
    }

    fn failed(&mut self, step: Step, text: impl FnOnce() -> String) {
        self.push(Check { step, passed: false, text: text() });
    }
}
