//! The daemon: everything built in order, run until the order to stop, taken down in reverse.

use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::AcceptHandle;
use super::apply::ApplyHandle;
use super::card::{CardHandle, CardTask, Guard};
use super::generations::Generations;
use super::given::Given;
use super::introspection::Introspectors;
use super::issuers::Issuers;
use super::keys::Missing;
use super::recent::Recent;
use super::reconfigure::Following;
use super::reload::{Publication, Reloader};
use super::remote::{Remotes, StoreError};
use super::revocations::Book;
use super::state::{State, StateError};
use super::{files, firewall, health, state_folder};
use crate::admin::apply::Outcome;
use crate::admin::control::{ControlError, ControlSocket, Request};
use crate::admin::explain::{self, Hits};
use crate::admin::lists::ListsReport;
use crate::admin::revocations;
use crate::admin::status::{InterfaceStatus, NOT_ATTACHED, Packets, Status, UpstreamStatus};
use crate::audit::{Destination, Trail};
use crate::config::{Config, Diagnostic, Limits, Mode};
use crate::edge::{self, Gate, Sources};
use crate::nic::{Counters, NicError, Pins};
use crate::session::echo::echo;
use crate::session::pool::Node;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// How long the last entries of the audit trail may take.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A list, a key file or the policy is faulty.
    #[error("the configuration has {} faults", .0.len())]
    Config(Vec<Diagnostic>),
    /// The journal was asked for and is not there.
    #[error("the log cannot be opened: choose another --log")]
    Log(#[source] io::Error),
    /// No threads, no timers.
    #[error("the runtime cannot start")]
    Runtime(#[source] io::Error),
    /// An address is taken, or not of this host.
    #[error("{address} cannot be listened on: is it free, and an address of this host?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The XDP program cannot be loaded or attached.
    #[error("the firewall cannot start")]
    Nic(#[from] NicError),
    /// The control socket cannot be made.
    #[error("the control socket cannot start")]
    Control(#[from] ControlError),
    /// Copies of remote lists cannot be kept.
    #[error("remote lists cannot be kept")]
    Remote(#[from] StoreError),
    /// Files cannot be watched.
    #[error("changes of files cannot be watched")]
    Watch(#[from] notify::Error),
}

impl From<StateError> for StartError {
    fn from(StateError(faults): StateError) -> Self {
        Self::Config(faults)
    }
}

/// Runs the daemon until SIGTERM or SIGINT, or until its terminal is gone. `ready` is called once clients can connect.
pub fn run(mut config: Config, log: Destination, ready: impl FnOnce(&Config)) -> Result<(), StartError> {
    // Before there are threads: it changes the environment.
    let given = Given::from_environment();
    super::memory::keep_private();
    config.state = config.state.or_else(state_folder::given);
    let sink = log.open().map_err(StartError::Log)?;
    let (trail, writer) = Trail::start(sink, config.limits.audit_queue).map_err(StartError::Log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::Runtime)?;
    let result = runtime.block_on(serve(config, given, trail, ready));
    // Tasks hold clones of the trail; they end with the runtime.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if !writer.finish(LAST_WORDS) {
        log::error!("the last entries of the audit trail were not taken in time");
    }
    result
}

/// Time and randomness of the host.
const SOURCES: Sources = Sources {
    now: SystemTime::now,
    random: || {
        let mut bytes = [0; 10];
        // An identifier that is not random is still an identifier: no reason to stop serving.
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            log::error!("the host has no randomness: handshakes get no identifier of their own");
        }
        bytes
    },
};

/// Randomness for times, which no secret depends on.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without any, everything happens at the earliest time.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

async fn serve(
    config: Config,
    mut given: Given,
    trail: Trail,
    ready: impl FnOnce(&Config),
) -> Result<(), StartError> {
    let mut stopping = Signals::new().map_err(StartError::Runtime)?;
    // First, so that a second daemon ends before it touches anything.
    let pins = firewall::open_pins(config.firewall.as_ref())?;
    let known = pins.as_ref().map_or_else(Vec::new, Pins::sources);
    let copies = state_folder::copies(&config);
    let (state, diagnostics) = State::load_after(&config, Missing::Create, copies.as_ref(), known)?;
    super::say(&diagnostics);

    let mut listeners = Vec::new();
    for listen in &config.listen {
        let listener = match given.take(listen.address)? {
            Some(given) => given,
            None => bind(listen.address)?,
        };
        listeners.push((listener, listen.address));
    }
    given.complain();
    let echo_listener = config.echo.map(bind).transpose()?;
    let control = config.control.as_deref().map(ControlSocket::bind).transpose()?;

    let generations = Arc::new(Generations::new(state.generation()));
    let card = match &config.firewall {
        Some(firewall) if firewall.mode != Mode::Off => {
            Some(firewall::guard(firewall, pins, &state.generation())?)
        }
        _ => None,
    };

    let limits = bounded(&config.limits);
    let gate = Arc::new(Gate::new(
        state.snapshot(&config, state.generation()),
        limits,
        Arc::new(trail.clone()),
        SOURCES,
    ));
    let drained = Arc::clone(&gate);
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    // Before anybody can connect: keys that were kept are in force then.
    let introspectors = Arc::new(ArcSwap::from_pointee(state.keys().introspectors(&config)));
    let issuers = Issuers::start(&config, state.keys().fetched(&config), random, &tasks, &stop);
    let recent = Recent::default();
    let card = card.map(|(card, guards)| {
        let mode = config.firewall.as_ref().map_or(Mode::Off, |firewall| firewall.mode);
        let (task, handle) =
            CardTask::new(card, guards, mode, Arc::clone(&generations), recent.clone(), trail.clone());
        tasks.spawn(task.run(stop.child_token()));
        handle
    });
    if let Some(listener) = echo_listener {
        tasks.spawn(echo(listener, stop.child_token()));
    }
    for (listener, address) in listeners {
        tasks.spawn(edge::serve(listener, address, Arc::clone(&gate), stop.child_token()));
    }
    tasks.spawn(health::watch(Arc::clone(&gate), config.limits.health_interval, stop.child_token()));
    // Before the reloader: it watches the folder into which they are fetched.
    let remotes = Remotes::start(&config, random, &tasks, &stop)?;
    let publication = Publication { card: card.clone(), generations: Arc::clone(&generations) };
    let revocations = state.revocations();
    let following = {
        let (issuers, introspectors) = (issuers.clone(), Arc::clone(&introspectors));
        let gate = Arc::clone(&gate);
        Following::new(move |config, keys| {
            gate.limit(bounded(&config.limits));
            issuers.follow(config, keys.fetched(config));
            introspectors.store(Arc::new(keys.introspectors(config)));
        })
    };
    let reloader = Reloader::new(config.clone(), state, generations, Arc::clone(&gate), publication)?
        .knowing(recent)
        .followed_by(following)
        .keeping(copies.and_then(state_folder::keeper));
    let (apply, accept) = (reloader.handle(), reloader.accept_handle());
    let orders = apply.clone();
    let health = reloader.health();
    tasks.spawn(reloader.run(stop.child_token()));
    if let Some(control) = control {
        let live = Arc::new(Live {
            config: config.clone(),
            gate,
            card,
            apply,
            accept,
            health,
            remotes,
            revocations,
            issuers,
            introspectors,
            trail,
            started: Instant::now(),
        });
        tasks.spawn(control.serve(move |request| answer(Arc::clone(&live), request), stop.child_token()));
    }

    announce(&config);
    ready(&config);
    while let Signal::Hangup = stopping.wait().await {
        reload(&orders).await;
    }
    stop.cancel();
    tasks.close();
    // On a thread of its own: a log that nobody reads must not keep the daemon from stopping.
    tokio::task::spawn_blocking(|| log::info!("stopping"));
    // Sessions are cut by the edge after drain_timeout; one second more for everything else.
    let patience = drained.limits().drain_timeout + Duration::from_secs(1);
    let ended = tokio::select! {
        ended = tokio::time::timeout(patience, tasks.wait()) => ended.is_ok(),
        // Whoever asks twice does not want to wait.
        _ = stopping.wait() => false,
    };
    if !ended {
        tokio::task::spawn_blocking(|| log::warn!("some tasks did not end in time"));
    }
    Ok(())
}

/// These limits, with no more sessions than the host has files for.
fn bounded(limits: &Limits) -> Limits {
    Limits { sessions: files::sessions(limits.sessions), ..limits.clone() }
}

fn announce(config: &Config) {
    let addresses: Vec<String> = config.listen.iter().map(|listen| listen.address.to_string()).collect();
    let place = if addresses.is_empty() {
        "as a firewall alone".to_owned()
    } else {
        format!("on {}", addresses.join(", "))
    };
    log::info!("ready {place}");
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| StartError::Bind { address, source })
}

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    /// The daemon is to stop.
    Stop,
    /// The configuration is to be read anew.
    Hangup,
}

/// Reads the configuration anew, and says what came of it.
async fn reload(orders: &ApplyHandle) {
    match orders.reload().await {
        Ok(Outcome::Done(report)) => {
            for what in &report.restart_needed {
                log::warn!("{what} differs in the configuration, and is in force after a restart");
            }
            report.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        }
        Ok(Outcome::Faulty { diagnostics }) => {
            diagnostics.iter().for_each(|fault| log::error!("{fault}"));
            log::error!("the configuration is faulty: everything stays as it was");
        }
        Ok(Outcome::Refused { message }) | Err(message) => log::error!("not reloaded: {message}"),
    }
}

/// The orders to stop or to reload, caught from the very start so that an early one is not lost.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// The terminal is gone; without one, it is the order to read everything anew.
    hangup: tokio::signal::unix::Signal,
    on_terminal: bool,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            on_terminal: io::stdin().is_terminal(),
        })
    }

    async fn wait(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => if self.on_terminal { Signal::Stop } else { Signal::Hangup },
        }
    }
}

