//! Where the programs are that the tests start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The top of the workspace.
fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The build folder.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// A file of this package's `clients` folder.
pub fn script(name: &str) -> PathBuf {
    workspace().join("tests/clients").join(name)
}

/// The daemon's binary: `GATEHOUSE_BIN`, or the release build, or the debug build.
pub fn gatehouse() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("GATEHOUSE_BIN") {
        return Ok(path.into());
    }
    let built = ["release", "debug"].map(|profile| target().join(profile).join("gatehouse"));
    built
        .into_iter()
        .find(|path| path.is_file())
        .context("gatehouse is not built: run cargo build --release, or set GATEHOUSE_BIN")
}

/// A command for a Python script of the `clients` folder: `GATEHOUSE_TEST_PYTHON`, or the
/// interpreter that `cargo xtask test` sets up.
pub fn python(name: &str) -> Result<Command> {
    let python = std::env::var_os("GATEHOUSE_TEST_PYTHON")
        .map_or_else(|| target().join("tools/venv/bin/python"), PathBuf::from);
    ensure!(python.is_file(), "{} is missing: run cargo xtask test", python.display());
    let mut command = Command::new(python);
    // Compiled scripts would land in the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script(name));
    Ok(command)
}

/// A command for a script of the `clients` folder in Node, with the packages that
/// `cargo xtask test` sets up.
pub fn node(name: &str) -> Result<Command> {
    let packages = target().join("tools/node");
    ensure!(
        packages.join("node_modules/ws").is_dir(),
        "{} has no package ws: run cargo xtask test",
        packages.display()
    );
    let mut command = Command::new("node");
    command.arg(script(name)).current_dir(packages);
    Ok(command)
}

/// A command for `promtool`, which `cargo xtask test` sets up.
pub fn promtool() -> Result<Command> {
    let promtool = target().join("tools/prometheus/usr/bin/promtool");
    ensure!(promtool.is_file(), "{} is missing: run cargo xtask test", promtool.display());
    Ok(Command::new(promtool))
}

/// A file of the folder `config`.
pub fn shipped(name: &str) -> PathBuf {
    workspace().join("config").join(name)
}

/// The helper for pages.
pub fn helper() -> PathBuf {
    workspace().join("docs/gatehouse.js")
}

/// A command that runs the tests in a script of the `clients` folder by Node's own test runner.
pub fn node_tests(name: &str) -> Command {
    let mut command = Command::new("node");
    command.args(["--test", "--test-reporter=tap"]).arg(script(name));
    command
}

/// Replaces the file `name` in `folder` in one step: nobody reads half of it.
pub(crate) fn replace(folder: &Path, name: &str, content: &str) -> Result<()> {
    let fresh = folder.join("fresh");
    fs::write(&fresh, content)?;
    Ok(fs::rename(fresh, folder.join(name))?)
}
