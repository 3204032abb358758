//! Sessions end when their right to exist ends, and both sides are told.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::scene::{PATIENCE, Peer, Scene, denying, request};
use crate::audit::Entry;
use crate::config::{Limits, ScopeRule, TrafficLimits};
use crate::rejection::Reason;
use crate::session::client::Header;
use crate::session::messages::masked_text;

const SECOND: Duration = Duration::from_secs(1);

/// The payload of the next frame, which must have this first byte and be short.
pub(super) async fn frame<S: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<S>, first: u8) -> Vec<u8> {
    let head = peer.read(2).await;
    assert_eq!(head[0], first, "{head:?}");
    let masked = head[1] & 0x80 != 0;
    let mask = if masked { peer.read(4).await } else { vec![0; 4] };
    let payload = peer.read(usize::from(head[1] & 0x7f)).await;
    payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

/// The Close frame that comes next: code and reason.
pub(super) async fn close<S: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<S>) -> (u16, String) {
    let payload = frame(peer, 0x88).await;
    (u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8(payload[2..].to_vec()).unwrap())
}

/// Both sides are told `expected`; the client answers, and the entry says the same.
pub(super) async fn ends<S: AsyncRead + AsyncWrite + Unpin>(
    scene: &mut Scene,
    client: &mut Peer<S>,
    upstream: &mut Peer,
    expected: Reason,
) {
    let told = close(client).await;
    assert_eq!(told, close(upstream).await);
    let header = Header::parse(told.1.as_bytes()).expect("a dictionary");
    assert_eq!((told.0, header.layer.as_str()), (expected.layer().close_code(), expected.layer().name()));
    assert_eq!(header.reason, expected.name());
    client.send(CLIENT_CLOSE).await;
    assert_eq!(client.read_to_end().await, b"");
    match scene.entry().await {
        Entry::Ended { id, rejection: Some(rejection), subject, .. } => {
            assert_eq!((rejection.reason, id.to_string()), (expected, header.id));
            assert_eq!(rejection.subject, Some(subject));
        }
        other => panic!("{other:?}"),
    }
}

/// A Close frame of a client: no code, and a mask of zeroes.
const CLIENT_CLOSE: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];

async fn session(scene: &mut Scene) -> (Peer, Peer) {
    let (client, upstream, _) = scene.open(&scene.good("/chat", &[])).await;
    (client, upstream)
}

pub(super) fn bytes(frame: Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.format(&mut bytes).unwrap();
    bytes
}

pub(super) fn part(text: &'static str, code: Data, last: bool) -> Vec<u8> {
    bytes(Frame::message(text, OpCode::Data(code), last))
}

#[tokio::test]
async fn a_session_ends_when_its_token_expires() {
    let mut scene = Scene::in_time(Limits::default()).await;
    let token = format!("Authorization: Bearer {}", scene.token("alice", &["chat:read"], 0, 2));
    let (mut client, mut upstream, _) = scene.open(&request("/chat", &[&token])).await;
    ends(&mut scene, &mut client, &mut upstream, Reason::ExpirySessionExpired).await;
}

#[tokio::test]
async fn a_session_ends_when_its_address_is_denied() {
    let mut scene = Scene::new().await;
    let (mut client, mut upstream) = session(&mut scene).await;
    scene.swap(Some(denying(Ipv4Addr::new(127, 0, 0, 9))));
    client.send("x").await;
    assert_eq!(upstream.read(1).await, b"x");
    // Those bytes were no frame: another session tells the farewell.
    let (mut client, mut upstream) = session(&mut scene).await;
    scene.swap(Some(denying(Ipv4Addr::LOCALHOST)));
    let told = close(&mut client).await;
    assert_eq!(told.0, Reason::FirewallDeniedRange.layer().close_code());
    assert_eq!(told, close(&mut upstream).await);
}

