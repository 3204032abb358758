//! Clients that cannot see the answer to a refused handshake, pages in a browser above all, hear by
//! a close code which layer refused them, and what helps.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::admin::TABLE;
use gatehouse_tests::client::{Attempt, Client, answer_of};
use gatehouse_tests::plan::{ISSUER, Plan, good_token, issuer, route};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::raw::Session;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::Key;
use gatehouse_tests::upstream::UPSTREAM;
use gatehouse_tests::{promises, tools};
use serde_json::{Value, json};

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        clients_in_python_and_node_see_the_close_code_of_the_layer,
        only_those_with_an_origin_are_told_by_a_close_code_where_the_route_says_so,
        a_page_in_chromium_sees_the_layer_and_what_helps_and_connects_with_a_fresh_token,
        the_helper_for_pages_renews_waits_and_stops_as_documented,
        the_admin_page_shows_who_is_turned_away_explains_and_closes,
        the_admin_page_fits_a_phone_and_runs_nothing_that_a_client_has_written,
    ])
}

const ORIGIN: &str = "https://app.test";
const AWAY: &str = "https://away.test";

/// Routes that tell by close code, one of each fault; `/plain` does not.
fn scene(browser: &str) -> Result<Scene> {
    let browser = format!("browser = \"{browser}\"\n");
    Scene::with(Key::generate("ES256", "key-1")?, |key, plan| {
        let away = issuer("away", "keys = \"none.json\"", &[key.algorithm()]).replace(ISSUER, AWAY);
        let routes = [
            format!("{}{browser}", route("/chat", UPSTREAM)),
            format!("{}{browser}", route("/down", "127.0.0.1:9")),
            format!("{}{browser}sessions = 1\n", route("/single", UPSTREAM)),
            format!("{}{browser}", route("/away", UPSTREAM).replace("\"main\"", "\"away\"")),
            route("/plain", UPSTREAM),
        ];
        let plan = Plan { routes: routes.concat(), issuers: plan.issuers.clone() + &away, ..plan };
        Ok(plan.file("none.json", "{\"keys\":[]}"))
    })
}

/// Tokens: expired, without the scope, and of the issuer whose keys nobody has.
fn tokens(scene: &Scene) -> Result<[String; 3]> {
    Ok([
        scene.sign(good_token()?.time("exp", -3600)?)?,
        scene.sign(good_token()?.claim("scope", "other"))?,
        scene.sign(good_token()?.claim("iss", AWAY))?,
    ])
}

/// The log has a rejection with what the client was told.
fn is_logged(scene: &Scene, layer: &str, reason: &str, id: &str) -> Result<()> {
    scene.daemon.wait_for("the rejection", PATIENCE, |entry| {
        entry.field("ID") == Some(id)
            && entry.field("LAYER") == Some(layer)
            && entry.field("REASON") == Some(reason)
    })?;
    Ok(())
}

fn clients_in_python_and_node_see_the_close_code_of_the_layer() -> Result<()> {
    let scene = scene("close_code")?;
    let [expired, narrow, away] = tokens(&scene)?;
    let good = scene.token()?;
    for (path, token, code, layer, reason) in [
        ("/chat", "garbage", 4401, "credentials", "malformed"),
        ("/chat", &*expired, 4419, "expiry", "expired"),
        ("/chat", &*narrow, 4403, "scope", "insufficient_scope"),
        ("/away", &*away, 4503, "auth_system", "keys_unavailable"),
        ("/down", &*good, 4502, "upstream", "unreachable"),
    ] {
        let attempt = Attempt::on(path).token(token).staying();
        // `websockets` says so by an exception as soon as it sends or reads.
        for client in [Client::Python, Client::Node] {
            let text = attempt.by(client, &scene.host)?.closed(code)?;
            let named = format!("layer={layer}, reason={reason}, id=\"");
            let id = text.strip_prefix(&named).and_then(|rest| rest.split('"').next());
            is_logged(&scene, layer, reason, id.with_context(|| text.clone())?)?;
        }
    }
    ensure!(scene.upstream.requests() == 0, "somebody reached the upstream");
    scene.end()
}

fn only_those_with_an_origin_are_told_by_a_close_code_where_the_route_says_so() -> Result<()> {
    let scene = scene("origin")?;
    let attempt = Attempt::on("/chat").token("garbage");
    for client in [Client::Python, Client::Node] {
        scene.rejects(client, &attempt, (401, "credentials", "malformed"))?;
        let page = attempt.clone().header("Origin", ORIGIN).staying();
        page.by(client, &scene.host)?.closed(4401)?;
        let plain = Attempt::on("/plain").token("garbage").header("Origin", ORIGIN);
        scene.rejects(client, &plain, (401, "credentials", "malformed"))?;
    }
    scene.end()
}

