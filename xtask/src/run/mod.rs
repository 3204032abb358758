//! Running the daemon on a copy of `config/`.

mod refresh;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::privilege;
use crate::progress::say;
use crate::setup::{Purpose, setup};
use crate::tree::Tree;
use refresh::Outcome;

/// The main file, the only one that is adapted.
const MAIN: &str = "gatehouse.toml";
/// What the daemon reads from `config/`; the rest there is for installed systems.
const PARTS: [&str; 3] = [MAIN, "partner.jwks.json", "lists"];

/// Sets up, builds, and becomes the daemon, so that every signal and the exit code are its own.
pub(crate) fn run(tree: &Tree, arguments: &[OsString]) -> Result<ExitCode> {
    setup(tree, Purpose::Build)?;
    tree.build_daemon()?;
    let folder = tree.target.join("run");
    let attach = privilege::may_attach();
    if !attach {
        say("loading the XDP program needs root, or CAP_BPF and CAP_NET_ADMIN, which are not here: \
             going on without it (mode = \"off\"), so that the address policy is enforced at the \
             gateway only");
    }
    prepare(tree, &folder, attach)?;
    let error = Command::new(tree.daemon())
        .args(["run", "--examples", "--config"])
        .arg(folder.join(MAIN))
        .args(arguments)
        .exec();
    Err(error).with_context(|| format!("{} cannot be started", tree.daemon().display()))
}

/// Brings the copy up to date; state such as keys stays, and so do edited files.
fn prepare(tree: &Tree, folder: &Path, attach: bool) -> Result<()> {
    let state = folder.join("state");
    fs::create_dir_all(folder)
        .and_then(|()| fs::DirBuilder::new().recursive(true).mode(0o700).create(&state))
        .and_then(|()| fs::set_permissions(&state, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("{} cannot be made: was it made by another user?", state.display()))?;
    let adapt = |name: &Path, text: String| {
        if name == Path::new(MAIN) && !attach { without_firewall(&text) } else { Ok(text) }
    };
    for (name, outcome) in refresh::refresh(&tree.root.join("config"), &PARTS, folder, adapt)? {
        let name = folder.join(name);
        match outcome {
            Outcome::Same => {}
            Outcome::Written => say(format!("{} written", name.display())),
            Outcome::Kept => say(format!(
                "{} was edited and stays as it is; delete it to get the default back",
                name.display()
            )),
        }
    }
    if !attach && !is_off(&fs::read_to_string(folder.join(MAIN))?) {
        say(format!(
            "the edited {} does not say mode = \"off\": the daemon will try to attach, and say what it lacks",
            folder.join(MAIN).display()
        ));
    }
    Ok(())
}

const OFF: &str = "mode = \"off\"";

/// The configuration with the XDP program off.
fn without_firewall(text: &str) -> Result<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let line = mode_line(&lines).context("config/gatehouse.toml has no `mode` in [firewall]: put it back")?;
    lines[line] = OFF;
    Ok(lines.join("\n") + "\n")
}

fn is_off(text: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    mode_line(&lines).is_none_or(|line| lines[line].starts_with(OFF))
}

/// Where `[firewall]` has its `mode`.
fn mode_line(lines: &[&str]) -> Option<usize> {
    let table = lines.iter().position(|line| line.trim() == "[firewall]")? + 1;
    let length = lines[table..].iter().position(|line| line.starts_with('[')).unwrap_or(lines.len() - table);
    let is_mode =
        |line: &&str| line.strip_prefix("mode").is_some_and(|rest| rest.trim_start().starts_with('='));
    Some(table + lines[table..table + length].iter().position(is_mode)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_privilege_only_the_mode_of_the_shipped_configuration_changes() {
        let shipped = include_str!("../../../config/gatehouse.toml");
        assert!(!is_off(shipped));
        let off = without_firewall(shipped).unwrap();
        assert!(is_off(&off));
        let changed: Vec<_> = shipped.lines().zip(off.lines()).filter(|(one, other)| one != other).collect();
        assert_eq!(changed.len(), 1, "{changed:?}");
        assert!(changed[0].0.starts_with("mode = \"auto\""), "{changed:?}");
        assert_eq!(shipped.lines().count(), off.lines().count());
    }

    #[test]
    fn a_mode_outside_of_the_firewall_is_not_touched() {
        assert!(without_firewall("[firewall]\ndeny = []\n[other]\nmode = \"auto\"\n").is_err());
        assert!(without_firewall("mode = \"auto\"\n").is_err());
    }
}
