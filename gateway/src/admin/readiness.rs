//! Whether clients can be served, and why not. Pure.

use serde::{Deserialize, Serialize};

use super::status::{IssuerStatus, NOT_ATTACHED, NOTHING, Status};

/// The answer to `GET /readyz`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Readiness {
    /// Whether this host should get clients: it guards what it is to guard, and can admit somebody on
    /// some route.
    pub ready: bool,
    /// Everything that is not as it should be. With `ready`, some clients suffer from it, and no other
    /// host would serve them better.
    pub reasons: Vec<String>,
}

/// A route, and what nobody can be admitted without.
#[derive(Clone, Debug)]
pub struct RouteHealth {
    /// Its path.
    pub path: String,
    /// Whether none of its upstreams could be connected to the last time.
    pub down: bool,
    /// The names of its issuers.
    pub issuers: Vec<String>,
}

impl Readiness {
    /// What `status` and `routes` say; `stopping`: nobody is accepted any more.
    pub fn of(status: &Status, routes: &[RouteHealth], stopping: bool) -> Self {
        let mut reasons = Vec::new();
        if stopping {
            reasons.push("the daemon is stopping".to_owned());
        }
        for interface in status.interfaces.iter().filter(|interface| interface.mode == NOT_ATTACHED) {
            let why = interface.reason.as_deref().unwrap_or("the program is not attached");
            reasons.push(format!("the interface {} is not guarded: {why}", interface.interface));
        }
        for list in status.policy.iter().flat_map(|policy| &policy.lists) {
            if list.source == NOTHING {
                let why = list.error.as_deref().unwrap_or("it was not fetched yet");
                reasons.push(format!("the list {} has never been read: {why}", list.list));
            }
        }
        let mut ready = reasons.is_empty();
        let faults: Vec<(&str, String)> = status
            .issuers
            .iter()
            .filter_map(|issuer| Some((issuer.issuer.as_str(), fault(issuer)?)))
            .collect();
        let unable = |route: &RouteHealth| {
            let faulty = |name: &String| faults.iter().any(|(faulty, _)| faulty == name);
            route.down || !route.issuers.is_empty() && route.issuers.iter().all(faulty)
        };
        ready &= routes.is_empty() || !routes.iter().all(unable);
        reasons.extend(faults.iter().map(|(_, fault)| fault.clone()));
        for route in routes.iter().filter(|route| route.down) {
            reasons.push(format!("no upstream of the route {} can be reached", route.path));
        }
        Self { ready, reasons }
    }
}

/// Why no token of `issuer` can be judged.
fn fault(issuer: &IssuerStatus) -> Option<String> {
    let name = &issuer.issuer;
    if let Some(asked) = &issuer.introspection {
        return asked.resting.then(|| format!("the issuer {name} does not answer about tokens"));
    }
    if issuer.keys == 0 {
        return Some(format!("there are no keys of the issuer {name}"));
    }
    let stale = issuer.fetched.as_ref().is_some_and(|fetched| fetched.stale);
    stale.then(|| format!("the keys of the issuer {name} are too old to judge by"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(issuers: &[(&str, usize)], mode: &str) -> Status {
        let issuers = issuers.iter().map(|(issuer, keys)| json!({"issuer": issuer, "keys": keys}));
        serde_json::from_value(json!({
            "version": "0", "pid": 1, "uptime_s": 0, "listen": [], "sessions": 0, "audit_lost": 0,
            "interfaces": [{"interface": "eth0", "mode": mode}],
            "issuers": issuers.collect::<Vec<_>>(),
        }))
        .expect("a status")
    }

    fn route(issuers: &[&str], down: bool) -> RouteHealth {
        let issuers = issuers.iter().map(|&issuer| issuer.to_owned()).collect();
        RouteHealth { path: "/chat".to_owned(), down, issuers }
    }

    #[test]
    fn a_host_that_can_admit_somebody_is_ready_and_says_what_is_amiss() {
        let status = status(&[("a", 1), ("b", 0)], "native");
        let routes = [route(&["a"], false), route(&["b"], false), route(&["a"], true)];
        let Readiness { ready, reasons } = Readiness::of(&status, &routes, false);
        assert!(ready && reasons.len() == 2, "{reasons:?}");
        assert!(reasons[0].contains("keys of the issuer b") && reasons[1].contains("/chat"), "{reasons:?}");
    }

    #[test]
    fn a_host_that_can_admit_nobody_or_guards_nothing_is_not_ready() {
        let good = status(&[("a", 1)], "native");
        assert!(Readiness::of(&good, &[route(&["a"], false)], false).ready);
        assert!(Readiness::of(&good, &[], false).ready, "a firewall alone");
        assert!(!Readiness::of(&good, &[route(&["a"], true)], false).ready);
        assert!(!Readiness::of(&good, &[route(&["a"], false)], true).ready);
        assert!(!Readiness::of(&status(&[("a", 0)], "native"), &[route(&["a"], false)], false).ready);
        assert!(!Readiness::of(&status(&[("a", 1)], NOT_ATTACHED), &[route(&["a"], false)], false).ready);
    }
}
