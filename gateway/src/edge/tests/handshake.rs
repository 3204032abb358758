//! What is a valid opening handshake, and what is not.

use std::time::Duration;

use proptest::prelude::*;

use super::scene::{KEY, Scene, raw, request};
use crate::config::Limits;
use crate::edge::head::Head;
use crate::edge::opening::Opening;
use crate::rejection::{Layer, Reason};

fn judge(request: &str) -> Result<Opening, Reason> {
    let head = Head::parse(request.as_bytes().to_vec()).expect("a whole head");
    Opening::judge(head, 100).map_err(|rejection| rejection.reason)
}

fn without(name: &str) -> String {
    let request = request("/chat", &[]);
    let lines = request.split_inclusive("\r\n").filter(|line| !line.starts_with(name));
    let rest: String = lines.collect();
    assert_ne!(rest, request);
    rest
}

fn with(line: &str) -> Result<Opening, Reason> {
    judge(&request("/chat", &[line]))
}

#[test]
fn a_valid_handshake_is_read_in_full() {
    let text = request(
        "/chat?room=1&x=%2F",
        &["Sec-WebSocket-Protocol: v2, v1", "Sec-WebSocket-Extensions: permessage-deflate; x=1, Foo"],
    );
    let mut opening = judge(&format!("{text}early")).unwrap();
    assert_eq!((opening.path(), opening.query()), ("/chat", Some("room=1&x=%2F")));
    assert_eq!((opening.host(), opening.key(), opening.origin()), ("gate.test", KEY, None));
    assert_eq!(opening.protocols(), ["v2", "v1"]);
    assert_eq!(opening.extensions(), ["permessage-deflate", "foo"]);
    assert_eq!(opening.take_early(), b"early");
}

#[test]
fn a_request_without_the_upgrade_is_not_a_websocket() {
    assert_eq!(judge(&without("Upgrade:")).unwrap_err(), Reason::HandshakeNotWebsocket);
    assert_eq!(judge(&without("Connection:")).unwrap_err(), Reason::HandshakeNotWebsocket);
    for (from, to) in [("Upgrade: WebSocket", "Upgrade: h2c"), ("keep-alive, Upgrade", "close")] {
        let request = request("/chat", &[]).replace(from, to);
        assert_eq!(judge(&request).unwrap_err(), Reason::HandshakeNotWebsocket, "{request}");
    }
}

#[test]
fn only_version_13_once_is_supported() {
    assert_eq!(judge(&without("Sec-WebSocket-Version:")).unwrap_err(), Reason::HandshakeBadVersion);
    for version in ["12", "013", "13, 8", ""] {
        let request = request("/chat", &[]).replace("Version: 13", &format!("Version: {version}"));
        assert_eq!(judge(&request).unwrap_err(), Reason::HandshakeBadVersion, "{version}");
    }
    assert_eq!(with("Sec-WebSocket-Version: 13").unwrap_err(), Reason::HandshakeBadVersion);
}

