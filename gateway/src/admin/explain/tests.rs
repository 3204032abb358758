use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use super::*;
use crate::auth::sign::{Claims, sign};
use crate::config::Config;
use crate::service;

const TEXT: &str = r#"
[[listen]]
address = "127.0.0.1:0"

[firewall]
mode = "off"
deny = ["deny.list"]
never_block = ["192.0.2.8"]

[[issuer]]
name = "main"
issuer = "https://idp.example"
audience = ["https://gw.example"]
signing_key = "key.pem"
leeway = "0s"

[[route]]
path = "/chat"
upstream = "ws://127.0.0.1:9"
issuers = ["main"]
scopes = ["chat:read"]
origins = ["https://app.example"]
"#;

pub(super) struct Site {
    pub(super) folder: tempfile::TempDir,
    config: Config,
}

impl Site {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("deny.list"), "# sample\n192.0.2.0/24\n").expect("written");
        let config = crate::config::parse(&folder.path().join("g.toml"), TEXT).expect("valid").0;
        crate::auth::sign::SigningKey::create(&folder.path().join("key.pem")).expect("made");
        Self { folder, config }
    }

    pub(super) fn key(&self) -> std::path::PathBuf {
        self.folder.path().join("key.pem")
    }

    pub(super) fn explain(&self, query: &Query) -> Report {
        service::explain(&self.config, query).expect("a valid configuration")
    }

    fn rejection(&self, query: &Query) -> String {
        let verdict = self.explain(query).rejection.expect("rejected");
        format!("{}/{}", verdict.layer, verdict.reason)
    }
}

pub(super) fn token(key: &Path, scopes: &[&str], age: Duration) -> String {
    let claims = Claims {
        issuer: "https://idp.example".to_owned(),
        subject: "alice".to_owned(),
        audience: vec!["https://gw.example".to_owned()],
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        ttl: Duration::from_secs(60),
        more: Map::new(),
    };
    sign(key, &claims, SystemTime::now() - age).expect("signed")
}

#[test]
fn a_denied_address_is_explained_by_list_file_and_line() {
    let site = Site::new();
    let query = Query { address: "192.0.2.7".parse().ok(), ..Query::default() };
    let verdict = site.explain(&query).rejection.expect("rejected");
    let rule = verdict.rule.expect("a rule");
    assert_eq!((verdict.layer.as_str(), verdict.reason.as_str()), ("firewall", "denied_range"));
    assert_eq!((rule.prefix.as_deref(), rule.line), (Some("192.0.2.0/24"), 2));
    assert_eq!(rule.list, Some(site.folder.path().join("deny.list").to_string_lossy().into_owned()));
    let never = Query { address: "192.0.2.8".parse().ok(), ..Query::default() };
    assert!(site.explain(&never).rejection.is_none());
}

#[test]
fn each_layer_is_explained_by_its_own_reason() {
    let site = Site::new();
    let path = Some("/chat".to_owned());
    let ask = |token: String| Query { path: path.clone(), token: Some(token), ..Query::default() };
    let good = token(&site.key(), &["chat:read"], Duration::ZERO);
    assert!(site.explain(&ask(good.clone())).rejection.is_none());
    assert!(
        site.explain(&Query { path: Some("/chat?room=1".to_owned()), ..ask(good.clone()) })
            .rejection
            .is_none()
    );
    assert_eq!(
        site.rejection(&Query { path: Some("/no".to_owned()), ..ask(good.clone()) }),
        "handshake/no_route"
    );
    let origin = Some("https://evil.example".to_owned());
    assert_eq!(site.rejection(&Query { origin, ..ask(good) }), "handshake/origin");
    assert_eq!(site.rejection(&ask(String::new())), "credentials/missing");
    let report = site.explain(&ask(token(&site.key(), &["chat:read"], Duration::ZERO)));
    let says =
        |step: &Step| step.text.contains("takes one in the Authorization header or Sec-WebSocket-Protocol");
    assert!(report.steps.iter().any(says), "{report}");
    assert_eq!(site.rejection(&ask("garbage".to_owned())), "credentials/malformed");
    let old = token(&site.key(), &["chat:read"], Duration::from_secs(90));
    assert_eq!(site.rejection(&ask(old)), "expiry/expired");
    assert_eq!(site.rejection(&ask(token(&site.key(), &[], Duration::ZERO))), "scope/insufficient_scope");
}