/// What questions over the control socket are answered from.
struct Live {
    config: Config,
    gate: Arc<Gate>,
    card: Option<CardHandle>,
    apply: ApplyHandle,
    health: super::reload::Health,
    accept: AcceptHandle,
    remotes: Remotes,
    revocations: Arc<Book>,
    issuers: Issuers,
    introspectors: Arc<ArcSwap<Introspectors>>,
    trail: Trail,
    started: Instant,
}

async fn answer(live: Arc<Live>, request: Request) -> Result<serde_json::Value, String> {
    let value = match request {
        Request::Status => serde_json::to_value(status(&live).await),
        Request::Lists => serde_json::to_value(lists(&live).await?),
        Request::AcceptList { list } => serde_json::to_value(live.accept.accept(list).await?),
        Request::Explain(query) => {
            let snapshot = live.gate.snapshot();
            let mut report = explain::live(&snapshot, &query, SystemTime::now).await;
            if let (Some(address), Some(policy)) = (query.address, snapshot.policy()) {
                let source = usize::from(policy.decide(address).source());
                let counters = counters(&live).await;
                let hits = counters.and_then(|counters| counters.sources.get(source).copied());
                report.packets =
                    hits.map(|hits| Hits { dropped: hits.dropped.packets, passed: hits.passed.packets });
            }
            serde_json::to_value(report)
        }
        Request::Apply(order) => {
            let mut outcome = live.apply.apply(order).await?;
            add_packets(&live, &mut outcome).await;
            serde_json::to_value(outcome)
        }
        Request::Reload => serde_json::to_value(live.apply.reload().await?),
        Request::Trial { verdict } => serde_json::to_value(live.apply.end_trial(verdict).await?),
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

async fn lists(live: &Live) -> Result<ListsReport, String> {
    let (counters, health) = (counters(live).await, live.health.read());
    let policy = health.policy(counters.as_ref());
    let policy = policy.ok_or("there is no address policy: the configuration has no [firewall]")?;
    // A million entries take their time; the other tasks of this thread move on.
    let overlaps = tokio::task::block_in_place(|| health.overlaps());
    Ok(ListsReport::new(true, policy, &overlaps, SystemTime::now()))
}

/// Adds to each list what it has decided so far, where the card counts.
async fn add_packets(live: &Live, outcome: &mut Outcome) {
    let counters = counters(live).await;
    let (Outcome::Done(report), Some(counters)) = (outcome, counters) else { return };
    let Some(policy) = live.health.read().policy(Some(&counters)) else { return };
    for list in &mut report.lists {
        let known = policy.lists.iter().find(|known| known.tier == list.tier && known.list == list.list);
        list.packets = known.map(|known| known.packets);
    }
}

async fn counters(live: &Live) -> Option<Counters> {
    live.card.as_ref()?.counters().await?.ok()
}

async fn status(live: &Live) -> Status {
    let counters = counters(live).await;
    let health = live.health.read();
    let mut policy = health.policy(counters.as_ref());
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
        listen: live.config.listen.iter().map(|listen| listen.address.to_string()).collect(),
        listeners: health.listeners(),
        sessions: live.gate.sessions(),
        policy,
        interfaces: live
            .card
            .iter()
            .flat_map(|card| card.guards().iter().map(interface).collect::<Vec<_>>())
            .collect(),
        packets: counters.map(|counters| Packets {
            passed: counters.passed,
            dropped: counters.dropped,
            malformed: counters.malformed,
        }),
        issuers,
        upstreams: live.gate.snapshot().upstreams().iter().map(|node| upstream(node)).collect(),
        audit_lost: live.trail.lost(),
    }
}

fn upstream(node: &Node) -> UpstreamStatus {
    UpstreamStatus {
        upstream: node.upstream.to_string(),
        sessions: node.sessions(),
        reachable: !node.is_down(),
    }
}

fn interface(guard: &Guard) -> InterfaceStatus {
    let Guard { interface, attachment, lost } = guard;
    let attached = attachment.as_ref().filter(|_| lost.is_none());
    InterfaceStatus {
        interface: interface.clone(),
        mode: attached.map_or_else(|| NOT_ATTACHED.to_owned(), |attachment| attachment.mode.to_string()),
        reason: lost.clone().or_else(|| attached.and_then(|attachment| attachment.reason.clone())),
    }
}
