//! The daemon: everything built in order, run until the order to stop, taken down in reverse.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::card::{CardHandle, CardTask, Guard};
use super::generations::Generations;
use super::keys::Missing;
use super::reload::{Publication, Reloader};
use super::state::{State, StateError};
use super::{files, firewall};
use crate::admin::control::{ControlError, ControlSocket, Request};
use crate::admin::explain;
use crate::admin::status::{InterfaceStatus, NOT_ATTACHED, Packets, Status};
use crate::audit::{Destination, Trail};
use crate::config::{Config, Diagnostic, Limits, Mode};
use crate::edge::{self, Gate, Sources};
use crate::nic::{NicError, Pins};
use crate::session::echo::echo;

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
    /// Files cannot be watched.
    #[error("changes of files cannot be watched")]
    Watch(#[from] notify::Error),
}

impl From<StateError> for StartError {
    fn from(StateError(faults): StateError) -> Self {
        Self::Config(faults)
    }
}

/// Runs the daemon until SIGTERM, SIGINT or SIGHUP. `ready` is called once clients can connect.
pub fn run(config: Config, log: Destination, ready: impl FnOnce(&Config)) -> Result<(), StartError> {
    let sink = log.open().map_err(StartError::Log)?;
    let (trail, writer) = Trail::start(sink, config.limits.audit_queue).map_err(StartError::Log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::Runtime)?;
    let result = runtime.block_on(serve(config, trail, ready));
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

async fn serve(config: Config, trail: Trail, ready: impl FnOnce(&Config)) -> Result<(), StartError> {
    let mut stopping = Signals::new().map_err(StartError::Runtime)?;
    // First, so that a second daemon ends before it touches anything.
    let pins = firewall::open_pins(config.firewall.as_ref())?;
    let known = pins.as_ref().map_or_else(Vec::new, Pins::sources);
    let (state, diagnostics) = State::load_after(&config, Missing::Create, known)?;
    super::say(&diagnostics);

    let mut listeners = Vec::new();
    for listen in &config.listen {
        listeners.push(bind(listen.address)?);
    }
    let echo_listener = config.echo.map(bind).transpose()?;
    let control = config.control.as_deref().map(ControlSocket::bind).transpose()?;

    let generations = Arc::new(Generations::new(state.generation()));
    let card = match &config.firewall {
        Some(firewall) if firewall.mode != Mode::Off => {
            Some(firewall::guard(firewall, pins, &state.generation())?)
        }
        _ => None,
    };

    let limits = Limits { sessions: files::sessions(config.limits.sessions), ..config.limits.clone() };
    let gate = Arc::new(Gate::new(
        state.snapshot(&config, state.generation()),
        limits,
        Arc::new(trail.clone()),
        SOURCES,
    ));
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let card = card.map(|(card, guards)| {
        let mode = config.firewall.as_ref().map_or(Mode::Off, |firewall| firewall.mode);
        let (task, handle) = CardTask::new(card, guards, mode, Arc::clone(&generations), trail.clone());
        tasks.spawn(task.run(stop.child_token()));
        handle
    });
    if let Some(listener) = echo_listener {
        tasks.spawn(echo(listener, stop.child_token()));
    }
    for listener in listeners {
        tasks.spawn(edge::serve(listener, Arc::clone(&gate), stop.child_token()));
    }
    let publication = Publication { card: card.clone(), generations: Arc::clone(&generations) };
    let reloader = Reloader::new(config.clone(), state, generations, Arc::clone(&gate), publication)?;
    let health = reloader.health();
    tasks.spawn(reloader.run(stop.child_token()));
    if let Some(control) = control {
        let live =
            Arc::new(Live { config: config.clone(), gate, card, health, trail, started: Instant::now() });
        tasks.spawn(control.serve(move |request| answer(Arc::clone(&live), request), stop.child_token()));
    }

    announce(&config);
    ready(&config);
    stopping.wait().await;
    stop.cancel();
    tasks.close();
    // On a thread of its own: a log that nobody reads must not keep the daemon from stopping.
    tokio::task::spawn_blocking(|| log::info!("stopping"));
    // Sessions are cut by the edge after drain_timeout; one second more for everything else.
    let patience = config.limits.drain_timeout + Duration::from_secs(1);
    let ended = tokio::select! {
        ended = tokio::time::timeout(patience, tasks.wait()) => ended.is_ok(),
        // Whoever asks twice does not want to wait.
        () = stopping.wait() => false,
    };
    if !ended {
        tokio::task::spawn_blocking(|| log::warn!("some tasks did not end in time"));
    }
    Ok(())
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

/// The orders to stop, caught from the very start so that an early one is not lost.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// The terminal is gone.
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// What questions over the control socket are answered from.
struct Live {
    config: Config,
    gate: Arc<Gate>,
    card: Option<CardHandle>,
    health: super::reload::Health,
    trail: Trail,
    started: Instant,
}

async fn answer(live: Arc<Live>, request: Request) -> Result<serde_json::Value, String> {
    let value = match request {
        Request::Status => serde_json::to_value(status(&live).await),
        Request::Explain(query) => {
            let mut report = explain::report(&live.gate.snapshot(), &query, SystemTime::now());
            report.live = true;
            serde_json::to_value(report)
        }
    };
    value.map_err(|error| error.to_string())
}

async fn status(live: &Live) -> Status {
    let counters = match &live.card {
        Some(card) => card.counters().await.and_then(Result::ok),
        None => None,
    };
    let health = live.health.read();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: live.started.elapsed().as_secs(),
        listen: live.config.listen.iter().map(|listen| listen.address.to_string()).collect(),
        sessions: live.gate.sessions(),
        policy: health.policy(counters.as_ref()),
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
        issuers: health.issuers(),
        audit_lost: live.trail.lost(),
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
