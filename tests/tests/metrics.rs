//! What the daemon counts, and whom it tells: metrics, health, and the listener for both.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::admin::{TABLE, ask, get, metrics, sample};
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::Daemon;
use gatehouse_tests::host::{CLIENT_V4, DENIED_V4};
use gatehouse_tests::plan::Plan;
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::Key;
use gatehouse_tests::tools::{promtool, shipped};

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        each_rejection_and_admission_is_counted_and_the_metrics_pass_promtool,
        every_metric_of_the_dashboard_and_of_the_alerts_is_exported,
        the_alert_rules_pass_promtool,
        counters_of_the_card_survive_reloads_and_restarts_and_name_the_interface,
        a_damaged_file_of_counters_is_named_and_costs_no_start,
        the_daemon_says_whether_it_is_ready_and_why_not,
        a_page_of_another_site_gets_nothing_from_the_admin_listener,
        with_a_token_file_nobody_is_told_anything_without_the_token,
        an_admin_socket_is_for_its_owner,
        an_admin_address_outside_the_loopback_needs_a_token,
    ])
}

fn scene(change: impl FnOnce(Plan) -> Plan) -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        Ok(change(Plan { more: plan.more.clone() + TABLE, ..plan }))
    })
}

const GATEWAY: (&str, &str) = ("point", "gateway");

fn each_rejection_and_admission_is_counted_and_the_metrics_pass_promtool() -> Result<()> {
    let scene = scene(|plan| plan)?;
    let token = scene.token()?;
    for _ in 0..3 {
        scene.admits(Client::Raw, &Attempt::on("/chat").token(&token))?;
    }
    for _ in 0..2 {
        scene.rejects(Client::Raw, &Attempt::on("/chat"), (401, "credentials", "missing"))?;
    }
    scene.rejects(Client::Raw, &Attempt::on("/no"), (404, "handshake", "no_route"))?;
    scene.rejects(Client::Raw, &Attempt::on("/down").token(&token), (502, "upstream", "unreachable"))?;
    scene.drops(Client::Raw, &Attempt::on("/chat").from(DENIED_V4))?;

    let metrics = metrics(&scene.host)?;
    let rejected = |layer, reason| {
        sample(&metrics, "gatehouse_rejections_total", &[("layer", layer), ("reason", reason), GATEWAY])
    };
    ensure!(rejected("credentials", "missing") == 2.0, "{metrics:#?}");
    ensure!(rejected("handshake", "no_route") == 1.0 && rejected("upstream", "unreachable") == 1.0);
    let all = sample(&metrics, "gatehouse_rejections_total", &[GATEWAY]);
    ensure!(all == 4.0, "{all} were turned away at the gateway");
    let route = [("route", "/chat")];
    ensure!(sample(&metrics, "gatehouse_admissions_total", &route) == 3.0);
    let outcome =
        |outcome| sample(&metrics, "gatehouse_handshake_duration_seconds_count", &[("outcome", outcome)]);
    ensure!((outcome("admitted"), outcome("rejected")) == (3.0, 4.0), "{metrics:#?}");
    let dropped =
        sample(&metrics, "gatehouse_rejections_total", &[("point", "nic"), ("reason", "denied_range")]);
    let by_interface = sample(&metrics, "gatehouse_interface_packets_total", &[("verdict", "drop")]);
    ensure!(dropped >= 1.0 && dropped == by_interface, "{dropped} {by_interface}");
    let ending = |metrics: &[String]| sample(metrics, "gatehouse_sessions_ended_total", &[]);
    scene.daemon.wait_for("the last end", PATIENCE, |entry| entry.says("ended"))?;
    let open = sample(&metrics, "gatehouse_sessions", &route);
    ensure!(open + ending(&metrics) == 3.0, "{open} open, {} ended", ending(&metrics));

    let mut check =
        promtool()?.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // promtool reads the older text format, whose counters have `_total` in their descriptions, too.
    let counters: BTreeSet<&str> =
        metrics.iter().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let older: String = metrics
        .iter()
        .filter(|line| *line != "# EOF")
        .map(|line| {
            let mut words: Vec<&str> = line.splitn(4, ' ').collect();
            let total =
                (words[0] == "#" && counters.contains(words[2])).then(|| format!("{}_total", words[2]));
            if let Some(total) = &total {
                words[2] = total;
            }
            words.join(" ") + "\n"
        })
        .collect();
    check.stdin.take().context("no input")?.write_all(older.as_bytes())?;
    let output = check.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "promtool: {said}");
    scene.end()
}

/// The names of metrics in `text`.
fn names(text: &str) -> BTreeSet<String> {
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(|character| !word(character))
        .filter(|name| name.starts_with("gatehouse_"))
        .map(str::to_owned)
        .collect()
}

