//! Installing what is missing, and nothing else.

mod bpf;
mod checks;
mod clients;
mod debian;
pub(crate) mod peers;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::privilege;
use crate::progress::{readable, say, step};
use crate::tree::Tree;

/// What the set-up is for. Each includes building; [`Purpose::Ci`] includes testing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building and running the daemon.
    Build,
    /// Measuring beside the peers.
    Bench,
    /// All tests.
    Test,
    /// Format, clippy, and the check of dependencies.
    Ci,
}

/// Something that is not there.
struct Gap {
    /// What, in words.
    what: &'static str,
    /// The Debian packages that bring it.
    packages: &'static [&'static str],
    /// What is impossible without it, and what still works.
    without: &'static str,
}

/// A piece of work that closes gaps.
enum Work {
    Packages(Vec<Gap>),
    Linker,
    Envoy,
    Venv,
    Node,
    Promtool,
    Components,
    CargoDeny,
}

/// Installs what `purpose` needs and is not there.
pub(crate) fn setup(tree: &Tree, purpose: Purpose) -> Result<()> {
    let started = Instant::now();
    let works = plan(tree, purpose);
    if works.is_empty() {
        say("set-up: everything is there, nothing to do");
        return Ok(());
    }
    for (index, work) in works.iter().enumerate() {
        step(index + 1, works.len(), &work.title(), || work.perform(tree))?;
    }
    let left: Vec<String> = plan(tree, purpose).iter().map(Work::title).collect();
    if !left.is_empty() {
        bail!(
            "after the set-up this is still to do, so an installed tool does not work: {}",
            left.join("; ")
        );
    }
    say(format!("set-up finished in {}", readable(started.elapsed())));
    Ok(())
}

fn plan(tree: &Tree, purpose: Purpose) -> Vec<Work> {
    let mut gaps = Vec::new();
    let mut works = Vec::new();
    if bpf::toolchain().is_none() {
        gaps.push(bpf::TOOLCHAIN);
    }
    if !bpf::linker() {
        gaps.extend(bpf::linker_libraries());
        works.push(Work::Linker);
    }
    if purpose == Purpose::Bench {
        gaps.extend(peers::gaps());
        if peers::envoy(tree).is_none() {
            gaps.extend(clients::python_gap());
            works.push(Work::Envoy);
        }
    }
    if matches!(purpose, Purpose::Test | Purpose::Ci) {
        gaps.extend(clients::gaps(tree));
        if !clients::venv_ready(tree) {
            works.push(Work::Venv);
        }
        if !clients::node_ready(tree) {
            works.push(Work::Node);
        }
        if !clients::promtool_ready(tree) {
            works.push(Work::Promtool);
        }
    }
    if purpose == Purpose::Ci {
        if !checks::components() {
            works.push(Work::Components);
        }
        if !checks::cargo_deny() {
            works.push(Work::CargoDeny);
        }
    }
    if !gaps.is_empty() {
        works.insert(0, Work::Packages(gaps));
    }
    works
}

impl Work {
    fn title(&self) -> String {
        match self {
            Self::Packages(gaps) => {
                let what: Vec<_> = gaps.iter().map(|gap| gap.what).collect();
                format!("Debian packages for {}: {}", what.join(", "), packages(gaps).join(" "))
            }
            Self::Linker => {
                format!("bpf-linker {}, compiled from source (about a minute)", bpf::LINKER_VERSION)
            }
            Self::Envoy => "Envoy, to compare with, in target/tools/peers".to_owned(),
            Self::Venv => "Python environment of the test clients, in target/tools/venv".to_owned(),
            Self::Node => "npm packages of the test clients, in target/tools/node".to_owned(),
            Self::Promtool => "promtool, to check metrics with, in target/tools/prometheus".to_owned(),
            Self::Components => "rustfmt and clippy".to_owned(),
            Self::CargoDeny => {
                format!("cargo-deny {}, compiled from source (about three minutes)", checks::DENY_VERSION)
            }
        }
    }

    fn perform(&self, tree: &Tree) -> Result<()> {
        match self {
            Self::Packages(gaps) => {
                let packages = packages(gaps);
                if !privilege::is_root() || !debian::present() {
                    bail!("{}", by_hand(gaps, &packages, debian::present()));
                }
                debian::install(&packages)?;
                if bpf::toolchain().is_none() {
                    bail!("{}", bpf::too_old());
                }
                Ok(())
            }
            Self::Linker => bpf::install_linker(tree),
            Self::Envoy => peers::install_envoy(tree),
            Self::Venv => clients::install_venv(tree),
            Self::Node => clients::install_node(tree),
            Self::Promtool => clients::install_promtool(tree),
            Self::Components => checks::install_components(),
            Self::CargoDeny => checks::install_cargo_deny(tree),
        }
    }
}

fn packages(gaps: &[Gap]) -> Vec<&'static str> {
    let mut packages: Vec<_> = gaps.iter().flat_map(|gap| gap.packages.iter().copied()).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// What to do where this program may not, or cannot, install packages.
fn by_hand(gaps: &[Gap], packages: &[&str], debian: bool) -> String {
    let mut text = String::from("missing here:\n");
    for gap in gaps {
        text += &format!("  {}: {}\n", gap.what, gap.without);
    }
    if debian {
        text += "Installing packages needs root. As root, run\n  apt-get update && apt-get install --no-install-recommends ";
        text += &packages.join(" ");
    } else {
        text += "There is no apt-get here. Install the equivalents of these Debian packages: ";
        text += &packages.join(" ");
    }
    text += "\nand then start this command again.";
    if gaps.iter().any(|gap| gap.what == bpf::TOOLCHAIN.what) {
        text += "\n";
        text += bpf::OTHER_ROUTE;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAPS: [Gap; 2] = [
        Gap { what: "a", packages: &["zz", "shared"], without: "nothing a" },
        Gap { what: "b", packages: &["shared", "aa"], without: "nothing b" },
    ];

    #[test]
    fn a_package_is_named_once() {
        assert_eq!(packages(&GAPS), ["aa", "shared", "zz"]);
    }

    #[test]
    fn without_root_the_command_and_what_still_works_are_named() {
        let text = by_hand(&GAPS, &packages(&GAPS), true);
        assert!(text.contains("apt-get install --no-install-recommends aa shared zz"), "{text}");
        assert!(text.contains("a: nothing a") && text.contains("b: nothing b"), "{text}");
        assert!(!text.contains("nightly"), "{text}");
    }

    #[test]
    fn without_a_bpf_toolchain_the_other_route_is_named() {
        let text = by_hand(&[bpf::TOOLCHAIN], bpf::TOOLCHAIN.packages, false);
        assert!(text.contains("no apt-get") && text.contains("nightly"), "{text}");
    }
}
