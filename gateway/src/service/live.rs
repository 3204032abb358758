//! The answers to what is asked over the control socket and by the pages of the admin listener.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::accept::AcceptHandle;
use super::apply::ApplyHandle;
use super::bans::BansHandle;
use super::card::{CardHandle, Guard};
use super::introspection::Introspectors;
use super::issuers::Issuers;
use super::reload::Health;
use super::remote::Remotes;
use super::revocations::Book;
use super::totals::Totals;
use crate::admin::apply::Outcome;
use crate::admin::control::Request;
use crate::admin::explain::{self, Hits, Query, Report};
use crate::admin::lists::ListsReport;
use crate::admin::overview::{Configuration, Ended, Handshakes, Overview, Sessions};
use crate::admin::readiness::{Readiness, RouteHealth};
use crate::admin::revocations;
use crate::admin::sessions::SessionFilter;
use crate::admin::status::{InterfaceStatus, NOT_ATTACHED, Packets, Status, UpstreamStatus};
use crate::audit::query::printable;
use crate::audit::{HandshakeId, Point, Trail};
use crate::edge::Gate;
use crate::metrics::{self, RejectionCount, Tally};
use crate::policy::Tier;
use crate::rejection::Reason;
use crate::session::pool::Node;

/// What questions are answered from.
pub(super) struct Live {
    pub(super) gate: Arc<Gate>,
    pub(super) card: Option<CardHandle>,
    pub(super) apply: ApplyHandle,
    pub(super) health: Health,
    pub(super) accept: AcceptHandle,
    pub(super) bans: BansHandle,
    pub(super) remotes: Remotes,
    pub(super) revocations: Arc<Book>,
    pub(super) issuers: Issuers,
    pub(super) introspectors: Arc<ArcSwap<Introspectors>>,
    pub(super) trail: Trail,
    pub(super) tally: Arc<Tally>,
    pub(super) stopping: CancellationToken,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
}

/// Answers `request`.
pub(super) async fn answer(live: Arc<Live>, request: Request) -> Result<serde_json::Value, String> {
    let value = match request {
        Request::Status => serde_json::to_value(status(&live).await),
        Request::Overview => serde_json::to_value(overview(&live).await),
        Request::Ready => serde_json::to_value(readiness(&live).await),
        Request::Sessions(filter) => serde_json::to_value(live.gate.list_sessions(&filter)),
        Request::CloseSession { id } => {
            let closed = HandshakeId::parse(&id).is_some_and(|id| live.gate.close_session(id));
            if !closed {
                return Err(format!("there is no open session {}", printable(&id)));
            }
            log::warn!("the session {id} was closed by the operator");
            serde_json::to_value(closed)
        }
        Request::Lists => serde_json::to_value(lists(&live).await?),
        Request::AcceptList { list } => serde_json::to_value(live.accept.accept(list).await?),
        Request::Explain(query) => serde_json::to_value(explain(&live, query).await),
        Request::Apply(order) => {
            let mut outcome = live.apply.apply(order).await?;
            add_packets(&live, &mut outcome).await;
            serde_json::to_value(outcome)
        }
        Request::Reload => serde_json::to_value(live.apply.reload().await?),
        Request::Trial { verdict } => serde_json::to_value(live.apply.end_trial(verdict).await?),
        Request::Bans(order) => {
            let mut report = live.bans.obey(order).await?;
            report.dropped = totals(&live).await.map(|totals| totals.dropped_by(Tier::Ban));
            serde_json::to_value(report)
        }
        Request::Revoke(order) => {
            let report = tokio::task::block_in_place(|| live.revocations.obey(&order))?;
            if !matches!(order, revocations::Order::List) {
                live.gate.judge_again();
                log::warn!("revocations were changed by the operator");
            }
            serde_json::to_value(report)
        }
        Request::Drops { addresses } => {
            let snapshot = live.gate.snapshot();
            let drops =
                |address: &IpAddr| snapshot.policy().is_some_and(|policy| policy.decide(*address).is_drop());
            serde_json::to_value(addresses.iter().map(drops).collect::<Vec<_>>())
        }
    };
    value.map_err(|error| error.to_string())
}

