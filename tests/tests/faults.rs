//! Every reason and every point: clients that are each broken in one known way, and whether each can be
//! found and helped.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatehouse_tests::admin::{TABLE, metrics, sample};
use gatehouse_tests::authority::{authority_alone, sign};
use gatehouse_tests::client::{Attempt, Client, GATE_PORT};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::host::{CLIENT_V4, CLIENT_V6, DENIED_V4, DENIED_V6, GATE_V4};
use gatehouse_tests::plan::{AUDIENCE, ISSUER, Plan, good_token};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::{Key, Token, jwk_set, tampered};
use gatehouse_tests::tools;
use gatehouse_tests::wire::{Told, connect, hear, message, open, opening, proxied, say, service};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        every_reason_at_every_point_is_attributed_in_answer_trail_metrics_and_explanation,
        no_marked_secret_reaches_a_log_a_metric_a_page_an_error_or_a_core_file,
    ])
}

/// Where a proxy is believed about whom it passes on.
const PROXIED: u16 = 8081;
/// Where a certificate is asked for.
const SECURED: u16 = 8443;
const ORIGIN: &str = "https://app.test";

/// The upstream routes; each has what one fault needs.
fn routes() -> String {
    let route = |path: &str, upstream: &str, issuer: &str, more: &str| {
        format!(
            "[[route]]\npath = \"{path}\"\nupstream = \"ws://{upstream}\"\nissuers = [\"{issuer}\"]\nscopes = [\"chat:read\"]\n{more}\n"
        )
    };
    let echo = gatehouse_tests::upstream::UPSTREAM;
    [
        route("/chat", echo, "main", "tickets = true"),
        route("/down", "127.0.0.1:9", "main", ""),
        route("/slow", "127.0.0.1:9101", "main", ""),
        route("/refuse", "127.0.0.1:9102", "main", ""),
        route("/odd", "127.0.0.1:9103", "main", ""),
        route("/empty", echo, "empty", ""),
        route("/asked", echo, "asked", ""),
        route("/inactive", echo, "inactive", ""),
        route("/stale", echo, "stale", ""),
        route("/strict", echo, "strict", ""),
        route("/first", echo, "main", "first_message = true"),
        route("/tiny", echo, "main", "sessions = 1"),
        route("/rate", echo, "main", "handshake_rate = 1"),
        route("/traffic", echo, "main", "messages_rate = 1"),
        route("/page", echo, "main", &format!("origins = [\"{ORIGIN}\"]")),
        route("/claims", echo, "main", "claims = { all = { tenant = \"acme\" } }"),
        route("/signin", echo, "main", "max_age = \"1h\""),
        route("/renew", echo, "main", "renewal = true"),
    ]
    .concat()
}

fn issuers() -> String {
    let issuer = |name: &str, iss: &str, more: &str| {
        format!(
            "[[issuer]]\nname = \"{name}\"\nissuer = \"{iss}\"\naudience = [\"{AUDIENCE}\"]\nalgorithms = [\"ES256\"]\nleeway = \"0s\"\n{more}\n"
        )
    };
    let asked = |port: u16| {
        format!(
            "[issuer.introspection]\nendpoint = \"http://127.0.0.1:{port}/\"\nclient_id = \"gate\"\nclient_secret = \"gate.secret\""
        )
    };
    let stale = "keys = \"http://127.0.0.1:9105/keys\"\nkeys_min_interval = \"1s\"\nkeys_max_interval = \"1s\"\nmax_stale = \"2s\"";
    [
        issuer("main", ISSUER, "keys = \"keys.json\""),
        issuer("empty", "https://empty.test", "keys = \"empty.json\""),
        issuer(
            "strict",
            ISSUER,
            "keys = \"keys.json\"\nrequire = { tenant = \"acme\" }\nmax_lifetime = \"15m\"",
        ),
        issuer("stale", ISSUER, stale),
        issuer("asked", "https://asked.test", &asked(9)),
        issuer("inactive", "https://inactive.test", &asked(9104)),
    ]
    .concat()
}

