//! What `lint` needs.

use anyhow::{Context, Result};

use crate::tree::{Tree, ask, run, tool, version};

/// The cargo-deny that is installed when there is none.
pub(super) const DENY_VERSION: &str = "0.20.2";
/// The first one whose configuration has the form of `deny.toml`.
const LEAST_DENY: (u32, u32, u32) = (0, 18, 0);

/// Whether rustfmt and clippy are here.
pub(super) fn components() -> bool {
    [["cargo", "fmt"], ["cargo", "clippy"]]
        .iter()
        .all(|[cargo, verb]| ask(tool(*cargo).args([verb, "--version"])).is_some())
}

pub(super) fn install_components() -> Result<()> {
    run(tool("rustup").args(["component", "add", "rustfmt", "clippy"]))
        .context("rustfmt and clippy are missing, and only rustup can add them")
}

/// Whether cargo-deny is here.
pub(super) fn cargo_deny() -> bool {
    ask(tool("cargo").args(["deny", "--version"]))
        .and_then(|text| version(&text))
        .is_some_and(|version| version >= LEAST_DENY)
}

pub(super) fn install_cargo_deny(tree: &Tree) -> Result<()> {
    run(tree
        .cargo(&["install", "--locked", "--force", &format!("cargo-deny@{DENY_VERSION}")])
        .env_remove("CARGO_TARGET_DIR"))
    .context("cargo-deny was not installed")
}