fn a_page_in_chromium_sees_the_layer_and_what_helps_and_connects_with_a_fresh_token() -> Result<()> {
    let scene = scene("origin")?;
    let [expired, narrow, away] = tokens(&scene)?;
    let good = scene.token()?;
    let attempt = |path: &str, token: &str| {
        let url = Attempt::on(path).arguments()["url"].clone();
        json!({ "url": url, "token": token })
    };
    let mut renewal = attempt("/chat", &good);
    renewal["stale"] = expired.as_str().into();
    let plan = json!({
        "attempts": {
            "none": attempt("/chat", ""),
            "expired": attempt("/chat", &expired),
            "narrow": attempt("/chat", &narrow),
            "away": attempt("/away", &away),
            "down": attempt("/down", &good),
            "plain": attempt("/plain", &expired),
            "nowhere": attempt("/nowhere", &good),
            "good": attempt("/chat", &good),
        },
        "limited": attempt("/single", &good),
        "renewal": renewal,
    });
    let folder = tempfile::tempdir()?;
    let arguments = json!({ "helper": tools::helper(), "folder": folder.path(), "plan": plan });
    let seen: Value =
        serde_json::from_str(&answer_of(&scene.host, tools::node("browser.mjs")?, &arguments)?)?;
    for (name, code, layer, reason, action) in [
        ("none", 4401, "credentials", "missing", "renew"),
        ("expired", 4419, "expiry", "expired", "renew"),
        ("narrow", 4403, "scope", "insufficient_scope", "stop"),
        ("away", 4503, "auth_system", "keys_unavailable", "wait"),
        ("down", 4502, "upstream", "unreachable", "wait"),
        ("limit", 4429, "limit", "route_sessions", "wait"),
    ] {
        let one = &seen[name];
        ensure!(one["code"] == code && one["layer"] == layer, "{name}: {seen:#}");
        ensure!(one["reason"] == reason && one["action"] == action, "{name}: {seen:#}");
        is_logged(&scene, layer, reason, one["id"].as_str().unwrap_or_default())?;
    }
    // Where no route says so, this is all that a page sees.
    for name in ["plain", "nowhere"] {
        ensure!(seen[name]["code"] == 1006 && seen[name]["layer"].is_null(), "{name}: {seen:#}");
    }
    ensure!(seen["good"]["code"] == 1000 && seen["good"]["action"] == "done", "{seen:#}");
    ensure!(seen["renewal"] == json!(["renew", "hello"]), "{seen:#}");
    // The good one, the one that held the place, and the renewed one.
    scene.upstream.was_asked(3)?;
    scene.end()
}

fn the_helper_for_pages_renews_waits_and_stops_as_documented() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // By its name Node takes it for what it is, a module.
    let module = folder.path().join("gatehouse.mjs");
    std::fs::copy(tools::helper(), &module)?;
    let output = tools::node_tests("helper.test.mjs").env("GATEHOUSE_JS", &module).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    ensure!(said.lines().any(|line| line.starts_with("# pass ") && line != "# pass 0"), "{said}");
    Ok(())
}

/// What `program` sees in the admin page of a system with a session of `subject`, at this width and in this
/// colour scheme.
fn admin_page(subject: &str, width: u32, scheme: &str, program: &str) -> Result<Value> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        Ok(Plan { more: plan.more.clone() + TABLE, ..plan })
    })?;
    let token = scene.sign(good_token()?.claim("sub", subject))?;
    let mut session = Session::open(&scene.host, &Attempt::on("/chat").token(&token))?;
    session.echo("hello")?;
    scene.rejects(Client::Raw, &Attempt::on("/chat"), (401, "credentials", "missing"))?;
    let folder = tempfile::tempdir()?;
    let url = format!("http://{}/", gatehouse_tests::admin::ADDRESS);
    let arguments =
        json!({ "url": url, "folder": folder.path(), "width": width, "scheme": scheme, "program": program });
    let mut command = tools::node("admin_page.mjs")?;
    command.arg(arguments.to_string());
    let output = scene.host.gate.command(&command).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())?;
    ensure!(told["complaints"] == json!([]), "the browser complains: {told:#}");
    scene.end()?;
    Ok(told["seen"].clone())
}

fn the_admin_page_shows_who_is_turned_away_explains_and_closes() -> Result<()> {
    let seen = admin_page(
        "alice",
        1280,
        "light",
        r##"
        const text = (id) => document.getElementById(id).innerText;
        await until("the rejection", () => text("reasons").includes("missing"));
        await until("the session", () => text("sessions").includes("alice"));
        const input = document.getElementById("explain-value");
        input.value = "10.66.3.4";
        document.getElementById("explain").requestSubmit();
        const explained = await until("the explanation", () => text("explained").includes("denied_range") && text("explained"));
        window.confirm = () => true;
        document.querySelector("#sessions button").click();
        await until("the end of the session", () => text("sessions").includes("no session is open"));
        const focusable = [...document.querySelectorAll("input, button")].filter((one) => !one.closest("[hidden]"));
        const named = focusable.every((one) => one.labels?.length || one.textContent.trim() || one.getAttribute("aria-label"));
        return { explained, named, charts: document.querySelectorAll("svg path").length };
        "##,
    )?;
    let explained = seen["explained"].as_str().unwrap_or_default();
    ensure!(explained.contains("Operator:") && explained.contains("rejects"), "{seen:#}");
    ensure!(seen["named"] == true && seen["charts"].as_u64() > Some(8), "{seen:#}");
    Ok(())
}

fn the_admin_page_fits_a_phone_and_runs_nothing_that_a_client_has_written() -> Result<()> {
    let seen = admin_page(
        "<img src=x onerror=alert(1)>",
        360,
        "dark",
        r##"
        await until("the session", () => document.getElementById("sessions").innerText.includes("<img"));
        const style = getComputedStyle(document.body);
        return {
          images: document.images.length,
          wide: document.documentElement.scrollWidth - window.innerWidth,
          paper: style.backgroundColor,
        };
        "##,
    )?;
    ensure!(seen["images"] == 0, "what a client wrote is markup: {seen:#}");
    ensure!(seen["wide"].as_i64() <= Some(0), "the page is wider than a phone: {seen:#}");
    ensure!(seen["paper"] == "rgb(22, 24, 27)", "it is not dark: {seen:#}");
    Ok(())
}
