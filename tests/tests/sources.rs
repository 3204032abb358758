//! Tokens in every place where a client can put one: real clients are admitted, and neither the
//! upstream nor the log ever sees the token.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatehouse_tests::client::{Attempt, Client, answer_of};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::plan::{Plan, good_token, route};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::Key;
use gatehouse_tests::upstream::{Seen, UPSTREAM};
use gatehouse_tests::{promises, tools};
use serde::Deserialize;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_token_among_the_subprotocols_admits_and_is_never_selected,
        a_cookie_admits_pages_of_the_route_and_nobody_else,
        a_token_in_the_query_admits_and_is_warned_about,
        two_tokens_are_rejected_wherever_they_stand,
        a_first_message_admits_and_the_gate_answers_it,
        connection_init_admits_and_the_upstream_gets_it_without_its_token,
        a_bad_first_message_ends_the_session_by_a_close_frame_that_names_the_layer,
        a_session_that_never_authenticates_ends_at_the_deadline,
        no_token_reaches_the_log_wherever_it_stood,
    ])
}

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
const ORIGIN: &str = "https://app.test";
const AUTHENTICATED: &str = "{\"type\":\"authenticated\"}";

/// What a client of `sources.py` or `sources.mjs` saw.
#[derive(Debug, Deserialize)]
struct Told {
    protocol: Option<String>,
    answers: Vec<String>,
    code: Option<u16>,
    reason: Option<String>,
}

/// The usual system with more places for tokens on more routes.
fn scene() -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let routes = [
            plan.routes.clone(),
            format!("{}origins = [\"{ORIGIN}\"]\ncookie = \"token\"\n", route("/page", UPSTREAM)),
            format!("{}query = true\n", route("/query", UPSTREAM)),
            format!("{}first_message = true\n", route("/first", UPSTREAM)),
        ];
        let more = "[limits]\nfirst_message_timeout = \"1s\"\n".to_owned();
        Ok(Plan { routes: routes.concat(), more, ..plan })
    })
}

fn entry(token: &str) -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(token))
}

fn authenticate(token: &str) -> String {
    format!("{{\"type\":\"authenticate\",\"token\":\"{token}\"}}")
}

/// Opens a session with each of both clients and sends `messages`.
fn converse(scene: &Scene, attempt: &Attempt, protocols: &[&str], messages: &[&str]) -> Result<[Told; 2]> {
    let mut arguments = attempt.arguments();
    arguments["protocols"] = protocols.into();
    arguments["messages"] = messages.into();
    let told = |command, name| {
        let printed =
            answer_of(&scene.host, command, &arguments).with_context(|| format!("client: {name}"))?;
        serde_json::from_str(&printed).with_context(|| format!("{name} printed {printed}"))
    };
    Ok([told(tools::python("sources.py")?, "Python")?, told(tools::node("sources.mjs")?, "Node")?])
}

/// Every header and the path, in which nothing of `token` may stand.
fn without(seen: &Seen, token: &str) -> Result<()> {
    let text = format!("{seen:?}");
    let encoded = URL_SAFE_NO_PAD.encode(token);
    ensure!(!text.contains(token) && !text.contains(&encoded) && !text.contains(PREFIX), "{text}");
    Ok(())
}

fn a_token_among_the_subprotocols_admits_and_is_never_selected() -> Result<()> {
    let scene = scene()?;
    let token = scene.token()?;
    let offers = [entry(&token), "v2".to_owned(), "v1".to_owned()];
    let offers = offers.each_ref().map(String::as_str);
    for told in converse(&scene, &Attempt::on("/chat"), &offers, &["hello"])? {
        ensure!(told.protocol.as_deref() == Some("v2") && told.answers == ["hello"], "{told:?}");
    }
    let seen = scene.upstream.request()?;
    without(&seen, &token)?;
    let offered = seen.header("Sec-WebSocket-Protocol").concat().replace(' ', "");
    ensure!(offered == "v2,v1", "{seen:#?}");
    let admitted = scene.daemon.wait_for("the admission", PATIENCE, |entry| entry.says("admitted"))?;
    ensure!(admitted.field("TOKEN_SOURCE") == Some("subprotocol"), "{}", admitted.line);

    let alone = Attempt::on("/chat").header("Sec-WebSocket-Protocol", &entry(&token));
    scene.rejects(Client::Raw, &alone, (400, "handshake", "subprotocol"))?;
    scene.end()
}

