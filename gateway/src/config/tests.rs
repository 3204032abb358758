use std::path::Path;

use jsonwebtoken::Algorithm;

use super::*;

const GOOD: &str = r#"
[[listen]]
address = "127.0.0.1:8080"

[firewall]
interfaces = ["eth0"]
ports = "listen"
deny = ["deny.d/*.list"]
never_block = ["10.99.0.0/24", "::1"]

[[issuer]]
name = "main"
issuer = "https://idp.example"
audience = ["https://gw.example"]
keys = "jwks.json"
algorithms = ["RS256", "ES256", "EdDSA"]

[[route]]
path = "/chat"
upstream = "ws://127.0.0.1:9000"
issuers = ["main"]
scopes = { any = ["chat:read", "chat:admin"] }
"#;

fn good() -> Config {
    parse(Path::new("/etc/gatehouse/gatehouse.toml"), GOOD).expect("valid").0
}

/// The diagnostics of `GOOD` with `from` replaced by `to`.
fn faults(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "the test replaces nothing");
    match parse(Path::new("g.toml"), &GOOD.replacen(from, to, 1)) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(ToString::to_string).collect(),
    }
}

fn assert_fault(from: &str, to: &str, expected: &str) {
    let found = faults(from, to);
    assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected}: {found:#?}");
}

#[test]
fn a_list_is_observed_where_that_can_say_something() {
    let with = |deny: &str| GOOD.replacen("\"deny.d/*.list\"", deny, 1);
    let observed = with("{ list = \"new.list\", observe = true }, { list = \"a.list\", observe = false }");
    let (config, warnings) = parse(Path::new("g.toml"), &observed).expect("valid");
    let deny = config.firewall.expect("there is one").deny;
    assert_eq!(deny.iter().map(|list| list.observe).collect::<Vec<_>>(), [true, false]);
    assert_eq!(warnings, []);

    let dropping = observed.replacen("[firewall]", "[firewall]\ndefault = \"drop\"", 1);
    let (_, warnings) = parse(Path::new("g.toml"), &dropping).expect("valid");
    assert!(warnings[0].to_string().starts_with("g.toml:9:18: "), "{warnings:?}");
    assert_eq!(warnings.len(), 1);
    assert_fault(
        "deny = [\"deny.d/*.list\"]",
        "allow = [{ list = \"a.list\", observe = true }]",
        "g.toml:8:39: an allow list drops nothing",
    );
}

#[test]
fn edits_wait_only_where_the_configuration_says_so() {
    assert_eq!(good().firewall.expect("there is one").reload, Reload::Auto);
    let manual = GOOD.replacen("[firewall]", "[firewall]\nreload = \"manual\"", 1);
    let config = parse(Path::new("g.toml"), &manual).expect("valid").0;
    assert_eq!(config.firewall.expect("there is one").reload, Reload::Manual);
    assert_fault("[firewall]", "[firewall]\nreload = \"later\"", "g.toml:6:10: `later` is no way to reload");
}

#[test]
fn a_good_file_becomes_the_model() {
    let config = good();
    let firewall = config.firewall.expect("there is one");
    assert_eq!(firewall.ports, Ports::Only(vec![8080]));
    assert_eq!(firewall.mode, Mode::Auto);
    assert_eq!(firewall.protect, Protect::ALL);
    let folder = "/etc/gatehouse/deny.d/".into();
    let glob = "/etc/gatehouse/deny.d/*.list".to_owned();
    assert_eq!(firewall.deny[0].files, ListFiles::Matching { glob, folder });
    assert_eq!((firewall.deny[0].line, firewall.deny[0].column), (8, 9));
    assert_eq!(firewall.never_block[1].0.to_string(), "::1/128");
    assert_eq!(config.issuers[0].keys, KeySource::JwkSet("/etc/gatehouse/jwks.json".into()));
    assert_eq!(config.issuers[0].algorithms, [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]);
    assert_eq!(config.issuers[0].typ.as_deref(), Some(&["at+jwt".to_owned()][..]));
    assert_eq!(
        config.routes[0].scopes,
        ScopeRule { any: vec!["chat:read".into(), "chat:admin".into()], ..ScopeRule::default() }
    );
    let place = Place::Tcp { host: "127.0.0.1".to_owned(), port: 9000 };
    assert_eq!(config.routes[0].upstreams, [Upstream { place, tls: None, path: None }]);
}

