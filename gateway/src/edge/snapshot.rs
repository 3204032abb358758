//! What handshakes are judged by: routes, keys and policy of one moment, swapped whole.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::endpoints::{self, Endpoints};
use super::listener::Listener;
use super::opening::Opening;
use crate::auth::revocation::InForce;
use crate::auth::{Authenticator, Issuer, Requirement};
use crate::bans::Bans;
use crate::config;
use crate::policy::{Generation, MatchedRule, Tier};
use crate::rejection::{Reason, Rejection};
use crate::session::pool::Node;

/// Routes, keys and policy of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    routes: HashMap<String, Arc<Route>>,
    issuers: Vec<Arc<Issuer>>,
    policy: Option<Arc<Generation>>,
    endpoints: Endpoints,
    revocations: InForce,
    listeners: HashMap<SocketAddr, Arc<Listener>>,
    /// Who has banned whom until when; the policy says whether.
    bans: Arc<Bans>,
}

/// One route, ready to judge.
#[derive(Debug)]
pub struct Route {
    /// Its path.
    pub path: String,
    /// Where admitted sessions go.
    pub upstreams: Vec<Arc<Node>>,
    /// What a token must be.
    pub requirement: Requirement,
    /// Where its clients put their tokens.
    pub sources: config::TokenSources,
    /// How much it carries.
    pub limits: config::RouteLimits,
    /// Whether its sessions can be renewed.
    pub renewal: bool,
    /// How those hear it that are turned away.
    pub browser: config::Browser,
    /// How long before its end a session is told so by a message of the gate; `None`: it is not, and
    /// tells the gate nothing either.
    pub control: Option<Duration>,
    origins: Option<Vec<String>>,
    /// Where its metadata is (RFC 9728).
    pub metadata: Option<String>,
}

impl Route {
    /// Whether `origin` is in its list of origins.
    pub fn lists(&self, origin: &str) -> bool {
        self.origins.as_ref().is_some_and(|all| all.iter().any(|one| one.eq_ignore_ascii_case(origin)))
    }
}

impl Route {
    /// Whether pages of `origin` may not connect.
    pub(super) fn excludes(&self, origin: &str) -> bool {
        self.origins.is_some() && !self.lists(origin)
    }
}

impl Snapshot {
    /// The snapshot of `routes` with these issuers and this policy, for clients that know the gate as
    /// `public_url`.
    pub fn new<'a>(
        routes: &'a [config::Route],
        authenticator: &Authenticator,
        policy: Option<Arc<Generation>>,
        public_url: Option<&str>,
    ) -> Self {
        let node = |upstream: &config::Upstream| Arc::new(Node::new(upstream.clone()));
        let mut nodes: HashMap<&config::Upstream, Arc<Node>> = HashMap::new();
        let route = |route: &'a config::Route| {
            let ready = Route {
                path: route.path.clone(),
                upstreams: route
                    .upstreams
                    .iter()
                    .map(|upstream| nodes.entry(upstream).or_insert_with(|| node(upstream)).clone())
                    .collect(),
                requirement: authenticator.requirement(route),
                sources: route.sources.clone(),
                limits: route.limits,
                renewal: route.renewal,
                browser: route.browser,
                control: route.control,
                origins: route.origins.clone(),
                metadata: public_url.map(|url| endpoints::metadata_url(url, &route.path)),
            };
            (route.path.clone(), Arc::new(ready))
        };
        let issuers = authenticator.issuers().to_vec();
        let endpoints = Endpoints::new(routes, &issuers, public_url);
        let revocations = authenticator.revocations().clone();
        let routes = routes.iter().map(route).collect();
        Self {
            routes,
            issuers,
            policy,
            endpoints,
            revocations,
            listeners: HashMap::new(),
            bans: Arc::default(),
        }
    }

    /// The same, for clients that connect to these addresses.
    #[must_use]
    pub fn listening(self, listeners: HashMap<SocketAddr, Arc<Listener>>) -> Self {
        Self { listeners, ..self }
    }

    /// The same, with what is known of the bans in its policy.
    #[must_use]
    pub fn banning(self, bans: Arc<Bans>) -> Self {
        Self { bans, ..self }
    }

    /// How clients that connect to `address` are spoken to, if more is said about it.
    pub(super) fn listener(&self, address: &SocketAddr) -> Option<&Arc<Listener>> {
        self.listeners.get(address)
    }

    /// Goes on with the upstreams that `before` has, too: they carry sessions, and are known to be up
    /// or down.
    pub(super) fn inherit(&mut self, before: &Self) {
        let known: HashMap<&config::Upstream, &Arc<Node>> =
            before.nodes().map(|node| (&node.upstream, node)).collect();
        for route in self.routes.values_mut() {
            // A new snapshot is nobody else's.
            let Some(route) = Arc::get_mut(route) else { continue };
            for node in &mut route.upstreams {
                if let Some(known) = known.get(&node.upstream) {
                    *node = Arc::clone(known);
                }
            }
        }
    }

    /// The routes.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }

    /// The upstreams of all routes; one that several routes lead to comes several times.
    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.routes.values().flat_map(|route| &route.upstreams)
    }

    /// The upstreams of all routes, each once, by name.
    pub fn upstreams(&self) -> Vec<Arc<Node>> {
        let mut nodes: Vec<Arc<Node>> = self.nodes().map(Arc::clone).collect();
        nodes.sort_by_cached_key(|node| (node.upstream.to_string(), Arc::as_ptr(node).addr()));
        nodes.dedup_by(|one, other| Arc::ptr_eq(one, other));
        nodes
    }

    /// The upstreams among which sessions can choose, each once.
    pub fn choices(&self) -> Vec<Arc<Node>> {
        let routes = self.routes.values().filter(|route| route.upstreams.len() > 1);
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for node in routes.flat_map(|route| &route.upstreams) {
            if !nodes.iter().any(|known| Arc::ptr_eq(known, node)) {
                nodes.push(Arc::clone(node));
            }
        }
        nodes
    }

    /// What is answered besides opening handshakes.
    pub(super) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Whether pages of `origin` may ask for tickets for some route.
    pub(super) fn takes_tickets_from(&self, origin: &str) -> bool {
        self.routes.values().any(|route| route.sources.tickets && route.lists(origin))
    }

    /// Whether pages of `origin` may renew sessions on some route.
    pub(super) fn renews_for(&self, origin: &str) -> bool {
        self.routes.values().any(|route| route.renewal && route.lists(origin))
    }

    /// The address policy, when there is one.
    pub fn policy(&self) -> Option<&Generation> {
        self.policy.as_deref()
    }

    /// What any route demands at least: a token of some issuer.
    pub fn any_route(&self) -> Requirement {
        Requirement { revocations: self.revocations.clone(), ..Requirement::any_token(self.issuers.clone()) }
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
        if let Some(ban) = self.bans.find(address).filter(|_| rule.tier == Tier::Ban) {
            rejection.note = Some(ban.to_string());
            rejection.until = Some(ban.until);
        }
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
        match origin {
            Some(origin) if route.excludes(origin) => {
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