fn every_metric_of_the_dashboard_and_of_the_alerts_is_exported() -> Result<()> {
    let scene = scene(|plan| plan)?;
    let metrics = metrics(&scene.host)?;
    let mut exported = BTreeSet::new();
    for line in metrics.iter().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').context("a type without a name")?;
        let ends: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        exported.extend(ends.iter().map(|end| format!("{name}{end}")));
    }
    for file in ["grafana-dashboard.json", "alerts.yaml"] {
        let text = fs::read_to_string(shipped(file))?;
        let used = names(&text);
        ensure!(used.len() > 10, "{file} uses no metrics: {used:?}");
        let unknown: Vec<_> = used.difference(&exported).collect();
        ensure!(unknown.is_empty(), "{file} uses what is not exported: {unknown:?}\n{exported:#?}");
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(shipped("grafana-dashboard.json"))?)?;
    let shown = names(&dashboard["panels"].to_string());
    let rate = |name: &String| !name.ends_with("_sum") && !name.ends_with("_count");
    let missing: Vec<_> = exported.difference(&shown).filter(|name| rate(name)).collect();
    let known = [
        "gatehouse_policy_edits_wait",
        "gatehouse_list_packets_total",
        "gatehouse_list_changed_timestamp_seconds",
        "gatehouse_configuration_read_timestamp_seconds",
        "gatehouse_upstream_sessions",
    ];
    let missing: Vec<_> = missing.into_iter().filter(|name| !known.contains(&name.as_str())).collect();
    ensure!(missing.is_empty(), "the dashboard does not show {missing:?}");
    scene.end()
}