#[test]
fn a_list_can_be_a_table() {
    let config = |list: &str| parse(Path::new("/etc/g.toml"), &DENY.replace("LIST", list)).expect("valid").0;
    const DENY: &str = "[firewall]\nmode = \"off\"\ndeny = [LIST]\n";
    let files = |list: &str| config(list).firewall.expect("there is one").deny[0].files.clone();
    assert_eq!(files("{ list = \"deny.list\" }"), files("\"deny.list\""));
}

#[test]
fn a_list_changes_within_its_own_bounds_or_within_those_of_all() {
    let text = "[firewall]\nmode = \"off\"\nmax_shrink = 10\nchange_freely_below = 0\n\
                deny = [\"a\", { list = \"b\", max_shrink = 100, max_growth = 7 }]\n";
    let deny = parse(Path::new("/etc/g.toml"), text).expect("valid").0.firewall.expect("there is one").deny;
    assert_eq!(deny[0].bounds, Bounds { max_shrink: 10, max_growth: 400, change_freely_below: 0 });
    assert_eq!(deny[1].bounds, Bounds { max_shrink: 100, max_growth: 7, change_freely_below: 0 });
    assert_fault("ports =", "max_shrink = 101\nports =", "g.toml:7:14: a list cannot lose more than all");
    assert_fault("\"deny.d/*.list\"", "{ list = \"a\", max_shrink = 200 }", "g.toml:8:36: a list cannot");
}

#[test]
fn a_firewall_is_pinned_unless_told_otherwise() {
    let pins = |line: &str| {
        let text = format!("[firewall]\nmode = \"off\"\n{line}\n");
        parse(Path::new("/etc/g.toml"), &text).expect("valid").0.firewall.expect("there is one").pins
    };
    assert_eq!(pins(""), Some("/sys/fs/bpf/gatehouse".into()));
    assert_eq!(pins("pins = \"/sys/fs/bpf/other\""), Some("/sys/fs/bpf/other".into()));
    assert_eq!(pins("pins = \"none\""), None);
}

#[test]
fn an_empty_file_is_valid_and_does_nothing() {
    let config = parse(Path::new("g.toml"), "").expect("valid").0;
    assert!(config.listen.is_empty() && config.firewall.is_none() && config.routes.is_empty());
}