#[tokio::test]
async fn a_session_ends_when_its_route_or_its_scope_is_gone_on_reload() {
    let mut scene = Scene::new().await;
    let (mut client, mut upstream) = session(&mut scene).await;
    scene.reroute(|routes| routes.retain(|route| route.path != "/other"));
    scene.reroute(|routes| routes[0].scopes = ScopeRule::all(vec!["chat:write".to_owned()]));
    ends(&mut scene, &mut client, &mut upstream, Reason::ScopeInsufficient).await;

    scene.reroute(|routes| routes[0].scopes = ScopeRule::all(Vec::new()));
    let (mut client, mut upstream) = session(&mut scene).await;
    scene.reroute(|routes| routes.retain(|route| route.path != "/chat"));
    ends(&mut scene, &mut client, &mut upstream, Reason::HandshakeNoRoute).await;
}

#[tokio::test]
async fn a_session_ends_when_its_issuer_or_its_origin_is_not_accepted_any_more() {
    let mut scene = Scene::new().await;
    let (mut client, mut upstream) = session(&mut scene).await;
    scene.reroute(|routes| routes[0].issuers.clear());
    ends(&mut scene, &mut client, &mut upstream, Reason::CredentialsUnknownIssuer).await;

    let opening = scene.good("/app", &["Origin: https://app.test"]);
    let (mut client, mut upstream, _) = scene.open(&opening).await;
    scene.reroute(|routes| routes[2].origins = Some(vec!["https://new.test".to_owned()]));
    ends(&mut scene, &mut client, &mut upstream, Reason::HandshakeOrigin).await;
}

#[tokio::test]
async fn a_session_ends_after_its_longest_life_and_after_its_longest_silence() {
    let limits = Limits { session_lifetime: Some(SECOND), ..Limits::default() };
    let mut scene = Scene::in_time(limits).await;
    let (mut client, mut upstream) = session(&mut scene).await;
    ends(&mut scene, &mut client, &mut upstream, Reason::LimitSessionLifetime).await;

    let limits = Limits { idle_timeout: Some(SECOND), ..Limits::default() };
    let mut scene = Scene::in_time(limits).await;
    let (mut client, mut upstream) = session(&mut scene).await;
    ends(&mut scene, &mut client, &mut upstream, Reason::LimitSessionIdle).await;
}

#[tokio::test]
async fn the_message_under_way_is_completed_and_nothing_is_put_inside_it() {
    let mut scene = Scene::new().await;
    let (mut client, mut upstream) = session(&mut scene).await;
    // The first fragment, and half of the second.
    let (one, two) = (part("one ", Data::Text, false), part("two", Data::Continue, true));
    upstream.send(&one).await;
    upstream.send(&two[..3]).await;
    assert_eq!(client.read(one.len() + 3).await, [one.as_slice(), &two[..3]].concat());
    scene.swap(Some(denying(Ipv4Addr::LOCALHOST)));
    // The upstream is told first; what it says afterwards does not reach the client.
    assert_eq!(close(&mut upstream).await.0, 4451);
    upstream.send([&two[3..], &part("three", Data::Text, true)].concat()).await;
    assert_eq!(client.read(two.len() - 3).await, &two[3..]);
    assert_eq!(close(&mut client).await.0, 4451);
    client.send(CLIENT_CLOSE).await;
    assert_eq!(client.read_to_end().await, b"");
}

#[tokio::test]
async fn the_upstream_is_told_nothing_inside_a_message_of_the_client() {
    let mut scene = Scene::new().await;
    let (mut client, mut upstream) = session(&mut scene).await;
    let mut fragment = Frame::message("one ", OpCode::Data(Data::Text), false);
    fragment.header_mut().mask = Some([1, 2, 3, 4]);
    let fragment = bytes(fragment);
    client.send(&fragment).await;
    assert_eq!(upstream.read(fragment.len()).await, fragment);
    scene.swap(Some(denying(Ipv4Addr::LOCALHOST)));
    assert_eq!(close(&mut client).await.0, 4451);
    client.send(CLIENT_CLOSE).await;
    assert_eq!(client.read_to_end().await, b"");
    assert_eq!(upstream.read_to_end().await, b"");
}