/// What became of a handshake, if one is named, and how its client would fare now.
async fn explain(live: &Live, mut query: Query) -> Report {
    let id = query.id.as_deref().and_then(HandshakeId::parse);
    let session = id.and_then(|id| {
        let filter = SessionFilter { id: Some(id.to_string()), ..SessionFilter::default() };
        live.gate.list_sessions(&filter).sessions.into_iter().next()
    });
    let past = id.filter(|_| session.is_none()).and_then(|id| live.trail.remembered().find(id));
    if let Some(session) = &session {
        query.address.get_or_insert(session.client.ip());
        query.path.get_or_insert_with(|| session.route.clone());
        query.origin = query.origin.or_else(|| session.origin.clone());
    }
    if let Some(past) = &past {
        query.know(past);
    }
    let snapshot = live.gate.snapshot();
    let mut report = explain::live(&snapshot, &query, SystemTime::now).await;
    let path = query.path.as_deref().and_then(|path| path.split('?').next());
    let route = path.and_then(|path| snapshot.route(path, None).ok());
    let subject = session.as_ref().map(|session| (session.issuer.clone(), session.subject.clone()));
    let subject = subject.or_else(|| report.identity.clone());
    let subject = subject.as_ref().map(|(issuer, subject)| (issuer.as_str(), subject.as_str()));
    let taken = live.gate.taken(query.address, subject, route.as_deref());
    explain::behind(&mut report, &taken, route.as_deref());
    if let (Some(address), Some(policy)) = (query.address, snapshot.policy()) {
        let source = policy.source(policy.decide(address).source());
        let hits = totals(live).await.zip(source).map(|(totals, source)| totals.source(source));
        report.packets = hits.map(|hits| Hits { dropped: hits.dropped.packets, passed: hits.passed.packets });
    }
    let ends = session.as_ref().map(|session| explain::ends(session, &live.gate.limits()));
    Report { past, session, ends: ends.unwrap_or_default(), ..report }
}

async fn lists(live: &Live) -> Result<ListsReport, String> {
    let (totals, health) = (totals(live).await, live.health.read());
    let policy = health.policy(totals.as_ref());
    let policy = policy.ok_or("there is no address policy: the configuration has no [firewall]")?;
    // A million entries take their time; the other tasks of this thread move on.
    let overlaps = tokio::task::block_in_place(|| health.overlaps());
    Ok(ListsReport::new(true, policy, &overlaps, SystemTime::now()))
}

/// Adds to each list what it has decided so far, where the card counts.
async fn add_packets(live: &Live, outcome: &mut Outcome) {
    let totals = totals(live).await;
    let (Outcome::Done(report), Some(totals)) = (outcome, totals) else { return };
    let Some(policy) = live.health.read().policy(Some(&totals)) else { return };
    for list in &mut report.lists {
        let known = policy.lists.iter().find(|known| known.tier == list.tier && known.list == list.list);
        list.packets = known.map(|known| known.packets);
    }
}

async fn totals(live: &Live) -> Option<Totals> {
    live.card.as_ref()?.totals().await
}

async fn readiness(live: &Live) -> Readiness {
    let routes: Vec<RouteHealth> = live
        .gate
        .snapshot()
        .routes()
        .map(|route| RouteHealth {
            path: route.path.clone(),
            issuers: route.requirement.issuers.iter().map(|issuer| issuer.name().to_owned()).collect(),
            down: route.upstreams.iter().all(|node| node.is_down()),
        })
        .collect();
    Readiness::of(&status(live).await, &routes, live.stopping.is_cancelled())
}