#[test]
fn faults_name_file_line_column_and_remedy() {
    assert_fault("\"eth0\"]", "\"eth0\", \"eth0\"]", "g.toml:6:23: the interface `eth0` is there twice");
    assert_fault("ports = \"listen\"", "ports = [0]", "g.toml:7:9: a port is a number from 1 to 65535");
    assert_fault("ports = \"listen\"", "ports = []", "g.toml:7:9: no port is named");
    assert_fault("ports = \"listen\"", "pins = \"\"", "g.toml:7:8: pins is empty: name a folder, or");
    assert_fault("ports = \"listen\"", "pins = \"/a/b.c\"", "g.toml:7:8: the name of the folder for pins");
    assert_fault("ports =", "prots =", "g.toml:7:1: unknown field `prots`");
    assert_fault("10.99.0.0/24", "10.99.0/24", "g.toml:9:16: `10.99.0/24` is not an address or a prefix");
    assert_fault("127.0.0.1:8080", "127.0.0.1", "g.toml:3:11: `127.0.0.1` is not an address with a port");
    assert_fault("[\"deny.d/*.list\"]", "[{ list = \"[\" }]", "g.toml:8:18: `[` is not a valid glob");
    assert_fault("[\"deny.d/*.list\"]", "[{ lst = \"x\" }]", "g.toml:8:11: unknown field `lst`");
    assert_fault("[\"deny.d/*.list\"]", "[7]", "g.toml:8:9: invalid type: integer `7`, expected a list");
    assert_fault("deny.d/*.list", "https://x.example/l", "g.toml:8:9: a list from a URL is kept on disk");
    assert_fault("\"jwks.json\"", "\"jwks\"", "g.toml:15:8: the kind of `jwks` is not clear");
    assert_fault(
        "issuers = [\"main\"]",
        "issuers = [\"mian\"]",
        "g.toml:21:12: there is no valid [[issuer]]",
    );
    assert_fault("issuers = [\"main\"]", "issuers = []", "g.toml:21:11: issuers is empty");
    assert_fault("\"/chat\"", "\"/chat/../admin\"", "g.toml:19:8: a path has no empty, `.` or `..`");
    assert_fault("\"/chat\"", "\"/ch%61t\"", "g.toml:19:8: a path has no query, no percent-encoding");
    assert_fault(
        "ws://127.0.0.1:9000",
        "http://127.0.0.1",
        "g.toml:20:12: `http://127.0.0.1` is not an upstream",
    );
    assert_fault(
        "{ any = [\"chat:read\", \"chat:admin\"] }",
        "{ any = [] }",
        "g.toml:22:10: scopes is a list",
    );
    assert_fault(
        "deny =",
        "protect = [\"all\"]\ndeny =",
        "g.toml:8:12: `all` is nothing that can be protected",
    );
    assert_fault("[[listen]]", "[[listen", "g.toml:2:");
}

#[test]
fn algorithms_that_invite_key_confusion_are_faults() {
    assert_fault("\"RS256\"", "\"none\"", "g.toml:16:15: `none` is not an algorithm");
    assert_fault("\"RS256\"", "\"HS256\"", "g.toml:16:14: HMAC and public-key algorithms stand together");
    assert_fault(
        "keys = \"jwks.json\"",
        "secret = \"s\"",
        "g.toml:16:14: these algorithms do not fit the key",
    );
    assert_fault(
        "keys = \"jwks.json\"",
        "secret = \"s\"\nkeys = \"j.json\"",
        "g.toml:12:8: an issuer needs exactly one of",
    );
}

#[test]
fn an_audience_must_be_named() {
    assert_fault("[\"https://gw.example\"]", "[]", "g.toml:14:12: audience is empty");
}

