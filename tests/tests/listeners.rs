//! Listeners with TLS, behind a real proxy, and of HTTP/2, by clients of other people's making.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use gatehouse_tests::authority::{authority_alone, sign};
use gatehouse_tests::client::{Attempt, Client, GATE_PORT, Tls, answer_of};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::haproxy::{BEHIND, Haproxy};
use gatehouse_tests::host::{CLIENT_V4, DENIED_V4, GATE_V4};
use gatehouse_tests::plan::Plan;
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::Key;
use gatehouse_tests::tools;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        clients_are_admitted_and_told_why_they_are_rejected_over_tls,
        a_renewed_certificate_is_shown_at_once_and_a_broken_one_changes_nothing,
        a_client_needs_the_certificate_that_the_listener_requires,
        the_clients_of_a_proxy_are_judged_by_their_own_addresses,
        a_client_that_writes_headers_of_proxies_itself_is_not_believed,
        sessions_share_a_connection_of_http2,
        a_proxy_can_pass_sessions_on_over_http2,
    ])
}

/// The usual system, which listens with TLS and these settings; what clients trust is in `ca.pem`.
fn secured(more: &str) -> Result<Scene> {
    let folder = tempfile::tempdir()?;
    make_certificates(folder.path())?;
    let listen = format!(
        "[[listen]]\naddress = \"{GATE_V4}:{GATE_PORT}\"\n[listen.tls]\ncertificate = \"cert.pem\"\n\
         key = \"key.pem\"\n{more}"
    );
    Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let mut plan = Plan { listen, ..plan };
        plan.more.push_str("[state]\nfolder = \"state\"\n");
        for name in ["cert.pem", "key.pem", "ca.pem", "ca.key", "own.pem", "own-key.pem"] {
            plan = plan.file(name, fs::read(folder.path().join(name))?);
        }
        Ok(plan)
    })
}

/// An authority, a certificate of the gate and one of a client.
fn make_certificates(folder: &Path) -> Result<()> {
    authority_alone(folder)?;
    sign(folder, ("own", "own-key"), "robot", "DNS:robot.test")?;
    sign(folder, ("cert", "key"), "first", &format!("IP:{GATE_V4},DNS:gate.test"))
}

fn trusting(scene: &Scene) -> Tls {
    Tls { ca: scene.file("ca.pem"), certificate: None, key: None }
}

/// Whom the certificate names that clients are shown.
fn shown(scene: &Scene) -> Result<String> {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &format!("{GATE_V4}:{GATE_PORT}"), "-brief", "-CAfile"]);
    openssl.arg(scene.file("ca.pem"));
    let output = scene.host.client.command(&openssl).stdin(std::process::Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let name = said.lines().find_map(|line| line.strip_prefix("Peer certificate: "));
    Ok(name.with_context(|| said.clone())?.to_owned())
}

fn clients_are_admitted_and_told_why_they_are_rejected_over_tls() -> Result<()> {
    let scene = secured("")?;
    let tls = trusting(&scene);
    for client in [Client::Python, Client::Node] {
        let attempt = Attempt::on("/chat").over(&tls);
        scene.admits(client, &attempt.clone().token(&scene.token()?))?;
        scene.rejects(client, &attempt, (401, "credentials", "missing"))?;
    }
    ensure!(scene.upstream.request()?.header("X-Forwarded-Proto") == ["https"]);
    scene.rejects(Client::Raw, &Attempt::on("/chat"), (400, "handshake", "tls"))?;
    // Our own client, too.
    let mut connect = Command::new(tools::gatehouse()?);
    connect.args(["connect", &format!("wss://{GATE_V4}:{GATE_PORT}/chat"), "--send", "hello", "--ca"]);
    connect.arg(scene.file("ca.pem")).args(["--token", &scene.token()?]);
    let output = scene.host.client.command(&connect).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.contains("received: hello"), "{output:?}");
    scene.end()
}

