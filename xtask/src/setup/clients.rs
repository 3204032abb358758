//! What the whole-system tests need: network tools, and the real WebSocket clients.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Gap, debian};
use crate::tree::{Tree, ask, run, tool, version};

/// Without `venv` and `ensurepip`, or before 3.9, there is no environment to be had.
const PYTHON_TEST: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))";
const LEAST_NODE: (u32, u32, u32) = (18, 0, 0);

const IP: Gap = Gap {
    what: "network namespaces for tests",
    packages: &["iproute2"],
    without: "whole-system tests cannot run; building and running the daemon works",
};

/// What tests of list formats, of proxies and of pages start: the program and the argument that only asks for the version.
const PROGRAMS: [(&str, &str, Gap); 4] = [
    (
        "nft",
        "--version",
        Gap {
            what: "nftables, whose sets are imported in tests",
            packages: &["nftables"],
            without: "the whole-system test of imported sets cannot run; building and running the daemon works",
        },
    ),
    (
        "ipset",
        "--version",
        Gap {
            what: "ipset, whose sets are imported in tests",
            packages: &["ipset"],
            without: "the whole-system test of imported sets cannot run; building and running the daemon works",
        },
    ),
    (
        "haproxy",
        "-v",
        Gap {
            what: "HAProxy, which stands in front of the gate in tests",
            packages: &["haproxy"],
            without: "the whole-system tests behind a proxy cannot run; building and running the daemon works",
        },
    ),
    (
        "chromium",
        "--version",
        Gap {
            what: "Chromium, in which pages of tests run",
            packages: &["chromium"],
            without: "the whole-system test of pages cannot run; building and running the daemon works",
        },
    ),
];

const OPENSSL: Gap = Gap {
    what: "openssl, which makes the certificates of tests",
    packages: &["openssl"],
    without: "whole-system tests over TLS cannot run; building and running the daemon works",
};

/// What tests of the journal start.
const JOURNAL_PROGRAMS: [&str; 3] =
    ["/lib/systemd/systemd-journald", "/usr/bin/journalctl", "/usr/bin/nsenter"];

const JOURNAL: Gap = Gap {
    what: "a real journal for tests",
    packages: &["systemd", "util-linux"],
    without: "the whole-system test of the journal cannot run; building and running the daemon works",
};

const PYTHON: Gap = Gap {
    what: "Python with venv",
    packages: &["python3", "python3-venv", "ca-certificates"],
    without: "whole-system tests with Python clients cannot run; building and running the daemon works",
};

const NODE: Gap = Gap {
    what: "Node.js and npm",
    packages: &["nodejs", "npm", "ca-certificates"],
    without: "whole-system tests with Node.js clients cannot run; building and running the daemon works",
};

/// What is not here; interpreters whose packages are in place already are not looked at.
pub(super) fn gaps(tree: &Tree) -> Vec<Gap> {
    let mut gaps = Vec::new();
    if ask(tool("ip").arg("-Version")).is_none() {
        gaps.push(IP);
    }
    let missing = PROGRAMS.into_iter().filter(|(name, asks, _)| ask(tool(*name).arg(asks)).is_none());
    gaps.extend(missing.map(|(_, _, gap)| gap));
    if ask(tool("openssl").arg("version")).is_none() {
        gaps.push(OPENSSL);
    }
    if !JOURNAL_PROGRAMS.iter().all(|program| Path::new(program).is_file()) {
        gaps.push(JOURNAL);
    }
    if !venv_ready(tree) && python().is_none() {
        gaps.push(PYTHON);
    }
    if !node_ready(tree) && (!node() || ask(tool("npm").arg("--version")).is_none()) {
        gaps.push(NODE);
    }
    gaps
}

/// What is missing for a Python environment.
pub(super) fn python_gap() -> Option<Gap> {
    python().is_none().then_some(PYTHON)
}

pub(super) fn python() -> Option<&'static str> {
    ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|python| ask(tool(*python).args(["-c", PYTHON_TEST])).is_some())
}

fn node() -> bool {
    ask(tool("node").arg("--version"))
        .and_then(|text| version(&text))
        .is_some_and(|version| version >= LEAST_NODE)
}

/// Whether the Python environment is there and holds what `requirements.txt` asks for.
pub(super) fn venv_ready(tree: &Tree) -> bool {
    same(&tree.clients().join("requirements.txt"), &tree.venv().join("requirements.txt"))
        && ask(tool(tree.venv().join("bin/python")).args(["-c", "import websockets"])).is_some()
}

pub(super) fn install_venv(tree: &Tree) -> Result<()> {
    let (venv, wanted) = (tree.venv(), tree.clients().join("requirements.txt"));
    let python = python().context("no Python of 3.9 or later with the modules venv and ensurepip")?;
    run(tool(python).args(["-m", "venv", "--clear"]).arg(&venv))?;
    run(tool(venv.join("bin/python"))
        .args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet"])
        .args(["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement"])
        .arg(&wanted))
    .context("pip could not install the test client: check the network and `pip config list`")?;
    // Last, so that an interrupted installation starts anew.
    copy(&wanted, &venv.join("requirements.txt"))
}

/// Whether the npm packages are there in the versions of `package-lock.json`.
pub(super) fn node_ready(tree: &Tree) -> bool {
    node()
        && same(&tree.clients().join("package-lock.json"), &tree.node().join(INSTALLED_LOCK))
        && ["ws", "oidc-provider"]
            .iter()
            .all(|package| tree.node().join("node_modules").join(package).join("package.json").is_file())
}

/// A copy of the lock file that says that its packages are all in place.
const INSTALLED_LOCK: &str = "installed-lock.json";

pub(super) fn install_node(tree: &Tree) -> Result<()> {
    let (from, to) = (tree.clients(), tree.node());
    fs::create_dir_all(&to).with_context(|| format!("{} cannot be made", to.display()))?;
    for file in ["package.json", "package-lock.json"] {
        copy(&from.join(file), &to.join(file))?;
    }
    run(tool("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&to))
        .context("npm could not install the test client: check the network and `npm config list`")?;
    copy(&from.join("package-lock.json"), &to.join(INSTALLED_LOCK))
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("{} cannot be copied to {}", from.display(), to.display()))?;
    Ok(())
}

/// Whether `promtool` is there, with which the metrics and the alert rules are checked.
pub(super) fn promtool_ready(tree: &Tree) -> bool {
    ask(tool(tree.promtool()).arg("--version")).is_some()
}

/// Unpacks `promtool` from Debian's package, which would start a server if it were installed.
pub(super) fn install_promtool(tree: &Tree) -> Result<()> {
    let folder = tree.target.join("tools/prometheus");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let fetch = || run(tool("apt-get").args(["download", "--quiet", "prometheus"]).current_dir(&folder));
    // The lists of packages may be old, or not there yet.
    fetch().or_else(|_| debian::update().and_then(|()| fetch())).context(
        "Debian's package prometheus could not be fetched: check the network, and `apt-get update`",
    )?;
    let package = fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|kind| kind == "deb"))
        .context("apt-get fetched no package")?;
    run(tool("dpkg-deb").arg("--extract").arg(&package).arg(&folder))?;
    fs::remove_file(&package)?;
    Ok(())
}
