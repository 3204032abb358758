//! Sessions that go on with a fresh token: by an HTTP request, and by messages in the session.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

use super::scene::{Answer, Peer, Scene, raw, request};
use super::tenure::{close, ends, frame, part};
use crate::audit::{Entry, HandshakeId};
use crate::auth::revocation::{Revocation, Revoked};
use crate::config::Limits;
use crate::rejection::Reason;
use crate::session::messages::masked_text;

const SECOND: Duration = Duration::from_secs(1);
const MASK: [u8; 4] = [1, 2, 3, 4];

/// Sessions on `/chat` and `/app` can be renewed, and are warned in the last minute where `control` says so.
async fn scene(control: bool) -> Scene {
    let mut scene = Scene::in_time(Limits::default()).await;
    scene.reroute(|routes| {
        for route in routes.iter_mut().filter(|route| route.path == "/chat" || route.path == "/app") {
            route.renewal = true;
            route.control = control.then_some(60 * SECOND);
        }
    });
    scene
}

/// A session of alice on `/chat` whose token is good for `ttl` seconds, and its name.
async fn session(scene: &mut Scene, ttl: u64) -> (Peer, Peer, HandshakeId) {
    let token = format!("Authorization: Bearer {}", scene.token("alice", &["chat:read"], 0, ttl));
    let (client, upstream, asked) = scene.open(&request("/chat", &[&token])).await;
    let id = asked.lines().find_map(|line| line.strip_prefix("Gatehouse-Id: ")).expect("an id");
    (client, upstream, HandshakeId::parse(id).expect("an id"))
}

/// The answer to a request to renew the session `id` with `token`.
async fn post(scene: &Scene, id: HandshakeId, token: &str, more: &[&str]) -> Answer {
    let authorization = format!("Authorization: Bearer {token}");
    let lines = [&["Host: gate.test", "Content-Length: 0", &authorization][..], more].concat();
    scene.ask(&raw(&format!("POST /sessions/{id}/token HTTP/1.1"), &lines)).await
}

/// The next message of the gate.
async fn told(client: &mut Peer) -> Value {
    let head = client.read(2).await;
    assert_eq!(head[0], 0x81, "a text");
    let length = match head[1] {
        126 => usize::from(u16::from_be_bytes(client.read(2).await.try_into().expect("two bytes"))),
        short => usize::from(short),
    };
    serde_json::from_slice(&client.read(length).await).expect("JSON")
}

fn renew(token: &str) -> Vec<u8> {
    // The members are sorted, but the first has to be the type.
    masked_text(&format!("{{\"type\":\"gatehouse.renew\",\"token\":\"{token}\"}}"), MASK)
}

#[tokio::test]
async fn a_session_lives_as_long_as_the_token_that_renewed_it() {
    let mut scene = scene(false).await;
    let (mut client, mut upstream, id) = session(&mut scene, 2).await;
    let fresh = scene.token("alice", &["chat:read", "more"], 0, 4);
    let answer = post(&scene, id, &fresh, &[]).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(body["id"], id.to_string());
    assert!(matches!(body["expires_in"].as_u64(), Some(3 | 4)), "{body}");
    match scene.entry().await {
        Entry::Renewed { id: renewed, subject, .. } => assert_eq!((renewed, &*subject), (id, "alice")),
        other => panic!("{other:?}"),
    }
    // Past the end of the first token, it is still relayed.
    tokio::time::sleep(3 * SECOND).await;
    client.send(masked_text("x", MASK)).await;
    upstream.read(7).await;
    ends(&mut scene, &mut client, &mut upstream, Reason::ExpirySessionExpired).await;
}

