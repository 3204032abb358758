//! Sessions that open without a token.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::scene::{Peer, Scene, accepted, denying, request};
use crate::audit::Entry;
use crate::auth::sources::Source;
use crate::config::{Limits, TokenSources};
use crate::rejection::{Reason, Rejection};
use crate::session::client::Header;
use crate::session::messages::{Event, Messages, masked_text};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

async fn scene() -> Scene {
    scene_with(Limits::default(), None).await
}

async fn scene_with(limits: Limits, subprotocols: Option<&[&str]>) -> Scene {
    let mut scene = Scene::with(limits).await;
    scene.take_tokens_from(&TokenSources {
        first_message: true,
        subprotocols: subprotocols.map(|all| all.iter().map(|one| (*one).to_owned()).collect()),
        ..TokenSources::default()
    });
    scene
}

/// Opens a session without a token; the client, and the answer.
async fn opened(scene: &Scene, path: &str, more: &[&str]) -> (Peer, String) {
    let mut client = scene.connect().await;
    client.send(request(path, more)).await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("sec-websocket-extensions"), "{answer}");
    (client, answer)
}

fn authenticate(token: &str) -> Vec<u8> {
    masked_text(&format!("{{\"type\":\"authenticate\",\"token\":\"{token}\"}}"), MASK)
}

/// The close frame that the gate ends with: its code, and what its reason names.
async fn closed(mut client: Peer) -> (u16, Header) {
    let bytes = client.read_to_end().await;
    assert!(bytes.len() > 4 && bytes[0] == 0x88 && usize::from(bytes[1]) == bytes.len() - 2, "{bytes:02x?}");
    let header = Header::parse(&bytes[4..]).expect("a dictionary");
    (u16::from_be_bytes([bytes[2], bytes[3]]), header)
}

