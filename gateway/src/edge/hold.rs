//! A session, from its admission to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use super::Ends;
use super::gate::Gate;
use super::open::Open;
use super::snapshot::Route;
use super::tenure::Tenure;
use super::visitor::Visitor;
use crate::audit::{Entry, HandshakeId};
use crate::auth::sources::Source;
use crate::session::control;
use crate::session::limits::{Place, SessionPlace};
use crate::session::relay::{Ending, Greetings, Moved, Relay, Session, Why};
use crate::session::stream::Stream;
use crate::session::upstream::Upstream;

/// A client that has its session.
pub(super) struct Admitted {
    pub(super) route: Arc<Route>,
    pub(super) open: Arc<Open>,
    pub(super) source: Source,
    pub(super) session: SessionPlace,
    pub(super) upstream: Upstream,
    pub(super) greetings: Greetings,
}

/// A client that has its session, and all that it came with.
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) visitor: Visitor,
    pub(super) place: Place,
    pub(super) admitted: Admitted,
}

/// Relays the session of `client` until it ends. An idle one takes the room that this holds, so
/// nothing is held here that only its start or its end needs.
pub(super) async fn hold(
    client: Box<Client>,
    id: HandshakeId,
    gate: Arc<Gate>,
    Ends { stopping, cut }: Ends,
) {
    let start = Instant::now();
    let open = Arc::clone(&client.admitted.open);
    let (mut tenure, mut session, seats) = settle(client, id, &gate, &open.moved);
    let listed = gate.sessions_open().list(&open);
    let ending = session.run(pin!(tenure.over(&open.moved, &stopping)), &cut).await;
    drop(listed);
    let duration = start.elapsed();
    drop((session, seats));
    let Ending { why, bytes_up, bytes_down, messages_up, messages_down } = ending;
    let (why, rejection) = match why {
        Why::Side(words) => (words, None),
        Why::Cut => ("the gate stopped".to_owned(), None),
        Why::Gate(farewell) => match farewell.rejection {
            Some(rejection) => {
                (format!("{}: {}", rejection.reason, rejection.reason.title()), Some(rejection))
            }
            None if open.is_closed() => ("an operator closed it".to_owned(), None),
            None => ("the gate stopped".to_owned(), None),
        },
    };
    gate.record(Entry::Ended {
        id,
        client: open.client,
        route: open.path.clone(),
        subject: open.identity().subject.clone(),
        why,
        rejection,
        duration,
        bytes_up,
        bytes_down,
        messages_up,
        messages_down,
    });
}

/// Records that `client` is admitted, and sorts what it came with into what judges it from now on,
/// what is relayed, and the places that it holds.
fn settle<'a>(
    client: Box<Client>,
    id: HandshakeId,
    gate: &Arc<Gate>,
    moved: &'a Moved,
) -> (Tenure, Relay<'a>, (SessionPlace, Place)) {
    let Client { stream, visitor, place, admitted } = *client;
    let client = visitor.client;
    // A session must not keep the snapshot of its admission alive: the route ends here.
    let Admitted { route, open, source, session: seat, upstream, greetings } = admitted;
    let identity = open.identity();
    let (controls, desk) = match route.control {
        Some(warning) => {
            let (controls, desk) = control::controls(gate.limits().first_message_size);
            (Some(controls), Some((desk, warning)))
        }
        None => (None, None),
    };
    let counted = (identity.issuer.as_str(), identity.subject.as_str());
    let meter = gate.traffic().meter(&gate.limits(), client.ip(), counted, (&route.path, &route.limits));
    gate.record(Entry::Admitted {
        id,
        client,
        route: route.path.clone(),
        subject: identity.subject.clone(),
        issuer: identity.issuer.clone(),
        source,
    });
    let tenure = Tenure { gate: Arc::clone(gate), open, desk };
    let patience = gate.limits().close_timeout;
    let session = Session { client: stream, upstream, greetings, patience, controls, meter };
    (tenure, Relay::new(session, moved), (seat, place))
}
