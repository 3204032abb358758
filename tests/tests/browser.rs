//! Pages in a real browser, and the helper for them.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use gatehouse_tests::client::{Attempt, Client, GATE_PORT, answer_of};
use gatehouse_tests::host::{CLIENT_V4, gate_address};
use gatehouse_tests::plan::good_token;
use gatehouse_tests::promises;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::Key;
use gatehouse_tests::tools;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_page_reads_from_the_close_code_why_it_is_refused_and_the_helper_renews_its_token,
        clients_that_are_no_browsers_get_the_close_code_where_the_route_says_so,
        the_helper_renews_waits_and_stops_as_each_layer_asks_for,
    ])
}

fn scene(browser: &str) -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, mut plan| {
        plan.routes =
            plan.routes.replace("issuers =", &format!("query = true\nbrowser = \"{browser}\"\nissuers ="));
        Ok(plan)
    })
}

fn a_page_reads_from_the_close_code_why_it_is_refused_and_the_helper_renews_its_token() -> Result<()> {
    let scene = scene("origin")?;
    // Pages of this host come over its own loopback interface.
    scene.host.client.ip("link set dev lo up")?;
    let arguments = serde_json::json!({
        "gate": format!("{}:{GATE_PORT}", gate_address(CLIENT_V4)),
        "helper": tools::script("../../docs/gatehouse.js"),
        "tokens": {
            "good": scene.token()?,
            "expired": scene.sign(good_token()?.time("exp", -3600)?)?,
            "narrow": scene.sign(good_token()?.claim("scope", "other"))?,
        },
    });
    let said = answer_of(&scene.host, tools::node("page.mjs")?, &arguments)?;
    let seen: serde_json::Value = serde_json::from_str(&said)?;
    for (what, code, layer, reason, action) in [
        ("missing", 4401, "credentials", "missing", "renew"),
        ("protocol", 4401, "credentials", "missing", "renew"),
        ("expired", 4419, "expiry", "expired", "renew"),
        ("narrow", 4403, "scope", "insufficient_scope", "stop"),
        ("down", 4502, "upstream", "unreachable", "wait"),
    ] {
        let ended = &seen[what];
        ensure!(ended["code"] == code && ended["wasClean"] == true, "{what}: {seen:#}");
        ensure!(
            ended["layer"] == layer && ended["reason"] == reason && ended["action"] == action,
            "{seen:#}"
        );
        let id = ended["id"].as_str().unwrap_or_default();
        scene.daemon.wait_for("the rejection", gatehouse_tests::process::PATIENCE, |entry| {
            entry.field("ID") == Some(id) && entry.field("REASON") == Some(reason)
        })?;
    }
    // Where there is no route, nothing says that pages may know.
    ensure!(seen["nowhere"]["code"] == 1006, "{seen:#}");
    ensure!(seen["helped"] == serde_json::json!(["renew expired", "hello from a page", "done"]), "{seen:#}");
    scene.end()
}

fn clients_that_are_no_browsers_get_the_close_code_where_the_route_says_so() -> Result<()> {
    let scene = scene("close_code")?;
    for client in [Client::Python, Client::Node] {
        let refused = Attempt::on("/chat").staying().by(client, &scene.host)?.closed(4401)?;
        ensure!(refused.starts_with("layer=credentials, reason=missing, id=\""), "{refused}");
    }
    scene.end()?;
    let scene = self::scene("origin")?;
    scene.rejects(Client::Python, &Attempt::on("/chat"), (401, "credentials", "missing"))?;
    scene.end()
}

fn the_helper_renews_waits_and_stops_as_each_layer_asks_for() -> Result<()> {
    let mut node = Command::new("node");
    node.arg("--test").arg(tools::script("helper.test.mjs"));
    let output =
        node.env("GATEHOUSE_JS", tools::script("../../docs/gatehouse.js").canonicalize()?).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("# pass 5"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
