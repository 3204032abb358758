//! One connection, from its first byte to the end of its session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Ends;
use super::answer;
use super::endpoints::{self, Refused};
use super::first_message::{self, Heard};
use super::gate::Gate;
use super::head::{Head, HeadError};
use super::hold::{Admitted, Client, hold};
use super::open::Open;
use super::opening::Opening;
use super::snapshot::Route;
use super::telling::{How, Telling};
use super::visitor::Visitor;
use crate::audit::{Entry, HandshakeId};
use crate::auth::Identity;
use crate::auth::sources::{self, Presented, Source};
use crate::metrics::Outcome;
use crate::rejection::http::RETRY;
use crate::rejection::{Reason, Rejection};
use crate::session::limits::{Place, SessionPlace};
use crate::session::relay::Greetings;
use crate::session::stream::Stream;
use crate::session::upstream;

/// How long a client that is turned away before it has asked may take to ask, and so get its answer.
const TO_ASK: Duration = Duration::from_secs(2);

/// How long the answer to a client may take that is cut off because the gate stops.
const FAREWELL: Duration = Duration::from_millis(100);

/// A client that was turned away.
struct Rejected {
    /// The route it wanted, as far as it is known.
    route: Option<Arc<Route>>,
    rejection: Box<Rejection>,
    /// It sent a HEAD request, whose answer has no body (RFC 9110 §9.3.2).
    head_only: bool,
}

impl Rejected {
    fn new(rejection: Box<Rejection>) -> Self {
        Self { route: None, rejection, head_only: false }
    }

    fn on(route: &Arc<Route>, rejection: Box<Rejection>) -> Self {
        Self { route: Some(Arc::clone(route)), ..Self::new(rejection) }
    }
}

/// A client that gets no session.
enum Turned {
    /// It was turned away.
    Away(Rejected),
    /// It asked for something else, and this is the answer.
    Served(Vec<u8>),
}

impl From<Rejected> for Turned {
    fn from(rejected: Rejected) -> Self {
        Self::Away(rejected)
    }
}

/// An opening handshake that every check but that of the upstream let through.
struct Authorized {
    opening: Opening,
    route: Arc<Route>,
    identity: Identity,
    source: Source,
    session: SessionPlace,
    /// Its first message, when its session was opened for that.
    greetings: Option<Greetings>,
}

/// Handles a connection until it ends, or the gate ends it.
pub(super) fn handle(
    stream: Stream,
    visitor: Visitor,
    place: Place,
    gate: Arc<Gate>,
    ends: Ends,
) -> impl Future<Output = ()> + Send {
    let id = gate.id();
    // Boxed, so that the room it needs is given back before the session begins; and made here, as an
    // async function would keep room for its arguments.
    let admitting = Box::pin(admit(stream, visitor, id, place, Arc::clone(&gate), ends.cut.clone()));
    async move {
        if let Some(client) = admitting.await {
            hold(client, id, gate, ends).await;
        }
    }
}

/// Decides whether a client gets a session; one that does not is answered.
async fn admit(
    mut stream: Stream,
    mut visitor: Visitor,
    id: HandshakeId,
    mut place: Place,
    gate: Arc<Gate>,
    cut: CancellationToken,
) -> Option<Box<Client>> {
    let telling = Telling::default();
    let began = Instant::now();
    let judged = tokio::select! {
        judged = judge(&mut stream, &mut visitor, id, &mut place, &gate, &telling) => judged,
        () = cut.cancelled() => {
            let rejection = Rejection::new(Reason::LimitCapacity).detail("The gate is stopping.").retry_after(RETRY);
            let rejected = Rejected::new(Box::new(rejection));
            // It is recorded at once; the answer gets what time there is.
            let _ = timeout(FAREWELL, reject(&mut stream, visitor.client, id, rejected, &gate, &telling)).await;
            return None;
        }
    };
    // A client that reads its answer slowly has no undecided handshake any more.
    let turned = match judged {
        Ok(Some(admitted)) => {
            place.decided();
            gate.times().decided(Outcome::Admitted, began.elapsed());
            return Some(Box::new(Client { stream, visitor, place, admitted }));
        }
        Ok(None) => return None,
        Err(turned) => turned,
    };
    place.decided();
    match turned {
        Turned::Served(answer) => answer::deliver(&mut stream, &answer).await,
        Turned::Away(rejected) => {
            gate.times().decided(Outcome::Rejected, began.elapsed());
            tokio::select! {
                () = reject(&mut stream, visitor.client, id, rejected, &gate, &telling) => {}
                () = cut.cancelled() => {}
            }
        }
    }
    None
}