fn the_alert_rules_pass_promtool() -> Result<()> {
    let output = promtool()?.args(["check", "rules"]).arg(shipped("alerts.yaml")).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("rules found"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn counters_of_the_card_survive_reloads_and_restarts_and_name_the_interface() -> Result<()> {
    let mut scene = scene(|plan| {
        let state = "[state]\nfolder = \"state\"\n";
        Plan { more: plan.more.clone() + state, ..plan }
    })?;
    let counts = |scene: &Scene| -> Result<[f64; 3]> {
        let metrics = metrics(&scene.host)?;
        Ok([
            sample(&metrics, "gatehouse_list_dropped_packets_total", &[("tier", "deny")]),
            sample(&metrics, "gatehouse_packets_total", &[("verdict", "drop")]),
            sample(&metrics, "gatehouse_interface_packets_total", &[("verdict", "drop")]),
        ])
    };
    let grown = |before: [f64; 3], after: [f64; 3]| {
        ensure!(
            before.iter().zip(after).all(|(before, after)| after > *before),
            "{before:?}, then {after:?}"
        );
        Ok(())
    };
    let attempt = Attempt::on("/chat").from(DENIED_V4);
    scene.drops(Client::Raw, &attempt)?;
    let first = counts(&scene)?;
    grown([0.0; 3], first)?;
    let list = fs::read_to_string(scene.file("deny.list"))?;
    let mark = scene.daemon.mark();
    scene.edit("deny.list", &(list + "203.0.113.0/24\n"))?;
    scene.daemon.wait_after(mark, "the edit", PATIENCE, |entry| entry.line.contains("in force"))?;
    scene.drops(Client::Raw, &attempt)?;
    let second = counts(&scene)?;
    grown(first, second)?;
    scene.daemon.stop()?;
    scene.daemon = Daemon::start(&scene.host, &scene.config())?;
    let third = counts(&scene)?;
    ensure!(third.iter().zip(second).all(|(after, before)| *after >= before), "{second:?}, then {third:?}");
    scene.drops(Client::Raw, &attempt)?;
    grown(third, counts(&scene)?)?;
    scene.end()
}

fn a_damaged_file_of_counters_is_named_and_costs_no_start() -> Result<()> {
    let mut scene = scene(|plan| Plan { more: plan.more.clone() + "[state]\nfolder = \"state\"\n", ..plan })?;
    scene.drops(Client::Raw, &Attempt::on("/chat").from(DENIED_V4))?;
    scene.daemon.stop()?;
    let file = scene.file("state/counters.json");
    ensure!(fs::read_to_string(&file)?.contains("deny.list"));
    fs::write(&file, "{ damaged")?;
    scene.daemon = Daemon::start(&scene.host, &scene.config())?;
    ensure!(scene.daemon.log().iter().any(|entry| entry.line.contains("counters.json cannot be read")));
    ensure!(scene.daemon.status()?["packets"]["dropped"] == 0);
    scene.end()
}

fn the_daemon_says_whether_it_is_ready_and_why_not() -> Result<()> {
    let scene = scene(|plan| plan)?;
    let healthy = get(&scene.host, "/healthz")?;
    ensure!(healthy.status == 200 && healthy.body == "ok\n", "{healthy:?}");
    let ready = get(&scene.host, "/readyz")?;
    ensure!(ready.status == 200 && ready.body.contains("\"ready\":true"), "{ready:?}");
    // Somebody else detaches the program; the daemon is kept from attaching it again by the lack of the
    // interface.
    scene.host.unlink()?;
    scene
        .daemon
        .wait_for("the loss of the interface", PATIENCE, |entry| entry.line.contains("NOT guarded"))?;
    let unready = get(&scene.host, "/readyz")?;
    ensure!(unready.status == 503 && unready.body.contains("is not guarded"), "{unready:?}");
    ensure!(get(&scene.host, "/healthz")?.status == 200);
    scene.end()
}

fn a_page_of_another_site_gets_nothing_from_the_admin_listener() -> Result<()> {
    let scene = scene(|plan| plan)?;
    let rebound = ask(&scene.host, "GET", "/api/overview", &[("Host", "evil.example:9464")], "")?;
    ensure!(rebound.status == 421 && !rebound.body.contains('{'), "{rebound:?}");
    let query = format!("{{\"address\":\"{CLIENT_V4}\"}}");
    let json = ("Content-Type", "application/json");
    let own = ("Gatehouse-Admin", "1");
    let asked = ask(&scene.host, "POST", "/api/explain", &[json, own], &query)?;
    ensure!(asked.status == 200 && asked.body.contains("firewall"), "{asked:?}");
    let simple = ask(&scene.host, "POST", "/api/explain", &[("Content-Type", "text/plain"), own], &query)?;
    let foreign =
        ask(&scene.host, "POST", "/api/explain", &[json, own, ("Origin", "https://evil.example")], &query)?;
    ensure!((simple.status, foreign.status) == (403, 403), "{simple:?} {foreign:?}");
    let large = ask(&scene.host, "POST", "/api/explain", &[json, own], &"x".repeat(70_000))?;
    ensure!(large.status == 413, "{large:?}");
    let page = get(&scene.host, "/gatehouse.js")?;
    ensure!(page.status == 200 && page.body.contains("Gatehouse"), "{}", page.head);
    for header in [
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
    ] {
        ensure!(page.head.to_ascii_lowercase().contains(header), "{header} is missing: {}", page.head);
    }
    ensure!(ask(&scene.host, "DELETE", "/api/overview", &[], "")?.status == 405);
    ensure!(get(&scene.host, "/nothing")?.status == 404);
    scene.end()
}

fn with_a_token_file_nobody_is_told_anything_without_the_token() -> Result<()> {
    const TOKEN: &str = "only-for-the-operators-of-the-gate";
    let scene = scene(|plan| {
        let more = plan.more.clone() + "token_file = \"admin.token\"\n";
        Plan { more, ..plan }.file("admin.token", format!("{TOKEN}\n"))
    })?;
    for path in ["/metrics", "/api/overview"] {
        let refused = get(&scene.host, path)?;
        ensure!(
            refused.status == 401 && refused.head.to_lowercase().contains("www-authenticate: bearer"),
            "{refused:?}"
        );
        let bearer = format!("Bearer {TOKEN}");
        let told = ask(&scene.host, "GET", path, &[("Authorization", &bearer)], "")?;
        ensure!(told.status == 200, "{}", told.head);
    }
    ensure!(get(&scene.host, "/healthz")?.status == 200);
    let log = scene.daemon.log();
    ensure!(!log.iter().any(|entry| entry.line.contains(TOKEN)), "the token is in the log");
    scene.end()
}

fn an_admin_socket_is_for_its_owner() -> Result<()> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        Ok(Plan { more: plan.more.clone() + "[admin]\nlisten = \"unix:admin.sock\"\n", ..plan })
    })?;
    let socket = scene.file("admin.sock");
    ensure!(fs::metadata(&socket)?.permissions().mode() & 0o777 == 0o600);
    let mut stream = std::os::unix::net::UnixStream::connect(&socket)?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    scene.end()?;
    ensure!(!socket.exists(), "the socket is left behind");
    Ok(())
}

fn an_admin_address_outside_the_loopback_needs_a_token() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("gatehouse.toml");
    fs::write(&file, "[admin]\nlisten = \"192.0.2.1:9464\"\n")?;
    let output = gatehouse_tests::daemon::verb("check", &file)?.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(78), "{said}");
    ensure!(said.contains("gatehouse.toml:2:10") && said.contains("token_file"), "{said}");
    Ok(())
}