#[test]
fn limits_that_no_client_could_meet_and_no_host_could_hold_are_faults() {
    let fault = |limit: &str| {
        let found = parse(Path::new("g.toml"), &format!("[limits]\n{limit}\n")).expect_err("a fault");
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    for limit in ["handshake_timeout = \"0s\"", "upstream_timeout = \"0ms\"", "issuer_timeout = \"0s\""] {
        let fault = fault(limit);
        assert!(fault.starts_with("g.toml:2:") && fault.contains("nobody can be that fast"), "{fault}");
    }
    for (limit, range) in [
        ("request_headers = 9223372036854775807", "8 to 4096"),
        ("request_headers = 7", "8 to 4096"),
        ("request_body = 1048577", "64 to 1048576"),
        ("audit_queue = 9223372036854775807", "16 to 1048576"),
        ("verified_tokens = 1048577", "0 to 1048576"),
        ("sessions = 0", "1 to 16777216"),
        ("issuer_waiters = 0", "1 to 1048576"),
        ("issuer_answer = 9", "1024 to 67108864"),
    ] {
        let fault = fault(limit);
        assert!(fault.starts_with("g.toml:2:") && fault.contains(range), "{fault}");
    }
    // To cut sessions at once is a choice.
    assert!(parse(Path::new("g.toml"), "[limits]\ndrain_timeout = \"0s\"\n").is_ok());
}

#[test]
fn every_fault_is_found_in_one_go() {
    let text = GOOD.replace("eth0", "a/b").replace("127.0.0.1:8080", "x").replace("RS256", "RS1");
    let found = parse(Path::new("g.toml"), &text).expect_err("three faults");
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn a_file_that_is_not_utf_8_is_refused_with_the_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("g.toml");
    std::fs::write(&file, b"[echo]\nlisten = \"\xff\"").expect("written");
    let found = load(&file).expect_err("not UTF-8");
    assert_eq!((found[0].line, found[0].column), (2, 11));
}

#[test]
fn a_folder_with_wildcards_in_its_name_makes_no_list_a_glob() {
    let files = |list: &str| {
        let text = format!("[firewall]\nmode = \"off\"\ndeny = [\"{list}\"]\n");
        let config = parse(Path::new("/srv/a[b]*/g.toml"), &text).expect("valid").0;
        config.firewall.expect("there is one").deny[0].files.clone()
    };
    assert_eq!(files("deny.list"), ListFiles::One("/srv/a[b]*/deny.list".into()));
    let ListFiles::Matching { glob, folder } = files("*.list") else { panic!("a glob") };
    assert_eq!(folder, Path::new("/srv/a[b]*/"));
    let glob = glob::Pattern::new(&glob).expect("valid");
    assert!(glob.matches("/srv/a[b]*/x.list") && !glob.matches("/srv/ab/x.list"));
}

#[test]
fn rules_over_claims_and_scopes_are_read_and_their_faults_have_a_place() {
    let issuer = |more: &str| {
        format!(
            "[[issuer]]\nname = \"main\"\nissuer = \"i\"\naudience = [\"a\"]\nkeys = \"k.json\"\n{more}\n"
        )
    };
    let route = |more: &str| {
        format!(
            "{}[[listen]]\naddress = \"127.0.0.1:1\"\n[[route]]\npath = \"/a\"\nupstream = \"ws://h:1\"\nissuers = [\"main\"]\n{more}\n",
            issuer("")
        )
    };
    let file = Path::new("g.toml");
    let (config, _) = parse(
        file,
        &route(
            "scopes = { all = [\"a\"], any = [\"b\", \"c\"], none = [\"d\"] }\nmax_age = \"1h\"\n\
                claims = { all = { \"a.b\" = [1, true], c = \"x\" }, none = { d = false } }",
        ),
    )
    .unwrap();
    let read = &config.routes[0];
    assert_eq!((read.scopes.any.len(), read.scopes.none.len(), read.claims.all.len()), (2, 1, 2));
    assert_eq!(read.claims.all[0].claim, ClaimPath(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(read.claims.all[0].values, [ClaimValue::Number(1), ClaimValue::Flag(true)]);
    let (config, _) = parse(
        file,
        &issuer("scope_claim = [\"https://a.b/c\"]\nprofile = \"jwt\"\nrequire = { t = \"x\" }\nmax_lifetime = \"1h\""),
    )
    .unwrap();
    let read = &config.issuers[0];
    assert_eq!(read.scope_claim, Some(ClaimPath(vec!["https://a.b/c".to_owned()])));
    assert!(read.typ.is_none() && read.profile == Profile::Jwt && read.require.len() == 1);

    for (text, place) in [
        (route("scopes = { any = [] }"), "g.toml:13:10: "),
        (route("scopes = { some = [\"a\"] }"), "g.toml:13:10: "),
        (route("claims = {}"), "g.toml:13:10: "),
        (route("claims = { all = { a = 1.5 } }"), "g.toml:13:10: "),
        (route("claims = { all = { a = [] } }"), "g.toml:13:10: "),
        (route("claims = { none = { \"a..b\" = 1 } }"), "g.toml:13:10: "),
        (route("max_age = \"0s\""), "g.toml:13:11: "),
        (issuer("profile = \"oidc\""), "g.toml:6:11: "),
        (issuer("require = \"tenant\""), "g.toml:6:11: "),
        (issuer("scope_claim = \"a..b\""), "g.toml:6:15: "),
        (issuer("max_lifetime = \"soon\""), "g.toml:6:16: "),
    ] {
        let faults = parse(file, &text).unwrap_err();
        assert!(faults.iter().any(|fault| fault.to_string().starts_with(place)), "{text}: {faults:?}");
    }
}