#[tokio::test]
async fn a_token_renews_only_sessions_of_its_own_subject_and_only_if_it_would_be_admitted() {
    let mut scene = scene(false).await;
    let (mut client, mut upstream, id) = session(&mut scene, 60).await;
    let (mallory, narrow) =
        (scene.token("mallory", &["chat:read"], 0, 60), scene.token("alice", &["other"], 0, 60));
    let old = scene.token("alice", &["chat:read"], 100, 60);
    for (token, status, reason) in [
        (&*mallory, 401, "credentials/other_subject"),
        (&narrow, 403, "scope/insufficient_scope"),
        (&old, 401, "expiry/expired"),
        ("a.b.c", 401, "credentials/malformed"),
    ] {
        let answer = post(&scene, id, token, &[]).await;
        answer.is(status, reason);
        assert!(!answer.body.contains("alice"), "{answer:?}");
        assert_eq!(scene.rejected().await.0.reason.to_string(), reason);
    }
    // The session has not suffered from any of them.
    client.send(masked_text("x", MASK)).await;
    upstream.read(7).await;
}

#[tokio::test]
async fn only_open_sessions_of_routes_that_allow_it_are_renewed() {
    let mut scene = scene(false).await;
    let good = scene.token("alice", &["chat:read"], 0, 60);
    post(&scene, HandshakeId::new([9; 10]), &good, &[]).await.is(404, "handshake/no_session");
    scene.rejected().await;
    let (client, _upstream, id) = session(&mut scene, 60).await;
    drop(client);
    assert!(matches!(scene.entry().await, Entry::Ended { .. }));
    post(&scene, id, &good, &[]).await.is(404, "handshake/no_session");
    scene.rejected().await;
    let (_client, _upstream, asked) = scene.open(&scene.good("/other", &[])).await;
    let id = asked.lines().find_map(|line| line.strip_prefix("Gatehouse-Id: ")).expect("an id");
    let id = HandshakeId::parse(id).expect("an id");
    post(&scene, id, &good, &[]).await.is(404, "handshake/no_session");
}

#[tokio::test]
async fn pages_of_the_route_may_renew_sessions_and_others_may_not() {
    let mut scene = scene(false).await;
    let (_client, _upstream, asked) = scene.open(&scene.good("/app", &["Origin: https://app.test"])).await;
    let id = asked.lines().find_map(|line| line.strip_prefix("Gatehouse-Id: ")).expect("an id");
    let id = HandshakeId::parse(id).expect("an id");
    let good = scene.token("alice", &["chat:read"], 0, 60);
    let evil = post(&scene, id, &good, &["Origin: https://evil.test"]).await;
    evil.is(403, "handshake/origin");
    assert_eq!(evil.header("Access-Control-Allow-Origin"), None);
    let answer = post(&scene, id, &good, &["Origin: https://app.test"]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("https://app.test"));
    let asking = |origin: &str| {
        let origin = format!("Origin: {origin}");
        raw(&format!("OPTIONS /sessions/{id}/token HTTP/1.1"), &["Host: gate.test", &origin])
    };
    let answer = scene.ask(&asking("https://app.test")).await;
    assert_eq!(answer.header("Access-Control-Allow-Headers"), Some("Authorization"));
    assert_eq!(scene.ask(&asking("https://evil.test")).await.header("Access-Control-Allow-Headers"), None);
}

#[tokio::test]
async fn a_renewed_session_ends_when_its_new_token_is_revoked_and_not_when_its_old_one_is() {
    let mut scene = scene(false).await;
    let with_id = |scene: &Scene, id: &str| {
        let claims = [("sid".to_owned(), Value::from(id))].into_iter().collect();
        scene.token_with("alice", &["chat:read"], 0, 60, claims)
    };
    let token = format!("Authorization: Bearer {}", with_id(&scene, "old"));
    let (mut client, mut upstream, asked) = scene.open(&request("/chat", &[&token])).await;
    let id = asked.lines().find_map(|line| line.strip_prefix("Gatehouse-Id: ")).expect("an id");
    let fresh = with_id(&scene, "new");
    assert_eq!(post(&scene, HandshakeId::parse(id).expect("an id"), &fresh, &[]).await.status(), 200);
    assert!(matches!(scene.entry().await, Entry::Renewed { .. }));
    let revoke = |id: &str| {
        let revoked = Revoked::Session(id.to_owned());
        Revocation { revoked, issuer: None, until: None, note: None }
    };
    scene.revoke(vec![revoke("old")]);
    client.send(masked_text("x", MASK)).await;
    upstream.read(7).await;
    scene.revoke(vec![revoke("old"), revoke("new")]);
    ends(&mut scene, &mut client, &mut upstream, Reason::CredentialsRevoked).await;
}

