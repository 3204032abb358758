//! A policy to judge by, a card that has it, and network namespaces.

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use gateway::config::Ports;
use gateway::nic::{Card, Settings};
use gateway::policy::{
    CompileLimits, Generation, List, ListEntry, PolicyInput, SourceTable, Tier, Verdict, compile,
};

pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// Denied by 10.66.0.0/16.
pub(crate) const DENIED: Ipv4Addr = Ipv4Addr::new(10, 66, 1, 2);
/// In no list.
pub(crate) const FREE: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);
/// Denied by fd66::/16.
pub(crate) const DENIED6: Ipv6Addr = Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, 9);
/// In no list.
pub(crate) const FREE6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 9);
/// The port that is guarded when not all are.
pub(crate) const GUARDED: u16 = 8080;

/// Generation `number`, which denies `denied` and nothing else.
pub(crate) fn generation(number: u64, denied: &[&str]) -> Result<Generation, Box<dyn Error>> {
    of_tier(Tier::Deny, number, denied)
}

/// Generation `number`, which has one list of this tier and nothing else.
pub(crate) fn of_tier(tier: Tier, number: u64, denied: &[&str]) -> Result<Generation, Box<dyn Error>> {
    let entry =
        |(line, prefix): (u32, &&str)| Ok::<_, Box<dyn Error>>(ListEntry { prefix: prefix.parse()?, line });
    let entries = (1..).zip(denied).map(entry).collect::<Result<_, _>>()?;
    let input = PolicyInput {
        default: Verdict::Pass,
        lists: vec![Arc::new(List { tier, name: "deny.list".into(), entries })],
    };
    Ok(compile(number, &input, &CompileLimits::default(), &mut SourceTable::new(100))?)
}

/// A card with generation 7, which denies [`DENIED`] and [`DENIED6`] and their neighbours.
pub(crate) fn card(ports: Ports, reports_per_second: u32) -> Result<Card, Box<dyn Error>> {
    let mut card = Card::load(&Settings { ports, reports_per_second })?;
    card.publish(generation(7, &["10.66.0.0/16", "fd66::/16"])?.blocks(), 7)?;
    Ok(card)
}

/// Runs `test` on a thread in a network namespace of its own, which ends with it.
pub(crate) fn in_namespace(test: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    let inside = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
        ip("link set lo up").and_then(|()| test()).map_err(|error| error.to_string())
    };
    match thread::spawn(inside).join() {
        Ok(result) => Ok(result?),
        Err(_) => Err("the test panicked".into()),
    }
}

/// Runs `ip` in the namespace of this thread.
pub(crate) fn ip(arguments: &str) -> Outcome {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// What `ip` prints about an interface.
pub(crate) fn show(interface: &str) -> Result<String, Box<dyn Error>> {
    let output = Command::new("ip").args(["-d", "link", "show", "dev", interface]).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a future of the card on a runtime of this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Error>> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

/// The version of the running kernel; 0.0 when it has none that we understand.
pub(crate) fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