/// Turns a connection away that has no place: its address is denied, or a limit is reached. With
/// `leave`, it is told so over the stream that `opening` opens.
pub(super) async fn turn_away(
    opening: impl Future<Output = Option<Stream>>,
    leave: Option<OwnedSemaphorePermit>,
    client: SocketAddr,
    rejection: Box<Rejection>,
    gate: Arc<Gate>,
    cut: CancellationToken,
) {
    let id = gate.id();
    gate.record(Entry::Rejected { id, client, route: None, rejection: rejection.clone() });
    let Some(_leave) = leave else {
        return;
    };
    let answering = async {
        if let Some(mut stream) = opening.await {
            answer_turned_away(&mut stream, &rejection, id, &gate).await;
        }
    };
    tokio::select! {
        () = answering => {}
        () = cut.cancelled() => {}
    }
}

async fn answer_turned_away(stream: &mut Stream, rejection: &Rejection, id: HandshakeId, gate: &Gate) {
    // Nobody is answered before it has asked: an answer to no request would be taken for a broken
    // server, not for a firewall (RFC 9112 §9.2), and a page would not see why.
    let telling = Telling::default();
    let limits = gate.limits();
    let patience = limits.handshake_timeout.min(TO_ASK);
    let head = timeout(patience, Head::read(stream, limits.request_head)).await;
    let head_only = matches!(&head, Ok(Ok(head)) if head.bytes().starts_with(b"HEAD "));
    if let Ok(Ok(head)) = head {
        telling.as_asked(head, &gate.snapshot(), limits.request_headers);
    }
    tell(stream, &telling, rejection, id, head_only, gate).await;
}

async fn reject(
    stream: &mut Stream,
    client: SocketAddr,
    id: HandshakeId,
    rejected: Rejected,
    gate: &Gate,
    telling: &Telling,
) {
    let Rejected { route, mut rejection, head_only } = rejected;
    rejection.resource_metadata = route.as_ref().and_then(|route| route.metadata.clone());
    let route = route.map(|route| route.path.clone());
    gate.record(Entry::Rejected { id, client, route, rejection: rejection.clone() });
    tell(stream, telling, &rejection, id, head_only, gate).await;
}

/// Tells a client in its way why it is turned away.
async fn tell(
    stream: &mut Stream,
    telling: &Telling,
    rejection: &Rejection,
    id: HandshakeId,
    head_only: bool,
    gate: &Gate,
) {
    match telling.how() {
        How::Close => answer::send_close(stream, rejection, id).await,
        How::OpenAndClose(upgrade) => answer::send_session(stream, upgrade, rejection, id).await,
        How::Answer => answer::send(stream, rejection, id, head_only, gate.now()).await,
    }
}

/// Takes a connection through all layers, in the order of the registry. `None`: the client left
/// before it had asked for anything.
async fn judge(
    stream: &mut Stream,
    visitor: &mut Visitor,
    id: HandshakeId,
    place: &mut Place,
    gate: &Gate,
    telling: &Telling,
) -> Result<Option<Admitted>, Turned> {
    let Some(authorized) = authorize(stream, visitor, id, place, gate, telling).await? else {
        return Ok(None);
    };
    let Authorized { mut opening, route, identity, source, session, greetings } = authorized;
    let (deadline, asked) = (gate.limits().upstream_timeout, Instant::now());
    let opened = timeout(
        deadline,
        upstream::open(&route.upstreams, deadline, &opening, &identity, visitor.client, id),
    )
    .await;
    let upstream =
        opened.unwrap_or_else(|_| Err(upstream::timed_out(&route.upstreams))).map_err(|mut rejection| {
            rejection.issuer = Some(identity.issuer.clone());
            rejection.subject = Some(identity.subject.clone());
            if rejection.reason.retryable() {
                rejection.retry_after = Some(RETRY);
            }
            Rejected::on(&route, sources::of(source, rejection))
        })?;
    gate.times().dialled(asked.elapsed());
    let greetings = greetings.unwrap_or_else(|| Greetings {
        to_client: upstream.answer.accept(id),
        to_upstream: opening.take_early(),
    });
    let origin = opening.origin().map(str::to_owned);
    let certificate = visitor.certificate.clone().unwrap_or_default();
    let path = route.path.clone();
    let open = Open::new(id, visitor.client, path, origin, certificate, identity, gate.now());
    Ok(Some(Admitted { route, open: Arc::new(open), source, session, upstream, greetings }))
}

