//! What handshakes are judged by: routes, keys and policy of one moment, swapped whole.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::opening::Opening;
use crate::auth::{Authenticator, Issuer, Requirement};
use crate::config;
use crate::policy::{Generation, MatchedRule};
use crate::rejection::{Reason, Rejection};

/// Routes, keys and policy of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    routes: HashMap<String, Arc<Route>>,
    issuers: Vec<Arc<Issuer>>,
    policy: Option<Arc<Generation>>,
}

/// One route, ready to judge.
#[derive(Debug)]
pub struct Route {
    /// Its path.
    pub path: String,
    /// Where admitted sessions go.
    pub upstream: config::Upstream,
    /// What a token must be.
    pub requirement: Requirement,
    /// How much it carries.
    pub limits: config::RouteLimits,
    origins: Option<Vec<String>>,
}

impl Snapshot {
    /// The snapshot of `routes` with these issuers and this policy.
    pub fn new(
        routes: &[config::Route],
        authenticator: &Authenticator,
        policy: Option<Arc<Generation>>,
    ) -> Self {
        let route = |route: &config::Route| {
            let ready = Route {
                path: route.path.clone(),
                upstream: route.upstream.clone(),
                requirement: authenticator.requirement(route),
                limits: route.limits,
                origins: route.origins.clone(),
            };
            (route.path.clone(), Arc::new(ready))
        };
        Self { routes: routes.iter().map(route).collect(), issuers: authenticator.issuers().to_vec(), policy }
    }

    /// The address policy, when there is one.
    pub fn policy(&self) -> Option<&Generation> {
        self.policy.as_deref()
    }

    /// What any route demands at least: a token of some issuer.
    pub fn any_route(&self) -> Requirement {
        Requirement { issuers: self.issuers.clone(), scopes: config::ScopeRule::All(Vec::new()) }
    }

    /// Whether the address policy lets `address` through.
    ///
    /// # Errors
    ///
    /// The rejection of the layer `firewall`, with the rule that decided.
    pub fn admit(&self, address: IpAddr) -> Result<(), Box<Rejection>> {
        let Some(policy) = &self.policy else {
            return Ok(());
        };
        if !policy.decide(address).is_drop() {
            return Ok(());
        }
        let rule = policy.explain(address);
        let mut rejection = Rejection::new(rule.reason().unwrap_or(Reason::FirewallDeniedRange));
        rejection.rule = Some(rule);
        Err(Box::new(rejection))
    }

    /// The rule that would have kept `address` out, were its list not only observed.
    pub fn observed(&self, address: IpAddr) -> Option<MatchedRule> {
        let policy = self.policy.as_ref()?;
        policy.decide(address).is_observed().then(|| policy.explain(address))
    }

    /// The route with exactly this path, if its pages may connect from `origin`.
    ///
    /// # Errors
    ///
    /// `handshake/no_route`, or `handshake/origin` with the route.
    pub fn route(&self, path: &str, origin: Option<&str>) -> Result<Arc<Route>, Box<Rejection>> {
        let Some(route) = self.routes.get(path) else {
            let note = format!("the path is {}", harmless(path));
            return Err(Box::new(Rejection::new(Reason::HandshakeNoRoute).note(note)));
        };
        match (&route.origins, origin) {
            (Some(allowed), Some(origin)) if !allowed.iter().any(|one| one.eq_ignore_ascii_case(origin)) => {
                const LONGEST: usize = 100;
                let origin: String = origin.chars().take(LONGEST).collect();
                let note = format!("the origin {origin:?} is not among those of {path}");
                Err(Box::new(Rejection::new(Reason::HandshakeOrigin).note(note)))
            }
            _ => Ok(Arc::clone(route)),
        }
    }

    /// The route of `opening`.
    ///
    /// # Errors
    ///
    /// As for [`Self::route`].
    pub fn route_of(&self, opening: &Opening) -> Result<Arc<Route>, Box<Rejection>> {
        self.route(opening.path(), opening.origin())
    }
}

/// A path as it can stand in the journal. Some services take tokens and tickets in it, so only
/// segments that look like words are shown.
fn harmless(path: &str) -> String {
    const MOST: usize = 8;
    let segments = path.split('/').take(MOST);
    let shown: Vec<&str> = segments.map(|one| if is_word(one) { one } else { "…" }).collect();
    format!("{:?}", shown.join("/"))
}

/// Lower-case letters, some of them percent-encoded perhaps, or something as short as `v1`.
fn is_word(segment: &str) -> bool {
    const LONGEST: usize = 24;
    const SHORT: usize = 4;
    let letter = |byte: u8| byte.is_ascii_lowercase() || b"-_.;".contains(&byte);
    // Of an encoded byte only the percent sign is looked at: it is what the operator has to see.
    let plain = segment.split('%').enumerate().all(|(index, part)| {
        let rest = if index == 0 { part } else { part.get(2..).unwrap_or("") };
        rest.bytes().all(letter)
    });
    segment.len() <= LONGEST
        && (plain || segment.len() <= SHORT && segment.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        && segment.matches('%').count() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_journal_is_short_and_holds_no_token() {
        assert_eq!(harmless("/chat/room"), "\"/chat/room\"");
        assert_eq!(harmless("/api/v1/Chat"), "\"/api/v1/Chat\"");
        assert_eq!(harmless(&format!("/ws/{}/x", "eyJ".repeat(40))), "\"/ws/…/x\"");
        assert_eq!(harmless("/ticket/9f86d081884c"), "\"/ticket/…\"");
        assert!(harmless(&"/a".repeat(5000)).len() < 300);
    }
}
