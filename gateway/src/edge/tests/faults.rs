//! Whatever breaks, at whatever stage: nobody else is blamed, and nothing stays behind.

use std::time::Duration;

use socket2::SockRef;

use super::scene::{PATIENCE, Peer, Scene, accepted};
use crate::audit::Entry;
use crate::config::Limits;
use crate::rejection::Layer;

/// Room for one: what stays behind would keep the next one out.
fn one() -> Limits {
    Limits {
        sessions: 1,
        sessions_per_address: 1,
        sessions_per_subject: 1,
        upstream_timeout: Duration::from_secs(20),
        ..Limits::default()
    }
}

/// How a side leaves.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    WithReset,
    WithGoodbye,
}

const BOTH: [Leaves; 2] = [Leaves::WithReset, Leaves::WithGoodbye];

fn leave(peer: Peer, how: Leaves) {
    if let Leaves::WithReset = how {
        SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(peer);
}

/// The next client is served, once the place is free again; what was recorded meanwhile is forgotten.
async fn next_is_served(scene: &mut Scene, what: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut client = scene.connect().await;
        client.send(scene.good("/chat", &[])).await;
        let turned_away = {
            tokio::select! {
                (_, mut upstream) = scene.upstream() => {
                    upstream.send(accepted(&[])).await;
                    assert!(client.head().await.starts_with("HTTP/1.1 101 "), "{what}");
                    client.send([0x82, 0x81, 0, 0, 0, 0, b'x']).await;
                    assert_eq!(upstream.read(7).await.last(), Some(&b'x'), "{what}");
                    leave(client, Leaves::WithReset);
                    leave(upstream, Leaves::WithReset);
                    false
                }
                status = client.read(12) => {
                    // The place is not free yet.
                    assert!([b"HTTP/1.1 429", b"HTTP/1.1 503"].contains(&&status[..].try_into().unwrap()), "{what}");
                    true
                }
            }
        };
        if !turned_away {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: nobody else is served any more");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Until the end of that session.
    while !matches!(scene.entry().await, Entry::Ended { messages_up: 1, .. }) {}
}

#[tokio::test]
async fn an_upstream_that_breaks_at_any_stage_is_named_and_nothing_stays_behind() {
    let accept = accepted(&[]);
    for how in BOTH {
        let mut scene = Scene::with(one()).await;
        // Before the answer is whole.
        for sent in ["", "HTTP/1.1 101 Swi", &accept[..accept.len() - 2]] {
            let what = format!("{how:?} after {sent:?}");
            let mut client = scene.connect().await;
            client.send(scene.good("/chat", &[])).await;
            let (_, mut upstream) = scene.upstream().await;
            upstream.send(sent).await;
            leave(upstream, how);
            let answer = client.rejection().await;
            assert_eq!(answer.status(), 502, "{what}: {answer:?}");
            let (rejection, _) = scene.rejected().await;
            assert_eq!(rejection.reason.layer(), Layer::Upstream, "{what}");
            next_is_served(&mut scene, &what).await;
        }
        // In the session, between frames and inside of one.
        for sent in [&b""[..], b"\x81\x05he"] {
            let what = format!("{how:?} in the session, after {sent:?}");
            let (mut client, mut upstream, _) = scene.open(&scene.good("/chat", &[])).await;
            upstream.send(sent).await;
            assert_eq!(client.read(sent.len()).await, sent, "{what}");
            leave(upstream, how);
            // A connection that is cut where no frame may end is not made to look whole.
            assert_eq!(client.read_to_end().await, b"", "{what}");
            drop(client);
            assert!(matches!(scene.entry().await, Entry::Ended { rejection: None, .. }), "{what}");
            next_is_served(&mut scene, &what).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_vanishes_at_any_stage_leaves_nothing_behind() {
    for how in BOTH {
        let mut scene = Scene::with(one()).await;
        let request = scene.good("/chat", &[]);
        for sent in ["", "GET /chat HT", &request[..request.len() - 2]] {
            let mut client = scene.connect().await;
            client.send(sent).await;
            leave(client, how);
            next_is_served(&mut scene, &format!("{how:?} after {} bytes", sent.len())).await;
        }
        // While the upstream has not answered; it does so to nobody.
        let mut client = scene.connect().await;
        client.send(&request).await;
        let (_, mut upstream) = scene.upstream().await;
        leave(client, how);
        upstream.send(accepted(&[])).await;
        upstream.gone().await;
        next_is_served(&mut scene, &format!("{how:?} before the answer")).await;
        // In the session, between frames and inside of one.
        for sent in [&b""[..], b"\x82\x85\0\0\0\0he"] {
            let (mut client, mut upstream, _) = scene.open(&request).await;
            client.send(sent).await;
            assert_eq!(upstream.read(sent.len()).await, sent);
            leave(client, how);
            upstream.gone().await;
            leave(upstream, Leaves::WithGoodbye);
            next_is_served(&mut scene, &format!("{how:?} in the session after {sent:?}")).await;
        }
    }
}

/// CVE-2026-2833: bytes behind the request went to the upstream before it had accepted. CVE-2024-23326: 200 opened a
/// tunnel. And an upstream that refuses and is believed to have accepted all the same.
#[tokio::test]
async fn what_made_other_gateways_tunnels_opens_nothing_here() {
    let smuggled = "GET /admin HTTP/1.1\r\nHost: internal\r\n\r\n";
    let accept = accepted(&[]);
    for answer in [
        "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 8\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Content-Length: 0\r\n\r\n"
            .to_owned(),
        accept.replace("101 Switching Protocols", "204 No Content"),
        accept.replace("Upgrade: websocket", "Upgrade: h2c"),
    ] {
        let mut scene = Scene::new().await;
        let mut client = scene.connect().await;
        client.send(scene.good("/chat", &[]) + smuggled).await;
        let (_, mut upstream) = scene.upstream().await;
        upstream.send(&answer).await;
        // Nothing but the end comes, and certainly not another request.
        assert_eq!(upstream.read_to_end().await, b"", "{answer}");
        let told = client.rejection().await;
        assert!(matches!(told.status(), 426 | 502), "{told:?}");
        assert_eq!(scene.rejected().await.0.reason.layer(), Layer::Upstream);
    }
    // An Upgrade where no WebSocket is served never reaches an upstream that could forge a 101.
    let mut scene = Scene::new().await;
    for path in ["/none", "/tickets", "/.well-known/jwks.json", "/chat/", "/chat%2f..%2fother", "/%63hat"] {
        scene.rejects(&scene.good(path, &[]), 404, "handshake/no_route").await;
    }
    assert!(scene.upstream_is_untouched());
}

#[tokio::test]
async fn a_client_that_ends_its_half_still_hears_what_the_upstream_has_to_say() {
    let mut scene = Scene::with(one()).await;
    let (mut client, mut upstream, _) = scene.open(&scene.good("/chat", &[])).await;
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
    upstream.gone().await;
    upstream.send(b"\x81\x02ok").await;
    assert_eq!(client.read(4).await, b"\x81\x02ok");
    drop(upstream);
    assert_eq!(client.read_to_end().await, b"");
    match scene.entry().await {
        Entry::Ended { rejection: None, messages_down: 1, .. } => {}
        other => panic!("{other:?}"),
    }
    next_is_served(&mut scene, "after a half-close").await;
}
