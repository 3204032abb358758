//! Measures opening handshakes through Gatehouse beside HAProxy's `jwt_verify` and Envoy's
//! `jwt_authn`.
//!
//! `cargo xtask bench handshake` runs this. All traffic is on loopback, and every process ends with
//! this one.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the report is for standard output")]

#[path = "../gateways/mod.rs"]
mod gateways;
mod load;
mod report;
#[path = "../policy/system.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod system;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::runtime;

use gateways::tokens::{Algorithm, Keys};
use gateways::{Gate, Ground, opening};
use report::{Report, Sample};

/// What every part of the bench returns.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures opening handshakes. Needs two CPUs, `taskset`, `haproxy`, and Envoy.
#[derive(Debug, Parser)]
struct Options {
    /// Measurements of each gateway; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Handshakes of one measurement
    #[arg(long, default_value_t = 6000, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    handshakes: u32,
    /// Distinct tokens where tokens are repeated
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeated: u32,
    /// Measure this algorithm only
    #[arg(long, value_parser = ["RS256", "ES256", "EdDSA"])]
    algorithm: Option<String>,
    /// Measure this kind of handshakes only
    #[arg(long, value_parser = ["Fresh", "Repeated", "Forged", "Expired", "Garbage"])]
    kind: Option<String>,
    /// The program envoy; without it, Envoy is left out
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the clients of one measurement come with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Tokens that nobody has seen before.
    Fresh,
    /// The same few hundred tokens.
    Repeated,
    /// Tokens with a wrong signature.
    Forged,
    /// Tokens that were good once.
    Expired,
    /// No tokens at all.
    Garbage,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Fresh, Self::Repeated, Self::Forged, Self::Expired, Self::Garbage];

    fn status(self) -> u16 {
        if matches!(self, Self::Fresh | Self::Repeated) { 101 } else { 401 }
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handshake bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<()> {
    println!("{}", system::machine());
    let [load, gate] = system::two_cpus()?;
    system::pin(0, load)?;
    let folder = tempfile::tempdir()?;
    let mut keys = Keys::new()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
    let upstream = listener.local_addr()?;
    runtime.spawn(load::serve(listener));
    let gates = {
        gateways::certificate(folder.path())?;
        let ground = Ground { folder: folder.path(), cpu: gate, upstream, keys: &keys };
        let mut gates = vec![Gate::gatehouse(&ground)?, Gate::haproxy(&ground)?];
        if let Some(binary) = &options.envoy {
            gates.push(Gate::envoy(&ground, binary)?);
        }
        gates
    };
    let mut report = Report::default();
    let wanted = |wish: &Option<String>, name: &str| wish.as_ref().is_none_or(|wish| wish == name);
    let measure = |address: SocketAddr, requests: &Arc<Vec<String>>, kind: Kind| {
        runtime.block_on(load::run(address, Arc::clone(requests), kind.status()))
    };
    for algorithm in Algorithm::ALL.into_iter().filter(|one| wanted(&options.algorithm, one.name())) {
        let repeated = requests(&mut keys, options, algorithm, Kind::Repeated)?;
        for round in 0..options.rounds {
            for kind in Kind::ALL.into_iter().filter(|kind| wanted(&options.kind, &format!("{kind:?}"))) {
                let requests = match kind {
                    Kind::Repeated => Arc::clone(&repeated),
                    kind => requests(&mut keys, options, algorithm, kind)?,
                };
                if kind == Kind::Fresh {
                    let clock = measure(upstream, &requests, kind)?;
                    report.add(
                        "no gateway",
                        algorithm,
                        kind,
                        Sample { count: requests.len(), clock, cpu: None },
                    );
                }
                // Nobody is always first.
                let turn = round as usize % gates.len();
                for gate in gates[turn..].iter().chain(&gates[..turn]) {
                    let Some(address) = gate.address(algorithm) else { continue };
                    let before = gate.cpu_time()?;
                    let clock = measure(address, &requests, kind)
                        .map_err(|error| format!("{}, {algorithm:?}, {kind:?}: {error}", gate.name))?;
                    let cpu = Some(gate.cpu_time()? - before);
                    report.add(gate.name, algorithm, kind, Sample { count: requests.len(), clock, cpu });
                }
            }
        }
    }
    println!("{report}");
    for gate in &gates {
        println!("Resident after all of it: {}, {} KiB", gate.name, gate.resident()?);
    }
    Ok(())
}

fn requests(
    keys: &mut Keys,
    options: &Options,
    algorithm: Algorithm,
    kind: Kind,
) -> Outcome<Arc<Vec<String>>> {
    const HOUR: i64 = 3600;
    let distinct = match kind {
        Kind::Fresh => options.handshakes,
        _ => options.repeated.min(options.handshakes),
    };
    let mut made = Vec::new();
    for number in 0..distinct {
        let token = match kind {
            Kind::Fresh | Kind::Repeated => keys.token(algorithm, HOUR)?,
            Kind::Forged => forged(&keys.token(algorithm, HOUR)?),
            Kind::Expired => keys.token(algorithm, -HOUR)?,
            Kind::Garbage => format!("garbage-{number}"),
        };
        made.push(opening::request(algorithm.name(), &token));
    }
    let all = made.iter().cycle().take(options.handshakes as usize).cloned().collect();
    Ok(Arc::new(all))
}

/// `token` with a signature that is of the right form, and wrong.
fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap_or((token, ""));
    let (first, rest) = signature.split_at(signature.len().min(8));
    let turned: String = first.chars().rev().map(|c| if c == 'A' { 'B' } else { 'A' }).collect();
    format!("{signed}.{turned}{rest}")
}