#[tokio::test]
async fn a_client_that_never_closes_is_reset_at_the_close_timeout() {
    let limits = Limits { close_timeout: Duration::from_millis(100), ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    let (mut client, _upstream) = session(&mut scene).await;
    scene.swap(Some(denying(Ipv4Addr::LOCALHOST)));
    assert_eq!(close(&mut client).await.0, 4451);
    client.is_reset().await;
    assert!(matches!(scene.entry().await, Entry::Ended { rejection: Some(_), .. }));
}

#[tokio::test]
async fn what_is_no_websocket_is_cut_without_a_frame_in_it() {
    let limits = Limits { close_timeout: Duration::from_millis(100), ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    let (mut client, mut upstream) = session(&mut scene).await;
    upstream.send(b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff").await;
    client.read(10).await;
    scene.swap(Some(denying(Ipv4Addr::LOCALHOST)));
    assert_eq!(client.read_to_end().await, b"");
}

#[tokio::test]
async fn when_the_gate_stops_both_sides_are_told_that_it_goes_away() {
    let limits = Limits { drain_timeout: SECOND, ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    let (mut client, mut upstream) = session(&mut scene).await;
    scene.stop.cancel();
    assert_eq!(close(&mut client).await, close(&mut upstream).await);
    client.send(CLIENT_CLOSE).await;
    assert_eq!(client.read_to_end().await, b"");
    match scene.entry().await {
        Entry::Ended { why, rejection: None, .. } => assert_eq!(why, "the gate stopped"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn messages_are_counted_both_ways() {
    let limits = Limits { drain_timeout: PATIENCE, ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    let (mut client, mut upstream) = session(&mut scene).await;
    for (text, code, last) in [("a", Data::Text, true), ("b", Data::Text, false), ("c", Data::Continue, true)]
    {
        let bytes = part(text, code, last);
        upstream.send(&bytes).await;
        client.read(bytes.len()).await;
    }
    drop(upstream);
    client.read_to_end().await;
    drop(client);
    match scene.entry().await {
        Entry::Ended { messages_up: 0, messages_down: 2, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_in_which_a_client_sends_too_much_is_ended_and_told_which_limit() {
    let address = TrafficLimits { bytes: 20_000, messages: 0 };
    let subject = TrafficLimits { bytes: 0, messages: 3 };
    for (limits, reason) in [
        (Limits { traffic_per_address: address, ..Limits::default() }, Reason::LimitAddressTraffic),
        (Limits { traffic_per_subject: subject, ..Limits::default() }, Reason::LimitSubjectTraffic),
    ] {
        let mut scene = Scene::with(limits).await;
        let (mut client, mut upstream) = session(&mut scene).await;
        // Nothing of what the service sends counts.
        let much = part(TEXT, Data::Binary, true);
        for _ in 0..10 {
            upstream.send(&much).await;
            client.read(much.len()).await;
        }
        let message = masked_text(TEXT, [0; 4]);
        for _ in 0..4 {
            client.send(&message).await;
        }
        let told = close(&mut client).await;
        assert_eq!(told.0, 4429);
        let header = Header::parse(told.1.as_bytes()).expect("a dictionary");
        assert_eq!(header.reason, reason.name());
        client.send(CLIENT_CLOSE).await;
        // What had come by then, and the same goodbye.
        upstream.read_to_end().await;
        match scene.entry().await {
            Entry::Ended { rejection: Some(rejection), .. } => assert_eq!(rejection.reason, reason),
            other => panic!("{other:?}"),
        }
    }
}

/// As long as many a message.
const TEXT: &str = const {
    match std::str::from_utf8(&[b'x'; 8_000]) {
        Ok(text) => text,
        Err(_) => panic!("ASCII"),
    }
};
