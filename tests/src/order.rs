//! `gatehouse apply`, and systems in which edits wait for it.

use std::process::Output;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::daemon::verb;
use crate::plan::Plan;
use crate::scene::{PROMPTLY, Scene};
use crate::token::Key;

/// The usual system with a changed `[firewall]`.
pub fn scene(change: impl FnOnce(String) -> String) -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let firewall = change(plan.firewall.clone());
        Ok(Plan { firewall, ..plan })
    })
}

/// The usual system in which edits wait.
pub fn manual() -> Result<Scene> {
    scene(|firewall| firewall + "reload = \"manual\"\n")
}

/// What `gatehouse apply` answers: exit code, report, standard error.
pub fn apply(scene: &Scene, arguments: &str) -> Result<(Option<i32>, Value, String)> {
    let Output { status, stdout, stderr } =
        verb("apply", &scene.config())?.arg("--json").args(arguments.split_whitespace()).output()?;
    let report = if stdout.is_empty() { Value::Null } else { serde_json::from_slice(&stdout)? };
    Ok((status.code(), report, String::from_utf8_lossy(&stderr).into_owned()))
}

/// The report of an order that is carried out.
pub fn applied(scene: &Scene, arguments: &str) -> Result<Value> {
    let (code, report, errors) = apply(scene, arguments)?;
    ensure!(code == Some(0), "apply {arguments}: {code:?}, {errors}");
    Ok(report)
}

/// The address policy in the answer of `gatehouse status`.
pub fn policy(scene: &Scene) -> Result<Value> {
    Ok(scene.daemon.status()?["policy"].clone())
}

/// Edits a list, and waits until the daemon has seen that it waits.
pub fn edit_and_see_it_wait(scene: &Scene, name: &str, content: &str) -> Result<()> {
    let mark = scene.daemon.mark();
    scene.edit(name, content)?;
    scene.daemon.wait_after(mark, "that the edit waits", PROMPTLY, |entry| {
        entry.line.contains("edits of lists wait")
    })?;
    Ok(())
}
