//! Which layer would reject a client, and why: the checks in their order, each with its result.
//!
//! The very code and tables of the daemon answer here; nothing is judged a second way.

mod behind;
mod ends;
mod judgement;
mod live;
mod words;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::sessions::SessionStatus;
use crate::audit::Past;
use crate::auth::Step as Check;
use crate::auth::sources::places;
use crate::edge::{Route, Snapshot};
use crate::policy::MatchedRule;
use crate::rejection::{Layer, Rejection};

pub use behind::{behind, unknown};
pub use ends::{End, ends};
pub use live::live;
pub use words::words;

/// What is known about the client. What is left out is not judged.
#[derive(Clone, Default, Deserialize, Serialize)]
pub struct Query {
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The token; empty: the client sends none.
    pub token: Option<String>,
    /// The path of the request, without a query.
    pub path: Option<String>,
    /// The `Origin` header.
    pub origin: Option<String>,
    /// The identifier of a handshake or of a session: what is known of it stands for what is left out.
    #[serde(default)]
    pub id: Option<String>,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("address", &self.address)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("path", &self.path)
            .field("origin", &self.origin)
            .field("id", &self.id)
            .finish()
    }
}

impl Query {
    /// Takes from `past` what is not given.
    pub fn know(&mut self, past: &Past) {
        self.address = self.address.or_else(|| past.field("CLIENT")?.parse().ok());
        if self.path.is_none() {
            self.path = past.field("ROUTE").map(str::to_owned);
        }
    }
}

/// The answer. The JSON form of `gatehouse explain --json`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// Whether the state of the running daemon was asked, rather than the files.
    pub live: bool,
    /// What is recorded of the handshake that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<Past>,
    /// The open session that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionStatus>,
    /// What ends that session by itself, if nothing else does before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<End>,
    /// Every check that was made, in order.
    pub steps: Vec<Step>,
    /// What the token says, when it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenContents>,
    /// The issuer and the subject of a token that is good, for the limits.
    #[serde(skip)]
    pub identity: Option<(String, String)>,
    /// The first layer that rejects, if any.
    pub rejection: Option<Verdict>,
    /// The rule that would drop the address, were its list not only observed.
    #[serde(default)]
    pub observed: Option<Rule>,
    /// What the list that decided about the address, or the default, has decided at the card so
    /// far; `None` without a running daemon, an address or an attached card.
    #[serde(default)]
    pub packets: Option<Hits>,
}

/// What a token says, without its signature.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TokenContents {
    /// Whether a key of an issuer of the route made its signature. If not, anybody can have written
    /// it.
    pub verified: bool,
    /// The header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

/// Packets that one list, or the default, has decided.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Hits {
    /// Dropped.
    pub dropped: u64,
    /// Passed; for an observed list, what it would have dropped.
    pub passed: u64,
}

/// One check.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Step {
    /// The layer that it belongs to.
    pub layer: String,
    /// Which check of a token it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// What was checked and what decided, in words.
    pub text: String,
    /// Whether it let the client through; `None` when it was not asked.
    pub passed: Option<bool>,
}

/// The rejection, in full.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Verdict {
    /// The layer.
    pub layer: String,
    /// The reason within the layer.
    pub reason: String,
    /// The status of the HTTP answer.
    pub status: u16,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// What happened, in one line.
    pub title: String,
    /// What the client is told besides.
    pub detail: Option<String>,
    /// What only the operator may know.
    pub note: Option<String>,
    /// The rule of the address policy, for the layer `firewall`.
    pub rule: Option<Rule>,
    /// The remedy for the client.
    pub client_fix: String,
    /// The remedy for the operator.
    pub operator_fix: String,
}

/// The rule that decided about an address.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Rule {
    /// The tier.
    pub tier: String,
    /// The prefix; `None` when the default decided.
    pub prefix: Option<String>,
    /// The list.
    pub list: Option<String>,
    /// Line of the list; 0 when it has none.
    pub line: u32,
    /// The generation that was asked.
    pub generation: u64,
}

impl Report {
    /// Adds a check of `layer` that was made, or was not asked for.
    pub fn step(&mut self, layer: Layer, passed: Option<bool>, text: impl Into<String>) {
        self.steps.push(Step { layer: layer.name().to_owned(), check: None, text: text.into(), passed });
    }

    /// The layers that would reject as well, after the first one.
    pub fn later(&self) -> impl Iterator<Item = &str> {
        let first = self.rejection.as_ref().map(|verdict| verdict.layer.as_str());
        let mut seen = BTreeSet::new();
        let rejecting = self.steps.iter().filter(|step| step.passed == Some(false));
        rejecting
            .map(|step| step.layer.as_str())
            .filter(move |layer| Some(*layer) != first && seen.insert(layer.to_owned()))
    }

