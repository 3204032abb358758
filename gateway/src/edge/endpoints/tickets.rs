//! `POST /tickets`: a bearer token becomes a ticket that can stand in a URL.
//!
//! Browsers cannot set a header on a WebSocket. A page that has a token trades it for a ticket, which
//! is good for seconds, for one handshake, on one route, from one address: who finds it in a log later
//! finds nothing.

use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::super::gate::Gate;
use super::super::head::Head;
use super::super::snapshot::Snapshot;
use super::super::visitor::Visitor;
use super::wanted::Wanted;
use super::{Refused, Request, Response};
use crate::auth::bearer;
use crate::rejection::http::RETRY;
use crate::rejection::{Reason, Rejection};
use crate::session::limits::Place;
use crate::session::stream::Stream;

/// Answers a request to `/tickets`.
pub(super) async fn answer(
    stream: &mut Stream,
    head: &Head,
    request: &Request,
    visitor: &Visitor,
    snapshot: &Snapshot,
    gate: &Gate,
    place: &Place,
) -> Result<Response, Refused> {
    // A page that may ask for tickets may read why it gets none.
    let page = request.origin.as_deref().filter(|origin| snapshot.takes_tickets_from(origin));
    if let Some(response) = Response::unless_post(&request.method, page, "Authorization, Content-Type") {
        return Ok(response);
    }
    give(stream, head, request, visitor, snapshot, gate, place)
        .await
        .map_err(|refused| refused.readable_by(page))
}

async fn give(
    stream: &mut Stream,
    head: &Head,
    request: &Request,
    visitor: &Visitor,
    snapshot: &Snapshot,
    gate: &Gate,
    place: &Place,
) -> Result<Response, Refused> {
    let origin = request.origin.as_deref();
    let refused = |rejection| Refused { route: None, rejection };
    let body = body(stream, head, request.length, gate).await.map_err(refused)?;
    let wanted = Wanted::parse(&body).ok_or_else(|| {
        let detail = "The body of a request for a ticket is a JSON object such as {\"route\":\"/chat\"}.";
        refused(Box::new(Rejection::new(Reason::HandshakeMalformed).detail(detail)))
    })?;
    let found = snapshot.route(&wanted.route, origin).and_then(|route| {
        if route.sources.tickets {
            return Ok(route);
        }
        let rejection = Rejection::new(Reason::HandshakeNoRoute);
        Err(Box::new(rejection.detail("This route takes no tickets.")))
    });
    let route = found.map_err(refused)?;
    let given = async {
        // Judging a token costs as much here as in a handshake.
        place.ask(&route.path, &route.limits).map_err(|excess| Box::new(excess.rejection()))?;
        let token = bearer(request.authorization())?.shown_with(visitor.shown()?);
        route.requirement.authenticate(&token, || gate.now()).await?;
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Reason::LimitCapacity)?;
        let ticket = gate.tickets().give(token, &route.path, visitor.client.ip(), Instant::now(), &random);
        Ok::<_, Box<Rejection>>(ticket?)
    };
    let ticket = given.await.map_err(|rejection| Refused { route: Some(route.clone()), rejection })?;
    let life = gate.limits().ticket_ttl.as_secs();
    let body = serde_json::json!({ "ticket": ticket, "expires_in": life }).to_string();
    let response = Response::json(201, &body).header("Cache-Control", "no-store");
    Ok(response.readable_by(origin.filter(|origin| route.lists(origin))))
}

async fn body(
    stream: &mut Stream,
    head: &Head,
    length: Option<usize>,
    gate: &Gate,
) -> Result<Vec<u8>, Box<Rejection>> {
    let Some(length) = length else {
        let rejection = Rejection::new(Reason::HandshakeMalformed);
        return Err(Box::new(rejection.detail("A request for a ticket has a body, and a Content-Length.")));
    };
    let most = gate.limits().request_body;
    if length > most {
        let detail = format!("The body is longer than {most} bytes.");
        return Err(Box::new(Rejection::new(Reason::HandshakeTooLarge).detail(detail)));
    }
    let mut body = head.rest()[..length.min(head.rest().len())].to_vec();
    let start = body.len();
    body.resize(length, 0);
    match timeout(gate.limits().handshake_timeout, stream.read_exact(&mut body[start..])).await {
        Ok(Ok(_)) => Ok(body),
        Ok(Err(_)) => {
            let rejection = Rejection::new(Reason::HandshakeMalformed);
            Err(Box::new(rejection.detail("The body ends before its length.")))
        }
        Err(_) => Err(Box::new(Rejection::new(Reason::HandshakeTimeout))),
    }
}

/// A limit that is reached.
impl From<Reason> for Box<Rejection> {
    fn from(reason: Reason) -> Self {
        Self::new(Rejection::new(reason).retry_after(RETRY))
    }
}
