//! Format, clippy, and the check of dependencies.

use anyhow::{Result, bail};

use crate::progress::step;
use crate::setup::{Purpose, setup};
use crate::tree::{Tree, run};

/// Checks all of it, and then says what failed.
pub(crate) fn lint(tree: &Tree) -> Result<()> {
    setup(tree, Purpose::Ci)?;
    let warnings = ["--", "-D", "warnings"];
    let mut workspace = tree.cargo(&["clippy", "--workspace", "--all-targets", "--locked"]);
    workspace.args(["--features", "gateway/bench"]);
    workspace.args(warnings);
    // Compiled for the host, because clippy has no library for BPF; without unwinding, because a
    // program without std has none.
    let mut program = tree.cargo(&["clippy", "--package", "gateway-ebpf", "--locked"]);
    program
        .args(["--features", "program,bench-program", "--bins", "--target-dir"])
        .arg(tree.target.join("clippy-xdp"));
    program.args(warnings).env("CARGO_PROFILE_DEV_PANIC", "abort");
    let checks = [
        ("format", tree.cargo(&["fmt", "--all", "--check"])),
        ("clippy", workspace),
        ("clippy of the XDP programs", program),
        (
            "licences, sources and bans of dependencies",
            tree.cargo(&["deny", "check", "bans", "licenses", "sources"]),
        ),
    ];
    let of = checks.len();
    let mut failed = Vec::new();
    for (index, (title, mut command)) in checks.into_iter().enumerate() {
        if let Err(error) = step(index + 1, of, title, || run(&mut command)) {
            failed.push(format!("{title}: {error:#}"));
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}