fn a_cookie_admits_pages_of_the_route_and_nobody_else() -> Result<()> {
    let scene = scene()?;
    let token = scene.token()?;
    let cookie = Attempt::on("/page").header("Cookie", &format!("a=1; token={token}; b=2"));
    for client in Client::ALL {
        scene.admits(client, &cookie.clone().header("Origin", ORIGIN))?;
        scene.rejects(client, &cookie, (401, "credentials", "missing"))?;
        let stranger = cookie.clone().header("Origin", "https://evil.test");
        scene.rejects(client, &stranger, (403, "handshake", "origin"))?;
    }
    let seen = scene.upstream.request()?;
    without(&seen, &token)?;
    ensure!(seen.header("Cookie") == ["a=1; b=2"], "{seen:#?}");
    scene.upstream.was_asked(3)?;
    scene.end()
}

fn a_token_in_the_query_admits_and_is_warned_about() -> Result<()> {
    let scene = scene()?;
    let token = scene.token()?;
    for client in Client::ALL {
        let path = format!("/query?room=1&access_token={token}&x=%2F");
        scene.admits(client, &Attempt::on(&path))?;
    }
    let seen = scene.upstream.request()?;
    without(&seen, &token)?;
    ensure!(seen.path == "/query?room=1&x=%2F", "{seen:#?}");
    let output = verb("check", &scene.config())?.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success() && said.contains("warning: query = true takes tokens from URLs"),
        "{said}"
    );
    scene.end()
}

fn two_tokens_are_rejected_wherever_they_stand() -> Result<()> {
    let scene = scene()?;
    let token = scene.token()?;
    let header = |path: &str| Attempt::on(path).token(&token);
    for attempt in [
        header(&format!("/query?access_token={token}")),
        Attempt::on(&format!("/query?access_token={token}&access_token={token}")),
        header("/page").header("Origin", ORIGIN).header("Cookie", &format!("token={token}")),
        header("/first").header("Sec-WebSocket-Protocol", &format!("v1, {}", entry(&token))),
    ] {
        scene.rejects(Client::Raw, &attempt, (400, "credentials", "multiple"))?;
    }
    ensure!(scene.upstream.requests() == 0, "somebody reached the upstream");
    scene.end()
}

fn a_first_message_admits_and_the_gate_answers_it() -> Result<()> {
    let scene = scene()?;
    let token = scene.token()?;
    let message = authenticate(&token);
    for protocols in [&[][..], &["v2", "v1"]] {
        for told in converse(&scene, &Attempt::on("/first"), protocols, &[&message, "hello"])? {
            ensure!(told.protocol.as_deref() == protocols.first().copied(), "{told:?}");
            ensure!(told.answers == [AUTHENTICATED, "hello"], "{told:?}");
        }
    }
    let seen = scene.upstream.request()?;
    without(&seen, &token)?;
    ensure!(seen.header("Gatehouse-Subject") == ["alice"], "{seen:#?}");
    ensure!(seen.header("Sec-WebSocket-Extensions").is_empty(), "{seen:#?}");
    let admitted = scene.daemon.wait_for("the admission", PATIENCE, |entry| entry.says("admitted"))?;
    ensure!(admitted.field("TOKEN_SOURCE") == Some("first_message"), "{}", admitted.line);
    scene.end()
}

fn connection_init_admits_and_the_upstream_gets_it_without_its_token() -> Result<()> {
    let scene = scene()?;
    let token = scene.token()?;
    for (protocol, place, left) in [
        ("graphql-transport-ws", format!("\"Authorization\":\"Bearer {token}\""), ""),
        ("graphql-ws", format!("\"headers\":{{\"Authorization\":\"Bearer {token}\"}}"), "\"headers\":{}"),
    ] {
        let message = |place: &str| format!("{{\"type\":\"connection_init\",\"payload\":{{{place}}}}}");
        let init = message(&place);
        // The upstream sends back what it gets.
        for told in converse(&scene, &Attempt::on("/first"), &[protocol], &[&init, "hello"])? {
            ensure!(told.protocol.as_deref() == Some(protocol), "{told:?}");
            ensure!(told.answers == [message(left).as_str(), "hello"], "{told:?}");
        }
    }
    scene.end()
}