#[test]
fn a_token_can_be_judged_without_a_route() {
    let site = Site::new();
    let token = Some(token(&site.key(), &[], Duration::ZERO));
    assert!(site.explain(&Query { token, ..Query::default() }).rejection.is_none());
}

#[test]
fn of_several_layers_that_reject_the_first_one_counts() {
    let site = Site::new();
    let query = Query {
        address: "192.0.2.7".parse().ok(),
        path: Some("/chat".to_owned()),
        token: Some("garbage".to_owned()),
        ..Query::default()
    };
    let report = site.explain(&query);
    assert_eq!(report.rejection.expect("rejected").layer, "firewall");
    assert_eq!(report.steps.iter().filter(|step| step.passed == Some(false)).count(), 2);
}

#[test]
fn a_query_does_not_show_its_token() {
    let query = Query { token: Some("secret".to_owned()), ..Query::default() };
    assert!(!format!("{query:?}").contains("secret"));
}

#[test]
fn an_explained_token_is_shown_without_its_signature_and_moves_no_cursor() {
    let site = Site::new();
    let claims = Claims {
        issuer: "https://idp.example".to_owned(),
        subject: "a\u{9b}2J\u{202e}\u{e4}".to_owned(),
        audience: vec!["https://gw.example".to_owned()],
        scopes: vec!["chat:read".to_owned()],
        ttl: Duration::from_secs(60),
        more: Map::new(),
    };
    let token = sign(&site.key(), &claims, SystemTime::now()).expect("signed");
    let (message, signature) = token.rsplit_once('.').expect("parts");
    let ask = |token: String| {
        let query = Query { token: Some(token), path: Some("/chat".to_owned()), ..Query::default() };
        let report = site.explain(&query);
        (report.to_string(), serde_json::to_value(&report).expect("JSON"))
    };
    for (token, verified) in [(token.clone(), false), (format!("{message}.{}", "A".repeat(86)), false)] {
        let (text, json) = ask(token);
        assert_eq!(json["token"]["verified"], verified || text.contains("(verified)"), "{text}");
        assert_eq!(json["token"]["claims"]["iss"], "https://idp.example");
        assert!(!text.contains(signature) && !json.to_string().contains(signature), "{text}");
        assert!(text.contains("a\\u009b2J\\u202e\u{e4}") && !text.contains(['\u{9b}', '\u{202e}']), "{text}");
        assert!(
            text.contains("not reached"),
            "a control character in sub, or a bad signature, ends it: {text}"
        );
    }
    let (_, json) = ask(format!("{message}.{}", "A".repeat(86)));
    let steps = json["steps"].as_array().expect("steps");
    let of = |check: &str| steps.iter().find(|step| step["check"] == check).map(|step| &step["passed"]);
    assert_eq!(of("key"), Some(&true.into()));
    assert_eq!(of("signature"), Some(&false.into()));
    assert_eq!(of("expiry"), Some(&Value::Null));
    assert_eq!(json["token"]["verified"], false);
}

#[test]
fn an_expired_token_is_judged_further_as_if_it_were_renewed() {
    let site = Site::new();
    let ask = |scopes: &[&str]| {
        let token = Some(token(&site.key(), scopes, Duration::from_secs(90)));
        site.explain(&Query { token, path: Some("/chat".to_owned()), ..Query::default() })
    };
    let report = ask(&[]);
    assert_eq!(report.rejection.as_ref().map(|verdict| verdict.reason.as_str()), Some("expired"));
    assert_eq!(report.later().collect::<Vec<_>>(), ["scope"], "{report}");
    let report = ask(&["chat:read"]);
    assert_eq!(report.later().count(), 0, "{report}");
    let scopes = report.steps.iter().find(|step| step.check.as_deref() == Some("scopes"));
    assert!(
        scopes.is_some_and(|step| step.passed == Some(true) && step.text.contains("as before it expired"))
    );
    assert_eq!(report.identity, Some(("main".to_owned(), "alice".to_owned())));
}

#[test]
fn the_layers_after_a_page_that_may_not_connect_are_judged() {
    let site = Site::new();
    let report = site.explain(&Query {
        path: Some("/chat".to_owned()),
        origin: Some("https://evil.example".to_owned()),
        token: Some(token(&site.key(), &[], Duration::ZERO)),
        ..Query::default()
    });
    assert_eq!(report.rejection.as_ref().map(|verdict| verdict.reason.as_str()), Some("origin"));
    assert_eq!(report.later().collect::<Vec<_>>(), ["scope"], "{report}");
}