/// The system in which most faults happen.
fn stage(firewall: &str, limits: &str) -> Result<Scene> {
    let folder = tempfile::tempdir()?;
    authority_alone(folder.path())?;
    sign(folder.path(), ("cert", "key"), "gate", &format!("IP:{GATE_V4}"))?;
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |key, plan| {
        let listen = plan.listen.clone()
            + &format!(
                "[[listen]]\naddress = \"{GATE_V4}:{PROXIED}\"\nclient_address = \"proxy_protocol\"\ntrusted_proxies = [\"{CLIENT_V4}\"]\n\
                 [[listen]]\naddress = \"{GATE_V4}:{SECURED}\"\n[listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n\
                 client_ca = \"ca.pem\"\nclient_certificate = \"required\"\n"
            );
        let more = format!(
            "{TABLE}[state]\nfolder = \"state\"\n[limits]\naudit_at_once = 1000\nhandshake_timeout = \"1s\"\nproxy_header_timeout = \"1s\"\n\
             upstream_timeout = \"1s\"\nfirst_message_timeout = \"1s\"\nclose_timeout = \"1s\"\nrequest_head = 4096\n{limits}"
        );
        let mut plan = Plan { listen, routes: routes(), issuers: issuers(), more, ..plan };
        plan.firewall += firewall;
        for name in ["cert.pem", "key.pem", "ca.pem"] {
            plan = plan.file(name, fs::read(folder.path().join(name))?);
        }
        Ok(plan
            .file("keys.json", jwk_set(&[key]))
            .file("empty.json", "{\"keys\":[]}")
            .file("gate.secret", "secret"))
    })?;
    service(&scene.host, "127.0.0.1:9101", 64, "")?;
    service(&scene.host, "127.0.0.1:9102", 64, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")?;
    service(
        &scene.host,
        "127.0.0.1:9103",
        64,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
    )?;
    service(
        &scene.host,
        "127.0.0.1:9104",
        64,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\nConnection: close\r\n\r\n{\"active\":false}",
    )?;
    let set = jwk_set(&[&scene.key]);
    let length = set.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{set}"
    );
    // Once, and never again.
    service(&scene.host, "127.0.0.1:9105", 1, answer)?;
    Ok(scene)
}

