//! Measures the address policy beside what else could enforce it, with real packets.
//!
//! `cargo xtask bench policy` runs this. Everything happens in network namespaces that exist only
//! as long as this process.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the report is for standard output")]

mod generator;
mod lane;
mod loading;
mod measure;
mod peers;
mod plot;
mod report;
mod scene;
mod system;
mod tables;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use lane::Lane;
use report::Report;
use scene::{Family, Path, Plan};

/// What every part of the bench returns.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures the address policy beside its peers. Needs root, two CPUs, and `ip`, `nft`, `ipset` and
/// `iptables`.
#[derive(Debug, Parser)]
struct Options {
    /// Measurements of each peer; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Milliseconds of one measurement
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    window: u64,
    /// Prefixes in the list, several numbers separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 1_000_000],
          value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    sizes: Vec<u32>,
    /// Where the plot goes
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// Further lists whose tables are measured, by their absolute paths
    #[arg(long, value_name = "FILE")]
    list: Vec<PathBuf>,
    /// Only the tables, without packets
    #[arg(long)]
    tables: bool,
    /// Only what noting the dropped clients costs
    #[arg(long)]
    noting: bool,
    /// Only how long it takes from a file to a policy in force
    #[arg(long)]
    loading: bool,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Prefixes of a flood whose clients all have an account: 4,096 addresses.
const FEW_PREFIXES: u32 = 16;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("policy bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<()> {
    println!("{}", system::machine());
    let largest = options.sizes.iter().copied().max().unwrap_or(1);
    if options.loading {
        let lane = Lane::new()?;
        for family in [Family::V4, Family::V6] {
            println!("{}", loading::measure(&lane, family, largest, options.rounds)?);
        }
        return Ok(());
    }
    if !options.noting {
        print_tables(&tables::measure(largest, &options.list)?);
    }
    if options.tables {
        return Ok(());
    }
    let lane = Lane::new()?;
    let window = Duration::from_millis(options.window);
    let mut report = Report::default();
    let plan = |path| {
        let peers = if options.noting { peers::NOTING } else { peers::of(path) };
        Plan { peers, rounds: options.rounds, window }
    };
    if options.noting {
        scene::run(&lane, Family::V4, FEW_PREFIXES, Path::Drop, plan(Path::Drop), &mut report)?;
    }
    for family in [Family::V4, Family::V6] {
        for &size in &options.sizes {
            scene::run(&lane, family, size, Path::Drop, plan(Path::Drop), &mut report)?;
        }
        if options.noting {
            continue;
        }
        for &size in [1].iter().chain(&options.sizes) {
            scene::run(&lane, family, size, Path::Pass, plan(Path::Pass), &mut report)?;
        }
    }
    if options.noting {
        println!("{report}");
        return Ok(());
    }
    for family in [Family::V4, Family::V6] {
        report.loading.push(loading::measure(&lane, family, largest, options.rounds)?);
    }
    println!("{report}");
    std::fs::create_dir_all(&options.output)?;
    let plot = options.output.join("policy.svg");
    plot::draw(&report, &plot)?;
    println!("plot: {}", plot.display());
    Ok(())
}

fn print_tables(tables: &[tables::Tables]) {
    println!("\n{}", tables::Tables::HEAD);
    tables.iter().for_each(|tables| println!("{tables}"));
    println!();
}