#[test]
fn only_one_key_of_16_bytes_is_a_key() {
    assert_eq!(judge(&without("Sec-WebSocket-Key:")).unwrap_err(), Reason::HandshakeBadKey);
    assert_eq!(with(&format!("Sec-WebSocket-Key: {KEY}")).unwrap_err(), Reason::HandshakeBadKey);
    for key in ["", "AAAA", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub25jZQ=!"]
    {
        let request = request("/chat", &[]).replace(KEY, key);
        assert_eq!(judge(&request).unwrap_err(), Reason::HandshakeBadKey, "{key}");
    }
}

#[test]
fn only_get_opens_a_websocket() {
    for method in ["POST", "HEAD", "get", "CONNECT"] {
        let request = request("/chat", &[]).replacen("GET", method, 1);
        assert_eq!(judge(&request).unwrap_err(), Reason::HandshakeMethod, "{method}");
    }
}

#[test]
fn a_handshake_with_a_body_is_refused_however_the_body_is_announced() {
    for line in [
        "Content-Length: 5",
        "Content-Length: 00",
        "Content-Length: +0",
        "Content-Length: 0, 5",
        "Content-Length: nothing",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "transfer-encoding:\tchunked",
    ] {
        assert_eq!(with(line).unwrap_err(), Reason::HandshakeBody, "{line}");
    }
    assert!(with("Content-Length: 0").is_ok());
}

#[test]
fn what_two_parsers_could_read_in_two_ways_is_malformed() {
    for line in [
        "Host: evil.test",
        "Upgrade: h2c",
        "Origin: https://a.test\r\nOrigin: https://b.test",
        "X-Folded: a\r\n b",
        "X-Space : a",
        "X-Nul: a\0b",
        "X-Bare: a\rb",
        "X Name: a",
        ": a",
        "Sec-WebSocket-Protocol: chat room",
    ] {
        assert_eq!(with(line).unwrap_err(), Reason::HandshakeMalformed, "{line:?}");
    }
}

#[test]
fn the_request_line_is_http_1_1_with_one_target() {
    for first in [
        "GET /chat HTTP/1.0",
        "GET /chat HTTP/2.0",
        "GET /chat",
        "GET  /chat HTTP/1.1",
        "GET /chat\tHTTP/1.1",
        "GET /chat#part HTTP/1.1",
        "GET chat HTTP/1.1",
        "GET * HTTP/1.1",
        "GET gate.test:80 HTTP/1.1",
        "GET /ch\u{e4}t HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        let request = request("/chat", &[]).replacen("GET /chat HTTP/1.1", first, 1);
        assert_eq!(judge(&request).unwrap_err(), Reason::HandshakeMalformed, "{first}");
    }
}

#[test]
fn a_host_is_there_and_holds_nothing_but_a_host() {
    assert_eq!(judge(&without("Host:")).unwrap_err(), Reason::HandshakeMalformed);
    for host in ["", "a b", "a,b", "user@gate.test", "gate.test/x", "gate\"test"] {
        let request = request("/chat", &[]).replace("Host: gate.test", &format!("Host: {host}"));
        assert_eq!(judge(&request).unwrap_err(), Reason::HandshakeMalformed, "{host}");
    }
    let request = request("/chat", &[]).replace("Host: gate.test", "Host: [2001:db8::1]:8080");
    assert_eq!(judge(&request).unwrap().host(), "[2001:db8::1]:8080");
}

#[test]
fn a_target_that_is_a_url_names_the_same_host_as_the_header() {
    for (target, path) in
        [("http://gate.test/chat", "/chat"), ("WS://GATE.test", "/"), ("http://gate.test?a=/b", "/")]
    {
        assert_eq!(judge(&request(target, &[])).unwrap().path(), path, "{target}");
    }
    for target in ["http://evil.test/chat", "http://gate.test@evil.test/chat", "ftp://gate.test/chat"] {
        assert_eq!(judge(&request(target, &[])).unwrap_err(), Reason::HandshakeMalformed, "{target}");
    }
}

#[test]
fn of_several_faults_the_first_in_the_registry_is_named() {
    let faults = ["Content-Length: 5", "Sec-WebSocket-Version: 8"];
    assert_eq!(judge(&request("/chat", &faults)).unwrap_err(), Reason::HandshakeBadVersion);
    let all = raw("POST / HTTP/1.1", &["Host: gate.test", "Content-Length: 5"]);
    assert_eq!(judge(&all).unwrap_err(), Reason::HandshakeNotWebsocket);
}

#[test]
fn the_number_of_headers_is_limited() {
    let many: Vec<String> = (0..95).map(|number| format!("X-{number}: a")).collect();
    let lines: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(judge(&request("/chat", &lines)).is_ok());
    let more = [&lines[..], &["X-More: a"]].concat();
    assert_eq!(judge(&request("/chat", &more)).unwrap_err(), Reason::HandshakeTooLarge);
}

#[test]
fn an_opening_prints_neither_its_query_nor_its_headers() {
    let text = request("/chat?ticket=SECRET", &["Authorization: Bearer SECRET", "Cookie: a=SECRET"]);
    assert!(!format!("{:?}", judge(&text).unwrap()).contains("SECRET"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
        if let Some(head) = Head::parse(bytes) {
            let _ = Opening::judge(head, 8);
        }
    }

    #[test]
    fn a_handshake_with_any_damage_is_judged_by_the_layer_handshake_or_read(
        at in 0_usize..200, bytes in proptest::collection::vec(any::<u8>(), 0..6), cut in 0_usize..4
    ) {
        let mut text = request("/chat?a=b", &["Origin: https://a.test"]).into_bytes();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, bytes);
        if let Some(head) = Head::parse(text) {
            match Opening::judge(head, 16) {
                Err(rejection) => prop_assert_eq!(rejection.reason.layer(), Layer::Handshake),
                // Whatever is sent on cannot break a line.
                Ok(opening) => {
                    let sent = [opening.path(), opening.query().unwrap_or(""), opening.host()].concat();
                    prop_assert!(sent.bytes().all(|byte| byte.is_ascii_graphic()));
                    for (name, value) in opening.headers() {
                        prop_assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
                        prop_assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn every_fault_is_told_on_the_wire_and_in_the_trail() {
    let mut scene = Scene::new().await;
    let (answer, _) =
        scene.rejects("GET /chat HTTP/1.1\r\nHost: a\r\n\r\n", 426, "handshake/not_websocket").await;
    assert_eq!(answer.header("Upgrade"), Some("websocket"));
    assert_eq!(answer.header("Connection"), Some("Upgrade, close"));
    let old = request("/chat", &[]).replace("Version: 13", "Version: 8");
    let (answer, _) = scene.rejects(&old, 426, "handshake/bad_version").await;
    assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"));
    let post = request("/chat", &[]).replacen("GET", "POST", 1);
    let (answer, _) = scene.rejects(&post, 405, "handshake/method").await;
    assert_eq!(answer.header("Allow"), Some("GET"));
    scene.rejects(&request("/chat", &["Content-Length: 1"]), 400, "handshake/body").await;
    scene.rejects(&request("/chat", &[]).replace(KEY, "x"), 400, "handshake/bad_key").await;
    scene.rejects("GET /chat HTTP/1.1\nHost: a\n\n", 400, "handshake/malformed").await;
    assert!(scene.upstream_is_untouched());
}

#[tokio::test]
async fn a_path_is_compared_as_it_was_sent() {
    let mut scene = Scene::new().await;
    for path in ["/", "/chat/", "//chat", "/./chat", "/x/../chat", "/%63hat", "/chat%2f", "/CHAT", "/chat;a"]
    {
        let (_, rejection) = scene.rejects(&scene.good(path, &[]), 404, "handshake/no_route").await;
        assert!(rejection.note.unwrap().contains(path), "the operator sees the path");
    }
    let (answer, rejection) =
        scene.rejects(&scene.good("/x?ticket=SECRET", &[]), 404, "handshake/no_route").await;
    assert!(!format!("{answer:?}{rejection:?}").contains("SECRET"));
}

#[tokio::test]
async fn only_pages_of_the_listed_origins_connect() {
    let mut scene = Scene::new().await;
    for origin in ["https://evil.test", "null", "https://app.test.evil.test", "http://app.test"] {
        let request = scene.good("/app", &[&format!("Origin: {origin}")]);
        scene.rejects(&request, 403, "handshake/origin").await;
    }
    // Not from a page; from a listed one; a route without a list.
    let (path, other) = ("Origin: https://APP.test", "Origin: https://evil.test");
    let mut open = Vec::new();
    for request in [scene.good("/app", &[]), scene.good("/app", &[path]), scene.good("/chat", &[other])] {
        open.push(scene.open(&request).await);
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_before_it_is_complete() {
    let mut scene = Scene::with(Limits { request_head: 1000, ..Limits::default() }).await;
    let endless = format!("GET /chat HTTP/1.1\r\nX: {}", "x".repeat(4000));
    scene.rejects(&endless, 431, "handshake/too_large").await;
    let token = scene.good_token("alice");
    let filler = 1000 - request("/chat", &[&token, "X: "]).len();
    let _open = scene.open(&request("/chat", &[&token, &format!("X: {}", "x".repeat(filler))])).await;
    let (answer, _) = scene
        .rejects(
            &request("/chat", &[&token, &format!("X: {}", "x".repeat(filler + 1))]),
            431,
            "handshake/too_large",
        )
        .await;
    assert!(answer.problem().detail.contains("1000 bytes"), "{answer:?}");
}

#[tokio::test]
async fn a_slow_head_is_refused_as_timeout() {
    let limits = Limits { handshake_timeout: Duration::from_millis(50), ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    scene.rejects("GET /chat HTTP/1.1\r\nHost: gate", 408, "handshake/timeout").await;
    scene.rejects("", 408, "handshake/timeout").await;
}

#[tokio::test]
async fn a_head_that_ends_too_early_is_malformed_and_a_silent_visitor_is_not_reported() {
    use tokio::io::AsyncWriteExt as _;
    let mut scene = Scene::new().await;
    drop(scene.connect().await);
    let mut peer = scene.connect().await;
    peer.send("GET /chat HTTP/1.1\r\nHo").await;
    peer.stream.shutdown().await.unwrap();
    peer.rejection().await.is(400, "handshake/malformed");
    // The first entry of the trail, although the silent visitor came before.
    assert_eq!(scene.rejected().await.0.reason, Reason::HandshakeMalformed);
}

#[tokio::test]
async fn a_head_is_read_however_it_is_cut() {
    let scene = Scene::new().await;
    let request = scene.good("/chat", &[]);
    let mut client = scene.connect().await;
    client.stream.set_nodelay(true).unwrap();
    for chunk in request.as_bytes().chunks(7) {
        client.send(chunk).await;
        tokio::task::yield_now().await;
    }
    let (asked, _upstream) = scene.upstream().await;
    assert!(asked.starts_with("GET /chat HTTP/1.1\r\n"), "{asked}");
}
