//! Rejected clients: who rejected them, and whether they can read it.

use std::net::Ipv4Addr;

use super::scene::{Scene, denying, request};
use crate::rejection::Reason;

#[tokio::test]
async fn a_request_without_a_token_is_challenged_without_an_error() {
    let mut scene = Scene::new().await;
    let (answer, _) = scene.rejects(&request("/chat", &[]), 401, "credentials/missing").await;
    assert_eq!(
        answer.header("WWW-Authenticate"),
        Some(
            "Bearer realm=\"gatehouse\", resource_metadata=\"https://gate.test/.well-known/oauth-protected-resource/chat\""
        )
    );
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(answer.header("Connection"), Some("close"));
    assert_eq!(answer.header("Content-Type"), Some("application/problem+json"));
    assert_eq!(answer.problem().kind, "urn:gatehouse:rejection:credentials:missing");
    assert!(scene.upstream_is_untouched());
}

#[tokio::test]
async fn each_fault_of_a_token_is_told_by_layer_and_challenge() {
    let mut scene = Scene::new().await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let expired = bearer(&scene.token("alice", &["chat:read"], 61, 60));
    let narrow = bearer(&scene.token("alice", &["chat:write"], 0, 60));
    let good = scene.good_token("alice");
    for (headers, status, name, challenge) in [
        (vec!["Authorization: Bearer garbage"], 401, "credentials/malformed", "error=\"invalid_token\""),
        (vec![&*good, &*good], 400, "credentials/multiple", "error=\"invalid_request\""),
        (vec![&*expired], 401, "expiry/expired", "error=\"invalid_token\""),
        (vec![&*narrow], 403, "scope/insufficient_scope", "error=\"insufficient_scope\""),
    ] {
        let (answer, _) = scene.rejects(&request("/chat", &headers), status, name).await;
        let given = answer.header("WWW-Authenticate").unwrap();
        assert!(given.starts_with("Bearer ") && given.contains(challenge), "{given}");
        assert_eq!(given.contains("scope=\"chat:read\""), status == 403, "{given}");
    }
    assert!(scene.upstream_is_untouched());
}

#[tokio::test]
async fn an_outage_of_the_keys_is_not_the_clients_fault() {
    let mut scene = Scene::new().await;
    scene.lose_keys();
    let (answer, _) = scene.rejects(&scene.good("/chat", &[]), 503, "auth_system/keys_unavailable").await;
    assert!(answer.header("Retry-After").is_some() && answer.header("WWW-Authenticate").is_none());
}

#[tokio::test]
async fn a_denied_address_is_told_so_before_anything_else_is_judged() {
    let mut scene = Scene::new().await;
    let denied = Ipv4Addr::new(127, 0, 0, 2);
    scene.swap(Some(denying(denied)));
    // Neither valid HTTP nor a token: the address decides all the same.
    for request in ["rubbish\r\n\r\n".to_owned(), scene.good("/chat", &[])] {
        let mut peer = scene.connect_from(denied).await;
        peer.send(&request).await;
        peer.rejection().await.is(403, "firewall/denied_range");
        let rule = scene.rejected().await.0.rule.expect("the rule");
        assert_eq!((rule.list.as_deref(), rule.line), (Some("deny.list"), 3));
    }
    scene.open(&scene.good("/chat", &[])).await;
    scene.swap(None);
    let mut peer = scene.connect_from(denied).await;
    peer.send(request("/chat", &[])).await;
    peer.rejection().await.is(401, "credentials/missing");
}

#[tokio::test]
async fn a_client_that_is_still_sending_can_read_its_answer_and_is_not_reset() {
    let mut scene = Scene::new().await;
    let mut peer = scene.connect().await;
    peer.send(request("/chat", &["Content-Length: 100000"])).await;
    peer.rejection().await.is(400, "handshake/body");
    // A closed connection would answer the first of these with a reset, and the next would fail.
    for _ in 0..100 {
        peer.send([b'x'; 1000]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.rejected().await.0.reason, Reason::HandshakeBody);
}

#[tokio::test]
async fn the_answer_to_head_has_no_body() {
    let scene = Scene::new().await;
    let answer = scene.ask(&request("/chat", &[]).replacen("GET", "HEAD", 1)).await;
    assert_eq!((answer.status(), answer.body.as_str()), (405, ""));
    assert!(answer.header("Content-Length").is_some_and(|length| length != "0"));
}

#[tokio::test]
async fn neither_answer_nor_trail_hold_what_the_client_sent_as_credentials() {
    let mut scene = Scene::new().await;
    let expired = scene.token("alice", &["chat:read"], 61, 60);
    let authorization = format!("Authorization: Bearer {expired}");
    let headers = [authorization.as_str(), "Cookie: session=SECRET"];
    let (answer, rejection) =
        scene.rejects(&request("/chat?ticket=SECRET", &headers), 401, "expiry/expired").await;
    let said = format!("{answer:?}{rejection:?}");
    let signature = expired.rsplit('.').next().unwrap();
    assert!(!said.contains("SECRET") && !said.contains(signature), "{said}");
    assert_eq!(rejection.subject.as_deref(), Some("alice"));
}