/// The client is told by the close frame what the trail says.
async fn refused(scene: &mut Scene, client: Peer, reason: Reason) -> Rejection {
    let (code, header) = closed(client).await;
    assert_eq!(code, reason.layer().close_code());
    assert_eq!(format!("{}/{}", header.layer, header.reason), reason.to_string());
    match scene.entry().await {
        Entry::Rejected { id, rejection, route, .. } => {
            assert_eq!((rejection.reason, id.to_string()), (reason, header.id));
            assert!(route.is_some());
            *rejection
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_opens_without_a_token_and_is_relayed_once_its_first_message_has_one() {
    let mut scene = scene().await;
    let offers = ["Sec-WebSocket-Protocol: v2, v1", "Sec-WebSocket-Extensions: permessage-deflate"];
    let (mut client, answer) = opened(&scene, "/chat?room=1", &offers).await;
    assert!(answer.contains("\r\nSec-WebSocket-Protocol: v2\r\n"), "{answer}");
    assert!(scene.upstream_is_untouched());

    let token = scene.token("alice", &["chat:read"], 0, 60);
    client.send([authenticate(&token), b"sent ahead".to_vec()].concat()).await;
    let (asked, mut upstream) = scene.upstream().await;
    assert!(asked.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nsec-websocket-protocol: v2\r\n"), "{asked}");
    assert!(asked.contains("\r\nGatehouse-Subject: alice\r\n"), "{asked}");
    assert!(!asked.contains("extensions") && !asked.contains(&token), "{asked}");
    upstream.send(format!("{}first", accepted(&["Sec-WebSocket-Protocol: v2"]))).await;

    let told = b"\x81\x18{\"type\":\"authenticated\"}first";
    assert_eq!(client.read(told.len()).await, told);
    assert_eq!(upstream.read(10).await, b"sent ahead");
    client.send("later").await;
    assert_eq!(upstream.read(5).await, b"later");
    match scene.entry().await {
        Entry::Admitted { source, subject, .. } => {
            assert_eq!((source, subject.as_str()), (Source::FirstMessage, "alice"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn connection_init_reaches_the_upstream_masked_and_without_its_token() {
    let scene = scene().await;
    let (mut client, _) = opened(&scene, "/chat", &["Sec-WebSocket-Protocol: graphql-transport-ws"]).await;
    let token = scene.token("alice", &["chat:read"], 0, 60);
    let init = |rest: &str| format!("{{\"type\":\"connection_init\",\"payload\":{{{rest}\"x\":1}}}}");
    let message = masked_text(&init(&format!("\"Authorization\":\"Bearer {token}\",")), MASK);
    client.send([message, masked_text("next", MASK)].concat()).await;
    let (_, mut upstream) = scene.upstream().await;
    upstream.send(accepted(&["Sec-WebSocket-Protocol: graphql-transport-ws"])).await;
    let expected = init("");
    // Two frames: a short one, and what the client sent.
    let sent = upstream.read(6 + expected.len() + 6 + 4).await;
    let mut frames = Messages::new(sent, 1000);
    assert_eq!(frames.event(), Ok(Some(Event::Text(expected))));
    assert_eq!(frames.event(), Ok(Some(Event::Text("next".to_owned()))));
    // The upstream answers connection_init, not the gate.
    upstream.send("\x01\x01").await;
    assert_eq!(client.read(2).await, b"\x01\x01");
}

#[tokio::test]
async fn a_token_in_the_request_is_judged_there_even_where_the_first_message_would_do() {
    let mut scene = scene().await;
    let good = scene.good("/chat", &[]);
    let (_client, _upstream, asked) = scene.open(&good).await;
    assert!(asked.contains("\r\nGatehouse-Subject: alice\r\n"));
    let expired = format!("Authorization: Bearer {}", scene.token("alice", &[], 61, 60));
    scene.rejects(&request("/chat", &[&expired]), 401, "expiry/expired").await;
}

#[tokio::test]
async fn a_bad_first_message_ends_the_session_with_layer_reason_and_id() {
    let mut scene = scene().await;
    let token = |scopes: &[&str], age| scene.token("alice", scopes, age, 60);
    let (expired, narrow) = (token(&["chat:read"], 61), token(&["chat:write"], 0));
    for (message, reason) in [
        (authenticate(&expired), Reason::ExpiryExpired),
        (authenticate(&narrow), Reason::ScopeInsufficient),
        (authenticate("a.b.c"), Reason::CredentialsMalformed),
        (authenticate(""), Reason::CredentialsMalformed),
        (masked_text("{\"type\":\"authenticate\"}", MASK), Reason::CredentialsMissing),
        (masked_text("hello", MASK), Reason::CredentialsFirstMessage),
        (b"\x82\x81\x00\x00\x00\x00x".to_vec(), Reason::CredentialsFirstMessage),
        (b"\x81\x01x".to_vec(), Reason::CredentialsFirstMessage),
        (b"\xc1\x81\x00\x00\x00\x00x".to_vec(), Reason::CredentialsFirstMessage),
    ] {
        let (mut client, _) = opened(&scene, "/chat", &[]).await;
        client.send(&message).await;
        let rejection = refused(&mut scene, client, reason).await;
        assert_eq!(rejection.source, Some(Source::FirstMessage), "{reason}");
    }
    assert!(scene.upstream_is_untouched());
}

#[tokio::test]
async fn what_is_in_force_when_the_first_message_comes_decides() {
    let mut scene = scene().await;
    let token = scene.token("alice", &["chat:read"], 0, 60);
    let (mut client, _) = opened(&scene, "/chat", &[]).await;
    scene.swap(Some(denying(Ipv4Addr::LOCALHOST)));
    client.send(authenticate(&token)).await;
    refused(&mut scene, client, Reason::FirewallDeniedRange).await;
    scene.swap(None);
    let (mut client, _) = opened(&scene, "/chat", &[]).await;
    scene.lose_keys();
    client.send(authenticate(&token)).await;
    refused(&mut scene, client, Reason::AuthSystemKeysUnavailable).await;
    assert!(scene.upstream_is_untouched());
}

#[tokio::test]
async fn our_outage_is_no_fault_of_a_first_message() {
    let mut scene = scene().await;
    let token = scene.token("alice", &["chat:read"], 0, 60);
    let (mut client, _) = opened(&scene, "/down", &[]).await;
    client.send(authenticate(&token)).await;
    let rejection = refused(&mut scene, client, Reason::UpstreamUnreachable).await;
    assert_eq!(rejection.source, Some(Source::FirstMessage));
    scene.lose_keys();
    let (mut client, _) = opened(&scene, "/chat", &[]).await;
    client.send(authenticate(&token)).await;
    refused(&mut scene, client, Reason::AuthSystemKeysUnavailable).await;
}

#[tokio::test]
async fn a_message_longer_than_the_limit_is_refused_by_its_length_alone() {
    let mut scene = scene_with(Limits { first_message_size: 100, ..Limits::default() }, None).await;
    let (mut client, _) = opened(&scene, "/chat", &[]).await;
    client.send(b"\x81\xfe\x00\x65").await;
    client.send(b"mask").await;
    let rejection = refused(&mut scene, client, Reason::CredentialsFirstMessage).await;
    assert_eq!(rejection.detail.as_deref(), Some("It is longer than 100 bytes."));
}

#[tokio::test]
async fn a_session_without_a_first_message_ends_at_the_deadline() {
    let limits = Limits { first_message_timeout: Duration::from_millis(20), ..Limits::default() };
    let mut scene = scene_with(limits, None).await;
    let (mut client, _) = opened(&scene, "/chat", &[]).await;
    // Half a message is none.
    client.send(&authenticate("a.b.c")[..9]).await;
    let rejection = refused(&mut scene, client, Reason::CredentialsMissing).await;
    assert!(rejection.detail.unwrap_or_default().contains("within 20ms"));
}

#[tokio::test]
async fn pings_are_answered_and_a_close_is_echoed_before_the_first_message() {
    let mut scene = scene().await;
    let (mut client, _) = opened(&scene, "/chat", &[]).await;
    client.send(b"\x89\x82\x00\x00\x00\x00hi").await;
    assert_eq!(client.read(4).await, b"\x8a\x02hi");
    client.send(b"\x88\x82\x00\x00\x00\x00\x03\xe8").await;
    assert_eq!(client.read_to_end().await, b"\x88\x02\x03\xe8");
    // Nobody was turned away: the next entry is that of another client.
    scene.rejects(&request("/no", &[]), 404, "handshake/no_route").await;
}

#[tokio::test]
async fn frames_that_came_with_the_request_count() {
    let scene = scene().await;
    let token = scene.token("alice", &["chat:read"], 0, 60);
    let mut client = scene.connect().await;
    client.send([request("/chat", &[]).as_bytes(), &authenticate(&token)].concat()).await;
    let (asked, mut upstream) = scene.upstream().await;
    assert!(!asked.contains("sec-websocket-protocol"), "{asked}");
    upstream.send(accepted(&[])).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.read(2).await, b"\x81\x18");
}

#[tokio::test]
async fn the_subprotocol_is_one_that_the_route_speaks() {
    let mut scene = scene_with(Limits::default(), Some(&["v1", "v2"])).await;
    let (_client, answer) = opened(&scene, "/chat", &["Sec-WebSocket-Protocol: v3, v2, v1"]).await;
    assert!(answer.contains("\r\nSec-WebSocket-Protocol: v2\r\n"), "{answer}");
    let none = request("/chat", &["Sec-WebSocket-Protocol: v3"]);
    scene.rejects(&none, 400, "handshake/subprotocol").await;
    let (_client, answer) = opened(&scene, "/chat", &[]).await;
    assert!(!answer.contains("Sec-WebSocket-Protocol"), "{answer}");
}

#[tokio::test]
async fn an_upstream_that_selects_another_subprotocol_than_the_client_was_told_ends_the_session() {
    let mut scene = scene().await;
    let token = scene.token("alice", &["chat:read"], 0, 60);
    for selected in [&[][..], &["Sec-WebSocket-Protocol: v1"]] {
        let (mut client, _) = opened(&scene, "/chat", &["Sec-WebSocket-Protocol: v2, v1"]).await;
        client.send(authenticate(&token)).await;
        let (_, mut upstream) = scene.upstream().await;
        upstream.send(accepted(selected)).await;
        refused(&mut scene, client, Reason::UpstreamBadHandshake).await;
    }
}

#[tokio::test]
async fn a_session_that_waits_for_its_first_message_takes_a_place_of_its_address() {
    let mut scene = scene_with(Limits { sessions_per_address: 1, ..Limits::default() }, None).await;
    let (client, _) = opened(&scene, "/chat", &[]).await;
    scene.rejects(&request("/chat", &[]), 429, "limit/address_sessions").await;
    drop(client);
}

#[tokio::test]
async fn a_gate_that_stops_tells_who_waits_by_a_close_frame() {
    let limits = Limits { drain_timeout: Duration::ZERO, ..Limits::default() };
    let mut scene = scene_with(limits, None).await;
    let (client, _) = opened(&scene, "/chat", &[]).await;
    scene.stop.cancel();
    let (code, header) = closed(client).await;
    assert_eq!((code, header.reason.as_str()), (4429, "capacity"));
    assert_eq!(scene.rejected().await.0.reason, Reason::LimitCapacity);
}
