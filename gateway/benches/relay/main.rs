//! Measures open sessions through Gatehouse beside HAProxy and Envoy: how many messages they move, how
//! long one takes, and the memory of a session in which nothing happens.
//!
//! `cargo xtask bench relay` runs this. All traffic is on loopback, and every process ends with
//! this one.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the report is for standard output")]

#[path = "../gateways/mod.rs"]
mod gateways;
mod load;
mod report;
#[path = "../policy/system.rs"]
#[expect(dead_code, reason = "the policy bench uses the rest")]
mod system;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};

use gateways::tokens::{Algorithm, Keys};
use gateways::{Gate, Ground, opening};
use report::{Report, Sample};

/// What every part of the bench returns.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The name of what is measured without any gateway.
const NO_GATEWAY: &str = "no gateway";

/// Measures open sessions. Needs two CPUs, `taskset`, `haproxy`, and Envoy.
#[derive(Debug, Parser)]
struct Options {
    /// Measurements of each gateway; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Milliseconds of one measurement
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    milliseconds: u64,
    /// Open sessions in which nothing happens, whose memory is measured
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(100..=8000))]
    idle: u32,
    /// Sessions at once; without it, 1, 64 and 1000
    #[arg(long)]
    sessions: Option<usize>,
    /// The program envoy; without it, Envoy is left out
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// The traffic of one measurement: each session sends a message, and the next when that is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Traffic {
    sessions: usize,
    /// Bytes of a message.
    size: usize,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<()> {
    println!("{}", system::machine());
    let [load, cpu] = system::two_cpus()?;
    system::pin(0, load)?;
    let folder = tempfile::tempdir()?;
    let certificate = gateways::certificate(folder.path())?;
    let mut keys = Keys::new()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
    let upstream = listener.local_addr()?;
    runtime.spawn(load::serve(listener));
    let token = keys.token(Algorithm::Rs256, 3600)?;
    let bench = Bench {
        options,
        runtime,
        ground: Ground { folder: folder.path(), cpu, upstream, keys: &keys },
        request: opening::request(Algorithm::Rs256.name(), &token),
        certificate,
    };
    let mut report = Report::default();
    bench.messages(&mut report)?;
    bench.memory(&mut report)?;
    println!("{report}");
    Ok(())
}

struct Bench<'a> {
    options: &'a Options,
    runtime: Runtime,
    ground: Ground<'a>,
    request: String,
    /// In DER.
    certificate: Vec<u8>,
}

impl Bench<'_> {
    fn gates(&self) -> Outcome<Vec<Gate>> {
        let mut gates = vec![Gate::gatehouse(&self.ground)?, Gate::haproxy(&self.ground)?];
        if let Some(binary) = &self.options.envoy {
            gates.push(Gate::envoy(&self.ground, binary)?);
        }
        Ok(gates)
    }

    /// All kinds of traffic, the gateways in turns.
    fn messages(&self, report: &mut Report) -> Outcome<()> {
        let gates = self.gates()?;
        let counts = self.options.sessions.map_or(vec![1, 64, 1000], |sessions| vec![sessions]);
        let kinds =
            counts.iter().flat_map(|&sessions| [128, 16 * 1024].map(|size| Traffic { sessions, size }));
        for traffic in kinds {
            for round in 0..self.options.rounds {
                report.add(NO_GATEWAY, traffic, self.measure(self.ground.upstream, None, traffic)?);
                // Nobody is always first.
                let turn = round as usize % gates.len();
                for gate in gates[turn..].iter().chain(&gates[..turn]) {
                    let sample = self
                        .measure(address(gate)?, Some(gate), traffic)
                        .map_err(|error| format!("{}, {traffic:?}: {error}", gate.name))?;
                    report.add(gate.name, traffic, sample);
                }
            }
        }
        Ok(())
    }

    fn measure(&self, address: SocketAddr, gate: Option<&Gate>, traffic: Traffic) -> Outcome<Sample> {
        let duration = Duration::from_millis(self.options.milliseconds);
        let cpu = || gate.map(Gate::cpu_time).transpose();
        let count = u32::try_from(traffic.sessions)?;
        let sessions = self.runtime.block_on(load::open(address, &self.request, count))?;
        let before = cpu()?;
        let talk = self.runtime.block_on(load::talk(sessions, traffic.size, duration))?;
        let used = cpu()?.zip(before).map(|(after, before)| after - before);
        Ok(Sample { clock: talk.clock, latencies: talk.latencies, cpu: used })
    }

    /// What idle sessions take, of processes that have just begun.
    fn memory(&self, report: &mut Report) -> Outcome<()> {
        let count = self.options.idle;
        for gate in &self.gates()? {
            // What the first sessions make once and for all is not theirs.
            let first = self.runtime.block_on(load::open(address(gate)?, &self.request, 64))?;
            let before = gate.resident()?;
            let sessions = self.runtime.block_on(load::open(address(gate)?, &self.request, count))?;
            let grown = gate.resident()?.saturating_sub(before);
            report.remember(gate.name, grown as f64 / f64::from(count));
            drop((first, sessions));
        }
        for gate in &self.gates()? {
            let Some(address) = gate.tls else { continue };
            let open = |count| load::open_secured(address, &self.certificate, &self.request, count);
            let first = self.runtime.block_on(open(64))?;
            let before = gate.resident()?;
            let sessions = self.runtime.block_on(open(count))?;
            let grown = gate.resident()?.saturating_sub(before);
            report.remember_secured(gate.name, grown as f64 / f64::from(count));
            drop((first, sessions));
        }
        Ok(())
    }
}

fn address(gate: &Gate) -> Outcome<SocketAddr> {
    Ok(gate.address(Algorithm::Rs256).ok_or("every gateway verifies RS256")?)
}