async fn authorize(
    stream: &mut Stream,
    visitor: &mut Visitor,
    id: HandshakeId,
    place: &mut Place,
    gate: &Gate,
    telling: &Telling,
) -> Result<Option<Authorized>, Turned> {
    let limits = gate.limits();
    let head = timeout(limits.handshake_timeout, Head::read(stream, limits.request_head)).await;

    // One snapshot decides all that follows: the one in force now.
    let snapshot = gate.snapshot();
    let head_only = matches!(&head, Ok(Ok(head)) if head.bytes().starts_with(b"HEAD "));
    let unrouted = |rejection| Rejected { head_only, ..Rejected::new(rejection) };
    // The policy may have changed since the connection was accepted.
    if let Err(rejection) = snapshot.admit(visitor.client.ip()) {
        if let Ok(Ok(head)) = head {
            telling.as_asked(head, &snapshot, limits.request_headers);
        }
        return Err(unrouted(rejection).into());
    }
    let head = match head {
        Ok(Ok(head)) => head,
        Ok(Err(HeadError::Closed { .. })) => return Ok(None),
        Ok(Err(error)) => return Err(unrouted(error.rejection()).into()),
        Err(_) => return Err(unrouted(Box::new(Rejection::new(Reason::HandshakeTimeout))).into()),
    };
    if visitor.is_proxied() {
        visitor.identify(&head, limits.request_headers).map_err(unrouted)?;
        let admitted = snapshot
            .admit(visitor.client.ip())
            .and_then(|()| place.is_of(visitor.client.ip()).map_err(|excess| Box::new(excess.rejection())));
        if let Err(rejection) = admitted {
            telling.as_asked(head, &snapshot, limits.request_headers);
            return Err(unrouted(rejection).into());
        }
    }
    let visitor = &*visitor;
    let client = visitor.client;
    if let Some(rule) = snapshot.observed(client.ip()) {
        gate.record(Entry::ObservedAtGateway { id, client, rule });
    }
    let served = endpoints::serve(stream, &head, visitor, &snapshot, gate, place).await;
    let served = served.map_err(|Refused { route, rejection }| Rejected { route, rejection, head_only })?;
    if let Some(answer) = served {
        return Err(Turned::Served(answer));
    }
    let mut opening = Opening::judge(head, limits.request_headers).map_err(unrouted)?;
    opening.set_secure(visitor.secure);
    let mut route = snapshot.route_of(&opening).map_err(unrouted)?;
    telling.as_on(&route, &opening);
    let asked = place.ask(&route.path, &route.limits);
    asked.map_err(|excess| Rejected::on(&route, Box::new(excess.rejection())))?;

    if route.control.is_some() {
        // What is compressed cannot be told apart.
        opening.offer_no_extension();
    }
    let certificate = visitor.shown().map_err(|rejection| Rejected::on(&route, rejection))?;
    let presented = sources::take(opening.carriers(), &route.sources);
    let (source, token, greetings) = match presented.map_err(|rejection| Rejected::on(&route, rejection))? {
        Some((source, Presented::Token(token))) => (source, token, None),
        Some((source, Presented::Ticket(ticket))) => {
            let token = gate.tickets().redeem(ticket.reveal(), &route.path, client.ip(), Instant::now());
            let token = token.map_err(|rejection| Rejected::on(&route, sources::of(source, rejection)))?;
            (source, token, None)
        }
        None if route.sources.first_message => {
            let heard = first_message::hear(stream, &mut opening, &route.sources, id, gate, telling).await;
            let Some(Heard { token, greetings }) =
                heard.map_err(|rejection| Rejected::on(&route, rejection))?
            else {
                return Ok(None);
            };
            // Seconds may have passed since: what is in force now decides.
            let snapshot = gate.snapshot();
            let current = snapshot.admit(client.ip()).and_then(|()| snapshot.route_of(&opening));
            route = current.map_err(|rejection| Rejected::on(&route, rejection))?;
            (Source::FirstMessage, token, Some(greetings))
        }
        None => return Err(Rejected::on(&route, sources::missing(&route.sources)).into()),
    };
    let token = token.shown_with(certificate);
    let judged = route.requirement.authenticate(&token, || gate.now()).await;
    let identity = judged.map_err(|rejection| Rejected::on(&route, sources::of(source, rejection)))?;
    let subject = (identity.issuer.as_str(), identity.subject.as_str());
    let session = place.session(subject, &route.path, &route.limits).map_err(|excess| {
        let mut rejection = excess.rejection();
        rejection.issuer = Some(identity.issuer.clone());
        rejection.subject = Some(identity.subject.clone());
        Rejected::on(&route, sources::of(source, Box::new(rejection)))
    })?;
    Ok(Some(Authorized { opening, route, identity, source, session, greetings }))
}

#[cfg(test)]
mod tests {
    use super::super::arrival::arrive;
    use super::*;

    /// Bytes of what `begin` returns, which nobody has to begin for that.
    fn size<A, B, C, D, E, F: Future>(_begin: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_holds_no_room_that_only_its_handshake_or_its_end_needs() {
        // With what tokio adds, they fit into 2,048 bytes, which allocators have a class for.
        let held = size(handle);
        assert!(held <= 1936, "a connection takes {held} bytes besides its sockets");
        let held = size(arrive);
        assert!(held <= 2304, "a connection with TLS or behind a proxy takes {held} bytes");
    }
}
