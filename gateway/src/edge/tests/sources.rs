//! Tokens from each place in a request, and what of them reaches the upstream.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use proptest::prelude::*;

use super::scene::{Scene, accepted, request};
use crate::audit::{Entry, HandshakeId};
use crate::auth::Identity;
use crate::auth::sources::{Source, take};
use crate::config::{self, SUBPROTOCOL_PREFIX, TokenSources};
use crate::edge::head::Head;
use crate::edge::opening::Opening;
use crate::session::request::request as upstream_request;

fn sources() -> TokenSources {
    TokenSources { cookie: Some("token".to_owned()), query: true, ..TokenSources::default() }
}

async fn scene() -> Scene {
    let mut scene = Scene::new().await;
    scene.take_tokens_from(&sources());
    scene
}

fn entry(token: &str) -> String {
    format!("{SUBPROTOCOL_PREFIX}{}", URL_SAFE_NO_PAD.encode(token))
}

/// Opens a session with `request`; what the upstream was asked, and what the client was answered.
async fn admitted(scene: &mut Scene, request: &str, selected: &[&str], source: Source) -> (String, String) {
    let mut client = scene.connect().await;
    client.send(request).await;
    let (asked, mut upstream) = scene.upstream().await;
    upstream.send(accepted(selected)).await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    match scene.entry().await {
        Entry::Admitted { source: own, .. } => assert_eq!(own, source),
        other => panic!("{other:?}"),
    }
    drop((client, upstream));
    assert!(matches!(scene.entry().await, Entry::Ended { .. }));
    (asked, answer)
}

#[tokio::test]
async fn a_token_among_the_subprotocols_admits_and_reaches_neither_upstream_nor_client() {
    let mut scene = scene().await;
    let token = scene.token("alice", &["chat:read"], 0, 60);
    let offer = format!("Sec-WebSocket-Protocol: v2, {}, v1", entry(&token));
    let chosen = ["Sec-WebSocket-Protocol: v1"];
    let (asked, answer) =
        admitted(&mut scene, &request("/chat", &[&offer]), &chosen, Source::Subprotocol).await;
    assert!(asked.contains("\r\nsec-websocket-protocol: v2, v1\r\n"), "{asked}");
    assert!(answer.contains("\r\nsec-websocket-protocol: v1\r\n"), "{answer}");
    assert!(!answer.contains(&entry(&token)) && !asked.contains(&URL_SAFE_NO_PAD.encode(&token)));
}

#[tokio::test]
async fn an_upstream_cannot_select_the_token_as_subprotocol() {
    let scene = scene().await;
    let entry = entry(&scene.token("alice", &["chat:read"], 0, 60));
    let mut client = scene.connect().await;
    client.send(request("/chat", &[&format!("Sec-WebSocket-Protocol: {entry}, v1")])).await;
    let (_, mut upstream) = scene.upstream().await;
    upstream.send(accepted(&[&format!("Sec-WebSocket-Protocol: {entry}")])).await;
    client.rejection().await.is(502, "upstream/bad_handshake");
}

#[tokio::test]
async fn a_token_without_another_subprotocol_is_refused_with_the_remedy() {
    let mut scene = scene().await;
    let entry = entry(&scene.token("alice", &["chat:read"], 0, 60));
    let offer = format!("Sec-WebSocket-Protocol: {entry}");
    let (answer, _) = scene.rejects(&request("/chat", &[&offer]), 400, "handshake/subprotocol").await;
    assert!(answer.problem().fix.contains("at least one subprotocol"));
    assert!(!answer.body.contains(&entry));
}

#[tokio::test]
async fn a_cookie_admits_a_page_of_the_route_and_the_others_reach_the_upstream() {
    let mut scene = scene().await;
    let token = scene.token("alice", &["chat:read"], 0, 60);
    let cookie = format!("Cookie: a=1; token={token}; b=2");
    let page = request("/app", &["Origin: https://app.test", &cookie]);
    let (asked, _) = admitted(&mut scene, &page, &[], Source::Cookie).await;
    assert!(asked.contains("\r\ncookie: a=1; b=2\r\n"), "{asked}");
    assert!(!asked.contains(&token), "{asked}");

    scene.rejects(&request("/app", &[&cookie]), 401, "credentials/missing").await;
    let stranger = request("/app", &["Origin: https://evil.test", &cookie]);
    scene.rejects(&stranger, 403, "handshake/origin").await;
}

#[tokio::test]
async fn a_token_in_the_query_admits_and_leaves_the_other_parameters() {
    let mut scene = scene().await;
    let token = scene.token("alice", &["chat:read"], 0, 60);
    for (query, left) in [
        (format!("?room=1&access_token={token}&x=%2F&ticket=theirs"), "?room=1&x=%2F&ticket=theirs"),
        (format!("?access_token={token}"), ""),
    ] {
        let asking = request(&format!("/chat{query}"), &[]);
        let (asked, _) = admitted(&mut scene, &asking, &[], Source::Query).await;
        assert!(asked.starts_with(&format!("GET /chat{left} HTTP/1.1\r\n")), "{asked}");
        assert!(!asked.contains(&token), "{asked}");
    }
}