    /// Says which check of the token the last step is.
    fn name(&mut self, check: Check) {
        if let Some(step) = self.steps.last_mut() {
            step.check = Some(check.name().to_owned());
        }
    }

    /// Adds the check that rejects. The first one counts; later ones stay in the steps.
    pub fn reject(&mut self, rejection: &Rejection) {
        let more = rejection.note.as_ref().or(rejection.detail.as_ref());
        let reason = rejection.reason;
        self.step(
            reason.layer(),
            Some(false),
            match more {
                Some(more) => format!("{}: {more}", reason.title()),
                None => reason.title().to_owned(),
            },
        );
        self.rejection.get_or_insert_with(|| Verdict::from(rejection));
    }
}

impl From<&Rejection> for Verdict {
    fn from(rejection: &Rejection) -> Self {
        let reason = rejection.reason;
        Self {
            layer: reason.layer().name().to_owned(),
            reason: reason.name().to_owned(),
            status: rejection.status(),
            retryable: reason.retryable(),
            title: reason.title().to_owned(),
            detail: rejection.detail.clone(),
            note: rejection.note.clone(),
            rule: rejection.rule.as_ref().map(Rule::from),
            client_fix: reason.fix().to_owned(),
            operator_fix: reason.operator_fix().to_owned(),
        }
    }
}

impl From<&MatchedRule> for Rule {
    fn from(rule: &MatchedRule) -> Self {
        Self {
            tier: rule.tier.name().to_owned(),
            prefix: rule.prefix.map(|prefix| prefix.to_string()),
            list: rule.list.clone(),
            line: rule.line,
            generation: rule.generation,
        }
    }
}

/// Which layer of `snapshot` would reject the client of `query` at the time `now`.
pub fn report(snapshot: &Snapshot, query: &Query, now: SystemTime) -> Report {
    let mut report = Report::default();
    firewall(&mut report, snapshot, query.address);
    let route = handshake(&mut report, snapshot, query);
    match (&query.token, route) {
        (None, _) => report.step(Layer::Credentials, None, "no token was given: --token"),
        (Some(token), Some(route)) => {
            let places = places(&route.sources);
            let text = format!("where the token stands was not asked; this route takes one in {places}");
            report.step(Layer::Credentials, None, text);
            judgement::judge(&mut report, &route.requirement, token, now);
        }
        (Some(token), None) if query.path.is_none() => {
            report.step(Layer::Scope, None, "no route was given, so no scope is asked for: --path");
            judgement::judge(&mut report, &snapshot.any_route(), token, now);
        }
        (Some(_), None) => report.step(Layer::Credentials, None, "without a route, no token is judged"),
    }
    report
}

fn firewall(report: &mut Report, snapshot: &Snapshot, address: Option<IpAddr>) {
    let Some(address) = address else {
        return report.step(Layer::Firewall, None, "no address was given: --address");
    };
    let Some(policy) = snapshot.policy() else {
        return report.step(Layer::Firewall, Some(true), "there is no address policy");
    };
    match snapshot.admit(address) {
        Ok(()) => {
            report.step(Layer::Firewall, Some(true), words(&policy.explain(address)));
            report.observed = snapshot.observed(address).as_ref().map(Rule::from);
        }
        Err(mut rejection) => {
            let rule = rejection.rule.as_ref().map(words);
            rejection.note =
                Some([rule, rejection.note.take()].into_iter().flatten().collect::<Vec<_>>().join("; "));
            report.reject(&rejection);
        }
    }
}

fn handshake(report: &mut Report, snapshot: &Snapshot, query: &Query) -> Option<Arc<Route>> {
    let Some(path) = &query.path else {
        report.step(Layer::Handshake, None, "no path was given: --path");
        return None;
    };
    // A route is found without the query, as for a real request.
    let path = path.split_once('?').map_or(path.as_str(), |(path, _)| path);
    match snapshot.route(path, query.origin.as_deref()) {
        Ok(route) => {
            report.step(Layer::Handshake, Some(true), format!("the route {path} is there"));
            Some(route)
        }
        Err(rejection) => {
            report.reject(&rejection);
            // A page that may not connect is not the end: the later layers ask the same of all pages.
            snapshot.route(path, None).ok()
        }
    }
}

#[cfg(test)]
mod completeness;
#[cfg(test)]
mod tests;
