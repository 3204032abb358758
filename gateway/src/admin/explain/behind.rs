//! What stands behind the token: limits and upstreams, as far as there is a daemon to ask.

use super::Report;
use crate::edge::Route;
use crate::rejection::{Layer, Rejection};
use crate::session::limits::Taken;
use crate::session::pool::Node;

/// Adds how much is `taken` of the limits, and whether an upstream of `route` can be reached.
pub fn behind(report: &mut Report, taken: &[Taken], route: Option<&Route>) {
    let mut words = Vec::new();
    let mut full = None;
    for Taken { what, taken, most, reason } in taken {
        words.push(format!("{taken} of {most} {what}"));
        if taken >= most {
            full.get_or_insert(*reason);
        }
    }
    let words = format!("{}; how fast it has come is not asked", words.join(", "));
    match full {
        None => report.step(Layer::Limit, Some(true), words),
        Some(reason) => report.reject(&Rejection::new(reason).note(words)),
    }
    let Some(route) = route else {
        return report.step(Layer::Upstream, None, "without a route, no upstream is asked");
    };
    let one = |node: &Node| {
        let state = if node.is_down() { "could not be reached the last time" } else { "reachable" };
        format!("{} {state}, {} sessions", node.upstream, node.sessions())
    };
    let words: Vec<String> = route.upstreams.iter().map(|node| one(node)).collect();
    let words = words.join("; ");
    if route.upstreams.iter().all(|node| node.is_down()) {
        report.reject(&Rejection::new(crate::rejection::Reason::UpstreamUnreachable).note(words));
    } else {
        report.step(Layer::Upstream, Some(true), words);
    }
}

/// Says that nobody knows without a daemon.
pub fn unknown(report: &mut Report) {
    for layer in [Layer::Limit, Layer::Upstream] {
        report.step(layer, None, "not known without a running daemon");
    }
}
