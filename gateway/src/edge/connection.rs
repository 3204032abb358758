//! One connection, from its first byte to the end of its session.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answer::{self, RETRY};
use super::gate::Gate;
use super::head::{Head, HeadError};
use super::opening::Opening;
use super::snapshot::Route;
use crate::audit::{Entry, HandshakeId};
use crate::auth::{Identity, bearer};
use crate::rejection::{Layer, Reason, Rejection};
use crate::session::limits::{Place, SessionPlace};
use crate::session::relay::{self, Ending};
use crate::session::upstream::{self, Upstream};

/// A client that was turned away, and the route it wanted as far as it is known.
struct Rejected {
    route: Option<Arc<Route>>,
    rejection: Box<Rejection>,
}

/// A client that may have its session.
struct Admitted {
    opening: Opening,
    route: Arc<Route>,
    identity: Identity,
    upstream: Upstream,
    /// Held as long as the session lives.
    place: SessionPlace,
}

/// Handles a connection until it ends, or `cut` cuts it.
pub(super) async fn handle(
    mut stream: TcpStream,
    client: SocketAddr,
    place: Place,
    gate: Arc<Gate>,
    cut: CancellationToken,
) {
    let id = gate.id();
    // A WebSocket's small frames must not wait for each other. Failing means it is closed already.
    let _ = stream.set_nodelay(true);
    let judged = tokio::select! {
        judged = judge(&mut stream, client, id, place, &gate) => judged,
        () = cut.cancelled() => return,
    };
    let admitted = match judged {
        Ok(Some(admitted)) => admitted,
        Ok(None) => return,
        Err(Rejected { route, rejection }) => {
            let route = route.map(|route| route.path.clone());
            gate.record(Entry::Rejected { id, client, route, rejection: rejection.clone() });
            answer::reject(&mut stream, &rejection, id, gate.now()).await;
            return;
        }
    };
    let Admitted { opening, route, identity, upstream, place } = admitted;
    gate.record(Entry::Admitted {
        id,
        client,
        route: route.path.clone(),
        subject: identity.subject.clone(),
        issuer: identity.issuer.clone(),
    });
    let start = Instant::now();
    let Ending { why, bytes_up, bytes_down } =
        relay::run(&mut stream, upstream, opening.early(), id, &cut).await;
    drop(place);
    gate.record(Entry::Ended {
        id,
        client,
        route: route.path.clone(),
        subject: identity.subject,
        why,
        duration: start.elapsed(),
        bytes_up,
        bytes_down,
    });
}

/// Takes a connection through all layers, in the order of the registry. `None`: the client left
/// before it had asked for anything.
async fn judge(
    stream: &mut TcpStream,
    client: SocketAddr,
    id: HandshakeId,
    place: Place,
    gate: &Arc<Gate>,
) -> Result<Option<Admitted>, Rejected> {
    let unrouted = |rejection| Rejected { route: None, rejection };
    let limits = gate.limits();
    let address = client.ip().to_canonical();

    // The request is read before the address is judged: an answer to no request would be taken
    // for a broken server, not for a firewall.
    let head = timeout(limits.handshake_timeout, Head::read(stream, limits.request_head)).await;
    let snapshot = gate.snapshot();
    snapshot.admit(address).map_err(unrouted)?;
    let head = match head {
        Ok(Ok(head)) => head,
        Ok(Err(HeadError::Closed(_))) => return Ok(None),
        Ok(Err(error @ HeadError::TooLarge(_))) => {
            return Err(unrouted(fault(Reason::HandshakeTooLarge, &error)));
        }
        Ok(Err(error @ HeadError::BareLineFeed)) => {
            return Err(unrouted(fault(Reason::HandshakeMalformed, &error)));
        }
        Err(_) => return Err(unrouted(Box::new(Rejection::new(Reason::HandshakeTimeout)))),
    };
    let opening = Opening::judge(&head, limits.request_headers).map_err(unrouted)?;
    let route = snapshot.route_of(&opening).map_err(unrouted)?;

    let on_route = |rejection| Rejected { route: Some(Arc::clone(&route)), rejection };
    let token = bearer(opening.authorization()).map_err(on_route)?;
    let identity = route.requirement.judge(&token, gate.now()).map_err(on_route)?;
    let place = limit(place, address, &identity).map_err(on_route)?;
    let upstream =
        timeout(limits.upstream_timeout, upstream::open(&route.upstream, &opening, &identity, client, id))
            .await
            .unwrap_or_else(|_| Err(Box::new(Rejection::new(Reason::UpstreamTimeout))))
            .map_err(|mut rejection| {
                rejection.issuer = Some(identity.issuer.clone());
                rejection.subject = Some(identity.subject.clone());
                if rejection.reason.layer() == Layer::Upstream && rejection.reason.retryable() {
                    rejection.retry_after = Some(RETRY);
                }
                on_route(rejection)
            })?;
    Ok(Some(Admitted { opening, route, identity, upstream, place }))
}

fn fault(reason: Reason, error: &HeadError) -> Box<Rejection> {
    Box::new(Rejection::new(reason).detail(format!("{error}.")))
}

fn limit(place: Place, address: IpAddr, identity: &Identity) -> Result<SessionPlace, Box<Rejection>> {
    place.session(address, (&identity.issuer, &identity.subject)).map_err(|reason| {
        let mut rejection = Rejection::new(reason).retry_after(RETRY);
        rejection.issuer = Some(identity.issuer.clone());
        rejection.subject = Some(identity.subject.clone());
        Box::new(rejection)
    })
}
