//! `POST /sessions/{id}/token`: a session goes on with the bearer token of the request.

use serde_json::json;

use super::super::gate::Gate;
use super::super::renewal;
use super::super::snapshot::Snapshot;
use super::super::visitor::Visitor;
use super::{Refused, Request, Response};
use crate::audit::HandshakeId;
use crate::auth::bearer;
use crate::rejection::{Reason, Rejection};
use crate::session::limits::Place;

/// Where sessions are.
pub(super) const SESSIONS: &str = "/sessions/";

/// The session that `path` is about; `None`: it is about none.
fn session(path: &str) -> Option<HandshakeId> {
    HandshakeId::parse(path.strip_prefix(SESSIONS)?.strip_suffix("/token")?)
}

/// Answers a request below `/sessions/`.
pub(super) async fn answer(
    request: &Request,
    visitor: &Visitor,
    snapshot: &Snapshot,
    gate: &Gate,
    place: &Place,
) -> Result<Response, Refused> {
    // A page that may renew sessions may read why it cannot.
    let page = request.origin.as_deref().filter(|origin| snapshot.renews_for(origin));
    if let Some(response) = Response::unless_post(&request.method, page, "Authorization") {
        return Ok(response);
    }
    renew(request, visitor, gate, place).await.map_err(|refused| refused.readable_by(page))
}

async fn renew(
    request: &Request,
    visitor: &Visitor,
    gate: &Gate,
    place: &Place,
) -> Result<Response, Refused> {
    let unknown = |rejection| Refused { route: None, rejection };
    if request.length.is_some_and(|length| length > 0) {
        let detail = "The token stands in the Authorization header, and the request has no body.";
        let rejection = Rejection::new(Reason::HandshakeMalformed).detail(detail);
        return Err(unknown(Box::new(rejection)));
    }
    let open = session(&request.path).and_then(|id| gate.sessions_open().find(id));
    let open = open.ok_or_else(|| unknown(Box::new(Rejection::new(Reason::HandshakeNoSession))))?;
    let route = renewal::route(gate, &open).map_err(unknown)?;
    let origin = request.origin.as_deref();
    let renewed = async {
        if let Some(origin) = origin.filter(|origin| route.excludes(origin)) {
            let note = format!("a page of {origin:?} asks to renew a session on {}", route.path);
            return Err(Box::new(Rejection::new(Reason::HandshakeOrigin).note(note)));
        }
        // Judging a token costs as much here as in a handshake.
        place.ask(&route.path, &route.limits).map_err(|excess| Box::new(excess.rejection()))?;
        let token = bearer(request.authorization())?.shown_with(visitor.shown()?);
        renewal::renew(gate, &open, &route, &token).await
    };
    let left = renewed.await.map_err(|rejection| Refused { route: Some(route.clone()), rejection })?;
    let body = json!({ "id": open.id.to_string(), "expires_in": left }).to_string();
    let response = Response::json(200, &body).header("Cache-Control", "no-store");
    Ok(response.readable_by(origin.filter(|origin| route.lists(origin))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_the_id_of_its_handshake_alone() {
        let id = HandshakeId::new([0xab; 10]);
        assert_eq!(session(&format!("/sessions/{id}/token")), Some(id));
        let short = format!("/sessions/{}/token", "ab".repeat(9));
        let upper = format!("/sessions/{}/token", "AB".repeat(10));
        let wide = format!("/sessions/{}/token", "é".repeat(10));
        for path in [&short, &upper, &wide, "/sessions//token", "/sessions/token", "/sessions/"] {
            assert_eq!(session(path), None, "{path}");
        }
    }
}
