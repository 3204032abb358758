//! Debian packages, without ever removing one.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::bpf;
use crate::tree::{ask, run, tool};

/// Whether packages can be installed this way at all.
pub(super) fn present() -> bool {
    ask(tool("apt-get").arg("--version")).is_some() && ask(tool("dpkg").arg("--version")).is_some()
}

/// Installs `packages` unless that would remove another package.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    update()?;
    refuse_removals(packages)?;
    run(apt().args(["install", "--yes", "--no-remove"]).args(packages))
        .context("the packages were not installed")
}

/// Fetches the lists of packages.
pub(super) fn update() -> Result<()> {
    run(apt().arg("update")).context(
        "the package lists could not be fetched: see above which source failed, and check the network",
    )
}

fn refuse_removals(packages: &[&str]) -> Result<()> {
    let output = apt()
        .args(["install", "--simulate"])
        .args(packages)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .context("apt-get cannot be started")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "apt-get cannot install {}:\n{}\n\
             They are in the main and security archives of Debian 12: check that bookworm and \
             bookworm-security are among the sources (/etc/apt/sources.list*).\n{}",
            packages.join(" "),
            errors.trim(),
            bpf::OTHER_ROUTE,
        );
    }
    let simulation = String::from_utf8_lossy(&output.stdout);
    let removed = removals(&simulation);
    if !removed.is_empty() {
        bail!(
            "these installed packages stand in the way and would have to go: {}. Nothing was changed. \
             rustc-web and cargo-web cannot be installed beside Debian's own rustc, cargo and rustup \
             packages (a rustup from rustup.rs is no obstacle). Remove them yourself if you can do \
             without them, and start again.\n{}",
            removed.join(" "),
            bpf::OTHER_ROUTE,
        );
    }
    Ok(())
}

/// The packages that a simulated installation would remove.
fn removals(simulation: &str) -> Vec<&str> {
    simulation.lines().filter_map(|line| line.strip_prefix("Remv ")?.split_whitespace().next()).collect()
}

fn apt() -> Command {
    let mut command = tool("apt-get");
    command
        .args(["-q", "--no-install-recommends"])
        .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::removals;

    #[test]
    fn an_installation_that_removes_packages_is_seen() {
        let simulation = "\
Reading package lists...
The following packages will be REMOVED:
  cargo rustc
Remv cargo [0.66.0+ds1-1]
Remv rustc [1.63.0+dfsg1-2]
Inst rustc-web (1.96.0+dfsg1-1~deb12u2 Debian-Security:12/oldstable-security [amd64])
Conf rustc-web (1.96.0+dfsg1-1~deb12u2 Debian-Security:12/oldstable-security [amd64])
";
        assert_eq!(removals(simulation), ["cargo", "rustc"]);
        assert_eq!(removals("Inst zlib1g-dev (1:1.2.13)\n"), Vec::<&str>::new());
    }
}
