//! Tickets and the documents beside them, by clients of other people's making.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use gatehouse_tests::client::{Attempt, Client, GATE_PORT, answer_of};
use gatehouse_tests::host::{CLIENT_V4, OTHER_CLIENT_V4, gate_address};
use gatehouse_tests::plan::{ISSUER, SCOPE};
use gatehouse_tests::promises;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::Key;
use gatehouse_tests::tools;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_client_finds_out_where_to_get_a_token_and_connects_by_a_ticket,
        a_ticket_is_used_up_by_whoever_shows_it_first,
    ])
}

/// The usual system, where `/chat` takes tickets.
fn scene() -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, mut plan| {
        plan.routes = plan.routes.replacen("issuers =", "tickets = true\nissuers =", 1);
        plan.more.push_str("[gateway]\npublic_url = \"https://gate.test\"\n");
        Ok(plan)
    })
}

/// What a client saw on its way from a 401 to a session.
fn walk(scene: &Scene, token: &str) -> Result<serde_json::Value> {
    let arguments = serde_json::json!({
        "host": gate_address(CLIENT_V4).to_string(),
        "port": GATE_PORT,
        "source": CLIENT_V4.to_string(),
        "route": "/chat",
        "token": token,
    });
    Ok(serde_json::from_str(&answer_of(&scene.host, tools::python("ticket.py")?, &arguments)?)?)
}

fn a_client_finds_out_where_to_get_a_token_and_connects_by_a_ticket() -> Result<()> {
    let scene = scene()?;
    let token = scene.token()?;
    let seen = walk(&scene, &token)?;
    ensure!(seen["refused"] == 401 && seen["given"] == 201 && seen["echo"] == "hello by ticket", "{seen:#}");
    let metadata = &seen["metadata"];
    ensure!(metadata["resource"] == "https://gate.test/chat", "{metadata:#}");
    ensure!(metadata["authorization_servers"][0] == ISSUER, "{metadata:#}");
    ensure!(metadata["scopes_supported"][0] == SCOPE, "{metadata:#}");
    let asked = scene.upstream.request()?;
    ensure!(asked.path == "/chat?room=1", "{asked:#?}");
    let ticket = seen["ticket"].as_str().unwrap_or_default();
    for entry in scene.daemon.log() {
        ensure!(!entry.line.contains(ticket) && !entry.line.contains(&token), "{}", entry.line);
    }
    scene.end()
}

fn a_ticket_is_used_up_by_whoever_shows_it_first() -> Result<()> {
    let scene = scene()?;
    let seen = walk(&scene, &scene.token()?)?;
    let ticket = seen["ticket"].as_str().unwrap_or_default();
    let again = Attempt::on(&format!("/chat?ticket={ticket}"));
    for source in [CLIENT_V4, OTHER_CLIENT_V4] {
        scene.rejects(Client::Raw, &again.clone().from(source), (401, "credentials", "ticket"))?;
    }
    scene.end()
}