async fn overview(live: &Live) -> Overview {
    let (status, totals) = (status(live).await, totals(live).await);
    let (tally, times) = (&live.tally, live.gate.times());
    let ([bytes_up, bytes_down], [messages_up, messages_down]) = (tally.bytes(), tally.messages());
    let ended = tally.ends().into_iter().filter(|(reason, count)| reason.is_none() || *count > 0);
    let (read, refused) = live.health.configuration();
    Overview {
        time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        started: seconds(live.started_at),
        rejections: at_card(totals.as_ref()).into_iter().chain(tally.rejections()).collect(),
        sessions: Sessions {
            open: live.gate.sessions() as u64,
            most: live.gate.most_sessions() as u64,
            ended: ended
                .map(|(reason, count)| Ended {
                    layer: reason.map(|reason| reason.layer().name().to_owned()),
                    reason: reason.map(|reason| reason.name().to_owned()),
                    count,
                })
                .collect(),
            renewed: tally.renewed(),
            bytes_up,
            bytes_down,
            messages_up,
            messages_down,
        },
        handshakes: Handshakes {
            admitted: times.handshakes(metrics::Outcome::Admitted),
            rejected: times.handshakes(metrics::Outcome::Rejected),
            dialled: times.dials(),
        },
        routes: tally.routes(),
        busiest: tally.busiest(),
        configuration: Configuration { read: seconds(read), refused },
        status,
    }
}

/// What the card dropped, by reason: its own counts, which miss nobody.
fn at_card(totals: Option<&Totals>) -> Vec<RejectionCount> {
    let tiers = [
        (Tier::Ban, Reason::FirewallBanned),
        (Tier::Deny, Reason::FirewallDeniedRange),
        (Tier::Default, Reason::FirewallNotAllowed),
    ];
    let count = |(tier, reason): (Tier, Reason)| RejectionCount {
        layer: reason.layer().name().to_owned(),
        reason: reason.name().to_owned(),
        point: Point::Nic.name().to_owned(),
        count: totals.map_or(0, |totals| totals.dropped_by(tier)),
    };
    tiers.into_iter().map(count).collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

async fn status(live: &Live) -> Status {
    let totals = totals(live).await;
    let health = live.health.read();
    let mut policy = health.policy(totals.as_ref());
    for list in policy.iter_mut().flat_map(|policy| &mut policy.lists) {
        list.remote = live.remotes.status(&list.list);
    }
    let mut issuers = health.issuers();
    live.issuers.add_to(&mut issuers, SystemTime::now());
    live.introspectors.load().add_to(&mut issuers, SystemTime::now());
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: live.started.elapsed().as_secs(),
        listen: health.listeners().into_iter().map(|listener| listener.address).collect(),
        listeners: health.listeners(),
        sessions: live.gate.sessions(),
        policy,
        interfaces: live
            .card
            .iter()
            .flat_map(|card| {
                card.guards().iter().map(|guard| interface(guard, totals.as_ref())).collect::<Vec<_>>()
            })
            .collect(),
        packets: totals.map(|totals| Packets {
            passed: totals.passed(),
            dropped: totals.dropped(),
            malformed: totals.others.malformed,
            stale: totals.stale,
        }),
        issuers,
        upstreams: live.gate.snapshot().upstreams().iter().map(|node| upstream(node)).collect(),
        audit_lost: live.trail.lost(),
        audit_lost_total: live.trail.lost_total(),
    }
}

fn upstream(node: &Node) -> UpstreamStatus {
    UpstreamStatus {
        upstream: node.upstream.to_string(),
        sessions: node.sessions(),
        reachable: !node.is_down(),
    }
}

fn interface(guard: &Guard, totals: Option<&Totals>) -> InterfaceStatus {
    let Guard { interface, attachment, lost } = guard;
    let attached = attachment.as_ref().filter(|_| lost.is_none());
    let verdicts = totals.and_then(|totals| totals.interfaces.get(interface)).copied().unwrap_or_default();
    InterfaceStatus {
        interface: interface.clone(),
        mode: attached.map_or_else(|| NOT_ATTACHED.to_owned(), |attachment| attachment.mode.to_string()),
        reason: lost.clone().or_else(|| attached.and_then(|attachment| attachment.reason.clone())),
        passed: verdicts.passed.packets,
        dropped: verdicts.dropped.packets,
    }
}