/// Waits until the keys that came once are too old.
fn wait_until_stale(scene: &Scene) -> Result<()> {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let status = scene.daemon.status()?;
        let issuers = status["issuers"].as_array().cloned().unwrap_or_default();
        let stale = issuers.iter().find(|issuer| issuer["issuer"] == "stale");
        if stale.is_some_and(|issuer| issuer["keys"] != 0 && issuer["fetched"]["stale"] == true) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the keys do not become stale: {status:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What has been found out about the clients.
#[derive(Default)]
struct Score {
    clients: usize,
    found: usize,
    covered: BTreeSet<(String, &'static str)>,
    missed: Vec<String>,
}

impl Score {
    /// A client that is broken in the way of `expected` (layer/reason) at the gateway: `fault` makes it, and says what
    /// it was told.
    fn gateway(&mut self, scene: &Scene, expected: &str, fault: impl FnOnce() -> Result<Told>) {
        self.add(expected, "gateway", || {
            let before = counted(scene, expected, "gateway")?;
            let told = fault()?;
            ensure!(format!("{}/{}", told.layer, told.reason) == expected, "the client was told {told:?}");
            ensure!(told.status >= 400 || told.code.is_some(), "neither a status nor a code: {told:?}");
            attributed(scene, expected, &told.id)?;
            let after = counted(scene, expected, "gateway")?;
            ensure!(after > before, "the metrics have {after}, and had {before}");
            Ok(())
        });
    }

    /// A client that is dropped at the card for `expected`.
    fn card(&mut self, scene: &Scene, expected: &str, source: IpAddr) {
        self.add(expected, "nic", || {
            let before = counted(scene, expected, "nic")?;
            let entry = scene.drops(Client::Raw, &Attempt::on("/chat").from(source))?;
            let named = ["LAYER", "REASON", "POINT"].map(|name| entry.field(name).unwrap_or_default());
            ensure!(
                format!("{}/{} {}", named[0], named[1], named[2]) == format!("{expected} nic"),
                "{}",
                entry.line
            );
            ensure!(counted(scene, expected, "nic")? > before, "the metrics do not have it");
            let output =
                verb("explain", &scene.config())?.args(["--address", &source.to_string()]).output()?;
            let text = String::from_utf8(output.stdout)?;
            ensure!(text.contains(&expected.replace('/', ": ")), "{text}");
            Ok(())
        });
    }

    fn add(&mut self, expected: &str, point: &'static str, check: impl FnOnce() -> Result<()>) {
        self.clients += 1;
        match check() {
            Ok(()) => {
                self.found += 1;
                self.covered.insert((expected.to_owned(), point));
            }
            Err(error) => self.missed.push(format!("{expected} at {point}: {error:#}")),
        }
    }
}

/// Whether trail and explanation attribute the handshake `id`.
fn attributed(scene: &Scene, expected: &str, id: &str) -> Result<()> {
    ensure!(id.len() == 20, "the client was told no id");
    let (layer, reason) = expected.split_once('/').context("layer/reason")?;
    scene.daemon.wait_for("the entry", PATIENCE, |entry| {
        entry.field("ID") == Some(id)
            && entry.field("LAYER") == Some(layer)
            && entry.field("REASON") == Some(reason)
    })?;
    let output = verb("explain", &scene.config())?.args(["--id", id]).output()?;
    let text = String::from_utf8(output.stdout)?;
    for wanted in
        [&format!("layer        {layer}"), &format!("reason       {reason}"), "client:", "operator:"]
    {
        ensure!(text.contains(wanted), "explain --id does not say {wanted}:\n{text}");
    }
    Ok(())
}

/// How often the metrics have it: as a rejection, or as the end of a session.
fn counted(scene: &Scene, expected: &str, point: &str) -> Result<f64> {
    let (layer, reason) = expected.split_once('/').context("layer/reason")?;
    let metrics = metrics(&scene.host)?;
    let labels = [("layer", layer), ("reason", reason)];
    let rejected = sample(&metrics, "gatehouse_rejections_total", &[labels[0], labels[1], ("point", point)]);
    Ok(rejected + sample(&metrics, "gatehouse_sessions_ended_total", &labels))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The usual opening handshake on `path` with `token`, to the usual port.
fn with(scene: &Scene, path: &str, token: &str) -> Result<Told> {
    say(&scene.host, GATE_PORT, opening(path, &bearer(token)).as_bytes())
}

fn post(path: &str, token: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n{}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}",
        bearer(token)
    )
}

fn handshakes(score: &mut Score, scene: &Scene) -> Result<()> {
    let say = |bytes: &str| say(&scene.host, GATE_PORT, bytes.as_bytes());
    let good = scene.token()?;
    let usual = opening("/chat", &bearer(&good));
    let mut raw = |expected: &str, request: String| score.gateway(scene, expected, || say(&request));
    raw("handshake/malformed", usual.replace("Host: gate.test\r\n", ""));
    raw("handshake/not_websocket", usual.replace("Upgrade: websocket", "Upgrade: h2c"));
    raw("handshake/bad_version", usual.replace("Version: 13", "Version: 8"));
    raw("handshake/bad_key", usual.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="));
    raw("handshake/method", usual.replace("GET ", "POST "));
    raw("handshake/body", usual.replace("Host:", "Content-Length: 5\r\nHost:"));
    raw("handshake/too_large", opening("/chat", &format!("X: {}\r\n", "x".repeat(8000))));
    raw("handshake/timeout", "GET /chat HTTP/1.1\r\nHost:".to_owned());
    raw("handshake/no_route", opening("/nowhere", &bearer(&good)));
    raw("handshake/origin", opening("/page", &format!("Origin: https://evil.test\r\n{}", bearer(&good))));
    let offered = format!(
        "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.{}\r\n",
        URL_SAFE_NO_PAD.encode(&good)
    );
    raw("handshake/subprotocol", opening("/chat", &offered));
    raw("handshake/no_session", post("/sessions/00000000000000000000/token", &good, ""));
    raw(
        "credentials/multiple",
        opening("/chat", &format!("{}{}", bearer(&good), offered.replace("base64url", "v1, base64url"))),
    );
    raw("credentials/missing", opening("/chat", ""));
    raw("credentials/ticket", opening("/chat?ticket=nobody-gave-this", ""));
    score.gateway(scene, "handshake/tls", || {
        gatehouse_tests::wire::say(&scene.host, SECURED, usual.as_bytes())
    });
    score.gateway(scene, "handshake/proxy_header", || {
        gatehouse_tests::wire::say(&scene.host, PROXIED, usual.as_bytes())
    });
    score.gateway(scene, "firewall/denied_range", || {
        let request = proxied(DENIED_V4) + &usual;
        gatehouse_tests::wire::say(&scene.host, PROXIED, request.as_bytes())
    });
    score.card(scene, "firewall/denied_range", DENIED_V4);
    score.card(scene, "firewall/denied_range", DENIED_V6);
    Ok(())
}

fn credentials(score: &mut Score, scene: &Scene) -> Result<()> {
    let token = || good_token();
    let signed = |token: Token| scene.sign(token);
    let other = Key::generate("ES256", "key-1")?;
    let stranger = Key::generate("ES256", "key-of-a-stranger")?;
    let mut bad = |expected: &str, path: &str, token: String| {
        score.gateway(scene, expected, || with(scene, path, &token))
    };
    bad("credentials/malformed", "/chat", "garbage".to_owned());
    bad("credentials/algorithm", "/chat", token()?.unsigned("none"));
    bad("credentials/unknown_issuer", "/chat", signed(token()?.claim("iss", "https://stranger.test"))?);
    bad("credentials/unknown_key", "/chat", token()?.sign(&stranger)?);
    bad("credentials/bad_signature", "/chat", token()?.sign(&other)?);
    bad("credentials/bad_signature", "/chat", tampered(&scene.token()?, "sub", "root")?);
    bad(
        "credentials/wrong_type",
        "/chat",
        token()?.sign_as(&scene.key, json!({"typ": "JWT", "kid": "key-1"}))?,
    );
    bad("credentials/missing_claim", "/chat", signed(Token::without(token()?, "client_id"))?);
    bad("credentials/wrong_claim", "/strict", signed(token()?.claim("tenant", "other"))?);
    bad("credentials/lifetime", "/strict", signed(token()?.claim("tenant", "acme").time("exp", 3600)?)?);
    bad("credentials/wrong_audience", "/chat", signed(token()?.claim("aud", "https://other.test"))?);
    bad("credentials/not_yet_valid", "/chat", signed(token()?.time("nbf", 600)?)?);
    bad("credentials/bound", "/chat", signed(token()?.claim("cnf", json!({"jkt": "x"})))?);
    bad("credentials/inactive", "/inactive", "opaque-token".to_owned());
    bad("expiry/expired", "/chat", signed(token()?.time("exp", -60)?)?);
    bad("expiry/sign_in", "/signin", signed(token()?.time("auth_time", -7200)?)?);
    bad("scope/insufficient_scope", "/chat", signed(token()?.claim("scope", "other"))?);
    bad("scope/insufficient_claims", "/claims", scene.token()?);
    bad("auth_system/keys_unavailable", "/empty", signed(token()?.claim("iss", "https://empty.test"))?);
    bad("auth_system/introspection_unavailable", "/asked", "opaque-token".to_owned());
    bad("upstream/unreachable", "/down", scene.token()?);
    bad("upstream/timeout", "/slow", scene.token()?);
    bad("upstream/refused", "/refuse", scene.token()?);
    bad("upstream/bad_handshake", "/odd", scene.token()?);
    let revoked = signed(token()?.claim("jti", "stolen"))?;
    let output = verb("revoke", &scene.config())?.args(["--jti", "stolen"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    bad("credentials/revoked", "/chat", revoked);
    wait_until_stale(scene)?;
    bad("auth_system/keys_stale", "/stale", scene.token()?);
    score.gateway(scene, "credentials/first_message", || {
        let mut stream = connect(&scene.host, GATE_PORT)?;
        open(&mut stream, &opening("/first", ""))?;
        stream.write_all(&message("hello"))?;
        hear(&mut stream)
    });
    score.gateway(scene, "credentials/missing", || {
        say(&scene.host, GATE_PORT, opening("/first", "").as_bytes())
    });
    score.gateway(scene, "credentials/certificate", || {
        let mut curl = Command::new("openssl");
        curl.args(["s_client", "-quiet", "-connect", &format!("{GATE_V4}:{SECURED}"), "-CAfile"]);
        curl.arg(scene.file("ca.pem"));
        let mut child = scene
            .host
            .client
            .command(&curl)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        let mut input = child.stdin.take().context("no input")?;
        input.write_all(opening("/chat", &bearer(&scene.token()?)).as_bytes())?;
        let output = child.wait_with_output()?;
        drop(input);
        Ok(gatehouse_tests::wire::told(&output.stdout))
    });
    Ok(())
}

/// The identifier in the answer that opens a session.
fn id_of(head: &str) -> Result<String> {
    let id = head.split("Gatehouse-Id: ").nth(1).or_else(|| head.split("gatehouse-id: ").nth(1));
    Ok(id
        .and_then(|rest| rest.split("\r\n").next())
        .with_context(|| head.to_owned())?
        .trim_matches('"')
        .to_owned())
}

fn sessions(score: &mut Score, scene: &Scene) -> Result<()> {
    score.gateway(scene, "expiry/session_expired", || {
        let mut stream = connect(&scene.host, GATE_PORT)?;
        let token = scene.sign(good_token()?.time("exp", 2)?)?;
        open(&mut stream, &opening("/chat", &bearer(&token)))?;
        hear(&mut stream)
    });
    score.gateway(scene, "credentials/other_subject", || {
        let mut stream = connect(&scene.host, GATE_PORT)?;
        let head = open(&mut stream, &opening("/renew", &bearer(&scene.token()?)))?;
        let other = scene.sign(good_token()?.claim("sub", "mallory"))?;
        say(
            &scene.host,
            GATE_PORT,
            post(&format!("/sessions/{}/token", id_of(&head)?), &other, "").as_bytes(),
        )
    });
    score.gateway(scene, "limit/route_traffic", || {
        let mut stream = connect(&scene.host, GATE_PORT)?;
        open(&mut stream, &opening("/traffic", &bearer(&scene.token()?)))?;
        stream.write_all(&message("more than one a second").repeat(20))?;
        hear(&mut stream)
    });
    Ok(())
}

/// Tries until it is turned away.
fn until_rejected(scene: &Scene, most: u32, request: impl Fn(u32) -> (u16, String)) -> Result<Told> {
    let mut kept = Vec::new();
    for number in 0..most {
        let (port, request) = request(number);
        let mut stream = connect(&scene.host, port)?;
        let (address, rest) = if port == PROXIED {
            request.split_at(request.find("\r\n").map_or(0, |at| at + 2))
        } else {
            ("", &*request)
        };
        stream.write_all(address.as_bytes())?;
        let head = open(&mut stream, rest)?;
        if !head.starts_with("HTTP/1.1 101") {
            return Ok(gatehouse_tests::wire::told(head.as_bytes()));
        }
        kept.push(stream);
    }
    anyhow::bail!("{most} were admitted")
}

fn limits(score: &mut Score, scene: &Scene) -> Result<()> {
    let good = scene.token()?;
    let usual = |path: &str| opening(path, &bearer(&good));
    score
        .gateway(scene, "limit/route_sessions", || until_rejected(scene, 3, |_| (GATE_PORT, usual("/tiny"))));
    score.gateway(scene, "limit/route_rate", || until_rejected(scene, 5, |_| (GATE_PORT, usual("/rate"))));
    score.gateway(scene, "limit/tickets", || {
        let request = post("/tickets", &good, "{\"route\":\"/chat\"}");
        (0..4).map(|_| say(&scene.host, GATE_PORT, request.as_bytes())).try_fold(
            Told::default(),
            |last, told| {
                if last.layer.is_empty() { told } else { Ok(last) }
            },
        )
    });
    score.gateway(scene, "limit/address_sessions", || {
        until_rejected(scene, 20, |_| {
            (PROXIED, proxied(Ipv4Addr::new(198, 51, 100, 1).into()) + &usual("/chat"))
        })
    });
    let crowd = scene.sign(good_token()?.claim("sub", "crowd"))?;
    score.gateway(scene, "limit/subject_sessions", || {
        until_rejected(scene, 40, |number| {
            let address = Ipv4Addr::from_bits(0xcb00_7100 + number);
            (PROXIED, proxied(address.into()) + &opening("/chat", &bearer(&crowd)))
        })
    });
    Ok(())
}

/// Faults that need limits which would disturb the others.
fn strict_limits(score: &mut Score) -> Result<()> {
    let session = |scene: &Scene, bytes: &[u8]| -> Result<Told> {
        let mut stream = connect(&scene.host, GATE_PORT)?;
        open(&mut stream, &opening("/chat", &bearer(&scene.token()?)))?;
        stream.write_all(bytes)?;
        hear(&mut stream)
    };
    let flood = message("more than one a second").repeat(20);
    for (limit, expected, bytes) in [
        ("messages_rate = 1", "limit/traffic", &*flood),
        ("messages_rate_per_address = 1", "limit/address_traffic", &flood),
        ("messages_rate_per_subject = 1", "limit/subject_traffic", &flood),
        ("idle_timeout = \"1s\"", "limit/session_idle", b""),
        ("session_lifetime = \"1s\"", "limit/session_lifetime", b""),
    ] {
        let scene = stage("", &format!("{limit}\n"))?;
        score.gateway(&scene, expected, || session(&scene, bytes));
        scene.end()?;
    }
    for (limit, expected) in [
        ("handshake_rate = 1", "limit/rate"),
        ("handshake_rate_per_address = 1", "limit/address_rate"),
        ("handshake_rate_per_subject = 1", "limit/subject_rate"),
        ("sessions = 1", "limit/capacity"),
    ] {
        let scene = stage("", &format!("{limit}\n"))?;
        let request = opening("/chat", &bearer(&scene.token()?));
        score.gateway(&scene, expected, || until_rejected(&scene, 5, |_| (GATE_PORT, request.clone())));
        scene.end()?;
    }
    Ok(())
}

/// Faults that need another address policy.
fn closed_doors(score: &mut Score) -> Result<()> {
    let allow = format!(
        "allow = [\"allow.list\"]\ndefault = \"drop\"\nprotect = []\nnever_block = [\"{CLIENT_V4}\"]\n"
    );
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let listen = plan.listen.clone()
            + &format!(
                "[[listen]]\naddress = \"{GATE_V4}:{PROXIED}\"\nclient_address = \"proxy_protocol\"\ntrusted_proxies = [\"{CLIENT_V4}\"]\n"
            );
        let firewall = plan.firewall.clone() + &allow;
        let more = format!("{TABLE}[state]\nfolder = \"state\"\n");
        Ok(Plan { listen, firewall, more, ..plan }.file("allow.list", "203.0.113.0/24\n"))
    })?;
    score.card(&scene, "firewall/not_allowed", gatehouse_tests::host::OTHER_CLIENT_V4);
    let request = opening("/chat", &bearer(&scene.token()?));
    let through = |address: Ipv4Addr| {
        let request = proxied(address.into()) + &request;
        say(&scene.host, PROXIED, request.as_bytes())
    };
    score.gateway(&scene, "firewall/not_allowed", || through(Ipv4Addr::new(198, 51, 100, 7)));
    for prefix in ["203.0.113.7", &CLIENT_V6.to_string()] {
        let output = verb("ban", &scene.config())?.arg(prefix).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    score.gateway(&scene, "firewall/banned", || through(Ipv4Addr::new(203, 0, 113, 7)));
    score.card(&scene, "firewall/banned", CLIENT_V6);
    scene.end()
}

/// Every reason of the registry, `layer/reason`, from the manual that it is rendered to.
fn registry() -> Result<(BTreeSet<String>, String, String)> {
    let gatehouse = tools::gatehouse()?;
    let render = |arguments: &[&str]| -> Result<String> {
        Ok(String::from_utf8(Command::new(&gatehouse).arg("reasons").args(arguments).output()?.stdout)?)
    };
    let (manual, catalog) = (render(&[])?, render(&["--catalog"])?);
    let reasons = manual.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect();
    Ok((reasons, manual, catalog))
}

fn every_reason_at_every_point_is_attributed_in_answer_trail_metrics_and_explanation() -> Result<()> {
    let mut score = Score::default();
    let scene = stage("", "sessions_per_address = 12\nsessions_per_subject = 24\ntickets_per_address = 2\n")?;
    handshakes(&mut score, &scene)?;
    credentials(&mut score, &scene)?;
    sessions(&mut score, &scene)?;
    limits(&mut score, &scene)?;
    scene.end()?;
    strict_limits(&mut score)?;
    closed_doors(&mut score)?;

    let (reasons, manual, catalog) = registry()?;
    for reason in &reasons {
        if !score.covered.iter().any(|(covered, _)| covered == reason) {
            score.missed.push(format!("{reason}: no client was turned away for it"));
        }
        let of = manual.split(&format!("### {reason}\n")).nth(1).and_then(|rest| rest.split("\n### ").next());
        let section = of.unwrap_or_default();
        if !section.contains("- Client: ")
            || !section.contains("- Operator: ")
            || !catalog.contains(&format!("({reason})"))
        {
            score.missed.push(format!("{reason}: no words for client, operator or journal"));
        }
    }
    for reason in ["denied_range", "not_allowed", "banned"] {
        if !score.covered.contains(&(format!("firewall/{reason}"), "nic")) {
            score.missed.push(format!("firewall/{reason}: no client was dropped at the card for it"));
        }
    }
    let Score { clients, found, covered, missed } = score;
    eprintln!(
        "faults: {found} of {clients} clients are attributed, for {} of {} reasons",
        covered.iter().map(|(reason, _)| reason).collect::<BTreeSet<_>>().len(),
        reasons.len()
    );
    ensure!(missed.is_empty() && clients >= 60, "{clients} clients; missed:\n{}", missed.join("\n"));
    Ok(())
}

/// What must not be told by anybody.
const MARKS: [&str; 6] = ["MARKtoken", "MARKcookie", "MARKquery", "MARKticket", "MARKsecret", "MARKmessage"];

/// Whether one of the marks stands in `told`; what is in a token is marked in base64url, too.
fn leaks(told: &[u8], more: &[String]) -> Vec<String> {
    let marks = MARKS.iter().map(|&mark| mark.to_owned()).chain(more.iter().cloned());
    marks.filter(|mark| told.windows(mark.len()).any(|part| part == mark.as_bytes())).collect()
}

/// How many core files are in `folder`.
fn cores(folder: &Path) -> Result<usize> {
    let names = fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with("core")).count())
}

/// Ends the process `pid` by a signal that leaves a core file, and allows it one of any size.
fn abort_with_core(pid: u64) -> Result<()> {
    let allowed = Command::new("prlimit").args(["--core=unlimited", "--pid", &pid.to_string()]).output()?;
    ensure!(allowed.status.success(), "{allowed:?}");
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGABRT)?)
}

