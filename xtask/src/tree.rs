//! Where things are, and the commands that work on them.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The repository and its build folder.
pub(crate) struct Tree {
    /// The top of the repository.
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
}

impl Tree {
    pub(crate) fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = PathBuf::from(manifest)
            .parent()
            .map(Path::to_owned)
            .context("xtask lies outside of a workspace: start it with `cargo xtask`")?;
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => env::current_dir()?.join(folder),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The daemon, once it is built.
    pub(crate) fn daemon(&self) -> PathBuf {
        self.target.join("release/gatehouse")
    }

    /// The Python environment of the test clients.
    pub(crate) fn venv(&self) -> PathBuf {
        self.target.join("tools/venv")
    }

    /// The Python environment that brings Envoy.
    pub(crate) fn peers(&self) -> PathBuf {
        self.target.join("tools/peers")
    }

    /// The npm package with the test clients' dependencies.
    pub(crate) fn node(&self) -> PathBuf {
        self.target.join("tools/node")
    }

    /// Where `promtool` is unpacked.
    pub(crate) fn promtool(&self) -> PathBuf {
        self.target.join("tools/prometheus/usr/bin/promtool")
    }

    /// The manifests of the test clients.
    pub(crate) fn clients(&self) -> PathBuf {
        self.root.join("tests/clients")
    }

    /// Cargo, of the toolchain that runs this program.
    pub(crate) fn cargo<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = tool(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // What `cargo run` sets for this program would make build scripts that look at their
        // environment run again.
        for (name, _) in env::vars_os() {
            let ours = name.to_str().is_some_and(|name| {
                name.starts_with("CARGO_PKG_")
                    || name.starts_with("CARGO_MANIFEST_")
                    || name.starts_with("CARGO_BIN_")
                    || name == "CARGO_CRATE_NAME"
                    || name == "CARGO_PRIMARY_PACKAGE"
            });
            if ours {
                command.env_remove(name);
            }
        }
        command
    }

    /// The daemon in release mode, with the XDP program inside it.
    pub(crate) fn build_daemon(&self) -> Result<()> {
        run(&mut self.cargo(&["build", "--release", "--locked", "--package", "gateway"]))
            .context("the daemon was not built")?;
        if !self.daemon().is_file() {
            bail!(
                "the build left no {}: unset `build.target` in your cargo configuration, or build and run by hand",
                self.daemon().display()
            );
        }
        Ok(())
    }
}

/// A command that also finds what `cargo install` puts in place, even where the shell does not.
pub(crate) fn tool(program: impl Into<OsString>) -> Command {
    let mut command = Command::new(program.into());
    let mut folders: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    let installed = cargo_bin();
    if let Some(installed) = installed.filter(|folder| !folders.contains(folder)) {
        folders.insert(0, installed);
    }
    // Ordinary users often lack the folder of `ip`.
    for system in ["/usr/sbin", "/sbin"].map(PathBuf::from) {
        if !folders.contains(&system) {
            folders.push(system);
        }
    }
    if let Ok(path) = env::join_paths(folders) {
        command.env("PATH", path);
    }
    command
}

fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"))).map(|home| home.join("bin"))
}

/// Runs a command on our own terminal; its failure is ours.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("`{name}` cannot be started: is it installed?"))?;
    if !status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        bail!("`{name} {}` failed ({status})", words.join(" "));
    }
    Ok(())
}

/// What a command prints, when it is there and succeeds.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Major, minor and patch of the first thing in `text` that looks like a version.
pub(crate) fn version(text: &str) -> Option<(u32, u32, u32)> {
    text.split_whitespace().find_map(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        let numbers = word.split(['-', '+']).next()?;
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let version = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
        Some(version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_tools_print() {
        assert_eq!(version("rustc 1.96.0 (ac68faa20 2026-05-25)"), Some((1, 96, 0)));
        assert_eq!(version("rustc 1.98.0-nightly (ac68faa20 2026-05-25)"), Some((1, 98, 0)));
        assert_eq!(version("v20.20.2"), Some((20, 20, 2)));
        assert_eq!(version("cargo-deny 0.20.2"), Some((0, 20, 2)));
        assert_eq!(version("1.95"), Some((1, 95, 0)));
        assert_eq!(version("no version here"), None);
    }

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = run(tool("false").arg("--flag")).unwrap_err().to_string();
        assert!(error.contains("false --flag"), "{error}");
        let error = run(&mut tool("gatehouse-no-such-program")).unwrap_err().to_string();
        assert!(error.contains("gatehouse-no-such-program"), "{error}");
    }

    #[test]
    fn an_absent_command_answers_nothing() {
        assert_eq!(ask(&mut tool("gatehouse-no-such-program")), None);
        assert_eq!(ask(&mut tool("false")), None);
        assert_eq!(ask(tool("echo").arg("here")), Some("here".to_owned()));
    }
}