#[tokio::test]
async fn two_tokens_are_refused_even_when_both_are_good() {
    let mut scene = scene().await;
    let token = scene.token("alice", &["chat:read"], 0, 60);
    let path = format!("/chat?access_token={token}");
    let (answer, _) = scene.rejects(&scene.good(&path, &[]), 400, "credentials/multiple").await;
    assert!(answer.problem().detail.contains("Authorization header and another one in the query parameter"));
    let twice = format!("{path}&access_token={token}");
    scene.rejects(&request(&twice, &[]), 400, "credentials/multiple").await;
    assert!(scene.upstream_is_untouched());
}

#[tokio::test]
async fn a_rejection_says_in_the_trail_where_the_token_stood() {
    let mut scene = scene().await;
    let expired = scene.token("alice", &["chat:read"], 61, 60);
    let path = format!("/chat?access_token={expired}");
    let (_, rejection) = scene.rejects(&request(&path, &[]), 401, "expiry/expired").await;
    assert_eq!(rejection.source, Some(Source::Query));
    let header = format!("Authorization: Bearer {expired}");
    let (_, rejection) = scene.rejects(&request("/chat", &[&header]), 401, "expiry/expired").await;
    assert_eq!(rejection.source, Some(Source::Authorization));
}

#[tokio::test]
async fn a_parameter_that_the_route_does_not_take_is_the_upstreams_business() {
    let mut scene = Scene::new().await;
    let path = "/chat?access_token=theirs&ticket=theirs";
    let good = scene.good(path, &[]);
    let (asked, _) = admitted(&mut scene, &good, &[], Source::Authorization).await;
    assert!(asked.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{asked}");
    let (answer, _) = scene.rejects(&request(path, &[]), 401, "credentials/missing").await;
    let detail = answer.problem().detail;
    assert!(detail.contains("the Authorization header or Sec-WebSocket-Protocol"), "{detail}");
}

/// What the upstream gets of `text` once its token is taken out, and where that stood.
fn sent_on(text: &str) -> (Vec<u8>, Option<Source>) {
    let head = Head::parse(text.as_bytes().to_vec()).expect("a whole head");
    let mut opening = Opening::judge(head, 100).expect("a valid handshake");
    let found = take(opening.carriers(), &sources()).expect("one token at most");
    let identity = Identity {
        issuer: "main".to_owned(),
        subject: "alice".to_owned(),
        scopes: Vec::new(),
        expires: 0,
        accepted_until: 0,
        token_id: None,
        session_id: None,
        key_id: None,
        issued: None,
        issuer_id: "https://idp.test".to_owned(),
    };
    let upstream = config::Upstream { place: config::Place::Unix("/unused".into()), path: None, tls: None };
    let client = ([192, 0, 2, 7], 4711).into();
    let bytes = upstream_request(&upstream, &opening, &identity, client, HandshakeId::new([1; 10]));
    (bytes, found.map(|(source, _)| source))
}

proptest! {
    #[test]
    fn the_upstream_gets_the_bytes_of_a_request_that_never_had_a_token(
        place in 0_usize..4,
        token in "[a-zA-Z0-9._~+/-]{12,60}={0,2}",
        pairs in prop::collection::vec("[a-z]{1,3}=[!-%\'-+.-:<-~]{0,9}", 0..4),
        at in any::<prop::sample::Index>(),
    ) {
        let place = [Source::Authorization, Source::Subprotocol, Source::Cookie, Source::Query][place];
        let text = |with: Option<Source>| {
            let put = |own: Source, entry: String, separator: &str, mut all: Vec<String>| {
                if with == Some(own) {
                    all.insert(at.index(all.len() + 1), entry);
                }
                all.join(separator)
            };
            let safe: Vec<String> = pairs.iter().map(|pair| pair.replace('#', "")).collect();
            let query = put(Source::Query, format!("access_token={token}"), "&", safe.clone());
            let cookie = put(Source::Cookie, format!("token={token}"), "; ", safe);
            let offers = put(Source::Subprotocol, entry(&token), ", ", vec!["v2".to_owned(), "v1".to_owned()]);
            let path = if query.is_empty() { "/chat".to_owned() } else { format!("/chat?{query}") };
            let authorization = format!("Authorization: Bearer {token}");
            let offers = format!("Sec-WebSocket-Protocol: {offers}");
            let cookie = format!("Cookie: {cookie}");
            let mut more = vec!["Origin: https://app.test", offers.as_str()];
            if cookie != "Cookie: " {
                more.push(&cookie);
            }
            if with == Some(Source::Authorization) {
                more.insert(at.index(more.len() + 1), &authorization);
            }
            request(&path, &more)
        };
        let (bytes, found) = sent_on(&text(Some(place)));
        let (plain, none) = sent_on(&text(None));
        prop_assert_eq!((found, none), (Some(place), None));
        prop_assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&plain));
    }
}