fn a_renewed_certificate_is_shown_at_once_and_a_broken_one_changes_nothing() -> Result<()> {
    let scene = secured("")?;
    ensure!(shown(&scene)? == "CN = first");
    let attempt = Attempt::on("/chat").over(&trusting(&scene)).token(&scene.token()?).staying();
    let outcome = thread::scope(|scope| {
        let session = scope.spawn(|| attempt.by(Client::Python, &scene.host));
        scene.daemon.wait_for("the admission", PATIENCE, |entry| entry.says("admitted"))?;
        let folder = scene.config().parent().context("a folder")?.to_owned();
        sign(&folder, ("second", "second-key"), "second", &format!("IP:{GATE_V4}"))?;
        let content = |name: &str| fs::read_to_string(folder.join(name));
        let (certificate, key) = (content("second.pem")?, content("second-key.pem")?);

        // The two files cannot be replaced at once; in between the old ones stay in force.
        let mark = scene.daemon.mark();
        scene.edit("cert.pem", &certificate)?;
        scene.daemon.wait_after(mark, "the fault", PATIENCE, |entry| {
            entry.line.contains("key.pem: it is not the key of the certificate")
        })?;
        ensure!(shown(&scene)? == "CN = first");
        let error = scene.daemon.status()?["listeners"][0]["error"].to_string();
        ensure!(error.contains("key.pem"), "{error}");

        let mark = scene.daemon.mark();
        scene.edit("key.pem", &key)?;
        scene.daemon.wait_after(mark, "the renewal", PATIENCE, |entry| {
            entry.line.contains("certificates were read anew")
        })?;
        ensure!(shown(&scene)? == "CN = second");
        ensure!(scene.daemon.status()?["listeners"][0]["error"].is_null());

        // The session has lived through all of that, until something else ends it.
        let revoked = verb("revoke", &scene.config())?.args(["--subject", "alice"]).output()?;
        ensure!(revoked.status.success(), "{revoked:?}");
        session.join().map_err(|_| anyhow!("the client's thread panicked"))?
    })?;
    outcome.closed(4401)?;
    scene.end()
}

fn a_client_needs_the_certificate_that_the_listener_requires() -> Result<()> {
    let scene = secured("client_ca = \"ca.pem\"\nclient_certificate = \"required\"\n")?;
    let own = Tls {
        certificate: Some(scene.file("own.pem")),
        key: Some(scene.file("own-key.pem")),
        ..trusting(&scene)
    };
    for client in [Client::Python, Client::Node] {
        let attempt = Attempt::on("/chat").token(&scene.token()?);
        scene.admits(client, &attempt.clone().over(&own))?;
        let expected = (401, "credentials", "certificate");
        scene.rejects(client, &attempt.over(&trusting(&scene)), expected)?;
    }
    scene.end()
}

/// The usual system behind a proxy; the gateway alone judges addresses.
fn proxied(settings: &str, client_address: &str) -> Result<Scene> {
    let folder = tempfile::tempdir()?;
    make_certificates(folder.path())?;
    let listen = format!(
        "[[listen]]\naddress = \"{BEHIND}\"\nclient_address = \"{client_address}\"\n\
         trusted_proxies = [\"127.0.0.1\"]\n{settings}"
    );
    Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let firewall = plan.firewall.replace("native", "off");
        let plan = Plan { listen, firewall, ..plan };
        let content = |name: &str| -> Result<Vec<u8>> { Ok(fs::read(folder.path().join(name))?) };
        Ok(plan.file("cert.pem", content("cert.pem")?).file("key.pem", content("key.pem")?))
    })
}