fn no_marked_secret_reaches_a_log_a_metric_a_page_an_error_or_a_core_file() -> Result<()> {
    let mut scene = stage("", "")?;
    // A claim that nobody asks about, so that only its token has it; and the signature.
    let good = scene.sign(good_token()?.claim("private", "MARKtoken"))?;
    let expired = scene.sign(good_token()?.claim("private", "MARKtoken").time("exp", -60)?)?;
    let signatures: Vec<String> =
        [&good, &expired].iter().filter_map(|token| Some(token.rsplit('.').next()?.to_owned())).collect();
    let usual =
        |path: &str, token: &str| opening(path, &format!("{}Cookie: session=MARKcookie\r\n", bearer(token)));
    let mut stream = connect(&scene.host, GATE_PORT)?;
    open(&mut stream, &usual("/chat?room=MARKquery", &good))?;
    stream.write_all(&message("MARKmessage"))?;
    for (port, request) in [
        (GATE_PORT, usual("/chat?access_token=MARKquery", &expired)),
        (GATE_PORT, usual("/chat?ticket=MARKticket", "")),
        (GATE_PORT, usual("/nowhere?q=MARKquery", &good)),
        (GATE_PORT, usual("/down?q=MARKquery", &good)),
        (GATE_PORT, usual("/asked?q=MARKquery", "MARKtoken-that-only-its-issuer-can-read")),
        (GATE_PORT, usual("/chat", "MARKtoken.MARKtoken.MARKtoken")),
        (GATE_PORT, usual("/chat", &good).replace("Host: gate.test", "Host : MARKsecret")),
        (GATE_PORT, post("/tickets", &good, "{\"route\":\"MARKsecret\"}")),
        (PROXIED, format!("PROXY MARKsecret\r\n{}", usual("/chat", &good))),
        (SECURED, usual("/chat?q=MARKquery", &good)),
    ] {
        let told = say(&scene.host, port, request.as_bytes())?;
        // The path of a request, which a client knows, may come back to it; nothing else.
        ensure!(leaks(told.text.as_bytes(), &signatures).is_empty(), "the client is told {told:?}");
        if told.id.len() == 20 {
            let output = verb("explain", &scene.config())?.args(["--id", &told.id, "--json"]).output()?;
            let leaked = leaks(&[output.stdout, output.stderr].concat(), &signatures);
            ensure!(leaked.is_empty(), "explain --id tells {leaked:?}");
        }
    }
    scene.daemon.wait_for("the last rejection", PATIENCE, |entry| entry.field("REASON") == Some("tls"))?;
    let broken = "[[issuer]]\nname = \"MARKsecret\"\nsecret = 7\n";
    for (path, body) in
        [("/metrics", ""), ("/api/overview", ""), ("/api/sessions", ""), ("/", ""), ("/readyz", "")]
    {
        let answer = gatehouse_tests::admin::ask(&scene.host, "GET", path, &[], body)?;
        let leaked = leaks((answer.head + &answer.body).as_bytes(), &signatures);
        ensure!(leaked.is_empty(), "{path} tells {leaked:?}");
    }
    let own = [("Content-Type", "application/json"), ("Gatehouse-Admin", "1")];
    let odd =
        gatehouse_tests::admin::ask(&scene.host, "POST", "/api/explain", &own, "{\"token\": MARKsecret}")?;
    ensure!(odd.status == 400 && leaks(odd.body.as_bytes(), &[]).is_empty(), "{odd:?}");
    for arguments in
        [&["status"][..], &["sessions"], &["explain", "--path", "/chat", "--token", "MARKtoken.MARKtoken.x"]]
    {
        let output = verb(arguments[0], &scene.config())?.args(&arguments[1..]).output()?;
        let leaked = leaks(&[output.stdout, output.stderr].concat(), &signatures);
        ensure!(leaked.is_empty(), "{arguments:?} tells {leaked:?}");
    }
    // A configuration that is broken in the middle of a secret is not quoted.
    fs::write(scene.file("broken.toml"), broken)?;
    let checked = verb("check", &scene.file("broken.toml"))?.output()?;
    ensure!(checked.status.code() == Some(78) && leaks(&checked.stderr, &[]).is_empty(), "{checked:?}");

    // The memory of the daemon has tokens in it, and no core file may have that: not even where core files
    // are allowed and any other process leaves one.
    let pid = scene.daemon.status()?["pid"].as_u64().context("no process id")?;
    let folder = fs::read_link(format!("/proc/{pid}/cwd"))?;
    abort_with_core(pid)?;
    scene.daemon.exit_code()?;
    ensure!(cores(&folder)? == 0, "there is a core file in {}", folder.display());
    let elsewhere = tempfile::tempdir()?;
    let mut other = Command::new("sleep").arg("60").current_dir(elsewhere.path()).spawn()?;
    abort_with_core(other.id().into())?;
    other.wait()?;
    if !fs::read_to_string("/proc/sys/kernel/core_pattern")?.starts_with(['|', '/']) {
        ensure!(cores(elsewhere.path())? == 1, "not even `sleep` leaves a core file, so this shows nothing");
    }
    let log: String = scene.daemon.log().into_iter().map(|entry| entry.line + "\n").collect();
    let leaked = leaks(log.as_bytes(), &signatures);
    ensure!(leaked.is_empty(), "the log has {leaked:?}:\n{log}");
    for file in fs::read_dir(scene.file("state"))? {
        let path = file?.path();
        if path.is_file() {
            ensure!(leaks(&fs::read(&path)?, &signatures).is_empty(), "{} has a secret", path.display());
        }
    }
    Ok(())
}