/// What the close frame says, and the entry of the log with the same id.
fn refused(scene: &Scene, told: &Told, code: u16, layer: &str, reason: &str) -> Result<()> {
    let text = told.reason.as_deref().unwrap_or_default();
    let id = text.strip_prefix(&format!("layer={layer}, reason={reason}, id=\"")).unwrap_or_default();
    let id = id.trim_end_matches('"');
    ensure!(told.code == Some(code) && told.answers.is_empty() && id.len() == 20, "{told:?}");
    let logged = scene.daemon.wait_for("the rejection", PATIENCE, |entry| {
        entry.field("ID") == Some(id) && entry.field("REASON") == Some(reason)
    })?;
    ensure!(
        logged.field("LAYER") == Some(layer) && logged.field("ROUTE") == Some("/first"),
        "{}",
        logged.line
    );
    Ok(())
}

fn a_bad_first_message_ends_the_session_by_a_close_frame_that_names_the_layer() -> Result<()> {
    let scene = scene()?;
    let expired = scene.sign(good_token()?.time("exp", -3600)?)?;
    let narrow = scene.sign(good_token()?.claim("scope", "other"))?;
    for (message, code, layer, reason) in [
        (authenticate(&expired), 4419, "expiry", "expired"),
        (authenticate(&narrow), 4403, "scope", "insufficient_scope"),
        (authenticate("garbage"), 4401, "credentials", "malformed"),
        ("{\"type\":\"authenticate\"}".to_owned(), 4401, "credentials", "missing"),
        ("hello".to_owned(), 4401, "credentials", "first_message"),
    ] {
        for told in converse(&scene, &Attempt::on("/first"), &["v1"], &[&message])? {
            refused(&scene, &told, code, layer, reason)?;
        }
    }
    ensure!(scene.upstream.requests() == 0, "somebody reached the upstream");
    scene.end()
}

fn a_session_that_never_authenticates_ends_at_the_deadline() -> Result<()> {
    let scene = scene()?;
    for told in converse(&scene, &Attempt::on("/first"), &[], &[])? {
        refused(&scene, &told, 4401, "credentials", "missing")?;
    }
    scene.end()
}

/// Puts tokens with a mark of their own into every place, good ones and bad ones, on routes that
/// look there and on routes that do not.
fn no_token_reaches_the_log_wherever_it_stood() -> Result<()> {
    const MARK: &str = "fa1afe1";
    let scene = scene()?;
    let good = scene.token()?;
    let signature = good.rsplit('.').next().unwrap_or_default();
    let bad = [format!("{MARK}.{MARK}.{MARK}"), MARK.to_owned(), format!("{MARK} {MARK}"), good.clone()];
    for token in &bad {
        for path in ["/chat", "/page", "/query", "/first", "/down", "/nowhere"] {
            let query = format!("{path}?access_token={}&ticket={MARK}&{MARK}", token.replace(' ', "%20"));
            for attempt in [
                Attempt::on(path).token(token),
                Attempt::on(path).header("Authorization", token),
                Attempt::on(path).header("Cookie", &format!("token={token}")).header("Origin", ORIGIN),
                Attempt::on(path).header("Sec-WebSocket-Protocol", &format!("{}, v1", entry(token))),
                Attempt::on(path).header("Sec-WebSocket-Protocol", &entry(token)),
                Attempt::on(&query),
                Attempt::on(&query).token(token),
            ] {
                let outcome = attempt.by(Client::Raw, &scene.host);
                // On /first some of them open a session that ends by a close frame instead of an echo.
                ensure!(outcome.is_ok() || path == "/first", "{outcome:?}");
            }
        }
        converse(&scene, &Attempt::on("/first"), &[], &[&authenticate(token)])?;
        let init = format!(
            "{{\"type\":\"connection_init\",\"payload\":{{\"token\":\"{token}\",\"x\":\"{MARK}\"}}}}"
        );
        converse(&scene, &Attempt::on("/first"), &["graphql-ws"], &[&init])?;
        converse(&scene, &Attempt::on("/first"), &[], &[token])?;
    }
    let log = scene.daemon.log();
    let sources: Vec<&str> = log.iter().filter_map(|entry| entry.field("TOKEN_SOURCE")).collect();
    for source in ["authorization", "subprotocol", "cookie", "query", "first_message"] {
        ensure!(sources.contains(&source), "nothing was logged about {source}");
    }
    let [marked, encoded] = [MARK.to_owned(), URL_SAFE_NO_PAD.encode(MARK)];
    for entry in &log {
        for secret in [marked.as_str(), encoded.as_str(), signature, PREFIX] {
            ensure!(!entry.line.contains(secret), "the log holds {secret}: {}", entry.line);
        }
    }
    scene.end()
}