fn the_clients_of_a_proxy_are_judged_by_their_own_addresses() -> Result<()> {
    for (client_address, mode, server, more) in [
        ("proxy_protocol", "tcp", "send-proxy", ""),
        ("proxy_protocol", "tcp", "send-proxy-v2", ""),
        ("x-forwarded-for", "http", "", "  option forwardfor"),
        ("forwarded", "http", "", "  http-request add-header Forwarded for=%[src]"),
    ] {
        let scene = proxied("", client_address)?;
        let _proxy = Haproxy::start(&scene.host, mode, server, more)?;
        let attempt = Attempt::on("/chat").token(&scene.token()?);
        scene.admits(Client::Python, &attempt).with_context(|| format!("{client_address} {server}"))?;
        let seen = scene.upstream.request()?;
        ensure!(seen.header("X-Forwarded-For") == [CLIENT_V4.to_string()], "{seen:#?}");
        // Each rejection is checked to be recorded with the address of the client.
        scene.rejects(Client::Node, &Attempt::on("/chat"), (401, "credentials", "missing"))?;
        scene.rejects(Client::Node, &attempt.from(DENIED_V4), (403, "firewall", "denied_range"))?;
        scene.end()?;
    }
    Ok(())
}

fn a_client_that_writes_headers_of_proxies_itself_is_not_believed() -> Result<()> {
    for (client_address, more) in [
        ("x-forwarded-for", "  option forwardfor"),
        ("forwarded", "  http-request add-header Forwarded for=%[src]"),
    ] {
        let scene = proxied("", client_address)?;
        let _proxy = Haproxy::start(&scene.host, "http", "", more)?;
        let forged = Attempt::on("/chat")
            .header("X-Forwarded-For", &CLIENT_V4.to_string())
            .header("Forwarded", &format!("for={CLIENT_V4}"))
            .token(&scene.token()?);
        scene.rejects(Client::Raw, &forged.from(DENIED_V4), (403, "firewall", "denied_range"))?;
        scene.end()?;
    }
    // And who comes past the proxy is nobody's proxy.
    let scene = Scene::usual()?;
    let forged = Attempt::on("/chat").header("X-Forwarded-For", "192.0.2.1");
    scene.rejects(Client::Raw, &forged, (401, "credentials", "missing"))?;
    scene.end()
}

fn sessions_share_a_connection_of_http2() -> Result<()> {
    let scene = secured("")?;
    let token = scene.token()?;
    let asked = |path: &str, token: Option<&str>| serde_json::json!({ "path": path, "token": token });
    let good = || asked("/chat", Some(&token));
    let arguments = serde_json::json!({
        "host": GATE_V4.to_string(),
        "port": GATE_PORT,
        "source": CLIENT_V4.to_string(),
        "ca": scene.file("ca.pem"),
        "requests": [good(), asked("/chat", None), good(), asked("/none", Some(&token)), good()],
    });
    let said = answer_of(&scene.host, tools::node("http2.mjs")?, &arguments)?;
    let answers: serde_json::Value = serde_json::from_str(&said)?;
    let status = |index: usize| answers[index]["status"].as_u64();
    ensure!((0..5).map(status).eq([200, 401, 200, 404, 200].map(Some)), "{answers:#}");
    for index in [0, 2, 4] {
        ensure!(answers[index]["echo"] == format!("hello on {}", answers[index]["id"]), "{answers:#}");
    }
    for (index, reason) in [(1, "missing"), (3, "no_route")] {
        let header = answers[index]["headers"]["gatehouse-rejection"].as_str().context("the header")?;
        ensure!(header.contains(&format!("reason={reason}")), "{header}");
        let id = header.split("id=\"").nth(1).and_then(|rest| rest.split('"').next()).context("an id")?;
        scene.daemon.wait_for("the rejection", PATIENCE, |entry| {
            entry.field("ID") == Some(id) && entry.field("REASON") == Some(reason)
        })?;
    }
    scene.end()
}

fn a_proxy_can_pass_sessions_on_over_http2() -> Result<()> {
    let tls = "[listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n";
    let scene = proxied(tls, "x-forwarded-for")?;
    let server = "ssl verify none sni str(gate.test) alpn h2 ws h2";
    let _proxy = Haproxy::start(&scene.host, "http", server, "  option forwardfor")?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    for client in [Client::Python, Client::Node] {
        scene.admits(client, &attempt)?;
        scene.rejects(client, &Attempt::on("/chat"), (401, "credentials", "missing"))?;
        scene.rejects(client, &attempt.clone().from(DENIED_V4), (403, "firewall", "denied_range"))?;
    }
    scene.end()
}
