//! Measurements.

use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::privilege;
use crate::setup::{Purpose, peers, setup};
use crate::tree::{Tree, run};

/// Measures the address policy beside its peers; the plot goes to `target/bench`.
pub(crate) fn policy(tree: &Tree, arguments: &[OsString]) -> Result<()> {
    if !privilege::is_root() {
        bail!("this makes network namespaces and loads XDP programs: run it as root");
    }
    setup(tree, Purpose::Bench)?;
    let mut command = tree.cargo(&["bench", "--locked", "--package", "gateway", "--features", "bench"]);
    command.args(["--bench", "policy", "--", "--output"]).arg(tree.target.join("bench")).args(arguments);
    run(&mut command)
}

/// Measures opening handshakes beside HAProxy and Envoy, on loopback.
pub(crate) fn handshake(tree: &Tree, arguments: &[OsString]) -> Result<()> {
    beside_gateways(tree, "handshake", arguments)
}

/// Measures open sessions beside HAProxy and Envoy, on loopback.
pub(crate) fn relay(tree: &Tree, arguments: &[OsString]) -> Result<()> {
    beside_gateways(tree, "relay", arguments)
}

fn beside_gateways(tree: &Tree, bench: &str, arguments: &[OsString]) -> Result<()> {
    setup(tree, Purpose::Bench)?;
    let Some(envoy) = peers::envoy(tree) else {
        bail!("there is no Envoy in {}: remove that folder and start this again", tree.peers().display());
    };
    let mut command = tree.cargo(&["bench", "--locked", "--package", "gateway", "--features", "bench"]);
    command.args(["--bench", bench, "--", "--envoy"]).arg(envoy).args(arguments);
    run(&mut command)
}