#[tokio::test]
async fn a_client_is_warned_and_renews_by_a_message_that_the_upstream_never_sees() {
    let mut scene = scene(true).await;
    let (mut client, mut upstream, id) = session(&mut scene, 30).await;
    let warning = told(&mut client).await;
    assert_eq!((&warning["type"], &warning["id"]), (&json!("gatehouse.expiring"), &json!(id.to_string())));
    assert!(warning["expires_in"].as_u64().is_some_and(|left| left <= 30), "{warning}");
    client
        .send([masked_text("before", MASK), renew(&scene.token("alice", &["chat:read"], 0, 600))].concat())
        .await;
    let renewed = told(&mut client).await;
    assert_eq!(renewed["type"], "gatehouse.renewed");
    assert!(renewed["expires_in"].as_u64().is_some_and(|left| left > 500), "{renewed}");
    assert!(matches!(scene.entry().await, Entry::Renewed { .. }));
    client.send(masked_text("after", MASK)).await;
    assert_eq!(frame(&mut upstream, 0x81).await, b"before");
    assert_eq!(frame(&mut upstream, 0x81).await, b"after");
}

#[tokio::test]
async fn a_token_of_no_use_is_answered_in_the_session_which_goes_on() {
    let mut scene = scene(true).await;
    let (mut client, mut upstream, _) = session(&mut scene, 300).await;
    for (token, layer, reason) in [
        (scene.token("mallory", &["chat:read"], 0, 60), "credentials", "other_subject"),
        ("x".to_owned(), "credentials", "malformed"),
        (scene.token("alice", &[], 0, 60), "scope", "insufficient_scope"),
    ] {
        client.send(renew(&token)).await;
        let refused = told(&mut client).await;
        assert_eq!(refused["type"], "gatehouse.refused");
        assert_eq!((&refused["layer"], &refused["reason"]), (&json!(layer), &json!(reason)));
        let (rejection, route) = scene.rejected().await;
        assert_eq!((rejection.reason.name(), route.as_deref()), (reason, Some("/chat")));
    }
    client.send(masked_text("on", MASK)).await;
    assert_eq!(frame(&mut upstream, 0x81).await, b"on");
}

#[tokio::test]
async fn a_message_of_the_gate_waits_until_that_of_the_upstream_has_ended() {
    let mut scene = scene(true).await;
    let (mut client, mut upstream, _) = session(&mut scene, 300).await;
    upstream.send(part("one ", Data::Text, false)).await;
    assert_eq!(frame(&mut client, 0x01).await, b"one ");
    client.send(renew("x")).await;
    scene.rejected().await;
    // The answer is there, and has no place yet; half of a frame comes, and then the rest with more.
    let (rest, next) = (part("two", Data::Continue, true), part("next", Data::Text, true));
    upstream.send(&rest[..3]).await;
    assert_eq!(client.read(3).await, rest[..3]);
    upstream.send([&rest[3..], &next].concat()).await;
    assert_eq!(client.read(rest.len() - 3).await, rest[3..]);
    assert_eq!(told(&mut client).await["type"], "gatehouse.refused");
    assert_eq!(frame(&mut client, 0x81).await, b"next");
    // And after the upstream's goodbye nothing is said any more.
    client.send(renew("x")).await;
    told(&mut client).await;
    upstream.send([0x88, 0x02, 0x03, 0xe8]).await;
    assert_eq!(close(&mut client).await.0, 1000);
    client.send(renew("x")).await;
    client.send([0x88, 0x80, 0, 0, 0, 0]).await;
    assert_eq!(frame(&mut upstream, 0x88).await, b"");
    drop(upstream);
    assert_eq!(client.read_to_end().await, b"");
}

#[tokio::test]
async fn where_messages_are_taken_no_extension_hides_them() {
    let mut scene = scene(true).await;
    let token = scene.good_token("alice");
    let asking = request("/chat", &[&token, "Sec-WebSocket-Extensions: permessage-deflate"]);
    let (_client, _upstream, asked) = scene.open(&asking).await;
    assert!(!asked.to_ascii_lowercase().contains("extensions"), "{asked}");
}
