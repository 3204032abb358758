//! The daemon: everything built in order, run until the order to stop, taken down in reverse.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::apply::ApplyHandle;
use super::card::CardTask;
use super::generations::Generations;
use super::given::Given;
use super::issuers::Issuers;
use super::keys::Missing;
use super::listeners::{self, Listeners};
use super::live::{Live, answer};
use super::recent::Recent;
use super::reconfigure::Following;
use super::reload::{Publication, Reloader};
use super::remote::{Remotes, StoreError};
use super::state::{State, StateError};
use super::totals::TotalsFile;
use super::{files, firewall, health, state_folder};
use crate::admin::apply::Outcome;
use crate::admin::control::{ControlError, ControlSocket};
use crate::admin::web::{AdminError, AdminListener};
use crate::audit::{AuditSink, Destination, Settings, Trail};
use crate::config::{Config, Diagnostic, Limits, Mode};
use crate::edge::{Gate, Sources};
use crate::metrics::{Counted, Tally};
use crate::nic::{NicError, Pins};
use crate::session::echo::echo;

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
    /// The admin listener cannot be made.
    #[error("the admin listener cannot start")]
    Admin(#[from] AdminError),
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
    let (trail, writer) = Trail::start(sink, audit(&config.limits)).map_err(StartError::Log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .global_queue_interval(GLOBAL_QUEUE_INTERVAL)
        .build()
        .map_err(StartError::Runtime)?;
    let result = runtime.block_on(serve(config, given, trail, ready));
    // Tasks hold clones of the trail; they end with the runtime.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if !writer.finish(LAST_WORDS) {
        log::error!("the last entries of the audit trail were not taken in time");
    }
    result
}

/// A thread takes each third task from the queue of all threads. A thousand busy sessions do not fit into
/// its own (256), and those that went over waited until it was empty: with messages of 16 KiB the p99 was
/// 1.2 to 1.6 times HAProxy's, and is 0.9 to 1.1 times now (`cargo xtask bench relay`).
const GLOBAL_QUEUE_INTERVAL: u32 = 3;

fn audit(limits: &Limits) -> Settings {
    Settings {
        queue: limits.audit_queue,
        at_once: u32::try_from(limits.audit_at_once).unwrap_or(u32::MAX),
        fold: limits.audit_fold,
        folded: limits.audit_folded,
        remembered: limits.audit_remembered,
    }
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
    given: Given,
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

    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let mut listeners = Listeners::new(given, &tasks, &stop);
    let bound = listeners.bind(&config)?;
    listeners.complain();
    let echo_listener = config.echo.map(listeners::bind).transpose()?;
    let control = config.control.as_deref().map(ControlSocket::bind).transpose()?;
    let admin =
        config.admin.as_ref().map(|admin| AdminListener::bind(admin, listeners::listen)).transpose()?;

    let generations = Arc::new(Generations::new(state.generation()));
    let card = match &config.firewall {
        Some(firewall) if firewall.mode != Mode::Off => {
            Some(firewall::guard(firewall, pins, &state.generation())?)
        }
        _ => None,
    };

    let tally = Arc::new(Tally::default());
    let audit = Arc::new(Counted::new(trail.clone(), Arc::clone(&tally)));
    let gate = Arc::new(Gate::new(
        state.snapshot(&config, state.generation()),
        config.limits.clone(),
        Arc::clone(&audit) as Arc<dyn AuditSink>,
        SOURCES,
    ));
    gate.bound_files(files::of_connections(config.limits.sessions));
    let drained = Arc::clone(&gate);
    // Before anybody can connect: keys that were kept are in force then.
    let introspectors = Arc::new(ArcSwap::from_pointee(state.keys().introspectors(&config)));
    let issuers = Issuers::start(&config, state.keys().fetched(&config), random, &tasks, &stop);
    let recent = Recent::default();
    let card = card.map(|(card, guards)| {
        let mode = config.firewall.as_ref().map_or(Mode::Off, |firewall| firewall.mode);
        let totals = config.state.as_deref().map(TotalsFile::within);
        let (task, handle) =
            CardTask::new(card, guards, mode, Arc::clone(&generations), recent.clone(), audit, totals);
        tasks.spawn(task.run(stop.child_token()));
        handle
    });
    if let Some(listener) = echo_listener {
        tasks.spawn(echo(listener, stop.child_token()));
    }
    listeners.open(bound, &gate);
    tasks.spawn(health::watch(Arc::clone(&gate), config.limits.health_interval, stop.child_token()));
    // Before the reloader: it watches the folder into which they are fetched.
    let remotes = Remotes::new(random, &tasks, &stop);
    if let Some(fault) = remotes.follow(&config).into_iter().next() {
        return Err(fault.into());
    }
    let publication = Publication { card: card.clone(), generations: Arc::clone(&generations) };
    let revocations = state.revocations();
    let following = {
        let (issuers, introspectors) = (issuers.clone(), Arc::clone(&introspectors));
        let gate = Arc::clone(&gate);
        let remotes = remotes.clone();
        Following::new(move |config, keys| {
            gate.bound_files(files::of_connections(config.limits.sessions));
            gate.limit(config.limits.clone());
            issuers.follow(config, keys.fetched(config));
            introspectors.store(Arc::new(keys.introspectors(config)));
        })
        .policy(move |config| {
            remotes.follow(config).iter().for_each(|fault| log::error!("a list is not fetched: {fault}"));
        })
    };
    let reloader = Reloader::new(config.clone(), state, generations, Arc::clone(&gate), publication)?
        .knowing(recent)
        .listening(listeners)
        .followed_by(following)
        .keeping(copies.and_then(state_folder::keeper));
    let (apply, accept, bans) = (reloader.handle(), reloader.accept_handle(), reloader.bans_handle());
    let orders = apply.clone();
    let health = reloader.health();
    tasks.spawn(reloader.run(stop.child_token()));
    let live = Arc::new(Live {
        gate,
        card,
        apply,
        accept,
        bans,
        health,
        remotes,
        revocations,
        issuers,
        introspectors,
        trail,
        tally,
        stopping: stop.clone(),
        started: Instant::now(),
        started_at: SystemTime::now(),
    });
    if let Some(control) = control {
        let live = Arc::clone(&live);
        tasks.spawn(control.serve(move |request| answer(Arc::clone(&live), request), stop.child_token()));
    }
    if let Some(admin) = admin {
        tasks.spawn(admin.serve(move |request| answer(Arc::clone(&live), request), stop.child_token()));
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

fn announce(config: &Config) {
    let addresses: Vec<String> = config.listen.iter().map(|listen| listen.address.to_string()).collect();
    let place = if addresses.is_empty() {
        "as a firewall alone".to_owned()
    } else {
        format!("on {}", addresses.join(", "))
    };
    log::info!("ready {place}");
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
